// A cluster whose hosts' clocks are off, or are unplugged: it stays correct, goes on committing, and says so.
import t, { type Test } from 'tap';
import { randomInt } from 'node:crypto';
import { formatDuration } from '../../src/console/units.js';
import { buildStandIn, whyNoStandIn } from '../clock/stand-in.js';
import { ClockedCluster, quantile, type ClientPhase } from './clocks/run.js';

const OFF_NS = 2_000_000;
/** More than the round trips of a busy host leave open, and less than a replica refuses as too far ahead. */
const FAR_OFF_NS = 80_000_000;
const PHASE_MS = 1_500;
const PHASES_MAX = 10;
const skip = whyNoStandIn();

function report(t: Test, phases: readonly ClientPhase[]): void {
  phases.forEach(({ latenciesNs, commits, fast, longestPauseNs }, id) => {
    t.comment(
      `client ${id}: ${commits} commits, ${((100 * fast) / commits).toFixed(0)} % in one round trip, p50 ${formatDuration(quantile(latenciesNs, 0.5))}, p99 ${formatDuration(quantile(latenciesNs, 0.99))}, longest pause ${formatDuration(longestPauseNs)}`,
    );
    t.ok(commits > 0, `client ${id} commits`);
  });
}

t.test('one of three replicas and one of two clients are 2 ms ahead', { skip }, async (t) => {
  const seed = randomInt(1, 1_000_000);
  t.comment(`seed ${seed}`);
  const { library, directory } = buildStandIn(t);
  await using cluster = await ClockedCluster.start({
    library,
    directory,
    replicasNs: [0, OFF_NS, 0],
    clientsNs: [0, OFF_NS],
    seed,
  });
  // Members of the quorum are heard of, and only what came within two seconds counts: on a busy host it takes a few
  // phases.
  let phases = await cluster.run(PHASE_MS);
  const shown = ({ clock }: ClientPhase): number => clock.replicas.filter(({ offsetNs }) => offsetNs !== null).length;
  for (let i = 1; i < PHASES_MAX && phases.some((phase) => shown(phase) === 0); i++)
    phases = await cluster.run(PHASE_MS);
  report(t, phases);
  const { verdict, events, unknown, replicas } = await cluster.end();
  t.equal(verdict, 'linearizable', `seed ${seed}, ${events.length / 2} operations`);
  t.equal(unknown, 0, 'no operation without an answer');
  t.ok(replicas.every(({ status }) => status === 'normal'));
  const near = (ns: number, uncertaintyNs: number | null, expectedNs: number): boolean =>
    Math.abs(ns - expectedNs) <= uncertaintyNs! + 200_000;
  for (const [id, expected] of [
    [0, [0, OFF_NS, 0]],
    [1, [-OFF_NS, 0, -OFF_NS]],
  ] as const) {
    t.ok(shown(phases[id]!) > 0, `client ${id} shows offsets`);
    expected.forEach((expectedNs, replica) => {
      const { offsetNs, uncertaintyNs } = phases[id]!.clock.replicas[replica]!;
      if (offsetNs !== null)
        t.ok(
          near(offsetNs, uncertaintyNs, expectedNs),
          `client ${id} shows replica ${replica} ${offsetNs} ns off, known to ${uncertaintyNs} ns; it is ${expectedNs}`,
        );
    });
  }
});

t.test(
  'one of two clients is 80 ms ahead: a majority of the replicas contradicts it, and it stamps by theirs',
  { skip },
  async (t) => {
    const seed = randomInt(1, 1_000_000);
    t.comment(`seed ${seed}`);
    const { library, directory } = buildStandIn(t);
    await using cluster = await ClockedCluster.start({
      library,
      directory,
      replicasNs: [0, 0, 0],
      clientsNs: [0, FAR_OFF_NS],
      seed,
    });
    // The replicas are compared every quarter of a second, and only what was heard of lately counts.
    let phases: ClientPhase[] = [];
    for (let i = 0; i < PHASES_MAX && phases[1]?.clock.contradicted !== true; i++) phases = await cluster.run(PHASE_MS);
    report(t, phases);
    const wrong = phases[1]!.clock;
    t.equal(wrong.contradicted, true);
    const open = Math.max(...wrong.replicas.map(({ uncertaintyNs }) => uncertaintyNs ?? 0));
    t.ok(
      Math.abs(wrong.correctionNs + FAR_OFF_NS) <= open + 200_000,
      `${wrong.correctionNs} ns are added to its readings, known to ${open} ns`,
    );
    t.match(phases[0]!.clock, { contradicted: false, correctionNs: 0 });
    const { verdict, clients, clockLogs } = await cluster.end();
    t.equal(verdict, 'linearizable', `seed ${seed}`);
    const said = clockLogs[4]!.filter(({ level }) => level === 'warn');
    t.equal(said.length, clients[1]!.contradictions, 'counted, and said once a change');
    t.match(said[0], { event: 'client.clock', found: /a majority of the replicas' clocks differ/ });
  },
);

t.test(
  'the devices of a replica and of a client are unplugged while they commit, and plugged in again',
  { skip },
  async (t) => {
    const seed = randomInt(1, 1_000_000);
    t.comment(`seed ${seed}`);
    const { library, directory } = buildStandIn(t);
    await using cluster = await ClockedCluster.start({
      library,
      directory,
      replicasNs: [0, 0, 0],
      clientsNs: [0, 0],
      seed,
    });
    const unplugged = [cluster.replicaModels[0]!, cluster.clientModels[1]!];
    await cluster.run(PHASE_MS);
    const running = cluster.run(PHASE_MS);
    await new Promise((resolve) => setTimeout(resolve, PHASE_MS / 3));
    const goneMs = Date.now();
    for (const model of unplugged) model.set({ gone: 1n });
    const phases = await running;
    report(t, phases);
    const after = await cluster.run(PHASE_MS);
    report(t, after);
    const [lost] = await cluster.replicas();
    t.match(lost!.clock, { status: 'lost', healthy: false, fallbacks: 1 }, 'counted by the replica');
    t.match(after[1]!.clock, { status: 'lost', healthy: false, fallbacks: 1 }, 'counted by the client');
    for (const model of unplugged) model.set({ gone: 0n });
    await cluster.run(2 * PHASE_MS);
    const { verdict, unknown, replicas, clients, clockLogs } = await cluster.end();
    t.equal(verdict, 'linearizable', `seed ${seed}`);
    t.equal(unknown, 0, 'no operation without an answer');
    for (const [name, logged] of [
      ['replica 0', clockLogs[0]!],
      ['client 1', clockLogs[4]!],
    ] as const) {
      const said = logged.filter(({ to }) => to === 'lost');
      t.equal(said.length, 1, `${name} said once that its device is lost`);
      t.match(said[0], { level: 'warn', found: /stopped answering; realtime is followed/ });
      t.comment(
        `${name}: ${Date.parse(said[0]!['time'] as string) - goneMs} ms after the device was unplugged, sampled every 100 ms`,
      );
      t.match(logged.at(-1), { level: 'info', to: 'unknown' }, `${name} has its device back`);
    }
    t.match(replicas[0]!.clock, { healthy: true, fallbacks: 1 });
    t.match(clients[1], { healthy: true, fallbacks: 1 });
    for (const id of [1, 2, 3])
      t.same(
        clockLogs[id]!.filter(({ to }) => to === 'lost'),
        [],
        'the others say nothing',
      );
  },
);
