/** A cluster of real processes whose members an operator changes, and who plays which part in it. */
import { setTimeout as sleep } from 'node:timers/promises';
import type { MemberRequest } from '../../src/cli/members/plan.js';
import { Reach } from '../../src/cli/members/reach.js';
import { runChange } from '../../src/cli/members/run.js';
import { CliError } from '../../src/console/exit.js';
import { silentLogger } from '../../src/host/logger.js';
import type { ReplicaStatusReport } from '../../src/host/status.js';
import { LocalCluster, type JoiningProcess, type LocalClusterOptions } from '../../src/measure/local-cluster.js';

const SETTLE_LIMIT_MS = 60_000;
const POLL_MS = 10;
/** Of the operator's tool, as its command has them. */
const ANSWER_MS = 500;
const DECISION_MS = 10_000;
const PATIENCE_MS = 5_000;
const CHANGE_LIMIT_MS = 120_000;

/** The voters of the epoch in force, by their parts in the view. */
export interface Parts {
  readonly primary: number;
  readonly members: readonly number[];
  readonly spares: readonly number[];
}

export class ChangingCluster implements AsyncDisposable {
  private constructor(
    readonly cluster: LocalCluster,
    /** Ids of the voters. */
    private voting: readonly number[],
  ) {}

  static async start(options: LocalClusterOptions): Promise<ChangingCluster> {
    const cluster = await LocalCluster.start(options);
    return new ChangingCluster(
      cluster,
      cluster.replicas.map(({ id }) => id),
    );
  }

  get voters(): readonly number[] {
    return this.voting;
  }

  /** Processes that wait to be added. */
  async joiners(count: number): Promise<readonly JoiningProcess[]> {
    return Promise.all(Array.from({ length: count }, () => this.cluster.spawnJoining()));
  }

  /** Adds a learner, and measures how long it copies the state. */
  async learner(joiner: JoiningProcess, timeoutMs = CHANGE_LIMIT_MS): Promise<{ readonly seconds: number }> {
    let listedMs = 0;
    await this.command(
      { kind: 'add-learner', address: joiner.address },
      timeoutMs,
      () => (listedMs = performance.now()),
    );
    const seconds = (performance.now() - listedMs) / 1e3;
    await this.cluster.joins(joiner);
    return { seconds };
  }

  /** Carries out one command of the operator's tool. Resolves when the epoch that it asks for has begun. */
  change(request: MemberRequest): Promise<void> {
    return this.command(request, CHANGE_LIMIT_MS);
  }

  private async command(request: MemberRequest, timeoutMs: number, done: () => void = () => undefined): Promise<void> {
    const reach = new Reach({
      cluster: this.cluster.clusterFile,
      replicaKeys: undefined,
      answerMs: ANSWER_MS,
      decisionMs: DECISION_MS,
      logger: silentLogger,
    });
    try {
      const { list } = await runChange(request, reach, {
        timeoutMs,
        patienceMs: PATIENCE_MS,
        nowMs: () => performance.now(),
        sleep,
        done,
        waits: () => undefined,
      });
      this.voting = list.hosts.filter(({ votes }) => votes).map(({ id }) => id);
    } finally {
      await reach.close();
    }
  }

  /**
   * Stops the processes of these hosts for good; not those that the cluster file names, which tell others who the members
   * are now.
   */
  async retire(ids: readonly number[]): Promise<void> {
    for (const id of ids) if (id >= this.cluster.options.replicas) await this.cluster.retire(id);
  }

  async status(id: number): Promise<ReplicaStatusReport | undefined> {
    const answer = await this.cluster.replicas[id]!.ask('stats');
    return answer?.status as ReplicaStatusReport | undefined;
  }

  /**
   * Waits until all voters but these serve in one view, and know what is committed. Throws CliError `replica-not-ready`
   * when that takes too long.
   */
  async settled(dead: readonly number[] = []): Promise<Parts> {
    const awaited = this.voting.filter((id) => !dead.includes(id));
    const untilMs = performance.now() + SETTLE_LIMIT_MS;
    for (;;) {
      const reports = await Promise.all(awaited.map((id) => this.status(id)));
      const known = reports.filter((report) => report !== undefined);
      if (known.length === awaited.length && isSettled(known)) return this.partsIn(known[0]!);
      if (performance.now() > untilMs)
        throw new CliError(
          'replica-not-ready',
          `the voters did not agree within ${SETTLE_LIMIT_MS / 1e3} s: ${reports.map((report, at) => `${awaited[at]} ${report === undefined ? `silent (${this.cluster.replicas[awaited[at]!]!.complaint.trim().split('\n').at(-1) ?? ''})` : `${report.status}, view ${report.view}`}`).join('; ')}`,
        );
      await sleep(POLL_MS);
    }
  }

  close(): Promise<void> {
    return this.cluster.close();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  private partsIn({ primary, members }: ReplicaStatusReport): Parts {
    return {
      primary,
      members: members.filter((id) => id !== primary),
      spares: this.voting.filter((id) => !members.includes(id)),
    };
  }
}

function isSettled(reports: readonly ReplicaStatusReport[]): boolean {
  const { view } = reports[0]!;
  return reports.every(
    (report) =>
      report.status === 'normal' &&
      report.view === view &&
      report.committedIndex > 0 &&
      report.membership?.epoch === report.membership?.decided,
  );
}
