/** Scales of charts: values to positions from 0 to 1, and ticks at round numbers. */
import { formatCount } from '../../console/units.js';

export interface Tick {
  readonly at: number;
  readonly label: string;
}

export interface Scale {
  at(value: number): number;
  /** About `wanted` ticks at most. */
  ticks(wanted: number): Tick[];
}

/** A scale from 0 to the next round number at or above `high`. */
export function linearScale(high: number, format: (value: number) => string): Scale {
  const top = niceTop(Math.max(high, Number.MIN_VALUE));
  return {
    at: (value) => clamp(value / top),
    ticks: (wanted) => {
      const step = niceStep(top / Math.max(1, wanted));
      return Array.from({ length: Math.floor(top / step + 1e-9) + 1 }, (_, index) => ({
        at: (index * step) / top,
        label: format(index * step),
      }));
    },
  };
}

/** Ticks at 1, 2 and 5 times the powers of ten, or only at powers of ten if these are many. */
export function logScale(low: number, high: number, format: (value: number) => string): Scale {
  const margin = 0.04;
  const bottom = Math.log10(Math.max(low, Number.MIN_VALUE)) - margin;
  const span = Math.max(0.3, Math.log10(Math.max(high, low)) + margin - bottom);
  const at = (value: number): number => clamp((Math.log10(Math.max(value, Number.MIN_VALUE)) - bottom) / span);
  const within = (steps: readonly number[]): Tick[] => {
    const ticks: Tick[] = [];
    for (let power = Math.floor(bottom); power <= Math.ceil(bottom + span); power++) {
      for (const step of steps) {
        const value = Number((step * 10 ** power).toPrecision(1));
        const log = Math.log10(value);
        if (log >= bottom && log <= bottom + span) ticks.push({ at: at(value), label: format(value) });
      }
    }
    return ticks;
  };
  return {
    at,
    ticks: (wanted) => [[1, 2, 5], [1, 3], [1]].map(within).find((ticks) => ticks.length <= wanted) ?? within([1]),
  };
}

/**
 * Percentiles from 0, on a scale that gives every nine after the point the same width. The right end is the maximum.
 */
export function percentileScale(count: number): Scale {
  const decades = Math.max(1, Math.log10(Math.max(10, count)));
  const at = (percentile: number): number =>
    percentile >= 100 ? 1 : clamp(-Math.log10(1 - percentile / 100) / decades);
  return {
    at,
    ticks: (wanted) => {
      const labels = [0, 50, 90, 99, 99.9, 99.99, 99.999, 99.9999].filter(
        (percentile) =>
          at(percentile) < (wanted > 5 ? 0.94 : 0.84) && (percentile !== 50 || (wanted > 5 && decades < 6)),
      );
      return [
        ...labels.map((percentile) => ({ at: at(percentile), label: `${percentile} %` })),
        { at: 1, label: 'max' },
      ];
    },
  };
}

/** Seconds from 0 to `end`. */
export function timeScale(end: number): Scale {
  const span = Math.max(end, 0.1);
  return {
    at: (value) => clamp(value / span),
    ticks: (wanted) => {
      const step = niceStep(span / Math.max(1, wanted));
      return Array.from({ length: Math.floor(span / step + 1e-9) + 1 }, (_, index) => ({
        at: (index * step) / span,
        label: `${Number((index * step).toFixed(2))} s`,
      }));
    },
  };
}

/** A duration without superfluous digits, for ticks. */
export function tickDuration(ns: number): string {
  if (ns < 1e3) return `${ns} ns`;
  if (ns < 1e6) return `${ns / 1e3} µs`;
  return ns < 1e9 ? `${ns / 1e6} ms` : `${ns / 1e9} s`;
}

/** 1,500 → 1.5k. */
export function tickCount(value: number): string {
  if (value >= 1e6) return `${Number((value / 1e6).toPrecision(3))}M`;
  return value >= 1e3 ? `${Number((value / 1e3).toPrecision(3))}k` : formatCount(value);
}

function niceTop(value: number): number {
  const power = 10 ** Math.floor(Math.log10(value));
  return (
    [1, 1.2, 1.6, 2, 2.4, 3, 4, 5, 6, 8, 10]
      .map((factor) => factor * power)
      .find((candidate) => candidate >= value * (1 - 1e-9)) ?? 10 * power
  );
}

function niceStep(atLeast: number): number {
  const power = 10 ** Math.floor(Math.log10(atLeast));
  return (
    [1, 2, 5, 10].map((factor) => factor * power).find((candidate) => candidate >= atLeast * (1 - 1e-9)) ?? 10 * power
  );
}

function clamp(position: number): number {
  return Math.max(0, Math.min(1, position));
}
