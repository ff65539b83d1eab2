/**
 * What a log on disk costs, compared with the disk itself: mode `fsync` with one open operation against a bare
 * `fdatasync` of the same size and against mode `memory`, and the effect of group commit with many open operations.
 *
 *   npm run bench:durability -- [--rounds 7] [--seconds 2s] [--json]
 *
 * All take turns, because disks drift more than anything. Three replicas on one host share one disk, and the members of
 * the quorum sync at the same time. So two simultaneous bare writes are measured too, synced like ours: from Node's
 * pool to files with O_DSYNC.
 */
import { closeSync, constants, fdatasyncSync, mkdtempSync, openSync, rmSync, write, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { OurCluster } from '../src/measure/compare/cluster.js';
import type { Contestant, Measured, Timing } from '../src/measure/compare/contestant.js';
import { median, mediansOf, ratioOf, runRounds } from '../src/measure/compare/rounds.js';
import type { Point } from '../src/measure/compare/shape.js';
import { hostInfo } from '../src/measure/load/bench-report.js';
import { formatCount, formatDuration } from '../src/console/units.js';
import { Histogram } from '../src/metrics/histogram.js';
import { ENTRY_HEADER_BYTES } from '../src/protocol/log/entry.js';
import { version } from '../src/host/version.js';
import { ENTRY_LENGTH_BYTES, FRAME_HEADER_BYTES, toSector } from '../src/storage/log-format.js';
import { checkMissed, goalsTable, judged, type RowResult } from './goals/row.js';
import { program } from './program.js';

const OPERATION_BYTES = 64;
/** What mode `fsync` writes for one operation. */
const WRITE_BYTES = FRAME_HEADER_BYTES + ENTRY_LENGTH_BYTES + ENTRY_HEADER_BYTES + OPERATION_BYTES;
const OPEN = 128;
const LATENCY_GOAL = 1.3;
const RATE_GOAL = 20;
/** Filled with zeros before, like our segments; writing starts again at its end. */
const FILE_BYTES = 8 << 20;

const pointOf = (open: number): Point => ({
  replicas: 3,
  clients: 1,
  open,
  bytes: OPERATION_BYTES,
  operation: 'write',
  machine: 'echo',
});

/**
 * Writes and syncs one after the other, from sector to sector: in the calling thread, or to several files at once from
 * the pool, written through.
 */
class BareSync implements Contestant {
  constructor(
    readonly name: string,
    private readonly files: number,
    private readonly pooled: boolean,
  ) {}

  async run(_: Point, { warmupMs, ms }: Timing): Promise<Measured> {
    const directory = mkdtempSync(join(tmpdir(), 'jitpaxos-sync-'));
    const descriptors = Array.from({ length: this.files }, (_, i) =>
      filled(join(directory, `${i}`), this.pooled ? constants.O_DSYNC : 0),
    );
    try {
      const histogram = new Histogram();
      const bytes = new Uint8Array(WRITE_BYTES).fill(1);
      const step = toSector(WRITE_BYTES);
      const startedMs = performance.now();
      let measuredFromMs = Infinity;
      for (let at = 0; ; at = at + 2 * step > FILE_BYTES ? 0 : at + step) {
        const before = performance.now();
        if (before - startedMs >= warmupMs && measuredFromMs === Infinity) measuredFromMs = before;
        if (before - measuredFromMs >= ms) break;
        if (this.pooled)
          await Promise.all(descriptors.map((descriptor) => writeLater(descriptor, bytes, 0, bytes.length, at)));
        else {
          writeSync(descriptors[0]!, bytes, 0, bytes.length, at);
          fdatasyncSync(descriptors[0]!);
        }
        if (measuredFromMs !== Infinity) histogram.record(Math.round((performance.now() - before) * 1e6));
      }
      const seconds = (performance.now() - measuredFromMs) / 1000;
      const operations = histogram.count;
      return {
        histogram,
        operations,
        seconds,
        span: undefined,
        opsPerSecond: operations / seconds,
        cpuSeconds: { clients: null, servers: [] },
        processes: { clients: 1, servers: 0 },
        resent: 0,
        counts: undefined,
        heap: undefined,
        transport: undefined,
        idle: undefined,
        perDatagram: undefined,
      };
    } finally {
      for (const descriptor of descriptors) closeSync(descriptor);
      rmSync(directory, { recursive: true, force: true });
    }
  }
}

const writeLater = promisify(write);

/** A file of zeros, open for writing. */
function filled(path: string, flags: number): number {
  const descriptor = openSync(path, 'w');
  const zeros = new Uint8Array(1 << 20);
  for (let at = 0; at < FILE_BYTES; at += zeros.length) writeSync(descriptor, zeros, 0, zeros.length, at);
  fdatasyncSync(descriptor);
  closeSync(descriptor);
  return openSync(path, constants.O_WRONLY | flags);
}

/** Runs at its own point, whatever the others run at. */
function at(open: number, ours: OurCluster): Contestant {
  return { name: ours.name, run: (_, timing) => ours.run(pointOf(open), timing) };
}

await program(
  {
    name: 'npm run bench:durability --',
    summary: 'Measures what a log on disk costs beside the disk itself, and says which goals hold.',
    positionals: [],
    flags: {
      rounds: { kind: 'count', default: '7', min: 1, max: 1000, help: 'rounds of one run of each' },
      seconds: { kind: 'duration', default: '2s', min: 1e7, max: 3.6e12, help: 'how long a run is measured' },
      warmup: { kind: 'duration', default: '1s', max: 3.6e12, help: 'how long it runs before' },
      strict: { kind: 'switch', help: 'exit with 4 when a goal is missed' },
    },
    examples: ['npm run bench:durability', 'TMPDIR=/data npm run bench:durability -- --json'],
  },
  async ({ rounds, seconds, warmup, strict }, output) => {
    const wiring = { transport: 'auto' } as const;
    const contestants = [
      new BareSync('bare', 1, false),
      at(1, new OurCluster('memory, 1 open', wiring)),
      at(1, new OurCluster('fsync, 1 open', wiring, { durability: 'fsync' })),
      at(OPEN, new OurCluster(`fsync, ${OPEN} open`, wiring, { durability: 'fsync' })),
      new BareSync('bare, two at once', 2, true),
    ];
    const startedMs = performance.now();
    const measured = await runRounds(
      contestants,
      pointOf(1),
      { warmupMs: warmup / 1e6, ms: seconds / 1e6 },
      rounds,
      (round, name, { histogram, opsPerSecond }) =>
        output.note(
          `round ${round + 1} of ${rounds}: ${name}: p50 ${formatDuration(histogram.quantile(0.5))}, ${formatCount(opsPerSecond)}/s`,
        ),
    );
    const [bare, memory, one, many, two] = contestants.map(({ name }) => measured.get(name)!) as [
      readonly Measured[],
      readonly Measured[],
      readonly Measured[],
      readonly Measured[],
      readonly Measured[],
    ];
    const rows = [latencyRow(bare, memory, one, two), rateRow(one, many)];
    const result = {
      schema: 'jitpaxos.durability/1',
      rows,
      missed: rows.filter(({ holds }) => !holds).map(({ name }) => name),
      writeBytes: WRITE_BYTES,
      rounds,
      seconds: (performance.now() - startedMs) / 1000,
      host: hostInfo(),
      version: version(),
    };
    output.line(output.json ? JSON.stringify(result) : goalsTable(rows, result.seconds));
    checkMissed(result.missed, strict);
  },
);

function p50({ histogram }: Measured): number {
  return histogram.quantile(0.5);
}

function latencyRow(
  bare: readonly Measured[],
  memory: readonly Measured[],
  one: readonly Measured[],
  two: readonly Measured[],
): RowResult {
  const over = (disk: readonly Measured[]): number[] =>
    one.map((run, round) => p50(run) / (p50(disk[round]!) + p50(memory[round]!)));
  const ratiosOfRounds = over(bare);
  const ratio = median(ratiosOfRounds);
  const ratioOverTwo = median(over(two));
  const [ours, disk, inMemory, both] = [one, bare, memory, two].map((runs) => median(runs.map(p50))) as [
    number,
    number,
    number,
    number,
  ];
  return judged({
    name: 'fsync-1',
    what: 'mode fsync, 1 open: our p50 ÷ (one bare fdatasync of the same size + our p50 in mode memory)',
    goal: `≤ ${LATENCY_GOAL}`,
    measured: `${ratio.toFixed(2)} (${formatDuration(ours)} / (${formatDuration(disk)} + ${formatDuration(inMemory)}))`,
    figures: [{ value: ratio, atMost: LATENCY_GOAL }],
    values: {
      ratio,
      ratiosOfRounds,
      p50Ns: { fsync: ours, bare: disk, memory: inMemory, twoAtOnce: both },
      ratioOverTwo,
    },
    note: `two at once, from Node's pool, take the disk ${formatDuration(both)}; over that the ratio is ${ratioOverTwo.toFixed(2)}`,
  });
}

function rateRow(one: readonly Measured[], many: readonly Measured[]): RowResult {
  const ratio = ratioOf(many, one, ({ opsPerSecond }) => opsPerSecond);
  const rates = [mediansOf(many).opsPerSecond, mediansOf(one).opsPerSecond] as const;
  return judged({
    name: `fsync-${OPEN}`,
    what: `mode fsync, ${OPEN} open: operations/s ÷ those with 1 open`,
    goal: `≥ ${RATE_GOAL}`,
    measured: `${ratio.toFixed(1)} (${formatCount(rates[0])}/s / ${formatCount(rates[1])}/s)`,
    figures: [{ value: ratio, atLeast: RATE_GOAL }],
    values: { ratio, opsPerSecond: { many: rates[0], one: rates[1] } },
  });
}
