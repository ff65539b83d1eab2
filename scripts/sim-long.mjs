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
import { fork } from 'node:child_process';
import { existsSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';

const SEEDS_PER_BLOCK = 20;
/** A worker process is replaced after so many, so that nothing that a run might leave behind adds up for ever. */
const BLOCKS_PER_PROCESS = 50;
const PROGRESS_MS = 1000;
const SCHEMA = 'jitpaxos.sim-long/1';
const program = fileURLToPath(new URL('./sim-worker.mjs', import.meta.url));
const reports = new URL('../dist/src/sim/report.js', import.meta.url);

if (!existsSync(reports)) fail('dist/ is missing; run npm run build first');
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
    const worker = fork(program, { silent: true });
    try {
      for (let run = 0; run < BLOCKS_PER_PROCESS && blocks.length > 0 && !stopping; run++) await nextBlock(worker);
    } finally {
      if (worker.connected) worker.disconnect();
    }
  }
}

async function nextBlock(worker) {
  const from = blocks.shift();
  const part = await runBlock(worker, from, Math.min(from + SEEDS_PER_BLOCK - 1, options.to));
  if (part === undefined) return;
  campaign.merge(part);
  done.add(from);
  for (const failure of part.failures)
    process.stdout.write(`${process.stderr.isTTY ? '\r\x1b[K' : ''}${failureLine(failure)}\n`);
  writeState();
}

/** Has a worker process run a block. Returns its report, or undefined if it was told to stop. */
async function runBlock(worker, from, to) {
  const { plan, replicas } = options;
  const args = ['--seed', `${from}..${to}`, '--replicas', replicas, '--ticks', String(plan.ticks)];
  args.push('--faults', plan.faults, '--json', '--quiet', ...(plan.members ? ['--members'] : []));
  children.add(worker);
  let complaint = '';
  const hear = (text) => (complaint = (complaint + text).slice(-4000));
  worker.stderr.setEncoding('utf8').on('data', hear);
  const answer = await new Promise((resolve, reject) => {
    worker.once('error', reject).once('message', resolve);
    worker.once('close', (code, signal) => resolve({ complaint: `it ended with ${code ?? signal}: ${complaint}` }));
    worker.send(args, (error) => error && resolve({ complaint: error.message }));
  });
  for (const event of ['error', 'message', 'close']) worker.removeAllListeners(event);
  worker.stderr.off('data', hear);
  children.delete(worker);
  if (stopping) return undefined;
  if (answer.report === undefined)
    throw new Error(
      `the worker for seeds ${from}..${to} has no report: ${answer.complaint.trim()}; run jitpaxos sim --seed ${from}..${to} by hand`,
    );
  return JSON.parse(answer.report);
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
