/**
 * An entry as one object in place of ten numbers: a client's request under its present timestamp.
 *
 * It is a flyweight, like Agrona's: it is made once and then pointed at one entry after another, so that passing an entry
 * on allocates nothing. The key and the numbers are copied into its fields, each a small integer for V8. The operation
 * stays in its memory, and is valid as long as that memory is. Code that keeps an entry copies it (Log.append,
 * RequestCache.put).
 *
 * In its wire form, which Chunk, Order and the disk share, an entry is
 *
 *      0           8         16        20     22      23  24
 *      | timestamp | session | request | lane | flags | 0 | operation …
 */
import { readI32, readU16, writeI32, writeU16 } from '../../wire/u64.js';
import { NO_OWNER } from './owners.js';

/** Bytes of an entry before its operation, on the wire and on disk. */
export const ENTRY_HEADER_BYTES = 24;

/** Offsets in an entry's wire form. */
const EntryAt = { timestamp: 0, session: 8, request: 16, lane: 20, flags: 22 } as const;

const NOTHING = new Uint8Array(0);

export class Entry {
  timestampHi = 0;
  timestampLo = 0;
  sessionHi = 0;
  sessionLo = 0;
  lane = 0;
  request = 0;
  /** RequestFlag. */
  flags = 0;
  /** Where the operation lies. */
  operationBytes: Uint8Array = NOTHING;
  operationOffset = 0;
  operationLength = 0;
  /** The client's endpoint by which it came, or −1. */
  replyTo = -1;
  /** Owner of the key that it came under (session-owner.ts). NO_OWNER if another replica sent it. */
  owner = NO_OWNER;

  /** Points at an entry in wire form; `length` includes its header. */
  pointAtEntry(bytes: Uint8Array, offset: number, length: number): this {
    this.pointAtHeader(bytes, offset);
    this.operationBytes = bytes;
    this.operationOffset = offset + ENTRY_HEADER_BYTES;
    this.operationLength = length - ENTRY_HEADER_BYTES;
    this.replyTo = -1;
    this.owner = NO_OWNER;
    return this;
  }

  /** Points at the header of an entry in wire form, as in an Order. The operation's fields stay as they were. */
  pointAtHeader(bytes: Uint8Array, offset: number): this {
    this.timestampHi = readI32(bytes, offset + EntryAt.timestamp);
    this.timestampLo = readI32(bytes, offset + EntryAt.timestamp + 4);
    this.sessionHi = readI32(bytes, offset + EntryAt.session);
    this.sessionLo = readI32(bytes, offset + EntryAt.session + 4);
    this.request = readI32(bytes, offset + EntryAt.request);
    this.lane = readU16(bytes, offset + EntryAt.lane);
    this.flags = bytes[offset + EntryAt.flags]!;
    return this;
  }

  /** The entry in wire form. Allocates. */
  toBytes(): Uint8Array {
    const bytes = new Uint8Array(ENTRY_HEADER_BYTES + this.operationLength);
    writeI32(bytes, EntryAt.timestamp, this.timestampHi);
    writeI32(bytes, EntryAt.timestamp + 4, this.timestampLo);
    writeI32(bytes, EntryAt.session, this.sessionHi);
    writeI32(bytes, EntryAt.session + 4, this.sessionLo);
    writeI32(bytes, EntryAt.request, this.request);
    writeU16(bytes, EntryAt.lane, this.lane);
    bytes[EntryAt.flags] = this.flags;
    const { operationBytes, operationOffset, operationLength } = this;
    bytes.set(operationBytes.subarray(operationOffset, operationOffset + operationLength), ENTRY_HEADER_BYTES);
    return bytes;
  }

  /** True if both are the same request, whatever their timestamps. */
  isSameRequest(other: Entry): boolean {
    return (
      this.request === other.request &&
      this.sessionLo === other.sessionLo &&
      this.sessionHi === other.sessionHi &&
      this.lane === other.lane
    );
  }
}
