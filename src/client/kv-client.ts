/**
 * The key-value store (src/machine/kv.ts) as methods. Keys and values are bytes, or strings, which are encoded as
 * UTF-8.
 *
 * A normal answer of the store (absent, differs) is a return value; what it cannot do is an error.
 */
import { JitPaxosError } from '../errors.js';
import {
  decodeResult,
  encodeCas,
  encodeDelete,
  encodeGet,
  encodeIncrement,
  encodePut,
  encodeScan,
  KV_OPERATION_BYTES_MAX,
  KV_SCAN_LIMIT_MAX,
  type KvEntry,
  type KvOperationName,
  type KvResults,
} from '../machine/kv-codec.js';
import { notUnderstood, resultTooLarge, storeFull, toBytes, wrongType, type Bytes } from './bytes-or-text.js';
import type { CallOptions, Client } from './client.js';

export type { Bytes } from './bytes-or-text.js';

export interface ScanOptions extends CallOptions {
  /** First key, included. Default: the first key of the store. */
  readonly from?: Bytes;
  /** Upper end, excluded. Default: no end. */
  readonly to?: Bytes;
  /** Most entries to return. Default 100. */
  readonly limit?: number;
}

/** `more`: the range may have further keys; continue from the last key followed by a zero byte. */
export interface ScanResult {
  readonly entries: readonly KvEntry[];
  readonly more: boolean;
}

type Refused = 'bad-operation' | 'too-large' | 'full' | 'wrong-type';

const DEFAULT_SCAN_LIMIT = Math.min(100, KV_SCAN_LIMIT_MAX);

/**
 * All methods reject as Client.execute does, with KvError `kv-limit` for keys and values out of bounds, with `text-ill-formed`
 * for strings that are no Unicode text, with `kv-wrong-type` for keys that hold a collection, with `result-unexpected` or KvError `kv-result-malformed` where another state machine
 * answers, and with the codes named.
 */
export class KvClient {
  /** Operations are encoded here: the client copies them before it returns. */
  private readonly scratch = new Uint8Array(KV_OPERATION_BYTES_MAX);

  constructor(private readonly client: Pick<Client, 'execute' | 'query'>) {}

  /** The value, or undefined if the key is absent. Linearizable. */
  async get(key: Bytes, options?: CallOptions): Promise<Uint8Array | undefined> {
    const length = encodeGet(this.scratch, 0, toBytes(key));
    const result = this.decode('get', await this.client.query(this.scratch.subarray(0, length), options));
    return result.status === 'ok' ? result.value : undefined;
  }

  /** Also rejects with `kv-store-full`. */
  async put(key: Bytes, value: Bytes, options?: CallOptions): Promise<void> {
    const length = encodePut(this.scratch, 0, toBytes(key), toBytes(value));
    this.decode('put', await this.client.execute(this.scratch.subarray(0, length), options));
  }

  /** False if the key was absent. */
  async delete(key: Bytes, options?: CallOptions): Promise<boolean> {
    const length = encodeDelete(this.scratch, 0, toBytes(key));
    return this.decode('delete', await this.client.execute(this.scratch.subarray(0, length), options)).status === 'ok';
  }

  /**
   * Puts `value` (null: deletes the key) if the current value is `expected` (null: if the key is absent); otherwise
   * false. Also rejects with `kv-store-full`.
   */
  async compareAndSet(
    key: Bytes,
    expected: Bytes | null,
    value: Bytes | null,
    options?: CallOptions,
  ): Promise<boolean> {
    const length = encodeCas(
      this.scratch,
      0,
      toBytes(key),
      expected === null ? null : toBytes(expected),
      value === null ? null : toBytes(value),
    );
    return this.decode('cas', await this.client.execute(this.scratch.subarray(0, length), options)).status === 'ok';
  }

  /**
   * Adds to the signed 64-bit number under the key (absent: 0) and resolves to the sum. Also rejects with
   * `kv-not-a-number` and `kv-store-full`.
   */
  async increment(key: Bytes, delta: number | bigint = 1, options?: CallOptions): Promise<bigint> {
    const length = encodeIncrement(this.scratch, 0, toBytes(key), delta);
    const result = this.decode('increment', await this.client.execute(this.scratch.subarray(0, length), options));
    if (result.status === 'ok') return result.value;
    throw new JitPaxosError(
      'kv-not-a-number',
      'the value under the key is not a 64-bit number; increment works on keys that are absent or were made by increment',
    );
  }

  /**
   * Entries in key order. Linearizable. Also rejects with `kv-result-too-large`, and with `kv-ended-keys` if more than
   * 1,000 keys that have ended, or hold collections, come before the first entry: `StoreClient.scan` passes over any number.
   */
  async scan(options: ScanOptions = {}): Promise<ScanResult> {
    const { from, to, limit, ...call } = options;
    const length = encodeScan(
      this.scratch,
      0,
      toBytes(from ?? ''),
      to === undefined ? null : toBytes(to),
      limit ?? DEFAULT_SCAN_LIMIT,
    );
    const { entries, more } = this.decode('scan', await this.client.query(this.scratch.subarray(0, length), call));
    return { entries, more };
  }

  /** The result, if it is an answer; refusals of the store are thrown. */
  private decode<Name extends KvOperationName>(
    name: Name,
    bytes: Uint8Array,
  ): Exclude<KvResults[Name], { status: Refused }> {
    const result = decodeResult(name, bytes, 0, bytes.length);
    switch (result.status) {
      case 'full':
        throw storeFull();
      case 'wrong-type':
        throw wrongType();
      case 'too-large':
        throw resultTooLarge(result.neededBytes, 'scan fewer entries at once, or raise the limit');
      case 'bad-operation':
        if (name === 'scan' && result.reason === 'scan-limit') throw endedKeys();
        throw notUnderstood(name, result.reason);
      default:
        return result as Exclude<KvResults[Name], { status: Refused }>;
    }
  }
}

/** The encoder refuses a limit of 0, so this is the other meaning of `scan-limit`. */
function endedKeys(): JitPaxosError {
  return new JitPaxosError(
    'kv-ended-keys',
    'more than 1,000 keys that have ended and are still to be removed, or that hold collections, come before the first one; scan with StoreClient, which continues behind them (in the shell: kv txn with a range), or later: each operation that changes the log removes 16',
  );
}
