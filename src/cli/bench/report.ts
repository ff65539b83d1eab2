/**
 * `jitpaxos bench report`: shows the result of a bench with --json, or compares several of them, as text or as a page.
 */
import { defineCommand } from '../../console/command.js';
import { Exit } from '../../console/exit.js';
import { loadText } from '../../measure/load/load-report.js';
import { latencyText, type BenchReport } from '../../measure/load/bench-report.js';
import { checkNotRead, checkWritable, writeOutput } from '../../console/output-file.js';
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
import { nameOf, readReport, rendered } from './results.js';

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
    checkNotRead('report', values.report, positionals);
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
  if (runs.length === 1) return first!.report.load === undefined ? latencyText(first!.report) : loadText(first!.report);
  const { head, rows } = comparison(runs);
  const lines = table([head, ...rows], new Set(head.map((_, column) => column).slice(1)));
  return [...lines, ...flaws(runs), ...differences(runs).map((difference) => `differ in ${difference}`)].join('\n');
}

function withoutCurves({ histogram: _histogram, timeline: _timeline, oneWay, load, ...rest }: BenchReport): object {
  const report = { ...rest, ...(oneWay === undefined ? {} : { oneWay: { ...oneWay, intervals: [] } }) };
  if (load === undefined) return report;
  const { serviceHistogram: _service, ...section } = load;
  return { ...report, load: section };
}
