/** What StoreClient takes and gives. */
import type { KeyCondition, KeyState, StoreEntry } from '../machine/store/codec.js';
import type { Bytes } from './bytes-or-text.js';
import type { CallOptions } from './client.js';

/** What a write names that only the holder of a lock may do: a Lock, or the two numbers of one. */
export interface Fence {
  /** The key of its place in the store. */
  readonly key: Uint8Array;
  /** The revision that it has as long as the lock is held. */
  readonly token: number;
}

/** The value of a key, and what the store knows of it. */
export interface StoreValue extends KeyState {
  readonly value: Uint8Array;
}

/** A lease as it was granted: see StoreClient.grant. */
export interface StoreLease {
  /** Never used again: who knows it knows this lease. */
  readonly number: number;
  /** How far a renewal moves its end, ms. */
  readonly ttl: number;
  /** Its end when it was granted, ms. */
  readonly ends: number;
}

/** How long a key stays; default: for ever. At most one of the three. */
export interface PutHold {
  /** For this long, ms: 1 to 31,622,400,000 (366 days). */
  readonly ttl?: number | undefined;
  /** As long as this lease (also a Lease, which renews itself). */
  readonly lease?: Pick<StoreLease, 'number'> | undefined;
  /** As long as before. */
  readonly keep?: boolean | undefined;
}

export interface PutOptions extends PutHold, CallOptions {
  /** Changes nothing unless this holds. */
  readonly if?: KeyCondition;
  /** Changes nothing unless this lock is still held: rejects with `fenced`. */
  readonly fence?: Fence;
}

export interface DeleteOptions extends CallOptions {
  /** Changes nothing unless this holds. */
  readonly if?: KeyCondition;
  /** Changes nothing unless this lock is still held: rejects with `fenced`. */
  readonly fence?: Fence;
}

/** `ok`: false if the condition did not hold. `revision`: the number of the store's last change. */
export interface PutResult {
  readonly ok: boolean;
  readonly revision: number;
  /** When the key ends, ms. Undefined: never, or nothing was put. */
  readonly ends: number | undefined;
}

export interface RangeOptions {
  /** Only keys that begin with this. Excludes `to`. */
  readonly prefix?: Bytes;
  /** First key, included. Default: the first one. */
  readonly from?: Bytes;
  /** Upper end, excluded. Default: no end. */
  readonly to?: Bytes;
  /** Most entries to return. Default 100. */
  readonly limit?: number;
}

/** `next`: the range has further keys; continue with this as `from`. Each page is of its own revision. */
export interface RangeResult {
  readonly revision: number;
  readonly entries: readonly StoreEntry[];
  readonly next: Uint8Array | undefined;
}

/** One condition of a transaction; all have to hold. */
export type StoreCondition = { readonly key: Bytes } & (KeyCondition | { readonly value: Bytes });
export type StoreOperation =
  | { readonly get: Bytes }
  | ({ readonly put: Bytes; readonly value: Bytes } & PutHold)
  | { readonly delete: Bytes }
  | { readonly range: RangeOptions };

/** At most 64 conditions, and 64 operations in each branch; a branch may change a key once. */
export interface StoreTransaction {
  readonly if?: readonly StoreCondition[];
  /** Executed if all conditions hold. */
  readonly do?: readonly StoreOperation[];
  /** Executed otherwise. */
  readonly else?: readonly StoreOperation[];
  /**
   * Changes nothing unless this lock is still held: rejects with `fenced`. It counts as one of the conditions, and as one
   * of the operations of `else`, which then may only read.
   */
  readonly fence?: Fence;
}

/** What one operation of a transaction gave. */
export type StoreOperationResult =
  | { readonly kind: 'get'; readonly found: StoreValue | undefined }
  | { readonly kind: 'put'; readonly revision: number; readonly ends: number | undefined }
  | { readonly kind: 'delete'; readonly deleted: boolean }
  | ({ readonly kind: 'range' } & RangeResult);

/** `ok`: whether all conditions held, so that the results are those of `do`. */
export interface TransactionResult {
  readonly ok: boolean;
  readonly revision: number;
  readonly results: readonly StoreOperationResult[];
}
