// A cluster on hosts with Ethernet between them: nothing that the protocol itself sends is cut into fragments, status,
// members and transfers of a log included. Two replicas have an IPv4 address in the cluster file, one an IPv6 address.
import { randomBytes } from 'node:crypto';
import t from 'tap';
import { DEFAULT_LIMITS } from '../../src/protocol/config.js';
import { HostedCluster, Network, replicaAt, REPLICAS } from './hosts.js';
import { insideNamespaces } from './inside.js';

const OPERATIONS = 400;
const BENCH = ['bench', 'latency', '--machine', 'kv', '--keys', '50', '--lanes', '32', '--size', '1200', '--json'];

if (await insideNamespaces(t))
  await t.test('no datagram is cut, of either family', async (t) => {
    const network = new Network();
    const cluster = await HostedCluster.start(t, network, {
      replicas: REPLICAS.map((name, id) => replicaAt(name, id === 1 ? 6 : 4)),
      limits: { ...DEFAULT_LIMITS, logEntries: 1 << 10, logBytes: 1 << 20 },
    });
    const run = async (...args: Parameters<HostedCluster['run']>): Promise<string> => {
      const { code, stdout, stderr } = await cluster.run(...args);
      t.equal(code, 0, `${args.slice(0, 3).join(' ')}: ${stderr}`);
      return stdout.trim();
    };
    const load = (host: 'client-0' | 'client-1'): Promise<string> => run(host, ...BENCH, '--ops', String(OPERATIONS));
    const full = 'v'.repeat(1_300);
    const [measured] = await Promise.all([load('client-0'), run('client-1', 'kv', 'put', 'full', full)]);
    t.match(JSON.parse(measured), { operations: OPERATIONS });
    t.equal(await run('client-0', 'kv', 'get', 'full'), full, 'what one host wrote another reads');
    // A replica that lost everything gets a snapshot, and the log behind it.
    await cluster.stopReplica(2, { forget: true });
    await load('client-1');
    await cluster.startReplica(2, '--log-lost');
    const status = await run('client-1', 'status', '--json', '--timeout', '10s');
    t.match(JSON.parse(status), { available: true, answered: 3 });
    await run('client-0', 'member', 'list');
    t.equal(network.fragmentsMade(), 0, 'no datagram was cut');

    await run('client-1', 'kv', 'put', 'long', randomBytes(1_500).toString('hex'));
    t.ok(network.fragmentsMade() > 0, 'an operation that is longer than a datagram is cut, and arrives');
  });
