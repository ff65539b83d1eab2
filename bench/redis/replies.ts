/** Cuts what a server sends into whole replies of RESP2, for a load that needs little of them. */

const LF = 0x0a;
const ARRAY = '*'.charCodeAt(0);
const BULK = '$'.charCodeAt(0);
const ERROR = '-'.charCodeAt(0);
const MINUS = ERROR;
const ZERO = '0'.charCodeAt(0);

/** Where the reply that begins at `at` ends; -1: not all of it is there. */
function endOf(bytes: Uint8Array, at: number): number {
  const lineEnd = bytes.indexOf(LF, at);
  if (lineEnd < 0) return -1;
  let end = lineEnd + 1;
  const kind = bytes[at];
  if (kind !== BULK && kind !== ARRAY) return end;
  const count = numberAt(bytes, at + 1);
  if (count < 0) return end;
  if (kind === BULK) {
    end += count + 2;
    return end <= bytes.length ? end : -1;
  }
  for (let i = 0; i < count; i++) {
    end = endOf(bytes, end);
    if (end < 0) return -1;
  }
  return end;
}

/** The number in a line. */
function numberAt(bytes: Uint8Array, at: number): number {
  const isNegative = bytes[at] === MINUS;
  let value = 0;
  for (let i = isNegative ? at + 1 : at; bytes[i]! >= ZERO; i++) value = value * 10 + bytes[i]! - ZERO;
  return isNegative ? -value : value;
}

/** One reply, looked at where it is: it is valid until the next chunk comes. */
export class Reply {
  constructor(private readonly bytes: Buffer) {}

  get isError(): boolean {
    return this.bytes[0] === ERROR;
  }

  /** Null, an empty array, or the number 0. */
  get isNothing(): boolean {
    return this.count <= 0;
  }

  /** Of an array or a bulk: its length. Of a number: itself. Of a word: 1. */
  get count(): number {
    return this.bytes[0] === '+'.charCodeAt(0) ? 1 : numberAt(this.bytes, 1);
  }

  /** Everything up to the end of its first line. */
  get line(): string {
    return this.bytes.toString('latin1', 0, this.bytes.indexOf(LF) - 1);
  }

  /** The texts of an array of bulks, a byte a character. */
  texts(): string[] {
    const { bytes, count } = this;
    let at = bytes.indexOf(LF) + 1;
    return Array.from({ length: count }, () => {
      const from = bytes.indexOf(LF, at) + 1;
      at = from + numberAt(bytes, at + 1) + 2;
      return bytes.toString('latin1', from, at - 2);
    });
  }
}

export class Replies {
  private rest: Buffer = Buffer.alloc(0);

  constructor(private readonly found: (reply: Reply) => void) {}

  push(chunk: Buffer): void {
    const bytes = this.rest.length === 0 ? chunk : Buffer.concat([this.rest, chunk]);
    let at = 0;
    while (at < bytes.length) {
      const end = endOf(bytes, at);
      if (end < 0) break;
      this.found(new Reply(bytes.subarray(at, end)));
      at = end;
    }
    this.rest = bytes.subarray(at);
  }
}
