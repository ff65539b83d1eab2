/**
 * Mutated commands by the million, to the front end and the state machine behind it in one process: its own sockets are
 * left out, everything else is the real code. What must hold, whatever the bytes are:
 *
 * - nothing throws, in the front end or in the machine: a replica whose machine throws stops;
 * - all that is written to a client is replies, none of them cut off;
 * - no whole command is left lying, and what is held of the commands is bounded, and nothing when all have left.
 */
import { EventEmitter } from 'node:events';
import type { Socket } from 'node:net';
import { COMMANDS, SUBCOMMANDS } from '../../../src/machine/redis/command-table.js';
import { KNOWN_SCRIPTS } from '../../../src/machine/redis/scripts.js';
import { Batcher } from '../../../src/redis/batcher.js';
import { Connection } from '../../../src/redis/connection.js';
import { Front, type Store } from '../../../src/redis/front.js';
import { COMMANDS_BYTES } from '../../../src/machine/redis/layout.js';
import { RedisMachine } from '../../machine/redis/redis-machine.js';
import { randomFrom } from '../../random.js';
import { RandomCommands } from '../random-commands.js';
import { commandBytes, readReply } from '../resp-client.js';

const CONNECTIONS = 16;
/** Commands of a connection in a round. */
const COMMANDS_EACH = 64;
/** Rounds with the same machine. */
const LIFE_ROUNDS = 50;
/** Turns of the event loop in which all that is whole must have been taken. */
const TURNS_MAX = 100_000;
/** Of a connection's commands, beside its chunks: the bound is 128 KiB and one command. */
const HELD_BYTES_MAX = 1 << 18;
const OPERATION_BYTES = 48 * 1024;
const NUMBERS = [
  '',
  '-1',
  '0',
  '1',
  '3',
  '4096',
  '4097',
  '1048576',
  '1048577',
  '2147483648',
  '4294967297',
  '9'.repeat(20),
  '+1',
  ' 1',
  '1.5',
  '1e3',
  '٣',
  '0x10',
  '-0',
];
const LOCAL = [
  // CLIENT REPLY ON often, so that most replies are seen.
  ...[
    'HELLO 3',
    'HELLO 2',
    'HELLO 9',
    'HELLO 3 AUTH default x SETNAME y',
    'AUTH x',
    'MULTI',
    'MULTI',
    'EXEC',
    'EXEC',
    'DISCARD',
  ],
  ...[
    'WATCH s1 h1',
    'WATCH s1',
    'UNWATCH',
    'RESET',
    'CLIENT REPLY OFF',
    'CLIENT REPLY ON',
    'CLIENT REPLY ON',
    'CLIENT REPLY ON',
    'CLIENT REPLY SKIP',
    'INFO',
    'COMMAND COUNT',
  ],
  ...[
    'CLIENT LIST',
    'CLIENT SETNAME x',
    'CONFIG GET *',
    'CONFIG SET maxmemory 1',
    'PING',
    'ECHO x',
    'SELECT 0',
    'SELECT 1',
    'FLUSHALL',
  ],
  ...[
    'RANDOMKEY',
    'SPOP set1 3',
    'SRANDMEMBER set1 -50',
    'HRANDFIELD h1 -20 WITHVALUES',
    'DBSIZE',
    'WAIT 1 0',
    'SCAN 0 COUNT 1000',
    'KEYS *',
  ],
];

/** As a client's socket that takes everything, at times later than at once. */
class StandInSocket extends EventEmitter {
  readonly remoteAddress = '127.0.0.1';
  readonly remotePort = 1;
  readonly localAddress = '127.0.0.1';
  readonly localPort = 6379;
  readonly written: Uint8Array[] = [];
  bytesWritten = 0;
  writableLength = 0;
  isPaused = false;
  isEnded = false;

  write(bytes: Uint8Array): boolean {
    this.written.push(bytes);
    this.bytesWritten += bytes.length;
    return true;
  }
  pause(): void {
    this.isPaused = true;
  }
  resume(): void {
    this.isPaused = false;
  }
  end(): void {
    this.isEnded = true;
  }
  destroy(): void {
    this.isEnded = true;
  }
}

export class InputFuzzer {
  /** Mutated commands that were sent. */
  inputs = 0;
  /** Replies that were read, and errors among them. */
  replies = 0;
  errors = 0;
  /** Most bytes that a connection held. */
  heldMost = 0;
  /** What went wrong, and how often. */
  readonly found = new Map<string, number>();
  private readonly random: (n: number) => number;
  private commands: RandomCommands;
  private machine = new RedisMachine();
  private rounds = 0;
  private lastId = 0;
  private readonly heads = [...COMMANDS.keys(), ...SUBCOMMANDS.keys()];
  private readonly front: Front;
  private readonly batcher: Batcher;

  constructor(readonly seed: number) {
    this.random = randomFrom(seed);
    this.commands = new RandomCommands(seed, this.machine.now);
    this.front = new Front({
      operationBytes: OPERATION_BYTES,
      roomBytes: OPERATION_BYTES,
      batchBytes: 1_300,
      lanes: 3,
      timeoutMs: 1_000,
      clientsMax: CONNECTIONS,
      othersCount: 1,
      logins: undefined,
    });
    const store: Store = {
      execute: (operation) => this.execute(operation, 'apply'),
      query: (operation) => this.execute(operation, 'query'),
      agreedTime: () => this.machine.now,
    };
    this.front.store = store;
    this.batcher = new Batcher(this.front, {
      broken: (_store, error) => this.note('the client is given up', error),
      feature: (isOn) => isOn || this.note('the feature is said to be off'),
      bug: (error) => this.note('bug', error),
    });
    this.front.wake = (connection) => this.batcher.wake(connection);
  }

  get counters(): Front['counters'] {
    return this.front.counters;
  }

  /** Some hundred commands on each of some connections, all at once. */
  async round(): Promise<void> {
    if (this.rounds++ % LIFE_ROUNDS === 0) {
      this.machine = new RedisMachine({ maxKeys: 500, maxBytes: 4 << 20, changes: 1_000 });
      this.machine.now += this.rounds;
    }
    this.machine.now += this.random(2_000);
    await Promise.all(Array.from({ length: CONNECTIONS }, () => this.client()));
    if (this.front.input.bytes !== 0) this.note(`${this.front.input.bytes} bytes are held for nobody`);
    if (this.batcher.openOperations !== 0) this.note('operations are open for nobody');
  }

  private async client(): Promise<void> {
    const { front, batcher, random } = this;
    const socket = new StandInSocket();
    const connection = new Connection(
      ++this.lastId,
      socket as unknown as Socket,
      front.operationBytes + COMMANDS_BYTES,
      front.input,
    );
    connection.user = front.firstUser();
    front.connections.set(connection.id, connection);
    const bytes = Buffer.concat(Array.from({ length: COMMANDS_EACH }, () => this.input()));
    const chunkMost = 1 + random(random(8) === 0 ? 20 : 4_000);
    for (let at = 0; at < bytes.length && !connection.isClosing; ) {
      const end = Math.min(bytes.length, at + 1 + random(chunkMost));
      // A chunk of its own, as the kernel gives it.
      connection.push(bytes.subarray(at, end));
      batcher.wake(connection);
      at = end;
      this.heldMost = Math.max(this.heldMost, connection.reader.held);
      if (connection.reader.held > HELD_BYTES_MAX) this.note('a connection holds too much');
      for (let turns = 0; socket.isPaused || random(8) === 0; turns++) {
        if (turns === TURNS_MAX) return this.note('a connection stays paused');
        await new Promise(setImmediate);
      }
    }
    const isLeaving = random(4) === 0;
    if (isLeaving) {
      connection.isEnded = true;
      batcher.wake(connection);
    }
    for (
      let turns = 0;
      connection.isOpen || connection.isBlocked || (connection.hasInput && !connection.isClosing);
      turns++
    ) {
      if (turns === TURNS_MAX) return this.note('a command is left lying');
      await new Promise(setImmediate);
    }
    await new Promise(setImmediate);
    if ((connection.isClosing || isLeaving) && !socket.isEnded) this.note('a connection is not closed');
    connection.closed();
    front.connections.delete(connection.id);
    batcher.forget(connection);
    this.read(Buffer.concat(socket.written));
  }

  private read(bytes: Buffer): void {
    try {
      for (let at = 0; at < bytes.length; this.replies++) {
        const found = readReply(bytes, at);
        if (found === undefined) return this.note('a reply is cut off');
        if (found.reply.kind === '-') this.errors++;
        at = found.end;
      }
    } catch (error) {
      this.note('what is written is no reply', error);
    }
  }

  private execute(operation: Uint8Array, method: 'apply' | 'query'): Promise<Uint8Array> {
    try {
      return Promise.resolve(this.machine.execute(operation, { method, capacity: OPERATION_BYTES }));
    } catch (error) {
      this.note(`the machine throws in ${method}`, error);
      return Promise.reject(error);
    }
  }

  /** The bytes of one command, mutated. */
  private input(): Buffer {
    this.inputs++;
    const words = this.words();
    const kind = this.random(10);
    if (kind < 4) return commandBytes(this.mutateWords(words));
    if (kind < 7) return commandBytes(words);
    if (kind < 8) return Buffer.from(`${words.map((word) => this.quoted(word)).join(' ')}\r\n`, 'latin1');
    // A fault of the framing ends a connection, so there are fewer of them.
    return this.random(50) === 0 ? this.mutateBytes(commandBytes(words)) : this.lengthened(words);
  }

  private words(): string[] {
    const kind = this.random(10);
    if (kind < 6) return [...this.commands.command()];
    if (kind < 8) return this.pick(LOCAL).split(' ');
    if (kind === 8 && this.random(4) === 0) return this.script();
    return [
      ...this.pick(this.heads).split('|'),
      ...Array.from({ length: this.random(4) }, () => this.commands.anyKey()),
    ];
  }

  private script(): string[] {
    const { text } = this.pick(KNOWN_SCRIPTS);
    return ['EVAL', text, this.pick(NUMBERS), ...Array.from({ length: this.random(5) }, () => this.commands.value())];
  }

  private mutateWords(words: readonly string[]): string[] {
    const mutated = [...words];
    for (let left = 1 + this.random(3); left > 0; left--) {
      const at = this.random(mutated.length);
      switch (this.random(7)) {
        case 0:
          mutated[at] = this.pick(NUMBERS.slice(1));
          break;
        case 1:
          mutated[at] = '';
          break;
        case 2:
          mutated.splice(at, 0, this.commands.value());
          break;
        case 3:
          if (mutated.length > 1) mutated.splice(at, 1);
          break;
        case 4:
          mutated[at] = String.fromCharCode(...Array.from({ length: this.random(40) }, () => this.random(256)));
          break;
        case 5:
          mutated[at] = mutated[at]!.repeat(1 + this.random(this.random(50) === 0 ? 5_000 : 20)).slice(0, 70_000);
          break;
        case 6:
          mutated.push(
            ...Array<string>(this.random(this.random(100) === 0 ? 5_000 : 10)).fill(mutated[at]!.slice(0, 10)),
          );
          break;
      }
    }
    // An argument's characters are bytes.
    return mutated.map((word) => word.replace(/[^\0-\xff]/g, '?'));
  }

  private mutateBytes(bytes: Buffer): Buffer {
    let mutated = Buffer.from(bytes);
    for (let left = 1 + this.random(3); left > 0 && mutated.length > 0; left--) {
      const at = this.random(mutated.length);
      const end = Math.min(mutated.length, at + 1 + this.random(8));
      switch (this.random(4)) {
        case 0:
          mutated[at]! ^= 1 << this.random(8);
          break;
        case 1:
          mutated = Buffer.concat([mutated.subarray(0, at), mutated.subarray(end)]);
          break;
        case 2:
          mutated = Buffer.concat([mutated.subarray(0, end), mutated.subarray(at)]);
          break;
        case 3: {
          const text = mutated.toString('latin1');
          mutated = Buffer.from(
            text.replace(/([*$])\d+/, (_, sign: string) => sign + this.pick(NUMBERS)),
            'latin1',
          );
          break;
        }
      }
    }
    return mutated;
  }

  /** More arguments, or a longer one, than is taken: read over, and refused. */
  private lengthened(words: readonly string[]): Buffer {
    if (this.random(100) > 0) return commandBytes([...words, ...words]);
    return commandBytes(
      this.random(2) === 0 ? [...words, 'x'.repeat(100_000)] : [...words, ...Array<string>(5_000).fill('x')],
    );
  }

  private quoted(word: string): string {
    if (this.random(50) === 0) return word.replaceAll(/[\r\n]/g, ' ');
    const text = word.replaceAll(/[^ -~]|["\\]/g, (one) => `\\x${one.charCodeAt(0).toString(16).padStart(2, '0')}`);
    return `"${text}"`;
  }

  private pick<T>(values: readonly T[]): T {
    return values[this.random(values.length)]!;
  }

  private note(what: string, error?: unknown): void {
    const text =
      error === undefined
        ? what
        : `${what}: ${error instanceof Error ? (error.stack ?? error.message) : String(error)}`;
    this.found.set(text, (this.found.get(text) ?? 0) + 1);
  }
}
