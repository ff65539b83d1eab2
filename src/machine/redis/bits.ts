/** SETBIT, GETBIT, BITCOUNT and BITPOS. Bit 0 is the highest one of the first byte. */
import { KEEP_HOLD } from '../kv-layout.js';
import { NOT_AN_INTEGER, SYNTAX_ERROR, WRONG_TYPE, type Call, type Handler } from './call.js';
import { stringFits } from './strings.js';

/** Redis' own bound: 512 MiB. */
const OFFSET_LIMIT = 2 ** 32;

function bitOffset(call: Call): number {
  const offset = call.integer(2);
  if (offset >= 0 && offset < OFFSET_LIMIT) return offset;
  call.error('ERR bit offset is not an integer or out of range');
  return NaN;
}

/** SETBIT key offset value */
function setbit(call: Call): void {
  const offset = bitOffset(call);
  if (Number.isNaN(offset)) return;
  const bit = call.integer(3);
  if (bit !== 0 && bit !== 1) return call.error('ERR bit is not an integer or out of range');
  const id = call.findString(1);
  if (id === WRONG_TYPE) return;
  const at = Math.floor(offset / 8);
  const before = id < 0 ? 0 : call.copyValue(id);
  const length = Math.max(before, at + 1);
  if (!stringFits(call, length)) return;
  call.value.fill(0, before, length);
  const mask = 0x80 >> (offset % 8);
  const old = (call.value[at]! & mask) === 0 ? 0 : 1;
  call.value[at] = bit === 1 ? call.value[at]! | mask : call.value[at]! & ~mask;
  if (call.put(1, call.value, 0, length, KEEP_HOLD)) call.out.integer(old);
}

function getbit(call: Call): void {
  const offset = bitOffset(call);
  if (Number.isNaN(offset)) return;
  const id = call.findString(1);
  if (id === WRONG_TYPE) return;
  const { records } = call.store;
  const at = Math.floor(offset / 8);
  if (id < 0 || at >= records.valueLength(id)) return call.out.integer(0);
  const byte = records.valueBytes(id)[records.valueOffset(id) + at]!;
  call.out.integer((byte >> (7 - (offset % 8))) & 1);
}

/** A range of bits, from the first to behind the last. */
interface BitRange {
  from: number;
  to: number;
}

/**
 * Reads `start [end [BYTE | BIT]]` at argument `index`, for a value of this many bytes. False: an error, which is the
 * answer. `to` at or below `from`: there is no bit. The two commands differ in the order of their checks, as in Redis.
 */
function readRange(call: Call, index: number, bytes: number, isCount: boolean, range: BitRange): boolean {
  const hasEnd = index + 1 < call.argc;
  const unitAt = index + 2;
  const isBits = unitAt < call.argc && call.is(unitAt, 'bit');
  const isUnknown = unitAt < call.argc && !isBits && !call.is(unitAt, 'byte');
  const total = isBits ? 8 * bytes : bytes;
  let start = call.integer(index);
  let end = hasEnd ? call.integer(index + 1) : total - 1;
  if (Number.isNaN(start)) return refused(call, NOT_AN_INTEGER);
  if (isUnknown && !isCount) return refused(call, SYNTAX_ERROR);
  if (Number.isNaN(end)) return refused(call, NOT_AN_INTEGER);
  range.from = 0;
  range.to = 0;
  if (isCount && start < 0 && end < 0 && start > end) return true;
  if (isUnknown) return refused(call, SYNTAX_ERROR);
  if (start < 0) start = Math.max(0, total + start);
  if (end < 0) end = Math.max(0, total + end);
  end = Math.min(end, total - 1);
  const unit = isBits ? 1 : 8;
  range.from = unit * start;
  range.to = start > end ? range.from : unit * (end + 1);
  return true;
}

function refused(call: Call, error: string): false {
  call.error(error);
  return false;
}

/** BITCOUNT key [start end [BYTE | BIT]] */
function bitcount(call: Call): void {
  const id = call.findString(1);
  if (id === WRONG_TYPE) return;
  if (id < 0) return call.out.integer(0);
  if (call.argc === 3 || call.argc > 5) return call.error(SYNTAX_ERROR);
  const { records } = call.store;
  const bytes = records.valueLength(id);
  const range = { from: 0, to: 8 * bytes };
  if (call.argc > 2 && !readRange(call, 2, bytes, true, range)) return;
  call.scanned(Math.max(0, range.to - range.from) / 8);
  let count = 0;
  const value = records.valueBytes(id);
  const at = records.valueOffset(id);
  for (let bit = range.from; bit < range.to; ) {
    const byte = value[at + (bit >> 3)]!;
    if ((bit & 7) === 0 && bit + 8 <= range.to) {
      for (let rest = byte; rest !== 0; rest &= rest - 1) count++;
      bit += 8;
    } else {
      count += (byte >> (7 - (bit & 7))) & 1;
      bit++;
    }
  }
  call.out.integer(count);
}

/** BITPOS key bit [start [end [BYTE | BIT]]] */
function bitpos(call: Call): void {
  const { out } = call;
  const wanted = call.integerOrError(2);
  if (Number.isNaN(wanted)) return;
  if (wanted !== 0 && wanted !== 1) return call.error('ERR The bit argument must be 1 or 0.');
  const id = call.findString(1);
  if (id === WRONG_TYPE) return;
  if (id < 0) return out.integer(wanted === 1 ? -1 : 0);
  if (call.argc > 6) return call.error(SYNTAX_ERROR);
  const { records } = call.store;
  const bytes = records.valueLength(id);
  const range = { from: 0, to: 8 * bytes };
  if (call.argc > 3 && !readRange(call, 3, bytes, false, range)) return;
  const value = records.valueBytes(id);
  const at = records.valueOffset(id);
  call.scanned(Math.max(0, range.to - range.from) / 8);
  const whole = wanted === 1 ? 0 : 0xff;
  for (let bit = range.from; bit < range.to; ) {
    const byte = value[at + (bit >> 3)]!;
    if ((bit & 7) === 0 && bit + 8 <= range.to && byte === whole) bit += 8;
    else if (((byte >> (7 - (bit & 7))) & 1) === wanted) return out.integer(bit);
    else bit++;
  }
  // Behind the end of the value all bits are 0, unless the range has an end of its own.
  out.integer(wanted === 0 && call.argc < 5 && range.to > range.from ? range.to : -1);
}

export const BIT_HANDLERS: Readonly<Record<string, Handler>> = { setbit, getbit, bitcount, bitpos };
