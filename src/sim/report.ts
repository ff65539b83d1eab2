/**
 * The result of a campaign of many runs: totals, failures with the command that replays each, and the same as JSON
 * (schema `jitpaxos.sim/1`).
 */
import { DEFAULT_TICKS } from './assembly.js';
import type { SimulationResult, SimulationTotals } from './result.js';
import { INVARIANTS } from './violation.js';

/** What the runs of a campaign have in common. `faults` as given on the command line. */
export interface CampaignOptions {
  readonly ticks: number;
  readonly faults: string;
}

export interface FailureReport {
  readonly seed: number;
  readonly replicas: number;
  readonly tick: number;
  readonly invariant: string;
  readonly detail: string;
  readonly replay: string;
}

export interface CampaignReport {
  readonly runs: number;
  readonly failures: readonly FailureReport[];
  /** Runs whose history the linearizability checker could not decide within its bound. */
  readonly undecided: readonly { readonly seed: number; readonly replicas: number }[];
  readonly totals: SimulationTotals;
  /** The longest liveness phase, ticks. */
  readonly recoveryTicksMax: number;
}

const NO_TOTALS: SimulationTotals = {
  messages: 0,
  datagrams: 0,
  previousVersion: 0,
  withheld: 0,
  corrupted: 0,
  commits: 0,
  fastCommits: 0,
  unknown: 0,
  views: 0,
  epochs: 0,
  askedDuringCuts: 0,
  crashes: 0,
  logsLost: 0,
  directoriesLost: 0,
  forgotten: 0,
  refused: 0,
  repairs: 0,
  held: 0,
  rollbacks: 0,
  snapshotsInstalled: 0,
  sessionsLost: 0,
  sessionsRenewed: 0,
  chosen: 0,
  enemy: 0,
  astray: 0,
  tooLong: 0,
  wrong: 0,
  wrongNamed: 0,
  wrongStopped: 0,
  switched: 0,
  switchesRefused: 0,
};

/** The command that repeats exactly this run. */
export function replayCommand(seed: number, replicas: number, { ticks, faults }: CampaignOptions): string {
  return [
    'jitpaxos sim',
    `--seed ${seed}`,
    `--replicas ${replicas}`,
    ...(ticks === DEFAULT_TICKS ? [] : [`--ticks ${ticks}`]),
    ...(faults === 'all' ? [] : [`--faults ${faults}`]),
    '--trace',
  ].join(' ');
}

export class Campaign {
  private runs = 0;
  private readonly failures: FailureReport[] = [];
  private readonly undecided: { seed: number; replicas: number }[] = [];
  private totals: SimulationTotals = { ...NO_TOTALS };
  private recoveryTicksMax = 0;

  constructor(private readonly options: CampaignOptions) {}

  /** Adds a result; returns its failure, if it has one. */
  add(result: SimulationResult): FailureReport | undefined {
    const { seed, replicas, failure } = result;
    this.merge({
      runs: 1,
      failures: [],
      undecided: result.undecided === undefined ? [] : [{ seed, replicas }],
      totals: result.totals,
      recoveryTicksMax: result.recoveryTicks,
    });
    if (failure === undefined) return undefined;
    const { tick, invariant, detail } = failure;
    const report = { seed, replicas, tick, invariant, detail, replay: replayCommand(seed, replicas, this.options) };
    this.failures.push(report);
    return report;
  }

  /** Adds the report of another part of the same campaign. */
  merge(part: CampaignReport): void {
    this.runs += part.runs;
    this.failures.push(...part.failures);
    this.undecided.push(...part.undecided);
    for (const name of Object.keys(NO_TOTALS) as (keyof SimulationTotals)[]) this.totals[name] += part.totals[name];
    this.recoveryTicksMax = Math.max(this.recoveryTicksMax, part.recoveryTicksMax);
  }

  report(): CampaignReport {
    const { runs, failures, undecided, totals, recoveryTicksMax } = this;
    return { runs, failures: [...failures], undecided: [...undecided], totals: { ...totals }, recoveryTicksMax };
  }
}

/** A failure in one line. */
export function failureLine({ seed, replicas, tick, invariant, detail, replay }: FailureReport): string {
  const first = detail.split('\n', 1)[0]!;
  return `FAILED seed ${seed} replicas ${replicas} tick ${tick} ${invariant}: ${first}; replay: ${replay}`;
}

/** A failure in full: the rule, what was seen, the plan, the state of everything. */
export function failureText(result: SimulationResult, options: CampaignOptions): string {
  const { failure } = result;
  if (failure === undefined) return '';
  return [
    `seed ${result.seed}, ${result.replicas} replicas, tick ${failure.tick}: ${failure.invariant} is broken (${INVARIANTS[failure.invariant]})`,
    failure.detail,
    `plan: ${result.plan}`,
    ...failure.cluster,
    failure.stack,
    `replay: ${replayCommand(result.seed, result.replicas, options)}`,
  ].join('\n');
}

/** Progress of a campaign of `all` runs. */
export function progressLine({ runs, failures, totals }: CampaignReport, all: number, seconds: number): string {
  return `${count(runs)} of ${count(all)} runs, ${failures.length} failed, ${count(totals.commits)} commits, ${count(Math.round(totals.messages / Math.max(seconds, 0.001)))} messages/s`;
}

/** Totals in a few aligned lines. `seconds` of wall time. */
export function summaryLines(
  { runs, failures, undecided, totals, recoveryTicksMax }: CampaignReport,
  seconds: number,
): string[] {
  const share = totals.commits === 0 ? 0 : (100 * totals.fastCommits) / totals.commits;
  return [
    `runs      ${count(runs)}, failed ${count(failures.length)}${
      undecided.length === 0
        ? ''
        : `, history undecided ${count(undecided.length)} (${undecided
            .map(({ seed, replicas }) => `${seed}/${replicas}`)
            .slice(0, 10)
            .join(', ')})`
    }`,
    `commits   ${count(totals.commits)}, ${share.toFixed(1)} % in one round trip; outcome unknown to the client ${count(totals.unknown)}; log entries chosen ${count(totals.chosen)}`,
    `views     ${count(totals.views)} started, epochs ${count(totals.epochs)}, changes of members asked for during a one-way cut ${count(totals.askedDuringCuts)}, rollbacks ${count(totals.rollbacks)}`,
    `crashes   ${count(totals.crashes)}, ${count(totals.logsLost)} with the log lost, ${count(totals.directoriesLost)} with the whole directory; ${count(totals.forgotten)} stopped as forgotten, ${count(totals.refused)} because their id belongs to another; snapshots installed ${count(totals.snapshotsInstalled)}; worn sessions renewed ${count(totals.sessionsRenewed)}`,
    `repairs   ${count(totals.repairs)}; requests held back ${count(totals.held)}`,
    `messages  ${count(totals.messages)} at replicas in ${seconds.toFixed(1)} s: ${count(Math.round(totals.messages / Math.max(seconds, 0.001)))}/s; datagrams ${count(totals.datagrams)}, in the previous version ${count(totals.previousVersion)}, withheld ${count(totals.withheld)}, damaged ${count(totals.corrupted)}`,
    `world     ${count(totals.enemy)} messages of an enemy; datagrams to an address that was left ${count(totals.astray)}, longer than their path carries ${count(totals.tooLong)}`,
    `diverged  replicas with a wrong state ${count(totals.wrong)}, named ${count(totals.wrongNamed)}; stopped themselves ${count(totals.wrongStopped)} times; features switched on in the middle of ${count(totals.switched)} runs, and refused ${count(totals.switchesRefused)} times beside an older version`,
    `recovery  longest liveness phase ${(recoveryTicksMax / 1000).toFixed(0)} ms of virtual time`,
  ];
}

/** The report as one JSON object. */
export function summaryJson(
  report: CampaignReport,
  options: CampaignOptions & { readonly seeds: readonly [number, number]; readonly replicas: readonly number[] },
  seconds: number,
): string {
  const { seeds, replicas, ticks, faults } = options;
  return JSON.stringify({
    schema: 'jitpaxos.sim/1',
    command: 'sim',
    seeds,
    replicas,
    ticks,
    faults,
    failed: report.failures.length,
    ...report,
    seconds,
    messagesPerSecond: Math.round(report.totals.messages / Math.max(seconds, 0.001)),
  });
}

function count(value: number): string {
  return String(value).replace(/\B(?=(\d{3})+$)/g, ',');
}
