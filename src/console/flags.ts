/**
 * One table of flags for each command gives the parser, the types of the values and the help text, so that they cannot
 * disagree. node:util parses; this adds kinds with units, bounds, and errors that say what to do.
 */
import { parseArgs } from 'node:util';
import { nearest } from '../host/options.js';
import { CliError } from './exit.js';
import { parseCount, parseDuration, parseSize, writeDuration } from './units.js';

interface FlagBase {
  readonly help: string;
  /** Placeholder in the help. */
  readonly value?: string;
  /** May be given several times; the value is then a list. */
  readonly many?: boolean;
  /** May also come from the environment and a configuration file (settings.ts). */
  readonly setting?: true;
  /** Another name of the flag on the command line. */
  readonly alias?: string;
  /** What applies if the flag is not given, in words or as a value, if the table has no `default` for it. */
  readonly standard?: string;
}
export type Flag =
  | (FlagBase & { readonly kind: 'switch' })
  | (FlagBase & { readonly kind: 'text'; readonly default?: string })
  | (FlagBase & { readonly kind: 'choice'; readonly choices: readonly string[]; readonly default?: string })
  /** `count`: a whole number; `bytes`: a size; `duration`: in ns. */
  | (FlagBase & {
      readonly kind: 'count' | 'bytes' | 'duration';
      readonly default?: string;
      readonly min?: number;
      readonly max?: number;
    });

export type Flags = Readonly<Record<string, Flag>>;

type Scalar<F extends Flag> = F['kind'] extends 'switch'
  ? boolean
  : F['kind'] extends 'text' | 'choice'
    ? string
    : number;
type ValueOf<F extends Flag> = F extends { readonly many: true }
  ? readonly Scalar<F>[]
  : F extends { readonly default: string } | { readonly kind: 'switch' }
    ? Scalar<F>
    : Scalar<F> | undefined;
export type Values<F extends Flags> = { readonly [K in keyof F]: ValueOf<F[K]> };

/** The flags that every command has. */
export const COMMON_FLAGS = {
  json: { kind: 'switch', help: 'print one JSON object instead of text' },
  quiet: { kind: 'switch', help: 'print results only' },
  help: { kind: 'switch', help: 'print this help' },
} as const satisfies Flags;

/** What a command declares about itself; `run` is in the same file. */
export interface CommandShape<F extends Flags> {
  /** As typed: `jitpaxos bench latency`. */
  readonly name: string;
  readonly summary: string;
  /** Positional arguments in order; those in brackets are optional. */
  readonly positionals: readonly string[];
  readonly flags: F;
  readonly examples: readonly string[];
  /** It serves others: an unread output is no reason to end. */
  readonly service?: true;
}

export interface Parsed<F extends Flags> {
  readonly values: Values<F>;
  readonly positionals: readonly string[];
  /** Where the value of each flag comes from; absent for a flag without a value. */
  readonly origins: Readonly<Record<string, Origin>>;
}

/** One value as written, and where. */
export interface Origin {
  readonly from: 'flag' | 'environment' | 'file' | 'default';
  /** `--id`, `JITPAXOS_ID`, `FILE: "id"`. */
  readonly label: string;
  readonly text: string;
}

/** Values from sources other than the command line. */
export interface Settings {
  lookup(name: string): Origin | undefined;
}

/**
 * Parses `args` (after the command's name). Throws CliError with exit code 2 for anything that is not in the table.
 * @param settings opens the other sources of values; gets the value of --config
 */
export function parseFlags<const F extends Flags>(
  command: CommandShape<F>,
  args: readonly string[],
  settings?: (file: string | undefined) => Settings,
): Parsed<F> {
  const names = new Map<string, string>();
  for (const [name, { alias }] of Object.entries(command.flags)) {
    names.set(name, name);
    if (alias !== undefined) names.set(alias, name);
  }
  const options = Object.fromEntries(
    [...names].map(([written, name]) => [
      written,
      { type: command.flags[name]!.kind === 'switch' ? ('boolean' as const) : ('string' as const) },
    ]),
  );
  const { tokens } = parseArgs({ args: [...args], options, strict: false, allowPositionals: true, tokens: true });
  const given = new Map<string, string[]>();
  const positionals: string[] = [];
  for (const token of tokens) {
    if (token.kind === 'positional') positionals.push(token.value);
    if (token.kind !== 'option') continue;
    const name = names.get(token.rawName === '-h' ? 'help' : token.name);
    if (name === undefined) throw unknownFlag(command, token.rawName);
    const flag = command.flags[name]!;
    if (flag.kind !== 'switch' && token.value === undefined) {
      throw new CliError(
        'flag-invalid',
        `--${token.name} needs a value: ${describe(flag)}; see ${command.name} --help`,
      );
    }
    if (flag.kind === 'switch' && token.value !== undefined)
      throw new CliError(
        'flag-invalid',
        `--${token.name} takes no value, got "${token.value}"; leave out "=${token.value}"`,
      );
    const earlier = given.get(name);
    if (earlier !== undefined && flag.many !== true && flag.kind !== 'switch')
      throw new CliError('flag-invalid', `--${token.name} is given twice; give it once`);
    given.set(name, [...(earlier ?? []), token.value ?? '']);
  }
  const elsewhere = given.has('help') ? undefined : settings?.(given.get('config')?.at(-1));
  const values: Record<string, unknown> = {};
  const origins: Record<string, Origin> = {};
  for (const [name, flag] of Object.entries(command.flags)) {
    const texts = given.get(name);
    if (flag.many === true) {
      values[name] = (texts ?? []).map((text) => convert(command.name, `--${name}`, flag, text));
      continue;
    }
    const origin =
      texts !== undefined
        ? { from: 'flag' as const, label: `--${name}`, text: flag.kind === 'switch' ? 'true' : texts[0]! }
        : ((flag.setting === true ? elsewhere?.lookup(name) : undefined) ?? standardOf(name, flag));
    values[name] =
      origin === undefined
        ? flag.kind === 'switch'
          ? false
          : undefined
        : convert(command.name, origin.label, flag, origin.text);
    if (origin !== undefined) origins[name] = origin;
  }
  if (values['help'] !== true) checkPositionals(command, positionals);
  return { values: values as Values<F>, positionals, origins };
}

/** The text of `--help`. */
export function helpOf(command: CommandShape<Flags>): string {
  const rows = Object.entries(command.flags).map(([name, flag]) => {
    const left = flag.kind === 'switch' ? `--${name}` : `--${name} ${placeholder(flag)}`;
    return [left, flag.help + standardText(flag)] as const;
  });
  const width = Math.max(...rows.map(([left]) => left.length));
  return [
    `${[command.name, ...command.positionals].join(' ')} [flags]`,
    '',
    command.summary,
    '',
    'Flags:',
    ...rows.map(([left, right]) => `  ${left.padEnd(width)}  ${right}`),
    ...(command.examples.length > 0 ? ['', 'Examples:', ...command.examples.map((example) => `  ${example}`)] : []),
    '',
  ].join('\n');
}

/** ` (default 5ms)`, or nothing. */
export function standardText(flag: Flag): string {
  const standard = standardWords(flag);
  return standard === undefined ? '' : ` (default ${standard})`;
}

/** What applies if the flag is not given; undefined if there is nothing useful to say. */
export function standardWords(flag: Flag): string | undefined {
  return flag.kind === 'switch' ? flag.standard : (flag.default ?? flag.standard);
}

function unknownFlag(command: CommandShape<Flags>, raw: string): CliError {
  const meant = nearest(raw.replace(/^-+/, ''), Object.keys(command.flags));
  const hint = meant === undefined ? '' : `did you mean --${meant}? `;
  return new CliError('unknown-flag', `${raw} is not a flag of "${command.name}"; ${hint}see ${command.name} --help`);
}

function checkPositionals(command: CommandShape<Flags>, positionals: readonly string[]): void {
  const required = command.positionals.filter((name) => !name.startsWith('['));
  if (positionals.length < required.length) {
    throw new CliError(
      'argument-invalid',
      `${required[positionals.length]} is missing; use ${[command.name, ...command.positionals].join(' ')}`,
    );
  }
  // A last name that ends in … stands for one or more.
  if (positionals.length > command.positionals.length && command.positionals.at(-1)?.endsWith('…') !== true) {
    throw new CliError(
      'argument-invalid',
      `"${positionals[command.positionals.length]}" is one argument too many; use ${[command.name, ...command.positionals].join(' ')}`,
    );
  }
}

function standardOf(name: string, flag: Flag): Origin | undefined {
  return flag.kind === 'switch' || flag.default === undefined
    ? undefined
    : { from: 'default', label: `--${name}`, text: flag.default };
}

function convert(command: string, label: string, flag: Flag, text: string): string | number | boolean {
  const refuse = (): CliError => {
    const meant = flag.kind === 'choice' ? nearest(text, flag.choices) : undefined;
    return new CliError(
      'flag-invalid',
      `${label} "${text}" is not ${describe(flag)}; ${meant === undefined ? '' : `did you mean ${meant}? `}see ${command} --help`,
    );
  };
  if (flag.kind === 'switch') {
    if (text !== 'true' && text !== 'false') throw refuse();
    return text === 'true';
  }
  if (flag.kind === 'text') {
    if (text === '') throw refuse();
    return text;
  }
  if (flag.kind === 'choice') {
    if (!flag.choices.includes(text)) throw refuse();
    return text;
  }
  const value =
    flag.kind === 'count' ? parseCount(text) : flag.kind === 'bytes' ? parseSize(text) : parseDuration(text);
  if (value === undefined) throw refuse();
  if (value < (flag.min ?? 0) || value > (flag.max ?? Infinity)) {
    if (flag.kind !== 'duration') throw refuse();
    throw new CliError(
      'flag-invalid',
      `${label} "${text}" is out of range; it has to be ${rangeOf(flag.min ?? 0, flag.max)}`,
    );
  }
  return value;
}

function describe(flag: Flag): string {
  switch (flag.kind) {
    case 'switch':
      return 'true or false';
    case 'text':
      return `a text (${placeholder(flag)})`;
    case 'choice':
      return `one of ${flag.choices.join(', ')}`;
    case 'duration':
      return 'a duration with a unit, like 5s or 200ms';
    default: {
      const what = flag.kind === 'count' ? 'a whole number' : 'a size, like 64 or 64KiB,';
      if (flag.max !== undefined) return `${what} from ${flag.min ?? 0} to ${flag.max}`;
      return flag.min === undefined ? what : `${what} of at least ${flag.min}`;
    }
  }
}

/** `from 1ms to 1h` */
function rangeOf(minNs: number, maxNs: number | undefined): string {
  return maxNs === undefined
    ? `${writeDuration(minNs)} or more`
    : `from ${writeDuration(minNs)} to ${writeDuration(maxNs)}`;
}

function placeholder(flag: Flag): string {
  if (flag.value !== undefined) return flag.value;
  if (flag.kind === 'choice') return flag.choices.join('|');
  return { switch: '', text: 'TEXT', count: 'N', bytes: 'SIZE', duration: 'DURATION' }[flag.kind];
}
