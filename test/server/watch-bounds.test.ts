/** What watches may cost a replica, in virtual time; also what an attacker gets who sends recorded Watches again. */
import t from 'tap';
import { WatchReader } from '../../src/client/watch-reader.js';
import { watchableOf } from '../../src/machine/kv.js';
import {
  BYTES_BURST,
  BYTES_PER_SECOND,
  COMPARISONS_BURST,
  COMPARISONS_PER_SECOND,
  FORGOTTEN_US,
  TURN_COMPARISONS,
  TURN_MESSAGES,
} from '../../src/server/watches/watch-service.js';
import { WATCHES_MAX, WATCHES_PER_CLIENT_MAX, WATCHES_PER_OWNER_MAX } from '../../src/server/watches/watch-table.js';
import {
  AGAIN_US,
  FIRST_WINDOW_BYTES,
  OpenWatch,
  REPETITIONS_MAX,
  RESEND_US,
  SENT_MAX,
} from '../../src/server/watches/open-watch.js';
import { CHANGE_BYTES, PREFIXES_MAX } from '../../src/wire/watches.js';
import { Changes, typeOf, Watch, WatchFlag, WatchLost, WatchLostReason } from '../../src/wire/messages.js';
import { readI32, readIndex } from '../../src/wire/u64.js';
import {
  utf8,
  DATAGRAM_BYTES,
  TestOutbox,
  TestReplica,
  instantAt,
  put,
  oneReplica,
  watchBytes,
  CLIENT,
  say,
  pushAll,
  openWatch,
  reasonOf,
  lastOf,
  previousOf,
  bytesOf,
} from './watching.js';

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
    return bytesOf(sent.filter(({ bytes }) => bytes.length > Changes.size));
  };
  t.equal(again(1000), flight, 'at once');
  t.equal(again(1000 + AGAIN_US - 1), 0, 'too early');
  t.equal(again(1000 + AGAIN_US), flight);
  t.equal(again(1000 + 2 * AGAIN_US), 0, 'the third time');
  say(one, { token, after: 10, prefixes: [] }, { us: 50_000 });
  pushAll(one, 50_000);
  t.equal(again(60_000, 5), 0, 'what is acknowledged is not sent again');
  t.ok(again(120_000, 10) > 0, 'after an acknowledgement it may ask again');
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

t.test('a long way to the client: nothing is sent twice, and the window grows', (t) => {
  for (const roundTripMs of [2, 80, 150, 450]) {
    const log: Uint8Array[] = [];
    const CHANGES = 5000;
    for (let i = 0; i < CHANGES; i++) log.push(put(`a${i}`.padEnd(100)));
    let us = 0;
    const onWay: { readonly dueUs: number; readonly to: number; readonly bytes: Uint8Array }[] = [];
    const send = ({ to, bytes }: { to: number; bytes: Uint8Array }): void =>
      void onWay.push({ dueUs: us + 500 * roundTripMs, to, bytes });
    const replica = new TestReplica(log, 1 << 13, send);
    replica.commit(CHANGES);
    let told = 0;
    const untaken: number[] = [];
    const reader = new WatchReader(
      {
        prefixes: [utf8('a')],
        values: false,
        after: 1,
        changed: (_, bytes) => {
          told++;
          untaken.push(bytes);
        },
        nextEnd: () => undefined,
        failed: (error) => t.fail(error.message),
      },
      () => [0],
      () => 1,
      new TestOutbox(send),
    );
    let challenges = 0;
    const out = Float64Array.of(0);
    for (; told < CHANGES && us < 60e6; us += 500) {
      const now = instantAt(us);
      for (; onWay.length > 0 && onWay[0]!.dueUs <= us; ) {
        const { to, bytes } = onWay.shift()!;
        if (to === 0) replica.service.onWatch(bytes, 0, CLIENT, now, 0);
        else if (typeOf(bytes, 0) === Changes.type) reader.onChanges(bytes, 0, 0, now);
        else {
          challenges++;
          reader.onLost(bytes, 0, 0, now);
        }
        reader.endTurn(now);
      }
      if (us % 50_000 === 0) reader.tick(now);
      replica.service.tick(now);
      do {
        replica.service.push(now);
        out[0] = Infinity;
        replica.service.wakeBefore(out);
      } while (out[0]! <= us);
      for (const bytes of untaken.splice(0)) reader.taken(bytes);
    }
    const { service } = replica;
    t.comment(`${roundTripMs} ms: ${us / 1e3} ms, ${service.told} told, ${challenges} challenges`);
    t.equal(told, CHANGES, `${roundTripMs} ms`);
    t.equal(service.told, CHANGES, `${roundTripMs} ms: each once`);
    t.equal(service.forgotten, 0);
    t.ok(us < 16 * 1000 * (roundTripMs + 5), `${us / 1e3} ms`);
  }
  t.end();
});

t.test('a client that stands still for longer than acknowledgements take: what was sent before counts', (t) => {
  const one = oneReplica(1 << 12);
  const { replica, log, sent } = one;
  for (let i = 0; i < 900; i++) log.push(put(`a${i}`.padEnd(100)));
  replica.commit(900);
  const token = openWatch(one);
  pushAll(one);
  const last = lastOf(sent[sent.length - 1]!);
  t.ok(last > 10);
  sent.length = 0;
  replica.service.tick(instantAt(RESEND_US + 1000));
  replica.service.push(instantAt(RESEND_US + 1000));
  const from = sent.length;
  say(one, { token, after: last, prefixes: [] }, { us: RESEND_US + 2000 });
  pushAll(one, RESEND_US + 2000);
  t.equal(previousOf(sent[from]!), last, 'it goes on behind what the client has, not behind what was repeated');
  const again = sent.length;
  replica.service.tick(instantAt(2 * RESEND_US));
  for (let us = RESEND_US + 3000; us < 3 * RESEND_US; us += 1000) replica.service.tick(instantAt(us));
  pushAll(one, 3 * RESEND_US);
  t.equal(sent.length, again, 'and gives the client twice that time');
  t.end();
});

t.test('a repetition begins with 4 KiB; if nothing was lost, the window is then as large as before', (t) => {
  const nextFlight = (isLost: boolean, isAsked: boolean): number => {
    const one = oneReplica(1 << 14);
    const { replica, log, sent } = one;
    for (let i = 0; i < 9000; i++) log.push(put(`a${i}`.padEnd(100)));
    replica.commit(9000);
    const token = openWatch(one, { window: 1 << 20 });
    let us = 0;
    let last = 1;
    const acknowledge = (flight: number, flags = 0): void => {
      say(one, { token, after: last, flight, flags, window: 1 << 20, prefixes: [] }, { us });
      sent.length = 0;
      pushAll(one, us);
    };
    pushAll(one);
    for (let i = 0; i < 5; i++) {
      us += 1000;
      last = lastOf(sent[sent.length - 1]!);
      acknowledge(0);
    }
    const before = bytesOf(sent);
    t.ok(before > 16 * FIRST_WINDOW_BYTES, `the window was ${before} bytes`);
    const flew = lastOf(sent[sent.length - 1]!);
    sent.length = 0;
    if (isAsked) acknowledge(0, WatchFlag.again);
    else {
      // This long, nobody is heard.
      us += 2 * RESEND_US;
      replica.service.tick(instantAt(us));
      pushAll(one, us);
    }
    const repeated = bytesOf(sent);
    t.ok(repeated > 0 && repeated < FIRST_WINDOW_BYTES + DATAGRAM_BYTES, `${repeated} bytes were repeated`);
    last = isLost ? lastOf(sent[sent.length - 1]!) : flew;
    us += 1000;
    acknowledge(isLost ? 1 : 0);
    return bytesOf(sent) / before;
  };
  const needless = nextFlight(false, false);
  t.ok(needless >= 1, `the answer to what was sent before: ${needless} of the window`);
  for (const [isLost, isAsked] of [
    [true, false],
    [true, true],
    [false, true],
  ] as const) {
    const share = nextFlight(isLost, isAsked);
    t.ok(share < 0.5, `${isLost ? 'lost' : 'there'}, ${isAsked ? 'asked for' : 'late'}: ${share} of the window`);
  }
  t.end();
});

t.test('messages on their way to one watch: those beyond 256 count as one', (t) => {
  const watch = new OpenWatch(1, 1, 1, 1, 1, new Uint8Array([0, 0]), 0, 0);
  watch.window = 2 ** 32 - 1;
  let sentBytes = 0;
  let most = 0;
  for (let us = 1; us < 60_000; us++) {
    if (watch.room > 0) {
      watch.seen++;
      watch.sentSeen(70, us);
      sentBytes += 70;
    } else watch.acknowledge(watch.acknowledged + 1, 0, us);
    most = Math.max(most, watch.onWay);
  }
  t.equal(most, SENT_MAX);
  t.ok(watch.acknowledged > SENT_MAX);
  watch.acknowledge(watch.told, 0, 60_000);
  t.equal(watch.onWay, 0);
  t.equal(watch.room, Math.min(1 << 20, FIRST_WINDOW_BYTES + sentBytes), 'all bytes count, up to 1 MiB');
  t.end();
});

t.test('a turn sends to few, whoever waits', (t) => {
  const one = oneReplica();
  const { replica, log, sent } = one;
  const WATCHED = 600;
  for (let i = 0; i < WATCHED; i++) openWatch(one, { prefixes: ['k'] }, { from: CLIENT + i, owner: i });
  pushAll(one);
  log.push(put('k1'));
  replica.commit(1);
  const told = new Set<number>();
  for (let us = 20_000; told.size < WATCHED && us < 60_000; us += 10) {
    sent.length = 0;
    replica.service.push(instantAt(us));
    t.ok(sent.length <= TURN_MESSAGES, `${sent.length} messages`);
    for (const { to } of sent) told.add(to);
  }
  t.equal(told.size, WATCHED, 'all in the end');
  t.end();
});

t.test('watches in whose prefixes every change lies do not keep changes from others', (t) => {
  const one = oneReplica(1 << 15);
  const { replica, log, sent } = one;
  const long = 'k'.repeat(760);
  // One owner: as many prefixes of a key that changes all the time as its watches can have, and nothing is acknowledged.
  const nested: string[][] = [];
  for (let length = 1; length <= long.length; ) {
    const prefixes: string[] = [];
    for (let total = 0; prefixes.length < PREFIXES_MAX && length <= long.length && total + length <= 1024; length++) {
      prefixes.push(long.slice(0, length));
      total += length;
    }
    nested.push(prefixes);
  }
  const open = (id: number, us: number): void => {
    const after = log.length + 1;
    openWatch(one, { id, after, window: 0, prefixes: nested[id]! }, { us, from: 200 + (id >> 6), owner: 1 });
  };
  for (let id = 0; id < nested.length && id < WATCHES_PER_OWNER_MAX; id++) open(id, 0);
  const token = openWatch(one, { prefixes: ['other'] }, { owner: 2 });
  pushAll(one);
  const out = Float64Array.of(0);
  const bornUs: number[] = [];
  let worstUs = 0;
  let told = 0;
  for (let us = 100; us < 1_000_000; us += 100) {
    if (us % 200 === 0) log.push(put(long));
    if (us % 10_000 === 0) {
      log.push(put('other'));
      bornUs.push(us);
    }
    replica.commit(log.length);
    replica.service.tick(instantAt(us));
    for (let turns = 0; turns < 50; turns++) {
      replica.service.push(instantAt(us));
      out[0] = Infinity;
      replica.service.wakeBefore(out);
      if (out[0]! > us) break;
    }
    let last = 0;
    for (const { to, bytes } of sent.splice(0)) {
      if (to === CLIENT && bytes.length > Changes.size) {
        last = readIndex(bytes, Changes.at.last);
        const count = (bytes.length - Changes.size) / (CHANGE_BYTES + 'other'.length);
        for (let i = 0; i < count; i++) worstUs = Math.max(worstUs, us - bornUs.shift()!);
        told += count;
      } else if (reasonOf(bytes) === WatchLostReason.compacted) open(readI32(bytes, WatchLost.at.watch), us);
    }
    if (last > 0) say(one, { token, after: last, prefixes: [] }, { us, owner: 2 });
  }
  t.comment(`${told} told, ${worstUs} µs at most`);
  t.ok(told >= 95, `${told} of 99`);
  t.ok(worstUs < 50_000, `${worstUs} µs`);
  t.end();
});

t.test('a recorded Watch of a watch that is open changes nothing', (t) => {
  const one = oneReplica();
  const { replica, sent } = one;
  const token = openWatch(one, { prefixes: ['quiet'] });
  pushAll(one);
  sent.length = 0;
  const recorded = [
    watchBytes({ token, flags: WatchFlag.again, prefixes: [] }),
    watchBytes({ token, window: 0, prefixes: [] }),
    watchBytes({ token, flags: WatchFlag.end, prefixes: [] }),
  ];
  say(one, { token, prefixes: [] });
  pushAll(one);
  sent.length = 0;
  let us = 0;
  for (; us < FORGOTTEN_US + 100_000; us += 5000) {
    if (us % 500_000 === 0) for (const bytes of recorded) replica.service.onWatch(bytes, 0, CLIENT, instantAt(us), 0);
    if (us === 0) t.equal(replica.service.open, 1, 'it is not ended');
    replica.service.tick(instantAt(us));
    pushAll(one, us);
  }
  t.equal(bytesOf(sent), 0, 'nothing is sent');
  t.equal(replica.service.open, 0, 'and it is forgotten in time');
  t.end();
});
