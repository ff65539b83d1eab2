/**
 * The operations of a workload: what each lane does next, and what is known about the result. Chosen by a seeded
 * generator, so that a workload can be repeated.
 *
 * A lane prepares an operation (not measured), then runs it (measured). Values carry the worker, the lane and a number,
 * so that every write of a run is different and a checker can tell which one a read saw.
 */
import type { Client } from '../../client/client.js';
import { KvClient } from '../../client/kv-client.js';
import type { HistoryEntry, HistoryOutcome } from './history-writer.js';
import type { Mix, Workload } from './messages.js';
import { seededRandom } from './random.js';

/** Names allowed in a mix, by machine. */
export const OPERATION_NAMES = { echo: ['read', 'write'], kv: ['read', 'write', 'cas'] } as const;

/** Bytes at the start of a value that make it unlike any other: worker (3), lane (5) and number (8) in hexadecimal. */
export const VALUE_TAG_BYTES = 16;

export interface Operations {
  /** Chooses the lane's next operation. */
  prepare(lane: number): void;
  run(lane: number): Promise<unknown>;
  /** The prepared operation, for a history. */
  describe(lane: number): HistoryEntry;
  /** What the operation that ran well gave, for a history. */
  outcome(lane: number): HistoryOutcome;
  /** The operation failed; `certain`: it had no effect. */
  failed(lane: number, certain: boolean): void;
  /** Key → value that the store must hold, for the keys where that is certain. */
  expected(): Readonly<Record<string, string>>;
}

export function operationsFor(client: Client, worker: number, workload: Workload): Operations {
  return workload.machine === 'echo' ? new EchoOperations(client, worker, workload) : new KvOperations(client, worker, workload);
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

/** One value buffer a lane; its tag is renewed for every write. */
class Values {
  private readonly buffers: Uint8Array[];
  private readonly numbers: Uint32Array;

  constructor(
    private readonly worker: number,
    lanes: number,
    size: number,
  ) {
    this.buffers = Array.from({ length: lanes }, () => new Uint8Array(size).fill(0x2e));
    this.numbers = new Uint32Array(lanes);
  }

  next(lane: number): Uint8Array {
    const buffer = this.buffers[lane]!;
    this.numbers[lane]! += 1;
    writeHex(buffer, 0, 3, this.worker);
    writeHex(buffer, 3, 5, lane);
    writeHex(buffer, 8, 8, this.numbers[lane]!);
    return buffer;
  }
}

class EchoOperations implements Operations {
  private readonly random: () => number;
  private readonly chooser: Chooser;
  private readonly values: Values;
  private readonly chosen: { read: boolean; bytes: Uint8Array }[];

  constructor(
    private readonly client: Client,
    worker: number,
    { lanes, size, mix, seed }: Workload,
  ) {
    this.random = seededRandom(seed);
    this.chooser = new Chooser(mix);
    this.values = new Values(worker, lanes, size);
    this.chosen = Array.from({ length: lanes }, (_, lane) => ({ read: false, bytes: this.values.next(lane) }));
  }

  prepare(lane: number): void {
    const chosen = this.chosen[lane]!;
    chosen.read = this.chooser.pick(this.random()) === 'read';
    chosen.bytes = this.values.next(lane);
  }

  run(lane: number): Promise<unknown> {
    const { read, bytes } = this.chosen[lane]!;
    return read ? this.client.query(bytes) : this.client.execute(bytes);
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
}

class KvOperations implements Operations {
  private readonly kv: KvClient;
  private readonly random: () => number;
  private readonly chooser: Chooser;
  private readonly values: Values;
  private readonly chosen: Chosen[];
  private readonly names: readonly string[];
  /** What this worker last knew of each key: the start of a compare-and-set. */
  private readonly known: (Uint8Array | null)[];
  /** Only with keys that no other lane writes. */
  private readonly mustHold = new Map<string, string>();
  /** Keys with a write of unknown outcome, which may still take effect at any time. */
  private readonly uncertain = new Set<string>();

  constructor(
    client: Client,
    worker: number,
    private readonly workload: Workload,
  ) {
    const { lanes, size, mix, seed, keys, keyPrefix } = workload;
    this.kv = new KvClient(client);
    this.random = seededRandom(seed);
    this.chooser = new Chooser(mix);
    this.values = new Values(worker, lanes, size);
    this.names = Array.from({ length: keys }, (_, key) => `${keyPrefix}${key}`);
    this.known = new Array<Uint8Array | null>(keys).fill(null);
    this.chosen = Array.from({ length: lanes }, () => ({ f: 'read', key: 0, value: new Uint8Array(0), compare: null, readValue: null, swapped: false }));
  }

  prepare(lane: number): void {
    const chosen = this.chosen[lane]!;
    const { keys, lanes, ownKeys } = this.workload;
    chosen.f = this.chooser.pick(this.random()) as Chosen['f'];
    chosen.key = Math.floor(this.random() * keys);
    if (ownKeys) chosen.key = lane + lanes * Math.floor(chosen.key / lanes);
    if (chosen.key >= keys) chosen.key = lane;
    if (chosen.f !== 'read') chosen.value = this.values.next(lane);
    if (chosen.f === 'cas') chosen.compare = this.known[chosen.key]!;
  }

  async run(lane: number): Promise<void> {
    const chosen = this.chosen[lane]!;
    const name = this.names[chosen.key]!;
    if (chosen.f === 'read') chosen.readValue = (await this.kv.get(name)) ?? null;
    else if (chosen.f === 'write') await this.kv.put(name, chosen.value);
    else chosen.swapped = await this.kv.compareAndSet(name, chosen.compare, chosen.value);
    this.learn(chosen, name);
  }

  describe(lane: number): HistoryEntry {
    const { f, key, value, compare } = this.chosen[lane]!;
    return { f, key: this.names[key]!, value: f === 'read' ? null : f === 'write' ? text(value) : [compare && text(compare), text(value)] };
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
