/**
 * The sessions of one client host. It has one at a time, except for a moment when it moves to another.
 *
 * - A session that was refused or lost is replaced: its open operations end with Outcome.sessionLost.
 * - A session is *worn* when a lane has used most of its request numbers. It is followed by another one while it still
 *   serves. From the moment the new session is registered, requests begin in it; open ones end where they began. No
 *   request is ever in both, so at-most-once execution holds as in a single session.
 *
 * Nothing is allocated for a request: each lane knows the core that it used last.
 */
import type { ClientCore } from './client-core.js';
import { Outcome, type ClientEvents, type Instant } from '../contract.js';
import { CLIENT_COUNTER_NAMES } from '../counters.js';
import { ReplyStatus } from '../../wire/messages.js';

/** What is used of a core here. */
export type SessionCore = Pick<
  ClientCore,
  | 'register'
  | 'registered'
  | 'submit'
  | 'read'
  | 'cancel'
  | 'receive'
  | 'unreachable'
  | 'takeMembers'
  | 'takeFirstMembers'
  | 'tick'
  | 'wakeAtUs'
  | 'correctClock'
  | 'isIdle'
  | 'openLanes'
  | 'worn'
  | 'resultBytes'
  | 'resultLength'
  | 'counters'
>;

export interface ClientSessionsEvents<Core extends SessionCore = ClientCore> extends Pick<ClientEvents, 'completed'> {
  /** Lanes may be used (again). Called at the end of a turn. */
  ready(): void;
  /** The cluster refuses a session with this many lanes. */
  refusedLanes(): void;
  /** A registered session ended, and another one will be registered. Called before `completed` reports its lanes. */
  lost(session: Core): void;
  /** A session was refused, this many in a row, and another one is requested. */
  refused(session: Core, inARow: number): void;
  /** A worn session was followed by another. */
  renewed(from: Core, to: Core): void;
}

/** Makes the core of another session, with its own id, from what an earlier one learnt. */
export type CreateSession<Core extends SessionCore = ClientCore> = (
  events: ClientEvents,
  earlier: Core | undefined,
) => Core;

export class ClientSessions<Core extends SessionCore = ClientCore> {
  /** Requests begin in this session. */
  core: Core;
  /** A worn session with open requests. */
  private previous: Core | undefined;
  /** The next session, while it is being registered. */
  private next: Core | undefined;
  /**
   * The core that each lane used last: its request is open there, or its result is there. Sessions wear out once in
   * many hours, so idle lanes keep little alive.
   */
  private readonly laneCores: Core[];
  /** Counters of ended sessions. */
  private readonly pastCounters = new Float64Array(CLIENT_COUNTER_NAMES.length);
  /** Sessions refused one after the other, until one was registered. */
  refused = 0;
  private isOpen = false;
  /** What the end of the turn must do: not from within a call of the core concerned. */
  private readyPending = false;
  private coreEnded = false;
  private nextEnded = false;
  private nextReady = false;

  constructor(
    lanes: number,
    private readonly create: CreateSession<Core>,
    private readonly events: ClientSessionsEvents<Core>,
  ) {
    this.core = this.newCore(undefined);
    this.laneCores = new Array<Core>(lanes).fill(this.core);
  }

  /** False while no session is registered; do not submit then. */
  get ready(): boolean {
    return this.isOpen;
  }

  register(now: Instant): void {
    this.core.register(now);
  }

  isIdle(lane: number): boolean {
    return this.laneCores[lane]!.isIdle(lane);
  }

  /** The lane must be idle. */
  submit(lane: number, bytes: Uint8Array, offset: number, length: number, timeoutUs: number, now: Instant): void {
    this.coreFor(lane).submit(lane, bytes, offset, length, timeoutUs, now);
  }

  read(lane: number, bytes: Uint8Array, offset: number, length: number, timeoutUs: number, now: Instant): void {
    this.coreFor(lane).read(lane, bytes, offset, length, timeoutUs, now);
  }

  cancel(lane: number): void {
    this.laneCores[lane]!.cancel(lane);
  }

  resultBytes(lane: number): Uint8Array {
    return this.laneCores[lane]!.resultBytes(lane);
  }

  resultLength(lane: number): number {
    return this.laneCores[lane]!.resultLength(lane);
  }

  receive(bytes: Uint8Array, offset: number, length: number, from: number, now: Instant): void {
    this.core.receive(bytes, offset, length, from, now);
    if (this.previous !== undefined) this.previous.receive(bytes, offset, length, from, now);
    if (this.next !== undefined) this.next.receive(bytes, offset, length, from, now);
  }

  /** See ClientCore.takeFirstMembers. */
  takeFirstMembers(view: number, now: Instant): void {
    this.core.takeFirstMembers(view, now);
    this.previous?.takeFirstMembers(view, now);
    this.next?.takeFirstMembers(view, now);
  }

  /** See ClientCore.takeMembers. */
  takeMembers(members: Uint8Array, now: Instant): void {
    this.core.takeMembers(members, now);
    if (this.previous !== undefined) this.previous.takeMembers(members, now);
    if (this.next !== undefined) this.next.takeMembers(members, now);
  }

  tick(now: Instant): void {
    this.core.tick(now);
    if (this.previous !== undefined) this.previous.tick(now);
    if (this.next !== undefined) this.next.tick(now);
  }

  unreachable(replica: number, now: Instant): void {
    this.core.unreachable(replica, now);
    if (this.previous !== undefined) this.previous.unreachable(replica, now);
    if (this.next !== undefined) this.next.unreachable(replica, now);
  }

  writeWakeUs(out: Float64Array): void {
    out[0] = this.core.wakeAtUs;
    if (this.previous !== undefined) out[0] = Math.min(out[0], this.previous.wakeAtUs);
    if (this.next !== undefined) out[0] = Math.min(out[0], this.next.wakeAtUs);
  }

  correctClock(ns: number): void {
    this.core.correctClock(ns);
    this.previous?.correctClock(ns);
    this.next?.correctClock(ns);
  }

  /** CLIENT_COUNTER_NAMES, of all sessions. Allocates. */
  counters(): Float64Array {
    const { core, previous, next } = this;
    return this.pastCounters.map(
      (past, i) => past + core.counters[i]! + (previous?.counters[i] ?? 0) + (next?.counters[i] ?? 0),
    );
  }

  endTurn(now: Instant): void {
    if (this.coreEnded) this.replace(now);
    if (this.core.worn || this.previous !== undefined) this.renew(now);
    if (!this.readyPending) return;
    this.readyPending = false;
    this.events.ready();
  }

  private coreFor(lane: number): Core {
    const before = this.laneCores[lane]!;
    if (before === this.core) return before; // which itself reports it if the lane is not idle
    if (!before.isIdle(lane)) return before;
    this.laneCores[lane] = this.core;
    return this.core;
  }

  private newCore(earlier: Core | undefined): Core {
    const core: Core = this.create(
      {
        registered: (status) => this.onRegistered(core, status),
        completed: (lane, outcome, status, fast) => this.onCompleted(core, lane, outcome, status, fast),
      },
      earlier,
    );
    return core;
  }

  private onRegistered(core: Core, status: number): void {
    const isOk = status === ReplyStatus.ok;
    this.refused = isOk ? 0 : this.refused + 1;
    if (core === this.core) {
      if (isOk) {
        this.isOpen = true;
        this.readyPending = true;
      } else if (status === ReplyStatus.badRequest) this.events.refusedLanes();
      else this.coreEnded = true; // another client has this id: draw again
    } else if (core === this.next) {
      if (isOk) this.nextReady = true;
      else this.nextEnded = true;
    }
  }

  private onCompleted(core: Core, lane: number, outcome: number, status: number, fast: boolean): void {
    if (outcome === Outcome.sessionLost && core === this.core) {
      this.isOpen = false;
      this.coreEnded = true;
    }
    this.events.completed(lane, outcome, status, fast);
  }

  /** The session has ended. */
  private replace(now: Instant): void {
    const old = this.core;
    this.coreEnded = false;
    this.isOpen = false;
    this.readyPending = false;
    if (old.registered) this.events.lost(old);
    else this.events.refused(old, this.refused);
    this.retire(old);
    const follows = this.next;
    this.core = follows ?? this.newCore(old);
    this.next = undefined;
    for (let lane = 0; lane < this.laneCores.length; lane++) {
      if (this.laneCores[lane] !== old) continue;
      this.laneCores[lane] = this.core;
      if (!old.isIdle(lane)) this.events.completed(lane, Outcome.sessionLost, 0, false);
    }
    if (follows === undefined) this.core.register(now);
    else if (this.nextReady) {
      this.isOpen = true;
      this.readyPending = true;
    } else this.coreEnded = this.nextEnded;
    this.nextReady = false;
    this.nextEnded = false;
  }

  /** Moves from a worn session to another, one step at a time. */
  private renew(now: Instant): void {
    if (this.previous !== undefined) {
      if (this.previous.openLanes > 0) return;
      this.retire(this.previous);
      this.previous = undefined;
      return;
    }
    if (!this.isOpen) return;
    if (this.next === undefined) {
      this.next = this.newCore(this.core);
      this.next.register(now);
    } else if (this.nextEnded) {
      // The old one still serves. If the cluster no longer accepts a session with this many lanes, its end will say so.
      const refused = this.next;
      this.nextEnded = false;
      this.retire(refused);
      this.next = this.newCore(refused);
      this.next.register(now);
    } else if (this.nextReady) {
      const old = this.core;
      this.nextReady = false;
      this.core = this.next;
      this.next = undefined;
      this.previous = old;
      this.events.renewed(old, this.core);
    }
  }

  private retire(core: Core): void {
    for (let i = 0; i < this.pastCounters.length; i++) this.pastCounters[i]! += core.counters[i]!;
  }
}
