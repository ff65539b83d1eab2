/**
 * Combines the answers of single replicas into the state of the cluster, for `jitpaxos status` and `top`. Rates are
 * differences between two answers of the same process; after a restart there are none until it has answered twice.
 */
import { rejectedByReason } from '../../protocol/counters.js';
import { CHAIN_REMEDY, chainWarning } from '../../host/chain.js';
import type { Cluster } from '../../host/cluster-config.js';
import { viewText, type ReportedHost } from '../../host/membership-report.js';
import { idOfEntry, majorityLostText, spokenIn, type ReplicaStatusReport } from '../../host/status.js';
import { twoLivesText } from '../../host/two-lives.js';
import { Exit } from '../../console/exit.js';
import { formatLongDuration } from '../../console/units.js';
import { featureDifferences } from './features-known.js';
import { keyDifferences } from './keys-loaded.js';
import type { MemberAnswer } from './all-members.js';
import { memberRemarks, membersSeen, type MemberRow, type MembersSeen } from './members-seen.js';
import { leasesSeen, watchesSeen, type LeasesSeen, type WatchesSeen } from './store-figures.js';

export interface ReplicaSummary extends MemberRow {
  readonly roundTripUs: number | undefined;
  /** See StatusAnswer. */
  readonly silence?: string;
  readonly rates: Rates | undefined;
}

/** Per second, between two answers. */
export interface Rates {
  readonly seconds: number;
  readonly commits: number;
  readonly requests: number;
  readonly rejected: Readonly<Record<string, number>>;
  readonly reconciles: number;
  readonly datagramsIn: number;
  readonly datagramsOut: number;
  /** Processor time per second. */
  readonly cpu: number;
}

export interface ClusterSummary {
  readonly cluster: string;
  /**
   * Operations commit, or would if there were any: every member of the newest view's quorum answered, is normal, and is
   * in that view; and the cluster is not `stalled`. A member that did not answer counts as well if operations committed
   * between two answers of the primary, because that takes every member. False if nobody answered, too: whether operations commit is then
   * unknown.
   */
  readonly available: boolean;
  /** Highest view of any replica that answered. */
  readonly view: number | undefined;
  readonly primary: number | undefined;
  readonly members: readonly number[];
  /** The epoch in force and a change that is open, as far as any replica knows; null: none says. */
  readonly membership: Pick<MembersSeen, 'epoch' | 'pending'> | null;
  readonly answered: number;
  /** The newest wire version that all replicas that answered speak. */
  readonly wireVersion: number | undefined;
  /** Whether what the replicas that answered send to each other is encrypted. */
  readonly encrypted: Encrypted;
  /**
   * The replicas that have lost their logs, if a replica reports that those are more than the cluster survives: nothing
   * commits, and waiting does not help. Undefined otherwise.
   */
  readonly majorityLost: readonly number[] | undefined;
  /**
   * Why nothing commits although the quorum is there: requests arrived and none committed, in two intervals. Undefined
   * otherwise, and if there were fewer than three answers.
   */
  readonly stalled: string | undefined;
  readonly commitsPerSecond: number | undefined;
  readonly rejectedPerSecond: Readonly<Record<string, number>>;
  /** The store's leases, as the primary has them. Undefined: it has none, or does not say. */
  readonly leases: LeasesSeen | undefined;
  /** Watches at the replicas that answered. Undefined: none says. */
  readonly watches: WatchesSeen | undefined;
  readonly replicas: readonly ReplicaSummary[];
  /** What an operator should look at, one sentence each. */
  readonly remarks: readonly string[];
}

/** `unknown`: no replica that answered has heard another one, or none says it. `partly`: some links are. */
export type Encrypted = 'yes' | 'no' | 'partly' | 'unknown';

/** A link of which nothing is known makes the answer `unknown`, unless others are known to differ. */
export function encryptedBetween(
  reports: readonly Pick<ReplicaStatusReport, 'id' | 'peers' | 'entriesOf'>[],
): Encrypted {
  const answered = new Set(reports.map(({ id }) => id));
  const found = new Set<boolean | null>();
  for (const report of reports) {
    if (report.peers === undefined) found.add(null);
    else
      report.peers.forEach((peer, entry) => {
        if (peer !== null && answered.has(idOfEntry(report, entry))) found.add(peer.encrypted);
      });
  }
  if (found.has(true) && found.has(false)) return 'partly';
  if (found.size === 0 || found.has(null)) return 'unknown';
  return found.has(true) ? 'yes' : 'no';
}

/** A spare may lag this far without a remark: it fetches committed entries every few milliseconds. */
const LAG_REMARK = 10_000;

/** @param earlier answers before `previous`: they show whether the cluster is stalled */
export function summarize(
  cluster: string,
  answers: readonly MemberAnswer[],
  previous?: readonly MemberAnswer[],
  earlier?: readonly MemberAnswer[],
): ClusterSummary {
  const reports = answers.flatMap(({ report }) => (report === undefined ? [] : [report]));
  const newest = reports.reduce<ReplicaStatusReport | undefined>(
    (best, report) => (best === undefined || report.view > best.view ? report : best),
    undefined,
  );
  const view = newest?.view;
  const primary = newest?.primary;
  const members = newest?.members ?? [];
  const seen = membersSeen(reports);
  const primaryReport = reportOf(answers, primary);
  const asked = answers.map((answer): ReplicaSummary => {
    const { address, report, roundTripUs, silence } = answer;
    const id = hostOf(answer, seen);
    const inView = report !== undefined && primaryReport !== undefined && report.view === primaryReport.view;
    const listed = seen?.hosts.find((host) => host.id === id);
    return {
      id,
      address,
      inFile: answer.inFile ?? true,
      asked: true,
      role:
        seen !== undefined && listed === undefined
          ? 'removed'
          : listed?.votes === false
            ? 'learner'
            : report === undefined
              ? undefined
              : report.primary === id
                ? 'primary'
                : report.members.includes(id)
                  ? 'member'
                  : 'spare',
      ...changeOf(listed),
      report,
      roundTripUs,
      ...(silence === undefined ? {} : { silence }),
      lag: inView
        ? Math.max(0, primaryReport.lastIndex - (id === primary ? report.lastIndex : report.syncedIndex))
        : undefined,
      rates: ratesBetween(reportOf(previous ?? [], report?.id), report),
    };
  });
  const replicas = [...asked, ...notAsked(seen, asked)];
  const rejectedPerSecond: Record<string, number> = {};
  for (const { rates } of replicas)
    for (const [reason, rate] of Object.entries(rates?.rejected ?? {}))
      rejectedPerSecond[reason] = (rejectedPerSecond[reason] ?? 0) + rate;
  const lost = [...new Set(reports.flatMap(({ majorityLost }) => majorityLost ?? []))].sort((a, b) => a - b);
  const majorityLost = lost.length === 0 ? undefined : lost;
  const stalled =
    primaryReport === undefined || previous === undefined || earlier === undefined
      ? undefined
      : stalledBetween(reportOf(earlier, primary), reportOf(previous, primary), primaryReport);
  const commits = committedBetween(reportOf(previous ?? [], primary), primaryReport);
  return {
    cluster,
    available:
      stalled === undefined &&
      members.length > 0 &&
      members.every((id) => {
        const report = reportOf(answers, id);
        return report === undefined ? commits : report.view === view && report.status === 'normal';
      }),
    view,
    primary,
    members,
    membership: seen === undefined ? null : { epoch: seen.epoch, pending: seen.pending },
    answered: reports.length,
    wireVersion: reports.length === 0 ? undefined : Math.min(...reports.map(spokenIn)),
    encrypted: encryptedBetween(reports),
    majorityLost,
    stalled,
    commitsPerSecond: replicas.find(({ id }) => id === primary)?.rates?.commits,
    rejectedPerSecond,
    leases: leasesSeen(primaryReport && { now: primaryReport, before: reportOf(previous ?? [], primary) }),
    watches: watchesSeen(reports.map((now) => ({ now, before: reportOf(previous ?? [], now.id) }))),
    replicas,
    remarks: [
      ...(majorityLost === undefined ? [] : [majorityLostText(majorityLost, votersOf(replicas))]),
      ...(stalled === undefined ? [] : [stalled]),
      ...divergedRemarks(reports),
      ...remarksOn(replicas, view),
      ...memberRemarks(seen, replicas, previous === undefined ? undefined : summarize(cluster, previous).replicas),
      ...keyDifferences(reports).map(({ text }) => text),
      ...featureDifferences(reports).map(({ text }) => text),
      ...clockRemarks(reports),
    ],
  };
}

function reportOf(answers: readonly MemberAnswer[], id: number | undefined): ReplicaStatusReport | undefined {
  return answers.find(({ report }) => report !== undefined && report.id === id)?.report;
}

/** The id of the host that was asked. A cluster file may be older than the members: then its places say little. */
function hostOf({ id, address, report }: MemberAnswer, seen: MembersSeen | undefined): number {
  return report?.id ?? seen?.hosts.find((host) => host.address === address)?.id ?? id;
}

function changeOf(listed: ReportedHost | undefined): Pick<ReplicaSummary, 'change'> {
  if (listed === undefined || listed.votes === listed.willVote) return {};
  return { change: listed.votes ? 'leaves' : 'joins' };
}

/** Members that the cluster file does not have. */
function notAsked(seen: MembersSeen | undefined, asked: readonly ReplicaSummary[]): ReplicaSummary[] {
  return (seen?.hosts ?? [])
    .filter(({ id }) => asked.every((row) => row.id !== id))
    .map((host) => ({
      id: host.id,
      address: host.address,
      inFile: false,
      asked: false,
      role: host.votes ? undefined : 'learner',
      ...changeOf(host),
      report: undefined,
      roundTripUs: undefined,
      lag: undefined,
      rates: undefined,
    }));
}

/** How many of these vote. */
export function votersOf(replicas: readonly Pick<ReplicaSummary, 'role'>[]): number {
  return replicas.filter(({ role }) => role !== 'learner' && role !== 'removed').length;
}

/** Whether operations committed in one view between two answers of its primary. */
function committedBetween(before: ReplicaStatusReport | undefined, now: ReplicaStatusReport | undefined): boolean {
  return (
    before !== undefined &&
    now !== undefined &&
    before.pid === now.pid &&
    before.view === now.view &&
    now.committedIndex > before.committedIndex
  );
}

/** The exit code of a command that shows the cluster. "Nobody answers" is not "cannot commit". */
export function exitOf({ answered, available }: Pick<ClusterSummary, 'answered' | 'available'>): number {
  if (answered === 0) return Exit.unanswered;
  return available ? Exit.done : Exit.unavailable;
}

/** True if requests arrived at the primary between two answers and none committed: worth asking once more. */
export function seemsStalled(answers: readonly MemberAnswer[], previous: readonly MemberAnswer[]): boolean {
  return answers.some(
    ({ report }) => report?.primary === report?.id && hindrance(reportOf(previous, report?.id), report) !== undefined,
  );
}

/**
 * What prevented every commit in both intervals, as a remark. One interval says little: a request may have arrived just
 * before the answer.
 */
function stalledBetween(
  first: ReplicaStatusReport | undefined,
  second: ReplicaStatusReport | undefined,
  third: ReplicaStatusReport,
): string | undefined {
  const before = hindrance(first, second);
  const now = hindrance(second, third);
  return before === undefined || now === undefined ? undefined : `nothing commits: ${now}`;
}

/** Rejections that show that the cluster takes no requests, rather than that a client is wrong. */
const HINDERING = ['late', 'too-far-ahead', 'busy'];

function hindrance(before: ReplicaStatusReport | undefined, now: ReplicaStatusReport | undefined): string | undefined {
  if (
    before === undefined ||
    now === undefined ||
    before.pid !== now.pid ||
    before.view !== now.view ||
    now.committedIndex > before.committedIndex
  )
    return undefined;
  const [rejectedNow, rejectedBefore] = [rejectedByReason(now.counters), rejectedByReason(before.counters)];
  const reasons = HINDERING.filter((reason) => (rejectedNow[reason] ?? 0) > (rejectedBefore[reason] ?? 0));
  if (reasons.length > 0) return `the primary rejects every request (${reasons.join(', ')})`;
  return before.lastIndex > now.committedIndex
    ? `the primary has had entries up to ${before.lastIndex} and no more than ${now.committedIndex} are committed: a member does not have them, or does not hear from the primary`
    : undefined;
}

/** Replicas that differ where they must not: each pair once for each subject. */
function divergedRemarks(reports: readonly ReplicaStatusReport[]): string[] {
  const found = new Set<string>();
  for (const { id, diverged } of reports) {
    const pairs = (others: readonly number[] | undefined): string[] =>
      (others ?? []).map((other) => `replicas ${Math.min(id, other)} and ${Math.max(id, other)}`);
    for (const pair of pairs(diverged?.log))
      found.add(
        `log-diverged: ${pair} take different entries for committed; docs/operate/operations.md, "A replica that diverged"`,
      );
    for (const pair of pairs(diverged?.state))
      found.add(
        `state-diverged: ${pair} have different states behind the same log; docs/operate/operations.md, "A replica that diverged"`,
      );
    for (const pair of pairs(diverged?.limits))
      found.add(`limits-differ: ${pair} have different limits; give all replicas the same cluster file`);
  }
  return [...found].sort();
}

/** A log this far ahead of a clock deserves a remark; clients that use a lead cause less than this. */
const LOG_AHEAD_NS = 1e9;

/** Remarks about the replicas' clocks. */
export function clockRemarks(reports: readonly ReplicaStatusReport[]): string[] {
  return [...clocksApart(reports), ...logAheadRemarks(reports)];
}

/** What the primary of the newest view reports about all replicas' clocks. */
export function clocksApart(reports: readonly ReplicaStatusReport[]): string[] {
  const [newest] = reports.filter(({ replicaClocks }) => replicaClocks !== undefined).sort((a, b) => b.view - a.view);
  return newest === undefined || newest.replicaClocks!.says === '' ? [] : [newest.replicaClocks!.says];
}

/** A log that is ahead of clocks: of all clocks, because one was ahead once; or of some, which are behind. */
export function logAheadRemarks(reports: readonly ReplicaStatusReport[]): string[] {
  const ahead = reports.filter(({ logAheadNs }) => logAheadNs !== undefined && logAheadNs > LOG_AHEAD_NS);
  if (ahead.length === 0) return [];
  const most = formatLongDuration(Math.max(...ahead.map(({ logAheadNs }) => logAheadNs!)));
  const known = reports.filter(({ logAheadNs }) => logAheadNs !== undefined);
  if (ahead.length === known.length && known.length > 1)
    return [
      `the log is ${most} ahead of the replicas' clocks: a clock ran ahead once, or all of them are behind. Operations continue, and the log's time stands still until the clocks have caught up`,
    ];
  return [
    `the log is ${most} ahead of the clock of replica ${ahead.map(({ id }) => id).join(', ')}: set ${ahead.length === 1 ? 'that clock' : 'those clocks'} right, if it is behind (jitpaxos clock read on each host)`,
  ];
}

function ratesBetween(
  before: ReplicaStatusReport | undefined,
  now: ReplicaStatusReport | undefined,
): Rates | undefined {
  if (before === undefined || now === undefined || before.pid !== now.pid || before.incarnation !== now.incarnation)
    return undefined;
  const seconds = now.uptimeSeconds - before.uptimeSeconds;
  if (!(seconds > 0)) return undefined;
  const rate = (
    name: string,
    of: (report: ReplicaStatusReport) => Readonly<Record<string, number>> = (report) => report.counters,
  ): number => Math.max(0, (of(now)[name] ?? 0) - (of(before)[name] ?? 0)) / seconds;
  const transport = (report: ReplicaStatusReport): Readonly<Record<string, number>> => report.transport.counters;
  const byReason = (report: ReplicaStatusReport): Record<string, number> => rejectedByReason(report.counters);
  const rejected = Object.fromEntries(Object.keys(byReason(now)).map((reason) => [reason, rate(reason, byReason)]));
  const cpu = (report: ReplicaStatusReport): number => report.cpuSeconds.user + report.cpuSeconds.system;
  return {
    seconds,
    // A primary counts its commits. For other replicas, and those of an earlier version, the index shows how fast they
    // follow.
    commits:
      now.primary === now.id && before.primary === now.id && now.counters['entries_committed'] !== undefined
        ? rate('entries_committed')
        : Math.max(0, now.committedIndex - before.committedIndex) / seconds,
    requests: rate('requests'),
    rejected,
    reconciles: rate('reconciles'),
    datagramsIn: rate('datagrams_received', transport),
    datagramsOut: rate('datagrams_sent', transport),
    cpu: (cpu(now) - cpu(before)) / seconds,
  };
}

const REFRESH = 'jitpaxos member list --write FILE writes a cluster file with the addresses of the voters';

function remarksOn(replicas: readonly ReplicaSummary[], view: number | undefined): string[] {
  const remarks: string[] = [];
  const silent = replicas.filter(({ asked, role, report }) => asked && role !== 'removed' && report === undefined);
  if (silent.length > 0) {
    const who = silent.map(({ id, address }) => `${id} (${address})`).join(', ');
    remarks.push(
      `${silent.length === 1 ? `replica ${who} does` : `replicas ${who} do`} not answer: ${silent[0]!.silence ?? 'check that it runs, and that UDP reaches it'}`,
    );
  }
  const named = (rows: readonly ReplicaSummary[]): string =>
    rows.map(({ id, address }) => `${id} (${address})`).join(', ');
  const unasked = replicas.filter(({ asked }) => !asked);
  if (unasked.length > 0)
    remarks.push(
      `the cluster file lacks ${named(unasked)}, so nothing is known of ${unasked.length === 1 ? 'it' : 'them'} here: ${REFRESH}`,
    );
  // A learner is in no cluster file.
  const lacking = replicas.filter(({ inFile, asked, role }) => asked && !inFile && role !== 'learner');
  if (lacking.length > 0) remarks.push(`the cluster file lacks ${named(lacking)}: ${REFRESH}`);
  for (const { id, role, report, lag } of replicas) {
    if (report === undefined || role === 'removed') continue;
    if (report.status === 'starting')
      remarks.push(
        `replica ${id} found nothing on its disk and asks the others whether it is new: in a new cluster it waits until a majority of the replicas runs; in a cluster in use, until a majority of the others answers`,
      );
    if (report.status === 'recovering')
      remarks.push(`replica ${id} has no log yet and fetches one; do not restart another one meanwhile`);
    if (report.view !== view)
      remarks.push(
        `replica ${id} is in view ${viewText(report.view)}, the newest is ${viewText(view!)}: a view change is under way, or the replica is cut off`,
      );
    if (lag !== undefined && lag > LAG_REMARK) remarks.push(`replica ${id} is ${lag} entries behind the primary`);
  }
  const versions = new Set(replicas.flatMap(({ report }) => (report === undefined ? [] : [report.version])));
  if (versions.size > 1) remarks.push(`the replicas run different versions: ${[...versions].join(', ')}`);
  remarks.push(...wireRemarks(replicas), ...chainRemarks(replicas), ...twoLivesRemarks(replicas));
  return remarks;
}

/** What the replicas say of hosts as which two processes speak. */
export function twoLivesRemarks(replicas: readonly Pick<ReplicaSummary, 'report'>[]): string[] {
  const ids = new Set(replicas.flatMap(({ report }) => report?.twoLives ?? []));
  if (ids.size === 0) return [];
  const { found, next } = twoLivesText([...ids].sort((a, b) => a - b));
  return [`${found}; ${next}`];
}

/** Adds a first remark if the cluster file's chain is one that clients can forge. */
export function withChainRemark(
  summary: ClusterSummary,
  cluster: Pick<Cluster, 'authentication' | 'chain'>,
): ClusterSummary {
  const warning = chainWarning(cluster);
  return warning === undefined ? summary : { ...summary, remarks: [`${warning}; ${CHAIN_REMEDY}`, ...summary.remarks] };
}

/**
 * Empty if the logs of all that answered are chained alike, or if one does not say. Replicas that differ ignore each
 * other.
 */
export function chainRemarks(replicas: readonly Pick<ReplicaSummary, 'id' | 'report'>[]): string[] {
  const chains = new Map<string, number[]>();
  for (const { id, report } of replicas) {
    if (report?.chain === undefined) continue;
    const chain = `${report.chain.function}, fingerprint ${report.chain.fingerprint}`;
    chains.set(chain, [...(chains.get(chain) ?? []), id]);
  }
  if (chains.size < 2) return [];
  const found = [...chains].map(([chain, ids]) => `replica ${ids.join(', ')}: ${chain}`);
  return [
    `the logs are chained under different secrets (${found.join('; ')}), so these replicas ignore each other: give all the cluster file and the replica.keys of the majority`,
  ];
}

/** Empty if all that answered speak the same. */
export function wireRemarks(replicas: readonly Pick<ReplicaSummary, 'id' | 'report'>[]): string[] {
  const speakers = new Map<number, number[]>();
  for (const { id, report } of replicas)
    if (report !== undefined) speakers.set(spokenIn(report), [...(speakers.get(spokenIn(report)) ?? []), id]);
  if (speakers.size < 2) return [];
  const spoken = [...speakers]
    .sort(([a], [b]) => a - b)
    .map(([version, ids]) => `version ${version}: replica ${ids.join(', ')}`);
  return [
    `the newest wire versions spoken differ (${spoken.join('; ')}): normal during an upgrade; otherwise upgrade the others, or find out why they are held back`,
  ];
}
