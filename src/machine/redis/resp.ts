/**
 * Writes answers in RESP2 or RESP3 into a bounded buffer. What does not fit is counted but not written: the caller looks
 * at `overflows` and takes the answer back. So a command may write its answer first, and change something only if that
 * fits.
 */
import { copyBytes } from '../../wire/copy.js';
import { doubleText } from './doubles.js';
import { INTEGER_BYTES_MAX, integerBytes, writeInteger, writeLatin1 } from './numbers.js';

const CR = 0x0d;
const LF = 0x0a;
const Mark = {
  simple: 0x2b,
  error: 0x2d,
  integer: 0x3a,
  double: 0x2c,
  bulk: 0x24,
  array: 0x2a,
  map: 0x25,
  set: 0x7e,
} as const;

export class RespWriter {
  readonly bytes: Uint8Array;
  isResp3 = false;
  #from = 0;
  #at = 0;
  #limit = 0;

  constructor(length: number) {
    this.bytes = new Uint8Array(length);
  }

  /** An answer begins at `from` and has to end at or before `limit`. */
  begin(from: number, limit: number): void {
    this.#from = from;
    this.#at = from;
    this.#limit = limit;
  }

  /** The answer that began at `from` reaches to `at`; it has to end at or before `limit`. */
  resume(from: number, at: number, limit: number): void {
    this.#from = from;
    this.#at = at;
    this.#limit = limit;
  }

  /** Where the answer begins. */
  get start(): number {
    return this.#from;
  }

  /** Where it ends so far. */
  get end(): number {
    return this.#at;
  }

  /** Bytes of the answer so far, those that do not fit among them. */
  get length(): number {
    return this.#at - this.#from;
  }

  /** Bytes that the answer may have. */
  get room(): number {
    return this.#limit - this.#from;
  }

  get overflows(): boolean {
    return this.#at > this.#limit;
  }

  /** The answer, of this length, does not fit: it is not worth while to write it. */
  overflow(length: number): void {
    this.#at = Math.max(this.#limit + 1, this.#from + length);
  }

  /** Takes back what was written since the answer had this length. */
  cut(length: number): void {
    this.#at = this.#from + length;
  }

  ok(): void {
    this.simple('OK');
  }

  simple(text: string): void {
    this.#line(Mark.simple, text);
  }

  /** @param text with its code, such as `ERR`. Ends of lines in it become spaces. */
  error(text: string): void {
    this.#line(Mark.error, /[\r\n]/.test(text) ? text.replace(/[\r\n]/g, ' ') : text);
  }

  integer(value: number): void {
    this.#head(Mark.integer, value);
  }

  /** An integer that is given as text. */
  integerText(text: string): void {
    this.#line(Mark.integer, text);
  }

  /** A double; in RESP2 its text as a bulk string. */
  double(value: number): void {
    if (this.isResp3) this.#line(Mark.double, doubleText(value));
    else this.bulkText(doubleText(value));
  }

  nil(): void {
    if (this.isResp3) this.#line(0x5f, '');
    else this.#line(Mark.bulk, '-1');
  }

  nilArray(): void {
    if (this.isResp3) this.#line(0x5f, '');
    else this.#line(Mark.array, '-1');
  }

  bulk(bytes: Uint8Array, offset: number, length: number): void {
    this.#head(Mark.bulk, length);
    if (this.#fits(length + 2)) {
      copyBytes(bytes, offset, this.bytes, this.#at, length);
      this.bytes[this.#at + length] = CR;
      this.bytes[this.#at + length + 1] = LF;
    }
    this.#at += length + 2;
  }

  bulkText(text: string): void {
    this.#head(Mark.bulk, text.length);
    this.#text(text);
  }

  array(count: number): void {
    this.#head(Mark.array, count);
  }

  /** A map of this many pairs; in RESP2 an array of keys and values in turns. */
  map(count: number): void {
    if (this.isResp3) this.#head(Mark.map, count);
    else this.#head(Mark.array, 2 * count);
  }

  /** A set; in RESP2 an array. */
  set(count: number): void {
    this.#head(this.isResp3 ? Mark.set : Mark.array, count);
  }

  #head(mark: number, value: number): void {
    if (!Number.isSafeInteger(value)) return this.#line(mark, BigInt(value).toString());
    if (this.#fits(INTEGER_BYTES_MAX + 3)) {
      const { bytes } = this;
      bytes[this.#at] = mark;
      const end = this.#at + 1 + writeInteger(bytes, this.#at + 1, value);
      bytes[end] = CR;
      bytes[end + 1] = LF;
      this.#at = end + 2;
      return;
    }
    // Close to the limit, or beyond it.
    const length = 3 + integerBytes(value);
    if (this.#fits(length)) {
      this.bytes[this.#at] = mark;
      writeInteger(this.bytes, this.#at + 1, value);
      this.bytes[this.#at + length - 2] = CR;
      this.bytes[this.#at + length - 1] = LF;
    }
    this.#at += length;
  }

  #line(mark: number, text: string): void {
    if (this.#fits(1)) this.bytes[this.#at] = mark;
    this.#at++;
    this.#text(text);
  }

  #text(text: string): void {
    const length = text.length + 2;
    if (this.#fits(length)) {
      writeLatin1(this.bytes, this.#at, text);
      this.bytes[this.#at + length - 2] = CR;
      this.bytes[this.#at + length - 1] = LF;
    }
    this.#at += length;
  }

  #fits(length: number): boolean {
    return this.#at + length <= this.#limit;
  }
}
