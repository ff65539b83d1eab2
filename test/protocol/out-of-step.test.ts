// Owners whose requests reach one replica of the quorum and the others late or never: served apart, so that the others keep
// their one round trip. View 0 of three: primary 0, member 1, spare 2.
import t from 'tap';
import { DEFAULT_LIMITS, DEFAULT_TIMINGS } from '../../src/protocol/config.js';
import { Instant } from '../../src/protocol/contract.js';
import { Entry } from '../../src/protocol/log/entry.js';
import {
  APART_PERIODS,
  BATCH_TURN,
  BATCH_US,
  FORGIVE_PERIODS,
  NOTICES_APART,
  OPEN_PART,
  OutOfStep,
  OVERTAKEN_PART,
  PERIOD_US,
  REPAIRS_FREE,
} from '../../src/protocol/replica/agreement/out-of-step.js';
import type { ReplicaState } from '../../src/protocol/replica/replica-state.js';
import {
  Chunk,
  Differed,
  Fetch,
  Order,
  Reject,
  RejectReason,
  Reply,
  Request,
  Sync,
  SyncAck,
} from '../../src/wire/messages.js';
import { Cluster, encode, TEST_LIMITS, type ClusterOptions, type HandClient, type Packet } from './harness.js';

/** Long enough for every owner to be served as all others are again. */
const PEACE_US = (APART_PERIODS + 3) * PERIOD_US;
const ROUNDS = 4 * REPAIRS_FREE;
const REST_US = 1_000;

/** A cluster with two honest clients, and one that may do otherwise. */
class Scene {
  readonly c: Cluster;
  readonly alice: HandClient;
  readonly bob: HandClient;
  readonly mallory: HandClient;
  private numbers = new Map<HandClient, number>();

  constructor(options: ClusterOptions = {}) {
    this.c = new Cluster(3, {
      late: 'restamp',
      ...options,
      // Tests let many requests pass between two Syncs.
      limits: { cachedRequests: 1_024, ...options.limits },
      timings: { orderHoldUs: 1_000_000, ...options.timings },
    });
    [this.alice, this.bob, this.mallory] = [this.c.hand(), this.c.hand(), this.c.hand()];
    for (const [i, client] of [this.alice, this.bob, this.mallory].entries())
      this.c.give(client, Request, client.registration(10 + i), 0, 1);
    this.c.run(10_000);
    this.c.lose();
  }

  /** A request that is stamped now. */
  next(client: HandClient, options: { lane?: number } = {}): ReturnType<HandClient['request']> {
    const number = (this.numbers.get(client) ?? 0) + 1;
    this.numbers.set(client, number);
    this.c.pass(1);
    return client.request(Number(this.c.wallNs), number, `${client.endpoint}-${number}`, options);
  }

  /** The client sends its next request to both members. True if that commits in one round trip. */
  commits(client: HandClient): boolean {
    const request = this.next(client);
    const answers = [0, 1].map((id) =>
      this.c
        .replica(id)
        .receive(Request, request, client.endpoint)
        .find(({ message, to }) => message === Reply && to === client.endpoint),
    );
    return answers[0] !== undefined && answers[1]?.values['chain'] === answers[0].values['chain'];
  }

  /** `client` sends a request to these replicas only; then Alice commits, and all messages arrive. Alice's round trip. */
  round(client: HandClient, ...to: number[]): boolean {
    this.c.give(client, Request, this.next(client), ...to);
    const fast = this.commits(this.alice);
    this.c.settle();
    this.c.run(REST_US);
    return fast;
  }

  rounds(count: number, client: HandClient, ...to: number[]): number {
    let fast = 0;
    for (let i = 0; i < count; i++) if (this.round(client, ...to)) fast++;
    return fast;
  }

  apart(id: number, client: HandClient): boolean {
    return this.c.replica(id).core['repair'].outOfStep.isApart(
      Object.assign(this.c.replica(id).core['requests']['arrived'], {
        owner: 0,
        sessionHi: 0,
        sessionLo: Number(client.session),
      }),
    );
  }

  reports(): [number, bigint][] {
    return this.c.history
      .filter(({ message, values }) => message === SyncAck && Number(values['differed']) > Differed.differs)
      .map(({ values }) => [Number(values['differed']), values['matchedIndex'] as bigint]);
  }
}

t.test(
  'requests that only a member gets: after a few repairs they wait there for the order, which never names them',
  (t) => {
    const s = new Scene();
    const before = s.rounds(REPAIRS_FREE + 1, s.mallory, 1);
    t.equal(before, 0, 'each costs Alice her one round trip');
    t.equal(s.apart(1, s.mallory), true);
    t.equal(s.rounds(ROUNDS, s.mallory, 1), ROUNDS, 'then none does');
    t.equal(s.commits(s.bob), true);
    t.equal(s.c.replica(1).counter('requests_apart'), ROUNDS);
    t.equal(s.apart(1, s.alice) || s.apart(1, s.bob) || s.apart(0, s.mallory), false);
    t.same(s.c.replica(1).operations, s.c.replica(0).operations);
    s.c.run(PEACE_US);
    t.equal(s.apart(1, s.mallory), false, 'not for ever');
    t.equal(s.commits(s.mallory), true, 'and then it commits as all others do');
    t.end();
  },
);

t.test('its requests that do reach the primary are acknowledged by the primary’s order, and reported', (t) => {
  const s = new Scene();
  s.rounds(REPAIRS_FREE + 1, s.mallory, 1);
  const request = s.next(s.mallory);
  t.strictSame(s.c.replica(1).receive(Request, request, s.mallory.endpoint), [], 'the member waits');
  const { values } = s.c
    .replica(0)
    .receive(Request, request, s.mallory.endpoint)
    .find(({ message }) => message === Reply)!;
  s.c.deliver({ message: Order });
  const [acknowledged] = s.c.take({ from: 1, to: s.mallory.endpoint, message: Reply });
  t.match(acknowledged!.values, { index: values['index'], chain: values['chain'], ordered: 1 });
  t.strictSame(s.reports(), [[Differed.awaits, (values['index'] as bigint) - 1n]]);
  t.equal(s.apart(0, s.mallory), false);
  s.c.settle();
  t.equal(s.apart(0, s.mallory), true, 'the primary believes it');
  t.end();
});

t.test('the primary appends requests that are out of step in batches', (t) => {
  const s = new Scene();
  s.rounds(REPAIRS_FREE + 1, s.mallory, 1);
  s.round(s.mallory, 0, 1);
  t.equal(s.apart(0, s.mallory), true);
  s.c.run(BATCH_US - (s.c.now.monotonicUs % BATCH_US) + 1);
  s.c.lose();
  const last = s.c.replica(0).last;
  let fast = 0;
  for (let lane = 0; lane < 4; lane++) {
    s.c.give(s.mallory, Request, s.next(s.mallory, { lane }), 0, 1);
    if (s.commits(s.alice)) fast++;
  }
  t.equal(fast, 4, 'those of others are not touched');
  t.equal(s.c.replica(0).last, last + 4);
  s.c.run(BATCH_US + 2_000);
  t.equal(s.c.replica(0).last, last + 8, 'then all of them at once');
  t.equal(s.c.replica(1).chain(last + 8), s.c.replica(0).chain(last + 8));
  const heard = s.c.history.filter(
    ({ from, to, message, values }) =>
      from === 1 && to === s.mallory.endpoint && message === Reply && Number(values['index']) > last,
  );
  t.strictSame(new Set(heard.map(({ values }) => values['index'])).size, 4, 'and the client hears of each');
  t.end();
});

t.test('a request that is out of step enters the log no sooner than its timestamp', (t) => {
  const s = new Scene();
  s.rounds(REPAIRS_FREE + 1, s.mallory, 1);
  s.round(s.mallory, 0, 1);
  t.equal(s.apart(0, s.mallory), true);
  s.c.run(2 * BATCH_US);
  s.c.lose();
  const primary = s.c.replica(0);
  const ahead = (lane: number, aheadNs: number): ReturnType<HandClient['request']> =>
    s.mallory.request(Number(s.c.wallNs) + aheadNs, 9_000, `ahead-${lane}`, { lane });
  s.c.give(s.mallory, Request, ahead(0, 80_000_000), 0);
  s.c.give(s.mallory, Request, ahead(1, 500_000), 0);
  const [refused] = s.c.take({ from: 0, to: s.mallory.endpoint, message: Reject });
  t.equal(refused?.values['reason'], RejectReason.tooFarAhead, 'what is too far ahead is refused');
  for (let i = 0; i < 8; i++) {
    s.c.run(BATCH_US / 4);
    const { log } = primary.core.state;
    const key = (BigInt(log.timestampHi(log.lastIndex)) << 32n) | BigInt(log.timestampLo(log.lastIndex) >>> 0);
    t.ok(key <= s.c.wallNs, `the log is ${key - s.c.wallNs} ns ahead`);
  }
  t.match(primary.operations.at(-1), 'ahead-1', 'and what is a little ahead is in the next batch');
  t.end();
});

t.test('requests that only the primary gets: the member reports each once, and the primary batches them', (t) => {
  const s = new Scene();
  for (let i = 0; i < 2 * REPAIRS_FREE && !s.apart(0, s.mallory); i++) {
    s.round(s.mallory, 0);
    s.c.run(3_000);
  }
  const reports = s.reports();
  t.equal(s.apart(0, s.mallory), true, `${reports.length} reports`);
  t.ok(reports.length > REPAIRS_FREE && reports.length <= REPAIRS_FREE + 2);
  t.ok(reports.every(([how]) => how === Differed.lacks));
  t.equal(new Set(reports.map(([, index]) => index)).size, reports.length);
  t.equal(s.apart(1, s.mallory), false);
  s.c.run(BATCH_US - (s.c.now.monotonicUs % BATCH_US) + 1);
  let fast = 0;
  for (let i = 0; i < 8; i++) {
    s.c.give(s.mallory, Request, s.next(s.mallory, { lane: i % 4 }), 0);
    if (s.commits(s.alice)) fast++;
    s.c.settle();
    s.c.run(500);
  }
  t.equal(fast, 8);
  const { length: before } = s.c.history;
  s.c.pass(2 * BATCH_US);
  const pushed = s.c.history.slice(before).filter(({ from, to }) => from === 0 && to === 1);
  t.equal(pushed.filter(({ message }) => message === Chunk).length, 1, 'the primary sends the entries by itself');
  t.equal(pushed.filter(({ message }) => message === Order).length, 0);
  s.c.settle();
  t.same(s.c.replica(1).operations, s.c.replica(0).operations, 'and the member has them all');
  t.end();
});

t.test('whose requests are lost to the primary now and then is left alone', (t) => {
  const s = new Scene();
  const every = 2 / OVERTAKEN_PART;
  for (let i = 0; i < 2 * REPAIRS_FREE * every; i++) {
    if (i % every === 0) s.round(s.mallory, 1);
    else {
      t.equal(s.commits(s.mallory), true);
      if (i % 8 === 0) s.c.settle();
    }
  }
  t.equal(s.apart(1, s.mallory), false);
  t.end();
});

t.test('an owner beside whom there is no other is left alone', (t) => {
  const c = new Cluster(3, { late: 'restamp', timings: { orderHoldUs: 1_000_000 } });
  const alice = c.hand();
  c.give(alice, Request, alice.registration(10), 0, 1);
  c.run(10_000);
  for (let number = 1; number < 4 * ROUNDS; number += 2) {
    const timestamp = Number(c.wallNs);
    c.give(alice, Request, alice.request(timestamp - 2, number, 'x'), 1);
    c.give(alice, Request, alice.request(timestamp - 1, number + 1, 'y', { lane: 1 }), 0, 1);
    c.settle();
    c.run(2_000);
  }
  t.ok(c.replica(1).counter('entries_cut') > ROUNDS);
  t.equal(c.replica(1).counter('requests_apart'), 0);
  t.end();
});

for (const laterUs of [0, 2_000]) {
  t.test(`of two whose requests cross alike, ${laterUs} µs late at the primary, neither is served apart`, (t) => {
    const s = new Scene();
    for (let i = 0; i < 2 * ROUNDS; i++) {
      const [first, second] = i % 2 === 0 ? [s.bob, s.mallory] : [s.mallory, s.bob];
      const [a, b] = [s.next(first), s.next(second)];
      s.c.give(first, Request, a, 1);
      s.c.give(second, Request, b, 0, 1);
      s.c.settle();
      s.c.run(laterUs);
      s.c.give(first, Request, a, 0);
      s.c.settle();
      s.c.run(REST_US);
    }
    t.ok(s.c.replica(1).counter('entries_cut') > ROUNDS);
    t.equal(s.apart(1, s.bob) || s.apart(1, s.mallory), false);
    t.equal(s.c.replica(1).counter('requests_apart'), 0);
    t.end();
  });
}

t.test('a crossing takes back its repair as well: many of them and a few losses set nobody apart', (t) => {
  const s = new Scene();
  const crossing = (): void => {
    const request = s.next(s.mallory);
    s.c.give(s.mallory, Request, request, 1);
    s.commits(s.alice);
    s.c.settle();
    s.c.give(s.mallory, Request, request, 0);
    s.c.settle();
    s.c.run(REST_US);
  };
  crossing(); // from now on the primary pushes its order
  const before = s.c.replica(1).counter('entries_cut');
  for (let i = 0; i < ROUNDS; i++) crossing();
  t.equal(s.c.replica(1).counter('entries_cut') - before, 2 * ROUNDS, 'each made a repair');
  // More than a sixteenth of its requests, and fewer repairs than are free.
  t.equal(s.rounds(REPAIRS_FREE - 1, s.mallory, 1), 0);
  t.equal(s.apart(1, s.mallory), false);
  t.equal(s.rounds(2, s.mallory, 1), 0);
  t.equal(s.apart(1, s.mallory), true, 'they counted');
  t.end();
});

t.test('what comes from such an owner while the order waits is not appended behind it', (t) => {
  const s = new Scene();
  s.rounds(REPAIRS_FREE + 1, s.mallory, 1);
  const late = s.next(s.bob);
  s.c.give(s.bob, Request, late, 0);
  s.c.deliver({ message: Order });
  s.c.give(s.mallory, Request, s.next(s.mallory), 1);
  s.c.give(s.bob, Request, late, 1);
  t.same(s.c.replica(1).operations, s.c.replica(0).operations);
  t.equal(s.commits(s.alice), true);
  t.end();
});

t.test('a member reports a request that it lacks once, however long it waits', (t) => {
  const s = new Scene();
  s.round(s.mallory, 0);
  s.c.run(20_000);
  const before = s.reports().length;
  s.c.loses = ({ message }) => message === Fetch;
  s.c.give(s.mallory, Request, s.next(s.mallory), 0);
  for (let i = 0; i < 8; i++) {
    s.commits(s.alice);
    s.c.run(2_000);
  }
  t.equal(s.reports().length, before + 1);
  s.c.heal();
  s.c.run(20_000);
  t.same(s.c.replica(1).operations, s.c.replica(0).operations);
  t.end();
});

t.test('the owner of a key counts as one, whatever sessions it uses', (t) => {
  const s = new Scene();
  const owner = 77;
  const sessions = Array.from({ length: 12 }, () => s.c.hand());
  const give = (client: HandClient, values: Record<string, number | bigint | Uint8Array>, ...to: number[]): void => {
    const bytes = encode(Request, values);
    for (const id of to) {
      s.c.replica(id).core.receive(bytes, 0, bytes.length, client.endpoint, s.c.now, owner);
      s.c.replica(id).core.flush(s.c.now);
    }
  };
  for (const session of sessions) {
    s.c.pass(1);
    give(session, session.registration(Number(s.c.wallNs), { nonce: (BigInt(owner) << 32n) | session.session }), 0, 1);
  }
  s.c.run(10_000);
  for (const session of sessions) {
    give(session, s.next(session), 1);
    s.commits(s.alice);
    s.c.settle();
    s.c.run(REST_US);
  }
  t.equal(s.c.replica(1).counter('requests_apart'), sessions.length - REPAIRS_FREE - 1);
  t.end();
});

t.test('a path that works again: the owner is served as all others are, at the primary and at the member', (t) => {
  const s = new Scene();
  s.rounds(REPAIRS_FREE + 1, s.mallory, 1);
  // The batches of the primary make its requests late there. That must not keep them apart.
  for (let us = 0; us < PEACE_US; us += 4 * REST_US) {
    s.round(s.mallory, 0, 1);
    s.c.run(3 * REST_US);
  }
  t.equal(s.apart(0, s.mallory) || s.apart(1, s.mallory), false);
  for (let i = 0; i < 8; i++) {
    t.equal(s.commits(s.mallory), true);
    s.c.settle();
  }
  t.end();
});

t.test('a request that its lane passed over is overtaken as well', (t) => {
  const s = new Scene();
  for (let i = 0; i < 2 * REPAIRS_FREE; i++) {
    s.c.give(s.mallory, Request, s.next(s.mallory), 1);
    s.round(s.mallory, 0, 1);
  }
  t.equal(s.apart(1, s.mallory), true);
  t.end();
});

t.test('another view begins anew', (t) => {
  const s = new Scene();
  s.rounds(REPAIRS_FREE + 1, s.mallory, 1);
  t.equal(s.apart(1, s.mallory), true);
  s.c.isolate(0);
  s.c.run(400_000);
  t.ok(s.c.replica(1).state.view > 0);
  t.equal(s.apart(1, s.mallory), false);
  t.end();
});

t.test('no room for the next batch: busy. Registers, and under `late: reject` all requests, are in no batch', (t) => {
  const s = new Scene();
  s.rounds(REPAIRS_FREE + 1, s.mallory, 1);
  s.round(s.mallory, 0, 1);
  s.c.run(BATCH_US - (s.c.now.monotonicUs % BATCH_US) + 1);
  t.equal(s.apart(0, s.mallory), true);
  const refused: Packet[] = [];
  for (let i = 0; i <= TEST_LIMITS.held; i++)
    refused.push(...s.c.replica(0).receive(Request, s.next(s.mallory), s.mallory.endpoint));
  t.ok(refused.length > 0);
  t.ok(refused.every(({ message, values }) => message === Reject && values['reason'] === RejectReason.busy));
  t.equal(s.commits(s.alice), true);

  const r = new Scene({ late: 'reject' });
  r.c.arrive({ ...awaiting(r, r.mallory) });
  t.equal(r.apart(0, r.mallory), true);
  t.equal(r.c.replica(0).answer(Request, r.next(r.mallory), r.mallory.endpoint).message, Reply);
  t.end();
});

t.test('an owner with too many entries in different orders is served apart, and the others go on', (t) => {
  const cachedRequests = 64;
  const most = cachedRequests * OPEN_PART;
  const flooded = (count: number, beside: boolean, differences = 4, inOrder = false): Scene => {
    const s = new Scene({ limits: { cachedRequests } });
    // Long enough for earlier requests to be forgotten.
    s.c.run(8_000_000);
    if (beside) t.equal(s.commits(s.alice), true);
    for (let i = 0; i < differences; i++) {
      s.c.run(20_000);
      s.c.give(s.mallory, Request, s.next(s.mallory), 1);
      s.c.give(s.mallory, Request, s.next(s.mallory), 0, 1);
      s.c.settle();
      s.c.run(6_000);
      t.equal(s.c.replica(0).state.pushing, true, 'the logs differ, and the primary hears of it');
    }
    // Its requests reach both replicas, each in another order; no Sync was answered yet.
    const requests = Array.from({ length: count }, (_, i) => s.next(s.mallory, { lane: i % 4 }));
    for (const request of requests) s.c.give(s.mallory, Request, request, 0);
    const others = inOrder ? requests : [...requests.slice(1), requests[0]!];
    for (const request of others) s.c.give(s.mallory, Request, request, 1);
    s.c.lose();
    s.c.pass(6_000);
    return s;
  };
  const s = flooded(most + 8, true);
  s.c.deliver({ message: Sync });
  t.equal(s.apart(0, s.mallory), true, 'at the primary');
  t.equal(s.apart(0, s.alice) || s.apart(1, s.alice) || s.apart(0, s.bob), false);
  s.c.run(100_000);
  const cut = s.c.replica(1).counter('entries_cut');
  const before = s.c.replica(0).last;
  let fast = 0;
  for (let i = 0; i < 100; i++) {
    for (let lane = 0; lane < 4; lane++) {
      const request = s.next(s.mallory, { lane });
      s.c.give(s.mallory, Request, request, i % 2);
      s.c.give(s.mallory, Request, request, 1 - (i % 2));
    }
    if (s.commits(s.alice)) fast++;
    s.c.settle();
    s.c.run(REST_US);
  }
  t.ok(fast >= 90, `${fast} of 100 commits in one round trip`);
  t.ok(s.c.replica(1).counter('entries_cut') - cut < 100, 'nothing of it is moved in the log of the member');
  s.c.run(2 * BATCH_US);
  const { last } = s.c.replica(0);
  t.ok(last - before > 120, `${last - before} entries: it is served as well`);
  t.equal(s.c.replica(1).chain(last), s.c.replica(0).chain(last));

  for (const [count, beside, differences, inOrder] of [
    [most - 8, true, 4, false],
    [most + 8, false, 4, false],
    // Many entries alone say nothing, and a difference now and then does not either.
    [most + 8, true, 0, true],
    [most + 8, true, 1, true],
  ] as const) {
    const quiet = flooded(count, beside, differences, inOrder);
    quiet.c.deliver({ message: Sync });
    t.strictSame([quiet.apart(0, quiet.mallory), quiet.apart(1, quiet.mallory)], [false, false]);
  }
  t.end();
});

t.test('a batch is appended in pieces, so that others wait for no more than one', (t) => {
  const s = new Scene({ limits: { held: 4 * BATCH_TURN } });
  s.rounds(REPAIRS_FREE + 1, s.mallory, 1);
  s.round(s.mallory, 0, 1);
  s.c.run(BATCH_US - (s.c.now.monotonicUs % BATCH_US) + 1);
  t.equal(s.apart(0, s.mallory), true);
  const before = s.c.replica(0).last;
  for (let i = 0; i < 2 * BATCH_TURN; i++) s.c.give(s.mallory, Request, s.next(s.mallory, { lane: i % 4 }), 0, 1);
  t.equal(s.c.replica(0).last, before);
  s.c.pass(BATCH_US - (s.c.now.monotonicUs % BATCH_US) - 1);
  s.c.pass(2);
  t.equal(s.c.replica(0).last, before + BATCH_TURN, 'a piece in each turn');
  t.ok(s.c.replica(0).core.wakeAtUs <= s.c.now.monotonicUs, 'and the next turn is due at once');
  s.c.run(3_000);
  const { last } = s.c.replica(0);
  t.equal(last, before + 2 * BATCH_TURN);
  t.equal(s.c.replica(1).chain(last), s.c.replica(0).chain(last));
  t.end();
});

t.test('who is found to be out of step again is served apart sooner and for longer; in time that is forgotten', (t) => {
  const s = new Scene();
  /** Requests to the member only until they wait there, and for how long they then do. */
  const offend = (): { after: number; forUs: number } => {
    let after = 0;
    while (!s.apart(1, s.mallory)) {
      s.round(s.mallory, 1);
      after++;
    }
    const fromUs = s.c.now.monotonicUs;
    while (s.apart(1, s.mallory)) s.c.run(PERIOD_US);
    return { after, forUs: s.c.now.monotonicUs - fromUs };
  };
  const first = offend();
  const second = offend();
  t.equal(first.after, REPAIRS_FREE + 1);
  t.ok(second.after < first.after, `after ${first.after} requests, then after ${second.after}`);
  t.ok(second.forUs > 1.5 * first.forUs, `${first.forUs} µs, then ${second.forUs}`);
  for (let us = 0; us < 3 * FORGIVE_PERIODS * PERIOD_US; us += 10 * PERIOD_US) s.c.run(10 * PERIOD_US);
  t.equal(offend().after, REPAIRS_FREE + 1);
  t.end();
});

/** A member's word that the last request of `client` had to wait there. */
function awaiting(s: Scene, client: HandClient): Packet {
  s.c.give(client, Request, s.next(client), 0, 1);
  s.c.settle();
  s.c.run(6_000);
  const [like] = s.c.history.filter(({ message, from }) => message === SyncAck && from === 1).slice(-1);
  const values = {
    ...like!.values,
    differed: Differed.awaits,
    matchedIndex: BigInt(s.c.replica(0).last - 1),
    neededIndex: 0n,
  };
  return { ...like!, values, bytes: encode(SyncAck, values) };
}

t.test('members know whom the primary serves in batches, and do not take the batches for lateness', (t) => {
  const s = new Scene();
  // As if the primary had found out by itself.
  s.c
    .replica(0)
    .core['repair'].outOfStep.awaitedBy(
      Object.assign(new Entry(), { owner: 0, sessionHi: 0, sessionLo: Number(s.mallory.session) }),
    );
  s.c.run(6_000);
  t.equal(s.apart(1, s.mallory), true, 'the first Sync says it, by the entry of its Register');
  t.equal(s.apart(1, s.alice) || s.apart(1, s.bob), false);
  t.same(s.reports(), [[Differed.awaits, 2n]], 'told once');
  s.c.run(5 * PERIOD_US);
  t.strictSame([s.apart(0, s.mallory), s.apart(1, s.mallory)], [false, false], 'it does not keep itself up');
  t.end();
});

t.test('more owners than a notice names have their turn in the next ones', (t) => {
  const owners = 4 * NOTICES_APART;
  const pointAt = (index: number, into: Entry): Entry => Object.assign(into, { owner: 1 + (index % owners) });
  const log = { baseIndex: 0, lastIndex: 5_000, pointAt };
  const outOfStep = new OutOfStep({ log, config: { seed: 1 } } as unknown as ReplicaState);
  const entry = new Entry();
  for (let owner = 1; owner <= owners; owner++) outOfStep.awaitedBy(Object.assign(entry, { owner }));
  const now = new Instant();
  const named: number[][] = [];
  for (let notice = 0; notice < 2 * NOTICES_APART; notice++) {
    now.monotonicUs += PERIOD_US;
    t.equal(outOfStep.noticeDue(log.lastIndex, now), true);
    t.equal(outOfStep.noticeDue(log.lastIndex, now), false);
    const ids: number[] = [];
    for (let index = outOfStep.noticed(); index > 0; index = outOfStep.noticed()) ids.push(pointAt(index, entry).owner);
    named.push(ids);
  }
  const round = named.slice(0, NOTICES_APART).flat();
  t.equal(new Set(round).size, owners, 'each once');
  t.equal(round.length, owners);
  t.same(named.slice(NOTICES_APART).flat(), round, 'and again');
  t.end();
});

t.test('what is committed counts as open for nobody, though a member that joins has confirmed nothing yet', (t) => {
  const entry = new Entry();
  const of = (owner: number): Entry => {
    entry.owner = owner;
    return entry;
  };
  const log = {
    baseIndex: 0,
    lastIndex: 20_000,
    pointAt: (index: number, into: Entry) => {
      into.owner = index % 2;
      return into;
    },
  };
  const state = {
    log,
    committed: log.lastIndex - 200,
    config: { seed: 1, limits: DEFAULT_LIMITS, timings: DEFAULT_TIMINGS },
  };
  const outOfStep = new OutOfStep(state as unknown as ReplicaState);
  const now = new Instant();
  outOfStep.differs(now);
  now.monotonicUs += PERIOD_US;
  outOfStep.differs(now);
  for (const owner of [0, 1]) outOfStep.appended(of(owner));
  outOfStep.look(0, now);
  t.notOk(outOfStep.isApart(of(0)) || outOfStep.isApart(of(1)), 'after a change of views');
  state.committed = 0;
  outOfStep.look(0, now);
  t.ok(outOfStep.isApart(of(0)) && outOfStep.isApart(of(1)), 'what is not committed counts');
  t.end();
});
