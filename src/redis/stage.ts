/** The run of one connection, on its way into an operation: its commands as the machine takes them. Reused. */
import { commandBytes, CommandsEncoder, type CommandsHead } from '../machine/redis/codec.js';
import { COMMANDS_BYTES } from '../machine/redis/layout.js';
import type { CommandSpans } from './resp-reader.js';
import type { RespVersion } from './resp-text.js';
import type { Transaction } from './transaction.js';
import type { Watched } from './watched.js';

/** Any head that the encoder takes: the operation gets its own. */
const HEAD: CommandsHead = { room: 1024, now: 0, randomHi: 0, randomLo: 0 };

/** `full`: it has to wait for the next run. `too-long`: no operation takes it. */
export type Added = 'added' | 'full' | 'too-long';

export class Stage {
  /** Where the commands are: behind the head of an operation. */
  readonly bytes: Uint8Array;
  isWriting = false;
  /** Commands may be added: the cluster is there, and an operation for them. */
  isOpen = false;
  /** Where each command begins. */
  readonly starts: number[] = [];
  private readonly encoder = new CommandsEncoder();
  private end = 0;

  /**
   * @param runBytes how long a run may become
   * @param operationBytes how long one command may be that is longer than that, with the head
   */
  constructor(
    private readonly runBytes: number,
    readonly operationBytes: number,
  ) {
    this.bytes = new Uint8Array(operationBytes);
  }

  begin(isOpen: boolean): void {
    this.isOpen = isOpen;
    this.isWriting = false;
    this.starts.length = 0;
    this.end = this.runBytes;
    this.encoder.begin(this.bytes, 0, this.end, HEAD);
  }

  get count(): number {
    return this.starts.length;
  }

  /** Bytes of the operation with these commands. */
  get length(): number {
    return this.end - this.encoder.free;
  }

  command(command: CommandSpans, version: RespVersion, isWriting: boolean): Added {
    const { count, bytes, offsets, lengths } = command;
    let argumentBytes = 0;
    for (let i = 0; i < count; i++) argumentBytes += lengths[i]!;
    const room = this.roomFor(commandBytes(count, argumentBytes));
    if (room !== 'added') return room;
    this.starts.push(this.length);
    this.encoder.command(version === 3, count, argumentBytes);
    for (let i = 0; i < count; i++) this.encoder.argument(bytes, offsets[i]!, lengths[i]!);
    this.isWriting ||= isWriting;
    return 'added';
  }

  /** A command that the front end itself asks. @param words a byte a character */
  question(words: readonly string[], version: RespVersion): Added {
    const argumentBytes = words.reduce((sum, word) => sum + word.length, 0);
    const room = this.roomFor(commandBytes(words.length, argumentBytes));
    if (room !== 'added') return room;
    this.starts.push(this.length);
    this.encoder.command(version === 3, words.length, argumentBytes);
    for (const word of words) this.encoder.argument(Buffer.from(word, 'latin1'), 0, word.length);
    return 'added';
  }

  transaction(transaction: Transaction, watched: Watched, version: RespVersion): Added {
    const keys = watched.list();
    const room = this.roomFor(transaction.bytesWith(keys));
    if (room !== 'added') return room;
    this.starts.push(this.length);
    const { encoder } = this;
    encoder.transaction(version === 3, keys, transaction.machineCount, transaction.machineBytes);
    for (const { info, bytes, lengths } of transaction.commands) {
      if (info.kind === 'local') continue;
      encoder.command(version === 3, lengths.length, bytes.length);
      let at = 0;
      for (const length of lengths) {
        encoder.argument(bytes, at, length);
        at += length;
      }
    }
    this.isWriting ||= transaction.isWriting;
    return 'added';
  }

  private roomFor(length: number): Added {
    if (length <= this.encoder.free) return 'added';
    if (this.count > 0) return 'full';
    if (COMMANDS_BYTES + length > this.operationBytes) return 'too-long';
    this.end = COMMANDS_BYTES + length;
    this.encoder.begin(this.bytes, 0, this.end, HEAD);
    return 'added';
  }
}
