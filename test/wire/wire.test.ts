// The wire: every message against msgpackr as oracle, and everything that is not a message refused without an
// exception.
import t from 'tap';
import { isDeepStrictEqual } from 'node:util';
import { Unpackr } from 'msgpackr';
import { loadHash } from '../../src/native/hash64.js';
import {
  CLIENT_SENDER,
  DROP_REASON_NAMES,
  ENVELOPE_BYTES,
  Envelope,
  MAX_DATAGRAM_BYTES,
} from '../../src/wire/envelope.js';
import { WIRE_VERSION } from '../../src/wire/versions.js';
import { begin, defineMessage, draw, type Layout } from '../../src/wire/layout.js';
import * as table from '../../src/wire/messages.js';
import {
  ALL_MESSAGES,
  layoutOf,
  Malformed,
  nameOf,
  REJECT_REASON_NAMES,
  RejectReason,
  REPLICA_STATUS_NAMES,
  ReplicaStatus,
  Request,
  typeOf,
  validate,
  validatePrevious,
} from '../../src/wire/messages.js';
import {
  addHi,
  addLo,
  compareU64,
  differenceU64,
  readI32,
  readIndex,
  readU16,
  toBigInt,
  toHex,
  writeI32,
  writeIndex,
  writeU16,
} from '../../src/wire/u64.js';

const SEED = Number(process.env['SEED'] ?? Math.floor(Math.random() * 2 ** 31));
t.comment(`SEED=${SEED} replays the random contents`);

let state = SEED | 0;
/** Mulberry32. */
function random(): number {
  state = (state + 0x6d2b79f5) | 0;
  let x = Math.imul(state ^ (state >>> 15), 1 | state);
  x = (x + Math.imul(x ^ (x >>> 7), 61 | x)) ^ x;
  return ((x ^ (x >>> 14)) >>> 0) / 4294967296;
}
const below = (n: number): number => Math.floor(random() * n);
const randomBytes = (length: number): Uint8Array => Uint8Array.from({ length }, () => below(256));
/** Small, edge and arbitrary values alike. */
function randomBits(bits: number): bigint {
  const kind = below(4);
  if (kind === 0) return BigInt(below(3));
  if (kind === 1) return (1n << BigInt(bits)) - 1n - BigInt(below(2));
  if (kind === 2) return 1n << BigInt(below(bits));
  let value = 0n;
  for (let i = 0; i < bits; i += 8) value = (value << 8n) | BigInt(below(256));
  return value;
}

type Value = number | bigint | Uint8Array;
const unpackr = new Unpackr({ int64AsType: 'bigint', useRecords: false });
const hash = loadHash();
const INDEX_FIELDS = /^(index|.*Index)$/;

/** Writes a message the way the core does: template, then values at the table's offsets. */
function write(message: Layout, values: Record<string, Value>, bytes: Uint8Array, offset: number): number {
  begin(message, bytes, offset);
  let length = message.size;
  for (const [field, kind] of Object.entries(message.fields)) {
    const at = offset + message.at[field]!;
    const value = values[field]!;
    if (kind === 'bin16') {
      const tail = value as Uint8Array;
      writeU16(bytes, at, tail.length);
      bytes.set(tail, offset + message.size);
      length += tail.length;
    } else if (kind === 'u64') {
      if (INDEX_FIELDS.test(field)) writeIndex(bytes, at, Number(value));
      else {
        writeI32(bytes, at, Number(BigInt.asIntN(32, (value as bigint) >> 32n)));
        writeI32(bytes, at + 4, Number(BigInt.asIntN(32, value as bigint)));
      }
    } else if (kind === 'u8') bytes[at] = Number(value);
    else if (kind === 'u16') writeU16(bytes, at, Number(value));
    else writeI32(bytes, at, Number(value));
  }
  return length;
}

function read(message: Layout, bytes: Uint8Array, offset: number): Record<string, Value> {
  const values: Record<string, Value> = {};
  for (const [field, kind] of Object.entries(message.fields)) {
    const at = offset + message.at[field]!;
    if (kind === 'bin16')
      values[field] = bytes.slice(offset + message.size, offset + message.size + readU16(bytes, at));
    else if (kind === 'u64')
      values[field] = INDEX_FIELDS.test(field)
        ? BigInt(readIndex(bytes, at))
        : toBigInt(readI32(bytes, at), readI32(bytes, at + 4));
    else if (kind === 'u8') values[field] = bytes[at]!;
    else if (kind === 'u16') values[field] = readU16(bytes, at);
    else if (kind === 'u32') values[field] = readI32(bytes, at) >>> 0;
    else values[field] = readI32(bytes, at);
  }
  return values;
}

function randomValues(message: Layout): Record<string, Value> {
  const values: Record<string, Value> = {};
  for (const [field, kind] of Object.entries(message.fields)) {
    if (kind === 'bin16') values[field] = randomBytes(below(4) === 0 ? 0 : below(300));
    else if (kind === 'u64')
      values[field] = INDEX_FIELDS.test(field) ? BigInt.asUintN(53, randomBits(53)) : randomBits(64);
    else if (kind === 'i32') values[field] = Number(BigInt.asIntN(32, randomBits(32)));
    else values[field] = Number(randomBits(kind === 'u8' ? 8 : kind === 'u16' ? 16 : 32));
  }
  return values;
}

/** What msgpackr makes of a message, field by field; u64 always as bigint. */
function oracle(message: Layout, decoded: Value[]): Record<string, Value> {
  const values: Record<string, Value> = {};
  Object.entries(message.fields).forEach(([field, kind], i) => {
    const value = decoded[i + 1]!;
    values[field] =
      kind === 'u64' ? BigInt(value as bigint) : kind === 'bin16' ? new Uint8Array(value as Uint8Array) : value;
  });
  return values;
}

t.test('msgpackr decodes every message, in both versions, to the values that were written, and so do we', (t) => {
  const inBoth = ALL_MESSAGES.flatMap((each): [Layout, typeof validate][] => [
    [each, validate],
    ...(each.previous === undefined ? [] : [[each.previous, validatePrevious] as [Layout, typeof validate]]),
  ]);
  t.ok(inBoth.length > ALL_MESSAGES.length);
  for (const [message, validate] of inBoth) {
    for (let round = 0; round < 50; round++) {
      const values = randomValues(message);
      const bytes = new Uint8Array(2000).fill(0xee);
      const offset = below(40);
      const length = write(message, values, bytes, offset);
      const label = `${message.name}, SEED=${SEED}`;
      if (validate(bytes, offset, bytes.length) !== length)
        t.fail(`${label}: validate says ${validate(bytes, offset, bytes.length)}, not ${length}`);
      const decoded = unpackr.unpack(bytes.slice(offset, offset + length)) as Value[];
      if (decoded[0] !== message.type || decoded.length !== Object.keys(message.fields).length + 1)
        t.fail(`${label}: array ${String(decoded)}`);
      if (!isDeepStrictEqual(oracle(message, decoded), values)) t.strictSame(oracle(message, decoded), values, label);
      if (!isDeepStrictEqual(read(message, bytes, offset), values))
        t.strictSame(read(message, bytes, offset), values, label);
      if (bytes.subarray(0, offset).some((b) => b !== 0xee) || bytes.subarray(offset + length).some((b) => b !== 0xee))
        t.fail(`${label}: wrote outside of the message`);
    }
    if (message.type !== layoutOf(message.type)?.type) t.fail(`${message.name} is not in the table`);
    t.equal(nameOf(message.type), message.name);
  }
  t.end();
});

t.test('a datagram is an envelope and messages, one after the other, for any msgpack decoder', (t) => {
  const bytes = new Uint8Array(20_000);
  let length = ENVELOPE_BYTES;
  const written: Record<string, Value>[] = [];
  for (const message of ALL_MESSAGES) {
    const values = randomValues(message);
    written.push(values);
    length += write(message, values, bytes, length);
  }
  new Envelope(hash, 0x01234567, 0x89abcdef | 0, 2, 3).seal(bytes, 0, length);
  const [magic, cluster, sender, key, mac] = (unpackr.unpackMultiple(bytes.slice(0, length)) as Value[][])[0]!;
  t.equal(
    magic,
    0x4a495400 + (WIRE_VERSION << 4) + WIRE_VERSION,
    'written in this version, by a sender that speaks no newer one',
  );
  t.equal(cluster, 0x0123456789abcdefn);
  t.equal(sender, 2);
  t.equal(key, 0);
  const zeroed = bytes.slice(0, length).fill(0, 25, 41);
  const digest = new Uint8Array(16);
  hash.hash64(zeroed, 0, length, digest, 0);
  t.strictSame(new Uint8Array(mac as Uint8Array), digest, 'the checksum of all, itself counted as zeros');
  const messages = (unpackr.unpackMultiple(bytes.slice(0, length)) as Value[][]).slice(1);
  t.equal(messages.length, ALL_MESSAGES.length);
  messages.forEach((decoded, i) => t.strictSame(oracle(ALL_MESSAGES[i]!, decoded), written[i]));
  let at = ENVELOPE_BYTES;
  for (const message of ALL_MESSAGES) {
    t.equal(typeOf(bytes, at), message.type);
    at += validate(bytes, at, length);
  }
  t.equal(at, length);
  t.end();
});

t.test('validate: every prefix of a message is truncated, and nothing at or beyond the end is looked at', (t) => {
  for (const message of ALL_MESSAGES) {
    const values = randomValues(message);
    const bytes = new Uint8Array(2000);
    const length = write(message, values, bytes, 0);
    for (let cut = 0; cut < length; cut++) {
      if (validate(bytes, 0, cut) !== Malformed.truncated)
        t.fail(`${message.name} cut at ${cut}: ${validate(bytes, 0, cut)}`);
    }
    t.equal(validate(bytes, 0, length), length, message.name);
    t.equal(validate(bytes.slice(0, length), 0, length), length);
  }
  t.end();
});

t.test(
  'validate: a flipped bit in a header, type or marker is refused; in a value it is another value or refused, never an exception',
  (t) => {
    for (const message of ALL_MESSAGES) {
      const bytes = new Uint8Array(2000);
      const length = write(message, randomValues(message), bytes, 0);
      const fixed = new Set(Array.from(message.marks, (mark) => mark >>> 8));
      const bin = message.hasBytes ? message.size - 2 : -1;
      for (let bit = 0; bit < length * 8; bit++) {
        const at = bit >> 3;
        bytes[at]! ^= 1 << (bit & 7);
        const result = validate(bytes, 0, length);
        if (fixed.has(at)) {
          // The type may become that of another message, whose markers do not fit; but ViewChange and Plea differ in
          // nothing else, there only the checksum of the envelope tells.
          const other = layoutOf(bytes[1]!);
          const twin =
            at === 1 &&
            other !== undefined &&
            other.template.every((value, i) => i === 1 || value === message.template[i]);
          if (result >= 0 && !twin) t.fail(`${message.name}: bit ${bit} of the fixed part flipped and taken`);
        } else if (at === bin || at === bin + 1) {
          if (result > length) t.fail(`${message.name}: longer than what is there`);
        } else if (result !== length && result !== Malformed.number)
          t.fail(`${message.name}: bit ${bit} of a value gives ${result}`);
        bytes[at]! ^= 1 << (bit & 7);
      }
      t.equal(validate(bytes, 0, length), length, message.name);
    }
    t.end();
  },
);

t.test('validate: an index above 2^53 − 1 is refused', (t) => {
  let fields = 0;
  for (const message of ALL_MESSAGES) {
    for (const field of Object.keys(message.fields).filter((name) => INDEX_FIELDS.test(name))) {
      fields++;
      const bytes = new Uint8Array(2000);
      const length = write(message, randomValues(message), bytes, 0);
      writeIndex(bytes, message.at[field]!, Number.MAX_SAFE_INTEGER);
      t.equal(validate(bytes, 0, length), length);
      writeI32(bytes, message.at[field]!, 0x200000);
      writeI32(bytes, message.at[field]! + 4, 0);
      t.equal(validate(bytes, 0, length), Malformed.number, `${message.name}.${field}`);
      writeI32(bytes, message.at[field]!, -1);
      t.equal(validate(bytes, 0, length), Malformed.number);
    }
  }
  t.ok(fields >= 15, 'there are index fields');
  t.end();
});

t.test('random blobs are refused by validate and by the envelope, without exception', (t) => {
  const envelope = new Envelope(hash, 1, 2, 0, 3);
  let plausible = 0;
  for (let i = 0; i < 20_000; i++) {
    const blob = randomBytes(below(120));
    // Half of them begin like a message, so that the markers are what is looked at.
    if (i % 2 === 0 && blob.length >= 2) {
      const message = ALL_MESSAGES[below(ALL_MESSAGES.length)]!;
      blob[0] = message.template[0]!;
      blob[1] = message.type;
      plausible++;
    }
    const length = validate(blob, 0, blob.length);
    // ViewChange and Plea have a single marker: a blob may well be one.
    if (length >= 0 && length > blob.length) t.fail(`validate took more than there is, SEED=${SEED}`);
    if (length >= 0 && layoutOf(blob[1]!)!.marks.length > 5)
      t.fail(`validate took noise for a ${nameOf(blob[1]!)}, SEED=${SEED}`);
    if (envelope.open(blob, 0, blob.length) >= 0) t.fail(`the envelope took noise, SEED=${SEED}`);
  }
  t.ok(plausible > 5000);
  t.end();
});

/** A sealed datagram with one request. */
function datagram(sender = 1): Uint8Array {
  const bytes = new Uint8Array(400);
  const length =
    ENVELOPE_BYTES + write(Request, { ...randomValues(Request), operation: randomBytes(60) }, bytes, ENVELOPE_BYTES);
  new Envelope(hash, 7, 8, sender, 3).seal(bytes, 0, length);
  return bytes.slice(0, length);
}

t.test('envelope: opens what was sealed and says who sent it', (t) => {
  const receiver = new Envelope(hash, 7, 8, 0, 3);
  for (const sender of [0, 1, 2, CLIENT_SENDER])
    t.equal(receiver.open(datagram(sender), 0, datagram(sender).length), sender);
  const bytes = new Uint8Array(500);
  const sealed = datagram(2);
  bytes.set(sealed, 33);
  t.equal(receiver.open(bytes, 33, sealed.length), 2, 'at an offset');
  t.end();
});

t.test('envelope: every prefix and every flipped bit is refused', (t) => {
  const receiver = new Envelope(hash, 7, 8, 0, 3);
  const sealed = datagram();
  for (let cut = 0; cut < sealed.length; cut++)
    if (receiver.open(sealed.slice(), 0, cut) >= 0) t.fail(`prefix of ${cut} bytes taken`);
  for (let bit = 0; bit < sealed.length * 8; bit++) {
    const bytes = sealed.slice();
    bytes[bit >> 3]! ^= 1 << (bit & 7);
    const result = receiver.open(bytes, 0, bytes.length);
    if (result >= 0) t.fail(`bit ${bit} flipped and taken`);
    if (DROP_REASON_NAMES[-result] === undefined) t.fail(`code ${result} has no name`);
  }
  t.equal(receiver.open(sealed.slice(), 0, sealed.length), 1, 'the datagram itself is taken');
  t.end();
});

t.test('envelope: each refusal has its name', (t) => {
  const open = (bytes: Uint8Array, length = bytes.length, replicas = 3): string =>
    DROP_REASON_NAMES[-new Envelope(hash, 7, 8, 0, replicas).open(bytes, 0, length)]!;
  const changed = (at: number, value: number, bytes = datagram()): Uint8Array => {
    bytes[at] = value;
    return bytes;
  };
  t.equal(open(datagram(), 40), 'truncated');
  t.equal(open(new Uint8Array(MAX_DATAGRAM_BYTES + 1)), 'oversized');
  t.equal(open(changed(0, 0x94)), 'marker');
  t.equal(open(changed(2, 0x4b)), 'magic');
  for (const byte of [0, 3, 0x02, 0x22, 0x33, 0x34, 0x45, 0x66, 0x40, 0xff])
    t.equal(open(changed(5, byte)), 'version', `version byte ${byte}`);
  t.equal(open(changed(14, 9)), 'cluster');
  t.equal(open(datagram(5)), 'sender', 'a replica beyond the cluster');
  t.equal(open(changed(22, 1)), 'key');
  const one = datagram(); // another one has another checksum, which may be this one's turned around
  t.equal(open(changed(25, one[25]! ^ 0xff, one)), 'checksum');
  t.equal(open(changed(40, 1)), 'checksum', 'the unused half of the mac is zero');
  t.end();
});

t.test('the drawing of the docs agrees with the offsets', (t) => {
  const widths: Record<string, number> = { u8: 1, u16: 2, u32: 4, u64: 8, i32: 4, bin16: 2 };
  for (const message of ALL_MESSAGES) {
    const [title, , array, type, ...rows] = draw(message).split('\n');
    t.equal(
      title,
      `${message.name} (type ${message.type}, ${message.size} bytes${message.hasBytes ? ' + bytes' : ''})`,
    );
    t.match(
      array,
      new RegExp(`^ +0  0x${message.template[0]!.toString(16)} .*array of ${Object.keys(message.fields).length + 1}$`),
    );
    t.match(type, new RegExp(`^ +1  0x${message.type.toString(16).padStart(2, '0')} .*type$`));
    let end = 2;
    t.equal(rows.length, Object.keys(message.fields).length);
    Object.entries(message.fields).forEach(([field, kind], i) => {
      const [, offset, marker, width, name, drawnKind] = /^ *(\d+) {2}0x([0-9a-f]{2}) +(\d+) {2}(\w+) (\w+)/.exec(
        rows[i]!,
      )!;
      t.equal(name, field);
      t.equal(drawnKind, kind);
      t.equal(Number(width), widths[kind]);
      t.equal(Number(offset), end + 1, `${message.name}.${field} follows its marker`);
      t.equal(Number(offset), message.at[field]);
      t.equal(parseInt(marker!, 16), message.template[end]);
      end = Number(offset) + Number(width);
    });
    t.equal(end, message.size, 'the fields fill the message');
  }
  t.end();
});

t.test('a wrong table is refused when it is defined', (t) => {
  t.throws(() => defineMessage('M', 128, { view: 'u32' }), /type 128/);
  t.throws(() => defineMessage('M', 0, { view: 'u32' }), /type 0/);
  t.throws(() => defineMessage('M', 1, { data: 'bin16', view: 'u32' }), /view follows bytes/);
  const many = Object.fromEntries(Array.from({ length: 15 }, (_, i) => [`f${i}`, 'u8' as const]));
  t.throws(() => defineMessage('M', 1, many), /15 fields/);
  t.equal(new Set(ALL_MESSAGES.map((message) => message.type)).size, ALL_MESSAGES.length, 'types are distinct');
  t.ok(
    ALL_MESSAGES.every((message) => Object.keys(message.fields)[0] === 'view'),
    'view comes first everywhere',
  );
  t.end();
});

t.test('codes have names', (t) => {
  for (const [name, code] of Object.entries(RejectReason))
    t.equal(REJECT_REASON_NAMES[code]!.replaceAll('-', ''), name.toLowerCase());
  for (const [name, code] of Object.entries(ReplicaStatus))
    t.equal(REPLICA_STATUS_NAMES[code]!.replaceAll('-', ''), name.toLowerCase());
  for (const [name, code] of Object.entries(Malformed))
    t.equal(DROP_REASON_NAMES[-code]!.replaceAll('-', ''), name.toLowerCase());
  t.end();
});

t.test('64-bit halves compute what BigInt computes', (t) => {
  const halves = (value: bigint): [number, number] => [
    Number(BigInt.asIntN(32, value >> 32n)),
    Number(BigInt.asIntN(32, value)),
  ];
  for (let i = 0; i < 5000; i++) {
    const a = randomBits(64);
    const b = below(3) === 0 ? BigInt.asUintN(64, a + BigInt(below(5) - 2)) : randomBits(64);
    const delta = BigInt.asUintN(53, randomBits(53));
    const label = `a=${a} b=${b} delta=${delta} SEED=${SEED}`;
    const [aHi, aLo] = halves(a);
    const [bHi, bLo] = halves(b);
    if (Math.sign(compareU64(aHi, aLo, bHi, bLo)) !== (a < b ? -1 : a > b ? 1 : 0)) t.fail(`compare ${label}`);
    if (toBigInt(aHi, aLo) !== a) t.fail(`toBigInt ${label}`);
    if (toHex(aHi, aLo) !== a.toString(16).padStart(16, '0')) t.fail(`toHex ${label}`);
    if (toBigInt(addHi(aHi, aLo, Number(delta)), addLo(aLo, Number(delta))) !== BigInt.asUintN(64, a + delta))
      t.fail(`add ${label}`);
    const difference = a - b;
    if (difference > -(1n << 53n) && difference < 1n << 53n && differenceU64(aHi, aLo, bHi, bLo) !== Number(difference))
      t.fail(`difference ${label}`);
    const bytes = new Uint8Array(8);
    writeIndex(bytes, 0, Number(delta));
    if (Buffer.from(bytes).readBigUInt64BE() !== delta || readIndex(bytes, 0) !== Number(delta))
      t.fail(`index ${label}`);
  }
  t.pass('5,000 rounds');
  t.end();
});

t.test('every message that is defined stands in a group of those that take it', (t) => {
  const defined = Object.values(table).filter(
    (value) => typeof value === 'object' && 'template' in value && 'type' in value,
  );
  t.ok(defined.length > 20);
  t.same(defined.map((message) => (message as Layout).name).sort(), ALL_MESSAGES.map((message) => message.name).sort());
  t.end();
});

t.test('a read-only key registers sessions of few lanes, queries and reads', (t) => {
  const { Request, Read, RequestFlag, READ_ONLY_LANES, isReadOnly } = table;
  const request = (flags: number, operation: Uint8Array): Uint8Array => {
    const bytes = new Uint8Array(3 + Request.size + operation.length);
    bytes.set(Request.template, 3);
    bytes[3 + Request.at.flags] = flags;
    bytes[3 + Request.at.operation + 1] = operation.length;
    bytes.set(operation, 3 + Request.size);
    return bytes;
  };
  const register = (lanes: number, length = 18): Uint8Array => {
    const operation = Buffer.alloc(18);
    operation.writeUInt16BE(lanes, 8);
    return request(RequestFlag.register, operation.subarray(0, length));
  };
  const { register: registers, query } = RequestFlag;
  t.ok(isReadOnly(register(READ_ONLY_LANES), 3));
  t.notOk(isReadOnly(register(READ_ONLY_LANES + 1), 3));
  t.notOk(isReadOnly(register(4096), 3));
  t.ok(isReadOnly(register(0, 9), 3), 'one that names no lanes is refused by the core, with an answer');
  t.notOk(
    isReadOnly(request(registers | query, register(65).subarray(3 + Request.size)), 3),
    'another flag opens nothing',
  );
  t.ok(isReadOnly(request(query, new Uint8Array(4)), 3));
  t.notOk(isReadOnly(request(0, new Uint8Array(4)), 3));
  t.notOk(isReadOnly(request(4, new Uint8Array(4)), 3));
  t.ok(isReadOnly(Read.template, 0));
  t.end();
});
