/**
 * How the cost of an operation depends on the length of the log, the size of the state, the number of sessions, and the
 * number of replicas. Only the cores run (core-rig.ts), so a slope is due to this code and not to a scheduler.
 *
 *   npm run bench:growth -- [--ops 10000000] [--json]
 *
 * A cost is the processor time of one operation at the primary, at a member of its quorum and in the client, ns. It is
 * given as the median of batches, and as the mean, which includes rare events (a snapshot when the log is half full).
 * `longest` is the longest single batch of the primary. Memory is that of the process with all replicas and clients in
 * it.
 */
import { median } from '../src/measure/compare/rounds.js';
import { hostInfo } from '../src/measure/load/bench-report.js';
import { formatCount, formatDuration } from '../src/console/units.js';
import { SlotOperations } from '../src/measure/compare/slot-operations.js';
import { EchoMachine } from '../src/machine/echo.js';
import { encodePut } from '../src/machine/kv-codec.js';
import { KvMachine } from '../src/machine/kv.js';
import { QUEUED } from '../src/protocol/client/send-window.js';
import { DEFAULT_LIMITS } from '../src/protocol/config.js';
import { CoreRig, type CoreRigOptions } from './core-rig.js';
import { program } from './program.js';

/** All that a client has on its way at once over a short path. */
const LANES = QUEUED;
const BYTES = 64;
const BATCHES_A_WINDOW_MAX = 100;
/** Clients that submit when the number of sessions varies, so that lookups spread over the whole table. */
const CLIENTS_MAX = 256;
const BAR_CHARACTERS = 40;
const NS_PER_MS = 1e6;
/** Above this factor, in either direction, a curve is not flat: neighbouring runs differ by less. */
const FLAT_FACTOR = 1.5;

interface Sample {
  readonly at: number;
  readonly primaryNs: number;
  readonly memberNs: number;
  readonly clientNs: number;
  readonly meanPrimaryNs: number;
  readonly longestMs: number;
  readonly memoryBytes: number;
}

interface Curve {
  readonly name: string;
  readonly against: string;
  readonly samples: readonly Sample[];
  /** Most expensive ÷ cheapest median of the primary. */
  readonly factor: number;
  readonly flat: boolean;
}

/**
 * Processor time of this process, in steps of 1 µs: precise enough for a batch, and independent of other load on the
 * host.
 */
function cpuMs(): number {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1000;
}

/** Runs batches and times each step of them. */
class Meter {
  private readonly times: number[][];
  done = 0;

  constructor(private readonly rig: CoreRig) {
    this.times = rig.steps.map(() => []);
  }

  run(operations: number): void {
    const { rig } = this;
    for (const end = this.done + operations; this.done < end; this.done += LANES) {
      for (let i = 0; i < rig.steps.length; i++) {
        const before = cpuMs();
        rig.steps[i]!();
        this.times[i]!.push(cpuMs() - before);
      }
    }
  }

  forget(): void {
    for (const times of this.times) times.length = 0;
  }

  /** Of what ran since `forget`; in view 0 the primary is replica 0 and replica 1 is a member. */
  sample(at: number): Sample {
    const perOpNs = (ms: number): number => Math.round((ms * NS_PER_MS) / LANES);
    const of = (step: number): number => perOpNs(median(this.times[step]!.slice(-BATCHES_A_WINDOW_MAX)));
    const primary = this.times[1]!;
    const { heapUsed, external } = process.memoryUsage();
    return {
      at,
      primaryNs: of(1),
      memberNs: this.rig.replicas.length === 1 ? 0 : of(2),
      clientNs: of(0) + of(this.times.length - 1),
      meanPrimaryNs: perOpNs(primary.reduce((sum, ms) => sum + ms, 0) / primary.length),
      longestMs: primary.reduce((longest, ms) => Math.max(longest, ms), 0),
      memoryBytes: heapUsed + external,
    };
  }
}

const bytes = new Uint8Array(BYTES).fill(0x2e);
const plain = {
  replicas: 3,
  machine: () => new EchoMachine(),
  lanes: LANES,
  clients: 1,
  sessions: 1,
  operation: () => bytes,
} satisfies CoreRigOptions;

function started(options: CoreRigOptions): Meter {
  const rig = new CoreRig(options);
  rig.register();
  return new Meter(rig);
}

/** One cluster; its cost after these numbers of operations. */
function againstLog(marks: readonly number[]): Sample[] {
  const meter = started(plain);
  return marks.map((mark) => {
    meter.run(Math.max(LANES, mark - meter.done - BATCHES_A_WINDOW_MAX * LANES));
    const until = Math.max(LANES, mark - meter.done);
    meter.forget();
    meter.run(until);
    return meter.sample(mark);
  });
}

/** One cluster for each value; every one runs the same number of operations, so that a snapshot is among them. */
function againstValue(
  values: readonly number[],
  operations: number,
  options: (value: number) => CoreRigOptions,
): Sample[] {
  return values.map((value) => {
    const meter = started(options(value));
    meter.run(Math.ceil(operations / 4));
    meter.forget();
    meter.run(operations);
    return meter.sample(value);
  });
}

function storeOf(keys: number): KvMachine {
  const machine = new KvMachine({ maxKeys: 2 * keys + 4096, maxBytes: 2 ** 30, expectedKeys: keys });
  const operation = { bytes: new Uint8Array(256), offset: 0, length: 0 };
  const reply = { bytes: new Uint8Array(64), offset: 0, capacity: 64, length: 0 };
  for (let key = 0; key < keys; key++) {
    operation.length = encodePut(
      operation.bytes,
      0,
      Buffer.from(`state-${String(key).padStart(10, '0')}`, 'latin1'),
      bytes,
    );
    machine.apply(operation, { timestampHi: 0, timestampLo: 0, index: 0 }, reply);
  }
  return machine;
}

await program(
  {
    name: 'npm run bench:growth --',
    summary:
      'Cost of an operation, of the cores alone, against log length, state size, sessions and replicas; and the memory held.',
    positionals: [],
    flags: {
      ops: {
        kind: 'count',
        default: '10000000',
        min: 10 * LANES,
        max: 1e9,
        help: 'longest log; the other curves run a thirtieth of it for each point',
      },
      sessions: { kind: 'count', default: '100000', min: 1, max: 1e6, help: 'most sessions' },
      keys: { kind: 'count', default: '300000', min: 1, max: 2e6, help: 'most keys of the store' },
    },
    examples: ['npm run bench:growth', 'npm run bench:growth -- --ops 1000000 --json'],
  },
  async ({ ops, sessions, keys }, output) => {
    const each = Math.ceil(ops / 30);
    const store = new SlotOperations('kv', 'write', BYTES, 1);
    const curves: Curve[] = [];
    const add = (name: string, against: string, samples: readonly Sample[]): void => {
      const costs = samples.map(({ primaryNs }) => primaryNs);
      const factor = Math.max(...costs) / Math.max(1, Math.min(...costs));
      curves.push({ name, against, samples, factor: Number(factor.toFixed(2)), flat: factor <= FLAT_FACTOR });
      output.note(`${against}: done`);
    };
    started(plain).run(each); // the compiler's
    add('log', 'operations in the log so far', againstLog(logarithmic(ops / 100, ops)));
    add(
      'state',
      'keys in the store, before the run',
      againstValue(logarithmic(1, keys), each, (value) => ({
        ...plain,
        machine: () => storeOf(value),
        operation: () => store.next(),
      })),
    );
    const limits = {
      maxSessions: Math.max(sessions, DEFAULT_LIMITS.maxSessions),
      maxLanes: Math.max(2 * sessions + LANES, DEFAULT_LIMITS.maxLanes),
    };
    add(
      'sessions',
      'sessions in the table',
      againstValue(logarithmic(1, sessions), each, (value) => ({
        ...plain,
        sessions: value,
        clients: clientsFor(value),
        limits: { ...limits, resultBytes: 256, operationBytes: 256 },
      })),
    );
    add(
      'replicas',
      'replicas',
      againstValue([1, 3, 5, 7, 9], each, (value) => ({ ...plain, replicas: value })),
    );
    const result = {
      schema: 'jitpaxos.growth/1',
      curves,
      flatFactor: FLAT_FACTOR,
      lanes: LANES,
      opBytes: BYTES,
      arenas: { logBytes: DEFAULT_LIMITS.logBytes, logEntries: DEFAULT_LIMITS.logEntries },
      host: hostInfo(),
    };
    output.line(output.json ? JSON.stringify(result) : curves.map(plotOf).join('\n\n'));
  },
);

/** Powers of ten from `from` to `to`, and `to` itself. */
function logarithmic(from: number, to: number): number[] {
  const values: number[] = [];
  for (let value = Math.max(1, Math.round(from)); value < to; value *= 10) values.push(value);
  return [...values, to];
}

/** A power of two, so that the lanes divide evenly. */
function clientsFor(sessions: number): number {
  return 2 ** Math.floor(Math.log2(Math.min(sessions, CLIENTS_MAX)));
}

function plotOf({ against, samples, factor, flat }: Curve): string {
  const dearest = Math.max(...samples.map(({ primaryNs }) => primaryNs));
  const head = `${against.padEnd(36)} ${'primary'.padStart(8)} ${'mean'.padStart(8)} ${'member'.padStart(8)} ${'client'.padStart(8)} ${'longest'.padStart(8)} ${'memory'.padStart(9)}`;
  const rows = samples.map(({ at, primaryNs, meanPrimaryNs, memberNs, clientNs, longestMs, memoryBytes }) => {
    const bar = '█'.repeat(Math.max(1, Math.round((BAR_CHARACTERS * primaryNs) / dearest)));
    return `${formatCount(at).padStart(36)} ${[primaryNs, meanPrimaryNs, memberNs, clientNs].map((ns) => `${formatCount(ns)} ns`.padStart(8)).join(' ')} ${formatDuration(longestMs * NS_PER_MS).padStart(8)} ${`${(memoryBytes / 2 ** 20).toFixed(0)} MiB`.padStart(9)}  ${bar}`;
  });
  return [head, ...rows, `dearest ÷ cheapest at the primary: ${factor.toFixed(2)}${flat ? ', flat' : ''}`].join('\n');
}
