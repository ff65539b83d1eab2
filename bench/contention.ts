/**
 * Contention on real sockets: 2, 4, 8, 16 client processes in an open loop against a cluster on loopback, at rising
 * rates, with equal and with skewed load, for each setting of contention-settings.ts. After the last rate each setting
 * gets the first one again. This shows how much of the peak is left past the knee, and how soon a setting recovers when
 * the load drops: from the end of the highest rate to the first tenth of a second with its throughput and a median of
 * at most twice the earlier one.
 *
 * If there are fewer cores than processes, the result is mostly the host's scheduler; the ratios between settings in
 * one invocation are worth more than the numbers. bench:contention-sim measures the same without a host.
 *
 *   npm run bench:contention -- [--clients 2,4,8,16] [--rates 2000,10000,40000] [--seconds 2] [--report
 *   contention.html] [--json]
 */
import { availableParallelism } from 'node:os';
import { LocalCluster } from '../src/measure/local-cluster.js';
import { OpenLoad } from '../src/measure/load/open-load.js';
import { hostInfo } from '../src/measure/load/bench-report.js';
import { checkWritable, writeOutput } from '../src/console/output-file.js';
import { Histogram } from '../src/metrics/histogram.js';
import { contentionPage } from './contention-page.js';
import { CONTENTION_NAMES, CONTENTION_SETTINGS, shares, type ContentionSetting } from './contention-settings.js';
import { namesOf, numbersOf, program } from './program.js';

const OPERATION_BYTES = 64;
const LANES = 256;
const TIMEOUT_MS = 5_000;
const WARM_UP_SHARE = 0.25;
/** Time for compilers and lead to settle before the first step, at its rate. */
const SETTLE_MS = 2000;
/**
 * Intervals in which recovery is looked for, and what counts as recovered: share of the rate, and multiple of the
 * earlier median.
 */
const INTERVAL_MS = 100;
const RECOVERED_SHARE = 0.8;
const RECOVERED_MEDIANS = 2;
/** Between two steps: the head start that all processes get. */
const HEAD_START_MS = 30;
/** The goal: share of the peak that is left past the knee. */
const PAST_KNEE = 0.8;

export interface Row {
  readonly setting: string;
  readonly clients: number;
  readonly skew: number;
  readonly offered: number;
  /** The first rate again, right after the last one. */
  readonly afterPeak: boolean;
  readonly throughput: number;
  readonly oneRoundTrip: number;
  readonly moreThanOneAndAHalf: number;
  readonly rejects: number;
  readonly reconciles: number;
  readonly retransmissions: number;
  readonly failed: number;
  readonly viewChanges: number;
  readonly p50Us: number;
  readonly p99Us: number;
  /** After the peak: time from the end of the highest rate until all was as before; null: not within the step. */
  readonly recoveredMs: number | null;
}

interface Options {
  readonly replicas: number;
  readonly transport: string;
  readonly rates: readonly number[];
  readonly seconds: number;
}

await program(
  {
    name: 'npm run bench:contention --',
    summary: 'Contention of several client processes on loopback, for the published protocol and its remedies.',
    positionals: [],
    flags: {
      clients: { kind: 'text', value: 'K,…', default: '2,4,8,16', help: 'numbers of client processes' },
      rates: {
        kind: 'text',
        value: 'R,…',
        default: '2000,10000,20000,40000',
        help: 'operations a second of all clients together, rising',
      },
      skews: {
        kind: 'text',
        value: 'S,…',
        default: '0,1',
        help: 'client k has a share of the load in proportion to 1 / (k + 1)^S',
      },
      settings: { kind: 'text', value: 'NAME,…', default: CONTENTION_NAMES.join(','), help: 'settings to run' },
      replicas: { kind: 'count', default: '3', min: 3, max: 13, help: 'replicas, an odd number' },
      transport: {
        kind: 'choice',
        choices: ['auto', 'native', 'dgram'],
        default: 'auto',
        help: 'of replicas and clients',
      },
      seconds: { kind: 'count', default: '2', min: 1, max: 600, help: 'length of a step, the first quarter warms up' },
      report: { kind: 'text', value: 'FILE', help: 'write charts and tables as one HTML file' },
    },
    examples: ['npm run bench:contention -- --clients 8 --rates 10000 --json'],
  },
  async (values, output) => {
    checkWritable('report', values.report);
    const options: Options = {
      replicas: values.replicas,
      transport: values.transport,
      rates: numbersOf('--rates', values.rates),
      seconds: values.seconds,
    };
    const settings = namesOf('--settings', values.settings, CONTENTION_SETTINGS);
    const rows: Row[] = [];
    const header =
      'clients skew  offered  setting         1-RTT%  >1.5RTT%  reject%  reconc%  resent%   ops/s     p50µs     p99µs  views';
    if (!output.json) output.line(header);
    for (const clients of numbersOf('--clients', values.clients)) {
      for (const skew of numbersOf('--skews', values.skews)) {
        for (const setting of settings) {
          await measure(setting, clients, skew, options, (row) => {
            rows.push(row);
            if (!output.json) output.line(lineOf(row));
          });
        }
      }
    }
    const verdicts = verdictsOf(rows);
    const report = (): void =>
      writeOutput('report', values.report, () =>
        contentionPage(rows, verdicts, `npm run bench:contention -- ${process.argv.slice(2).join(' ')}`),
      );
    if (output.json) {
      output.line(
        JSON.stringify({
          schema: 'jitpaxos.contention/1',
          replicas: options.replicas,
          opBytes: OPERATION_BYTES,
          lanes: LANES,
          seconds: options.seconds,
          cores: availableParallelism(),
          rows,
          verdicts,
          host: hostInfo(),
        }),
      );
      report();
      return;
    }
    for (const { setting, clients, skew, peak, last, recoveredMs } of verdicts) {
      output.line(
        `${setting.padEnd(14)} ${clients} clients, skew ${skew}: ${(100 * last).toFixed(0)} % of the peak (${peak} operations/s) at the highest rate${last < PAST_KNEE ? ', less than the 80 % of the goal' : ''}; as before ${recoveredMs === null ? 'not within the step' : `${recoveredMs} ms`} after the load dropped`,
      );
    }
    output.line(
      `${availableParallelism()} cores for ${options.replicas} replicas and the clients: beyond one process a core, compare settings, not hosts`,
    );
    report();
  },
);

async function measure(
  setting: ContentionSetting,
  clients: number,
  skew: number,
  options: Options,
  done: (row: Row) => void,
): Promise<void> {
  const { replicas, transport, rates, seconds } = options;
  const hold = setting.timings.orderHoldUs;
  const replicaFlags = ['--late', setting.late, ...(hold === undefined ? [] : ['--order-hold', `${hold}us`])];
  await using cluster = await LocalCluster.start({
    replicas,
    machine: 'echo',
    transport,
    durability: 'memory',
    replicaFlags,
  });
  const load = await OpenLoad.start({
    clients,
    cluster: cluster.clusterFile,
    transport: transport as 'auto',
    idle: undefined,
    pacing: 'sleep',
    history: undefined,
    shares: shares(clients, skew),
    maxLeadNs: setting.maxLeadNs,
    workload: (index) => ({
      machine: 'echo',
      lanes: LANES,
      size: OPERATION_BYTES,
      mix: { write: 1 },
      keys: 1,
      keyPrefix: `c${index}.`,
      ownKeys: true,
      seed: index + 1,
      timeoutMs: TIMEOUT_MS,
    }),
  });
  try {
    const [first] = rates;
    await load.step({
      kind: 'poisson',
      ratePerSecond: first!,
      seed: 99,
      warmupNs: 0,
      durationNs: SETTLE_MS * 1e6,
      intervalMs: SETTLE_MS,
      onProgress: () => undefined,
    });
    let drainedMs = 0;
    let medianBefore = Infinity;
    for (const [step, offered] of [...rates, first!].entries()) {
      const afterPeak = step === rates.length;
      const warmupNs = afterPeak ? 0 : seconds * 1e9 * WARM_UP_SHARE;
      const intervals: Histogram[] = [];
      const startedMs = performance.now();
      const {
        client,
        counts,
        latency,
        seconds: measured,
      } = await load.step({
        kind: 'poisson',
        ratePerSecond: offered,
        seed: step + 1,
        warmupNs,
        durationNs: seconds * 1e9 - warmupNs,
        intervalMs: INTERVAL_MS,
        onProgress: (index, histogram) => void (intervals[index] ??= new Histogram()).merge(histogram),
      });
      const { p50, p99 } = latency.summary();
      if (step === 0) medianBefore = p50 ?? NaN;
      const wanted = offered * (INTERVAL_MS / 1000) * RECOVERED_SHARE;
      const recovered = intervals.findIndex(
        (interval) =>
          interval !== undefined &&
          interval.count >= wanted &&
          interval.quantile(0.5) <= RECOVERED_MEDIANS * medianBefore,
      );
      const recoveredMs =
        !afterPeak || recovered < 0 ? null : Math.round(drainedMs + HEAD_START_MS + (recovered + 1) * INTERVAL_MS);
      // Operations still open at the end of the window have been answered by now.
      drainedMs = Math.max(0, performance.now() - startedMs - HEAD_START_MS - seconds * 1000);
      const each = (count: number): number => count / Math.max(1, client.committed);
      done({
        setting: setting.name,
        clients,
        skew,
        offered,
        afterPeak,
        throughput: Math.round(counts.completedInWindow / measured),
        oneRoundTrip: each(client.fast),
        moreThanOneAndAHalf: each(client.committed - client.fast - client.ordered),
        rejects: each(client.rejected),
        reconciles: each(client.reconciled),
        retransmissions: each(client.retransmitted),
        failed: counts.failed,
        viewChanges: client.viewChanges,
        p50Us: (p50 ?? NaN) / 1000,
        p99Us: (p99 ?? NaN) / 1000,
        recoveredMs,
      });
    }
    await load.end();
  } finally {
    load.close();
  }
}

export interface Verdict {
  readonly setting: string;
  readonly clients: number;
  readonly skew: number;
  readonly peak: number;
  /** Throughput at the highest rate, as a multiple of the peak. */
  readonly last: number;
  /** See Row. */
  readonly recoveredMs: number | null;
}

function verdictsOf(rows: readonly Row[]): Verdict[] {
  return rows
    .filter((row) => row.afterPeak)
    .map((after) => {
      const rising = rows.filter(
        (row) =>
          row.setting === after.setting && row.clients === after.clients && row.skew === after.skew && !row.afterPeak,
      );
      const peak = Math.max(...rising.map((row) => row.throughput));
      return {
        setting: after.setting,
        clients: after.clients,
        skew: after.skew,
        peak,
        last: rising.at(-1)!.throughput / peak,
        recoveredMs: after.recoveredMs,
      };
    });
}

function lineOf(row: Row): string {
  const share = (x: number, digits: number, width: number): string => (100 * x).toFixed(digits).padStart(width);
  return `${String(row.clients).padStart(7)} ${String(row.skew).padStart(4)} ${String(row.offered).padStart(8)}  ${row.setting.padEnd(14)} ${share(row.oneRoundTrip, 2, 7)} ${share(row.moreThanOneAndAHalf, 3, 9)} ${share(row.rejects, 1, 8)} ${share(row.reconciles, 1, 8)} ${share(row.retransmissions, 1, 8)} ${String(row.throughput).padStart(7)} ${row.p50Us.toFixed(0).padStart(9)} ${row.p99Us.toFixed(0).padStart(9)} ${String(row.viewChanges).padStart(6)}${row.afterPeak ? '  after the peak' : ''}`;
}
