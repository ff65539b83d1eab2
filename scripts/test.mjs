/**
 * What `npm test` runs after the build: every compiled test file under Node's own test runner.
 *
 *   node scripts/test.mjs                      all of dist/test
 *   node scripts/test.mjs dist/test/wire …     these files, or all below these folders
 *   node scripts/test.mjs --coverage           V8 counts what the tests of counted-tests.mjs reach; coverage.mjs reads it
 *
 * Node 20's runner takes no glob, so the list is expanded here. A compiled file in dist/ without a source (a test that
 * was renamed or removed) is deleted first: otherwise it would go on running, and passing. Exit code 1 when a test
 * failed, and also when there was none to run.
 *
 * A line for each file goes to stdout (scripts/test-reporter.mjs), every assertion, note and seed to LOG.
 */
import { createWriteStream, existsSync, mkdirSync, readdirSync, rmSync, statSync } from 'node:fs';
import { dirname, join, relative, resolve, sep } from 'node:path';
import { compose, PassThrough } from 'node:stream';
import { finished } from 'node:stream/promises';
import { run } from 'node:test';
import { spec } from 'node:test/reporters';
import { fileURLToPath } from 'node:url';
import { COUNTS, isCounted } from './counted-tests.mjs';
import report from './test-reporter.mjs';

const ROOT = fileURLToPath(new URL('..', import.meta.url));
const DIST = join(ROOT, 'dist');
/**
 * One more than the processors of the smallest host: most files wait for processes that they started for part of their time.
 * With two more, no processor was idle, and clusters in the benches had no turn for so long that files took twice the time.
 */
const CONCURRENCY = 3;
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

const isCounting = process.argv.includes('--coverage');
const given = process.argv.slice(2).filter((argument) => argument !== '--coverage');
const files = (given.length > 0 ? given : [join(DIST, 'test')]).flatMap(expand).sort();
if (files.length === 0) {
  console.error('no-tests: found no *.test.js; build first: npm run build');
  process.exit(1);
}

mkdirSync(dirname(LOG), { recursive: true });
process.chdir(ROOT);
// tap would end a file after 30 s by default; one limit is enough.
process.env.TAP_TIMEOUT = String(FILE_LIMIT_MS / 1000);
const stopping = new AbortController();
for (const signal of ['SIGINT', 'SIGTERM'])
  process.once(signal, () => {
    stopping.abort();
    process.exitCode = 1;
  });

const events = new PassThrough({ objectMode: true });
compose(events, report).pipe(process.stdout);
compose(events, new spec()).pipe(createWriteStream(LOG));
process.once('exit', (code) => {
  if (code !== 0) console.error(`tests-failed: every assertion, note and seed is in ${LOG}`);
});
if (isCounting) {
  rmSync(COUNTS, { recursive: true, force: true });
  await runAll(files.filter(isCounted), { NODE_V8_COVERAGE: COUNTS });
  await runAll(files.filter((file) => !isCounted(file)));
} else await runAll(files);
events.end();

/** Runs these test files, in processes that have `env` too, and gives what the runner says to the reporters. */
async function runAll(files, env = {}) {
  if (files.length === 0 || stopping.signal.aborted) return;
  // The runner hands on its own variables. Counting begins when a process starts, so this one is never counted.
  Object.assign(process.env, env);
  const stream = run({ files, concurrency: CONCURRENCY, timeout: FILE_LIMIT_MS, signal: stopping.signal });
  stream.on('test:fail', ({ todo }) => {
    if (todo === undefined || todo === false) process.exitCode = 1;
  });
  stream.pipe(events, { end: false });
  await finished(stream);
  for (const name of Object.keys(env)) delete process.env[name];
}

/** @returns {string[]} */
function expand(path) {
  if (!existsSync(path)) {
    console.error(`no-such-test: ${path} does not exist; build first: npm run build`);
    process.exit(1);
  }
  if (!statSync(path).isDirectory()) return [resolve(path)];
  return filesBelow(resolve(path)).filter((file) => file.endsWith('.test.js'));
}

/** @returns {string[]} */
function filesBelow(folder) {
  if (!existsSync(folder)) return [];
  return readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath ?? entry.path, entry.name))
    .filter((file) => !file.includes(`${sep}node_modules${sep}`));
}
