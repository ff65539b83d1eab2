// Links that are cut in one direction, and stay so: a view that can serve is found, whatever is cut, and then stays.
import t, { type Test } from 'tap';
import { Outcome } from '../../src/protocol/contract.js';
import { Jitter } from '../../src/protocol/jitter.js';
import { Probe, ProbeReply, ReplicaStatus, Sync } from '../../src/wire/messages.js';
import { Cluster, type TestClient } from './harness.js';

/** Cut links, `from` × n + `to`, each. */
type Cuts = ReadonlySet<number>;

function cut(c: Cluster, cuts: Cuts): void {
  c.loses = ({ from, to }) => from < c.n && to < c.n && cuts.has(from * c.n + to);
}

/** Some f+1 replicas hear each other. */
function canServe(n: number, cuts: Cuts): boolean {
  const f = (n - 1) / 2;
  const both = (a: number, b: number): boolean => !cuts.has(a * n + b) && !cuts.has(b * n + a);
  const extend = (set: number[], next: number): boolean => {
    if (set.length === f + 1) return true;
    for (let r = next; r < n; r++) if (set.every((s) => both(s, r)) && extend([...set, r], r + 1)) return true;
    return false;
  };
  return extend([], 0);
}

const name = (n: number, cuts: Cuts): string =>
  [...cuts].map((link) => `${Math.floor(link / n)}→${link % n}`).join(' ') || 'none';

/** A registered client that hears and reaches all. */
function scene(n: number): { c: Cluster; client: TestClient } {
  const c = new Cluster(n, { late: 'restamp' });
  const client = c.client(1);
  client.register();
  c.run(30_000);
  return { c, client };
}

/** µs until an operation that is submitted now commits; Infinity after `us`. */
function commitWithin(c: Cluster, client: TestClient, us: number): number {
  const from = c.now.monotonicUs;
  const before = client.completions.length;
  client.submit('x');
  while (c.now.monotonicUs < from + us) {
    c.run(1000);
    if (client.completions.length > before)
      return client.completions.at(-1)!.outcome === Outcome.committed ? c.now.monotonicUs - from : Infinity;
  }
  return Infinity;
}

/** The primary of the highest view that runs has told all members of it, and heard of them, what is committed. */
function committedEverywhere(c: Cluster): boolean {
  const primary = c.replicas.filter(({ state }) => state.isPrimary).sort((a, b) => b.state.view - a.state.view)[0];
  return primary !== undefined && primary.state.committed === primary.state.log.lastIndex;
}

function judge(t: Test, n: number, cuts: Cuts, withinUs: number): void {
  const { c, client } = scene(n);
  cut(c, cuts);
  c.run(withinUs);
  t.ok(commitWithin(c, client, 100_000) < Infinity, `an operation commits: ${name(n, cuts)}`);
  c.run(20_000);
  t.ok(committedEverywhere(c), `and its primary knows: ${name(n, cuts)}`);
  const views = c.replicas.map(({ state }) => state.view);
  c.run(1_000_000);
  t.strictSame(
    c.replicas.map(({ state }) => state.view),
    views,
    `and the view stays: ${name(n, cuts)}`,
  );
}

t.test('three replicas, every set of cut links: what can serve does', (t) => {
  const links = [0, 1, 2].flatMap((a) => [0, 1, 2].filter((b) => b !== a).map((b) => a * 3 + b));
  for (let set = 0; set < 1 << links.length; set++) {
    const cuts = new Set(links.filter((_, i) => (set >>> i) & 1));
    if (canServe(3, cuts)) judge(t, 3, cuts, 600_000);
  }
  t.end();
});

t.test('five and seven replicas, drawn sets of cut links', (t) => {
  const jitter = new Jitter(11);
  for (const [n, sets] of [
    [5, 10],
    [7, 3],
  ] as const) {
    for (let found = 0; found < sets; ) {
      const share = 0.1 + 0.3 * jitter.next();
      const cuts = new Set<number>();
      for (let link = 0; link < n * n; link++) if (jitter.next() < share) cuts.add(link);
      if (!canServe(n, cuts)) continue;
      found++;
      judge(t, n, cuts, 3_000_000);
    }
  }
  t.end();
});

t.test(
  'a primary that is heard by all and hears nobody stops being one, and joins the others when it hears again',
  (t) => {
    const { c, client } = scene(3);
    c.loses = ({ to }) => to === 0;
    const us = commitWithin(c, client, 1_000_000);
    t.ok(us < 250_000, `${us} µs`);
    t.ok(
      c.replica(0).transitions.some((line) => line.startsWith('unheard')),
      'it says so',
    );
    const syncs = c.history.filter(({ from, message }) => from === 0 && message.type === Sync.type).length;
    c.run(200_000);
    t.equal(
      c.history.filter(({ from, message }) => from === 0 && message.type === Sync.type).length,
      syncs,
      'it sends no Syncs any more',
    );
    const { view } = c.replica(1).state;
    c.heal();
    c.run(200_000);
    t.strictSame(
      [0, 1, 2].map((id) => [c.replica(id).state.view, c.replica(id).state.status]),
      Array(3).fill([view, ReplicaStatus.normal]),
      'it pulls nobody back',
    );
    t.end();
  },
);

t.test('one that starts before the others sends no Syncs either, but nobody lost it: nothing is said', (t) => {
  const c = new Cluster(3);
  for (const id of [1, 2]) c.replica(id).crash();
  c.run(300_000);
  t.strictSame(
    c.replica(0).transitions.filter((line) => /heard/.test(line)),
    [],
  );
  for (const id of [1, 2]) c.replica(id).start();
  c.run(300_000);
  t.strictSame(
    c.replica(0).transitions.filter((line) => /heard/.test(line)),
    [],
  );
  t.ok(committedEverywhere(c));
  t.end();
});

t.test('it goes on when it hears its members again before the others have begun', (t) => {
  const { c, client } = scene(3);
  c.loses = ({ to }) => to === 0;
  for (let ms = 0; ms < 200 && !c.replica(0).transitions.some((line) => line.startsWith('unheard')); ms++) c.run(1000);
  c.heal();
  t.ok(commitWithin(c, client, 30_000) < Infinity);
  c.run(200_000);
  t.strictSame(
    [0, 1, 2].map((id) => c.replica(id).state.view),
    [0, 0, 0],
    'in the same view',
  );
  t.end();
});

t.test('while it hears too few it answers who asks from another view, not who asks from its own', (t) => {
  // Two primaries of two views, each of which hears too few, would else never hear more. In its own view an answer
  // would keep the others from leaving it.
  const { c } = scene(3);
  c.loses = ({ to }) => to === 0;
  for (let ms = 0; ms < 200 && !c.replica(0).transitions.some((line) => line.startsWith('unheard')); ms++) c.run(1000);
  const primary = c.replica(0);
  const { view } = primary.state;
  const answers = (asked: number): number =>
    primary
      .receive(Probe, { view: asked, nonce: 7, incarnation: 1 }, 1)
      .filter(({ to, message }) => to === 1 && message.type === ProbeReply.type).length;
  t.equal(primary.state.isPrimary, true);
  t.equal(answers(view), 0);
  t.equal(answers(view + 1), 1);
  t.end();
});
