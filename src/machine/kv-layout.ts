/**
 * The bytes of the key-value store's operations and results, and its limits. The machine and the codec both use this
 * file. Numbers are big-endian. `||` marks the end of the fixed part; nothing may follow the last field. The table of
 * the operations is KV_OPERATIONS below; a test checks that this drawing agrees with it.
 *
 *     get        | 1 | key u16 || key |
 *     put        | 2 | key u16 | value u16 || key | value |
 *     delete     | 3 | key u16 || key |
 *     cas        | 4 | key u16 | expected u16 | new u16 || key | expected | new |
 *     increment  | 5 | key u16 | delta i64 || key |
 *     scan       | 6 | from u16 | to u16 | limit u16 || from | to |
 *
 * A length of ffff stands for no bytes: in cas for an absent key, in scan as `to` for no upper end.
 *
 *     result | status u8 | what the status carries |
 *       ok, get | value |
 *       ok, increment | new value i64 |
 *       ok, scan | more u8 | count u16 | count × ( key u16 | value u16 | key | value ) |
 *       ok, others nothing
 *       bad-operation | reason u8 |
 *       too-large | bytes needed u32 | the reply's capacity is less than the result needs
 *       others nothing
 *
 * If the reply has no room for a result, the result is cut to the status byte, or to nothing if the capacity is 0. An
 * operation's effect on the state never depends on the reply's capacity.
 */

export const KV_KEY_BYTES_MIN = 1;
export const KV_KEY_BYTES_MAX = 1024;
export const KV_VALUE_BYTES_MAX = 32 * 1024;
export const KV_SCAN_LIMIT_MAX = 0xffff;
/** Overhead of an entry that counts towards `maxBytes`, besides the bytes of its key and value. */
export const KV_ENTRY_OVERHEAD_BYTES = 32;
/** The counters of `increment`: big-endian two's complement in a value of exactly this length. */
export const KV_NUMBER_BYTES = 8;

export const KV_ABSENT_LENGTH = 0xffff;

/**
 * The length of a name: a key has at most KV_KEY_BYTES_MAX bytes, and with this bit the name is not that of a key, but of
 * a part of a collection (store/parts.ts). Parts come behind all keys.
 */
export const PART_FLAG = 0x8000;
/** What is left of the length of a name is its bytes. */
export const NAME_BYTES_MASK = 0x7fff;

/** What the value of a key is. The values are part of snapshots. A collection is a value of any other type than string. */
export const ValueType = { string: 0, hash: 1, set: 2, list: 3, zset: 4 } as const;

/**
 * How long a key stays, with a number beside it: for ever; until an agreed time, ms; as long as a lease, by the lease's
 * number. The values are part of snapshots.
 */
export const Hold = { none: 0, until: 1, lease: 2 } as const;
/** In a write: as long as it stays already. */
export const KEEP_HOLD = -1;

export const STATUS_OK = 0;
export const STATUS_NOT_FOUND = 1;
export const STATUS_MISMATCH = 2;
export const STATUS_BAD_OPERATION = 3;
export const STATUS_NOT_A_NUMBER = 4;
export const STATUS_TOO_LARGE = 5;
export const STATUS_FULL = 6;
export const STATUS_LEASE_ENDED = 7;
export const STATUS_WRONG_TYPE = 8;

/**
 * By status byte. `full`: the write would exceed the store's `maxKeys` or `maxBytes`. `lease-ended`: the lease that a key
 * was to be held by is not there. `wrong-type`: the value of the key is a collection, which this operation cannot read or
 * change. With these nothing was changed.
 */
export const KV_STATUS_NAMES = [
  'ok',
  'not-found',
  'mismatch',
  'bad-operation',
  'not-a-number',
  'too-large',
  'full',
  'lease-ended',
  'wrong-type',
] as const;
export type KvStatus = (typeof KV_STATUS_NAMES)[number];

/**
 * Widths of the fields of the fixed part of an operation. `length`: a u16, the length of bytes that follow the fixed
 * part, in the order of their lengths.
 */
const FIELD_BYTES = { length: 2, u8: 1, u16: 2, i64: 8, u64: 8 } as const;
export type OperationFields = Readonly<Record<string, keyof typeof FIELD_BYTES>>;

/** An operation as the machine and the codec use it. */
export interface KvOperation<
  F extends OperationFields = OperationFields,
  Opcode extends number = number,
  Status extends string = KvStatus,
> {
  readonly opcode: Opcode;
  readonly fields: F;
  /** Offset of each field of the fixed part. */
  readonly at: Readonly<Record<keyof F, number>>;
  /** Length of the fixed part: where the bytes begin. */
  readonly size: number;
  /** What its result may be, besides the refusals that every operation may get. */
  readonly statuses: ReadonlySet<Status>;
}

export function defineOperation<
  const F extends OperationFields,
  const Opcode extends number,
  Status extends string = KvStatus,
>(opcode: Opcode, fields: F, statuses: readonly NoInfer<Status>[]): KvOperation<F, Opcode, Status> {
  const at: Record<string, number> = {};
  let size = 1; // behind the opcode
  for (const [name, kind] of Object.entries(fields)) {
    at[name] = size;
    size += FIELD_BYTES[kind];
  }
  return Object.freeze({
    opcode,
    fields,
    at: Object.freeze(at) as Record<keyof F, number>,
    size,
    statuses: new Set(statuses),
  });
}

export const Get = defineOperation(1, { key: 'length' }, ['ok', 'not-found', 'wrong-type']);
export const Put = defineOperation(2, { key: 'length', value: 'length' }, ['ok', 'full']);
export const Delete = defineOperation(3, { key: 'length' }, ['ok', 'not-found']);
export const Cas = defineOperation(4, { key: 'length', expected: 'length', new: 'length' }, [
  'ok',
  'mismatch',
  'full',
  'wrong-type',
]);
export const Increment = defineOperation(5, { key: 'length', delta: 'i64' }, [
  'ok',
  'not-a-number',
  'full',
  'wrong-type',
]);
export const Scan = defineOperation(6, { from: 'length', to: 'length', limit: 'u16' }, ['ok']);

/**
 * Every operation by name. Add a new one here. The compiler then asks for its result in kv-codec.ts, and for its case
 * in kv.ts.
 */
export const KV_OPERATIONS = {
  get: Get,
  put: Put,
  delete: Delete,
  cas: Cas,
  increment: Increment,
  scan: Scan,
} as const;

export type KvOperationName = keyof typeof KV_OPERATIONS;
/** For a `switch` that is checked for completeness. */
export type KvOpcode = (typeof KV_OPERATIONS)[KvOperationName]['opcode'];

/** The drawing of an operation, as above. */
export function drawOperation(
  name: string,
  { opcode, fields }: { readonly opcode: number; readonly fields: OperationFields },
): string {
  const fixed = Object.entries(fields).map(([field, kind]) => `${field} ${kind === 'length' ? 'u16' : kind}`);
  const bytes = Object.keys(fields).filter((field) => fields[field] === 'length');
  return `${name.padEnd(11)}| ${opcode} | ${fixed.join(' | ')} || ${bytes.join(' | ')} |`;
}

export const BAD_OPCODE = 0;
export const BAD_LENGTH = 1;
export const BAD_KEY = 2;
export const BAD_VALUE = 3;
export const BAD_LIMIT = 4;
export const BAD_WRITE_IN_QUERY = 5;

/**
 * By reason byte of `bad-operation`. `length`: the operation's bytes are fewer or more than its fields say. `scan-limit`:
 * the limit is 0, or before the first key there are more that have ended, or are collections, than one scan passes over
 * (store/layout.ts).
 */
export const KV_BAD_REASON_NAMES = [
  'opcode',
  'length',
  'key-size',
  'value-size',
  'scan-limit',
  'write-in-query',
] as const;
export type KvBadReason = (typeof KV_BAD_REASON_NAMES)[number];

export const RESULT_STATUS_BYTES = 1;
export const SCAN_RESULT_FIXED_BYTES = 4;
export const SCAN_ENTRY_FIXED_BYTES = 4;
