// View → (primary, quorum): "View numbers enumerate all N·C(N−1,f) pairs evenly."
import t from 'tap';
import { Configuration } from '../../src/protocol/configuration.js';
import { MAX_REPLICAS, MAX_VIEW, Views } from '../../src/protocol/views.js';

function choose(n: number, k: number): number {
  return k === 0 ? 1 : (choose(n - 1, k - 1) * n) / k;
}

function subsets(n: number, k: number): number[][] {
  if (k === 0) return [[]];
  const found: number[][] = [];
  for (let first = 0; first < n; first++)
    for (const rest of subsets(n - first - 1, k - 1)) found.push([first, ...rest.map((x) => first + 1 + x)]);
  return found;
}

const maskOf = (replicas: readonly number[]): number => replicas.reduce((mask, r) => mask | (1 << r), 0);
const SIZES = [1, 3, 5, 7];

t.test('each pair of a primary and f fellow members comes exactly once a cycle', (t) => {
  for (const n of SIZES) {
    const views = new Views(n);
    const f = (n - 1) / 2;
    t.equal(views.f, f);
    t.equal(views.cycle, n * choose(n - 1, f));
    const seen = new Set<string>();
    for (let view = 0; view < views.cycle; view++) {
      const members = views.members(view);
      t.equal(members.length, f + 1);
      t.ok(members.includes(views.primary(view)), 'the primary is a member');
      t.equal(maskOf(members), views.memberMask(view));
      for (let r = 0; r < n; r++) t.equal(views.isMember(view, r), members.includes(r));
      seen.add(`${views.primary(view)}:${members.join(',')}`);
      t.equal(views.primary(view), view % n, 'the primary changes with every view');
      t.strictSame(views.members(view + 3 * views.cycle), members, 'the assignment repeats');
    }
    t.equal(seen.size, views.cycle, `N = ${n}`);
  }
  t.end();
});

t.test('the members are p and (p+1+j) mod N for j in the rank-th subset in lexicographic order', (t) => {
  for (const n of SIZES) {
    const views = new Views(n);
    const all = subsets(n - 1, views.f);
    for (let view = 0; view < views.cycle; view++) {
      const p = view % n;
      const members = [p, ...all[Math.floor(view / n)]!.map((j) => (p + 1 + j) % n)].sort((a, b) => a - b);
      t.strictSame(views.members(view), members, `N = ${n}, view ${view}`);
    }
  }
  t.end();
});

t.test('every set of f+1 replicas has a view, under every one of its primaries', (t) => {
  for (const n of SIZES) {
    const views = new Views(n);
    for (const alive of subsets(n, views.f + 1)) {
      for (const primary of alive) {
        const view = views.next(-1, maskOf(alive), primary, 0);
        t.strictSame(views.members(view), alive, `N = ${n}, alive ${alive.join(',')}`);
        t.equal(views.primary(view), primary);
      }
    }
  }
  t.end();
});

t.test('next is the smallest view above whose quorum is alive and whose primary is asked for', (t) => {
  for (const n of SIZES) {
    const views = new Views(n);
    for (let alive = 1; alive < 1 << n; alive++) {
      for (const above of [0, 1, views.cycle - 1, views.cycle + 2]) {
        for (let primary = -1; primary < n; primary++) {
          const primaries = primary < 0 ? alive & 0b1010101 : 1 << primary;
          let expected = -1;
          for (let view = above + 2 * views.cycle; view > above; view--) {
            const fits =
              views.members(view).every((r) => (alive >>> r) & 1) && ((primaries >>> views.primary(view)) & 1) === 1;
            if (fits) expected = view;
          }
          const found = views.next(above, alive, primary, primary < 0 ? primaries : 0);
          if (found !== expected)
            t.fail(`N = ${n}: next(${above}, ${alive.toString(2)}, ${primary}) is ${found}, not ${expected}`);
        }
      }
    }
    t.equal(views.next(MAX_VIEW, (1 << n) - 1, -1, (1 << n) - 1), -1, 'after the last view there is none');
    t.equal(views.next(MAX_VIEW - 1, (1 << n) - 1, -1, (1 << n) - 1), MAX_VIEW);
    if (n > 1)
      t.equal(
        views.next(0, maskOf(Array.from({ length: views.f }, (_, r) => r)), -1, -1),
        -1,
        'f replicas have no view',
      );
  }
  t.end();
});

t.test('a cluster has an odd number of replicas from 1 to MAX_REPLICAS', (t) => {
  for (const n of [0, 2, 4, -1, 1.5, NaN, MAX_REPLICAS + 1, MAX_REPLICAS + 2])
    t.throws(() => new Views(n), { name: 'RangeError', message: /odd number of replicas/ }, `${n}`);
  const largest = new Views(MAX_REPLICAS);
  t.equal(
    new Set(Array.from({ length: largest.cycle }, (_, view) => `${largest.primary(view)}:${largest.memberMask(view)}`))
      .size,
    13 * choose(12, 6),
  );
  t.end();
});

/** Voters with ids and slots that are not their ranks. */
const someVoters = (n: number): Configuration =>
  new Configuration(
    3,
    Array.from({ length: n }, (_, rank) => 100 + 7 * rank),
    Array.from({ length: n }, (_, rank) => (11 * rank + 5) % 31),
    1000,
    1000 + 1_000_000,
  );

t.test('with an even number of voters, too, every pair comes once a cycle, and votes and quorums meet', (t) => {
  for (let n = 1; n <= 8; n++) {
    const c = someVoters(n);
    t.strictSame([c.n, c.quorum, c.votes], [n, Math.floor(n / 2) + 1, n - Math.floor(n / 2)]);
    t.equal(c.f, Math.min(n - c.quorum, c.votes - 1), 'so many may fail');
    t.ok(c.quorum + c.votes > n, 'any quorum and any set of votes have a voter in common');
    t.equal(c.cycle, n * choose(n - 1, c.quorum - 1));
    const slots = Array.from({ length: n }, (_, rank) => (11 * rank + 5) % 31);
    t.equal(c.voters, maskOf(slots));
    const seen = new Set<string>();
    for (let view = c.first; view < c.first + c.cycle; view++) {
      const mask = c.memberMask(view);
      const primary = c.primary(view);
      t.equal(primary, slots[(view - c.first) % n], 'the primary is the next one in the order of ids');
      t.ok(
        ((mask >>> primary) & 1) === 1 &&
          (mask & ~c.voters) === 0 &&
          slots.filter((s) => (mask >>> s) & 1).length === c.quorum,
      );
      t.equal(c.memberMask(view + c.cycle), mask);
      seen.add(`${primary}:${mask}`);
    }
    t.equal(seen.size, c.cycle, `N = ${n}`);
  }
  t.end();
});

t.test('no view is chosen beyond the last one of its epoch', (t) => {
  for (const n of [1, 2, 3, 5]) {
    const { ids, voters } = someVoters(n);
    const slots = ids.map((_, rank) => (11 * rank + 5) % 31);
    const c = new Configuration(3, ids, slots, 1000, 1010);
    t.notOk(c.has(999) || c.has(1011));
    t.ok(c.has(1000) && c.has(1010));
    let view = c.next(0, voters, -1, voters);
    t.equal(view, 1000, 'the first one comes behind views of other epochs');
    for (let above = view; above <= 1012; above++) {
      view = c.next(above, voters, -1, voters);
      t.equal(view, above < 1010 ? above + 1 : -1, `${n} voters, above ${above}`);
    }
  }
  t.end();
});

t.test('a configuration lists its voters in ascending order, each once', (t) => {
  const made = (ids: number[], slots: number[]) => () => new Configuration(1, ids, slots, 0, 9);
  for (const [ids, slots] of [
    [[], []],
    [
      [2, 1],
      [0, 1],
    ],
    [
      [1, 1],
      [0, 1],
    ],
    [[1, 2], [0]],
    [Array.from({ length: 14 }, (_, i) => i), Array.from({ length: 14 }, (_, i) => i)],
  ] as const)
    t.throws(made([...ids], [...slots]), { name: 'InvariantError' }, ids.join());
  t.end();
});
