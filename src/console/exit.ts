/** How the command fails: exit codes, and the one line on stderr, `code: what; what to do`. */
import { inLine } from '../host/printable.js';
import { COMMAND_ERRORS, JitPaxosError, type CommandErrorCode } from '../errors.js';

export const Exit = {
  done: 0,
  failed: 1,
  usage: 2,
  unavailable: 3,
  assertion: 4,
  /** Nobody answered `status` or `top`, so nothing is known: the cluster may be well, and this host cut off. */
  unanswered: 4,
  /** The reader of stdout has gone (`jitpaxos … | head`): 128 + SIGPIPE, as a shell reports for other tools. */
  readerGone: 141,
} as const;

/** Library codes that mean that the cluster could not be reached or did not answer in time. */
const UNAVAILABLE = new Set(['cluster-unavailable', 'majority-lost', 'outcome-unknown']);
/** Library codes for mistakes in the user's input. */
const USAGE_CATEGORY = 'caller';

export type CliErrorCode = CommandErrorCode;

export class CliError extends JitPaxosError {
  override readonly name = 'CliError';
  declare readonly code: CliErrorCode;
  /** @param message what is wrong and, after a semicolon, what to do; one line */
  constructor(code: CliErrorCode, message: string) {
    super(code, message);
  }

  get exitCode(): number {
    return COMMAND_ERRORS[this.code].exit;
  }
}

/** The exit code for an error. */
export function exitCodeOf(error: unknown): number {
  if (error instanceof CliError) return error.exitCode;
  const { code, category } = fieldsOf(error);
  if (code !== undefined && UNAVAILABLE.has(code)) return Exit.unavailable;
  return category === USAGE_CATEGORY ? Exit.usage : Exit.failed;
}

/** The error as one line for stderr. */
export function lineOf(error: unknown): string {
  const { code } = fieldsOf(error);
  const message = messageOf(error);
  // Errors of the system already begin with their code.
  const named = code !== undefined && !message.startsWith(`${code}: `) ? code : 'failed';
  return inLine(`${named}: ${message.replace(/\s*\n\s*/g, ' ')}`);
}

/** The code of an error, for a message to another process. */
export function codeOf(error: unknown): string {
  return fieldsOf(error).code ?? 'failed';
}

export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

function fieldsOf(error: unknown): { code: string | undefined; category: string | undefined } {
  const { code, category } = (error ?? {}) as { code?: unknown; category?: unknown };
  return {
    code: typeof code === 'string' ? code : undefined,
    category: typeof category === 'string' ? category : undefined,
  };
}
