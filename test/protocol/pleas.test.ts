// A client that does not hear, or reach, one member of the quorum gets a view that it can use, and costs the others
// little, whatever it says.
import t, { type Test } from 'tap';
import { Instant, Outcome } from '../../src/protocol/contract.js';
import {
  ALL_CHANGES,
  ALL_REFILL_US,
  CLIENT_CHANGES,
  CLIENT_REFILL_US,
  EVEN_US,
} from '../../src/protocol/replica/suspicion/pleas.js';
import { Views } from '../../src/protocol/views.js';
import { Hearing, UNHEARD_ASKED, UNHEARD_US } from '../../src/protocol/client/hearing.js';
import { Chunk, Plea, ReplicaStatus, ViewChange, ViewReason } from '../../src/wire/messages.js';
import { Cluster, type TestClient } from './harness.js';

const HOUR_US = 3_600_000_000;

function scene(n: number, clients: number): { c: Cluster; clients: TestClient[] } {
  const c = new Cluster(n, { late: 'restamp' });
  const made = Array.from({ length: clients }, () => c.client(1));
  for (const client of made) client.register();
  c.run(30_000);
  return { c, clients: made };
}

/** Commits operations of a client for so long; µs without one at most, of the views on the way how many there were. */
function serve(c: Cluster, client: TestClient, us: number): { worstUs: number; views: number } {
  const from = c.now.monotonicUs;
  const view = (): number => Math.max(...c.replicas.map(({ state }) => state.view));
  const seen = new Set([view()]);
  let worstUs = 0;
  let lastUs = from;
  client.submit('x');
  while (c.now.monotonicUs < from + us) {
    c.run(1000);
    seen.add(view());
    const last = client.completions.at(-1);
    if (client.core.isIdle(0)) {
      if (last?.outcome === Outcome.committed) lastUs = c.now.monotonicUs;
      client.submit('x');
    }
    worstUs = Math.max(worstUs, c.now.monotonicUs - lastUs);
  }
  return { worstUs, views: seen.size - 1 };
}

for (const [name, cuts] of [
  [
    'does not hear the member',
    (P: number, M: number, C: number, from: number, to: number) => P !== M && from === M && to === C,
  ],
  ['does not reach the member', (_P: number, M: number, C: number, from: number, to: number) => from === C && to === M],
  [
    'neither reaches nor hears the member',
    (_P: number, M: number, C: number, from: number, to: number) =>
      (from === C && to === M) || (from === M && to === C),
  ],
  ['does not hear the primary', (P: number, _M: number, C: number, from: number, to: number) => from === P && to === C],
  [
    'does not reach the primary',
    (P: number, _M: number, C: number, from: number, to: number) => from === C && to === P,
  ],
  [
    'neither reaches nor hears the primary',
    (P: number, _M: number, C: number, from: number, to: number) =>
      (from === C && to === P) || (from === P && to === C),
  ],
] as const) {
  t.test(`a client that ${name}, while a spare idles, is served within a second, by one view`, (t) => {
    const {
      c,
      clients: [client, other],
    } = scene(3, 2);
    c.loses = ({ from, to }) => cuts(0, 1, client!.endpoint, from, to);
    const { worstUs, views } = serve(c, client!, 3_000_000);
    t.ok(worstUs < 1_000_000, `${worstUs} µs`);
    t.equal(views, 1);
    t.equal(
      c.history.filter(
        ({ message, values }) => message.type === ViewChange.type && values['reason'] === ViewReason.plea,
      ).length > 0,
      true,
    );
    t.ok(serve(c, other!, 100_000).worstUs < 50_000, 'and so are the others');
    t.end();
  });
}

t.test('with five replicas, a client that hears three of them', (t) => {
  const {
    c,
    clients: [client],
  } = scene(5, 1);
  c.loses = ({ from, to }) =>
    (from === client!.endpoint && (to === 1 || to === 0)) || (to === client!.endpoint && (from === 1 || from === 0));
  const { worstUs, views } = serve(c, client!, 3_000_000);
  t.ok(worstUs < 1_000_000, `${worstUs} µs`);
  t.equal(views, 1);
  t.end();
});

t.test(
  'a view for a client whose new member never gets its log: the next one is with a member that has it, whatever the client hears',
  (t) => {
    const {
      c,
      clients: [client, other],
    } = scene(3, 2);
    // The spare falls behind, and what it fetches does not come: as with a large state on a busy host.
    c.isolate(2);
    serve(c, other!, 50_000);
    c.loses = ({ from, to, message }) =>
      (from === 0 && to === client!.endpoint) || (to === 2 && message.type === Chunk.type);
    const { committed } = c.replica(1).state;
    client!.submit('y');
    c.run(1_500_000);
    t.ok(
      c.history.some(({ message, values }) => message.type === ViewChange.type && values['reason'] === ViewReason.plea),
      'a view was left for the client',
    );
    const { worstUs } = serve(c, other!, 3_000_000);
    t.ok(c.replica(1).state.committed > committed, 'commits go on');
    t.ok(worstUs < 2_500_000, `${worstUs} µs`);
    t.ok(
      [0, 1].every((id) => c.replica(id).state.status === ReplicaStatus.normal) &&
        c.replica(1).state.view === c.replica(0).state.view,
    );
    t.equal(c.replica(0).state.views.memberMask(c.replica(0).state.view), 0b011);
    t.end();
  },
);

t.test('a client that is cut off itself changes nothing', (t) => {
  const {
    c,
    clients: [client],
  } = scene(3, 1);
  c.loses = ({ from, to }) =>
    (from === client!.endpoint || to === client!.endpoint) && (from < 2 || to < 2) && from !== 2 && to !== 2;
  serve(c, client!, 3_000_000);
  t.equal(c.replica(0).state.view, 0, 'it hears the spare only');
  t.end();
});

/**
 * A key holder pleads without end, of every set of replicas in turns, and to all. Returns the views that were left, and
 * how long the last hours took each.
 */
function plead(t: Test, owners: readonly number[], hours: number): number[] {
  const c = new Cluster(3, { late: 'restamp' });
  c.run(20_000);
  const counts: number[] = [];
  const bytes = new Uint8Array(Plea.size);
  for (let hour = 0; hour < hours; hour++) {
    const before = c.history.filter(
      ({ message, values }) => message.type === ViewChange.type && values['reason'] === ViewReason.plea,
    );
    const until = c.now.monotonicUs + HOUR_US;
    for (let turn = 0; c.now.monotonicUs < until; turn++) {
      // Mostly pauses, which hosts forgive; some time in which a plea can do what it can.
      c.now.monotonicUs += 20_000_000;
      for (let i = 0; i < 12; i++) {
        const { view } = c.replica(0).state;
        bytes.set(Plea.template);
        for (const owner of owners) {
          // Of the present view: the member, the primary, in turns; what the client hears is another one each time.
          const mask = 1 << c.replica(0).state.views.members(view)[(turn + owner) % 2]!;
          new DataView(bytes.buffer).setUint32(Plea.at.view, view);
          new DataView(bytes.buffer).setUint32(Plea.at.unreachable, mask);
          for (const replica of c.replicas) {
            replica.core.receive(bytes, 0, bytes.length, 200 + owner, c.now, owner);
            replica.core.flush(c.now);
          }
        }
        c.settle();
        c.run(6_000);
      }
    }
    const after = c.history.filter(
      ({ message, values }) => message.type === ViewChange.type && values['reason'] === ViewReason.plea,
    );
    counts.push(
      new Set(after.map(({ values }) => values['view'])).size -
        new Set(before.map(({ values }) => values['view'])).size,
    );
    c.history.length = 0;
  }
  t.ok(c.replicas.every(({ state }) => state.status === 0));
  return counts;
}

t.test('a key holder that pleads without end costs at most 4 views at once and 6 an hour beside them', (t) => {
  const [first, second] = plead(t, [7], 2);
  t.ok(first! >= CLIENT_CHANGES && first! <= CLIENT_CHANGES + HOUR_US / CLIENT_REFILL_US, `${first}`);
  t.ok(second! >= 1 && second! <= 1 + HOUR_US / CLIENT_REFILL_US, `${second}`);
  t.end();
});

t.test('ten of them together 8, and 12 an hour', (t) => {
  const [first, second] = plead(
    t,
    Array.from({ length: 10 }, (_, i) => i + 1),
    2,
  );
  t.ok(first! <= ALL_CHANGES + HOUR_US / ALL_REFILL_US, `${first}`);
  t.ok(second! <= 1 + HOUR_US / ALL_REFILL_US, `${second}`);
  t.end();
});

t.test('clients that contradict each other take turns, a minute each at least', (t) => {
  const {
    c,
    clients: [one, two],
  } = scene(3, 2);
  // One hears 0 and 1 only, the other one 0 and 2.
  c.loses = ({ from, to }) =>
    ([from, to].includes(one!.endpoint) && [from, to].includes(2)) ||
    ([from, to].includes(two!.endpoint) && [from, to].includes(1));
  one!.submit('x');
  two!.submit('x');
  const views: number[] = [];
  for (let s = 0; s < 55; s++) {
    c.run(1_000_000);
    views.push(c.replica(0).state.view);
    for (const client of [one!, two!]) if (client.core.isIdle(0)) client.submit('x');
  }
  const changes = views.filter((view, i) => i > 0 && view !== views[i - 1]).length;
  t.ok(changes <= 1, `${changes} in 55 s`);
  t.ok(EVEN_US >= 60_000_000);
  t.end();
});

for (const [name, masks] of [
  ['of every replica in turns', [0b001, 0b010, 0b100]],
  ['of each member in turns', [0b010, 0b100]],
  ['of anything', [0b001, 0b111, 0b010, 0b110, 0b100]],
] as const) {
  for (const atOnce of [true, false]) {
    t.test(
      `beside a key holder that pleads without end, ${name}, an honest client is served within ${atOnce ? 'a second when it comes first' : 'two when all of that had its effect before'}, and stays so`,
      (t) => {
        const {
          c,
          clients: [client, other],
        } = scene(3, 2);
        let turn = 0;
        const plead = (): void => {
          const bytes = Uint8Array.from(Plea.template);
          new DataView(bytes.buffer).setUint32(Plea.at.view, c.replica(0).state.view);
          new DataView(bytes.buffer).setUint32(Plea.at.unreachable, masks[turn++ % masks.length]!);
          for (const { core } of c.replicas) {
            core.receive(bytes, 0, bytes.length, 300, c.now, 7);
            core.flush(c.now);
          }
          c.settle();
        };
        for (let i = 0; i < (atOnce ? 0 : 200); i++) {
          plead();
          c.run(10_000);
        }
        // The member of now is one that the honest client does not hear.
        const { state } = c.replica(0);
        const unheard = state.views.members(state.view).find((r) => r !== state.primary)!;
        c.loses = ({ from, to }) => from === unheard && to === client!.endpoint;
        client!.submit('x');
        const pause = (atOnce ? 1_000_000 : 2_000_000) / 100;
        for (let i = 0; i < 100 && client!.completions.length === 0; i++) {
          plead();
          c.run(pause);
        }
        t.equal(client!.completions.length, 1);
        const { view } = c.replica(0).state;
        // It stays served, and so are the others.
        for (let i = 0; i < 100; i++) {
          plead();
          c.run(10_000);
        }
        const { worstUs } = serve(c, client!, 500_000);
        t.ok(worstUs < 200_000, `${worstUs} µs`);
        t.ok(serve(c, other!, 100_000).worstUs < 50_000);
        t.equal(c.replica(0).state.view, view);
        t.end();
      },
    );
  }
}

t.test('a plea that leads to no other view makes nobody suspected sooner', (t) => {
  const c = new Cluster(3, { late: 'restamp' });
  c.run(500_000);
  const plead = (client: number, mask: number): void => {
    for (const { core, state } of c.replicas) {
      const bytes = Uint8Array.from(Plea.template);
      new DataView(bytes.buffer).setUint32(Plea.at.view, state.view);
      new DataView(bytes.buffer).setUint32(Plea.at.unreachable, mask);
      core.receive(bytes, 0, bytes.length, 200 + client, c.now, client);
      core.flush(c.now);
    }
  };
  plead(1, 0b001);
  c.run(100_000);
  const { view, primary } = c.replica(0).state;
  t.strictSame(c.replica(0).state.views.members(view), [1, 2]);
  // Client 2 contradicts client 1, and so has to wait its turn. The primary falls silent for a moment, at a bad one.
  plead(2, 1 << primary);
  c.run(100_000);
  for (let i = 0; i < 20; i++) {
    c.loses = ({ from }) => from === primary;
    c.run(8_000);
    plead(2, 1 << primary);
    c.run(7_000);
    c.heal();
    c.run(45_000);
  }
  t.equal(c.replica(0).state.view, view);
  t.end();
});

t.test('a client says that it does not hear a replica only when it is sure', (t) => {
  const now = new Instant();
  const hearing = new Hearing(new Views(3), 3);
  let mask = 0;
  const ask = (times: number, eachUs: number, heard: readonly number[]): number => {
    for (let i = 0; i < times; i++) {
      mask = hearing.asked(now, 200);
      now.monotonicUs += eachUs;
      for (const r of heard) hearing.heard(r, now);
    }
    return mask;
  };
  t.equal(ask(UNHEARD_US / 16_000 - 1, 16_000, [0, 1]), 0, 'not yet');
  t.equal(ask(3, 16_000, [0, 1]), 0b100);
  hearing.settled();
  t.equal(ask(3, 16_000, [0, 1]), 0, 'a commit ends it');
  t.equal(ask(UNHEARD_ASKED - 3, 200_000, [0, 1]), 0, 'questions that are few');
  hearing.settled();
  t.equal(ask(60, 16_000, [0]), 0, 'a minority answers: this client is cut off itself');
  hearing.settled();
  ask(4, 16_000, [0, 1, 2]);
  now.monotonicUs += 10_000_000;
  t.equal(ask(2, 16_000, [0, 1]), 0, 'it stood still itself');
  t.end();
});
