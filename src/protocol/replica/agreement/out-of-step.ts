/**
 * Owners (session-owner.ts) whose requests are *out of step*: they reach one replica of the quorum early and the others late
 * or never. May be changed freely: a request that has to wait is ordered later, and nothing else.
 *
 * A request that one member alone has makes its log differ until the primary's order arrives. What others send meanwhile
 * needs one and a half round trips. A client that does this five hundred times a second takes the fast path from all others.
 * So an owner that does it more often than the others do is served apart for a while:
 * - A member takes the owner's requests by the primary's order only (requests.ts, repair.ts).
 * - The primary appends those that reach it in batches (BATCH_US). Then the logs differ once for each batch, and not for
 *   each request. If members lacked the owner's requests, it sends them the entries at once, and not only their order.
 *
 * What each replica goes by:
 * - A *member* counts requests that it appended and that the primary's order *overtook*: the order has an entry that stood
 *   behind the request in this member's log, and does not have the request (kept-tail.ts). If the order names it within
 *   `repairDelayUs`, the two only crossed on their ways, and it does not count.
 * - The *primary* counts requests for which a member waited in vain (`lacks`). It also believes a member that it makes an
 *   owner's requests wait (`awaits`), for a short while after each such report.
 * - Late requests happen to honest clients too. An owner that has not many more of them than the others is left alone, and
 *   so is one that has only a few, or none beside it.
 *
 * While members keep differing, the primary does the same to an owner that has too many entries in the log of which it is not known
 * yet that all members have them: a client that keeps no window. What the replicas then have in different orders is so much
 * that moving it takes longer than the primary takes for the next ones. Many entries alone are no sign of it: a client has them
 * on a long path, or as soon as a busy host answers late. Nor is a difference now and then, which anybody can cause.
 *
 * A primary that batches says so to the members (`noticed`). To a member that does not know it, a batch looks like lateness of
 * its owner: what made one batch would keep up all others.
 *
 * A member stops reporting some time before it takes requests directly again. By then the primary does too. Otherwise the
 * batches of the primary would look like lateness to the member, and its reports would keep up the batches.
 *
 * Owners share buckets by a hash that is seeded for each life of a replica. Without keys a session stands for its owner.
 */
import type { Instant } from '../../contract.js';
import { DOUBLE_ZERO } from '../../double-zero.js';
import { Entry } from '../../log/entry.js';
import { NO_OWNER } from '../../log/session-owner.js';
import type { ReplicaState } from '../replica-state.js';

/** The primary appends the requests of owners that are out of step this often. */
export const BATCH_US = 25_000;
/** Of a batch it appends this many in one turn, so that others wait for no more. */
export const BATCH_TURN = 32;
/** Repairs that one owner may cause at once before it can be out of step. */
export const REPAIRS_FREE = 8;
/** And this part of its requests may be overtaken. */
export const OVERTAKEN_PART = 1 / 16;
/** A request that a member lacks counts as this many: the fetch that follows also brings others, which are not reported. */
export const LACK_WEIGHT = 4;
/** An owner is out of step only if its part of overtaken requests is this many times that of all others together. */
const TIMES_OTHERS = 4;
/** The time by which it counts. */
export const PERIOD_US = 50_000;
/** Counts are halved after this many periods, … */
const HALVE_PERIODS = 20;
/** … an owner that was found to be out of step is served apart for this many the first time, … */
export const APART_PERIODS = 40;
/** … in the last of which a member reports nothing, … */
const SILENT_PERIODS = 3;
/** … and at a primary that heard of it from a member for this many. */
const BELIEVED_PERIODS = 2;
/** Each time that it is found so again, it is served apart for twice as long, up to this many times, with fewer repairs free. */
const STRIKES_MAX = 4;
/** One of these times is forgotten after this many periods. */
export const FORGIVE_PERIODS = 600;
/**
 * The part of the cached requests that one owner may have in a log behind what is known to be equal at the members. With the
 * default limits these are 2,048: four times what a client sends at least before it waits, and four times a batch.
 */
export const OPEN_PART = 1 / 2;
/** And it may always have this many. */
const OPEN_LEAST = 16;
/** And members have said for this long that they differ, … */
const DIFFERS_US = PERIOD_US;
/** … with no more than this between two such words. */
const DIFFERS_GAP_US = 2 * PERIOD_US;
/** Entries by which the owners' parts of a log are estimated. */
const SAMPLES = 64;
/** A member reports at most this often that requests wait. */
const REPORT_US = 10_000;
/** A primary names owners that it serves apart this often, so many at a time, … */
const NOTICE_US = 10_000;
const NOTICES = 4;
/** … each in one of so many notices: before what members believe runs out, and others have their turn between. */
export const NOTICES_APART = 3;
/** Each is named by an entry that all members have. It looks through so many. */
const NOTICE_ENTRIES = 1_024;
const BUCKET_BITS = 10;
const BUCKETS = 1 << BUCKET_BITS;

export class OutOfStep {
  /** Periods for which the owners of each bucket are still served apart. */
  private readonly periods = new Uint8Array(BUCKETS);
  /** Requests that were appended here directly, those of them that were overtaken, and repairs in which any were. */
  private readonly appends = new Int32Array(BUCKETS);
  private readonly overtakes = new Int32Array(BUCKETS);
  private readonly repairs = new Int32Array(BUCKETS);
  /** How often the owners of each bucket were found to be out of step lately. */
  private readonly strikes = new Uint8Array(BUCKETS);
  /** The last repair that each bucket's owners were counted for. */
  private readonly lastRepair = new Int32Array(BUCKETS);
  private allAppends = 0;
  private allOvertakes = 0;
  private repair = 0;
  private apart = 0;
  private age = 0;
  private nowUs = DOUBLE_ZERO;
  private nextPeriodUs = DOUBLE_ZERO;
  /** Index of an entry that had to wait for the primary's order and whose owner was not reported yet; 0: none. */
  private awaitedIndex = 0;
  private reportedUs = -Infinity;
  private lackedIndex = 0;
  /** At the primary: a request was appended that members will probably lack. */
  private lacked = false;
  /** At the primary: since when members keep saying that they differ, and when one last did. */
  private differsFromUs = DOUBLE_ZERO;
  private differsUs = -Infinity;
  /** At the primary: requests of such owners that were appended in this turn. */
  private batchedNow = 0;
  /** Notices so far, when the last one was, and the last one in which owners of each bucket were named. */
  private notices = 0;
  private noticedUs = -Infinity;
  private readonly named = new Int32Array(BUCKETS).fill(-NOTICES_APART);
  /** Where the search for entries to name goes on, downwards, and where it ends; how many were named. */
  private noticeIndex = 0;
  private noticeEnd = 0;
  private namedNow = 0;
  /** How many of the last samples were of each bucket. */
  private readonly sampled = new Uint8Array(BUCKETS);
  /** Points at the entry that is sampled now. */
  private readonly sample = new Entry();

  constructor(private readonly state: ReplicaState) {}

  /** A view was joined or given up: the paths between clients and replicas that count are others. */
  reset(): void {
    this.periods.fill(0);
    this.appends.fill(0);
    this.overtakes.fill(0);
    this.repairs.fill(0);
    this.strikes.fill(0);
    this.allAppends = 0;
    this.allOvertakes = 0;
    this.apart = 0;
    this.awaitedIndex = 0;
    this.lackedIndex = 0;
    this.differsUs = -Infinity;
  }

  /** At the primary: a member differs. */
  differs(now: Instant): void {
    if (now.monotonicUs - this.differsUs > DIFFERS_GAP_US) this.differsFromUs = now.monotonicUs;
    this.differsUs = now.monotonicUs;
  }

  /** Members keep differing: it did not end with one repair. */
  private differsOn(now: Instant): boolean {
    const { differsUs, differsFromUs } = this;
    return differsUs - differsFromUs >= DIFFERS_US && now.monotonicUs - differsUs <= DIFFERS_GAP_US;
  }

  /** The owner of this request is served apart. */
  isApart(request: Entry): boolean {
    return this.periods[this.bucketOf(request)] !== 0;
  }

  /**
   * At the primary, after each Sync: while members keep differing, an owner that has too many entries behind `agreed`, up to which all
   * are known to be equal, is served apart if it has others beside it.
   */
  look(agreed: number, now: Instant): void {
    const { state, sampled, sample } = this;
    const { log } = state;
    const { limits, timings } = state.config;
    // A member that joins has confirmed nothing yet, and what is committed is equal everywhere.
    const first = Math.max(agreed, state.committed, log.baseIndex) + 1;
    const open = log.lastIndex - first + 1;
    const most = Math.max(OPEN_LEAST, limits.cachedRequests * OPEN_PART);
    if (open <= most || !this.differsOn(now) || timings.orderHoldUs === 0) return;
    const each = open / SAMPLES;
    sampled.fill(0);
    for (let i = 0; i < SAMPLES; i++) {
      const bucket = this.bucketOf(log.pointAt(first + Math.floor(i * each), sample));
      if (++sampled[bucket]! * each > most && this.allAppends > this.appends[bucket]!) this.offended(bucket);
    }
  }

  /** A request was appended as it came. */
  appended(request: Entry): void {
    this.appends[this.bucketOf(request)]!++;
    this.allAppends++;
  }

  /** A repair may follow, or go on. */
  at(now: Instant): void {
    this.nowUs = now.monotonicUs;
  }

  /** Requests that are counted from here on were overtaken in one repair. */
  beginRepair(): void {
    this.repair = (this.repair + 1) | 0;
  }

  /**
   * A request was overtaken by the primary's order; at a primary: a member waited for it in vain.
   * @param weight requests that it counts for
   * @returns when that was, monotonic µs; negative for the first request of its owner in this repair
   */
  overtaken(request: Entry, weight = 1): number {
    const { overtakes, repairs, lastRepair, nowUs } = this;
    const bucket = this.bucketOf(request);
    overtakes[bucket]! += weight;
    this.allOvertakes += weight;
    const isFirst = lastRepair[bucket] !== this.repair;
    if (isFirst) {
      lastRepair[bucket] = this.repair;
      repairs[bucket]!++;
    }
    const mine = overtakes[bucket]!;
    const appended = this.appends[bucket]!;
    const othersAppended = this.allAppends - appended;
    const others = this.allOvertakes - mine;
    if (
      this.state.config.timings.orderHoldUs > 0 &&
      repairs[bucket]! > REPAIRS_FREE >> this.strikes[bucket]! &&
      mine > appended * OVERTAKEN_PART &&
      mine * othersAppended > TIMES_OTHERS * others * appended
    )
      this.offended(bucket);
    return isFirst ? -nowUs : nowUs;
  }

  /**
   * The primary's order names a request that it overtook.
   * @param overtakenUs as returned by `overtaken`
   */
  caughtUp(request: Entry, overtakenUs: number): void {
    if (this.nowUs - Math.abs(overtakenUs) > this.state.config.timings.repairDelayUs) return;
    const bucket = this.bucketOf(request);
    if (this.overtakes[bucket]! > 0) {
      this.overtakes[bucket]!--;
      this.allOvertakes--;
    }
    if (overtakenUs < 0 && this.repairs[bucket]! > 0) this.repairs[bucket]!--;
  }

  /** At a primary: a request that was held was appended; it may have been one of a batch. */
  batched(request: Entry): void {
    const periods = this.periods[this.bucketOf(request)]!;
    if (periods > 0) this.batchedNow++;
    if (periods > BELIEVED_PERIODS) this.lacked = true;
  }

  /** At a primary: the rest of the batch is for the next turn. */
  get isTurnFull(): boolean {
    return this.batchedNow >= BATCH_TURN;
  }

  turnEnded(): void {
    this.batchedNow = 0;
  }

  /** At a primary: in this turn a request was appended that members will probably lack. */
  takeLacked(): boolean {
    const { lacked } = this;
    this.lacked = false;
    return lacked;
  }

  /**
   * At a primary: its members are to hear now whom it serves apart. `noticed` then gives entries of these owners, one after the
   * other.
   * @param agreed all members have the entries up to here
   */
  noticeDue(agreed: number, now: Instant): boolean {
    if (this.apart === 0 || now.monotonicUs - this.noticedUs < NOTICE_US) return false;
    this.noticedUs = now.monotonicUs;
    const { log } = this.state;
    this.noticeIndex = Math.min(agreed, log.lastIndex);
    this.noticeEnd = Math.max(log.baseIndex, this.noticeIndex - NOTICE_ENTRIES);
    this.namedNow = 0;
    this.notices++;
    return true;
  }

  /** Index of an entry whose owner is served apart and was not named of late; 0: there is no further one. */
  noticed(): number {
    const { sample, named, notices } = this;
    while (this.noticeIndex > this.noticeEnd && this.namedNow < NOTICES) {
      const index = this.noticeIndex--;
      const bucket = this.bucketOf(this.state.log.pointAt(index, sample));
      if (this.periods[bucket] === 0 || notices - named[bucket]! < NOTICES_APART) continue;
      named[bucket] = notices;
      this.namedNow++;
      return index;
    }
    return 0;
  }

  /** The other side says that it makes requests of this one's owner wait: a member, or the primary, which batches them. */
  awaitedBy(request: Entry): void {
    this.setApart(this.bucketOf(request), BELIEVED_PERIODS);
  }

  /** At a member: entry `index` had to wait for the primary's order, if its owner is served apart. */
  ordered(request: Entry, index: number): void {
    if (this.apart > 0 && this.periods[this.bucketOf(request)]! > SILENT_PERIODS) this.awaitedIndex = index;
  }

  /** At a member: index of an entry by which the primary is told now whose requests wait here; 0: nothing to tell. */
  reportDue(now: Instant): number {
    const index = this.awaitedIndex;
    if (index === 0 || now.monotonicUs - this.reportedUs < REPORT_US) return 0;
    this.awaitedIndex = 0;
    this.reportedUs = now.monotonicUs;
    return index;
  }

  /** At a member: it waits in vain for the request of entry `index`. False if the primary was told already. */
  lacks(index: number): boolean {
    if (index <= this.lackedIndex) return false;
    this.lackedIndex = index;
    return true;
  }

  /** Called every few milliseconds. */
  tick(now: Instant): void {
    if (now.monotonicUs < this.nextPeriodUs) return;
    this.nextPeriodUs = now.monotonicUs + PERIOD_US;
    if (this.apart > 0) this.countDown();
    if (++this.age % HALVE_PERIODS === 0) this.halve();
    if (this.age % FORGIVE_PERIODS === 0) this.forgive();
  }

  /** Found to be out of step here. */
  private offended(bucket: number): void {
    const { strikes } = this;
    if (this.periods[bucket]! <= BELIEVED_PERIODS && strikes[bucket]! < STRIKES_MAX) strikes[bucket]!++;
    this.setApart(bucket, Math.min(APART_PERIODS << (strikes[bucket]! - 1), 0xff));
  }

  private setApart(bucket: number, periods: number): void {
    if (this.periods[bucket] === 0) this.apart++;
    if (this.periods[bucket]! < periods) this.periods[bucket] = periods;
  }

  private countDown(): void {
    const { periods } = this;
    for (let bucket = 0; bucket < BUCKETS; bucket++) {
      if (periods[bucket] === 0 || --periods[bucket]! > 0) continue;
      this.apart--;
      // It begins anew: what it did before is paid for.
      this.allAppends -= this.appends[bucket]!;
      this.allOvertakes -= this.overtakes[bucket]!;
      this.appends[bucket] = 0;
      this.overtakes[bucket] = 0;
      this.repairs[bucket] = 0;
    }
  }

  private forgive(): void {
    const { strikes, periods } = this;
    for (let bucket = 0; bucket < BUCKETS; bucket++)
      if (strikes[bucket]! > 0 && periods[bucket] === 0) strikes[bucket]!--;
  }

  private halve(): void {
    const { appends, overtakes, repairs } = this;
    let allAppends = 0;
    let allOvertakes = 0;
    for (let bucket = 0; bucket < BUCKETS; bucket++) {
      allAppends += appends[bucket]! >>= 1;
      allOvertakes += overtakes[bucket]! >>= 1;
      repairs[bucket]! >>= 1;
    }
    this.allAppends = allAppends;
    this.allOvertakes = allOvertakes;
  }

  private bucketOf({ owner, sessionHi, sessionLo }: Entry): number {
    const party = owner !== NO_OWNER ? owner : sessionHi ^ Math.imul(sessionLo, 0x9e3779b1);
    return Math.imul(party ^ this.state.config.seed, 0x85ebca6b) >>> (32 - BUCKET_BITS);
  }
}
