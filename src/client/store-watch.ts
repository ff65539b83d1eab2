/**
 * The changes of the store as an async iterator: see StoreClient.watch.
 *
 * What the reader has not taken is bounded: beyond a megabyte the replica is not told to go on. If it meanwhile forgets
 * the changes that come next, the iterator ends with `watch-compacted`, after all that came before.
 */
import { JitPaxosError } from '../errors.js';
import { checkInteger, checkKeys, optionNames } from '../host/options.js';
import { PREFIX_BYTES_MAX, PREFIXES_MAX } from '../wire/watches.js';
import { onAbort } from './abort-listeners.js';
import type { ClientParts, OpenWatch } from './client-parts.js';
import type { EndTicker, EndWatch } from './end-ticker.js';
import type { StoreChange } from './watch-reader.js';

export interface WatchOptions {
  /** Changes after this revision. Default: those after the call. */
  readonly from?: number;
  /** Gives the new values as well. Default false. */
  readonly values?: boolean;
  /** Ends it: `next` rejects with `aborted`. */
  readonly signal?: AbortSignal;
}

const OPTION_NAMES = optionNames<WatchOptions>({ from: true, values: true, signal: true });
interface Waiting {
  resolve(result: IteratorResult<StoreChange, undefined>): void;
  reject(error: unknown): void;
}

export class StoreWatch implements AsyncIterableIterator<StoreChange, undefined> {
  private buffered: { readonly change: StoreChange; readonly bytes: number }[] = [];
  private taken = 0;
  private waiting: Waiting[] = [];
  private source: OpenWatch | undefined;
  private isOver = false;
  private error: JitPaxosError | Error | undefined;
  private readonly ends: EndWatch;
  private readonly signal: AbortSignal | undefined;
  private readonly forgetSignal: (() => void) | undefined;

  /**
   * Throws JitPaxosError `option-invalid`.
   * @param present the revision of the store
   * @param ticker has the store remove what has ended
   * @param isPrompt asks for the removal without a delay by chance
   */
  constructor(
    client: ClientParts,
    prefixes: readonly Uint8Array[],
    options: WatchOptions,
    present: () => Promise<number>,
    private readonly ticker: EndTicker,
    isPrompt = false,
  ) {
    checkKeys('option-invalid', 'watch', options, OPTION_NAMES);
    const { from, values = false, signal } = options;
    if (from !== undefined) checkInteger('option-invalid', 'watch: from', from, 0, Number.MAX_SAFE_INTEGER);
    const total = prefixes.reduce((sum, { length }) => sum + length, 0);
    if (prefixes.length === 0 || prefixes.length > PREFIXES_MAX || total > PREFIX_BYTES_MAX)
      throw new JitPaxosError(
        'option-invalid',
        `a watch has 1 to ${PREFIXES_MAX} prefixes of ${PREFIX_BYTES_MAX} bytes together, not ${prefixes.length} of ${total}; use several watches`,
      );
    this.ends = { isPrompt, ask: () => this.source?.ask() };
    this.signal = signal;
    if (signal?.aborted === true) this.onAbort();
    this.forgetSignal = onAbort(signal, this.onAbort);
    const open = (after: number): void => {
      if (this.isOver) return;
      this.source = client.watch({
        prefixes,
        values,
        after,
        // Messages are not asked for.
        changed: (change, bytes) => this.changed(change as StoreChange, bytes),
        nextEnd: (ms, last) => ticker.heard(this.ends, last, ms),
        failed: (error) => this.fail(error),
      });
      ticker.join(this.ends);
    };
    // A client that is closed is an error of `next` in both cases: whoever gets no watch cannot end it.
    if (from === undefined)
      present()
        .then(open)
        .catch((error: unknown) => this.fail(error as Error));
    else
      try {
        open(from);
      } catch (error) {
        this.fail(error as Error);
      }
  }

  next(): Promise<IteratorResult<StoreChange, undefined>> {
    const first = this.buffered[this.taken];
    if (first !== undefined) {
      this.taken++;
      if (this.taken === this.buffered.length || this.taken === 1024) {
        this.buffered = this.buffered.slice(this.taken);
        this.taken = 0;
      }
      this.source?.taken(first.bytes);
      return Promise.resolve({ done: false, value: first.change });
    }
    const { error } = this;
    if (error !== undefined) {
      this.error = undefined;
      return Promise.reject(error);
    }
    if (this.isOver) return Promise.resolve({ done: true, value: undefined });
    return new Promise((resolve, reject) => this.waiting.push({ resolve, reject }));
  }

  /** Ends the watch. Changes that were not taken are forgotten. */
  return(): Promise<IteratorResult<StoreChange, undefined>> {
    this.buffered = [];
    this.taken = 0;
    this.error = undefined;
    this.end();
    for (const { resolve } of this.waiting.splice(0)) resolve({ done: true, value: undefined });
    return Promise.resolve({ done: true, value: undefined });
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.return();
  }

  private changed(change: StoreChange, bytes: number): void {
    const waiting = this.waiting.shift();
    if (waiting === undefined) {
      this.buffered.push({ change, bytes });
      return;
    }
    waiting.resolve({ done: false, value: change });
    this.source?.taken(bytes);
  }

  private readonly onAbort = (): void =>
    this.fail(new JitPaxosError('aborted', 'the AbortSignal was aborted: the watch is over', this.signal?.reason));

  private fail(error: Error): void {
    if (this.isOver) return;
    this.end();
    const [first, ...others] = this.waiting.splice(0);
    if (first === undefined) this.error = error;
    else first.reject(error);
    for (const { resolve } of others) resolve({ done: true, value: undefined });
  }

  private end(): void {
    if (this.isOver) return;
    this.isOver = true;
    this.ticker.leave(this.ends);
    this.forgetSignal?.();
    this.source?.close();
  }
}
