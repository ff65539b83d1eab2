/** Restores the state that a replica starts from while the process does other things. */
import type { RestoreInPieces, StateMachine } from '../machine/state-machine.js';
import type { Snapshot } from '../protocol/contract.js';
import { machineBytes } from '../protocol/log/snapshots.js';

const PIECE_BYTES = 1 << 15;
/** The loop gets its turn after about this long. */
const SLICE_MS = 2;

/**
 * Gives the machine its part of `snapshot`; the core ends the restore. Undefined if there is nothing to restore, if the
 * machine restores only all at once, or if it refuses: then the core finds out, and says what is wrong.
 */
export async function restoreInSlices(
  machine: StateMachine,
  snapshot: Snapshot | undefined,
): Promise<RestoreInPieces | undefined> {
  if (snapshot === undefined) return undefined;
  const bytes = machineBytes(snapshot);
  const restore = machine.beginRestore?.(bytes.length);
  if (restore === undefined) return undefined;
  let yielded = performance.now();
  for (let at = 0; at < bytes.length; at += PIECE_BYTES) {
    if (performance.now() - yielded >= SLICE_MS) {
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
