/**
 * `jitpaxos sim`: runs seeds of the deterministic simulator (src/sim/), each at every requested cluster size. Prints
 * one line for each failing seed, with the command that replays it, and a summary of what all of them went through.
 */
import { closeSync, openSync, writeSync } from 'node:fs';
import { ALL_FAULTS, FAULT_NAMES, type FaultName } from '../sim/faults.js';
import { Campaign, failureLine, failureText, progressLine, summaryJson, summaryLines } from '../sim/report.js';
import { changesMembers, DEFAULT_TICKS } from '../sim/assembly.js';
import { simulate } from '../sim/simulation.js';
import { TraceRing, TransitionLog } from '../sim/trace.js';
import { nearest } from '../host/options.js';
import { defineCommand } from '../console/command.js';
import { CliError, Exit } from '../console/exit.js';

/** Trace lines printed before a failure. */
const TRACE_LINES = 120;
const PROGRESS_MS = 2_000;

export const sim = defineCommand(
  {
    name: 'sim',
    summary:
      'Runs the protocol in a deterministic simulator under faults, and checks the invariants and the results that clients saw.',
    positionals: [],
    flags: {
      seed: { kind: 'text', value: 'A..B', default: '1..100', help: 'seeds to run, or a single one' },
      replicas: {
        kind: 'text',
        value: 'N,…',
        default: '3,5',
        help: 'cluster sizes: each seed runs at each of them; an operator makes even ones of the odd one below',
      },
      ticks: {
        kind: 'count',
        default: String(DEFAULT_TICKS),
        min: 1_000,
        max: 1e9,
        help: 'length of the phase with faults, in µs of virtual time',
      },
      faults: {
        kind: 'text',
        value: 'LIST',
        default: 'all',
        help: `faults that may happen: all, none, or some of ${FAULT_NAMES.join(', ')}`,
      },
      members: {
        kind: 'switch',
        help: 'run only the seeds in which an operator changes the members, three in ten',
      },
      trace: {
        kind: 'switch',
        help: 'print the last messages and events before a failure; of a single run, also without a failure',
      },
      'trace-file': {
        kind: 'text',
        value: 'FILE',
        help: 'write every state transition of a single run, one JSON object a line (docs/internals/simulation.md)',
      },
    },
    examples: ['jitpaxos sim --seed 1..1000 --replicas 3,5,7', 'jitpaxos sim --seed 42 --replicas 3 --trace'],
  },
  async ({ values }, output) => {
    const [first, last] = seedRange(values.seed);
    const sizes = values.replicas.split(',').map(simulatedSize);
    const faults = faultSet(values.faults);
    const single = first === last && sizes.length === 1;
    if (values['trace-file'] !== undefined && !single)
      throw new CliError('flag-invalid', '--trace-file takes a single run; give one seed and one number of replicas');

    if (values.members && !faults.has('members'))
      throw new CliError('flag-invalid', '--members needs the fault members; name it in --faults, or leave that out');
    const seeds: number[] = [];
    for (let seed = first; seed <= last; seed++) if (!values.members || changesMembers(seed)) seeds.push(seed);

    const options = { ticks: values.ticks, faults: values.faults };
    const campaign = new Campaign(options);
    const startedMs = performance.now();
    let shownMs = startedMs;
    const all = seeds.length * sizes.length;
    for (const seed of seeds) {
      for (const replicas of sizes) {
        const trace = values.trace ? new TraceRing(replicas) : undefined;
        const file = values['trace-file'] === undefined ? undefined : openSync(values['trace-file'], 'w');
        const transitions =
          file === undefined ? undefined : new TransitionLog(replicas, (line) => writeSync(file, `${line}\n`));
        const result = simulate({
          seed,
          replicas,
          ticks: values.ticks,
          faults,
          ...(trace && { trace }),
          ...(transitions && { transitions }),
        });
        if (file !== undefined) closeSync(file);
        const failure = campaign.add(result);
        if (single && !output.json)
          output.note(`seed ${seed}, ${replicas} replicas: ${result.plan}; digest ${result.digest}`);
        if (failure !== undefined && !output.json) {
          output.line(failureLine(failure));
          if (trace !== undefined)
            output.line([...trace.lines().slice(-TRACE_LINES), failureText(result, options)].join('\n'));
        } else if (single && trace !== undefined) {
          output.note(trace.lines().slice(-TRACE_LINES).join('\n'));
        }
        const nowMs = performance.now();
        if (nowMs - shownMs >= PROGRESS_MS) {
          shownMs = nowMs;
          output.note(progressLine(campaign.report(), all, (nowMs - startedMs) / 1000));
        }
      }
    }
    const seconds = (performance.now() - startedMs) / 1000;
    const report = campaign.report();
    if (output.json) output.line(summaryJson(report, { ...options, seeds: [first, last], replicas: sizes }, seconds));
    else for (const line of summaryLines(report, seconds)) output.line(line);
    return report.failures.length === 0 ? Exit.done : Exit.failed;
  },
);

export function seedRange(text: string): [number, number] {
  const match = /^(\d{1,15})(?:\.\.(\d{1,15}))?$/.exec(text);
  const first = Number(match?.[1]);
  const last = Number(match?.[2] ?? match?.[1]);
  if (match === null || last < first)
    throw new CliError('flag-invalid', `--seed is a number or a range like 1..100, not "${text}"`);
  return [first, last];
}

/** Clusters begin with an odd number of replicas: the simulated operator makes an even one of it. */
function simulatedSize(text: string): number {
  return ['2', '4', '6', '8', '10', '12'].includes(text) ? Number(text) : clusterSize(text);
}

export function clusterSize(text: string): number {
  const n = Number(text);
  if (![1, 3, 5, 7, 9, 11, 13].includes(n))
    throw new CliError(
      'flag-invalid',
      `--replicas is an odd number from 1 to 13, or several separated by commas, not "${text}"`,
    );
  return n;
}

function faultSet(text: string): ReadonlySet<FaultName> {
  if (text === 'all') return new Set(ALL_FAULTS);
  if (text === 'none') return new Set();
  const names = text.split(',');
  for (const name of names) {
    if ((FAULT_NAMES as readonly string[]).includes(name)) continue;
    const meant = nearest(name, FAULT_NAMES);
    throw new CliError(
      'flag-invalid',
      `--faults: "${name}" is not a fault; ${meant === undefined ? '' : `did you mean "${meant}"? `}they are ${FAULT_NAMES.join(', ')}`,
    );
  }
  return new Set(names as FaultName[]);
}
