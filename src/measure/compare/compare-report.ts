/** The result of a comparison: an object of the schema jitpaxos.bench/1 for each point, and a table. */
import { version } from '../../host/version.js';
import type { LatencySummary } from '../../metrics/histogram.js';
import type { Durability } from '../../storage/durability.js';
import { addCounts, NO_COUNTS } from '../load/counts.js';
import { hostInfo, type BenchReport } from '../load/bench-report.js';
import { formatCount, formatDuration } from '../../console/units.js';
import type { Measured, Timing } from './contestant.js';
import { mediansOf, median, ratioOf } from './rounds.js';
import type { Point } from './shape.js';

/** Latencies and throughput are medians of the rounds; counts and processor time are sums over them. */
export function compareReport(
  point: Point,
  durability: Durability,
  ours: readonly Measured[],
  baselines: ReadonlyMap<string, readonly Measured[]>,
): BenchReport {
  const counts = ours.reduce((sum, { counts: some }) => addCounts(sum, some ?? NO_COUNTS), NO_COUNTS);
  const operations = ours.reduce((sum, run) => sum + run.operations, 0);
  const [first] = ours;
  const { latencyNs, opsPerSecond } = mediansOf(ours);
  const ratios: Record<string, number> = {};
  // A ratio to something that was not measured does not exist.
  const setRatio = (key: string, value: (run: Measured) => number, theirs: readonly Measured[]): void => {
    const ratio = ratioOf(ours, theirs, value);
    if (Number.isFinite(ratio)) ratios[key] = rounded(ratio, 3);
  };
  for (const [name, theirs] of baselines) {
    for (const percentile of ['p50', 'p99'] as const)
      setRatio(`${percentile}/${name}`, ({ histogram }) => histogram.summary()[percentile] ?? NaN, theirs);
    setRatio(`opsPerSecond/${name}`, (run) => run.opsPerSecond, theirs);
  }
  return {
    schema: 'jitpaxos.bench/1',
    command: 'compare',
    replicas: point.replicas,
    transport: first!.transport ?? 'unknown',
    idle: first!.idle ?? null,
    machine: point.machine,
    durability,
    authenticated: false,
    clients: point.clients,
    lanes: point.open,
    opBytes: point.bytes,
    mix: { [point.operation]: 1 },
    seconds: ours.reduce((sum, run) => sum + run.seconds, 0),
    operations,
    warmupOperations: null,
    opsPerSecond: rounded(opsPerSecond, 1),
    offeredPerSecond: null,
    latencyNs,
    fastPathRatio: counts.committed === 0 ? null : rounded(counts.fast / counts.committed, 6),
    rejected: counts.rejected,
    reconciled: counts.reconciled,
    retransmitted: counts.retransmitted,
    failed: counts.failed,
    viewChanges: counts.viewChanges,
    cpuSeconds: {
      client: rounded(
        ours.reduce((sum, run) => sum + (run.cpuSeconds.clients ?? 0), 0),
        3,
      ),
      replicas: first!.cpuSeconds.servers.map((_, server) =>
        rounded(
          ours.reduce((sum, run) => sum + (run.cpuSeconds.servers[server] ?? 0), 0),
          3,
        ),
      ),
    },
    allocatedBytesPerOp: {
      client:
        operations === 0
          ? null
          : rounded(ours.reduce((sum, run) => sum + (run.heap?.allocatedBytes ?? 0), 0) / operations, 2),
      primary: null,
      member: null,
    },
    clock: { source: null, errorNs: null },
    operationsPerDatagram: rounded(median(ours.map(({ perDatagram }) => perDatagram ?? 0)), 2),
    processes: first!.processes,
    baselines: [...baselines].map(([name, runs]) => ({ name, ...mediansOf(runs), processes: runs[0]!.processes })),
    ratios,
    host: hostInfo(),
    version: version(),
  };
}

export function compareTable(reports: readonly BenchReport[], rounds: number, timing: Timing): string {
  const lines: string[] = [];
  for (const report of reports) {
    const [operation] = Object.keys(report.mix);
    lines.push(
      `${report.replicas} replicas, ${report.clients} client${report.clients === 1 ? '' : 's'} × ${report.lanes} open, ${report.machine} ${operation}, ${report.opBytes} bytes, ${report.transport}${report.idle === null ? '' : ` (${report.idle})`}`,
    );
    const ours = {
      name: 'cluster',
      latencyNs: report.latencyNs,
      opsPerSecond: report.opsPerSecond,
      processes: report.processes,
    };
    const rows = [
      ['', 'p50', 'p99', 'p99.9', 'operations/s', 'servers', 'ours/p50', 'ours/rate'],
      ...[ours, ...report.baselines].map((row) => rowOf(report, row)),
    ];
    const widths = rows[0]!.map((_, column) => Math.max(...rows.map((row) => row[column]!.length)));
    for (const row of rows)
      lines.push(
        `  ${row.map((cell, column) => (column === 0 ? cell.padEnd(widths[column]!) : cell.padStart(widths[column]!))).join('  ')}`.trimEnd(),
      );
    lines.push(
      `  ${report.fastPathRatio === null ? 'nothing committed' : `${(100 * report.fastPathRatio).toFixed(2)} % in one round trip`}, ${report.operationsPerDatagram} operations a datagram, ${report.failed} failed`,
      ...(typeof report.partial === 'string' ? [`  ${report.partial}`] : []),
      '',
    );
  }
  lines.push(
    `medians of ${rounds} rounds in turns, ${timing.ms / 1000} s each after ${timing.warmupMs / 1000} s; ratios are medians of the rounds' own`,
  );
  return lines.join('\n');
}

function rowOf(
  report: BenchReport,
  {
    name,
    latencyNs,
    opsPerSecond,
    processes,
  }: { name: string; latencyNs: LatencySummary; opsPerSecond: number; processes?: Measured['processes'] | undefined },
): string[] {
  const ratio = (value: string): string => report.ratios[`${value}/${name}`]?.toFixed(2) ?? '';
  return [
    name,
    formatDuration(latencyNs.p50),
    formatDuration(latencyNs.p99),
    formatDuration(latencyNs.p999),
    formatCount(opsPerSecond),
    String(processes?.servers ?? ''),
    ratio('p50'),
    ratio('opsPerSecond'),
  ];
}

function rounded(value: number, digits: number): number {
  return Number(value.toFixed(digits));
}
