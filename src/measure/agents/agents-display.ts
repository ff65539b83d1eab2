/**
 * What a coordinator shows while its agents load a cluster: a line for each and one for their sum, redrawn in place on a
 * terminal; elsewhere the sum, and who is lost, every two seconds.
 */
import { Histogram } from '../../metrics/histogram.js';
import type { Output } from '../../console/command.js';
import { LiveFrame } from '../../console/live-frame.js';
import { Colour, paint, table } from '../../console/terminal.js';
import { formatCount, formatDuration } from '../../console/units.js';
import type { AgentProgress } from './control-messages.js';

const REFRESH_MS = 250;
const LINE_EVERY_MS = 2_000;
/** The current rate is over about this long. */
const RECENT_SECONDS = 1;
const HEAD = ['agent', 'completed', 'p50', 'p99', 'failed', 'operations', ''];

/** What is shown of an agent. */
export interface ShownAgent {
  readonly name: string;
  readonly progress: AgentProgress | undefined;
  readonly lost: string | undefined;
  readonly isDone: boolean;
  /** Its clock cannot be believed. */
  readonly doubtful: boolean;
}

interface Sample {
  readonly seconds: number;
  readonly count: number;
}

export class AgentsDisplay {
  private readonly frame: LiveFrame;
  private readonly timer: NodeJS.Timeout;
  private readonly samples = new Map<string, Sample[]>();
  private lastLineMs = performance.now();

  /** @param totalSeconds warm-up and measurement */
  constructor(
    private readonly output: Output,
    private readonly title: string,
    private readonly totalSeconds: number,
    private readonly agents: () => readonly ShownAgent[],
  ) {
    this.frame = new LiveFrame(output);
    this.timer = setInterval(() => this.update(), REFRESH_MS);
  }

  end(): void {
    clearInterval(this.timer);
    this.frame.end();
  }

  private update(): void {
    const agents = this.agents();
    for (const agent of agents) this.sample(agent);
    if (this.frame.live) return this.frame.draw(this.lines(agents));
    if (this.output.json || performance.now() - this.lastLineMs < LINE_EVERY_MS) return;
    this.lastLineMs = performance.now();
    this.output.note(this.plainLine(agents));
  }

  private lines(agents: readonly ShownAgent[]): string[] {
    const { colours } = this.output;
    const dim = (text: string): string => paint(colours, Colour.dim, text);
    const rows = agents.map((agent) => [
      agent.doubtful ? paint(colours, Colour.yellow, agent.name) : agent.name,
      ...this.figures([agent]),
      this.state(agent),
    ]);
    const seconds = secondsOf(agents);
    return [
      `${paint(colours, Colour.bold, 'JITPaxos load')}  ${this.title}`,
      '',
      ...table(
        [HEAD.map(dim), ...rows, [paint(colours, Colour.bold, 'all'), ...this.figures(agents), '']],
        new Set([1, 2, 3, 4, 5]),
      ).map((line) => `  ${line}`),
      '',
      `  ${seconds.toFixed(1)} of ${this.totalSeconds.toFixed(1)} s`,
    ];
  }

  private plainLine(agents: readonly ShownAgent[]): string {
    const seconds = secondsOf(agents);
    const [completed, p50, p99, failed] = this.figures(agents);
    const lost = agents.filter((agent) => agent.lost !== undefined && !agent.isDone);
    const gone = lost.length === 0 ? '' : `, lost: ${lost.map(({ name }) => name).join(', ')}`;
    if (agents.every(({ progress }) => progress === undefined || progress.histogram.count === 0))
      return `${seconds.toFixed(1).padStart(5)} s  ${agents.length} agent${agents.length === 1 ? '' : 's'}, warming up${gone}`;
    return `${seconds.toFixed(1).padStart(5)} s  ${agents.length} agent${agents.length === 1 ? '' : 's'}, ${completed} completed, p50 ${p50}, p99 ${p99}, ${failed} failed${gone}`;
  }

  /** The columns of figures, of several agents together. */
  private figures(agents: readonly ShownAgent[]): string[] {
    const sum = new Histogram();
    let failed = 0;
    let rate = 0;
    for (const agent of agents) {
      if (agent.progress === undefined) continue;
      sum.merge(Histogram.fromData(agent.progress.histogram));
      failed += agent.progress.counts.failed;
      if (agent.lost === undefined && !agent.isDone) rate += this.rateOf(agent.name);
    }
    const { p50, p99 } = sum.summary();
    const { colours } = this.output;
    return [
      `${formatCount(rate)}/s`,
      formatDuration(p50),
      formatDuration(p99),
      failed > 0 ? paint(colours, Colour.red, formatCount(failed)) : '0',
      formatCount(sum.count),
    ];
  }

  private state({ progress, lost, isDone }: ShownAgent): string {
    const { colours } = this.output;
    if (isDone) return 'ended';
    if (lost !== undefined) return paint(colours, Colour.red, `lost: ${lost}`);
    if (progress === undefined) return 'waits for the start';
    return progress.warming ? paint(colours, Colour.yellow, 'warming up') : '';
  }

  private sample({ name, progress }: ShownAgent): void {
    if (progress === undefined) return;
    const samples = this.samples.get(name) ?? [];
    this.samples.set(name, samples);
    if (samples.at(-1)?.seconds === progress.seconds) return;
    samples.push({ seconds: progress.seconds, count: progress.histogram.count });
    while (samples.length > 2 && samples.at(-1)!.seconds - samples[1]!.seconds >= RECENT_SECONDS) samples.shift();
  }

  private rateOf(name: string): number {
    const samples = this.samples.get(name) ?? [];
    const [first, last] = [samples[0], samples.at(-1)];
    return first === undefined || first === last ? 0 : (last!.count - first.count) / (last!.seconds - first.seconds);
  }
}

function secondsOf(agents: readonly ShownAgent[]): number {
  return Math.max(0, ...agents.map(({ progress }) => progress?.seconds ?? 0));
}
