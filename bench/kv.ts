/**
 * The key-value machine alone, without network: operations a second and heap bytes per operation on one core.
 *
 *     node --expose-gc dist/bench/kv.js [--keys 100000] [--key-bytes 16] [--value-bytes 64] [--seconds 1] [--json]
 *
 * Every operation is encoded by the codec and applied, as a replica would. Times are processor time, because other load
 * on the host would show in those of the wall clock. `map` is the obvious alternative, a Map with
 * latin1 string keys and copied values, doing the same gets and puts.
 *
 * `undo:` is as at a primary: what is not committed, here the last 512 to 1,024 operations, can be undone. `store:` is
 * level 1 with the same, on a machine of its own; an operation a microsecond, and a key with an end in 16.
 */
import { parseArgs } from 'node:util';
import { encodeCas, encodeDelete, encodeGet, encodeIncrement, encodePut, encodeScan } from '../src/machine/kv-codec.js';
import { KvMachine } from '../src/machine/kv.js';
import { encodeGrant, encodeRead, encodeRenew, encodeTransaction, encodeWrite } from '../src/machine/store/codec.js';
import { RESULT_BYTES } from '../src/machine/store/layout.js';
import { readIndex } from '../src/wire/u64.js';

interface Row {
  operation: string;
  operations: number;
  opsPerSecond: number;
  nsPerOperation: number;
  heapBytesPerOperation: number;
}

const { values: flags } = parseArgs({
  options: {
    keys: { type: 'string', default: '100000' },
    'key-bytes': { type: 'string', default: '16' },
    'value-bytes': { type: 'string', default: '64' },
    seconds: { type: 'string', default: '1' },
    json: { type: 'boolean', default: false },
  },
});
const keyCount = positive('keys', flags.keys, 1e7);
const keyBytes = positive('key-bytes', flags['key-bytes'], 1024);
const valueBytes = positive('value-bytes', flags['value-bytes'], 32 * 1024);
const secondsEach = positive('seconds', flags.seconds, 3600);
if (keyBytes < 8) throw new RangeError('--key-bytes must be at least 8');

const context = { timestampHi: 0, timestampLo: 0, index: 0 };
const operation = { bytes: new Uint8Array(70_000), offset: 0, length: 0 };
const reply = { bytes: new Uint8Array(60_000), offset: 0, capacity: 60_000, length: 0 };
const key = Buffer.alloc(keyBytes, 'k');
const value = new Uint8Array(valueBytes).fill(7);
const otherValue = new Uint8Array(valueBytes).fill(8);
const numberKey = new Uint8Array(keyBytes).fill(35);
let random = 1;
const PLAIN = {};
const ENDING = { ttl: 3_600_000 };
const LEASED = { lease: 0 };

let machine = new KvMachine({ maxKeys: Math.max(keyCount * 2, 1024), maxBytes: 2 ** 30, expectedKeys: keyCount });
const rows: Row[] = [];

let loaded = 0;
rows.push(
  measure(
    'load (new keys)',
    () => {
      setKey(loaded++);
      operation.length = encodePut(operation.bytes, 0, key, value);
      machine.apply(operation, context, reply);
    },
    keyCount,
  ),
);
rows.push(measure('get', get));
rows.push(measure('put', put));
rows.push(measure('get 50 %, put 50 %', () => ((nextRandom() & 64) === 0 ? get() : put())));
rows.push(
  measure('cas', () => {
    setKey(nextRandom() % keyCount);
    operation.length = encodeCas(operation.bytes, 0, key, value, value);
    machine.apply(operation, context, reply);
  }),
);
rows.push(
  measure('increment', () => {
    operation.length = encodeIncrement(operation.bytes, 0, numberKey, 1);
    machine.apply(operation, context, reply);
  }),
);
rows.push(
  measure('delete, put', () => {
    setKey(nextRandom() % keyCount);
    operation.length = encodeDelete(operation.bytes, 0, key);
    machine.apply(operation, context, reply);
    operation.length = encodePut(operation.bytes, 0, key, otherValue);
    machine.apply(operation, context, reply);
  }),
);
rows.push(
  measure('scan of 10', () => {
    setKey(nextRandom() % keyCount);
    operation.length = encodeScan(operation.bytes, 0, key, null, 10);
    machine.query(operation, context, reply);
  }),
);

rows.push(measure('undo: put', () => asPrimary(put)));
const { heldBytes } = machine;

machine = new KvMachine({ maxKeys: Math.max(keyCount * 2, 1024), maxBytes: 2 ** 30, expectedKeys: keyCount });
machine.raise(1);
context.index = 0;
const lease = (LEASED.lease = granted());
for (let i = 0; i < keyCount; i++) {
  setKey(i);
  write(i % 16 === 0 ? { ttl: 3_600_000 } : {});
}
rows.push(
  measure('store: read', () => {
    setKey(nextRandom() % keyCount);
    operation.length = encodeRead(operation.bytes, 0, key);
    machine.query(operation, context, reply);
  }),
);
rows.push(measure('store: put of level 0', () => asPrimary(put)));
rows.push(measure('store: write', () => asPrimary(writePlain)));
rows.push(measure('store: write, ttl', () => asPrimary(writeEnding)));
rows.push(measure('store: write, lease', () => asPrimary(writeLeased)));
operation.length = encodeRenew(operation.bytes, 0, [lease]);
rows.push(measure('store: renew', () => asPrimary(again)));
const [first, second, third] = [0, 1, 2].map((i) => {
  setKey(i);
  return new Uint8Array(key);
});
operation.length = encodeTransaction(operation.bytes, 0, {
  if: [{ key: first!, present: true }],
  do: [{ put: first!, value }, { put: second!, value }, { get: third! }],
  else: [],
});
rows.push(measure('store: transact, 3 keys', () => asPrimary(again)));

const map = new Map<string, Uint8Array>();
for (let i = 0; i < keyCount; i++) {
  setKey(i);
  map.set(key.toString('latin1'), value.slice());
}
rows.push(
  measure('map: get 50 %, put 50 %', () => {
    setKey(nextRandom() % keyCount);
    const stored = map.get(key.toString('latin1')) as Uint8Array;
    if ((random & 64) === 0) reply.bytes.set(stored, 1);
    else stored.set(value);
  }),
);

if (flags.json) {
  console.log(
    JSON.stringify({
      schema: 'jitpaxos.bench-kv/1',
      keys: keyCount,
      keyBytes,
      valueBytes,
      heldBytes,
      node: process.version,
      rows,
    }),
  );
} else {
  console.log(
    `${keyCount} keys of ${keyBytes} bytes, values of ${valueBytes} bytes; ${(heldBytes / 2 ** 20).toFixed(1)} MiB in segments`,
  );
  if (globalThis.gc === undefined) console.log('(run with --expose-gc for steadier heap figures)');
  for (const row of rows) {
    console.log(
      `${row.operation.padEnd(24)} ${Math.round(row.opsPerSecond).toLocaleString('en').padStart(12)} ops/s ${row.nsPerOperation.toFixed(0).padStart(7)} ns ${row.heapBytesPerOperation.toFixed(2).padStart(9)} heap bytes/op`,
    );
  }
}

function get(): void {
  setKey(nextRandom() % keyCount);
  operation.length = encodeGet(operation.bytes, 0, key);
  machine.apply(operation, context, reply);
}

function put(): void {
  setKey(nextRandom() % keyCount);
  operation.length = encodePut(operation.bytes, 0, key, value);
  machine.apply(operation, context, reply);
}

/** Applies the operation that is encoded already. */
function again(): void {
  machine.apply(operation, context, reply);
}

function write(hold: { readonly ttl?: number; readonly lease?: number }): void {
  operation.length = encodeWrite(operation.bytes, 0, key, value, hold);
  machine.apply(operation, context, reply);
}

function writePlain(): void {
  setKey(nextRandom() % keyCount);
  write(PLAIN);
}

function writeEnding(): void {
  setKey(nextRandom() % keyCount);
  write(ENDING);
}

function writeLeased(): void {
  setKey(nextRandom() % keyCount);
  write(LEASED);
}

function granted(): number {
  operation.length = encodeGrant(operation.bytes, 0, 3_600_000);
  machine.apply(operation, context, reply);
  return readIndex(reply.bytes, RESULT_BYTES);
}

/** The next entry of the log; entries are committed in groups. */
function asPrimary(run: () => void): void {
  context.index++;
  if ((context.index & 511) === 0) machine.committedTo(context.index - 512);
  else if (context.index === 1) machine.committedTo(0);
  const ns = context.index * 1000;
  context.timestampHi = Math.floor(ns / 2 ** 32) | 0;
  context.timestampLo = ns | 0;
  run();
}

/** Scrambled, so that consecutive keys are not neighbours in key order. */
function setKey(index: number): void {
  const scrambled = Math.imul(index, 0x9e3779b1);
  for (let i = 0; i < 4; i++) {
    key[i] = scrambled >>> (24 - i * 8);
    key[i + 4] = index >>> (24 - i * 8);
  }
}

function nextRandom(): number {
  random ^= random << 13;
  random ^= random >>> 17;
  random ^= random << 5;
  return random >>> 1;
}

/**
 * Runs for about `--seconds`, or `exactly` this often. The new space is drained first; later growth is due to the
 * operations.
 */
function measure(name: string, run: () => void, exactly?: number): Row {
  const batch = 5_000;
  if (exactly === undefined) for (let i = 0; i < batch * 4; i++) run();
  globalThis.gc?.();
  let operations = 0;
  let heapBytes = 0;
  const start = process.cpuUsage();
  let elapsedNs = 0;
  while (exactly === undefined ? elapsedNs < secondsEach * 1e9 : operations < exactly) {
    const size = exactly === undefined ? batch : Math.min(batch, exactly - operations);
    const before = process.memoryUsage().heapUsed;
    for (let i = 0; i < size; i++) run();
    // A collection within the batch makes the difference negative; such a batch is ignored.
    heapBytes += Math.max(0, process.memoryUsage().heapUsed - before);
    operations += size;
    const { user, system } = process.cpuUsage(start);
    elapsedNs = (user + system) * 1000;
  }
  return {
    operation: name,
    operations,
    opsPerSecond: (operations * 1e9) / elapsedNs,
    nsPerOperation: elapsedNs / operations,
    heapBytesPerOperation: heapBytes / operations,
  };
}

function positive(name: string, text: string, max: number): number {
  const value = Number(text);
  if (Number.isFinite(value) && value > 0 && value <= max) return value;
  throw new RangeError(`--${name} must be a number above 0 and at most ${max}, not "${text}"`);
}
