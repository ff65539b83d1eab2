/** The tree of prefixes finds what a comparison with all of them does, and forgets what is gone. SEED=n replays. */
import t from 'tap';
import { Interests, type Interest } from '../../src/server/watches/interests.js';
import { randomFrom } from '../random.js';

const SEED = Number(process.env['SEED'] ?? Date.now() % 1e9);
console.log(`# SEED=${SEED} replays the random trees`);

interface TestWatch {
  readonly interests: Interest[];
  readonly prefixes: readonly string[];
  waits: boolean;
}

t.test('finds those that wait for a key, once, whatever the prefixes', (t) => {
  const random = randomFrom(SEED);
  const word = (): string => Array.from({ length: random(6) }, () => 'abc'[random(3)]!).join('');
  const tree = new Interests<TestWatch>();
  const watches = new Set<TestWatch>();
  const seen = { found: 0, removed: 0, most: 0 };
  for (let step = 0; step < 20_000; step++) {
    const kind = random(10);
    if (kind === 0 && watches.size < 60) {
      const watch = { interests: [], prefixes: Array.from({ length: 1 + random(4) }, word), waits: false };
      for (const prefix of watch.prefixes) tree.add(watch, new Uint8Array(Buffer.from(prefix)));
      watches.add(watch);
    } else if (kind === 1 && watches.size > 0) {
      const watch = [...watches][random(watches.size)]!;
      tree.remove(watch);
      watches.delete(watch);
      seen.removed++;
    } else if (kind < 5) {
      for (const watch of watches)
        if (random(3) === 0) {
          if (random(4) === 0) tree.leave(watch);
          else tree.wait(watch);
          watch.waits = watch.interests.some(({ position }) => position >= 0);
        }
    } else {
      const key = `${word()}${word()}`;
      const expected = [...watches].filter(
        ({ waits, prefixes }) => waits && prefixes.some((prefix) => key.startsWith(prefix)),
      );
      const found: TestWatch[] = [];
      const bytes = new Uint8Array(20).fill(0x61);
      bytes.set(Buffer.from(key));
      tree.take(bytes, key.length, (watch) => found.push(watch));
      if (found.length !== expected.length || expected.some((watch) => !found.includes(watch)))
        t.fail(`step ${step}: ${found.length} were found for "${key}", not ${expected.length}`);
      for (const watch of found) watch.waits = false;
      seen.found += found.length;
    }
    seen.most = Math.max(seen.most, tree.size);
    const prefixes = new Set([...watches].flatMap(({ prefixes: each }) => each));
    if (tree.size > 2 * prefixes.size + 1) t.fail(`${tree.size} nodes for ${prefixes.size} prefixes`);
  }
  for (const watch of watches) tree.remove(watch);
  t.equal(tree.size, 1, 'only the root is left');
  t.comment(JSON.stringify(seen));
  for (const [name, times] of Object.entries(seen)) t.ok(times > 0, `${name}: ${times}`);
  t.end();
});
