/**
 * Who the hosts of a cluster are, as its log says: part of the replicated state, changed by entries (changes.ts).
 *
 * An *epoch* is a number, and a set of voters that governs its views (configuration.ts). At most two are of interest: the
 * last one that began (`started`), and the one that is decided to follow (`decided`), if there is one. What an entry
 * changes makes another Membership: one that was taken for committed never changes in place.
 *
 * In bytes, as snapshots have it, all big-endian:
 *
 *     index u64 | started u16 | decided u16 | next id u16 | voters | voters that were decided, if decided > started |
 *     hosts u8 | hosts in ascending order of ids
 *
 *     voters: number u8 | ids u16…    host: id u16 | slot u8 | identity u64 | address: length u16 | ASCII
 */
import { isAddress } from '../../wire/host-address.js';
import { ID_MAX } from '../../wire/host-ids.js';
import { readI32, readIndex, readU16, writeI32, writeIndex, writeU16 } from '../../wire/u64.js';
import { EPOCH_MAX, MAX_REPLICAS, SLOTS } from '../configuration.js';
import { invariant } from '../invariant.js';

export interface ListedHost {
  /** Given by the log, and never again. Those of the cluster file are 0…N−1. */
  readonly id: number;
  /** Its place in masks and tables of replicas, as long as it is listed (configuration.ts). */
  readonly slot: number;
  /** Of its data directory; zero: not known yet. */
  readonly identityHi: number;
  readonly identityLo: number;
  /** Host and port; empty: that of the cluster file. */
  readonly address: string;
}

export interface Membership {
  /** The entry that made it what it is; 0: none. Of two memberships of a cluster that are committed, it tells the newer. */
  readonly index: number;
  readonly started: number;
  readonly decided: number;
  /** Ids of the voters of epoch `started`, ascending. */
  readonly voters: readonly number[];
  /** Ids of the voters of epoch `decided`, ascending. */
  readonly nextVoters: readonly number[];
  /** In ascending order of ids. */
  readonly hosts: readonly ListedHost[];
  readonly nextId: number;
}

/** That of a cluster file with `replicas` replicas: all vote, and nothing is known of them. */
export function firstMembership(replicas: number): Membership {
  const ids = Array.from({ length: replicas }, (_, id) => id);
  return {
    index: 0,
    started: 0,
    decided: 0,
    voters: ids,
    nextVoters: ids,
    hosts: ids.map((id) => ({ id, slot: id, identityHi: 0, identityLo: 0, address: '' })),
    nextId: replicas,
  };
}

export function hostOf(membership: Membership, id: number): ListedHost | undefined {
  return membership.hosts.find((host) => host.id === id);
}

export function encodeMembership(membership: Membership): Uint8Array {
  const { index, started, decided, voters, nextVoters, hosts, nextId } = membership;
  const isOpen = decided > started;
  const length =
    16 +
    2 * voters.length +
    (isOpen ? 1 + 2 * nextVoters.length : 0) +
    hosts.reduce((sum, { address }) => sum + 13 + address.length, 0);
  const bytes = new Uint8Array(length);
  writeIndex(bytes, 0, index);
  writeU16(bytes, 8, started);
  writeU16(bytes, 10, decided);
  writeU16(bytes, 12, nextId);
  let at = 14;
  for (const ids of isOpen ? [voters, nextVoters] : [voters]) {
    bytes[at++] = ids.length;
    for (const id of ids) {
      writeU16(bytes, at, id);
      at += 2;
    }
  }
  bytes[at++] = hosts.length;
  for (const { id, slot, identityHi, identityLo, address } of hosts) {
    writeU16(bytes, at, id);
    bytes[at + 2] = slot;
    writeI32(bytes, at + 3, identityHi);
    writeI32(bytes, at + 7, identityLo);
    writeU16(bytes, at + 11, address.length);
    at += 13;
    for (let i = 0; i < address.length; i++) bytes[at++] = address.charCodeAt(i);
  }
  invariant(at === length, 'a membership is as long as it said');
  return bytes;
}

/** What `encodeMembership` wrote to `bytes[offset … end)`; undefined if it cannot have written that. */
export function decodeMembership(bytes: Uint8Array, offset: number, end: number): Membership | undefined {
  let at = offset;
  const has = (length: number): boolean => at + length <= end;
  if (!has(14)) return undefined;
  const index = readIndex(bytes, at);
  const started = readU16(bytes, at + 8);
  const decided = readU16(bytes, at + 10);
  const nextId = readU16(bytes, at + 12);
  at += 14;
  const readVoters = (): number[] | undefined => {
    if (!has(1)) return undefined;
    const count = bytes[at++]!;
    if (count < 1 || count > MAX_REPLICAS || !has(2 * count)) return undefined;
    const ids = Array.from({ length: count }, (_, i) => readU16(bytes, at + 2 * i));
    at += 2 * count;
    return ids;
  };
  const voters = readVoters();
  const nextVoters = decided > started ? readVoters() : voters;
  if (voters === undefined || nextVoters === undefined || !has(1)) return undefined;
  const count = bytes[at++]!;
  const hosts: ListedHost[] = [];
  for (let i = 0; i < count; i++) {
    if (!has(13)) return undefined;
    const length = readU16(bytes, at + 11);
    const [id, slot] = [readU16(bytes, at), bytes[at + 2]!];
    const [identityHi, identityLo] = [readI32(bytes, at + 3), readI32(bytes, at + 7)];
    at += 13;
    if (!has(length)) return undefined;
    hosts.push({ id, slot, identityHi, identityLo, address: String.fromCharCode(...bytes.subarray(at, at + length)) });
    at += length;
  }
  const membership = { index, started, decided, voters, nextVoters, hosts, nextId };
  return at === end && isPossible(membership) ? membership : undefined;
}

/** Entries can have led to it. */
function isPossible({ index, started, decided, voters, nextVoters, hosts, nextId }: Membership): boolean {
  const ids = hosts.map(({ id }) => id);
  const isListed = (id: number): boolean => ids.includes(id);
  return (
    index >= 0 &&
    index <= Number.MAX_SAFE_INTEGER &&
    decided >= started &&
    decided <= EPOCH_MAX &&
    isAscending(voters) &&
    isAscending(nextVoters) &&
    voters.every(isListed) &&
    nextVoters.every(isListed) &&
    hosts.length <= SLOTS &&
    isAscending(ids) &&
    ids[ids.length - 1]! < nextId &&
    nextId <= ID_MAX + 1 &&
    new Set(hosts.map(({ slot }) => slot)).size === hosts.length &&
    hosts.every(({ slot, address }) => slot < SLOTS && (address === '' || isAddress(address)))
  );
}

export function isAscending(ids: readonly number[]): boolean {
  return ids.every((id, i) => i === 0 || id > ids[i - 1]!);
}
