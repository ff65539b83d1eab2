// Each check of `jitpaxos doctor` on a host made of files, in order and not, and the command on this one.
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir, type NetworkInterfaceInfo } from 'node:os';
import { dirname, join } from 'node:path';
import t, { type Test } from 'tap';
import { fromStatement } from '../../src/cli/doctor/clock-checks.js';
import { checkDataDirectory, readCluster } from '../../src/cli/doctor/cluster-checks.js';
import type { Finding, Level } from '../../src/cli/doctor/finding.js';
import * as checks from '../../src/cli/doctor/host-checks.js';
import { Host } from '../../src/cli/doctor/host.js';
import type { ClockStatus, QualitySourceName, Stated } from '../../src/clock/quality/statement.js';
import { DEFAULT_LIMITS } from '../../src/protocol/config.js';
import { KvMachine } from '../../src/machine/kv.js';
import { jitpaxos } from '../cluster/processes.js';
import { clusterConfig, startReplicas } from '../server/fixtures.js';

function folder(t: Test): string {
  const path = mkdtempSync(join(tmpdir(), 'jitpaxos-doctor-'));
  t.teardown(() => rmSync(path, { recursive: true, force: true }));
  return path;
}

function host(t: Test, files: Readonly<Record<string, string>>): Host {
  const root = folder(t);
  for (const [path, text] of Object.entries(files)) {
    mkdirSync(dirname(join(root, path)), { recursive: true });
    writeFileSync(join(root, path), `${text}\n`);
  }
  return new Host(root);
}

const CLOCKSOURCE = 'sys/devices/system/clocksource/clocksource0';
const CPU = 'sys/devices/system/cpu';
const INTERFACES = {
  lo: [{ address: '127.0.0.1' }],
  eth0: [{ address: '10.0.0.1' }],
  eth1: [{ address: '10.9.9.9' }],
} as unknown as Record<string, NetworkInterfaceInfo[]>;

t.test('the memory that is needed counts the entries that are retained for a transfer', (t) => {
  const of = (logBytes: number): number => checks.neededBytes({ ...DEFAULT_LIMITS, logBytes });
  t.equal(of(2 << 20) - of(1 << 20), 5 << 20);
  t.ok(of(64 << 20) > 400 << 20);
  t.end();
});

t.test('checks of a host', (t) => {
  const cases: [what: string, finding: Finding | Finding[], level: Level, words: RegExp][] = [
    ['node 18', checks.checkNode('18.19.0'), 'fail', /18\.19\.0/],
    ['node 22', checks.checkNode('22.1.0'), 'ok', /22\.1\.0/],
    [
      'no addon',
      checks.checkAddon({ available: false, kind: null, reason: 'it was not built' }),
      'warn',
      /it was not built/,
    ],
    ['addon', checks.checkAddon({ available: true, kind: 'prebuilt', reason: '' }), 'ok', /loaded \(prebuilt\)/],
    ['tsc', checks.checkClockSource(host(t, { [`${CLOCKSOURCE}/current_clocksource`]: 'tsc' })), 'ok', /tsc/],
    [
      'hpet',
      checks.checkClockSource(
        host(t, {
          [`${CLOCKSOURCE}/current_clocksource`]: 'hpet',
          [`${CLOCKSOURCE}/available_clocksource`]: 'tsc hpet',
        }),
      ),
      'warn',
      /hpet/,
    ],
    ['no clock source', checks.checkClockSource(host(t, {})), 'skip', /does not tell/],
    [
      'two PTP clocks',
      checks.checkPtpDevices(
        host(t, { 'dev/ptp0': '', 'dev/ptp10': '', 'dev/pts': '', 'sys/class/ptp/ptp0/clock_name': 'mlx5_ptp' }),
      ),
      'ok',
      /ptp0 \(mlx5_ptp\), \/dev\/ptp10 \(name unknown\)$/,
    ],
    ['no PTP clock', checks.checkPtpDevices(host(t, { 'dev/null': '' })), 'warn', /no \/dev\/ptp/],
    [
      'ptp4l and phc2sys',
      checks.checkTimeDaemon(host(t, { 'proc/12/comm': 'ptp4l', 'proc/13/comm': 'phc2sys' })),
      'ok',
      /ptp4l, phc2sys/,
    ],
    ['ptp4l alone', checks.checkTimeDaemon(host(t, { 'proc/12/comm': 'ptp4l' })), 'warn', /without phc2sys/],
    ['chrony', checks.checkTimeDaemon(host(t, { 'proc/12/comm': 'chronyd' })), 'ok', /chronyd/],
    ['timesyncd', checks.checkTimeDaemon(host(t, { 'proc/12/comm': 'systemd-timesyn' })), 'warn', /timesyncd/],
    [
      'no daemon; what is no process does not count',
      checks.checkTimeDaemon(host(t, { 'proc/sys/comm': 'ptp4l' })),
      'warn',
      /none runs/,
    ],
    [
      'a buffer cut by the kernel',
      checks.socketBuffer('receive', 'net.core.rmem_max', 212_992, 4 << 20),
      'warn',
      /212992 of 4194304/,
    ],
    ['a buffer as asked', checks.socketBuffer('send', 'net.core.wmem_max', 4 << 20, 4 << 20), 'ok', /4194304/],
    [
      'lost datagrams',
      checks.checkUdpLosses(
        host(t, {
          'proc/net/snmp':
            'Ip: A\nIp: 1\nUdp: InDatagrams NoPorts InErrors OutDatagrams RcvbufErrors\nUdp: 1000 1 7 900 7',
        }),
      ),
      'warn',
      /7 datagrams[^]*1000 were/,
    ],
    [
      'no lost datagrams',
      checks.checkUdpLosses(host(t, { 'proc/net/snmp': 'Udp: InDatagrams RcvbufErrors\nUdp: 1000 0' })),
      'ok',
      /none of 1000/,
    ],
    ['no UDP counters', checks.checkUdpLosses(host(t, {})), 'skip', /does not tell/],
    [
      'governor performance',
      checks.checkGovernor(host(t, { [`${CPU}/cpu0/cpufreq/scaling_governor`]: 'performance' })),
      'ok',
      /performance on 1/,
    ],
    [
      'one core otherwise',
      checks.checkGovernor(
        host(t, {
          [`${CPU}/cpu0/cpufreq/scaling_governor`]: 'performance',
          [`${CPU}/cpu1/cpufreq/scaling_governor`]: 'powersave',
        }),
      ),
      'warn',
      /powersave on 1/,
    ],
    ['no governor', checks.checkGovernor(host(t, { [`${CPU}/cpu0/online`]: '1' })), 'skip', /virtual/],
    [
      'a deep idle state',
      checks.checkIdleStates(
        host(t, {
          [`${CPU}/cpu0/cpuidle/state0/latency`]: '2',
          [`${CPU}/cpu0/cpuidle/state3/latency`]: '200',
          [`${CPU}/cpu0/cpuidle/state3/name`]: 'C6',
        }),
      ),
      'warn',
      /C6 \(200 µs\)/,
    ],
    [
      'the same switched off',
      checks.checkIdleStates(
        host(t, { [`${CPU}/cpu0/cpuidle/state3/latency`]: '200', [`${CPU}/cpu0/cpuidle/state3/disable`]: '1' }),
      ),
      'ok',
      /none/,
    ],
    [
      'an MTU too small',
      checks.checkMtu(host(t, { 'sys/class/net/eth0/mtu': '1400' }), ['10.0.0.1', '10.0.0.2'], INTERFACES),
      'warn',
      /eth0: 1400/,
    ],
    [
      'a good one; other interfaces do not matter',
      checks.checkMtu(
        host(t, { 'sys/class/net/eth0/mtu': '9000', 'sys/class/net/eth1/mtu': '576' }),
        ['10.0.0.1'],
        INTERFACES,
      ),
      'ok',
      /eth0: 9000/,
    ],
    ['none of the replicas is here', checks.checkMtu(host(t, {}), ['10.0.0.7'], INTERFACES), 'skip', /no interface/],
    [
      'a quota',
      checks.checkCores(host(t, { 'sys/fs/cgroup/cpu.max': '150000 100000' }), 8),
      'warn',
      /limited to 1\.50/,
    ],
    ['no quota', checks.checkCores(host(t, { 'sys/fs/cgroup/cpu.max': 'max 100000' }), 8), 'ok', /8/],
    ['one core', checks.checkCores(host(t, {}), 1), 'warn', /1/],
    [
      'memory enough',
      checks.checkMemory(host(t, { 'proc/meminfo': 'MemTotal: 900000 kB\nMemAvailable:  800000 kB' }), 100 << 20),
      'ok',
      /781 MiB/,
    ],
    [
      'a limit below the need',
      checks.checkMemory(
        host(t, { 'proc/meminfo': 'MemAvailable: 800000 kB', 'sys/fs/cgroup/memory.max': '67108864' }),
        100 << 20,
      ),
      'fail',
      /64 MiB available/,
    ],
    [
      'no limit',
      checks.checkMemory(
        host(t, { 'proc/meminfo': 'MemAvailable: 800000 kB', 'sys/fs/cgroup/memory.max': 'max' }),
        100 << 20,
      ),
      'ok',
      /781 MiB/,
    ],
    [
      'swap',
      checks.checkSwap(host(t, { 'proc/swaps': 'Filename Type Size\n/dev/sda2 partition 100' })),
      'warn',
      /1 in use/,
    ],
    ['no swap', checks.checkSwap(host(t, { 'proc/swaps': 'Filename Type Size' })), 'ok', /none/],
    [
      'stolen time',
      checks.checkSteal(host(t, { 'proc/stat': 'cpu  50 0 0 40 0 0 0 10 0 0\ncpu0 1 1' })),
      'warn',
      /10\.00 %/,
    ],
    ['no stolen time', checks.checkSteal(host(t, { 'proc/stat': 'cpu  50 0 0 50 0 0 0 0 0 0' })), 'ok', /0\.00 %/],
  ];
  for (const [what, found, level, words] of cases) {
    const findings = [found].flat();
    t.equal(findings.length, 1, what);
    t.equal(findings[0]!.level, level, what);
    t.match(findings[0]!.found, words, what);
    t.equal(
      findings[0]!.advice !== undefined,
      level === 'warn' || level === 'fail',
      `${what}: advice where something is to be done`,
    );
  }
  t.end();
});

t.test('the socket of this host is asked, not a file', async (t) => {
  const findings = await checks.checkSocketBuffers();
  t.same(
    findings.map(({ check }) => check),
    ['receive buffer', 'send buffer'],
  );
});

t.test('what others say of a clock: unknown is not good, and too wide is bad', (t) => {
  const says = (status: ClockStatus, errorNs: number | null, source: QualitySourceName = 'chrony'): Stated => ({
    available: true,
    statement: { source, about: 'realtime', status, errorNs, found: 'as found', detail: {} },
  });
  const cases: [what: string, stated: Stated, level: Level, words: RegExp, advice?: RegExp][] = [
    ['within the limit', says('synchronized', 20_000), 'ok', /^synchronized, within 20\.0 µs/],
    ['far off', says('synchronized', 10e9), 'warn', /within 10\.0 s/, /more than one round trip/],
    ['farther off than NTP counts', says('synchronized', 37e9), 'warn', /within 37\.0 s/, /offset of TAI/],
    ['unknown', says('synchronized', null, 'kernel'), 'warn', /error unknown/, /timesyncd/],
    ['kept by the platform', says('synchronized', null, 'platform'), 'warn', /error unknown/, /hypervisor/],
    ['free', says('free-running', null), 'warn', /free-running/, /chronyc/],
    ['not there', { available: false, source: 'ptp4l', reason: '/var/run/ptp4l: ENOENT' }, 'skip', /ENOENT/],
    [
      'may not be asked',
      { available: false, source: 'ptp4l', reason: '/var/run/ptp4l: EACCES' },
      'warn',
      /EACCES/,
      /chgrp/,
    ],
  ];
  for (const [what, stated, level, words, advice] of cases) {
    const finding = fromStatement(stated);
    t.equal(finding.level, level, what);
    t.match(finding.found, words, what);
    if (advice !== undefined) t.match(finding.advice, advice, what);
  }
  t.match(
    fromStatement(says('synchronized', 21_000, 'ena'), '/dev/ptp1').found,
    /^\/dev\/ptp1: synchronized/,
    'the device is named',
  );
  t.end();
});

t.test('a data directory', (t) => {
  t.same(
    checkDataDirectory(folder(t)).map(({ check }) => check),
    ['data directory', 'disk space', 'disk sync'],
  );
  const [missing] = checkDataDirectory(join(folder(t), 'absent'));
  t.match(missing, { level: 'fail', found: /absent: ENOENT/ });
  t.end();
});

t.test('a cluster file that is wrong is a finding with what to do', (t) => {
  const path = join(folder(t), 'cluster.json');
  writeFileSync(path, '{"schema":"jitpaxos.cluster/1","id":"12"}');
  t.match(readCluster(path), {
    cluster: undefined,
    finding: { level: 'fail', found: /"id" is "12"/, advice: /16 hexadecimal/ },
  });
  t.match(readCluster(`${path}.absent`).finding, { level: 'fail', advice: /jitpaxos init/ });
  t.end();
});

t.test('the command', async (t) => {
  const directory = folder(t);
  const cluster = await clusterConfig(3);
  writeFileSync(join(directory, 'cluster.json'), JSON.stringify(cluster));
  const replicas = await startReplicas(cluster, () => new KvMachine());
  t.teardown(() => Promise.all(replicas.map((replica) => replica.close())));
  const healthy = await jitpaxos(['doctor', '--json', '--data', directory], { cwd: directory });
  const { schema, failed, findings } = JSON.parse(healthy.stdout) as {
    schema: string;
    failed: number;
    findings: Finding[];
  };
  t.equal(schema, 'jitpaxos.doctor/1');
  t.equal(healthy.code, failed > 0 ? 1 : 0);
  t.match(
    findings.find(({ check }) => check === 'quorum'),
    { level: 'ok', found: /view 0/ },
  );
  t.match(
    findings.find(({ check }) => check === 'addresses'),
    { found: /this host has replica 0, 1, 2/ },
  );
  await replicas[0]!.close();
  await replicas[1]!.close();
  const broken = await jitpaxos(['doctor', '--timeout', '300ms'], { cwd: directory });
  t.equal(broken.code, 1, 'a quorum that cannot commit is a failure');
  t.match(broken.stdout, /\[FAIL\] quorum[^]*jitpaxos status/);
  t.match(await jitpaxos(['doctor', '--root', directory]), { code: 2, stderr: /flag-invalid: --root/ });
});
