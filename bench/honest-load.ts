/** Well-behaved clients at a given rate, and the cluster that they share with whoever floods or attacks it. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { CliError } from '../src/console/exit.js';
import type { ReplicaStatusReport } from '../src/host/status.js';
import { OpenLoad, type StepMeasurement } from '../src/measure/load/open-load.js';
import type { Workload } from '../src/measure/load/messages.js';
import { LocalCluster } from '../src/measure/local-cluster.js';
import type { Histogram } from '../src/metrics/histogram.js';
import { Relay } from './relay.js';

export interface HonestLoadOptions {
  readonly clients: number;
  readonly transport: 'auto' | 'dgram' | 'native';
  /** Operations a second that all clients offer together. */
  readonly rate: number;
  readonly replicaFlags?: readonly string[];
  /** What the clients do. Default: echoes of 64 bytes. */
  readonly workload?: Pick<Workload, 'machine' | 'size' | 'mix' | 'keys'>;
  /** There is one client, and what it sends passes through relays. Default false. */
  readonly relayed?: boolean;
}

const ECHOES: NonNullable<HonestLoadOptions['workload']> = { machine: 'echo', size: 64, mix: { write: 1 }, keys: 1 };

export class HonestLoad {
  private seed = 1;

  private constructor(
    /** Three replicas, with keys. */
    readonly cluster: LocalCluster,
    /** By replica, if the client is `relayed`. */
    readonly relays: readonly Relay[],
    private readonly load: OpenLoad,
    private readonly rate: number,
  ) {}

  static async start({
    clients,
    transport,
    rate,
    replicaFlags = [],
    workload = ECHOES,
    relayed = false,
  }: HonestLoadOptions): Promise<HonestLoad> {
    const cluster = await LocalCluster.start({
      replicas: 3,
      machine: workload.machine,
      transport,
      durability: 'memory',
      authenticated: true,
      replicaFlags,
    });
    const relays: Relay[] = [];
    try {
      if (relayed) for (const { ready } of cluster.replicas) relays.push(await Relay.open(ready!.port));
      const load = await OpenLoad.start({
        clients: relayed ? 1 : clients,
        cluster: relayed ? behind(cluster, relays) : cluster.clusterFile,
        transport,
        idle: undefined,
        pacing: 'sleep',
        history: undefined,
        workload: (index) => ({
          ...workload,
          lanes: 64,
          keyPrefix: 'h',
          ownKeys: false,
          seed: index + 1,
          timeoutMs: 2_000,
        }),
      });
      return new HonestLoad(cluster, relays, load, rate);
    } catch (error) {
      for (const relay of relays) relay.close();
      await cluster.close();
      throw error;
    }
  }

  /** Measures for that long, after `settleMs` in which nothing counts. */
  step(durationNs: number, settleMs: number): Promise<StepMeasurement> {
    return this.load.step({
      kind: 'poisson',
      ratePerSecond: this.rate,
      seed: this.seed++,
      warmupNs: settleMs * 1e6,
      durationNs,
      intervalMs: 1_000,
      onProgress: (_index: number, _histogram: Histogram) => {},
    });
  }

  /** What each replica says of itself, by its parent. Throws CliError `worker-failed`. */
  async reports(): Promise<ReplicaStatusReport[]> {
    return (await this.ask()).map(({ report }) => report);
  }

  /** The same, with what its process has used. */
  async ask(): Promise<{ readonly report: ReplicaStatusReport; readonly cpuSeconds: number }[]> {
    const answers = await this.cluster.ask('stats');
    return answers.map((answer) => {
      if (answer === undefined)
        throw new CliError('worker-failed', 'a replica does not answer its parent; look at the load of this host');
      return { report: answer.status as unknown as ReplicaStatusReport, cpuSeconds: answer.cpuSeconds };
    });
  }

  async close(): Promise<void> {
    await this.load.end();
    for (const relay of this.relays) relay.close();
    await this.cluster.close();
  }
}

/** A cluster file beside the true one, for a client that reaches the replicas through relays. */
function behind(cluster: LocalCluster, relays: readonly Relay[]): string {
  const file = join(cluster.directory, 'relayed.json');
  writeFileSync(file, JSON.stringify({ ...cluster.config(), replicas: relays.map(({ address }) => address) }));
  return file;
}
