/**
 * What is held after a wait in a line: a lock, the leadership of an election, or a permit of a semaphore.
 *
 * A holder can stop at any moment, for longer than its lease, and go on as if nothing had happened. So what it writes to
 * the store names it as `fence`: the store refuses it (`fenced`) once the place is lost. Other systems compare `token`,
 * which only grows, and refuse one below the largest that they saw.
 */
import { JitPaxosError } from '../errors.js';
import { checkInteger, checkKeys, optionNames } from '../host/options.js';
import type { StoreEntry } from '../machine/store/codec.js';
import { toBytes, type Bytes } from './bytes-or-text.js';
import type { Lease } from './lease.js';
import type { Fence } from './store-types.js';
import {
  prefixOf,
  readLine,
  takePlace,
  type LineKind,
  type LineOptions,
  type LineStore,
  type Place,
} from './waiting-line.js';

/** Made by StoreClient.lock, elect and semaphore. */
export class Lock implements AsyncDisposable, Fence {
  /** The key of its place in the store: there, with the revision `token`, as long as it is held. */
  readonly key: Uint8Array;
  /** The fencing token: larger than those of all earlier holders. */
  readonly token: number;
  /** It is held as long as this. */
  readonly lease: Lease;

  /** @internal */
  constructor(
    readonly kind: LineKind,
    readonly name: Bytes,
    place: Place,
  ) {
    this.key = place.key;
    this.token = place.token;
    this.lease = place.lease;
    this.lease.place = place;
  }

  /** Fires when it is lost, before another one can hold it, or was released: see Lease.signal. */
  get signal(): AbortSignal {
    return this.lease.signal;
  }

  /** The agreed time until which the holder may rely on it, ms: see Lease.end. */
  get end(): number {
    return this.lease.end;
  }

  /** Whether it is certainly still held. Sends nothing. Once false, always false. */
  isHeld(): boolean {
    return this.lease.isHeld();
  }

  /** Throws JitPaxosError `lease-lost` unless it is held. */
  throwIfLost(): void {
    this.lease.throwIfLost();
  }

  /** Lets the next one in. Resolves also if the cluster cannot be reached: then that is so once the lease has ended. */
  release(): Promise<void> {
    return this.lease.release();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.release();
  }
}

/** Who leads. */
export interface Leader {
  /** What it gave to `elect`. */
  readonly value: Uint8Array;
  /** Its fencing token: another one leads since. */
  readonly token: number;
}

/** The value of a candidate, which all others read, bytes. */
const VALUE_BYTES_MAX = 1024;
const PERMITS_MAX = 10_000;
const LINE_OPTION_NAMES = optionNames<LineOptions>({ ttl: true, margin: true, wait: true, signal: true });

export async function lock(store: LineStore, name: Bytes, options: LineOptions): Promise<Lock> {
  return new Lock('lock', name, await place(store, 'lock', name, 1, new Uint8Array(0), options));
}

/** Rejects with `option-invalid` if the value is too long, and as `takePlace` does. */
export async function elect(store: LineStore, name: Bytes, value: Bytes, options: LineOptions): Promise<Lock> {
  const bytes = toBytes(value);
  if (bytes.length > VALUE_BYTES_MAX)
    throw new JitPaxosError(
      'option-invalid',
      `elect: the value has ${bytes.length} bytes, at most ${VALUE_BYTES_MAX} are allowed; put what is longer under a key of its own`,
    );
  return new Lock('election', name, await place(store, 'election', name, 1, bytes, options));
}

/** Rejects with `option-invalid`, `semaphore-differs`, and as `takePlace` does. */
export async function semaphore(store: LineStore, name: Bytes, permits: number, options: LineOptions): Promise<Lock> {
  checkInteger('option-invalid', 'semaphore: permits', permits, 1, PERMITS_MAX);
  const own = toBytes(String(permits));
  const isOwn = ({ value }: StoreEntry): boolean => Buffer.from(value).equals(own);
  const check = (entries: readonly StoreEntry[]): void => {
    const other = entries.find((entry) => !isOwn(entry));
    if (other === undefined) return;
    throw new JitPaxosError(
      'semaphore-differs',
      `others hold or await this semaphore with ${Buffer.from(other.value).toString()} permits, not ${permits}; give all the same number, or another name`,
    );
  };
  return new Lock('semaphore', name, await place(store, 'semaphore', name, permits, own, options, check));
}

async function place(
  store: LineStore,
  kind: LineKind,
  name: Bytes,
  permits: number,
  value: Uint8Array,
  options: LineOptions,
  check?: (entries: readonly StoreEntry[]) => void,
): Promise<Place> {
  checkKeys('option-invalid', kind, options, LINE_OPTION_NAMES);
  return takePlace(store, { kind, name, permits, value }, options, check);
}

/** Undefined: nobody leads. */
export async function leader(
  store: LineStore,
  name: Bytes,
  options: { readonly signal?: AbortSignal } = {},
): Promise<Leader | undefined> {
  return leaderOf((await readLine(store, prefixOf('election', name), options)).entries);
}

function leaderOf([first]: readonly StoreEntry[]): Leader | undefined {
  return first === undefined ? undefined : { value: first.value, token: first.revision };
}

/** Who leads now, and whoever leads next; undefined while nobody does. Leaders in between may be left out. */
export async function* observe(
  store: LineStore,
  name: Bytes,
  { signal }: { readonly signal?: AbortSignal } = {},
): AsyncGenerator<Leader | undefined, void, undefined> {
  const prefix = prefixOf('election', name);
  const call = signal === undefined ? {} : { signal };
  let told: number | undefined;
  for (;;) {
    const { revision, entries } = await readLine(store, prefix, call);
    const present = leaderOf(entries);
    // 0 is no token.
    if (told !== (present?.token ?? 0)) {
      told = present?.token ?? 0;
      yield present;
    }
    await changes(store, prefix, entries, revision, call);
  }
}

/** Until somebody else may lead. */
async function changes(
  store: LineStore,
  prefix: Uint8Array,
  [first]: readonly StoreEntry[],
  from: number,
  call: { readonly signal?: AbortSignal },
): Promise<void> {
  try {
    for await (const { kind, key } of store.watch(first?.key ?? prefix, { from, ...call }))
      if ((kind === 'put') === (first === undefined) && (first === undefined || Buffer.from(key).equals(first.key)))
        return;
  } catch (error) {
    if (!(error instanceof JitPaxosError) || error.code !== 'watch-compacted') throw error;
  }
}
