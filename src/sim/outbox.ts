/**
 * The Outbox of a simulated host: puts the messages of a turn into datagrams, as many in each as fit, the way the real
 * transport does, and seals them with the real envelope.
 */
import type { Outbox } from '../protocol/contract.js';
import { DEFAULT_DATAGRAM_BYTES, ENVELOPE_BYTES, MAX_DATAGRAM_BYTES, type Envelope } from '../wire/envelope.js';
import type { Network } from './network.js';

/** One datagram in the making; `length` 0 when there is none. */
interface Staging {
  bytes: Uint8Array;
  length: number;
}

/** Sees each message as it is committed: `bytes[offset … offset + length]`. */
export type MessageObserver = (to: number, bytes: Uint8Array, offset: number, length: number) => void;

export class SimulatedOutbox implements Outbox {
  bytes: Uint8Array = new Uint8Array(0);
  /** Set by a fault: decides for each reservation whether there is no room. */
  isFull: (() => boolean) | undefined;
  private readonly stagings: Staging[] = [];
  private readonly waiting: number[] = [];
  private to = -1;
  private at = 0;

  constructor(
    private readonly from: number,
    private readonly envelope: Envelope,
    private readonly network: Network,
    private readonly observe: MessageObserver,
  ) {}

  reserve(to: number, length: number): number {
    if (length + ENVELOPE_BYTES > MAX_DATAGRAM_BYTES || this.isFull?.() === true) return -1;
    const staging = (this.stagings[to] ??= { bytes: new Uint8Array(DEFAULT_DATAGRAM_BYTES), length: 0 });
    if (staging.length === 0) {
      staging.length = ENVELOPE_BYTES;
      this.waiting.push(to);
    }
    if (staging.length + length > staging.bytes.length) {
      const larger = new Uint8Array(2 * (staging.length + length));
      larger.set(staging.bytes.subarray(0, staging.length));
      staging.bytes = larger;
    }
    this.bytes = staging.bytes;
    this.to = to;
    this.at = staging.length;
    return this.at;
  }

  commit(length: number): void {
    const { to, at } = this;
    const staging = this.stagings[to]!;
    this.observe(to, staging.bytes, at, length);
    if (at > ENVELOPE_BYTES && at + length > DEFAULT_DATAGRAM_BYTES) {
      // What was there before leaves; the new message begins the next datagram.
      this.emit(to, staging.bytes, at);
      staging.bytes.copyWithin(ENVELOPE_BYTES, at, at + length);
      staging.length = ENVELOPE_BYTES + length;
    } else {
      staging.length = at + length;
    }
  }

  /** Sends what has been committed. `limit`: at most so many datagrams, the rest is lost (the process died between). */
  flush(limit = Infinity): void {
    let left = limit;
    for (const to of this.waiting) {
      const staging = this.stagings[to]!;
      if (staging.length > ENVELOPE_BYTES && left-- > 0) this.emit(to, staging.bytes, staging.length);
      staging.length = 0;
    }
    this.waiting.length = 0;
  }

  private emit(to: number, bytes: Uint8Array, length: number): void {
    this.envelope.seal(bytes, 0, length);
    this.network.send(this.from, to, bytes, length);
  }
}
