/**
 * The envelope: what stands before the messages of a datagram, `[magic+version, clusterId, sender, keyId, mac]`, 41
 * bytes, all fixed widths, so that the first message starts at a constant offset.
 *
 * The mac field guards the whole datagram, itself counted as zeros. Under key id 0 (a cluster without keys) it holds an
 * XXH3-64 checksum and eight zero bytes: UDP's own 16 bits are too few to stake a log on. There is no
 * authentication in wire version 2: a datagram with any other key id is dropped and counted.
 */
import { readI32, readU16, writeI32, writeU16 } from './u64.js';

/** Writes the 8-byte big-endian XXH3-64 of a range into `out`. The addon and its JavaScript stand-in both do. */
export interface Hash64 {
  hash64(bytes: Uint8Array, offset: number, length: number, out: Uint8Array, outOffset: number): void;
}

/** 'J' 'I' 'T' and the version of the wire. */
export const WIRE_VERSION = 2;
const MAGIC_VERSION = (0x4a << 24) | (0x49 << 16) | (0x54 << 8) | WIRE_VERSION;

export const ENVELOPE_BYTES = 41;
const AT_MAGIC = 2;
const AT_CLUSTER = 7;
const AT_SENDER = 16;
const AT_KEY = 19;
const AT_MAC = 25;
const MAC_BYTES = 16;

/** The sender field of a client. */
export const CLIENT_SENDER = 0xffff;

/** Payload of a datagram that fits an Ethernet frame whole: 1,500 less IPv6 and UDP headers, less a VLAN and tunnel margin. */
export const DEFAULT_DATAGRAM_BYTES = 1432;

/** A single message may be this long with its envelope; it then travels alone and the kernel fragments it. */
export const MAX_DATAGRAM_BYTES = 60_000;

/** Names of what `open` and `validate` refuse, as in metrics. Index = −code. */
export const DROP_REASON_NAMES: readonly string[] = ['', 'truncated', 'unknown-type', 'marker', 'number', 'magic', 'version', 'cluster', 'sender', 'key', 'checksum', 'oversized', 'empty'];

const Refused = { truncated: -1, marker: -3, magic: -5, version: -6, cluster: -7, sender: -8, key: -9, checksum: -10, oversized: -11, empty: -12 } as const;

/** Markers of the envelope's five values, by offset. */
const FIXED: readonly (readonly [number, number])[] = [
  [0, 0x95],
  [1, 0xce],
  [6, 0xcf],
  [15, 0xcd],
  [18, 0xce],
  [23, 0xc4],
  [24, MAC_BYTES],
];

/**
 * Seals and opens the datagrams of one cluster for one sender. Holds scratch space, so one instance serves one thread.
 */
export class Envelope {
  private readonly digest = new Uint8Array(8);

  /**
   * @param clusterHi,clusterLo the 64-bit cluster id; datagrams of another cluster are refused
   * @param sender replica index, or CLIENT_SENDER
   * @param replicas number of replicas; a sender at or above it is a client or refused
   */
  constructor(
    private readonly hash: Hash64,
    private readonly clusterHi: number,
    private readonly clusterLo: number,
    private readonly sender: number,
    private readonly replicas: number,
  ) {}

  /** Writes the envelope into the first ENVELOPE_BYTES of a datagram whose messages already stand behind it. */
  seal(bytes: Uint8Array, offset: number, length: number): void {
    for (let i = 0; i < FIXED.length; i++) bytes[offset + FIXED[i]![0]] = FIXED[i]![1];
    writeI32(bytes, offset + AT_MAGIC, MAGIC_VERSION);
    writeI32(bytes, offset + AT_CLUSTER, this.clusterHi);
    writeI32(bytes, offset + AT_CLUSTER + 4, this.clusterLo);
    writeU16(bytes, offset + AT_SENDER, this.sender);
    writeI32(bytes, offset + AT_KEY, 0);
    for (let i = 0; i < MAC_BYTES; i++) bytes[offset + AT_MAC + i] = 0;
    this.hash.hash64(bytes, offset, length, this.digest, 0);
    for (let i = 0; i < 8; i++) bytes[offset + AT_MAC + i] = this.digest[i]!;
  }

  /**
   * Checks a received datagram: the sender (replica index or CLIENT_SENDER), or a negative code whose name is
   * `DROP_REASON_NAMES[-code]`. Never throws. The mac field is zeroed on the way.
   */
  open(bytes: Uint8Array, offset: number, length: number): number {
    if (length > MAX_DATAGRAM_BYTES) return Refused.oversized;
    if (length < ENVELOPE_BYTES) return Refused.truncated;
    for (let i = 0; i < FIXED.length; i++) {
      if (bytes[offset + FIXED[i]![0]] !== FIXED[i]![1]) return Refused.marker;
    }
    const magic = readI32(bytes, offset + AT_MAGIC);
    if (magic !== MAGIC_VERSION) return magic >>> 8 === MAGIC_VERSION >>> 8 ? Refused.version : Refused.magic;
    if (readI32(bytes, offset + AT_CLUSTER) !== this.clusterHi || readI32(bytes, offset + AT_CLUSTER + 4) !== this.clusterLo) return Refused.cluster;
    const sender = readU16(bytes, offset + AT_SENDER);
    if (sender >= this.replicas && sender !== CLIENT_SENDER) return Refused.sender;
    if (readI32(bytes, offset + AT_KEY) !== 0) return Refused.key;
    const macHi = readI32(bytes, offset + AT_MAC);
    const macLo = readI32(bytes, offset + AT_MAC + 4);
    for (let i = 8; i < MAC_BYTES; i++) if (bytes[offset + AT_MAC + i] !== 0) return Refused.checksum;
    for (let i = 0; i < 8; i++) bytes[offset + AT_MAC + i] = 0;
    this.hash.hash64(bytes, offset, length, this.digest, 0);
    if (readI32(this.digest, 0) !== macHi || readI32(this.digest, 4) !== macLo) return Refused.checksum;
    if (length === ENVELOPE_BYTES) return Refused.empty;
    return sender;
  }
}
