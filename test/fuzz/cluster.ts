/**
 * The fuzzers' target: three real replica cores and a client core, each behind the receive path and the outbox of its
 * host (envelope with keys, versions of peers, proofs of addresses, datagram reader, status questions), and a network
 * that delivers at once, in one thread. The newest datagrams are kept as the corpus.
 *
 * Clusters differ: encryption is required in some, in others one process is held back to the previous version of the
 * wire, and features are on from the beginning or not.
 */
import { KvMachine, watchableOf } from '../../src/machine/kv.js';
import { encodeGet, encodePut } from '../../src/machine/kv-codec.js';
import { loadHash } from '../../src/native/hash64.js';
import { loadSipHash } from '../../src/native/siphash.js';
import { ClientCore } from '../../src/protocol/client/client-core.js';
import { DEFAULT_CLIENT_TIMINGS, DEFAULT_LIMITS, DEFAULT_TIMINGS, type Limits } from '../../src/protocol/config.js';
import {
  chainOf,
  Instant,
  type FirstStart,
  type Outbox,
  type PersistBatch,
  type Storage,
} from '../../src/protocol/contract.js';
import { KNOWN_FEATURES } from '../../src/protocol/log/features.js';
import { ReplicaCore } from '../../src/protocol/replica/replica-core.js';
import { ownedSessionLo } from '../../src/protocol/log/session-owner.js';
import { Keyring } from '../../src/host/keyring.js';
import type { KeyFile } from '../../src/host/key-file.js';
import type { Random } from '../../src/sim/random.js';
import { askerOf } from '../../src/server/members-rates.js';
import { MembersService } from '../../src/server/members-service.js';
import { HURRY_US, WatchService } from '../../src/server/watches/watch-service.js';
import { hasProven } from '../../src/server/status-rates.js';
import { StatusService } from '../../src/server/status-service.js';
import { TimesService } from '../../src/server/times-service.js';
import { ArrayPool } from '../../src/transport/array-pool.js';
import { DatagramOutbox } from '../../src/transport/datagram-outbox.js';
import { DatagramReader, type MessageHandler } from '../../src/transport/datagram-reader.js';
import type { Transport } from '../../src/transport/transport.js';
import { writeProof } from '../../src/wire/address-proofs.js';
import {
  CLIENT_SENDER,
  DEFAULT_DATAGRAM_BYTES,
  Envelope,
  MAX_DATAGRAM_BYTES,
  NO_KEY,
  SEALED_ENVELOPE_BYTES,
} from '../../src/wire/envelope.js';
import {
  AskMembers,
  AskTimes,
  Challenge,
  Proof,
  ReplicaStatus,
  ReplyStatus,
  Status,
  typeOf,
  Watch,
} from '../../src/wire/messages.js';
import type { MemberList } from '../../src/wire/member-list.js';
import { Peers } from '../../src/wire/peers.js';
import { PREVIOUS_WIRE_VERSION, WIRE_VERSION } from '../../src/wire/versions.js';
import { REPORT } from './report.js';

export const REPLICAS = 3;
export const LANES = 4;
const ENDPOINTS = 16;
/** The honest client's endpoint, and the fuzzer's. */
export const CLIENT = REPLICAS;
const FUZZER = REPLICAS + 1;
export const CLUSTER_HI = 0x0badcafe;
export const CLUSTER_LO = 0x600df00d;
const CORPUS = 1_024;
const STEP_US = 40;
/** Most deliveries in one `settle`; a storm of answers to answers would exceed it. */
const DELIVERIES_MAX = 10_000;
/** Further than a stream's newest datagram may be ahead of one that is still read (wire/streams.ts). */
const AGE_DATAGRAMS = 70_000;

/** Small, so that every table and arena is full most of the time. */
const LIMITS: Limits = {
  ...DEFAULT_LIMITS,
  logEntries: 256,
  logBytes: 32_768,
  maxSessions: 8,
  maxLanes: 64,
  lanesPerSession: 8,
  operationBytes: 600,
  resultBytes: 1_000,
  keptResultBytes: 8_192,
  waiting: 16,
  chunkBytes: 1_000,
  held: 16,
  cachedRequests: 32,
  cachedBytes: 4_096,
};

/** As in every cluster with keys. */
export const chain = chainOf(loadSipHash(new Uint8Array(16).fill(7)), 7);

const key = (id: number, role: 'replica' | 'client' | 'read-only'): KeyFile['keys'][number] => ({
  id,
  role,
  secret: id.toString(16).padStart(64, 'a'),
});
export const KEYS = [key(1, 'replica'), key(2, 'client'), key(3, 'read-only')] as const;
export const keyFile = (use: number, keys: readonly KeyFile['keys'][number][] = KEYS): KeyFile => ({
  schema: 'jitpaxos.keys/1',
  cluster: '0badcafe600df00d',
  use,
  keys: [...keys],
});

export const hash = loadHash();

export function envelopeOf(sender: number, ring: Keyring | undefined, newest = WIRE_VERSION): Envelope {
  return new Envelope(hash, CLUSTER_HI, CLUSTER_LO, sender, REPLICAS, ring, newest);
}

/** Longer than one answer, so that pieces are asked for. */
const MEMBERS: MemberList = {
  started: 3,
  decided: 4,
  index: 5,
  nextId: 31,
  hosts: Array.from({ length: 31 }, (_, id) => ({
    id,
    slot: id,
    address: `${'n'.repeat(60)}-${id}.example:7400`,
    identity: undefined,
    votes: id < 3,
    willVote: id < 5,
  })),
};

/** The versions that the processes of one cluster speak. */
interface Versions {
  readonly oldest: number;
  /** By replica; the last one is the client's. */
  readonly newest: readonly number[];
}

function drawVersions(random: Random): Versions {
  const newest = new Array<number>(REPLICAS + 1).fill(WIRE_VERSION);
  const draw = random.below(4);
  if (draw === 0) newest[random.below(newest.length)] = PREVIOUS_WIRE_VERSION;
  return { oldest: draw === 1 ? WIRE_VERSION : PREVIOUS_WIRE_VERSION, newest };
}

/** An envelope that keeps the messages of the datagram that it sealed last. */
class RecordingEnvelope extends Envelope {
  readonly messages = new Uint8Array(MAX_DATAGRAM_BYTES);
  messageBytes = 0;
  version = WIRE_VERSION;

  override seal(bytes: Uint8Array, offset: number, length: number, slot: number = NO_KEY, version = this.newest) {
    const head = this.bytesIn(version);
    this.messageBytes = length - head;
    this.version = version;
    for (let i = 0; i < this.messageBytes; i++) this.messages[i] = bytes[offset + head + i]!;
    return super.seal(bytes, offset, length, slot, version);
  }
}

/** Durable at once, and forgotten with the cluster. */
class NoDisk implements Storage {
  readonly keepsLog = false;
  readonly stalled = false;
  core: ReplicaCore | undefined;
  persist(token: number, _batch: PersistBatch): void {
    this.core?.persisted(token);
  }
}

/** What a process has below its core. */
interface Host {
  readonly envelope: RecordingEnvelope;
  readonly peers: Peers;
  readonly outbox: DatagramOutbox;
  readonly reader: DatagramReader;
  /** Messages that passed the receive path; calls that asked for the sender's endpoint. */
  heard: number;
  asked: number;
}

export interface Replica extends Host {
  readonly core: ReplicaCore;
  readonly status: StatusService;
  readonly members: MembersService;
  readonly times: TimesService;
  readonly watches: WatchService;
  /** Something was received in the turn that is open. */
  turnOpen: boolean;
}

/** An authentic datagram. */
export interface Recorded {
  readonly bytes: Uint8Array;
  /** What it held before it was encrypted, and in which version. */
  readonly messages: Uint8Array;
  readonly version: number;
  /** A replica; CLIENT, or a larger endpoint. */
  readonly to: number;
  /** Counts the recorded datagrams of a cluster. */
  readonly serial: number;
}

export class FuzzCluster {
  readonly replicas: Replica[] = [];
  client!: ClientCore;
  clientHost!: Host;
  /** Newest over oldest. */
  readonly corpus: Recorded[] = [];
  readonly now = new Instant();
  committed = 0;
  private registered = false;
  readonly ring: Keyring;
  readonly clientRing: Keyring;
  private readonly readerRing: Keyring;
  /**
   * The identities that the fuzzer uses: each replica, and, last, a client; a read-only client; replicas that use the
   * client's key. Those of the second list say that they speak the previous version only.
   */
  readonly speakers: readonly { readonly envelope: Envelope; readonly ring: Keyring }[];
  readonly oldSpeakers: readonly { readonly envelope: Envelope; readonly ring: Keyring }[];
  readonly reader: { readonly envelope: Envelope; readonly ring: Keyring };
  readonly liars: readonly Envelope[];
  /** The endpoint that the datagram being read came from. */
  private endpoint = REPLICAS;
  /** That datagram, and where it ends. */
  private reading: Uint8Array = new Uint8Array(0);
  private end = 0;
  private readonly queue: { readonly bytes: Uint8Array; readonly to: number }[] = [];
  private kept = 0;
  private readonly operation = new Uint8Array(1_024);
  private readonly versions: Versions;
  private readonly features: number;
  /** Datagrams recorded before the last `age`, if their receivers still know the streams. */
  private agedBefore = 0;
  private restarts = 0;

  constructor(private readonly random: Random) {
    this.ring = this.openRing(keyFile(1), true);
    this.clientRing = this.openRing(keyFile(2, [KEYS[1]]), false);
    this.readerRing = this.openRing(keyFile(3, [KEYS[2]]), false);
    this.versions = drawVersions(random);
    this.features = random.chance(0.5) ? KNOWN_FEATURES : 0;
    const ids = Array.from({ length: REPLICAS }, (_, id) => id);
    const speakers = (newest: number) => [
      ...ids.map((id) => ({ envelope: envelopeOf(id, this.ring, newest), ring: this.ring })),
      { envelope: envelopeOf(CLIENT_SENDER, this.clientRing, newest), ring: this.clientRing },
    ];
    this.speakers = speakers(WIRE_VERSION);
    this.oldSpeakers = speakers(PREVIOUS_WIRE_VERSION);
    this.reader = { envelope: envelopeOf(CLIENT_SENDER, this.readerRing), ring: this.readerRing };
    this.liars = ids.map((id) => envelopeOf(id, this.clientRing));
    this.now.wallHi = 0x17000000;
    for (const id of ids) this.replicas.push(this.createReplica(id, undefined));
    this.connectClient();
    // A hello from the client to each: its address has its key from the beginning.
    for (const id of ids) this.clientHost.outbox.hello(id);
    this.client.register(this.now);
    this.work(100);
  }

  close(): void {
    for (const ring of [this.ring, this.clientRing, this.readerRing]) ring.close();
  }

  /** Gives one replica a datagram as its transport would. Throws what the core throws. */
  receive(replica: number, bytes: Uint8Array, length: number, endpoint = FUZZER): number {
    this.endpoint = endpoint;
    this.reading = bytes;
    this.end = length;
    const host = this.replicas[replica]!;
    const messages = host.reader.read(bytes, 0, length);
    if (messages > 0) host.turnOpen = true;
    return messages;
  }

  /** The same for the client. */
  tell(bytes: Uint8Array, length: number): void {
    this.reading = bytes;
    this.end = length;
    this.clientHost.reader.read(bytes, 0, length);
  }

  /** Ends the open turn of a replica. */
  endTurn(replica: number): void {
    const host = this.replicas[replica]!;
    if (!host.turnOpen) return;
    host.turnOpen = false;
    host.core.flush(this.now);
    host.times.endTurn();
    host.watches.push(this.now);
    host.outbox.flush();
  }

  /** Delivers what is on its way, and what that brings. */
  settle(): void {
    const { queue } = this;
    for (let id = 0; id < REPLICAS; id++) this.endTurn(id);
    this.clientHost.outbox.flush();
    for (let next = 0; next < queue.length; next++) {
      if (next > DELIVERIES_MAX) throw new Error(`one datagram brought more than ${DELIVERIES_MAX} others`);
      const { bytes, to } = queue[next]!;
      if (to < REPLICAS) {
        this.receive(to, bytes, bytes.length, CLIENT);
        this.endTurn(to);
      } else {
        this.tell(bytes, bytes.length);
        this.clientHost.outbox.flush();
      }
    }
    queue.length = 0;
  }

  /** Lets the cluster do its ordinary work for this many steps of 40 µs. */
  work(steps: number): void {
    for (let step = 0; step < steps; step++) {
      this.now.monotonicUs += STEP_US;
      this.now.wallLo = (this.now.wallLo + STEP_US * 1_000) | 0;
      for (const replica of this.replicas) {
        if (replica.core.wakeAtUs > this.now.monotonicUs) continue;
        replica.core.tick(this.now);
        replica.watches.tick(this.now);
        replica.turnOpen = true;
      }
      this.client.tick(this.now);
      if (step % 4 === 0) this.submit();
      this.settle();
    }
  }

  /** A replica's process ends, and another one takes its place, without its memory. False if no other has a log. */
  restart(id: number): boolean {
    if (this.replicas.every(({ core }) => core.state.id === id || core.state.status === ReplicaStatus.recovering))
      return false;
    this.replicas[id] = this.createReplica(id, 'log-lost');
    this.restarts++;
    return true;
  }

  /**
   * Whether a datagram is so far behind its stream that its receiver refuses it. After a restart some receivers have
   * forgotten the streams of the earlier process.
   */
  isOld({ serial, version }: Recorded): boolean {
    return version === WIRE_VERSION && serial < this.agedBefore && this.restarts === 0;
  }

  /**
   * Makes everything that was recorded old: each stream is continued as if a great many datagrams had been lost, and
   * every process hears of it.
   */
  age(): void {
    const bytes = new Uint8Array(SEALED_ENVELOPE_BYTES);
    this.settle();
    this.agedBefore = this.kept;
    for (const { envelope } of [...this.replicas, this.clientHost])
      for (const stream of envelope['sending']!['streams']) if (stream !== undefined) stream.counter += AGE_DATAGRAMS;
    const clientKey = this.ring.find(KEYS[1].id);
    for (let id = 0; id < REPLICAS; id++) {
      const { envelope } = this.replicas[id]!;
      const own = this.clientHost.envelope;
      // Itself too: a replica answers what is played back to it.
      for (let to = 0; to < REPLICAS; to++)
        if (sealEmpty(envelope, bytes, this.ring.own)) this.receive(to, bytes, bytes.length);
      if (sealEmpty(envelope, bytes, clientKey)) this.tell(bytes, bytes.length);
      if (sealEmpty(own, bytes, this.clientRing.own)) this.receive(id, bytes, bytes.length, CLIENT);
    }
    this.settle();
  }

  /** Throws if two replicas hold different entries at an index that both consider committed. */
  checkAgreement(): void {
    for (const { core: a } of this.replicas) {
      for (const { core: b } of this.replicas) {
        const index = Math.min(a.state.committed, b.state.committed);
        if (index < a.state.log.baseIndex || index < b.state.log.baseIndex) continue;
        if (!b.state.log.matches(index, a.state.log.chainHi(index), a.state.log.chainLo(index)))
          throw new Error(`replicas ${a.state.id} and ${b.state.id} differ at index ${index}, which is committed`);
      }
    }
  }

  /** Throws if a replica would answer the honest client under another key than the client's own. */
  checkClientsKey(): void {
    for (const { core, peers } of this.replicas)
      if (peers.keyFor(CLIENT) !== this.ring.find(KEYS[1].id))
        throw new Error(`replica ${core.state.id} answers the client under another key than its own`);
  }

  /** A keyring whose salts are drawn from the seed. */
  private openRing(file: KeyFile, isReplica: boolean): Keyring {
    const ring = new Keyring(file, isReplica);
    ring.draw = (target) => {
      for (let i = 0; i < target.length; i++) target[i] = this.random.next();
    };
    return ring;
  }

  private submit(): void {
    if (!this.registered) return;
    const { random, operation } = this;
    for (let lane = 0; lane < LANES; lane++) {
      if (!this.client.isIdle(lane)) continue;
      const name = Uint8Array.of(random.below(64));
      const value = new Uint8Array(random.chance(0.1) ? random.below(560) : random.below(60));
      const length = random.chance(0.3) ? encodeGet(operation, 0, name) : encodePut(operation, 0, name, value);
      if (random.chance(0.2)) this.client.read(lane, operation, 0, length, Infinity, this.now);
      else this.client.submit(lane, operation, 0, length, this.now.monotonicUs + 50_000, this.now);
    }
  }

  /** Everything between a core and the network, as src/host/turn-loop.ts puts it together. */
  private host(self: number, ring: Keyring, handle: (host: Host) => MessageHandler): Host {
    const isClient = self === CLIENT_SENDER;
    const newest = this.versions.newest[isClient ? REPLICAS : self]!;
    const { oldest } = this.versions;
    const peers = new Peers({
      self,
      replicas: REPLICAS,
      endpoints: isClient ? 1 : ENDPOINTS,
      newest,
      oldest,
      now: this.now,
      keys: ring,
      numbers: loadSipHash(Uint8Array.from({ length: 16 }, () => this.random.below(256))),
    });
    const envelope = new RecordingEnvelope(hash, CLUSTER_HI, CLUSTER_LO, self, REPLICAS, ring, newest, oldest);
    const transport = this.transportOf(envelope, () => {
      host.asked++;
      return this.endpoint;
    });
    const outbox = new DatagramOutbox(transport, envelope, DEFAULT_DATAGRAM_BYTES, peers);
    const reader = new DatagramReader(
      envelope,
      transport,
      !isClient,
      (bytes, offset, length, from, owner) => {
        host.heard++;
        if (bytes === this.reading && offset + length > this.end)
          throw new Error('a message reaches beyond its datagram');
        if (typeOf(bytes, offset) === Proof.type) peers.prove(from, envelope.openedKey, bytes, offset);
        else if (typeOf(bytes, offset) !== Challenge.type) deliver(bytes, offset, length, from, owner);
        else if (isClient) answerChallenge(outbox, bytes, offset, from);
      },
      peers,
      ring,
      (endpoint) => outbox.hello(endpoint),
      (endpoint, slot, spoken) => outbox.challengeUnder(slot, endpoint, spoken),
    );
    const host: Host = { envelope, peers, outbox, reader, heard: 0, asked: 0 };
    const deliver = handle(host);
    return host;
  }

  /** Sends to the network of this cluster. */
  private transportOf(envelope: RecordingEnvelope, sender: () => number): Transport {
    const pool = new ArrayPool(DEFAULT_DATAGRAM_BYTES, 128, 4);
    const transport: Partial<Transport> = {
      acquire: (length) => pool.acquire(length),
      release: (bytes) => pool.release(bytes),
      send: (bytes, length, to) => {
        this.post(bytes.slice(0, length), envelope, to);
        pool.release(bytes);
      },
      flush: () => undefined,
      sender,
      counters: new Float64Array(64),
    };
    return transport as Transport;
  }

  private createReplica(id: number, first: FirstStart | undefined): Replica {
    const disk = new NoDisk();
    let questionBytes = 0;
    const host = this.host(id, this.ring, ({ peers }) => (bytes, offset, length, from, owner) => {
      const type = typeOf(bytes, offset);
      const proven = (): boolean => hasProven(peers, this.ring, from, owner);
      questionBytes = length;
      if (type === Status.type) replica.status.onStatus(bytes, offset, from, this.now, owner, proven());
      else if (type === AskMembers.type)
        replica.members.onAskMembers(bytes, offset, from, this.now, owner, askerOf(from, false, proven()));
      else if (type === AskTimes.type) replica.times.onAskTimes(bytes, offset, from, this.now, owner, proven());
      else if (type === Watch.type) replica.watches.onWatch(bytes, offset, from, this.now, owner);
      else replica.core.receive(bytes, offset, length, from, this.now, owner);
    });
    const machine = new KvMachine({ maxKeys: 256, maxBytes: 65_536, expectedKeys: 256 });
    const core = new ReplicaCore(
      {
        id,
        replicas: REPLICAS,
        seed: id + 1,
        limits: LIMITS,
        timings: DEFAULT_TIMINGS,
        features: this.features,
      },
      host.outbox,
      disk,
      machine,
      hash,
      { transition: () => undefined },
      chain,
    );
    disk.core = core;
    const { outbox } = host;
    const answers: Outbox = {
      get bytes() {
        return outbox.bytes;
      },
      reserve: (to, length) => outbox.reserve(to, length),
      commit: (length) => {
        if (length > questionBytes) throw new Error(`an answer of ${length} bytes to a question of ${questionBytes}`);
        outbox.commit(length);
      },
    };
    const status = new StatusService(() => ({ ...REPORT, id, view: core.state.view }), answers);
    const members = new MembersService(
      () => MEMBERS,
      () => core.state.view,
      answers,
      hash,
    );
    const times = new TimesService(
      {
        view: () => core.state.view,
        awaited: () => core.awaited,
        isDurable: (token) => core.isDurable(token),
        clock: {
          source: 'phc:/dev/ptp0',
          epoch: 'utc',
          quality: { errorNs: null },
          writeHalves: (out, index) => {
            out[index] = this.now.wallHi;
            out[index + 1] = this.now.wallLo;
          },
        },
      },
      outbox, // the length of its answers is compared with the questions' in test/client/time-questions.test.ts
      hash,
    );
    const watches = new WatchService(
      {
        store: () => watchableOf(machine),
        committed: () => core.state.committed,
        view: () => core.state.view,
        serves: () => core.state.status === ReplicaStatus.normal,
        isInTouch: (now) => core.isInTouch(now, 500_000),
        isPrimary: () => core.state.isPrimary,
        primary: () => core.state.primary,
        hurry: (now) => core.hurry(now, HURRY_US),
        isProven: (endpoint, owner) => hasProven(host.peers, this.ring, endpoint, owner),
        challenge: () => undefined,
      },
      outbox,
      DEFAULT_DATAGRAM_BYTES,
      () => 1 + this.random.below(1000),
    );
    const replica: Replica = Object.assign(host, { core, status, members, times, watches, turnOpen: false });
    core.start({ hardState: undefined, log: undefined, ...(first === undefined ? {} : { first }) }, this.now);
    host.envelope.incarnation = core.state.incarnation;
    return replica;
  }

  private connectClient(): void {
    this.clientHost = this.host(
      CLIENT_SENDER,
      this.clientRing,
      () => (bytes, offset, length, from) => this.client.receive(bytes, offset, length, from, this.now),
    );
    this.client = new ClientCore(
      {
        replicas: REPLICAS,
        lanes: LANES,
        seed: 9,
        sessionHi: this.random.next(),
        sessionLo: ownedSessionLo(this.random.next(), KEYS[1].id),
        nonceHi: KEYS[1].id,
        nonceLo: 4,
        limits: LIMITS,
        timings: DEFAULT_CLIENT_TIMINGS,
      },
      this.clientHost.outbox,
      {
        registered: (status) => void (this.registered = status === ReplyStatus.ok),
        completed: () => void this.committed++,
      },
    );
  }

  /** An answer to one of the fuzzer's endpoints is kept, but nobody waits for it. */
  private post(bytes: Uint8Array, { messages, messageBytes, version }: RecordingEnvelope, to: number): void {
    if (!(to >= 0)) throw new Error(`a datagram leaves for endpoint ${to}, which does not exist`);
    const serial = this.kept++;
    this.corpus[serial % CORPUS] = { bytes, messages: messages.slice(0, messageBytes), version, to, serial };
    if (to <= CLIENT) this.queue.push({ bytes: bytes.slice(), to });
  }
}

/** Makes an empty datagram of the current version, if the process speaks it. */
function sealEmpty(envelope: Envelope, bytes: Uint8Array, slot: number): boolean {
  return envelope.newest === WIRE_VERSION && envelope.seal(bytes, 0, bytes.length, slot, WIRE_VERSION);
}

function answerChallenge(outbox: Outbox, bytes: Uint8Array, offset: number, from: number): void {
  const o = outbox.reserve(from, Proof.size);
  if (o >= 0) outbox.commit(writeProof(bytes, offset, outbox.bytes, o));
}
