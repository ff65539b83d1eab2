/**
 * Seconds of the wall clock, in which client processes report for a histogram log. The seconds of all processes begin
 * together, on all hosts whose clocks agree. Durations are still measured by CLOCK_MONOTONIC.
 */
import type { Clock } from '../../clock/clock.js';
import { hostMonotonicNs } from '../../clock/monotonic.js';
import { openClock } from '../../clock/open.js';
import type { HistogramData } from '../../metrics/histogram.js';
import type { OneWaySecond } from '../oneway/second.js';

const NS_PER_MS = 1e6;
const MS_PER_SECOND = 1000;

/** Pairs of readings; the closest pair counts, because a process may be preempted between two. */
const SAMPLES = 32;

let wallClock: Clock | undefined;
const halves = new Int32Array(2);

/** The wall clock of this host, ms since the epoch, with a fraction: for telling when, not how long. */
export function wallClockMs(): number {
  wallClock ??= openClock('realtime');
  wallClock.writeHalves(halves, 0);
  const ns = (BigInt(halves[0]! >>> 0) << 32n) | BigInt(halves[1]! >>> 0);
  return Number(ns / 1000n) / 1000;
}

/** CLOCK_MONOTONIC, ns, when the wall clock says `wallMs`, if nobody sets it until then. @param read reads the clock */
export function monotonicAt(wallMs: number, read: () => number = wallClockMs): number {
  let narrowest = Infinity;
  let at = 0;
  for (let i = 0; i < SAMPLES; i++) {
    const before = hostMonotonicNs();
    const between = read();
    const after = hostMonotonicNs();
    if (after - before >= narrowest) continue;
    narrowest = after - before;
    at = before + narrowest / 2 + (wallMs - between) * NS_PER_MS;
  }
  return at;
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
  /** One-way delays, if they are measured. */
  readonly oneWay?: readonly OneWaySecond[];
}

/** How the parent of client processes asks for their seconds. */
export interface SecondsWanted {
  readonly base: SecondBase;
  /** Time between two questions of a client process about one-way delays, ms; undefined: it asks none. */
  readonly oneWayMs: number | undefined;
  /** Called with the seconds of client process `client`, in order. */
  readonly onSecond: (client: number, second: TaggedSecond) => void;
}

/** The current second. A wall clock that is set later is not followed: the seconds of a run have one length. */
export function currentSecond(read: () => number = wallClockMs): SecondBase {
  const second = Math.floor(read() / MS_PER_SECOND);
  return { second, startNs: monotonicAt(second * MS_PER_SECOND, read) };
}
