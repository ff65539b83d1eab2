/**
 * `jitpaxos recover --accept-loss`: what is left of a cluster that lost a majority for good, as a backup for a new one.
 *
 * The rule: nothing is lost that need not be. While a majority of the replicas answers, or the directories that are whole
 * can go on as the old cluster without any loss, nothing is recovered. Otherwise the log is taken that a view
 * change would choose among those that are left: of the latest view, and of these the longest, with all its entries.
 * Each may have been committed, and leaving one out could lose an acknowledged operation; keeping one that was not
 * committed is what `outcome-unknown` tells a client anyway.
 *
 * What is written is a backup. So it never becomes the log of a replica of the old cluster: it can only be restored to a
 * new one, with another id (storage/backup.ts).
 */
import { existsSync } from 'node:fs';
import { basename, dirname, resolve } from 'node:path';
import { Inquiry, type InquiryOptions } from '../client/inquiry.js';
import { STATUS_QUESTION } from '../client/status-client.js';
import { JitPaxosError } from '../errors.js';
import { addressText, hostAndPortOf, loadCluster, type Cluster } from '../host/cluster-config.js';
import { loadKeys, type KeyFile } from '../host/key-file.js';
import { viewText } from '../host/membership-report.js';
import { EPOCH_VIEWS } from '../protocol/configuration.js';
import { KEY_FILE_NAMES, keyFileBeside } from '../host/keyring.js';
import { loadHash } from '../native/hash64.js';
import { featuresNamed } from '../protocol/log/features.js';
import { bootDigits, ownerOf } from '../server/storage-choice.js';
import { decodeBackup, encodeBackup } from '../storage/backup.js';
import { lockHolder } from '../storage/directory-lock.js';
import { DirectoryFiles } from '../storage/files.js';
import { writeWhole } from '../storage/write-whole.js';
import { findOwner } from '../storage/inspection.js';
import { readMembers } from '../storage/members-file.js';
import type { Member, MemberList } from '../wire/member-list.js';
import { newerFirst } from './members/agreement.js';
import { readLog, readPromised, setAsideIn, type Promised, type StoredLog } from '../storage/log-reader.js';
import { defineCommand, type Output } from '../console/command.js';
import { CliError, Exit } from '../console/exit.js';
import { checkWritable } from '../console/output-file.js';
import { CLUSTER_FLAG, KEY_FILE_FLAG } from '../console/settings.js';
import { table } from '../console/terminal.js';
import { sealingKey } from './backup.js';
import { checkDirectory, noDataDirectory } from './inspect.js';

/** A directory that is left. */
export interface Survivor {
  readonly directory: string;
  readonly replica: number;
  /** Undefined: it holds no log that can be used. */
  readonly log: StoredLog | undefined;
  /** Why there is none. */
  readonly why: string | undefined;
  /** Why a start would count the log as lost; empty if it is whole. */
  readonly doubts: readonly string[];
  /** The members that it knows; undefined: those of the cluster file. */
  readonly members?: MemberList | undefined;
  /** The highest view that it promised to take part in, as far as is known. */
  readonly promised?: number | undefined;
}

interface Usable extends Survivor {
  readonly log: StoredLog;
}

export const recover = defineCommand(
  {
    name: 'recover',
    summary:
      'After a majority of the replicas is lost for good: writes what the data directories that are left hold to a backup, from which a new cluster begins. Says what may be lost, and writes nothing without --accept-loss. The replicas of these directories have to be stopped.',
    positionals: ['DIR…'],
    flags: {
      'accept-loss': {
        kind: 'switch',
        help: 'committed operations may be missing from what is left; without this the command says which, and writes nothing',
      },
      out: { kind: 'text', value: 'FILE', help: 'the backup to write; an existing file is refused' },
      cluster: { ...CLUSTER_FLAG, help: 'the cluster file of the old cluster' },
      'replica-keys': {
        kind: 'text',
        value: 'FILE',
        standard: `${KEY_FILE_NAMES.replica} beside the cluster file`,
        help: "the replicas' key file of the old cluster, if that has keys: it seals the backup",
      },
      'key-file': {
        ...KEY_FILE_FLAG,
        standard: "a client's key of the replicas' key file",
        help: 'the key file to ask the replicas with, in a cluster with keys',
      },
      timeout: {
        kind: 'duration',
        default: '3s',
        min: 1e6,
        max: 3600e9,
        help: 'how long to wait for replicas that may still be there',
      },
    },
    examples: [
      'jitpaxos recover /var/lib/jitpaxos/0 --out rest.jpb',
      'jitpaxos recover copies/replica-0 copies/replica-3 --cluster old/cluster.json --out rest.jpb --accept-loss',
    ],
  },
  async ({ values, positionals }, output) => {
    const { out } = values;
    if (out === undefined) throw new CliError('flag-invalid', '--out is missing; give the file to write');
    for (const directory of positionals) checkDirectory(directory);
    checkWritable('out', out);
    if (existsSync(out)) throw new CliError('file-exists', `${out} exists already; choose another name with --out`);
    const cluster = loadCluster(values.cluster);
    const keys =
      cluster.authentication === 'keys'
        ? loadKeys(values['replica-keys'] ?? keyFileBeside(values.cluster, 'replica'), cluster.id, 'replica')
        : undefined;
    const survivors: Survivor[] = [];
    for (const directory of positionals) survivors.push(await read(directory, cluster));
    refuseTwice(survivors);
    const best = bestOf(survivors);
    if (best === undefined)
      throw new CliError(
        'backup-empty',
        `no directory holds a log: ${survivors.map(({ directory, why }) => `${directory}: ${why}`).join('; ')}. Begin a new cluster from a backup, if there is one`,
      );
    const known = newestMembers(survivors);
    const { ids, lists } = await ask(
      known,
      cluster,
      { cluster: values.cluster, ...clientKeys(keys, values['key-file']) },
      Math.ceil(values.timeout / 1e6),
    );
    const electorate = electorateIn([...lists, known], cluster);
    refuseMajority(ids, electorate);
    refuseNeedless(survivors, electorate);
    const statement = lossOf(best, survivors);
    if (!values['accept-loss']) {
      for (const line of linesOf(survivors, best, statement)) output.note(line);
      throw new CliError(
        'loss-not-accepted',
        `nothing was written: committed operations may be missing from ${best.directory}. If these are all directories that are left, add --accept-loss`,
      );
    }
    const hash = loadHash();
    const { replica, log } = best;
    const lastIndex = lastOf(log);
    if (lastIndex === 0)
      throw new CliError('backup-empty', `${best.directory} has no entry; begin a new cluster with jitpaxos init`);
    const owner = ownerOf(cluster, replica);
    const bytes = encodeBackup(
      { ...log, committed: lastIndex },
      owner,
      hash,
      keys === undefined ? undefined : sealingKey(keys),
      featuresNamed(cluster.features),
    );
    const { id } = decodeBackup(bytes, hash, out);
    await writeWhole(new DirectoryFiles(dirname(resolve(out))), basename(out), bytes);
    tell(
      output,
      values.cluster,
      {
        file: out,
        id,
        cluster: cluster.id,
        from: best.directory,
        replica,
        view: log.hardState.logView,
        lastIndex,
        knownCommitted: log.committed,
        committedElsewhere: committedIn(survivors),
        bytes: bytes.length,
        sealed: keys !== undefined,
        loss: statement,
        survivors: survivors.map(described),
      },
      [
        ...linesOf(survivors, best, statement),
        `wrote ${out}: backup ${id}, entries 1 to ${lastIndex} of cluster ${cluster.id}, ${bytes.length} bytes`,
      ],
    );
    return Exit.done;
  },
);

/** Reads a directory as it is, however its log ends. Throws CliError `argument-invalid` and the errors of the files. */
async function read(directory: string, cluster: Cluster): Promise<Survivor> {
  const holder = lockHolder(directory);
  if (holder !== undefined)
    throw new JitPaxosError(
      'data-directory-locked',
      `${directory} is in use by process ${holder}; stop that replica first`,
    );
  const files = new DirectoryFiles(directory);
  const hash = loadHash();
  const found = await findOwner(files, hash);
  if (found === undefined) throw noDataDirectory(directory, 'it holds no intact file of a replica');
  const doubts: string[] = [];
  const of = {
    owner: { clusterHi: cluster.idHi, clusterLo: cluster.idLo, replica: found.replica },
    hash,
    bootId: bootDigits(),
    directory,
    salvage: (doubt: string) => void doubts.push(doubt),
  };
  let promised: Promised;
  try {
    promised = await readPromised(files, of);
  } catch (error) {
    if (!(error instanceof JitPaxosError) || error.code !== 'hard-state-corrupt') throw error;
    doubts.push('its promises are damaged');
  }
  if (promised === undefined && doubts.length === 0) doubts.push('its promises are missing');
  const stored = await readLog(files, of, promised);
  const aside = stored.log === undefined ? await readLog(setAsideIn(files), of, promised) : undefined;
  if (aside?.log !== undefined) doubts.push('the replica was started again, and set it aside');
  const log = stored.log ?? aside?.log;
  const { lost } = stored;
  const listed = await readMembers(files, of).catch((error: unknown) => {
    if (!(error instanceof JitPaxosError) || error.code !== 'members-corrupt') throw error;
    doubts.push('its list of members is damaged');
    return 'damaged' as const;
  });
  const members = listed === 'damaged' ? undefined : listed;
  // Rule C2 (storage/members-file.ts): a start refuses promises beside older members.
  if (listed !== 'damaged' && (members?.index ?? 0) < (promised?.membersIndex ?? 0))
    doubts.push(`its list of members is ${members === undefined ? 'missing' : 'older than its promises'}`);
  if (members !== undefined && members.index > 0 && members.hosts.every(({ id }) => id !== found.replica))
    doubts.push(`host ${found.replica} was removed, and epoch ${members.started} began without it`);
  return {
    members: members !== undefined && members.index > 0 ? members : undefined,
    directory,
    replica: found.replica,
    log,
    why: log === undefined ? (lost ?? 'it never had a log (durability memory), or was never started') : undefined,
    doubts,
    promised: Math.max(promised?.state.view ?? -1, log?.hardState.view ?? -1),
  };
}

/** Throws CliError `argument-invalid`: the copies of one directory are no two survivors. */
function refuseTwice(survivors: readonly Survivor[]): void {
  survivors.forEach(({ replica, directory }, at) => {
    const other = survivors.slice(0, at).find((each) => each.replica === replica);
    if (other === undefined) return;
    throw new CliError(
      'argument-invalid',
      `${other.directory} and ${directory} both belong to replica ${replica}; name one of them: the one that was used last`,
    );
  });
}

/** The log that a view change would choose, of the latest view, and of these the longest; undefined if there is none. */
export function bestOf(survivors: readonly Survivor[]): Usable | undefined {
  const usable = survivors.filter((each): each is Usable => each.log !== undefined);
  return usable.sort(
    (a, b) =>
      b.log.hardState.logView - a.log.hardState.logView || lastOf(b.log) - lastOf(a.log) || a.replica - b.replica,
  )[0];
}

function lastOf({ snapshot, entries }: StoredLog): number {
  return (snapshot?.index ?? 0) + entries.length;
}

/** The highest entry that any directory knows to be committed. */
function committedIn(survivors: readonly Survivor[]): number {
  return Math.max(0, ...survivors.map(({ log }) => log?.committed ?? 0));
}

type ListInForce = Pick<MemberList, 'started' | 'decided' | 'index'> & {
  readonly hosts: readonly Omit<Member, 'identity' | 'slot'>[];
};

/** Lists that name ever other hosts are not followed further. */
const ROUNDS_MAX = 4;

/** Undefined: those of the cluster file. */
function newestMembers(survivors: readonly Survivor[]): MemberList | undefined {
  return survivors.flatMap(({ members }) => members ?? []).sort(newerFirst)[0];
}

/** Who votes: in the epoch in force, and in the one that is decided to follow. */
export interface Electorate {
  readonly started: number;
  readonly voters: readonly number[];
  /** Undefined if no change is open. */
  readonly next: { readonly epoch: number; readonly voters: readonly number[] } | undefined;
}

/** That of the newest list; without a list the replicas of the cluster file. */
function electorateIn(lists: readonly (ListInForce | undefined)[], cluster: Cluster): Electorate {
  const [newest] = lists.flatMap((list) => list ?? []).sort(newerFirst);
  if (newest === undefined) return { started: 0, voters: cluster.replicas.map((_, id) => id), next: undefined };
  const idsOf = (hosts: ListInForce['hosts']): number[] => hosts.map(({ id }) => id);
  const { hosts, started, decided } = newest;
  return {
    started,
    voters: idsOf(hosts.filter(({ votes }) => votes)),
    next: decided > started ? { epoch: decided, voters: idsOf(hosts.filter(({ willVote }) => willVote)) } : undefined,
  };
}

/** A key of a client asks; the replicas' own may not. */
function clientKeys(keys: KeyFile | undefined, given: string | undefined): { readonly keys?: string | KeyFile } {
  const key = keys?.keys.find(({ role }) => role !== 'replica');
  if (keys !== undefined && given === undefined && key === undefined)
    throw new CliError(
      'flag-invalid',
      "the replicas' key file has no client's key to ask the replicas with; give a client's key file with --key-file",
    );
  if (given !== undefined) return { keys: given };
  return keys === undefined ? {} : { keys: { schema: keys.schema, cluster: keys.cluster, use: key!.id, keys: [key!] } };
}

/**
 * Which hosts answer, and the lists of members that they know. Asked are those that a directory lists, the replicas of
 * the cluster file, and those that these list.
 */
async function ask(
  known: MemberList | undefined,
  { replicas }: Cluster,
  options: InquiryOptions,
  timeoutMs: number,
): Promise<{ readonly ids: readonly number[]; readonly lists: readonly ListInForce[] }> {
  const asked = new Set<string>();
  const ids = new Set<number>();
  const lists: ListInForce[] = [];
  let next = [...(known?.hosts ?? []), ...replicas.map((at, id) => ({ id, address: addressText(at) }))];
  for (let round = 0; next.length > 0 && round < ROUNDS_MAX; round++) {
    // One inquiry has one address for an id.
    const rest: typeof next = [];
    const now = next.filter((host, at) => {
      const isFirst = next.findIndex(({ id }) => id === host.id) === at;
      if (!isFirst) rest.push(host);
      return isFirst;
    });
    for (const { id, address } of now) asked.add(`${id} ${address}`);
    const hosts = now.flatMap(({ id, address }) => {
      const at = hostAndPortOf(address);
      return at === undefined ? [] : [{ id, at }];
    });
    await using inquiry = await Inquiry.open('jitpaxos recover', options, STATUS_QUESTION, hosts).catch(
      (error: unknown) => {
        if (round > 0 && error instanceof JitPaxosError && error.code === 'host-unresolved') return undefined;
        throw error;
      },
    );
    for (const { id, answer } of (await inquiry?.ask(timeoutMs)) ?? []) {
      if (answer === undefined) continue;
      ids.add(id);
      const { membership } = answer;
      if (membership !== undefined && membership.index > 0) lists.push({ ...membership, started: membership.epoch });
    }
    next = [...rest, ...lists.flatMap(({ hosts }) => hosts)].filter(
      ({ id, address }) => !asked.has(`${id} ${address}`),
    );
  }
  return { ids: [...ids], lists };
}

/** Throws CliError `cluster-running`: a majority of the voters of either epoch answers, and may serve. */
function refuseMajority(ids: readonly number[], { voters, next }: Electorate): void {
  const majorities = [voters, ...(next === undefined ? [] : [next.voters])].filter((each) =>
    isMajority(each, (id) => ids.includes(id)),
  );
  const [of] = majorities;
  if (of === undefined) return;
  const there = `replicas ${of.filter((id) => ids.includes(id)).join(', ')} answer, which is a majority of ${of.length}`;
  throw new CliError(
    'cluster-running',
    next !== undefined && majorities.length === 1
      ? `${there}, and epoch ${next.epoch} is decided, where voters ${next.voters.join(', ')} follow ${voters.join(', ')}: jitpaxos status says whether they serve. If they do not, and no other host can come back, stop all replicas first`
      : `${there}: nothing needs to be given up. Run jitpaxos status; a replica that is lost can come back (docs/operate/recovery.md). If status says majority-lost, stop all replicas first`,
  );
}

/** Throws CliError `recovery-needless`: replicas on these directories can go on, and lose nothing. */
function refuseNeedless(survivors: readonly Survivor[], electorate: Electorate): void {
  const enough = enoughOf(survivors, electorate);
  if (enough === undefined) return;
  throw new CliError(
    'recovery-needless',
    `the directories of replicas ${enough.ids.join(', ')} are whole, which is a majority of ${enough.of}: start these replicas, at new addresses if need be, and nothing is lost (docs/operate/recovery.md)`,
  );
}

/**
 * The voters on whose whole directories the cluster can go on, and of how many; undefined if it cannot.
 *
 * While a change is open (rules C3 and C5): who promised a view of the decided epoch E takes part in no view of the
 * epoch before. A view of E needs a majority of its voters, and a majority of those before unless one of them has a log
 * of E.
 */
export function enoughOf(
  survivors: readonly Survivor[],
  { voters, next }: Electorate,
): { readonly ids: readonly number[]; readonly of: number } | undefined {
  const whole = survivors.filter((each): each is Usable => each.log !== undefined && each.doubts.length === 0);
  const isWhole = (id: number): boolean => whole.some(({ replica }) => replica === id);
  const before = isMajority(voters, isWhole) ? { ids: voters.filter(isWhole), of: voters.length } : undefined;
  if (next === undefined) return before;
  const first = next.epoch * EPOCH_VIEWS;
  if (before !== undefined && survivors.every(({ promised = -1 }) => promised < first)) return before;
  if (!isMajority(next.voters, isWhole)) return undefined;
  const both = [...voters, ...next.voters];
  const hasBegun = whole.some(({ replica, log }) => both.includes(replica) && log.hardState.logView >= first);
  if (!hasBegun && before === undefined) return undefined;
  const ids = hasBegun ? next.voters : [...new Set(both)].sort((a, b) => a - b);
  return { ids: ids.filter(isWhole), of: next.voters.length };
}

function isMajority(ids: readonly number[], isThere: (id: number) => boolean): boolean {
  return 2 * ids.filter(isThere).length > ids.length;
}

/** What is kept, and what may be lost: one sentence each. */
export function lossOf(best: Usable, survivors: readonly Survivor[]): string[] {
  const { log, replica, doubts } = best;
  const last = lastOf(log);
  const elsewhere = committedIn(survivors);
  return [
    `Entries 1 to ${last} are kept: the log of replica ${replica}, of view ${viewText(log.hardState.logView)}.`,
    `Entry ${log.committed} is the last one that this directory knows to be committed.`,
    ...(last > log.committed
      ? [
          `Entries ${log.committed + 1} to ${last} are kept too. Each of them may have been acknowledged, or not; its client may have been told "outcome unknown".`,
        ]
      : []),
    ...(elsewhere > last
      ? [`Entries ${last + 1} to ${elsewhere} were committed, as another directory knows, and are LOST.`]
      : []),
    `Every operation that was acknowledged behind entry ${Math.max(last, elsewhere)}, or in a later view, is LOST. Nothing that is left tells whether there was any.`,
    ...doubts.map((doubt) => `The log may lack its end: ${doubt}.`),
  ];
}

function described({ directory, replica, log, why, doubts }: Survivor) {
  return {
    directory,
    replica,
    view: log?.hardState.logView ?? null,
    lastIndex: log === undefined ? null : lastOf(log),
    committed: log?.committed ?? null,
    why: why ?? null,
    doubts,
  };
}

function linesOf(survivors: readonly Survivor[], best: Survivor, statement: readonly string[]): string[] {
  return [
    ...table([
      ['', 'replica', 'directory', 'view', 'last', 'committed', 'its log'],
      ...survivors.map((survivor) => {
        const { directory, replica, view, lastIndex, committed, why, doubts } = described(survivor);
        return [
          survivor === best ? '→' : '',
          String(replica),
          directory,
          view === null ? '–' : viewText(view),
          String(lastIndex ?? '–'),
          String(committed ?? '–'),
          why ?? (doubts.length === 0 ? 'is whole' : 'may lack its end'),
        ];
      }),
    ]),
    '',
    ...statement,
  ];
}

function tell(
  output: Output,
  clusterFile: string,
  object: Readonly<Record<string, unknown>> & { readonly file: string },
  lines: readonly string[],
): void {
  if (output.json) output.line(JSON.stringify({ schema: 'jitpaxos.recover/1', ...object }));
  else for (const line of lines) output.line(line);
  output.note(
    `next: jitpaxos init --replicas … --restore ${object.file} --backup-keys ${keyFileBeside(clusterFile, 'replica')} --out new.json, then jitpaxos restore on every host. Never start a replica of the old cluster again`,
  );
}
