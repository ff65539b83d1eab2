/**
 * `jitpaxos demo`, also `npm start`: three replica processes on this machine, a measured key-value workload, a replica
 * killed half-way, everything read back, a report. Nothing is staged: the clients counted what it prints, and if a
 * value differs from what was written, it says so and fails.
 */
import { resolve } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { Client } from '../../client/client.js';
import { KvClient } from '../../client/kv-client.js';
import { Views } from '../../protocol/views.js';
import { defineCommand, type Output } from '../../console/command.js';
import { Display, type DemoState } from './display.js';
import { CliError, Exit } from '../../console/exit.js';
import { checkWritable, writeOutput } from '../../console/output-file.js';
import { setWorkerKeys } from '../../console/settings.js';
import { demoPage, type DemoResult, type KillTarget } from '../../measure/report/demo-page.js';
import { Interruption } from '../../measure/load/interruption.js';
import { LocalCluster } from '../../measure/local-cluster.js';
import type { Workload } from '../../measure/load/messages.js';
import { hostInfo } from '../../measure/load/bench-report.js';
import { Timeline } from '../../measure/load/timeline.js';
import { Workers, type LoadResult } from '../../measure/load/workers.js';
import { TRANSPORT_FLAGS, transportChoice, type TransportChoice } from '../../console/transport-flags.js';
import { formatCount, formatDuration } from '../../console/units.js';
import { version } from '../../host/version.js';

const REPLICAS = 3;
const MIN_OPERATIONS = 10_000;
/** The workload ends by then, however slow the machine. */
const WORKLOAD_LIMIT_MS = 60_000;
const INTERVAL_MS = 100;
const REFRESH_MS = 200;
const KEYS_PER_CLIENT = 512;
const VALUE_BYTES = 64;
const WARMUP_PER_CLIENT = 2_000;
const READ_BACK_LANES = 16;
const OPERATION_TIMEOUT_MS = 10_000;

export const demo = defineCommand(
  {
    name: 'demo',
    summary:
      'Starts three replica processes on this host, runs a measured key-value workload, kills one replica half-way, reads everything back and writes a report.',
    positionals: [],
    flags: {
      duration: {
        kind: 'duration',
        default: '12s',
        min: 1e9,
        max: WORKLOAD_LIMIT_MS * 1e6,
        help: `how long the workload runs; it runs longer if ${formatCount(MIN_OPERATIONS)} operations take longer`,
      },
      clients: { kind: 'count', default: '2', min: 1, max: 16, help: 'client processes' },
      lanes: { kind: 'count', default: '4', min: 1, max: 256, help: 'operations open at once in each client' },
      kill: {
        kind: 'choice',
        choices: ['member', 'spare', 'none'],
        default: 'member',
        help: 'which replica is killed half-way: a member of the quorum, the spare, or none',
      },
      ...TRANSPORT_FLAGS,
      report: { kind: 'text', value: 'FILE', default: 'jitpaxos-report.html', help: 'where to write the report' },
    },
    examples: ['npm start', 'jitpaxos demo --duration 5s --clients 4'],
  },
  async ({ values }, output) => {
    checkWritable('report', values.report);
    setWorkerKeys(undefined);
    using interruption = new Interruption();
    const choice = transportChoice(values);
    const durationMs = values.duration / 1e6;
    const { clients, lanes } = values;
    output.note(`starting ${REPLICAS} replicas and ${clients} client${clients === 1 ? '' : 's'} …`);
    await using cluster = await LocalCluster.start({
      replicas: REPLICAS,
      machine: 'kv',
      ...choice,
      durability: 'memory',
      authenticated: true,
    });
    const state: DemoState = {
      clients,
      lanes,
      durationMs,
      replicas: cluster.replicas.map(({ id, ready }) => ({
        id,
        pid: ready!.pid,
        role: roleOf(id, ready!.view),
        killedAtMs: undefined,
      })),
      elapsedMs: 0,
      timeline: new Timeline(INTERVAL_MS),
    };
    const ran = await runWorkload(cluster, state, values.kill as KillTarget, choice, output, interruption);
    const readBack = await readEverythingBack(cluster, ran.load, choice);
    const partial = interruption.stopped
      ? `interrupted after ${ran.load.seconds.toFixed(1)} of ${durationMs / 1000} s`
      : null;
    const result = summarize(state, ran, readBack, resolve(values.report), partial);
    output.line(output.json ? JSON.stringify(result) : summaryText(result));
    writeOutput('report', values.report, () =>
      demoPage(result, ran.load.histogram, state.timeline.intervals(), INTERVAL_MS),
    );
    if (readBack.wrong > 0)
      throw new CliError(
        'read-back-differs',
        `${readBack.wrong} of ${readBack.keys} keys do not hold what was last written to them; this is a bug: please report it with the report file`,
      );
    if (partial !== null) throw new CliError('interrupted', `${partial}; what is printed was measured until then`);
    if (result.operations < MIN_OPERATIONS)
      throw new CliError(
        'worker-failed',
        `only ${formatCount(result.operations)} operations were committed in ${result.seconds.toFixed(0)} s; check the load of this host`,
      );
    return Exit.done;
  },
);

interface Ran {
  readonly load: LoadResult;
  readonly killed: { readonly replica: number; readonly role: KillTarget; readonly atMs: number } | null;
}

async function runWorkload(
  cluster: LocalCluster,
  state: DemoState,
  kill: KillTarget,
  choice: TransportChoice,
  output: Output,
  interruption: Interruption,
): Promise<Ran> {
  let startedMs = NaN;
  const workers = await Workers.start({
    count: state.clients,
    cluster: cluster.clusterFile,
    ...choice,
    workload: (index) => workloadOf(index, state.lanes),
    progressMs: INTERVAL_MS,
    onProgress: (_, histogram, counts) => state.timeline.add(performance.now() - startedMs, histogram, counts),
  });
  const display = new Display(output);
  try {
    startedMs = performance.now();
    const elapsed = (): number => performance.now() - startedMs;
    let stopping = false;
    const finished = interruption.during(
      () => (stopping = true),
      () => workers.run(),
    );
    let failure: unknown;
    finished.catch((error: unknown) => (failure = error));
    let killed: Ran['killed'] = null;
    await learnRoles(cluster, state);
    const enough = (): boolean =>
      (elapsed() >= state.durationMs && state.timeline.total.histogram.count >= MIN_OPERATIONS) ||
      elapsed() >= WORKLOAD_LIMIT_MS;
    while (!enough() && !stopping && failure === undefined) {
      await delay(REFRESH_MS);
      state.elapsedMs = elapsed();
      await learnRoles(cluster, state);
      if (killed === null && kill !== 'none' && elapsed() >= state.durationMs / 2) {
        killed = { replica: await killOne(cluster, kill), role: kill, atMs: elapsed() };
        state.replicas[killed.replica]!.killedAtMs = killed.atMs;
      }
      display.update(state);
    }
    workers.stop();
    const load = await finished;
    return { load, killed };
  } finally {
    display.end();
    workers.close();
  }
}

/** SIGKILL, as by `kill -9`: the replica cannot say good-bye. Returns its id. */
async function killOne(cluster: LocalCluster, target: KillTarget): Promise<number> {
  const view = await latestView(cluster);
  const views = new Views(REPLICAS);
  const victim = cluster.replicas.findIndex(({ id }) =>
    target === 'spare' ? !views.isMember(view, id) : views.isMember(view, id) && id !== views.primary(view),
  );
  cluster.replicas[victim]!.kill('SIGKILL');
  return victim;
}

async function latestView(cluster: LocalCluster): Promise<number> {
  const answers = await cluster.ask('stats');
  return Math.max(0, ...answers.map((answer) => Number(answer?.status['view'] ?? 0)));
}

/** A dead replica keeps its last role. */
async function learnRoles(cluster: LocalCluster, state: DemoState): Promise<void> {
  const view = await latestView(cluster);
  for (const replica of state.replicas) if (replica.killedAtMs === undefined) replica.role = roleOf(replica.id, view);
}

function roleOf(id: number, view: number): string {
  const views = new Views(REPLICAS);
  if (views.primary(view) === id) return 'primary';
  return views.isMember(view, id) ? 'member' : 'spare';
}

function workloadOf(index: number, lanes: number): Workload {
  return {
    machine: 'kv',
    lanes,
    warmup: WARMUP_PER_CLIENT,
    operations: undefined,
    size: VALUE_BYTES,
    mix: { read: 0.5, write: 0.5 },
    keys: KEYS_PER_CLIENT,
    keyPrefix: `demo/${index}/`,
    ownKeys: true,
    seed: index + 1,
    timeoutMs: OPERATION_TIMEOUT_MS,
  };
}

/** A new client, which knows nothing about the run, reads every key that the clients wrote. */
async function readEverythingBack(
  cluster: LocalCluster,
  load: LoadResult,
  choice: TransportChoice,
): Promise<DemoResult['readBack']> {
  const entries = load.workers.flatMap((worker) => Object.entries(worker.expected));
  const client = await Client.connect({
    cluster: cluster.clusterFile,
    lanes: READ_BACK_LANES,
    timeout: OPERATION_TIMEOUT_MS,
    ...choice,
  });
  try {
    const kv = new KvClient(client);
    let wrong = 0;
    let next = 0;
    const lane = async (): Promise<void> => {
      while (next < entries.length) {
        const [key, expected] = entries[next++]!;
        const value = await kv.get(key);
        if (value === undefined || Buffer.from(value).toString('latin1') !== expected) wrong += 1;
      }
    };
    await Promise.all(Array.from({ length: READ_BACK_LANES }, lane));
    return { keys: entries.length, wrong };
  } finally {
    await client.close();
  }
}

function summarize(
  state: DemoState,
  { load, killed }: Ran,
  readBack: DemoResult['readBack'],
  report: string,
  partial: string | null,
): DemoResult {
  const { histogram, counts, seconds } = load;
  const after = killed === null ? undefined : state.timeline.after(killed.atMs);
  return {
    schema: 'jitpaxos.demo/1',
    replicas: REPLICAS,
    clients: state.clients,
    lanes: state.lanes,
    operations: histogram.count,
    seconds,
    opsPerSecond: Math.round(histogram.count / seconds),
    latencyNs: histogram.summary(),
    fastPathRatio: counts.committed === 0 ? null : counts.fast / counts.committed,
    rejected: counts.rejected,
    reconciled: counts.reconciled,
    retransmitted: counts.retransmitted,
    failed: counts.failed,
    viewChanges: counts.viewChanges,
    killed:
      killed === null
        ? null
        : {
            replica: killed.replica,
            role: killed.role,
            atSeconds: killed.atMs / 1000,
            slowestAfterNs: after!.slowestNs,
            committedAfter: after!.operations,
          },
    readBack,
    report,
    partial,
    host: hostInfo(),
    version: version(),
  };
}

function summaryText(result: DemoResult): string {
  const { latencyNs: latency, killed, readBack } = result;
  const lines = [
    `committed       ${formatCount(result.operations)} key-value operations in ${result.seconds.toFixed(1)} s: ${formatCount(result.opsPerSecond)} a second`,
    `latency         p50 ${formatDuration(latency.p50)}   p99 ${formatDuration(latency.p99)}   p99.9 ${formatDuration(latency.p999)}   max ${formatDuration(latency.max)}`,
    `one round trip  ${result.fastPathRatio === null ? 'nothing committed' : `${(result.fastPathRatio * 100).toFixed(2)} % of commits`}`,
    `otherwise       ${formatCount(result.rejected)} rejects, ${formatCount(result.reconciled)} reconciled, ${formatCount(result.retransmitted)} resent, ${formatCount(result.failed)} failed, ${result.viewChanges} view changes`,
  ];
  if (killed !== null) {
    const role = killed.role === 'spare' ? 'the spare, outside the quorum' : 'a member of the quorum';
    lines.push(
      `failure         replica ${killed.replica} (${role}) killed at ${killed.atSeconds.toFixed(1)} s; ${formatCount(killed.committedAfter)} commits after it, the slowest in ${formatDuration(killed.slowestAfterNs)}`,
    );
  }
  lines.push(
    `read back       ${formatCount(readBack.keys - readBack.wrong)} of ${formatCount(readBack.keys)} keys hold what was last written to them`,
  );
  if (result.partial !== null) lines.push(`partial         ${result.partial}`);
  if (result.report !== null) lines.push(`report          ${result.report}`);
  return lines.join('\n');
}
