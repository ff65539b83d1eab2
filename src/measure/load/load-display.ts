/**
 * What `bench load` shows while it runs: a few lines redrawn in place on a terminal, a line every two seconds
 * elsewhere.
 */
import type { Output } from '../../console/command.js';
import type { Ramp, RampStep, RunningRampStep } from './ramp.js';
import type { Interval } from './timeline.js';
import { LiveFrame } from '../../console/live-frame.js';
import { Colour, paint, sparkline } from '../../console/terminal.js';
import { formatCount, formatDuration } from '../../console/units.js';

const REFRESH_MS = 200;
const LINE_EVERY_MS = 2_000;
const SPARK_WIDTH = 60;
const BAR_WIDTH = 40;
/** Current figures cover about the last second. */
const RECENT_MS = 1_000;

export class LoadDisplay {
  private readonly frame: LiveFrame;
  private readonly timer: NodeJS.Timeout;
  private lastLineMs = performance.now();

  constructor(
    private readonly output: Output,
    private readonly title: string,
    private readonly ramp: Ramp,
  ) {
    this.frame = new LiveFrame(output);
    this.timer = setInterval(() => this.update(), this.frame.live ? REFRESH_MS : LINE_EVERY_MS / 4);
  }

  /** A step is over. */
  step(step: RampStep): void {
    if (this.frame.live || this.output.json) return;
    this.output.note(
      `${rate(step.ratePerSecond)} offered: ${rate(step.measurement.counts.completedInWindow / Math.max(1e-9, step.measurement.seconds))} completed, p50 ${formatDuration(step.facts.latencyNs.p50)}, p99 ${formatDuration(step.facts.latencyNs.p99)}, p99.9 ${formatDuration(step.facts.latencyNs.p999)}`,
    );
  }

  end(): void {
    clearInterval(this.timer);
    this.frame.end();
  }

  private update(): void {
    const { running } = this.ramp;
    if (running === undefined) return;
    if (this.frame.live) this.frame.draw(this.lines(running));
    else if (!this.output.json && performance.now() - this.lastLineMs >= LINE_EVERY_MS) {
      this.lastLineMs = performance.now();
      this.output.note(this.plainLine(running));
    }
  }

  private lines(running: RunningRampStep): string[] {
    const { plan, steps } = this.ramp;
    const { histogram, counts } = running.timeline.total;
    const intervals = [...steps.flatMap(({ timeline }) => timeline.intervals()), ...running.timeline.intervals()];
    const now = this.recent(running);
    const fast = counts.committed === 0 ? '–' : `${((100 * counts.fast) / counts.committed).toFixed(1)} %`;
    const elapsedMs = performance.now() - running.startedAtMs;
    const stepMs = (plan.warmupNs + plan.durationNs) / 1e6;
    const filled = Math.round(Math.min(1, elapsedMs / stepMs) * BAR_WIDTH);
    const warming = elapsedMs * 1e6 < plan.warmupNs;
    const many = plan.rates.length > 1 ? `step ${running.index + 1} of ${plan.rates.length}  ` : '';
    const views = [...steps.map(({ facts }) => facts.viewChanges), counts.viewChanges].reduce(
      (sum, changes) => sum + changes,
      0,
    );
    const label = (text: string): string => this.paint(Colour.dim, text);
    return [
      `${this.paint(Colour.bold, 'JITPaxos load')}  ${this.title}`,
      '',
      `  ${many}${this.paint(Colour.bold, rate(running.ratePerSecond))} offered   ${this.paint(Colour.bold, rate(now.operationsPerSecond))} completed${warming ? `   ${this.paint(Colour.yellow, 'warming up')}` : ''}`,
      `  ${label('p50')} ${formatDuration(histogram.quantile(0.5)).padEnd(8)}  ${label('p99')} ${formatDuration(histogram.quantile(0.99)).padEnd(8)}  ${label('p99.9')} ${formatDuration(histogram.quantile(0.999)).padEnd(8)}  ${label('max')} ${formatDuration(histogram.max)}`,
      `  ${label('one round trip')} ${fast}   ${label('rejects')} ${formatCount(counts.rejected)}   ${label('resent')} ${formatCount(counts.retransmitted)}   ${label('failed')} ${counts.failed > 0 ? this.paint(Colour.red, formatCount(counts.failed)) : '0'}   ${label('view changes')} ${views > 0 ? this.paint(Colour.yellow, String(views)) : '0'}`,
      `  ${label('p99  ')}${this.paint(Colour.cyan, sparkline(logarithms(intervals), SPARK_WIDTH))}  ${formatDuration(now.p99)}`,
      `  ${'━'.repeat(filled)}${label('─'.repeat(BAR_WIDTH - filled))}  ${(elapsedMs / 1000).toFixed(1)} of ${(stepMs / 1000).toFixed(0)} s`,
    ];
  }

  private plainLine(running: RunningRampStep): string {
    const { histogram, counts } = running.timeline.total;
    const now = this.recent(running);
    const fast = counts.committed === 0 ? '–' : `${((100 * counts.fast) / counts.committed).toFixed(1)} %`;
    const seconds = ((performance.now() - running.startedAtMs) / 1000).toFixed(1).padStart(5);
    if (histogram.count === 0) return `${seconds} s  ${rate(running.ratePerSecond)} offered, warming up`;
    return `${seconds} s  ${rate(running.ratePerSecond)} offered, ${rate(now.operationsPerSecond)} completed, p50 ${formatDuration(histogram.quantile(0.5))}, p99 ${formatDuration(histogram.quantile(0.99))}, p99.9 ${formatDuration(histogram.quantile(0.999))}, one round trip ${fast}, ${formatCount(counts.rejected)} rejects, ${counts.viewChanges} view changes`;
  }

  private recent({ timeline }: RunningRampStep): { readonly operationsPerSecond: number; readonly p99: number } {
    // The last interval may lack the report of a client process.
    const intervals = timeline
      .intervals()
      .slice(0, -1)
      .slice(-Math.max(1, Math.round(RECENT_MS / timeline.intervalMs)));
    if (intervals.length === 0) return { operationsPerSecond: 0, p99: 0 };
    return {
      operationsPerSecond:
        intervals.reduce((sum, { operationsPerSecond }) => sum + operationsPerSecond, 0) / intervals.length,
      p99: Math.max(...intervals.map(({ p99 }) => p99 ?? 0)),
    };
  }

  private paint(colour: Colour, text: string): string {
    return paint(this.output.colours, colour, text);
  }
}

/** Latencies span decades: a sparkline of their logarithms, starting at the smallest, shows more than their peak. */
function logarithms(intervals: readonly Interval[]): number[] {
  const logs = intervals.map(({ p99 }) => Math.log10(Math.max(1_000, p99 ?? 0)));
  const lowest = Math.min(...logs, 9);
  // Sparklines begin at 0 and treat at least 1 as full.
  return logs.map((log) => (log - lowest) * 10);
}

function rate(perSecond: number): string {
  return `${formatCount(perSecond)}/s`;
}
