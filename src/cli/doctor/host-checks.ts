/**
 * Checks this host: what makes a replica slow, or keeps it from running. Each check looks at one thing and says what to
 * do.
 */
import { RETAINED_TIMES } from '../../protocol/replica/log-capacity.js';
import type { Limits } from '../../protocol/config.js';
import { createSocket } from 'node:dgram';
import { arch, availableParallelism, networkInterfaces, platform } from 'node:os';
import { native, type OwnBinding } from '../../native/addon.js';
import { isOldNode, NODE_MIN } from '../../host/version.js';
import { DEFAULT_TRANSPORT } from '../../transport/transport.js';
import { DEFAULT_DATAGRAM_BYTES } from '../../wire/envelope.js';
import { fail, ok, skip, warn, type Finding } from './finding.js';
import type { Host } from './host.js';

/** With fewer cores than this, a replica, its peers' interrupts and a client compete for time. */
const CORES_GOOD = 2;
/** Headers of UDP over IPv6. */
const HEADER_BYTES = 48;
/** Waking from an idle state deeper than this costs more than a round trip on a good network, µs. */
const IDLE_LATENCY_US_MAX = 50;
/** Share of processor time that the hypervisor gave to others. */
const STEAL_MAX = 0.01;

export function checkNode(version: string = process.versions.node): Finding {
  const found = `${version} on ${platform()} ${arch()}`;
  return isOldNode(version) ? fail('node', found, `install Node ${NODE_MIN} or later`) : ok('node', found);
}

export function checkAddon(binding: Omit<OwnBinding, 'addon'> = native): Finding {
  if (binding.available) return ok('addon', `the native addon is loaded (${binding.kind})`);
  return warn(
    'addon',
    `not loaded: ${binding.reason}`,
    'install a C++ compiler and python3, then run `npm run build:native`; without the addon there are no PTP clocks, and transport and hash are slower',
  );
}

/** The kernel's own time source: a slow one makes every clock reading a call to a device. */
export function checkClockSource(host: Host): Finding {
  const folder = 'sys/devices/system/clocksource/clocksource0';
  const source = host.read(`${folder}/current_clocksource`);
  if (source === undefined) return skip('clock source', 'the kernel does not tell');
  if (!['hpet', 'acpi_pm', 'jiffies', 'refined-jiffies'].includes(source)) return ok('clock source', source);
  return warn(
    'clock source',
    `${source}: a reading takes a microsecond or more`,
    `use one of ${host.read(`${folder}/available_clocksource`) ?? 'tsc'} if tsc is among them: echo tsc > /${folder}/current_clocksource; dmesg says why the kernel stopped using it`,
  );
}

export function checkPtpDevices(host: Host): Finding {
  const devices = host.list('dev').filter((name) => /^ptp\d+$/.test(name));
  if (devices.length === 0)
    return warn(
      'ptp clock',
      'no /dev/ptp*: the network card has no hardware clock, or the clock is not passed to this machine',
      'the closer the clocks, the more commits take one round trip: use a card with a PTP clock (ethtool -T INTERFACE), or the best NTP available',
    );
  return ok(
    'ptp clock',
    devices
      .map((name) => `/dev/${name} (${host.read(`sys/class/ptp/${name}/clock_name`) ?? 'name unknown'})`)
      .join(', '),
  );
}

export function checkTimeDaemon(host: Host): Finding {
  const running = host.processes();
  const precise = ['ptp4l', 'phc2sys', 'timemaster', 'sfptpd'].filter((name) => running.has(name));
  if (precise.includes('ptp4l') && !precise.includes('phc2sys') && !precise.includes('timemaster')) {
    return warn(
      'time daemon',
      `${precise.join(', ')} without phc2sys: the card's clock is right, and the system clock does not follow it`,
      'start phc2sys (linuxptp). Replicas and clients with --clock auto use the card directly',
    );
  }
  if (precise.length > 0) return ok('time daemon', precise.join(', '));
  const ntp = ['chronyd', 'ntpd'].find((name) => running.has(name));
  if (ntp !== undefined) return ok('time daemon', `${ntp}; PTP would be closer`);
  if (running.has('systemd-timesyn'))
    return warn(
      'time daemon',
      'systemd-timesyncd: milliseconds at best',
      'use chrony, or better linuxptp (ptp4l and phc2sys)',
    );
  return warn(
    'time daemon',
    'none runs here (it may run outside of this container)',
    'run linuxptp (ptp4l and phc2sys) or chrony on the host',
  );
}

/** Asks the kernel for the buffers that a replica will ask for. */
export async function checkSocketBuffers(): Promise<Finding[]> {
  const asked = { receive: DEFAULT_TRANSPORT.receiveBufferBytes, send: DEFAULT_TRANSPORT.sendBufferBytes };
  const socket = createSocket({ type: 'udp4', recvBufferSize: asked.receive, sendBufferSize: asked.send });
  try {
    await new Promise<void>((resolve, reject) => socket.once('error', reject).bind(0, '127.0.0.1', resolve));
    // Linux doubles the requested size, for its own bookkeeping.
    const share = platform() === 'linux' ? 2 : 1;
    return [
      socketBuffer('receive', 'net.core.rmem_max', socket.getRecvBufferSize() / share, asked.receive),
      socketBuffer('send', 'net.core.wmem_max', socket.getSendBufferSize() / share, asked.send),
    ];
  } catch (error) {
    return [
      fail(
        'socket buffers',
        `no UDP socket on 127.0.0.1: ${error instanceof Error ? error.message : String(error)}`,
        'find what forbids it: seccomp, or a missing loopback interface',
      ),
    ];
  } finally {
    socket.close();
  }
}

export function socketBuffer(direction: string, sysctl: string, got: number, asked: number): Finding {
  const check = `${direction} buffer`;
  if (got >= asked) return ok(check, `${got} bytes`);
  return warn(
    check,
    `${got} of ${asked} bytes: bursts are lost and sent again`,
    `sysctl -w ${sysctl}=${asked}, and a line in /etc/sysctl.d/ to make it permanent`,
  );
}

/** Datagrams that the kernel has dropped since the host started. */
export function checkUdpLosses(host: Host): Finding {
  const [names, values] = (host.read('proc/net/snmp') ?? '')
    .split('\n')
    .filter((line) => line.startsWith('Udp:'))
    .map((line) => line.split(/\s+/));
  if (names === undefined || values === undefined) return skip('udp losses', 'the kernel does not tell');
  const count = (name: string): number => Number(values[names.indexOf(name)] ?? 0);
  const lost = count('RcvbufErrors');
  const received = count('InDatagrams');
  if (lost === 0) return ok('udp losses', `none of ${received} datagrams since the host started`);
  return warn(
    'udp losses',
    `${lost} datagrams were lost because a receive buffer was full, ${received} were received`,
    'raise net.core.rmem_max, and give the replica a core of its own; then compare again under load',
  );
}

export function checkGovernor(host: Host): Finding {
  const governors = new Map<string, number>();
  for (const cpu of host.list('sys/devices/system/cpu').filter((name) => /^cpu\d+$/.test(name))) {
    const governor = host.read(`sys/devices/system/cpu/${cpu}/cpufreq/scaling_governor`);
    if (governor !== undefined) governors.set(governor, (governors.get(governor) ?? 0) + 1);
  }
  if (governors.size === 0) return skip('cpu governor', 'no frequency scaling to be seen (usual in a virtual machine)');
  const found = [...governors].map(([name, cores]) => `${name} on ${cores} cores`).join(', ');
  if (governors.size === 1 && governors.has('performance')) return ok('cpu governor', found);
  return warn(
    'cpu governor',
    found,
    'cpupower frequency-set -g performance: a core that first has to speed up answers late',
  );
}

export function checkIdleStates(host: Host): Finding {
  const folder = 'sys/devices/system/cpu/cpu0/cpuidle';
  const states = host.list(folder).filter((name) => name.startsWith('state'));
  if (states.length === 0) return skip('idle states', 'no idle states to be seen (usual in a virtual machine)');
  const deep = states.filter(
    (state) =>
      host.readNumber(`${folder}/${state}/disable`) !== 1 &&
      (host.readNumber(`${folder}/${state}/latency`) ?? 0) > IDLE_LATENCY_US_MAX,
  );
  if (deep.length === 0) return ok('idle states', `none takes more than ${IDLE_LATENCY_US_MAX} µs to wake from`);
  const named = deep
    .map((state) => `${host.read(`${folder}/${state}/name`) ?? state} (${host.read(`${folder}/${state}/latency`)} µs)`)
    .join(', ');
  return warn(
    'idle states',
    `${named}: an idle core wakes late`,
    `cpupower idle-set -D ${IDLE_LATENCY_US_MAX}, or hold /dev/cpu_dma_latency open`,
  );
}

/**
 * `addresses`: the replicas' addresses that may be this host's; without any, all interfaces that are up.
 * `datagramBytes`: the cluster file's value.
 */
export function checkMtu(
  host: Host,
  addresses: readonly string[],
  interfaces = networkInterfaces(),
  datagramBytes = DEFAULT_DATAGRAM_BYTES,
): Finding[] {
  const needed = datagramBytes + HEADER_BYTES;
  const findings: Finding[] = [];
  for (const [name, entries] of Object.entries(interfaces)) {
    const own = (entries ?? []).map(({ address }) => address);
    if (addresses.length > 0 ? !own.some((address) => addresses.includes(address)) : name === 'lo') continue;
    const mtu = host.readNumber(`sys/class/net/${name}/mtu`);
    if (mtu === undefined) findings.push(skip('mtu', `${name}: unknown`));
    else if (mtu < needed)
      findings.push(
        warn(
          'mtu',
          `${name}: ${mtu}, and a full datagram needs ${needed}`,
          `every full datagram is cut in two, and lost where fragments do not pass: raise the MTU on every host and switch, or write "datagramBytes": ${mtu - HEADER_BYTES} into the cluster file`,
        ),
      );
    else findings.push(ok('mtu', `${name}: ${mtu}`));
  }
  return findings.length > 0 ? findings : [skip('mtu', 'no interface to look at')];
}

export function checkCores(host: Host, cores: number = availableParallelism()): Finding {
  const [quota, period] = (host.read('sys/fs/cgroup/cpu.max') ?? 'max').split(' ');
  if (quota !== 'max' && quota !== undefined) {
    return warn(
      'cores',
      `${cores} cores, limited to ${(Number(quota) / Number(period ?? 100_000)).toFixed(2)} of them by a quota`,
      'a process that has used up its quota stands still until the next period, and the others suspect it: give it whole cores instead of a quota (Kubernetes: no CPU limit, or the static CPU manager)',
    );
  }
  if (cores < CORES_GOOD)
    return warn(
      'cores',
      `${cores}`,
      `a replica works best with ${CORES_GOOD} cores or more: one for itself, one for interrupts and everything else`,
    );
  return ok('cores', `${cores}`);
}

/** Bytes of tables for each log entry, and of the process without a log; both rounded up. */
const ENTRY_BYTES = 128;
const PROCESS_BYTES = 96 << 20;

/** Memory that a replica needs besides its state machine, also while another one fetches its state. */
export function neededBytes({ logBytes, logEntries }: Limits): number {
  return PROCESS_BYTES + (1 + RETAINED_TIMES) * logBytes + logEntries * ENTRY_BYTES;
}

export function checkMemory(host: Host, neededBytes: number): Finding {
  const needed = `${mebibytes(neededBytes)} for log, tables and transfers at these limits, and the state machine's own`;
  const available = /^MemAvailable:\s+(\d+) kB$/m.exec(host.read('proc/meminfo') ?? '');
  const free = available === null ? undefined : Number(available[1]) * 1024;
  const limit = host.readNumber('sys/fs/cgroup/memory.max');
  const room = Math.min(free ?? Infinity, limit ?? Infinity);
  if (room === Infinity) return skip('memory', 'the kernel does not tell');
  if (room < neededBytes)
    return fail(
      'memory',
      `${mebibytes(room)} available; needed: ${needed}`,
      'give it more memory, or lower logBytes and logEntries in the cluster file of all replicas',
    );
  return ok('memory', `${mebibytes(room)} available; needed: ${needed}`);
}

export function checkSwap(host: Host): Finding {
  const devices = (host.read('proc/swaps') ?? '')
    .split('\n')
    .slice(1)
    .filter((line) => line !== '');
  if (devices.length === 0) return ok('swap', 'none');
  return warn(
    'swap',
    `${devices.length} in use`,
    'a replica that was paged out answers late: swapoff -a, or MemorySwapMax=0 for its unit',
  );
}

export function checkSteal(host: Host): Finding {
  const line = /^cpu +(.+)$/m.exec(host.read('proc/stat') ?? '');
  if (line === null) return skip('stolen time', 'the kernel does not tell');
  const ticks = line[1]!.split(' ').map(Number);
  const total = ticks.slice(0, 8).reduce((sum, value) => sum + value, 0);
  const share = total === 0 ? 0 : (ticks[7] ?? 0) / total;
  const found = `${(share * 100).toFixed(2)} % of processor time went to other machines since the host started`;
  return share <= STEAL_MAX
    ? ok('stolen time', found)
    : warn('stolen time', found, 'this virtual machine shares its cores: use dedicated ones, or expect a high p99');
}

function mebibytes(bytes: number): string {
  return `${Math.round(bytes / 1024 ** 2)} MiB`;
}
