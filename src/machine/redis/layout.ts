/**
 * The bytes of the operation `commands`, which carries Redis commands, and of its result. The machine has it from level 2
 * on. Numbers are big-endian; times are agreed times in milliseconds.
 *
 *     operation   | 32 | flags u8 | room u32 | now u64 | random u64 | count u16 | count × command |
 *     command     | flags u8 | argc u16 | argc × ( length u16 | bytes ) |
 *     transaction | flags u8 | watched u16 | watched × ( key u16 | revision u64 | key ) | count u16 | count × command |
 *
 *     flags of an operation: 0
 *     flags of a command     1: the answer is written as RESP3, otherwise as RESP2 | 2: it is a transaction
 *
 * The commands of a transaction are not transactions; of their flags only 1 may be set, and it says nothing.
 *
 *     result | status u8 | what the status carries |
 *       ok | revision u64 | due u64 | executed u16 | executed × ( length u32 | RESP ) |
 *       bad-operation | reason u8 |
 *       too-large | bytes needed u32 | the reply's capacity is less than the result needs
 *
 * `room` is how long the result may become. The rule (S): *what is executed never depends on the reply's capacity.* The
 * commands are executed in their order, up to the first one whose answer might not fit what is left of `room`; the
 * sender sends the rest again. If it is the very first one, it gets an error as its answer and changes nothing. So at
 * least one command of every operation is executed.
 *
 * A transaction is executed only if every watched key still has its revision, where 0 stands for an absent key;
 * otherwise its answer is null. `revision` is the number of the store's last change.
 *
 * A query takes the operation if all of its commands only read. It has no time of its own: `now`, the sender's clock, is
 * what TTL counts from, and `due` is the earliest end of a key that was read, or 0. If that has passed by the sender's
 * clock, it sends the commands again as an operation, whose agreed time decides. `random` is what random commands of a
 * query use. In an operation that is applied, `now` and `random` are not used, and `due` is 0.
 *
 * The command WATCH is answered with an array of the keys' revisions, as RESP integers.
 */
import { STORE_BAD_REASON_NAMES, type StoreBadReason } from '../store/layout.js';

export const COMMANDS_OPCODE = 32;

/** Offsets of the fields in front of the commands. */
export const CommandsAt = { flags: 1, room: 2, now: 6, random: 14, count: 22 } as const;
/** Length of what precedes the commands. */
export const COMMANDS_BYTES = 24;
/** Flags and argc of a command. */
export const COMMAND_BYTES = 3;
/** Before each argument. */
export const ARGUMENT_BYTES = 2;
/** Flags and number of the watched keys. */
export const TRANSACTION_BYTES = 3;
/** Before each watched key. */
export const WATCHED_BYTES = 10;
/** Number of commands, behind the watched keys. */
export const TRANSACTION_COUNT_BYTES = 2;

export const CommandFlag = { resp3: 1, transaction: 2 } as const;

/** Status, revision, due, and how many commands were executed. */
export const COMMANDS_RESULT_BYTES = 19;
/** Before each answer. */
export const ANSWER_BYTES = 4;
/** Least `room` of an operation: the fixed part of the result, and any error as the only answer. */
export const ROOM_BYTES_MIN = 1024;
/** Largest `room` of an operation. */
export const ROOM_BYTES_MAX = 65_536;

export const BAD_ROOM = STORE_BAD_REASON_NAMES.length;
export const BAD_FLAGS = BAD_ROOM + 1;
/** By reason byte of `bad-operation`. `room`: below ROOM_BYTES_MIN or above ROOM_BYTES_MAX. `flags`: one that has no meaning. */
export const COMMANDS_BAD_REASON_NAMES = [...STORE_BAD_REASON_NAMES, 'room', 'flags'] as const;
export type CommandsBadReason = StoreBadReason | 'room' | 'flags';
