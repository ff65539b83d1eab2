/**
 * Hashes, sets, sorted sets and lists in the store of level 2: against a model of Maps, undone at random, in snapshots whole and in
 * pieces, at the limits, and gone. Replay a random failure with SEED=n.
 */
import t, { type Test } from 'tap';
import { KvClient } from '../../src/client/kv-client.js';
import {
  decodeResult,
  encodeCas,
  encodeDelete,
  encodeGet,
  encodeIncrement,
  encodePut,
  encodeScan,
  type KvOperationName,
} from '../../src/machine/kv-codec.js';
import { KvMachine, watchableOf } from '../../src/machine/kv.js';
import { Hold, STATUS_WRONG_TYPE, ValueType } from '../../src/machine/kv-layout.js';
import { KvStore, type KvOptions } from '../../src/machine/kv-store.js';
import type { SnapshotInPieces } from '../../src/machine/state-machine.js';
import { ABSENT, Collection, MEMBER_BYTES_MAX } from '../../src/machine/store/collection.js';
import {
  decodeStoreResult,
  encodeRange,
  encodeRead,
  encodeRemove,
  encodeTransaction,
  encodeWrite,
  type TransactionCondition,
} from '../../src/machine/store/codec.js';
import { PASSED_KEYS_MAX, type StoreOperationName } from '../../src/machine/store/layout.js';
import { KeyScan, randomKey } from '../../src/machine/store/keyspace.js';
import { randomFrom } from '../random.js';
import {
  aCommand,
  contentsOf,
  contentsOfModel,
  executeAtModel,
  partsIn,
  Runner,
  type Command,
  type Contents,
} from './collection-commands.js';

const SEED = Number(process.env['SEED'] ?? Date.now() % 1e9);
t.comment(`SEED=${SEED} replays the random commands`);
const START_MS = 1_700_000_000_000;
const NOTHING = new Uint8Array(0);

const equal = (a: Uint8Array, b: Uint8Array): boolean => Buffer.from(a).equals(Buffer.from(b));
const bytes = (text: string): Uint8Array => new Uint8Array(Buffer.from(text, 'latin1'));

function raised(options: KvOptions = {}): KvStore {
  const store = new KvStore(options);
  store.raise(2);
  return store;
}

/** A store that holds what the snapshot says, restored in pieces of this many bytes. */
function restored(snapshot: Uint8Array, options: KvOptions, pieceBytes: number): KvStore {
  const store = new KvStore(options);
  const restore = store.beginRestore(snapshot.length);
  for (let at = 0; at < snapshot.length; at += pieceBytes) restore.step(snapshot.subarray(at, at + pieceBytes));
  restore.end();
  return store;
}

interface Entry {
  readonly command: Command;
  readonly ms: number;
  readonly said: string;
}

interface Begun {
  readonly pieces: SnapshotInPieces;
  readonly expected: Uint8Array;
  readonly index: number;
  at: number;
}

interface Seen {
  undone: number;
  full: number;
  pieces: number;
  graves: number;
  emptied: number;
  emptiedInSnapshot: number;
  lost: number;
}

function play(t: Test, game: number, seen: Seen): unknown {
  const random = randomFrom(SEED + game);
  const keys = [6, 40, 200][game % 3]!;
  const options: KvOptions = game % 2 === 0 ? {} : { maxKeys: 30 * keys, maxBytes: 900 * keys };
  const store = raised(options);
  store.committedTo(0);
  const runner = new Runner(store);
  let base = store.snapshot();
  let index = 0;
  let committed = 0;
  let ms = START_MS;
  /** Behind `committed`. */
  let log: Entry[] = [];
  /** All commands since the beginning that were not undone. */
  let history: Entry[] = [];
  const grants: number[] = [];
  let begun: Begun | undefined;
  const modelOf = (): { model: Contents; leases: Map<number, number> } => {
    const model: Contents = new Map();
    const leases = new Map<number, number>();
    for (const { command, ms: then, said } of history) {
      const expected = executeAtModel(model, leases, command, said, then);
      if (expected !== said) t.equal(said, expected, JSON.stringify(command));
    }
    return { model, leases };
  };
  const twin = (): KvStore => {
    const other = restored(base, options, 1 + random(5000));
    const again = new Runner(other);
    for (const { command, ms: then } of log) again.run(command, 1, then);
    return other;
  };
  for (let step = 0; step < 2500; step++) {
    const kind = random(200);
    if (kind < 180) {
      ms += random(3) === 0 ? random(30) : 0;
      const command = aCommand(random, keys, grants);
      const hadKeys = store.keyCount > 0;
      const said = runner.run(command, ++index, ms);
      const entry = { command, ms, said };
      log.push(entry);
      history.push(entry);
      if (said === 'full') seen.full++;
      if (command.name === 'grant') grants.push(Number(said.slice(6)));
      if (command.name === 'empty' && hadKeys) {
        seen.emptied++;
        if (begun !== undefined) seen.emptiedInSnapshot++;
      }
    } else if (kind < 186 && index > committed) {
      const to = committed + random(index - committed + 1);
      const before = store.snapshot();
      if (!store.undoTo(to)) {
        seen.lost++;
        if (!equal(store.snapshot(), before)) t.fail('what cannot be undone changed something');
        continue;
      }
      if (begun !== undefined && begun.index > to) {
        begun.pieces.abort();
        begun = undefined;
      }
      history = history.slice(0, history.length - (index - to));
      log = log.slice(0, to - committed);
      index = to;
      seen.undone++;
      if (!equal(store.snapshot(), twin().snapshot())) return t.fail(`undoing is not replaying, step ${step}`);
    } else if (kind < 191) {
      const to = committed + random(index - committed + 1);
      const isAll = to === index;
      committed = to;
      store.committedTo(to);
      const kept = log.slice(log.length - (index - to));
      if (isAll) base = store.snapshot();
      else {
        log = log.slice(0, log.length - (index - to));
        base = twin().snapshot();
      }
      log = kept;
    } else if (kind < 195 && begun === undefined) {
      const expected = store.snapshot();
      begun = { pieces: store.beginSnapshot(), expected, index, at: 0 };
      if (begun.pieces.length !== expected.length) return t.fail('a snapshot in pieces is as long as one at once');
      const { graves } = partsIn(expected);
      if (graves > 0) seen.graves++;
      const other = restored(expected, options, 1 + random(3000));
      if (!equal(other.snapshot(), expected)) return t.fail(`restoring gives the same, step ${step}`);
      if (other.contentBytes !== store.contentBytes || other.keyCount !== store.keyCount)
        return t.fail('what was restored counts the same');
      const { model, leases } = modelOf();
      const isSame = t.same(contentsOf(store), contentsOfModel(model, leases, store.nowMs), `contents at step ${step}`);
      if (!isSame) return undefined;
    } else if (begun !== undefined) {
      const piece = begun.pieces.step(1 + random(4000));
      if (!equal(piece, begun.expected.subarray(begun.at, begun.at + piece.length)))
        return t.fail(`a piece is that of the beginning, step ${step}`);
      begun.at += piece.length;
      seen.pieces++;
      if (begun.at === begun.expected.length) begun = undefined;
    }
  }
  return undefined;
}

t.test('random commands: contents, undoing, snapshots whole and in pieces, limits', (t) => {
  const seen: Seen = { undone: 0, full: 0, pieces: 0, graves: 0, emptied: 0, emptiedInSnapshot: 0, lost: 0 };
  for (let game = 0; game < 6; game++) play(t, game, seen);
  t.comment(JSON.stringify(seen));
  for (const [what, count] of Object.entries(seen)) if (what !== 'lost') t.ok(count > 0, `${what}: ${count}`);
  t.end();
});

t.test('the key of a collection that is gone is free at once; its parts are removed a little at a time', (t) => {
  const store = raised();
  const runner = new Runner(store);
  const many = Array.from({ length: 1000 }, (_, i) => [`member ${i}`, ''] as const);
  let index = 0;
  const run = (command: Command): string => runner.run(command, ++index, START_MS);
  const counted = (): unknown => ({ ...partsIn(store.snapshot()), keys: store.keyCount });
  run({ name: 'setMembers', type: 2, key: 'set', members: many });
  t.same(counted(), { parts: 1000, graves: 0, keys: 1 });
  run({ name: 'delete', key: 'set' });
  t.same(counted(), { parts: 1000, graves: 1, keys: 0 }, 'nothing is removed yet but the key');
  run({ name: 'setMembers', type: 1, key: 'set', members: [['m', 'v']] });
  t.same(counted(), { parts: 1000 - 64 + 1, graves: 1, keys: 1 }, 'one with the same key is another one');
  t.same(contentsOf(store), { set: { m: '1 v' } });
  for (let i = 0; i < 14; i++) run({ name: 'delete', key: 'none' });
  t.same(counted(), { parts: 1000 - 15 * 64 + 1, graves: 1, keys: 1 });
  run({ name: 'delete', key: 'none' });
  t.same(counted(), { parts: 1, graves: 0, keys: 1 }, 'the grave goes in the operation that finds it empty');
  t.equal(
    store.contentBytes,
    raisedWith([{ name: 'setMembers', type: 1, key: 'set', members: [['m', 'v']] }]).contentBytes,
  );
  t.end();
});

function raisedWith(commands: readonly Command[]): KvStore {
  const store = raised();
  const runner = new Runner(store);
  commands.forEach((command, i) => runner.run(command, i + 1, START_MS));
  return store;
}

t.test('a write over a collection needs room for its grave', (t) => {
  const store = raised({ maxKeys: 3 });
  const runner = new Runner(store);
  runner.run(
    {
      name: 'setMembers',
      type: 2,
      key: 'set',
      members: [
        ['a', ''],
        ['b', ''],
      ],
    },
    1,
    START_MS,
  );
  const put: Command = { name: 'put', key: 'set', value: 'v', ttl: undefined, keep: false };
  t.equal(runner.run(put, 2, START_MS), 'full');
  t.same(contentsOf(store), { set: { a: '2 ', b: '2 ' } });
  t.equal(runner.run({ name: 'removeMembers', type: 2, key: 'set', members: ['b'] }, 3, START_MS), '1');
  t.equal(runner.run(put, 4, START_MS), 'ok');
  t.same(contentsOf(store), { set: 'v' });
  t.end();
});

t.test('one revision and one change for whatever an operation does to a collection', (t) => {
  const store = raised();
  const runner = new Runner(store);
  runner.run(
    {
      name: 'setMembers',
      type: 1,
      key: 'h',
      members: [
        ['a', '1'],
        ['b', '2'],
      ],
    },
    1,
    START_MS,
  );
  const key = bytes('h');
  const revision = (): number => store.revisionOf(store.find(key, 0, 1));
  const first = revision();
  t.equal(store.changes.count, 1);
  runner.run(
    {
      name: 'setMembers',
      type: 1,
      key: 'h',
      members: [
        ['a', '3'],
        ['c', '4'],
      ],
    },
    2,
    START_MS,
  );
  t.equal(revision(), first + 1);
  t.equal(store.changes.count, 2);
  runner.run({ name: 'removeMembers', type: 1, key: 'h', members: ['none'] }, 3, START_MS);
  t.equal(revision(), first + 1, 'no change, no revision');
  t.equal(store.changes.count, 2);
  const set = new Collection(store);
  set.openToChange(bytes('s'), 0, 1);
  set.create(ValueType.set);
  set.set(bytes('m'), 0, 1, NOTHING, 0, 0);
  set.save();
  const before = store.revision;
  set.openToChange(bytes('s'), 0, 1);
  t.notOk(set.set(bytes('m'), 0, 1, NOTHING, 0, 0));
  set.save();
  t.equal(store.revision, before, 'a member that is there already is no change of a set');
  t.end();
});

t.test('members of all lengths, and names that look alike', (t) => {
  const store = raised();
  store.entry(1);
  const hash = new Collection(store);
  const key = bytes('k');
  hash.openToChange(key, 0, 1);
  hash.create(ValueType.hash);
  const longest = new Uint8Array(MEMBER_BYTES_MAX).fill(7);
  const members = [
    NOTHING,
    Uint8Array.of(0),
    Uint8Array.of(0, 0),
    longest,
    longest.subarray(1),
    new Uint8Array(32).fill(255),
  ];
  const value = new Uint8Array(32 * 1024).fill(9);
  for (const member of members) t.ok(hash.set(member, 0, member.length, value, 0, value.length));
  hash.save();
  for (const member of members) t.equal(store.records.valueLength(hash.find(member, 0, member.length)), value.length);
  t.equal(hash.find(new Uint8Array(MEMBER_BYTES_MAX + 1).fill(7), 0, MEMBER_BYTES_MAX + 1), -1);
  const other = restored(store.snapshot(), {}, 777);
  t.ok(equal(other.snapshot(), store.snapshot()));
  // A key with the bytes of a part's name is not that part.
  const part = hash.find(NOTHING, 0, 0);
  const name = new Uint8Array(store.records.keyBytes(part));
  name.set(
    store.records.valueBytes(part).subarray(store.records.keyOffset(part), store.records.keyOffset(part) + name.length),
  );
  t.equal(store.find(name, 0, name.length), -1);
  t.ok(store.put(-1, name, 0, name.length, NOTHING, 0, 0));
  t.equal(hash.find(NOTHING, 0, 0), part);
  t.equal(store.keyCount, 2);
  t.end();
});

t.test('a walk through members goes on from a hash, and meets each once', (t) => {
  const store = raisedWith([
    { name: 'setMembers', type: 2, key: 's', members: Array.from({ length: 500 }, (_, i) => [`m${i}`, ''] as const) },
  ]);
  const set = new Collection(store);
  set.open(bytes('s'), 0, 1);
  const met: number[] = [];
  for (let hash = 0; ; ) {
    set.seek(hash);
    const id = set.next();
    if (id < 0) break;
    met.push(id);
    t.ok(set.hashOf(id) >= hash);
    hash = set.hashOf(id) + 1;
    if (hash === 2 ** 32) break;
  }
  t.equal(new Set(met).size, met.length);
  t.ok(met.length >= 499, `${met.length}: but for members with one hash`);
  t.ok(set.random(0xffffffff) >= 0, 'behind the last one it begins anew');
  t.end();
});

t.test(
  'a scan meets every key that is there throughout once, whatever comes and goes, and however large the table is',
  (t) => {
    const random = randomFrom(SEED + 99);
    for (let game = 0; game < 5; game++) {
      const store = raised();
      const key = (i: number): Uint8Array => bytes(`key ${i}`);
      const put = (i: number): void =>
        void store.put(store.findToChange(key(i), 0, key(i).length), key(i), 0, key(i).length, NOTHING, 0, 0);
      const drop = (i: number): void => {
        const id = store.find(key(i), 0, key(i).length);
        if (id >= 0) store.remove(id, key(i), 0, key(i).length);
      };
      const stays = 300;
      for (let i = 0; i < stays; i++) put(i);
      const met = new Map<string, number>();
      let steps = 0;
      for (let cursor = 0; ; steps++) {
        const scan = new KeyScan(store, cursor);
        let count = 0;
        let next = 0;
        for (let id = scan.next(); ; id = scan.next()) {
          if (id < 0) {
            next = scan.cursor;
            break;
          }
          if (count >= 10 && scan.hash >= next) {
            next = scan.hash;
            break;
          }
          const { records } = store;
          const name = Buffer.from(records.valueBytes(id)).toString(
            'latin1',
            records.keyOffset(id),
            records.keyOffset(id) + records.keyBytes(id),
          );
          met.set(name, (met.get(name) ?? 0) + 1);
          next = scan.hash + 1;
          count++;
        }
        cursor = next;
        if (cursor === 0) break;
        // The table grows meanwhile, and is moved a little at a time.
        for (let i = random(30 * game); i > 0; i--) put(stays + random(20_000));
        for (let i = random(15 * game); i > 0; i--) drop(stays + random(20_000));
      }
      for (let i = 0; i < stays; i++)
        if (met.get(`key ${i}`) !== 1) t.fail(`key ${i} was met ${met.get(`key ${i}`)} times`);
      t.ok(steps > 10, `${steps} steps, ${store.keyCount} keys at the end`);
      t.ok(randomKey(store, random(2 ** 32)) >= 0);
    }
    t.equal(randomKey(raised(), 5), -1);
    t.end();
  },
);

t.test('two stores with the same keys answer scans alike, whatever their history and size', (t) => {
  const one = raised();
  const two = raised({ expectedKeys: 100_000 });
  const keys = Array.from({ length: 2000 }, (_, i) => bytes(`k${i}`));
  for (const key of keys) one.put(-1, key, 0, key.length, NOTHING, 0, 0);
  for (let i = 0; i < 5000; i++) {
    const key = bytes(`other ${i}`);
    one.put(-1, key, 0, key.length, NOTHING, 0, 0);
  }
  for (let i = 0; i < 5000; i++) {
    const key = bytes(`other ${i}`);
    one.remove(one.find(key, 0, key.length), key, 0, key.length);
  }
  for (const key of [...keys].reverse()) two.put(-1, key, 0, key.length, NOTHING, 0, 0);
  const namesOf = (store: KvStore, cursor: number): string[] => {
    const scan = new KeyScan(store, cursor);
    const names: string[] = [];
    for (let id = scan.next(); id >= 0; id = scan.next()) {
      const at = store.records.keyOffset(id);
      names.push(Buffer.from(store.records.valueBytes(id)).toString('latin1', at, at + store.records.keyBytes(id)));
    }
    return names;
  };
  t.equal(namesOf(one, 0).length, 2000);
  for (const cursor of [0, 1, 2 ** 31, 2 ** 32 - 1]) t.same(namesOf(one, cursor), namesOf(two, cursor));
  t.end();
});

t.test('a scan passes over a bounded number of keys that have ended', (t) => {
  const store = raised();
  store.advance(0, 0);
  for (let i = 0; i < 5000; i++) {
    const key = bytes(`k${i}`);
    store.put(-1, key, 0, key.length, NOTHING, 0, 0, Hold.until, 5);
  }
  store.put(-1, bytes('stays'), 0, 5, NOTHING, 0, 0);
  const ms = BigInt(100) * 1_000_000n;
  store.advance(0, Number(ms));
  let cursor = 0;
  let steps = 0;
  let found = 0;
  do {
    const scan = new KeyScan(store, cursor);
    for (let id = scan.next(); id >= 0; id = scan.next()) found++;
    cursor = scan.cursor;
    steps++;
  } while (cursor !== 0);
  t.equal(found, 1);
  t.equal(steps, 5, 'a thousand a step');
  t.ok(randomKey(store, 12345) >= 0);
  t.end();
});

t.test('emptying a store: its leases stay, watchers have lost what changed, and it can be undone so often', (t) => {
  const store = raised({ maxBytes: 1 << 20 });
  store.committedTo(0);
  const runner = new Runner(store);
  let index = 0;
  const run = (command: Command): string => runner.run(command, ++index, START_MS);
  const lease = Number(run({ name: 'grant', ttl: 1000 }).slice(6));
  const fill = (): void => {
    run({ name: 'put', key: 'k', value: 'v'.repeat(1000), ttl: 500, keep: false });
    run({ name: 'setMembers', type: 1, key: 'h', members: [['m', 'v']] });
    run({ name: 'attach', key: 'h', lease });
  };
  fill();
  const before = store.snapshot();
  const at = index;
  const { revision } = store;
  run({ name: 'empty' });
  t.equal(store.revision, revision + 1);
  t.equal(store.changes.floor, revision + 1, 'who has seen less has lost something');
  t.equal(store.changes.floorIndex, index);
  t.equal(
    store.changes.revisionAt(at),
    -1,
    'what the revision was before is not known: that entry may be committed alone',
  );
  t.equal(store.keyCount, 0);
  t.equal(store.contentBytes, 0);
  t.ok(store.hasLease(lease));
  const emptied = store.revision;
  run({ name: 'empty' });
  t.equal(store.revision, emptied, 'an empty one is not changed');
  fill();
  t.ok(store.undoTo(at));
  index = at;
  t.ok(equal(store.snapshot(), before));
  t.same(Object.keys(contentsOf(store)), ['h', 'k']);
  for (let i = 0; i < 8; i++) {
    run({ name: 'empty' });
    fill();
  }
  t.ok(store.undoTo(at), 'eight times');
  index = at;
  t.ok(equal(store.snapshot(), before));
  for (let i = 0; i < 9; i++) {
    run({ name: 'empty' });
    fill();
  }
  t.notOk(store.undoTo(at), 'not nine times');
  store.committedTo(index);
  for (let i = 0; i < 8; i++) {
    run({ name: 'empty' });
    fill();
    store.committedTo(index);
  }
  const last = index;
  run({ name: 'empty' });
  t.ok(store.undoTo(last), 'what is committed is not kept');
  index = last;
  const large = 'v'.repeat(30_000);
  const fillAll = (): void => {
    for (let i = 0; i < 30; i++)
      t.equal(run({ name: 'put', key: `k${i}`, value: large, ttl: undefined, keep: false }), 'ok');
  };
  fillAll();
  store.committedTo(index);
  const full = index;
  run({ name: 'empty' });
  t.ok(store.undoTo(full), 'a full store, once');
  index = full;
  run({ name: 'empty' });
  fillAll();
  run({ name: 'empty' });
  t.notOk(store.undoTo(full), 'not twice: two of them are more than maxBytes');
  t.end();
});

t.test('a snapshot whose collections do not have the parts that they should is refused', (t) => {
  const store = raisedWith([
    {
      name: 'setMembers',
      type: 1,
      key: 'h',
      members: [
        ['a', 'x'],
        ['b', 'y'],
      ],
    },
    { name: 'setMembers', type: 2, key: 's', members: [['a', '']] },
    { name: 'push', key: 'l', front: false, values: ['p', 'q'] },
    { name: 'setScores', key: 'z', members: ['a', 'b'].map((m) => [m, '1.5'] as const) },
    { name: 'setMembers', type: 2, key: 'gone', members: [['a', '']] },
    { name: 'delete', key: 'gone' },
  ]);
  const good = store.snapshot();
  restored(good, {}, 10);
  t.same(partsIn(good), { parts: 8, graves: 1 });
  let refused = 0;
  let accepted = 0;
  for (let at = 0; at < good.length; at++) {
    for (const bit of [1, 0x80]) {
      const spoilt = good.slice();
      spoilt[at]! ^= bit;
      try {
        const other = restored(spoilt, {}, 1 << 20);
        accepted++;
        // What is let in is a store like any other: it can be read, and everything can be removed from it.
        contentsOf(other);
        const runner = new Runner(other);
        for (let i = 1; i < 50; i++) runner.run({ name: 'delete', key: ['h', 's', 'l', 'z'][i % 4]! }, i, START_MS);
        const again = new KvStore();
        again.restore(other.snapshot());
      } catch (error) {
        if ((error as { code?: string }).code !== 'snapshot-invalid') throw error;
        refused++;
      }
    }
  }
  t.ok(
    refused > accepted,
    `${refused} of ${refused + accepted} are refused; the others have another value, end or key`,
  );
  // The last member of the last collection is missing: 4 bytes of lengths, and a name of 13.
  const pair = raisedWith([
    { name: 'setMembers', type: 2, key: 's', members: ['a', 'b'].map((m) => [m, ''] as const) },
  ]).snapshot();
  const cut = pair.slice(0, -17);
  cut[7]!--;
  cut[35]!--;
  t.throws(() => restored(cut, {}, 10), { code: 'snapshot-invalid', message: /do not have the parts/ });
  // The last eight bytes are the score of the last member.
  const scored = raisedWith([{ name: 'setScores', key: 'z', members: [['a', '1.5']] }]).snapshot();
  for (const [score, isScore] of [
    [-Infinity, true],
    [Number.NaN, false],
    // Equal scores have equal bytes.
    [-0, false],
  ] as const) {
    const spoilt = scored.slice();
    new DataView(spoilt.buffer).setFloat64(spoilt.length - 8, score);
    if (isScore) restored(spoilt, {}, 10);
    else t.throws(() => restored(spoilt, {}, 10), { code: 'snapshot-invalid' }, 'no member has that score');
  }
  t.equal(new Collection(store).open(bytes('none'), 0, 4), ABSENT);
  t.end();
});

/** A machine of level 2 with some sets, and what applies an operation to it. */
function machineWithSets(sets: readonly string[]): {
  machine: KvMachine;
  kv: <Name extends KvOperationName>(name: Name, encode: Encode) => ReturnType<typeof decodeResult<Name>>;
  store: <Name extends StoreOperationName>(name: Name, encode: Encode) => ReturnType<typeof decodeStoreResult<Name>>;
} {
  const machine = new KvMachine();
  machine.raise(2);
  const set = new Collection(watchableOf(machine) as KvStore);
  for (const key of sets) {
    set.openToChange(bytes(key), 0, key.length);
    set.create(ValueType.set);
    set.set(bytes('member'), 0, 6, NOTHING, 0, 0);
    set.save();
  }
  let index = 0;
  const applied = (encode: Encode): Uint8Array => {
    const operation = { bytes: new Uint8Array(2000), offset: 0, length: 0 };
    operation.length = encode(operation.bytes, 0);
    const reply = { bytes: new Uint8Array(10_000), offset: 0, capacity: 10_000, length: 0 };
    machine.apply(operation, { timestampHi: 0, timestampLo: 0, index: ++index }, reply);
    return reply.bytes.slice(0, reply.length);
  };
  return {
    machine,
    kv: (name, encode) => {
      const result = applied(encode);
      return decodeResult(name, result, 0, result.length);
    },
    store: (name, encode) => {
      const result = applied(encode);
      return decodeStoreResult(name, result, 0, result.length);
    },
  };
}
type Encode = (target: Uint8Array, offset: number) => number;

t.test('operations of level 0 and 1 that read a value refuse a collection, and change nothing', (t) => {
  const { machine, kv, store } = machineWithSets(['s']);
  const key = bytes('s');
  const before = machine.snapshot();
  t.same(
    kv('get', (b, o) => encodeGet(b, o, key)),
    { status: 'wrong-type' },
  );
  t.same(
    kv('increment', (b, o) => encodeIncrement(b, o, key, 1)),
    { status: 'wrong-type' },
  );
  for (const expected of [null, NOTHING, bytes('x')])
    t.same(
      kv('cas', (b, o) => encodeCas(b, o, key, expected, null)),
      { status: 'wrong-type' },
    );
  t.match(
    store('read', (b, o) => encodeRead(b, o, key)),
    { status: 'wrong-type' },
  );
  const transact = (condition: TransactionCondition[]): unknown =>
    store('transact', (b, o) =>
      encodeTransaction(b, o, { if: condition, do: [{ get: key }], else: [{ delete: key }] }),
    );
  t.match(transact([{ key, value: NOTHING }]), { status: 'wrong-type' }, 'a condition on its value');
  t.ok(equal(machine.snapshot(), before));
  const { isDo, results } = transact([{ key, present: true }]) as { isDo: boolean; results: Uint8Array[] };
  t.equal(isDo, true, 'other conditions can be asked for');
  t.equal(results[0]![0], STATUS_WRONG_TYPE, 'a read within it is refused by itself');
  t.match(
    transact([
      { key: bytes('none'), present: true },
      { key, value: NOTHING },
    ]),
    { status: 'ok', isDo: false },
  );
  t.equal(machine.keyCount, 0, 'a condition that does not hold comes first, and the other branch deletes the key');
  t.end();
});

t.test('operations of level 0 and 1 write over collections and remove them', (t) => {
  const { machine, kv, store } = machineWithSets(['a', 'b', 'c', 'd']);
  t.same(
    kv('put', (b, o) => encodePut(b, o, bytes('a'), bytes('v'))),
    { status: 'ok' },
  );
  t.same(
    kv('get', (b, o) => encodeGet(b, o, bytes('a'))),
    { status: 'ok', value: bytes('v') },
  );
  t.match(
    store('write', (b, o) => encodeWrite(b, o, bytes('b'), bytes('v'), {}, { present: true })),
    { status: 'ok' },
  );
  t.same(
    kv('delete', (b, o) => encodeDelete(b, o, bytes('c'))),
    { status: 'ok' },
  );
  t.match(
    store('remove', (b, o) => encodeRemove(b, o, bytes('d'))),
    { status: 'ok' },
  );
  t.equal(machine.keyCount, 2);
  for (let i = 0; i < 10; i++) kv('get', (b, o) => encodeGet(b, o, bytes('a')));
  t.same(partsIn(machine.snapshot()), { parts: 0, graves: 0 }, 'their members are removed');
  t.end();
});

t.test('a scan and a range pass over a bounded number of collections', (t) => {
  const sets = Array.from({ length: PASSED_KEYS_MAX + 1 }, (_, i) => `k${i + 10_000}`);
  const { kv, store } = machineWithSets(sets);
  for (const key of ['a', 'z']) kv('put', (b, o) => encodePut(b, o, bytes(key), bytes('v')));
  const scan = (from: string): unknown => kv('scan', (b, o) => encodeScan(b, o, bytes(from), null, 10));
  t.match(scan(''), { status: 'ok', more: true, entries: [{ key: bytes('a') }] });
  t.same(scan('b'), { status: 'bad-operation', reason: 'scan-limit' });
  t.match(scan(sets[1]!), { status: 'ok', more: false, entries: [{ key: bytes('z') }] });
  const range = (from: string): unknown => store('range', (b, o) => encodeRange(b, o, bytes(from), null, 10));
  t.match(range(''), { entries: [{ key: bytes('a') }], next: bytes(sets.at(-1)!) });
  t.match(range(sets.at(-1)!), { entries: [{ key: bytes('z') }], next: undefined });
  t.end();
});

t.test('below level 2 there are no collections, and a snapshot of level 1 has none', (t) => {
  const { machine } = machineWithSets(['s']);
  const lower = machine.snapshot();
  lower[11] = 1;
  t.throws(() => new KvMachine().restore(lower), { code: 'snapshot-invalid' });
  const one = new KvMachine();
  one.raise(1);
  t.ok(one.snapshot().length === 32);
  one.raise(2);
  t.ok(one.snapshot().length === 36);
  one.raise(1);
  t.equal(one.level, 2, 'there is no way back');
  t.end();
});

t.test('a client is told that the key holds a collection', async (t) => {
  const { machine } = machineWithSets(['s']);
  const execute = async (operation: Uint8Array): Promise<Uint8Array> => {
    const reply = { bytes: new Uint8Array(100), offset: 0, capacity: 100, length: 0 };
    const context = { timestampHi: 0, timestampLo: 0, index: 1 };
    machine.apply({ bytes: operation, offset: 0, length: operation.length }, context, reply);
    return reply.bytes.slice(0, reply.length);
  };
  const client = new KvClient({ execute, query: execute });
  const refused = { code: 'kv-wrong-type', category: 'caller', retryable: false };
  await t.rejects(client.get('s'), refused);
  await t.rejects(client.increment('s'), refused);
  await t.rejects(client.compareAndSet('s', null, 'v'), refused);
  t.equal(await client.delete('s'), true);
});
