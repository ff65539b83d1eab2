/** Datagrams of clients, written by hand: for what floods and attacks. */
import { type Cluster, loadCluster } from '../src/host/cluster-config.js';
import { openKeys } from '../src/host/keyring.js';
import { encodeGet } from '../src/machine/kv-codec.js';
import { loadHash } from '../src/native/hash64.js';
import { NO_OWNER } from '../src/protocol/log/session-owner.js';
import { REGISTER_BYTES, REGISTER_LANE } from '../src/protocol/log/sessions.js';
import { CLIENT_SENDER, Envelope, NO_KEY } from '../src/wire/envelope.js';
import { begin } from '../src/wire/layout.js';
import { AskMembers, Read, Request, RequestFlag, Status } from '../src/wire/messages.js';
import { writeI32, writeU16 } from '../src/wire/u64.js';

/** A cluster may have a long value under this key. */
export const LONG_KEY = new TextEncoder().encode('long');

/** What a client seals its datagrams with. */
export interface ClientSeal {
  readonly cluster: Cluster;
  readonly envelope: Envelope;
  /** Of its key. */
  readonly slot: number;
  readonly owner: number;
}

/** @param keyFile default: the one of all clients */
export function clientSeal(clusterFile: string, keyFile?: string): ClientSeal {
  const cluster = loadCluster(clusterFile);
  const { idHi, idLo, replicas } = cluster;
  const keys = openKeys(cluster, clusterFile, keyFile, 'client')?.ring;
  return {
    cluster,
    envelope: new Envelope(loadHash(), idHi, idLo, CLIENT_SENDER, replicas.length, keys),
    slot: keys?.own ?? NO_KEY,
    owner: keys?.ownerOf(keys.own) ?? NO_OWNER,
  };
}

/** A sealed datagram whose messages `write` writes. */
export function sealed(
  { envelope, slot }: ClientSeal,
  write: (bytes: Uint8Array, offset: number) => number,
  room: number,
): Uint8Array {
  const head = envelope.bytesIn(envelope.newest);
  const bytes = new Uint8Array(room);
  const length = head + write(bytes, head);
  if (!envelope.seal(bytes, 0, length, slot)) throw new Error('this client has no key');
  return bytes.subarray(0, length);
}

/** A Request of 64 bytes, or a Register, of a random session. */
export function writeRequest(bytes: Uint8Array, o: number, register: boolean): number {
  const length = register ? REGISTER_BYTES : 64;
  const { at } = Request;
  begin(Request, bytes, o);
  writeI32(bytes, o + at.session, random());
  writeI32(bytes, o + at.session + 4, random() | 1);
  writeU16(bytes, o + at.lane, register ? REGISTER_LANE : 0);
  writeI32(bytes, o + at.request, 1);
  bytes[o + at.flags] = register ? RequestFlag.register : 0;
  const now = BigInt(Date.now()) * 1_000_000n;
  const [hi, lo] = [Number(now >> 32n) | 0, Number(now & 0xffffffffn) | 0];
  writeI32(bytes, o + at.timestamp, hi);
  writeI32(bytes, o + at.timestamp + 4, lo);
  writeU16(bytes, o + at.operation, length);
  const operation = o + Request.size;
  for (let i = 0; i < length; i++) bytes[operation + i] = 0;
  if (register) {
    writeI32(bytes, operation, random());
    writeI32(bytes, operation + 4, random());
    writeU16(bytes, operation + 8, 64);
    writeI32(bytes, operation + 10, hi);
    writeI32(bytes, operation + 14, lo);
  }
  return Request.size + length;
}

/** A question for the value of LONG_KEY. */
export function writeRead(bytes: Uint8Array, o: number, view: number): number {
  begin(Read, bytes, o);
  writeI32(bytes, o + Read.at.view, view);
  writeI32(bytes, o + Read.at.session, random());
  writeI32(bytes, o + Read.at.session + 4, random() | 1);
  writeI32(bytes, o + Read.at.request, 1);
  const length = encodeGet(bytes, o + Read.size, LONG_KEY);
  writeU16(bytes, o + Read.at.operation, length);
  return Read.size + length;
}

/** A question for the first piece of a replica's status. */
export function writeStatus(bytes: Uint8Array, o: number): number {
  begin(Status, bytes, o);
  writeI32(bytes, o + Status.at.nonce, random());
  writeI32(bytes, o + Status.at.serial, 1);
  writeU16(bytes, o + Status.at.padding, 0);
  return Status.size;
}

/** A question for the members, as long as its answer in a cluster of three. */
export function writeAskMembers(bytes: Uint8Array, o: number): number {
  const padding = 120;
  begin(AskMembers, bytes, o);
  writeI32(bytes, o + AskMembers.at.nonce, random());
  writeI32(bytes, o + AskMembers.at.digest, 0);
  writeU16(bytes, o + AskMembers.at.offset, 0);
  writeU16(bytes, o + AskMembers.at.padding, padding);
  bytes.fill(0, o + AskMembers.size, o + AskMembers.size + padding);
  return AskMembers.size + padding;
}

export function random(): number {
  return (Math.random() * 0x1_0000_0000) | 0;
}
