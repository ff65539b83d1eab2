/**
 * The errors of the library. The rule: `code` names one situation for programs, the message names what is wrong and what
 * to do for people, `retryable` says whether the same call may succeed later without anybody changing anything.
 * docs/reference/errors.md lists every code; a test holds the two together. Every error class of the library extends
 * JitPaxosError, so that one `instanceof` catches them all.
 */

/**
 * Who has to act: `caller`, the author of the call or the configuration; `environment`, the operator of the hosts;
 * `invariant`, the authors of this library (a bug).
 */
export type ErrorCategory = 'caller' | 'environment' | 'invariant';

interface Traits {
  readonly category: ErrorCategory;
  readonly retryable: boolean;
}

/** Every code of the library with its traits. */
export const ERRORS = {
  /** An option of a call is unknown, of the wrong type or out of range. */
  'option-invalid': { category: 'caller', retryable: false },
  /** The cluster file cannot be read. */
  'cluster-file-unreadable': { category: 'environment', retryable: false },
  /** The cluster file, or the object given instead, breaks the schema. */
  'cluster-file-invalid': { category: 'caller', retryable: false },
  /** The key file cannot be read, or the cluster has keys and this process was given none. */
  'key-file-unreadable': { category: 'environment', retryable: false },
  /** The key file breaks the schema, or is not for this cluster or this kind of process. */
  'key-file-invalid': { category: 'caller', retryable: false },
  /** A write by a client whose key is read-only: nothing was sent. */
  'read-only': { category: 'caller', retryable: false },
  /** Users other than its owner may read or write the key file. */
  'key-file-exposed': { category: 'environment', retryable: false },
  /** A host name of the cluster file does not resolve. */
  'host-unresolved': { category: 'environment', retryable: true },
  /** The members list another data directory for this host. */
  'replica-id-taken': { category: 'environment', retryable: false },
  /** The host is no member any more. */
  'replica-removed': { category: 'environment', retryable: false },
  /** The given id does not belong to any replica of the cluster. */
  'replica-id-out-of-range': { category: 'caller', retryable: false },
  /** Another socket has the replica's port. */
  'port-in-use': { category: 'environment', retryable: true },
  /** The replica's address cannot be bound: it is not an address of this host, or binding is not permitted. */
  'address-unavailable': { category: 'environment', retryable: false },
  /** Another living process uses the data directory. */
  'data-directory-locked': { category: 'environment', retryable: true },
  /** The native transport was requested, but the addon is missing. */
  'native-transport-missing': { category: 'environment', retryable: false },
  /** The data directory cannot be created, read or written. */
  'data-directory-unusable': { category: 'environment', retryable: false },
  /** The cluster has a keyed chain, but the replicas' key file has no secret for it. */
  'chain-secret-missing': { category: 'caller', retryable: false },
  /** The log in the data directory, or the key file, was made for another chain than the cluster file says. */
  'chain-differs': { category: 'caller', retryable: false },
  /** The data directory belongs to another cluster or another replica. */
  'data-directory-foreign': { category: 'caller', retryable: false },
  /** The cluster file lists another number of replicas than the cluster was set up with, or in another order. */
  'cluster-file-changed': { category: 'caller', retryable: false },
  /** The hard state exists, but none of its copies is intact. */
  'hard-state-corrupt': { category: 'environment', retryable: false },
  /** The data directory was in use, but the file of the replica's promises is gone. */
  'members-corrupt': { category: 'environment', retryable: false },
  'hard-state-missing': { category: 'environment', retryable: false },
  /** The data directory is empty, or an old copy, but another replica remembers a later state of this one. */
  'promises-forgotten': { category: 'caller', retryable: false },
  /** Durability `os` needs the host's boot id, which cannot be read. */
  'boot-id-unknown': { category: 'environment', retryable: false },
  /** What is stored does not fit the limits of the cluster file. */
  'limits-too-small': { category: 'caller', retryable: false },
  /** A file is not a backup, or has changed since it was written. */
  'backup-unusable': { category: 'environment', retryable: false },
  /** The cluster started from a backup, which this replica has not been given. */
  'restore-missing': { category: 'caller', retryable: false },
  /** The hard state could not be made durable; the replica stopped. */
  'storage-failed': { category: 'environment', retryable: false },
  /**
   * The entries that this replica took as committed differ from what f + 1 others committed; the replica stopped
   * itself.
   */
  'log-diverged': { category: 'environment', retryable: false },
  /** After the same log, the state of this replica differs from that of f + 1 others; the replica stopped itself. */
  'state-diverged': { category: 'environment', retryable: false },
  /** The limits of this replica differ from those that f + 1 others share; the replica stopped itself. */
  'limits-differ': { category: 'caller', retryable: false },
  /**
   * A feature that this version does not know was switched on in the log, or a snapshot was taken with it; the replica
   * stopped.
   */
  'feature-unknown': { category: 'caller', retryable: false },
  /** A text has half of a surrogate pair, which UTF-8 cannot encode. */
  'text-ill-formed': { category: 'caller', retryable: false },
  /** An operation is longer than the cluster accepts. */
  'operation-too-large': { category: 'caller', retryable: false },
  /** No session could be registered: too few replicas answer. */
  'cluster-unavailable': { category: 'environment', retryable: true },
  /**
   * No session could be registered: more replicas have lost their logs than the cluster survives. Waiting does not
   * help.
   */
  'majority-lost': { category: 'environment', retryable: false },
  /**
   * The `cause` of an outcome-unknown: no replica has answered since the operation was sent. They are down, out of
   * reach, or drop what this client sends (its key was removed).
   */
  'replicas-silent': { category: 'environment', retryable: true },
  /** The operation was sent and no answer is certain: it may have been executed, may be executed later, or never. */
  'outcome-unknown': { category: 'environment', retryable: false },
  /** The operation was decided, and refused: it was not executed and never will be. */
  'operation-refused': { category: 'environment', retryable: true },
  /** The cluster evicted the client's session: whether operations in flight were executed is unknown. */
  'session-lost': { category: 'environment', retryable: false },
  /** The operation was withdrawn, or its time was up, before it was sent: it was not executed. */
  aborted: { category: 'caller', retryable: true },
  /** All lanes are busy and the queue is full: not executed. */
  busy: { category: 'environment', retryable: true },
  /** The client was closed before the operation was sent. */
  'client-closed': { category: 'caller', retryable: false },
  /** The key-value store has reached its limits; nothing was changed. */
  'kv-store-full': { category: 'environment', retryable: true },
  /** Increment of a value that is not a number; nothing was changed. */
  'kv-not-a-number': { category: 'caller', retryable: false },
  /** The value of the key is a collection, which this operation cannot read or change; nothing was changed. */
  'kv-wrong-type': { category: 'caller', retryable: false },
  /** A key was to be held by a lease that has ended; nothing was changed. */
  'kv-lease-ended': { category: 'caller', retryable: false },
  /** A lease, or what is held by it, cannot be relied on any more: it may end, has ended, or was released. */
  'lease-lost': { category: 'environment', retryable: true },
  /** The lock, the leadership or the permit is held by another one, and the time to wait is over. */
  'lock-held': { category: 'environment', retryable: true },
  /** A write was to be done only as long as a lock was held, and it is not; nothing was changed. */
  fenced: { category: 'environment', retryable: false },
  /** A semaphore is used with another number of permits. */
  'semaphore-differs': { category: 'caller', retryable: false },
  /** A result is longer than the cluster's `resultBytes`. */
  'kv-result-too-large': { category: 'caller', retryable: false },
  /** A scan found only keys that have ended, more than it passes over. */
  'kv-ended-keys': { category: 'environment', retryable: true },
  /** The changes after the revision asked for are no longer there. */
  'watch-compacted': { category: 'caller', retryable: false },
  /** No replica serves the watch: the feature `store` is off, the machine keeps no changes, or there are too many. */
  'watch-refused': { category: 'environment', retryable: true },
  /** The file of the Redis front end's users cannot be read. */
  'redis-users-unreadable': { category: 'environment', retryable: false },
  /** The file of the Redis front end's users breaks the schema. */
  'redis-users-invalid': { category: 'caller', retryable: false },
  /** Other users of the host may read or change the file of the Redis front end's users. */
  'redis-users-exposed': { category: 'environment', retryable: false },
  /** An answer that the state machine in use would not give. */
  'result-unexpected': { category: 'environment', retryable: false },
  /** InvariantError: a rule of the protocol did not hold; the replica stopped. A bug. */
  'invariant-broken': { category: 'invariant', retryable: false },
  /** KvError: a key, value, range or delta is outside its limits. */
  'kv-limit': { category: 'caller', retryable: false },
  /** KvError: the operation does not fit the buffer. */
  'kv-buffer-too-small': { category: 'caller', retryable: false },
  /** KvError: an option of the machine is unknown or out of range. */
  'kv-option': { category: 'caller', retryable: false },
  /** KvError: the bytes are no result of the operation named. */
  'kv-result-malformed': { category: 'environment', retryable: false },
  /** SnapshotError: the bytes are no snapshot of this machine. */
  'snapshot-invalid': { category: 'environment', retryable: false },
  /** LocalCluster: the module with the machine cannot be loaded, or does not export it. */
  'machine-module-failed': { category: 'caller', retryable: false },
  /** HistoryError: the lines are no history of operations. */
  'history-malformed': { category: 'caller', retryable: false },
  // The codes of ClockError.
  /** No such clock device. */
  'clock-not-found': { category: 'environment', retryable: false },
  /** The device exists, and this user may not read it. */
  'clock-permission': { category: 'environment', retryable: false },
  /** The path leads to something that does not tell the time. */
  'clock-not-a-clock': { category: 'environment', retryable: false },
  /** The clock specification is not one of the accepted forms. */
  'clock-spec-invalid': { category: 'caller', retryable: false },
  /** This clock can be read only with the native addon, and that is not there. */
  'clock-addon-missing': { category: 'environment', retryable: false },
  /** Read after close(). */
  'clock-closed': { category: 'caller', retryable: false },
  /** Too many hardware clocks, or too many files, are open. */
  'clock-limit': { category: 'environment', retryable: true },
  /** An open clock stopped answering: the device is gone or its driver failed. */
  'clock-lost': { category: 'environment', retryable: false },
  /** The device tells the time, but not that of any epoch: nobody has set it. */
  'clock-not-set': { category: 'environment', retryable: true },
  /** Opening failed for another reason, which the message gives. */
  'clock-unavailable': { category: 'environment', retryable: true },
} as const satisfies Record<string, Traits>;

export type ErrorCode = keyof typeof ERRORS;

/** The codes that the `jitpaxos` command adds to those of the library, with its exit code (console/exit.ts). */
export const COMMAND_ERRORS = {
  'node-too-old': { category: 'environment', retryable: false, exit: 1 },
  'unknown-command': { category: 'caller', retryable: false, exit: 2 },
  'unknown-flag': { category: 'caller', retryable: false, exit: 2 },
  'flag-invalid': { category: 'caller', retryable: false, exit: 2 },
  'argument-invalid': { category: 'caller', retryable: false, exit: 2 },
  'file-exists': { category: 'caller', retryable: false, exit: 2 },
  'backup-empty': { category: 'environment', retryable: false, exit: 1 },
  'backup-unauthenticated': { category: 'environment', retryable: false, exit: 1 },
  'backup-other': { category: 'caller', retryable: false, exit: 2 },
  'cluster-running': { category: 'environment', retryable: false, exit: 1 },
  'loss-not-accepted': { category: 'caller', retryable: false, exit: 1 },
  'recovery-needless': { category: 'caller', retryable: false, exit: 1 },
  'key-unknown': { category: 'caller', retryable: false, exit: 2 },
  /** A replica does not answer, or does not know the feature that is to be switched on. */
  'feature-not-everywhere': { category: 'environment', retryable: true, exit: 3 },
  'members-unknown': { category: 'environment', retryable: true, exit: 3 },
  /** A change of the members is refused: what it rests on is otherwise. */
  'epoch-mismatch': { category: 'environment', retryable: false, exit: 1 },
  'change-pending': { category: 'environment', retryable: true, exit: 1 },
  'member-unlisted': { category: 'caller', retryable: false, exit: 1 },
  'member-listed': { category: 'caller', retryable: false, exit: 1 },
  'member-unreachable': { category: 'environment', retryable: true, exit: 1 },
  'member-unfit': { category: 'environment', retryable: false, exit: 1 },
  'member-alive': { category: 'caller', retryable: false, exit: 1 },
  'member-behind': { category: 'environment', retryable: true, exit: 1 },
  'members-count': { category: 'caller', retryable: false, exit: 1 },
  'majority-needed': { category: 'environment', retryable: true, exit: 1 },
  /** It may still happen: the same command says so, or goes on. */
  'members-not-decided': { category: 'environment', retryable: true, exit: 3 },
  'key-role': { category: 'caller', retryable: false, exit: 2 },
  'key-in-use': { category: 'caller', retryable: false, exit: 2 },
  'key-file-full': { category: 'caller', retryable: false, exit: 2 },
  'key-file-locked': { category: 'environment', retryable: true, exit: 1 },
  'config-file-unreadable': { category: 'environment', retryable: false, exit: 1 },
  'config-invalid': { category: 'caller', retryable: false, exit: 2 },
  'key-not-found': { category: 'environment', retryable: false, exit: 1 },
  'cas-mismatch': { category: 'environment', retryable: false, exit: 1 },
  'replica-not-ready': { category: 'environment', retryable: false, exit: 1 },
  'worker-failed': { category: 'environment', retryable: false, exit: 1 },
  'compiler-missing': { category: 'environment', retryable: false, exit: 1 },
  'read-back-differs': { category: 'environment', retryable: false, exit: 1 },
  'output-unwritable': { category: 'environment', retryable: false, exit: 1 },
  interrupted: { category: 'environment', retryable: false, exit: 1 },
  'cluster-gone': { category: 'environment', retryable: false, exit: 3 },
  /** An agent of a load on several hosts: nobody answers there, it does not take the order, or it was lost on the way. */
  'agent-unreachable': { category: 'environment', retryable: true, exit: 3 },
  'agent-refused': { category: 'environment', retryable: false, exit: 1 },
  'agent-lost': { category: 'environment', retryable: true, exit: 1 },
  'assertion-failed': { category: 'environment', retryable: false, exit: 4 },
} as const satisfies Record<string, Traits & { readonly exit: number }>;

export type CommandErrorCode = keyof typeof COMMAND_ERRORS;

const TRAITS: Readonly<Record<string, Traits>> = { ...ERRORS, ...COMMAND_ERRORS };

export class JitPaxosError extends Error {
  override readonly name: string = 'JitPaxosError';
  readonly code: ErrorCode | CommandErrorCode;
  readonly category: ErrorCategory;
  readonly retryable: boolean;

  /**
   * @param message what is wrong and, after a semicolon, what to do
   * @param cause the error of the system or the reason of an AbortSignal, if there is one
   */
  constructor(code: ErrorCode | CommandErrorCode, message: string, cause?: unknown) {
    super(message, cause === undefined ? undefined : { cause });
    this.code = code;
    const { category, retryable } = TRAITS[code]!;
    this.category = category;
    this.retryable = retryable;
  }
}
