/**
 * `jitpaxos sim`: runs seeds of the deterministic simulator (src/sim/), each at every cluster size asked for. One line a
 * seed that fails, with the command that replays it; a summary of what all of them went through.
 */
import { closeSync, openSync, writeSync } from 'node:fs';
import { FAULT_NAMES, type FaultName } from '../sim/faults.js';
import { DEFAULT_TICKS, simulate, type SimulationResult, type SimulationTotals } from '../sim/simulation.js';
import { TraceRing, TransitionLog } from '../sim/trace.js';
import { nearest } from '../server/options.js';
import { defineCommand, type Output } from './command.js';
import { CliError, Exit } from './exit.js';
import { formatCount } from './units.js';

/** Lines of the trace that are printed before a failure. */
const TRACE_LINES = 120;
const PROGRESS_MS = 2_000;

export const sim = defineCommand(
  {
    name: 'sim',
    summary: 'Runs the protocol in a deterministic simulator under faults, and checks the invariants and what clients saw.',
    positionals: [],
    flags: {
      seed: { kind: 'text', value: 'A..B', default: '1..100', help: 'seeds to run, or a single one' },
      replicas: { kind: 'text', value: 'N,…', default: '3,5', help: 'cluster sizes: each seed runs at each of them' },
      ticks: { kind: 'count', default: String(DEFAULT_TICKS), min: 1_000, max: 1e9, help: 'length of the phase with faults, µs of virtual time' },
      faults: { kind: 'text', value: 'LIST', default: 'all', help: `faults that may happen: all, none, or some of ${FAULT_NAMES.join(', ')}` },
      trace: { kind: 'switch', help: 'print the messages and events before a failure; with a single run, before its end' },
      'trace-file': { kind: 'text', value: 'FILE', help: 'write every state transition of a single run, one JSON object a line (docs/simulation.md)' },
    },
    examples: ['jitpaxos sim --seed 1..1000 --replicas 3,5,7', 'jitpaxos sim --seed 42 --replicas 3 --trace'],
  },
  async ({ values }, output) => {
    const [first, last] = seedRange(values.seed);
    const sizes = values.replicas.split(',').map(clusterSize);
    const faults = faultSet(values.faults);
    const single = first === last && sizes.length === 1;
    if (values['trace-file'] !== undefined && !single) throw new CliError('flag-invalid', '--trace-file takes a single run; give one seed and one number of replicas');

    const totals: Record<string, number> = {};
    const failures: { seed: number; replicas: number; tick: number; invariant: string; detail: string; replay: string }[] = [];
    const startedMs = performance.now();
    let shownMs = startedMs;
    let runs = 0;
    const all = (last - first + 1) * sizes.length;
    for (let seed = first; seed <= last; seed++) {
      for (const replicas of sizes) {
        const trace = values.trace ? new TraceRing(replicas) : undefined;
        const file = values['trace-file'] === undefined ? undefined : openSync(values['trace-file'], 'w');
        const transitions = file === undefined ? undefined : new TransitionLog(replicas, (line) => writeSync(file, `${line}\n`));
        const result = simulate({ seed, replicas, ticks: values.ticks, faults, ...(trace && { trace }), ...(transitions && { transitions }) });
        if (file !== undefined) closeSync(file);
        runs++;
        for (const [name, value] of Object.entries(result.totals)) totals[name] = (totals[name] ?? 0) + value;
        if (single && !output.json) output.note(`seed ${seed}, ${replicas} replicas: ${result.plan}`);
        if (result.failure !== undefined) {
          const { tick, invariant, detail } = result.failure;
          const replay = `jitpaxos sim --seed ${seed} --replicas ${replicas}${values.ticks === DEFAULT_TICKS ? '' : ` --ticks ${values.ticks}`}${values.faults === 'all' ? '' : ` --faults ${values.faults}`} --trace`;
          failures.push({ seed, replicas, tick, invariant, detail, replay });
          report(result, replay, trace, output);
        } else if (single && trace !== undefined) {
          output.note(trace.lines().slice(-TRACE_LINES).join('\n'));
        }
        const nowMs = performance.now();
        if (nowMs - shownMs >= PROGRESS_MS) {
          shownMs = nowMs;
          output.note(`${runs} of ${all} runs, ${failures.length} failed, ${formatCount(totals['commits'] ?? 0)} commits, ${formatCount(Math.round((totals['messages'] ?? 0) / ((nowMs - startedMs) / 1000)))} messages/s`);
        }
      }
    }
    const seconds = (performance.now() - startedMs) / 1000;
    summarize(first, last, sizes, runs, failures, totals, seconds, output);
    return failures.length === 0 ? Exit.done : Exit.failed;
  },
);

function summarize(first: number, last: number, sizes: readonly number[], runs: number, failures: readonly object[], totals: Readonly<Record<string, number>>, seconds: number, output: Output): void {
  if (output.json) {
    output.line(JSON.stringify({ schema: 'jitpaxos.sim/1', seeds: [first, last], replicas: sizes, runs, failed: failures.length, failures, totals, seconds: Number(seconds.toFixed(1)) }));
    return;
  }
  const of = (name: keyof SimulationTotals): string => formatCount(totals[name] ?? 0);
  output.line(`runs        ${formatCount(runs)}: seeds ${first}..${last} at ${sizes.join(', ')} replicas; ${failures.length} failed`);
  output.line(`clients     ${of('commits')} commits (${of('fastCommits')} in one round trip), ${of('unknown')} with unknown outcome`);
  output.line(`replicas    ${of('views')} views started, ${of('crashes')} crashes (${of('logsLost')} lost the log), ${of('repairs')} repairs, ${of('rollbacks')} rollbacks, ${of('snapshotsInstalled')} snapshots installed`);
  output.line(`messages    ${of('messages')} in ${seconds.toFixed(1)} s: ${formatCount(Math.round((totals['messages'] ?? 0) / seconds))} a second; ${of('corrupted')} datagrams corrupted`);
}

function report(result: SimulationResult, replay: string, trace: TraceRing | undefined, output: Output): void {
  const { invariant, detail, tick, cluster } = result.failure!;
  if (output.json) return;
  output.line(`FAILED seed ${result.seed}, ${result.replicas} replicas, tick ${tick}: ${invariant}: ${detail}; replay: ${replay}`);
  if (trace === undefined) return;
  output.line(result.plan);
  output.line(trace.lines().slice(-TRACE_LINES).join('\n'));
  output.line(cluster.join('\n'));
}

function seedRange(text: string): [number, number] {
  const match = /^(\d{1,15})(?:\.\.(\d{1,15}))?$/.exec(text);
  const first = Number(match?.[1]);
  const last = Number(match?.[2] ?? match?.[1]);
  if (match === null || last < first) throw new CliError('flag-invalid', `--seed is a number or a range like 1..100, not "${text}"`);
  return [first, last];
}

function clusterSize(text: string): number {
  const n = Number(text);
  if (![1, 3, 5, 7, 9, 11, 13].includes(n)) throw new CliError('flag-invalid', `--replicas is an odd number from 1 to 13, or several with commas between them, not "${text}"`);
  return n;
}

function faultSet(text: string): ReadonlySet<FaultName> {
  if (text === 'all') return new Set(FAULT_NAMES);
  if (text === 'none') return new Set();
  const names = text.split(',');
  for (const name of names) {
    if ((FAULT_NAMES as readonly string[]).includes(name)) continue;
    const meant = nearest(name, FAULT_NAMES);
    throw new CliError('flag-invalid', `--faults: "${name}" is not a fault; ${meant === undefined ? '' : `did you mean "${meant}"? `}they are ${FAULT_NAMES.join(', ')}`);
  }
  return new Set(names as FaultName[]);
}
