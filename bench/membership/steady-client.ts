/**
 * The client of bench:membership: writes at a given rate, whatever has been answered, until its stdin ends. Each line on
 * stdin is answered with what was measured since the one before. Speaks as src/measure/compare/line-child.ts says.
 */
import { ClientHost } from '../../src/client/client-host.js';
import { clientStats } from '../../src/client/client-stats.js';
import { countsOf, differenceOf, NO_COUNTS } from '../../src/measure/load/counts.js';
import type { ClientCounts } from '../../src/measure/load/messages.js';
import { Arrivals } from '../../src/measure/load/arrivals.js';
import { OpenLoop } from '../../src/measure/load/open-loop.js';
import { Pacer } from '../../src/measure/load/pacer.js';
import { SlotOperations } from '../../src/measure/compare/slot-operations.js';
import type { HistogramData } from '../../src/metrics/histogram.js';
import { Outcome } from '../../src/protocol/contract.js';
import { ReplyStatus } from '../../src/wire/messages.js';

export interface SteadyClientSetup {
  readonly cluster: string;
  readonly transport: string;
  readonly ratePerSecond: number;
  /** Operations open at a time; what finds none free waits, and the wait counts. */
  readonly lanes: number;
  readonly bytes: number;
  readonly seed: number;
  readonly timeoutMs: number;
}

/** What happened since the last window. */
export interface Window {
  readonly seconds: number;
  /** When it ended, ms by the host's clock. */
  readonly endedMs: number;
  /** From the intended moment of an operation to its end, ns. */
  readonly histogram: HistogramData;
  readonly committed: number;
  readonly failed: number;
  /** The longest time between two commits, ns; it may have begun before. */
  readonly longestPauseNs: number;
  /** When it ended: milliseconds since the beginning of the window. */
  readonly longestPauseEndMs: number;
  readonly counts: ClientCounts;
}

/** A process with nothing to send must still notice what has come. */
const LONGEST_SLEEP_US = 50_000;

// Positions in `numbers`, an array because a field that holds a double would be boxed on some writes.
const LAST_COMMIT_NS = 0;
const LONGEST_PAUSE_NS = 1;
const BEGAN_NS = 2;
const COMMITTED = 3;
const FAILED = 4;
const LONGEST_END_NS = 5;

class SteadyClient {
  private readonly numbers = new Float64Array(6);
  private readonly operations: SlotOperations;
  private readonly loop: OpenLoop;
  private readonly pacer: Pacer;
  private readonly timeoutUs: number;
  private originMs = 0;
  private counted = NO_COUNTS;
  private host!: ClientHost;

  private constructor({ ratePerSecond, lanes, bytes, seed, timeoutMs }: SteadyClientSetup) {
    this.operations = new SlotOperations('kv', 'write', bytes, seed);
    this.timeoutUs = timeoutMs * 1e3;
    const arrivals = new Arrivals({ kind: 'poisson', ratePerSecond, seed, client: 0, clients: 1 });
    this.loop = new OpenLoop(lanes, (lane) => this.send(lane), arrivals, { measureFromNs: 0, endNs: Infinity });
    this.pacer = new Pacer('sleep', () => this.turn());
  }

  static async connect(setup: SteadyClientSetup): Promise<SteadyClient> {
    const client = new SteadyClient(setup);
    const { cluster, transport, lanes } = setup;
    client.host = await ClientHost.connect(
      { cluster, transport: transport as 'auto', lanes },
      {
        completed: (lane, outcome, status) => client.onCompleted(lane, outcome, status),
        ready: () => client.turn(),
        failed: (error) => fail(error),
      },
    );
    return client;
  }

  start(): void {
    this.originMs = performance.now();
    this.turn();
  }

  take(): Window {
    const { numbers, loop } = this;
    const nowNs = this.nowNs();
    this.notePause(nowNs);
    const counts = countsOf(clientStats(this.host, 0, 0), 0);
    const window = {
      seconds: (nowNs - numbers[BEGAN_NS]!) / 1e9,
      endedMs: Date.now(),
      histogram: loop.interval.toData(),
      committed: numbers[COMMITTED]!,
      failed: numbers[FAILED]!,
      longestPauseNs: numbers[LONGEST_PAUSE_NS]!,
      longestPauseEndMs: (numbers[LONGEST_END_NS]! - numbers[BEGAN_NS]!) / 1e6,
      counts: differenceOf(counts, this.counted),
    };
    this.counted = counts;
    loop.interval.reset();
    numbers[BEGAN_NS] = nowNs;
    numbers[LONGEST_PAUSE_NS] = 0;
    numbers[COMMITTED] = 0;
    numbers[FAILED] = 0;
    return window;
  }

  private turn(): void {
    if (!this.host.ready) return;
    const nowNs = this.nowNs();
    this.arm(this.loop.pump(nowNs), nowNs);
  }

  private send(lane: number): void {
    const bytes = this.operations.next();
    this.host.submit(lane, bytes, 0, bytes.length, this.timeoutUs);
  }

  private onCompleted(lane: number, outcome: number, status: number): void {
    const { numbers, loop, host } = this;
    const nowNs = this.nowNs();
    const succeeded = outcome === Outcome.committed && status === ReplyStatus.ok;
    if (succeeded) {
      numbers[COMMITTED]! += 1;
      this.notePause(nowNs);
      numbers[LAST_COMMIT_NS] = nowNs;
    } else numbers[FAILED]! += 1;
    loop.completed(lane, succeeded, nowNs);
    if (host.ready && loop.isBlocked) this.arm(loop.pump(nowNs), nowNs);
  }

  /** There was no commit from the last one until now. */
  private notePause(nowNs: number): void {
    const { numbers } = this;
    const pauseNs = nowNs - numbers[LAST_COMMIT_NS]!;
    if (pauseNs <= numbers[LONGEST_PAUSE_NS]!) return;
    numbers[LONGEST_PAUSE_NS] = pauseNs;
    numbers[LONGEST_END_NS] = nowNs;
  }

  private nowNs(): number {
    return (performance.now() - this.originMs) * 1e6;
  }

  private arm(atNs: number, nowNs: number): void {
    const nowUs = nowNs / 1e3;
    const originUs = this.originMs * 1e3;
    this.pacer.arm(originUs + Math.min(atNs / 1e3, nowUs + LONGEST_SLEEP_US), originUs + nowUs);
  }
}

function fail(error: unknown): never {
  process.stderr.write(`${error instanceof Error ? error.message : String(error)}\n`);
  process.exit(1);
}

async function main(setup: SteadyClientSetup): Promise<void> {
  const client = await SteadyClient.connect(setup);
  client.start();
  process.stdin.setEncoding('utf8').on('data', (text: string) => {
    for (const line of text.split('\n')) if (line !== '') process.stdout.write(`${JSON.stringify(client.take())}\n`);
  });
  process.stdin.once('end', () => process.exit());
  process.on('SIGINT', () => undefined); // Ctrl-C is for the parent, which still asks what was measured
  process.stdout.write('ready {}\n');
}

main(JSON.parse(process.argv[2]!) as SteadyClientSetup).catch(fail);
