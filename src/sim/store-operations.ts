/** The operations of the model of the store as bytes, and results of the machine as outcomes of the model. */
import { isDeepStrictEqual } from 'node:util';
import { decodeResult, encodeDelete, encodeGet, encodePut } from '../machine/kv-codec.js';
import {
  decodeStoreResult,
  encodeGrant,
  encodeRange,
  encodeRead,
  encodeRemove,
  encodeRenew,
  encodeRevoke,
  encodeTick,
  encodeTransaction,
  encodeWrite,
  type TransactionCondition,
  type TransactionOperation,
} from '../machine/store/codec.js';
import { CommandsEncoder, commandBytes, decodeCommandsResult } from '../machine/redis/codec.js';
import { isTransaction, type ModelCommand, type Words } from './commands-model.js';
import type { ModelOperation, Outcome, Texts } from './store-model.js';

/** More than what the commands of an operation answer. */
const COMMANDS_ROOM = 4096;
const encoder = new TextEncoder();
const bytesOf = (text: string): Uint8Array => encoder.encode(text);
const decoder = new TextDecoder();
const PART_NAMES = { get: 'read', put: 'write', delete: 'remove', range: 'range' } as const;

/** Writes the operation at the beginning of `target`; returns its length. */
export function encodeModelOperation(operation: ModelOperation, target: Uint8Array): number {
  const key = 'key' in operation ? encoder.encode(operation.key) : target;
  switch (operation.name) {
    case 'get':
      return encodeGet(target, 0, key);
    case 'put':
      return encodePut(target, 0, key, encoder.encode(operation.value));
    case 'delete':
      return encodeDelete(target, 0, key);
    case 'read':
      return encodeRead(target, 0, key);
    case 'write':
      return encodeWrite(target, 0, key, encoder.encode(operation.value), operation.hold, operation.condition);
    case 'remove':
      return encodeRemove(target, 0, key, operation.condition);
    case 'range': {
      const { from, to, limit } = rangeInBytes(operation);
      return encodeRange(target, 0, from, to, limit);
    }
    case 'transact':
      return encodeTransaction(target, 0, {
        if: operation.if.map(conditionInBytes),
        do: operation.do.map(partInBytes),
        else: operation.else.map(partInBytes),
      });
    case 'grant':
      return encodeGrant(target, 0, operation.ttl);
    case 'renew':
      return encodeRenew(target, 0, operation.leases);
    case 'revoke':
      return encodeRevoke(target, 0, operation.lease);
    case 'tick':
      return encodeTick(target, 0);
    case 'commands':
      return encodeCommands(operation.commands, target);
  }
}

function encodeCommands(commands: readonly ModelCommand[], target: Uint8Array): number {
  const commandsEncoder = new CommandsEncoder();
  commandsEncoder.begin(target, 0, target.length, { room: COMMANDS_ROOM, now: 0, randomHi: 0, randomLo: 0 });
  const lengthOf = (words: Words): number => words.reduce((sum, word) => sum + word.length, 0);
  const put = (words: Words): void => {
    if (!commandsEncoder.command(false, words.length, lengthOf(words))) throw new RangeError('the commands do not fit');
    for (const word of words) commandsEncoder.argument(bytesOf(word), 0, word.length);
  };
  for (const command of commands) {
    if (isTransaction(command)) {
      const watched = command.watched.map(([key, revision]) => ({ key: bytesOf(key), revision }));
      const length = command.commands.reduce((sum, words) => sum + commandBytes(words.length, lengthOf(words)), 0);
      if (!commandsEncoder.transaction(false, watched, command.commands.length, length))
        throw new RangeError('the transaction does not fit');
      command.commands.forEach(put);
    } else put(command);
  }
  return commandsEncoder.finish();
}

/** What the machine says with these bytes. Throws `KvError` if they are no result of the operation. */
export function decodeOutcome(operation: ModelOperation, result: Uint8Array): Outcome {
  const { name } = operation;
  if (name === 'get' || name === 'put' || name === 'delete')
    return asTexts(decodeResult(name, result, 0, result.length)) as Outcome;
  if (name === 'commands') return asTexts(decodeCommandsResult(result, 0, result.length)) as Outcome;
  const decoded = decodeStoreResult(name, result, 0, result.length);
  if (name !== 'transact' || !('results' in decoded)) return asTexts(decoded) as Outcome;
  const branch = decoded.isDo ? operation.do : operation.else;
  const results = decoded.results.map((bytes, i) => {
    const kind = (['get', 'put', 'delete', 'range'] as const).find((one) => one in branch[i]!)!;
    return asTexts(decodeStoreResult(PART_NAMES[kind], bytes, 0, bytes.length)) as Outcome;
  });
  return { status: decoded.status, revision: decoded.revision, isDo: decoded.isDo, results };
}

export function sameOutcome(a: Outcome, b: Outcome): boolean {
  return isDeepStrictEqual(a, b);
}

function conditionInBytes(condition: Texts<TransactionCondition>): TransactionCondition {
  return {
    ...condition,
    key: encoder.encode(condition.key),
    ...('value' in condition ? { value: encoder.encode(condition.value) } : {}),
  } as TransactionCondition;
}

function partInBytes(part: Texts<TransactionOperation>): TransactionOperation {
  if ('get' in part) return { get: encoder.encode(part.get) };
  if ('delete' in part) return { delete: encoder.encode(part.delete) };
  if ('range' in part) return { range: rangeInBytes(part.range) };
  return { ...part, put: encoder.encode(part.put), value: encoder.encode(part.value) };
}

function rangeInBytes({ from, to, limit }: { from: string; to: string | null; limit: number }): {
  from: Uint8Array;
  to: Uint8Array | null;
  limit: number;
} {
  return { from: encoder.encode(from), to: to === null ? null : encoder.encode(to), limit };
}

/** Texts for bytes, everywhere. */
function asTexts(value: unknown): unknown {
  if (value instanceof Uint8Array) return decoder.decode(value);
  if (Array.isArray(value)) return value.map(asTexts);
  if (typeof value === 'object' && value !== null)
    return Object.fromEntries(Object.entries(value).map(([name, of]) => [name, asTexts(of)]));
  return value;
}
