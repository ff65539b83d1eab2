/**
 * The fuzzers' target: three real replica cores and a client core, each behind the receive path of its host (envelope
 * with keys, datagram reader), and a network that delivers at once, in one thread. Everything that they send is sealed
 * as their hosts would, and the newest datagrams are kept as the corpus.
 */
import { KvMachine } from '../../src/machine/kv.js';
import { encodePut } from '../../src/machine/kv-codec.js';
import { loadHash } from '../../src/native/hash64.js';
import { loadSipHash } from '../../src/native/siphash.js';
import { ClientCore } from '../../src/protocol/client/client-core.js';
import { DEFAULT_CLIENT_TIMINGS, DEFAULT_LIMITS, DEFAULT_TIMINGS, type Limits } from '../../src/protocol/config.js';
import { chainOf, Instant, type Outbox, type PersistBatch, type Storage } from '../../src/protocol/contract.js';
import { ReplicaCore } from '../../src/protocol/replica/replica-core.js';
import { ownedSessionLo } from '../../src/protocol/log/session-owner.js';
import { Keyring } from '../../src/host/keyring.js';
import type { KeyFile } from '../../src/host/key-file.js';
import type { Random } from '../../src/sim/random.js';
import type { MemberList } from '../../src/wire/member-list.js';
import { writeProof } from '../../src/wire/address-proofs.js';
import { DatagramReader } from '../../src/transport/datagram-reader.js';
import { Peers } from '../../src/wire/peers.js';
import { WIRE_VERSION } from '../../src/wire/versions.js';
import { CLIENT_SENDER, SEALED_ENVELOPE_BYTES, Envelope } from '../../src/wire/envelope.js';
import { AskMembers, Challenge, Proof, ReplyStatus, typeOf } from '../../src/wire/messages.js';
import { MembersService } from '../../src/server/members-service.js';

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
  waiting: 16,
  chunkBytes: 1_000,
  held: 16,
  cachedRequests: 32,
  cachedBytes: 4_096,
};

/** As in every cluster with keys. */
const chain = chainOf(loadSipHash(new Uint8Array(16).fill(7)), 7);

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

export function envelopeOf(sender: number, ring: Keyring | undefined): Envelope {
  return new Envelope(hash, CLUSTER_HI, CLUSTER_LO, sender, REPLICAS, ring);
}

/** Longer than one answer, so that pieces are asked for. */
const MEMBERS: MemberList = {
  started: 3,
  decided: 4,
  hosts: Array.from({ length: 31 }, (_, id) => ({
    id,
    address: `${'n'.repeat(60)}-${id}.example:7400`,
    identity: undefined,
    votes: id < 3,
    willVote: id < 5,
  })),
};

/** Where the messages of one core go: each becomes a datagram of its own. */
class FuzzOutbox implements Outbox {
  readonly bytes = new Uint8Array(60_000);
  private to = 0;

  constructor(private readonly leave: (bytes: Uint8Array, length: number, to: number) => void) {}

  reserve(to: number, length: number): number {
    if (SEALED_ENVELOPE_BYTES + length > this.bytes.length) return -1;
    this.to = to;
    return SEALED_ENVELOPE_BYTES;
  }

  commit(length: number): void {
    this.leave(this.bytes, SEALED_ENVELOPE_BYTES + length, this.to);
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

export interface Replica {
  readonly core: ReplicaCore;
  readonly reader: DatagramReader;
  readonly peers: Peers;
  /** Messages that passed the receive path; calls that asked for the sender's endpoint. */
  heard: number;
  asked: number;
}

export class FuzzCluster {
  readonly replicas: Replica[] = [];
  client!: ClientCore;
  clientReader!: DatagramReader;
  clientHeard = 0;
  /** Authentic datagrams, and what they held before they were encrypted, newest over oldest. `to`: REPLICAS is the client. */
  readonly corpus: { readonly bytes: Uint8Array; readonly messages: Uint8Array; readonly to: number }[] = [];
  readonly now = new Instant();
  committed = 0;
  private registered = false;
  readonly ring: Keyring;
  readonly clientRing: Keyring;
  private readonly readerRing: Keyring;
  /**
   * The identities that the fuzzer uses: each replica, and, last, a client; a read-only client; replicas that use the
   * client's key.
   */
  readonly speakers: readonly { readonly envelope: Envelope; readonly ring: Keyring }[];
  readonly reader: { readonly envelope: Envelope; readonly ring: Keyring };
  readonly liars: readonly Envelope[];
  /** The endpoint that the datagram being read came from. */
  private endpoint = REPLICAS;
  /** And where it ends. */
  private end = 0;
  private readonly queue: { bytes: Uint8Array; to: number }[] = [];
  private kept = 0;
  private readonly operation = new Uint8Array(1_024);

  constructor(private readonly random: Random) {
    this.ring = new Keyring(keyFile(1), true);
    this.clientRing = new Keyring(keyFile(2, [KEYS[1]]), false);
    this.readerRing = new Keyring(keyFile(3, [KEYS[2]]), false);
    const ids = Array.from({ length: REPLICAS }, (_, id) => id);
    this.speakers = [
      ...ids.map((id) => ({ envelope: envelopeOf(id, this.ring), ring: this.ring })),
      { envelope: envelopeOf(CLIENT_SENDER, this.clientRing), ring: this.clientRing },
    ];
    this.reader = { envelope: envelopeOf(CLIENT_SENDER, this.readerRing), ring: this.readerRing };
    this.liars = ids.map((id) => envelopeOf(id, this.clientRing));
    this.now.wallHi = 0x17000000;
    for (let id = 0; id < REPLICAS; id++) this.replicas.push(this.createReplica(id));
    this.connectClient();
    for (const { core } of this.replicas) core.start({ hardState: undefined, log: undefined }, this.now);
    // A hello from the client to each: its address has its key from the beginning.
    const hello = new Uint8Array(SEALED_ENVELOPE_BYTES);
    for (let id = 0; id < REPLICAS; id++) {
      this.speakers.at(-1)!.envelope.seal(hello, 0, hello.length, this.clientRing.own);
      this.receive(id, hello.slice(), hello.length, CLIENT);
    }
    this.client.register(this.now);
    this.work(200);
  }

  close(): void {
    for (const ring of [this.ring, this.clientRing, this.readerRing]) ring.close();
  }

  /** Gives one replica a datagram as its transport would, and ends the turn. Throws what the core throws. */
  receive(replica: number, bytes: Uint8Array, length: number, endpoint = FUZZER): number {
    this.endpoint = endpoint;
    this.end = length;
    const messages = this.replicas[replica]!.reader.read(bytes, 0, length);
    if (messages > 0) this.replicas[replica]!.core.flush(this.now);
    return messages;
  }

  /** Delivers what is on its way, and what that brings. */
  settle(): void {
    let deliveries = 0;
    for (let next = this.queue.shift(); next !== undefined; next = this.queue.shift()) {
      if (++deliveries > DELIVERIES_MAX) throw new Error(`one datagram brought more than ${DELIVERIES_MAX} others`);
      if (next.to < REPLICAS) this.receive(next.to, next.bytes, next.bytes.length, REPLICAS);
      else this.clientReader.read(next.bytes, 0, next.bytes.length);
    }
  }

  /** Lets the cluster do its ordinary work for this many steps of 40 µs. */
  work(steps: number): void {
    for (let step = 0; step < steps; step++) {
      this.now.monotonicUs += STEP_US;
      this.now.wallLo = (this.now.wallLo + STEP_US * 1_000) | 0;
      for (const { core } of this.replicas) {
        if (core.wakeAtUs > this.now.monotonicUs) continue;
        core.tick(this.now);
        core.flush(this.now);
      }
      this.client.tick(this.now);
      if (step % 4 === 0) this.submit();
      this.settle();
    }
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

  private submit(): void {
    if (!this.registered) return;
    for (let lane = 0; lane < LANES; lane++) {
      if (!this.client.isIdle(lane)) continue;
      const length = encodePut(
        this.operation,
        0,
        Uint8Array.of(this.random.below(64)),
        new Uint8Array(this.random.below(60)),
      );
      if (this.random.chance(0.2)) this.client.read(lane, this.operation, 0, length, Infinity, this.now);
      else this.client.submit(lane, this.operation, 0, length, this.now.monotonicUs + 50_000, this.now);
    }
  }

  private createReplica(id: number): Replica {
    const envelope = envelopeOf(id, this.ring);
    const peers = new Peers({
      self: id,
      replicas: REPLICAS,
      endpoints: ENDPOINTS,
      newest: WIRE_VERSION,
      now: this.now,
      keys: this.ring,
      numbers: loadSipHash(Uint8Array.from({ length: 16 }, () => this.random.below(256))),
    });
    const disk = new NoDisk();
    const outbox = new FuzzOutbox((bytes, length, to) => {
      let size = length;
      if (!peers.mayCarry(to, length)) {
        size = SEALED_ENVELOPE_BYTES + peers.writeChallenge(to, bytes, SEALED_ENVELOPE_BYTES);
        if (!peers.mayCarry(to, size)) return;
      }
      const messages = bytes.slice(SEALED_ENVELOPE_BYTES, size);
      if (envelope.seal(bytes, 0, size, peers.keyFor(to)))
        this.post(bytes, size, messages, Math.min(to, REPLICAS), to === REPLICAS || to < REPLICAS);
    });
    const core = new ReplicaCore(
      { id, replicas: REPLICAS, seed: id + 1, limits: LIMITS, timings: DEFAULT_TIMINGS },
      outbox,
      disk,
      new KvMachine({ maxKeys: 256, maxBytes: 65_536, expectedKeys: 256 }),
      hash,
      { transition: () => undefined },
      chain,
    );
    disk.core = core;
    let questionBytes = 0;
    const members = new MembersService(
      () => MEMBERS,
      () => core.state.view,
      {
        get bytes() {
          return outbox.bytes;
        },
        reserve: (to, length) => outbox.reserve(to, length),
        commit: (length) => {
          if (length > questionBytes) throw new Error(`an answer of ${length} bytes to a question of ${questionBytes}`);
          outbox.commit(length);
        },
      },
      hash,
    );
    const sender = (): number => {
      replica.asked++;
      return this.endpoint;
    };
    const handle = (bytes: Uint8Array, offset: number, length: number, from: number, owner: number): void => {
      replica.heard++;
      if (offset + length > this.end) throw new Error('a message reaches beyond its datagram');
      if (typeOf(bytes, offset) === Proof.type) peers.prove(from, envelope.openedKey, bytes, offset);
      else if (typeOf(bytes, offset) === AskMembers.type) {
        questionBytes = length;
        members.onAskMembers(bytes, offset, from, this.now, owner, peers.isProven(from));
      } else core.receive(bytes, offset, length, from, this.now, owner);
    };
    const replica: Replica = {
      core,
      peers,
      heard: 0,
      asked: 0,
      reader: new DatagramReader(envelope, { sender }, true, handle, peers, this.ring, undefined, (to, slot) => {
        const bytes = new Uint8Array(SEALED_ENVELOPE_BYTES + Challenge.size);
        if (peers.writeChallengeUnder(slot, to, bytes, SEALED_ENVELOPE_BYTES) === 0) return;
        const messages = bytes.slice(SEALED_ENVELOPE_BYTES);
        if (envelope.seal(bytes, 0, bytes.length, slot))
          this.post(bytes, bytes.length, messages, Math.min(to, REPLICAS), to === REPLICAS);
      }),
    };
    return replica;
  }

  private connectClient(): void {
    const envelope = envelopeOf(CLIENT_SENDER, this.clientRing);
    const outbox = new FuzzOutbox((bytes, length, to) => {
      const messages = bytes.slice(SEALED_ENVELOPE_BYTES, length);
      if (envelope.seal(bytes, 0, length, this.clientRing.own)) this.post(bytes, length, messages, to, true);
    });
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
      outbox,
      {
        registered: (status) => void (this.registered = status === ReplyStatus.ok),
        completed: () => void this.committed++,
      },
    );
    const peers = new Peers({
      self: CLIENT_SENDER,
      replicas: REPLICAS,
      endpoints: 1,
      newest: WIRE_VERSION,
      now: this.now,
      keys: this.clientRing,
      numbers: hash,
    });
    const handle = (bytes: Uint8Array, offset: number, length: number, from: number): void => {
      this.clientHeard++;
      if (typeOf(bytes, offset) === Challenge.type) {
        const o = outbox.reserve(from, Proof.size);
        outbox.commit(writeProof(bytes, offset, outbox.bytes, o));
        return;
      }
      this.client.receive(bytes, offset, length, from, this.now);
    };
    this.clientReader = new DatagramReader(envelope, { sender: () => REPLICAS }, false, handle, peers, this.clientRing);
  }

  /** `deliver` false: an answer to one of the fuzzer's endpoints, which nobody waits for. */
  private post(bytes: Uint8Array, length: number, messages: Uint8Array, to: number, deliver: boolean): void {
    const copy = bytes.slice(0, length);
    this.corpus[this.kept++ % CORPUS] = { bytes: copy, messages, to };
    if (deliver) this.queue.push({ bytes: copy.slice(), to });
  }
}
