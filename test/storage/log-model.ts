/**
 * A core that only persists: changes a log at random, passes the batches to durable storage, and knows every state that
 * may be found on disk.
 */
import type { Random } from '../../src/sim/random.js';
import type { HardState, PersistBatch, Recovered, Snapshot } from '../../src/protocol/contract.js';
import type { DurableStorage, DurableStorageEvents } from '../../src/storage/durable-storage.js';
import type { Stored } from '../../src/storage/log-reader.js';

/** The state after a batch. */
interface State {
  readonly token: number;
  readonly hardState: HardState;
  /** Entry i is entries[i − 1]; undefined up to `floor`. */
  readonly entries: readonly (Uint8Array | undefined)[];
  /** A log found on disk cannot begin before this. */
  readonly floor: number;
  readonly committed: number;
}

export class LogModel implements DurableStorageEvents {
  /** Tokens acknowledged so far. */
  acknowledged = 0;
  failures = 0;
  heals = 0;
  storage: DurableStorage | undefined;
  bug: unknown;
  private readonly snapshots = new Map<string, Snapshot>();
  private states: State[] = [];
  private token = 0;
  private hardState: HardState = { view: 0, logView: 0, incarnation: 0 };
  private entries: (Uint8Array | undefined)[] = [];
  private floor = 0;
  private base = 0;
  private committed = 0;
  private stable: Snapshot | undefined;
  private all = true;

  constructor(private readonly random: Random) {}

  /** A life begins, with nothing or with the result of `check`. */
  begin(recovered: Recovered): void {
    const { hardState, log } = recovered;
    this.states = [];
    this.token = 0;
    this.acknowledged = 0;
    this.hardState = {
      view: hardState?.view ?? 0,
      logView: hardState?.logView ?? 0,
      incarnation: (hardState?.incarnation ?? 0) + 1,
    };
    this.base = this.floor = log?.snapshot?.index ?? 0;
    this.stable = log?.snapshot;
    this.entries = [
      ...new Array<undefined>(this.base).fill(undefined),
      ...(log === undefined ? [] : [...log.entries].map((entry) => entry.slice())),
    ];
    this.committed = Math.max(this.base, log?.committed ?? 0);
    this.all = true;
    // Found on disk, with nothing newer yet: a crash before the first write brings it back, with the previous
    // incarnation.
    this.states.push({
      token: 0,
      hardState: hardState ?? this.hardState,
      entries: [...this.entries],
      floor: this.floor,
      committed: this.committed,
    });
    this.persist(this.entries.length + 1, undefined);
  }

  /** One batch of any kind. */
  step(): void {
    const { random } = this;
    const before = this.entries.length;
    if (random.chance(0.2)) this.hardState = { ...this.hardState, view: this.hardState.view + 1 };
    if (random.chance(0.1)) this.hardState = { ...this.hardState, logView: this.hardState.view };
    this.committed += random.below(this.entries.length - this.committed + 1);
    let from = before + 1;
    let snapshot: Snapshot | undefined;
    const kind = random.below(10);
    if (kind === 0) {
      this.floor =
        this.base =
        this.committed =
          before + random.below(5) + 1 - random.below(Math.max(1, before - this.committed));
      this.entries = new Array<undefined>(this.base).fill(undefined);
      snapshot = this.stable = this.snapshot(this.base);
      from = this.base + 1;
    } else if (kind <= 2) {
      from = this.committed + 1 + random.below(before - this.committed + 1);
      this.entries.length = from - 1;
    } else if (kind === 3 && this.committed > this.base) {
      this.stable = snapshot = this.snapshot(this.base + 1 + random.below(this.committed - this.base));
      this.base = snapshot.index;
    }
    for (let count = random.below(6); count > 0; count--) this.entries.push(this.entry());
    this.persist(Math.max(from, this.base + 1), snapshot);
  }

  /**
   * What is wrong with what a start finds; undefined if it is the state after some batch, and not older than the last
   * acknowledged one.
   */
  check(stored: Stored): string | undefined {
    if (stored.lost !== undefined) return `the log is lost: ${stored.lost}`;
    const { log } = stored;
    if (log === undefined)
      return this.acknowledged === 0 && this.states[0]!.entries.length === 0 ? undefined : 'there is no log';
    const wrong: string[] = [];
    for (const state of this.states) {
      if (state.token < this.acknowledged) continue;
      const difference = this.difference(state, log);
      if (difference === undefined) return undefined;
      wrong.push(`${state.token}: ${difference}`);
    }
    return `what was found is the state of no batch from ${this.acknowledged} on (${wrong.join('; ')})`;
  }

  get isAcknowledged(): boolean {
    return this.acknowledged === this.token;
  }

  /** Index and entry count of the present state, for messages. */
  describe(): string {
    return `${this.token} batches, ${this.acknowledged} acknowledged, entries ${this.base + 1} to ${this.entries.length}, ${this.failures} failures`;
  }

  persisted(token: number): void {
    if (token <= this.acknowledged || token > this.token)
      this.bug = new Error(`token ${token} was reported, after ${this.acknowledged} of ${this.token}`);
    this.acknowledged = token;
  }

  rewrite(): void {
    this.all = true;
    this.persist(this.base + 1, this.stable);
  }

  failed(): void {
    this.failures++;
  }

  healed(): void {
    this.heals++;
  }

  broken(error: unknown): void {
    this.bug = error;
  }

  private difference(state: State, log: NonNullable<Stored['log']>): string | undefined {
    const base = log.snapshot?.index ?? 0;
    const { view, logView, incarnation } = log.hardState;
    if (
      view !== state.hardState.view ||
      logView !== state.hardState.logView ||
      incarnation !== state.hardState.incarnation
    )
      return `hard state ${view}, ${logView}, ${incarnation}`;
    if (base + log.entries.length !== state.entries.length)
      return `last index ${base + log.entries.length} instead of ${state.entries.length}`;
    if (base < state.floor) return `base ${base} below ${state.floor}`;
    if (log.committed !== state.committed && state.token > 0)
      return `committed ${log.committed} instead of ${state.committed}`;
    if (log.snapshot !== undefined) {
      const known = this.snapshots.get(`${base},${log.snapshot.chainHi}`);
      if (known === undefined || Buffer.compare(known.bytes, log.snapshot.bytes) !== 0)
        return `snapshot ${base} was never taken`;
    }
    for (let i = 0; i < log.entries.length; i++)
      if (Buffer.compare(log.entries[i]!, state.entries[base + i]!) !== 0) return `entry ${base + i + 1} differs`;
    return undefined;
  }

  private persist(entriesFrom: number, snapshot: Snapshot | undefined): void {
    const token = ++this.token;
    const { entries, hardState, committed } = this;
    const batch: PersistBatch = {
      hardState,
      committed,
      entriesFrom: this.all ? this.base + 1 : entriesFrom,
      lastIndex: entries.length,
      snapshot: this.all ? this.stable : snapshot,
      entryBytes: (index) => entries[index - 1]!.length,
      readEntry: (index, target, offset) => {
        target.set(entries[index - 1]!, offset);
        return entries[index - 1]!.length;
      },
    };
    this.all = false;
    this.states.push({ token, hardState, entries: [...entries], floor: this.floor, committed });
    this.storage!.persist(token, batch);
  }

  private snapshot(index: number): Snapshot {
    const snapshot = {
      index,
      chainHi: this.random.next() | 0,
      chainLo: this.random.next() | 0,
      bytes: this.bytes(1500),
    };
    this.snapshots.set(`${index},${snapshot.chainHi}`, snapshot);
    return snapshot;
  }

  private entry(): Uint8Array {
    return this.bytes(this.random.chance(0.1) ? 6000 : 200);
  }

  private bytes(below: number): Uint8Array {
    const bytes = new Uint8Array(24 + this.random.below(below));
    for (let i = 0; i < bytes.length; i++) bytes[i] = this.random.below(256);
    return bytes;
  }
}
