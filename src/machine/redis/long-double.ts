/**
 * The `long double` of x86, in which Redis counts INCRBYFLOAT and HINCRBYFLOAT: 64 bits of mantissa, rounded to the
 * nearest, ties to even. In doubles, 3 + 0.1 + 0.2 would be written with other digits than Redis writes. Numbers too
 * small for a normal long double are not rounded once more, which changes none of the 17 decimals that are written.
 */
import { latin1 } from './numbers.js';

/** mantissa · 2^exponent, or an infinity of the mantissa's sign. */
export interface LongDouble {
  readonly mantissa: bigint;
  readonly exponent: number;
  readonly isInfinite: boolean;
}

const MANTISSA_BITS = 64;
/** The largest number is below 2^16384. */
const BITS_MAX = 16_384;
/** Longest text that Redis reads. */
const TEXT_BYTES_MAX = 5 * 1024 - 1;
/** Beyond these powers of ten nothing is left, whatever the digits. */
const DECIMAL_EXPONENT_MAX = 4_933;
const DECIMAL_EXPONENT_MIN = -4_951;
/** The exponent that a text names is taken for no more than this. It is beyond the others by more than a text's digits. */
const NAMED_EXPONENT_MAX = 1_000_000;
const DECIMALS = 17;
const SCALE = 10n ** BigInt(DECIMALS);

// Digits can be read in one way only: otherwise a text that is no number takes the square of its length.
const DECIMAL = /^([+-]?)(\d*)(?:\.(\d*))?(?:[eE]([+-]?\d+))?$/;
const HEXADECIMAL = /^([+-]?)0[xX]([\da-fA-F]*)(?:\.([\da-fA-F]*))?(?:[pP]([+-]?\d+))?$/;
const INFINITE = /^([+-]?)inf(?:inity)?$/i;

/** The number that the bytes spell as strtold() reads it; undefined: none, or one that is too large or too small. */
export function readLongDouble(bytes: Uint8Array, offset: number, length: number): LongDouble | undefined {
  if (length === 0 || length > TEXT_BYTES_MAX) return undefined;
  const text = latin1(bytes, offset, length);
  const infinite = INFINITE.exec(text);
  if (infinite !== null) return { mantissa: infinite[1] === '-' ? -1n : 1n, exponent: 0, isInfinite: true };
  const hexadecimal = HEXADECIMAL.exec(text);
  if (hexadecimal !== null) return readDigits(hexadecimal, 16);
  const decimal = DECIMAL.exec(text);
  return decimal === null ? undefined : readDigits(decimal, 10);
}

function readDigits(parts: RegExpExecArray, base: 10 | 16): LongDouble | undefined {
  const [, sign, whole = '', fraction = '', named] = parts;
  const digits = whole + fraction;
  if (digits === '') return undefined;
  const value = BigInt(base === 16 ? `0x${digits}` : digits);
  if (value === 0n) return { mantissa: 0n, exponent: 0, isInfinite: false };
  const exponent = Math.max(-NAMED_EXPONENT_MAX, Math.min(NAMED_EXPONENT_MAX, Number(named ?? 0)));
  const signed = sign === '-' ? -value : value;
  if (base === 16) {
    const read = rounded(signed, 1n, exponent - 4 * fraction.length);
    return read.isInfinite || bitsOf(value) + read.exponent < -2 * BITS_MAX ? undefined : read;
  }
  const power = exponent - fraction.length;
  const magnitude = value.toString().length + power;
  if (magnitude > DECIMAL_EXPONENT_MAX || magnitude < DECIMAL_EXPONENT_MIN) return undefined;
  const read = power >= 0 ? rounded(signed * 10n ** BigInt(power), 1n, 0) : rounded(signed, 10n ** BigInt(-power), 0);
  return read.isInfinite ? undefined : read;
}

/** Infinite, or NaN as undefined, if the sum is. */
export function addLongDoubles(a: LongDouble, b: LongDouble): LongDouble | undefined {
  if (a.isInfinite || b.isInfinite) {
    if (a.isInfinite && b.isInfinite && a.mantissa !== b.mantissa) return undefined;
    return a.isInfinite ? a : b;
  }
  const exponent = Math.min(a.exponent, b.exponent);
  const sum = (a.mantissa << BigInt(a.exponent - exponent)) + (b.mantissa << BigInt(b.exponent - exponent));
  return rounded(sum, 1n, exponent);
}

/** As Redis writes it for people: up to 17 decimals, without zeros at the end. */
export function longDoubleText({ mantissa, exponent }: LongDouble): string {
  const magnitude = mantissa < 0n ? -mantissa : mantissa;
  const scaled = magnitude * SCALE;
  const units = exponent >= 0 ? scaled << BigInt(exponent) : quotient(scaled, 1n << BigInt(-exponent));
  const digits = units.toString().padStart(DECIMALS + 1, '0');
  const fraction = digits.slice(-DECIMALS).replace(/0+$/, '');
  const text = digits.slice(0, -DECIMALS) + (fraction === '' ? '' : `.${fraction}`);
  return mantissa < 0n && text !== '0' ? `-${text}` : text;
}

/** numerator / denominator · 2^exponent with 64 bits of mantissa. */
function rounded(numerator: bigint, denominator: bigint, exponent: number): LongDouble {
  if (numerator === 0n) return { mantissa: 0n, exponent: 0, isInfinite: false };
  const isNegative = numerator < 0n;
  const magnitude = isNegative ? -numerator : numerator;
  // The quotient of these has 64 or 65 bits before it is rounded.
  let shift = bitsOf(magnitude) - bitsOf(denominator) - MANTISSA_BITS;
  const bits = bitsOf(
    shift >= 0 ? magnitude / (denominator << BigInt(shift)) : (magnitude << BigInt(-shift)) / denominator,
  );
  shift += bits - MANTISSA_BITS;
  const mantissa =
    shift >= 0 ? quotient(magnitude, denominator << BigInt(shift)) : quotient(magnitude << BigInt(-shift), denominator);
  return {
    mantissa: isNegative ? -mantissa : mantissa,
    exponent: exponent + shift,
    isInfinite: bitsOf(mantissa) + exponent + shift > BITS_MAX,
  };
}

/** Rounded to the nearest, ties to even. */
function quotient(numerator: bigint, denominator: bigint): bigint {
  const whole = numerator / denominator;
  const twice = 2n * (numerator - whole * denominator);
  return twice > denominator || (twice === denominator && (whole & 1n) === 1n) ? whole + 1n : whole;
}

function bitsOf(value: bigint): number {
  const digits = value.toString(16);
  return 4 * digits.length - Math.clz32(Number.parseInt(digits[0]!, 16)) + 28;
}
