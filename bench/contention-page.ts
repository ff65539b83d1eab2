/**
 * The results of bench:contention as one page: for each number of clients and each skew, the settings side by side as
 * the load rises.
 */
import { chartSvg, legend, type Series, type Tone } from '../src/measure/report/chart.js';
import { command, dataTable, page, section } from '../src/measure/report/html.js';
import { percentText, rateText } from '../src/measure/report/latency-charts.js';
import { linearScale, logScale, tickCount, tickDuration } from '../src/measure/report/scale.js';
import { formatDuration } from '../src/console/units.js';
import type { Row, Verdict } from './contention.js';

const TONES: readonly Tone[] = ['soft', 'b', 'c', 'a'];
const NS_PER_US = 1e3;
const HEAD = ['setting', 'offered', 'one round trip', '> 1½', 'completed', 'p50', 'p99', 'resent'];

export function contentionPage(rows: readonly Row[], verdicts: readonly Verdict[], commandLine: string): string {
  const nameOf = ({ clients, skew }: Row): string =>
    `${clients} clients, ${skew === 0 ? 'all alike' : `shares as 1 / k^${skew}`}`;
  const names = [...new Set(rows.map(nameOf))];
  const groups = names.map((name) => [name, rows.filter((row) => nameOf(row) === name)] as const);
  return page({
    title: 'JITPaxos: contention',
    heading: 'Several clients at a rising load',
    lead: 'Shares are of the commits of a step; latency is from the intended time. The last row of each setting is the first rate again, after the highest.',
    sections: [
      ...groups.map(([name, group]) =>
        section(name, charts(name, group) + dataTable(HEAD, group.map(cells)), sentences(group, verdicts)),
      ),
      section('Command', command(commandLine)),
    ],
  });
}

function charts(name: string, group: readonly Row[]): string {
  const rising = group.filter(({ afterPeak }) => !afterPeak);
  const settings = [...new Set(rising.map(({ setting }) => setting))];
  const series = (value: (row: Row) => number, text: (row: Row) => string): Series[] =>
    settings.map((setting, index) => ({
      name: setting,
      tone: TONES[index % TONES.length]!,
      dashed: index >= TONES.length,
      runs: [
        rising
          .filter((row) => row.setting === setting)
          .map((row) => ({
            x: row.offered,
            y: value(row),
            title: `${setting}, ${rateText(row.offered)} offered: ${text(row)}`,
          })),
      ],
    }));
  const offered = rising.map((row) => row.offered);
  const x = logScale(Math.min(...offered), Math.max(...offered), tickCount);
  const latencies = rising.map(({ p50Us }) => p50Us * NS_PER_US);
  const shares = series(
    ({ oneRoundTrip }) => 100 * oneRoundTrip,
    ({ oneRoundTrip }) => `${percentText(oneRoundTrip)} in one round trip`,
  );
  const medians = series(
    ({ p50Us }) => p50Us * NS_PER_US,
    ({ p50Us }) => `p50 ${formatDuration(p50Us * NS_PER_US)}`,
  );
  return (
    legend(shares) +
    chartSvg({
      label: `${name}: share of commits in one round trip by offered load`,
      x,
      y: linearScale(100, (value) => `${value} %`),
      series: shares,
      height: 220,
      xTitle: 'operations/s offered',
    }) +
    chartSvg({
      label: `${name}: median latency by offered load`,
      x,
      y: logScale(Math.min(...latencies), Math.max(...latencies), tickDuration),
      series: medians,
      height: 220,
      xTitle: 'operations/s offered',
    })
  );
}

function cells(row: Row): string[] {
  const { setting, offered, afterPeak, oneRoundTrip, moreThanOneAndAHalf, throughput, p50Us, p99Us, retransmissions } =
    row;
  return [
    setting,
    `${rateText(offered)}${afterPeak ? ' again' : ''}`,
    percentText(oneRoundTrip),
    percentText(moreThanOneAndAHalf),
    rateText(throughput),
    formatDuration(p50Us * NS_PER_US),
    formatDuration(p99Us * NS_PER_US),
    percentText(retransmissions),
  ];
}

function sentences(group: readonly Row[], verdicts: readonly Verdict[]): string {
  const [{ clients, skew }] = group as [Row];
  return verdicts
    .filter((verdict) => verdict.clients === clients && verdict.skew === skew)
    .map(
      ({ setting, last, recoveredMs }) =>
        `${setting}: at the highest rate ${percentText(last)} of the peak, as before ${recoveredMs === null ? 'not within the step' : `${recoveredMs} ms`} after the load dropped.`,
    )
    .join(' ');
}
