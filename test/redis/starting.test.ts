/** A front end that has just been started: clients that reconnect to it at once need not be told to try again. */
import t from 'tap';
import { silentLogger } from '../../src/host/logger.js';
import type { ClusterConfig } from '../../src/host/cluster-config.js';
import { KvMachine } from '../../src/machine/kv.js';
import { RedisFrontEnd } from '../../src/redis/server.js';
import { clusterConfig, startReplicas } from '../server/fixtures.js';
import { command, Wire } from './stand-in.js';

t.test('commands wait for its first session', async (t) => {
  const cluster: ClusterConfig = { ...(await clusterConfig(3)), features: ['store', 'redis'] };
  const front = await RedisFrontEnd.start({
    cluster,
    listen: '127.0.0.1:0',
    timeout: 60_000,
    logger: silentLogger,
  });
  t.teardown(() => front.close());
  const wires = await Promise.all(Array.from({ length: 3 }, () => Wire.open(front.port)));
  t.teardown(() => wires.forEach((wire) => wire.close()));
  const sent =
    command('SET', 'a', '1') + 'PING\r\n' + command('MULTI') + command('GET', 'a') + command('EXEC') + 'PING\r\n';
  const expected = '+OK\r\n+PONG\r\n+OK\r\n+QUEUED\r\n*1\r\n$1\r\n1\r\n+PONG\r\n';
  for (const wire of wires) wire.send(sent);
  wires[0]!.send(command('INFO', 'server'));
  // One that asks only what the front end knows is answered.
  const other = await Wire.open(front.port);
  t.teardown(() => other.close());
  t.equal(await other.ask('PING\r\n', '+PONG\r\n'), '+PONG\r\n');
  t.match(front.metrics().find(({ name }) => name === 'jitpaxos_redis_connections_waiting')?.samples, [{ value: 3 }]);
  t.same(
    wires.map(({ text }) => text),
    ['', '', ''],
  );
  const replicas = await startReplicas(cluster, () => new KvMachine());
  t.teardown(() => Promise.all(replicas.map((replica) => replica.close())));
  for (const wire of wires) t.equal(await wire.read(expected.length), expected);
});

t.test('without a cluster they wait no longer than the timeout', async (t) => {
  const front = await RedisFrontEnd.start({
    cluster: await clusterConfig(3),
    listen: '127.0.0.1:0',
    timeout: 300,
    logger: silentLogger,
  });
  t.teardown(() => front.close());
  const wire = await Wire.open(front.port);
  t.teardown(() => wire.close());
  for (let i = 0; i < 2; i++) {
    wire.send(command('SET', 'a', '1'));
    while (!wire.text.endsWith('\n')) await new Promise(setImmediate);
    t.match(wire.text, /^-TRYAGAIN .*no session with the cluster yet; nothing was executed\r\n$/);
    wire.text = '';
  }
});

t.test('closed while commands wait', async (t) => {
  const front = await RedisFrontEnd.start({
    cluster: await clusterConfig(3),
    listen: '127.0.0.1:0',
    timeout: 60_000,
    logger: silentLogger,
  });
  const wire = await Wire.open(front.port);
  t.teardown(() => wire.close());
  wire.send('PING\r\n' + command('SET', 'a', '1'));
  t.equal(await wire.read(7), '+PONG\r\n');
  await front.close();
  t.equal(await wire.rest(), '');
});
