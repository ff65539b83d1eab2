/**
 * What a person reads of a test run: a line for each file as it ends, each failure once with its explanation, what was
 * skipped and why, and the totals as the last line. The complete log beside it (scripts/test.mjs) has every assertion,
 * seed and note.
 *
 * A custom reporter of `node --test`: https://nodejs.org/docs/latest-v20.x/api/test.html#custom-reporters. Colours only
 * on a terminal and without NO_COLOR.
 */
import { relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import { stripVTControlCharacters } from 'node:util';

const ROOT = fileURLToPath(new URL('..', import.meta.url));
const COLOURS = process.stdout.isTTY === true && (process.env.NO_COLOR ?? '') === '';
const paint = (code, text) => (COLOURS ? `\x1b[${code}m${text}\x1b[0m` : text);
/** Lines that are shown of a failed file's stderr, and of its notes. */
const SHOWN_LINES = 40;
/** A file whose reach V8 counts is named by its source. */
const TEST_FILE = /\.test\.[jt]s$/;

/** One file's results, gathered until the next file begins. */
class FileResults {
  passed = 0;
  failures = [];
  notes = [];
  stderr = '';
  durationMs = 0;

  constructor(path) {
    this.name = nameOf(path);
  }

  *lines() {
    const { passed, failures } = this;
    const counts = [`${passed} passed`, ...(failures.length > 0 ? [`${failures.length} failed`] : [])];
    yield `${failures.length > 0 ? paint(31, '✖') : paint(32, '✔')} ${this.name.padEnd(44)} ${counts.join(', ')}  ${(this.durationMs / 1000).toFixed(1)} s\n`;
    for (const failure of failures) yield indented(failure, 2);
    if (failures.length === 0) return;
    const context = [
      ...this.notes.map((note) => `note: ${note}`),
      ...this.stderr
        .split('\n')
        .filter((line) => line !== '')
        .map((line) => `stderr: ${line}`),
    ];
    const left = context.length - SHOWN_LINES;
    yield indented(
      [...(left > 0 ? [`(${left} lines more in the complete log)`] : []), ...context.slice(-SHOWN_LINES)].join('\n'),
      4,
    );
  }
}

export default async function* report(events) {
  const all = [];
  const open = new Map();
  const skipped = [];
  const homeless = [];
  let current;
  let durationMs = 0;
  const fileOf = (path) => {
    let file = open.get(path);
    if (file === undefined) {
      file = new FileResults(path);
      open.set(path, file);
      all.push(file);
    }
    return file;
  };
  for await (const { type, data } of events) {
    if (type === 'test:diagnostic' && data.file === undefined) {
      const total = /^duration_ms (.*)$/.exec(data.message);
      if (total !== null) durationMs += Number(total[1]);
      continue;
    }
    const isTestFile = TEST_FILE.test(data.file);
    if (type === 'test:stderr' && isTestFile) fileOf(data.file).stderr += data.message;
    if (type === 'test:diagnostic' && isTestFile) fileOf(data.file).notes.push(data.message);
    if (type !== 'test:pass' && type !== 'test:fail') continue;
    if (isSkipped(data)) {
      skipped.push(reasonOf(data));
      continue;
    }
    // An assertion that fails in a helper is reported under the helper's name: it belongs to the group that ends after
    // it.
    if (!isTestFile) {
      homeless.push([type, data]);
      continue;
    }
    // Results arrive file by file.
    const file = fileOf(data.file);
    if (file !== current) {
      if (current !== undefined) yield* current.lines();
      current = file;
    }
    for (const [kind, result] of homeless.splice(0)) take(file, kind, result);
    take(file, type, data);
  }
  if (homeless.length > 0) {
    current ??= fileOf('(no file)');
    for (const [kind, result] of homeless) take(current, kind, result);
  }
  if (current !== undefined) yield* current.lines();
  yield '\n';
  const failed = all.filter(({ failures }) => failures.length > 0);
  for (const reason of skipped) yield `${paint(33, 'skipped')} ${reason}\n`;
  if (failed.length > 0) {
    yield `${paint(31, 'failed')}\n`;
    for (const { name, failures } of failed)
      for (const failure of failures) yield indented(`${name}: ${failure.split('\n')[0]}`, 2);
  }
  const sum = (count) => all.reduce((total, file) => total + count(file), 0);
  yield `${all.length} files in ${(durationMs / 1000).toFixed(0)} s\n`;
  yield `${sum(({ passed }) => passed)} passed, ${sum(({ failures }) => failures.length)} failed, ${skipped.length} skipped\n`;
}

function isSkipped({ skip, todo }) {
  return (skip !== undefined && skip !== false) || (todo !== undefined && todo !== false);
}

function reasonOf({ name, skip, todo }) {
  const reason = skip ?? todo;
  return typeof reason === 'string' && reason !== '' ? `${name} (${reason})` : name;
}

/** @param {FileResults} file */
function take(file, type, data) {
  if (data.nesting === 0) file.durationMs += data.details?.duration_ms ?? 0;
  const isGroup = data.details?.type === 'suite';
  if (type === 'test:pass') {
    if (!isGroup) file.passed++;
  } else {
    const error = data.details?.error;
    // A group whose parts failed adds nothing to what they reported.
    if (error?.failureType === 'subtestsFailed') return;
    const name = data.nesting === 0 && nameOf(data.name) === file.name ? 'the file as a whole' : data.name;
    const message =
      plain(String(error?.cause?.message ?? error?.message ?? 'failed')) +
      (error?.exitCode > 0 ? `: exit code ${error.exitCode}` : '');
    const places =
      typeof error?.cause?.stack === 'string'
        ? plain(error.cause.stack)
            .split('\n')
            .filter((line) => /^\s+at /.test(line))
        : [];
    const title = name === message.split('\n')[0] ? message : `${name}\n${message}`;
    file.failures.push([...title.split('\n'), ...places.map((line) => line.trim())].join('\n  '));
  }
}

function nameOf(path) {
  return relative(ROOT, path)
    .replace(/^dist\//, '')
    .replace(/\.js$/, '.ts');
}

function plain(text) {
  return (COLOURS ? text : stripVTControlCharacters(text)).replace(/[ \t]+$/gm, '');
}

function indented(text, by) {
  return text === ''
    ? ''
    : `${text
        .split('\n')
        .map((line) => ' '.repeat(by) + line)
        .join('\n')
        .trimEnd()}\n`;
}
