/**
 * The interface of transports, which move datagrams, and their names for destinations.
 *
 * An *endpoint* is a number. Those below `places` are at addresses that the process sets: hosts by slot, and a few more
 * (wire/host-ids.ts). Larger numbers are other senders (endpoint-table.ts). The rule:
 * until the caller has checked a datagram and asked for its sender, nothing in the datagram may size an allocation, use
 * up an endpoint or make a transport throw.
 *
 * Arrays belong to the transport. `acquire` lends one; `send` or `release` gives it back. A datagram is written
 * directly into the array that is sent.
 */

import type { DatagramMemory } from '../native/aead.js';

/** Called for each datagram. The bytes are valid only during the call. The receiver may overwrite them. */
export type Receiver = (bytes: Uint8Array, offset: number, length: number) => void;

/** No host is there. */
export const NOWHERE: Address = { host: '', port: 0, family: 4 };

/** Where a socket listens or a replica is found: a numeric address, never a name. */
export interface Address {
  /** Empty if it is not known yet. Datagrams to it are then dropped and counted. */
  readonly host: string;
  readonly port: number;
  readonly family: 4 | 6;
  /** The name that resolved to this address, if there was one. It may resolve to another address later. */
  readonly name?: string;
}

/** A notice for the operator: an event name and its details. */
export type Notice = (event: string, fields: Readonly<Record<string, unknown>>) => void;

/**
 * How a transport waits for datagrams. `block`: it sleeps. `adaptive`: after a flush it polls for about 50 µs before it
 * sleeps, and stops polling if that does not pay. `busy`: it always polls, and needs a processor of its own.
 */
export type IdleStrategy = (typeof IDLE_STRATEGIES)[number];

export const IDLE_STRATEGIES = ['block', 'adaptive', 'busy'] as const;

/** What says where a replica listens: the cluster file; `--listen`; the list of members in the log. */
export type ListenFrom = 'file' | 'flag' | 'members';

export interface TransportOptions {
  /** The replicas' addresses, by slot: endpoints 0…N−1. */
  readonly replicas: readonly Address[];
  /** Endpoints below this have the address that `readdress` gives them. Default: as many as there are replicas. */
  readonly places?: number;
  /** How many of them are hosts, whose addresses count as those of replicas. Default: all. */
  readonly hosts?: number;
  /** Where to listen. Undefined, for clients: any free port, of each family that the replicas' addresses have. */
  readonly listen: Address | undefined;
  /** What `listen` was taken from, for messages. Default: the cluster file. */
  readonly listenFrom?: ListenFrom | undefined;
  readonly receive: Receiver;
  /** Called by transports with `batches`, after the last datagram of a batch and after `endBatchSoon` returned true. */
  readonly batchEnd: () => void;
  /**
   * Called when the operating systems of these replicas, one bit each, reported that no process listens at their
   * address. Only some transports receive such reports.
   */
  readonly unreachable?: (replicas: number) => void;
  /** Which datagrams the kernel delivers (wire/kernel-filter.ts). Used by transports that can. Undefined: all. */
  readonly filter?: Uint8Array | undefined;
  /**
   * How many datagrams of strangers, whose addresses are unknown, are handed over. Used by transports that can drop the
   * others at less cost than the receiver. Undefined: all.
   */
  readonly strangers?: { readonly atOnce: number; readonly perSecond: number } | undefined;
  /** Used by transports that have a choice. */
  readonly idle: IdleStrategy;
  readonly notice: Notice;
  /** Usual size of a datagram, bytes: the size of most arrays that `acquire` lends. */
  readonly datagramBytes: number;
  /** Endpoints other than replicas that are remembered at once, a power of two. */
  readonly endpoints: number;
  /** Requested from the kernel for each socket, bytes. */
  readonly receiveBufferBytes: number;
  readonly sendBufferBytes: number;
}

export const DEFAULT_TRANSPORT = {
  idle: 'adaptive',
  endpoints: 65_536,
  receiveBufferBytes: 4 << 20,
  sendBufferBytes: 4 << 20,
} as const;

/** What `knownSender` says of a sender without a number. */
export const STRANGER = -1;
export const REPLICA_ADDRESS = -2;

export interface Transport {
  readonly kind: string;
  /** The strategy in use. It may poll less than the requested one. */
  readonly idle: IdleStrategy;
  /** Datagrams that arrived together form a batch, followed by `batchEnd`; otherwise `batchEnd` is never called. */
  readonly batches: boolean;
  /** The port it listens at: the requested one, or the kernel's choice. 0 before `open`. */
  readonly port: number;
  /** Named by TRANSPORT_COUNTER_NAMES. */
  readonly counters: Float64Array;
  /** Where all received datagrams lie, and the array of which every array that `acquire` lends is a view. */
  readonly memory?: DatagramMemory;
  /** Throws JitPaxosError `port-in-use` or `address-unavailable`. */
  open(): Promise<void>;
  /** An array for a datagram of `length` bytes (at most MAX_DATAGRAM_BYTES), or undefined if all are in use. */
  acquire(length: number): Uint8Array | undefined;
  /** Gives an array back unsent. */
  release(bytes: Uint8Array): void;
  /** Sends the first `length` bytes and takes the array back. A datagram that cannot be sent is dropped and counted. */
  send(bytes: Uint8Array, length: number, endpoint: number): void;
  /** Ends a turn: sends everything that has not left yet. */
  flush(): void;
  /**
   * Endpoint of the sender of the current datagram. Gives an unknown sender a new number. Only during a Receiver call.
   */
  sender(): number;
  /** Like `sender`, but gives no number: STRANGER for an unknown sender, REPLICA_ADDRESS for the address of a replica. */
  knownSender(): number;
  /**
   * The current datagram is an authentic one of this replica. Its address counts as one of a replica from now on. Only
   * during a Receiver call.
   */
  noteReplica(replica: number): void;
  /** This place, which is no host's, has the address of the current datagram. Only during a Receiver call. */
  placeSender(place: number): void;
  /**
   * Datagrams that the kernel dropped at the sockets of this transport: there was no room for them, or the filter
   * refused them. −1 if that is not known.
   */
  kernelDrops(): number;
  /** Whether the kernel refuses datagrams by `filter`. */
  isFiltered(): boolean;
  /** Endpoint of an address, for tools and tests; replies go to `sender()`. */
  endpointOf(host: string, port: number): number;
  /**
   * A replica, or another place, has a new address: NOWHERE, none. Opens a socket of the address's family if there is
   * none; a failure is a notice.
   */
  readdress(place: number, address: Address): void;
  /**
   * True while a batch is handed over, or while promises run that the batch settled. `batchEnd` is then called after
   * them. Otherwise false, and nothing happens.
   */
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
  'strangers_dropped',
  'spins_paid',
  'spins_wasted',
  'datagrams_queued',
  'datagrams_passed',
  'datagrams_withheld',
] as const;

export type TransportCounterName = (typeof TRANSPORT_COUNTER_NAMES)[number];

export const TransportCounter = Object.freeze(
  Object.fromEntries(TRANSPORT_COUNTER_NAMES.map((name, index) => [name, index])),
) as Readonly<Record<TransportCounterName, number>>;
