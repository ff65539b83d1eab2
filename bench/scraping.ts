/**
 * What scraping costs: open-loop latency of one cluster while every replica's metrics are read at a fixed interval, and
 * while they are not, alternately.
 *
 *   npm run bench:scraping -- [--rounds 7] [--interval 1s] [--json]
 */
import { execFile, spawn, type ChildProcess } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { median } from '../src/measure/compare/rounds.js';
import { CliError } from '../src/console/exit.js';
import { freePorts } from '../src/host/free-ports.js';
import { hostInfo, type BenchReport } from '../src/measure/load/bench-report.js';
import { table } from '../src/console/terminal.js';
import { formatDuration } from '../src/console/units.js';
import { program } from './program.js';

const MAIN = fileURLToPath(new URL('../src/cli/main.js', import.meta.url));
const REPLICAS = 3;
const LARGEST_OUTPUT = 16 << 20;
const run = promisify(execFile);

interface Round {
  readonly scraped: boolean;
  readonly scrapes: number;
  readonly latencyNs: BenchReport['latencyNs'];
}

await program(
  {
    name: 'npm run bench:scraping --',
    summary: 'Measures latency while metrics are read, and while they are not.',
    positionals: [],
    flags: {
      rounds: { kind: 'count', default: '7', min: 1, max: 1000, help: 'rounds of one run of each' },
      rate: { kind: 'count', default: '1000', min: 1, max: 1e6, help: 'operations a second' },
      seconds: { kind: 'duration', default: '4s', min: 1e8, max: 3.6e12, help: 'how long a run is measured' },
      interval: {
        kind: 'duration',
        default: '1s',
        min: 1e6,
        max: 3.6e12,
        help: 'between two scrapes of a replica; Prometheus has 1 min by default',
      },
    },
    examples: ['npm run bench:scraping', 'npm run bench:scraping -- --interval 100ms'],
  },
  async ({ rounds, rate, seconds, interval }, output) => {
    const directory = mkdtempSync(join(tmpdir(), 'jitpaxos-scraping-'));
    const replicas: ChildProcess[] = [];
    try {
      const cluster = join(directory, 'cluster.json');
      const ports = await freePorts(REPLICAS);
      await run(process.execPath, [
        MAIN,
        'init',
        '--insecure',
        '--replicas',
        ports.map((port) => `127.0.0.1:${port}`).join(','),
        '--out',
        cluster,
      ]);
      const urls = await Promise.all(ports.map((_, id) => start(cluster, id, replicas)));
      const measured: Round[] = [];
      for (let round = 0; round < rounds; round++) {
        for (const scraped of round % 2 === 0 ? [false, true] : [true, false]) {
          const one = await measure(cluster, rate, seconds, scraped ? urls : [], interval);
          output.note(
            `round ${round + 1} of ${rounds}: ${scraped ? `scraped ${one.scrapes} times` : 'not scraped'}: p50 ${formatDuration(one.latencyNs.p50)}, p99 ${formatDuration(one.latencyNs.p99)}`,
          );
          measured.push(one);
        }
      }
      const of = (scraped: boolean, name: 'p50' | 'p99'): number =>
        median(measured.filter((one) => one.scraped === scraped).map(({ latencyNs }) => latencyNs[name] ?? NaN));
      const ratios = { p50: of(true, 'p50') / of(false, 'p50'), p99: of(true, 'p99') / of(false, 'p99') };
      if (output.json)
        output.line(JSON.stringify({ schema: 'jitpaxos.scraping/1', rounds: measured, ratios, host: hostInfo() }));
      else {
        const row = (name: 'p50' | 'p99'): string[] => [
          name,
          formatDuration(of(false, name)),
          formatDuration(of(true, name)),
          ratios[name].toFixed(2),
        ];
        for (const line of table(
          [
            ['median of rounds', 'not scraped', `scraped each ${formatDuration(interval)}`, '×'],
            row('p50'),
            row('p99'),
          ],
          new Set([1, 2, 3]),
        ))
          output.line(line);
      }
    } finally {
      for (const replica of replicas) replica.kill('SIGKILL');
      rmSync(directory, { recursive: true, force: true, maxRetries: 3 });
    }
  },
);

/** Starts a replica. Returns the URL of its metrics. */
async function start(cluster: string, id: number, replicas: ChildProcess[]): Promise<string> {
  const replica = spawn(
    process.execPath,
    [MAIN, 'replica', '--cluster', cluster, '--id', String(id), '--metrics', '0'],
    { stdio: ['ignore', 'pipe', 'ignore'] },
  );
  replicas.push(replica);
  for await (const line of createInterface({ input: replica.stdout })) {
    if (line.startsWith('ready ')) return (JSON.parse(line.slice('ready '.length)) as { metrics: string }).metrics;
  }
  throw new CliError('worker-failed', `replica ${id} ended before it was ready; run it by hand to see why`);
}

async function measure(
  cluster: string,
  rate: number,
  seconds: number,
  urls: readonly string[],
  intervalNs: number,
): Promise<Round> {
  let scrapes = 0;
  let failure: unknown;
  const scrape = async (url: string): Promise<void> => {
    const response = await fetch(url);
    await response.text();
    if (!response.ok)
      throw new CliError('worker-failed', `${url} answers ${response.status}; see whether the replica runs`);
    scrapes++;
  };
  const timer = setInterval(
    () => urls.forEach((url) => void scrape(url).catch((error: unknown) => (failure = error))),
    intervalNs / 1e6,
  );
  try {
    const { stdout } = await run(
      process.execPath,
      [
        MAIN,
        'bench',
        'load',
        '--cluster',
        cluster,
        '--rate',
        String(rate),
        '--arrivals',
        'even',
        '--duration',
        `${seconds / 1e6}ms`,
        '--json',
        '--quiet',
      ],
      { maxBuffer: LARGEST_OUTPUT },
    );
    if (failure !== undefined) throw failure;
    return { scraped: urls.length > 0, scrapes, latencyNs: (JSON.parse(stdout) as BenchReport).latencyNs };
  } finally {
    clearInterval(timer);
  }
}
