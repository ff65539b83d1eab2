/** Well-behaved clients at a given rate, and the cluster that they share with whoever floods or attacks it. */
import { CliError } from '../src/console/exit.js';
import type { ReplicaStatusReport } from '../src/host/status.js';
import { OpenLoad, type StepMeasurement } from '../src/measure/load/open-load.js';
import { LocalCluster } from '../src/measure/local-cluster.js';
import type { Histogram } from '../src/metrics/histogram.js';

export interface HonestLoadOptions {
  readonly clients: number;
  readonly transport: 'auto' | 'dgram' | 'native';
  /** Operations a second that all clients offer together. */
  readonly rate: number;
  readonly replicaFlags?: readonly string[];
}

export class HonestLoad {
  private seed = 1;

  private constructor(
    /** Three replicas of the echo machine, with keys. */
    readonly cluster: LocalCluster,
    private readonly load: OpenLoad,
    private readonly rate: number,
  ) {}

  static async start({ clients, transport, rate, replicaFlags = [] }: HonestLoadOptions): Promise<HonestLoad> {
    const cluster = await LocalCluster.start({
      replicas: 3,
      machine: 'echo',
      transport,
      durability: 'memory',
      authenticated: true,
      replicaFlags,
    });
    try {
      const load = await OpenLoad.start({
        clients,
        cluster: cluster.clusterFile,
        transport,
        idle: undefined,
        pacing: 'sleep',
        history: undefined,
        workload: (index) => ({
          machine: 'echo',
          lanes: 64,
          size: 64,
          mix: { write: 1 },
          keys: 1,
          keyPrefix: '',
          ownKeys: false,
          seed: index + 1,
          timeoutMs: 2_000,
        }),
      });
      return new HonestLoad(cluster, load, rate);
    } catch (error) {
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
    const answers = await this.cluster.ask('stats');
    return answers.map((answer) => {
      if (answer === undefined)
        throw new CliError('worker-failed', 'a replica does not answer its parent; look at the load of this host');
      return answer.status as unknown as ReplicaStatusReport;
    });
  }

  async close(): Promise<void> {
    await this.load.end();
    await this.cluster.close();
  }
}
