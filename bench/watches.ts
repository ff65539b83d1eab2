/**
 * Watches over real processes: many watchers of the same keys while replicas are killed and datagrams are lost.
 *
 *   npm run bench:watches -- [--watchers 100] [--rate 10000] [--seconds 30] [--loss 1] [--kill-every 5] [--strict] [--json]
 *
 * Transactions of one writer change keys; every watcher has to see each change once and in order, by the revisions, which
 * have no gaps. Delivery is the time from when the writer knows that a transaction is committed until a watcher has its
 * last change; both are in this process, whose own work counts. On its way a change waits for three processes: the
 * primary, which says that it is committed, the replica that serves the watch, and this one; so a host that lets processes
 * wait is seen three times, and how late the timers of this process were says how much. Loss is per datagram and message,
 * at this process, in both directions. A killed replica (SIGKILL, its log is lost) begins again after a second. Watchers
 * that share a client share its sockets. The run ends at most a minute after its time.
 */
import { monitorEventLoopDelay } from 'node:perf_hooks';
import { setTimeout as sleep } from 'node:timers/promises';
import { lineOf } from '../src/console/exit.js';
import { Client } from '../src/client/client.js';
import { StoreClient } from '../src/client/store-client.js';
import { silentLogger } from '../src/host/logger.js';
import { hostInfo } from '../src/measure/load/bench-report.js';
import { seededRandom } from '../src/measure/load/random.js';
import { LocalCluster } from '../src/measure/local-cluster.js';
import { DatagramOutbox } from '../src/transport/datagram-outbox.js';
import { DatagramReader } from '../src/transport/datagram-reader.js';
import { checkMissed, judged } from './goals/row.js';
import { program } from './program.js';

const WATCHERS_PER_CLIENT = 10;
const BATCH_MS = 2;
const BATCH_MAX = 60;
const RETURNS_MS = 1000;
const END_MS = 20_000;
const LATENESS_MS = 5;
/** Delivery at rest. */
const P50_GOAL_MS = 1;
const P99_GOAL_MS = 6;

interface Counts {
  told: number;
  /** Revisions that were left out, and changes that came again or too late. */
  lost: number;
  repeated: number;
  failed: string[];
}

await program(
  {
    name: 'npm run bench:watches --',
    summary: 'Watches changes while replicas are killed and datagrams are lost; counts what is lost, repeated or late.',
    positionals: [],
    flags: {
      watchers: { kind: 'count', default: '100', min: 1, max: 1000, help: 'watches of the same keys' },
      rate: { kind: 'count', default: '10000', min: 1, max: 100_000, help: 'changes a second' },
      seconds: { kind: 'count', default: '30', min: 1, max: 3600, help: 'how long' },
      loss: { kind: 'count', default: '1', max: 50, help: 'datagrams lost, percent' },
      'kill-every': { kind: 'count', default: '5', max: 3600, help: 'seconds between two kills; 0: none' },
      seed: { kind: 'count', default: '1', max: 0x7fffffff, help: 'seed of the kills and losses' },
      strict: { kind: 'switch', help: 'exit with 4 when a goal is missed' },
    },
    examples: ['npm run bench:watches', 'npm run bench:watches -- --watchers 1 --rate 100 --loss 0 --kill-every 0'],
  },
  async ({ watchers, rate, seconds, loss, 'kill-every': killEvery, seed, strict }, output) => {
    const random = seededRandom(seed);
    await using cluster = await LocalCluster.start({
      replicas: 3,
      machine: 'kv',
      transport: 'auto',
      durability: 'memory',
      features: ['store'],
    });
    const clients: Client[] = [];
    const connect = async (): Promise<StoreClient> => {
      const client = await Client.connect({ cluster: cluster.clusterFile, logger: silentLogger, timeout: 10_000 });
      clients.push(client);
      return new StoreClient(client);
    };
    const writer = await connect();
    const begun = (await writer.put('begin', '')).revision;
    const counts: Counts = { told: 0, lost: 0, repeated: 0, failed: [] };
    const delivered: number[] = [];
    /** When a transaction was known to be committed, by its last revision. */
    const committedMs = new Map<number, number>();
    const seenUpTo: number[] = new Array<number>(watchers).fill(begun);
    const watch = async (store: StoreClient, index: number): Promise<void> => {
      try {
        for await (const { revision } of store.watch('w/', { from: begun })) {
          const before = seenUpTo[index]!;
          if (revision > before + 1) counts.lost += revision - before - 1;
          else if (revision <= before) counts.repeated++;
          seenUpTo[index] = Math.max(before, revision);
          counts.told++;
          const at = committedMs.get(revision);
          if (at !== undefined) delivered.push(performance.now() - at);
        }
      } catch (error) {
        counts.failed.push(error instanceof Error ? error.message : String(error));
      }
    };
    let store = writer;
    const watching: Promise<void>[] = [];
    for (let i = 0; i < watchers; i++) {
      if (i % WATCHERS_PER_CLIENT === 0) store = await connect();
      watching.push(watch(store, i));
    }
    await sleep(500);
    lose(loss / 100, random);
    const endMs = performance.now() + seconds * 1000;
    let last = begun;
    let unknown = 0;
    const batch = Math.min(BATCH_MAX, Math.max(1, Math.round((rate * BATCH_MS) / 1000)));
    const everyMs = (batch * 1000) / rate;
    const open = new Set<Promise<void>>();
    const tookMs: number[] = [];
    const write = async (): Promise<void> => {
      const beganMs = performance.now();
      try {
        const result = await writer.transact({
          do: Array.from({ length: batch }, (_, i) => ({ put: `w/${String(i).padStart(14, '0')}`, value: '' })),
        });
        last = Math.max(last, result.revision);
        const nowMs = performance.now();
        committedMs.set(result.revision, nowMs);
        tookMs.push(nowMs - beganMs);
      } catch {
        unknown++;
      }
    };
    let kills = 0;
    const killer = async (): Promise<void> => {
      while (killEvery > 0 && performance.now() + (killEvery + 5) * 1000 < endMs) {
        await sleep(killEvery * 1000);
        const victim = Math.floor(random() * 3);
        cluster.replicas[victim]!.kill('SIGKILL');
        kills++;
        await sleep(RETURNS_MS);
        await cluster.spawn(victim).waitReady();
      }
    };
    const killing = killer().catch((error: unknown) => void counts.failed.push(lineOf(error)));
    const lateness = monitorEventLoopDelay({ resolution: LATENESS_MS });
    lateness.enable();
    const startedMs = performance.now();
    const startedCpu = process.cpuUsage();
    for (let sent = 0; performance.now() < endMs; sent++) {
      const wait = startedMs + sent * everyMs - performance.now();
      if (wait > 0) await sleep(wait);
      while (open.size >= 32) await Promise.race(open);
      const one: Promise<void> = write().finally(() => open.delete(one));
      open.add(one);
    }
    await Promise.all(open);
    await killing;
    const wroteMs = performance.now() - startedMs;
    const cpu = process.cpuUsage(startedCpu);
    lateness.disable();
    const lateMs = (percentile: number): number => Math.max(0, lateness.percentile(percentile) / 1e6 - LATENESS_MS);
    last = Math.max(last, (await writer.scan({ prefix: 'begin', limit: 1 })).revision);
    for (const until = performance.now() + END_MS; performance.now() < until; await sleep(50))
      if (seenUpTo.every((revision) => revision >= last)) break;
    for (const revision of seenUpTo) counts.lost += Math.max(0, last - revision);
    for (const client of clients) await client.close();
    await Promise.all(watching);
    const failed = counts.failed.filter((message) => !message.includes('the client was closed'));
    delivered.sort((a, b) => a - b);
    tookMs.sort((a, b) => a - b);
    const at = (share: number, of = delivered): number => of[Math.floor(share * (of.length - 1))] ?? NaN;
    const figures = {
      watchers,
      rate,
      changesPerSecond: Math.round(((last - begun) * 1000) / wroteMs),
      told: counts.told,
      lost: counts.lost,
      repeatedOrLate: counts.repeated,
      failed,
      kills,
      unknown,
      p50Ms: at(0.5),
      p99Ms: at(0.99),
      maxMs: at(1),
      transactionP50Ms: at(0.5, tookMs),
      transactionP99Ms: at(0.99, tookMs),
      lateP50Ms: lateMs(50),
      lateP99Ms: lateMs(99),
      ownCpu: (cpu.user + cpu.system) / 1000 / wroteMs,
    };
    const rows = [
      judged({
        name: 'watches-wrong',
        what: `changes lost, and repeated or out of order, of ${figures.told} told to ${watchers} watches with ${kills} kills of replicas and ${loss} % loss; watches that failed`,
        goal: '0; 0; 0',
        measured: `${figures.lost}; ${figures.repeatedOrLate}; ${failed.length}`,
        figures: [figures.lost, figures.repeatedOrLate, failed.length].map((value) => ({ value, atMost: 0 })),
        values: {},
      }),
      judged({
        name: 'watches-delivery',
        what: `from the commit to the watch, at ${figures.changesPerSecond} changes a second: p50; p99`,
        goal: `≤ ${P50_GOAL_MS} ms; ≤ ${P99_GOAL_MS} ms`,
        measured: `${figures.p50Ms.toFixed(2)} ms; ${figures.p99Ms.toFixed(2)} ms`,
        figures: [
          { value: figures.p50Ms, atMost: P50_GOAL_MS },
          { value: figures.p99Ms, atMost: P99_GOAL_MS },
        ],
        values: { maxMs: figures.maxMs },
        note: `a transaction takes p50 ${figures.transactionP50Ms.toFixed(2)} ms there; the process with all watches took ${figures.ownCpu.toFixed(2)} of a processor`,
      }),
    ];
    if (output.json)
      output.line(
        JSON.stringify({ schema: 'jitpaxos.bench-watches/1', seconds, loss, seed, ...figures, rows, host: hostInfo() }),
      );
    else
      output.line(
        [
          `changes     ${figures.changesPerSecond}/s to ${watchers} watchers, ${figures.told} told; ${kills} kills, ${loss} % loss, ${unknown} transactions without an answer`,
          `wrong       ${figures.lost} lost, ${figures.repeatedOrLate} repeated or out of order, ${failed.length} watches failed${failed.length === 0 ? '' : `: ${failed[0]!}`} (goal: 0)`,
          `delivery    p50 ${figures.p50Ms.toFixed(2)} ms, p99 ${figures.p99Ms.toFixed(2)} ms, max ${figures.maxMs.toFixed(0)} ms after the commit (goal: ${P50_GOAL_MS} and ${P99_GOAL_MS})`,
          `for scale   a transaction takes p50 ${figures.transactionP50Ms.toFixed(2)} ms, p99 ${figures.transactionP99Ms.toFixed(2)} ms here; this process, with all watchers, took ${figures.ownCpu.toFixed(2)} of a processor, and its timers were p50 ${figures.lateP50Ms.toFixed(1)} ms, p99 ${figures.lateP99Ms.toFixed(1)} ms late`,
        ].join('\n'),
      );
    if (figures.lost + figures.repeatedOrLate + failed.length > 0) process.exitCode = 1;
    else
      checkMissed(
        [
          ...(figures.p50Ms <= P50_GOAL_MS ? [] : [`delivery p50 ${figures.p50Ms.toFixed(2)} ms, not ${P50_GOAL_MS}`]),
          ...(figures.p99Ms <= P99_GOAL_MS ? [] : [`delivery p99 ${figures.p99Ms.toFixed(2)} ms, not ${P99_GOAL_MS}`]),
        ],
        strict,
      );
  },
);

/** From now on this share of what this process sends and receives is lost. */
function lose(share: number, random: () => number): void {
  if (share === 0) return;
  const { read } = DatagramReader.prototype;
  DatagramReader.prototype.read = function (...args): number {
    return random() < share ? 0 : read.apply(this, args);
  };
  const { reserve } = DatagramOutbox.prototype;
  DatagramOutbox.prototype.reserve = function (...args): number {
    return random() < share ? -1 : reserve.apply(this, args);
  };
}
