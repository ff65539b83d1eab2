/**
 * Watches in virtual time: the service of replicas and the reader of a client, over a network that loses, repeats and
 * reorders. Replay a random failure with SEED=n.
 */
import t from 'tap';
import { WatchReader, type StoreChange } from '../../src/client/watch-reader.js';
import type { JitPaxosError } from '../../src/errors.js';
import { KvMachine, watchableOf } from '../../src/machine/kv.js';
import { encodeRemove, encodeWrite } from '../../src/machine/store/codec.js';
import { Instant, type Outbox } from '../../src/protocol/contract.js';
import {
  AGAIN_US,
  BYTES_BURST,
  BYTES_PER_SECOND,
  COMPARISONS_BURST,
  COMPARISONS_PER_SECOND,
  FORGOTTEN_US,
  TURN_COMPARISONS,
  WatchService,
  WATCHES_MAX,
  WATCHES_PER_CLIENT_MAX,
  WATCHES_PER_OWNER_MAX,
} from '../../src/server/watches/watch-service.js';
import { FIRST_WINDOW_BYTES, REPETITIONS_MAX, RESEND_US } from '../../src/server/watches/open-watch.js';
import { begin } from '../../src/wire/layout.js';
import { PREFIXES_MAX } from '../../src/wire/watches.js';
import { Changes, typeOf, validate, Watch, WatchFlag, WatchLost, WatchLostReason } from '../../src/wire/messages.js';
import { readI32, readIndex, writeI32, writeIndex, writeU16 } from '../../src/wire/u64.js';
import { randomFrom } from '../random.js';

const SEED = Number(process.env['SEED'] ?? Date.now() % 1e9);
console.log(`# SEED=${SEED} replays the random schedules`);

const utf8 = (text: string): Uint8Array => new Uint8Array(Buffer.from(text));
const scratch = new Uint8Array(70_000);
const reply = { bytes: new Uint8Array(1000), offset: 0, capacity: 1000, length: 0 };
const DATAGRAM_BYTES = 700;

interface Message {
  readonly to: number;
  readonly bytes: Uint8Array;
}

class TestOutbox implements Outbox {
  readonly bytes = new Uint8Array(4096);
  private to = 0;

  constructor(private readonly send: (message: Message) => void) {}

  reserve(to: number, length: number): number {
    if (length > this.bytes.length) throw new Error(`${length} bytes are too many for a message of a watch`);
    this.to = to;
    this.bytes.fill(0xee);
    return 3;
  }

  commit(length: number): void {
    if (validate(this.bytes, 3, 3 + length) !== length) throw new Error('a message that does not pass validation');
    this.send({ to: this.to, bytes: this.bytes.slice(3, 3 + length) });
  }
}

function instantAt(us: number): Instant {
  const now = new Instant();
  now.monotonicUs = us;
  return now;
}

/** A replica that executes a log, all of it at once if it is the primary. */
class TestReplica {
  readonly machine: KvMachine;
  committed = 0;
  serves = true;
  isPrimary = false;
  isProven = true;
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

function put(key: string, value = 'x'): Uint8Array {
  return scratch.slice(0, encodeWrite(scratch, 0, utf8(key), utf8(value), {}, undefined));
}

interface Told extends Omit<StoreChange, 'key' | 'value'> {
  readonly key: string;
  readonly value: string | undefined;
}

const toldOf = ({ kind, key, value, revision }: StoreChange): Told => ({
  kind,
  key: Buffer.from(key).toString(),
  value: value === undefined ? undefined : Buffer.from(value).toString(),
  revision,
});

t.test('every change once and in order, whatever the network and the replicas do', (t) => {
  const seen = { changes: 0, lost: 0, moved: 0, speculated: 0, undone: 0, paused: 0, values: 0 };
  for (let game = 0; game < 8; game++) {
    const random = randomFrom(SEED + game);
    const log: Uint8Array[] = [];
    /** What the log's committed entries did. */
    const all: Told[] = [];
    let us = 0;
    const onWay: { readonly dueUs: number; readonly from: number; readonly message: Message }[] = [];
    const CLIENT = 100;
    const send =
      (from: number) =>
      (message: Message): void => {
        const copies = random(20) === 0 ? 2 : 1;
        for (let i = 0; i < copies; i++) {
          if (random(10) === 0) seen.lost++;
          else onWay.push({ dueUs: us + 50 + random(random(5) === 0 ? 5000 : 200), from, message });
        }
      };
    const replicas = [0, 1, 2].map((id) => new TestReplica(log, 1 << 16, send(id)));
    const told: Told[] = [];
    const untaken: number[] = [];
    let failure: JitPaxosError | undefined;
    let drawn = 0;
    const reader: WatchReader = new WatchReader(
      {
        prefixes: [utf8('a'), utf8('bb')],
        values: true,
        after: 1,
        changed: (change, bytes) => {
          told.push(toldOf(change));
          untaken.push(bytes);
        },
        nextEnd: () => undefined,
        failed: (error) => (failure = error),
      },
      () => [0, 1, 2],
      () => ++drawn,
      new TestOutbox(send(CLIENT)),
    );
    replicas[0]!.isPrimary = true;
    let committed = 0;
    let isReading = true;
    const deliver = (): void => {
      for (let i = onWay.length - 1; i >= 0; i--) {
        const { dueUs, from, message } = onWay[i]!;
        if (dueUs > us) continue;
        onWay.splice(i, 1);
        const { to, bytes } = message;
        const now = instantAt(us);
        if (to === CLIENT) {
          if (typeOf(bytes, 0) === Changes.type) reader.onChanges(bytes, 0, from, now);
          else reader.onLost(bytes, 0, from, now);
          reader.endTurn(now);
        } else replicas[to]!.service.onWatch(bytes, 0, CLIENT, now, 0);
      }
    };
    const turn = (): void => {
      us += 100;
      deliver();
      const now = instantAt(us);
      for (const { service } of replicas) {
        service.tick(now);
        service.push(now);
      }
      reader.tick(now);
      if (isReading) for (const bytes of untaken.splice(0)) reader.taken(bytes);
      else if (untaken.length > 0) seen.paused++;
    };
    const places = new Set<number>();
    const isDone = (): boolean =>
      committed === log.length && reader.after >= watchableOf(replicas[1]!.machine)!.revision;
    // Ten seconds behind the last change are enough for three silent replicas.
    for (let step = 0; step < 120_000 && failure === undefined && !(step > 21_000 && isDone()); step++) {
      const primary = replicas.find(({ isPrimary }) => isPrimary)!;
      if (step < 20_000 && random(4) === 0) {
        const key = `${['a', 'b', 'bb', 'c'][random(4)]}${random(20)}`;
        const value = 'v'.repeat(random(50) === 0 ? 1000 : random(60));
        log.push(random(4) === 0 ? scratch.slice(0, encodeRemove(scratch, 0, utf8(key), undefined)) : put(key, value));
        if (random(8) > 0) primary.execute(log.length);
        if (log.length > committed + 1) seen.speculated++;
      }
      if (step < 20_000 && random(3000) === 0) {
        // Another primary: what is not committed is undone, and is other entries from now on.
        primary.undoTo(committed);
        seen.undone++;
        log.length = committed;
        primary.isPrimary = false;
        replicas[random(3)]!.isPrimary = true;
      }
      if (random(5) === 0 || step >= 20_000)
        committed = Math.max(committed, log.length - (step < 20_000 ? random(9) : 0));
      for (const replica of replicas)
        if (random(6) === 0 || step >= 20_000) replica.commit(Math.max(replica.committed, committed));
      if (step < 20_000 && random(4000) === 0) replicas[random(3)]!.serves = false;
      if (random(4000) === 0 || step >= 20_000) for (const replica of replicas) replica.serves = true;
      if (random(1000) === 0 || step >= 20_000) isReading = random(3) > 0 || step >= 20_000;
      if (reader.place >= 0) places.add(reader.place);
      turn();
    }
    t.equal(failure, undefined);
    const store = watchableOf(replicas[1]!.machine)!;
    for (let i = 0; i < store.changes.count; i++) {
      const key = new Uint8Array(store.changes.keyLength(i));
      store.changes.copyKey(i, key, 0);
      const text = Buffer.from(key).toString();
      if (!text.startsWith('a') && !text.startsWith('bb')) continue;
      const kind = (['put', 'delete', 'expire'] as const)[store.changes.kindOf(i)];
      all.push({ kind, key: text, value: undefined, revision: store.changes.revisionOf(i) });
    }
    const withoutValues = told.map((change) => ({ ...change, value: undefined }));
    if (JSON.stringify(withoutValues) !== JSON.stringify(all))
      t.fail(
        `game ${game}: ${told.length} changes told, ${all.length} made; the first that differs: ${withoutValues.findIndex((change, i) => JSON.stringify(change) !== JSON.stringify(all[i]))}`,
      );
    seen.changes += told.length;
    seen.values += told.filter(({ value }) => value !== undefined).length;
    if (places.size > 1) seen.moved++;
  }
  t.comment(JSON.stringify(seen));
  for (const [name, times] of Object.entries(seen)) t.ok(times > 0, `${name}: ${times}`);
  t.end();
});

/** One replica, and what it says to whom. */
function oneReplica(changes = 1 << 10): OneReplica {
  const log: Uint8Array[] = [];
  const sent: Message[] = [];
  const replica = new TestReplica(log, changes, (message) => sent.push(message));
  return { replica, log, sent };
}

interface OneReplica {
  readonly replica: TestReplica;
  readonly log: Uint8Array[];
  readonly sent: Message[];
}

interface WatchFields {
  readonly id?: number;
  readonly token?: number;
  readonly after?: number;
  readonly flags?: number;
  readonly window?: number;
  readonly prefixes?: readonly string[];
}

function watchBytes(fields: WatchFields): Uint8Array {
  const { id = 1, token = 0, after = 1, flags = 0, window = 1 << 16, prefixes = [''] } = fields;
  const encoded = Buffer.concat(
    prefixes.flatMap((prefix) => [Buffer.from([prefix.length >> 8, prefix.length & 0xff]), utf8(prefix)]),
  );
  const bytes = new Uint8Array(Watch.size + encoded.length);
  begin(Watch, bytes, 0);
  writeI32(bytes, Watch.at.watch, id);
  writeI32(bytes, Watch.at.token, token);
  bytes[Watch.at.flags] = flags;
  writeI32(bytes, Watch.at.window, window);
  writeIndex(bytes, Watch.at.after, after);
  writeU16(bytes, Watch.at.prefixes, encoded.length);
  bytes.set(encoded, Watch.size);
  return bytes;
}

const CLIENT = 100;

interface From {
  readonly us?: number;
  readonly from?: number;
  readonly owner?: number;
}

function say({ replica }: OneReplica, fields: WatchFields, { us = 0, from = CLIENT, owner = 0 }: From = {}): void {
  replica.service.onWatch(watchBytes(fields), 0, from, instantAt(us), owner);
}

/** Ends a turn again and again, at one time: all that the budget permits is told. */
function pushAll({ replica, sent }: OneReplica, us = 1): void {
  const out = Float64Array.of(0);
  for (let turns = 0; turns < 100_000; turns++) {
    replica.service.push(instantAt(us));
    out[0] = Infinity;
    replica.service.wakeBefore(out);
    if (out[0]! > us) return;
  }
  throw new Error(`it would go on for ever, after ${sent.length} messages`);
}

/** Opens a watch as a client does. @returns its token */
function openWatch(one: OneReplica, fields: WatchFields = {}, from: From = {}): number {
  const { sent } = one;
  const before = sent.length;
  say(one, fields, from);
  const lost = sent[sent.length - 1]?.bytes;
  if (sent.length !== before + 1 || reasonOf(lost) !== WatchLostReason.token) throw new Error('no token was given');
  sent.pop();
  const token = readI32(lost!, WatchLost.at.token);
  say(one, { ...fields, token }, from);
  return token;
}

const reasonOf = (bytes: Uint8Array | undefined): number | undefined =>
  bytes === undefined || typeOf(bytes, 0) !== WatchLost.type ? undefined : bytes[WatchLost.at.reason];
const lastOf = ({ bytes }: Message): number => readIndex(bytes, Changes.at.last);
const previousOf = ({ bytes }: Message): number => readIndex(bytes, Changes.at.previous);
const bytesOf = (sent: readonly Message[]): number => sent.reduce((sum, { bytes }) => sum + bytes.length, 0);

t.test('what is not committed is not told', (t) => {
  const one = oneReplica();
  const { replica, log, sent } = one;
  log.push(put('a'), put('b'), put('c'));
  replica.commit(1);
  replica.isPrimary = true;
  replica.execute(3);
  openWatch(one, { flags: WatchFlag.anyone });
  pushAll(one);
  t.equal(sent.length, 1);
  t.equal(lastOf(sent[0]!), 2, 'revision 3 is the primary’s own so far');
  t.equal(sent[0]!.bytes[Changes.at.primary], 1, 'and it says what it is');
  pushAll(one, 1);
  t.equal(sent.length, 1);
  replica.commit(2);
  pushAll(one, 2);
  t.equal(previousOf(sent[1]!), 2);
  t.equal(lastOf(sent[1]!), 3, 'and not revision 4, which it has executed, too');
  t.end();
});

t.test('a new store, from revision 0: its first change', (t) => {
  const one = oneReplica();
  const { replica, log, sent } = one;
  openWatch(one, { after: 0 });
  pushAll(one);
  t.equal(previousOf(sent[0]!), 0);
  log.push(put('a'));
  replica.commit(1);
  pushAll(one, 1);
  t.equal(sent.length, 2);
  t.equal(lastOf(sent[1]!), 2);
  t.ok(sent[1]!.bytes.length > Changes.size);
  t.end();
});

t.test('who serves: not the primary, and none that does not hear it', (t) => {
  const one = oneReplica();
  const { replica, sent } = one;
  replica.isPrimary = true;
  say(one, {});
  t.equal(reasonOf(sent.pop()?.bytes), WatchLostReason.primary);
  t.equal(replica.service.open, 0);
  openWatch(one, { flags: WatchFlag.anyone });
  t.equal(replica.service.open, 1);
  pushAll(one);
  sent.length = 0;
  replica.serves = false;
  say(one, { id: 2, flags: WatchFlag.anyone });
  t.strictSame(sent, [], 'one between two views is silent');

  replica.isPrimary = false;
  replica.serves = true;
  openWatch(one, { id: 3 });
  pushAll(one, 1);
  sent.length = 0;
  replica.isPrimary = true;
  for (let us = 2000; us < 10_000; us += 1000) replica.service.tick(instantAt(us));
  t.strictSame(
    sent.map(({ bytes }) => [reasonOf(bytes), readI32(bytes, WatchLost.at.watch)]),
    [[WatchLostReason.primary, 3]],
    'one that becomes the primary hands its watches off, but for those that have nobody else',
  );
  replica.isPrimary = false;
  replica.isInTouch = false;
  sent.length = 0;
  replica.service.tick(instantAt(20_000));
  t.equal(reasonOf(sent[0]!.bytes), WatchLostReason.behind);
  say(one, { id: 4 });
  t.equal(reasonOf(sent[1]!.bytes), WatchLostReason.behind);
  t.equal(replica.service.open, 0);
  t.end();
});

t.test('while anybody watches, the primary is asked to say at once what is committed', (t) => {
  const one = oneReplica();
  const { replica, sent } = one;
  replica.primary = 2;
  replica.service.tick(instantAt(1000));
  t.strictSame(sent, [], 'nobody watches');
  const token = openWatch(one);
  pushAll(one);
  sent.length = 0;
  for (let us = 2000; us < 1_002_000; us += 1000) replica.service.tick(instantAt(us));
  t.strictSame(
    sent.map(({ to, bytes }) => [to, bytes[Watch.at.flags]]),
    [
      [2, WatchFlag.hurry],
      [2, WatchFlag.hurry],
    ],
    'twice a second',
  );
  const asked = sent[0]!.bytes;
  say(one, { token, flags: WatchFlag.end });
  sent.length = 0;
  replica.service.onWatch(asked, 0, 1, instantAt(0), 0);
  t.equal(replica.hurried, 1);
  say(one, { flags: WatchFlag.hurry }, { from: 1 });
  t.equal(replica.hurried, 2);
  say(one, { flags: 0 }, { from: 1 });
  t.strictSame([sent.length, replica.service.open], [0, 0], 'a host opens none');
  say(one, { flags: WatchFlag.hurry });
  t.equal(replica.hurried, 2, 'a client hurries nobody');
  t.end();
});

t.test('who has not proven an address is told nothing', (t) => {
  const one = oneReplica();
  const { replica, log, sent } = one;
  log.push(put('a'));
  replica.commit(1);
  replica.isProven = false;
  say(one, {});
  t.strictSame(sent, []);
  t.equal(replica.service.open, 0);
  t.equal(replica.service.refused, 1);
  t.end();
});

t.test('a token opens one watch, once, for who asked', (t) => {
  const one = oneReplica();
  const { replica, log, sent } = one;
  for (let i = 0; i < 100; i++) log.push(put(`a${i}`));
  replica.commit(100);
  say(one, {});
  const token = readI32(sent.pop()!.bytes, WatchLost.at.token);
  say(one, {});
  t.equal(readI32(sent.pop()!.bytes, WatchLost.at.token), token, 'asked again: the same');
  const isRefused = (fields: WatchFields, from: From): boolean => {
    say(one, fields, from);
    const refused = reasonOf(sent.pop()!.bytes) === WatchLostReason.token && sent.length === 0;
    return refused && replica.service.open === 0;
  };
  t.ok(isRefused({ token: token + 1 }, {}), 'another token');
  t.ok(isRefused({ token, id: 2 }, {}), 'another watch');
  t.ok(isRefused({ token }, { from: CLIENT + 1 }), 'another endpoint');
  t.ok(isRefused({ token }, { owner: 7 }), 'another owner');
  t.ok(isRefused({ token, prefixes: [] }, {}), 'without prefixes');
  say(one, { token });
  t.equal(replica.service.open, 1);
  pushAll(one);
  sent.length = 0;
  say(one, { token: token + 1, after: 50 }, { us: 1 });
  t.equal(reasonOf(sent[0]!.bytes), WatchLostReason.token, 'an open watch asks for its token, too');
  t.equal(readI32(sent.pop()!.bytes, WatchLost.at.token), token);
  say(one, { token, flags: WatchFlag.end });
  t.equal(replica.service.open, 0);
  t.ok(isRefused({ token }, {}), 'it was used up');
  t.end();
});

t.test('4 KiB at first, then what was acknowledged besides, up to the window of the client', (t) => {
  const one = oneReplica(1 << 12);
  const { replica, log, sent } = one;
  for (let i = 0; i < 900; i++) log.push(put(`a${i}`.padEnd(100)));
  replica.commit(900);
  const token = openWatch(one, { window: 20_000 });
  const flights: number[] = [];
  for (let us = 1; us < 7; us++) {
    pushAll(one, us);
    flights.push(bytesOf(sent));
    const last = lastOf(sent[sent.length - 1]!);
    sent.length = 0;
    say(one, { token, after: last, window: 20_000, prefixes: [] }, { us });
  }
  t.ok(flights[0]! <= FIRST_WINDOW_BYTES + DATAGRAM_BYTES && flights[0]! > FIRST_WINDOW_BYTES / 2, `${flights[0]}`);
  t.ok(flights[1]! > 1.7 * flights[0]! && flights[1]! < 2.6 * flights[0]!, `doubled: ${flights.join(', ')}`);
  t.ok(flights[4]! >= 20_000 && flights[4]! < 20_000 + 2 * DATAGRAM_BYTES, 'the window of the client');
  say(one, { token, window: 20_000, prefixes: [] }, { us: 10 });
  pushAll(one, 10);
  t.ok(bytesOf(sent) < 20_000 + 2 * DATAGRAM_BYTES, 'a sign of life is no acknowledgement');
  sent.length = 0;
  openWatch(one, { id: 2, window: 0 }, { us: 20 });
  pushAll(one, 20);
  t.strictSame(
    sent.map(({ bytes }) => bytes.length),
    [Changes.size],
    'a window of 0: it says only how far nothing happened',
  );
  t.end();
});

t.test('what is not acknowledged is sent again twice, each time later, and no more', (t) => {
  const one = oneReplica(1 << 12);
  const { replica, log, sent } = one;
  for (let i = 0; i < 900; i++) log.push(put(`a${i}`.padEnd(100)));
  replica.commit(900);
  const token = openWatch(one);
  pushAll(one);
  const first = bytesOf(sent);
  const repeated: number[] = [];
  for (let us = 1000; us <= 2_000_000; us += 1000) {
    const before = sent.length;
    replica.service.tick(instantAt(us));
    pushAll(one, us);
    if (sent.length === before) continue;
    repeated.push(us);
    t.equal(previousOf(sent[before]!), 1, 'from what the client has');
  }
  t.strictSame(repeated, [RESEND_US + 1000, 3 * RESEND_US + 2000]);
  t.equal(bytesOf(sent), first * (1 + REPETITIONS_MAX));
  t.equal(replica.service.open, 0);
  t.equal(replica.service.forgotten, 1);
  sent.length = 0;
  say(one, { token, after: 5, prefixes: [] }, { us: 3_000_000 });
  t.equal(reasonOf(sent[0]!.bytes), WatchLostReason.token, 'a client that is still there opens it again');
  t.end();
});

t.test('a client may ask for a repetition every 20 ms, twice without an acknowledgement', (t) => {
  const one = oneReplica(1 << 12);
  const { replica, log, sent } = one;
  for (let i = 0; i < 900; i++) log.push(put(`a${i}`.padEnd(100)));
  replica.commit(900);
  const token = openWatch(one);
  pushAll(one);
  const flight = bytesOf(sent);
  const again = (us: number, after = 1): number => {
    sent.length = 0;
    say(one, { token, after, flags: WatchFlag.again, prefixes: [] }, { us });
    pushAll(one, us);
    return bytesOf(sent);
  };
  t.equal(again(1000), flight, 'at once');
  t.equal(again(1000 + AGAIN_US - 1), 0, 'too early');
  t.equal(again(1000 + AGAIN_US), flight);
  t.equal(again(1000 + 2 * AGAIN_US), 0, 'the third time');
  say(one, { token, after: 10, prefixes: [] }, { us: 50_000 });
  pushAll(one, 50_000);
  t.equal(again(60_000, 5), 0, 'what is acknowledged is not sent again');
  t.ok(again(60_001, 10) > 0, 'after an acknowledgement it may ask again');
  t.end();
});

t.test('bounds: watches of a replica, an owner and a client, prefixes, silence', (t) => {
  const one = oneReplica();
  const { replica, sent } = one;
  const { service } = replica;
  let id = 0;
  const openUntilFull = (from: number, owner: number): void => {
    for (;;) {
      say(one, { id: ++id, prefixes: [`${id}`, 'common'] }, { from, owner });
      const { bytes } = sent.pop()!;
      if (reasonOf(bytes) === WatchLostReason.tooMany) return;
      say(one, { id, prefixes: [`${id}`, 'common'], token: readI32(bytes, WatchLost.at.token) }, { from, owner });
    }
  };
  openUntilFull(CLIENT, 1);
  t.equal(service.open, WATCHES_PER_CLIENT_MAX);
  for (let from = CLIENT + 1; from < CLIENT + 10; from++) openUntilFull(from, 1);
  t.equal(service.open, WATCHES_PER_OWNER_MAX, 'of one owner');
  for (let owner = 2; owner < 6; owner++) for (let i = 0; i < 6; i++) openUntilFull(100 * owner + i, owner);
  t.equal(service.open, WATCHES_MAX);
  const { nodes } = service;
  t.ok(nodes > WATCHES_MAX && nodes < 3 * WATCHES_MAX, `${nodes} nodes`);
  const token = ((): number => {
    for (let us = 1; us < FORGOTTEN_US; us += 500_000) service.tick(instantAt(us));
    say(one, { id: 1, token: 0 }, { owner: 1 });
    return readI32(sent.pop()!.bytes, WatchLost.at.token);
  })();
  say(one, { id: 1, token, prefixes: [] }, { us: FORGOTTEN_US, owner: 1 });
  for (let i = 1; i < 100; i++) service.tick(instantAt(FORGOTTEN_US + 1000 * i));
  t.equal(service.open, 1, 'all but the one that gave a sign of life are forgotten');
  t.ok(service.nodes <= 4, `${service.nodes} nodes are left`);
  say(one, { id: 1, token, flags: WatchFlag.end, prefixes: [] }, { owner: 1 });
  t.equal(service.open, 0);
  t.equal(service.nodes, 1, 'only the root');
  const many = Array.from({ length: PREFIXES_MAX + 1 }, (_, i) => `${i}`);
  sent.length = 0;
  for (const prefixes of [many, ['x'.repeat(1025)]]) say(one, { prefixes });
  const cut = watchBytes({ prefixes: ['abc'] });
  cut[Watch.size + 1] = 9;
  service.onWatch(cut, 0, CLIENT, instantAt(0), 0);
  t.equal(sent.length, 0, 'prefixes that are too many, too long or cut');
  openWatch(one, { prefixes: many.slice(1) });
  t.equal(service.open, 1);
  t.end();
});

t.test('keys that are removed, and values of other revisions', (t) => {
  const one = oneReplica();
  const { replica, log, sent } = one;
  log.push(put('gone', 'one'), put('later', 'one'), put('kept', 'one'));
  log.push(scratch.slice(0, encodeRemove(scratch, 0, utf8('gone'), undefined)), put('later', 'two'));
  replica.commit(5);
  const told: Told[] = [];
  const reader = new WatchReader(
    {
      prefixes: [utf8('')],
      values: true,
      after: 1,
      changed: (change) => told.push(toldOf(change)),
      nextEnd: () => undefined,
      failed: () => t.fail('it does not fail'),
    },
    () => [0],
    () => 1,
    new TestOutbox(({ bytes }) => replica.service.onWatch(bytes, 0, CLIENT, instantAt(0), 0)),
  );
  reader.tick(instantAt(0));
  reader.onLost(sent.pop()!.bytes, 0, 0, instantAt(0));
  reader.endTurn(instantAt(0));
  pushAll(one);
  // Ids of other watches, and places that were not asked.
  for (const { bytes } of [...sent]) {
    const foreign = bytes.slice();
    writeI32(foreign, Changes.at.watch, 2);
    reader.onChanges(foreign, 0, 0, instantAt(1));
    reader.onChanges(bytes, 0, 1, instantAt(1));
  }
  t.strictSame(told, []);
  for (const { bytes } of sent) reader.onChanges(bytes, 0, 0, instantAt(1));
  t.strictSame(told, [
    { kind: 'put', key: 'gone', value: undefined, revision: 2 },
    { kind: 'put', key: 'later', value: undefined, revision: 3 },
    { kind: 'put', key: 'kept', value: 'one', revision: 4 },
    { kind: 'delete', key: 'gone', value: undefined, revision: 5 },
    { kind: 'put', key: 'later', value: 'two', revision: 6 },
  ]);
  t.end();
});

t.test('one owner’s watches, however many and however costly, leave another owner its own', (t) => {
  const one = oneReplica(1 << 16);
  const { replica, log, sent } = one;
  const { changes } = watchableOf(replica.machine)!;
  let compared = 0;
  const hasPrefix = changes.hasPrefix.bind(changes);
  changes.hasPrefix = (...args) => {
    compared++;
    return hasPrefix(...args);
  };
  for (let i = 0; i < 60_000; i++) log.push(put(`a${i}`));
  replica.commit(60_000);
  // Each looks through all changes for keys that are not there, sixteen at a time.
  const prefixes = Array.from({ length: PREFIXES_MAX }, (_, i) => `a_${i}`);
  for (let id = 0; id < WATCHES_PER_OWNER_MAX; id++)
    openWatch(one, { id, prefixes }, { from: CLIENT + (id >> 6), owner: 1 });
  const OTHER = 500;
  const token = openWatch(one, { id: 0, after: 60_001, prefixes: ['a'] }, { from: OTHER, owner: 2 });
  let toldAt = 60_001;
  let mostTurns = 0;
  let turnBytes = 0;
  const out = Float64Array.of(0);
  let us = 0;
  for (let made = 0; made < 500; made++) {
    us += 200;
    log.push(put(`a${made}`));
    replica.commit(log.length);
    let turns = 0;
    for (; toldAt < log.length + 1 && turns < 1000; turns++) {
      const before = compared;
      const bytesBefore = bytesOf(sent);
      replica.service.push(instantAt(us));
      turnBytes = Math.max(turnBytes, bytesOf(sent) - bytesBefore);
      if (compared - before > 2 * TURN_COMPARISONS) t.fail(`${compared - before} comparisons in a turn`);
      for (const message of sent.splice(0)) if (message.to === OTHER) toldAt = Math.max(toldAt, lastOf(message));
      out[0] = Infinity;
      replica.service.wakeBefore(out);
      us = Math.max(us, Math.min(us + 5000, Math.ceil(out[0]!)));
    }
    mostTurns = Math.max(mostTurns, turns);
    say(one, { id: 0, token, after: toldAt, prefixes: [] }, { us, from: OTHER, owner: 2 });
  }
  t.comment(`${compared} comparisons in ${us / 1e6} s; the other owner waited ${mostTurns} turns at most`);
  t.ok(mostTurns <= 3, `${mostTurns} turns`);
  const permitted = COMPARISONS_BURST + (COMPARISONS_PER_SECOND * us) / 1e6 + 2 * TURN_COMPARISONS;
  t.ok(compared <= permitted, `${compared} comparisons, ${permitted} were permitted`);
  t.ok(compared > COMPARISONS_BURST, 'and they were wanted');
  t.ok(turnBytes <= 6 * DATAGRAM_BYTES, `${turnBytes} bytes in one turn`);
  t.end();
});

t.test('bytes are bounded by time, and who falls behind is told', (t) => {
  const one = oneReplica(1 << 14);
  const { replica, log, sent } = one;
  const WATCHED = 60;
  const tokens = Array.from({ length: WATCHED }, (_, id) => openWatch(one, { id, window: 1 << 20 }));
  pushAll(one);
  sent.length = 0;
  let bytes = 0;
  const lost = new Set<number>();
  const out = Float64Array.of(0);
  for (let us = 1000; us <= 1_000_000; us += 1000) {
    for (let i = 0; i < 12; i++) log.push(put(`${i}`.padEnd(200)));
    replica.commit(log.length);
    replica.service.tick(instantAt(us));
    do {
      replica.service.push(instantAt(us));
      out[0] = Infinity;
      replica.service.wakeBefore(out);
    } while (out[0]! <= us);
    bytes += bytesOf(sent);
    for (const { bytes: message } of sent.splice(0)) {
      const id = readI32(message, Changes.at.watch);
      if (reasonOf(message) === WatchLostReason.compacted) lost.add(readI32(message, WatchLost.at.watch));
      else if (typeOf(message, 0) === Changes.type)
        say(
          one,
          { id, token: tokens[id]!, after: readIndex(message, Changes.at.last), window: 1 << 20, prefixes: [] },
          { us },
        );
    }
  }
  t.comment(`${bytes} bytes of ${12 * 1000 * 200 * WATCHED}`);
  t.ok(bytes <= BYTES_PER_SECOND + BYTES_BURST + 5 * DATAGRAM_BYTES, `${bytes} bytes in a second`);
  t.ok(lost.size > 0, `${lost.size} watches were told that they fell behind`);
  t.equal(replica.service.behind, lost.size);
  t.equal(replica.service.open + lost.size, WATCHED, 'none ended in silence');
  t.end();
});

t.test('a change costs nothing for watches of other keys', (t) => {
  const one = oneReplica();
  const { replica, log } = one;
  const { changes } = watchableOf(replica.machine)!;
  for (let id = 0; id < WATCHES_PER_OWNER_MAX; id++)
    openWatch(one, { id, prefixes: [`b${id}`, `c${id}`] }, { from: CLIENT + (id >> 6), owner: 1 });
  pushAll(one);
  let compared = 0;
  changes.hasPrefix = () => {
    compared++;
    return false;
  };
  for (let i = 0; i < 100; i++) log.push(put(`a${i}`));
  replica.commit(100);
  pushAll(one, 1000);
  t.equal(compared, 0);
  log.push(put('b7x'));
  replica.commit(101);
  pushAll(one, 2000);
  t.ok(compared <= 4, `${compared} comparisons for the two watches whose keys begin so`);
  t.end();
});

t.test('recorded Watches that are sent again: no more comes out than goes in', (t) => {
  const one = oneReplica(1 << 12);
  const { replica, log, sent } = one;
  const recorded: Uint8Array[] = [];
  for (let i = 0; i < 900; i++) log.push(put(`a${i}`.padEnd(100)));
  replica.commit(900);
  let us = 0;
  let after = 1;
  const reader = new WatchReader(
    {
      prefixes: [utf8('a')],
      values: true,
      after,
      changed: ({ revision }) => (after = revision),
      nextEnd: () => undefined,
      failed: () => t.fail('it does not fail'),
    },
    () => [0],
    () => 1,
    new TestOutbox(({ bytes }) => {
      recorded.push(bytes);
      replica.service.onWatch(bytes, 0, CLIENT, instantAt(us), 0);
    }),
  );
  for (; after < 901 && us < 1e6; us += 1000) {
    reader.tick(instantAt(us));
    pushAll(one, us);
    for (const { bytes } of sent.splice(0)) {
      if (typeOf(bytes, 0) === Changes.type) reader.onChanges(bytes, 0, 0, instantAt(us));
      else reader.onLost(bytes, 0, 0, instantAt(us));
    }
    reader.endTurn(instantAt(us));
  }
  reader.close();
  t.equal(replica.service.open, 0);
  t.ok(recorded.length > 5, `${recorded.length} Watches were recorded`);
  /** Each alone and all in order, again and again, at any pace. */
  let bytesIn = 0;
  let worst = 0;
  for (let round = 0; round < 300; round++) {
    for (const bytes of recorded.slice(round % 3 === 0 ? 0 : round % recorded.length)) {
      us += [10, 5_000, 60_000][round % 3]!;
      const before = bytesOf(sent);
      replica.service.onWatch(bytes, 0, CLIENT, instantAt(us), 0);
      replica.service.tick(instantAt(us));
      pushAll(one, us);
      bytesIn += bytes.length;
      worst = Math.max(worst, (bytesOf(sent) - before) / bytes.length);
    }
  }
  t.equal(replica.service.open, 0);
  t.comment(`${bytesOf(sent)} bytes out ÷ ${bytesIn} bytes in; for one, ${worst.toFixed(2)} at most`);
  t.ok(worst < 1, 'each answer is shorter than its question');
  t.end();
});

t.test('changes that are gone are said to be, by the replica and then by the reader', (t) => {
  const one = oneReplica(4);
  const { replica, log, sent } = one;
  for (let i = 0; i < 20; i++) log.push(put(`a${i}`));
  replica.commit(20);
  say(one, { id: 5, after: 3 });
  const lost = sent[0]!.bytes;
  t.equal(reasonOf(lost), WatchLostReason.compacted);
  t.equal(readI32(lost, WatchLost.at.watch), 5);
  t.equal(readIndex(lost, WatchLost.at.oldest), 17);
  let failure: JitPaxosError | undefined;
  const asked: number[] = [];
  const reader = new WatchReader(
    {
      prefixes: [utf8('a')],
      values: false,
      after: 3,
      changed: () => t.fail('a change with others missing before it'),
      nextEnd: () => undefined,
      failed: (error) => (failure = error),
    },
    () => [0, 1],
    () => 5,
    new TestOutbox(({ to }) => asked.push(to)),
  );
  reader.tick(instantAt(0));
  reader.onLost(lost, 0, 0, instantAt(1));
  t.equal(failure, undefined, 'another replica may still have them');
  reader.onLost(lost, 0, 1, instantAt(2));
  t.match(failure, { code: 'watch-compacted', oldest: 17 });
  t.strictSame([...new Set(asked)], [0, 1]);
  t.end();
});

t.test('a machine that keeps no changes: the reader says what to do', (t) => {
  const one = oneReplica(0);
  say(one, { id: 5 });
  t.equal(reasonOf(one.sent[0]!.bytes), WatchLostReason.notKept);
  let failure: JitPaxosError | undefined;
  const reader = new WatchReader(
    {
      prefixes: [utf8('')],
      values: false,
      after: 1,
      changed: () => undefined,
      nextEnd: () => undefined,
      failed: (error) => (failure = error),
    },
    () => [0],
    () => 5,
    new TestOutbox(() => undefined),
  );
  reader.tick(instantAt(0));
  reader.onLost(one.sent[0]!.bytes, 0, 0, instantAt(1));
  t.match(failure, { code: 'watch-refused', message: /feature store/ });
  t.end();
});

t.test('where a reader goes: on from a silent replica, to the primary last, and away from it again', (t) => {
  const said: { to: number; flags: number }[] = [];
  const reader: WatchReader = new WatchReader(
    {
      prefixes: [utf8('')],
      values: false,
      after: 1,
      changed: () => undefined,
      nextEnd: () => undefined,
      failed: () => t.fail('it does not fail'),
    },
    () => [2, 1, 0],
    () => 5,
    new TestOutbox(({ to, bytes }) => said.push({ to, flags: bytes[Watch.at.flags]! })),
  );
  const lost = new Uint8Array(WatchLost.size);
  begin(WatchLost, lost, 0);
  writeI32(lost, WatchLost.at.watch, 5);
  const lose = (place: number, reason: number, us: number): void => {
    lost[WatchLost.at.reason] = reason;
    reader.onLost(lost, 0, place, instantAt(us));
  };
  const told = new Uint8Array(Changes.size);
  begin(Changes, told, 0);
  writeI32(told, Changes.at.watch, 5);
  const tell = (place: number, isPrimary: boolean, us: number): void => {
    told[Changes.at.primary] = Number(isPrimary);
    reader.onChanges(told, 0, place, instantAt(us));
  };
  reader.tick(instantAt(0));
  t.equal(reader.place, 2, 'the best one first');
  reader.unreachable(1, instantAt(1));
  t.equal(reader.place, 2);
  reader.unreachable(2, instantAt(2));
  t.equal(reader.place, 1, 'its host says that nothing is there');
  lose(1, WatchLostReason.behind, 3);
  t.equal(reader.place, 0);
  lose(0, WatchLostReason.primary, 4);
  t.equal(reader.place, 0, 'nobody else serves');
  t.strictSame(said.pop(), { to: 0, flags: WatchFlag.anyone });
  tell(0, true, 5);
  for (let us = 100_000; us <= 10_000_000; us += 100_000) {
    reader.tick(instantAt(us));
    tell(0, true, us);
  }
  t.equal(reader.place, 0);
  reader.tick(instantAt(10_100_000));
  t.equal(reader.place, 2, 'others may serve by now');
  t.equal(said.pop()!.flags, 0);
  tell(2, false, 10_100_001);
  reader.tick(instantAt(10_400_001));
  t.equal(said.pop()!.flags, 0, 'one does: the primary need not');
  t.end();
});
