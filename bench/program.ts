/** The frame of every bench: one table of flags, one line for an error, `--json` for programs. */
import { outputFor, type Output } from '../src/console/command.js';
import { CliError, exitCodeOf, lineOf } from '../src/console/exit.js';
import { COMMON_FLAGS, helpOf, parseFlags, type CommandShape, type Flags, type Values } from '../src/console/flags.js';

/** Parses the command line, runs `run`, sets the exit code. */
export async function program<const F extends Flags>(
  shape: CommandShape<F>,
  run: (values: Values<F & typeof COMMON_FLAGS>, output: Output) => Promise<void>,
): Promise<void> {
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

/** A flag's list of numbers. Throws CliError `flag-invalid`. */
export function numbersOf(flag: string, text: string): number[] {
  const numbers = text.split(',').map(Number);
  if (text === '' || numbers.some((number) => !Number.isFinite(number) || number < 0))
    throw new CliError('flag-invalid', `${flag} is a list of numbers with commas between them, not "${text}"`);
  return numbers;
}

/** The items that a flag's list names. Throws CliError `flag-invalid`. */
export function namesOf<T extends { readonly name: string }>(flag: string, text: string, known: readonly T[]): T[] {
  return text.split(',').map((name) => {
    const found = known.find((one) => one.name === name);
    if (found === undefined)
      throw new CliError(
        'flag-invalid',
        `${flag}: "${name}" is not one of ${known.map((one) => one.name).join(', ')}; use some of these, with commas between them`,
      );
    return found;
  });
}
