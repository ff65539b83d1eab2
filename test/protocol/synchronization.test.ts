// Sync, reconcile and repair. View 0 of three: primary 0, member 1, spare 2.
import t from 'tap';
import {
  Chunk,
  Fetch,
  Reconcile,
  Reply,
  Request,
  SnapshotChunk,
  SnapshotFetch,
  SnapshotOffer,
  Sync,
  SyncAck,
} from '../../src/wire/messages.js';
import { ENVELOPE_BYTES } from '../../src/wire/envelope.js';
import type { Message } from '../../src/wire/layout.js';
import { Cluster, type ClusterOptions, type HandClient, type JournalMachine } from './harness.js';

interface Scene {
  readonly c: Cluster;
  readonly alice: HandClient;
  readonly bob: HandClient;
}

/** Two registered clients, and everybody agrees so far: index 2 is committed. */
function scene(options: ClusterOptions = {}): Scene {
  const c = new Cluster(3, options);
  const [alice, bob] = [c.hand(), c.hand()];
  c.give(alice, Request, alice.registration(10), 0, 1);
  c.give(bob, Request, bob.registration(20), 0, 1);
  c.run(20_000);
  return { c, alice, bob };
}

const journal = (c: Cluster, id: number): string[] => (c.replica(id).machine as JournalMachine).journal;

t.test(
  'the primary sends Sync{view, last index, chain, committed index and chain} to all replicas as heartbeat',
  (t) => {
    const { c } = scene();
    const before = c.history.length;
    c.run(10_000);
    const syncs = c.history.slice(before).filter((packet) => packet.message.type === Sync.type);
    t.strictSame(
      syncs.map((packet) => packet.to),
      [1, 2, 1, 2],
      'every 5 ms',
    );
    t.match(syncs[0]!.values, {
      view: 0,
      lastIndex: 2n,
      lastChain: c.replica(0).chain(2),
      committedIndex: 2n,
      committedChain: c.replica(0).chain(2),
    });
    t.end();
  },
);

t.test('at once when somebody waits for what is committed, but only if there is news, and not too often', (t) => {
  const { c, alice } = scene();
  const primary = c.replica(0);
  const syncs = (): unknown[] =>
    c.take({ message: Sync, to: 1 }).map(({ values }) => [values['lastIndex'], values['committedIndex']]);
  c.run(6_000);
  c.lose();
  c.give(alice, Request, alice.request(30, 1, 'a'), 0);
  t.strictSame(syncs(), [], 'nobody waits');
  primary.core.hurry(c.now, 20_000);
  c.pass(300);
  primary.tick();
  t.match(syncs(), [[3n, 2n]], 'what was appended');
  c.pass(300);
  primary.tick();
  t.strictSame(syncs(), [], 'no news');
  c.give(alice, Request, alice.request(31, 2, 'b'), 0);
  c.give(alice, Request, alice.request(32, 3, 'c'), 0);
  t.match(syncs(), [[4n, 2n]], 'the first one at once, the second one within 250 µs');
  c.pass(250);
  primary.tick();
  t.match(syncs(), [[5n, 2n]]);
  c.run(30_000);
  c.lose();
  c.give(alice, Request, alice.request(33, 4, 'd'), 0);
  t.strictSame(syncs(), [], 'later nobody waits any more');
  t.end();
});

t.test('at least every K entries under load', (t) => {
  const { c, alice } = scene({ timings: { syncEntries: 4 } });
  c.lose();
  for (let i = 1; i <= 8; i++) c.give(alice, Request, alice.request(30 + i, i, 'x'), 0);
  t.strictSame(
    c.take({ message: Sync, to: 1 }).map((packet) => packet.values['lastIndex']),
    [6n, 10n],
  );
  t.end();
});

t.test(
  'a quorum member answers with SyncAck{matched index}; committed is the smallest matched index over the quorum',
  (t) => {
    const { c, alice } = scene();
    c.give(alice, Request, alice.request(30, 1, 'a'), 0, 1);
    c.give(alice, Request, alice.request(31, 2, 'b'), 0);
    c.lose();
    t.match(
      c.replica(1).answer(
        Sync,
        {
          view: 0,
          lastIndex: 3n,
          lastChain: c.replica(0).chain(3),
          committedIndex: 2n,
          committedChain: c.replica(0).chain(2),
        },
        0,
      ).values,
      { view: 0, matchedIndex: 3n },
    );
    t.equal(c.replica(0).state.committed, 2);
    c.replica(0).receive(SyncAck, { view: 0, matchedIndex: 4n }, 2);
    t.equal(c.replica(0).state.committed, 2, 'a spare does not count');
    c.replica(0).receive(SyncAck, { view: 1, matchedIndex: 4n }, 1);
    t.equal(c.replica(0).state.committed, 2, 'nor an answer of another view');
    c.replica(0).receive(SyncAck, { view: 0, matchedIndex: 5n }, 1);
    t.equal(c.replica(0).state.committed, 2, 'nor one beyond the log');
    c.replica(0).receive(SyncAck, { view: 0, matchedIndex: 3n }, 1);
    t.equal(c.replica(0).state.committed, 3);
    c.replica(0).receive(SyncAck, { view: 0, matchedIndex: 2n }, 1);
    t.equal(c.replica(0).state.committed, 3, 'it does not go back');
    t.end();
  },
);

t.test('with five replicas, committed waits for every member', (t) => {
  const c = new Cluster(5);
  const alice = c.hand();
  t.strictSame(c.replica(0).state.views.members(0), [0, 1, 2]);
  c.give(alice, Request, alice.registration(10), 0, 1, 2);
  for (const [from, committed] of [
    [1, 0],
    [3, 0],
    [4, 0],
    [2, 1],
  ] as const) {
    c.replica(0).receive(SyncAck, { view: 0, matchedIndex: 1n }, from);
    t.equal(c.replica(0).state.committed, committed, `after replica ${from}`);
  }
  t.end();
});

t.test(
  'reconcile: a member that differs asks the primary for what follows synced, and answers when it is repaired',
  (t) => {
    const { c, alice, bob } = scene();
    c.give(alice, Request, alice.request(100, 1, 'a'), 0);
    c.give(bob, Request, bob.request(200, 1, 'b'), 0, 1);
    const chain = c.replica(0).chain(4);
    c.lose();
    const reconcile = { view: 0, session: bob.session, lane: 0, request: 1, index: 4n, chain };
    const asked = c.replica(1).receive(Reconcile, reconcile, bob.endpoint);
    t.strictSame(
      asked.map(({ to, message }) => [to, message.name]),
      [[0, 'Fetch']],
    );
    t.match(asked[0]!.values, { view: 0, baseIndex: 2n, baseChain: c.replica(0).chain(2) });
    c.deliver({ message: Fetch });
    const chunk = c.take({ message: Chunk })[0]!;
    t.match(chunk.values, { baseIndex: 2n, lastIndex: 4n, lastChain: chain }, "up to the primary's current end");
    c.arrive(chunk);
    t.strictSame(c.replica(1).operations, ['R', 'R', 'a', 'b']);
    t.ok(
      c
        .take({ to: bob.endpoint, message: Reply })
        .some((packet) => packet.values['index'] === 4n && packet.values['chain'] === chain),
      'the reply that the client waits for',
    );
    t.equal(c.replica(1).state.synced, 4);
    t.end();
  },
);

t.test('there is no blocking status: a lost repair reply leaves nothing stuck', (t) => {
  const { c, alice } = scene();
  c.give(alice, Request, alice.request(100, 1, 'a'), 0);
  c.lose();
  c.loses = ({ message }) => message.type === Chunk.type;
  const reconcile = { view: 0, session: alice.session, lane: 0, request: 1, index: 3n, chain: c.replica(0).chain(3) };
  c.replica(1).receive(Reconcile, reconcile, alice.endpoint);
  c.settle();
  t.equal(c.replica(1).last, 2);
  t.equal(
    c.replica(1).answer(Request, alice.request(150, 1, 'a', { lane: 1 }), alice.endpoint).message,
    Reply,
    'requests are handled as usual',
  );
  c.heal();
  c.run(20_000);
  t.strictSame(c.replica(1).operations.slice(0, 3), ['R', 'R', 'a'], 'the fetch is repeated');
  t.end();
});

t.test('repair rule: if P is a prefix of the local log, change nothing', (t) => {
  const { c, alice } = scene();
  c.give(alice, Request, alice.request(100, 1, 'a'), 0, 1);
  c.lose();
  // The primary hands over its log up to 3; before that arrives both append two more, which the clients take for
  // committed.
  c.replica(0).receive(Fetch, { view: 0, logView: 0, baseIndex: 2n, baseChain: c.replica(0).chain(2) }, 1);
  const late = c.take({ message: Chunk })[0]!;
  c.give(alice, Request, alice.request(101, 2, 'b'), 0, 1);
  c.give(alice, Request, alice.request(102, 3, 'c'), 0, 1);
  const chain = c.replica(1).chain(5);
  c.arrive(late);
  t.equal(c.replica(1).last, 5, 'a late short reply erases nothing');
  t.equal(c.replica(1).chain(5), chain);
  t.equal(c.replica(1).counter('entries_cut'), 0);
  t.equal(c.replica(1).state.synced, 3, "synced is P's end, not the log's");
  t.end();
});

t.test(
  "repair rule: otherwise cut at the first entry that differs, append P's rest, and set synced to P's end",
  (t) => {
    const { c, alice, bob } = scene();
    c.give(alice, Request, alice.request(100, 1, 'a'), 0, 1);
    c.give(bob, Request, bob.request(110, 1, 'wrong'), 1);
    c.give(bob, Request, bob.request(105, 1, 'right'), 0);
    c.give(alice, Request, alice.request(120, 2, 'b'), 0);
    c.lose();
    c.run(20_000);
    t.strictSame(
      c.replica(1).operations,
      ['R', 'R', 'a', 'right', 'b'],
      "the same request under the primary's timestamp, once",
    );
    t.equal(c.replica(1).chain(5), c.replica(0).chain(5));
    t.equal(c.replica(1).state.synced, 5);
    t.equal(c.replica(1).counter('entries_cut'), 1, 'nothing before the difference was cut');
    t.equal(c.replica(1).counter('entries_kept'), 0);
    t.end();
  },
);

t.test(
  'own entries behind the repaired part whose key is larger and whose request is not in it are kept behind it',
  (t) => {
    const { c, alice, bob } = scene();
    const carol = c.hand();
    c.give(carol, Request, carol.registration(30), 0, 1);
    c.run(20_000);
    c.give(alice, Request, alice.request(100, 1, 'a'), 0);
    c.give(bob, Request, bob.request(90, 1, 'early'), 1);
    c.give(carol, Request, carol.request(200, 1, 'later'), 1);
    c.lose();
    c.replica(1).receive(
      Reconcile,
      { view: 0, session: alice.session, lane: 0, request: 1, index: 4n, chain: c.replica(0).chain(4) },
      alice.endpoint,
    );
    c.deliver({ message: Fetch });
    c.deliver({ message: Chunk });
    t.strictSame(c.replica(1).operations, ['R', 'R', 'R', 'a', 'later'], '"early" has a smaller key and goes');
    t.equal(c.replica(1).state.synced, 4, 'what is kept is not synced');
    const acknowledged = c.take({ to: carol.endpoint, message: Reply })[0]!;
    t.match(acknowledged.values, { index: 5n, chain: c.replica(1).chain(5) }, 'the ack covers the whole resulting log');
    t.equal(
      c.replica(1).answer(Request, bob.request(90, 1, 'early'), bob.endpoint).message.name,
      'Reject',
      'what was cut is no longer known',
    );
    c.give(carol, Request, carol.request(200, 1, 'later'), 0);
    t.equal(c.replica(0).chain(5), c.replica(1).chain(5), 'and the logs meet');
    t.end();
  },
);

t.test('a chunk of another view, of another starting log, or on another base changes nothing', (t) => {
  const { c, alice } = scene();
  c.give(alice, Request, alice.request(100, 1, 'a'), 0);
  c.lose();
  c.replica(0).receive(Fetch, { view: 0, logView: 0, baseIndex: 2n, baseChain: c.replica(0).chain(2) }, 1);
  const { values } = c.take({ message: Chunk })[0]!;
  for (const wrong of [{ view: 1 }, { logView: 1 }, { baseChain: 5n }, { baseIndex: 1n }, { baseIndex: 9n }]) {
    t.strictSame(c.replica(1).receive(Chunk, { ...values, ...wrong }, 0), []);
    t.equal(c.replica(1).last, 2);
  }
  c.replica(1).receive(Chunk, values, 0);
  t.equal(c.replica(1).last, 3);
  t.end();
});

t.test('a chunk whose entries end in the middle is taken as far as it is whole', (t) => {
  const { c, alice } = scene();
  c.give(alice, Request, alice.request(100, 1, 'a'), 0);
  c.give(alice, Request, alice.request(101, 2, 'b'), 0);
  c.lose();
  c.replica(0).receive(Fetch, { view: 0, logView: 0, baseIndex: 2n, baseChain: c.replica(0).chain(2) }, 1);
  const { values } = c.take({ message: Chunk })[0]!;
  const entries = values['entries'] as Uint8Array;
  c.replica(1).receive(Chunk, { ...values, entries: entries.slice(0, entries.length - 1) }, 0);
  t.strictSame(c.replica(1).operations, ['R', 'R', 'a']);
  t.equal(c.replica(1).state.synced, 3);
  t.end();
});

t.test('a member that sees a mismatch by itself does not wait for a client to tell it', (t) => {
  const { c, alice, bob } = scene();
  c.give(alice, Request, alice.request(100, 1, 'a'), 0);
  c.give(bob, Request, bob.request(101, 1, 'b'), 1);
  c.lose();
  t.strictSame(
    c
      .replica(1)
      .receive(
        Sync,
        {
          view: 0,
          lastIndex: 3n,
          lastChain: c.replica(0).chain(3),
          committedIndex: 2n,
          committedChain: c.replica(0).chain(2),
        },
        0,
      )
      .map(({ message }) => message.name),
    ['Fetch', 'SyncAck'],
    'a Sync',
  );
  const other = scene();
  other.c.give(other.alice, Request, other.alice.request(100, 1, 'a'), 1);
  other.c.lose();
  t.strictSame(
    other.c
      .replica(1)
      .receive(Request, other.alice.request(150, 1, 'a'), other.alice.endpoint)
      .map(({ message }) => message.name),
    ['Reply', 'Fetch'],
    'a retry under another timestamp',
  );
  t.end();
});

t.test('a transfer comes in chunks', (t) => {
  const { c, alice } = scene({ limits: { chunkBytes: 200 } });
  for (let i = 1; i <= 40; i++) c.give(alice, Request, alice.request(100 + i, i, `operation ${i}`), 0);
  c.lose();
  const before = c.replica(0).counter('fetches_answered');
  c.run(20_000);
  t.equal(c.replica(1).chain(42), c.replica(0).chain(42));
  t.ok(c.replica(0).counter('fetches_answered') - before >= 8, 'several');
  t.ok(
    c.history.every(
      (packet) => packet.message.type !== Chunk.type || (packet.values['entries'] as Uint8Array).length <= 200,
    ),
  );
  t.end();
});

t.test(
  'no message is longer than a datagram, but for one operation that is; and a transfer takes no more questions for it',
  (t) => {
    const datagramBytes = 256;
    const transfer = (
      longest: number | undefined,
    ): { fetches: number; chunks: number; tooLong: number[]; c: Cluster } => {
      const { c, alice } = scene({
        limits: { chunkBytes: 2000 },
        ...(longest === undefined ? {} : { datagramBytes: longest }),
        timings: { orderHoldUs: 1_000_000 },
      });
      c.lose();
      for (let i = 1; i <= 200; i++)
        c.give(alice, Request, alice.request(100 + i, i, i === 100 ? 'x'.repeat(500) : `operation ${i}`), 0);
      c.lose();
      const before = c.history.length;
      c.run(40_000);
      t.equal(c.replica(1).chain(202), c.replica(0).chain(202));
      t.equal(c.replica(2).chain(202), c.replica(0).chain(202), 'the spare as well');
      const sent = c.history.slice(before);
      return {
        c,
        fetches: sent.filter((packet) => packet.from === 1 && packet.message.type === Fetch.type).length,
        chunks: sent.filter((packet) => packet.to === 1 && packet.message.type === Chunk.type).length,
        tooLong: sent
          .filter(({ bytes }) => ENVELOPE_BYTES + bytes.length > datagramBytes)
          .map(({ bytes }) => bytes.length),
      };
    };
    const short = transfer(datagramBytes);
    t.ok(
      short.tooLong.every((length) => length > 500 && length < 700),
      `only the operation of 500 bytes is longer: ${short.tooLong.join(', ')}`,
    );
    t.ok(short.tooLong.length > 0 && short.tooLong.length <= 4, 'and travels alone');
    const long = transfer(60_000);
    t.ok(short.chunks > 5 * long.chunks, `${short.chunks} chunks in place of ${long.chunks}`);
    t.ok(
      short.fetches <= long.fetches + 3,
      `${short.fetches} questions in place of ${long.fetches}: answers come in as many datagrams as they take`,
    );
    t.end();
  },
);

t.test('a lost chunk of an answer costs one question more, not the transfer; a version 3 asker gets one chunk', (t) => {
  const { c, alice } = scene({ limits: { chunkBytes: 2000 }, datagramBytes: 256 });
  c.lose();
  for (let i = 1; i <= 40; i++) c.give(alice, Request, alice.request(100 + i, i, `operation ${i}`), 0);
  c.lose();
  let chunks = 0;
  c.loses = ({ to, message }) => to === 1 && message.type === Chunk.type && ++chunks === 3;
  c.run(40_000);
  t.equal(c.replica(1).chain(42), c.replica(0).chain(42));
  t.equal(c.replica(0).state.view, 0);
  const one = c
    .replica(0)
    .receive(Fetch, { view: 0, logView: 0, baseIndex: 2n, baseChain: c.replica(0).chain(2) }, 1)
    .filter(({ message }) => message.type === Chunk.type);
  t.strictSame(
    one.map(({ values }) => values['more']),
    [0],
    'room 0 is what version 3 says',
  );
  const several = c
    .replica(0)
    .receive(Fetch, { view: 0, logView: 0, baseIndex: 2n, baseChain: c.replica(0).chain(2), room: 60_000 }, 1)
    .filter(({ message }) => message.type === Chunk.type);
  t.ok(several.length > 5, 'no more than this cluster gives at once');
  t.ok(several.reduce((sum, { values }) => sum + (values['entries'] as Uint8Array).length, 0) <= 2_000);
  t.strictSame(
    several.map(({ values }) => values['more']),
    [...several.slice(1).map(() => 1), 0],
  );
  t.end();
});

/** Like `Cluster.run`, but what is in flight arrives in the opposite order. */
function runBackwards(c: Cluster, us: number): void {
  for (let passed = 0; passed < us; passed += 1000) {
    c.pass(1000);
    for (let packets = c.take(); packets.length > 0; packets = c.take())
      for (const packet of packets.reverse()) c.arrive(packet);
  }
}

t.test('an answer whose chunks all overtake each other is taken as a whole, without another question', (t) => {
  const { c, alice } = scene({ limits: { chunkBytes: 4000 }, datagramBytes: 256 });
  c.lose();
  for (let i = 1; i <= 40; i++) c.give(alice, Request, alice.request(100 + i, i, `operation ${i}`), 0);
  c.lose();
  const before = c.history.length;
  const sent = (message: Message<any>, to: number): number =>
    c.history.slice(before).filter((packet) => packet.message.type === message.type && packet.to === to).length;
  for (let ticks = 0; ticks < 100 && c.replica(1).last < 42; ticks++) runBackwards(c, 1000);
  t.equal(c.replica(1).chain(42), c.replica(0).chain(42));
  t.ok(sent(Chunk, 1) > 8, `${sent(Chunk, 1)} chunks`);
  t.equal(
    c.history.slice(before).filter(({ from, message }) => from === 1 && message.type === Fetch.type).length,
    1,
    'one question',
  );
  t.end();
});

for (const [what, loses, backwards] of [
  ['nothing is lost', undefined, false],
  ['all pieces overtake each other', undefined, true],
  ['a piece is lost', 5, false],
] as const)
  t.test(`the pieces of a snapshot do not wait for a timeout: ${what}`, (t) => {
    const timings = { fetchTimeoutUs: 1_000_000 };
    const { c, alice } = scene({ limits: { logEntries: 16, chunkBytes: 1000 }, datagramBytes: 256, timings });
    c.loses = ({ to, message }) => to === 2 && (message.type === Chunk.type || message.type === SnapshotOffer.type);
    for (let i = 1; i <= 200; i++) {
      c.give(alice, Request, alice.request(100 + i, i, `${i}${'y'.repeat(40)}`), 0, 1);
      c.run(6000);
    }
    c.heal();
    let pieces = 0;
    c.loses = ({ message }) => message.type === SnapshotChunk.type && ++pieces === loses;
    const run = backwards ? runBackwards : (cluster: Cluster, us: number): void => cluster.run(us);
    const before = c.history.length;
    const isOffered = (): boolean =>
      c.history.slice(before).some(({ to, message }) => to === 2 && message.type === SnapshotOffer.type);
    for (let ticks = 0; ticks < 3000 && !isOffered(); ticks++) run(c, 1000);
    t.ok(isOffered());
    let ticks = 0;
    for (; ticks < 3000 && c.replica(2).counter('snapshots_installed') === 0; ticks++) run(c, 1000);
    t.ok(pieces > 20, `${pieces} pieces`);
    t.ok(ticks < 100, `${ticks} ms`);
    t.strictSame(journal(c, 2).slice(0, 100), journal(c, 0).slice(0, 100));
    t.end();
  });

t.test('a snapshot comes in pieces that datagrams carry', (t) => {
  const datagramBytes = 256;
  const { c, alice } = scene({ limits: { logEntries: 16, chunkBytes: 1000 }, datagramBytes });
  c.loses = ({ to, message }) => to === 2 && (message.type === Chunk.type || message.type === SnapshotOffer.type);
  for (let i = 1; i <= 200; i++) {
    c.give(alice, Request, alice.request(100 + i, i, `${i}${'y'.repeat(40)}`), 0, 1);
    c.run(6000);
  }
  t.equal(c.replica(2).last, 2);
  c.heal();
  const before = c.history.length;
  c.run(100_000);
  t.strictSame(journal(c, 2), journal(c, 0));
  const sent = c.history.slice(before);
  const pieces = sent.filter(({ message }) => message.type === SnapshotChunk.type);
  t.ok(
    pieces.length > 20 && pieces.length >= 4 * sent.filter(({ message }) => message.type === SnapshotFetch.type).length,
    `${pieces.length} pieces`,
  );
  t.ok(
    sent.every(({ bytes }) => ENVELOPE_BYTES + bytes.length <= datagramBytes),
    'none is longer than a datagram',
  );
  t.end();
});

t.test('spares fetch committed entries, from a member that is not the primary, and only those', (t) => {
  const { c, alice } = scene();
  c.give(alice, Request, alice.request(100, 1, 'a'), 0, 1);
  const before = c.history.length;
  c.run(20_000);
  c.give(alice, Request, alice.request(101, 2, 'b'), 0, 1);
  t.strictSame(journal(c, 2), ['a'], 'so that they can take over at once');
  t.strictSame(
    [
      ...new Set(
        c.history
          .slice(before)
          .filter((packet) => packet.from === 2 && packet.message.type === Fetch.type)
          .map((packet) => packet.to),
      ),
    ],
    [1],
  );
  c.lose();
  const chunk = (): unknown =>
    c
      .replica(1)
      .receive(Fetch, { view: 0, logView: 0, baseIndex: 2n, baseChain: c.replica(1).chain(2) }, 2)
      .map((packet) => packet.values['lastIndex']);
  t.strictSame(chunk(), [3n], 'a member hands over what is committed, not the rest of its log');
  t.end();
});

t.test('a spare executes what it fetched at once, not at the next Sync; and no more than is committed', (t) => {
  const { c, alice } = scene();
  c.loses = ({ from, to, message }) => from === 0 && to === 2 && message.type === Sync.type;
  for (let i = 1; i <= 3; i++) c.give(alice, Request, alice.request(100 + i, i, `${i}`), 0, 1);
  c.run(20_000);
  t.strictSame(journal(c, 2), [], 'it does not know what is committed');
  c.lose();
  const primary = c.replica(0);
  const [fetch] = c
    .replica(2)
    .receive(
      Sync,
      { view: 0, lastIndex: 5n, lastChain: primary.chain(5), committedIndex: 4n, committedChain: primary.chain(4) },
      0,
    )
    .filter(({ message }) => message.type === Fetch.type);
  c.arrive(fetch!);
  c.settle();
  t.equal(c.replica(2).last, 5, 'the member knew of one more that is committed');
  t.strictSame(journal(c, 2), ['1', '2'], 'what the primary said, and nobody else');
  t.end();
});

t.test('a replica that hears its primary and does not get what is committed is out of touch', (t) => {
  const WITHIN_US = 500_000;
  const { c, alice } = scene();
  const isInTouch = (): boolean => c.replica(2).core.isInTouch(c.now, WITHIN_US);
  t.ok(isInTouch());
  c.loses = ({ to, message }) => to === 2 && message.type !== Sync.type;
  let serial = 0;
  const more = (): void => {
    serial++;
    c.give(alice, Request, alice.request(1_000_000 * serial, serial, 'x'), 0, 1);
    c.run(100_000);
  };
  const { committed } = c.replica(2).state;
  for (let i = 0; i < 4; i++) more();
  t.ok(c.replica(0).state.committed > committed);
  t.equal(c.replica(2).state.committed, committed);
  t.ok(isInTouch(), 'for some time that happens');
  for (let i = 0; i < 3; i++) more();
  t.notOk(isInTouch(), 'longer it does not');
  t.ok(c.replica(1).core.isInTouch(c.now, WITHIN_US));
  c.loses = () => false;
  c.run(200_000);
  t.equal(c.replica(2).state.committed, c.replica(0).state.committed);
  t.ok(isInTouch(), 'it has caught up');
  t.end();
});

t.test('when that member does not answer, a spare asks the primary', (t) => {
  const { c, alice } = scene();
  c.give(alice, Request, alice.request(100, 1, 'a'), 0, 1);
  c.loses = ({ from, to, message }) => from === 1 && to === 2 && message.type === Chunk.type;
  c.run(40_000);
  t.strictSame(journal(c, 2), ['a']);
  t.equal(c.replica(2).state.view, 0);
  t.end();
});

t.test('a spare that lags more than the log is kept gets the snapshot', (t) => {
  const { c, alice } = scene({ limits: { logEntries: 16 } });
  c.loses = ({ to, message }) => to === 2 && (message.type === Chunk.type || message.type === SnapshotOffer.type);
  for (let i = 1; i <= 40; i++) {
    c.give(alice, Request, alice.request(100 + i, i, `${i}`), 0, 1);
    c.run(6000);
  }
  t.equal(c.replica(2).last, 2);
  t.ok(c.replica(0).state.log.baseIndex > 2);
  c.heal();
  c.run(100_000);
  t.strictSame(journal(c, 2), journal(c, 0));
  t.ok(c.replica(2).counter('snapshots_installed') >= 1);
  t.equal(c.replica(2).chain(c.replica(0).last), c.replica(0).chain(c.replica(0).last));
  t.equal(c.replica(0).state.view, 0, 'all in the same view');
  t.end();
});
