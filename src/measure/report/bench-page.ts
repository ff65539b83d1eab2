/** The page of one run of a bench, and of several side by side. */
import { Histogram } from '../../metrics/histogram.js';
import type { LoadSection, LoadStep } from '../load/load-section.js';
import { verdictRows } from '../load/load-report.js';
import type { BenchReport } from '../load/bench-report.js';
import { formatCount, formatDuration } from '../../console/units.js';
import { chartSvg, legend, type Mark, type Series, type Tone } from './chart.js';
import { command, dataTable, figures, notice, page, particulars, section } from './html.js';
import {
  fastPathSection,
  latencyOverTimeSection,
  percentileSection,
  percentText,
  rateText,
  throughputSection,
  viewChangeMarks,
} from './latency-charts.js';
import { oneWaySection } from './one-way-section.js';
import { logScale, tickCount, tickDuration } from './scale.js';

const LOOP_NOTE =
  'Half of all operations took no longer than the line at 50 %, and so on. Every nine has the same width; latency is on a logarithmic scale.';

export function benchPage(report: BenchReport): string {
  const { load, histogram } = report;
  const began = report.timeline?.[0]?.startSeconds ?? 0;
  const timeline = (report.timeline ?? []).map((interval) => ({
    ...interval,
    startSeconds: interval.startSeconds - began,
  }));
  const isRamp = load !== undefined && load.steps.length > 1;
  const spacing = timeline[0]?.seconds ?? 0;
  const events = viewChangeMarks(timeline, spacing);
  const heading = isRamp
    ? rampHeading(load)
    : load === undefined
      ? `${formatDuration(report.latencyNs.p50)} median latency`
      : `${rateText(load.steps[0]!.offeredPerSecond)} for ${report.seconds.toFixed(0)} s`;
  return page({
    title: `JITPaxos bench ${report.command}: ${heading}`,
    heading,
    lead: leadOf(report),
    sections: [
      load !== undefined
        ? verdict(report)
        : typeof report.partial === 'string'
          ? notice('warn', `Partial: ${report.partial}`, [])
          : '',
      figures(figuresOf(report)),
      ...(isRamp ? [rampSection(load), stepsSection(load)] : []),
      histogram === undefined ? '' : percentilesOf(report, isRamp),
      ...(timeline.length === 0
        ? []
        : [
            throughputSection(timeline, spacing, events),
            latencyOverTimeSection(timeline, spacing, events),
            fastPathSection(timeline, spacing, events),
          ]),
      report.oneWay === undefined ? '' : oneWaySection(report.oneWay.replicas),
      report.baselines.length === 0 ? '' : baselinesSection(report),
      section(
        'Particulars',
        particulars(particularsOf(report)) + (report.commandLine === undefined ? '' : command(report.commandLine)),
      ),
    ],
  });
}

function rampHeading(load: LoadSection): string {
  return load.knee === null ? 'No rate was sustained' : `${rateText(load.knee.offeredPerSecond)} sustained`;
}

function leadOf({ load, replicas, clients, lanes, host, command: kind }: BenchReport): string {
  const who = `${replicas} replica${replicas === 1 ? '' : 's'} and ${clients} client process${clients === 1 ? '' : 'es'} on a host with ${host.cores} cores`;
  if (load === undefined)
    return `Closed loop (bench ${kind}): ${lanes} operation${lanes === 1 ? '' : 's'} open in each client. ${who}.`;
  const { steps } = load;
  const rates =
    steps.length > 1
      ? ` at ${steps.length} rates from ${rateText(steps[0]!.offeredPerSecond)} to ${rateText(steps.at(-1)!.offeredPerSecond)}`
      : '';
  return `Open loop${rates}, ${load.arrivals} arrivals: latency counts from the moment each operation was to be sent, whether or not the cluster kept up. ${who}.`;
}

function verdict(report: BenchReport): string {
  const rows = verdictRows(report);
  const { steps, partial } = report.load!;
  if (rows.length === 0) return notice('good', 'The offered rate was sustained.', []);
  const bad = partial !== null || steps[report.load!.reported]!.shortfall !== null;
  const [first, ...others] = rows.map(([name, text]) =>
    name === '' ? text : `${name[0]!.toUpperCase()}${name.slice(1)}: ${text}`,
  );
  return notice(bad ? 'warn' : 'good', first!, others);
}

function figuresOf(report: BenchReport): { name: string; value: string; remark: string }[] {
  const { latencyNs: latency, offeredPerSecond } = report;
  return [
    {
      name: 'p50',
      value: formatDuration(latency.p50),
      remark:
        report.load !== undefined && report.load.steps.length > 1
          ? report.load.limit === null
            ? 'at the highest rate'
            : 'at the knee'
          : 'half took less',
    },
    { name: 'p99', value: formatDuration(latency.p99), remark: `p90 ${formatDuration(latency.p90)}` },
    { name: 'p99.9', value: formatDuration(latency.p999), remark: `max ${formatDuration(latency.max)}` },
    {
      name: 'completed',
      value: rateText(report.opsPerSecond),
      remark:
        offeredPerSecond === null
          ? `${formatCount(report.operations)} operations`
          : `of ${rateText(offeredPerSecond)} offered`,
    },
    { name: 'one round trip', value: percentText(report.fastPathRatio, 1), remark: 'of commits' },
  ];
}

function percentilesOf(report: BenchReport, isRamp: boolean): string {
  const latency = Histogram.fromData(report.histogram!);
  if (report.load === undefined)
    return percentileSection([{ name: 'latency', tone: 'a', histogram: latency }], LOOP_NOTE);
  const service = Histogram.fromData(report.load.serviceHistogram);
  return percentileSection(
    [
      { name: 'from the intended time', tone: 'a', histogram: latency },
      { name: 'from the actual send', tone: 'soft', dashed: true, histogram: service },
    ],
    `${isRamp ? `At ${rateText(report.offeredPerSecond!)} offered. ` : ''}${LOOP_NOTE} Where the lines separate, operations waited to be sent, because the client was late or all its lanes were open.`,
  );
}

function rampSection(load: LoadSection): string {
  const shown = load.steps.filter(({ opsPerSecond, latencyNs }) => opsPerSecond > 0 && latencyNs.p50 !== null);
  if (shown.length < 2) return '';
  const line = (name: string, tone: Tone, value: (step: LoadStep) => number): Series => ({
    name,
    tone,
    runs: [
      shown.map((step) => ({
        x: step.opsPerSecond,
        y: value(step),
        title: `${rateText(step.offeredPerSecond)} offered, ${rateText(step.opsPerSecond)} completed: ${name} ${formatDuration(value(step))}`,
      })),
    ],
  });
  const series = [
    line('p50', 'a', ({ latencyNs }) => latencyNs.p50!),
    line('p99', 'b', ({ latencyNs }) => latencyNs.p99!),
    line('p99.9', 'c', ({ latencyNs }) => latencyNs.p999!),
  ];
  const rates = shown.map(({ opsPerSecond }) => opsPerSecond);
  const marks: Mark[] =
    load.knee === null
      ? []
      : [
          {
            x: load.knee.opsPerSecond,
            label: `${load.limit === null ? 'highest' : 'knee'} ${rateText(load.knee.offeredPerSecond)}`,
            tone: 'guide',
          },
        ];
  const chart = chartSvg({
    label: 'Latency against completed operations a second',
    x: logScale(Math.min(...rates), Math.max(...rates), tickCount),
    y: logScale(
      Math.min(...shown.map(({ latencyNs }) => latencyNs.p50!)),
      Math.max(...shown.map(({ latencyNs }) => latencyNs.p999!)),
      tickDuration,
    ),
    series,
    marks,
    height: 340,
    xTitle: 'completed operations a second',
  });
  return section(
    'Throughput and latency',
    legend(series) + chart,
    'One dot for each offered rate. Where a line turns up, or back to the left, the cluster or its host is full; latencies there grow with the length of the test.',
  );
}

function stepsSection(load: LoadSection): string {
  const rows = load.steps.map((step) => [
    rateText(step.offeredPerSecond),
    rateText(step.opsPerSecond),
    formatDuration(step.latencyNs.p50),
    formatDuration(step.latencyNs.p99),
    formatDuration(step.latencyNs.p999),
    percentText(step.fastPathRatio, 1),
    busiest(step.cores.clients),
    busiest(step.cores.replicas),
    `${step.cores.host.toFixed(1)} of ${step.cores.hostTotal}`,
    step.shortfall === null ? 'yes' : 'no',
  ]);
  const emphasized = load.knee === null ? -1 : load.reported;
  return section(
    'Rates',
    dataTable(
      [
        'offered',
        'completed',
        'p50',
        'p99',
        'p99.9',
        'fast path',
        'client cores',
        'replica cores',
        'host cores',
        'sustained',
      ],
      rows,
      emphasized,
    ),
    'Cores kept busy: by the busiest client process, by the busiest replica, and by everything on the host of the clients.',
  );
}

/** The largest number of cores that any process kept busy. */
function busiest(cores: readonly (number | null)[]): string {
  const known = cores.filter((value) => value !== null);
  return known.length === 0 ? '–' : Math.max(...known).toFixed(2);
}

function baselinesSection(report: BenchReport): string {
  const rows = [
    ['this run', report.latencyNs, report.opsPerSecond] as const,
    ...report.baselines.map(({ name, latencyNs, opsPerSecond }) => [name, latencyNs, opsPerSecond] as const),
  ];
  return section(
    'Baselines',
    dataTable(
      ['', 'p50', 'p99', 'p99.9', 'operations'],
      rows.map(([name, latency, rate]) => [
        name,
        formatDuration(latency.p50),
        formatDuration(latency.p99),
        formatDuration(latency.p999),
        rateText(rate),
      ]),
      0,
    ),
  );
}

export function particularsOf(report: BenchReport): [string, string][] {
  const { load, host, latencyNs: latency } = report;
  const step = load?.steps[load.reported];
  const mix = Object.entries(report.mix)
    .map(([name, share]) => `${name} ${Math.round(100 * share)} %`)
    .join(', ');
  const size =
    load !== undefined && load.opBytesMax > report.opBytes
      ? `${report.opBytes} to ${load.opBytesMax}`
      : String(report.opBytes);
  const rows: [string, string][] = [
    [
      'Cluster',
      `${report.replicas} replicas, ${report.transport} transport, durability ${report.durability ?? 'unknown'}, clock ${report.clock.source ?? 'unknown'}`,
    ],
    [
      'Operations',
      `${report.machine}, ${mix}, ${size} bytes${load?.keys == null ? '' : `, ${formatCount(load.keys)} keys, ${load.distribution}`}`,
    ],
    [
      'Clients',
      `${report.clients} process${report.clients === 1 ? '' : 'es'}, ${report.lanes} lane${report.lanes === 1 ? '' : 's'} each`,
    ],
    [
      'Latency',
      `min ${formatDuration(latency.min)}, p50 ${formatDuration(latency.p50)}, p90 ${formatDuration(latency.p90)}, p99 ${formatDuration(latency.p99)}, p99.9 ${formatDuration(latency.p999)}, max ${formatDuration(latency.max)}, mean ${formatDuration(latency.mean)}`,
    ],
  ];
  if (load !== undefined && step !== undefined) {
    const { serviceLatencyNs: service, schedulingDelayNs: late } = step;
    rows.push(
      [
        'Service latency',
        `from the actual send: p50 ${formatDuration(service.p50)}, p99 ${formatDuration(service.p99)}, p99.9 ${formatDuration(service.p999)}, max ${formatDuration(service.max)}`,
      ],
      [
        'Scheduling delay',
        `how late the clients themselves were: p50 ${formatDuration(late.p50)}, p99 ${formatDuration(late.p99)}, max ${formatDuration(late.max)}; ${formatCount(step.queued)} operations waited for a lane, ${formatCount(step.unsent)} were never sent`,
      ],
      [
        'Arrivals',
        `${load.arrivals}, seed ${load.seed}, ${load.warmupSeconds} s of warm-up cut off, clients wait by ${load.pacing === 'spin' ? 'spinning' : 'timers'}`,
      ],
    );
  }
  rows.push(
    [
      'Off the fast path',
      `${formatCount(report.rejected)} rejects, ${formatCount(report.reconciled)} reconciled, ${formatCount(report.retransmitted)} resent, ${formatCount(report.failed)} failed, ${formatCount(report.viewChanges)} view changes`,
    ],
    ['Host', `${host.cores} × ${host.cpu}, Linux ${host.kernel}, Node ${host.node}`],
    ['Version', `jitpaxos ${report.version}`],
  );
  return rows;
}
