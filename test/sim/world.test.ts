/** The world that a run takes place in: what is drawn, and that it happens. */
import t from 'tap';
import { drawPlan, FAULT_NAMES, type FaultName } from '../../src/sim/faults.js';
import { Random } from '../../src/sim/random.js';
import type { SimulationResult } from '../../src/sim/result.js';
import { simulate } from '../../src/sim/simulation.js';
import { TraceRing } from '../../src/sim/trace.js';
import {
  describeWorld,
  distanceUs,
  drawWorld,
  ONE_WAY_KINDS,
  WORLD_FAULTS,
  type World,
  type WorldBounds,
  type WorldFaultName,
} from '../../src/sim/world.js';

const NAMES = Object.keys(WORLD_FAULTS) as WorldFaultName[];
const BOUNDS: WorldBounds = { replicas: 3, first: 3, clients: 4, lanes: 4, lanesPerSession: 64, ticks: 500_000 };
const FIELDS: Readonly<Record<WorldFaultName, keyof World>> = {
  distance: 'distance',
  busy: 'busy',
  greedy: 'greedy',
  'clock-history': 'clocks',
  'one-way': 'oneWay',
  move: 'moveEveryUs',
  'path-limit': 'longest',
  standstill: 'standstill',
  enemy: 'enemy',
  ahead: 'ahead',
  'busy-host': 'scheduling',
  'first-start': 'firstStarts',
  'directory-lost': 'directoryLosses',
};

t.test(
  'leaving a part out leaves the others as they were; each is drawn in a share of the runs, and described',
  (t) => {
    const all = new Set<string>(NAMES);
    for (const name of NAMES) {
      const without = new Set(NAMES.filter((other) => other !== name));
      let drawn = 0;
      for (let seed = 1; seed <= 400; seed++) {
        const whole = drawWorld(seed, all, BOUNDS);
        const part = drawWorld(seed, without, BOUNDS);
        if (part[FIELDS[name]] !== undefined) t.fail(`${name} was left out and is there in seed ${seed}`);
        for (const other of without)
          if (JSON.stringify(part[FIELDS[other]]) !== JSON.stringify(whole[FIELDS[other]]))
            t.fail(`${other} changes with ${name} in seed ${seed}`);
        if (whole[FIELDS[name]] === undefined) continue;
        drawn++;
        if (!describeWorld(whole, 3).includes(name)) t.fail(`seed ${seed}: the description says nothing of ${name}`);
      }
      t.ok(drawn > 4 && drawn < 120, `${name} in ${drawn} of 400 runs`);
    }
    t.equal(describeWorld(drawWorld(1, new Set(), BOUNDS), 3), '');
    t.end();
  },
);

t.test('distances are from 20 µs to 50 ms and the same both ways', (t) => {
  let least = Infinity;
  let most = 0;
  for (let seed = 1; seed <= 400; seed++) {
    const { distance } = drawWorld(seed, new Set(['distance']), BOUNDS);
    if (distance === undefined) continue;
    for (let a = 0; a < 7; a++) {
      for (let b = 0; b < a; b++) {
        const us = distanceUs(distance, a, b);
        if (us !== distanceUs(distance, b, a)) t.fail(`seed ${seed}: there and back differ`);
        least = Math.min(least, us);
        most = Math.max(most, us);
      }
    }
  }
  t.ok(least >= 20 && least < 100, `${least} µs`);
  t.ok(most > 20_000 && most < 80_000, `${most} µs`);
  t.end();
});

/** The first run with all of these parts in its world, and its trace. */
function runWith(
  name: WorldFaultName,
  accept: (world: World) => boolean,
  options: { readonly ticks?: number } = {},
): { readonly result: SimulationResult; readonly trace: string[]; readonly world: World } {
  const ticks = options.ticks ?? 100_000;
  const faults: ReadonlySet<FaultName> = new Set([name]);
  for (let seed = 1; ; seed++) {
    const plan = drawPlan(new Random(seed).fork('plan'), faults);
    const world = drawWorld(seed, faults, {
      replicas: 3,
      first: 3,
      clients: plan.workload.clients,
      lanes: plan.workload.lanes,
      lanesPerSession: plan.limits.lanesPerSession,
      ticks,
    });
    if (!accept(world)) continue;
    const trace = new TraceRing(3);
    const result = simulate({ seed, replicas: 3, ticks, faults, trace });
    return { result, trace: trace.lines(), world };
  }
}

t.test('a run without any part of the world is the run that it always was', (t) => {
  const kind = FAULT_NAMES.filter((name) => !(name in WORLD_FAULTS));
  const digest = (faults: readonly FaultName[]): string =>
    simulate({ seed: 4, replicas: 3, ticks: 100_000, faults: new Set(faults) }).digest;
  const nothingDrawn = NAMES.filter((name) => drawWorld(4, new Set([name]), BOUNDS)[FIELDS[name]] === undefined);
  t.ok(nothingDrawn.length > 0);
  t.equal(digest([...kind, ...nothingDrawn]), digest(kind));
  t.end();
});

t.test('no cut of the only voter stays, whatever the cut', (t) => {
  for (const kind of ONE_WAY_KINDS) {
    const oneWay = { kind, role: 'any', fromUs: 20_000, forUs: 30_000, stays: true } as const;
    const { failure } = simulate({ seed: 1, replicas: 1, ticks: 100_000, faults: new Set(), world: { oneWay } });
    t.equal(failure, undefined, `${kind}: ${failure?.detail}`);
  }
  t.end();
});

t.test('an enemy gets things into the log, and is refused much; standing still, moving and waiting happen', (t) => {
  const { result } = runWith('enemy', ({ enemy }) => enemy !== undefined && enemy.rate >= 300);
  t.equal(result.failure?.detail, undefined);
  t.ok(result.totals.enemy > 20, `${result.totals.enemy} messages of the enemy`);
  const moved = runWith('move', ({ moveEveryUs }) => moveEveryUs === 20_000, { ticks: 500_000 });
  t.equal(moved.result.failure?.detail, undefined);
  t.ok(moved.result.totals.astray > 0, `${moved.result.totals.astray} datagrams came to an old address`);
  const waited = runWith('busy-host', ({ scheduling }) => scheduling !== undefined && scheduling.awakeUs === 50_000);
  t.equal(waited.result.failure?.detail, undefined);
  t.ok(waited.trace.some((line) => line.includes('stands still')));
  t.end();
});
