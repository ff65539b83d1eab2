/**
 * Measures the goals of the clocks: the disciplined clock's error and bound over simulated hours, its behaviour at a
 * step, the cost of a reading compared alternately with a bare CLOCK_REALTIME reading through the same addon; and the
 * behaviour of a cluster whose hosts have wrong clocks or lose them.
 *
 *   npm run bench:clock -- [--hours 1] [--rounds 9] [--cluster 1500ms] [--svg FILE] [--json]
 *
 * The cost needs a disciplined clock, but no hardware: the line is set once, and only the reading is measured.
 */
import { writeFileSync } from 'node:fs';
import { median } from '../src/measure/compare/rounds.js';
import { hostInfo } from '../src/measure/load/bench-report.js';
import { table } from '../src/console/terminal.js';
import { signed } from '../src/console/clock-values.js';
import { formatCount, formatDuration } from '../src/console/units.js';
import { SAMPLE_INTERVAL_MS } from '../src/clock/disciplined-clock.js';
import { native } from '../src/native/addon.js';
import { measureClusters, type ClusterMeasurement } from './clock-cluster.js';
import { simulateClock, type SimulatedDevice, type SimulatedResult } from './clock-simulation.js';
import { program } from './program.js';

const READINGS = 200_000;
const GOAL_P99_NS = 100;
const GOAL_COST_RATIO = 1.5;
const GOAL_NOTICED_MS = SAMPLE_INTERVAL_MS;

const DEVICES: readonly SimulatedDevice[] = [
  { name: '+50 ppm', driftPpm: 50, noiseNs: 100, bracketNs: 500 },
  { name: '−50 ppm', driftPpm: -50, noiseNs: 100, bracketNs: 500 },
  {
    name: 'wandering by 1 ppm in 10 min',
    driftPpm: 20,
    wanderPpm: 1,
    wanderPeriodS: 600,
    noiseNs: 100,
    bracketNs: 500,
  },
  { name: '1 % freaks', driftPpm: 50, noiseNs: 100, bracketNs: 500, freakShare: 0.01 },
  {
    name: 'steps of ±1 ms',
    driftPpm: 50,
    noiseNs: 100,
    bracketNs: 500,
    steps: [
      { atS: 600.05, byNs: 1e6 },
      { atS: 1800.05, byNs: -1e6 },
    ],
  },
];

await program(
  {
    name: 'npm run bench:clock --',
    summary: 'Error, bound and cost of the disciplined clock, against its goals.',
    positionals: [],
    flags: {
      hours: { kind: 'count', default: '1', min: 1, max: 100, help: 'simulated hours for each device' },
      rounds: { kind: 'count', default: '9', min: 1, max: 1000, help: 'rounds of the cost' },
      seed: { kind: 'count', default: '1', max: 2 ** 31 - 1, help: 'seed of the noise' },
      cluster: {
        kind: 'duration',
        default: '1500ms',
        min: 1e8,
        max: 3600e9,
        help: 'how long each cluster is measured, a round',
      },
      'cluster-rounds': { kind: 'count', default: '5', min: 1, max: 1000, help: 'rounds of the clusters' },
      svg: { kind: 'text', value: 'FILE', help: 'write a plot of error and bound' },
    },
    examples: ['npm run bench:clock', 'npm run bench:clock -- --svg docs/measurements/clock-error.svg'],
  },
  async ({ hours, rounds, seed, cluster, 'cluster-rounds': clusterRounds, svg }, output) => {
    const results = DEVICES.map((device) =>
      simulateClock(device, { seconds: hours * 3600, intervalNs: 100e6, seed, warmupS: 10 }),
    );
    const cost = measureCost(rounds);
    const clusters = await measureClusters(cluster / 1e6, clusterRounds, seed);
    if (svg !== undefined) writeFileSync(svg, plot(results[0]!));
    if (output.json) {
      output.line(
        JSON.stringify({
          schema: 'jitpaxos.clock-bench/1',
          seed,
          hours,
          devices: results.map(({ trace: _, ...result }) => result),
          cost,
          clusters,
          goals: { errorP99Ns: GOAL_P99_NS, outsideBound: 0, costRatio: GOAL_COST_RATIO, noticedMs: GOAL_NOTICED_MS },
          host: hostInfo(),
        }),
      );
      return;
    }
    const rows = results.map(({ device, errorNs, boundNs, outsideBound, backwards, stepNoticed }) => [
      device,
      `${errorNs.p50} ns`,
      `${errorNs.p99} ns`,
      `${boundNs.p50} ns`,
      String(outsideBound),
      String(backwards),
      stepNoticed.map(({ suspectAfter, stepAfter }) => `${suspectAfter}/${stepAfter}`).join(', '),
    ]);
    for (const line of table(
      [
        ['device', 'error p50', 'p99', 'bound p50', 'outside it', 'backwards', 'step seen/counted after samples'],
        ...rows,
      ],
      new Set([1, 2, 3, 4, 5]),
    ))
      output.line(line);
    output.line(`goal: p99 at most ${GOAL_P99_NS} ns at ±50 ppm, never outside its bound, never backwards`);
    if (cost === null) output.line(`a reading: not measured, ${native.reason}`);
    else
      output.line(
        `a reading into a packet: ${formatDuration(cost.disciplinedNs)}, CLOCK_REALTIME ${formatDuration(cost.bareNs)}, ratio ${cost.ratio.toFixed(2)} (median of ${rounds} rounds; goal: at most ${GOAL_COST_RATIO})`,
      );
    for (const line of clusterLines(clusters)) output.line(line);
  },
);

function clusterLines(clusters: ClusterMeasurement): string[] {
  if ('why' in clusters) return [`clusters with wrong clocks: not measured, ${clusters.why}`];
  const { unplugged } = clusters;
  const rows = [...clusters.measured, unplugged].flatMap(({ clocks, clients, history, operations }) =>
    clients.map(
      ({ p50Ns, p99Ns, p50Ratio, longestPauseNs, fastPathRatio, opsPerSecond, correctionNs, offsetsNs }, id) => [
        id === 0 ? clocks : '',
        String(id),
        formatDuration(p50Ns),
        p50Ratio === undefined ? '' : p50Ratio.toFixed(2),
        formatDuration(p99Ns),
        formatDuration(longestPauseNs),
        `${(fastPathRatio * 100).toFixed(0)} %`,
        formatCount(opsPerSecond),
        offsetsNs.map((ns) => (ns === null ? '–' : signed(ns))).join(', '),
        correctionNs === 0 ? '–' : signed(correctionNs),
        id === 0 ? `${history}, ${formatCount(operations)} operations` : '',
      ],
    ),
  );
  return [
    '',
    ...table(
      [
        [
          'clocks',
          'client',
          'p50',
          'ratio',
          'p99',
          'longest',
          'one round trip',
          'appends/s',
          'replicas’ clocks from its own',
          'corrected by',
          'history',
        ],
        ...rows,
      ],
      new Set([1, 2, 3, 4, 5, 6, 7, 9]),
    ),
    `unplugged: noticed by the replica after ${unplugged.noticedMs[0]} ms, by the client after ${unplugged.noticedMs[1]} ms (goal: one sampling interval, ${GOAL_NOTICED_MS} ms); counted ${unplugged.fallbacks.join(' and ')} time`,
  ];
}

function measureCost(rounds: number): { bareNs: number; disciplinedNs: number; ratio: number } | null {
  if (!native.available) return null;
  const { addon } = native;
  const clock = new addon.DisciplinedClock();
  const raw = addon.clockReadBigInt(addon.systemClocks['monotonic-raw']);
  const rate = BigInt(Math.round(50e-6 * 2 ** 40));
  clock.set(BigInt64Array.of(raw, raw, rate, raw, raw, rate));
  const bytes = new Uint8Array(16);
  const time = (id: number): number => {
    const started = process.hrtime.bigint();
    for (let i = 0; i < READINGS; i++) addon.clockWriteBE(id, bytes, 3);
    return Number(process.hrtime.bigint() - started) / READINGS;
  };
  const measured: { bare: number; disciplined: number }[] = [];
  time(addon.systemClocks.realtime);
  time(clock.id);
  for (let round = 0; round < rounds; round++)
    measured.push({ bare: time(addon.systemClocks.realtime), disciplined: time(clock.id) });
  clock.close();
  return {
    bareNs: median(measured.map(({ bare }) => bare)),
    disciplinedNs: median(measured.map(({ disciplined }) => disciplined)),
    ratio: median(measured.map(({ bare, disciplined }) => disciplined / bare)),
  };
}

/** Error as a line, plus and minus the bound as an area, over the run. */
function plot({ device, trace }: SimulatedResult): string {
  const [width, height, margin] = [900, 300, 50];
  const top = Math.max(...trace.map(([, error, bound]) => Math.max(Math.abs(error), bound))) * 1.1;
  const last = trace.at(-1)![0];
  const x = (s: number): string => (margin + (s / last) * (width - 2 * margin)).toFixed(1);
  const y = (ns: number): string => (height / 2 - (ns / top) * (height / 2 - 20)).toFixed(1);
  const area = [
    ...trace.map(([s, , bound]) => `${x(s)},${y(bound)}`),
    ...trace.map(([s, , bound]) => `${x(s)},${y(-bound)}`).reverse(),
  ].join(' ');
  const line = trace.map(([s, error]) => `${x(s)},${y(error)}`).join(' ');
  const label = (ns: number): string =>
    `<text x="${margin - 6}" y="${y(ns)}" text-anchor="end" dominant-baseline="middle">${Math.round(ns)} ns</text>`;
  const ticks = [-0.9, -0.45, 0, 0.45, 0.9].map((share) => label(share * top)).join('');
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" font-family="sans-serif" font-size="11"><rect width="100%" height="100%" fill="#fff"/><polygon points="${area}" fill="#dbe7f5"/><polyline points="${line}" fill="none" stroke="#b33" stroke-width="1"/>${ticks}<text x="${margin}" y="${height - 6}">0 s</text><text x="${width - margin}" y="${height - 6}" text-anchor="end">${Math.round(last)} s</text><text x="${width / 2}" y="14" text-anchor="middle">Disciplined clock against its device (${device}, 100 ns noise): error, and the bound it states</text></svg>\n`;
}
