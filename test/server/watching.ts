/** A replica that is watched, in virtual time, and a reader of its changes. */
import t from 'tap';
import { WatchReader, type WatchedChange } from '../../src/client/watch-reader.js';
import { KvMachine, watchableOf } from '../../src/machine/kv.js';
import { encodeRemove, encodeWrite } from '../../src/machine/store/codec.js';
import { Instant, type Outbox } from '../../src/protocol/contract.js';
import { WatchService } from '../../src/server/watches/watch-service.js';
import { begin } from '../../src/wire/layout.js';
import { Changes, typeOf, validate, Watch, WatchLost, WatchLostReason } from '../../src/wire/messages.js';
import { readI32, readIndex, writeI32, writeIndex, writeU16 } from '../../src/wire/u64.js';

export const utf8 = (text: string): Uint8Array => new Uint8Array(Buffer.from(text));
const scratch = new Uint8Array(70_000);
const reply = { bytes: new Uint8Array(1000), offset: 0, capacity: 1000, length: 0 };
export const DATAGRAM_BYTES = 700;

export interface Message {
  readonly to: number;
  readonly bytes: Uint8Array;
}

export class TestOutbox implements Outbox {
  readonly bytes = new Uint8Array(1 << 16);
  private to = 0;

  constructor(private readonly send: (message: Message) => void) {}

  reserve(to: number, length: number): number {
    if (length > this.bytes.length) throw new Error(`${length} bytes are too many for a message of a watch`);
    this.to = to;
    this.bytes.fill(0xee, 0, 3 + length);
    return 3;
  }

  commit(length: number): void {
    if (validate(this.bytes, 3, 3 + length) !== length) throw new Error('a message that does not pass validation');
    this.send({ to: this.to, bytes: this.bytes.slice(3, 3 + length) });
  }
}

export function instantAt(us: number): Instant {
  const now = new Instant();
  now.monotonicUs = us;
  return now;
}

/** A replica that executes a log, all of it at once if it is the primary. */
export class TestReplica {
  readonly machine: KvMachine;
  committed = 0;
  serves = true;
  isPrimary = false;
  isProven = true;
  /** Endpoints that were asked for a proof. */
  readonly challenged: number[] = [];
  isInTouch = true;
  primary = -1;
  hurried = 0;
  service: WatchService;
  private executed = 0;
  private drawn = 1000;

  constructor(
    private readonly log: readonly Uint8Array[],
    changes: number,
    send: (message: Message) => void,
  ) {
    this.machine = new KvMachine({ changes });
    this.machine.raise(1);
    this.machine.committedTo(0);
    this.service = new WatchService(
      {
        store: () => watchableOf(this.machine),
        committed: () => this.committed,
        view: () => 7,
        serves: () => this.serves,
        isInTouch: () => this.isInTouch,
        isPrimary: () => this.isPrimary,
        primary: () => this.primary,
        hurry: () => this.hurried++,
        isProven: () => this.isProven,
        challenge: (endpoint) => void this.challenged.push(endpoint),
      },
      new TestOutbox(send),
      DATAGRAM_BYTES,
      () => ++this.drawn,
    );
  }

  execute(to: number): void {
    for (; this.executed < to; this.executed++) {
      const bytes = this.log[this.executed]!;
      reply.offset = reply.length = 0;
      const context = { timestampHi: 1, timestampLo: 0, index: this.executed + 1 };
      this.machine.apply({ bytes, offset: 0, length: bytes.length }, context, reply);
    }
  }

  undoTo(index: number): void {
    if (index >= this.executed) return;
    if (!this.machine.undoTo(index)) throw new Error('it knows how to undo');
    this.executed = index;
  }

  commit(to: number): void {
    this.committed = to;
    this.machine.committedTo(to);
    this.execute(to);
  }
}

/** @param ttl ms; undefined: it does not end */
export function put(key: string, value = 'x', ttl?: number): Uint8Array {
  return scratch.slice(0, encodeWrite(scratch, 0, utf8(key), utf8(value), { ttl }, undefined));
}

export function remove(key: string): Uint8Array {
  return scratch.slice(0, encodeRemove(scratch, 0, utf8(key), undefined));
}

export interface Told extends Omit<WatchedChange, 'key' | 'value'> {
  readonly key: string;
  readonly value: string | undefined;
}

export const toldOf = ({ kind, key, value, revision }: WatchedChange): Told => ({
  kind,
  key: Buffer.from(key).toString(),
  value: value === undefined ? undefined : Buffer.from(value).toString(),
  revision,
});

/** One replica, and what it says to whom. */
export function oneReplica(changes = 1 << 10): OneReplica {
  const log: Uint8Array[] = [];
  const sent: Message[] = [];
  const replica = new TestReplica(log, changes, (message) => sent.push(message));
  return { replica, log, sent };
}

export interface OneReplica {
  readonly replica: TestReplica;
  readonly log: Uint8Array[];
  readonly sent: Message[];
}

export interface WatchFields {
  readonly id?: number;
  readonly token?: number;
  readonly after?: number;
  readonly flags?: number;
  readonly flight?: number;
  readonly window?: number;
  readonly prefixes?: readonly string[];
}

let saidCount = 0;

/** Each counts one more than the one before. */
export function watchBytes(fields: WatchFields): Uint8Array {
  const { id = 1, token = 0, after = 1, flags = 0, flight = 0, window = 1 << 16, prefixes = [''] } = fields;
  const encoded = Buffer.concat(
    prefixes.flatMap((prefix) => [Buffer.from([prefix.length >> 8, prefix.length & 0xff]), utf8(prefix)]),
  );
  const bytes = new Uint8Array(Watch.size + encoded.length);
  begin(Watch, bytes, 0);
  writeI32(bytes, Watch.at.watch, id);
  writeI32(bytes, Watch.at.token, token);
  writeI32(bytes, Watch.at.count, ++saidCount);
  bytes[Watch.at.flight] = flight;
  bytes[Watch.at.flags] = flags;
  writeI32(bytes, Watch.at.window, window);
  writeIndex(bytes, Watch.at.after, after);
  writeU16(bytes, Watch.at.prefixes, encoded.length);
  bytes.set(encoded, Watch.size);
  return bytes;
}

export const CLIENT = 100;

export interface From {
  readonly us?: number;
  readonly from?: number;
  readonly owner?: number;
}

export function say(
  { replica }: OneReplica,
  fields: WatchFields,
  { us = 0, from = CLIENT, owner = 0 }: From = {},
): void {
  replica.service.onWatch(watchBytes(fields), 0, from, instantAt(us), owner);
}

/** Ends a turn again and again, at one time: all that the budget permits is told. */
export function pushAll({ replica, sent }: OneReplica, us = 1): void {
  const out = Float64Array.of(0);
  for (let turns = 0; turns < 100_000; turns++) {
    replica.service.push(instantAt(us));
    out[0] = Infinity;
    replica.service.wakeBefore(out);
    if (out[0]! > us) return;
  }
  throw new Error(`it would go on for ever, after ${sent.length} messages`);
}

/** Asks for a watch that is not open. @returns the token that is given */
export function askToken(one: OneReplica, fields: WatchFields = {}, from: From = {}): number {
  const { sent } = one;
  const before = sent.length;
  say(one, fields, from);
  const lost = sent[sent.length - 1]?.bytes;
  if (sent.length !== before + 1 || reasonOf(lost) !== WatchLostReason.token) throw new Error('no token was given');
  sent.pop();
  return readI32(lost!, WatchLost.at.token);
}

/** Opens a watch as a client does. @returns its token */
export function openWatch(one: OneReplica, fields: WatchFields = {}, from: From = {}): number {
  const token = askToken(one, fields, from);
  say(one, { ...fields, token }, from);
  return token;
}

export const reasonOf = (bytes: Uint8Array | undefined): number | undefined =>
  bytes === undefined || typeOf(bytes, 0) !== WatchLost.type ? undefined : bytes[WatchLost.at.reason];
export const lastOf = ({ bytes }: Message): number => readIndex(bytes, Changes.at.last);
export const previousOf = ({ bytes }: Message): number => readIndex(bytes, Changes.at.previous);
export const bytesOf = (sent: readonly Message[]): number => sent.reduce((sum, { bytes }) => sum + bytes.length, 0);

/** A reader at CLIENT, served by one replica over a network without delay. `step` lets both speak at a time. */
export function readerOf(
  one: OneReplica,
  after: number,
  flags = 0,
): { told: Told[]; reader: WatchReader; step(us: number): void } {
  const { replica, sent } = one;
  const told: Told[] = [];
  let now = instantAt(0);
  const reader: WatchReader = new WatchReader(
    {
      prefixes: [utf8('')],
      values: false,
      flags,
      after,
      changed: (change, bytes) => {
        told.push(toldOf(change));
        reader.taken(bytes);
      },
      nextEnd: () => undefined,
      failed: (error) => t.fail(error.message),
    },
    () => [0],
    () => 1,
    new TestOutbox(({ bytes }) => replica.service.onWatch(bytes, 0, CLIENT, now, 0)),
  );
  const step = (us: number): void => {
    now = instantAt(us);
    reader.tick(now);
    replica.service.tick(now);
    pushAll(one, us);
    for (const { to, bytes } of sent.splice(0)) {
      if (to !== CLIENT) continue;
      if (typeOf(bytes, 0) === Changes.type) reader.onChanges(bytes, 0, 0, now);
      else reader.onLost(bytes, 0, 0, now);
    }
    reader.endTurn(now);
  };
  return { told, reader, step };
}
