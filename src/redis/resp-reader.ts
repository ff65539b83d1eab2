/**
 * Finds commands in the bytes that a connection sends: arrays of bulk strings, and inline commands.
 *
 * Nothing is copied or created for an argument: a command is a list of spans in the bytes that arrived. A command that is
 * not there as a whole yet is looked at again from its first byte when more has come, so a connection keeps nothing but
 * those bytes.
 *
 * The rule: what a connection keeps is bounded. A command that is longer than any operation, or has too many arguments,
 * is passed over as it arrives and then reported as refused; the connection goes on behind it. What is no command at all
 * is a fault, after which nothing can be found any more.
 */

/** Most arguments of a command. */
export const ARGUMENTS_MAX = 4096;
/** Longest inline command, and longest line that announces a length, as in Redis. */
const LINE_BYTES_MAX = 65_536;
/** Longest argument that is passed over; beyond it is a fault, as in Redis. */
const BULK_BYTES_MAX = 512 * 1024 * 1024;
/** Most arguments that can be announced, as in Redis. */
const COUNT_MAX = 0x7fffffff;
/** Of a client that has not logged in, as in Redis: it cannot make the server keep much. */
const UNKNOWN_ARGUMENTS_MAX = 10;
const UNKNOWN_BULK_BYTES_MAX = 16_384;
const BUFFER_BYTES_MIN = 4096;

const CR = 13;
const LF = 10;
const DOLLAR = 0x24;
const STAR = 0x2a;
const MINUS = 0x2d;

const NO_BYTES = new Uint8Array(0);

/** What `next` found. `refused`: a command that was passed over, see `refusal`. `fault`: see `fault`. */
export const Found = { nothing: 0, command: 1, refused: 2, fault: 3 } as const;
export type Found = (typeof Found)[keyof typeof Found];

/** One command, in place: valid until more bytes arrive. Reused. */
export class CommandSpans {
  bytes: Uint8Array = NO_BYTES;
  count = 0;
  readonly offsets = new Int32Array(ARGUMENTS_MAX);
  readonly lengths = new Int32Array(ARGUMENTS_MAX);

  /** An argument, a byte a character. */
  text(index: number): string {
    return textOf(this.bytes, this.offsets[index]!, this.lengths[index]!);
  }

  /** A copy of an argument. */
  copy(index: number): Uint8Array {
    const offset = this.offsets[index]!;
    return new Uint8Array(this.bytes.subarray(offset, offset + this.lengths[index]!));
  }
}

/** Bytes as text, a byte a character. */
export function textOf(bytes: Uint8Array, offset = 0, length = bytes.length - offset): string {
  return Buffer.prototype.latin1Slice.call(bytes, offset, offset + length);
}

/** Why a command was passed over. */
export interface Refusal {
  /** As it was sent, or as much as was seen of it. */
  readonly name: string;
  readonly arguments: number;
  /** Of its longest argument. */
  readonly longest: number;
  /** Of all. */
  readonly bytes: number;
}

export class RespReader {
  /** Why nothing can be found any more: Redis' words for an error reply. */
  fault = '';
  refusal: Refusal | undefined;
  /** The client may only say who it is: it has little room for that. */
  unknown = false;

  private bytes: Uint8Array = NO_BYTES;
  /** This reader made `bytes`, and may write behind `end`. */
  private isOwn = false;
  private start = 0;
  private end = 0;
  /** Behind the command that `next` found. */
  private after = 0;
  /** Before this many bytes are there, the command at `start` is not whole. */
  private needed = 0;
  /** Arguments and bytes that are still to be passed over. */
  private skippedArguments = 0;
  private skippedBytes = 0;
  private skipped: { name: string; arguments: number; longest: number; bytes: number } | undefined;

  /** @param commandBytesMax a longer command is refused */
  constructor(private readonly commandBytesMax: number) {}

  /** Bytes that arrived and were not taken yet. */
  get waiting(): number {
    return this.end - this.start;
  }

  /** Bytes of memory that they are in. */
  get held(): number {
    return this.bytes.length;
  }

  /** Takes bytes that arrived. They may be kept, so nobody may change them. */
  push(chunk: Uint8Array): void {
    if (this.fault !== '') return;
    const waiting = this.end - this.start;
    if (waiting === 0) {
      this.bytes = chunk;
      this.isOwn = false;
      this.start = 0;
      this.end = chunk.length;
      return;
    }
    if (this.isOwn && chunk.length <= this.bytes.length - this.end) {
      this.bytes.set(chunk, this.end);
      this.end += chunk.length;
      return;
    }
    const total = waiting + chunk.length;
    const fits = this.isOwn && total <= this.bytes.length / 2;
    const bytes = fits ? this.bytes : new Uint8Array(Math.max(BUFFER_BYTES_MIN, 2 * total));
    if (fits) bytes.copyWithin(0, this.start, this.end);
    else bytes.set(this.bytes.subarray(this.start, this.end));
    bytes.set(chunk, waiting);
    this.bytes = bytes;
    this.isOwn = true;
    this.start = 0;
    this.end = total;
  }

  /**
   * Looks at the next command, and writes its spans into `command`. It stays the next one until `take` is called.
   * Commands without a word, which Redis ignores, are passed over.
   */
  next(command: CommandSpans): Found {
    for (;;) {
      if (this.fault !== '') return Found.fault;
      if (this.skipped !== undefined) return this.passOver();
      const waiting = this.end - this.start;
      if (waiting === 0 || waiting < this.needed) return Found.nothing;
      this.needed = 0;
      const found = this.bytes[this.start] === STAR ? this.array(command) : this.inline(command);
      if (found !== Found.command || command.count > 0) {
        if (found === Found.nothing && this.skipped !== undefined) continue;
        return found;
      }
      this.take();
    }
  }

  /** The command that `next` found, or that it reported as refused, is done with. */
  take(): void {
    this.start = this.after;
    this.needed = 0;
    if (this.start === this.end) {
      // An idle connection keeps no buffer.
      this.bytes = NO_BYTES;
      this.isOwn = false;
      this.start = this.end = this.after = 0;
    }
  }

  private array(command: CommandSpans): Found {
    const { bytes, end, start } = this;
    let at = this.lineEnd(start + 1, 'too big mbulk count string');
    if (at < 0) return this.fault === '' ? Found.nothing : Found.fault;
    const count = numberIn(bytes, start + 1, at);
    if (Number.isNaN(count) || count > COUNT_MAX) return this.fail('invalid multibulk length');
    if (this.unknown && count > UNKNOWN_ARGUMENTS_MAX) return this.fail('unauthenticated multibulk length');
    at += 2;
    if (count <= 0) {
      this.after = at;
      command.count = 0;
      return Found.command;
    }
    if (count > ARGUMENTS_MAX) return this.passOverFrom(at, count, command, 0);
    command.bytes = bytes;
    command.count = count;
    const { offsets, lengths } = command;
    for (let i = 0; i < count; i++) {
      if (at >= end) return this.wait(at + 1);
      const line = this.bulkLength(at);
      if (line < 0) return this.fault === '' ? Found.nothing : Found.fault;
      const length = this.length;
      const from = line + 2;
      if (from + length + 2 - start > this.commandBytesMax) return this.passOverFrom(at, count - i, command, i);
      if (from + length + 2 > end) return this.wait(from + length + 2);
      offsets[i] = from;
      lengths[i] = length;
      at = from + length + 2;
    }
    this.after = at;
    return Found.command;
  }

  /** What `bulkLength` read. */
  private length = 0;

  /** Reads `$LENGTH`, and returns the place of its line end; −1 if it is not there or wrong. */
  private bulkLength(at: number): number {
    const line = this.lineEnd(at, 'too big bulk count string');
    if (line < 0) return -1;
    if (this.bytes[at] !== DOLLAR) {
      this.fail(`expected '$', got '${printableByte(this.bytes[at]!)}'`);
      return -1;
    }
    const length = numberIn(this.bytes, at + 1, line);
    if (Number.isNaN(length) || length < 0 || length > BULK_BYTES_MAX) {
      this.fail('invalid bulk length');
      return -1;
    }
    if (this.unknown && length > UNKNOWN_BULK_BYTES_MAX) {
      this.fail('unauthenticated bulk length');
      return -1;
    }
    this.length = length;
    return line;
  }

  /** The place of the CR that ends a line, with one byte behind it; −1 if it is not there yet, or the line is too long. */
  private lineEnd(from: number, tooLong: string): number {
    const { bytes, end } = this;
    for (let at = from; at < end - 1; at++) if (bytes[at] === CR) return at;
    if (end - from > LINE_BYTES_MAX) this.fail(tooLong);
    return -1;
  }

  private wait(until: number): Found {
    this.needed = until - this.start;
    return Found.nothing;
  }

  private fail(what: string): Found {
    this.fault = `ERR Protocol error: ${what}`;
    this.bytes = NO_BYTES;
    this.start = this.end = 0;
    return Found.fault;
  }

  /**
   * The command is longer than any that can be executed. It is refused, with its number of arguments and their lengths, when
   * the rest of it has come: from `at` on, `left` arguments are passed over without keeping them; `seen` are before that.
   */
  private passOverFrom(at: number, left: number, command: CommandSpans, seen: number): Found {
    let longest = 0;
    let bytes = 0;
    for (let i = 0; i < seen; i++) {
      longest = Math.max(longest, command.lengths[i]!);
      bytes += command.lengths[i]!;
    }
    this.skipped = { name: seen > 0 ? command.text(0) : '', arguments: seen + left, longest, bytes };
    this.skippedArguments = left;
    this.skippedBytes = 0;
    this.start = at;
    return Found.nothing;
  }

  private passOver(): Found {
    const skipped = this.skipped!;
    while (this.skippedArguments > 0 || this.skippedBytes > 0) {
      if (this.skippedBytes > 0) {
        const passed = Math.min(this.skippedBytes, this.end - this.start);
        this.skippedBytes -= passed;
        this.start += passed;
        if (this.skippedBytes > 0) return Found.nothing;
        continue;
      }
      if (this.start >= this.end) return Found.nothing;
      const line = this.bulkLength(this.start);
      if (line < 0) return this.fault === '' ? Found.nothing : Found.fault;
      if (skipped.name === '' && this.skippedArguments === skipped.arguments)
        skipped.name = textOf(this.bytes, line + 2, Math.max(0, Math.min(this.length, 64, this.end - line - 2)));
      skipped.longest = Math.max(skipped.longest, this.length);
      skipped.bytes += this.length;
      this.skippedArguments--;
      this.skippedBytes = this.length + 2;
      this.start = line + 2;
    }
    this.refusal = skipped;
    this.skipped = undefined;
    this.after = this.start;
    return Found.refused;
  }

  private inline(command: CommandSpans): Found {
    const { bytes, start, end } = this;
    const line = bytes.indexOf(LF, start);
    if (line < 0 || line >= end) {
      if (end - start > LINE_BYTES_MAX) return this.fail('too big inline request');
      return Found.nothing;
    }
    if (line - start > LINE_BYTES_MAX) return this.fail('too big inline request');
    this.after = line + 1;
    const until = line > start && bytes[line - 1] === CR ? line - 1 : line;
    const parts = splitLine(bytes, start, until);
    if (parts === undefined) return this.fail('unbalanced quotes in request');
    if (this.unknown && parts.length > UNKNOWN_ARGUMENTS_MAX) return this.fail('unauthenticated multibulk length');
    if (parts.length > ARGUMENTS_MAX) {
      this.refusal = {
        name: String.fromCharCode(...parts[0]!.slice(0, 128)),
        arguments: parts.length,
        longest: Math.max(...parts.map((part) => part.length)),
        bytes: until - start,
      };
      return Found.refused;
    }
    const total = parts.reduce((sum, part) => sum + part.length, 0);
    const joined = new Uint8Array(total);
    command.bytes = joined;
    command.count = parts.length;
    let at = 0;
    parts.forEach((part, i) => {
      joined.set(part, at);
      command.offsets[i] = at;
      command.lengths[i] = part.length;
      at += part.length;
    });
    return Found.command;
  }
}

/** A decimal number as Redis reads it (string2ll): no sign but minus, no leading zeros; NaN if it is none. */
function numberIn(bytes: Uint8Array, from: number, to: number): number {
  let at = from;
  const isNegative = bytes[at] === MINUS;
  if (isNegative) at++;
  if (at >= to || to - at > 15) return NaN;
  if (bytes[at] === 0x30) return to - at === 1 && !isNegative ? 0 : NaN;
  let value = 0;
  for (; at < to; at++) {
    const digit = bytes[at]! - 0x30;
    if (digit < 0 || digit > 9) return NaN;
    value = value * 10 + digit;
  }
  return isNegative ? -value : value;
}

function printableByte(byte: number): string {
  return byte >= 0x20 && byte < 0x7f ? String.fromCharCode(byte) : '?';
}

const SPACES = new Set([0x20, 0x09, 0x0a, 0x0b, 0x0c, 0x0d, 0x00]);
const QUOTE = 0x22;
const APOSTROPHE = 0x27;
const BACKSLASH = 0x5c;
const ESCAPED: Readonly<Record<string, number>> = { n: 10, r: 13, t: 9, b: 8, a: 7 };

/** The words of an inline command, quoted as Redis' sdssplitargs reads them; undefined if a quote is not closed. */
function splitLine(bytes: Uint8Array, from: number, to: number): number[][] | undefined {
  const words: number[][] = [];
  let at = from;
  for (;;) {
    while (at < to && SPACES.has(bytes[at]!)) at++;
    if (at >= to) return words;
    const word: number[] = [];
    let quote = 0;
    for (; ; at++) {
      const byte = at < to ? bytes[at]! : -1;
      if (quote === 0) {
        if (byte < 0 || SPACES.has(byte)) break;
        if (byte === QUOTE || byte === APOSTROPHE) quote = byte;
        else word.push(byte);
        continue;
      }
      if (byte < 0) return undefined;
      if (byte === quote) {
        // A closing quote has to be followed by a space, or by nothing.
        if (at + 1 < to && !SPACES.has(bytes[at + 1]!)) return undefined;
        at++;
        break;
      }
      if (byte !== BACKSLASH || at + 1 >= to) word.push(byte);
      else if (quote === APOSTROPHE) {
        if (bytes[at + 1] === APOSTROPHE) word.push(bytes[++at]!);
        else word.push(byte);
      } else {
        const hex = bytes[at + 1] === 0x78 ? hexIn(bytes, at + 2, to) : -1;
        if (hex >= 0) {
          word.push(hex);
          at += 3;
        } else {
          const next = bytes[++at]!;
          word.push(ESCAPED[String.fromCharCode(next)] ?? next);
        }
      }
    }
    words.push(word);
  }
}

function hexIn(bytes: Uint8Array, at: number, to: number): number {
  if (at + 2 > to) return -1;
  const digits = String.fromCharCode(bytes[at]!, bytes[at + 1]!);
  return /^[0-9a-fA-F]{2}$/.test(digits) ? parseInt(digits, 16) : -1;
}
