/**
 * What moves datagrams, and the names it has for where they go.
 *
 * An *endpoint* is a number: 0…N−1 are the replicas, larger ones are whoever else sent us something
 * (endpoint-table.ts). The rule: nothing that a datagram says sizes an allocation, takes an endpoint or makes a
 * transport throw, before the caller has checked the datagram and asked for its sender.
 *
 * Arrays belong to the transport. `acquire` lends one, `send` or `release` gives it back, and a datagram is written where
 * it is sent from.
 */

/** Called for each datagram. The bytes are valid, and may be overwritten, during the call only. */
export type Receiver = (bytes: Uint8Array, offset: number, length: number) => void;

/** Where a socket listens or a replica is found: numeric address, never a name. */
export interface Address {
  /** Empty: not known yet; what is sent there is dropped and counted. */
  readonly host: string;
  readonly port: number;
  readonly family: 4 | 6;
  /** The name that it stands for, where there is one: it may stand for another tomorrow. */
  readonly name?: string;
}

/** Something that an operator should hear about: an event name and its particulars. */
export type Notice = (event: string, fields: Readonly<Record<string, unknown>>) => void;

/**
 * How a transport waits for datagrams. `block`: it sleeps. `adaptive`: after a flush it polls for some 50 µs before it
 * sleeps, and gives that up where it does not pay. `busy`: it polls always, and wants a processor of its own.
 */
export type IdleStrategy = (typeof IDLE_STRATEGIES)[number];

export const IDLE_STRATEGIES = ['block', 'adaptive', 'busy'] as const;

export interface TransportOptions {
  /** The replicas' addresses, by index: endpoints 0…N−1. */
  readonly replicas: readonly Address[];
  /** Where to listen. Undefined, as for clients: at any free port, of each family that the replicas' addresses have. */
  readonly listen: Address | undefined;
  readonly receive: Receiver;
  /** Called by transports with `batches`: after the last datagram of a batch, and when `endBatchSoon` was granted. */
  readonly batchEnd: () => void;
  /** Called by transports that are told: the operating system of these replicas, a bit each, said that nobody listens at their address. */
  readonly unreachable?: (replicas: number) => void;
  /** For transports that have a choice. */
  readonly idle: IdleStrategy;
  readonly notice: Notice;
  /** What a datagram usually has room for, bytes: the size of most arrays that `acquire` lends. */
  readonly datagramBytes: number;
  /** Endpoints besides the replicas that are remembered at once, a power of two. */
  readonly endpoints: number;
  /** Asked of the kernel for each socket, bytes. */
  readonly receiveBufferBytes: number;
  readonly sendBufferBytes: number;
}

export const DEFAULT_TRANSPORT = {
  idle: 'adaptive',
  endpoints: 65_536,
  receiveBufferBytes: 4 << 20,
  sendBufferBytes: 4 << 20,
} as const;

export interface Transport {
  readonly kind: string;
  /** What it does, which may be less than it was asked for. */
  readonly idle: IdleStrategy;
  /** Hands over what arrived together as a batch, with `batchEnd` behind it; otherwise `batchEnd` is never called. */
  readonly batches: boolean;
  /** The port that it listens at: the one asked for, or the one the kernel chose. 0 before `open`. */
  readonly port: number;
  /** TRANSPORT_COUNTER_NAMES gives the names. */
  readonly counters: Float64Array;
  /** Throws JitPaxosError `port-in-use` or `address-unavailable`. */
  open(): Promise<void>;
  /** An array for a datagram of `length` bytes (at most MAX_DATAGRAM_BYTES), or undefined when all are on their way. */
  acquire(length: number): Uint8Array | undefined;
  /** Gives an array back unsent. */
  release(bytes: Uint8Array): void;
  /** Sends the first `length` bytes and takes the array back. What cannot be sent is dropped and counted. */
  send(bytes: Uint8Array, length: number, endpoint: number): void;
  /** Ends a turn: what was sent and not left yet leaves. */
  flush(): void;
  /** Endpoint of the sender of the datagram being received; takes a new number for an unknown one. During a Receiver call only. */
  sender(): number;
  /** As `sender`, but takes no number: −1 for an unknown one. */
  knownSender(): number;
  /** Endpoint of an address. For tools and tests: replies go to `sender()`. */
  endpointOf(host: string, port: number): number;
  /** A replica is elsewhere from now on. Opens a socket of the address's family where there is none; a failure is a notice. */
  readdress(replica: number, address: Address): void;
  /** While a batch is handed over, or promises run that it settled: true, and `batchEnd` is called behind them. Otherwise false, and nothing is done. */
  endBatchSoon(): boolean;
  /** Nothing is received afterwards. Closing again does nothing. */
  close(): Promise<void>;
}

export const TRANSPORT_COUNTER_NAMES = [
  'datagrams_received',
  'bytes_received',
  'datagrams_sent',
  'bytes_sent',
  'datagrams_fragmented',
  'datagrams_segmented',
  'send_deferred',
  'send_queue_full',
  'send_errors',
  'receive_errors',
  'endpoint_unknown',
  'endpoints_evicted',
  'spins_paid',
  'spins_wasted',
  'datagrams_queued',
  'datagrams_withheld',
] as const;

export type TransportCounterName = (typeof TRANSPORT_COUNTER_NAMES)[number];

export const TransportCounter = Object.freeze(
  Object.fromEntries(TRANSPORT_COUNTER_NAMES.map((name, index) => [name, index])),
) as Readonly<Record<TransportCounterName, number>>;
