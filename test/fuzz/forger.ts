/**
 * Datagrams that only somebody without a key would send: authentic ones of either version, changed in any way that is
 * possible on a path, authentic ones that have grown old or come back to where they are not for, and invented ones.
 */
import { Keyring } from '../../src/host/keyring.js';
import type { Random } from '../../src/sim/random.js';
import { AT_MAGIC, CLIENT_SENDER, ENVELOPE_BYTES, SEALED_ENVELOPE_BYTES } from '../../src/wire/envelope.js';
import { AT_NONCE, AT_SALT } from '../../src/wire/streams.js';
import { readI32, readU16, writeI32, writeU16 } from '../../src/wire/u64.js';
import { PREVIOUS_WIRE_VERSION, WIRE_VERSION } from '../../src/wire/versions.js';
import { CLIENT, envelopeOf, keyFile, KEYS, REPLICAS, type FuzzCluster, type Recorded } from './cluster.js';

const AT_SENDER = 16;
const AT_KEY = 19;
const AT_TAG = 25;
const TAG_BYTES = 16;
const SALT_BYTES = 16;
const AT_LENGTH = SEALED_ENVELOPE_BYTES - 2;

export const FORGERIES = [
  'bits',
  'envelope byte',
  'cut',
  'joined',
  'messages of another',
  'checksum',
  'secret of another',
  'invented',
  'salt',
  'counter',
  'sender',
  'key',
  'version',
  'tag',
  'old',
  'astray',
] as const;
export type Forgery = (typeof FORGERIES)[number];

export class Forger {
  /** How often each was made. */
  readonly made: Record<Forgery, number> = Object.fromEntries(FORGERIES.map((name) => [name, 0])) as Record<
    Forgery,
    number
  >;
  /** For whom the forgery is: a replica, or the client. */
  target = 0;
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
  private readonly authentic: Uint8Array;
  private authenticBytes = 0;

  constructor(
    private readonly random: Random,
    /** Where the forgery is written. */
    private readonly bytes: Uint8Array,
  ) {
    this.authentic = new Uint8Array(bytes.length);
  }

  /** Writes a forgery and returns its length; −1 if none was made, or it became an authentic datagram again. */
  forge(cluster: FuzzCluster): number {
    const { random, bytes } = this;
    const kind = random.pick(FORGERIES);
    const recorded = random.pick(cluster.corpus);
    this.target = random.below(REPLICAS + 1);
    this.take(cluster, recorded, kind);
    const length = this.change(kind, cluster, recorded);
    if (length < 0) return -1;
    if (kind !== 'old' && kind !== 'astray' && length === this.authenticBytes && same(bytes, this.authentic, length))
      return -1;
    this.made[kind]++;
    return length;
  }

  /** Puts an authentic datagram into `bytes`: the recorded one, or its messages in the previous version. */
  private take(cluster: FuzzCluster, { bytes: recorded, messages, version, to }: Recorded, kind: Forgery): void {
    const { random, bytes, authentic } = this;
    this.authenticBytes = recorded.length;
    bytes.set(recorded);
    if (kind !== 'old' && kind !== 'astray' && version === WIRE_VERSION && random.chance(0.2)) {
      const who = cluster.speakers[to < REPLICAS ? random.below(REPLICAS + 1) : random.below(REPLICAS)]!;
      const key = to < REPLICAS ? who.ring.own : cluster.ring.find(KEYS[1].id);
      bytes.set(messages, ENVELOPE_BYTES);
      this.authenticBytes = ENVELOPE_BYTES + messages.length;
      who.envelope.seal(bytes, 0, this.authenticBytes, key, PREVIOUS_WIRE_VERSION);
    }
    authentic.set(bytes.subarray(0, this.authenticBytes));
  }

  private change(kind: Forgery, cluster: FuzzCluster, recorded: Recorded): number {
    const { random, bytes } = this;
    const length = this.authenticBytes;
    const isSealed = (bytes[AT_MAGIC + 3]! & 0x0f) === WIRE_VERSION;
    switch (kind) {
      case 'bits':
        for (let i = random.between(1, 4); i > 0; i--) bytes[random.below(length)]! ^= 1 << random.below(8);
        return length;
      case 'envelope byte': // that its sender could have written
        bytes[random.below(isSealed ? SEALED_ENVELOPE_BYTES : ENVELOPE_BYTES)] = random.below(256);
        return length;
      case 'cut':
        return this.resized(random.below(length), isSealed);
      case 'joined': {
        // with the messages of another authentic one
        const { bytes: other } = random.pick(cluster.corpus);
        bytes.set(other.subarray(SEALED_ENVELOPE_BYTES), length);
        return this.resized(length + Math.max(0, other.length - SEALED_ENVELOPE_BYTES), isSealed);
      }
      case 'messages of another': {
        const { bytes: other } = random.pick(cluster.corpus);
        bytes.set(other.subarray(SEALED_ENVELOPE_BYTES), SEALED_ENVELOPE_BYTES);
        return this.resized(Math.max(length, other.length), isSealed);
      }
      case 'checksum': // in place of a key
        random.pick(this.checksummed).seal(bytes, 0, length);
        return length;
      case 'secret of another': // under the right id
        random
          .pick(this.strangers)
          .seal(
            bytes,
            0,
            Math.max(length, SEALED_ENVELOPE_BYTES),
            this.strangerRing.find(random.between(1, KEYS.length)),
            random.chance(0.2) ? PREVIOUS_WIRE_VERSION : WIRE_VERSION,
          );
        return Math.max(length, SEALED_ENVELOPE_BYTES);
      case 'invented':
        return this.invented();
      case 'salt':
        if (!isSealed || random.chance(0.3)) bytes[AT_SALT + random.below(SALT_BYTES)]! ^= 1 << random.below(8);
        else this.copyFrom(random.pick(cluster.corpus).bytes, AT_SALT, SALT_BYTES); // of another stream, or of the same
        return length;
      case 'counter':
        this.changeCounter();
        return length;
      case 'sender':
        writeU16(bytes, AT_SENDER, random.pick(SENDERS));
        return length;
      case 'key':
        writeI32(bytes, AT_KEY, random.pick(KEY_IDS));
        return length;
      case 'version':
        bytes[AT_MAGIC + 3] = random.chance(0.5) ? random.below(256) : random.pick(VERSION_BYTES);
        return length;
      case 'tag':
        if (random.chance(0.5)) this.copyFrom(random.pick(cluster.corpus).bytes, AT_TAG, TAG_BYTES);
        else for (let i = 0; i < TAG_BYTES; i++) bytes[AT_TAG + i] = random.next();
        return length;
      case 'old': // unchanged, at its own receiver, which has heard much since
        if (!cluster.isOld(recorded)) return -1;
        this.target = Math.min(recorded.to, CLIENT);
        return length;
      case 'astray': // unchanged: from a replica for a client at a replica, or the other way round
        this.target = recorded.to < REPLICAS ? CLIENT : random.below(REPLICAS);
        return length;
    }
  }

  /** The length, which usually also stands in an encrypted datagram, so that only the tag can show the change. */
  private resized(length: number, isSealed: boolean): number {
    const { random, bytes } = this;
    const fitting = Math.min(length, bytes.length - 4);
    if (isSealed && fitting >= SEALED_ENVELOPE_BYTES && random.chance(0.8))
      writeU16(bytes, AT_LENGTH, fitting - SEALED_ENVELOPE_BYTES);
    return fitting;
  }

  private copyFrom(other: Uint8Array, at: number, length: number): void {
    for (let i = 0; i < length && at + i < other.length; i++) this.bytes[at + i] = other[at + i]!;
  }

  private changeCounter(): void {
    const { random, bytes } = this;
    const at = AT_NONCE + 4;
    const counter = readI32(bytes, at);
    const near = counter + random.between(-3, 3);
    writeI32(bytes, at, random.pick([near, counter + 70_000, counter - 70_000, 0, -1, 2 ** 31 - 1, random.next()]));
    if (random.chance(0.1)) writeI32(bytes, AT_NONCE, random.next());
  }

  /** Usually with the envelope of a real one. */
  private invented(): number {
    const { random, bytes } = this;
    const length = random.chance(0.003) ? random.below(bytes.length - 4) : random.below(300);
    const from = random.chance(0.7) ? AT_TAG : 0;
    for (let i = from; i < length; i += 4) writeI32(bytes, i, random.next());
    return this.resized(length, readU16(bytes, 0) !== 0);
  }
}

const SENDERS = [0, 1, 2, REPLICAS, 7, 0xfffe, CLIENT_SENDER];
const KEY_IDS = [0, 1, 2, 3, 4, -1];
/** The version of the datagram, and the newest that its sender speaks. */
const VERSION_BYTES = [0x33, 0x43, 0x44, 0x54, 0x55, 0x45, 0x65, 0x66, 0xf5];

function same(a: Uint8Array, b: Uint8Array, length: number): boolean {
  for (let i = 0; i < length; i++) if (a[i] !== b[i]) return false;
  return true;
}
