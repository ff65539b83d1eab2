// Names of replicas: which of them a start needs, who is looked up again and when, and what a new address changes.
import { setTimeout as sleep } from 'node:timers/promises';
import t from 'tap';
import { Client } from '../../src/client/client.js';
import { KvClient } from '../../src/client/kv-client.js';
import { StatusClient } from '../../src/client/status-client.js';
import { KvMachine } from '../../src/machine/kv.js';
import { AddressBook, type AddressTools, type Hearing } from '../../src/host/address-book.js';
import type { HostAndPort } from '../../src/host/cluster-config.js';
import { seedsOf } from '../../src/host/host-places.js';
import { silentLogger } from '../../src/host/logger.js';
import { Replica } from '../../src/server/replica.js';
import type { Address } from '../../src/transport/transport.js';
import { HOST_PLACES, PLACES } from '../../src/wire/host-ids.js';
import { freeAddress, TRANSPORTS, until } from '../transport/fixtures.js';
import { clusterConfig } from '../server/fixtures.js';

interface World extends Required<Pick<AddressTools, 'resolver' | 'random' | 'nowMs' | 'startMs'>> {
  readonly names: Map<string, readonly string[] | 'never'>;
  readonly lookups: string[];
  ms: number;
}

/** A name server and a clock that the test sets. */
function world(names: Readonly<Record<string, readonly string[] | 'never'>>): World {
  const made: World = {
    names: new Map(Object.entries(names)),
    lookups: [],
    ms: 0,
    startMs: 20,
    random: () => 0,
    nowMs: () => made.ms,
    resolver: (host) => {
      made.lookups.push(host);
      const found = made.names.get(host);
      if (found === 'never') return new Promise(() => undefined);
      if (found === undefined) return Promise.reject(new Error(`ENOTFOUND ${host}`));
      return Promise.resolve(found.map((address) => ({ address, family: address.includes(':') ? 6 : 4 })));
    },
  };
  return made;
}

const replicas = ['a.test', 'b.test', '10.0.0.3'].map((host, index) => ({ host, port: 7400 + index }));
const hearing = (): Hearing => ({ heardLately: new Uint8Array(3), spoken: new Uint8Array(3).fill(1) });

t.test('a process starts with the names that resolve', async (t) => {
  const w = world({ 'a.test': ['10.0.0.1'] });
  const book = await AddressBook.open({ replicas }, w);
  t.same(book.addresses, [
    { host: '10.0.0.1', port: 7400, family: 4, name: 'a.test' },
    { host: '', port: 7401, family: 4, name: 'b.test' },
    { host: '10.0.0.3', port: 7402, family: 4 },
  ]);
  t.match(book.unresolved(), [{ replica: 1, host: 'b.test', error: /ENOTFOUND/ }]);
  t.equal(book.known, 2);
  const hangs = await AddressBook.open({ replicas }, world({ 'a.test': 'never', 'b.test': 'never' }));
  t.equal(hangs.known, 1, 'a name server that does not answer is waited for a little while');
  const none = { replicas: replicas.slice(0, 2) };
  await t.rejects(
    AddressBook.open(none, world({})),
    { code: 'host-unresolved', message: /a\.test[^]*b\.test/ },
    'with not one address there is nothing to begin with',
  );
});

t.test('an address of no host, or of another replica, is not taken from a name server', async (t) => {
  const opened = async (names: Readonly<Record<string, readonly string[]>>): Promise<AddressBook> =>
    AddressBook.open({ replicas: replicas.map(({ host }) => ({ host, port: 7400 })) }, world(names));
  for (const [address, error] of [
    ['0.0.0.0', /resolves to 0\.0\.0\.0, which is the address of no host/],
    ['255.255.255.255', /broadcast/],
    ['ff02::1', /multicast/],
    ['::ffff:10.0.0.3', /resolves to ::ffff:10\.0\.0\.3 port 7400, where replica 2 is/],
    ['10.0.0.1', /resolves to 10\.0\.0\.1 port 7400, where replica 0 is/],
  ] as const) {
    const book = await opened({ 'a.test': ['10.0.0.1'], 'b.test': [address] });
    t.match(book.unresolved(), [{ replica: 1, host: 'b.test', error }], address);
  }
  const second = await opened({ 'a.test': ['10.0.0.1'], 'b.test': ['10.0.0.1', '10.0.0.2'] });
  t.equal(second.addresses[1]!.host, '10.0.0.2', 'another address of the name is taken');
});

t.test('replicas that change places with each other are found again', async (t) => {
  const w = world({ 'a.test': ['10.0.0.1'], 'b.test': ['10.0.0.2'] });
  const book = await AddressBook.open({ replicas: replicas.map(({ host }) => ({ host, port: 7400 })) }, w);
  const hosts = (): string[] => book.addresses.slice(0, 2).map(({ host }) => host);
  book.watch(
    hearing(),
    () => undefined,
    () => undefined,
  );
  t.teardown(() => book.close());
  w.names.set('a.test', ['10.0.0.2']).set('b.test', ['10.0.0.1']);
  await book.look(hearing());
  t.same(hosts(), ['10.0.0.1', '10.0.0.2'], 'not at once: each is where the other was a moment ago');
  for (let seconds = 0; seconds < 120; seconds++) {
    w.ms += 1_000;
    await book.look(hearing());
  }
  t.same(hosts(), ['10.0.0.2', '10.0.0.1']);
});

t.test('hosts are entered and leave while the process runs', async (t) => {
  const w = world({ 'a.test': ['10.0.0.1'], 'b.test': ['10.0.0.2'], 'c.test': ['10.0.0.9'] });
  const book = await AddressBook.open({ replicas: [{ host: '10.0.0.3', port: 7400 }] }, w);
  const moves: string[] = [];
  const heard = { heardLately: new Uint8Array(64), spoken: new Uint8Array(64).fill(1) };
  book.watch(
    heard,
    (place, { host, port }) => void moves.push(`${place} ${host}:${port}`),
    () => undefined,
  );
  t.teardown(() => book.close());
  book.place(30, { host: '10.0.0.4', port: 7401 });
  book.place(30, { host: '10.0.0.4', port: 7401 });
  t.same(moves.splice(0), ['30 10.0.0.4:7401'], 'nothing happens where nothing changed');
  book.place(5, { host: 'a.test', port: 7402 });
  await until(() => moves.length === 2, 'its name was looked up');
  t.same(moves.splice(0), ['5 :7402', '5 10.0.0.1:7402']);
  book.place(5, { host: 'never.test', port: 7402 });
  w.names.set('never.test', 'never');
  book.place(5, { host: 'b.test', port: 7403 });
  await until(() => moves.length === 3, 'an answer for a host that has left counts no more');
  t.same(moves.splice(0), ['5 :7402', '5 :7403', '5 10.0.0.2:7403']);
  book.place(30, undefined);
  book.place(5, undefined);
  t.same(moves.splice(0), ['30 :0', '5 :0']);
  t.same(book.unresolved(), [], 'a place without a host lacks no address');
  t.equal(book.known, 1);
  const lookups = w.lookups.length;
  w.ms = 1e6;
  await book.look(heard);
  t.equal(w.lookups.length, lookups, 'and is not looked up');
  book.place(6, { host: 'c.test', port: 1 });
  await until(() => moves.length === 2, 'the next one is');
});

t.test('where one may ask for the members, nothing is said and no host is kept away', async (t) => {
  const w = world({
    'a.test': ['10.0.0.1'],
    'b.test': ['10.0.0.2'],
    'seed.test': ['10.0.0.1'],
    'c.test': ['10.0.0.1'],
  });
  const book = await AddressBook.open({ replicas }, w);
  const said: string[] = [];
  const many: Hearing = { heardLately: new Uint8Array(PLACES), spoken: new Uint8Array(PLACES) };
  book.watch(
    many,
    () => undefined,
    (event, { peer }) => said.push(`${event} ${String(peer)}`),
  );
  t.teardown(() => book.close());
  const seed = HOST_PLACES;
  book.place(seed, { host: 'seed.test', port: 7400 });
  await until(() => book.addresses[seed]!.host === '10.0.0.1', 'a seed may be where a host is');
  book.place(seed + 1, { host: 'c.test', port: 7405 });
  await until(() => book.addresses[seed + 1]!.host === '10.0.0.1', 'another is known');
  book.place(3, { host: 'c.test', port: 7405 });
  await until(() => book.addresses[3]?.host === '10.0.0.1', 'a host may be where a seed is');
  book.place(seed + 2, { host: 'gone.test', port: 1 });
  await until(() => w.lookups.includes('gone.test'), 'it is looked up');
  await until(() => book.unresolved().some(({ replica }) => replica === seed + 2), 'in vain');
  t.same(said, ['peer.address 3'], 'hosts only');
  w.names.set('seed.test', ['10.0.0.7']);
  w.ms += 60_000;
  await book.look(many);
  t.equal(book.addresses[seed]!.host, '10.0.0.1', 'it was not asked');
  many.spoken[seed] = 1;
  await book.look(many);
  t.equal(book.addresses[seed]!.host, '10.0.0.7', 'what is asked and says nothing is looked up again');
  t.same(said, ['peer.address 3']);
});

t.test('a process does not ask itself', (t) => {
  const cluster = { replicas: ['a.test', '10.0.0.2', 'c.test'].map((host) => ({ host, port: 7400 })) };
  const seeds = (...own: (HostAndPort | undefined)[]): string[] => seedsOf(cluster, own).map(({ host }) => host);
  t.same(seeds(), ['a.test', '10.0.0.2', 'c.test']);
  t.same(seeds({ host: '10.0.0.1', port: 7400 }, cluster.replicas[0]), ['10.0.0.2', 'c.test'], 'by its name');
  t.same(seeds({ host: '10.0.0.2', port: 7400 }, undefined), ['a.test', 'c.test'], 'by its address');
  t.same(seeds({ host: '::ffff:10.0.0.2', port: 7400 }), ['a.test', 'c.test'], 'in another spelling');
  t.same(seeds({ host: '10.0.0.2', port: 7401 }), ['a.test', '10.0.0.2', 'c.test'], 'another process of the host');
  t.end();
});

t.test('who is heard is never looked up; who is silent is, with a growing pause', async (t) => {
  const w = world({ 'a.test': ['10.0.0.1'], 'b.test': ['10.0.0.2'] });
  const book = await AddressBook.open({ replicas }, w);
  const moves: [number, Address][] = [];
  const notices: string[] = [];
  const heard = hearing();
  book.watch(
    heard,
    (replica, address) => void moves.push([replica, address]),
    (event, fields) => void notices.push(`${event} ${String(fields['peer'])}`),
  );
  t.teardown(() => book.close());
  w.lookups.length = 0;
  w.names.set('a.test', ['10.0.0.66']);
  for (; w.ms < 60_000; w.ms += 1_000) {
    heard.heardLately.fill(1);
    await book.look(heard);
  }
  t.same(w.lookups, [], 'not even when another answer would be waiting: a name server cannot move who is heard');

  const times: number[] = [];
  for (const end = w.ms + 100_000; w.ms < end; w.ms += 1_000) {
    heard.heardLately[0] = 1;
    heard.spoken.fill(1);
    const before = w.lookups.length;
    await book.look(heard);
    if (w.lookups.length > before) times.push(w.ms);
  }
  t.same(new Set(w.lookups), new Set(['b.test']), 'the silent one');
  const pauses = times.slice(1).map((at, i) => at - times[i]!);
  t.ok(
    pauses.every((pause, i) => i === 0 || pause >= pauses[i - 1]!),
    `pauses ${pauses.join(', ')}`,
  );
  t.ok(times.length <= 9, `${times.length} lookups in 100 s`);
  t.same(moves, [], 'its address is what it was');

  w.names.set('b.test', ['10.0.0.22']);
  w.ms += 60_000;
  heard.spoken.fill(1);
  await book.look(heard);
  t.match(
    moves,
    [
      [0, { host: '10.0.0.66' }],
      [1, { host: '10.0.0.22', port: 7401, family: 4, name: 'b.test' }],
    ],
    'taken over, and said',
  );
  t.same(notices, ['peer.address 0', 'peer.address 1']);
  w.names.delete('b.test');
  w.ms += 60_000;
  heard.spoken.fill(1);
  await book.look(heard);
  t.equal(book.addresses[1]!.host, '10.0.0.22', 'a name that is gone takes no address away');
  t.ok(notices.includes('peer.unresolved 1'));

  w.lookups.length = 0;
  w.ms += 60_000;
  heard.spoken.fill(0);
  await book.look(heard);
  t.same(w.lookups, [], 'to whom nothing was said owes no answer: an idle client asks no name server');
});

t.test(
  'of several addresses of a silent name the next one is tried; an unresolved name until it resolves',
  async (t) => {
    const w = world({ 'a.test': ['10.0.0.1', 'fd00::1'] });
    const book = await AddressBook.open({ replicas }, w);
    t.equal(book.addresses[0]!.host, '10.0.0.1');
    const heard = hearing();
    heard.spoken.fill(1);
    w.ms = 60_000;
    await book.look(heard);
    t.match(book.addresses[0], { host: 'fd00::1', family: 6 });
    w.ms = 120_000;
    await book.look(heard);
    t.match(book.addresses[0], { host: '10.0.0.1', family: 4 });
    w.names.set('b.test', ['10.0.0.2']);
    w.ms = 180_000;
    heard.spoken.fill(0);
    await book.look(heard);
    t.equal(book.addresses[1]!.host, '10.0.0.2', 'also when nothing could be said to it');
  },
);

for (const [kind, make] of Object.entries(TRANSPORTS)) {
  t.test(
    `${kind}: a replica without an address costs what is sent to it; one that moved is sent to where it is, in whatever family`,
    async (t) => {
      const [first, second, third] = [await freeAddress(4), await freeAddress(4), await freeAddress(6)];
      const heard: string[] = [];
      const servers = [first, second, third].map((listen, at) =>
        make({ replicas: [], listen, receive: (bytes, offset) => void heard.push(`${at}:${bytes[offset]}`) }),
      );
      for (const server of servers) await server.open();
      const client = make({ replicas: [{ host: '', port: first.port, family: 4, name: 'x.test' }, second] });
      await client.open();
      t.teardown(() => Promise.all([...servers, client].map((each) => each.close())));
      let number = 0;
      const say = (): void => {
        const bytes = client.acquire(1)!;
        bytes[0] = ++number;
        client.send(bytes, 1, 0);
        client.flush();
      };
      say();
      t.equal(client.counters[10], 1, 'endpoint_unknown');
      for (const [at, address] of [
        [0, first],
        [1, second],
        [2, third],
      ] as const) {
        client.readdress(0, { ...address, name: 'x.test' });
        await until(() => {
          say();
          return heard.some((what) => what.startsWith(`${at}:`));
        }, `server ${at} hears`);
      }
      t.notOk(heard.includes('0:1'), 'what was dropped is gone');
    },
  );
}

t.test('one name that does not resolve stops no new process while the others are a majority', async (t) => {
  const cluster = await clusterConfig(3);
  const hosts = { ...cluster, replicas: [cluster.replicas[0]!, cluster.replicas[1]!, 'no-such-host.invalid:7402'] };
  const replicas = await Promise.all(
    [0, 1].map((id) => Replica.start({ cluster: hosts, id, machine: new KvMachine(), logger: silentLogger })),
  );
  t.teardown(() => Promise.all(replicas.map((replica) => replica.close())));
  while (!replicas.every((replica) => replica.status().status === 'normal')) await sleep(20); // they ask each other whether the cluster is new
  await using client = await Client.connect({
    cluster: hosts,
    timeout: 30_000,
    connectTimeout: 30_000,
    logger: silentLogger,
  });
  const kv = new KvClient(client);
  await kv.put('a', 'b');
  t.equal(Buffer.from((await kv.get('a'))!).toString(), 'b');
  await using status = await StatusClient.open({ cluster: hosts });
  for (let i = 0; i < 50; i++) {
    const answers = await status.ask(500);
    if (answers[0]!.report !== undefined && answers[1]!.report !== undefined) break;
    await sleep(50);
    if (i === 49) t.fail('both answer');
  }
  await t.rejects(
    Replica.start({ cluster: hosts, id: 2, machine: new KvMachine(), logger: silentLogger }),
    { code: 'host-unresolved', message: /where to listen/ },
    'without keys a replica listens nowhere but at its own address',
  );
});
