/**
 * What MULTI collects, and EXEC's answer.
 *
 * The commands of a transaction are one command of an operation: all of them are executed at one place of the log, or
 * none. Commands that the front end answers itself take no part in that. Their replies are put between the machine's.
 */
import type { CommandInfo } from '../machine/redis/command-table.js';
import { commandBytes, transactionBytes, type WatchedKey } from '../machine/redis/codec.js';
import { textOf, type CommandSpans } from './resp-reader.js';
import { array, failure, replyEnd } from './resp-text.js';

/** Replies of the front end in the answer to one EXEC: beyond it its other commands are refused. */
const LOCAL_BYTES_MAX = 1 << 18;
const TOO_MUCH = failure(`ERR the replies of this server in a transaction have more than ${LOCAL_BYTES_MAX} bytes`);

export interface QueuedCommand {
  readonly info: CommandInfo;
  /** All arguments, one behind the other. */
  readonly bytes: Uint8Array;
  readonly lengths: readonly number[];
}

export class Transaction {
  /** A command was refused: EXEC refuses all. */
  isRefused = false;
  readonly commands: QueuedCommand[] = [];
  /** Of the commands that the machine executes. */
  machineCount = 0;
  machineBytes = 0;
  isWriting = false;
  private hasMessage = false;
  private bytes = 0;

  /** @param bytesMax of all commands; and how many bytes one operation takes */
  constructor(private readonly bytesMax: number) {}

  /** False: there is no room for it. */
  queue(info: CommandInfo, command: CommandSpans): boolean {
    const { count, offsets, lengths } = command;
    let argumentBytes = 0;
    for (let i = 0; i < count; i++) argumentBytes += lengths[i]!;
    const length = commandBytes(count, argumentBytes);
    if (this.bytes + length > this.bytesMax) return false;
    this.bytes += length;
    const bytes = new Uint8Array(argumentBytes);
    let at = 0;
    for (let i = 0; i < count; i++) {
      bytes.set(command.bytes.subarray(offsets[i]!, offsets[i]! + lengths[i]!), at);
      at += lengths[i]!;
    }
    this.commands.push({ info, bytes, lengths: Array.from(lengths.subarray(0, count)) });
    if (info.kind === 'local') return true;
    this.machineCount++;
    this.hasMessage ||= info.name === 'publish';
    this.machineBytes += length;
    this.isWriting ||= info.kind === 'write';
    return true;
  }

  /** Bytes of an operation that it takes. */
  bytesWith(watched: readonly WatchedKey[]): number {
    return transactionBytes(watched, this.machineBytes);
  }

  /** Some of the answer is the front end's own. */
  get hasLocal(): boolean {
    return this.hasMessage || this.machineCount < this.commands.length;
  }
}

/** The arguments of a queued command, a byte a character. */
export function argumentsOf({ bytes, lengths }: QueuedCommand): string[] {
  const text = textOf(bytes);
  let at = 0;
  return lengths.map((length) => text.slice(at, (at += length)));
}

/** The answer to a transaction that the machine takes no part in. */
export function localAnswer({ commands }: Transaction, local: (command: QueuedCommand) => string): string {
  return array(commands.map(bounded(local)));
}

/** The machine's answer to PUBLISH. */
export const NO_RECEIVERS = ':0\r\n';

/** Says no more than is bounded, whatever was queued. */
function bounded(local: (command: QueuedCommand) => string): (command: QueuedCommand) => string {
  let bytes = 0;
  return (command) => {
    if (bytes > LOCAL_BYTES_MAX) return TOO_MUCH;
    const reply = local(command);
    bytes += reply.length;
    return reply;
  };
}

/**
 * The machine's answer to a transaction with the front end's own replies in their places. An answer that is no list, an
 * error or nothing, stays what it is, and `local` is not called.
 */
export function withLocalReplies(
  { commands }: Transaction,
  answer: Uint8Array | string,
  local: (command: QueuedCommand) => string,
): string {
  const bytes = typeof answer === 'string' ? Buffer.from(answer, 'latin1') : answer;
  const text = textOf(bytes);
  if (!text.startsWith('*') || text.startsWith('*-1')) return text;
  let at = text.indexOf('\r\n') + 2;
  const own = bounded(local);
  let joined = `*${commands.length}\r\n`;
  for (const command of commands) {
    if (command.info.kind === 'local') {
      joined += own(command);
      continue;
    }
    const end = replyEnd(bytes, at);
    const reply = text.slice(at, end);
    // Only the front end knows who receives a message.
    joined += command.info.name === 'publish' && reply === NO_RECEIVERS ? own(command) : reply;
    at = end;
  }
  return joined;
}
