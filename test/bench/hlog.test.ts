// --hlog as people use it: what the benches write, also when they are killed, and who loads the library for it.
import t, { type Test } from 'tap';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { freePorts } from '../../src/host/free-ports.js';
import type { BenchReport } from '../../src/measure/load/bench-report.js';
import { readHlog } from '../../src/measure/hlog/log-reader.js';
import { jitpaxos, MAIN, runNode } from '../cluster/processes.js';

const directory = mkdtempSync(join(tmpdir(), 'jitpaxos-hlog-bench-'));
t.teardown(() => rmSync(directory, { recursive: true, force: true }));
const file = (name: string): string => join(directory, name);

const SOAK = fileURLToPath(new URL('../../bench/soak.js', import.meta.url));
const INDEX = new URL('../../src/index.js', import.meta.url).href;

/** With this in NODE_OPTIONS, a process says at its end which program it was, and whether it loaded the library. */
const WITNESS = file('witness.cjs');
writeFileSync(
  WITNESS,
  `process.on('exit', () => {
  const loaded = Object.keys(require('node:module')._cache).some((path) => path.includes('hdr-histogram-js'));
  const program = (process.argv[1] ?? 'none').split('/').pop() + ' ' + (process.argv[2] ?? '');
  require('node:fs').writeFileSync(process.env.WITNESSED + '/' + process.pid, program.trim() + ': ' + loaded);
});`,
);

/** The environment that makes processes witnesses, and what they then said. */
function witnesses(t: Test): { env: Record<string, string>; said: () => string[] } {
  const folder = mkdtempSync(join(directory, 'witnessed-'));
  t.teardown(() => rmSync(folder, { recursive: true, force: true }));
  return {
    env: { NODE_OPTIONS: `--require=${WITNESS}`, WITNESSED: folder },
    said: () =>
      readdirSync(folder)
        .map((name) => readFileSync(join(folder, name), 'utf8'))
        .sort(),
  };
}

t.test('bench latency: the log has what the object has, and only the command loads the library', async (t) => {
  const { env, said } = witnesses(t);
  const { code, stdout, stderr } = await jitpaxos(
    [
      'bench',
      'latency',
      '--local',
      '1',
      '--clients',
      '2',
      '--ops',
      '401',
      '--mix',
      'read=50,write=50',
      '--json',
    ].concat(['--hlog', file('latency.hlog')]),
    { env },
  );
  t.equal(code, 0, stderr);
  const report = JSON.parse(stdout) as BenchReport;
  const log = readHlog(file('latency.hlog'));
  t.same(log.latency.toData(), report.histogram, 'identical in every bucket');
  t.equal(log.latency.count, 401);
  t.match(log, {
    run: { run: report.run, command: 'latency', unit: 'ns', version: report.version, clients: 2, mix: report.mix },
    end: { partial: null, shortfall: null, transport: report.transport, durability: 'memory', failed: 0 },
    steps: 0,
  });
  t.same([...log.tags.keys()].sort(), ['read-ok', 'write-ok']);
  t.ok(log.fromSeconds! * 1000 >= report.startedAtMs! - 5_000 && log.toSeconds! > log.fromSeconds!);
  const all = said();
  t.ok(all.includes('main.js bench: true'), 'the check can see it');
  t.equal(all.filter((each) => each === 'worker.js: false').length, 2, all.join('; '));
  t.same(
    all.filter((each) => each.endsWith('true')),
    ['main.js bench: true'],
  );
});

t.test('neither an application nor a replica loads the library', async (t) => {
  const { env, said } = witnesses(t);
  const application = await runNode(['--input-type=module', '-e', `await import(${JSON.stringify(INDEX)})`], { env });
  t.equal(application.code, 0, application.stderr);
  const [port] = await freePorts(1);
  const clusterFile = file('cluster.json');
  const made = await jitpaxos(['init', '--insecure', '--replicas', `127.0.0.1:${port}`, '--out', clusterFile]);
  t.equal(made.code, 0, made.stderr);
  const child = spawn(process.execPath, [MAIN, 'replica', '--cluster', clusterFile, '--id', '0'], {
    stdio: ['ignore', 'pipe', 'inherit'],
    env: { ...process.env, ...env },
  });
  t.teardown(() => void child.kill('SIGKILL'));
  const exited = once(child, 'exit');
  await once(child.stdout, 'data');
  child.kill('SIGTERM');
  await exited;
  t.same(said(), ['main.js replica: false', 'none: false']);
});

t.test('bench load: every arrival is in the log, and every step of a ramp is announced', async (t) => {
  const { code, stdout, stderr } = await jitpaxos(
    [
      'bench',
      'load',
      '--local',
      '1',
      '--rate',
      '400',
      '--duration',
      '1500ms',
      '--warmup',
      '300ms',
      '--clients',
      '2',
    ].concat(['--mix', 'read=45,write=45,cas=10', '--lanes', '2', '--json', '--hlog', file('load.hlog')]),
  );
  t.equal(code, 0, stderr);
  const report = JSON.parse(stdout) as BenchReport;
  const log = readHlog(file('load.hlog'));
  t.same(log.latency.toData(), report.histogram, 'identical in every bucket');
  t.equal(log.tags.get('unsent')?.count ?? 0, report.load!.steps[0]!.unsent);
  t.match(log, { run: { rates: [400], seed: report.load!.seed }, steps: 1 });
  t.equal(log.end!.shortfall, report.load!.steps[0]!.shortfall);

  const ramp = await jitpaxos(
    [
      'bench',
      'load',
      '--local',
      '1',
      '--rate',
      '50..100',
      '--steps',
      '2',
      '--duration',
      '300ms',
      '--warmup',
      '50ms',
    ].concat(['--quiet', '--hlog', file('ramp.hlog')]),
  );
  t.equal(ramp.code, 0, ramp.stderr);
  t.equal(readHlog(file('ramp.hlog')).steps, 2);
});

t.test('a bench that is killed leaves a readable log', async (t) => {
  const path = file('killed.hlog');
  const child = spawn(
    process.execPath,
    [MAIN, 'bench', 'load', '--local', '1', '--rate', '200', '--duration', '60s', '--warmup', '100ms', '--hlog', path],
    { stdio: 'ignore' },
  );
  t.teardown(() => void child.kill('SIGKILL'));
  const exited = once(child, 'exit');
  const lines = (): number => (existsSync(path) ? readFileSync(path, 'utf8').split('\nTag=').length - 1 : 0);
  while (lines() < 4 && child.exitCode === null) await delay(50);
  child.kill('SIGKILL');
  await exited;
  const log = readHlog(path);
  t.equal(log.end, null);
  t.ok(log.latency.count > 0 && log.toSeconds! > log.fromSeconds!);
});

t.test('the soak writes one, too; and paths that cannot be written are refused first', async (t) => {
  const path = file('soak.hlog');
  const { code, stdout, stderr } = await runNode(
    [
      SOAK,
      '--replicas',
      '1',
      '--duration',
      '1s',
      '--every',
      '500ms',
      '--warmup',
      '100ms',
      '--open',
      '8',
      '--json',
    ].concat(['--hlog', path]),
  );
  t.equal(code, 0, stderr);
  const log = readHlog(path);
  const { operations } = JSON.parse(stdout) as { operations: number };
  t.match(log, { run: { command: 'soak', latencyOf: 'ok', lanes: 8 }, end: { failed: 0, partial: null } });
  t.ok(Math.abs(log.latency.count - operations) <= operations / 10, `${log.latency.count} of ${operations}`);
  for (const command of ['load --rate 10', 'latency']) {
    const refused = await jitpaxos(['bench', ...command.split(' '), '--hlog', directory]);
    t.match([refused.code, refused.stderr], [2, /^flag-invalid: --hlog .* it is a directory/m]);
    const taken = await jitpaxos(['bench', ...command.split(' '), '--hlog', path]);
    t.match([taken.code, taken.stderr], [2, /^file-exists: --hlog .* move it away/m]);
    const twice = await jitpaxos(
      ['bench', ...command.split(' '), '--hlog', file('one'), '--hgrm', file('other')].concat([
        '--report',
        file('./one'),
      ]),
    );
    t.match([twice.code, twice.stderr], [2, /^flag-invalid: --report and --hlog are one file/m]);
  }
});
