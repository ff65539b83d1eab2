/**
 * A client with deadlines: every call has an end, and the program knows afterwards what may have happened.
 */
import { Client, JitPaxosError, KvClient, type ClientOptions } from '../src/index.js';
import { runAsProgram } from './run.js';

export type Put = 'done' | 'not executed' | 'unknown';

/** Writes a key within `ms`, or says what became of it. */
export async function putWithin(
  store: KvClient,
  key: string,
  value: string,
  ms: number,
  signal?: AbortSignal,
): Promise<Put> {
  try {
    await store.put(key, value, { timeout: ms, ...(signal === undefined ? {} : { signal }) });
    return 'done';
  } catch (error) {
    if (!(error instanceof JitPaxosError)) throw error;
    switch (error.code) {
      case 'aborted': // before anything was sent
      case 'busy':
      case 'operation-refused':
        return 'not executed';
      case 'outcome-unknown': // sent, and no certain answer: it may be executed yet, once
      case 'session-lost':
        return 'unknown';
      default:
        throw error;
    }
  }
}

/** Writes under a deadline; where the outcome is unknown, reads what the store holds before it does anything else. */
export async function main(
  cluster: ClientOptions['cluster'],
  keys?: string,
): Promise<{ inTime: Put; aborted: Put; value: string | undefined }> {
  const client = await Client.connect({ cluster, ...(keys === undefined ? {} : { keys }), timeout: 2_000 }); // for calls that name none
  try {
    const store = new KvClient(client);
    const inTime = await putWithin(store, 'answer', '42', 2_000);
    const aborted = await putWithin(store, 'answer', '43', 2_000, AbortSignal.abort());
    const value = await store.get('answer', { timeout: 1_000 });
    return { inTime, aborted, value: value && new TextDecoder().decode(value) };
  } finally {
    await client.close();
  }
}

await runAsProgram(import.meta.url, main);
