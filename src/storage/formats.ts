/**
 * The versions of the formats on disk. The rule: a release can read a format one release before it writes it. So the
 * previous release can read what it writes, and going back one release always works
 * (docs/internals/decisions/versions.md). Raise `newest` first; raise `written` one release later, together with
 * `oldest`, to what the previous release wrote.
 */
import { JitPaxosError } from '../errors.js';

export interface Format {
  /** Formats from `oldest` to `newest` can be read. */
  readonly oldest: number;
  readonly newest: number;
  readonly written: number;
}

export const FORMATS = {
  /** hard-state.ts. Once the log has changed the members it is format 3: an older release would lose the identity. */
  hardState: { oldest: 1, newest: 3, written: 1 },
  /**
   * Segments with their frames, and the headers of snapshot files: log-format.ts. A log with a keyed chain is written
   * in format 2 from the first release that reads it: an older release refuses the cluster file of such a cluster
   * anyway.
   */
  log: { oldest: 1, newest: 2, written: 1 },
  /** members-file.ts. Format 1 had no slots; no release with commands that change the members wrote it. */
  members: { oldest: 2, newest: 2, written: 2 },
  /** joining-file.ts */
  joining: { oldest: 1, newest: 1, written: 1 },
  /** backup.ts */
  backup: { oldest: 1, newest: 1, written: 1 },
} as const satisfies Readonly<Record<string, Format>>;

/** The format of segments and snapshot files of a log with a keyed chain. */
export const KEYED_LOG_FORMAT = 2;
/** The format of a hard state beside members that the log has changed. */
export const MEMBERS_HARD_STATE_FORMAT = 3;
/** The format in which it was written before, and is not any more. */
export const MEMBERS_BEHIND_RECORD_FORMAT = 2;

export function isRead({ oldest, newest }: Format, found: number): boolean {
  return found >= oldest && found <= newest;
}

/** What is wrong with a format, and what to do; the message begins with the file's path. */
export function formatRefusal({ oldest, newest }: Format, found: number): string {
  const known = oldest === newest ? `format ${oldest}` : `formats ${oldest} to ${newest}`;
  return `was written in format ${found}, and this version of jitpaxos reads ${known}; use the version that wrote it, ${found > newest ? 'or a newer one; going back is supported by one release only' : 'or upgrade one release after another from there'}`;
}

/** Throws JitPaxosError `data-directory-unusable`, naming the file, the format and what to do. */
export function checkFormat(format: Format, found: number, path: string): void {
  if (!isRead(format, found))
    throw new JitPaxosError('data-directory-unusable', `${path} ${formatRefusal(format, found)}`);
}
