/**
 * The session table's sessions by owner (session-owner.ts), each share in the order of last use: what an owner holds, and
 * which of its sessions is evicted first.
 *
 * The rule (S, *evicted alike*): which share has to give way depends only on what all replicas have alike: sums over
 * sessions, and indexes of entries. It does not depend on the order in which shares were made.
 */
import { invariant } from '../invariant.js';
import { NO_OWNER } from './owners.js';

/** What is counted for each share, and bounded for all together. */
export type Measure = 'sessions' | 'lanes' | 'bytes';

/** A session, as far as a share is concerned. */
export interface Shared<Member> {
  readonly lanes: number;
  readonly resultBytes: number;
  readonly lastUsed: number;
  older: Member | undefined;
  newer: Member | undefined;
}

export class Share<Member extends Shared<Member>> {
  sessions = 0;
  lanes = 0;
  /** Of results that are kept. */
  bytes = 0;
  /** The session that was used longest ago, and the one that was used last. */
  oldest: Member | undefined;
  newest: Member | undefined;

  constructor(readonly owner: number) {}

  add(session: Member): void {
    this.sessions++;
    this.lanes += session.lanes;
    this.bytes += session.resultBytes;
    this.link(session);
  }

  remove(session: Member): void {
    this.sessions--;
    this.lanes -= session.lanes;
    this.bytes -= session.resultBytes;
    this.unlink(session);
  }

  /** The last entry used the session. */
  used(session: Member): void {
    if (session === this.newest) return;
    this.unlink(session);
    this.link(session);
  }

  /** Puts a session in its place in the order of last use: the end, since the log only grows. */
  private link(session: Member): void {
    invariant(this.newest === undefined || this.newest.lastUsed < session.lastUsed, 'sessions are used in log order');
    session.older = this.newest;
    session.newer = undefined;
    if (this.newest === undefined) this.oldest = session;
    else this.newest.newer = session;
    this.newest = session;
  }

  private unlink(session: Member): void {
    const { older, newer } = session;
    if (older === undefined) this.oldest = newer;
    else older.newer = newer;
    if (newer === undefined) this.newest = older;
    else newer.older = older;
  }
}

export class Shares<Member extends Shared<Member>> {
  private readonly byOwner = new Map<number, Share<Member>>();

  /** Owners that have sessions. */
  get size(): number {
    return this.byOwner.size;
  }

  find(owner: number): Share<Member> | undefined {
    return this.byOwner.get(owner);
  }

  of(owner: number): Share<Member> {
    let share = this.byOwner.get(owner);
    if (share === undefined) {
      share = new Share<Member>(owner);
      this.byOwner.set(owner, share);
    }
    return share;
  }

  /** Forgets a share without sessions. */
  drop(share: Share<Member>): void {
    if (share.sessions === 0) this.byOwner.delete(share.owner);
  }

  clear(): void {
    this.byOwner.clear();
  }

  /**
   * The share that has to give way: the heaviest one that has a session. Of several, that of `owner`, who asks for more;
   * otherwise the one whose oldest session was used longest ago.
   * @param more what `owner` asks for
   * @param except a share that cannot give way
   */
  heaviest(measure: Measure, owner: number, more: number, except?: Share<Member>): Share<Member> | undefined {
    let found: Share<Member> | undefined;
    let most = -1;
    for (const share of this.byOwner.values()) {
      if (share.sessions === 0 || share === except) continue;
      const weight = share[measure] + (share.owner === owner ? more : 0);
      if (weight < most) continue;
      if (weight > most || share.owner === owner) found = share;
      else if (found!.owner !== owner && share.oldest!.lastUsed < found!.oldest!.lastUsed) found = share;
      most = weight;
    }
    return found;
  }
}

/** The owner of a session as its id and its Register say; sessions without one are one owner together. */
export function ownerOfSession(sessionLo: number, nonceHi: number): number {
  return (sessionLo & 1) !== 0 ? NO_OWNER : nonceHi;
}
