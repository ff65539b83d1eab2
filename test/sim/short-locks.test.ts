// Locks with a ttl of some milliseconds, in virtual time: holders are killed, and the next one holds.
import t from 'tap';
import { noLosses } from '../../bench/locks/losses.js';
import { simulateKills } from '../../bench/locks/simulated/killed.js';

const KILLS = 6;
const STUCK_US = 10e6;
/**
 * Later than the ttl by at most this, ms: an end is asked for after 0.5 ms, and a tick waits for 5 ms if nobody answers.
 * Virtual time: no host makes it longer.
 */
const LATE_MS = 8;

/**
 * Clients that renewed at the same moment each time were taken to be out of step in these runs: the primary appended the
 * requests of one of them every 25 ms, so that it lost what it held, and was granted nothing for seconds.
 */
const SEEDS = [
  { ttlMs: 20, seed: 1 },
  { ttlMs: 20, seed: 11 },
  { ttlMs: 10, seed: 3 },
  { ttlMs: 10, seed: 5 },
];

for (const { ttlMs, seed } of SEEDS)
  t.test(`ttl ${ttlMs} ms, seed ${seed}: no holder that lives loses the lock, and every grant holds`, async (t) => {
    const seen = await simulateKills({ seed, ttlMs, kills: KILLS, runUs: 0, stallUs: 0, stuckUs: STUCK_US });
    t.equal(seen.isStuck, false);
    t.same(seen.losses, noLosses());
    t.same(seen.errors, {});
    t.ok(Math.max(...seen.lateMs) < LATE_MS, `${Math.max(...seen.lateMs)} ms after the ttl`);
    t.equal(seen.lateMs.length, KILLS);
  });

for (const { ttlMs, seed } of SEEDS)
  t.test(`ttl ${ttlMs} ms, seed ${seed}, renewed in phase: crossings put no client out of step`, async (t) => {
    const options = { seed, ttlMs, kills: KILLS, runUs: 0, stallUs: 0, stuckUs: STUCK_US, inPhase: true };
    const seen = await simulateKills(options);
    t.equal(seen.isStuck, false);
    t.same(seen.losses, noLosses());
    t.same(seen.errors, {});
  });

t.test('processes that stand still for longer than the ttl: errors say so, and the lock changes hands', async (t) => {
  const options = { seed: 1, ttlMs: 10, kills: 3, runUs: 4_000, stallUs: 15_000, stuckUs: STUCK_US };
  const seen = await simulateKills(options);
  t.equal(seen.isStuck, false);
  t.comment(JSON.stringify(seen.losses));
  t.ok(seen.losses.stoodStill > 0, 'holders that stood still lost it');
  t.equal(seen.losses.unknown, 0, 'each loss has a cause');
  t.same(Object.keys(seen.errors), ['lease-lost']);
  t.same(await simulateKills(options), seen, 'the same seed gives the same run');
});
