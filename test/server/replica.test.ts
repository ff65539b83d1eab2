import { createSocket } from 'node:dgram';
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import t, { type Test } from 'tap';
import { Client } from '../../src/client/client.js';
import { KvClient } from '../../src/client/kv-client.js';
import { KvMachine } from '../../src/machine/kv.js';
import { InvariantError } from '../../src/protocol/invariant.js';
import { loadCluster, resolveAddresses, type ClusterConfig } from '../../src/host/cluster-config.js';
import { silentLogger, type Logger } from '../../src/host/logger.js';
import { nearest, show } from '../../src/host/options.js';
import { Replica } from '../../src/server/replica.js';
import type { ReplicaOptions } from '../../src/server/replica-options.js';
import { native, type NativeBinding } from '../../src/native/addon.js';
import { WakeTimer } from '../../src/host/wake-timer.js';
import { clusterConfig, startReplicas } from './fixtures.js';

const GOOD: ClusterConfig = {
  schema: 'jitpaxos.cluster/1',
  id: '0123456789abcdef',
  replicas: ['127.0.0.1:7400', '[::1]:7401', 'c.example:7402'],
};

function directory(t: Test): string {
  const path = mkdtempSync(join(tmpdir(), 'jitpaxos-server-'));
  t.teardown(() => rmSync(path, { recursive: true, force: true }));
  return path;
}

t.test('cluster file', async (t) => {
  await t.test('is read and taken apart', async (t) => {
    const path = join(directory(t), 'cluster.json');
    writeFileSync(path, JSON.stringify({ ...GOOD, id: 'FEDCBA9876543210', limits: { maxSessions: 10 } }));
    const cluster = loadCluster(path);
    t.same(cluster.replicas, [
      { host: '127.0.0.1', port: 7400 },
      { host: '::1', port: 7401 },
      { host: 'c.example', port: 7402 },
    ]);
    t.equal(cluster.id, 'fedcba9876543210');
    t.same([cluster.idHi, cluster.idLo], [0xfedcba98 | 0, 0x76543210]);
    t.equal(cluster.limits.maxSessions, 10);
    t.equal(cluster.limits.lanesPerSession, 4096, 'the rest is the default');
  });

  await t.test('what is wrong is named, with what was expected', async (t) => {
    const wrong: [string, unknown, RegExp][] = [
      ['no object', [GOOD], /is not a JSON object/],
      ['a misspelt key', { ...GOOD, replica: [] }, /"replica" .* did you mean "replicas"\?/],
      [
        'an unknown key',
        { ...GOOD, zzzzzzzz: 1 },
        /"zzzzzzzz" .* use one of schema, id, replicas, authentication, encryption, chain, features, restored, limits, datagramBytes/,
      ],
      ['a chain that is none', { ...GOOD, chain: 'md5' }, /"chain" is "md5"; it has to be one of xxh3-64, siphash-2-4/],
      [
        'a keyed chain without keys',
        { ...GOOD, chain: 'siphash-2-4' },
        /"chain" is "siphash-2-4", which is keyed, and "authentication" is "none"/,
      ],
      [
        'schema',
        { ...GOOD, schema: 'jitpaxos.cluster/2' },
        /"schema" is "jitpaxos\.cluster\/2"; this program reads "jitpaxos\.cluster\/1"/,
      ],
      ['id', { ...GOOD, id: 'abc' }, /"id" is "abc"; .* 16 hexadecimal digits/],
      ['id', { ...GOOD, id: 12 }, /"id" is 12/],
      ['replicas', { ...GOOD, replicas: 'a:1' }, /"replicas" is "a:1"; it has to be an array/],
      ['an even number', { ...GOOD, replicas: ['a:1', 'b:1'] }, /has 2 members; .* odd number/],
      ['too many', { ...GOOD, replicas: Array.from({ length: 15 }, (_, i) => `a:${i + 1}`) }, /has 15 members/],
      ['no port', { ...GOOD, replicas: ['a:1', 'b', 'c:1'] }, /"replicas"\[1\] is "b"; it has to be "host:port"/],
      ['a bare IPv6 address', { ...GOOD, replicas: ['::1:7400'] }, /"replicas"\[0\] .* in brackets/],
      ['brackets around a name', { ...GOOD, replicas: ['[host]:7400'] }, /brackets has to be an IPv6 address/],
      ['port out of range', { ...GOOD, replicas: ['a:70000'] }, /a port is a number from 1 to 65535/],
      ['port zero', { ...GOOD, replicas: ['a:0'] }, /a port is a number from 1 to 65535/],
      ['not a string', { ...GOOD, replicas: [{ host: 'a' }] }, /"replicas"\[0\] is \{"host":"a"\}/],
      [
        'twice the same',
        { ...GOOD, replicas: ['a:1', 'b:1', 'a:1'] },
        /"replicas"\[2\] is the same address as "replicas"\[0\]/,
      ],
      ...(
        [
          ['localhost', '127.0.0.1'],
          ['127.0.0.1', '127.1'],
          ['127.0.0.1', '0x7f000001'],
          ['127.0.0.1', '[::ffff:127.0.0.1]'],
          ['[::1]', '[0:0:0:0:0:0:0:1]'],
          ['[fe80::1%eth0]', '[FE80:0::1%eth0]'],
          ['a.example', 'A.Example.'],
        ] as const
      ).map(([one, other]): [string, object, RegExp] => [
        `${one} and ${other}`,
        { ...GOOD, replicas: [`${one}:1`, `${other}:2`, `${other}:1`] },
        /"replicas"\[2\] is the same address as "replicas"\[0\]; each replica needs its own/,
      ]),
      ...(
        [
          ['0.0.0.0', /is the address of no host.*write the address at which the other hosts reach this replica/],
          ['0', /is the address of no host/],
          ['[::]', /is the address of no host/],
          ['[::ffff:0.0.0.0]', /is the address of no host/],
          ['255.255.255.255', /is the broadcast address/],
          ['224.0.0.1', /is a multicast address/],
          ['239.255.0.1', /is a multicast address/],
          ['[ff02::1]', /is a multicast address/],
        ] as const
      ).map(([host, message]): [string, object, RegExp] => [host, { ...GOOD, replicas: [`${host}:7400`] }, message]),
      ['a misspelt limit', { ...GOOD, limits: { maxSesions: 1 } }, /did you mean "maxSessions"\?/],
      [
        'a limit out of range',
        { ...GOOD, limits: { operationBytes: 1e6 } },
        /limit operationBytes is an integer from 1 to \d+, not 1000000/,
      ],
      ['limits of a wrong type', { ...GOOD, limits: 3 }, /"limits" is 3; it has to be an object/],
    ];
    for (const [what, value, message] of wrong)
      t.throws(
        () => loadCluster(value as ClusterConfig),
        { code: 'cluster-file-invalid', category: 'caller', message },
        what,
      );
  });

  await t.test('names that only look alike are two addresses', async (t) => {
    const replicas = ['a_b.example:1', 'replica.1:1', 'replica.2:1', 'x@127.0.0.1:1', '127.0.0.1:1'];
    t.equal(loadCluster({ ...GOOD, replicas }).replicas.length, 5);
    t.equal(loadCluster({ ...GOOD, replicas: ['[fe80::1%a]:1', '[fe80::1%b]:1', '223.0.0.1:1'] }).replicas.length, 3);
  });

  await t.test('a file that is missing, or no JSON', async (t) => {
    const path = join(directory(t), 'cluster.json');
    t.throws(() => loadCluster(path), { code: 'cluster-file-unreadable', message: /jitpaxos init/ });
    writeFileSync(path, '{ "schema": ');
    t.throws(() => loadCluster(path), { code: 'cluster-file-invalid', message: /is not JSON/ });
  });

  await t.test('names are resolved once; a name without address is an error of its own', async (t) => {
    const cluster = loadCluster({ ...GOOD, replicas: ['localhost:7400', '[::1]:7401', '127.0.0.1:7402'] });
    const addresses = await resolveAddresses(cluster);
    t.match(addresses[0]!.host, /^(127\.0\.0\.1|::1)$/);
    t.same(addresses.slice(1), [
      { host: '::1', port: 7401, family: 6 },
      { host: '127.0.0.1', port: 7402, family: 4 },
    ]);
    await t.rejects(resolveAddresses(loadCluster({ ...GOOD, replicas: ['no-such-host.invalid:1'] })), {
      code: 'host-unresolved',
      message: /no-such-host\.invalid/,
    });
  });
});

t.test('options', async (t) => {
  t.equal(nearest('lane', ['lanes', 'clock']), 'lanes');
  t.equal(nearest('quantum', ['lanes', 'clock']), undefined);
  t.equal(show('x'.repeat(200)).length, 80);
  t.equal(show(NaN), 'NaN');
  t.equal(show(5n), '5n');
  const options = { cluster: await clusterConfig(1), id: 0, machine: new KvMachine(), logger: silentLogger };
  const nowhere = join(tmpdir(), `jitpaxos-${process.pid}-nowhere`);
  const wrong: [object, string, RegExp][] = [
    [{ idd: 1 }, 'option-invalid', /"idd" .* did you mean "id"\?/],
    [{ id: 1 }, 'replica-id-out-of-range', /replica id is 1; the cluster has replicas 0 to 0/],
    [{ id: 1, data: nowhere }, 'replica-id-out-of-range', /replica id is 1/],
    [{ id: '0' }, 'replica-id-out-of-range', /replica id is "0"/],
    [{ machine: {} }, 'option-invalid', /no method "apply"/],
    [{ durability: 'paper' as never }, 'option-invalid', /durability is "paper"/],
    [{ durability: 'fsync' }, 'option-invalid', /durability "fsync".*data is needed/],
    [{ transport: 'tcp' }, 'option-invalid', /transport is "tcp"/],
    [{ datagramBytes: 10 }, 'option-invalid', /datagramBytes is 10/],
    [{ data: '' }, 'option-invalid', /data is ""/],
    [{ timings: { suspectUS: 1 } }, 'option-invalid', /did you mean "suspectUs"\?/],
    [{ timings: { suspectUs: -1 } }, 'option-invalid', /timings\.suspectUs is -1/],
    [{ limits: { logEntries: 17 } }, 'option-invalid', /power of two/],
    [{ clock: 'sundial' }, 'clock-spec-invalid', /sundial/],
  ];
  for (const [change, code, message] of wrong)
    await t.rejects(Replica.start({ ...options, ...change } as ReplicaOptions), { code, message });
  t.notOk(existsSync(nowhere), 'no directory is made for an id that is none');
});

for (const [name, binding] of Object.entries({
  'with the addon': native,
  without: { available: false, addon: null, reason: 'left out' } satisfies NativeBinding,
})) {
  t.test(`wake timer, ${name}`, async (t) => {
    const nowUs = (): number => performance.now() * 1000;

    await t.test('wakes in time, or a little later, also below the resolution of Node’s timers', async (t) => {
      for (const delayUs of [0, 150, 3_000]) {
        const start = nowUs();
        let wokenUs = 0;
        const timer = new WakeTimer(() => (wokenUs = nowUs()), binding);
        timer.arm(start + delayUs, start);
        while (wokenUs === 0) await sleep(1);
        t.ok(
          wokenUs >= start + Math.min(delayUs, 2_000),
          `${delayUs} µs: not before its time, but for the rounding of Node's timers`,
        );
        timer.stop();
      }
    });

    await t.test('an earlier time replaces a later one; a later one waits for its turn', async (t) => {
      let woken = 0;
      const timer = new WakeTimer(() => woken++, binding);
      const start = nowUs();
      timer.arm(start + 1e9, start);
      timer.arm(start + 2_000, start);
      timer.arm(start + 5e9, start);
      await sleep(30);
      t.equal(woken, 1);
      timer.arm(nowUs() + 1_000, nowUs());
      timer.arm(nowUs() + 200, nowUs());
      timer.stop();
      await sleep(20);
      t.equal(woken, 1, 'stopped is stopped');
      timer.arm(nowUs(), nowUs());
      timer.arm(Infinity, nowUs());
      await sleep(20);
      t.equal(woken, 1, 'and stays so');
    });

    await t.test('notices that the loop was held up', async (t) => {
      const timer = new WakeTimer(() => undefined, binding);
      t.teardown(() => timer.stop());
      timer.arm(nowUs() + 1_000, nowUs());
      const until = performance.now() + 40;
      while (performance.now() < until);
      await sleep(5);
      t.equal(timer.stalls, 1);
      t.ok(timer.stallMaxUs > 10_000);
    });
  });
}

t.test('a cluster of one', async (t) => {
  const cluster = await clusterConfig(1);
  const events: string[] = [];
  const logger: Logger = { ...silentLogger, info: (event) => events.push(event) };
  const replica = await Replica.start({ cluster, id: 0, machine: new KvMachine(), logger });
  t.ok(events.includes('replica.volatile'), 'that it keeps nothing on disk is said');
  t.ok(events.includes('replica.start'), 'transitions of the core are logged');
  const client = await Client.connect({ cluster, lanes: 2, logger: silentLogger });
  const kv = new KvClient(client);
  await kv.put('a', '1');
  t.same(await kv.get('a'), Buffer.from('1'));

  await t.test('says how it is', async (t) => {
    const status = replica.status();
    t.match(status, {
      schema: 'jitpaxos.status/1',
      id: 0,
      cluster: cluster.id,
      pid: process.pid,
      status: 'normal',
      view: 0,
      primary: 0,
      members: [0],
      incarnation: 1,
      durability: 'memory',
    });
    t.equal(status.identity, null, 'without a directory there is no identity');
    // On a busy host the read may be answered late, and then goes through the log.
    t.ok([2, 3].includes(status.executedIndex), `a registration, a put, and a read: ${status.executedIndex} entries`);
    t.equal(status.lastIndex, status.executedIndex);
    t.match(status.lastChain, /^[0-9a-f]{16}$/);
    t.ok(status.counters['entries_appended']! >= 2);
    t.ok(status.transport.counters['datagrams_received']! >= 2);
    t.ok(status.cpuSeconds.user > 0 && status.uptimeSeconds > 0);
    t.same(JSON.parse(JSON.stringify(status)), status, 'as JSON it is the same');
  });

  await t.test('its port is taken', async (t) => {
    await t.rejects(Replica.start({ cluster, id: 0, machine: new KvMachine(), logger: silentLogger }), {
      code: 'port-in-use',
      message: /ss -ulpn/,
    });
  });

  await t.test('garbage of every kind changes nothing', async (t) => {
    const socket = createSocket('udp4');
    const port = Number(cluster.replicas[0]!.split(':')[1]);
    const send = (bytes: Uint8Array): Promise<unknown> =>
      new Promise((resolve) => socket.send(bytes, port, '127.0.0.1', resolve));
    await send(new Uint8Array(0));
    await send(Buffer.from('GET / HTTP/1.1\r\n\r\n'));
    await send(new Uint8Array(60_001));
    for (let i = 0; i < 200; i++) await send(crypto.getRandomValues(new Uint8Array(i * 7)));
    await new Promise<void>((resolve) => socket.close(() => resolve()));
    await kv.put('a', '2');
    t.same(await kv.get('a'), Buffer.from('2'));
    const { drops, transport } = replica.status();
    const counted = Object.values(drops).reduce((sum, count) => sum + count, 0);
    t.ok(counted + (transport.kernelDrops ?? 0) >= 150, JSON.stringify({ drops, transport }));
    if (transport.filtered === true) t.equal(counted, 0, 'the kernel dropped all of it');
    else {
      t.equal(drops['oversized'], 1);
      t.ok(drops['truncated']! >= 2 && drops['marker']! >= 100, JSON.stringify(drops));
    }
  });

  await client.close();
  await replica.close();
  await replica.close();
  await t.resolves(replica.closed);
  t.equal(replica.status().status, 'stopped');
});

t.test('a data directory', async (t) => {
  const data = directory(t);
  const cluster = await clusterConfig(1);
  const options = {
    cluster,
    id: 0,
    data,
    durability: 'memory',
    machine: new KvMachine(),
    logger: silentLogger,
  } as const;
  const replica = await Replica.start(options);
  t.equal(replica.status().incarnation, 1);
  const { identity } = replica.status();
  t.match(identity, /^[0-9a-f]{16}$/);
  const elsewhere = { ...options, cluster: await clusterConfig(1) };
  await t.rejects(Replica.start(elsewhere), {
    code: 'data-directory-locked',
    message: new RegExp(`pid ${process.pid}`),
  });
  await replica.close();
  const again = await Replica.start({ ...options, machine: new KvMachine() });
  t.equal(again.status().incarnation, 2, 'it remembers that it was started before');
  // A cluster of one that lost its log has lost them all, and may have noticed already.
  t.match(again.status().status, /^(recovering|majority-lost)$/, 'and that its log is lost');
  t.equal(again.status().identity, identity, 'the directory is the same');
  await again.close();
  const three = await clusterConfig(3);
  await t.rejects(Replica.start({ ...options, cluster: three, id: 1 }), { code: 'data-directory-foreign' });
  await (await Replica.start({ ...options, machine: new KvMachine() })).close(); // what failed holds no lock and no port
  const other = await Replica.start({ cluster, id: 0, machine: new KvMachine(), logger: silentLogger });
  await t.rejects(Replica.start({ ...options, machine: new KvMachine() }), { code: 'port-in-use' });
  await other.close();
  await (await Replica.start({ ...options, machine: new KvMachine() })).close(); // nor when it failed after the lock
});

t.test('a replica that breaks is stopped, and says why', async (t) => {
  await t.test('its machine throws', async (t) => {
    const cluster = await clusterConfig(1);
    const machine = new KvMachine();
    machine.apply = () => {
      throw new InvariantError('the test is wanted');
    };
    const errors: [string, Readonly<Record<string, unknown>>][] = [];
    const replica = await Replica.start({
      cluster,
      id: 0,
      machine,
      logger: { ...silentLogger, error: (event, fields) => errors.push([event, fields]) },
    });
    const client = await Client.connect({ cluster, logger: silentLogger });
    const lost = t.rejects(client.execute(new Uint8Array(3), { timeout: 100 }), { code: 'outcome-unknown' });
    await t.rejects(replica.closed, { code: 'invariant-broken', message: /the test is wanted/ });
    t.match(errors, [['replica.failed', { replica: 0, error: /the test is wanted/, state: { view: 0 } }]]);
    t.equal(replica.status().status, 'stopped');
    await replica.close();
    await lost;
    await client.close();
    const next = await Replica.start({ cluster, id: 0, machine: new KvMachine(), logger: silentLogger });
    await next.close();
  });

  await t.test('its disk fails', async (t) => {
    const cluster = await clusterConfig(3);
    const data = directory(t);
    const replica = await Replica.start({
      cluster,
      id: 0,
      data,
      durability: 'memory',
      machine: new KvMachine(),
      logger: silentLogger,
    });
    const others = await Promise.all(
      [1, 2].map((id) => Replica.start({ cluster, id, machine: new KvMachine(), logger: silentLogger })),
    );
    const { storage } = replica as unknown as { storage: { hardState: { fd: number } } };
    storage.hardState.fd = -1;
    const partner = replica.status().members.find((id) => id !== 0)!;
    await others[partner - 1]!.close(); // the view has to change, and that has to be written
    await t.rejects(replica.closed, { code: 'storage-failed', category: 'environment' });
    await Promise.all(others.map((other) => other.close()));
  });
});

t.test('five replicas, of both families, one lost', async (t) => {
  const cluster = await clusterConfig(5, ['127.0.0.1', '::1']);
  const replicas = await startReplicas(cluster, () => new KvMachine());
  const client = await Client.connect({ cluster, logger: silentLogger });
  const kv = new KvClient(client);
  await Promise.all(Array.from({ length: 50 }, (_, i) => kv.put(`key ${i}`, `value ${i}`)));
  const { primary, view } = replicas[0]!.status();
  await replicas[primary]!.close();
  await kv.put('after', 'the primary');
  t.same(await kv.get('key 7'), Buffer.from('value 7'));
  t.ok(client.stats().view > view, 'in a later view');
  await client.close();
  await Promise.all(replicas.map((replica) => replica.close()));
});
