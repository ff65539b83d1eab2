/**
 * Keeps the logs of one view equal: the primary's Sync, the commit index, repair of members that differ, spares that
 * learn, and the entries that all of them fetch.
 *
 * Repair rule (S): given a segment of the primary's log of this view, a log that agrees with it is not changed;
 * otherwise it is cut at the *first* entry that differs and the rest of the segment appended. A log is never shortened
 * where its compared part matches: what lies behind may be committed. Own entries behind the repaired part are kept
 * behind it when their key is larger and their request is not in it (TailRule "keep" of the model); an acknowledgement
 * sent from here on covers the log as it is then.
 *
 * There is no blocking status: a lost answer leaves a timer, nothing else.
 */
import { Chunk, Fetch, ReplicaStatus, ReplyStatus, Sync, SyncAck } from '../wire/messages.js';
import { readI32, readIndex, readU16 } from '../wire/u64.js';
import type { Instant } from './contract.js';
import { Counter } from './counters.js';
import { appendEntry, ENTRY_HEADER_BYTES } from './log.js';
import type { ReplicaState } from './replica-state.js';
import type { Sender } from './sender.js';

const NOTHING = new Uint8Array(0);

/** A client's Reconcile that waits for a repair. */
interface Waiting {
  readonly index: number;
  readonly chainHi: number;
  readonly chainLo: number;
  readonly sessionHi: number;
  readonly sessionLo: number;
  readonly lane: number;
  readonly request: number;
  readonly from: number;
}

export class Synchronization {
  /** Monotonic µs at which the primary was last heard in this view. */
  primaryHeardUs = 0;
  /** At the primary: when each replica last answered a Sync of this view. */
  readonly ackedUs: Float64Array;

  private readonly matched: Float64Array;
  private readonly needed: Float64Array;
  private lastSyncUs = -Infinity;
  private lastSyncIndex = 0;

  /** A Fetch within the view is open, since then, to that replica. */
  private fetching = false;
  private fetchSentUs = 0;
  private fetchBase = 0;
  private fetchFailures = 0;
  /** The primary's log goes up to here, and this one does not, since `behindUs`. */
  private behindIndex = 0;
  private behindUs = Infinity;
  /** What the primary says is committed; the own log may not go so far yet. */
  private heardCommitted = 0;
  private waiting: Waiting[] = [];

  constructor(
    private readonly state: ReplicaState,
    private readonly sender: Sender,
  ) {
    this.ackedUs = new Float64Array(state.n);
    this.matched = new Float64Array(state.n);
    this.needed = new Float64Array(state.n);
  }

  /** A view was joined (status normal): nothing heard in an earlier one counts. */
  viewStarted(now: Instant): void {
    this.primaryHeardUs = now.monotonicUs;
    this.ackedUs.fill(now.monotonicUs);
    this.matched.fill(0);
    this.needed.fill(this.state.committed);
    this.lastSyncUs = -Infinity;
    this.lastSyncIndex = 0;
    this.heardCommitted = 0;
    this.viewEnded();
  }

  /** The view is given up: what it left open is dropped. */
  viewEnded(): void {
    this.fetching = false;
    this.fetchFailures = 0;
    this.behindUs = Infinity;
    this.behindIndex = 0;
    this.waiting = [];
  }

  /** The host was stalled for `gapUs`: silence in that time says nothing about others. */
  forgive(gapUs: number): void {
    this.primaryHeardUs += gapUs;
    for (let r = 0; r < this.ackedUs.length; r++) this.ackedUs[r]! += gapUs;
  }

  /** Monotonic µs of the next thing to do by time. */
  get wakeAtUs(): number {
    const { state } = this;
    const { timings } = state.config;
    if (state.isPrimary) return this.lastSyncUs + timings.syncIntervalUs;
    let at = Infinity;
    if (this.fetching) at = this.fetchSentUs + timings.fetchTimeoutUs;
    if (this.behindUs !== Infinity) at = Math.min(at, this.behindUs + timings.repairDelayUs);
    return at;
  }

  tick(now: Instant): void {
    const { state } = this;
    const { timings } = state.config;
    if (state.status !== ReplicaStatus.normal) return;
    if (state.isPrimary) {
      if (now.monotonicUs - this.lastSyncUs >= timings.syncIntervalUs) this.sync(now);
      return;
    }
    if (this.fetching && now.monotonicUs - this.fetchSentUs >= timings.fetchTimeoutUs) {
      this.fetching = false;
      this.fetchFailures++;
      this.pull(now);
    }
    if (now.monotonicUs - this.behindUs >= timings.repairDelayUs) {
      this.behindUs = Infinity;
      if (state.log.lastIndex < this.behindIndex || state.synced < Math.min(state.log.lastIndex, this.behindIndex)) this.pull(now);
    }
  }

  /** End of a turn at the primary: a Sync after every so many entries. */
  flush(now: Instant): void {
    const { state } = this;
    if (state.isPrimary && state.log.lastIndex - this.lastSyncIndex >= state.config.timings.syncEntries) this.sync(now);
  }

  /** Primary: says to all where the log ends and what is committed. */
  sync(now: Instant): void {
    const { state } = this;
    this.lastSyncUs = now.monotonicUs;
    this.lastSyncIndex = state.log.lastIndex;
    state.counters[Counter.syncs]!++;
    for (let r = 0; r < state.n; r++) if (r !== state.id) this.sender.sync(r);
    this.advanceCommit();
  }

  onSyncAck(bytes: Uint8Array, o: number, from: number, now: Instant): void {
    const { state } = this;
    if (readI32(bytes, o + SyncAck.at.view) !== state.view || !state.isPrimary) return;
    const matched = readIndex(bytes, o + SyncAck.at.matchedIndex);
    if (matched > state.log.lastIndex) return;
    this.ackedUs[from] = now.monotonicUs;
    this.needed[from] = readIndex(bytes, o + SyncAck.at.neededIndex);
    if (matched > this.matched[from]!) this.matched[from] = matched;
    this.advanceCommit();
  }

  /** A Sync of the present view, in status normal. */
  onSync(bytes: Uint8Array, o: number, from: number, now: Instant): void {
    const { state } = this;
    const { log } = state;
    const at = Sync.at;
    this.primaryHeardUs = now.monotonicUs;
    const lastIndex = readIndex(bytes, o + at.lastIndex);
    const committed = readIndex(bytes, o + at.committedIndex);
    if (committed > lastIndex) return;
    if (log.matches(lastIndex, readI32(bytes, o + at.lastChain), readI32(bytes, o + at.lastChain + 4))) this.syncedTo(lastIndex);
    else if (log.matches(committed, readI32(bytes, o + at.committedChain), readI32(bytes, o + at.committedChain + 4))) this.syncedTo(committed);
    if (committed > this.heardCommitted) this.heardCommitted = committed;
    state.commitTo(Math.min(this.heardCommitted, state.synced));

    if (!state.isMember) {
      if (committed > state.synced && !this.fetching) this.pull(now);
    } else if (lastIndex > log.lastIndex) {
      // The missing requests may be on their way from the clients.
      if (committed > state.synced) this.pull(now);
      else if (this.behindUs === Infinity) this.behindUs = now.monotonicUs;
      if (lastIndex > this.behindIndex) this.behindIndex = lastIndex;
    } else if (lastIndex > state.synced) {
      this.repair(now);
    }
    this.sender.syncAck(from);
  }

  /** This member's log differs, or is said to differ, from the primary's. */
  repair(now: Instant): void {
    if (this.state.isMember && !this.state.isPrimary && !this.fetching) {
      this.state.counters[Counter.repairs]!++;
      this.pull(now);
    }
  }

  /** A client waits for entry `index` to be here as it is at the primary. */
  waitFor(index: number, chainHi: number, chainLo: number, sessionHi: number, sessionLo: number, lane: number, request: number, from: number, now: Instant): void {
    // When the list is full the client asks again: nothing is lost with its request.
    if (this.waiting.length < this.state.config.limits.waiting) this.waiting.push({ index, chainHi, chainLo, sessionHi, sessionLo, lane, request, from });
    this.repair(now);
  }

  /** Another replica asks for entries: of the log as it is, or frozen by a promise. */
  onFetch(bytes: Uint8Array, o: number, from: number, offerSnapshot: (to: number) => void): void {
    const { state } = this;
    const { log } = state;
    const at = Fetch.at;
    if (state.status === ReplicaStatus.recovering) return;
    if (readI32(bytes, o + at.view) !== state.view || readI32(bytes, o + at.logView) !== state.logView) return;
    // Only the primary's log, or one that a vote stands for, is anyone's business beyond what is committed.
    const limit = state.status === ReplicaStatus.viewChange || state.isPrimary ? log.lastIndex : state.committed;
    const base = readIndex(bytes, o + at.baseIndex);
    if (base < log.baseIndex) {
      offerSnapshot(from);
      return;
    }
    if (base > limit || !log.matches(base, readI32(bytes, o + at.baseChain), readI32(bytes, o + at.baseChain + 4))) return;
    state.counters[Counter.fetches_answered]!++;
    this.sender.chunk(from, base, limit);
  }

  /** Entries of the primary's log of this view (from it, or committed ones from a member). */
  onChunk(bytes: Uint8Array, o: number, now: Instant): void {
    const { state } = this;
    const { log } = state;
    const at = Chunk.at;
    if (state.isPrimary || state.status !== ReplicaStatus.normal) return;
    if (readI32(bytes, o + at.view) !== state.view || readI32(bytes, o + at.logView) !== state.logView) return;
    const base = readIndex(bytes, o + at.baseIndex);
    if (!log.matches(base, readI32(bytes, o + at.baseChain), readI32(bytes, o + at.baseChain + 4))) return;
    const end = this.apply(bytes, o, base);
    this.syncedTo(end);
    // A spare executes what it fetched at once: its turn to be the primary may come before the next Sync.
    state.commitTo(Math.min(this.heardCommitted, state.synced));
    const lastIndex = readIndex(bytes, o + at.lastIndex);
    this.answerWaiting(lastIndex);
    if (this.fetching && base === this.fetchBase) {
      this.fetching = false;
      this.fetchFailures = 0;
      // Without progress (a full log) the next Sync tries again, not this answer.
      if (end > base && state.synced < lastIndex) this.pull(now);
    }
    this.sender.syncAck(state.primary);
  }

  private advanceCommit(): void {
    const { state } = this;
    let committed = state.log.lastIndex;
    let needed = Infinity;
    for (let r = 0; r < state.n; r++) {
      if (r === state.id) continue;
      if (state.views.isMember(state.view, r) && this.matched[r]! < committed) committed = this.matched[r]!;
      if (this.needed[r]! < needed) needed = this.needed[r]!;
    }
    state.neededFrom = needed;
    state.commitTo(committed);
  }

  private syncedTo(index: number): void {
    if (index > this.state.synced) this.state.synced = index;
  }

  /** Asks for what follows `synced`: a member the primary; a spare a member that is not the primary, as long as that answers. */
  private pull(now: Instant): void {
    const { state } = this;
    if (this.fetching) return;
    this.fetching = true;
    this.fetchSentUs = now.monotonicUs;
    let source = state.primary;
    if (!state.isMember && this.fetchFailures % 2 === 0) {
      const others = state.views.members(state.view).filter((r) => r !== state.primary);
      if (others.length > 0) source = others[(this.fetchFailures / 2 + state.id) % others.length]!;
    }
    const base = state.synced;
    this.fetchBase = base;
    this.sender.fetch(source, state.view, state.logView, base, state.log.chainHi(base), state.log.chainLo(base));
  }

  /** The repair rule. Returns the index up to which the log equals the segment; short of its end when an entry is malformed or does not fit. */
  private apply(bytes: Uint8Array, o: number, base: number): number {
    const { state } = this;
    const { log } = state;
    let offset = o + Chunk.size;
    const end = offset + readU16(bytes, o + Chunk.at.entries);
    let index = base;
    let kept: KeptEntry[] | undefined;
    let firstNew = Infinity;
    while (offset < end) {
      const length = offset + 2 <= end ? ENTRY_HEADER_BYTES + readU16(bytes, offset) : Infinity;
      if (offset + 2 + length > end) break;
      offset += 2;
      if (!log.has(index + 1) || !log.equalsEntry(index + 1, bytes, offset, length)) {
        if (log.lastIndex > index) {
          kept = this.keep(index + 1);
          state.truncate(index);
        }
        if (!appendEntry(log, bytes, offset, length)) {
          state.makeRoom();
          if (!appendEntry(log, bytes, offset, length)) break;
        }
        state.appended();
        state.counters[Counter.entries_fetched]!++;
        if (firstNew === Infinity) firstNew = log.lastIndex;
      }
      index++;
      offset += length;
    }
    if (kept !== undefined) this.putBack(kept);
    if (state.isMember && firstNew !== Infinity) this.acknowledgeFrom(firstNew);
    return index;
  }

  /** Copies the entries from `from` on, which are about to be cut. */
  private keep(from: number): KeptEntry[] {
    const { state } = this;
    const kept: KeptEntry[] = [];
    for (let index = from; index <= state.log.lastIndex; index++) {
      const entry = new Uint8Array(state.entryBytes(index));
      state.log.writeEntry(index, entry, 0);
      kept.push({ entry, replyTo: state.log.replyTo[state.log.slot(index)]! });
    }
    return kept;
  }

  /** Appends kept entries whose key is above the last one and whose request is not in the log. */
  private putBack(kept: KeptEntry[]): void {
    const { state } = this;
    const { log } = state;
    for (const { entry, replyTo } of kept) {
      const timestampHi = readI32(entry, 0);
      const timestampLo = readI32(entry, 4);
      const sessionHi = readI32(entry, 8);
      const sessionLo = readI32(entry, 12);
      const request = readI32(entry, 16);
      const lane = readU16(entry, 20);
      if (log.compareToLast(timestampHi, timestampLo, sessionHi, sessionLo) <= 0) continue;
      const newest = state.tail.find(sessionHi, sessionLo, lane);
      if (newest !== 0 && log.request(newest) >= request) continue;
      const session = state.execution.sessions.find(sessionHi, sessionLo);
      if (session !== undefined && (lane >= session.lanes || session.request[lane]! >= request)) continue;
      if (!appendEntry(log, entry, 0, entry.length)) return;
      state.appended();
      log.replyTo[log.slot(log.lastIndex)] = replyTo;
      state.counters[Counter.entries_kept]!++;
    }
  }

  /** Tells the clients of entries that a repair brought or moved where they stand now, so that they need not ask. */
  private acknowledgeFrom(first: number): void {
    const { log, execution } = this.state;
    for (let index = first; index <= log.lastIndex; index++) {
      const sessionHi = log.sessionHi(index);
      const sessionLo = log.sessionLo(index);
      let to = log.replyTo[log.slot(index)]!;
      if (to < 0) to = execution.sessions.find(sessionHi, sessionLo)?.replyTo ?? -1;
      if (to < 0) continue;
      this.sender.reply(to, sessionHi, sessionLo, log.lane(index), log.request(index), ReplyStatus.ok, index, log.chainHi(index), log.chainLo(index), log.timestampHi(index), log.timestampLo(index), 0, NOTHING, 0, 0);
    }
  }

  /** `primaryLast`: where the primary's log ends; a wait for more than that was for nothing. */
  private answerWaiting(primaryLast: number): void {
    if (this.waiting.length === 0) return;
    const { state } = this;
    const { log } = state;
    const open: Waiting[] = [];
    for (const w of this.waiting) {
      if (log.has(w.index) && log.matches(w.index, w.chainHi, w.chainLo)) {
        this.sender.reply(w.from, w.sessionHi, w.sessionLo, w.lane, w.request, ReplyStatus.ok, w.index, w.chainHi, w.chainLo, log.timestampHi(w.index), log.timestampLo(w.index), 0, NOTHING, 0, 0);
      } else if (w.index > state.synced && w.index <= primaryLast) {
        open.push(w);
      }
    }
    this.waiting = open;
  }
}

interface KeptEntry {
  readonly entry: Uint8Array;
  readonly replyTo: number;
}
