/**
 * A process of bench:locks that takes a lock again and again, and tells what it believed when: by the monotonic clock of the
 * host, which all processes share.
 *
 * Its rule: a time at which it believed that it held the lock is read before it asked, so that it is never later than the
 * belief. It writes to the store without asking, as a careless holder would: the fence has to stop it.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { Client } from '../../src/client/client.js';
import { StoreClient } from '../../src/client/store-client.js';
import { JitPaxosError } from '../../src/errors.js';
import { silentLogger } from '../../src/host/logger.js';
import { causeOf, type LossCause } from './losses.js';

export interface HolderSetup {
  readonly cluster: string;
  readonly transport: 'auto' | 'native' | 'dgram';
  readonly name: string;
  readonly ttlMs: number;
  /** How long it holds at least. */
  readonly holdMs: number;
}

/** One hold. Times: monotonic ns. */
export interface Hold {
  readonly kind: 'hold';
  readonly token: number;
  /** It believed that it held from here on. */
  readonly firstNs: number;
  /** The last time at which it believed that; before `release`, if it came so far. */
  readonly lastNs: number;
  /** When `release` was called. Undefined: it was lost before. */
  readonly releaseNs: number | undefined;
  /** How long an operation took that it sent meanwhile, ns. */
  readonly operationNs: number;
  /** The revision of its write; undefined: it was fenced, or nothing is known. */
  readonly wroteAt: number | undefined;
  readonly wasFenced: boolean;
  /** Why it was lost before it was released. */
  readonly lost?: LossCause;
}

/** It has the lock; sent at once. */
export interface Taken {
  readonly kind: 'taken';
  readonly token: number;
  readonly firstNs: number;
}

/** It still believes that it has it; sent while it holds for long. */
export interface Alive {
  readonly kind: 'alive';
  readonly token: number;
  readonly lastNs: number;
}

/** What it asked for failed; it asks again. */
export interface Failed {
  readonly kind: 'failed';
  /** The code of the error; its name where it has none. */
  readonly code: string;
}

export type HolderReport = { readonly kind: 'ready' } | Taken | Alive | Hold | Failed;

export const nowNs = (): number => Number(process.hrtime.bigint());

const ALIVE_MS = 5;
const AGAIN_MS = 20;

const text = process.argv[2];
if (text !== undefined && process.send !== undefined) await run(JSON.parse(text) as HolderSetup);

async function run({ cluster, transport, name, ttlMs, holdMs }: HolderSetup): Promise<void> {
  const say = (report: HolderReport): void => void process.send?.(report);
  process.on('disconnect', () => process.exit(0));
  const client = await Client.connect({
    cluster,
    transport,
    logger: silentLogger,
    timeout: 10_000,
    connectTimeout: 60_000,
  });
  const store = new StoreClient(client);
  say({ kind: 'ready' });
  for (;;) {
    try {
      const lock = await store.lock(name, { ttl: ttlMs });
      const { token } = lock;
      let lastNs = nowNs();
      if (!lock.isHeld()) continue;
      const firstNs = lastNs;
      say({ kind: 'taken', token, firstNs });
      const half = holdMs / 2;
      for (const untilNs = firstNs + half * 1e6; nowNs() < untilNs && lock.isHeld(); ) {
        await sleep(Math.min(ALIVE_MS, half));
        const beforeNs = nowNs();
        if (!lock.isHeld()) break;
        lastNs = beforeNs;
        if (holdMs > 2 * ALIVE_MS) say({ kind: 'alive', token, lastNs });
      }
      const sentNs = nowNs();
      let wroteAt: number | undefined;
      let wasFenced = false;
      try {
        wroteAt = (await store.put(`${name}/written`, String(token), { fence: lock })).revision;
      } catch (error) {
        const code = codeOf(error);
        wasFenced = code === 'fenced';
        if (!wasFenced) say({ kind: 'failed', code });
      }
      const operationNs = nowNs() - sentNs;
      if (lock.isHeld()) await sleep(half);
      const beforeNs = nowNs();
      const isHeld = lock.isHeld();
      if (isHeld) lastNs = beforeNs;
      const releaseNs = isHeld ? nowNs() : undefined;
      const lost = isHeld ? {} : { lost: causeOf(lock) };
      const released = lock.release();
      say({ kind: 'hold', token, firstNs, lastNs, releaseNs, operationNs, wroteAt, wasFenced, ...lost });
      await released;
    } catch (error) {
      say({ kind: 'failed', code: codeOf(error) });
      await sleep(AGAIN_MS);
    }
  }
}

function codeOf(error: unknown): string {
  if (error instanceof JitPaxosError) return error.code;
  return error instanceof Error ? error.name : typeof error;
}
