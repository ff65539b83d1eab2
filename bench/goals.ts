/**
 * Measures every performance goal of the project with one command and says which ones hold.
 *
 *   npm run bench:goals -- [--json] [--rows native-512,kv] [--rounds 5]
 *   npm run bench:goals -- --namespaces [--json] [--rounds 5]
 *
 * Ratios are medians over rounds in which ours and the baseline take turns. Rates and times without a baseline depend
 * on the host as well: the goals are those for two cores and loopback. With the defaults it takes some
 * fifteen minutes.
 */
import { EchoProgram } from '../src/measure/compare/c-echo.js';
import { CliError } from '../src/console/exit.js';
import { isInside, runInside, settleInside, withoutNamespaces } from '../src/measure/namespaces.js';
import { hostInfo } from '../src/measure/load/bench-report.js';
import { version } from '../src/host/version.js';
import { allocationRows } from './goals/allocation-row.js';
import { latencyRows, namespaceRow, throughputRows } from './goals/baseline-rows.js';
import { besideRow, halfPeakRows, oneRoundTripRow, slowMemberRows } from './goals/load-rows.js';
import { checkMissed, goalsTable, type RowResult } from './goals/row.js';
import { program } from './program.js';

await program(
  {
    name: 'npm run bench:goals --',
    summary: 'Measures every goal of the performance and says which hold.',
    positionals: [],
    flags: {
      rows: { kind: 'text', value: 'NAME,…', help: 'only these rows (and those that are measured with them)' },
      rounds: { kind: 'count', default: '5', min: 1, max: 1000, help: 'rounds of one run of each' },
      seconds: { kind: 'duration', default: '1500ms', min: 1e7, help: 'how long a run is measured' },
      warmup: {
        kind: 'duration',
        default: '10s',
        help: 'how long it runs before: with two cores, V8 compiles beside the load for some seconds',
      },
      operations: {
        kind: 'count',
        default: '10000000',
        min: 1000,
        max: 1e10,
        help: 'operations of the rows `allocation`, each of which ends after two minutes in any case',
      },
      namespaces: {
        kind: 'switch',
        help: 'measure only the row between network namespaces, with the MTU of Ethernet (Linux; as root, or where anyone may have namespaces)',
      },
      strict: { kind: 'switch', help: 'exit with 4 when a goal is missed' },
    },
    examples: ['npm run bench:goals', 'npm run bench:goals -- --rows one-dgram --rounds 11 --json'],
  },
  async ({ rows: wanted, rounds, seconds, warmup, operations, namespaces, strict }, output) => {
    if (namespaces && !isInside()) {
      const reason = withoutNamespaces();
      if (reason !== false) throw new CliError('flag-invalid', `--namespaces: ${reason}`);
      process.exitCode = await runInside();
      return;
    }
    if (namespaces) settleInside();
    using echo = await EchoProgram.build();
    const all = [
      ...latencyRows(echo),
      throughputRows(echo),
      ...allocationRows,
      oneRoundTripRow,
      besideRow,
      halfPeakRows,
      slowMemberRows,
    ];
    const groups = namespaces ? [namespaceRow(echo)] : all;
    const names = groups.flatMap((group) => group.names);
    const chosen = wanted?.split(',') ?? names;
    const unknown = chosen.find((name) => !names.includes(name));
    if (unknown !== undefined)
      throw new CliError('flag-invalid', `--rows: "${unknown}" is no row; there are ${names.join(', ')}`);
    const startedMs = performance.now();
    const rows: RowResult[] = [];
    for (const group of groups) {
      if (!group.names.some((name) => chosen.includes(name))) continue;
      rows.push(
        ...(await group.measure({
          rounds,
          timing: { warmupMs: warmup / 1e6, ms: seconds / 1e6 },
          operations,
          progress: (text) => output.note(text),
        })),
      );
    }
    const result = {
      schema: 'jitpaxos.goals/1',
      rows,
      missed: rows.filter(({ holds }) => !holds).map(({ name }) => name),
      rounds,
      seconds: (performance.now() - startedMs) / 1000,
      host: hostInfo(),
      version: version(),
    };
    output.line(output.json ? JSON.stringify(result) : goalsTable(rows, result.seconds));
    checkMissed(result.missed, strict);
  },
);
