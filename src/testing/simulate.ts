/**
 * Runs a user's state machine in the deterministic simulator: replicas, clients, network, clocks and disks are
 * simulated, and fail as the seed decides. What the replicas execute, what state they hold and what clients see is
 * checked.
 */
import { JitPaxosError } from '../errors.js';
import { checkInteger, checkKeys, nearest, optionNames, show } from '../host/options.js';
import type { StateMachine } from '../machine/state-machine.js';
import type { SimulationOptions } from '../sim/assembly.js';
import { ALL_FAULTS } from '../sim/faults.js';
import { Random } from '../sim/random.js';
import { simulateWorkload } from '../sim/simulation.js';
import type { InvariantName } from '../sim/violation.js';
import { describeBytes, sameBytes } from '../sim/bytes.js';
import type { Execution } from '../sim/execution.js';
import { judgeLog, type Replay } from '../sim/log-judge.js';
import { CheckedMachine } from './checked-machine.js';
import { Faults, type Fault, type SimulationFailureKind } from './fault.js';
import { MachineReplay, ModelReplay } from './replay.js';
import type { Model } from './model.js';
import { StandIns } from './stand-ins.js';
import { RunWorkload, type Workload } from './workload.js';

/** About the protocol alone: another client's bytes, operators', machines that go wrong on purpose, and paths too narrow for long operations. */
const NOT_FOR_USERS: ReadonlySet<string> = new Set(['enemy', 'diverge', 'feature', 'members', 'path-limit', 'store']);

/** What may go wrong, by name: docs/internals/simulation.md has a line about each. */
export const SIMULATION_FAULTS: readonly string[] = ALL_FAULTS.filter((name) => !NOT_FOR_USERS.has(name));

/** What to simulate, and how much of it. */
export interface SimulateOptions<State = unknown> {
  /**
   * Makes a machine in its initial state: called for each start of each replica, and when a state is restored into a
   * new one. A state should stay below some 100 KB, because it is copied and compared all the time.
   */
  readonly machine: () => StateMachine;
  /** What clients ask for. Include what they should not: `apply` has to answer malformed operations, too. */
  readonly workload: Workload;
  /**
   * What results must be. Default: the machine itself, replayed from the beginning, which finds differences between
   * replicas, and not what the machine does wrong everywhere.
   */
  readonly model?: Model<State>;
  /** One run: a safe integer from 0 on. Not together with `seeds`. */
  readonly seed?: number;
  /** First and last seed, of at most 1,000,000 runs. Default [1, 20]. */
  readonly seeds?: readonly [number, number];
  /** Odd, 3 to 13. Default 3. */
  readonly replicas?: number;
  /** Length of the phase with faults, µs of virtual time, 1,000 to 1,000,000,000. Default 200,000. */
  readonly ticks?: number;
  /** Faults that may happen, some of SIMULATION_FAULTS; `all` or `none`. Default `all`. */
  readonly faults?: 'all' | 'none' | readonly string[];
  /** Longest operation, bytes, 1 to 59,000. Default 512. */
  readonly operationBytes?: number;
  /** Longest result, bytes, 1 to 59,000. Default 512. */
  readonly resultBytes?: number;
  /** Gets the text of a failure. Default: `console.error`. */
  readonly print?: (text: string) => void;
}

/** What the runs went through, all together: what was tested. */
export interface SimulationCounts {
  /** Operations that were answered. */
  committed: number;
  /** Operations of which the client does not know whether they were executed. */
  unknown: number;
  /** Entries of the log. */
  entries: number;
  /** Views that were started, the first one of each run included. */
  views: number;
  /** Processes of replicas that ended and were started again. */
  crashes: number;
  /** Times that the simulator saved the state of a machine and restored it, into the same or a new one. */
  restores: number;
  /** Times that a replica went back to an earlier state. */
  rollbacks: number;
  /** Snapshots that a replica took over from another one. */
  snapshotsInstalled: number;
}

/** The first thing that went wrong, and how to see it again. */
export interface SimulationFailure {
  readonly kind: SimulationFailureKind;
  /** What was seen. */
  readonly detail: string;
  readonly seed: number;
  /** Virtual time, µs. */
  readonly tick: number;
  /** The call that repeats the run. */
  readonly replay: string;
  /** All of this, with what the user's code used of clock and chance, the plan of the run and the state of its replicas. */
  readonly text: string;
  /** What the user's code threw, if it did. */
  readonly cause?: unknown;
}

/** What `simulate` did and found. */
export interface SimulationReport {
  /** Runs that were made: they end with the first failure. */
  readonly runs: number;
  readonly failure: SimulationFailure | undefined;
  /** Seeds of runs in which not all results could be compared, and why. All other checks held. */
  readonly undecided: readonly { readonly seed: number; readonly why: string }[];
  readonly counts: SimulationCounts;
  /** 16 hexadecimal digits over every datagram of every run: equal runs have equal digests. */
  readonly digest: string;
}

const DEFAULT_SEEDS: readonly [number, number] = [1, 20];
const DEFAULT_SIMULATED_TICKS = 200_000;
const DEFAULT_BYTES = 512;
const SEEDS_MAX = 1_000_000;
const BYTES_MAX = 59_000;

const OPTION_NAMES = optionNames<SimulateOptions>({
  machine: true,
  workload: true,
  model: true,
  seed: true,
  seeds: true,
  replicas: true,
  ticks: true,
  faults: true,
  operationBytes: true,
  resultBytes: true,
  print: true,
});

/**
 * Runs the machine under the workload, seed after seed, until one fails, and prints that failure with the call that
 * repeats it. The same options give the same runs. Synchronous: a run takes some tenths of a second.
 *
 * Found are machines that are not deterministic, that keep state outside of their snapshot, that break a rule of
 * `StateMachine`, or that disagree with the model. While the user's code runs, clock and chance are replaced by ones
 * that differ from replica to replica (`Date`, `performance.now`, `process.hrtime`, `Math.random`, `crypto`). It must
 * not call `simulate` itself.
 *
 * Throws JitPaxosError `option-invalid`, also if the workload gives anything but an operation; and
 * `operation-too-large`.
 */
export function simulate<State = unknown>(options: SimulateOptions<State>): SimulationReport {
  const settings = checkOptions(options);
  const [first, last] = settings.seeds;
  const counts: SimulationCounts = {
    committed: 0,
    unknown: 0,
    entries: 0,
    views: 0,
    crashes: 0,
    restores: 0,
    rollbacks: 0,
    snapshotsInstalled: 0,
  };
  const undecided: { seed: number; why: string }[] = [];
  let digest = '';
  let runs = 0;
  let failure: SimulationFailure | undefined;
  for (let seed = first; seed <= last && failure === undefined; seed++) {
    const run = new Run(options, settings, seed);
    const result = run.execute();
    runs++;
    failure = run.failure(result);
    if (result.undecided !== undefined) undecided.push({ seed, why: result.undecided });
    digest = joined(digest, result.digest);
    const { totals } = result;
    counts.committed += totals.commits;
    counts.unknown += totals.unknown;
    counts.entries += totals.chosen;
    counts.views += totals.views;
    counts.crashes += totals.crashes;
    counts.restores += run.restores;
    counts.rollbacks += totals.rollbacks;
    counts.snapshotsInstalled += totals.snapshotsInstalled;
  }
  if (failure !== undefined) (options.print ?? console.error)(failure.text);
  return { runs, failure, undecided, counts, digest };
}

/** The checked options, with their defaults. */
interface Settings {
  readonly seeds: readonly [number, number];
  readonly replicas: number;
  readonly ticks: number;
  readonly faults: ReadonlySet<string>;
  readonly operationBytes: number;
  readonly resultBytes: number;
  /** Those that differ from the defaults and are not code, as code. */
  readonly given: string;
}

type RunResult = ReturnType<typeof simulateWorkload>;

/** Rules of the protocol whose break shows that machines differ. */
const KINDS: Partial<Record<InvariantName, SimulationFailureKind>> = {
  'executed-agree': 'results-differ',
  'snapshots-equal': 'states-differ',
};

/** One seed. */
class Run<State> {
  private readonly faults = new Faults();
  private readonly standIns = new StandIns();
  /** Every machine that was made, and by replica the one in use. */
  private readonly all: CheckedMachine[] = [];
  private readonly machines: CheckedMachine[] = [];
  private readonly executions: (Execution | null | undefined)[] = [];
  private readonly random: Random;

  constructor(
    private readonly options: SimulateOptions<State>,
    private readonly settings: Settings,
    private readonly seed: number,
  ) {
    this.random = new Random(seed).fork('machines');
  }

  /** Times that a machine's state was saved and restored. */
  get restores(): number {
    return this.all.reduce((total, { restoredBefore }) => total + restoredBefore.length, 0);
  }

  execute(): RunResult {
    const { replicas, ticks, faults, operationBytes, resultBytes } = this.settings;
    const workload = new RunWorkload(
      this.options.workload,
      operationBytes,
      this.standIns,
      this.faults,
      (operations, log) =>
        judgeLog(operations, log, this.executions, this.replay(), (kind, detail) =>
          this.faults.report(kind === 'replay' ? this.disagreement : kind, detail),
        ),
    );
    this.standIns.install();
    try {
      return simulateWorkload(
        {
          seed: this.seed,
          replicas,
          ticks,
          faults: faults as NonNullable<SimulationOptions['faults']>,
          operationBytes,
          resultBytes,
          createMachine: (replica) => this.machine(replica),
          executed: (replica, index) => {
            this.executions[index] = this.machines[replica]!.executions[index] ?? null;
          },
        },
        workload,
      );
    } finally {
      this.standIns.remove();
    }
  }

  /** What was found, if anything. Throws what is wrong with the call of `simulate`. */
  failure(result: RunResult): SimulationFailure | undefined {
    const fault = this.faults.first ?? this.faultOf(result);
    if (fault === undefined) return undefined;
    if (fault.cause instanceof JitPaxosError && fault.kind === 'workload-threw') throw fault.cause;
    const { seed, settings } = this;
    const { kind, detail } = fault;
    const tick = result.failure?.tick ?? settings.ticks + result.recoveryTicks;
    const replay = `simulate({ machine, workload${this.options.model === undefined ? '' : ', model'}, seed: ${seed}${settings.given} })`;
    const used = [...this.standIns.used].sort();
    const text = [
      `simulate: ${kind} with seed ${seed}, ${settings.replicas} replicas, after ${tick} µs`,
      detail,
      ...(used.length === 0
        ? []
        : [
            `the machine or the workload called ${used.join(', ')}: a machine may use only its operations, its state and the context's timestamp`,
          ]),
      `replay: ${replay}`,
      `plan: ${result.plan}`,
      ...(result.failure?.cluster ?? []),
      ...(fault.cause instanceof Error ? [fault.cause.stack ?? ''] : []),
    ].join('\n');
    return { kind, detail, seed, tick, replay, text, ...(fault.cause === undefined ? {} : { cause: fault.cause }) };
  }

  private machine(replica: number): CheckedMachine {
    const name = `replica ${replica}`;
    const random = this.random.fork(name);
    const machine = new CheckedMachine(this.options.machine, name, random, this.standIns, this.faults);
    this.all.push(machine);
    return (this.machines[replica] = machine);
  }

  /** What it is called if a result is not the one of the replay. */
  private get disagreement(): SimulationFailureKind {
    return this.options.model === undefined ? 'results-differ' : 'model-disagrees';
  }

  private replay(): Replay {
    const { model, machine } = this.options;
    if (model !== undefined) return new ModelReplay(model, this.faults);
    const random = this.random.fork('replay');
    const guard = <T>(call: () => T): T =>
      this.faults.guard('machine-threw', 'the replay', () => this.standIns.during(random, call));
    const capacity = Math.max(...this.all.map((each) => each.capacity));
    // No operator switches features on in the middle: what is on is on from the beginning.
    const firstLevel = Math.max(...this.all.map((each) => each.firstLevel));
    return new MachineReplay(guard(machine), capacity, firstLevel, guard);
  }

  /** The fault behind a broken rule of the simulator. */
  private faultOf({ failure }: RunResult): Fault | undefined {
    if (failure === undefined) return undefined;
    const { invariant, detail } = failure;
    const differs = invariant === 'contradiction' && detail.includes('state-diverged');
    const kind = differs ? 'states-differ' : (KINDS[invariant] ?? 'protocol');
    if (kind === 'protocol') return { kind, detail: `${invariant}: ${detail}` };
    const differences = kind === 'results-differ' ? this.differences() : [];
    return { kind, detail: differences.length === 0 ? detail : differences.join('\n') };
  }

  /** Entries that replicas executed with different results, one line for the first one of each replica. */
  private differences(): string[] {
    return this.machines.flatMap(({ executions, restoredBefore }, replica) => {
      const index = executions.findIndex((each, i) => {
        const first = this.executions[i];
        return each !== undefined && first != null && !sameBytes(each.result, first.result);
      });
      if (index < 0) return [];
      const { operation, result } = executions[index]!;
      const last = restoredBefore.filter((entry) => entry <= index).at(-1);
      const restored = last === undefined ? '' : `; its state was saved and restored before entry ${last}`;
      return [
        `replica ${replica} executed entry ${index}, ${describeBytes(operation)}, with result ${describeBytes(result)}, another one with ${describeBytes(this.executions[index]!.result)}${restored}`,
      ];
    });
  }
}

function checkOptions<State>(options: SimulateOptions<State>): Settings {
  checkKeys('option-invalid', 'simulate', options, OPTION_NAMES);
  const integer = (name: keyof SimulateOptions, value: unknown, low: number, high: number): number =>
    checkInteger('option-invalid', `simulate: ${name}`, value, low, high);
  for (const name of ['machine', 'workload'] as const)
    if (typeof options[name] !== 'function')
      throw new JitPaxosError('option-invalid', `simulate: ${name} is ${show(options[name])}; it has to be a function`);
  const { model } = options;
  if (model !== undefined && (typeof model.apply !== 'function' || typeof model.initial !== 'function'))
    throw new JitPaxosError('option-invalid', 'simulate: model has to have the functions initial and apply');
  const replicas = integer('replicas', options.replicas ?? 3, 3, 13);
  if (replicas % 2 === 0)
    throw new JitPaxosError('option-invalid', `simulate: replicas is ${replicas}; it has to be odd`);
  const given = (['replicas', 'ticks', 'faults', 'operationBytes', 'resultBytes'] as const)
    .filter((name) => options[name] !== undefined)
    .map((name) => `, ${name}: ${JSON.stringify(options[name])}`)
    .join('');
  return {
    seeds: seedsOf(options),
    replicas,
    ticks: integer('ticks', options.ticks ?? DEFAULT_SIMULATED_TICKS, 1000, 1e9),
    faults: faultsOf(options.faults ?? 'all'),
    operationBytes: integer('operationBytes', options.operationBytes ?? DEFAULT_BYTES, 1, BYTES_MAX),
    resultBytes: integer('resultBytes', options.resultBytes ?? DEFAULT_BYTES, 1, BYTES_MAX),
    given,
  };
}

function seedsOf({ seed, seeds }: Pick<SimulateOptions, 'seed' | 'seeds'>): readonly [number, number] {
  const check = (name: string, value: unknown, low = 0): number =>
    checkInteger('option-invalid', `simulate: ${name}`, value, low, Number.MAX_SAFE_INTEGER);
  if (seed === undefined) {
    const [first, last] = seeds ?? DEFAULT_SEEDS;
    check('seeds[0]', first);
    check('seeds[1]', last, first);
    if (last - first >= SEEDS_MAX)
      throw new JitPaxosError('option-invalid', `simulate: seeds are ${last - first + 1}, of at most ${SEEDS_MAX}`);
    return [first, last];
  }
  if (seeds !== undefined)
    throw new JitPaxosError('option-invalid', 'simulate: seed and seeds are both given; give one of them');
  check('seed', seed);
  return [seed, seed];
}

function faultsOf(faults: NonNullable<SimulateOptions['faults']>): ReadonlySet<string> {
  if (faults === 'all') return new Set(SIMULATION_FAULTS);
  if (faults === 'none') return new Set();
  for (const name of faults) {
    if (SIMULATION_FAULTS.includes(name)) continue;
    const meant = nearest(String(name), SIMULATION_FAULTS);
    throw new JitPaxosError(
      'option-invalid',
      `simulate: faults has ${show(name)}; ${meant === undefined ? `they are ${SIMULATION_FAULTS.join(', ')}` : `did you mean "${meant}"?`}`,
    );
  }
  return new Set(faults);
}

/** The digest of one run is its own; of several it also depends on their order. */
function joined(before: string, digest: string): string {
  if (before === '') return digest;
  const half = (at: number): string => {
    const [a, b] = [Number.parseInt(before.slice(at, at + 8), 16), Number.parseInt(digest.slice(at, at + 8), 16)];
    return ((Math.imul(a, 0x01000193) ^ b) >>> 0).toString(16).padStart(8, '0');
  };
  return half(0) + half(8);
}
