/**
 * A file that keeps a replica from starting with a log or state that diverged from the cluster's. It lies in the data
 * directory beside that log and goes with it.
 */
import { closeSync, existsSync, fsyncSync, openSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { ERRORS, JitPaxosError, type ErrorCode } from '../errors.js';
import { syncDirectory } from './hard-state.js';
import { readRegularText } from './regular-file.js';

export const DIVERGENCE_MARK = 'diverged';
const MESSAGE_MAX = 4096;

/** Durable when it returns. Throws the system's errors. */
export function markDiverged(directory: string, code: ErrorCode, message: string): void {
  const fd = openSync(join(directory, DIVERGENCE_MARK), 'w', 0o600);
  try {
    writeSync(fd, `${code}\n${message}\n`);
    fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
  syncDirectory(directory);
}

/** Throws JitPaxosError `log-diverged` or `state-diverged` when the directory is marked. */
export function refuseDiverged(directory: string): void {
  const path = join(directory, DIVERGENCE_MARK);
  if (!existsSync(path)) return;
  const [first = '', ...rest] = readRegularText(path).slice(0, MESSAGE_MAX).split('\n');
  // Whatever its content, it was put there to keep a replica from starting.
  const code: ErrorCode = first in ERRORS ? (first as ErrorCode) : 'state-diverged';
  throw new JitPaxosError(
    code,
    `${path} says: ${rest.join(' ').trim()}. Find out why; then delete everything in ${directory} but the file hard-state, and start the replica again: it fetches log and state from the others (docs/operate/operations.md, "A replica that diverged")`,
  );
}
