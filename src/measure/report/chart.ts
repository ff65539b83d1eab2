/**
 * One chart as SVG, drawn twice: for a wide page and for a narrow one. Scaling one drawing down to a phone would scale
 * its labels too, so CSS shows the drawing that fits (style.ts). There is no script: values are in `<title>` elements,
 * which browsers show.
 */
import { escapeHtml } from './html.js';
import type { Scale } from './scale.js';

export type Tone = 'a' | 'b' | 'c' | 'soft';

export interface Point {
  readonly x: number;
  readonly y: number;
  /** Shown when the pointer rests on the point. Only points with a title are drawn as dots. */
  readonly title?: string;
}

export interface Series {
  /** For the legend. */
  readonly name: string;
  readonly tone: Tone;
  readonly dashed?: boolean;
  /** The area below is tinted. */
  readonly filled?: boolean;
  /** Values hold until the next point. */
  readonly stepped?: boolean;
  /** Lines with gaps between them, in values of the scales. */
  readonly runs: readonly (readonly Point[])[];
}

export interface Mark {
  readonly x: number;
  readonly label: string;
  /** An event, or a guide line. */
  readonly tone: 'event' | 'guide';
}

export interface Chart {
  /** Read out by screen readers. */
  readonly label: string;
  readonly x: Scale;
  readonly y: Scale;
  readonly series: readonly Series[];
  readonly marks?: readonly Mark[];
  /** Height of the wide drawing. */
  readonly height?: number;
  /** Title of the x axis, if its ticks do not say it. */
  readonly xTitle?: string;
}

interface Size {
  readonly name: 'wide' | 'narrow';
  readonly width: number;
  readonly height: number;
  readonly left: number;
  readonly right: number;
  readonly top: number;
  readonly bottom: number;
  readonly xTicks: number;
}

const HEIGHT = 280;
const NARROW_SHARE = 0.82;
const Y_TICKS = 7;
const LABEL_GAP = 58;

export function chartSvg(chart: Chart): string {
  const height = chart.height ?? HEIGHT;
  const bottom = chart.xTitle === undefined ? 28 : 46;
  const wide: Size = { name: 'wide', width: 840, height, left: 60, right: 14, top: 22, bottom, xTicks: 12 };
  const narrow: Size = {
    name: 'narrow',
    width: 340,
    height: Math.round(height * NARROW_SHARE),
    left: 46,
    right: 8,
    top: 22,
    bottom,
    xTicks: 5,
  };
  return draw(chart, wide) + draw(chart, narrow);
}

/** The names of the series beside their colours. */
export function legend(series: readonly Series[], marks: readonly Mark[] = []): string {
  const items = series.map(
    ({ name, tone, dashed }) =>
      `<li><i class="key ${tone}${dashed === true ? ' dashed' : ''}"></i>${escapeHtml(name)}</li>`,
  );
  const event = marks.find((mark) => mark.tone === 'event');
  if (event !== undefined) items.push(`<li><i class="key event"></i>${escapeHtml(event.label)}</li>`);
  return `<ul class="legend">${items.join('')}</ul>`;
}

function draw(chart: Chart, size: Size): string {
  const { x, y, series, marks = [], label, xTitle } = chart;
  const px = (at: number): string => (size.left + at * (size.width - size.left - size.right)).toFixed(1);
  const py = (at: number): string => (size.top + (1 - at) * (size.height - size.top - size.bottom)).toFixed(1);
  const base = py(0);
  const parts: string[] = [];
  for (const tick of y.ticks(Y_TICKS)) {
    parts.push(
      `<line class="grid" x1="${size.left}" x2="${size.width - size.right}" y1="${py(tick.at)}" y2="${py(tick.at)}"/><text x="${size.left - 8}" y="${py(tick.at)}" dy=".32em" text-anchor="end">${escapeHtml(tick.label)}</text>`,
    );
  }
  for (const tick of thinned(x.ticks(size.xTicks), size)) {
    const anchor = tick.at > 0.97 ? 'end' : tick.at < 0.03 ? 'start' : 'middle';
    parts.push(
      `<line class="tick" x1="${px(tick.at)}" x2="${px(tick.at)}" y1="${base}" y2="${Number(base) + 4}"/><text x="${px(tick.at)}" y="${Number(base) + 18}" text-anchor="${anchor}">${escapeHtml(tick.label)}</text>`,
    );
  }
  if (xTitle !== undefined)
    parts.push(
      `<text class="title" x="${size.width - size.right}" y="${size.height - 6}" text-anchor="end">${escapeHtml(xTitle)}</text>`,
    );
  parts.push(...guides(marks, x, px, py));
  for (const one of series) {
    const lines = one.runs.map((run) =>
      corners(run, one.stepped === true).map((point) => `${px(x.at(point.x))} ${py(y.at(point.y))}`),
    );
    if (one.filled === true)
      for (const [index, line] of lines.entries())
        if (line.length > 1)
          parts.push(
            `<path class="area ${one.tone}" d="M${px(x.at(one.runs[index]![0]!.x))} ${base}L${line.join('L')}L${line.at(-1)!.split(' ')[0]} ${base}Z"/>`,
          );
    const path = lines
      .filter((line) => line.length > 0)
      .map((line) => `M${line.join('L')}${line.length === 1 ? 'h.1' : ''}`)
      .join('');
    if (path !== '') parts.push(`<path class="line ${one.tone}${one.dashed === true ? ' dashed' : ''}" d="${path}"/>`);
    for (const point of one.runs.flat()) {
      if (point.title !== undefined)
        parts.push(
          `<circle class="dot ${one.tone}" cx="${px(x.at(point.x))}" cy="${py(y.at(point.y))}" r="3.5"><title>${escapeHtml(point.title)}</title></circle>`,
        );
    }
  }
  return `<svg class="${size.name}" viewBox="0 0 ${size.width} ${size.height}" role="img" aria-label="${escapeHtml(label)}">${parts.join('')}</svg>`;
}

/** Vertical lines. A label is drawn only if it does not run into the previous one. */
function guides(marks: readonly Mark[], x: Scale, px: (at: number) => string, py: (at: number) => string): string[] {
  let free = -Infinity;
  return marks.map(({ x: value, label, tone }) => {
    const at = px(x.at(value));
    const anchor = x.at(value) > 0.9 ? 'end' : x.at(value) < 0.1 ? 'start' : 'middle';
    const shown = Number(at) >= free;
    if (shown) free = Number(at) + label.length * 6.5 + 8;
    const text = shown
      ? `<text class="${tone}" x="${at}" y="${Number(py(1)) - 8}" text-anchor="${anchor}">${escapeHtml(label)}</text>`
      : '';
    return `<line class="mark ${tone}" x1="${at}" x2="${at}" y1="${py(1)}" y2="${py(0)}"><title>${escapeHtml(label)}</title></line>${text}`;
  });
}

/** Labels need room: a tick too near the previous one is left out. The last tick always stays. */
function thinned<T extends { readonly at: number }>(ticks: readonly T[], size: Size): T[] {
  const inner = size.width - size.left - size.right;
  const gap = (size.name === 'wide' ? LABEL_GAP : LABEL_GAP - 14) / inner;
  const kept: T[] = [];
  for (const [index, tick] of ticks.entries()) {
    const last = index === ticks.length - 1;
    while (last && kept.length > 1 && tick.at - kept.at(-1)!.at < gap) kept.pop();
    if (last || kept.length === 0 || tick.at - kept.at(-1)!.at >= gap) kept.push(tick);
  }
  return kept;
}

function corners(run: readonly Point[], stepped: boolean): readonly Point[] {
  if (!stepped) return run;
  return run.flatMap((point, index) => (index === 0 ? [point] : [{ x: point.x, y: run[index - 1]!.y }, point]));
}
