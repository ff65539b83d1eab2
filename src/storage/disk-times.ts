/** Disk latencies, for metrics. Nothing depends on these figures. */
import { BucketCounts } from '../protocol/bucket-counts.js';
import type { Files, OpenFile } from './files.js';

/** From a disk with a battery-backed cache to one that hangs. */
const BOUNDS_US = [
  20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000, 20_000, 50_000, 100_000, 200_000, 500_000, 1_000_000, 5_000_000,
];

export class DiskTimes {
  /**
   * Time to write frames of the log: in mode `fsync` until they are durable, in mode `os` until the system has them.
   */
  readonly writeUs = new BucketCounts(BOUNDS_US);
  /** Time to sync files and the directory. */
  readonly syncUs = new BucketCounts(BOUNDS_US);
}

/** Wraps `files` and records the time of each sync. Failed syncs count too: they may have taken the longest. */
export function timed(files: Files, times: DiskTimes, nowMs: () => number): Files {
  const sync = async (target: { sync(): Promise<void> }): Promise<void> => {
    const began = nowMs();
    try {
      await target.sync();
    } finally {
      times.syncUs.record((nowMs() - began) * 1e3);
    }
  };
  const timedFile = (file: OpenFile): OpenFile => ({
    write: (bytes, length, position) => file.write(bytes, length, position),
    sync: () => sync(file),
    close: () => file.close(),
  });
  return {
    list: () => files.list(),
    read: (name) => files.read(name),
    create: async (name) => timedFile(await files.create(name)),
    openThrough: async (name) => timedFile(await files.openThrough(name)),
    rename: (from, to) => files.rename(from, to),
    remove: (name) => files.remove(name),
    sync: () => sync(files),
  };
}
