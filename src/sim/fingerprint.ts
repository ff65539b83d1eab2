/**
 * A digest of everything that an object graph holds, to recognize a state that was reached before. It may tell apart
 * two states that behave alike (that costs time), but must never equate two that do not (that would cost the proof). So
 * all fields count, including private ones, except those named here with the reason.
 */
import { Entry } from '../protocol/log/entry.js';
import { Log } from '../protocol/log/log.js';
import { Executed } from '../protocol/log/session.js';
import { SpareArrays } from '../protocol/log/spare-arrays.js';
import { LastWords } from '../wire/copy.js';
import { SimulationHasher } from './hash.js';

/** Fields that cannot influence what follows. */
const IGNORED = new Set([
  // Constant in a walk, or the environment, or derived from constants.
  'config',
  'views',
  'hasher',
  'observer',
  'storage',
  'outbox',
  'inner',
  'events',
  'limits',
  'around',
  // Counted for display, or written before it is read.
  'counters',
  'digest',
  'offeredDigest',
  'scratch',
  'context',
  'reply',
  'lastStatus',
  // Decides nothing before more repairs than a walk has room for (REPAIRS_FREE).
  'outOfStep',
]);

/** Longer arrays count by their hashes. */
const SHORT_BYTES = 64;

const encoder = new TextEncoder();

export class Fingerprint {
  private readonly parts: string[] = [];
  private readonly visited = new Map<object, number>();
  private readonly hasher = new SimulationHasher();

  add(value: unknown): void {
    if (typeof value === 'function') return;
    if (typeof value !== 'object' || value === null) {
      this.parts.push(String(value), ';');
      return;
    }
    const before = this.visited.get(value);
    if (before !== undefined) {
      this.parts.push('^', String(before), ';');
      return;
    }
    this.visited.set(value, this.visited.size);
    if (value instanceof Entry || value instanceof Executed) return; // flyweights: each is filled in before it is read
    if (value instanceof LastWords) return; // a view of another object's array; it only decides which object allocates
    if (value instanceof SpareArrays) return; // the same
    if (ArrayBuffer.isView(value)) this.bytes(value);
    else if (Array.isArray(value)) this.list(value);
    else if (value instanceof Map || value instanceof Set) this.list([...value]);
    else if (value instanceof Log) this.log(value);
    else this.fields(value);
  }

  /** 64 bits: the chance that two of a million states share it is below one in ten million. */
  digest(): string {
    return String.fromCharCode(...hashOf(this.hasher, encoder.encode(this.parts.join(''))));
  }

  /** A long one by its hash: most of them are tables that are nearly empty. */
  private bytes(view: ArrayBufferView): void {
    const bytes = new Uint8Array(view.buffer, view.byteOffset, view.byteLength);
    if (bytes.length <= SHORT_BYTES) {
      this.parts.push(bytes.join(), ';');
      return;
    }
    this.parts.push('#', String(bytes.length), '/', hashOf(this.hasher, bytes).join(), ';');
  }

  private list(values: readonly unknown[]): void {
    this.parts.push('[');
    for (const value of values) this.add(value);
    this.parts.push(']');
  }

  private fields(value: object): void {
    this.parts.push('{');
    for (const [name, field] of Object.entries(value)) {
      if (IGNORED.has(name) || typeof field === 'function') continue;
      this.parts.push(name, ':');
      this.add(field);
    }
    this.parts.push('}');
  }

  /** The entries that it holds, by their chains; not the remains of cut entries in the arena. */
  private log(log: Log): void {
    this.parts.push('L', String(log.baseIndex), ',');
    for (let index = log.baseIndex; index <= log.lastIndex; index++) {
      this.parts.push(String(log.chainHi(index)), '/', String(log.chainLo(index)), ',');
      if (index > log.baseIndex) this.parts.push(String(log.replyTo(index)), '/', String(log.laneBefore(index)), ',');
    }
  }
}

function hashOf(hasher: SimulationHasher, bytes: Uint8Array): Uint8Array {
  const out = new Uint8Array(8);
  hasher.hash64(bytes, 0, bytes.length, out, 0);
  return out;
}
