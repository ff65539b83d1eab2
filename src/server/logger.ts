/**
 * Where hosts report what is not an answer to a call: one line an event, its particulars as fields.
 *
 * The rule: a log never floods. A line that says the same as one shortly before is counted, not written, and the count is
 * written with the next.
 */

export type LogFields = Readonly<Record<string, unknown>>;

export interface Logger {
  info(event: string, fields: LogFields): void;
  warn(event: string, fields: LogFields): void;
  error(event: string, fields: LogFields): void;
}

/** From the most to the least. `info`: starts, stops and every transition of a replica; `warn`: what an operator should look at; `error`: what stopped something. */
export const LOG_LEVELS = ['info', 'warn', 'error'] as const;

export type LogLevel = (typeof LOG_LEVELS)[number];

/** `json`: one object a line, for machines. `text`: for people. */
export type LogFormat = 'json' | 'text';

export interface LineLoggerOptions {
  /** Less than this is not written. */
  readonly level: LogLevel;
  readonly format: LogFormat;
  /** Takes one line without its end. */
  readonly write: (line: string) => void;
  /** ms since 1970. Default: the system's clock. */
  readonly now?: () => number;
}

/** The same line is written once in this time. */
const REPEAT_MS = 10_000;
/** Different lines that are remembered for that at once. */
const REMEMBERED_MAX = 256;

/** Writes lines; see the rule above. */
export function lineLogger({ level, format, write, now = Date.now }: LineLoggerOptions): Logger {
  const lowest = LOG_LEVELS.indexOf(level);
  /** What was written lately: until when it counts, and how often it came again. In the order of writing. */
  const recent = new Map<string, { readonly untilMs: number; repeated: number }>();
  const log = (at: LogLevel, event: string, fields: LogFields): void => {
    if (LOG_LEVELS.indexOf(at) < lowest) return;
    const text = JSON.stringify({ event, ...fields });
    const timeMs = now();
    const known = recent.get(text);
    if (known !== undefined && timeMs < known.untilMs) {
      known.repeated++;
      return;
    }
    recent.delete(text);
    if (recent.size >= REMEMBERED_MAX) recent.delete(recent.keys().next().value!);
    recent.set(text, { untilMs: timeMs + REPEAT_MS, repeated: 0 });
    const all = known !== undefined && known.repeated > 0 ? { ...fields, repeated: known.repeated } : fields;
    write(format === 'json' ? JSON.stringify({ time: new Date(timeMs).toISOString(), level: at, event, ...all }) : textLine(timeMs, at, event, all));
  };
  return {
    info: (event, fields) => log('info', event, fields),
    warn: (event, fields) => log('warn', event, fields),
    error: (event, fields) => log('error', event, fields),
  };
}

/** The default: warnings and errors on stderr as JSON; nothing else. */
export const stderrLogger: Logger = lineLogger({ level: 'warn', format: 'json', write: writeToStderr });

/** For tools that report in their own words. */
export const silentLogger: Logger = { info: () => undefined, warn: () => undefined, error: () => undefined };

export function writeToStderr(line: string): void {
  process.stderr.write(`${line}\n`);
}

/** `12:00:00.123 WARN  transport.small-buffer  replica=0 askedBytes=4194304` */
function textLine(timeMs: number, level: LogLevel, event: string, fields: LogFields): string {
  const parts = Object.entries(fields).flatMap(([key, value]) => (value === undefined ? [] : [`${key}=${typeof value === 'string' && /^[^\s"=]+$/.test(value) ? value : JSON.stringify(value)}`]));
  return [new Date(timeMs).toISOString().slice(11, -1), level.toUpperCase().padEnd(5), `${event} `, ...parts].join(' ').trimEnd();
}
