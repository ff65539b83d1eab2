/**
 * Holders of a lock that are killed on a busy host, in virtual time: how long it takes until the next one holds. All
 * processes stand still now and then, as those do that wait for a processor.
 *
 * The same seed gives the same run.
 */
import { partsOf } from '../../../src/client/client-parts.js';
import { pause } from '../../../src/client/lease-clock.js';
import type { Lock } from '../../../src/client/lock.js';
import { StoreClient } from '../../../src/client/store-client.js';
import { JitPaxosError } from '../../../src/errors.js';
import type { NetworkConditions } from '../../../src/sim/network.js';
import { Random } from '../../../src/sim/random.js';
import { HOST_PLACES } from '../../../src/wire/host-ids.js';
import { noLosses, type Losses } from '../losses.js';
import type { SimulatedClient } from './client.js';
import { SimulatedCluster } from './cluster.js';
import { Held } from './held.js';
import { REPLICAS } from './replicas.js';

const CLIENTS = 4;
const CONDITIONS: NetworkConditions = {
  delay: 'log-normal',
  delayUs: 40,
  spread: 0.5,
  loss: 0,
  duplicate: 0,
  corrupt: 0,
  reorder: 0,
  reorderUs: 0,
};
/** After an error the lock is taken again, ms. */
const AGAIN_MS = 20;
/** A process that was killed is there again after this, µs. */
const RETURNS_US = 100_000;
/** Until it waits for the lock. */
const SETTLED_US = 200_000;
const FIRST_US = 1e6;

export interface KillOptions {
  readonly seed: number;
  readonly kills: number;
  readonly ttlMs: number;
  /** A process runs for this long on average, and then stands still for that long, µs. 0: it never does. */
  readonly runUs: number;
  readonly stallUs: number;
  /** Clients that once renewed at the same moment do so each time. */
  readonly inPhase?: boolean;
  /** It is given up after this much time without a new holder, µs. */
  readonly stuckUs: number;
}

export interface Killed {
  /** From a kill to the next that holds, less the ttl, ms. */
  readonly lateMs: readonly number[];
  /** Nobody held for `stuckUs`. */
  readonly isStuck: boolean;
  /** Times that somebody got the lock. */
  readonly taken: number;
  /** Holds that ended and whose process was not killed, by cause. */
  readonly losses: Losses;
  /** By code, what `lock` rejected with. */
  readonly errors: Readonly<Record<string, number>>;
}

export async function simulateKills(options: KillOptions): Promise<Killed> {
  return new Run(options).run();
}

class Run {
  private readonly random: Random;
  private readonly cluster: SimulatedCluster;
  private readonly lateMs: number[] = [];
  private readonly errors: Record<string, number> = {};
  private taken = 0;
  private lastToken = 0;
  private readonly losses = noLosses();
  private takenUs = FIRST_US;
  private nextKillUs = SETTLED_US;
  private killed: { readonly token: number; readonly atUs: number } | undefined;
  private failure: unknown;

  constructor(private readonly options: KillOptions) {
    this.random = new Random(options.seed);
    const cluster = new SimulatedCluster(this.random, CLIENTS, CONDITIONS);
    this.cluster = cluster;
    cluster.inPhase = options.inPhase === true;
    for (let id = 0; id < REPLICAS + CLIENTS; id++)
      cluster.addClock(id < REPLICAS ? id : HOST_PLACES + id - REPLICAS, () => 0);
    for (let id = 0; id < REPLICAS; id++) {
      cluster.startReplica(id);
      this.stall(cluster.replicas[id]!, this.random.fork(`stalls ${id}`));
    }
    for (let i = 0; i < CLIENTS; i++) this.start(i);
  }

  async run(): Promise<Killed> {
    const { cluster, options } = this;
    const { queue } = cluster;
    while (this.lateMs.length < options.kills && queue.nowUs - this.takenUs < options.stuckUs) {
      queue.step(Infinity);
      if (cluster.isTouched) await cluster.settle();
      if (this.failure !== undefined) throw this.failure;
    }
    const { lateMs, taken, losses, errors } = this;
    return { lateMs, isStuck: lateMs.length < options.kills, taken, losses, errors };
  }

  private start(i: number): void {
    const client = this.cluster.startClient(i);
    const random = this.random.fork(`client ${i}`);
    this.stall(client, random.fork('stalls'));
    this.work(client, random).catch((error: unknown) => {
      this.failure ??= error;
    });
  }

  private stall(process: { pause(forUs: number): void; readonly isGone?: boolean }, random: Random): void {
    const { runUs, stallUs } = this.options;
    if (stallUs === 0) return;
    const next = (): void => {
      if (process.isGone === true) return;
      const us = random.exponential(stallUs);
      process.pause(us);
      this.cluster.later(us + random.exponential(runUs), next);
    };
    this.cluster.later(random.exponential(runUs), next);
  }

  private async work(client: SimulatedClient, random: Random): Promise<void> {
    const store = new StoreClient(client);
    const timers = partsOf(client)!.clock;
    const { ttlMs } = this.options;
    for (;;) {
      let lock: Lock;
      try {
        lock = await store.lock('lock', { ttl: ttlMs });
      } catch (error) {
        if (!(error instanceof JitPaxosError)) throw error;
        this.errors[error.code] = (this.errors[error.code] ?? 0) + 1;
        await pause(timers, AGAIN_MS);
        continue;
      }
      if (!lock.isHeld()) continue;
      this.hold(client, lock, random);
      const held = new Held(client, lock);
      while (held.ask()) await pause(timers, 5);
      this.losses[held.cause]++;
      await lock.release();
    }
  }

  private hold(client: SimulatedClient, { token }: Lock, random: Random): void {
    const { queue } = this.cluster;
    this.taken++;
    this.lastToken = token;
    this.takenUs = queue.nowUs;
    const { killed } = this;
    if (killed !== undefined && token > killed.token) {
      this.lateMs.push((queue.nowUs - killed.atUs) / 1e3 - this.options.ttlMs);
      this.killed = undefined;
    }
    if (this.killed !== undefined) return;
    const heldUs = 1e3 * this.options.ttlMs * (0.5 + random.unit() / 3);
    this.cluster.later(Math.max(heldUs, this.nextKillUs + heldUs - queue.nowUs), () => this.kill(client, token));
  }

  /** If it is the last that got the lock. */
  private kill(client: SimulatedClient, token: number): void {
    if (client.isGone || this.killed !== undefined || token !== this.lastToken) return;
    client.kill();
    this.killed = { token, atUs: this.cluster.queue.nowUs };
    this.takenUs = this.cluster.queue.nowUs;
    this.nextKillUs = this.takenUs + RETURNS_US + SETTLED_US;
    this.cluster.later(RETURNS_US, () => this.start(client.endpoint - HOST_PLACES));
  }
}
