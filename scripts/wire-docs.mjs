/**
 * Writes docs/reference/wire.md from the table that the code itself uses (dist/src/wire/), so that the page cannot say
 * anything else.
 *
 *   node scripts/wire-docs.mjs            writes docs/reference/wire.md
 *   node scripts/wire-docs.mjs --check    writes nothing; exit code 1 when docs/reference/wire.md is not what it would write
 *
 * Offsets, markers, codes and names come from the built modules; what a message is for, from the comment above its
 * table in src/wire/messages.ts. Build first: npm run build. Exit code 2: unknown argument.
 */
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const ROOT = fileURLToPath(new URL('..', import.meta.url));
const PAGE = join(ROOT, 'docs', 'reference', 'wire.md');
const MESSAGES_SOURCE = join(ROOT, 'src', 'wire', 'messages.ts');
const BUILT = new URL('../dist/src/wire/', import.meta.url);

const ENVELOPE_FIELDS = [
  'magic ("JIT") and version byte',
  'cluster id',
  'sender: replica index, or 65535 for a client',
  'key id',
  'mac',
];
const SEALED_FIELDS = [
  ENVELOPE_FIELDS[0],
  'nonce: the counter of the stream',
  ENVELOPE_FIELDS[2],
  ENVELOPE_FIELDS[3],
  'tag',
  'salt of the stream',
  'messages, encrypted',
];
/** msgpack marker → [name, bytes of the value]; only those that an envelope may hold. */
const SCALARS = new Map([
  [0xcc, ['u8', 1]],
  [0xcd, ['u16', 2]],
  [0xce, ['u32', 4]],
  [0xcf, ['u64', 8]],
]);
const ARRAY_MARKER = 0x90;
const BIN8_MARKER = 0xc4;
const BIN16_MARKER = 0xc5;

/** One key, and a cipher that encrypts nothing. */
const KEYRING = {
  idOf: () => 1,
  permits: () => true,
  streamKey: () => undefined,
  cipher: () => ({ setKey: () => undefined, seal: () => undefined }),
  draw: () => undefined,
  watch: () => undefined,
};

const args = process.argv.slice(2);
const unknown = args.find((arg) => arg !== '--check');
if (unknown !== undefined) end(2, `flag-invalid: ${unknown} is not known here; use --check, or nothing`);
if (!existsSync(new URL('messages.js', BUILT)))
  end(1, 'not-built: dist/src/wire/ is not there; run `npm run build` first');

const messages = await import(new URL('messages.js', BUILT));
const layout = await import(new URL('layout.js', BUILT));
const envelope = await import(new URL('envelope.js', BUILT));
const { WIRE_VERSION, PREVIOUS_WIRE_VERSION } = await import(new URL('versions.js', BUILT));

const page = render();
if (!args.includes('--check')) {
  writeFileSync(PAGE, page);
  console.log(`wrote docs/reference/wire.md: ${messages.ALL_MESSAGES.length} messages`);
} else if (!existsSync(PAGE) || readFileSync(PAGE, 'utf8') !== page) {
  end(
    1,
    'docs-stale: docs/reference/wire.md is not what the tables in src/wire/ say; run `npm run build && node scripts/wire-docs.mjs` and commit the result',
  );
}

function render() {
  const comments = messageComments();
  return [
    '# The wire',
    '',
    '<!-- Written by scripts/wire-docs.mjs from src/wire/. Do not edit: change the tables and run the script. -->',
    '',
    `Versions ${WIRE_VERSION} and ${PREVIOUS_WIRE_VERSION}. A datagram is an envelope and one or more messages behind it; every part is a plain msgpack value, so any msgpack decoder reads a`,
    'datagram as a sequence of arrays. Each field has a fixed width and therefore a constant offset; only the last one of a message may be bytes of variable',
    'length. Numbers are big-endian. Offsets below count from the start of the envelope or the message.',
    '',
    `Messages to one destination share a datagram up to ${count(envelope.DEFAULT_DATAGRAM_BYTES)} bytes, ${count(envelope.JUMBO_DATAGRAM_BYTES)} when all replicas are on loopback (configurable). A longer message travels alone, up to ${count(envelope.MAX_DATAGRAM_BYTES)} bytes with its envelope.`,
    '',
    '## Envelope',
    '',
    `Under a key, from version ${envelope.ENCRYPTED_VERSION} on, two byte strings stand behind the array: a salt, and the encrypted messages.`,
    '',
    fenced(drawEnvelope(true)),
    '',
    'The cipher is AES-128-GCM. Bytes 0 to 24 and 59 to 61 are authenticated and in clear. The nonce of the cipher is four zero bytes and the counter, which begins at 1 and grows with each datagram. The salt names a *stream*: what one process sends under one key, in one direction, in one life, and at most 2²³ datagrams. The stream has a key of its own:',
    '',
    fenced(
      [
        `base   = HMAC-SHA-256(secret of the key, "jitpaxos/${envelope.ENCRYPTED_VERSION} aead" ‖ cluster id, 8 bytes ‖ key id, 4 bytes)`,
        'stream = the first 16 bytes of HMAC-SHA-256(base, direction, 1 byte ‖ sender, 2 bytes ‖ salt, 16 bytes ‖ 0x01)',
        'direction: 0 client to replica, 1 replica to client, 2 replica to replica',
      ].join('\n'),
    ),
    '',
    'A client draws 16 random bytes as its salt. A replica writes its incarnation (4 bytes), the number of the stream in this life (4 bytes) and 8 random bytes. A receiver derives the key of an unknown salt, and remembers it only if the datagram is authentic: four streams of each replica, 4,096 of clients. A datagram more than 65,536 behind the newest one of its stream is `stale`. [Encryption](../internals/decisions/encryption.md) says why.',
    '',
    `Without keys, and under a key in version ${envelope.ENCRYPTED_VERSION - 1}, the messages follow the envelope in clear:`,
    '',
    fenced(drawEnvelope(false)),
    '',
    'The mac covers the whole datagram, itself counted as zeros: HMAC-SHA-256 under the key of that id, cut to 128 bits. Under key id 0 it is an XXH3-64',
    'checksum followed by eight zero bytes, which detects damage, not forgery. A process with keys accepts nothing under id 0; a process without keys accepts nothing else. See',
    '[security](../operate/security.md).',
    '',
    'The version byte holds two versions. Its low half is the version that the datagram is written in. Its high half is the newest that the sender speaks. So',
    `${[
      [WIRE_VERSION, WIRE_VERSION],
      [PREVIOUS_WIRE_VERSION, WIRE_VERSION],
    ]
      .map(
        ([written, newest]) =>
          `\`${versionByte(written, newest)}\` is version ${written} from one that speaks ${newest}`,
      )
      .join(', ')}. An empty datagram, an envelope alone, is a *hello*.`,
    '',
    'A datagram that is refused is dropped and counted by reason, never answered. Reasons: ' +
      list(envelope.DROP_REASON_NAMES.slice(1)) +
      '.',
    '',
    '## Versions',
    '',
    `A process reads versions ${WIRE_VERSION} and ${PREVIOUS_WIRE_VERSION}, and writes to each peer in the newest that both speak. [Versions](../internals/decisions/versions.md) says how it learns which that is, and what must not differ between versions.`,
    'The layouts below are those of version ' +
      WIRE_VERSION +
      (differing().length === 0
        ? `; version ${PREVIOUS_WIRE_VERSION} has the same.`
        : `; where version ${PREVIOUS_WIRE_VERSION} differs, its layout stands beside: ${list(differing().map(({ name }) => name))}.`),
    '',
    'To change a message, in `src/wire/messages.ts`:',
    '',
    `- to add a field: \`{ kind: 'u8', since: ${WIRE_VERSION} }\`; to remove one: \`{ kind: 'u8', until: ${PREVIOUS_WIRE_VERSION} }\`. A process without the field reads zero (no bytes), and counts as having written zero. Zero therefore has to mean the behaviour without the field.`,
    `- to add a message: \`defineMessage(name, type, fields, ${WIRE_VERSION})\`. To a peer of version ${PREVIOUS_WIRE_VERSION} it is not sent, as if it were lost: the protocol has to work without an answer.`,
    '- a field that must carry more than zero to an older peer makes another message, which needs its own type.',
    '',
    'Cores, tests and the simulator see only the current layout. Messages from and to an older peer are translated at the edge (`src/wire/translation.ts`).',
    '',
    '## Messages',
    '',
    ...messages.ALL_MESSAGES.flatMap((message) => section(message, comments.get(message.name))),
    '## Codes',
    '',
    ...codes('Request.flags', messages.RequestFlag),
    ...codes('Reply.status', messages.ReplyStatus),
    ...codes('Reject.reason', messages.RejectReason, messages.REJECT_REASON_NAMES),
    ...codes('ProbeReply.status', messages.ReplicaStatus, messages.REPLICA_STATUS_NAMES),
  ].join('\n');
}

function section(message, comment) {
  const { previous } = message;
  const before =
    previous === message
      ? []
      : [
          previous === undefined
            ? `Version ${PREVIOUS_WIRE_VERSION} does not have it.`
            : `In version ${PREVIOUS_WIRE_VERSION}:\n\n${fenced(layout.draw(previous))}`,
          '',
        ];
  return [
    `### ${message.name}`,
    '',
    ...(comment === undefined ? [] : [comment, '']),
    fenced(layout.draw(message)),
    '',
    ...before,
  ];
}

/** Messages that differ between the two versions. */
function differing() {
  return messages.ALL_MESSAGES.filter((message) => message.previous !== message);
}

/** As in an envelope, in hexadecimal. */
function versionByte(written, newest) {
  const bytes = new Uint8Array(envelope.ENVELOPE_BYTES);
  new envelope.Envelope({ hash64: () => undefined }, 0, 0, 0, 1, undefined, newest).seal(
    bytes,
    0,
    bytes.length,
    undefined,
    written,
  );
  return `0x${bytes[5].toString(16).padStart(2, '0')}`;
}

/** Message name → the comment above its table. */
function messageComments() {
  const source = readFileSync(MESSAGES_SOURCE, 'utf8');
  const comments = new Map();
  for (const match of source.matchAll(/\/\*\*((?:(?!\*\/)[\s\S])*)\*\/\nexport const (\w+) = defineMessage\(/g)) {
    comments.set(match[2], match[1].replace(/\s*\n\s*\*\s?/g, ' ').trim());
  }
  return comments;
}

/** Seals an envelope and walks over the result: the drawing shows the real bytes, not a second table. */
function drawEnvelope(isSealed) {
  const keys = isSealed ? KEYRING : undefined;
  const { Envelope, NO_KEY } = envelope;
  const seals = new Envelope({ hash64: () => undefined }, 0, 0, 0, 1, keys);
  const bytes = new Uint8Array(seals.bytesIn(WIRE_VERSION));
  seals.seal(bytes, 0, bytes.length, isSealed ? 0 : NO_KEY);
  const rows = [
    `envelope (${bytes.length} bytes)`,
    'offset  marker  width  field',
    row(0, bytes[0], '', `array of ${bytes[0] - ARRAY_MARKER}`),
  ];
  let at = 1;
  for (const field of isSealed ? SEALED_FIELDS : ENVELOPE_FIELDS) {
    const marker = bytes[at];
    const [kind, width, header] =
      marker === BIN8_MARKER
        ? ['bin8', bytes[at + 1], 2]
        : marker === BIN16_MARKER
          ? ['bin16', 2, 1]
          : [...(SCALARS.get(marker) ?? []), 1];
    if (width === undefined)
      throw new Error(
        `the envelope has the marker ${marker} at ${at}, which this script does not know: extend SCALARS`,
      );
    rows.push(row(at + header, marker, width, `${field} ${kind}`));
    at += header + width;
  }
  if (at !== bytes.length)
    throw new Error(
      `the list of the envelope's fields ends at byte ${at} of an envelope of ${bytes.length}: correct the list`,
    );
  return rows.join('\n');
}

function row(offset, marker, width, text) {
  return `${String(offset).padStart(6)}  0x${marker.toString(16).padStart(2, '0')}    ${String(width).padStart(5)}  ${text}`;
}

function codes(title, table, names) {
  const rows = Object.entries(table).map(([key, code]) => `| ${code} | ${names === undefined ? key : names[code]} |`);
  return [`### ${title}`, '', '| code | meaning |', '| --- | --- |', ...rows, ''];
}

function fenced(text) {
  return `\`\`\`\n${text}\n\`\`\``;
}

function list(names) {
  return names.map((name) => `\`${name}\``).join(', ');
}

function count(number) {
  return number.toLocaleString('en-US');
}

function end(exitCode, line) {
  console.error(line);
  process.exit(exitCode);
}
