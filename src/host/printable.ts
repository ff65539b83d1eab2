/**
 * Text from files and from the network, as a terminal, a log and a person may see it.
 *
 * The rule: a name or a content never controls the terminal. Escape sequences move the cursor, hide text and change the
 * title; C1 controls begin them, too; a carriage return writes over what was before it; marks of direction make text
 * read in another order than it is in. Each such character is shown as `\u001b`, which in JSON also means the same.
 */

/** Controls (C0 without tab and line feed, DEL, C1), line separators, marks of direction. */
const CONTROLS = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]/g;
/** The same, and what ends a line or a column. */
const CONTROLS_AND_BREAKS = /[\u0000-\u001f\u007f-\u009f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]/g;
/** The colours that console/terminal.ts writes. */
const COLOURS = /(\u001b\[(?:0|1|2|31|32|33|36)m)/;

/** @param colours keeps the sequences of our own colours: they change nothing but how the text looks */
export function printable(text: string, colours = false): string {
  if (text.search(CONTROLS) < 0) return text;
  if (!colours) return text.replace(CONTROLS, escaped);
  return text
    .split(COLOURS)
    .map((part, at) => (at % 2 === 1 ? part : part.replace(CONTROLS, escaped)))
    .join('');
}

/** A name or a message inside a line, which it cannot end. */
export function inLine(text: string): string {
  return text.replace(CONTROLS_AND_BREAKS, escaped);
}

function escaped(character: string): string {
  return `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`;
}
