/** `jitpaxos inspect`: shows the content of a data directory, read-only, whether or not the replica is running. */
import { statSync } from 'node:fs';
import { loadHash } from '../native/hash64.js';
import { showFingerprint } from '../host/chain.js';
import { bootDigits } from '../server/storage-choice.js';
import { DirectoryFiles } from '../storage/files.js';
import { inspect as inspectDirectory, type FrameInspection, type Inspection } from '../storage/inspection.js';
import { defineCommand } from '../console/command.js';
import { CliError, Exit } from '../console/exit.js';
import { Colour, paint, table } from '../console/terminal.js';

export const inspect = defineCommand(
  {
    name: 'inspect',
    summary:
      "Shows what is in a replica's data directory: promises, log, segments, snapshots, and damage by file and offset. Changes nothing; the replica may be running. Exit code 1 if something is damaged.",
    positionals: ['DIR'],
    flags: { frames: { kind: 'switch', help: 'list every frame of the log' } },
    examples: ['jitpaxos inspect .jitpaxos/replica-0', 'jitpaxos inspect /var/lib/jitpaxos --frames --json'],
  },
  async ({ values, positionals }, output) => {
    const [directory] = positionals as [string];
    checkDirectory(directory);
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
        }),
      );
    else for (const line of linesOf(inspection, values.frames, output.colours)) output.line(line);
    return inspection.damage.length === 0 ? Exit.done : Exit.failed;
  },
);

/** Throws CliError `argument-invalid` if there is no such directory. */
export function checkDirectory(directory: string): void {
  if (statSync(directory, { throwIfNoEntry: false })?.isDirectory() !== true)
    throw noDataDirectory(directory, 'there is no such directory');
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
  const lines = table([
    [
      dim('replica'),
      `${found.replica} of cluster ${found.cluster}${found.lockedBy === null ? '' : `, running: process ${found.lockedBy}`}`,
    ],
    [
      dim('promises'),
      hardState === null
        ? 'none'
        : `view ${hardState.view}, log of view ${hardState.logView < 0 ? '– (lost)' : hardState.logView}, incarnation ${hardState.incarnation}`,
    ],
    [
      dim('log'),
      log.found === 'whole'
        ? `entries ${log.baseIndex! + 1} to ${log.lastIndex}, ${log.entryBytes} bytes, committed up to ${log.committed}${log.clean === true ? ', ends with a clean stop' : ''}`
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
    lines.push('', ...table([['other files', ''].map(dim), ...others.map(({ name, what }) => [name, what])]));
  for (const { file, offset, what } of damage)
    lines.push('', paint(colours, Colour.red, `damaged: ${file} at byte ${offset}: ${what}`));
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
    String(view),
    String(bytes),
    reset ? 'whole log' : clean ? 'clean stop' : '',
  ];
}
