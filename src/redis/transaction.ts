/**
 * What MULTI collects, and EXEC's answer.
 *
 * The commands of a transaction are one command of an operation: all of them are executed at one place of the log, or
 * none. Commands that the front end answers itself take no part in that. Their replies are put between the machine's.
 */
import type { CommandInfo } from '../machine/redis/command-table.js';
import { commandBytes, transactionBytes, type WatchedKey } from '../machine/redis/codec.js';
import { textOf, type CommandSpans } from './resp-reader.js';
import { replyEnd } from './resp-text.js';

/** By key, a byte a character. */
export type Watched = Map<string, WatchedKey>;

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
    this.machineBytes += length;
    this.isWriting ||= info.kind === 'write';
    return true;
  }

  /** Bytes of an operation that it takes. */
  bytesWith(watched: Watched): number {
    return transactionBytes([...watched.values()], this.machineBytes);
  }

  get hasLocal(): boolean {
    return this.machineCount < this.commands.length;
  }
}

/** The arguments of a queued command, a byte a character. */
export function argumentsOf({ bytes, lengths }: QueuedCommand): string[] {
  const text = textOf(bytes);
  let at = 0;
  return lengths.map((length) => text.slice(at, (at += length)));
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
  let joined = `*${commands.length}\r\n`;
  for (const command of commands) {
    if (command.info.kind === 'local') {
      joined += local(command);
      continue;
    }
    const end = replyEnd(bytes, at);
    joined += text.slice(at, end);
    at = end;
  }
  return joined;
}
