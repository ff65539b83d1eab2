/**
 * One table for each message. The table is the source of its offsets, its validation and its drawing in the docs, for
 * both wire versions that are spoken, so that these cannot disagree.
 *
 * A message is a msgpack array `[type, field…]`. Every field has a fixed width and therefore a constant offset. Only
 * the last field may be bytes of variable length. Any msgpack decoder reads a message. This code reads a field at
 * `bytes[offset + Message.at.field]`, after `validate` has checked that the markers stand where the table says.
 */

import { PREVIOUS_WIRE_VERSION, WIRE_VERSION } from './versions.js';

/** msgpack marker, and width in bytes of the value after it. */
const KINDS = {
  u8: { marker: 0xcc, width: 1 },
  u16: { marker: 0xcd, width: 2 },
  u32: { marker: 0xce, width: 4 },
  u64: { marker: 0xcf, width: 8 },
  i32: { marker: 0xd2, width: 4 },
  /** `width` is the width of the length; the bytes follow. Last field only. */
  bin16: { marker: 0xc5, width: 2 },
} as const;

export type FieldKind = keyof typeof KINDS;
/**
 * A field of every version, of versions from `since` on, or of versions up to `until`. In a version without the field
 * it reads as zero, or as no bytes. So that value must mean the behaviour of the version without the field.
 */
export type Field =
  | FieldKind
  | { readonly kind: FieldKind; readonly since: number }
  | { readonly kind: FieldKind; readonly until: number };
export type Fields = Readonly<Record<string, Field>>;
/** Names of the fields of the current version. */
type Present<F extends Fields> = keyof {
  readonly [K in keyof F as F[K] extends { readonly until: number } ? never : K]: 0;
};

/** A message in the layout of one version of the wire. */
export interface Layout<Name extends PropertyKey = string> {
  readonly name: string;
  /** First element of the array, a positive fixint (below 128). */
  readonly type: number;
  readonly fields: Readonly<Record<Name, FieldKind>>;
  /** Offset of each field's value from the start of the message; for bytes, the offset of their u16 length. */
  readonly at: Readonly<Record<Name, number>>;
  /** Length of the message without its trailing bytes, which begin there. */
  readonly size: number;
  /** The message ends in bytes. */
  readonly hasBytes: boolean;
  /** The message with all values zero, to be copied and filled in. */
  readonly template: Uint8Array;
  /** The bytes that never change (array header, type and markers): offset << 8 | value. */
  readonly marks: Uint16Array;
  /** The same marks, up to four bytes at a time: offset, mask and value of little-endian words. Three numbers each. */
  readonly markWords: Int32Array;
}

/** A message of the current version, which the cores read and write, with its form in the previous version. */
export interface Message<F extends Fields = Fields, T extends number = number> extends Layout<Present<F>> {
  readonly type: T;
  /** The same object if both versions have the same layout; undefined if the previous one lacks the message. */
  readonly previous: Layout | undefined;
  /** First version that has the message. */
  readonly since: number;
}

/** Builds the layouts of a message from its fields, in order. Throws if the table itself is wrong. */
export function defineMessage<const F extends Fields, const T extends number>(
  name: string,
  type: T,
  fields: F,
  since = PREVIOUS_WIRE_VERSION,
): Message<F, T> {
  if (!Number.isInteger(type) || type < 1 || type > 127)
    throw new Error(`message ${name}: type ${type} is not a positive fixint`);
  checkVersion(name, since);
  for (const field of Object.values(fields)) {
    if (typeof field === 'object') checkVersion(name, 'since' in field ? field.since : field.until + 1);
  }
  const present = fieldsIn(fields, WIRE_VERSION);
  const before = since > PREVIOUS_WIRE_VERSION ? undefined : fieldsIn(fields, PREVIOUS_WIRE_VERSION);
  const message: Layout & { previous: Layout | undefined; since: number } = {
    ...layOut(name, type, present),
    previous: undefined,
    since,
  };
  if (before !== undefined)
    message.previous =
      JSON.stringify(before) === JSON.stringify(present) ? message : Object.freeze(layOut(name, type, before));
  return Object.freeze(message) as unknown as Message<F, T>;
}

/** A field or message that began or ended before the spoken versions does not belong in the tables. */
function checkVersion(name: string, begins: number): void {
  if (begins !== PREVIOUS_WIRE_VERSION && begins !== WIRE_VERSION)
    throw new Error(
      `message ${name}: version ${begins} is neither ${PREVIOUS_WIRE_VERSION} nor ${WIRE_VERSION}, the versions that are spoken`,
    );
}

function fieldsIn(fields: Fields, version: number): Record<string, FieldKind> {
  const chosen = Object.entries(fields).filter(
    ([, field]) => typeof field === 'string' || ('since' in field ? field.since <= version : field.until >= version),
  );
  return Object.fromEntries(chosen.map(([field, spec]) => [field, typeof spec === 'string' ? spec : spec.kind]));
}

function layOut(name: string, type: number, fields: Readonly<Record<string, FieldKind>>): Layout {
  const names = Object.keys(fields);
  if (names.length > 14) throw new Error(`message ${name}: ${names.length} fields do not fit a fixarray with the type`);
  const fixed: [number, number][] = [
    [0, 0x90 | (names.length + 1)],
    [1, type],
  ];
  const at: Record<string, number> = {};
  let offset = 2;
  let hasBytes = false;
  for (const field of names) {
    if (hasBytes) throw new Error(`message ${name}: field ${field} follows bytes of variable length`);
    const kind = KINDS[fields[field]!];
    fixed.push([offset, kind.marker]);
    at[field] = offset + 1;
    offset += 1 + kind.width;
    hasBytes = fields[field] === 'bin16';
  }
  const template = new Uint8Array(offset);
  for (const [position, value] of fixed) template[position] = value;
  return {
    name,
    type,
    fields: Object.freeze(fields),
    at: Object.freeze(at),
    size: offset,
    hasBytes,
    template,
    marks: Uint16Array.from(fixed, ([position, value]) => (position << 8) | value),
    markWords: markWordsOf(fixed, offset),
  };
}

/** @param fixed positions and values, ascending @param size of the message, beyond which no word reaches */
function markWordsOf(fixed: readonly (readonly [number, number])[], size: number): Int32Array {
  const words: number[] = [];
  let left = fixed;
  while (left.length > 0) {
    const start = Math.min(left[0]![0], size - 4);
    const within = left.filter(([position]) => position < start + 4);
    left = left.slice(within.length);
    const join = (byteOf: (value: number) => number): number =>
      within.reduce((word, [position, value]) => word | (byteOf(value) << (8 * (position - start))), 0);
    words.push(
      start,
      join(() => 0xff),
      join((value) => value),
    );
  }
  return Int32Array.from(words);
}

/** Bytes of a field's value; for bytes, the width of their length. */
export function widthOf(kind: FieldKind): number {
  return KINDS[kind].width;
}

/** Writes the constant part of a message at `bytes[offset]`; the caller fills in the values. */
export function begin(message: Layout, bytes: Uint8Array, offset: number): void {
  const template = message.template;
  for (let i = 0; i < template.length; i++) bytes[offset + i] = template[i]!;
}

/** Like `begin`, for callers that write every value afterwards. It overwrites some of the old bytes, but not all. */
export function mark(message: Layout, target: DataView, offset: number): void {
  const { markWords } = message;
  for (let i = 0; i < markWords.length; i += 3) target.setInt32(offset + markWords[i]!, markWords[i + 2]!, true);
}

/** A drawing of the message, one row for each field, for the docs. */
export function draw(message: Layout): string {
  const rows = [
    `${message.name} (type ${message.type}, ${message.size} bytes${message.hasBytes ? ' + bytes' : ''})`,
    'offset  marker  width  field',
  ];
  rows.push(
    `${'0'.padStart(6)}  ${hex(message.template[0]!)}            array of ${Object.keys(message.fields).length + 1}`,
  );
  rows.push(`${'1'.padStart(6)}  ${hex(message.type)}            type`);
  for (const [field, kind] of Object.entries(message.fields)) {
    const { marker, width } = KINDS[kind];
    rows.push(
      `${String(message.at[field]).padStart(6)}  ${hex(marker)}    ${String(width).padStart(5)}  ${field} ${kind}${kind === 'bin16' ? ', then the bytes' : ''}`,
    );
  }
  return rows.join('\n');
}

function hex(value: number): string {
  return `0x${value.toString(16).padStart(2, '0')}`;
}
