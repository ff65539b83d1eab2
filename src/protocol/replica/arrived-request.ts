/**
 * A client's message that is handled now: the entry that its request may become, and how it came here.
 *
 * A flyweight like Entry: made once, then pointed at one message after another. A Read and a Reconcile name a request as well,
 * without an operation and a timestamp.
 */
import { Read, Reconcile, Request, RequestFlag } from '../../wire/messages.js';
import { differenceU64, readI32, readU16 } from '../../wire/u64.js';
import type { Instant } from '../contract.js';
import { Entry } from '../log/entry.js';

const INT32_MAX = 0x7fffffff;

export class ArrivedRequest extends Entry {
  view = 0;
  /** The timestamp that the client gave it. The entry's own is another one if the replica stamped the request anew. */
  stampedHi = 0;
  stampedLo = 0;
  /** Arrival clock − the client's timestamp, whole µs, saturated to an int32. */
  slackUs = 0;
  /** How long it was held back before it was handled, whole µs. `slackUs` includes it. */
  heldUs = 0;
  /** Where the message begins, in `operationBytes`. */
  messageOffset = 0;

  get isRegister(): boolean {
    return (this.flags & RequestFlag.register) !== 0;
  }

  get messageLength(): number {
    return Request.size + this.operationLength;
  }

  /** @param message the view of `bytes` */
  pointAtRequest(message: DataView, bytes: Uint8Array, o: number, from: number, heldUs: number, now: Instant): this {
    const { at } = Request;
    const hi = message.getInt32(o + at.timestamp);
    const lo = message.getInt32(o + at.timestamp + 4);
    this.timestampHi = hi;
    this.timestampLo = lo;
    this.sessionHi = message.getInt32(o + at.session);
    this.sessionLo = message.getInt32(o + at.session + 4);
    this.lane = message.getUint16(o + at.lane);
    this.request = message.getInt32(o + at.request);
    this.flags = message.getUint8(o + at.flags);
    this.operationBytes = bytes;
    this.operationOffset = o + Request.size;
    this.operationLength = message.getUint16(o + at.operation);
    this.replyTo = from;
    this.view = message.getInt32(o + at.view);
    this.stampedHi = hi;
    this.stampedLo = lo;
    this.slackUs = slackUs(now, hi, lo);
    this.heldUs = heldUs;
    this.messageOffset = o;
    return this;
  }

  pointAtRead(bytes: Uint8Array, o: number, from: number): this {
    const { at } = Read;
    this.pointAtNothing(from);
    this.view = readI32(bytes, o + at.view);
    this.sessionHi = readI32(bytes, o + at.session);
    this.sessionLo = readI32(bytes, o + at.session + 4);
    this.lane = readU16(bytes, o + at.lane);
    this.request = readI32(bytes, o + at.request);
    return this;
  }

  pointAtReconcile(bytes: Uint8Array, o: number, from: number): this {
    const { at } = Reconcile;
    this.pointAtNothing(from);
    this.view = readI32(bytes, o + at.view);
    this.sessionHi = readI32(bytes, o + at.session);
    this.sessionLo = readI32(bytes, o + at.session + 4);
    this.lane = readU16(bytes, o + at.lane);
    this.request = readI32(bytes, o + at.request);
    return this;
  }

  /** Gives the entry another timestamp. The client's stays in `stampedHi` and `stampedLo`. */
  stamp(hi: number, lo: number): void {
    this.timestampHi = hi;
    this.timestampLo = lo;
  }

  private pointAtNothing(from: number): void {
    this.timestampHi = 0;
    this.timestampLo = 0;
    this.stampedHi = 0;
    this.stampedLo = 0;
    this.flags = 0;
    this.operationLength = 0;
    this.slackUs = 0;
    this.heldUs = 0;
    this.replyTo = from;
  }
}

/** Arrival clock − timestamp in µs, saturated to an int32. */
function slackUs(now: Instant, timestampHi: number, timestampLo: number): number {
  const us = Math.trunc(differenceU64(now.wallHi, now.wallLo, timestampHi, timestampLo) / 1000);
  return us > INT32_MAX ? INT32_MAX : us < -INT32_MAX ? -INT32_MAX : us | 0;
}
