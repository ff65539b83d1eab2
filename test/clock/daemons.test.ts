/**
 * Real daemons: two ptp4l of Debian's linuxptp, over a veth pair between two network namespaces, and chronyd, none of
 * which touches a clock (free_running, -x). Where namespaces or the programs are not to be had, the test says so and is
 * skipped.
 */
import { execFileSync, spawn, spawnSync, type ChildProcess } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import t, { type Test } from 'tap';
import { freePorts } from '../../src/host/free-ports.js';
import { readChrony } from '../../src/clock/quality/chrony.js';
import { readPtp4l } from '../../src/clock/quality/ptp4l.js';
import { native } from '../../src/native/addon.js';

/** ptp4l takes some announce intervals to choose a master, and some syncs to follow it. */
const PTP_WAIT_MS = 60_000;
/** Of telecom networks; found by asking, because ptp4l is silent to all others. */
const DOMAIN = 24;
const CHRONY_WAIT_MS = 20_000;

/** Debian keeps daemons out of the path of ordinary users. */
const env = { ...process.env, PATH: `${process.env['PATH'] ?? ''}:/usr/sbin:/sbin` };
const has = (command: string, ...args: string[]): boolean =>
  spawnSync(command, args, { env, timeout: 10_000 }).error === undefined;
const ip = (...args: string[]): void => void execFileSync('ip', args, { env, timeout: 10_000, stdio: 'pipe' });

function folder(t: Test): string {
  const path = mkdtempSync(join(tmpdir(), 'jitpaxos-daemons-'));
  t.teardown(() => rmSync(path, { recursive: true, force: true }));
  return path;
}

function run(t: Test, log: string[], command: string, ...args: string[]): ChildProcess {
  const child = spawn(command, args, { env, stdio: ['ignore', 'pipe', 'pipe'] });
  for (const stream of [child.stdout, child.stderr])
    stream?.setEncoding('utf8').on('data', (text: string) => log.push(text));
  child.on('error', (error) => log.push(String(error)));
  t.teardown(async () => {
    if (child.exitCode !== null || child.signalCode !== null) return;
    const ended = new Promise((resolve) => child.once('exit', resolve));
    child.kill('SIGKILL');
    await ended;
  });
  return child;
}

/** Two namespaces with a cable between them, gone with the test. */
function namespaces(t: Test, names: readonly [string, string]): void {
  const [a, b] = names;
  for (const name of names) {
    ip('netns', 'add', name);
    t.teardown(() => ip('netns', 'del', name));
  }
  ip('link', 'add', 'ptp-a', 'netns', a, 'type', 'veth', 'peer', 'name', 'ptp-b', 'netns', b);
  for (const [name, link, address] of [
    [a, 'ptp-a', '10.77.0.1/24'],
    [b, 'ptp-b', '10.77.0.2/24'],
  ] as const) {
    ip('-n', name, 'addr', 'add', address, 'dev', link);
    ip('-n', name, 'link', 'set', link, 'up');
  }
}

function whyNoPtp4l(): string | false {
  if (!native.available) return native.reason;
  if (!has('ptp4l', '-v') || !has('ip', '-V')) return 'no ptp4l or no ip: apt-get install linuxptp iproute2';
  const probe = `jitpaxos-probe-${process.pid}`;
  try {
    ip('netns', 'add', probe);
    try {
      ip('-n', probe, 'link', 'add', 'probe-a', 'type', 'veth', 'peer', 'name', 'probe-b');
    } finally {
      ip('netns', 'del', probe);
    }
    return false;
  } catch (error) {
    return `no network namespaces or no veth here: ${(error as Error).message.trim().split('\n').at(-1)!}`;
  }
}

function whyNoChronyd(): string | false {
  if (!has('chronyd', '-v')) return 'no chronyd: apt-get install chrony';
  return process.getuid?.() === 0 ? false : 'chronyd starts as root only';
}

t.test('ptp4l through its management socket', { skip: whyNoPtp4l() }, async (t) => {
  const names = [`jitpaxos-a-${process.pid}`, `jitpaxos-b-${process.pid}`] as const;
  namespaces(t, names);
  const directory = folder(t);
  const log: string[] = [];
  const socket = (side: string): string => join(directory, `${side}.sock`);
  for (const [side, namespace, extra] of [
    ['a', names[0], 'priority1 10'],
    ['b', names[1], 'slaveOnly 1'],
  ] as const) {
    const config = join(directory, `${side}.cfg`);
    writeFileSync(
      config,
      `[global]\ntime_stamping software\nfree_running 1\ndomainNumber ${DOMAIN}\nlogAnnounceInterval -2\nlogSyncInterval -3\nuds_address ${socket(side)}\n${extra}\n`,
    );
    run(t, log, 'ip', 'netns', 'exec', namespace, 'ptp4l', '-f', config, '-i', `ptp-${side}`, '-m');
  }
  const deadline = performance.now() + PTP_WAIT_MS;
  let answer = await readPtp4l(native, [socket('b')], 1_000);
  // In free_running a port stays uncalibrated: nobody steers the clock, and ptp4l measures all the same.
  while (
    (answer.report === undefined ||
      !['slave', 'uncalibrated'].includes(answer.report.portState) ||
      answer.report.meanPathDelayNs === 0) &&
    performance.now() < deadline
  ) {
    await delay(200);
    answer = await readPtp4l(native, [socket('b')], 1_000);
  }
  t.equal(answer.available, true, JSON.stringify(answer) + log.join('').slice(-2_000));
  const report = answer.report!;
  t.ok(['slave', 'uncalibrated'].includes(report.portState), report.portState);
  t.equal(report.interface, 'ptp-b');
  t.equal(report.timestamping, 'software');
  t.equal(report.domain, DOMAIN, 'ptp4l answers in its own domain only');
  t.equal(report.stepsRemoved, 1);
  t.equal(report.grandmasterPresent, true);
  t.ok(
    report.meanPathDelayNs > 0 && report.meanPathDelayNs < 1e9,
    `${report.meanPathDelayNs} ns between two ends of one cable`,
  );
  t.ok(Math.abs(report.offsetFromMasterNs) < 1e9, `one host's clock is ${report.offsetFromMasterNs} ns from itself`);

  const master = await readPtp4l(native, [socket('a')], 1_000);
  t.match(
    master.report,
    { portState: 'master', interface: 'ptp-a', stepsRemoved: 0, grandmaster: report.grandmaster },
    'the other end is the grandmaster that this one names',
  );
  t.match(
    master,
    { available: true, statement: { status: 'unknown', errorNs: null } },
    'a master says nothing of its own error',
  );

  const nobody = await readPtp4l(native, [join(directory, 'nobody.sock'), socket('b')], 1_000);
  t.equal(nobody.available, true, 'the first socket that answers counts');
  t.match(await readPtp4l(native, [join(directory, 'nobody.sock')], 100), {
    available: false,
    reason: /nobody\.sock: ENOENT/,
  });
});

t.test("chronyd's tracking", { skip: whyNoChronyd() }, async (t) => {
  const directory = folder(t);
  const log: string[] = [];
  const [port] = await freePorts(1);
  const config = join(directory, 'chrony.conf');
  writeFileSync(
    config,
    `local stratum 3\nport 0\ncmdport ${port}\nbindcmdaddress 127.0.0.1\nbindcmdaddress /\npidfile ${join(directory, 'pid')}\n`,
  );
  run(t, log, 'chronyd', '-x', '-d', '-u', 'root', '-f', config);
  const deadline = performance.now() + CHRONY_WAIT_MS;
  let answer = await readChrony(port!, 500);
  while (!answer.available && performance.now() < deadline) {
    await delay(100);
    answer = await readChrony(port!, 500);
  }
  t.match(
    answer,
    {
      available: true,
      statement: {
        source: 'chrony',
        about: 'realtime',
        status: 'free-running',
        errorNs: null,
        found: /its own clock/,
        detail: { stratum: 3, referenceId: '7f7f0101' },
      },
    },
    JSON.stringify(answer) + log.join(''),
  );
});
