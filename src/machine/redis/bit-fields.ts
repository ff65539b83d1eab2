/** BITOP, BITFIELD and BITFIELD_RO. Bit 0 is the highest one of the first byte, and of a field. */
import { KEEP_HOLD } from '../kv-layout.js';
import { NOT_AN_INTEGER, SYNTAX_ERROR, WRONG_TYPE, type Call, type Handler } from './call.js';
import { readInt64 } from './numbers.js';
import { stringFits } from './strings.js';

const BAD_TYPE = 'ERR Invalid bitfield type. Use something like i16 u8. Note that u64 is not supported but i64 is.';
const BAD_OFFSET = 'ERR bit offset is not an integer or out of range';
/** Redis' own bound: 512 MiB. */
const OFFSET_LIMIT = 2n ** 32n;
const SIGN = 0x23;

/** BITOP AND | OR | XOR | NOT destination key … */
function bitop(call: Call): void {
  const { records } = call.store;
  const operator = ['and', 'or', 'xor', 'not'].findIndex((name) => call.is(1, name));
  if (operator < 0) return call.error(SYNTAX_ERROR);
  if (operator === 3 && call.argc !== 4) return call.error('ERR BITOP NOT must be called with a single source key.');
  let length = 0;
  let bytes = 0;
  for (let i = 3; i < call.argc; i++) {
    const id = call.findString(i);
    if (id === WRONG_TYPE) return;
    length = Math.max(length, id < 0 ? 0 : records.valueLength(id));
    bytes += id < 0 ? 0 : records.valueLength(id);
  }
  if (!call.keyFits(2) || !call.fewBytes(bytes)) return;
  call.scanned(bytes);
  const { value } = call;
  for (let i = 3; i < call.argc; i++) {
    const id = call.findString(i);
    const own = id < 0 ? 0 : records.valueLength(id);
    const source = id < 0 ? value : records.valueBytes(id);
    const from = id < 0 ? 0 : records.valueOffset(id);
    for (let at = 0; at < length; at++) {
      // Behind its end a value is zero.
      const byte = at < own ? source[from + at]! : 0;
      if (i === 3) value[at] = operator === 3 ? ~byte : byte;
      else if (operator === 0) value[at]! &= byte;
      else if (operator === 1) value[at]! |= byte;
      else value[at]! ^= byte;
    }
  }
  if (length === 0) call.remove(2);
  else if (!call.put(2, value, 0, length)) return;
  call.out.integer(length);
}

type Overflow = 'wrap' | 'sat' | 'fail';

interface FieldOperation {
  readonly name: 'get' | 'set' | 'incrby';
  readonly isSigned: boolean;
  readonly bits: number;
  readonly offset: number;
  readonly value: bigint;
  readonly overflow: Overflow;
}

/** Undefined: an error, which is the answer. */
function readOperations(call: Call): FieldOperation[] | undefined {
  const refused = (error: string): undefined => {
    call.error(error);
    return undefined;
  };
  const operations: FieldOperation[] = [];
  let overflow: Overflow = 'wrap';
  for (let i = 2; i < call.argc; ) {
    const left = call.argc - i - 1;
    if (call.is(i, 'overflow') && left >= 1) {
      const kind = (['wrap', 'sat', 'fail'] as const).find((one) => call.is(i + 1, one));
      if (kind === undefined) return refused('ERR Invalid OVERFLOW type specified');
      overflow = kind;
      i += 2;
      continue;
    }
    const name = (['get', 'set', 'incrby'] as const).find((one) => call.is(i, one));
    if (name === undefined || left < (name === 'get' ? 2 : 3)) return refused(SYNTAX_ERROR);
    const type = /^([iu])([1-9]\d?)$/.exec(call.text(i + 1));
    const bits = Number(type?.[2]);
    const isSigned = type?.[1] === 'i';
    if (type === null || bits > (isSigned ? 64 : 63)) return refused(BAD_TYPE);
    const offset = readOffset(call, i + 2, bits);
    if (offset === undefined) return refused(BAD_OFFSET);
    const value = name === 'get' ? 0n : call.int64(i + 3);
    if (value === undefined) return refused(NOT_AN_INTEGER);
    operations.push({ name, isSigned, bits, offset, value, overflow });
    i += name === 'get' ? 3 : 4;
  }
  return operations;
}

/** The offset of a field; behind `#` a number of fields of this width. */
function readOffset(call: Call, index: number, bits: number): number | undefined {
  const at = call.starts[index]!;
  const length = call.lengths[index]!;
  const isCounted = length > 0 && call.bytes[at] === SIGN;
  const given = readInt64(call.bytes, isCounted ? at + 1 : at, isCounted ? length - 1 : length);
  if (given === undefined) return undefined;
  const offset = isCounted ? given * BigInt(bits) : given;
  return offset >= 0n && offset < OFFSET_LIMIT ? Number(offset) : undefined;
}

/** @param length of the value: behind it all bits are zero */
function fieldAt(value: Uint8Array, length: number, { offset, bits, isSigned }: FieldOperation): bigint {
  let field = 0n;
  for (let at = offset; at < offset + bits; at++) {
    const byte = at < 8 * length ? value[Math.floor(at / 8)]! : 0;
    field = (field << 1n) | BigInt((byte >> (7 - (at % 8))) & 1);
  }
  return isSigned ? BigInt.asIntN(bits, field) : field;
}

function setField(value: Uint8Array, { offset, bits }: FieldOperation, field: bigint): void {
  const raw = BigInt.asUintN(bits, field);
  for (let i = 0; i < bits; i++) {
    const at = offset + i;
    const mask = 0x80 >> (at % 8);
    const isSet = ((raw >> BigInt(bits - 1 - i)) & 1n) === 1n;
    if (isSet) value[Math.floor(at / 8)]! |= mask;
    else value[Math.floor(at / 8)]! &= ~mask;
  }
}

/** What a field becomes; undefined: it stays, because the number does not fit. */
function fitted({ isSigned, bits, overflow }: FieldOperation, number: bigint): bigint | undefined {
  const max = 2n ** BigInt(isSigned ? bits - 1 : bits) - 1n;
  const min = isSigned ? -max - 1n : 0n;
  if (number >= min && number <= max) return number;
  if (overflow === 'fail') return undefined;
  if (overflow === 'sat') return number > max ? max : min;
  return isSigned ? BigInt.asIntN(bits, number) : BigInt.asUintN(bits, number);
}

/** BITFIELD key [GET type offset | [OVERFLOW WRAP | SAT | FAIL] SET type offset value | INCRBY type offset n] … */
function bitfield(isReadOnly: boolean): Handler {
  return (call) => {
    const { out, value } = call;
    const operations = readOperations(call);
    if (operations === undefined) return;
    const writes = operations.filter(({ name }) => name !== 'get');
    if (isReadOnly && writes.length > 0) return call.error('ERR BITFIELD_RO only supports the GET subcommand');
    const id = call.findString(1);
    if (id === WRONG_TYPE) return;
    const before = id < 0 ? 0 : call.store.records.valueLength(id);
    const length = writes.reduce(
      (most, { offset, bits }) => Math.max(most, Math.floor((offset + bits + 7) / 8)),
      before,
    );
    if (writes.length > 0 && (!stringFits(call, length) || !call.canPut(1, length))) return;
    if (id >= 0) call.copyValue(id);
    value.fill(0, before, length);
    call.work += operations.length;
    out.array(operations.length);
    let isChanged = length > before;
    for (const operation of operations) {
      const old = fieldAt(value, length, operation);
      if (operation.name === 'get') {
        out.integerText(old.toString());
        continue;
      }
      const isSet = operation.name === 'set';
      // A negative number is a large one without a sign.
      const given = isSet && !operation.isSigned ? BigInt.asUintN(64, operation.value) : operation.value;
      const field = fitted(operation, isSet ? given : old + given);
      if (field === undefined) {
        out.nil();
        continue;
      }
      setField(value, operation, field);
      isChanged = true;
      out.integerText((isSet ? old : field).toString());
    }
    if (isChanged && !out.overflows) call.put(1, value, 0, length, KEEP_HOLD);
  };
}

export const BIT_FIELD_HANDLERS: Readonly<Record<string, Handler>> = {
  bitop,
  bitfield: bitfield(false),
  bitfield_ro: bitfield(true),
};
