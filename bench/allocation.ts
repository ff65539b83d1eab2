/**
 * Measures how many bytes this project's code allocates on the JavaScript heap for one operation: replica core (primary
 * and member) and client core, in one process. Without sockets and without dgram's own allocations: messages travel in
 * encrypted datagrams over queues in memory, or, with `--wire none`, each by itself and without an envelope.
 *
 * Operations go in batches: the client submits on all its lanes, then the primary takes the whole batch, then the
 * member, then the client takes the answers. The size of the used heap is read before and after each step, so each role
 * has its own figure. The cost of reading itself is measured in empty steps and subtracted. A step in which the heap
 * shrank contained a collection and is left out; collections are forced between batches so that this is rare. At the
 * start, objects of known size check the instrument: if it does not see them, the bench fails. The spare keeps up with
 * the others, as over a network: see `exchanges` in core-rig.ts.
 *
 * With `--machine kv` the operations are puts of the key-value store, over a state that is so large that snapshots are
 * taken in pieces: what that costs the puts in between is counted too.
 *
 *   npm run bench:allocation -- [--ops 1000000] [--wire none] [--machine kv] [--json]
 */
import { randomBytes } from 'node:crypto';
import v8 from 'node:v8';
import { median } from '../src/measure/compare/rounds.js';
import { CliError } from '../src/console/exit.js';
import { hostInfo } from '../src/measure/load/bench-report.js';
import { formatCount } from '../src/console/units.js';
import { EchoMachine } from '../src/machine/echo.js';
import { encodePut } from '../src/machine/kv-codec.js';
import { KvMachine } from '../src/machine/kv.js';
import { loadSipHash, SIP_SECRET_BYTES } from '../src/native/siphash.js';
import { QUEUED } from '../src/protocol/client/send-window.js';
import { chainOf, UNKEYED_FINGERPRINT } from '../src/protocol/contract.js';
import { CHAIN_FUNCTIONS, KEYED_CHAIN } from '../src/host/chain.js';
import { CoreRig } from './core-rig.js';
import { program } from './program.js';

const REPLICAS = 3;
const GOAL_BYTES = 16;
/** All that a client has on its way at once over a short path. */
const LANES = QUEUED;
const OPERATION_BYTES = 64;
const BATCHES_BETWEEN_COLLECTIONS = 16;
const CALIBRATION_STEPS = 200;
const CALIBRATION_ROUNDS = 41;
/** The spare fetches some 170 entries in each, more than LANES in all. */
const EXCHANGES = 8;
const WIRES = ['encrypted', 'none'] as const;
const MACHINES = ['echo', 'kv'] as const;
/** Enough for some hundred pieces a snapshot. */
const KEYS = 100_000;
const KEY_BYTES = 16;
const VALUE_BYTES = 40;

/** Puts to KEYS keys, one after the other in an order that looks random. */
class Puts {
  private readonly bytes = new Uint8Array(2 * (KEY_BYTES + VALUE_BYTES));
  private readonly key = Buffer.alloc(KEY_BYTES, 'k');
  private readonly value = new Uint8Array(VALUE_BYTES).fill(0x2e);
  private readonly put: Uint8Array;
  private readonly keyAt: number;
  private count = 0;

  constructor() {
    const length = encodePut(this.bytes, 0, this.key, this.value);
    this.put = this.bytes.subarray(0, length);
    this.keyAt = Buffer.from(this.put).indexOf(this.key);
  }

  next(): Uint8Array {
    const number = (this.count++ * 7_368_787) % KEYS;
    for (let i = 0; i < 4; i++) this.put[this.keyAt + KEY_BYTES - 1 - i] = (number >>> (8 * i)) & 0xff;
    return this.put;
  }
}

/** A machine with all of the keys. */
function fullStore(): KvMachine {
  const machine = new KvMachine({ expectedKeys: KEYS });
  const puts = new Puts();
  const reply = { bytes: new Uint8Array(64), offset: 0, capacity: 64, length: 0 };
  for (let i = 0; i < KEYS; i++) {
    const bytes = puts.next();
    machine.apply({ bytes, offset: 0, length: bytes.length }, { timestampHi: 0, timestampLo: 0, index: 0 }, reply);
  }
  return machine;
}

/** Sums of heap growth for one kind of step. */
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

/** Bytes that one reading costs; also checks that objects of a known size are seen. */
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
  // The median, because V8 compiles the loop in some round, which takes heap too.
  const seen = median(seenInRound);
  // An array of four is an object of 32 bytes plus elements of 16 + 4 × 8; and a memento of 16 until V8 has compiled
  // the loop.
  if (!(seen >= 76 && seen <= 100) || kept.length !== LANES)
    throw new CliError(
      'worker-failed',
      `the heap meter sees ${seen.toFixed(1)} bytes for an array of 80; this Node is not one that the method works on`,
    );
  return cost;
}

await program(
  {
    name: 'npm run bench:allocation --',
    summary: 'Bytes allocated an operation by replicas and client, encryption included, without sockets.',
    positionals: [],
    flags: {
      ops: {
        kind: 'count',
        default: '1000000',
        min: LANES,
        max: 1e9,
        help: `operations to measure, in batches of ${LANES}`,
      },
      chain: {
        kind: 'choice',
        choices: CHAIN_FUNCTIONS,
        default: KEYED_CHAIN,
        help: 'what chains the log: with keys, or without',
      },
      wire: {
        kind: 'choice',
        choices: WIRES,
        default: 'encrypted',
        help: 'encrypted: messages travel in encrypted datagrams; none: the cores alone',
      },
      machine: {
        kind: 'choice',
        choices: MACHINES,
        default: 'echo',
        help: 'echo: what is no machine at all; kv: puts, while snapshots are taken in pieces',
      },
      warmup: { kind: 'count', default: '200000', max: 1e9, help: 'operations before these, for the compiler' },
    },
    examples: ['npm run bench:allocation -- --ops 1000000 --json', 'npm run bench:allocation -- --wire none'],
  },
  async ({ ops, warmup, chain, wire, machine }, output) => {
    const collect = (globalThis as { gc?: () => void }).gc;
    if (collect === undefined)
      throw new CliError(
        'argument-invalid',
        'this bench forces collections; start it with npm run bench:allocation, or with node --expose-gc',
      );
    const cost = calibrate(collect);
    const bytes = new Uint8Array(OPERATION_BYTES).fill(0x2e);
    const puts = new Puts();
    const rig = new CoreRig({
      replicas: REPLICAS,
      machine: () => (machine === 'echo' ? new EchoMachine() : fullStore()),
      lanes: LANES,
      clients: 1,
      sessions: 1,
      operation: () => (machine === 'echo' ? bytes : puts.next()),
      encrypted: wire === 'encrypted',
      exchanges: EXCHANGES,
      ...(chain === KEYED_CHAIN
        ? { chain: chainOf(loadSipHash(randomBytes(SIP_SECRET_BYTES)), UNKEYED_FINGERPRINT + 1) }
        : {}),
    });
    rig.register();
    const { steps } = rig;
    for (let done = 0; done < warmup; done += LANES) for (const step of steps) step();
    const meters = steps.map(() => new Meter());
    const datagramsBefore = rig.datagrams();
    const snapshotsBefore = rig.snapshotsOf(0);
    const [committedBefore, fastBefore] = rig.counts as unknown as [number, number];
    const batches = Math.ceil(ops / LANES);
    for (let batch = 0; batch < batches; batch++) {
      if (batch % BATCHES_BETWEEN_COLLECTIONS === 0) collect();
      for (let i = 0; i < steps.length; i++) meters[i]!.measure(steps[i]!);
    }
    const committed = rig.counts[0]! - committedBefore;
    const fast = rig.counts[1]! - fastBefore;
    const perOp = (...which: number[]): number =>
      Number(which.reduce((sum, i) => sum + Math.max(0, meters[i]!.perStep() - cost) / LANES, 0).toFixed(2));
    const exchanged = (which: 0 | 1): number[] => Array.from({ length: EXCHANGES }, (_, i) => 4 + 2 * i + which);
    const result = {
      schema: 'jitpaxos.allocation/1',
      operations: batches * LANES,
      warmupOperations: warmup,
      chain,
      wire,
      machine,
      /** At the primary. */
      snapshots: rig.snapshotsOf(0) - snapshotsBefore,
      /** Encrypted ones that were read. */
      datagrams: rig.datagrams() - datagramsBefore,
      committed,
      fastPathRatio: committed === 0 ? null : fast / committed,
      allocatedBytesPerOp: {
        client: perOp(0, steps.length - 1),
        primary: perOp(1),
        member: perOp(2, ...exchanged(0)),
        spare: perOp(3, ...exchanged(1)),
      },
      goalBytesPerOp: GOAL_BYTES,
      stepsLeftOut: meters.reduce((sum, meter) => sum + meter.leftOut, 0),
      host: hostInfo(),
    };
    if (committed < batches * LANES)
      throw new CliError(
        'worker-failed',
        `only ${committed} of ${batches * LANES} operations were committed, so the figures mean nothing; run npm test`,
      );
    if (output.json) output.line(JSON.stringify(result));
    else {
      const { client, primary, member, spare } = result.allocatedBytesPerOp;
      output.line(
        `${formatCount(result.operations)} ${machine === 'echo' ? `operations of ${OPERATION_BYTES} bytes` : `puts of ${KEY_BYTES} + ${VALUE_BYTES} bytes to ${formatCount(KEYS)} keys, ${result.snapshots} snapshots`}, ${wire === 'none' ? 'without datagrams' : `in ${formatCount(result.datagrams)} encrypted datagrams`}, ${((100 * fast) / committed).toFixed(1)} % in one round trip, ${result.stepsLeftOut} of ${batches * steps.length} steps left out (collection inside)`,
      );
      output.line(
        `bytes allocated an operation: client ${client}, primary ${primary}, member ${member}, spare ${spare} (goal: below ${GOAL_BYTES} each)`,
      );
    }
  },
);
