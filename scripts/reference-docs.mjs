/**
 * Writes the reference pages from what the code itself uses, so that they cannot say anything else.
 *
 *   node scripts/reference-docs.mjs            writes the pages below
 *   node scripts/reference-docs.mjs --check    writes nothing; exit code 1 when a page is not what it would write
 *
 * docs/reference/api.md: from the docstrings of what src/index.ts and src/testing/index.ts export.
 * docs/reference/configuration.md: from the flags of `jitpaxos replica`. docs/reference/metrics.md: from the metrics of
 * a replica and a client. docs/measurements/results.md with its picture, and the table of results in README.md: from
 * the results that `npm run measure` keeps. Build first: npm run build. Exit code 2: unknown argument.
 */
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { join } from 'node:path';
import { apiPage } from './reference/api.mjs';
import { configurationPage } from './reference/configuration.mjs';
import { readmePage, resultsPages } from './reference/measurements.mjs';
import { metricsPage } from './reference/metrics.mjs';

const ROOT = fileURLToPath(new URL('..', import.meta.url));

const args = process.argv.slice(2);
const unknown = args.find((arg) => arg !== '--check');
if (unknown !== undefined) end(2, `flag-invalid: ${unknown} is not known here; use --check, or nothing`);
if (!existsSync(join(ROOT, 'dist', 'src', 'index.js')))
  end(1, 'not-built: dist/src/ is not there; run `npm run build` first');

const pages = [
  ['docs/reference/api.md', apiPage()],
  ['docs/reference/configuration.md', configurationPage()],
  ['docs/reference/metrics.md', await metricsPage()],
  ...resultsPages(),
  readmePage(),
];
const stale = [];
for (const [name, text] of pages) {
  const path = join(ROOT, name);
  if (existsSync(path) && readFileSync(path, 'utf8') === text) continue;
  if (args.includes('--check')) stale.push(name);
  else {
    writeFileSync(path, text);
    console.log(`wrote ${name}`);
  }
}
if (stale.length > 0)
  end(
    1,
    `docs-stale: ${stale.join(', ')} is not what the code says; run \`npm run build && npm run docs:reference\` and commit the result`,
  );

function end(exitCode, line) {
  console.error(line);
  process.exit(exitCode);
}
