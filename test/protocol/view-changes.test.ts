// View changes and the return of a replica. Of three: view 0 = primary 0, member 1; 1 = 1, 2; 2 = 2, 0; 3 = 0, 2; 4 =
// 1, 0; 5 = 2, 1.
import t from 'tap';
import {
  Chunk,
  Fetch,
  Plea,
  Probe,
  ProbeReply,
  ReplicaStatus,
  ReplyStatus,
  Request,
  SnapshotOffer,
  Sync,
  SyncAck,
  ViewChange,
  Vote,
} from '../../src/wire/messages.js';
import type { RestoreInPieces } from '../../src/machine/state-machine.js';
import { Cluster, JournalMachine, type ClusterOptions, type HandClient, type Values } from './harness.js';

const journal = (c: Cluster, id: number): string[] => (c.replica(id).machine as JournalMachine).journal;

/** One client, registered, and its first request 'a' committed everywhere: index 2. */
function scene(options: ClusterOptions = {}): { c: Cluster; alice: HandClient } {
  const c = new Cluster(3, options);
  const alice = c.hand();
  c.give(alice, Request, alice.registration(10), 0, 1);
  c.give(alice, Request, alice.request(20, 1, 'a'), 0, 1);
  c.run(30_000);
  c.lose();
  return { c, alice };
}

/** What a replica would vote now. */
function voteOf(c: Cluster, id: number, view: number): Values {
  const { state, last } = { state: c.replica(id).state, last: c.replica(id).last };
  return {
    view,
    logView: state.logView,
    lastIndex: BigInt(last),
    lastChain: c.replica(id).chain(last),
    committedIndex: BigInt(state.committed),
    committedChain: c.replica(id).chain(state.committed),
  };
}

t.test(
  'promise: stores view = v durably, then sends Vote{v, logView, last index, chain, committed} to primary(v)',
  (t) => {
    const { c } = scene();
    const replica = c.replica(2);
    replica.disk.held = true;
    t.strictSame(replica.receive(ViewChange, { view: 4 }, 0), [], 'no vote before the promise is durable');
    replica.disk.release();
    t.match(replica.disk.hardState, { view: 4, logView: 0, incarnation: 1 });
    const votes = c.take({ from: 2 });
    t.strictSame(
      votes.map(({ to, message }) => [to, message.name]),
      [[1, 'Vote']],
    );
    t.match(votes[0]!.values, { ...voteOf(c, 2, 4), lastIndex: 2n, committedIndex: 2n });
    t.end();
  },
);

t.test('promise: stops acknowledging in older views for good', (t) => {
  const { c, alice } = scene();
  const member = c.replica(1);
  member.receive(ViewChange, { view: 3 }, 2);
  t.match(member.answer(Request, alice.request(30, 2, 'b'), alice.endpoint).values, { reason: 3, view: 3 });
  t.strictSame(
    member.receive(
      Sync,
      { view: 0, lastIndex: 2n, lastChain: member.chain(2), committedIndex: 2n, committedChain: member.chain(2) },
      0,
    ),
    [],
    'no SyncAck either',
  );
  t.strictSame(member.receive(ViewChange, { view: 2 }, 2), [], 'and promises no lower view');
  t.equal(member.state.view, 3);
  member.crash();
  member.start(true);
  t.equal(member.state.view, 3, 'nor after a restart');
  t.end();
});

t.test('primary(v), with votes of f+1 replicas, goes normal and sends StartView; a lone vote is not enough', (t) => {
  const { c } = scene();
  const primary = c.replica(1);
  primary.receive(ViewChange, { view: 1 }, 0);
  t.equal(primary.state.status, ReplicaStatus.viewChange);
  const sent = primary.receive(Vote, voteOf(c, 2, 1), 2);
  t.equal(primary.state.status, ReplicaStatus.normal);
  t.match(primary.disk.hardState, { view: 1, incarnation: 1 });
  t.equal(primary.state.logView, 1);
  t.strictSame(
    sent
      .filter(({ message }) => message.type === Sync.type)
      .map(({ to, values }) => [to, values['view'], values['lastIndex']]),
    [
      [0, 1, 2n],
      [2, 1, 2n],
    ],
  );
  t.end();
});

t.test("the same replica's vote twice is one vote", (t) => {
  const c = new Cluster(5);
  const primary = c.replica(1);
  primary.receive(ViewChange, { view: 1 }, 0);
  primary.receive(Vote, voteOf(c, 2, 1), 2);
  primary.receive(Vote, voteOf(c, 2, 1), 2);
  t.equal(primary.state.status, ReplicaStatus.viewChange);
  primary.receive(Vote, voteOf(c, 3, 1), 3);
  t.equal(primary.state.status, ReplicaStatus.normal);
  t.end();
});

t.test('choice of the log: the vote of the primary of the highest logView if present', (t) => {
  const { c, alice } = scene();
  c.give(alice, Request, alice.request(30, 2, 'only at the member'), 1);
  c.give(alice, Request, alice.request(31, 2, 'at the primary'), 0);
  c.lose();
  // View 4: primary 1, which has a log of its own as long as that of the old primary.
  c.replica(1).receive(ViewChange, { view: 4 }, 2);
  c.replica(0).receive(ViewChange, { view: 4 }, 2);
  c.settle();
  t.strictSame(c.replica(1).operations, ['R', 'a', 'at the primary']);
  t.equal(c.replica(1).state.logView, 4);
  t.end();
});

t.test("choice of the log: else any vote of a member of that view's quorum; a spare's log may lag", (t) => {
  const { c, alice } = scene();
  c.give(alice, Request, alice.request(30, 2, 'b'), 0, 1);
  c.lose();
  // The primary is gone; the spare 2 leads view 5 and its own log lacks 'b', which may be committed.
  c.isolate(0);
  c.replica(2).receive(ViewChange, { view: 5 }, 1);
  c.replica(1).receive(ViewChange, { view: 5 }, 2);
  c.settle();
  t.strictSame(c.replica(2).operations, ['R', 'a', 'b']);
  t.strictSame(journal(c, 2), ['a', 'b']);
  t.equal(c.replica(2).state.status, ReplicaStatus.normal);
  t.end();
});

t.test('choice of the log: the highest logView wins over a longer log of an older view', (t) => {
  const { c, alice } = scene();
  // The old primary goes on alone in view 0 while the others start view 1 and lose its entries.
  c.isolate(0);
  c.replica(1).receive(ViewChange, { view: 1 }, 2);
  c.replica(2).receive(ViewChange, { view: 1 }, 1);
  c.settle();
  for (let i = 2; i <= 5; i++) c.give(alice, Request, alice.request(30 + i, i, 'lost'), 0);
  c.give(alice, Request, alice.request(50, 2, 'kept', { view: 1 }), 1, 2);
  c.heal();
  c.lose();
  c.replica(0).receive(ViewChange, { view: 3 }, 1);
  c.replica(2).receive(ViewChange, { view: 3 }, 1);
  c.settle();
  t.strictSame(c.replica(0).operations, ['R', 'a', 'kept']);
  t.equal(c.replica(0).state.logView, 3);
  t.strictSame(journal(c, 0), ['a', 'kept'], 'executed but dropped entries at an old primary are rolled back');
  t.ok(c.replica(0).counter('rollbacks') >= 1);
  t.end();
});

t.test(
  "choice of the log: the highest logView wins, even a spare's over a member's that did not start that view",
  (t) => {
    const { c, alice } = scene();
    // 'b' may be committed in view 0. View 1 (1, 2) starts from the votes of 0 and 1; its member 2 never hears of it.
    c.give(alice, Request, alice.request(30, 2, 'b'), 0, 1);
    c.lose();
    c.isolate(2);
    c.replica(1).receive(ViewChange, { view: 1 }, 0);
    c.replica(0).receive(ViewChange, { view: 1 }, 1);
    c.settle();
    t.equal(c.replica(0).state.logView, 1);
    // Then 1 is gone, and 0 leads view 3 with the vote of 2.
    c.isolate(1);
    c.replica(0).receive(ViewChange, { view: 3 }, 2);
    c.replica(2).receive(ViewChange, { view: 3 }, 0);
    c.settle();
    t.strictSame(
      [0, 2].map((id) => c.replica(id).operations),
      [
        ['R', 'a', 'b'],
        ['R', 'a', 'b'],
      ],
    );
    t.strictSame(
      [0, 2].map((id) => c.replica(id).state.logView),
      [3, 3],
    );
    t.end();
  },
);

t.test('it fetches what it lacks, checking that the last chain is the one in the vote', (t) => {
  const { c } = scene();
  const primary = c.replica(2);
  primary.receive(ViewChange, { view: 5 }, 1);
  const vote = { ...voteOf(c, 1, 5), lastIndex: 3n, lastChain: 77n };
  const asked = primary.receive(Vote, vote, 1).filter(({ message }) => message.type === Fetch.type);
  t.match(asked[0]!.values, { view: 5, logView: 0, baseIndex: 2n });
  const entry = Buffer.alloc(2 + 24 + 1);
  entry.writeUInt16BE(1, 0);
  entry.writeBigUInt64BE(900n, 2);
  primary.receive(
    Chunk,
    {
      view: 5,
      logView: 0,
      baseIndex: 2n,
      baseChain: primary.chain(2),
      lastIndex: 3n,
      lastChain: 77n,
      entries: new Uint8Array(entry),
    },
    1,
  );
  t.equal(primary.state.status, ReplicaStatus.viewChange);
  t.equal(primary.last, 2, 'its own log stays as it is: its vote stands for that one');
  t.ok(primary.transitions.some((line) => line.startsWith('install-failed')));
  t.end();
});

t.test('a log that this replica could not hold is not installed: limits differ', (t) => {
  const { c } = scene({ limits: { operationBytes: 100 } });
  const primary = c.replica(2);
  primary.receive(ViewChange, { view: 5 }, 1);
  primary.receive(Vote, { ...voteOf(c, 1, 5), lastIndex: 4n, lastChain: 77n }, 1);
  const entry = Buffer.alloc(2 + 24 + 101);
  entry.writeUInt16BE(101, 0);
  entry.writeBigUInt64BE(900n, 2);
  primary.receive(
    Chunk,
    {
      view: 5,
      logView: 0,
      baseIndex: 2n,
      baseChain: primary.chain(2),
      lastIndex: 4n,
      lastChain: 77n,
      entries: new Uint8Array(entry),
    },
    1,
  );
  t.ok(primary.transitions.some((line) => line.startsWith('install-failed') && line.includes('limits differ')));
  t.equal(primary.last, 2);
  t.end();
});

t.test('if that replica is lost meanwhile, another vote that qualifies', (t) => {
  const c = new Cluster(5);
  const alice = c.hand();
  c.give(alice, Request, alice.registration(10), 0, 1, 2);
  c.lose();
  const primary = c.replica(4);
  const view = c.replica(0).state.views.next(0, 0b11111, 4, 0);
  c.isolate(0);
  c.loses = ({ from, message }) => from === 1 && message.type === Chunk.type;
  primary.receive(ViewChange, { view }, 1);
  c.replica(1).receive(ViewChange, { view }, 4);
  c.replica(2).receive(ViewChange, { view }, 4);
  c.deliver({ from: 1, message: Vote });
  c.deliver({ from: 2, message: Vote });
  t.strictSame(
    c.history.filter(({ message, from }) => from === 4 && message.type === Fetch.type).map(({ to }) => to),
    [1],
  );
  for (let ms = 0; ms < 60 && primary.state.status !== ReplicaStatus.normal; ms++) {
    c.pass(1000);
    c.settle({ message: Fetch });
    c.settle({ message: Chunk });
  }
  t.equal(primary.state.status, ReplicaStatus.normal);
  t.strictSame(primary.operations, ['R']);
  t.equal(primary.state.view, view);
  t.end();
});

t.test('one starting log per view: later votes change nothing', (t) => {
  const { c, alice } = scene();
  c.give(alice, Request, alice.request(30, 2, 'late'), 0);
  c.lose();
  const primary = c.replica(1);
  primary.receive(ViewChange, { view: 1 }, 2);
  primary.receive(Vote, voteOf(c, 2, 1), 2);
  t.equal(primary.state.status, ReplicaStatus.normal);
  const chain = primary.chain(2);
  const sent = primary.receive(Vote, voteOf(c, 0, 1), 0);
  t.strictSame(
    sent.map(({ to, message }) => [to, message.name]),
    [[0, 'Sync']],
    'the late voter is told of the view that runs',
  );
  t.equal(primary.last, 2);
  t.equal(primary.chain(2), chain);
  t.equal(primary.counter('views_installed'), 1);
  t.end();
});

t.test('a vote for another primary, or of a log that is not older than the view, does not count', (t) => {
  const { c } = scene();
  const primary = c.replica(1);
  primary.receive(ViewChange, { view: 1 }, 0);
  primary.receive(Vote, { ...voteOf(c, 2, 1), logView: 1 }, 2);
  primary.receive(Vote, voteOf(c, 2, 2), 2);
  primary.receive(Vote, { ...voteOf(c, 2, 1), committedIndex: 9n }, 2);
  t.equal(primary.state.status, ReplicaStatus.viewChange);
  t.equal(primary.state.view, 1);
  t.end();
});

t.test('a replica on StartView adopts that log, stores view = logView = v, goes normal; members acknowledge', (t) => {
  const { c, alice } = scene();
  c.give(alice, Request, alice.request(30, 2, 'b'), 0, 1);
  c.lose();
  c.isolate(0);
  c.replica(1).receive(ViewChange, { view: 1 }, 2);
  c.replica(2).receive(ViewChange, { view: 1 }, 1);
  c.settle();
  t.match(c.replica(2).disk.hardState, { view: 1, incarnation: 1 });
  t.equal(c.replica(2).state.logView, 1);
  t.strictSame(c.replica(2).operations, ['R', 'a', 'b']);
  t.match(
    c.history.filter(({ from, message }) => from === 2 && message.type === SyncAck.type).at(-1)!.values,
    { view: 1, matchedIndex: 3n },
    'a SyncAck of the whole log',
  );
  c.run(20_000);
  t.equal(c.replica(1).state.committed, 3, 'its entries commit in the new view');
  c.heal();
  c.run(50_000);
  t.strictSame([c.replica(0).state.view, c.replica(0).state.logView], [1, 1], 'the old primary joins');
  t.end();
});

t.test('client retries find their request by (lane, number) and are answered from the session table', (t) => {
  const { c, alice } = scene();
  c.isolate(0);
  c.replica(1).receive(ViewChange, { view: 1 }, 2);
  c.replica(2).receive(ViewChange, { view: 1 }, 1);
  c.settle();
  const again = [1, 2].map(
    (id) => c.replica(id).answer(Request, alice.request(90, 1, 'a', { view: 1 }), alice.endpoint).values,
  );
  t.match(again[0]!, {
    view: 1,
    status: ReplyStatus.ok,
    index: 2n,
    chain: c.replica(1).chain(2),
    result: new Uint8Array(Buffer.from('a')),
  });
  t.match(again[1]!, { view: 1, index: 2n, chain: c.replica(1).chain(2) });
  t.strictSame(journal(c, 1), ['a']);
  t.end();
});

t.test('started by a member that misses the primary, and by a primary that misses a member', (t) => {
  const missing = (id: number): Cluster => {
    const { c } = scene();
    c.replica(id).crash();
    c.run(300_000);
    return c;
  };
  const withoutPrimary = missing(0);
  t.strictSame(withoutPrimary.replica(1).state.views.members(withoutPrimary.replica(1).state.view), [1, 2]);
  t.equal(withoutPrimary.replica(1).state.view, withoutPrimary.replica(2).state.view);
  const withoutMember = missing(1);
  t.strictSame(withoutMember.replica(0).state.views.members(withoutMember.replica(0).state.view), [0, 2]);
  t.equal(withoutMember.replica(0).state.primary, 0, 'keeping the primary, which is alive');
  t.equal(missing(2).replica(0).state.view, 0, 'a spare is not missed');
  t.end();
});

t.test('a majority apart goes on, a minority does not, and joins when it returns', (t) => {
  const { c, alice } = scene();
  c.isolate(0);
  c.run(300_000);
  const { view } = c.replica(1).state;
  t.equal(c.replica(0).state.logView, 0);
  c.give(
    alice,
    Request,
    alice.request(Number(c.now.wallLo >>> 0), 2, 'b', { view }),
    ...c.replica(1).state.views.members(view),
  );
  c.run(20_000);
  c.heal();
  c.run(300_000);
  t.equal(new Set([0, 1, 2].map((id) => c.replica(id).state.view)).size, 1);
  t.strictSame(
    [0, 1, 2].map((id) => journal(c, id)),
    [
      ['a', 'b'],
      ['a', 'b'],
      ['a', 'b'],
    ],
  );
  t.end();
});

t.test('incarnation +1, durable, before anything is sent', (t) => {
  const { c } = scene();
  const replica = c.replica(1);
  replica.crash();
  replica.disk.held = true;
  const before = c.posted;
  replica.start(true);
  c.pass(50_000);
  t.equal(c.history.slice(before).filter(({ from }) => from === 1).length, 0);
  replica.disk.release();
  t.equal(replica.disk.hardState!.incarnation, 2);
  t.ok(c.history.slice(before).some(({ from }) => from === 1));
  t.end();
});

t.test('fsync: returns with its log, as after a pause', (t) => {
  const { c, alice } = scene({ keepsLog: true });
  c.give(alice, Request, alice.request(30, 2, 'b'), 0, 1);
  const chain = c.replica(1).chain(3);
  c.replica(1).crash();
  c.replica(1).start();
  t.equal(c.replica(1).state.status, ReplicaStatus.normal);
  t.equal(c.replica(1).chain(3), chain);
  t.equal(
    c.replica(1).answer(Request, alice.request(30, 2, 'b'), alice.endpoint).values['index'],
    3n,
    'what it acknowledged it still has',
  );
  c.run(30_000);
  t.equal(c.replica(0).state.view, 0);
  t.strictSame(journal(c, 1), ['a', 'b']);
  t.end();
});

t.test(
  'R1: a replica that lost its log acknowledges nothing in its durable view as a member, and casts no vote',
  (t) => {
    const { c, alice } = scene();
    const member = c.replica(1);
    member.crash();
    member.start(true);
    t.equal(member.state.status, ReplicaStatus.recovering);
    c.lose();
    t.strictSame(member.receive(Request, alice.request(30, 2, 'b'), alice.endpoint), []);
    t.strictSame(
      member.receive(
        Sync,
        {
          view: 0,
          lastIndex: 2n,
          lastChain: c.replica(0).chain(2),
          committedIndex: 2n,
          committedChain: c.replica(0).chain(2),
        },
        0,
      ),
      [],
    );
    t.strictSame(member.receive(ViewChange, { view: 5 }, 0), []);
    t.strictSame(member.receive(Vote, voteOf(c, 2, 4), 2), [], 'not even for itself');
    t.strictSame(
      member.receive(Fetch, { view: 0, logView: 0, baseIndex: 0n, baseChain: 0n }, 2),
      [],
      'and hands out nothing',
    );
    t.equal(member.state.view, 0);
    t.end();
  },
);

t.test('R1: it asks for a view change above its durable view and joins through StartView', (t) => {
  const { c, alice } = scene();
  c.replica(1).crash();
  c.replica(1).start(true);
  c.run(300_000);
  t.equal(c.replica(1).state.status, ReplicaStatus.normal);
  t.ok(c.replica(1).state.logView > 0);
  t.strictSame(
    [0, 1, 2].map((id) => journal(c, id)),
    [['a'], ['a'], ['a']],
  );
  const { view } = c.replica(0).state;
  t.equal(c.replica(1).state.view, view);
  const members = c.replica(0).state.views.members(view);
  c.give(alice, Request, alice.request(2_000_000, 2, 'b', { view }), ...members);
  c.run(20_000);
  t.strictSame(
    [0, 1, 2].map((id) => journal(c, id)),
    [
      ['a', 'b'],
      ['a', 'b'],
      ['a', 'b'],
    ],
  );
  t.end();
});

t.test('R1: a spare of its durable view catches up there', (t) => {
  const { c } = scene();
  c.replica(2).crash();
  c.replica(2).start(true);
  c.run(100_000);
  t.equal(c.replica(2).state.status, ReplicaStatus.normal);
  t.equal(c.replica(0).state.view, 0, 'no view change was needed');
  t.match(c.replica(2).disk.hardState, { view: 0, incarnation: 2 });
  t.strictSame(journal(c, 2), ['a']);
  t.end();
});

t.test('a lost log stays lost over two restarts, until another is installed', (t) => {
  const { c } = scene({ keepsLog: true });
  const member = c.replica(1);
  c.isolate(1);
  member.crash();
  member.start(true);
  t.equal(member.disk.hardState!.logView, -1);
  for (let restart = 0; restart < 2; restart++) {
    member.crash();
    member.start();
    t.equal(member.state.status, ReplicaStatus.recovering, 'though the disk has a log again, of nothing');
    t.strictSame(member.receive(ViewChange, { view: 5 }, 0), []);
  }
  c.heal();
  c.run(300_000);
  t.equal(member.state.status, ReplicaStatus.normal);
  t.strictSame(member.operations, ['R', 'a']);
  member.crash();
  member.start();
  t.not(member.state.status, ReplicaStatus.recovering, 'what was installed is a log');
  t.strictSame(member.operations, ['R', 'a']);
  t.end();
});

t.test('more than f logs lost at once: the cluster stops and says so', (t) => {
  const { c } = scene();
  for (const id of [0, 1]) {
    c.replica(id).crash();
    c.replica(id).start(true);
  }
  c.run(500_000);
  t.strictSame(
    [0, 1].map((id) => c.replica(id).state.status),
    [ReplicaStatus.recovering, ReplicaStatus.recovering],
  );
  for (const id of [0, 1, 2]) t.not(c.replica(id).state.isPrimary, true);
  t.equal(c.replica(0).transitions.filter((line) => line.startsWith('majority-lost: 2 of 3')).length, 1, 'once');
  // All three know which, and say so to whoever asks.
  t.strictSame(
    [0, 1, 2].map((id) => c.replica(id).state.lostLogs),
    [0b011, 0b011, 0b011],
  );
  for (const id of [0, 1, 2])
    t.match(c.replica(id).answer(Probe, { view: 0, nonce: 9 }, 7), {
      message: ProbeReply,
      values: { nonce: 9, condition: 1 },
    });
  // A round that nobody answers in time changes nothing of that.
  c.isolate(0, 1, 2);
  c.run(500_000);
  t.strictSame(
    [0, 1, 2].map((id) => c.replica(id).state.lostLogs),
    [0b011, 0b011, 0b011],
  );
  t.end();
});

t.test('snapshot installation: who needs entries that are cut takes the snapshot first', (t) => {
  const { c, alice } = scene({ limits: { logEntries: 16, chunkBytes: 64 } });
  for (let i = 2; i <= 40; i++) {
    c.give(alice, Request, alice.request(30 + i, i, `${i}`), 0, 1);
    c.run(6000);
  }
  c.replica(1).crash();
  c.replica(1).start(true);
  c.run(400_000);
  t.equal(c.replica(1).state.status, ReplicaStatus.normal);
  t.ok(c.history.some(({ to, message }) => to === 1 && message.type === SnapshotOffer.type));
  t.equal(c.replica(1).counter('snapshots_installed'), 1);
  t.strictSame(journal(c, 1), journal(c, 0));
  t.equal(journal(c, 1).length, 40);
  const { view } = c.replica(1).state;
  const again = c
    .replica(c.replica(1).state.primary)
    .answer(Request, alice.request(900, 40, '40', { view }), alice.endpoint);
  t.match(again.values, { status: ReplyStatus.ok, request: 40 }, 'the session table came with it');
  t.end();
});

t.test('a view that went on while a replica joins it: a snapshot beyond what it asked for is as good', (t) => {
  const { c, alice } = scene({ limits: { logEntries: 16 } });
  const commit = (i: number, view: number): void => {
    c.give(alice, Request, alice.request(30 + i, i, `${i}`, { view }), 0, 1);
    c.run(6000);
  };
  c.isolate(2);
  for (let i = 2; i <= 8; i++) commit(i, 0);
  for (const id of [0, 1]) c.replica(id).receive(ViewChange, { view: 4 }, 1 - id);
  c.settle();
  t.strictSame([c.replica(1).state.isPrimary, c.replica(1).last], [true, 9]);
  const joining = c.replica(2);
  const asked = joining.receive(
    Sync,
    {
      view: 4,
      lastIndex: 9n,
      lastChain: c.replica(1).chain(9),
      committedIndex: 9n,
      committedChain: c.replica(1).chain(9),
    },
    1,
  );
  const fetch = asked.find(({ message }) => message.type === Fetch.type)!;
  t.match(fetch.values, { view: 4, logView: 4, baseIndex: 2n });
  joining.up = false; // Its host stands still while the others go on.
  // More than is retained for a replica that got a snapshot before.
  for (let i = 9; i <= 120; i++) commit(i, 4);
  t.ok(c.replica(1).state.givenFrom > 9, 'what it asked for is gone');
  joining.up = true;
  c.heal();
  c.lose();
  c.arrive(fetch);
  c.settle();
  t.equal(joining.state.status, ReplicaStatus.normal, 'without a timeout');
  t.equal(joining.state.logView, 4);
  t.equal(joining.last, c.replica(1).state.execution.stable.index);
  t.equal(joining.state.committed, joining.last);
  t.match(joining.disk.hardState, { view: 4, incarnation: 1 });
  c.run(20_000);
  t.strictSame(journal(c, 2), journal(c, 1));
  t.end();
});

t.test('a snapshot beyond a log that is frozen by a vote is not taken', (t) => {
  const { c } = scene();
  const primary = c.replica(2);
  primary.receive(ViewChange, { view: 5 }, 1);
  const asked = primary.receive(Vote, { ...voteOf(c, 1, 5), lastIndex: 5n, lastChain: 77n }, 1);
  t.ok(asked.some(({ message }) => message.type === Fetch.type));
  t.strictSame(primary.receive(SnapshotOffer, { view: 5, logView: 0, index: 6n, chain: 1n, length: 100 }, 1), []);
  t.match(
    primary.answer(SnapshotOffer, { view: 5, logView: 0, index: 5n, chain: 77n, length: 100 }, 1).message,
    { name: 'SnapshotFetch' },
    'one up to its end is',
  );
  t.end();
});

/** Restores in pieces, apart from its present state. */
class JournalInPieces extends JournalMachine {
  ended = 0;
  aborted = 0;

  beginRestore(length: number): RestoreInPieces {
    const whole = new Uint8Array(length);
    let at = 0;
    let isOver = false;
    return {
      step: (piece) => {
        whole.set(piece, at);
        at += piece.length;
      },
      end: () => {
        isOver = true;
        this.ended++;
        this.restore(whole);
      },
      abort: () => {
        if (!isOver) this.aborted++;
        isOver = true;
      },
    };
  }
}

for (const inPieces of [false, true])
  t.test(
    `a damaged snapshot is refused and asked for again${inPieces ? ', and what was restored of it is forgotten' : ''}`,
    (t) => {
      const { c, alice } = scene({
        limits: { logEntries: 16 },
        ...(inPieces ? { machine: () => new JournalInPieces() } : {}),
      });
      for (let i = 2; i <= 40; i++) {
        c.give(alice, Request, alice.request(30 + i, i, `${i}`), 0, 1);
        c.run(6000);
      }
      let damage = 2;
      c.loses = ({ to, message, bytes }) => {
        if (to === 1 && message.name === 'SnapshotChunk' && damage > 0) {
          damage--;
          bytes[bytes.length - 1]! ^= 1;
        }
        return false;
      };
      c.replica(1).crash();
      c.replica(1).start(true);
      c.run(600_000);
      t.equal(damage, 0);
      t.equal(c.replica(1).transitions.filter((line) => line.startsWith('snapshot-refused')).length, 2);
      t.strictSame(journal(c, 1), journal(c, 0));
      const { machine } = c.replica(1);
      if (machine instanceof JournalInPieces) t.match(machine, { ended: 1, aborted: 2 });
      t.end();
    },
  );

t.test('a delayed Register after eviction is refused, in a later view too', (t) => {
  const { c, alice } = scene({ limits: { maxSessions: 1 } });
  const bob = c.hand();
  c.give(bob, Request, bob.registration(40), 0, 1);
  c.run(20_000);
  c.isolate(0);
  c.run(300_000);
  const { view } = c.replica(1).state;
  const primary = c.replica(c.replica(1).state.primary);
  t.ok(view > 0);
  t.match(primary.answer(Request, alice.registration(50, { view, born: 10 }), alice.endpoint).values, {
    status: ReplyStatus.sessionTaken,
  });
  t.equal(primary.answer(Request, alice.request(60, 1, 'a', { view }), alice.endpoint).message.name, 'Reject');
  t.strictSame(journal(c, primary.id), ['a']);
  t.end();
});

t.test('a probe is answered with view, status and whether the primary was heard', (t) => {
  const { c } = scene();
  const ask = (): Values => c.replica(1).answer(Probe, { view: 0, nonce: 5 }, 2).values;
  t.match(ask(), {
    view: 0,
    nonce: 5,
    status: ReplicaStatus.normal,
    heardPrimary: 1,
    incarnation: 1,
    lastIndex: 2n,
    committedIndex: 2n,
  });
  c.pass(30_000);
  t.match(ask(), { heardPrimary: 1 });
  c.pass(12_000);
  t.match(ask(), { heardPrimary: 0 });
  t.end();
});

/** The host of `by` tells replica `id` that nobody listens there. */
function unreachable(c: Cluster, id: number, by: number): void {
  c.pass(1); // later than what it is about
  c.replica(id).core.unreachable(by, c.now);
  c.replica(id).core.flush(c.now);
}

/** What replica `id` would answer to the last probe of replica `to`. */
function replyOf(c: Cluster, id: number, to: number): Values {
  const { state, last } = c.replica(id);
  const probe = c.history.filter(({ from, to: at, message }) => from === to && at === id && message === Probe).at(-1);
  return {
    view: state.view,
    nonce: probe!.values['nonce']!,
    logView: state.logView,
    status: state.status,
    heardPrimary: 0,
    incarnation: state.incarnation,
    lastIndex: BigInt(last),
    committedIndex: BigInt(state.committed),
  };
}

t.test(
  "unreachable: a member whose primary's host says so probes at once, and asks for a view when it says so of the probe too, whatever a spare still believes",
  (t) => {
    const { c } = scene();
    c.replica(0).crash();
    unreachable(c, 1, 0);
    t.strictSame(
      c.take({ from: 1, message: Probe }).map(({ to }) => to),
      [0, 2],
      'asks all',
    );
    t.equal(c.replica(1).state.view, 0, 'hearing it once moves nobody');
    c.replica(1).receive(ProbeReply, { ...replyOf(c, 2, 1), heardPrimary: 1 }, 2);
    t.equal(c.replica(1).state.view, 0, 'nor does it while the probe may yet be answered');
    unreachable(c, 1, 0);
    t.equal(c.replica(1).state.status, ReplicaStatus.viewChange, 'without any further silence');
    t.strictSame(
      c.take({ from: 1, message: ViewChange }).map(({ to, values }) => [to, values['view']]),
      [
        [0, 1],
        [2, 1],
      ],
    );
    t.equal(c.replica(1).counter('unreachable'), 2);
    t.end();
  },
);

t.test('unreachable: a primary that answers the probe stays, however often it is said to be gone', (t) => {
  const { c } = scene();
  for (let i = 0; i < 20; i++) {
    unreachable(c, 1, 0);
    unreachable(c, 2, 0);
    unreachable(c, 0, 1);
    c.settle();
    c.run(1_000);
  }
  for (const { state } of c.replicas) t.strictSame([state.view, state.status], [0, ReplicaStatus.normal]);
  t.ok(c.history.filter(({ from, message }) => from === 1 && message === Probe).length < 20, 'and probes have a bound');
  t.end();
});

t.test(
  'unreachable: a primary does without a member that is gone, and a replica that was not heard yet is awaited as before',
  (t) => {
    const { c } = scene();
    c.replica(1).crash();
    unreachable(c, 0, 1);
    c.lose();
    c.replica(0).receive(ProbeReply, replyOf(c, 2, 0), 2);
    unreachable(c, 0, 1);
    t.equal(c.replica(0).state.view, 3, 'primary 0, member 2');

    const young = new Cluster(3);
    for (const id of [1, 2]) young.replica(id).crash();
    for (let i = 0; i < 3; i++) unreachable(young, 0, 1);
    t.strictSame([young.replica(0).state.view, young.take({ from: 0, message: Probe }).length], [0, 0]);
    t.end();
  },
);

t.test(
  'unreachable: said of one that stands still, and not again of the probe, it makes nobody leave sooner than silence does',
  (t) => {
    for (const [by, gone] of [
      [1, 0],
      [0, 1],
    ] as const) {
      const { c } = scene();
      // Hosts that other programs share: 300 ms of silence were harmless, 900 are borne.
      for (const { core } of c.replicas) core['synchronization'].heartbeat.silence.note(300_000);
      c.run(10_000);
      const { view } = c.replica(by).state;
      c.isolate(gone);
      for (let i = 0; i < 3; i++) {
        c.run(20_000);
        unreachable(c, by, gone);
        c.run(230_000);
        t.equal(c.replica(by).state.view, view, `replica ${by} of ${gone}, ${(i + 1) * 250} ms`);
      }
      c.run(1_000_000);
      t.ok(c.replica(by).state.view > view, 'as silence does');
    }
    t.end();
  },
);

t.test(
  'unreachable: said of a replica that answers in the end, it is not believed for ten minutes; silence is',
  (t) => {
    const { c } = scene();
    const forge = (): void => {
      unreachable(c, 0, 1);
      c.take({ from: 0, to: 2, message: Probe }).forEach((packet) => c.arrive(packet));
      c.take({ from: 2, to: 0 }).forEach((packet) => c.arrive(packet));
      unreachable(c, 0, 1);
    };
    forge();
    t.equal(c.replica(0).state.view, 3, 'the first time it is');
    c.settle();
    t.ok(
      c.replica(0).transitions.some((line) => line.startsWith('gone-wrongly: replica 1')),
      'and it is said that it was false',
    );
    t.equal(c.replica(0).counter('false_suspicions'), 1);
    c.run(100_000);
    const member = c
      .replica(0)
      .state.views.members(3)
      .find((r) => r !== 0)!;
    for (let i = 0; i < 10; i++) {
      c.pass(1);
      unreachable(c, 0, member);
      unreachable(c, 0, member);
      c.settle();
      c.run(8_000);
    }
    t.equal(c.replica(0).state.view, 3);
    c.replica(member).crash();
    for (let ms = 0; ms < 150; ms++) {
      c.run(1000);
      unreachable(c, 0, member);
    }
    t.ok(c.replica(0).state.view > 3);
    t.end();
  },
);

t.test(
  'unreachable: a silent primary is sent a probe after one and a half Sync intervals, and by a plea at once',
  (t) => {
    const { c, alice } = scene();
    c.isolate(0);
    c.pass(7_000);
    t.strictSame(c.take({ from: 1, message: Probe }), []);
    c.loses = () => false;
    c.replica(1).receive(Plea, { view: 0 }, alice.endpoint);
    t.strictSame(
      c.take({ from: 1, message: Probe }).map(({ to }) => to),
      [0],
    );
    c.replica(1).receive(Plea, { view: 0 }, alice.endpoint);
    t.strictSame(c.take({ from: 1, message: Probe }), [], 'many pleas are one');
    c.lose();
    c.pass(6_000);
    t.strictSame(
      c.take({ from: 1, message: Probe }).map(({ to }) => to),
      [0],
    );
    t.equal(c.replica(1).state.status, ReplicaStatus.normal);
    t.end();
  },
);

t.test(
  'a client that asked in vain is told when a view starts, once, and of the clients that ask a bounded number',
  (t) => {
    const { c, alice } = scene();
    c.replica(0).crash();
    for (let i = 0; i < 100; i++) c.replica(2).receive(Plea, { view: 0 }, alice.endpoint + i);
    c.replica(2).receive(Plea, { view: 0 }, alice.endpoint);
    c.lose();
    c.replica(1).receive(ViewChange, { view: 1 }, 2);
    c.replica(2).receive(ViewChange, { view: 1 }, 1);
    c.settle({ to: 1 });
    const told = (): number[] =>
      c
        .take({ from: 2, message: ProbeReply })
        .map(({ to, values }) => (values['status'] === ReplicaStatus.normal && values['view'] === 1 ? to : -1));
    t.strictSame(told(), [], 'not before it starts');
    c.settle({ to: 2 });
    t.strictSame(
      told(),
      Array.from({ length: 64 }, (_, i) => alice.endpoint + i),
    );
    c.replica(2).receive(ViewChange, { view: 7 }, 1);
    c.replica(1).receive(ViewChange, { view: 7 }, 2);
    c.settle();
    t.strictSame(
      c.history.filter(
        ({ from, to, message, values }) =>
          from === 2 && to === alice.endpoint && message === ProbeReply && values['view'] === 7,
      ),
      [],
    );
    t.end();
  },
);
