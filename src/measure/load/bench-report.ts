/** The report of a bench: the JSON object of the schema `jitpaxos.bench/1`, its table, and assertions on it. */
import { cpus, release } from 'node:os';
import type { HistogramData, LatencySummary } from '../../metrics/histogram.js';
import { signed } from '../../console/clock-values.js';
import { CliError } from '../../console/exit.js';
import { table } from '../../console/terminal.js';
import { formatCount, formatDuration } from '../../console/units.js';
import type { LoadSection } from './load-section.js';
import type { OneWayReport } from '../oneway/figures.js';
import { ONE_WAY_HEAD, oneWayNotes, oneWayRow } from '../oneway/text.js';
import type { ClockOffset, Mix } from './messages.js';
import type { Interval } from './timeline.js';

/** Every field is measured or configured; what could not be measured is null. */
export interface BenchReport {
  readonly schema: 'jitpaxos.bench/1';
  readonly command: 'latency' | 'load' | 'compare';
  /**
   * Why the run is incomplete, such as "interrupted after 2.1 of 30 s"; absent or null if it is complete. For `bench
   * load` it is in `load`.
   */
  readonly partial?: string | null;
  /** Names the run, here and in its histogram log. Results of earlier versions have none. */
  readonly run?: string;
  /** The host's wall clock, ms since the epoch, at second 0 of `timeline`. Results of earlier versions have none. */
  readonly startedAtMs?: number;
  readonly replicas: number;
  readonly transport: string;
  readonly idle: string | null;
  readonly machine: string;
  /** As reported by a replica; null if none answered. */
  readonly durability: string | null;
  /** The cluster file says that datagrams are authenticated. */
  readonly authenticated: boolean;
  /** Most keys that the bench may have left in the store of a running cluster; absent if it wrote none. */
  readonly keysLeft?: number;
  readonly clients: number;
  /** Open operations in each client. */
  readonly lanes: number;
  readonly opBytes: number;
  readonly mix: Mix;
  readonly seconds: number;
  readonly operations: number;
  /** Unmeasured operations before these; null if the warm-up was a time. */
  readonly warmupOperations: number | null;
  readonly opsPerSecond: number;
  /** The rate of an open loop; for a ramp, the rate of the step that the figures describe. */
  readonly offeredPerSecond: number | null;
  readonly latencyNs: LatencySummary;
  readonly fastPathRatio: number | null;
  readonly rejected: number;
  readonly reconciled: number;
  readonly retransmitted: number;
  readonly failed: number;
  readonly viewChanges: number;
  readonly cpuSeconds: { readonly client: number; readonly replicas: readonly (number | null)[] | null };
  /** JavaScript heap only (metrics/heap-meter.ts), including the transport's share. */
  readonly allocatedBytesPerOp: {
    readonly client: number | null;
    readonly primary: number | null;
    readonly member: number | null;
  };
  /**
   * The replicas' clocks: the source of one of them, and the largest error that any states (null: one of them does not
   * know).
   */
  readonly clock: {
    readonly source: string | null;
    readonly errorNs: number | null;
    /**
     * Each replica's clock minus the first client's, from its last replies, with the uncertainty; null: not heard
     * recently.
     */
    readonly offsets?: readonly ClockOffset[];
  };
  /** `compare` only: average number of operations that share a datagram to a replica. */
  readonly operationsPerDatagram?: number;
  /** `compare` only: replicas that poll without sleeping share a process if the host has too few cores. */
  readonly processes?: { readonly clients: number; readonly servers: number };
  readonly baselines: readonly {
    readonly name: string;
    readonly latencyNs: LatencySummary;
    readonly opsPerSecond: number;
    readonly processes?: { readonly clients: number; readonly servers: number };
  }[];
  readonly ratios: Readonly<Record<string, number>>;
  readonly host: { readonly cpu: string; readonly cores: number; readonly kernel: string; readonly node: string };
  readonly version: string;
  /** The command as typed. */
  readonly commandLine?: string;
  /** The source of `latencyNs`, for drawing and comparing. */
  readonly histogram?: HistogramData;
  /** The whole run in intervals of equal length. */
  readonly timeline?: readonly TimelineInterval[];
  /** Only of `bench load`. */
  readonly load?: LoadSection;
  /** Only with `--one-way`; of a ramp, the step that the figures describe. */
  readonly oneWay?: OneWayReport;
}

export interface TimelineInterval extends Interval {
  readonly seconds: number;
  /** Null for a closed loop. */
  readonly offeredPerSecond: number | null;
}

/** The command as typed, with shell quoting where needed. */
export function commandLine(args: readonly string[] = process.argv.slice(2)): string {
  return [
    'jitpaxos',
    ...args.map((arg) => (/^[\w@%+=:,./-]+$/.test(arg) ? arg : `'${arg.replaceAll("'", "'\\''")}'`)),
  ].join(' ');
}

export function hostInfo(): BenchReport['host'] {
  const all = cpus();
  return { cpu: all[0]?.model.trim() ?? 'unknown', cores: all.length, kernel: release(), node: process.version };
}

/** `read=50,write=50` → shares that add up to 1. Throws CliError for a name that is not in `allowed`. */
export function parseMix(text: string, allowed: readonly string[]): Mix {
  const weights: Record<string, number> = {};
  for (const part of text.split(',')) {
    const match = /^\s*([a-z]+)\s*=\s*(\d+(?:\.\d+)?)\s*$/.exec(part);
    if (match === null || !allowed.includes(match[1]!) || weights[match[1]!] !== undefined) {
      throw new CliError(
        'flag-invalid',
        `--mix "${text}" is not a list such as read=50,write=50; this machine has ${allowed.join(', ')}, each at most once`,
      );
    }
    weights[match[1]!] = Number(match[2]);
  }
  const sum = Object.values(weights).reduce((a, b) => a + b, 0);
  if (sum <= 0)
    throw new CliError('flag-invalid', `--mix "${text}" adds up to 0; give at least one operation a weight`);
  return Object.fromEntries(
    Object.entries(weights)
      .filter(([, weight]) => weight > 0)
      .map(([name, weight]) => [name, weight / sum]),
  );
}

export interface Assertion {
  readonly text: string;
  /** The value found, in the unit of the report. */
  evaluate(report: Asserted): { readonly holds: boolean; readonly found: number | null };
}

const LATENCIES = ['min', 'p50', 'p90', 'p99', 'p999', 'max', 'mean'] as const;
const NUMBERS = [
  'opsPerSecond',
  'operations',
  'seconds',
  'fastPathRatio',
  'rejected',
  'reconciled',
  'retransmitted',
  'failed',
  'viewChanges',
] as const;
/** The fields that an assertion may be about. */
export type Asserted = Pick<BenchReport, 'latencyNs' | (typeof NUMBERS)[number]>;

const UNIT_NS: Readonly<Record<string, number>> = { ns: 1, us: 1e3, µs: 1e3, ms: 1e6, s: 1e9 };

/**
 * `p99<150us`, `fastPathRatio>0.99`: a field of the report, a comparison, a number; latencies need a unit. Throws
 * CliError.
 */
export function parseAssertion(text: string): Assertion {
  const match = /^\s*(\w+)\s*(<=|>=|<|>|=)\s*(\d+(?:\.\d+)?)\s*(ns|us|µs|ms|s)?\s*$/.exec(text);
  const name = match?.[1] ?? '';
  const latency = (LATENCIES as readonly string[]).includes(name);
  if (
    match === null ||
    (latency ? match[4] === undefined : match[4] !== undefined || !(NUMBERS as readonly string[]).includes(name))
  ) {
    throw new CliError(
      'flag-invalid',
      `--assert "${text}" is not a comparison such as p99<150us or fastPathRatio>0.99; fields: ${LATENCIES.join(', ')} (with ns, us, ms or s), ${NUMBERS.join(', ')}`,
    );
  }
  const bound = Number(match[3]) * (latency ? UNIT_NS[match[4]!]! : 1);
  return {
    text,
    evaluate: (report) => {
      const found = latency
        ? report.latencyNs[name as (typeof LATENCIES)[number]]
        : report[name as (typeof NUMBERS)[number]];
      return { found, holds: found !== null && compare(found, match[2]!, bound) };
    },
  };
}

/** Throws CliError `assertion-failed`, which names every failed assertion and the value found. */
export function checkAssertions(assertions: readonly Assertion[], report: Asserted): void {
  const broken = assertions
    .map((assertion) => ({ text: assertion.text, ...assertion.evaluate(report) }))
    .filter(({ holds }) => !holds);
  if (broken.length === 0) return;
  throw new CliError(
    'assertion-failed',
    `${broken.map(({ text, found }) => `${text} does not hold (found ${found === null ? 'nothing: no operation was measured' : `${found}${/^(p\d|min|max|mean)/.test(text) ? ' ns' : ''}`})`).join(', ')}; see the report`,
  );
}

function compare(a: number, operator: string, b: number): boolean {
  switch (operator) {
    case '<':
      return a < b;
    case '<=':
      return a <= b;
    case '>':
      return a > b;
    case '>=':
      return a >= b;
    default:
      return a === b;
  }
}

/** The report as a table. */
export function tableOf(report: BenchReport): string {
  const { latencyNs: latency, host } = report;
  const mix = Object.entries(report.mix).map(([name, share]) => `${name} ${Math.round(share * 100)} %`);
  const rows: [string, string][] = [
    [
      'cluster',
      `${report.replicas} replicas, ${report.transport}${report.idle === null ? '' : ` (${report.idle})`}, ${report.durability ?? 'durability unknown'}${report.authenticated ? ', authenticated' : ''}`,
    ],
    [
      'load',
      `${report.clients} client${report.clients === 1 ? '' : 's'} × ${report.lanes} open, ${report.machine}, ${report.opBytes} bytes, ${mix.join(', ')}`,
    ],
    [
      'operations',
      `${formatCount(report.operations)}${ofArrivals(report)} in ${report.seconds.toFixed(2)} s${report.warmupOperations === null ? '' : `, after ${formatCount(report.warmupOperations)} to warm up`}`,
    ],
    [
      'throughput',
      `${formatCount(report.opsPerSecond)} operations/s${report.load === undefined ? '' : ' completed'}${report.offeredPerSecond === null ? '' : ` of ${formatCount(report.offeredPerSecond)} offered`}`,
    ],
    [
      'latency',
      `p50 ${formatDuration(latency.p50)}   p90 ${formatDuration(latency.p90)}   p99 ${formatDuration(latency.p99)}   p99.9 ${formatDuration(latency.p999)}   max ${formatDuration(latency.max)}`,
    ],
    [
      'one round trip',
      report.fastPathRatio === null ? 'nothing committed' : `${(report.fastPathRatio * 100).toFixed(2)} % of commits`,
    ],
    [
      'otherwise',
      `${formatCount(report.rejected)} rejects, ${formatCount(report.reconciled)} reconciled, ${formatCount(report.retransmitted)} resent, ${formatCount(report.failed)} failed, ${report.viewChanges} view changes`,
    ],
    ['clocks', clocksText(report.clock)],
    [
      'processor',
      `clients ${report.cpuSeconds.client.toFixed(2)} s${report.cpuSeconds.replicas === null ? '' : `, replicas ${report.cpuSeconds.replicas.map((seconds) => seconds?.toFixed(2) ?? '?').join(', ')} s`}`,
    ],
    [
      'heap',
      `${perOp(report.allocatedBytesPerOp.client)} client, ${perOp(report.allocatedBytesPerOp.primary)} primary, ${perOp(report.allocatedBytesPerOp.member)} member: bytes an operation, the transport's included`,
    ],
    ['host', `${host.cores} × ${host.cpu}, Linux ${host.kernel}, Node ${host.node}`],
  ];
  if (report.keysLeft !== undefined && report.keysLeft > 0)
    rows.push([
      'left behind',
      `up to ${formatCount(report.keysLeft)} keys are left in the store; the next run with as many --keys removes them`,
    ]);
  if (typeof report.partial === 'string') rows.push(['partial', report.partial]);
  const width = Math.max(...rows.map(([name]) => name.length));
  return rows.map(([name, value]) => `${name.padEnd(width)}  ${value}`).join('\n');
}

/** The report of a closed loop as text. */
export function latencyText(report: BenchReport): string {
  return [tableOf(report), ...oneWayText(report)].join('\n');
}

/** The one-way delays of a report as text; nothing if they were not measured. */
export function oneWayText({ oneWay }: BenchReport): string[] {
  if (oneWay === undefined) return [];
  const rows = [ONE_WAY_HEAD.slice(), ...oneWay.replicas.map(oneWayRow)];
  return [
    '',
    ...table(rows, new Set(ONE_WAY_HEAD.map((_, column) => column).slice(1))),
    ...oneWayNotes(oneWay.replicas),
  ];
}

/**
 * An open loop counts what became of the arrivals of its window. Operations that completed in the window, but arrived
 * before it, count towards the throughput.
 */
function ofArrivals({ operations, load }: BenchReport): string {
  if (load === undefined) return '';
  const { failed, unsent } = load.steps[load.reported]!;
  return ` of the ${formatCount(operations + failed + unsent)} that arrived`;
}

/** Why a run is incomplete; null if it is complete. */
export function partialOf(report: BenchReport): string | null {
  return report.partial ?? report.load?.partial ?? null;
}

function clocksText({ source, errorNs, offsets }: BenchReport['clock']): string {
  const own = `${source ?? 'unknown'}, ${errorNs === null ? 'error unknown' : `within ${formatDuration(errorNs)}`}`;
  const heard = (offsets ?? []).flatMap(({ offsetNs, uncertaintyNs }, replica) =>
    offsetNs === null ? [] : [`replica ${replica} ${signed(offsetNs)} ±${formatDuration(uncertaintyNs!)}`],
  );
  return heard.length === 0 ? own : `${own}; from the first client's: ${heard.join(', ')}`;
}

/** The largest error that any of the replicas' clocks states; null if one of them does not know. */
export function largestError(clocks: readonly ({ readonly errorBoundNs?: number } | undefined)[]): number | null {
  const errors = clocks.map((clock) => clock?.errorBoundNs);
  return errors.length > 0 && errors.every((error) => error !== undefined) ? Math.max(...(errors as number[])) : null;
}

function perOp(bytes: number | null): string {
  return bytes === null ? 'unknown' : formatCount(bytes);
}
