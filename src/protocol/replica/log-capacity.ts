/**
 * When a snapshot is due, and how much of the log is kept behind it. May be changed freely: what is cut is committed and
 * covered by a stable snapshot, whatever is chosen here (ReplicaState.cut holds that).
 *
 * A snapshot is due when the log is SNAPSHOT_TIMES as long as the last snapshot (Ongaro, "Consensus: Bridging Theory and
 * Practice", 5.1.3), but not before the log fills SNAPSHOT_FILL_MIN of its capacity, below which a snapshot is not worth
 * its cost, and at the latest at SNAPSHOT_FILL_MAX, because the rest has to be kept free. If the log is on disk, so is
 * each snapshot, and SNAPSHOT_FILL_MAX counts alone.
 *
 * A replica that got its state from another one is in no haste: it has a snapshot, of that state. Until it has caught up it
 * takes one at SNAPSHOT_FILL_MAX at the earliest (catch-up.ts), and has its time for the log.
 *
 * A snapshot in pieces (snapshot-pace.ts) begins when it is due; at LAST_FILL it is finished, whatever that takes.
 *
 * Replicas take snapshots at indexes that all of them choose alike, so that they can be compared (state-digests.ts):
 * multiples of a power of two, which is about as many entries as make one due. A replica whose log stays full behind the
 * last cut takes the next one sooner, at a multiple of an eighth of that, which others in that state choose as well.
 */
import type { Limits } from '../config.js';
import type { Execution } from '../log/execution.js';
import type { Log } from '../log/log.js';

const SNAPSHOT_TIMES = 4;
const SNAPSHOT_FILL_MIN = 1 / 16;
export const SNAPSHOT_FILL_MAX = 0.5;
/**
 * Entries that are kept in front of the snapshot for replicas that are a little behind: this part of what makes a
 * snapshot due, and less where one was due only at SNAPSHOT_FILL_MAX. A spare that is always handed a snapshot has no
 * state of its own to compare with the others'.
 */
const KEPT_PART = 0.5;
const KEPT_PART_AT_MOST_FILL = 0.125;
/**
 * Above this fill the log is no longer kept for replicas that lag: they get the snapshot. Of what is kept for those that
 * fetch it (served.ts), the part before goes first; the rest is retained apart (retained-log.ts).
 */
const CUT_FILL = 0.75;
/**
 * From this fill on, entries that a replica will ask for which fetches this one's state are copied, before they are cut
 * (retained-log.ts). Up to the same fill of that copy, the snapshot that one replica fetches is offered to others as well
 * (served.ts).
 */
export const SHARED_FILL = 0.5;
/** Most that is retained for transfers, in entries and bytes, as a multiple of what the log holds. */
export const RETAINED_TIMES = 4;
/** Part of the pitch at whose multiples a snapshot is taken that the log cannot wait for. */
const HASTE = 1 / 8;
/** From this fill on, any snapshot that makes any room is taken. */
export const LAST_FILL = 0.9;

/** Returned when nothing is to be cut. */
const NO_CUT = -1;

export class LogCapacity {
  constructor(
    private readonly log: Log,
    private readonly execution: Execution,
    private readonly limits: Limits,
    /** The storage has the log, and so each snapshot as well. */
    private readonly keepsLog: boolean,
  ) {
    // Until the log is long enough to show how long its entries are.
    const { logEntries } = limits;
    execution.setPitch(
      nearestPowerOfTwo(keepsLog ? SNAPSHOT_FILL_MAX * logEntries : SNAPSHOT_FILL_MIN * KEPT_PART * logEntries),
    );
  }

  /**
   * Takes a snapshot if one is due. Returns the index up to which the log is to be cut, or NO_CUT.
   * @param neededFrom some other replica may still ask for entries behind this index
   * @param fetchedFrom one that fetches a snapshot from here will; Infinity: none does
   */
  bound(committed: number, neededFrom: number, fetchedFrom: number): number {
    const { log, execution } = this;
    execution.takeDueSnapshot();
    const fill = log.fill();
    if (fill < SNAPSHOT_FILL_MIN) return NO_CUT;
    const due = this.snapshotFill();
    // As many entries as make one due, of the length that they have now.
    const entries = ((log.lastIndex - log.baseIndex) * due) / fill;
    const kept = Math.floor(entries * (due < SNAPSHOT_FILL_MAX ? KEPT_PART : KEPT_PART_AT_MOST_FILL));
    const pitch = nearestPowerOfTwo(entries - kept);
    execution.setPitch(pitch);
    if (fill < CUT_FILL) execution.takeTime();
    if (fill < due) return NO_CUT;
    // A snapshot before its time will do if nothing else makes room, and one of any index in the end: the cut behind the
    // stable one, which may have taken long, comes first. A provisional one first gets the time to become stable; a new
    // one is taken after half of that at the earliest.
    if (fill >= LAST_FILL) execution.finishSnapshot();
    const newest = execution.newestSnapshot;
    const isCut = execution.stable.index <= log.baseIndex;
    const isOverdue = isCut && fill >= CUT_FILL && execution.executed - newest >= entries / 2;
    if (fill >= LAST_FILL && (isOverdue || (newest === log.baseIndex && execution.executed > newest)))
      execution.takeSnapshot(committed);
    else if (isOverdue) execution.hasten(Math.max(1, pitch * HASTE));
    const { index } = execution.stable;
    if (fill < CUT_FILL) return Math.min(index - kept, neededFrom, fetchedFrom);
    return fetchedFrom > log.baseIndex ? Math.min(index, fetchedFrom) : index;
  }

  private snapshotFill(): number {
    if (this.keepsLog) return SNAPSHOT_FILL_MAX;
    const share = (SNAPSHOT_TIMES * this.execution.stable.bytes.length) / this.limits.logBytes;
    return Math.min(SNAPSHOT_FILL_MAX, Math.max(SNAPSHOT_FILL_MIN, share));
  }
}

/**
 * 1 at least. Of the two powers around a value, the nearer one by ratio, so that replicas whose estimates differ a little
 * choose the same.
 */
function nearestPowerOfTwo(value: number): number {
  return 2 ** Math.max(0, Math.round(Math.log2(Math.max(1, value))));
}
