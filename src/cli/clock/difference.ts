/** The difference of two clocks over time: what `clock compare` and `clock watch` measure. */
import { setTimeout as delay } from 'node:timers/promises';
import { candidates, chooseClock, type Surroundings } from '../../clock/choose.js';
import type { Clock } from '../../clock/clock.js';
import { DisciplinedClock } from '../../clock/disciplined-clock.js';

/** Pairs of readings for each measurement; the one with the shortest round trip counts. */
const PAIRS = 9;
/** Clocks further apart than two hours use different epochs. */
const OFFSET_NS_MAX = 7_200_000_000_000n;

export interface Difference {
  /** Since the first measurement, ns. */
  readonly elapsedNs: number;
  /** A minus B minus `baseNs`, ns. */
  readonly offsetNs: number;
  /**
   * 0; or, if the clocks use different epochs, the first offset, which is too large for a number of nanoseconds.
   */
  readonly baseNs: bigint;
  /** Time between the two readings of B around the one of A: the offset is known to half of it. */
  readonly delayNs: number;
  /**
   * The clock whose device is lost, or set to an unusable time: it follows the system clock meanwhile, and the
   * difference says nothing.
   */
  readonly lost?: string;
}

/** A minus B at this moment. */
export function difference(a: Clock, b: Clock, baseNs: bigint, startNs: bigint): Difference {
  let best: Difference | undefined;
  for (let i = 0; i < PAIRS; i++) {
    const before = b.nowBigInt();
    const between = a.nowBigInt();
    const after = b.nowBigInt();
    const delayNs = Number(after - before);
    if (best === undefined || delayNs < best.delayNs)
      best = {
        elapsedNs: Number(process.hrtime.bigint() - startNs),
        offsetNs: Number(between - before - baseNs) - delayNs / 2,
        baseNs,
        delayNs,
      };
  }
  return best!;
}

/** How much faster A runs than B, ppb; 0 with fewer than two measurements. */
export function ratePpb(differences: readonly Difference[]): number {
  const count = differences.length;
  const meanX = differences.reduce((sum, { elapsedNs }) => sum + elapsedNs, 0) / count;
  const meanY = differences.reduce((sum, { offsetNs }) => sum + offsetNs, 0) / count;
  let xx = 0;
  let xy = 0;
  for (const { elapsedNs, offsetNs } of differences) {
    xx += (elapsedNs - meanX) ** 2;
    xy += (elapsedNs - meanX) * (offsetNs - meanY);
  }
  return xx > 0 ? (xy / xx) * 1e9 : 0;
}

/**
 * Measures every `everyNs`, `count` times, or until `signal`; closes both clocks at the end. Takes what `--clock`
 * takes. Throws the ClockErrors of chooseClock and of readings.
 */
export async function* measurements(
  aSpec: string,
  bSpec: string,
  everyNs: number,
  count: number,
  signal?: AbortSignal,
): AsyncGenerator<Difference> {
  const { clock: a } = await chooseClock(aSpec, {});
  let b: Clock | undefined;
  try {
    ({ clock: b } = await chooseClock(bSpec, {}));
    const start = process.hrtime.bigint();
    const first = a.nowBigInt() - b.nowBigInt();
    const base = first > OFFSET_NS_MAX || first < -OFFSET_NS_MAX ? first : 0n;
    for (let i = 0; i < count; i++) {
      const lost = [a, b].find((clock) => clock instanceof DisciplinedClock && clock.report().source === 'realtime');
      yield { ...difference(a, b, base, start), ...(lost === undefined ? {} : { lost: lost.source }) };
      const due = Number(start + BigInt(Math.round((i + 1) * everyNs)) - process.hrtime.bigint()) / 1e6;
      if (i + 1 < count && due > 0) await delay(due, undefined, signal === undefined ? {} : { signal });
    }
  } catch (error) {
    if (signal?.aborted !== true) throw error;
  } finally {
    a.close();
    b?.close();
  }
}

/** What is compared by default: the system clock and the host's best hardware clock, usable or not, or the raw one. */
export async function defaultPair(surroundings?: Surroundings): Promise<readonly [string, string]> {
  const [best] = await candidates(surroundings);
  return ['realtime', best?.device === undefined ? 'monotonic-raw' : best.spec];
}
