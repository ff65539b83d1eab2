/**
 * The queue in which client datagrams wait when more arrive than can be handled at once. They leave by deficit round
 * robin over endpoints, by bytes (Shreedhar and Varghese, 1995): a client that floods waits behind its own datagrams.
 *
 * The rule: the queue is bounded in bytes, and no client can fill it. An endpoint may hold as many bytes as are free at
 * that moment (dynamic thresholds, Choudhury and Hahne, 1998): alone it gets half of the queue, and the next endpoint
 * always finds room. Arrays are allocated when first needed, and kept.
 *
 * A client that sends little need not wait at all: see `passes`. Turns take datagrams of several clients in another order
 * than that of their arrival, and at each replica in another one. Replicas that append requests in different orders cannot
 * commit them in one round trip, so turns are only for those of whom more arrives than is handled.
 */
import { MAX_DATAGRAM_BYTES } from '../wire/envelope.js';
import { ArrayPool } from './array-pool.js';

/** How much of an endpoint's data is handled in one turn, bytes. */
const QUANTUM_BYTES = 1500;
/** A shorter datagram counts as this many bytes, because handling it costs more than its bytes. */
const LEAST_BYTES = 256;
/** Up to this length, a loop copies faster than making a view. */
const SHORT_BYTES = 256;

export class FairQueue {
  /** The datagram that `take` took, valid until `release`. */
  bytes: Uint8Array = new Uint8Array(0);
  length = 0;
  endpoint = 0;

  private readonly pool: ArrayPool;
  private readonly datagrams: (Uint8Array | undefined)[];
  private readonly lengths: Int32Array;
  /** Next datagram of the same flow, or next free place; −1: there is no next one. */
  private readonly next: Int32Array;
  private free = 0;
  private freeBytes: number;
  private count = 0;

  // Indexed by flow, which is an endpoint's place in the endpoint table.
  private readonly first: Int32Array;
  private readonly last: Int32Array;
  private readonly flowEndpoint: Int32Array;
  private readonly flowBytes: Int32Array;
  private readonly deficit: Int32Array;
  /** The waiting flows form a ring. */
  private readonly nextFlow: Int32Array;
  /** The flow before the one whose turn it is; −1: no flow waits. */
  private previous = -1;
  private flows = 0;
  private turnBegun = false;
  /** Looks at the queue, the bytes that may pass by it between two of them, and what is left of these bytes. */
  private look = 1;
  private readonly passBytes: number;
  private passLeft: number;
  /** By flow: the look since which datagrams passed by the queue, and their bytes. */
  private readonly passedSince: Int32Array;
  private readonly passed: Int32Array;

  /**
   * @param replicas endpoints below this are replicas, which never wait here
   * @param endpoints places of the endpoint table, a power of two
   * @param datagramBytes length of most datagrams; a shorter one takes as much room
   * @param capacityBytes bound on all waiting datagrams
   * @param passes short datagrams that may pass by the queue between two looks; no more than a look takes
   */
  constructor(
    private readonly replicas: number,
    private readonly endpoints: number,
    private readonly datagramBytes: number,
    capacityBytes: number,
    passes = 0,
  ) {
    this.passBytes = passes * LEAST_BYTES;
    this.passLeft = this.passBytes;
    this.passedSince = new Int32Array(endpoints);
    this.passed = new Int32Array(endpoints);
    const places = Math.floor(capacityBytes / datagramBytes);
    this.pool = new ArrayPool(datagramBytes, places, Math.floor(capacityBytes / MAX_DATAGRAM_BYTES));
    this.datagrams = new Array<Uint8Array | undefined>(places).fill(undefined);
    this.lengths = new Int32Array(places);
    this.next = Int32Array.from({ length: places }, (_, place) => (place === places - 1 ? -1 : place + 1));
    this.freeBytes = capacityBytes;
    this.first = new Int32Array(endpoints);
    this.last = new Int32Array(endpoints);
    this.flowEndpoint = new Int32Array(endpoints);
    this.flowBytes = new Int32Array(endpoints);
    this.deficit = new Int32Array(endpoints);
    this.nextFlow = new Int32Array(endpoints);
  }

  /** The number of datagrams that wait. */
  get size(): number {
    return this.count;
  }

  /** A look at the queue begins. */
  renew(): void {
    this.look = (this.look + 1) | 0;
    this.passLeft = this.passBytes;
  }

  /**
   * Whether a datagram need not wait although others do: no other of its endpoint waits, and what came from it since the
   * last look is no more than it would get in turns. That is its part of a look if it waited like the others, but always
   * one short datagram. If so, the datagram is counted.
   */
  passes(endpoint: number, length: number): boolean {
    const flow = (endpoint - this.replicas) & (this.endpoints - 1);
    if (this.flowBytes[flow]! > 0) return false;
    const cost = Math.max(length, LEAST_BYTES);
    const before = this.passedBy(flow);
    if (cost > this.passLeft || before + cost > Math.max(LEAST_BYTES, (this.passBytes / (this.flows + 1)) | 0))
      return false;
    this.passedSince[flow] = this.look;
    this.passed[flow] = before + cost;
    this.passLeft -= cost;
    return true;
  }

  /** Copies a datagram from a client's endpoint into the queue. False if the endpoint already holds its share. */
  put(endpoint: number, source: Uint8Array, offset: number, length: number): boolean {
    const flow = (endpoint - this.replicas) & (this.endpoints - 1);
    const room = this.roomOf(length);
    const held = this.flowBytes[flow]!;
    // Another endpoint took over this place. Datagrams that still wait here belong to the former endpoint.
    if (held > 0 && this.flowEndpoint[flow] !== endpoint) return false;
    if (this.free < 0 || held + room > this.freeBytes) return false;
    const array = this.pool.acquire(length);
    if (array === undefined) return false;
    if (length > SHORT_BYTES) array.set(source.subarray(offset, offset + length));
    else for (let i = 0; i < length; i++) array[i] = source[offset + i]!;
    const place = this.free;
    this.free = this.next[place]!;
    this.datagrams[place] = array;
    this.lengths[place] = length;
    this.next[place] = -1;
    if (held === 0) this.join(flow, endpoint, place);
    else this.next[this.last[flow]!] = place;
    this.last[flow] = place;
    this.flowBytes[flow] = held + room;
    this.freeBytes -= room;
    this.count++;
    return true;
  }

  /** Takes out the next datagram. False if no datagram waits. */
  take(): boolean {
    if (this.count === 0) return false;
    for (;;) {
      const flow = this.nextFlow[this.previous]!;
      if (!this.turnBegun) {
        this.turnBegun = true;
        this.deficit[flow]! += QUANTUM_BYTES;
      }
      const place = this.first[flow]!;
      const length = this.lengths[place]!;
      const cost = Math.max(length, LEAST_BYTES);
      if (cost > this.deficit[flow]!) {
        this.previous = flow;
        this.turnBegun = false;
        continue;
      }
      this.deficit[flow]! -= cost;
      this.endpoint = this.flowEndpoint[flow]!;
      this.bytes = this.datagrams[place]!;
      this.length = length;
      this.datagrams[place] = undefined;
      this.first[flow] = this.next[place]!;
      this.next[place] = this.free;
      this.free = place;
      const room = this.roomOf(length);
      this.freeBytes += room;
      this.flowBytes[flow]! -= room;
      this.count--;
      if (this.flowBytes[flow] === 0) this.leave(flow);
      return true;
    }
  }

  /** Gives back the datagram that `take` took. */
  release(): void {
    this.pool.release(this.bytes);
  }

  private roomOf(length: number): number {
    return length <= this.datagramBytes ? this.datagramBytes : MAX_DATAGRAM_BYTES;
  }

  /** Bytes of this flow that passed since the last look. */
  private passedBy(flow: number): number {
    return this.passedSince[flow] === this.look ? this.passed[flow]! : 0;
  }

  /** A flow that begins to wait comes last in the round. What just passed counts as part of its turns. */
  private join(flow: number, endpoint: number, place: number): void {
    this.first[flow] = place;
    this.flowEndpoint[flow] = endpoint;
    this.deficit[flow] = -this.passedBy(flow);
    this.flows++;
    if (this.previous < 0) {
      this.nextFlow[flow] = flow;
    } else {
      this.nextFlow[flow] = this.nextFlow[this.previous]!;
      this.nextFlow[this.previous] = flow;
    }
    this.previous = flow; // the flow whose turn it is keeps its turn
  }

  private leave(flow: number): void {
    this.turnBegun = false;
    this.flows--;
    if (this.nextFlow[flow] === flow) this.previous = -1;
    else this.nextFlow[this.previous] = this.nextFlow[flow]!;
  }
}
