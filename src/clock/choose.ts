/**
 * `auto`: chooses the best disciplined clock of the host, and says why.
 *
 * A PTP hardware clock is chosen only with evidence that something disciplines it: ptp4l follows a master on its port,
 * the driver states an error bound, or the platform keeps it. An undisciplined card is set when its driver loads and
 * drifts from then on; it would look like the best clock of all.
 */
import { native, type NativeBinding } from '../native/addon.js';
import type { Clock } from './clock.js';
import { listDevices, type ClockDevice } from './devices.js';
import type { DisciplinedOptions } from './disciplined-clock.js';
import { ClockError } from './errors.js';
import { openClock } from './open.js';
import { probeDevice, type Probed } from './probe.js';
import { readEna } from './quality/ena.js';
import { readPlatform } from './quality/platform.js';
import { interpretPtp4l, readPtp4l, type Ptp4lReport } from './quality/ptp4l.js';
import { ERROR_LIMIT_NS } from './quality/statement.js';
import { parseClockSpec } from './spec.js';

export interface Candidate {
  /** In the form that `--clock` takes. */
  readonly spec: string;
  readonly usable: boolean;
  /**
   * The error bound that the clock's daemon or driver states, ns; null: it states none. Absent if the clock is not
   * usable, and for the system clock.
   */
  readonly errorNs?: number | null;
  /** Why it ranks above the candidates after it, or why it cannot be used. */
  readonly why: string;
  /** The hardware clock and the result of opening it; undefined for the system clock. */
  readonly device?: ClockDevice;
  readonly probed?: Probed;
}

/** For tests: what is asked instead of this host. */
export interface Surroundings {
  readonly binding?: NativeBinding;
  readonly root?: string;
  readonly ptp4lSockets?: readonly string[];
  readonly probe?: (path: string) => Probed;
}

/**
 * All candidates of this host, best first; the last one is the system clock. Opens every device for a moment.
 *
 * A clock of known error ranks above one of unknown error, and a smaller error ranks above a larger one. A device's
 * number says nothing: it follows the order in which drivers were loaded, and changes from boot to boot.
 */
export async function candidates(surroundings: Surroundings = {}): Promise<Candidate[]> {
  const { binding = native, root = '/', probe = (path: string) => probeDevice(binding, path) } = surroundings;
  const system = { spec: 'realtime', usable: true, why: 'the system clock, always there' };
  const devices = listDevices(root);
  if (devices.length === 0) return [system];
  const answer = await readPtp4l(binding, surroundings.ptp4lSockets);
  const judged = devices.map((device) => {
    // Before the driver is asked anything: ENA states the bound of the last reading, and no bound before the first
    // reading.
    const probed = probe(device.path);
    const keeper = judge(device, answer.report, root, answer.available ? undefined : answer.reason);
    return {
      spec: `disciplined:${device.path}`,
      ...(probed.problem === undefined ? keeper : { usable: false, why: probed.problem }),
      device,
      probed,
    };
  });
  const usable = judged.filter((candidate) => candidate.usable).sort((a, b) => compareErrors(a.errorNs, b.errorNs));
  return [...usable, ...judged.filter(({ usable }) => !usable), system];
}

/** Candidates with equal errors stay in the order of their device numbers. */
function compareErrors(a: number | null | undefined, b: number | null | undefined): number {
  if (typeof a === 'number' && typeof b === 'number') return a - b;
  return Number(typeof b === 'number') - Number(typeof a === 'number');
}

/** Whether anything disciplines the device. `unasked`: why ptp4l did not answer. */
function judge(
  device: ClockDevice,
  ptp4l: Ptp4lReport | undefined,
  root: string,
  unasked: string | undefined,
): Pick<Candidate, 'usable' | 'errorNs' | 'why'> {
  if (ptp4l?.interface !== undefined && device.interfaces.includes(ptp4l.interface)) {
    const { portState, timestamping, grandmaster } = ptp4l;
    if (timestamping === 'software')
      return {
        usable: false,
        why: `ptp4l on ${ptp4l.interface} timestamps in software: it disciplines the system clock, not this one`,
      };
    if (portState === 'slave')
      return within(interpretPtp4l(ptp4l).statement.errorNs, `ptp4l on ${ptp4l.interface} follows ${grandmaster}`);
    return { usable: false, why: `ptp4l on ${ptp4l.interface} follows no master: its port is ${portState}` };
  }
  const ena = readEna(device.name, `${root}/sys`);
  if (ena.available && ena.statement.status === 'synchronized')
    return within(ena.statement.errorNs, `its driver states a bound: ${ena.statement.found}`);
  const platform = readPlatform(device);
  if (platform.available) return { usable: true, errorNs: null, why: platform.statement.found };
  const silent =
    unasked !== undefined && /EACCES|EPERM|no answer/.test(unasked)
      ? `a ptp4l runs here and cannot be asked (${unasked})`
      : 'no ptp4l follows a master on its port';
  return {
    usable: false,
    why: `nothing is known to discipline it: ${silent}, and its driver states no bound; name it with --clock if something does`,
  };
}

/** A clock whose own daemon reports a large error is not used until the error is small again. */
function within(errorNs: number | null, why: string): Pick<Candidate, 'usable' | 'errorNs' | 'why'> {
  if (errorNs !== null && errorNs > ERROR_LIMIT_NS)
    return {
      usable: false,
      why: `${why}, and is up to ${(errorNs / 1e9).toPrecision(3)} s off: more than ${ERROR_LIMIT_NS / 1e6} ms`,
    };
  return { usable: true, errorNs, why };
}

export interface Chosen {
  readonly clock: Clock;
  readonly why: string;
}

/**
 * Opens the clock that a specification names, including `auto` and `phc`.
 *
 * Throws the ClockErrors of openClock, and `clock-not-found` for `phc` on a host without a usable device.
 */
export async function chooseClock(
  spec: string,
  options: DisciplinedOptions,
  surroundings: Surroundings = {},
): Promise<Chosen> {
  const { binding = native } = surroundings;
  const parsed = parseClockSpec(spec);
  if (parsed.kind === 'disciplined' && parsed.path !== undefined)
    return { clock: openClock(spec, binding, options), why: 'as asked' };
  if (parsed.kind !== 'auto' && parsed.kind !== 'disciplined')
    return { clock: openClock(spec, binding), why: 'as asked' };
  const passedOver: string[] = [];
  for (const candidate of await candidates(surroundings)) {
    if (candidate.spec === 'realtime') {
      if (parsed.kind === 'auto')
        return {
          clock: openClock('realtime', binding),
          why: passedOver.length === 0 ? 'there is no PTP hardware clock' : passedOver.join('; '),
        };
      continue;
    }
    try {
      // `phc` takes any device that works; `auto` takes only a disciplined one.
      if (candidate.usable || (parsed.kind === 'disciplined' && candidate.probed?.problem === undefined))
        return { clock: openClock(candidate.spec, binding, options), why: candidate.why };
      passedOver.push(candidate.why.startsWith('/') ? candidate.why : `${candidate.device!.path}: ${candidate.why}`);
    } catch (error) {
      passedOver.push((error as Error).message);
    }
  }
  throw new ClockError(
    'clock-not-found',
    `phc: this host has no PTP hardware clock that can be used${passedOver.length === 0 ? '' : ` (${passedOver.join('; ')})`}; \`jitpaxos clock list\` shows the clocks of this host; use realtime`,
  );
}
