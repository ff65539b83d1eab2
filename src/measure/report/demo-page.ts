/** The page of the demo: the charts that all reports share, and the failure half-way. */
import type { Histogram } from '../../metrics/histogram.js';
import type { BenchReport } from '../load/bench-report.js';
import type { Interval } from '../load/timeline.js';
import { formatCount, formatDuration } from '../../console/units.js';
import type { Mark } from './chart.js';
import { figures, page, particulars, section } from './html.js';
import {
  fastPathSection,
  latencyOverTimeSection,
  percentileSection,
  percentText,
  rateText,
  throughputSection,
  viewChangeMarks,
} from './latency-charts.js';

/** Which replica a demo kills, by its place in the view. */
export type KillTarget = 'member' | 'spare' | 'none';

/** What `jitpaxos demo --json` prints. */
export interface DemoResult {
  readonly schema: 'jitpaxos.demo/1';
  readonly replicas: number;
  readonly clients: number;
  readonly lanes: number;
  readonly operations: number;
  readonly seconds: number;
  readonly opsPerSecond: number;
  readonly latencyNs: ReturnType<Histogram['summary']>;
  readonly fastPathRatio: number | null;
  readonly rejected: number;
  readonly reconciled: number;
  readonly retransmitted: number;
  readonly failed: number;
  readonly viewChanges: number;
  readonly killed: {
    readonly replica: number;
    readonly role: KillTarget;
    readonly atSeconds: number;
    readonly slowestAfterNs: number | null;
    readonly committedAfter: number;
  } | null;
  readonly readBack: { readonly keys: number; readonly wrong: number };
  readonly report: string | null;
  /** Why the run is incomplete; null if it is complete. */
  readonly partial: string | null;
  readonly host: BenchReport['host'];
  readonly version: string;
}

export function demoPage(
  result: DemoResult,
  histogram: Histogram,
  intervals: readonly Interval[],
  intervalMs: number,
): string {
  const { latencyNs: latency, killed, readBack, host } = result;
  const spacing = intervalMs / 1000;
  const kill: Mark[] =
    killed === null ? [] : [{ x: killed.atSeconds, label: `replica ${killed.replica} killed`, tone: 'event' }];
  const views = viewChangeMarks(intervals, spacing);
  // A view change caused by a kill lies right beside the kill. There is room for one label: the kill's.
  const marks = killed === null ? views : kill;
  return page({
    title: `JITPaxos: ${formatCount(result.operations)} operations`,
    heading:
      killed === null
        ? `${formatCount(result.operations)} operations`
        : `${formatCount(result.operations)} operations, one failure`,
    lead: `Three replica processes and ${result.clients} client processes on this machine, where they share ${host.cores} cores.${killed === null ? '' : ` A replica is killed half-way; everything that was acknowledged is read back.`}${result.partial === null ? '' : ` This run is partial: ${result.partial}.`}`,
    sections: [
      figures([
        { name: 'p50', value: formatDuration(latency.p50), remark: 'half took less' },
        { name: 'p99', value: formatDuration(latency.p99), remark: `max ${formatDuration(latency.max)}` },
        {
          name: 'completed',
          value: rateText(result.opsPerSecond),
          remark: `${formatCount(result.operations)} in ${result.seconds.toFixed(1)} s`,
        },
        { name: 'one round trip', value: percentText(result.fastPathRatio, 1), remark: 'of commits' },
        {
          name: 'read back',
          value: formatCount(readBack.keys - readBack.wrong),
          remark: `of ${formatCount(readBack.keys)} keys, as last written`,
        },
      ]),
      percentileSection(
        [{ name: 'latency', tone: 'a', histogram }],
        'Half of all operations took no longer than the line at 50 %, and so on. Every nine has the same width; latency is on a logarithmic scale.',
      ),
      throughputSection(intervals, spacing, marks),
      latencyOverTimeSection(intervals, spacing, marks),
      fastPathSection(intervals, spacing, marks),
      section(
        'Particulars',
        particulars([
          ['Cluster', `${result.replicas} replica processes on loopback, log in memory`],
          [
            'Load',
            `closed loop: ${result.clients} client processes with ${result.lanes} operations open each, half reads and half writes of 64 bytes`,
          ],
          [
            'Failure',
            killed === null
              ? 'none'
              : `replica ${killed.replica} (${killed.role === 'spare' ? 'the spare, outside the quorum' : 'a member of the quorum'}) killed with SIGKILL at ${killed.atSeconds.toFixed(1)} s; ${formatCount(killed.committedAfter)} commits after it, the slowest in ${formatDuration(killed.slowestAfterNs)}`,
          ],
          [
            'Off the fast path',
            `${formatCount(result.rejected)} rejects, ${formatCount(result.reconciled)} reconciled, ${formatCount(result.retransmitted)} resent, ${formatCount(result.viewChanges)} view changes, ${formatCount(result.failed)} failed`,
          ],
          [
            'Latency',
            `p50 ${formatDuration(latency.p50)}, p90 ${formatDuration(latency.p90)}, p99 ${formatDuration(latency.p99)}, p99.9 ${formatDuration(latency.p999)}, max ${formatDuration(latency.max)}, mean ${formatDuration(latency.mean)}`,
          ],
          ['Host', `${host.cores} × ${host.cpu}, Linux ${host.kernel}, Node ${host.node}`],
          ['Version', `jitpaxos ${result.version}`],
        ]),
      ),
    ],
  });
}
