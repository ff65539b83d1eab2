/**
 * `--start-at`: when a load begins, by the wall clock. Given to benches on several hosts by hand, it makes them begin
 * together, as exactly as the clocks of the hosts agree, without anything that coordinates them.
 */
import { setTimeout as delay } from 'node:timers/promises';
import type { Output } from '../../console/command.js';
import { CliError } from '../../console/exit.js';
import { LiveFrame } from '../../console/live-frame.js';
import { monotonicAt, wallClockMs } from './wall-seconds.js';

const MS_PER_MINUTE = 60_000;
/** A typing error in the hour is more likely than such patience. */
const AHEAD_MS_MAX = 60 * MS_PER_MINUTE;
/** The client processes are told of their start this long before. */
const NOTICE_MS = 100;
const REFRESH_MS = 200;
/** `next-minute` leaves this long for connecting the clients, which takes seconds on a host that is busy. */
const CONNECT_MS = 15_000;
const ZONED = /^\d{4}-\d\d-\d\dT\d\d:\d\d(?::\d\d(?:\.\d{1,3})?)?(?:Z|[+-]\d\d:\d\d)$/;

/**
 * `next-minute`, the first full minute that is at least 15 s ahead, or a time of ISO 8601 with its zone, such as 2026-12-01T09:30:00Z. Returns ms since the epoch. Throws
 * CliError `flag-invalid` if it is no such time, or not in the coming hour.
 */
export function parseStartAt(text: string, nowMs: number): number {
  if (text === 'next-minute') return Math.ceil((nowMs + CONNECT_MS) / MS_PER_MINUTE) * MS_PER_MINUTE;
  const atMs = ZONED.test(text) ? Date.parse(text) : NaN;
  if (Number.isNaN(atMs))
    throw new CliError(
      'flag-invalid',
      `--start-at "${text}" is neither next-minute nor a time with its zone, such as ${isoText(nowMs + 2 * MS_PER_MINUTE)}; correct it`,
    );
  if (atMs <= nowMs)
    throw new CliError(
      'flag-invalid',
      `--start-at ${text} is past: it is ${isoText(nowMs)} on this host; give a later time, and compare the clocks of the hosts`,
    );
  if (atMs - nowMs > AHEAD_MS_MAX)
    throw new CliError(
      'flag-invalid',
      `--start-at ${text} is more than an hour ahead: it is ${isoText(nowMs)} on this host; give an earlier time, and compare the clocks of the hosts`,
    );
  return atMs;
}

/** Says when the load begins: before anything is started, so that the hosts can be compared while there is time. */
export function announceStart(atMs: number, output: Output): void {
  output.note(`starts at ${isoText(atMs)}, in ${((atMs - wallClockMs()) / 1000).toFixed(1)} s`);
}

/**
 * Waits until shortly before `atMs`, and shows how long. Returns the time as CLOCK_MONOTONIC, ns. Throws CliError
 * `flag-invalid` if the time has passed.
 */
export async function waitForStart(atMs: number, output: Output): Promise<number> {
  const leftMs = (): number => atMs - wallClockMs();
  if (leftMs() <= 0)
    throw new CliError(
      'flag-invalid',
      `--start-at ${isoText(atMs)} passed before the clients were connected; give a later time`,
    );
  const frame = new LiveFrame(output);
  try {
    // In steps, because the clock may be corrected meanwhile.
    for (let left = leftMs(); left > NOTICE_MS; left = leftMs()) {
      frame.draw([`starts in ${(left / 1000).toFixed(1)} s`]);
      await delay(Math.min(REFRESH_MS, left - NOTICE_MS));
    }
  } finally {
    frame.end();
  }
  return monotonicAt(atMs);
}

function isoText(ms: number): string {
  return new Date(Math.floor(ms)).toISOString();
}
