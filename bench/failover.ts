/**
 * Kills replicas of a cluster of real processes under load, restarts them, and reports for how long nothing committed.
 *
 *   npm run bench:failover the primary, 50 times
 *   npm run bench:failover -- --replicas 5 --victims subsets every pair of replicas at once; at 7 every three
 *
 * The load is a closed loop of reads, writes and compare-and-sets on a few keys. Everything its clients saw is a
 * history, which must be linearizable in the end: a lost acknowledged write would show in it. Every kill is SIGKILL,
 * and loses the log in durability `memory`. The interval without commits is the longest between two commits from just
 * before the kill until the victims are back.
 */
import { KvClient } from '../src/client/kv-client.js';
import { Client } from '../src/client/client.js';
import { LocalCluster } from '../src/measure/local-cluster.js';
import { seededRandom } from '../src/measure/load/random.js';
import { hostInfo } from '../src/measure/load/bench-report.js';
import { formatDuration } from '../src/console/units.js';
import { CliError } from '../src/console/exit.js';
import { silentLogger } from '../src/host/logger.js';
import type { ReplicaStatusReport } from '../src/host/status.js';
import { checkHistory, explain } from '../src/sim/linearizability.js';
import { median } from '../src/measure/compare/rounds.js';
import { goalsTable, judged, type RowResult } from './goals/row.js';
import { program } from './program.js';
import { RecordedLoad } from './recorded-load.js';
import { version } from '../src/host/version.js';

/** The goal: the median pause, and the longest one of nearly all kills. */
const MEDIAN_GOAL_MS = 50;
const WORST_GOAL_MS = 150;
/** Pause between two operations of a process, ms: the load should be steady without starving what is measured. */
const THINK_MS = 1;
const RECOVERY_LIMIT_MS = 20_000;
const OPERATION_TIMEOUT_MS = 5_000;

await program(
  {
    name: 'npm run bench:failover --',
    summary: 'Kills replicas under load, brings them back, and measures how long nothing commits.',
    positionals: [],
    flags: {
      replicas: { kind: 'count', default: '3', min: 3, max: 13, help: 'replicas, an odd number' },
      kills: { kind: 'count', default: '50', min: 1, max: 10_000, help: 'kills, with --victims primary' },
      victims: {
        kind: 'choice',
        choices: ['primary', 'subsets'],
        default: 'primary',
        help: 'the primary each time, or every set of f replicas at once',
      },
      processes: { kind: 'count', default: '4', min: 1, max: 64, help: 'operations open at a time' },
      seed: { kind: 'count', default: '1', max: 0x7fffffff, help: 'seed of the choice of operations and keys' },
    },
    examples: ['npm run bench:failover', 'npm run bench:failover -- --replicas 5 --victims subsets --json'],
  },
  async ({ replicas, kills, victims, processes, seed }, output) => {
    if (replicas % 2 === 0) throw new CliError('flag-invalid', `--replicas is an odd number, not ${replicas}`);
    await using cluster = await LocalCluster.start({
      replicas,
      machine: 'kv',
      transport: 'auto',
      durability: 'memory',
    });
    await using client = await Client.connect({ cluster: cluster.clusterFile, lanes: processes, logger: silentLogger });
    const load = new RecordedLoad(new KvClient(client), seededRandom(seed), THINK_MS, OPERATION_TIMEOUT_MS);
    const startedMs = performance.now();
    load.start(processes);
    await allNormal(cluster);
    const plan =
      victims === 'subsets' ? subsets(replicas, (replicas - 1) / 2) : Array.from({ length: kills }, () => undefined);
    const pausesMs: number[] = [];
    for (const [round, chosen] of plan.entries()) {
      await sleep(150);
      const dead = chosen ?? [(await allNormal(cluster))[0]!.primary];
      const killedMs = performance.now();
      for (const id of dead) cluster.replicas[id]!.kill('SIGKILL');
      await firstCommitAfter(load, killedMs + 250);
      for (const id of dead) await cluster.spawn(id).waitReady();
      await allNormal(cluster);
      const pauseMs = longestPauseMs(load, killedMs - 5, performance.now());
      pausesMs.push(pauseMs);
      output.note(
        `${round + 1} of ${plan.length}: killed ${dead.join(', ')}, nothing committed for ${pauseMs.toFixed(1)} ms`,
      );
    }
    await load.stop();
    const verdict = checkHistory(load.recorded.events);
    const views = (await allNormal(cluster))[0]!.view;
    const worstMs = Math.max(...pausesMs);
    const rows = [pauseRow(replicas, victims, pausesMs)];
    const result = {
      schema: 'jitpaxos.failover/1',
      rows,
      missed: rows.filter(({ holds }) => !holds).map(({ name }) => name),
      replicas,
      victims,
      seed,
      kills: pausesMs.length,
      operations: load.commitsMs.length,
      unknown: load.unknown,
      view: views,
      pauseMs: { median: median(pausesMs), worst: worstMs, all: pausesMs.map((ms) => Math.round(ms * 10) / 10) },
      history: verdict.outcome,
      seconds: (performance.now() - startedMs) / 1000,
      host: hostInfo(),
      version: version(),
    };
    output.line(
      output.json
        ? JSON.stringify(result)
        : [
            `kills       ${result.kills} of ${victims === 'primary' ? 'the primary' : `${(replicas - 1) / 2} replicas at once`}, ${replicas} replicas, view ${views} in the end`,
            `operations  ${result.operations} committed, ${result.unknown} with unknown outcome`,
            `no commits  median ${formatDuration(result.pauseMs.median * 1e6)}, worst ${formatDuration(worstMs * 1e6)}`,
            `history     ${verdict.outcome}`,
            '',
            goalsTable(rows, result.seconds),
          ].join('\n'),
    );
    if (verdict.outcome !== 'linearizable')
      throw new CliError('read-back-differs', `the history is not linearizable (--seed ${seed}): ${explain(verdict)}`);
  },
);

function pauseRow(replicas: number, victims: string, pausesMs: readonly number[]): RowResult {
  const [middle, worst] = [median(pausesMs), Math.max(...pausesMs)];
  const killed = victims === 'primary' ? 'the primary' : `every ${(replicas - 1) / 2} replicas at once`;
  return judged({
    name: 'failover',
    what: `kill -9 of ${killed}, ${replicas} replicas, ${pausesMs.length} kills: time without commits; worst`,
    goal: `≤ ${MEDIAN_GOAL_MS} ms; ≤ ${WORST_GOAL_MS} ms`,
    measured: `${formatDuration(middle * 1e6)}; ${formatDuration(worst * 1e6)}`,
    figures: [
      { value: middle, atMost: MEDIAN_GOAL_MS },
      { value: worst, atMost: WORST_GOAL_MS },
    ],
    values: { medianMs: middle, worstMs: worst },
  });
}

/** The longest time between two commits from `fromMs` to `toMs`, on the clock of `performance.now`. */
function longestPauseMs({ commitsMs }: RecordedLoad, fromMs: number, toMs: number): number {
  let before = fromMs;
  let longest = 0;
  for (let i = commitsMs.findIndex((at) => at >= fromMs); i >= 0 && i < commitsMs.length && before < toMs; i++) {
    longest = Math.max(longest, commitsMs[i]! - before);
    before = commitsMs[i]!;
  }
  return Math.max(longest, before < toMs ? toMs - before : 0);
}

/** Status of every replica, once all are in normal operation of one view and hold everything committed. */
async function allNormal(cluster: LocalCluster): Promise<ReplicaStatusReport[]> {
  const deadline = performance.now() + RECOVERY_LIMIT_MS;
  for (;;) {
    const answers = await cluster.ask('stats');
    const reports = answers.map((answer) => answer?.status as ReplicaStatusReport | undefined);
    const known = reports.filter((report) => report !== undefined);
    const settled =
      known.length === cluster.replicas.length &&
      known.every(
        (report) => report.status === 'normal' && report.view === known[0]!.view && report.committedIndex > 0,
      );
    if (settled) return known;
    if (performance.now() > deadline)
      throw new CliError(
        'replica-not-ready',
        `the replicas did not all return within ${RECOVERY_LIMIT_MS / 1000} s: ${reports.map((report, id) => `${id} ${report === undefined ? 'silent' : `${report.status} view ${report.view}`}`).join(', ')}`,
      );
    await sleep(10);
  }
}

async function firstCommitAfter(load: RecordedLoad, afterMs: number): Promise<void> {
  const deadline = performance.now() + RECOVERY_LIMIT_MS;
  while ((load.commitsMs.at(-1) ?? 0) < afterMs) {
    if (performance.now() > deadline)
      throw new CliError('replica-not-ready', `nothing committed within ${RECOVERY_LIMIT_MS / 1000} s of a kill`);
    await sleep(5);
  }
}

/** Every set of `size` of the numbers below `n`. */
function subsets(n: number, size: number, from = 0): number[][] {
  if (size === 0) return [[]];
  const all: number[][] = [];
  for (let first = from; first <= n - size; first++)
    for (const rest of subsets(n, size - 1, first + 1)) all.push([first, ...rest]);
  return all;
}

function sleep(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
