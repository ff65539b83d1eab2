/**
 * Locks and leases between real processes, over three replicas on loopback:
 *
 *   npm run bench:locks -- [--only handover,killed,shortest,torment,failover,renewals,simulated] [--count 2000] [--kills 100] [--json]
 *
 * Everything is judged by the monotonic clock of the host, which all processes share. `torment` stops holders for up to
 * twice their lease, kills them, and kills primaries, while they take turns. It does not step clocks: the processes share
 * that of the host. `simulated` does, in virtual time (locks/simulated/).
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { Client } from '../src/client/client.js';
import { StoreClient } from '../src/client/store-client.js';
import { CliError } from '../src/console/exit.js';
import { silentLogger } from '../src/host/logger.js';
import type { ReplicaStatusReport } from '../src/host/status.js';
import { version } from '../src/host/version.js';
import { hostInfo } from '../src/measure/load/bench-report.js';
import { seededRandom } from '../src/measure/load/random.js';
import { LocalCluster } from '../src/measure/local-cluster.js';
import { Views } from '../src/protocol/views.js';
import { checkMissed, goalsTable, judged, type RowResult } from './goals/row.js';
import { nowNs, type HolderReport, type HolderSetup } from './locks/holder.js';
import { causeOf, listed, noLosses } from './locks/losses.js';
import { Holder } from './locks/processes.js';
import { Records } from './locks/records.js';
import { simulateLocks } from './locks/simulated/simulate.js';
import { namesOf, program } from './program.js';

const REPLICAS = 3;
/** Long enough that no lease of a living holder ends on a busy host. */
const LONG_TTL_MS = 10_000;
const KILLED_TTL_MS = 1_000;
/** Of these the shortest is looked for after which the next one holds in time, ms. */
const SHORT_TTLS_MS = [5, 10, 20, 50, 100, 200];
const SHORTEST_GOAL_MS = 5;
/** Share of the kills for each of them. */
const SHORT_PART = 0.25;
/** The next one is to hold this long after the lease at most, beside the bound of the clocks, ms. */
const LATE_GOAL_MS = 2;
/** With a ttl that is too short for this host nobody gets the lock: for so long it is tried, ms. */
const SHORT_STUCK_MS = 10_000;
/** A holder that had lost its lock before it was killed does not count; so often is it tried for each kill. */
const TRIES = 5;
const TOLD_KILLS = 10;
const TORMENT_TTL_MS = 400;
const HOLD_MS = 8;
const WARMUP = 20;
const RETURNS_MS = 500;
const STUCK_MS = 60_000;
const LEASES_TOGETHER = 1000;
const RENEW_EVERY_MS = 10_000;
const PROGRESS_MS = 10_000;
/** Share of the simulated hand-overs at which something goes wrong, where clocks are beyond their bound. */
const BROKEN_FAULTS = 0.3;
/** Hand-overs among which holds overlap for certain, where clocks are beyond their bound. */
const BROKEN_MIN = 60;

interface Effort {
  readonly count: number;
  readonly kills: number;
  readonly failovers: number;
  readonly leases: number;
  readonly simulated: number;
  readonly seed: number;
  readonly random: () => number;
  /** A row ends when its time is over, with what it has measured. */
  readonly isOver: () => boolean;
  readonly note: (text: string) => void;
}

interface Row {
  readonly name: string;
  /** Over a cluster of its own. */
  readonly measure?: (cluster: LocalCluster, effort: Effort) => Promise<RowResult>;
  readonly simulate?: (effort: Effort) => Promise<RowResult>;
}

const ROWS: readonly Row[] = [
  { name: 'handover', measure: handOver },
  { name: 'killed', measure: killed },
  { name: 'shortest', measure: shortest },
  { name: 'torment', measure: torment },
  { name: 'failover', measure: failover },
  { name: 'renewals', measure: renewals },
  { name: 'simulated', simulate: simulated },
];

await program(
  {
    name: 'npm run bench:locks --',
    summary:
      'Locks and leases between processes: hand-over, killed holders, overlaps, fail-overs, the cost of renewals.',
    positionals: [],
    flags: {
      only: {
        kind: 'text',
        value: 'ROW,…',
        standard: 'all, one after the other',
        help: `only these: ${ROWS.map(({ name }) => name).join(', ')}`,
      },
      count: { kind: 'count', default: '2000', min: 30, max: 1e6, help: 'hand-overs, of handover and of torment' },
      kills: { kind: 'count', default: '100', min: 1, max: 10_000, help: 'holders killed' },
      failovers: { kind: 'count', default: '200', min: 1, max: 10_000, help: 'primaries killed while a lease is held' },
      leases: { kind: 'count', default: '100000', min: 1, max: 1e6, help: 'leases renewed every 10 s' },
      simulated: { kind: 'count', default: '5000', min: 30, max: 1e7, help: 'hand-overs in the simulated cluster' },
      minutes: {
        kind: 'count',
        default: '15',
        min: 1,
        max: 1440,
        help: 'a row ends after this long, with what it has measured; renewals and simulated end by themselves',
      },
      seed: { kind: 'count', default: '1', max: 0x7fffffff, help: 'seed of what is killed and stopped, and when' },
      strict: { kind: 'switch', help: 'exit with 4 when a goal is missed' },
    },
    examples: ['npm run bench:locks', 'npm run bench:locks -- --only handover --count 500'],
  },
  async ({ only, count, kills, failovers, leases, simulated: simulatedCount, minutes, seed, strict }, output) => {
    const startedMs = performance.now();
    const chosen = only === undefined ? ROWS : namesOf('--only', only, ROWS);
    const random = seededRandom(seed);
    const rows: RowResult[] = [];
    let endMs = Infinity;
    const effort: Effort = {
      count,
      kills,
      failovers,
      leases,
      simulated: simulatedCount,
      seed,
      random,
      isOver: () => performance.now() > endMs,
      note: (text) => output.note(text),
    };
    for (const { name, measure, simulate } of chosen) {
      output.note(`${name} (--seed ${seed})`);
      if (simulate !== undefined) rows.push(await simulate(effort));
      if (measure === undefined) continue;
      await using cluster = await LocalCluster.start({
        replicas: REPLICAS,
        machine: 'kv',
        transport: 'auto',
        durability: 'memory',
        features: ['store'],
      });
      endMs = performance.now() + minutes * 60_000;
      rows.push(await measure(cluster, effort));
      if (effort.isOver()) output.note(`${name} was ended after ${minutes} minutes`);
    }
    const result = {
      schema: 'jitpaxos.bench-locks/1',
      rows,
      missed: rows.filter(({ holds }) => !holds).map(({ name }) => name),
      seed,
      seconds: (performance.now() - startedMs) / 1000,
      host: hostInfo(),
      version: version(),
    };
    output.line(output.json ? JSON.stringify(result) : goalsTable(rows, result.seconds));
    checkMissed(result.missed, strict);
  },
);

function quantile(values: readonly number[], share: number): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.floor(share * (sorted.length - 1))] ?? NaN;
}

/** Resolves when `isDone`. Throws CliError if `progress` does not grow for `stuckMs`. */
async function until(isDone: () => boolean, progress: () => number, stuckMs = STUCK_MS): Promise<void> {
  let [last, atMs] = [progress(), performance.now()];
  while (!isDone()) {
    await sleep(5);
    if (progress() !== last) [last, atMs] = [progress(), performance.now()];
    else if (performance.now() - atMs > stuckMs)
      throw new CliError('assertion-failed', `nobody got the lock for ${stuckMs / 1000} s, after ${last} hand-overs`);
  }
}

function setupOf(cluster: LocalCluster, ttlMs: number, holdMs: number): HolderSetup {
  return { cluster: cluster.clusterFile, transport: 'auto', name: 'lock', ttlMs, holdMs };
}

function endAll(holders: Iterable<Holder>): void {
  for (const holder of holders) holder.signal('SIGKILL');
}

async function handOver(cluster: LocalCluster, { count, isOver }: Effort): Promise<RowResult> {
  const records = new Records();
  const setup = setupOf(cluster, LONG_TTL_MS, HOLD_MS);
  const holders = [0, 1].map(() => new Holder(setup, (report) => records.note(report)));
  try {
    await until(
      () => records.count >= count + WARMUP || isOver(),
      () => records.count,
    );
  } finally {
    endAll(holders);
  }
  const { handOverMs, operationMs } = records.judge();
  const p50Ms = quantile(handOverMs.slice(WARMUP), 0.5);
  const operationP50Ms = quantile(operationMs.slice(WARMUP), 0.5);
  return judged({
    name: 'handover',
    what: `clean hand-over between two processes, p50 of ${handOverMs.length} ÷ p50 of a fenced write`,
    goal: '≤ 4',
    measured: `${(p50Ms / operationP50Ms).toFixed(2)} (${p50Ms.toFixed(2)} ms ÷ ${operationP50Ms.toFixed(2)} ms)`,
    figures: [{ value: p50Ms / operationP50Ms, atMost: 4 }],
    values: { p50Ms, operationP50Ms, p99Ms: quantile(handOverMs, 0.99), ...toldOf(records) },
    note: noteOf(records),
  });
}

function toldOf({ errors, losses }: Records): object {
  return { errors, losses };
}

function noteOf({ errors, losses }: Records): string {
  return `losses of living holders: ${listed(losses)}; errors: ${listed(errors)}`;
}

/** Kills holders. By kill: how much longer than `ttlMs` it took until the next one held, ms. Throws as `until`. */
async function killHolders(
  cluster: LocalCluster,
  ttlMs: number,
  kills: number,
  { random, note, isOver }: Effort,
  records: Records,
  stuckMs = STUCK_MS,
): Promise<number[]> {
  const setup = { ...setupOf(cluster, ttlMs, 1e9), name: `lock/${ttlMs}` };
  let taken: { readonly token: number; readonly by: Holder } | undefined;
  /** The one that is killed, and when the first of those that followed held. */
  let killedToken = Infinity;
  let nextNs: number | undefined;
  let times = 0;
  const heard = (report: HolderReport, by: Holder): void => {
    records.note(report);
    if (report.kind !== 'taken') return;
    times++;
    taken = { token: report.token, by };
    if (report.token > killedToken) nextNs ??= report.firstNs;
  };
  const holders = new Set([0, 1, 2].map(() => new Holder(setup, heard)));
  const lateMs: number[] = [];
  try {
    await Promise.all([...holders].map((holder) => holder.waitReady()));
    for (let tries = 0; lateMs.length < kills && tries < TRIES * kills && !isOver(); tries++) {
      // A holder that is killed is followed by one that has waited.
      const added = new Holder(setup, heard);
      holders.add(added);
      await added.waitReady();
      await until(
        () => taken !== undefined && holders.has(taken.by),
        () => times,
        stuckMs,
      );
      await sleep(ttlMs / 2 + (random() * ttlMs) / 3);
      const { token, by } = taken!;
      nextNs = undefined;
      killedToken = token;
      const killedNs = nowNs();
      holders.delete(by);
      by.signal('SIGKILL');
      await until(
        () => nextNs !== undefined,
        () => times,
        stuckMs,
      );
      killedToken = Infinity;
      // Where the ttl is so short that a holder that lives loses its lock, it may have lost it before.
      if (nextNs! < killedNs) continue;
      lateMs.push((nextNs! - killedNs) / 1e6 - ttlMs);
      if (lateMs.length % TOLD_KILLS === 0)
        note(`${lateMs.length} kills, ttl ${ttlMs} ms: p99 ${quantile(lateMs, 0.99).toFixed(1)} ms after the lease`);
    }
  } finally {
    endAll(holders);
  }
  return lateMs;
}

async function killed(cluster: LocalCluster, effort: Effort): Promise<RowResult> {
  const records = new Records();
  const lateMs = await killHolders(cluster, KILLED_TTL_MS, effort.kills, effort, records);
  const p99Ms = quantile(lateMs, 0.99);
  return judged({
    name: 'killed',
    what: `a holder is killed: until the next one holds, less the ttl of ${KILLED_TTL_MS} ms, p99 of ${lateMs.length}`,
    goal: `≤ ${LATE_GOAL_MS} ms and the clock bound`,
    measured: `${p99Ms.toFixed(1)} ms`,
    figures: [{ value: p99Ms, atMost: LATE_GOAL_MS }],
    values: { p50Ms: quantile(lateMs, 0.5), p99Ms, maxMs: quantile(lateMs, 1), ...toldOf(records) },
    note: `all processes share one clock, so its bound is 0; ${noteOf(records)}`,
  });
}

async function shortest(cluster: LocalCluster, effort: Effort): Promise<RowResult> {
  const kills = Math.ceil(SHORT_PART * effort.kills);
  const tried: object[] = [];
  const told: string[] = [];
  let found: number | undefined;
  for (const ttlMs of SHORT_TTLS_MS) {
    if (found !== undefined || effort.isOver()) break;
    let lateMs: readonly number[] = [];
    const records = new Records();
    try {
      lateMs = await killHolders(cluster, ttlMs, kills, effort, records, SHORT_STUCK_MS);
    } catch (error) {
      if (!(error instanceof CliError) || error.code !== 'assertion-failed') throw error;
      effort.note(`ttl ${ttlMs} ms: ${error.message}`);
    }
    const p99Ms = lateMs.length === 0 ? undefined : quantile(lateMs, 0.99);
    tried.push({ ttlMs, kills: lateMs.length, p99Ms, ...toldOf(records) });
    told.push(`${ttlMs}: ${p99Ms === undefined ? 'nobody held' : `${p99Ms.toFixed(1)} ms late`}`);
    effort.note(`ttl ${ttlMs} ms: ${noteOf(records)}`);
    if (p99Ms !== undefined && p99Ms <= LATE_GOAL_MS) found = ttlMs;
  }
  return judged({
    name: 'shortest',
    what: `the shortest ttl of ${SHORT_TTLS_MS.join(', ')} ms with which the next one holds at most ${LATE_GOAL_MS} ms after the lease of a holder that was killed, p99 of ${kills}`,
    goal: `≤ ${SHORTEST_GOAL_MS} ms`,
    measured: `${found === undefined ? 'none' : `${found} ms`} (${told.join(', ')})`,
    figures: [{ value: found ?? NaN, atMost: SHORTEST_GOAL_MS }],
    values: { shortestMs: found ?? null, tried },
    note: 'all processes share the processors and one clock',
  });
}

/** Kills the primary, and brings it back. */
async function failOver(cluster: LocalCluster): Promise<void> {
  const { view } = await present(cluster);
  const primary = new Views(REPLICAS).primary(view);
  cluster.replicas[primary]!.kill('SIGKILL');
  await sleep(RETURNS_MS);
  await cluster.spawn(primary).waitReady();
}

async function present(cluster: LocalCluster): Promise<{ readonly view: number; readonly cpuUs: number }> {
  const answers = await cluster.ask('stats');
  const view = Math.max(...answers.map((answer) => (answer?.status as ReplicaStatusReport | undefined)?.view ?? 0));
  return { view, cpuUs: (answers[new Views(REPLICAS).primary(view)]?.cpuSeconds ?? NaN) * 1e6 };
}

async function torment(cluster: LocalCluster, { count, random, note, isOver: isLate }: Effort): Promise<RowResult> {
  const records = new Records();
  const setup = setupOf(cluster, TORMENT_TTL_MS, HOLD_MS / 2);
  let last: Holder | undefined;
  const heard = (report: HolderReport, by: Holder): void => {
    records.note(report);
    if (report.kind === 'taken') last = by;
  };
  const holders = new Set([0, 1, 2, 3].map(() => new Holder(setup, heard)));
  const counts = { stops: 0, kills: 0, failovers: 0 };
  let isOver = false;
  const tormenting = (async () => {
    await Promise.all([...holders].map((holder) => holder.waitReady()));
    while (!isOver) {
      await sleep(100 + 400 * random());
      const all = [...holders];
      const victim =
        random() < 0.7 && last !== undefined && holders.has(last) ? last : all[Math.floor(random() * all.length)]!;
      const which = random();
      if (which < 0.75) {
        counts.stops++;
        victim.signal('SIGSTOP');
        await sleep(2 * TORMENT_TTL_MS * random());
        victim.signal('SIGCONT');
      } else if (which < 0.9) {
        counts.kills++;
        holders.delete(victim);
        victim.signal('SIGKILL');
        const added = new Holder(setup, heard);
        holders.add(added);
        await added.waitReady();
      } else {
        counts.failovers++;
        await failOver(cluster);
      }
    }
  })();
  try {
    await Promise.race([
      tormenting,
      until(
        () => records.count >= count || isLate(),
        () => records.count,
      ),
    ]);
  } finally {
    isOver = true;
    await tormenting.catch(() => undefined);
    endAll(holders);
  }
  const { overlaps, fenced, staleExecuted } = records.judge();
  note(
    `${counts.stops} stops, ${counts.kills} kills of holders, ${counts.failovers} of primaries; ${fenced} writes fenced`,
  );
  return judged({
    name: 'torment',
    what: `overlapping holds in ${records.count} hand-overs with ${counts.stops} stops, ${counts.kills} kills and ${counts.failovers} fail-overs; stale writes that were executed`,
    goal: '0; 0',
    measured: `${overlaps}; ${staleExecuted} (${fenced} fenced)`,
    figures: [
      { value: overlaps, atMost: 0 },
      { value: staleExecuted, atMost: 0 },
    ],
    values: { handOvers: records.count, overlaps, fenced, staleExecuted, ...counts, ...toldOf(records) },
    note: noteOf(records),
  });
}

async function failover(cluster: LocalCluster, { failovers, note, isOver }: Effort): Promise<RowResult> {
  await using client = await Client.connect({ cluster: cluster.clusterFile, logger: silentLogger, timeout: 10_000 });
  const store = new StoreClient(client);
  const held = await Promise.all(Array.from({ length: 10 }, (_, i) => store.lock(`held/${i}`, { ttl: LONG_TTL_MS })));
  const losses = noLosses();
  let lost = 0;
  let done = 0;
  for (; done < failovers && !isOver(); done++) {
    await failOver(cluster);
    for (const [at, lock] of held.entries()) {
      if (lock.isHeld()) continue;
      lost++;
      losses[causeOf(lock)]++;
      held[at] = await store.lock(`held/${at}`, { ttl: LONG_TTL_MS });
    }
    if ((done + 1) % 20 === 0) note(`${done + 1} fail-overs, ${lost} leases lost`);
  }
  return judged({
    name: 'failover',
    what: `leases of ${LONG_TTL_MS / 1000} s that a living holder lost in ${done} fail-overs, of ${held.length}`,
    goal: '0',
    measured: String(lost),
    figures: [{ value: lost, atMost: 0 }],
    values: { failovers: done, lost, losses },
    note: `by cause: ${listed(losses)}`,
  });
}

async function renewals(cluster: LocalCluster, { leases }: Effort): Promise<RowResult> {
  await using client = await Client.connect({ cluster: cluster.clusterFile, logger: silentLogger, timeout: 10_000 });
  const store = new StoreClient(client);
  const all: { readonly number: number }[] = [];
  while (all.length < leases)
    all.push(
      ...(await Promise.all(
        Array.from({ length: Math.min(200, leases - all.length) }, () => store.grant({ ttl: 3_600_000 })),
      )),
    );
  const batches = Math.ceil(leases / LEASES_TOGETHER);
  const share = async (renewing: boolean): Promise<number> => {
    const before = await present(cluster);
    const beganMs = performance.now();
    for (let i = 0; i < batches; i++) {
      await sleep(Math.max(0, beganMs + (i * RENEW_EVERY_MS) / batches - performance.now()));
      const batch = all.slice(i * LEASES_TOGETHER, (i + 1) * LEASES_TOGETHER);
      if (renewing && (await store.renew(batch)).includes(undefined))
        throw new CliError('assertion-failed', 'a lease was not there any more');
    }
    await sleep(Math.max(0, beganMs + RENEW_EVERY_MS - performance.now()));
    return ((await present(cluster)).cpuUs - before.cpuUs) / 1000 / (performance.now() - beganMs);
  };
  const idle = await share(false);
  const busy = await share(true);
  return judged({
    name: 'renewals',
    what: `${leases} leases renewed every 10 s, ${LEASES_TOGETHER} in an operation: share of a processor at the primary, less that without`,
    goal: '≤ 5 %',
    measured: `${((busy - idle) * 100).toFixed(2)} % (${(idle * 100).toFixed(2)} % without)`,
    figures: [{ value: busy - idle, atMost: 0.05 }],
    values: { idle, busy, leases },
  });
}

/** Hand-overs in virtual time, and a tenth as many with clocks beyond their bound. */
async function simulated({ simulated: handOvers, seed, note }: Effort): Promise<RowResult> {
  // An error's stack costs more than what it tells here: thousands of waits end with one.
  const { stackTraceLimit } = Error;
  Error.stackTraceLimit = 0;
  try {
    const before = process.cpuUsage();
    let saidMs = performance.now();
    const progress = (observed: { readonly handOvers: number; readonly overlaps: number }): void => {
      if (performance.now() - saidMs < PROGRESS_MS) return;
      saidMs = performance.now();
      note(`${observed.handOvers} hand-overs, ${observed.overlaps} overlaps`);
    };
    const kept = await simulateLocks({ handOvers, seed, progress });
    const { user, system } = process.cpuUsage(before);
    const perSecond = (1e6 * handOvers) / (user + system);
    const broken = await simulateLocks({
      handOvers: Math.max(BROKEN_MIN, Math.ceil(handOvers / 10)),
      seed,
      boundBroken: true,
      faults: BROKEN_FAULTS,
      progress,
    });
    return judged({
      name: 'simulated',
      what: `overlapping holds in ${kept.handOvers} simulated hand-overs with ${kept.stops} stops, ${kept.kills} kills, ${kept.failovers} fail-overs, ${kept.clockSteps} clock steps and ${kept.datagramsLost} lost datagrams; stale writes that were executed; the same where clocks are ${broken.boundBreaks} times beyond their bound`,
      goal: '0; 0; ≥ 1; 0',
      measured: `${kept.overlaps}; ${kept.staleExecuted} (${kept.staleFenced} fenced); ${broken.overlaps}; ${broken.staleExecuted} (${broken.staleFenced} fenced); ${perSecond.toFixed(0)} hand-overs a second of processor time`,
      figures: [
        { value: kept.overlaps, atMost: 0 },
        { value: kept.staleExecuted, atMost: 0 },
        { value: broken.overlaps, atLeast: 1 },
        { value: broken.staleExecuted, atMost: 0 },
      ],
      values: {
        ...kept,
        perSecond,
        boundBreaks: broken.boundBreaks,
        brokenOverlaps: broken.overlaps,
        brokenStaleFenced: broken.staleFenced,
        brokenStaleExecuted: broken.staleExecuted,
        brokenLosses: broken.losses,
      },
      note: `losses of living holders: ${listed(kept.losses)}; beyond the bound: ${listed(broken.losses)}`,
    });
  } finally {
    Error.stackTraceLimit = stackTraceLimit;
  }
}
