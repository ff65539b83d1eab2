/**
 * What a coordinator may order an agent to do: the settings of one load at one rate. Every field is checked here, at the
 * agent, with the bounds of `bench load`. There is no field for a path, a command or an address: the cluster, the key,
 * the transport and the place of the log are the agent's own.
 */
import { CliError } from '../../console/exit.js';
import type { ArrivalKind } from '../load/arrivals.js';
import type { KeyDistribution } from '../load/keys.js';
import type { Mix } from '../load/messages.js';
import { OPERATION_NAMES } from '../load/operations.js';
import type { PacingKind } from '../load/pacer.js';
import {
  CLIENTS_MAX,
  DURATION_NS_MAX,
  KEYS_MAX,
  LANES_MAX,
  RATE_MAX,
  SIZE_MAX,
  TIMEOUT_NS_MAX,
  WARMUP_NS_MAX,
} from '../load/load-bounds.js';

const SEED_MAX = 2 ** 31 - 1;
const RUN = /^[0-9a-f]{16}$/;
/** Of the coordinator's command, for the log. */
export const COMMAND_CHARACTERS_MAX = 2_000;

export interface LoadOrder {
  /** Names the agent's run, 16 hexadecimal digits. */
  readonly run: string;
  /** The coordinator's command as typed: written into the log, and nowhere else. */
  readonly commandLine: string;
  /** Of this agent alone. */
  readonly ratePerSecond: number;
  readonly durationNs: number;
  readonly warmupNs: number;
  readonly arrivals: ArrivalKind;
  readonly seed: number;
  readonly clients: number;
  readonly lanes: number;
  readonly pacing: PacingKind;
  readonly machine: 'echo' | 'kv';
  readonly mix: Mix;
  readonly opBytes: number;
  readonly opBytesMax: number;
  readonly keys: number;
  readonly distribution: KeyDistribution;
  readonly timeoutNs: number;
}

/** Checks an order that anybody with a key may have written. Throws CliError `flag-invalid`, which names the field. */
export function checkedOrder(value: unknown): LoadOrder {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) throw wrong('it is not an object');
  const given = value as Record<string, unknown>;
  const number = (name: string, min: number, max: number, whole = true): number => {
    const found = given[name];
    if (typeof found !== 'number' || !(found >= min && found <= max) || (whole && !Number.isInteger(found)))
      throw wrong(`${name} is not a ${whole ? 'whole ' : ''}number from ${min} to ${max}`);
    return found;
  };
  const choice = <const T extends string>(name: string, choices: readonly T[]): T => {
    const found = choices.find((each) => each === given[name]);
    if (found === undefined) throw wrong(`${name} is not one of ${choices.join(', ')}`);
    return found;
  };
  const text = (name: string, fits: (found: string) => boolean): string => {
    const found = given[name];
    if (typeof found !== 'string' || !fits(found)) throw wrong(`${name} is not what it should be`);
    return found;
  };
  const machine = choice('machine', ['echo', 'kv']);
  const opBytes = number('opBytes', 0, SIZE_MAX);
  const clients = number('clients', 1, CLIENTS_MAX);
  return {
    run: text('run', (found) => RUN.test(found)),
    commandLine: text('commandLine', ({ length }) => length <= COMMAND_CHARACTERS_MAX),
    ratePerSecond: number('ratePerSecond', 0.1 * clients, RATE_MAX, false),
    durationNs: number('durationNs', 1e8, DURATION_NS_MAX, false),
    warmupNs: number('warmupNs', 0, WARMUP_NS_MAX, false),
    arrivals: choice('arrivals', ['poisson', 'even']),
    seed: number('seed', 0, SEED_MAX),
    clients,
    lanes: number('lanes', 1, LANES_MAX),
    pacing: choice('pacing', ['spin', 'sleep']),
    machine,
    mix: mixOf(given['mix'], OPERATION_NAMES[machine]),
    opBytes,
    opBytesMax: number('opBytesMax', opBytes, SIZE_MAX),
    keys: number('keys', 1, KEYS_MAX),
    distribution: choice('distribution', ['uniform', 'zipfian']),
    timeoutNs: number('timeoutNs', 1e6, TIMEOUT_NS_MAX, false),
  };
}

/** Does it only read? A read-only key may order nothing else. */
export function onlyReads({ mix }: Pick<LoadOrder, 'mix'>): boolean {
  return Object.keys(mix).every((operation) => operation === 'read');
}

function mixOf(value: unknown, allowed: readonly string[]): Mix {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) throw wrong('mix is not an object');
  const shares = Object.entries(value as Record<string, unknown>);
  if (shares.length === 0 || shares.length > allowed.length) throw wrong('mix has no operation, or too many');
  const mix: Record<string, number> = {};
  let sum = 0;
  for (const [name, share] of shares) {
    if (!allowed.includes(name)) throw wrong(`mix has an operation that is not one of ${allowed.join(', ')}`);
    if (typeof share !== 'number' || !(share > 0 && share <= 1)) throw wrong(`the share of ${name} is not one`);
    mix[name] = share;
    sum += share;
  }
  if (Math.abs(sum - 1) > 1e-6) throw wrong('the shares of mix do not add up to 1');
  return mix;
}

function wrong(what: string): CliError {
  return new CliError('flag-invalid', `the order cannot be carried out: ${what}; give other settings`);
}
