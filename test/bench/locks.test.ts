// bench:locks, tiny, so that it cannot rot; and its judge. What was measured is not judged; that nobody overlapped is.
import t from 'tap';
import { fileURLToPath } from 'node:url';
import { causeOf, listed, type Losses } from '../../bench/locks/losses.js';
import { Records } from '../../bench/locks/records.js';
import { Observer } from '../../bench/locks/simulated/observer.js';
import { simulateLocks } from '../../bench/locks/simulated/simulate.js';
import type { Lock } from '../../src/client/lock.js';
import { runNode } from '../cluster/processes.js';

const PROGRAM = fileURLToPath(new URL('../../bench/locks.js', import.meta.url));

const SEED = Number(process.env['SEED'] ?? Math.floor(Math.random() * 2 ** 31));

t.test('simulated: nobody relies on a lock that another one holds, as long as clocks keep their bound', async (t) => {
  t.comment(`seed ${SEED}`);
  const seen = await simulateLocks({ handOvers: 200, seed: SEED, faults: 0.2 });
  t.comment(JSON.stringify(seen));
  t.match(seen, { overlaps: 0, staleExecuted: 0 }, `seed ${SEED}`);
  t.equal(seen.losses.unknown, 0, 'each has a cause');
  t.ok(seen.stops > 0 && seen.failovers > 0 && seen.clockSteps > 0 && seen.datagramsLost > 0);
  t.same(
    await simulateLocks({ handOvers: 30, seed: SEED, faults: 0.2 }),
    await simulateLocks({ handOvers: 30, seed: SEED, faults: 0.2 }),
    'the same seed gives the same run',
  );
});

/** Each of 20 runs of this length had overlaps and stale writes. */
const BROKEN_TRIES = 6;

t.test('simulated: clocks beyond their bound: holds overlap, and every stale write is fenced', async (t) => {
  let [overlaps, staleFenced, staleExecuted, boundBreaks] = [0, 0, 0, 0];
  for (let seed = SEED; seed < SEED + BROKEN_TRIES && (overlaps === 0 || staleFenced === 0); seed++) {
    t.comment(`seed ${seed}`);
    const seen = await simulateLocks({ handOvers: 30, seed, faults: 0.3, boundBroken: true });
    overlaps += seen.overlaps;
    staleFenced += seen.staleFenced;
    staleExecuted += seen.staleExecuted;
    boundBreaks += seen.boundBreaks;
  }
  const seen = `seed ${SEED}: ${boundBreaks} times beyond the bound, ${overlaps} overlaps, ${staleFenced} stale writes fenced`;
  t.equal(staleExecuted, 0, seen);
  t.ok(overlaps > 0 && staleFenced > 0, `the simulation finds what a broken bound does; ${seen}`);
});

t.test('the observer of the simulation finds an overlap, and a stale write', (t) => {
  const observer = new Observer();
  observer.taken(10);
  observer.holds(10);
  observer.executed(10, 11, observer.isStale(10));
  observer.taken(20);
  observer.refused(observer.isStale(10));
  t.match(observer.observed, { handOvers: 2, overlaps: 0, staleFenced: 1, staleExecuted: 0 });
  observer.holds(10);
  t.equal(observer.observed.overlaps, 1);
  observer.executed(10, 21, observer.isStale(10));
  t.equal(observer.observed.staleExecuted, 1);
  observer.executed(20, 22, false);
  observer.executed(15, 23, false);
  t.equal(observer.observed.staleExecuted, 2, 'behind a write of a larger token');
  t.end();
});

t.test('every row is measured', async (t) => {
  const flags = [
    '--count',
    '30',
    '--simulated',
    '30',
    '--kills',
    '1',
    '--failovers',
    '1',
    '--leases',
    '1000',
    '--json',
    '--quiet',
  ];
  const { code, stdout, stderr } = await runNode([
    PROGRAM,
    ...flags,
    '--only',
    'handover,killed,shortest,torment,failover,simulated',
  ]);
  t.equal(code, 0, stderr);
  const { schema, rows } = JSON.parse(stdout) as {
    schema: string;
    rows: { name: string; figures: { value: number }[]; values: Record<string, number> }[];
  };
  t.equal(schema, 'jitpaxos.bench-locks/1');
  t.same(
    rows.map(({ name }) => name),
    ['handover', 'killed', 'shortest', 'torment', 'failover', 'simulated'],
  );
  const torment = rows[3]!;
  t.ok(torment.values.handOvers! >= 30);
  t.equal(torment.values.overlaps, 0);
  t.equal(torment.values.staleExecuted, 0);
  t.comment(JSON.stringify(rows.map(({ values }) => values)));
  for (const { name, values } of rows.filter(({ values }) => 'losses' in values))
    t.equal((values['losses'] as unknown as Losses).unknown, 0, name);
  for (const { name, figures } of rows) {
    // On a busy host there may be no ttl so short.
    if (name !== 'shortest') for (const { value } of figures) t.ok(Number.isFinite(value), name);
  }
  t.ok((rows[2]!.values['tried'] as unknown as unknown[]).length > 0);
});

t.test('the judge finds an overlap, and a write that the fence let through', (t) => {
  const records = new Records();
  const hold = (token: number, firstNs: number, lastNs: number, wroteAt: number | undefined): void => {
    records.note({ kind: 'taken', token, firstNs });
    const wasFenced = wroteAt === undefined;
    records.note({ kind: 'hold', token, firstNs, lastNs, releaseNs: lastNs, operationNs: 1e6, wroteAt, wasFenced });
  };
  hold(10, 0, 100e6, 11);
  hold(20, 101e6, 200e6, 21);
  t.match(records.judge(), { overlaps: 0, fenced: 0, staleExecuted: 0, handOverMs: [1], operationMs: [1, 1] });
  hold(30, 199e6, 300e6, undefined);
  hold(40, 301e6, 400e6, 61);
  hold(50, 401e6, 500e6, 55);
  t.match(records.judge(), { overlaps: 1, fenced: 1, staleExecuted: 1 });
  // A process that was killed: what it said last counts.
  records.note({ kind: 'taken', token: 60, firstNs: 501e6 });
  records.note({ kind: 'alive', token: 60, lastNs: 600e6 });
  hold(70, 599e6, 700e6, 71);
  t.equal(records.judge().overlaps, 2);
  t.end();
});

t.test('errors of holders are counted by code, and losses by cause', (t) => {
  const records = new Records();
  const hold = { kind: 'hold', token: 1, firstNs: 0, lastNs: 1, operationNs: 1, wroteAt: undefined } as const;
  records.note({ kind: 'taken', token: 1, firstNs: 0 });
  records.note({ ...hold, releaseNs: undefined, wasFenced: true, lost: 'ended' });
  for (const code of ['lease-lost', 'outcome-unknown', 'lease-lost']) records.note({ kind: 'failed', code });
  t.equal(listed(records.errors), 'lease-lost 2, outcome-unknown 1');
  t.equal(listed(records.losses), 'ended 1');
  t.equal(listed(new Records().losses), 'none');
  const lock = (why: string): Lock => {
    const signal = AbortSignal.abort(new Error(`lease 1 is lost: ${why}`));
    return { signal } as Lock;
  };
  t.equal(causeOf(lock('no renewal was answered in time, or this process was stopped')), 'notRenewed');
  t.equal(causeOf(lock('no renewal was answered in time, or this process was stopped'), true), 'stoodStill');
  t.equal(causeOf(lock('the cluster has ended it: it was revoked'), true), 'ended');
  t.equal(causeOf(lock('another reason')), 'unknown');
  t.end();
});
