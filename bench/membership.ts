/**
 * Changes the members of a cluster of real processes under load, and measures what the clients notice.
 *
 *   npm run bench:membership 200 changes, and a joiner that copies 256 MiB
 *   npm run bench:membership -- --changes 18 --state 0 the changes alone, two of each kind
 *
 * The load is an open loop of writes: a latency counts from the moment at which the operation was intended. A second
 * client reads, writes and compares on a few keys; its history must be linearizable in the end. The operator's tool is
 * the one of `jitpaxos member`, in this process. What an added host does runs on the same processors as the load: it
 * starts a process, compiles, copies. On hosts of their own it would not be seen by the others.
 */
import { fileURLToPath } from 'node:url';
import { Client } from '../src/client/client.js';
import { KvClient } from '../src/client/kv-client.js';
import { CliError } from '../src/console/exit.js';
import { formatCount, formatDuration } from '../src/console/units.js';
import { silentLogger } from '../src/host/logger.js';
import { version } from '../src/host/version.js';
import { Children, LineChild } from '../src/measure/compare/line-child.js';
import { median } from '../src/measure/compare/rounds.js';
import { hostInfo } from '../src/measure/load/bench-report.js';
import { Interruption } from '../src/measure/load/interruption.js';
import { seededRandom } from '../src/measure/load/random.js';
import type { LocalClusterOptions } from '../src/measure/local-cluster.js';
import { checkHistory, explain } from '../src/sim/linearizability.js';
import { checkMissed, goalsTable, judged, type RowResult } from './goals/row.js';
import {
  CHANGES,
  isPlanned,
  makeChange,
  merged,
  pauseMs,
  planOf,
  sleep,
  windowOf,
  type Change,
  type Changed,
} from './membership/changes.js';
import { ChangingCluster } from './membership/changing-cluster.js';
import { measureCatchUp, type CatchUp } from './membership/catching-up.js';
import { stagesText } from './membership/stages.js';
import type { SteadyClientSetup, Window } from './membership/steady-client.js';
import { program } from './program.js';
import { RecordedLoad } from './recorded-load.js';

const CLIENT = fileURLToPath(new URL('./membership/steady-client.js', import.meta.url));
const LANES = 1024;
const VALUE_BYTES = 64;
/** Higher than any host's peak. */
const BEYOND_PEAK = 2e6;
const PEAK_MS = 3_000;
const OPERATION_TIMEOUT_MS = 10_000;
const RECORDED_PROCESSES = 4;
const THINK_MS = 10;
const NS_PER_MS = 1e6;

await program(
  {
    name: 'npm run bench:membership --',
    summary: 'Changes the members of a cluster under load, and measures what its clients notice.',
    positionals: [],
    flags: {
      changes: { kind: 'count', default: '200', max: 10_000, help: 'changes in a row; 0: none' },
      only: {
        kind: 'text',
        value: 'CHANGE,…',
        standard: 'all, one after the other',
        help: `only these: ${CHANGES.join(', ')}`,
      },
      rate: {
        kind: 'count',
        default: '20000',
        min: 1,
        max: 1e6,
        help: 'writes a second, or half of what this host can do if that is less',
      },
      state: {
        kind: 'bytes',
        default: '240MiB',
        max: 250 << 20,
        help: 'keys and values that a joiner copies; 0: no joiner',
      },
      steady: {
        kind: 'duration',
        default: '1s',
        min: 1e7,
        max: 60e9,
        help: 'how long the load is looked at before each change, and after it',
      },
      warmup: { kind: 'duration', default: '10s', max: 600e9, help: 'how long the load runs before' },
      durability: {
        kind: 'choice',
        choices: ['memory', 'os', 'fsync'],
        default: 'memory',
        help: 'what is on disk before an acknowledgement',
      },
      transport: {
        kind: 'choice',
        choices: ['auto', 'native', 'dgram'],
        default: 'auto',
        help: 'auto: native where the addon is',
      },
      keys: { kind: 'switch', help: 'the cluster authenticates its datagrams' },
      seed: { kind: 'count', default: '1', max: 0x7fffffff, help: 'seed of arrivals, operations and keys' },
      strict: { kind: 'switch', help: 'exit with 4 when a goal is missed' },
    },
    examples: [
      'npm run bench:membership',
      'npm run bench:membership -- --changes 6 --only replace-primary,dead-primary --state 0 --json',
    ],
  },
  async ({ changes, only, rate, state, steady, warmup, durability, transport, keys, seed, strict }, output) => {
    using interruption = new Interruption();
    const plan = planOf(changesNamed(only), changes);
    if (plan.length === 0 && state === 0)
      throw new CliError('flag-invalid', '--changes and --state are both 0, so nothing would be measured');
    const cluster: LocalClusterOptions = { replicas: 3, machine: 'kv', transport, durability, authenticated: keys };
    const load = { transport, lanes: LANES, bytes: VALUE_BYTES, seed, timeoutMs: OPERATION_TIMEOUT_MS };
    const startedMs = performance.now();
    const peak = await peakOf(cluster, load);
    const ratePerSecond = Math.min(rate, Math.floor(peak / 2));
    output.note(
      `peak of one client: ${formatCount(peak)}/s; the load is ${formatCount(ratePerSecond)}/s${ratePerSecond < rate ? ', half of it' : ''}`,
    );
    const rows: RowResult[] = [];
    let changed: ChangesResult | undefined;
    if (plan.length > 0) {
      changed = await measureChanges(
        plan,
        cluster,
        { ...load, ratePerSecond },
        { steadyMs: steady / NS_PER_MS, warmupMs: warmup / NS_PER_MS, seed },
        interruption,
        output.note,
      );
      if (changed.all.length > 0) rows.push(...rowsOf(changed));
    }
    let caughtUp: CatchUp | undefined;
    if (state > 0 && !interruption.requested) {
      caughtUp = await measureCatchUp({
        cluster,
        state,
        startLoad: (file, children) => startLoad({ ...load, ratePerSecond, cluster: file }, children),
        steadyMs: (5 * steady) / NS_PER_MS,
        warmupMs: warmup / NS_PER_MS,
        note: output.note,
      });
      rows.push(...catchUpRows(caughtUp));
    }
    const result = {
      schema: 'jitpaxos.membership/1',
      rows,
      missed: rows.filter(({ holds }) => !holds).map(({ name }) => name),
      ratePerSecond,
      askedPerSecond: rate,
      /** It was ended before all changes were made. */
      interrupted: interruption.stopped,
      peakPerSecond: peak,
      durability,
      authenticated: keys,
      seed,
      changes: changed === undefined ? [] : changed.all.map(figuresOf),
      kinds: changed === undefined ? [] : kindsOf(changed.all),
      history: changed?.history ?? null,
      catchUp: caughtUp ?? null,
      seconds: (performance.now() - startedMs) / 1000,
      host: hostInfo(),
      version: version(),
    };
    output.line(
      output.json
        ? JSON.stringify(result)
        : [goalsTable(rows, result.seconds), ...(changed === undefined ? [] : ['', kindsTable(changed.all)])].join(
            '\n',
          ),
    );
    if (changed !== undefined && changed.history !== 'linearizable')
      throw new CliError('read-back-differs', `the history is not linearizable (--seed ${seed}): ${changed.explained}`);
    checkMissed(result.missed, strict);
  },
);

function changesNamed(only: string | undefined): readonly Change[] {
  const names = only?.split(',') ?? CHANGES;
  const unknown = names.find((name) => !(CHANGES as readonly string[]).includes(name));
  if (unknown !== undefined)
    throw new CliError('flag-invalid', `--only: "${unknown}" is no change; there are ${CHANGES.join(', ')}`);
  return names as readonly Change[];
}

async function startLoad(setup: SteadyClientSetup, children: Children): Promise<LineChild> {
  const client = children.add(LineChild.start(process.execPath, [CLIENT, JSON.stringify(setup)], 'the client'));
  await client.ready();
  return client;
}

/** Operations a second of one client, with as many open as it may have. */
async function peakOf(
  options: LocalClusterOptions,
  load: Omit<SteadyClientSetup, 'cluster' | 'ratePerSecond'>,
): Promise<number> {
  await using cluster = await ChangingCluster.start(options);
  await using children = new Children();
  const client = await startLoad(
    { ...load, cluster: cluster.cluster.clusterFile, ratePerSecond: BEYOND_PEAK },
    children,
  );
  await sleep(PEAK_MS);
  await windowOf(client);
  await sleep(PEAK_MS);
  const { committed, seconds } = await windowOf(client);
  return committed / seconds;
}

interface ChangesResult {
  readonly all: readonly Changed[];
  readonly committed: number;
  readonly failed: number;
  /** Of the recorded client. */
  readonly unknown: number;
  readonly recorded: number;
  readonly history: string;
  readonly explained: string;
}

async function measureChanges(
  plan: readonly Change[],
  options: LocalClusterOptions,
  load: Omit<SteadyClientSetup, 'cluster'>,
  { steadyMs, warmupMs, seed }: { readonly steadyMs: number; readonly warmupMs: number; readonly seed: number },
  interruption: Interruption,
  note: (text: string) => void,
): Promise<ChangesResult> {
  await using cluster = await ChangingCluster.start(options);
  const { clusterFile } = cluster.cluster;
  await using children = new Children();
  const client = await startLoad({ ...load, cluster: clusterFile }, children);
  await using recording = await Client.connect({
    cluster: clusterFile,
    lanes: RECORDED_PROCESSES,
    logger: silentLogger,
  });
  const recorded = new RecordedLoad(new KvClient(recording), seededRandom(seed), THINK_MS, OPERATION_TIMEOUT_MS);
  recorded.start(RECORDED_PROCESSES);
  const all: Changed[] = [];
  try {
    await sleep(warmupMs);
    // The change that is being made when the user asks for the end is made first.
    await interruption.during(
      () => note('interrupted: the summary follows when the present change is made'),
      async () => {
        for (const [at, change] of plan.entries()) {
          if (interruption.requested) return;
          const changed = await makeChange(change, cluster, client, { steadyMs });
          all.push(changed);
          note(`${at + 1} of ${plan.length}: ${describe(changed)}`);
        }
      },
    );
  } finally {
    await recorded.stop();
  }
  const windows = all.flatMap(windowsOf);
  const verdict = checkHistory(recorded.recorded.events);
  return {
    all,
    committed: windows.reduce((sum, { committed }) => sum + committed, 0),
    failed: windows.reduce((sum, { failed }) => sum + failed, 0),
    unknown: recorded.unknown,
    recorded: recorded.commitsMs.length,
    history: verdict.outcome,
    explained: verdict.outcome === 'linearizable' ? '' : explain(verdict),
  };
}

function windowsOf({ steady, failover, copying, during, after, control }: Changed): readonly Window[] {
  return [steady, failover, copying, during, after, control].filter((window) => window !== undefined);
}

/** What belongs to a change: the copy of the state, the change, and as long afterwards as was looked at before. */
function partsOf({ copying, during, after }: Changed): readonly Window[] {
  return [copying, during, after].filter((window) => window !== undefined);
}

function describe({ change, steady, failover, copying, during, after, control, stages }: Changed): string {
  const p99 = (window: Window): string => formatDuration(merged([window]).quantile(0.99));
  return `${change} in ${during.seconds.toFixed(2)} s: ${failover === undefined ? '' : `no commits for ${pauseMs(failover).toFixed(1)} ms at its death, `}${copying === undefined ? '' : `${pauseMs(copying).toFixed(1)} ms in ${copying.seconds.toFixed(2)} s of copying, `}no commits for ${pauseMs(during).toFixed(1)} ms at the change (${pauseMs(steady).toFixed(1)} ms before, ${pauseMs(after).toFixed(1)} ms after, ${pauseMs(control).toFixed(1)} ms in as long without a change); p99 ${p99(steady)}, ${p99(during)}, ${p99(after)}${stages === undefined ? '' : `; ${stagesText(stages)}`}`;
}

interface Kind {
  readonly change: Change;
  readonly count: number;
  readonly secondsMedian: number;
  readonly gapMs: { readonly median: number; readonly worst: number };
  /** While a host that joins starts and copies the state; null if none joins. */
  readonly copyingGapMs: { readonly median: number; readonly worst: number } | null;
  /** At the death of the host that is replaced; null if it was alive. */
  readonly failoverMs: { readonly median: number; readonly worst: number } | null;
  readonly steadyGapMs: { readonly median: number; readonly worst: number };
  /** In windows as long as those of the changes, without a change. */
  readonly controlGapMs: { readonly median: number; readonly worst: number };
  readonly p99Ns: { readonly before: number; readonly during: number; readonly after: number };
}

function figuresOf(changed: Changed) {
  const { change, steady, failover, copying, during, after, control, stages } = changed;
  const of = (window: Window) => ({
    seconds: window.seconds,
    gapMs: pauseMs(window),
    p99Ns: merged([window]).quantile(0.99),
    committed: window.committed,
    failed: window.failed,
  });
  return {
    change,
    steady: of(steady),
    failover: failover === undefined ? null : of(failover),
    copying: copying === undefined ? null : of(copying),
    during: of(during),
    after: of(after),
    control: of(control),
    stages: stages ?? null,
  };
}

function spread(values: readonly number[]): { readonly median: number; readonly worst: number } {
  return { median: median(values), worst: Math.max(...values) };
}

function kindsOf(all: readonly Changed[]): readonly Kind[] {
  return CHANGES.flatMap((change) => {
    const of = all.filter((changed) => changed.change === change);
    if (of.length === 0) return [];
    const copies = of.flatMap(({ copying }) => (copying === undefined ? [] : [pauseMs(copying)]));
    const failovers = of.flatMap(({ failover }) => (failover === undefined ? [] : [pauseMs(failover)]));
    return [
      {
        change,
        count: of.length,
        secondsMedian: median(of.map(({ during }) => during.seconds)),
        gapMs: spread(of.map(({ during }) => pauseMs(during))),
        failoverMs: failovers.length === 0 ? null : spread(failovers),
        copyingGapMs: copies.length === 0 ? null : spread(copies),
        steadyGapMs: spread(of.map(({ steady }) => pauseMs(steady))),
        controlGapMs: spread(of.map(({ control }) => pauseMs(control))),
        p99Ns: {
          before: merged(of.map(({ steady }) => steady)).quantile(0.99),
          during: merged(of.flatMap(partsOf)).quantile(0.99),
          after: merged(of.map(({ after }) => after)).quantile(0.99),
        },
      },
    ];
  });
}

function kindsTable(all: readonly Changed[]): string {
  const both = ({ median, worst }: { readonly median: number; readonly worst: number }): string =>
    `${median.toFixed(1)} / ${worst.toFixed(1)} ms`;
  return [
    '| change | count | takes | no commits at the change, median / worst | in as long without a change | while a joiner starts and copies | at the death of the old host | before | p99 before, from copy to end, after |',
    '| --- | --- | --- | --- | --- | --- | --- | --- | --- |',
    ...kindsOf(all).map(
      ({ change, count, secondsMedian, gapMs, controlGapMs, copyingGapMs, failoverMs, steadyGapMs, p99Ns }) =>
        `| ${change} | ${count} | ${secondsMedian.toFixed(2)} s | ${both(gapMs)} | ${both(controlGapMs)} | ${copyingGapMs === null ? '' : both(copyingGapMs)} | ${failoverMs === null ? '' : both(failoverMs)} | ${both(steadyGapMs)} | ${formatDuration(p99Ns.before)}, ${formatDuration(p99Ns.during)}, ${formatDuration(p99Ns.after)} |`,
    ),
  ].join('\n');
}

function rowsOf(result: ChangesResult): readonly RowResult[] {
  const { all, committed, failed, unknown, recorded, history } = result;
  const planned = all.filter(({ change }) => isPlanned(change));
  const dead = all.filter(({ change }) => !isPlanned(change));
  const rows: RowResult[] = [];
  if (planned.length > 0) {
    const gap = spread(planned.map(({ during }) => pauseMs(during)));
    const steady = spread(planned.map((each) => pauseMs(each.steady)));
    const control = spread(planned.map((each) => pauseMs(each.control)));
    rows.push(
      judged({
        name: 'planned-gap',
        what: `${planned.length} planned changes, once the joiner has the state: longest time without commits, median; worst`,
        goal: '≤ 10 ms; ≤ 50 ms',
        measured: `${gap.median.toFixed(1)} ms; ${gap.worst.toFixed(1)} ms`,
        figures: [
          { value: gap.median, atMost: 10 },
          { value: gap.worst, atMost: 50 },
        ],
        values: {
          medianMs: gap.median,
          worstMs: gap.worst,
          steadyMedianMs: steady.median,
          steadyWorstMs: steady.worst,
          controlMedianMs: control.median,
          controlWorstMs: control.worst,
        },
        note: `in windows as long, without a change: ${control.median.toFixed(1)} ms; ${control.worst.toFixed(1)} ms; in steady windows before them: ${steady.median.toFixed(1)} ms; ${steady.worst.toFixed(1)} ms`,
      }),
    );
  }
  if (dead.length > 0) {
    const gap = spread(dead.map(({ during }) => pauseMs(during)));
    const failover = spread(dead.map((each) => pauseMs(each.failover!)));
    const ratio = gap.median / failover.median;
    rows.push(
      judged({
        name: 'dead-gap',
        what: `${dead.length} dead hosts replaced: median time without commits ÷ that at their deaths`,
        goal: '≤ 1',
        measured: ratio.toFixed(2),
        figures: [{ value: ratio, atMost: 1 }],
        values: { ratio, gap, failover },
        note: `median; worst at the change ${gap.median.toFixed(1)} ms; ${gap.worst.toFixed(1)} ms, at the death ${failover.median.toFixed(1)} ms; ${failover.worst.toFixed(1)} ms`,
      }),
    );
  }
  const p99 = (windows: readonly Window[]): number => merged(windows).quantile(0.99);
  const [before, during, after] = [
    p99(all.map(({ steady }) => steady)),
    p99(all.flatMap(partsOf)),
    p99(all.map((each) => each.after)),
  ];
  rows.push(
    judged({
      name: 'change-p99',
      what: 'p99 from the beginning of the copy until as long after the change as was looked at before ÷ p99 before',
      goal: '≤ 1.5',
      measured: (during / before).toFixed(2),
      figures: [{ value: during / before, atMost: 1.5 }],
      values: { beforeNs: before, duringNs: during, afterNs: after },
      note: `${formatDuration(before)} before, ${formatDuration(during)} during, ${formatDuration(after)} after`,
    }),
    judged({
      name: 'change-lost',
      what: `operations failed, of ${formatCount(committed + failed)}, and with unknown outcome, of ${formatCount(recorded + unknown)} whose history is judged`,
      goal: '0; linearizable',
      measured: `${failed + unknown}; ${history}`,
      figures: [
        { value: failed + unknown, atMost: 0 },
        { value: history === 'linearizable' ? 0 : 1, atMost: 0 },
      ],
      values: { failed, unknown, history },
    }),
  );
  return rows;
}

function catchUpRows({ bytes, seconds, copySeconds, p99Ns }: CatchUp): readonly RowResult[] {
  const ratio = seconds / copySeconds;
  const slower = p99Ns.during / p99Ns.before;
  return [
    judged({
      name: 'catch-up',
      what: `a joiner copies ${formatCount(Math.round(bytes / 2 ** 20))} MiB of state: time ÷ copying as many bytes over the same transport, under the same load`,
      goal: '≤ 1.5',
      measured: ratio.toFixed(2),
      figures: [{ value: ratio, atMost: 1.5 }],
      values: { ratio, seconds, copySeconds },
      note: `${seconds.toFixed(2)} s from the entry that lists it until it lacks at most 1,024 entries; the copy took ${copySeconds.toFixed(2)} s`,
    }),
    judged({
      name: 'catch-up-p99',
      what: 'p99 of commits meanwhile ÷ steady',
      goal: '≤ 2',
      measured: slower.toFixed(2),
      figures: [{ value: slower, atMost: 2 }],
      values: { ...p99Ns },
      note: `${formatDuration(p99Ns.before)} before, ${formatDuration(p99Ns.during)} meanwhile, ${formatDuration(p99Ns.copy)} beside the copy`,
    }),
  ];
}
