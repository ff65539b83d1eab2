/**
 * The entry that says in which epoch a log is.
 *
 * Rule S, *C4* (`Start` in JITReconfig.tla; invariant `EpochInLog`): the log that takes the cluster into an epoch ends with
 * `Go` of that epoch, before the view starts. Its key is the smallest above the last one, in session 0, which no client
 * has. Once it is committed, the epoch before is not needed any more, and the next change may be decided (C1).
 */
import { addHi, addLo } from '../../../wire/u64.js';
import { RequestFlag } from '../../../wire/messages.js';
import { Entry } from '../../log/entry.js';
import type { Log } from '../../log/log.js';
import { encodeOperation } from '../../membership/operations.js';

/** `Go` of `epoch`, behind the last entry of `log`. */
export function goBehind(log: Log, epoch: number): Entry {
  const { lastIndex } = log;
  const operation = encodeOperation({ kind: 'go', epoch });
  const entry = new Entry();
  entry.timestampHi = addHi(log.timestampHi(lastIndex), log.timestampLo(lastIndex), 1);
  entry.timestampLo = addLo(log.timestampLo(lastIndex), 1);
  entry.request = epoch;
  entry.flags = RequestFlag.configure;
  entry.operationBytes = operation;
  entry.operationLength = operation.length;
  return entry;
}
