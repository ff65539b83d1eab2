/**
 * Virtual time: a binary heap of coming events, earliest first. Ties are in scheduling order, so a run never depends on
 * the layout of the heap.
 */

export interface EventHandler {
  /** @param kind,payload as given to `schedule` */
  handle(kind: number, payload: unknown): void;
}

interface ScheduledEvent {
  readonly timeUs: number;
  readonly sequence: number;
  readonly handler: EventHandler;
  readonly kind: number;
  readonly payload: unknown;
}

export class EventQueue {
  /** Present virtual time, µs: that of the running event. A tick is one µs. */
  nowUs = 0;
  private readonly heap: ScheduledEvent[] = [];
  private sequence = 0;

  get size(): number {
    return this.heap.length;
  }

  /** Calls `handler.handle(kind, payload)` at `timeUs`, or now if that has passed. */
  schedule(timeUs: number, handler: EventHandler, kind: number, payload: unknown): void {
    const event: ScheduledEvent = {
      timeUs: Math.max(this.nowUs, Math.ceil(timeUs)),
      sequence: this.sequence++,
      handler,
      kind,
      payload,
    };
    const heap = this.heap;
    let at = heap.length;
    heap.push(event);
    while (at > 0) {
      const parent = (at - 1) >> 1;
      if (!earlier(event, heap[parent]!)) break;
      heap[at] = heap[parent]!;
      at = parent;
    }
    heap[at] = event;
  }

  /** Runs the next event, unless it is later than `untilUs` (then time moves there); false if none was run. */
  step(untilUs: number): boolean {
    const heap = this.heap;
    const event = heap[0];
    if (event === undefined || event.timeUs > untilUs) {
      this.nowUs = Math.max(this.nowUs, untilUs);
      return false;
    }
    const last = heap.pop()!;
    if (heap.length > 0) this.sink(last);
    this.nowUs = event.timeUs;
    event.handler.handle(event.kind, event.payload);
    return true;
  }

  private sink(event: ScheduledEvent): void {
    const heap = this.heap;
    const length = heap.length;
    let at = 0;
    for (;;) {
      let child = 2 * at + 1;
      if (child >= length) break;
      if (child + 1 < length && earlier(heap[child + 1]!, heap[child]!)) child++;
      if (!earlier(heap[child]!, event)) break;
      heap[at] = heap[child]!;
      at = child;
    }
    heap[at] = event;
  }
}

function earlier(a: ScheduledEvent, b: ScheduledEvent): boolean {
  return a.timeUs < b.timeUs || (a.timeUs === b.timeUs && a.sequence < b.sequence);
}
