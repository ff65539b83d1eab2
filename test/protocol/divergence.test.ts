// What one replica says that contradicts what another has committed: it is ignored and named, and the one in the wrong
// stops itself. Of three: view 0 = primary 0, member 1; 1 = 1, 2; 2 = 2, 0; 3 = 0, 2; 4 = 1, 0; 5 = 2, 1.
import t, { type Test } from 'tap';
import { DivergedError } from '../../src/protocol/replica/diverged-error.js';
import {
  Chunk,
  Fetch,
  ReplicaStatus,
  Request,
  SnapshotOffer,
  StateDigest,
  Sync,
  ViewChange,
  Vote,
} from '../../src/wire/messages.js';
import { Cluster, type ClusterOptions, type HandClient, type TestReplica, type Values } from './harness.js';

/** Another log than any here. */
const OTHER = 0x1234567812345678n;

/** One client, registered, and 'a' committed everywhere: index 2. */
function scene(options: ClusterOptions = {}, n = 3): { c: Cluster; alice: HandClient } {
  const c = new Cluster(n, options);
  const alice = c.hand();
  const members = n === 3 ? [0, 1] : [0, 1, 2];
  c.give(alice, Request, alice.registration(10), ...members);
  c.give(alice, Request, alice.request(20, 1, 'a'), ...members);
  c.run(30_000);
  c.lose();
  return { c, alice };
}

function vote(c: Cluster, id: number, view: number, other: Values = {}): Values {
  const { state, last } = c.replica(id);
  return {
    view,
    logView: state.logView,
    lastIndex: BigInt(last),
    lastChain: c.replica(id).chain(last),
    committedIndex: BigInt(state.committed),
    committedChain: c.replica(id).chain(state.committed),
    ...other,
  };
}

const claim = (index: number, chain: bigint): Values => ({ index: BigInt(index), chain });
const named = (replica: TestReplica): string[] => replica.transitions.filter((text) => text.startsWith('contradicted'));

/** Why the replica stops itself, or undefined. */
function stops(t: Test, act: () => void): DivergedError | undefined {
  try {
    act();
    return undefined;
  } catch (error) {
    t.ok(error instanceof DivergedError, String(error));
    return error as DivergedError;
  }
}

t.test('a vote that contradicts committed state: ignored and named, the primary goes on without it', (t) => {
  const { c } = scene();
  const primary = c.replica(1);
  primary.receive(ViewChange, { view: 1 }, 0);
  primary.receive(Vote, vote(c, 2, 1, { committedChain: OTHER }), 2);
  t.equal(primary.state.status, ReplicaStatus.viewChange, 'no vote counts twice or wrongly');
  t.match(named(primary), [
    /replica 2 says that entry 2 is committed with chain 1234567812345678, and here it is with .*; its message is ignored/,
  ]);
  t.strictSame(
    c
      .take({ from: 1, message: StateDigest })
      .map(({ to, values }) => [to, values['index'], values['chain'], values['digest']]),
    [
      [0, 2n, primary.chain(2), 0n],
      [2, 2n, primary.chain(2), 0n],
    ],
    'all are told what is committed here',
  );
  primary.receive(Vote, vote(c, 0, 1), 0);
  t.equal(primary.state.status, ReplicaStatus.normal, 'f + 1 that agree start the view');
  t.end();
});

t.test(
  'the one whose committed log f + 1 others contradict stops itself; f of them, whatever they say, stop nobody',
  (t) => {
    for (const n of [3, 5]) {
      const { c } = scene({}, n);
      const wrong = c.replica(0);
      const f = (n - 1) / 2;
      for (let times = 0; times < 10; times++)
        for (let from = 1; from <= f; from++) wrong.receive(StateDigest, claim(1 + (times % 2), OTHER), from);
      t.equal(wrong.core.divergence.log, ((1 << f) - 1) << 1, 'they are known by name');
      const error = stops(t, () => wrong.receive(StateDigest, claim(2, OTHER), f + 1));
      t.equal(error?.code, 'log-diverged');
      t.match(
        error?.message,
        /what replica 0 takes for committed is not what replicas 1 and 2.* committed: entry \d has chain 1234567812345678 at replica 1.*docs\/operate\/operations\.md/,
      );
    }
    t.end();
  },
);

t.test(
  'a stop in the middle of a turn, as a release before this one wrote it to disk: the replica that returns stops itself, the others go on',
  (t) => {
    const c = new Cluster(3, { keepsLog: true });
    const alice = c.hand();
    c.give(alice, Request, alice.registration(10), 0, 1);
    c.run(30_000);
    c.give(alice, Request, alice.request(20, 1, 'old'), 1);
    c.lose({ from: 1 });
    c.isolate(1);
    c.replica(2).receive(ViewChange, { view: 2 }, 0);
    c.replica(0).receive(ViewChange, { view: 2 }, 2);
    c.run(20_000);
    c.give(alice, Request, alice.request(30_000_000, 2, 'new', { view: 2 }), 2, 0);
    c.run(20_000);
    c.replica(1).crash();
    const { disk } = c.replica(1);
    t.equal(disk.lastIndex, 2);
    disk.committed = 2; // "old" was never committed
    c.heal();
    c.replica(1).start();
    t.strictSame(c.replica(1).operations, ['R', 'old']);
    const error = stops(t, () => c.run(20_000));
    t.equal(error?.code, 'log-diverged');
    t.match(error?.message, /what replica 1 takes for committed is not what replicas 0 and 2 committed/);
    c.replica(1).crash();
    c.inFlight = [];
    c.isolate(1);
    c.give(alice, Request, alice.request(60_000_000, 3, 'more', { view: 2 }), 2, 0);
    c.run(100_000);
    for (const id of [0, 2]) t.match(c.replica(id).state, { status: ReplicaStatus.normal, view: 2, committed: 3 });
    t.end();
  },
);

t.test('two that are alone and differ: neither stops, both name the other, no view starts; the third decides', (t) => {
  const { c } = scene();
  c.isolate(0);
  const [one, two] = [c.replica(1), c.replica(2)];
  one.receive(ViewChange, { view: 1 }, 2);
  for (let times = 0; times < 5; times++) {
    one.receive(Vote, vote(c, 2, 1, { committedChain: OTHER }), 2);
    two.receive(StateDigest, claim(2, OTHER + 1n), 1);
    c.pass(1_100_000);
    c.lose();
  }
  t.equal(one.core.divergence.log, 0b100);
  t.equal(two.core.divergence.log, 0b010);
  t.not(one.state.status, ReplicaStatus.normal);
  t.equal(stops(t, () => two.receive(StateDigest, claim(2, OTHER + 1n), 0))?.code, 'log-diverged');
  t.end();
});

/** Replica 4 of five, which knows nothing, in a view change to a view of its own; of view 0 the quorum is 0, 1, 2. */
function newPrimary(): { c: Cluster; primary: TestReplica; view: number } {
  const c = new Cluster(5);
  const primary = c.replica(4);
  const view = 4;
  primary.receive(ViewChange, { view }, 1);
  c.lose();
  return { c, primary, view };
}

t.test(
  'a vote for a log that does not hold what another takes for committed: neither counts, and the primary does not stop',
  (t) => {
    const source = scene({}, 5).c.replica(3);
    const { primary, view } = newPrimary();
    // Replica 1, a member of view 0's quorum, comes with an empty log, as from an emptied directory; replica 3, a
    // spare, saw two entries committed.
    const empty: Values = { view, logView: 0, lastIndex: 0n, lastChain: 0n, committedIndex: 0n, committedChain: 0n };
    primary.receive(
      Vote,
      { ...empty, lastIndex: 2n, lastChain: source.chain(2), committedIndex: 2n, committedChain: source.chain(2) },
      3,
    );
    primary.receive(Vote, empty, 1);
    t.equal(primary.state.status, ReplicaStatus.viewChange);
    t.match(named(primary), [
      /replica 1 has a log for view 4 that does not hold entry 2, which is committed as replica 3 says/,
    ]);
    primary.receive(Vote, empty, 1);
    t.equal(primary.state.status, ReplicaStatus.viewChange, 'said again it counts no more');
    // With the votes of two that have it, f + 1 agree.
    const whole = {
      ...empty,
      lastIndex: 2n,
      lastChain: source.chain(2),
      committedIndex: 2n,
      committedChain: source.chain(2),
    };
    primary.receive(Vote, whole, 0);
    const asked = primary.receive(Vote, whole, 2).find(({ message }) => message.type === Fetch.type);
    t.equal(asked?.to, 0, 'the primary of view 0');
    t.end();
  },
);

t.test('a starting log that contradicts the committed entries of another vote is not installed', (t) => {
  const source = scene({}, 5).c.replica(1);
  const { c, primary, view } = newPrimary();
  // Replica 1's log has two entries; replica 3 says that another second entry is committed.
  primary.receive(
    Vote,
    { view, logView: 0, lastIndex: 2n, lastChain: source.chain(2), committedIndex: 0n, committedChain: 0n },
    1,
  );
  primary.receive(
    Vote,
    { view, logView: 0, lastIndex: 2n, lastChain: OTHER, committedIndex: 2n, committedChain: OTHER },
    3,
  );
  t.equal(c.take({ from: 4, message: Fetch }).at(-1)?.to, 1);
  const entries: number[] = [];
  for (const i of [1, 2]) {
    const length = source.state.log.operationLength(i);
    const bytes = new Uint8Array(2 + 24 + length);
    bytes[1] = length;
    source.state.log.writeEntry(i, new DataView(bytes.buffer), 2);
    entries.push(...bytes);
  }
  primary.receive(
    Chunk,
    {
      view,
      logView: 0,
      baseIndex: 0n,
      baseChain: 0n,
      lastIndex: 2n,
      lastChain: source.chain(2),
      entries: Uint8Array.from(entries),
    },
    1,
  );
  t.match(primary.state, { status: ReplicaStatus.viewChange });
  t.equal(primary.last, 0, 'its log is as it was');
  t.match(named(primary), [
    /replica 1 has a log for view 4 that does not hold entry 2, which is committed as replica 3 says/,
  ]);
  t.end();
});

t.test(
  'a Sync: of another committed entry, or of a view that starts without committed entries; the receiver stays as it is',
  (t) => {
    const { c } = scene();
    const spare = c.replica(2);
    spare.receive(
      Sync,
      { view: 0, sequence: 99, lastIndex: 2n, lastChain: OTHER, committedIndex: 2n, committedChain: OTHER },
      0,
    );
    t.match(spare.state, { status: ReplicaStatus.normal, committed: 2, view: 0 });
    spare.receive(
      Sync,
      { view: 4, sequence: 1, lastIndex: 1n, lastChain: spare.chain(1), committedIndex: 0n, committedChain: 0n },
      1,
    );
    t.match(
      spare.state,
      { status: ReplicaStatus.viewChange, committed: 2, view: 4 },
      'it promises, and installs nothing',
    );
    t.equal(spare.last, 2);
    t.match(named(spare), [
      /replica 0 says that entry 2/,
      /replica 1 starts view 4 with a log of 1 entries, and 2 are committed here/,
    ]);
    t.end();
  },
);

t.test(
  "a Chunk: with another entry than one that is known to be the primary's, or out of key order; nothing is cut, nobody stops",
  (t) => {
    const { c, alice } = scene();
    const member = c.replica(1);
    const entry = (timestamp: bigint, operation: string): Uint8Array => {
      const bytes = Buffer.alloc(2 + 24 + operation.length);
      bytes.writeUInt16BE(operation.length, 0);
      bytes.writeBigUInt64BE(timestamp, 2);
      bytes.writeBigUInt64BE(alice.session, 10);
      bytes.writeUInt32BE(7, 18);
      bytes.write(operation, 26);
      return new Uint8Array(bytes);
    };
    member.receive(
      Chunk,
      {
        view: 0,
        logView: 0,
        baseIndex: 1n,
        baseChain: member.chain(1),
        lastIndex: 2n,
        lastChain: OTHER,
        entries: entry(21n, 'b'),
      },
      0,
    );
    member.receive(
      Chunk,
      {
        view: 0,
        logView: 0,
        baseIndex: 2n,
        baseChain: member.chain(2),
        lastIndex: 3n,
        lastChain: OTHER,
        entries: entry(19n, 'b'),
      },
      2,
    );
    t.strictSame(member.operations, ['R', 'a']);
    t.match(named(member), [
      /replica 0 sends an entry 2 of the primary's log, and another one is known to stand there/,
      /replica 2 sends an entry 3 whose key is not above the one before it/,
    ]);
    t.end();
  },
);

t.test('a SnapshotOffer of another log than what is committed here begins nothing', (t) => {
  const { c } = scene();
  const spare = c.replica(2);
  t.equal(
    spare
      .receive(SnapshotOffer, { view: 0, logView: 0, index: 2n, chain: OTHER, length: 100, digest: 1n }, 0)
      .some(({ message }) => message.name === 'SnapshotFetch'),
    false,
  );
  t.match(named(spare), [/replica 0 says that entry 2/]);
  t.end();
});

t.test(
  'a Fetch behind another entry than the committed one is answered with what is committed; whoever asked finds that it is the one in the wrong',
  (t) => {
    const { c } = scene();
    const primary = c.replica(0);
    const answer = primary.answer(Fetch, { view: 0, logView: 0, baseIndex: 2n, baseChain: OTHER }, 2);
    t.match(
      [answer.message.name, answer.values],
      ['StateDigest', { index: 2n, chain: primary.chain(2), digest: 0n, asks: 0 }],
    );
    t.strictSame(
      primary.receive(Fetch, { view: 0, logView: 0, baseIndex: 2n, baseChain: OTHER }, 2),
      [],
      'not each time',
    );
    t.end();
  },
);

t.test(
  'no vote goes to a primary that takes something else for committed: one of an earlier release would stop',
  (t) => {
    const { c } = scene();
    const replica = c.replica(2);
    replica.receive(StateDigest, claim(2, OTHER), 1);
    t.equal(replica.receive(ViewChange, { view: 1 }, 0).filter(({ message }) => message.type === Vote.type).length, 0);
    t.equal(replica.receive(ViewChange, { view: 3 }, 0).filter(({ message }) => message.type === Vote.type).length, 1);
    t.end();
  },
);
