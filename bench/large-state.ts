/**
 * What a large state costs: the key-value machine alone, and a cluster of three under a steady rate of writes.
 *
 *   npm run bench:large-state -- [--keys 1000000,5000000] [--rate 20000] [--seconds 60] [--only machine] [--json]
 *
 * The machine: bytes of memory a key, the longest write while it grows, pieces of a snapshot with writes in between, the
 * snapshot at once, restoring it at once and in pieces, and its digest. The pieces are those of the third snapshot, which
 * has the memory of the first one, as in a replica. Times are those of the wall clock, so other load on the host shows in
 * the longest ones; `cpu` is processor time. V8's collections of its whole heap do not depend on that load. The cluster: the first of `--keys` is loaded, and then overwritten at
 * `--rate`; the same with 1,000 keys. Its replicas are processes on this host.
 */
import { constants, PerformanceObserver } from 'node:perf_hooks';
import { Client } from '../src/client/client.js';
import { KvClient } from '../src/client/kv-client.js';
import { formatCount, formatDuration } from '../src/console/units.js';
import type { ReplicaStatusReport } from '../src/host/status.js';
import { silentLogger } from '../src/host/logger.js';
import { encodePut } from '../src/machine/kv-codec.js';
import { KvMachine } from '../src/machine/kv.js';
import { hostInfo } from '../src/measure/load/bench-report.js';
import { LocalCluster } from '../src/measure/local-cluster.js';
import { loadHash } from '../src/native/hash64.js';
import { DEFAULT_LIMITS, DEFAULT_PIECES } from '../src/protocol/config.js';
import { SnapshotMemory } from '../src/protocol/log/snapshot-memory.js';
import { numbersOf, program } from './program.js';

const KEY_BYTES = 16;
const VALUE_BYTES = 100;
const FEW_KEYS = 1000;
const LANES = 512;
/** Writes between two pieces, as at 20,000 writes/s and a piece a millisecond. */
const WRITES_BETWEEN = 20;
/** The first two take new memory. */
const SNAPSHOTS = 3;
const NS_PER_MS = 1e6;
/** Load and overwrite are stopped after this, whatever is done. */
const LOAD_LIMIT_MS = 300_000;

const value = new Uint8Array(VALUE_BYTES).fill(0x76);
const context = { timestampHi: 0, timestampLo: 0, index: 1 };
const operation = { bytes: new Uint8Array(256), offset: 0, length: 0 };
const reply = { bytes: new Uint8Array(64), offset: 0, capacity: 64, length: 0 };

interface Times {
  readonly p50Ms: number;
  readonly p99Ms: number;
  readonly longestMs: number;
}

interface MachineFigures {
  readonly keys: number;
  readonly bytesAKey: number;
  readonly longestWriteMs: number;
  readonly beginMs: number;
  readonly beginCpuMs: number;
  readonly pieces: Times & {
    readonly count: number;
    readonly cpuMs: number;
    readonly longestCpuMs: number;
    /** Collections of V8's whole heap meanwhile. */
    readonly collections: number;
  };
  readonly atOnce: { readonly wallMs: number; readonly cpuMs: number };
  readonly restoreMs: number;
  readonly restorePieces: Times & { readonly cpuMs: number; readonly longestCpuMs: number; readonly endMs: number };
  readonly digestMs: number;
}

interface ClusterFigures {
  readonly keys: number;
  readonly writes: number;
  readonly unknown: number;
  readonly views: number;
  readonly longestSilenceMs: number;
  readonly latency: Times;
}

function nameOf(key: number): Uint8Array {
  return Buffer.from(`key ${String(key).padStart(KEY_BYTES - 4, '0')}`, 'latin1');
}

function cpuMs(): number {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1000;
}

function timesOf(ms: ArrayLike<number>): Times {
  const sorted = Float64Array.from(ms).sort();
  const at = (share: number): number => sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))] ?? 0;
  return { p50Ms: at(0.5), p99Ms: at(0.99), longestMs: at(1) };
}

function measured<T>(call: () => T): { readonly wallMs: number; readonly cpuMs: number; readonly result: T } {
  const cpu = cpuMs();
  const began = performance.now();
  const result = call();
  return { wallMs: performance.now() - began, cpuMs: cpuMs() - cpu, result };
}

/** Visits every key once, in an order that looks random. */
function scattered(i: number, keys: number): number {
  return (i * 7_368_787) % keys;
}

/** When V8 collected its whole heap, ms of `performance.now`. */
const collectionsMs: number[] = [];
new PerformanceObserver((list) => {
  for (const entry of list.getEntries())
    if ((entry as { detail?: { kind?: number } }).detail?.kind === constants.NODE_PERFORMANCE_GC_MAJOR)
      collectionsMs.push(entry.startTime);
}).observe({ entryTypes: ['gc'] });

/** The name of a key without garbage. */
const keyName = Buffer.from(nameOf(0));
function nameInPlace(key: number): Uint8Array {
  for (let at = keyName.length - 1, rest = key; at >= keyName.length - (KEY_BYTES - 4); at--) {
    keyName[at] = 0x30 + (rest % 10);
    rest = Math.floor(rest / 10);
  }
  return keyName;
}

async function measureMachine(keys: number): Promise<MachineFigures> {
  const options = { maxKeys: keys + 4096, maxBytes: 2 ** 30 };
  const machine = new KvMachine(options);
  const put = (key: number): void => {
    operation.length = encodePut(operation.bytes, 0, nameInPlace(key), value);
    machine.apply(operation, context, reply);
  };
  // Of an earlier measurement; with --expose-gc, as the npm script has it.
  globalThis.gc?.();
  const before = process.memoryUsage().arrayBuffers;
  let longestWriteMs = 0;
  for (let i = 0; i < keys; i++) {
    const began = performance.now();
    put(scattered(i, keys));
    longestWriteMs = Math.max(longestWriteMs, performance.now() - began);
  }
  const bytesAKey = (process.memoryUsage().arrayBuffers - before) / keys;
  const memory = new SnapshotMemory(DEFAULT_PIECES.bytes);
  let stable: Uint8Array = new Uint8Array(0);
  let inPieces: InPieces | undefined;
  for (let i = 0; i < SNAPSHOTS; i++) {
    inPieces = await takeInPieces(machine, memory, (n) => put(scattered(n * 31, keys)));
    memory.giveBack(stable);
    stable = inPieces.bytes;
  }
  const { beginMs, beginCpuMs, pieces } = inPieces!;
  const { wallMs, cpuMs: cpu, result: snapshot } = measured(() => machine.snapshot());
  const digest = measured(() => loadHash().hash64(snapshot, 0, snapshot.length, new Uint8Array(8), 0));
  const restored = measured(() => new KvMachine(options).restore(snapshot));
  globalThis.gc?.();
  const restorePieces = restoreInPieces(new KvMachine(options), snapshot);
  return {
    keys,
    bytesAKey,
    longestWriteMs,
    beginMs,
    beginCpuMs,
    pieces,
    atOnce: { wallMs, cpuMs: cpu },
    restoreMs: restored.wallMs,
    restorePieces,
    digestMs: digest.wallMs,
  };
}

interface InPieces extends Pick<MachineFigures, 'beginMs' | 'beginCpuMs' | 'pieces'> {
  readonly bytes: Uint8Array;
}

async function takeInPieces(machine: KvMachine, memory: SnapshotMemory, write: (n: number) => void): Promise<InPieces> {
  const beganMs = performance.now();
  const begun = measured(() => {
    const snapshot = machine.beginSnapshot();
    return { snapshot, bytes: memory.take(snapshot.length) };
  });
  const { snapshot, bytes } = begun.result;
  const walls = new Float64Array(2 * Math.ceil(bytes.length / DEFAULT_PIECES.bytes) + 1);
  let count = 0;
  let piecesCpuMs = 0;
  let longestCpuMs = 0;
  for (let at = 0, written = 0; at < bytes.length; ) {
    const cpu = cpuMs();
    const began = performance.now();
    const piece = snapshot.step(DEFAULT_PIECES.bytes);
    bytes.set(piece, at);
    at += piece.length;
    walls[count++] = performance.now() - began;
    const took = cpuMs() - cpu;
    piecesCpuMs += took;
    longestCpuMs = Math.max(longestCpuMs, took);
    for (let i = 0; i < WRITES_BETWEEN; i++) write(written++);
  }
  const endedMs = performance.now();
  await new Promise((resolve) => setTimeout(resolve, 10));
  const collections = collectionsMs.filter((ms) => ms >= beganMs && ms <= endedMs).length;
  return {
    bytes,
    beginMs: begun.wallMs,
    beginCpuMs: begun.cpuMs,
    pieces: { ...timesOf(walls.subarray(0, count)), count, cpuMs: piecesCpuMs, longestCpuMs, collections },
  };
}

/** As a replica restores the state of another one: one answer of a transfer after the other. */
function restoreInPieces(machine: KvMachine, snapshot: Uint8Array): MachineFigures['restorePieces'] {
  const { chunkBytes } = DEFAULT_LIMITS;
  const restore = machine.beginRestore(snapshot.length);
  const pieces: number[] = [];
  let piecesCpuMs = 0;
  let longestCpuMs = 0;
  for (let at = 0; at < snapshot.length; at += chunkBytes) {
    const piece = measured(() => restore.step(snapshot.subarray(at, at + chunkBytes)));
    pieces.push(piece.wallMs);
    piecesCpuMs += piece.cpuMs;
    longestCpuMs = Math.max(longestCpuMs, piece.cpuMs);
  }
  const ended = measured(() => restore.end());
  return { ...timesOf(pieces), cpuMs: piecesCpuMs, longestCpuMs, endMs: ended.wallMs };
}

/** Writes at a steady rate, whatever has been answered; what finds no free lane waits in the client. */
class Writer {
  readonly latenciesMs: number[] = [];
  unknown = 0;
  longestSilenceMs = 0;
  private readonly open = new Set<Promise<void>>();
  private answeredMs = performance.now();

  constructor(private readonly kv: KvClient) {}

  async write(count: number, perSecond: number, keyOf: (i: number) => number): Promise<void> {
    const began = performance.now();
    this.answeredMs = began;
    for (let i = 0; i < count && performance.now() - began < LOAD_LIMIT_MS; ) {
      const due = Math.min(count, ((performance.now() - began) / 1000) * perSecond);
      while (i < due && this.open.size < LANES) this.start(keyOf(i++));
      if (this.open.size >= LANES) await Promise.race(this.open);
      else await new Promise((resolve) => setTimeout(resolve, 1));
    }
    await Promise.all(this.open);
  }

  private start(key: number): void {
    const began = performance.now();
    const done = this.kv.put(nameOf(key), value).then(
      () => {
        const now = performance.now();
        this.latenciesMs.push(now - began);
        this.longestSilenceMs = Math.max(this.longestSilenceMs, now - this.answeredMs);
        this.answeredMs = now;
      },
      () => {
        this.unknown++;
      },
    );
    const tracked: Promise<void> = done.finally(() => this.open.delete(tracked));
    this.open.add(tracked);
  }
}

async function viewOf(cluster: LocalCluster): Promise<number> {
  const answers = await cluster.ask('stats');
  return Math.max(...answers.map((answer) => (answer?.status as ReplicaStatusReport | undefined)?.view ?? 0));
}

async function measureCluster(keys: number, rate: number, seconds: number): Promise<ClusterFigures> {
  await using cluster = await LocalCluster.start({
    replicas: 3,
    machine: 'kv',
    transport: 'auto',
    durability: 'memory',
  });
  await using client = await Client.connect({ cluster: cluster.clusterFile, lanes: LANES, logger: silentLogger });
  const kv = new KvClient(client);
  await new Writer(kv).write(keys, Infinity, (i) => scattered(i, keys));
  const view = await viewOf(cluster);
  const writer = new Writer(kv);
  await writer.write(rate * seconds, rate, (i) => scattered(i, keys));
  return {
    keys,
    writes: writer.latenciesMs.length,
    unknown: writer.unknown,
    views: (await viewOf(cluster)) - view,
    longestSilenceMs: writer.longestSilenceMs,
    latency: timesOf(writer.latenciesMs),
  };
}

await program(
  {
    name: 'npm run bench:large-state --',
    summary: 'What a large state costs: snapshots in pieces, memory, and a cluster that is written to meanwhile.',
    positionals: [],
    flags: {
      keys: { kind: 'text', default: '1000000,5000000', help: 'numbers of keys; the first is that of the cluster' },
      rate: { kind: 'count', default: '20000', min: 1, max: 1e6, help: 'writes a second' },
      seconds: { kind: 'count', default: '60', min: 1, max: 3600, help: 'how long' },
      only: { kind: 'choice', choices: ['machine', 'cluster', 'both'], default: 'both', help: 'a part of it' },
    },
    examples: ['npm run bench:large-state', 'npm run bench:large-state -- --keys 100000 --only machine'],
  },
  async ({ keys, rate, seconds, only }, output) => {
    const numbers = numbersOf('--keys', keys);
    const machines: MachineFigures[] = [];
    for (const number of only === 'cluster' ? [] : numbers) {
      machines.push(await measureMachine(number));
      if (!output.json) output.line(machineText(machines.at(-1)!));
    }
    const clusters: ClusterFigures[] = [];
    if (only !== 'machine')
      for (const number of [FEW_KEYS, numbers[0]!]) {
        clusters.push(await measureCluster(number, rate, seconds));
        if (!output.json) output.line(clusterText(clusters.at(-1)!));
      }
    if (output.json)
      output.line(JSON.stringify({ schema: 'jitpaxos.large-state/1', machines, clusters, rate, host: hostInfo() }));
  },
);

function ms(time: number): string {
  return formatDuration(time * NS_PER_MS);
}

function machineText(figures: MachineFigures): string {
  const { keys, bytesAKey, longestWriteMs, beginMs, beginCpuMs, pieces, atOnce, restoreMs, restorePieces, digestMs } =
    figures;
  return [
    `${formatCount(keys)} keys of ${KEY_BYTES} + ${VALUE_BYTES} bytes`,
    `  memory          ${bytesAKey.toFixed(0)} bytes a key; longest write while they came ${ms(longestWriteMs)}`,
    `  in pieces       begin ${ms(beginMs)} (cpu: ${ms(beginCpuMs)}); ${formatCount(pieces.count)} pieces: p50 ${ms(pieces.p50Ms)}, p99 ${ms(pieces.p99Ms)}, longest ${ms(pieces.longestMs)} (cpu: ${ms(pieces.longestCpuMs)}); together ${ms(pieces.cpuMs)} cpu; ${pieces.collections} collections of V8's heap`,
    `  at once         ${ms(atOnce.wallMs)}, ${ms(atOnce.cpuMs)} cpu; digest ${ms(digestMs)}; restore ${ms(restoreMs)}`,
    `  restore         in pieces: p50 ${ms(restorePieces.p50Ms)}, p99 ${ms(restorePieces.p99Ms)}, longest ${ms(restorePieces.longestMs)} (cpu: ${ms(restorePieces.longestCpuMs)}); together ${ms(restorePieces.cpuMs)} cpu; end ${ms(restorePieces.endMs)}`,
  ].join('\n');
}

function clusterText({ keys, writes, unknown, views, longestSilenceMs, latency }: ClusterFigures): string {
  return `cluster with ${formatCount(keys)} keys: ${formatCount(writes)} writes, ${unknown} with unknown outcome, ${views} view changes, longest time without an answer ${ms(longestSilenceMs)}, p50 ${ms(latency.p50Ms)}, p99 ${ms(latency.p99Ms)}, longest ${ms(latency.longestMs)}`;
}
