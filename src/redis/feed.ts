/**
 * The changes and messages of the store, as the front end hears them: one watch for all of its connections.
 *
 * The rule (S), *position*: everything up to `position` was handed on, in the order of revisions, and nothing between two
 * positions is left out unless `lost` is called. The position outlives the session with the cluster and the replica that
 * serves; a watch that asks for more than before goes on at the same position.
 *
 * It is open while somebody needs it, and a little longer.
 */
import type { OpenWatch } from '../client/client-parts.js';
import type { EndWatch } from '../client/end-ticker.js';
import { WatchCompactedError, type WatchedChange, type WatchRequest } from '../client/watch-reader.js';
import type { JitPaxosError } from '../errors.js';
import { WatchFlag } from '../wire/messages.js';

/** What the feed uses of a client of the cluster. */
export interface FeedSource {
  watch(request: WatchRequest): OpenWatch;
  /** Has the store remove keys that have ended, also where nobody sends operations. */
  readonly ends: {
    join(watch: EndWatch): void;
    leave(watch: EndWatch): void;
    heard(watch: EndWatch, last: number, nextEnd: number): void;
  };
}

export interface FeedEvents {
  changed(change: WatchedChange): void;
  /** Some changes or messages will never come. */
  lost(error: JitPaxosError): void;
  /** Nothing was heard for long, so caches may be old. What was missed still comes. */
  silent(): void;
  /** No replica serves it now; it is tried again. */
  refused(error: JitPaxosError): void;
}

/** What somebody needs. */
export const Need = { messages: 1, keys: 2, events: 4 } as const;

/** After this much silence of the replicas, which say something four times a second, caches are not trusted. */
export const SILENCE_MS = 3_000;
const LOOK_MS = 500;
/** Nobody needs it any more: it stays open for this long, so that who comes and goes costs nothing. */
const LINGER_MS = 10_000;
const RETRY_MS = 1_000;

export class Feed {
  /** −1: there is none. */
  position = -1;
  private source: FeedSource | undefined;
  private watch: OpenWatch | undefined;
  private flags = 0;
  private needs = 0;
  private heardMs = -Infinity;
  private isSilent = false;
  private retryMs = -Infinity;
  private unneededMs = Infinity;
  private timer: NodeJS.Timeout | undefined;
  private readonly ends: EndWatch = { isPrompt: false, ask: () => this.watch?.ask() };
  private endsOf: FeedSource['ends'] | undefined;

  constructor(
    private readonly events: FeedEvents,
    private readonly nowMs: () => number = () => performance.now(),
  ) {}

  /** It has a position, so nothing that happens from now on is missed. */
  get isOn(): boolean {
    return this.position >= 0;
  }

  /** Changes of keys come, and what was heard is not old. */
  get isTrusted(): boolean {
    return this.watch !== undefined && !this.isSilent && (this.flags & WatchFlag.noKeys) === 0;
  }

  /** Begins behind this revision, which the store had at a time when those who need it may begin. */
  begin(revision: number): void {
    if (this.isOn) return;
    this.position = revision;
    this.heardMs = this.nowMs();
    this.isSilent = false;
    this.timer ??= setInterval(() => this.look(), LOOK_MS).unref();
  }

  /** @param needs a sum of Need */
  need(needs: number): void {
    this.needs = needs;
    if (needs !== 0) this.unneededMs = Infinity;
    else if (this.unneededMs === Infinity) this.unneededMs = this.nowMs();
    if (this.isOn) this.adjust();
  }

  /** @param source undefined: there is no session with the cluster */
  connect(source: FeedSource | undefined): void {
    this.drop();
    this.source = source;
    this.retryMs = -Infinity;
    if (this.isOn) this.adjust();
  }

  close(): void {
    this.drop();
    this.position = -1;
    clearInterval(this.timer);
    this.timer = undefined;
  }

  /** Opens what is needed, if it is not open. */
  private adjust(): void {
    const { source, needs } = this;
    const flags = flagsFor(needs);
    if (source === undefined || needs === 0 || this.nowMs() < this.retryMs) return;
    if (this.watch !== undefined && covers(this.flags, flags)) return;
    this.drop();
    this.flags = flags;
    try {
      const watch: OpenWatch = source.watch({
        prefixes: [new Uint8Array(0)],
        values: false,
        flags,
        after: this.position,
        changed: (change, bytes) => {
          this.position = change.revision;
          this.events.changed(change);
          this.watch?.taken(bytes);
        },
        upTo: (revision) => {
          this.position = Math.max(this.position, revision);
        },
        nextEnd: (ms, last) => {
          this.heard();
          this.endsOf?.heard(this.ends, last, ms);
        },
        failed: (error) => this.failed(watch, error),
      });
      this.watch = watch;
    } catch {
      return; // The client was closed: another one follows.
    }
    if ((flags & WatchFlag.noKeys) !== 0) return;
    this.endsOf = source.ends;
    source.ends.join(this.ends);
  }

  private heard(): void {
    this.heardMs = this.nowMs();
    this.isSilent = false;
  }

  private failed(watch: OpenWatch, error: JitPaxosError): void {
    if (this.watch !== watch) return;
    this.drop();
    if (error.code === 'client-closed') return;
    if (error instanceof WatchCompactedError) {
      this.position = Math.max(this.position, error.oldest);
      this.events.lost(error);
    } else {
      this.retryMs = this.nowMs() + RETRY_MS;
      this.events.refused(error);
    }
    this.adjust();
  }

  private drop(): void {
    this.endsOf?.leave(this.ends);
    this.endsOf = undefined;
    const { watch } = this;
    this.watch = undefined;
    watch?.close();
  }

  private look(): void {
    const now = this.nowMs();
    if (now - this.unneededMs >= LINGER_MS) return this.close();
    this.adjust();
    if (this.isSilent || now - this.heardMs < SILENCE_MS) return;
    this.isSilent = true;
    this.events.silent();
  }
}

function flagsFor(needs: number): number {
  return (
    ((needs & Need.messages) === 0 ? 0 : WatchFlag.messages) |
    ((needs & (Need.keys | Need.events)) === 0 ? WatchFlag.noKeys : 0) |
    ((needs & Need.events) === 0 ? 0 : WatchFlag.events)
  );
}

/** Whether a watch with some flags tells all that one with others would. */
function covers(open: number, wanted: number): boolean {
  const more = WatchFlag.messages | WatchFlag.events;
  return (wanted & more & ~open) === 0 && (open & WatchFlag.noKeys & ~wanted) === 0;
}
