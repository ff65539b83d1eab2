/**
 * A front end over a store in this process: the layout of operations is the real one, the commands are a handful. A test
 * says when calls are answered, and how.
 */
import { connect, type Socket } from 'node:net';
import { silentLogger } from '../../src/host/logger.js';
import {
  ANSWER_BYTES,
  COMMANDS_BYTES,
  COMMANDS_RESULT_BYTES,
  CommandFlag,
  CommandsAt,
} from '../../src/machine/redis/layout.js';
import { BAD_OPCODE, STATUS_BAD_OPERATION } from '../../src/machine/kv-layout.js';
import { findCommand } from '../../src/machine/redis/command-table.js';
import { Batcher } from '../../src/redis/batcher.js';
import { Front, type FrontOptions, type Store } from '../../src/redis/front.js';
import { Listener } from '../../src/redis/listener.js';
import { readI32, readIndex, readU16, writeI32, writeIndex, writeU16 } from '../../src/wire/u64.js';

/** A command of an operation, its words a byte a character. */
export interface Seen {
  readonly words: readonly string[];
  readonly version: 2 | 3;
  readonly watched?: readonly { readonly key: string; readonly revision: number }[];
  readonly commands?: readonly (readonly string[])[];
}

/** The commands of an operation. */
export function commandsIn(bytes: Uint8Array): Seen[] {
  let at = COMMANDS_BYTES;
  const text = (length: number): string => Buffer.from(bytes.slice(at, (at += length))).toString('latin1');
  const number = (): number => {
    at += 2;
    return readU16(bytes, at - 2);
  };
  const words = (): string[] => {
    at++;
    return Array.from({ length: number() }, () => text(number()));
  };
  const found: Seen[] = [];
  for (let left = readU16(bytes, CommandsAt.count); left > 0; left--) {
    const flags = bytes[at]!;
    const version = (flags & CommandFlag.resp3) !== 0 ? 3 : 2;
    if ((flags & CommandFlag.transaction) === 0) {
      found.push({ words: words(), version });
      continue;
    }
    at++;
    const watched = Array.from({ length: number() }, () => {
      const length = number();
      at += 8;
      const revision = readIndex(bytes, at - 8);
      return { key: text(length), revision };
    });
    found.push({ words: ['exec'], version, watched, commands: Array.from({ length: number() }, words) });
  }
  if (at !== bytes.length) throw new Error(`the operation has ${bytes.length} bytes, its commands end at ${at}`);
  return found;
}

/** Strings under keys, with revisions. */
export class StandIn implements Store {
  readonly values = new Map<string, { value: string; revision: number }>();
  /** Of each call: whether it was a query, and its commands. */
  readonly calls: { readonly isQuery: boolean; readonly commands: readonly Seen[] }[] = [];
  /** Most commands that a call executes. */
  most = Infinity;
  /** Earliest end that queries report, ms. */
  due = 0;
  nowMs = 1_000;
  /** Runs before a call is executed: waits, or throws what the call is rejected with. */
  before: (isQuery: boolean) => Promise<void> | void = () => undefined;
  /** Runs after it: throws what the call is rejected with although it was executed. */
  after: (isQuery: boolean) => Promise<void> | void = () => undefined;
  isOff = false;
  private revision = 0;

  execute(operation: Uint8Array): Promise<Uint8Array> {
    return this.call(operation.slice(), false);
  }

  query(operation: Uint8Array): Promise<Uint8Array> {
    return this.call(operation.slice(), true);
  }

  agreedTime(): number {
    return this.nowMs;
  }

  private async call(bytes: Uint8Array, isQuery: boolean): Promise<Uint8Array> {
    const commands = commandsIn(bytes);
    this.calls.push({ isQuery, commands });
    await this.before(isQuery);
    if (this.isOff) return Uint8Array.of(STATUS_BAD_OPERATION, BAD_OPCODE);
    const room = readI32(bytes, CommandsAt.room);
    const answers: Buffer[] = [];
    let length = COMMANDS_RESULT_BYTES;
    for (const seen of commands.slice(0, this.most)) {
      const name = Buffer.from(seen.words[0]!, 'latin1');
      if (isQuery && seen.commands === undefined && findCommand(name, 0, name.length)?.kind !== 'read')
        throw new Error(`${seen.words[0]} in a query`);
      // Nothing of the stand-in is long but values that were put.
      const longest = 64 + (this.values.get(seen.words[1] ?? '')?.value.length ?? 0);
      if (answers.length > 0 && length + ANSWER_BYTES + longest > room) break;
      const answer = Buffer.from(this.one(seen), 'latin1');
      answers.push(answer);
      length += ANSWER_BYTES + answer.length;
    }
    await this.after(isQuery);
    const result = new Uint8Array(length);
    writeIndex(result, 1, this.revision);
    writeIndex(result, 9, isQuery ? this.due : 0);
    writeU16(result, 17, answers.length);
    let at = COMMANDS_RESULT_BYTES;
    for (const answer of answers) {
      writeI32(result, at, answer.length);
      result.set(answer, at + ANSWER_BYTES);
      at += ANSWER_BYTES + answer.length;
    }
    return result;
  }

  private one({ words, version, watched, commands }: Seen): string {
    if (commands !== undefined) {
      const isSame = watched!.every(({ key, revision }) => (this.values.get(key)?.revision ?? 0) === revision);
      if (!isSame) return version === 3 ? '_\r\n' : '*-1\r\n';
      return `*${commands.length}\r\n${commands.map((each) => this.one({ words: each, version })).join('')}`;
    }
    const [name, key, value] = words;
    const found = this.values.get(key ?? '');
    switch (name!.toLowerCase()) {
      case 'set':
        this.values.set(key!, { value: value!, revision: ++this.revision });
        return '+OK\r\n';
      case 'get':
        if (found === undefined) return version === 3 ? '_\r\n' : '$-1\r\n';
        return `$${found.value.length}\r\n${found.value}\r\n`;
      case 'incr': {
        const next = String(Number(found?.value ?? 0) + 1);
        this.values.set(key!, { value: next, revision: ++this.revision });
        return `:${next}\r\n`;
      }
      case 'dbsize':
        return `:${this.values.size}\r\n`;
      case 'ping':
        return '+PONG\r\n';
      case 'watch':
        if (key === 'malformed') return ':1\r\n';
        return `*${words.length - 1}\r\n${words
          .slice(1)
          .map((each) => `:${this.values.get(each)?.revision ?? 0}\r\n`)
          .join('')}`;
      default:
        return `-ERR ${name} is not known to the stand-in\r\n`;
    }
  }
}

export interface Started {
  readonly front: Front;
  readonly store: StandIn;
  readonly listener: Listener;
  /** Clients that the batcher gave up, with the errors. */
  readonly broken: unknown[];
  readonly features: boolean[];
  readonly bugs: unknown[];
  close(): Promise<void>;
}

export async function startFront(options: Partial<FrontOptions> = {}): Promise<Started> {
  const store = new StandIn();
  const front = new Front({
    operationBytes: 48 * 1024,
    roomBytes: 48 * 1024,
    batchBytes: 1_300,
    lanes: 4,
    timeoutMs: 2_000,
    clientsMax: 100,
    othersCount: 1,
    logins: undefined,
    ...options,
  });
  front.store = store;
  const broken: unknown[] = [];
  const features: boolean[] = [];
  const bugs: unknown[] = [];
  const batcher = new Batcher(front, {
    broken: (_store, error) => broken.push(error),
    feature: (isOn) => features.push(isOn),
    bug: (error) => bugs.push(error),
  });
  front.wake = (connection) => batcher.wake(connection);
  const listener = new Listener(front, batcher, silentLogger);
  await listener.open('127.0.0.1:0');
  return { front, store, listener, broken, features, bugs, close: () => listener.close() };
}

/** A client that sends and reads bytes. */
export class Wire {
  text = '';
  isEnded = false;
  private wake: () => void = () => undefined;

  private constructor(readonly socket: Socket) {
    socket.setNoDelay(true);
    socket.on('data', (chunk: Buffer) => {
      this.text += chunk.toString('latin1');
      this.wake();
    });
    socket.on('error', () => undefined);
    socket.on('close', () => {
      this.isEnded = true;
      this.wake();
    });
    socket.on('end', () => {
      this.isEnded = true;
      this.wake();
    });
  }

  static async open(port: number): Promise<Wire> {
    const socket = connect({ port, host: '127.0.0.1', allowHalfOpen: true });
    await new Promise<void>((resolve, reject) => socket.once('connect', resolve).once('error', reject));
    return new Wire(socket);
  }

  send(text: string): void {
    this.socket.write(Buffer.from(text, 'latin1'));
  }

  /** Resolves with what was read when it has at least this length, or the connection has ended. */
  async read(length: number): Promise<string> {
    while (this.text.length < length && !this.isEnded) await this.more();
    const read = this.text.slice(0, length);
    this.text = this.text.slice(length);
    return read;
  }

  /** Everything until the server closes. */
  async rest(): Promise<string> {
    while (!this.isEnded) await this.more();
    return this.text;
  }

  /** Sends a text, and resolves with as many bytes as are expected. */
  async ask(text: string, expected: string): Promise<string> {
    this.send(text);
    return this.read(expected.length);
  }

  close(): void {
    this.socket.destroy();
  }

  private more(): Promise<void> {
    return new Promise((resolve) => {
      this.wake = resolve;
    });
  }
}

/** A command as clients send it. */
export function command(...words: readonly string[]): string {
  return `*${words.length}\r\n${words.map((word) => `$${Buffer.byteLength(word, 'latin1')}\r\n${word}\r\n`).join('')}`;
}
