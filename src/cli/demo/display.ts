/**
 * What the demo shows while it runs: a few lines redrawn in place on a terminal, a line every two seconds elsewhere.
 */
import type { Output } from '../../console/command.js';
import type { Timeline } from '../../measure/load/timeline.js';
import { LiveFrame } from '../../console/live-frame.js';
import { Colour, paint, sparkline } from '../../console/terminal.js';
import { formatCount, formatDuration } from '../../console/units.js';

export interface DemoState {
  readonly clients: number;
  readonly lanes: number;
  readonly durationMs: number;
  readonly replicas: { readonly id: number; readonly pid: number; role: string; killedAtMs: number | undefined }[];
  elapsedMs: number;
  readonly timeline: Timeline;
}

const LINE_EVERY_MS = 2_000;
const SPARK_WIDTH = 60;
const BAR_WIDTH = 40;

export class Display {
  private readonly frame: LiveFrame;
  private lastLineMs = 0;

  constructor(private readonly output: Output) {
    this.frame = new LiveFrame(output);
  }

  update(state: DemoState): void {
    if (this.output.quiet || this.output.json) return;
    if (this.frame.live) this.frame.draw(this.lines(state));
    else if (state.elapsedMs - this.lastLineMs >= LINE_EVERY_MS) {
      this.lastLineMs = state.elapsedMs;
      this.output.note(plainLine(state));
    }
  }

  /** Leaves the last drawing on the screen and restores the cursor. */
  end(): void {
    this.frame.end();
  }

  private lines(state: DemoState): string[] {
    const { histogram, counts } = state.timeline.total;
    const intervals = state.timeline.intervals();
    const recent = intervals.slice(-10);
    const now =
      recent.length === 0
        ? 0
        : recent.reduce((sum, { operationsPerSecond }) => sum + operationsPerSecond, 0) / recent.length;
    const done = Math.min(1, state.elapsedMs / state.durationMs);
    const filled = Math.round(done * BAR_WIDTH);
    return [
      `${this.paint(Colour.bold, 'JITPaxos')}  ${state.replicas.length} replicas on loopback, ${state.clients} clients × ${state.lanes} operations open, half reads, half writes`,
      '',
      ...state.replicas.map(({ id, pid, role, killedAtMs }) =>
        killedAtMs === undefined
          ? `  ${this.paint(Colour.green, '●')} replica ${id}  ${role.padEnd(8)} pid ${pid}`
          : `  ${this.paint(Colour.red, '✗')} replica ${id}  ${role.padEnd(8)} killed at ${(killedAtMs / 1000).toFixed(1)} s`,
      ),
      '',
      `  ${this.paint(
        Colour.cyan,
        sparkline(
          intervals.map(({ operationsPerSecond }) => operationsPerSecond),
          SPARK_WIDTH,
        ),
      )}  ${formatCount(now)} operations/s`,
      `  committed ${formatCount(counts.committed)}   p50 ${formatDuration(histogram.quantile(0.5))}   p99 ${formatDuration(histogram.quantile(0.99))}   one round trip ${ratio(counts.fast, counts.committed)}`,
      `  ${'━'.repeat(filled)}${this.paint(Colour.dim, '─'.repeat(BAR_WIDTH - filled))}  ${(state.elapsedMs / 1000).toFixed(1)} of ${(state.durationMs / 1000).toFixed(0)} s`,
    ];
  }

  private paint(colour: Colour, text: string): string {
    return paint(this.output.colours, colour, text);
  }
}

function plainLine(state: DemoState): string {
  const { histogram, counts } = state.timeline.total;
  const dead = state.replicas
    .filter(({ killedAtMs }) => killedAtMs !== undefined)
    .map(({ id, role }) => `, replica ${id} (${role}) is killed`);
  return `${(state.elapsedMs / 1000).toFixed(1).padStart(5)} s  ${formatCount(counts.committed)} committed, p50 ${formatDuration(histogram.quantile(0.5))}, p99 ${formatDuration(histogram.quantile(0.99))}, one round trip ${ratio(counts.fast, counts.committed)}${dead.join('')}`;
}

function ratio(part: number, whole: number): string {
  return whole === 0 ? '–' : `${((part / whole) * 100).toFixed(1)} %`;
}
