/**
 * HMAC-SHA-256 cut to 128 bits (RFC 2104; RFC 4868, section 2.3): authenticates datagrams.
 *
 * Two implementations with one interface and identical bytes, both on the OpenSSL inside Node. The addon's allocates
 * nothing. The other one uses node:crypto, allocates several objects per call and takes about ten times as long.
 */
import { createHmac } from 'node:crypto';
import { native, type NativeBinding } from './addon.js';
import { fits, invalidArgument, outOfBounds } from './errors.js';

export const MAC_KEY_BYTES = 32;
export const MAC_BYTES = 16;

/** One key, ready for use. */
export interface Mac {
  /**
   * Authenticates `length` bytes from `bytes[offset]` on (0 is allowed) and writes 16 bytes to `out[outOffset]`. `out`
   * may be `bytes`, even overlapping.
   *
   * Throws RangeError `out-of-bounds` if a range leaves its array, TypeError `invalid-argument` if an array is not a
   * Uint8Array or the key was closed; nothing is then written.
   */
  mac128(bytes: Uint8Array, offset: number, length: number, out: Uint8Array, outOffset: number): void;
  /** Forgets the key. Closing again does nothing. */
  close(): void;
}

class NativeMac implements Mac {
  /** −1 once closed, which hmac128 refuses: the slot may belong to another key by then. */
  #slot: number;

  constructor(
    private readonly addon: NonNullable<NativeBinding['addon']>,
    key: Uint8Array,
  ) {
    this.#slot = addon.hmacOpen(key);
  }

  mac128(bytes: Uint8Array, offset: number, length: number, out: Uint8Array, outOffset: number): void {
    this.addon.hmac128(this.#slot, bytes, offset, length, out, outOffset);
  }

  close(): void {
    this.addon.hmacClose(this.#slot);
    this.#slot = -1;
  }
}

class JavaScriptMac implements Mac {
  #key: Uint8Array | undefined;

  constructor(key: Uint8Array) {
    if (!(key instanceof Uint8Array) || key.length !== MAC_KEY_BYTES)
      throw invalidArgument(`mac: a key has ${MAC_KEY_BYTES} bytes`);
    this.#key = new Uint8Array(key); // not slice: a Buffer's shares its memory, which the caller wipes
  }

  mac128(bytes: Uint8Array, offset: number, length: number, out: Uint8Array, outOffset: number): void {
    if (this.#key === undefined) throw invalidArgument('mac: the key is closed');
    if (!(bytes instanceof Uint8Array) || !(out instanceof Uint8Array))
      throw invalidArgument('mac: bytes and out must be Uint8Arrays');
    if (!fits(bytes.length, offset, length))
      throw outOfBounds('mac: offset and length must be whole numbers from 0 on and stay inside bytes');
    if (!fits(out.length, outOffset, MAC_BYTES))
      throw outOfBounds('mac: outOffset must be a whole number from 0 on and leave 16 bytes in out');
    const digest = createHmac('sha256', this.#key)
      .update(bytes.subarray(offset, offset + length))
      .digest();
    out.set(digest.subarray(0, MAC_BYTES), outOffset);
  }

  close(): void {
    this.#key?.fill(0);
    this.#key = undefined;
  }
}

/**
 * The fastest MAC available under `key`, 32 bytes, which is copied. Throws the errors of NativeAddon.hmacOpen, except
 * `hmac-unavailable`.
 */
export function openMac(key: Uint8Array, binding: NativeBinding = native): Mac {
  if (!binding.available) return new JavaScriptMac(key);
  try {
    return new NativeMac(binding.addon, key);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'hmac-unavailable') throw error;
    return new JavaScriptMac(key);
  }
}
