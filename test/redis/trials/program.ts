/**
 * `npm run try:redis`: what clients of a Redis front end can do to it, at length: the order of a connection's commands
 * under loss, a very long pipeline, clients that do not read, and mutated commands by the million. Exit code 1 if
 * anything was wrong.
 */
import { program, namesOf, numbersOf } from '../../../bench/program.js';
import { CliError } from '../../../src/console/exit.js';
import { InputFuzzer } from './inputs.js';
import { orderUnderLoss } from './order.js';
import { longPipeline } from './pipeline.js';
import { unread } from './unread.js';

const PROGRESS_MS = 10_000;
const TRIALS = [{ name: 'order' }, { name: 'pipeline' }, { name: 'unread' }, { name: 'inputs' }] as const;

await program(
  {
    name: 'npm run try:redis --',
    summary: 'Tries what clients of a Redis front end can do to it.',
    positionals: [],
    flags: {
      trials: {
        kind: 'text',
        value: 'LIST',
        default: TRIALS.map(({ name }) => name).join(','),
        help: 'order: SET and GET in pipelines, while datagrams to the replicas are lost; pipeline: many commands before the first reply is read; unread: clients that never read; inputs: mutated commands',
      },
      seed: { kind: 'count', default: '1', max: 0x7fffffff, help: 'the same seed draws the same losses and inputs' },
      loss: { kind: 'text', value: 'LIST', default: '1,5', help: 'order: percent of the datagrams that are lost' },
      connections: { kind: 'count', default: '20', min: 1, max: 1_000, help: 'order: connections at once' },
      rounds: {
        kind: 'count',
        default: '100',
        min: 1,
        max: 1e6,
        help: 'order: pipelines of a connection, of 16 pairs',
      },
      commands: { kind: 'count', default: '100000', min: 1, max: 1e7, help: 'pipeline: commands' },
      clients: { kind: 'count', default: '200', min: 1, max: 5_000, help: 'unread: clients that never read' },
      seconds: { kind: 'count', default: '30', min: 1, max: 3_600, help: 'unread: for how long' },
      inputs: { kind: 'count', default: '10000000', min: 1, max: 1e12, help: 'inputs: how many, at least' },
    },
    examples: [
      'npm run try:redis -- --trials order --loss 1,5',
      'npm run try:redis -- --trials inputs --seed 7 --inputs 1000000',
    ],
  },
  async ({ trials, seed, loss, connections, rounds, commands, clients, seconds, inputs }, output) => {
    const failures: string[] = [];
    const tell = (what: string, text: string, result: object): void =>
      output.line(output.json ? JSON.stringify({ schema: 'jitpaxos.try-redis/1', what, seed, ...result }) : text);
    for (const { name } of namesOf('--trials', trials, TRIALS)) {
      switch (name) {
        case 'order':
          for (const percent of numbersOf('--loss', loss)) {
            const result = await orderUnderLoss({ seed, loss: percent / 100, connections, rounds });
            tell(
              name,
              `order       ${percent} % loss: ${result.blind.length} of ${result.reads} reads did not see the write before them; ${result.operations} operations, ${result.datagramsLost} datagrams lost, ${result.unsure} pairs not judged`,
              result,
            );
            if (result.blind.length > 0) failures.push(`order: ${result.blind.slice(0, 5).join('; ')}`);
          }
          break;
        case 'pipeline': {
          const result = await longPipeline(seed, commands);
          const { memory, wrong } = result;
          tell(
            name,
            `pipeline    ${commands} commands before the first reply was read: ${wrong ?? 'all replies right, in order'}, in ${result.seconds.toFixed(1)} s; memory of the front end ${memory.before} MiB before, ${memory.most} MiB at most`,
            result,
          );
          if (wrong !== undefined) failures.push(`pipeline: ${wrong}`);
          break;
        }
        case 'unread': {
          const result = await unread(seed, clients, seconds);
          const { memory, wrong } = result;
          tell(
            name,
            `unread      ${clients} clients that never read for ${seconds} s, ${result.closed} were closed; memory of the front end ${memory.before} MiB before, ${memory.most} MiB at most, ${memory.after} MiB afterwards; another client did ${result.served} pairs meanwhile, the longest in ${result.longestMs.toFixed(0)} ms`,
            result,
          );
          if (wrong !== undefined) failures.push(`unread: ${wrong}`);
          break;
        }
        case 'inputs': {
          const fuzzer = new InputFuzzer(seed);
          const startedMs = performance.now();
          let shownMs = startedMs;
          while (fuzzer.inputs < inputs) {
            await fuzzer.round();
            const nowMs = performance.now();
            if (nowMs - shownMs < PROGRESS_MS) continue;
            shownMs = nowMs;
            output.note(`${fuzzer.inputs} of ${inputs}, ${fuzzer.found.size} kinds of faults`);
          }
          const elapsed = (performance.now() - startedMs) / 1000;
          const { replies, errors, heldMost, found, counters } = fuzzer;
          const mostMiB = Math.round(process.resourceUsage().maxRSS / 1024);
          tell(
            name,
            `inputs      ${fuzzer.inputs} mutated commands in ${elapsed.toFixed(0)} s: ${found.size} kinds of faults; ${replies} replies, ${errors} of them errors, ${counters.protocolFaults} connections closed for what they sent, ${counters.writes} writes and ${counters.reads} reads executed; a connection held ${heldMost} bytes at most, the process ${mostMiB} MiB`,
            {
              inputs: fuzzer.inputs,
              seconds: elapsed,
              replies,
              errors,
              heldMost,
              mostMiB,
              counters,
              found: [...found],
            },
          );
          for (const [what, times] of found) failures.push(`inputs, ${times} times: ${what}`);
          break;
        }
      }
    }
    if (failures.length > 0)
      throw new CliError('assertion-failed', `${failures.join('\n')}\nagain: with --seed ${seed} and the same flags`);
  },
);
