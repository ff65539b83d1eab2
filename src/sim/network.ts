/**
 * The simulated network: datagrams between endpoints that may be delayed, lost, duplicated, reordered and damaged, and
 * links that may be cut in one direction or both.
 *
 * Endpoints are numbered like destinations of an Outbox: replicas 0…N−1, then clients. Damage is real: bytes of the
 * datagram are changed, and the receiver's envelope must notice.
 *
 * An endpoint has an address: its own number, until it moves. Datagrams to an address that it has left are lost, and
 * what it sends comes from the new one. So a client that moved is another destination to a replica.
 */
import { ENVELOPE_BYTES, writtenVersion } from '../wire/envelope.js';
import { typeOf, validate, validatePrevious } from '../wire/messages.js';
import { WIRE_VERSION } from '../wire/versions.js';
import type { EventHandler, EventQueue } from './event-queue.js';
import type { Random } from './random.js';

export const DELAY_MODELS = ['constant', 'log-normal', 'heavy-tail'] as const;
export type DelayModel = (typeof DELAY_MODELS)[number];

export interface NetworkConditions {
  readonly delay: DelayModel;
  /** Median one-way delay, µs. */
  readonly delayUs: number;
  /** Spread: sigma of the log-normal model, share of the median in the constant model, 1/shape of the heavy tail. */
  readonly spread: number;
  /** Probabilities for each datagram. */
  readonly loss: number;
  readonly duplicate: number;
  readonly corrupt: number;
  /** Probability that a datagram is delayed by up to `reorderUs` more, and so overtaken. */
  readonly reorder: number;
  readonly reorderUs: number;
}

export interface Datagram {
  /** Belongs to the network: valid during the call that delivers it, then reused. */
  bytes: Uint8Array;
  length: number;
  /** Addresses. */
  from: number;
  to: number;
  /** The tenants of both when it was sent. */
  fromTenant: number;
  toTenant: number;
}

/** Why a link is cut: each cause is mended separately. */
export const Cut = { partition: 1, oneWay: 2, moved: 4 } as const;

/** What a hold does with a datagram: keeps it for later, loses it, or lets it through and keeps a copy. */
export type HoldMode = 'keep' | 'lose' | 'copy';

/** A directed link on which datagrams with a message of some types are caught. */
export interface Hold {
  readonly from: number;
  readonly to: number;
  readonly types: ReadonlySet<number>;
  readonly mode: HoldMode;
  /** The kept datagrams, oldest first. */
  readonly kept: Uint8Array[];
}

export interface NetworkCounts {
  sent: number;
  held: number;
  delivered: number;
  lost: number;
  blocked: number;
  duplicated: number;
  corrupted: number;
  /** Longer than their path carries. */
  tooLong: number;
  /** Sent to an address that its endpoint has left. */
  astray: number;
}

/** Longest one-way delay, µs: anything slower is as good as lost. */
const DELAY_MAX_US = 200_000;
/** The delay of a long path varies by up to this share of it. */
const DISTANCE_SPREAD = 0.02;
/** Datagrams that a hold keeps; further ones are lost. */
const HELD_MAX = 256;
/** Buffers of this many bytes are reused; longer datagrams get one of their own. */
const POOLED_BYTES = 2048;

export class Network implements EventHandler {
  readonly counts: NetworkCounts = {
    sent: 0,
    held: 0,
    delivered: 0,
    lost: 0,
    blocked: 0,
    duplicated: 0,
    corrupted: 0,
    tooLong: 0,
    astray: 0,
  };
  private readonly blocked: Uint8Array;
  private readonly linkFactor: Float64Array;
  /** Delay of each directed path in addition to the common delay, µs. */
  private readonly distanceUs: Float64Array;
  /** Longest datagram that each directed path carries. */
  private readonly longest: Float64Array;
  private readonly addresses: number[];
  private readonly pool: Datagram[] = [];
  private readonly holds = new Set<Hold>();

  /** @param deliver gets each arriving datagram; must call `release` when done with it */
  /** By endpoint: how many hosts lived there before. */
  private readonly tenants: Int32Array;

  constructor(
    private readonly queue: EventQueue,
    private readonly random: Random,
    private readonly endpoints: number,
    private conditions: NetworkConditions,
    private readonly deliver: (datagram: Datagram) => void,
  ) {
    this.blocked = new Uint8Array(endpoints * endpoints);
    this.linkFactor = new Float64Array(endpoints * endpoints).fill(1);
    this.distanceUs = new Float64Array(endpoints * endpoints);
    this.longest = new Float64Array(endpoints * endpoints).fill(Infinity);
    this.addresses = Array.from({ length: endpoints }, (_, endpoint) => endpoint);
    this.tenants = new Int32Array(endpoints);
  }

  setConditions(conditions: NetworkConditions): void {
    this.conditions = conditions;
  }

  /** Cuts or mends one direction of a link, for a cause of `Cut`. */
  setBlocked(from: number, to: number, blocked: boolean, cause: number = Cut.partition): void {
    if (blocked) this.blocked[from * this.endpoints + to]! |= cause;
    else this.blocked[from * this.endpoints + to]! &= ~cause;
  }

  /** One of the two does not hear the other. */
  isCut(a: number, b: number): boolean {
    return (this.blocked[a * this.endpoints + b]! | this.blocked[b * this.endpoints + a]!) !== 0;
  }

  /** The delay from one endpoint to another in addition to the common delay. */
  setDistance(from: number, to: number, us: number): void {
    this.distanceUs[from * this.endpoints + to] = us;
  }

  /** The longest datagram that a path carries; longer ones are lost silently. */
  setLongest(from: number, to: number, bytes: number): void {
    this.longest[from * this.endpoints + to] = bytes;
  }

  /** The endpoint gets another address; datagrams in flight to the old one are lost. */
  move(endpoint: number): void {
    this.addresses[endpoint]! += this.endpoints;
  }

  /** The endpoint that has, or had, this address. */
  endpointOf(address: number): number {
    return address % this.endpoints;
  }

  /** How many times longer than others a link takes. */
  setLinkFactor(from: number, to: number, factor: number): void {
    this.linkFactor[from * this.endpoints + to] = factor;
  }

  /** Catches datagrams with a message of one of these types on a link. At most HELD_MAX are kept. */
  hold(from: number, to: number, types: ReadonlySet<number>, mode: HoldMode): Hold {
    const hold: Hold = { from, to, types, mode, kept: [] };
    this.holds.add(hold);
    return hold;
  }

  /** Releases the oldest `count` kept datagrams. */
  deliverHeld(hold: Hold, count: number): void {
    for (const bytes of hold.kept.splice(0, count))
      this.transmit(hold.from, this.addresses[hold.to]!, bytes, bytes.length, 0);
  }

  /** Drops the kept datagrams. */
  discardHeld(hold: Hold): void {
    hold.kept.length = 0;
  }

  /** Opens the link again and releases the kept datagrams. */
  letGo(hold: Hold): void {
    if (this.holds.delete(hold)) this.deliverHeld(hold, Infinity);
  }

  /** Ends every partition, every slow link and every hold; held datagrams are lost. */
  heal(): void {
    this.holds.clear();
    this.blocked.fill(0);
    this.linkFactor.fill(1);
  }

  /**
   * Sends `length` bytes from `bytes[0]` on; they are copied.
   * @param to an address
   * @param afterUs delay until the sender gets to it
   */
  send(from: number, to: number, bytes: Uint8Array, length: number, afterUs = 0): void {
    const { conditions, random, counts } = this;
    const path = from * this.endpoints + this.endpointOf(to);
    counts.sent++;
    if (this.blocked[path] !== 0) {
      counts.blocked++;
      return;
    }
    if (length > this.longest[path]!) {
      counts.tooLong++;
      return;
    }
    if (this.holds.size > 0 && this.isHeld(from, to, bytes, length)) {
      counts.held++;
      return;
    }
    if (conditions.loss > 0 && random.chance(conditions.loss)) {
      counts.lost++;
      return;
    }
    this.transmit(from, to, bytes, length, afterUs);
    if (conditions.duplicate > 0 && random.chance(conditions.duplicate)) {
      counts.duplicated++;
      this.transmit(from, to, bytes, length, afterUs);
    }
  }

  /** Another host lives at that endpoint from now on: what is on the way from or to the one before is lost. */
  moveIn(endpoint: number): void {
    this.tenants[endpoint]!++;
    for (const { from, to, kept } of this.holds) if (from === endpoint || to === endpoint) kept.length = 0;
  }

  /** Whether another host lives by now where it came from, or where it was sent to. */
  isOfFormerHost({ from, to, fromTenant, toTenant }: Datagram): boolean {
    return this.tenants[this.endpointOf(from)] !== fromTenant || this.tenants[this.endpointOf(to)] !== toTenant;
  }

  handle(_kind: number, payload: unknown): void {
    const datagram = payload as Datagram;
    if (this.isOfFormerHost(datagram)) {
      this.release(datagram);
      return;
    }
    if (this.addresses[this.endpointOf(datagram.to)] !== datagram.to) {
      this.counts.astray++;
      this.release(datagram);
      return;
    }
    this.counts.delivered++;
    this.deliver(datagram);
  }

  /** Takes a delivered datagram back and overwrites its bytes, so that code that kept a reference is noticed. */
  release(datagram: Datagram): void {
    datagram.bytes.fill(0xa5, 0, datagram.length);
    if (datagram.bytes.length === POOLED_BYTES) this.pool.push(datagram);
  }

  /** Shows the datagram to the holds of its link; true when one takes it. */
  private isHeld(from: number, to: number, bytes: Uint8Array, length: number): boolean {
    const lengthOf = writtenVersion(bytes, 0) === WIRE_VERSION ? validate : validatePrevious;
    for (const hold of this.holds) {
      if (hold.from !== from || hold.to !== this.endpointOf(to)) continue;
      for (let offset = ENVELOPE_BYTES; offset < length; ) {
        const size = lengthOf(bytes, offset, length);
        if (size < 0) break;
        if (hold.types.has(typeOf(bytes, offset))) {
          if (hold.mode !== 'lose' && hold.kept.length < HELD_MAX) hold.kept.push(bytes.slice(0, length));
          if (hold.mode !== 'copy') return true;
          break;
        }
        offset += size;
      }
    }
    return false;
  }

  private transmit(from: number, to: number, bytes: Uint8Array, length: number, afterUs: number): void {
    const { conditions, random } = this;
    const datagram =
      length <= POOLED_BYTES
        ? (this.pool.pop() ?? { bytes: new Uint8Array(POOLED_BYTES), length, from, to, fromTenant: 0, toTenant: 0 })
        : { bytes: new Uint8Array(length), length, from, to, fromTenant: 0, toTenant: 0 };
    const target = datagram.bytes;
    for (let i = 0; i < length; i++) target[i] = bytes[i]!;
    datagram.length = length;
    datagram.from = this.addresses[from]!;
    datagram.to = to;
    datagram.fromTenant = this.tenants[from]!;
    datagram.toTenant = this.tenants[this.endpointOf(to)]!;
    if (conditions.corrupt > 0 && random.chance(conditions.corrupt)) this.damage(datagram);
    const path = from * this.endpoints + this.endpointOf(to);
    const distanceUs = this.distanceUs[path]!;
    let delayUs = this.delayUs() * this.linkFactor[path]!;
    if (conditions.reorder > 0 && random.chance(conditions.reorder)) delayUs += random.unit() * conditions.reorderUs;
    delayUs = Math.max(1, Math.min(DELAY_MAX_US, delayUs));
    if (distanceUs > 0) delayUs += distanceUs * (1 + DISTANCE_SPREAD * random.unit());
    this.queue.schedule(this.queue.nowUs + afterUs + delayUs, this, 0, datagram);
  }

  private delayUs(): number {
    const { delay, delayUs, spread } = this.conditions;
    switch (delay) {
      case 'constant':
        return delayUs * (1 + spread * (this.random.unit() - 0.5));
      case 'log-normal':
        return this.random.logNormal(delayUs, spread);
      case 'heavy-tail':
        // The median of a Pareto distribution is least · 2^(1/shape).
        return this.random.pareto(delayUs / 2 ** spread, 1 / spread);
    }
  }

  /** Flips a bit, overwrites a few bytes, or cuts the end off. */
  private damage(datagram: Datagram): void {
    const { random } = this;
    this.counts.corrupted++;
    const kind = random.below(3);
    if (kind === 0) {
      datagram.bytes[random.below(datagram.length)]! ^= 1 << random.below(8);
    } else if (kind === 1) {
      for (let i = random.between(1, 8); i > 0; i--) datagram.bytes[random.below(datagram.length)] = random.below(256);
    } else {
      datagram.length = random.below(datagram.length);
    }
  }
}
