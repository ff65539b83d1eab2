/**
 * Makes up messages for hostile datagrams: real ones of the corpus with some fields replaced, or invented ones, in the
 * layout of either version. Values are chosen to be near what the receiver has: its view, indexes, chains, sessions.
 */
import { ENTRY_HEADER_BYTES } from '../../src/protocol/log/entry.js';
import { featureOperation } from '../../src/protocol/log/features.js';
import { ORDER_RECORD_BYTES } from '../../src/protocol/log/log.js';
import { ownedSessionLo } from '../../src/protocol/log/session-owner.js';
import { REGISTER_BYTES, REGISTER_LANE } from '../../src/protocol/log/sessions.js';
import type { Random } from '../../src/sim/random.js';
import { begin, type FieldKind, type Layout, type Message } from '../../src/wire/layout.js';
import * as wire from '../../src/wire/messages.js';
import { writeI32, writeU16 } from '../../src/wire/u64.js';
import { WIRE_VERSION } from '../../src/wire/versions.js';
import { chain, type FuzzCluster } from './cluster.js';

const NUMBERS = [0, 1, 2, 3, 0x7f, 0xff, 0x7fff, 0xffff, 0x7fffffff, 0x80000000, 0xffffffff];
const LENGTHS = [0, 1, 8, REGISTER_BYTES, 24, 32, 64, 100, 599, 600, 601, 1_000, 1_001];
const LANES = [0, 1, 7, 8, 0xfffe, REGISTER_LANE];
const REGISTERED_LANES = [1, 1, 2, 4, 8, 8, 9, 64, 65, 0, 0xffff];

interface Field {
  readonly at: number;
  readonly kind: FieldKind;
  readonly holds:
    | 'view'
    | 'index'
    | 'chain'
    | 'timestamp'
    | 'session'
    | 'lane'
    | 'incarnation'
    | 'fingerprint'
    | 'other';
}

function fieldsOf(layout: Layout): readonly Field[] {
  return Object.entries(layout.fields).map(([name, kind]) => ({
    at: layout.at[name]!,
    kind,
    holds: /view/i.test(name)
      ? 'view'
      : /index/i.test(name)
        ? 'index'
        : /chain/i.test(name)
          ? 'chain'
          : /incarnation/i.test(name)
            ? 'incarnation'
            : name === 'timestamp' || name === 'session' || name === 'lane' || name === 'fingerprint'
              ? name
              : 'other',
  }));
}

const FIELDS = new Map<Layout, readonly Field[]>();
for (const message of wire.ALL_MESSAGES)
  for (const layout of [message, message.previous]) if (layout !== undefined) FIELDS.set(layout, fieldsOf(layout));

/** Operations that switch features on: known ones, unknown ones, and numbers that no feature can have. */
const FEATURES = [1, 2, 3, 31].map((number) => featureOperation(number, chain));

export class Composer {
  constructor(
    private readonly random: Random,
    /** Where messages are written. */
    private readonly bytes: Uint8Array,
  ) {}

  /**
   * Writes one to three messages behind `head` bytes of room for the envelope, and returns the datagram's length.
   * @param target the replica whose state the values are near to
   * @param owner of the key that it is sent under
   */
  compose(
    cluster: FuzzCluster,
    head: number,
    version: number,
    target: number,
    messages: readonly Message[],
    owner: number,
  ): number {
    const { random, bytes } = this;
    const present = version === WIRE_VERSION || random.chance(0.1); // sometimes a layout that the version lacks
    let at = head;
    for (let left = random.chance(0.8) ? 1 : 3; left > 0; left--) {
      if (random.chance(0.03) && messages.includes(wire.Request)) {
        at += this.special(cluster, at, target, owner);
        continue;
      }
      const real = random.chance(0.6) ? this.realMessage(cluster, messages, version) : 0;
      if (real > 0) {
        bytes.set(this.real.subarray(this.realAt, this.realAt + real), at);
        const layout = this.realLayout!;
        const fields = FIELDS.get(layout)!;
        for (let changed = random.below(4); changed > 0; changed--)
          this.fill(cluster, at, random.pick(fields), target, real - layout.size);
        at += real;
        continue;
      }
      const message = random.pick(messages);
      const layout = present ? message : (message.previous ?? message);
      begin(layout, bytes, at);
      const tail = layout.hasBytes ? this.tailOf(message, at + layout.size) : 0;
      for (const field of FIELDS.get(layout)!) this.fill(cluster, at, field, target, tail);
      at += layout.size + tail;
    }
    return at;
  }

  /** A Request that a client could have a use for: a Register in its own name, or a feature. Returns its length. */
  private special(cluster: FuzzCluster, at: number, target: number, owner: number): number {
    const { random, bytes } = this;
    begin(wire.Request, bytes, at);
    const tail = at + wire.Request.size;
    const isRegister = random.chance(0.7);
    const length = isRegister ? REGISTER_BYTES : FEATURES[0]!.length;
    for (const field of FIELDS.get(wire.Request)!) this.fill(cluster, at, field, target, length);
    writeU16(bytes, at + wire.Request.at.operation, length);
    if (isRegister) {
      const owned = random.chance(0.7);
      writeI32(bytes, at + wire.Request.at.session, random.below(8));
      writeI32(bytes, at + wire.Request.at.session + 4, ownedSessionLo(random.between(1, 64), owned ? owner : 0));
      writeU16(bytes, at + wire.Request.at.lane, REGISTER_LANE);
      bytes[at + wire.Request.at.flags] = wire.RequestFlag.register;
      writeI32(bytes, tail, owned ? owner : random.next());
      writeI32(bytes, tail + 4, random.next());
      writeU16(bytes, tail + 8, random.pick(REGISTERED_LANES));
      writeI32(bytes, tail + 10, cluster.now.wallHi);
      writeI32(bytes, tail + 14, (cluster.now.wallLo + random.pick([-1e9, -1e6, 0, 1, 1e6])) | 0);
      return wire.Request.size + length;
    }
    bytes[at + wire.Request.at.flags] = wire.RequestFlag.feature;
    bytes.set(random.pick(FEATURES), tail);
    if (random.chance(0.5)) bytes[tail + random.below(length)]! ^= 1 << random.below(8);
    return wire.Request.size + length;
  }

  // What `realMessage` found.
  private real: Uint8Array = new Uint8Array(0);
  private realAt = 0;
  private realLayout: Layout | undefined;

  /** Finds one of these messages in a datagram of the corpus that was written in this version. Returns its length, or 0. */
  private realMessage(cluster: FuzzCluster, wanted: readonly Message[], version: number): number {
    const { random } = this;
    const recorded = random.pick(cluster.corpus);
    if (recorded.version !== version) return 0;
    const validate = version === WIRE_VERSION ? wire.validate : wire.validatePrevious;
    const { messages } = recorded;
    let found = 0;
    for (let at = 0; at < messages.length; ) {
      const length = validate(messages, at, messages.length);
      if (length <= 0) return found;
      const message = wire.layoutOf(wire.typeOf(messages, at));
      if (message !== undefined && wanted.includes(message) && (found === 0 || random.chance(0.5))) {
        found = length;
        this.real = messages;
        this.realAt = at;
        this.realLayout = version === WIRE_VERSION ? message : message.previous!;
      }
      at += length;
    }
    return found;
  }

  /** Bytes for the end of a message; their number is written by `fill`. */
  private tailOf(message: Message, at: number): number {
    const { random, bytes } = this;
    let length = random.pick(LENGTHS);
    if (message === wire.Order) length = ORDER_RECORD_BYTES * random.below(40) + (random.chance(0.05) ? 1 : 0);
    for (let i = 0; i < length; i += 4) writeI32(bytes, at + i, random.next());
    if (message === wire.Chunk) {
      // Entries whose lengths are mostly right.
      length = 0;
      for (let entries = random.below(6); entries > 0; entries--) {
        const operation = random.below(40);
        for (let i = 0; i < 2 + ENTRY_HEADER_BYTES + operation; i += 4) writeI32(bytes, at + length + i, random.next());
        writeU16(bytes, at + length, random.chance(0.9) ? operation : random.below(0x10000));
        length += 2 + ENTRY_HEADER_BYTES + operation;
      }
    }
    return length;
  }

  /** @param tail length of the bytes at the end of the message */
  private fill(cluster: FuzzCluster, at: number, field: Field, target: number, tail: number): void {
    const { random, bytes } = this;
    const { state } = cluster.replicas[target]!.core;
    const { log } = state;
    const o = at + field.at;
    switch (field.kind) {
      case 'bin16':
        // the reader drops what does not fit
        writeU16(bytes, o, random.chance(0.95) ? tail : random.next() & 0xffff);
        return;
      case 'u8':
        bytes[o] = random.chance(0.8) ? random.below(8) : random.next();
        return;
      case 'u16':
        writeU16(bytes, o, field.holds === 'lane' ? random.pick(LANES) : random.next() & 0xffff);
        return;
      case 'i32':
      case 'u32':
        if (field.holds === 'view') writeI32(bytes, o, this.view(state.view, state.logView));
        // With another one the message is refused, or the replica stops, before anything else in it is looked at.
        else if (field.holds === 'incarnation' && random.chance(0.95))
          writeI32(bytes, o, state.incarnation - random.below(2));
        else if (field.holds === 'fingerprint' && random.chance(0.9)) writeI32(bytes, o, chain.fingerprint);
        else writeI32(bytes, o, this.number());
        return;
      default:
    }
    if (field.holds === 'index') {
      const index = this.index(log.baseIndex, state.committed, state.synced, log.lastIndex);
      writeI32(bytes, o, Math.floor(index / 2 ** 32));
      writeI32(bytes, o + 4, (index % 2 ** 32) | 0);
    } else if (field.holds === 'chain' && random.chance(0.8)) {
      // Of an index that `index` often gives.
      const { baseIndex, lastIndex } = log;
      const draw = random.below(4);
      const known = draw === 0 ? baseIndex : draw === 1 ? lastIndex : draw === 2 ? state.committed : state.synced;
      const index = Math.min(lastIndex, Math.max(baseIndex, known));
      writeI32(bytes, o, log.chainHi(index));
      writeI32(bytes, o + 4, log.chainLo(index));
    } else if (field.holds === 'timestamp' && random.chance(0.8)) {
      writeI32(bytes, o, cluster.now.wallHi);
      writeI32(bytes, o + 4, (cluster.now.wallLo + random.pick(AROUND_NS)) | 0);
    } else if (field.holds === 'session' && random.chance(0.8)) {
      const index = random.between(log.baseIndex + 1, Math.max(log.baseIndex + 1, log.lastIndex));
      writeI32(bytes, o, log.has(index) && random.chance(0.7) ? log.sessionHi(index) : random.below(8));
      writeI32(bytes, o + 4, log.has(index) && random.chance(0.9) ? log.sessionLo(index) : random.between(1, 64));
    } else {
      writeI32(bytes, o, random.chance(0.3) ? 0 : random.next());
      writeI32(bytes, o + 4, random.chance(0.3) ? random.between(0, 3) : random.next());
    }
  }

  private view(view: number, logView: number): number {
    const { random } = this;
    switch (random.below(8)) {
      case 0:
        return view + 1;
      case 1:
        return view - 1;
      case 2:
        return view + 6;
      case 3:
        return logView;
      case 4:
        return random.pick(NUMBERS);
      default:
        return view;
    }
  }

  private number(): number {
    const { random } = this;
    if (random.chance(0.3)) return random.between(0, 20);
    return random.chance(0.5) ? random.pick(NUMBERS) : random.next();
  }

  private index(baseIndex: number, committed: number, synced: number, lastIndex: number): number {
    const { random } = this;
    if (random.chance(0.1)) return random.pick(LARGE);
    let near = 0;
    switch (random.below(8)) {
      case 0:
        break;
      case 1:
        near = 1;
        break;
      case 2:
        near = baseIndex;
        break;
      case 3:
        near = committed;
        break;
      case 4:
        near = synced;
        break;
      case 5:
        near = lastIndex;
        break;
      case 6:
        near = lastIndex + 1;
        break;
      default:
        near = lastIndex + random.below(300);
    }
    return Math.max(0, near + random.between(-1, 1));
  }
}

const LARGE = [2 ** 53 - 1, 2 ** 53 - 2, 2 ** 32, 2 ** 31, 2 ** 53];
const AROUND_NS = [-1e6, -1, 0, 1, 1_000, 1e6, 9e8];
