/** What a world changes in the plan that was drawn for a benign one. */
import type { Plan } from './faults.js';
import type { World } from './world.js';

/** Common delay if endpoints are at different distances, µs. */
const NEAR_US = 10;
/**
 * For paths with a limit: the overhead around an operation in the longest message that holds one, and what a transfer
 * requests at once.
 */
const ENTRY_OVERHEAD_BYTES = 180;
const LONG_CHUNK_BYTES = 16_384;

/** The plan in its world, changed where necessary. */
export function within(plan: Plan, { distance, longest }: World): Plan {
  // The common part is then short: the distance makes the difference.
  const network = distance === undefined ? plan.network : { ...plan.network, delayUs: NEAR_US };
  if (longest === undefined) return { ...plan, network };
  // A single operation is never divided, so it must fit; a transfer that does not fit is divided.
  const limits = {
    ...plan.limits,
    operationBytes: Math.min(plan.limits.operationBytes, longest - ENTRY_OVERHEAD_BYTES),
    resultBytes: Math.min(plan.limits.resultBytes, longest - ENTRY_OVERHEAD_BYTES),
    chunkBytes: LONG_CHUNK_BYTES,
  };
  return { ...plan, network, limits };
}
