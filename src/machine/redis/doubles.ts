/** Doubles in text, as Redis 7.0 reads and writes them: with strtod() and `%.17g` of C. */
import { latin1 } from './numbers.js';

const DIGITS = 17;
/** From this power of ten on, and below the other one, `%.17g` writes an exponent. */
const EXPONENT_MAX = 17;
const EXPONENT_MIN = -4;
/** More digits than a double between two neighbours of DIGITS digits can have, if it is exactly in the middle. */
const TIE_DIGITS = 40;
const PLAIN_LIMIT = 1e15;
const TWO_500 = 2 ** 500;
const MANTISSA_BITS = 53;
/** The smallest double is 2 to this. */
const EXPONENT_LEAST = -1074;

// Digits can be read in one way only, as in long-double.ts.
const DECIMAL = /^[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?$/;
const HEXADECIMAL = /^([+-]?)0[xX]([\da-fA-F]*)(?:\.([\da-fA-F]*))?(?:[pP]([+-]?\d+))?$/;
const INFINITE = /^([+-]?)inf(?:inity)?$/i;
const ZERO = /^[+-]?(?:0[xX][0.]*(?:[pP]|$)|[0.]*(?:[eE]|$))/;
const SPACES = /^[ \t\n\v\f\r]+/;
/** An exponent that a text names is taken for no more than this; it is beyond what 64 KiB of digits make up for. */
const NAMED_EXPONENT_MAX = 1_000_000;

/** The number that the bytes spell; undefined: none, or one that is too large or too small for a double. */
export function readDouble(bytes: Uint8Array, offset: number, length: number): number | undefined {
  return inRange(latin1(bytes, offset, length));
}

/** What SORT sorts by, as Redis reads it: up to a zero byte, behind spaces, and nothing as 0. */
export function readWeight(weight: string): number | undefined {
  const [text = ''] = weight.split('\0', 1);
  return text === '' ? 0 : inRange(text.replace(SPACES, ''));
}

function inRange(text: string): number | undefined {
  const value = parse(text);
  if (value === undefined || INFINITE.test(text)) return value;
  if (!Number.isFinite(value)) return undefined;
  return value === 0 && !ZERO.test(text) ? undefined : value;
}

/**
 * The end of a range of scores. Redis reads these less strictly: up to a zero byte, behind spaces, nothing as 0, and
 * numbers that are too large or too small as the nearest double.
 */
export function readScoreBound(bytes: Uint8Array, offset: number, length: number): number | undefined {
  const [text = ''] = latin1(bytes, offset, length).split('\0', 1);
  return text === '' ? 0 : parse(text.replace(SPACES, ''));
}

function parse(text: string): number | undefined {
  if (DECIMAL.test(text)) return Number(text);
  const infinite = INFINITE.exec(text);
  if (infinite !== null) return infinite[1] === '-' ? -Infinity : Infinity;
  const hexadecimal = HEXADECIMAL.exec(text);
  if (hexadecimal === null) return undefined;
  const [, sign, whole = '', fraction = '', named] = hexadecimal;
  const digits = whole + fraction;
  if (digits === '') return undefined;
  const exponent =
    Math.max(-NAMED_EXPONENT_MAX, Math.min(NAMED_EXPONENT_MAX, Number(named ?? 0))) - 4 * fraction.length;
  const magnitude = scaled(BigInt(`0x${digits}`), exponent);
  return sign === '-' ? -magnitude : magnitude;
}

/** mantissa · 2^exponent, rounded once, to an even digit if it is in the middle. */
function scaled(mantissa: bigint, exponent: number): number {
  const bits = mantissa === 0n ? 0 : mantissa.toString(2).length;
  if (bits === 0 || bits + exponent < EXPONENT_LEAST) return 0;
  // What is cut off: digits that no double has, or that the smallest ones do not have.
  const shift = Math.max(0, bits - MANTISSA_BITS, EXPONENT_LEAST - exponent);
  let value = Number(shift === 0 ? mantissa : rounded(mantissa, BigInt(shift)));
  // Exact from here on. It takes steps, because a power of two alone need not be a double.
  let left = exponent + shift;
  for (; left > 500 && value < Infinity; left -= 500) value *= TWO_500;
  for (; left < -500 && value > 0; left += 500) value /= TWO_500;
  return value * 2 ** Math.min(500, left);
}

/** mantissa / 2^shift. */
function rounded(mantissa: bigint, shift: bigint): bigint {
  const kept = mantissa >> shift;
  const cut = mantissa - (kept << shift);
  const half = 1n << (shift - 1n);
  return cut > half || (cut === half && (kept & 1n) === 1n) ? kept + 1n : kept;
}

/** `%.17g`. */
export function doubleText(value: number): string {
  if (Number.isInteger(value) && Math.abs(value) < PLAIN_LIMIT) return Object.is(value, -0) ? '-0' : String(value);
  if (!Number.isFinite(value)) return Number.isNaN(value) ? 'nan' : value > 0 ? 'inf' : '-inf';
  const [mantissa = '', named] = roundedToEven(value).split('e');
  const exponent = Number(named);
  const sign = mantissa.startsWith('-') ? '-' : '';
  const digits = mantissa.replace(/[-.]/g, '').replace(/0+$/, '');
  if (exponent < EXPONENT_MIN || exponent >= EXPONENT_MAX) {
    const fraction = digits.slice(1);
    const power = String(Math.abs(exponent)).padStart(2, '0');
    return `${sign}${digits[0]}${fraction === '' ? '' : `.${fraction}`}e${exponent < 0 ? '-' : '+'}${power}`;
  }
  if (exponent < 0) return `${sign}0.${'0'.repeat(-exponent - 1)}${digits}`;
  if (digits.length <= exponent + 1) return sign + digits.padEnd(exponent + 1, '0');
  return `${sign}${digits.slice(0, exponent + 1)}.${digits.slice(exponent + 1)}`;
}

/** `%.16e`. JavaScript rounds a number that is in the middle up, C to an even digit. */
function roundedToEven(value: number): string {
  const text = value.toExponential(DIGITS - 1);
  const [more = ''] = value.toExponential(DIGITS).split('e');
  if (!more.endsWith('5')) return text;
  const [all = ''] = value.toExponential(TIE_DIGITS).split('e');
  if (!/^0*$/.test(all.slice(more.length))) return text;
  const [, exponent] = value.toExponential(DIGITS).split('e');
  const cut = more.slice(0, -1);
  return (cut.charCodeAt(cut.length - 1) - 0x30) % 2 === 0 ? `${cut}e${exponent}` : text;
}
