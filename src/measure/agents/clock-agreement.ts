/**
 * Which clocks of a load on several hosts can be believed. Each host states an error bound for its wall clock, or none;
 * the coordinator measures by itself how far each clock is from its own, as exactly as a round trip allows.
 *
 * The rule: a stated bound is believed only while what is measured fits it, and a clock without a bound is never called
 * right. The reference is the clock that fits most others that state a bound, and among those the one with the smallest
 * bound; it is the coordinator's if nobody states one. A clock that cannot be believed is corrected by what was measured,
 * if that shows a difference at all.
 */
import { formatDuration } from '../../console/units.js';
import { signed } from '../../console/clock-values.js';
import type { StatedClock } from './control-messages.js';

/** One clock minus another, ns, and how far that may be off. */
export interface ClockOffset {
  readonly offsetNs: number;
  readonly uncertaintyNs: number;
}

export interface ClockVerdict {
  /** `unknown`: nothing states a bound. `wrong`: it is further from the reference than the bounds of both allow. */
  readonly trust: 'good' | 'unknown' | 'wrong';
  /** What is to be taken off this clock, ns: 0 if it is believed, or if no difference shows. */
  readonly aheadNs: number;
  /** For people, without the name of the host; undefined if the clock is good. */
  readonly remark: string | undefined;
}

export interface Agreement {
  /** The coordinator's own clock minus the reference, ns. */
  readonly ownAheadNs: number;
  readonly own: ClockVerdict;
  /** In the order of the agents. */
  readonly agents: readonly ClockVerdict[];
}

interface Judged {
  readonly stated: StatedClock;
  /** Minus the coordinator's clock. */
  readonly offset: ClockOffset;
}

export function judgeClocks(own: StatedClock, agents: readonly Judged[]): Agreement {
  const all: readonly Judged[] = [{ stated: own, offset: { offsetNs: 0, uncertaintyNs: 0 } }, ...agents];
  const bounded = all.filter(({ stated }) => boundOf(stated) !== null);
  const fitting = (one: Judged): number => bounded.filter((other) => fits(one, other)).length;
  const [reference = all[0]!] = [...bounded].sort(
    (a, b) => fitting(b) - fitting(a) || boundOf(a.stated)! - boundOf(b.stated)!,
  );
  const verdicts = all.map((each) => verdictOf(each, reference));
  return { ownAheadNs: verdicts[0]!.aheadNs, own: verdicts[0]!, agents: verdicts.slice(1) };
}

/** A bound of a clock that is not synchronized says nothing. */
function boundOf({ status, errorNs }: StatedClock): number | null {
  return status === 'synchronized' ? errorNs : null;
}

/** Two clocks that state a bound are no further apart than the bounds and the measurement allow. */
function fits(a: Judged, b: Judged): boolean {
  const allowedNs = a === b ? 0 : a.offset.uncertaintyNs + b.offset.uncertaintyNs;
  return (
    Math.abs(a.offset.offsetNs - b.offset.offsetNs) <=
    allowedNs + (boundOf(a.stated) ?? Infinity) + (boundOf(b.stated) ?? Infinity)
  );
}

function verdictOf(judged: Judged, reference: Judged): ClockVerdict {
  const { stated, offset } = judged;
  const bound = boundOf(stated);
  const offsetNs = offset.offsetNs - reference.offset.offsetNs;
  const uncertaintyNs = judged === reference ? 0 : offset.uncertaintyNs + reference.offset.uncertaintyNs;
  const shows = Math.abs(offsetNs) > uncertaintyNs;
  const measured =
    judged === reference ? '' : `; measured ${signed(offsetNs)} ± ${formatDuration(uncertaintyNs)} from the reference`;
  if (bound === null)
    return {
      trust: 'unknown',
      aheadNs: shows ? offsetNs : 0,
      remark: `nothing states how far its clock is from true time (${stated.status})${measured}`,
    };
  if (fits(judged, reference)) return { trust: 'good', aheadNs: 0, remark: undefined };
  return {
    trust: 'wrong',
    aheadNs: offsetNs,
    remark: `its clock is wrong: it states ±${formatDuration(bound)}${measured}`,
  };
}
