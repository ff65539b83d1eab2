/**
 * Watches in virtual time: the service of replicas and the reader of a client, over a network that loses, repeats and
 * reorders. Replay a random failure with SEED=n.
 */
import t from 'tap';
import { WatchReader } from '../../src/client/watch-reader.js';
import type { JitPaxosError } from '../../src/errors.js';
import { watchableOf } from '../../src/machine/kv.js';
import { begin } from '../../src/wire/layout.js';
import { Changes, typeOf, Watch, WatchFlag, WatchLost, WatchLostReason } from '../../src/wire/messages.js';
import { readI32, readIndex, writeI32 } from '../../src/wire/u64.js';
import { randomFrom } from '../random.js';
import {
  utf8,
  type Message,
  TestOutbox,
  instantAt,
  TestReplica,
  put,
  remove,
  type Told,
  toldOf,
  oneReplica,
  type WatchFields,
  CLIENT,
  type From,
  say,
  pushAll,
  openWatch,
  reasonOf,
  lastOf,
  previousOf,
  readerOf,
} from './watching.js';

const SEED = Number(process.env['SEED'] ?? Date.now() % 1e9);
console.log(`# SEED=${SEED} replays the random schedules`);

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
        log.push(random(4) === 0 ? remove(key) : put(key, value));
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
      const kind = (['put', 'delete', 'expire', 'message'] as const)[store.changes.kindOf(i)];
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

t.test('what a primary executed and undid counts for nobody as seen, if the ring forgot what was before, too', (t) => {
  for (const undone of [0, 1]) {
    const one = oneReplica(4);
    const { replica, log, sent } = one;
    replica.isPrimary = true;
    log.push(put('a0'), put('a1'));
    replica.commit(2);
    const far = 2 ** 40;
    openWatch(one, { id: 9, after: far, prefixes: ['zz'], flags: WatchFlag.anyone }, { from: 200 });
    pushAll(one);
    t.equal(lastOf(sent.pop()!), 3, 'it is told no more than what is committed');
    for (let id = 0; id < 60; id++) openWatch(one, { id, after: 3, flags: WatchFlag.anyone }, { from: 201 });
    pushAll(one);
    log.push(remove('none'));
    for (let i = 0; i < 10; i++) log.push(put(`undone${i}`));
    replica.execute(13);
    replica.committed = 3;
    replica.machine.committedTo(3);
    replica.service.push(instantAt(2));
    t.ok(replica.service.open > 1, 'more watches than end in one turn');
    const { changes } = watchableOf(replica.machine)!;
    t.ok(changes.floor > 3 && changes.floorIndex > 3, 'the ring forgot what is committed');
    say(one, { id: 10, after: far, flags: WatchFlag.anyone });
    t.equal(reasonOf(sent.pop()!.bytes), WatchLostReason.behind, 'what is committed is not known here');
    say(one, { id: 11, after: 2, flags: WatchFlag.anyone });
    t.equal(reasonOf(sent.pop()!.bytes), WatchLostReason.compacted, 'and what follows revision 2 is gone');
    sent.length = 0;
    log.length = 3 + undone;
    replica.undoTo(log.length);
    replica.isPrimary = false;
    t.equal(changes.floor, 3 + undone, 'the floor is of what is there');
    t.equal(changes.floorIndex, 3 + undone);
    replica.commit(log.length);
    const { told, reader, step } = readerOf(one, 3 + undone);
    const expected: number[] = [];
    for (let i = 0; i < 30; i++) {
      if (i > 3 && i < 20) {
        log.push(put(`new${i}`));
        replica.commit(log.length);
        expected.push(log.length);
      }
      step(5000 * i + 3000);
    }
    t.strictSame(
      told.map(({ revision }) => revision),
      expected,
      'every change that followed',
    );
    t.equal(reader.after, log.length);
  }
  t.end();
});

t.test('a client that has more than its replica: it is told what it lacks, and nothing is repeated', (t) => {
  const one = oneReplica();
  const { replica, log } = one;
  for (let i = 0; i < 20; i++) log.push(put(`a${i}`));
  replica.commit(8);
  const { told, step } = readerOf(one, 15);
  let us = 0;
  for (const to of [8, 10, 14, 16, 20]) {
    replica.commit(to);
    for (let i = 0; i < 300; i++) step((us += 1000));
  }
  t.strictSame(
    told.map(({ revision }) => revision),
    [16, 17, 18, 19, 20, 21],
  );
  t.equal(replica.service.forgotten, 0);
  t.equal(replica.service.told, 12, 'each change after revision 9 once');
  t.end();
});

t.test('a reader that asks is answered: how far the store is, and when the next key ends', (t) => {
  const one = oneReplica();
  const { replica, log, sent } = one;
  log.push(put('a'));
  replica.commit(1);
  const heard: number[][] = [];
  let us = 0;
  const reader: WatchReader = new WatchReader(
    {
      prefixes: [utf8('b')],
      values: false,
      after: 1,
      changed: () => t.fail('nothing changed'),
      nextEnd: (ms, last) => heard.push([ms, last]),
      failed: (error) => t.fail(error.message),
    },
    () => [0],
    () => 1,
    new TestOutbox(({ bytes }) => replica.service.onWatch(bytes, 0, CLIENT, instantAt(us), 0)),
  );
  const exchange = (): void => {
    pushAll(one, us);
    for (const { bytes } of sent.splice(0)) {
      if (typeOf(bytes, 0) === Changes.type) reader.onChanges(bytes, 0, 0, instantAt(us));
      else reader.onLost(bytes, 0, 0, instantAt(us));
    }
    reader.endTurn(instantAt(us));
  };
  reader.ask(instantAt(us));
  t.strictSame(heard, [], 'before it is open, it asks nobody');
  reader.tick(instantAt(us));
  for (let i = 0; i < 4; i++) exchange();
  t.strictSame(heard, [[0, 2]]);
  us = 30_000;
  exchange();
  t.equal(heard.length, 1, 'nothing is told by itself');
  log.push(put('c', 'x', 5000));
  replica.commit(2);
  reader.ask(instantAt(us));
  exchange();
  t.match(heard[1], [Number, 3]);
  t.ok(heard[1]![0]! > 5000, `the end of a key that it does not watch: ${heard[1]![0]}`);
  reader.close();
  heard.length = 0;
  reader.ask(instantAt(60_000));
  exchange();
  t.strictSame(heard, [], 'one that is over does not ask');
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

t.test('who has not proven an address is asked to, and told nothing', (t) => {
  const one = oneReplica();
  const { replica, log, sent } = one;
  log.push(put('a'));
  replica.commit(1);
  replica.isProven = false;
  say(one, {});
  t.strictSame(sent, []);
  t.equal(replica.service.open, 0);
  t.equal(replica.service.refused, 1);
  t.strictSame(replica.challenged, [CLIENT], 'its port may have been translated anew, and it says nothing else');
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

t.test('keys that are removed, and values of other revisions', (t) => {
  const one = oneReplica();
  const { replica, log, sent } = one;
  log.push(put('gone', 'one'), put('later', 'one'), put('kept', 'one'));
  log.push(remove('gone'), put('later', 'two'));
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
