// The clock commands and the clock part of doctor as people run them, on hosts with a stand-in for hardware and
// without.
import t, { type Test } from 'tap';
import { spawn } from 'node:child_process';
import { join } from 'node:path';
import { plotLines } from '../../src/console/terminal.js';
import { Model } from '../clock/model.js';
import { buildStandIn, standInEnvironment, whyNoStandIn } from '../clock/stand-in.js';
import { Sysfs } from '../clock/sysfs.js';
import { jitpaxos, MAIN, type Ended } from '../cluster/processes.js';

const skip = whyNoStandIn();
const TAI_NS = 37_000_000_000n;
const WAIT_MS = 30_000;

interface HostWithClock {
  readonly model: Model;
  readonly sysfs: Sysfs;
  readonly env: NodeJS.ProcessEnv;
  run(...args: string[]): Promise<Ended>;
  json(...args: string[]): Promise<Record<string, any>>;
}

function host(t: Test): HostWithClock {
  const { library, directory } = buildStandIn(t);
  const model = new Model(join(directory, 'model'), { noiseNs: 100n, bracketNs: 500n });
  const sysfs = new Sysfs(join(directory, 'root'));
  const env = standInEnvironment(library, model.path, sysfs.root);
  const run = (...args: string[]): Promise<Ended> => jitpaxos(args, { env });
  return {
    model,
    sysfs,
    env,
    run,
    json: async (...args) => {
      const { code, stdout, stderr } = await run(...args, '--json');
      t.equal(code, 0, stderr);
      t.equal(stdout.trim().split('\n').length, 1, 'one object');
      return JSON.parse(stdout) as Record<string, unknown>;
    },
  };
}

/** A command that runs on; `line` resolves with the first line of stdout that fits. */
function running(t: Test, env: NodeJS.ProcessEnv, ...args: string[]) {
  const child = spawn(process.execPath, [MAIN, ...args], { env, stdio: ['ignore', 'pipe', 'pipe'] });
  t.teardown(() => child.kill('SIGKILL'));
  const lines: string[] = [];
  let rest = '';
  let stderr = '';
  child.stderr.setEncoding('utf8').on('data', (text: string) => (stderr += text));
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    const all = (rest + text).split('\n');
    rest = all.pop()!;
    lines.push(...all);
  });
  const ended = new Promise<number | null>((resolve) => child.once('close', resolve));
  return {
    child,
    lines,
    stderr: () => stderr,
    ended,
    async line(fits: (line: string) => boolean): Promise<string> {
      for (
        const end = performance.now() + WAIT_MS;
        performance.now() < end;
        await new Promise((resolve) => setTimeout(resolve, 20))
      ) {
        const found = lines.find(fits);
        if (found !== undefined) return found;
      }
      throw new Error(`no such line within ${WAIT_MS / 1000} s: ${lines.slice(-3).join(' / ')} ${stderr}`);
    },
  };
}

t.test('clock list', { skip }, async (t) => {
  const { model, sysfs, run, json } = host(t);
  t.match(
    (await run('clock', 'list')).stdout,
    /^no PTP hardware clocks[^]*system clock[^]*kernel[^]*→ realtime: the system clock/,
    'without a device',
  );
  t.match(await json('clock', 'list'), {
    schema: 'jitpaxos.clock-list/1',
    chosen: 'realtime',
    devices: [],
    candidates: [{ spec: 'realtime', usable: true }],
    system: Array,
  });

  model.set({ offsetNs: TAI_NS });
  sysfs.plug('ena-ptp-05', 21_000, 'eth0');
  const text = (await run('clock', 'list')).stdout;
  t.match(
    text,
    /\/dev\/ptp0 {2}ena-ptp-05, of eth0\n {4}counts TAI, sampled by precise, adjustable by 62500 ppm, latches both clocks at once/,
  );
  t.match(text, /ena +synchronized +±21\.0 µs/);
  t.match(text, /→ disciplined:\/dev\/ptp0: its driver states a bound: within 21000 ns\n {4}realtime/);
  t.notMatch(text, /\x1b/, 'no colours where no terminal is');
  t.match(await json('clock', 'list'), {
    chosen: 'disciplined:/dev/ptp0',
    devices: [
      {
        path: '/dev/ptp0',
        clockName: 'ena-ptp-05',
        interfaces: ['eth0'],
        method: 'precise',
        epoch: 'tai',
        capabilities: { maxAdjustmentPpb: 62_499_999 },
        statements: [{ available: true, statement: { source: 'ena', status: 'synchronized', errorNs: 21_000 } }],
      },
    ],
  });

  sysfs.plug('ena-ptp-05', 0);
  t.match(
    (await json('clock', 'list')).devices[0].statements[0],
    { statement: { status: 'unknown', errorNs: null } },
    'a bound of zero is unknown',
  );
  sysfs.plug('igb');
  t.match(
    await json('clock', 'list'),
    { chosen: 'realtime', candidates: [{ usable: false, why: /nothing is known to discipline it/ }] },
    'nobody keeps it',
  );
  sysfs.plug('igb', 1_000);
  const refusals: [string, Parameters<Model['set']>[0], RegExp][] = [
    ['denied', { denied: 1n }, /may not be read by this user \(EACCES\): give a group access/],
    ['gone', { gone: 1n }, /is not there \(ENODEV\)/],
    ['not set', { offsetNs: 100_000_000_000n }, /100\.000 s from the system clock[^]*run ptp4l/],
  ];
  for (const [what, fields, says] of refusals) {
    model.set({ denied: 0n, gone: 0n, offsetNs: 0n, ...fields });
    t.match(
      await json('clock', 'list'),
      {
        chosen: 'realtime',
        devices: [{ problem: says }],
        candidates: [{ spec: 'disciplined:/dev/ptp0', usable: false }],
      },
      what,
    );
    t.match(
      (await run('clock', 'list')).stdout,
      /✗ disciplined:\/dev\/ptp0: cannot be used, see above\n {2}→ realtime/,
      `${what}, for people`,
    );
  }
});

t.test('clock read', { skip }, async (t) => {
  const { model, sysfs, run, json } = host(t);
  const names = (read: Record<string, any>): string[] => read['readings'].map(({ clock }: { clock: string }) => clock);
  t.same(names(await json('clock', 'read')), ['realtime', 'tai', 'monotonic', 'monotonic-raw'], 'without a device');
  model.set({ offsetNs: TAI_NS + 2_000_000n });
  sysfs.plug('igb');
  const read = await json('clock', 'read');
  t.same(names(read), ['realtime', 'tai', 'monotonic', 'monotonic-raw', 'phc:/dev/ptp0', 'disciplined:/dev/ptp0']);
  const [, , monotonic, , phc, disciplined] = read['readings'];
  t.match(monotonic, { epoch: 'boot', fromRealtimeNs: null, uncertaintyNs: null });
  t.match(phc, { epoch: 'tai' });
  t.match(disciplined, { epoch: 'utc' }, 'disciplined readings are UTC');
  t.ok(
    Math.abs(phc.fromRealtimeNs - 37_002_000_000) <= phc.uncertaintyNs + 1_000,
    `${phc.fromRealtimeNs} ns from realtime, to within ${phc.uncertaintyNs}`,
  );
  for (const { clock, costNs } of read['readings']) t.ok(costNs > 0, `${clock} costs ${costNs} ns`);
  t.match(
    (await run('clock', 'read')).stdout,
    /clock +epoch +reading, ns +from realtime +to within +cost\nrealtime +utc +\d{19} +– +–[^]*phc:\/dev\/ptp0 +tai +\d{19} +\+37 s \+2\.00 ms +±/,
  );
  model.set({ denied: 1n });
  t.match(
    await json('clock', 'read'),
    {
      readings: Array,
      refused: [{ clock: 'phc:/dev/ptp0', reason: /may not be read/ }, { clock: 'disciplined:/dev/ptp0' }],
    },
    'what cannot be read is named, the others are read',
  );
});

t.test('clock compare', { skip }, async (t) => {
  const { model, sysfs, run, json } = host(t);
  sysfs.plug('igb');
  model.set({ offsetNs: 5_000_000n, driftPpb: 50_000n, driftFromRawNs: process.hrtime.bigint() });
  const found = await json('clock', 'compare', 'phc:/dev/ptp0', 'realtime', '--duration', '1s', '--interval', '20ms');
  t.match(found, {
    schema: 'jitpaxos.clock-compare/1',
    a: 'phc:/dev/ptp0',
    b: 'realtime',
    baseNs: '0',
    measurements: 51,
  });
  t.ok(Math.abs(found['ratePpb'] - 50_000) < 5_000, `50 ppm are seen as ${found['ratePpb']} ppb`);
  const { min, median, max } = found['offsetNs'];
  t.ok(min <= median && median <= max && min > 4_000_000, `${min} ≤ ${median} ≤ ${max}`);
  t.equal(found['series'].length, 51);
  const { stdout } = await run('clock', 'compare', 'realtime', 'phc', '--duration', '300ms', '--interval', '20ms');
  t.match(
    stdout,
    /^realtime − phc, 16 measurements over [^]*offset {2}min −[\d,]+ ns {3}median −[\d,]+ ns {3}max −[\d,]+ ns\nrate {4}−\d+\.\d ppb\naround the median[^]*┤[^]*•/,
  );
  t.match(
    (await run('clock', 'compare', 'realtime', 'monotonic', '--duration', '50ms')).stdout,
    /epochs {2}differ: offsets are relative to \d+ ns/,
  );
});

t.test('clock watch', { skip }, async (t) => {
  const { model, sysfs, env, run } = host(t);
  t.match(
    (await run('clock', 'watch', '--count', '1')).stdout,
    /^jitpaxos\[\d+\.\d{3}\]: realtime monotonic-raw offset/,
    'without a device',
  );
  sysfs.plug('igb');
  model.set({ offsetNs: -3_000_000n });
  const { stdout } = await run('clock', 'watch', '--interval', '20ms', '--count', '3');
  const lines = stdout.trim().split('\n');
  t.equal(lines.length, 3);
  for (const line of lines)
    t.match(
      line,
      /^jitpaxos\[\d+\.\d{3}\]: realtime disciplined:\/dev\/ptp0 offset +\d{7} s[02] freq +[+-]\d+ delay +\d+$/,
      'the words and the order of phc2sys; offset is A minus B',
    );
  t.match(lines[0], / s0 freq +\+0 /, 'no frequency yet');

  const direct = running(t, env, 'clock', 'watch', 'realtime', 'phc:/dev/ptp0', '--interval', '20ms', '--json');
  await direct.line((line) => JSON.parse(line).state === 's2');
  model.set({ offsetNs: -5_000_000n });
  t.match(
    JSON.parse(await direct.line((line) => JSON.parse(line).state === 's1')),
    { schema: 'jitpaxos.clock-watch/1', a: 'realtime', b: 'phc:/dev/ptp0' },
    'a step',
  );
  model.set({ gone: 1n });
  t.equal(await direct.ended, 1, 'a clock that is read directly and is gone ends the command');
  t.match(direct.stderr(), /^clock-lost: phc:\/dev\/ptp0 stopped answering \(ENODEV\)/);

  model.set({ gone: 0n });
  const disciplined = running(t, env, 'clock', 'watch', '--interval', '20ms', '--json');
  await disciplined.line((line) => JSON.parse(line).state === 's2');
  model.set({ gone: 1n });
  t.match(
    JSON.parse(await disciplined.line((line) => JSON.parse(line).lost === true)),
    { state: 's0' },
    'a disciplined clock goes on, and says so',
  );
  t.match(disciplined.stderr(), /the device of disciplined:\/dev\/ptp0 stopped answering/);
  model.set({ gone: 0n });
  const last = disciplined.lines.length;
  await disciplined.line((line) => disciplined.lines.indexOf(line) > last && JSON.parse(line).lost === false);
  t.match(disciplined.stderr(), /the device is back/);
  disciplined.child.kill('SIGINT');
  t.equal(await disciplined.ended, 0);

  const slow = running(t, env, 'clock', 'watch', '--interval', '1h');
  await slow.line(() => true);
  slow.child.kill('SIGINT');
  t.equal(await slow.ended, 0, 'an interrupt is not kept waiting for the next line');
});

t.test('what is wrong with a command line is named', { skip }, async (t) => {
  const { run } = host(t);
  const cases: [string, number, RegExp][] = [
    ['list --clock auto', 2, /^unknown-flag: --clock/],
    ['list x', 2, /^argument-invalid: "x" is one argument too many/],
    ['read x', 2, /^argument-invalid: /],
    ['read --count 3', 2, /^unknown-flag: --count/],
    ['compare', 2, /^argument-invalid: A is missing/],
    ['compare realtime', 2, /^argument-invalid: B is missing/],
    ['compare realtime wall', 2, /^clock-spec-invalid: "wall" is not a clock/],
    ['compare realtime phc:ptp0', 2, /^clock-spec-invalid: .*absolute path/],
    ['compare realtime phc', 1, /^clock-not-found: phc: this host has no PTP hardware clock/],
    ['compare realtime phc:/dev/ptp7', 1, /^clock-not-found: \/dev\/ptp7 is not there/],
    ['compare realtime phc:/dev/null', 1, /^clock-not-a-clock: /],
    ['compare realtime disciplined:/dev/ptp-test-denied', 1, /^clock-permission: .*udev/],
    ['compare realtime monotonic --duration 5', 2, /^flag-invalid: --duration/],
    ['compare realtime monotonic --interval 0s', 2, /^flag-invalid: --interval/],
    ['watch --count 0', 2, /^flag-invalid: --count/],
    ['watch --interval fast', 2, /^flag-invalid: --interval/],
    ['watch a', 2, /^clock-spec-invalid: /],
    ['watch realtime tai monotonic', 2, /^argument-invalid: "monotonic" is one argument too many/],
    ['wach', 2, /^unknown-command: .*did you mean "clock watch"/],
  ];
  for (const [line, code, says] of cases) {
    const ended = await run('clock', ...line.split(' '));
    t.equal(ended.code, code, line);
    t.match(ended.stderr, says, line);
    t.equal(ended.stderr.trim().split('\n').length, 1, `${line}: one line`);
    t.equal(ended.stdout, '', `${line}: nothing else`);
  }
});

t.test('the clock part of doctor', { skip }, async (t) => {
  const { model, sysfs, json, run } = host(t);
  const findings = async (): Promise<Record<string, { level: string; found: string; advice?: string }>> =>
    Object.fromEntries((await json('doctor')).findings.map((finding: { check: string }) => [finding.check, finding]));
  const absent = await findings();
  t.match(absent, {
    'ptp clock': { level: 'warn', advice: /ethtool -T/ },
    clock: { level: 'ok', found: /auto takes realtime/ },
    'clock by kernel': Object,
  });
  t.notOk('clock ptp0' in absent);

  sysfs.plug('ena-ptp-05', 21_000);
  model.set({ offsetNs: 0n });
  t.match(await findings(), {
    'ptp clock': { level: 'ok', found: '/dev/ptp0 (ena-ptp-05)' },
    'clock ptp0': { level: 'ok', found: '/dev/ptp0 (ena-ptp-05) counts UTC and is sampled by precise' },
    clock: { level: 'ok', found: /auto takes disciplined:\/dev\/ptp0: its driver states a bound: within 21000 ns/ },
    'clock quality': { level: 'ok', found: /disciplined:\/dev\/ptp0: synchronized, within 2\d\.\d µs/ },
    'clock by ena': { level: 'ok' },
    'clock by ptp4l': { level: 'skip', found: /ptp4lro: ENOENT/ },
  });

  model.set({ denied: 1n });
  t.match(
    await findings(),
    {
      'clock ptp0': { level: 'warn', found: '/dev/ptp0 may not be read by this user (EACCES)', advice: /udev rule/ },
      clock: { found: /auto takes realtime/ },
    },
    'what this user may not read is not what auto takes',
  );
  model.set({ denied: 0n, offsetNs: 100_000_000_000n });
  t.match(await findings(), { 'clock ptp0': { level: 'warn', found: /neither UTC nor TAI/, advice: /run ptp4l/ } });
  model.set({ offsetNs: 0n });
  sysfs.plug('igb');
  t.match(
    await findings(),
    { 'clock ptp0': { level: 'ok' }, clock: { found: /auto takes realtime/ } },
    'nobody keeps it',
  );
  const { stdout, code } = await run('doctor');
  t.equal(code, 0, 'no clock is a reason to fail');
  t.match(stdout, /\[ OK \] clock ptp0 +\/dev\/ptp0 \(igb\)/);
  t.notMatch(stdout, /\x1b/);
});

t.test('a plot of points', (t) => {
  t.same(plotLines([], 10, 3, String), []);
  t.same(plotLines([5, 5], 10, 3, String), ['  ┤', '5 ┤••', '  ┤']);
  t.same(plotLines([0, 1, 2], 10, 3, String), ['2 ┤  •', '1 ┤ •', '0 ┤•']);
  t.same(
    plotLines([0, 2, 2, 2], 2, 3, String),
    ['2 ┤│•', '1 ┤•', '0 ┤│'],
    'several values a column: their mean, and a line from least to most',
  );
  t.end();
});
