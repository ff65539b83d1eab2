/**
 * The edge of the protocol core: everything that goes in or out of it.
 *
 * A core is a plain object. What happens to it comes in as method calls that carry all they need, the time included; it
 * answers by calls on the narrow interfaces below, which its host implements. It does no I/O, reads no clock, draws no
 * random number and keeps no timer, so the same calls always give the same outputs, byte for byte, and the simulator
 * runs the code that ships.
 *
 * A host drives a core in *turns*: any number of `receive` and `tick` calls, then one `flush`. What a turn writes into
 * the outbox leaves only after what the turn made durable is durable; that ordering is the core's own
 * (durable-outbox.ts), a host need only call `persisted`.
 */

/**
 * A moment as its host sees it. Reused and written in place by the host before each call, because a clock reading is two
 * halves and a fast path must not allocate.
 */
export class Instant {
  /** Synchronized wall clock, ns since the epoch that all of the cluster's clocks share. Halves as in wire/u64.ts. May jump and may be wrong: speed depends on it, never an answer. */
  wallHi = 0;
  wallLo = 0;
  /** Monotonic time in µs from any start. Never goes back. Drives every timeout. */
  monotonicUs = 0.5; // a fraction from the start on, so that V8 keeps the field as a double and writes it in place
}

/**
 * Where messages leave. A destination is a replica index (0…N−1) or a client's endpoint, a number ≥ N that the host gave
 * to `receive` as `from`.
 */
export interface Outbox {
  /** The array to write into after a successful `reserve`; it may be another one after each. */
  readonly bytes: Uint8Array;
  /** A view of `bytes`, where the host keeps one: without it the core makes one for each array that it is given. */
  readonly view?: DataView | undefined;
  /**
   * Makes room for one message of at most `length` bytes to `to` and returns its offset in `bytes`; −1 when there is no
   * room, and the message is lost as if on the network. At most one reservation is open at a time.
   */
  reserve(to: number, length: number): number;
  /**
   * As `reserve`, of a message that goes to several replicas, a bit each in `mask`, to `last` behind the others: written once. Where a
   * host has no use for that, the core writes it for each.
   */
  reserveEach?(mask: number, last: number, length: number): number;
  /** Ends the reservation: `length` bytes of it are the message. */
  commit(length: number): void;
}

/** A hash of 64 bits, big-endian into `out`: XXH3-64, but for the chain of a cluster with keys. */
export interface Hasher {
  hash64(bytes: Uint8Array, offset: number, length: number, out: Uint8Array, outOffset: number): void;
  /** Memory of its own, zeroed, of which it hashes ranges faster, where it has such. */
  hashArena?(length: number): HashArena;
}

export interface HashArena {
  readonly bytes: Uint8Array;
  /** By HashField. */
  readonly fields: Int32Array;
  /** Hashes the range of `bytes` that the fields name, and leaves the digest in the others. */
  readonly hash: () => void;
}

/** Argument and result of HashArena.hash; the digest as its upper and lower half (wire/u64.ts). */
export const HashField = { offset: 0, length: 1, hi: 2, lo: 3 } as const;

/**
 * What chains the log: one function, under one secret, at all replicas of a cluster. Without keys it is XXH3-64. With keys it is a
 * keyed function: whoever can find two operations with one chain can have members that hold different operations acknowledge them as the same.
 */
export interface Chain extends Hasher {
  /** Tells functions and secrets apart and gives no secret away; an int32, never 0, which on the wire means that a process does not say. */
  readonly fingerprint: number;
}

/** Of the chain without a secret. */
export const UNKEYED_FINGERPRINT = 1;

/** The chain of a cluster without keys. */
export function unkeyedChain(hasher: Hasher): Chain {
  return chainOf(hasher, UNKEYED_FINGERPRINT);
}

export function chainOf(hasher: Hasher, fingerprint: number): Chain {
  const { hashArena } = hasher;
  return {
    hash64: (bytes, offset, length, out, outOffset) => hasher.hash64(bytes, offset, length, out, outOffset),
    ...(hashArena === undefined ? {} : { hashArena: (length: number) => hashArena.call(hasher, length) }),
    fingerprint,
  };
}

/** What survives a crash in every mode. Written together, atomically. */
export interface HardState {
  /** Highest view joined or promised. */
  readonly view: number;
  /** View whose starting log was installed last; −1 as long as the log is lost (rule R1). */
  readonly logView: number;
  /** How often this replica was started. */
  readonly incarnation: number;
  /** By replica: the highest incarnation of it that this one has heard of; 0: of none. Absent: written by a release that did not keep it. */
  readonly known?: readonly number[];
  /**
   * By replica: a number drawn when it last began with nothing on its disk, as heard with that incarnation; its own at its own place. Two of the same
   * incarnation and of different lives are two that do not remember each other. 0: not known.
   */
  readonly lives?: readonly number[];
  /**
   * The state came from another replica, and whether the others have the same is not known yet: this one says nothing of its digests
   * (divergence.ts). It belongs to the log and is kept with it. Absent: no; or a release wrote it that did not keep it.
   */
  readonly isEcho?: boolean;
}

/**
 * Durable storage of one replica. `persist` is called at most once a turn. It must make everything of the batch durable
 * atomically, in the order of tokens, and then call `core.persisted(token)`, at once or later.
 */
export interface Storage {
  /** True when the log itself is kept (modes `os` and `fsync`); then `batch.entriesFrom…lastIndex` are to be stored. */
  readonly keepsLog: boolean;
  /** Nothing becomes durable for so long that the others should do without this replica: it no longer says that it is alive. */
  readonly stalled: boolean;
  persist(token: number, batch: PersistBatch): void;
}

/** One atomic write. Valid during the call of `persist` only: copy what is needed later, but for the snapshot and the hard state, which never change. */
export interface PersistBatch {
  readonly hardState: HardState;
  /** The log from `entriesFrom` to `lastIndex` is new; anything stored from there on is replaced. `entriesFrom` is `lastIndex + 1` when nothing but a cut or the hard state changed. */
  readonly entriesFrom: number;
  readonly lastIndex: number;
  /** Entries up to here are known to be committed. */
  readonly committed: number;
  /** Present when the front of the log was cut: this snapshot and the entries behind its index are all that is needed from now on. */
  readonly snapshot: Snapshot | undefined;
  /** Copies entry `index` in the form of log.ts (`ENTRY_HEADER_BYTES` + operation) and returns its length. */
  readEntry(index: number, target: Uint8Array, offset: number): number;
  entryBytes(index: number): number;
}

/** State machine and session table after the entry `index`, whose chain is given; `bytes` as written by snapshots.ts. */
export interface Snapshot {
  readonly index: number;
  readonly chainHi: number;
  readonly chainLo: number;
  readonly bytes: Uint8Array;
}

/** What a start knows of earlier ones, where nothing is on disk. */
export type FirstStart = 'ask' | 'log-lost';

/** What a replica finds when it starts. */
export interface Recovered {
  /** Undefined on the very first start, or when what was there is gone. */
  readonly hardState: HardState | undefined;
  /**
   * How a replica without a hard state finds out which (introduction.ts): it asks the others; `log-lost`: and its operator knows that it
   * was in use. Absent: the host vouches that it is new, and nobody is asked.
   */
  readonly first?: FirstStart;
  /** The log as it was made durable, in the form of log.ts, oldest first: the entries from 1 on, or those right behind `snapshot`. Undefined when it is lost or was never kept. */
  readonly log:
    | {
        readonly snapshot: Snapshot | undefined;
        readonly entries: Iterable<Uint8Array> /** Up to here they were known to be committed. */;
        readonly committed?: number;
      }
    | undefined;
}

/**
 * What the core tells its host about itself; for logs, metrics, traces and the simulator's checks. Called
 * synchronously, must not call back into the core.
 */
export interface ReplicaObserver {
  /** After every transition off the fast path: `event` is a name of the table in docs/internals/protocol.md, `detail` a few words for people. */
  transition(event: string, detail: string): void;
}

/** How a client's request ended. */
export const Outcome = {
  /** Committed: `result` is the state machine's. */
  committed: 0,
  /** Deadline or cancellation: it may have committed, may still commit, or never. */
  unknown: 1,
  /** In the log, but refused there: see ReplyStatus. Not executed. */
  refused: 2,
  /** The cluster no longer knows the session: whether the request was executed before that is unknown. */
  sessionLost: 3,
} as const;

/** A client core's completions. Called synchronously from `receive` and `tick`; may submit on the lane that completed. */
export interface ClientEvents {
  /** The registration that `register` started ended: a ReplyStatus; `ok`: requests may be submitted. `sessionTaken`: draw another session id. */
  registered(status: number): void;
  /**
   * The request of `lane` ended. Result bytes are `core.resultBytes(lane)[0 … core.resultLength(lane))` until the next
   * submit on the lane. `fast`: committed in the first round trip, nothing resent, restamped, or reconciled.
   */
  completed(lane: number, outcome: number, status: number, fast: boolean): void;
}
