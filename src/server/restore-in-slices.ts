/** Restores the state that a replica starts from while the process does other things. */
import type { Logger } from '../host/logger.js';
import type { RestoreInPieces, StateMachine } from '../machine/state-machine.js';
import type { Snapshot } from '../protocol/contract.js';
import { machineBytes } from '../protocol/log/snapshots.js';

const PIECE_BYTES = 1 << 15;
/** The loop gets its turn after about this long. */
const SLICE_MS = 2;
/** How far it is, is said this often. */
const SAID_MS = 1000;

/** Says in the log how far restoring has come, once a second. @param nowMs a monotonic clock */
export function restoreProgress(
  id: number,
  logger: Pick<Logger, 'info'>,
  nowMs: () => number = () => performance.now(),
): (bytes: number, ofBytes: number) => void {
  let saidMs = nowMs();
  return (bytes, ofBytes) => {
    if (nowMs() - saidMs < SAID_MS) return;
    saidMs = nowMs();
    logger.info('replica.restoring', {
      replica: id,
      bytes,
      ofBytes,
      next: 'nothing: the replica takes part when its state is restored',
    });
  };
}

/**
 * Gives the machine its part of `snapshot`; the core ends the restore. Undefined if there is nothing to restore, if the
 * machine restores only all at once, or if it refuses: then the core finds out, and says what is wrong.
 * @param progress hears after each slice how many bytes are restored, and of how many
 */
export async function restoreInSlices(
  machine: StateMachine,
  snapshot: Snapshot | undefined,
  progress?: (bytes: number, ofBytes: number) => void,
): Promise<RestoreInPieces | undefined> {
  if (snapshot === undefined) return undefined;
  const bytes = machineBytes(snapshot);
  const restore = machine.beginRestore?.(bytes.length);
  if (restore === undefined) return undefined;
  let yielded = performance.now();
  for (let at = 0; at < bytes.length; at += PIECE_BYTES) {
    if (performance.now() - yielded >= SLICE_MS) {
      progress?.(at, bytes.length);
      await new Promise((resolve) => setImmediate(resolve));
      yielded = performance.now();
    }
    try {
      restore.step(bytes.subarray(at, at + PIECE_BYTES));
    } catch {
      return undefined;
    }
  }
  return restore;
}
