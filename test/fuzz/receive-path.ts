/**
 * Sends seeded datagrams through the whole receive path: envelope and keys, reader, replica cores, client core, state
 * machine.
 *
 * - *forged*: authentic datagrams, changed in any way that a stranger could change them (bytes, lengths, the fields of
 *   the envelope, another's key, no key), and invented ones. The rule: none is accepted, nothing is asked of the
 *   transport, the state of the replica does not change, and each is counted once.
 * - *client*: well-formed datagrams under a good client's key with arbitrary messages. The rule: nothing throws, no
 *   invariant breaks, what is committed stays, and replicas agree on it. Some come under another key from the honest
 *   client's own address, which keeps its key.
 * - *replica*: the same under the replicas' key, as from a faulty replica or a stolen key. The protocol survives
 *   replicas that stop, not ones that lie. So an invariant may stop the replica that receives it, or a contradiction
 *   about its log or its promises (STOPS); nothing else may be thrown.
 * - *answers*: the same at a client. The rule: nothing throws.
 */
import { DivergedError } from '../../src/protocol/replica/diverged-error.js';
import { ForgottenError } from '../../src/protocol/replica/introduction.js';
import { InvariantError } from '../../src/protocol/invariant.js';
import { ENTRY_HEADER_BYTES } from '../../src/protocol/log/entry.js';
import { ORDER_RECORD_BYTES } from '../../src/protocol/log/log.js';
import { REGISTER_LANE } from '../../src/protocol/log/sessions.js';
import { Keyring } from '../../src/host/keyring.js';
import { Fingerprint } from '../../src/sim/fingerprint.js';
import { Random } from '../../src/sim/random.js';
import { CLIENT_SENDER, SEALED_ENVELOPE_BYTES } from '../../src/wire/envelope.js';
import { PREVIOUS_WIRE_VERSION, WIRE_VERSION } from '../../src/wire/versions.js';
import { begin, type Message } from '../../src/wire/layout.js';
import * as wire from '../../src/wire/messages.js';
import { writeI32, writeU16 } from '../../src/wire/u64.js';
import { CLIENT, envelopeOf, FuzzCluster, keyFile, KEYS, REPLICAS } from './cluster.js';

/** Errors by which a core stops itself. */
const STOPS = [InvariantError, DivergedError, ForgottenError];

export const KINDS = ['forged', 'client', 'replica', 'answers'] as const;
export type Kind = (typeof KINDS)[number];

/**
 * Datagrams of one kind that are sent to one cluster before it is checked and works again; more for those that change
 * nothing.
 */
const ROUND = 1_000;
const FORGED_ROUND = 8_000;
/** Rounds before the cluster is replaced, so that the effects of hostile messages can be seen more than once. */
const ROUNDS = 20;
const FROM_CLIENTS: readonly Message[] = [
  wire.Request,
  wire.Request,
  wire.Request,
  wire.Read,
  wire.Reconcile,
  wire.Probe,
  wire.Plea,
  wire.Proof,
  wire.AskMembers,
];
const NUMBERS = [0, 1, 2, 3, 0x7f, 0xff, 0x7fff, 0xffff, 0x7fffffff, 0x80000000, 0xffffffff];
const CAPACITY = 61_000;

export interface FuzzCounts {
  /** By kind. */
  readonly tried: Record<Kind, number>;
  /** Errors thrown that are not broken invariants, by message; must stay empty. */
  readonly crashes: Map<string, number>;
  /**
   * Invariants broken by a message under a client's key, disagreements, changes by forged datagrams; must stay empty.
   */
  readonly violations: Map<string, number>;
  /** Invariants that stopped a replica after it heard a lying replica, by message. */
  readonly stopped: Map<string, number>;
  /** Messages of well-formed datagrams that reached a core. */
  heard: number;
  /** Operations that the cluster committed meanwhile. */
  committed: number;
}

export class ReceivePathFuzzer {
  readonly counts: FuzzCounts = {
    tried: { forged: 0, client: 0, replica: 0, answers: 0 },
    crashes: new Map(),
    violations: new Map(),
    stopped: new Map(),
    heard: 0,
    committed: 0,
  };
  private readonly random: Random;
  private cluster: FuzzCluster;
  private rounds = 0;
  private readonly bytes = new Uint8Array(CAPACITY);
  private readonly strangerRing = new Keyring(
    keyFile(
      1,
      KEYS.map((entry) => ({ ...entry, secret: 'ee'.repeat(32) })),
    ),
    true,
  );
  /** Seals invented datagrams: with a checksum, or under a stranger's secrets. */
  private readonly checksummed = [envelopeOf(1, undefined), envelopeOf(CLIENT_SENDER, undefined)];
  private readonly strangers = [envelopeOf(1, this.strangerRing), envelopeOf(CLIENT_SENDER, this.strangerRing)];

  constructor(seed: number) {
    this.random = new Random(seed);
    this.cluster = new FuzzCluster(this.random.fork('cluster'));
  }

  /** One round of one kind: some thousand datagrams. */
  round(kind: Kind): void {
    if (++this.rounds % ROUNDS === 0) this.replaceCluster();
    try {
      this.cluster.work(20);
      const throwAt =
        kind === 'forged'
          ? () => this.forged()
          : kind === 'client'
            ? () => this.hostile(REPLICAS)
            : kind === 'replica'
              ? () => this.hostile(this.random.below(REPLICAS))
              : () => this.answer();
      const before = kind === 'forged' ? this.stateOf() : '';
      const drops = kind === 'forged' ? this.dropsOf() : 0;
      const tried = this.counts.tried[kind];
      for (let i = kind === 'forged' ? FORGED_ROUND : ROUND; i > 0; i--) {
        try {
          throwAt();
        } catch (error) {
          if (kind !== 'replica') throw error;
          // Replicas that believe a lying one stop often: the rest of the round is for others.
          this.caught(error, true);
          this.replaceCluster();
          this.cluster.work(20);
        }
      }
      if (kind === 'forged') {
        if (this.stateOf() !== before) this.violated('a forged datagram changed the state of a replica');
        if (this.dropsOf() - drops !== this.counts.tried.forged - tried)
          this.violated('a forged datagram was not counted once');
      }
      this.cluster.settle();
      if (kind !== 'replica' && !this.poisoned) this.cluster.checkAgreement();
      // A lying replica can have told the client another key's challenge, and then its Proof is known.
      if (kind === 'client' && !this.poisoned) this.cluster.checkClientsKey();
      this.cluster.work(20);
    } catch (error) {
      this.caught(error, kind === 'replica' || this.poisoned);
      this.replaceCluster();
    }
    if (kind === 'replica' || kind === 'answers') this.poisoned = true;
  }

  /** A replica or the client was lied to: from here on the cluster's agreement means nothing. */
  private poisoned = false;

  private replaceCluster(): void {
    this.counts.committed += this.cluster.committed;
    this.counts.heard += this.cluster.clientHeard + this.cluster.replicas.reduce((sum, { heard }) => sum + heard, 0);
    this.cluster.close();
    this.cluster = new FuzzCluster(this.random.fork('cluster'));
    this.poisoned = false;
  }

  private caught(error: unknown, byReplica: boolean): void {
    const text = error instanceof Error ? error.message : String(error);
    if (!STOPS.some((stop) => error instanceof stop))
      count(
        this.counts.crashes,
        error instanceof Error && error.stack !== undefined ? error.stack.split('\n').slice(0, 4).join(' | ') : text,
      );
    else count(byReplica ? this.counts.stopped : this.counts.violations, text);
  }

  private violated(what: string): void {
    count(this.counts.violations, what);
  }

  private stateOf(): string {
    const fingerprint = new Fingerprint();
    for (const { core, peers, heard, asked } of this.cluster.replicas)
      for (const part of [core, peers, heard, asked]) fingerprint.add(part);
    fingerprint.add(this.cluster.client);
    fingerprint.add(this.cluster.clientHeard);
    return fingerprint.digest();
  }

  private dropsOf(): number {
    return [...this.cluster.replicas.map(({ reader }) => reader), this.cluster.clientReader].reduce(
      (sum, { drops }) => sum + drops.reduce((a, b) => a + b, 0),
      0,
    );
  }

  private forged(): void {
    const { random, cluster, bytes } = this;
    const { bytes: authentic } = random.pick(cluster.corpus);
    let { length } = authentic;
    bytes.set(authentic);
    switch (random.below(8)) {
      case 0: // flipped bits
        for (let i = random.between(1, 4); i > 0; i--) bytes[random.below(length)]! ^= 1 << random.below(8);
        break;
      case 1: // a byte of the envelope that its sender could have written
        bytes[random.below(SEALED_ENVELOPE_BYTES)] = random.below(256);
        break;
      case 2: // cut off
        length = random.below(length);
        break;
      case 3: // append the messages of another authentic datagram
        {
          const { bytes: other } = random.pick(cluster.corpus);
          bytes.set(other.subarray(SEALED_ENVELOPE_BYTES), length);
          length += other.length - SEALED_ENVELOPE_BYTES;
        }
        break;
      case 4: // the messages of one under the MAC of another
        {
          const { bytes: other } = random.pick(cluster.corpus);
          bytes.set(other.subarray(0, SEALED_ENVELOPE_BYTES));
          if (length === other.length && same(bytes, other)) return; // two replicas said the same
        }
        break;
      case 5: // well-formed, with a checksum in place of a key
        random.pick(this.checksummed).seal(bytes, 0, length);
        break;
      case 6: // well-formed, under the right id and another's secret
        random
          .pick(this.strangers)
          .seal(bytes, 0, length, this.strangerRing.find(random.between(1, KEYS.length)), this.version());
        break;
      default: // invented, usually with the envelope of a real one
        length = random.chance(0.01) ? random.between(0, CAPACITY) : random.below(300);
        for (let i = random.chance(0.7) ? SEALED_ENVELOPE_BYTES - 16 : 0; i < length; i++) bytes[i] = random.next();
    }
    if (length === authentic.length && same(bytes, authentic)) return;
    this.counts.tried.forged++;
    const target = random.below(REPLICAS + 1);
    if (target < REPLICAS) cluster.receive(target, bytes, length);
    else cluster.clientReader.read(bytes, 0, length);
  }

  /** A good MAC and anything after it, from a replica, or, if REPLICAS, from a client. */
  private hostile(from: number): void {
    const { random, cluster } = this;
    this.counts.tried[from < REPLICAS ? 'replica' : 'client']++;
    const target = from < REPLICAS ? (from + 1 + random.below(REPLICAS - 1)) % REPLICAS : random.below(REPLICAS);
    const reads = from === REPLICAS && random.chance(0.2);
    const who = reads ? cluster.reader : cluster.speakers[from]!;
    const version = this.version();
    const head = who.envelope.bytesIn(version);
    const length = this.compose(head, target, from < REPLICAS ? wire.ALL_MESSAGES : FROM_CLIENTS);
    // Each key has endpoints of its own, and sometimes speaks from one of another key.
    const endpoint = CLIENT + 1 + (random.chance(0.1) ? random.below(8) : random.below(4) + (reads ? 4 : 0));
    who.envelope.seal(this.bytes, 0, length, who.ring.own, version);
    cluster.now.monotonicUs += 1;
    cluster.receive(target, this.bytes, length, reads && random.chance(0.2) ? CLIENT : endpoint);
    if (random.chance(0.1)) cluster.settle();
  }

  /** What a lying replica, or a thief of this client's key, tells the client. */
  private answer(): void {
    const { random, cluster } = this;
    this.counts.tried.answers++;
    const liar = random.pick(cluster.liars);
    const version = this.version();
    const length = this.compose(liar.bytesIn(version), random.below(REPLICAS), wire.ALL_MESSAGES);
    liar.seal(this.bytes, 0, length, cluster.clientRing.own, version);
    cluster.now.monotonicUs += 1;
    cluster.clientReader.read(this.bytes, 0, length);
    if (random.chance(0.02)) cluster.work(1);
  }

  /**
   * Wire version in which to write a datagram: sometimes the previous one, with the present layouts, which it may not
   * have.
   */
  private version(): number {
    return this.random.chance(0.1) ? PREVIOUS_WIRE_VERSION : WIRE_VERSION;
  }

  /**
   * One to three messages behind `head` bytes of room for the envelope: real ones with some fields replaced, or made up. Returns
   * the datagram's length.
   */
  private compose(head: number, target: number, messages: readonly Message[]): number {
    const { random, bytes } = this;
    let at = head;
    for (let left = random.chance(0.8) ? 1 : 3; left > 0; left--) {
      const real = random.chance(0.6) ? this.realMessage(messages) : undefined;
      if (real !== undefined) {
        bytes.set(real.bytes, at);
        for (let fields = random.below(4); fields > 0; fields--)
          this.fill(real.message, at, random.pick(Object.keys(real.message.fields)), target, real.bytes.length);
        at += real.bytes.length;
        continue;
      }
      const message = random.pick(messages);
      begin(message, bytes, at);
      const tail = message.hasBytes ? this.tailOf(message, at + message.size) : 0;
      for (const field of Object.keys(message.fields)) this.fill(message, at, field, target, message.size + tail);
      at += message.size + tail;
    }
    return at;
  }

  private realMessage(
    messages: readonly Message[],
  ): { readonly message: Message; readonly bytes: Uint8Array } | undefined {
    const { messages: bytes } = this.random.pick(this.cluster.corpus);
    const message = wire.layoutOf(wire.typeOf(bytes, 0));
    return message !== undefined && messages.includes(message) ? { message, bytes } : undefined;
  }

  /** Bytes for the end of a message; their number is written by `fill`. */
  private tailOf(message: Message, at: number): number {
    const { random, bytes } = this;
    let length = random.pick([0, 1, 8, 18, 24, 32, 64, 100, 599, 600, 601, 1_000, 1_001]);
    if (message === wire.Order) length = ORDER_RECORD_BYTES * random.below(40) + (random.chance(0.05) ? 1 : 0);
    for (let i = 0; i < length; i++) bytes[at + i] = random.next();
    if (message === wire.Chunk) {
      // Entries whose lengths are mostly right.
      length = 0;
      for (let entries = random.below(6); entries > 0; entries--) {
        const operation = random.below(40);
        writeU16(bytes, at + length, random.chance(0.9) ? operation : random.below(0x10000));
        length += 2 + ENTRY_HEADER_BYTES + operation;
      }
    }
    return length;
  }

  private fill(message: Message, at: number, field: string, target: number, messageBytes: number): void {
    const { random, bytes, cluster } = this;
    const { state } = cluster.replicas[target]!.core;
    const { log } = state;
    const o = at + message.at[field]!;
    switch (message.fields[field]!) {
      case 'bin16':
        // the reader drops what does not fit
        writeU16(bytes, o, random.chance(0.95) ? messageBytes - message.size : random.next() & 0xffff);
        return;
      case 'u8':
        bytes[o] = random.chance(0.8) ? random.below(8) : random.next();
        return;
      case 'u16':
        writeU16(
          bytes,
          o,
          field === 'lane' ? random.pick([0, 1, 7, 8, 0xfffe, REGISTER_LANE]) : random.next() & 0xffff,
        );
        return;
      case 'i32':
      case 'u32': {
        const view = random.pick([
          state.view,
          state.view,
          state.view,
          state.view + 1,
          state.view - 1,
          state.view + 6,
          state.logView,
          ...NUMBERS,
        ]);
        writeI32(
          bytes,
          o,
          /view/i.test(field)
            ? view
            : random.chance(0.3)
              ? random.between(0, 20)
              : random.chance(0.5)
                ? random.pick(NUMBERS)
                : random.next(),
        );
        return;
      }
      default:
    }
    if (/index/i.test(field)) {
      const near =
        random.pick([
          0,
          1,
          log.baseIndex,
          state.committed,
          state.synced,
          log.lastIndex,
          log.lastIndex + 1,
          log.lastIndex + random.below(300),
        ]) + random.between(-1, 1);
      const index = random.chance(0.9)
        ? Math.max(0, near)
        : random.pick([2 ** 53 - 1, 2 ** 53 - 2, 2 ** 32, 2 ** 31, 2 ** 53]);
      writeI32(bytes, o, Math.floor(index / 2 ** 32));
      writeI32(bytes, o + 4, (index % 2 ** 32) | 0);
      return;
    }
    if (/chain/i.test(field) && random.chance(0.8)) {
      // An existing index, which `fill` may have used a moment ago.
      const index = random.pick([
        log.baseIndex,
        log.lastIndex,
        Math.max(log.baseIndex, state.committed),
        Math.max(log.baseIndex, state.synced),
      ]);
      writeI32(bytes, o, log.chainHi(index));
      writeI32(bytes, o + 4, log.chainLo(index));
      return;
    }
    if (field === 'timestamp' && random.chance(0.8)) {
      writeI32(bytes, o, cluster.now.wallHi);
      writeI32(bytes, o + 4, (cluster.now.wallLo + random.pick([-1e6, -1, 0, 1, 1_000, 1e6, 9e8])) | 0);
      return;
    }
    if (field === 'session' && random.chance(0.8)) {
      const index = random.between(log.baseIndex + 1, Math.max(log.baseIndex + 1, log.lastIndex));
      writeI32(bytes, o, log.has(index) && random.chance(0.7) ? log.sessionHi(index) : 0);
      writeI32(bytes, o + 4, log.has(index) && random.chance(0.9) ? log.sessionLo(index) : random.between(1, 12));
      return;
    }
    writeI32(bytes, o, random.chance(0.3) ? 0 : random.next());
    writeI32(bytes, o + 4, random.chance(0.3) ? random.between(0, 3) : random.next());
  }
}

function same(a: Uint8Array, b: Uint8Array): boolean {
  for (let i = 0; i < b.length; i++) if (a[i] !== b[i]) return false;
  return true;
}

function count(map: Map<string, number>, what: string): void {
  map.set(what, (map.get(what) ?? 0) + 1);
}
