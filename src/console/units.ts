/**
 * Numbers with units, in the form that users write: `5s`, `200ms`, `64KiB`. A duration without a unit is refused,
 * because its meaning is ambiguous; a size without one is bytes.
 */

const DURATION_NS: Readonly<Record<string, number>> = { ns: 1, us: 1e3, µs: 1e3, ms: 1e6, s: 1e9, m: 60e9, h: 3600e9 };
const SIZE_BYTES: Readonly<Record<string, number>> = {
  '': 1,
  B: 1,
  KB: 1e3,
  KiB: 1024,
  MB: 1e6,
  MiB: 1024 ** 2,
  GB: 1e9,
  GiB: 1024 ** 3,
};

const NUMBER = String.raw`(\d+(?:\.\d+)?)`;

/** Nanoseconds, or undefined if `text` is not a duration. */
export function parseDuration(text: string): number | undefined {
  const match = new RegExp(`^${NUMBER}\\s*(ns|us|µs|ms|s|m|h)$`).exec(text.trim());
  return match ? Math.round(Number(match[1]) * DURATION_NS[match[2]!]!) : undefined;
}

/** In the form that `parseDuration` reads, in the largest unit that divides it: `5ms`, `1h`. */
export function writeDuration(ns: number): string {
  const [unit, each] = Object.entries(DURATION_NS)
    .filter(([, size]) => ns > 0 && ns % size === 0)
    .at(-1) ?? ['s', 1e9];
  return `${ns / each}${unit}`;
}

/** Bytes, or undefined if `text` is not a size. */
export function parseSize(text: string): number | undefined {
  const match = new RegExp(`^${NUMBER}\\s*(B|KB|KiB|MB|MiB|GB|GiB)?$`).exec(text.trim());
  if (!match) return undefined;
  const bytes = Number(match[1]) * SIZE_BYTES[match[2] ?? '']!;
  return Number.isInteger(bytes) ? bytes : undefined;
}

/** A whole number ≥ 0, `_` and `,` allowed as separators, or undefined. */
export function parseCount(text: string): number | undefined {
  const digits = text.trim().replace(/(?<=\d)[_,](?=\d)/g, '');
  const value = Number(digits);
  return /^\d+$/.test(digits) && Number.isSafeInteger(value) ? value : undefined;
}

const RATE_FACTORS: Readonly<Record<string, number>> = { '': 1, k: 1e3, M: 1e6 };

/** Operations a second, like `500`, `10k` or `1.5M`; undefined if `text` is not a rate, or is 0. */
export function parseRate(text: string): number | undefined {
  const match = new RegExp(`^${NUMBER}\\s*(k|M)?$`).exec(text.trim());
  if (!match) return undefined;
  const rate = Number(match[1]) * RATE_FACTORS[match[2] ?? '']!;
  return rate > 0 ? rate : undefined;
}

/** A duration in ns with three significant digits and a fitting unit; – if it was not measured. */
export function formatDuration(ns: number | null): string {
  if (ns === null) return '–';
  if (ns < 1e3) return `${Math.round(ns)} ns`;
  if (ns < 1e6) return `${significant(ns / 1e3)} µs`;
  if (ns < 1e9) return `${significant(ns / 1e6)} ms`;
  return `${significant(ns / 1e9)} s`;
}

/** A long duration in whole minutes, hours or days; a short one like formatDuration. */
export function formatLongDuration(ns: number): string {
  const minutes = ns / 60e9;
  if (minutes < 2) return formatDuration(ns);
  if (minutes < 120) return `${Math.floor(minutes)} min`;
  return minutes < 2 * 24 * 60
    ? `${Math.floor(minutes / 60)} h`
    : `${formatCount(Math.floor(minutes / (24 * 60)))} days`;
}

/** Bytes with three significant digits and a fitting unit. */
export function formatBytes(bytes: number): string {
  if (bytes < 1024) return `${bytes} B`;
  if (bytes < 1024 ** 2) return `${significant(bytes / 1024)} KiB`;
  return bytes < 1024 ** 3 ? `${significant(bytes / 1024 ** 2)} MiB` : `${significant(bytes / 1024 ** 3)} GiB`;
}

/** A rate a second, with one decimal below ten. */
export function formatRate(rate: number): string {
  return rate > 0 && rate < 10 ? rate.toFixed(1) : formatCount(rate);
}

/** A number with thousands separators, for display. */
export function formatCount(value: number): string {
  return Math.round(value).toLocaleString('en-US');
}

function significant(value: number): string {
  return value >= 100 ? value.toFixed(0) : value >= 10 ? value.toFixed(1) : value.toFixed(2);
}
