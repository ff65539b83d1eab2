/** The frame of every bench: one table of flags, one line for an error, `--json` for programs. */
import { outputFor, type Output } from '../src/cli/command.js';
import { exitCodeOf, lineOf } from '../src/cli/exit.js';
import { COMMON_FLAGS, helpOf, parseFlags, type CommandShape, type Flags, type Values } from '../src/cli/flags.js';

/** Parses the command line, runs `run`, sets the exit code. */
export async function program<const F extends Flags>(shape: CommandShape<F>, run: (values: Values<F & typeof COMMON_FLAGS>, output: Output) => Promise<void>): Promise<void> {
  const whole = { ...shape, flags: { ...shape.flags, ...COMMON_FLAGS } };
  try {
    const { values } = parseFlags<F & typeof COMMON_FLAGS>(whole, process.argv.slice(2));
    if ((values as { help?: unknown }).help === true) process.stdout.write(helpOf(whole));
    else await run(values, outputFor(values as { json?: unknown; quiet?: unknown }));
  } catch (error) {
    process.stderr.write(`${lineOf(error)}\n`);
    process.exitCode = exitCodeOf(error);
  }
}
