/**
 * A lock with fencing tokens. A holder may stall (a garbage collection, a paused machine) and wake up after its lease has
 * ended and another holder has the lock. No lock service can prevent that. So each holder gets a token larger than all
 * earlier ones, and the protected resource refuses a token below the largest that it has seen.
 *
 * One key is the whole lock: absent, `free TOKEN`, or `held TOKEN OWNER`. Every change is a compare-and-set of this value.
 */
import { randomUUID } from 'node:crypto';
import { Client, JitPaxosError, KvClient, type ClientOptions } from '../src/index.js';
import { runAsProgram } from './run.js';

export interface Held {
  readonly token: number;
  release(): Promise<void>;
}

export class FencingLock {
  /** The last value seen, and since when, by this process's own clock: a lease needs no agreement about time. */
  private seen: { readonly text: string; readonly sinceMs: number } | undefined;

  /** @param leaseMs a holder that keeps the lock longer than this, as seen from here, loses it */
  constructor(
    private readonly store: KvClient,
    private readonly key: string,
    private readonly leaseMs: number,
  ) {}

  /** Tries once; undefined if another holder has the lock. */
  async tryAcquire(): Promise<Held | undefined> {
    const present = await this.read();
    const [state, tokenText] = present?.split(' ') ?? ['free', '0'];
    if (state === 'held' && !this.leaseIsOver(present!)) return undefined;
    const token = Number(tokenText) + 1;
    const mine = `held ${token} ${randomUUID()}`;
    if (!(await this.change(present ?? null, mine))) return undefined;
    return { token, release: async () => void (await this.change(mine, `free ${token}`)) };
  }

  private leaseIsOver(text: string): boolean {
    const now = performance.now();
    if (this.seen?.text !== text) this.seen = { text, sinceMs: now };
    return now - this.seen.sinceMs >= this.leaseMs;
  }

  /** If the outcome is unknown, reads the key: only this process writes `next`. */
  private async change(expected: string | null, next: string): Promise<boolean> {
    try {
      return await this.store.compareAndSet(this.key, expected, next);
    } catch (error) {
      if (!(error instanceof JitPaxosError) || (error.code !== 'outcome-unknown' && error.code !== 'session-lost'))
        throw error;
      return (await this.read()) === next;
    }
  }

  private async read(): Promise<string | undefined> {
    const value = await this.store.get(this.key);
    return value && new TextDecoder().decode(value);
  }
}

/** The protected resource. It has to check the token itself. */
export class Resource {
  readonly written: string[] = [];
  private newestToken = 0;

  write(token: number, text: string): void {
    if (token < this.newestToken) throw new Error(`token ${token} is over, ${this.newestToken} was here`);
    this.newestToken = token;
    this.written.push(text);
  }
}

/** A first holder stalls, a second takes over, and the first wakes up too late. */
export async function main(
  cluster: ClientOptions['cluster'],
  keys?: string,
): Promise<{ tokens: number[]; written: string[]; refused: string }> {
  const client = await Client.connect({ cluster, ...(keys === undefined ? {} : { keys }) });
  try {
    const store = new KvClient(client);
    const resource = new Resource();
    const key = `lock ${randomUUID()}`; // only for this run
    const first = await new FencingLock(store, key, 50).tryAcquire();
    resource.write(first!.token, 'first');
    const other = new FencingLock(store, key, 50);
    let second: Held | undefined;
    for (let i = 0; i < 100 && second === undefined; i++) {
      second = await other.tryAcquire();
      if (second === undefined) await new Promise((resolve) => setTimeout(resolve, 10));
    }
    resource.write(second!.token, 'second');
    let refused = '';
    try {
      resource.write(first!.token, 'first again');
    } catch (error) {
      refused = (error as Error).message;
    }
    await first!.release(); // changes nothing: it no longer holds the lock
    await second!.release();
    const third = await other.tryAcquire();
    await store.delete(key);
    return { tokens: [first!.token, second!.token, third!.token], written: resource.written, refused };
  } finally {
    await client.close();
  }
}

await runAsProgram(import.meta.url, main);
