/**
 * Compares the cluster with the bare dgram program of the same shape (src/measure/compare/dgram-echo-program.ts): one
 * client, one open operation, the echo machine, three replicas of which two form the quorum. The two take turns,
 * several rounds in one invocation, because the host's speed drifts by more than the difference to be measured;
 * reported are medians of the rounds, and their ratio.
 *
 *   npm run bench:first-light -- [--rounds 5] [--ops 20000] [--size 64] [--json]
 */
import { execFile } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { hostInfo, type BenchReport } from '../src/measure/load/bench-report.js';
import { formatDuration } from '../src/console/units.js';
import type { LatencySummary } from '../src/metrics/histogram.js';
import { DgramEcho } from '../src/measure/compare/dgram-echo.js';
import { median } from '../src/measure/compare/rounds.js';
import { program } from './program.js';

const MAIN = fileURLToPath(new URL('../src/cli/main.js', import.meta.url));
const GOAL_RATIO = 1.6;
const ROUND_TIMEOUT_MS = 120_000;
const BARE_WARMUP_MS = 500;

interface Round {
  readonly oursP50: number;
  readonly oursP99: number;
  readonly bareP50: number;
  readonly bareP99: number;
  readonly fastPathRatio: number | null;
}

await program(
  {
    name: 'npm run bench:first-light --',
    summary: 'Latency of one client of ours beside a bare dgram program of the same shape, in turns.',
    positionals: [],
    flags: {
      rounds: { kind: 'count', default: '5', min: 1, max: 1000, help: 'rounds of one run of each' },
      ops: { kind: 'count', default: '20000', min: 1, max: 1e8, help: 'operations a run' },
      warmup: { kind: 'count', default: '10000', max: 1e8, help: 'operations before these, not measured' },
      seconds: {
        kind: 'duration',
        default: '1s',
        min: 1e7,
        help: 'how long the bare program runs, after half a second to warm up',
      },
      size: { kind: 'bytes', default: '64', max: 48 * 1024, help: 'bytes of an operation' },
    },
    examples: ['npm run bench:first-light -- --rounds 5 --json'],
  },
  async ({ rounds, ops, warmup, size, seconds }, output) => {
    const measured: Round[] = [];
    for (let round = 0; round < rounds; round++) {
      // The order changes with every round.
      const bareFirst = round % 2 === 0;
      const early = bareFirst ? await bare(size, seconds / 1e6) : undefined;
      const ours = await runOurs(size, ops, warmup);
      const echo = early ?? (await bare(size, seconds / 1e6));
      measured.push({
        oursP50: ours.latencyNs.p50 ?? NaN,
        oursP99: ours.latencyNs.p99 ?? NaN,
        bareP50: echo.p50 ?? NaN,
        bareP99: echo.p99 ?? NaN,
        fastPathRatio: ours.fastPathRatio,
      });
      output.note(
        `round ${round + 1} of ${rounds}: ours p50 ${formatDuration(ours.latencyNs.p50)}, bare ${formatDuration(echo.p50)}, ratio ${((ours.latencyNs.p50 ?? NaN) / (echo.p50 ?? NaN)).toFixed(2)}`,
      );
    }
    const of = (name: 'oursP50' | 'oursP99' | 'bareP50' | 'bareP99'): number =>
      median(measured.map((round) => round[name]));
    const ratio = median(measured.map(({ oursP50, bareP50 }) => oursP50 / bareP50));
    const result = {
      schema: 'jitpaxos.first-light/1',
      rounds: measured,
      operations: ops,
      warmupOperations: warmup,
      opBytes: size,
      medianNs: { ours: { p50: of('oursP50'), p99: of('oursP99') }, bare: { p50: of('bareP50'), p99: of('bareP99') } },
      ratioP50: Number(ratio.toFixed(3)),
      goalRatioP50: GOAL_RATIO,
      host: hostInfo(),
    };
    if (output.json) output.line(JSON.stringify(result));
    else {
      output.line(`ours        p50 ${formatDuration(of('oursP50'))}   p99 ${formatDuration(of('oursP99'))}`);
      output.line(`bare dgram  p50 ${formatDuration(of('bareP50'))}   p99 ${formatDuration(of('bareP99'))}`);
      output.line(
        `ratio       ${ratio.toFixed(2)} (median of ${rounds} rounds of ${ops} operations; goal: at most ${GOAL_RATIO})`,
      );
    }
  },
);

async function bare(size: number, ms: number): Promise<LatencySummary> {
  const { histogram } = await new DgramEcho().run(
    { replicas: 3, clients: 1, open: 1, bytes: size, operation: 'write', machine: 'echo' },
    { warmupMs: BARE_WARMUP_MS, ms },
  );
  return histogram.summary();
}

/** The same command that users run. */
async function runOurs(size: number, operations: number, warmup: number): Promise<BenchReport> {
  const args = ['bench', 'latency', '--local', '3', '--clients', '1', '--lanes', '1', '--transport', 'dgram', '--json'];
  const { stdout } = await promisify(execFile)(
    process.execPath,
    [MAIN, ...args, '--ops', String(operations), '--warmup', String(warmup), '--size', String(size)],
    { timeout: ROUND_TIMEOUT_MS },
  );
  return JSON.parse(stdout) as BenchReport;
}
