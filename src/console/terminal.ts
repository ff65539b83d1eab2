/** Lines for a terminal: optional colours, a fixed width, tables, sparklines. */
import { printable } from '../host/printable.js';

const SPARKS = '▁▂▃▄▅▆▇█';

export const Colour = { bold: '1', dim: '2', red: '31', green: '32', yellow: '33', cyan: '36' } as const;

export type Colour = (typeof Colour)[keyof typeof Colour];

/** `text` in a colour, or unchanged. */
export function paint(colours: boolean, colour: Colour, text: string): string {
  return colours ? `\x1b[${colour}m${text}\x1b[0m` : text;
}

/**
 * Cuts a line to `columns`; a wrapped line would spoil redrawing. Colours take no room, and are kept, so that none
 * leaks; other controls are shown.
 */
export function cut(line: string, columns: number): string {
  let width = 0;
  let result = '';
  for (const part of printable(line, true).split(/(\x1b\[[0-9;]*m)/)) {
    if (part.startsWith('\x1b')) result += part;
    else {
      const room = Math.max(0, columns - width);
      const characters = [...part];
      result += characters.slice(0, room).join('');
      width += characters.length;
    }
  }
  return result;
}

/** Width of a text on the terminal: one column a character, escapes none. */
export function widthOf(text: string): number {
  return [...text.replace(/\x1b\[[0-9;]*m/g, '')].length;
}

/** Rows as aligned columns, two spaces apart. `right`: columns that hold numbers. */
export function table(rows: readonly (readonly string[])[], right: ReadonlySet<number> = new Set()): string[] {
  const widths: number[] = [];
  for (const row of rows)
    row.forEach((cell, column) => (widths[column] = Math.max(widths[column] ?? 0, widthOf(cell))));
  return rows.map((row) =>
    row
      .map((cell, column) => {
        const fill = ' '.repeat(widths[column]! - widthOf(cell));
        return right.has(column) ? fill + cell : cell + fill;
      })
      .join('  ')
      .trimEnd(),
  );
}

/** The values as block characters; each shows the mean of several if there are more than `width`. */
export function sparkline(values: readonly number[], width: number): string {
  const each = Math.max(1, Math.ceil(values.length / width));
  const means: number[] = [];
  for (let i = 0; i < values.length; i += each) {
    const group = values.slice(i, i + each);
    means.push(group.reduce((a, b) => a + b, 0) / group.length);
  }
  const top = Math.max(...means, 1);
  return means.map((value) => SPARKS[Math.min(SPARKS.length - 1, Math.floor((value / top) * SPARKS.length))]).join('');
}

/**
 * The values as points over time, `rows` high. If there are more than `columns`, a column stands for several values,
 * with a line from the lowest to the highest. The scale is on the left, formatted by `label`.
 */
export function plotLines(
  values: readonly number[],
  columns: number,
  rows: number,
  label: (value: number) => string,
): string[] {
  if (values.length === 0) return [];
  const least = Math.min(...values);
  const range = Math.max(...values) - least;
  const rowOf = (value: number): number =>
    range === 0 ? rows >> 1 : Math.round(((value - least) / range) * (rows - 1));
  const width = Math.min(columns, values.length);
  const cells = Array.from({ length: rows }, () => new Array<string>(width).fill(' '));
  for (let column = 0; column < width; column++) {
    const group = values.slice(
      Math.floor((column * values.length) / width),
      Math.floor(((column + 1) * values.length) / width),
    );
    for (let row = rowOf(Math.min(...group)); row <= rowOf(Math.max(...group)); row++) cells[row]![column] = '│';
    cells[rowOf(group.reduce((a, b) => a + b, 0) / group.length)]![column] = '•';
  }
  const labels = cells.map((_, row) =>
    range === 0
      ? row === rows >> 1
        ? label(least)
        : ''
      : row === 0 || row === rows - 1 || row === rows >> 1
        ? label(least + (range * row) / (rows - 1))
        : '',
  );
  const labelWidth = Math.max(...labels.map(widthOf));
  return cells.map((cell, row) => `${labels[row]!.padStart(labelWidth)} ┤${cell.join('').trimEnd()}`).reverse();
}
