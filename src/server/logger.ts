/** Where hosts report what is not an answer to a call: one event name, and its particulars as fields. */
export interface Logger {
  info(event: string, fields: Readonly<Record<string, unknown>>): void;
  warn(event: string, fields: Readonly<Record<string, unknown>>): void;
  error(event: string, fields: Readonly<Record<string, unknown>>): void;
}

/** The default: warnings and errors on stderr, one JSON object a line; nothing else. */
export const stderrLogger: Logger = {
  info: () => undefined,
  warn: (event, fields) => write('warn', event, fields),
  error: (event, fields) => write('error', event, fields),
};

/** For tools that report in their own words. */
export const silentLogger: Logger = { info: () => undefined, warn: () => undefined, error: () => undefined };

function write(level: string, event: string, fields: Readonly<Record<string, unknown>>): void {
  process.stderr.write(`${JSON.stringify({ level, event, ...fields })}\n`);
}
