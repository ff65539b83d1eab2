/** Writes the messages of a client into the outbox. */
import { copyWords, LastWords } from '../../wire/copy.js';
import { begin, mark } from '../../wire/layout.js';
import { type Read, Reconcile, Request } from '../../wire/messages.js';
import { writeI32, writeIndex, writeU16 } from '../../wire/u64.js';
import type { Outbox } from '../contract.js';
import type { Payloads } from '../log/payloads.js';

export class ClientSender {
  private readonly targets = new LastWords();

  constructor(
    private readonly outbox: Outbox,
    private readonly replicas: number,
    private readonly sessionHi: number,
    private readonly sessionLo: number,
    private readonly operations: Payloads,
  ) {}

  /**
   * To the replicas in `mask`, a bit each, `last` behind the others, with the operation of `slot`. A Read has no flags and no
   * timestamp: what is given is not looked at.
   */
  request(
    message: typeof Read | typeof Request,
    mask: number,
    last: number,
    view: number,
    slot: number,
    lane: number,
    request: number,
    flags: number,
    timestampHi: number,
    timestampLo: number,
  ): void {
    const { outbox } = this;
    const length = message.size + this.operations.length(slot);
    if (outbox.reserveEach !== undefined) {
      this.write(
        outbox.reserveEach(mask, last, length),
        message,
        view,
        slot,
        lane,
        request,
        flags,
        timestampHi,
        timestampLo,
      );
      return;
    }
    for (let r = 0; r < this.replicas; r++) {
      if (r !== last && ((mask >>> r) & 1) === 1)
        this.write(outbox.reserve(r, length), message, view, slot, lane, request, flags, timestampHi, timestampLo);
    }
    this.write(outbox.reserve(last, length), message, view, slot, lane, request, flags, timestampHi, timestampLo);
  }

  reconcile(
    replica: number,
    view: number,
    lane: number,
    request: number,
    index: number,
    chainHi: number,
    chainLo: number,
  ): boolean {
    const o = this.outbox.reserve(replica, Reconcile.size);
    if (o < 0) return false;
    const { bytes } = this.outbox;
    const { at } = Reconcile;
    begin(Reconcile, bytes, o);
    writeI32(bytes, o + at.view, view);
    writeI32(bytes, o + at.session, this.sessionHi);
    writeI32(bytes, o + at.session + 4, this.sessionLo);
    writeU16(bytes, o + at.lane, lane);
    writeI32(bytes, o + at.request, request);
    writeIndex(bytes, o + at.index, index);
    writeI32(bytes, o + at.chain, chainHi);
    writeI32(bytes, o + at.chain + 4, chainLo);
    this.outbox.commit(Reconcile.size);
    return true;
  }

  private write(
    o: number,
    message: typeof Read | typeof Request,
    view: number,
    slot: number,
    lane: number,
    request: number,
    flags: number,
    timestampHi: number,
    timestampLo: number,
  ): void {
    if (o < 0) return;
    const target = this.outbox.words ?? this.targets.of(this.outbox.bytes);
    const length = this.operations.length(slot);
    const { at } = message;
    mark(message, target, o);
    target.setInt32(o + at.view, view);
    target.setInt32(o + at.session, this.sessionHi);
    target.setInt32(o + at.session + 4, this.sessionLo);
    target.setUint16(o + at.lane, lane);
    target.setInt32(o + at.request, request);
    if (message === Request) {
      target.setUint8(o + Request.at.flags, flags);
      target.setInt32(o + Request.at.timestamp, timestampHi);
      target.setInt32(o + Request.at.timestamp + 4, timestampLo);
    }
    target.setUint16(o + at.operation, length);
    copyWords(this.operations.words(slot), this.operations.offset(slot), target, o + message.size, length);
    this.outbox.commit(message.size + length);
  }
}
