/**
 * Where hosts report events that are not an answer to a call: one line for each event, with its details as fields.
 *
 * The rule: a log never floods. A line that equals a recent one is counted, not written, and the count is written with
 * the next one.
 *
 * And: a log only informs. Nothing that happens in an application's logger, or at the other end of a pipe, may stop the
 * host.
 */
import { JitPaxosError } from '../errors.js';
import { LineOutput, type LineStream } from './line-output.js';
import { show } from './options.js';
import { inLine } from './printable.js';

export type LogFields = Readonly<Record<string, unknown>>;

export interface Logger {
  info(event: string, fields: LogFields): void;
  warn(event: string, fields: LogFields): void;
  error(event: string, fields: LogFields): void;
}

/**
 * From most to least verbose. `info`: starts, stops and every transition of a replica; `warn`: what an operator should
 * look at; `error`: what stopped something.
 */
export const LOG_LEVELS = ['info', 'warn', 'error'] as const;

export type LogLevel = (typeof LOG_LEVELS)[number];

/** `json`: one object per line, for machines. `text`: for people. */
export type LogFormat = 'json' | 'text';

/** The format to use on a stream. `auto`, or an unknown format: text on a terminal, JSON elsewhere. */
export function formatFor(asked: string | undefined, stream: { readonly isTTY?: boolean }): LogFormat {
  if (asked === 'json' || asked === 'text') return asked;
  return stream.isTTY === true ? 'text' : 'json';
}

export interface LineLoggerOptions {
  /** Lines below this level are not written. */
  readonly level: LogLevel;
  readonly format: LogFormat;
  /** Takes one line without its line end. */
  readonly write: (line: string) => void;
  /** ms since 1970, for the time that a line shows. Default: the system's clock. */
  readonly now?: () => number;
  /**
   * ms of a clock that is never set; measures how long ago a line was written. Default: the process's monotonic clock.
   */
  readonly monotonicMs?: () => number;
}

/** A repeated line is written once in this time. */
const REPEAT_MS = 10_000;
/** Different lines remembered at once to detect repetition. */
const REMEMBERED_MAX = 256;

/** Writes lines; see the rule above. */
export function lineLogger({
  level,
  format,
  write,
  now = Date.now,
  monotonicMs = () => performance.now(),
}: LineLoggerOptions): Logger {
  const lowest = LOG_LEVELS.indexOf(level);
  /**
   * Recently written lines: until when repetitions are counted, and how often each was repeated. In the order of
   * writing.
   */
  const recent = new Map<string, { readonly untilMs: number; repeated: number }>();
  const log = (at: LogLevel, event: string, fields: LogFields): void => {
    if (LOG_LEVELS.indexOf(at) < lowest) return;
    const text = JSON.stringify({ event, ...fields });
    const atMs = monotonicMs();
    const known = recent.get(text);
    if (known !== undefined && atMs < known.untilMs) {
      known.repeated++;
      return;
    }
    recent.delete(text);
    if (recent.size >= REMEMBERED_MAX) recent.delete(recent.keys().next().value!);
    recent.set(text, { untilMs: atMs + REPEAT_MS, repeated: 0 });
    const all = known !== undefined && known.repeated > 0 ? { ...fields, repeated: known.repeated } : fields;
    write(formatLine(format, now(), at, event, all));
  };
  return {
    info: (event, fields) => log('info', event, fields),
    warn: (event, fields) => log('warn', event, fields),
    error: (event, fields) => log('error', event, fields),
  };
}

/** Writes lines to a stream that may be slow, full or closed: see line-output.ts. */
export function streamLogger(stream: LineStream, level: LogLevel, format: LogFormat): Logger {
  const lines = new LineOutput(stream, (lost) =>
    formatLine(format, Date.now(), 'warn', 'log.lines-lost', {
      lines: lost,
      next: 'these lines were not kept: the reader of this log had ended or was too slow, or its disk was full',
    }),
  );
  return lineLogger({ level, format, write: (line) => lines.write(line) });
}

let onStderr: Logger | undefined;
/** Created with the first line: a program that logs nothing leaves its stderr unchanged. */
const toStderr = (): Logger => (onStderr ??= streamLogger(process.stderr, 'warn', 'json'));

/**
 * The default: warnings and errors on stderr as JSON, and nothing else. From then on an error of stderr does not end
 * the process.
 */
export const stderrLogger: Logger = {
  info: () => undefined,
  warn: (event, fields) => toStderr().warn(event, fields),
  error: (event, fields) => toStderr().error(event, fields),
};

/** For tools that report in their own way. */
export const silentLogger: Logger = { info: () => undefined, warn: () => undefined, error: () => undefined };

/**
 * Wraps an application's logger for use by a host: an exception or a rejected promise in it stops nothing. The first
 * one is reported as a process warning. Throws JitPaxosError `option-invalid` for an object that is not a logger.
 */
export function guardedLogger(where: string, logger: Logger): Logger {
  let told = false;
  const failed = (error: unknown): void => {
    if (told) return;
    told = true;
    process.emitWarning(
      `${where}: the logger threw, and the line is lost: ${error instanceof Error ? error.message : String(error)}; its further errors are not reported`,
      'JitPaxosWarning',
    );
  };
  for (const level of LOG_LEVELS) {
    if (typeof (logger as Partial<Logger> | null)?.[level] !== 'function')
      throw new JitPaxosError(
        'option-invalid',
        `${where}: logger is ${show(logger)} and has no method "${level}"; it has to have ${LOG_LEVELS.join(', ')}`,
      );
  }
  const call = (level: LogLevel, event: string, fields: LogFields): void => {
    try {
      const result: unknown = logger[level](event, fields);
      if (typeof (result as PromiseLike<unknown> | null | undefined)?.then === 'function')
        void (result as PromiseLike<unknown>).then(undefined, failed);
    } catch (error) {
      failed(error);
    }
  };
  return {
    info: (event, fields) => call('info', event, fields),
    warn: (event, fields) => call('warn', event, fields),
    error: (event, fields) => call('error', event, fields),
  };
}

/** One line of a log, without its line end. */
export function formatLine(
  format: LogFormat,
  timeMs: number,
  level: LogLevel,
  event: string,
  fields: LogFields,
): string {
  return inLine(
    format === 'json'
      ? JSON.stringify({ time: new Date(timeMs).toISOString(), level, event, ...fields })
      : textLine(timeMs, level, event, fields),
  );
}

/** `12:00:00.123 WARN  transport.small-buffer  replica=0 askedBytes=4194304` */
function textLine(timeMs: number, level: LogLevel, event: string, fields: LogFields): string {
  const parts = Object.entries(fields).flatMap(([key, value]) =>
    value === undefined
      ? []
      : [`${key}=${typeof value === 'string' && /^[^\s"=]+$/.test(value) ? value : JSON.stringify(value)}`],
  );
  return [new Date(timeMs).toISOString().slice(11, -1), level.toUpperCase().padEnd(5), `${event} `, ...parts]
    .join(' ')
    .trimEnd();
}
