/**
 * The entries that a view's primary writes by itself, in session 0, which no client has. Their keys are the smallest above
 * the last one.
 *
 * Rule S, *C4* (`Start` in JITReconfig.tla; invariant `EpochInLog`): the log that takes the cluster into an epoch ends with
 * `Go` of that epoch, before the view starts. Once it is committed, the epoch before is not needed any more, and the next
 * change may be decided (C1). `Go` follows from the entry before it and the epoch, so a replica that has the entry before it
 * need not fetch it (installation.ts).
 */
import { addHi, addLo } from '../../../wire/u64.js';
import { RequestFlag } from '../../../wire/messages.js';
import { Entry } from '../../log/entry.js';
import type { Log } from '../../log/log.js';
import { encodeOperation, type ConfigureOperation } from '../../membership/operations.js';

/** Each of the two stands once in a log for an epoch. */
const GO_LANE = 0;
const CHANGE_LANE = 1;

/** `Go` of `epoch`, behind entry `index` of `log`. */
export function goBehind(log: Log, index: number, epoch: number): Entry {
  return entryBehind(log, index, GO_LANE, epoch, { kind: 'go', epoch });
}

/** The change to epoch `to`, in which the same vote as in epoch `from`, behind the last entry of `log`. */
export function renewalBehind(log: Log, from: number, to: number, ids: readonly number[]): Entry {
  return entryBehind(log, log.lastIndex, CHANGE_LANE, to, { kind: 'change', from, to, ids });
}

function entryBehind(log: Log, index: number, lane: number, request: number, change: ConfigureOperation): Entry {
  const operation = encodeOperation(change);
  const entry = new Entry();
  entry.timestampHi = addHi(log.timestampHi(index), log.timestampLo(index), 1);
  entry.timestampLo = addLo(log.timestampLo(index), 1);
  entry.lane = lane;
  entry.request = request;
  entry.flags = RequestFlag.configure;
  entry.operationBytes = operation;
  entry.operationLength = operation.length;
  return entry;
}
