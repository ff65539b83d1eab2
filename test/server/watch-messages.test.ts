/** Messages among the changes of a store: who is told which, whole and in one order, and what is told of events. */
import t from 'tap';
import { watchableOf } from '../../src/machine/kv.js';
import { EVENT_CODE_MASK, EventFlag } from '../../src/machine/store/change-ring.js';
import { EVENT_NAMES } from '../../src/machine/redis/events.js';
import { WatchFlag } from '../../src/wire/messages.js';
import { encodeOperation } from '../machine/redis/redis-machine.js';
import { oneReplica, put, readerOf, remove, type OneReplica } from './watching.js';

function started(changes?: number): OneReplica {
  const one = oneReplica(changes);
  one.replica.machine.raise(2);
  return one;
}

const run = (...words: string[]): Uint8Array => encodeOperation([{ words }]);

t.test('messages and changes of keys come in one order, to whom asked for them', (t) => {
  const one = started();
  const { log, replica } = one;
  const all = readerOf(one, 1, WatchFlag.messages);
  log.push(put('a'), run('PUBLISH', 'channel', 'one'), run('PUBLISH', '', ''), remove('a'), run('PUBLISH', 'c', 'two'));
  replica.commit(5);
  for (let us = 0; us < 500_000; us += 50_000) all.step(us);
  t.strictSame(all.told, [
    { kind: 'put', key: 'a', value: undefined, revision: 2 },
    { kind: 'message', key: 'channel', value: 'one', revision: 3 },
    { kind: 'message', key: '', value: '', revision: 4 },
    { kind: 'delete', key: 'a', value: undefined, revision: 5 },
    { kind: 'message', key: 'c', value: 'two', revision: 6 },
  ]);
  all.reader.close();
  for (const [flags, kinds] of [
    [WatchFlag.messages | WatchFlag.noKeys, ['message', 'message', 'message']],
    [0, ['put', 'delete']],
  ] as const) {
    const two = started();
    two.log.push(...log);
    const reader = readerOf(two, 1, flags);
    reader.step(0);
    reader.step(1000);
    two.replica.commit(5);
    for (let us = 2000; us < 500_000; us += 50_000) reader.step(us);
    t.strictSame(
      reader.told.map(({ kind }) => kind),
      kinds,
    );
  }
  t.end();
});

t.test(
  'a message that is longer than a datagram goes alone; one that is too long for the ring without its bytes',
  (t) => {
    const one = started(1 << 14);
    const { log, replica } = one;
    const long = 'm'.repeat(32_768);
    const { told, step } = readerOf(one, 1, WatchFlag.messages);
    log.push(put('a'), run('PUBLISH', 'c', long), run('PUBLISH', 'c', 'short'));
    replica.commit(3);
    for (let us = 0; us < 500_000; us += 50_000) step(us);
    t.equal(told.length, 3);
    t.equal(told[1]!.value, long);
    const small = started(16);
    const reader = readerOf(small, 1, WatchFlag.messages);
    small.log.push(run('PUBLISH', 'c', long), run('PUBLISH', 'c', 'short'));
    small.replica.commit(2);
    for (let us = 0; us < 500_000; us += 50_000) reader.step(us);
    t.strictSame(
      reader.told.map(({ kind, value }) => [kind, value]),
      [
        ['message', undefined],
        ['message', 'short'],
      ],
    );
    t.end();
  },
);

t.test('a message has a revision that is undone with its entry', (t) => {
  const { log, replica } = started();
  const store = watchableOf(replica.machine)!;
  log.push(put('a'), run('PUBLISH', 'c', 'm'));
  replica.execute(2);
  t.equal(store.revision, 3);
  replica.undoTo(1);
  t.equal(store.revision, 2);
  t.equal(store.changes.count, 1);
  log[1] = run('SET', 'b', '1');
  replica.commit(2);
  t.equal(store.revision, 3);
  t.end();
});

t.test('what made a change is told by its event', (t) => {
  const one = started();
  const { log, replica } = one;
  const store = watchableOf(replica.machine)!;
  log.push(
    run('SET', 'a', '1', 'EX', '100'),
    run('INCR', 'a'),
    run('SADD', 's', 'm'),
    run('SMOVE', 's', 's2', 'm'),
    run('RENAME', 'a', 'b'),
    run('DEL', 'b'),
    run('RPUSH', 'l', 'x'),
    run('LMOVE', 'l', 'l2', 'LEFT', 'RIGHT'),
    put('p'),
  );
  replica.commit(log.length);
  const events = Array.from({ length: store.changes.count }, (_, i) => {
    const event = store.changes.eventOf(i);
    return [
      EVENT_NAMES[(event & EVENT_CODE_MASK) - 1] ?? '',
      ...((event & EventFlag.added) !== 0 ? ['added'] : []),
      ...((event & EventFlag.ends) !== 0 ? ['ends'] : []),
    ].join(' ');
  });
  t.strictSame(events, [
    'set added ends',
    'incrby',
    'sadd added',
    'srem',
    'sadd added',
    'rename',
    'rename added ends',
    'del',
    'rpush added',
    'lpop',
    'rpush added',
    ' added',
  ]);
  t.end();
});
