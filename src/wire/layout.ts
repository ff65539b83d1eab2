/**
 * One table a message: the source of its offsets, its validation and its drawing in the docs, so that they cannot
 * disagree.
 *
 * A message is a msgpack array `[type, field…]` in which every field has a fixed width and therefore a constant offset;
 * only the last may be bytes of variable length. Any msgpack decoder reads it; ours reads a field by looking at
 * `bytes[offset + Message.at.field]`, after `validate` has seen that the markers stand where the table says.
 */

/** msgpack marker and width in bytes of the value behind it. */
const KINDS = {
  u8: { marker: 0xcc, width: 1 },
  u16: { marker: 0xcd, width: 2 },
  u32: { marker: 0xce, width: 4 },
  u64: { marker: 0xcf, width: 8 },
  i32: { marker: 0xd2, width: 4 },
  /** `width` is that of the length; the bytes follow. Last field only. */
  bin16: { marker: 0xc5, width: 2 },
} as const;

export type FieldKind = keyof typeof KINDS;
export type Fields = Readonly<Record<string, FieldKind>>;

export interface Message<F extends Fields = Fields> {
  readonly name: string;
  /** First element of the array, a positive fixint (below 128). */
  readonly type: number;
  readonly fields: F;
  /** Offset of each field's value from the start of the message; for bytes, of their u16 length. */
  readonly at: Readonly<Record<keyof F, number>>;
  /** Length of the message without its trailing bytes: where those begin. */
  readonly size: number;
  /** True when the message ends in bytes. */
  readonly hasBytes: boolean;
  /** The message with all values zero, to be copied and filled in. */
  readonly template: Uint8Array;
  /** Offsets and values of the bytes that never change: array header, type and markers. */
  readonly fixedOffsets: Uint8Array;
  readonly fixedValues: Uint8Array;
}

/** Builds the layout of a message from its fields, in order. Throws when the table itself is wrong. */
export function defineMessage<const F extends Fields>(name: string, type: number, fields: F): Message<F> {
  const names = Object.keys(fields);
  if (names.length > 14) throw new Error(`message ${name}: ${names.length} fields do not fit a fixarray with the type`);
  if (!Number.isInteger(type) || type < 1 || type > 127) throw new Error(`message ${name}: type ${type} is no positive fixint`);
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
  return Object.freeze({
    name,
    type,
    fields,
    at: Object.freeze(at) as Readonly<Record<keyof F, number>>,
    size: offset,
    hasBytes,
    template,
    fixedOffsets: Uint8Array.from(fixed, ([position]) => position),
    fixedValues: Uint8Array.from(fixed, ([, value]) => value),
  });
}

/** Writes the constant part of a message at `bytes[offset]`; the caller fills in the values. */
export function begin(message: Message, bytes: Uint8Array, offset: number): void {
  const template = message.template;
  for (let i = 0; i < template.length; i++) bytes[offset + i] = template[i]!;
}

/** A drawing of the message, one row a field, for the docs. */
export function draw(message: Message): string {
  const rows = [`${message.name} (type ${message.type}, ${message.size} bytes${message.hasBytes ? ' + bytes' : ''})`, 'offset  marker  width  field'];
  rows.push(`${'0'.padStart(6)}  ${hex(message.template[0]!)}            array of ${Object.keys(message.fields).length + 1}`);
  rows.push(`${'1'.padStart(6)}  ${hex(message.type)}            type`);
  for (const [field, kind] of Object.entries(message.fields)) {
    const { marker, width } = KINDS[kind];
    rows.push(`${String(message.at[field]).padStart(6)}  ${hex(marker)}    ${String(width).padStart(5)}  ${field} ${kind}${kind === 'bin16' ? ', then the bytes' : ''}`);
  }
  return rows.join('\n');
}

function hex(value: number): string {
  return '0x' + value.toString(16).padStart(2, '0');
}
