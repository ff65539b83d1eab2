/**
 * The step `coverage` of npm run verify: how much of the three folders that carry safety is reached by their own unit
 * tests. Prints lines and branches of each, and fails below the floor.
 *
 *   node scripts/coverage.mjs            run these tests, and compare
 *   node scripts/coverage.mjs --counted  compare what the last `node scripts/test.mjs --coverage` has counted
 *   node scripts/coverage.mjs --files    also a line for each source file, the least covered first
 *
 * V8 counts (counted-tests.mjs), c8 maps the counts to the TypeScript source.
 */
import { spawnSync } from 'node:child_process';
import { existsSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { join, relative, sep } from 'node:path';
import { fileURLToPath } from 'node:url';
import { COUNTED_FOLDERS, COUNTS, isCounted } from './counted-tests.mjs';

const ROOT = join(fileURLToPath(new URL('.', import.meta.url)), '..');
const REPORT = join(ROOT, '.tap', 'coverage-report');

/**
 * Percent. Each floor is the measured value, rounded down, less one: room for a change that moves a few lines, none for
 * a rule without a test. The simulator and the tests of other folders, which are not counted here, reach more; in
 * storage/ that is backup.ts and inspection.ts, which the commands use. Raise a floor when the figure has risen; lower
 * one only with a reason in the commit.
 */
const FLOORS = {
  protocol: { lines: 96, branches: 92 },
  storage: { lines: 86, branches: 92 },
  wire: { lines: 98, branches: 94 },
};

function fail(code, message) {
  console.error(`${code}: ${message}`);
  process.exit(1);
}

function run(args, message) {
  const { status } = spawnSync(process.execPath, args, { cwd: ROOT, stdio: 'inherit' });
  if (status !== 0) fail('coverage-failed', message);
}

if (!process.argv.includes('--counted')) {
  const tests = COUNTED_FOLDERS.flatMap((folder) => {
    const path = join(ROOT, 'dist', 'test', folder);
    return readdirSync(path).flatMap((name) => (name.endsWith('.test.js') ? [join(path, name)] : []));
  });
  run(['scripts/test.mjs', '--coverage', ...tests.filter(isCounted)], 'a test failed, so nothing was measured');
}
if (!existsSync(COUNTS)) fail('coverage-empty', 'nothing was counted; run this without --counted');
rmSync(REPORT, { recursive: true, force: true });
const sources = COUNTED_FOLDERS.flatMap((folder) => ['--include', `dist/src/${folder}/**`]);
run(
  [
    'node_modules/c8/bin/c8.js',
    'report',
    '--all',
    '--src',
    'dist/src',
    ...sources,
    '--reporter',
    'json-summary',
  ].concat(['--temp-directory', COUNTS, '--reports-dir', REPORT]),
  'c8 gave no report',
);

const files = Object.entries(JSON.parse(readFileSync(join(REPORT, 'coverage-summary.json'), 'utf8')))
  .map(([path, counts]) => ({ path: relative(ROOT, path), counts }))
  .filter(({ path }) => path.startsWith(`src${sep}`));
const percent = ({ covered, total }) => (total === 0 ? 100 : (100 * covered) / total);
const shown = (value) => `${value.toFixed(1)} %`.padStart(7);

if (process.argv.includes('--files')) {
  files.sort((a, b) => percent(a.counts.branches) - percent(b.counts.branches));
  for (const { path, counts } of files)
    console.log(`${shown(percent(counts.lines))} ${shown(percent(counts.branches))}  ${path}`);
}
const below = [];
for (const [folder, floor] of Object.entries(FLOORS)) {
  const inFolder = files.filter(({ path }) => path.startsWith(join('src', folder) + sep));
  if (inFolder.length === 0) fail('coverage-empty', `nothing of src/${folder} was measured`);
  const total = (kind) =>
    inFolder.reduce(
      (sum, { counts }) => ({ covered: sum.covered + counts[kind].covered, total: sum.total + counts[kind].total }),
      { covered: 0, total: 0 },
    );
  const lines = percent(total('lines'));
  const branches = percent(total('branches'));
  console.log(`coverage: src/${folder.padEnd(8)} lines ${shown(lines)}, branches ${shown(branches)}`);
  if (lines < floor.lines) below.push(`lines of src/${folder}: ${shown(lines).trim()}, floor ${floor.lines} %`);
  if (branches < floor.branches)
    below.push(`branches of src/${folder}: ${shown(branches).trim()}, floor ${floor.branches} %`);
}
if (below.length > 0) fail('coverage-below-floor', below.join('; '));
