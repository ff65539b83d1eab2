/**
 * Replica cores and client cores in one process, driven through in-memory outboxes with a clock of their own: the cost
 * of this project's code alone, without sockets, timers and processes. For bench:allocation and bench:growth.
 *
 * Operations go in batches, one step per role: the clients submit on all lanes, each replica takes the whole batch, the
 * clients take the answers. `steps` holds these steps in order.
 */
import { CliError } from '../src/console/exit.js';
import { loadHash } from '../src/native/hash64.js';
import { ClientCore } from '../src/protocol/client/client-core.js';
import { DEFAULT_CLIENT_TIMINGS, DEFAULT_LIMITS, DEFAULT_TIMINGS, type Limits } from '../src/protocol/config.js';
import {
  type Chain,
  Instant,
  Outcome,
  type Outbox,
  type PersistBatch,
  type Storage,
} from '../src/protocol/contract.js';
import { Counter } from '../src/protocol/counters.js';
import { ReplicaCore } from '../src/protocol/replica/replica-core.js';
import type { StateMachine } from '../src/machine/state-machine.js';
import { wordsOf } from '../src/wire/copy.js';
import { ReplyStatus, validate } from '../src/wire/messages.js';
import { DatagramEnd, Queue } from './datagram-end.js';

/** Messages that a host passes on in one turn. */
const MESSAGES_A_TURN = 16;
const US_BETWEEN_OPERATIONS = 1;
const REGISTRATION_TURNS_MAX = 10_000;
/** Sessions that register at the same time. */
const REGISTRATIONS = 256;
/** Room in a queue for messages that do not belong to an operation. */
const SPARE_MESSAGES = 4096;

export interface CoreRigOptions {
  readonly replicas: number;
  /** A machine for each replica, all in the same state. */
  readonly machine: () => StateMachine;
  /** Operations open at once, over all clients that submit. Each client sends all of its at once: at most QUEUED each. */
  readonly lanes: number;
  /** Clients that submit; `lanes` is a multiple of it. */
  readonly clients: number;
  /** Sessions in the table, including those of the clients. */
  readonly sessions: number;
  readonly limits?: Partial<Limits>;
  /** The next operation, valid until the next call. */
  readonly operation: () => Uint8Array;
  /** What chains the logs. Default: the chain without keys. */
  readonly chain?: Chain;
  /**
   * How often a member and the spare exchange messages within a batch, besides once with all others. A spare fetches what
   * it lacks in pieces, from a member. A batch lasts many round trips of a network, so without these exchanges the spare
   * falls behind until only a snapshot helps. Default 0.
   */
  readonly exchanges?: number;
  /** Messages travel in encrypted datagrams. Default: each message travels alone, without an envelope. */
  readonly encrypted?: boolean;
}

/** Puts messages into the queues of their destinations. */
class MemoryOutbox implements Outbox {
  bytes: Uint8Array;
  words: DataView;
  private readonly allWords: readonly DataView[];
  private to = 0;

  constructor(
    private readonly queues: readonly Queue[],
    private readonly from: number,
  ) {
    this.allWords = queues.map(({ bytes }) => wordsOf(bytes));
    this.bytes = queues[0]!.bytes;
    this.words = this.allWords[0]!;
  }

  reserve(to: number, length: number): number {
    const queue = this.queues[to]!;
    if (!queue.hasRoom(length)) return -1;
    this.to = to;
    this.bytes = queue.bytes;
    this.words = this.allWords[to]!;
    return queue.end;
  }

  commit(length: number): void {
    this.queues[this.to]!.add(length, this.from);
  }
}

/** Durable at once, like mode `memory` without a data directory. */
class NoStorage implements Storage {
  readonly keepsLog = false;
  readonly stalled = false;
  core: ReplicaCore | undefined;

  persist(token: number, _batch: PersistBatch): void {
    this.core!.persisted(token);
  }
}

export class CoreRig {
  readonly replicas: ReplicaCore[];
  /** committed, fast: written on every completion, so a typed array. */
  readonly counts = new Float64Array(2);
  /** Submit, replica 0, replica 1, …; for each exchange replica 1 and the spare; take the answers. */
  readonly steps: readonly (() => void)[];
  private readonly queues: Queue[];
  /** By endpoint; empty unless messages travel in datagrams. */
  private readonly ends: DatagramEnd[] = [];
  private readonly hash = loadHash();
  private readonly now = new Instant();
  private clients: ClientCore[] = [];
  private nextSession = 1;

  constructor(private readonly options: CoreRigOptions) {
    const { replicas, lanes, clients, machine } = options;
    const toReplica = lanes * 4 + SPARE_MESSAGES;
    const toClient = (lanes / clients) * (replicas + 1) + 64;
    const endpoints = Math.max(clients, REGISTRATIONS);
    this.queues = Array.from(
      { length: replicas + endpoints },
      (_, to) => new Queue(to < replicas ? toReplica : toClient),
    );
    const limits = { ...DEFAULT_LIMITS, ...options.limits };
    this.replicas = Array.from({ length: replicas }, (_, id) => {
      const storage = new NoStorage();
      const core = new ReplicaCore(
        { id, replicas, seed: id + 1, limits, timings: DEFAULT_TIMINGS },
        this.outboxOf(id),
        storage,
        machine(),
        this.hash,
        { transition: () => {} },
        options.chain,
      );
      storage.core = core;
      return core;
    });
    this.steps = [
      () => this.submitAll(),
      ...this.replicas.map((_, id) => () => this.runReplica(id)),
      ...Array.from({ length: options.exchanges ?? 0 }, () => [
        () => this.runReplica(1),
        () => this.runReplica(replicas - 1),
      ]).flat(),
      () => this.runClients(),
    ];
    this.setTime(1_000_000);
    for (const replica of this.replicas) replica.start({ hardState: undefined, log: undefined }, this.now);
  }

  /** Ready for operations. Throws CliError `worker-failed`. */
  register(): void {
    const { sessions, clients, lanes } = this.options;
    for (let left = sessions - clients; left > 0; left -= REGISTRATIONS)
      this.registerClients(Math.min(left, REGISTRATIONS), 1);
    this.registerClients(clients, lanes / clients);
  }

  /** Encrypted datagrams that all processes have read. */
  datagrams(): number {
    return this.ends.reduce((sum, { encrypted }) => sum + encrypted, 0);
  }

  /** Snapshots that a replica has taken. */
  snapshotsOf(replica: number): number {
    return this.replicas[replica]!.counters[Counter.snapshots_taken]!;
  }

  private registerClients(count: number, lanes: number): void {
    const { replicas, limits } = this.options;
    const states = new Int32Array(count).fill(-1);
    const { counts } = this;
    this.clients = Array.from({ length: count }, (_, index) => {
      const events = {
        registered: (status: number): void => void (states[index] = status),
        completed: (_lane: number, outcome: number, _status: number, fast: boolean): void => {
          if (outcome === Outcome.committed) counts[0]! += 1;
          if (fast) counts[1]! += 1;
        },
      };
      const sessionLo = this.nextSession++;
      // Operations and results are short here; the space that a client reserves for long ones would only fill the
      // memory.
      const clientLimits = { ...DEFAULT_LIMITS, ...limits };
      return new ClientCore(
        {
          replicas,
          lanes,
          seed: sessionLo,
          sessionHi: 1,
          sessionLo,
          nonceHi: 0,
          nonceLo: sessionLo,
          limits: clientLimits,
          timings: DEFAULT_CLIENT_TIMINGS,
        },
        this.outboxOf(replicas + index),
        events,
      );
    });
    for (const client of this.clients) client.register(this.now);
    for (let turn = 0; states.includes(-1); turn++) {
      if (turn === REGISTRATION_TURNS_MAX)
        throw new CliError('worker-failed', 'the client cores could not register their sessions; run npm test');
      this.setTime(this.now.monotonicUs + 100);
      for (let id = 0; id < replicas; id++) this.runReplica(id);
      this.runClients();
    }
    const refused = states.find((status) => status !== ReplyStatus.ok);
    if (refused !== undefined)
      throw new CliError('worker-failed', `registration ended with status ${refused}; run npm test`);
  }

  private outboxOf(endpoint: number): Outbox {
    const { replicas, encrypted } = this.options;
    if (encrypted !== true) return new MemoryOutbox(this.queues, endpoint);
    const end = new DatagramEnd(
      this.queues,
      endpoint,
      replicas,
      this.hash,
      this.now,
      endpoint < replicas
        ? (bytes, offset, length, from, owner) =>
            this.replicas[endpoint]!.receive(bytes, offset, length, from, this.now, owner)
        : (bytes, offset, length, from) =>
            this.clients[endpoint - replicas]!.receive(bytes, offset, length, from, this.now),
    );
    this.ends[endpoint] = end;
    return end.outbox;
  }

  /** Submits on every lane. */
  private submitAll(): void {
    const { clients } = this;
    const lanes = this.options.lanes / clients.length;
    for (let lane = 0; lane < lanes; lane++) {
      for (let i = 0; i < clients.length; i++) {
        this.setTime(this.now.monotonicUs + US_BETWEEN_OPERATIONS);
        const bytes = this.options.operation();
        clients[i]!.submit(lane, bytes, 0, bytes.length, Infinity, this.now);
      }
    }
    for (let i = 0; i < clients.length; i++) this.ends[this.options.replicas + i]?.outbox.flush();
  }

  private runReplica(id: number): void {
    const core = this.replicas[id]!;
    const end = this.ends[id];
    if (end !== undefined) {
      this.runReplicaEnd(core, end);
      return;
    }
    const queue = this.queues[id]!;
    for (let i = 0; i < queue.count; i++) {
      const offset = queue.offsets[i]!;
      const length = queue.lengths[i]!;
      if (validate(queue.bytes, offset, offset + length) !== length)
        throw new CliError('worker-failed', 'a core wrote a message that is not one; run npm test');
      core.receive(queue.bytes, offset, length, queue.senders[i]!, this.now);
      if (i % MESSAGES_A_TURN === MESSAGES_A_TURN - 1) core.flush(this.now);
    }
    queue.clear();
    if (core.wakeAtUs <= this.now.monotonicUs) core.tick(this.now);
    core.flush(this.now);
  }

  private runReplicaEnd(core: ReplicaCore, end: DatagramEnd): void {
    let messages = 0;
    for (let i = 0; i < end.waiting; i++) {
      messages += end.read(i);
      if (messages < MESSAGES_A_TURN) continue;
      messages = 0;
      core.flush(this.now);
      end.outbox.flush();
    }
    end.clear();
    if (core.wakeAtUs <= this.now.monotonicUs) core.tick(this.now);
    core.flush(this.now);
    end.outbox.flush();
  }

  private runClients(): void {
    for (let index = 0; index < this.clients.length; index++)
      this.runClient(this.clients[index]!, this.options.replicas + index);
  }

  private runClient(client: ClientCore, endpoint: number): void {
    const end = this.ends[endpoint];
    if (end !== undefined) {
      for (let i = 0; i < end.waiting; i++) end.read(i);
      end.clear();
      if (client.wakeAtUs <= this.now.monotonicUs) client.tick(this.now);
      end.outbox.flush();
      return;
    }
    const queue = this.queues[endpoint]!;
    for (let i = 0; i < queue.count; i++) {
      const offset = queue.offsets[i]!;
      const length = queue.lengths[i]!;
      if (validate(queue.bytes, offset, offset + length) !== length)
        throw new CliError('worker-failed', 'a core wrote a message that is not one; run npm test');
      client.receive(queue.bytes, offset, length, queue.senders[i]!, this.now);
    }
    queue.clear();
    if (client.wakeAtUs <= this.now.monotonicUs) client.tick(this.now);
  }

  private setTime(monotonicUs: number): void {
    this.now.monotonicUs = monotonicUs;
    const wallNs = 1.7e18 + monotonicUs * 1000;
    this.now.wallHi = Math.floor(wallNs / 2 ** 32) | 0;
    this.now.wallLo = (wallNs % 2 ** 32) | 0;
  }
}
