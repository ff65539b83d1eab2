/**
 * Numbers in text, as Redis reads and writes them: signed 64-bit integers in their one spelling, without a sign, spaces or
 * zeros that are not needed.
 */

/** Longest spelling of an int64. */
export const INTEGER_BYTES_MAX = 20;
/** Integers of this many digits are safe whatever they are. */
const SAFE_DIGITS = 15;
const ZERO = 0x30;
const MINUS = 0x2d;

export const INT64_MAX = 0x7fff_ffff_ffff_ffffn;
export const INT64_MIN = -0x8000_0000_0000_0000n;

/**
 * The integer that the bytes spell; NaN if they do not spell an int64. One that is not a safe integer is rounded: use
 * `readInt64` where that matters.
 */
export function readInteger(bytes: Uint8Array, offset: number, length: number): number {
  if (!spellsInteger(bytes, offset, length)) return NaN;
  const isNegative = bytes[offset] === MINUS;
  const end = offset + length;
  let at = isNegative ? offset + 1 : offset;
  if (end - at > SAFE_DIGITS) {
    const exact = readInt64(bytes, offset, length);
    return exact === undefined ? NaN : Number(exact);
  }
  let value = 0;
  for (; at < end; at++) value = value * 10 + (bytes[at]! - ZERO);
  return isNegative ? -value : value;
}

/** The int64 that the bytes spell; undefined if they do not. */
export function readInt64(bytes: Uint8Array, offset: number, length: number): bigint | undefined {
  if (!spellsInteger(bytes, offset, length)) return undefined;
  const value = BigInt(latin1(bytes, offset, length));
  return value < INT64_MIN || value > INT64_MAX ? undefined : value;
}

function spellsInteger(bytes: Uint8Array, offset: number, length: number): boolean {
  if (length === 0 || length > INTEGER_BYTES_MAX) return false;
  const isNegative = bytes[offset] === MINUS;
  const end = offset + length;
  const first = isNegative ? offset + 1 : offset;
  if (first === end) return false;
  // A zero stands alone.
  if (bytes[first] === ZERO) return length === 1;
  for (let i = first; i < end; i++) if (bytes[i]! < ZERO || bytes[i]! > ZERO + 9) return false;
  return true;
}

/** The bytes as a string of as many characters. */
export function latin1(bytes: Uint8Array, offset: number, length: number): string {
  let text = '';
  for (let i = 0; i < length; i++) text += String.fromCharCode(bytes[offset + i]!);
  return text;
}

/** Writes a string of characters below 256; returns its length. */
export function writeLatin1(target: Uint8Array, offset: number, text: string): number {
  for (let i = 0; i < text.length; i++) target[offset + i] = text.charCodeAt(i);
  return text.length;
}

/** How many bytes a safe integer takes in text. */
export function integerBytes(value: number): number {
  let length = value < 0 ? 2 : 1;
  for (let rest = Math.abs(value); rest >= 10; rest = Math.floor(rest / 10)) length++;
  return length;
}

/** Writes a safe integer as text; returns its length. */
export function writeInteger(target: Uint8Array, offset: number, value: number): number {
  const length = integerBytes(value);
  let rest = Math.abs(value);
  for (let i = offset + length - 1; rest >= 10; i--) {
    const tenth = Math.floor(rest / 10);
    target[i] = ZERO + (rest - tenth * 10);
    rest = tenth;
  }
  target[value < 0 ? offset + 1 : offset] = ZERO + rest;
  if (value < 0) target[offset] = MINUS;
  return length;
}
