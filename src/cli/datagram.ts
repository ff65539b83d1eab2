/**
 * One captured datagram for people: `jitpaxos inspect --datagram`. The envelope's fields, whether a process of the
 * cluster would take it, and its messages with the names of the wire tables.
 *
 * The rule: the bytes may come from anywhere. They never throw, no control character of them is printed, and what was
 * not checked is not called intact.
 */
import { existsSync } from 'node:fs';
import type { Hash64 } from '../native/hash64.js';
import type { Cluster } from '../host/cluster-config.js';
import type { KeyFile } from '../host/key-file.js';
import { Keyring } from '../host/keyring.js';
import {
  CLIENT_SENDER,
  DROP_REASON_NAMES,
  ENCRYPTED_VERSION,
  ENVELOPE_BYTES,
  Envelope,
  MAX_DATAGRAM_BYTES,
  SEALED_ENVELOPE_BYTES,
} from '../wire/envelope.js';
import { AT_NONCE, AT_SALT } from '../wire/streams.js';
import type { FieldKind, Layout } from '../wire/layout.js';
import {
  layoutOf,
  REJECT_REASON_NAMES,
  REPLICA_STATUS_NAMES,
  ReplyStatus,
  RequestFlag,
  validate,
  validatePrevious,
  ViewReason,
} from '../wire/messages.js';
import { readI32, readU16, toBigInt, toHex } from '../wire/u64.js';
import { PREVIOUS_WIRE_VERSION, WIRE_VERSION } from '../wire/versions.js';
import { readRegularFile } from '../storage/regular-file.js';
import { CliError } from '../console/exit.js';
import { MAX_REPLICAS } from '../protocol/views.js';

/** What the bytes are checked with. Without a cluster file, only a datagram without a key can be checked. */
export interface DatagramContext {
  readonly hash: Hash64;
  readonly cluster?: Cluster;
  readonly keys?: KeyFile;
}

/** `intact`: a process of the cluster takes it. `unchecked`: the key that is needed was not given. */
export type Verdict = 'intact' | 'refused' | 'unchecked';

export interface DatagramDescription {
  readonly bytes: number;
  readonly verdict: Verdict;
  /** A drop reason of the metrics; null if the datagram is not refused. */
  readonly reason: string | null;
  readonly says: string;
  /** Null if the bytes are too short for an envelope. */
  readonly envelope: EnvelopeDescription | null;
  readonly messages: readonly MessageDescription[];
  /** Bytes that could not be read as messages: encrypted, or behind a bad message. */
  readonly unread: number;
}

export interface EnvelopeDescription {
  readonly magic: string;
  readonly version: number;
  readonly newest: number;
  readonly encrypted: boolean;
  /** Sixteen hexadecimal digits; null if it is not in the datagram. */
  readonly cluster: string | null;
  /** The number of the datagram in its stream; null if it has none. */
  readonly counter: string | null;
  readonly sender: string;
  /** 0: no key. */
  readonly key: number;
  readonly mac: string;
  /** Of the stream; null if it has none. */
  readonly salt: string | null;
}

export interface MessageDescription {
  readonly name: string;
  /** From the start of the datagram. */
  readonly offset: number;
  readonly length: number;
  readonly fields: Readonly<Record<string, string | number>>;
}

/** Offsets of the envelope's values. test/cli/datagram.test.ts compares them with what Envelope writes. */
const AT = { magic: 2, cluster: 7, sender: 16, key: 19, mac: 25 } as const;
const MAC_BYTES = 16;
const SALT_BYTES = 16;
/** The newest version that this command reads. */
const NEWEST = Math.max(WIRE_VERSION, ENCRYPTED_VERSION);

/** Values that are shown as hexadecimal digits. */
const AS_HEX = /^(session|.*[cC]hain|digest|nonce|fingerprint|life|knownLife|list)$/;
/** Bytes of a variable field that are shown to people; --json has all. */
const SHOWN_BYTES = 48;
/** Room for the longest datagram in hexadecimal digits, with separators. */
const FILE_BYTES_MAX = 4 * MAX_DATAGRAM_BYTES;

/** The bytes of a datagram: hexadecimal digits, or a file with these or with the bytes themselves. */
export function readDatagram(given: string): Uint8Array {
  if (existsSync(given)) {
    const content = readDatagramFile(given);
    return hexBytes(content.toString('latin1')) ?? new Uint8Array(content);
  }
  const bytes = hexBytes(given);
  if (bytes !== undefined) return bytes;
  throw new CliError(
    'argument-invalid',
    '--datagram is neither a file nor hexadecimal digits; give the payload of one UDP datagram, which begins with 95ce4a4954, or a file with it',
  );
}

function readDatagramFile(path: string): Buffer {
  try {
    return readRegularFile(path, FILE_BYTES_MAX);
  } catch (error) {
    throw new CliError(
      'argument-invalid',
      `--datagram: ${JSON.stringify(path)} cannot be read (${error instanceof Error ? error.message : String(error)}); give a file with the payload of one UDP datagram`,
    );
  }
}

/** Digits may be separated by spaces, line ends and colons. */
function hexBytes(text: string): Uint8Array | undefined {
  const digits = text.replace(/[\s:]/g, '').replace(/^0x/i, '');
  if (digits === '' || digits.length % 2 !== 0 || !/^[0-9a-f]+$/i.test(digits)) return undefined;
  return Uint8Array.from(Buffer.from(digits, 'hex'));
}

export function describeDatagram(datagram: Uint8Array, context: DatagramContext): DatagramDescription {
  const { length } = datagram;
  const envelope = length < ENVELOPE_BYTES ? null : describeEnvelope(datagram);
  const { verdict, reason, says, opened } = judge(datagram, envelope, context);
  const readable = envelope !== null && (opened !== undefined || !envelope.encrypted) && isOurs(reason);
  if (!readable) return { bytes: length, verdict, reason, says, envelope, messages: [], unread: length };
  const from = envelope.encrypted ? SEALED_ENVELOPE_BYTES : ENVELOPE_BYTES;
  const { messages, end, bad } = readMessages(opened ?? datagram, from, envelope.version);
  const cut = bad !== undefined && verdict !== 'refused';
  return {
    bytes: length,
    verdict: cut ? 'refused' : verdict,
    reason: cut ? bad : reason,
    says: cut ? `${says}, and from byte ${end} on not what the tables say (${bad}): the rest is dropped` : says,
    envelope,
    messages,
    unread: length - end,
  };
}

/** False if the bytes behind the envelope mean nothing. */
function isOurs(reason: string | null): boolean {
  return reason === null || !['oversized', 'truncated', 'marker', 'magic', 'version'].includes(reason);
}

function describeEnvelope(bytes: Uint8Array): EnvelopeDescription {
  const versions = bytes[AT.magic + 3]!;
  const version = versions & 0x0f;
  const key = readI32(bytes, AT.key) >>> 0;
  const sender = readU16(bytes, AT.sender);
  const encrypted = version >= ENCRYPTED_VERSION && key !== 0 && bytes.length >= SEALED_ENVELOPE_BYTES;
  return {
    magic: printable(bytes.subarray(AT.magic, AT.magic + 3)),
    version,
    newest: versions >>> 4,
    encrypted,
    cluster: encrypted ? null : toHex(readI32(bytes, AT.cluster), readI32(bytes, AT.cluster + 4)),
    counter: encrypted ? String(toBigInt(readI32(bytes, AT_NONCE), readI32(bytes, AT_NONCE + 4))) : null,
    sender: sender === CLIENT_SENDER ? 'client' : `replica ${sender}`,
    key,
    mac: hex(bytes.subarray(AT.mac, AT.mac + MAC_BYTES)),
    salt: encrypted ? hex(bytes.subarray(AT_SALT, AT_SALT + SALT_BYTES)) : null,
  };
}

interface Judgement extends Pick<DatagramDescription, 'verdict' | 'reason' | 'says'> {
  /** The datagram, decrypted, if it is authentic. */
  readonly opened?: Uint8Array;
}

/** A replica and a client each take other datagrams: the envelope is opened as both. */
function judge(
  datagram: Uint8Array,
  envelope: EnvelopeDescription | null,
  { hash, cluster, keys }: DatagramContext,
): Judgement {
  const keyed = envelope !== null && envelope.key !== 0;
  const own = envelope?.cluster ?? '0'.repeat(16);
  const [hi, lo] =
    cluster === undefined
      ? [parseInt(own.slice(0, 8), 16) | 0, parseInt(own.slice(8), 16) | 0]
      : [cluster.idHi, cluster.idLo];
  const replicas = cluster?.replicas.length ?? MAX_REPLICAS;
  let reason = '';
  for (const isReplica of [true, false]) {
    const ring = keys === undefined ? undefined : new Keyring(keys, isReplica);
    try {
      const opened = datagram.slice();
      // A replica does not write to itself; a sender above the last replica is refused whoever opens it.
      const self = isReplica ? (readU16OrZero(datagram, AT.sender) === 0 ? 1 : 0) : CLIENT_SENDER;
      const code = new Envelope(hash, hi, lo, self, replicas, ring, NEWEST).open(opened, 0, opened.length);
      if (code >= 0)
        return {
          verdict: 'intact',
          reason: null,
          says: cluster === undefined ? 'intact; no cluster file was given to compare its cluster' : 'intact',
          opened,
        };
      if (reason === '') reason = DROP_REASON_NAMES[-code]!;
    } finally {
      ring?.close();
    }
  }
  // Without keys the envelope looks for the cluster id where an encrypted one has its counter.
  const looked = keyed && keys === undefined && isOurs(reason) && !(reason === 'cluster' && !envelope.encrypted);
  if (looked && cluster?.authentication !== 'none')
    return { verdict: 'unchecked', reason: null, says: `not checked: key ${envelope.key} is needed; give --keys` };
  if (looked) reason = 'key';
  return { verdict: 'refused', reason, says: refusedText(reason, datagram, envelope, cluster) };
}

function refusedText(
  reason: string,
  { length }: Uint8Array,
  envelope: EnvelopeDescription | null,
  cluster: Cluster | undefined,
): string {
  const key = envelope?.key ?? 0;
  const texts: Readonly<Record<string, string>> = {
    truncated: `cut: ${length} bytes`,
    oversized: `too long: ${length} bytes, and a datagram has at most ${MAX_DATAGRAM_BYTES}`,
    marker: 'not a datagram of this program: the markers of an envelope are not there',
    magic: 'not a datagram of this program: it lacks the letters JIT',
    version: `written in version ${envelope?.version}, newest ${envelope?.newest}; this program reads ${PREVIOUS_WIRE_VERSION} to ${NEWEST}`,
    cluster: `of another cluster, ${envelope?.cluster}; the cluster file's id is ${cluster?.id}`,
    sender: `from ${envelope?.sender}, which the cluster file does not have`,
    key:
      key === 0
        ? 'without a key, and this cluster has keys'
        : `under key ${key}, which ${cluster?.authentication === 'none' ? 'a cluster without keys does not have' : 'is not in the key file'}`,
    checksum:
      key === 0
        ? 'damaged: the checksum does not fit'
        : `damaged, ${envelope?.encrypted === true ? 'of another cluster, ' : ''}or key ${key} had another secret: the mac does not fit`,
    stale: 'with a counter that no sender uses',
    role: `under key ${key}, with which ${envelope?.sender} may not speak`,
  };
  return texts[reason] ?? reason;
}

function readMessages(
  bytes: Uint8Array,
  from: number,
  version: number,
): { readonly messages: MessageDescription[]; readonly end: number; readonly bad?: string } {
  const messages: MessageDescription[] = [];
  const current = version >= WIRE_VERSION;
  let at = from;
  while (at < bytes.length) {
    const length = current ? validate(bytes, at, bytes.length) : validatePrevious(bytes, at, bytes.length);
    if (length < 0) return { messages, end: at, bad: DROP_REASON_NAMES[-length]! };
    const message = layoutOf(bytes[at + 1]!)!;
    const layout: Layout = current ? message : message.previous!;
    const fields = Object.entries(layout.fields).map(([name, kind]) => [
      name,
      fieldValue(layout, name, kind, bytes, at, length),
    ]);
    messages.push({
      name: layout.name,
      offset: at,
      length,
      fields: Object.fromEntries(fields) as MessageDescription['fields'],
    });
    at += length;
  }
  return { messages, end: at };
}

function fieldValue(
  layout: Layout,
  name: string,
  kind: FieldKind,
  bytes: Uint8Array,
  offset: number,
  length: number,
): string | number {
  const at = offset + layout.at[name]!;
  switch (kind) {
    case 'u8':
      return named(layout.name, name, bytes[at]!);
    case 'u16':
      return readU16(bytes, at);
    case 'u32': {
      const value = readI32(bytes, at) >>> 0;
      return AS_HEX.test(name) ? value.toString(16).padStart(8, '0') : value;
    }
    case 'i32':
      return readI32(bytes, at);
    case 'u64':
      return AS_HEX.test(name)
        ? toHex(readI32(bytes, at), readI32(bytes, at + 4))
        : String(toBigInt(readI32(bytes, at), readI32(bytes, at + 4)));
    case 'bin16':
      return hex(bytes.subarray(offset + layout.size, offset + length));
  }
}

/** Codes with their names: `1 register`. */
function named(message: string, field: string, code: number): string | number {
  const names: Readonly<Record<string, (code: number) => string | undefined>> = {
    'Request.flags': (flags) =>
      Object.entries(RequestFlag)
        .filter(([, bit]) => (flags & bit) !== 0)
        .map(([name]) => name)
        .join(' '),
    'Reply.status': (status) => nameIn(ReplyStatus, status),
    'Reject.reason': (reason) => REJECT_REASON_NAMES[reason],
    'ViewChange.reason': (reason) => nameIn(ViewReason, reason),
    'ProbeReply.status': (status) => REPLICA_STATUS_NAMES[status],
  };
  const name = names[`${message}.${field}`]?.(code);
  return name === undefined || name === '' ? code : `${code} ${name}`;
}

function nameIn(codes: Readonly<Record<string, number>>, code: number): string | undefined {
  return Object.keys(codes).find((name) => codes[name] === code);
}

/** For people. */
export function datagramLines(found: DatagramDescription, datagram: Uint8Array): string[] {
  const { envelope, messages, unread } = found;
  const lines = [`${found.bytes} bytes, ${found.says}`];
  if (envelope !== null)
    lines.push(
      `envelope  ${envelope.magic} version ${envelope.version}, newest ${envelope.newest}${envelope.encrypted ? ', encrypted' : ''}`,
      ...(envelope.cluster === null ? [] : [`cluster   ${envelope.cluster}`]),
      ...(envelope.counter === null ? [] : [`counter   ${envelope.counter}`]),
      `sender    ${envelope.sender}`,
      `key       ${envelope.key === 0 ? 'none' : envelope.key}`,
      `mac       ${envelope.mac}`,
      ...(envelope.salt === null ? [] : [`salt      ${envelope.salt}`]),
    );
  const untrusted = found.verdict === 'intact' ? '' : ', not authentic';
  if (envelope !== null && messages.length === 0 && unread === 0)
    lines.push('', 'no message: a hello, or the answer to one');
  for (const { name, offset, length, fields } of messages) {
    lines.push('', `${name}  at byte ${offset}, ${length} bytes${untrusted}`);
    for (const [field, value] of Object.entries(fields)) {
      const kind = layoutKind(name, field);
      lines.push(`  ${field.padEnd(16)}  ${kind === 'bin16' ? shown(String(value)) : value}`);
    }
  }
  if (unread > 0 && envelope !== null)
    lines.push(
      '',
      `${unread} bytes ${envelope.encrypted && messages.length === 0 ? 'that are encrypted' : 'that are no messages'}: ${shown(hex(datagram.subarray(datagram.length - unread)))}`,
    );
  return lines;
}

function layoutKind(message: string, field: string): FieldKind | undefined {
  for (let type = 1; type < 128; type++) {
    const layout = layoutOf(type);
    if (layout?.name === message) return (layout.fields as Readonly<Record<string, FieldKind>>)[field];
  }
  return undefined;
}

/** The first bytes as digits and as text. */
function shown(digits: string): string {
  const bytes = Buffer.from(digits, 'hex');
  if (bytes.length === 0) return 'no bytes';
  const first = bytes.subarray(0, SHOWN_BYTES);
  return `${bytes.length} bytes  ${hex(first)}${bytes.length > SHOWN_BYTES ? '…' : ''}  ${printable(first)}`;
}

/** Everything but printable ASCII as a dot. */
function printable(bytes: Uint8Array): string {
  return Array.from(bytes, (byte) => (byte >= 0x20 && byte < 0x7f ? String.fromCharCode(byte) : '.')).join('');
}

function hex(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('hex');
}

function readU16OrZero(bytes: Uint8Array, at: number): number {
  return at + 2 <= bytes.length ? readU16(bytes, at) : 0;
}
