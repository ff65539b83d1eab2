/**
 * A simulated client process: drives its sessions, the class that ships, with several lanes, each of which runs one
 * operation after another, gives some of them up, and writes down what it saw.
 */
import { ClientSessions } from '../protocol/client/client-sessions.js';
import type { ClientConfig } from '../protocol/config.js';
import { Instant, Outcome, type ClientEvents } from '../protocol/contract.js';
import { InvariantError } from '../protocol/invariant.js';
import { ownedSessionLo } from '../protocol/log/session-owner.js';
import { Request, typeOf } from '../wire/messages.js';
import { readI32, readU16 } from '../wire/u64.js';
import type { SimulatedClock } from './clock.js';
import type { CreateClient, SimulatedClientCore } from './cores.js';
import type { EventHandler, EventQueue } from './event-queue.js';
import type { WorkloadPlan } from './faults.js';
import type { Datagram, Network } from './network.js';
import { SimulatedOutbox } from './outbox.js';
import type { Random } from './random.js';
import { Violation } from './violation.js';
import type { WireEnd } from './wire-end.js';
import type { ClientWorkload, SentRequest, WorkItem, Workload } from './workload.js';

const TIMER = 0;
const LANE = 1;
const RESUME = 2;
const IMPATIENCE = 3;
const PACE = 4;

/** What a client host reports to the simulation. */
export interface ClientHostEvents {
  /** A replica speaks of an epoch that is not known: `take` gets the members if it answers. */
  unknownEpoch(endpoint: number, from: number, take: (members: Uint8Array) => void): void;
  /** Those that are known do not answer: `take` gets the members of one machine after another. */
  searchMembers(endpoint: number, take: (members: Uint8Array) => void): void;
  /** The number of one more logical client. */
  newProcess(): number;
  /** The core reported that this request is committed. */
  committed(sessionHi: number, sessionLo: number, lane: number, request: number): void;
  sent(endpoint: number, to: number, bytes: Uint8Array, offset: number, length: number): void;
  received(endpoint: number, from: number, bytes: Uint8Array, offset: number, length: number): void;
}

export interface ClientSurroundings {
  readonly queue: EventQueue;
  readonly network: Network;
  readonly random: Random;
  readonly clock: SimulatedClock;
  readonly wire: WireEnd;
  readonly replicas: number;
  readonly createClient: CreateClient;
  readonly events: ClientHostEvents;
  readonly plan: WorkloadPlan;
  readonly workload: Workload;
  /** Strength of the fault `give-up`, 0…1. */
  readonly giveUp: number;
  /** Every session belongs to this client, as with keys; otherwise some belong to no client. */
  readonly owned: boolean;
  /** Members may change. */
  readonly asksMembers: boolean;
  /** Longest datagram. */
  readonly datagramBytes: number;
  /** In addition to its lanes: an operation every `everyUs`, from `fromUs` on, on an idle lane. */
  readonly pace: { readonly everyUs: number; readonly fromUs: number } | undefined;
}

export interface ClientCounts {
  committed: number;
  fast: number;
  unknown: number;
  refused: number;
  sessions: number;
  /** Registered sessions that the cluster no longer knew. */
  lost: number;
  /** Worn sessions that another one followed. */
  renewed: number;
  /** Committed operations that began after the faults had ended. */
  fresh: number;
}

/** The last request that was sent for the lane is that of its open operation, if one was sent. */
interface Lane extends SentRequest {
  readonly lane: number;
  process: number;
  item: WorkItem | undefined;
  invokedUs: number;
  /** Counts the lane's operations. */
  operation: number;
  sessionHi: number;
  sessionLo: number;
  request: number;
  /** The open operation was begun by the pace, and no other follows it. */
  paced: boolean;
}

interface HostEvent {
  readonly generation: number;
  readonly lane: number;
  readonly operation: number;
}

type Configure = (sessionHi: number, sessionLo: number, nonceHi: number, nonceLo: number, seed: number) => ClientConfig;

export class ClientHost implements EventHandler {
  readonly counts: ClientCounts = {
    committed: 0,
    fast: 0,
    unknown: 0,
    refused: 0,
    sessions: 0,
    lost: 0,
    renewed: 0,
    fresh: 0,
  };
  readonly outbox: SimulatedOutbox;
  private sessions: ClientSessions<SimulatedClientCore> | undefined;
  private readonly workload: ClientWorkload;
  private readonly lanes: Lane[];
  private readonly now = new Instant();
  private sessionHi = 0;
  private sessionLo = 0;
  private lanesReady = false;
  private readonly wakeUs = new Float64Array(1);
  private generation = 0;
  /** Counts its processes. */
  private life = 0;
  private timerAtUs = Infinity;
  private pausedUntilUs = 0;
  private inbox: Datagram[] = [];
  private stopping = false;
  private healedAtUs = Infinity;
  /** The cluster gives no session of that many lanes: as a process that tries again. */
  private refusedLanes = false;

  constructor(
    readonly endpoint: number,
    private readonly configure: Configure,
    private readonly around: ClientSurroundings,
  ) {
    this.outbox = new SimulatedOutbox(
      endpoint,
      around.wire,
      around.network,
      (to, bytes, offset, length) => this.sent(to, bytes, offset, length),
      around.datagramBytes,
    );
    this.workload = around.workload.client(around.random.fork('workload'), around.plan, `c${endpoint}`);
    this.lanes = Array.from({ length: around.plan.lanes }, (_, lane) => ({
      lane,
      process: around.events.newProcess(),
      item: undefined,
      invokedUs: 0,
      operation: 0,
      sessionHi: 0,
      sessionLo: 0,
      request: 0,
      paced: false,
    }));
  }

  /** True when no operation is open. */
  get isIdle(): boolean {
    return this.lanes.every((lane) => lane.item === undefined);
  }

  /** One line, for reports. */
  describe(): string {
    const open = this.lanes
      .map((lane, i) =>
        lane.item === undefined
          ? ''
          : `${i}: ${lane.item.f} ${lane.item.quorumRead ? '(quorum) ' : ''}since ${lane.invokedUs}`,
      )
      .filter((text) => text !== '');
    return `client ${this.endpoint}: ${this.sessions?.ready === true ? 'registered' : 'not registered'}, ${this.counts.committed} committed, ${this.counts.fresh} of them fresh; open: ${open.length === 0 ? 'none' : open.join(', ')}`;
  }

  /** The newest session that it has, or tries to register. */
  get session(): readonly [number, number] {
    return [this.sessionHi, this.sessionLo];
  }

  /**
   * Begins with a new session; open operations end with an unknown outcome.
   * @param anew as a process that knows nothing of an earlier one
   */
  start(anew = false): void {
    const before = anew ? undefined : this.sessions?.core;
    for (const lane of this.lanes) this.abandon(lane);
    this.life++;
    this.begins();
    this.refusedLanes = false;
    this.sessions = new ClientSessions<SimulatedClientCore>(
      this.lanes.length,
      (events, earlier) =>
        earlier === undefined ? this.newCore(events, before, true) : this.newCore(events, earlier, !earlier.worn),
      {
        completed: (lane, outcome, _status, fast) => this.completed(lane, outcome, fast),
        ready: () => {
          this.lanesReady = true;
          for (let lane = 0; lane < this.lanes.length; lane++) this.think(lane);
        },
        refusedLanes: () => {
          this.refusedLanes = true;
        },
        lost: () => {
          this.counts.lost++;
          this.begins();
        },
        refused: () => this.begins(),
        renewed: () => {
          this.counts.renewed++;
        },
      },
    );
    this.call((sessions) => sessions.register(this.now));
  }

  /** What was planned of lanes and timers is void: a session is over, or the process was. */
  private begins(): void {
    this.generation++;
    this.lanesReady = false;
    this.timerAtUs = Infinity;
  }

  /** @param starts as a process that starts, in the version of the wire that it then speaks; else beside a worn session */
  private newCore(
    events: ClientEvents,
    earlier: SimulatedClientCore | undefined,
    starts: boolean,
  ): SimulatedClientCore {
    const { random, queue, clock, owned, wire, createClient } = this.around;
    this.counts.sessions++;
    this.sessionHi = random.next() | 1;
    this.sessionLo = random.next();
    const nonceHi = random.next();
    if (owned) this.sessionLo = ownedSessionLo(this.sessionLo, this.endpoint);
    const isOwned = (this.sessionLo & 1) === 0; // both kinds occur: see protocol/log/session-owner.ts
    const config = this.configure(
      this.sessionHi,
      this.sessionLo,
      isOwned ? this.endpoint : nonceHi,
      random.next(),
      random.next(),
    );
    const { life } = this;
    const take = (members: Uint8Array): void => {
      if (life !== this.life || this.around.queue.nowUs < this.pausedUntilUs) return;
      clock.read(queue.nowUs, this.now);
      this.call((sessions) => sessions.takeMembers(members, this.now));
    };
    const core = createClient({ ...config, ...earlier?.succession() }, this.outbox, {
      ...events,
      ...(this.around.asksMembers
        ? {
            unknownEpoch: (from: number): void => this.around.events.unknownEpoch(this.endpoint, from, take),
            searchMembers: (): void => this.around.events.searchMembers(this.endpoint, take),
          }
        : {}),
    });
    if (!starts) return core;
    clock.read(queue.nowUs, this.now);
    wire.start(this.now);
    return core;
  }

  /** The newest version of the wire that its process speaks. */
  get wireVersion(): number {
    return this.around.wire.newest;
  }

  arrive(datagram: Datagram): void {
    if (this.around.queue.nowUs < this.pausedUntilUs) {
      if (this.inbox.length < 64) this.inbox.push(datagram);
      else this.around.network.release(datagram);
      return;
    }
    this.receive(datagram);
  }

  /** A replica's host reports that no process listens there. */
  unreachable(replica: number): void {
    const { queue, clock } = this.around;
    if (queue.nowUs < this.pausedUntilUs || this.sessions === undefined) return;
    clock.read(queue.nowUs, this.now);
    this.call((sessions) => sessions.unreachable(replica, this.now));
  }

  pause(forUs: number): void {
    const until = this.around.queue.nowUs + forUs;
    if (until <= this.pausedUntilUs) return;
    this.pausedUntilUs = until;
    this.around.queue.schedule(until, this, RESUME, undefined);
  }

  /** Begins to keep the cluster busy, if this client has a pace. */
  setPace(): void {
    const { pace, queue } = this.around;
    if (pace !== undefined) queue.schedule(Math.max(queue.nowUs, pace.fromUs), this, PACE, undefined);
  }

  /** The faults are over. */
  heal(): void {
    this.healedAtUs = this.around.queue.nowUs;
    this.pausedUntilUs = 0;
    this.outbox.isFull = undefined;
    this.resume();
  }

  /** Starts no further operation. */
  finish(): void {
    this.stopping = true;
  }

  handle(kind: number, payload: unknown): void {
    if (kind === RESUME) {
      this.resume();
      return;
    }
    if (kind === PACE) {
      this.keepPace();
      return;
    }
    const { generation, lane, operation } = payload as HostEvent;
    if (generation !== this.generation) return;
    if (kind === TIMER) {
      if (this.around.queue.nowUs >= this.timerAtUs) this.timerAtUs = Infinity;
      if (this.around.queue.nowUs < this.pausedUntilUs) return;
      this.around.clock.read(this.around.queue.nowUs, this.now);
      this.call((sessions) => {
        sessions.writeWakeUs(this.wakeUs);
        if (this.now.monotonicUs >= this.wakeUs[0]!) sessions.tick(this.now);
      });
    } else if (kind === LANE) {
      this.begin(lane);
    } else if (
      kind === IMPATIENCE &&
      this.lanes[lane]!.operation === operation &&
      this.lanes[lane]!.item !== undefined
    ) {
      this.around.clock.read(this.around.queue.nowUs, this.now);
      this.call((sessions) => sessions.cancel(lane));
    }
  }

  private resume(): void {
    const { queue, clock } = this.around;
    if (queue.nowUs < this.pausedUntilUs || this.sessions === undefined) return;
    const inbox = this.inbox;
    this.inbox = [];
    for (const datagram of inbox) this.receive(datagram);
    clock.read(queue.nowUs, this.now);
    this.call((sessions) => sessions.tick(this.now));
  }

  private receive(datagram: Datagram): void {
    const { wire, network, events, queue, clock, replicas } = this.around;
    if (this.sessions !== undefined && !network.isOfFormerHost(datagram)) {
      clock.read(queue.nowUs, this.now);
      this.call((sessions) => {
        const handle = (bytes: Uint8Array, offset: number, length: number, from: number): void => {
          if (from >= replicas) return;
          events.received(this.endpoint, from, bytes, offset, length);
          sessions.receive(bytes, offset, length, from, this.now);
        };
        wire.read(
          datagram.bytes,
          datagram.length,
          datagram.from,
          handle,
          () => undefined,
          (to, message, offset) => this.outbox.prove(to, message, offset),
        );
      });
    }
    network.release(datagram);
  }

  /** Calls the sessions, then sends what they wrote and sets their timer. */
  private call(use: (sessions: ClientSessions<SimulatedClientCore>) => void): void {
    const sessions = this.sessions!;
    this.guard(() => use(sessions));
    this.outbox.flush();
    this.guard(() => sessions.endTurn(this.now));
    this.outbox.flush();
    if (this.refusedLanes) {
      this.start();
      return;
    }
    const { queue, clock } = this.around;
    sessions.writeWakeUs(this.wakeUs);
    const atUs = Math.max(clock.trueUs(this.wakeUs[0]!), queue.nowUs + 1);
    if (atUs >= this.timerAtUs) return;
    this.timerAtUs = atUs;
    queue.schedule(atUs, this, TIMER, this.event(0));
  }

  private guard(use: () => void): void {
    try {
      use();
    } catch (error) {
      if (error instanceof Violation) throw error;
      const text = error instanceof Error ? (error.stack ?? error.message) : String(error);
      throw new Violation(
        error instanceof InvariantError ? 'core-invariant' : 'core-exception',
        `client ${this.endpoint}: ${text}`,
        { cause: error },
      );
    }
  }

  private think(lane: number): void {
    const { queue, random, plan } = this.around;
    queue.schedule(queue.nowUs + random.exponential(plan.thinkUs), this, LANE, this.event(lane));
  }

  private keepPace(): void {
    const { queue, pace } = this.around;
    if (this.stopping) return;
    const idle =
      this.lanesReady && queue.nowUs >= this.pausedUntilUs
        ? this.lanes.findIndex((lane) => lane.item === undefined)
        : -1;
    if (idle >= 0) this.begin(idle, true);
    queue.schedule(queue.nowUs + pace!.everyUs, this, PACE, undefined);
  }

  private begin(index: number, paced = false): void {
    const { queue, clock, random, giveUp } = this.around;
    if (this.stopping) return;
    if (queue.nowUs < this.pausedUntilUs) {
      queue.schedule(this.pausedUntilUs, this, LANE, this.event(index));
      return;
    }
    const lane = this.lanes[index]!;
    if (lane.item !== undefined) return;
    const item = this.workload.next();
    lane.item = item;
    lane.paced = paced;
    lane.operation++;
    lane.invokedUs = queue.nowUs;
    lane.request = 0;
    this.workload.invoked(item, lane.process, queue.nowUs);
    const impatient = queue.nowUs < this.healedAtUs && random.chance(0.3 * giveUp);
    const patienceUs = random.logNormal(5000, 1.5);
    clock.read(queue.nowUs, this.now);
    const byDeadline = random.chance(0.5);
    const timeoutUs = impatient && byDeadline ? patienceUs : Infinity;
    this.call((sessions) => {
      if (item.quorumRead) sessions.read(index, this.workload.bytes, 0, item.length, timeoutUs, this.now);
      else sessions.submit(index, this.workload.bytes, 0, item.length, timeoutUs, this.now);
    });
    if (impatient && !byDeadline) queue.schedule(queue.nowUs + patienceUs, this, IMPATIENCE, this.event(index));
  }

  private event(lane: number): HostEvent {
    return { generation: this.generation, lane, operation: this.lanes[lane]!.operation };
  }

  private completed(index: number, outcome: number, fast: boolean): void {
    const lane = this.lanes[index]!;
    const { item } = lane;
    if (item === undefined)
      throw new Violation('client-result', `client ${this.endpoint} completed lane ${index}, which had nothing open`);
    const { events, queue } = this.around;
    switch (outcome) {
      case Outcome.committed: {
        const sessions = this.sessions!;
        const result = sessions.resultBytes(index);
        this.workload.committed(item, lane.process, queue.nowUs, lane, result, sessions.resultLength(index));
        // A quorum read leaves no request in the log, unless it fell back to a logged read.
        if (!item.quorumRead) events.committed(lane.sessionHi, lane.sessionLo, index, lane.request);
        lane.item = undefined;
        this.counts.committed++;
        if (fast) this.counts.fast++;
        if (lane.invokedUs >= this.healedAtUs) this.counts.fresh++;
        break;
      }
      case Outcome.refused:
        lane.item = undefined;
        this.counts.refused++;
        this.workload.refused(item, lane.process, queue.nowUs, lane);
        break;
      case Outcome.sessionLost:
        this.abandon(lane);
        // Its lanes begin again when another session is ready. If one is, it was a worn session beside it that ended.
        if (!this.sessions!.ready) return;
        break;
      default:
        this.abandon(lane);
    }
    if (!lane.paced) this.think(index);
  }

  /** Ends a lane's open operation with an unknown outcome. */
  private abandon(lane: Lane): void {
    const { item } = lane;
    if (item === undefined) return;
    const { events, queue } = this.around;
    this.counts.unknown++;
    this.workload.lost(item, lane.process, queue.nowUs, lane);
    lane.process = events.newProcess();
    lane.item = undefined;
  }

  private sent(to: number, bytes: Uint8Array, offset: number, length: number): void {
    if (typeOf(bytes, offset) === Request.type) {
      const lane = this.lanes[readU16(bytes, offset + Request.at.lane)];
      if (lane !== undefined) {
        lane.sessionHi = readI32(bytes, offset + Request.at.session);
        lane.sessionLo = readI32(bytes, offset + Request.at.session + 4);
        lane.request = readI32(bytes, offset + Request.at.request) >>> 0;
      }
    }
    this.around.events.sent(this.endpoint, to, bytes, offset, length);
  }
}
