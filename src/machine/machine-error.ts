/**
 * The errors that the machines and their codecs throw. A machine never throws out of `apply` or `query`; these errors
 * reach code that encodes an operation, decodes a result, constructs a machine or restores a snapshot.
 */

import { JitPaxosError, type ErrorCode } from '../errors.js';

/**
 * `restore` was given bytes that are not a snapshot of this machine. The state is unchanged. Try another copy of the
 * snapshot.
 */
export class SnapshotError extends JitPaxosError {
  override readonly name = 'SnapshotError';
  declare readonly code: 'snapshot-invalid';
  /** The machine that refused it: `kv`, `echo`, `counter`. */
  readonly machine: string;

  constructor(machine: string, problem: string) {
    super(
      'snapshot-invalid',
      `not a snapshot of the ${machine} machine: ${problem}; restore another copy, or one taken by a cluster with the same machine and limits`,
    );
    this.machine = machine;
  }
}

/**
 * `kv-limit`: a key, value, range or delta outside its limits. `kv-buffer-too-small`: the operation does not fit the
 * buffer. `kv-option`: an option of the machine is unknown or out of range. `kv-result-malformed`: the bytes are not a
 * result of the operation named.
 */
export type KvErrorCode = Extract<ErrorCode, 'kv-limit' | 'kv-buffer-too-small' | 'kv-option' | 'kv-result-malformed'>;

/** Thrown by the key-value codec and by the machine's constructor; the message names the limit, the actual value and the remedy. */
export class KvError extends JitPaxosError {
  override readonly name = 'KvError';
  declare readonly code: KvErrorCode;

  constructor(code: KvErrorCode, message: string) {
    super(code, message);
  }
}
