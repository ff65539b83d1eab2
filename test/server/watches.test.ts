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
import { FORGOTTEN_US, WatchService, WATCHES_MAX, WATCHES_PER_CLIENT_MAX } from '../../src/server/watch-service.js';
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
  service: WatchService;
  private executed = 0;

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
        isPrimary: () => this.isPrimary,
        isProven: () => this.isProven,
      },
      new TestOutbox(send),
      DATAGRAM_BYTES,
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

/** One replica, and what it says to endpoint 100. */
function oneReplica(changes = 1 << 10): { replica: TestReplica; log: Uint8Array[]; said: Uint8Array[] } {
  const log: Uint8Array[] = [];
  const said: Uint8Array[] = [];
  const replica = new TestReplica(log, changes, ({ bytes }) => said.push(bytes));
  return { replica, log, said };
}

function watchBytes(
  id: number,
  after: number,
  flags = 0,
  window = 1 << 16,
  prefixes: readonly string[] = [''],
): Uint8Array {
  const encoded = prefixes.map((prefix) =>
    Buffer.concat([Buffer.from([prefix.length >> 8, prefix.length]), utf8(prefix)]),
  );
  const bytes = new Uint8Array(Watch.size + Buffer.concat(encoded).length);
  begin(Watch, bytes, 0);
  writeI32(bytes, Watch.at.watch, id);
  bytes[Watch.at.flags] = flags;
  writeI32(bytes, Watch.at.window, window);
  writeIndex(bytes, Watch.at.after, after);
  writeU16(bytes, Watch.at.prefixes, bytes.length - Watch.size);
  bytes.set(Buffer.concat(encoded), Watch.size);
  return bytes;
}

const reasonOf = (bytes: Uint8Array | undefined): number | undefined =>
  bytes === undefined || typeOf(bytes, 0) !== WatchLost.type ? undefined : bytes[WatchLost.at.reason];

t.test('what is not committed is not told', (t) => {
  const { replica, log, said } = oneReplica();
  log.push(put('a'), put('b'));
  replica.commit(1);
  replica.isPrimary = true;
  replica.execute(2);
  replica.service.onWatch(watchBytes(1, 1, WatchFlag.anyone), 0, 100, instantAt(0), 0);
  t.equal(said.length, 1);
  t.equal(readIndex(said[0]!, Changes.at.last), 2, 'revision 3 is the primary’s own so far');
  replica.service.push(instantAt(1));
  t.equal(said.length, 1);
  replica.commit(2);
  replica.service.push(instantAt(2));
  t.equal(readIndex(said[1]!, Changes.at.previous), 2);
  t.equal(readIndex(said[1]!, Changes.at.last), 3);
  t.end();
});

t.test('a primary serves only who has nobody else, and a replica that does not take part is silent', (t) => {
  const { replica, said } = oneReplica();
  replica.isPrimary = true;
  replica.service.onWatch(watchBytes(1, 1), 0, 100, instantAt(0), 0);
  t.equal(reasonOf(said.pop()), WatchLostReason.primary);
  t.equal(replica.service.open, 0);
  replica.service.onWatch(watchBytes(1, 1, WatchFlag.anyone), 0, 100, instantAt(0), 0);
  t.equal(replica.service.open, 1);
  said.length = 0;
  replica.serves = false;
  replica.service.onWatch(watchBytes(2, 1, WatchFlag.anyone), 0, 100, instantAt(0), 0);
  t.strictSame(said, []);
  t.end();
});

t.test('who has not proven an address is told nothing', (t) => {
  const { replica, log, said } = oneReplica();
  log.push(put('a'));
  replica.commit(1);
  replica.isProven = false;
  replica.service.onWatch(watchBytes(1, 1), 0, 100, instantAt(0), 0);
  t.strictSame(said, []);
  t.equal(replica.service.open, 0);
  t.equal(replica.service.refused, 1);
  t.end();
});

t.test('the window bounds what is on its way; an acknowledgement lets it go on', (t) => {
  const { replica, log, said } = oneReplica();
  for (let i = 0; i < 200; i++) log.push(put(`a${i}`.padEnd(100)));
  replica.commit(200);
  replica.service.onWatch(watchBytes(1, 1, 0, 1500), 0, 100, instantAt(0), 0);
  const sum = said.reduce((bytes, { length }) => bytes + length, 0);
  t.ok(sum >= 1500 && sum < 1500 + DATAGRAM_BYTES, `${sum} bytes`);
  const before = said.length;
  replica.service.push(instantAt(1));
  replica.service.onWatch(watchBytes(1, 1, 0, 1500), 0, 100, instantAt(1), 0);
  t.equal(said.length, before, 'a sign of life is none');
  const last = readIndex(said[said.length - 1]!, Changes.at.last);
  replica.service.onWatch(watchBytes(1, last, 0, 1500), 0, 100, instantAt(2), 0);
  t.equal(readIndex(said[before]!, Changes.at.previous), last);
  replica.service.onWatch(watchBytes(2, 1, 0, 0), 0, 100, instantAt(2), 0);
  t.equal(said[said.length - 1]!.length, Changes.size, 'a window of 0: it says only how far nothing happened');
  t.end();
});

t.test('bounds: watches of a replica and of a client, prefixes, silence', (t) => {
  const { replica, said } = oneReplica();
  const { service } = replica;
  const ask = (id: number, from: number, us: number): void =>
    service.onWatch(watchBytes(id, 1), 0, from, instantAt(us), 0);
  for (let id = 0; id <= WATCHES_PER_CLIENT_MAX; id++) ask(id, 100, 0);
  t.equal(reasonOf(said[said.length - 1]), WatchLostReason.tooMany);
  t.equal(service.open, WATCHES_PER_CLIENT_MAX);
  for (let i = 0; i < WATCHES_MAX; i++) ask(i, 200 + (i >> 6), 0);
  t.equal(service.open, WATCHES_MAX);
  t.equal(reasonOf(said[said.length - 1]), WatchLostReason.tooMany);
  ask(0, 100, FORGOTTEN_US);
  service.tick(instantAt(FORGOTTEN_US + 1));
  t.equal(service.open, 1, 'all but the one that gave a sign of life are forgotten');
  service.onWatch(watchBytes(0, 1, WatchFlag.end), 0, 100, instantAt(FORGOTTEN_US + 2), 0);
  t.equal(service.open, 0);
  const many = Array.from({ length: PREFIXES_MAX + 1 }, (_, i) => `${i}`);
  for (const prefixes of [[], many, ['x'.repeat(1025)]])
    service.onWatch(watchBytes(1, 1, 0, 1000, prefixes), 0, 100, instantAt(FORGOTTEN_US + 3), 0);
  const cut = watchBytes(1, 1, 0, 1000, ['abc']);
  cut[Watch.size + 1] = 9;
  service.onWatch(cut, 0, 100, instantAt(FORGOTTEN_US + 3), 0);
  t.equal(service.open, 0, 'prefixes that are none, too many, too long or cut');
  service.onWatch(watchBytes(1, 1, 0, 1000, many.slice(1)), 0, 100, instantAt(FORGOTTEN_US + 3), 0);
  t.equal(service.open, 1);
  t.end();
});

t.test('changes that are gone are said to be, by the replica and then by the reader', (t) => {
  const { replica, log, said } = oneReplica(4);
  for (let i = 0; i < 20; i++) log.push(put(`a${i}`));
  replica.commit(20);
  replica.service.onWatch(watchBytes(5, 3), 0, 100, instantAt(0), 0);
  t.equal(reasonOf(said[0]), WatchLostReason.compacted);
  t.equal(readI32(said[0]!, WatchLost.at.watch), 5);
  t.equal(readIndex(said[0]!, WatchLost.at.oldest), 17);
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
  reader.onLost(said[0]!, 0, 0, instantAt(1));
  t.equal(failure, undefined, 'another replica may still have them');
  reader.onLost(said[0]!, 0, 1, instantAt(2));
  t.match(failure, { code: 'watch-compacted', oldest: 17 });
  t.strictSame([...new Set(asked)], [0, 1]);
  t.end();
});

t.test('a machine that keeps no changes: the reader says what to do', (t) => {
  const { replica, said } = oneReplica(0);
  replica.service.onWatch(watchBytes(5, 1), 0, 100, instantAt(0), 0);
  t.equal(reasonOf(said[0]), WatchLostReason.notKept);
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
  reader.onLost(said[0]!, 0, 0, instantAt(1));
  t.match(failure, { code: 'watch-refused', message: /feature store/ });
  t.end();
});
