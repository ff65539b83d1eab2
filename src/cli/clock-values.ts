/** Figures of clocks as people read them. */
import { formatDuration } from './units.js';

/** Nanoseconds with a sign and a fitting unit. */
export function signed(ns: number): string {
  return `${ns < 0 ? '−' : '+'}${formatDuration(Math.abs(ns))}`;
}

export function bound(errorNs: number | null): string {
  return errorNs === null ? 'unknown' : `±${formatDuration(errorNs)}`;
}
