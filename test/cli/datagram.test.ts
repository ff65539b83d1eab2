// `jitpaxos inspect --datagram`: what a person is told about one captured datagram.
import { randomBytes } from 'node:crypto';
import { chmodSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { datagramLines, describeDatagram, readDatagram, type DatagramContext } from '../../src/cli/datagram.js';
import { loadCluster, type ClusterConfig } from '../../src/host/cluster-config.js';
import type { KeyEntry, KeyFile } from '../../src/host/key-file.js';
import { Keyring } from '../../src/host/keyring.js';
import { loadHash } from '../../src/native/hash64.js';
import { CLIENT_SENDER, ENCRYPTED_VERSION, ENVELOPE_BYTES, Envelope } from '../../src/wire/envelope.js';
import { begin, type Message } from '../../src/wire/layout.js';
import { ALL_MESSAGES, Reject, Request } from '../../src/wire/messages.js';
import { writeU16 } from '../../src/wire/u64.js';
import { PREVIOUS_WIRE_VERSION, WIRE_VERSION } from '../../src/wire/versions.js';
import { jitpaxos } from '../cluster/processes.js';

const SEED = Number(process.env['SEED'] ?? Math.floor(Math.random() * 2 ** 31));
t.comment(`SEED=${SEED} replays the random bytes`);
let state = SEED | 0;
function below(n: number): number {
  state = (Math.imul(state, 1103515245) + 12345) | 0;
  return (((state >>> 8) % n) + n) % n;
}

const CLUSTER = '00000001000000ff';
const hash = loadHash();
const VERSIONS = [...new Set([PREVIOUS_WIRE_VERSION, WIRE_VERSION, ENCRYPTED_VERSION])];
const secret = (): string => randomBytes(32).toString('hex');
const KEYS: readonly KeyEntry[] = [
  { id: 1, role: 'replica', secret: secret() },
  { id: 2, role: 'client', secret: secret() },
  { id: 3, role: 'client', secret: secret() },
];
const fileOf = (use: number, keys: readonly KeyEntry[] = KEYS): KeyFile => ({
  schema: 'jitpaxos.keys/1',
  cluster: CLUSTER,
  use,
  keys,
});
const config = (authentication: 'keys' | 'none'): ClusterConfig => ({
  schema: 'jitpaxos.cluster/1',
  id: CLUSTER,
  replicas: ['127.0.0.1:7400', '127.0.0.1:7401', '127.0.0.1:7402'],
  authentication,
});
const KEYED: DatagramContext = { hash, cluster: loadCluster(config('keys')), keys: fileOf(1) };
const OPEN: DatagramContext = { hash, cluster: loadCluster(config('none')) };

/** A message in the layout of a version, with a byte of its own in every place that holds a value. */
function message(of: Message, version: number, tail: Uint8Array): Uint8Array {
  const layout = version >= WIRE_VERSION ? of : of.previous!;
  const bytes = new Uint8Array(layout.size + (layout.hasBytes ? tail.length : 0));
  begin(layout, bytes, 0);
  for (const [name, kind] of Object.entries(layout.fields)) {
    const at = (layout.at as Record<string, number>)[name]!;
    if (kind === 'bin16') writeU16(bytes, at, tail.length);
    else bytes[at + { u8: 0, u16: 1, u32: 3, i32: 3, u64: 7 }[kind]] = 1;
  }
  if (layout.hasBytes) bytes.set(tail, layout.size);
  return bytes;
}

interface Sealing {
  readonly sender?: number;
  readonly key?: number;
  readonly version?: number;
  readonly cluster?: number;
}

function seal(
  body: Uint8Array,
  { sender = 0, key = 0, version = WIRE_VERSION, cluster = 255 }: Sealing = {},
): Uint8Array {
  const ring = key === 0 ? undefined : new Keyring(fileOf(key), key === 1);
  const envelope = new Envelope(hash, 1, cluster, sender, 3, ring, Math.max(version, WIRE_VERSION));
  const from = envelope.bytesIn(version);
  const bytes = new Uint8Array(from + body.length);
  bytes.set(body, from);
  t.ok(envelope.seal(bytes, 0, bytes.length, ring === undefined ? undefined : ring.find(key), version));
  ring?.close();
  return bytes;
}

const HOSTILE = new Uint8Array(Buffer.from('\x1b[2J\x07\x9b\x00\r\n\u202eevil\x7f', 'utf8'));
/** No character that a terminal obeys. */
const CONTROL = /[\u0000-\u0009\u000b-\u001f\u007f-\u009f\u2028\u2029\u202a-\u202e\u2066-\u2069]/;

t.test('every message of both versions is shown with the names and values of its table', (t) => {
  for (const version of VERSIONS)
    for (const of of ALL_MESSAGES) {
      const layout = version >= WIRE_VERSION ? of : of.previous;
      if (layout === undefined) continue;
      const body = message(of, version, HOSTILE);
      const datagram = seal(body, { key: 1, version, sender: 2 });
      const found = describeDatagram(datagram, KEYED);
      t.equal(found.verdict, 'intact', `${of.name} in version ${version}: ${found.says}`);
      t.match(found.envelope, {
        magic: 'JIT',
        version,
        newest: Math.max(version, WIRE_VERSION),
        sender: 'replica 2',
        key: 1,
      });
      t.same([found.messages.length, found.unread], [1, 0]);
      const [shown] = found.messages;
      t.same([shown!.name, shown!.length], [of.name, body.length]);
      t.same(Object.keys(shown!.fields), Object.keys(layout.fields));
      for (const [name, kind] of Object.entries(layout.fields)) {
        const value = shown!.fields[name]!;
        if (kind === 'bin16') t.equal(value, Buffer.from(HOSTILE).toString('hex'), `${of.name}.${name}`);
        else t.match(String(value), /^(1|1 [a-z-]+|0*1)$/i, `${of.name}.${name}`);
      }
      t.notMatch(datagramLines(found, datagram).join('\n'), CONTROL, 'nothing that a terminal obeys');
    }
  t.end();
});

t.test('the envelope as a process writes it, and several messages behind it', (t) => {
  const two = Buffer.concat([message(Request, WIRE_VERSION, HOSTILE), message(Reject, WIRE_VERSION, HOSTILE)]);
  const found = describeDatagram(seal(two, { sender: CLIENT_SENDER }), OPEN);
  t.match(found, { verdict: 'intact', envelope: { cluster: CLUSTER, sender: 'client', key: 0 } });
  t.match(
    found.messages.map(({ name, offset }) => [name, offset]),
    [
      ['Request', ENVELOPE_BYTES],
      ['Reject', ENVELOPE_BYTES + Request.size + HOSTILE.length],
    ],
  );
  t.equal(found.messages[0]!.fields['flags'], '1 register');
  t.equal(found.messages[1]!.fields['reason'], '1 late');
  const hello = seal(new Uint8Array(0), { sender: CLIENT_SENDER });
  t.match(datagramLines(describeDatagram(hello, OPEN), hello).at(-1), /hello/);
  t.end();
});

t.test('each direction is opened as the process that takes it', (t) => {
  const body = message(Reject, WIRE_VERSION, HOSTILE);
  const verdict = (sealing: Sealing): string => describeDatagram(seal(body, sealing), KEYED).verdict;
  for (const version of [WIRE_VERSION, ENCRYPTED_VERSION]) {
    t.equal(verdict({ version, key: 1, sender: 1 }), 'intact', 'a replica to a replica');
    t.equal(verdict({ version, key: 2, sender: CLIENT_SENDER }), 'intact', 'a client to a replica');
    const ring = new Keyring(fileOf(1), true);
    const envelope = new Envelope(hash, 1, 255, 0, 3, ring, version);
    const from = envelope.bytesIn(version);
    const answer = new Uint8Array(from + body.length);
    answer.set(body, from);
    t.ok(envelope.seal(answer, 0, answer.length, ring.find(2), version));
    ring.close();
    t.equal(describeDatagram(answer, KEYED).verdict, 'intact', 'a replica to a client');
  }
  t.end();
});

t.test('an encrypted datagram', (t) => {
  const body = message(Request, WIRE_VERSION, HOSTILE);
  const version = ENCRYPTED_VERSION;
  const good = seal(body, { version, key: 2, sender: CLIENT_SENDER });
  const found = describeDatagram(good, KEYED);
  t.match(found, {
    verdict: 'intact',
    envelope: { encrypted: true, cluster: null, counter: '1', salt: /^[0-9a-f]{32}$/ },
  });
  t.equal(found.messages[0]!.fields['operation'], Buffer.from(HOSTILE).toString('hex'));
  const flipped = (at: number): Uint8Array => good.map((byte, i) => (i === at ? byte ^ 1 : byte));
  const last = good.length - 1;
  const cases: [string, Uint8Array, DatagramContext, string, string | null, RegExp][] = [
    ['without its key', good, { hash, cluster: KEYED.cluster! }, 'unchecked', null, /key 2 is needed/],
    ['with nothing', good, { hash }, 'unchecked', null, /key 2 is needed/],
    ['in a cluster without keys', good, OPEN, 'refused', 'key', /a cluster without keys does not have/],
    ['under an unknown key', good, { ...KEYED, keys: fileOf(1, [KEYS[0]!]) }, 'refused', 'key', /not in the key file/],
    ['damaged', flipped(last), KEYED, 'refused', 'checksum', /damaged, of another cluster, or key 2/],
    ['with another counter', flipped(14), KEYED, 'refused', 'stale', /counter that no sender uses/],
    ['with another salt', flipped(50), KEYED, 'refused', 'checksum', /damaged/],
    [
      'of another cluster',
      seal(body, { version, key: 2, sender: CLIENT_SENDER, cluster: 254 }),
      { ...KEYED, cluster: { ...KEYED.cluster!, idLo: 254 }, keys: { ...KEYED.keys!, cluster: '00000001000000fe' } },
      'refused',
      'checksum',
      /of another cluster/,
    ],
    ['cut', good.slice(0, last), KEYED, 'refused', 'truncated', /cut/],
  ];
  for (const [what, bytes, context, verdict, reason, says] of cases) {
    const shown = describeDatagram(bytes, context);
    t.match([shown.verdict, shown.reason, shown.says], [verdict, reason, says], what);
    t.same([shown.messages.length, shown.unread], [0, bytes.length], `${what}: nothing of it is read`);
    t.notMatch(datagramLines(shown, bytes).join('\n'), CONTROL, what);
  }
  t.end();
});

t.test('why a datagram is refused, or what is needed to check it', (t) => {
  const body = message(Reject, WIRE_VERSION, HOSTILE);
  const good = seal(body, { key: 2, sender: CLIENT_SENDER, version: PREVIOUS_WIRE_VERSION });
  const plain = seal(body);
  const changed = (bytes: Uint8Array, at: number, value: number): Uint8Array =>
    bytes.map((byte, i) => (i === at ? value : byte));
  const other = fileOf(1, [KEYS[0]!, { ...KEYS[1]!, secret: secret() }]);
  const cases: [
    what: string,
    bytes: Uint8Array,
    context: DatagramContext,
    verdict: string,
    reason: string | null,
    says: RegExp,
  ][] = [
    [
      'a flipped bit',
      changed(good, good.length - 1, good.at(-1)! ^ 1),
      KEYED,
      'refused',
      'checksum',
      /damaged, or key 2 had another secret/,
    ],
    ['another secret', good, { ...KEYED, keys: other }, 'refused', 'checksum', /another secret/],
    [
      'an unknown key',
      good,
      { ...KEYED, keys: fileOf(1, [KEYS[0]!]) },
      'refused',
      'key',
      /key 2, which is not in the key file/,
    ],
    ['no key file', good, { hash, cluster: KEYED.cluster! }, 'unchecked', null, /key 2 is needed; give --keys/],
    ['nothing given', good, { hash }, 'unchecked', null, /give --keys/],
    ['no key in a cluster with keys', plain, KEYED, 'refused', 'key', /without a key, and this cluster has keys/],
    ['a key in a cluster without', good, OPEN, 'refused', 'key', /a cluster without keys does not have/],
    [
      'another cluster',
      seal(body, { cluster: 254 }),
      OPEN,
      'refused',
      'cluster',
      /of another cluster, 00000001000000fe/,
    ],
    ['no cluster file', plain, { hash }, 'intact', null, /no cluster file was given/],
    ['a damaged checksum', changed(plain, 60, 9), { hash }, 'refused', 'checksum', /^damaged: the checksum/],
    [
      "a client under the replicas' key",
      seal(body, { key: 1, sender: CLIENT_SENDER }),
      KEYED,
      'refused',
      'role',
      /client may not speak/,
    ],
    ['a replica that is not there', seal(body, { sender: 7 }), OPEN, 'refused', 'sender', /from replica 7/],
    ['cut', plain.slice(0, 40), OPEN, 'refused', 'truncated', /cut: 40 bytes/],
    ['nothing', new Uint8Array(0), OPEN, 'refused', 'truncated', /cut: 0 bytes/],
    ['a foreign one', new Uint8Array(100).fill(0x41), OPEN, 'refused', 'marker', /not a datagram of this program/],
    ['another version', changed(plain, 5, 0x22), OPEN, 'refused', 'version', /written in version 2/],
    ['too long', new Uint8Array(60_001), OPEN, 'refused', 'oversized', /too long/],
  ];
  for (const [what, bytes, context, verdict, reason, says] of cases) {
    const before = bytes.slice();
    const found = describeDatagram(bytes, context);
    t.match([found.verdict, found.reason, found.says], [verdict, reason, says], what);
    t.same(bytes, before, `${what}: the bytes are left as they are`);
    const lines = datagramLines(found, bytes).join('\n');
    t.notMatch(lines, CONTROL, what);
    if (found.messages.length > 0) t.equal(lines.includes('not authentic'), verdict !== 'intact', what);
  }
  const cut = seal(body.slice(0, -1));
  t.match(describeDatagram(cut, OPEN), {
    verdict: 'refused',
    reason: 'truncated',
    messages: [],
    unread: body.length - 1,
  });
  t.end();
});

t.test('no bytes make it throw, or print what a terminal obeys', (t) => {
  const good = [
    seal(message(Request, WIRE_VERSION, HOSTILE), { key: 1, version: ENCRYPTED_VERSION }),
    seal(message(Request, WIRE_VERSION, HOSTILE), { key: 1 }),
    seal(message(Request, WIRE_VERSION, HOSTILE)),
  ];
  const wrong: string[] = [];
  for (let i = 0; i < 4_000; i++) {
    const bytes = good[below(3)]!.slice(0, below(2) === 0 ? undefined : below(120));
    for (let k = below(6); k > 0 && bytes.length > 0; k--) bytes[below(bytes.length)] = below(256);
    const context = [KEYED, OPEN, { hash }][below(3)]!;
    const found = describeDatagram(bytes, context);
    if (CONTROL.test(datagramLines(found, bytes).join('\n'))) wrong.push('a control character is printed');
    if (found.messages.reduce((sum, { length }) => sum + length, 0) + found.unread > bytes.length)
      wrong.push('more bytes than there are');
  }
  t.same(wrong, [], `SEED=${SEED}`);
  t.end();
});

t.test('the command', async (t) => {
  const cwd = mkdtempSync(join(tmpdir(), 'jitpaxos-test-'));
  t.teardown(() => rmSync(cwd, { recursive: true, force: true }));
  const datagram = seal(message(Request, WIRE_VERSION, HOSTILE), { key: 2, sender: CLIENT_SENDER });
  const digits = Buffer.from(datagram).toString('hex');
  writeFileSync(join(cwd, 'raw.bin'), datagram);
  writeFileSync(join(cwd, 'hex.txt'), `${digits.match(/.{1,32}/g)!.join('\n')}\n`);
  t.same(readDatagram(digits), datagram);
  t.same(readDatagram(`0x${digits.toUpperCase().match(/../g)!.join(':')}`), datagram);
  const inspect = (...args: string[]): ReturnType<typeof jitpaxos> => jitpaxos(['inspect', ...args], { cwd });
  t.match(await inspect('--datagram', digits), {
    code: 1,
    stdout: /not checked: key 2 is needed[^]*bytes that are encrypted/,
  });
  writeFileSync(join(cwd, 'cluster.json'), JSON.stringify(config('keys')));
  t.match(await inspect('--datagram', 'raw.bin'), { code: 1, stdout: /not checked/ }, 'a cluster file is not enough');
  writeFileSync(join(cwd, 'replica.keys'), JSON.stringify(fileOf(1)), { mode: 0o600 });
  for (const given of ['raw.bin', 'hex.txt', digits]) {
    const { code, stdout } = await inspect('--datagram', given);
    t.equal(code, 0, stdout);
    t.match(stdout, /^\d+ bytes, intact\n[^]*sender {4}client\n[^]*Request {2}at byte \d+[^]*session +0{15}1\n/);
    t.notMatch(stdout, CONTROL);
  }
  writeFileSync(join(cwd, 'mine.keys'), JSON.stringify(fileOf(3, [KEYS[2]!])));
  chmodSync(join(cwd, 'mine.keys'), 0o600);
  const foreign = await inspect('--datagram', 'raw.bin', '--keys', 'mine.keys', '--json');
  t.equal(foreign.code, 1);
  t.match(JSON.parse(foreign.stdout), { schema: 'jitpaxos.datagram/1', verdict: 'refused', reason: 'key' });
  mkdirSync(join(cwd, 'folder'));
  for (const [args, says] of [
    [['--datagram', 'folder'], /not a regular file/],
    [['--datagram', 'absent.bin'], /neither a file nor hexadecimal digits/],
    [['--datagram', ''], /is not a text/],
    [['folder', '--datagram', 'raw.bin'], /either a data directory or --datagram/],
    [[], /either a data directory or --datagram/],
  ] as const)
    t.match(await inspect(...args), { code: 2, stderr: says }, args.join(' '));
});
