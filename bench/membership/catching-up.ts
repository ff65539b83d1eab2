/** What it takes a host that is added to copy a large state, and what the clients notice of it. */
import { fileURLToPath } from 'node:url';
import { Client } from '../../src/client/client.js';
import { KvClient } from '../../src/client/kv-client.js';
import { CliError } from '../../src/console/exit.js';
import { formatCount } from '../../src/console/units.js';
import { freePorts } from '../../src/host/free-ports.js';
import { silentLogger } from '../../src/host/logger.js';
import { Children, LineChild } from '../../src/measure/compare/line-child.js';
import type { LocalClusterOptions } from '../../src/measure/local-cluster.js';
import { ChangingCluster } from './changing-cluster.js';
import { merged, sleep, windowOf } from './changes.js';
import type { CopyEndSetup } from './copy-end.js';

const COPY_END = fileURLToPath(new URL('./copy-end.js', import.meta.url));
const VALUE_BYTES = 1024;
const KEY_BYTES = 16;
/** What the store counts for each key besides. */
const ENTRY_BYTES = 32;
const LANES = 256;
const COPY_LIMIT_MS = 300_000;

export interface CatchUp {
  /** Of keys and values. */
  readonly bytes: number;
  /** From the entry that lists the joiner until it lacks few entries. */
  readonly seconds: number;
  /** Received by the joiner from the beginning of its process on. */
  readonly receivedBytes: number;
  /** Of the same bytes from process to process, under the same load. */
  readonly copySeconds: number;
  readonly p99Ns: { readonly before: number; readonly during: number; readonly copy: number };
  /** The longest times without commits. */
  readonly gapMs: { readonly before: number; readonly during: number; readonly copy: number };
  readonly failed: number;
}

export interface CatchUpOptions {
  readonly cluster: LocalClusterOptions;
  /** Bytes of state. */
  readonly state: number;
  readonly startLoad: (clusterFile: string, children: Children) => Promise<LineChild>;
  readonly steadyMs: number;
  readonly warmupMs: number;
  readonly note: (text: string) => void;
}

export async function measureCatchUp({
  cluster: options,
  state,
  startLoad,
  steadyMs,
  warmupMs,
  note,
}: CatchUpOptions): Promise<CatchUp> {
  await using cluster = await ChangingCluster.start(options);
  await using children = new Children();
  const { clusterFile } = cluster.cluster;
  const keys = Math.max(1, Math.floor(state / (KEY_BYTES + VALUE_BYTES + ENTRY_BYTES)));
  const bytes = keys * (KEY_BYTES + VALUE_BYTES);
  await fill(clusterFile, keys);
  note(`${formatCount(keys)} keys of ${formatCount(Math.round(bytes / 2 ** 20))} MiB are there`);
  const client = await startLoad(clusterFile, children);
  const [joiner] = await cluster.joiners(1);
  await sleep(warmupMs);
  await windowOf(client);
  await sleep(steadyMs);
  const before = await windowOf(client);
  const copySeconds = await copied(options.transport, bytes);
  const copy = await windowOf(client);
  await sleep(steadyMs);
  await windowOf(client);
  const { seconds } = await cluster.learner(joiner!, COPY_LIMIT_MS);
  const during = await windowOf(client);
  const id = joiner!.process.id;
  const status = await cluster.status(id);
  if (status === undefined) throw new CliError('replica-not-ready', `replica ${id} does not answer any more`);
  const p99 = (window: typeof during): number => merged([window]).quantile(0.99);
  const gap = (window: typeof during): number => window.longestPauseNs / 1e6;
  note(`the joiner has caught up after ${seconds.toFixed(2)} s; a plain copy took ${copySeconds.toFixed(2)} s`);
  return {
    bytes,
    seconds,
    receivedBytes: status.transport.counters['bytes_received'] ?? 0,
    copySeconds,
    p99Ns: { before: p99(before), during: p99(during), copy: p99(copy) },
    gapMs: { before: gap(before), during: gap(during), copy: gap(copy) },
    failed: before.failed + copy.failed + during.failed,
  };
}

async function fill(clusterFile: string, keys: number): Promise<void> {
  await using client = await Client.connect({ cluster: clusterFile, lanes: LANES, logger: silentLogger });
  const kv = new KvClient(client);
  const value = new Uint8Array(VALUE_BYTES).fill(0x76);
  let next = 0;
  await Promise.all(
    Array.from({ length: LANES }, async () => {
      while (next < keys) await kv.put(`state-${String(next++).padStart(KEY_BYTES - 6, '0')}`, value);
    }),
  );
}

/** Copies that many bytes from one process to another. Returns seconds. */
async function copied(transport: string, bytes: number): Promise<number> {
  await using children = new Children();
  const [from, to] = await freePorts(2);
  const start = async (takes: boolean): Promise<LineChild> => {
    const setup: CopyEndSetup = { transport, takes, ports: [from!, to!], bytes };
    const end = children.add(
      LineChild.start(process.execPath, [COPY_END, JSON.stringify(setup)], 'an end of the copy'),
    );
    await end.ready();
    return end;
  };
  await start(false);
  const taker = await start(true);
  taker.go();
  return (await taker.result<{ readonly seconds: number }>(COPY_LIMIT_MS)).seconds;
}
