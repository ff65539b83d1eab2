/**
 * Runs the measurements whose figures the documentation shows, and keeps what they print:
 *
 *   npm run measure                       the names, and the command behind each
 *   npm run measure -- goals chain        runs these, one after the other, and writes docs/measurements/results/NAME.json
 *   npm run measure -- all                runs every one, which takes some 35 minutes
 *
 * A result names its commit, so nothing that Git tracks may be changed, except older results. Run it on a host that has
 * nothing else to do; the load before the run is kept with the result. Afterwards `npm run docs:reference` writes the
 * pages that show the figures.
 *
 * Exit code 1: a measurement failed, or there are changes; 2: wrong arguments.
 */
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdirSync, renameSync, writeFileSync } from 'node:fs';
import { loadavg } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { MEASUREMENTS, RESULTS } from './reference/measurements.mjs';

const ROOT = fileURLToPath(new URL('..', import.meta.url));
const OUTPUT_BYTES_MAX = 64 << 20;

const wanted = process.argv.slice(2);
if (wanted.length === 0 || wanted.includes('--help')) {
  for (const { name, command } of MEASUREMENTS) console.log(`${name.padEnd(15)} ${command}`);
  process.exit(0);
}
const known = MEASUREMENTS.map(({ name }) => name);
const unknown = wanted.find((name) => name !== 'all' && !known.includes(name));
if (unknown !== undefined)
  end(2, `measurement-unknown: there is no "${unknown}"; use all, or some of ${known.join(', ')}`);

const changed = git('status', '--porcelain', '--', '.', `:!${RESULTS}`);
if (changed !== '') end(1, `measurement-uncommitted: a result names its commit; commit these first:\n${changed}`);
const commit = git('rev-parse', '--short=7', 'HEAD');
run(['npm', 'run', '-s', 'build'], 'inherit');

for (const { name, command, program } of MEASUREMENTS) {
  if (!wanted.includes('all') && !wanted.includes(name)) continue;
  const loadBefore = loadavg()[0];
  const date = new Date().toISOString().slice(0, 10);
  console.error(`${name}: ${command} (load ${loadBefore.toFixed(1)} before)`);
  const result = JSON.parse(run([process.execPath, ...program, '--json'], 'pipe'));
  const kept = { schema: 'jitpaxos.measurement/1', name, commit, date, loadBefore, result };
  mkdirSync(join(ROOT, RESULTS), { recursive: true });
  const path = join(ROOT, RESULTS, `${name}.json`);
  writeFileSync(`${path}.new`, `${JSON.stringify(kept, null, 1)}\n`);
  renameSync(`${path}.new`, path);
  console.error(`${name}: wrote ${RESULTS}/${name}.json`);
}

/** What the command printed. Its progress and its errors are shown as they come. */
function run([program, ...args], stdout) {
  const {
    status,
    stdout: printed,
    error,
  } = spawnSync(program, args, {
    cwd: ROOT,
    stdio: ['ignore', stdout, 'inherit'],
    encoding: 'utf8',
    maxBuffer: OUTPUT_BYTES_MAX,
  });
  if (status !== 0)
    end(1, `measurement-failed: ${[program, ...args].join(' ')}: ${error?.message ?? `exit code ${status}`}`);
  return printed;
}

function git(...args) {
  return execFileSync('git', args, { cwd: ROOT, encoding: 'utf8' }).trim();
}

function end(exitCode, line) {
  console.error(line);
  process.exit(exitCode);
}
