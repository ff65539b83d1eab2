/**
 * What watches were told, against what was committed.
 *
 * Rule: a watch is told each committed change of its keys behind the revision that it began from, once, in the order of
 * their revisions, and nothing that is not committed; or it is told that it has lost changes, after all that came before.
 */
import type { ReplicaCore } from '../../src/protocol/replica/replica-core.js';
import { ChangeKind, type WatchableStore } from '../../src/machine/store/change-ring.js';
import type { StoreChange } from '../../src/client/watch-reader.js';
import { KV_KEY_BYTES_MAX } from '../../src/machine/kv-layout.js';

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

/** One watch, from the revision that it began from. */
export interface Told {
  readonly name: string;
  readonly prefixes: readonly string[];
  readonly from: number;
  readonly revisions: number[];
}

const KINDS = Object.entries(ChangeKind).map(([name]) => name);

export class WatchJudge {
  readonly counts = { committed: 0, told: 0, values: 0, watches: 0 };
  private readonly committed = new Map<number, Change>();
  private readonly cursors = new WeakMap<ReplicaCore, number>();
  /** By revision: what a client was answered that it had put. */
  private readonly puts = new Map<number, { readonly key: string; readonly value: string }>();
  private readonly watches: Told[] = [];
  private readonly key = new Uint8Array(KV_KEY_BYTES_MAX);
  private readonly text = new TextDecoder();

  /** The last committed change that any replica knew. */
  last = 0;

  /** A replica has ended a turn: what it knows to be committed now is. */
  flushed(core: ReplicaCore, store: WatchableStore | undefined): void {
    if (store === undefined) return;
    const { changes } = store;
    const end = changes.behind(core.state.committed);
    const from = Math.max(this.cursors.get(core) ?? 0, changes.floor);
    for (let at = changes.after(from); at < end; at++) {
      const revision = changes.revisionOf(at);
      const length = changes.keyLength(at);
      changes.copyKey(at, this.key, 0);
      const change = { kind: KINDS[changes.kindOf(at)]!, key: this.text.decode(this.key.subarray(0, length)) };
      const before = this.committed.get(revision);
      if (before === undefined) {
        this.committed.set(revision, change);
        this.counts.committed++;
      } else if (before.kind !== change.kind || before.key !== change.key)
        throw new WatchViolation('store-differs', `revision ${revision} is ${show(before)} and ${show(change)}`);
      this.cursors.set(core, revision);
      this.last = Math.max(this.last, revision);
    }
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
    const change = { kind, key: this.text.decode(key) };
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
    const put = this.puts.get(revision);
    if (value === undefined || put === undefined) return;
    this.counts.values++;
    if (put.value !== this.text.decode(value)) throw new WatchViolation('watch-value', `${where} with another value`);
  }

  /** The next change that this watch is to be told; undefined: it has been told all. */
  missing(watch: Told, upTo = this.last): number | undefined {
    for (let revision = (watch.revisions.at(-1) ?? watch.from) + 1; revision <= upTo; revision++)
      if (this.isOf(watch, revision)) return revision;
    return undefined;
  }

  /** At the end of a run: throws if any watch was told something without something before it. */
  judge(): void {
    for (const [revision, put] of this.puts) {
      const change = this.committed.get(revision);
      if (change !== undefined && (change.kind !== 'put' || change.key !== put.key))
        throw new WatchViolation(
          'store-differs',
          `revision ${revision}, put of ${put.key}, is ${show(change)} to replicas`,
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
    if (change === undefined)
      throw new Error(`no replica showed revision ${revision}: its ring is too small for the run`);
    return isWanted(watch, change);
  }
}

function isWanted({ prefixes }: Told, { key }: Change): boolean {
  return prefixes.some((prefix) => key.startsWith(prefix));
}

function show({ kind, key }: Change): string {
  return `${kind} of ${key}`;
}
