/** Writes a client's requests, reads and reconcile requests into the outbox. */
import { copyWords, LastWords } from '../../wire/copy.js';
import { begin, mark } from '../../wire/layout.js';
import { Read, Reconcile, Request } from '../../wire/messages.js';
import { writeI32, writeIndex, writeU16 } from '../../wire/u64.js';
import type { ClientConfig } from '../config.js';
import type { Outbox } from '../contract.js';
import type { Payloads } from '../log/payloads.js';
import type { CommitRule } from './commit-rule.js';
import type { Slots } from './slots.js';
import type { Timestamps } from './timestamps.js';

export class ClientSender {
  private readonly targets = new LastWords();

  constructor(
    private readonly config: Pick<ClientConfig, 'sessionHi' | 'sessionLo'>,
    private readonly outbox: Outbox,
    private readonly slots: Slots,
    private readonly timestamps: Timestamps,
    private readonly operations: Payloads,
    private readonly rule: CommitRule,
  ) {}

  /**
   * Sends the request of `slot` to every member of the view. The primary is the last: its reply carries the result, and
   * the other replies are on their way by then.
   */
  sendRequest(slot: number): void {
    const { outbox, slots } = this;
    const { members, primary } = this.rule;
    const message = slots.isRead(slot) ? Read : Request;
    const request = slots.requestOf(slot);
    const length = message.size + this.operations.length(slot);
    if (outbox.reserveEach !== undefined) {
      this.writeRequest(outbox.reserveEach(members, primary, length), message, slot, request);
      return;
    }
    for (let r = 0; members >>> r !== 0; r++) {
      if (r !== primary && ((members >>> r) & 1) === 1)
        this.writeRequest(outbox.reserve(r, length), message, slot, request);
    }
    this.writeRequest(outbox.reserve(primary, length), message, slot, request);
  }

  /** Asks a member to fetch the entry that the primary has for the request. False if there was no room. */
  sendReconcile(slot: number, replica: number): boolean {
    const o = this.outbox.reserve(replica, Reconcile.size);
    if (o < 0) return false;
    const { bytes } = this.outbox;
    const { at } = Reconcile;
    const { acks } = this.rule;
    begin(Reconcile, bytes, o);
    writeI32(bytes, o + at.view, this.rule.view);
    writeI32(bytes, o + at.session, this.config.sessionHi);
    writeI32(bytes, o + at.session + 4, this.config.sessionLo);
    writeU16(bytes, o + at.lane, this.slots.wireLane(slot));
    writeI32(bytes, o + at.request, this.slots.requestOf(slot));
    writeIndex(bytes, o + at.index, acks.primaryIndex(slot));
    writeI32(bytes, o + at.chain, acks.primaryChainHi(slot));
    writeI32(bytes, o + at.chain + 4, acks.primaryChainLo(slot));
    this.outbox.commit(Reconcile.size);
    return true;
  }

  /** Writes the request of `slot` at `o`, unless the outbox had no room (`o` is −1). */
  private writeRequest(o: number, message: typeof Read | typeof Request, slot: number, request: number): void {
    if (o < 0) return;
    const { slots, operations } = this;
    const target = this.outbox.words ?? this.targets.of(this.outbox.bytes);
    const length = operations.length(slot);
    const { at } = message;
    mark(message, target, o);
    target.setInt32(o + at.view, this.rule.view);
    target.setInt32(o + at.session, this.config.sessionHi);
    target.setInt32(o + at.session + 4, this.config.sessionLo);
    target.setUint16(o + at.lane, slots.wireLane(slot));
    target.setInt32(o + at.request, request);
    if (message === Request) {
      target.setUint8(o + Request.at.flags, slots.flagsOf(slot));
      target.setInt32(o + Request.at.timestamp, this.timestamps.hi[slot]!);
      target.setInt32(o + Request.at.timestamp + 4, this.timestamps.lo[slot]!);
    }
    target.setUint16(o + at.operation, length);
    copyWords(operations.words(slot), operations.offset(slot), target, o + message.size, length);
    this.outbox.commit(message.size + length);
  }
}
