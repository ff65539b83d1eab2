/** Clock figures in readable form. */
import type { ClockStatus } from '../clock/quality/statement.js';
import { Colour } from './terminal.js';
import { formatDuration } from './units.js';

export const STATUS_COLOURS: Readonly<Record<ClockStatus, Colour>> = {
  synchronized: Colour.green,
  stepped: Colour.yellow,
  'free-running': Colour.yellow,
  lost: Colour.red,
  unknown: Colour.dim,
};

/** Nanoseconds with a sign and a fitting unit. */
export function signed(ns: number): string {
  return `${ns < 0 ? '−' : '+'}${formatDuration(Math.abs(ns))}`;
}

export function bound(errorNs: number | null): string {
  return errorNs === null ? 'unknown' : `±${formatDuration(errorNs)}`;
}
