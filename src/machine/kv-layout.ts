/**
 * The bytes of the key-value store's operations and results, and its limits. The machine and the codec both take them
 * from here. Numbers are big-endian, `||` marks the end of the fixed part; nothing may follow the last field.
 *
 *     get        | 1 | key u16 || key |
 *     put        | 2 | key u16 | value u16 || key | value |
 *     delete     | 3 | key u16 || key |
 *     cas        | 4 | key u16 | expected u16 | new u16 || key | expected | new |       ffff: absent, no bytes
 *     increment  | 5 | key u16 | delta i64 || key |
 *     scan       | 6 | from u16 | to u16 | limit u16 || from | to |                     to ffff: no upper end
 *
 *     result     | status u8 | what the status carries |
 *       ok, get            | value |
 *       ok, increment      | new value i64 |
 *       ok, scan           | more u8 | count u16 | count × ( key u16 | value u16 | key | value ) |
 *       ok, others         nothing
 *       bad-operation      | reason u8 |
 *       too-large          | bytes needed u32 |    the reply's capacity is below what the result takes
 *       others             nothing
 *
 * A result that has no room for what its status carries is cut to the status byte, and to nothing at capacity 0. What an
 * operation does to the state never depends on the reply's capacity.
 */

export const KV_KEY_BYTES_MIN = 1;
export const KV_KEY_BYTES_MAX = 1024;
export const KV_VALUE_BYTES_MAX = 32 * 1024;
export const KV_SCAN_LIMIT_MAX = 0xffff;
/** What an entry counts towards `maxBytes` besides the bytes of its key and value. */
export const KV_ENTRY_OVERHEAD_BYTES = 32;
/** The counters of `increment`: big-endian two's complement in a value of exactly this length. */
export const KV_NUMBER_BYTES = 8;

export const KV_ABSENT_LENGTH = 0xffff;

export const OP_GET = 1;
export const OP_PUT = 2;
export const OP_DELETE = 3;
export const OP_CAS = 4;
export const OP_INCREMENT = 5;
export const OP_SCAN = 6;

export const GET_FIXED_BYTES = 3;
export const PUT_FIXED_BYTES = 5;
export const DELETE_FIXED_BYTES = 3;
export const CAS_FIXED_BYTES = 7;
export const INCREMENT_FIXED_BYTES = 11;
export const SCAN_FIXED_BYTES = 7;

export const STATUS_OK = 0;
export const STATUS_NOT_FOUND = 1;
export const STATUS_MISMATCH = 2;
export const STATUS_BAD_OPERATION = 3;
export const STATUS_NOT_A_NUMBER = 4;
export const STATUS_TOO_LARGE = 5;
export const STATUS_FULL = 6;

/** By status byte. `full`: the write would exceed the store's `maxKeys` or `maxBytes`; nothing was changed. */
export const KV_STATUS_NAMES = [
  'ok',
  'not-found',
  'mismatch',
  'bad-operation',
  'not-a-number',
  'too-large',
  'full',
] as const;
export type KvStatus = (typeof KV_STATUS_NAMES)[number];

export const BAD_OPCODE = 0;
export const BAD_LENGTH = 1;
export const BAD_KEY = 2;
export const BAD_VALUE = 3;
export const BAD_LIMIT = 4;
export const BAD_WRITE_IN_QUERY = 5;

/** By reason byte of `bad-operation`. `length`: the operation's bytes are fewer or more than its fields say. */
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
