/**
 * The streams of encrypted datagrams. A stream is what one process sends under one key in one direction. It has a
 * *salt*, which every datagram carries, and a *counter*, which is the nonce. The key of the stream is derived from the
 * shared key and the salt, so receivers need no handshake, and many senders share one key.
 *
 * Rules, which the cipher depends on:
 * - Two datagrams never have the same stream key and counter. The counter moves before a datagram is sealed. A process
 *   draws a new salt in each life, and after STREAM_DATAGRAMS.
 * - A receiver keeps nothing of a datagram before it has proven authentic. An unknown salt costs one derivation.
 *
 * A receiver that forgets a stream derives its key again from the next datagram, so its tables may be small.
 */
import { readI32, writeI32, writeU16 } from './u64.js';

/** One stream's cipher: native/aead.ts has the two implementations. */
export interface StreamCipher {
  /** Takes a key of STREAM_KEY_BYTES, which is copied, in the place of the one before. */
  setKey(key: Uint8Array): void;
  /** Encrypts a datagram in place, under the nonce that stands in it, and writes the tag. */
  seal(bytes: Uint8Array, offset: number, length: number): void;
  /** Decrypts a datagram in place. False if it is not authentic: its messages are then garbage. */
  open(bytes: Uint8Array, offset: number, length: number): boolean;
  /** Wipes the key. */
  forget(): void;
}

/** Where streams get their keys, ciphers and random numbers from: the keyring of a process. */
export interface StreamSource {
  /** Writes the key of a stream: HMAC-SHA-256 of `identity` under what the key in `slot` has for streams, 16 bytes. */
  streamKey(slot: number, identity: Uint8Array, out: Uint8Array): void;
  /** A cipher without a key, for one direction. */
  cipher(seals: boolean): StreamCipher;
  /** Fills an array with random bytes that nobody else can predict. */
  draw(target: Int32Array<ArrayBuffer>): void;
  /** Calls `forget` with the slot of each key that is removed later. */
  watch(forget: (slot: number) => void): void;
}

/** Who speaks to whom; part of a stream's identity. */
export const Direction = { toReplica: 0, toClient: 1, betweenReplicas: 2 } as const;
export type Direction = (typeof Direction)[keyof typeof Direction];

// The envelope of an encrypted datagram, as far as streams know it: see envelope.ts.
export const AT_NONCE = 7;
export const AT_SALT = 43;
const SALT_BYTES = 16;

/**
 * A stream ends after this many datagrams: the limit that RFC 9001, section 6.6, sets for AES-GCM, with datagrams of up
 * to 16 KiB.
 */
const STREAM_DATAGRAMS = 2 ** 23;
/** A datagram that is further behind the newest one of its stream is refused. Networks reorder by far less. */
export const STALE_DATAGRAMS = 65_536;
/** Streams of clients that a replica remembers. */
const CLIENT_STREAMS = 4096;
/**
 * Streams of one replica that are remembered. One is in use. If two processes speak as that replica, each uses one, and
 * has another while that ends.
 */
const REPLICA_STREAMS = 4;

const STREAM_KEY_BYTES = 16;
/** Direction, sender, salt, and 1: the number of the first and only block of HKDF-Expand (RFC 5869). */
const IDENTITY_BYTES = 1 + 2 + SALT_BYTES + 1;

/** What a receiver decided. */
export const Opened = { intact: 0, forged: 1, stale: 2 } as const;
export type Opened = (typeof Opened)[keyof typeof Opened];

/** Derives stream keys. Has scratch space, so one instance serves one thread. */
class KeySchedule {
  private readonly identity = new Uint8Array(IDENTITY_BYTES);
  private readonly key = new Uint8Array(STREAM_KEY_BYTES);

  constructor(private readonly source: StreamSource) {
    this.identity[IDENTITY_BYTES - 1] = 1;
  }

  /** Gives `cipher` the key of the stream whose salt stands at `bytes[saltAt]`. */
  apply(
    cipher: StreamCipher,
    slot: number,
    direction: Direction,
    sender: number,
    bytes: Uint8Array,
    saltAt: number,
  ): void {
    const { identity, key } = this;
    identity[0] = direction;
    writeU16(identity, 1, sender);
    for (let i = 0; i < SALT_BYTES; i++) identity[3 + i] = bytes[saltAt + i]!;
    this.source.streamKey(slot, identity, key);
    cipher.setKey(key);
    key.fill(0);
  }
}

interface SendingStream {
  readonly cipher: StreamCipher;
  /** Its words. */
  readonly salt: Int32Array;
  /** Of the last sealed datagram. */
  counter: number;
}

/** What one process sends: a stream for each key that it uses. */
export class SendingStreams {
  /**
   * A replica's incarnation, which grows with each start (0: none is known). It is part of the salt, so salts differ
   * even if the random numbers of two starts are the same.
   */
  incarnation = 0;
  /** Streams begun in this life. */
  private begun = 0;
  /** By slot. */
  private readonly streams: (SendingStream | undefined)[] = [];
  private readonly schedule: KeySchedule;

  /**
   * @param isReplica whether the salt holds the incarnation
   * @param limit datagrams of one stream; tests use fewer
   */
  constructor(
    private readonly source: StreamSource,
    private readonly sender: number,
    private readonly isReplica: boolean,
    private readonly limit = STREAM_DATAGRAMS,
  ) {
    this.schedule = new KeySchedule(source);
    source.watch((slot) => this.forget(slot));
  }

  /** Writes nonce and salt, and encrypts, under the key in `slot`. The rest of the envelope stands there already. */
  seal(slot: number, direction: Direction, bytes: Uint8Array, offset: number, length: number): void {
    let stream = this.streams[slot];
    if (stream === undefined || stream.counter >= this.limit) stream = this.begin(slot, direction, stream);
    const counter = ++stream.counter; // before anything is sealed under it
    writeI32(bytes, offset + AT_NONCE, 0);
    writeI32(bytes, offset + AT_NONCE + 4, counter);
    const { salt } = stream;
    for (let i = 0; i < 4; i++) writeI32(bytes, offset + AT_SALT + 4 * i, salt[i]!);
    stream.cipher.seal(bytes, offset, length);
  }

  private begin(slot: number, direction: Direction, ended: SendingStream | undefined): SendingStream {
    const salt = new Int32Array(SALT_BYTES / 4);
    this.source.draw(salt);
    if (this.isReplica) {
      salt[0] = this.incarnation;
      salt[1] = ++this.begun;
    }
    const stream = { cipher: ended?.cipher ?? this.source.cipher(true), salt, counter: 0 };
    const bytes = new Uint8Array(SALT_BYTES);
    salt.forEach((word, i) => writeI32(bytes, 4 * i, word));
    this.schedule.apply(stream.cipher, slot, direction, this.sender, bytes, 0);
    this.streams[slot] = stream;
    return stream;
  }

  private forget(slot: number): void {
    this.streams[slot]?.cipher.forget();
    this.streams[slot] = undefined;
  }
}

/** A stream that was received. An entry of a StreamTable. */
class ReceivingStream {
  slot = -1;
  bucket = 0;
  /** The highest counter of an authentic datagram. */
  highest = 0;
  salt0 = 0;
  salt1 = 0;
  salt2 = 0;
  salt3 = 0;
  /** It may be one that the table has forgotten, so its datagrams may be recordings. Only in tables of one host. */
  isOld = false;
  /** The next one in the same bucket. */
  next: ReceivingStream | undefined = undefined;
  newer: ReceivingStream | undefined = undefined;
  older: ReceivingStream | undefined = undefined;

  constructor(readonly cipher: StreamCipher) {}
}

/** In the order of one host's streams. Two processes of one incarnation may have equal places in it. */
function isEarlier(one: ReceivingStream, other: ReceivingStream): boolean {
  return one.salt0 < other.salt0 || (one.salt0 === other.salt0 && one.salt1 < other.salt1);
}

/**
 * Streams by salt. If there are too many, the one that was used longest ago makes room. The hash has secret multipliers
 * (multilinear hashing), so that nobody can choose salts that share a bucket.
 *
 * The streams of one host have an order, because its salts hold its incarnation and the number of the stream: each
 * stream of a process is later than those before it. A host's table tells streams that are new from streams that it may
 * have forgotten. The latter make room first, and say nothing about lives, because anyone can send recordings of them.
 * What a host sends that lost its directory may look like that as well, until its next start.
 */
class StreamTable {
  /** Of a host's table: whose streams it holds, and the highest incarnation of which it has forgotten all streams. */
  private host = -1;
  private forgotten = -1;
  private readonly buckets: (ReceivingStream | undefined)[];
  private readonly shift: number;
  private newest: ReceivingStream | undefined;
  private oldest: ReceivingStream | undefined;
  private size = 0;

  /** @param capacity a power of two @param multipliers four odd random numbers */
  constructor(
    private readonly capacity: number,
    private readonly multipliers: Int32Array,
  ) {
    this.buckets = new Array<ReceivingStream | undefined>(capacity).fill(undefined);
    this.shift = Math.clz32(capacity) + 1;
  }

  find(slot: number, bytes: Uint8Array, saltAt: number): ReceivingStream | undefined {
    const salt0 = readI32(bytes, saltAt);
    const salt1 = readI32(bytes, saltAt + 4);
    const salt2 = readI32(bytes, saltAt + 8);
    const salt3 = readI32(bytes, saltAt + 12);
    let stream = this.buckets[this.bucketOf(salt0, salt1, salt2, salt3)];
    while (
      stream !== undefined &&
      (stream.salt3 !== salt3 ||
        stream.salt2 !== salt2 ||
        stream.salt1 !== salt1 ||
        stream.salt0 !== salt0 ||
        stream.slot !== slot)
    )
      stream = stream.next;
    return stream;
  }

  /**
   * Adds a stream, whose salt stands at `bytes[saltAt]`. Returns the one that made room for it.
   * @param host the table is that of this host; −1: it is that of the clients
   */
  add(
    stream: ReceivingStream,
    slot: number,
    bytes: Uint8Array,
    saltAt: number,
    host: number,
  ): ReceivingStream | undefined {
    if (host !== this.host) this.begin(host);
    let removed: ReceivingStream | undefined;
    stream.isOld = host >= 0 && this.mayBeForgotten(readI32(bytes, saltAt), readI32(bytes, saltAt + 4));
    if (this.size === this.capacity) this.remove((removed = this.oldest!));
    stream.slot = slot;
    stream.salt0 = readI32(bytes, saltAt);
    stream.salt1 = readI32(bytes, saltAt + 4);
    stream.salt2 = readI32(bytes, saltAt + 8);
    stream.salt3 = readI32(bytes, saltAt + 12);
    stream.bucket = this.bucketOf(stream.salt0, stream.salt1, stream.salt2, stream.salt3);
    stream.next = this.buckets[stream.bucket];
    this.buckets[stream.bucket] = stream;
    if (stream.isOld) this.prepend(stream);
    else this.append(stream);
    this.size++;
    if (host >= 0 && removed !== undefined && !removed.isOld) this.noteForgotten(removed.salt0);
    return removed;
  }

  /**
   * The stream was used anew: not by a datagram that may have been there before. True if a stream that is not earlier in
   * a host's order was used before it, so that the process of this one goes on beside another.
   */
  touch(stream: ReceivingStream): boolean {
    const before = this.newest!;
    if (stream === before || stream.isOld) return false;
    this.unlink(stream);
    this.append(stream);
    return !isEarlier(before, stream);
  }

  forget(slot: number): void {
    for (let stream = this.oldest; stream !== undefined; ) {
      const { newer } = stream;
      if (stream.slot === slot) this.remove(stream);
      stream = newer;
    }
  }

  /** The slot of the hosts is another one's now: its incarnations have nothing to do with those before. */
  private begin(host: number): void {
    while (this.oldest !== undefined) this.remove(this.oldest);
    this.host = host;
    this.forgotten = -1;
  }

  /** Whether the table may have had a stream that it does not have. The live process of an incarnation has one here. */
  private mayBeForgotten(incarnation: number, number: number): boolean {
    let isKnown = false;
    for (let stream = this.oldest; stream !== undefined; stream = stream.newer) {
      if (stream.isOld || stream.salt0 !== incarnation) continue;
      if (stream.salt1 <= number) return false;
      isKnown = true;
    }
    return isKnown || incarnation <= this.forgotten;
  }

  private noteForgotten(incarnation: number): void {
    for (let stream = this.oldest; stream !== undefined; stream = stream.newer)
      if (!stream.isOld && stream.salt0 === incarnation) return;
    this.forgotten = Math.max(this.forgotten, incarnation);
  }

  private bucketOf(salt0: number, salt1: number, salt2: number, salt3: number): number {
    const { multipliers } = this;
    const upper = (Math.imul(salt0, multipliers[0]!) + Math.imul(salt1, multipliers[1]!)) | 0;
    const lower = (Math.imul(salt2, multipliers[2]!) + Math.imul(salt3, multipliers[3]!)) | 0;
    return (upper + lower) >>> this.shift;
  }

  private remove(stream: ReceivingStream): void {
    const { bucket } = stream;
    if (this.buckets[bucket] === stream) this.buckets[bucket] = stream.next;
    else {
      let before = this.buckets[bucket]!;
      while (before.next !== stream) before = before.next!;
      before.next = stream.next;
    }
    stream.next = undefined;
    this.unlink(stream);
    this.size--;
    stream.cipher.forget();
  }

  private append(stream: ReceivingStream): void {
    stream.older = this.newest;
    if (this.newest === undefined) this.oldest = stream;
    else this.newest.newer = stream;
    this.newest = stream;
  }

  private prepend(stream: ReceivingStream): void {
    stream.newer = this.oldest;
    if (this.oldest === undefined) this.newest = stream;
    else this.oldest.older = stream;
    this.oldest = stream;
  }

  private unlink(stream: ReceivingStream): void {
    if (stream.older === undefined) this.oldest = stream.newer;
    else stream.older.newer = stream.newer;
    if (stream.newer === undefined) this.newest = stream.older;
    else stream.newer.older = stream.older;
    stream.newer = undefined;
    stream.older = undefined;
  }
}

/** What one process receives. */
export class ReceivingStreams {
  /** By replica. */
  private readonly replicas: readonly StreamTable[];
  /**
   * By replica: how often a stream was used anew after one of its sender that is not earlier. Replays of what was
   * received do not count.
   */
  readonly returns: Float64Array;
  /** Made when the first client speaks. */
  private clients: StreamTable | undefined;
  /** Takes the key of an unknown salt, until its datagram has proven authentic. */
  private candidate: ReceivingStream | undefined;
  private readonly schedule: KeySchedule;
  private readonly multipliers = new Int32Array(4);

  constructor(
    private readonly source: StreamSource,
    replicas: number,
  ) {
    source.draw(this.multipliers);
    for (let i = 0; i < this.multipliers.length; i++) this.multipliers[i]! |= 1;
    this.replicas = Array.from({ length: replicas }, () => new StreamTable(REPLICA_STREAMS, this.multipliers));
    this.returns = new Float64Array(replicas);
    this.schedule = new KeySchedule(source);
    source.watch((slot) => this.forget(slot));
  }

  /**
   * Checks and decrypts a datagram in place, under the key in `slot`.
   * @param sender as the envelope names it
   * @param place of the host among the replicas; any larger number for a client, or a host that has none
   */
  open(
    slot: number,
    direction: Direction,
    sender: number,
    bytes: Uint8Array,
    offset: number,
    length: number,
    place: number = sender,
  ): Opened {
    const counter = readI32(bytes, offset + AT_NONCE + 4);
    // No sender counts as far, and none begins with 0.
    if (readI32(bytes, offset + AT_NONCE) !== 0 || counter <= 0) return Opened.stale;
    const table = this.replicas[place] ?? (this.clients ??= new StreamTable(CLIENT_STREAMS, this.multipliers));
    const stream = table.find(slot, bytes, offset + AT_SALT);
    if (stream === undefined) return this.openUnknown(table, slot, direction, sender, bytes, offset, length, place);
    if (stream.highest - counter > STALE_DATAGRAMS) return Opened.stale;
    if (!stream.cipher.open(bytes, offset, length)) return Opened.forged;
    if (counter > stream.highest) {
      stream.highest = counter;
      if (table.touch(stream) && place < this.returns.length) this.returns[place]!++;
    }
    return Opened.intact;
  }

  private openUnknown(
    table: StreamTable,
    slot: number,
    direction: Direction,
    sender: number,
    bytes: Uint8Array,
    offset: number,
    length: number,
    place: number,
  ): Opened {
    const candidate = (this.candidate ??= new ReceivingStream(this.source.cipher(false)));
    this.schedule.apply(candidate.cipher, slot, direction, sender, bytes, offset + AT_SALT);
    if (!candidate.cipher.open(bytes, offset, length)) return Opened.forged;
    candidate.highest = readI32(bytes, offset + AT_NONCE + 4);
    const host = place < this.returns.length ? sender : -1;
    this.candidate = table.add(candidate, slot, bytes, offset + AT_SALT, host);
    return Opened.intact;
  }

  private forget(slot: number): void {
    for (const table of this.replicas) table.forget(slot);
    this.clients?.forget(slot);
    this.candidate?.cipher.forget();
  }
}
