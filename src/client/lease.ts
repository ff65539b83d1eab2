/**
 * Leases that renew themselves, and that their holder can judge without a message.
 *
 * The replicas end a lease at an agreed time, by the timestamps of the log; a primary appends nothing that is ahead of
 * its own clock. So a holder has to know how far the replicas' clocks may be ahead of its own: their replies tell, to
 * half a round trip. Where none was heard, its own clock's stated error counts twice, once for them. Where nothing is
 * known, nothing is held.
 *
 * The rule: a lease is held only before both of two instants. By the host's clock: the agreed end, less how far a replica
 * may be ahead, what a timestamp may be ahead of a clock, and the margin. By the monotonic clock: as long after the
 * answer as that leaves, but never longer than `ttl` after the request was sent. A clock that is set back, a process that
 * was stopped and a host that was suspended can only make it end earlier.
 */
import { JitPaxosError } from '../errors.js';
import { readBoth, type LeaseClock } from './lease-clock.js';

export interface LeaseOptions {
  /** How far a renewal moves the end, ms: 1 to 31,622,400,000 (366 days). */
  readonly ttl: number;
  /**
   * How long before the lease can end `signal` fires and `isHeld` is false, ms: the time in which the holder stops what
   * it does. Below half of `ttl`. Default: a tenth of `ttl`, at most 500.
   */
  readonly margin?: number | undefined;
}

/** What the keeper needs of the store. */
export interface LeaseStore {
  grant(options: { readonly ttl: number; readonly signal?: AbortSignal; readonly timeout?: number }): Promise<{
    readonly number: number;
    readonly ends: number;
  }>;
  renew(
    leases: readonly { readonly number: number }[],
    options?: { readonly timeout?: number },
  ): Promise<readonly (number | undefined)[]>;
  revoke(lease: { readonly number: number }, options?: { readonly timeout?: number }): Promise<boolean>;
}

/** A primary may append what is ahead of its clock by this, ms (NEVER_HELD_NS of hold-back.ts). */
const STAMP_AHEAD_MS = 0.25;
/** Two clocks that are slewed towards each other, or apart: twice 500 ppm. */
const DRIFT = 0.001;
/** A host's clock that fell back against the monotonic one by more than this, and what drift explains, was set, ms. */
const STEP_MS = 1;
/** How long after that the replicas' clocks may have been compared with the clock as it was before, ms. */
const STEP_REMEMBERED_MS = 2_500;
/** The part of `ttl` after which it is renewed, and that of a renewal that comes with another's. */
const RENEW_PART = 1 / 3;
const TOGETHER_PART = 1 / 6;
/** After a renewal that failed. */
const AGAIN_PART = 1 / 12;
const AGAIN_MS_MAX = 1_000;
const MARGIN_PART = 0.1;
const MARGIN_MS_MAX = 500;
const TIMER_MS_MAX = 2 ** 31 - 1;
/** A grant whose end cannot be judged is renewed again and again for this part of `ttl`, with a pause, ms. */
const FIRST_PART = 0.5;
const FIRST_PAUSE_MS = 2;
/** How long what was known of the replicas' clocks is used, if no reply tells more, ms. */
const REMEMBERED_MS = 30_000;

/** Made by StoreClient.lease. */
export class Lease implements AsyncDisposable {
  /** @internal When it is renewed, monotonic ms. */
  dueMs = 0;
  /** @internal */
  isRenewing = false;
  private readonly controller = new AbortController();
  private endMonotonicMs = -Infinity;
  private endWallMs = -Infinity;
  private lastEnds: number;
  private lastEnd = 0;

  /** @internal */
  constructor(
    private readonly keeper: LeaseKeeper,
    /** Names the lease; never used again. */
    readonly number: number,
    /** How far a renewal moves its end, ms. */
    readonly ttl: number,
    /** How long before its end it counts as lost, ms. */
    readonly margin: number,
    ends: number,
  ) {
    this.lastEnds = ends;
  }

  /**
   * Fires when the lease is lost, before it can end, or was released. The reason is a JitPaxosError `lease-lost`. It fires
   * late in a process that was stopped: there, ask `isHeld` before each use.
   */
  get signal(): AbortSignal {
    return this.controller.signal;
  }

  /** The agreed time at which the replicas end it, ms, as the last renewal told. */
  get ends(): number {
    return this.lastEnds;
  }

  /** The agreed time until which the holder may rely on it, ms. A renewal moves it. To act, ask `isHeld`. */
  get end(): number {
    return this.lastEnd;
  }

  /** How much longer it is held if no renewal succeeds, ms; 0: it is not. */
  get remaining(): number {
    return this.isHeld() ? Math.max(0, Math.min(this.monotonicLeft(), this.wallLeft())) : 0;
  }

  /** Whether it is certainly still there, by this host's clocks at this moment. Sends nothing. Once false, always false. */
  isHeld(): boolean {
    if (this.signal.aborted) return false;
    if (this.monotonicLeft() > 0 && this.wallLeft() > 0) return true;
    this.lose(
      this.monotonicLeft() > 0
        ? "its end has come by this host's clock, which was set, or the host was suspended"
        : 'no renewal was answered in time, or this process was stopped',
    );
    return false;
  }

  /** Throws JitPaxosError `lease-lost` unless it is held. */
  throwIfLost(): void {
    if (!this.isHeld()) throw this.signal.reason;
  }

  /**
   * Ends the lease, and with it its keys. `signal` fires at once. If the cluster cannot be reached, the lease ends by
   * itself, at `ends`. Releasing again does nothing.
   */
  async release(): Promise<void> {
    if (!this.keeper.forget(this)) return;
    const wasHeld = this.isHeld();
    this.controller.abort(leaseLost(this.number, 'it was released', 'take another one'));
    if (wasHeld) await this.keeper.revoke(this);
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.release();
  }

  /** @internal */
  extend(ends: number, end: number, endMonotonicMs: number, endWallMs: number): void {
    this.lastEnds = ends;
    this.lastEnd = end;
    this.endMonotonicMs = endMonotonicMs;
    this.endWallMs = endWallMs;
  }

  /** @internal When it is lost by the monotonic clock, ms. */
  get lostAtMs(): number {
    return this.endMonotonicMs;
  }

  /** @internal */
  lose(why: string): void {
    if (this.signal.aborted) return;
    this.controller.abort(
      leaseLost(this.number, why, 'stop what depends on it; what is still on its way is refused where it is fenced'),
    );
    this.keeper.forget(this);
  }

  private monotonicLeft(): number {
    return this.endMonotonicMs - this.keeper.clock.monotonicMs();
  }

  private wallLeft(): number {
    return this.endWallMs - this.keeper.clock.wallMs();
  }
}

function leaseLost(number: number, why: string, next: string): JitPaxosError {
  return new JitPaxosError('lease-lost', `lease ${number} is lost: ${why}; ${next}`);
}

/** Renews the leases of one client, as many as are due in one operation. */
export class LeaseKeeper {
  private readonly leases = new Set<Lease>();
  private cancelTimer: (() => void) | undefined;
  private armedForMs = Infinity;
  /** The host's clock less the monotonic one, and when they were read; how long a step back is remembered. */
  private lastPair: { readonly monotonicMs: number; readonly wallMs: number };
  private steppedUntilMs = -Infinity;
  /** What was known last of the replicas' clocks. */
  private known: { readonly atMs: number; readonly aheadMs: number } | undefined;
  private isClosed = false;

  constructor(
    private readonly store: LeaseStore,
    readonly clock: LeaseClock,
  ) {
    this.lastPair = readBoth(clock);
    clock.whenClosed(() => this.close());
  }

  /** Rejects as the store's grant does, with `option-invalid`, and with `lease-lost` if it takes longer than the lease. */
  async grant(
    { ttl, margin = Math.min(MARGIN_PART * ttl, MARGIN_MS_MAX) }: LeaseOptions,
    call: { readonly signal?: AbortSignal; readonly timeout?: number },
  ): Promise<Lease> {
    if (!(margin >= 0 && margin < ttl / 2) && ttl > 0)
      throw new JitPaxosError(
        'option-invalid',
        `a lease: margin is ${margin}; it has to be a number of milliseconds from 0 to below half of ttl, which is ${ttl}`,
      );
    let sentMs = this.clock.monotonicMs();
    const { number, ends } = await this.store.grant({ ...call, ttl });
    const lease = new Lease(this, number, ttl, margin, ends);
    let isJudged = this.extend(lease, ends, sentMs);
    const untilMs = sentMs + FIRST_PART * ttl;
    while (!isJudged && this.clock.monotonicMs() < untilMs && !this.isClosed) {
      await new Promise<void>((resolve) => this.clock.after(FIRST_PAUSE_MS, resolve));
      sentMs = this.clock.monotonicMs();
      const [renewed] = await this.store.renew([lease], { timeout: Math.max(1, ttl) });
      if (renewed === undefined) break;
      isJudged = this.extend(lease, renewed, sentMs);
    }
    this.leases.add(lease);
    if (this.isClosed) this.close();
    if (!lease.isHeld()) {
      void this.revoke(lease);
      throw leaseLost(
        number,
        isJudged
          ? `the grant took longer than its ttl of ${ttl} ms allows`
          : "how far the replicas' clocks are ahead of this host's is not known",
        isJudged ? 'use a longer ttl' : 'see jitpaxos doctor about the clocks',
      );
    }
    lease.dueMs = sentMs + RENEW_PART * ttl;
    this.arm();
    return lease;
  }

  /** False if it was forgotten already. */
  forget(lease: Lease): boolean {
    return this.leases.delete(lease);
  }

  /** Never rejects: what is not revoked ends by itself. */
  async revoke(lease: Lease): Promise<void> {
    try {
      await this.store.revoke(lease, { timeout: Math.min(TIMER_MS_MAX, Math.max(1, lease.ttl)) });
    } catch {
      // It ends by itself.
    }
  }

  /** A request that was sent at `sentMs` was answered with this end. False: nothing tells until when it holds. */
  private extend(lease: Lease, ends: number, sentMs: number): boolean {
    const { monotonicMs, wallMs } = this.readClocks();
    const aheadMs = this.aheadMs(monotonicMs);
    if (aheadMs === undefined) return false;
    const endWallMs = ends - aheadMs - STAMP_AHEAD_MS - lease.margin;
    const endMonotonicMs = Math.min(
      sentMs + lease.ttl - lease.margin,
      monotonicMs + (endWallMs - wallMs) * (1 - DRIFT),
    );
    const earlierMs = Math.max(0, endWallMs - wallMs - (endMonotonicMs - monotonicMs));
    lease.extend(ends, ends - STAMP_AHEAD_MS - lease.margin - earlierMs, endMonotonicMs, endWallMs);
    return true;
  }

  private aheadMs(monotonicMs: number): number | undefined {
    if (monotonicMs < this.steppedUntilMs) {
      this.known = undefined;
      return undefined;
    }
    const aheadMs = this.clock.aheadMs();
    if (aheadMs !== undefined) this.known = { atMs: monotonicMs, aheadMs };
    const { known } = this;
    if (known === undefined || monotonicMs - known.atMs > REMEMBERED_MS) return undefined;
    return known.aheadMs + DRIFT * (monotonicMs - known.atMs);
  }

  private close(): void {
    this.isClosed = true;
    this.cancelTimer?.();
    for (const lease of [...this.leases]) lease.lose('its client was closed');
  }

  /** The clocks; notes whether the host's was set back since they were read last. */
  private readClocks(): { readonly monotonicMs: number; readonly wallMs: number } {
    const now = readBoth(this.clock);
    const { lastPair } = this;
    const backMs = now.monotonicMs - lastPair.monotonicMs - (now.wallMs - lastPair.wallMs);
    if (backMs > STEP_MS + DRIFT * (now.monotonicMs - lastPair.monotonicMs))
      this.steppedUntilMs = now.monotonicMs + STEP_REMEMBERED_MS;
    this.lastPair = now;
    return now;
  }

  private arm(): void {
    let next = Infinity;
    for (const lease of this.leases) next = Math.min(next, lease.lostAtMs, lease.isRenewing ? Infinity : lease.dueMs);
    if (next === this.armedForMs) return;
    this.armedForMs = next;
    this.cancelTimer?.();
    this.cancelTimer =
      next === Infinity
        ? undefined
        : this.clock.after(Math.min(TIMER_MS_MAX, Math.max(0, next - this.clock.monotonicMs())), () => {
            this.armedForMs = Infinity;
            this.work();
          });
  }

  private work(): void {
    const now = this.clock.monotonicMs();
    let isDue = false;
    const batch: Lease[] = [];
    for (const lease of [...this.leases]) {
      if (!lease.isHeld() || lease.isRenewing) continue;
      if (lease.dueMs <= now) isDue = true;
      if (lease.dueMs <= now + TOGETHER_PART * lease.ttl) batch.push(lease);
    }
    if (isDue) void this.renew(batch);
    this.arm();
  }

  private async renew(batch: readonly Lease[]): Promise<void> {
    let timeout = TIMER_MS_MAX;
    for (const lease of batch) {
      lease.isRenewing = true;
      timeout = Math.min(timeout, Math.max(1, RENEW_PART * lease.ttl));
    }
    const sentMs = this.clock.monotonicMs();
    let ends: readonly (number | undefined)[] | undefined;
    try {
      ends = await this.store.renew(batch, { timeout });
    } catch {
      // Again, below.
    }
    if (this.isClosed) return;
    const now = this.clock.monotonicMs();
    for (const [i, lease] of batch.entries()) {
      lease.isRenewing = false;
      if (!this.leases.has(lease)) continue;
      const end = ends?.[i];
      if (ends !== undefined && end === undefined) {
        lease.lose('the cluster has ended it: it was revoked, or no renewal came in time');
        continue;
      }
      // An answer that came too late changes nothing: what was lost stays lost.
      if (!lease.isHeld()) continue;
      const isExtended = end !== undefined && this.extend(lease, end, sentMs);
      lease.dueMs = isExtended ? sentMs + RENEW_PART * lease.ttl : now + Math.min(AGAIN_MS_MAX, AGAIN_PART * lease.ttl);
    }
    this.arm();
  }
}
