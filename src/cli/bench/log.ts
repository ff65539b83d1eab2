/**
 * What `bench latency` and `bench load` do with the seconds of their client processes: they give them to the writer of
 * `--hlog`, and to the tally of `--one-way`.
 */
import { partialOf, type BenchReport } from '../../measure/load/bench-report.js';
import { currentSecond, type SecondsWanted } from '../../measure/load/wall-seconds.js';
import type { HlogWriter } from '../../measure/hlog/log-writer.js';
import { oneWayTags } from '../../measure/oneway/tags.js';
import type { OneWayTally } from '../../measure/oneway/tally.js';

/**
 * What client processes are to report each second; undefined: nothing.
 * @param wallMs reads the wall clock of the seconds
 */
export function secondsFor(
  log: HlogWriter | undefined,
  oneWay: OneWayTally | undefined,
  wallMs?: () => number,
): SecondsWanted | undefined {
  if (log === undefined && oneWay === undefined) return undefined;
  return {
    base: currentSecond(wallMs),
    oneWayMs: oneWay?.everyMs,
    onSecond: (client, second) => {
      oneWay?.add(client, second);
      log?.add(client, { ...second, tags: { ...second.tags, ...oneWayTags(second.oneWay ?? []) } });
    },
  };
}

/** The field `oneWay` of the report of a step, if one-way delays were measured. */
export function oneWayOf(oneWay: OneWayTally | undefined, step: number): Pick<BenchReport, 'oneWay'> {
  const report = oneWay?.report(step);
  return report === undefined ? {} : { oneWay: report };
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
      ...(report.oneWay === undefined ? {} : { oneWay: report.oneWay.replicas }),
    });
    return undefined;
  } catch (error) {
    return error;
  }
}
