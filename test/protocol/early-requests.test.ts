// Requests that come for a view before it has begun here. Of three: view 0 = primary 0, member 1; 1 = 1, 2.
import t from 'tap';
import { EarlyRequests } from '../../src/protocol/replica/early-requests.js';
import { ReplicaStatus, Reply, Request, Sync, ViewChange } from '../../src/wire/messages.js';
import { Cluster, type HandClient } from './harness.js';

/** Replicas 1 and 2 have promised view 1, and only its primary has begun it. */
function scene(options: ConstructorParameters<typeof Cluster>[1] = {}): { c: Cluster; alice: HandClient } {
  const c = new Cluster(3, options);
  const alice = c.hand();
  c.give(alice, Request, alice.registration(10), 0, 1);
  c.run(30_000);
  c.loses = ({ to, message }) => to === 2 && message.name === Sync.name;
  for (const id of [1, 2]) c.replica(id).receive(ViewChange, { view: 1 }, 0);
  for (let tries = 0; tries < 20 && c.replica(1).state.status !== ReplicaStatus.normal; tries++) c.run(500);
  if (c.replica(1).state.status !== ReplicaStatus.normal || c.replica(2).state.status !== ReplicaStatus.viewChange)
    throw new Error('the view has not begun at its primary alone');
  return { c, alice };
}

t.test('a member that begins a view has what came for it before, and answers', (t) => {
  const { c, alice } = scene();
  const before = c.replica(2).last;
  const requests = c.replica(2).counter('requests');
  c.give(alice, Request, alice.request(20, 1, 'a', { view: 1 }), 1, 2);
  c.give(alice, Request, alice.request(30, 1, 'b', { view: 1, lane: 1 }), 1, 2);
  t.equal(c.replica(2).last, before, 'it acknowledges nothing before');
  let answers = 0;
  c.loses = ({ from, to, message }) => {
    if (from === 2 && to === alice.endpoint && message.name === Reply.name) answers++;
    return false;
  };
  for (let tries = 0; tries < 20 && c.replica(2).state.status !== ReplicaStatus.normal; tries++) c.run(500);
  t.match(c.replica(2).state, { view: 1, status: ReplicaStatus.normal });
  t.equal(c.replica(2).last, before + 2, 'the client sends nothing again');
  t.equal(c.replica(2).chain(before + 2), c.replica(1).chain(before + 2));
  t.equal(answers, 2);
  t.equal(c.replica(2).counter('requests'), requests + 2, 'each is counted once');
  t.end();
});

t.test(
  'what came for a view that is never begun here is dropped, and so is what came for one without this replica',
  (t) => {
    const { c, alice } = scene();
    c.give(alice, Request, alice.request(20, 1, 'a', { view: 1 }), 2);
    // 4: of 1 and 0. 5: of 2 and 1.
    c.give(alice, Request, alice.request(30, 1, 'b', { view: 4, lane: 1 }), 2);
    for (const id of [1, 2]) c.replica(id).receive(ViewChange, { view: 5 }, 0);
    c.heal();
    c.run(300_000);
    const { state } = c.replica(2);
    t.ok(state.status === ReplicaStatus.normal && state.view >= 5);
    for (let index = 1; index <= c.replica(2).last; index++)
      t.equal(state.log.lane(index) === 0 && state.log.request(index) === 1, false);
    t.end();
  },
);

t.test('they are bounded, and no owner takes more than a part of the places', (t) => {
  const early = new EarlyRequests(16);
  const request = (owner: number, length = 64): never =>
    ({
      operationBytes: new Uint8Array(1024).fill(owner),
      messageOffset: 0,
      messageLength: length,
      owner,
      view: 1,
      replyTo: 100 + owner,
      sessionHi: 0,
      sessionLo: owner,
    }) as never;
  let greedy = 0;
  for (let i = 0; i < 100; i++) if (early.keep(request(1))) greedy++;
  t.equal(greedy, 8, 'half of them while nobody else wants any');
  t.ok(early.keep(request(2)));
  t.notOk(early.keep(request(3, 513)), 'a long one is sent again by its client');
  t.match([early.viewOf(8), early.ownerOf(8), early.fromOf(8), early.bytes[early.offsetOf(8)]], [1, 2, 102, 2]);
  for (let owner = 3; owner < 10; owner++) early.keep(request(owner));
  t.equal(early.count, 16);
  t.notOk(early.keep(request(20)));
  early.clear();
  t.ok(early.keep(request(1)));
  t.notOk(new EarlyRequests(0).keep(request(1)));
  t.end();
});
