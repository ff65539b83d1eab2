/**
 * What one noisy client costs the others: well-behaved clients at a moderate rate, alone and beside a client that
 * floods.
 *
 *   npm run bench:fairness -- [--transports dgram,native] [--noise lanes,again,garbage] [--noises 1] [--json]
 *
 * `elsewhere` is the reference: the same flood, towards sockets that nobody reads. It uses as much processor time as a
 * flood, but nothing of the cluster. Any further cost of a noise is what the cluster allowed it to take. All processes
 * share the host's cores. A latency runs from the sending of an operation to its commit, including retries.
 */
import { fileURLToPath } from 'node:url';
import { Children, LineChild } from '../src/measure/compare/line-child.js';
import { median } from '../src/measure/compare/rounds.js';
import { hostInfo } from '../src/measure/load/bench-report.js';
import { formatCount, formatDuration } from '../src/console/units.js';
import type { ReplicaStatusReport } from '../src/host/status.js';
import { version } from '../src/host/version.js';
import { HonestLoad } from './honest-load.js';
import type { NoiseResult, NoiseSetup } from './noise.js';
import { namesOf, program } from './program.js';

const NOISES = [
  { name: 'elsewhere', what: 'a flood of sockets that nobody reads' },
  { name: 'lanes', what: 'a client with 4,096 operations open, always' },
  { name: 'member-only', what: '500 requests a second, to one member only' },
  { name: 'large', what: 'a client with 64 operations of 40,000 bytes open, always' },
  { name: 'ahead', what: 'a client with 64 operations open, always, stamped 50 ms ahead' },
  { name: 'again', what: 'one Register, sent again and again' },
  { name: 'unknown', what: 'requests of a session that is not there' },
  { name: 'garbage', what: 'datagrams under a good key whose messages are none' },
  { name: 'registers', what: 'a new session with each datagram' },
  { name: 'forged', what: 'datagrams with a right envelope and a wrong MAC, from an address that nobody knows' },
  { name: 'forged-long', what: 'the same, of 8,900 bytes' },
  { name: 'random', what: 'random bytes' },
] as const;
const TRANSPORTS = [{ name: 'dgram' }, { name: 'native' }] as const;
type Transport = (typeof TRANSPORTS)[number]['name'];
const CLIENTS = 4;
const SETTLE_MS = 300;
const AFTER_MS = 1_000;

interface Run {
  readonly noise: string;
  readonly p50Ns: number;
  readonly p99Ns: number;
  /** Committed a second, and what was offered. */
  readonly opsPerSecond: number;
  readonly failed: number;
  /** In the second after the noise ended. */
  readonly afterP99Ns: number;
  readonly afterPerSecond: number;
  readonly noisePerSecond: number;
  readonly viewChanges: number;
  readonly retransmitted: number;
  /** Datagrams at the primary. */
  readonly queued: number;
  readonly refused: number;
}

class Bench {
  private constructor(
    private readonly load: HonestLoad,
    private readonly transport: Transport,
    private readonly durationNs: number,
  ) {}

  static async start(transport: Transport, rate: number, durationNs: number): Promise<Bench> {
    return new Bench(await HonestLoad.start({ clients: CLIENTS, transport, rate }), transport, durationNs);
  }

  async run(noise: string, noises: number): Promise<Run> {
    await using children = new Children();
    const [before] = await this.load.reports();
    const elsewhere = noise === 'elsewhere';
    const setup: NoiseSetup = {
      kind: elsewhere ? 'unknown' : noise,
      elsewhere,
      cluster: this.load.cluster.clusterFile,
      transport: this.transport,
      members: before!.members,
      view: before!.view,
      primary: before!.primary,
    };
    const program = fileURLToPath(new URL('./noise.js', import.meta.url));
    const flooding =
      noise === 'none'
        ? []
        : Array.from({ length: noises }, () =>
            children.add(LineChild.start(process.execPath, [program, JSON.stringify(setup)], 'the noise')),
          );
    for (const child of flooding) await child.ready();
    for (const child of flooding) child.go();
    const measured = await this.load.step(this.durationNs, SETTLE_MS);
    await Promise.all(flooding.map((child) => child.stop(5_000)));
    const after = await this.load.step(AFTER_MS * 1e6, 0);
    const made = await Promise.all(flooding.map((child) => child.result<NoiseResult>(0)));
    const [ended] = await this.load.reports();
    return {
      noise,
      p50Ns: measured.service.quantile(0.5),
      p99Ns: measured.service.quantile(0.99),
      opsPerSecond: measured.service.count / measured.seconds,
      failed: Object.values(measured.errors).reduce((sum, count) => sum + count, 0),
      afterP99Ns: after.service.quantile(0.99),
      afterPerSecond: after.service.count / after.seconds,
      noisePerSecond: made.reduce((sum, { sent, seconds }) => sum + sent / seconds, 0),
      viewChanges: ended!.view - before!.view,
      retransmitted: measured.client.retransmitted,
      queued: queuedOf(ended!) - queuedOf(before!),
      refused: (ended!.drops['crowded'] ?? 0) - (before!.drops['crowded'] ?? 0),
    };
  }

  close(): Promise<void> {
    return this.load.close();
  }
}

await program(
  {
    name: 'npm run bench:fairness --',
    summary: 'Measures what a client that floods costs the others.',
    positionals: [],
    flags: {
      transports: { kind: 'text', value: 'LIST', default: 'dgram,native', help: 'transports of all processes' },
      noise: {
        kind: 'text',
        value: 'LIST',
        default: NOISES.map(({ name }) => name).join(','),
        help: 'kinds of noise, each beside none',
      },
      noises: { kind: 'count', default: '1', min: 1, max: 64, help: 'clients that flood at once' },
      rate: {
        kind: 'count',
        default: '1000',
        min: 1,
        max: 1_000_000,
        help: `operations a second that the ${CLIENTS} well-behaved clients offer together`,
      },
      rounds: { kind: 'count', default: '3', min: 1, max: 1000, help: 'rounds of one run of each' },
      seconds: { kind: 'duration', default: '2s', min: 1e7, max: 3.6e12, help: 'how long a run is measured' },
    },
    examples: [
      'npm run bench:fairness',
      'npm run bench:fairness -- --transports native --noise lanes,garbage --rounds 5',
    ],
  },
  async ({ transports, noise, noises, rate, rounds, seconds }, output) => {
    const startedMs = performance.now();
    const kinds = namesOf('--noise', noise, NOISES);
    const results: { transport: string; runs: Run[] }[] = [];
    for (const { name: transport } of namesOf('--transports', transports, TRANSPORTS)) {
      const bench = await Bench.start(transport, rate, seconds);
      const runs: Run[] = [];
      try {
        await bench.run('none', 0); // warm
        for (let round = 0; round < rounds; round++) {
          for (const kind of ['none', ...kinds.map(({ name }) => name)]) {
            const run = await bench.run(kind, noises);
            runs.push(run);
            output.note(
              `${transport}, round ${round + 1} of ${rounds}: ${kind}: p50 ${formatDuration(run.p50Ns)}, p99 ${formatDuration(run.p99Ns)}, ${formatCount(run.opsPerSecond)}/s; resent ${run.retransmitted}, failed ${run.failed}, views ${run.viewChanges}; queued ${run.queued}, refused ${run.refused}; noise ${formatCount(run.noisePerSecond)}/s; then p99 ${formatDuration(run.afterP99Ns)}, ${formatCount(run.afterPerSecond)}/s`,
            );
          }
        }
      } finally {
        await bench.close();
      }
      results.push({ transport, runs });
    }
    const rows = results.flatMap(({ transport, runs }) =>
      [...new Set(runs.map((run) => run.noise))].map((kind) => rowOf(transport, kind, runs)),
    );
    const took = (performance.now() - startedMs) / 1000;
    if (output.json)
      output.line(
        JSON.stringify({
          schema: 'jitpaxos.fairness/1',
          offeredPerSecond: rate,
          noises,
          rounds,
          rows,
          seconds: took,
          host: hostInfo(),
          version: version(),
        }),
      );
    else output.line(tableOf(rows, rate, took));
  },
);

type Row = Omit<Run, 'noise'> & { readonly transport: string; readonly noise: string };

function queuedOf(report: ReplicaStatusReport): number {
  return report.transport.counters['datagrams_queued'] ?? 0;
}

/** Medians over the rounds; failures are added up. */
function rowOf(transport: string, noise: string, all: readonly Run[]): Row {
  const runs = all.filter((run) => run.noise === noise);
  const middle = (value: (run: Run) => number): number => median(runs.map(value));
  const sum = (value: (run: Run) => number): number => runs.reduce((total, run) => total + value(run), 0);
  return {
    transport,
    noise,
    p50Ns: middle(({ p50Ns }) => p50Ns),
    p99Ns: middle(({ p99Ns }) => p99Ns),
    opsPerSecond: middle(({ opsPerSecond }) => opsPerSecond),
    failed: sum(({ failed }) => failed),
    afterP99Ns: middle(({ afterP99Ns }) => afterP99Ns),
    afterPerSecond: middle(({ afterPerSecond }) => afterPerSecond),
    noisePerSecond: middle(({ noisePerSecond }) => noisePerSecond),
    viewChanges: sum(({ viewChanges }) => viewChanges),
    retransmitted: sum(({ retransmitted }) => retransmitted),
    queued: sum(({ queued }) => queued),
    refused: sum(({ refused }) => refused),
  };
}

function tableOf(rows: readonly Row[], rate: number, seconds: number): string {
  const { cpu, cores, kernel, node } = hostInfo();
  const lines = [
    '| transport | noise | noise/s | p50 | p99 | ÷ none | of the rate | ÷ none | resent | failed | view changes | p99 in the second after |',
    '| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |',
  ];
  for (const row of rows) {
    const quiet = rows.find(({ transport, noise }) => transport === row.transport && noise === 'none')!;
    lines.push(
      `| ${row.transport} | ${row.noise} | ${row.noise === 'none' ? '' : formatCount(row.noisePerSecond)} | ${formatDuration(row.p50Ns)} | ${formatDuration(row.p99Ns)} | ${(row.p99Ns / quiet.p99Ns).toFixed(2)} | ${((row.opsPerSecond / rate) * 100).toFixed(1)} % | ${(row.opsPerSecond / quiet.opsPerSecond).toFixed(2)} | ${row.retransmitted} | ${row.failed} | ${row.viewChanges} | ${formatDuration(row.afterP99Ns)} |`,
    );
  }
  lines.push(
    '',
    ...NOISES.map(({ name, what }) => `${name}: ${what}`),
    `${CLIENTS} clients offer ${formatCount(rate)} operations a second; ${seconds.toFixed(0)} s on ${cores} × ${cpu}, Linux ${kernel}, Node ${node}`,
  );
  return lines.join('\n');
}
