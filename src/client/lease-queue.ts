/** Leases in the order in which something is to be done about them: a heap, so that 100,000 cost no more a lease than one. */

/** An element; it is in one queue at most. */
export interface Queued {
  /** Infinity: never. */
  readonly nextMs: number;
  /** Where it is in the heap; −1: not in it. Only the queue writes it. */
  queuedAt: number;
}

export class LeaseQueue<T extends Queued> {
  private readonly heap: T[] = [];

  get first(): T | undefined {
    return this.heap[0];
  }

  /** To be called when it is new, and when its `nextMs` has changed. */
  place(element: T): void {
    if (element.queuedAt < 0) element.queuedAt = this.heap.push(element) - 1;
    this.up(element.queuedAt);
    this.down(element.queuedAt);
  }

  /** Does nothing if it is not there. */
  remove(element: T): void {
    const at = element.queuedAt;
    if (at < 0) return;
    element.queuedAt = -1;
    const last = this.heap.pop()!;
    if (last === element) return;
    this.put(last, at);
    this.place(last);
  }

  private up(from: number): void {
    const element = this.heap[from]!;
    let at = from;
    while (at > 0) {
      const above = (at - 1) >> 1;
      if (this.heap[above]!.nextMs <= element.nextMs) break;
      this.put(this.heap[above]!, at);
      at = above;
    }
    this.put(element, at);
  }

  private down(from: number): void {
    const { heap } = this;
    const element = heap[from]!;
    let at = from;
    for (;;) {
      let below = 2 * at + 1;
      if (below >= heap.length) break;
      if (below + 1 < heap.length && heap[below + 1]!.nextMs < heap[below]!.nextMs) below++;
      if (heap[below]!.nextMs >= element.nextMs) break;
      this.put(heap[below]!, at);
      at = below;
    }
    this.put(element, at);
  }

  private put(element: T, at: number): void {
    this.heap[at] = element;
    element.queuedAt = at;
  }
}
