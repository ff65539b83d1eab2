/**
 * Leases that renew themselves, and that their holder can judge without a message.
 *
 * The replicas end a lease at an agreed time, by the timestamps of the log; a primary appends nothing that is ahead of
 * its own clock. So a holder has to know how far the replicas' clocks may be ahead of its own: their replies tell, to
 * half a round trip. Where none was heard, its own clock's stated error counts twice, once for them. Where nothing is
 * known, nothing is held.
 *
 * The rule: a lease is held only before the earliest of three instants. By the host's clock: the agreed end, less how far
 * a replica may be ahead, what a timestamp may be ahead of a clock, and the margin. By the monotonic clock: as long after
 * the answer as that leaves, but never longer than `ttl` after the request was sent. By the system's clock: the same time
 * span, because the others may stand still while the host is suspended. A clock that is set, a process that was stopped
 * and a host that was suspended can only make it end earlier.
 */
import { JitPaxosError } from '../errors.js';
import { pause, readClocks, TIMER_MS_MAX, type LeaseClock, type LeaseInstant } from './lease-clock.js';
import { LeaseQueue } from './lease-queue.js';

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
  grant(options: { readonly ttl: number } & GrantCall): Promise<{
    readonly number: number;
    readonly ends: number;
  }>;
  renew(leases: readonly { readonly number: number }[], options?: GrantCall): Promise<readonly (number | undefined)[]>;
  revoke(lease: { readonly number: number }, options?: { readonly timeout?: number }): Promise<boolean>;
  /** By place: whether its key is there with the revision `token`. */
  present(places: readonly LeasePlace[], options: { readonly timeout: number }): Promise<readonly boolean[]>;
}

/** A key that has to stay as it is: without it, others hold what the lease was granted for. */
export interface LeasePlace {
  readonly key: Uint8Array;
  readonly token: number;
}

/** A primary may append what is ahead of its clock by this, ms (NEVER_HELD_NS of hold-back.ts). */
const STAMP_AHEAD_MS = 0.25;
/** Two clocks that are slewed towards each other, or apart: twice 500 ppm. */
const DRIFT = 0.001;
/** The part of `ttl` after which it is renewed, and that of a renewal that comes with another's. */
const RENEW_PART = 1 / 3;
const TOGETHER_PART = 1 / 6;
/**
 * Earlier by up to this share of it, by chance. Clients that once renewed at the same moment, say after a hand-over, would
 * otherwise do so each time: their requests cross each other on the way to the replicas, and each crossing costs a Sync.
 */
const EARLIER = 1 / 4;
/** After a renewal that failed. */
const AGAIN_PART = 1 / 12;
const AGAIN_MS_MAX = 1_000;
const MARGIN_PART = 0.1;
const MARGIN_MS_MAX = 500;
/** How long after a suspension what replies tell may be from before it, ms. */
const SUSPENDED_MS = 2_500;
/** While a lease is held its clocks are looked at this often, ms: the monotonic one may have stood still. */
const LOOK_MS = 1_000;
/** A grant whose end cannot be judged is renewed again for this part of `ttl`, at most this long, with growing pauses, ms. */
const FIRST_PART = 0.5;
const FIRST_MS_MAX = 5_000;
const FIRST_PAUSE_MS = 2;
const FIRST_PAUSE_MS_MAX = 250;
/** A grant that took less than this part of `ttl` and has ended was stamped by a clock that is behind. */
const BEHIND_PART = 0.25;
/** How long a revocation is tried, ms. */
const REVOKE_MS_MIN = 100;
const REVOKE_MS_MAX = 5_000;
/** How long what was known of the replicas' clocks is used, if no reply tells more, ms. */
const REMEMBERED_MS = 30_000;

interface GrantCall {
  readonly signal?: AbortSignal;
  readonly timeout?: number;
}

/** Made by StoreClient.lease. */
export class Lease implements AsyncDisposable {
  /** @internal When it is renewed, monotonic ms. */
  dueMs = 0;
  /** @internal */
  isRenewing = false;
  /** @internal Of LeaseQueue. */
  queuedAt = -1;
  /** @internal Looked at with each renewal. */
  place: LeasePlace | undefined;
  private isReleased = false;
  private readonly controller = new AbortController();
  private endMonotonicMs = -Infinity;
  private endWallMs = -Infinity;
  private endDateMs = -Infinity;
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
    return this.isHeld() ? Math.max(0, Math.min(this.monotonicLeft(), this.wallLeft(), this.dateLeft())) : 0;
  }

  /** Whether it is certainly still there, by this host's clocks at this moment. Sends nothing. Once false, always false. */
  isHeld(): boolean {
    if (this.signal.aborted) return false;
    if (this.monotonicLeft() > 0 && this.wallLeft() > 0 && this.dateLeft() > 0) return true;
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
   * Ends the lease, and with it its keys, also if it is lost already. `signal` fires at once. If the cluster does not answer
   * within what is left of the lease, at most 5 seconds, this resolves, and the lease ends by itself, at `ends`. Releasing
   * again does nothing.
   */
  async release(): Promise<void> {
    if (this.isReleased) return;
    this.isReleased = true;
    if (this.isHeld()) this.controller.abort(leaseLost(this.number, 'it was released', 'take another one'));
    this.keeper.forget(this);
    await this.keeper.revoke(this);
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.release();
  }

  /** @internal */
  extend(ends: number, end: number, endMonotonicMs: number, endWallMs: number, endDateMs: number): void {
    this.lastEnds = ends;
    this.endDateMs = endDateMs;
    this.lastEnd = end;
    this.endMonotonicMs = endMonotonicMs;
    this.endWallMs = endWallMs;
  }

  /** @internal When it is lost by the monotonic clock, ms. */
  get lostAtMs(): number {
    return this.endMonotonicMs;
  }

  /** @internal When something is to be done about it, monotonic ms: it is due, or lost. */
  get nextMs(): number {
    return this.isRenewing ? this.endMonotonicMs : Math.min(this.dueMs, this.endMonotonicMs);
  }

  /** @internal As isHeld, with clocks that were read for many. */
  look({ monotonicMs, wallMs, dateMs }: LeaseInstant): void {
    if (this.endMonotonicMs <= monotonicMs || this.endWallMs <= wallMs || this.endDateMs <= dateMs) this.isHeld();
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

  private dateLeft(): number {
    return this.endDateMs - this.keeper.clock.dateMs();
  }
}

function leaseLost(number: number, why: string, next: string): JitPaxosError {
  return new JitPaxosError('lease-lost', `lease ${number} is lost: ${why}; ${next}`);
}

/** Renews the leases of one client, as many as are due in one operation. */
export class LeaseKeeper {
  private readonly leases = new Set<Lease>();
  private readonly queue = new LeaseQueue<Lease>();
  /** When all are looked at by all clocks, monotonic ms. */
  private lookAtMs = Infinity;
  private cancelTimer: (() => void) | undefined;
  private armedForMs = Infinity;
  /** What was known last of the replicas' clocks. */
  private heard: { readonly atMs: number; readonly aheadMs: number; readonly baseMs: number } | undefined;
  private isClosed = false;

  constructor(
    private readonly store: LeaseStore,
    readonly clock: LeaseClock,
  ) {
    clock.whenClosed(() => this.close());
  }

  /**
   * Rejects as the store's grant does, with `option-invalid`, `aborted`, `client-closed`, and with `lease-lost` if it takes
   * longer than the lease, or the clocks do not tell until when it holds.
   */
  async grant(
    { ttl, margin = Math.min(MARGIN_PART * ttl, MARGIN_MS_MAX) }: LeaseOptions,
    call: GrantCall,
  ): Promise<Lease> {
    if (!(margin >= 0 && margin < ttl / 2) && ttl > 0)
      throw new JitPaxosError(
        'option-invalid',
        `a lease: margin is ${margin}; it has to be a number of milliseconds from 0 to below half of ttl, which is ${ttl}`,
      );
    let tried = await this.tryGrant(ttl, margin, call);
    if (isBehind(tried)) {
      // The answers told by how much: once more, stamped by that.
      this.clock.correct();
      tried = await this.tryGrant(ttl, margin, call);
    }
    const { lease, sentMs } = tried;
    if (!tried.isHeld) throw whyNotHeld(tried, this.isClosed);
    if (this.leases.size === 0) this.lookAtMs = this.clock.monotonicMs() + LOOK_MS;
    this.leases.add(lease);
    lease.dueMs = sentMs + this.renewAfterMs(ttl);
    this.queue.place(lease);
    this.arm();
    return lease;
  }

  /** One grant, renewed until its end can be judged. What is not held is revoked. */
  private async tryGrant(ttl: number, margin: number, call: GrantCall): Promise<Grant> {
    const startedMs = this.clock.monotonicMs();
    const { number, ends } = await this.store.grant({ ...call, ttl });
    const lease = new Lease(this, number, ttl, margin, ends);
    const tookMs = this.clock.monotonicMs() - startedMs;
    let sentMs: number | undefined;
    try {
      if (!this.isClosed)
        sentMs = this.extend(lease, ends, startedMs) ? startedMs : await this.judge(lease, startedMs, call);
    } catch (error) {
      void this.revoke(lease);
      throw error;
    }
    const isHeld = sentMs !== undefined && !this.isClosed && lease.isHeld();
    if (!isHeld) void this.revoke(lease);
    return { lease, sentMs: sentMs ?? startedMs, tookMs, isJudged: sentMs !== undefined, isHeld };
  }

  /** Renews until replies tell until when the lease holds: when that renewal was sent. Undefined: they do not. */
  private async judge(
    lease: Lease,
    startedMs: number,
    { signal, timeout = Infinity }: GrantCall,
  ): Promise<number | undefined> {
    const untilMs = startedMs + Math.min(FIRST_PART * lease.ttl, FIRST_MS_MAX, timeout);
    for (let pauseMs = FIRST_PAUSE_MS; ; pauseMs = Math.min(FIRST_PAUSE_MS_MAX, 2 * pauseMs)) {
      await pause(this.clock, pauseMs, signal);
      if (signal?.aborted === true)
        throw new JitPaxosError('aborted', 'the AbortSignal was aborted: the lease is given up', signal.reason);
      if (this.isClosed) return undefined;
      const sentMs = this.clock.monotonicMs();
      if (sentMs >= untilMs) return undefined;
      const call = { timeout: Math.max(1, Math.ceil(untilMs - sentMs)), ...(signal === undefined ? {} : { signal }) };
      let ends: number | undefined;
      try {
        [ends] = await this.store.renew([lease], call);
      } catch (error) {
        const isGivenUp =
          error instanceof JitPaxosError && (error.code === 'aborted' || error.code === 'client-closed');
        if (!(error instanceof JitPaxosError) || isGivenUp) throw error;
        // The lease was granted; it is not known until when.
        return undefined;
      }
      if (ends === undefined || this.isClosed) return undefined;
      if (this.extend(lease, ends, sentMs)) return sentMs;
    }
  }

  /** False if it was forgotten already. */
  forget(lease: Lease): boolean {
    this.queue.remove(lease);
    return this.leases.delete(lease);
  }

  /** Never rejects: what is not revoked ends by itself. */
  async revoke(lease: Lease): Promise<void> {
    if (this.isClosed) return;
    const leftMs = lease.lostAtMs === -Infinity ? lease.ttl : lease.lostAtMs + lease.margin - this.clock.monotonicMs();
    try {
      await this.store.revoke(lease, { timeout: Math.min(REVOKE_MS_MAX, Math.max(REVOKE_MS_MIN, Math.ceil(leftMs))) });
    } catch {
      // It ends by itself.
    }
  }

  /** A request that was sent at `sentMs` was answered with this end. False: nothing tells until when it holds. */
  private extend(lease: Lease, ends: number, sentMs: number): boolean {
    const now = readClocks(this.clock);
    const { monotonicMs, wallMs } = now;
    const aheadMs = this.aheadMs(now);
    if (aheadMs === undefined) return false;
    const endWallMs = ends - aheadMs - STAMP_AHEAD_MS - lease.margin;
    const endMonotonicMs = Math.min(
      sentMs + lease.ttl - lease.margin,
      monotonicMs + (endWallMs - wallMs) * (1 - DRIFT),
    );
    const earlierMs = Math.max(0, endWallMs - wallMs - (endMonotonicMs - monotonicMs));
    // The system's clock is read in whole ms.
    const endDateMs = now.dateMs + 1 + (endMonotonicMs - monotonicMs);
    lease.extend(ends, ends - STAMP_AHEAD_MS - lease.margin - earlierMs, endMonotonicMs, endWallMs, endDateMs);
    return true;
  }

  /** How far a replica's clock may be ahead of this host's. Undefined: nothing tells. */
  private aheadMs({ monotonicMs, wallMs }: LeaseInstant): number | undefined {
    const suspendedMs = this.clock.suspendedMs();
    if (monotonicMs < suspendedMs + SUSPENDED_MS) {
      this.heard = undefined;
      return undefined;
    }
    const baseMs = wallMs - monotonicMs;
    const heardMs = this.clock.heardAheadMs(baseMs);
    if (heardMs !== undefined) {
      this.heard = { atMs: monotonicMs, aheadMs: heardMs, baseMs };
      return heardMs;
    }
    const statedMs = this.clock.statedAheadMs();
    const { heard } = this;
    if (heard === undefined || heard.atMs < suspendedMs || monotonicMs - heard.atMs > REMEMBERED_MS) return statedMs;
    // As ClockOffsets.offsetByUs: a step back is made good, one that looks like a step forward may be a suspension.
    const rememberedMs = heard.aheadMs + Math.max(0, heard.baseMs - baseMs) + DRIFT * (monotonicMs - heard.atMs);
    return Math.max(rememberedMs, statedMs ?? -Infinity);
  }

  private close(): void {
    this.isClosed = true;
    this.cancelTimer?.();
    for (const lease of [...this.leases]) lease.lose('its client was closed');
  }

  private arm(): void {
    const next = this.leases.size === 0 ? Infinity : Math.min(this.queue.first!.nextMs, this.lookAtMs);
    if (next === this.armedForMs) return;
    this.armedForMs = next;
    this.cancelTimer?.();
    this.cancelTimer =
      next === Infinity
        ? undefined
        : this.clock.after(Math.max(0, next - this.clock.monotonicMs()), () => {
            this.armedForMs = Infinity;
            this.work();
          });
  }

  private work(): void {
    const now = this.clock.monotonicMs();
    if (now >= this.lookAtMs) this.lookAtAll();
    let isDue = false;
    for (let { first } = this.queue; !isDue && first !== undefined && first.nextMs <= now; { first } = this.queue) {
      isDue = first.isHeld();
      if (!isDue) this.forget(first);
    }
    if (isDue) {
      const batch: Lease[] = [];
      for (const lease of this.leases)
        if (!lease.isRenewing && lease.dueMs <= now + TOGETHER_PART * lease.ttl && lease.isHeld()) batch.push(lease);
      void this.renew(batch);
    }
    this.arm();
  }

  private lookAtAll(): void {
    const instant = readClocks(this.clock);
    this.lookAtMs = instant.monotonicMs + LOOK_MS;
    for (const lease of this.leases) lease.look(instant);
  }

  private async renew(batch: readonly Lease[]): Promise<void> {
    let timeout = TIMER_MS_MAX;
    for (const lease of batch) {
      lease.isRenewing = true;
      this.queue.place(lease);
      timeout = Math.min(timeout, Math.max(1, RENEW_PART * lease.ttl));
    }
    void this.look(batch, timeout);
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
      lease.dueMs = isExtended
        ? sentMs + this.renewAfterMs(lease.ttl)
        : now + Math.min(AGAIN_MS_MAX, AGAIN_PART * lease.ttl);
      this.queue.place(lease);
    }
    this.arm();
  }

  private renewAfterMs(ttl: number): number {
    return RENEW_PART * ttl * (1 - EARLIER * this.clock.random());
  }

  /** Whether the keys that leases stand for are still there: somebody may have deleted one, and then others hold it. */
  private async look(batch: readonly Lease[], timeout: number): Promise<void> {
    const leases = batch.filter(({ place }) => place !== undefined);
    if (leases.length === 0) return;
    let present: readonly boolean[];
    try {
      present = await this.store.present(
        leases.map(({ place }) => place!),
        { timeout },
      );
    } catch {
      return; // The next renewal looks again.
    }
    for (const [i, lease] of leases.entries())
      if (present[i] === false) lease.lose('the key of its place was deleted or replaced, or the lease was revoked');
  }
}

interface Grant {
  readonly lease: Lease;
  /** When the request was sent whose answer tells until when it holds, monotonic ms. */
  readonly sentMs: number;
  readonly tookMs: number;
  readonly isJudged: boolean;
  readonly isHeld: boolean;
}

/** It was answered quickly, and yet it has ended. */
function isBehind({ isHeld, isJudged, tookMs, lease }: Grant): boolean {
  return !isHeld && isJudged && tookMs < BEHIND_PART * lease.ttl;
}

function whyNotHeld(grant: Grant, isClosed: boolean): JitPaxosError {
  const { number, ttl } = grant.lease;
  if (isClosed) return new JitPaxosError('client-closed', 'the client was closed; connect a new one');
  if (!grant.isJudged)
    return leaseLost(
      number,
      "how far the replicas' clocks are ahead of this host's is not known",
      'see jitpaxos doctor about the clocks',
    );
  if (isBehind(grant))
    return leaseLost(
      number,
      `the grant was answered within ${Math.ceil(grant.tookMs)} ms, and yet it had ended: this host's clock is behind the replicas' by most of the ttl of ${ttl} ms, or more`,
      'set the clock of this host (see jitpaxos doctor), or use a longer ttl',
    );
  return leaseLost(number, `the grant took longer than its ttl of ${ttl} ms allows`, 'use a longer ttl');
}
