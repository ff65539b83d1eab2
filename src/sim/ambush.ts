/**
 * Ambushes: faults that wait for the worst moment, instead of striking at random.
 *
 * An ambush is a script. It holds back messages of one kind on one link, waits for a message or a transition of a
 * replica, and then crashes a process or releases what it held. The seed decides what it waits for and how long it
 * takes, so a run with ambushes is replayed like any other. Each script targets a rule of the protocol that random
 * faults hardly ever test (docs/internals/mutations.md); the last two try anything.
 */
import {
  Chunk,
  Fetch,
  ProbeReply,
  Reconcile,
  Reply,
  Request,
  SnapshotChunk,
  Sync,
  SyncAck,
  ViewChange,
  Vote,
} from '../wire/messages.js';
import type { EventHandler, EventQueue } from './event-queue.js';
import type { Plan } from './faults.js';
import type { Hold, HoldMode } from './network.js';
import type { Random } from './random.js';

/** An event that a script may wait for. */
export interface Seen {
  readonly endpoint: number;
  /** `sent` and `received`: a message of that `type`. `transition`: a replica's, with its `event`. */
  readonly kind: 'sent' | 'received' | 'transition';
  readonly type: number;
  /** The other end of a message; −1 for a transition. */
  readonly peer: number;
  readonly event: string;
}

/** What a script can do to a cluster. Endpoints are replicas 0…N−1, then clients. */
export interface AmbushTargets {
  readonly replicas: number;
  readonly endpoints: number;
  /** The quorum of the highest running view, its primary first; undefined if no view runs. */
  quorum(): readonly number[] | undefined;
  /** Takes a replica down for `downUs`, unless that would lose too many logs. */
  crash(replica: number, host: boolean, downUs: number): void;
  setBlocked(from: number, to: number, blocked: boolean): void;
  stepClock(endpoint: number, byNs: number): void;
  /** The client forgets everything and returns with a new session. */
  restartClient(endpoint: number): void;
  /** From now on catches datagrams from `from` to `to` with a message of one of the types. */
  hold(from: number, to: number, types: ReadonlySet<number>, mode: HoldMode): Hold;
  /** Delivers the first `count` datagrams that were caught. */
  deliverHeld(hold: Hold, count: number): void;
  /** Drops the caught datagrams. */
  discardHeld(hold: Hold): void;
  /** Ends a hold; what is left in it is delivered. */
  letGo(hold: Hold): void;
  /** The disks of all that were hosts, and are none any more, are gone. */
  wipeFormerHosts(): void;
  /** The operator puts another voter in the place of the host in that slot, and gives the slot to a new host. */
  giveSlotAgain(slot: number): void;
  note(text: string): void;
}

/** A pause of a script: until `until` accepts an event, for `forUs` at most. */
interface Pause {
  readonly forUs: number;
  readonly until?: (seen: Seen) => boolean;
}

/** Yields pauses; is resumed with the event that ended each, or undefined if its time was up. */
type Script = Generator<Pause, void, Seen | undefined>;

const TRANSFERS = new Set([Chunk.type, SnapshotChunk.type]);
const REQUESTS = new Set([Request.type, Reconcile.type]);
/** Message kinds that the undirected scripts hold, or wait for. */
const KINDS = [Request, Reply, Sync, SyncAck, Reconcile, Fetch, Chunk, ViewChange, Vote] as const;
const TRANSITIONS = ['promise', 'ask-view', 'install', 'start-view', 'join-view'] as const;

const RESUME = 0;
const NEXT = 1;

export class AmbushDriver implements EventHandler {
  private readonly scripts: (() => Script)[] = [
    () => this.lostStart(),
    () => this.forgottenAcknowledgement(),
    () => this.returningSession(),
    () => this.heldMessages(),
    () => this.crashAtMessage(),
  ];
  private script: Script | undefined;
  /** The script to begin with; undefined: any. */
  private first: (() => Script) | undefined;
  private pause: Pause | undefined;
  /** Counts pauses, so that the timeout of an ended pause is recognized. */
  private pauses = 0;
  private holds: Hold[] = [];
  private cut: (readonly [number, number])[] = [];
  private stopped = false;

  /** @param strength 0…1: the higher, the shorter the time between two ambushes */
  constructor(
    private readonly queue: EventQueue,
    private readonly random: Random,
    private readonly plan: Plan,
    private readonly strength: number,
    private readonly targets: AmbushTargets,
    membersChange = false,
  ) {
    if (!membersChange) return;
    const usedAgain = (): Script => this.slotUsedAgain();
    this.scripts.push(
      () => this.lostEpoch(),
      () => this.unawareQuorum(),
      () => this.wipedEpoch(),
      usedAgain,
    );
    // Only in the first epoch the slots are those of the cluster file.
    if (random.chance(0.3)) this.first = usedAgain;
  }

  start(): void {
    this.next();
  }

  stop(): void {
    this.stopped = true;
  }

  /** A message left or arrived, or a replica changed. The script continues when the turn has ended. */
  see(endpoint: number, kind: Seen['kind'], type: number, peer: number, event: string): void {
    if (this.stopped || this.pause?.until === undefined) return;
    const seen = { endpoint, kind, type, peer, event };
    if (!this.pause.until(seen)) return;
    this.pause = undefined;
    this.pauses++;
    this.queue.schedule(this.queue.nowUs, this, RESUME, { pause: this.pauses, seen });
  }

  handle(kind: number, payload: unknown): void {
    if (this.stopped) return;
    if (kind === NEXT) {
      const script = this.first ?? this.random.pick(this.scripts);
      this.first = undefined;
      this.script = script();
      this.resume(undefined);
      return;
    }
    const { pause, seen } = payload as { readonly pause: number; readonly seen: Seen | undefined };
    if (pause === this.pauses) this.resume(seen);
  }

  private next(): void {
    const meanUs = this.plan.faultIntervalUs * (2 - this.strength);
    this.queue.schedule(this.queue.nowUs + this.random.exponential(meanUs), this, NEXT, undefined);
  }

  private resume(seen: Seen | undefined): void {
    const step = this.script!.next(seen);
    if (step.done === true) {
      for (const hold of this.holds) this.targets.letGo(hold);
      this.holds = [];
      this.mend();
      this.next();
      return;
    }
    this.pause = step.value;
    this.pauses++;
    this.queue.schedule(this.queue.nowUs + step.value.forUs, this, RESUME, { pause: this.pauses, seen: undefined });
  }

  /**
   * A primary is lost just after it has started its view, while others fetch its log: they have heard of it, but have
   * their own logs for the next view, or nothing.
   */
  private *lostStart(): Script {
    const { random, targets } = this;
    const old = targets.quorum()?.[0];
    if (old === undefined) return;
    targets.note(`ambush: replica ${old} is cut off from the other replicas, the next primary is lost as it starts`);
    // Its clients still reach it: what it commits with them, it does not learn to be committed.
    this.isolate(old, targets.replicas);
    const started = yield { forUs: 200_000, until: (seen) => seen.event === 'start-view' && seen.endpoint !== old };
    if (started === undefined) return;
    const primary = started.endpoint;
    this.mend();
    for (let to = 0; to < targets.replicas; to++) {
      if (to === primary) continue;
      this.hold(primary, to, TRANSFERS, 'lose');
      // Some never hear of the view.
      if (to !== old && random.chance(0.7)) this.hold(primary, to, new Set([Sync.type]), 'lose');
    }
    yield { forUs: random.between(500, 15_000) };
    if (random.chance(0.5)) targets.crash(primary, random.chance(0.5), random.between(50_000, 150_000));
    else this.isolate(primary, targets.endpoints);
    yield { forUs: random.between(60_000, 150_000) };
  }

  /**
   * A member acknowledges what the primary does not have yet, and loses its log; then the primary gets it, answers, and
   * is lost.
   */
  private *forgottenAcknowledgement(): Script {
    const { random, targets } = this;
    const quorum = targets.quorum();
    if (quorum === undefined) return;
    const [primary, ...members] = quorum as [number, ...number[]];
    const member = random.pick(members);
    targets.note(
      `ambush: requests to replica ${primary} are held until replica ${member} has acknowledged and crashed`,
    );
    const late: Hold[] = [];
    const settling: Hold[] = [];
    for (let client = targets.replicas; client < targets.endpoints; client++) {
      late.push(this.hold(client, primary, REQUESTS, 'keep'));
      for (const other of members) settling.push(this.hold(client, other, REQUESTS, 'lose'));
    }
    // Messages in flight still arrive, so that all have the same log; after that only the members get more.
    yield { forUs: random.between(500, 3000) };
    for (const hold of late) targets.discardHeld(hold);
    for (const hold of settling) targets.letGo(hold);
    const acknowledged = yield {
      forUs: 20_000,
      until: (seen) => seen.kind === 'sent' && seen.type === Reply.type && seen.endpoint === member,
    };
    if (acknowledged === undefined) return;
    for (let client = targets.replicas; client < targets.endpoints; client++)
      this.hold(client, member, REQUESTS, 'lose');
    // It hears of the running view before it hears from enough others to ask for another.
    for (let from = 0; from < targets.replicas; from++)
      if (from !== member) this.hold(from, member, new Set([ProbeReply.type]), 'lose');
    targets.crash(member, true, random.exponential(500));
    yield { forUs: 20_000, until: (seen) => seen.event === 'join-view' && seen.endpoint === member };
    this.hold(primary, member, new Set([Sync.type]), 'lose');
    for (const hold of late) if (hold.from === acknowledged.peer) targets.deliverHeld(hold, random.between(1, 2));
    if (
      (yield {
        forUs: 10_000,
        until: (seen) => seen.kind === 'sent' && seen.type === Reply.type && seen.endpoint === primary,
      }) === undefined
    )
      return;
    yield { forUs: random.exponential(300) };
    if (random.chance(0.5)) targets.crash(primary, true, random.between(50_000, 150_000));
    else this.isolate(primary, targets.endpoints);
    yield { forUs: random.between(60_000, 150_000) };
  }

  /**
   * A session registers, is used and is evicted. Then a copy of its Register arrives, to which a primary gives a new
   * timestamp however late it is, and after it the client's retries.
   */
  private *returningSession(): Script {
    const { random, targets } = this;
    const { replicas, endpoints } = targets;
    const primary = targets.quorum()?.[0];
    if (primary === undefined || endpoints - replicas < 2) return;
    const client = random.between(replicas, endpoints - 1);
    targets.note(`ambush: client ${client} registers, its session is evicted, and a copy of its Register arrives`);
    const copies: Hold[] = [];
    for (let to = 0; to < replicas; to++) copies.push(this.hold(client, to, REQUESTS, 'copy'));
    targets.restartClient(client);
    if (
      (yield {
        forUs: 30_000,
        until: (seen) =>
          seen.endpoint === client && seen.kind === 'received' && seen.type === Reply.type && seen.peer === primary,
      }) === undefined
    )
      return;
    const registers = copies.map(({ kept }) => kept.length);
    yield { forUs: random.between(200, 2000) };
    // Its requests are executed, but it does not hear of it.
    this.hold(primary, client, new Set([Reply.type]), 'lose');
    yield { forUs: random.between(3000, 12_000) };
    const mute: Hold[] = [];
    for (let to = 0; to < replicas; to++) mute.push(this.hold(client, to, REQUESTS, 'keep'));
    for (let rounds = random.between(2, 6); rounds > 0; rounds--) {
      for (let other = replicas; other < endpoints; other++) if (other !== client) targets.restartClient(other);
      yield { forUs: random.between(1000, 4000) };
    }
    // The copy arrives just before the client's next retry, which is not late: a member then has the Register, but has
    // not executed it.
    yield {
      forUs: 20_000,
      until: (seen) => seen.kind === 'sent' && seen.type === Request.type && seen.endpoint === client,
    };
    copies.forEach((hold, i) => targets.deliverHeld(hold, registers[i]!));
    for (const hold of copies) targets.discardHeld(hold);
    yield { forUs: random.between(10, 300) };
    for (const hold of mute) {
      hold.kept.splice(0, hold.kept.length - 1);
      targets.letGo(hold);
    }
    yield { forUs: random.between(10_000, 40_000) };
  }

  /** The primary of an epoch's first view is lost: it has fixed its log, and nobody has heard of it. */
  private *lostEpoch(): Script {
    const { random, targets } = this;
    if ((yield { forUs: 150_000, until: (seen) => seen.event === 'change-decided' }) === undefined) return;
    targets.note('ambush: the next epoch is lost with its primary, before anybody hears of it');
    for (let from = 0; from < targets.replicas; from++)
      for (let to = 0; to < targets.replicas; to++)
        if (from !== to) this.hold(from, to, random.chance(0.1) ? TRANSFERS : new Set([Sync.type]), 'lose');
    const begun = yield { forUs: 60_000, until: (seen) => seen.event === 'begin-epoch' };
    if (begun === undefined) return;
    if (random.chance(0.5)) targets.crash(begun.endpoint, random.chance(0.5), random.between(20_000, 100_000));
    else this.isolate(begun.endpoint, targets.endpoints);
    yield { forUs: random.between(500, 10_000) };
    for (const hold of this.holds.splice(0)) targets.letGo(hold);
    yield { forUs: random.between(20_000, 100_000) };
  }

  /** Members of the old epoch do not hear of the next one, and clients that know only them. */
  private *unawareQuorum(): Script {
    const { random, targets } = this;
    const { replicas, endpoints } = targets;
    if ((yield { forUs: 150_000, until: (seen) => seen.event === 'change-decided' }) === undefined) return;
    const quorum = targets.quorum();
    if (quorum === undefined) return;
    const unaware = quorum.filter(() => random.chance(0.7));
    targets.note(`ambush: ${unaware.join(' ')} hear nothing of the next epoch, nor do some clients`);
    for (const replica of unaware)
      for (let other = 0; other < replicas; other++)
        if (!unaware.includes(other)) this.cut.push([replica, other], [other, replica]);
    for (let client = replicas; client < endpoints; client++)
      if (random.chance(0.5))
        for (let other = 0; other < replicas; other++)
          if (!quorum.includes(other)) this.cut.push([client, other], [other, client]);
    for (const [from, to] of this.cut) targets.setBlocked(from, to, true);
    yield { forUs: random.between(10_000, 150_000), until: (seen) => seen.event === 'epoch-started' };
    yield { forUs: random.between(1_000, 60_000) };
  }

  /** An epoch has begun, and all that left with the one before lose their disks. */
  private *wipedEpoch(): Script {
    const { random, targets } = this;
    if ((yield { forUs: 200_000, until: (seen) => seen.event === 'epoch-started' }) === undefined) return;
    yield { forUs: random.exponential(1_000) };
    targets.note('ambush: all that are not listed any more lose their disks');
    targets.wipeFormerHosts();
    yield { forUs: random.between(5_000, 50_000) };
  }

  /**
   * A primary sleeps through a change of the members, and so do some clients. A new host has the slot of one of its quorum, and
   * hears of nobody but it: under that slot it must not be a voter of the primary's epoch.
   */
  private *slotUsedAgain(): Script {
    const { random, targets } = this;
    const { replicas, endpoints } = targets;
    // Not in view 0, in which a replica that has no log never acknowledges.
    const before = targets.quorum()?.[0];
    if (before === undefined) return;
    this.isolate(before, replicas);
    yield { forUs: 100_000, until: (seen) => seen.event === 'start-view' && seen.endpoint !== before };
    this.mend();
    yield { forUs: random.between(5_000, 20_000) };
    const [primary, ...members] = targets.quorum() ?? [];
    if (primary === undefined || members.length === 0) return;
    const slot = random.pick(members);
    targets.note(`ambush: replica ${primary} sleeps until the slot of ${slot}, which is of its quorum, has a new host`);
    const asleep = [primary];
    for (let client = replicas; client < endpoints; client++) if (random.chance(0.5)) asleep.push(client);
    const cutFromOthers = (reached: readonly number[]): void => {
      for (const one of [...asleep, ...reached])
        for (let other = 0; other < replicas; other++)
          if (other !== one && other !== primary && !reached.includes(other)) this.cut.push([one, other], [other, one]);
      for (const [from, to] of this.cut) targets.setBlocked(from, to, true);
    };
    cutFromOthers([]);
    targets.giveSlotAgain(slot);
    const joined = yield { forUs: 400_000, until: (seen) => seen.event === 'is-host' && seen.endpoint === slot };
    this.mend();
    if (joined === undefined) return;
    cutFromOthers([slot]);
    yield { forUs: random.between(10_000, 80_000) };
  }

  /** One kind of message does not get through: on one link, from one endpoint or to one. */
  private *heldMessages(): Script {
    const { random, targets } = this;
    const kind = random.pick(KINDS);
    const mode = random.pick(['keep', 'lose', 'copy'] as const);
    const replica = random.below(targets.replicas);
    const scope = random.below(3);
    targets.note(
      `ambush: ${kind.name} ${['to', 'from', 'on one link from'][scope]} replica ${replica} is ${{ keep: 'held', lose: 'lost', copy: 'delivered again later' }[mode]}`,
    );
    const others = Array.from({ length: targets.endpoints }, (_, endpoint) => endpoint).filter(
      (endpoint) => endpoint !== replica,
    );
    const types = new Set([kind.type]);
    if (scope === 2) this.hold(replica, random.pick(others), types, mode);
    else
      for (const other of others) this.hold(scope === 0 ? other : replica, scope === 0 ? replica : other, types, mode);
    yield { forUs: random.logNormal(20_000, 1) };
  }

  /** A replica crashes at the k-th message of a kind that it sends or receives, or at its next transition of a kind. */
  private *crashAtMessage(): Script {
    const { random, targets } = this;
    const kind = random.pick(KINDS);
    const event = random.chance(0.4) ? random.pick(TRANSITIONS) : '';
    const direction = random.chance(0.5) ? 'sent' : 'received';
    const any = random.chance(0.3);
    let victim = random.below(targets.replicas);
    for (let count = event === '' ? random.between(1, 10) : 1; count > 0; count--) {
      const seen = yield {
        forUs: 100_000,
        until: ({ endpoint, kind: happened, type, event: transition }) =>
          (any ? endpoint < targets.replicas : endpoint === victim) &&
          (event === '' ? happened === direction && type === kind.type : transition === event),
      };
      if (seen === undefined) return;
      if (any) victim = seen.endpoint;
    }
    targets.note(`ambush: replica ${victim} crashes at ${event === '' ? `a ${kind.name} ${direction}` : event}`);
    targets.crash(victim, random.chance(0.5), random.logNormal(10_000, 1.2));
  }

  private hold(from: number, to: number, types: ReadonlySet<number>, mode: HoldMode): Hold {
    const hold = this.targets.hold(from, to, types, mode);
    this.holds.push(hold);
    return hold;
  }

  /** Cuts the links between an endpoint and the others below `below`, both ways. */
  private isolate(alone: number, below: number): void {
    for (let other = 0; other < below; other++) {
      if (other !== alone) this.cut.push([alone, other], [other, alone]);
    }
    for (const [from, to] of this.cut) this.targets.setBlocked(from, to, true);
  }

  private mend(): void {
    for (const [from, to] of this.cut) this.targets.setBlocked(from, to, false);
    this.cut = [];
  }
}
