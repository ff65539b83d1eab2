/** Entries for tests: what is not named is zero, or nothing. */
import { Entry } from '../../src/protocol/log/entry.js';
import { ArrivedRequest } from '../../src/protocol/replica/arrived-request.js';

/** The fields of a flyweight, without its methods. */
type Fields<T> = { [K in keyof T as T[K] extends number | Uint8Array ? K : never]?: T[K] };

export function entryOf(fields: Fields<Entry>): Entry {
  return Object.assign(new Entry(), fields);
}

export function arrivedOf(fields: Omit<Fields<ArrivedRequest>, 'messageLength'>): ArrivedRequest {
  return Object.assign(new ArrivedRequest(), fields);
}
