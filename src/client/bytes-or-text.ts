/** Keys and values as callers give them, and the errors that both clients of the key-value store throw. */
import { JitPaxosError } from '../errors.js';
import { show } from '../host/options.js';

export type Bytes = Uint8Array | string;

const encoder = new TextEncoder();

/** Throws `text-ill-formed`. */
export function toBytes(value: Bytes): Uint8Array {
  if (typeof value !== 'string') return value;
  // TextEncoder writes U+FFFD for half of a surrogate pair, so different keys would become one.
  if (!value.isWellFormed())
    throw new JitPaxosError(
      'text-ill-formed',
      `${show(value)} has half of a surrogate pair, which UTF-8 cannot encode; cut texts between characters, or give bytes`,
    );
  return encoder.encode(value);
}

export function storeFull(): JitPaxosError {
  return new JitPaxosError(
    'kv-store-full',
    'the store has reached its limits of keys or bytes; delete something, or start the cluster with larger ones',
  );
}

export function wrongType(): JitPaxosError {
  return new JitPaxosError(
    'kv-wrong-type',
    'the value of the key is a hash, a set or a list, and nothing was changed; read it over the Redis protocol, or use another key',
  );
}

/** @param remedy what to do, without a full stop */
export function resultTooLarge(neededBytes: number | null, remedy: string): JitPaxosError {
  return new JitPaxosError(
    'kv-result-too-large',
    `the result does not fit the cluster's limit resultBytes${neededBytes === null ? '' : ` (${neededBytes} bytes are needed)`}; ${remedy}`,
  );
}

export function notUnderstood(operation: string, reason: string | null): JitPaxosError {
  return new JitPaxosError(
    'result-unexpected',
    `the store does not understand the operation ${operation} (${reason ?? 'no reason given'}); run the same version of jitpaxos on replicas and clients`,
  );
}
