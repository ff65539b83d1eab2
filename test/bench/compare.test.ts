// `jitpaxos bench compare`, tiny, so that it cannot rot. What it measured is not judged here; that it measured is.
import t from 'tap';
import { jitpaxos, jitpaxosEach } from '../cluster/processes.js';

t.test('bench compare runs every baseline beside the cluster, for each combination that is asked for', async (t) => {
  const quick = ['--rounds', '1', '--seconds', '60ms', '--warmup', '20ms', '--json', '--quiet'];
  const { code, stdout, stderr } = await jitpaxos([
    'bench',
    'compare',
    '--points',
    '1,64',
    '--operations',
    'write,read',
    '--transport',
    'dgram',
    ...quick,
  ]);
  t.equal(code, 0, stderr);
  const result = JSON.parse(stdout) as { points: Record<string, unknown>[] };
  t.match(result, { schema: 'jitpaxos.bench/1', command: 'compare', rounds: 1, secondsPerRun: 0.06 });
  t.equal(result.points.length, 2 * 2, 'points × operations');
  for (const point of result.points) {
    t.match(point, { replicas: 3, clients: 1, opBytes: 64, failed: 0, processes: { clients: 1, servers: 3 } });
    const baselines = point['baselines'] as { name: string; opsPerSecond: number; latencyNs: { p50: number } }[];
    t.same(
      baselines.map(({ name }) => name),
      ['c-echo-block', 'c-echo-spin', 'dgram-echo', 'unreplicated'],
    );
    t.ok(
      baselines.every(({ opsPerSecond, latencyNs }) => opsPerSecond > 0 && latencyNs.p50 > 1_000),
      JSON.stringify(baselines),
    );
    const ratios = point['ratios'] as Record<string, number>;
    t.equal(Object.keys(ratios).length, 3 * 4);
    t.ok(
      Math.abs(ratios['p50/dgram-echo']! - (point['latencyNs'] as { p50: number }).p50 / baselines[2]!.latencyNs.p50) <
        0.001,
      'a ratio is ours over theirs',
    );
  }
  t.same(
    result.points.map((point) => Object.keys(point['mix'] as object)[0]),
    ['write', 'write', 'read', 'read'],
  );

  const busy = await jitpaxos([
    'bench',
    'compare',
    '--points',
    '8',
    '--transport',
    'auto,dgram',
    '--machine',
    'kv',
    '--local',
    '5',
    '--idle',
    'busy',
    '--baselines',
    'c-echo-spin',
    ...quick,
  ]);
  t.equal(busy.code, 0, busy.stderr);
  t.match(JSON.parse(busy.stdout), {
    points: [1, 2].map(() => ({ replicas: 5, machine: 'kv', failed: 0, baselines: [{ name: 'c-echo-spin' }] })),
  });
});

t.test('bench compare says what it cannot measure', async (t) => {
  const without = await jitpaxos(['bench', 'compare'], { env: { CXX: '/nowhere/c++' } });
  t.equal(without.code, 1);
  t.match(
    without.stderr,
    /^compiler-missing: there is no compiler \(\/nowhere\/c\+\+\).*; install a C\+\+ compiler .*\n$/,
  );
  const wrong = [
    ['--points', '0'],
    ['--points', '1,x'],
    ['--local', '2'],
    ['--operations', 'cas'],
    ['--baselines', 'java'],
    ['--transport', 'tcp'],
    ['--idle', 'often'],
  ];
  const ends = await jitpaxosEach(wrong.map((args) => ['bench', 'compare', ...args]));
  for (const [index, refused] of ends.entries()) {
    t.equal(refused.code, 2, wrong[index]!.join(' '));
    t.match(refused.stderr, /^flag-invalid: .*; .*\n$/);
  }
});
