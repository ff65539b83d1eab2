/** Rules of watches, broken one at a time, at the replica or at the client. They are looked for in runs of watch-run.ts. */
import { WatchReader } from '../../src/client/watch-reader.js';
import type { WatchableStore } from '../../src/machine/store/change-ring.js';
import { Changes } from '../../src/wire/messages.js';
import { readIndex, writeIndex } from '../../src/wire/u64.js';
import { simulateWatches, type WatchRunOptions, type WatchRunResult } from './watch-run.js';

export interface WatchMutation {
  readonly name: string;
  readonly breaks: string;
  readonly watched?: NonNullable<WatchRunOptions['watched']>;
  /** In place of the reader's. */
  readonly onChanges?: (this: WatchReader, ...message: Parameters<WatchReader['onChanges']>) => void;
}

/** The run with this rule broken. */
export async function simulateBroken(mutation: WatchMutation, options: WatchRunOptions): Promise<WatchRunResult> {
  const { prototype } = WatchReader;
  const { onChanges } = prototype;
  prototype.onChanges = mutation.onChanges ?? onChanges;
  try {
    return await simulateWatches({
      ...options,
      ...(mutation.watched === undefined ? {} : { watched: mutation.watched }),
    });
  } finally {
    prototype.onChanges = onChanges;
  }
}

const { onChanges } = WatchReader.prototype;

/** The store as it would be if it had never forgotten a change. */
function complete(store: WatchableStore): WatchableStore {
  return {
    changes: Object.create(store.changes, { floor: { value: 0 }, floorIndex: { value: 0 } }) as typeof store.changes,
    revision: store.revision,
    nextEnd: store.nextEnd,
    find: (key, offset, length) => store.find(key, offset, length),
    revisionOf: (id) => store.revisionOf(id),
    isCollection: (id) => store.isCollection(id),
    records: store.records,
  };
}

export const WATCH_MUTATIONS: readonly WatchMutation[] = [
  {
    name: 'watch-from-an-uncommitted-index',
    breaks: 'watches are told what is executed and not committed',
    watched: (replica, core) => ({ ...replica, committed: () => core.state.executed }),
  },
  {
    name: 'watch-over-forgotten-changes',
    breaks: 'a watch goes on although changes that it needs are no longer kept',
    watched: (replica) => ({
      ...replica,
      store: () => {
        const store = replica.store();
        return store === undefined ? undefined : complete(store);
      },
    }),
  },
  {
    name: 'watch-over-a-lost-message',
    breaks: 'a client takes changes although some between are missing',
    onChanges(bytes, o, from, now) {
      const previous = o + Changes.at.previous;
      writeIndex(bytes, previous, Math.min(readIndex(bytes, previous), this.after));
      onChanges.call(this, bytes, o, from, now);
    },
  },
  {
    name: 'watch-again',
    breaks: 'a client takes changes that it has had',
    onChanges(bytes, o, from, now) {
      const previous = readIndex(bytes, o + Changes.at.previous);
      this.after = Math.min(this.after, previous);
      onChanges.call(this, bytes, o, from, now);
    },
  },
];
