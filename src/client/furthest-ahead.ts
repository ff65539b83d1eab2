/** How far the clock of a replica may be ahead of a client's: until when a lease holds is judged by it. */
import type { ClientCore } from '../protocol/client/client-core.js';

/** A replica's clock that is further than this from those of a majority is off, µs (`maxAheadNs`). */
const OFF_US = 100_000;

/**
 * In ms, as the replies of the last two seconds tell: the furthest replica counts, with half of the round trip. One that is
 * off by more than 100 ms from a majority that agrees is left out: it does not stay primary. Undefined: none was heard.
 * @param slots of the replicas
 * @param baseMs this client's clock less the monotonic one now: replies from before it was set back are corrected
 */
export function furthestAheadMs(
  core: Pick<ClientCore, 'clock' | 'majorityOfClocks'>,
  slots: readonly number[],
  nowUs: number,
  baseMs: number,
): number | undefined {
  const { offsets } = core.clock;
  const baseUs = baseMs * 1e3;
  const agreed = core.majorityOfClocks(nowUs, baseUs);
  let aheadUs = -Infinity;
  for (const slot of slots) {
    const offsetUs = offsets.offsetByUs(slot, baseUs);
    if (Number.isNaN(offsetUs) || (agreed !== undefined && Math.abs(offsetUs - agreed[0]) > OFF_US)) continue;
    aheadUs = Math.max(aheadUs, offsetUs + offsets.roundTripUs(slot) / 2);
  }
  return aheadUs > -Infinity ? aheadUs / 1e3 : undefined;
}
