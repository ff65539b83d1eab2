/** What takes part in a comparison, and how one run of it is measured. */
import { Histogram, type HistogramData } from '../../metrics/histogram.js';
import type { HeapUse } from '../../metrics/heap-meter.js';
import { addCounts, NO_COUNTS } from '../load/counts.js';
import type { ClientCounts } from '../load/messages.js';
import { cpuSeconds, type LineChild } from './line-child.js';
import type { Point } from './shape.js';

export interface Timing {
  /** Warm-up before measuring; the C program needs less. */
  readonly warmupMs: number;
  readonly ms: number;
}

export interface Measured {
  readonly histogram: Histogram;
  readonly operations: number;
  /** From the first submit of any client to the last completion of any. */
  readonly seconds: number;
  /** The same two moments by CLOCK_MONOTONIC. */
  readonly span: { readonly startedNs: number; readonly endedNs: number } | undefined;
  readonly opsPerSecond: number;
  /** Processor time of the measured part; null if the kernel does not tell. */
  readonly cpuSeconds: { readonly clients: number | null; readonly servers: readonly (number | null)[] };
  readonly processes: { readonly clients: number; readonly servers: number };
  /** Requests that were resent. */
  readonly resent: number;
  /** Ours only. */
  readonly counts: ClientCounts | undefined;
  readonly heap: HeapUse | undefined;
  readonly transport: string | undefined;
  readonly idle: string | undefined;
  /** Average number of operations that share a datagram to a replica. */
  readonly perDatagram: number | undefined;
}

export interface Contestant {
  readonly name: string;
  run(point: Point, timing: Timing): Promise<Measured>;
}

/** What every kind of client process prints. */
interface ClientResult {
  readonly operations: number;
  readonly startedNs: number;
  readonly endedNs: number;
  readonly histogram: HistogramData;
  readonly resent?: number;
  readonly counts?: ClientCounts;
  readonly heap?: HeapUse | null;
  readonly transport?: string;
  readonly idle?: string;
  readonly datagrams?: number;
}

/** How a measurement may differ from the usual one. */
export interface Measuring {
  /** Called when all clients are warm, before they start. */
  readonly warm?: () => Promise<unknown>;
  /** Which processor time is read. Default: that of all threads. */
  readonly cpu?: (pid: number | undefined) => number | null;
}

/** Waits until all clients are warm, starts them together, merges what they measured. */
export async function measureClients(
  clients: readonly LineChild[],
  serverPids: readonly (number | undefined)[],
  members: number,
  timing: Timing,
  { warm, cpu = cpuSeconds }: Measuring = {},
): Promise<Measured> {
  await Promise.all(clients.map((client) => client.ready()));
  await warm?.();
  const pids = clients.map(({ pid }) => pid);
  const serversBefore = serverPids.map(cpu);
  const clientsBefore = pids.map(cpu);
  let clientsAfter: (number | null)[] = [];
  for (const client of clients) client.go();
  // The processor time of an ended client can no longer be read.
  const reading = setTimeout(() => (clientsAfter = pids.map(cpu)), timing.ms * CPU_READ_AT);
  const results = await Promise.all(clients.map((client) => client.result<ClientResult>(timing.ms)));
  clearTimeout(reading);
  const serversAfter = serverPids.map(cpu);
  const histogram = new Histogram();
  let counts: ClientCounts | undefined;
  for (const result of results) {
    histogram.merge(Histogram.fromData(result.histogram));
    if (result.counts !== undefined) counts = addCounts(counts ?? NO_COUNTS, result.counts);
  }
  const operations = histogram.count;
  const startedNs = Math.min(...results.map((result) => result.startedNs));
  const endedNs = Math.max(...results.map((result) => result.endedNs));
  const seconds = (endedNs - startedNs) / 1e9;
  const datagrams = results.reduce((sum, result) => sum + (result.datagrams ?? 0), 0);
  const heaps = results.map(({ heap }) => heap).filter((heap) => heap !== null && heap !== undefined);
  const cpuClients = clientsAfter.reduce<number | null>(
    (sum, after, i) =>
      sum === null || after === null || clientsBefore[i] === null
        ? null
        : sum + (after - clientsBefore[i]!) / CPU_READ_AT,
    0,
  );
  return {
    histogram,
    operations,
    seconds,
    span: { startedNs, endedNs },
    opsPerSecond: operations / seconds,
    cpuSeconds: {
      clients: clientsAfter.length === 0 ? null : cpuClients,
      servers: serversAfter.map((after, i) =>
        after === null || serversBefore[i] === null ? null : after - serversBefore[i]!,
      ),
    },
    processes: { clients: clients.length, servers: serverPids.length },
    resent: results.reduce((sum, result) => sum + (result.resent ?? result.counts?.retransmitted ?? 0), 0),
    counts,
    heap:
      heaps.length === 0
        ? undefined
        : {
            allocatedBytes: heaps.reduce((sum, heap) => sum + heap.allocatedBytes, 0),
            collections: heaps.reduce((sum, heap) => sum + heap.collections, 0),
          },
    transport: results[0]!.transport,
    idle: results[0]!.idle,
    perDatagram: datagrams === 0 ? undefined : (operations * members) / datagrams,
  };
}

/** The clients' processor time is read after this share of the measurement, and scaled: they may be gone at its end. */
const CPU_READ_AT = 0.9;
