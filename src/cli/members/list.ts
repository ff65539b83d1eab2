/** `jitpaxos member list`: who the members of a cluster are, according to each replica; and a cluster file with their addresses. */
import { existsSync, realpathSync, statSync } from 'node:fs';
import { addressText, loadCluster, type Cluster, type ClusterConfig } from '../../host/cluster-config.js';
import { defineCommand } from '../../console/command.js';
import { CliError } from '../../console/exit.js';
import { writeTogether } from '../../console/output-file.js';
import { CLUSTER_FLAG, KEY_FILE_FLAG, keysOf } from '../../console/settings.js';
import { Colour, paint, table } from '../../console/terminal.js';
import { warnWithoutKeys } from '../../console/without-keys.js';
import { readRegularText } from '../../storage/regular-file.js';
import { viewText } from '../../host/membership-report.js';
import { askAllMembers } from './all-lists.js';
import {
  exitOfMembers,
  roleOf,
  summarizeMembers,
  type MembersSummary,
  type ReplicaSays,
  type Says,
} from './agreement.js';

export const list = defineCommand(
  {
    name: 'member list',
    summary:
      'Shows who the members of the cluster are, according to each replica. Exit code 3 if replicas disagree, or fewer than a majority say the same; 4 if no replica answers, so that nothing is known.',
    positionals: [],
    flags: {
      cluster: CLUSTER_FLAG,
      'key-file': { ...KEY_FILE_FLAG, alias: 'keys' },
      timeout: {
        kind: 'duration',
        default: '1s',
        min: 1e6,
        max: 3600e9,
        help: 'how long to wait for a replica that does not answer',
      },
      write: {
        kind: 'text',
        value: 'FILE',
        help: 'write the cluster file with the addresses of the voters to FILE, if a majority agrees. An existing file of the same cluster is replaced',
      },
    },
    examples: [
      'jitpaxos member list',
      'jitpaxos member list --json | jq .agreed',
      'jitpaxos member list --write cluster.json',
    ],
  },
  async ({ values }, output) => {
    if (values.write !== undefined) checkTarget(values.write, loadCluster(values.cluster));
    const { cluster, answers } = await askAllMembers(
      { cluster: values.cluster, ...keysOf(values) },
      Math.ceil(values.timeout / 1e6),
    );
    warnWithoutKeys(output, cluster);
    const summary = summarizeMembers(cluster.id, cluster.replicas.map(addressText), answers);
    if (output.json) output.line(JSON.stringify({ schema: 'jitpaxos.member-list/1', ...summary }, unknownAsNull));
    else for (const line of linesOf(summary, output.colours)) output.line(line);
    if (values.write !== undefined) {
      writeFile(values.write, values.cluster, summary);
      output.note(`wrote ${values.write}: the addresses of the voters of epoch ${summary.started}`);
    }
    return exitOfMembers(summary);
  },
);

/** An identity that is not known is null: a key that is missing could be overlooked. */
function unknownAsNull(_key: string, value: unknown): unknown {
  return value === undefined ? null : value;
}

/** Throws CliError `flag-invalid`, or the errors of `loadCluster` for a file that is no cluster file. */
function checkTarget(path: string, { id }: Cluster): void {
  if (!existsSync(path)) return;
  const there = loadCluster(path);
  if (there.id !== id)
    throw new CliError(
      'flag-invalid',
      `--write ${path} is the file of cluster ${there.id}, and the members are those of cluster ${id}; give another path`,
    );
}

/** Throws CliError `members-unknown`, `output-unwritable`, or JitPaxosError `cluster-file-invalid`. */
function writeFile(path: string, from: string, summary: MembersSummary): void {
  if (!summary.agreed)
    throw new CliError(
      'members-unknown',
      `${path} was not written, because no majority of the voters agrees who they are; start the replicas that do not answer, or see what the others say, and run this again`,
    );
  const config = {
    ...(JSON.parse(readRegularText(from)) as ClusterConfig),
    replicas: summary.members.filter(({ votes }) => votes).map(({ address }) => address),
  };
  loadCluster(config); // a file that no process would take is not written
  const isThere = existsSync(path);
  // A link stays, and leads to the changed file.
  const target = isThere ? realpathSync(path) : path;
  const file = {
    path: target,
    content: `${JSON.stringify(config, null, 2)}\n`,
    ...(isThere ? { owner: statSync(target), mode: statSync(target).mode & 0o777 } : {}),
  };
  writeTogether([file], true);
}

const SAYS_TEXT: Readonly<Record<Says, string>> = {
  same: 'the same',
  other: 'another list',
  behind: 'behind',
  unknown: 'unknown: no answer',
};

function linesOf(summary: MembersSummary, colours: boolean): string[] {
  const { cluster, started, decided, members, replicas, answered, agreed, remarks } = summary;
  const tone = (colour: Colour, text: string): string => paint(colours, colour, text);
  const dim = (text: string): string => tone(Colour.dim, text);
  const lines = [
    [
      `cluster ${cluster}`,
      ...(started === null ? [] : [started === decided ? `epoch ${started}` : `epoch ${started}, ${decided} decided`]),
      agreed
        ? tone(Colour.green, 'agreed')
        : answered === 0
          ? tone(Colour.yellow, 'unknown')
          : tone(Colour.red, 'not agreed'),
      `${answered} of ${replicas.length} replicas answer`,
    ].join('   '),
  ];
  if (members.length > 0)
    lines.push(
      '',
      ...table([
        ['member', 'address', 'role', 'identity'].map(dim),
        ...members.map((member) => [
          String(member.id),
          member.address,
          roleOf(member),
          member.identity ?? tone(Colour.yellow, 'unknown'),
        ]),
      ]),
    );
  lines.push(
    '',
    ...table([
      ['replica', 'asked at', 'says', 'epoch', 'view'].map(dim),
      ...replicas.map((replica) => rowOf(replica, tone)),
    ]),
    ...(remarks.length === 0 ? [] : ['', ...remarks.map((remark) => `${tone(Colour.yellow, '!')} ${remark}`)]),
  );
  return lines;
}

function rowOf(
  { id, address, says, view, started, decided }: ReplicaSays,
  tone: (colour: Colour, text: string) => string,
): string[] {
  const isGood = says === 'same';
  const colour = isGood ? Colour.green : says === 'behind' ? Colour.yellow : Colour.red;
  return [
    `${tone(colour, says === 'unknown' ? '✗' : '●')} ${id}`,
    address,
    isGood ? SAYS_TEXT[says] : tone(colour, SAYS_TEXT[says]),
    started === null ? '–' : started === decided ? String(started) : `${started}, ${decided} decided`,
    view === null ? '–' : viewText(view),
  ];
}
