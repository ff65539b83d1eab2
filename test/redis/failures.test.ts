/** Redis clients while replicas stop, fail and come back: nothing is executed twice, and nothing unsure is said to be sure. */
import t from 'tap';
import { silentLogger } from '../../src/host/logger.js';
import { LocalCluster } from '../../src/measure/local-cluster.js';
import { RedisFrontEnd } from '../../src/redis/server.js';
import { command, Wire } from './stand-in.js';

/** The next reply of one line. */
async function line(wire: Wire): Promise<string> {
  let text = '';
  while (!text.endsWith('\n')) {
    const next = await wire.read(1);
    if (next === '') throw new Error(`the connection ended after ${JSON.stringify(text)}`);
    text += next;
  }
  return text;
}

t.test('counters while the primary fails and all replicas stand still', async (t) => {
  const cluster = await LocalCluster.start({
    replicas: 3,
    machine: 'kv',
    transport: 'auto',
    idle: 'block',
    durability: 'memory',
    features: ['session-quotas', 'membership', 'store', 'redis'],
  });
  t.teardown(() => cluster.close());
  const front = await RedisFrontEnd.start({
    cluster: cluster.clusterFile,
    listen: '127.0.0.1:0',
    timeout: 2_000,
    logger: silentLogger,
  });
  t.teardown(() => front.close());
  while (!front.isConnected) await new Promise((resolve) => setTimeout(resolve, 10));

  const COUNTERS = 8;
  const tally = Array.from({ length: COUNTERS }, () => ({ done: 0, unsure: 0, refused: 0, last: 0 }));
  let isOver = false;
  const clients = tally.map(async (own, i) => {
    const wire = await Wire.open(front.port);
    while (!isOver) {
      wire.send(command('INCR', `n${i}`));
      const reply = await line(wire);
      if (reply.startsWith(':')) {
        own.done++;
        const value = Number(reply.slice(1));
        if (value <= own.last) t.fail(`n${i} went from ${own.last} to ${value}`);
        own.last = value;
      } else if (reply.startsWith('-INDOUBT')) own.unsure++;
      else if (reply.startsWith('-TRYAGAIN')) own.refused++;
      else throw new Error(reply);
    }
    wire.close();
  });
  for (const client of clients) client.catch(() => undefined); // awaited below
  const progress = async (): Promise<void> => {
    const before = tally.reduce((sum, { done }) => sum + done, 0);
    while (tally.reduce((sum, { done }) => sum + done, 0) < before + 200)
      await new Promise((resolve) => setTimeout(resolve, 10));
  };
  await progress();
  // A member more than a majority can miss stands still, until somebody was told that nothing is sure.
  for (const { child } of cluster.replicas.slice(1)) child.kill('SIGSTOP');
  while (!tally.some(({ unsure }) => unsure > 0)) await new Promise((resolve) => setTimeout(resolve, 10));
  for (const { child } of cluster.replicas.slice(1)) child.kill('SIGCONT');
  await progress();
  // The primary of the first view fails for good.
  cluster.replicas[0]!.kill('SIGKILL');
  await progress();
  isOver = true;
  await Promise.all(clients);
  const wire = await Wire.open(front.port);
  for (const [i, { done, unsure, refused }] of tally.entries()) {
    wire.send(command('INCR', `n${i}`));
    const value = Number((await line(wire)).slice(1)) - 1;
    t.ok(
      value >= done && value <= done + unsure,
      `n${i} is ${value}: ${done} were done, ${unsure} unsure, ${refused} not executed`,
    );
  }
  wire.close();
});
