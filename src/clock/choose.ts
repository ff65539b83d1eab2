/**
 * `auto`: the best clock of the host that somebody keeps, and why.
 *
 * A PTP hardware clock is taken only when there is evidence that somebody sets it: ptp4l follows a master on its port, the
 * driver states a bound, or the platform keeps it. A card's clock that nobody keeps is set when the driver loads and
 * drifts from there; it would look like the best clock of all.
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
import { readPtp4l, type Ptp4lReport } from './quality/ptp4l.js';
import { parseClockSpec } from './spec.js';

export interface Candidate {
  /** As `--clock` takes it. */
  readonly spec: string;
  readonly usable: boolean;
  /** Why it is better than those behind it, or why it is none. */
  readonly why: string;
  /** The hardware clock behind it, and what came of opening it; undefined for the system clock. */
  readonly device?: ClockDevice;
  readonly probed?: Probed;
}

/** For tests: what is asked in place of this host. */
export interface Surroundings {
  readonly binding?: NativeBinding;
  readonly root?: string;
  readonly ptp4lSockets?: readonly string[];
  readonly probe?: (path: string) => Probed;
}

/** All candidates of this host, best first; the last one is the system clock. Opens every device for a moment. */
export async function candidates(surroundings: Surroundings = {}): Promise<Candidate[]> {
  const { binding = native, root = '/', probe = (path: string) => probeDevice(binding, path) } = surroundings;
  const system = { spec: 'realtime', usable: true, why: 'the system clock, always there' };
  const devices = listDevices(root);
  if (devices.length === 0) return [system];
  const answer = await readPtp4l(binding, surroundings.ptp4lSockets);
  const judged = devices.map((device) => {
    // Before anything is asked of its driver: ENA states the bound of the last reading, and none before the first.
    const probed = probe(device.path);
    const keeper = judge(device, answer.report, root);
    return { spec: `disciplined:${device.path}`, ...(probed.problem === undefined ? keeper : { usable: false, why: probed.problem }), device, probed };
  });
  return [...judged.filter(({ usable }) => usable), ...judged.filter(({ usable }) => !usable), system];
}

/** Whether somebody keeps the device. */
function judge(device: ClockDevice, ptp4l: Ptp4lReport | undefined, root: string): Pick<Candidate, 'usable' | 'why'> {
  if (ptp4l?.interface !== undefined && device.interfaces.includes(ptp4l.interface)) {
    const { portState, timestamping, grandmaster } = ptp4l;
    if (timestamping === 'software') return { usable: false, why: `ptp4l on ${ptp4l.interface} stamps in software: it keeps the system clock, and this one runs free` };
    if (portState === 'slave') return { usable: true, why: `ptp4l on ${ptp4l.interface} follows ${grandmaster}` };
    return { usable: false, why: `ptp4l on ${ptp4l.interface} follows nobody: its port is ${portState}` };
  }
  const ena = readEna(device.name, `${root}/sys`);
  if (ena.available && ena.statement.status === 'synchronized') return { usable: true, why: `its driver states a bound: ${ena.statement.found}` };
  const platform = readPlatform(device);
  if (platform.available) return { usable: true, why: platform.statement.found };
  return { usable: false, why: 'nobody is known to keep it: no ptp4l follows a master on its port, and its driver states no bound; name it with --clock if somebody does' };
}

export interface Chosen {
  readonly clock: Clock;
  readonly why: string;
}

/**
 * Opens what a specification names, `auto` and `phc` included.
 *
 * Throws ClockError as openClock; `clock-not-found` for `phc` on a host without a usable device.
 */
export async function chooseClock(spec: string, options: DisciplinedOptions, surroundings: Surroundings = {}): Promise<Chosen> {
  const { binding = native } = surroundings;
  const parsed = parseClockSpec(spec);
  if (parsed.kind === 'disciplined' && parsed.path !== undefined) return { clock: openClock(spec, binding, options), why: 'as asked' };
  if (parsed.kind !== 'auto' && parsed.kind !== 'disciplined') return { clock: openClock(spec, binding), why: 'as asked' };
  const passedOver: string[] = [];
  for (const candidate of await candidates(surroundings)) {
    if (candidate.spec === 'realtime') {
      if (parsed.kind === 'auto') return { clock: openClock('realtime', binding), why: passedOver.length === 0 ? 'there is no PTP hardware clock' : passedOver.join('; ') };
      continue;
    }
    try {
      // Who asks for `phc` takes any device that works; `auto` only one that somebody keeps.
      if (candidate.usable || (parsed.kind === 'disciplined' && candidate.probed?.problem === undefined)) return { clock: openClock(candidate.spec, binding, options), why: candidate.why };
      passedOver.push(candidate.why.startsWith('/') ? candidate.why : `${candidate.device!.path}: ${candidate.why}`);
    } catch (error) {
      passedOver.push((error as Error).message);
    }
  }
  throw new ClockError('clock-not-found', `phc: this host has no PTP hardware clock that can be used${passedOver.length === 0 ? '' : ` (${passedOver.join('; ')})`}; \`jitpaxos clock list\` shows what there is; use realtime`);
}
