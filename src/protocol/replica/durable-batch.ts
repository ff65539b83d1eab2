/**
 * What of a replica's state goes to the storage at the end of a turn: the hard state, and in modes that keep it what
 * changed of the log since the last turn.
 */
import { LastWords } from '../../wire/copy.js';
import type { HardState, PersistBatch, Snapshot } from '../contract.js';
import { ENTRY_HEADER_BYTES } from '../log/entry.js';
import type { Execution } from '../log/execution.js';
import type { Log } from '../log/log.js';

/** The part of a replica's state that is stored. */
interface Stored {
  readonly log: Log;
  readonly execution: Execution;
  readonly committed: number;
  readonly hardState: HardState;
}

export class DurableBatch implements PersistBatch {
  private readonly targets = new LastWords();
  /** The first entry that the storage does not have as it is now. */
  private dirtyFrom = Infinity;
  /** The base of the log that the storage has; −1: none of it counts any more. */
  private persistedBase = 0;

  constructor(private readonly state: Stored) {}

  /** Entries changed from `index` on. */
  mark(index: number): void {
    if (index < this.dirtyFrom) this.dirtyFrom = index;
  }

  /** The storage has a log that begins behind `base`. */
  begin(base: number): void {
    this.persistedBase = base;
  }

  /** The storage's copy does not count any more: the next batch has the whole log. */
  rewrite(): void {
    this.mark(this.state.log.baseIndex + 1);
    this.persistedBase = -1;
  }

  /** The storage has taken the batch. */
  taken(): void {
    this.dirtyFrom = Infinity;
    this.persistedBase = this.state.log.baseIndex;
  }

  get hardState(): HardState {
    return this.state.hardState;
  }

  get committed(): number {
    return this.state.committed;
  }

  get entriesFrom(): number {
    const { log } = this.state;
    return Math.max(Math.min(this.dirtyFrom, log.lastIndex + 1), log.baseIndex + 1);
  }

  get lastIndex(): number {
    return this.state.log.lastIndex;
  }

  get snapshot(): Snapshot | undefined {
    const { log, execution } = this.state;
    return log.baseIndex === this.persistedBase || execution.stable.index === 0 ? undefined : execution.stable;
  }

  readEntry(index: number, target: Uint8Array, offset: number): number {
    return this.state.log.writeEntry(index, this.targets.of(target), offset);
  }

  entryBytes(index: number): number {
    return ENTRY_HEADER_BYTES + this.state.log.operationLength(index);
  }
}
