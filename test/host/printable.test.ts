// Text from files and from the network cannot control a terminal, wherever it is shown.
import t from 'tap';
import { lineOf } from '../../src/console/exit.js';
import { Colour, cut, paint, widthOf } from '../../src/console/terminal.js';
import { inLine, printable } from '../../src/host/printable.js';
import { formatLine } from '../../src/host/logger.js';

/** Escapes that erase, move and hide; a C1 one; a carriage return; marks of direction; a line separator. */
const HOSTILE = [
  '\x1b[2J',
  '\x1b]0;title\x07',
  '\x1b[8m',
  '\x9b31m',
  'a\rb',
  '\u202eexe.txt',
  '\u2066',
  '\u2028',
  '\x7f',
  '\0',
];
const CONTROL = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u200e\u200f\u2028-\u202e\u2066-\u2069]/;

t.test('controls are shown, in lines, logs and errors; other text is unchanged', (t) => {
  for (const text of HOSTILE) {
    const name = `hostile ${HOSTILE.indexOf(text)}`;
    t.notMatch(printable(text), CONTROL, name);
    t.notMatch(printable(text, true), CONTROL, `${name} beside colours`);
    t.notMatch(cut(text, 80), CONTROL, `${name} in a frame`);
    t.notMatch(lineOf(new Error(`${text} is wrong`)), CONTROL, `${name} in an error`);
    for (const format of ['text', 'json'] as const)
      t.notMatch(formatLine(format, 0, 'warn', 'some.event', { name: text }), CONTROL, `${name} in a log, ${format}`);
    t.match(JSON.parse(printable(JSON.stringify({ text }))), { text }, `${name} in JSON means the same`);
    t.match(JSON.parse(formatLine('json', 0, 'warn', 'some.event', { name: text })), { name: text });
  }
  for (const text of ['', 'plain', 'a\tb\nc', 'grün — 日本 🎉', '▁▂▃']) t.equal(printable(text), text);
  t.equal(inLine('a\nb\tc'), 'a\\u000ab\\u0009c', 'a name ends no line');
  t.equal(printable('\x1b[2J'), '\\u001b[2J');
  t.end();
});

t.test('our own colours stay, where there are colours', (t) => {
  for (const colour of Object.values(Colour)) {
    const text = `${paint(true, colour, 'word')}\x1b[2J`;
    t.equal(printable(text, true), `${paint(true, colour, 'word')}\\u001b[2J`);
    t.notMatch(printable(text), CONTROL);
    t.equal(cut(paint(true, colour, 'word'), 2), paint(true, colour, 'wo'));
  }
  t.equal(widthOf(cut(`${paint(true, Colour.red, 'abc')}\x1b[9999C`, 5)), 5);
  t.end();
});
