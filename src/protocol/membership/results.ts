/** The result of an entry that changes who the hosts are, as its client gets it: see changes.ts for what each outcome means. */
import { readU16, writeU16 } from '../../wire/u64.js';
import { Outcome, type OutcomeCode } from './changes.js';
import { ID_MAX } from '../../wire/host-ids.js';

/** Outcome u8 | id u16 | started u16 | decided u16 */
export const RESULT_BYTES = 7;

export interface ChangeResult {
  readonly outcome: OutcomeCode;
  /** The host that it is about. */
  readonly id: number | undefined;
  /** The epochs behind the entry: the one in force, and the decided one. */
  readonly started: number;
  readonly decided: number;
}

/** `epochMismatch` → `epoch-mismatch`. */
type Kebab<S extends string> = S extends `${infer First}${infer Rest}`
  ? `${First extends Lowercase<First> ? First : `-${Lowercase<First>}`}${Kebab<Rest>}`
  : '';
export type OutcomeName = Kebab<keyof typeof Outcome>;

/** By outcome. */
export const OUTCOME_NAMES = Object.keys(Outcome).map((name) =>
  name.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`),
) as readonly OutcomeName[];

export function writeChangeResult(
  bytes: Uint8Array,
  outcome: number,
  id: number,
  started: number,
  decided: number,
): void {
  bytes[0] = outcome;
  writeU16(bytes, 1, id);
  writeU16(bytes, 3, started);
  writeU16(bytes, 5, decided);
}

/** Undefined if the bytes are not such a result. */
export function readChangeResult(bytes: Uint8Array, length: number): ChangeResult | undefined {
  const outcome = bytes[0]!;
  if (length !== RESULT_BYTES || outcome >= OUTCOME_NAMES.length) return undefined;
  const id = readU16(bytes, 1);
  return {
    outcome: outcome as OutcomeCode,
    id: id > ID_MAX ? undefined : id,
    started: readU16(bytes, 3),
    decided: readU16(bytes, 5),
  };
}
