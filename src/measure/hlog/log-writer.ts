/**
 * Writes a histogram log while a bench runs: HdrHistogram's log format 1.3, one second an interval, one line for each
 * tag with values in it. Lines are written when the second is over for all client processes, so a bench that is killed
 * leaves a readable log, without the end mark.
 *
 * The file is made by its writer: an existing one, which may be the log of a bench that still runs, is never opened. A
 * run that failed before it measured anything leaves no file, so the same command can be given again.
 *
 * A log that cannot be written (a full disk) ends; the measurement goes on, and `end` says why.
 */
import { randomBytes } from 'node:crypto';
import { appendFileSync, closeSync, openSync, rmSync } from 'node:fs';
import { CliError } from '../../console/exit.js';
import { alreadyThere } from '../../console/output-file.js';
import { Histogram } from '../../metrics/histogram.js';
import type { TaggedSecond } from '../load/wall-seconds.js';
import { hdrLibrary, mended, toHdr, type HdrLogWriter } from './hdr-codec.js';
import {
  COMMENT_END,
  END_COMMENT,
  HLOG_SCHEMA,
  isReported,
  RUN_COMMENT,
  STEP_COMMENT,
  type HlogEnd,
  type HlogRun,
  type HlogStep,
  type RunSettings,
} from './log-format.js';

const MS_PER_SECOND = 1000;
/** The column of maxima is in milliseconds, as HdrHistogram's own writer has it. */
const NS_PER_MS = 1e6;
/**
 * Seconds that wait for a client process to end them too. When there are more, the oldest is written; a process that
 * still had values for it makes further lines of the same interval, which the format allows.
 */
const WAITING_MAX = 30;

interface Waiting {
  fromMs: number;
  toMs: number;
  readonly tags: Map<string, Histogram>;
}

/** Names a run, in its log and in its report. */
export function newRunId(): string {
  return randomBytes(8).toString('hex');
}

export class HlogWriter {
  private fd: number | undefined;
  private readonly writer: HdrLogWriter;
  /** Ascending, by second. */
  private readonly waiting = new Map<number, Waiting>();
  /** By client process, the last second that it has ended. */
  private readonly ended: number[];
  /** All latencies given so far of the tags that `latencyOf` says; the end mark has their count, sum and extremes. */
  private readonly total = new Histogram();
  private broken: string | undefined;
  private isEmpty = true;

  private constructor(
    private readonly path: string,
    private readonly run: HlogRun,
    private readonly baseSecond: number,
  ) {
    this.ended = new Array<number>(run.clients).fill(-Infinity);
    this.writer = new (hdrLibrary().HistogramLogWriter)((text) => this.write(text));
  }

  /**
   * Makes the file, and writes what stands before the first interval. Throws CliError `file-exists` or
   * `output-unwritable`.
   * @param startMs when the run begins, ms since the epoch
   */
  static open(path: string, id: string, settings: RunSettings, startMs: number): HlogWriter {
    const run: HlogRun = {
      schema: HLOG_SCHEMA,
      run: id,
      unit: 'ns',
      latencyOf: settings.command === 'load' ? 'all' : 'ok',
      ...settings,
    };
    const baseSecond = Math.floor(startMs / MS_PER_SECOND);
    const log = new HlogWriter(path, run, baseSecond);
    try {
      // Exclusively: nothing is emptied, two writers never share a file, and a FIFO cannot make this wait.
      log.fd = openSync(path, 'wx');
      const { writer } = log;
      writer.outputComment(RUN_COMMENT + JSON.stringify(run) + COMMENT_END);
      writer.outputLogFormatVersion();
      // The library's own line of the start time has an empty line behind it, which other readers refuse.
      writer.outputComment(
        `[StartTime: ${(startMs / MS_PER_SECOND).toFixed(3)} (seconds since epoch), ${new Date(startMs).toISOString()}]`,
      );
      writer.outputComment(`[BaseTime: ${baseSecond.toFixed(3)} (seconds since epoch)]`);
      writer.outputLegend();
    } catch (error) {
      if (log.fd === undefined && reasonOf(error) === 'EEXIST') throw alreadyThere('hlog', path);
      log.broken = reasonOf(error);
    }
    if (log.broken === undefined) return log;
    log.close();
    throw log.failure(log.broken);
  }

  /** A step of a ramp begins. */
  step(step: HlogStep): void {
    this.flush();
    this.comment(STEP_COMMENT + JSON.stringify(step) + COMMENT_END);
  }

  /** Client process `client` has ended a second, or a part of it. Seconds of one process come in order. */
  add(client: number, { second, fromMs, toMs, tags }: TaggedSecond): void {
    let waiting = this.waiting.get(second);
    if (waiting === undefined) this.waiting.set(second, (waiting = { fromMs, toMs, tags: new Map() }));
    waiting.fromMs = Math.min(waiting.fromMs, fromMs);
    waiting.toMs = Math.max(waiting.toMs, toMs);
    for (const [tag, data] of Object.entries(tags)) {
      let histogram = waiting.tags.get(tag);
      if (histogram === undefined) waiting.tags.set(tag, (histogram = new Histogram()));
      const added = Histogram.fromData(data);
      histogram.merge(added);
      if (isReported(tag, this.run.latencyOf)) this.total.merge(added);
    }
    this.ended[client] = second;
    this.writeSeconds(Math.min(...this.ended));
  }

  private flush(): void {
    this.writeSeconds(Infinity);
  }

  /**
   * The run is over: writes what is left and the end mark. Throws CliError `output-unwritable` if anything failed.
   * @param exact the latency's figures, if what was added does not have them exactly
   */
  end(result: Omit<HlogEnd, 'latency'>, exact?: HlogEnd['latency']): void {
    this.flush();
    const { count, sum, min, max } = this.total.toData();
    const end: HlogEnd = { ...result, latency: exact ?? { count, sum, min: count === 0 ? 0 : min, max } };
    this.comment(END_COMMENT + JSON.stringify(end) + COMMENT_END);
    this.isEmpty = false;
    this.close();
    if (this.broken !== undefined) throw this.failure(this.broken);
  }

  /** The run failed: writes what is left, and no end mark; removes a log without values. May be called after `end`. */
  close(): void {
    if (this.fd === undefined) return;
    this.flush();
    closeSync(this.fd);
    this.fd = undefined;
    if (this.isEmpty) rmSync(this.path, { force: true });
  }

  [Symbol.dispose](): void {
    this.close();
  }

  /** Writes the seconds up to `second` that wait, and older ones if too many wait. */
  private writeSeconds(upTo: number): void {
    const seconds = [...this.waiting.keys()].sort((a, b) => a - b);
    seconds.forEach((second, at) => {
      if (second > upTo && seconds.length - at <= WAITING_MAX) return;
      this.writeInterval(this.waiting.get(second)!);
      this.waiting.delete(second);
    });
  }

  private writeInterval({ fromMs, toMs, tags }: Waiting): void {
    const relative = (ms: number): number => ms / MS_PER_SECOND - this.baseSecond;
    for (const tag of [...tags.keys()].sort()) {
      if (this.broken !== undefined || this.fd === undefined) return;
      const hdr = toHdr(tags.get(tag)!);
      hdr.tag = tag;
      try {
        this.writer.outputIntervalHistogram(hdr, relative(fromMs), relative(toMs), NS_PER_MS);
        this.isEmpty = false;
      } catch (error) {
        this.broken = reasonOf(error);
      }
    }
  }

  private comment(text: string): void {
    if (this.broken !== undefined || this.fd === undefined) return;
    try {
      this.writer.outputComment(text);
    } catch (error) {
      this.broken = reasonOf(error);
    }
  }

  private write(line: string): void {
    const isInterval = !line.startsWith('#') && !line.startsWith('"');
    const at = line.lastIndexOf(',') + 1;
    appendFileSync(this.fd!, isInterval ? `${line.slice(0, at)}${mended(line.slice(at).trimEnd())}\n` : line);
  }

  private failure(why: string): CliError {
    return new CliError(
      'output-unwritable',
      `--hlog ${this.path} could not be written (${why}), and has no end mark; make room, or write elsewhere, and run again`,
    );
  }
}

function reasonOf(error: unknown): string {
  return (error as NodeJS.ErrnoException).code ?? String(error);
}
