/**
 * Hand-overs of a lock in a simulated cluster, in virtual time: the shipped replicas, sessions, watches, leases and locks,
 * on a network that loses datagrams, with clocks that are stepped, processes that are stopped and killed, and fail-overs.
 *
 * The rule that is checked: observer.ts. It holds as long as the clocks of replicas differ by less than the margin of the
 * leases. With `boundBroken` that of the primary is set further ahead while one that holds is cut off, and back afterwards:
 * then holds overlap, and the fence has to refuse every stale write.
 *
 * The same seed gives the same run: nothing here reads a clock, or uses any source of chance but the seed.
 */
import type { Lock } from '../../../src/client/lock.js';
import { pause, type Timers } from '../../../src/client/lease-clock.js';
import { partsOf } from '../../../src/client/client-parts.js';
import { StoreClient } from '../../../src/client/store-client.js';
import { JitPaxosError } from '../../../src/errors.js';
import type { NetworkConditions } from '../../../src/sim/network.js';
import { Random } from '../../../src/sim/random.js';
import { HOST_PLACES } from '../../../src/wire/host-ids.js';
import type { SimulatedClient } from './client.js';
import { Held } from './held.js';
import { SimulatedCluster } from './cluster.js';
import { Observer, type Observed } from './observer.js';
import { REPLICAS } from './replicas.js';

const CLIENTS = 4;
/** One more client stamps its requests ahead by this, less than is refused (`maxAheadNs`). */
const AHEAD_NS = 90e6;
const AHEAD_EVERY_US = 5_000;
const TTL_MS = 400;
const MARGIN_MS = 40;
/** Clocks of replicas are off by up to this, less than half of the margin. */
const OFF_NS = 19e6;
/** One replica's clock is ahead of the others by this, too, more than the margin: holders have to know it from the replies. */
const FURTHEST = 1;
const FURTHEST_NS = 60e6;
/**
 * If the bound is broken, the primary's clock is set forward to this while one that holds is cut off: further ahead of the
 * others than the margin, and not so far that it does not stay primary.
 */
const BROKEN_NS = 75e6;
/** Share of the faults that break the bound, if it is to be broken. */
const BREAKS = 0.3;
/** The bound is broken this part of the ttl after one that holds was cut off. */
const BREAK_PART = 0.25;
/** Clocks of clients may be off by anything; they are stepped by up to this. */
const CLIENT_OFF_NS = 3e9;
const CLIENT_STEP_NS = 300e6;
const HOLD_US = 400;
/** One that is struck while it holds, holds for up to this long, and asks this often. */
const LONG_MS = 2 * TTL_MS;
const LONG_STEP_MS = 4;
/** Mean time between two faults, µs, while nothing else happens. */
const FAULT_US = 300_000;
const FAULTS = 0.05;
/** Share of the faults of processes that strike one that holds. */
const AT_HOLDER = 0.8;
const CONDITIONS: NetworkConditions = {
  delay: 'log-normal',
  delayUs: 40,
  spread: 0.5,
  loss: 0.002,
  duplicate: 0.002,
  corrupt: 0,
  reorder: 0.005,
  reorderUs: 2_000,
};
const LOSS = 0.3;
/** Nobody got the lock for this long: something hangs, µs. */
const STUCK_US = 60e6;
/** A writer that lost the lock writes all the same in this share of the cases; always, if the bound is broken. */
const CARELESS = 0.5;

export interface SimulateOptions {
  readonly handOvers: number;
  readonly seed: number;
  readonly boundBroken?: boolean;
  /** Share of the hand-overs at which something goes wrong. Default 0.05. */
  readonly faults?: number;
  /** Called after each thousand. */
  readonly progress?: (observed: Observed) => void;
}

export interface Simulated extends Observed {
  /** Virtual time, s. */
  readonly seconds: number;
  readonly stops: number;
  readonly kills: number;
  readonly failovers: number;
  readonly clockSteps: number;
  /** How often one that held was cut off while the primary's clock was set beyond the bound. */
  readonly boundBreaks: number;
  readonly datagramsLost: number;
}

/** Throws Error if the hand-overs stop for a minute of virtual time. */
export async function simulateLocks(options: SimulateOptions): Promise<Simulated> {
  const run = new Run(options);
  return run.run();
}

class Run {
  private readonly random: Random;
  private readonly faults: Random;
  private readonly cluster: SimulatedCluster;
  private readonly observer = new Observer();
  private readonly ahead: StoreClient;
  /** What each client has now. */
  private readonly held = new Map<SimulatedClient, Lock>();
  private readonly counts = { stops: 0, kills: 0, failovers: 0, clockSteps: 0, boundBreaks: 0 };
  /** What happens to the next that gets the lock. */
  private ambush: ((client: SimulatedClient) => void) | undefined;
  private failure: unknown;

  constructor(private readonly options: SimulateOptions) {
    this.random = new Random(options.seed);
    this.faults = this.random.fork('faults');
    const cluster = new SimulatedCluster(this.random, CLIENTS + 1, CONDITIONS);
    this.cluster = cluster;
    const off = (most: number) => (): number => this.off(this.random, most);
    for (let id = 0; id < REPLICAS; id++) {
      cluster.addClock(id, () => this.aheadNs(id) + this.off(this.random, OFF_NS));
      cluster.startReplica(id);
    }
    for (let i = 0; i < CLIENTS; i++) {
      cluster.addClock(HOST_PLACES + i, off(i === 0 ? 0 : CLIENT_OFF_NS));
      this.startClient(i);
    }
    cluster.addClock(HOST_PLACES + CLIENTS, off(0));
    this.ahead = new StoreClient(cluster.startClient(CLIENTS, AHEAD_NS));
    this.planFault();
  }

  async run(): Promise<Simulated> {
    const { cluster, observer, options } = this;
    const { queue } = cluster;
    const { observed } = observer;
    let [told, lastUs] = [0, 0];
    while (observed.handOvers < options.handOvers) {
      queue.step(Infinity);
      if (cluster.isTouched) await cluster.settle();
      if (this.failure !== undefined) throw this.failure;
      if (observed.handOvers > told) {
        if (Math.floor(observed.handOvers / 1000) > Math.floor(told / 1000)) options.progress?.(observed);
        [told, lastUs] = [observed.handOvers, queue.nowUs];
      } else if (queue.nowUs - lastUs > STUCK_US)
        throw new Error(
          `seed ${options.seed}: nobody got the lock for ${STUCK_US / 1e6} s of virtual time, after ${told} hand-overs`,
        );
    }
    return {
      ...observed,
      seconds: queue.nowUs / 1e6,
      ...this.counts,
      datagramsLost: cluster.network.counts.lost + cluster.network.counts.blocked,
    };
  }

  /** From −`offNs` to `offNs`; half of the time close to the ends of that. */
  private off(random: Random, offNs: number): number {
    const share = random.chance(0.5) ? 1 - random.unit() / 10 : random.unit();
    return Math.round((random.chance(0.5) ? share : -share) * offNs);
  }

  private startClient(i: number): void {
    this.work(this.cluster.startClient(i), this.random.fork(`holder ${i}`)).catch((error: unknown) => {
      this.failure = error;
    });
  }

  /** Takes the lock again and again. */
  private async work(client: SimulatedClient, random: Random): Promise<void> {
    const store = new StoreClient(client);
    const timers = partsOf(client)!.clock;
    for (;;) {
      let lock: Lock;
      try {
        lock = await store.lock('lock', { ttl: TTL_MS, margin: MARGIN_MS });
      } catch (error) {
        if (!(error instanceof JitPaxosError)) throw error;
        await pause(timers, 5);
        continue;
      }
      try {
        await this.hold(client, store, lock, random, timers);
      } catch (error) {
        if (!(error instanceof JitPaxosError)) throw error;
      } finally {
        this.held.delete(client);
      }
      await lock.release();
    }
  }

  private async hold(
    client: SimulatedClient,
    store: StoreClient,
    lock: Lock,
    random: Random,
    timers: Timers,
  ): Promise<void> {
    const { observer } = this;
    if (!lock.isHeld()) return;
    this.held.set(client, lock);
    observer.taken(lock.token);
    if (this.faults.chance(this.options.faults ?? FAULTS)) this.fault();
    const { ambush } = this;
    if (ambush !== undefined) {
      this.ambush = undefined;
      this.cluster.later(random.exponential(HOLD_US), () => ambush(client));
    }
    // At this moment nobody else may be told that it holds.
    for (const [other, its] of this.held)
      if (other !== client && !other.isPaused && its.isHeld()) observer.holds(its.token);
    const held = new Held(client, lock);
    await pause(timers, random.exponential(HOLD_US) / 1e3);
    let isHeld = this.ask(held);
    // Holds to the end of its lease and beyond, unless that is renewed.
    const isBroken = this.options.boundBroken === true;
    const longMs = LONG_MS * (isBroken ? 1 : random.unit());
    const careless = isBroken ? 1 : CARELESS;
    const untilMs = timers.monotonicMs() + (ambush === undefined ? 0 : longMs);
    while (isHeld && timers.monotonicMs() < untilMs) {
      await pause(timers, LONG_STEP_MS * random.unit());
      isHeld = this.ask(held);
    }
    // Some writers do not ask: the fence has to stop them.
    if (isHeld || random.chance(careless)) {
      await this.write(store, lock);
      if (!this.ask(held) && random.chance(careless)) {
        await pause(timers, random.exponential(TTL_MS));
        await this.write(store, lock);
      }
    }
  }

  private ask(held: Held): boolean {
    const isHeld = held.ask();
    if (isHeld) this.observer.holds(held.lock.token);
    else if (held.isNews) this.observer.lost(held.cause);
    return isHeld;
  }

  private async write(store: StoreClient, lock: Lock): Promise<void> {
    const { observer } = this;
    const { token } = lock;
    const wasStale = observer.isStale(token);
    try {
      observer.executed(token, (await store.put('written', String(token), { fence: lock })).revision, wasStale);
    } catch (error) {
      if (error instanceof JitPaxosError && error.code === 'fenced') observer.refused(wasStale);
      else throw error;
    }
  }

  private planFault(): void {
    this.cluster.later(this.faults.exponential(FAULT_US), () => {
      this.fault();
      this.planFault();
    });
  }

  /** Strikes a process: often the next that gets the lock, while it has it. */
  private strike(how: (client: SimulatedClient) => void): void {
    if (this.faults.chance(AT_HOLDER)) this.ambush = how;
    else how(this.faults.pick(this.cluster.clients.slice(0, CLIENTS)));
  }

  private fault(): void {
    const { cluster, faults, counts } = this;
    if (this.options.boundBroken === true && faults.chance(BREAKS)) {
      this.ambush = (client) => this.breakBound(client);
      return;
    }
    const longUs = 10 ** (3 + faults.unit() * Math.log10(2 * TTL_MS));
    const draw = faults.unit();
    if (draw < 0.25) {
      counts.stops++;
      this.strike((client) => client.pause(longUs));
    } else if (draw < 0.32) {
      counts.kills++;
      const downUs = faults.between(1, 50_000);
      this.strike((client) => {
        if (client.isGone) return;
        client.kill();
        this.held.delete(client);
        cluster.later(downUs, () => this.startClient(client.endpoint - HOST_PLACES));
      });
    } else if (draw < 0.42) this.failOver();
    else if (draw < 0.5) faults.pick(cluster.replicas).pause(faults.between(1_000, 100_000));
    else if (draw < 0.7) this.stepReplica(faults.below(REPLICAS));
    else if (draw < 0.82) this.stepClient();
    else if (draw < 0.87) {
      cluster.network.setConditions({ ...CONDITIONS, loss: LOSS });
      cluster.later(faults.between(5_000, 50_000), () => cluster.network.setConditions(CONDITIONS));
    } else
      this.strike(({ endpoint }) => {
        const forUs = faults.chance(0.6) ? 1e3 * faults.between(TTL_MS, 2 * TTL_MS) : longUs;
        cluster.cut(endpoint, forUs);
        this.stampAhead(forUs);
        // What it believes of the replicas' clocks gets old before its lease ends.
        if (faults.chance(0.7))
          cluster.later((1e3 * TTL_MS * faults.unit()) / 2, () => this.stepReplica(cluster.primary));
      });
  }

  /** Requests that are due as late as the primary allows: the log's time is that of its clock, not that of the others. */
  private stampAhead(forUs: number): void {
    const { queue } = this.cluster;
    const untilUs = queue.nowUs + forUs;
    const next = (): void => {
      if (queue.nowUs >= untilUs) return;
      this.ahead.put('time', '').catch(() => undefined);
      this.cluster.later(this.faults.exponential(AHEAD_EVERY_US), next);
    };
    next();
  }

  /** The primary's process crashes and returns with its log, if all are up. */
  private failOver(): void {
    const { cluster, faults, counts } = this;
    const { replicas } = cluster;
    if (replicas.some((replica) => !replica.isUp)) return;
    counts.failovers++;
    replicas[cluster.primary]!.crash('kept', faults.between(20_000, 300_000));
  }

  /** A bound is broken by a clock that nobody knows of; there all others are about right. */
  private aheadNs(replica: number): number {
    return replica === FURTHEST && this.options.boundBroken === undefined ? FURTHEST_NS : 0;
  }

  private stepReplica(replica: number): void {
    this.counts.clockSteps++;
    this.cluster.clocks[replica]!.set(this.aheadNs(replica) + this.off(this.faults, OFF_NS), 0);
  }

  /**
   * Its lease ends by a clock that it does not hear of, earlier than its margin allows for. Afterwards all is as before, so
   * that the next that is cut off does not know of such a clock either.
   */
  private breakBound({ endpoint }: SimulatedClient): void {
    const { cluster } = this;
    const forUs = 2e3 * TTL_MS;
    this.counts.boundBreaks++;
    cluster.cut(endpoint, forUs);
    this.stampAhead(forUs);
    cluster.later(1e3 * TTL_MS * BREAK_PART, () => {
      const { primary } = cluster;
      cluster.clocks[primary]!.set(BROKEN_NS, 0);
      cluster.later(forUs * (1 - BREAK_PART), () => this.stepReplica(primary));
    });
  }

  private stepClient(): void {
    const { faults, counts } = this;
    const clock = this.cluster.clocks[HOST_PLACES + faults.below(CLIENTS)]!;
    counts.clockSteps++;
    clock.step(this.off(faults, CLIENT_STEP_NS));
  }
}
