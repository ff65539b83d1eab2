/**
 * What watches were told, against what was committed.
 *
 * Rule: a watch is told each committed change of its keys behind the revision that it began from, once, in the order of
 * their revisions, and nothing that is not committed; or it is told that it has lost changes, after all that came before.
 */
import type { ReplicaCore } from '../../src/protocol/replica/replica-core.js';
import { ChangeKind, ChangeRing, type WatchableStore } from '../../src/machine/store/change-ring.js';
import type { StoreChange } from '../../src/client/watch-reader.js';

export type WatchRule = 'watch-committed' | 'watch-order' | 'watch-gap' | 'watch-value' | 'store-differs';

export class WatchViolation extends Error {
  constructor(
    readonly rule: WatchRule,
    detail: string,
  ) {
    super(`${rule}: ${detail}`);
  }
}

interface Change {
  readonly kind: string;
  readonly key: string;
}

/** A change that a replica has executed. */
interface Executed extends Change {
  readonly revision: number;
  readonly index: number;
}

const KINDS = Object.entries(ChangeKind).map(([name]) => name);
const decoder = new TextDecoder();

/**
 * By ring: what was executed and is not known to be committed. A ring forgets some of that, if much is executed at once or
 * before a primary hears that it is committed. So the changes are noted when they are made.
 */
const executed = new WeakMap<ChangeRing, Executed[]>();

const { add, undoTo, begin } = ChangeRing.prototype;
ChangeRing.prototype.add = function (revision, index, kind, key, keyOffset, keyLength) {
  if (this.size > 0) {
    const text = decoder.decode(key.subarray(keyOffset, keyOffset + keyLength));
    executedAt(this).push({ revision, index, kind: KINDS[kind]!, key: text });
  }
  add.call(this, revision, index, kind, key, keyOffset, keyLength);
};
ChangeRing.prototype.undoTo = function (index, revision) {
  const all = executedAt(this);
  while ((all.at(-1)?.index ?? 0) > index) all.pop();
  undoTo.call(this, index, revision);
};
ChangeRing.prototype.begin = function (revision) {
  executedAt(this).length = 0;
  begin.call(this, revision);
};

function executedAt(ring: ChangeRing): Executed[] {
  let all = executed.get(ring);
  if (all === undefined) executed.set(ring, (all = []));
  return all;
}

/** One watch, from the revision that it began from. */
export interface Told {
  readonly name: string;
  readonly prefixes: readonly string[];
  readonly from: number;
  readonly revisions: number[];
}

export class WatchJudge {
  readonly counts = { committed: 0, told: 0, values: 0, watches: 0 };
  private readonly committed = new Map<number, Change>();
  /** By revision: what a client was answered that it had put. */
  private readonly puts = new Map<number, { readonly key: string; readonly value: string }>();
  /** By revision: the value that a watch was told, which may be before the client that put it was answered. */
  private readonly values = new Map<number, string>();
  private readonly watches: Told[] = [];

  /** The last committed change that any replica knew, and the last one that any had executed. */
  last = 0;
  executed = 0;

  /** A replica has ended a turn: what it knows to be committed now is. */
  flushed(core: ReplicaCore, store: WatchableStore | undefined): void {
    if (store === undefined) return;
    const all = executedAt(store.changes);
    this.executed = Math.max(this.executed, all.at(-1)?.revision ?? 0);
    for (let [first] = all; first !== undefined && first.index <= core.state.committed; [first] = all) {
      all.shift();
      this.commit(first.revision, first);
    }
  }

  private commit(revision: number, change: Change): void {
    const before = this.committed.get(revision);
    if (before === undefined) {
      this.committed.set(revision, change);
      this.counts.committed++;
    } else if (before.kind !== change.kind || before.key !== change.key)
      throw new WatchViolation('store-differs', `revision ${revision} is ${show(before)} and ${show(change)}`);
    this.last = Math.max(this.last, revision);
  }

  /** A client was answered that this put is the change with this revision. */
  put(revision: number, key: string, value: string): void {
    this.puts.set(revision, { key, value });
  }

  begin(name: string, prefixes: readonly string[], from: number): Told {
    const told = { name, prefixes, from, revisions: [] };
    this.watches.push(told);
    this.counts.watches++;
    return told;
  }

  told(watch: Told, { kind, key, value, revision }: StoreChange): void {
    const change = { kind, key: decoder.decode(key) };
    const committed = this.committed.get(revision);
    const where = `${watch.name} was told revision ${revision}, ${show(change)}`;
    if (committed === undefined) throw new WatchViolation('watch-committed', `${where}: no replica has committed it`);
    if (committed.kind !== kind || committed.key !== change.key)
      throw new WatchViolation('watch-committed', `${where}: it is ${show(committed)}`);
    if (revision <= (watch.revisions.at(-1) ?? watch.from))
      throw new WatchViolation('watch-order', `${where}, after revision ${watch.revisions.at(-1) ?? watch.from}`);
    if (!isWanted(watch, change)) throw new WatchViolation('watch-order', `${where}, which it does not watch`);
    watch.revisions.push(revision);
    this.counts.told++;
    if (value === undefined) return;
    const text = decoder.decode(value);
    const before = this.values.get(revision);
    if (before !== undefined && before !== text)
      throw new WatchViolation('watch-value', `${where} with ${text}, and another watch with ${before}`);
    this.values.set(revision, text);
  }

  /** The next change that this watch is to be told; undefined: it has been told all. */
  missing(watch: Told, upTo = this.last): number | undefined {
    for (let revision = (watch.revisions.at(-1) ?? watch.from) + 1; revision <= upTo; revision++)
      if (this.isOf(watch, revision)) return revision;
    return undefined;
  }

  /**
   * At the end of a run, when every replica that shows its changes has shown all that is committed. Throws if a watch was
   * told something without something before it, or a client was answered a put that is not what was committed.
   */
  judge(): void {
    for (const [revision, put] of this.puts) {
      const change = this.committed.get(revision);
      if (change?.kind !== 'put' || change.key !== put.key)
        throw new WatchViolation(
          'store-differs',
          `revision ${revision}, put of ${put.key}, is ${change === undefined ? 'unknown' : show(change)} to replicas`,
        );
      const told = this.values.get(revision);
      if (told === undefined) continue;
      this.counts.values++;
      if (told !== put.value)
        throw new WatchViolation(
          'watch-value',
          `revision ${revision} was told with ${told}, and is the put of ${put.value}`,
        );
    }
    for (const watch of this.watches) {
      const told = new Set(watch.revisions);
      const last = watch.revisions.at(-1) ?? watch.from;
      for (let revision = watch.from + 1; revision < last; revision++)
        if (!told.has(revision) && this.isOf(watch, revision))
          throw new WatchViolation('watch-gap', `${watch.name} was told revision ${last} without revision ${revision}`);
    }
  }

  private isOf(watch: Told, revision: number): boolean {
    const change = this.committed.get(revision);
    if (change === undefined) throw new Error(`no replica has executed revision ${revision}`);
    return isWanted(watch, change);
  }
}

function isWanted({ prefixes }: Told, { key }: Change): boolean {
  return prefixes.some((prefix) => key.startsWith(prefix));
}

function show({ kind, key }: Change): string {
  return `${kind} of ${key}`;
}
