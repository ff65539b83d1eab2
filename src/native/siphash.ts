/**
 * SipHash-2-4, 64 bits, under a secret of 16 bytes: chains the log of a cluster with keys. Without the secret nobody
 * can find two operations with the same chain, or predict the chain of any operation.
 *
 * Two implementations with one interface and identical bytes, like those of XXH3 (hash64.ts); both allocate nothing.
 * The one without the addon computes with 32-bit halves and takes about ten times as long. A cluster may mix them.
 * Source: Aumasson, Bernstein, "SipHash: a fast short-input PRF" (2012), section 2.
 * docs/internals/decisions/keyed-chain.md explains the choice.
 */
import { native, type NativeBinding } from './addon.js';
import { fits, invalidArgument, outOfBounds } from './errors.js';
import type { HashArena } from './addon.js';
import type { Hash64 } from './hash64.js';

export const SIP_SECRET_BYTES = 16;

const DIGEST_BYTES = 8;

class NativeSipHash implements Hash64 {
  constructor(
    private readonly addon: NonNullable<NativeBinding['addon']>,
    private readonly secret: Uint8Array,
  ) {}

  hash64(bytes: Uint8Array, offset: number, length: number, out: Uint8Array, outOffset: number): void {
    this.addon.sipHash64(this.secret, bytes, offset, length, out, outOffset);
  }

  hashArena(length: number): HashArena {
    return this.addon.hashArena(length, this.secret);
  }
}

class JavaScriptSipHash implements Hash64 {
  /** v0 to v3 before the first word: lower and upper half of each. */
  private readonly initial = new Int32Array(8);
  /** Lower and upper half. */
  private readonly digest = new Int32Array(2);

  constructor(secret: Uint8Array) {
    const { initial } = this;
    const [k0Lo, k0Hi, k1Lo, k1Hi] = [0, 4, 8, 12].map((at) => littleEndian(secret, at)) as [
      number,
      number,
      number,
      number,
    ];
    initial.set([
      k0Lo ^ 0x70736575,
      k0Hi ^ 0x736f6d65,
      k1Lo ^ 0x6e646f6d,
      k1Hi ^ 0x646f7261,
      k0Lo ^ 0x6e657261,
      k0Hi ^ 0x6c796765,
      k1Lo ^ 0x79746573,
      k1Hi ^ 0x74656462,
    ]);
  }

  hash64(bytes: Uint8Array, offset: number, length: number, out: Uint8Array, outOffset: number): void {
    if (!(bytes instanceof Uint8Array) || !(out instanceof Uint8Array)) {
      throw invalidArgument(
        'sipHash64: bytes and out must be Uint8Arrays; call hash64(bytes, offset, length, out, outOffset)',
      );
    }
    if (!fits(bytes.length, offset, length)) {
      throw outOfBounds('sipHash64: offset and length must be whole numbers from 0 on and stay inside bytes');
    }
    if (!fits(out.length, outOffset, DIGEST_BYTES)) {
      throw outOfBounds('sipHash64: outOffset must be a whole number from 0 on and leave 8 bytes in out');
    }
    sipHash24(this.initial, bytes, offset, length, this.digest);
    for (let half = 0; half < 2; half++) {
      const value = this.digest[1 - half]!;
      const at = outOffset + 4 * half;
      out[at] = value >>> 24;
      out[at + 1] = value >>> 16;
      out[at + 2] = value >>> 8;
      out[at + 3] = value;
    }
  }
}

/**
 * The fastest SipHash-2-4 available under `secret`, 16 bytes, which is copied. Its digest is the paper's 64-bit number,
 * big-endian like hash64's. Throws TypeError `invalid-argument` for any other length of secret.
 */
export function loadSipHash(secret: Uint8Array, binding: NativeBinding = native): Hash64 {
  if (!(secret instanceof Uint8Array) || secret.length !== SIP_SECRET_BYTES)
    throw invalidArgument(`sipHash64: a secret has ${SIP_SECRET_BYTES} bytes`);
  return binding.available ? new NativeSipHash(binding.addon, new Uint8Array(secret)) : new JavaScriptSipHash(secret);
}

function littleEndian(bytes: Uint8Array, at: number): number {
  return bytes[at]! | (bytes[at + 1]! << 8) | (bytes[at + 2]! << 16) | (bytes[at + 3]! << 24);
}

/**
 * One loop over the whole words, the last word, which ends with the length, and the finalization: all three are rounds
 * on the state.
 */
function sipHash24(initial: Int32Array, bytes: Uint8Array, offset: number, length: number, digest: Int32Array): void {
  let v0l = initial[0]!;
  let v0h = initial[1]!;
  let v1l = initial[2]!;
  let v1h = initial[3]!;
  let v2l = initial[4]!;
  let v2h = initial[5]!;
  let v3l = initial[6]!;
  let v3h = initial[7]!;
  const words = length >>> 3;
  let at = offset;
  for (let word = 0; word <= words + 1; word++) {
    let lo = 0;
    let hi = 0;
    let rounds = 2;
    if (word < words) {
      lo = littleEndian(bytes, at);
      hi = littleEndian(bytes, at + 4);
      at += 8;
    } else if (word === words) {
      hi = length << 24;
      for (let i = 0; i < (length & 7); i++) {
        if (i < 4) lo |= bytes[at + i]! << (8 * i);
        else hi |= bytes[at + i]! << (8 * (i - 4));
      }
    } else {
      v2l ^= 0xff;
      rounds = 4;
    }
    v3l ^= lo;
    v3h ^= hi;
    for (; rounds > 0; rounds--) {
      let l = (v0l + v1l) | 0;
      v0h = (v0h + v1h + (l >>> 0 < v0l >>> 0 ? 1 : 0)) | 0;
      v0l = l;
      l = (v2l + v3l) | 0;
      v2h = (v2h + v3h + (l >>> 0 < v2l >>> 0 ? 1 : 0)) | 0;
      v2l = l;
      l = ((v1l << 13) | (v1h >>> 19)) ^ v0l;
      v1h = ((v1h << 13) | (v1l >>> 19)) ^ v0h;
      v1l = l;
      l = ((v3l << 16) | (v3h >>> 16)) ^ v2l;
      v3h = ((v3h << 16) | (v3l >>> 16)) ^ v2h;
      v3l = l;
      l = v0l;
      v0l = v0h;
      v0h = l;
      l = (v2l + v1l) | 0;
      v2h = (v2h + v1h + (l >>> 0 < v2l >>> 0 ? 1 : 0)) | 0;
      v2l = l;
      l = (v0l + v3l) | 0;
      v0h = (v0h + v3h + (l >>> 0 < v0l >>> 0 ? 1 : 0)) | 0;
      v0l = l;
      l = ((v1l << 17) | (v1h >>> 15)) ^ v2l;
      v1h = ((v1h << 17) | (v1l >>> 15)) ^ v2h;
      v1l = l;
      l = ((v3l << 21) | (v3h >>> 11)) ^ v0l;
      v3h = ((v3h << 21) | (v3l >>> 11)) ^ v0h;
      v3l = l;
      l = v2l;
      v2l = v2h;
      v2h = l;
    }
    v0l ^= lo;
    v0h ^= hi;
  }
  digest[0] = v0l ^ v1l ^ v2l ^ v3l;
  digest[1] = v0h ^ v1h ^ v2h ^ v3h;
}
