/** Who is served when, and what is counted: turns of owners and of watches, what was opened and not confirmed, allowances. */
import t from 'tap';
import { WatchReader } from '../../src/client/watch-reader.js';
import { watchableOf } from '../../src/machine/kv.js';
import { Allowance } from '../../src/server/watches/allowance.js';
import { OPENING_OWNERS, OPENINGS_PER_OWNER } from '../../src/server/watches/openings.js';
import { TURN_COMPARISONS } from '../../src/server/watches/watch-service.js';
import { Changes, typeOf, Watch, WatchLostReason } from '../../src/wire/messages.js';
import { readI32, readU16 } from '../../src/wire/u64.js';
import {
  CLIENT,
  askToken,
  instantAt,
  oneReplica,
  openWatch,
  pushAll,
  put,
  reasonOf,
  say,
  TestOutbox,
  utf8,
  type From,
  type OneReplica,
  type WatchFields,
} from './watching.js';

/** With more to tell than windows permit. */
function busyReplica(): OneReplica {
  const one = oneReplica(1 << 12);
  for (let i = 0; i < 900; i++) one.log.push(put(`a${i}`.padEnd(100)));
  one.replica.commit(900);
  return one;
}

/** Whether a token still opens its watch. */
function opens(one: OneReplica, fields: WatchFields, from: From): boolean {
  const before = one.replica.service.open;
  say(one, fields, from);
  return one.replica.service.open === before + 1;
}

t.test('owners take turns, one datagram each', (t) => {
  const one = busyReplica();
  for (const owner of [1, 2, 3]) openWatch(one, {}, { from: CLIENT + owner, owner });
  pushAll(one);
  t.strictSame(
    one.sent.slice(0, 9).map(({ to }) => to - CLIENT),
    [1, 2, 3, 1, 2, 3, 1, 2, 3],
  );
  t.end();
});

t.test('the watches of an owner take turns', (t) => {
  const one = busyReplica();
  for (const id of [1, 2, 3]) openWatch(one, { id }, { owner: 1 });
  pushAll(one);
  t.strictSame(
    one.sent.slice(0, 9).map(({ bytes }) => readI32(bytes, Changes.at.watch)),
    [1, 2, 3, 1, 2, 3, 1, 2, 3],
  );
  t.end();
});

t.test('an owner opens so many watches at once; one more takes the place of its oldest one', (t) => {
  const one = oneReplica();
  const from = (id: number): From => ({ from: CLIENT + (id >> 3), owner: 1 });
  const tokens = Array.from({ length: OPENINGS_PER_OWNER + 1 }, (_, id) => askToken(one, { id }, from(id)));
  t.equal(new Set(tokens).size, tokens.length);
  const tried = (id: number): boolean => opens(one, { id, token: tokens[id]! }, from(id));
  t.ok(tried(OPENINGS_PER_OWNER), 'the newest');
  t.ok(tried(1), 'the oldest but one');
  t.notOk(tried(0), 'the oldest');
  t.end();
});

t.test('so many owners open watches at once; one more takes the place of the one that did longest ago', (t) => {
  const one = oneReplica();
  const from = (owner: number): From => ({ from: CLIENT + owner, owner });
  const tokens: number[] = [];
  for (let owner = 1; owner <= OPENING_OWNERS; owner++) tokens[owner] = askToken(one, {}, from(owner));
  t.equal(askToken(one, {}, from(1)), tokens[1], 'the first one again');
  tokens.push(askToken(one, {}, from(OPENING_OWNERS + 1)));
  const tried = (owner: number): boolean => opens(one, { token: tokens[owner]! }, from(owner));
  t.ok(tried(1), 'it was there a moment ago');
  t.ok(tried(3));
  t.ok(tried(OPENING_OWNERS + 1));
  t.notOk(tried(2), 'that was longest ago');
  t.end();
});

t.test('an allowance grows with the time, up to its bound', (t) => {
  const allowance = new Allowance(1000, 50);
  t.equal(allowance.left, 50);
  // A time of 0 is kept as a fraction: see DOUBLE_ZERO.
  const left = (): number => Math.round(allowance.left);
  allowance.left -= 70;
  allowance.refill(10_000);
  t.equal(left(), -10);
  t.equal(Math.round(allowance.readyUs / 1000), 10 + 11, 'when there is one again');
  allowance.refill(5000);
  t.equal(left(), -10, 'time does not go back');
  allowance.refill(30_000);
  t.equal(left(), 10);
  t.equal(allowance.readyUs, 30_000, 'at once');
  allowance.refill(1e9);
  t.equal(allowance.left, 50);
  t.end();
});

/** Counts the changes that are looked at for who waits for them. */
function countSearched({ replica }: OneReplica): { searched: number } {
  const counts = { searched: 0 };
  const { changes } = watchableOf(replica.machine)!;
  const copyKey = changes.copyKey.bind(changes);
  changes.copyKey = (...args) => {
    counts.searched++;
    copyKey(...args);
  };
  return counts;
}

t.test('to find out who is told: so many changes in a turn, and so many a second', (t) => {
  const one = oneReplica(1 << 16);
  const { replica, log } = one;
  openWatch(one, { prefixes: ['none'] });
  pushAll(one);
  const counts = countSearched(one);
  for (let i = 0; i < 60_000; i++) log.push(put(`a${i}`));
  replica.commit(log.length);
  replica.service.push(instantAt(2));
  t.ok(counts.searched > 0 && counts.searched <= TURN_COMPARISONS, `${counts.searched} in a turn`);
  pushAll(one, 3);
  t.ok(counts.searched > 15_000 && counts.searched <= 20_000 + TURN_COMPARISONS, `${counts.searched} at once`);
  t.end();
});

t.test('a token that is said again to a client whose watch is open changes nothing', (t) => {
  const one = oneReplica();
  const said: Uint8Array[] = [];
  const challenges: Uint8Array[] = [];
  const reader: WatchReader = new WatchReader(
    {
      prefixes: [utf8('a')],
      values: false,
      after: 1,
      changed: () => undefined,
      nextEnd: () => undefined,
      failed: (error) => t.fail(error.message),
    },
    () => [0],
    () => 1,
    new TestOutbox(({ bytes }) => {
      said.push(bytes);
      one.replica.service.onWatch(bytes, 0, CLIENT, instantAt(0), 0);
    }),
  );
  reader.tick(instantAt(0));
  for (let i = 0; i < 4; i++) {
    pushAll(one);
    for (const { bytes } of one.sent.splice(0)) {
      if (typeOf(bytes, 0) === Changes.type) reader.onChanges(bytes, 0, 0, instantAt(0));
      else {
        t.equal(reasonOf(bytes), WatchLostReason.token);
        challenges.push(bytes);
        reader.onLost(bytes, 0, 0, instantAt(0));
      }
    }
    reader.endTurn(instantAt(0));
  }
  t.equal(challenges.length, 1);
  t.equal(one.replica.service.open, 1);
  said.length = 0;
  reader.onLost(challenges[0]!, 0, 0, instantAt(1000));
  reader.endTurn(instantAt(1000));
  t.strictSame(said, [], 'it says nothing');
  reader.tick(instantAt(300_000));
  t.equal(said.length, 1);
  t.equal(readU16(said[0]!, Watch.at.prefixes), 0, 'its sign of life is short');
  t.end();
});
