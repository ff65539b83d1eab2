/**
 * A client with deadlines: every call ends in time, and the program then knows what may have happened.
 */
import { Client, JitPaxosError, KvClient, type ClientOptions } from '../src/index.js';
import { runAsProgram } from './run.js';

export type Put = 'done' | 'not executed' | 'unknown';

/** Writes a key within `ms`, or says what may have happened. */
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
      case 'outcome-unknown': // sent, without a certain answer: it may still be executed, once
      case 'session-lost':
        return 'unknown';
      default:
        throw error;
    }
  }
}

/** Writes under a deadline. If the outcome is unknown, reads the store before it does anything else. */
export async function main(
  cluster: ClientOptions['cluster'],
  keys?: string,
): Promise<{ inTime: Put; aborted: Put; value: string | undefined }> {
  const client = await Client.connect({ cluster, ...(keys === undefined ? {} : { keys }), timeout: 2_000 }); // for calls without a timeout of their own
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
