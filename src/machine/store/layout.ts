/**
 * The bytes of the store's operations of level 1 and of their results. kv-layout.ts has those of level 0, which mean the
 * same at every level, and the limits of keys and values. Numbers are big-endian; times are agreed times in
 * milliseconds. The table of the operations is STORE_OPERATIONS below; a test checks that this drawing agrees with it.
 *
 *     read       | 16 | key u16 || key |
 *     write      | 17 | condition u8 | compared u64 | hold u8 | held u64 | key u16 | value u16 || key | value |
 *     remove     | 18 | condition u8 | compared u64 | key u16 || key |
 *     range      | 19 | from u16 | to u16 | limit u16 || from | to |
 *     transact   | 20 | conditions u8 | do u8 | else u8 ||  |
 *     grant      | 21 | ttl u64 ||  |
 *     renew      | 22 | count u16 ||  |
 *     revoke     | 23 | lease u64 ||  |
 *     tick       | 24 |  ||  |
 *
 * A range without an upper end has ffff for the length of `to`, as in scan.
 *
 *     hold       0: for ever, held 0 | 1: held ms from now | 2: as long as lease number held | 3: as before, held 0
 *     condition  0: none | 1: the key is absent | 2: it is present | 3: its revision is `compared` | 4: see transact
 *     transact   … || conditions × ( condition u8 | compared u64 | key u16 | value u16 | key | value ) |
 *                     do × ( length u16 | operation ) | else × ( length u16 | operation ) |
 *     renew      … || count × lease u64 |
 *
 * Condition 4, in transact only: its value is the one given. The operations in a transaction are read, write, remove and
 * range, without conditions, and no two of a branch change one key. If all conditions hold, those of `do` are
 * executed, otherwise those of `else`: all of them or none.
 *
 *     result     | status u8 | revision u64 | what the status carries |, but for the refusals bad-operation and too-large
 *       ok, read | of the key u64 | end u64 | lease u64 | value |
 *       ok, write | end u64 |
 *       ok, range | more u8 | count u16 | next u16 | count × ( key u16 | value u16 | of the key u64 | end u64 | lease u64 | key | value ) | next |
 *       ok, transact | branch u8 | count u8 | count × ( length u32 | result ) |
 *       ok, grant | lease u64 | end u64 |
 *       ok, renew | count u16 | count × end u64 |
 *       ok, tick | now u64 | next end u64 |
 *       others nothing
 *
 * `revision` is the number of the store's last change. An end of 0 is none; in renew, that the lease has ended. `next` is
 * the first key of the rest of a range, if there is more. A result within a transaction that does not fit is too-large
 * by itself.
 */
import {
  defineOperation,
  KV_BAD_REASON_NAMES,
  KV_STATUS_NAMES,
  type KvBadReason,
  type KvOperation,
  type KvStatus,
  type OperationFields,
} from '../kv-layout.js';

/** Most conditions of a transaction, and most operations of a branch. */
export const TRANSACTION_PARTS_MAX = 64;
/** Most leases that one operation renews. */
export const RENEWED_MAX = 1024;
/** Longest time to live: 366 days. */
export const TTL_MS_MAX = 366 * 86_400_000;
/**
 * After this many keys that are collections, or have ended and are still to be removed, a range goes on in another operation. All ranges of a
 * transaction share it. A scan has the same bound, and goes on behind the last key that it shows; if it shows none, it is
 * refused (`scan-limit`), because it cannot say where it stopped.
 */
export const PASSED_KEYS_MAX = 1000;

/** By status byte; the same as at level 0. */
export const STORE_STATUS_NAMES = KV_STATUS_NAMES;
export type StoreStatus = KvStatus;

export const BAD_TTL = 6;
export const BAD_HOLD = 7;
export const BAD_CONDITION = 8;
export const BAD_COUNT = 9;
export const BAD_PART = 10;
export const BAD_TWICE = 11;
/**
 * By reason byte of `bad-operation`. `part`: an operation that a transaction cannot contain. `twice`: a branch changes a
 * key twice.
 */
export const STORE_BAD_REASON_NAMES = [
  ...KV_BAD_REASON_NAMES,
  'ttl',
  'hold',
  'condition',
  'count',
  'part',
  'twice',
] as const;
export type StoreBadReason = KvBadReason | (typeof STORE_BAD_REASON_NAMES)[number];

/** How long a written key stays, as an operation says it. */
export const WriteHold = { none: 0, ttl: 1, lease: 2, keep: 3 } as const;

export const Condition = { none: 0, absent: 1, present: 2, revision: 3, value: 4 } as const;

const define = <const F extends OperationFields, const Opcode extends number>(
  opcode: Opcode,
  fields: F,
  statuses: readonly StoreStatus[],
): KvOperation<F, Opcode, StoreStatus> => defineOperation<F, Opcode, StoreStatus>(opcode, fields, statuses);

export const Read = define(16, { key: 'length' }, ['ok', 'not-found', 'wrong-type']);
export const Write = define(
  17,
  { condition: 'u8', compared: 'u64', hold: 'u8', held: 'u64', key: 'length', value: 'length' },
  ['ok', 'mismatch', 'lease-ended', 'full'],
);
export const Remove = define(18, { condition: 'u8', compared: 'u64', key: 'length' }, ['ok', 'not-found', 'mismatch']);
export const Range = define(19, { from: 'length', to: 'length', limit: 'u16' }, ['ok']);
export const Transact = define(20, { conditions: 'u8', do: 'u8', else: 'u8' }, [
  'ok',
  'lease-ended',
  'full',
  'wrong-type',
]);
export const Grant = define(21, { ttl: 'u64' }, ['ok', 'full']);
export const Renew = define(22, { count: 'u16' }, ['ok']);
export const Revoke = define(23, { lease: 'u64' }, ['ok', 'not-found']);
export const Tick = define(24, {}, ['ok']);

export const STORE_OPERATIONS = {
  read: Read,
  write: Write,
  remove: Remove,
  range: Range,
  transact: Transact,
  grant: Grant,
  renew: Renew,
  revoke: Revoke,
  tick: Tick,
} as const;
export type StoreOperationName = keyof typeof STORE_OPERATIONS;
/** For a `switch` that is checked for completeness. */
export type StoreOpcode = (typeof STORE_OPERATIONS)[StoreOperationName]['opcode'];

/** A condition of a transaction: kind u8 | compared u64 | key u16 | value u16. */
export const ConditionAt = { kind: 0, compared: 1, key: 9, value: 11 } as const;
export const CONDITION_BYTES = 13;
/** Before each operation in a transaction. */
export const PART_LENGTH_BYTES = 2;

/** Status and revision. */
export const RESULT_BYTES = 9;
/** Before the value, in the result of read. */
export const READ_BYTES = RESULT_BYTES + 24;
export const WRITE_BYTES = RESULT_BYTES + 8;
export const RANGE_BYTES = RESULT_BYTES + 5;
export const RANGE_ENTRY_BYTES = 28;
export const TRANSACT_BYTES = RESULT_BYTES + 2;
/** Before each result in that of a transaction. */
export const PART_RESULT_BYTES = 4;
export const GRANT_BYTES = RESULT_BYTES + 16;
export const RENEW_BYTES = RESULT_BYTES + 2;
export const TICK_BYTES = RESULT_BYTES + 16;
