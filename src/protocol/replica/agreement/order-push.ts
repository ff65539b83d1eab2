/**
 * The primary's order, pushed to members while they differ. May be changed freely: the repair rule decides what a member does
 * with it.
 *
 * One late request at one member changes every later chain there, and waiting for clients to notice each difference
 * collapses under load. So once the primary hears that a member differs, or expects it (a late request), it sends
 * members, once a turn, the order of what it appended; a contended request then commits in one and a half round trips.
 * When nothing has differed for `orderHoldUs` the push stops.
 *
 * If a turn appended requests that members will hardly have (out-of-step.ts), it sends the entries themselves.
 */
import { DOUBLE_ZERO } from '../../double-zero.js';
import type { Instant } from '../../contract.js';
import { Counter } from '../../counters.js';
import { ORDER_RECORD_BYTES } from '../../log/log.js';
import { lowest } from '../../masks.js';
import { ORDERS_MAX } from './order-buffer.js';
import type { ReplicaState } from '../replica-state.js';
import type { Sender } from '../replica-sender.js';
import type { TransferSender } from '../transfer-sender.js';
import type { OutOfStep } from './out-of-step.js';
import { DEFAULT_DATAGRAM_BYTES, ENVELOPE_BYTES_MAX } from '../../../wire/envelope.js';
import { Order } from '../../../wire/messages.js';

/** Most entries in one Order: as many as fit a datagram of the usual length. */
const ORDER_ENTRIES_MAX = entriesIn(DEFAULT_DATAGRAM_BYTES);

export class OrderPush {
  private untilUs = DOUBLE_ZERO;
  private pushed = 0;
  private readonly entriesMax: number;

  constructor(
    private readonly state: ReplicaState,
    private readonly sender: Sender,
    private readonly transfers: TransferSender,
    private readonly outOfStep: OutOfStep,
  ) {
    this.entriesMax = Math.min(ORDER_ENTRIES_MAX, entriesIn(state.config.datagramBytes ?? DEFAULT_DATAGRAM_BYTES));
  }

  reset(): void {
    this.state.stopPushing();
  }

  /**
   * A member differs, or is about to.
   * @param agreed all members agree up to here, as far as is known
   */
  needed(agreed: number, now: Instant): void {
    const { state } = this;
    const { orderHoldUs } = state.config.timings;
    if (orderHoldUs === 0) return;
    this.untilUs = now.monotonicUs + orderHoldUs;
    if (state.pushing) return;
    state.startPushing();
    this.pushed = Math.max(agreed, state.log.baseIndex, state.log.lastIndex - ORDERS_MAX);
  }

  /** Ends a turn: sends members the order of what was appended in it. */
  flush(now: Instant): void {
    const { state } = this;
    if (!state.pushing) return;
    const { log } = state;
    const first = Math.max(this.pushed, log.baseIndex);
    const members = state.views.memberMask(state.view) & ~(1 << state.id);
    if (this.outOfStep.takeLacked()) this.pushEntries(first, members);
    else this.pushOrder(first, members);
    this.pushed = log.lastIndex;
    if (now.monotonicUs >= this.untilUs) state.stopPushing();
  }

  private pushEntries(first: number, members: number): void {
    const { log, config } = this.state;
    for (let rest = members; rest !== 0; rest &= rest - 1)
      this.transfers.chunks(lowest(rest), first, log.lastIndex, config.limits.chunkBytes, 0);
  }

  private pushOrder(first: number, members: number): void {
    const { state } = this;
    const { log } = state;
    for (let base = first; base < log.lastIndex; base += this.entriesMax) {
      const last = Math.min(log.lastIndex, base + this.entriesMax);
      for (let rest = members; rest !== 0; rest &= rest - 1) {
        state.counters[Counter.orders_pushed]!++;
        this.sender.order(lowest(rest), base, last);
      }
    }
  }
}

function entriesIn(datagramBytes: number): number {
  return Math.max(1, Math.floor((datagramBytes - ENVELOPE_BYTES_MAX - Order.size) / ORDER_RECORD_BYTES));
}
