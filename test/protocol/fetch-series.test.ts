// Entries and snapshots come with several answers on their way at once. View 0 of three: primary 0, member 1, spare 2.
import t from 'tap';
import { Chunk, Fetch, Request, SnapshotChunk } from '../../src/wire/messages.js';
import { Cluster, type ClusterOptions, type JournalMachine, type Packet } from './harness.js';

const ENTRIES = 400;
const CHUNK_BYTES = 500;
const journal = (c: Cluster, id: number): string[] => (c.replica(id).machine as JournalMachine).journal;

/** Replica 2 lacks ENTRIES entries, of several dozen answers; what it sent and what was sent to it is lost. */
function farBehind({ timings, limits, ...options }: ClusterOptions = {}): Cluster {
  const c = new Cluster(3, {
    limits: { chunkBytes: CHUNK_BYTES, logEntries: 1 << 14, logBytes: 1 << 20, ...limits },
    datagramBytes: 256,
    timings: { fetchTimeoutUs: 1_000_000, suspectUs: 100_000_000, ...timings },
    ...options,
  });
  const alice = c.hand();
  c.give(alice, Request, alice.registration(10), 0, 1);
  c.run(20_000);
  c.isolate(2);
  for (let i = 1; i <= ENTRIES; i++) {
    c.give(alice, Request, alice.request(100 + i, i, `operation ${i}`), 0, 1);
    if (i % 20 === 0) c.run(5_000);
  }
  c.run(20_000);
  c.lose();
  c.heal();
  return c;
}

/** Messages take `us` from one replica to another, until `done`. Returns how often messages arrived. */
function rounds(c: Cluster, us: number, done: () => boolean, bring: (packet: Packet) => boolean = () => true): number {
  for (let count = 0; count < 3000; count++) {
    if (done()) return count;
    c.pass(us);
    for (const packet of c.take()) if (bring(packet)) c.arrive(packet);
  }
  return Infinity;
}

const has =
  (c: Cluster, id: number, index = ENTRIES + 1) =>
  (): boolean =>
    c.replica(id).last >= index && c.replica(id).chain(index) === c.replica(0).chain(index);

const sent = (c: Cluster, before: number, name: string, where: (packet: Packet) => boolean = () => true): Packet[] =>
  c.history.slice(before).filter((packet) => packet.message.name === name && where(packet));

const entriesIn = (packets: readonly Packet[]): number =>
  packets.reduce((sum, { values }) => sum + (values['entries'] as Uint8Array).length, 0);

for (const [who, loses] of [
  ['a spare that lags', false],
  ['a replica that lost its log', true],
] as const) {
  const behind = (options: ClusterOptions = {}): Cluster => {
    const c = farBehind(options);
    if (!loses) return c;
    c.replica(2).crash();
    c.replica(2).start(true);
    return c;
  };

  t.test(`${who} gets several answers a round trip, each for one question`, (t) => {
    const c = behind();
    const before = c.history.length;
    const count = rounds(c, 500, has(c, 2));
    const chunks = sent(c, before, 'Chunk', ({ to }) => to === 2);
    const questions = sent(c, before, 'Fetch', ({ from }) => from === 2);
    const answers = entriesIn(chunks) / CHUNK_BYTES;
    t.ok(answers > 30, `${answers} answers`);
    t.ok(count < answers, `${count / 2} round trips`);
    t.ok(entriesIn(chunks) <= questions.length * CHUNK_BYTES, 'a question brings one answer');
    t.ok(
      entriesIn(chunks) <
        1.2 *
          entriesIn(
            chunks.filter(
              ({ values }, i) => chunks.findIndex((other) => other.values['baseIndex'] === values['baseIndex']) === i,
            ),
          ),
      'nothing comes twice',
    );
    t.strictSame(journal(c, 2).slice(0, ENTRIES - 1), journal(c, 0).slice(0, ENTRIES - 1));
    t.end();
  });

  for (const nth of [1, 7, 8, 9, 30, 31])
    t.test(`${who} asks again for message ${nth} of the answers, which is lost, before the time is up`, (t) => {
      const c = behind();
      let chunks = 0;
      const count = rounds(
        c,
        500,
        has(c, 2),
        ({ message, to }) => !(message === Chunk && to === 2 && ++chunks === nth),
      );
      // The first answer is alone on its way: only the timer can tell that the end of it is lost.
      t.ok(count < (nth < 3 ? 2100 : 120), `${count} times half a millisecond`);
      t.end();
    });

  t.test(`${who} gets one answer a round trip from a replica that knows no series`, (t) => {
    const c = behind();
    const before = c.history.length;
    const count = rounds(c, 500, has(c, 2), ({ message, bytes }) => {
      if (message === Fetch || message === Chunk) bytes[message.at['series']!] = 0;
      return true;
    });
    const chunks = sent(c, before, 'Chunk', ({ to }) => to === 2);
    t.ok(count < 3 * (entriesIn(chunks) / CHUNK_BYTES), `${count / 2} round trips`);
    t.end();
  });

  t.test(`${who} waits longer for a source that is far away`, (t) => {
    const c = behind({ timings: { fetchTimeoutUs: 10_000 } });
    const before = c.history.length;
    const count = rounds(c, 20_000, has(c, 2));
    const answers = entriesIn(sent(c, before, 'Chunk', ({ to }) => to === 2)) / CHUNK_BYTES;
    t.ok(count < 40, `${count / 2} round trips`);
    t.ok(answers < 60, `${answers} answers, of which 31 are needed`);
    t.end();
  });

  t.test(`${who} ends although one message in ten is lost, and others overtake each other`, (t) => {
    const c = behind({ timings: { fetchTimeoutUs: 10_000 } });
    let turn = 0;
    const count = rounds(c, 500, has(c, 2), () => ++turn % 10 !== 0);
    t.ok(count < 1000, `${count} times half a millisecond`);
    t.end();
  });
}

t.test('restarts in a row take no timer, though the source remembers the series of the lives before', (t) => {
  const c = farBehind();
  const series: unknown[] = [];
  for (let life = 1; life <= 4; life++) {
    c.replica(2).crash();
    c.replica(2).start(true);
    const before = c.history.length;
    const count = rounds(c, 500, has(c, 2));
    t.ok(count < 120, `life ${life}: ${count} times half a millisecond, of 2000 until the timer`);
    series.push(...new Set(sent(c, before, 'Fetch', ({ from }) => from === 2).map(({ values }) => values['series'])));
  }
  t.equal(new Set(series).size, series.length, `series ${series.join(', ')}`);
  t.end();
});

for (const loses of [false, true])
  for (const [what, isRepeated] of [
    ['each Chunk', ({ message }: Packet): boolean => message === Chunk],
    ['each datagram', (): boolean => true],
  ] as const)
    t.test(
      `no more is on its way if the network repeats ${what}${loses ? ', to a replica without a log' : ''}`,
      (t) => {
        const c = farBehind();
        if (loses) {
          c.replica(2).crash();
          c.replica(2).start(true);
        }
        let most = 0;
        let questions = 0;
        const before = c.history.length;
        const done = has(c, 2);
        for (let count = 0; count < 200 && !done(); count++) {
          c.pass(500);
          const packets = c.take();
          // An answer of several Chunks ends with one that says so.
          const answers = packets.filter(
            ({ message, to, values }) => message === Chunk && to === 2 && values['more'] === 0,
          );
          most = Math.max(most, answers.length);
          questions = Math.max(questions, packets.filter(({ message }) => message === Fetch).length);
          for (const packet of packets) for (let k = isRepeated(packet) ? 2 : 1; k > 0; k--) c.arrive(packet);
        }
        t.ok(done(), 'it caught up before the time was up');
        t.ok(most <= 8, `${most} answers at once`);
        t.ok(questions <= 16, `${questions} questions at once, of which each answer brings forth at most two`);
        const answers = entriesIn(sent(c, before, 'Chunk', ({ to }) => to === 2)) / CHUNK_BYTES;
        t.ok(answers < 60, `${answers} answers, of which 31 are needed`);
        t.end();
      },
    );

t.test('a snapshot goes on where it stopped when its source is silent for a while', (t) => {
  const c = farBehind({ limits: { logEntries: 64, logBytes: 1 << 16 }, timings: { fetchTimeoutUs: 10_000 } });
  const before = c.history.length;
  let pieces = 0;
  const asked = (from: number): number[] =>
    sent(c, from, 'SnapshotFetch', ({ from: by }) => by === 2).map(({ values }) => Number(values['offset']));
  c.replica(2).crash();
  c.replica(2).start(true);
  rounds(
    c,
    500,
    () => pieces >= 20,
    ({ message, to }) => {
      if (message === SnapshotChunk && to === 2) pieces++;
      return true;
    },
  );
  t.ok(pieces >= 20, `${pieces} pieces came`);
  const reached = Math.max(
    ...sent(c, before, 'SnapshotChunk', ({ to }) => to === 2).map(({ values }) => Number(values['offset'])),
  );
  c.isolate(2);
  c.run(200_000);
  c.lose();
  t.ok(
    c.replica(2).transitions.some((each) => each.includes('brings nothing')),
    `given up: ${c.replica(2).transitions.join(', ')}`,
  );
  c.heal();
  const resumed = c.history.length;
  t.ok(rounds(c, 500, has(c, 2)) < 1000);
  t.ok(asked(resumed).length > 0);
  t.ok(Math.min(...asked(resumed)) > 1000, `asked from ${Math.min(...asked(resumed))} on, and ${reached} had come`);
  t.equal(c.replica(2).counter('snapshots_installed'), 1);
  t.strictSame(journal(c, 2), journal(c, 0));
  t.end();
});
