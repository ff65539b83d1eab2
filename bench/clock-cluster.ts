/**
 * What wrong clocks cost a cluster: three replicas and two clients, each process with a stand-in for a hardware clock.
 * The clock of one replica, of one client, or of both is 2 ms ahead, in turns; in another setting both devices are
 * unplugged in the middle. Each client has one open operation. Every history is checked.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { median } from '../src/measure/compare/rounds.js';
import { compileStandIn, whyNoStandIn } from '../test/clock/stand-in.js';
import { ClockedCluster, quantile, type ClientPhase } from '../test/cluster/clocks/run.js';

const OFF_NS = 2_000_000;
const WARMUP_MS = 1_500;
const ATTEMPTS = 4;

const SETTINGS = [
  { name: 'all right', replicasNs: [0, 0, 0], clientsNs: [0, 0] },
  { name: 'replica 1 at +2 ms', replicasNs: [0, OFF_NS, 0], clientsNs: [0, 0] },
  { name: 'client 1 at +2 ms', replicasNs: [0, 0, 0], clientsNs: [0, OFF_NS] },
  { name: 'replica 1 and client 1 at +2 ms', replicasNs: [0, OFF_NS, 0], clientsNs: [0, OFF_NS] },
] as const;

export interface ClientFigures {
  readonly p50Ns: number;
  readonly p99Ns: number;
  /** Ratio to the same client with all clocks right, in the same round; absent if there is none. */
  readonly p50Ratio?: number;
  readonly longestPauseNs: number;
  readonly fastPathRatio: number;
  readonly opsPerSecond: number;
  /** What is added to its clock's readings because the replicas contradict it. */
  readonly correctionNs: number;
  /** Each replica's clock minus its own, according to the replies. */
  readonly offsetsNs: readonly (number | null)[];
}

export interface ClusterFigures {
  readonly clocks: string;
  readonly clients: readonly ClientFigures[];
  readonly operations: number;
  readonly history: string;
}

export interface UnplugFigures extends ClusterFigures {
  /** Time from the loss of the devices to the line in the log: replica 0, client 1. */
  readonly noticedMs: readonly number[];
  readonly fallbacks: readonly number[];
}

export type ClusterMeasurement =
  | { readonly measured: readonly ClusterFigures[]; readonly unplugged: UnplugFigures }
  | { readonly why: string };

/** Runs each setting `rounds` times, alternately. */
export async function measureClusters(ms: number, rounds: number, seed: number): Promise<ClusterMeasurement> {
  const why = whyNoStandIn();
  if (why !== false) return { why };
  const directory = mkdtempSync(join(tmpdir(), 'jitpaxos-clock-bench-'));
  try {
    const library = compileStandIn(directory);
    const measured: ClusterFigures[][] = SETTINGS.map(() => []);
    for (let round = 0; round < rounds; round++) {
      for (const [index, setting] of SETTINGS.entries())
        measured[index]!.push(await measure(setting, library, directory, ms, seed + round));
    }
    return {
      measured: measured.map((runs) => together(runs, measured[0]!)),
      unplugged: await unplug(library, directory, ms, seed),
    };
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}

async function measure(
  { name, replicasNs, clientsNs }: (typeof SETTINGS)[number],
  library: string,
  directory: string,
  ms: number,
  seed: number,
): Promise<ClusterFigures> {
  for (let attempt = 1; ; attempt++) {
    await using cluster = await ClockedCluster.start({ library, directory, replicasNs, clientsNs, seed });
    await cluster.run(WARMUP_MS);
    const phases = await cluster.run(ms);
    const { events, verdict } = await cluster.end();
    // A stall of the host may have moved the quorum away from replica 1: then its clock cost nothing.
    if (phases[0]!.clock.replicas[1]!.offsetNs === null && attempt < ATTEMPTS) continue;
    return {
      clocks: name,
      clients: phases.map((phase) => figures(phase, ms)),
      operations: events.length / 2,
      history: verdict,
    };
  }
}

/** Medians over the rounds; a history that is not linearizable is kept. */
function together(runs: readonly ClusterFigures[], allRight: readonly ClusterFigures[]): ClusterFigures {
  const clients = runs[0]!.clients.map((_, id) => {
    const middle = (of: (figures: ClientFigures, round: number) => number): number =>
      median(runs.map((run, round) => of(run.clients[id]!, round)));
    return {
      p50Ns: middle(({ p50Ns }) => p50Ns),
      p99Ns: middle(({ p99Ns }) => p99Ns),
      p50Ratio: middle(({ p50Ns }, round) => p50Ns / allRight[round]!.clients[id]!.p50Ns),
      longestPauseNs: Math.max(...runs.map((run) => run.clients[id]!.longestPauseNs)),
      fastPathRatio: middle(({ fastPathRatio }) => fastPathRatio),
      opsPerSecond: middle(({ opsPerSecond }) => opsPerSecond),
      correctionNs: middle(({ correctionNs }) => correctionNs),
      offsetsNs: runs.at(-1)!.clients[id]!.offsetsNs,
    };
  });
  const wrong = runs.find(({ history }) => history !== 'linearizable');
  return {
    clocks: runs[0]!.clocks,
    clients,
    operations: runs.reduce((sum, { operations }) => sum + operations, 0),
    history: wrong?.history ?? 'linearizable',
  };
}

async function unplug(library: string, directory: string, ms: number, seed: number): Promise<UnplugFigures> {
  await using cluster = await ClockedCluster.start({
    library,
    directory,
    replicasNs: [0, 0, 0],
    clientsNs: [0, 0],
    seed,
  });
  await cluster.run(WARMUP_MS);
  const running = cluster.run(ms);
  await delay(ms / 2);
  const goneMs = Date.now();
  for (const model of [cluster.replicaModels[0]!, cluster.clientModels[1]!]) model.set({ gone: 1n });
  const phases = await running;
  const { events, verdict, replicas, clients, clockLogs } = await cluster.end();
  const noticedMs = [clockLogs[0]!, clockLogs[4]!].map((lines) => {
    const line = lines.find(({ to }) => to === 'lost');
    return line === undefined ? NaN : Date.parse(String(line['time'])) - goneMs;
  });
  return {
    clocks: 'devices of replica 0 and client 1 unplugged',
    clients: phases.map((phase) => figures(phase, ms)),
    operations: events.length / 2,
    history: verdict,
    noticedMs,
    fallbacks: [replicas[0]!.clock.fallbacks ?? 0, clients[1]!.fallbacks],
  };
}

function figures({ latenciesNs, longestPauseNs, commits, fast, clock }: ClientPhase, ms: number): ClientFigures {
  return {
    p50Ns: quantile(latenciesNs, 0.5),
    p99Ns: quantile(latenciesNs, 0.99),
    longestPauseNs,
    fastPathRatio: fast / commits,
    opsPerSecond: (latenciesNs.length / ms) * 1e3,
    correctionNs: clock.correctionNs,
    offsetsNs: clock.replicas.map(({ offsetNs }) => offsetNs),
  };
}
