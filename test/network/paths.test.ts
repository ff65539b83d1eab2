// Paths that do not carry what hosts send: narrower ones, with ICMP that says so and without, and ones that drop
// fragments. `doctor` says what it finds on each; with the settings that it advises the cluster works.
import { randomBytes } from 'node:crypto';
import t from 'tap';
import type { Finding } from '../../src/cli/doctor/finding.js';
import { DEFAULT_LIMITS } from '../../src/protocol/config.js';
import { ETHERNET, HostedCluster, Network, REPLICAS, type HostName } from './hosts.js';
import { insideNamespaces } from './inside.js';

const NARROW = 1_400;
/** What it carries over IPv4. */
const CARRIED = NARROW - 28;
/** Longer than a datagram, shorter than the limits. */
const LONG = randomBytes(1_500).toString('hex');
/** Fills a datagram. */
const FULL = 'v'.repeat(1_300);

if (await insideNamespaces(t)) {
  const network = new Network();
  /** What doctor finds of the paths. */
  const pathsFrom = async (cluster: HostedCluster, host: HostName): Promise<Record<string, Finding>> => {
    const { stdout, stderr } = await cluster.run(host, 'doctor', '--json', '--timeout', '3s');
    if (stdout === '') throw new Error(stderr);
    const { findings } = JSON.parse(stdout) as { findings: Finding[] };
    return Object.fromEntries(
      findings.filter(({ check }) => /path|fragments/.test(check)).map((each) => [each.check, each]),
    );
  };

  await t.test('with the defaults', async (t) => {
    const cluster = await HostedCluster.start(t, network);
    const put = async (host: HostName, value: string, ...more: readonly string[]): Promise<void> => {
      const { code, stderr } = await cluster.run(host, 'kv', 'put', 'key', value, '--timeout', '60s', ...more);
      t.equal(code, 0, `${value.length} bytes from ${host}: ${stderr}`);
    };
    await t.test('Ethernet', async (t) => {
      const found = await pathsFrom(cluster, 'client-0');
      const passes = { level: 'ok', found: /datagrams of 1,432 bytes pass there and back/ };
      t.match(found, {
        'path 0': passes,
        'path 1': passes,
        'path 2': passes,
        fragments: { level: 'ok' },
        path: undefined,
      });
    });
    await t.test('a narrower path that says so', async (t) => {
      network.narrow(NARROW, { icmp: true });
      const found = await pathsFrom(cluster, 'client-1');
      t.match(found, { 'path 0': { level: 'ok' }, path: { level: 'warn', found: /cuts datagrams of 1,432 bytes/ } });
      await put('client-1', FULL);
    });
    await t.test('a narrower path that does not', async (t) => {
      network.narrow(NARROW, { icmp: false });
      network.forget();
      const lost = {
        level: 'fail',
        found: /1,432 bytes are lost on the way there; the longest that passed had 1,372/,
        advice: /"datagramBytes": 1372/,
      };
      const found = await pathsFrom(cluster, 'client-1');
      t.match(found, { 'path 0': lost, 'path 1': lost, 'path 2': { level: 'ok' } }, 'two replicas are behind it');
      await put('client-0', 'short');
    });
    await t.test('fragments that are dropped', async (t) => {
      network.narrow(ETHERNET, { icmp: true });
      network.forget();
      await put('client-1', LONG);
      for (const name of REPLICAS) network.passFragments(name, false);
      const found = await pathsFrom(cluster, 'client-0');
      t.match(found, { 'path 0': { level: 'ok' }, fragments: { level: 'warn', found: /replica 0, 1, 2/ } });
      const { code, stderr } = await cluster.run('client-0', 'kv', 'put', 'key', LONG, '--timeout', '4s');
      t.not(code, 0);
      t.match(stderr, /outcome-unknown[^]*IP fragments[^]*jitpaxos doctor/);
      for (const name of REPLICAS) network.passFragments(name, true);
      await put('client-0', LONG);
    });
  });

  await t.test('with the settings that doctor advises, over a black hole', async (t) => {
    network.narrow(NARROW, { icmp: false });
    network.forget();
    for (const name of REPLICAS) network.passFragments(name, false);
    const datagramBytes = CARRIED;
    const bytes = datagramBytes - 100;
    const limits = {
      ...DEFAULT_LIMITS,
      logEntries: 1 << 10,
      logBytes: 1 << 20,
      operationBytes: bytes,
      resultBytes: bytes,
    };
    const cluster = await HostedCluster.start(t, network, { datagramBytes, limits });
    const load = ['bench', 'latency', '--machine', 'kv', '--keys', '50', '--lanes', '32', '--size', '1200', '--json'];
    const run = async (host: HostName, ...args: readonly string[]): Promise<string> => {
      const { code, stdout, stderr } = await cluster.run(host, ...args);
      t.equal(code, 0, `${args.slice(0, 3).join(' ')}: ${stderr}`);
      return stdout;
    };
    await cluster.stopReplica(2, { forget: true });
    await run('client-0', ...load, '--ops', '300');
    await cluster.startReplica(2, '--log-lost');
    await run('client-1', ...load, '--ops', '300');
    const found = await pathsFrom(cluster, 'client-1');
    t.match(found, {
      'path 0': { level: 'ok' },
      'path 1': { level: 'ok' },
      'path 2': { level: 'ok' },
      fragments: undefined,
    });
    const refused = await cluster.run('client-1', 'kv', 'put', 'key', LONG);
    t.match(
      refused,
      { code: 2, stderr: /operation-too-large[^]*operationBytes/ },
      'it is refused, and the limit is named',
    );
  });
}
