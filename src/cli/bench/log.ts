/** What `bench latency` and `bench load` do with `--hlog`: they give its writer the seconds of their client processes. */
import { partialOf, type BenchReport } from '../../measure/load/bench-report.js';
import { currentSecond, type SecondsWanted } from '../../measure/load/wall-seconds.js';
import type { HlogWriter } from '../../measure/hlog/log-writer.js';

/** What client processes are to report; undefined without a log. @param wallMs reads the wall clock of the seconds */
export function secondsFor(log: HlogWriter | undefined, wallMs?: () => number): SecondsWanted | undefined {
  return log && { base: currentSecond(wallMs), onSecond: (client, second) => log.add(client, second) };
}

/** Writes the end mark. Returns the error if the log is incomplete: the result of the bench is to be printed first. */
export function endLog(log: HlogWriter, report: BenchReport): unknown {
  const { load, transport, durability, seconds, failed } = report;
  try {
    log.end({
      partial: partialOf(report),
      shortfall: load === undefined ? null : load.steps[load.reported]!.shortfall,
      transport,
      durability,
      seconds,
      failed,
    });
    return undefined;
  } catch (error) {
    return error;
  }
}
