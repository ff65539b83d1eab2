/**
 * Seconds of the wall clock, in which client processes report for a histogram log. The seconds of all processes begin
 * together, on all hosts whose clocks agree. Durations are still measured by CLOCK_MONOTONIC.
 */
import { hostMonotonicNs } from '../../clock/monotonic.js';
import type { HistogramData } from '../../metrics/histogram.js';

const NS_PER_MS = 1e6;
const MS_PER_SECOND = 1000;

/** The wall clock of this host, ms since the epoch: for telling when, not how long. */
export function wallClockMs(): number {
  return Date.now();
}

/** A second of the wall clock, and CLOCK_MONOTONIC, ns, when it began. */
export interface SecondBase {
  readonly second: number;
  readonly startNs: number;
}

/** What ended in a part of one second, by tag. Times are ms since the epoch. */
export interface TaggedSecond {
  readonly second: number;
  readonly fromMs: number;
  readonly toMs: number;
  readonly tags: Readonly<Record<string, HistogramData>>;
}

/** How the parent of client processes asks for their seconds. */
export interface SecondsWanted {
  readonly base: SecondBase;
  /** Called with the seconds of client process `client`, in order. */
  readonly onSecond: (client: number, second: TaggedSecond) => void;
}

/** The current second. A wall clock that is set later is not followed: the seconds of a run have one length. */
export function currentSecond(): SecondBase {
  const wallMs = wallClockMs();
  const second = Math.floor(wallMs / MS_PER_SECOND);
  return { second, startNs: hostMonotonicNs() - (wallMs - second * MS_PER_SECOND) * NS_PER_MS };
}
