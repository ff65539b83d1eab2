/**
 * A simulated cluster whose clients write and watch, with the watches that ship: kills, cuts, fail-overs, lost logs, loss
 * and snapshots; judged by watch-judge.ts. The same seed always gives the same run.
 */
import { pause, type Timers } from '../../src/client/lease-clock.js';
import { partsOf } from '../../src/client/client-parts.js';
import { StoreClient } from '../../src/client/store-client.js';
import { JitPaxosError } from '../../src/errors.js';
import { Counter } from '../../src/protocol/counters.js';
import type { ReplicaCore } from '../../src/protocol/replica/replica-core.js';
import type { WatchedReplica } from '../../src/server/watches/watch-service.js';
import type { NetworkConditions } from '../../src/sim/network.js';
import { Random } from '../../src/sim/random.js';
import { HOST_PLACES } from '../../src/wire/host-ids.js';
import type { SimulatedClient } from '../../bench/locks/simulated/client.js';
import { SimulatedCluster } from '../../bench/locks/simulated/cluster.js';
import { REPLICAS } from '../../bench/locks/simulated/replicas.js';
import { WatchJudge, WatchViolation, type Told } from './watch-judge.js';

const WRITERS = 2;
const WATCHERS = 3;
/** Prefixes of the watches of a watcher. */
const WATCHED: readonly (readonly string[])[] = [['a'], ['b', 'c/1'], ['c', 'a/2']];
const KEYS = ['a', 'b', 'c', 'd'].flatMap((prefix) => [1, 2, 3].map((number) => `${prefix}/${number}`));
const WRITE_MS = 1;
const TTL_MS = 40;
/** Mean time between two faults, µs. */
const FAULT_US = 60_000;
/** A watch is ended by itself, or read slowly, after this share of its changes. */
const LEFT = 0.01;
const SLOW = 0.02;
const CONDITIONS: NetworkConditions = {
  delay: 'log-normal',
  delayUs: 40,
  spread: 0.5,
  loss: 0.005,
  duplicate: 0.005,
  corrupt: 0,
  reorder: 0.01,
  reorderUs: 2_000,
};
const LOSS = 0.3;
/** After the faults: what is under way goes on for this long, and keys end, µs. A watch that is told nothing for this long hangs. */
const QUIET_US = 1e6;
const STUCK_US = 30e6;

export interface WatchRunOptions {
  readonly seed: number;
  /** Time with faults, µs. Default: one second. */
  readonly us?: number;
  /** Breaks a rule of the replicas. */
  readonly watched?: (replica: WatchedReplica, core: ReplicaCore) => WatchedReplica;
}

export interface WatchRunResult {
  readonly violation: WatchViolation | undefined;
  readonly counts: Readonly<Record<string, number>>;
}

export async function simulateWatches(options: WatchRunOptions): Promise<WatchRunResult> {
  const run = new Run(options);
  let violation: WatchViolation | undefined;
  try {
    await run.run();
  } catch (error) {
    if (!(error instanceof WatchViolation)) throw error;
    violation = error;
  }
  return { violation, counts: run.total() };
}

class Run {
  private readonly random: Random;
  private readonly faults: Random;
  private readonly cluster: SimulatedCluster;
  private readonly judge = new WatchJudge();
  private readonly counts = {
    kills: 0,
    stops: 0,
    cuts: 0,
    partitions: 0,
    failovers: 0,
    logsLost: 0,
    compacted: 0,
    refused: 0,
    ended: 0,
  };
  /** The open watches of each client. */
  private readonly open = new Map<SimulatedClient, Set<Told>>();
  private readonly cores = new Set<ReplicaCore>();
  private isQuiet = false;
  private failure: unknown;
  private written = 0;

  constructor(private readonly options: WatchRunOptions) {
    this.random = new Random(options.seed);
    this.faults = this.random.fork('faults');
    const cluster = new SimulatedCluster(this.random, WRITERS + WATCHERS, CONDITIONS);
    this.cluster = cluster;
    const off = (): number => Math.round((this.random.unit() - 0.5) * 1e6);
    // In some runs the log and what is kept of it are so short that replicas install snapshots, and watches lose changes.
    const isShort = this.random.chance(0.5);
    // In some only one serves watches, and so as the primary, too.
    const isAlone = this.random.chance(0.5);
    for (let id = 0; id < REPLICAS; id++) {
      cluster.addClock(id, off);
      cluster.startReplica(id, {
        logEntries: isShort ? 256 : 4096,
        changes: isShort ? 64 : 1024,
        undoBytes: 1 << 16,
        pieces: { bytes: 256, everyUs: 2_000 },
        watched: (replica, core) => ({
          ...(options.watched?.(replica, core) ?? replica),
          ...(isAlone && id > 0 ? { store: () => undefined } : {}),
        }),
        flushed: (core, store) => {
          this.cores.add(core);
          this.judge.flushed(core, store);
        },
      });
    }
    for (let i = 0; i < WRITERS + WATCHERS; i++) {
      cluster.addClock(HOST_PLACES + i, off);
      this.startClient(i);
    }
    this.planFault();
  }

  async run(): Promise<void> {
    const { cluster, options, judge } = this;
    const { queue } = cluster;
    const endUs = options.us ?? 1e6;
    for (;;) {
      queue.step(Infinity);
      if (cluster.isTouched) await cluster.settle();
      if (this.failure !== undefined) throw this.failure;
      if (queue.nowUs < endUs) continue;
      if (!this.isQuiet) {
        this.isQuiet = true;
        cluster.network.setConditions(CONDITIONS);
      }
      if (queue.nowUs < endUs + QUIET_US) continue;
      const missing = this.missing();
      if (missing === undefined) break;
      if (queue.nowUs > endUs + STUCK_US) throw new WatchViolation('watch-gap', missing);
    }
    judge.judge();
  }

  total(): Readonly<Record<string, number>> {
    let [undone, installed] = [0, 0];
    for (const { counters, state } of this.cores) {
      undone += state.execution.undone;
      installed += counters[Counter.snapshots_installed]!;
    }
    return { ...this.counts, undone, installed, ...this.judge.counts, lost: this.cluster.network.counts.lost };
  }

  /** What some watch was not told yet. */
  private missing(): string | undefined {
    for (const each of this.open.values())
      for (const watch of each) {
        const revision = this.judge.missing(watch);
        if (revision !== undefined) return `${watch.name} is not told revision ${revision}`;
      }
    return undefined;
  }

  private startClient(i: number): void {
    const client = this.cluster.startClient(i);
    const random = this.random.fork(`work ${i}`);
    const failed = (error: unknown): void => {
      this.failure ??= error;
    };
    if (i < WRITERS) return void this.write(client, random).catch(failed);
    this.open.set(client, new Set());
    for (const [number, prefixes] of WATCHED.entries())
      this.follow(client, `watch ${number} of client ${i}`, prefixes, random.fork(`${number}`)).catch(failed);
  }

  private async write(client: SimulatedClient, random: Random): Promise<void> {
    const store = new StoreClient(client);
    const timers = partsOf(client)!.clock;
    while (!this.isQuiet) {
      const key = random.pick(KEYS);
      const value = `value ${++this.written}`;
      try {
        const draw = random.unit();
        if (draw < 0.2) await store.delete(key);
        else if (draw < 0.35) {
          const first = random.below(KEYS.length - 3);
          const keys = KEYS.slice(first, first + 3);
          await store.transact({ do: keys.map((each) => ({ put: each, value })) });
        } else {
          const put = await store.put(key, value, random.chance(0.3) ? { ttl: TTL_MS } : {});
          this.judge.put(put.revision, key, value);
        }
      } catch (error) {
        if (!(error instanceof JitPaxosError)) throw error;
      }
      await pause(timers, random.exponential(WRITE_MS));
    }
  }

  /** Watches again and again: behind the last change, or behind a read if changes were lost. */
  private async follow(
    client: SimulatedClient,
    name: string,
    prefixes: readonly string[],
    random: Random,
  ): Promise<void> {
    const store = new StoreClient(client);
    const timers = partsOf(client)!.clock;
    let from: number | undefined;
    for (;;) {
      from ??= await this.present(store, timers);
      const watch = this.judge.begin(name, prefixes, from);
      const open = this.open.get(client)!;
      open.add(watch);
      try {
        for await (const change of store.watch(prefixes, { from, values: random.chance(0.5) })) {
          this.judge.told(watch, change);
          from = change.revision;
          if (random.chance(SLOW)) await pause(timers, random.exponential(20));
          if (random.chance(LEFT)) break;
        }
        this.counts.ended++;
        await pause(timers, random.exponential(30));
      } catch (error) {
        if (!(error instanceof JitPaxosError)) throw error;
        if (error.code === 'watch-refused') {
          this.counts.refused++;
          await pause(timers, 5);
        } else if (error.code === 'watch-compacted') {
          this.counts.compacted++;
          // A replica also forgets for changes that it has executed, and does not know to be committed.
          if (this.judge.executed <= from)
            throw new WatchViolation('watch-gap', `${name} has lost nothing behind revision ${from}, and was told so`);
          from = undefined;
        } else throw error;
      } finally {
        open.delete(watch);
      }
    }
  }

  private async present(store: StoreClient, timers: Timers): Promise<number> {
    for (;;)
      try {
        return (await store.scan({ prefix: 'a', limit: 1 })).revision;
      } catch (error) {
        if (!(error instanceof JitPaxosError)) throw error;
        await pause(timers, 5);
      }
  }

  private planFault(): void {
    this.cluster.later(this.faults.exponential(FAULT_US), () => {
      if (this.isQuiet) return;
      this.fault();
      this.planFault();
    });
  }

  private fault(): void {
    const { faults, counts, cluster } = this;
    const longUs = 10 ** (3 + 2.7 * faults.unit());
    const draw = faults.unit();
    if (draw < 0.12) {
      counts.stops++;
      faults.pick(cluster.clients).pause(longUs);
    } else if (draw < 0.22) this.kill(faults.below(WRITERS + WATCHERS));
    else if (draw < 0.4) this.crash(cluster.primary, 'kept');
    else if (draw < 0.5) this.crash(faults.below(REPLICAS), 'kept');
    else if (draw < 0.6) this.crash(faults.below(REPLICAS), 'lost');
    else if (draw < 0.68) faults.pick(cluster.replicas).pause(longUs);
    else if (draw < 0.76) {
      cluster.network.setConditions({ ...CONDITIONS, loss: LOSS });
      cluster.later(faults.between(5_000, 50_000), () => cluster.network.setConditions(CONDITIONS));
    } else if (draw < 0.84) {
      counts.partitions++;
      this.divide(longUs);
    } else {
      counts.cuts++;
      const endpoint = faults.chance(0.5) ? faults.below(REPLICAS) : HOST_PLACES + faults.below(WRITERS + WATCHERS);
      cluster.cut(endpoint, longUs, faults.chance(0.5) ? undefined : [faults.below(REPLICAS)]);
    }
  }

  /** The primary is alone with some of the clients: what it executes for them is undone. */
  private divide(us: number): void {
    const { cluster, faults } = this;
    const { primary } = cluster;
    const others = cluster.replicas.map(({ id }) => id).filter((id) => id !== primary);
    cluster.cut(primary, us, others);
    for (const { endpoint } of cluster.clients) if (faults.chance(0.5)) cluster.cut(endpoint, us, others);
  }

  private kill(i: number): void {
    const { cluster, faults } = this;
    const client = cluster.clients[i]!;
    // It is started again already. A second one would take its endpoint, and leave the first without an answer for ever.
    if (client.isGone) return;
    this.counts.kills++;
    client.kill();
    this.open.delete(client);
    cluster.later(faults.between(1, 50_000), () => this.startClient(i));
  }

  /** If all are up, and have what they would need without it. */
  private crash(id: number, fate: 'kept' | 'lost'): void {
    const { cluster, faults, counts } = this;
    const { replicas } = cluster;
    if (replicas.some((replica) => !replica.isUp || replica.countsAsLost || !replica.hasInstalledLog)) return;
    if (fate === 'lost') counts.logsLost++;
    else counts.failovers++;
    replicas[id]!.crash(fate, faults.between(20_000, 200_000));
  }
}
