// Leases that are copied in pieces while they change. Replay a random failure with SEED=n.
import t from 'tap';
import { encodeGrant } from '../../src/machine/store/codec.js';
import { KvMachine } from '../../src/machine/kv.js';
import { LEASE_BYTES, Leases } from '../../src/machine/store/leases.js';
import { randomFrom } from '../random.js';

const SEED = Number(process.env['SEED'] ?? Date.now() % 1e9);
t.comment(`SEED=${SEED} replays the random operations`);

const bytesOf = (leases: Leases): Uint8Array => {
  const bytes = new Uint8Array(leases.count * LEASE_BYTES);
  leases.write(bytes, 0);
  return bytes;
};

t.test('whatever is granted, renewed, ended or undone meanwhile, a copy is what the leases were', (t) => {
  const seen = { whole: 0, abandoned: 0, undone: 0, renewed: 0, ended: 0, emptied: 0 };
  for (let game = 0; game < 6; game++) {
    const random = randomFrom(SEED + game);
    const most = [3, 40, 1500][game % 3]!;
    const leases = new Leases();
    const numbers: number[] = [];
    let revision = 0;
    /** What undoes each change, the newest last. */
    let undo: (() => void)[] = [];
    let copy: { expected: Uint8Array; taken: Uint8Array; length: number } | undefined;
    const grant = (number: number, end: number, ttl: number): void => {
      leases.add(number, end, ttl);
      numbers.push(number);
    };
    const end = (at: number): void => {
      leases.remove(leases.find(numbers[at]!));
      numbers[at] = numbers.at(-1)!;
      numbers.pop();
    };
    const endOne = (at: number): void => {
      const number = numbers[at]!;
      const slot = leases.find(number);
      const [ends, ttl] = [leases.ends(slot), leases.ttl(slot)];
      end(at);
      undo.push(() => grant(number, ends, ttl));
      seen.ended++;
    };
    const change = (): void => {
      const at = random(numbers.length);
      const number = numbers[at];
      const kind = random(10);
      if (number === undefined || (kind < 3 && numbers.length < most)) {
        grant(++revision, random(1000), 1 + random(50));
        undo.push(() => end(numbers.indexOf(revision--)));
      } else if (kind < 7) {
        const slot = leases.find(number);
        const before = leases.ends(slot);
        leases.setEnd(slot, random(1000));
        undo.push(() => leases.setEnd(leases.find(number), before));
        seen.renewed++;
      } else endOne(at);
    };
    for (let i = 0; i < 2 * most; i++) change();
    for (let step = 0; step < 6000; step++) {
      const kind = random(20);
      if (kind < 12) change();
      else if (kind < 14) {
        for (let back = random(8); back > 0 && undo.length > 0; back--, seen.undone++) undo.pop()!();
      } else if (copy === undefined) {
        if (random(4) > 0) continue;
        const expected = bytesOf(leases);
        leases.copy.begin();
        copy = { expected, taken: new Uint8Array(expected.length), length: 0 };
        // What was before its beginning is not undone.
        undo = [];
      } else {
        if (random(40) === 0) {
          while (numbers.length > 0) endOne(random(numbers.length));
          seen.emptied++;
        }
        const bytes = 1 + random(most * 8);
        const to = leases.copy.write(copy.taken, copy.length, copy.length + bytes);
        if (to - copy.length >= bytes + LEASE_BYTES) t.fail(`SEED=${SEED} game ${game}: ${to - copy.length} bytes`);
        copy.length = to;
        if (leases.copy.left === 0) {
          if (!Buffer.from(copy.taken).equals(Buffer.from(copy.expected)))
            t.fail(`SEED=${SEED} game ${game} step ${step}: the copy differs from the beginning`);
          leases.copy.over();
          copy = undefined;
          seen.whole++;
        } else if (random(8) === 0) {
          leases.copy.over();
          copy = undefined;
          seen.abandoned++;
        }
      }
    }
    t.equal(leases.count, numbers.length);
  }
  t.comment(JSON.stringify(seen));
  for (const [name, times] of Object.entries(seen)) t.ok(times > 10, `${name}: ${times}`);
  t.end();
});

t.test('beginning a snapshot copies no lease', (t) => {
  const machine = new KvMachine();
  machine.raise(1);
  const bytes = new Uint8Array(64);
  const length = encodeGrant(bytes, 0, 1000);
  const reply = { bytes: new Uint8Array(64), offset: 0, capacity: 64, length: 0 };
  for (let i = 1; i <= 50_000; i++)
    machine.apply({ bytes, offset: 0, length }, { timestampHi: 1, timestampLo: i, index: i }, reply);
  const before = process.memoryUsage().arrayBuffers;
  const begun = machine.beginSnapshot();
  const held = process.memoryUsage().arrayBuffers - before;
  t.equal(begun.length, 32 + 50_000 * LEASE_BYTES);
  t.ok(held < 10_000, `${held} bytes of ${begun.length}`);
  t.ok(begun.step(1000).length < 1000 + LEASE_BYTES, 'a piece is no longer than it is to be');
  begun.abort();
  t.end();
});
