/** The names by which users choose a clock: on the command line, in configuration files. */

import { ClockError } from './errors.js';

/** A clock of the kernel that needs no device. */
export type SystemClockName = 'realtime' | 'tai' | 'monotonic' | 'monotonic-raw';

/** A parsed clock specification. */
export type ClockSpec =
  /** The best clock of the host. */
  | { readonly kind: 'auto' }
  | { readonly kind: 'system'; readonly name: SystemClockName }
  /** A PTP hardware clock, asked for each reading. */
  | { readonly kind: 'phc'; readonly path: string }
  /** A PTP hardware clock, sampled and extrapolated; without a path, the best one of the host. */
  | { readonly kind: 'disciplined'; readonly path: string | undefined };

/** For messages and usage texts. */
export const CLOCK_SPEC_FORMS =
  'auto, realtime, tai, monotonic, monotonic-raw, phc, disciplined:/dev/ptp0, phc:/dev/ptp0';

/** Kinds of specification that name a device. */
const PREFIXES = { 'phc:': 'phc', 'disciplined:': 'disciplined' } as const;

/** Linux, PATH_MAX, with its terminating zero. */
const PATH_BYTES_MAX = 4096;

function invalid(spec: unknown, what: string): ClockError {
  const shown =
    typeof spec === 'string'
      ? JSON.stringify(spec.length > 80 ? `${spec.slice(0, 80)}…` : spec)
      : `a value of type ${typeof spec}`;
  return new ClockError('clock-spec-invalid', `${shown} is not a clock: ${what}; use one of ${CLOCK_SPEC_FORMS}`);
}

/** Parses a specification without opening anything. Throws ClockError `clock-spec-invalid`. */
export function parseClockSpec(spec: string): ClockSpec {
  switch (spec) {
    case 'auto':
      return { kind: 'auto' };
    case 'phc':
      return { kind: 'disciplined', path: undefined };
    case 'realtime':
    case 'tai':
    case 'monotonic':
    case 'monotonic-raw':
      return { kind: 'system', name: spec };
  }
  if (typeof spec !== 'string') throw invalid(spec, 'a name is needed');
  for (const [prefix, kind] of Object.entries(PREFIXES)) {
    if (!spec.startsWith(prefix)) continue;
    const path = spec.slice(prefix.length);
    if (!path.startsWith('/')) throw invalid(spec, `${prefix} must be followed by the absolute path of a device`);
    if (path.includes('\0')) throw invalid(spec, 'the path contains a zero byte');
    if (Buffer.byteLength(path) >= PATH_BYTES_MAX)
      throw invalid(spec, `the path is longer than ${PATH_BYTES_MAX - 1} bytes`);
    return { kind, path };
  }
  throw invalid(spec, 'no clock has this name');
}
