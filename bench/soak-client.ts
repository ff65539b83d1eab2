/**
 * The client of bench:soak: a closed loop over the slot interface until its stdin ends; it reports once per interval.
 * Speaks as src/measure/compare/line-child.ts says, with a line of SoakInterval for each interval, and of TaggedSecond for
 * each second if a histogram log is written.
 */
import { ClientHost } from '../src/client/client-host.js';
import { clientStats } from '../src/client/client-stats.js';
import { countsOf, differenceOf } from '../src/measure/load/counts.js';
import type { ClientCounts } from '../src/measure/load/messages.js';
import { SecondRecorder } from '../src/measure/load/second-recorder.js';
import type { SecondBase, TaggedSecond } from '../src/measure/load/wall-seconds.js';
import type { OperationOutcome } from '../src/measure/hlog/log-format.js';
import { SlotOperations } from '../src/measure/compare/slot-operations.js';
import { hostMonotonicNs } from '../src/clock/monotonic.js';
import { openClock } from '../src/clock/open.js';
import { Histogram, type HistogramData } from '../src/metrics/histogram.js';
import { Outcome } from '../src/protocol/contract.js';
import { ReplyStatus } from '../src/wire/messages.js';

export interface SoakClientSetup {
  readonly cluster: string;
  readonly transport: string;
  readonly machine: 'echo' | 'kv';
  /** Operations open at a time. */
  readonly open: number;
  readonly bytes: number;
  readonly warmupMs: number;
  readonly intervalMs: number;
  /** Intervals to report. */
  readonly intervals: number;
  /** For a histogram log: the seconds to report; absent: none is written. */
  readonly seconds?: SecondBase;
}

export interface SoakInterval {
  readonly seconds: number;
  readonly histogram: HistogramData;
  readonly counts: ClientCounts;
  /** The longest time between two commits, ns; it may have begun in an earlier interval. */
  readonly longestPauseNs: number;
}

const TIMEOUT_US = 10e6;
/** If operations fail at once, the closed loop pauses so that it does not become a busy one. */
const PAUSE_AFTER_FAILURE_MS = 2;
/** A second without operations must end too. */
const LOOK_MS = 250;

// Positions in `numbers`, an array because a field that holds a double would be boxed on some writes.
const NOW_NS = 0;
const LAST_COMMIT_NS = 1;
const LONGEST_PAUSE_NS = 2;
const FAILED = 3;
const BEGAN_NS = 4;

class SoakClient {
  private readonly histogram = new Histogram();
  private readonly numbers = new Float64Array(5);
  private readonly sentNs: Float64Array;
  private readonly clock = openClock('monotonic');
  private readonly halves = new Int32Array(2);
  private readonly operations: SlotOperations;
  private host!: ClientHost;
  private counted!: ClientCounts;
  private seconds: SecondRecorder | undefined;

  private constructor(setup: SoakClientSetup) {
    this.sentNs = new Float64Array(setup.open);
    this.operations = new SlotOperations(setup.machine, 'write', setup.bytes, 1);
  }

  static async connect(setup: SoakClientSetup): Promise<SoakClient> {
    const client = new SoakClient(setup);
    const { cluster, transport, open } = setup;
    client.host = await ClientHost.connect(
      { cluster, transport: transport as 'auto', lanes: open },
      {
        completed: (lane, outcome, status) => client.onCompleted(lane, outcome, status),
        ready: () => {},
        failed: (error) => fail(error),
      },
    );
    return client;
  }

  start(): void {
    this.readNow();
    this.begin();
    for (let lane = 0; lane < this.host.lanes; lane++) this.submit(lane);
  }

  /** Forgets what was measured so far. */
  begin(): void {
    const { numbers } = this;
    this.readNow();
    this.histogram.reset();
    numbers[BEGAN_NS] = numbers[NOW_NS]!;
    numbers[LAST_COMMIT_NS] = numbers[NOW_NS]!;
    numbers[LONGEST_PAUSE_NS] = 0;
    this.counted = this.counts();
  }

  /** Reports every second from now on. */
  reportSeconds(base: SecondBase): void {
    this.seconds = new SecondRecorder(base, ['write'], print);
    this.seconds.begin(hostMonotonicNs());
    setInterval(() => this.seconds!.advance(hostMonotonicNs()), LOOK_MS);
  }

  /** Reports the part of a second that has not been reported. */
  endSeconds(): void {
    this.seconds?.end(hostMonotonicNs());
    this.seconds = undefined;
  }

  /** What was measured since the last call, or `begin`. */
  take(): SoakInterval {
    const { numbers } = this;
    this.readNow();
    const counts = this.counts();
    const pauseNs = numbers[NOW_NS]! - numbers[LAST_COMMIT_NS]!;
    const interval = {
      seconds: (numbers[NOW_NS]! - numbers[BEGAN_NS]!) / 1e9,
      histogram: this.histogram.toData(),
      counts: differenceOf(counts, this.counted),
      longestPauseNs: Math.max(numbers[LONGEST_PAUSE_NS]!, pauseNs),
    };
    this.histogram.reset();
    this.counted = counts;
    numbers[BEGAN_NS] = numbers[NOW_NS]!;
    numbers[LONGEST_PAUSE_NS] = 0;
    return interval;
  }

  private submit(lane: number): void {
    this.sentNs[lane] = this.numbers[NOW_NS]!;
    const bytes = this.operations.next();
    this.host.submit(lane, bytes, 0, bytes.length, TIMEOUT_US);
  }

  private onCompleted(lane: number, outcome: number, status: number): void {
    const { numbers } = this;
    this.readNow();
    if (outcome !== Outcome.committed || status !== ReplyStatus.ok) {
      numbers[FAILED]! += 1;
      this.recordSecond(lane, outcome === Outcome.refused ? 'failed' : 'unknown');
      setTimeout(() => this.submitAgain(lane), PAUSE_AFTER_FAILURE_MS);
      return;
    }
    const nowNs = numbers[NOW_NS]!;
    this.histogram.record(nowNs - this.sentNs[lane]!);
    this.recordSecond(lane, 'ok');
    if (nowNs - numbers[LAST_COMMIT_NS]! > numbers[LONGEST_PAUSE_NS]!)
      numbers[LONGEST_PAUSE_NS] = nowNs - numbers[LAST_COMMIT_NS]!;
    numbers[LAST_COMMIT_NS] = nowNs;
    this.submit(lane);
  }

  private recordSecond(lane: number, outcome: OperationOutcome): void {
    const nowNs = this.numbers[NOW_NS]!;
    this.seconds?.record('write', outcome, nowNs - this.sentNs[lane]!, nowNs);
  }

  private submitAgain(lane: number): void {
    if (!this.host.ready) {
      setTimeout(() => this.submitAgain(lane), PAUSE_AFTER_FAILURE_MS);
      return;
    }
    this.readNow();
    this.submit(lane);
  }

  private counts(): ClientCounts {
    return countsOf(clientStats(this.host, 0, 0), this.numbers[FAILED]!);
  }

  private readNow(): void {
    const { halves } = this;
    this.clock.writeHalves(halves, 0);
    this.numbers[NOW_NS] = (halves[0]! >>> 0) * 2 ** 32 + (halves[1]! >>> 0);
  }
}

function print(value: SoakInterval | TaggedSecond): void {
  process.stdout.write(`${JSON.stringify(value)}\n`);
}

function fail(error: unknown): never {
  process.stderr.write(`${error instanceof Error ? error.message : String(error)}\n`);
  process.exit(1);
}

async function main(setup: SoakClientSetup): Promise<void> {
  const client = await SoakClient.connect(setup);
  client.start();
  await new Promise((resolve) => setTimeout(resolve, setup.warmupMs));
  process.stdin.once('data', () => {
    client.begin();
    if (setup.seconds !== undefined) client.reportSeconds(setup.seconds);
    let left = setup.intervals;
    const reports = setInterval(() => {
      left -= 1;
      if (left === 0) {
        clearInterval(reports);
        client.endSeconds();
      }
      print(client.take());
    }, setup.intervalMs);
  });
  process.stdin.once('end', () => process.exit());
  process.stdout.write('ready {}\n');
}

main(JSON.parse(process.argv[2]!) as SoakClientSetup).catch(fail);
