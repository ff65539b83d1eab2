/**
 * AES-128-GCM over whole datagrams (NIST SP 800-38D): encrypts and authenticates them in place.
 *
 * Two implementations with one interface and identical bytes, both on the OpenSSL inside Node. The addon's allocates
 * nothing. The other one uses node:crypto, allocates several objects per datagram and takes about twenty times as long.
 */
import { createCipheriv, createDecipheriv } from 'node:crypto';
import { AeadField, native, type AeadTable, type NativeAddon, type NativeBinding } from './addon.js';
import { fits, invalidArgument, outOfBounds } from './errors.js';

export const AEAD_KEY_BYTES = 16;
const AEAD_TAG_BYTES = 16;
const NONCE_BYTES = 12;
const ALGORITHM = 'aes-128-gcm';
const TAG_LENGTH = { authTagLength: AEAD_TAG_BYTES };

/** Where the parts of a datagram lie, bytes from its start. All of them are before `bodyAt`. */
export interface AeadFrame {
  /** The last bytes of the 12-byte nonce; those before them are zero. */
  readonly nonceAt: number;
  readonly nonceBytes: number;
  readonly tagAt: number;
  /** Authenticated and in clear: the datagram's first `headBytes`, and `tailBytes` from `tailAt` on. 64 at most. */
  readonly headBytes: number;
  readonly tailAt: number;
  readonly tailBytes: number;
  /** Everything from here on is encrypted. */
  readonly bodyAt: number;
}

/** One stream of datagrams in one direction. */
export interface StreamCipher {
  /** Takes a key of 16 bytes, which is copied, in the place of the one before. */
  setKey(key: Uint8Array): void;
  /**
   * Encrypts `length` bytes from `bytes[offset]` on in place, under the nonce that stands there, and writes the tag.
   * **The caller never gives one nonce to two datagrams of a key**, since that breaks the cipher.
   */
  seal(bytes: Uint8Array, offset: number, length: number): void;
  /** Decrypts in place. False if the datagram is not authentic: its body is then garbage. */
  open(bytes: Uint8Array, offset: number, length: number): boolean;
  /** Wipes the key. */
  forget(): void;
}

function framePacked(frame: AeadFrame): Uint8Array {
  const { nonceAt, nonceBytes, tagAt, headBytes, tailAt, tailBytes, bodyAt } = frame;
  return Uint8Array.of(nonceAt, nonceBytes, tagAt, headBytes, tailAt, tailBytes, bodyAt);
}

/** Makes the ciphers of one process. */
export interface CipherSource {
  /** A cipher without a key, for one direction. */
  cipher(seals: boolean): StreamCipher;
}

/**
 * The addon's memory in which a process receives datagrams, and in which it writes those that it sends. A cipher works
 * on datagrams elsewhere as well, but for these a call costs less.
 */
export interface DatagramMemory {
  readonly received: Uint8Array;
  readonly transmit: Uint8Array;
}

class NativeCiphers implements CipherSource {
  private readonly sealing: AeadTable;
  private readonly opening: AeadTable;

  constructor(
    addon: NativeAddon,
    frame: AeadFrame,
    private readonly memory: DatagramMemory | undefined,
  ) {
    const packed = framePacked(frame);
    this.sealing = addon.aeadTable(packed, true, memory?.transmit);
    this.opening = addon.aeadTable(packed, false, memory?.received);
  }

  cipher(seals: boolean): StreamCipher {
    return seals
      ? new NativeStream(this.sealing, true, this.memory?.transmit)
      : new NativeStream(this.opening, false, this.memory?.received);
  }
}

/**
 * A stream of a table. It has a slot while it has a key. Sealing and opening call their tables in places of their own:
 * V8 makes a call cheap where it always meets the same function.
 */
class NativeStream implements StreamCipher {
  private slot = -1;
  private readonly fields: Int32Array;

  constructor(
    private readonly table: AeadTable,
    private readonly seals: boolean,
    private readonly memory: Uint8Array | undefined,
  ) {
    this.fields = table.fields;
  }

  setKey(key: Uint8Array): void {
    this.slot = this.table.setKey(this.slot, key);
  }

  seal(bytes: Uint8Array, offset: number, length: number): void {
    if (!this.seals) throw wrongDirection();
    if (bytes !== this.memory) {
      this.table.run(this.slot, bytes, offset, length);
      return;
    }
    this.point(offset, length);
    this.table.runInMemory();
  }

  open(bytes: Uint8Array, offset: number, length: number): boolean {
    if (this.seals) throw wrongDirection();
    if (bytes !== this.memory) return this.table.run(this.slot, bytes, offset, length);
    this.point(offset, length);
    this.table.runInMemory();
    return this.fields[AeadField.intact] === 1;
  }

  forget(): void {
    if (this.slot < 0) return;
    this.table.forget(this.slot);
    this.slot = -1;
  }

  /** Writes the arguments of `runInMemory`. */
  private point(offset: number, length: number): void {
    const { fields } = this;
    fields[AeadField.slot] = this.slot;
    fields[AeadField.offset] = offset;
    fields[AeadField.length] = length;
  }
}

function wrongDirection(): Error {
  return invalidArgument('aead: this stream is for the other direction');
}

class JavaScriptStream implements StreamCipher {
  readonly #key = new Uint8Array(AEAD_KEY_BYTES);
  #hasKey = false;
  private readonly nonce = new Uint8Array(NONCE_BYTES);

  constructor(
    private readonly frame: AeadFrame,
    private readonly seals: boolean,
  ) {}

  setKey(key: Uint8Array): void {
    if (!(key instanceof Uint8Array) || key.length !== AEAD_KEY_BYTES)
      throw invalidArgument(`setKey: key must be a Uint8Array of ${AEAD_KEY_BYTES} bytes`);
    this.#key.set(key);
    this.#hasKey = true;
  }

  seal(bytes: Uint8Array, offset: number, length: number): void {
    this.check(true, bytes, offset, length);
    const cipher = createCipheriv(ALGORITHM, this.#key, this.nonceOf(bytes, offset), TAG_LENGTH);
    cipher.setAAD(this.clearOf(bytes, offset));
    const body = bytes.subarray(offset + this.frame.bodyAt, offset + length);
    body.set(cipher.update(body));
    cipher.final();
    bytes.set(cipher.getAuthTag(), offset + this.frame.tagAt);
  }

  open(bytes: Uint8Array, offset: number, length: number): boolean {
    this.check(false, bytes, offset, length);
    const decipher = createDecipheriv(ALGORITHM, this.#key, this.nonceOf(bytes, offset), TAG_LENGTH);
    decipher.setAAD(this.clearOf(bytes, offset));
    const tagAt = offset + this.frame.tagAt;
    decipher.setAuthTag(bytes.subarray(tagAt, tagAt + AEAD_TAG_BYTES));
    const body = bytes.subarray(offset + this.frame.bodyAt, offset + length);
    body.set(decipher.update(body));
    try {
      decipher.final();
      return true;
    } catch {
      return false;
    }
  }

  forget(): void {
    this.#key.fill(0);
    this.#hasKey = false;
  }

  private nonceOf(bytes: Uint8Array, offset: number): Uint8Array {
    const { nonceAt, nonceBytes } = this.frame;
    this.nonce.set(bytes.subarray(offset + nonceAt, offset + nonceAt + nonceBytes), NONCE_BYTES - nonceBytes);
    return this.nonce;
  }

  private clearOf(bytes: Uint8Array, offset: number): Uint8Array {
    const { headBytes, tailAt, tailBytes } = this.frame;
    const clear = new Uint8Array(headBytes + tailBytes);
    clear.set(bytes.subarray(offset, offset + headBytes));
    clear.set(bytes.subarray(offset + tailAt, offset + tailAt + tailBytes), headBytes);
    return clear;
  }

  private check(seals: boolean, bytes: Uint8Array, offset: number, length: number): void {
    if (this.seals !== seals) throw wrongDirection();
    if (!this.#hasKey) throw invalidArgument('aead: the stream has no key now');
    if (!(bytes instanceof Uint8Array)) throw invalidArgument('aead: bytes must be a Uint8Array');
    if (!fits(bytes.length, offset, length) || length < this.frame.bodyAt)
      throw outOfBounds(
        'aead: offset and length must be whole numbers from 0 on, stay inside bytes and hold the frame',
      );
  }
}

/**
 * The fastest ciphers available. Throws the errors of NativeAddon.aeadTable, except `aead-unavailable`.
 * @param memory of the addon; most datagrams lie in it
 */
export function openCiphers(frame: AeadFrame, memory?: DatagramMemory, binding: NativeBinding = native): CipherSource {
  if (binding.available) {
    try {
      return new NativeCiphers(binding.addon, frame, memory);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'aead-unavailable') throw error;
    }
  }
  return { cipher: (seals) => new JavaScriptStream(frame, seals) };
}
