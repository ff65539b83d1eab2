/**
 * The simulated network: datagrams between endpoints that may be delayed, lost, repeated, overtaken and damaged, and
 * links that may be cut in one direction or both.
 *
 * Endpoints are numbered like destinations of an Outbox: replicas 0…N−1, then clients. Damage is real: bytes of the
 * datagram are changed, and it is for the envelope of the receiver to notice.
 */
import type { EventHandler, EventQueue } from './event-queue.js';
import type { Random } from './random.js';

export const DELAY_MODELS = ['constant', 'log-normal', 'heavy-tail'] as const;
export type DelayModel = (typeof DELAY_MODELS)[number];

export interface NetworkConditions {
  readonly delay: DelayModel;
  /** Median one-way delay, µs. */
  readonly delayUs: number;
  /** Spread: sigma of the log-normal model, share of the median in the constant one, 1/shape of the heavy tail. */
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
  from: number;
  to: number;
}

export interface NetworkCounts {
  sent: number;
  delivered: number;
  lost: number;
  blocked: number;
  duplicated: number;
  corrupted: number;
}

/** Longest one-way delay, µs: what takes longer than this is as good as lost. */
const DELAY_MAX_US = 200_000;
/** Buffers of this many bytes are reused; longer datagrams get one of their own. */
const POOLED_BYTES = 2048;

export class Network implements EventHandler {
  readonly counts: NetworkCounts = { sent: 0, delivered: 0, lost: 0, blocked: 0, duplicated: 0, corrupted: 0 };
  private readonly blocked: Uint8Array;
  private readonly linkFactor: Float64Array;
  private readonly pool: Datagram[] = [];

  /** @param deliver gets each datagram that arrives; must call `release` when it has done with it */
  constructor(
    private readonly queue: EventQueue,
    private readonly random: Random,
    private readonly endpoints: number,
    private conditions: NetworkConditions,
    private readonly deliver: (datagram: Datagram) => void,
  ) {
    this.blocked = new Uint8Array(endpoints * endpoints);
    this.linkFactor = new Float64Array(endpoints * endpoints).fill(1);
  }

  setConditions(conditions: NetworkConditions): void {
    this.conditions = conditions;
  }

  /** Cuts or mends one direction of a link. */
  setBlocked(from: number, to: number, blocked: boolean): void {
    this.blocked[from * this.endpoints + to] = blocked ? 1 : 0;
  }

  /** How much longer than others a link takes. */
  setLinkFactor(from: number, to: number, factor: number): void {
    this.linkFactor[from * this.endpoints + to] = factor;
  }

  /** Ends every partition and every link's slowness. */
  heal(): void {
    this.blocked.fill(0);
    this.linkFactor.fill(1);
  }

  /** Sends `length` bytes from `bytes[0]` on; they are copied. */
  send(from: number, to: number, bytes: Uint8Array, length: number): void {
    const { conditions, random, counts } = this;
    counts.sent++;
    if (this.blocked[from * this.endpoints + to] === 1) {
      counts.blocked++;
      return;
    }
    if (conditions.loss > 0 && random.chance(conditions.loss)) {
      counts.lost++;
      return;
    }
    this.transmit(from, to, bytes, length);
    if (conditions.duplicate > 0 && random.chance(conditions.duplicate)) {
      counts.duplicated++;
      this.transmit(from, to, bytes, length);
    }
  }

  handle(_kind: number, payload: unknown): void {
    this.counts.delivered++;
    this.deliver(payload as Datagram);
  }

  /** Takes a delivered datagram back; its bytes are spoiled, so that whoever kept a reference notices. */
  release(datagram: Datagram): void {
    datagram.bytes.fill(0xa5, 0, datagram.length);
    if (datagram.bytes.length === POOLED_BYTES) this.pool.push(datagram);
  }

  private transmit(from: number, to: number, bytes: Uint8Array, length: number): void {
    const { conditions, random } = this;
    const datagram = length <= POOLED_BYTES ? (this.pool.pop() ?? { bytes: new Uint8Array(POOLED_BYTES), length, from, to }) : { bytes: new Uint8Array(length), length, from, to };
    const target = datagram.bytes;
    for (let i = 0; i < length; i++) target[i] = bytes[i]!;
    datagram.length = length;
    datagram.from = from;
    datagram.to = to;
    if (conditions.corrupt > 0 && random.chance(conditions.corrupt)) this.damage(datagram);
    let delayUs = this.delayUs() * this.linkFactor[from * this.endpoints + to]!;
    if (conditions.reorder > 0 && random.chance(conditions.reorder)) delayUs += random.unit() * conditions.reorderUs;
    this.queue.schedule(this.queue.nowUs + Math.max(1, Math.min(DELAY_MAX_US, delayUs)), this, 0, datagram);
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
        return this.random.pareto(delayUs / Math.pow(2, spread), 1 / spread);
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
