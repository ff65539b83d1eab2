/**
 * One run: a cluster, its clients and its network, made from a seed. First a safety phase with faults; then the faults
 * end, and in a liveness phase everything must work again within a given time.
 *
 * Nothing here or below reads a clock, waits, or uses any source of chance but the seed: the same options give the same
 * run, message for message, as `digest` shows.
 */
import { KvMachine } from '../machine/kv.js';
import { DEFAULT_CLIENT_TIMINGS, DEFAULT_TIMINGS, type ClientConfig, type ReplicaConfig } from '../protocol/config.js';
import type { Chain, FirstStart } from '../protocol/contract.js';
import type { ForgottenError } from '../protocol/replica/introduction.js';
import { Views } from '../protocol/views.js';
import { COUNTER_NAMES, Counter, type CounterName } from '../protocol/counters.js';
import { DEFAULT_DATAGRAM_BYTES } from '../wire/envelope.js';
import { ReplicaStatus, typeOf } from '../wire/messages.js';
import { readI32 } from '../wire/u64.js';
import type { StateMachine } from '../machine/state-machine.js';
import { AmbushDriver, type AmbushTargets } from './ambush.js';
import { BeginningDriver, type BeginningTargets } from './beginnings.js';
import { Checks } from './checks.js';
import { ClientHost, type ClientHostEvents } from './client-host.js';
import { SimulatedClock } from './clock.js';
import { createShippedClient, createShippedReplica, type CreateClient, type CreateReplica } from './cores.js';
import { SimulatedDisk, type LogFate } from './disk.js';
import {
  describeDiverging,
  DivergingDriver,
  drawDiverging,
  shortLog,
  WrongStates,
  type DivergingTargets,
} from './diverging.js';
import { EventQueue, type EventHandler } from './event-queue.js';
import {
  ALL_FAULTS,
  describePlan,
  drawPlan,
  FaultDriver,
  type FaultName,
  type FaultTargets,
  type Plan,
} from './faults.js';
import { simulationChain, SimulationHasher } from './hash.js';
import type { HistoryEvent } from './history.js';
import { checkHistory, explain } from './linearizability.js';
import { Network, type Datagram, type Hold, type HoldMode } from './network.js';
import { EVEN_US as PLEA_TURN_US } from '../protocol/replica/suspicion/pleas.js';
import { Random } from './random.js';
import { ReplicaHost, type ReplicaEvents } from './replica-host.js';
import type { SimulationFailure, SimulationResult, SimulationTotals } from './result.js';
import type { TraceRing, TransitionLog } from './trace.js';
import { Violation, type InvariantName } from './violation.js';
import { WireEnd } from './wire-end.js';
import { describeWorld, distanceUs, drawWorld, livable, type World, OF_A_CLIENT } from './world.js';
import { drawRequestsPerLane, MishapDriver, type MishapTargets } from './mishaps.js';
import { within } from './plan-in-world.js';
import { WorldDriver, type WorldTargets } from './world-driver.js';
import { Enemy } from './enemy.js';

export type { SimulationFailure, SimulationResult, SimulationTotals } from './result.js';

/** Default length of the safety phase, ticks (µs of virtual time). */
export const DEFAULT_TICKS = 500_000;
/** Default time within which the liveness phase must reach its goals, ticks. */
export const LIVENESS_TICKS = 10_000_000;
/** Operations that each client must commit in the liveness phase. */
export const FRESH_OPERATIONS = 3;

/** Configurations that the linearizability checker examines for a key before it leaves the history undecided. */
const CHECKER_STATES_MAX = 200_000;

const CLUSTER_HI = 0x51313131;
const CLUSTER_LO = 0x7a7a7a7a;
/** Offset of the first bytes of the checksum in a sealed datagram (wire/envelope.ts): they stand for its contents. */
const AT_CHECKSUM = 25;
/** Places in the tables of clients' addresses, if addresses change or strangers appear. */
const ADDRESSES = 1024;
/** How often the liveness phase checks its goals, ticks. */
const GOAL_CHECK_TICKS = 2000;

export interface SimulationOptions {
  /** A safe integer from 0 on. */
  readonly seed: number;
  /** N, odd. */
  readonly replicas: number;
  readonly ticks?: number;
  /** The liveness phase must reach its goals within this, ticks; default LIVENESS_TICKS. */
  readonly livenessTicks?: number;
  /** Which faults may happen; default ALL_FAULTS. */
  readonly faults?: ReadonlySet<FaultName>;
  /** Overrides what was drawn for the world. */
  readonly world?: Partial<World>;
  /** No client starts before the liveness phase: nothing is requested until then. */
  readonly idle?: boolean;
  readonly createReplica?: CreateReplica;
  readonly createClient?: CreateClient;
  readonly createMachine?: () => StateMachine;
  readonly trace?: TraceRing;
  readonly transitions?: TransitionLog;
}

/** Runs one seed to its end. Never throws, whatever the cores do: an exception is a failure in the result. */
export function simulate(options: SimulationOptions): SimulationResult {
  return new Simulation(options).run();
}

/**
 * Transitions that report that a replica is wrong. No simulated replica is, whatever happens to it, except for the
 * state of one that went wrong on purpose.
 */
const CONTRADICTIONS: ReadonlySet<string> = new Set(['contradicted', 'state-diverged', 'limits-differ']);

class Simulation
  implements
    ReplicaEvents,
    ClientHostEvents,
    FaultTargets,
    AmbushTargets,
    WorldTargets,
    MishapTargets,
    DivergingTargets,
    BeginningTargets
{
  readonly replicas: number;
  readonly endpoints: number;
  private readonly seed: number;
  private readonly ticks: number;
  private livenessTicks: number;
  private readonly idle: boolean;
  private readonly random: Random;
  private readonly queue = new EventQueue();
  private readonly plan: Plan;
  private readonly world: World;
  private readonly network: Network;
  private readonly views: Views;
  private readonly driver: FaultDriver;
  /** Longest datagram into which a host puts more than one message. */
  private readonly datagramBytes: number;
  private readonly ambush: AmbushDriver | undefined;
  private readonly mishaps: MishapDriver;
  private readonly requestsPerLane: number | undefined;
  private readonly worldDriver: WorldDriver;
  private readonly diverging: DivergingDriver | undefined;
  private readonly divergingText: string;
  private readonly wrongStates: WrongStates;
  private readonly beginnings: BeginningDriver;
  private readonly enemy: Enemy | undefined;
  private readonly checks: Checks;
  private readonly hosts: ReplicaHost[] = [];
  private readonly disks: SimulatedDisk[] = [];
  private readonly clients: ClientHost[] = [];
  private readonly clocks: SimulatedClock[] = [];
  private readonly history: HistoryEvent[] = [];
  private readonly trace: TraceRing | undefined;
  private readonly transitions: TransitionLog | undefined;
  private readonly statuses: number[];
  private readonly counters = new Float64Array(COUNTER_NAMES.length);
  private readonly countersSeen: Float64Array[];
  private readonly saying: Random;
  /** What chains the logs in half of the runs, as in a cluster with keys. */
  private readonly chain: Chain | undefined;
  private healed = false;
  private processes = 0;
  private digestHi = 0x243f6a88;
  private digestLo = 0x13198a2e;
  private crashes = 0;
  private logsLost = 0;
  private directoriesLost = 0;
  private forgottenStops = 0;

  constructor(options: SimulationOptions) {
    const { seed, replicas } = options;
    this.seed = seed;
    this.replicas = replicas;
    this.ticks = options.ticks ?? DEFAULT_TICKS;
    this.livenessTicks = options.livenessTicks ?? LIVENESS_TICKS;
    this.trace = options.trace;
    this.transitions = options.transitions;
    this.random = new Random(seed);
    const faults: ReadonlySet<FaultName> = options.faults ?? new Set(ALL_FAULTS);
    const plan = drawPlan(this.random.fork('plan'), faults);
    const { clients, lanes } = plan.workload;
    const { lanesPerSession } = plan.limits;
    this.endpoints = replicas + clients;
    this.world = {
      ...livable(
        drawWorld(seed, faults, { replicas, clients, lanes, lanesPerSession, ticks: this.ticks }),
        plan.faults.has('versions'),
      ),
      ...options.world,
    };
    // What another client complained of before may count as much until its turn is over.
    const waitsTurn = this.world.oneWay?.stays === true && OF_A_CLIENT.has(this.world.oneWay.kind);
    if (options.livenessTicks === undefined && waitsTurn) this.livenessTicks += PLEA_TURN_US;
    this.idle = options.idle === true;
    const inWorld = within(plan, this.world);
    // The previous wire version has no messages for digests.
    const wrong = plan.faults.has('versions') ? [] : drawDiverging(seed, faults, replicas, this.ticks);
    this.divergingText = describeDiverging(wrong);
    this.plan = wrong.length === 0 ? inWorld : { ...inWorld, limits: shortLog(inWorld.limits, inWorld.disk.keepsLog) };
    this.wrongStates = new WrongStates(this.hosts, (replica, text) =>
      this.trace?.note(this.queue.nowUs, replica, text),
    );
    if (wrong.length > 0) this.diverging = new DivergingDriver(this.queue, seed, wrong, this);
    this.datagramBytes = this.world.longest ?? DEFAULT_DATAGRAM_BYTES;
    this.checks = new Checks(replicas);
    this.views = new Views(replicas);
    this.statuses = new Array<number>(replicas).fill(-1);
    this.countersSeen = Array.from({ length: replicas }, () => new Float64Array(COUNTER_NAMES.length));
    const { distance, longest, enemy } = this.world;
    this.network = new Network(
      this.queue,
      this.random.fork('network'),
      this.endpoints + (enemy === undefined ? 0 : 1),
      this.plan.network,
      (datagram) => this.deliver(datagram),
    );
    if (longest !== undefined) {
      for (let from = 0; from < this.endpoints; from++)
        for (let to = 0; to < this.endpoints; to++) this.network.setLongest(from, to, longest);
    }
    if (distance !== undefined) {
      for (let from = 0; from < this.endpoints; from++)
        for (let to = 0; to < this.endpoints; to++)
          if (from !== to) this.network.setDistance(from, to, distanceUs(distance, from, to));
    }
    this.worldDriver = new WorldDriver(this.queue, new Random(seed).fork('world'), this.world, this);
    this.beginnings = new BeginningDriver(this.queue, this.world.firstStarts, this.world.directoryLosses, this);
    this.requestsPerLane = drawRequestsPerLane(seed, faults);
    this.mishaps = new MishapDriver(this.queue, seed, faults, this.plan.faultIntervalUs, this);
    this.driver = new FaultDriver(this.queue, this.random.fork('faults'), this.plan, this);
    const hasher = new SimulationHasher();
    // Like versions: everything else draws the same with or without it.
    const keyed = new Random(seed).fork('chain');
    this.chain = keyed.chance(0.5) ? simulationChain(keyed) : undefined;
    const setup = this.random.fork('setup');
    const cluster = {
      idHi: CLUSTER_HI,
      idLo: CLUSTER_LO,
      replicas,
      endpoints: this.world.moveEveryUs === undefined && enemy === undefined ? this.endpoints : ADDRESSES,
    };
    const versions = this.plan.faults.get('versions');
    // A fork of the seed, not of the common generator, so that all others draw the same with or without it.
    const draw =
      versions === undefined
        ? undefined
        : { random: new Random(seed).fork('versions'), previous: 0.2 + 0.6 * versions };
    for (let endpoint = 0; endpoint < this.endpoints; endpoint++) {
      const clock = new SimulatedClock(setup.between(0, 1e9), (setup.unit() - 0.5) * 100);
      clock.set((setup.unit() - 0.5) * 2 * this.plan.clockSpreadNs, 0);
      this.clocks.push(clock);
      const wire = new WireEnd(endpoint, hasher, cluster, draw);
      if (endpoint < replicas) this.addReplica(endpoint, options, setup, wire, hasher, clock);
      else this.addClient(endpoint, options, setup, wire, clock);
    }
    if (enemy !== undefined) {
      const random = new Random(seed).fork('enemy');
      const wire = new WireEnd(
        this.endpoints,
        hasher,
        cluster,
        draw === undefined ? undefined : { ...draw, random: random.fork('versions') },
      );
      this.enemy = new Enemy(this.endpoints, {
        queue: this.queue,
        network: this.network,
        random,
        clock: new SimulatedClock(0, 0),
        wire,
        replicas,
        plan: enemy,
        operationBytes: this.plan.limits.operationBytes,
        datagramBytes: this.datagramBytes,
        lanesPerSession,
        sessions: () => this.clients.map((client) => client.session),
        sent: (...message) => this.sent(...message),
      });
    }
    const full = this.plan.faults.get('full-outbox');
    if (full !== undefined) {
      const chance = setup.fork('outbox');
      for (const host of [...this.hosts, ...this.clients]) host.outbox.isFull = () => chance.chance(0.02 * full);
    }
    const ambush = this.plan.faults.get('ambush');
    if (ambush !== undefined)
      this.ambush = new AmbushDriver(this.queue, this.random.fork('ambush'), this.plan, ambush, this);
    this.saying = this.random.fork('unreachable');
  }

  run(): SimulationResult {
    let failure: SimulationFailure | undefined;
    let recoveryTicks = 0;
    let undecided: string | undefined;
    try {
      this.worldDriver.start();
      this.beginnings.start(this.replicas);
      if (!this.idle) this.startClients();
      this.enemy?.start();
      this.driver.start();
      this.ambush?.start();
      this.mishaps.start();
      this.diverging?.start();
      while (this.queue.step(this.ticks));
      this.heal();
      this.awaitGoals();
      recoveryTicks = this.queue.nowUs - this.ticks;
      this.compareMachines();
      undecided = this.judgeHistory();
    } catch (error) {
      const violation =
        error instanceof Violation
          ? error
          : new Violation('core-exception', error instanceof Error ? (error.stack ?? error.message) : String(error), {
              cause: error,
            });
      const cause = violation.cause instanceof Error ? violation.cause : violation;
      failure = {
        invariant: violation.invariant,
        detail: violation.detail,
        tick: this.queue.nowUs,
        cluster: [
          ...this.hosts.map((host) => this.checks.describe(host.id)),
          ...this.clients.map((client) => client.describe()),
        ],
        stack: cause.stack ?? '',
      };
    }
    return {
      seed: this.seed,
      replicas: this.replicas,
      ticks: this.ticks,
      plan: this.describe(),
      failure,
      undecided,
      totals: this.totals(),
      digest: (this.digestHi >>> 0).toString(16).padStart(8, '0') + (this.digestLo >>> 0).toString(16).padStart(8, '0'),
      recoveryTicks,
      history: this.history,
    };
  }

  private startClients(): void {
    for (const client of this.clients) {
      client.start();
      client.setPace();
    }
  }

  // ReplicaEvents

  called(replica: number, event: string): void {
    const host = this.hosts[replica]!;
    this.checks.after(replica, host.probe!);
    const { state } = host.core!;
    this.wrongStates.see(replica);
    this.transitions?.state(this.queue.nowUs, replica, event, state);
    // A crash still undoes an installation that is not durable, so the log counts as lost until then.
    if (host.logLost && state.status === ReplicaStatus.normal && host.hasInstalledLog) host.logRegained();
    if (state.status === this.statuses[replica]) return;
    this.statuses[replica] = state.status;
    if (state.status === ReplicaStatus.viewChange) this.driver.viewChangeSeen(replica);
  }

  started(replica: number, logLost: boolean, wireVersion: number): void {
    this.checks.started(replica, this.hosts[replica]!.core!.state);
    this.statuses[replica] = -1;
    this.countersSeen[replica]!.fill(0);
    this.trace?.note(
      this.queue.nowUs,
      replica,
      `${logLost ? 'starts without its log' : 'starts'}, speaks version ${wireVersion}`,
    );
    this.driver.restarted(replica);
  }

  crashed(replica: number, fate: LogFate): void {
    this.crashes++;
    if (fate === 'lost') this.logsLost++;
    this.checks.stopped(replica);
    this.trace?.note(this.queue.nowUs, replica, `crashes, its log is ${fate}`);
    this.transitions?.down(this.queue.nowUs, replica, 'crash');
  }

  sent(endpoint: number, to: number, bytes: Uint8Array, offset: number, length: number): void {
    if (endpoint < this.replicas) this.checks.sent(endpoint, bytes, offset);
    this.trace?.message(this.queue.nowUs, '->', endpoint, to, bytes, offset, length);
    this.ambush?.see(endpoint, 'sent', typeOf(bytes, offset), this.network.endpointOf(to), '');
  }

  received(endpoint: number, from: number, bytes: Uint8Array, offset: number, length: number): void {
    this.trace?.message(this.queue.nowUs, '=>', from, endpoint, bytes, offset, length);
    this.ambush?.see(endpoint, 'received', typeOf(bytes, offset), from, '');
  }

  transition(replica: number, event: string, detail: string): void {
    this.trace?.note(this.queue.nowUs, replica, `${event} ${detail}`);
    if (CONTRADICTIONS.has(event) && !(event === 'state-diverged' && this.wrongStates.named(replica, detail)))
      throw new Violation('contradiction', `replica ${replica}: ${event}: ${detail}`);
    this.ambush?.see(replica, 'transition', -1, -1, event);
  }

  diverged(replica: number): { readonly fate: LogFate; readonly downUs: number } {
    const host = this.hosts[replica]!;
    this.wrongStates.stopped++;
    this.rememberCounters(replica);
    const fate: LogFate = this.plan.durability === 'memory' || this.mayLoseLog(host) ? 'lost' : 'kept';
    this.trace?.note(this.queue.nowUs, replica, `stops itself: its state is marked with ${host.probe!.mark}`);
    return { fate, downUs: this.diverging!.returnUs() };
  }

  forgotten(replica: number, error: ForgottenError): void {
    this.trace?.note(this.queue.nowUs, replica, `stops: ${error.message}`);
    if (!this.hosts[replica]!.hasForgotten)
      throw new Violation(
        'core-exception',
        `replica ${replica} stops though it never lost its directory: ${error.message}`,
        { cause: error },
      );
    this.forgottenStops++;
    this.rememberCounters(replica);
  }

  // ClientHostEvents

  record(event: HistoryEvent): void {
    this.history.push(event);
  }

  newProcess(): number {
    return this.processes++;
  }

  committed(sessionHi: number, sessionLo: number, lane: number, request: number): void {
    this.checks.clientCommitted(sessionHi, sessionLo, lane, request);
  }

  // FaultTargets

  isUp(replica: number): boolean {
    return this.hosts[replica]!.isUp;
  }

  crash(replica: number, hostCrash: boolean, downUs: number): void {
    const host = this.hosts[replica]!;
    const fate: LogFate =
      this.plan.durability === 'memory' || (this.plan.durability === 'os' && hostCrash) ? 'lost' : 'kept';
    if (!host.isUp || (fate === 'lost' && !host.isEmpty && !this.mayLoseLog(host))) return;
    this.rememberCounters(replica);
    host.crash(fate, downUs);
  }

  begin(replica: number): void {
    const host = this.hosts[replica]!;
    if (!host.isUp) host.start();
  }

  loseDirectory(replica: number, downUs: number, first: FirstStart): boolean {
    const host = this.hosts[replica]!;
    if (!host.isUp || host.isEmpty || !this.mayLoseLog(host)) return false;
    this.trace?.note(this.queue.nowUs, replica, `is about to lose its directory, then to start with '${first}'`);
    this.rememberCounters(replica);
    this.directoriesLost++;
    host.crash('lost', downUs, first);
    return true;
  }

  /** At most f are without their logs. A host counts from the moment its crash is decided until it is normal again. */
  private mayLoseLog(host: ReplicaHost): boolean {
    const lacks = ({ countsAsLost, probe }: ReplicaHost): boolean =>
      countsAsLost || (probe !== undefined && (probe.mark !== 0 || probe.nextMark !== 0));
    return this.hosts.filter((other) => other !== host && lacks(other)).length + 1 <= (this.replicas - 1) / 2;
  }

  // DivergingTargets

  goWrong(replica: number, mark: number): boolean {
    const host = this.hosts[replica]!;
    if (!host.isUp || !this.mayLoseLog(host)) return false;
    host.probe!.nextMark = mark;
    return true;
  }

  stopCleanly(replica: number, type: number, downUs: number): void {
    const host = this.hosts[replica]!;
    const fate: LogFate = this.plan.durability === 'memory' ? 'lost' : 'kept';
    if (!host.isUp || (fate === 'lost' && !this.mayLoseLog(host))) return;
    this.rememberCounters(replica);
    host.stopCleanly(fate, type, downUs);
  }

  pause(endpoint: number, forUs: number): void {
    this.trace?.note(this.queue.nowUs, endpoint, `stands still for ${Math.round(forUs)}`);
    if (endpoint < this.replicas) this.hosts[endpoint]!.pause(forUs);
    else this.clients[endpoint - this.replicas]!.pause(forUs);
  }

  setSlowness(replica: number, factor: number): void {
    this.hosts[replica]!.slowness = factor;
  }

  allHaveLogs(): boolean {
    return this.hosts.every((host) => host.isUp && !host.countsAsLost);
  }

  setBlocked(from: number, to: number, blocked: boolean, cause?: number): void {
    this.network.setBlocked(from, to, blocked, cause);
  }

  setLinkFactor(from: number, to: number, factor: number): void {
    this.network.setLinkFactor(from, to, factor);
  }

  setClock(endpoint: number, offsetNs: number, driftPpm: number): void {
    this.trace?.note(
      this.queue.nowUs,
      endpoint,
      `clock off by ${Math.round(offsetNs)} ns, drifts by ${driftPpm.toFixed(1)} ppm`,
    );
    this.clocks[endpoint]!.set(offsetNs, driftPpm);
  }

  stepClock(endpoint: number, byNs: number): void {
    this.trace?.note(this.queue.nowUs, endpoint, `clock jumps by ${Math.round(byNs)} ns`);
    this.clocks[endpoint]!.step(byNs);
  }

  setDate(endpoint: number, aheadS: number): void {
    this.clocks[endpoint]!.setDate(aheadS);
  }

  move(endpoint: number): void {
    this.network.move(endpoint);
  }

  freezeClock(endpoint: number): void {
    this.trace?.note(this.queue.nowUs, endpoint, 'clock stands still');
    this.clocks[endpoint]!.freeze(this.queue.nowUs);
  }

  thawClock(endpoint: number): void {
    this.clocks[endpoint]!.thaw();
  }

  rot(replica: number): void {
    this.disks[replica]!.rot();
  }

  restartClient(endpoint: number): void {
    this.trace?.note(this.queue.nowUs, endpoint, 'comes back with a new session');
    this.clients[endpoint - this.replicas]!.start();
  }

  // AmbushTargets

  quorum(): readonly number[] | undefined {
    let found: number[] | undefined;
    let highest = -1;
    for (const { id, core } of this.hosts) {
      if (
        core === undefined ||
        core.state.status !== ReplicaStatus.normal ||
        core.state.view <= highest ||
        this.views.primary(core.state.view) !== id
      )
        continue;
      highest = core.state.view;
      found = [id, ...this.views.members(highest).filter((member) => member !== id)];
    }
    return found;
  }

  hold(from: number, to: number, types: ReadonlySet<number>, mode: HoldMode): Hold {
    return this.network.hold(from, to, types, mode);
  }

  deliverHeld(hold: Hold, count: number): void {
    this.network.deliverHeld(hold, count);
  }

  discardHeld(hold: Hold): void {
    this.network.discardHeld(hold);
  }

  letGo(hold: Hold): void {
    this.network.letGo(hold);
  }

  note(text: string): void {
    this.trace?.note(this.queue.nowUs, -1, text);
  }

  /** The plan and the world in one line. */
  private describe(): string {
    const world = describeWorld(this.world, this.replicas);
    const mishaps = [
      this.mishaps.describe(),
      this.requestsPerLane === undefined ? '' : `wear ${this.requestsPerLane} requests a lane`,
      this.divergingText,
    ]
      .filter((text) => text !== '')
      .join(', ');
    return `${describePlan(this.plan)}, chain ${this.chain === undefined ? 'without keys' : 'keyed'}${mishaps === '' ? '' : `; ${mishaps}`}${world === '' ? '' : `; world: ${world}`}`;
  }

  private addReplica(
    id: number,
    options: SimulationOptions,
    setup: Random,
    wire: WireEnd,
    hasher: SimulationHasher,
    clock: SimulatedClock,
  ): void {
    const { plan, queue, network } = this;
    const disk = new SimulatedDisk(
      queue,
      setup.fork('disk'),
      hasher,
      plan.disk,
      `replica ${id}`,
      this.beginnings.asks ? this.replicas : 0,
    );
    const { late, ...timings } = plan.contention;
    const config: ReplicaConfig = {
      id,
      replicas: this.replicas,
      seed: setup.next(),
      late,
      datagramBytes: this.datagramBytes,
      limits: plan.limits,
      timings: { ...DEFAULT_TIMINGS, ...timings },
    };
    this.disks.push(disk);
    this.hosts.push(
      new ReplicaHost(id, config, {
        queue,
        network,
        random: setup.fork('replica'),
        clock,
        disk,
        wire,
        hasher,
        chain: this.chain,
        createReplica: options.createReplica ?? createShippedReplica,
        createMachine:
          options.createMachine ?? (() => new KvMachine({ maxKeys: 4096, maxBytes: 1 << 20, expectedKeys: 8 })),
        events: this,
        messageCostUs: plan.messageCostUs,
        standstill: this.world.standstill,
        diverging: this.diverging !== undefined,
        asks: this.beginnings.asks,
      }),
    );
  }

  private addClient(
    endpoint: number,
    options: SimulationOptions,
    setup: Random,
    wire: WireEnd,
    clock: SimulatedClock,
  ): void {
    const { plan, queue, network, replicas, world } = this;
    const { operationBytes, resultBytes } = plan.limits;
    const busy = world.busy?.endpoint === endpoint ? world.busy : undefined;
    const lanes = busy?.lanes ?? plan.workload.lanes;
    const configure = (
      sessionHi: number,
      sessionLo: number,
      nonceHi: number,
      nonceLo: number,
      seed: number,
    ): ClientConfig => ({
      replicas,
      lanes,
      seed,
      sessionHi,
      sessionLo,
      nonceHi,
      nonceLo,
      limits: { operationBytes, resultBytes },
      ...(this.requestsPerLane === undefined ? {} : { requestsPerLane: this.requestsPerLane }),
      timings: { ...DEFAULT_CLIENT_TIMINGS, ...plan.leads[endpoint - replicas] },
    });
    this.clients.push(
      new ClientHost(endpoint, configure, {
        queue,
        network,
        random: setup.fork('client'),
        clock,
        wire,
        replicas,
        createClient: options.createClient ?? createShippedClient,
        events: this,
        plan: { ...plan.workload, lanes },
        giveUp: plan.faults.get('give-up') ?? 0,
        datagramBytes: this.datagramBytes,
        owned: world.enemy !== undefined,
        pace: busy,
      }),
    );
  }

  private deliver(datagram: Datagram): void {
    const { from, to, bytes } = datagram;
    this.digestHi = Math.imul(this.digestHi ^ this.queue.nowUs, 0x01000193) ^ (from << 8) ^ to;
    this.digestLo = (Math.imul(this.digestLo, 31) + readI32(bytes, AT_CHECKSUM) + this.digestHi) | 0;
    const endpoint = this.network.endpointOf(to);
    if (to < this.replicas) {
      const host = this.hosts[to]!;
      const chance = !host.isUp ? this.plan.unreachable : this.healed ? 0 : this.plan.falselyUnreachable;
      if (chance > 0 && this.saying.chance(chance))
        this.queue.schedule(this.queue.nowUs + this.plan.network.delayUs, this.said, to, this.network.endpointOf(from));
      host.arrive(datagram);
    } else if (endpoint === this.enemy?.endpoint) this.enemy.arrive(datagram);
    else this.clients[endpoint - this.replicas]!.arrive(datagram);
  }

  /** The report that no process listens reaches the endpoint whose datagram caused it. */
  private readonly said: EventHandler = {
    handle: (by, to) => {
      const endpoint = to as number;
      this.trace?.note(this.queue.nowUs, endpoint, `is told that nobody listens at ${by}`);
      if (endpoint < this.replicas) this.hosts[endpoint]!.unreachable(by);
      else if (endpoint < this.endpoints) this.clients[endpoint - this.replicas]!.unreachable(by);
    },
  };

  /** All faults end: links intact, clocks right, every process up. */
  private heal(): void {
    this.note('all faults end');
    this.healed = true;
    this.driver.stop();
    this.ambush?.stop();
    this.mishaps.stop();
    this.diverging?.stop();
    this.network.heal();
    this.network.setConditions({
      ...this.plan.network,
      delay: 'log-normal',
      spread: 0.3,
      loss: 0,
      duplicate: 0,
      corrupt: 0,
      reorder: 0,
    });
    for (const disk of this.disks) disk.setConditions({ ...this.plan.disk, hiccup: 0 });
    for (const clock of this.clocks) clock.set(0, 0);
    this.beginnings.faultsEnd();
    for (const host of this.hosts) host.heal((this.world.firstStarts?.startsAtUs[host.id] ?? 0) <= this.ticks);
    for (const client of this.clients) client.heal();
    this.worldDriver.faultsEnd();
    this.enemy?.faultsEnd();
    if (this.idle) this.startClients();
    else for (const endpoint of this.world.newcomers) this.clients[endpoint - this.replicas]!.start(true);
  }

  /**
   * Runs until every client has committed fresh operations, then until all is quiet and every replica has caught up.
   */
  private awaitGoals(): void {
    const deadline = this.ticks + this.livenessTicks;
    this.runUntil(deadline, 'a client commits nothing fresh', () =>
      this.clients.every((client) => client.counts.fresh >= FRESH_OPERATIONS),
    );
    this.worldDriver.stop();
    this.enemy?.stop();
    if (this.diverging !== undefined)
      this.runUntil(
        deadline,
        'a replica with a wrong state goes on unnoticed',
        () => this.wrongStates.areNoticed(),
        'divergence-noticed',
      );
    for (const client of this.clients) client.finish();
    this.runUntil(deadline, 'an operation does not end', () => this.clients.every((client) => client.isIdle));
    this.runUntil(deadline, 'a replica does not catch up', () => {
      const length = this.checks.chosenLength;
      // A log may end in an entry that its client gave up before the primary took it: it disappears with the next one
      // that differs.
      return this.hosts.every(({ core }) => {
        // A wrong replica may just have stopped; another one may return only now.
        if (core === undefined) return false;
        const { status, committed, executed } = core.state;
        return status === ReplicaStatus.normal && committed === length && executed === length;
      });
    });
  }

  private runUntil(
    deadline: number,
    complaint: string,
    reached: () => boolean,
    invariant: InvariantName = 'stuck',
  ): void {
    while (!reached()) {
      const until = this.queue.nowUs + GOAL_CHECK_TICKS;
      if (until > deadline)
        throw new Violation(invariant, `${complaint}, ${this.livenessTicks / 1e6} s after the faults have ended`);
      while (this.queue.step(until));
    }
  }

  private compareMachines(): void {
    const [first, ...others] = this.hosts;
    const expected = first!.probe!.state();
    for (const other of others) {
      const actual = other.probe!.state();
      if (actual.length !== expected.length || actual.some((byte, i) => byte !== expected[i])) {
        throw new Violation(
          'snapshots-equal',
          `replicas ${first!.id} and ${other.id} executed the same ${this.checks.chosenLength} entries and hold different states`,
        );
      }
    }
  }

  /** What the checker could not decide, if anything. */
  private judgeHistory(): string | undefined {
    const verdict = checkHistory(this.history, { maxStates: CHECKER_STATES_MAX });
    if (verdict.outcome === 'violation') throw new Violation('linearizable', explain(verdict));
    return verdict.outcome === 'unknown' ? explain(verdict) : undefined;
  }

  /** A process is about to end: its counters are kept. */
  private rememberCounters(replica: number): void {
    const { counters } = this.hosts[replica]!.core!;
    const seen = this.countersSeen[replica]!;
    for (let i = 0; i < counters.length; i++) {
      this.counters[i]! += counters[i]! - seen[i]!;
      seen[i] = counters[i]!;
    }
  }

  private totals(): SimulationTotals {
    for (const host of this.hosts) if (host.core !== undefined) this.rememberCounters(host.id);
    const counter = (name: CounterName): number => this.counters[Counter[name]]!;
    const sum = (of: (client: ClientHost) => number): number =>
      this.clients.reduce((total, client) => total + of(client), 0);
    return {
      messages: this.hosts.reduce((total, host) => total + host.messages, 0),
      datagrams: this.network.counts.delivered,
      previousVersion: [...this.hosts, ...this.clients].reduce(
        (total, { outbox }) => total + outbox.previousVersion,
        0,
      ),
      withheld: this.hosts.reduce((total, { outbox }) => total + outbox.withheld, 0),
      corrupted: this.network.counts.corrupted,
      commits: sum((client) => client.counts.committed),
      fastCommits: sum((client) => client.counts.fast),
      unknown: sum((client) => client.counts.unknown),
      views: this.checks.viewsStarted,
      crashes: this.crashes,
      logsLost: this.logsLost,
      directoriesLost: this.directoriesLost,
      forgotten: this.forgottenStops,
      repairs: counter('repairs'),
      held: counter('requests_held'),
      rollbacks: counter('rollbacks'),
      snapshotsInstalled: counter('snapshots_installed'),
      sessionsRenewed: sum((client) => client.counts.renewed),
      chosen: this.checks.chosenLength,
      enemy: this.enemy?.messages ?? 0,
      astray: this.network.counts.astray,
      tooLong: this.network.counts.tooLong,
      ...this.wrongStates.totals(),
    };
  }
}
