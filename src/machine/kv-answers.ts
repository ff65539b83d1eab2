/** Results that every operation of the key-value store may get, and the check of a key. */
import { writeI32 } from '../wire/u64.js';
import {
  KV_KEY_BYTES_MAX,
  KV_KEY_BYTES_MIN,
  RESULT_STATUS_BYTES,
  STATUS_BAD_OPERATION,
  STATUS_TOO_LARGE,
} from './kv-layout.js';
import type { Reply } from './state-machine.js';

export function badKey(length: number): boolean {
  return length < KV_KEY_BYTES_MIN || length > KV_KEY_BYTES_MAX;
}

export function answer(reply: Reply, status: number): void {
  reply.length = reply.capacity > 0 ? RESULT_STATUS_BYTES : 0;
  if (reply.capacity > 0) reply.bytes[reply.offset] = status;
}

export function refuse(reply: Reply, reason: number): void {
  answer(reply, STATUS_BAD_OPERATION);
  if (reply.capacity < RESULT_STATUS_BYTES + 1) return;
  reply.bytes[reply.offset + RESULT_STATUS_BYTES] = reason;
  reply.length = RESULT_STATUS_BYTES + 1;
}

export function tooLarge(reply: Reply, needed: number): void {
  answer(reply, STATUS_TOO_LARGE);
  if (reply.capacity < RESULT_STATUS_BYTES + 4) return;
  writeI32(reply.bytes, reply.offset + RESULT_STATUS_BYTES, needed);
  reply.length = RESULT_STATUS_BYTES + 4;
}
