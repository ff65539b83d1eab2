/**
 * The key-value machine: each operation and limit, then random operations against a plain Map, reply by reply and byte
 * by byte. Replay a random failure with SEED=n.
 */
import t from 'tap';
import { readFileSync } from 'node:fs';
import {
  KV_KEY_BYTES_MAX,
  KV_OPERATION_BYTES_MAX,
  KV_SCAN_LIMIT_MAX,
  KV_VALUE_BYTES_MAX,
  decodeResult,
  encodeCas,
  encodeDelete,
  encodeGet,
  encodeIncrement,
  encodePut,
  encodeScan,
  type KvExpected,
  type KvOperationName,
  type KvResults,
} from '../../src/machine/kv-codec.js';
import { drawOperation, KV_OPERATIONS } from '../../src/machine/kv-layout.js';
import { KvMachine, type KvOptions } from '../../src/machine/kv.js';
import { randomFrom } from '../random.js';

const SEED = Number(process.env['SEED'] ?? Date.now() % 1e9);
console.log(`# SEED=${SEED} replays the random operations`);

const CONTEXT = { timestampHi: 0, timestampLo: 0, index: 1 };
const REPLY_CAPACITY = 60_000;
const utf8 = (text: string): Uint8Array => new Uint8Array(Buffer.from(text));
const text = (bytes: Uint8Array): string => Buffer.from(bytes).toString();

const GUARD = 0xee;
const target = new Uint8Array(KV_OPERATION_BYTES_MAX + 20).fill(GUARD);
const replyBytes = new Uint8Array(REPLY_CAPACITY + 8);

/** The bytes that an encoder writes, from an offset other than 0 and without a neighbour touched. */
function encoded(encode: (target: Uint8Array, offset: number) => number): Uint8Array {
  const length = encode(target, 7);
  if (target[6] !== GUARD || target[7 + length] !== GUARD) throw new Error('the encoder wrote outside of its bytes');
  const bytes = target.slice(7, 7 + length);
  target.fill(GUARD, 7, 7 + length);
  return bytes;
}

/** The reply's bytes; fails when the machine writes right before or behind the reply. */
function run(
  machine: KvMachine,
  operation: Uint8Array,
  capacity = REPLY_CAPACITY,
  method: 'apply' | 'query' = 'apply',
): Uint8Array {
  const padded = new Uint8Array(operation.length + 8).fill(0xdd);
  padded.set(operation, 3);
  const end = 5 + capacity;
  replyBytes.fill(GUARD, 0, 5).fill(GUARD, end, end + 3);
  const reply = { bytes: replyBytes, offset: 5, capacity, length: -1 };
  machine[method]({ bytes: padded, offset: 3, length: operation.length }, CONTEXT, reply);
  if (reply.length < 0 || reply.length > capacity)
    throw new Error(`reply length ${reply.length} at capacity ${capacity}`);
  if (replyBytes[4] !== GUARD || replyBytes.subarray(end, end + 3).some((byte) => byte !== GUARD))
    throw new Error('the machine wrote outside of the reply');
  return replyBytes.slice(5, 5 + reply.length);
}

class Store {
  readonly machine: KvMachine;
  constructor(options: KvOptions = {}) {
    this.machine = new KvMachine(options);
  }
  #do<Name extends KvOperationName>(
    name: Name,
    encode: (target: Uint8Array, offset: number) => number,
    capacity?: number,
  ): KvResults[Name] {
    const result = run(this.machine, encoded(encode), capacity);
    return decodeResult(name, result, 0, result.length);
  }
  get(key: string, capacity?: number) {
    return this.#do('get', (b, o) => encodeGet(b, o, utf8(key)), capacity);
  }
  put(key: string, value: string | Uint8Array) {
    return this.#do('put', (b, o) => encodePut(b, o, utf8(key), typeof value === 'string' ? utf8(value) : value));
  }
  delete(key: string) {
    return this.#do('delete', (b, o) => encodeDelete(b, o, utf8(key)));
  }
  cas(key: string, expected: string | null, replacement: string | null) {
    const bytes = (value: string | null): KvExpected => (value === null ? null : utf8(value));
    return this.#do('cas', (b, o) => encodeCas(b, o, utf8(key), bytes(expected), bytes(replacement)));
  }
  increment(key: string, delta: number | bigint, capacity?: number) {
    return this.#do('increment', (b, o) => encodeIncrement(b, o, utf8(key), delta), capacity);
  }
  scan(from: string, to: string | null, limit: number, capacity?: number) {
    return this.#do('scan', (b, o) => encodeScan(b, o, utf8(from), to === null ? null : utf8(to), limit), capacity);
  }
  value(key: string): string | null {
    const result = this.get(key);
    return result.status === 'ok' ? text(result.value) : null;
  }
  keys(from: string, to: string | null, limit: number, capacity?: number): [string[], boolean] | string {
    const result = this.scan(from, to, limit, capacity);
    return result.status === 'ok' ? [result.entries.map((entry) => text(entry.key)), result.more] : result.status;
  }
}

t.test('get, put, delete', (t) => {
  const store = new Store();
  t.same(store.get('k'), { status: 'not-found' });
  t.same(store.put('k', 'one'), { status: 'ok' });
  t.same(store.get('k'), { status: 'ok', value: utf8('one') });
  for (const value of ['two', 'longer than before', '', 's', 'x'.repeat(KV_VALUE_BYTES_MAX)]) {
    t.same(store.put('k', value), { status: 'ok' });
    t.equal(store.value('k'), value);
  }
  t.equal(store.machine.keyCount, 1);
  t.same(store.delete('k'), { status: 'ok' });
  t.same(store.delete('k'), { status: 'not-found' });
  t.same(store.get('k'), { status: 'not-found' });
  t.equal(store.machine.keyCount, 0);
  t.equal(store.machine.contentBytes, 0);
  t.end();
});

t.test('keys of any bytes and length are told apart', (t) => {
  const store = new Store();
  const keys = ['a', 'a\0', 'ab', '\0', 'x'.repeat(KV_KEY_BYTES_MAX), 'x'.repeat(KV_KEY_BYTES_MAX - 1), 'ü'];
  keys.forEach((key, i) => store.put(key, `value ${i}`));
  keys.forEach((key, i) => t.equal(store.value(key), `value ${i}`));
  t.end();
});

t.test('compare-and-set', (t) => {
  const store = new Store();
  t.same(store.cas('k', 'a', 'b'), { status: 'mismatch' }, 'absent is not a value');
  t.same(store.cas('k', '', 'b'), { status: 'mismatch' }, 'nor the empty one');
  t.same(store.cas('k', null, 'a'), { status: 'ok' });
  t.same(store.cas('k', null, 'b'), { status: 'mismatch' });
  t.same(store.cas('k', 'b', 'c'), { status: 'mismatch' });
  t.same(store.cas('k', 'aa', 'c'), { status: 'mismatch' }, 'a prefix is not enough');
  t.equal(store.value('k'), 'a');
  t.same(store.cas('k', 'a', 'a longer one'), { status: 'ok' });
  t.equal(store.value('k'), 'a longer one');
  t.same(store.cas('k', 'x', null), { status: 'mismatch' });
  t.same(store.cas('k', 'a longer one', null), { status: 'ok' }, 'deletes');
  t.equal(store.value('k'), null);
  t.same(store.cas('k', null, null), { status: 'ok' }, 'absent stays absent');
  t.equal(store.machine.keyCount, 0);
  t.end();
});

t.test('increment', (t) => {
  const store = new Store();
  const add = (delta: number | bigint): unknown => store.increment('n', delta);
  t.same(add(5), { status: 'ok', value: 5n }, 'creates at 0');
  t.same(add(-7), { status: 'ok', value: -2n });
  t.same(add(2 ** 40), { status: 'ok', value: 2n ** 40n - 2n });
  t.same(add(-(2 ** 40)), { status: 'ok', value: -2n });
  t.same(add(0xffffffff), { status: 'ok', value: 0xfffffffdn });
  t.same(add(3), { status: 'ok', value: 2n ** 32n }, 'carries into the upper half');
  t.same(add(2n ** 63n - 1n - 2n ** 32n), { status: 'ok', value: 2n ** 63n - 1n });
  t.same(add(1), { status: 'ok', value: -(2n ** 63n) }, 'wraps');
  t.same(add(-1), { status: 'ok', value: 2n ** 63n - 1n });
  t.same(store.get('n'), { status: 'ok', value: new Uint8Array([0x7f, 255, 255, 255, 255, 255, 255, 255]) });
  store.put('text', 'seven b');
  t.same(store.increment('text', 1), { status: 'not-a-number' });
  t.equal(store.value('text'), 'seven b', 'unchanged');
  t.end();
});

t.test('scan', (t) => {
  const store = new Store();
  for (const key of ['b', 'd', 'a', 'aa', 'c', '\0']) store.put(key, `value of ${key}`);
  t.same(store.keys('', null, 100), [['\0', 'a', 'aa', 'b', 'c', 'd'], false]);
  t.same(store.keys('a', 'c', 100), [['a', 'aa', 'b'], false], 'from included, to not');
  t.same(store.keys('a', 'c', 3), [['a', 'aa', 'b'], false], 'a limit just reached leaves nothing');
  t.same(store.keys('a', 'c', 2), [['a', 'aa'], true]);
  t.same(store.keys('aaa', 'bb', 5), [['b'], false], 'bounds need not be keys');
  t.same(store.keys('c', 'a', 5), [[], false], 'an empty range');
  t.same(store.keys('x', null, 5), [[], false]);
  t.same(store.keys('', '', 5), [[], false]);
  store.delete('aa');
  store.put('ab', '');
  t.same(store.keys('a', 'c', 5), [['a', 'ab', 'b'], false], 'after a delete and an insert');
  const result = store.scan('c', null, 5);
  t.match(result, { status: 'ok', entries: [{ value: utf8('value of c') }, { value: utf8('value of d') }] });
  t.end();
});

t.test('a scan goes page by page over any number of keys', (t) => {
  const store = new Store();
  const random = randomFrom(7);
  const expected = new Set<string>();
  while (expected.size < 5000) expected.add(`key ${random(1e9)}`);
  for (const key of expected) store.put(key, key);
  for (const key of [...expected]) {
    if (random(3) === 0) continue;
    expected.delete(key);
    store.delete(key);
  }
  const seen: string[] = [];
  for (let from = '', more = true; more; ) {
    const page = store.keys(from, null, 1000, 700);
    if (typeof page === 'string') return (t.fail(page), t.end());
    seen.push(...page[0]);
    more = page[1];
    from = `${seen[seen.length - 1]}\0`;
  }
  t.same(seen, [...expected].sort());
  return t.end();
});

t.test('a reply that does not fit says what it needs, and the state does not depend on it', (t) => {
  const store = new Store();
  store.put('k', 'x'.repeat(100));
  t.same(store.get('k', 100), { status: 'too-large', neededBytes: 101 });
  t.equal(store.get('k', 101).status, 'ok');
  t.same(store.get('k', 4), { status: 'too-large', neededBytes: null });
  t.same(store.scan('', null, 1, 108), { status: 'too-large', neededBytes: 109 });
  t.equal(store.scan('', null, 1, 109).status, 'ok');
  t.same(store.scan('', null, 1, 3), { status: 'too-large', neededBytes: null });
  store.put('l', 'y');
  t.same(store.keys('', null, 9, 109), [['k'], true], 'the page ends where the reply does');
  t.same(store.increment('n', 4, 8), { status: 'too-large', neededBytes: 9 });
  t.same(store.increment('n', 4, 9), { status: 'ok', value: 8n }, 'the one before counted');
  const get = encoded((b, o) => encodeGet(b, o, utf8('k')));
  t.equal(run(store.machine, get, 0).length, 0);
  t.equal(run(store.machine, new Uint8Array([99]), 1).length, 1);
  t.throws(() => decodeResult('get', new Uint8Array(0), 0, 0), { code: 'kv-result-malformed', message: /empty/ });
  t.end();
});

t.test('query answers reads and refuses writes', (t) => {
  const store = new Store();
  store.put('k', 'v');
  const before = store.machine.snapshot();
  const ask = <Name extends KvOperationName>(
    name: Name,
    encode: (b: Uint8Array, o: number) => number,
  ): KvResults[Name] => {
    const result = run(store.machine, encoded(encode), REPLY_CAPACITY, 'query');
    return decodeResult(name, result, 0, result.length);
  };
  const key = utf8('k');
  t.same(
    ask('get', (b, o) => encodeGet(b, o, key)),
    { status: 'ok', value: utf8('v') },
  );
  t.match(
    ask('scan', (b, o) => encodeScan(b, o, key, null, 1)),
    { status: 'ok', more: false },
  );
  const refused = { status: 'bad-operation', reason: 'write-in-query' };
  t.same(
    ask('put', (b, o) => encodePut(b, o, key, key)),
    refused,
  );
  t.same(
    ask('delete', (b, o) => encodeDelete(b, o, key)),
    refused,
  );
  t.same(
    ask('cas', (b, o) => encodeCas(b, o, key, null, key)),
    refused,
  );
  t.same(
    ask('increment', (b, o) => encodeIncrement(b, o, key, 1)),
    refused,
  );
  t.same(run(store.machine, new Uint8Array([77]), 10, 'query'), new Uint8Array([3, 0]));
  t.same(run(store.machine, new Uint8Array(0), 10, 'query'), new Uint8Array([3, 1]));
  t.same(store.machine.snapshot(), before);
  t.end();
});

t.test('maxKeys and maxBytes', (t) => {
  const store = new Store({ maxKeys: 2 });
  store.put('a', '1');
  store.put('b', '1');
  t.same(store.put('c', '1'), { status: 'full' });
  t.same(store.cas('c', null, '1'), { status: 'full' });
  t.same(store.increment('c', 1), { status: 'full' });
  t.equal(store.value('c'), null);
  t.same(store.put('a', '22'), { status: 'ok' }, 'overwriting goes on');
  store.delete('b');
  t.same(store.put('c', '1'), { status: 'ok' }, 'a deleted key makes room');

  const small = new Store({ maxBytes: 100 });
  t.same(small.put('k', 'x'.repeat(67)), { status: 'ok' }, '32 + 1 + 67 bytes');
  t.equal(small.machine.contentBytes, 100);
  t.same(small.put('k', 'x'.repeat(68)), { status: 'full' });
  t.same(small.cas('k', 'x'.repeat(67), 'x'.repeat(68)), { status: 'full' });
  t.equal(small.value('k')?.length, 67, 'unchanged');
  t.same(small.put('k', 'x'.repeat(60)), { status: 'ok' });
  t.same(small.put('l', ''), { status: 'full' }, 'an entry costs 33 bytes at least');
  t.equal(small.machine.contentBytes, 93);

  const misspelt = { maxKey: 1 } as KvOptions;
  t.throws(() => new KvMachine(misspelt), {
    code: 'kv-option',
    category: 'caller',
    message: /unknown option "maxKey".*maxKeys/,
  });
  t.throws(() => new KvMachine({ maxKeys: 0 }), {
    code: 'kv-option',
    message: /maxKeys must be an integer from 1 .* not 0/,
  });
  t.throws(() => new KvMachine({ maxBytes: 1.5 }), { code: 'kv-option' });
  t.throws(() => new KvMachine({ expectedKeys: 2 ** 31 }), { code: 'kv-option' });
  t.end();
});

t.test('the codec refuses what is outside of the limits, naming limit and actual', (t) => {
  const target = new Uint8Array(KV_OPERATION_BYTES_MAX);
  const key = utf8('k');
  const longKey = new Uint8Array(KV_KEY_BYTES_MAX + 1);
  const longValue = new Uint8Array(KV_VALUE_BYTES_MAX + 1);
  const cases: [() => number, string, RegExp][] = [
    [() => encodeGet(target, 0, new Uint8Array(0)), 'kv-limit', /key of 0 bytes: a key has 1 to 1024/],
    [() => encodeDelete(target, 0, longKey), 'kv-limit', /key of 1025 bytes/],
    [() => encodePut(target, 0, key, longValue), 'kv-limit', /value of 32769 bytes: .* at most 32768/],
    [() => encodeCas(target, 0, key, longValue, null), 'kv-limit', /expected value of 32769/],
    [() => encodeCas(target, 0, key, null, longValue), 'kv-limit', /new value of 32769/],
    [() => encodeIncrement(target, 0, key, 0.5), 'kv-limit', /delta 0.5/],
    [() => encodeIncrement(target, 0, key, 2 ** 53), 'kv-limit', /bigint/],
    [() => encodeIncrement(target, 0, key, 2n ** 63n), 'kv-limit', /64-bit/],
    [() => encodeScan(target, 0, longKey, null, 1), 'kv-limit', /"from" of 1025/],
    [() => encodeScan(target, 0, key, longKey, 1), 'kv-limit', /"to" of 1025/],
    [() => encodeScan(target, 0, key, null, 0), 'kv-limit', /from 1 to 65535, not 0/],
    [() => encodeScan(target, 0, key, null, KV_SCAN_LIMIT_MAX + 1), 'kv-limit', /65536/],
    [
      () => encodePut(new Uint8Array(8), 2, key, key),
      'kv-buffer-too-small',
      /takes 7 bytes at offset 2, the buffer has 8/,
    ],
    [() => encodeGet(target, -1, key), 'kv-buffer-too-small', /offset -1/],
  ];
  for (const [encode, code, message] of cases) {
    t.throws(encode, { name: 'KvError', code, category: 'caller', retryable: false, message });
  }
  t.ok(
    target.every((byte) => byte === 0),
    'nothing was written',
  );
  const largest = encodeCas(
    target,
    0,
    new Uint8Array(KV_KEY_BYTES_MAX),
    new Uint8Array(KV_VALUE_BYTES_MAX),
    new Uint8Array(KV_VALUE_BYTES_MAX),
  );
  t.equal(largest, KV_OPERATION_BYTES_MAX);
  t.end();
});

t.test('results that are none are refused', (t) => {
  const cases: [KvOperationName, number[]][] = [
    ['get', [77]],
    ['get', [6]],
    ['put', [0, 1]],
    ['put', [1]],
    ['delete', [2]],
    ['cas', [1]],
    ['increment', [0, 1, 2]],
    ['increment', [2]],
    ['get', [3, 99]],
    ['get', [3, 0, 0]],
    ['get', [5, 1]],
    ['scan', [0]],
    ['scan', [0, 2, 0, 0]],
    ['scan', [0, 0, 0, 1]],
    ['scan', [0, 0, 0, 1, 0, 5, 0, 0, 1]],
    ['scan', [0, 0, 0, 0, 1]],
    ['get', [1, 1]],
  ];
  for (const [name, bytes] of cases) {
    t.throws(
      () => decodeResult(name, new Uint8Array(bytes), 0, bytes.length),
      { code: 'kv-result-malformed', category: 'environment' },
      `${name} ${bytes.join()}`,
    );
  }
  const buffer = Buffer.from([0, 65]);
  const result = decodeResult('get', buffer, 0, 2);
  buffer[1] = 66;
  t.same(result, { status: 'ok', value: new Uint8Array([65]) }, 'a copy, also of a Buffer');
  t.end();
});

/** Valid operations of every kind, to be damaged. */
function samples(): Uint8Array[] {
  const key = utf8('key');
  const value = utf8('value');
  return [
    encoded((b, o) => encodeGet(b, o, key)),
    encoded((b, o) => encodePut(b, o, key, value)),
    encoded((b, o) => encodeDelete(b, o, key)),
    encoded((b, o) => encodeCas(b, o, key, value, value)),
    encoded((b, o) => encodeCas(b, o, key, null, value)),
    encoded((b, o) => encodeIncrement(b, o, key, 5)),
    encoded((b, o) => encodeScan(b, o, key, value, 5)),
    encoded((b, o) => encodeScan(b, o, new Uint8Array(0), null, 5)),
  ];
}

t.test('damaged operations get bad-operation and change nothing', (t) => {
  const store = new Store();
  store.put('key', 'value');
  const before = store.machine.snapshot();
  for (const operation of samples()) {
    for (let length = 0; length < operation.length; length++) {
      const result = run(store.machine, operation.subarray(0, length));
      if (result[0] !== 3) t.fail(`prefix of ${length} bytes of opcode ${operation[0]}: status ${result[0]}`);
    }
    t.equal(run(store.machine, new Uint8Array([...operation, 0]))[0], 3, `opcode ${operation[0]} with a byte behind`);
  }
  const reason = (bytes: number[]): string => {
    const result = run(store.machine, new Uint8Array(bytes));
    const decoded = decodeResult('get', result, 0, result.length);
    return decoded.status === 'bad-operation' ? String(decoded.reason) : decoded.status;
  };
  t.equal(reason([]), 'length');
  t.equal(reason([0, 0, 1, 1]), 'opcode');
  t.equal(reason([7, 0, 1, 1]), 'opcode');
  t.equal(reason([1, 0, 0]), 'key-size');
  t.equal(reason([1, 4, 1]), 'key-size');
  t.equal(reason([1, 0, 2, 1]), 'length');
  t.equal(reason([2, 0, 1, 0x80, 1]), 'value-size');
  t.equal(reason([2, 0, 1, 0xff, 0xff, 1]), 'value-size', 'absent is no value of a put');
  t.equal(reason([4, 0, 1, 0x80, 1, 0, 0]), 'value-size');
  t.equal(reason([6, 0, 0, 255, 255, 0, 0]), 'scan-limit');
  t.equal(reason([6, 0, 0, 4, 1, 0, 1]), 'key-size');
  t.same(store.machine.snapshot(), before, 'nothing changed');
  t.end();
});

t.test('no bytes whatever make it throw', (t) => {
  const random = randomFrom(SEED);
  const machine = new KvMachine({ maxKeys: 50, maxBytes: 5000 });
  const twin = new KvMachine({ maxKeys: 50, maxBytes: 5000 });
  const valid = samples();
  for (let round = 0; round < 30_000; round++) {
    let bytes: Uint8Array;
    if (random(2) === 0) {
      bytes = Uint8Array.from({ length: random(40) }, () => random(256));
      if (bytes.length > 0 && random(3) > 0) bytes[0] = random(8);
    } else {
      bytes = valid[random(valid.length)]!.slice();
      for (let flips = random(4); flips >= 0; flips--) bytes[random(bytes.length)]! ^= 1 << random(8);
    }
    const capacity = random(4) === 0 ? random(30) : 2000;
    const result = run(machine, bytes, capacity);
    if (!Buffer.from(result).equals(Buffer.from(run(twin, bytes, capacity))))
      t.fail(`SEED=${SEED} round ${round}: twins differ`);
    run(machine, bytes, capacity, 'query');
  }
  t.same(machine.snapshot(), twin.snapshot(), `SEED=${SEED}`);
  t.ok(machine.keyCount > 0, 'some of it was valid');
  t.end();
});

/** The machine as a few lines over a Map with latin1 strings: what its replies must be, byte for byte. */
class Model {
  map = new Map<string, Buffer>();
  constructor(
    readonly maxKeys: number,
    readonly maxBytes: number,
  ) {}

  bytes(): number {
    let sum = 0;
    for (const [key, value] of this.map) sum += 32 + key.length + value.length;
    return sum;
  }
  put(key: string, value: Buffer): number[] {
    const old = this.map.get(key);
    const growth = old === undefined ? 32 + key.length + value.length : value.length - old.length;
    if (old === undefined && this.map.size >= this.maxKeys) return [6];
    if (growth > 0 && this.bytes() + growth > this.maxBytes) return [6];
    this.map.set(key, value);
    return [0];
  }
  cas(key: string, expected: Buffer | null, replacement: Buffer | null): number[] {
    const old = this.map.get(key) ?? null;
    if (expected === null ? old !== null : old === null || !old.equals(expected)) return [2];
    if (replacement !== null) return this.put(key, replacement);
    this.map.delete(key);
    return [0];
  }
  increment(key: string, delta: bigint): number[] {
    const old = this.map.get(key);
    if (old !== undefined && old.length !== 8) return [4];
    const value = Buffer.alloc(8);
    value.writeBigInt64BE(BigInt.asIntN(64, (old?.readBigInt64BE() ?? 0n) + delta));
    const status = this.put(key, value);
    return status[0] === 0 ? [0, ...value] : status;
  }
  scan(from: string, to: string | null, limit: number, capacity: number): number[] {
    const keys = [...this.map.keys()].sort().filter((key) => key >= from && (to === null || key < to));
    const result: number[] = [0, 0, 0, 0];
    let count = 0;
    for (const key of keys) {
      const value = this.map.get(key) as Buffer;
      const size = 4 + key.length + value.length;
      if (count === limit || result.length + size > capacity) {
        if (count === 0) return [5, ...u32(4 + size)];
        result[1] = 1;
        break;
      }
      result.push(
        key.length >> 8,
        key.length & 255,
        value.length >> 8,
        value.length & 255,
        ...Buffer.from(key, 'latin1'),
        ...value,
      );
      count++;
    }
    result[2] = count >> 8;
    result[3] = count & 255;
    return result;
  }
}

function u32(value: number): number[] {
  return [value >>> 24, (value >>> 16) & 255, (value >>> 8) & 255, value & 255];
}

t.test('random operations answer like a plain Map, through snapshots too', (t) => {
  for (let game = 0; game < 6; game++) {
    const random = randomFrom(SEED + game);
    const maxKeys = game === 0 ? 40 : 3000;
    const maxBytes = game === 1 ? 4000 : 1 << 20;
    const keySpace = [60, 60, 20, 4000, 1000, 8000][game]!;
    const largest = [20, 60, 3000, 30, 700, 8][game]!;
    let machine = new KvMachine({ maxKeys, maxBytes });
    const model = new Model(maxKeys, maxBytes);
    const aKey = (): string => {
      const number = random(keySpace);
      return random(50) === 0
        ? String.fromCharCode(number & 255).repeat(1 + (number % 300))
        : Buffer.from([number >> 8, number & 255, 200 - (number & 63)]).toString('latin1');
    };
    const aValue = (): Buffer => Buffer.alloc(random(5) === 0 ? random(largest) : 8, random(4));
    // The model's byte count walks over all entries; the larger games check it through contentBytes at the snapshots.
    const rounds = game < 3 ? 6000 : 5000;
    let mismatch = '';
    for (let round = 0; round < rounds && mismatch === ''; round++) {
      const key = aKey();
      const keyBytes = Buffer.from(key, 'latin1');
      const kind = random(100);
      let operation: Uint8Array;
      let expected: number[];
      let capacity = REPLY_CAPACITY;
      if (kind < 35) {
        const value = aValue();
        operation = encoded((b, o) => encodePut(b, o, keyBytes, value));
        expected = model.put(key, value);
      } else if (kind < 55) {
        operation = encoded((b, o) => encodeGet(b, o, keyBytes));
        const value = model.map.get(key);
        if (random(5) === 0) capacity = 5 + random(largest);
        expected =
          value === undefined ? [1] : value.length + 1 > capacity ? [5, ...u32(value.length + 1)] : [0, ...value];
      } else if (kind < 70) {
        operation = encoded((b, o) => encodeDelete(b, o, keyBytes));
        expected = [model.map.delete(key) ? 0 : 1];
      } else if (kind < 82) {
        const before = random(2) === 0 ? (model.map.get(key) ?? null) : random(3) === 0 ? null : aValue();
        const after = random(4) === 0 ? null : aValue();
        operation = encoded((b, o) => encodeCas(b, o, keyBytes, before, after));
        expected = model.cas(key, before, after);
      } else if (kind < 95) {
        const delta =
          random(2) === 0 ? BigInt(random(1000)) - 500n : BigInt.asIntN(64, BigInt(random(2 ** 31)) * 0x123456789abn);
        operation = encoded((b, o) => encodeIncrement(b, o, keyBytes, delta));
        expected = model.increment(key, delta);
      } else {
        const to = random(3) === 0 ? null : aKey();
        const limit = 1 + random(20);
        capacity = random(2) === 0 ? 8 + random(500) : REPLY_CAPACITY;
        operation = encoded((b, o) =>
          encodeScan(b, o, keyBytes, to === null ? null : Buffer.from(to, 'latin1'), limit),
        );
        expected = model.scan(key, to, limit, capacity);
      }
      const actual = run(machine, operation, capacity);
      if (!Buffer.from(actual).equals(Buffer.from(expected))) {
        mismatch = `round ${round}: opcode ${operation[0]} answered ${actual.slice(0, 40).join()}, the model ${expected.slice(0, 40).join()}`;
      }
      if (machine.keyCount !== model.map.size)
        mismatch = `round ${round}: ${machine.keyCount} keys, the model ${model.map.size}`;
      if (round % 1000 === 999) {
        if (machine.contentBytes !== model.bytes())
          mismatch = `round ${round}: ${machine.contentBytes} bytes, the model ${model.bytes()}`;
        const snapshot = machine.snapshot();
        const copy = snapshot.slice();
        // Restored into a machine that held something else.
        const other = new KvMachine({ maxKeys, maxBytes });
        run(
          other,
          encoded((b, o) => encodePut(b, o, utf8('to be forgotten'), utf8('x'))),
        );
        other.restore(snapshot);
        if (!Buffer.from(other.snapshot()).equals(Buffer.from(snapshot)))
          mismatch = `round ${round}: the snapshot of a restored machine differs`;
        if (random(2) === 0) machine = other;
        else
          run(
            other,
            encoded((b, o) => encodePut(b, o, keyBytes, utf8('changed'))),
          );
        if (!Buffer.from(copy).equals(Buffer.from(snapshot))) mismatch = 'a snapshot changed after it was taken';
      }
    }
    t.equal(mismatch, '', `SEED=${SEED} game ${game}`);
  }
  t.end();
});

t.test('a snapshot depends on the contents alone', (t) => {
  const random = randomFrom(SEED + 100);
  const entries = Array.from({ length: 2000 }, (_, i) => [`key ${i}`, `value ${random(1e9)}`] as const);
  const straight = new Store();
  for (const [key, value] of entries) straight.put(key, value);
  const winding = new Store({ expectedKeys: 10_000 });
  for (const [key] of entries) winding.put(key, 'x'.repeat(random(2000)));
  for (let i = 0; i < 1000; i++) winding.delete(`key ${random(3000)}`);
  for (let i = 0; i < 500; i++) winding.put(`other ${i}`, 'to go again');
  for (const [key, value] of [...entries].sort(() => random(3) - 1)) winding.put(key, value);
  for (let i = 0; i < 500; i++) winding.delete(`other ${i}`);
  t.ok(Buffer.from(winding.machine.snapshot()).equals(Buffer.from(straight.machine.snapshot())), `SEED=${SEED}`);
  t.same(new KvMachine().snapshot(), new Uint8Array([0x4b, 0x56, 0x53, 0x31, 0, 0, 0, 0]), 'an empty one');
  t.end();
});

t.test('restore refuses what is no snapshot and leaves the state alone', (t) => {
  const random = randomFrom(SEED + 200);
  const store = new Store({ maxKeys: 3, maxBytes: 200 });
  store.put('a', '1');
  store.put('b', '22');
  const good = store.machine.snapshot();
  const refuse = (bytes: Uint8Array, why: RegExp): void => {
    t.throws(() => store.machine.restore(bytes), {
      name: 'SnapshotError',
      code: 'snapshot-invalid',
      category: 'environment',
      message: why,
    });
    t.same(store.machine.snapshot(), good);
  };
  for (let length = 0; length < good.length; length++)
    refuse(good.slice(0, length), /less than a header|ends in entry/);
  refuse(new Uint8Array([...good, 0]), /1 bytes follow/);
  const changed = (at: number, value: number): Uint8Array => {
    const copy = good.slice();
    copy[at] = value;
    return copy;
  };
  refuse(changed(0, 1), /does not begin/);
  refuse(changed(7, 1), /follow the last/);
  refuse(changed(7, 4), /4 keys are more than maxKeys 3/);
  refuse(changed(9, 0), /key of 0 bytes/);
  refuse(changed(8, 5), /key of 1281 bytes/);
  refuse(changed(10, 0x90), /value of/);
  refuse(changed(12, 0x63), /not above the one before/);
  refuse(changed(12, 0x62), /not above the one before/);
  const large = new Store();
  large.put('k', 'x'.repeat(168));
  refuse(large.machine.snapshot(), /201 bytes of contents are more than maxBytes 200/);
  for (let round = 0; round < 2000; round++) {
    const bytes = good.slice();
    for (let flips = random(3); flips >= 0; flips--) bytes[random(bytes.length)]! ^= 1 << random(8);
    const machine = new KvMachine();
    try {
      machine.restore(bytes);
      if (!Buffer.from(machine.snapshot()).equals(Buffer.from(bytes)))
        t.fail(`SEED=${SEED} round ${round}: took a snapshot that it would not write`);
    } catch (error) {
      if ((error as { code?: string }).code !== 'snapshot-invalid') throw error;
      if (machine.keyCount !== 0) t.fail(`SEED=${SEED} round ${round}: refused, but changed`);
    }
  }
  t.end();
});

t.test('the order survives blocks that empty', (t) => {
  const store = new Store();
  store.put('only', 'one');
  store.delete('only');
  t.same(store.keys('', null, 10), [[], false]);
  t.equal(store.machine.snapshot().length, 8);
  // Ascending loads fill blocks of 512 whole, so the last one empties beside a full neighbour, and so does one in
  // between.
  const name = (i: number): string => `key ${String(i).padStart(5, '0')}`;
  for (let i = 0; i < 1540; i++) store.put(name(i), 'x');
  for (let i = 1539; i >= 1536; i--) store.delete(name(i));
  t.same(store.keys(name(1534), null, 10), [[name(1534), name(1535)], false]);
  for (let i = 512; i < 1024; i++) store.delete(name(i));
  t.same(store.keys(name(510), null, 4), [[name(510), name(511), name(1024), name(1025)], true]);
  store.put(name(700), 'x');
  t.same(store.keys(name(511), null, 3), [[name(511), name(700), name(1024)], true]);
  t.end();
});

t.test('memory is reclaimed on overwrite and delete', (t) => {
  const random = randomFrom(SEED + 300);
  const store = new Store();
  const sizes = [10, 5000, 200, 30_000, 1000];
  for (let round = 0; round < 12_000; round++)
    store.put(`k${random(300)}`, new Uint8Array(random(sizes[random(sizes.length)]!)));
  const { contentBytes, heldBytes } = store.machine;
  // A third garbage, in-place slack below half a record, and segments that are not full.
  t.ok(
    heldBytes < 4 * contentBytes + (2 << 20),
    `${heldBytes} bytes held for ${contentBytes} after ${12_000} overwrites of any size`,
  );
  for (let i = 0; i < 300; i++) store.put(`k${i}`, new Uint8Array(30_000));
  const full = store.machine.heldBytes;
  for (let i = 0; i < 300; i++) store.put(`k${i}`, new Uint8Array(1));
  for (let i = 10; i < 300; i++) store.delete(`k${i}`);
  t.ok(store.machine.heldBytes < full / 3, `${store.machine.heldBytes} bytes held when little is left, ${full} before`);
  for (let i = 0; i < 10; i++) t.equal(store.get(`k${i}`).status, 'ok');

  const mixed = new Store();
  for (let i = 0; i < 6000; i++) {
    mixed.put(`stays ${i}`, String(i).repeat(20));
    mixed.put(`changes ${i % 50}`, new Uint8Array(2000 + (i % 100)));
    mixed.put(`changes ${i % 50}`, new Uint8Array(10));
  }
  t.ok(
    mixed.machine.heldBytes < 3 * mixed.machine.contentBytes + (2 << 20),
    `${mixed.machine.heldBytes} bytes held for ${mixed.machine.contentBytes} where each segment has something that stays`,
  );
  for (let i = 0; i < 6000; i++)
    if (mixed.value(`stays ${i}`) !== String(i).repeat(20)) t.fail(`entry ${i} was damaged by moving`);
  t.end();
});

t.test('the drawing of the operations in kv-layout.ts is that of the table', (t) => {
  const source = readFileSync(new URL('../../../src/machine/kv-layout.ts', import.meta.url), 'utf8');
  const names = Object.keys(KV_OPERATIONS) as KvOperationName[];
  const drawn = [...source.matchAll(/^ \* {5}(\w+ +\| \d \| .*)$/gm)].map((match) => match[1]!);
  t.strictSame(
    drawn,
    names.map((name) => drawOperation(name, KV_OPERATIONS[name])),
  );
  t.equal(new Set(names.map((name) => KV_OPERATIONS[name].opcode)).size, names.length, 'opcodes are distinct');
  t.end();
});
