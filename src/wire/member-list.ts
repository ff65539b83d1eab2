/**
 * The members of a cluster as bytes: the same in a Members message and in the file `members` of a data directory.
 *
 *     0 2 4 12 14 15
 *     | started | decided | index | next id | hosts | host … |
 *     host, ids ascending:
 *     0 2 3 4 12 14
 *     | id | slot | votes | identity | length | address (host-address.ts) … |
 *
 * `started` is the epoch in force; `decided` the one that follows it, or the same. `index`: the entry of the log that made
 * the list what it is, 0: the list of the cluster file. Of two lists of one cluster it tells the newer. `next id` is
 * what the next host that is listed will get. `slot`: the host's place in masks and tables of hosts. `votes`: bit 0, the host is a voter
 * of the epoch in force; bit 1, of the decided one; neither, it is a learner. `identity`: of its data directory, zero if
 * it is not known.
 *
 * The rule: bytes from elsewhere are a list that a replica could have written, or are refused as a whole. Every part has
 * a bound, so the longest list has one.
 */
import type { Hash64 } from './envelope.js';
import { ADDRESS_BYTES_MAX, isAddress } from './host-address.js';
import { HOST_PLACES, ID_MAX } from './host-ids.js';
import { readHex, readI32, readIndex, readU16, writeHex, writeIndex, writeU16 } from './u64.js';

/** Most hosts that are listed at once: two disjoint sets of voters, and five. */
export const HOSTS_MAX = HOST_PLACES;
const VOTERS_MAX = 13;
export const EPOCH_MAX = 0x1fff;
const UNKNOWN = '0000000000000000';

const AT_DECIDED = 2;
const AT_INDEX = 4;
const AT_NEXT_ID = 12;
const AT_COUNT = 14;
/** The two epochs, which a Members message has in a field of its own. */
export const EPOCHS_BYTES = 4;
const HEADER_BYTES = 15;
const AT_SLOT = 2;
const AT_VOTES = 3;
const AT_IDENTITY = 4;
const AT_LENGTH = 12;
const HOST_BYTES = 14;
/** No list is longer. */
export const MEMBER_LIST_BYTES_MAX = HEADER_BYTES + HOSTS_MAX * (HOST_BYTES + ADDRESS_BYTES_MAX);

export interface Member {
  readonly id: number;
  /** Its place in masks and tables of hosts, as long as it is listed. */
  readonly slot: number;
  /** `host:port`, IPv6 addresses in brackets. */
  readonly address: string;
  /** Of its data directory, sixteen hexadecimal digits; undefined if it is not known. */
  readonly identity: string | undefined;
  /** A voter of the epoch in force. */
  readonly votes: boolean;
  /** A voter of the decided epoch. */
  readonly willVote: boolean;
}

export interface MemberList {
  /** The epoch in force. */
  readonly started: number;
  /** `started`, or a later one that is decided and not yet in force. */
  readonly decided: number;
  /** The entry of the log that made it what it is; 0: none. */
  readonly index: number;
  /** What the next host that is listed will get. */
  readonly nextId: number;
  /** Ids ascending. */
  readonly hosts: readonly Member[];
}

/** The bytes of a list that `memberListFault` finds nothing wrong with. */
export function encodeMemberList(list: MemberList): Uint8Array {
  const addresses = list.hosts.map(({ address }) => new TextEncoder().encode(address));
  const bytes = new Uint8Array(HEADER_BYTES + addresses.reduce((sum, address) => sum + HOST_BYTES + address.length, 0));
  writeU16(bytes, 0, list.started);
  writeU16(bytes, AT_DECIDED, list.decided);
  writeIndex(bytes, AT_INDEX, list.index);
  writeU16(bytes, AT_NEXT_ID, list.nextId);
  bytes[AT_COUNT] = list.hosts.length;
  let at = HEADER_BYTES;
  list.hosts.forEach(({ id, slot, identity, votes, willVote }, index) => {
    const address = addresses[index]!;
    writeU16(bytes, at, id);
    bytes[at + AT_SLOT] = slot;
    bytes[at + AT_VOTES] = (votes ? 1 : 0) | (willVote ? 2 : 0);
    writeHex(bytes, at + AT_IDENTITY, identity ?? UNKNOWN);
    writeU16(bytes, at + AT_LENGTH, address.length);
    bytes.set(address, at + HOST_BYTES);
    at += HOST_BYTES + address.length;
  });
  return bytes;
}

/** The list in `bytes`, which hold nothing else; undefined if they are not one. Never throws. */
export function decodeMemberList(bytes: Uint8Array): MemberList | undefined {
  if (bytes.length < HEADER_BYTES || bytes.length > MEMBER_LIST_BYTES_MAX) return undefined;
  const hosts: Member[] = [];
  let at = HEADER_BYTES;
  for (let left = bytes[AT_COUNT]!; left > 0; left--) {
    if (at + HOST_BYTES > bytes.length) return undefined;
    const votes = bytes[at + AT_VOTES]!;
    const from = at + HOST_BYTES;
    const end = from + readU16(bytes, at + AT_LENGTH);
    const address = end > bytes.length || votes > 3 ? undefined : textOf(bytes.subarray(from, end));
    if (address === undefined) return undefined;
    const identity = readHex(bytes, at + AT_IDENTITY);
    hosts.push({
      id: readU16(bytes, at),
      slot: bytes[at + AT_SLOT]!,
      address,
      identity: identity === UNKNOWN ? undefined : identity,
      votes: (votes & 1) === 1,
      willVote: (votes & 2) === 2,
    });
    at = end;
  }
  const list = {
    started: readU16(bytes, 0),
    decided: readU16(bytes, AT_DECIDED),
    index: readIndex(bytes, AT_INDEX),
    nextId: readU16(bytes, AT_NEXT_ID),
    hosts,
  };
  return at === bytes.length && memberListFault(list) === undefined ? list : undefined;
}

/** Tells lists apart, epochs included; an int32, never 0. @param bytes as `encodeMemberList` wrote them */
export function listDigest(bytes: Uint8Array, hash: Hash64): number {
  const digest = new Uint8Array(8);
  hash.hash64(bytes, 0, bytes.length, digest, 0);
  return readI32(digest, 4) || 1;
}

/** Why this cannot be the list of a cluster, in a few words; undefined if it can. */
export function memberListFault({ started, decided, index, nextId, hosts }: MemberList): string | undefined {
  if (started > EPOCH_MAX || decided > EPOCH_MAX) return `an epoch is above ${EPOCH_MAX}`;
  if (decided < started) return `epoch ${decided} is before epoch ${started}`;
  if (!(index >= 0 && index <= Number.MAX_SAFE_INTEGER)) return 'its index is that of no entry';
  if (hosts.length > HOSTS_MAX) return `it lists ${hosts.length} hosts, and at most ${HOSTS_MAX} are listed`;
  for (const [epoch, voters] of [
    [started, hosts.filter(({ votes }) => votes).length],
    [decided, hosts.filter(({ willVote }) => willVote).length],
  ] as const)
    if (voters < 1 || voters > VOTERS_MAX) return `epoch ${epoch} has ${voters} voters, instead of 1 to ${VOTERS_MAX}`;
  const seen = new Set<string>();
  let before = -1;
  let slots = 0;
  for (const { id, slot, address, votes, willVote } of hosts) {
    if (id <= before || id > ID_MAX) return `id ${id} follows id ${before}`;
    before = id;
    if (slot >= HOSTS_MAX || ((slots >>> slot) & 1) === 1) return `host ${id} has slot ${slot}, which is not free`;
    slots |= 1 << slot;
    if (decided === started && votes !== willVote) return `host ${id} votes in one list of epoch ${started} only`;
    if (!isAddress(address)) return `the address of host ${id} is no "host:port"`;
    if (seen.has(address)) return `two hosts have the address ${address}`;
    seen.add(address);
  }
  if (nextId <= before) return `the next id, ${nextId}, is one that was given`;
  if (nextId > ID_MAX + 1) return `the next id, ${nextId}, is above all`;
  return undefined;
}

/** Undefined if the bytes are not UTF-8. */
function textOf(bytes: Uint8Array): string | undefined {
  try {
    return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    return undefined;
  }
}
