/**
 * A work queue: jobs are keys, and a worker claims one by putting a key that its lease holds. If the worker fails, its
 * claim ends with the lease and another worker does the job. The job is removed, and its result put, only by a worker
 * whose claim is still there, in one transaction: each job has one result.
 */
import { randomUUID } from 'node:crypto';
import { Client, StoreClient, type ClientOptions, type Lease } from '../src/index.js';
import { runAsProgram } from './run.js';

export class WorkQueue {
  constructor(
    private readonly store: StoreClient,
    private readonly name: string,
  ) {}

  async add(job: string): Promise<void> {
    await this.store.put(`${this.name}/job/${job}`, job);
  }

  /** Claims a job that nobody has; undefined: there is none. */
  async claim(lease: Lease): Promise<{ job: string; revision: number } | undefined> {
    const { entries } = await this.store.scan({ prefix: `${this.name}/job/` });
    for (const { value } of entries) {
      const job = new TextDecoder().decode(value);
      const claim = `${this.name}/claim/${job}`;
      const { ok, revision } = await this.store.transact({
        if: [
          { key: `${this.name}/job/${job}`, present: true },
          { key: claim, absent: true },
        ],
        do: [{ put: claim, value: '', lease }],
      });
      if (ok) return { job, revision };
    }
    return undefined;
  }

  /** False: the claim had ended, and the job is another worker's. */
  async finish({ job, revision }: { job: string; revision: number }, result: string): Promise<boolean> {
    const claim = `${this.name}/claim/${job}`;
    const { ok } = await this.store.transact({
      if: [{ key: claim, revision }],
      do: [
        { delete: claim },
        { delete: `${this.name}/job/${job}` },
        { put: `${this.name}/done/${job}`, value: result },
      ],
    });
    return ok;
  }
}

/** Three workers do ten jobs. One of them fails with a job in its hands. */
export async function main(
  cluster: ClientOptions['cluster'],
  keys?: string,
): Promise<{ done: string[]; late: boolean }> {
  await using client = await Client.connect({ cluster, ...(keys === undefined ? {} : { keys }) });
  const store = new StoreClient(client);
  const name = `queue ${randomUUID()}`; // only for this run
  const queue = new WorkQueue(store, name);
  for (let i = 0; i < 10; i++) await queue.add(`${i}`);
  const failing = await store.lease({ ttl: 60_000 });
  const taken = await queue.claim(failing);
  await failing.release(); // as if it had ended
  await Promise.all(
    ['a', 'b', 'c'].map(async (worker) => {
      await using lease = await store.lease({ ttl: 60_000 });
      for (let claim = await queue.claim(lease); claim !== undefined; claim = await queue.claim(lease))
        await queue.finish(claim, `by ${worker}`);
    }),
  );
  const late = await queue.finish(taken!, 'by the one that failed');
  const { entries } = await store.scan({ prefix: `${name}/done/` });
  await store.transact({ do: entries.map(({ key }) => ({ delete: key })) });
  return { done: entries.map(({ value }) => new TextDecoder().decode(value)), late };
}

await runAsProgram(import.meta.url, main);
