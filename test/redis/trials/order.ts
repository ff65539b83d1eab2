/**
 * Whether the commands of one connection are executed in their order while datagrams between the front end and the
 * replicas are lost: each connection sends many pairs of SET k v, GET k in one write, longer than an operation, so that
 * several operations carry them.
 */
import { silentLogger } from '../../../src/host/logger.js';
import { LocalCluster } from '../../../src/measure/local-cluster.js';
import { FIRST_FEATURES } from '../../../src/protocol/log/features.js';
import { RedisFrontEnd } from '../../../src/redis/server.js';
import { Random } from '../../../src/sim/random.js';
import { FAIR, Relay } from '../../cluster/chaos/relay.js';
import { commandBytes, readReply, RespClient, shown, type Reply } from '../resp-client.js';

const PAIRS = 16;
const VALUE_BYTES = 100;
/** What one datagram on Ethernet carries, so that a write of a connection takes several operations. */
const BATCH_BYTES = 1_300;

export interface OrderOptions {
  readonly seed: number;
  /** Share of the datagrams that is lost, in each direction. */
  readonly loss: number;
  readonly connections: number;
  /** Writes of each connection, of 16 pairs each. */
  readonly rounds: number;
}

export interface OrderResult {
  readonly loss: number;
  readonly reads: number;
  /** Reads that did not see the write before them. */
  readonly blind: readonly string[];
  /** Pairs of which a command was not surely executed. */
  readonly unsure: number;
  readonly datagramsLost: number;
  readonly operations: number;
}

export async function orderUnderLoss({ seed, loss, connections, rounds }: OrderOptions): Promise<OrderResult> {
  const random = new Random(seed);
  const relay = new Relay(random.fork('relay'));
  await using cluster = await LocalCluster.start({
    replicas: 3,
    machine: 'kv',
    transport: 'auto',
    idle: 'block',
    durability: 'memory',
    features: [...FIRST_FEATURES, 'store', 'redis'],
  });
  const config = cluster.config();
  const front = await RedisFrontEnd.start({
    cluster: { ...config, replicas: await relay.connect('front end', config.replicas as readonly string[]) },
    listen: '127.0.0.1:0',
    batchBytes: BATCH_BYTES,
    logger: silentLogger,
  });
  const blind: string[] = [];
  let reads = 0;
  let unsure = 0;
  try {
    while (!front.isConnected) await new Promise((resolve) => setTimeout(resolve, 5));
    relay.setGeneral({ ...FAIR, loss });
    await Promise.all(
      Array.from({ length: connections }, async (_, own) => {
        const client = await RespClient.connect(front.port);
        for (let round = 0; round < rounds; round++) {
          const values = Array.from({ length: PAIRS }, (_, i) => `${round}.${i}.`.padEnd(VALUE_BYTES, 'v'));
          const key = `k${own}`;
          client.socket.write(
            Buffer.concat(values.flatMap((value) => [commandBytes(['SET', key, value]), commandBytes(['GET', key])])),
          );
          const replies = await Promise.all(Array.from({ length: 2 * PAIRS }, () => client.next()));
          const parsed: Reply[] = replies.map((raw) => readReply(raw, 0)!.reply);
          for (const [i, value] of values.entries()) {
            const [set, get] = [parsed[2 * i]!, parsed[2 * i + 1]!];
            if (set.text !== 'OK' || get.kind !== '$') {
              unsure++;
              continue;
            }
            reads++;
            if (get.text !== value)
              blind.push(`connection ${own}: ${shown(get).slice(0, 20)} after ${value.slice(0, 12)}`);
          }
        }
        client.close();
      }),
    );
    const operations = front
      .metrics()
      .find(({ name }) => name === 'jitpaxos_redis_operations_total')!
      .samples.reduce((sum, sample) => sum + ('value' in sample ? sample.value : 0), 0);
    return { loss, reads, blind, unsure, datagramsLost: relay.counts.lost, operations };
  } finally {
    await front.close();
    await relay.close();
  }
}
