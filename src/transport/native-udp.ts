/**
 * The transport of the addon (native/udp.cc). It moves many datagrams with each system call, calls into JavaScript once
 * for each batch and out of it once for each turn, and allocates nothing for any datagram.
 *
 * Received datagrams lie in one array that the next batch overwrites. Arrays to send are views of another array, made
 * once. `send` records a datagram, `flush` sends all recorded ones. Datagrams for which the kernel has no room wait in
 * order, and their arrays stay lent until they are sent. So the number of arrays bounds how many can wait.
 */
import { getSystemErrorName } from 'node:util';
import type { NativeAddon } from '../native/addon.js';
import type { DatagramMemory } from '../native/aead.js';
import { NATIVE_IDLE, UdpEntry, UdpState, type UdpPort } from '../native/udp-port.js';
import { MAX_DATAGRAM_BYTES } from '../wire/envelope.js';
import { ArrayPool } from './array-pool.js';
import { bindError, bindingFor, bindingsOf, checkBuffer, noticeSendFailing, noticeUnbound } from './binding.js';
import {
  NOWHERE,
  TRANSPORT_COUNTER_NAMES,
  TransportCounter,
  type Address,
  type IdleStrategy,
  type Receiver,
  type Transport,
  type TransportOptions,
} from './transport.js';

/**
 * Most arrays in use at once: this many datagrams may wait for the kernel before more are dropped. The second bound is
 * in bytes; because of it there are fewer long arrays.
 */
const SMALL_ARRAYS_MAX = 1024;
const SMALL_ARRAYS_MIN = 128;
const SMALL_BYTES_MAX = 8 << 20;
const LARGE_ARRAYS = 64;

/** Waking a process takes about this long. Polling for longer would cost more than it saves. */
const SPIN_NS = 50_000;

export class NativeUdpTransport implements Transport {
  readonly kind = 'native';
  readonly batches = true;
  readonly counters: Float64Array;
  readonly memory: DatagramMemory;
  readonly idle: IdleStrategy;
  port = 0;

  private readonly udp: UdpPort;
  private readonly pool: ArrayPool;
  private readonly receiver: Receiver;
  private readonly batchEnd: () => void;
  private readonly received: Uint8Array;
  private readonly entries: Int32Array;
  private readonly state: Int32Array;
  private readonly sends: Int32Array;
  /** The arrays that `sends` describes, in order; undefined from `waiting` on. */
  private readonly arrays: (Uint8Array | undefined)[];
  private waiting = 0;
  /** Scratch space of `group`. */
  private readonly grouped: Int32Array;
  private readonly groupedArrays: (Uint8Array | undefined)[];
  /** How many of the `waiting` datagrams the kernel has refused once. */
  private deferred = 0;
  /** Bytes of the transmit slab already made into arrays. */
  private carved = 0;
  private sendFailing = false;
  private isClosed = false;
  /** Address families that have a socket. */
  private readonly families = new Set<4 | 6>();

  constructor(
    addon: NativeAddon,
    private readonly options: TransportOptions,
  ) {
    const { datagramBytes, replicas } = options;
    const places = options.places ?? replicas.length;
    const addresses = Array.from({ length: places }, (_, place) => replicas[place] ?? NOWHERE);
    const smallArrays = Math.max(
      SMALL_ARRAYS_MIN,
      Math.min(SMALL_ARRAYS_MAX, Math.floor(SMALL_BYTES_MAX / datagramBytes)),
    );
    const sends = smallArrays + LARGE_ARRAYS;
    this.idle = options.idle;
    this.udp = new addon.UdpPort({
      hosts: addresses.map(({ host }) => host),
      ports: addresses.map(({ port }) => port),
      replicas: options.hosts ?? places,
      endpoints: options.endpoints,
      transmitBytes: smallArrays * datagramBytes + LARGE_ARRAYS * MAX_DATAGRAM_BYTES,
      sends,
      datagramBytes,
      idle: NATIVE_IDLE[options.idle],
      spinNs: SPIN_NS,
      filter: options.filter,
      strangersAtOnce: options.strangers?.atOnce ?? 0,
      strangersPerSecond: options.strangers?.perSecond ?? 0,
      counters: TRANSPORT_COUNTER_NAMES,
    });
    const { received, entries, state, counters, transmit } = this.udp;
    this.received = received;
    this.memory = { received, transmit };
    this.entries = entries;
    this.state = state;
    this.sends = this.udp.sends;
    this.counters = counters;
    this.arrays = new Array<Uint8Array | undefined>(sends).fill(undefined);
    this.grouped = new Int32Array(this.sends.length);
    this.groupedArrays = new Array<Uint8Array | undefined>(sends).fill(undefined);
    this.pool = new ArrayPool(datagramBytes, smallArrays, LARGE_ARRAYS, (length) =>
      transmit.subarray(this.carved, (this.carved += length)),
    );
    this.receiver = options.receive;
    this.batchEnd = options.batchEnd;
  }

  async open(): Promise<void> {
    const { listen, replicas } = this.options;
    this.udp.start(
      () => this.onBatch(),
      () => this.batchEnd(),
      () => this.flush(),
      () => this.options.unreachable?.(this.state[UdpState.unreachable]!),
    );
    for (const binding of bindingsOf(listen, replicas)) {
      let bound: number;
      try {
        bound = this.bind(binding);
      } catch (error) {
        await this.close();
        throw bindError(error as NodeJS.ErrnoException, binding.host, binding.port, this.options.listenFrom);
      }
      if (this.port === 0 || binding.family === listen?.family) this.port = bound;
    }
  }

  /** Binds a socket and returns its port. Throws the system's error. */
  private bind({ host, port, family }: Address): number {
    const { notice, receiveBufferBytes, sendBufferBytes } = this.options;
    let bound: number;
    try {
      bound = this.udp.bind(host, port, receiveBufferBytes, sendBufferBytes);
    } catch (error) {
      throw withCode(error as NodeJS.ErrnoException);
    }
    this.families.add(family);
    checkBuffer(notice, 'receive', this.udp.bufferBytes(family, 'receive'), receiveBufferBytes);
    checkBuffer(notice, 'send', this.udp.bufferBytes(family, 'send'), sendBufferBytes);
    return bound;
  }

  acquire(length: number): Uint8Array | undefined {
    let bytes = this.pool.acquire(length);
    if (bytes === undefined && this.waiting > 0) {
      this.flush(); // a long turn: its datagrams so far may leave now
      bytes = this.pool.acquire(length);
    }
    if (bytes === undefined) this.counters[TransportCounter.send_queue_full]!++;
    return bytes;
  }

  release(bytes: Uint8Array): void {
    this.pool.release(bytes);
  }

  send(bytes: Uint8Array, length: number, endpoint: number): void {
    if (this.isClosed) {
      this.counters[TransportCounter.send_errors]!++;
      this.pool.release(bytes);
      return;
    }
    const at = this.waiting++;
    const field = at * UdpEntry.fields;
    this.arrays[at] = bytes;
    this.sends[field + UdpEntry.offset] = bytes.byteOffset;
    this.sends[field + UdpEntry.length] = length;
    this.sends[field + UdpEntry.endpoint] = endpoint;
  }

  flush(): void {
    const { waiting, arrays } = this;
    if (waiting === 0) return;
    if (waiting > 2 && this.deferred === 0) this.group();
    const done = this.udp.flush(waiting);
    for (let at = 0; at < done; at++) {
      this.pool.release(arrays[at]!);
      arrays[at] = undefined;
    }
    this.waiting = waiting - done;
    if (this.waiting > 0 || this.deferred > 0) this.keepDeferred(done);
    const errno = this.state[UdpState.sendErrno]!;
    if (errno !== 0 || this.sendFailing) this.noteErrno(errno);
  }

  sender(): number {
    const entry = this.state[UdpState.handled]! - 1;
    if (this.state[UdpState.dispatching] === 0 || entry < 0 || entry >= this.state[UdpState.received]!)
      throw new Error('a datagram has a sender while it is being received only');
    const known = this.entries[entry * UdpEntry.fields + UdpEntry.endpoint]!;
    return known >= 0 ? known : this.udp.intern(entry);
  }

  knownSender(): number {
    return this.entries[(this.state[UdpState.handled]! - 1) * UdpEntry.fields + UdpEntry.endpoint]!;
  }

  noteReplica(replica: number): void {
    this.udp.noteReplica(this.state[UdpState.handled]! - 1, replica);
  }

  kernelDrops(): number {
    return this.udp.kernelDrops();
  }

  isFiltered(): boolean {
    return this.udp.filtered();
  }

  endpointOf(host: string, port: number): number {
    return this.udp.endpointOf(host, port);
  }

  placeSender(place: number): void {
    this.udp.noteReplica(this.state[UdpState.handled]! - 1, place);
  }

  readdress(place: number, address: Address): void {
    if (this.isClosed) return;
    this.udp.readdress(place, address.host, address.port);
    if (address.host === '') return;
    if (this.families.has(address.family)) return;
    try {
      this.bind(bindingFor(address.family));
    } catch (error) {
      noticeUnbound(this.options.notice, address, error);
    }
  }

  endBatchSoon(): boolean {
    if (this.state[UdpState.dispatching] === 0) return false;
    this.state[UdpState.turnWanted] = 1;
    return true;
  }

  async close(): Promise<void> {
    if (this.isClosed) return;
    this.flush();
    this.isClosed = true;
    this.udp.close();
    for (let at = 0; at < this.waiting; at++) this.pool.release(this.arrays[at]!);
    this.waiting = 0;
  }

  private onBatch(): void {
    const { received, entries, state, receiver } = this;
    const count = state[UdpState.received]!;
    while (state[UdpState.handled]! < count && !this.isClosed) {
      const field = state[UdpState.handled]!++ * UdpEntry.fields;
      receiver(received, entries[field + UdpEntry.offset]!, entries[field + UdpEntry.length]!);
    }
    state[UdpState.handled]!++;
    if (!this.isClosed) this.batchEnd();
  }

  /**
   * Puts datagrams to one endpoint side by side, in their order, because the addon sends neighbours as one. If a turn
   * writes to several endpoints alternately, their datagrams are not neighbours without this.
   */
  private group(): void {
    const { waiting, sends, arrays, grouped, groupedArrays } = this;
    const { fields, endpoint } = UdpEntry;
    let placed = 0;
    for (let first = 0; placed < waiting; first++) {
      if (arrays[first] === undefined) continue;
      const to = sends[first * fields + endpoint]!;
      for (let at = first; at < waiting; at++) {
        if (arrays[at] === undefined || sends[at * fields + endpoint] !== to) continue;
        for (let field = 0; field < fields; field++) grouped[placed * fields + field] = sends[at * fields + field]!;
        groupedArrays[placed++] = arrays[at];
        arrays[at] = undefined;
      }
    }
    for (let at = 0; at < waiting; at++) {
      for (let field = 0; field < fields; field++) sends[at * fields + field] = grouped[at * fields + field]!;
      arrays[at] = groupedArrays[at];
      groupedArrays[at] = undefined;
    }
  }

  /** Moves datagrams that the kernel refused to the front of the lists. */
  private keepDeferred(done: number): void {
    const { arrays, waiting } = this;
    this.sends.copyWithin(0, done * UdpEntry.fields, (done + waiting) * UdpEntry.fields);
    arrays.copyWithin(0, done, done + waiting);
    if (done > 0) arrays.fill(undefined, waiting, done + waiting);
    const before = Math.max(0, this.deferred - done);
    this.counters[TransportCounter.send_deferred]! += waiting - before;
    this.deferred = waiting;
  }

  private noteErrno(errno: number): void {
    const failing = errno !== 0;
    if (failing && !this.sendFailing) noticeSendFailing(this.options.notice, `send ${getSystemErrorName(-errno)}`);
    this.sendFailing = failing;
  }
}

function withCode(error: NodeJS.ErrnoException): NodeJS.ErrnoException {
  if (typeof error.errno === 'number') error.code = getSystemErrorName(error.errno);
  return error;
}
