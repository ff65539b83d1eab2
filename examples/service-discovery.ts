/**
 * Service discovery: each instance puts its address under a key that its lease holds, and clients watch the prefix. An
 * instance that fails disappears when its lease ends.
 */
import { randomUUID } from 'node:crypto';
import { Client, StoreClient, type ClientOptions, type Lease } from '../src/index.js';
import { runAsProgram } from './run.js';

/** Listed until the lease is released or lost. */
export async function register(store: StoreClient, service: string, address: string, ttl = 10_000): Promise<Lease> {
  const lease = await store.lease({ ttl });
  await store.put(`${service}/${lease.number}`, address, { lease });
  return lease;
}

/** The present instances, again after each change. */
export async function* instances(store: StoreClient, service: string): AsyncGenerator<string[]> {
  const present = new Map<string, string>();
  const text = (bytes: Uint8Array): string => new TextDecoder().decode(bytes);
  const { revision, entries } = await store.scan({ prefix: `${service}/` });
  for (const { key, value } of entries) present.set(text(key), text(value));
  yield [...present.values()];
  for await (const { kind, key, value } of store.watch(`${service}/`, { from: revision, values: true })) {
    if (kind !== 'put') present.delete(text(key));
    else if (value !== undefined) present.set(text(key), text(value));
    else continue; // changed again: that change comes next
    yield [...present.values()];
  }
}

export async function main(cluster: ClientOptions['cluster'], keys?: string): Promise<string[][]> {
  await using client = await Client.connect({ cluster, ...(keys === undefined ? {} : { keys }) });
  const store = new StoreClient(client);
  const service = `service ${randomUUID()}`; // only for this run
  const seen: string[][] = [];
  const registered: Lease[] = [];
  for await (const present of instances(store, service)) {
    seen.push(present);
    if (seen.length === 1) registered.push(await register(store, service, '10.0.0.1:80'));
    if (seen.length === 2) registered.push(await register(store, service, '10.0.0.2:80'));
    if (seen.length === 3) await registered[0]!.release();
    if (seen.length === 4) break;
  }
  await registered[1]!.release();
  return seen;
}

await runAsProgram(import.meta.url, main);
