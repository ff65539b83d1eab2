/**
 * The Redis front end beside Redis: alone, without persistence, and as a primary with two replicas and `WAIT 1` after each
 * write. All run on loopback and take turns.
 *
 *   npm run bench:redis -- [--only latency,benchmark,ycsb,memory] [--rounds 5] [--strict] [--json]
 *
 * `latency` is a closed loop of our own, over one connection and over 32, and over our own client with one operation open.
 * `benchmark` is redis-benchmark with 50 connections, without and with 16 commands in a write. `ycsb` has the core
 * workloads of YCSB; redis/workload.ts says how they are done. `memory` is a front end of its own with many connections.
 */
import { hostInfo } from '../src/measure/load/bench-report.js';
import { CliError } from '../src/console/exit.js';
import { version } from '../src/host/version.js';
import { Interruption } from '../src/measure/load/interruption.js';
import { checkMissed, goalsTable, type RowResult } from './goals/row.js';
import { namesOf, program } from './program.js';
import { benchmark } from './redis/benchmark.js';
import { commandOf, RespLane, type Target } from './redis/database.js';
import { latency } from './redis/latency.js';
import { memory } from './redis/memory.js';
import type { Effort, Part, Table } from './redis/part.js';
import { ITEMS_MAX } from './redis/random-items.js';
import { Drivers } from './redis/runs.js';
import { checkInstalled, startCluster, startFrontEnd, startRedisPeer, type Peer } from './redis/servers.js';
import { WORKLOAD_ORDER, WORKLOADS } from './redis/workload.js';
import { ycsb } from './redis/ycsb.js';

const PARTS: readonly { readonly name: string; readonly measure: (effort: Effort) => Promise<Part> }[] = [
  { name: 'latency', measure: latency },
  { name: 'benchmark', measure: benchmark },
  { name: 'ycsb', measure: ycsb },
  { name: 'memory', measure: memory },
];

/** Processes that may be there at once, with what else waits for the end of this one. */
const PROCESSES_MAX = 30;

await program(
  {
    name: 'npm run bench:redis --',
    summary: 'The Redis front end beside Redis alone, and beside Redis with two replicas and WAIT 1.',
    positionals: [],
    flags: {
      only: {
        kind: 'text',
        value: 'PART,…',
        standard: 'all, one after the other',
        help: `only these: ${PARTS.map(({ name }) => name).join(', ')}`,
      },
      rounds: { kind: 'count', default: '5', min: 1, max: 1000, help: 'rounds; each runs every contestant once' },
      seconds: { kind: 'duration', default: '1s', min: 1e7, max: 3.6e12, help: 'how long a run is measured' },
      warmup: {
        kind: 'duration',
        default: '200ms',
        max: 3.6e12,
        help: 'how long it runs before that; unless it is 0, each contestant is also run once before the first round',
      },
      keys: { kind: 'count', default: '10000', min: 1, max: ITEMS_MAX, help: 'different keys of SET and GET' },
      records: { kind: 'count', default: '10000', min: 2, max: ITEMS_MAX, help: 'records of YCSB at the beginning' },
      workloads: {
        kind: 'text',
        value: 'A,…',
        default: Object.keys(WORKLOADS).join(','),
        help: 'workloads of YCSB',
      },
      connections: { kind: 'count', default: '2000', min: 1, max: 10_000, help: 'connections of memory' },
      seed: { kind: 'count', default: '1', max: 0x7fffffff, help: 'seed of keys, values and operations' },
      strict: { kind: 'switch', help: 'exit with 4 when a goal is missed' },
    },
    examples: ['npm run bench:redis', 'npm run bench:redis -- --only latency,memory --rounds 11 --json'],
  },
  async ({ only, rounds, seconds, warmup, keys, records, workloads, connections, seed, strict }, output) => {
    const startedMs = performance.now();
    const chosen = only === undefined ? PARTS : namesOf('--only', only, PARTS);
    const asked = namesOf(
      '--workloads',
      workloads,
      WORKLOAD_ORDER.map((name) => ({ name })),
    );
    checkInstalled('redis-server', 'redis-benchmark');
    // Every process that is started is ended by a listener of its own.
    process.setMaxListeners(PROCESSES_MAX);
    using interruption = new Interruption();
    await using cluster = await startCluster();
    await using front = await startFrontEnd(cluster);
    await using redis = await startRedisPeer(0);
    await using wait = await startRedisPeer(2);
    await using drivers = new Drivers();
    const hasIndex = await knows(front, 'zadd');
    const respTarget = ({ port }: Peer, waits = false): Target => ({
      kind: 'resp',
      port,
      wait: waits,
      index: hasIndex,
    });
    const effort: Effort = {
      contestants: {
        own: { peer: { ...front, pids: front.pids.slice(1) }, target: { kind: 'own', cluster: cluster.clusterFile } },
        front: { peer: front, target: respTarget(front) },
        redis: { peer: redis, target: respTarget(redis) },
        wait: { peer: wait, target: respTarget(wait, true) },
      },
      cluster,
      drivers,
      rounds,
      warmupMs: warmup / 1e6,
      ms: seconds / 1e6,
      keys,
      records,
      workloads: asked.map(({ name }) => name),
      connections,
      seed,
      hasIndex,
      note: (text) => output.note(text),
      isInterrupted: () => interruption.requested,
    };
    const rows: RowResult[] = [];
    const tables: Table[] = [];
    const values: Record<string, object> = {};
    let partial: string | null = null;
    await interruption.during(
      () => output.note('ends after the current run; Ctrl-C again ends at once'),
      async () => {
        for (const { name, measure } of chosen) {
          output.note(`${name} (--seed ${seed})`);
          const part = await measure(effort);
          rows.push(...part.rows);
          tables.push(...part.tables);
          values[name] = part.values;
          if (!interruption.requested) continue;
          partial = `interrupted after ${part.rounds} of ${rounds} rounds of ${name}`;
          break;
        }
      },
    );
    if (partial !== null && rows.length === 0 && tables.length === 0)
      throw new CliError('interrupted', `${partial}; run again`);
    const result = {
      schema: 'jitpaxos.bench-redis/1',
      partial,
      rows,
      missed: rows.filter(({ holds }) => !holds).map(({ name }) => name),
      tables,
      values,
      rounds,
      seed,
      seconds: (performance.now() - startedMs) / 1000,
      host: hostInfo(),
      version: version(),
    };
    output.line(
      output.json ? JSON.stringify(result) : [goalsTable(rows, result.seconds), ...tables.map(shown)].join('\n\n'),
    );
    if (partial !== null) throw new CliError('interrupted', `${partial}; what is printed was measured until then`);
    checkMissed(result.missed, strict);
  },
);

/** The server has this command. */
async function knows({ port }: Peer, command: string): Promise<boolean> {
  const lane = await RespLane.connect({ port, wait: false, index: false });
  try {
    const [found] = await lane.send(commandOf(['COMMAND', 'LIST', 'FILTERBY', 'PATTERN', command]), 1, false, true);
    return found === command;
  } finally {
    lane.close();
  }
}

function shown({ title, columns, rows }: Table): string {
  const line = (cells: readonly string[]): string => `| ${cells.join(' | ')} |`;
  return [title, '', line(columns), line(columns.map(() => '---')), ...rows.map(line)].join('\n');
}
