// The filter and the discipline against a simulated device: the very runs of bench:clock, shorter.
import t from 'tap';
import { simulateClock, type SimulatedDevice } from '../../bench/clock-simulation.js';
import { Discipline } from '../../src/clock/discipline.js';
import { PhcFilter } from '../../src/clock/phc-filter.js';

const RUN = { seconds: 240, intervalNs: 100e6, warmupS: 10 };
const SEEDS = [1, 2];

function simulate(device: Omit<SimulatedDevice, 'name'>, seed: number): ReturnType<typeof simulateClock> {
  return simulateClock({ name: 'test', ...device }, { ...RUN, seed });
}

t.test('±50 ppm and 100 ns of noise: p99 within 100 ns, never outside its bound, never back', (t) => {
  for (const seed of SEEDS) {
    for (const driftPpm of [50, -50]) {
      const { errorNs, outsideBound, backwards, readings, stepsSeen } = simulate(
        { driftPpm, noiseNs: 100, bracketNs: 500 },
        seed,
      );
      t.ok(errorNs.p99 <= 100, `seed ${seed}, ${driftPpm} ppm: p99 ${errorNs.p99} ns of ${readings} readings`);
      t.same([outsideBound, backwards, stepsSeen], [0, 0, 0], `seed ${seed}`);
    }
  }
  t.end();
});

t.test('a rate that wanders, a bracket of nothing, freaks among the samples', (t) => {
  for (const seed of SEEDS) {
    for (const device of [
      { driftPpm: 20, wanderPpm: 1, wanderPeriodS: 600, noiseNs: 100, bracketNs: 300 },
      { driftPpm: -3, noiseNs: 100, bracketNs: 0 },
      { driftPpm: 50, noiseNs: 100, bracketNs: 1_000, freakShare: 0.01 },
    ]) {
      const { outsideBound, backwards, stepsSeen } = simulate(device, seed);
      t.same([outsideBound, backwards, stepsSeen], [0, 0, 0], `seed ${seed}, ${JSON.stringify(device)}`);
    }
  }
  t.end();
});

t.test('steps of 1 ms: noticed by the next sample, counted by the second, and no reading goes back', (t) => {
  for (const seed of SEEDS) {
    for (const byNs of [1e6, -1e6]) {
      const { stepNoticed, stepsSeen, outsideBound, backwards } = simulate(
        { driftPpm: 50, noiseNs: 100, bracketNs: 1_000, steps: [{ atS: 120.05, byNs }] },
        seed,
      );
      t.same(stepNoticed, [{ suspectAfter: 1, stepAfter: 2 }], `seed ${seed}, ${byNs} ns`);
      t.same([stepsSeen, outsideBound, backwards], [1, 0, 0]);
    }
  }
  t.end();
});

t.test('the bound grows with age, with the bracket, and with doubt', (t) => {
  const filled = (bracketNs: number): PhcFilter => {
    const filter = new PhcFilter();
    for (let i = 0n; i < 64n; i++)
      filter.add({ raw: i * 100_000_000n, device: i * 100_000_000n + (i % 2n) * 100n, bracketNs });
    return filter;
  };
  const { line } = filled(100);
  const ages = [0, 1e8, 1e9, 1e10, 1e11].map((age) => line!.boundNs(age));
  t.same(
    [...ages].sort((a, b) => a - b),
    ages,
    `${ages.map(Math.round).join(' < ')}`,
  );
  t.ok(filled(10_000).line!.boundNs(0) > line!.boundNs(0) + 4_000, 'half the bracket is part of it');
  const filter = filled(100);
  t.equal(filter.doubtNs, 0);
  t.equal(filter.add({ raw: 6_400_000_000n, device: 6_401_000_000n, bracketNs: 100 }), 'suspect');
  t.ok(filter.doubtNs > 900_000);
  t.equal(filter.add({ raw: 6_500_000_000n, device: 6_500_000_000n, bracketNs: 100 }), 'outlier');
  t.equal(filter.doubtNs, 0);
  t.equal(
    filter.add({ raw: 6_400_000_000n, device: 6_400_000_000n, bracketNs: 100 }),
    'outlier',
    'a sample from the past changes nothing',
  );
  t.end();
});

t.test(
  'small differences are slewed, large ones forward are jumps, backward ones are given back at half speed',
  (t) => {
    const line = (deviceAt: bigint) => ({ rawAt: 0n, deviceAt, rate: 0, sigmaNs: 1, samples: 64, boundNs: () => 1 });
    const shifted = (byNs: bigint): Discipline => {
      const discipline = new Discipline();
      discipline.follow(line(1_000_000_000n), 0n, 0n, 100e6);
      discipline.follow(line(1_000_000_000n + byNs), 0n, 0n, 100e6);
      return discipline;
    };
    const slewed = shifted(10_000n);
    t.equal(slewed.read(0n), 1_000_000_000n, 'it begins where it was');
    t.equal(slewed.read(50_000_000n), 1_050_005_000n, 'half-way after half the interval');
    t.equal(slewed.read(200_000_000n), 1_200_010_000n, 'and is there');
    t.equal(slewed.steps, 0);

    const jumped = shifted(5_000_000n);
    t.equal(jumped.read(0n), 1_005_000_000n);
    t.equal(jumped.steps, 1);

    const back = shifted(-1_000_000n);
    t.equal(back.steps, 1);
    t.equal(back.giveBack(1_000_000n), true);
    t.equal(back.read(1_000_000n), 1_000_500_000n, 'half speed');
    t.equal(back.giveBack(2_000_001n), false);
    t.equal(back.read(3_000_000n), 1_002_000_000n, 'caught up after two milliseconds');
    t.end();
  },
);
