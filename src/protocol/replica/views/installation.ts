/**
 * Installs the starting log of a view, whole or not at all.
 *
 * Rule S guarded here (the change of `log` in `Start` and `SyncInstall` in model/JITPaxos.tla): the log that a replica takes up is exactly
 * the one that was asked for, up to its last chain, and holds every entry that is committed here.
 *
 * A replica that joins a view adopts a log that another replica holds: the primary the one of the vote it chose, all
 * others the primary's. Until it has all of it, its own log stays as it is, because its vote still stands for that one
 * if the view comes to nothing. So what is fetched is staged apart, a snapshot first when the entries needed are no
 * longer kept, and takes effect in one step, when the last chain is the one that was asked for.
 */
import { Chunk, ReplicaStatus, SnapshotChunk, SnapshotFetch, SnapshotOffer } from '../../../wire/messages.js';
import { readI32, readIndex, readU16, writeI32 } from '../../../wire/u64.js';
import type { Hasher, Instant, Snapshot } from '../../contract.js';
import { Counter } from '../../counters.js';
import type { Divergence } from '../divergence.js';
import { invariant } from '../../invariant.js';
import { ENTRY_HEADER_BYTES } from '../../log/entry.js';
import { appendEntry, entryFollows, keyFollows } from '../../log/log.js';
import type { ReplicaState } from '../replica-state.js';
import type { Sender } from '../replica-sender.js';
import { decodeSnapshot, followsSnapshot, snapshotFault } from '../../log/snapshots.js';

/** Largest snapshot that is transferred. */
const MAX_SNAPSHOT_BYTES = 0x7fffffff;
/** Room for a snapshot that begins to arrive; it doubles as bytes come, because what an offer says is no reason to allocate gigabytes. */
const FIRST_SNAPSHOT_BYTES = 1 << 16;

/** A source is given up after so many times `fetchTimeoutUs`; twice as many after each that was in vain, so often. */
const SOURCE_TIMEOUTS = 4;
const VAIN_MAX = 4;
/** A snapshot that comes damaged so often was damaged before it left. */
const DAMAGED_MAX = 3;
/** Messages of a transfer that wait for those before them. */
const AHEAD_MAX = 128;

/** What a replica says of its log: that entry is committed, under that chain. */
export interface Claim {
  readonly from: number;
  readonly committed: number;
  readonly committedChainHi: number;
  readonly committedChainLo: number;
}

/** The log to install. */
export interface Target {
  /** View that is being joined; the source is in it too. */
  readonly view: number;
  /** logView of the source's log. */
  readonly logView: number;
  readonly source: number;
  readonly lastIndex: number;
  readonly chainHi: number;
  readonly chainLo: number;
  /** Entries of the target up to here are known to be committed. */
  readonly committed: number;
  /** What the log has to hold: where it does not, nothing of it is installed, and `refused` is called. */
  readonly claims: readonly Claim[];
}

/** Asked for by nobody, so nothing is claimed. */
const NO_CLAIMS: readonly Claim[] = [];

interface StagedSnapshot {
  readonly index: number;
  readonly chainHi: number;
  readonly chainLo: number;
  readonly digestHi: number;
  readonly digestLo: number;
  readonly length: number;
  /** Grows up to `length`. */
  bytes: Uint8Array;
  received: number;
}

/** A snapshot that cannot be taken up. The source may have a better one later. */
interface Unusable extends Pick<StagedSnapshot, 'index' | 'digestHi' | 'digestLo'> {
  /** How often it came damaged; Infinity: it came as it was sent. */
  readonly times: number;
}

export class Installation {
  target: Target | undefined;
  /** Monotonic µs at which something last arrived; for whoever may give the source up. */
  progressUs = 0;

  /** Where the staged part begins and ends. */
  private baseIndex = 0;
  private endIndex = 0;
  private endChainHi = 0;
  private endChainLo = 0;
  private entries: Uint8Array[] = [];
  private stagedBytes = 0;
  /** Waits for a source that were in vain, in a row. */
  private vain = 0;
  /** Messages of a transfer that came before their turn, by the index or the offset that they begin behind. */
  private readonly ahead = new Map<number, Uint8Array>();
  private arriving: StagedSnapshot | undefined;
  private snapshot: Snapshot | undefined;
  /** What `snapshot` was offered as. */
  private arrived: StagedSnapshot | undefined;
  /** The last such snapshot of each source. */
  private readonly unusable = new Map<number, Unusable>();
  /** How often somebody else than a primary was to be asked. */
  private turns = 0;
  private askedUs = 0;
  /** Digest of the snapshot offered last: hashing a large one takes milliseconds. */
  private offered: Snapshot | undefined;
  private readonly offeredDigest = new Uint8Array(8);
  private readonly digest = new Uint8Array(8);

  /**
   * @param installed called when the target's log is in place
   * @param refused called when the target's log, which was dropped, contradicts that claim
   */
  constructor(
    private readonly state: ReplicaState,
    private readonly sender: Sender,
    private readonly hasher: Hasher,
    private readonly divergence: Divergence,
    private readonly installed: (target: Target, now: Instant) => void,
    private readonly refused: (target: Target, claim: Claim, now: Instant) => void,
  ) {}

  get wakeAtUs(): number {
    return this.target === undefined ? Infinity : this.askedUs + this.state.config.timings.fetchTimeoutUs;
  }

  /** Begins; may be done at once when nothing has to be fetched. */
  start(target: Target, now: Instant): void {
    const { state } = this;
    this.abandon();
    this.target = target;
    this.progressUs = now.monotonicUs;
    state.transition(
      'install',
      `log of view ${target.logView} up to ${target.lastIndex} from replica ${target.source}`,
    );
    if (state.log.matches(target.lastIndex, target.chainHi, target.chainLo)) {
      for (const claim of target.claims) {
        const { committed } = claim;
        if (
          committed >= state.log.baseIndex &&
          !this.agrees(claim, committed, state.log.chainHi(committed), state.log.chainLo(committed), now)
        )
          return;
      }
      this.restage(target.lastIndex, target.chainHi, target.chainLo);
      this.complete(now);
      return;
    }
    this.restart();
    if (this.claimsHold(now)) this.ask(now);
  }

  /** Stages from the own log on. Everything committed is in every log that may be chosen, and in this one. */
  private restart(): void {
    const { log, committed } = this.state;
    const base = Math.max(committed, log.baseIndex);
    this.snapshot = undefined;
    this.restage(base, log.chainHi(base), log.chainLo(base));
  }

  /** Drops what was staged. */
  abandon(): void {
    this.target = undefined;
    this.entries = [];
    this.stagedBytes = 0;
    this.arriving = undefined;
    this.snapshot = undefined;
    this.arrived = undefined;
    this.ahead.clear();
  }

  tick(now: Instant): void {
    if (this.target !== undefined && now.monotonicUs - this.askedUs >= this.state.config.timings.fetchTimeoutUs)
      this.ask(now);
  }

  /** The source brought nothing for so long that it is given up. It may only be far away: the next one is waited for twice as long. */
  bringsNothing(now: Instant): boolean {
    if (now.monotonicUs - this.progressUs < SOURCE_TIMEOUTS * 2 ** this.vain * this.state.config.timings.fetchTimeoutUs)
      return false;
    this.vain = Math.min(this.vain + 1, VAIN_MAX);
    return true;
  }

  /** True when the chunk was for this. */
  onChunk(bytes: Uint8Array, o: number, from: number, now: Instant): boolean {
    const { target, state } = this;
    const at = Chunk.at;
    if (
      target === undefined ||
      from !== target.source ||
      readI32(bytes, o + at.view) !== target.view ||
      readI32(bytes, o + at.logView) !== target.logView
    )
      return false;
    if (this.arriving !== undefined) return true;
    const base = readIndex(bytes, o + at.baseIndex);
    if (base !== this.endIndex) {
      if (base > this.endIndex && base < target.lastIndex)
        this.keepAhead(base, bytes, o, Chunk.size + readU16(bytes, o + at.entries));
      return true;
    }
    if (
      readI32(bytes, o + at.baseChain) !== this.endChainHi ||
      readI32(bytes, o + at.baseChain + 4) !== this.endChainLo
    )
      return true;
    let offset = o + Chunk.size;
    const end = offset + readU16(bytes, o + at.entries);
    const before = this.endIndex;
    let longest = 0;
    while (offset + 2 <= end && this.endIndex < target.lastIndex) {
      const length = ENTRY_HEADER_BYTES + readU16(bytes, offset);
      offset += 2;
      if (offset + length > end) break;
      if (!this.isInOrder(bytes, offset)) {
        this.divergence.impossible(
          from,
          `sends an entry ${this.endIndex + 1} whose key is not above the one before it`,
          now,
        );
        state.transition('install-failed', `entry ${this.endIndex + 1} is not in key order`);
        this.abandon();
        return true;
      }
      this.stage(bytes, offset, length);
      if (!this.claimsHold(now)) return true;
      longest = Math.max(longest, length - ENTRY_HEADER_BYTES);
      offset += length;
    }
    if (
      longest > state.log.operationBytes ||
      this.stagedBytes > state.config.limits.logBytes ||
      this.entries.length > state.config.limits.logEntries
    ) {
      state.transition(
        'install-failed',
        'the log to install does not fit this replica: limits differ between replicas',
      );
      this.abandon();
      return true;
    }
    if (this.endIndex === before) return true;
    this.progressUs = now.monotonicUs;
    if (this.endIndex < target.lastIndex) {
      const next = this.takeAhead(this.endIndex);
      if (next !== undefined) this.onChunk(next, 0, from, now);
      else this.askBehind(bytes[o + at.more] === 1 || this.ahead.size > 0, now);
    } else if (this.endChainHi === target.chainHi && this.endChainLo === target.chainLo) {
      this.complete(now);
    } else {
      state.transition('install-failed', `chain of ${target.lastIndex} is not the one asked for`);
      this.abandon();
    }
    return true;
  }

  /** The source no longer has the entries: its snapshot comes first. */
  onSnapshotOffer(bytes: Uint8Array, o: number, from: number, now: Instant): void {
    const at = SnapshotOffer.at;
    // What a snapshot covers is committed.
    if (
      this.divergence.contradicts(
        from,
        readIndex(bytes, o + at.index),
        readI32(bytes, o + at.chain),
        readI32(bytes, o + at.chain + 4),
        now,
      )
    )
      return;
    const index = readIndex(bytes, o + at.index);
    const digestHi = readI32(bytes, o + at.digest);
    const digestLo = readI32(bytes, o + at.digest + 4);
    if (this.timesUnusable(from, { index, digestHi, digestLo }) >= DAMAGED_MAX) return; // it brings nothing, and another source is taken
    if (this.target === undefined) this.startInView(bytes, o, from, now);
    const { target } = this;
    if (
      target === undefined ||
      from !== target.source ||
      readI32(bytes, o + at.view) !== target.view ||
      readI32(bytes, o + at.logView) !== target.logView
    )
      return;
    const length = readI32(bytes, o + at.length);
    const chainHi = readI32(bytes, o + at.chain);
    const chainLo = readI32(bytes, o + at.chain + 4);
    if (index <= this.endIndex || length < 0 || length > MAX_SNAPSHOT_BYTES) return;
    if (index > target.lastIndex) {
      // A log that a vote stands for is frozen. One of the view itself went on, and was cut beyond what was asked for:
      // what the snapshot covers is committed in that view, so it is as good a log to join with, and the only one left.
      if (target.logView !== target.view) return;
      this.target = { ...target, lastIndex: index, chainHi, chainLo, committed: index };
    }
    if (
      this.arriving !== undefined &&
      this.arriving.index === index &&
      this.arriving.chainHi === chainHi &&
      this.arriving.chainLo === chainLo &&
      this.arriving.length === length
    )
      return;
    this.ahead.clear();
    this.arriving = {
      index,
      chainHi,
      chainLo,
      digestHi,
      digestLo,
      length,
      bytes: new Uint8Array(Math.min(length, FIRST_SNAPSHOT_BYTES)),
      received: 0,
    };
    this.progressUs = now.monotonicUs;
    this.ask(now);
  }

  /** In the view it is in, a replica takes a snapshot when it lags so far that the entries it needs are cut everywhere. */
  private startInView(bytes: Uint8Array, o: number, from: number, now: Instant): void {
    const { state } = this;
    const at = SnapshotOffer.at;
    const index = readIndex(bytes, o + at.index);
    if (
      state.status !== ReplicaStatus.normal ||
      state.isPrimary ||
      readI32(bytes, o + at.view) !== state.view ||
      index <= state.synced
    )
      return;
    const chainHi = readI32(bytes, o + at.chain);
    const chainLo = readI32(bytes, o + at.chain + 4);
    // What a snapshot covers is committed, so a log that agrees with it there is the primary's up to there.
    if (state.log.matches(index, chainHi, chainLo)) state.confirm(index);
    else
      this.start(
        {
          view: state.view,
          logView: state.view,
          source: from,
          lastIndex: index,
          chainHi,
          chainLo,
          committed: index,
          claims: NO_CLAIMS,
        },
        now,
      );
  }

  onSnapshotChunk(bytes: Uint8Array, o: number, from: number, now: Instant): void {
    const { target, arriving, state } = this;
    const at = SnapshotChunk.at;
    if (target === undefined || arriving === undefined || from !== target.source) return;
    if (
      readIndex(bytes, o + at.index) !== arriving.index ||
      readI32(bytes, o + at.chain) !== arriving.chainHi ||
      readI32(bytes, o + at.chain + 4) !== arriving.chainLo
    )
      return;
    const length = readU16(bytes, o + at.data);
    const offset = readI32(bytes, o + at.offset);
    if (offset > arriving.received && offset < arriving.length)
      this.keepAhead(offset, bytes, o, SnapshotChunk.size + length);
    if (offset !== arriving.received || arriving.received + length > arriving.length || length === 0) return;
    if (arriving.received + length > arriving.bytes.length) {
      const larger = new Uint8Array(
        Math.min(arriving.length, Math.max(2 * arriving.bytes.length, arriving.received + length)),
      );
      larger.set(arriving.bytes);
      arriving.bytes = larger;
    }
    arriving.bytes.set(bytes.subarray(o + SnapshotChunk.size, o + SnapshotChunk.size + length), arriving.received);
    arriving.received += length;
    this.progressUs = now.monotonicUs;
    if (arriving.received < arriving.length) {
      const next = this.takeAhead(arriving.received);
      if (next !== undefined) this.onSnapshotChunk(next, 0, from, now);
      else this.askBehind(bytes[o + at.more] === 1 || this.ahead.size > 0, now);
      return;
    }
    this.arriving = undefined;
    this.ahead.clear();
    this.hasher.hash64(arriving.bytes, 0, arriving.bytes.length, this.digest, 0);
    if (readI32(this.digest, 0) !== arriving.digestHi || readI32(this.digest, 4) !== arriving.digestLo) {
      this.noteUnusable(from, arriving, this.timesUnusable(from, arriving) + 1);
      state.transition('snapshot-refused', `snapshot of ${arriving.index} from replica ${from} is damaged`);
      this.ask(now);
      return;
    }
    const snapshot = decodeSnapshot(arriving.bytes);
    if (
      snapshot === undefined ||
      snapshot.index !== arriving.index ||
      snapshot.chainHi !== arriving.chainHi ||
      snapshot.chainLo !== arriving.chainLo
    ) {
      this.refuseSnapshot(arriving, from, 'the header is that of another one, or of none', now);
      return;
    }
    const fault = snapshotFault(snapshot, state.config.limits);
    if (fault !== undefined) {
      this.refuseSnapshot(arriving, from, fault, now);
      return;
    }
    this.arrived = arriving;
    this.snapshot = snapshot;
    this.restage(snapshot.index, snapshot.chainHi, snapshot.chainLo);
    if (!this.claimsHold(now)) return;
    if (snapshot.index === target.lastIndex) this.complete(now);
    else this.ask(now);
  }

  /** What a source sent undamaged cannot be a snapshot of its cluster. It is named, nothing has changed, and the same snapshot is not fetched from it again. */
  private refuseSnapshot(snapshot: Omit<Unusable, 'times'>, from: number, fault: string, now: Instant): void {
    const { state } = this;
    this.noteUnusable(from, snapshot, Infinity);
    this.divergence.impossible(from, `sends a snapshot of ${snapshot.index} that cannot be one: ${fault}`, now);
    state.transition('snapshot-refused', `snapshot of ${snapshot.index} from replica ${from} cannot be one: ${fault}`);
    // In a view change the source is given up when it has brought nothing for long enough; here whoever is asked next offers his.
    if (state.status === ReplicaStatus.normal) this.abandon();
    else this.restart();
  }

  /** Whom to ask for the log of the view that `primary` leads: another replica in it, where the snapshot of that one was of no use. The last chain is the primary's, whoever brings the entries. */
  sourceFor(primary: number): number {
    const spoilt = (r: number): boolean => (this.unusable.get(r)?.times ?? 0) >= DAMAGED_MAX;
    if (!spoilt(primary)) return primary;
    const { n, id } = this.state;
    const sources = Array.from({ length: n }, (_, r) => r).filter((r) => r !== id && (r === primary || !spoilt(r)));
    return sources[this.turns++ % sources.length]!;
  }

  private noteUnusable(from: number, { index, digestHi, digestLo }: Omit<Unusable, 'times'>, times: number): void {
    this.unusable.set(from, { index, digestHi, digestLo, times });
  }

  private timesUnusable(from: number, { index, digestHi, digestLo }: Omit<Unusable, 'times'>): number {
    const known = this.unusable.get(from);
    return known !== undefined && known.index === index && known.digestHi === digestHi && known.digestLo === digestLo
      ? known.times
      : 0;
  }

  /** Whether the key of the entry in wire form at `bytes[offset]` is above that of what it is staged behind. */
  private isInOrder(bytes: Uint8Array, offset: number): boolean {
    const previous = this.entries.at(-1);
    if (previous !== undefined) return keyFollows(previous, 0, bytes, offset);
    if (this.snapshot !== undefined) return followsSnapshot(this.snapshot, bytes, offset);
    const { log } = this.state;
    return this.baseIndex < log.baseIndex || entryFollows(log, this.baseIndex, bytes, offset); // behind the base nothing is cut that is not the same
  }

  /** Offers the stable snapshot to one who asks for entries that are cut. */
  readonly offerSnapshot = (to: number): void => {
    const { stable } = this.state.execution;
    if (this.offered !== stable) {
      this.hasher.hash64(stable.bytes, 0, stable.bytes.length, this.offeredDigest, 0);
      this.offered = stable;
    }
    this.sender.snapshotOffer(to, readI32(this.offeredDigest, 0), readI32(this.offeredDigest, 4));
  };

  onSnapshotFetch(bytes: Uint8Array, o: number, from: number): void {
    const { state } = this;
    const at = SnapshotFetch.at;
    const { stable } = state.execution;
    if (readI32(bytes, o + at.view) !== state.view) return;
    const offset = readI32(bytes, o + at.offset);
    // A newer snapshot took its place: offer that one, the other side starts over.
    if (
      readIndex(bytes, o + at.index) !== stable.index ||
      readI32(bytes, o + at.chain) !== stable.chainHi ||
      readI32(bytes, o + at.chain + 4) !== stable.chainLo
    ) {
      this.offerSnapshot(from);
      return;
    }
    if (offset < 0 || offset >= stable.bytes.length) return;
    this.sender.snapshotChunks(from, offset, readU16(bytes, o + at.room));
  }

  /** One answer is many messages, which may overtake each other: what came too soon waits. */
  private keepAhead(at: number, bytes: Uint8Array, o: number, length: number): void {
    // Those that are behind what arrived meanwhile are never taken.
    if (this.ahead.size >= AHEAD_MAX) this.ahead.clear();
    this.ahead.set(at, bytes.slice(o, o + length));
  }

  /** The message that begins there, when it came before its turn. */
  private takeAhead(at: number): Uint8Array | undefined {
    const message = this.ahead.get(at);
    this.ahead.delete(at);
    return message;
  }

  /** Something came. @param more what follows it was sent as well: it is asked for only when it does not come */
  private askBehind(more: boolean, now: Instant): void {
    if (more) this.askedUs = now.monotonicUs;
    else this.ask(now);
  }

  private ask(now: Instant): void {
    const target = this.target!;
    this.askedUs = now.monotonicUs;
    if (this.arriving !== undefined)
      this.sender.snapshotFetch(
        target.source,
        target.view,
        this.arriving.index,
        this.arriving.chainHi,
        this.arriving.chainLo,
        this.arriving.received,
      );
    else this.sender.fetch(target.source, target.view, target.logView, this.endIndex, this.endChainHi, this.endChainLo);
  }

  /** What was claimed of the entry that the staged part ends with holds. Otherwise the staged log is dropped. */
  private claimsHold(now: Instant): boolean {
    return this.target!.claims.every((claim) =>
      this.agrees(claim, this.endIndex, this.endChainHi, this.endChainLo, now),
    );
  }

  private agrees(claim: Claim, index: number, chainHi: number, chainLo: number, now: Instant): boolean {
    if (claim.committed !== index || (claim.committedChainHi === chainHi && claim.committedChainLo === chainLo))
      return true;
    const target = this.target!;
    this.abandon();
    this.refused(target, claim, now);
    return false;
  }

  private restage(index: number, chainHi: number, chainLo: number): void {
    this.entries = [];
    this.stagedBytes = 0;
    this.baseIndex = index;
    this.endIndex = index;
    this.endChainHi = chainHi;
    this.endChainLo = chainLo;
  }

  /** Keeps an entry and extends the chain over it. */
  private stage(bytes: Uint8Array, offset: number, length: number): void {
    const record = new Uint8Array(8 + length);
    writeI32(record, 0, this.endChainHi);
    writeI32(record, 4, this.endChainLo);
    record.set(bytes.subarray(offset, offset + length), 8);
    this.state.chain.hash64(record, 0, record.length, this.digest, 0);
    this.endChainHi = readI32(this.digest, 0);
    this.endChainLo = readI32(this.digest, 4);
    this.entries.push(record.subarray(8));
    this.stagedBytes += record.length;
    this.endIndex++;
  }

  /** Where the staged log contradicts what is committed here, in words: then it takes the place of nothing. Committed entries may have come since it was begun. */
  private contradicting(): string | undefined {
    const { committed, log } = this.state;
    const { lastIndex } = this.target!;
    if (lastIndex < committed)
      return `has a log of ${lastIndex} entries for a view in which ${committed} entries have to be: so many are committed here`;
    if (this.snapshot !== undefined && this.snapshot.index < committed)
      return `sends the snapshot of ${this.snapshot.index}, and ${committed} entries are committed here`;
    for (let i = 0, index = this.baseIndex + 1; index <= committed && i < this.entries.length; i++, index++) {
      const entry = this.entries[i]!;
      if (log.has(index) && !log.equalsEntry(index, entry, 0, entry.length))
        return `sends another entry ${index} than the one that is committed here`;
    }
    return undefined;
  }

  /** Puts the staged log in place of the own one. */
  private complete(now: Instant): void {
    this.vain = 0;
    const { state } = this;
    const { log } = state;
    const target = this.target!;
    const { snapshot, entries } = this;
    if (
      state.status === ReplicaStatus.normal &&
      (target.lastIndex <= state.synced || log.matches(target.lastIndex, target.chainHi, target.chainLo))
    ) {
      // Meanwhile the entries came by themselves.
      state.confirm(target.lastIndex);
      this.abandon();
      return;
    }
    const other = this.contradicting();
    if (other !== undefined) {
      this.divergence.impossible(target.source, other, now);
      state.transition('install-failed', 'it contradicts what is committed here');
      this.abandon();
      return;
    }
    invariant(
      this.endIndex === target.lastIndex && this.endChainHi === target.chainHi && this.endChainLo === target.chainLo,
      'what takes the place of a log is whole',
    );
    const fault = snapshot === undefined ? undefined : state.installSnapshot(snapshot);
    if (fault !== undefined) {
      this.refuseSnapshot(this.arrived!, target.source, fault, now);
      return;
    }
    let index = this.baseIndex;
    for (const entry of entries) {
      // What was committed meanwhile is the same, and may be cut already.
      if (index < state.committed || (log.has(index + 1) && log.equalsEntry(index + 1, entry, 0, entry.length))) {
        index++;
        continue;
      }
      state.truncate(index);
      if (!appendEntry(log, entry, 0, entry.length)) {
        // What is committed goes behind a snapshot. The rest stands in the source's log, whose base is committed too, so it fits.
        state.commitTo(Math.min(target.committed, index));
        state.makeRoom();
        invariant(appendEntry(log, entry, 0, entry.length), 'a staged log fits the log that it is installed in');
      }
      state.appended();
      state.counters[Counter.entries_fetched]!++;
      index++;
    }
    state.truncate(target.lastIndex);
    invariant(
      log.matches(target.lastIndex, target.chainHi, target.chainLo),
      'the installed log ends with the chain that was asked for',
    );
    this.abandon();
    this.installed(target, now);
  }
}
