/**
 * What a view number means: looks up its epoch, whose configuration knows its primary and quorum (configuration.ts).
 *
 * Replicas are named by their slots here. A view of an epoch that is not known has no primary (−1) and no members.
 */
import { Configuration, EPOCH_VIEWS, ForgottenConfiguration, MAX_REPLICAS, MAX_VIEW } from './configuration.js';
import { invariant } from './invariant.js';

export { MAX_REPLICAS, MAX_VIEW } from './configuration.js';

export class Views {
  /** The configuration of the present view. */
  present: Configuration;
  /** All that are known to be committed and still of use, in the order of their epochs. */
  private known: readonly Configuration[];
  /** The last of them was decided behind the one before it, and has not begun. */
  private isOpen = false;
  /** What `of` said last of views that nobody has entered. */
  private beyond: Configuration | undefined;

  /**
   * The replicas of a cluster file: ids and slots are their places in it. All views are theirs.
   * @param n number of replicas, odd, 1…MAX_REPLICAS; throws RangeError otherwise
   * @param mayCross see `of`
   */
  constructor(
    n: number,
    private readonly mayCross: () => boolean = () => true,
  ) {
    if (!Number.isInteger(n) || n < 1 || n > MAX_REPLICAS || n % 2 === 0) {
      throw new RangeError(`a cluster has an odd number of replicas from 1 to ${MAX_REPLICAS}, not ${n}`);
    }
    const ids = Array.from({ length: n }, (_, id) => id);
    this.present = new Configuration(0, ids, ids, 0, EPOCH_VIEWS - 1);
    this.known = [this.present];
  }

  /**
   * These configurations, of successive epochs, are committed. Those of older ones are forgotten, unless the present view
   * is of one.
   */
  learn(configurations: readonly Configuration[]): void {
    const { present } = this;
    const [oldest] = configurations;
    const kept = present.epoch < oldest!.epoch ? [present.until(oldest!.first - 1)] : [];
    // What a cluster without members took for its own views stays so, up to the epoch that follows.
    const own =
      present.epoch === 0 && oldest!.epoch === 0
        ? [oldest!.until(present.last), ...configurations.slice(1)]
        : configurations;
    this.known = [...kept, ...own];
    this.isOpen = configurations.length > 1;
    this.present = this.known.find(({ epoch }) => epoch === present.epoch) ?? present;
  }

  /**
   * `view` was the present one in an earlier life: as durable as the members, so it is of an epoch that was known. It may be
   * forgotten: the members may be those of a later one, which had begun elsewhere.
   * @param started the epoch that had begun, as far as that is known
   */
  restore(view: number, started: number): void {
    const oldest = this.known.find(({ epoch }) => epoch >= started)!;
    if (started > 0 && view < oldest.first) {
      const epoch = Math.floor(view / EPOCH_VIEWS);
      this.present = new ForgottenConfiguration(epoch, oldest.ids, oldest.first);
      this.known = [this.present, ...this.known.filter((one) => one.epoch >= started)];
      return;
    }
    const [first, second] = this.known;
    if (view > first!.last && first!.epoch === 0 && (second?.first ?? Infinity) > view) this.extend(view);
    this.enter(view);
  }

  /** Nothing was decided before `view`, which runs: it is one of the cluster file's replicas. */
  cross(view: number): void {
    if (this.newest.epoch === 0 && view > this.newest.last) this.extend(view);
  }

  /** The views up to the last one that an epoch with `view` would have are the cluster file's replicas'. */
  private extend(view: number): void {
    this.adopt(this.reaching(view));
  }

  private adopt(longer: Configuration): void {
    const [first, ...later] = this.known;
    if (this.present === first) this.present = longer;
    this.known = [longer, ...later];
  }

  /** The configuration of epoch 0 with the views up to the last one that an epoch with `view` would have. */
  private reaching(view: number): Configuration {
    const [first, second] = this.known;
    const last = Math.floor(view / EPOCH_VIEWS) * EPOCH_VIEWS + EPOCH_VIEWS - 1;
    return new Configuration(0, first!.ids, first!.ids, 0, Math.min(last, (second?.first ?? Infinity) - 1));
  }

  /** `view` is the present one. Rule S, C2: it is of an epoch that is known to be committed. */
  enter(view: number): void {
    const configuration = this.of(view);
    invariant(configuration !== undefined, 'a view is joined or promised when its epoch is known to be committed');
    if (configuration === this.beyond) this.adopt(configuration);
    this.present = configuration;
  }

  /** The configuration of the last epoch that is decided. */
  get newest(): Configuration {
    return this.known[this.known.length - 1]!;
  }

  /** The voters of all known epochs; a mask. */
  get voters(): number {
    return this.known.reduce((mask, { voters }) => mask | voters, 0);
  }

  /** The first view of an epoch that is known. */
  get first(): number {
    return this.known[0]!.first;
  }

  /**
   * The configuration of the epoch before; undefined if it is not known, or not of use any more. An epoch that is older still
   * is none that it follows.
   */
  before(configuration: Configuration): Configuration | undefined {
    const before = this.known[this.known.indexOf(configuration) - 1];
    const follows = (this.isOpen && configuration === this.newest) || before?.epoch === configuration.epoch - 1;
    return follows ? before : undefined;
  }

  /** Whether votes of that replica for `view` count: it votes in the epoch of `view`, or in the one before (C3). */
  mayVote(view: number, replica: number): boolean {
    const configuration = this.of(view);
    if (configuration === undefined) return false;
    const voters = configuration.voters | (this.before(configuration)?.voters ?? 0);
    return ((voters >>> replica) & 1) === 1;
  }

  /** Number of voters at present, and failures that they tolerate. */
  get n(): number {
    return this.present.n;
  }

  get f(): number {
    return this.present.f;
  }

  /** Views after which the present assignment repeats. */
  get cycle(): number {
    return this.present.cycle;
  }

  /**
   * The configuration that a view is of; undefined if it is not known.
   *
   * A cluster whose members never change may use up the views of epoch 0, and earlier releases leapt beyond them. So as
   * long as nothing can have been decided (`mayCross`), all views are those of the cluster file's replicas. Rule S
   * (`overflow` in the model): from then on they end where the present epoch does. Only a view that was entered counts for
   * that: others may name any.
   */
  of(view: number): Configuration | undefined {
    if (this.present.has(view)) return this.present;
    const known = this.known.find((configuration) => configuration.has(view));
    if (known !== undefined || this.newest.epoch > 0 || view <= this.newest.last || !this.mayCross()) return known;
    if (this.beyond?.has(view) !== true) this.beyond = this.reaching(view);
    return this.beyond;
  }

  primary(view: number): number {
    return this.of(view)?.primary(view) ?? -1;
  }

  /** The members of the view's quorum, primary included, as a bit mask. */
  memberMask(view: number): number {
    return this.of(view)?.memberMask(view) ?? 0;
  }

  isMember(view: number, replica: number): boolean {
    return ((this.memberMask(view) >>> replica) & 1) === 1;
  }

  /** The members in ascending order. Allocates: not for the fast path. */
  members(view: number): number[] {
    const mask = this.memberMask(view);
    return Array.from({ length: 32 }, (_, r) => r).filter((r) => ((mask >>> r) & 1) === 1);
  }

  /**
   * The smallest view above `above` in its epoch whose members are all in `aliveMask` and whose primary is `primary` or,
   * if `primary` is −1, any in `primaryMask`. −1 if there is none.
   */
  next(above: number, aliveMask: number, primary: number, primaryMask: number): number {
    const configuration = this.of(Math.max(above, 0));
    if (configuration === undefined) return -1;
    const view = configuration.next(above, aliveMask, primary, primaryMask);
    // The views of this epoch are used up: see `of`.
    const beyond = view < 0 && configuration.last < MAX_VIEW ? this.of(configuration.last + 1) : undefined;
    return beyond === undefined ||
      beyond.epoch > configuration.epoch ||
      above + configuration.cycle <= configuration.last
      ? view
      : beyond.next(above, aliveMask, primary, primaryMask);
  }
}
