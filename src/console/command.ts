/** What a subcommand is, and what it may print to. */
import { printable } from '../host/printable.js';
import { COMMON_FLAGS, type CommandShape, type Flags, type Parsed } from './flags.js';

export interface Output {
  /** Results: stdout. Text from elsewhere cannot control the terminal (host/printable.ts). */
  line(text: string): void;
  /** Progress and remarks for the user: stderr, silent with --quiet. */
  note(text: string): void;
  readonly json: boolean;
  readonly quiet: boolean;
  /** Stdout is a terminal. */
  readonly terminal: boolean;
  /** The terminal shows colours: it is one, and NO_COLOR is not set. */
  readonly colours: boolean;
}

export interface Command {
  readonly shape: CommandShape<Flags>;
  /**
   * Runs with the arguments after the command's name and returns the exit code. Throws errors that exit.ts turns into a
   * line.
   */
  run(parsed: Parsed<Flags>, output: Output): Promise<number>;
}

/** Declares a command: adds the common flags and keeps the types of the table for `run`. */
export function defineCommand<const F extends Flags>(
  shape: Omit<CommandShape<F>, 'flags'> & { readonly flags: F },
  run: (parsed: Parsed<F & typeof COMMON_FLAGS>, output: Output) => Promise<number>,
): Command {
  return {
    shape: { ...shape, name: `jitpaxos ${shape.name}`, flags: { ...shape.flags, ...COMMON_FLAGS } },
    run: run as Command['run'],
  };
}

export function outputFor(
  values: { readonly json?: unknown; readonly quiet?: unknown },
  env: NodeJS.ProcessEnv = process.env,
): Output {
  const terminal = process.stdout.isTTY === true && env['TERM'] !== 'dumb';
  const quiet = values.quiet === true;
  const colours = terminal && (env['NO_COLOR'] ?? '') === '';
  return {
    line: (text) => void process.stdout.write(`${printable(text, colours)}\n`),
    note: (text) => void (quiet || process.stderr.write(`${printable(text, colours)}\n`)),
    json: values.json === true,
    quiet,
    terminal,
    colours,
  };
}
