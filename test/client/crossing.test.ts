// Clients of a cluster whose members never changed, where processes know that they can: they find the view that runs
// beside every version of the wire, and nobody asks for the members without need.
import { setTimeout as sleep } from 'node:timers/promises';
import t, { type Test } from 'tap';
import { Client } from '../../src/client/client.js';
import { KvClient } from '../../src/client/kv-client.js';
import { silentLogger } from '../../src/host/logger.js';
import { KvMachine } from '../../src/machine/kv.js';
import { EPOCH_VIEWS } from '../../src/protocol/configuration.js';
import { ClientCounter } from '../../src/protocol/counters.js';
import { Replica } from '../../src/server/replica.js';
import { begin } from '../../src/wire/layout.js';
import { ViewChange } from '../../src/wire/messages.js';
import { writeI32 } from '../../src/wire/u64.js';
import { PREVIOUS_WIRE_VERSION } from '../../src/wire/versions.js';
import { clusterConfig } from '../server/fixtures.js';

/** On a busy host. */
const TIMEOUT_MS = 120_000;
async function until(condition: () => boolean, what: string): Promise<void> {
  const endMs = performance.now() + TIMEOUT_MS;
  while (!condition()) {
    if (performance.now() > endMs) throw new Error(`timed out waiting until ${what}`);
    await sleep(10);
  }
}

const bytes = (text: string): Uint8Array => new TextEncoder().encode(text);

/** All replicas are in a view beyond those of epoch 0, as after many view changes. */
async function crossed(replicas: readonly Replica[]): Promise<void> {
  const message = new Uint8Array(ViewChange.size);
  begin(ViewChange, message, 0);
  writeI32(message, ViewChange.at.view, EPOCH_VIEWS + 5);
  const [first] = replicas;
  const { core, loop } = first as unknown as { core: Replica['core']; loop: Replica['loop'] };
  loop.turn((now) => core.receive(message, 0, message.length, 1, now, 0));
  await until(
    () =>
      replicas.every((replica) => {
        const { view, status } = replica.status();
        return view > EPOCH_VIEWS && status === 'normal';
      }),
    'all are there',
  );
}

async function cluster(t: Test, wireVersion?: number | 'mixed') {
  const config = await clusterConfig(3);
  const replicas = await Promise.all(
    config.replicas.map((_, id) =>
      Replica.start({
        cluster: config,
        id,
        machine: new KvMachine(),
        logger: silentLogger,
        wireVersion: wireVersion !== 'mixed' ? wireVersion : id === 2 ? PREVIOUS_WIRE_VERSION : undefined,
      }),
    ),
  );
  t.teardown(() => Promise.all(replicas.map((replica) => replica.close())));
  await until(() => replicas.every((replica) => replica.status().status === 'normal'), 'all serve');
  return { config, replicas };
}

const asked = (replicas: readonly Replica[]): number =>
  replicas.reduce((sum, replica) => {
    const { answered, refused } = replica.status().membersRequests!;
    return sum + answered + refused;
  }, 0);

for (const [what, hosts, own] of [
  ['hosts that cannot answer', PREVIOUS_WIRE_VERSION, undefined],
  ['hosts that know nothing of changes', undefined, undefined],
  ['hosts that it cannot ask, being held back itself', undefined, PREVIOUS_WIRE_VERSION],
  ['a host that cannot answer, and two that can', 'mixed', undefined],
] as const)
  t.test(`a client crosses the last view of epoch 0 beside ${what}`, async (t) => {
    const { config, replicas } = await cluster(t, hosts);
    const options = { cluster: config, logger: silentLogger, connectTimeout: TIMEOUT_MS, wireVersion: own };
    const before = await Client.connect(options);
    t.teardown(() => before.close());
    await new KvClient(before).put(bytes('a'), bytes('1'), { timeout: TIMEOUT_MS });
    await crossed(replicas);
    await new KvClient(before).put(bytes('a'), bytes('2'), { timeout: TIMEOUT_MS });
    const after = await Client.connect(options);
    t.teardown(() => after.close());
    const value = await new KvClient(after).get(bytes('a'), { timeout: TIMEOUT_MS });
    t.same(value, bytes('2'));
    t.ok(after['host'].view > EPOCH_VIEWS, `view ${after['host'].view}`);
  });

t.test('what hosts say that can tell counts only when they have told (rule S)', async (t) => {
  const { config, replicas } = await cluster(t);
  const client = await Client.connect({ cluster: config, logger: silentLogger, connectTimeout: TIMEOUT_MS });
  t.teardown(() => client.close());
  const kv = new KvClient(client);
  await kv.put(bytes('a'), bytes('1'), { timeout: TIMEOUT_MS });
  const host = client['host'];
  const members = host['members'];
  const { loop, search: memberSearch } = members as unknown as {
    loop: { peers: { spokenBy(replica: number): number } };
    search: { ask(place: number, now: unknown): void; search(now: unknown): void };
  };
  // One host is held back. The others may be in views of five, and nobody is told.
  const { spokenBy } = loop.peers;
  loop.peers.spokenBy = (replica) => (replica === 2 ? PREVIOUS_WIRE_VERSION : spokenBy.call(loop.peers, replica));
  const asked: number[] = [];
  const { ask, search } = memberSearch;
  memberSearch.search = () => undefined;
  memberSearch.ask = (place) => void asked.push(place);
  await crossed(replicas);
  host['sessions'].core['learnView'](replicas[2]!.status().view, 2, host.instant);
  t.not(members.unsureFrom, Infinity, 'the word of the one that is held back is taken');
  t.ok(host.view > EPOCH_VIEWS);
  await t.rejects(kv.put(bytes('a'), bytes('2'), { timeout: 2_000 }), { code: 'outcome-unknown' });
  t.ok(asked.includes(0) && asked.includes(1), 'the others are asked');
  Object.assign(memberSearch, { ask, search });
  await kv.put(bytes('a'), bytes('4'), { timeout: TIMEOUT_MS });
  t.equal(members.unsureFrom, Infinity, 'they have told');
});

t.test('in a cluster that serves, nobody asks', async (t) => {
  const { config, replicas } = await cluster(t);
  const before = asked(replicas);
  const client = await Client.connect({ cluster: config, logger: silentLogger, connectTimeout: TIMEOUT_MS });
  t.teardown(() => client.close());
  const kv = new KvClient(client);
  for (let i = 0; i < 200; i++) await kv.put(bytes(`key ${i % 7}`), bytes(`${i}`), { timeout: TIMEOUT_MS });
  // A process that waits in vain for several answers may ask: this host may stand still.
  const inVain = client['host'].counters()[ClientCounter.probes]!;
  t.ok(inVain > 0 || asked(replicas) === before, `${asked(replicas) - before} questions`);
});
