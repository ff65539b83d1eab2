/** Several runs side by side: the figures of each, and their ratios to the first run. */
import { Histogram } from '../../metrics/histogram.js';
import { partialOf, type BenchReport } from '../load/bench-report.js';
import { formatCount, formatDuration } from '../../console/units.js';
import { particularsOf } from './bench-page.js';
import type { Tone } from './chart.js';
import { command, dataTable, page, particulars, section } from './html.js';
import { percentileSection, percentText, rateText } from './latency-charts.js';

export interface NamedReport {
  readonly name: string;
  readonly report: BenchReport;
}

/** Most runs that one page can tell apart. */
export const COMPARED_MAX = 4;

const TONES: readonly Tone[] = ['a', 'b', 'c', 'soft'];

interface Row {
  readonly name: string;
  readonly value: (report: BenchReport) => number | null;
  readonly format: (value: number) => string;
}

const ROWS: readonly Row[] = [
  { name: 'p50', value: ({ latencyNs }) => latencyNs.p50, format: formatDuration },
  { name: 'p90', value: ({ latencyNs }) => latencyNs.p90, format: formatDuration },
  { name: 'p99', value: ({ latencyNs }) => latencyNs.p99, format: formatDuration },
  { name: 'p99.9', value: ({ latencyNs }) => latencyNs.p999, format: formatDuration },
  { name: 'max', value: ({ latencyNs }) => latencyNs.max, format: formatDuration },
  { name: 'offered', value: ({ offeredPerSecond }) => offeredPerSecond, format: rateText },
  { name: 'completed', value: ({ opsPerSecond }) => opsPerSecond, format: rateText },
  { name: 'one round trip', value: ({ fastPathRatio }) => fastPathRatio, format: (ratio) => percentText(ratio) },
  { name: 'rejects', value: ({ rejected }) => rejected, format: formatCount },
  { name: 'resent', value: ({ retransmitted }) => retransmitted, format: formatCount },
  { name: 'failed', value: ({ failed }) => failed, format: formatCount },
  { name: 'view changes', value: ({ viewChanges }) => viewChanges, format: formatCount },
];

/** Head and rows of the comparison, with a ratio for every run but the first. Rows that no run has are left out. */
export function comparison(runs: readonly NamedReport[]): { readonly head: string[]; readonly rows: string[][] } {
  const head = ['', ...runs.flatMap(({ name }, index) => (index === 0 ? [name] : [name, '×']))];
  const rows = ROWS.filter((row) => runs.some(({ report }) => row.value(report) !== null)).map((row) => {
    const first = row.value(runs[0]!.report);
    return [
      row.name,
      ...runs.flatMap(({ report }, index) => {
        const value = row.value(report);
        const text = value === null ? '–' : row.format(value);
        return index === 0
          ? [text]
          : [text, value === null || first === null || first === 0 ? '' : (value / first).toFixed(2)];
      }),
    ];
  });
  return { head, rows };
}

/** What is wrong with a single run: the reader must know it before comparing. */
export function flaws(runs: readonly NamedReport[]): string[] {
  return runs.flatMap(({ name, report }) => {
    const partial = partialOf(report);
    const step = report.load?.steps[report.load.reported];
    const shortfall = step?.shortfall ?? null;
    return [
      ...(partial === null ? [] : [`${name} is partial: ${partial}`]),
      ...(shortfall === null ? [] : [`${name}: its rate was not sustained: ${shortfall}`]),
      ...(report.operations === 0 ? [`${name} measured nothing: no operation succeeded`] : []),
    ];
  });
}

/** What makes the runs hard to compare, as sentences. */
export function differences(runs: readonly NamedReport[]): string[] {
  const facts: readonly (readonly [string, (report: BenchReport) => string])[] = [
    ['kind of load', ({ command: kind }) => `bench ${kind}`],
    ['host', ({ host }) => `${host.cores} × ${host.cpu}, Node ${host.node}`],
    ['version', ({ version }) => version],
    ['transport', ({ transport, idle }) => `${transport}${idle === null ? '' : ` (${idle})`}`],
    ['replicas', ({ replicas }) => String(replicas)],
    [
      'operations',
      ({ machine, mix, opBytes }) =>
        `${machine}, ${Object.entries(mix)
          .map(([name, share]) => `${name} ${Math.round(100 * share)} %`)
          .join(' ')}, ${opBytes} bytes`,
    ],
    ['durability', ({ durability }) => durability ?? 'unknown'],
    ['authentication', ({ authenticated }) => (authenticated ? 'keys' : 'none')],
    [
      'offered',
      ({ offeredPerSecond, load }) =>
        offeredPerSecond === null
          ? 'as fast as answers come'
          : `${rateText(offeredPerSecond)}${load === undefined || load.steps.length === 1 ? '' : ', the knee of a ramp'}`,
    ],
    ['duration', ({ seconds, load }) => (load === undefined ? '' : `${Number(seconds.toPrecision(2))} s`)],
    ['clients', ({ clients, lanes }) => `${clients} × ${lanes}`],
  ];
  return facts.flatMap(([name, of]) => {
    const values = runs.map(({ report }) => of(report));
    return values.every((value) => value === values[0])
      ? []
      : [`${name}: ${runs.map((run, index) => `${run.name} ${values[index]}`).join(', ')}`];
  });
}

export function comparePage(runs: readonly NamedReport[]): string {
  const [first, ...others] = runs;
  const named = runs.flatMap(({ name, report }, index) =>
    report.histogram === undefined
      ? []
      : [{ name, tone: TONES[index]!, histogram: Histogram.fromData(report.histogram) }],
  );
  const { head, rows } = comparison(runs);
  const apart = differences(runs);
  const wrong = flaws(runs);
  return page({
    title: `JITPaxos: ${runs.map(({ name }) => name).join(', ')}`,
    heading: `${first!.name} beside ${others.map(({ name }) => name).join(', ')}`,
    lead: `${wrong.map((flaw) => `${flaw}. `).join('')}Figures behind × are ratios to ${first!.name}. ${apart.length === 0 ? 'The runs had the same setting.' : `The runs differ in more than their name: ${apart.join('; ')}.`}`,
    sections: [
      section('Figures', dataTable(head, rows)),
      percentileSection(
        named,
        'Every nine has the same width; latency is on a logarithmic scale. One run says little: repeat both, in turns, before you believe a difference.',
      ),
      ...runs.map(({ name, report }) =>
        section(
          name,
          particulars(particularsOf(report)) + (report.commandLine === undefined ? '' : command(report.commandLine)),
        ),
      ),
    ],
  });
}
