/**
 * Bytes that our own code allocates on the JavaScript heap for one operation: replica core (primary and member) and
 * client core, driven through in-memory outboxes in one process, without sockets and without what dgram allocates.
 *
 * Operations go in batches: the client submits on all its lanes, then the primary takes the whole batch, then the member,
 * then the client takes the answers. The size of the used heap is read before and after each of these steps, so each role
 * has its own figure. What reading itself allocates is measured in empty steps and subtracted. A step in which the heap
 * shrank had a collection inside and is left out; collections are forced between batches so that this is rare. That the
 * instrument sees what it should is checked at the start, with objects of known size: otherwise the bench fails.
 *
 *   npm run bench:allocation -- [--ops 1000000] [--json]
 */
import v8 from 'node:v8';
import { CliError } from '../src/cli/exit.js';
import { hostInfo } from '../src/cli/load/report.js';
import { formatCount } from '../src/cli/units.js';
import { EchoMachine } from '../src/machine/echo.js';
import { loadHash } from '../src/native/hash64.js';
import { ClientCore } from '../src/protocol/client-core.js';
import { DEFAULT_CLIENT_TIMINGS, DEFAULT_LIMITS, DEFAULT_TIMINGS } from '../src/protocol/config.js';
import { Instant, Outcome, type Outbox, type PersistBatch, type Storage } from '../src/protocol/contract.js';
import { ReplicaCore } from '../src/protocol/replica-core.js';
import { ReplyStatus, validate } from '../src/wire/messages.js';
import { median } from '../src/cli/compare/rounds.js';
import { program } from './program.js';

const REPLICAS = 3;
const CLIENT = REPLICAS;
const GOAL_BYTES = 16;
const LANES = 1024;
const OPERATION_BYTES = 64;
/** Messages that a host hands over in one turn. */
const MESSAGES_A_TURN = 16;
const US_BETWEEN_OPERATIONS = 1;
const QUEUE_MESSAGES = 1 << 14;
const QUEUE_BYTES = 1 << 22;
const BATCHES_BETWEEN_COLLECTIONS = 16;
const CALIBRATION_STEPS = 200;
const CALIBRATION_ROUNDS = 41;
const REGISTRATION_TURNS_MAX = 10_000;

/** Messages to one destination, in memory that is made once. */
class Queue {
  readonly bytes = new Uint8Array(QUEUE_BYTES);
  readonly offsets = new Int32Array(QUEUE_MESSAGES);
  readonly lengths = new Int32Array(QUEUE_MESSAGES);
  readonly senders = new Int32Array(QUEUE_MESSAGES);
  count = 0;
  end = 0;

  clear(): void {
    this.count = 0;
    this.end = 0;
  }
}

/** Puts messages into the queues of their destinations. */
class MemoryOutbox implements Outbox {
  bytes: Uint8Array;
  private to = 0;

  constructor(
    private readonly queues: readonly Queue[],
    private readonly from: number,
  ) {
    this.bytes = queues[0]!.bytes;
  }

  reserve(to: number, length: number): number {
    const queue = this.queues[to]!;
    if (queue.count === QUEUE_MESSAGES || queue.end + length > QUEUE_BYTES) return -1;
    this.to = to;
    this.bytes = queue.bytes;
    return queue.end;
  }

  commit(length: number): void {
    const queue = this.queues[this.to]!;
    queue.offsets[queue.count] = queue.end;
    queue.lengths[queue.count] = length;
    queue.senders[queue.count] = this.from;
    queue.count += 1;
    queue.end += length;
  }
}

/** Durable at once, as in mode `memory` without a data directory. */
class NoStorage implements Storage {
  readonly keepsLog = false;
  readonly stalled = false;
  core: ReplicaCore | undefined;

  persist(token: number, _batch: PersistBatch): void {
    this.core!.persisted(token);
  }
}

/** Three replicas and a client in one process, with a clock of their own. */
class Rig {
  readonly queues = Array.from({ length: REPLICAS + 1 }, () => new Queue());
  readonly now = new Instant();
  readonly replicas: ReplicaCore[];
  readonly client: ClientCore;
  /** committed, fast: written on every completion, hence in a typed array. */
  readonly counts = new Float64Array(2);
  /** Status of the registration; −1 until it ended. */
  registration = -1;
  private readonly operation = new Uint8Array(OPERATION_BYTES).fill(0x2e);

  constructor() {
    const hash = loadHash();
    this.replicas = Array.from({ length: REPLICAS }, (_, id) => {
      const storage = new NoStorage();
      const core = new ReplicaCore({ id, replicas: REPLICAS, seed: id + 1, limits: DEFAULT_LIMITS, timings: DEFAULT_TIMINGS }, new MemoryOutbox(this.queues, id), storage, new EchoMachine(), hash, { transition: () => {} });
      storage.core = core;
      return core;
    });
    const { counts } = this;
    const events = {
      registered: (status: number): void => void (this.registration = status),
      completed: (_lane: number, outcome: number, _status: number, fast: boolean): void => {
        if (outcome === Outcome.committed) counts[0]! += 1;
        if (fast) counts[1]! += 1;
      },
    };
    this.client = new ClientCore({ replicas: REPLICAS, lanes: LANES, seed: 7, sessionHi: 1, sessionLo: 2, nonceHi: 3, nonceLo: 4, limits: DEFAULT_LIMITS, timings: DEFAULT_CLIENT_TIMINGS }, new MemoryOutbox(this.queues, CLIENT), events);
    this.setTime(1_000_000);
    for (const replica of this.replicas) replica.start({ hardState: undefined, log: undefined }, this.now);
  }

  /** Ready for operations. */
  register(): void {
    this.client.register(this.now);
    for (let turn = 0; this.registration < 0; turn++) {
      if (turn === REGISTRATION_TURNS_MAX) throw new CliError('worker-failed', 'the client core could not register its session; run npm test');
      this.setTime(this.now.monotonicUs + 100);
      for (let id = 0; id < REPLICAS; id++) this.runReplica(id);
      this.runClient();
    }
    if (this.registration !== ReplyStatus.ok) throw new CliError('worker-failed', `registration ended with status ${this.registration}; run npm test`);
  }

  /** Submits on every lane. */
  submitAll(): void {
    for (let lane = 0; lane < LANES; lane++) {
      this.setTime(this.now.monotonicUs + US_BETWEEN_OPERATIONS);
      this.client.submit(lane, this.operation, 0, OPERATION_BYTES, Infinity, this.now);
    }
  }

  runReplica(id: number): void {
    const core = this.replicas[id]!;
    const queue = this.queues[id]!;
    for (let i = 0; i < queue.count; i++) {
      const offset = queue.offsets[i]!;
      const length = queue.lengths[i]!;
      if (validate(queue.bytes, offset, offset + length) !== length) throw new CliError('worker-failed', 'a core wrote a message that is not one; run npm test');
      core.receive(queue.bytes, offset, length, queue.senders[i]!, this.now);
      if (i % MESSAGES_A_TURN === MESSAGES_A_TURN - 1) core.flush(this.now);
    }
    queue.clear();
    if (core.wakeAtUs <= this.now.monotonicUs) core.tick(this.now);
    core.flush(this.now);
  }

  runClient(): void {
    const queue = this.queues[CLIENT]!;
    for (let i = 0; i < queue.count; i++) {
      const offset = queue.offsets[i]!;
      const length = queue.lengths[i]!;
      if (validate(queue.bytes, offset, offset + length) !== length) throw new CliError('worker-failed', 'a core wrote a message that is not one; run npm test');
      this.client.receive(queue.bytes, offset, length, queue.senders[i]!, this.now);
    }
    queue.clear();
    if (this.client.wakeAtUs <= this.now.monotonicUs) this.client.tick(this.now);
  }

  private setTime(monotonicUs: number): void {
    this.now.monotonicUs = monotonicUs;
    const wallNs = 1.7e18 + monotonicUs * 1000;
    this.now.wallHi = Math.floor(wallNs / 2 ** 32) | 0;
    this.now.wallLo = wallNs % 2 ** 32 | 0;
  }
}

/** Sums of heap growth of one kind of step. */
class Meter {
  bytes = 0;
  steps = 0;
  leftOut = 0;

  measure(step: () => void): void {
    const before = usedHeap();
    step();
    const grown = usedHeap() - before;
    if (grown < 0) this.leftOut += 1;
    else {
      this.bytes += grown;
      this.steps += 1;
    }
  }

  perStep(): number {
    return this.steps === 0 ? NaN : this.bytes / this.steps;
  }
}

function usedHeap(): number {
  return v8.getHeapStatistics().used_heap_size;
}

/** Bytes that one reading costs; and a check that objects of a known size are seen. */
function calibrate(collect: () => void): number {
  const costs: number[] = [];
  collect();
  for (let i = 0; i < CALIBRATION_STEPS; i++) {
    const meter = new Meter();
    meter.measure(() => {});
    if (meter.steps === 1) costs.push(meter.bytes);
  }
  const cost = median(costs);
  const kept = new Array<number[] | undefined>(LANES).fill(undefined);
  const seenInRound: number[] = [];
  for (let round = 0; round < CALIBRATION_ROUNDS; round++) {
    collect();
    const meter = new Meter();
    meter.measure(() => {
      for (let i = 0; i < LANES; i++) kept[i] = [i, i + 1, i + 2, i + 3];
    });
    if (meter.steps === 1) seenInRound.push((meter.bytes - cost) / LANES);
  }
  // The median, because in some round V8 compiles the loop, which takes heap too.
  const seen = median(seenInRound);
  // An array of four: an object of 32 bytes and elements of 16 + 4 × 8; and a memento of 16 until V8 has compiled the loop.
  if (!(seen >= 76 && seen <= 100) || kept.length !== LANES) throw new CliError('worker-failed', `the heap meter sees ${seen.toFixed(1)} bytes for an array of 80; this Node is not one that the method works on`);
  return cost;
}

await program(
  {
    name: 'npm run bench:allocation --',
    summary: 'Bytes allocated an operation by the replica core and the client core, without sockets.',
    positionals: [],
    flags: {
      ops: { kind: 'count', default: '1000000', min: LANES, max: 1e9, help: `operations to measure, in batches of ${LANES}` },
      warmup: { kind: 'count', default: '200000', max: 1e9, help: 'operations before these, for the compiler' },
    },
    examples: ['npm run bench:allocation -- --ops 1000000 --json'],
  },
  async ({ ops, warmup }, output) => {
    const collect = (globalThis as { gc?: () => void }).gc;
    if (collect === undefined) throw new CliError('argument-invalid', 'this bench forces collections; start it with npm run bench:allocation, or with node --expose-gc');
    const cost = calibrate(collect);
    const rig = new Rig();
    rig.register();
    const steps = [() => rig.submitAll(), () => rig.runReplica(0), () => rig.runReplica(1), () => rig.runReplica(2), () => rig.runClient()];
    for (let done = 0; done < warmup; done += LANES) for (const step of steps) step();
    const meters = steps.map(() => new Meter());
    const [committedBefore, fastBefore] = rig.counts as unknown as [number, number];
    const batches = Math.ceil(ops / LANES);
    for (let batch = 0; batch < batches; batch++) {
      if (batch % BATCHES_BETWEEN_COLLECTIONS === 0) collect();
      for (let i = 0; i < steps.length; i++) meters[i]!.measure(steps[i]!);
    }
    const committed = rig.counts[0]! - committedBefore;
    const fast = rig.counts[1]! - fastBefore;
    const perOp = (...which: number[]): number => Number(which.reduce((sum, i) => sum + Math.max(0, meters[i]!.perStep() - cost) / LANES, 0).toFixed(2));
    const result = {
      schema: 'jitpaxos.allocation/1',
      operations: batches * LANES,
      warmupOperations: warmup,
      committed,
      fastPathRatio: committed === 0 ? null : fast / committed,
      allocatedBytesPerOp: { client: perOp(0, 4), primary: perOp(1), member: perOp(2), spare: perOp(3) },
      goalBytesPerOp: GOAL_BYTES,
      stepsLeftOut: meters.reduce((sum, meter) => sum + meter.leftOut, 0),
      host: hostInfo(),
    };
    if (committed < batches * LANES) throw new CliError('worker-failed', `only ${committed} of ${batches * LANES} operations were committed, so the figures mean nothing; run npm test`);
    if (output.json) output.line(JSON.stringify(result));
    else {
      const { client, primary, member, spare } = result.allocatedBytesPerOp;
      output.line(`${formatCount(result.operations)} operations of ${OPERATION_BYTES} bytes, ${((100 * fast) / committed).toFixed(1)} % in one round trip, ${result.stepsLeftOut} of ${batches * steps.length} steps left out (collection inside)`);
      output.line(`bytes allocated an operation: client ${client}, primary ${primary}, member ${member}, spare ${spare} (goal: below ${GOAL_BYTES} each)`);
    }
  },
);
