/**
 * A cluster in one thread whose network delivers by hand: nothing arrives unless a test says so, and time stands still
 * until a test lets it pass. Replica cores, client cores and hand-written messages share the network, so that a test
 * reads like the story it tells.
 *
 * Messages are written here field by field from their table and read by msgpackr, not by the code under test.
 */
import { ForgottenError } from '../../src/protocol/replica/introduction.js';
import { Unpackr } from 'msgpackr';
import { CounterMachine } from '../../src/machine/counter.js';
import type { StateMachine } from '../../src/machine/state-machine.js';
import { loadHash } from '../../src/native/hash64.js';
import { ClientCore } from '../../src/protocol/client/client-core.js';
import {
  DEFAULT_CLIENT_TIMINGS,
  DEFAULT_LIMITS,
  DEFAULT_TIMINGS,
  type ClientConfig,
  type ClientTimings,
  type LateRule,
  type Limits,
  type Pieces,
  type Timings,
} from '../../src/protocol/config.js';
import {
  Instant,
  type Chain,
  type FirstStart,
  type HardState,
  type Identity,
  type Outbox,
  type PersistBatch,
  type Recovered,
  type Snapshot,
  type Storage,
} from '../../src/protocol/contract.js';
import { Counter, type CounterName } from '../../src/protocol/counters.js';
import { ReplicaCore } from '../../src/protocol/replica/replica-core.js';
import { REGISTER_LANE } from '../../src/protocol/log/sessions.js';
import * as wire from '../../src/wire/messages.js';
import type { Message } from '../../src/wire/layout.js';
import { readIndex, toBigInt } from '../../src/wire/u64.js';
import { WIRE_VERSION } from '../../src/wire/versions.js';

export type Value = number | bigint | Uint8Array;
export type Values = Record<string, Value>;

export const hasher = loadHash();

/** Reads messages: the oracle of the wire. */
export const unpackr = new Unpackr({ int64AsType: 'bigint', useRecords: false });

/** The bytes of a message; fields not named are zero. */
export function encode(message: Message, values: Values): Uint8Array {
  const bin = message.hasBytes ? (Object.keys(message.fields).at(-1) as string) : undefined;
  const tail = bin === undefined ? new Uint8Array(0) : ((values[bin] ?? new Uint8Array(0)) as Uint8Array);
  const bytes = Buffer.alloc(message.size + tail.length);
  bytes.set(message.template);
  for (const name of Object.keys(values))
    if (!(name in message.fields)) throw new Error(`${message.name} has no field ${name}`);
  for (const [name, kind] of Object.entries(message.fields)) {
    const at = message.at[name]!;
    const value = values[name] ?? 0;
    if (kind === 'bin16') bytes.writeUInt16BE(tail.length, at);
    else if (kind === 'u64') bytes.writeBigUInt64BE(BigInt(value as bigint), at);
    else if (kind === 'u8') bytes.writeUInt8(Number(value), at);
    else if (kind === 'u16') bytes.writeUInt16BE(Number(value), at);
    else if (kind === 'u32') bytes.writeUInt32BE(Number(value) >>> 0, at);
    else bytes.writeInt32BE(Number(value), at);
  }
  bytes.set(tail, message.size);
  return new Uint8Array(bytes);
}

/** The fields of a message, by msgpackr; u64 fields as bigint whatever their size. */
export function decode(bytes: Uint8Array): { readonly message: Message; readonly values: Values } {
  const [type, ...fields] = unpackr.unpack(bytes) as Value[];
  const message = wire.layoutOf(type as number)!;
  const values: Values = {};
  Object.entries(message.fields).forEach(([name, kind], i) => {
    const value = fields[i]!;
    values[name] =
      kind === 'u64' ? BigInt(value as bigint) : kind === 'bin16' ? new Uint8Array(value as Uint8Array) : value;
  });
  return { message, values };
}

export interface Packet {
  readonly from: number;
  readonly to: number;
  readonly message: Message;
  readonly values: Values;
  readonly bytes: Uint8Array;
}

/** Which packets: all of the named conditions hold. */
export interface Which {
  readonly from?: number;
  readonly to?: number;
  readonly message?: Message<any>;
  readonly where?: (packet: Packet) => boolean;
}

function fits(packet: Packet, which: Which): boolean {
  return (
    (which.from === undefined || packet.from === which.from) &&
    (which.to === undefined || packet.to === which.to) &&
    (which.message === undefined || packet.message.type === which.message.type) &&
    (which.where === undefined || which.where(packet))
  );
}

export class HandOutbox implements Outbox {
  bytes = new Uint8Array(60_000);
  private to = -1;
  constructor(
    private readonly emit: (to: number, bytes: Uint8Array) => void,
    /** See Outbox. */
    readonly speaks: (replica: number) => number = () => WIRE_VERSION,
  ) {}
  reserve(to: number, length: number): number {
    if (length > this.bytes.length) return -1;
    this.to = to;
    return 0;
  }
  commit(length: number): void {
    this.emit(this.to, this.bytes.slice(0, length));
  }
}

/** A disk that is written at once or, if `held`, when the test says so. Keeps the log in the modes that do. */
export class Disk implements Storage {
  hardState: HardState | undefined;
  snapshot: Snapshot | undefined;
  entries = new Map<number, Uint8Array>();
  lastIndex = 0;
  committed = 0;
  held = false;
  stalled = false;
  writes = 0;
  private waiting: { token: number; apply: () => void }[] = [];
  persisted: (token: number) => void = () => undefined;

  constructor(readonly keepsLog: boolean) {}

  get membersIndex(): number {
    const { members } = this.hardState ?? {};
    return members === undefined ? 0 : readIndex(members, 0);
  }

  persist(token: number, batch: PersistBatch): void {
    const hardState = { ...batch.hardState };
    const { snapshot, entriesFrom, lastIndex, committed } = batch;
    const entries: Uint8Array[] = [];
    for (let i = entriesFrom; this.keepsLog && i <= lastIndex; i++) {
      const bytes = new Uint8Array(batch.entryBytes(i));
      batch.readEntry(i, bytes, 0);
      entries.push(bytes);
    }
    const apply = (): void => {
      this.writes++;
      this.hardState = hardState;
      if (this.keepsLog) {
        if (snapshot !== undefined) this.snapshot = snapshot;
        entries.forEach((bytes, i) => this.entries.set(entriesFrom + i, bytes));
        this.lastIndex = lastIndex;
        this.committed = committed;
      }
    };
    if (this.held) {
      this.waiting.push({ token, apply });
      return;
    }
    apply();
    this.persisted(token);
  }

  /** Everything that waits becomes durable. */
  release(): void {
    this.held = false;
    for (const { token, apply } of this.waiting.splice(0)) {
      apply();
      this.persisted(token);
    }
  }

  /** The write that has waited longest becomes durable. */
  releaseFirst(): void {
    const { token, apply } = this.waiting.shift()!;
    apply();
    this.persisted(token);
  }

  /** The directory is lost, and replaced by an empty one. */
  wipe(): void {
    this.forget();
    this.hardState = undefined;
    this.snapshot = undefined;
    this.entries.clear();
    this.lastIndex = 0;
  }

  /** A crash before the write: pending batches are gone. */
  forget(): void {
    this.waiting = [];
    this.held = false;
  }

  recover(logLost: boolean): Recovered {
    if (logLost || !this.keepsLog) return { hardState: this.hardState, log: undefined };
    const entries: Uint8Array[] = [];
    for (let i = (this.snapshot?.index ?? 0) + 1; i <= this.lastIndex; i++) entries.push(this.entries.get(i)!);
    return { hardState: this.hardState, log: { snapshot: this.snapshot, entries, committed: this.committed } };
  }
}

export class TestReplica {
  core!: ReplicaCore;
  machine!: StateMachine;
  readonly transitions: string[] = [];
  /** Endpoints that it had asked about the members; −1: all in turn. */
  readonly asked: number[] = [];
  up = false;
  /** What it heard others speak; see Outbox. */
  speaks: (replica: number) => number = () => WIRE_VERSION;
  /** Its id among the members, if it joined them, and what it was told of them then. */
  joined: { readonly hostId: number; readonly members: Uint8Array } | undefined;
  /** Of its data directory, if it has one. */
  identity: Identity | undefined;
  private lives = 0;
  /** When its machine began to give its whole state at once, false, and when that was over, true. */
  readonly wholeStates: boolean[] = [];
  /** It stopped because others remember more of it than it does. */
  forgotten: ForgottenError | undefined;

  constructor(
    private readonly cluster: Cluster,
    readonly id: number,
    readonly disk: Disk,
    private readonly limits: Limits,
    private readonly timings: Timings,
    private readonly late: LateRule,
    private readonly createMachine: (id: number) => StateMachine,
    private readonly datagramBytes: number | undefined,
    /** A different chain counts from the next start on. */
    public chained: Chain | undefined,
    private readonly features: number,
    private readonly pieces: Pieces | undefined,
  ) {}

  get state(): ReplicaCore['state'] {
    return this.core.state;
  }

  start(logLost = false, first?: FirstStart): void {
    const outbox = new HandOutbox(
      (to, bytes) => this.cluster.post(this.id, to, bytes),
      (replica) => this.speaks(replica),
    );
    this.machine = this.createMachine(this.id);
    this.core = new ReplicaCore(
      {
        id: this.id,
        ...(this.joined === undefined ? {} : { hostId: this.joined.hostId }),
        replicas: this.cluster.n,
        seed: this.id + 1 + 100 * this.lives++,
        late: this.late,
        ...(this.datagramBytes === undefined ? {} : { datagramBytes: this.datagramBytes }),
        limits: this.limits,
        timings: this.timings,
        features: this.features,
        ...(this.pieces === undefined ? {} : { pieces: this.pieces }),
      },
      outbox,
      this.disk,
      this.machine,
      hasher,
      {
        transition: (event, detail) => this.transitions.push(`${event}: ${detail}`),
        unknownEpoch: (from) => this.asked.push(from),
        searchMembers: () => this.asked.push(-1),
        wholeState: (isOver) => this.wholeStates.push(isOver),
      },
      this.chained,
    );
    this.disk.persisted = (token) => this.core.persisted(token);
    this.up = true;
    this.forgotten = undefined;
    this.unlessForgotten(() =>
      this.core.start(
        {
          ...this.disk.recover(logLost),
          ...(first === undefined ? {} : { first }),
          ...(this.identity === undefined ? {} : { identity: this.identity }),
          ...(this.joined === undefined ? {} : { members: this.joined.members }),
        },
        this.cluster.now,
      ),
    );
  }

  /** A replica that was forgotten stops, as its process does. */
  unlessForgotten(turn: () => void): void {
    try {
      turn();
    } catch (error) {
      if (!(error instanceof ForgottenError)) throw error;
      this.forgotten = error;
      this.crash();
    }
  }

  crash(): void {
    this.up = false;
    this.disk.forget();
  }

  /** One turn with one message; returns what left in it. */
  receive(message: Message<any>, values: Values, from: number): Packet[] {
    const before = this.cluster.posted;
    const bytes = encode(message, values);
    this.core.receive(bytes, 0, bytes.length, from, this.cluster.now);
    this.core.flush(this.cluster.now);
    return this.cluster.history.slice(before).filter((packet) => packet.from === this.id);
  }

  /** The one message that the turn answered with; throws when there was another number. */
  answer(message: Message<any>, values: Values, from: number): Packet {
    const sent = this.receive(message, values, from).filter((packet) => packet.to === from);
    if (sent.length !== 1)
      throw new Error(`expected one answer, got ${sent.map((packet) => packet.message.name).join(', ') || 'none'}`);
    return sent[0]!;
  }

  tick(): void {
    if (!this.up) return;
    this.unlessForgotten(() => {
      this.core.tick(this.cluster.now);
      this.core.flush(this.cluster.now);
    });
  }

  counter(name: CounterName): number {
    return this.core.counters[Counter[name]]!;
  }

  /** The operations of the log's sessions, as text, oldest first; `R` for a registration. */
  get operations(): string[] {
    const { log } = this.state;
    const found: string[] = [];
    for (let i = log.baseIndex + 1; i <= log.lastIndex; i++) {
      found.push(
        log.lane(i) === REGISTER_LANE
          ? 'R'
          : Buffer.from(
              log.bytes.subarray(log.operationOffset(i), log.operationOffset(i) + log.operationLength(i)),
            ).toString(),
      );
    }
    return found;
  }

  chain(index: number): bigint {
    const { log } = this.state;
    return toBigInt(log.chainHi(index), log.chainLo(index));
  }

  get last(): number {
    return this.state.log.lastIndex;
  }
}

/** A client that a test writes by hand. Its endpoint is above the replicas. */
export class HandClient {
  constructor(
    readonly endpoint: number,
    readonly session: bigint,
  ) {}

  registration(
    timestamp: number,
    options: { view?: number; lanes?: number; nonce?: bigint; born?: number; request?: number } = {},
  ): Values {
    const operation = Buffer.alloc(18);
    operation.writeBigUInt64BE(options.nonce ?? this.session, 0);
    operation.writeUInt16BE(options.lanes ?? 4, 8);
    operation.writeBigUInt64BE(BigInt(options.born ?? timestamp), 10);
    return {
      view: options.view ?? 0,
      session: this.session,
      lane: REGISTER_LANE,
      request: options.request ?? 1,
      flags: 1,
      timestamp: BigInt(timestamp),
      operation: new Uint8Array(operation),
    };
  }

  request(
    timestamp: number,
    request: number,
    operation: string,
    options: { view?: number; lane?: number } = {},
  ): Values {
    return {
      view: options.view ?? 0,
      session: this.session,
      lane: options.lane ?? 0,
      request,
      flags: 0,
      timestamp: BigInt(timestamp),
      operation: new Uint8Array(Buffer.from(operation)),
    };
  }
}

export interface Completion {
  readonly lane: number;
  readonly outcome: number;
  readonly status: number;
  readonly fast: boolean;
  readonly result: string;
}

/** A client core on the network. */
export class TestClient {
  readonly core: ClientCore;
  readonly completions: Completion[] = [];
  readonly registrations: number[] = [];
  /** How often it had the members searched for. */
  searches = 0;
  /** Who spoke of an epoch that it does not know. */
  readonly asked: number[] = [];

  constructor(
    private readonly cluster: Cluster,
    readonly endpoint: number,
    config: ClientConfig,
    follows: boolean,
  ) {
    const outbox = new HandOutbox((to, bytes) => cluster.post(endpoint, to, bytes));
    this.core = new ClientCore(config, outbox, {
      registered: (status) => this.registrations.push(status),
      searchMembers: () => this.searches++,
      ...(follows ? { unknownEpoch: (from: number) => void this.asked.push(from) } : {}),
      completed: (lane, outcome, status, fast) =>
        this.completions.push({
          lane,
          outcome,
          status,
          fast,
          result: Buffer.from(this.core.resultBytes(lane).subarray(0, this.core.resultLength(lane))).toString(),
        }),
    });
  }

  register(): void {
    this.core.register(this.cluster.now);
  }

  submit(operation: string, lane = 0, timeoutUs = Infinity): void {
    const bytes = new Uint8Array(Buffer.from(operation));
    this.core.submit(lane, bytes, 0, bytes.length, timeoutUs, this.cluster.now);
  }

  read(operation: string, lane = 0, timeoutUs = Infinity): void {
    const bytes = new Uint8Array(Buffer.from(operation));
    this.core.read(lane, bytes, 0, bytes.length, timeoutUs, this.cluster.now);
  }

  receive(message: Message<any>, values: Values, from: number): Packet[] {
    const before = this.cluster.posted;
    const bytes = encode(message, values);
    this.core.receive(bytes, 0, bytes.length, from, this.cluster.now);
    return this.cluster.history.slice(before).filter((packet) => packet.from === this.endpoint);
  }

  /** The messages that the client sent since the last call. */
  sent(message?: Message<any>): Packet[] {
    const found = this.cluster.inFlight.filter(
      (packet) => packet.from === this.endpoint && (message === undefined || packet.message.type === message.type),
    );
    this.cluster.lose({ from: this.endpoint });
    return found;
  }
}

export interface ClusterOptions {
  /** `ask`: no replica is started; the test starts each one and says what it knows about its first start. */
  readonly first?: FirstStart;
  readonly limits?: Partial<Limits>;
  /** The published rules by default: members that differ fetch, nothing is pushed, late requests are rejected. */
  readonly timings?: Partial<Timings>;
  readonly late?: LateRule;
  readonly keepsLog?: boolean;
  readonly datagramBytes?: number;
  /** How snapshots are taken that are longer than a piece. */
  readonly pieces?: Pieces;
  readonly machine?: (id: number) => StateMachine;
  /** How one replica's limits differ from the others'. */
  readonly limitsOf?: (id: number) => Partial<Limits>;
  /** What chains the log of each replica. Default: the chain without keys. */
  readonly chain?: (id: number) => Chain;
  /** Features that are on from the first entry, a mask. Default: none. */
  readonly features?: number;
  /** False: no replica is started; for tests of clients alone. */
  readonly replicas?: boolean;
}

/** Small tables, so that a test constructs in microseconds. */
export const TEST_LIMITS: Limits = {
  ...DEFAULT_LIMITS,
  logEntries: 1024,
  logBytes: 1 << 18,
  maxSessions: 64,
  maxLanes: 1024,
  lanesPerSession: 64,
  operationBytes: 2048,
  resultBytes: 2048,
  waiting: 64,
  chunkBytes: 4096,
  held: 64,
  cachedRequests: 64,
  cachedBytes: 1 << 14,
};

/** Records what it applied, as text: `query` and every `apply` answer with the whole history. */
export class JournalMachine implements StateMachine {
  journal: string[] = [];
  apply(
    operation: { bytes: Uint8Array; offset: number; length: number },
    _context: unknown,
    reply: { bytes: Uint8Array; offset: number; length: number },
  ): void {
    this.journal.push(
      Buffer.from(operation.bytes.subarray(operation.offset, operation.offset + operation.length)).toString(),
    );
    this.answer(reply);
  }
  query(_operation: unknown, _context: unknown, reply: { bytes: Uint8Array; offset: number; length: number }): void {
    this.answer(reply);
  }
  snapshot(): Uint8Array {
    return new Uint8Array(Buffer.from(JSON.stringify(this.journal)));
  }
  restore(snapshot: Uint8Array): void {
    this.journal = JSON.parse(Buffer.from(snapshot).toString()) as string[];
  }
  private answer(reply: { bytes: Uint8Array; offset: number; length: number }): void {
    const text = Buffer.from(this.journal.slice(-20).join(','));
    reply.bytes.set(text, reply.offset);
    reply.length = text.length;
  }
}

export const counterMachine = (): StateMachine => new CounterMachine();

export class Cluster {
  readonly now = new Instant();
  readonly replicas: TestReplica[] = [];
  readonly clients: TestClient[] = [];
  inFlight: Packet[] = [];
  /** Everything ever sent. */
  readonly history: Packet[] = [];
  /** Packets that the network loses as they are sent, until the test heals it. */
  loses: (packet: Packet) => boolean = () => false;
  /** Makes the replica of a slot. */
  protected create: (id: number) => TestReplica = () => {
    throw new Error('a cluster without replicas');
  };
  private wall = 1_000_000_000n;
  private nextEndpoint: number;

  constructor(
    readonly n: number,
    options: ClusterOptions = {},
  ) {
    this.nextEndpoint = n + 100;
    this.setWall(this.wall);
    this.now.monotonicUs = 1000.5;
    if (options.replicas === false) return;
    const limits = { ...TEST_LIMITS, ...options.limits };
    const timings = { ...DEFAULT_TIMINGS, orderHoldUs: 0, lateRepairUs: 0, slowAfterUs: 0, ...options.timings };
    this.create = (id) =>
      new TestReplica(
        this,
        id,
        new Disk(options.keepsLog ?? false),
        { ...limits, ...options.limitsOf?.(id) },
        timings,
        options.late ?? 'reject',
        options.machine ?? (() => new JournalMachine()),
        options.datagramBytes,
        options.chain?.(id),
        options.features ?? 0,
        options.pieces,
      );
    for (let id = 0; id < n; id++) this.replicas.push(this.create(id));
    for (const replica of this.replicas) if (options.first === undefined) replica.start();
  }

  get posted(): number {
    return this.history.length;
  }

  replica(id: number): TestReplica {
    return this.replicas[id]!;
  }

  /** A hand-written client with its own session. */
  hand(session = BigInt(this.nextEndpoint)): HandClient {
    return new HandClient(this.nextEndpoint++, session);
  }

  /** @param follows its host asks who the members are, where members can change */
  client(
    lanes = 2,
    timings: Partial<ClientTimings> = {},
    more: Partial<ClientConfig> = {},
    follows = false,
  ): TestClient {
    const endpoint = this.nextEndpoint++;
    const config = {
      replicas: this.n,
      lanes,
      seed: endpoint,
      sessionHi: 0,
      sessionLo: endpoint,
      nonceHi: 0,
      nonceLo: endpoint,
      limits: { operationBytes: 2048, resultBytes: 2048 },
      timings: { ...DEFAULT_CLIENT_TIMINGS, ...timings },
      ...more,
    };
    const client = new TestClient(this, endpoint, config, follows);
    this.clients.push(client);
    return client;
  }

  /** Sets the synchronized clocks, ns. */
  setWall(wall: bigint): void {
    this.wall = wall;
    this.now.wallHi = Number(BigInt.asIntN(32, wall >> 32n));
    this.now.wallLo = Number(BigInt.asIntN(32, wall));
  }

  get wallNs(): bigint {
    return this.wall;
  }

  post(from: number, to: number, bytes: Uint8Array): void {
    if (wire.validate(bytes, 0, bytes.length) !== bytes.length) throw new Error(`${from} sent a malformed message`);
    const packet: Packet = { from, to, bytes, ...decode(bytes) };
    this.history.push(packet);
    if (!this.loses(packet)) this.inFlight.push(packet);
  }

  /** Delivers matching packets that are in flight now, in sending order; returns how many. */
  deliver(which: Which = {}): number {
    const due = this.take(which);
    for (const packet of due) this.arrive(packet);
    return due.length;
  }

  /** Delivers until nothing is in flight. Time stands still. */
  settle(which: Which = {}): void {
    for (let rounds = 0; this.deliver(which) > 0; rounds++)
      if (rounds > 1000) throw new Error('the cluster does not come to rest');
  }

  /** Takes packets off the network; pass them to `arrive` later, or not. */
  take(which: Which = {}): Packet[] {
    const found = this.inFlight.filter((packet) => fits(packet, which));
    this.inFlight = this.inFlight.filter((packet) => !fits(packet, which));
    return found;
  }

  lose(which: Which = {}): number {
    return this.take(which).length;
  }

  arrive(packet: Packet): void {
    const replica = this.replicas[packet.to];
    if (replica !== undefined) {
      if (!replica.up) return;
      replica.unlessForgotten(() => {
        replica.core.receive(packet.bytes, 0, packet.bytes.length, packet.from, this.now);
        replica.core.flush(this.now);
      });
      return;
    }
    this.clients
      .find((client) => client.endpoint === packet.to)
      ?.core.receive(packet.bytes, 0, packet.bytes.length, packet.from, this.now);
  }

  /** Time passes, in ticks of a millisecond; nothing is delivered. */
  pass(us: number): void {
    for (let left = us; left > 0; left -= 1000) {
      const step = Math.min(left, 1000);
      this.now.monotonicUs += step;
      this.setWall(this.wall + BigInt(Math.round(step * 1000)));
      for (const replica of this.replicas) replica.tick();
      for (const client of this.clients) client.core.tick(this.now);
    }
  }

  /** Time passes and the network delivers everything. */
  run(us: number): void {
    for (let left = us; left > 0; left -= 1000) {
      this.pass(Math.min(left, 1000));
      this.settle();
    }
  }

  /** Nothing goes to or comes from these until `heal`. */
  isolate(...replicas: number[]): void {
    this.loses = (packet) => replicas.includes(packet.from) || replicas.includes(packet.to);
  }

  heal(): void {
    this.loses = () => false;
  }

  /** Passes a client's hand-written message to some replicas; answers stay in flight. */
  give(client: HandClient, message: Message<any>, values: Values, ...to: number[]): void {
    for (const id of to) this.replica(id).receive(message, values, client.endpoint);
  }
}
