/**
 * A counter that several clients raise at once. `increment` is a single operation of the store, not a read followed by
 * a write. Therefore no increment is lost, and exactly one caller sees each sum.
 *
 * In your own program, import from 'jitpaxos'. `cluster` is the path of the cluster file, or its content. A cluster with keys
 * needs `keys`; the default is the file client.keys beside the cluster file.
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
    return sums.flat(); // for a new counter: 1 to 20, each once
  } finally {
    await Promise.all(clients.map((client) => client.close()));
  }
}

await runAsProgram(import.meta.url, main);
