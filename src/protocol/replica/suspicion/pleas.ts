/**
 * Clients that do not hear a member of the quorum, and what is done for them: a view of replicas that they hear, if there is
 * one. May be changed freely.
 *
 * The primary sees nothing wrong then: its member answers it. Only the client knows, and it may be wrong, broken or hostile, while
 * every view change stops all others for some milliseconds. So what a client may cost is bounded, whatever it says:
 *
 * - *Least complaints.* The newest complaint of each client counts for REMEMBERED_US, as long as it has a view change left in its budget. A
 *   view is left for one that fewer clients complain of. For one that as many complain of it is left when the last change for a plea is
 *   EVEN_US old, so that clients that contradict each other take turns.
 * - *No contradictions.* What a client names within ADDS_UP_US adds up. When too few replicas are left for any view, no view can serve it,
 *   and it counts for nothing: a client that names other replicas each time, so that no view pleases it, moves none.
 * - *Budgets.* Each client (its key, or without keys its endpoint) has CLIENT_CHANGES view changes, and another one each
 *   CLIENT_REFILL_US; all together have ALL_CHANGES and another one each ALL_REFILL_US. A view change is paid for by the clients that
 *   it serves: one that complains of everything pays for itself alone, and when its budget is spent it is ignored.
 *   Every replica counts alike, as the ViewChange says that it is for a plea.
 *
 * So a client that pleads without end costs at most 4 view changes at once and 6 an hour after that, and all such clients
 * together 8 and 12.
 */
import { TriggerBudget } from '../trigger-budget.js';
import { SLOTS } from '../../configuration.js';
import type { Instant } from '../../contract.js';
import { count } from '../../masks.js';
import type { ReplicaState } from '../replica-state.js';

export const CLIENT_CHANGES = 4;
export const CLIENT_REFILL_US = 600_000_000;
export const ALL_CHANGES = 8;
export const ALL_REFILL_US = 300_000_000;
/** How long a complaint counts. */
const REMEMBERED_US = 60_000_000;
/** How long a view stays if as many clients complain of it as of the next. */
export const EVEN_US = 60_000_000;
/** Replicas that a client names within this time count as silent at once. A path that broke and healed is named no more. */
const ADDS_UP_US = 5_000_000;
/** Clients that are remembered; beyond this many, the one that was heard longest ago is forgotten. */
const COMPLAINTS_MAX = 32;
/**
 * If the client does not hear the primary, the primary still acts first on a plea that reaches it. The replica behind it acts
 * after this long, the next one after twice as long, and so on.
 */
const GRACE_US = 20_000;

interface Complaint {
  /** Its key, or, below zero, its endpoint. */
  readonly client: number;
  /** Replicas that it does not hear, a bit each: its newest word, and what it named shortly before. */
  mask: number;
  /** When it last named each replica. */
  readonly namedUs: Float64Array;
  heardUs: number;
  /** When it first complained of the present view. */
  sinceUs: number;
  view: number;
  readonly budget: TriggerBudget;
}

export class Pleas {
  private complaints: Complaint[] = [];
  private readonly all = new TriggerBudget(ALL_CHANGES, ALL_REFILL_US);
  private changedUs = -Infinity;

  constructor(private readonly state: ReplicaState) {}

  /**
   * A client says in the present view which replicas it does not hear. True when this replica should look for another view now.
   * @param client its key's id, or, without keys, what tells it apart, below zero
   */
  heard(client: number, mask: number, now: Instant): boolean {
    const { state } = this;
    let complaint = this.complaints.find((c) => c.client === client);
    if ((mask & state.views.memberMask(state.view)) === 0 || !this.canServe(mask)) {
      // It is no complaint by itself, but adds to what the client said before.
      if (complaint !== undefined) this.add(complaint, mask, now);
      return false;
    }
    if (complaint === undefined) {
      if (this.complaints.length === COMPLAINTS_MAX) this.forgetOldest();
      complaint = {
        client,
        mask,
        heardUs: now.monotonicUs,
        sinceUs: now.monotonicUs,
        view: state.view,
        namedUs: new Float64Array(SLOTS).fill(-Infinity),
        budget: new TriggerBudget(CLIENT_CHANGES, CLIENT_REFILL_US),
      };
      this.complaints.push(complaint);
    }
    if (complaint.view !== state.view) complaint.sinceUs = now.monotonicUs;
    complaint.view = state.view;
    this.add(complaint, mask, now);
    complaint.heardUs = now.monotonicUs;
    if (!this.canServe(complaint.mask) || !complaint.budget.has(now) || !this.all.has(now)) return false;
    if (state.isPrimary) return true;
    const { end } = state.hosts;
    const behind = (state.id - state.primary + end) % end;
    return ((mask >>> state.primary) & 1) === 1 && now.monotonicUs - complaint.sinceUs >= GRACE_US * behind;
  }

  /**
   * The smallest view above `above` that the fewest clients complain of, with members of `alive` and a primary of `withLog`. −1:
   * none is worth leaving the present one.
   */
  better(above: number, alive: number, withLog: number, now: Instant): number {
    const { state } = this;
    const { views } = state;
    const present = this.complaining(state.view, now);
    if (present === 0) return -1;
    let best = -1;
    let least = Infinity;
    for (let view = above + 1; view <= Math.min(above + views.cycle, views.present.last); view++) {
      const members = views.memberMask(view);
      if ((members & alive) !== members || ((withLog >>> views.primary(view)) & 1) === 0 || !this.relieves(view, now))
        continue;
      // Another primary counts as half a complaint: the present one stays if that is as good.
      const complaining = this.complaining(view, now) + (views.primary(view) === state.primary ? 0 : 0.5);
      if (complaining >= least) continue;
      least = complaining;
      best = view;
    }
    if (best < 0 || Math.floor(least) > present) return -1;
    return Math.floor(least) < present || now.monotonicUs - this.changedUs >= EVEN_US ? best : -1;
  }

  /** Some replica asked for the present view because of a plea. @param left the view before it */
  changed(left: number, now: Instant): void {
    this.changedUs = now.monotonicUs;
    this.all.spend(now);
    for (const complaint of this.complaints) {
      if (!this.counts(complaint, left, now) || this.counts(complaint, this.state.view, now)) continue;
      complaint.budget.spend(now);
    }
  }

  /** Replicas that some client recently did not hear: others are preferred if there is a choice. A mask. */
  avoided(now: Instant): number {
    let mask = 0;
    for (const { heardUs, mask: of } of this.complaints)
      if (now.monotonicUs - heardUs < REMEMBERED_US && this.canServe(of)) mask |= of;
    return mask;
  }

  /** How many clients say that they cannot be served in `view`. */
  private complaining(view: number, now: Instant): number {
    let n = 0;
    for (const complaint of this.complaints) if (this.counts(complaint, view, now)) n++;
    return n;
  }

  /** Some client that cannot be served now can be served in `view`. */
  private relieves(view: number, now: Instant): boolean {
    return this.complaints.some(
      (complaint) => this.counts(complaint, this.state.view, now) && !this.counts(complaint, view, now),
    );
  }

  /** The client cannot be served in `view`, and may still say so. */
  private counts({ heardUs, mask, budget }: Complaint, view: number, now: Instant): boolean {
    return (
      now.monotonicUs - heardUs < REMEMBERED_US &&
      (mask & this.state.views.memberMask(view)) !== 0 &&
      this.canServe(mask) &&
      budget.has(now)
    );
  }

  private add(complaint: Complaint, mask: number, now: Instant): void {
    const { namedUs } = complaint;
    complaint.mask = 0;
    for (let r = 0; r < SLOTS; r++) {
      if (((mask >>> r) & 1) === 1) namedUs[r] = now.monotonicUs;
      if (now.monotonicUs - namedUs[r]! < ADDS_UP_US) complaint.mask |= 1 << r;
    }
  }

  /** Without these replicas enough are left for a view. */
  private canServe(mask: number): boolean {
    const { voters, quorum } = this.state.configuration;
    return count(voters & ~mask) >= quorum;
  }

  private forgetOldest(): void {
    let oldest = 0;
    this.complaints.forEach(({ heardUs }, i) => {
      if (heardUs < this.complaints[oldest]!.heardUs) oldest = i;
    });
    this.complaints.splice(oldest, 1);
  }
}
