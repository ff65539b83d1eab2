// Changes of the members from end to end: a process that waits, an operator's tool that is killed after every step, real
// sockets and data directories, and a client that goes on.
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import t, { type Test } from 'tap';
import { joinedId } from '../../src/cli/members/join.js';
import type { MemberRequest } from '../../src/cli/members/plan.js';
import { Reach } from '../../src/cli/members/reach.js';
import { runChange } from '../../src/cli/members/run.js';
import { Client } from '../../src/client/client.js';
import { switchOn } from '../../src/client/feature-switch.js';
import { KvClient } from '../../src/client/kv-client.js';
import { openChain } from '../../src/host/chain.js';
import { loadCluster } from '../../src/host/cluster-config.js';
import { silentLogger } from '../../src/host/logger.js';
import { KvMachine } from '../../src/machine/kv.js';
import { loadHash } from '../../src/native/hash64.js';
import { FEATURE_NAMES, featureOperation } from '../../src/protocol/log/features.js';
import { Replica } from '../../src/server/replica.js';
import { clusterConfig, freePorts } from '../server/fixtures.js';

/** On a busy host. */
const TIMEOUT_MS = 300_000;

/** A cluster with a cluster file, whose hosts are in this process. */
class Hosts {
  readonly running = new Map<number, Replica>();
  private readonly directory: string;
  readonly file: string;
  private joined = 0;

  private constructor(private readonly t: Test) {
    this.directory = mkdtempSync(join(tmpdir(), 'jitpaxos-members-'));
    this.file = join(this.directory, 'cluster.json');
    t.teardown(async () => {
      await Promise.all([...this.running.values()].map((replica) => replica.close()));
      rmSync(this.directory, { recursive: true, force: true });
    });
  }

  static async start(t: Test, replicas: number): Promise<Hosts> {
    const hosts = new Hosts(t);
    const cluster = await clusterConfig(replicas);
    writeFileSync(hosts.file, JSON.stringify(cluster));
    await Promise.all(cluster.replicas.map((_, id) => hosts.run(id, hosts.dataOf(id))));
    const chain = openChain(loadCluster(cluster), undefined, loadHash());
    const operation = featureOperation(FEATURE_NAMES.indexOf('membership') + 1, chain);
    await switchOn({ cluster, logger: silentLogger, connectTimeout: TIMEOUT_MS }, operation, TIMEOUT_MS);
    // A tool that meets a host before it has executed this switches the feature on once more.
    const isOn = (replica: Replica): boolean => replica.status().features?.on.includes('membership') === true;
    while (![...hosts.running.values()].every(isOn)) await sleep(20);
    return hosts;
  }

  /** @param listen where its directory has moved to */
  async run(id: number, data: string, listen?: string): Promise<void> {
    const options = { cluster: this.file, id, data, machine: new KvMachine(), logger: silentLogger };
    this.running.set(id, await Replica.start({ ...options, ...(listen === undefined ? {} : { listen }) }));
  }

  client(): Promise<Client> {
    const options = { logger: silentLogger, timeout: TIMEOUT_MS, connectTimeout: TIMEOUT_MS };
    return Client.connect({ cluster: this.file, ...options });
  }

  /** The data directory of a first host. */
  dataOf(id: number): string {
    return join(this.directory, `first-${id}`);
  }

  async stop(id: number): Promise<void> {
    const replica = this.running.get(id)!;
    this.running.delete(id);
    await replica.close();
  }

  /** A process with an empty directory waits at that address; when it is added, it is a host. */
  async waits(port?: number): Promise<string> {
    const listen = { host: '127.0.0.1', port: port ?? (await freePorts(1))[0]! };
    const data = join(this.directory, `joined-${this.joined++}`);
    const stopping = new AbortController();
    await new Promise<void>((resolve, reject) => {
      const waiting = joinedId(
        { cluster: this.file, data, listen, logger: silentLogger, waits: () => resolve() },
        stopping.signal,
      );
      const hosting = waiting.then((id) => (id === undefined ? undefined : this.run(id, data)));
      hosting.catch(reject);
      this.t.teardown(async () => {
        stopping.abort();
        await hosting.catch(() => undefined);
      });
    });
    return `127.0.0.1:${listen.port}`;
  }

  /** Carries out a command by processes of which each is killed after one step. Returns the steps, and the voters then. */
  async change(request: MemberRequest): Promise<{ readonly steps: readonly string[]; readonly voters: number[] }> {
    const steps: string[] = [];
    class Killed extends Error {}
    for (;;) {
      const reach = new Reach({
        cluster: this.file,
        replicaKeys: undefined,
        answerMs: 1_000,
        decisionMs: TIMEOUT_MS,
        logger: silentLogger,
      });
      try {
        const { list } = await runChange(request, reach, {
          timeoutMs: TIMEOUT_MS,
          patienceMs: 60_000,
          nowMs: () => performance.now(),
          sleep,
          done: (says) => {
            // The next tool may ask hosts that have not executed this yet, and do it again.
            if (steps.at(-1) !== says) steps.push(says);
            throw new Killed();
          },
          waits: () => undefined,
        });
        return { steps, voters: list.hosts.filter(({ votes }) => votes).map(({ id }) => id) };
      } catch (error) {
        if (!(error instanceof Killed)) throw error;
      } finally {
        await reach.close();
      }
    }
  }
}

/** What was written before, between and after the changes. */
async function hasAll(t: Test, kv: KvClient): Promise<void> {
  for (const [key, value] of [
    ['before', '1'],
    ['between', '2'],
    ['after', '3'],
  ] as const)
    t.equal(Buffer.from((await kv.get(key))!).toString(), value);
}

t.test('one of three burnt down: a new host takes its place, the old ones go, and three become five', async (t) => {
  const hosts = await Hosts.start(t, 3);
  await using client = await hosts.client();
  const kv = new KvClient(client);
  await kv.put('before', '1');
  await hosts.stop(2);
  const address = await hosts.waits();
  const usual = { allowEven: true, force: false };
  // Each run of a tool that is killed would wait for the silence of host 2 anew.
  const replace: MemberRequest = { kind: 'replace', id: 2, address, alive: true, ...usual };
  const { steps, voters } = await hosts.change(replace);
  t.same(voters, [0, 1, 3]);
  t.same(steps, [
    'the log knows the data directory of host 0',
    'the log knows the data directory of host 1',
    'host 2 can no longer return: the log lists another data directory in its place',
    `${address} is listed, as a learner`,
    'epoch 1 is decided: voters 0, 1, 3',
  ]);
  t.same(await hosts.change(replace), { steps: [], voters: [0, 1, 3] }, 'asked again, nothing is left to do');
  await kv.put('between', '2');

  const two = [await hosts.waits(), await hosts.waits()];
  const grown = await hosts.change({ kind: 'add', addresses: two, ...usual });
  t.same(grown.voters, [0, 1, 3, 4, 5]);
  t.equal(grown.steps.length, 3);
  const shrunk = await hosts.change({ kind: 'remove', ids: [0, 1], ...usual });
  t.same(shrunk.voters, [3, 4, 5]);
  await hosts.stop(0);
  await hosts.stop(1);
  await kv.put('after', '3');
  await hasAll(t, kv);
});

t.test(
  'a host moves with its directory: the first change of a cluster, and the host is needed afterwards',
  async (t) => {
    const hosts = await Hosts.start(t, 3);
    await using client = await hosts.client();
    const kv = new KvClient(client);
    await kv.put('before', '1');
    await hosts.stop(1);
    const address = `127.0.0.1:${(await freePorts(1))[0]}`;
    await hosts.run(1, hosts.dataOf(1), address);
    const { steps, voters } = await hosts.change({ kind: 'move', id: 1, address });
    t.same(voters, [0, 1, 2]);
    t.same(steps, [
      'the log knows the data directory of host 0',
      'the log knows the data directory of host 1',
      'the log knows the data directory of host 2',
      `host 1 is listed at ${address}`,
    ]);
    await hosts.stop(2);
    await kv.put('between', '2'); // 0 and 1 are the quorum
    const isThere = (): boolean =>
      hosts.running
        .get(1)!
        .status()
        .membership?.hosts.some((host) => host.id === 1 && host.address === address) === true;
    while (!isThere()) await sleep(20); // it executes what moved it when it knows that it is committed
    await hosts.stop(1);
    await hosts.run(1, hosts.dataOf(1));
    await kv.put('after', '3');
    t.equal(hosts.running.get(1)!.status().port, Number(address.split(':')[1]));
    await hasAll(t, kv);
  },
);

t.test('an address to listen at that is none', async (t) => {
  const cluster = await clusterConfig(3);
  for (const listen of ['', '127.0.0.1', '0.0.0.0:7400', '[::1:7400', 'host:0', 7400])
    await t.rejects(
      Replica.start({ cluster, id: 0, machine: new KvMachine(), logger: silentLogger, listen: listen as string }),
      { code: 'option-invalid', message: /listen is .*; it has to be "HOST:PORT"/ },
      String(listen),
    );
});
