/** Checks of the members: what the replicas say, what the cluster file has, and what a data directory knows. */
import { MembersClient } from '../../client/members-client.js';
import { addressText, type Cluster } from '../../host/cluster-config.js';
import type { ReplicaStatusReport } from '../../host/status.js';
import { loadHash } from '../../native/hash64.js';
import { EPOCH_VIEWS } from '../../protocol/configuration.js';
import { formatCount } from '../../console/units.js';
import { DirectoryFiles } from '../../storage/files.js';
import { decodeHardState, HARD_STATE_FILE, ownerOfHardState } from '../../storage/hard-state.js';
import { readMembers } from '../../storage/members-file.js';
import { WAITING_ID } from '../../wire/host-ids.js';
import { toHex } from '../../wire/u64.js';
import { roleOf, summarizeMembers, type MembersSummary } from '../members/agreement.js';
import { fail, ok, skip, splitMessage, warn, type Finding } from './finding.js';

const MEMBERS = 'members';
const IDENTITY = 'identity';
const EPOCH = 'epoch of directory';

/** Asks all replicas of the cluster file who the members are. */
export async function askMembers(
  file: string,
  timeoutMs: number,
  keys: { readonly keys?: string } = {},
): Promise<MembersSummary> {
  await using client = await MembersClient.open({ cluster: file, ...keys });
  const { cluster } = client;
  return summarizeMembers(cluster.id, cluster.replicas.map(addressText), await client.ask(timeoutMs));
}

/** What they said, compared with each other and with the cluster file. */
export function memberFindings({ answered, agreed, remarks, started, members }: MembersSummary): Finding[] {
  if (answered === 0) return [skip(MEMBERS, 'no replica says who the members are')];
  return [
    ...(agreed ? [ok(MEMBERS, `epoch ${started}, ${members.length} hosts, as a majority says`)] : []),
    ...remarks.map((remark) => warn(MEMBERS, remark, 'jitpaxos member list shows what each replica says')),
  ];
}

/** With fewer views left the epoch should have been renewed long ago: the primary does that with a quarter left. */
const FEW_VIEWS = EPOCH_VIEWS / 8;

/** An epoch has a number of views. Those of a cluster whose members cannot change go on beyond it. */
export function viewsLeft(
  reports: readonly Pick<ReplicaStatusReport, 'view' | 'features' | 'membership'>[],
): Finding[] {
  const [newest] = [...reports].sort((a, b) => b.view - a.view);
  if (newest?.membership === undefined || newest.features?.on.includes('membership') !== true) return [];
  const { viewsLeft: left } = newest.membership;
  const found = `${formatCount(left)} of ${formatCount(EPOCH_VIEWS)} view changes are left in the epoch`;
  return [
    left < FEW_VIEWS
      ? warn(
          'views',
          found,
          'the next epoch should have begun with a quarter left: see the log of the primary, and why views change so often: docs/operate/operations.md, "Alerts", JitPaxosViewChanges',
        )
      : ok('views', found),
  ];
}

/** What a data directory says of itself. */
export interface DirectoryIdentity {
  readonly cluster: string;
  /** WAITING_ID: it waits to be added. */
  readonly replica: number;
  readonly identity: string | undefined;
  /** The epoch that it knows to be in force; undefined: it knows only the cluster file. */
  readonly epoch: number | undefined;
}

/** Reads the promises of a directory, and its list of members. Changes nothing. */
export async function checkIdentity(
  directory: string,
  cluster: Pick<Cluster, 'id'> | undefined,
  seen: MembersSummary | undefined,
): Promise<Finding[]> {
  try {
    const known = await readIdentity(directory);
    if (known === undefined) return [skip(IDENTITY, `${directory} holds no promises of a replica yet`)];
    return identityFindings(known, cluster, seen);
  } catch (error) {
    const [found, advice] = splitMessage(error);
    return [fail(IDENTITY, found, advice)];
  }
}

async function readIdentity(directory: string): Promise<DirectoryIdentity | undefined> {
  const hash = loadHash();
  const files = new DirectoryFiles(directory);
  const bytes = await files.read(HARD_STATE_FILE);
  if (bytes === undefined) return undefined;
  const owner = ownerOfHardState(bytes, hash) ?? { clusterHi: 0, clusterLo: 0, replica: 0 };
  // Throws if no copy is intact, and so has no owner.
  const { identity } = decodeHardState(bytes, owner, hash, `${directory}/${HARD_STATE_FILE}`);
  const members = await readMembers(files, { owner, hash, directory });
  return {
    cluster: toHex(owner.clusterHi, owner.clusterLo),
    replica: owner.replica,
    identity,
    epoch: members?.started,
  };
}

/** @param seen undefined: the replicas were not asked */
export function identityFindings(
  { cluster: of, replica, identity, epoch }: DirectoryIdentity,
  cluster: Pick<Cluster, 'id'> | undefined,
  seen: MembersSummary | undefined,
): Finding[] {
  if (cluster !== undefined && cluster.id !== of)
    return [
      fail(
        IDENTITY,
        `the directory is of cluster ${of}, and the cluster file of cluster ${cluster.id}`,
        'give each replica its own data directory, and the cluster file that belongs to it',
      ),
    ];
  if (identity === undefined)
    return [skip(IDENTITY, `the directory of replica ${replica} has none yet: the next start draws one`)];
  const own = `${identity} of ${replica === WAITING_ID ? 'a host that waits to be added' : `replica ${replica}`}`;
  if (seen === undefined || !seen.agreed)
    return [ok(IDENTITY, own), skip(IDENTITY, 'no majority says who the members are, so it is not compared')];
  return [compared(own, identity, replica, seen), ...epochFindings(epoch, seen.started!)];
}

function compared(own: string, identity: string, replica: number, { members, started }: MembersSummary): Finding {
  const listed = members.find((member) => member.identity === identity);
  if (listed !== undefined) return ok(IDENTITY, `${own}, listed as host ${listed.id} (${roleOf(listed)})`);
  const holder = members.find(({ id }) => id === replica);
  if (holder !== undefined && holder.identity === undefined)
    return skip(IDENTITY, `${own}; that of host ${replica} is not known to the replicas that answered`);
  if (holder !== undefined)
    return fail(
      IDENTITY,
      `${own}, and the members list ${holder.identity} for host ${replica}: that is another directory`,
      'do not start a replica on this directory, unless it is the right one and the other was started by mistake',
    );
  return replica === WAITING_ID
    ? warn(IDENTITY, `${own}, and it is not listed`, 'add it: jitpaxos member add')
    : warn(
        IDENTITY,
        `${own}, which is not a member any more in epoch ${started}`,
        'stop the replica; the directory is not needed any more',
      );
}

function epochFindings(epoch: number | undefined, started: number): Finding[] {
  if (epoch === undefined || epoch === started) return [];
  return [
    epoch < started
      ? ok(EPOCH, `it knows epoch ${epoch}, and ${started} is in force: it hears of that when it runs`)
      : warn(
          EPOCH,
          `it knows epoch ${epoch}, and the replicas that answered know ${started}`,
          'start the replicas that do not answer: they know the newer members',
        ),
  ];
}
