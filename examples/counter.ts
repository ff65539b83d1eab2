/**
 * A counter that several clients raise at once. `increment` is one operation of the store: nobody reads, adds and
 * writes, so no increment is lost, and every sum is seen by exactly one caller.
 */
import { Client, KvClient, type ClusterConfig } from '../src/index.js';

export async function main(cluster: ClusterConfig): Promise<bigint[]> {
  const clients = await Promise.all([Client.connect({ cluster }), Client.connect({ cluster })]);
  try {
    const sums = await Promise.all(clients.map(async (client) => {
      const store = new KvClient(client);
      const mine: bigint[] = [];
      for (let i = 0; i < 10; i++) mine.push(await store.increment('visits'));
      return mine;
    }));
    return sums.flat(); // 1…20, each once
  } finally {
    await Promise.all(clients.map((client) => client.close()));
  }
}
