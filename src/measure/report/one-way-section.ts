/**
 * One-way delays as a picture: for each replica a bar for the request way, the time in the replica and the reply way. A
 * bar ends at the median; a line leads on to p99; a whisker at the end of a way is the bound of the clocks. Where the
 * ways are not told apart there is one bar for both, and a sentence.
 */
import { formatDuration } from '../../console/units.js';
import type { OneWayFigures } from '../oneway/figures.js';
import { ONE_WAY_HEAD, oneWayNotes, oneWayRow } from '../oneway/text.js';
import { legend, type Series, type Tone } from './chart.js';
import { dataTable, escapeHtml, section } from './html.js';
import { linearScale } from './scale.js';

interface Bar {
  readonly name: string;
  readonly tone: Tone;
  readonly p50: number;
  readonly p99: number;
  /** Null: no clocks are compared. */
  readonly boundNs: number | null;
}

interface Size {
  readonly name: 'wide' | 'narrow';
  readonly width: number;
  readonly left: number;
  readonly ticks: number;
}

const SIZES: readonly Size[] = [
  { name: 'wide', width: 840, left: 96, ticks: 8 },
  { name: 'narrow', width: 340, left: 72, ticks: 4 },
];
const BAR = 13;
const GAP = 5;
const BETWEEN = 14;
const TOP = 6;
const AXIS = 26;
const RIGHT = 16;
const WHISKER = 4;

const SERIES: readonly Series[] = [
  { name: 'request way', tone: 'a', runs: [] },
  { name: 'in the replica', tone: 'c', runs: [] },
  { name: 'reply way', tone: 'b', runs: [] },
  { name: 'both ways', tone: 'soft', runs: [] },
];

/** @param of follows the heading, if there are several */
export function oneWaySection(replicas: readonly OneWayFigures[], of = ''): string {
  const shown = replicas.filter(({ answered }) => answered > 0);
  return section(
    `One-way delays${of}`,
    (shown.length === 0 ? '' : legend(SERIES) + SIZES.map((size) => draw(shown, size)).join('')) +
      dataTable([...ONE_WAY_HEAD], replicas.map(oneWayRow)),
    [
      'From questions beside the load. A bar is the median, the thin line behind it reaches to p99. A whisker is how far the clocks of the two hosts may be apart: the true median lies within it.',
      ...oneWayNotes(replicas).map(escapeHtml),
    ].join(' '),
  );
}

function barsOf({ requestNs, replicaNs, replyNs, bothWaysNs, boundNs }: OneWayFigures): Bar[] {
  const inside: Bar = { name: 'in the replica', tone: 'c', p50: replicaNs.p50!, p99: replicaNs.p99!, boundNs: null };
  if (requestNs === null || replyNs === null)
    return [inside, { name: 'both ways', tone: 'soft', p50: bothWaysNs.p50!, p99: bothWaysNs.p99!, boundNs: null }];
  return [
    { name: 'request way', tone: 'a', p50: requestNs.p50!, p99: requestNs.p99!, boundNs },
    inside,
    { name: 'reply way', tone: 'b', p50: replyNs.p50!, p99: replyNs.p99!, boundNs },
  ];
}

/** Only the medians and their bounds have to fit: a p99 may be a hundred times as long. */
const SHOWN_P99 = 4;

function draw(replicas: readonly OneWayFigures[], { name, width, left, ticks }: Size): string {
  const groups = replicas.map((figures) => ({ replica: figures.replica, bars: barsOf(figures) }));
  const bars = groups.flatMap((group) => group.bars);
  const medians = Math.max(1, ...bars.map(({ p50, boundNs }) => p50 + (boundNs ?? 0)));
  const longest = Math.max(...bars.map(({ p99 }) => p99));
  const scale = linearScale(Math.max(medians, Math.min(SHOWN_P99 * medians, longest)), formatDuration);
  const px = (ns: number): string => (left + scale.at(Math.max(0, ns)) * (width - left - RIGHT)).toFixed(1);
  const height = TOP + AXIS + bars.length * (BAR + GAP) + Math.max(0, groups.length - 1) * BETWEEN;
  const base = height - AXIS;
  const parts = scale.ticks(ticks).map((tick) => {
    const at = (left + tick.at * (width - left - RIGHT)).toFixed(1);
    return `<line class="grid" x1="${at}" x2="${at}" y1="${TOP}" y2="${base}"/><text x="${at}" y="${base + 17}" text-anchor="middle">${escapeHtml(tick.label)}</text>`;
  });
  let y = TOP;
  for (const group of groups) {
    const middle = y + (group.bars.length * (BAR + GAP) - GAP) / 2;
    parts.push(`<text x="${left - 10}" y="${middle}" dy=".32em" text-anchor="end">replica ${group.replica}</text>`);
    for (const bar of group.bars) {
      parts.push(drawBar(bar, y, px));
      y += BAR + GAP;
    }
    y += BETWEEN;
  }
  return `<svg class="${name}" viewBox="0 0 ${width} ${height}" role="img" aria-label="One-way delays of each replica">${parts.join('')}</svg>`;
}

function drawBar({ name, tone, p50, p99, boundNs }: Bar, y: number, px: (ns: number) => string): string {
  const middle = y + BAR / 2;
  const title = `${name}: p50 ${formatDuration(p50)}${boundNs === null ? '' : ` ±${formatDuration(boundNs)}`}, p99 ${formatDuration(p99)}`;
  const whisker =
    boundNs === null || boundNs === 0
      ? ''
      : `<path class="whisker" d="M${px(p50 - boundNs)} ${middle - WHISKER}v${2 * WHISKER}M${px(p50 - boundNs)} ${middle}H${px(p50 + boundNs)}M${px(p50 + boundNs)} ${middle - WHISKER}v${2 * WHISKER}"/>`;
  return `<g><title>${escapeHtml(title)}</title><path class="line ${tone}" d="M${px(p50)} ${middle}H${px(Math.max(p50, p99))}"/><rect class="bar ${tone}" x="${px(0)}" y="${y}" width="${(Number(px(p50)) - Number(px(0))).toFixed(1)}" height="${BAR}" rx="2"/>${whisker}</g>`;
}
