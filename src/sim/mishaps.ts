/**
 * Faults added after the seeds had a fixed meaning: each draws from its own generator, made from the seed, so that it
 * changes nothing else of a run.
 */
import type { Limits } from '../protocol/config.js';
import { Chunk, SnapshotChunk, Sync } from '../wire/messages.js';
import type { EventHandler, EventQueue } from './event-queue.js';
import { Random } from './random.js';
import type { World } from './world.js';

/** Names for `--faults`, with what they do. Part of the table of docs/internals/simulation.md. */
export const MISHAPS = {
  stop: 'replicas are stopped cleanly, in the middle of a turn too, and start again',
  wear: 'lanes have few request numbers in a session: clients go on in another one, again and again',
  members:
    'an operator adds, replaces, moves and removes hosts, one change after another, and dies in the middle of it',
  diverge: 'at most f replicas apply one operation wrongly: the others must notice',
  feature: 'an operator switches features on in mid-run, and a replica may crash around it',
  store: 'clients use transactions, ends of keys and leases, where the store is of level 1 or may be raised to it',
} as const;

/** What the driver can do to a cluster. */
export interface MishapTargets {
  readonly replicas: number;
  /**
   * Stops a replica cleanly, in the next turn in which a message of `type` arrived (−1: the next turn), and starts it
   * after `downUs`.
   */
  stopCleanly(replica: number, type: number, downUs: number): void;
}

/** Messages that change a log and its commit index. A stop in their turn tests more than in any other. */
const STOPS_AT = [-1, Sync.type, Chunk.type, Chunk.type, SnapshotChunk.type] as const;

/**
 * Request numbers of a lane in one session where the plan wears sessions; else undefined, and no session is worn in a
 * run. A log that is ahead of the clocks takes ten new sessions a second, of all clients together (LATE_REGISTER_US),
 * and sessions that wear out faster would starve the clients. So nothing wears where clocks have been wrong.
 */
export function drawRequestsPerLane(seed: number, allowed: ReadonlySet<string>, world: World): number | undefined {
  const random = new Random(seed).fork('wear');
  const wears = random.chance(0.2);
  const requests = 8 + random.below(57);
  return wears && allowed.has('wear') && world.clocks === undefined ? requests : undefined;
}

/** Sessions that worn ones may take up in the table. Two to three seconds of the fastest renewals seen. */
const WORN_SESSIONS = 256;

/**
 * The limits of a run that wears sessions. A real one lasts for hours. Here dozens a second follow each other, and in a
 * small table they would evict the session of a distant client before it has committed anything.
 */
export function roomForWorn(limits: Limits): Limits {
  return {
    ...limits,
    maxSessions: limits.maxSessions + WORN_SESSIONS,
    maxLanes: limits.maxLanes + WORN_SESSIONS * limits.lanesPerSession,
  };
}

export class MishapDriver implements EventHandler {
  private stopped = false;
  private readonly random: Random;
  private readonly stops: boolean;

  constructor(
    private readonly queue: EventQueue,
    seed: number,
    allowed: ReadonlySet<string>,
    private readonly meanUs: number,
    private readonly targets: MishapTargets,
  ) {
    this.random = new Random(seed).fork('mishaps');
    this.stops = this.random.chance(0.5) && allowed.has('stop');
  }

  start(): void {
    if (this.stops) this.next();
  }

  stop(): void {
    this.stopped = true;
  }

  /** For display; empty if there are none. */
  describe(): string {
    return this.stops ? 'stop' : '';
  }

  handle(): void {
    if (this.stopped) return;
    const { random, targets } = this;
    targets.stopCleanly(random.below(targets.replicas), random.pick(STOPS_AT), random.logNormal(5000, 1.2));
    this.next();
  }

  private next(): void {
    this.queue.schedule(this.queue.nowUs + this.random.exponential(this.meanUs), this, 0, undefined);
  }
}
