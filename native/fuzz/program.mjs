/**
 * Interprets an input of the fuzzer: a list of calls of the addon, with arguments that are right, nearly right, or
 * entirely wrong, followed by the kernel's answers. Started by scripts/fuzz-native.mjs, once per run.
 *
 * The rule that is checked here: however it is called, the addon answers or throws an Error. Findings of the sanitizers
 * (memory, undefined behaviour) end the process by themselves.
 *
 * Every function that the addon exports has a call here, and a well-formed call works: both are checked at the start,
 * because calls that are always refused would find nothing. With the shipped addon that is all that is done
 * (test/native/fuzz-program.test.ts).
 */
import { createRequire } from 'node:module';
import { join } from 'node:path';

const [addonPath, directory, ...fuzzerArguments] = process.argv.slice(2);
const addon = createRequire(import.meta.url)(addonPath);

const COUNTERS = ['datagrams_received', 'bytes_received', 'datagrams_sent', 'bytes_sent', 'datagrams_fragmented', 'datagrams_segmented', 'send_errors', 'receive_errors', 'endpoint_unknown', 'endpoints_evicted', 'strangers_dropped', 'spins_paid', 'spins_wasted'];
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
const unixes = [];
const slots = [0];
const tables = [];
const arenas = [];
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

/** Where nonce, tag, head, tail and body of a datagram lie, as in version 5 of the wire. */
const FRAME = Uint8Array.of(8, 12, 20, 8, 36, 4, 40);

/** Whole numbers that fit 100 bytes, mostly. */
const range = () => (below(4) === 0 ? [number(64), number(200)] : [below(20), below(80)]);

/** One `struct sock_filter` after another: code, jt, jf, k. */
function filter() {
  const instructions = pick([0, 1, 2, 7, 4_096, 4_097]);
  const program = new Uint8Array(8 * instructions + pick([0, 0, 0, 3]));
  for (let i = 0; i < Math.min(program.length, 64); i++) program[i] = byte();
  // BPF_RET | BPF_K at the end: the kernel takes nothing else.
  if (instructions > 0) program.set([6, 0, 0, 0, byte(), 0, 0, 0], 8 * (instructions - 1));
  return program;
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
    replicas: pick([0, 1, 2, number(4)]),
    endpoints: pick([1, 2, 4, 64, 3, 0, number(8)]),
    transmitBytes: pick([1, 100, 5_000, 0, number(200)]),
    sends: pick([1, 4, 64, 0, number(8)]),
    datagramBytes: number(1_432),
    idle: below(4),
    spinNs: pick([0, 1_000, 50_000, -1, '1', undefined]),
    filter: pick([undefined, undefined, filter(), bytes()]),
    strangersAtOnce: pick([0, 1, 128, -1, number(200)]),
    strangersPerSecond: pick([0, 1, 20_000, 2 ** 31 - 1, 2 ** 31, undefined]),
    counters: below(8) === 0 ? COUNTERS.slice(below(13)) : COUNTERS,
  });
  keep(ports, port);
  return port;
}

/** An open port that knows two addresses at which nobody is. */
function goodPort() {
  const port = new addon.UdpPort({ hosts: ['127.0.0.1', '::1', ''], ports: [9, 9, 0], replicas: below(4), endpoints: 4, transmitBytes: 2_000, sends: 16, datagramBytes: 500, idle: below(3), spinNs: 1_000, strangersAtOnce: below(8), strangersPerSecond: pick([0, 1, 2 ** 31 - 1]), counters: COUNTERS });
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

/** By function: `name`, or `Class.method`. */
const CALLS_BY_NAME = {
  hash64: [() => addon.hash64(bytes(), number(64), number(64), bytes(), number(64))],
  sipHash64: [() => addon.sipHash64(below(4) === 0 ? bytes() : new Uint8Array(16), bytes(), number(64), number(64), bytes(), number(64))],
  hashArena: [
    () => arenas.push(addon.hashArena(below(3) === 0 ? number(200) : 100, pick([undefined, new Uint8Array(16), bytes()]))),
    () => {
      const arena = arenas.length > KEPT ? arenas.shift() : arenas[0];
      arena?.fields.set(below(4) === 0 ? [int32(), int32()] : [below(50), below(52)]);
      arena?.hash();
    },
  ],
  aeadTable: [
    () => {
      const memory = pick([undefined, undefined, bytes(), arenas[0]?.bytes]);
      const table = addon.aeadTable(below(3) === 0 ? bytes() : Uint8Array.from(FRAME, (at) => (below(8) === 0 ? byte() : at)), pick([true, false, true, false, 1]), memory);
      tables.push({ ...table, slots: [-1] });
      if (tables.length > KEPT) tables.shift();
    },
    () => {
      const table = pick(tables);
      table?.slots.push(table.setKey(below(3) === 0 ? number(4) : pick(table.slots), below(3) === 0 ? bytes() : new Uint8Array(16).fill(byte())));
      if (table?.slots.length > 8) table.slots.splice(1, 1);
    },
    () => {
      const table = pick(tables);
      table?.run(below(4) === 0 ? number(4) : pick(table.slots), bytes(), number(64), number(200));
    },
    () => {
      const table = pick(tables);
      table?.run(pick(table.slots), new Uint8Array(100).fill(byte()), ...range());
    },
    () => {
      const table = pick(tables);
      table?.fields.set(below(4) === 0 ? [int32(), int32(), int32()] : [pick(table.slots), below(50), below(52) + 40]);
      table?.runInMemory();
    },
    () => {
      const table = pick(tables);
      table?.forget(below(4) === 0 ? number(4) : pick(table.slots));
    },
  ],
  hmacOpen: [() => slots.push(addon.hmacOpen(below(3) === 0 ? bytes() : new Uint8Array(32)))],
  hmac128: [() => addon.hmac128(below(3) === 0 ? number(8) : pick(slots), bytes(), number(64), number(64), bytes(), number(64))],
  hmacClose: [() => addon.hmacClose(slots.length > 64 ? slots.shift() : number(64))],
  clockReadBigInt: [() => addon.clockReadBigInt(below(3) === 0 ? number(64) : pick(ids)), () => addon.clockReadBigInt(phcs[0]?.id), () => addon.clockReadBigInt(pick(disciplines)?.id)],
  clockWriteBE: [() => addon.clockWriteBE(below(3) === 0 ? number(64) : pick(ids), bytes(), number(64))],
  clockWriteHalves: [() => addon.clockWriteHalves(below(3) === 0 ? number(64) : pick(ids), pick([new Int32Array(4), bytes(), new Int32Array(1)]), number(4))],
  PhcHandle: [() => keep(phcs, new addon.PhcHandle(pick(['/dev/null', '/dev/null', '/dev/null', '', '/nowhere', '/dev/null\0x', 5])))],
  'PhcHandle.sample': [() => pick(phcs)?.sample(number(4), number(25), bigints(3)), () => pick(phcs)?.sample(1 + below(4), 1 + below(25), new BigInt64Array(3))],
  'PhcHandle.capabilities': [() => pick(phcs)?.capabilities()],
  'PhcHandle.close': [() => pick(phcs)?.close()],
  DisciplinedClock: [() => keep(disciplines, new addon.DisciplinedClock())],
  'DisciplinedClock.set': [() => pick(disciplines)?.set(bigints(6))],
  'DisciplinedClock.close': [() => pick(disciplines)?.close()],
  kernelClock: [() => addon.kernelClock()],
  UnixDatagram: [() => keep(unixes, new addon.UnixDatagram(pick(['', 'a'.repeat(byte()), 'x\0y', undefined]), pick(['', 'b'.repeat(byte()), undefined])))],
  'UnixDatagram.send': [() => unix.send(bytes()), () => pick(unixes)?.send(bytes())],
  'UnixDatagram.receive': [() => unix.receive(bytes()), () => pick(unixes)?.receive(bytes())],
  'UnixDatagram.close': [() => pick(unixes)?.close()],
  UdpPort: [() => newPort(), () => goodPort()],
  'UdpPort.start': [() => pick(ports)?.start(...Array.from({ length: below(6) }, () => pick([() => undefined, () => undefined, undefined])))],
  'UdpPort.bind': [() => pick(ports)?.bind(pick(['127.0.0.1', '::1', '127.0.0.1\0', 'x', undefined]), pick([0, 0, 0, number(0)]) === 0 ? 0 : 'x', number(100_000), number(100_000))],
  'UdpPort.bufferBytes': [() => pick(ports)?.bufferBytes(number(6), pick(['send', 'receive', undefined, 3]))],
  'UdpPort.endpointOf': [() => pick(ports)?.endpointOf(host(), number(65_535))],
  'UdpPort.readdress': [() => pick(ports)?.readdress(number(4), pick([host(), '']), number(65_535))],
  'UdpPort.noteReplica': [() => pick(ports)?.noteReplica(number(32), number(4))],
  'UdpPort.kernelDrops': [() => pick(ports)?.kernelDrops()],
  'UdpPort.filtered': [() => pick(ports)?.filtered()],
  'UdpPort.intern': [() => pick(ports)?.intern(number(32))],
  'UdpPort.flush': [
    () => {
      const port = pick(ports);
      if (port === undefined) return;
      const { sends, state } = port;
      for (let i = Math.min(sends.length, 3 * below(17)) - 1; i >= 0; i--) sends[i] = below(3) === 0 ? int32() : below(64);
      if (below(8) === 0) state[pick([0, 1, 4, 5])] = int32();
      port.flush(below(3) === 0 ? number(17) : Math.floor(sends.length / 3));
    },
  ],
  'UdpPort.close': [() => pick(ports)?.close()],
  Timer: [() => keep(timers, new addon.Timer(below(8) === 0 ? undefined : () => undefined))],
  'Timer.arm': [
    () => {
      const timer = pick(timers);
      if (timer === undefined) return;
      timer.at[0] = pick([0, -1, NaN, Infinity, 1, 9e18, 1e19, Number(process.hrtime.bigint()) + int32()]);
      timer.arm();
    },
  ],
  'Timer.disarm': [() => pick(timers)?.disarm()],
  'Timer.close': [() => pick(timers)?.close()],
  // Of the harness.
  turn: [() => addon.turn()],
};
const CALLS = Object.values(CALLS_BY_NAME).flat();

/** Ends the run if a function has no call, or if a well-formed call is refused. */
function checkCalls() {
  const exported = Object.entries(addon).flatMap(([name, value]) => {
    if (typeof value !== 'function') return [];
    const methods = Object.entries(Object.getOwnPropertyDescriptors(value.prototype ?? {}));
    return [name, ...methods.filter(([key, { value }]) => key !== 'constructor' && typeof value === 'function').map(([key]) => `${name}.${key}`)];
  });
  const missing = exported.filter((name) => !['fuzz', 'kernel'].includes(name) && CALLS_BY_NAME[name] === undefined);
  if (missing.length > 0) throw new Error(`fuzz-incomplete: ${missing.join(', ')} of the addon has no call in native/fuzz/program.mjs`);
  goodPort();
  ports.pop().close();
  unix.send(new Uint8Array(8));
  if (unix.receive(new Uint8Array(8)) !== 8) throw new Error('fuzz-incomplete: the datagram socket does not receive what it sent');
  addon.hashArena(100, new Uint8Array(16)).hash();
  const datagram = addon.hashArena(100).bytes;
  for (const seals of [true, false]) {
    const { setKey, fields, runInMemory, run } = addon.aeadTable(FRAME, seals, datagram);
    const slot = setKey(-1, new Uint8Array(16));
    fields.set([slot, 0, 100]);
    if (seals) runInMemory();
    else if (!run(slot, datagram, 0, 100)) throw new Error('fuzz-incomplete: a sealed datagram does not open');
  }
}

function one(given, length) {
  input = given;
  // A third of the bytes are calls, the rest the kernel's answers.
  end = Math.ceil(length / 3);
  at = 0;
  addon.kernel(given, end, length);
  for (let calls = 0; at < end && calls < CALLS_MAX; calls++) call(pick(CALLS));
  addon.turn();
  if (++inputs % COLLECT_EVERY === 0) {
    globalThis.gc();
    addon.turn();
  }
}

checkCalls();
if (addon.fuzz === undefined) console.log('every function has a call');
else addon.fuzz(fuzzerArguments, one);
