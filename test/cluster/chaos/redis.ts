/**
 * A chaos run over Redis front ends: real replicas and front ends as processes, Redis clients, and kill -9. With half of
 * the seeds of either kind front ends are killed as well.
 *
 * The rule: a majority always runs. So every command has an answer in time, and a client that repeats nothing itself
 * needs no error: ioredis may see none.
 */
import type { ReplicaStatusReport } from '../../../src/host/status.js';
import { LocalCluster } from '../../../src/measure/local-cluster.js';
import { FIRST_FEATURES } from '../../../src/protocol/log/features.js';
import { checkHistory, explain } from '../../../src/sim/linearizability.js';
import { Random } from '../../../src/sim/random.js';
import { FrontEnds } from './front-ends.js';
import { judgeLists } from './lists.js';
import { IoredisClient, RawClient, type RedisClient } from './redis-clients.js';
import { RedisLoad } from './redis-load.js';
import type { ChaosOptions, ChaosResult } from './run.js';
import { recovery, sleep } from './verdict.js';

const FRONT_ENDS = 2;
/** Of each kind. */
const CLIENTS = 4;
const COMMIT_LIMIT_MS = 10_000;
const RECOVERY_LIMIT_MS = 30_000;
const POLL_MS = 20;

/** With these seeds front ends are killed, too. */
export function killsFrontEnds(seed: number): boolean {
  return (seed >> 1) % 2 === 1;
}

class Killer {
  readonly done: Record<string, number> = {};
  /** Replicas that ended although they were not killed. */
  readonly fallen: string[] = [];
  over = false;
  private readonly killed = new Set<number>();
  private endMs = 0;

  constructor(
    private readonly cluster: LocalCluster,
    private readonly frontEnds: FrontEnds,
    private readonly say: (line: string) => void,
  ) {
    for (const { id } of cluster.replicas) this.watch(id);
  }

  async run(ms: number, random: Random, withFrontEnds: boolean): Promise<void> {
    this.endMs = performance.now() + ms;
    await Promise.all([
      this.replicas(random.fork('replicas')),
      ...(withFrontEnds ? [this.fronts(random.fork('front ends'))] : []),
    ]);
  }

  async reports(): Promise<(ReplicaStatusReport | undefined)[]> {
    const answers = await this.cluster.ask('stats');
    return answers.map((answer) => answer?.status as ReplicaStatusReport | undefined);
  }

  private get isGoingOn(): boolean {
    return performance.now() < this.endMs && this.fallen.length === 0 && this.frontEnds.fallen.length === 0;
  }

  private async replicas(random: Random): Promise<void> {
    const n = this.cluster.options.replicas;
    while (this.isGoingOn) {
      await sleep(random.between(20, 400));
      const reports = await this.reports();
      const { primary } = reports.reduce((a, b) => ((b?.view ?? -1) > (a?.view ?? -1) ? b : a))!;
      const others = random.shuffle(Array.from({ length: n }, (_, id) => id).filter((id) => id !== primary));
      const victims = others.slice(0, random.between(1, (n - 1) / 2));
      if (random.chance(0.5)) {
        victims[0] = primary;
        this.count('kills of the primary');
      }
      this.count('replicas killed', victims.length);
      this.say(`kill ${victims.join(',')}`);
      await Promise.all(victims.map((id) => this.kill(id)));
      await sleep(random.between(0, 400));
      await Promise.all(
        victims.map(async (id) => {
          const replica = this.cluster.spawn(id);
          this.killed.delete(id);
          this.watch(id);
          await replica.waitReady();
        }),
      );
      await this.allServe();
      this.say(`${victims.join(',')} back`);
    }
  }

  private async fronts(random: Random): Promise<void> {
    while (this.isGoingOn) {
      await sleep(random.between(300, 2_000));
      const id = random.below(FRONT_ENDS);
      this.count('front ends killed');
      this.say(`kill front end ${id}`);
      await this.frontEnds.kill(id);
      await sleep(random.between(0, 300));
      await this.frontEnds.spawn(id);
    }
  }

  private async kill(id: number): Promise<void> {
    const { child } = this.cluster.replicas[id]!;
    this.killed.add(id);
    const gone = new Promise<void>((resolve) => child.once('exit', () => resolve()));
    child.kill('SIGKILL');
    await gone;
  }

  /** Until then the next kill could take a majority's logs. */
  private async allServe(): Promise<void> {
    for (const limit = performance.now() + RECOVERY_LIMIT_MS; performance.now() < limit; await sleep(POLL_MS))
      if ((await this.reports()).every((report) => report?.status === 'normal')) return;
  }

  private watch(id: number): void {
    const replica = this.cluster.replicas[id]!;
    replica.child.once('exit', (code, signal) => {
      if (this.killed.has(id) || this.over) return;
      this.fallen.push(
        `replica ${id} ended with ${signal ?? `exit code ${code}`}: ${replica.complaint.trim().split('\n').at(-1) ?? ''}`,
      );
    });
  }

  private count(what: string, by = 1): void {
    this.done[what] = (this.done[what] ?? 0) + by;
  }
}

export async function redisChaos({ seed, replicas, durability, seconds, say }: ChaosOptions): Promise<ChaosResult> {
  const random = new Random(seed);
  const authenticated = seed % 2 === 1;
  await using cluster = await LocalCluster.start({
    replicas,
    machine: 'kv',
    transport: 'auto',
    idle: 'block',
    durability,
    authenticated,
    features: [...FIRST_FEATURES, 'store', 'redis'],
  });
  const frontEnds = await FrontEnds.start(cluster.clusterFile, FRONT_ENDS, random.fork('ports'));
  const load = new RedisLoad();
  const clients: RedisClient[] = [];
  const failures: string[] = [];
  const killer = new Killer(cluster, frontEnds, say);
  let recoveryMs = NaN;
  let views = 0;
  let lost: string[] = [];
  let lists = judgeLists([], [], new Map());
  try {
    for (let i = 0; i < CLIENTS; i++) {
      clients.push(
        await IoredisClient.connect(`ioredis ${i}`, frontEnds.ports[i % FRONT_ENDS]!),
        new RawClient(`raw ${i}`, frontEnds.ports, random.fork(`connections ${i}`)),
      );
    }
    for (const client of clients) load.start(client, random.fork(client.name));
    try {
      await killer.run(seconds * 1000, random.fork('killer'), killsFrontEnds(seed));
      await load.stop();
      recoveryMs = await recovery(
        'replicas',
        cluster.replicas.map(({ id }) => id),
        () => killer.reports(),
        RECOVERY_LIMIT_MS,
      );
      views = Math.max(...(await killer.reports()).map((report) => report?.view ?? 0));
      const stuck = await load.commitOnceMore(clients, COMMIT_LIMIT_MS);
      if (stuck.length > 0)
        failures.push(`${stuck.join(', ')} write nothing within ${COMMIT_LIMIT_MS / 1000} s, though all is well`);
      const reader = new RawClient('reader', frontEnds.ports, random.fork('reader'));
      lost = await load.readBack(reader);
      lists = judgeLists(load.appends, load.listReads, await load.readLists(reader));
      reader.close();
    } catch (error) {
      failures.push(error instanceof Error ? error.message : String(error));
    }
    await load.stop();
    killer.over = true;
  } finally {
    await load.stop();
    for (const client of clients) client.close();
    frontEnds.close();
  }
  failures.push(...killer.fallen, ...frontEnds.fallen);
  const tell = (what: string, found: readonly string[]): void => {
    if (found.length > 0) failures.push(`${found.length} ${what}: ${found.slice(0, 5).join('; ')}`);
  };
  tell('acknowledged writes are not there', lost);
  tell('acknowledged appends are not there', lists.lost);
  tell('appends were executed twice', lists.doubled);
  tell('appends or reads of lists are out of order', lists.reordered);
  tell('elements of lists were not appended', lists.strange);
  tell('reads did not see the write before them', load.blind);
  tell('replies are wrong', load.wrong);
  let errors = 0;
  for (const [words, times] of load.errors) {
    errors += times;
    // Of a transaction whose connection ended, ioredis gives up the rest.
    if (!killsFrontEnds(seed) || !/^(Command aborted|Connection is closed)/.test(words))
      failures.push(`ioredis saw an error ${times} times: ${words}`);
  }
  const { events } = load;
  const history = checkHistory(events);
  if (history.outcome !== 'linearizable') failures.push(explain(history));
  if (load.committed === 0) failures.push('nothing was executed at all');
  const done = {
    ...killer.done,
    'connections lost': clients.reduce((sum, { closes }) => sum + closes, 0),
    'errors seen by ioredis': errors,
    'commands refused': load.refused,
    'appends to lists': lists.appended,
    'reads of lists': load.listReads.length,
    'reads right behind a write': load.pairs,
  };
  return {
    seed,
    replicas,
    durability,
    authenticated,
    committed: load.committed,
    unknown: load.unknown,
    acknowledgedOnce: load.acknowledged.size,
    longestPauseMs: load.longestPauseMs,
    recoveryMs,
    views,
    done,
    relay: { passed: 0, lost: 0, cut: 0, repeated: 0, delayed: 0 },
    history: history.outcome,
    lost,
    notTried: [],
    failures,
    events,
  };
}
