/**
 * Reads histogram logs that a bench wrote, line by line, as they may come from anybody: every length and number has a
 * bound, and a refusal names the file and the line.
 *
 * A bench that was killed leaves a log whose last line may be cut off. That line is left out, and the run is incomplete.
 * An end mark that only lost the end of its line, in an editor or in transit, counts.
 */
import { closeSync, constants, fstatSync, openSync, readSync } from 'node:fs';
import { CliError } from '../../console/exit.js';
import { highestOf, Histogram, HISTOGRAM_BUCKETS, lowestOf, type HistogramData } from '../../metrics/histogram.js';
import { kindOf } from '../../storage/regular-file.js';
import { checkedOneWay } from '../oneway/checked.js';
import { decoded } from './hdr-codec.js';
import {
  COMMENT_END,
  END_COMMENT,
  HLOG_SCHEMA,
  isReported,
  RUN_COMMENT,
  STEP_COMMENT,
  type HlogEnd,
  type HlogRun,
} from './log-format.js';

/** Most bytes of a log: days of many tags. */
const HLOG_BYTES_MAX = 1 << 30;
/** Most characters of a line; the longest ones of a bench are its comments. */
const LINE_CHARACTERS_MAX = 1 << 18;
const LINES_MAX = 4_000_000;
export const TAGS_MAX = 192;
const TAG = /^[\w.:-]{1,64}$/;
const CHUNK_BYTES = 1 << 16;
/** Seconds since the epoch, in the year 2242. */
const SECONDS_MAX = 2 ** 33;
/** The shortest measurement, far below one round trip on loopback; rates stay finite. */
const SECONDS_MIN = 1e-6;
/** An interval of a bench is a second. */
const INTERVAL_SECONDS_MAX = 3600;

/** One line of a log. */
export interface HlogInterval {
  readonly tag: string;
  /** Since the epoch. */
  readonly startSeconds: number;
  readonly seconds: number;
  readonly histogram: Histogram;
}

/** A log without its intervals. */
export interface Hlog {
  readonly run: HlogRun;
  /** Null: the bench was killed, or still runs. */
  readonly end: HlogEnd | null;
  /** Everything measured, by tag. */
  readonly tags: ReadonlyMap<string, Histogram>;
  /** The latency that the bench reports; `min`, `max` and the mean are exact if there is an end mark. */
  readonly latency: Histogram;
  /** Steps of a ramp; 1 for one rate, 0 in a closed loop. */
  readonly steps: number;
  /** Since the epoch: begin of the first interval, end of the last one; null if there is none. */
  readonly fromSeconds: number | null;
  readonly toSeconds: number | null;
}

/** Does the file begin as a histogram log does? False also if it cannot be read. */
export function looksLikeHlog(path: string): boolean {
  try {
    const fd = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK | constants.O_NOCTTY);
    try {
      if (!fstatSync(fd).isFile()) return false;
      const first = Buffer.alloc(1);
      return readSync(fd, first, 0, 1, 0) === 1 && '#"T0123456789'.includes(first.toString('latin1'));
    } finally {
      closeSync(fd);
    }
  } catch {
    return false;
  }
}

/** Reads a log, and gives every interval to `visit`. Throws CliError `argument-invalid`. */
export function readHlog(path: string, visit: (interval: HlogInterval) => void = () => {}): Hlog {
  const intervals = intervalsOf(path);
  for (;;) {
    const { done, value } = intervals.next();
    if (done === true) return value;
    visit(value);
  }
}

/** Reads a log one interval at a time, in the order of its lines. Throws CliError `argument-invalid`. */
export function* intervalsOf(path: string): Generator<HlogInterval, Hlog, undefined> {
  const reading = new Reading();
  const at = { line: 0 };
  try {
    for (const { text, isWhole } of linesOf(path, at)) {
      const interval = reading.take(text, isWhole);
      if (interval !== undefined) yield interval;
    }
    at.line = 0;
    return reading.result();
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error);
    throw new CliError(
      'argument-invalid',
      `${path}${at.line === 0 ? '' : `:${at.line}`}: ${why}; give a file that a bench wrote with --hlog`,
    );
  }
}

class Reading {
  private run: HlogRun | undefined;
  private end: HlogEnd | null = null;
  private readonly tags = new Map<string, Histogram>();
  private steps = 0;
  private baseSeconds = 0;
  private from = Infinity;
  private to = -Infinity;

  /** Returns the interval, if the line is one. @param isWhole the line has an end */
  take(line: string, isWhole: boolean): HlogInterval | undefined {
    if (line === '') return undefined;
    if (this.end !== null) throw new Error('there is something behind the end mark');
    if (!isWhole && !isWholeEndMark(line)) return undefined;
    if (line.startsWith('#')) this.comment(line.slice(1));
    else if (!line.startsWith('"')) return this.interval(line);
    return undefined;
  }

  result(): Hlog {
    const { run, end, tags, steps, from, to } = this;
    if (run === undefined)
      throw new Error('it does not say what it measured, nor in which unit, as logs of benches do');
    const latency = new Histogram();
    for (const [tag, histogram] of tags) if (isReported(tag, run.latencyOf)) latency.merge(histogram);
    checkCount(latency);
    return {
      run,
      end,
      tags,
      latency: end === null ? latency : exact(latency, end.latency),
      steps,
      fromSeconds: from === Infinity ? null : from,
      toSeconds: from === Infinity ? null : to,
    };
  }

  private comment(text: string): void {
    const base = /^\[BaseTime: (\d{1,10}(?:\.\d{1,9})?) /.exec(text);
    if (base !== null) this.baseSeconds = Number(base[1]);
    else if (text.startsWith(RUN_COMMENT)) {
      if (this.run !== undefined) throw new Error('it names a second run');
      this.run = runOf(contentOf(text, RUN_COMMENT));
    } else if (text.startsWith(STEP_COMMENT)) this.steps += 1;
    else if (text.startsWith(END_COMMENT)) this.end = endOf(contentOf(text, END_COMMENT));
  }

  private interval(line: string): HlogInterval {
    if (this.run === undefined)
      throw new Error('it does not say in which unit its values are, as logs of benches do before the first interval');
    const fields = line.split(',');
    const tag = fields[0]!.startsWith('Tag=') ? fields.shift()!.slice('Tag='.length) : '';
    const [start, length, , encoded] = fields;
    if (fields.length !== 4 || encoded === undefined) throw new Error('it is not an interval of a histogram log');
    if (!TAG.test(tag)) throw new Error('its tag is not one of an operation and an outcome');
    const startSeconds = this.baseSeconds + numberOf(start!, SECONDS_MAX);
    const seconds = numberOf(length!, INTERVAL_SECONDS_MAX);
    const histogram = decoded(encoded);
    let total = this.tags.get(tag);
    if (total === undefined) {
      if (this.tags.size === TAGS_MAX) throw new Error(`a log has at most ${TAGS_MAX} tags`);
      this.tags.set(tag, (total = new Histogram()));
    }
    total.merge(histogram);
    checkCount(total);
    this.from = Math.min(this.from, startSeconds);
    this.to = Math.max(this.to, startSeconds + seconds);
    return { tag, startSeconds, seconds, histogram };
  }
}

function checkCount({ count }: Histogram): void {
  if (!Number.isSafeInteger(count)) throw new Error('it counts more values than a number can hold');
}

/** A line without an end that has all of the end mark: a part of it is not JSON. */
function isWholeEndMark(line: string): boolean {
  if (!line.startsWith(`#${END_COMMENT}`)) return false;
  try {
    contentOf(line.slice(1), END_COMMENT);
    return true;
  } catch {
    return false;
  }
}

function numberOf(text: string, max: number): number {
  const value = /^\s*\d{1,12}(?:\.\d{1,9})?$/.test(text) ? Number(text) : NaN;
  if (!(value <= max)) throw new Error('its times are not seconds');
  return value;
}

function contentOf(text: string, opening: string): Record<string, unknown> {
  if (!text.endsWith(COMMENT_END)) throw new Error('a comment of the bench has no end');
  let value: unknown;
  try {
    value = JSON.parse(Buffer.from(text.slice(opening.length, -COMMENT_END.length), 'latin1').toString('utf8'));
  } catch {
    throw new Error('a comment of the bench is not JSON');
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value))
    throw new Error('a comment of the bench is not an object');
  return value as Record<string, unknown>;
}

function runOf(value: Record<string, unknown>): HlogRun {
  if (value['schema'] !== HLOG_SCHEMA)
    throw new Error(`its schema is ${JSON.stringify(value['schema'])}, not "${HLOG_SCHEMA}"`);
  if (value['unit'] !== 'ns')
    throw new Error(
      `its values are in ${JSON.stringify(value['unit'])}, and those of benches in ns: they cannot be added`,
    );
  need('run', typeof value['run'] === 'string' && /^[0-9a-f]{16}$/.test(value['run']));
  need('command', ['latency', 'load', 'soak'].includes(value['command'] as string));
  need('latencyOf', ['ok', 'all'].includes(value['latencyOf'] as string));
  for (const name of ['version', 'commandLine', 'machine']) need(name, typeof value[name] === 'string');
  for (const name of ['replicas', 'opBytes', 'opBytesMax', 'clients', 'lanes']) need(name, isNumber(value[name]));
  for (const name of ['seed', 'keys']) need(name, value[name] === null || isNumber(value[name]));
  for (const name of ['arrivals', 'distribution']) need(name, value[name] === null || typeof value[name] === 'string');
  need('authenticated', typeof value['authenticated'] === 'boolean');
  need('rates', Array.isArray(value['rates']) && value['rates'].every(isNumber));
  const { mix, host } = value as { mix?: Record<string, unknown> | null; host?: Record<string, unknown> | null };
  need('mix', typeof mix === 'object' && mix !== null && Object.values(mix).every(isNumber));
  need(
    'host',
    typeof host === 'object' &&
      host !== null &&
      isNumber(host['cores']) &&
      ['cpu', 'kernel', 'node'].every((name) => typeof host[name] === 'string'),
  );
  return value as unknown as HlogRun;
}

function endOf(value: Record<string, unknown>): HlogEnd {
  for (const name of ['partial', 'shortfall', 'transport', 'durability'])
    need(name, value[name] === null || typeof value[name] === 'string');
  for (const name of ['seconds', 'failed']) need(name, isNumber(value[name]));
  need('seconds', value['seconds'] === 0 || (value['seconds'] as number) >= SECONDS_MIN);
  const latency = value['latency'] as Record<string, unknown> | null | undefined;
  need('latency', typeof latency === 'object' && latency !== null);
  for (const name of ['count', 'sum', 'min', 'max']) need(`latency.${name}`, isNumber(latency![name]));
  const { oneWay, ...end } = value;
  return {
    ...(end as unknown as HlogEnd),
    ...(oneWay === undefined ? {} : { oneWay: checkedOneWay(oneWay) }),
  };
}

function need(name: string, isThere: boolean): void {
  if (!isThere) throw new Error(`the field ${name} of a comment of the bench is missing, or is not what it should be`);
}

/** Not negative, and exact. */
function isNumber(value: unknown): value is number {
  return typeof value === 'number' && value >= 0 && value <= Number.MAX_SAFE_INTEGER;
}

/** The histogram with the exact figures of the end mark, which must fit its buckets. */
function exact(histogram: Histogram, figures: HlogEnd['latency']): Histogram {
  const { buckets, count } = histogram.toData();
  if (figures.count !== count)
    throw new Error(`it has ${count} values, and its end mark says ${figures.count}: lines are missing, or were added`);
  return checkedHistogram({ ...figures, buckets }, 'its end mark');
}

/**
 * A histogram out of data that anybody may have written: its figures must fit its buckets. Throws an Error that says in
 * a few words what is wrong. @param what names the figures
 */
export function checkedHistogram(data: HistogramData, what: string): Histogram {
  const { count, sum, min, max, buckets } = data;
  if (
    !Array.isArray(buckets) ||
    buckets.length % 2 !== 0 ||
    !buckets.every(isNumber) ||
    ![count, sum, min, max].every(isNumber)
  )
    throw new Error('its histogram is not one');
  let counted = 0;
  for (let i = 0; i < buckets.length; i += 2) {
    const isNext = buckets[i]! > (i === 0 ? -1 : buckets[i - 2]!) && buckets[i]! < HISTOGRAM_BUCKETS;
    if (!isNext || !Number.isInteger(buckets[i]) || !Number.isInteger(buckets[i + 1]))
      throw new Error('its histogram has buckets that do not exist, or are not in order');
    counted += buckets[i + 1]!;
  }
  if (counted !== count) throw new Error(`its histogram has ${counted} values, and ${what} says ${count}`);
  if (count === 0) return new Histogram();
  const [first, last] = [buckets[0]!, buckets.at(-2)!];
  const single = new Histogram();
  single.record(max);
  const fits =
    min >= lowestOf(first) &&
    min <= highestOf(first) &&
    single.toData().buckets[0] === last &&
    sum >= count * min &&
    sum <= count * max;
  if (!fits) throw new Error(`${what} does not fit its values`);
  return Histogram.fromData({ count, sum, min, max, buckets });
}

/** A line; `isWhole`: it has an end. */
interface Line {
  readonly text: string;
  readonly isWhole: boolean;
}

/** The lines of a file, counted in `at`. Throws the system's errors, and Error with a few words. */
function* linesOf(path: string, at: { line: number }): Generator<Line, void, undefined> {
  const next = (text: string, isWhole: boolean): Line => {
    at.line += 1;
    if (text.length > LINE_CHARACTERS_MAX) throw new Error(`it has more than ${LINE_CHARACTERS_MAX} characters`);
    if (at.line > LINES_MAX) throw new Error(`a log has at most ${LINES_MAX} lines`);
    return { text, isWhole };
  };
  const fd = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK | constants.O_NOCTTY);
  try {
    const stat = fstatSync(fd);
    if (!stat.isFile()) throw new Error(`it is ${kindOf(stat)}, not a regular file`);
    if (stat.size > HLOG_BYTES_MAX) throw new Error(`it has ${stat.size} bytes: at most ${HLOG_BYTES_MAX} are read`);
    const chunk = Buffer.alloc(CHUNK_BYTES);
    let rest = '';
    let bytes = 0;
    for (;;) {
      const read = readSync(fd, chunk, 0, chunk.length, null);
      if (read === 0) break;
      bytes += read;
      if (bytes > HLOG_BYTES_MAX) throw new Error(`it has too many bytes: at most ${HLOG_BYTES_MAX} are read`);
      // Latin 1, in which no character spans two chunks; comments of benches are decoded later.
      const lines = (rest + chunk.toString('latin1', 0, read)).split('\n');
      rest = lines.pop()!;
      for (const line of lines) yield next(line.endsWith('\r') ? line.slice(0, -1) : line, true);
      if (rest.length > LINE_CHARACTERS_MAX) yield next(rest, false);
    }
    if (rest !== '') yield next(rest, false);
  } finally {
    closeSync(fd);
  }
}
