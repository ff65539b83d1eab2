/**
 * The ring of changes that watches read: complete, in order, bounded, and without what was undone. Replay a random
 * failure with SEED=n.
 */
import t from 'tap';
import { KvMachine, watchableOf } from '../../src/machine/kv.js';
import { encodePut } from '../../src/machine/kv-codec.js';
import type { WatchableStore } from '../../src/machine/store/change-ring.js';
import {
  encodeGrant,
  encodeRemove,
  encodeRevoke,
  encodeTick,
  encodeTransaction,
  encodeWrite,
  type KeyHold,
} from '../../src/machine/store/codec.js';
import { randomFrom } from '../random.js';

const SEED = Number(process.env['SEED'] ?? Date.now() % 1e9);
console.log(`# SEED=${SEED} replays the random operations`);

const utf8 = (text: string): Uint8Array => new Uint8Array(Buffer.from(text));
const scratch = new Uint8Array(120_000);
const encoded = (encode: (target: Uint8Array, offset: number) => number): Uint8Array =>
  scratch.slice(0, encode(scratch, 0));
const reply = { bytes: new Uint8Array(60_000), offset: 0, capacity: 60_000, length: 0 };

function apply(machine: KvMachine, bytes: Uint8Array, index: number, ms: number): void {
  const ns = BigInt(ms) * 1_000_000n;
  const timestampHi = Number(BigInt.asIntN(32, ns >> 32n));
  const timestampLo = Number(BigInt.asIntN(32, ns));
  reply.offset = reply.length = 0;
  machine.apply({ bytes, offset: 0, length: bytes.length }, { timestampHi, timestampLo, index }, reply);
}

function raised(changes: number): KvMachine {
  const machine = new KvMachine({ changes });
  machine.raise(1);
  machine.committedTo(0);
  return machine;
}

interface Change {
  readonly revision: number;
  readonly index: number;
  readonly kind: 'put' | 'delete' | 'expire' | 'message';
  readonly key: string;
}

/** The changes after a revision, as one who watches reads them. */
function changesOf({ changes }: WatchableStore, after = changes.floor): Change[] {
  const found: Change[] = [];
  for (let i = changes.after(after); i < changes.count; i++) {
    const key = new Uint8Array(changes.keyLength(i));
    changes.copyKey(i, key, 0);
    found.push({
      revision: changes.revisionOf(i),
      index: changes.indexOf(i),
      kind: (['put', 'delete', 'expire', 'message'] as const)[changes.kindOf(i)],
      key: Buffer.from(key).toString(),
    });
  }
  return found;
}

const tick = encoded((b, o) => encodeTick(b, o));

t.test('each kind of change, with its revision and the entry that made it', (t) => {
  const machine = raised(100);
  const store = watchableOf(machine)!;
  t.equal(store.changes.floor, 0, 'nothing was there when the level was raised');
  const put = (key: string, hold: KeyHold = {}): Uint8Array =>
    encoded((b, o) => encodeWrite(b, o, utf8(key), utf8('x'), hold, undefined));
  apply(machine, put('a'), 1, 1000);
  apply(machine, put('b', { ttl: 50 }), 2, 1000);
  apply(
    machine,
    encoded((b, o) => encodeGrant(b, o, 500)),
    3,
    1000,
  );
  apply(machine, put('c', { lease: 4 }), 4, 1000);
  apply(
    machine,
    encoded((b, o) => encodeRemove(b, o, utf8('a'), undefined)),
    5,
    1001,
  );
  apply(machine, tick, 6, 1050);
  apply(
    machine,
    encoded((b, o) => encodeRevoke(b, o, 4)),
    7,
    1051,
  );
  apply(machine, put('d', { ttl: 10 }), 8, 1052);
  t.strictSame(changesOf(store), [
    { revision: 2, index: 1, kind: 'put', key: 'a' },
    { revision: 3, index: 2, kind: 'put', key: 'b' },
    { revision: 5, index: 4, kind: 'put', key: 'c' },
    { revision: 6, index: 5, kind: 'delete', key: 'a' },
    { revision: 7, index: 6, kind: 'expire', key: 'b' },
    { revision: 8, index: 7, kind: 'expire', key: 'c' },
    { revision: 9, index: 8, kind: 'put', key: 'd' },
  ]);
  t.strictSame(
    changesOf(store, 7).map(({ revision }) => revision),
    [8, 9],
  );
  const prefix = utf8('..d');
  t.ok(store.changes.hasPrefix(store.changes.count - 1, prefix, 2, 1));
  t.notOk(store.changes.hasPrefix(0, prefix, 2, 1));
  t.notOk(store.changes.hasPrefix(0, utf8('aa'), 0, 2), 'a key shorter than the prefix');
  t.end();
});

t.test('what was there before the level was raised has no numbers', (t) => {
  const machine = new KvMachine({ changes: 100 });
  apply(machine, scratch.slice(0, encodePut(scratch, 0, utf8('old'), utf8('x'))), 1, 1);
  machine.raise(1);
  t.equal(watchableOf(machine)!.changes.floor, 1, 'who wants to know of all changes has to read first');
  t.end();
});

t.test('nothing to watch below level 1, and with no room for changes', (t) => {
  t.equal(watchableOf(new KvMachine()), undefined);
  const machine = raised(0);
  apply(
    machine,
    encoded((b, o) => encodeWrite(b, o, utf8('a'), utf8('x'), {}, undefined)),
    1,
    1,
  );
  t.equal(watchableOf(machine), undefined);
  t.throws(() => new KvMachine({ changes: -1 }), { code: 'kv-option' });
  t.throws(() => new KvMachine({ changes: 2 ** 23 }), { code: 'kv-option' });
  t.end();
});

t.test('a restored store begins anew at its revision', (t) => {
  const machine = raised(100);
  for (let index = 1; index <= 10; index++)
    apply(
      machine,
      encoded((b, o) => encodeWrite(b, o, utf8('a'), utf8('x'), {}, undefined)),
      index,
      index,
    );
  const other = raised(100);
  other.restore(machine.snapshot());
  const store = watchableOf(other)!;
  t.equal(store.changes.floor, 11);
  t.strictSame(changesOf(store), []);
  apply(
    other,
    encoded((b, o) => encodeWrite(b, o, utf8('b'), utf8('x'), {}, undefined)),
    11,
    11,
  );
  t.strictSame(changesOf(store), [{ revision: 12, index: 11, kind: 'put', key: 'b' }]);
  t.end();
});

t.test('random operations, undone at random: the changes lead to the contents, whatever the ring has room for', (t) => {
  const seen = { undone: 0, emptied: 0, dropped: 0, expired: 0 };
  for (let game = 0; game < 4; game++) {
    const random = randomFrom(SEED + game);
    const whole = raised(1 << 16);
    const small = raised([1, 7, 40, 64][game]!);
    const wholeStore = watchableOf(whole)!;
    const smallStore = watchableOf(small)!;
    const names = Array.from({ length: 40 }, (_, i) => `${i} `.padEnd(i % 8 === 0 ? 1000 : 1 + random(60), 'k'));
    const name = (): Uint8Array => utf8(names[random(names.length)]!);
    let index = 0;
    let committed = 0;
    let ms = 1_700_000_000_000;
    const both = (bytes: Uint8Array): void => {
      index++;
      for (const machine of [whole, small]) apply(machine, bytes, index, ms);
    };
    for (let step = 0; step < 3000; step++) {
      const kind = random(100);
      if (kind < 92) {
        ms += random(20);
        both(
          encoded((b, o) => {
            if (kind < 10) return encodeRemove(b, o, name(), undefined);
            if (kind < 15) return encodeTick(b, o);
            if (kind < 18) return encodeGrant(b, o, 1 + random(300));
            const first = random(20);
            if (kind < 25)
              return encodeTransaction(b, o, {
                if: [],
                do: [{ put: utf8(names[first]!), value: utf8('x') }, { delete: utf8(names[first + 20]!) }],
                else: [],
              });
            const hold = random(3) === 0 ? { ttl: 1 + random(200) } : {};
            return encodeWrite(b, o, name(), utf8('x'), hold, undefined);
          }),
        );
      } else if (kind < 96) {
        committed = index - random(Math.min(60, index - committed + 1));
        for (const machine of [whole, small]) machine.committedTo(committed);
      } else {
        index = committed + random(index - committed + 1);
        for (const machine of [whole, small]) if (!machine.undoTo(index)) throw new Error('it knows how to undo');
        seen.undone++;
        if (smallStore.changes.count === 0) seen.emptied++;
      }
      const { floor } = smallStore.changes;
      if (floor > 1) seen.dropped++;
      if (floor > smallStore.revision)
        throw new Error(`game ${game}, step ${step}: complete only after what is to come`);
      const kept = changesOf(smallStore);
      const expected = changesOf(wholeStore, floor);
      if (JSON.stringify(kept) !== JSON.stringify(expected)) {
        t.strictSame(kept, expected, `game ${game}, step ${step}`);
        break;
      }
      if (kept.some((change, i) => change.index > index || (i > 0 && change.revision <= kept[i - 1]!.revision)))
        throw new Error(`game ${game}, step ${step}: undone, or not in order`);
    }
    ms += 1000;
    for (let i = 0; i < 10; i++) both(tick);
    const contents = new Map<string, number>();
    for (const { kind, key, revision } of changesOf(wholeStore)) {
      if (kind === 'put') contents.set(key, revision);
      else if (!contents.delete(key)) t.fail(`the key ${key} that ended was not there`);
      if (kind === 'expire') seen.expired++;
    }
    for (const key of names) {
      const id = wholeStore.find(utf8(key), 0, key.length);
      t.equal(contents.get(key), id < 0 ? undefined : wholeStore.revisionOf(id));
    }
  }
  t.comment(JSON.stringify(seen));
  for (const [name, times] of Object.entries(seen)) t.ok(times > 0, `${name}: ${times}`);
  t.end();
});
