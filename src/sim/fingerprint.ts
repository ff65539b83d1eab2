/**
 * A digest of everything that an object graph holds, to recognize a state that was reached before. It may tell apart
 * two states that behave alike (that costs time), but must never equate two that do not (that would cost the proof). So
 * all fields count, including private ones, except those named here with the reason.
 */
import { createHash } from 'node:crypto';
import { Entry } from '../protocol/log/entry.js';
import { Log } from '../protocol/log/log.js';
import { Executed } from '../protocol/log/session.js';
import { SpareArrays } from '../protocol/log/spare-arrays.js';
import { LastWords } from '../wire/copy.js';

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

/** Longer arrays are hashed as they are: most of them are tables that are nearly empty. */
const SHORT_BYTES = 64;
const DIGEST_DIGITS = 16;

export class Fingerprint {
  /** What is not hashed yet. */
  private text = '';
  private readonly visited = new Map<object, number>();
  private readonly hash = createHash('sha1');

  add(value: unknown): void {
    if (typeof value === 'function') return;
    if (typeof value !== 'object' || value === null) {
      this.text += `${String(value)};`;
      return;
    }
    const before = this.visited.get(value);
    if (before !== undefined) {
      this.text += `^${before};`;
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
    return this.hash.update(this.text).digest('hex').slice(0, DIGEST_DIGITS);
  }

  private bytes(view: ArrayBufferView): void {
    const bytes = new Uint8Array(view.buffer, view.byteOffset, view.byteLength);
    if (bytes.length <= SHORT_BYTES) {
      this.text += `${bytes.join()};`;
      return;
    }
    this.hash.update(`${this.text}#${bytes.length}/`).update(bytes);
    this.text = '';
  }

  private list(values: readonly unknown[]): void {
    this.text += '[';
    for (const value of values) this.add(value);
    this.text += ']';
  }

  private fields(value: object): void {
    this.text += '{';
    for (const name of Object.keys(value)) {
      if (IGNORED.has(name)) continue;
      const field = (value as Readonly<Record<string, unknown>>)[name];
      if (typeof field === 'function') continue;
      this.text += `${name}:`;
      this.add(field);
    }
    this.text += '}';
  }

  /** The entries that it holds, by their chains; not the remains of cut entries in the arena. */
  private log(log: Log): void {
    this.text += `L${log.baseIndex},`;
    for (let index = log.baseIndex; index <= log.lastIndex; index++) {
      this.text += `${log.chainHi(index)}/${log.chainLo(index)},`;
      if (index > log.baseIndex) this.text += `${log.replyTo(index)}/${log.laneBefore(index)},`;
    }
  }
}
