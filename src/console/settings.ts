/**
 * Settings are flags whose values may also come from the environment (`JITPAXOS_SYNC_INTERVAL`) and from a
 * configuration file (`"syncInterval"`). The commands' flag tables are the one source of names, kinds, bounds and help;
 * nothing here has its own list. The command line takes precedence over the environment, the environment over the file,
 * and the file over the default.
 *
 *     { "schema": "jitpaxos.replica/1", "id": 0, "cluster": "/etc/jitpaxos/cluster.json", "syncInterval": "5ms" }
 */
import { resolve } from 'node:path';
import { readRegularText } from '../storage/regular-file.js';
import { nearest, show } from '../host/options.js';
import { CliError } from './exit.js';
import type { CommandShape, Flag, Flags, Origin, Settings } from './flags.js';

export const CONFIG_SCHEMA = 'jitpaxos.replica/1';

const PREFIX = 'JITPAXOS_';
/** JITPAXOS variables that are not settings: for installation and tests. */
const OTHER_VARIABLES = new Set(['SKIP_NATIVE', 'REQUIRE_NATIVE', 'WARNINGS_ARE_ERRORS', 'TEST_SEED']);

/** The flag of every command that talks to a cluster. */
export const CLUSTER_FLAG = {
  kind: 'text',
  value: 'FILE',
  default: 'cluster.json',
  setting: true,
  help: 'the cluster file',
} as const satisfies Flag;

/**
 * The key file of a client: the same name in every command. Commands that used `--keys` for it keep that as an alias.
 * Replicas and clients read the same variable, JITPAXOS_KEYS.
 */
export const KEY_FILE_FLAG = {
  kind: 'text',
  value: 'FILE',
  setting: true,
  standard: 'client.keys beside the cluster file',
  help: "this client's key file, in a cluster with keys",
} as const satisfies Flag;

/** The option of a client for its keys. */
export function keysOf(values: { readonly 'key-file': string | undefined }): { readonly keys?: string } {
  return values['key-file'] === undefined ? {} : { keys: values['key-file'] };
}

const KEYS_VARIABLE = 'JITPAXOS_KEYS';

/** For the processes of a bench: the key file of the measured cluster; a local cluster has none. */
export function setWorkerKeys(file: string | undefined): void {
  if (file === undefined) delete process.env[KEYS_VARIABLE];
  else process.env[KEYS_VARIABLE] = resolve(file);
}

/** The key file that `setWorkerKeys` gave to this process of a bench. */
export function workerKeys(): { readonly keys?: string } {
  const keys = process.env[KEYS_VARIABLE];
  return keys === undefined || keys === '' ? {} : { keys };
}

/** The flag that names the configuration file. */
export const CONFIG_FLAG = {
  kind: 'text',
  value: 'FILE',
  standard: 'none',
  help: 'a file with any of these settings (docs/reference/configuration.md)',
} as const satisfies Flag;

/** All flags of a table as settings. */
export function asSettings<const F extends Flags>(
  flags: F,
): { readonly [K in keyof F]: F[K] & { readonly setting: true } } {
  return Object.fromEntries(Object.entries(flags).map(([name, flag]) => [name, { ...flag, setting: true }])) as {
    [K in keyof F]: F[K] & { readonly setting: true };
  };
}

/** `sync-interval` → `JITPAXOS_SYNC_INTERVAL`. */
export function variableOf(flag: string): string {
  return flag === 'key-file' ? KEYS_VARIABLE : PREFIX + flag.toUpperCase().replaceAll('-', '_');
}

/** `sync-interval` → `syncInterval`. */
export function keyOf(flag: string): string {
  return flag.replace(/-([a-z])/g, (_, letter: string) => letter.toUpperCase());
}

/**
 * Reads the other sources for a command. Throws CliError `config-file-unreadable` or `config-invalid`; it names the key
 * or variable, and suggests the word that was probably meant.
 * @param file the value of --config
 */
export function openSettings(command: CommandShape<Flags>, file: string | undefined, env: NodeJS.ProcessEnv): Settings {
  const names = Object.entries(command.flags).flatMap(([name, flag]) => (flag.setting === true ? [name] : []));
  if (names.includes('config')) checkVariables(names, env);
  const path = names.includes('config') ? (file ?? textOf(env, 'config')) : undefined;
  const content = path === undefined ? new Map<string, string>() : readFile(path, names, command.flags);
  return {
    lookup: (name): Origin | undefined => {
      const variable = textOf(env, name);
      if (variable !== undefined) return { from: 'environment', label: variableOf(name), text: variable };
      const text = content.get(name);
      return text === undefined ? undefined : { from: 'file', label: `${path}: "${keyOf(name)}"`, text };
    },
  };
}

/** The environment without settings, for replicas that get everything on their command line. */
export function withoutSettings(env: NodeJS.ProcessEnv): NodeJS.ProcessEnv {
  return Object.fromEntries(Object.entries(env).filter(([name]) => !name.startsWith(PREFIX)));
}

/** An empty variable counts as not set: many tools unset one that way. */
function textOf(env: NodeJS.ProcessEnv, name: string): string | undefined {
  const text = env[variableOf(name)];
  return text === '' ? undefined : text;
}

/** A variable that looks like a misspelt setting is refused: if it were ignored, nobody would notice that it does nothing. */
function checkVariables(names: readonly string[], env: NodeJS.ProcessEnv): void {
  const known = names.map((name) => variableOf(name).slice(PREFIX.length));
  for (const variable of Object.keys(env)) {
    const rest = variable.slice(PREFIX.length);
    if (!variable.startsWith(PREFIX) || known.includes(rest) || OTHER_VARIABLES.has(rest)) continue;
    const meant = nearest(rest, known);
    if (meant !== undefined)
      throw new CliError(
        'config-invalid',
        `the environment variable ${variable} is not known; did you mean ${PREFIX}${meant}?`,
      );
  }
}

function readFile(path: string, names: readonly string[], flags: Flags): Map<string, string> {
  let text: string;
  try {
    text = readRegularText(path);
  } catch (error) {
    throw new CliError(
      'config-file-unreadable',
      `configuration file ${path} cannot be read (${messageOf(error)}); give the right path with --config, or leave it out`,
    );
  }
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    throw new CliError('config-invalid', `configuration file ${path} is not JSON (${messageOf(error)}); correct it`);
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value))
    throw new CliError(
      'config-invalid',
      `configuration file ${path}: ${show(value)} is not a JSON object; write { "schema": "${CONFIG_SCHEMA}", … }`,
    );
  const { schema, ...given } = value as Record<string, unknown>;
  if (schema !== CONFIG_SCHEMA)
    throw new CliError(
      'config-invalid',
      `configuration file ${path}: "schema" is ${show(schema)}; this program reads "${CONFIG_SCHEMA}"`,
    );
  const byKey = new Map(names.filter((name) => name !== 'config').map((name) => [keyOf(name), name]));
  const content = new Map<string, string>();
  for (const [key, each] of Object.entries(given)) {
    const name = byKey.get(key);
    if (name === undefined) {
      const meant = nearest(key, [...byKey.keys()]);
      throw new CliError(
        'config-invalid',
        `configuration file ${path}: "${key}" is not known here; ${meant === undefined ? `use one of ${[...byKey.keys()].join(', ')}` : `did you mean "${meant}"?`}`,
      );
    }
    content.set(name, textIn(path, key, each, flags[name]!));
  }
  return content;
}

/** Numbers for flags without a unit, true and false for switches, text for all. */
function textIn(path: string, key: string, value: unknown, flag: Flag): string {
  if (typeof value === 'string') return value;
  if (typeof value === 'number' && (flag.kind === 'count' || flag.kind === 'bytes')) return String(value);
  if (typeof value === 'boolean' && flag.kind === 'switch') return String(value);
  throw new CliError(
    'config-invalid',
    `configuration file ${path}: "${key}" is ${show(value)}; it has to be ${flag.kind === 'switch' ? 'true or false' : flag.kind === 'count' || flag.kind === 'bytes' ? 'a number' : 'a text in quotes'}`,
  );
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
