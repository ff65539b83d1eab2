// A replica that lacks a long state gets it while entries are appended. View 0 of three: primary 0, member 1, spare 2.
import t from 'tap';
import type { StateMachine } from '../../src/machine/state-machine.js';
import { PREVIOUS_WIRE_VERSION, WIRE_VERSION } from '../../src/wire/versions.js';
import { Chunk, Fetch, Request, SnapshotChunk, SnapshotFetch, SnapshotOffer } from '../../src/wire/messages.js';
import { KEPT_US, RESTORED_US } from '../../src/protocol/replica/agreement/served.js';
import { RETAINED_TIMES, SHARED_FILL } from '../../src/protocol/replica/log-capacity.js';
import { ANSWERS_AHEAD } from '../../src/protocol/replica/transfer-sender.js';
import { seededRandom } from '../../src/measure/load/random.js';
import { Cluster, type ClusterOptions, type HandClient, type JournalMachine, type Packet } from './harness.js';

const journal = (c: Cluster, id: number): string[] => (c.replica(id).machine as JournalMachine).journal;

const LOG_ENTRIES = 64;
const PIECE = 200;
const SEED = Number(process.env['SEED'] ?? Math.floor(Math.random() * 2 ** 31));

interface Scene {
  readonly c: Cluster;
  readonly alice: HandClient;
  /** One request more, and a millisecond; what the spare gets of snapshots waits in the network. */
  readonly append: () => void;
}

/**
 * Spare 2 lacks all but the first entry of a state of several thousand bytes, and begins to fetch it from `source`. A
 * snapshot is taken every few entries.
 */
function longState(source: number, options: ClusterOptions = {}): Scene {
  const c = new Cluster(3, {
    limits: { logEntries: LOG_ENTRIES, chunkBytes: 200 },
    datagramBytes: 256,
    timings: { fetchTimeoutUs: 1_000_000 },
    ...options,
  });
  const alice = c.hand();
  let given = 0;
  c.give(alice, Request, alice.registration(10), 0, 1);
  c.run(20_000);
  const append = (): void => {
    given++;
    c.give(alice, Request, alice.request(100 + given, given, `${given} ${'y'.repeat(30)}`), 0, 1);
    // Time for a Sync.
    for (let ms = 0; ms < 6; ms++) {
      c.pass(1000);
      c.settle({ where: ({ message }) => message.type !== SnapshotChunk.type });
    }
  };
  c.loses = ({ to, message }) => to === 2 && (message.type === Chunk.type || message.type === SnapshotOffer.type);
  for (let i = 0; i < 150; i++) append();
  // Its question that was not answered is open until the timeout.
  c.loses = ({ message, to }) => message.type === Fetch.type && to !== source;
  for (let i = 0; i < 600 && !c.inFlight.some(({ message }) => message.type === SnapshotChunk.type); i++) append();
  c.heal();
  return { c, alice, append };
}

/** Lets `count` pieces of snapshots arrive. */
function bring(c: Cluster, count: number): void {
  const waiting = c.take({ message: SnapshotChunk });
  for (const packet of waiting.splice(0, count)) c.arrive(packet);
  c.inFlight.push(...waiting);
}

/** Up to where replica `id` has a stable snapshot. */
const stable = (c: Cluster, id: number): number => c.replica(id).state.execution.stable.index;

for (const [source, who] of [
  [0, 'at the primary'],
  [1, 'at a member'],
] as const)
  t.test(
    `a snapshot that is being fetched is kept when a newer one is taken, and the entries behind it: ${who}`,
    (t) => {
      const { c, append } = longState(source);
      const spare = c.replica(2);
      const before = c.history.length;
      let first = 0;
      let others = 0;
      for (let i = 0; i < 400 && spare.counter('snapshots_installed') === 0; i++) {
        append();
        bring(c, 4);
        first ||= stable(c, source);
        if (stable(c, source) > first) others++;
      }
      t.ok(others > 0, 'the transfer took longer than from one snapshot to the next');
      t.equal(spare.counter('snapshots_installed'), 1, 'and it ended');
      const fetched = new Set(
        c.history
          .slice(before)
          .filter(({ message, from }) => message.type === SnapshotFetch.type && from === 2)
          .map(({ values }) => values['index']),
      );
      t.equal(fetched.size, 1, `one snapshot was asked for, of ${[...fetched].join(', ')}`);
      for (let i = 0; i < 20; i++) append();
      c.run(100_000);
      t.equal(spare.counter('snapshots_installed'), 1, 'the entries behind it were there');
      t.strictSame(journal(c, 2), journal(c, source));
      t.end();
    },
  );

for (const [rate, percent] of [
  [2, 0],
  [4, 0],
  [1, 1],
  [2, 1],
] as const)
  t.test(
    `one snapshot is enough with ${rate} entries for every four pieces, and ${percent} % of all messages lost`,
    (t) => {
      const { c, append } = longState(1, { timings: { fetchTimeoutUs: 10_000 } });
      const spare = c.replica(2);
      const before = c.history.length;
      const random = seededRandom(SEED);
      c.loses = ({ from, to }) => (from === 2 || to === 2) && random() * 100 < percent;
      for (let i = 0; i < 400 && spare.counter('snapshots_installed') === 0; i++) {
        for (let entry = 0; entry < rate; entry++) append();
        bring(c, 4);
      }
      const fetched = new Set(
        c.history
          .slice(before)
          .filter(({ message, from }) => message.type === SnapshotFetch.type && from === 2)
          .map(({ values }) => values['index']),
      );
      t.equal(spare.counter('snapshots_installed'), 1, `seed ${SEED}`);
      t.equal(fetched.size, 1, `of ${[...fetched].join(', ')} were asked for, seed ${SEED}`);
      c.heal();
      c.run(3_000_000);
      t.equal(spare.counter('snapshots_installed'), 1, 'the entries behind it were there');
      t.strictSame(journal(c, 2), journal(c, 1));
      t.end();
    },
  );

t.test('when the source dies, another one that has the same snapshot goes on with it', (t) => {
  const { c, append } = longState(0);
  const asked = (since: number, to: number): Packet[] =>
    c.history
      .slice(since)
      .filter((packet) => packet.message.type === SnapshotFetch.type && packet.from === 2 && packet.to === to);
  const index = Number(asked(0, 0).at(-1)!.values['index']);
  // A member is behind the primary.
  for (let i = 0; i < 20 && stable(c, 1) < index; i++) append();
  t.equal(stable(c, 1), index);
  for (let i = 0; i < 4; i++) {
    bring(c, 4);
    c.settle({ where: ({ message }) => message.type !== SnapshotChunk.type });
  }
  c.lose({ message: SnapshotChunk });
  c.replica(0).crash();
  const before = c.history.length;
  c.run(3_000_000);
  const offsets = asked(before, 1).map(({ values }) => Number(values['offset']));
  t.ok(offsets.length > 0, 'the other one is asked');
  t.ok(Math.min(...offsets) > 4 * PIECE, `from ${Math.min(...offsets)} on`);
  t.equal(c.replica(2).counter('snapshots_installed'), 1);
  t.equal(c.replica(2).state.execution.stable.index, index);
  t.strictSame(journal(c, 2), journal(c, 1));
  t.end();
});

for (const source of [0, 1])
  t.test(`a transfer ends with the snapshot that it began with, though the log was cut beyond it: ${source}`, (t) => {
    const { c, append } = longState(source);
    const spare = c.replica(2);
    const { state } = c.replica(source);
    const before = c.history.length;
    const index = Number(c.inFlight.find(({ message }) => message.type === SnapshotChunk.type)!.values['index']);
    for (let i = 0; i < 200 && state.log.baseIndex <= index + LOG_ENTRIES; i++) {
      append();
      if (i % 16 === 0) bring(c, 1);
    }
    t.ok(state.log.baseIndex > index + LOG_ENTRIES, 'the log has none of the entries that it had');
    t.equal(spare.counter('snapshots_installed'), 0);
    c.settle();
    t.equal(spare.counter('snapshots_installed'), 1);
    t.equal(spare.state.execution.stable.index, index, 'it is the one that it began with');
    append();
    c.run(100_000);
    t.equal(spare.counter('snapshots_installed'), 1, 'the entries behind it were there');
    t.strictSame(journal(c, 2), journal(c, source));
    const chunks = c.history.slice(before).filter(({ message, to }) => message.type === Chunk.type && to === 2);
    t.ok(
      chunks.some(({ values }) => Number(values['baseIndex']) < state.log.baseIndex),
      'entries were given that the log does not have any more',
    );
    c.run(KEPT_US + 1_000_000);
    t.equal(state.givenFrom, state.log.baseIndex, 'nothing is kept when it is over');
    t.end();
  });

/** Which snapshots replica 2 asked for since `before`. */
const snapshotsAsked = (c: Cluster, before: number): unknown[] => [
  ...new Set(
    c.history
      .slice(before)
      .filter(({ message, from }) => message.type === SnapshotFetch.type && from === 2)
      .map(({ values }) => values['index']),
  ),
];

for (const [begins, time] of [
  ['lags', 'between the snapshot and the entries behind it'],
  ['lost its log', 'between the snapshot and the entries behind it'],
  ['lost its log', 'among the entries behind it'],
] as const)
  t.test(`a source that is silent for a second ${time} is waited for, by a replica that ${begins}`, (t) => {
    const { c, append } = longState(1, { timings: { fetchTimeoutUs: 200_000 } });
    const spare = c.replica(2);
    if (begins === 'lost its log') {
      spare.crash();
      c.lose({ message: SnapshotChunk });
      spare.start(true);
    }
    const before = c.history.length;
    const { state } = c.replica(1);
    const asked = (): number => Number(snapshotsAsked(c, before).at(-1) ?? Infinity);
    for (let i = 0; i < 400 && state.log.baseIndex <= asked() + LOG_ENTRIES; i++) {
      append();
      if (i % 16 === 0) bring(c, 1);
    }
    t.ok(state.log.baseIndex > asked() + LOG_ENTRIES, 'only the source has the entries behind it');
    let chunks = 0;
    const last = time.startsWith('among') ? 1 : 0;
    c.loses = ({ message, from, to }) => from === 1 && to === 2 && message.type === Chunk.type && chunks++ >= last;
    const end = spare.counter('snapshots_installed');
    c.settle();
    c.run(1_000_000);
    t.ok(chunks > last, 'it was silent');
    c.heal();
    c.run(1_000_000);
    append();
    c.run(100_000);
    t.equal(snapshotsAsked(c, before).length, 1, `of ${snapshotsAsked(c, before).join(', ')}`);
    t.equal(spare.counter('snapshots_installed') - end, 1);
    t.strictSame(journal(c, 2), journal(c, 1));
    t.end();
  });

t.test(
  'what is kept for a transfer is given up when it is several times what the log holds; the newest is offered',
  (t) => {
    const { c, append } = longState(1);
    const begun = c.take({ message: SnapshotChunk });
    t.ok(begun.length > 0, 'it is being fetched');
    const index = Number(begun[0]!.values['index']);
    const { state } = c.replica(1);
    const { values } = c.history
      .filter(({ message, from }) => message.type === SnapshotFetch.type && from === 2)
      .at(-1)!;
    let most = 0;
    let offset = 0;
    for (let i = 0; i < 600 && state.givenFrom <= index; i++) {
      append();
      // It comes further, and slowly.
      c.replica(1).receive(SnapshotFetch, { ...values, offset: ++offset, room: 1 }, 2);
      most = Math.max(most, state.committed - index);
    }
    t.ok(state.givenFrom > index, 'entries behind it are gone');
    t.ok(most > RETAINED_TIMES * LOG_ENTRIES, `${most} were kept`);
    t.ok(most <= (RETAINED_TIMES + 1) * LOG_ENTRIES, `${most} were kept`);
    append();
    for (const packet of begun) c.arrive(packet);
    c.settle();
    c.run(100_000);
    t.equal(c.replica(2).counter('snapshots_installed'), 1);
    t.strictSame(journal(c, 2), journal(c, 1));
    t.end();
  },
);

t.test('nothing is kept for a replica that comes no further', (t) => {
  const { c, append } = longState(1);
  c.lose({ message: SnapshotChunk });
  const { values } = c.history.filter(({ message, from }) => message.type === SnapshotFetch.type && from === 2).at(-1)!;
  c.isolate(2);
  for (let i = 0; i < 12; i++) append();
  const source = c.replica(1);
  const index = Number(values['index']);
  t.ok(stable(c, 1) > index, 'a newer one is there');
  t.ok(source.state.log.baseIndex <= index);
  // The same question again and again: it never comes further.
  const answers = (): string[] => source.receive(SnapshotFetch, values, 2).map(({ message }) => message.name);
  for (let passed = 0; passed < KEPT_US - 200_000; passed += 100_000) {
    t.strictSame([...new Set(answers())], ['SnapshotChunk']);
    c.run(100_000);
  }
  c.run(400_000);
  t.strictSame(answers(), ['SnapshotOffer'], 'the newer one');
  for (let i = 0; i < 12; i++) append();
  t.ok(source.state.log.baseIndex > index, 'the entries are cut as well');
  t.end();
});

/** Its state always has the same length. */
class Counting implements StateMachine {
  private count = 0;
  apply = (): void => void this.count++;
  query = (): void => undefined;
  snapshot = (): Uint8Array => new Uint8Array(3000).fill(this.count);
  restore = ([count]: Uint8Array): void => void (this.count = count!);
}

/** Spare 2 has begun to fetch a snapshot from member 1, and does no more than the test says. A newer snapshot is there. */
function handDriven(options: ClusterOptions = {}) {
  const { c, append } = longState(1, options);
  c.lose({ message: SnapshotChunk });
  const asked = c.history.filter(({ message, from }) => message.type === SnapshotFetch.type && from === 2);
  const { values } = asked.at(-1)!;
  c.isolate(2);
  const source = c.replica(1);
  const { state } = source;
  const index = Number(values['index']);
  const fetched = state.execution.stable;
  const { length } = fetched.bytes;
  while (stable(c, 1) <= index) append();
  const question = c.history.filter(({ message, from }) => message.type === Fetch.type && from === 2).at(-1)!.values;
  const names = (packets: readonly { message: { name: string } }[]): string =>
    [...new Set(packets.map(({ message }) => message.name))].join(' ');
  return {
    c,
    append,
    index,
    state,
    fetched,
    length,
    last: PIECE * Math.floor((length - 1) / PIECE),
    /** What replica `from` gets for a piece of it from `offset` on. */
    ask: (offset: number, from = 2): string =>
      names(source.receive(SnapshotFetch, { ...values, offset, room: PIECE }, from)),
    /** What the spare gets for a question for the entries behind it. */
    entries: (): string =>
      names(
        source.receive(
          Fetch,
          { ...question, baseIndex: values['index']!, baseChain: values['chain']!, room: PIECE },
          2,
        ),
      ),
    /** Which snapshot replica `from`, which has next to nothing, is offered. */
    offered: (from: number): number => {
      const offer = source.receive(Fetch, question, from).find(({ message }) => message.type === SnapshotOffer.type);
      return Number(offer?.values['index'] ?? -1);
    },
  };
}

t.test('its bytes stay as they are, though newer ones use memory again', (t) => {
  const { append, ask, fetched, last, state } = handDriven({
    pieces: { bytes: 1000, everyUs: 1 },
    machine: () => new Counting(),
  });
  const before = fetched.bytes.slice();
  let newer = 0;
  for (let offset = 0; newer < 3 && offset < 200 * PIECE; offset += PIECE) {
    if (offset <= last) t.equal(ask(offset), 'SnapshotChunk');
    const { stable } = state.execution;
    append();
    if (state.execution.stable !== stable) newer++;
  }
  t.equal(newer, 3);
  t.same(fetched.bytes, before);
  t.end();
});

t.test('one that begins anew comes further', (t) => {
  const { c, ask, last } = handDriven();
  for (let offset = 0; offset < last; offset += PIECE) {
    t.equal(ask(offset), 'SnapshotChunk');
    c.run(10_000);
  }
  // It restarts, and is slower than before.
  for (let offset = 0; offset <= last; offset += PIECE) {
    t.equal(ask(offset), 'SnapshotChunk', `at ${offset} of ${last}`);
    c.run(KEPT_US / 8);
  }
  t.end();
});

t.test(
  'whoever asks ahead from the start again and again gets nothing, and is not waited for; nor are two such',
  (t) => {
    const { c, ask } = handDriven();
    const answers = new Set<string>();
    for (let passed = 0; passed < 3 * KEPT_US; passed += KEPT_US / 10) {
      for (const from of [2, 0]) {
        // The second begins when the first has been waited for half of the time.
        if (from === 0 && passed < KEPT_US / 2) continue;
        answers.clear();
        for (let piece = 0; piece < ANSWERS_AHEAD; piece++) answers.add(ask(piece * PIECE, from));
      }
      c.run(KEPT_US / 10);
    }
    t.strictSame([...answers], ['SnapshotOffer'], 'the newer one');
    t.end();
  },
);

t.test('one that has asked for the last piece has time to restore it, and then to ask for the entries', (t) => {
  const { c, append, ask, entries, last, index, state } = handDriven();
  for (let offset = 0; offset <= last; offset += PIECE) ask(offset);
  c.run(RESTORED_US - 1_000_000);
  for (let i = 0; i < 5; i++) append();
  t.equal(entries(), 'Chunk');
  c.run(KEPT_US - 1_000_000);
  t.equal(entries(), 'Chunk', 'the first question for entries is one step more');
  c.run(2_000_000);
  for (let i = 0; i < 12; i++) append();
  t.ok(state.log.baseIndex > index, 'the same question again is none');
  t.end();
});

t.test('one that has asked for the last piece and asks for nothing more is given up', (t) => {
  const { c, append, ask, last, index, state } = handDriven();
  for (let offset = 0; offset <= last; offset += PIECE) ask(offset);
  c.run(RESTORED_US + 100_000);
  for (let i = 0; i < 12; i++) append();
  t.ok(state.log.baseIndex > index);
  t.end();
});

t.test('a second one is offered the snapshot that is kept, until there is too little time left for it', (t) => {
  const { append, ask, offered, index, state } = handDriven();
  t.ok(state.retained.fill < SHARED_FILL);
  t.equal(offered(0), index, 'while less than half of that is used');
  let offset = 0;
  for (let i = 0; i < 1_000 && state.retained.fill < SHARED_FILL; i++) {
    append();
    ask((offset += 1));
  }
  t.equal(offered(0), state.execution.stable.index, 'later the newest');
  t.ok(state.execution.stable.index > index);
  t.equal(offered(2), index, 'and the one that is fetching it still the same');
  t.end();
});

t.test('one that begins below what is retained for another gets the entries behind its snapshot all the same', (t) => {
  const c = new Cluster(3, {
    keepsLog: true,
    limits: { logEntries: LOG_ENTRIES, chunkBytes: PIECE },
    datagramBytes: 256,
    timings: { fetchTimeoutUs: 1_000_000 },
  });
  const alice = c.hand();
  let given = 0;
  c.give(alice, Request, alice.registration(10), 0, 1);
  c.run(20_000);
  const append = (settle: () => void): void => {
    given++;
    c.give(alice, Request, alice.request(100 + given, given, `${given} ${'y'.repeat(30)}`), 0, 1);
    settle();
  };
  const all = (): void => append(() => c.run(6_000));
  c.isolate(2);
  for (let i = 0; i < 400; i++) all();
  c.heal();
  c.run(1_000_000);
  const spare = c.replica(2);
  const { state } = c.replica(1);
  t.equal(spare.counter('snapshots_installed'), 1);
  // Another one has a snapshot from here, and never asks for the last of the entries behind it.
  const of = (type: number): Packet['values'] =>
    c.history.filter(({ message, to, from }) => message.type === type && to === 1 && from === 2).at(-1)!.values;
  const values = of(Fetch.type);
  const fetch = (base: number): void =>
    void c
      .replica(1)
      .receive(Fetch, { ...values, baseIndex: BigInt(base), baseChain: c.replica(1).chain(base), room: 1 }, 0);
  const { stable } = state.execution;
  c.replica(1).receive(
    SnapshotFetch,
    {
      ...of(SnapshotFetch.type),
      index: BigInt(stable.index),
      chain: c.replica(1).chain(stable.index),
      offset: 0,
      room: 1,
    },
    0,
  );
  const isRetainedBeyond = (): boolean =>
    state.retained.isActive && state.retained.baseIndex > state.execution.stable.index;
  for (let i = 0; i < 2 * LOG_ENTRIES && !isRetainedBeyond(); i++) {
    all();
    fetch(state.committed - 8);
  }
  t.ok(isRetainedBeyond(), 'what is retained begins behind the snapshot');
  t.ok(state.log.baseIndex <= state.execution.stable.index, 'the log has all of it');
  spare.crash();
  c.run(100_000);
  spare.start(true);
  const before = c.history.length;
  for (let i = 0; i < 400 && spare.counter('snapshots_installed') === 0; i++) {
    append(() => {
      for (let ms = 0; ms < 6; ms++) {
        c.pass(1000);
        c.settle({ where: ({ message }) => message.type !== SnapshotChunk.type });
      }
    });
    bring(c, 2);
  }
  const fetched = new Set(
    c.history
      .slice(before)
      .filter(({ message, from }) => message.type === SnapshotFetch.type && from === 2)
      .map(({ values: { index } }) => index),
  );
  t.equal(fetched.size, 1, `one snapshot was asked for, of ${[...fetched].join(', ')}`);
  c.run(1_000_000);
  t.equal(spare.counter('snapshots_installed'), 1, 'the entries behind it were there');
  t.end();
});

t.test('a replica that has caught up is no fetcher any more', (t) => {
  const { c, append, state, ask, last, entries, index } = handDriven();
  t.equal(ask(last), 'SnapshotChunk');
  t.equal(entries(), 'Chunk', 'one of several answers');
  t.equal(state.givenFrom <= index, true);
  const { values } = c.history.filter(({ message, from }) => message.type === Fetch.type && from === 2).at(-1)!;
  const fetch = (base: number): void =>
    void c
      .replica(1)
      .receive(
        Fetch,
        { ...values, baseIndex: BigInt(base), baseChain: c.replica(1).chain(base), room: LOG_ENTRIES * PIECE },
        2,
      );
  const isFetched = (): boolean => state['fetchedFrom'] !== Infinity;
  fetch(state.committed - 1);
  fetch(state.committed - 1);
  t.ok(isFetched(), 'the answer that brings all may be lost');
  fetch(state.committed);
  t.notOk(isFetched(), 'it has asked behind that answer');
  for (let i = 0; i < 2 * LOG_ENTRIES; i++) {
    append();
    fetch(state.committed - 1);
    fetch(state.committed);
    t.notOk(isFetched() || state.retained.isActive, 'a spare asks again and again');
  }
  t.end();
});

t.test('one that has the whole snapshot from another source is waited for', (t) => {
  const { c, append, state, index } = handDriven();
  const at = stable(c, 1);
  t.ok(at > index);
  const { values } = c.history.filter(({ message, from }) => message.type === Fetch.type && from === 2).at(-1)!;
  const question = { ...values, baseIndex: BigInt(at), baseChain: c.replica(1).chain(at), room: 1 };
  while (state.committed < at + 2) append();
  // What was fetched before is forgotten.
  c.run(RESTORED_US);
  t.equal(state['fetchedFrom'], Infinity);
  const packets = c.replica(1).receive(Fetch, question, 0);
  t.strictSame([...new Set(packets.map(({ message }) => message.name))], ['Chunk']);
  t.equal(state['fetchedFrom'], at);
  t.end();
});

t.test('a replica of the previous version is offered a snapshot only with entries that are in the log', (t) => {
  const { append, ask, last, offered, index, state, c } = handDriven();
  for (let offset = 0; state.log.baseIndex <= index; ) {
    append();
    ask((offset = Math.min(last, offset + 1)));
  }
  t.ok(state.givenFrom <= index, 'what is cut is retained');
  t.equal(offered(0), index);
  c.replica(1).speaks = (replica) => (replica === 0 ? PREVIOUS_WIRE_VERSION : WIRE_VERSION);
  t.ok(offered(0) > index);
  t.equal(offered(2), index);
  t.end();
});

t.test('a log that is cut in the middle of a transfer is copied a piece at a time', (t) => {
  const BYTES = 4_000;
  const PIECE_BYTES_MAX = 2 * (1 << 16);
  const c = new Cluster(3, {
    limits: { logEntries: 1 << 12, logBytes: 2 << 20, operationBytes: BYTES, chunkBytes: PIECE, waiting: 1024 },
    datagramBytes: 256,
    machine: () => new Counting(),
    timings: { fetchTimeoutUs: 1_000_000 },
  });
  const alice = c.hand();
  let given = 0;
  c.give(alice, Request, alice.registration(10), 0, 1);
  c.run(20_000);
  c.isolate(2);
  const append = (): void => {
    given++;
    c.give(alice, Request, alice.request(100 + given, given, 'y'.repeat(BYTES - 100)), 0, 1);
    c.run(3_000);
  };
  const { state } = c.replica(1);
  while (stable(c, 1) === 0) append();
  const { index, chainHi, chainLo } = state.execution.stable;
  t.equal(state.log.matches(index, chainHi, chainLo), true);
  state.keepForTransfers(index);
  const { retained } = state;
  const { follow } = retained;
  let most = 0;
  let all = 0;
  retained.follow = (log, ...rest) => {
    const before = retained.endIndex;
    follow.call(retained, log, ...rest);
    all += retained.endIndex - before;
    if (state.log.fill() < 0.9) most = Math.max(most, retained.endIndex - before);
  };
  // It has no turn for a while in which it could do so.
  const { bound } = state;
  state.bound = () => undefined;
  while (state.log.fill() < 0.8) append();
  state.bound = bound;
  for (let i = 0; i < 40; i++) append();
  t.ok(state.log.baseIndex > index, 'the log is cut beyond what is fetched');
  t.ok(retained.baseIndex <= index, 'which is retained');
  t.ok(all * BYTES > 4 * PIECE_BYTES_MAX, `${all} entries were copied`);
  t.ok(most * BYTES <= PIECE_BYTES_MAX, `${most} at most at once`);
  t.end();
});
