#!/usr/bin/env node
/**
 * A long campaign of the simulator over several processes, which can be stopped at any time and continues where it
 * stopped:
 *
 *     node scripts/sim-long.mjs --state long.json --seed 1..20000 --replicas 3,5,7 [--workers 2] [--ticks N] [--faults
 *     LIST] [--members]
 *
 * Seeds are handed out in small blocks; after each block the state file is replaced as a whole. With --members, only the seeds in which an operator changes the
 * members are run. Exit code 1 if any seed
 * failed, 2 for wrong flags. SIGINT and SIGTERM end it and drop the blocks in progress, which run again next time.
 */
import { spawn } from 'node:child_process';
import { existsSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';

const SEEDS_PER_BLOCK = 20;
const PROGRESS_MS = 1000;
const SCHEMA = 'jitpaxos.sim-long/1';
const main = fileURLToPath(new URL('../dist/src/cli/main.js', import.meta.url));
const reports = new URL('../dist/src/sim/report.js', import.meta.url);

if (!existsSync(main)) fail('dist/ is missing; run npm run build first');
const { Campaign, failureLine, progressLine, summaryLines } = await import(reports);
const { changesMembers } = await import(new URL('../dist/src/sim/assembly.js', import.meta.url));

const options = readOptions();
const state = readState(options);
const campaign = new Campaign(options.plan);
if (state.report !== undefined) campaign.merge(state.report);
const done = new Set(state.blocks);
const blocks = [];
for (let from = options.from; from <= options.to; from += SEEDS_PER_BLOCK) if (!done.has(from)) blocks.push(from);
let seeds = 0;
for (let seed = options.from; seed <= options.to; seed++) if (!options.plan.members || changesMembers(seed)) seeds++;
const total = seeds * options.replicas.split(',').length;
const children = new Set();
let seconds = state.seconds;
let last = performance.now();
let stopping = false;

for (const signal of ['SIGINT', 'SIGTERM']) {
  process.once(signal, () => {
    stopping = true;
    for (const child of children) child.kill('SIGTERM');
  });
}
const timer = setInterval(showProgress, PROGRESS_MS);
try {
  await Promise.all(Array.from({ length: options.workers }, work));
} catch (error) {
  stopping = true;
  for (const child of children) child.kill('SIGTERM');
  process.stderr.write(`sim-long-failed: ${error.message}\n`);
  process.exitCode = 1;
}
clearInterval(timer);
showProgress(true);
const report = campaign.report();
if (stopping) process.stdout.write(`stopped; the same command goes on from ${options.state}\n`);
for (const line of summaryLines(report, seconds)) process.stdout.write(`${line}\n`);
if (stopping || report.failures.length > 0) process.exitCode = 1;

/** Takes blocks until there are none. */
async function work() {
  while (blocks.length > 0 && !stopping) {
    const from = blocks.shift();
    const part = await runBlock(from, Math.min(from + SEEDS_PER_BLOCK - 1, options.to));
    if (part === undefined) return;
    campaign.merge(part);
    done.add(from);
    for (const failure of part.failures)
      process.stdout.write(`${process.stderr.isTTY ? '\r\x1b[K' : ''}${failureLine(failure)}\n`);
    writeState();
  }
}

/** Runs a block in a separate process. Returns its report, or undefined if it was told to stop. */
function runBlock(from, to) {
  const child = spawn(
    process.execPath,
    [
      main,
      'sim',
      '--seed',
      `${from}..${to}`,
      '--replicas',
      options.replicas,
      '--ticks',
      String(options.plan.ticks),
      '--faults',
      options.plan.faults,
      ...(options.plan.members ? ['--members'] : []),
      '--json',
      '--quiet',
    ],
    { stdio: ['ignore', 'pipe', 'pipe'] },
  );
  children.add(child);
  let output = '';
  let complaint = '';
  child.stdout.setEncoding('utf8').on('data', (text) => (output += text));
  child.stderr.setEncoding('utf8').on('data', (text) => (complaint = (complaint + text).slice(-4000)));
  return new Promise((resolve, reject) => {
    child.once('error', reject);
    child.once('close', (code) => {
      children.delete(child);
      if (stopping) return resolve(undefined);
      try {
        resolve(JSON.parse(output));
      } catch {
        reject(
          new Error(
            `the worker for seeds ${from}..${to} ended with code ${code} and no report: ${complaint.trim()}; run jitpaxos sim --seed ${from}..${to} by hand`,
          ),
        );
      }
    });
  });
}

function showProgress(final = false) {
  const now = performance.now();
  seconds += (now - last) / 1000;
  last = now;
  if (!process.stderr.isTTY) return;
  process.stderr.write(final === true ? '\r\x1b[K' : `\r${progressLine(campaign.report(), total, seconds)} `);
}

function readOptions() {
  let values;
  try {
    ({ values } = parseArgs({
      options: {
        state: { type: 'string', default: 'sim-long.json' },
        seed: { type: 'string', default: '1..20000' },
        replicas: { type: 'string', default: '3,5,7' },
        workers: { type: 'string', default: '2' },
        ticks: { type: 'string', default: '500000' },
        faults: { type: 'string', default: 'all' },
        members: { type: 'boolean', default: false },
      },
    }));
  } catch (error) {
    fail(error.message);
  }
  const seeds = /^(\d+)\.\.(\d+)$/.exec(values.seed);
  if (seeds === null || Number(seeds[1]) > Number(seeds[2]))
    fail(`--seed "${values.seed}" is no range; give one like 1..20000`);
  const workers = Number(values.workers);
  if (!Number.isInteger(workers) || workers < 1 || workers > 64)
    fail(`--workers "${values.workers}" is not a number from 1 to 64`);
  if (!/^\d+$/.test(values.ticks)) fail(`--ticks "${values.ticks}" is not a whole number`);
  return {
    state: values.state,
    from: Number(seeds[1]),
    to: Number(seeds[2]),
    replicas: values.replicas,
    workers,
    plan: { ticks: Number(values.ticks), faults: values.faults, ...(values.members ? { members: true } : {}) },
  };
}

/** What was done before, if the state file belongs to the same campaign. */
function readState({ state: path, from, to, replicas, plan }) {
  const identity = JSON.stringify({ from, to, replicas, ...plan });
  if (!existsSync(path)) return { identity, blocks: [], report: undefined, seconds: 0 };
  const found = JSON.parse(readFileSync(path, 'utf8'));
  if (found.schema !== SCHEMA || found.identity !== identity)
    fail(
      `${path} is the state of another campaign (${found.identity ?? 'unknown'}); give another --state or remove it`,
    );
  return found;
}

function writeState() {
  const temporary = `${options.state}.new`;
  writeFileSync(
    temporary,
    JSON.stringify({ schema: SCHEMA, identity: state.identity, blocks: [...done], seconds, report: campaign.report() }),
  );
  renameSync(temporary, options.state);
}

function fail(message) {
  process.stderr.write(`flag-invalid: ${message}\n`);
  process.exit(2);
}
