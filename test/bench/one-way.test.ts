// --one-way from end to end: what bench latency and bench load print, write and log, and what bench merge makes of it.
import t from 'tap';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { LocalCluster } from '../../src/measure/local-cluster.js';
import type { BenchReport } from '../../src/measure/load/bench-report.js';
import { readHlog } from '../../src/measure/hlog/log-reader.js';
import { jitpaxos } from '../cluster/processes.js';

const directory = mkdtempSync(join(tmpdir(), 'jitpaxos-one-way-'));
t.teardown(() => rmSync(directory, { recursive: true, force: true }));
const file = (name: string): string => join(directory, name);

async function run(...args: string[]): Promise<string> {
  const { code, stdout, stderr } = await jitpaxos(args);
  if (code !== 0) throw new Error(stderr);
  return stdout;
}

t.test('each replica is asked beside the load, also one that is not in the quorum', async (t) => {
  await using cluster = await LocalCluster.start({
    replicas: 3,
    machine: 'echo',
    transport: 'auto',
    durability: 'memory',
  });
  const target = ['--cluster', cluster.clusterFile, '--machine', 'echo', '--mix', 'write=100', '--one-way'];
  const load = ['bench', 'load', ...target, '--rate', '100', '--clients', '2', '--warmup', '200ms'];
  const report = JSON.parse(
    await run(...load, '--duration', '2s', '--json', '--hlog', file('a.hlog'), '--report', file('a.html')),
  ) as BenchReport;
  const { replicas, intervals, intervalsLeftOut } = report.oneWay!;
  t.same(
    replicas.map(({ replica }) => replica),
    [0, 1, 2],
  );
  for (const { asked, answered, bothWaysNs, replicaNs, says, boundNs } of replicas) {
    t.ok(answered > 0 && answered <= asked, `${answered} of ${asked} questions`);
    t.ok(bothWaysNs.p50! > 0 && replicaNs.p50! >= 0);
    t.equal(says === null, boundNs !== null, 'processes of one host read one clock, where the host says which it is');
  }
  t.ok(intervals.length >= 2 && intervalsLeftOut === 0);
  t.equal(
    intervals.flatMap(({ replicas }) => replicas).reduce((sum, { answered }) => sum + answered, 0),
    replicas.reduce((sum, { answered }) => sum + answered, 0),
  );
  t.match(readFileSync(file('a.html'), 'utf8'), /One-way delays/);

  const log = readHlog(file('a.hlog'));
  t.same(log.end!.oneWay, replicas);
  for (const { replica, answered, requestNs } of replicas) {
    t.equal(log.tags.get(`oneway-r${replica}-both`)!.count, answered);
    if (requestNs !== null) t.equal(log.tags.get(`oneway-r${replica}-request`)!.count, answered);
  }
  t.equal(log.latency.count, report.histogram!.count, 'they are no latencies of operations');

  const text = await run('bench', 'latency', ...target, '--ops', '200');
  t.match(text, /^replica {2}request way p50 .*answers$/m);
  for (const replica of [0, 1, 2]) t.match(text, new RegExp(`^${replica}  .* of \\d+$`, 'm'));

  const second = await run('bench', 'latency', ...target, '--ops', '200', '--json');
  writeFileSync(file('b.json'), second);
  const merged = JSON.parse(await run('bench', 'merge', file('a.hlog'), file('b.json'), '--json')) as {
    runs: { name: string; oneWay: unknown }[];
    tags: object;
  };
  t.same(
    merged.runs.map(({ name, oneWay }) => [name, oneWay]),
    [
      ['a', replicas],
      ['b', (JSON.parse(second) as BenchReport).oneWay!.replicas],
    ],
    'by run, and not added',
  );
  t.notMatch(Object.keys(merged.tags).join(), /oneway/);
  t.match(await run('bench', 'merge', file('a.hlog'), file('b.json')), /^b +2 +.* of \d+$/m);
  t.match(await run('bench', 'report', file('b.json')), /^replica {2}request way/m);
});
