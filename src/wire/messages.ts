/**
 * Every message of the protocol. A field added here changes offsets, validation, translation and docs at once. It also
 * changes the wire, so mark it with the version that introduces it (versions.ts).
 *
 * `view` comes first everywhere. u64 fields that are indexes are read with `readIndex`; timestamps (ns), sessions and
 * chains are read as halves.
 */
import { LastWords } from './copy.js';
import { defineMessage, type Layout, type Message } from './layout.js';
import { isIndex, readU16 } from './u64.js';

/** Client → member: append this operation. `flags`: see RequestFlag. */
export const Request = defineMessage('Request', 1, {
  view: 'u32',
  session: 'u64',
  lane: 'u16',
  request: 'u32',
  flags: 'u8',
  timestamp: 'u64',
  operation: 'bin16',
});

/**
 * Member → client: the request is in my log at `index` under `chain`, with `timestamp` as its key. Only the primary's
 * Reply carries a result. `slack`: arrival clock − timestamp in µs, saturated. `ordered`: at the primary, 1 while it
 * pushes its order to members; at a member, 1 if a repair placed the request there, not its arrival. `list`: as in
 * Probe, for the member.
 */
export const Reply = defineMessage('Reply', 2, {
  view: 'u32',
  session: 'u64',
  lane: 'u16',
  request: 'u32',
  status: 'u8',
  index: 'u64',
  chain: 'u64',
  timestamp: 'u64',
  slack: 'i32',
  ordered: 'u8',
  list: 'u32',
  result: 'bin16',
});

/**
 * Replica → client: not appended, and why. `view` is the replica's. `lastTimestamp` is the key of its log's last entry
 * (for `too-far-ahead`: its clock).
 */
export const Reject = defineMessage('Reject', 3, {
  view: 'u32',
  session: 'u64',
  lane: 'u16',
  request: 'u32',
  reason: 'u8',
  timestamp: 'u64',
  lastTimestamp: 'u64',
  slack: 'i32',
});

/** Client → member: quorum read. `request` is the client's nonce, new for every attempt. */
export const Read = defineMessage('Read', 4, {
  view: 'u32',
  session: 'u64',
  lane: 'u16',
  request: 'u32',
  operation: 'bin16',
});

/**
 * Member → client: my log ends here; the primary also answers the query from it. `list`: as in Probe, for the member.
 */
export const ReadReply = defineMessage('ReadReply', 5, {
  view: 'u32',
  session: 'u64',
  lane: 'u16',
  request: 'u32',
  lastIndex: 'u64',
  lastChain: 'u64',
  list: 'u32',
  result: 'bin16',
});

/**
 * Primary → all: heartbeat, end of its log, commit index. The first one of a view starts it (StartView). `sequence`
 * counts the Syncs of the view; 0: answers to it are not timed. `fingerprint`: of the chain secret of the sender's log
 * (docs/operate/security.md), 0 if not given.
 */
export const Sync = defineMessage('Sync', 6, {
  view: 'u32',
  sequence: 'u32',
  lastIndex: 'u64',
  lastChain: 'u64',
  committedIndex: 'u64',
  committedChain: 'u64',
  fingerprint: 'u32',
});

/**
 * Replica → primary: my log equals yours up to `matchedIndex`; I may still ask for anything after `neededIndex`.
 * `sequence`: of the newest Sync heard. `differed`: 1 if the log of this member differed, or may have, since its last
 * SyncAck; the primary then pushes its order. 2 or 3: the request of the entry behind `matchedIndex` has not arrived here
 * (2), or had to wait here for the primary's order (3); the primary may then serve its owner apart. `clock`: the sender's
 * clock when it wrote this, ns; 0 if not given. From the primary to a member, with `differed` 3: I append the requests of
 * the owner of the entry behind `matchedIndex` in batches; the other fields are 0. A replica adds 4 to `differed` while an
 * epoch is decided that has not begun, and its disk says who the members are then.
 */
export const SyncAck = defineMessage('SyncAck', 7, {
  view: 'u32',
  sequence: 'u32',
  differed: 'u8',
  matchedIndex: 'u64',
  neededIndex: 'u64',
  clock: 'u64',
});

/** Client → member whose log differs: the primary has this request at `index` under `chain`. */
export const Reconcile = defineMessage('Reconcile', 8, {
  view: 'u32',
  session: 'u64',
  lane: 'u16',
  request: 'u32',
  index: 'u64',
  chain: 'u64',
});

/**
 * Primary → member, once a turn while members differ: the order of what it appended after `baseIndex`, without the
 * operations. `orders`: for each entry its header as in the log (timestamp u64, session u64, request u32, lane u16,
 * flags u8, 0) and its chain u64, 32 bytes.
 */
export const Order = defineMessage('Order', 9, {
  view: 'u32',
  baseIndex: 'u64',
  baseChain: 'u64',
  orders: 'bin16',
});

/**
 * Replica → replica: send the entries after `baseIndex` of the log you installed in `logView`, about `room` bytes of
 * them in as many Chunks as needed; 0: in one Chunk. `series`: the answer begins where the answer to the last Fetch of the
 * same series ended, if that is behind the base; 0: it begins behind the base.
 */
export const Fetch = defineMessage('Fetch', 16, {
  view: 'u32',
  logView: 'u32',
  baseIndex: 'u64',
  baseChain: 'u64',
  room: 'u16',
  series: { kind: 'u8', since: 5 },
});

/**
 * Answer to Fetch: entries (see protocol/log/log.ts) that follow `baseIndex`, whose chain here is `baseChain`; the
 * sender's log ends at `lastIndex`. If the base differs from the requested one, the requested base is not in this log.
 * `more`: 1 if another Chunk of the same answer follows. `series`: of the Fetch; 0 if it is an answer to none, or if the
 * sender answers every Fetch behind its base.
 */
export const Chunk = defineMessage('Chunk', 17, {
  view: 'u32',
  logView: 'u32',
  baseIndex: 'u64',
  baseChain: 'u64',
  lastIndex: 'u64',
  lastChain: 'u64',
  more: 'u8',
  series: { kind: 'u8', since: 5 },
  entries: 'bin16',
});

/** Replica → all: promise `view`. `reason`: see ViewReason. */
export const ViewChange = defineMessage('ViewChange', 18, { view: 'u32', reason: 'u8' });

/** Replica → primary of `view`: I promised; this is the final end of my log of `logView`. `fingerprint`: as in Sync. */
export const Vote = defineMessage('Vote', 19, {
  view: 'u32',
  logView: 'u32',
  lastIndex: 'u64',
  lastChain: 'u64',
  committedIndex: 'u64',
  committedChain: 'u64',
  fingerprint: 'u32',
});

/**
 * Any process → replica: which view are you in? `incarnation`: of the asking replica; 0 from a client, and from a
 * replica that does not know it yet. `life`: a number that it drew when it last began with an empty disk, 0: unknown.
 * `list`: what the asker's cluster file lists: the number of replicas in the upper four bits, a digest of their
 * addresses in the others; 0: not given. `fingerprint`: as in Sync; a client has none.
 */
export const Probe = defineMessage('Probe', 20, {
  view: 'u32',
  nonce: 'u32',
  incarnation: 'u32',
  life: 'u32',
  list: 'u32',
  fingerprint: 'u32',
});

/**
 * Answer to Probe. `status`: see ReplicaStatus. `heardPrimary`: 1 if its primary is alive as far as it knows.
 * `knownIncarnation`: the highest incarnation of the asking replica that this one has heard of, 0 for none;
 * `knownLife`: the life that came with it. `life`: as in Probe, for this one. `list`, `fingerprint`: as in Probe.
 * `condition`: see ReplicaCondition.
 */
export const ProbeReply = defineMessage('ProbeReply', 21, {
  view: 'u32',
  nonce: 'u32',
  logView: 'u32',
  status: 'u8',
  heardPrimary: 'u8',
  incarnation: 'u32',
  lastIndex: 'u64',
  committedIndex: 'u64',
  knownIncarnation: 'u32',
  condition: 'u8',
  life: 'u32',
  knownLife: 'u32',
  list: 'u32',
  fingerprint: 'u32',
});

/**
 * Client → replica: nothing commits in `view`; check whether it works. `unreachable`: the replicas that do not answer
 * this client, bit r for replica r.
 */
export const Plea = defineMessage('Plea', 22, { view: 'u32', unreachable: 'u32' });

/** Answer to Fetch if the sender's log no longer reaches back to the requested base: install this snapshot first. */
export const SnapshotOffer = defineMessage('SnapshotOffer', 23, {
  view: 'u32',
  logView: 'u32',
  index: 'u64',
  chain: 'u64',
  length: 'u32',
  digest: 'u64',
});

/**
 * Replica → replica: send the snapshot of `index` from byte `offset` on, `room` bytes of it in as many SnapshotChunks
 * as needed; 0: in one.
 */
export const SnapshotFetch = defineMessage('SnapshotFetch', 24, {
  view: 'u32',
  index: 'u64',
  chain: 'u64',
  offset: 'u32',
  room: 'u16',
});

/** Answer to SnapshotFetch: bytes of the snapshot from `offset` on. `more`: as in Chunk. */
export const SnapshotChunk = defineMessage('SnapshotChunk', 25, {
  view: 'u32',
  index: 'u64',
  chain: 'u64',
  offset: 'u32',
  more: 'u8',
  data: 'bin16',
});

/**
 * Replica → replica: entry `index` is committed under `chain`. If a snapshot of mine became stable at it, `digest` is
 * that of my machine and session table (XXH3-64 of the snapshot; 0: about the log alone). Index 0: `chain` and `digest`
 * hold the limits that decide what is executed (protocol/replica/limits-digest.ts). `asks`: 1 if the sender has not
 * heard the receiver's at this index; without a digest it only asks: its state came from another replica. `nonce`, at
 * index 0: a number drawn for the question, which the answer repeats.
 */
export const StateDigest = defineMessage(
  'StateDigest',
  26,
  {
    view: 'u32',
    index: 'u64',
    chain: 'u64',
    digest: 'u64',
    asks: 'u8',
    nonce: { kind: 'u32', since: 5 },
  },
  4,
);

/**
 * Tool → replica: report about yourself. The length of `padding` bounds the answer's `report`, so that a forged sender
 * gains nothing: no answer is longer than its question. `reserved` (zero) makes the two equally long. `serial`: at most
 * 1 asks for the first piece of a new report; a larger number asks for the piece from `offset` on of the report with that
 * serial.
 */
export const Status = defineMessage('Status', 32, {
  view: 'u32',
  nonce: 'u64',
  reserved: 'u32',
  serial: 'u32',
  offset: 'u32',
  padding: 'bin16',
});

/**
 * Answer to Status, by the replica's host: of a msgpack map (host/status-codec.ts) of `length` bytes, the part from
 * `offset` on for which padding and datagram have room. `serial` is the report's, which may differ from the requested
 * one. It is larger than 1.
 */
export const StatusReply = defineMessage('StatusReply', 33, {
  view: 'u32',
  nonce: 'u64',
  length: 'u32',
  serial: 'u32',
  offset: 'u32',
  report: 'bin16',
});

/**
 * Replica's host → client's host: prove that you receive at the address you send from (address-proofs.ts). `view`:
 * zero, as in its answer.
 */
export const Challenge = defineMessage('Challenge', 34, { view: 'u32', nonce: 'u64' });

/** Answer to Challenge: its number. */
export const Proof = defineMessage('Proof', 35, { view: 'u32', nonce: 'u64' });

/**
 * Any process → replica: who are the members of the cluster? The length of the question bounds that of the answer, so
 * that a forged sender gains nothing: `padding` is as long as the list may be. `digest`: 0 asks for the list from its
 * beginning; otherwise for the piece from `offset` on of the list that has this digest.
 */
export const AskMembers = defineMessage(
  'AskMembers',
  36,
  { view: 'u32', nonce: 'u64', digest: 'u32', offset: 'u16', padding: 'bin16' },
  5,
);

/**
 * Answer to AskMembers, by the replica's host. `view`: the replica's. `epochs`: the epoch in force in the upper 16 bits,
 * the decided one in the lower. `list`: of the list of members (wire/member-list.ts), `length` bytes long, the part from
 * `offset` on for which question and datagram have room. `digest` tells lists apart; it is never 0. If it is not the
 * digest that was asked for, `offset` is 0.
 */
export const Members = defineMessage(
  'Members',
  37,
  { view: 'u32', nonce: 'u64', epochs: 'u32', digest: 'u32', length: 'u16', offset: 'u16', list: 'bin16' },
  5,
);

/**
 * Client → replica's host: tell me the changes of the store after revision `after` of keys that begin with one of
 * `prefixes` (each: length u16, then the bytes). It is sent again as a sign of life and, with a later `after`, as the
 * acknowledgement of what came. `watch`: drawn by the client for each replica that it asks. `token`: as the replica's last
 * WatchLost said; 0: it has said none. `count`: grows with each Watch of this watch; one with a count that came before is
 * ignored. `flight`: that of the last Changes that came. `flags`: see WatchFlag. `window`: bytes of Changes that may be on
 * their way unacknowledged. `prefixes` is empty once Changes came: the replica then knows them.
 */
export const Watch = defineMessage(
  'Watch',
  38,
  {
    view: 'u32',
    watch: 'u32',
    token: 'u32',
    count: 'u32',
    flight: 'u8',
    flags: 'u8',
    window: 'u32',
    after: 'u64',
    prefixes: 'bin16',
  },
  5,
);

/**
 * Answer to Watch, by the replica's host, now and whenever something is committed: all changes after revision `previous`
 * up to revision `last` of keys that were asked for. `primary`: 1 if the primary says so, which would rather not.
 * `flight`: grows with each repetition; the next Watch says it, so that the replica knows what is acknowledged. `nextEnd`:
 * when the next key or lease ends, agreed time in ms; 0: none will. It is a hint: a primary says it of what it has
 * executed, which may be undone. `changes`: for each its kind u8 (0 put, 1 delete, 2 expire), revision u64, length of the
 * key u16, of the value u16 (65,535: not given), key, value.
 */
export const Changes = defineMessage(
  'Changes',
  39,
  {
    view: 'u32',
    watch: 'u32',
    primary: 'u8',
    flight: 'u8',
    previous: 'u64',
    last: 'u64',
    nextEnd: 'u64',
    changes: 'bin16',
  },
  5,
);

/**
 * Replica's host → client: this replica does not serve the watch (any more), or not under this token. `reason`: see
 * WatchLostReason. `token`: for that reason, the one to say instead. `oldest`: the revision after which it still has all
 * changes. Shorter than any Watch.
 */
export const WatchLost = defineMessage(
  'WatchLost',
  40,
  { view: 'u32', watch: 'u32', reason: 'u8', token: 'u32', oldest: 'u64' },
  5,
);

/**
 * Client → replica's host: when did this arrive, and when do you answer? So a tool finds the way there and the way back
 * (RFC 5905, 8). `padding` makes the question as long as its answer, so that a forged sender gains nothing.
 */
export const AskTimes = defineMessage('AskTimes', 41, { view: 'u32', nonce: 'u64', padding: 'bin16' }, 5);

/**
 * Answer to AskTimes, by the replica's host, with the replies to the requests that arrived with the question. `view`: the
 * replica's. `received`, `sent`: its clock, ns, when it had read the question and before it sent this. `clock`: a digest
 * of the clock that it reads, the same in all processes of a host that read the same one; 0: this process alone reads it.
 * `error`: how far that clock may be from true time, ns; see UNKNOWN_ERROR. `epoch`: see ClockEpochCode.
 */
export const Times = defineMessage(
  'Times',
  42,
  { view: 'u32', nonce: 'u64', received: 'u64', sent: 'u64', clock: 'u64', error: 'u32', epoch: 'u8' },
  5,
);

/** Times' `error` of a clock whose error is unknown, or longer than the field. */
export const UNKNOWN_ERROR = 0xffffffff;

/** Values of Times' `epoch`: where the clock's zero is. */
export const ClockEpochCode = { utc: 0, tai: 1, boot: 2 } as const;

/** Bits of Watch's `flags`. */
export const WatchFlag = {
  /** With values. */
  values: 1,
  /** Something was lost, or nothing came for long: send what follows `after` again, or say that there is nothing. */
  again: 2,
  /** No other replica serves this client: also as primary. */
  anyone: 4,
  /** It is over: forget it. */
  end: 8,
  /** From a replica's host to its primary's: clients watch here, so say at once what is committed. It opens no watch. */
  hurry: 16,
  /** Also messages on channels that begin with a prefix, with their bytes as values. */
  messages: 32,
  /** No changes of keys. */
  noKeys: 64,
  /** In place of its value, a change of a key has what made it: its event (machine/store/change-ring.ts), u16. */
  events: 128,
} as const;

export const WatchLostReason = {
  /** `after` lies before the oldest change that is still there. */
  compacted: 1,
  /** The state machine here keeps no changes, or the feature `store` is off. */
  notKept: 2,
  /** It serves as many watches as it can, or as it does for one client. */
  tooMany: 3,
  /** It is the primary: another replica should serve it. */
  primary: 4,
  /**
   * It has not heard its primary for half a second, has lacked committed entries for as long, does not know how much of
   * what it has executed is committed, or stops.
   */
  behind: 5,
  /** Nothing is wrong: the client has to say the Watch again, whole, with the token in this message. */
  token: 6,
} as const;

/**
 * Which part of the program handles which message. Every message is in at least one group. A message in no group does
 * not exist, and `validate` refuses it. The part that handles a group has a `switch` over its types that ends in
 * `never`, so a message without a handler does not compile. A new message is added in two places: here, and where its
 * group is handled.
 */
const GROUPS = {
  /** Handled by a replica's core, from clients and from other replicas (replica-core.ts). */
  replicaFromAnyone: [Request, Read, Reconcile, Probe, Plea],
  /** Handled by a replica's core, from other replicas only (replica-core.ts). */
  replicaFromReplica: [
    Sync,
    SyncAck,
    Order,
    Fetch,
    Chunk,
    ViewChange,
    Vote,
    ProbeReply,
    SnapshotOffer,
    SnapshotFetch,
    SnapshotChunk,
    StateDigest,
  ],
  /** Handled by a client's core (client-core.ts). */
  client: [Reply, Reject, ReadReply, ProbeReply],
  /** Handled by the turn loop, before it asks the host or the core (turn-loop.ts). */
  turnLoop: [Challenge, Proof],
  /** Handled by the host of a replica (server/replica.ts). */
  replicaHost: [Status, AskMembers, Members, Watch, AskTimes],
  /** Handled by the host of a client (client/client-host.ts). */
  clientHost: [Members, Changes, WatchLost, Times],
  /** Handled by a tool that asks replicas about themselves (client/inquiry.ts). */
  inquiry: [StatusReply, Members],
} as const satisfies Record<string, readonly Message[]>;

type Groups = typeof GROUPS;
/** The types of the messages of a group, as literals: for a `switch` that is checked for completeness. */
export type TypesFor<Group extends keyof Groups> = Groups[Group][number]['type'];

/** Every message once, by type. */
export const ALL_MESSAGES: readonly Message[] = [...new Set<Message>(Object.values(GROUPS).flat())].sort(
  (a, b) => a.type - b.type,
);

export const RequestFlag = {
  /** The operation registers the session (protocol/log/sessions.ts); it is not for the state machine. */
  register: 1,
  /** The operation is a query that was logged because its quorum read failed: it changes nothing. */
  query: 2,
  /** The operation switches a feature on (protocol/log/features.ts); it is not for the state machine. */
  feature: 4,
  /** The operation changes who the hosts are (protocol/membership/), once the feature `membership` is on. */
  configure: 8,
} as const;

/** Most lanes of a session that is registered under a read-only key. */
export const READ_ONLY_LANES = 64;
/** Where a Register's operation names the lanes (protocol/log/sessions.ts). */
export const REGISTER_LANES = 8;

/** Whether a client with a read-only key may send this (validated) message. Only a Request appends anything. */
export function isReadOnly(bytes: Uint8Array, offset: number): boolean {
  if (typeOf(bytes, offset) !== Request.type) return true;
  const flags = bytes[offset + Request.at.flags]!;
  if ((flags & RequestFlag.register) === 0) return (flags & RequestFlag.query) !== 0;
  return (
    readU16(bytes, offset + Request.at.operation) < REGISTER_LANES + 2 ||
    readU16(bytes, offset + Request.size + REGISTER_LANES) <= READ_ONLY_LANES
  );
}

/** Whether this (validated) message asks for a change of the members: a client needs an operator's key for it. */
export function isConfiguring(bytes: Uint8Array, offset: number): boolean {
  return typeOf(bytes, offset) === Request.type && (bytes[offset + Request.at.flags]! & RequestFlag.configure) !== 0;
}

export const ReplyStatus = {
  ok: 0,
  /**
   * Logged, but its session was evicted before it was executed. It is refused, and never executed. Or it was executed,
   * and its session gave up the result since: the client must not take either for granted.
   */
  sessionUnknown: 1,
  /** Logged, but a later request of its lane was executed before it. It is refused. */
  superseded: 2,
  /** Register only: another client holds this session id. */
  sessionTaken: 3,
  /** A lane that the session does not have, or a malformed Register. It is refused. */
  badRequest: 4,
} as const;

/**
 * Why a replica does not append a request. This is the only table of the reasons. The words of commands, metrics and
 * docs, the counters (protocol/counters.ts) and their types are derived from its names.
 */
export const RejectReason = {
  late: 1,
  tooFarAhead: 2,
  wrongView: 3,
  busy: 4,
  notInQuorum: 5,
  sessionUnknown: 6,
  badRequest: 7,
} as const;

export type RejectReasonCode = (typeof RejectReason)[keyof typeof RejectReason];

/** What SyncAck says in `differed`, beside MEMBERS_WRITTEN. */
export const Differed = {
  no: 0,
  differs: 1,
  lacks: 2,
  awaits: 3,
} as const;

export type DifferedCode = (typeof Differed)[keyof typeof Differed];

/** Bit of SyncAck's `differed`: the members of the decided epoch are on the sender's disk. */
export const MEMBERS_WRITTEN = 4;

/** Bits of ProbeReply's `condition`. */
export const ReplicaCondition = {
  /** It knows that more than f replicas have lost their logs. */
  majorityLost: 1,
  /** Its disk was empty, and it does not know yet whether it is new or has lost its data. */
  starting: 2,
  /** It is starting, and the asking replica told it that it is unused. */
  met: 4,
  /**
   * Its log, committed or not, may list the data directory of the asking replica's id, or may have decided an epoch that has not
   * begun.
   */
  named: 8,
} as const;

/** The words for the reasons in commands, metrics and docs, by code: `too-far-ahead`. Code 0 is no reason. */
export const REJECT_REASON_NAMES: readonly string[] = Object.entries(RejectReason).reduce<string[]>(
  (names, [name, code]) => {
    names[code] = name.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`);
    return names;
  },
  [''],
);

/**
 * Why a view is requested. Reasons above `gone` leave a working view for a better one. All replicas count how often
 * that happens.
 */
export const ViewReason = {
  /** Not given; or a replica without a log needs a view; or a view failed. */
  unknown: 0,
  /** A replica was silent for too long. */
  silence: 1,
  /** A replica's host reports that its process is gone. */
  gone: 2,
  /** A member delays the others, and a spare would not. */
  slow: 3,
  /** A client receives nothing from a member. */
  plea: 4,
  /** A member's clock is off. */
  clock: 5,
} as const;

export const ReplicaStatus = {
  normal: 0,
  viewChange: 1,
  recovering: 2,
} as const;

export const REPLICA_STATUS_NAMES: readonly string[] = ['normal', 'view-change', 'recovering'];

const BY_TYPE: (Message | undefined)[] = new Array<Message | undefined>(128).fill(undefined);
for (const message of ALL_MESSAGES) BY_TYPE[message.type] = message;

const U64_INDEX_FIELDS = new Set(['index', 'lastIndex', 'committedIndex', 'baseIndex', 'matchedIndex', 'neededIndex']);

/**
 * What `validate` needs about the messages of one version, by type, in a few arrays. With one object for each message,
 * each object would have a shape of its own, and every access would be a lookup.
 */
interface Checks {
  /** 0: no such message. */
  readonly sizes: Int32Array;
  readonly hasBytes: Uint8Array;
  /** Layout.markWords of all messages, and where those of a type begin. */
  readonly words: Int32Array;
  readonly wordsFrom: Int32Array;
  /** Offsets of indexes, and where those of a type begin. */
  readonly indexes: Int32Array;
  readonly indexesFrom: Int32Array;
}

function checksOf(layouts: readonly (Layout | undefined)[]): Checks {
  const words: number[] = [];
  const indexes: number[] = [];
  const wordsFrom = [0];
  const indexesFrom = [0];
  for (const layout of layouts) {
    if (layout !== undefined) {
      words.push(...layout.markWords);
      indexes.push(
        ...Object.keys(layout.fields)
          .filter((field) => U64_INDEX_FIELDS.has(field))
          .map((field) => layout.at[field]!),
      );
    }
    wordsFrom.push(words.length);
    indexesFrom.push(indexes.length);
  }
  return {
    sizes: Int32Array.from(layouts, (layout) => layout?.size ?? 0),
    hasBytes: Uint8Array.from(layouts, (layout) => Number(layout?.hasBytes ?? false)),
    words: Int32Array.from(words),
    wordsFrom: Int32Array.from(wordsFrom),
    indexes: Int32Array.from(indexes),
    indexesFrom: Int32Array.from(indexesFrom),
  };
}

const PRESENT = checksOf(BY_TYPE);
const PREVIOUS = checksOf(BY_TYPE.map((message) => message?.previous));

/** The DataView of the array in which datagrams are received. That array rarely changes. */
const validated = new LastWords();

/** Why a message was refused. Negative, so that it cannot be mistaken for a length. Same order as DROP_REASON_NAMES. */
export const Malformed = { truncated: -1, unknownType: -2, marker: -3, number: -4 } as const;

/**
 * Length of the message at `bytes[offset]`, or a negative code of Malformed. Reads nothing at or beyond `end`. After it
 * has returned a length, every field may be read without further checks.
 */
export function validate(bytes: Uint8Array, offset: number, end: number): number {
  return validateAs(PRESENT, bytes, offset, end);
}

/** Like `validate`, for a message in the layout of the previous version. */
export function validatePrevious(bytes: Uint8Array, offset: number, end: number): number {
  return validateAs(PREVIOUS, bytes, offset, end);
}

function validateAs(checks: Checks, bytes: Uint8Array, offset: number, end: number): number {
  if (offset + 2 > end) return Malformed.truncated;
  const type = bytes[offset + 1]!;
  let length = type < 128 ? checks.sizes[type]! : 0;
  if (length === 0) return Malformed.unknownType;
  if (offset + length > end) return Malformed.truncated;
  const data = validated.of(bytes);
  const { words, indexes } = checks;
  const wordsEnd = checks.wordsFrom[type + 1]!;
  for (let i = checks.wordsFrom[type]!; i < wordsEnd; i += 3) {
    if ((data.getInt32(offset + words[i]!, true) & words[i + 1]!) !== words[i + 2]!) return Malformed.marker;
  }
  const indexesEnd = checks.indexesFrom[type + 1]!;
  for (let i = checks.indexesFrom[type]!; i < indexesEnd; i++) {
    if (!isIndex(data, offset + indexes[i]!)) return Malformed.number;
  }
  if (checks.hasBytes[type] === 1) {
    length += data.getUint16(offset + length - 2);
    if (offset + length > end) return Malformed.truncated;
  }
  return length;
}

/** Type of a validated message. */
export function typeOf(bytes: Uint8Array, offset: number): number {
  return bytes[offset + 1]!;
}

/** The message's name, for traces and counters. */
export function nameOf(type: number): string {
  return BY_TYPE[type]?.name ?? `type-${type}`;
}

/** The layout of a message type, or undefined. For tools; the protocol names its messages directly. */
export function layoutOf(type: number): Message | undefined {
  return BY_TYPE[type];
}
