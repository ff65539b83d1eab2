/**
 * `jitpaxos top`: shows the cluster continuously: a screen on a terminal, plain lines elsewhere, one JSON object per
 * sample with --json. Ctrl-C or q ends it; the terminal is restored, with the last sample on it.
 */
import { printable } from '../../host/printable.js';
import { AllMembers, type MemberAnswer } from './all-members.js';
import { viewText } from '../../host/membership-report.js';
import { epochText } from './members-seen.js';
import { exitOf, summarize, type ClusterSummary, withChainRemark } from './summary.js';
import { storeLine } from './store-figures.js';
import { summaryLines } from './table.js';
import { defineCommand, type Output } from '../../console/command.js';
import { Exit } from '../../console/exit.js';
import { CLUSTER_FLAG, KEY_FILE_FLAG, keysOf } from '../../console/settings.js';
import { warnWithoutKeys } from '../../console/without-keys.js';
import { Colour, cut, paint, sparkline } from '../../console/terminal.js';
import { formatCount } from '../../console/units.js';

const SPARK_WIDTH = 60;
/** A silent replica delays a sample no longer than this. */
const ANSWER_MS_MAX = 500;

const ENTER = '\x1b[?1049h\x1b[?25l';
const LEAVE = '\x1b[?25h\x1b[?1049l';
const HOME = '\x1b[H';
const CLEAR_LINE = '\x1b[K';
const CLEAR_BELOW = '\x1b[J';

export const top = defineCommand(
  {
    name: 'top',
    summary: 'Shows the cluster live: roles, logs, lag, rates, rejects. q or Ctrl-C ends it.',
    positionals: [],
    flags: {
      cluster: CLUSTER_FLAG,
      'key-file': { ...KEY_FILE_FLAG, alias: 'keys' },
      interval: { kind: 'duration', default: '1s', min: 50e6, max: 3600e9, help: 'time between two samples' },
      count: { kind: 'count', min: 1, help: 'end after this many samples (default: never)' },
    },
    examples: ['jitpaxos top', 'jitpaxos top --interval 200ms --count 10 --json'],
  },
  async ({ values }, output) => {
    const intervalMs = values.interval / 1e6;
    const client = await AllMembers.open({ cluster: values.cluster, ...keysOf(values) });
    warnWithoutKeys(output, client.cluster);
    const screen = new Screen(output);
    const stop = new Stop(screen.live);
    let previous: readonly MemberAnswer[] | undefined;
    let earlier: readonly MemberAnswer[] | undefined;
    let summary: ClusterSummary | undefined;
    const commits: number[] = [];
    try {
      for (let sample = 1; !stop.wanted; sample++) {
        const dueMs = performance.now() + intervalMs;
        const answers = await client.ask(Math.max(1, Math.round(Math.min(intervalMs, ANSWER_MS_MAX))));
        summary = withChainRemark(summarize(client.cluster.id, answers, previous, earlier), client.cluster);
        earlier = previous;
        previous = answers;
        if (summary.commitsPerSecond !== undefined) commits.push(summary.commitsPerSecond);
        if (commits.length > SPARK_WIDTH) commits.shift();
        screen.show(summary, commits);
        if (sample === values.count) break;
        await stop.sleepUntil(dueMs);
      }
    } finally {
      stop.release();
      screen.end();
      await client.close();
    }
    return summary === undefined ? Exit.done : exitOf(summary);
  },
);

class Screen {
  readonly live: boolean;
  private last: readonly string[] = [];

  constructor(private readonly output: Output) {
    this.live = output.terminal && !output.json && !output.quiet;
    if (this.live) process.stdout.write(ENTER);
  }

  show(summary: ClusterSummary, commits: readonly number[]): void {
    const { output } = this;
    if (output.json)
      output.line(JSON.stringify({ schema: 'jitpaxos.cluster-status/1', time: new Date().toISOString(), ...summary }));
    else if (this.live) this.draw(summary, commits);
    else output.line(plainLine(summary));
  }

  /** The last drawing stays on the terminal. */
  end(): void {
    if (this.live) process.stdout.write(`${LEAVE}${printable(this.last.join('\n'), this.output.colours)}\n`);
  }

  private draw(summary: ClusterSummary, commits: readonly number[]): void {
    const { colours } = this.output;
    const columns = process.stdout.columns || 80; // a pseudo-terminal may say 0
    const rows = process.stdout.rows || 24;
    const lines = [
      ...summaryLines(summary, colours),
      '',
      `${paint(colours, Colour.cyan, sparkline(commits, SPARK_WIDTH))}  commits/s`,
      paint(colours, Colour.dim, `${new Date().toISOString()}   q ends`),
    ];
    this.last = lines.slice(0, -1);
    const shown = lines.slice(0, rows - 1).map((line) => cut(line, columns) + (colours ? '\x1b[0m' : '') + CLEAR_LINE);
    process.stdout.write(`${HOME}${shown.join('\r\n')}${CLEAR_BELOW}`);
  }
}

/** One sample for logs: what changes, and what is wrong. */
export function plainLine(summary: ClusterSummary): string {
  const {
    view,
    primary,
    members,
    membership,
    answered,
    replicas,
    available,
    commitsPerSecond,
    leases,
    watches,
    remarks,
  } = summary;
  const epoch = epochText(membership);
  const where =
    view === undefined
      ? ''
      : `${epoch === undefined ? '' : `  ${epoch}`}  view ${viewText(view)}  primary ${primary}  quorum ${members.join(',')}`;
  const rate = commitsPerSecond === undefined ? '' : `  ${formatCount(commitsPerSecond)} commits/s`;
  const store = storeLine(leases, watches);
  const lags = replicas.map(({ lag }) => (lag === undefined ? '–' : String(lag))).join(',');
  return `${new Date().toISOString()}  ${available ? 'available' : 'not available'}  ${answered} of ${replicas.filter(({ asked }) => asked).length} answer${where}${rate}  lag ${lags}${store === '' ? '' : `  ${store}`}${remarks.map((remark) => `  ! ${remark}`).join('')}`;
}

/** Ctrl-C, SIGTERM, and on a terminal the key q. */
class Stop {
  wanted = false;
  private wake: (() => void) | undefined;

  constructor(private readonly keys: boolean) {
    process.on('SIGINT', this.request);
    process.on('SIGTERM', this.request);
    if (!keys || !process.stdin.isTTY) return;
    process.stdin.setRawMode(true).resume().on('data', this.onKey);
  }

  /** `performance.now()`; returns at once if the time has passed or a stop was requested. */
  async sleepUntil(dueMs: number): Promise<void> {
    if (this.wanted) return;
    await new Promise<void>((resolve) => {
      const timer = setTimeout(resolve, Math.max(0, dueMs - performance.now()));
      this.wake = () => {
        clearTimeout(timer);
        resolve();
      };
    });
    this.wake = undefined;
  }

  release(): void {
    process.off('SIGINT', this.request);
    process.off('SIGTERM', this.request);
    if (!this.keys || !process.stdin.isTTY) return;
    process.stdin.off('data', this.onKey).pause().setRawMode(false);
  }

  private readonly request = (): void => {
    this.wanted = true;
    this.wake?.();
  };

  private readonly onKey = (data: Buffer): void => {
    // Raw mode: Ctrl-C arrives as a byte.
    if (data.includes(0x03) || data.includes(0x71)) this.request();
  };
}
