/**
 * Who a replica is to the others: its first start, its return without a memory, and what others remember of it.
 *
 * Rules S guarded here (`Crash` in model/JITPaxos.tla, where the view number survives; here it is found again): a replica
 * that may have been in use neither votes nor acknowledges before it knows a view above all that it may have promised or
 * acknowledged in, and a replica that others remember better than it does itself takes no part.
 *
 * A replica with an empty disk does not know whether it is new or has lost its data. If it assumed that it is new, it
 * could vote with an empty log, and acknowledge in views that it promised to leave. So it asks first, and neither votes
 * nor acknowledges until it knows which of these it is:
 * - *Forgotten (S)*: another replica remembers an incarnation of it, so it was here before. It stops, unless its
 *   operator says that the log is lost.
 * - *New*: every other replica that answers is unused too, or was when it first answered, and all of them have answered,
 *   or f after a while. It begins in view 0. Those of them that are starting too must have heard that this one is unused
 *   before it begins (`met`): to one that has not, it would be in use as soon as a client's first request is in its log,
 *   and no replica could tell any more that it was new. Until f others have reported that they have begun as well it is
 *   *alone*: it takes no request, so that it stays unused. Replicas that were killed before they began, and start again,
 *   know nothing of what they had heard. But once a log has an entry, f+1 replicas have begun, and these f+1 remember.
 * - *Unknown (S)*: some replica that answers is in use, or the operator says that the log is lost. This one may have
 *   promised and acknowledged anything. Every view that it acknowledged in had the promises of f+1 replicas, so among any
 *   f+1 that remember theirs, one reports at least that view: it acknowledged in no view above the highest that f+1
 *   report. It leaps further above, by more views than can have been requested without any of those hearing of one
 *   (`leastLeap`), and makes that its durable view. From there on it is a replica that lost its log (rule R1): it
 *   acknowledges only in a higher view, and votes once it has installed a log. While an epoch is decided that has not
 *   begun it waits, because it may have promised a view of that one; what a replica said of that counts only as long as it
 *   goes on answering. The argument is in docs/internals/protocol.md.
 *
 * Rule S guarded here, *C7* (an id means one data directory, for good): once the log may list a directory under this
 * replica's id, an empty one does not begin under it. As many others with a log as a view starts from have to say that
 * theirs lists none: one of them would know. While one says otherwise it is asked who the members are, and the host
 * stops this replica. A listing that comes after those answers stands in the first log that this replica can take up, which
 * is of a view above all that the answers told of: then it does not (KnownMembers.listsAnother).
 *
 * Every replica durably remembers the highest incarnation of each other replica that it heard of, and states it in
 * answer to a Probe. A replica stops, too, if it learns later that others remember more of it than it knows itself,
 * because its directory is an old copy or because no replica was there to ask when it began.
 */
import { JitPaxosError } from '../../errors.js';
import { Probe, ProbeReply, ReplicaCondition, ReplicaStatus } from '../../wire/messages.js';
import { readI32, readIndex } from '../../wire/u64.js';
import type { FirstStart, Instant } from '../contract.js';
import { invariant } from '../invariant.js';
import { count, lowest } from '../masks.js';
import { OtherLists } from './other-lists.js';
import type { ReplicaState } from './replica-state.js';
import type { Sender } from './replica-sender.js';
import { EPOCH_VIEWS, MAX_VIEW } from '../configuration.js';

/** If f others are unused too, the rest have this long to answer before the cluster begins without them. */
const REST_US = 1_000_000;
/** How often answers are requested: while starting, and in normal operation from replicas that never answered. */
const ASK_US = 20_000;
/**
 * For how long the newest answer of a replica counts as what it says now. While starting, each is asked every ASK_US. So
 * nine in a row may be lost.
 */
const FRESH_US = 10 * ASK_US;
const ANNOUNCE_US = 1_000_000;
/** How far a replica of unknown promises leaps above the views of f+1 others, where the epoch has room. */
export const VIEW_LEAP = 1 << 16;
/**
 * Shortest leap (S), of VIEW_LEAP at most: in views, and in cycles. A view that is asked for is less than a cycle above
 * those that its asker knows; but the first that is asked for after a leap is a whole leap above those that others know.
 * A vote for it that is on its way while a second replica leaps is a gap
 * (docs/internals/protocol.md, "Crash and return"). A leap of VIEW_LEAP is 5.4 cycles of 13 voters, so a short one is no
 * less than that.
 */
const LEAST_VIEWS = 1 << 12;
const LEAST_CYCLES = 6;
/** How far it leaps where even the shortest leap would leave the epoch. */
const FAR_LEAP = 1 << 20;
/** The same for its incarnation: replicas that do not answer may remember a later one than those that do. */
export const INCARNATION_LEAP = 1 << 16;

/** Others remember more of a replica than it does itself: it must not take part. */
export class ForgottenError extends JitPaxosError {
  override readonly name = 'ForgottenError';
  declare readonly code: 'promises-forgotten';
  constructor(
    readonly replica: number,
    /** The replica that remembers, and the incarnation. */
    readonly by: number,
    readonly remembered: number,
    /** The incarnation that the replica itself knows, 0: none. */
    readonly incarnation: number,
  ) {
    super(
      'promises-forgotten',
      `replica ${by} remembers incarnation ${remembered} of replica ${replica}, which itself knows of ${incarnation === 0 ? 'none' : incarnation}`,
    );
  }
}

/** Both are known, and they differ. */
function differ(a: number, b: number): boolean {
  return a !== 0 && b !== 0 && a !== b;
}

/** Rule S: no leap is shorter, in an epoch of which the views repeat after `cycle`. */
function leastLeap(cycle: number): number {
  return Math.min(VIEW_LEAP, Math.max(LEAST_VIEWS, LEAST_CYCLES * cycle));
}

/**
 * Where a replica of unknown promises begins, when `view` is the highest that others know.
 *
 * Within the epoch while that has room for the shortest leap and a cycle behind it: as soon as a change of members may have
 * been decided, nobody follows into another one. A leap takes at most half of the views that are left. So an epoch has room
 * for seven in a row with up to 9 voters; with 13 it has room for three.
 * @param cycle of the epoch of `view`
 */
export function leapFrom(view: number, cycle: number): number {
  const left = EPOCH_VIEWS - 1 - (view % EPOCH_VIEWS);
  const least = leastLeap(cycle);
  return left >= least + cycle ? view + Math.min(VIEW_LEAP, Math.max(least, left >>> 1)) : view + FAR_LEAP;
}

interface Answer {
  readonly view: number;
  readonly starting: boolean;
  /** Nothing was ever committed there, as far as it knows. */
  readonly unused: boolean;
  /** It is no longer starting, or has heard that this one is unused. */
  readonly met: boolean;
  readonly lost: boolean;
  /** Its log may list another directory under this replica's id, or have decided an epoch that has not begun. */
  readonly named: boolean;
  readonly remembered: number;
  /** When it came here. */
  readonly atUs: number;
}

export class Introduction {
  private nonce: number;
  private readonly lists: OtherLists;
  private readonly answers = new Map<number, Answer>();
  private askedUs = -Infinity;
  /** Since when f others have been unused and have met this one. */
  private enoughUs = Infinity;
  private announced = false;
  /** Replicas that answered, one bit each. */
  private heard = 0;
  /** While alone: the others that have begun and know that this one has, one bit each. */
  private begun = 0;

  /**
   * @param begins called when the replica knows what it is, and takes part
   * @param unknownEpoch replica `from` speaks of a view of an epoch that is not known here, or knows of another directory
   *   under this id
   */
  constructor(
    private readonly state: ReplicaState,
    private readonly sender: Sender,
    private readonly first: () => FirstStart | undefined,
    private readonly begins: (now: Instant) => void,
    private readonly unknownEpoch: (from: number, now: Instant) => void,
  ) {
    this.lists = new OtherLists(state);
    // A different number in each life, so that answers to an earlier life do not count in this one.
    this.nonce = (state.config.seed ^ 0x2545f491) & 0x7fffffff || 1;
  }

  /** A life begins. Without `first` the host knows that nothing was forgotten, and nothing is asked. */
  start(now: Instant): void {
    if (this.first() === undefined) return;
    this.announced = true;
    this.state.beAlone();
    this.ask(now);
    if (this.state.starting) this.decide(now);
  }

  wakeBefore(out: Float64Array): void {
    if (this.state.starting || this.state.alone) out[0] = Math.min(out[0]!, this.askedUs + ASK_US);
    else if (this.announced && this.unheard !== 0) out[0] = Math.min(out[0]!, this.askedUs + ANNOUNCE_US);
  }

  tick(now: Instant): void {
    const { state } = this;
    if (state.starting) {
      if (now.monotonicUs - this.askedUs < ASK_US) return;
      this.ask(now);
      this.decide(now);
    } else if (state.alone) {
      if (now.monotonicUs - this.askedUs >= ASK_US) this.ask(now);
    } else if (this.announced && this.unheard !== 0 && now.monotonicUs - this.askedUs >= ANNOUNCE_US) this.ask(now);
  }

  onProbe(bytes: Uint8Array, o: number, from: number): void {
    const at = Probe.at;
    if (!this.state.hosts.has(from)) return;
    this.lists.compare(from, readI32(bytes, o + at.list));
    this.state.remember(from, readI32(bytes, o + at.incarnation), readI32(bytes, o + at.life));
  }

  onProbeReply(bytes: Uint8Array, o: number, from: number, now: Instant): void {
    const { state } = this;
    const at = ProbeReply.at;
    const incarnation = readI32(bytes, o + at.incarnation);
    const remembered = readI32(bytes, o + at.knownIncarnation);
    const list = readI32(bytes, o + at.list);
    const view = readI32(bytes, o + at.view);
    this.lists.compare(from, list);
    this.heard |= 1 << from;
    // It is in an epoch that the log decided, of which nothing is in the log here: the view is none of the cluster file's.
    const isDecided = list === 0 && view >= EPOCH_VIEWS && state.members.index === 0;
    if (isDecided) this.unknownEpoch(from, now);
    const life = readI32(bytes, o + at.life);
    state.remember(from, incarnation, life);
    // It does not know what it was: tell it.
    if (incarnation > 0 && (incarnation < state.others.known[from]! || differ(life, state.others.lives[from]!)))
      this.sender.probeReply(from, 0, false);
    if (!state.starting) {
      // Where hosts can be replaced, an answer that nobody here asked for may be for another one that had this address.
      const isForThis = state.members.index === 0 || readI32(bytes, o + at.nonce) === this.nonce;
      if (
        isForThis &&
        (remembered > state.incarnation ||
          (remembered === state.incarnation && differ(state.life, readI32(bytes, o + at.knownLife))))
      )
        throw new ForgottenError(state.hosts.self, state.hosts.idOf(from), remembered, state.incarnation);
      if (
        state.alone &&
        readI32(bytes, o + at.nonce) === this.nonce &&
        (bytes[o + at.condition]! & ReplicaCondition.starting) === 0
      ) {
        this.begun |= 1 << from;
        state.othersBegan(count(this.begun));
      }
      return;
    }
    if (isDecided || readI32(bytes, o + at.nonce) !== this.nonce) return;
    const status = bytes[o + at.status]!;
    const condition = bytes[o + at.condition]!;
    const starting = (condition & ReplicaCondition.starting) !== 0;
    // A release that does not report what its cluster file lists does not report whether it is starting either. A
    // replica that was unused after this one had begun to ask is as new as this one, whatever it has done since: it
    // could do that without this one.
    const wasUnused = state.others.hasMet(from);
    const unused =
      starting ||
      wasUnused ||
      (list !== 0 && status === ReplicaStatus.normal && view === 0 && readIndex(bytes, o + at.lastIndex) === 0);
    if (unused) state.others.meet(from);
    this.answers.set(from, {
      view,
      starting,
      unused,
      met: !starting || (condition & ReplicaCondition.met) !== 0,
      lost: status === ReplicaStatus.recovering,
      named: (condition & ReplicaCondition.named) !== 0,
      remembered,
      atUs: now.monotonicUs,
    });
    this.decide(now);
  }

  /** Others that have not answered in this life. */
  private get unheard(): number {
    return this.state.hosts.others & ~this.heard;
  }

  private ask(now: Instant): void {
    const { state } = this;
    this.askedUs = now.monotonicUs;
    // While it is starting, the newest answer of each counts.
    const { others } = state.hosts;
    const asked = state.starting ? others : state.alone ? others & ~this.begun : this.unheard;
    for (let rest = asked; rest !== 0; rest &= rest - 1) this.sender.probe(lowest(rest), this.nonce);
  }

  /**
   * Which answers count (S). What was once true of views and of incarnations stays so: every answer of this life counts for
   * them, however old. `named` does not stay so: it ends when the epoch has begun, and who said it may be dead by then. So an
   * old `named` does not hold this replica up. It is outweighed, not dropped: f+1 others with a log (areEnough) have to have
   * answered as lately, and none of them may say `named`. The Change of an epoch of which this replica may have promised a
   * view was committed before it asked at all. So one of any f+1 with a log has that Change, and says `named`, or a view of the
   * epoch that has begun, which is in `highest`. If none does, it was not committed, whatever the old answer told of. In the
   * same way one of them has a listing that was committed before they answered, and says `named` for good; for one that is
   * committed later see C7 above.
   * An old `named` still says that the cluster is in use: nobody begins as new beside it.
   */
  private decide(now: Instant): void {
    const { state } = this;
    let inUse = this.first() === 'log-lost';
    let withLog = 0;
    let highest = 0;
    // Who of those that answer now named the highest view. Who named `highest` may be dead.
    let newest = -1;
    let namedBy = -1;
    let remembered = 0;
    let by = -1;
    let met = 0;
    let lost = 1 << state.id;
    for (const [r, answer] of this.answers) {
      const isFresh = now.monotonicUs - answer.atUs <= FRESH_US;
      if (!answer.unused || answer.named) inUse = true;
      if (answer.met) met++;
      if (answer.named && isFresh) {
        this.unknownEpoch(r, now);
        return;
      }
      if (!answer.starting) {
        highest = Math.max(highest, answer.view);
        if (isFresh) {
          if (!answer.lost) withLog |= 1 << r;
          if (answer.view > newest) {
            newest = answer.view;
            namedBy = r;
          }
        }
      }
      if (answer.lost) lost |= 1 << r;
      if (answer.remembered > remembered) {
        remembered = answer.remembered;
        by = r;
      }
    }
    if (remembered > 0 && this.first() !== 'log-lost')
      throw new ForgottenError(state.hosts.self, state.hosts.idOf(by), remembered, 0);
    if (!inUse) {
      if (this.enoughUs === Infinity && met >= state.configuration.f) this.enoughUs = now.monotonicUs;
      if (met < count(state.hosts.others) && !(now.monotonicUs - this.enoughUs >= REST_US)) return;
      state.beginNew();
    } else if (
      this.areEnough(withLog, highest) &&
      this.isKnown(leapFrom(highest, this.cycleOf(highest)), namedBy, now)
    ) {
      const cycle = this.cycleOf(highest);
      state.beginWithoutMemory(leapFrom(highest, cycle), remembered + INCARNATION_LEAP);
      for (const answer of this.answers.values())
        invariant(
          answer.starting || answer.view + leastLeap(cycle) <= state.view,
          'a replica that forgot its promises begins far above every view that is known of',
        );
    } else {
      state.noteLost(lost, -1);
      return;
    }
    this.begins(now);
    // No replica has heard of this incarnation yet. An answer to this nonce was sent after the sender heard of it.
    this.heard = 0;
    this.nonce = (this.nonce + 1) & 0x7fffffff || 1;
    this.state.beAlone();
    this.ask(now);
  }

  /**
   * These replicas, all of which answered lately, have a log and remember what they promised, and are as many voters of the
   * epoch of `highest`, the highest view that was named, as a view of it starts from. If that epoch is not known here, f
   * others are reason enough to ask about it.
   */
  private areEnough(withLog: number, highest: number): boolean {
    const { views, configuration } = this.state;
    const of = views.of(highest);
    return of === undefined ? count(withLog) > configuration.f : count(withLog & of.voters) >= of.votes;
  }

  /** After how many views those of the epoch of `view` repeat. It does not matter where that epoch is not known (isKnown). */
  private cycleOf(view: number): number {
    const { views } = this.state;
    return (views.of(view) ?? views.newest).cycle;
  }

  /**
   * This replica may begin in `view`: its epoch is known here to be committed (C2). Otherwise whoever named the view that it
   * follows from is asked who the members are, and this replica goes on asking the others: it may have promised that view.
   */
  private isKnown(view: number, namedBy: number, now: Instant): boolean {
    if (view > MAX_VIEW) return false;
    if (this.state.views.of(view) !== undefined) return true;
    if (namedBy >= 0) this.unknownEpoch(namedBy, now);
    return false;
  }
}
