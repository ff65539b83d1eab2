/**
 * What goes wrong in a run: a plan drawn from the seed (which faults, how strong, in which surroundings), and the
 * driver that carries it out during the safety phase.
 *
 * The one rule: never more than f replicas without their log at a time (rule R1 of the protocol says that the cluster
 * then stops for good). Pauses, partitions and crashes that keep the log have no such bound.
 */
import { LATE_RULES, type ClientTimings, type LateRule, type Limits, type Timings } from '../protocol/config.js';
import type { DiskConditions } from './disk.js';
import type { EventHandler, EventQueue } from './event-queue.js';
import { DELAY_MODELS, type NetworkConditions } from './network.js';
import type { Random } from './random.js';
import { MISHAPS } from './mishaps.js';
import { WORLD_FAULTS } from './world.js';

/** Names for `--faults`, with what they do. The table of docs/internals/simulation.md. */
const FAULTS = {
  loss: 'datagrams are lost',
  duplicate: 'datagrams arrive twice',
  reorder: 'datagrams are overtaken',
  corrupt: 'bytes of datagrams are changed, or their end is cut off',
  'slow-link': 'one direction of a link takes many times as long',
  partition: 'links are cut, one way or both ways, between replicas and from clients',
  clock: 'wall clocks are off, drift, jump forward and back, stand still; one client is a second ahead',
  crash: 'replicas stop at any point of a turn and come back, with or without their log',
  'view-change-crash': 'replicas crash while they are in a view change',
  'crash-loop': 'a replica crashes again soon after each start',
  pause: 'replicas and clients stand still for a while; all their timers are late then',
  slow: 'a replica takes many times as long for each message',
  disk: 'writes take long, are torn by crashes, and a slot of the hard state rots',
  'give-up': 'clients set short deadlines, cancel, and come back with a new session',
  'small-limits': 'logs, tables and queues are tiny',
  'full-outbox': 'now and then there is no room for a message to leave',
  ambush: 'scripts hold messages of one kind back, wait for the worst moment, and strike',
  versions: 'processes speak the previous version of the wire only, or the present one too, drawn anew at each start',
  ...MISHAPS,
  ...WORLD_FAULTS,
} as const;

export type FaultName = keyof typeof FAULTS;
export const FAULT_NAMES = Object.keys(FAULTS) as FaultName[];

/** Faults of a world that is otherwise benign: those that existed before world.ts. */
export const KIND_FAULTS: readonly FaultName[] = FAULT_NAMES.filter(
  (name) => !(name in WORLD_FAULTS) && !(name in MISHAPS),
);

/** What `--faults all` means. */
export const ALL_FAULTS: readonly FaultName[] = FAULT_NAMES;

/** memory: the log is never kept; os: lost when the host crashes, kept when the process does; fsync: always kept. */
export const DURABILITIES = ['memory', 'os', 'fsync'] as const;
export type Durability = (typeof DURABILITIES)[number];

export interface WorkloadPlan {
  readonly clients: number;
  readonly lanes: number;
  readonly keys: number;
  /** Mean pause of a lane between two operations, µs. */
  readonly thinkUs: number;
  /** Shares of operations; the rest are writes. */
  readonly reads: number;
  readonly cas: number;
  readonly increments: number;
  readonly deletes: number;
  /** Share of the reads that go through the log. */
  readonly loggedReads: number;
}

export interface Plan {
  readonly durability: Durability;
  readonly network: NetworkConditions;
  readonly disk: DiskConditions;
  readonly workload: WorkloadPlan;
  readonly limits: Limits;
  /** Time a replica takes for a message, µs. */
  readonly messageCostUs: number;
  /** Standard deviation of wall clocks without faults, ns; 0: all equal, so that clients' timestamps tie. */
  readonly clockSpreadNs: number;
  /** Strength of each active fault, 0…1. */
  readonly faults: ReadonlyMap<FaultName, number>;
  /** Mean time between two faults that are events, µs. */
  readonly faultIntervalUs: number;
  /** For each client, in the order of endpoints. */
  readonly leads: readonly LeadPlan[];
  /**
   * Probability that a datagram to a replica whose process is gone makes its host report that to the sender; and the
   * same for a replica that is there.
   */
  readonly unreachable: number;
  readonly falselyUnreachable: number;
  /** What replicas do when members differ. */
  readonly contention: Pick<Timings, 'orderHoldUs' | 'lateRepairUs' | 'slowAfterUs'> & { readonly late: LateRule };
}

/** How far ahead of its clock a client sets its timestamps: from `leadNs` up to `maxLeadNs` if it adapts. */
export type LeadPlan = Pick<ClientTimings, 'leadNs' | 'maxLeadNs'>;

const ORDINARY_LIMITS: Limits = {
  logEntries: 4096,
  logBytes: 1 << 20,
  maxSessions: 64,
  maxLanes: 1024,
  lanesPerSession: 64,
  operationBytes: 512,
  resultBytes: 512,
  keptResultBytes: 8192,
  waiting: 64,
  chunkBytes: 1024,
  held: 64,
  cachedRequests: 64,
  cachedBytes: 1 << 14,
};

/** Later additions: drawn among the others they would have changed the meaning of every seed. */
const DRAWN_LAST: readonly FaultName[] = ['ambush', 'versions'];

/** Draws everything about a run that does not happen at a particular moment. */
export function drawPlan(random: Random, allowed: ReadonlySet<FaultName>): Plan {
  const faults = new Map<FaultName, number>();
  const share = random.pick([0.2, 0.5, 0.8]);
  const draw = (name: FaultName): void => {
    // Drawn for every fault, so that leaving one out of the list leaves the others unchanged.
    const strength = random.unit();
    const active = random.chance(share);
    if (allowed.has(name) && active) faults.set(name, strength);
  };
  for (const name of KIND_FAULTS) if (!DRAWN_LAST.includes(name)) draw(name);
  const strengthOf = (name: FaultName): number => faults.get(name) ?? 0;
  const durability = random.pick(DURABILITIES);
  const clients = random.between(2, 6);
  const lanes = random.between(1, 6);
  const operationsPerSecond = random.pick([300, 1000, 2000, 4000]);
  const plan: Omit<Plan, 'unreachable' | 'falselyUnreachable'> = {
    durability,
    network: {
      delay: random.pick(DELAY_MODELS),
      delayUs: random.pick([15, 30, 100, 400]),
      spread: random.pick([0.1, 0.3, 0.6]),
      loss: 0.1 * strengthOf('loss') ** 2,
      duplicate: 0.2 * strengthOf('duplicate') ** 2,
      corrupt: 0.05 * strengthOf('corrupt'),
      reorder: 0.3 * strengthOf('reorder') ** 2,
      reorderUs: random.pick([100, 1000, 20_000]),
    },
    disk: {
      keepsLog: durability !== 'memory',
      latencyUs: random.pick(durability === 'memory' ? [0, 0, 100, 1000] : [0, 20, 100, 500]),
      hiccup: 0.02 * strengthOf('disk'),
    },
    workload: {
      clients,
      lanes,
      // Few, so that they are hot, but not so few that the checker drowns in concurrent operations on one of them.
      keys: Math.max(random.between(1, 4), Math.ceil((clients * lanes) / 8)),
      thinkUs: (clients * lanes * 1e6) / operationsPerSecond,
      reads: random.pick([0.1, 0.3, 0.6]),
      cas: random.pick([0, 0.1, 0.3]),
      increments: random.pick([0, 0.05, 0.1]),
      deletes: random.pick([0, 0.03]),
      loggedReads: random.pick([0, 0.2, 1]),
    },
    limits: drawLimits(random, faults.has('small-limits'), clients, lanes),
    messageCostUs: random.pick([0, 1, 3]),
    clockSpreadNs: random.pick([0, 1000, 100_000]),
    faults,
    faultIntervalUs: random.pick([15_000, 40_000, 100_000]),
    leads: drawLeads(random, clients),
    contention: {
      orderHoldUs: random.pick([0, 2000, 50_000]),
      lateRepairUs: random.pick([0, 200]),
      late: random.pick(LATE_RULES),
      slowAfterUs: random.pick([0, 20_000, 100_000]),
    },
  };
  for (const name of DRAWN_LAST) draw(name);
  return { ...plan, unreachable: random.pick([0, 0.5, 1]), falselyUnreachable: random.pick([0, 0, 0.001, 0.1]) };
}

/**
 * Half of the runs have no lead at all, as clients have by default. In the others most clients have one, and some never
 * go without.
 */
function drawLeads(random: Random, clients: number): LeadPlan[] {
  const used = random.chance(0.5);
  return Array.from({ length: clients }, () => {
    const maxLeadNs = Math.round(50_000 * 40 ** random.unit());
    const leadNs = random.chance(0.3) ? random.below(maxLeadNs) : 0;
    return used && random.chance(0.8) ? { leadNs, maxLeadNs } : { leadNs: 0, maxLeadNs: 0 };
  });
}

function drawLimits(random: Random, small: boolean, clients: number, lanes: number): Limits {
  const maxSessions = clients + random.between(1, 4);
  const drawn: Limits = {
    ...ORDINARY_LIMITS,
    logEntries: random.pick([64, 128, 256]),
    logBytes: random.pick([8192, 16_384, 65_536]),
    maxSessions,
    maxLanes: maxSessions * lanes,
    lanesPerSession: lanes,
    waiting: random.pick([1, 4]),
    chunkBytes: random.pick([160, 400]),
    held: random.pick([0, 1, 4]),
    cachedRequests: 4,
    cachedBytes: 256,
  };
  return small ? drawn : ORDINARY_LIMITS;
}

/** The plan in one line, for display. */
export function describePlan(plan: Plan): string {
  const { network, workload, disk } = plan;
  const faults = [...plan.faults].map(([name, strength]) => `${name} ${strength.toFixed(2)}`).join(', ');
  return (
    `${plan.durability}, disk ${disk.latencyUs} µs, ${workload.clients} clients × ${workload.lanes} lanes on ${workload.keys} keys, ${Math.round((workload.clients * workload.lanes * 1e6) / workload.thinkUs)} operations/s, ` +
    `delay ${network.delay} ${network.delayUs} µs, lead ${describeLeads(plan.leads)}, order ${plan.contention.orderHoldUs === 0 ? 'not pushed' : `held ${plan.contention.orderHoldUs} µs`}, late ${plan.contention.late}, unreachable said ${plan.unreachable}, falsely ${plan.falselyUnreachable}, a fault every ${plan.faultIntervalUs / 1000} ms; faults: ${faults === '' ? 'none' : faults}`
  );
}

function describeLeads(leads: readonly LeadPlan[]): string {
  return leads.every(({ maxLeadNs }) => maxLeadNs === 0)
    ? '0'
    : `${leads.map(({ leadNs, maxLeadNs }) => `${Math.round(leadNs / 1000)}–${Math.round(maxLeadNs / 1000)}`).join(' ')} µs`;
}

/** What the driver can do to a cluster. Endpoints are replicas 0…N−1, then clients. */
export interface FaultTargets {
  readonly replicas: number;
  readonly endpoints: number;
  isUp(replica: number): boolean;
  /** Takes a replica down for `downUs`; does nothing if it is down, or if that would lose too many logs. */
  crash(replica: number, host: boolean, downUs: number): void;
  pause(endpoint: number, forUs: number): void;
  setSlowness(replica: number, factor: number): void;
  setBlocked(from: number, to: number, blocked: boolean): void;
  setLinkFactor(from: number, to: number, factor: number): void;
  setClock(endpoint: number, offsetNs: number, driftPpm: number): void;
  stepClock(endpoint: number, byNs: number): void;
  freezeClock(endpoint: number): void;
  thawClock(endpoint: number): void;
  rot(replica: number): void;
  /** The client forgets everything and returns with a new session. */
  restartClient(endpoint: number): void;
  note(text: string): void;
}

/** Faults that happen at moments; the others are conditions. */
const EVENT_FAULTS: readonly FaultName[] = [
  'slow-link',
  'partition',
  'clock',
  'crash',
  'crash-loop',
  'pause',
  'slow',
  'disk',
  'give-up',
];
/** Probability that an observed view change is answered by a crash, at full strength. */
const VIEW_CHANGE_CRASH = 0.3;

/** Makes the faults of a plan happen, until stopped. */
export class FaultDriver implements EventHandler {
  private stopped = false;
  private readonly active: readonly FaultName[];
  private loops = new Map<number, number>();

  constructor(
    private readonly queue: EventQueue,
    private readonly random: Random,
    private readonly plan: Plan,
    private readonly targets: FaultTargets,
  ) {
    this.active = EVENT_FAULTS.filter((name) => plan.faults.has(name));
  }

  start(): void {
    const { plan, random, targets } = this;
    if (plan.faults.has('clock')) {
      for (let endpoint = 0; endpoint < targets.endpoints; endpoint++) {
        targets.setClock(
          endpoint,
          random.logNormal(1000, 4) * (random.chance(0.5) ? 1 : -1),
          (random.unit() - 0.5) * 400,
        );
      }
      if (random.chance(0.5)) targets.setClock(random.between(targets.replicas, targets.endpoints - 1), 1e9, 0);
    }
    if (this.active.length > 0)
      this.queue.schedule(this.queue.nowUs + random.exponential(plan.faultIntervalUs), this, 0, undefined);
  }

  stop(): void {
    this.stopped = true;
  }

  handle(_kind: number, payload: unknown): void {
    if (this.stopped) return;
    if (typeof payload === 'function') {
      (payload as () => void)();
      return;
    }
    const name = this.random.pick(this.active);
    this.strike(name, this.plan.faults.get(name)!);
    this.queue.schedule(this.queue.nowUs + this.random.exponential(this.plan.faultIntervalUs), this, 0, undefined);
  }

  /** A replica has entered a view change. */
  viewChangeSeen(replica: number): void {
    const strength = this.plan.faults.get('view-change-crash');
    if (this.stopped || strength === undefined || !this.random.chance(VIEW_CHANGE_CRASH * strength)) return;
    this.later(this.random.exponential(300), () => this.targets.crash(replica, this.random.chance(0.5), this.downUs()));
  }

  /** A replica is up again. */
  restarted(replica: number): void {
    const left = this.loops.get(replica) ?? 0;
    if (this.stopped || left === 0) return;
    this.loops.set(replica, left - 1);
    this.later(this.random.exponential(5000), () => this.targets.crash(replica, false, this.random.exponential(2000)));
  }

  private strike(name: FaultName, strength: number): void {
    const { random, targets } = this;
    switch (name) {
      case 'slow-link': {
        const [from, to] = this.link();
        targets.setLinkFactor(from, to, random.between(3, 100));
        this.later(this.spellUs(), () => targets.setLinkFactor(from, to, 1));
        return;
      }
      case 'partition':
        this.partition();
        return;
      case 'clock':
        this.disturbClock(strength);
        return;
      case 'crash':
        targets.crash(random.below(targets.replicas), random.chance(0.5), this.downUs());
        // Several at once differ from one after another.
        if (random.chance(0.3 * strength))
          targets.crash(random.below(targets.replicas), random.chance(0.5), this.downUs());
        return;
      case 'crash-loop': {
        const replica = random.below(targets.replicas);
        this.loops.set(replica, random.between(2, 5));
        targets.crash(replica, false, this.downUs());
        return;
      }
      case 'pause':
        targets.pause(random.below(targets.endpoints), this.spellUs());
        return;
      case 'slow': {
        const replica = random.below(targets.replicas);
        targets.setSlowness(replica, random.between(5, 200));
        this.later(this.spellUs(), () => targets.setSlowness(replica, 1));
        return;
      }
      case 'disk':
        targets.rot(random.below(targets.replicas));
        return;
      case 'give-up':
        if (random.chance(0.5)) targets.restartClient(random.between(targets.replicas, targets.endpoints - 1));
        return;
      default:
        return;
    }
  }

  private partition(): void {
    const { random, targets } = this;
    const pairs: [number, number][] = [];
    const n = targets.replicas;
    const kind = random.below(6);
    if (kind <= 2) {
      // One endpoint alone: cut off, deaf, or mute.
      const alone = random.below(targets.endpoints);
      for (let other = 0; other < targets.endpoints; other++) {
        if (other === alone) continue;
        if (kind !== 1) pairs.push([alone, other]);
        if (kind !== 2) pairs.push([other, alone]);
      }
    } else if (kind === 3) {
      pairs.push(this.link());
    } else if (kind === 4) {
      const [a, b] = this.link();
      pairs.push([a, b], [b, a]);
    } else {
      // Two halves, with the clients divided between them.
      const side = Array.from({ length: targets.endpoints }, () => random.chance(0.5));
      for (let from = 0; from < targets.endpoints; from++) {
        for (let to = 0; to < n; to++) if (side[from] !== side[to]) pairs.push([from, to], [to, from]);
      }
    }
    targets.note(`partition: ${pairs.length} directed links are cut`);
    for (const [from, to] of pairs) targets.setBlocked(from, to, true);
    this.later(this.spellUs(), () => {
      targets.note(`partition: ${pairs.length} directed links are mended`);
      for (const [from, to] of pairs) targets.setBlocked(from, to, false);
    });
  }

  private disturbClock(strength: number): void {
    const { random, targets } = this;
    const endpoint = random.below(targets.endpoints);
    switch (random.below(4)) {
      case 0:
        targets.stepClock(endpoint, random.logNormal(1e6 * (0.1 + strength), 2));
        return;
      case 1:
        targets.stepClock(endpoint, -random.logNormal(1e6 * (0.1 + strength), 2));
        return;
      case 2:
        targets.setClock(endpoint, (random.unit() - 0.5) * 1e6, (random.unit() - 0.5) * 2000);
        return;
      default:
        targets.freezeClock(endpoint);
        this.later(this.spellUs(), () => targets.thawClock(endpoint));
    }
  }

  /** A directed link with a replica at one end or both. */
  private link(): [number, number] {
    const { random, targets } = this;
    const replica = random.below(targets.replicas);
    const other = (replica + 1 + random.below(targets.endpoints - 1)) % targets.endpoints;
    return random.chance(0.5) ? [replica, other] : [other, replica];
  }

  private spellUs(): number {
    return this.random.logNormal(40_000, 1);
  }

  private downUs(): number {
    return this.random.logNormal(20_000, 1.2);
  }

  private later(afterUs: number, action: () => void): void {
    this.queue.schedule(this.queue.nowUs + afterUs, this, 1, action);
  }
}
