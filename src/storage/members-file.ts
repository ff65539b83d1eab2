/**
 * The members of the cluster, as a data directory remembers them.
 *
 * The rule: a replica never counts with a list that is damaged, cut off, or of another cluster. The file is written
 * under another name, synced and renamed, so it is there as a whole or not at all. Without the file the members are
 * those of the cluster file, in epoch 0.
 *
 * Rule S, *C2*: the list is durable before anything that names a view of its epoch: a promise, or a frame of the log. A
 * crash between the two leaves newer members beside an older promise, which is nothing wrong.
 *
 *     0 4 8 16 20
 *     | JPMB | version | cluster id | length of list | list (wire/member-list.ts) | XXH3-64 of all before |
 *
 * All big-endian.
 */
import { JitPaxosError } from '../errors.js';
import type { Hash64 } from '../wire/envelope.js';
import { completeList } from '../protocol/membership/member-lists.js';
import { decodeMembership, hostOf, type Membership } from '../protocol/membership/membership.js';
import { invariant } from '../protocol/invariant.js';
import { decodeMemberList, encodeMemberList, MEMBER_LIST_BYTES_MAX, type MemberList } from '../wire/member-list.js';
import { readI32, readIndex, toHex, writeI32 } from '../wire/u64.js';
import type { Files } from './files.js';
import { checkFormat, FORMATS } from './formats.js';
import { writeWhole } from './write-whole.js';

export const MEMBERS_FILE = 'members';
/** Not like the unfinished files of the log, which a start of the log removes at any time. */
export const MEMBERS_ASIDE = 'members.aside';
const MAGIC = 0x4a504d42;
const AT_VERSION = 4;
const AT_CLUSTER = 8;
const AT_LENGTH = 16;
const AT_LIST = 20;
const CHECKSUM_BYTES = 8;
const MEMBERS_FILE_BYTES_MAX = AT_LIST + MEMBER_LIST_BYTES_MAX + CHECKSUM_BYTES;

interface Cluster {
  readonly clusterHi: number;
  readonly clusterLo: number;
}

/** Resolves when the file is durable. Rejects with the system's errors; the file is then as it was before. */
export function writeMembers(files: Files, list: MemberList, cluster: Cluster, hash: Hash64): Promise<void> {
  return writeWhole(files, MEMBERS_FILE, encodeMembersFile(list, cluster, hash), MEMBERS_ASIDE);
}

/** Undefined if there is no such file. Throws the errors of `decodeMembersFile`, and JitPaxosError `data-directory-unusable`. */
export async function readMembers(
  files: Files,
  { owner, hash, directory }: { readonly owner: Cluster; readonly hash: Hash64; readonly directory: string },
): Promise<MemberList | undefined> {
  const bytes = await files.read(MEMBERS_FILE);
  return bytes === undefined ? undefined : decodeMembersFile(bytes, owner, hash, `${directory}/${MEMBERS_FILE}`);
}

/** The entry of the log that made these members what they are; 0: those of the cluster file. */
export function membersIndex(members: Uint8Array | undefined): number {
  return members === undefined ? 0 : readIndex(members, 0);
}

/**
 * What the file has to hold for these members of a hard state; undefined: nothing yet. As long as no epoch is decided, and
 * not each host of the cluster file is named in the log, the log itself says all that there is to know. Without names an
 * epoch may be decided nevertheless, once the views of the one before run short.
 * @param before the members in the file, and `addresses` of the cluster file: where a host is that the log does not name
 */
export function listToStore(
  members: Uint8Array,
  before: Uint8Array | undefined,
  addresses: readonly string[] | undefined,
): MemberList | undefined {
  const membership = ofHardState(members);
  if (!isToStore(membership)) return undefined;
  const known = before === undefined ? undefined : ofHardState(before);
  return completeList(membership, (id) => (known === undefined ? addresses?.[id] : hostOf(known, id)?.address));
}

/** Those members are in the file. */
export function areStored(members: Uint8Array): boolean {
  return isToStore(ofHardState(members));
}

function isToStore({ decided, hosts }: Membership): boolean {
  return decided > 0 || hosts.every(({ address }) => address !== '');
}

function ofHardState(members: Uint8Array): Membership {
  const membership = decodeMembership(members, 0, members.length);
  invariant(membership !== undefined, 'members of a hard state are as a replica wrote them');
  return membership;
}

export function encodeMembersFile(list: MemberList, cluster: Cluster, hash: Hash64): Uint8Array {
  const encoded = encodeMemberList(list);
  const bytes = new Uint8Array(AT_LIST + encoded.length + CHECKSUM_BYTES);
  writeI32(bytes, 0, MAGIC);
  writeI32(bytes, AT_VERSION, FORMATS.members.written);
  writeI32(bytes, AT_CLUSTER, cluster.clusterHi);
  writeI32(bytes, AT_CLUSTER + 4, cluster.clusterLo);
  writeI32(bytes, AT_LENGTH, encoded.length);
  bytes.set(encoded, AT_LIST);
  hash.hash64(bytes, 0, AT_LIST + encoded.length, bytes, AT_LIST + encoded.length);
  return bytes;
}

/** Throws JitPaxosError `members-corrupt`, `data-directory-foreign` or `data-directory-unusable`. `path` is for the message. */
export function decodeMembersFile(bytes: Uint8Array, cluster: Cluster, hash: Hash64, path: string): MemberList {
  const corrupt = (what: string): JitPaxosError => membersLost(path, what);
  if (bytes.length < AT_LIST + CHECKSUM_BYTES) throw corrupt(`has ${bytes.length} bytes, and is cut off`);
  if (bytes.length > MEMBERS_FILE_BYTES_MAX)
    throw corrupt(`has ${bytes.length} bytes, and no list of members is that long`);
  if (readI32(bytes, 0) !== MAGIC) throw corrupt('does not begin as a list of members does');
  const end = bytes.length - CHECKSUM_BYTES;
  const digest = new Uint8Array(CHECKSUM_BYTES);
  hash.hash64(bytes, 0, end, digest, 0);
  if (digest.some((byte, at) => byte !== bytes[end + at]))
    throw corrupt('is damaged or cut off: its checksum does not fit');
  checkFormat(FORMATS.members, readI32(bytes, AT_VERSION), path);
  const [hi, lo] = [readI32(bytes, AT_CLUSTER), readI32(bytes, AT_CLUSTER + 4)];
  if (hi !== cluster.clusterHi || lo !== cluster.clusterLo)
    throw new JitPaxosError(
      'data-directory-foreign',
      `${path} is of cluster ${toHex(hi, lo)}, not of cluster ${toHex(cluster.clusterHi, cluster.clusterLo)}; give each replica its own data directory`,
    );
  const list = readI32(bytes, AT_LENGTH) === end - AT_LIST ? decodeMemberList(bytes.subarray(AT_LIST, end)) : undefined;
  if (list === undefined) throw corrupt('holds no list of members');
  return list;
}

/**
 * What to do when the promises of a data directory are lost for good. Once the log lists identities, no other directory
 * speaks under an id.
 */
export function promisesLost(areListed: boolean, replica: number): string {
  return areListed
    ? `If it is lost for good, empty the directory, start the host with jitpaxos replica --join, and let it take the place of host ${replica} (jitpaxos member replace ${replica})`
    : 'If it is lost for good, empty the directory and start the replica with --log-lost (library: logLost)';
}

/** The file at `path` says nothing that can be relied on. */
export function membersLost(path: string, what: string): JitPaxosError {
  return new JitPaxosError(
    'members-corrupt',
    `${path} ${what}, so this replica does not know who counts; check the disk, and put the file back if you have a copy. ` +
      'If it is lost for good, empty the directory, start the host with jitpaxos replica --join, and let it take its own place (jitpaxos member replace)',
  );
}
