/** A front end as a process, over three replicas, and how much memory it takes. */
import { readFileSync } from 'node:fs';
import { LocalCluster } from '../../../src/measure/local-cluster.js';
import { FIRST_FEATURES } from '../../../src/protocol/log/features.js';
import { Random } from '../../../src/sim/random.js';
import { FrontEnds } from '../../cluster/chaos/front-ends.js';

export class FrontEndProcess {
  private constructor(
    private readonly cluster: LocalCluster,
    private readonly frontEnds: FrontEnds,
  ) {}

  static async start(seed: number): Promise<FrontEndProcess> {
    const cluster = await LocalCluster.start({
      replicas: 3,
      machine: 'kv',
      transport: 'auto',
      idle: 'block',
      durability: 'memory',
      features: [...FIRST_FEATURES, 'store', 'redis'],
    });
    return new FrontEndProcess(cluster, await FrontEnds.start(cluster.clusterFile, 1, new Random(seed)));
  }

  get port(): number {
    return this.frontEnds.ports[0]!;
  }

  /** Why it is not there any more; undefined: it is. */
  get fallen(): string | undefined {
    return this.frontEnds.fallen[0];
  }

  /** Resident memory now and at most so far, MiB; undefined on a host without /proc. */
  memory(): { readonly nowMiB: number; readonly mostMiB: number } | undefined {
    let status: string;
    try {
      status = readFileSync(`/proc/${this.frontEnds.pid(0)}/status`, 'utf8');
    } catch {
      return undefined;
    }
    const of = (name: string): number => Number(new RegExp(`^${name}:\\s+(\\d+) kB`, 'm').exec(status)?.[1]) / 1024;
    return { nowMiB: Math.round(of('VmRSS')), mostMiB: Math.round(of('VmHWM')) };
  }

  async close(): Promise<void> {
    this.frontEnds.close();
    await this.cluster.close();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}
