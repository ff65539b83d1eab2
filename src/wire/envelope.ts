/**
 * The envelope precedes the messages of a datagram. All its fields have fixed widths. It has two forms.
 *
 * *Encrypted*, under a key, from version 5 on: `[magic+version, nonce, sender, keyId, tag]`, the salt, and the messages
 * as one byte string; 62 bytes without them. AES-128-GCM encrypts the messages and authenticates everything. streams.ts
 * has the keys and nonces. The cluster id is part of the key.
 *
 * *Guarded*: `[magic+version, clusterId, sender, keyId, mac]`, 41 bytes, and the messages behind it. The mac field
 * guards the whole datagram, in which the field itself counts as zeros. Under a key, in version 4, it holds HMAC-SHA-256
 * cut to 128 bits. Under key id 0 (a cluster without keys) it holds an XXH3-64 checksum and eight zero bytes, because
 * UDP's own 16 bits are too few to protect a log. The rule: a process with keys accepts nothing under id 0; a process
 * without keys accepts nothing else.
 */
import {
  AT_NONCE,
  AT_SALT,
  Direction,
  Opened,
  ReceivingStreams,
  SendingStreams,
  type StreamSource,
} from './streams.js';
import { HOST_PLACES, HostIds, UNLISTED } from './host-ids.js';
import { readI32, readU16, writeI32, writeU16 } from './u64.js';
import { PREVIOUS_WIRE_VERSION, WIRE_VERSION } from './versions.js';

/**
 * Writes the 8-byte big-endian XXH3-64 of a range into `out`. Both the addon and its JavaScript stand-in provide it.
 */
export interface Hash64 {
  hash64(bytes: Uint8Array, offset: number, length: number, out: Uint8Array, outOffset: number): void;
}

/**
 * The keys of one process. A *slot* is a small number for a key that the process has now. The slot of a removed key is
 * never used again for that key.
 */
export interface Keyring extends StreamSource {
  /** The slot of a key id from the wire, or −1. */
  find(keyId: number): number;
  /**
   * Whether this sender (a host's id or CLIENT_SENDER) may use the key. A client's key cannot speak for a replica.
   */
  permits(slot: number, sender: number): boolean;
  /**
   * The client that owns a key: the id of its first key. A session belongs to one client
   * (protocol/log/session-owner.ts).
   */
  ownerOf(slot: number): number;
  /** False for a read-only key: see isReadOnly in messages.ts. */
  mayWrite(slot: number): boolean;
  /** Whether its holder may ask for a change of the members: see isConfiguring in messages.ts. */
  mayConfigure(slot: number): boolean;
  /** The id of the key in a slot, or 0 if it was removed. */
  idOf(slot: number): number;
  /**
   * Writes the 16-byte MAC of a range into `out`, under the key of a slot that `find` returned or whose `idOf` is not
   * 0.
   */
  mac128(slot: number, bytes: Uint8Array, offset: number, length: number, out: Uint8Array, outOffset: number): void;
}

/** The slot of datagrams without a key, which a checksum guards. */
export const NO_KEY = -1;

/** 'J' 'I' 'T', and room for the version byte. */
export const MAGIC = (0x4a << 24) | (0x49 << 16) | (0x54 << 8);

/** Length of a guarded envelope. */
export const ENVELOPE_BYTES = 41;
/** Length of an encrypted envelope. */
export const SEALED_ENVELOPE_BYTES = 62;
/** For lengths of messages that fit in any envelope. */
export const ENVELOPE_BYTES_MAX = SEALED_ENVELOPE_BYTES;
/** The first version that encrypts under keys. */
export const ENCRYPTED_VERSION = 5;
export const AT_MAGIC = 2;
export const AT_CLUSTER = 7;
const AT_SENDER = 16;
const AT_KEY = 19;
const AT_MAC = 25;
const MAC_BYTES = 16;
const AT_LENGTH = 60;

/** Where the parts of an encrypted datagram lie: see AeadFrame in native/aead.ts. */
export const SEALED_FRAME = {
  nonceAt: AT_NONCE,
  nonceBytes: 8,
  tagAt: AT_MAC,
  headBytes: AT_MAC,
  tailAt: AT_LENGTH - 1,
  tailBytes: 3,
  bodyAt: SEALED_ENVELOPE_BYTES,
} as const;

/** The sender field of a client. */
export const CLIENT_SENDER = 0xffff;

/** Payload that fits an Ethernet frame: 1,500 less IPv6 and UDP headers, less a margin for VLAN and tunnels. */
export const DEFAULT_DATAGRAM_BYTES = 1432;

/** Payload that fits a jumbo frame of 9,000 bytes, with the same deductions. */
export const JUMBO_DATAGRAM_BYTES = 8932;

/** The shortest allowed length of datagrams. Below it, some messages would not fit even without their bytes. */
export const DATAGRAM_BYTES_MIN = 256;

/** Longest single message, with its envelope. It travels alone, and the kernel fragments it. */
export const MAX_DATAGRAM_BYTES = 60_000;

/** Reasons for which `open` and `validate` refuse, as named in metrics. Index = −code. */
export const DROP_REASON_NAMES: readonly string[] = [
  '',
  'truncated',
  'unknown-type',
  'marker',
  'number',
  'magic',
  'version',
  'cluster',
  'sender',
  'key',
  'checksum',
  'oversized',
  'role',
  'crowded',
  'stale',
  'unproven',
  'outdated',
];

/** Counted by hosts: too many datagrams of one client were waiting. */
export const CROWDED = DROP_REASON_NAMES.indexOf('crowded');

/** The sender is a host that is not listed; or at a client, a client. */
export const SENDER_REFUSED = DROP_REASON_NAMES.indexOf('sender');

/** Counted by hosts: the datagram is under another key than its endpoint's, and no Proof has come under it (peers.ts). */
export const UNPROVEN = DROP_REASON_NAMES.indexOf('unproven');

/** Counted by hosts: the sender speaks only versions in which nothing is said any more (versions.ts). */
export const OUTDATED = DROP_REASON_NAMES.indexOf('outdated');

const Refused = {
  truncated: -1,
  marker: -3,
  magic: -5,
  version: -6,
  cluster: -7,
  sender: -8,
  key: -9,
  checksum: -10,
  oversized: -11,
  role: -12,
  stale: -14,
} as const;

/** Markers that both forms of the envelope have, by offset. */
export const FIXED: readonly (readonly [number, number])[] = [
  [0, 0x95],
  [1, 0xce],
  [6, 0xcf],
  [15, 0xcd],
  [18, 0xce],
  [23, 0xc4],
  [24, MAC_BYTES],
];

// The same one by one: for each datagram a loop over the list costs as much as a hash of it.
function writeMarkers(bytes: Uint8Array, o: number): void {
  bytes[o] = 0x95;
  bytes[o + 1] = 0xce;
  bytes[o + 6] = 0xcf;
  bytes[o + 15] = 0xcd;
  bytes[o + 18] = 0xce;
  bytes[o + 23] = 0xc4;
  bytes[o + 24] = MAC_BYTES;
}

function hasMarkers(bytes: Uint8Array, o: number): boolean {
  return (
    bytes[o] === 0x95 &&
    bytes[o + 1] === 0xce &&
    bytes[o + 6] === 0xcf &&
    bytes[o + 15] === 0xcd &&
    bytes[o + 18] === 0xce &&
    bytes[o + 23] === 0xc4 &&
    bytes[o + 24] === MAC_BYTES
  );
}

/** Markers of the salt and of the messages in an encrypted envelope. */
function writeSealedMarkers(bytes: Uint8Array, o: number): void {
  bytes[o + AT_SALT - 2] = 0xc4;
  bytes[o + AT_SALT - 1] = 16;
  bytes[o + AT_LENGTH - 1] = 0xc5;
}

function hasSealedMarkers(bytes: Uint8Array, o: number): boolean {
  return bytes[o + AT_SALT - 2] === 0xc4 && bytes[o + AT_SALT - 1] === 16 && bytes[o + AT_LENGTH - 1] === 0xc5;
}

/**
 * Seals and opens the datagrams of one cluster for one sender. Has scratch space, so one instance serves one thread.
 */
export class Envelope {
  /** The slot of the key of the last datagram that `open` accepted, or NO_KEY. */
  openedKey = NO_KEY;
  /** The version in which that datagram was written. */
  openedVersion = WIRE_VERSION;
  /** The newest version that its sender speaks. */
  openedNewest = WIRE_VERSION;
  /** Length of its envelope, behind which its messages begin. */
  openedBytes = ENVELOPE_BYTES;
  /** The id of the last sender that is not listed and whose datagram was intact. */
  openedId = CLIENT_SENDER;
  /** Which hosts are listed. */
  readonly ids: HostIds;
  /** By slot: datagrams that named this key and were not authentic under it. Shorter than the slots, or with holes. */
  readonly forged: number[] = [];

  /** The value at AT_MAGIC of a datagram in this process's newest version, if that is its sender's newest as well. */
  private readonly ownMagic: number;
  /**
   * The expected mac field of a received datagram. A process either has keys or has none, so a checksum is always
   * followed by zeros.
   */
  private readonly digest = new Uint8Array(MAC_BYTES);
  private readonly newestRead: number;
  /** By version: length of the envelope. */
  private readonly lengths = new Uint8Array(16).fill(ENVELOPE_BYTES);
  /** Undefined in a cluster without keys. */
  private readonly sending: SendingStreams | undefined;
  private readonly receiving: ReceivingStreams | undefined;
  /** By slot: how often an earlier stream of its host spoke anew (streams.ts). Zeros without keys. */
  readonly streamReturns: Float64Array;

  /**
   * @param clusterHi,clusterLo the 64-bit cluster id; datagrams of other clusters are refused
   * @param sender this host's id, or CLIENT_SENDER
   * @param replicas number of the cluster file's replicas: the hosts that are listed until `ids` is told otherwise
   * @param keys undefined in a cluster without keys
   * @param newest the newest version in which this process writes. It reads newer ones that it knows, so that a cluster
   * can be held back to an older version one process at a time
   * @param oldest the oldest version that it reads
   */
  constructor(
    private readonly hash: Hash64,
    private readonly clusterHi: number,
    private readonly clusterLo: number,
    private readonly sender: number,
    replicas: number,
    private readonly keys?: Keyring,
    readonly newest: number = WIRE_VERSION,
    private readonly oldest: number = PREVIOUS_WIRE_VERSION,
  ) {
    this.ids = new HostIds(replicas);
    this.ownMagic = magicOf(newest, newest);
    this.newestRead = Math.max(newest, WIRE_VERSION);
    const places = Math.max(replicas, HOST_PLACES);
    this.receiving = keys === undefined ? undefined : new ReceivingStreams(keys, places);
    this.streamReturns = this.receiving?.returns ?? new Float64Array(places);
    if (keys === undefined) return;
    this.lengths.fill(SEALED_ENVELOPE_BYTES, ENCRYPTED_VERSION);
    this.sending = new SendingStreams(keys, sender, sender !== CLIENT_SENDER);
  }

  /** Length of this process's envelopes in a version. */
  bytesIn(version: number): number {
    return this.lengths[version]!;
  }

  /** A replica's incarnation became known: the salts of its streams hold it. */
  set incarnation(incarnation: number) {
    if (this.sending !== undefined) this.sending.incarnation = incarnation;
  }

  /**
   * Writes the envelope into the first `bytesIn(version)` bytes of a datagram whose messages already follow it, and
   * encrypts them if the version does. False if this process has keys, but no key in `slot` (it was removed, or never
   * existed). The datagram must then not be sent.
   */
  seal(
    bytes: Uint8Array,
    offset: number,
    length: number,
    slot: number = NO_KEY,
    version: number = this.newest,
  ): boolean {
    const { keys } = this;
    const keyId = keys === undefined || slot === NO_KEY ? 0 : keys.idOf(slot);
    if (keys !== undefined && keyId === 0) return false;
    writeMarkers(bytes, offset);
    writeI32(bytes, offset + AT_MAGIC, version === this.newest ? this.ownMagic : magicOf(version, this.newest));
    writeU16(bytes, offset + AT_SENDER, this.sender);
    writeI32(bytes, offset + AT_KEY, keyId);
    if (keyId !== 0 && version >= ENCRYPTED_VERSION) {
      writeSealedMarkers(bytes, offset);
      writeU16(bytes, offset + AT_LENGTH, length - SEALED_ENVELOPE_BYTES);
      this.sending!.seal(slot, this.directionTo(slot), bytes, offset, length);
      return true;
    }
    writeI32(bytes, offset + AT_CLUSTER, this.clusterHi);
    writeI32(bytes, offset + AT_CLUSTER + 4, this.clusterLo);
    this.guard(bytes, offset, length, keyId === 0 ? NO_KEY : slot, bytes, offset + AT_MAC);
    return true;
  }

  /**
   * Checks a received datagram. Returns the sender (a host's slot or CLIENT_SENDER), or a negative code whose name is
   * `DROP_REASON_NAMES[-code]`. The code `sender` is given to a datagram that is intact and comes from a host that is
   * not listed: its messages may be read. Never throws. Decrypts in place; what else it refuses may be garbage
   * afterwards. Overwrites the mac field of a guarded datagram with zeros.
   */
  open(bytes: Uint8Array, offset: number, length: number): number {
    if (length > MAX_DATAGRAM_BYTES) return Refused.oversized;
    if (length < ENVELOPE_BYTES) return Refused.truncated;
    if (!hasMarkers(bytes, offset)) return Refused.marker;
    const magic = readI32(bytes, offset + AT_MAGIC);
    let version = this.newest;
    let newest = this.newest;
    if (magic !== this.ownMagic) {
      if (magic >>> 8 !== MAGIC >>> 8) return Refused.magic;
      version = magic & 0x0f;
      newest = (magic >>> 4) & 0x0f;
      if (version > this.newestRead || newest < version) return Refused.version;
      if (version < this.oldest && !this.isEarlyHello(version, newest, length)) return Refused.version;
    }
    const keyId = readI32(bytes, offset + AT_KEY);
    const isSealed = this.keys !== undefined && keyId !== 0 && version >= ENCRYPTED_VERSION;
    if (isSealed) {
      if (length < SEALED_ENVELOPE_BYTES) return Refused.truncated;
      if (!hasSealedMarkers(bytes, offset)) return Refused.marker;
      if (readU16(bytes, offset + AT_LENGTH) !== length - SEALED_ENVELOPE_BYTES) return Refused.truncated;
    } else if (
      readI32(bytes, offset + AT_CLUSTER) !== this.clusterHi ||
      readI32(bytes, offset + AT_CLUSTER + 4) !== this.clusterLo
    )
      return Refused.cluster;
    const sender = readU16(bytes, offset + AT_SENDER);
    const from = sender === CLIENT_SENDER ? CLIENT_SENDER : this.ids.slotOf(sender);
    const slot = this.keys === undefined || keyId === 0 ? NO_KEY : this.keys.find(keyId);
    if ((this.keys === undefined) !== (keyId === 0) || (keyId !== 0 && slot < 0)) return Refused.key;
    if (isSealed) {
      if (!this.keys!.permits(slot, sender)) return Refused.role;
      const opened = this.receiving!.open(slot, this.directionFrom(sender), sender, bytes, offset, length, from);
      if (opened !== Opened.intact) return opened === Opened.stale ? Refused.stale : this.refuseForged(slot);
      this.openedKey = slot;
      this.openedVersion = version;
      this.openedNewest = newest;
      this.openedBytes = SEALED_ENVELOPE_BYTES;
      return from === UNLISTED ? this.refuseUnlisted(sender) : from;
    }
    const at = offset + AT_MAC;
    const a = readI32(bytes, at);
    const b = readI32(bytes, at + 4);
    const c = readI32(bytes, at + 8);
    const d = readI32(bytes, at + 12);
    const { digest } = this;
    this.guard(bytes, offset, length, slot, digest, 0);
    // All four words are always compared, so the time does not reveal how much of a guess was right.
    const difference =
      (readI32(digest, 0) ^ a) | (readI32(digest, 4) ^ b) | (readI32(digest, 8) ^ c) | (readI32(digest, 12) ^ d);
    if (difference !== 0) return this.refuseForged(slot);
    if (slot >= 0 && !this.keys!.permits(slot, sender)) return Refused.role;
    this.openedKey = slot;
    this.openedVersion = version;
    this.openedNewest = newest;
    this.openedBytes = ENVELOPE_BYTES;
    return from === UNLISTED ? this.refuseUnlisted(sender) : from;
  }

  private refuseUnlisted(id: number): number {
    this.openedId = id;
    return Refused.sender;
  }

  private refuseForged(slot: number): number {
    if (slot >= 0) this.forged[slot] = (this.forged[slot] ?? 0) + 1;
    return Refused.checksum;
  }

  /**
   * A process of the previous version that has heard nobody writes in the version before that, which is read no more. So
   * its hello, which holds no message, is read and answered: from the answer it learns to write in its own version.
   */
  private isEarlyHello(version: number, newest: number, length: number): boolean {
    return (
      this.oldest === PREVIOUS_WIRE_VERSION &&
      version === PREVIOUS_WIRE_VERSION - 1 &&
      newest >= PREVIOUS_WIRE_VERSION &&
      length === ENVELOPE_BYTES
    );
  }

  private directionTo(slot: number): Direction {
    if (this.sender === CLIENT_SENDER) return Direction.toReplica;
    return this.keys!.permits(slot, this.sender) ? Direction.betweenReplicas : Direction.toClient;
  }

  private directionFrom(sender: number): Direction {
    if (sender === CLIENT_SENDER) return Direction.toReplica;
    return this.sender === CLIENT_SENDER ? Direction.toClient : Direction.betweenReplicas;
  }

  /** Zeroes the mac field, then writes its right value to `out`, which may be the field itself. */
  private guard(
    bytes: Uint8Array,
    offset: number,
    length: number,
    slot: number,
    out: Uint8Array,
    outOffset: number,
  ): void {
    const at = offset + AT_MAC;
    for (let i = 0; i < MAC_BYTES; i += 4) writeI32(bytes, at + i, 0);
    if (slot >= 0) this.keys!.mac128(slot, bytes, offset, length, out, outOffset);
    else this.hash.hash64(bytes, offset, length, out, outOffset); // the other eight bytes of `digest` and of the field are zeros
  }
}

/** The version that an intact datagram is written in. */
export function writtenVersion(bytes: Uint8Array, offset: number): number {
  return bytes[offset + AT_MAGIC + 3]! & 0x0f;
}

function magicOf(version: number, newest: number): number {
  return MAGIC | (newest << 4) | version;
}
