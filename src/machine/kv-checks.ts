/** What the codecs of the key-value store check, and the errors that they throw. */
import { copyBytes } from '../wire/copy.js';
import { readI32 } from '../wire/u64.js';
import {
  KV_KEY_BYTES_MAX,
  KV_KEY_BYTES_MIN,
  KV_VALUE_BYTES_MAX,
  RESULT_STATUS_BYTES,
  STATUS_BAD_OPERATION,
  STATUS_TOO_LARGE,
} from './kv-layout.js';
import { KvError } from './machine-error.js';

/** Not `slice`: a Buffer's shares memory. */
export function copyOf(bytes: Uint8Array, from: number, to: number): Uint8Array {
  const copy = new Uint8Array(to - from);
  copyBytes(bytes, from, copy, 0, to - from);
  return copy;
}

export function checkKey(key: Uint8Array): void {
  if (key.length >= KV_KEY_BYTES_MIN && key.length <= KV_KEY_BYTES_MAX) return;
  throw new KvError(
    'kv-limit',
    `key of ${key.length} bytes: a key has ${KV_KEY_BYTES_MIN} to ${KV_KEY_BYTES_MAX} bytes; shorten or hash it`,
  );
}

export function checkBound(what: string, key: Uint8Array): void {
  if (key.length <= KV_KEY_BYTES_MAX) return;
  throw new KvError(
    'kv-limit',
    `bound "${what}" of ${key.length} bytes: a key has at most ${KV_KEY_BYTES_MAX} bytes; shorten it`,
  );
}

export function checkValue(what: string, value: Uint8Array): void {
  if (value.length <= KV_VALUE_BYTES_MAX) return;
  throw new KvError(
    'kv-limit',
    `${what} of ${value.length} bytes: a value has at most ${KV_VALUE_BYTES_MAX} bytes; split it over several keys`,
  );
}

export function checkRoom(target: Uint8Array, offset: number, length: number): void {
  if (Number.isInteger(offset) && offset >= 0 && offset + length <= target.length) return;
  throw new KvError(
    'kv-buffer-too-small',
    `the operation takes ${length} bytes at offset ${offset}, the buffer has ${target.length}; give it a larger one`,
  );
}

export function malformed(name: string, problem: string): KvError {
  return new KvError(
    'kv-result-malformed',
    `not a result of ${name}: ${problem}; check that the cluster runs the kv machine of this version`,
  );
}

/** What a result says if it is one of the refusals that any operation may get; undefined: it is another result. */
export function decodeRefusal<Reason extends string>(
  name: string,
  reasons: readonly Reason[],
  bytes: Uint8Array,
  offset: number,
  length: number,
):
  | { status: 'bad-operation'; reason: Reason | null }
  | { status: 'too-large'; neededBytes: number | null }
  | undefined {
  if (length < RESULT_STATUS_BYTES) throw malformed(name, 'it is empty (was the reply capacity 0?)');
  const code = bytes[offset]!;
  const at = offset + RESULT_STATUS_BYTES;
  const rest = length - RESULT_STATUS_BYTES;
  if (code === STATUS_BAD_OPERATION) {
    const reason = rest === 0 ? null : reasons[bytes[at]!];
    if (rest > 1 || reason === undefined) throw malformed(name, 'the reason of bad-operation is unknown');
    return { status: 'bad-operation', reason };
  }
  if (code !== STATUS_TOO_LARGE) return undefined;
  if (rest !== 0 && rest !== 4) throw malformed(name, `too-large carries 0 or 4 bytes, not ${rest}`);
  return { status: 'too-large', neededBytes: rest === 0 ? null : readI32(bytes, at) >>> 0 };
}

/** The status of a result that is not a refusal. */
export function decodeStatus<Status extends string>(
  name: string,
  names: readonly Status[],
  own: ReadonlySet<Status>,
  code: number,
): Status {
  const status = names[code];
  if (status === undefined || !own.has(status))
    throw malformed(name, `status ${code} (${status ?? 'unknown'}) is not one of its own`);
  return status;
}
