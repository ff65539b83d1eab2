/**
 * The process that makes the loads of one contestant of bench:redis: closed loops in which each lane does one operation
 * after the other. It gets the setup of a load as a line of JSON, and speaks as src/measure/compare/line-child.ts says.
 */
import { createInterface } from 'node:readline';
import { Histogram, type HistogramData } from '../../src/metrics/histogram.js';
import { seededRandom } from '../../src/measure/load/random.js';
import { openDatabase, type Database, type Lane, type Target } from './database.js';
import { benchmarkKey, Core, type WorkloadName } from './workload.js';

export interface DriverSetup {
  readonly target: Target;
  readonly lanes: number;
  readonly load:
    | { readonly kind: 'set' | 'get'; readonly keys: number; readonly bytes: number }
    | { readonly kind: 'ycsb'; readonly workload: WorkloadName; readonly records: number };
  readonly seed: number;
  readonly warmupMs: number;
  readonly ms: number;
}

export interface DriverResult {
  readonly seconds: number;
  readonly histogram: HistogramData;
  /** Records that are there now, with YCSB. */
  readonly records: number;
}

interface Load {
  readonly run: (lane: Lane) => Promise<unknown>;
  readonly records: () => number;
}

function loadOf({ load, seed }: DriverSetup): Load {
  const random = seededRandom(seed);
  if (load.kind === 'ycsb') {
    const core = new Core(load.workload, load.records, random);
    return { run: (lane) => core.run(lane), records: () => core.records };
  }
  const keys = Array.from({ length: load.keys }, (_, i) => benchmarkKey(i));
  const value = Buffer.alloc(load.bytes, 'v');
  const key = (): string => keys[Math.floor(random() * keys.length)]!;
  return {
    run: load.kind === 'get' ? (lane) => lane.get(key()) : (lane) => lane.set(key(), value),
    records: () => 0,
  };
}

async function loop({ lanes }: Database, { run }: Load, ms: number): Promise<Omit<DriverResult, 'records'>> {
  const histogram = new Histogram();
  const startedMs = performance.now();
  const endMs = startedMs + ms;
  await Promise.all(
    lanes.map(async (lane) => {
      let beganMs = performance.now();
      do {
        await run(lane);
        const doneMs = performance.now();
        histogram.record(Math.round((doneMs - beganMs) * 1e6));
        beganMs = doneMs;
      } while (beganMs < endMs);
    }),
  );
  return { seconds: (performance.now() - startedMs) / 1000, histogram: histogram.toData() };
}

function fail(error: unknown): never {
  process.stderr.write(`${error instanceof Error ? error.message : String(error)}\n`);
  process.exit(1);
}

async function main(): Promise<void> {
  // Ctrl-C on the terminal is for the process that started this one.
  process.on('SIGINT', () => undefined);
  process.stdin.once('end', () => process.exit());
  const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]();
  for (let line = await lines.next(); line.done !== true; line = await lines.next()) {
    const setup = JSON.parse(line.value) as DriverSetup;
    await using database = await openDatabase(setup.target, setup.lanes);
    const load = loadOf(setup);
    if (setup.warmupMs > 0) await loop(database, load, setup.warmupMs);
    process.stdout.write('ready {}\n');
    await lines.next();
    const result = await loop(database, load, setup.ms);
    process.stdout.write(`${JSON.stringify({ ...result, records: load.records() } satisfies DriverResult)}\n`);
  }
}

main().catch(fail);
