/**
 * The errors that the machines and their codecs throw. A machine never throws out of `apply` or `query`; these reach the
 * code that encodes an operation, decodes a result, constructs a machine or restores a snapshot.
 */

/** Who can do something about it: the calling code, the surroundings (a damaged file, a foreign peer), or we ourselves. */
export type MachineErrorCategory = 'caller' | 'environment' | 'invariant';

/** `restore` was given bytes that are no snapshot of this machine. The state is unchanged. Try another copy of the snapshot. */
export class SnapshotError extends Error {
  readonly code = 'snapshot-invalid';
  readonly category: MachineErrorCategory = 'environment';
  readonly retryable = false;
  /** Which machine refused it: `kv`, `echo`, `counter`. */
  readonly machine: string;

  constructor(machine: string, problem: string) {
    super(
      `not a snapshot of the ${machine} machine: ${problem}; restore another copy, or one taken by a cluster with the same machine and limits`,
    );
    this.name = 'SnapshotError';
    this.machine = machine;
  }
}

/**
 * `kv-limit`: a key, value, range or delta outside its limits. `kv-buffer-too-small`: the operation does not fit the
 * buffer. `kv-option`: an option of the machine is unknown or out of range. `kv-result-malformed`: the bytes are no
 * result of the operation named.
 */
export type KvErrorCode = 'kv-limit' | 'kv-buffer-too-small' | 'kv-option' | 'kv-result-malformed';

/** Thrown by the key-value codec and by the machine's constructor; the message names the limit, the actual value and the remedy. */
export class KvError extends Error {
  readonly code: KvErrorCode;
  readonly category: MachineErrorCategory;
  readonly retryable = false;

  constructor(code: KvErrorCode, message: string) {
    super(message);
    this.name = 'KvError';
    this.code = code;
    this.category = code === 'kv-result-malformed' ? 'environment' : 'caller';
  }
}
