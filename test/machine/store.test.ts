/**
 * The key-value machine at level 1: random operations against a plain model, result by result and snapshot by snapshot;
 * and each bound. Replay a random failure with SEED=n.
 */
import t from 'tap';
import { readFileSync } from 'node:fs';
import { decodeResult, encodePut, encodeScan } from '../../src/machine/kv-codec.js';
import { drawOperation } from '../../src/machine/kv-layout.js';
import { KvMachine, leaseFiguresOf } from '../../src/machine/kv.js';
import {
  decodeStoreResult,
  encodeGrant,
  encodeRange,
  encodeRead,
  encodeRenew,
  encodeRevoke,
  encodeTick,
  encodeTransaction,
  encodeWrite,
  type KeyCondition,
  type KeyHold,
  type TransactionCondition,
  type TransactionOperation,
} from '../../src/machine/store/codec.js';
import {
  PASSED_KEYS_MAX,
  RENEWED_MAX,
  STORE_OPERATIONS,
  TRANSACTION_PARTS_MAX,
  TTL_MS_MAX,
  type StoreOperationName,
} from '../../src/machine/store/layout.js';
import type { SnapshotInPieces } from '../../src/machine/state-machine.js';
import { StoreModel, type ModelOperation, type Texts } from '../../src/sim/store-model.js';
import { decodeOutcome, encodeModelOperation, sameOutcome } from '../../src/sim/store-operations.js';
import { randomFrom } from '../random.js';

const SEED = Number(process.env['SEED'] ?? Date.now() % 1e9);
console.log(`# SEED=${SEED} replays the random operations`);

const utf8 = (text: string): Uint8Array => new Uint8Array(Buffer.from(text));
const text = (bytes: Uint8Array): string => Buffer.from(bytes).toString();
const equal = (a: Uint8Array, b: Uint8Array): boolean => Buffer.from(a).equals(Buffer.from(b));
const buffer = new Uint8Array(120_000);
const encoded = (encode: (target: Uint8Array, offset: number) => number): Uint8Array =>
  buffer.slice(0, encode(buffer, 0));

/** The context of an operation at an agreed time, ms. */
function at(ms: number): { timestampHi: number; timestampLo: number; index: number } {
  const ns = BigInt(ms) * 1_000_000n + 999_999n;
  return { timestampHi: Number(BigInt.asIntN(32, ns >> 32n)), timestampLo: Number(BigInt.asIntN(32, ns)), index: 1 };
}

const GUARD = 0xee;
const replyBytes = new Uint8Array(60_016);

function run(
  machine: KvMachine,
  operation: Uint8Array,
  now: number,
  method: 'apply' | 'query' = 'apply',
  capacity = 60_000,
): Uint8Array {
  replyBytes.fill(GUARD, 0, 8).fill(GUARD, 8 + capacity, 16 + capacity);
  const padded = new Uint8Array(operation.length + 8).fill(0xdd);
  padded.set(operation, 3);
  const reply = { bytes: replyBytes, offset: 8, capacity, length: -1 };
  machine[method]({ bytes: padded, offset: 3, length: operation.length }, at(method === 'query' ? 0 : now), reply);
  if (reply.length < 0 || reply.length > capacity) throw new Error(`reply length ${reply.length} at ${capacity}`);
  if (replyBytes[7] !== GUARD || replyBytes.subarray(8 + capacity, 16 + capacity).some((byte) => byte !== GUARD))
    throw new Error('the machine wrote outside of the reply');
  return replyBytes.slice(8, 8 + reply.length);
}

function raised(options = {}): KvMachine {
  const machine = new KvMachine(options);
  machine.raise(1);
  return machine;
}

const encode = (operation: ModelOperation): Uint8Array => encoded((target) => encodeModelOperation(operation, target));

/** Draws operations on a few keys and leases. */
class Game {
  /** Leases that were granted, the ones that have ended too. */
  readonly leases: number[] = [];

  constructor(
    private readonly random: (n: number) => number,
    private readonly keys: number,
    private readonly model: StoreModel,
  ) {}

  next(): ModelOperation {
    const { random } = this;
    const key = this.key();
    switch (random(16)) {
      case 0:
        return { name: 'get', key };
      case 1:
        return { name: 'put', key, value: this.value() };
      case 2:
        return { name: 'delete', key };
      case 3:
      case 4:
        return { name: 'read', key };
      case 5:
      case 6:
      case 7:
      case 8:
        return { name: 'write', key, value: this.value(), hold: this.hold(), condition: this.condition(key) };
      case 9:
        return { name: 'remove', key, condition: this.condition(key) };
      case 10:
        return { name: 'range', ...this.range() };
      case 11:
        return { name: 'grant', ttl: 1 + random(400) };
      case 12:
        return { name: 'renew', leases: Array.from({ length: 1 + random(4) }, () => this.lease()) };
      case 13:
        return random(4) === 0 ? { name: 'revoke', lease: this.lease() } : { name: 'tick' };
      default:
        return this.transaction();
    }
  }

  private transaction(): ModelOperation {
    const { random } = this;
    const conditions = Array.from({ length: random(3) }, () => {
      const key = this.key();
      const condition = this.condition(key);
      const value = this.model.keys.get(key)?.value ?? 'x';
      return random(3) === 0 || condition === undefined ? { key, value } : { key, ...condition };
    });
    return { name: 'transact', if: conditions, do: this.branch(), else: this.branch() };
  }

  private branch(): Texts<TransactionOperation>[] {
    const { random } = this;
    const changed = new Set<string>();
    const branch: Texts<TransactionOperation>[] = [];
    for (let i = random(5); i > 0; i--) {
      const key = this.key();
      const kind = random(5);
      if (kind === 0) branch.push({ get: key });
      else if (kind === 1) branch.push({ range: this.range() });
      else if (!changed.has(key)) {
        changed.add(key);
        branch.push(kind === 2 ? { delete: key } : { put: key, value: this.value(), ...this.hold() });
      }
    }
    return branch;
  }

  private key(): string {
    return `key ${this.random(this.keys)}`;
  }

  private value(): string {
    return `${this.random(1000)}`.repeat(1 + this.random(this.random(20) === 0 ? 300 : 8));
  }

  private hold(): KeyHold {
    switch (this.random(6)) {
      case 0:
      case 1:
        return { ttl: 1 + this.random(300) };
      case 2:
      case 3:
        return { lease: this.lease() };
      case 4:
        return { keep: true };
      default:
        return {};
    }
  }

  /** Mostly one that exists. */
  private lease(): number {
    const { random, leases } = this;
    if (leases.length === 0 || random(20) === 0) return 1 + random(5000);
    return leases[Math.max(0, leases.length - 1 - random(8))]!;
  }

  private condition(key: string): KeyCondition | undefined {
    switch (this.random(6)) {
      case 0:
        return { absent: true };
      case 1:
        return { present: true };
      case 2:
        return { revision: this.model.keys.get(key)?.revision ?? 1 + this.random(50) };
      default:
        return undefined;
    }
  }

  private range(): { from: string; to: string | null; limit: number } {
    const from = this.random(4) === 0 ? '' : this.key();
    return { from, to: this.random(3) === 0 ? null : `${this.key()}~`, limit: 1 + this.random(30) };
  }
}

t.test('random operations give what the model gives, also after a restore and while a snapshot is taken', (t) => {
  for (let number = 0; number < 4; number++) {
    const random = randomFrom(SEED + number);
    const options = { maxKeys: [22, 1000][number % 2]!, maxBytes: [1500, 100_000][number % 2]! };
    const model = new StoreModel(options.maxKeys, options.maxBytes);
    let machine = raised(options);
    const game = new Game(random, [20, 300][number % 2]!, model);
    const seen = new Set<string>();
    let now = 1_700_000_000_000;
    let pieces: { begun: SnapshotInPieces; expected: Uint8Array; taken: Uint8Array[]; length: number } | undefined;
    for (let i = 0; i < 6000; i++) {
      // Mostly quick, so that ends lie ahead; sometimes a pause in which many come.
      now += random(100) === 0 ? random(1500) : random(6);
      const operation = game.next();
      const isQuery = ['get', 'read', 'range'].includes(operation.name) && random(2) === 0;
      const bytes = encode(operation);
      const expected = isQuery ? model.query(operation) : model.apply(operation, now);
      const outcome = decodeOutcome(operation, run(machine, bytes, now, isQuery ? 'query' : 'apply'));
      seen.add(`${operation.name} ${outcome.status}`);
      if (outcome.lease !== undefined && operation.name === 'grant') game.leases.push(outcome.lease);
      if (!sameOutcome(outcome, expected)) {
        t.same(outcome, expected, `SEED=${SEED} game ${number} operation ${i}: ${JSON.stringify(operation)}`);
        break;
      }
      if (pieces !== undefined) {
        const piece = pieces.begun.step(1 + random(400)).slice();
        pieces.taken.push(piece);
        pieces.length += piece.length;
        if (pieces.length === pieces.begun.length) {
          if (!equal(Buffer.concat(pieces.taken), pieces.expected))
            t.fail(`SEED=${SEED} game ${number} operation ${i}: pieces differ from the state at the beginning`);
          pieces = undefined;
        }
      } else if (random(60) === 0)
        pieces = { begun: machine.beginSnapshot(), expected: machine.snapshot(), taken: [], length: 0 };
      else if (random(40) === 0) {
        const snapshot = machine.snapshot();
        machine = new KvMachine(options);
        if (random(2) === 0) machine.restore(snapshot);
        else {
          const begun = machine.beginRestore(snapshot.length);
          for (let from = 0, length = 0; from < snapshot.length; from += length) {
            length = 1 + random(200);
            begun.step(snapshot.subarray(from, from + length));
          }
          begun.end();
        }
        if (!equal(machine.snapshot(), snapshot))
          t.fail(`SEED=${SEED} game ${number} operation ${i}: a restored machine has another snapshot`);
      }
    }
    t.equal(machine.keyCount, model.keys.size, 'as many keys');
    for (const status of [
      'write mismatch',
      'write lease-ended',
      'remove mismatch',
      'revoke ok',
      'transact lease-ended',
    ])
      t.ok(seen.has(status), `SEED=${SEED} game ${number}: ${status} occurs`);
    if (number % 2 === 0)
      for (const status of ['write full', 'transact full', 'put full']) t.ok(seen.has(status), status);
  }
  t.end();
});

t.test('what an operation changes does not depend on the room for its result', (t) => {
  const random = randomFrom(SEED + 77);
  const model = new StoreModel(1000, 100_000);
  const game = new Game(random, 30, model);
  const roomy = raised();
  const tight = raised();
  let now = 1000;
  for (let i = 0; i < 3000; i++) {
    now += random(8);
    const operation = game.next();
    model.apply(operation, now);
    const outcome = decodeOutcome(operation, run(roomy, encode(operation), now));
    if (operation.name === 'grant' && outcome.lease !== undefined) game.leases.push(outcome.lease);
    run(tight, encode(operation), now, 'apply', [0, 1, 5, 9, 17, 40, 120][random(7)]!);
    if (!equal(roomy.snapshot(), tight.snapshot())) {
      t.fail(`SEED=${SEED} operation ${i}: ${JSON.stringify(operation)}`);
      break;
    }
  }
  t.pass('the same states');
  t.end();
});

t.test('damaged operations are refused, or are others; nothing throws, and a refusal changes nothing', (t) => {
  const random = randomFrom(SEED + 99);
  const model = new StoreModel(1000, 100_000);
  const game = new Game(random, 30, model);
  const machine = raised();
  let refused = 0;
  for (let i = 0; i < 6000; i++) {
    const operation = game.next();
    model.apply(operation, 1000);
    let bytes = encode(operation);
    const kind = random(4);
    if (kind === 0) bytes = bytes.slice(0, random(bytes.length));
    else if (kind === 1) bytes = Uint8Array.from([...bytes, random(256)]);
    else for (let n = 1 + random(3); n > 0; n--) bytes[random(bytes.length)] = random(256);
    // Whatever has ended is removed before, not by the damaged one.
    for (let n = 0; n < 4; n++) run(machine, encoded(encodeTick), 1000);
    const before = machine.snapshot();
    const result = run(machine, bytes, 1000, 'apply');
    if (result[0] === 3) {
      refused++;
      if (!equal(machine.snapshot(), before)) t.fail(`SEED=${SEED} operation ${i}: refused, and the state changed`);
    }
    if (i % 10 === 0) {
      const again = new KvMachine();
      again.restore(machine.snapshot());
    }
  }
  t.ok(refused > 1000, `${refused} were refused`);
  t.end();
});

const write = (key: string, value: string, hold: KeyHold = {}): Uint8Array =>
  encoded((b, o) => encodeWrite(b, o, utf8(key), utf8(value), hold));
const read = (key: string): Uint8Array => encoded((b, o) => encodeRead(b, o, utf8(key)));
const statusOf = (name: StoreOperationName, result: Uint8Array): string =>
  decodeStoreResult(name, result, 0, result.length).status;

t.test('at level 0 every operation of level 1 is refused as before, and nothing is changed', (t) => {
  const machine = new KvMachine();
  run(
    machine,
    encoded((b, o) => encodePut(b, o, utf8('k'), utf8('v'))),
    5,
  );
  const before = machine.snapshot();
  t.equal(text(before.subarray(0, 4)), 'KVS1');
  const operations = [
    read('k'),
    write('k', '2', { ttl: 5 }),
    encoded((b, o) => encodeGrant(b, o, 5)),
    encoded(encodeTick),
    encoded((b, o) => encodeTransaction(b, o, { if: [], do: [{ delete: utf8('k') }], else: [] })),
  ];
  for (const operation of operations) {
    t.same([...run(machine, operation, 10)], [3, 0], 'bad-operation, opcode');
    t.same([...run(machine, operation, 10, 'query')], [3, 0]);
  }
  t.ok(equal(machine.snapshot(), before));

  machine.raise(1);
  machine.raise(1);
  const result = run(machine, read('k'), 20);
  t.match(decodeStoreResult('read', result, 0, result.length), {
    status: 'ok',
    revision: 1,
    found: { revision: 1, ends: undefined, lease: undefined },
  });
  t.equal(text(machine.snapshot().subarray(0, 4)), 'KVS2');
  machine.restore(before);
  t.equal(machine.level, 0, 'an earlier state has its own level');
  t.same([...run(machine, read('k'), 30)], [3, 0]);
  t.end();
});

t.test('the level is raised while a snapshot of level 0 is taken', (t) => {
  const machine = new KvMachine();
  for (let i = 0; i < 300; i++)
    run(
      machine,
      encoded((b, o) => encodePut(b, o, utf8(`k${i}`), utf8('v'))),
      5,
    );
  const expected = machine.snapshot();
  const begun = machine.beginSnapshot();
  const pieces = [begun.step(500).slice()];
  machine.raise(1);
  for (let i = 0; i < 300; i += 2) run(machine, write(`k${i}`, 'other', { ttl: 10 }), 10);
  run(
    machine,
    encoded((b, o) => encodeGrant(b, o, 5)),
    10,
  );
  for (let length = pieces[0]!.length; length < begun.length; length += pieces.at(-1)!.length)
    pieces.push(begun.step(500).slice());
  t.ok(equal(Buffer.concat(pieces), expected));
  t.end();
});

t.test('a time to live of 0, below 0 or above the bound is refused, by name', (t) => {
  for (const ttl of [0, -1, -(2 ** 40), 1.5, NaN, TTL_MS_MAX + 1])
    for (const call of [() => write('k', 'v', { ttl }), () => encoded((b, o) => encodeGrant(b, o, ttl))])
      t.throws(call, { code: 'kv-limit', message: new RegExp(`^ttl ${ttl}: `) });
  t.throws(() => write('k', 'v', { ttl: 5, lease: 5 }), { code: 'kv-limit', message: /exclude each other/ });
  const machine = raised();
  const grant = encoded((b, o) => encodeGrant(b, o, 5));
  const held = write('k', 'v', { ttl: 5 });
  for (const bytes of [
    '0000000000000000',
    'ffffffffffffffff',
    '8000000000000000',
    '0020000000000000',
    '0000000900000000',
  ]) {
    const field = Buffer.from(bytes, 'hex');
    const wrongGrant = grant.slice();
    wrongGrant.set(field, STORE_OPERATIONS.grant.at.ttl);
    const wrongWrite = held.slice();
    wrongWrite.set(field, STORE_OPERATIONS.write.at.held);
    for (const [name, operation] of [
      ['grant', wrongGrant],
      ['write', wrongWrite],
    ] as const) {
      const result = run(machine, operation, 10);
      t.same(decodeStoreResult(name, result, 0, result.length), { status: 'bad-operation', reason: 'ttl' }, bytes);
    }
  }
  t.equal(machine.keyCount, 0);
  t.equal(
    statusOf(
      'grant',
      run(
        machine,
        encoded((b, o) => encodeGrant(b, o, TTL_MS_MAX)),
        10,
      ),
    ),
    'ok',
  );
  t.end();
});

t.test('a key is there until its end and not at it, whoever reads', (t) => {
  const machine = raised();
  run(machine, write('k', 'v', { ttl: 5 }), 100);
  t.equal(statusOf('read', run(machine, read('k'), 104)), 'ok');
  t.equal(statusOf('read', run(machine, read('k'), 0, 'query')), 'ok', 'a query knows no time but that of the log');
  t.equal(statusOf('read', run(machine, read('k'), 105)), 'not-found');
  t.equal(statusOf('read', run(machine, read('k'), 0, 'query')), 'not-found');
  t.equal(statusOf('read', run(machine, read('k'), 90)), 'not-found', 'time does not go back');
  t.end();
});

t.test('100,000 leases that end at one instant are gone at once, and removed 16 an operation', (t) => {
  const leases = 100_000;
  const machine = raised({ maxKeys: 200_001 });
  const tick = encoded(encodeTick);
  for (let i = 0; i < leases; i++) {
    const granted = run(
      machine,
      encoded((b, o) => encodeGrant(b, o, 10_000)),
      1000,
    );
    const grant = decodeStoreResult('grant', granted, 0, granted.length);
    if (grant.status !== 'ok' || !('lease' in grant)) throw new Error(`grant ${i}: ${grant.status}`);
    run(machine, write(`k${i}`, 'v', { lease: grant.lease }), 1000);
  }
  run(machine, write('stays', 'v'), 1000);
  t.equal(machine.keyCount, leases + 1);
  let operations = 1;
  run(machine, tick, 11_000);
  t.equal(machine.keyCount, leases + 1 - 8, 'a lease goes after its key');
  const result = run(
    machine,
    encoded((b, o) => encodeRange(b, o, utf8(''), null, 10)),
    0,
    'query',
  );
  const first = decodeStoreResult('range', result, 0, result.length);
  t.ok('next' in first && first.next !== undefined && first.entries.length === 0, 'a range goes on where it stopped');
  const many = Array.from({ length: 64 }, () => ({ range: { from: utf8(''), to: null, limit: 10 } }));
  const parts = { if: [], do: many, else: [] };
  const all = run(
    machine,
    encoded((b, o) => encodeTransaction(b, o, parts)),
    0,
    'query',
  );
  const each = decodeStoreResult('transact', all, 0, all.length);
  if (!('results' in each)) throw new Error(`transact: ${each.status}`);
  const goesOn = each.results.map((part) => {
    const range = decodeStoreResult('range', part, 0, part.length);
    return 'next' in range && range.next !== undefined ? text(range.next) : undefined;
  });
  const [stopped, ...others] = goesOn;
  t.ok(
    stopped !== undefined && others.every((next) => next !== undefined && next < stopped),
    'its ranges share a bound',
  );
  for (const key of ['k9', 'k99999']) t.equal(statusOf('read', run(machine, read(key), 0, 'query')), 'not-found');
  const twin = new KvMachine({ maxKeys: 200_001 });
  twin.restore(machine.snapshot());
  let most = 0;
  while (machine.keyCount > 1 && operations < 20_000) {
    const before = machine.keyCount;
    run(machine, tick, 11_000);
    most = Math.max(most, before - machine.keyCount);
    run(twin, tick, 11_000);
    if (++operations % 4000 === 0) t.ok(equal(machine.snapshot(), twin.snapshot()), `alike after ${operations}`);
  }
  t.equal(operations, (2 * leases) / 16);
  t.equal(most, 8, 'each operation removed eight keys with their leases');
  t.same(leaseFiguresOf(machine), { held: 0, granted: leases, renewed: 0, ended: leases, revoked: 0 });
  t.equal(statusOf('read', run(machine, read('stays'), 11_000)), 'ok');
  t.end();
});

t.test('100,000 keys that end at one instant are removed 16 an operation, whatever operations come', (t) => {
  const keys = 100_000;
  const machine = raised({ maxKeys: keys + 2 });
  for (let i = 0; i < keys; i++) run(machine, write(`k${i}`, 'v', { ttl: 10_000 }), 1000);
  run(machine, write('stays', 'v'), 1000);
  const operations = [
    encoded(encodeTick),
    read('stays'),
    read('k99999'),
    write('stays', 'w'),
    encoded((b, o) => encodePut(b, o, utf8('stays'), utf8('x'))),
    encoded((b, o) => encodeRenew(b, o, [1])),
    encoded((b, o) => encodeRange(b, o, utf8('k'), null, 10)),
    encoded((b, o) => encodeTransaction(b, o, { if: [], do: [{ put: utf8('stays'), value: utf8('y') }], else: [] })),
    Uint8Array.of(0xee),
    new Uint8Array(0),
  ];
  run(machine, read('stays'), 10_999);
  t.equal(machine.keyCount, keys + 1, 'none is gone before its end');
  const removed = new Set<number>();
  let count = 0;
  for (; machine.keyCount > 1 && count <= keys / 16; count++) {
    const before = machine.keyCount;
    run(machine, operations[count % operations.length]!, 11_000);
    removed.add(before - machine.keyCount);
  }
  t.equal(count, keys / 16);
  t.same([...removed], [16]);
  run(machine, encoded(encodeTick), 11_000);
  t.equal(machine.keyCount, 1);
  t.end();
});

t.test('what an operation itself removes comes on top of the 16, and has a bound as well', (t) => {
  const count = 1000;
  const machine = raised();
  const granted = run(
    machine,
    encoded((b, o) => encodeGrant(b, o, 60_000)),
    1000,
  );
  const grant = decodeStoreResult('grant', granted, 0, granted.length);
  if (!('lease' in grant)) throw new Error(grant.status);
  for (let i = 0; i < count; i++) {
    run(machine, write(`held${i}`, 'v', { lease: grant.lease }), 1000);
    run(machine, write(`k${i}`, 'v', { ttl: 10 }), 1000);
  }
  const removes = (operation: Uint8Array): number => {
    const before = machine.keyCount;
    run(machine, operation, 2000);
    return before - machine.keyCount;
  };
  t.equal(removes(encoded(encodeTick)), 16);
  t.equal(
    removes(encoded((b, o) => encodeRevoke(b, o, grant.lease))),
    16 + 16,
    'the end of a lease: the first of its keys',
  );
  t.equal(removes(write('k999', 'again')), 16, 'a key that has ended and is written again is removed, and is new');
  const gone = Array.from({ length: TRANSACTION_PARTS_MAX }, (_, i) => ({ delete: utf8(`k${900 + i}`) }));
  t.equal(
    removes(encoded((b, o) => encodeTransaction(b, o, { if: [], do: gone, else: [] }))),
    16 + TRANSACTION_PARTS_MAX,
    'a transaction: the keys that it names',
  );
  let operations = 0;
  while (machine.keyCount > 1 && operations < 1000) {
    t.ok(removes(encoded(encodeTick)) <= 16);
    operations++;
  }
  t.equal(machine.keyCount, 1, 'the one that was written again');
  t.end();
});

t.test('a scan of level 0 passes over a bounded number of keys that have ended', (t) => {
  const machine = raised();
  run(machine, write('a', 'v'), 1);
  const keys = Array.from({ length: 3000 }, (_, i) => `k${i + 1000}`);
  for (const key of keys) run(machine, write(key, 'v', { ttl: 5 }), 1);
  run(machine, write('z', 'v'), 1);
  run(machine, encoded(encodeTick), 100);
  t.equal(machine.keyCount, 2 + keys.length - 16, 'nearly all of them are still to be removed');
  const scan = (from: string, to: string | null, limit = 10, method: 'apply' | 'query' = 'query') => {
    const operation = encoded((b, o) => encodeScan(b, o, utf8(from), to === null ? null : utf8(to), limit));
    const result = run(machine, operation, 100, method);
    const decoded = decodeResult('scan', result, 0, result.length);
    return decoded.status === 'ok'
      ? { keys: decoded.entries.map(({ key }) => text(key)), more: decoded.more }
      : { ...decoded };
  };
  const refused = { status: 'bad-operation', reason: 'scan-limit' };
  t.same(scan('', null), { keys: ['a'], more: true }, 'it stops behind the last key that it shows');
  t.same(scan('', null, 1), { keys: ['a'], more: true });
  t.same(scan('a\0', null), refused, 'a caller that goes on there is told, and does not go on for ever');
  const least = keys.at(-PASSED_KEYS_MAX)!;
  t.same(scan(least, null), { keys: ['z'], more: false }, 'as many as it passes over');
  t.same(scan(keys.at(-PASSED_KEYS_MAX - 1)!, null), refused, 'one more');
  t.same(scan(least, 'z'), { keys: [], more: false }, 'as many, and no key behind them');
  t.same(scan('a\0', null, 10, 'apply'), refused, 'through the log too');
  // What the error of KvClient says: each operation removes 16.
  for (let n = 0; n < keys.length / 16; n++) run(machine, encoded(encodeTick), 100);
  t.same(scan('', null), { keys: ['a', 'z'], more: false });
  t.end();
});

t.test('counts above their bounds are refused by the codec and by the machine', (t) => {
  const machine = raised();
  const conditions = (count: number) =>
    Array.from({ length: count }, () => ({ key: utf8('k'), absent: true as const }));
  t.throws(() => encoded((b, o) => encodeTransaction(b, o, { if: conditions(65), do: [], else: [] })), {
    code: 'kv-limit',
    message: /at most 64 conditions/,
  });
  const most = encoded((b, o) => encodeTransaction(b, o, { if: conditions(TRANSACTION_PARTS_MAX), do: [], else: [] }));
  t.equal(statusOf('transact', run(machine, most, 5)), 'ok');
  most[1] = 65;
  const result = run(machine, most, 5);
  t.same(decodeStoreResult('transact', result, 0, result.length), { status: 'bad-operation', reason: 'count' });
  t.throws(
    () =>
      encoded((b, o) =>
        encodeTransaction(b, o, {
          if: [],
          do: [{ delete: utf8('k') }, { put: utf8('k'), value: utf8('') }],
          else: [],
        }),
      ),
    { code: 'kv-limit', message: /one key twice/ },
  );
  const twice = encoded((b, o) =>
    encodeTransaction(b, o, { if: [], do: [{ delete: utf8('k') }, { delete: utf8('l') }], else: [] }),
  );
  twice[twice.length - 1] = 'k'.charCodeAt(0);
  t.match(decodeStoreResult('transact', run(machine, twice, 5), 0, 2), { status: 'bad-operation', reason: 'twice' });
  const large = { put: utf8('k'), value: new Uint8Array(32 * 1024) };
  t.throws(() => encodeTransaction(new Uint8Array(48 * 1024), 0, { if: [], do: [large], else: [large] }), {
    code: 'kv-buffer-too-small',
  });
  const leases = Array.from({ length: RENEWED_MAX + 1 }, (_, i) => i + 1);
  t.throws(() => encoded((b, o) => encodeRenew(b, o, leases)), { code: 'kv-limit' });
  t.throws(() => encoded((b, o) => encodeRenew(b, o, [])), { code: 'kv-limit' });
  t.equal(
    statusOf(
      'renew',
      run(
        machine,
        encoded((b, o) => encodeRenew(b, o, leases.slice(1))),
        5,
      ),
    ),
    'ok',
  );
  t.end();
});

t.test('a result within a transaction that does not fit says so by itself', (t) => {
  const machine = raised();
  run(machine, write('large', 'x'.repeat(1000)), 5);
  const operation = encoded((b, o) =>
    encodeTransaction(b, o, {
      if: [],
      do: [{ put: utf8('a'), value: utf8('1') }, { get: utf8('large') }, { get: utf8('a') }],
      else: [],
    }),
  );
  const result = run(machine, operation, 5, 'apply', 500);
  const outcome = decodeStoreResult('transact', result, 0, result.length);
  const results = 'results' in outcome ? outcome.results : [];
  t.equal(results.length, 3);
  t.equal(statusOf('write', results[0]!), 'ok');
  t.equal(statusOf('read', results[2]!), 'ok');
  t.same(decodeStoreResult('read', results[1]!, 0, results[1]!.length), {
    status: 'too-large',
    neededBytes: 1033,
  });
  t.equal(statusOf('read', run(machine, read('a'), 6)), 'ok', 'its writes are done');
  t.end();
});

t.test('snapshots that are damaged are refused, with the state unchanged', (t) => {
  const machine = raised();
  const granted = run(
    machine,
    encoded((b, o) => encodeGrant(b, o, 50)),
    10,
  );
  const grant = decodeStoreResult('grant', granted, 0, granted.length);
  run(machine, write('a', '1', { lease: 'lease' in grant ? grant.lease : 0 }), 10);
  run(machine, write('b', '2', { ttl: 100 }), 10);
  const good = machine.snapshot();
  const refuse = (change: (bytes: Uint8Array) => unknown, why: RegExp): void => {
    const bytes = good.slice();
    t.throws(() => machine.restore((change(bytes) as Uint8Array | undefined) ?? bytes), {
      code: 'snapshot-invalid',
      message: why,
    });
    t.ok(equal(machine.snapshot(), good));
  };
  refuse((bytes) => void (bytes[11] = 3), /level 3, and this version knows those up to 2/);
  refuse((bytes) => void (bytes[15] = 9), /ends in its leases/);
  refuse((bytes) => void bytes.fill(0, 16, 24), /its revision cannot be/);
  const number = (bytes: Uint8Array, at: number, value: number): unknown =>
    new DataView(bytes.buffer, bytes.byteOffset).setBigUint64(at, BigInt(value));
  refuse((bytes) => number(bytes, 16, 2 ** 52), /its revision cannot be/);
  refuse((bytes) => number(bytes, 24, 18_446_744_073_710), /its time cannot be/);
  refuse((bytes) => number(bytes, 40, 10 + TTL_MS_MAX + 1), /lease 0 is damaged/);
  refuse((bytes) => number(bytes, 48, TTL_MS_MAX + 1), /lease 0 is damaged/);
  refuse((bytes) => void bytes.fill(0, 32, 40), /lease 0 is damaged/);
  refuse((bytes) => void (bytes[56 + 4 + 12] = 3), /entry 0 says/);
  refuse((bytes) => void (bytes[56 + 4 + 11] = 99), /entry 0 says/);
  refuse((bytes) => void (bytes[56 + 4 + 3] = 99), /entry 0 says/);
  // Behind the lease, one entry of 22 bytes follows the other: 4 of lengths, revision, hold, key, value.
  const revision = (bytes: Uint8Array, entry: number): Uint8Array => bytes.subarray(60 + 22 * entry, 68 + 22 * entry);
  refuse((bytes) => void revision(bytes, 1).fill(0), /entry 1 says/);
  refuse((bytes) => void (bytes[60 + 22 + 15] = 8), /entry 1 says/);
  refuse((bytes) => {
    const [first, second] = [60, 82];
    bytes.copyWithin(second, first, first + 16);
  }, /entry 1 has the end and the revision of another one/);
  refuse((bytes) => bytes.subarray(0, 20), /less than a header/);
  refuse((bytes) => bytes.subarray(0, bytes.length - 1), /ends in entry 1/);
  t.end();
});

t.test('a condition that nobody would check is refused', (t) => {
  for (const condition of [{ value: utf8('x') }, {}, { absent: false }, { present: undefined }] as unknown[])
    t.throws(() => encoded((b, o) => encodeWrite(b, o, utf8('k'), utf8('v'), {}, condition as KeyCondition)), {
      code: 'kv-limit',
      message: /^a condition with .* is none; give absent: true/,
    });
  const parts = { if: [{ key: utf8('k') } as unknown as TransactionCondition], do: [], else: [] };
  t.throws(() => encoded((b, o) => encodeTransaction(b, o, parts)), { code: 'kv-limit' });
  t.end();
});

t.test('the drawing of the operations in store/layout.ts is that of the table', (t) => {
  const source = readFileSync(new URL('../../../src/machine/store/layout.ts', import.meta.url), 'utf8');
  const names = Object.keys(STORE_OPERATIONS) as StoreOperationName[];
  const drawn = [...source.matchAll(/^ \* {5}(\w+ +\| \d\d \| .*)$/gm)].map((match) => match[1]!.trimEnd());
  t.strictSame(
    drawn,
    names.map((name) => drawOperation(name, STORE_OPERATIONS[name]).trimEnd()),
  );
  t.end();
});
