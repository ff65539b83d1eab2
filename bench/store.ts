/**
 * Operations of the store against puts of level 0, over real sockets: two clusters of three, one at level 0 and one with
 * the feature `store`, that take turns, so that other load on the host meets both.
 *
 *   npm run bench:store -- [--open 512] [--rounds 7] [--ms 500] [--keys 10000] [--json]
 *
 * Each row is divided by the puts of level 0 of the same round, and the median of the rounds is shown: operations a second,
 * and the processor time that the primary takes for one. The clients' objects (KvClient, StoreClient) are part of the
 * first figure and not of the second.
 */
import { Client } from '../src/client/client.js';
import { KvClient } from '../src/client/kv-client.js';
import { StoreClient } from '../src/client/store-client.js';
import { formatCount } from '../src/console/units.js';
import type { ReplicaStatusReport } from '../src/host/status.js';
import { silentLogger } from '../src/host/logger.js';
import { median } from '../src/measure/compare/rounds.js';
import { hostInfo } from '../src/measure/load/bench-report.js';
import { LocalCluster } from '../src/measure/local-cluster.js';
import { Views } from '../src/protocol/views.js';
import { judged } from './goals/row.js';
import { program } from './program.js';

const REPLICAS = 3;
const KEY_BYTES = 16;
const VALUE_BYTES = 100;
const LEASES = 100;
const HOUR_MS = 3_600_000;

interface Measured {
  readonly perSecond: number;
  readonly primaryUs: number;
}

interface Row {
  readonly name: string;
  /** Operations a second ÷ those of puts of level 0. */
  readonly goal: number | null;
  readonly cluster: LocalCluster;
  readonly run: (key: Uint8Array, i: number) => Promise<unknown>;
}

const value = new Uint8Array(VALUE_BYTES).fill(0x76);

async function primaryCpuUs(cluster: LocalCluster): Promise<number> {
  const answers = await cluster.ask('stats');
  const view = Math.max(...answers.map((answer) => (answer?.status as ReplicaStatusReport | undefined)?.view ?? 0));
  return (answers[new Views(REPLICAS).primary(view)]?.cpuSeconds ?? NaN) * 1e6;
}

/** Keeps this many operations open for a time. */
async function measured(
  { cluster, run }: Row,
  keys: readonly Uint8Array[],
  open: number,
  ms: number,
): Promise<Measured> {
  const cpu = await primaryCpuUs(cluster);
  const began = performance.now();
  let done = 0;
  const lane = async (): Promise<void> => {
    while (performance.now() - began < ms) {
      const i = done++;
      await run(keys[(i * 7919) % keys.length]!, i);
    }
  };
  await Promise.all(Array.from({ length: open }, lane));
  const seconds = (performance.now() - began) / 1000;
  return { perSecond: done / seconds, primaryUs: ((await primaryCpuUs(cluster)) - cpu) / done };
}

await program(
  {
    name: 'npm run bench:store --',
    summary: 'Operations of the store against puts of level 0, over real sockets.',
    positionals: [],
    flags: {
      open: { kind: 'count', default: '512', min: 1, max: 1024, help: 'operations open at once' },
      rounds: { kind: 'count', default: '7', min: 1, max: 1000, help: 'of each row; the median is shown' },
      ms: { kind: 'count', default: '500', min: 1, max: 60_000, help: 'of each row in a round' },
      keys: { kind: 'count', default: '10000', min: 3, max: 1e6, help: 'keys that are there' },
    },
    examples: ['npm run bench:store', 'npm run bench:store -- --rounds 20 --json'],
  },
  async ({ open, rounds, ms, keys }, output) => {
    const startedMs = performance.now();
    const options = { replicas: REPLICAS, machine: 'kv', transport: 'auto', durability: 'memory' } as const;
    await using before = await LocalCluster.start(options);
    await using cluster = await LocalCluster.start({ ...options, features: ['session-quotas', 'membership', 'store'] });
    const connect = (to: LocalCluster): Promise<Client> =>
      Client.connect({ cluster: to.clusterFile, lanes: open, logger: silentLogger });
    await using clientBefore = await connect(before);
    await using client = await connect(cluster);
    const [kvBefore, kv, store] = [new KvClient(clientBefore), new KvClient(client), new StoreClient(client)];
    const names = Array.from({ length: keys }, (_, i) => Buffer.from(String(i).padStart(KEY_BYTES, 'k'), 'latin1'));
    const leases = await Promise.all(Array.from({ length: LEASES }, () => store.lease({ ttl: HOUR_MS })));
    const rows: readonly Row[] = [
      { name: 'put, level 0', goal: null, cluster: before, run: (key) => kvBefore.put(key, value) },
      { name: 'put of level 0, level 1', goal: 0.95, cluster, run: (key) => kv.put(key, value) },
      { name: 'put', goal: 0.95, cluster, run: (key) => store.put(key, value) },
      { name: 'get', goal: 0.95, cluster, run: (key) => store.get(key) },
      {
        name: 'transaction of 3 keys',
        goal: 0.5,
        cluster,
        run: (key, i) =>
          store.transact({
            if: [{ key, present: true }],
            do: [{ put: key, value }, { put: names[(i * 31 + 1) % keys]!, value }, { get: names[0]! }].filter(
              // A transaction changes a key once.
              (part, at) => at !== 1 || part.put !== key,
            ),
          }),
      },
      {
        name: 'put with lease',
        goal: 0.8,
        cluster,
        run: (key, i) => store.put(key, value, { lease: leases[i % LEASES]! }),
      },
    ];
    const rates: number[][] = rows.map(() => []);
    const costs: number[][] = rows.map(() => []);
    const first: Measured[] = [];
    for (let round = -1; round < rounds; round++) {
      let base: Measured | undefined;
      for (const [i, row] of rows.entries()) {
        const figures = await measured(row, names, open, ms);
        base ??= figures;
        // The first one is for the compiler.
        if (round < 0) continue;
        first[i] ??= figures;
        rates[i]!.push(figures.perSecond / base.perSecond);
        costs[i]!.push(figures.primaryUs / base.primaryUs);
      }
    }
    const figures = rows.map(({ name, goal }, i) => ({
      name,
      goal,
      ...first[i]!,
      ratio: median(rates[i]!),
      primaryRatio: median(costs[i]!),
    }));
    const judgedRows = figures.map(({ name, goal, perSecond, primaryUs, ratio, primaryRatio }) =>
      judged({
        name: `store-${name.replaceAll(/\W+/g, '-')}`,
        what: `${name}: rate ÷ that of puts of level 0, median of ${rounds} rounds`,
        goal: goal === null ? '–' : `≥ ${goal}`,
        measured: `${ratio.toFixed(2)} (the primary's processor time for one: ${primaryRatio.toFixed(2)} of it)`,
        figures: goal === null ? [] : [{ value: ratio, atLeast: goal }],
        values: { name, perSecond, primaryUs, ratio, primaryRatio },
      }),
    );
    if (output.json)
      output.line(
        JSON.stringify({
          schema: 'jitpaxos.bench-store/1',
          ...{ open, rounds, ms, keys, rows: judgedRows, host: hostInfo() },
          seconds: (performance.now() - startedMs) / 1000,
        }),
      );
    else
      for (const { name, goal, perSecond, primaryUs, ratio, primaryRatio } of figures)
        output.line(
          `${name.padEnd(24)} ${ratio.toFixed(2)} of the puts of level 0${goal === null ? '' : ` (goal: ${goal})`}; primary's processor time ${primaryRatio.toFixed(2)}; first round ${formatCount(Math.round(perSecond))}/s, ${primaryUs.toFixed(2)} µs`,
        );
  },
);
