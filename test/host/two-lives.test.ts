// Two processes with copies of one data directory: when that is said, and when it is not.
import t from 'tap';
import { LOOK_US, TwoLives, twoLivesText } from '../../src/host/two-lives.js';

const SLOTS = 31;
const all = { idOf: (slot: number): number => slot + 10 };

/** Looks after each of these numbers of returns in one slot, and what each look finds. */
function looks(lives: TwoLives, slot: number, returns: readonly number[], from = 0, hosts = all): number[] {
  const counts = new Float64Array(SLOTS);
  return returns.map((count, i) => {
    counts[slot] = count;
    return lives.look(counts, hosts, (from + i) * LOOK_US);
  });
}

t.test('hosts that return again and again to a stream are found once, and forgotten when they stop', (t) => {
  const lives = new TwoLives(SLOTS);
  t.same(looks(lives, 30, [0, 3, 6, 9, 12]), [0, 0, 0, 1 << 30, 0]);
  t.equal(lives.mask, 1 << 30);
  t.same(looks(lives, 30, [12, 12, 12, 12, 12], 5), [0, 0, 0, 0, 0]);
  t.equal(lives.mask, 1 << 30, 'a pause is not the end');
  looks(lives, 30, [12], 10);
  t.equal(lives.mask, 0);
  t.same(looks(lives, 30, [20, 30, 40], 11), [0, 0, 1 << 30], 'it is said again');
  t.end();
});

t.test('datagrams that overtook each other, and looks that come early, are no second life', (t) => {
  const lives = new TwoLives(SLOTS);
  t.same(looks(lives, 2, [0, 900, 1_800, 1_800, 2_700, 3_600, 3_602]), [0, 0, 0, 0, 0, 0, 0]);
  const counts = new Float64Array(SLOTS).fill(9_999);
  for (let i = 0; i < 9; i++) t.equal(lives.look(counts, all, 6 * LOOK_US + i), 0);
  t.equal(lives.mask, 0);
  t.end();
});

t.test('another host in the same slot begins anew', (t) => {
  const lives = new TwoLives(SLOTS);
  t.same(looks(lives, 1, [0, 3, 6, 9]), [0, 0, 0, 2]);
  t.same(looks(lives, 1, [12, 15, 18], 4, { idOf: (slot) => slot + 50 }), [0, 0, 0]);
  t.equal(lives.mask, 0);
  t.end();
});

t.test('what is said names both causes, and what to do behind the last semicolon', (t) => {
  const { found, next } = twoLivesText([2, 4]);
  t.match(
    found,
    /^two processes seem to speak as hosts 2, 4: either their data directories were copied .*, or .* replays/,
  );
  t.match(next, /^look for a second process .* If there is one, stop .* If there is none, stop nothing/);
  t.notMatch(found + next, ';');
  t.match(twoLivesText([2]).found, /speak as host 2: either its data directory was/);
  t.end();
});
