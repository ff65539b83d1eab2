/**
 * The cluster as an operator's tool sees it, for plan.ts: who the members are, what each of them says of itself, and what
 * answers at the addresses of the request. And the means to change it.
 */
import { switchOn } from '../../client/feature-switch.js';
import { Inquiry, type Answered, type AskedHost, type InquiryOptions, type Question } from '../../client/inquiry.js';
import { MEMBERS_QUESTION, type KnownMembers } from '../../client/members-client.js';
import { OperatorClient } from '../../client/operator-client.js';
import { STATUS_QUESTION } from '../../client/status-client.js';
import { WAITING_QUESTION } from '../../client/waiting-question.js';
import { openChain } from '../../host/chain.js';
import { hostAndPortOf, loadCluster, type Cluster } from '../../host/cluster-config.js';
import { loadKeys } from '../../host/key-file.js';
import { keyFileBeside } from '../../host/keyring.js';
import { idOfEntry, type ReplicaStatusReport } from '../../host/status.js';
import type { WaitingReport } from '../../host/waiting-report.js';
import { JitPaxosError } from '../../errors.js';
import { loadHash } from '../../native/hash64.js';
import { drawIdentity } from '../../storage/identity.js';
import { LIMIT_NAMES } from '../../protocol/config.js';
import { EPOCH_VIEWS } from '../../protocol/configuration.js';
import { FEATURE_NAMES, featureOperation } from '../../protocol/log/features.js';
import type { ConfigureOperation } from '../../protocol/membership/operations.js';
import type { ChangeResult } from '../../protocol/membership/results.js';
import { WAITING_ID } from '../../wire/host-ids.js';
import type { Member, MemberList } from '../../wire/member-list.js';
import { BelievedSilent } from './believed-silent.js';
import type { Found, HostSeen, MemberRequest, Seen } from './plan.js';
import type { MembersInReach } from './run.js';
import { randomInt } from 'node:crypto';

const FEATURE = 'membership';

export interface ReachOptions extends InquiryOptions {
  readonly cluster: string;
  /** The replicas' key file, for the secret of the chain. */
  readonly replicaKeys: string | undefined;
  /** How long an answer is waited for, and a decision. */
  readonly answerMs: number;
  readonly decisionMs: number;
}

/** Addresses of a request. */
function addressesOf(request: MemberRequest): readonly string[] {
  return request.kind === 'add' ? request.addresses : 'address' in request ? [request.address] : [];
}

export class Reach implements MembersInReach {
  readonly cluster: Cluster;
  private known: MemberList | undefined;
  private operator: OperatorClient | undefined;
  /** This process has switched the feature on. */
  private hasSwitched = false;
  /** Open inquiries, by who is asked what. */
  private readonly inquiries = new Map<string, { readonly inquiry: Inquiry<unknown>; usedAt: number }>();
  private readonly silent = new BelievedSilent(() => performance.now());
  private looks = 0;
  private readonly drawn = new Map<number, string>();

  constructor(private readonly options: ReachOptions) {
    this.cluster = loadCluster(options.cluster);
  }

  async look(request: MemberRequest, began: number | undefined): Promise<Seen | string> {
    this.looks++;
    const asked = this.hosts();
    // A silent host costs the whole time for an answer, so both questions wait for it together.
    const [members, early] = await Promise.all([
      this.ask('members', MEMBERS_QUESTION, asked),
      this.ask('status', STATUS_QUESTION, asked),
    ]);
    const newest = newestOf(members);
    if (newest === undefined)
      return `no replica answers: ${members.find(({ silence }) => silence !== undefined)?.silence ?? ''}`;
    this.known = newest;
    const list = withKnownIdentities(newest, members);
    const now = this.hosts();
    const answers = isSame(now, asked) ? early : await this.ask('status', STATUS_QUESTION, now);
    const reports = new Map(answers.flatMap(({ id, answer }) => (answer === undefined ? [] : [[id, answer] as const])));
    const committed = Math.max(0, ...[...reports.values()].map(({ committedIndex }) => committedIndex));
    const hosts = new Map<number, HostSeen>();
    for (const { id, answer, speaks } of answers)
      if (answer !== undefined) hosts.set(id, seenOf(answer, committed, speaks));
    const found = new Map<string, Found>();
    for (const address of addressesOf(request)) {
      const host = list.hosts.find((one) => one.address === address);
      if (host === undefined || !hosts.has(host.id)) found.set(address, await this.find(address, request));
    }
    await this.closeUnused();
    const voters = list.hosts.filter(({ votes }) => votes);
    const on = voters.filter(({ id }) => reports.get(id)?.features?.on.includes(FEATURE) === true).length;
    const views = [...reports.values(), ...members.flatMap(({ answer }) => (answer === undefined ? [] : [answer]))];
    return {
      list,
      began: began ?? list.started,
      viewEpoch: Math.max(0, ...views.map(({ view }) => Math.floor(view / EPOCH_VIEWS))),
      isOn: this.hasSwitched || 2 * on > voters.length,
      unnamed: new Set(list.hosts.filter(({ identity }) => identity === undefined).map(({ id }) => id)),
      hosts,
      heard: new Set([...reports.values()].flatMap(heardBy)),
      found,
      nobody: (id) => this.nobody(id),
    };
  }

  async switchOn(): Promise<void> {
    const { cluster, options } = this;
    const secret =
      cluster.authentication === 'keys'
        ? loadKeys(options.replicaKeys ?? keyFileBeside(options.cluster, 'replica'), cluster.id, 'replica').chainSecret
        : undefined;
    const operation = featureOperation(FEATURE_NAMES.indexOf(FEATURE) + 1, openChain(cluster, secret, loadHash()));
    try {
      await switchOn(this.clientOptions(), operation, options.decisionMs);
    } catch (error) {
      if (!isUndecided(error)) throw error; // otherwise it is looked at again
      return;
    }
    this.hasSwitched = true;
  }

  async change(operation: ConfigureOperation): Promise<ChangeResult | undefined> {
    try {
      this.operator ??= await OperatorClient.open(this.clientOptions());
      return await this.operator.change(operation, this.options.decisionMs);
    } catch (error) {
      if (!isUndecided(error)) throw error;
      return undefined;
    }
  }

  async close(): Promise<void> {
    await this.operator?.close();
    for (const { inquiry } of this.inquiries.values()) await inquiry.close();
  }

  private clientOptions() {
    const { cluster, keys, transport, logger, decisionMs } = this.options;
    return {
      cluster,
      connectTimeout: decisionMs,
      ...(keys === undefined ? {} : { keys }),
      ...(transport === undefined ? {} : { transport }),
      ...(logger === undefined ? {} : { logger }),
    };
  }

  /** The listed hosts, or those of the cluster file before anybody said who they are. */
  private hosts(): readonly AskedHost[] {
    if (this.known === undefined) return this.cluster.replicas.map((at, id) => ({ id, at }));
    return this.known.hosts.map(({ id, address }) => ({ id, at: hostAndPortOf(address)! }));
  }

  /** What answers at an address where no listed host does. */
  private async find(address: string, request: MemberRequest): Promise<Found> {
    const at = hostAndPortOf(address)!;
    const inquiry = await this.inquiryFor('waiting', WAITING_QUESTION, [{ id: WAITING_ID, at }]);
    const [waiting] = await inquiry.ask(this.options.answerMs);
    if (waiting!.answer !== undefined) return this.judge(waiting!.answer);
    if (request.kind === 'move') {
      const [moved] = await this.ask('moved', STATUS_QUESTION, [{ id: request.id, at }]);
      if (moved!.answer !== undefined)
        return {
          kind: 'replica',
          id: request.id,
          identity: moved!.answer.identity ?? undefined,
          version: moved!.answer.version,
          knows: moved!.answer.features?.known.includes(FEATURE) === true,
        };
    }
    const { refused, dropped } = inquiry.silence;
    if ((dropped['sender'] ?? 0) > 0) return { kind: 'other' };
    return {
      kind: 'silent',
      why:
        refused.length > 0
          ? 'the host says that nothing listens there'
          : 'neither a process nor its host says anything; if one runs there, compare the "id" of its cluster file and its keys with those here, else see whether the host is up and UDP passes',
    };
  }

  /** A waiting process fits this cluster, or why it does not. */
  private judge({ cluster, limits, chain, features, version, identity }: WaitingReport): Found {
    const { cluster: own } = this;
    const unfit = (why: string): Found => ({ kind: 'unfit', why });
    if (cluster !== own.id) return unfit(`it is for cluster ${cluster}`);
    const differing = LIMIT_NAMES.filter((name) => limits[name] !== own.limits[name]);
    if (differing.length > 0)
      return unfit(
        `its cluster file has other limits: ${differing.map((name) => `${name} ${limits[name]} instead of ${own.limits[name]}`).join(', ')}`,
      );
    if (chain.function !== own.chain)
      return unfit(`its cluster file says that ${chain.function} chains the log, and here it is ${own.chain}`);
    if (!features.includes(FEATURE)) return unfit(`version ${version} does not know changes of the members`);
    return { kind: 'waits', identity };
  }

  private async ask<T>(
    name: string,
    question: Question<T>,
    hosts: readonly AskedHost[],
  ): Promise<readonly Answered<T>[]> {
    const inquiry = await this.inquiryFor(name, question, hosts);
    const names = hosts.map(({ id, at }) => `${name} ${id} ${at.host} ${at.port}`);
    return this.silent.ask(names, this.options.answerMs, (timeoutMs) => inquiry.ask(timeoutMs));
  }

  private async inquiryFor<T>(name: string, question: Question<T>, hosts: readonly AskedHost[]): Promise<Inquiry<T>> {
    const who = `${name} ${JSON.stringify(hosts)}`;
    const { cluster, keys, transport, logger } = this.options;
    let open = this.inquiries.get(who);
    if (open === undefined) {
      const options = {
        cluster,
        ...(keys === undefined ? {} : { keys }),
        ...(transport === undefined ? {} : { transport }),
        ...(logger === undefined ? {} : { logger }),
      };
      const inquiry = await Inquiry.open('jitpaxos member', options, question, hosts);
      open = { inquiry: inquiry as Inquiry<unknown>, usedAt: 0 };
      this.inquiries.set(who, open);
    }
    open.usedAt = this.looks;
    return open.inquiry as Inquiry<T>;
  }

  /** The list has changed since: others are asked. */
  private async closeUnused(): Promise<void> {
    for (const [who, { inquiry, usedAt }] of this.inquiries) {
      if (usedAt >= this.looks) continue;
      this.inquiries.delete(who);
      await inquiry.close();
    }
  }

  private nobody(id: number): string {
    let identity = this.drawn.get(id);
    if (identity === undefined) this.drawn.set(id, (identity = drawIdentity(() => randomInt(-0x80000000, 0x7fffffff))));
    return identity;
  }
}

function isSame(a: readonly AskedHost[], b: readonly AskedHost[]): boolean {
  return JSON.stringify(a) === JSON.stringify(b);
}

/** Of lists that were committed, the one that the last entry made. */
function newestOf(answers: readonly Answered<KnownMembers>[]): MemberList | undefined {
  return answers
    .flatMap(({ answer }) => (answer === undefined ? [] : [answer.list]))
    .reduce<MemberList | undefined>(
      (newest, list) => (newest === undefined || list.index > newest.index ? list : newest),
      undefined,
    );
}

/**
 * A replica names its own directory, also while the log does not. So the log has the identity of a host if another host
 * names it, or if nobody else is there to say.
 */
function withKnownIdentities(newest: MemberList, answers: readonly Answered<KnownMembers>[]): MemberList {
  const lists = answers.flatMap(({ id, answer }) =>
    answer === undefined || answer.list.index !== newest.index ? [] : [{ id, hosts: answer.list.hosts }],
  );
  const identityIn = (hosts: readonly Member[], id: number): string | undefined =>
    hosts.find((host) => host.id === id)?.identity;
  return {
    ...newest,
    hosts: newest.hosts.map((host) => {
      if (newest.index === 0) return { ...host, identity: undefined };
      const others = lists.filter(({ id }) => id !== host.id);
      const from = others.length > 0 ? others : lists;
      return {
        ...host,
        identity: from.map(({ hosts }) => identityIn(hosts, host.id)).find((one) => one !== undefined),
      };
    }),
  };
}

function seenOf(report: ReplicaStatusReport, committed: number, speaks: number): HostSeen {
  return {
    status: report.status,
    version: report.version,
    knows: report.features?.known.includes(FEATURE) === true,
    speaks,
    identity: report.identity ?? undefined,
    behind: committed - report.committedIndex,
    receivedBytes: report.transport.counters['bytes_received'] ?? 0,
  };
}

/** Ids of the hosts that a primary has heard within the last two seconds, itself not; empty for another replica. */
export function heardBy(report: ReplicaStatusReport): number[] {
  const offsets = report.replicaClocks?.offsetsNs ?? [];
  const heard = offsets.flatMap((ns, entry) => (ns === null ? [] : [idOfEntry(report, entry)]));
  return heard.filter((host) => host !== report.id);
}

/** The cluster did not answer in time: what became of it is not known, and it is looked at again. */
function isUndecided(error: unknown): boolean {
  return (
    error instanceof JitPaxosError && ['outcome-unknown', 'session-lost', 'cluster-unavailable'].includes(error.code)
  );
}
