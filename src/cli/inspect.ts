/**
 * `jitpaxos inspect`: shows the content of a data directory, read-only, whether or not the replica is running; with
 * --datagram, one captured datagram.
 */
import { existsSync, readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { loadHash } from '../native/hash64.js';
import { showFingerprint } from '../host/chain.js';
import { loadCluster } from '../host/cluster-config.js';
import { loadKeys } from '../host/key-file.js';
import { keyFileBeside } from '../host/keyring.js';
import { viewText } from '../host/membership-report.js';
import { inLine } from '../host/printable.js';
import { bootDigits } from '../server/storage-choice.js';
import { DirectoryFiles } from '../storage/files.js';
import {
  inspect as inspectDirectory,
  isReadByInspection,
  type FrameInspection,
  type Inspection,
} from '../storage/inspection.js';
import { defineCommand, type Output } from '../console/command.js';
import { CliError, Exit } from '../console/exit.js';
import { Colour, paint, table } from '../console/terminal.js';
import { roleOf } from './members/agreement.js';
import { datagramLines, describeDatagram, readDatagram } from './datagram.js';

const DEFAULT_CLUSTER = 'cluster.json';

export const inspect = defineCommand(
  {
    name: 'inspect',
    summary:
      "Shows what is in a replica's data directory: promises, log, segments, snapshots, and damage by file and offset. Changes nothing; the replica may be running. With --datagram, shows one captured datagram: its envelope, whether it is intact, its messages. Exit code 1 if something is damaged, or a datagram is not intact.",
    positionals: ['[DIR]'],
    flags: {
      frames: { kind: 'switch', help: 'list every frame of the log' },
      'max-bytes': {
        kind: 'bytes',
        default: '1GiB',
        help: 'how much is read into memory at most: a directory that holds more is refused',
      },
      datagram: {
        kind: 'text',
        value: 'HEX|FILE',
        help: 'the payload of a UDP datagram, as hexadecimal digits or in a file, in place of DIR',
      },
      cluster: {
        kind: 'text',
        value: 'FILE',
        help: `the cluster file, for --datagram (default ${DEFAULT_CLUSTER} if it exists)`,
      },
      keys: {
        kind: 'text',
        value: 'FILE',
        help: 'a key file with the key of the datagram (default replica.keys or client.keys beside the cluster file)',
      },
    },
    examples: [
      'jitpaxos inspect .jitpaxos/replica-0',
      'jitpaxos inspect /var/lib/jitpaxos --frames --json',
      'jitpaxos inspect --datagram captured.bin --keys replica.keys',
    ],
  },
  async ({ values, positionals }, output) => {
    const [directory] = positionals;
    if ((directory === undefined) === (values.datagram === undefined))
      throw new CliError('argument-invalid', 'give either a data directory or --datagram');
    if (directory === undefined) return inspectDatagram(values.datagram!, values.cluster, values.keys, output);
    checkDirectory(directory);
    checkSize(directory, values['max-bytes']);
    const inspection = await inspectDirectory(new DirectoryFiles(directory), {
      hash: loadHash(),
      bootId: bootDigits(),
      directory,
    });
    if (inspection === undefined) throw noDataDirectory(directory, 'it holds no file of a replica');
    if (output.json)
      output.line(
        JSON.stringify({
          schema: 'jitpaxos.inspect/1',
          directory,
          ...inspection,
          chain: inspection.chain && {
            ...inspection.chain,
            fingerprint: showFingerprint(inspection.chain.fingerprint),
          },
          segments: inspection.segments.map(({ frames, ...segment }) => ({
            ...segment,
            ...(values.frames ? { frames } : { frames: frames.length }),
          })),
          members: inspection.members && {
            ...inspection.members,
            hosts: inspection.members.hosts.map((host) => ({ ...host, identity: host.identity ?? null })),
          },
        }),
      );
    else for (const line of linesOf(inspection, values.frames, output.colours)) output.line(line);
    return inspection.damage.length === 0 ? Exit.done : Exit.failed;
  },
);

function inspectDatagram(
  given: string,
  clusterFile: string | undefined,
  keyFile: string | undefined,
  output: Output,
): number {
  const datagram = readDatagram(given);
  const file = clusterFile ?? (existsSync(DEFAULT_CLUSTER) ? DEFAULT_CLUSTER : undefined);
  if (file === undefined && keyFile !== undefined)
    throw new CliError('flag-invalid', '--keys needs the cluster file that the keys belong to; give it with --cluster');
  const cluster = file === undefined ? undefined : loadCluster(file);
  const source =
    keyFile ??
    (file === undefined ? [] : (['replica', 'client'] as const).map((kind) => keyFileBeside(file, kind))).find((path) =>
      existsSync(path),
    );
  const isKeyed = cluster?.authentication === 'keys';
  const found = describeDatagram(datagram, {
    hash: loadHash(),
    ...(cluster === undefined ? {} : { cluster }),
    ...(source === undefined || !isKeyed ? {} : { keys: loadKeys(source, cluster.id, undefined) }),
  });
  if (output.json) output.line(JSON.stringify({ schema: 'jitpaxos.datagram/1', ...found }));
  else for (const line of datagramLines(found, datagram)) output.line(line);
  return found.verdict === 'intact' ? Exit.done : Exit.failed;
}

/** Throws CliError `argument-invalid` if there is no such directory. */
export function checkDirectory(directory: string): void {
  if (statSync(directory, { throwIfNoEntry: false })?.isDirectory() !== true)
    throw noDataDirectory(directory, 'there is no such directory');
}

/**
 * A directory from elsewhere may hold sparse files of any length, and the log is read as a whole. Throws CliError
 * `argument-invalid`.
 */
function checkSize(directory: string, bytesMax: number): void {
  let bytes = 0;
  for (const name of readdirSync(directory))
    if (isReadByInspection(name)) bytes += statSync(join(directory, name), { throwIfNoEntry: false })?.size ?? 0;
  if (bytes > bytesMax)
    throw new CliError(
      'argument-invalid',
      `the replica's files in ${directory} have ${bytes} bytes, and at most ${bytesMax} are read into memory; if that much is there, add --max-bytes ${Math.ceil(bytes / 2 ** 30)}GiB`,
    );
}

export function noDataDirectory(directory: string, why: string): CliError {
  return new CliError(
    'argument-invalid',
    `${directory} is not a data directory: ${why}; give the directory that the replica's --data names`,
  );
}

function linesOf(found: Inspection, frames: boolean, colours: boolean): string[] {
  const { hardState, log, segments, snapshots, damage, torn, others } = found;
  const dim = (text: string): string => paint(colours, Colour.dim, text);
  // The directory does not tell which durability it was used with, and a log in memory is of no view on the disk.
  const hasNoLog = segments.length === 0 && log.found !== 'whole' && damage.length === 0;
  const logView = hardState === null || hardState.logView < 0 ? '– (lost)' : viewText(hardState.logView);
  const lines = table([
    [
      dim('replica'),
      `${found.replica} of cluster ${found.cluster}${found.lockedBy === null ? '' : `, running: process ${found.lockedBy}`}`,
    ],
    [dim('identity'), found.identity ?? 'none yet: the next start of this version draws one'],
    [
      dim('promises'),
      hardState === null
        ? 'none'
        : `view ${viewText(hardState.view)}${hasNoLog ? '' : `, log of view ${logView}`}, incarnation ${hardState.incarnation}`,
    ],
    [
      dim('log'),
      log.found === 'whole'
        ? `entries ${log.baseIndex! + 1} to ${log.lastIndex}, ${log.entryBytes} bytes, committed up to ${log.committed}${log.clean === true ? ', ends with a clean stop' : ''}`
        : hasNoLog
          ? 'none in the directory: durability memory keeps it in memory, and one of os or fsync would be lost'
          : log.found === 'lost'
            ? `lost: ${log.why}`
            : 'none',
    ],
    ...(found.chain === null
      ? []
      : [
          [
            dim('chain'),
            found.chain.keyed
              ? `keyed; its secret has the fingerprint ${showFingerprint(found.chain.fingerprint)}`
              : 'without a secret',
          ],
        ]),
  ]);
  if (found.members !== null) {
    const { started, decided, hosts } = found.members;
    lines.push(
      '',
      `members of epoch ${started}${decided === started ? '' : `; epoch ${decided} is decided, and not in force yet`}`,
      ...table([
        ['member', 'address', 'role', 'identity'].map(dim),
        ...hosts.map((host) => [String(host.id), inLine(host.address), roleOf(host), host.identity ?? 'unknown']),
      ]),
    );
  }
  if (torn !== null)
    lines.push(
      `a write ${found.lockedBy === null ? 'was cut off' : 'is under way'} at byte ${torn.offset} of ${torn.file}: it was not acknowledged`,
    );
  if (segments.length > 0) {
    const rows = segments.map(({ name, bytes, usedBytes, mode, frames: { length } }) => [
      name,
      mode ?? '–',
      String(length),
      String(usedBytes),
      String(bytes),
    ]);
    lines.push('', ...table([['segment', 'mode', 'frames', 'used', 'bytes'].map(dim), ...rows], new Set([2, 3, 4])));
  }
  if (snapshots.length > 0)
    lines.push(
      '',
      ...table(
        [
          ['snapshot', 'index', 'bytes'].map(dim),
          ...snapshots.map(({ name, index, bytes }) => [
            name,
            index === null ? 'damaged' : String(index),
            String(bytes),
          ]),
        ],
        new Set([1, 2]),
      ),
    );
  if (frames)
    for (const segment of segments)
      lines.push(
        '',
        `${dim('frames of')} ${segment.name}`,
        ...table(
          [
            ['offset', 'sequence', 'entries', 'base', 'committed', 'view', 'bytes', ''].map(dim),
            ...segment.frames.map(frameRow),
          ],
          new Set([0, 1, 3, 4, 5, 6]),
        ),
      );
  if (others.length > 0)
    lines.push('', ...table([['other files', ''].map(dim), ...others.map(({ name, what }) => [inLine(name), what])]));
  for (const { file, offset, what } of damage)
    lines.push('', paint(colours, Colour.red, `damaged: ${inLine(file)} at byte ${offset}: ${inLine(what)}`));
  return lines;
}

function frameRow(frame: FrameInspection): string[] {
  const { offset, sequence, from, to, baseIndex, committed, view, bytes, reset, clean } = frame;
  const entries = to < from ? `none from ${from}` : from === to ? String(from) : `${from} to ${to}`;
  return [
    String(offset),
    String(sequence),
    entries,
    String(baseIndex),
    String(committed),
    viewText(view),
    String(bytes),
    reset ? 'whole log' : clean ? 'clean stop' : '',
  ];
}
