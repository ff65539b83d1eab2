/**
 * Leader election: of several processes one works, and another takes over when it fails. What the leader writes is
 * fenced: a former leader that was stopped, and does not know that it was replaced, changes nothing.
 */
import { randomUUID } from 'node:crypto';
import { Client, JitPaxosError, StoreClient, type ClientOptions } from '../src/index.js';
import { runAsProgram } from './run.js';

/** Leads until `work` resolves or the leadership is lost; then lets others lead. */
export async function lead<T>(
  store: StoreClient,
  election: string,
  name: string,
  work: (lead: { readonly key: Uint8Array; readonly token: number }, signal: AbortSignal) => Promise<T>,
): Promise<T> {
  await using leadership = await store.elect(election, name, { ttl: 5_000 });
  return await work(leadership, leadership.signal);
}

export async function main(
  cluster: ClientOptions['cluster'],
  keys?: string,
): Promise<{ led: string[]; observed: string[]; refused: string }> {
  const options = { cluster, ...(keys === undefined ? {} : { keys }) };
  // Two clients stand for two processes.
  await using one = await Client.connect(options);
  await using two = await Client.connect(options);
  const election = `election ${randomUUID()}`; // only for this run
  const led: string[] = [];
  const observed: string[] = [];
  const watching = (async () => {
    for await (const leader of new StoreClient(two).leaders(election)) {
      if (leader !== undefined) observed.push(new TextDecoder().decode(leader.value));
      if (observed.length === 2) return;
    }
  })();
  const result = `result ${election}`;
  let former: { readonly key: Uint8Array; readonly token: number } | undefined;
  const candidate = (client: Client, name: string): Promise<void> => {
    const store = new StoreClient(client);
    return lead(store, election, name, async (own) => {
      led.push(name);
      await store.put(result, name, { fence: own });
      former ??= own;
      while (observed.at(-1) !== name) await new Promise((resolve) => setTimeout(resolve, 10));
    });
  };
  const first = candidate(one, 'one');
  while (observed.length === 0) await new Promise((resolve) => setTimeout(resolve, 10));
  await Promise.all([first, candidate(two, 'two'), watching]);
  let refused = '';
  try {
    await new StoreClient(one).put(result, 'one, too late', { fence: former! });
  } catch (error) {
    refused = error instanceof JitPaxosError ? error.code : String(error);
  }
  await new StoreClient(one).delete(result);
  return { led, observed, refused };
}

await runAsProgram(import.meta.url, main);
