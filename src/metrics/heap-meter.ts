/**
 * How many bytes this process allocates on the JavaScript heap between two moments.
 *
 * V8 has no such counter on Node 20, but what it has says the same: the heap grows by what is allocated and shrinks only
 * in collections, so allocated = growth from the first moment to the last + what each collection between them freed.
 * `v8.GCProfiler` records the heap before and after every collection outside the heap, so watching adds nothing.
 * Backing stores of Buffers lie outside the heap and are not in the figure.
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

  /** Undefined when `start` was not called. */
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
