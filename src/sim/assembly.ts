/**
 * Everything that a run consists of, made from its options: the plan and the world that the seed draws, the network, the
 * replicas with their disks and machines, the clients, and the drivers of faults.
 *
 * The order of what is drawn here decides what every seed means. A part that is added later draws from a fork of the seed
 * itself, not of the common generator, so that all others draw the same with or without it.
 */
import { Feature, FEATURE_NAMES, featureOperation, KNOWN_FEATURES } from '../protocol/log/features.js';
import { KvMachine } from '../machine/kv.js';
import type { StateMachine } from '../machine/state-machine.js';
import {
  DEFAULT_CLIENT_TIMINGS,
  DEFAULT_TIMINGS,
  type ClientConfig,
  type Pieces,
  type ReplicaConfig,
} from '../protocol/config.js';
import { chainOf, type Chain } from '../protocol/contract.js';
import { EVEN_US as PLEA_TURN_US } from '../protocol/replica/suspicion/pleas.js';
import { encodeMembership, firstMembership, type Membership } from '../protocol/membership/membership.js';
import { DEFAULT_DATAGRAM_BYTES } from '../wire/envelope.js';
import { ReplicaStatus, RequestFlag } from '../wire/messages.js';
import { AmbushDriver } from './ambush.js';
import { BeginningDriver } from './beginnings.js';
import { Checks } from './checks.js';
import { ClientHost } from './client-host.js';
import { SimulatedClock } from './clock.js';
import { createShippedClient, createShippedReplica, type CreateClient, type CreateReplica } from './cores.js';
import { Delivery } from './delivery.js';
import { SimulatedDisk } from './disk.js';
import { describeDiverging, DivergingDriver, drawDiverging, shortLog, WrongStates } from './diverging.js';
import { Enemy } from './enemy.js';
import type { Epochs } from './epochs.js';
import { EventQueue } from './event-queue.js';
import { ALL_FAULTS, describePlan, drawPlan, FaultDriver, type FaultName, type Plan } from './faults.js';
import { simulationChain, SimulationHasher } from './hash.js';
import { Interference } from './interference.js';
import { drawRequestsPerLane, MishapDriver, roomForWorn } from './mishaps.js';
import { Network } from './network.js';
import { MemberOperator } from './member-operator.js';
import { Observation } from './observation.js';
import { drawSwitch, FeatureWorkload, Operator, OPERATOR_PLAN } from './operator.js';
import { isListed, type Parts } from './parts.js';
import { within } from './plan-in-world.js';
import { Random } from './random.js';
import { ReplicaHost } from './replica-host.js';
import { STORE_OPERATION_BYTES, STORE_RESULT_BYTES } from './store-workload.js';
import { Tally } from './tally.js';
import type { TraceRing, TransitionLog } from './trace.js';
import { WireEnd } from './wire-end.js';
import type { Workload } from './workload.js';
import { UpgradeDriver, upgrades } from './upgrade.js';
import { describeWorld, distanceUs, drawWorld, OF_A_CLIENT, type World } from './world.js';
import { WorldDriver } from './world-driver.js';

/** Default length of the safety phase, ticks (µs of virtual time). */
export const DEFAULT_TICKS = 500_000;
/** Default time within which the liveness phase must reach its goals, ticks. */
const LIVENESS_TICKS = 10_000_000;

/** The number of that feature. */
const MEMBERSHIP = FEATURE_NAMES.indexOf('membership') + 1;
/**
 * Each start of a replica makes a machine anew, so it gets little memory: the default ring of changes alone has 6 MiB.
 * Neither the ring nor `expectedKeys` shows in results or snapshots; so short a ring also drops its oldest changes.
 */
const SMALL = { maxKeys: 1 << 16, maxBytes: 1 << 24, expectedKeys: 8, changes: 256 };
const CLUSTER_HI = 0x51313131;
const CLUSTER_LO = 0x7a7a7a7a;
/** The results of the store need longer datagrams. */
const NOT_WITH_STORE: ReadonlySet<FaultName> = new Set<FaultName>(['path-limit']);
/** Share of the runs in which an operator changes the members, where that may happen. */
const CHANGES = 0.3;
/** Places in the tables of clients' addresses, if addresses change or strangers appear. */
const ADDRESSES = 1024;
/** Share of the runs whose replicas take snapshots in pieces; how long these are, and how far apart. */
const IN_PIECES = 0.3;
const PIECE_BYTES = [1, 64, 512] as const;
/** Share of the runs with members in which an epoch is over after few views, and how many that are at least. */
const RENEWALS = 0.4;
const RENEWAL_VIEWS = [1, 10] as const;
const PIECE_US = [200, 1000, 20_000] as const;
/** Share of the runs whose clients use the store at level 1, of those that raise it to that. */
const WITH_STORE = 0.5;
/** Share of the runs whose machines undo; bytes for the sessions' part of it, so few at times that they do not suffice. */
const WITH_UNDO = 1 / 3;
const UNDO_BYTES = [1 << 9, 1 << 12, 1 << 16] as const;

/** An operator changes the members in the runs of this seed, if the fault `members` may happen. */
export function changesMembers(seed: number): boolean {
  return new Random(seed).fork('members').chance(CHANGES);
}

/** What is on from the first entry, a mask, and when an operator switches the others on, µs; undefined: never. */
function drawFeatures(options: SimulationOptions): {
  readonly features: number;
  readonly switchUs: number | undefined;
} {
  const { seed, ticks = DEFAULT_TICKS, faults = new Set(ALL_FAULTS) } = options;
  const changes = hasOperator(options, faults);
  const atFirst = changes && meetVersions(options, faults) ? KNOWN_FEATURES & ~Feature.membership : KNOWN_FEATURES;
  const features = options.features ?? (changes || new Random(seed).fork('features').chance(0.5) ? atFirst : 0);
  const isSwitched = features === 0 && options.idle !== true;
  return { features, switchUs: isSwitched ? drawSwitch(seed, faults, ticks) : undefined };
}

/** Clients use the store at level 1 (store-workload.ts): in some runs in which it is raised to that, some time. */
export function usesStore(options: SimulationOptions): boolean {
  const { seed, faults = new Set(ALL_FAULTS) } = options;
  if (!faults.has('store') || options.createMachine !== undefined) return false;
  const { features, switchUs } = drawFeatures(options);
  const isRaised = switchUs !== undefined || (features & Feature.store) !== 0;
  return isRaised && new Random(seed).fork('store').chance(WITH_STORE);
}

function isEven({ replicas }: SimulationOptions): boolean {
  return replicas % 2 === 0;
}

/** An operator changes the members in this run. */
function hasOperator(options: SimulationOptions, faults: ReadonlySet<FaultName>): boolean {
  return isEven(options) || (faults.has('members') && changesMembers(options.seed) && options.features === undefined);
}

/** Processes are upgraded before the members change, if an operator changes them in this run (upgrade.ts). */
function meetVersions({ seed }: SimulationOptions, faults: ReadonlySet<FaultName>): boolean {
  return faults.has('versions') && upgrades(seed);
}

export interface SimulationOptions {
  /** A safe integer from 0 on. */
  readonly seed: number;
  /**
   * N. If it is even, the cluster begins with one replica less, as cluster files do, and an operator makes it N voters: the
   * run is one of changing members then, whatever the seed says, and goes back to N after each change of it.
   */
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
  /** Makes the machine of a replica's process, at each of its starts. Default: the key-value store. */
  readonly createMachine?: (replica: number) => StateMachine;
  /** Hears of each entry of the chosen log once, when a replica is first seen to have executed it. */
  readonly executed?: (replica: number, index: number) => void;
  /** Longest operation and longest result, bytes, where the plan's would be shorter; both or neither. Default: the plan's. */
  readonly operationBytes?: number;
  readonly resultBytes?: number;
  /** Features that are on from the first entry, a mask; membership among them if N is even. Default: drawn, all or none. */
  readonly features?: number;
  /** How replicas take snapshots in pieces; null: at once. Default: as the seed decides. */
  readonly pieces?: Pieces | null;
  /** Bytes for what undoes the sessions' part of entries; null: machines do not undo. Default: as the seed decides. */
  readonly undoBytes?: number | null;
  readonly trace?: TraceRing;
  readonly transitions?: TransitionLog;
}

/** How the endpoints speak: what all of them share. */
interface Wiring {
  readonly hasher: SimulationHasher;
  readonly cluster: ConstructorParameters<typeof WireEnd>[2];
  readonly versions: ConstructorParameters<typeof WireEnd>[3];
}

export class Assembly implements Parts {
  readonly seed: number;
  readonly replicas: number;
  /** Replicas of the cluster file: the voters of the first epoch. */
  readonly first: number;
  readonly endpoints: number;
  readonly ticks: number;
  readonly livenessTicks: number;
  readonly plan: Plan;
  readonly world: World;
  readonly queue = new EventQueue();
  readonly network: Network;
  get epochs(): Epochs {
    return this.checks.epochs;
  }
  readonly hosts: ReplicaHost[] = [];
  readonly disks: SimulatedDisk[] = [];
  readonly clients: ClientHost[] = [];
  readonly clocks: SimulatedClock[] = [];
  readonly enemy: Enemy | undefined;
  readonly operator: Operator | undefined;
  readonly memberOperator: MemberOperator | undefined;
  readonly upgrade: UpgradeDriver | undefined;
  readonly chain: Chain | undefined;
  /** On from the first entry; a mask. */
  private readonly features: number;
  /** Clients use the store at level 1. */
  private readonly withStore: boolean;
  /** Undefined: snapshots are taken at once. */
  private readonly pieces: Pieces | undefined;
  private readonly undoBytes: number | undefined;
  readonly driver: FaultDriver;
  readonly ambush: AmbushDriver | undefined;
  readonly mishaps: MishapDriver;
  readonly worldDriver: WorldDriver;
  readonly beginnings: BeginningDriver;
  readonly diverging: DivergingDriver | undefined;
  readonly wrongStates: WrongStates;
  readonly checks: Checks;
  readonly tally: Tally;
  readonly trace: TraceRing | undefined;
  readonly transitions: TransitionLog | undefined;
  readonly delivery: Delivery;
  private readonly observation: Observation;
  /** Longest datagram into which a host puts more than one message. */
  private readonly datagramBytes: number;
  private readonly requestsPerLane: number | undefined;
  /** When an operator switches features on, µs. */
  private readonly switchUs: number | undefined;
  /** Views after which a primary has its voters decided anew; undefined: they do not run short. */
  private readonly renewAfter: number | undefined;
  private readonly divergingText: string;

  constructor(
    private readonly options: SimulationOptions,
    readonly workload: Workload,
  ) {
    const { seed } = options;
    if (isEven(options) && options.features !== undefined && (options.features & Feature.membership) === 0)
      throw new RangeError(
        `${options.replicas} replicas with features ${options.features}: an even number comes from a change of members, so the feature membership (${Feature.membership}) has to be on; add it, leave features out, or take an odd number`,
      );
    this.seed = seed;
    const asked: ReadonlySet<FaultName> = options.faults ?? new Set(ALL_FAULTS);
    const members = new Random(seed).fork('members');
    members.chance(CHANGES); // what `changesMembers` draws
    const changes = hasOperator(options, asked);
    this.first = isEven(options) ? options.replicas - 1 : options.replicas;
    this.withStore = usesStore(options);
    const areUpgraded = changes && meetVersions(options, asked);
    const faults = new Set(
      [...asked].filter(
        (name) => !(changes && !areUpgraded && name === 'versions') && !(this.withStore && NOT_WITH_STORE.has(name)),
      ),
    );
    /** Machines: those of the cluster file, and what an operator may add. */
    const replicas = this.first + (changes ? members.between(1, 4) : 0);
    this.replicas = replicas;
    this.ticks = options.ticks ?? DEFAULT_TICKS;
    this.trace = options.trace;
    this.transitions = options.transitions;
    const random = new Random(seed);
    const plan = drawPlan(random.fork('plan'), faults);
    const { clients, lanes } = plan.workload;
    const { lanesPerSession } = plan.limits;
    this.endpoints = replicas + clients;
    this.world = {
      ...drawWorld(seed, faults, { replicas, first: this.first, clients, lanes, lanesPerSession, ticks: this.ticks }),
      ...options.world,
    };
    // What another client complained of before may count as much until its turn is over.
    const waitsTurn = this.world.oneWay?.stays === true && OF_A_CLIENT.has(this.world.oneWay.kind);
    this.livenessTicks = options.livenessTicks ?? LIVENESS_TICKS + (waitsTurn ? PLEA_TURN_US : 0);
    const room = this.withStore ? { operationBytes: STORE_OPERATION_BYTES, resultBytes: STORE_RESULT_BYTES } : options;
    const inWorld = withRoom(within(plan, this.world), room);
    const wrong = drawDiverging(seed, faults, replicas, this.ticks);
    this.divergingText = describeDiverging(wrong);
    this.requestsPerLane = drawRequestsPerLane(seed, faults, this.world);
    let { limits } = inWorld;
    if (wrong.length > 0) limits = shortLog(limits, inWorld.disk.keepsLog);
    if (this.requestsPerLane !== undefined) limits = roomForWorn(limits);
    this.plan = { ...inWorld, limits };
    const interference = new Interference(this);
    this.observation = new Observation(this);
    this.wrongStates = new WrongStates(
      this.hosts,
      (replica, text) => this.trace?.note(this.queue.nowUs, replica, text),
      () => this.hosts.filter((host) => isListed(this, host)),
      (among) => this.epochs.present()[0]!.hasQuorum(among.reduce((mask, { id }) => mask | (1 << id), 0)),
    );
    if (wrong.length > 0) this.diverging = new DivergingDriver(this.queue, seed, wrong, interference);
    const { longest } = this.world;
    const enemy = this.world.ahead ?? this.world.enemy;
    const { features, switchUs } = drawFeatures(options);
    this.features = features;
    this.switchUs = switchUs;
    const pieces = new Random(seed).fork('pieces of snapshots');
    const drawn = pieces.chance(IN_PIECES)
      ? { bytes: pieces.pick(PIECE_BYTES), everyUs: pieces.pick(PIECE_US) }
      : undefined;
    this.pieces = options.pieces === undefined ? drawn : (options.pieces ?? undefined);
    const renewals = new Random(seed).fork('renewals');
    if (changes && renewals.chance(RENEWALS)) this.renewAfter = renewals.pick(RENEWAL_VIEWS);
    // Clients that do not ask for the members would never hear of the next epoch, which replicas that leap may come close to.
    else if (!changes) this.renewAfter = Infinity;
    const undo = new Random(seed).fork('undo');
    const drawnBytes = undo.chance(WITH_UNDO) ? undo.pick(UNDO_BYTES) : undefined;
    this.undoBytes = options.undoBytes === undefined ? drawnBytes : (options.undoBytes ?? undefined);
    this.datagramBytes = longest ?? DEFAULT_DATAGRAM_BYTES;
    const executed = (replica: number, index: number): void => {
      options.executed?.(replica, index);
      workload.executed?.(index, this.hosts[replica]!.probe!.executions[index]);
    };
    this.checks = new Checks(replicas, executed, this.first);
    this.tally = new Tally(replicas);
    this.network = new Network(
      this.queue,
      random.fork('network'),
      this.endpoints + (enemy === undefined ? 0 : 1) + (this.switchUs === undefined && !changes ? 0 : 1),
      this.plan.network,
      (datagram) => this.delivery.deliver(datagram),
    );
    if (areUpgraded) {
      // One that is alone, and keeps no log, cannot be stopped without losing it.
      const older = this.first === 1 && this.plan.durability === 'memory' ? 0 : this.first;
      this.upgrade = new UpgradeDriver(this.queue, seed, this.ticks, older, replicas, interference);
    }
    this.layOut();
    this.worldDriver = new WorldDriver(this.queue, new Random(seed).fork('world'), this.world, interference);
    this.beginnings = new BeginningDriver(this.queue, this.world.firstStarts, this.world.directoryLosses, interference);
    this.mishaps = new MishapDriver(this.queue, seed, faults, this.plan.faultIntervalUs, interference);
    this.driver = new FaultDriver(this.queue, random.fork('faults'), this.plan, interference);
    const hasher = new SimulationHasher();
    // Like versions: everything else draws the same with or without it.
    const keyed = new Random(seed).fork('chain');
    this.chain = keyed.chance(0.5) ? simulationChain(keyed) : undefined;
    const setup = random.fork('setup');
    const wiring: Wiring = {
      hasher,
      cluster: {
        idHi: CLUSTER_HI,
        idLo: CLUSTER_LO,
        replicas,
        endpoints:
          this.world.moveEveryUs === undefined && enemy === undefined && this.switchUs === undefined
            ? this.endpoints + (changes ? 1 : 0)
            : ADDRESSES,
      },
      versions: this.drawVersions(),
    };
    for (let endpoint = 0; endpoint < this.endpoints; endpoint++) {
      const clock = new SimulatedClock(setup.between(0, 1e9), (setup.unit() - 0.5) * 100);
      clock.set((setup.unit() - 0.5) * 2 * this.plan.clockSpreadNs, 0);
      this.clocks.push(clock);
      const wire = new WireEnd(endpoint, hasher, wiring.cluster, wiring.versions);
      if (endpoint < replicas) this.addReplica(endpoint, setup, wire, hasher, clock);
      else this.addClient(endpoint, setup, wire, clock);
    }
    this.enemy = this.makeEnemy(wiring);
    this.operator = this.makeOperator(wiring, interference);
    if (changes) this.memberOperator = this.makeMemberOperator(members, wiring, interference);
    const full = this.plan.faults.get('full-outbox');
    if (full !== undefined) {
      const chance = setup.fork('outbox');
      for (const host of [...this.hosts, ...this.clients]) host.outbox.isFull = () => chance.chance(0.02 * full);
    }
    const ambush = this.plan.faults.get('ambush');
    if (ambush !== undefined)
      this.ambush = new AmbushDriver(this.queue, random.fork('ambush'), this.plan, ambush, interference, changes);
    this.delivery = new Delivery(this, random.fork('unreachable'));
  }

  /** The plan and the world in one line. */
  describe(): string {
    const world = describeWorld(this.world, this.replicas);
    const mishaps = [
      this.mishaps.describe(),
      this.requestsPerLane === undefined ? '' : `wear ${this.requestsPerLane} requests a lane`,
      this.renewAfter === undefined || this.renewAfter === Infinity
        ? ''
        : `epochs renewed after ${this.renewAfter} views, or a cycle`,
      this.switchUs === undefined ? '' : `features from ${(this.switchUs / 1000).toFixed(0)} ms on`,
      this.divergingText,
      this.upgrade?.describe() ?? '',
    ]
      .filter((text) => text !== '')
      .join(', ');
    return `${describePlan(this.plan)}, chain ${this.chain === undefined ? 'without keys' : 'keyed'}${this.pieces === undefined ? '' : `, snapshots in pieces of ${this.pieces.bytes} bytes every ${this.pieces.everyUs} µs`}${this.undoBytes === undefined ? '' : `, undo with ${this.undoBytes} bytes for sessions`}${this.withStore ? ', operations of the store' : ''}${mishaps === '' ? '' : `; ${mishaps}`}${world === '' ? '' : `; world: ${world}`}`;
  }

  /** Sets how far the endpoints are apart, and what their paths carry. */
  private layOut(): void {
    const { network, endpoints } = this;
    const { distance, longest } = this.world;
    for (let from = 0; from < endpoints; from++) {
      for (let to = 0; to < endpoints; to++) {
        if (longest !== undefined) network.setLongest(from, to, longest);
        if (distance !== undefined && from !== to) network.setDistance(from, to, distanceUs(distance, from, to));
      }
    }
  }

  private drawVersions(): Wiring['versions'] {
    const random = new Random(this.seed).fork('versions');
    const { upgrade } = this;
    if (upgrade !== undefined) return { random, previous: 0, isPresent: (endpoint) => upgrade.isPresent(endpoint) };
    const strength = this.plan.faults.get('versions');
    return strength === undefined ? undefined : { random, previous: 0.2 + 0.6 * strength };
  }

  private addReplica(id: number, setup: Random, wire: WireEnd, hasher: SimulationHasher, clock: SimulatedClock): void {
    const { plan, queue, network, options } = this;
    const disk = new SimulatedDisk(
      queue,
      setup.fork('disk'),
      hasher,
      plan.disk,
      `replica ${id}`,
      new Random(this.seed).fork(`writes of ${id} that nothing waits for`),
      this.beginnings.asks ? this.replicas : 0,
    );
    const { late, ...timings } = plan.contention;
    const config: ReplicaConfig = {
      id,
      replicas: this.first,
      seed: setup.next(),
      late,
      datagramBytes: this.datagramBytes,
      limits: plan.limits,
      timings: { ...DEFAULT_TIMINGS, ...timings },
      features: this.features,
      ...(this.pieces === undefined ? {} : { pieces: this.pieces }),
      ...(this.renewAfter === undefined ? {} : { renewAfter: this.renewAfter }),
      ...(this.undoBytes === undefined ? {} : { undoBytes: this.undoBytes }),
    };
    const { createMachine } = options;
    this.disks.push(disk);
    this.hosts.push(
      new ReplicaHost(
        id,
        config,
        {
          queue,
          network,
          random: setup.fork('replica'),
          clock,
          disk,
          wire,
          hasher,
          chain: this.chain,
          createReplica: options.createReplica ?? createShippedReplica,
          createMachine: createMachine === undefined ? () => new KvMachine(SMALL) : () => createMachine(id),
          events: this.observation,
          messageCostUs: plan.messageCostUs,
          standstill: this.world.standstill,
          diverging: this.diverging !== undefined,
          asks: this.beginnings.asks,
          records: this.workload.executed !== undefined,
        },
        id < this.first ? id : undefined,
      ),
    );
  }

  private addClient(endpoint: number, setup: Random, wire: WireEnd, clock: SimulatedClock): void {
    const { plan, queue, network, replicas, world, options } = this;
    const { operationBytes, resultBytes } = plan.limits;
    const busy = world.busy?.endpoint === endpoint ? world.busy : undefined;
    const greedy = world.greedy?.endpoint === endpoint ? world.greedy : undefined;
    const lanes = Math.max(plan.workload.lanes, busy?.lanes ?? 0, greedy?.lanes ?? 0);
    const thinkUs = Math.min(plan.workload.thinkUs, greedy === undefined ? Infinity : lanes * greedy.everyUs);
    const configure = (
      sessionHi: number,
      sessionLo: number,
      nonceHi: number,
      nonceLo: number,
      seed: number,
    ): ClientConfig => ({
      replicas: this.first,
      slots: replicas,
      lanes,
      seed,
      sessionHi,
      sessionLo,
      nonceHi,
      nonceLo,
      limits: { operationBytes, resultBytes },
      ...(this.requestsPerLane === undefined ? {} : { requestsPerLane: this.requestsPerLane }),
      ...(greedy === undefined ? {} : { queued: greedy.queued }),
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
        events: this.observation,
        plan: { ...plan.workload, lanes, thinkUs },
        workload: this.workload,
        giveUp: plan.faults.get('give-up') ?? 0,
        datagramBytes: this.datagramBytes,
        asksMembers: replicas > this.first,
        owned: world.enemy !== undefined || world.ahead !== undefined,
        pace: busy,
      }),
    );
  }

  private makeMemberOperator(
    random: Random,
    { hasher, cluster, versions }: Wiring,
    interference: Interference,
  ): MemberOperator {
    const { options, first, replicas, queue, network, plan, hosts, checks, trace } = this;
    const clock = new SimulatedClock(0, 0);
    const endpoint = this.endpoints + (this.enemy === undefined ? 0 : 1);
    const { operationBytes, resultBytes } = plan.limits;
    const members = (): Membership => checks.epochs.members ?? firstMembership(first);
    return new MemberOperator(
      endpoint,
      {
        queue,
        network,
        random: random.fork('operator'),
        clock,
        wire: new WireEnd(endpoint, hasher, cluster, versions),
        machines: replicas,
        feature:
          this.upgrade === undefined ? undefined : featureOperation(MEMBERSHIP, this.chain ?? chainOf(hasher, 0)),
        size: isEven(options) ? options.replicas : undefined,
        createClient: createShippedClient,
        configure: (seed, [sessionHi, sessionLo, nonceHi, nonceLo]) => ({
          replicas: first,
          slots: replicas,
          lanes: 1,
          seed,
          sessionHi,
          sessionLo,
          nonceHi,
          nonceLo,
          limits: { operationBytes, resultBytes },
          timings: DEFAULT_CLIENT_TIMINGS,
        }),
      },
      {
        members,
        isCaughtUp: (slot) => {
          const state = hosts[slot]!.core?.state;
          return (
            !hosts[slot]!.countsAsLost &&
            !hosts[slot]!.isMarked &&
            !this.worldDriver.isCut(slot) &&
            state !== undefined &&
            state.status === ReplicaStatus.normal &&
            state.committed >= checks.chosenLength - 100
          );
        },
        hasCut: () => this.worldDriver.hasCut,
        join: (slot, hostId) => {
          trace?.note(queue.nowUs, slot, `is host ${hostId} now, with an empty disk`);
          if (hosts[slot]!.core !== undefined) this.tally.remember(hosts[slot]!);
          hosts[slot]!.join(hostId, encodeMembership(members()));
          this.ambush?.see(slot, 'transition', -1, -1, 'is-host');
        },
        retire: (slot) => {
          if (hosts[slot]!.core !== undefined) this.tally.remember(hosts[slot]!);
          hosts[slot]!.retire();
        },
        revive: (slot) => hosts[slot]!.revive(),
        burn: (slot) => interference.burn(slot),
        isBurnt: (slot) => hosts[slot]!.isBurnt,
        hostIn: (slot) => hosts[slot]!.hostId,
        directoryOf: (slot) => hosts[slot]!.directory,
        giveUp: (slot) => interference.giveUp(slot),
        note: (text) => trace?.note(queue.nowUs, endpoint, text),
        unknownEpoch: (from, take) => this.observation.unknownEpoch(endpoint, from, take),
        searchMembers: (take) => this.observation.searchMembers(endpoint, take),
      },
    );
  }

  private makeEnemy({ hasher, cluster, versions }: Wiring): Enemy | undefined {
    const { ahead } = this.world;
    const enemy = ahead ?? this.world.enemy;
    if (enemy === undefined) return undefined;
    const random = new Random(this.seed).fork('enemy');
    const wire = new WireEnd(
      this.endpoints,
      hasher,
      cluster,
      versions === undefined ? undefined : { ...versions, random: random.fork('versions') },
    );
    return new Enemy(this.endpoints, {
      queue: this.queue,
      network: this.network,
      random,
      clock: new SimulatedClock(0, 0),
      wire,
      replicas: this.replicas,
      views: this.epochs,
      plan: enemy,
      ahead,
      operationBytes: this.plan.limits.operationBytes,
      datagramBytes: this.datagramBytes,
      lanesPerSession: this.plan.limits.lanesPerSession,
      sessions: () => this.clients.map((client) => client.session),
      sent: (...message) => this.observation.sent(...message),
    });
  }

  private makeOperator({ hasher, cluster, versions }: Wiring, interference: Interference): Operator | undefined {
    const { switchUs, plan, queue, network, replicas, options } = this;
    if (switchUs === undefined) return undefined;
    const random = new Random(this.seed).fork('operator');
    const endpoint = this.endpoints + (this.enemy === undefined ? 0 : 1);
    const wire = new WireEnd(
      endpoint,
      hasher,
      cluster,
      versions === undefined ? undefined : { ...versions, random: random.fork('versions') },
    );
    const { operationBytes, resultBytes } = plan.limits;
    const workload = new FeatureWorkload(this.chain ?? chainOf(hasher, 0));
    const host = new ClientHost(
      endpoint,
      (sessionHi, sessionLo, nonceHi, nonceLo, seed) => ({
        replicas,
        lanes: OPERATOR_PLAN.lanes,
        seed,
        sessionHi,
        sessionLo,
        nonceHi,
        nonceLo,
        flags: RequestFlag.feature,
        limits: { operationBytes, resultBytes },
        timings: DEFAULT_CLIENT_TIMINGS,
      }),
      {
        queue,
        network,
        random: random.fork('client'),
        clock: new SimulatedClock(0, 0),
        wire,
        replicas,
        createClient: options.createClient ?? createShippedClient,
        events: this.observation,
        plan: OPERATOR_PLAN,
        asksMembers: false,
        workload,
        giveUp: 0,
        datagramBytes: this.datagramBytes,
        owned: this.world.enemy !== undefined || this.world.ahead !== undefined,
        pace: undefined,
      },
    );
    return new Operator(queue, random, switchUs, host, workload, interference);
  }
}

/** Bytes of one answer of a transfer, if operations or states may be longer than those of the key-value workload. */
const CHUNK_BYTES = 1024;

/** The plan with limits that hold the longest operation and result of the machine in use. */
function withRoom(
  plan: Plan,
  { operationBytes, resultBytes }: Pick<SimulationOptions, 'operationBytes' | 'resultBytes'>,
): Plan {
  const { limits } = plan;
  if (operationBytes === undefined || resultBytes === undefined) return plan;
  const longest = Math.max(operationBytes, limits.operationBytes);
  return {
    ...plan,
    limits: {
      ...limits,
      operationBytes: longest,
      resultBytes: Math.max(resultBytes, limits.resultBytes),
      keptResultBytes: Math.max(
        limits.keptResultBytes,
        1024 * Math.ceil(Math.max(resultBytes, limits.resultBytes) / 64),
      ),
      logBytes: Math.max(limits.logBytes, 16 * (longest + 32)),
      chunkBytes: Math.max(limits.chunkBytes, CHUNK_BYTES),
      cachedBytes: Math.max(limits.cachedBytes, 2 * longest),
    },
  };
}
