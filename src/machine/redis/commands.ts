/**
 * Executes the operation `commands`. layout.ts shows its bytes and says its rules.
 *
 * The operation is checked as a whole before its first command is executed: malformed bytes get `bad-operation` and change
 * nothing. A command is executed only while ANSWER_BYTES_MIN bytes are left for its answer. Answers that can be longer are
 * those with data of the store; such a command writes its answer before it changes anything, and changes nothing if the
 * answer does not fit.
 */
import { readI32, readIndex, readU16, writeI32, writeIndex, writeU16 } from '../../wire/u64.js';
import { refuse, tooLarge } from '../kv-answers.js';
import { BAD_LENGTH, BAD_WRITE_IN_QUERY, KV_KEY_BYTES_MAX, STATUS_OK } from '../kv-layout.js';
import type { KvStore } from '../kv-store.js';
import type { ApplyContext, Operation, Reply } from '../state-machine.js';
import { BAD_COUNT } from '../store/layout.js';
import { BIT_FIELD_HANDLERS } from './bit-fields.js';
import { BIT_HANDLERS } from './bits.js';
import { Call, WORK_MAX, type Handler } from './call.js';
import { COMMANDS, findCommand, hasArity, type CommandInfo } from './command-table.js';
import { eventCode } from './events.js';
import { EXPIRY_HANDLERS } from './expiry.js';
import { HASH_HANDLERS } from './hashes.js';
import { KEY_HANDLERS } from './keys.js';
import {
  ANSWER_BYTES,
  ARGUMENT_BYTES,
  BAD_FLAGS,
  BAD_ROOM,
  COMMAND_BYTES,
  CommandFlag,
  COMMANDS_BYTES,
  COMMANDS_RESULT_BYTES,
  CommandsAt,
  ROOM_BYTES_MAX,
  ROOM_BYTES_MIN,
  TRANSACTION_BYTES,
  TRANSACTION_COUNT_BYTES,
  WATCHED_BYTES,
} from './layout.js';
import { LCS_HANDLERS } from './lcs.js';
import { LIST_HANDLERS } from './lists.js';
import { MESSAGE_HANDLERS } from './messages.js';
import { SCORE_RANGE_HANDLERS } from './score-ranges.js';
import { SCORE_SUM_HANDLERS } from './score-sums.js';
import { SCRIPT_HANDLERS } from './scripts.js';
import { SET_HANDLERS } from './sets.js';
import { SORT_HANDLERS } from './sort.js';
import { SORTED_SET_HANDLERS } from './sorted-sets.js';
import { STRING_HANDLERS } from './strings.js';

/**
 * Room that a command's answer has at least when it is executed. What a command answers after a change is shorter; so is
 * what takes the place of an answer in a transaction that does not fit.
 */
const ANSWER_BYTES_MIN = 72;
/** After this much work the rest of a transaction is not executed. */
const TRANSACTION_WORK_MAX = 16_384;
/** Most arguments of a command, its name among them. */
const ARGUMENTS_MAX = 4096;
/** Longest beginning of an array. */
const ARRAY_HEAD_BYTES = 9;
const GOOD = -1;

const HANDLERS = new Map<CommandInfo, Handler>();
for (const handlers of [
  STRING_HANDLERS,
  BIT_HANDLERS,
  BIT_FIELD_HANDLERS,
  LCS_HANDLERS,
  EXPIRY_HANDLERS,
  KEY_HANDLERS,
  HASH_HANDLERS,
  SET_HANDLERS,
  LIST_HANDLERS,
  SORT_HANDLERS,
  SORTED_SET_HANDLERS,
  SCORE_RANGE_HANDLERS,
  SCORE_SUM_HANDLERS,
  SCRIPT_HANDLERS,
  MESSAGE_HANDLERS,
])
  for (const [name, handler] of Object.entries(handlers)) HANDLERS.set(COMMANDS.get(name)!, handler);

export class RedisCommands {
  readonly #store: KvStore;
  readonly #call: Call;
  /** How long the answers of a transaction's commands may become, in the order of the commands. */
  #bounds = new Int32Array(64);
  /** The operation that was checked last changes something. */
  #canChange = false;

  constructor(store: KvStore) {
    this.#store = store;
    this.#call = new Call(store);
  }

  apply(operation: Operation, context: ApplyContext, reply: Reply): void {
    const reason = this.#check(operation);
    if (reason !== GOOD) return refuse(reply, reason);
    const call = this.#call;
    call.isQuery = false;
    call.now = this.#store.nowMs;
    call.random.seed(context.timestampHi, context.timestampLo, context.index);
    this.#execute(operation, reply);
    this.#store.event = 0;
  }

  query(operation: Operation, reply: Reply): void {
    const reason = this.#check(operation);
    if (reason !== GOOD) return refuse(reply, reason);
    if (this.#canChange) return refuse(reply, BAD_WRITE_IN_QUERY);
    const { bytes, offset } = operation;
    const call = this.#call;
    call.isQuery = true;
    const now = readIndex(bytes, offset + CommandsAt.now);
    call.now = Math.max(this.#store.nowMs, Number.isNaN(now) ? 0 : now);
    const random = offset + CommandsAt.random;
    call.random.seed(readI32(bytes, random), readI32(bytes, random + 4), 0);
    this.#execute(operation, reply);
  }

  #execute({ bytes, offset }: Operation, reply: Reply): void {
    const call = this.#call;
    const { out } = call;
    call.due = 0;
    call.work = 0;
    const room = readI32(bytes, offset + CommandsAt.room);
    const count = readU16(bytes, offset + CommandsAt.count);
    let at = offset + COMMANDS_BYTES;
    let written = COMMANDS_RESULT_BYTES;
    let executed = 0;
    for (; executed < count; executed++) {
      if (executed > 0 && (call.work >= WORK_MAX || written + ANSWER_BYTES + ANSWER_BYTES_MIN > room)) break;
      out.begin(written + ANSWER_BYTES, room);
      at = this.#executeOne(bytes, at);
      if (out.overflows) {
        if (executed > 0) break;
        this.#answerTooLong(bytes[offset + COMMANDS_BYTES]!);
      }
      writeI32(out.bytes, written, out.length);
      written += ANSWER_BYTES + out.length;
    }
    if (written > reply.capacity) return tooLarge(reply, written);
    out.bytes[0] = STATUS_OK;
    writeIndex(out.bytes, 1, this.#store.revision);
    writeIndex(out.bytes, 9, call.due);
    writeU16(out.bytes, 17, executed);
    reply.bytes = out.bytes;
    reply.offset = 0;
    reply.length = written;
  }

  /** @param flags of the command */
  #answerTooLong(flags: number): void {
    const { out } = this.#call;
    const { length, room } = out;
    out.cut(0);
    if ((flags & CommandFlag.transaction) !== 0)
      out.error(`EXECABORT Transaction discarded because its answer may have ${length} bytes, ${room} fit; split it`);
    else out.error(`ERR the answer has ${length} bytes, ${room} fit; use HSCAN/SSCAN/GETRANGE`);
  }

  /** Executes the command or transaction at an offset; returns where it ends. Its answer overflows if it does not fit. */
  #executeOne(bytes: Uint8Array, at: number): number {
    const call = this.#call;
    const flags = bytes[at]!;
    call.out.isResp3 = (flags & CommandFlag.resp3) !== 0;
    if ((flags & CommandFlag.transaction) !== 0) return this.#executeTransaction(bytes, at);
    const end = call.take(bytes, at + COMMAND_BYTES, readU16(bytes, at + 1));
    const info = findCommand(bytes, call.starts[0]!, call.lengths[0]!);
    if (info === undefined) this.#unknownCommand();
    else this.#run(info, false);
    return end;
  }

  #run(info: CommandInfo, isInTransaction: boolean): void {
    const call = this.#call;
    call.name = info.name;
    call.patternSteps = 0;
    if (!hasArity(info, call.argc)) return call.arityError();
    if (call.argc > ARGUMENTS_MAX)
      return call.error(`ERR the command has ${call.argc} arguments, this cluster takes ${ARGUMENTS_MAX}`);
    const handler = HANDLERS.get(info);
    if (handler !== undefined) {
      this.#store.event = eventCode(info);
      return handler(call);
    }
    if (isInTransaction) call.error('ERR Command not allowed inside a transaction');
    else call.error(`ERR the front end executes '${info.name}', not the cluster`);
  }

  /** Redis' words: clients look at them. */
  #unknownCommand(): void {
    const call = this.#call;
    let args = '';
    for (let i = 1; i < call.argc && args.length < 128; i++)
      args += `'${upToZero(call.text(i)).slice(0, 128 - args.length)}' `;
    call.error(`ERR unknown command '${upToZero(call.text(0)).slice(0, 128)}', with args beginning with: ${args}`);
  }

  #executeTransaction(bytes: Uint8Array, at: number): number {
    const { out } = this.#call;
    const first = at + TRANSACTION_BYTES + this.#watchedBytes(bytes, at);
    const count = readU16(bytes, first);
    const commands = first + TRANSACTION_COUNT_BYTES;
    let end = commands;
    for (let i = 0; i < count; i++) end = endOfCommand(bytes, end);
    if (!this.#isUnchanged(bytes, at)) {
      out.nilArray();
      return end;
    }
    const bound = this.#measure(bytes, commands, count);
    if (bound < 0) out.error('EXECABORT Transaction discarded because of previous errors.');
    else if (bound > out.room) out.overflow(bound);
    else this.#executeParts(bytes, commands, count, bound - ARRAY_HEAD_BYTES);
    return end;
  }

  #watchedBytes(bytes: Uint8Array, at: number): number {
    let length = 0;
    for (let i = readU16(bytes, at + 1); i > 0; i--)
      length += WATCHED_BYTES + readU16(bytes, at + TRANSACTION_BYTES + length);
    return length;
  }

  /** Whether all watched keys have their revisions. */
  #isUnchanged(bytes: Uint8Array, at: number): boolean {
    const call = this.#call;
    let next = at + TRANSACTION_BYTES;
    let isSame = true;
    for (let i = readU16(bytes, at + 1); i > 0; i--) {
      const length = readU16(bytes, next);
      const key = next + WATCHED_BYTES;
      const id = length > 0 && length <= KV_KEY_BYTES_MAX ? this.#store.find(bytes, key, length) : -1;
      if (call.isQuery && id >= 0) call.saw(id);
      if ((id < 0 ? 0 : this.#store.revisionOf(id)) !== readIndex(bytes, next + 2)) isSame = false;
      next = key + length;
    }
    return isSame;
  }

  /**
   * How long the answers of a transaction may become, with the array that they are in; -1: a command is wrong. What reads
   * is executed for that, and that work counts. If the transaction itself makes an answer longer, it may not fit after all.
   */
  #measure(bytes: Uint8Array, commands: number, count: number): number {
    const call = this.#call;
    const { out } = call;
    if (count > this.#bounds.length) this.#bounds = new Int32Array(2 * count);
    const before = call.work;
    let at = commands;
    let sum = ARRAY_HEAD_BYTES;
    for (let i = 0; i < count; i++) {
      at = call.take(bytes, at + COMMAND_BYTES, readU16(bytes, at + 1));
      const info = findCommand(bytes, call.starts[0]!, call.lengths[0]!);
      if (info === undefined || !hasArity(info, call.argc)) return -1;
      if (info.kind === 'read' && call.work - before <= TRANSACTION_WORK_MAX && sum <= out.room) {
        this.#run(info, true);
        this.#bounds[i] = Math.max(ANSWER_BYTES_MIN, out.length);
        out.cut(0);
      } else this.#bounds[i] = ANSWER_BYTES_MIN;
      sum += this.#bounds[i]!;
    }
    return sum;
  }

  /** @param bound the sum of the bounds */
  #executeParts(bytes: Uint8Array, commands: number, count: number, bound: number): void {
    const call = this.#call;
    const { out } = call;
    const { start, room } = out;
    const before = call.work;
    out.array(count);
    let written = out.end;
    let at = commands;
    /** Room that is kept for the commands that follow. */
    let kept = bound;
    for (let i = 0; i < count; i++) {
      kept -= this.#bounds[i]!;
      out.begin(written, start + room - kept);
      at = call.take(bytes, at + COMMAND_BYTES, readU16(bytes, at + 1));
      if (call.work - before > TRANSACTION_WORK_MAX) call.error('ERR the transaction does too much at once; split it');
      else this.#run(findCommand(bytes, call.starts[0]!, call.lengths[0]!)!, true);
      if (out.overflows) {
        const { length } = out;
        out.cut(0);
        call.error(`ERR the answer of ${length} bytes does not fit the transaction`);
      }
      written = out.end;
    }
    out.resume(start, written, start + room);
  }

  /** Checks the bytes of an operation, and notes whether it can change something. */
  #check({ bytes, offset, length }: Operation): number {
    this.#canChange = false;
    if (length < COMMANDS_BYTES) return BAD_LENGTH;
    if (bytes[offset + CommandsAt.flags] !== 0) return BAD_FLAGS;
    const room = readI32(bytes, offset + CommandsAt.room);
    if (room < ROOM_BYTES_MIN || room > ROOM_BYTES_MAX) return BAD_ROOM;
    const end = offset + length;
    let at = offset + COMMANDS_BYTES;
    const count = readU16(bytes, offset + CommandsAt.count);
    if (count === 0) return BAD_COUNT;
    for (let i = 0; i < count; i++) {
      if (at + COMMAND_BYTES > end) return BAD_LENGTH;
      const flags = bytes[at]!;
      if (flags > (CommandFlag.resp3 | CommandFlag.transaction)) return BAD_FLAGS;
      if ((flags & CommandFlag.transaction) === 0) {
        const reason = this.#checkCommand(bytes, at, end);
        if (reason !== GOOD) return reason;
        at = endOfCommand(bytes, at);
        continue;
      }
      let next = at + TRANSACTION_BYTES;
      for (let left = readU16(bytes, at + 1); left > 0; left--) {
        if (next + WATCHED_BYTES > end) return BAD_LENGTH;
        next += WATCHED_BYTES + readU16(bytes, next);
      }
      if (next + TRANSACTION_COUNT_BYTES > end) return BAD_LENGTH;
      let left = readU16(bytes, next);
      for (next += TRANSACTION_COUNT_BYTES; left > 0; left--) {
        const reason = this.#checkCommand(bytes, next, end);
        if (reason !== GOOD) return reason;
        if ((bytes[next]! & CommandFlag.transaction) !== 0) return BAD_FLAGS;
        next = endOfCommand(bytes, next);
      }
      at = next;
    }
    return at === end ? GOOD : BAD_LENGTH;
  }

  #checkCommand(bytes: Uint8Array, at: number, end: number): number {
    if (at + COMMAND_BYTES > end) return BAD_LENGTH;
    if (bytes[at]! > (CommandFlag.resp3 | CommandFlag.transaction)) return BAD_FLAGS;
    let next = at + COMMAND_BYTES;
    const argc = readU16(bytes, at + 1);
    if (argc === 0) return BAD_COUNT;
    for (let i = 0; i < argc; i++) {
      if (next + ARGUMENT_BYTES > end) return BAD_LENGTH;
      next += ARGUMENT_BYTES + readU16(bytes, next);
    }
    if (next > end) return BAD_LENGTH;
    const name = at + COMMAND_BYTES + ARGUMENT_BYTES;
    const info = findCommand(bytes, name, readU16(bytes, name - ARGUMENT_BYTES));
    if (info?.kind === 'write') this.#canChange = true;
    return GOOD;
  }
}

/** Where a command ends, whose lengths are known to be right. */
function endOfCommand(bytes: Uint8Array, at: number): number {
  let next = at + COMMAND_BYTES;
  for (let left = readU16(bytes, at + 1); left > 0; left--) next += ARGUMENT_BYTES + readU16(bytes, next);
  return next;
}

/** Redis writes these texts as strings of C. */
function upToZero(text: string): string {
  const end = text.indexOf('\0');
  return end < 0 ? text : text.slice(0, end);
}
