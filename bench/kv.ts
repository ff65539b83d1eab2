/**
 * The key-value machine alone, without network: operations a second and heap bytes per operation on one core.
 *
 *     node --expose-gc dist/bench/kv.js [--keys 100000] [--key-bytes 16] [--value-bytes 64] [--seconds 1] [--json]
 *
 * Every operation is encoded by the codec and applied, as a replica would. `map` is the obvious alternative, a Map with
 * latin1 string keys and copied values, doing the same gets and puts.
 */
import { parseArgs } from 'node:util';
import { encodeCas, encodeDelete, encodeGet, encodeIncrement, encodePut, encodeScan } from '../src/machine/kv-codec.js';
import { KvMachine } from '../src/machine/kv.js';

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

const machine = new KvMachine({ maxKeys: Math.max(keyCount * 2, 1024), maxBytes: 2 ** 30, expectedKeys: keyCount });
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
      heldBytes: machine.heldBytes,
      node: process.version,
      rows,
    }),
  );
} else {
  console.log(
    `${keyCount} keys of ${keyBytes} bytes, values of ${valueBytes} bytes; ${(machine.heldBytes / 2 ** 20).toFixed(1)} MiB in segments`,
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
  const start = process.hrtime.bigint();
  let elapsedNs = 0;
  while (exactly === undefined ? elapsedNs < secondsEach * 1e9 : operations < exactly) {
    const size = exactly === undefined ? batch : Math.min(batch, exactly - operations);
    const before = process.memoryUsage().heapUsed;
    for (let i = 0; i < size; i++) run();
    // A collection within the batch makes the difference negative; such a batch is ignored.
    heapBytes += Math.max(0, process.memoryUsage().heapUsed - before);
    operations += size;
    elapsedNs = Number(process.hrtime.bigint() - start);
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
