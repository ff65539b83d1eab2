// Every process of a cluster without keys says so, once, and never on stdout; one of a cluster with keys does not.
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { Client } from '../../src/client/client.js';
import { silentLogger } from '../../src/host/logger.js';
import { firstWithoutKeysWarning, withoutKeysWarning } from '../../src/host/without-keys.js';
import { LocalCluster, MAIN } from '../../src/measure/local-cluster.js';
import { jitpaxos } from '../cluster/processes.js';

const TIMEOUT = ['--timeout', '60s'];
const WARNING = /this cluster has no keys: nothing is encrypted/g;
const warnings = (text: string): number => (text.match(WARNING) ?? []).length;

for (const authenticated of [false, true]) {
  const expected = authenticated ? 0 : 1;
  t.test(authenticated ? 'with keys: no warning' : 'without keys: one warning in each process', async (t) => {
    await using cluster = await LocalCluster.start({
      replicas: 1,
      machine: 'kv',
      transport: 'auto',
      durability: 'memory',
      authenticated,
      program: { main: MAIN, flags: ['--log-level', 'warn'] },
    });
    t.equal(warnings(cluster.replicas[0]!.complaint), expected, 'the replica');
    const at = ['--cluster', cluster.clusterFile];
    const commands: [command: string[], lines: number][] = [
      [['kv', 'put', 'a', 'b', ...TIMEOUT, '--json'], 1],
      [['kv', 'get', 'a', ...TIMEOUT], 1],
      [['status', '--interval', '0s', ...TIMEOUT, '--json'], 1],
      [['top', '--count', '2', '--interval', '50ms', '--json'], 2],
      [['bench', 'latency', '--ops', '50', '--clients', '2', '--machine', 'kv', '--json'], 1],
    ];
    for (const [command, lines] of commands) {
      const { stdout, stderr } = await jitpaxos([...command, ...at]);
      t.equal(warnings(stderr), expected, `${command.slice(0, 2).join(' ')}: ${stderr}`);
      t.equal(warnings(stdout), 0, 'nothing of it on stdout');
      t.equal(stdout.trim().split('\n').length, lines, `${command[0]!}: ${stdout}`);
      if (command.includes('--json')) for (const line of stdout.trim().split('\n')) JSON.parse(line);
    }
    t.equal(warnings((await jitpaxos(['kv', 'get', 'a', ...TIMEOUT, '--quiet', ...at])).stderr), 0, 'not with --quiet');
    const { findings } = JSON.parse((await jitpaxos(['doctor', ...at, ...TIMEOUT, '--json'])).stdout) as {
      findings: { check: string; level: string; found: string }[];
    };
    t.match(
      findings.find(({ check }) => check === 'keys'),
      authenticated ? { level: 'ok' } : { level: 'warn', found: WARNING },
    );
  });
}

t.test('init writes keys, or is told not to and warns', async (t) => {
  const cwd = mkdtempSync(join(tmpdir(), 'jitpaxos-test-'));
  t.teardown(() => rmSync(cwd, { recursive: true, force: true }));
  const init = (...args: string[]): ReturnType<typeof jitpaxos> =>
    jitpaxos(['init', '--replicas', '127.0.0.1:7400', ...args], { cwd });
  const keyed = await init();
  t.match([keyed.code, keyed.stdout], [0, /replica\.keys/]);
  t.match(JSON.parse(readFileSync(join(cwd, 'cluster.json'), 'utf8')), {
    authentication: 'keys',
    encryption: 'required',
  });
  t.equal(warnings(keyed.stderr), 0);
  const insecure = await init('--insecure', '--out', 'open.json', '--json');
  t.equal(insecure.code, 0);
  t.equal(warnings(insecure.stderr), 1);
  t.equal((JSON.parse(insecure.stdout) as { keys: unknown }).keys, null);
});

t.test('a process that connects often warns once', async (t) => {
  await using cluster = await LocalCluster.start({
    replicas: 1,
    machine: 'kv',
    transport: 'auto',
    durability: 'memory',
  });
  const said: string[] = [];
  const logger = { ...silentLogger, warn: (event: string) => void said.push(event) };
  for (let i = 0; i < 3; i++) {
    await using client = await Client.connect({ cluster: cluster.clusterFile, connectTimeout: 60_000, logger });
    t.ok(client.stats());
  }
  t.equal(said.filter((event) => event === 'cluster.without-keys').length, 1);
  t.equal(firstWithoutKeysWarning({ authentication: 'none' }), undefined);
  t.equal(withoutKeysWarning({ authentication: 'keys' }), undefined);
});
