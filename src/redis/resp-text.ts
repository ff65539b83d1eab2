/**
 * Replies that the front end writes itself, as text in which a character is a byte. What the machine answers comes as
 * bytes and is passed on.
 */

import { textOf } from './resp-reader.js';

export type RespVersion = 2 | 3;

export const OK = '+OK\r\n';
export const QUEUED = '+QUEUED\r\n';

/** A status, such as OK. */
export function simple(text: string): string {
  return `+${text}\r\n`;
}

/** @param text begins with its word, such as ERR. Line ends in it, which would end the reply, become spaces. */
export function failure(text: string): string {
  return `-${text.replace(/[\r\n]/g, ' ')}\r\n`;
}

export function integer(value: number): string {
  return `:${value}\r\n`;
}

/** @param text a byte a character */
export function bulk(text: string): string {
  return `$${text.length}\r\n${text}\r\n`;
}

/** Text for people: RESP3 says that it is that. */
export function verbatim(version: RespVersion, text: string): string {
  const bytes = Buffer.from(text, 'utf8').toString('latin1');
  return version === 3 ? `=${bytes.length + 4}\r\ntxt:${bytes}\r\n` : bulk(bytes);
}

/** @param parts replies */
export function array(parts: readonly string[]): string {
  return `*${parts.length}\r\n${parts.join('')}`;
}

/** @param parts names and values in turns */
export function map(version: RespVersion, parts: readonly string[]): string {
  return version === 3 ? `%${parts.length / 2}\r\n${parts.join('')}` : array(parts);
}

export function set(version: RespVersion, parts: readonly string[]): string {
  return version === 3 ? `~${parts.length}\r\n${parts.join('')}` : array(parts);
}

export function nothing(version: RespVersion): string {
  return version === 3 ? '_\r\n' : '$-1\r\n';
}

const CR = 13;
const LF = 10;

/**
 * Where the reply that begins at `at` ends. −1: the bytes are no reply. Replies of the machine only: it is trusted to nest
 * little.
 */
export function replyEnd(bytes: Uint8Array, at: number): number {
  const line = lineEnd(bytes, at);
  if (line < 0) return -1;
  const count = Number(textOf(bytes, at + 1, line - at - 1));
  let next = line + 2;
  switch (String.fromCharCode(bytes[at]!)) {
    case '$':
    case '=':
    case '!':
      return count < 0 ? next : next + count + 2;
    case '*':
    case '~':
    case '>':
      for (let i = 0; i < count && next >= 0; i++) next = replyEnd(bytes, next);
      return next;
    case '%':
      for (let i = 0; i < 2 * count && next >= 0; i++) next = replyEnd(bytes, next);
      return next;
    default:
      return next;
  }
}

function lineEnd(bytes: Uint8Array, from: number): number {
  for (let at = from; at + 1 < bytes.length; at++) if (bytes[at] === CR && bytes[at + 1] === LF) return at;
  return -1;
}
