/**
 * One-way delays in a histogram log: tags of their own, which are no latencies of operations. `oneway-r2-both` and
 * `oneway-r2-replica` are always there; `oneway-r2-request` and `oneway-r2-reply` in seconds in which the clocks allow to
 * tell these apart.
 */
import type { HistogramData } from '../../metrics/histogram.js';
import { ONE_WAY_TAG } from '../hlog/log-format.js';
import { OneWaySum } from './figures.js';
import type { OneWaySecond } from './second.js';

export function oneWayTags(seconds: readonly OneWaySecond[]): Record<string, HistogramData> {
  const tags: Record<string, HistogramData> = {};
  for (const second of seconds) {
    if (second.answered === 0) continue;
    const sum = new OneWaySum(second.replica);
    sum.add(second);
    const tag = `${ONE_WAY_TAG}r${second.replica}-`;
    tags[`${tag}both`] = second.bothWays;
    tags[`${tag}replica`] = second.inside;
    if (sum.figures().says !== null) continue;
    tags[`${tag}request`] = second.request;
    tags[`${tag}reply`] = second.reply;
  }
  return tags;
}
