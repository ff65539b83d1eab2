/**
 * The JavaScript side of native/udp.cc: the sockets of one transport, the arrays shared with them, and the numbers by
 * which both sides name the fields in these arrays.
 */

/** How a port waits for datagrams: the addon's numbers. */
export const NATIVE_IDLE = Object.freeze({ block: 0, adaptive: 1, busy: 2 });

/** Int32 fields of an entry of `entries` (received) and of `sends` (to be sent). */
export const UdpEntry = Object.freeze({
  /** Where the datagram begins in `received` or `transmit`. */
  offset: 0,
  length: 1,
  /**
   * In a received entry: the sender's number, −1 if it has none yet (`intern` gives one), −2 for the address of a
   * replica.
   */
  endpoint: 2,
  fields: 3,
});

/** Fields of `state`. */
export const UdpState = Object.freeze({
  /** 1 while a callback runs, or promises that it settles. */
  dispatching: 0,
  /** Set by JavaScript while `dispatching`: call `onTurn` before anything else. */
  turnWanted: 1,
  /** Entries of the present batch. */
  received: 2,
  /**
   * How many entries `onBatch` has begun to handle, plus one for the end of the batch. Written by JavaScript; if a
   * receiver throws, `onBatch` is called again for the rest.
   */
  handled: 3,
  /** errno of the last datagram, 0 if it left. */
  sendErrno: 4,
  /** Replicas whose host reported that no process listens there, one bit each. Valid during `onUnreachable`. */
  unreachable: 5,
});

export interface UdpPortOptions {
  /** The numeric hosts and ports of replicas and other places, by number; the host is empty if there is none. */
  readonly hosts: readonly string[];
  readonly ports: readonly number[];
  /** How many of them are of replicas. */
  readonly replicas: number;
  /** Addresses other than replicas that have a number, a power of two up to 65,536. */
  readonly endpoints: number;
  readonly transmitBytes: number;
  /** Entries of `sends`. */
  readonly sends: number;
  /** Longer datagrams count as fragmented. */
  readonly datagramBytes: number;
  /** One of NATIVE_IDLE. */
  readonly idle: number;
  /** How long `adaptive` polls after a flush. */
  readonly spinNs: number;
  /** A program of classic BPF: which datagrams the kernel delivers. Undefined: all. */
  readonly filter?: Uint8Array | undefined;
  /**
   * Most datagrams from addresses that have no number and are no replica's: at once, and a second; 0 a second: any number.
   * The others are dropped and counted.
   */
  readonly strangersAtOnce: number;
  readonly strangersPerSecond: number;
  /** Names of `counters`; the addon finds those that it counts. */
  readonly counters: readonly string[];
}

/** Throws TypeError `invalid-argument` for invalid options. */
export interface UdpPort {
  readonly received: Uint8Array;
  readonly entries: Int32Array;
  readonly transmit: Uint8Array;
  readonly sends: Int32Array;
  readonly state: Int32Array;
  readonly counters: Float64Array;
  /**
   * Call it once, before `bind`. `onBatch`: `state[received]` datagrams are described in `entries`. `onTurn`: as
   * `state[turnWanted]` requested. `onWritable`: the kernel has room again after an incomplete `flush`.
   * `onUnreachable`: ICMP messages reported that no process listens at the addresses of `state[unreachable]`.
   */
  start(onBatch: () => void, onTurn: () => void, onWritable: () => void, onUnreachable: () => void): void;
  /**
   * Opens a socket for the family of `host`; returns its port. Throws an Error with `errno` (negative) and `syscall`.
   */
  bind(host: string, port: number, receiveBufferBytes: number, sendBufferBytes: number): number;
  /** The size that the kernel granted, in its own terms: twice the requested size. */
  bufferBytes(family: 4 | 6, direction: 'receive' | 'send'): number;
  /**
   * Sends the first `count` entries of `sends`. Returns how many are finished, sent or lost; the rest waits for room.
   */
  flush(count: number): number;
  /** Number of the sender of an entry of the present batch. */
  intern(entry: number): number;
  endpointOf(host: string, port: number): number;
  /**
   * An entry of the present batch is an authentic datagram of this replica: its address is one of a replica. A place
   * that is no replica's is written to at that address from now on.
   */
  noteReplica(entry: number, place: number): void;
  /** Datagrams that the kernel dropped at the sockets, for any reason. −1 if it does not say. */
  kernelDrops(): number;
  /** Whether each socket has the filter. */
  filtered(): boolean;
  /** The replica or place has a new address; an empty host: none. */
  readdress(place: number, host: string, port: number): void;
  /**
   * The descriptors are closed when it returns, and no callback is called afterwards. Calling it again does nothing.
   */
  close(): void;
}
