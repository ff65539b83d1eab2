/**
 * The configuration of a core. Sizes bound all of its tables and arenas; times are those of the monotonic clock in µs
 * unless the name says otherwise. All replicas of a cluster must have the same `limits`: they decide what is executed.
 */

export interface Limits {
  /** Most entries in the log at once, a power of two. */
  readonly logEntries: number;
  /**
   * Bytes of the log's entries: 32 for each, plus its operation. The arena is longer by one entry of the longest kind.
   */
  readonly logBytes: number;
  /** Most sessions at once; registering one more evicts the least recently used one. */
  readonly maxSessions: number;
  /** Lanes of all sessions together; evicts like `maxSessions`. */
  readonly maxLanes: number;
  /** Most lanes of one session. */
  readonly lanesPerSession: number;
  /** Longest operation, bytes. */
  readonly operationBytes: number;
  /** Longest result, bytes. */
  readonly resultBytes: number;
  /**
   * Bytes of results that all sessions together keep for retries, with the feature `session-quotas`; a multiple of 1,024.
   * A result up to 64 bytes counts as part of its lane, a longer one as the next power of two.
   */
  readonly keptResultBytes: number;
  /** Reconcile requests that wait for a repair. */
  readonly waiting: number;
  /**
   * Bytes of log or snapshot in one answer of a transfer, which takes as many messages as the datagram size requires.
   */
  readonly chunkBytes: number;
  /** Requests held back until their timestamp is due. Under `late: reject` there is room for at least 16. */
  readonly held: number;
  /**
   * Requests seen but not in the log that are kept for the primary's order, a power of two; and bytes of their
   * operations.
   */
  readonly cachedRequests: number;
  readonly cachedBytes: number;
}

export const DEFAULT_LIMITS: Limits = {
  logEntries: 1 << 18,
  logBytes: 64 << 20,
  maxSessions: 4096,
  maxLanes: 1 << 18,
  lanesPerSession: 4096,
  operationBytes: 48 * 1024,
  resultBytes: 48 * 1024,
  keptResultBytes: 256 << 20,
  waiting: 4096,
  chunkBytes: 16 * 1024,
  held: 1024,
  cachedRequests: 4096,
  cachedBytes: 4 << 20,
};

export interface Timings {
  /** Longest time between two Syncs of the primary. */
  readonly syncIntervalUs: number;
  /** The primary also sends a Sync after this many entries. */
  readonly syncEntries: number;
  /** How long a member that is behind waits for the requests themselves before it fetches them. */
  readonly repairDelayUs: number;
  /** A fetch that brought nothing is repeated after this. */
  readonly fetchTimeoutUs: number;
  /** Silence after which a replica suspects the primary, or the primary a member. */
  readonly suspectUs: number;
  /** How long to wait for answers to a probe before a view is chosen from those that arrived. */
  readonly probeWindowUs: number;
  /**
   * A view that has not started after this is given up for a higher one; doubled with every failure, up to
   * viewChangeMaxUs.
   */
  readonly viewChangeUs: number;
  /** Longest time before a view that has not started is given up. */
  readonly viewChangeMaxUs: number;
  /** A request with a timestamp further ahead of a member's clock than this is rejected, even if it could be held, ns. */
  readonly maxAheadNs: number;
  /**
   * Longest time that a request is held back before its timestamp is due, ns. Requests that are further ahead are
   * rejected. 0 never holds.
   */
  readonly maxHoldNs: number;
  /** The primary pushes its order to members until nothing has differed for this long; 0 never pushes. */
  readonly orderHoldUs: number;
  /**
   * A member that rejects a request as late asks for a repair by itself, at most this often; 0 waits until a client or
   * a Sync reports a difference.
   */
  readonly lateRepairUs: number;
  /**
   * A member that was much slower than a spare for this long without a break leaves the quorum; 0 never changes the
   * view for that.
   */
  readonly slowAfterUs: number;
}

export const DEFAULT_TIMINGS: Timings = {
  syncIntervalUs: 5_000,
  syncEntries: 64,
  repairDelayUs: 1_000,
  fetchTimeoutUs: 10_000,
  suspectUs: 40_000,
  probeWindowUs: 4_000,
  viewChangeUs: 40_000,
  viewChangeMaxUs: 1_000_000,
  maxAheadNs: 100_000_000,
  maxHoldNs: 2_000_000,
  orderHoldUs: 1_000_000,
  lateRepairUs: 200,
  slowAfterUs: 250_000,
};

/**
 * What a primary does with a request whose key is not above the last one of its log. `reject`: the client restamps it
 * (as published). `restamp`: the primary appends it with the next higher key, and says so in the Reply.
 */
export type LateRule = 'reject' | 'restamp';
export const LATE_RULES: readonly LateRule[] = ['reject', 'restamp'];
export const DEFAULT_LATE: LateRule = 'restamp';

/** A snapshot in pieces: bytes of one, and the time from one to the next. A log that fills fast overrules both. */
export interface Pieces {
  readonly bytes: number;
  readonly everyUs: number;
}

export const DEFAULT_PIECES: Pieces = { bytes: 1 << 15, everyUs: 1_000 };

export interface ReplicaConfig {
  /**
   * A digest of the addresses in the cluster file, 28 bits, to be compared with others' (introduction.ts). Absent or 0:
   * not compared.
   */
  readonly list?: number;
  /** This replica's slot: 0…replicas−1 for those of the cluster file; for others, what the members say. */
  readonly id: number;
  /** Its id among the members. Default: `id`, as for replicas of the cluster file. */
  readonly hostId?: number;
  /** N, odd. */
  readonly replicas: number;
  /** Seed of the jitter of timeouts: any int32, different on every replica. */
  readonly seed: number;
  /** Default DEFAULT_LATE. */
  readonly late?: LateRule;
  /** Longest datagram, unless a single operation or result is longer. Default DEFAULT_DATAGRAM_BYTES. */
  readonly datagramBytes?: number;
  readonly limits: Limits;
  readonly timings: Timings;
  /** Features that are on from the first entry of the log, a mask (log/features.ts). Default: none. */
  readonly features?: number;
  /** How a snapshot is taken that the machine gives in pieces. Default: DEFAULT_PIECES. */
  readonly pieces?: Pieces;
  /**
   * Views of an epoch after which its primary has the same voters decided for the next one. Default: three quarters of
   * them. For tests.
   */
  readonly renewAfter?: number;
  /** Bytes for what undoes the sessions' part of entries that are not committed. Default: 8 MiB. */
  readonly undoBytes?: number;
}

export interface ClientTimings {
  /** Shortest time without an answer after which a request is resent; the observed round trip raises it. */
  readonly retryUs: number;
  /** Longest such time. */
  readonly retryMaxUs: number;
  /** Nanoseconds added to the clock reading; the lead of an uncontended client is 0. */
  readonly leadNs: number;
  /**
   * The lead adapts up to this; 0, the default, keeps it at `leadNs`. A member whose clock is not trusted holds
   * requests no longer than this (docs/internals/decisions/lead.md).
   */
  readonly maxLeadNs: number;
}

export const DEFAULT_CLIENT_TIMINGS: ClientTimings = {
  retryUs: 4_000,
  retryMaxUs: 16_000,
  leadNs: 0,
  maxLeadNs: 0,
};

export interface ClientConfig {
  /** Number of replicas, N. */
  readonly replicas: number;
  /** Slots of replicas for which tables have room: what members may come to use. Default: `replicas`. */
  readonly slots?: number;
  /** The members, if an earlier session learned them (membership/membership.ts). */
  readonly members?: Uint8Array;
  /** Requests that may be open at once. */
  readonly lanes: number;
  /** Seed of the jitter of retries: any int32. */
  readonly seed: number;
  /** Session id, drawn at random by the host. Not zero. */
  readonly sessionHi: number;
  readonly sessionLo: number;
  /**
   * Tells apart two clients that drew the same session id. Random too, except for the upper half if the session has an
   * owner (session-owner.ts).
   */
  readonly nonceHi: number;
  readonly nonceLo: number;
  /** Timestamps start above this, ns: the last one of the client's earlier session, if there was one. */
  readonly afterHi?: number;
  readonly afterLo?: number;
  /** How far its clock was found to be ahead of the cluster's, ns. */
  readonly aheadNs?: number;
  /** What an earlier core was told to add to its clock's readings, ns. Default 0. */
  readonly correctionNs?: number;
  /** The `born` of the Register, ns, if the cluster's log is ahead of the clocks; otherwise its timestamp. */
  readonly bornHi?: number;
  readonly bornLo?: number;
  /**
   * Sessions of the client that were refused or lost in quick succession: the next one waits a little longer each time.
   */
  readonly refusals?: number;
  /**
   * Requests that a lane may number in one session. From seven eighths of it the core is `worn`, and its host should
   * continue with another session. Default and maximum: REQUESTS_PER_LANE_MAX.
   */
  readonly requestsPerLane?: number;
  /** Operations that may wait in replicas (send-window.ts). Default QUEUED; the simulator has fewer. */
  readonly queued?: number;
  /** RequestFlag of every operation that is submitted. Default 0: operations for the state machine. */
  readonly flags?: number;
  readonly limits: Pick<Limits, 'operationBytes' | 'resultBytes'>;
  readonly timings: ClientTimings;
}

/** Request numbers are int32; a read that becomes an operation takes a second one. */
export const REQUESTS_PER_LANE_MAX = 0x7fffffff - 1;

const LIMIT_RANGES: Readonly<Record<keyof Limits, readonly [number, number]>> = {
  logEntries: [16, 1 << 26],
  logBytes: [1 << 12, 1 << 30],
  maxSessions: [1, 1 << 20],
  maxLanes: [1, 1 << 24],
  lanesPerSession: [1, 0xfffe],
  operationBytes: [1, 59_000],
  resultBytes: [1, 59_000],
  keptResultBytes: [1 << 12, 1 << 29],
  waiting: [1, 1 << 20],
  chunkBytes: [64, 59_000],
  held: [0, 1 << 16],
  cachedRequests: [1, 1 << 20],
  cachedBytes: [1, 1 << 30],
};

/** Throws RangeError for a number of lanes that a client cannot have. */
export function checkLanes(lanes: number): void {
  const [low, high] = LIMIT_RANGES.lanesPerSession;
  if (!Number.isInteger(lanes) || lanes < low || lanes > high)
    throw new RangeError(`a client has from ${low} to ${high} lanes, not ${lanes}`);
}

/** Throws RangeError for a number of requests that a lane cannot count. */
export function checkRequestsPerLane(requests: number): void {
  if (!Number.isInteger(requests) || requests < 8 || requests > REQUESTS_PER_LANE_MAX)
    throw new RangeError(`a lane numbers from 8 to ${REQUESTS_PER_LANE_MAX} requests, not ${requests}`);
}

/** Names of the limits, for checking a configuration. */
export const LIMIT_NAMES = Object.keys(LIMIT_RANGES) as (keyof Limits)[];

/** The highest value of each limit. No cluster's limits are all this high: the memory would not be enough. */
export const LIMITS_MAX = Object.fromEntries(
  LIMIT_NAMES.map((name) => [name, LIMIT_RANGES[name][1]]),
) as unknown as Limits;

/** Throws RangeError that names the first limit that is out of range, or contradicts another. */
export function checkLimits(limits: Limits): void {
  for (const name of LIMIT_NAMES) {
    const [low, high] = LIMIT_RANGES[name];
    const value = limits[name];
    if (!Number.isInteger(value) || value < low || value > high)
      throw new RangeError(`limit ${name} is an integer from ${low} to ${high}, not ${value}`);
  }
  for (const name of ['logEntries', 'cachedRequests'] as const) {
    if ((limits[name] & (limits[name] - 1)) !== 0)
      throw new RangeError(`limit ${name} is a power of two, not ${limits[name]}`);
  }
  if (limits.lanesPerSession > limits.maxLanes)
    throw new RangeError(`limit lanesPerSession (${limits.lanesPerSession}) is above maxLanes (${limits.maxLanes})`);
  if (limits.keptResultBytes % 1024 !== 0 || limits.keptResultBytes < 8 * limits.resultBytes)
    throw new RangeError(
      `limit keptResultBytes (${limits.keptResultBytes}) is a multiple of 1,024, and at least eight of the longest results (resultBytes ${limits.resultBytes})`,
    );
  if (limits.logBytes < 4 * (limits.operationBytes + 32))
    throw new RangeError(
      `limit logBytes (${limits.logBytes}) must hold at least four of the longest operations (operationBytes ${limits.operationBytes})`,
    );
}
