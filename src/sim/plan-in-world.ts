/** What a world changes of the plan that was drawn for a kind one. */
import type { Plan } from './faults.js';
import type { World } from './world.js';

/** Common delay where endpoints are at different distances, µs. */
const NEAR_US = 10;
/** Where paths have a limit: what an operation has around it in the longest message that holds one, and what a transfer asks for at once. */
const ENTRY_OVERHEAD_BYTES = 180;
const LONG_CHUNK_BYTES = 16_384;

/** The plan in its world, where that changes it. */
export function within(plan: Plan, { distance, longest }: World): Plan {
  // What is the same for all is short then: the way makes the difference.
  const network = distance === undefined ? plan.network : { ...plan.network, delayUs: NEAR_US };
  if (longest === undefined) return { ...plan, network };
  // A single operation is never divided, so it has to fit; a transfer that does not is divided.
  const limits = {
    ...plan.limits,
    operationBytes: Math.min(plan.limits.operationBytes, longest - ENTRY_OVERHEAD_BYTES),
    resultBytes: Math.min(plan.limits.resultBytes, longest - ENTRY_OVERHEAD_BYTES),
    chunkBytes: LONG_CHUNK_BYTES,
  };
  return { ...plan, network, limits };
}
