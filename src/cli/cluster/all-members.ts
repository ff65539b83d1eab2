/**
 * Asks all members of a cluster for their status, for `jitpaxos status`, `top` and `doctor`: the replicas of the cluster
 * file, and the hosts that these list and the file lacks. So an old cluster file shows the whole cluster, as long as one
 * replica in it answers.
 */
import { Inquiry } from '../../client/inquiry.js';
import {
  STATUS_QUESTION,
  StatusClient,
  type StatusAnswer,
  type StatusClientOptions,
} from '../../client/status-client.js';
import { addressText, hostAndPortOf, type Cluster } from '../../host/cluster-config.js';
import type { ReplicaStatusReport } from '../../host/status.js';
import { membersSeen, type MembersSeen } from './members-seen.js';

export interface MemberAnswer extends StatusAnswer {
  /** False: a replica lists this host, and the cluster file does not have its address. */
  readonly inFile?: false;
}

export class AllMembers {
  /** Asks the hosts that the cluster file lacks. */
  private others: Inquiry<ReplicaStatusReport> | undefined;
  /** Which hosts those are. */
  private followed = '';

  private constructor(
    private readonly options: StatusClientOptions,
    private readonly client: StatusClient,
  ) {}

  /** Throws the errors of `StatusClient.open`. */
  static async open(options: StatusClientOptions): Promise<AllMembers> {
    return new AllMembers(options, await StatusClient.open(options));
  }

  /** The cluster file, checked. */
  get cluster(): Cluster {
    return this.client.cluster;
  }

  /**
   * Asks every replica of the cluster file, then hosts that are not in it. Resolves with an answer for each. Throws the
   * errors of `StatusClient.ask`.
   */
  async ask(timeoutMs: number): Promise<readonly MemberAnswer[]> {
    const [own, known] = await Promise.all([this.client.ask(timeoutMs), this.askOthers(timeoutMs)]);
    const reports = [...own, ...known].flatMap(({ report }) => (report === undefined ? [] : [report]));
    const isNews = await this.follow(membersSeen(reports));
    return together(own, isNews ? await this.askOthers(timeoutMs) : known);
  }

  async close(): Promise<void> {
    await Promise.all([this.client.close(), this.others?.close()]);
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  private async askOthers(timeoutMs: number): Promise<readonly MemberAnswer[]> {
    const answers = (await this.others?.ask(timeoutMs)) ?? [];
    const inFile = this.cluster.replicas.map(addressText);
    return answers.map(({ answer, speaks: _, ...rest }) => ({
      ...rest,
      report: answer,
      ...(inFile.includes(rest.address) ? {} : { inFile: false as const }),
    }));
  }

  /** True if others are asked from now on. */
  private async follow(seen: MembersSeen | undefined): Promise<boolean> {
    const { replicas } = this.cluster;
    const missing = (seen?.hosts ?? []).flatMap(({ id, address }) => {
      const at = hostAndPortOf(address);
      const listed = replicas[id];
      return at === undefined || (listed !== undefined && addressText(listed) === addressText(at)) ? [] : [{ id, at }];
    });
    const names = missing.map(({ id, at }) => `${id} ${addressText(at)}`).join(', ');
    if (names === this.followed || seen === undefined) return false;
    this.followed = names;
    await this.others?.close();
    this.others = undefined;
    if (missing.length === 0) return true;
    try {
      this.others = await Inquiry.open('StatusClient', this.options, STATUS_QUESTION, missing);
    } catch {
      return true; // a name that does not resolve: these hosts are shown as not asked
    }
    return true;
  }
}

/** A place of the cluster file that stands for a host asked elsewhere says nothing of its own. */
function together(own: readonly StatusAnswer[], others: readonly MemberAnswer[]): readonly MemberAnswer[] {
  const isReported = (id: number): boolean => own.some(({ report }) => report?.id === id);
  return [
    ...own.filter(
      ({ id, address, report }) =>
        report !== undefined || others.every((other) => other.id !== id && other.address !== address),
    ),
    ...others.filter(({ id }) => !isReported(id)),
  ].sort((a, b) => a.id - b.id);
}
