/**
 * A simulated replica process and its machine: hands datagrams, timers and disk completions to a core in turns, like
 * the real host, and can be made to crash at any point of a turn, stand still, or be slow.
 */
import type { ReplicaConfig } from '../protocol/config.js';
import {
  Instant,
  type Chain,
  type FirstStart,
  type Hasher,
  type Identity,
  type Recovered,
} from '../protocol/contract.js';
import { DivergedError } from '../protocol/replica/diverged-error.js';
import { ForgottenError, INCARNATION_LEAP } from '../protocol/replica/introduction.js';
import { Feature } from '../protocol/log/features.js';
import { InvariantError } from '../protocol/invariant.js';
import { decodeMembership, hostOf, type ListedHost, type Membership } from '../protocol/membership/membership.js';
import { nameOf, typeOf } from '../wire/messages.js';
import type { RestoreInPieces, StateMachine } from '../machine/state-machine.js';
import { machineBytes } from '../protocol/log/snapshots.js';
import type { SimulatedClock } from './clock.js';
import type { CreateReplica, SimulatedReplicaCore } from './cores.js';
import type { LogFate, SimulatedDisk } from './disk.js';
import type { EventHandler, EventQueue } from './event-queue.js';
import { MachineProbe } from './machine-probe.js';
import type { Datagram, Network } from './network.js';
import { SimulatedOutbox } from './outbox.js';
import type { Random } from './random.js';
import { Violation } from './violation.js';
import type { WireEnd } from './wire-end.js';
import type { Standstill } from './world.js';

/** Pieces in which a machine gets the state that its replica starts from. */
const PIECE_BYTES = 512;
/** Datagrams that can wait for a turn: the size of a socket's buffer. */
const INBOX_MAX = 512;
/** Datagrams handled in one turn. */
const TURN_MAX = 32;
/** While a replica does not know what it is, it asks one machine after another who the members are, this far apart. */
const SEARCH_US = 100_000;

const TURN = 0;
const TIMER = 1;
const RESTART = 2;
const RESUME = 3;

/** Where in a turn a crash strikes. */
const CRASH_POINTS = ['between turns', 'before flush', 'before sending', 'while sending'] as const;
type CrashPoint = (typeof CRASH_POINTS)[number];

/** What a replica host reports to the simulation. */
export interface ReplicaEvents {
  /** A core was called: its state may have changed. `event` says which call it was. */
  called(replica: number, event: string): void;
  started(replica: number, logLost: boolean, wireVersion: number): void;
  crashed(replica: number, fate: LogFate): void;
  /** Others remember more of this replica than it does itself: its process ends. */
  forgotten(replica: number, error: ForgottenError): void;
  /** A message leaves. */
  sent(replica: number, to: number, bytes: Uint8Array, offset: number, length: number): void;
  /** A message arrives at the core. */
  received(replica: number, from: number, bytes: Uint8Array, offset: number, length: number): void;
  transition(replica: number, event: string, detail: string): void;
  /** A core begins a snapshot, in the middle of a call: it may cut its log behind that in the same call. */
  snapshots(replica: number): void;
  /** Who sends from there speaks of an epoch that is not known: `take` gets the members of whoever answers. */
  unknownEpoch(replica: number, from: number, take: (members: Uint8Array) => void): void;
  /** Those that are known do not answer: `take` gets the members of one machine after another. */
  searchMembers(replica: number, take: (members: Uint8Array) => void): void;
  /** A message of the host in slot `from` is for the host at `to`: each knows the other by its id. */
  isForHost(from: number, to: number): boolean;
  /** A replica whose machine went wrong stops itself. Returns what becomes of it. */
  diverged(replica: number): { readonly fate: LogFate; readonly downUs: number };
  /** The members list another directory under its id, or do not list it: its process ends, and is not started again. */
  refused(replica: number): void;
}

export interface ReplicaSurroundings {
  readonly queue: EventQueue;
  readonly network: Network;
  readonly random: Random;
  readonly clock: SimulatedClock;
  readonly disk: SimulatedDisk;
  readonly wire: WireEnd;
  readonly hasher: Hasher;
  /** What chains the log; undefined: as in a cluster without keys. */
  readonly chain: Chain | undefined;
  readonly createReplica: CreateReplica;
  readonly createMachine: () => StateMachine;
  readonly events: ReplicaEvents;
  readonly messageCostUs: number;
  /** Time that the machine's work takes; undefined: none. */
  readonly standstill: Standstill | undefined;
  /** Machines may go wrong in this run. */
  readonly diverging: boolean;
  /** Replicas with an empty disk ask who they are, as in real hosts; otherwise the host vouches that they are new. */
  readonly asks: boolean;
  /** The machine's operations and results are kept. */
  readonly records: boolean;
}

interface Crash {
  readonly fate: LogFate;
  readonly point: CrashPoint;
  readonly downUs: number;
  /** The whole directory is lost too; how the operator then starts the replica. */
  readonly wiped: FirstStart | undefined;
  /** If something was written before the crash, nothing happens: that would lose a log. */
  readonly whileEmpty: boolean;
}

export class ReplicaHost implements EventHandler {
  core: SimulatedReplicaCore | undefined;
  /** Undefined until it begins for the first time. */
  probe: MachineProbe | undefined;
  readonly outbox: SimulatedOutbox;
  /** Its log is gone, and it has not installed one yet. */
  logLost = false;
  /** Its directory was lost at some time. */
  hasForgotten = false;
  /**
   * It returned without reporting that its log is lost, and perhaps no replica that knows better was there to ask: it
   * may find out later.
   */
  private doubtful = false;
  /** What the operator says at the next start if nothing is on disk. */
  private first: FirstStart = 'ask';
  /**
   * It burnt down, or its directory is gone and its id belongs to that: nothing starts here until the machine is another
   * host.
   */
  isBurnt = false;
  /**
   * It was silent, and the operator has asked for an identity of it that no directory has: it can begin no more. That
   * counts at once, because nobody knows when the entry is committed.
   */
  isGivenUp = false;
  /** How many directories the host had before: each has an identity of its own (C7). */
  private directories = 0;
  /** What tells them from those of other hosts. */
  private identityLo: number;
  /** When it last asked for the members because it did not know what it is, µs. */
  private searchedUs = -Infinity;
  /** The host that the machine was before it was nobody. */
  private former: number | undefined;
  /** How many times as long as usual everything takes. */
  slowness = 1;
  /** Datagrams that the envelope or `validate` refused. */
  refused = 0;
  messages = 0;
  private readonly now = new Instant();
  private inbox: Datagram[] = [];
  private tokens: number[] = [];
  /** Replicas whose hosts reported that no process listens there. */
  private unreachables: number[] = [];
  /** What others answered about the members. */
  private told: Uint8Array[] = [];
  /** What it knew of them when it joined. */
  private members: Uint8Array | undefined;
  private generation = 0;
  private turnScheduled = false;
  private timerAtUs = Infinity;
  private busyUntilUs = 0;
  private pausedUntilUs = 0;
  /** A clean stop is due in the next turn in which a message of `type` arrived. */
  private stopping:
    | { readonly fate: LogFate; readonly type: number; readonly downUs: number; seen: boolean }
    | undefined;
  private crashing: Crash | undefined;
  /** The ids that it ever had among the members. */
  readonly hostIds: number[];

  constructor(
    readonly id: number,
    private config: ReplicaConfig,
    private readonly around: ReplicaSurroundings,
    /** Its id among the members; undefined: it is nobody yet. */
    public hostId: number | undefined,
  ) {
    this.hostIds = hostId === undefined ? [] : [hostId];
    this.identityLo = hostId ?? id;
    this.outbox = new SimulatedOutbox(
      id,
      around.wire,
      around.network,
      (to, bytes, offset, length) => around.events.sent(id, to, bytes, offset, length),
      config.datagramBytes,
    );
    around.disk.onPersisted = (token) => this.persisted(token);
    around.disk.nothingIsDecided = () => this.core?.state.nothingIsDecided() ?? false;
    this.logLost = around.asks;
  }

  /**
   * Without its log, or perhaps so. A replica that has not begun counts too: it has no log, and cannot help those that
   * lost theirs.
   */
  get countsAsLost(): boolean {
    return this.logLost || this.doubtful || this.isGivenUp;
  }

  /** Its machine went wrong, or is about to. */
  get isMarked(): boolean {
    const { probe } = this;
    return probe !== undefined && (probe.mark !== 0 || probe.nextMark !== 0);
  }

  /** It has nothing that a crash could destroy. */
  get isEmpty(): boolean {
    return this.around.asks && this.around.disk.isEmpty;
  }

  /** The newest version of the wire that its process speaks. */
  get wireVersion(): number {
    return this.around.wire.newest;
  }

  get isUp(): boolean {
    return this.core !== undefined;
  }

  /** What its log holds; undefined while it is down. */
  get log(): { readonly baseIndex: number; readonly lastIndex: number } | undefined {
    return this.core?.state.log;
  }

  /** True if it reports its state: it has one, and not from another replica. */
  get hasOwnState(): boolean {
    return this.core !== undefined && this.core.state.logView >= 0 && !this.core.state.isEcho;
  }

  /** Which of its directories it has, counted from 0; undefined: nothing is on its disk yet. */
  get directory(): number | undefined {
    if (!this.around.asks) return this.directories;
    return this.core?.state.starting === false && this.around.disk.isWritten ? this.directories : undefined;
  }

  /** It is the host that the machine was when the run began, and is still to begin as that. */
  get mayBegin(): boolean {
    return this.core === undefined && !this.isBurnt && this.hostId !== undefined && this.hostIds.length === 1;
  }

  /** True if a restart that keeps the disk would find an installed log. */
  get hasInstalledLog(): boolean {
    return this.around.disk.hasInstalledLog;
  }

  /** The machine becomes another host, with an empty disk, which knows the members. */
  join(hostId: number, members: Uint8Array): void {
    if (this.core !== undefined) this.end(Infinity, 'kept');
    this.generation++;
    this.around.disk.joins();
    this.around.network.moveIn(this.id);
    this.isBurnt = false;
    this.hasForgotten = false;
    this.doubtful = false;
    this.first = 'ask';
    this.isGivenUp = false;
    this.directories = 0;
    this.hostId = hostId;
    this.hostIds.push(hostId);
    this.config = { ...this.config, hostId };
    this.identityLo = hostOf(decodeMembership(members, 0, members.length)!, hostId)!.identityLo;
    this.members = members;
    this.start();
  }

  /** The host is none any more: its process ends, and is not started again. */
  retire(): void {
    if (this.core !== undefined) this.end(Infinity, 'kept');
    this.generation++;
    this.former = this.hostId;
    this.hostId = undefined;
  }

  /** The former host starts again, with the disk that it had. */
  revive(): void {
    if (this.former === undefined || this.hostId !== undefined || this.isBurnt) return;
    this.hostId = this.former;
    this.start();
  }

  /**
   * The machine burns down, disk and all. One that comes in its place with an empty disk and the old id is told that
   * another identity is listed for it, and does not begin (C7): only with the fault `directory-lost` one comes.
   */
  burn(): void {
    this.logLost = true;
    if (this.core !== undefined) this.end(Infinity, 'lost');
    this.generation++;
    this.around.disk.wipe();
    this.isBurnt = true;
  }

  /** Starts the process with the content of the disk. */
  start(): void {
    const { around } = this;
    const recovered = { ...around.disk.recover(), identity: this.identity };
    // A host that knows the members from its directory needs nobody to tell it what it is.
    const knowsMembers = (recovered.hardState === undefined ? this.members : recovered.hardState.members) !== undefined;
    const asks = around.asks && !knowsMembers;
    const lost =
      recovered.hardState === undefined
        ? asks || this.members !== undefined
        : recovered.log === undefined || recovered.hardState.logView < 0;
    if (recovered.hardState !== undefined) this.first = 'ask';
    // A new seed for each life, as hosts draw it: it tells two lives apart.
    const config = around.asks ? { ...this.config, seed: around.random.next() } : this.config;
    this.logLost = lost;
    this.probe = new MachineProbe(
      around.createMachine(),
      `replica ${this.id}`,
      around.standstill,
      around.diverging,
      this.config.pieces !== undefined,
      this.config.undoBytes !== undefined,
      around.records,
      () => around.events.snapshots(this.id),
    );
    around.clock.read(around.queue.nowUs, this.now);
    const wireVersion = around.wire.start(this.now);
    const observer = {
      transition: (event: string, detail: string): void => around.events.transition(this.id, event, detail),
      unknownEpoch: (from: number): void => this.hearsStranger(from),
      searchMembers: (): void => around.events.searchMembers(this.id, this.taker()),
    };
    this.guard(() => {
      this.core = around.createReplica(
        config,
        this.outbox,
        around.disk,
        this.probe!,
        around.hasher,
        observer,
        around.chain,
      );
      const log = recovered.log === undefined ? undefined : { ...recovered.log, restore: this.restore(recovered.log) };
      this.core.start(
        asks
          ? { ...recovered, first: this.first, log }
          : this.members === undefined
            ? { ...recovered, log }
            : { ...recovered, members: this.members, log },
        this.now,
      );
    });
    around.events.started(this.id, lost, wireVersion);
    this.around.wire.membersMayChange((this.core!.state.execution.features & Feature.membership) !== 0);
    this.called('start');
    this.guard(() => this.core!.flush(this.now));
    this.called('flush');
    const costUs = this.probe.takeCostUs();
    this.outbox.flush(Infinity, costUs);
    if (costUs > 0) this.busyUntilUs = around.queue.nowUs + costUs;
    this.setTimer();
  }

  /** As a host does before it starts the core, where machines restore in pieces. */
  private restore({ snapshot }: NonNullable<Recovered['log']>): RestoreInPieces | undefined {
    if (snapshot === undefined) return undefined;
    const bytes = machineBytes(snapshot);
    const restore = this.probe!.beginRestore?.(bytes.length);
    for (let at = 0; restore !== undefined && at < bytes.length; at += PIECE_BYTES)
      restore.step(bytes.subarray(at, at + PIECE_BYTES));
    return restore;
  }

  /** It has a log again, unless it is about to lose it. */
  logRegained(): void {
    if (this.crashing?.fate === 'lost' || this.stopping?.fate === 'lost') return;
    this.logLost = false;
    // It started as one that may have been in use. One that took itself for new may still learn otherwise.
    if (this.core!.state.incarnation >= INCARNATION_LEAP) this.doubtful = false;
  }

  arrive(datagram: Datagram): void {
    if (this.core === undefined || this.inbox.length >= INBOX_MAX) {
      this.around.network.release(datagram);
      return;
    }
    this.inbox.push(datagram);
    this.scheduleTurn();
  }

  /** Who sends from there is asked who the members are. */
  hearsStranger(from: number): void {
    this.around.events.unknownEpoch(this.id, from, this.taker());
  }

  /** Takes an answer about the members, unless the process that asked is gone. */
  private taker(): (members: Uint8Array) => void {
    const { generation } = this;
    return (members) => {
      if (generation !== this.generation) return;
      this.told.push(members);
      this.scheduleTurn();
    };
  }

  /** A replica's host reports that no process listens there. */
  unreachable(replica: number): void {
    if (this.core === undefined || this.unreachables.length >= INBOX_MAX) return;
    this.unreachables.push(replica);
    this.scheduleTurn();
  }

  /**
   * The process stops at its next turn, or now, at a random point, and is started again after `downUs`.
   * @param wiped the whole directory is lost too; how the operator then starts it
   */
  crash(fate: LogFate, downUs: number, wiped?: FirstStart): void {
    if (this.core === undefined || this.crashing !== undefined) return;
    const point = this.around.random.pick(CRASH_POINTS);
    this.crashing = { fate, point, downUs, wiped, whileEmpty: fate === 'lost' && wiped === undefined && this.isEmpty };
    if (fate === 'lost') this.logLost = true;
    if (point === 'between turns') this.stop();
  }

  /**
   * The process is told to end, in the next turn in which a message of `type` arrived (−1: the next one), before that
   * turn is flushed.
   */
  stopCleanly(fate: LogFate, type: number, downUs: number): void {
    if (this.core === undefined || this.crashing !== undefined || this.stopping !== undefined) return;
    this.stopping = { fate, type, downUs, seen: type < 0 };
    if (fate === 'lost') this.logLost = true;
  }

  pause(forUs: number): void {
    if (this.core === undefined) return;
    const until = this.around.queue.nowUs + forUs;
    if (until <= this.pausedUntilUs) return;
    this.pausedUntilUs = until;
    this.around.queue.schedule(until, this, RESUME, undefined);
  }

  /**
   * The faults are over: up, awake, at full speed.
   * @param starts false: a replica that was never started stays so for now
   */
  heal(starts = true): void {
    this.slowness = 1;
    this.crashing = undefined;
    this.stopping = undefined;
    this.pausedUntilUs = 0;
    this.outbox.isFull = undefined;
    if ((!starts || this.hostId === undefined || this.isBurnt) && this.core === undefined) return;
    if (this.core === undefined) {
      this.generation++;
      this.start();
    } else {
      this.busyUntilUs = this.around.queue.nowUs;
      // A turn that was delayed to the end of a pause comes now.
      this.turnScheduled = false;
      this.scheduleTurn();
    }
  }

  handle(kind: number, payload: unknown): void {
    switch (kind) {
      case TURN:
        if (payload === this.generation) this.turn();
        return;
      case TIMER:
        if (payload !== this.generation) return;
        if (this.around.queue.nowUs >= this.timerAtUs) this.timerAtUs = Infinity;
        this.scheduleTurn();
        return;
      case RESTART:
        if (payload === this.generation && this.core === undefined) this.start();
        return;
      case RESUME:
        if (this.core !== undefined) this.scheduleTurn();
        return;
    }
  }

  private persisted(token: number): void {
    if (this.around.disk.withinPersist) {
      this.core!.persisted(token);
      return;
    }
    this.tokens.push(token);
    this.scheduleTurn();
  }

  private scheduleTurn(): void {
    if (this.turnScheduled) return;
    this.turnScheduled = true;
    const { queue } = this.around;
    queue.schedule(Math.max(queue.nowUs, this.busyUntilUs, this.pausedUntilUs), this, TURN, this.generation);
  }

  private turn(): void {
    try {
      this.takeTurn();
    } catch (error) {
      if (!(error instanceof ForgottenError) || !this.around.asks) throw error;
      this.around.events.forgotten(this.id, error);
      // The operator reads the message, and starts it on an empty directory as one that lost its log.
      this.logLost = true;
      this.crashing = {
        fate: 'lost',
        point: 'between turns',
        downUs: this.around.random.logNormal(20_000, 1),
        wiped: 'log-lost',
        whileEmpty: false,
      };
      this.stop();
    }
  }

  private takeTurn(): void {
    this.turnScheduled = false;
    const { around } = this;
    const { queue, clock } = around;
    if (queue.nowUs < this.pausedUntilUs) {
      this.scheduleTurn();
      return;
    }
    const core = this.core!;
    clock.read(queue.nowUs, this.now);
    for (const token of this.tokens) {
      this.guard(() => core.persisted(token));
      this.called('persisted');
    }
    this.tokens.length = 0;
    for (const replica of this.unreachables) {
      this.guard(() => core.unreachable(replica, this.now));
      this.called('unreachable');
    }
    this.unreachables.length = 0;
    for (const members of this.told) {
      const told = around.asks ? this.judgeTold(core, decodeMembership(members, 0, members.length)!) : 'taken';
      if (told === 'refused') {
        this.refuse();
        return;
      }
      if (told === 'ignored') continue;
      this.guard(() => core.takeMembers(members, this.now));
      this.called('members');
    }
    this.told.length = 0;
    const before = this.messages;
    const count = Math.min(this.inbox.length, TURN_MAX);
    if (count > 0) for (const datagram of this.inbox.splice(0, count)) this.receive(core, datagram);
    if (this.now.monotonicUs >= core.wakeAtUs) {
      if (!this.tick(core)) return;
      this.called('tick');
    }
    if (core.state.starting && queue.nowUs - this.searchedUs >= SEARCH_US) {
      this.searchedUs = queue.nowUs;
      around.events.searchMembers(this.id, this.taker());
    }
    if (around.asks && !core.state.starting && this.isAnothers(core.state.members)) {
      this.refuse();
      return;
    }
    // The entry that would have given it up is not there, and the one that lists its own identity is.
    if (this.isGivenUp) {
      const own = hostOf(core.state.members, this.hostId!);
      if (own !== undefined && this.isNamedBy(own)) this.isGivenUp = false;
    }
    if (this.stopping?.seen === true && this.crashing === undefined) {
      this.guard(() => core.finish(this.now));
      this.called('flush');
      this.outbox.flush();
      const { fate, downUs } = this.stopping;
      this.end(downUs, fate === 'kept' ? 'stop' : 'lost');
      return;
    }
    if (this.crashing?.whileEmpty === true && !this.around.disk.isEmpty) this.crashing = undefined;
    if (this.crashing?.point === 'before flush') {
      this.stop();
      return;
    }
    this.guard(() => core.flush(this.now));
    this.called('flush');
    this.around.wire.membersMayChange((core.state.execution.features & Feature.membership) !== 0);
    if (this.crashing?.whileEmpty === true && !this.around.disk.isEmpty) this.crashing = undefined;
    if (this.crashing !== undefined) {
      this.outbox.flush(this.crashing.point === 'while sending' ? this.around.random.below(4) : 0);
      this.stop();
      return;
    }
    // The output of a turn leaves when its work is done.
    const costUs = this.probe!.takeCostUs();
    this.outbox.flush(Infinity, costUs);
    this.busyUntilUs = queue.nowUs + costUs + (1 + this.messages - before) * this.around.messageCostUs * this.slowness;
    if (this.inbox.length > 0 || this.tokens.length > 0) this.scheduleTurn();
    this.setTimer();
  }

  /** Of its directory; one that is empty has drawn it. */
  get identity(): Identity {
    return identityOf(this.identityLo, this.directories);
  }

  /** What a real host does with what it is told of the members. */
  private judgeTold(core: SimulatedReplicaCore, members: Membership): 'taken' | 'ignored' | 'refused' {
    const { state } = core;
    if (members.index <= state.members.index) return 'ignored';
    const own = hostOf(members, this.hostId!);
    // It has no identity while it is starting.
    if (state.starting && (own === undefined || isNamed(own))) return 'refused';
    return members.decided === 0 && !members.hosts.every(isNamed) ? 'ignored' : 'taken';
  }

  /** Rule C7: under its id the members list another directory than it has. */
  isAnothers(members: Membership): boolean {
    const own = hostOf(members, this.hostId!);
    return own !== undefined && isNamed(own) && !this.isNamedBy(own);
  }

  private isNamedBy({ identityHi, identityLo }: ListedHost): boolean {
    const { identity } = this;
    return identityHi === identity.identityHi && identityLo === identity.identityLo;
  }

  /** The operator has to put another host in its place. */
  private refuse(): void {
    this.around.events.refused(this.id);
    this.burn();
  }

  /**
   * False if the replica rightly stopped itself because it is wrong: it returns as docs/operate/operations.md
   * describes.
   */
  private tick(core: SimulatedReplicaCore): boolean {
    try {
      core.tick(this.now);
      return true;
    } catch (error) {
      if (!(error instanceof DivergedError) || error.code !== 'state-diverged' || !this.probe!.wasWrong)
        this.fail(error);
    }
    const { fate, downUs } = this.around.events.diverged(this.id);
    if (fate === 'lost') this.logLost = true;
    this.end(downUs, fate);
    return false;
  }

  private receive(core: SimulatedReplicaCore, datagram: Datagram): void {
    const { wire, events, network } = this.around;
    // It waited here, and its sender's machine is another host meanwhile: under the id of the former one it is nobody's.
    if (network.isOfFormerHost(datagram)) {
      network.release(datagram);
      return;
    }
    const handle = (bytes: Uint8Array, offset: number, length: number, from: number): void => {
      if (!events.isForHost(from, this.id)) return;
      this.messages++;
      events.received(this.id, from, bytes, offset, length);
      if (this.stopping?.type === typeOf(bytes, offset)) this.stopping.seen = true;
      try {
        core.receive(bytes, offset, length, from, this.now, network.endpointOf(datagram.from)); // a key for each endpoint
      } catch (error) {
        this.fail(error);
      }
      this.called(nameOf(typeOf(bytes, offset)));
    };
    if (
      !wire.read(
        datagram.bytes,
        datagram.length,
        datagram.from,
        handle,
        (to) => this.outbox.hello(to),
        () => undefined,
      )
    )
      this.refused++;
    network.release(datagram);
  }

  private setTimer(): void {
    const { queue, clock } = this.around;
    const at = clock.trueUs(this.core!.wakeAtUs);
    if (at === Infinity) return;
    const dueUs = Math.max(at, queue.nowUs + 1);
    if (dueUs >= this.timerAtUs) return;
    this.timerAtUs = dueUs;
    queue.schedule(dueUs, this, TIMER, this.generation);
  }

  private stop(): void {
    const { fate, downUs, wiped } = this.crashing!;
    this.end(downUs, fate);
    if (wiped === undefined) return;
    this.around.disk.wipe();
    this.hasForgotten = true;
    this.first = wiped;
    this.doubtful = wiped === 'ask' || this.doubtful;
    this.directories++;
    this.members = undefined;
    // On an empty directory only the hosts of the cluster file find out who the others are, if it lists others at all.
    if (this.hostId! >= this.config.replicas || this.config.replicas === 1) this.burn();
  }

  /** The process is gone. `stop`: cleanly, so its disk has everything. */
  private end(downUs: number, how: LogFate | 'stop'): void {
    const { around } = this;
    const fate = how === 'stop' ? 'kept' : how;
    this.crashing = undefined;
    this.stopping = undefined;
    this.core = undefined;
    this.generation++;
    this.turnScheduled = false;
    this.timerAtUs = Infinity;
    this.pausedUntilUs = 0;
    this.tokens.length = 0;
    this.unreachables.length = 0;
    this.told.length = 0;
    for (const datagram of this.inbox) around.network.release(datagram);
    this.inbox.length = 0;
    this.outbox.flush(0);
    if (how === 'stop') around.disk.close();
    else around.disk.crash(fate);
    around.events.crashed(this.id, fate);
    if (downUs !== Infinity) around.queue.schedule(around.queue.nowUs + downUs, this, RESTART, this.generation);
  }

  private called(event: string): void {
    this.around.events.called(this.id, event);
  }

  private guard(call: () => void): void {
    try {
      call();
    } catch (error) {
      this.fail(error);
    }
  }

  private fail(error: unknown): never {
    if (error instanceof Violation) throw error;
    if (error instanceof ForgottenError && this.around.asks) throw error;
    const text = error instanceof Error ? (error.stack ?? error.message) : String(error);
    if (error instanceof DivergedError)
      throw new Violation('contradiction', `replica ${this.id}: ${error.message}`, { cause: error });
    if (error instanceof InvariantError)
      throw new Violation('core-invariant', `replica ${this.id}: ${error.message}`, { cause: error });
    throw new Violation('core-exception', `replica ${this.id}: ${text}`, { cause: error });
  }
}

/**
 * The identity of a directory.
 * @param which host it was made for, by a number of its own
 * @param directory which of that host's; undefined: one that nothing has
 */
export function identityOf(which: number, directory: number | undefined): Identity {
  return { identityHi: directory === undefined ? -1 : 1 + directory, identityLo: which };
}

function isNamed({ identityHi, identityLo }: { readonly identityHi: number; readonly identityLo: number }): boolean {
  return (identityHi | identityLo) !== 0;
}
