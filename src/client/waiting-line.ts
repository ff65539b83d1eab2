/**
 * The line before a lock, an election or a semaphore: who comes first, is served first, and nobody is woken in vain.
 *
 * Each that waits has a key of its own, held by a lease of its own: name ‖ 0 ‖ kind ‖ the lease's number, 16 hex digits.
 * Its place is the revision of that key. Revisions only grow, so nobody comes before one that is there, and whoever is
 * among the first `permits` stays there until its key goes. That revision is the token: those of successive holders
 * grow, and as long as the key has it, its holder holds.
 *
 * With one permit, each watches the two keys right before its own (no herd). When the first of them goes, it finds out
 * whether the other one holds; so when that one goes, it knows that it is next, and needs no operation to be sure. With
 * several permits, any key before it may be the one that counts, so each watches them all, and counts.
 */
import { JitPaxosError } from '../errors.js';
import { show } from '../host/options.js';
import { equalBytes } from '../machine/bytes.js';
import { KV_KEY_BYTES_MAX } from '../machine/kv-layout.js';
import type { StoreEntry } from '../machine/store/codec.js';
import { PREFIX_BYTES_MAX } from '../wire/watches.js';
import { onAbort } from './abort-listeners.js';
import { toBytes, type Bytes } from './bytes-or-text.js';
import type { CallOptions } from './client.js';
import type { Lease, LeaseOptions } from './lease.js';
import { pause, TIMER_MS_MAX, type Timers } from './lease-clock.js';
import type {
  RangeOptions,
  RangeResult,
  StoreOperationResult,
  StoreTransaction,
  TransactionResult,
} from './store-types.js';
import type { WatchOptions } from './store-watch.js';
import type { StoreChange } from './watch-reader.js';

export type LineKind = 'lock' | 'election' | 'semaphore';

export interface LineOptions {
  /** How long after its last renewal the place is lost, ms, as the `ttl` of a lease. */
  readonly ttl: number;
  /** How long before that it counts as lost, ms, as the `margin` of a lease. */
  readonly margin?: number | undefined;
  /** How long to wait, ms; 0: not at all. Default: for ever. */
  readonly wait?: number | undefined;
  /** Ends the wait. What is held is released with `release`. */
  readonly signal?: AbortSignal | undefined;
}

/** What a line needs of StoreClient. */
export interface LineStore {
  /** Throws JitPaxosError `option-invalid` if the client has none. */
  readonly timers: Timers;
  lease(options: LeaseOptions & CallOptions): Promise<Lease>;
  scan(options: RangeOptions & CallOptions): Promise<RangeResult>;
  transact(transaction: StoreTransaction, options?: CallOptions): Promise<TransactionResult>;
  watch(prefix: Bytes | readonly Bytes[], options: WatchOptions): AsyncIterableIterator<StoreChange>;
  /** Asks at once for the removal of what has ended. */
  watchEnd(prefix: Bytes | readonly Bytes[], options: WatchOptions): AsyncIterableIterator<StoreChange>;
}

/** A place among the first ones. */
export interface Place {
  readonly lease: Lease;
  readonly key: Uint8Array;
  readonly token: number;
}

/** In a key, by kind. */
const KIND_BYTES: Readonly<Record<LineKind, string>> = { lock: 'l', election: 'e', semaphore: 's' };
const NUMBER_DIGITS = 16;
/** Longest name, bytes. */
export const NAME_BYTES_MAX = KV_KEY_BYTES_MAX - 2 - NUMBER_DIGITS;
const PAGE = 1000;
const FIRST_PAGE = 64;
/** After this time it is read whether those that are watched are still there, whatever a watch told, ms. */
const LOOK_MS = 10_000;
/** How often the line is read where nobody serves a watch, ms. */
const POLL_MS = 500;
/** Pauses of many that wait are longer by up to this share of them, by chance. */
const SPREAD = 0.5;
/** After a call that failed, ms. */
const AGAIN_MS = 100;
/** Why what a wait has asked for is not needed any more: a constant, because an error would cost its stack. */
const OVER = 'the wait is over';
/**
 * A place that is lost within so many of its ttl after the grant counts as lost at once. After this many such places in a row
 * the ttl is shorter than what this host or the cluster delays renewals by, and no further one would come to its turn.
 */
const BRIEF_TTLS = 4;
const LOST_MAX = 16;
/** How long a call that rejects waits for its place to be gone, ms. */
const LEAVE_MS = 250;

/** Begins the keys of a line. Throws JitPaxosError `option-invalid`, `text-ill-formed`. */
export function prefixOf(kind: LineKind, name: Bytes): Uint8Array {
  const bytes = toBytes(name);
  if (bytes.length === 0 || bytes.length > NAME_BYTES_MAX || bytes.includes(0))
    throw new JitPaxosError(
      'option-invalid',
      `the name ${typeof name === 'string' ? show(name) : ''} of a ${kind} has ${bytes.length} bytes${bytes.includes(0) ? ', one of them zero' : ''}; it has to have 1 to ${NAME_BYTES_MAX}, none of them zero`,
    );
  const prefix = new Uint8Array(bytes.length + 2);
  prefix.set(bytes);
  prefix[bytes.length + 1] = KIND_BYTES[kind].charCodeAt(0);
  return prefix;
}

/** All of a line, in its order, and the revision of the store before which nothing of it was read. */
export async function readLine(
  store: LineStore,
  prefix: Uint8Array,
  options: { readonly signal?: AbortSignal } = {},
): Promise<{ readonly revision: number; readonly entries: readonly StoreEntry[] }> {
  const first = await store.scan({ prefix, limit: PAGE, ...options });
  return { revision: first.revision, entries: await restOf(store, prefix, first.entries, first.next, options) };
}

async function restOf(
  store: LineStore,
  prefix: Uint8Array,
  first: readonly StoreEntry[],
  from: Uint8Array | undefined,
  options: { readonly signal?: AbortSignal },
): Promise<StoreEntry[]> {
  const entries = [...first];
  // A key keeps its revision and its place, so pages of several revisions leave out only those that came or went.
  for (let next = from; next !== undefined; ) {
    const page = await store.scan({ prefix, from: next, limit: PAGE, ...options });
    entries.push(...page.entries);
    next = page.next;
  }
  return entries.sort((a, b) => a.revision - b.revision);
}

/**
 * Takes a place in a line and waits until it is among the first `permits`.
 *
 * Rejects as the calls of StoreClient do, and with `option-invalid`, `lock-held` when `wait` is over, `aborted`, and with
 * `lease-lost` if `ttl` is too short to wait with.
 * @param value of its key, which all of the line see
 * @param check called with all of the line that is seen; what it throws ends the wait
 */
export async function takePlace(
  store: LineStore,
  line: { readonly kind: LineKind; readonly name: Bytes; readonly permits: number; readonly value: Uint8Array },
  { ttl, margin, wait = Infinity, signal }: LineOptions,
  check?: (entries: readonly StoreEntry[]) => void,
): Promise<Place> {
  const prefix = prefixOf(line.kind, line.name);
  if (!(typeof wait === 'number' && wait >= 0))
    throw new JitPaxosError('option-invalid', `wait is ${show(wait)}; it has to be milliseconds from 0, or Infinity`);
  const { timers } = store;
  const untilMs = timers.monotonicMs() + wait;
  if (wait === 0) {
    // Without a place, nobody who comes meanwhile is behind this one.
    if (signal?.aborted === true) throw waitAborted(line.kind, signal);
    const { entries } = await readLine(store, prefix, signal === undefined ? {} : { signal });
    check?.(entries);
    if (entries.length >= line.permits) throw timeIsOver(line.kind);
  }
  for (let lostInRow = 0; ; ) {
    const lease = await grant(store, line.kind, { ttl, margin, wait, signal }, untilMs);
    const grantedMs = timers.monotonicMs();
    try {
      const place = await new Waiter(store, prefix, line, lease, check).wait(untilMs, signal);
      if (place !== undefined) return place;
    } catch (error) {
      // Where the cluster answers, the place is gone when this rejects. Where it does not, nobody waits for that.
      await Promise.race([lease.release(), pause(timers, LEAVE_MS)]);
      throw error;
    }
    // Lost meanwhile: another place, at the end. The old one must not stay in the line.
    void lease.release();
    lostInRow = timers.monotonicMs() - grantedMs < BRIEF_TTLS * ttl ? lostInRow + 1 : 0;
    if (lostInRow === LOST_MAX) throw ttlTooShort(line.kind, ttl);
  }
}

/** The lease of a place. The time to wait and the signal bound it, too. */
async function grant(
  store: LineStore,
  kind: LineKind,
  { ttl, margin, wait, signal }: LineOptions,
  untilMs: number,
): Promise<Lease> {
  if (signal?.aborted === true) throw waitAborted(kind, signal);
  const { timers } = store;
  const over = new AbortController();
  const end = (): void => over.abort(OVER);
  const leftMs = untilMs - timers.monotonicMs();
  if (wait !== 0 && leftMs <= 0) throw timeIsOver(kind);
  const cancel = wait !== 0 && leftMs < TIMER_MS_MAX ? timers.after(leftMs, end) : undefined;
  const forget = onAbort(signal, end);
  const options = { ttl, ...(margin === undefined ? {} : { margin }), signal: over.signal };
  try {
    return await (wait === 0 ? store.lease(options) : again(timers, () => store.lease(options), over.signal));
  } catch (error) {
    // A lease that was granted all the same ends by itself.
    if (isAborted(signal)) throw waitAborted(kind, signal);
    throw over.signal.aborted ? timeIsOver(kind) : error;
  } finally {
    cancel?.();
    forget();
  }
}

/** Calls again after an error that says nothing about the line. */
async function again<T>(timers: Timers, call: () => Promise<T>, over: AbortSignal): Promise<T> {
  for (;;) {
    try {
      return await call();
    } catch (error) {
      const mayRepeat =
        error instanceof JitPaxosError &&
        (error.retryable || error.code === 'outcome-unknown' || error.code === 'session-lost') &&
        error.code !== 'kv-store-full' &&
        error.code !== 'lease-lost';
      if (over.aborted || !mayRepeat) throw error;
      await pause(timers, AGAIN_MS, over);
    }
  }
}

function isAborted(signal: AbortSignal | undefined): signal is AbortSignal {
  return signal?.aborted === true;
}

function timeIsOver(kind: LineKind): JitPaxosError {
  return new JitPaxosError(
    'lock-held',
    `the ${kind} is held by another one, or the cluster does not answer, and the time to wait is over; wait longer, or try again`,
  );
}

function ttlTooShort(kind: LineKind, ttl: number): JitPaxosError {
  return new JitPaxosError(
    'lease-lost',
    `the place in the line of the ${kind} was lost ${LOST_MAX} times in a row, soon after it was taken: renewals take longer than the ttl of ${ttl} ms allows; use a longer ttl`,
  );
}

class Waiter {
  private readonly key: Uint8Array;
  private readonly timers: Timers;
  /** Aborted when the wait is over, for whichever reason. */
  private readonly over = new AbortController();

  constructor(
    private readonly store: LineStore,
    private readonly prefix: Uint8Array,
    private readonly line: { readonly kind: LineKind; readonly permits: number; readonly value: Uint8Array },
    private readonly lease: Lease,
    private readonly check: ((entries: readonly StoreEntry[]) => void) | undefined,
  ) {
    this.timers = store.timers;
    this.key = new Uint8Array(prefix.length + NUMBER_DIGITS);
    this.key.set(prefix);
    this.key.set(toBytes(lease.number.toString(16).padStart(NUMBER_DIGITS, '0')), prefix.length);
  }

  /** Undefined: the lease was lost. */
  async wait(untilMs: number, signal: AbortSignal | undefined): Promise<Place | undefined> {
    const { lease, over, timers } = this;
    const end = (): void => over.abort(OVER);
    const leftMs = untilMs - timers.monotonicMs();
    // A timer may fire before the clock has come that far.
    let isTooLate = false;
    const endWait = (): void => {
      isTooLate = true;
      end();
    };
    // Not at all: what is found at once decides, however long that takes.
    const cancel = leftMs > 0 && leftMs < TIMER_MS_MAX ? timers.after(leftMs, endWait) : undefined;
    const forget = onAbort(signal, end);
    lease.signal.addEventListener('abort', end, { once: true });
    try {
      if (signal?.aborted === true) end();
      const token = await this.goThrough(untilMs);
      if (token !== undefined && lease.isHeld()) return { lease, key: this.key, token };
    } catch (error) {
      // The cluster may end the lease before this host sees its end come.
      const isEnded = error instanceof JitPaxosError && error.code === 'kv-lease-ended';
      if (!over.signal.aborted && !isEnded) throw error;
    } finally {
      cancel?.();
      forget();
      lease.signal.removeEventListener('abort', end);
      over.abort(OVER);
    }
    if (signal?.aborted === true) throw waitAborted(this.line.kind, signal);
    if (isTooLate || timers.monotonicMs() >= untilMs) throw timeIsOver(this.line.kind);
    return undefined;
  }

  /** The token once it is among the first; undefined: it is not, and nobody waits. */
  private async goThrough(untilMs: number): Promise<number | undefined> {
    const { timers } = this;
    const entered = await again(timers, () => this.enter(), this.over.signal);
    const { token } = entered;
    let { revision, entries } = entered;
    for (;;) {
      this.check?.(entries);
      const before = entries.filter((entry) => entry.revision < token);
      if (before.length < this.line.permits) return token;
      if (timers.monotonicMs() >= untilMs) return undefined;
      if ((await this.turns(before, revision)) === 'first') return token;
      ({ revision, entries } = await again(
        timers,
        () => readLine(this.store, this.prefix, { signal: this.over.signal }),
        this.over.signal,
      ));
    }
  }

  /** Puts the key, and reads the line. Doing it again changes nothing. Rejects with `result-unexpected`. */
  private async enter(): Promise<{ token: number; revision: number; entries: readonly StoreEntry[] }> {
    const { key, prefix, lease, store } = this;
    const range = { range: { prefix, limit: FIRST_PAGE } };
    const { revision, results } = await store.transact(
      {
        if: [{ key, absent: true }],
        do: [{ put: key, value: this.line.value, lease }, range],
        else: [{ get: key }, range],
      },
      { signal: this.over.signal },
    );
    const [own, seen] = results as [StoreOperationResult, StoreOperationResult & { kind: 'range' }];
    const token = own.kind === 'put' ? own.revision : own.kind === 'get' ? own.found?.revision : undefined;
    if (token === undefined)
      throw new JitPaxosError('result-unexpected', 'the store answered a put with something else');
    return {
      token,
      revision,
      entries: await restOf(store, prefix, seen.entries, seen.next, { signal: this.over.signal }),
    };
  }

  /** As `turn`, but of those that are watched only they are read again, as long as all of them are there. */
  private async turns(before: readonly StoreEntry[], revision: number): Promise<'first' | 'changed'> {
    for (let from = revision; ; ) {
      const turned = await this.turn(before, from);
      if (turned !== 'quiet') return turned;
      if (this.line.permits > 1) return 'changed';
      const still = await again(this.timers, () => this.stillThere(lastOf(before)), this.over.signal);
      if (still === undefined) return 'changed';
      from = still;
    }
  }

  /** The revision of the store before which all of them were read; undefined: one is not there. */
  private async stillThere(watched: readonly StoreEntry[]): Promise<number | undefined> {
    let revision = Infinity;
    for (const { key, revision: own } of watched) {
      const found = await this.store.scan({ prefix: key, limit: 1, signal: this.over.signal });
      if (found.entries[0]?.revision !== own) return undefined;
      revision = Math.min(revision, found.revision);
    }
    return revision;
  }

  /**
   * Waits for something to change in the line.
   * @param before those before this one, in their order; not fewer than `permits`
   * @returns `first`: it is among the first now; `changed`: the line has to be read; `quiet`: nothing was told for long
   */
  private async turn(before: readonly StoreEntry[], revision: number): Promise<'first' | 'changed' | 'quiet'> {
    const { timers } = this;
    const { permits } = this.line;
    const watched = permits === 1 ? lastOf(before) : before;
    const options = { from: revision, signal: this.over.signal };
    const watch =
      permits === 1
        ? this.store.watchEnd(
            watched.map(({ key }) => key),
            options,
          )
        : this.store.watch(this.prefix, options);
    let isQuiet = false;
    const cancel = timers.after(spread(timers, LOOK_MS), () => {
      isQuiet = true;
      void watch.return?.();
    });
    let left = before.length;
    try {
      for await (const { kind, key } of watch) {
        if (kind === 'put' || !watched.some((entry) => equalKeys(entry.key, key))) continue;
        left--;
        if (left < permits) return 'first';
        // Those before the watched ones may have gone as well.
        if (watched.length < before.length) return 'changed';
      }
    } catch (error) {
      const code = error instanceof JitPaxosError ? error.code : undefined;
      if (this.over.signal.aborted || (code !== 'watch-refused' && code !== 'watch-compacted')) throw error;
      if (code === 'watch-refused') await pause(timers, spread(timers, POLL_MS), this.over.signal);
    } finally {
      cancel();
    }
    return isQuiet ? 'quiet' : 'changed';
  }
}

/** The last two of a line; the last one, if two keys are too long for a watch. */
function lastOf(before: readonly StoreEntry[]): readonly StoreEntry[] {
  const two = before.slice(-2);
  return two.length * two[0]!.key.length > PREFIX_BYTES_MAX ? two.slice(-1) : two;
}

function spread(timers: Timers, ms: number): number {
  return ms * (1 + SPREAD * timers.random());
}

function waitAborted(kind: LineKind, signal: AbortSignal): JitPaxosError {
  return new JitPaxosError('aborted', `the AbortSignal was aborted: the wait for the ${kind} is over`, signal.reason);
}

function equalKeys(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && equalBytes(a, 0, b, 0, a.length);
}
