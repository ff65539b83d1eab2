/** The result of a check. */

export type Level = 'ok' | 'warn' | 'fail' | 'skip';

export interface Finding {
  /** A few words that name the check; one check may have several findings. */
  readonly check: string;
  /**
   * `warn`: it works, slower or less safely than it could. `fail`: a replica or client will not work. `skip`: cannot be
   * found out here.
   */
  readonly level: Level;
  readonly found: string;
  /** What to do; present for warnings and failures. */
  readonly advice?: string;
}

export const ok = (check: string, found: string): Finding => ({ check, level: 'ok', found });
export const warn = (check: string, found: string, advice: string): Finding => ({
  check,
  level: 'warn',
  found,
  advice,
});
export const fail = (check: string, found: string, advice: string): Finding => ({
  check,
  level: 'fail',
  found,
  advice,
});
export const skip = (check: string, found: string): Finding => ({ check, level: 'skip', found });

/** This project's errors say what is wrong and, after the last semicolon, what to do. */
export function splitMessage(error: unknown): [found: string, advice: string] {
  const message = error instanceof Error ? error.message : String(error);
  const at = message.lastIndexOf('; ');
  return at < 0 ? [message, 'see docs/reference/errors.md'] : [message.slice(0, at), message.slice(at + 2)];
}
