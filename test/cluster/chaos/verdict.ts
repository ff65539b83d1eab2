/** The end of a chaos run: whether the replicas recover, and what is said of the load. */
import type { ReplicaStatusReport } from '../../../src/host/status.js';
import { checkHistory, explain } from '../../../src/sim/linearizability.js';
import type { Load } from './load.js';
import type { ChaosResult } from './run.js';

const POLL_MS = 20;

/**
 * Waits until these replicas are in normal operation, in one view, and hold everything committed. Returns the time it
 * took, ms. Throws if it takes longer than the limit.
 * @param who they are, in words @param reports in the order of `ids`; undefined: no answer
 */
export async function recovery(
  who: string,
  ids: readonly number[],
  reports: () => Promise<readonly (ReplicaStatusReport | undefined)[]>,
  limitMs: number,
): Promise<number> {
  const startedMs = performance.now();
  for (;;) {
    const all = await reports();
    const committed = Math.max(...all.map((report) => report?.committedIndex ?? 0));
    if (
      all.every(
        (report) => report?.status === 'normal' && report.view === all[0]!.view && report.committedIndex === committed,
      )
    )
      return performance.now() - startedMs;
    if (performance.now() - startedMs > limitMs)
      throw new Error(
        `the ${who} did not recover within ${limitMs / 1000} s: ${all.map((report, at) => `${ids[at]} ${report === undefined ? 'silent' : `${report.status}, view ${report.view}, committed ${report.committedIndex}`}`).join('; ')}`,
      );
    await sleep(POLL_MS);
  }
}

/** What a stopped load comes to. @param lost acknowledged writes that are not there @param failures those of the run so far */
export function verdictOf(
  load: Load,
  lost: readonly string[],
  failures: readonly string[],
): Pick<
  ChaosResult,
  'committed' | 'unknown' | 'acknowledgedOnce' | 'longestPauseMs' | 'history' | 'lost' | 'failures' | 'events'
> {
  const all = [...failures];
  if (lost.length > 0) all.push(`${lost.length} acknowledged writes are not there: ${lost.slice(0, 5).join('; ')}`);
  const { events } = load.recorded;
  const history = checkHistory(events);
  if (history.outcome !== 'linearizable') all.push(explain(history));
  if (load.committed === 0) all.push('nothing was committed at all');
  return {
    committed: load.committed,
    unknown: load.unknown,
    acknowledgedOnce: load.acknowledged.size,
    longestPauseMs: load.longestPauseMs,
    history: history.outcome,
    lost,
    failures: all,
    events,
  };
}

export function sleep(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
