/**
 * Interprets an input of the fuzzer: a list of calls of the addon, with arguments that are right, nearly right, or
 * entirely wrong, followed by the kernel's answers. Started by scripts/fuzz-native.mjs, once per run.
 *
 * The rule that is checked here: however it is called, the addon answers or throws an Error. Findings of the sanitizers
 * (memory, undefined behaviour) end the process by themselves.
 */
import { createRequire } from 'node:module';
import { join } from 'node:path';

const [addonPath, directory, ...fuzzerArguments] = process.argv.slice(2);
const addon = createRequire(import.meta.url)(addonPath);

const COUNTERS = ['datagrams_received', 'bytes_received', 'datagrams_sent', 'bytes_sent', 'datagrams_fragmented', 'send_errors', 'receive_errors', 'endpoint_unknown', 'endpoints_evicted', 'spins_paid', 'spins_wasted'];
/** Objects of each kind that are kept alive; the oldest leaves. */
const KEPT = 4;
/** Inputs between two collections, so that finalizers are fuzzed as well. */
const COLLECT_EVERY = 512;
const CALLS_MAX = 48;

let input;
let end = 0;
let at = 0;
let inputs = 0;
const phcs = [];
const disciplines = [];
const timers = [];
const ports = [];
const slots = [0];
const ids = Object.values(addon.systemClocks);
/** Connected to itself: it receives what it sends. */
const unix = new addon.UnixDatagram(join(directory, 'datagram'), join(directory, 'datagram'));

const byte = () => (at < end ? input[at++] : 0);
const below = (n) => byte() % n;
const int32 = () => byte() | (byte() << 8) | (byte() << 16) | (byte() << 24);
const pick = (list) => list[below(list.length)];

/** Usually a number where a whole one is expected. */
function number(limit) {
  switch (below(12)) {
    case 0: return -1;
    case 1: return 0.5;
    case 2: return NaN;
    case 3: return 2 ** 53;
    case 4: return int32();
    case 5: return pick([Infinity, 2 ** 32, 2 ** 31, -(2 ** 31), 2 ** 53 - 1, 65_536]);
    case 6: return pick(['1', undefined, null, {}, 1n, true]);
    default: return below(limit + 2);
  }
}

/** A Uint8Array, mostly. */
function bytes() {
  switch (below(10)) {
    case 0: return pick([undefined, null, 'text', {}, 3, new Float64Array(4), new Int32Array(4), new DataView(new ArrayBuffer(8))]);
    case 1: return new Uint8Array(new SharedArrayBuffer(32));
    case 2: {
      const gone = new Uint8Array(64);
      structuredClone(gone.buffer, { transfer: [gone.buffer] });
      return gone;
    }
    case 3: return new Uint8Array(0);
    case 4: return new Uint8Array(new ArrayBuffer(64), below(32), below(32));
    default: return new Uint8Array(below(200)).fill(byte());
  }
}

function bigints(length) {
  if (below(12) === 0) return pick([undefined, [], new BigInt64Array(length - 1), new Uint8Array(48)]);
  const array = new BigInt64Array(length);
  for (let i = 0; i < length; i++) array[i] = (BigInt(int32()) << 32n) | BigInt(int32() >>> 0);
  return array;
}

function host() {
  return pick(['127.0.0.1', '::1', '0.0.0.0', '::', 'fe80::1%lo', 'fe80::1%4294967295', 'localhost', '', '1.2.3', '0x7f.1', '127.0.0.1\0x', ':::', `${'1'.repeat(300)}`, undefined, 5, String.fromCharCode(byte(), byte(), byte(), byte())]);
}

function keep(list, made) {
  list.push(made);
  if (list.length > KEPT) {
    const old = list.shift();
    // Half are closed, half are left to the collector.
    if (below(2) === 0) old.close();
  }
}

function newPort() {
  const port = new addon.UdpPort({
    hosts: Array.from({ length: below(4) }, host),
    ports: Array.from({ length: below(4) }, () => number(65_535)),
    endpoints: pick([1, 2, 4, 64, 3, 0, number(8)]),
    transmitBytes: pick([1, 100, 5_000, 0, number(200)]),
    sends: pick([1, 4, 64, 0, number(8)]),
    datagramBytes: number(1_432),
    idle: below(4),
    spinNs: pick([0, 1_000, 50_000, -1, '1', undefined]),
    counters: below(8) === 0 ? COUNTERS.slice(below(11)) : COUNTERS,
  });
  keep(ports, port);
  return port;
}

/** An open port that knows two replicas, neither of which exists. */
function goodPort() {
  const port = new addon.UdpPort({ hosts: ['127.0.0.1', '::1'], ports: [9, 9], endpoints: 4, transmitBytes: 2_000, sends: 16, datagramBytes: 500, idle: below(3), spinNs: 1_000, counters: COUNTERS });
  port.start(
    () => onBatch(port),
    () => undefined,
    () => undefined,
    () => below(4) === 0 && port.close(),
  );
  port.bind(pick(['127.0.0.1', '::1']), 0, 4_096, 4_096);
  keep(ports, port);
}

function onBatch(port) {
  const { state, entries, received } = port;
  for (; state[3] < state[2]; state[3]++) {
    const field = state[3] * 3;
    const length = entries[field + 1];
    if (length < 0 || entries[field] + length > received.length) throw new Error(`entry ${state[3]}: ${length} bytes at ${entries[field]} of ${received.length}`);
    if (below(4) === 0) call(() => port.intern(number(state[2])));
  }
  state[3]++;
  state[1] = below(2);
  if (below(16) === 0) port.close();
}

/** Throws if something other than an Error is thrown: the addon must not let anything else out. */
function call(what) {
  try {
    return what();
  } catch (error) {
    if (!(error instanceof Error) || error.message.startsWith('entry ')) throw error;
    return undefined;
  }
}

const CALLS = [
  () => addon.hash64(bytes(), number(64), number(64), bytes(), number(64)),
  () => addon.sipHash64(below(4) === 0 ? bytes() : new Uint8Array(16), bytes(), number(64), number(64), bytes(), number(64)),
  () => slots.push(addon.hmacOpen(below(3) === 0 ? bytes() : new Uint8Array(32))),
  () => addon.hmac128(below(3) === 0 ? number(8) : pick(slots), bytes(), number(64), number(64), bytes(), number(64)),
  () => addon.hmacClose(slots.length > 64 ? slots.shift() : number(64)),
  () => addon.clockReadBigInt(below(3) === 0 ? number(64) : pick(ids)),
  () => addon.clockWriteBE(below(3) === 0 ? number(64) : pick(ids), bytes(), number(64)),
  () => addon.clockWriteHalves(below(3) === 0 ? number(64) : pick(ids), pick([new Int32Array(4), bytes(), new Int32Array(1)]), number(4)),
  () => keep(phcs, new addon.PhcHandle(pick(['/dev/null', '/dev/null', '/dev/null', '', '/nowhere', '/dev/null\0x', 5]))),
  () => addon.clockReadBigInt(phcs[0]?.id),
  () => pick(phcs)?.sample(number(4), number(25), bigints(3)),
  () => pick(phcs)?.sample(1 + below(4), 1 + below(25), new BigInt64Array(3)),
  () => pick(phcs)?.capabilities(),
  () => keep(disciplines, new addon.DisciplinedClock()),
  () => pick(disciplines)?.set(bigints(6)),
  () => addon.clockReadBigInt(pick(disciplines)?.id),
  () => addon.kernelClock(),
  () => new addon.UnixDatagram(pick(['', 'a'.repeat(byte()), 'x\0y', undefined]), pick(['', 'b'.repeat(byte()), undefined])).close(),
  () => unix.send(bytes()),
  () => unix.receive(bytes()),
  () => newPort(),
  () => goodPort(),
  () => pick(ports)?.start(...Array.from({ length: below(6) }, () => pick([() => undefined, () => undefined, undefined]))),
  () => pick(ports)?.bind(pick(['127.0.0.1', '::1', '127.0.0.1\0', 'x', undefined]), pick([0, 0, 0, number(0)]) === 0 ? 0 : 'x', number(100_000), number(100_000)),
  () => pick(ports)?.bufferBytes(number(6), pick(['send', 'receive', undefined, 3])),
  () => pick(ports)?.endpointOf(host(), number(65_535)),
  () => pick(ports)?.readdress(number(4), host(), number(65_535)),
  () => pick(ports)?.intern(number(32)),
  () => {
    const port = pick(ports);
    if (port === undefined) return;
    const { sends, state } = port;
    for (let i = Math.min(sends.length, 3 * below(17)) - 1; i >= 0; i--) sends[i] = below(3) === 0 ? int32() : below(64);
    if (below(8) === 0) state[pick([0, 1, 4, 5])] = int32();
    port.flush(below(3) === 0 ? number(17) : Math.floor(sends.length / 3));
  },
  () => pick(ports)?.close(),
  () => keep(timers, new addon.Timer(below(8) === 0 ? undefined : () => undefined)),
  () => {
    const timer = pick(timers);
    if (timer === undefined) return;
    timer.at[0] = pick([0, -1, NaN, Infinity, 1, 9e18, 1e19, Number(process.hrtime.bigint()) + int32()]);
    timer.arm();
  },
  () => pick(timers)?.disarm(),
  () => pick(timers)?.close(),
  () => addon.turn(),
];

addon.fuzz(fuzzerArguments, (given, length) => {
  input = given;
  // A third of the bytes are calls, the rest the kernel's answers.
  end = Math.ceil(length / 3);
  at = 0;
  addon.kernel(given, end, length);
  for (let calls = 0; at < end && calls < CALLS_MAX; calls++) call(CALLS[byte() % CALLS.length]);
  addon.turn();
  if (++inputs % COLLECT_EVERY === 0) {
    globalThis.gc();
    addon.turn();
  }
});
