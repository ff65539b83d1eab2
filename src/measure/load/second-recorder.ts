/**
 * Records latencies in a client process for a histogram log: by operation and outcome, and by second of the host's wall
 * clock. The seconds of all processes begin together, on all hosts whose clocks agree, so that they can be added.
 *
 * Each second is sent to the parent when it is over, also if nothing ended in it: the parent then knows that nothing
 * more comes for it.
 */
import { Histogram, type HistogramData } from '../../metrics/histogram.js';
import { OUTCOMES, tagOf, UNSENT_TAG, type OperationOutcome } from '../hlog/log-format.js';
import type { OneWayRecorder } from '../oneway/second.js';
import type { SecondBase, TaggedSecond } from './wall-seconds.js';

const NS_PER_SECOND = 1e9;
const NS_PER_MS = 1e6;
const MS_PER_SECOND = 1000;

export class SecondRecorder {
  private readonly tags: string[] = [];
  private readonly histograms: Histogram[] = [];
  private fromNs = Infinity;
  /** End of the current second. */
  private untilNs = Infinity;

  /** Times are CLOCK_MONOTONIC, ns. @param operations names that `record` may be called with */
  constructor(
    private readonly base: SecondBase,
    private readonly operations: readonly string[],
    private readonly send: (second: TaggedSecond) => void,
    private readonly oneWay?: OneWayRecorder,
  ) {
    for (const operation of operations)
      for (const outcome of OUTCOMES) {
        this.tags.push(tagOf(operation, outcome));
        this.histograms.push(new Histogram());
      }
    this.tags.push(UNSENT_TAG);
    this.histograms.push(new Histogram());
  }

  /** The measurement begins. */
  begin(nowNs: number): void {
    this.oneWay?.begin();
    this.fromNs = nowNs;
    this.untilNs = this.endOfSecond(nowNs);
  }

  /** An operation ended `nowNs`. */
  record(operation: string, outcome: OperationOutcome, latencyNs: number, nowNs: number): void {
    this.advance(nowNs);
    const at = this.operations.indexOf(operation) * OUTCOMES.length + OUTCOMES.indexOf(outcome);
    this.histograms[at]!.record(latencyNs);
  }

  /** An arrival was never sent. */
  recordUnsent(waitedNs: number): void {
    this.histograms.at(-1)!.record(waitedNs);
  }

  /** Sends the seconds that are over. To be called at least once a second, or so. */
  advance(nowNs: number): void {
    if (nowNs < this.untilNs) return;
    this.sendUntil(this.untilNs);
    this.untilNs = this.endOfSecond(nowNs);
    this.fromNs = this.untilNs - NS_PER_SECOND;
  }

  /** The measurement ends: sends what is left. */
  end(nowNs: number): void {
    this.advance(nowNs);
    this.sendUntil(Math.max(nowNs, this.fromNs));
    this.fromNs = this.untilNs = Infinity;
  }

  private sendUntil(toNs: number): void {
    if (this.fromNs === Infinity) return;
    const tags: Record<string, HistogramData> = {};
    this.histograms.forEach((histogram, at) => {
      if (histogram.count === 0) return;
      tags[this.tags[at]!] = histogram.toData();
      histogram.reset();
    });
    this.send({
      second: this.base.second + Math.round((this.untilNs - this.base.startNs) / NS_PER_SECOND) - 1,
      fromMs: this.wallMs(this.fromNs),
      toMs: this.wallMs(toNs),
      tags,
      ...(this.oneWay === undefined ? {} : { oneWay: this.oneWay.take() }),
    });
  }

  private endOfSecond(nowNs: number): number {
    const { startNs } = this.base;
    return startNs + (Math.floor((nowNs - startNs) / NS_PER_SECOND) + 1) * NS_PER_SECOND;
  }

  private wallMs(ns: number): number {
    return this.base.second * MS_PER_SECOND + (ns - this.base.startNs) / NS_PER_MS;
  }
}
