/**
 * The demo's report: one HTML file that needs nothing else: no script, no font, no request. Light or dark as the reader's
 * system is. The figures and curves are those of the result; the drawing adds nothing to them.
 */
import type { Histogram } from '../metrics/histogram.js';
import { percentileTicks } from '../metrics/hgrm.js';
import type { DemoResult } from './demo.js';
import type { Interval } from './load/timeline.js';
import { formatCount, formatDuration } from './units.js';

const WIDTH = 760;
const HEIGHT = 250;
const MARGIN = { left: 62, right: 16, top: 14, bottom: 34 } as const;
const INNER_WIDTH = WIDTH - MARGIN.left - MARGIN.right;
const INNER_HEIGHT = HEIGHT - MARGIN.top - MARGIN.bottom;

interface Tick {
  readonly at: number;
  readonly label: string;
}

interface Axes {
  /** Positions from 0 to 1. */
  readonly x: readonly Tick[];
  readonly y: readonly Tick[];
}

export function demoReportHtml(result: DemoResult, histogram: Histogram, intervals: readonly Interval[]): string {
  const { latencyNs: latency, killed, readBack, host } = result;
  const figures: [string, string, string][] = [
    ['p50', formatDuration(latency.p50), 'half of all operations took less'],
    ['p99', formatDuration(latency.p99), `slowest ${formatDuration(latency.max)}`],
    ['throughput', `${formatCount(result.opsPerSecond)}/s`, `${formatCount(result.operations)} in ${result.seconds.toFixed(1)} s`],
    ['one round trip', result.fastPathRatio === null ? '–' : `${(result.fastPathRatio * 100).toFixed(1)} %`, 'of all commits'],
    ['read back', `${formatCount(readBack.keys - readBack.wrong)}/${formatCount(readBack.keys)}`, 'keys hold what was written last'],
  ];
  const details: [string, string][] = [
    ['Cluster', `${result.replicas} replica processes on loopback, log in memory`],
    ['Load', `closed loop: ${result.clients} client processes with ${result.lanes} operations open each, half reads and half writes of 64 bytes`],
    ['Failure', killed === null ? 'none' : `replica ${killed.replica} (${killed.role === 'spare' ? 'the spare, outside the quorum' : 'a member of the quorum'}) killed with SIGKILL at ${killed.atSeconds.toFixed(1)} s; ${formatCount(killed.committedAfter)} commits after it, the slowest in ${formatDuration(killed.slowestAfterNs)}`],
    ['Off the fast path', `${formatCount(result.rejected)} rejects, ${formatCount(result.reconciled)} reconciled, ${formatCount(result.retransmitted)} resent, ${formatCount(result.viewChanges)} view changes, ${formatCount(result.failed)} failed`],
    ['Latency', `p50 ${formatDuration(latency.p50)}, p90 ${formatDuration(latency.p90)}, p99 ${formatDuration(latency.p99)}, p99.9 ${formatDuration(latency.p999)}, max ${formatDuration(latency.max)}, mean ${formatDuration(latency.mean)}`],
    ['Host', `${host.cores} × ${host.cpu}, Linux ${host.kernel}, Node ${host.node}`],
    ['Version', `jitpaxos ${result.version}`],
  ];
  return `<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>JITPaxos: ${formatCount(result.operations)} operations</title>
<style>${STYLE}</style>
<main>
<header><h1>JITPaxos</h1><p>Three replicas, one failure, ${formatCount(result.operations)} committed operations. Measured on this machine, where the processes share ${host.cores} cores.</p></header>
<section class="figures">${figures.map(([name, value, remark]) => `<div><span>${escape(name)}</span><strong>${escape(value)}</strong><small>${escape(remark)}</small></div>`).join('')}</section>
<section><h2>Latency by percentile</h2>${latencyChart(histogram)}<p>How long the fastest so many percent of all operations took. The scale of percentiles gets finer to the right, the scale of times is logarithmic.</p></section>
<section><h2>Throughput over time</h2>${throughputChart(intervals, killed?.atSeconds)}</section>
<section><h2>Latency over time</h2>${latencyOverTime(intervals, killed?.atSeconds)}<p><i class="key p50"></i> p50 <i class="key p99"></i> p99 of each tenth of a second${killed === null ? '' : ' <i class="key mark"></i> a replica is killed'}. A gap in the lines: nothing was committed then.</p></section>
<section><h2>Particulars</h2><table>${details.map(([name, value]) => `<tr><th>${escape(name)}</th><td>${escape(value)}</td></tr>`).join('')}</table></section>
</main>
</html>
`;
}

function latencyChart(histogram: Histogram): string {
  const decades = Math.max(1, Math.log10(Math.max(10, histogram.count)));
  const position = (percentile: number): number => (percentile >= 100 ? 1 : Math.min(1, -Math.log10(1 - percentile / 100) / decades));
  const scale = logScale(Math.max(1, histogram.min), Math.max(2, histogram.max));
  const points = percentileTicks(histogram.count).map((percentile) => [position(percentile), scale.at(histogram.quantile(percentile / 100))] as const);
  const x = [0, 50, 90, 99, 99.9, 99.99, 99.999].filter((percentile) => percentile === 0 || position(percentile) < 0.97).map((percentile) => ({ at: position(percentile), label: `${percentile} %` }));
  x.push({ at: 1, label: 'max' });
  return svg('Latency by percentile', { x, y: scale.ticks }, `<path class="line p50" d="${path(points)}"/>`);
}

function throughputChart(intervals: readonly Interval[], killedAt: number | undefined): string {
  const top = niceTop(Math.max(1, ...intervals.map(({ operationsPerSecond }) => operationsPerSecond)));
  const seconds = endOf(intervals);
  const points = intervals.map(({ startSeconds, operationsPerSecond }) => [startSeconds / seconds, operationsPerSecond / top] as const);
  const last = points.at(-1)?.[0] ?? 0;
  const area = points.length < 2 ? '' : `<path class="area" d="${path([[0, 0], ...points, [last, 0]])}"/>`;
  const y = [0, 0.25, 0.5, 0.75, 1].map((at) => ({ at, label: formatCount(at * top) }));
  return svg('Operations a second over time', { x: timeTicks(seconds), y }, `${area}<path class="line p50" d="${path(points)}"/>${marker(killedAt, seconds)}`);
}

function latencyOverTime(intervals: readonly Interval[], killedAt: number | undefined): string {
  const seconds = endOf(intervals);
  const busy = intervals.filter(({ p50 }) => p50 > 0);
  const scale = logScale(Math.max(1, Math.min(...busy.map(({ p50 }) => p50), 1e9)), Math.max(2, ...busy.map(({ p99 }) => p99)));
  const line = (value: (interval: Interval) => number): string => {
    const runs: (readonly [number, number])[][] = [[]];
    for (const interval of intervals) {
      if (interval.p50 > 0) runs.at(-1)!.push([interval.startSeconds / seconds, scale.at(value(interval))]);
      else if (runs.at(-1)!.length > 0) runs.push([]);
    }
    return runs.map(path).join('');
  };
  return svg('Latency over time', { x: timeTicks(seconds), y: scale.ticks }, `<path class="line p99" d="${line(({ p99 }) => p99)}"/><path class="line p50" d="${line(({ p50 }) => p50)}"/>${marker(killedAt, seconds)}`);
}

function svg(title: string, axes: Axes, content: string): string {
  const rows = axes.y.map(({ at, label }) => `<line class="grid" x1="${MARGIN.left}" x2="${WIDTH - MARGIN.right}" y1="${yOf(at)}" y2="${yOf(at)}"/><text x="${MARGIN.left - 8}" y="${yOf(at)}" dy="0.32em" text-anchor="end">${escape(label)}</text>`);
  const columns = axes.x.map(({ at, label }) => `<line class="tick" x1="${xOf(at)}" x2="${xOf(at)}" y1="${HEIGHT - MARGIN.bottom}" y2="${HEIGHT - MARGIN.bottom + 5}"/><text x="${xOf(at)}" y="${HEIGHT - MARGIN.bottom + 18}" text-anchor="${at > 0.98 ? 'end' : at < 0.02 ? 'start' : 'middle'}">${escape(label)}</text>`);
  return `<svg viewBox="0 0 ${WIDTH} ${HEIGHT}" role="img" aria-label="${escape(title)}">${rows.join('')}${columns.join('')}${content}</svg>`;
}

function marker(killedAt: number | undefined, seconds: number): string {
  if (killedAt === undefined) return '';
  const x = xOf(Math.min(1, killedAt / seconds));
  return `<line class="mark" x1="${x}" x2="${x}" y1="${MARGIN.top}" y2="${HEIGHT - MARGIN.bottom}"/><text class="marked" x="${x}" y="${MARGIN.top - 3}" text-anchor="middle">replica killed</text>`;
}

/** Ticks at 1, 2 and 5 times the powers of ten, or at powers of ten only when these are many. */
function logScale(low: number, high: number): { at(value: number): number; ticks: Tick[] } {
  const bottom = Math.log10(low) - 0.04;
  const span = Math.max(0.3, Math.log10(high) + 0.04 - bottom);
  const at = (value: number): number => Math.max(0, Math.min(1, (Math.log10(Math.max(1, value)) - bottom) / span));
  const steps = span > 2.2 ? [1] : [1, 2, 5];
  const ticks: Tick[] = [];
  for (let power = Math.floor(bottom); power <= Math.ceil(bottom + span); power++) {
    for (const step of steps) {
      const value = step * 10 ** power;
      if (Math.log10(value) >= bottom && Math.log10(value) <= bottom + span) ticks.push({ at: at(value), label: shortDuration(value) });
    }
  }
  return { at, ticks };
}

function shortDuration(ns: number): string {
  if (ns < 1e3) return `${ns} ns`;
  if (ns < 1e6) return `${ns / 1e3} µs`;
  return ns < 1e9 ? `${ns / 1e6} ms` : `${ns / 1e9} s`;
}

function timeTicks(seconds: number): Tick[] {
  const step = [0.1, 0.2, 0.5, 1, 2, 5, 10, 20].find((candidate) => seconds / candidate <= 12) ?? 30;
  return Array.from({ length: Math.floor(seconds / step) + 1 }, (_, index) => ({ at: (index * step) / seconds, label: `${Number((index * step).toFixed(1))} s` }));
}

function endOf(intervals: readonly Interval[]): number {
  return Math.max(0.1, intervals.at(-1)?.startSeconds ?? 0);
}

/** The next round number at or above `value`. */
function niceTop(value: number): number {
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 1.2, 1.6, 2, 2.4, 3, 4, 5, 6, 8, 10].map((factor) => factor * power).find((candidate) => candidate >= value) ?? 10 * power;
}

function path(points: readonly (readonly [number, number])[]): string {
  return points.map(([x, y], index) => `${index === 0 ? 'M' : 'L'}${xOf(x)} ${yOf(y)}`).join('');
}

function xOf(at: number): string {
  return (MARGIN.left + at * INNER_WIDTH).toFixed(1);
}

function yOf(at: number): string {
  return (MARGIN.top + (1 - at) * INNER_HEIGHT).toFixed(1);
}

function escape(text: string): string {
  return text.replace(/[&<>"]/g, (character) => ({ '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;' })[character]!);
}

const STYLE = `
:root{--paper:#fbfaf8;--card:#fff;--ink:#1c1f24;--soft:#667080;--rule:#e3e1dc;--a:#1f6feb;--b:#c2570c;--mark:#c0263a}
@media(prefers-color-scheme:dark){:root{--paper:#101317;--card:#181c22;--ink:#e8eaed;--soft:#98a2b1;--rule:#2a3038;--a:#6cb0ff;--b:#f0a35e;--mark:#ff7b86}}
*{box-sizing:border-box}
body{margin:0;background:var(--paper);color:var(--ink);font:16px/1.5 system-ui,sans-serif}
main{max-width:860px;margin:0 auto;padding:40px 20px 60px}
h1{margin:0;font-size:30px;letter-spacing:-.02em}
h2{margin:0 0 10px;font-size:16px;font-weight:600}
header p{margin:6px 0 24px;color:var(--soft)}
section{background:var(--card);border:1px solid var(--rule);border-radius:12px;padding:18px 20px;margin-bottom:16px}
section>p{margin:8px 0 0;color:var(--soft);font-size:13px}
.figures{display:grid;grid-template-columns:repeat(auto-fit,minmax(140px,1fr));gap:16px}
.figures span{display:block;color:var(--soft);font-size:13px}
.figures strong{display:block;font-size:25px;font-weight:650;letter-spacing:-.02em;font-variant-numeric:tabular-nums}
.figures small{color:var(--soft);font-size:12px}
svg{display:block;width:100%;height:auto;overflow:visible}
svg text{fill:var(--soft);font:11px system-ui,sans-serif;font-variant-numeric:tabular-nums}
.grid{stroke:var(--rule)}.tick{stroke:var(--soft)}
.line{fill:none;stroke-width:1.8;stroke-linejoin:round;stroke-linecap:round}
.line.p50{stroke:var(--a)}.line.p99{stroke:var(--b)}
.area{fill:var(--a);opacity:.14}
.mark{stroke:var(--mark);stroke-width:1.5;stroke-dasharray:4 3}
svg text.marked{fill:var(--mark)}
.key{display:inline-block;width:18px;height:3px;border-radius:2px;vertical-align:middle;margin-left:10px}
.key:first-child{margin-left:0}.key.p50{background:var(--a)}.key.p99{background:var(--b)}.key.mark{background:var(--mark)}
table{border-collapse:collapse;width:100%;font-size:14px}
th{text-align:left;font-weight:500;color:var(--soft);padding:6px 16px 6px 0;vertical-align:top;white-space:nowrap}
td{padding:6px 0;border-bottom:1px solid var(--rule)}th{border-bottom:1px solid var(--rule)}
tr:last-child>*{border-bottom:0}
`;
