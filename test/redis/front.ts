/** A front end in this process over three replicas in it, gone with the test. */
import type { Test } from 'tap';
import type { ClusterConfig } from '../../src/host/cluster-config.js';
import { silentLogger } from '../../src/host/logger.js';
import { KvMachine } from '../../src/machine/kv.js';
import { RedisFrontEnd, type RedisFrontEndOptions } from '../../src/redis/server.js';
import { clusterConfig, startReplicas } from '../server/fixtures.js';

export async function startFront(t: Test, options: Partial<RedisFrontEndOptions> = {}): Promise<RedisFrontEnd> {
  const cluster = { ...(await clusterConfig(3)), features: ['store', 'redis'] } as ClusterConfig;
  const replicas = await startReplicas(cluster, () => new KvMachine());
  const front = await RedisFrontEnd.start({
    cluster,
    listen: '127.0.0.1:0',
    timeout: 60_000,
    logger: silentLogger,
    ...options,
  });
  t.teardown(async () => {
    await front.close();
    for (const replica of replicas) await replica.close();
  });
  while (!front.isConnected) await new Promise((resolve) => setTimeout(resolve, 5));
  return front;
}
