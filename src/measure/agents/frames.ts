/**
 * Frames of a control channel: `[length, body, tag]`. The length, 4 bytes, big-endian, counts what follows it. AES-128-GCM
 * encrypts the body and authenticates both. The nonce is the number of the frame in its direction, which is not sent: a
 * frame that is lost, repeated, moved, sent back or recorded on another connection is not authentic.
 *
 * The rule: a length is checked before anything is reserved for it, and no frame is read before it is whole. After one
 * that is wrong, nothing more is read.
 */
import { createCipheriv, createDecipheriv } from 'node:crypto';

const ALGORITHM = 'aes-128-gcm';
const TAG_BYTES = 16;
const NONCE_BYTES = 12;
const LENGTH_BYTES = 4;
/** Longest frame without its length: a histogram whose buckets are all full, as JSON, and room to spare. */
export const FRAME_BYTES_MAX = 1 << 17;
/** A connection ends long before a nonce would come again. */
const FRAMES_MAX = 2 ** 32 - 1;

/** Seals the frames of one direction. */
export class FrameSealer {
  private sealed = 0;

  /** @param key 16 bytes, of this direction of this connection alone */
  constructor(private readonly key: Uint8Array) {}

  /** Throws RangeError if the body is too long, or after 2^32 frames. */
  seal(body: Uint8Array): Buffer {
    const length = body.length + TAG_BYTES;
    if (length > FRAME_BYTES_MAX) throw new RangeError(`a frame of ${length} bytes is longer than ${FRAME_BYTES_MAX}`);
    if (this.sealed >= FRAMES_MAX) throw new RangeError('the connection has sealed too many frames');
    const head = Buffer.alloc(LENGTH_BYTES);
    head.writeUInt32BE(length);
    const cipher = createCipheriv(ALGORITHM, this.key, nonceOf(this.sealed++), { authTagLength: TAG_BYTES });
    cipher.setAAD(head);
    const encrypted = cipher.update(body);
    cipher.final();
    return Buffer.concat([head, encrypted, cipher.getAuthTag()]);
  }
}

/** Why a reader gave up. */
export type FrameFault = 'too-long' | 'too-short' | 'forged';

/** Reads the frames of one direction, however they are cut into pieces. */
export class FrameReader {
  fault: FrameFault | undefined;
  private opened = 0;
  private readonly head = Buffer.alloc(LENGTH_BYTES);
  private headBytes = 0;
  private frame: Buffer | undefined;
  private frameBytes = 0;

  /** @param limit longest frame without its length; it may be raised when the other end is known */
  constructor(
    private readonly key: Uint8Array,
    public limit = FRAME_BYTES_MAX,
  ) {}

  /** Bytes that are reserved now. */
  get reserved(): number {
    return this.frame?.length ?? 0;
  }

  /** Takes what came, and calls `visit` with the body of each whole frame. Stops at a fault, or when `visit` says false. */
  push(chunk: Uint8Array, visit: (body: Buffer) => boolean): void {
    let at = 0;
    while (at < chunk.length && this.fault === undefined) {
      if (this.frame === undefined) {
        this.head[this.headBytes++] = chunk[at++]!;
        if (this.headBytes === LENGTH_BYTES) this.begin(this.head.readUInt32BE());
        continue;
      }
      const taken = Math.min(chunk.length - at, this.frame.length - this.frameBytes);
      this.frame.set(chunk.subarray(at, at + taken), this.frameBytes);
      this.frameBytes += taken;
      at += taken;
      if (this.frameBytes < this.frame.length) return;
      const body = this.open(this.frame);
      this.frame = undefined;
      this.headBytes = 0;
      if (body === undefined || !visit(body)) return;
    }
  }

  private begin(length: number): void {
    if (length > this.limit) this.fault = 'too-long';
    else if (length < TAG_BYTES) this.fault = 'too-short';
    else {
      this.frame = Buffer.alloc(length);
      this.frameBytes = 0;
    }
  }

  private open(frame: Buffer): Buffer | undefined {
    const bodyBytes = frame.length - TAG_BYTES;
    const decipher = createDecipheriv(ALGORITHM, this.key, nonceOf(this.opened++), { authTagLength: TAG_BYTES });
    decipher.setAAD(this.head);
    decipher.setAuthTag(frame.subarray(bodyBytes));
    const body = decipher.update(frame.subarray(0, bodyBytes));
    try {
      decipher.final();
      return body;
    } catch {
      this.fault = 'forged';
      return undefined;
    }
  }
}

function nonceOf(number: number): Buffer {
  const nonce = Buffer.alloc(NONCE_BYTES);
  nonce.writeUInt32BE(number, NONCE_BYTES - 4);
  return nonce;
}
