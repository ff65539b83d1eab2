/**
 * One process's way to the others through datagrams: the real outbox, envelope, keys, reader and address proofs, over
 * queues in memory instead of sockets. Everything is encrypted once the processes have heard each other. For core-rig.ts.
 */
import { Keyring } from '../src/host/keyring.js';
import { KEYS_SCHEMA, type KeyEntry } from '../src/host/key-file.js';
import { native } from '../src/native/addon.js';
import type { DatagramMemory } from '../src/native/aead.js';
import type { Hash64 } from '../src/native/hash64.js';
import { loadSipHash, SIP_SECRET_BYTES } from '../src/native/siphash.js';
import type { Instant } from '../src/protocol/contract.js';
import { ArrayPool } from '../src/transport/array-pool.js';
import { DatagramOutbox } from '../src/transport/datagram-outbox.js';
import { DatagramReader, type MessageHandler } from '../src/transport/datagram-reader.js';
import { TRANSPORT_COUNTER_NAMES, type Transport } from '../src/transport/transport.js';
import { writeProof } from '../src/wire/address-proofs.js';
import { copyBytes } from '../src/wire/copy.js';
import { CLIENT_SENDER, DEFAULT_DATAGRAM_BYTES, Envelope, MAX_DATAGRAM_BYTES } from '../src/wire/envelope.js';
import { Challenge, Proof, typeOf } from '../src/wire/messages.js';
import { Peers } from '../src/wire/peers.js';
import { WIRE_VERSION } from '../src/wire/versions.js';

/** Memory of the addon, if there is one: there, sealing and opening cost what they cost with the native transport. */
function memoryOf(length: number): Uint8Array {
  return native.available ? native.addon.hashArena(length).bytes : new Uint8Array(length);
}

/** Byte strings to one destination, in preallocated memory. */
export class Queue {
  readonly bytes: Uint8Array;
  readonly offsets: Int32Array;
  readonly lengths: Int32Array;
  readonly senders: Int32Array;
  count = 0;
  end = 0;

  constructor(entries: number) {
    this.bytes = memoryOf(entries * 256);
    this.offsets = new Int32Array(entries);
    this.lengths = new Int32Array(entries);
    this.senders = new Int32Array(entries);
  }

  hasRoom(length: number): boolean {
    return this.count < this.offsets.length && this.end + length <= this.bytes.length;
  }

  /** The next `length` bytes, from `end` on, are an entry. */
  add(length: number, from: number): void {
    this.offsets[this.count] = this.end;
    this.lengths[this.count] = length;
    this.senders[this.count] = from;
    this.count++;
    this.end += length;
  }

  clear(): void {
    this.count = 0;
    this.end = 0;
  }
}

const ARRAYS = 256;
const LARGE_ARRAYS = 4;

type UsedTransport = Pick<Transport, 'memory' | 'acquire' | 'release' | 'send' | 'flush' | 'sender' | 'counters'>;

/** Puts datagrams into the queues of their destinations. Those for which there is no room are lost. */
class MemoryTransport implements UsedTransport {
  readonly counters = new Float64Array(TRANSPORT_COUNTER_NAMES.length);
  /** Endpoint of the sender of the datagram that is being read. */
  reading = 0;
  readonly memory: DatagramMemory;
  private readonly pool: ArrayPool;
  private carved = 0;

  constructor(
    private readonly queues: readonly Queue[],
    private readonly self: number,
  ) {
    const transmit = memoryOf(ARRAYS * DEFAULT_DATAGRAM_BYTES + LARGE_ARRAYS * MAX_DATAGRAM_BYTES);
    this.memory = { received: queues[self]!.bytes, transmit };
    this.pool = new ArrayPool(DEFAULT_DATAGRAM_BYTES, ARRAYS, LARGE_ARRAYS, (length) =>
      transmit.subarray(this.carved, (this.carved += length)),
    );
  }

  acquire(length: number): Uint8Array | undefined {
    return this.pool.acquire(length);
  }

  release(bytes: Uint8Array): void {
    this.pool.release(bytes);
  }

  send(bytes: Uint8Array, length: number, to: number): void {
    const queue = this.queues[to]!;
    if (queue.hasRoom(length)) {
      copyBytes(bytes, 0, queue.bytes, queue.end, length);
      queue.add(length, this.self);
    }
    this.pool.release(bytes);
  }

  flush(): void {}

  sender(): number {
    return this.reading;
  }
}

const KEYS: readonly KeyEntry[] = [
  { id: 1, role: 'replica', secret: '11'.repeat(32) },
  { id: 2, role: 'client', secret: '22'.repeat(32) },
];
const CLUSTER = { hi: 1, lo: 2, id: '0000000100000002' };
const ENDPOINTS = 512;

export class DatagramEnd {
  readonly outbox: DatagramOutbox;
  /** Encrypted datagrams that were read. The first ones are in the previous version, which only authenticates. */
  encrypted = 0;
  private readonly envelope: Envelope;
  private readonly reader: DatagramReader;
  private readonly transport: MemoryTransport;

  /**
   * @param queues one for each endpoint, the replicas' first
   * @param self the endpoint of this process
   * @param receive takes the messages for the core
   */
  constructor(
    private readonly queues: readonly Queue[],
    private readonly self: number,
    replicas: number,
    hash: Hash64,
    now: Instant,
    receive: MessageHandler,
  ) {
    const isReplica = self < replicas;
    const sender = isReplica ? self : CLIENT_SENDER;
    const ring = new Keyring(
      { schema: KEYS_SCHEMA, cluster: CLUSTER.id, use: isReplica ? 1 : 2, keys: isReplica ? KEYS : KEYS.slice(1) },
      isReplica,
    );
    const envelope = new Envelope(hash, CLUSTER.hi, CLUSTER.lo, sender, replicas, ring);
    envelope.incarnation = 1;
    this.envelope = envelope;
    const peers = new Peers({
      self: sender,
      replicas,
      endpoints: ENDPOINTS,
      newest: WIRE_VERSION,
      now,
      keys: ring,
      numbers: loadSipHash(new Uint8Array(SIP_SECRET_BYTES).fill(self)),
    });
    this.transport = new MemoryTransport(queues, self);
    if (native.available) ring.useMemory(this.transport.memory);
    const outbox = new DatagramOutbox(
      this.transport as UsedTransport as Transport,
      envelope,
      DEFAULT_DATAGRAM_BYTES,
      peers,
    );
    this.outbox = outbox;
    this.reader = new DatagramReader(
      envelope,
      this.transport,
      isReplica,
      (bytes, offset, length, from, owner) => {
        const type = typeOf(bytes, offset);
        if (type === Proof.type) peers.prove(from, envelope.openedKey, bytes, offset);
        else if (type === Challenge.type) {
          const o = outbox.reserve(from, Proof.size);
          if (o >= 0) outbox.commit(writeProof(bytes, offset, outbox.bytes, o));
        } else receive(bytes, offset, length, from, owner);
      },
      peers,
      ring,
      (endpoint) => outbox.hello(endpoint),
      (endpoint, key, newest) => outbox.challengeUnder(key, endpoint, newest),
    );
  }

  /** The number of datagrams that wait. */
  get waiting(): number {
    return this.queues[this.self]!.count;
  }

  /** Reads one of the waiting datagrams. Returns how many messages it held. */
  read(index: number): number {
    const queue = this.queues[this.self]!;
    this.transport.reading = queue.senders[index]!;
    const messages = this.reader.read(queue.bytes, queue.offsets[index]!, queue.lengths[index]!);
    if (this.envelope.openedVersion === WIRE_VERSION) this.encrypted++;
    return messages;
  }

  /** All waiting datagrams were read. */
  clear(): void {
    this.queues[this.self]!.clear();
  }
}
