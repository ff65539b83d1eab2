/** A key-value machine of level 2 that is asked in Redis commands. */
import { CommandsEncoder, decodeCommandsResult, type CommandsResult } from '../../../src/machine/redis/codec.js';
import { KvMachine, type KvOptions } from '../../../src/machine/kv.js';

export type Words = readonly (string | Uint8Array)[];
export interface Part {
  readonly words: Words;
  readonly isResp3?: boolean;
}
export interface Transaction {
  readonly watched?: readonly { readonly key: string; readonly revision: number }[];
  readonly commands: readonly Words[];
  readonly isResp3?: boolean;
}
export interface Options {
  readonly room?: number;
  readonly method?: 'apply' | 'query';
  /** The sender's clock, ms. */
  readonly now?: number;
  readonly random?: number;
  readonly capacity?: number;
}

const operationBytes = new Uint8Array(60_000);
const replyBytes = new Uint8Array(65_536);

/** One character a byte. */
export const bytesOf = (word: string | Uint8Array): Uint8Array =>
  typeof word === 'string' ? new Uint8Array(Buffer.from(word, 'latin1')) : word;
export const textOf = (bytes: Uint8Array): string => Buffer.from(bytes).toString('latin1');

/** The agreed timestamp of a time in ms. */
export function timestampOf(ms: number): { timestampHi: number; timestampLo: number } {
  const ns = BigInt(ms) * 1_000_000n;
  return { timestampHi: Number(BigInt.asIntN(32, ns >> 32n)), timestampLo: Number(BigInt.asIntN(32, ns)) };
}

export function encodeOperation(parts: readonly (Part | Transaction)[], options: Options = {}): Uint8Array {
  const target = operationBytes;
  const encoder = new CommandsEncoder();
  const { room = 48 * 1024, now = 0, random = 0 } = options;
  encoder.begin(target, 0, target.length, { room, now, randomHi: random, randomLo: ~random });
  const fits = (isFitting: boolean): void => {
    if (!isFitting) throw new Error('the operation is too long');
  };
  const command = (words: Words, isResp3: boolean): void => {
    const bytes = words.map(bytesOf);
    fits(encoder.command(isResp3, bytes.length, sum(bytes)));
    for (const one of bytes) encoder.argument(one, 0, one.length);
  };
  for (const part of parts) {
    if ('words' in part) {
      command(part.words, part.isResp3 === true);
      continue;
    }
    const watched = (part.watched ?? []).map(({ key, revision }) => ({ key: bytesOf(key), revision }));
    const length = part.commands.reduce((all, words) => all + 3 + 2 * words.length + sum(words.map(bytesOf)), 0);
    fits(encoder.transaction(part.isResp3 === true, watched, part.commands.length, length));
    for (const words of part.commands) command(words, false);
  }
  return target.slice(0, encoder.finish());
}

function sum(bytes: readonly Uint8Array[]): number {
  return bytes.reduce((all, one) => all + one.length, 0);
}

export class RedisMachine {
  readonly machine: KvMachine;
  /** The agreed time of the next operations, ms. */
  now = 1_700_000_000_000;
  index = 0;

  constructor(options: KvOptions = {}) {
    this.machine = new KvMachine(options);
    this.machine.raise(2);
  }

  /** The result's bytes. */
  execute(operation: Uint8Array, { method = 'apply', capacity = 65_536 }: Options = {}): Uint8Array {
    const reply = { bytes: replyBytes, offset: 0, capacity, length: -1 };
    const isQuery = method === 'query';
    const context = { ...timestampOf(isQuery ? 0 : this.now), index: isQuery ? this.index : ++this.index };
    this.machine[method]({ bytes: operation, offset: 0, length: operation.length }, context, reply);
    if (reply.length < 0 || reply.length > capacity) throw new Error(`a reply of ${reply.length} bytes at ${capacity}`);
    return reply.bytes.slice(reply.offset, reply.offset + reply.length);
  }

  /** The result of several commands. */
  all(parts: readonly (Part | Transaction)[], options: Options = {}): CommandsResult {
    const result = this.execute(encodeOperation(parts, options), options);
    return decodeCommandsResult(result, 0, result.length);
  }

  /** The answers of several commands, as far as they were executed. */
  answers(parts: readonly (Part | Transaction)[], options: Options = {}): string[] {
    const result = this.all(parts, options);
    if (result.status !== 'ok') throw new Error(JSON.stringify(result));
    return result.answers.map(textOf);
  }

  /** The answer of one command. @param line its words, with spaces between them, or one by one */
  run(line: string | Words, options: Options & { readonly isResp3?: boolean } = {}): string {
    const words = typeof line === 'string' ? line.split(' ') : line;
    return this.answers([{ words, isResp3: options.isResp3 === true }], options)[0]!;
  }

  query(line: string | Words, options: Options = {}): string {
    return this.run(line, { ...options, method: 'query' });
  }

  get snapshot(): Buffer {
    return Buffer.from(this.machine.snapshot());
  }
}
