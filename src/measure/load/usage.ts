/** What a cluster and this host used between two moments, as far as they tell. */
import { workerKeys } from '../../console/settings.js';
import { cpus } from 'node:os';
import { StatusClient, type StatusAnswer } from '../../client/status-client.js';
import { largestError } from './bench-report.js';

const ANSWER_TIMEOUT_MS = 2_000;

interface Sample {
  readonly atMs: number;
  /** Core-seconds of the host that were not idle, since its start. */
  readonly hostBusySeconds: number;
  readonly answers: readonly StatusAnswer[];
}

export interface Usage {
  /** Average number of cores that each replica kept busy; null: it did not answer. */
  readonly replicaCores: readonly (number | null)[];
  readonly replicaCpuSeconds: readonly (number | null)[];
  /** Cores of this host that were not idle, whatever used them. */
  readonly hostCores: number;
  /** Replicas that did not answer the last `stop`. */
  readonly silentReplicas: readonly number[];
  /** Messages and datagrams for which there was no room, over all replicas; null: none answered. */
  readonly replicaDrops: number | null;
}

/** Facts that replicas report and that do not change. */
export interface ClusterFacts {
  readonly replicas: number;
  readonly durability: string | null;
  readonly clockSource: string | null;
  /** The largest error that a replica's clock states; null if one of them does not know. */
  readonly clockErrorNs: number | null;
}

export class UsageMeter {
  private samples: Promise<Sample>;
  private before: Sample | undefined;
  private after: Sample | undefined;

  private constructor(private readonly client: StatusClient) {
    this.samples = this.take();
  }

  static async open(cluster: string): Promise<UsageMeter> {
    return new UsageMeter(await StatusClient.open({ cluster, ...workerKeys() }));
  }

  async start(): Promise<void> {
    this.before = await this.next();
  }

  async stop(): Promise<void> {
    this.after = await this.next();
  }

  /** Between the last `start` and the last `stop`. */
  usage(): Usage {
    const { before, after } = this;
    if (before === undefined || after === undefined) throw new RangeError('usage needs a start and a stop');
    const seconds = Math.max(1e-3, (after.atMs - before.atMs) / 1000);
    const cpu = after.answers.map((answer, id) => difference(cpuOf(before.answers[id]!), cpuOf(answer)));
    const drops = after.answers
      .map((answer, id) => difference(dropsOf(before.answers[id]!), dropsOf(answer)))
      .filter((count) => count !== null);
    return {
      replicaCores: cpu.map((used) => (used === null ? null : used / seconds)),
      replicaCpuSeconds: cpu,
      hostCores: (after.hostBusySeconds - before.hostBusySeconds) / seconds,
      silentReplicas: after.answers.flatMap(({ report }, id) => (report === undefined ? [id] : [])),
      replicaDrops: drops.length === 0 ? null : drops.reduce((sum, count) => sum + count, 0),
    };
  }

  /** From the last answers. */
  async facts(): Promise<ClusterFacts> {
    const { answers } = await this.samples;
    const report = answers.find((answer) => answer.report !== undefined)?.report;
    return {
      replicas: answers.length,
      durability: report?.durability ?? null,
      clockSource: report?.clock.source ?? null,
      clockErrorNs: largestError(answers.map((answer) => answer.report?.clock)),
    };
  }

  close(): Promise<void> {
    return this.client.close();
  }

  /** One question at a time. */
  private next(): Promise<Sample> {
    this.samples = this.samples.then(() => this.take());
    return this.samples;
  }

  private async take(): Promise<Sample> {
    const atMs = performance.now();
    const hostBusySeconds = busySeconds();
    return { atMs, hostBusySeconds, answers: await this.client.ask(ANSWER_TIMEOUT_MS) };
  }
}

function busySeconds(): number {
  return cpus().reduce((sum, { times }) => sum + times.user + times.nice + times.sys + times.irq, 0) / 1000;
}

function cpuOf({ report }: StatusAnswer): number | undefined {
  return report === undefined ? undefined : report.cpuSeconds.user + report.cpuSeconds.system;
}

function dropsOf({ report }: StatusAnswer): number | undefined {
  return report === undefined ? undefined : report.outboxDropped + (report.counters['outbox_full'] ?? 0);
}

/** Null if one is missing, or if the replica was restarted in between. */
function difference(before: number | undefined, after: number | undefined): number | null {
  return before === undefined || after === undefined || after < before ? null : after - before;
}
