// The kernel's filter beside the envelope: what `open` takes is never dropped, and what is dropped `open` refuses.
import t from 'tap';
import { randomBytes } from 'node:crypto';
import type { KeyEntry, KeyFile } from '../../src/host/key-file.js';
import { Keyring } from '../../src/host/keyring.js';
import { loadHash } from '../../src/native/hash64.js';
import { Random } from '../../src/sim/random.js';
import { CLIENT_SENDER, DROP_REASON_NAMES, ENVELOPE_BYTES_MAX, Envelope } from '../../src/wire/envelope.js';
import { kernelFilter } from '../../src/wire/kernel-filter.js';

const HI = 0x0badcafe;
const LO = 0x600df00d | 0;
const REPLICAS = 3;
const UDP_HEADER_BYTES = 8;
const hash = loadHash();
/** The refusals that the filter may anticipate. */
const ANTICIPATED = ['truncated', 'marker', 'magic', 'version', 'cluster'];

/** Runs a program of classic BPF as the kernel does: true if it keeps the packet. */
function keeps(program: Uint8Array, packet: Uint8Array): boolean {
  const view = new DataView(packet.buffer, packet.byteOffset, packet.length);
  const halves = new Uint16Array(program.buffer);
  const words = new Uint32Array(program.buffer);
  let accumulator = 0;
  for (let at = 0; at < words.length / 2; at++) {
    const operand = words[2 * at + 1]!;
    const [then, otherwise] = [program[8 * at + 2]!, program[8 * at + 3]!];
    switch (halves[4 * at]) {
      case 0x20:
        if (operand + 4 > packet.length) return false;
        accumulator = view.getUint32(operand);
        break;
      case 0x30:
        if (operand >= packet.length) return false;
        accumulator = view.getUint8(operand);
        break;
      case 0x80:
        accumulator = packet.length;
        break;
      case 0x54:
        accumulator = (accumulator & operand) >>> 0;
        break;
      case 0x15:
        at += accumulator === operand ? then : otherwise;
        break;
      case 0x35:
        at += accumulator >= operand ? then : otherwise;
        break;
      case 0x25:
        at += accumulator > operand ? then : otherwise;
        break;
      case 0x06:
        return operand !== 0;
      default:
        throw new Error(`instruction ${at} is unknown`);
    }
  }
  throw new Error('the program has no end');
}

function packetOf(bytes: Uint8Array): Uint8Array {
  const packet = new Uint8Array(UDP_HEADER_BYTES + bytes.length);
  packet.set(bytes, UDP_HEADER_BYTES);
  return packet;
}

const entry = (id: number, role: KeyEntry['role']): KeyEntry => ({ id, role, secret: randomBytes(32).toString('hex') });
const entries = [entry(1, 'replica'), entry(2, 'client')];
const file = (use: number, keys: readonly KeyEntry[]): KeyFile => ({
  schema: 'jitpaxos.keys/1',
  cluster: '0badcafe600df00d',
  use,
  keys: [...keys],
});

for (const keyed of [false, true]) {
  t.test(`random and mutated datagrams, ${keyed ? 'with' : 'without'} keys`, (t) => {
    const seed = Number(process.env['SEED'] ?? Math.floor(Math.random() * 2 ** 31));
    const random = new Random(seed);
    const [ring, clients] = keyed
      ? [new Keyring(file(1, entries), true), new Keyring(file(2, entries.slice(1)), false)]
      : [undefined, undefined];
    const [oldest, newest] = [3, 5];
    const receiver = new Envelope(hash, HI, LO, 0, REPLICAS, ring, newest, oldest);
    const senders = [newest, 4].map((speaks) => ({
      speaks,
      replica: new Envelope(hash, HI, LO, 1, REPLICAS, ring, speaks, oldest),
      client: new Envelope(hash, HI, LO, CLIENT_SENDER, REPLICAS, clients, speaks, oldest),
    }));
    const stranger = new Envelope(hash, HI, LO ^ 1, 1, REPLICAS, ring, newest, oldest);
    const program = kernelFilter({ clusterHi: HI, clusterLo: LO, oldest, newest, keyed });
    let [taken, dropped, passed] = [0, 0, 0];
    for (let i = 0; i < 20_000; i++) {
      let bytes = new Uint8Array(ENVELOPE_BYTES_MAX + random.below(80));
      for (let at = 0; at < bytes.length; at++) bytes[at] = random.below(256);
      const { speaks, replica, client } = random.pick(senders);
      const version = random.between(oldest, speaks);
      const kind = random.below(8);
      if (kind === 7) stranger.seal(bytes, 0, bytes.length, ring?.own, version);
      else if (kind > 0 && random.chance(0.5)) replica.seal(bytes, 0, bytes.length, ring?.own, version);
      else if (kind > 0) client.seal(bytes, 0, bytes.length, clients?.own, version);
      if (kind === 5) bytes = bytes.slice(0, random.below(bytes.length));
      if (kind === 6 && bytes.length > 0)
        for (let flips = random.between(1, 3); flips > 0; flips--)
          bytes[random.below(Math.min(64, bytes.length))]! ^= 1 << random.below(8);
      const kept = keeps(program, packetOf(bytes));
      const opened = receiver.open(bytes, 0, bytes.length);
      if (opened >= 0) taken++;
      if (opened >= 0 && !kept) throw new Error(`dropped what is taken, datagram ${i}; SEED=${seed} replays it`);
      if (!kept) dropped++;
      if (!kept && !ANTICIPATED.includes(DROP_REASON_NAMES[-opened]!))
        throw new Error(`dropped what is refused as ${DROP_REASON_NAMES[-opened]!}; SEED=${seed} replays it`);
      if (kept && opened < 0) passed++;
    }
    t.comment(`SEED=${seed}: ${taken} taken, ${dropped} dropped, ${passed} refused behind the filter`);
    t.ok(taken > 5_000 && dropped > 2_000 && passed > 100);
    for (let i = 0; i < 5_000; i++) {
      const bytes = new Uint8Array(randomBytes(57));
      if (keeps(program, packetOf(bytes))) t.fail('random bytes pass');
    }
    ring?.close();
    clients?.close();
    t.end();
  });
}
