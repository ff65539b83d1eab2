/**
 * One load from beginning to end: connects the client processes, waits for the moment to begin, runs the rates, and
 * makes the report and the files that are written meanwhile. Who says when it begins, and who watches it, is the
 * caller's business: `bench load` on a terminal, or `bench agent` for a coordinator.
 */
import { loadCluster } from '../../host/cluster-config.js';
import { version } from '../../host/version.js';
import { CliError } from '../../console/exit.js';
import { writingOutput } from '../../console/output-file.js';
import type { TransportChoice } from '../../console/transport-flags.js';
import { hostInfo, type BenchReport } from '../../measure/load/bench-report.js';
import { HistoryParts } from '../../measure/load/history-parts.js';
import { mergeHistories } from '../../measure/load/history-writer.js';
import type { KeyDistribution } from '../../measure/load/keys.js';
import { isLost } from '../../measure/load/knee.js';
import { loadReport, type LoadSetting } from '../../measure/load/load-report.js';
import type { Mix, Workload } from '../../measure/load/messages.js';
import { OpenLoad } from '../../measure/load/open-load.js';
import type { PacingKind } from '../../measure/load/pacer.js';
import { Ramp, type RampPlan } from '../../measure/load/ramp.js';
import { UsageMeter } from '../../measure/load/usage.js';
import { wallClockMs } from '../../measure/load/wall-seconds.js';
import type { RunSettings } from '../../measure/hlog/log-format.js';
import { OneWayTally } from '../../measure/oneway/tally.js';
import { HlogWriter } from '../../measure/hlog/log-writer.js';
import { endLog, oneWayOf, secondsFor } from './log.js';

export interface LoadSetup extends TransportChoice {
  readonly clients: number;
  readonly lanes: number;
  readonly machine: 'echo' | 'kv';
  readonly mix: Mix;
  readonly size: number;
  readonly sizeMax: number;
  readonly keys: number;
  readonly distribution: KeyDistribution;
  readonly keyPrefix: string;
  readonly timeoutMs: number;
  readonly pacing: PacingKind;
  readonly history: string | undefined;
  readonly hlog: string | undefined;
  /** Measure one-way delays. Default false. */
  readonly oneWay?: boolean;
  /** Names the run. */
  readonly run: string;
  /** The command that asked for it, as typed. */
  readonly commandLine: string;
  readonly ramp: RampPlan;
}

export interface MeasuredLoad {
  readonly report: BenchReport;
  /** Why the command fails although it has a result. */
  readonly failure: unknown;
}

/** Who drives a load: the command on the terminal, or a coordinator on another host. */
export interface LoadConduct {
  /**
   * The client processes are connected. Resolves to when the arrivals begin, CLOCK_MONOTONIC, ns; undefined: as soon as
   * they can. If it rejects, the load ends with that error. `kill` ends the client processes at once, at any time.
   */
  begin(kill: () => void): Promise<number | undefined>;
  /** Runs the ramp, which may be interrupted. Resolves to the error of a client process, if one failed. */
  run(ramp: Ramp, startNs: number | undefined): Promise<unknown>;
  /** Reads the wall clock that the histogram log follows, ms since the epoch. Default: that of the host. */
  readonly wallMs?: (() => number) | undefined;
}

/**
 * Measures a running cluster. Throws CliError `interrupted` if it ended before anything was measured, and the errors of
 * UsageMeter, HlogWriter, OpenLoad and `conduct`.
 */
export async function measureLoad(clusterFile: string, setup: LoadSetup, conduct: LoadConduct): Promise<MeasuredLoad> {
  const { ramp: plan, history, clients } = setup;
  const { wallMs = wallClockMs } = conduct;
  using parts = history === undefined ? undefined : new HistoryParts();
  const meter = await UsageMeter.open(clusterFile);
  let load: OpenLoad | undefined;
  let log: HlogWriter | undefined;
  try {
    const { replicas, durability, clockSource, clockErrorNs } = await meter.facts();
    const authenticated = loadCluster(clusterFile).authentication === 'keys';
    log =
      setup.hlog === undefined
        ? undefined
        : HlogWriter.open(setup.hlog, setup.run, runSettings(setup, replicas, authenticated), wallMs());
    const oneWay = setup.oneWay === true ? new OneWayTally(clients) : undefined;
    load = await OpenLoad.start({
      clients,
      cluster: clusterFile,
      transport: setup.transport,
      idle: setup.idle,
      pacing: setup.pacing,
      workload: (index) => workloadOf(setup, index),
      history: parts === undefined ? undefined : (index) => parts.path(index),
      seconds: secondsFor(log, oneWay, wallMs),
    });
    const ramp = new Ramp(load, meter, plan, (offeredPerSecond) => {
      log?.step({ offeredPerSecond });
      oneWay?.step();
    });
    const running = load;
    const startNs = await conduct.begin(() => running.close());
    const failure = await conduct.run(ramp, startNs);
    const historyError = await endHistory(load, parts?.paths(clients), setup, ramp);
    if (ramp.steps.length === 0)
      throw failure ?? new CliError('interrupted', 'before anything was measured; run again');
    const setting: LoadSetting = {
      replicas,
      machine: setup.machine,
      durability,
      authenticated,
      run: setup.run,
      startedAtMs: ramp.startedAtMs,
      clients,
      lanes: setup.lanes,
      opBytes: setup.size,
      opBytesMax: setup.sizeMax,
      mix: setup.mix,
      clock: { source: clockSource, errorNs: clockErrorNs },
      version: version(),
      commandLine: setup.commandLine,
      pacing: setup.pacing,
      keys: setup.machine === 'kv' ? setup.keys : null,
      distribution: setup.machine === 'kv' ? setup.distribution : null,
    };
    const partial = partialOf(ramp, failure);
    const figures = loadReport(setting, plan, ramp.steps, partial);
    const report: BenchReport = { ...figures, ...oneWayOf(oneWay, figures.load!.reported) };
    const hlogError = log === undefined ? undefined : endLog(log, report);
    const last = ramp.steps.at(-1)!.facts;
    const gone =
      isLost(last) && report.load!.steps.at(-1)!.shortfall !== null
        ? new CliError(
            'cluster-gone',
            `replicas ${last.silentReplicas.join(', ')} did not answer at the end, and the printed result was measured until then; check that they run, and see jitpaxos status`,
          )
        : undefined;
    return {
      report,
      failure:
        failure ??
        historyError ??
        hlogError ??
        gone ??
        (ramp.interrupted
          ? new CliError('interrupted', `${partial}; what is printed was measured until then`)
          : undefined),
    };
  } finally {
    load?.close();
    log?.close();
    await meter.close();
  }
}

function runSettings(setup: LoadSetup, replicas: number, authenticated: boolean): RunSettings {
  const { clients, lanes, machine, mix, size, sizeMax, keys, distribution, ramp } = setup;
  return {
    command: 'load',
    version: version(),
    commandLine: setup.commandLine,
    host: hostInfo(),
    replicas,
    machine,
    mix,
    opBytes: size,
    opBytesMax: sizeMax,
    authenticated,
    clients,
    lanes,
    rates: ramp.rates,
    arrivals: ramp.kind,
    seed: ramp.seed,
    keys: machine === 'kv' ? keys : null,
    distribution: machine === 'kv' ? distribution : null,
  };
}

/** Ends the client processes and writes the history. Returns a CliError if the history is incomplete. */
async function endHistory(
  load: OpenLoad,
  parts: readonly string[] | undefined,
  { history }: LoadSetup,
  ramp: Ramp,
): Promise<unknown> {
  try {
    await load.end();
    if (parts === undefined) return undefined;
    const broken = ramp.steps.find(({ measurement }) => measurement.historyError !== null)?.measurement.historyError;
    if (typeof broken === 'string')
      return new CliError(
        'output-unwritable',
        `the history stopped during the run (${broken}) and was not kept, because a checker needs all of it; make room in the directory for temporary files, and run again`,
      );
    writingOutput('history', history!, () => mergeHistories(parts, history!));
    return undefined;
  } catch (error) {
    return error;
  }
}

function partialOf({ steps, plan, interrupted }: Ramp, failure: unknown): string | undefined {
  if (failure !== undefined) return `a client failed after ${steps.length} of ${plan.rates.length} steps`;
  if (!interrupted) return undefined;
  const seconds = steps.at(-1)!.measurement.seconds.toFixed(1);
  return `interrupted ${plan.rates.length > 1 ? `in step ${steps.length} of ${plan.rates.length}, ` : ''}after ${seconds} of ${plan.durationNs / 1e9} s`;
}

function workloadOf(setup: LoadSetup, index: number): Omit<Workload, 'warmup' | 'operations'> {
  const { machine, lanes, size, sizeMax, mix, keys, keyPrefix, distribution, timeoutMs, ramp } = setup;
  return {
    machine,
    lanes,
    size,
    sizeMax,
    mix,
    keys,
    keyPrefix,
    distribution,
    ownKeys: false,
    seed: (Math.imul(ramp.seed, 1_000_003) + index) | 0,
    timeoutMs,
  };
}
