/**
 * The fault `members`: an operator who adds, replaces, removes and moves hosts while the cluster runs, one change after
 * another, and returns to what was left half done.
 *
 * There are a few machines more than the cluster begins with. A machine's endpoint is the slot of the host that it is:
 * the operator always takes the one that the log will give to the next host. What a machine held before is wiped then,
 * and whatever it still had on the way is dropped: in a real cluster the id in the envelope tells the two apart.
 */
import { SLOTS } from '../protocol/configuration.js';
import { ClientSessions } from '../protocol/client/client-sessions.js';
import type { ClientConfig } from '../protocol/config.js';
import { Instant, Outcome as Ending, type ClientEvents } from '../protocol/contract.js';
import { encodeOperation, type ConfigureOperation } from '../protocol/membership/operations.js';
import { Feature } from '../protocol/log/features.js';
import type { ListedHost, Membership } from '../protocol/membership/membership.js';
import { RequestFlag } from '../wire/messages.js';
import type { SimulatedClock } from './clock.js';
import type { CreateClient, SimulatedClientCore } from './cores.js';
import type { EventHandler, EventQueue } from './event-queue.js';
import type { Datagram, Network } from './network.js';
import { SimulatedOutbox } from './outbox.js';
import type { Random } from './random.js';
import { identityOf } from './replica-host.js';
import type { WireEnd } from './wire-end.js';

/** Time between two looks, and after which a command is given up and begun again. */
const LOOK_US = 3_000;
/** At a look, it waits no longer for a silent host to say its identity. */
const GIVES_UP = 0.005;
const LOOK = 0;
const TIMER = 1;

/** What the operator sees, and does besides its entries. */
export interface MemberOperatorTargets {
  /** The newest membership that some replica knows to be committed. */
  members(): Membership;
  /** The host in that slot has the whole committed log, but for a few entries. */
  isCaughtUp(slot: number): boolean;
  /** Some replica is cut off in part (world-driver.ts). */
  hasCut(): boolean;
  /** A machine begins as that host, with an empty disk. */
  join(slot: number, hostId: number): void;
  /** The host in that slot is not a host any more, or is nobody: its process may be ended. */
  retire(slot: number): void;
  /** The former host in that slot, which is nobody, starts again with its old disk. */
  revive(slot: number): void;
  /** The host in that slot burns down, unless that would lose too many logs. */
  burn(slot: number): void;
  isBurnt(slot: number): boolean;
  hostIn(slot: number): number | undefined;
  /** See ReplicaHost.directory: a host says it itself. */
  directoryOf(slot: number): number | undefined;
  /** The host in that slot, which is silent, gets an identity that no directory has, unless that would lose too many logs. */
  giveUp(slot: number): boolean;
  note(text: string): void;
  unknownEpoch(from: number, take: (members: Uint8Array) => void): void;
  searchMembers(take: (members: Uint8Array) => void): void;
}

export interface MemberOperatorSurroundings {
  readonly queue: EventQueue;
  readonly network: Network;
  readonly random: Random;
  readonly clock: SimulatedClock;
  readonly wire: WireEnd;
  readonly machines: number;
  /** It wants this many voters, and nothing else before there are; undefined: any number. */
  readonly size: number | undefined;
  /** The operation that switches the feature `membership` on; undefined: it is on from the beginning. */
  readonly feature: Uint8Array | undefined;
  readonly createClient: CreateClient;
  readonly configure: (seed: number, session: readonly [number, number, number, number]) => ClientConfig;
}

export class MemberOperator implements EventHandler {
  readonly outbox: SimulatedOutbox;
  /** The last change that it asked for: its voters may count at any time from then on. */
  asked: { readonly voters: number; readonly f: number } | undefined;
  /** Epochs that began because of it. */
  changes = 0;
  /** Other voters that it asked for while a replica was cut off in part. */
  askedDuringCuts = 0;
  /** How often the feature was refused, because a listed host spoke an older version. */
  refusals = 0;
  /** The feature `membership` is on, as far as the operator was told. */
  private isOn: boolean;
  /** The session that it has is for changes, not for the feature. */
  private mayConfigure = false;
  private sessions: ClientSessions<SimulatedClientCore> | undefined;
  private isOpen = false;
  private readonly now = new Instant();
  private timerAtUs = Infinity;
  private generation = 0;
  private busy = false;
  private stopped = false;
  /** What it is at: the voters that it wants, by id; undefined: nothing. */
  private wanted: readonly number[] | undefined;
  /** The host that another one is to replace, also in its slot; undefined: none. */
  private leaving: { readonly id: number; readonly slot: number } | undefined;
  /** The cluster file's hosts have lower numbers. */
  private identities = 100;
  private started = 0;
  /** Machines burn down in this run. */
  private readonly burns: boolean;

  constructor(
    readonly endpoint: number,
    private readonly around: MemberOperatorSurroundings,
    private readonly targets: MemberOperatorTargets,
  ) {
    this.burns = around.random.chance(0.4);
    this.isOn = around.feature === undefined;
    this.outbox = new SimulatedOutbox(endpoint, around.wire, around.network, () => undefined);
  }

  start(): void {
    this.begin();
    this.around.queue.schedule(this.around.queue.nowUs + LOOK_US, this, LOOK, undefined);
  }

  /** What it does next, whatever it was at: the host in that slot goes, and its slot gets a new one. */
  giveAgain(slot: number): void {
    const id = this.targets.hostIn(slot);
    if (id !== undefined && !this.stopped) this.leaving = { id, slot };
  }

  /** It begins nothing new. */
  stop(): void {
    this.stopped = true;
    this.leaving = undefined;
  }

  /** When a question about members is answered from now, µs; Infinity: it is lost. */
  answerUs(): number {
    const { random } = this.around;
    return random.chance(0.2) && !this.stopped ? Infinity : random.logNormal(500, 1);
  }

  /** It switched the feature on. */
  get hasSwitched(): boolean {
    return this.isOn && this.around.feature !== undefined;
  }

  /** No change is open, and nothing was left half done. */
  get isDone(): boolean {
    return this.isOn && this.isAtRest && this.hasSize(this.targets.members().voters);
  }

  arrive(datagram: Datagram): void {
    this.call((sessions) => {
      this.around.wire.read(
        datagram.bytes,
        datagram.length,
        datagram.from,
        (bytes, offset, length, from) => {
          if (from < this.around.machines) sessions.receive(bytes, offset, length, from, this.now);
        },
        () => undefined,
        (to, message, offset) => this.outbox.prove(to, message, offset),
      );
    });
    this.around.network.release(datagram);
  }

  handle(kind: number, payload: unknown): void {
    if (kind === TIMER) {
      if (payload !== this.generation) return;
      if (this.around.queue.nowUs >= this.timerAtUs) this.timerAtUs = Infinity;
      this.call((sessions) => sessions.tick(this.now));
      return;
    }
    this.look();
    this.around.queue.schedule(this.around.queue.nowUs + LOOK_US, this, LOOK, undefined);
  }

  /** Nothing is open, and nothing that it asked for may still be. */
  get isAtRest(): boolean {
    const { started, decided } = this.targets.members();
    return started === decided && !this.busy;
  }

  private hasSize(voters: readonly number[]): boolean {
    const { size } = this.around;
    return size === undefined || voters.length === size;
  }

  /** A process of the tool, with a session of its own. */
  private begin(): void {
    const { random, createClient, configure } = this.around;
    const before = this.sessions?.core;
    this.generation++;
    this.timerAtUs = Infinity;
    this.busy = false;
    this.isOpen = false;
    this.mayConfigure = this.isOn;
    this.around.clock.read(this.around.queue.nowUs, this.now);
    this.around.wire.start(this.now);
    this.sessions = new ClientSessions<SimulatedClientCore>(
      1,
      (events: ClientEvents, earlier) => {
        const session = [random.next() | 1, random.next() | 1, random.next(), random.next()] as const;
        const config = { ...configure(random.next(), session), ...(earlier ?? before)?.succession() };
        const { generation } = this;
        const take = (members: Uint8Array): void => {
          if (generation === this.generation) this.call((sessions) => sessions.takeMembers(members, this.now));
        };
        const core = createClient(
          { ...config, flags: this.mayConfigure ? RequestFlag.configure : RequestFlag.feature },
          this.outbox,
          {
            ...events,
            unknownEpoch: (from) => this.targets.unknownEpoch(from, take),
            searchMembers: () => this.targets.searchMembers(take),
          },
        );
        return core;
      },
      {
        completed: (_lane, outcome) => {
          this.busy = false;
          if (!this.mayConfigure && outcome === Ending.committed) this.isOn = true;
          if (!this.mayConfigure && outcome === Ending.refused) this.refusals++;
          if (outcome === Ending.sessionLost) this.isOpen = false;
        },
        ready: () => {
          this.isOpen = true;
        },
        refusedLanes: () => undefined,
        lost: () => undefined,
        refused: () => undefined,
        renewed: () => undefined,
      },
    );
    this.call((sessions) => sessions.register(this.now));
  }

  private call(use: (sessions: ClientSessions<SimulatedClientCore>) => void): void {
    const { clock, queue } = this.around;
    const sessions = this.sessions!;
    clock.read(queue.nowUs, this.now);
    use(sessions);
    this.outbox.flush();
    sessions.endTurn(this.now);
    this.outbox.flush();
    const wake = new Float64Array(1);
    sessions.writeWakeUs(wake);
    const atUs = Math.max(clock.trueUs(wake[0]!), queue.nowUs + 1);
    if (atUs >= this.timerAtUs) return;
    this.timerAtUs = atUs;
    queue.schedule(atUs, this, TIMER, this.generation);
  }

  private submit(operation: ConfigureOperation): void {
    this.ask(encodeOperation(operation), JSON.stringify(operation));
  }

  private ask(bytes: Uint8Array, text: string): void {
    this.busy = true;
    this.targets.note(`the operator asks: ${text}`);
    this.call((sessions) => sessions.submit(0, bytes, 0, bytes.length, 200_000, this.now));
  }

  /** Does the next step of what it is at, as the membership shows what was done. */
  private look(): void {
    const { random, machines } = this.around;
    const { targets } = this;
    if (this.busy || !this.isOpen) return;
    // The tool dies now and then, and is begun again: it knows nothing but what the membership says.
    if (!this.stopped && random.chance(0.02)) {
      this.wanted = undefined;
      this.begin();
      return;
    }
    const { feature } = this.around;
    if (feature !== undefined && !this.isOn) {
      if (random.chance(0.3)) this.ask(feature, `feature ${Feature.membership}`);
      return;
    }
    if (!this.mayConfigure) {
      this.begin();
      return;
    }
    const members = targets.members();
    const { hosts, voters, started, decided } = members;
    if (started !== this.started) {
      this.started = started;
      this.changes++;
    }
    const unnamed = hosts.filter(({ identityHi, identityLo }) => (identityHi | identityLo) === 0);
    if (unnamed.length > 0) {
      this.nameOne(unnamed);
      return;
    }
    // Whoever was listed since begins; a process that is nobody's ends, sooner or later.
    for (let slot = 0; slot < machines; slot++) {
      const host = hosts.find((one) => one.slot === slot);
      if (host !== undefined && targets.hostIn(slot) !== host.id) targets.join(slot, host.id);
      else if (host === undefined && random.chance(0.01)) {
        if (targets.hostIn(slot) === undefined) targets.revive(slot);
        else targets.retire(slot);
      }
    }
    if (!this.stopped && this.burns && random.chance(0.05)) {
      const { slot } = random.pick(hosts);
      if (slot < machines) targets.burn(slot);
    }
    if (decided > started) return;
    // A host for which there is no machine: an entry was asked for twice.
    const beyond = hosts.find(({ slot }) => slot >= machines);
    if (beyond !== undefined) {
      this.submit({ kind: 'forget', id: beyond.id });
      return;
    }
    if (this.leaving !== undefined && this.stepTo(this.leaving, members)) return;
    if (this.wanted !== undefined) {
      this.finish(this.wanted, members);
      return;
    }
    if (!this.hasSize(voters)) {
      this.goToSize(members);
      return;
    }
    if (this.stopped || !random.chance(0.2)) return;
    const learners = hosts.filter(({ id }) => !voters.includes(id));
    const kind = random.below(10);
    if (kind < 4 && hosts.length < Math.min(machines, SLOTS)) this.learn();
    else if (kind === 4 && learners.length > 0) this.submit({ kind: 'forget', id: random.pick(learners).id });
    else if (kind === 5)
      this.submit({ kind: 'move', id: random.pick(hosts).id, address: `moved-${random.below(1e6)}:1` });
    else {
      const ids = hosts.map(({ id }) => id);
      let set = voters.filter((id) => !targets.isBurnt(hosts.find((host) => host.id === id)!.slot));
      // One comes, one goes, or both; or all of it anew.
      if (random.chance(0.5) && learners.length > 0) set.push(random.pick(learners).id);
      if (random.chance(0.5) && set.length > 1) set.splice(random.below(set.length), 1);
      if (random.chance(0.15)) set = ids.filter(() => random.chance(0.6));
      if (set.length > 0 && set.length <= 7) this.wanted = set.sort((a, b) => a - b);
    }
  }

  /** Lists the identity of one of these, as it says itself; or seldom, of one that is silent, an identity of nobody. */
  private nameOne(unnamed: readonly ListedHost[]): void {
    const { targets, around } = this;
    const host =
      unnamed.find(({ slot }) => targets.directoryOf(slot) !== undefined) ??
      (around.random.chance(GIVES_UP) ? unnamed[0]! : undefined);
    if (host === undefined) return;
    const directory = targets.directoryOf(host.slot);
    if (directory === undefined && !targets.giveUp(host.slot)) return;
    this.submit({ kind: 'name', id: host.id, ...identityOf(host.id, directory), address: `first-${host.id}:1` });
  }

  /** The next step to another host in that slot. False if there is none. */
  private stepTo({ id, slot }: { readonly id: number; readonly slot: number }, members: Membership): boolean {
    const { hosts, voters } = members;
    const isListed = hosts.some((host) => host.id === id);
    const other = hosts.find((host) => !voters.includes(host.id) && this.targets.isCaughtUp(host.slot));
    if (voters.includes(id) && other !== undefined) {
      const set = [...voters.filter((voter) => voter !== id), other.id].sort((a, b) => a - b);
      this.finish(set, members, Math.floor((set.length - 1) / 2));
      return true;
    }
    if (isListed && !voters.includes(id)) this.submit({ kind: 'forget', id });
    else if (hosts.some((host) => host.slot === slot && host.id !== id)) this.leaving = undefined;
    else if (hosts.length < Math.min(this.around.machines, SLOTS)) this.learn();
    return this.busy;
  }

  private learn(): void {
    const identity = identityOf(this.identities++, 0);
    this.submit({ kind: 'learn', ...identity, address: `host-${identity.identityLo}:1` });
  }

  /** The next step to as many voters as it wants. */
  private goToSize({ hosts, voters }: Membership): void {
    const { machines, random } = this.around;
    const size = this.around.size!;
    const isWhole = (id: number): boolean => !this.targets.isBurnt(hosts.find((host) => host.id === id)!.slot);
    const learners = hosts.map(({ id }) => id).filter((id) => !voters.includes(id));
    const set = [...voters.filter(isWhole), ...learners.filter(isWhole)].slice(0, size);
    if (set.length === size) this.wanted = set.sort((a, b) => a - b);
    else if (hosts.length < Math.min(machines, SLOTS)) this.learn();
    // Hosts that burnt down have the places.
    else if (!voters.every(isWhole)) this.wanted = set.sort((a, b) => a - b);
    else this.submit({ kind: 'forget', id: random.pick(learners.filter((id) => !isWhole(id))) });
  }

  /**
   * Asks for the change once the new ones have caught up; or gives it up.
   * @param mayLack this many may be behind
   */
  private finish(wanted: readonly number[], { hosts, started }: Membership, mayLack = 0): void {
    const lacking = wanted.filter((id) => {
      const host = hosts.find((one) => one.id === id);
      return host === undefined || host.slot >= this.around.machines || !this.targets.isCaughtUp(host.slot);
    });
    const ready = lacking.length <= mayLack;
    if (ready) {
      const voters = hosts.reduce((mask, { id, slot }) => (wanted.includes(id) ? mask | (1 << slot) : mask), 0);
      this.asked = { voters, f: Math.floor((wanted.length - 1) / 2) };
      if (this.targets.hasCut()) this.askedDuringCuts++;
      this.submit({ kind: 'change', from: started, to: started + 1, ids: wanted });
    }
    if (ready || this.around.random.chance(0.05)) this.wanted = undefined;
  }
}
