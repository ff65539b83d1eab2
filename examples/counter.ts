/**
 * A counter that several clients raise at once. `increment` is one operation of the store: nobody reads, adds and
 * writes, so no increment is lost, and every sum is seen by exactly one caller.
 *
 * In a program of your own, import from 'jitpaxos'. `cluster` is the path of the cluster file, or its content; a cluster with keys needs `keys`,
 * by default the file client.keys beside the cluster file.
 */
import { Client, KvClient, type ClientOptions } from '../src/index.js';
import { runAsProgram } from './run.js';

export async function main(cluster: ClientOptions['cluster'], keys?: string): Promise<bigint[]> {
  const options = { cluster, ...(keys === undefined ? {} : { keys }) };
  const clients = await Promise.all([Client.connect(options), Client.connect(options)]);
  try {
    const sums = await Promise.all(
      clients.map(async (client) => {
        const store = new KvClient(client);
        const mine: bigint[] = [];
        for (let i = 0; i < 10; i++) mine.push(await store.increment('visits'));
        return mine;
      }),
    );
    return sums.flat(); // of a new counter 1…20, each once
  } finally {
    await Promise.all(clients.map((client) => client.close()));
  }
}

await runAsProgram(import.meta.url, main);
