/**
 * A client process of a comparison: a closed loop over the slot interface (ClientHost), which allocates nothing for an
 * operation. Started with its setup as JSON; speaks as line-child.ts says.
 *
 * A latency runs from the submit to the completion of the slot. Both are taken at the time of the datagram that causes
 * them, as in the C program, so the handling of a datagram counts towards the operations that it submits. Failed
 * operations are counted, and are not in the histogram.
 */
import { ClientHost } from '../../client/client-host.js';
import { clientStats } from '../../client/client-stats.js';
import { openClock } from '../../clock/open.js';
import { HeapMeter, type HeapUse } from '../../metrics/heap-meter.js';
import { Histogram, type HistogramData } from '../../metrics/histogram.js';
import { Outcome } from '../../protocol/contract.js';
import { ReplyStatus } from '../../wire/messages.js';
import { countsOf, differenceOf } from '../load/counts.js';
import type { ClientCounts } from '../load/messages.js';
import { SlotOperations } from './slot-operations.js';
import type { TransportChoice } from '../../console/transport-flags.js';

export interface SlotClientSetup extends TransportChoice {
  readonly cluster: string;
  readonly machine: 'echo' | 'kv';
  readonly operation: 'read' | 'write';
  readonly open: number;
  readonly bytes: number;
  readonly datagramBytes?: number | undefined;
  readonly seed: number;
  readonly warmupMs: number;
  readonly ms: number;
  /** The measurement also ends after this many operations. */
  readonly operations?: number;
}

export interface SlotClientResult {
  readonly operations: number;
  readonly startedNs: number;
  readonly endedNs: number;
  readonly histogram: HistogramData;
  readonly counts: ClientCounts;
  readonly heap: HeapUse | null;
  readonly transport: string;
  readonly idle: string;
  /** Messages sent to replicas, and the datagrams that carried them. */
  readonly datagrams: number;
}

const TIMEOUT_US = 10e6;
const NS_PER_US = 1e3;
const US_PER_MS = 1e3;
/** If operations fail at once, the closed loop pauses so that it does not become a busy one. */
const PAUSE_AFTER_FAILURE_MS = 2;

// Positions in `numbers`, an array because a field that holds a double would be boxed on some writes.
const REMAINING = 0;
const UNTIL_US = 1;
const OPEN = 2;
const FAILED = 3;

class ClosedLoop {
  private readonly histogram = new Histogram();
  private readonly numbers = new Float64Array(4);
  private readonly sentUs: Float64Array;
  private readonly clock = openClock('monotonic');
  private readonly halves = new Int32Array(2);
  private readonly operations: SlotOperations;
  private host!: ClientHost;
  private drained: () => void = () => {};

  private constructor(private readonly setup: SlotClientSetup) {
    this.sentUs = new Float64Array(setup.open);
    this.operations = new SlotOperations(setup.machine, setup.operation, setup.bytes, setup.seed);
  }

  static async connect(setup: SlotClientSetup): Promise<ClosedLoop> {
    const loop = new ClosedLoop(setup);
    const { cluster, transport, idle, open, datagramBytes } = setup;
    loop.host = await ClientHost.connect(
      { cluster, transport, idle, lanes: open, datagramBytes },
      {
        completed: (lane, outcome, status) => loop.onCompleted(lane, outcome, status),
        ready: () => {},
        failed: (error) => fail(error),
      },
    );
    return loop;
  }

  /** Keeps all slots open until the time, or the number of operations, is over; resolves when none is open. */
  async run(ms: number, operations: number): Promise<Omit<SlotClientResult, 'heap'>> {
    const { numbers, host } = this;
    this.histogram.reset();
    numbers[FAILED] = 0;
    const countsBefore = this.counts();
    const datagramsBefore = this.datagrams();
    const startedNs = this.hostNs();
    numbers[UNTIL_US] = host.nowUs() + ms * US_PER_MS;
    numbers[REMAINING] = operations;
    await new Promise<void>((resolve) => {
      this.drained = resolve;
      for (let lane = 0; lane < host.lanes; lane++) this.submit(lane);
    });
    const endedNs = this.hostNs();
    return {
      operations: this.histogram.count,
      startedNs,
      endedNs,
      histogram: this.histogram.toData(),
      counts: differenceOf(this.counts(), countsBefore),
      transport: host.transport.kind,
      idle: host.transport.idle,
      datagrams: this.datagrams() - datagramsBefore,
    };
  }

  close(): Promise<void> {
    this.clock.close();
    return this.host.close();
  }

  private submit(lane: number): void {
    const { numbers, host } = this;
    if (numbers[REMAINING]! <= 0) return;
    numbers[REMAINING]! -= 1;
    numbers[OPEN]! += 1;
    const bytes = this.operations.next();
    if (this.setup.operation === 'read') host.read(lane, bytes, 0, bytes.length, TIMEOUT_US);
    else host.submit(lane, bytes, 0, bytes.length, TIMEOUT_US);
    this.sentUs[lane] = host.instant.monotonicUs;
  }

  private onCompleted(lane: number, outcome: number, status: number): void {
    const { numbers } = this;
    const { monotonicUs } = this.host.instant;
    numbers[OPEN]! -= 1;
    if (outcome === Outcome.committed && status === ReplyStatus.ok) {
      // whole: a fractional argument would be on the heap
      this.histogram.record(Math.round((monotonicUs - this.sentUs[lane]!) * NS_PER_US));
      if (monotonicUs < numbers[UNTIL_US]!) this.submit(lane);
    } else {
      numbers[FAILED]! += 1;
      numbers[OPEN]! += 1;
      setTimeout(() => this.submitAgain(lane), PAUSE_AFTER_FAILURE_MS);
    }
    if (numbers[OPEN] === 0) this.drained();
  }

  private submitAgain(lane: number): void {
    const { numbers, host } = this;
    const running = host.nowUs() < numbers[UNTIL_US]!;
    if (running && !host.ready) {
      setTimeout(() => this.submitAgain(lane), PAUSE_AFTER_FAILURE_MS);
      return;
    }
    numbers[OPEN]! -= 1;
    if (running) this.submit(lane);
    if (numbers[OPEN] === 0) this.drained();
  }

  private counts(): ClientCounts {
    return countsOf(clientStats(this.host, 0, 0), this.numbers[FAILED]!);
  }

  private datagrams(): number {
    return clientStats(this.host, 0, 0).transport.counters['datagrams_sent']!;
  }

  /** CLOCK_MONOTONIC, which all processes of a host share, ns. */
  private hostNs(): number {
    const { halves } = this;
    this.clock.writeHalves(halves, 0);
    return (halves[0]! >>> 0) * 2 ** 32 + (halves[1]! >>> 0);
  }
}

function fail(error: unknown): never {
  process.stderr.write(`${error instanceof Error ? error.message : String(error)}\n`);
  process.exit(1);
}

async function main(setup: SlotClientSetup): Promise<void> {
  const loop = await ClosedLoop.connect(setup);
  if (setup.warmupMs > 0) await loop.run(setup.warmupMs, Infinity);
  process.stdin.once('data', () => {
    const meter = new HeapMeter();
    meter.start();
    loop.run(setup.ms, setup.operations ?? Infinity).then(async (result) => {
      const heap = meter.stop() ?? null;
      await loop.close();
      process.stdout.write(`${JSON.stringify({ ...result, heap } satisfies SlotClientResult)}\n`);
      process.stdin.destroy();
    }, fail);
  });
  process.stdin.once('end', () => process.exit());
  process.stdout.write('ready {}\n');
}

main(JSON.parse(process.argv[2]!) as SlotClientSetup).catch(fail);
