/**
 * What `npm test` runs after the build: every compiled test file under Node's own test runner.
 *
 *   node scripts/test.mjs                      all of dist/test
 *   node scripts/test.mjs dist/test/wire …     these files, or all below these folders
 *
 * Node 20's runner takes no glob, so the list is expanded here. A compiled file in dist/ without a source (a test that
 * was renamed or removed) is deleted first: otherwise it would go on running, and passing. Exit code 1 when a test
 * failed, and also when there was none to run.
 *
 * A line for each file goes to stdout (scripts/test-reporter.mjs), every assertion, note and seed to LOG.
 */
import { spawn } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, rmSync, statSync } from 'node:fs';
import { dirname, join, relative, sep } from 'node:path';
import { fileURLToPath } from 'node:url';

const ROOT = fileURLToPath(new URL('..', import.meta.url));
const DIST = join(ROOT, 'dist');
const CONCURRENCY = 2;
/**
 * On an idle host the longest file takes a minute, at a load of 20 ten. The limit ends files that hang; files have no
 * limit of their own.
 */
const FILE_LIMIT_MS = 30 * 60_000;
const LOG = join(ROOT, '.tap', 'test.log');
/** What tsc writes for a source file. */
const COMPILED = /\.(js|d\.ts|js\.map|d\.ts\.map)$/;

for (const file of filesBelow(DIST)) {
  if (!COMPILED.test(file)) continue;
  const stem = relative(DIST, file).replace(COMPILED, '');
  if (!existsSync(join(ROOT, `${stem}.ts`))) {
    console.error(`removed ${relative(ROOT, file)}: it has no source any more`);
    rmSync(file);
  }
}

const given = process.argv.slice(2);
const files = (given.length > 0 ? given : [join(DIST, 'test')]).flatMap(expand).sort();
if (files.length === 0) {
  console.error('no-tests: found no *.test.js; build first: npm run build');
  process.exit(1);
}

mkdirSync(dirname(LOG), { recursive: true });
const reporters = [
  '--test-reporter=./scripts/test-reporter.mjs',
  '--test-reporter-destination=stdout',
  '--test-reporter=spec',
  `--test-reporter-destination=${LOG}`,
];
const flags = ['--test', ...reporters, `--test-concurrency=${CONCURRENCY}`, `--test-timeout=${FILE_LIMIT_MS}`];
// tap would end a file after 30 s by default; one limit is enough.
const env = { ...process.env, TAP_TIMEOUT: String(FILE_LIMIT_MS / 1000) };
const runner = spawn(process.execPath, [...flags, ...files], {
  cwd: ROOT,
  env,
  stdio: ['ignore', 'inherit', 'inherit'],
});
for (const signal of ['SIGINT', 'SIGTERM']) process.on(signal, () => runner.kill(signal));
runner.on('exit', (code) => {
  if (code !== 0) console.error(`tests-failed: every assertion, note and seed is in ${relative(process.cwd(), LOG)}`);
  process.exit(code ?? 1);
});

/** @returns {string[]} */
function expand(path) {
  if (!existsSync(path)) {
    console.error(`no-such-test: ${path} does not exist; build first: npm run build`);
    process.exit(1);
  }
  if (!statSync(path).isDirectory()) return [path];
  return filesBelow(path).filter((file) => file.endsWith('.test.js'));
}

/** @returns {string[]} */
function filesBelow(folder) {
  if (!existsSync(folder)) return [];
  return readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath ?? entry.path, entry.name))
    .filter((file) => !file.includes(`${sep}node_modules${sep}`));
}
