/**
 * A simulated client process: the shipped sessions, store, leases, locks and watches, in virtual time. Stands in for
 * src/client/client.ts and client-host.ts.
 */
import { registerParts, type OpenWatch } from '../../../src/client/client-parts.js';
import type { CallOptions, Client } from '../../../src/client/client.js';
import { onAbort } from '../../../src/client/abort-listeners.js';
import { ClockTrust } from '../../../src/client/clock-trust.js';
import { furthestAheadMs } from '../../../src/client/furthest-ahead.js';
import { SuspensionWatch, type LeaseClock } from '../../../src/client/lease-clock.js';
import { WatchReader, type WatchRequest } from '../../../src/client/watch-reader.js';
import type { ClockQuality } from '../../../src/clock/host-clock.js';
import { JitPaxosError } from '../../../src/errors.js';
import { ClientCore } from '../../../src/protocol/client/client-core.js';
import { ClientSessions } from '../../../src/protocol/client/client-sessions.js';
import { DEFAULT_CLIENT_TIMINGS } from '../../../src/protocol/config.js';
import { Instant, Outcome } from '../../../src/protocol/contract.js';
import { ownedSessionLo } from '../../../src/protocol/log/session-owner.js';
import type { SimulatedClock } from '../../../src/sim/clock.js';
import type { EventHandler, EventQueue } from '../../../src/sim/event-queue.js';
import type { Datagram, Network } from '../../../src/sim/network.js';
import { SimulatedOutbox } from '../../../src/sim/outbox.js';
import type { Random } from '../../../src/sim/random.js';
import type { WireEnd } from '../../../src/sim/wire-end.js';
import { HOST_PLACES } from '../../../src/wire/host-ids.js';
import { Changes, ReplyStatus, typeOf, WatchLost } from '../../../src/wire/messages.js';
import { LIMITS, REPLICAS } from './replicas.js';

const LANES = 8;
const DEFAULT_TIMEOUT_MS = 5_000;
const JUDGE_US = 250_000;
/** One that stamps ahead does so again soon after it was refused. */
const JUDGE_AHEAD_US = 20_000;
const WATCH_US = 50_000;
/** Datagrams that wait for a process that stands still. */
const INBOX_MAX = 256;
const UNSTATED: ClockQuality = { status: 'unknown', errorNs: null, healthy: true, found: 'simulated' };
const SLOTS = Array.from({ length: REPLICAS }, (_, slot) => slot);

const TIMER = 0;
const RUN = 1;
const JUDGE = 2;
const WATCHES = 3;
const RESUME = 4;

interface Call {
  readonly isQuery: boolean;
  readonly bytes: Uint8Array;
  readonly deadlineUs: number;
  readonly resolve: (result: Uint8Array) => void;
  readonly reject: (error: unknown) => void;
  forget: () => void;
  lane: number;
}

export interface ClientAround {
  readonly queue: EventQueue;
  readonly network: Network;
  readonly random: Random;
  /** Leases are renewed at even distances, and not a little earlier by chance. */
  readonly inPhase: boolean;
  readonly clock: SimulatedClock;
  readonly wire: WireEnd;
  /** Promises were settled, or timers ran: the code behind them has to run before time passes. */
  readonly touched: () => void;
}

export class SimulatedClient implements EventHandler, Pick<Client, 'execute' | 'query' | 'agreedTime'> {
  isPaused = false;
  /** How long it stood still so far, µs; at the end of each stop. */
  stoodUs = 0;
  /** It was killed. Another one may have its endpoint. */
  isGone = false;
  private readonly outbox: SimulatedOutbox;
  private readonly sessions: ClientSessions;
  private readonly now = new Instant();
  private readonly wake = new Float64Array(1);
  private timerAtUs = Infinity;
  private pausedUntilUs = 0;
  private pausedFromUs = 0;
  private inbox: Datagram[] = [];
  private readonly open = new Array<Call | undefined>(LANES).fill(undefined);
  private waiting: Call[] = [];
  private readonly watches = new Set<WatchReader>();
  private areWatchesTimed = false;
  private readonly trust = new ClockTrust();
  private readonly suspensions: SuspensionWatch;

  constructor(
    readonly endpoint: number,
    private readonly around: ClientAround,
    /** Its requests are stamped by this much ahead, ns. */
    private readonly aheadNs = 0,
  ) {
    const { wire, network, queue } = around;
    this.outbox = new SimulatedOutbox(endpoint, wire, network, () => undefined);
    this.read();
    wire.start(this.now);
    this.sessions = new ClientSessions(LANES, (events, earlier) => this.newCore(events, earlier), {
      completed: (lane, outcome, status) => this.completed(lane, outcome, status),
      ready: () => this.soon(() => this.startWaiting()),
      refusedLanes: () => {
        throw new Error('the cluster refuses the lanes');
      },
      lost: () => undefined,
      refused: () => undefined,
      renewed: () => undefined,
    });
    const clock = this.leaseClock();
    this.suspensions = new SuspensionWatch(clock);
    registerParts(this, { clock, watch: (request) => this.watch(request), first: this });
    this.turn(() => this.sessions.register(this.now));
    queue.schedule(queue.nowUs + JUDGE_US, this, JUDGE, undefined);
  }

  execute(operation: Uint8Array, options?: CallOptions): Promise<Uint8Array> {
    return this.call(operation, false, options);
  }

  query(operation: Uint8Array, options?: CallOptions): Promise<Uint8Array> {
    return this.call(operation, true, options);
  }

  agreedTime(): number {
    return this.wallMs() + this.trust.correctionNs / 1e6;
  }

  /** The process is killed: nothing of it goes on. */
  kill(): void {
    this.isGone = true;
    for (const datagram of this.inbox) this.around.network.release(datagram);
    this.inbox = [];
  }

  /** SIGSTOP, and SIGCONT after `forUs`. */
  pause(forUs: number): void {
    const { queue } = this.around;
    if (queue.nowUs + forUs <= this.pausedUntilUs) return;
    if (!this.isPaused) this.pausedFromUs = queue.nowUs;
    this.isPaused = true;
    this.pausedUntilUs = queue.nowUs + forUs;
    queue.schedule(this.pausedUntilUs, this, RESUME, undefined);
  }

  arrive(datagram: Datagram): void {
    if (this.isGone || (this.isPaused && this.inbox.length >= INBOX_MAX)) this.around.network.release(datagram);
    else if (this.isPaused) this.inbox.push(datagram);
    else this.receive(datagram);
  }

  handle(kind: number, payload: unknown): void {
    const { queue } = this.around;
    if (this.isGone) return;
    if (kind === RESUME) return this.resume();
    if (this.isPaused) return queue.schedule(this.pausedUntilUs, this, kind, payload);
    switch (kind) {
      case TIMER:
        if (queue.nowUs >= this.timerAtUs) this.timerAtUs = Infinity;
        return this.turn(() => this.sessions.tick(this.now));
      case RUN:
        (payload as { run: () => void }).run();
        return this.around.touched();
      case JUDGE:
        this.judge();
        this.suspensions.look();
        return queue.schedule(queue.nowUs + (this.aheadNs === 0 ? JUDGE_US : JUDGE_AHEAD_US), this, JUDGE, undefined);
      case WATCHES:
        if (this.watches.size === 0) {
          this.areWatchesTimed = false;
          return;
        }
        this.turn(() => this.watches.forEach((each) => each.tick(this.now)));
        return queue.schedule(queue.nowUs + WATCH_US, this, WATCHES, undefined);
    }
  }

  private leaseClock(): LeaseClock {
    const { queue, clock, random, inPhase } = this.around;
    const monotonicMs = (): number => clock.monotonicUs(queue.nowUs) / 1e3;
    // The system's clock and the one that stamps are the same.
    const dateMs = (): number => Math.floor(this.wallMs());
    return {
      monotonicMs,
      wallMs: () => this.wallMs(),
      dateMs,
      heardAheadMs: (baseMs) => furthestAheadMs(this.sessions.core, SLOTS, clock.monotonicUs(queue.nowUs), baseMs),
      statedAheadMs: () => undefined,
      suspendedMs: () => this.suspensions.look(),
      correct: () => this.judge(),
      after: (ms, run) => {
        const timer = { run };
        queue.schedule(queue.nowUs + Math.max(1, ms * 1e3), this, RUN, timer);
        return () => void (timer.run = () => undefined);
      },
      random: () => (inPhase ? 0 : random.unit()),
      whenClosed: () => undefined,
    };
  }

  private watch(request: WatchRequest): OpenWatch {
    const { queue, random } = this.around;
    const reader = new WatchReader(
      {
        ...request,
        failed: (error) => {
          this.watches.delete(reader);
          request.failed(error);
          this.around.touched();
        },
      },
      () =>
        SLOTS.map((place) => ({ place, rank: this.sessions.core.burdenOf(place) + random.unit() }))
          .sort((a, b) => a.rank - b.rank)
          .map(({ place }) => place),
      () => random.next() | 1,
      this.outbox,
    );
    this.watches.add(reader);
    if (!this.areWatchesTimed) queue.schedule(queue.nowUs + WATCH_US, this, WATCHES, undefined);
    this.areWatchesTimed = true;
    this.turn(() => reader.tick(this.now));
    return {
      taken: (bytes) => {
        if (reader.taken(bytes)) this.turn(() => undefined);
      },
      ask: () => this.turn(() => reader.ask(this.now)),
      close: () => {
        if (!this.watches.delete(reader)) return;
        this.turn(() => reader.close());
      },
    };
  }

  private read(): void {
    this.around.clock.read(this.around.queue.nowUs, this.now);
  }

  private wallMs(): number {
    this.read();
    return ((this.now.wallHi >>> 0) * 2 ** 32 + (this.now.wallLo >>> 0)) / 1e6;
  }

  private judge(): void {
    const { core } = this.sessions;
    this.read();
    this.trust.judge(UNSTATED, core.majorityOfClocks(this.now.monotonicUs));
    // Another one than before: what a replica's refusal has taught is forgotten.
    const other = this.aheadNs === 0 ? 0 : this.around.random.below(1000);
    core.correctClock(this.trust.correctionNs + this.aheadNs + other);
  }

  private newCore(events: ConstructorParameters<typeof ClientCore>[2], earlier: ClientCore | undefined): ClientCore {
    const { random } = this.around;
    const core = new ClientCore(
      {
        replicas: REPLICAS,
        slots: HOST_PLACES,
        lanes: LANES,
        seed: random.next(),
        sessionHi: random.next() | 1,
        // As a client with a key of its own.
        sessionLo: ownedSessionLo(random.next(), this.endpoint),
        nonceHi: this.endpoint,
        nonceLo: random.next(),
        limits: LIMITS,
        timings: DEFAULT_CLIENT_TIMINGS,
        ...earlier?.succession(),
      },
      this.outbox,
      events,
    );
    core.correctClock(this.trust.correctionNs + this.aheadNs);
    return core;
  }

  private resume(): void {
    if (!this.isPaused || this.around.queue.nowUs < this.pausedUntilUs) return;
    this.isPaused = false;
    this.stoodUs += this.around.queue.nowUs - this.pausedFromUs;
    const { inbox } = this;
    this.inbox = [];
    for (const datagram of inbox) this.receive(datagram);
    this.turn(() => this.sessions.tick(this.now));
  }

  private receive(datagram: Datagram): void {
    const { wire, network } = this.around;
    this.turn(() =>
      wire.read(
        datagram.bytes,
        datagram.length,
        datagram.from,
        (bytes, offset, length, from) => {
          switch (typeOf(bytes, offset)) {
            case Changes.type:
              for (const each of this.watches) each.onChanges(bytes, offset, from, this.now);
              this.around.touched();
              return;
            case WatchLost.type:
              for (const each of this.watches) each.onLost(bytes, offset, from, this.now);
              return;
            default:
              if (from < REPLICAS) this.sessions.receive(bytes, offset, length, from, this.now);
          }
        },
        () => undefined,
        (to, message, offset) => this.outbox.prove(to, message, offset),
      ),
    );
    network.release(datagram);
  }

  /** Calls, then sends what was written and sets the timer. */
  private turn(use: () => void): void {
    const { queue, clock } = this.around;
    this.read();
    use();
    this.sessions.endTurn(this.now);
    for (const each of this.watches) each.endTurn(this.now);
    this.outbox.flush();
    this.sessions.writeWakeUs(this.wake);
    const atUs = Math.max(clock.trueUs(this.wake[0]!), queue.nowUs + 1);
    if (atUs >= this.timerAtUs) return;
    this.timerAtUs = atUs;
    queue.schedule(atUs, this, TIMER, undefined);
  }

  private call(operation: Uint8Array, isQuery: boolean, { signal, timeout }: CallOptions = {}): Promise<Uint8Array> {
    if (this.isGone) return new Promise(() => undefined);
    if (signal?.aborted === true) return Promise.reject(new JitPaxosError('aborted', 'aborted', signal.reason));
    const { queue } = this.around;
    return new Promise((resolve, reject) => {
      const deadlineUs = queue.nowUs + (timeout ?? DEFAULT_TIMEOUT_MS) * 1e3;
      const bytes = new Uint8Array(operation);
      const call: Call = { isQuery, bytes, deadlineUs, resolve, reject, lane: -1, forget: () => undefined };
      call.forget = onAbort(signal, () => this.abort(call));
      this.waiting.push(call);
      this.startWaiting();
    });
  }

  private startWaiting(): void {
    const { queue } = this.around;
    while (this.waiting.length > 0 && this.sessions.ready) {
      const lane = this.open.indexOf(undefined);
      if (lane < 0) return;
      const call = this.waiting.shift()!;
      call.lane = lane;
      this.open[lane] = call;
      const timeoutUs = Math.max(0, Math.ceil(call.deadlineUs - queue.nowUs));
      const { bytes, isQuery } = call;
      this.turn(() => {
        if (isQuery) this.sessions.read(lane, bytes, 0, bytes.length, timeoutUs, this.now);
        else this.sessions.submit(lane, bytes, 0, bytes.length, timeoutUs, this.now);
      });
    }
  }

  private completed(lane: number, outcome: number, status: number): void {
    const call = this.open[lane]!;
    this.open[lane] = undefined;
    call.forget();
    this.around.touched();
    if (outcome === Outcome.committed && status === ReplyStatus.ok)
      call.resolve(this.sessions.resultBytes(lane).slice(0, this.sessions.resultLength(lane)));
    else if (outcome === Outcome.sessionLost) call.reject(new JitPaxosError('session-lost', 'the session was lost'));
    else if (outcome === Outcome.unknown) call.reject(new JitPaxosError('outcome-unknown', 'no answer in time'));
    else call.reject(new JitPaxosError('operation-refused', 'refused'));
    if (this.waiting.length > 0) this.soon(() => this.startWaiting());
  }

  /** Not from within a call of the core. */
  private soon(run: () => void): void {
    const { queue } = this.around;
    queue.schedule(queue.nowUs, this, RUN, { run });
  }

  private abort(call: Call): void {
    if (call.lane >= 0) {
      if (this.open[call.lane] === call) this.turn(() => this.sessions.cancel(call.lane));
      return;
    }
    this.waiting = this.waiting.filter((each) => each !== call);
    call.reject(new JitPaxosError('aborted', 'aborted before it was sent'));
    this.around.touched();
  }
}
