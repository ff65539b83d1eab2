/** Results, compared and shown. */
import { isDeepStrictEqual } from 'node:util';

/** More bytes than this are cut off in texts. */
const BYTES_SHOWN = 32;

/** Bytes are compared by content, whether Buffer or Uint8Array; anything else by its structure. */
export function sameResult(a: unknown, b: unknown): boolean {
  return a instanceof Uint8Array && b instanceof Uint8Array ? sameBytes(a, b) : isDeepStrictEqual(a, b);
}

export function sameBytes(a: Uint8Array, b: Uint8Array): boolean {
  return Buffer.compare(a, b) === 0;
}

/** `[01 ff]`, with the text behind it if it is one: `[6f 6b] "ok"`. */
export function describeBytes(bytes: Uint8Array): string {
  const shown = [...bytes.subarray(0, BYTES_SHOWN)];
  const hex = shown.map((byte) => byte.toString(16).padStart(2, '0')).join(' ');
  const isText = shown.length > 0 && shown.every((byte) => byte >= 0x20 && byte < 0x7f);
  const more = bytes.length > BYTES_SHOWN ? ` … ${bytes.length} bytes` : '';
  return `[${hex}${more}]${isText ? ` "${String.fromCharCode(...shown)}${more === '' ? '' : '…'}"` : ''}`;
}
