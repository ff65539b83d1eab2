/**
 * The world of a run, where it is less benign than a rack of equal machines with perfect clocks: conditions that exist
 * from the beginning, mostly remain after the faults have ended, and must be tolerated.
 *
 * Each part draws from its own generator, made from the seed: adding or removing one changes no other, nor the plan.
 * Parts that are costly to simulate are drawn in fewer runs.
 */
import {
  describeDirectoryLosses,
  describeFirstStarts,
  drawDirectoryLosses,
  drawFirstStarts,
  type DirectoryLoss,
  type FirstStarts,
} from './beginnings.js';
import { NEVER_SET } from './clock.js';
import { DATAGRAM_BYTES_MIN } from '../wire/envelope.js';
import { Random } from './random.js';

/** Names for `--faults`, with what they do. They follow the others in the table of docs/internals/simulation.md. */
export const WORLD_FAULTS = {
  distance: 'endpoints are at different distances, 20 µs to 50 ms one way; replicas in one room or two',
  busy: 'one client keeps the cluster busy, up to 20,000 operations/s, while others come and go',
  greedy:
    'one client has more operations open than its window, which is small, or keeps none, and never has nothing to do',
  'clock-history': 'clocks have a wrong date before the first tick, one or all of them: set right later, or never',
  'one-way': 'a replica, or one path of a client, is deaf or mute for long, also when the other faults have ended',
  move: 'endpoints change their address',
  'path-limit':
    'no path carries a datagram that is longer than what the hosts were told, and nobody is told of one that was lost',
  standstill: 'replicas stand still while they apply, write and read snapshots, in proportion to the state',
  enemy: 'a client that holds a key sends anything well-formed under it, to any replica, at any time',
  ahead:
    'a client that holds a key sends each request to one replica, and to the others later or never; it stamps them in time or 1.9 to 95 ms ahead',
  'busy-host': 'all processes wait for the processor for 5 to 200 ms again and again, for good',
  'first-start':
    'the cluster is new: replicas start with nothing on disk, each in its own time, and ask each other who they are',
  'directory-lost': 'replicas lose their whole directory, and are started again with or without a word of it',
} as const;

export type WorldFaultName = keyof typeof WORLD_FAULTS;

/** Share of the runs in which each is drawn. */
const SHARES: Readonly<Record<WorldFaultName, number>> = {
  distance: 0.2,
  busy: 0.04,
  greedy: 0.1,
  'clock-history': 0.2,
  'one-way': 0.2,
  move: 0.15,
  'path-limit': 0.15,
  standstill: 0.15,
  enemy: 0.2,
  ahead: 0.1,
  'busy-host': 0.08,
  'first-start': 0.15,
  'directory-lost': 0.12,
};

/** One way between two endpoints: each one's delay to its room's switch, and the delay between the rooms, µs. */
export interface Distances {
  /** By endpoint. */
  readonly rooms: readonly number[];
  readonly toSwitchUs: readonly number[];
  readonly betweenRoomsUs: number;
}

export interface BusyClient {
  readonly endpoint: number;
  readonly everyUs: number;
  readonly lanes: number;
  /** When it begins, µs; it goes on until the others have what they need. */
  readonly fromUs: number;
}

export interface GreedyClient {
  readonly endpoint: number;
  readonly lanes: number;
  /** See ClientConfig. As many as it has lanes: it keeps no window, and has them all on their way. */
  readonly queued: number;
  /** Mean time between two of its operations, µs. */
  readonly everyUs: number;
}

export interface ClockHistory {
  readonly endpoints: readonly number[];
  /** Seconds, or NEVER_SET. */
  readonly aheadS: number;
  /** When it is set right, µs; Infinity: never. All clocks of one time server are corrected at the same moment. */
  readonly rightAtUs: number;
}

export const ONE_WAY_KINDS = [
  'deaf',
  'deaf to replicas',
  'mute',
  'a client does not hear',
  'does not hear a client',
  'a client cut off from',
  'one replica does not hear',
] as const;
export type OneWayKind = (typeof ONE_WAY_KINDS)[number];
/** A client escapes from these by a plea that names the replicas it does not hear. */
export const OF_A_CLIENT: ReadonlySet<OneWayKind> = new Set([
  'a client does not hear',
  'does not hear a client',
  'a client cut off from',
]);
export const ROLES = ['primary', 'member', 'any'] as const;

export interface OneWayCut {
  readonly kind: OneWayKind;
  /** Role of the affected replica when the cut happens. */
  readonly role: (typeof ROLES)[number];
  readonly fromUs: number;
  readonly forUs: number;
  /** Another cut, while the cluster must work. */
  readonly stays: boolean;
}

export interface Standstill {
  readonly applyUs: number;
  /** Time for each entry of the state to write or read a snapshot of it. */
  readonly snapshotEntryUs: number;
}

export interface EnemyPlan {
  /** Messages a second during the other faults, and afterwards. */
  readonly rate: number;
  readonly rateAfter: number;
  /** It does nothing but register as many lanes as it may, many sessions at once. Never drawn: a test says so. */
  readonly hoards?: boolean;
}

/** Instead of anything else, the enemy sends each request to one replica first, or to that one only. */
export interface AheadPlan extends EnemyPlan {
  readonly role: (typeof ROLES)[number];
  readonly aheadNs: number;
  /** How much later the other members get it, µs. 0: never. */
  readonly laterUs: number;
}

export interface Scheduling {
  /** Mean time between two waits, µs. */
  readonly awakeUs: number;
  readonly waitMaxUs: number;
}

export interface World {
  readonly distance: Distances | undefined;
  readonly busy: BusyClient | undefined;
  readonly greedy: GreedyClient | undefined;
  readonly clocks: ClockHistory | undefined;
  readonly oneWay: OneWayCut | undefined;
  /** Mean time between two changes of an address, µs. */
  readonly moveEveryUs: number | undefined;
  /** Longest datagram, bytes. */
  readonly longest: number | undefined;
  readonly standstill: Standstill | undefined;
  readonly enemy: EnemyPlan | undefined;
  /** Takes the place of `enemy` where both are drawn. */
  readonly ahead: AheadPlan | undefined;
  readonly scheduling: Scheduling | undefined;
  readonly firstStarts: FirstStarts | undefined;
  readonly directoryLosses: readonly DirectoryLoss[] | undefined;
  /** Clients that return with a new session after the faults have ended, by endpoint. */
  readonly newcomers: readonly number[];
}

/** The sizes for which a world is drawn. */
export interface WorldBounds {
  readonly replicas: number;
  /** Replicas that the cluster begins with. */
  readonly first: number;
  readonly clients: number;
  /** Lanes of a client. */
  readonly lanes: number;
  readonly lanesPerSession: number;
  /** Length of the safety phase, µs. */
  readonly ticks: number;
}

const YEAR_S = 365 * 86_400;

export function drawWorld(seed: number, allowed: ReadonlySet<string>, bounds: WorldBounds): World {
  const { replicas, clients, ticks } = bounds;
  const endpoints = replicas + clients;
  const part = <T>(name: WorldFaultName, draw: (random: Random) => T): T | undefined => {
    const random = new Random(seed).fork(`world ${name}`);
    return random.chance(SHARES[name]) && allowed.has(name) ? draw(random) : undefined;
  };
  const world = {
    distance: part('distance', (random) => drawDistances(random, replicas, endpoints)),
    busy: part('busy', (random): BusyClient => {
      const everyUs = random.pick([50, 100, 250]);
      const lanes = Math.max(bounds.lanes, Math.min(bounds.lanesPerSession, Math.ceil(2000 / everyUs)));
      // A few hundred operations before the faults end: what it does afterwards matters, and is costly.
      return {
        endpoint: replicas + random.below(clients),
        everyUs,
        lanes,
        fromUs: Math.max(0, ticks - random.between(200, 800) * everyUs),
      };
    }),
    greedy: part('greedy', (random): GreedyClient => {
      const endpoint = replicas + random.below(clients);
      const lanes = Math.max(bounds.lanes, Math.min(bounds.lanesPerSession, bounds.lanes + random.between(2, 8)));
      const queued = random.pick([1, 2, 4]);
      if (random.chance(0.6)) return { endpoint, lanes, queued, everyUs: 250 };
      const many = Math.max(bounds.lanes, Math.min(bounds.lanesPerSession, 4 * lanes));
      return { endpoint, lanes: many, queued: many, everyUs: 100 };
    }),
    clocks: part('clock-history', (random) => drawClocks(random, replicas, endpoints, ticks)),
    oneWay: part(
      'one-way',
      (random): OneWayCut => ({
        kind: random.pick(ONE_WAY_KINDS),
        role: random.pick(ROLES),
        fromUs: random.below(ticks / 2),
        forUs: random.logNormal(200_000, 1),
        stays: random.chance(0.8),
      }),
    ),
    moveEveryUs: part('move', (random) => random.pick([20_000, 80_000, 300_000])),
    longest: part('path-limit', (random) => random.pick([DATAGRAM_BYTES_MIN, 512, 1232])),
    standstill: part(
      'standstill',
      (random): Standstill => ({ applyUs: random.pick([0, 5, 50]), snapshotEntryUs: logUniform(random, 1, 200) }),
    ),
    enemy: part(
      'enemy',
      (random): EnemyPlan => ({ rate: random.pick([50, 300, 2000]), rateAfter: random.pick([0, 10, 50]) }),
    ),
    ahead: part('ahead', (random): AheadPlan => {
      const rate = random.pick([20, 100, 500]);
      return {
        rate,
        rateAfter: Math.min(rate, 50),
        role: random.pick(ROLES),
        aheadNs: random.pick([1_900_000, 20_000_000, 95_000_000]) * (random.chance(0.5) ? 1 : 0),
        laterUs: random.pick([0, 0, 300, 5_000]),
      };
    }),
    scheduling: part(
      'busy-host',
      (random): Scheduling => ({
        awakeUs: random.pick([50_000, 200_000, 1_000_000]),
        waitMaxUs: random.pick([30_000, 80_000, 200_000]),
      }),
    ),
    firstStarts: part('first-start', (random) => drawFirstStarts(random, bounds.first, ticks)),
    directoryLosses: part('directory-lost', (random) => drawDirectoryLosses(random, replicas, ticks)),
  };
  const random = new Random(seed).fork('world newcomers');
  const come = Array.from({ length: clients }, (_, i) => (random.chance(0.5) ? replicas + i : -1)).filter(
    (endpoint) => endpoint >= 0,
  );
  // The busy client stays: the others must get their operations in beside it.
  const newcomers = Object.values(world).some((drawn) => drawn !== undefined)
    ? come.filter((endpoint) => endpoint !== world.busy?.endpoint)
    : [];
  return { ...world, newcomers };
}

function drawDistances(random: Random, replicas: number, endpoints: number): Distances {
  const twoRooms = random.chance(0.5);
  const clientsFar = random.chance(0.7);
  const rooms = Array.from({ length: endpoints }, () => (twoRooms && random.chance(0.5) ? 1 : 0));
  const toSwitchUs = Array.from({ length: endpoints }, (_, endpoint) =>
    endpoint >= replicas && clientsFar ? logUniform(random, 10, 25_000) : logUniform(random, 10, 40),
  );
  return { rooms, toSwitchUs, betweenRoomsUs: logUniform(random, 100, 25_000) };
}

function drawClocks(random: Random, replicas: number, endpoints: number, ticks: number): ClockHistory {
  const aheadS = logUniform(random, 60, YEAR_S);
  const rightAtUs = random.chance(0.5) ? ticks * random.unit() : ticks;
  const all = Array.from({ length: endpoints }, (_, endpoint) => endpoint);
  switch (random.below(5)) {
    case 0:
    case 1:
      return { endpoints: all, aheadS, rightAtUs };
    case 2:
      return { endpoints: [random.below(endpoints)], aheadS, rightAtUs };
    case 3:
      // Replicas have their own time server.
      return { endpoints: all.slice(0, replicas), aheadS, rightAtUs };
    default:
      return {
        endpoints: [random.below(replicas)],
        aheadS: random.pick([NEVER_SET, -3600, 3600, aheadS]),
        rightAtUs: Infinity,
      };
  }
}

function logUniform(random: Random, low: number, high: number): number {
  return low * (high / low) ** random.unit();
}

/** One way from an endpoint to another, µs. */
export function distanceUs({ rooms, toSwitchUs, betweenRoomsUs }: Distances, from: number, to: number): number {
  return toSwitchUs[from]! + toSwitchUs[to]! + (rooms[from] === rooms[to] ? 0 : betweenRoomsUs);
}

/** The world in one line, for display; empty if it is benign. */
export function describeWorld(world: World, replicas: number): string {
  const {
    distance,
    busy,
    greedy,
    clocks,
    oneWay,
    moveEveryUs,
    longest,
    standstill,
    enemy,
    ahead,
    scheduling,
    firstStarts,
    directoryLosses,
    newcomers,
  } = world;
  const name = (endpoint: number): string => (endpoint < replicas ? `r${endpoint}` : `c${endpoint - replicas}`);
  const ms = (us: number): string => `${(us / 1000).toFixed(us < 10_000 ? 2 : 0)} ms`;
  const parts: string[] = [];
  if (distance !== undefined) {
    const { rooms, toSwitchUs, betweenRoomsUs } = distance;
    parts.push(
      `distance ${toSwitchUs.map((us, endpoint) => `${name(endpoint)} ${Math.round(us)}${rooms[endpoint] === 1 ? "'" : ''}`).join(' ')} µs${rooms.includes(1) ? `, ${ms(betweenRoomsUs)} to the other room (')` : ''}`,
    );
  }
  if (busy !== undefined) parts.push(`busy ${name(busy.endpoint)} ${Math.round(1e6 / busy.everyUs)}/s`);
  if (greedy !== undefined)
    parts.push(
      `greedy ${name(greedy.endpoint)} ${greedy.lanes} lanes, window ${greedy.queued}, every ${greedy.everyUs} µs`,
    );
  if (clocks !== undefined) {
    const { endpoints, aheadS, rightAtUs } = clocks;
    const off =
      aheadS === NEVER_SET ? 'in 1970' : `${Math.round(Math.abs(aheadS))} s ${aheadS < 0 ? 'behind' : 'ahead'}`;
    parts.push(
      `clock-history ${endpoints.map(name).join(' ')} ${off}${rightAtUs === Infinity ? '' : ` until ${ms(rightAtUs)}`}`,
    );
  }
  if (oneWay !== undefined)
    parts.push(
      `one-way ${oneWay.kind} (${oneWay.role}) at ${ms(oneWay.fromUs)} for ${ms(oneWay.forUs)}${oneWay.stays ? ', and afterwards' : ''}`,
    );
  if (moveEveryUs !== undefined) parts.push(`move every ${ms(moveEveryUs)}`);
  if (longest !== undefined) parts.push(`path-limit ${longest} bytes`);
  if (standstill !== undefined)
    parts.push(
      `standstill ${standstill.applyUs} µs an operation, ${standstill.snapshotEntryUs.toFixed(1)} µs an entry of a snapshot`,
    );
  if (enemy !== undefined) parts.push(`enemy ${enemy.rate}/s, then ${enemy.rateAfter}/s`);
  if (ahead !== undefined)
    parts.push(
      `ahead ${ahead.rate}/s by ${ahead.aheadNs / 1e6} ms to one replica (${ahead.role})${ahead.laterUs > 0 ? `, ${ms(ahead.laterUs)} later to the others` : ''}`,
    );
  if (scheduling !== undefined)
    parts.push(`busy-host up to ${ms(scheduling.waitMaxUs)} every ${ms(scheduling.awakeUs)}`);
  if (firstStarts !== undefined) parts.push(`first-start ${describeFirstStarts(firstStarts)}`);
  if (directoryLosses !== undefined) parts.push(`directory-lost ${describeDirectoryLosses(directoryLosses)}`);
  if (newcomers.length > 0) parts.push(`come anew ${newcomers.map(name).join(' ')}`);
  return parts.join('; ');
}
