/**
 * Keyspace notifications: which names of Redis a change of a key has, and which of them an operator wants told (CONFIG SET
 * notify-keyspace-events). A setting of this front end, like all of CONFIG.
 */
import { EVENT_CODE_MASK, EventFlag } from '../machine/store/change-ring.js';
import { EVENT_NAMES } from '../machine/redis/events.js';

/** Classes in the order in which Redis writes them; `A` stands for those of ALL. */
const ALL = 'g$lshzxetd';
const OTHERS = 'KEmn';

/** Told under the class of its command's type, by the name's beginning. */
const GENERIC = new Set(['del', 'expire', 'persist', 'rename_from', 'rename_to', 'copy_to']);

export interface NamedEvent {
  readonly name: string;
  readonly class: string;
}

/** The setting as Redis writes it; undefined: it has a character that means nothing. */
export function normalized(text: string): string | undefined {
  const all = text.includes('A') ? ALL : '';
  if ([...text].some((letter) => letter !== 'A' && !(ALL + OTHERS).includes(letter))) return undefined;
  const has = (letter: string): boolean => (text + all).includes(letter);
  const classes = [...ALL].filter(has).join('');
  return (classes === ALL ? 'A' : classes) + [...OTHERS].filter(has).join('');
}

/** Whether anything is told under this setting. */
export function isTelling(setting: string): boolean {
  return /[KE]/.test(setting) && /[^KE]/.test(setting);
}

export function isWanted(setting: string, { class: letter }: NamedEvent): boolean {
  return setting.includes(letter) || (setting.includes('A') && ALL.includes(letter));
}

/** What happened to the key, in Redis' order. @param event of a change: its code, with EventFlags; 0: unknown */
export function namesOf(kind: 'put' | 'delete' | 'expire', event: number): NamedEvent[] {
  if (kind === 'expire') return [{ name: 'expired', class: 'x' }];
  const command = EVENT_NAMES[(event & EVENT_CODE_MASK) - 1];
  const ends = (event & EventFlag.ends) !== 0;
  const names = kind === 'put' ? namesOfPut(command, ends) : namesOfDelete(command);
  const told = names.map((name) => ({ name, class: classOf(name) }));
  return (event & EventFlag.added) !== 0 ? [{ name: 'new', class: 'n' }, ...told] : told;
}

function namesOfPut(command: string | undefined, ends: boolean): string[] {
  switch (command) {
    case undefined:
    case 'set':
      return ends ? ['set', 'expire'] : ['set'];
    case 'getex':
      return [ends ? 'expire' : 'persist'];
    case 'rename':
      return ['rename_to'];
    default:
      return [command];
  }
}

function namesOfDelete(command: string | undefined): string[] {
  if (command === 'rename') return ['rename_from'];
  // What takes members away takes the key with the last one.
  return command !== undefined && /^(?:hdel|srem|spop|lpop|rpop|ltrim|lrem|zrem|zpop)/.test(command)
    ? [command, 'del']
    : ['del'];
}

function classOf(name: string): string {
  if (GENERIC.has(name)) return 'g';
  if (name === 'sortstore') return 'l';
  if (/^(?:set|append|setrange|setbit|incrby|incrbyfloat)$/.test(name)) return '$';
  return name[0] === 'r' ? 'l' : name[0]!;
}
