/**
 * Measures how many bytes this process allocates on the JavaScript heap between two moments.
 *
 * Node 20's V8 has no such counter, but it can be computed: the heap grows by allocation and shrinks only in
 * collections, so allocated = growth from the first moment to the last + what each collection in between freed.
 * `v8.GCProfiler` records the heap before and after every collection, outside the heap, so measuring adds nothing.
 * Backing stores of Buffers lie outside the heap and are not counted.
 */
import v8 from 'node:v8';

export interface HeapUse {
  readonly allocatedBytes: number;
  readonly collections: number;
}

export class HeapMeter {
  private profiler: v8.GCProfiler | undefined;
  private startedAt = 0;

  start(): void {
    this.profiler?.stop();
    this.profiler = new v8.GCProfiler();
    this.profiler.start();
    this.startedAt = v8.getHeapStatistics().used_heap_size;
  }

  /** Undefined if `start` was not called. */
  stop(): HeapUse | undefined {
    if (this.profiler === undefined) return undefined;
    const now = v8.getHeapStatistics().used_heap_size;
    const { statistics } = this.profiler.stop();
    this.profiler = undefined;
    let freed = 0;
    for (const { beforeGC, afterGC } of statistics)
      freed += beforeGC.heapStatistics.usedHeapSize - afterGC.heapStatistics.usedHeapSize;
    return { allocatedBytes: Math.max(0, now - this.startedAt + freed), collections: statistics.length };
  }
}
