/**
 * The operations of a workload: what each lane does next, and what is known about the result. A seeded generator
 * chooses them, so that a workload can be repeated.
 *
 * A lane prepares an operation (not measured), sends its bytes, and passes the result to `finish`. The worker decides
 * how it is sent, in a closed loop or an open one. Values contain the worker, the lane and a number, so that every
 * write of a run is different and a checker can tell which one a read saw.
 */
import { JitPaxosError } from '../../errors.js';
import { decodeResult, encodeCas, encodeGet, encodePut } from '../../machine/kv-codec.js';
import type { HistoryEntry, HistoryOutcome } from './history-writer.js';
import { keyChooser } from './keys.js';
import type { Mix, Workload } from './messages.js';
import { seededRandom } from './random.js';

/** Names allowed in a mix, by machine. */
export const OPERATION_NAMES = { echo: ['read', 'write'], kv: ['read', 'write', 'cas'] } as const;

/** Bytes at the start of a value that make it unique: worker (3), lane (5) and number (8) in hexadecimal. */
export const VALUE_TAG_BYTES = 16;

export interface Operations {
  /** Chooses the lane's next operation. */
  prepare(lane: number): void;
  /** The bytes of the prepared operation; valid until the next `prepare` of the lane. */
  bytes(lane: number): Uint8Array;
  /** The name of the prepared operation, as in a mix. */
  nameOf(lane: number): 'read' | 'write' | 'cas';
  /** The prepared operation is a query. */
  isRead(lane: number): boolean;
  /**
   * Takes the result. Throws JitPaxosError `kv-store-full`, `result-unexpected`, or KvError if it is not a result of
   * this operation.
   */
  finish(lane: number, bytes: Uint8Array, length: number): void;
  /** The prepared operation, for a history. */
  describe(lane: number): HistoryEntry;
  /** The result of a successful operation, for a history. */
  outcome(lane: number): HistoryOutcome;
  /** The operation failed; `certain`: it had no effect. */
  failed(lane: number, certain: boolean): void;
  /** Key → value that the store must hold, for the keys where that is certain. */
  expected(): Readonly<Record<string, string>>;
}

export function operationsFor(worker: number, workload: Workload): Operations {
  return workload.machine === 'echo' ? new EchoOperations(worker, workload) : new KvOperations(worker, workload);
}

/** Chooses names with the probabilities of a mix. */
class Chooser {
  private readonly names: readonly string[];
  private readonly upTo: readonly number[];

  constructor(mix: Mix) {
    this.names = Object.keys(mix);
    let sum = 0;
    this.upTo = Object.values(mix).map((share) => (sum += share));
  }

  pick(random: number): string {
    const at = this.upTo.findIndex((bound) => random < bound);
    return this.names[at < 0 ? this.names.length - 1 : at]!;
  }
}

/** One value buffer per lane; its tag is renewed for every write. */
class Values {
  private readonly buffers: Uint8Array[];
  private readonly numbers: Uint32Array;

  constructor(
    private readonly worker: number,
    lanes: number,
    private readonly size: number,
    private readonly sizeMax: number,
    private readonly random: () => number,
  ) {
    this.buffers = Array.from({ length: lanes }, () => new Uint8Array(sizeMax).fill(0x2e));
    this.numbers = new Uint32Array(lanes);
  }

  next(lane: number): Uint8Array {
    const { size, sizeMax } = this;
    const buffer = this.buffers[lane]!;
    this.numbers[lane]! += 1;
    writeHex(buffer, 0, 3, this.worker);
    writeHex(buffer, 3, 5, lane);
    writeHex(buffer, 8, 8, this.numbers[lane]!);
    return sizeMax === size ? buffer : buffer.subarray(0, size + Math.floor(this.random() * (sizeMax - size + 1)));
  }
}

class EchoOperations implements Operations {
  private readonly random: () => number;
  private readonly chooser: Chooser;
  private readonly values: Values;
  private readonly chosen: { read: boolean; bytes: Uint8Array }[];

  constructor(worker: number, { lanes, size, sizeMax, mix, seed }: Workload) {
    this.random = seededRandom(seed);
    this.chooser = new Chooser(mix);
    this.values = new Values(worker, lanes, size, sizeMax ?? size, this.random);
    this.chosen = Array.from({ length: lanes }, (_, lane) => ({ read: false, bytes: this.values.next(lane) }));
  }

  prepare(lane: number): void {
    const chosen = this.chosen[lane]!;
    chosen.read = this.chooser.pick(this.random()) === 'read';
    chosen.bytes = this.values.next(lane);
  }

  bytes(lane: number): Uint8Array {
    return this.chosen[lane]!.bytes;
  }

  nameOf(lane: number): 'read' | 'write' {
    return this.chosen[lane]!.read ? 'read' : 'write';
  }

  isRead(lane: number): boolean {
    return this.chosen[lane]!.read;
  }

  finish(lane: number, bytes: Uint8Array, length: number): void {
    const { bytes: sent, read } = this.chosen[lane]!;
    // Compare only a part: a reply has less room than an operation.
    const isEcho =
      length === 0
        ? sent.length === 0
        : length <= sent.length && sent[0] === bytes[0] && sent[length - 1] === bytes[length - 1];
    if (!isEcho) {
      throw new JitPaxosError(
        'result-unexpected',
        `the answer to an echo ${read ? 'query' : 'operation'} of ${sent.length} bytes differs from it and has ${length} bytes; if the cluster runs the key-value store, the default of replicas, use --machine kv`,
      );
    }
  }

  describe(lane: number): HistoryEntry {
    return { f: this.chosen[lane]!.read ? 'read' : 'write', key: '', value: text(this.chosen[lane]!.bytes) };
  }

  outcome(): Record<string, never> {
    return {};
  }

  failed(): void {}

  expected(): Record<string, string> {
    return {};
  }
}

interface Chosen {
  f: 'read' | 'write' | 'cas';
  key: number;
  value: Uint8Array;
  compare: Uint8Array | null;
  readValue: Uint8Array | null;
  swapped: boolean;
  bytes: Uint8Array;
}

const NOTHING = new Uint8Array(0);
/** Upper bound for opcode and lengths around the key and values of the longest operation. */
const FRAME_BYTES = 16;
const RESULT_NAMES = { read: 'get', write: 'put', cas: 'cas' } as const;

class KvOperations implements Operations {
  private readonly random: () => number;
  private readonly chooser: Chooser;
  private readonly chooseKey: (random: number) => number;
  private readonly values: Values;
  private readonly chosen: Chosen[];
  private readonly buffers: Uint8Array[];
  private readonly names: readonly string[];
  private readonly keyBytes: readonly Uint8Array[];
  /** This worker's last knowledge of each key: the start of a compare-and-set. */
  private readonly known: (Uint8Array | null)[];
  /** Only with keys that no other lane writes. */
  private readonly mustHold = new Map<string, string>();
  /** Keys with a write of unknown outcome, which may still take effect at any time. */
  private readonly uncertain = new Set<string>();

  constructor(
    worker: number,
    private readonly workload: Workload,
  ) {
    const { lanes, size, mix, seed, keys, keyPrefix } = workload;
    const sizeMax = workload.sizeMax ?? size;
    const encoder = new TextEncoder();
    this.random = seededRandom(seed);
    this.chooser = new Chooser(mix);
    this.chooseKey = keyChooser(workload.distribution ?? 'uniform', keys);
    this.values = new Values(worker, lanes, size, sizeMax, this.random);
    this.names = Array.from({ length: keys }, (_, key) => `${keyPrefix}${key}`);
    this.keyBytes = this.names.map((name) => encoder.encode(name));
    this.known = new Array<Uint8Array | null>(keys).fill(null);
    const operationBytes = FRAME_BYTES + this.keyBytes.at(-1)!.length + sizeMax * (mix['cas'] === undefined ? 1 : 2);
    this.buffers = Array.from({ length: lanes }, () => new Uint8Array(operationBytes));
    this.chosen = Array.from({ length: lanes }, () => ({
      f: 'read',
      key: 0,
      value: NOTHING,
      compare: null,
      readValue: null,
      swapped: false,
      bytes: NOTHING,
    }));
  }

  prepare(lane: number): void {
    const chosen = this.chosen[lane]!;
    const { keys, lanes, ownKeys } = this.workload;
    chosen.f = this.chooser.pick(this.random()) as Chosen['f'];
    chosen.key = this.chooseKey(this.random());
    if (ownKeys) chosen.key = lane + lanes * Math.floor(chosen.key / lanes);
    if (chosen.key >= keys) chosen.key = lane;
    if (chosen.f !== 'read') chosen.value = this.values.next(lane);
    if (chosen.f === 'cas') chosen.compare = this.known[chosen.key]!;
    const buffer = this.buffers[lane]!;
    chosen.bytes = buffer.subarray(0, this.encode(chosen, buffer));
  }

  bytes(lane: number): Uint8Array {
    return this.chosen[lane]!.bytes;
  }

  nameOf(lane: number): Chosen['f'] {
    return this.chosen[lane]!.f;
  }

  isRead(lane: number): boolean {
    return this.chosen[lane]!.f === 'read';
  }

  finish(lane: number, bytes: Uint8Array, length: number): void {
    const chosen = this.chosen[lane]!;
    const result = decodeResult(RESULT_NAMES[chosen.f], bytes, 0, length);
    if (result.status === 'full')
      throw new JitPaxosError(
        'kv-store-full',
        'the store has reached its limits of keys or bytes; measure with fewer --keys or a smaller --size',
      );
    if (result.status === 'bad-operation' || result.status === 'too-large') {
      throw new JitPaxosError(
        'result-unexpected',
        `the store answers ${result.status} to ${chosen.f}; run the same version of jitpaxos on replicas and clients`,
      );
    }
    if (chosen.f === 'read') chosen.readValue = 'value' in result ? (result.value as Uint8Array) : null;
    else chosen.swapped = result.status === 'ok';
    this.learn(chosen, this.names[chosen.key]!);
  }

  describe(lane: number): HistoryEntry {
    const { f, key, value, compare } = this.chosen[lane]!;
    return {
      f,
      key: this.names[key]!,
      value: f === 'read' ? null : f === 'write' ? text(value) : [compare && text(compare), text(value)],
    };
  }

  outcome(lane: number): HistoryOutcome {
    const { f, readValue, swapped } = this.chosen[lane]!;
    if (f === 'read') return { value: readValue && text(readValue) };
    return f === 'cas' ? { result: swapped } : {};
  }

  failed(lane: number, certain: boolean): void {
    const { f, key } = this.chosen[lane]!;
    if (certain || f === 'read') return;
    this.uncertain.add(this.names[key]!);
    this.mustHold.delete(this.names[key]!);
  }

  expected(): Record<string, string> {
    return Object.fromEntries(this.mustHold);
  }

  private encode({ f, key, value, compare }: Chosen, buffer: Uint8Array): number {
    const name = this.keyBytes[key]!;
    if (f === 'read') return encodeGet(buffer, 0, name);
    return f === 'write' ? encodePut(buffer, 0, name, value) : encodeCas(buffer, 0, name, compare, value);
  }

  private learn(chosen: Chosen, name: string): void {
    const { f, key, value, readValue, swapped } = chosen;
    const wrote = f === 'write' || (f === 'cas' && swapped);
    if (this.workload.mix['cas'] !== undefined) {
      if (f === 'read') this.known[key] = readValue;
      else if (wrote) this.known[key] = Uint8Array.from(value);
    }
    if (this.workload.ownKeys && wrote && !this.uncertain.has(name)) this.mustHold.set(name, text(value));
  }
}

const LATIN1 = new TextDecoder('latin1');

function text(bytes: Uint8Array): string {
  return LATIN1.decode(bytes);
}

/** Writes the last `digits` hexadecimal digits of `value`, as far as they fit. */
function writeHex(bytes: Uint8Array, offset: number, digits: number, value: number): void {
  for (let i = digits - 1; i >= 0; i--) {
    if (offset + i < bytes.length) bytes[offset + i] = '0123456789abcdef'.charCodeAt(value & 15);
    value >>>= 4;
  }
}
