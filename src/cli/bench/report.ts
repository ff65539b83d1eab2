/**
 * `jitpaxos bench report`: shows the result of a bench with --json, or compares several of them, as text or as a page.
 */
import { basename } from 'node:path';
import { Histogram } from '../../metrics/histogram.js';
import { defineCommand } from '../../console/command.js';
import { CliError, Exit } from '../../console/exit.js';
import { loadText } from '../../measure/load/load-report.js';
import { tableOf, type BenchReport } from '../../measure/load/bench-report.js';
import { checkWritable, writeOutput } from '../../console/output-file.js';
import { benchPage } from '../../measure/report/bench-page.js';
import {
  COMPARED_MAX,
  comparePage,
  comparison,
  differences,
  flaws,
  type NamedReport,
} from '../../measure/report/compare-page.js';
import { table } from '../../console/terminal.js';
import { readRegularText } from '../../storage/regular-file.js';

export const benchReport = defineCommand(
  {
    name: 'bench report',
    summary: `Shows a result that a bench wrote with --json, or compares up to ${COMPARED_MAX} results; ratios are to the first.`,
    positionals: ['RUN.json', ...Array.from({ length: COMPARED_MAX - 1 }, () => '[RUN.json]')],
    flags: { report: { kind: 'text', value: 'FILE', help: 'write the result as one HTML file' } },
    examples: [
      'jitpaxos bench load --rate 5k --json > a.json',
      'jitpaxos bench report a.json b.json --report compared.html',
    ],
  },
  async ({ values, positionals }, output) => {
    checkWritable('report', values.report);
    const runs = positionals.map((path, index) => ({
      name: nameOf(path, positionals, index),
      report: readReport(path),
    }));
    const text = rendered(() => textOf(runs, output.json), positionals);
    const html =
      values.report === undefined
        ? ''
        : rendered(() => (runs.length === 1 ? benchPage(runs[0]!.report) : comparePage(runs)), positionals);
    output.line(text);
    writeOutput('report', values.report, () => html);
    return Exit.done;
  },
);

function textOf(runs: readonly NamedReport[], json: boolean): string {
  if (json)
    return JSON.stringify({
      schema: 'jitpaxos.compare/1',
      runs: runs.map(({ name, report }) => ({ name, ...withoutCurves(report) })),
    });
  const [first] = runs;
  if (runs.length === 1) return first!.report.load === undefined ? tableOf(first!.report) : loadText(first!.report);
  const { head, rows } = comparison(runs);
  const lines = table([head, ...rows], new Set(head.map((_, column) => column).slice(1)));
  return [...lines, ...flaws(runs), ...differences(runs).map((difference) => `differ in ${difference}`)].join('\n');
}

function withoutCurves({ histogram: _histogram, timeline: _timeline, load, ...report }: BenchReport): object {
  if (load === undefined) return report;
  const { serviceHistogram: _service, ...section } = load;
  return { ...report, load: section };
}

/** Most bytes of a result, which grows with the seconds of its timeline. */
const RESULT_BYTES_MAX = 1 << 28;

/** Throws CliError `argument-invalid` for anything but a result of a bench. */
function readReport(path: string): BenchReport {
  const refuse = (why: string): CliError =>
    new CliError('argument-invalid', `${path} ${why}; give a file that a bench wrote with --json`);
  let value: BenchReport | null;
  try {
    value = JSON.parse(readRegularText(path, undefined, RESULT_BYTES_MAX)) as BenchReport | null;
  } catch (error) {
    throw refuse(
      error instanceof SyntaxError
        ? `is not JSON (${error.message})`
        : `cannot be read (${error instanceof Error ? error.message : String(error)})`,
    );
  }
  if (value?.schema !== 'jitpaxos.bench/1')
    throw refuse(`is not a result of a bench: its schema is ${JSON.stringify(value?.schema)}, not "jitpaxos.bench/1"`);
  if ('points' in value) throw refuse('is a result of bench compare, which already compares');
  try {
    const numbers = [
      value.opsPerSecond,
      value.operations,
      value.seconds,
      ...Object.values(value.latencyNs).filter((latency) => latency !== null),
    ];
    if (!numbers.every(Number.isFinite)) throw new TypeError('a figure is not a number');
    for (const data of [value.histogram, value.load?.serviceHistogram])
      if (data !== undefined) Histogram.fromData(data);
  } catch (error) {
    throw refuse(`is damaged (${error instanceof Error ? error.message : String(error)})`);
  }
  return value;
}

/** A field missing from a damaged file shows only when it is drawn. */
function rendered(draw: () => string, paths: readonly string[]): string {
  try {
    return draw();
  } catch (error) {
    throw new CliError(
      'argument-invalid',
      `${paths.join(', ')}: a result lacks a field (${error instanceof Error ? error.message : String(error)}); measure again with this version`,
    );
  }
}

/** Runs are named by their files, and numbered if these have the same name. */
function nameOf(path: string, paths: readonly string[], index: number): string {
  const name = basename(path, '.json');
  return paths.some((other, at) => at !== index && basename(other, '.json') === name) ? `${name} (${index + 1})` : name;
}
