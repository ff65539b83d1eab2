/**
 * The boundary of the protocol core: everything that goes in or out of it.
 *
 * A core is a plain object. Events come in as method calls that carry everything they need, including the time. The
 * core answers through the narrow interfaces below, which its host implements. It does no I/O, reads no clock, draws no
 * random number and keeps no timer, so the same calls always give the same outputs, byte for byte, and the simulator
 * runs the shipped code.
 *
 * A host drives a core in *turns*: any number of `receive` and `tick` calls, then one `flush`. What a turn writes to
 * the outbox leaves only after everything that it made durable is durable. The core itself ensures that order
 * (durable-outbox.ts); a host need only call `persisted`.
 */
import type { RestoreInPieces } from '../machine/state-machine.js';
import { DOUBLE_ZERO } from './double-zero.js';

/**
 * A moment as its host sees it. The host reuses it and writes it in place before each call, because a clock reading has
 * two halves and a fast path must not allocate.
 */
export class Instant {
  /**
   * Synchronized wall clock, ns since the epoch that all clocks of the cluster share. Halves as in wire/u64.ts. May
   * jump and may be wrong: it affects speed, never an answer.
   */
  wallHi = 0;
  wallLo = 0;
  /** Monotonic time in µs from an arbitrary start. Never goes back. Drives every timeout. */
  monotonicUs = DOUBLE_ZERO;
}

/**
 * Where messages leave. A destination is a replica index (0…N−1) or a client's endpoint, a number ≥ N that the host
 * passed to `receive` as `from`.
 */
export interface Outbox {
  /** The array to write into after a successful `reserve`; it may differ each time. */
  readonly bytes: Uint8Array;
  /** The DataView of `bytes`, if the host keeps one; otherwise the core makes one for each array. */
  readonly words?: DataView | undefined;
  /**
   * Makes room for one message of at most `length` bytes to `to` and returns its offset in `bytes`; −1 if there is no
   * room, and the message is then lost as if on the network. At most one reservation is open at a time.
   */
  reserve(to: number, length: number): number;
  /**
   * Like `reserve`, for a message to several replicas, written once: one bit each in `mask`, plus `last`. If a host
   * does not provide it, the core writes the message for each.
   */
  reserveEach?(mask: number, last: number, length: number): number;
  /** Ends the reservation: `length` bytes of it are the message. */
  commit(length: number): void;
  /**
   * The newest version of the wire that both this process and a replica speak, as that said since the process began; 0: it
   * was not heard. For this replica itself, the newest that it speaks. A host without this method speaks one version only,
   * and so do all that it hears.
   */
  speaks?(replica: number): number;
}

/** A hash of 64 bits, big-endian into `out`: XXH3-64, except for the chain of a cluster with keys. */
export interface Hasher {
  hash64(bytes: Uint8Array, offset: number, length: number, out: Uint8Array, outOffset: number): void;
  /** Zeroed memory of the hasher's own, whose ranges it hashes faster, if it has such memory. */
  hashArena?(length: number): HashArena;
  /** Begins the hash of bytes that come in parts; undefined, or no such method: it hashes only the whole. */
  begin?(): HashInParts | undefined;
}

export interface HashInParts {
  update(bytes: Uint8Array, offset: number, length: number): void;
  /** The hash of all parts, as `hash64` writes it. */
  digest(out: Uint8Array, outOffset: number): void;
}

export interface HashArena {
  readonly bytes: Uint8Array;
  /** By HashField. */
  readonly fields: Int32Array;
  /** Hashes the range of `bytes` that the fields name, and writes the digest to the other fields. */
  readonly hash: () => void;
}

/** Argument and result of HashArena.hash; the digest as its upper and lower half (wire/u64.ts). */
export const HashField = { offset: 0, length: 1, hi: 2, lo: 3 } as const;

/**
 * What chains the log: one function, under one secret, at all replicas of a cluster. Without keys it is XXH3-64. With
 * keys it is a keyed function: anyone who could find two operations with the same chain could make members that hold
 * different operations acknowledge them as the same.
 */
export interface Chain extends Hasher {
  /**
   * Tells functions and secrets apart without revealing a secret; an int32, never 0, which on the wire means "not
   * given".
   */
  readonly fingerprint: number;
}

/** Fingerprint of the chain without a secret. */
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
  /** View whose starting log was installed last; −1 while the log is lost (rule R1). */
  readonly logView: number;
  /** How often this replica was started. */
  readonly incarnation: number;
  /**
   * By replica: its highest incarnation that this one has heard of; 0: none. Absent: written by a release that did not
   * keep it.
   */
  readonly known?: readonly number[];
  /**
   * By replica: a number that it drew when it last began with an empty disk, heard together with that incarnation; at
   * this replica's own place, its own number. Equal incarnations with different lives do not remember each other. 0:
   * unknown.
   */
  readonly lives?: readonly number[];
  /**
   * The state came from another replica, and it is not yet known whether the others have the same: this replica reports
   * no digests of it (divergence.ts). It belongs to the log and is kept with it. Absent: no; or an older release wrote
   * it.
   */
  readonly isEcho?: boolean;
  /**
   * Who the hosts are, as this replica last knew it to be committed (membership/membership.ts). Rule S: it is durable
   * before the view whose epoch it names. Absent: those of the cluster file.
   */
  readonly members?: Uint8Array;
}

/**
 * Durable storage of one replica. `persist` is called at most once a turn. It must make everything of the batch durable
 * atomically, in the order of tokens, and then call `core.persisted(token)`, at once or later.
 *
 * A batch with the token of the batch before it changed nothing but the hard state, and no message waits for it. It may be
 * written later, but before anything of a batch with a higher token that changes the hard state.
 */
export interface Storage {
  /** True if the log itself is kept (modes `os` and `fsync`); `batch.entriesFrom…lastIndex` are then to be stored. */
  readonly keepsLog: boolean;
  /**
   * Nothing has become durable for so long that the others should continue without this replica: it no longer reports
   * that it is alive.
   */
  readonly stalled: boolean;
  /**
   * The entry that made the members that are on the disk; 0: they are those of the cluster file. Speed only. Undefined: it
   * is not known.
   */
  readonly membersIndex?: number;
  persist(token: number, batch: PersistBatch): void;
}

/**
 * One atomic write. Valid only during the call of `persist`: copy what is needed later. The hard state never changes and
 * needs no copy; nor does the snapshot, if the storage keeps the log.
 */
export interface PersistBatch {
  readonly hardState: HardState;
  /**
   * The log from `entriesFrom` to `lastIndex` is new and replaces anything stored from there on. `entriesFrom` is
   * `lastIndex + 1` if nothing but a cut or the hard state changed.
   */
  readonly entriesFrom: number;
  readonly lastIndex: number;
  /** Entries up to here are known to be committed. */
  readonly committed: number;
  /**
   * Present when the front of the log was cut: from now on only this snapshot and the entries after its index are
   * needed.
   */
  readonly snapshot: Snapshot | undefined;
  /** Copies entry `index` in the form of log.ts (`ENTRY_HEADER_BYTES` + operation) and returns its length. */
  readEntry(index: number, target: Uint8Array, offset: number): number;
  entryBytes(index: number): number;
}

/**
 * State machine and session table after the entry `index`, whose chain is given; `bytes` as written by snapshots.ts.
 */
export interface Snapshot {
  readonly index: number;
  readonly chainHi: number;
  readonly chainLo: number;
  readonly bytes: Uint8Array;
  /** XXH3-64 of `bytes`, if it was computed while they came. */
  readonly digest?: Uint8Array;
}

/** What a start without data on disk knows about earlier starts. */
export type FirstStart = 'ask' | 'log-lost';

/** Of a data directory: 64 bits, not all zero, as two int32. */
export interface Identity {
  readonly identityHi: number;
  readonly identityLo: number;
}

/** What a replica finds when it starts. */
export interface Recovered {
  /** Undefined on the very first start, or if the data is gone. */
  readonly hardState: HardState | undefined;
  /**
   * How a replica without a hard state finds out which it is (introduction.ts). `ask`: it asks the others. `log-lost`:
   * so too, and its operator knows that it was in use. Absent: the host vouches that it is new, and it asks nobody.
   */
  readonly first?: FirstStart;
  /**
   * The identity of the data directory. One that is empty has drawn it, and has it once its promises are durable. Absent:
   * there is none.
   */
  readonly identity?: Identity;
  /**
   * Without a hard state: a host that joins. It knows these members, of which it is one, and has no log (C6). Absent: it
   * is one of the replicas of the cluster file.
   */
  readonly members?: Uint8Array;
  /**
   * The log as it was made durable, in the form of log.ts, oldest first: the entries from 1 on, or those right after
   * `snapshot`. Undefined if it is lost or was never kept.
   */
  readonly log:
    | {
        readonly snapshot: Snapshot | undefined;
        /** Has all of the machine's part of the snapshot. Absent: it is restored at once, when the replica starts. */
        readonly restore?: RestoreInPieces | undefined;
        readonly entries: Iterable<Uint8Array> /** Entries up to here were known to be committed. */;
        readonly committed?: number;
      }
    | undefined;
}

/**
 * What the core reports about itself, for logs, metrics, traces and the simulator's checks. Called synchronously; must
 * not call back into the core.
 */
export interface ReplicaObserver {
  /**
   * After every transition off the fast path: `event` is a name of the table in docs/internals/protocol.md, `detail` a
   * few words for people.
   */
  transition(event: string, detail: string): void;
  /**
   * Who sends from `from` speaks of an epoch that is not known here, or is no host that is known here: the host of this
   * replica asks there who the members are, and hands the answer to `takeMembers`.
   */
  unknownEpoch?(from: number): void;
  /**
   * Too few of the voters that are known here answer for any view, again and again. The host asks who the members are:
   * all addresses that it knows, those of earlier members and the seeds of the cluster file too, one after another. It
   * hands each answer to `takeMembers`. Called at most ten times a second, for as long as that lasts.
   */
  searchMembers?(): void;
  /**
   * The machine is asked for its whole state at once, during which the replica does nothing else; and that is over. The
   * host may note how long it took.
   */
  wholeState?(isOver: boolean): void;
}

/** How a client's request ended. */
export const Outcome = {
  /** Committed: `result` is the state machine's. */
  committed: 0,
  /** Deadline or cancellation: it may have committed, may commit later, or never. */
  unknown: 1,
  /** In the log, but refused there: see ReplyStatus. Not executed. */
  refused: 2,
  /** The cluster no longer knows the session: whether the request was executed before that is unknown. */
  sessionLost: 3,
} as const;

/** A client core's completions. Called synchronously from `receive` and `tick`; may submit on the completed lane. */
export interface ClientEvents {
  /**
   * The registration begun by `register` ended with this ReplyStatus. `ok`: requests may be submitted. `sessionTaken`:
   * draw another session id.
   */
  registered(status: number): void;
  /**
   * The request of `lane` ended. Result bytes are `core.resultBytes(lane)[0 … core.resultLength(lane))` until the next
   * submit on the lane. `fast`: committed in the first round trip, with nothing resent, restamped or reconciled.
   */
  completed(lane: number, outcome: number, status: number, fast: boolean): void;
  /**
   * A replica speaks of `view`, whose epoch is not known: ask it who the members are, and give them to `takeMembers`. If
   * it cannot know of any change of the members, give the view to `takeFirstMembers`.
   */
  unknownEpoch?(from: number, view: number): void;
  /**
   * Nothing has committed for several waits: the replicas that are known here may all have left. The host asks who the
   * members are: all addresses that it knows, those of earlier members and the seeds of the cluster file too, one after
   * another. It hands each answer to `takeMembers`. Called again with each further wait in vain.
   */
  searchMembers?(): void;
}
