/** Checks of the clocks: which one a replica or client would stamp by here, who keeps it, and how far it can be trusted. */
import { setTimeout as delay } from 'node:timers/promises';
import { candidates } from '../../clock/choose.js';
import { listDevices, type ClockDevice } from '../../clock/devices.js';
import { HostClock } from '../../clock/host-clock.js';
import type { QualitySourceName, Stated } from '../../clock/quality/statement.js';
import { deviceStatements, systemStatements } from '../../clock/host-clock.js';
import { probeDevice } from '../../clock/probe.js';
import { native } from '../../native/addon.js';
import { formatDuration } from '../units.js';
import { ok, skip, warn, type Finding } from './finding.js';

/** A disciplined clock knows its device to within microseconds at first, and far better after some samples. */
const SETTLE_MS = 500;

/** Of this host itself: not of one that is mounted elsewhere. */
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
    findings.push(warn('clock quality', (error as Error).message, 'name another clock with --clock; jitpaxos clock list shows what there is'));
  }
  const statements = [...(await systemStatements(native)), ...(await Promise.all(devices.map((device) => deviceStatements(native, device)))).flat()];
  findings.push(...statements.map(fromStatement), ...checkTai(statements));
  return findings;
}

/** Whether this user can read the device, and whether anybody has set it. */
export function checkDevice(device: ClockDevice): Finding {
  const check = `clock ${device.name}`;
  if (!native.available) return skip(check, 'the native addon is not loaded');
  const { method, epoch, problem } = probeDevice(native, device.path);
  if (problem === undefined) return ok(check, `${device.path} (${device.clockName}) counts ${epoch!.toUpperCase()} and is sampled by ${method}`);
  const [found, ...advice] = problem.split(': ');
  return warn(check, found!, advice.length > 0 ? advice.join(': ') : 'see docs/clocks.md, permissions');
}

export function judge(clock: Pick<HostClock, 'source' | 'quality'>): Finding {
  const { status, errorNs, healthy, found } = clock.quality;
  const stated = `${clock.source}: ${status}${errorNs === null ? ', error unknown' : `, within ${formatDuration(errorNs)}`} (${found})`;
  if (healthy && errorNs !== null) return ok('clock quality', stated);
  return warn('clock quality', stated, 'answers stay right, but the worse the clock the more commits take a second round trip; run linuxptp or chrony on every host (docs/clocks.md)');
}

/** What each source says of the clock; one that is not there is nothing to act on. */
export function fromStatement(stated: Stated): Finding {
  const check = `clock by ${stated.available ? stated.statement.source : stated.source}`;
  if (!stated.available) return skip(check, stated.reason);
  const { source, status, errorNs, found } = stated.statement;
  const text = `${status}, ${errorNs === null ? 'error unknown' : `within ${formatDuration(errorNs)}`}: ${found}`;
  return status === 'synchronized' ? ok(check, text) : warn(check, text, ADVICE[source]);
}

const ADVICE: Readonly<Record<QualitySourceName, string>> = {
  kernel: 'a daemon that keeps the system clock tells the kernel so: start chrony, or phc2sys beside ptp4l; where replicas and clients stamp by a hardware clock this may be left',
  chrony: 'chronyc sources -v says why no source is chosen: reachability, or the firewall on UDP 123',
  clockbound: 'see the logs of clockbound and chronyd',
  ptp4l: 'pmc -u -b 0 "GET PORT_DATA_SET" shows the port: is there a master in this domain, and does the switch pass PTP?',
  ena: 'ethtool -i INTERFACE: the ENA driver has to be 2.10 or later, loaded with phc_enable=1',
  platform: 'see what the hypervisor or cloud says of its clock',
};

/** The kernel's TAI offset: 0 until somebody sets it, and then CLOCK_TAI is no TAI. */
function checkTai(statements: readonly Stated[]): Finding[] {
  for (const stated of statements) {
    if (!stated.available || stated.statement.source !== 'kernel') continue;
    const offset = stated.statement.detail['taiOffsetS'];
    return [offset === 0 ? ok('tai offset', 'not set: --clock tai reads the same as realtime here') : ok('tai offset', `${offset} s`)];
  }
  return [];
}
