/**
 * The operations that change who the hosts are: entries with RequestFlag.configure, once the feature `membership` is on
 * (log/features.ts). changes.ts says when one is valid, and what it does.
 *
 *     Learn  1 | identity u64 | address: length u16, ASCII       lists a host, as a learner
 *     Forget 2 | id u16                                          unlists a learner
 *     Move   3 | id u16 | address                                a host's data directory is elsewhere now
 *     Change 4 | from u16 | to u16 | number u8 | ids u16…        decides epoch `to`, with these voters, behind epoch `from`
 *     Go     5 | epoch u16                                       the epoch has begun; only a view's primary writes it
 *     Name   6 | id u16 | identity u64 | address                 what is not known yet of a replica of the cluster file
 */
import { readI32, readU16, writeI32, writeU16 } from '../../wire/u64.js';
import { isAddress } from '../../wire/host-address.js';
import { EPOCH_MAX, MAX_REPLICAS } from '../configuration.js';
import type { Identity } from '../contract.js';
import { isAscending } from './membership.js';

/** @param digits sixteen hexadecimal ones */
export function identityFrom(digits: string): Identity {
  return { identityHi: parseInt(digits.slice(0, 8), 16) | 0, identityLo: parseInt(digits.slice(8), 16) | 0 };
}

export type ConfigureOperation =
  | ({ readonly kind: 'learn'; readonly address: string } & Identity)
  | { readonly kind: 'forget'; readonly id: number }
  | { readonly kind: 'move'; readonly id: number; readonly address: string }
  | { readonly kind: 'change'; readonly from: number; readonly to: number; readonly ids: readonly number[] }
  | { readonly kind: 'go'; readonly epoch: number }
  | ({ readonly kind: 'name'; readonly id: number; readonly address: string } & Identity);

const KINDS = ['learn', 'forget', 'move', 'change', 'go', 'name'] as const;
const [LEARN, FORGET, MOVE, CHANGE, GO, NAME] = [1, 2, 3, 4, 5, 6] as const;

export function encodeOperation(operation: ConfigureOperation): Uint8Array {
  const bytes = new Uint8Array(512);
  bytes[0] = KINDS.indexOf(operation.kind) + 1;
  let at = 1;
  const u16 = (value: number): void => {
    writeU16(bytes, at, value);
    at += 2;
  };
  const identity = ({ identityHi, identityLo }: Identity): void => {
    writeI32(bytes, at, identityHi);
    writeI32(bytes, at + 4, identityLo);
    at += 8;
  };
  const address = (text: string): void => {
    u16(text.length);
    for (let i = 0; i < text.length; i++) bytes[at++] = text.charCodeAt(i);
  };
  switch (operation.kind) {
    case 'learn':
      identity(operation);
      address(operation.address);
      break;
    case 'forget':
      u16(operation.id);
      break;
    case 'move':
      u16(operation.id);
      address(operation.address);
      break;
    case 'change':
      u16(operation.from);
      u16(operation.to);
      bytes[at++] = operation.ids.length;
      for (const id of operation.ids) u16(id);
      break;
    case 'go':
      u16(operation.epoch);
      break;
    case 'name':
      u16(operation.id);
      identity(operation);
      address(operation.address);
      break;
  }
  return bytes.slice(0, at);
}

/** The operation in `bytes[offset … offset + length)`; undefined if it is none, in any state of a cluster. */
export function decodeOperation(bytes: Uint8Array, offset: number, length: number): ConfigureOperation | undefined {
  const end = offset + length;
  const u16 = (at: number): number => readU16(bytes, offset + at);
  const identity = (at: number): Identity => ({
    identityHi: readI32(bytes, offset + at),
    identityLo: readI32(bytes, offset + at + 4),
  });
  /** The address at `at`, behind which the operation ends. */
  const address = (at: number): string | undefined => {
    if (length < at + 2 || u16(at) !== length - at - 2) return undefined;
    const text = String.fromCharCode(...bytes.subarray(offset + at + 2, end));
    return isAddress(text) ? text : undefined;
  };
  const known = ({ identityHi, identityLo }: Identity): boolean => (identityHi | identityLo) !== 0;
  switch (length < 3 ? 0 : bytes[offset]) {
    case LEARN: {
      const at = address(9);
      if (at === undefined || !known(identity(1))) return undefined;
      return { kind: 'learn', ...identity(1), address: at };
    }
    case FORGET:
      return length === 3 ? { kind: 'forget', id: u16(1) } : undefined;
    case MOVE: {
      const at = address(3);
      return at === undefined ? undefined : { kind: 'move', id: u16(1), address: at };
    }
    case CHANGE: {
      const count = length < 6 ? 0 : bytes[offset + 5]!;
      if (count < 1 || count > MAX_REPLICAS || length !== 6 + 2 * count) return undefined;
      const ids = Array.from({ length: count }, (_, i) => u16(6 + 2 * i));
      const [from, to] = [u16(1), u16(3)];
      return isAscending(ids) && to > from && to <= EPOCH_MAX ? { kind: 'change', from, to, ids } : undefined;
    }
    case GO:
      return length === 3 && u16(1) <= EPOCH_MAX ? { kind: 'go', epoch: u16(1) } : undefined;
    case NAME: {
      const at = address(11);
      if (at === undefined || !known(identity(3))) return undefined;
      return { kind: 'name', id: u16(1), ...identity(3), address: at };
    }
    default:
      return undefined;
  }
}
