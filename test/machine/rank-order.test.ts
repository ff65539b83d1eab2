/** The order of the members of sorted sets, against a sorted array. Replay a random failure with SEED=n. */
import t from 'tap';
import { RecordHeap } from '../../src/machine/kv-heap.js';
import { PART_FLAG } from '../../src/machine/kv-layout.js';
import {
  MEMBER_NAME_BYTES,
  PartKind,
  SCORE_BYTES,
  writeGeneration,
  writeScore,
} from '../../src/machine/store/parts.js';
import { RankCursor, RankOrder } from '../../src/machine/store/rank-order.js';
import { randomFrom } from '../random.js';

const SEED = Number(process.env['SEED'] ?? Date.now() % 1e9);
t.comment(`SEED=${SEED} replays the random changes`);

interface Entry {
  readonly id: number;
  readonly generation: number;
  readonly score: number;
  readonly member: string;
}

function compare(a: Entry, b: Entry): number {
  return a.generation - b.generation || a.score - b.score || (a.member < b.member ? -1 : a.member > b.member ? 1 : 0);
}

class Model {
  readonly heap = new RecordHeap();
  readonly order = new RankOrder(this.heap);
  entries: Entry[] = [];
  readonly #name = new Uint8Array(200);
  readonly #score = new Uint8Array(SCORE_BYTES);

  add(generation: number, score: number, member: string): void {
    const bytes = Buffer.from(member, 'latin1');
    writeGeneration(this.#name, PartKind.ranked, generation);
    this.#name.set(bytes, MEMBER_NAME_BYTES);
    writeScore(this.#score, 0, score);
    const length = (MEMBER_NAME_BYTES + bytes.length) | PART_FLAG;
    const id = this.heap.add(this.#name, 0, length, this.#score, 0, SCORE_BYTES);
    this.order.insert(id);
    this.entries.push({ id, generation, score, member });
  }

  remove(at: number): void {
    const { id } = this.entries[at]!;
    this.order.remove(id);
    this.heap.remove(id);
    this.entries[at] = this.entries.at(-1)!;
    this.entries.pop();
  }

  /** All of it, by a walk in both directions and by position. */
  check(): string | undefined {
    this.entries.sort(compare);
    const { order, entries } = this;
    const cursor = new RankCursor();
    if (entries.length === 0) return order.beforeSet(9, true) === 0 ? undefined : 'it is not empty';
    order.seek(0, cursor);
    for (const [i, { id }] of entries.entries()) {
      if (order.before(id) !== i) return `${i} is at ${order.before(id)}`;
      if (order.next(cursor, false) !== id) return `the walk at ${i}`;
    }
    if (order.next(cursor, false) !== -1) return 'the walk has no end';
    order.seek(entries.length - 1, cursor);
    for (let i = entries.length - 1; i >= 0; i--)
      if (order.next(cursor, true) !== entries[i]!.id) return `the walk back at ${i}`;
    return order.next(cursor, true) === -1 ? undefined : 'the walk back has no end';
  }

  /** What is sought need not be there. */
  checkBounds(generation: number, score: number, member: string): boolean {
    const bytes = Buffer.from(member, 'latin1');
    const below = (isBelow: (entry: Entry) => boolean): number => this.entries.filter(isBelow).length;
    const sought = { id: -1, generation, score, member };
    return [false, true].every((orAt) => {
      const limit = orAt ? 1 : 0;
      return (
        this.order.beforeSet(generation, orAt) === below((one) => one.generation - generation < limit) &&
        this.order.beforeScore(generation, score, orAt) ===
          below((one) => Math.sign(one.generation - generation || one.score - score) < limit) &&
        this.order.beforeMember(generation, score, bytes, 0, bytes.length, orAt) ===
          below((one) => Math.sign(compare(one, sought)) < limit)
      );
    });
  }
}

t.test('random changes, walks, ranks and bounds', (t) => {
  const random = randomFrom(SEED);
  const model = new Model();
  const member = (): string => `${'m'.repeat(random(3))}${random(100_000)}`;
  // It grows to some hundred leaves, shrinks to nothing, and grows again.
  for (const [size, chance] of [
    [40_000, 90],
    [0, 10],
    [3000, 70],
  ] as const) {
    for (let steps = 0; model.entries.length !== size; steps++) {
      if (random(100) < chance || model.entries.length === 0) {
        const known =
          model.entries.length > 0 && random(4) === 0 ? model.entries[random(model.entries.length)]! : undefined;
        model.add(1 + random(4), known?.score ?? random(1000) / 4, `${member()} ${steps}`);
      } else model.remove(random(model.entries.length));
      if (steps % 9973 !== 0) continue;
      const wrong = model.check();
      if (wrong !== undefined) return failed(wrong);
      if (!model.checkBounds(random(6), random(1000) / 4, member())) return failed('bounds');
    }
    t.equal(model.check(), undefined, `at ${size} members`);
  }
  t.end();

  function failed(what: string): void {
    t.fail(`${what}, seed ${SEED}`);
    t.end();
  }
});

t.test('ascending and descending scores', (t) => {
  for (const sign of [1, -1]) {
    const model = new Model();
    for (let i = 0; i < 3000; i++) model.add(1, sign * i, 'm');
    t.equal(model.check(), undefined);
    for (let i = 0; i < 2900; i++) model.remove(model.entries.length >>> 1);
    t.equal(model.check(), undefined);
  }
  t.end();
});
