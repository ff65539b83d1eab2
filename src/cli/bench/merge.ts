/** `jitpaxos bench merge`: adds up what several benches measured, from their logs and reports. */
import { defineCommand } from '../../console/command.js';
import { CliError, Exit } from '../../console/exit.js';
import { checkNotRead, checkWritable, fileIdentity, writeOutput } from '../../console/output-file.js';
import { looksLikeHlog } from '../../measure/hlog/log-reader.js';
import { Merge, MERGED_MAX } from '../../measure/hlog/merge.js';
import { mergeJson, mergePage, mergeText } from '../../measure/report/merge-page.js';
import { nameOf, readReport, rendered } from './results.js';

export const benchMerge = defineCommand(
  {
    name: 'bench merge',
    summary: `Adds up to ${MERGED_MAX} runs of benches, such as those of several hosts against one cluster: logs that they wrote with --hlog, and results that they wrote with --json.`,
    positionals: ['RUN', '[RUN]…'],
    flags: { report: { kind: 'text', value: 'FILE', help: 'write the sum as one HTML file' } },
    examples: [
      'jitpaxos bench merge a.hlog b.hlog --report merged.html',
      'jitpaxos bench merge a.hlog b.json --json > merged.json',
    ],
  },
  async ({ values, positionals }, output) => {
    checkWritable('report', values.report);
    checkNotRead('report', values.report, positionals);
    if (positionals.length > MERGED_MAX)
      throw new CliError(
        'argument-invalid',
        `${positionals.length} runs are more than the ${MERGED_MAX} that are added; give fewer`,
      );
    const merge = new Merge();
    const seen = new Map<string, string>();
    positionals.forEach((path, index) => {
      const file = fileIdentity(path) ?? path;
      const same = seen.get(file);
      if (same !== undefined)
        throw new CliError('argument-invalid', `${path} is ${same}, and would count twice; give each run once`);
      seen.set(file, path);
      const name = nameOf(path, positionals, index);
      if (looksLikeHlog(path)) merge.addLog(name, path);
      else {
        const report = readReport(path);
        rendered(() => merge.addReport(name, path, report), [path]);
      }
    });
    const text = rendered(() => (output.json ? JSON.stringify(mergeJson(merge)) : mergeText(merge)), positionals);
    const html = values.report === undefined ? '' : rendered(() => mergePage(merge), positionals);
    output.line(text);
    writeOutput('report', values.report, () => html);
    return Exit.done;
  },
);
