/** Replicas of a simulated cluster that tell clients what changes in their store: the shipped core and the shipped watches. */
import { KvMachine, watchableOf } from '../../../src/machine/kv.js';
import type { WatchableStore } from '../../../src/machine/store/change-ring.js';
import { DEFAULT_TIMINGS, type Limits, type Pieces } from '../../../src/protocol/config.js';
import type { Instant } from '../../../src/protocol/contract.js';
import { Feature } from '../../../src/protocol/log/features.js';
import { ReplicaCore } from '../../../src/protocol/replica/replica-core.js';
import { HURRY_US, WatchService, type WatchedReplica } from '../../../src/server/watches/watch-service.js';
import type { CreateReplica, SimulatedReplicaCore } from '../../../src/sim/cores.js';
import type { SimulatedClock } from '../../../src/sim/clock.js';
import { SimulatedDisk } from '../../../src/sim/disk.js';
import type { EventQueue } from '../../../src/sim/event-queue.js';
import type { SimulationHasher } from '../../../src/sim/hash.js';
import type { Network } from '../../../src/sim/network.js';
import type { Random } from '../../../src/sim/random.js';
import { ReplicaHost, type ReplicaEvents } from '../../../src/sim/replica-host.js';
import type { WireEnd } from '../../../src/sim/wire-end.js';
import { NO_OWNER } from '../../../src/protocol/log/session-owner.js';
import { DEFAULT_DATAGRAM_BYTES } from '../../../src/wire/envelope.js';
import { ReplicaStatus, typeOf, Watch } from '../../../src/wire/messages.js';

export const REPLICAS = 3;
export const LIMITS: Limits = {
  logEntries: 4096,
  logBytes: 1 << 20,
  maxSessions: 64,
  maxLanes: 1024,
  lanesPerSession: 64,
  operationBytes: 4096,
  resultBytes: 16_384,
  keptResultBytes: 1 << 20,
  waiting: 64,
  chunkBytes: 16_384,
  held: 64,
  cachedRequests: 64,
  cachedBytes: 1 << 16,
};
const IN_TOUCH_US = 200_000;
/** Changes that a store keeps for watches. */
const CHANGES = 4096;

export interface ReplicaOptions {
  /** Default 4096. */
  readonly logEntries?: number;
  /** Changes that a store keeps for watches. Default 4096. */
  readonly changes?: number;
  readonly undoBytes?: number;
  readonly pieces?: Pieces;
  /** What the watches are told of their replica. */
  readonly watched?: (replica: WatchedReplica, core: ReplicaCore) => WatchedReplica;
  /** Called at the end of each turn, before changes are told. */
  readonly flushed?: (core: ReplicaCore, store: WatchableStore | undefined) => void;
}

/** Nothing of what happens to it is of interest here. */
const EVENTS: ReplicaEvents = {
  called: () => undefined,
  started: () => undefined,
  crashed: () => undefined,
  forgotten: (_replica, error) => {
    throw error;
  },
  sent: () => undefined,
  received: () => undefined,
  transition: () => undefined,
  snapshots: () => undefined,
  unknownEpoch: () => undefined,
  searchMembers: () => undefined,
  isForHost: () => true,
  diverged: (replica) => {
    throw new Error(`replica ${replica} has diverged`);
  },
  refused: () => undefined,
};

export function replicaHost(
  id: number,
  around: {
    readonly queue: EventQueue;
    readonly network: Network;
    readonly random: Random;
    readonly clock: SimulatedClock;
    readonly wire: WireEnd;
    readonly hasher: SimulationHasher;
  },
  options: ReplicaOptions = {},
): ReplicaHost {
  const { queue, random, hasher } = around;
  const conditions = { keepsLog: true, latencyUs: 0, hiccup: 0 };
  const disk = new SimulatedDisk(queue, random.fork('disk'), hasher, conditions, `replica ${id}`, random.fork('lags'));
  const config = {
    id,
    replicas: REPLICAS,
    seed: random.next(),
    late: 'restamp' as const,
    datagramBytes: DEFAULT_DATAGRAM_BYTES,
    limits: { ...LIMITS, logEntries: options.logEntries ?? LIMITS.logEntries },
    ...(options.undoBytes === undefined ? {} : { undoBytes: options.undoBytes }),
    ...(options.pieces === undefined ? {} : { pieces: options.pieces }),
    timings: DEFAULT_TIMINGS,
    features: Feature.store,
  };
  let machine: KvMachine;
  const changes = options.changes ?? CHANGES;
  const host: ReplicaHost = new ReplicaHost(
    id,
    config,
    {
      ...around,
      disk,
      random: random.fork('replica'),
      chain: undefined,
      createReplica: watched(() => machine, random.fork('watches'), options),
      createMachine: () =>
        (machine = new KvMachine({ maxKeys: 1 << 12, maxBytes: 1 << 20, expectedKeys: 64, changes })),
      events: { ...EVENTS, called: () => regain(host) },
      messageCostUs: 0,
      standstill: undefined,
      diverging: false,
      asks: false,
      records: false,
    },
    id,
  );
  return host;
}

/** A log that was lost is there again. */
function regain(host: ReplicaHost): void {
  if (host.logLost && host.core?.state.status === ReplicaStatus.normal && host.hasInstalledLog) host.logRegained();
}

/** As src/server/replica.ts puts the two together. */
function watched(machine: () => KvMachine, random: Random, options: ReplicaOptions): CreateReplica {
  return (config, outbox, storage, probe, hasher, observer, chain) => {
    const core = new ReplicaCore(config, outbox, storage, probe, hasher, observer, chain);
    const own = machine();
    const replica: WatchedReplica = {
      store: () => watchableOf(own),
      committed: () => core.state.committed,
      view: () => core.state.view,
      serves: () => core.state.status === ReplicaStatus.normal,
      isInTouch: (now) => core.isInTouch(now, IN_TOUCH_US),
      isPrimary: () => core.state.isPrimary,
      primary: () => core.state.primary,
      hurry: (now) => core.hurry(now, HURRY_US),
      isProven: () => true,
      challenge: () => undefined,
    };
    const watches = new WatchService(
      options.watched?.(replica, core) ?? replica,
      outbox,
      DEFAULT_DATAGRAM_BYTES,
      () => (random.next() >>> 1) | 1,
    );
    return new WatchedCore(core, watches, () => options.flushed?.(core, watchableOf(own)));
  };
}

class WatchedCore implements SimulatedReplicaCore {
  private readonly wake = new Float64Array(1);

  constructor(
    private readonly core: ReplicaCore,
    private readonly watches: WatchService,
    private readonly flushed: () => void,
  ) {}

  start(...args: Parameters<SimulatedReplicaCore['start']>): void {
    this.core.start(...args);
  }

  receive(bytes: Uint8Array, offset: number, length: number, from: number, now: Instant): void {
    if (typeOf(bytes, offset) === Watch.type) this.watches.onWatch(bytes, offset, from, now, NO_OWNER);
    else this.core.receive(bytes, offset, length, from, now, from);
  }

  unreachable(replica: number, now: Instant): void {
    this.core.unreachable(replica, now);
  }

  tick(now: Instant): void {
    this.core.tick(now);
    this.watches.tick(now);
  }

  flush(now: Instant): void {
    this.core.flush(now);
    this.flushed();
    this.watches.push(now);
  }

  finish(now: Instant): void {
    this.core.finish(now);
  }

  persisted(token: number): void {
    this.core.persisted(token);
  }

  takeMembers(members: Uint8Array, now: Instant): void {
    this.core.takeMembers(members, now);
  }

  get wakeAtUs(): number {
    this.core.writeWakeUs(this.wake);
    this.watches.wakeBefore(this.wake);
    return this.wake[0]!;
  }

  get counters(): Float64Array {
    return this.core.counters;
  }

  get state(): ReplicaCore['state'] {
    return this.core.state;
  }
}
