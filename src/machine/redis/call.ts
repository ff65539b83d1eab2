/**
 * A Redis command while it is executed: its arguments, its answer, and the store as it sees it.
 *
 * The rule of all commands: *everything is checked before the first change.* A method that changes the store and may fail
 * writes the error as the answer, returns false, and has changed nothing.
 */
import { copyBytes } from '../../wire/copy.js';
import { Hold, KEEP_HOLD, KV_KEY_BYTES_MAX, KV_VALUE_BYTES_MAX, ValueType } from '../kv-layout.js';
import type { KvStore } from '../kv-store.js';
import { ABSENT, Collection, MEMBER_BYTES_MAX } from '../store/collection.js';
import { isName } from './command-table.js';
import { globSteps } from './glob.js';
import { ROOM_BYTES_MAX } from './layout.js';
import { latin1, readInt64, readInteger } from './numbers.js';
import { CommandRandom } from './random.js';
import { RespWriter } from './resp.js';

/** Executes a command whose number of arguments is right. */
export type Handler = (call: Call) => void;

export { ABSENT } from '../store/collection.js';
/** The key is of another type; the answer says so. */
export const WRONG_TYPE = -2;

export const NOT_AN_INTEGER = 'ERR value is not an integer or out of range';
/** Of the least integer of 64 bits, which has no positive counterpart. */
export const NOT_A_COUNT = 'ERR value is out of range, value must between -9223372036854775807 and 9223372036854775807';
export const NOT_A_DATABASE = 'ERR value is out of range, value must between -2147483648 and 2147483647';
export const NOT_A_FLOAT = 'ERR value is not a valid float';
export const SYNTAX_ERROR = 'ERR syntax error';
const WRONG_TYPE_ERROR = 'WRONGTYPE Operation against a key holding the wrong kind of value';
const OUT_OF_MEMORY =
  'OOM the store has reached maxKeys or maxBytes; delete something, or give the cluster larger limits';

/**
 * After this much work an operation ends, and its sender sends the rest again. A unit is a member or a key that is looked
 * at or written, or some bytes of a value or steps of a pattern: about a microsecond, at most some. What an argument costs
 * by itself (a key is looked for, its bytes are written once) is not counted: the bytes of the operation bound it. One
 * command has bounds of its own, PATTERN_STEPS_MAX and BYTES_MAX among them; a transaction has one, twice: what reads is
 * executed to measure it, and again. So no operation keeps a replica from its other duties for much more than some tens
 * of milliseconds, whatever its commands are.
 */
export const WORK_MAX = 4096;
/** Bytes that are looked at one by one, for a unit of work. */
const SCANNED_PER_WORK = 64;
/** Bytes that are copied or compared as blocks, for a unit of work. */
const COPIED_PER_WORK = 2048;
/** Of large exponents: numbers of some thousands of bits are multiplied and divided. */
const CALCULATION_WORK = 16;
const DIGITS_PER_WORK = 64;
/** Most bytes of values that a command on many elements or keys copies or compares. */
export const BYTES_MAX = 2 ** 24;
/** With a key or member of 1,024 bytes, half of PATTERN_STEPS_MAX. So SCAN always comes forward. */
const PATTERN_BYTES_MAX = 2048;
/** Most steps of a command that compares keys or members with a pattern. */
export const PATTERN_STEPS_MAX = 2 ** 22;
const STEPS_PER_WORK = 128;

const FIRST_ARGUMENTS = 64;

export class Call {
  readonly store: KvStore;
  readonly out = new RespWriter(ROOM_BYTES_MAX);
  readonly random = new CommandRandom();
  /** For the collections of one command. */
  readonly first: Collection;
  readonly second: Collection;
  /** A value while it is put together. */
  readonly value = new Uint8Array(KV_VALUE_BYTES_MAX);
  bytes: Uint8Array = new Uint8Array(0);
  argc = 0;
  /** Where the arguments begin, the name among them, and how long they are. */
  starts = new Int32Array(FIRST_ARGUMENTS);
  lengths = new Int32Array(FIRST_ARGUMENTS);
  isQuery = false;
  /** In a query the sender's clock, otherwise the agreed time; ms. */
  now = 0;
  /** In a query: the earliest end of a key that was read, ms; 0: none. */
  due = 0;
  /** What the commands of the operation have cost so far. See WORK_MAX. */
  work = 0;
  /** Steps of the command's pattern so far. */
  patternSteps = 0;
  /** The command's name, for errors. */
  name = '';

  constructor(store: KvStore) {
    this.store = store;
    this.first = new Collection(store);
    this.second = new Collection(store);
  }

  /** Takes the arguments at an offset, whose lengths are known to be right. Returns where they end. */
  take(bytes: Uint8Array, offset: number, argc: number): number {
    if (argc > this.starts.length) {
      this.starts = new Int32Array(2 * argc);
      this.lengths = new Int32Array(2 * argc);
    }
    this.bytes = bytes;
    this.argc = argc;
    let at = offset;
    for (let i = 0; i < argc; i++) {
      const length = (bytes[at]! << 8) | bytes[at + 1]!;
      this.starts[i] = at + 2;
      this.lengths[i] = length;
      at += 2 + length;
    }
    return at;
  }

  /** Whether an argument is this word, in any case. @param word in lower case */
  is(index: number, word: string): boolean {
    return isName(word, this.bytes, this.starts[index]!, this.lengths[index]!);
  }

  text(index: number): string {
    return latin1(this.bytes, this.starts[index]!, this.lengths[index]!);
  }

  /** The integer of an argument, rounded beyond 2^53; NaN if it is not one. */
  integer(index: number): number {
    return readInteger(this.bytes, this.starts[index]!, this.lengths[index]!);
  }

  /** The same, with the error as the answer if it is not one. */
  integerOrError(index: number): number {
    const value = this.integer(index);
    if (Number.isNaN(value)) this.out.error(NOT_AN_INTEGER);
    return value;
  }

  int64(index: number): bigint | undefined {
    return readInt64(this.bytes, this.starts[index]!, this.lengths[index]!);
  }

  sameArguments(a: number, b: number): boolean {
    const length = this.lengths[a]!;
    if (length !== this.lengths[b]!) return false;
    const from = this.starts[a]!;
    const other = this.starts[b]!;
    for (let i = 0; i < length; i++) if (this.bytes[from + i] !== this.bytes[other + i]) return false;
    return true;
  }

  /** Whether two arguments are the same word, in any case. */
  sameWord(a: number, b: number): boolean {
    return this.text(a).toLowerCase() === this.text(b).toLowerCase();
  }

  error(text: string): void {
    this.out.error(text);
  }

  arityError(): void {
    this.out.error(`ERR wrong number of arguments for '${this.name}' command`);
  }

  unknownSubcommand(container: string): void {
    this.out.error(`ERR unknown subcommand '${this.text(1).slice(0, 128)}'. Try ${container} HELP.`);
  }

  /** The entry of a key, of whatever type, or ABSENT. */
  find(index: number): number {
    const length = this.lengths[index]!;
    if (length === 0 || length > KV_KEY_BYTES_MAX) return ABSENT;
    const id = this.store.find(this.bytes, this.starts[index]!, length);
    if (id >= 0 && this.isQuery) this.saw(id);
    return id;
  }

  /** A query looked at this entry. */
  saw(id: number): void {
    if (this.store.records.holdKind(id) === Hold.none) return;
    const end = this.store.endOf(id);
    if (this.due === 0 || end < this.due) this.due = end;
  }

  /** The entry of a string, ABSENT, or WRONG_TYPE with the error as the answer. */
  findString(index: number): number {
    const id = this.find(index);
    if (id < 0 || this.store.records.type(id) === ValueType.string) return id;
    this.wrongType();
    return WRONG_TYPE;
  }

  wrongType(): void {
    this.out.error(WRONG_TYPE_ERROR);
  }

  outOfMemory(): void {
    this.out.error(OUT_OF_MEMORY);
  }

  /** Whether a key can be written, with the error as the answer. */
  keyFits(index: number): boolean {
    const length = this.lengths[index]!;
    if (length > 0 && length <= KV_KEY_BYTES_MAX) return true;
    this.out.error(`ERR the key has ${length} bytes, this cluster takes 1 to ${KV_KEY_BYTES_MAX}`);
    return false;
  }

  /** Counts bytes that are looked at one by one. */
  scanned(bytes: number): void {
    this.work += bytes / SCANNED_PER_WORK;
  }

  /** Counts bytes that are copied or compared as blocks. */
  copied(bytes: number): void {
    this.work += bytes / COPIED_PER_WORK;
  }

  /** Counts that a long double is read, of a text of this many bytes, and added. */
  calculated(bytes: number): void {
    this.work += CALCULATION_WORK + bytes / DIGITS_PER_WORK;
  }

  /** Counts bytes of many values; whether a command may copy or compare so many, with the error as the answer. */
  fewBytes(bytes: number): boolean {
    if (bytes > BYTES_MAX) {
      this.out.error(`ERR the command would take ${bytes} bytes in hand, of at most ${BYTES_MAX} at once`);
      return false;
    }
    this.copied(bytes);
    return true;
  }

  /** Whether an argument can be a pattern, with the error as the answer. */
  patternFits(index: number): boolean {
    const length = this.lengths[index]!;
    if (length <= PATTERN_BYTES_MAX) return true;
    this.out.error(`ERR the pattern has ${length} bytes, this cluster takes ${PATTERN_BYTES_MAX}`);
    return false;
  }

  /** Whether bytes match the pattern of an argument. Counts the steps: see `patternSteps`. */
  matches(pattern: number, bytes: Uint8Array, offset: number, length: number): boolean {
    const steps = globSteps(this.bytes, this.starts[pattern]!, this.lengths[pattern]!, bytes, offset, length);
    this.patternSteps += Math.abs(steps);
    this.work += Math.abs(steps) / STEPS_PER_WORK;
    return steps > 0;
  }

  /** The answer if a pattern takes too many steps on keys or members of one hash, which a scan cannot part. */
  patternTooLong(): void {
    this.out.error(`ERR ${this.name} with this pattern takes more than ${PATTERN_STEPS_MAX} steps; use a simpler one`);
  }

  /** Whether a value of this length can be written, with the error as the answer. */
  valueFits(length: number): boolean {
    if (length <= KV_VALUE_BYTES_MAX) return true;
    this.out.error(`ERR the value has ${length} bytes, this cluster takes ${KV_VALUE_BYTES_MAX}`);
    return false;
  }

  /** Whether a key can become a string of this length, with the error as the answer. Changes nothing that can be seen. */
  canPut(index: number, length: number): boolean {
    if (!this.keyFits(index) || !this.valueFits(length)) return false;
    const { store } = this;
    const keyLength = this.lengths[index]!;
    const id = store.findToChange(this.bytes, this.starts[index]!, keyLength);
    if (store.fits(store.keysAdded(id), store.bytesAdded(id, keyLength, length))) return true;
    this.outOfMemory();
    return false;
  }

  /** Makes a key a string. */
  put(index: number, value: Uint8Array, offset: number, length: number, hold: number = Hold.none, end = 0): boolean {
    if (!this.keyFits(index) || !this.valueFits(length)) return false;
    const { store, bytes } = this;
    const key = this.starts[index]!;
    const keyLength = this.lengths[index]!;
    const id = store.findToChange(bytes, key, keyLength);
    this.copied(length);
    if (store.put(id, bytes, key, keyLength, value, offset, length, hold, end)) return true;
    this.outOfMemory();
    return false;
  }

  /** The same with an argument as the value. */
  putArgument(index: number, value: number, hold: number = Hold.none, end = 0): boolean {
    return this.put(index, this.bytes, this.starts[value]!, this.lengths[value]!, hold, end);
  }

  /** Makes the bytes of a text the value of a key that keeps its end. */
  putText(index: number, text: string): boolean {
    for (let i = 0; i < text.length; i++) this.value[i] = text.charCodeAt(i);
    return this.put(index, this.value, 0, text.length, KEEP_HOLD);
  }

  /** Removes a key that is there. */
  remove(index: number): void {
    const { store, bytes } = this;
    const key = this.starts[index]!;
    const id = store.findToChange(bytes, key, this.lengths[index]!);
    if (id >= 0) store.remove(id, bytes, key, this.lengths[index]!);
  }

  /** Sets until when a key that is there stays. */
  hold(index: number, hold: number, end: number): void {
    const { store, bytes } = this;
    const id = store.findToChange(bytes, this.starts[index]!, this.lengths[index]!);
    store.setHold(id, bytes, this.starts[index]!, this.lengths[index]!, hold, end);
  }

  /**
   * Opens the collection of a key for reading, or to change it. False if the key is of another type, with the error as the
   * answer; an absent key has the type ABSENT.
   */
  open(collection: Collection, index: number, type: number, toChange = false): boolean {
    const length = this.lengths[index]!;
    // No key has this name.
    const keyLength = length > KV_KEY_BYTES_MAX ? 0 : length;
    const key = this.starts[index]!;
    const found = toChange
      ? collection.openToChange(this.bytes, key, keyLength)
      : collection.open(this.bytes, key, keyLength);
    if (this.isQuery && collection.id >= 0) this.saw(collection.id);
    if (found === ABSENT || found === type) return true;
    this.wrongType();
    return false;
  }

  /** Whether a member, or the name of a field, can be written, with the error as the answer. */
  memberFits(index: number): boolean {
    const length = this.lengths[index]!;
    if (length <= MEMBER_BYTES_MAX) return true;
    this.out.error(`ERR the member has ${length} bytes, this cluster takes ${MEMBER_BYTES_MAX}`);
    return false;
  }

  /** Whether the store has room for this many more keys and bytes, with the error as the answer. */
  fits(keys: number, bytes: number): boolean {
    if (this.store.fits(keys, bytes)) return true;
    this.outOfMemory();
    return false;
  }

  /** Answers with the value of an entry. */
  bulkOf(id: number): void {
    const { records } = this.store;
    this.out.bulk(records.valueBytes(id), records.valueOffset(id), records.valueLength(id));
  }

  /** Copies the value of an entry to the beginning of `value`. Returns its length. */
  copyValue(id: number): number {
    const { records } = this.store;
    const length = records.valueLength(id);
    this.copied(length);
    copyBytes(records.valueBytes(id), records.valueOffset(id), this.value, 0, length);
    return length;
  }
}
