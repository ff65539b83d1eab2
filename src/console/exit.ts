/**
 * How the command fails: exit codes and the one line on stderr, `code: what; what to do`.
 */

export const Exit = {
  done: 0,
  failed: 1,
  usage: 2,
  unavailable: 3,
  assertion: 4,
  /** The reader of stdout has gone (`jitpaxos … | head`): 128 + SIGPIPE, as a shell shows it of other tools. */
  readerGone: 141,
} as const;

/** Codes of the library that mean that the cluster could not be reached or did not answer in time. */
const UNAVAILABLE = new Set(['cluster-unavailable', 'majority-lost', 'outcome-unknown']);
/** Codes of the library for something wrong with what the user gave us. */
const USAGE_CATEGORY = 'caller';

/** Every code that the command adds to the library's, with the exit code it stands for. */
export const CLI_ERROR_CODES = {
  'node-too-old': Exit.failed,
  'unknown-command': Exit.usage,
  'unknown-flag': Exit.usage,
  'flag-invalid': Exit.usage,
  'argument-invalid': Exit.usage,
  'file-exists': Exit.usage,
  'backup-empty': Exit.failed,
  'backup-other': Exit.usage,
  'cluster-running': Exit.failed,
  'key-unknown': Exit.usage,
  'key-role': Exit.usage,
  'key-in-use': Exit.usage,
  'key-file-full': Exit.usage,
  'config-file-unreadable': Exit.failed,
  'config-invalid': Exit.usage,
  'key-not-found': Exit.failed,
  'cas-mismatch': Exit.failed,
  'replica-not-ready': Exit.failed,
  'worker-failed': Exit.failed,
  'compiler-missing': Exit.failed,
  'read-back-differs': Exit.failed,
  'output-unwritable': Exit.failed,
  interrupted: Exit.failed,
  'cluster-gone': Exit.unavailable,
  'assertion-failed': Exit.assertion,
} as const;

export type CliErrorCode = keyof typeof CLI_ERROR_CODES;

export class CliError extends Error {
  readonly category: 'caller' | 'environment';
  readonly retryable = false;
  /** @param message what is wrong and, behind a semicolon, what to do; one line */
  constructor(
    readonly code: CliErrorCode,
    message: string,
  ) {
    super(message);
    this.name = 'CliError';
    this.category = CLI_ERROR_CODES[code] === Exit.usage ? 'caller' : 'environment';
  }

  get exitCode(): number {
    return CLI_ERROR_CODES[this.code];
  }
}

/** The exit code an error stands for. */
export function exitCodeOf(error: unknown): number {
  if (error instanceof CliError) return error.exitCode;
  const { code, category } = fieldsOf(error);
  if (code !== undefined && UNAVAILABLE.has(code)) return Exit.unavailable;
  return category === USAGE_CATEGORY ? Exit.usage : Exit.failed;
}

/** The error as one line for stderr. */
export function lineOf(error: unknown): string {
  const { code } = fieldsOf(error);
  const message = error instanceof Error ? error.message : String(error);
  // Errors of the system begin with their code themselves.
  if (code !== undefined && message.startsWith(`${code}: `)) return `failed: ${message.replace(/\s*\n\s*/g, ' ')}`;
  return `${code ?? 'failed'}: ${message.replace(/\s*\n\s*/g, ' ')}`;
}

function fieldsOf(error: unknown): { code: string | undefined; category: string | undefined } {
  const { code, category } = (error ?? {}) as { code?: unknown; category?: unknown };
  return {
    code: typeof code === 'string' ? code : undefined,
    category: typeof category === 'string' ? category : undefined,
  };
}
