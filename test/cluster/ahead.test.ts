// Requests that are sent to one replica only, with real processes: those stamped ahead enter no log before their time, and
// those stamped in time, once there are many, wait for the primary.
import t from 'tap';
import { addKey, Attacker } from '../../bench/attacker.js';
import { Client } from '../../src/client/client.js';
import { KvClient } from '../../src/client/kv-client.js';
import { encodeGet } from '../../src/machine/kv-codec.js';
import { LocalCluster, MAIN } from '../../src/measure/local-cluster.js';
import type { ReplicaStatusReport } from '../../src/host/status.js';

/** However late this host wakes its processes, nobody is suspected: the view stays 0, replica 0 its primary, 1 its member. */
const PATIENT = { main: MAIN, flags: ['--suspect-after', '30s', '--slow-after', '0s'] };
const TIMEOUT_MS = 60_000;
/** What the replicas' clocks show may differ from what was read for the attack by this. */
const AHEAD_MS = 95;
const LIMIT_NS = 2_000_000;
const REQUESTS = 40;
const operation = new Uint8Array(64);
const length = encodeGet(operation, 0, new TextEncoder().encode('k'));

async function reports(cluster: LocalCluster): Promise<ReplicaStatusReport[]> {
  return (await cluster.ask('stats')).map((answer) => answer!.status as unknown as ReplicaStatusReport);
}

t.test(
  'requests stamped 95 ms ahead, to one replica only: all refused, and no log is ahead of its clock',
  async (t) => {
    await using cluster = await LocalCluster.start({
      replicas: 3,
      machine: 'kv',
      transport: 'auto',
      durability: 'memory',
      authenticated: true,
      // While the primary pushes its order, as on a busy host, a member refuses nothing by itself.
      program: { ...PATIENT, flags: [...PATIENT.flags, '--order-hold', '0s'] },
    });
    const options = { cluster: cluster.clusterFile, lanes: 2, timeout: TIMEOUT_MS, connectTimeout: TIMEOUT_MS };
    await using client = await Client.connect(options);
    const kv = new KvClient(client);
    await kv.put('k', 'v');
    for (const [role, target] of [
      ['read-only', 1],
      ['client', 1],
      ['client', 0],
    ] as const) {
      const attacker = await Attacker.open(cluster.clusterFile, await addKey(cluster, role));
      const before = (await reports(cluster))[target]!.counters;
      attacker.start({
        view: 0,
        targets: [target],
        perSecond: 50,
        aheadMs: AHEAD_MS,
        queries: role === 'read-only',
        operation: operation.subarray(0, length),
      });
      let furthestNs = 0;
      let done = 0;
      for (const untilMs = Date.now() + TIMEOUT_MS; attacker.sent < REQUESTS && Date.now() < untilMs; ) {
        await kv.put(`k${done++}`, 'v');
        if (done % 8 === 0)
          for (const { logAheadNs } of await reports(cluster)) furthestNs = Math.max(furthestNs, logAheadNs ?? 0);
      }
      attacker.close();
      const { counters } = (await reports(cluster))[target]!;
      const refused = counters['rejected_too_far_ahead']! - before['rejected_too_far_ahead']!;
      const name = `a ${role} key, to replica ${target}`;
      // A datagram may be lost on a busy host. One that arrives is refused.
      t.ok(refused > REQUESTS / 2 && refused <= attacker.sent, `${name}: ${refused} of ${attacker.sent} refused`);
      t.ok(furthestNs <= LIMIT_NS, `${name}: the last key of a log was at most ${furthestNs} ns ahead of the clock`);
      t.ok(done > 0, `${done} operations of another client`);
    }
  },
);

t.test(
  'requests in time, to the member only: they are soon served apart, and other clients commit as before',
  async (t) => {
    await using cluster = await LocalCluster.start({
      replicas: 3,
      machine: 'kv',
      transport: 'auto',
      durability: 'memory',
      authenticated: true,
      program: PATIENT,
    });
    const options = { cluster: cluster.clusterFile, lanes: 2, timeout: TIMEOUT_MS, connectTimeout: TIMEOUT_MS };
    await using client = await Client.connect(options);
    const kv = new KvClient(client);
    await kv.put('k', 'v');
    const attacker = await Attacker.open(cluster.clusterFile, await addKey(cluster, 'client'));
    attacker.start({
      view: 0,
      targets: [1],
      perSecond: 500,
      aheadMs: 0,
      queries: false,
      operation: operation.subarray(0, length),
    });
    const apart = async (): Promise<number[]> =>
      (await reports(cluster)).map(({ counters }) => counters['requests_apart']!);
    let done = 0;
    for (const untilMs = Date.now() + TIMEOUT_MS; (await apart())[1]! < REQUESTS && Date.now() < untilMs; ) {
      for (let i = 0; i < 8; i++) await kv.put(`k${done++}`, 'v');
    }
    attacker.close();
    const [primary, member, spare] = await apart();
    t.ok(member! >= REQUESTS, `${member} of ${attacker.sent} requests waited at the member`);
    t.strictSame([primary, spare], [0, 0], 'the primary had none of them to wait');
    for (let i = 0; i < 8; i++) await kv.put(`k${done++}`, 'v');
    t.ok(done > 0, `${done} operations of another client`);
  },
);
