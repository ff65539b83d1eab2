/** The frame of every report: one HTML file without scripts, fonts or requests. */
import { STYLE } from './style.js';

/** Escapes text for content and attributes. */
export function escapeHtml(text: string): string {
  return text.replace(
    /[&<>"']/g,
    (character) => ({ '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;', "'": '&#39;' })[character]!,
  );
}

export interface Figure {
  readonly name: string;
  readonly value: string;
  readonly remark: string;
}

export interface Page {
  /** Title of the browser's tab. */
  readonly title: string;
  readonly heading: string;
  /** One sentence below the heading. */
  readonly lead: string;
  /** HTML of the sections, in order. */
  readonly sections: readonly string[];
  /** CSS that only this page needs. */
  readonly style?: string;
}

export function page({ title, heading, lead, sections, style = '' }: Page): string {
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>${escapeHtml(title)}</title>
<style>${STYLE}${style}</style>
</head>
<body>
<main>
<header><p class="brand">JITPaxos</p><h1>${escapeHtml(heading)}</h1><p>${escapeHtml(lead)}</p></header>
${sections.filter((section) => section !== '').join('\n')}
</main>
</body>
</html>
`;
}

/** A section with a heading; `content` and `note` are HTML. */
export function section(heading: string, content: string, note = ''): string {
  return `<section><h2>${escapeHtml(heading)}</h2>${content}${note === '' ? '' : `<p class="note">${note}</p>`}</section>`;
}

export function figures(items: readonly Figure[]): string {
  return `<section class="figures">${items.map(({ name, value, remark }) => `<div><span>${escapeHtml(name)}</span><strong>${escapeHtml(value)}</strong><small>${escapeHtml(remark)}</small></div>`).join('')}</section>`;
}

/** What the reader must know before the figures. */
export function notice(tone: 'good' | 'warn', headline: string, lines: readonly string[]): string {
  return `<section class="notice ${tone}"><strong>${escapeHtml(headline)}</strong>${lines.map((line) => `<p>${escapeHtml(line)}</p>`).join('')}</section>`;
}

/** Names and values; a value of several lines becomes several paragraphs. */
export function particulars(rows: readonly (readonly [name: string, value: string])[]): string {
  return `<dl>${rows.map(([name, value]) => `<div><dt>${escapeHtml(name)}</dt><dd>${escapeHtml(value)}</dd></div>`).join('')}</dl>`;
}

/** The first column holds names, the others figures. `emphasized`: the row to look at. */
export function dataTable(head: readonly string[], rows: readonly (readonly string[])[], emphasized = -1): string {
  const body = rows.map(
    (row, index) =>
      `<tr${index === emphasized ? ' class="emphasized"' : ''}>${row.map((cell, column) => (column === 0 ? `<th scope="row">${escapeHtml(cell)}</th>` : `<td>${escapeHtml(cell)}</td>`)).join('')}</tr>`,
  );
  return `<div class="scroll"><table><thead><tr>${head.map((cell) => `<th scope="col">${escapeHtml(cell)}</th>`).join('')}</tr></thead><tbody>${body.join('')}</tbody></table></div>`;
}

export function command(text: string): string {
  return `<pre>${escapeHtml(text)}</pre>`;
}
