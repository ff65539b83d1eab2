/**
 * Checks the clocks: which one a replica or client would use here, what disciplines it, and how far it can be trusted.
 */
import { setTimeout as delay } from 'node:timers/promises';
import { candidates } from '../../clock/choose.js';
import { listDevices, type ClockDevice } from '../../clock/devices.js';
import { HostClock } from '../../clock/host-clock.js';
import { ERROR_LIMIT_NS, type QualitySourceName, type Stated } from '../../clock/quality/statement.js';
import { deviceStatements, systemStatements } from '../../clock/host-clock.js';
import { probeDevice } from '../../clock/probe.js';
import { native } from '../../native/addon.js';
import { formatDuration } from '../../console/units.js';
import { ok, skip, warn, type Finding } from './finding.js';

/** A disciplined clock knows its device to within microseconds at first, and far better after some samples. */
const SETTLE_MS = 500;

/** Only for this host itself, not for one mounted elsewhere. */
export async function checkClocks(): Promise<Finding[]> {
  const devices = listDevices();
  const findings = devices.map(checkDevice);
  const considered = await candidates();
  const chosen = considered.find(({ usable }) => usable)!;
  findings.push(ok('clock', `auto takes ${chosen.spec}: ${chosen.why}`));
  try {
    const clock = await HostClock.open('auto');
    if (clock.source.startsWith('disciplined:')) await delay(SETTLE_MS);
    findings.push(judge(clock));
    clock.close();
  } catch (error) {
    findings.push(
      warn(
        'clock quality',
        (error as Error).message,
        'choose another clock with --clock; jitpaxos clock list shows the clocks of this host',
      ),
    );
  }
  const system = await systemStatements(native);
  const ofDevices = await Promise.all(
    devices.map(async (device) =>
      (await deviceStatements(native, device)).map((stated) => fromStatement(stated, device.path)),
    ),
  );
  findings.push(...system.map((stated) => fromStatement(stated)), ...ofDevices.flat(), ...checkTai(system));
  return findings;
}

/** Whether this user can read the device, and whether it was ever set. */
function checkDevice(device: ClockDevice): Finding {
  const check = `clock ${device.name}`;
  if (!native.available) return skip(check, 'the native addon is not loaded');
  const { method, epoch, problem } = probeDevice(native, device.path);
  if (problem === undefined)
    return ok(check, `${device.path} (${device.clockName}) counts ${epoch!.toUpperCase()} and is sampled by ${method}`);
  const [found, ...advice] = problem.split(': ');
  return warn(check, found!, advice.length > 0 ? advice.join(': ') : 'see docs/operate/clocks.md, permissions');
}

export function judge(clock: Pick<HostClock, 'source' | 'quality'>): Finding {
  const { status, errorNs, healthy, found } = clock.quality;
  const stated = `${clock.source}: ${status}${errorNs === null ? ', error unknown' : `, within ${formatDuration(errorNs)}`} (${found})`;
  if (healthy && errorNs !== null) return ok('clock quality', stated);
  return warn(
    'clock quality',
    stated,
    'results stay right, but the worse the clock, the more commits need more than one round trip; run linuxptp or chrony on every host (docs/operate/clocks.md)',
  );
}

/**
 * What each source states about the clock. A missing source needs no action; a source that this user may not ask
 * does. An unknown error is a warning, and so is an error that is too wide. `device`: whose clock it is; undefined for
 * the system's.
 */
export function fromStatement(stated: Stated, device?: string): Finding {
  const check = `clock by ${stated.available ? stated.statement.source : stated.source}`;
  const of = device === undefined ? '' : `${device}: `;
  if (!stated.available)
    return /EACCES|EPERM/.test(stated.reason)
      ? warn(check, `${of}${stated.reason}`, MAY_NOT_ASK[stated.source] ?? 'give this user the right to it')
      : skip(check, `${of}${stated.reason}`);
  const { source, status, errorNs, found } = stated.statement;
  const text = `${of}${status}, ${errorNs === null ? 'error unknown' : `within ${formatDuration(errorNs)}`}: ${found}`;
  if (status !== 'synchronized') return warn(check, text, ADVICE[source]);
  if (errorNs === null)
    return warn(
      check,
      text,
      UNKNOWN_ERROR[source] ?? 'ask a source that states an error: chrony with a server, ClockBound, or ptp4l',
    );
  return errorNs > ERROR_LIMIT_NS ? warn(check, text, TOO_WIDE) : ok(check, text);
}

const MAY_NOT_ASK: Partial<Readonly<Record<QualitySourceName, string>>> = {
  ptp4l:
    "before linuxptp 4.0 only root may use ptp4l's socket: after ptp4l has started, give the replicas' group access to it (chgrp, chmod)",
};

const UNKNOWN_ERROR: Partial<Readonly<Record<QualitySourceName, string>>> = {
  kernel:
    'systemd-timesyncd and phc2sys do not state how far the clock may be off; chrony does, and so does ptp4l if it may be asked',
  chrony:
    'chrony does not count the error of a reference clock; a PTP clock whose driver states its error (AWS), or an additional NTP server, gives a bound',
  platform:
    'the hypervisor or cloud sets this clock and does not say how well; the clock is used, and its error is unknown',
};

const TOO_WIDE = `above ${ERROR_LIMIT_NS / 1e6} ms this clock holds back no requests, and more commits need more than one round trip: check which server or master it follows. An error of tens of seconds is a missing offset of TAI`;

const ADVICE: Readonly<Record<QualitySourceName, string>> = {
  kernel:
    'no daemon tells the kernel that it disciplines the system clock: start chrony, or phc2sys beside ptp4l. If replicas and clients use a hardware clock, this may stay as it is',
  chrony: 'chronyc sources -v says why no source is chosen: reachability, or the firewall on UDP 123',
  clockbound: 'see the logs of clockbound and chronyd',
  ptp4l:
    'pmc -u -b 0 "GET PORT_DATA_SET" shows the port: is there a master in this domain, and does the switch pass PTP?',
  ena: 'ethtool -i INTERFACE: the ENA driver has to be 2.10 or later, loaded with phc_enable=1',
  platform: 'check what the hypervisor or cloud says about its clock',
};

/** The kernel's TAI offset: 0 until a daemon sets it, and until then CLOCK_TAI is not TAI. */
function checkTai(statements: readonly Stated[]): Finding[] {
  for (const stated of statements) {
    if (!stated.available || stated.statement.source !== 'kernel') continue;
    const offset = stated.statement.detail['taiOffsetS'];
    return [
      offset === 0
        ? ok('tai offset', 'not set: --clock tai reads the same as realtime here')
        : ok('tai offset', `${offset} s`),
    ];
  }
  return [];
}
