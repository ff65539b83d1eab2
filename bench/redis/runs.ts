/** One run of a load against one peer: by a process of our own, or by redis-benchmark. */
import { spawn } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { CliError } from '../../src/console/exit.js';
import { Children, cpuSeconds, LineChild } from '../../src/measure/compare/line-child.js';
import { Histogram } from '../../src/metrics/histogram.js';
import { openDatabase, type Target } from './database.js';
import type { DriverResult, DriverSetup } from './driver.js';
import type { Peer } from './servers.js';
import { benchmarkKey, Fields, keyOf } from './workload.js';

const DRIVER = fileURLToPath(new URL('driver.js', import.meta.url));
const STOP_MS = 2_000;
/** redis-benchmark that has not ended so long after its time is killed. */
const BENCHMARK_MS = 120_000;
const FILL_LANES = 32;

export interface Run {
  readonly opsPerSecond: number;
  readonly p50Us: number;
  readonly p99Us: number;
  /** Processor time of an operation in each process of the peer, µs; null if the kernel does not tell. */
  readonly cpuUs: readonly (number | null)[];
}

/** The processes that make loads, one a contestant: what V8 has compiled for a load serves its next run. */
export class Drivers implements AsyncDisposable {
  private readonly children = new Children(STOP_MS);
  private readonly byName = new Map<string, LineChild>();

  /** Measures once. `records`: what is there afterwards, with YCSB. Throws CliError `worker-failed`. */
  async measure(name: string, peer: Peer, setup: DriverSetup): Promise<Run & { readonly records: number }> {
    peer.check();
    const driver = this.of(name);
    try {
      driver.tell(JSON.stringify(setup));
      await driver.ready();
      const before = peer.pids.map(cpuSeconds);
      driver.go();
      const { histogram: data, seconds, records } = await driver.result<DriverResult>(setup.ms);
      const histogram = Histogram.fromData(data);
      return {
        opsPerSecond: histogram.count / seconds,
        p50Us: histogram.quantile(0.5) / 1000,
        p99Us: histogram.quantile(0.99) / 1000,
        cpuUs: costOf(peer, before, histogram.count),
        records,
      };
    } catch (error) {
      // If a server has gone, that is the reason.
      peer.check();
      throw error;
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.children[Symbol.asyncDispose]();
  }

  private of(name: string): LineChild {
    const known = this.byName.get(name);
    if (known !== undefined) return known;
    const started = this.children.add(LineChild.start(process.execPath, [DRIVER], `the load of ${name}`));
    this.byName.set(name, started);
    return started;
  }
}

function costOf({ pids }: Peer, before: readonly (number | null)[], operations: number): (number | null)[] {
  return pids.map((pid, i) => {
    const after = cpuSeconds(pid);
    return after === null || before[i] === null ? null : ((after - before[i]!) * 1e6) / operations;
  });
}

export interface BenchmarkSetup {
  readonly command: 'get' | 'set';
  readonly connections: number;
  readonly pipeline: number;
  readonly keys: number;
  readonly bytes: number;
  readonly requests: number;
}

/** Measures by redis-benchmark. */
export async function redisBenchmark(peer: Peer, setup: BenchmarkSetup): Promise<Run> {
  peer.check();
  const before = peer.pids.map(cpuSeconds);
  const said = await outputOf('redis-benchmark', [
    ...['-h', '127.0.0.1', '-p', String(peer.port), '-t', setup.command, '--csv'],
    ...['-c', String(setup.connections), '-P', String(setup.pipeline), '-n', String(setup.requests)],
    ...['-r', String(setup.keys), '-d', String(setup.bytes)],
  ]);
  peer.check();
  const values = new RegExp(`^"${setup.command.toUpperCase()}",(.*)$`, 'm').exec(said)?.[1];
  // rps, then ms: average, least, p50, p95, p99, most
  const [rps, , , p50Ms, , p99Ms] = (values ?? '').split(',').map((value) => Number(value.replaceAll('"', '')));
  if (rps === undefined || p99Ms === undefined || Number.isNaN(rps + p50Ms! + p99Ms))
    throw new CliError(
      'worker-failed',
      `redis-benchmark printed something else than expected: ${said.slice(0, 200)}; its version should be 7.0 or later`,
    );
  return { opsPerSecond: rps, p50Us: p50Ms! * 1000, p99Us: p99Ms * 1000, cpuUs: costOf(peer, before, setup.requests) };
}

/** What a program prints. Throws CliError `worker-failed` if it fails; it is gone afterwards, and when this process ends. */
async function outputOf(program: string, args: readonly string[]): Promise<string> {
  const child = spawn(program, args, { stdio: ['ignore', 'pipe', 'pipe'], detached: true });
  const kill = (): void => void child.kill('SIGKILL');
  process.once('exit', kill);
  const timer = setTimeout(kill, BENCHMARK_MS);
  let [said, complaint] = ['', ''];
  child.stdout.setEncoding('utf8').on('data', (text: string) => (said += text));
  child.stderr.setEncoding('utf8').on('data', (text: string) => (complaint = (complaint + text).slice(-1000)));
  try {
    const how = await new Promise<string>((resolve) => {
      child.once('error', ({ message }) => resolve(message));
      child.once('close', (code, signal) => resolve(signal ?? `exit code ${code}`));
    });
    if (how === 'exit code 0') return said;
    throw new CliError('worker-failed', `${program} ended with ${how}: ${complaint.trim()}; run again`);
  } finally {
    clearTimeout(timer);
    process.off('exit', kill);
  }
}

/** Writes the keys that GET reads. */
export async function fillKeys(target: Target, keys: number, bytes: number): Promise<void> {
  await using database = await openDatabase(target, FILL_LANES);
  const value = Buffer.alloc(bytes, 'v');
  let next = 0;
  await Promise.all(
    database.lanes.map(async (lane) => {
      while (next < keys) await lane.set(benchmarkKey(next++), value);
    }),
  );
}

/** Writes YCSB's records. @param random for their fields */
export async function fillRecords(target: Target, records: number, random: () => number): Promise<void> {
  await using database = await openDatabase(target, FILL_LANES);
  const fields = new Fields(random);
  let next = 0;
  await Promise.all(
    database.lanes.map(async (lane) => {
      while (next < records) await lane.insert(keyOf(next++), fields.next());
    }),
  );
}
