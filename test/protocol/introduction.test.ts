// Who a replica is to the others: first starts in any order, directories that were lost, copies that are old.
import t from 'tap';
import { Configuration, EPOCH_VIEWS } from '../../src/protocol/configuration.js';
import { INCARNATION_LEAP, leapFrom, VIEW_LEAP } from '../../src/protocol/replica/introduction.js';
import {
  Fetch,
  Probe,
  ProbeReply,
  ReplicaStatus,
  Request,
  Sync,
  SyncAck,
  ViewChange,
  Vote,
} from '../../src/wire/messages.js';
import { Cluster, type HandClient } from './harness.js';

/** What only a replica that takes part may say. */
const SAID_BY_PART_TAKERS = new Set<number>([SyncAck.type, Vote.type, Sync.type, ViewChange.type, Fetch.type]);

/** All replicas asked, and are there; `operations` were committed. */
function inUse(n: number, operations: readonly string[] = ['a', 'b']): { c: Cluster; alice: HandClient } {
  const c = new Cluster(n, { first: 'ask', keepsLog: true });
  for (const replica of c.replicas) replica.start(false, 'ask');
  c.run(20_000);
  const alice = c.hand();
  write(c, alice, operations, true);
  return { c, alice };
}

/** Views of an epoch with `n` voters after which they repeat. */
function cycleOf(n: number): number {
  const ids = Array.from({ length: n }, (_, id) => id);
  return new Configuration(0, ids, ids, 0, EPOCH_VIEWS - 1).cycle;
}

let stamp = 0;
let requests = 0;
/** In view 0. */
function write(c: Cluster, client: HandClient, operations: readonly string[], registers = false): void {
  const members = c.replica(0).state.views.members(0);
  if (registers) {
    stamp = 20;
    requests = 0;
    c.give(client, Request, client.registration(stamp), ...members);
    c.settle();
  }
  for (const operation of operations) {
    c.give(client, Request, client.request(++stamp, ++requests, operation), ...members);
    c.run(20_000);
  }
}

t.test('a new cluster: any order, no flags; without the third replica after a second', (t) => {
  for (const order of [
    [0, 1, 2],
    [2, 1, 0],
    [1, 2, 0],
  ]) {
    const c = new Cluster(3, { first: 'ask', keepsLog: true });
    for (const [place, id] of order.entries()) {
      c.replica(id).start(false, 'ask');
      if (place === 0) {
        c.run(5_000_000);
        t.equal(c.replica(id).state.starting, true, 'one alone waits for a majority');
        t.equal(c.replica(id).disk.hardState, undefined, 'and nothing of it is durable');
      }
      c.run(100_000);
    }
    for (const replica of c.replicas)
      t.match(
        [replica.state.starting, replica.state.status, replica.state.view, replica.state.incarnation],
        [false, ReplicaStatus.normal, 0, 1],
      );
    t.match(c.replica(0).disk.hardState, { known: [0, 1, 1] }, 'each remembers the others');
  }
  const c = new Cluster(3, { first: 'ask', keepsLog: true });
  c.replica(0).start(false, 'ask');
  c.replica(1).start(false, 'ask');
  c.run(900_000);
  t.strictSame(
    [0, 1].map((id) => c.replica(id).state.starting),
    [true, true],
    'the third may still come',
  );
  c.run(200_000);
  t.strictSame(
    [0, 1].map((id) => c.replica(id).state.status),
    [ReplicaStatus.normal, ReplicaStatus.normal],
  );
  t.end();
});

t.test(
  'one of two that begin a new cluster without the third is quicker, and asked before the other knows: it takes nothing alone, and the other begins as well',
  (t) => {
    for (const quick of [0, 1]) {
      const c = new Cluster(3, { first: 'ask', keepsLog: true });
      const slow = 1 - quick;
      for (const id of [quick, slow]) c.replica(id).start(false, 'ask');
      // What would tell the slow one that the quick one has heard it is lost, so it has to wait for longer.
      while (c.replica(slow).state.others.met === 0) c.run(1_000);
      c.loses = ({ to, message }) => to === slow && message === ProbeReply;
      while (c.replica(quick).state.starting) c.run(1_000);
      t.equal(c.replica(slow).state.starting, true);
      const alice = c.hand();
      c.give(alice, Request, alice.registration(20), quick);
      c.deliver({ to: quick });
      t.equal(c.replica(quick).state.log.lastIndex, 0, 'a request waits until others have begun');
      c.heal();
      c.run(2_000_000);
      t.match(
        [c.replica(slow).state.starting, c.replica(slow).state.status],
        [false, ReplicaStatus.normal],
        `replica ${slow} takes part`,
      );
      t.ok(c.replica(slow).state.view < VIEW_LEAP, 'as a new one');
    }
    t.end();
  },
);

t.test(
  'a new cluster is asked for sessions at once: whoever has not heard that the first one was unused still begins',
  (t) => {
    for (const n of [3, 5, 7]) {
      for (let first = 0; first < n; first++) {
        const c = new Cluster(n, { first: 'ask', keepsLog: true });
        // The first one begins to ask when all others have asked in vain.
        for (let id = 0; id < n; id++) if (id !== first) c.replica(id).start(false, 'ask');
        c.loses = ({ to, from, message }) => to === first || (from === first && message === ProbeReply);
        c.run(5_000);
        c.heal();
        c.replica(first).start(false, 'ask');
        const alice = c.hand();
        for (let i = 0; i < 100 && c.replicas.some((replica) => replica.state.starting); i++) {
          c.give(alice, Request, alice.registration(20), ...c.replicas.keys());
          c.run(1_000);
        }
        for (const replica of c.replicas)
          t.match(
            [replica.state.starting, replica.state.status, replica.state.view, replica.state.lostLogs],
            [false, ReplicaStatus.normal, 0, 0],
            `replica ${replica.state.id} of ${n}, ${first} is the last to ask`,
          );
      }
    }
    t.end();
  },
);

t.test(
  'those that wait for the first one to begin are killed and start again, with nothing on disk: it was asked by clients all the time, and yet they begin',
  (t) => {
    for (const n of [3, 5, 7]) {
      for (const returns of [false, true]) {
        const c = new Cluster(n, { first: 'ask', keepsLog: true });
        for (const replica of c.replicas) replica.start(false, 'ask');
        // The others hear nothing of each other.
        c.loses = ({ to, from, message }) => to !== 0 && from !== 0 && message === ProbeReply;
        const alice = c.hand();
        for (let i = 0; i < 100; i++) {
          c.give(alice, Request, alice.registration(20), ...c.replicas.keys());
          c.run(1_000);
        }
        t.strictSame(
          c.replicas.map(({ state }) => state.starting),
          c.replicas.map((_, id) => id > 0),
          'the first one began',
        );
        t.equal(c.replica(0).state.log.lastIndex, 0);
        for (let id = returns ? 0 : 1; id < n; id++) c.replica(id).crash();
        c.heal();
        for (let id = returns ? 0 : 1; id < n; id++) c.replica(id).start(false, 'ask');
        for (let i = 0; i < 100; i++) {
          c.give(alice, Request, alice.registration(20), ...c.replicas.keys());
          c.run(1_000);
        }
        for (const replica of c.replicas)
          t.match(
            [replica.state.starting, replica.state.status, replica.state.view, replica.state.lostLogs],
            [false, ReplicaStatus.normal, 0, 0],
            `replica ${replica.state.id} of ${n}${returns ? ', the first one returned with its log' : ''}`,
          );
        t.ok(c.replica(0).state.log.lastIndex > 0, 'and the client gets in');
      }
    }
    t.end();
  },
);

t.test('one of a new cluster that is stopped while it asks has nothing on disk then, and is new the next time', (t) => {
  const c = new Cluster(3, { first: 'ask', keepsLog: true });
  for (const id of [0, 1]) {
    c.replica(id).start(false, 'ask');
    c.run(100_000);
    c.replica(id).core.finish(c.now);
    t.equal(c.replica(id).disk.hardState, undefined);
    c.replica(id).crash();
  }
  for (const replica of c.replicas) replica.start(false, 'ask');
  c.run(100_000);
  for (const { state } of c.replicas)
    t.match([state.starting, state.status, state.incarnation], [false, ReplicaStatus.normal, 1]);
  t.end();
});

t.test('one that is starting too, and never hears this one, is waited for no longer than one that is away', (t) => {
  const c = new Cluster(3, { first: 'ask', keepsLog: true });
  for (const replica of c.replicas) replica.start(false, 'ask');
  c.loses = ({ to, message }) => to === 2 && message === ProbeReply;
  c.run(900_000);
  t.strictSame(
    c.replicas.map(({ state }) => state.starting),
    [true, true, true],
  );
  c.run(200_000);
  t.strictSame(
    c.replicas.map(({ state }) => state.starting),
    [false, false, true],
  );
  c.heal();
  write(c, c.hand(), ['a'], true);
  c.run(1_000_000);
  t.strictSame(
    c.replicas.map(({ state }) => state.status),
    [ReplicaStatus.normal, ReplicaStatus.normal, ReplicaStatus.normal],
  );
  t.end();
});

t.test(
  'the third of a new cluster that is in use by now joins as one that lost its log: it had never been there, and nobody can know',
  (t) => {
    const c = new Cluster(3, { first: 'ask', keepsLog: true });
    for (const id of [0, 1]) c.replica(id).start(false, 'ask');
    c.run(1_200_000);
    const alice = c.hand();
    write(c, alice, ['a', 'b'], true);
    c.replica(2).start(false, 'ask');
    c.run(1_000_000);
    t.equal(c.replica(2).forgotten, undefined);
    t.equal(c.replica(2).state.status, ReplicaStatus.normal);
    t.strictSame(c.replica(2).operations, ['R', 'a', 'b']);
    t.ok(c.replica(2).state.view >= VIEW_LEAP, `view ${c.replica(2).state.view}`);
    t.end();
  },
);

t.test('an empty directory under the id of a replica that was in use: it stops, and names who remembers it', (t) => {
  for (const n of [3, 5]) {
    for (let id = 0; id < n; id++) {
      const { c } = inUse(n);
      c.replica(id).crash();
      c.replica(id).disk.wipe();
      const before = c.posted;
      c.replica(id).start(false, 'ask');
      c.settle();
      t.match(c.replica(id).forgotten, { replica: id, remembered: 1, incarnation: 0 });
      t.strictSame(
        c.history.slice(before).filter(({ from, message }) => from === id && SAID_BY_PART_TAKERS.has(message.type)),
        [],
        'it took part in nothing',
      );
    }
  }
  t.end();
});

t.test('two of three with empty directories: both stop while the third is there', (t) => {
  const { c } = inUse(3);
  for (const id of [0, 1]) {
    c.replica(id).crash();
    c.replica(id).disk.wipe();
  }
  for (const id of [0, 1]) c.replica(id).start(false, 'ask');
  c.run(500_000);
  for (const id of [0, 1]) t.match(c.replica(id).forgotten, { replica: id, by: 2 });
  t.end();
});

t.test('two of three with empty directories while the third is away: found when it returns, by the first word', (t) => {
  const { c } = inUse(3);
  for (const id of [0, 1, 2]) c.replica(id).crash();
  for (const id of [0, 1]) {
    c.replica(id).disk.wipe();
    c.replica(id).start(false, 'ask');
  }
  c.run(1_500_000);
  t.strictSame(
    [0, 1].map((id) => c.replica(id).state.status),
    [ReplicaStatus.normal, ReplicaStatus.normal],
    'nobody is there who could know',
  );
  // It has what was committed, and does not remember less of the others than before.
  c.replica(2).start(false, 'ask');
  c.run(5_000);
  for (const id of [0, 1])
    t.match(
      c.replica(id).forgotten,
      { replica: id, by: 2, remembered: 1, incarnation: 1 },
      'not by its number, by its life',
    );
  t.strictSame(c.replica(2).operations, ['R', 'a', 'b']);
  t.end();
});

t.test('all with empty directories are a new cluster', (t) => {
  const { c } = inUse(3);
  for (const replica of c.replicas) {
    replica.crash();
    replica.disk.wipe();
  }
  for (const replica of c.replicas) replica.start(false, 'ask');
  c.run(100_000);
  for (const replica of c.replicas) t.match([replica.state.status, replica.last], [ReplicaStatus.normal, 0]);
  t.end();
});

t.test('what is remembered survives restarts of those who remember', (t) => {
  const { c } = inUse(3);
  c.replica(2).crash();
  c.replica(2).disk.wipe();
  for (const id of [0, 1]) {
    c.replica(id).crash();
    c.replica(id).start(false, 'ask');
  }
  c.replica(2).start(false, 'ask');
  c.run(100_000);
  t.match(c.replica(2).forgotten, { remembered: 1 });
  t.end();
});

t.test('an old copy of a directory: it stops', (t) => {
  const { c } = inUse(3);
  const { disk } = c.replica(2);
  const old = { ...disk.hardState! };
  for (let lives = 0; lives < 3; lives++) {
    c.replica(2).crash();
    c.replica(2).start(false, 'ask');
    c.run(100_000);
  }
  c.replica(2).crash();
  disk.hardState = old;
  c.replica(2).start(false, 'ask');
  c.run(10_000);
  t.match(c.replica(2).forgotten, { remembered: 4, incarnation: 2 });
  t.end();
});

t.test(
  'with the word of its operator: it leaps above all views that f + 1 others know, and takes part as one that lost its log',
  (t) => {
    for (const n of [3, 5]) {
      for (let id = 0; id < n; id++) {
        const { c } = inUse(n);
        c.replica(id).crash();
        c.replica(id).disk.wipe();
        const before = c.posted;
        c.replica(id).start(false, 'log-lost');
        t.strictSame(c.replica(id).receive(ViewChange, { view: 4 }, (id + 1) % n), [], 'nobody has a vote of it');
        t.equal(c.replica(id).disk.hardState, undefined);
        c.run(2_000_000);
        const { state } = c.replica(id);
        t.match([state.starting, state.status, state.incarnation], [false, ReplicaStatus.normal, 1 + INCARNATION_LEAP]);
        t.ok(state.view > VIEW_LEAP, `replica ${id} of ${n}: view ${state.view}`);
        t.strictSame(c.replica(id).operations, ['R', 'a', 'b']);
        const early = c.history
          .slice(before)
          .filter(
            ({ from, message, values }) =>
              from === id &&
              (message.type === SyncAck.type || message.type === Vote.type) &&
              Number(values['view']) <= VIEW_LEAP,
          );
        t.strictSame(early, [], 'it acknowledged and voted in no view that it may have known before');
      }
    }
    t.end();
  },
);

t.test(
  'with that word, but fewer than f + 1 others that know their promises: it waits, and a majority that is lost is called that',
  (t) => {
    const { c } = inUse(3);
    for (const id of [0, 1]) {
      c.replica(id).crash();
      c.replica(id).disk.wipe();
      c.replica(id).start(false, 'log-lost');
    }
    c.run(2_000_000);
    for (const id of [0, 1]) {
      t.match(
        [c.replica(id).state.starting, c.replica(id).disk.hardState, c.replica(id).forgotten],
        [true, undefined, undefined],
      );
      t.equal(c.replica(id).state.lostLogs, 0b011);
    }
    t.equal(c.replica(2).state.lostLogs, 0b011, 'the one that has its log knows');
    t.strictSame(c.replica(2).operations, ['R', 'a', 'b']);
    t.end();
  },
);

t.test('a leap stays in its epoch while that has room, and is worth as many cycles as one of 13 voters', (t) => {
  const worth = VIEW_LEAP / cycleOf(13);
  for (let n = 1; n <= 13; n++) {
    const cycle = cycleOf(n);
    for (const first of [0, 3 * EPOCH_VIEWS]) {
      const last = first + EPOCH_VIEWS - 1;
      let leaps = 0;
      for (let view = first + 5; ; leaps++) {
        const next = leapFrom(view, cycle);
        t.ok(next - view >= Math.max(4096, worth * cycle), `${n} voters: from ${view} by ${next - view}`);
        if (next > last) {
          t.ok(last - view < 4096 + cycle || last - view < VIEW_LEAP + cycle, 'there is no room any more');
          break;
        }
        t.ok(next + cycle <= last, 'each quorum has a view behind it');
        view = next;
      }
      t.equal(leaps, n <= 9 ? 7 : 16 - n, `${n} voters: leaps in a row from view ${first + 5}`);
    }
  }
  t.end();
});

t.test('two of five with that word come back together', (t) => {
  const { c } = inUse(5);
  for (const id of [1, 3]) {
    c.replica(id).crash();
    c.replica(id).disk.wipe();
    c.replica(id).start(false, 'log-lost');
  }
  c.run(3_000_000);
  for (const replica of c.replicas)
    t.match([replica.state.status, replica.operations], [ReplicaStatus.normal, ['R', 'a', 'b']]);
  t.end();
});

t.test('the promise that it forgot is kept: acknowledged while it was away stays', (t) => {
  // Replica 1 promised view 4 and forgot it; the vote that it sent then comes late.
  const { c } = inUse(3);
  const { state } = c.replica(1);
  const view = state.views.next(0, 0b110, 2, 0);
  c.replica(1).receive(ViewChange, { view }, 2);
  const [vote] = c.take({ from: 1, message: Vote });
  t.not(vote, undefined);
  c.lose();
  c.replica(1).crash();
  c.replica(1).disk.wipe();
  c.replica(1).start(false, 'log-lost');
  c.run(2_000_000);
  t.ok(c.replica(1).state.view > VIEW_LEAP);
  const views = c.replicas.map((replica) => replica.state.view);
  c.arrive(vote!);
  c.run(100_000);
  t.strictSame(
    c.replicas.map((replica) => replica.state.view),
    views,
    'it starts nothing any more',
  );
  t.end();
});

t.test('a release that says nothing of itself: neither new nor remembered, so the log counts as lost', (t) => {
  const c = new Cluster(3, { first: 'ask', keepsLog: true });
  const mute = {
    knownIncarnation: 0,
    knownLife: 0,
    life: 0,
    condition: 0,
    list: 0,
    fingerprint: 0,
    heardPrimary: 1,
    committedIndex: 0n,
    lastIndex: 0n,
    logView: 0,
    status: ReplicaStatus.normal,
    incarnation: 1,
    view: 0,
  };
  c.replica(2).start(false, 'ask');
  const { nonce } = c.take({ from: 2, message: Probe })[0]!.values;
  c.replica(2).receive(ProbeReply, { ...mute, nonce: nonce! }, 0);
  t.equal(c.replica(2).state.starting, true);
  c.replica(2).receive(ProbeReply, { ...mute, nonce: nonce! }, 1);
  t.match(
    [c.replica(2).state.starting, c.replica(2).state.status, c.replica(2).state.view],
    [false, ReplicaStatus.recovering, VIEW_LEAP],
  );
  t.end();
});

t.test('cluster files that differ are named once', (t) => {
  const { c } = inUse(3);
  const [member] = [c.replica(1)];
  for (let i = 0; i < 3; i++) {
    member.receive(Probe, { view: 0, nonce: 5, incarnation: 1, life: 0, list: 0x50000007, fingerprint: 0 }, 2);
    member.receive(Probe, { view: 0, nonce: 5, incarnation: 1, life: 0, list: 0x30000000, fingerprint: 0 }, 0);
  }
  t.strictSame(
    member.transitions.filter((line) => line.startsWith('cluster-differs')),
    ["cluster-differs: the cluster file of replica 2 lists 5 replicas, this one's 3"],
  );
  t.equal(member.state.others.otherList, 1 << 2);
  for (const list of [0, 0x30000007]) {
    member.receive(Probe, { view: 0, nonce: 5, incarnation: 1, life: 0, list, fingerprint: 0 }, 2);
    t.equal(member.state.others.otherList, list === 0 ? 1 << 2 : 0, 'version 3 of the wire does not say');
  }
  t.equal(member.transitions.filter((line) => line.startsWith('cluster-agrees')).length, 1);
  t.end();
});
