/**
 * The front end's side of the operation `commands`: writes Redis commands into a given buffer, and reads the result. What
 * the bytes mean is in layout.ts.
 */
import { copyBytes } from '../../wire/copy.js';
import { readI32, readIndex, readU16, writeI32, writeIndex, writeU16 } from '../../wire/u64.js';
import { copyOf, decodeRefusal, malformed } from '../kv-checks.js';
import { RESULT_STATUS_BYTES, STATUS_OK } from '../kv-layout.js';
import { KvError } from '../machine-error.js';
import {
  ANSWER_BYTES,
  ARGUMENT_BYTES,
  COMMAND_BYTES,
  CommandFlag,
  COMMANDS_BAD_REASON_NAMES,
  COMMANDS_BYTES,
  COMMANDS_OPCODE,
  COMMANDS_RESULT_BYTES,
  CommandsAt,
  ROOM_BYTES_MAX,
  ROOM_BYTES_MIN,
  TRANSACTION_BYTES,
  TRANSACTION_COUNT_BYTES,
  WATCHED_BYTES,
  type CommandsBadReason,
} from './layout.js';

/** Most commands of an operation, and of a transaction; most arguments of a command. */
const COUNT_MAX = 0xffff;
/** Longest argument. */
export const ARGUMENT_BYTES_MAX = 0xffff;

export interface CommandsHead {
  /** Bytes of result that the sender takes. */
  readonly room: number;
  /** The sender's clock, ms since 1970. Used in queries only. */
  readonly now: number;
  /** 64 random bits as two int32. Used in queries only. */
  readonly randomHi: number;
  readonly randomLo: number;
}

/** A key that a transaction needs unchanged. The revision 0 is an absent key. */
export interface WatchedKey {
  readonly key: Uint8Array;
  readonly revision: number;
}

/** How many bytes a command takes in an operation. @param argumentBytes bytes of all its arguments */
export function commandBytes(argc: number, argumentBytes: number): number {
  return COMMAND_BYTES + ARGUMENT_BYTES * argc + argumentBytes;
}

/** How many bytes a transaction takes in an operation. @param commandsBytes the sum of `commandBytes` */
export function transactionBytes(watched: readonly WatchedKey[], commandsBytes: number): number {
  let length = TRANSACTION_BYTES + TRANSACTION_COUNT_BYTES + commandsBytes;
  for (const { key } of watched) length += WATCHED_BYTES + key.length;
  return length;
}

/**
 * Writes one operation. Call `begin`, then for every command `command` and `argument` for each of its arguments, then
 * `finish`. A transaction is `transaction`, followed by its commands. Nothing is allocated.
 */
export class CommandsEncoder {
  #target: Uint8Array = new Uint8Array(0);
  #offset = 0;
  #end = 0;
  #at = 0;
  #count = 0;
  /** Commands that the present transaction still gets, and arguments that the present command still gets. */
  #commandsLeft = 0;
  #argumentsLeft = 0;

  /**
   * Throws `KvError`: `kv-limit` for a `room` that the machine would refuse, `kv-buffer-too-small` if not even an
   * operation without commands fits.
   * @param length how much of the target may be used
   */
  begin(target: Uint8Array, offset: number, length: number, head: CommandsHead): void {
    const { room } = head;
    if (!Number.isInteger(room) || room < ROOM_BYTES_MIN || room > ROOM_BYTES_MAX)
      throw new KvError('kv-limit', `room must be an integer from ${ROOM_BYTES_MIN} to ${ROOM_BYTES_MAX}, not ${room}`);
    if (length < COMMANDS_BYTES || offset + length > target.length)
      throw new KvError(
        'kv-buffer-too-small',
        `an operation takes at least ${COMMANDS_BYTES} bytes, there are ${Math.min(length, target.length - offset)}; give a larger buffer`,
      );
    this.#target = target;
    this.#offset = offset;
    this.#end = offset + length;
    this.#at = offset + COMMANDS_BYTES;
    this.#count = 0;
    this.#commandsLeft = 0;
    this.#argumentsLeft = 0;
    target[offset] = COMMANDS_OPCODE;
    target[offset + CommandsAt.flags] = 0;
    writeI32(target, offset + CommandsAt.room, room);
    writeIndex(target, offset + CommandsAt.now, head.now);
    writeI32(target, offset + CommandsAt.random, head.randomHi);
    writeI32(target, offset + CommandsAt.random + 4, head.randomLo);
  }

  /** Commands and transactions so far. */
  get count(): number {
    return this.#count;
  }

  /** Bytes that are still free. */
  get free(): number {
    return this.#end - this.#at;
  }

  /** Begins a command. False, with nothing written, if it does not fit. @param argumentBytes bytes of all its arguments */
  command(isResp3: boolean, argc: number, argumentBytes: number): boolean {
    this.#expectNoArguments();
    const isPart = this.#commandsLeft > 0;
    if (argc < 1 || argc > COUNT_MAX)
      throw new KvError('kv-limit', `a command of ${argc} arguments; it has 1 to 65535`);
    if (!isPart && (commandBytes(argc, argumentBytes) > this.free || this.#count === COUNT_MAX)) return false;
    if (isPart) this.#commandsLeft--;
    else this.#count++;
    this.#target[this.#at] = isResp3 ? CommandFlag.resp3 : 0;
    writeU16(this.#target, this.#at + 1, argc);
    this.#at += COMMAND_BYTES;
    this.#argumentsLeft = argc;
    return true;
  }

  argument(bytes: Uint8Array, offset: number, length: number): void {
    if (length > ARGUMENT_BYTES_MAX)
      throw new KvError('kv-limit', `an argument of ${length} bytes; it has at most ${ARGUMENT_BYTES_MAX}`);
    if (this.#argumentsLeft === 0) throw new KvError('kv-limit', 'more arguments than the command was begun with');
    if (ARGUMENT_BYTES + length > this.free)
      throw new KvError('kv-buffer-too-small', 'the arguments are longer than the command was begun with');
    this.#argumentsLeft--;
    writeU16(this.#target, this.#at, length);
    copyBytes(bytes, offset, this.#target, this.#at + ARGUMENT_BYTES, length);
    this.#at += ARGUMENT_BYTES + length;
  }

  /**
   * Begins a transaction; its commands follow. False, with nothing written, if it does not fit.
   * @param commandsBytes the sum of `commandBytes` of its commands
   */
  transaction(isResp3: boolean, watched: readonly WatchedKey[], count: number, commandsBytes: number): boolean {
    this.#expectNoArguments();
    if (this.#commandsLeft > 0) throw new KvError('kv-limit', 'a transaction cannot contain another one');
    if (count > COUNT_MAX || watched.length > COUNT_MAX)
      throw new KvError('kv-limit', 'a transaction of too many parts');
    if (transactionBytes(watched, commandsBytes) > this.free || this.#count === COUNT_MAX) return false;
    const target = this.#target;
    target[this.#at] = CommandFlag.transaction | (isResp3 ? CommandFlag.resp3 : 0);
    writeU16(target, this.#at + 1, watched.length);
    let at = this.#at + TRANSACTION_BYTES;
    for (const { key, revision } of watched) {
      writeU16(target, at, key.length);
      writeIndex(target, at + 2, revision);
      copyBytes(key, 0, target, at + WATCHED_BYTES, key.length);
      at += WATCHED_BYTES + key.length;
    }
    writeU16(target, at, count);
    this.#at = at + TRANSACTION_COUNT_BYTES;
    this.#count++;
    this.#commandsLeft = count;
    return true;
  }

  /** Length of the operation. */
  finish(): number {
    this.#expectNoArguments();
    if (this.#commandsLeft > 0)
      throw new KvError('kv-limit', 'the transaction has fewer commands than it was begun with');
    writeU16(this.#target, this.#offset + CommandsAt.count, this.#count);
    return this.#at - this.#offset;
  }

  #expectNoArguments(): void {
    if (this.#argumentsLeft > 0)
      throw new KvError('kv-limit', 'the command has fewer arguments than it was begun with');
  }
}

export type CommandsResult =
  | {
      readonly status: 'ok';
      /** The number of the store's last change. */
      readonly revision: number;
      /** In a query: the earliest end of a key that was read, ms. Undefined: none of them ends. */
      readonly due: number | undefined;
      /** What to send for each command that was executed, in RESP: views of the result's bytes. */
      readonly answers: readonly Uint8Array[];
    }
  | { readonly status: 'bad-operation'; readonly reason: CommandsBadReason | null }
  | { readonly status: 'too-large'; readonly neededBytes: number | null };

/** Throws `KvError` (`kv-result-malformed`) if the bytes are not a result of `commands`. */
export function decodeCommandsResult(bytes: Uint8Array, offset: number, length: number): CommandsResult {
  const refusal = decodeRefusal('commands', COMMANDS_BAD_REASON_NAMES, bytes, offset, length);
  if (refusal !== undefined) return refusal;
  if (bytes[offset] !== STATUS_OK) throw malformed('commands', `status ${bytes[offset]} is not one of its own`);
  if (length < COMMANDS_RESULT_BYTES) throw malformed('commands', 'it ends before the answers');
  const at = offset + RESULT_STATUS_BYTES;
  const count = readU16(bytes, at + 16);
  const end = offset + length;
  const answers: Uint8Array[] = [];
  let next = offset + COMMANDS_RESULT_BYTES;
  for (let i = 0; i < count; i++) {
    const from = next + ANSWER_BYTES;
    next = from > end ? from : from + (readI32(bytes, next) >>> 0);
    if (next > end) throw malformed('commands', `it ends in answer ${i} of ${count}`);
    answers.push(bytes.subarray(from, next));
  }
  if (next !== end) throw malformed('commands', `${end - next} bytes follow the last answer`);
  return { status: 'ok', revision: readIndex(bytes, at), due: readIndex(bytes, at + 8) || undefined, answers };
}

/**
 * Reads the machine's answer to WATCH, given these keys. The keys are copied. Undefined: it is an error, which the client
 * gets as it is. Throws `KvError` (`kv-result-malformed`).
 */
export function decodeWatched(answer: Uint8Array, keys: readonly Uint8Array[]): WatchedKey[] | undefined {
  const text = String.fromCharCode(...answer.subarray(0, 2 + 22 * (keys.length + 1)));
  if (text.startsWith('-')) return undefined;
  const lines = text.split('\r\n');
  if (lines[0] !== `*${keys.length}` || lines.length !== keys.length + 2) throw malformed('watch', 'it has other keys');
  return keys.map((key, i) => ({ key: copyOf(key, 0, key.length), revision: Number(lines[i + 1]!.slice(1)) }));
}
