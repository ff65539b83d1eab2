/**
 * A cluster in virtual time whose endpoints are at different distances: a fixed delay for each pair with a little
 * jitter, no losses, and a clock for each host. It answers whether a client gets its requests in beside others that
 * keep the replicas busy.
 */
import { CounterMachine } from '../../src/machine/counter.js';
import { ClientCore } from '../../src/protocol/client/client-core.js';
import { DEFAULT_CLIENT_TIMINGS, DEFAULT_TIMINGS, type LateRule } from '../../src/protocol/config.js';
import { Instant, Outcome, type Outbox, type PersistBatch, type Storage } from '../../src/protocol/contract.js';
import { Jitter } from '../../src/protocol/jitter.js';
import { ReplicaCore } from '../../src/protocol/replica/replica-core.js';
import { ReplyStatus } from '../../src/wire/messages.js';
import { differenceU64 } from '../../src/wire/u64.js';
import { hasher, TEST_LIMITS } from './harness.js';

const EPOCH_NS = 1_700_000_000_000_000_000n;
const LIMITS = { ...TEST_LIMITS, logEntries: 1 << 14, logBytes: 4 << 20, cachedRequests: 4096, cachedBytes: 1 << 20 };

interface Event {
  readonly atUs: number;
  readonly run: () => void;
}

class HandOutbox implements Outbox {
  readonly bytes = new Uint8Array(60_000);
  private to = -1;
  constructor(private readonly emit: (to: number, bytes: Uint8Array) => void) {}
  reserve(to: number): number {
    this.to = to;
    return 0;
  }
  commit(length: number): void {
    this.emit(this.to, this.bytes.slice(0, length));
  }
}

class NoDisk implements Storage {
  readonly keepsLog = false;
  readonly stalled = false;
  core: ReplicaCore | undefined;
  persist(token: number, _batch: PersistBatch): void {
    this.core?.persisted(token);
  }
}

interface Host {
  readonly core: ClientCore | ReplicaCore;
  readonly endpoint: number;
  wakeUs: number;
}

export interface DistanceOptions {
  readonly late?: LateRule;
  /** One-way delay between a replica and this endpoint, µs. */
  readonly wayUs: (endpoint: number) => number;
  /** One-way delay between two replicas, µs; default 20. */
  readonly betweenUs?: (from: number, to: number) => number;
  /** True for messages that are lost on the way. */
  readonly loses?: (from: number, to: number) => boolean;
  /** How far an endpoint's clock is ahead of the right time, ns. */
  readonly aheadNs?: (endpoint: number, nowUs: number) => number;
}

export class Distances {
  nowUs = 1_000;
  private readonly events: Event[] = [];
  private readonly hosts = new Map<number, Host>();
  private readonly arrivals = new Map<string, number>();
  private readonly jitter = new Jitter(1);
  readonly replicas: ReplicaCore[] = [];

  constructor(private readonly options: DistanceOptions) {
    for (let id = 0; id < 3; id++) {
      const disk = new NoDisk();
      const core = new ReplicaCore(
        { id, replicas: 3, seed: id + 1, late: options.late ?? 'restamp', limits: LIMITS, timings: DEFAULT_TIMINGS },
        new HandOutbox((to, bytes) => this.send(id, to, bytes)),
        disk,
        new CounterMachine(),
        hasher,
        { transition: () => undefined },
      );
      disk.core = core;
      this.replicas.push(core);
      this.hosts.set(id, { core, endpoint: id, wakeUs: Infinity });
      core.start({ hardState: undefined, log: undefined }, this.instant(id));
    }
    for (const host of this.hosts.values()) this.arm(host);
  }

  /** End of the primary's log minus the right time, ns. */
  get logAheadNs(): number {
    const { log } = this.replicas[0]!.state;
    const { wallHi, wallLo } = this.instantOf(0);
    return differenceU64(log.timestampHi(log.lastIndex), log.timestampLo(log.lastIndex), wallHi, wallLo);
  }

  instant(endpoint: number): Instant {
    return this.instantOf(this.options.aheadNs?.(endpoint, this.nowUs) ?? 0);
  }

  at(atUs: number, run: () => void): void {
    let i = this.events.length;
    while (i > 0 && this.events[i - 1]!.atUs < atUs) i--;
    // Inserts after those of the same time.
    this.events.splice(i, 0, { atUs, run });
  }

  /** A client core on the network. `host` is called whenever something happened to it. */
  attach(endpoint: number, core: ClientCore): Host {
    const host = { core, endpoint, wakeUs: Infinity };
    this.hosts.set(endpoint, host);
    return host;
  }

  outbox(endpoint: number): Outbox {
    return new HandOutbox((to, bytes) => this.send(endpoint, to, bytes));
  }

  run(untilUs: number): void {
    for (let next = this.events.at(-1); next !== undefined && next.atUs <= untilUs; next = this.events.at(-1)) {
      this.events.pop();
      this.nowUs = next.atUs;
      next.run();
    }
    this.nowUs = untilUs;
  }

  arm(host: Host): void {
    const atUs = Math.max(host.core.wakeAtUs, this.nowUs + 1);
    if (atUs >= host.wakeUs || atUs === Infinity) return;
    host.wakeUs = atUs;
    this.at(atUs, () => {
      if (host.wakeUs !== atUs || this.hosts.get(host.endpoint) !== host) return;
      host.wakeUs = Infinity;
      const now = this.instant(host.endpoint);
      host.core.tick(now);
      if (host.core instanceof ReplicaCore) host.core.flush(now);
      this.arm(host);
    });
  }

  private instantOf(aheadNs: number): Instant {
    const instant = new Instant();
    const wall = EPOCH_NS + BigInt(Math.round(this.nowUs * 1000 + aheadNs));
    instant.monotonicUs = this.nowUs + 0.5;
    instant.wallHi = Number(BigInt.asIntN(32, wall >> 32n));
    instant.wallLo = Number(BigInt.asIntN(32, wall));
    return instant;
  }

  private send(from: number, to: number, bytes: Uint8Array): void {
    if (this.options.loses?.(from, to) === true) return;
    const way =
      from < 3 && to < 3 ? (this.options.betweenUs?.(from, to) ?? 20) : this.options.wayUs(Math.max(from, to));
    const pair = `${from} ${to}`;
    const atUs = Math.max(this.nowUs + way * (1 + 0.05 * this.jitter.next()), (this.arrivals.get(pair) ?? 0) + 0.01);
    this.arrivals.set(pair, atUs);
    this.at(atUs, () => {
      const host = this.hosts.get(to);
      if (host === undefined) return;
      const now = this.instant(to);
      host.core.receive(bytes, 0, bytes.length, from, now);
      if (host.core instanceof ReplicaCore) host.core.flush(now);
      this.arm(host);
    });
  }
}

/** A client host: draws another session when one is refused, as src/client/client-host.ts does. */
export class DistantClient {
  core!: ClientCore;
  sessions = 0;
  registeredUs = Infinity;
  committed = 0;
  /** Longest time of an operation, µs. */
  longestUs = 0;
  private readonly sinceUs: number[] = [];

  constructor(
    private readonly world: Distances,
    readonly endpoint: number,
    private readonly lanes: number,
    /** Time between an operation's end and the next one's beginning on its lane, µs. */
    private readonly pauseUs: number,
  ) {
    this.next();
  }

  get registered(): boolean {
    return this.registeredUs < Infinity;
  }

  private next(): void {
    const { world, endpoint, lanes } = this;
    const id = endpoint * 65_536 + 2 * ++this.sessions + 1;
    const earlier: ClientCore | undefined = this.core;
    const core = new ClientCore(
      {
        replicas: 3,
        lanes,
        seed: id,
        sessionHi: 7,
        sessionLo: id,
        nonceHi: 9,
        nonceLo: id,
        limits: { operationBytes: 2048, resultBytes: 2048 },
        timings: DEFAULT_CLIENT_TIMINGS,
        ...earlier?.succession(),
      },
      world.outbox(endpoint),
      {
        registered: (status) => {
          if (status !== ReplyStatus.ok) {
            world.at(world.nowUs, () => this.next());
            return;
          }
          this.registeredUs = world.nowUs;
          for (let lane = 0; lane < lanes; lane++) this.later(lane);
        },
        completed: (lane, outcome) => {
          if (outcome === Outcome.committed) this.committed++;
          this.longestUs = Math.max(this.longestUs, world.nowUs - this.sinceUs[lane]!);
          this.later(lane);
        },
      },
    );
    this.core = core;
    const host = world.attach(endpoint, core);
    core.register(world.instant(endpoint));
    world.arm(host);
    this.host = host;
  }
  private host!: Host;

  private later(lane: number): void {
    const { world, core } = this;
    world.at(world.nowUs + this.pauseUs, () => {
      if (core !== this.core || !core.isIdle(lane)) return;
      this.sinceUs[lane] = world.nowUs;
      core.submit(lane, new Uint8Array(16), 0, 16, Infinity, world.instant(this.endpoint));
      world.arm(this.host);
    });
  }
}
