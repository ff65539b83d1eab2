/** One-way delays out of a file, which anybody may have written: every figure is a number, and no text does harm. */
import { inLine } from '../../host/printable.js';
import type { LatencySummary } from '../../metrics/histogram.js';
import { HOSTS_MAX } from '../../wire/member-list.js';
import type { OneWayFigures } from './figures.js';

const NS_MAX = 2 ** 53;
const SUMMARY = ['min', 'p50', 'p90', 'p99', 'p999', 'max', 'mean'] as const;
const SAYS_CHARACTERS_MAX = 300;

/** Throws Error with a few words. */
export function checkedOneWay(value: unknown): OneWayFigures[] {
  if (!Array.isArray(value) || value.length > HOSTS_MAX) throw wrong();
  return value.map((each: unknown) => {
    const of = objectOf(each);
    const says = of['says'];
    if (says !== null && (typeof says !== 'string' || says.length > SAYS_CHARACTERS_MAX)) throw wrong();
    const answered = numberOf(of['answered']);
    const figures: OneWayFigures = {
      replica: numberOf(of['replica']),
      asked: numberOf(of['asked']),
      answered,
      bothWaysNs: summaryOf(of['bothWaysNs'], answered > 0),
      replicaNs: summaryOf(of['replicaNs'], answered > 0),
      requestNs: of['requestNs'] === null ? null : summaryOf(of['requestNs'], true),
      replyNs: of['replyNs'] === null ? null : summaryOf(of['replyNs'], true),
      boundNs: of['boundNs'] === null ? null : numberOf(of['boundNs']),
      longerRequestNs: of['longerRequestNs'] === null ? null : numberOf(of['longerRequestNs'], -NS_MAX),
      says: says === null ? null : inLine(says),
    };
    const isTold = figures.requestNs !== null && figures.replyNs !== null && figures.boundNs !== null;
    if (isTold !== (says === null)) throw wrong(); // a bound belongs to every way that is told
    return figures;
  });
}

/** @param isMeasured its figures are numbers */
function summaryOf(value: unknown, isMeasured: boolean): LatencySummary {
  const of = objectOf(value);
  const figure = (name: string): number | null => (isMeasured || of[name] !== null ? numberOf(of[name]) : null);
  return Object.fromEntries(SUMMARY.map((name) => [name, figure(name)])) as unknown as LatencySummary;
}

function objectOf(value: unknown): Record<string, unknown> {
  if (typeof value !== 'object' || value === null) throw wrong();
  return value as Record<string, unknown>;
}

function numberOf(value: unknown, min = 0): number {
  if (typeof value !== 'number' || !(value >= min && value <= NS_MAX)) throw wrong();
  return value;
}

function wrong(): Error {
  return new Error('its one-way delays are not such');
}
