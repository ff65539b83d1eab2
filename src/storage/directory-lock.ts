/**
 * One process a data directory.
 *
 * The lock is a file `lock` that names its holder: pid, when that process was started, and the boot it was started in.
 * The rule: two living processes never hold it both. It appears whole and only where none is (`link`), and the lock of
 * a dead process is replaced under a second such file, so that of two that find it stale one goes first. A pid is used
 * again sooner or later, so a process is taken for the holder only when its start time, read from /proc, is the one
 * recorded.
 *
 * It can't see processes of another container or host that share the directory: keep those apart by other means.
 */
import { linkSync, mkdirSync, readFileSync, unlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { JitPaxosError } from '../errors.js';
import { unusable } from './hard-state.js';

interface Holder {
  readonly pid: number;
  /** Clock ticks from boot to the start of the process; '' where there is no /proc. */
  readonly started: string;
  readonly boot: string;
}

export class DirectoryLock {
  private held = true;
  private constructor(private readonly path: string) {}

  /**
   * Creates `directory` when it does not exist, and locks it until `release` or the end of the process.
   * Throws JitPaxosError `data-directory-locked`, which names the holder's pid, or `data-directory-unusable`.
   */
  static acquire(directory: string): DirectoryLock {
    const path = join(directory, 'lock');
    const takeover = join(directory, 'lock.takeover');
    try {
      mkdirSync(directory, { recursive: true, mode: 0o700 });
      if (place(directory, path)) return new DirectoryLock(path);
      const holder = readHolder(path);
      if (holder !== undefined && isAlive(holder)) throw locked(directory, holder);
      if (!place(directory, takeover)) throw takeoverUnderWay(directory, takeover);
      try {
        const again = readHolder(path);
        if (again !== undefined && isAlive(again)) throw locked(directory, again);
        unlinkIfThere(path);
        if (place(directory, path)) return new DirectoryLock(path);
        throw locked(directory, readHolder(path));
      } finally {
        unlinkSync(takeover);
      }
    } catch (error) {
      throw error instanceof JitPaxosError ? error : unusable(directory, error);
    }
  }

  release(): void {
    if (!this.held) return;
    this.held = false;
    unlinkIfThere(this.path);
  }
}

/** Pid of the living process that holds the lock of `directory`; undefined when none does. Takes and changes nothing. */
export function lockHolder(directory: string): number | undefined {
  const holder = readHolder(join(directory, 'lock'));
  return holder !== undefined && isAlive(holder) ? holder.pid : undefined;
}

let serial = 0;

/** Creates the file with its content at once, unless it exists: false. */
function place(directory: string, path: string): boolean {
  const temporary = join(directory, `lock.${process.pid}.${serial++}`);
  const self: Holder = { pid: process.pid, started: startedAt(process.pid) ?? '', boot: bootId() };
  try {
    writeFileSync(temporary, JSON.stringify(self), { mode: 0o600 });
    linkSync(temporary, path);
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EEXIST') return false;
    throw error;
  } finally {
    unlinkIfThere(temporary); // a full disk leaves it empty
  }
}

/** Undefined when there is no lock, or an empty or torn one: a power failure left it, and its holder did not survive that. */
function readHolder(path: string): Holder | undefined {
  try {
    const holder = JSON.parse(readFileSync(path, 'utf8')) as Partial<Holder> | null;
    if (!Number.isInteger(holder?.pid) || typeof holder?.started !== 'string' || typeof holder.boot !== 'string') return undefined;
    return holder as Holder;
  } catch (error) {
    if (error instanceof SyntaxError || (error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw error;
  }
}

function isAlive(holder: Holder): boolean {
  if (holder.boot !== bootId()) return false;
  if (holder.started !== '') return startedAt(holder.pid) === holder.started;
  try {
    process.kill(holder.pid, 0); // signal 0 only asks
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM';
  }
}

/** Field 22 of /proc/<pid>/stat (proc(5)); the second is in parentheses and may hold anything. Undefined: no such process, or no /proc. */
function startedAt(pid: number): string | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
    return stat.slice(stat.lastIndexOf(')') + 2).split(' ')[19];
  } catch {
    return undefined;
  }
}

/** Of the running kernel, a UUID; '' where there is no /proc. */
export function bootId(): string {
  try {
    return readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim();
  } catch {
    return '';
  }
}

function unlinkIfThere(path: string): void {
  try {
    unlinkSync(path);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
  }
}

function locked(directory: string, holder: Holder | undefined): JitPaxosError {
  const who = holder === undefined ? 'another process' : holder.pid === process.pid ? `this process (pid ${holder.pid})` : `process ${holder.pid}`;
  return new JitPaxosError('data-directory-locked', `${directory} is in use by ${who}; stop that replica first, or give this one a data directory of its own`);
}

function takeoverUnderWay(directory: string, takeover: string): JitPaxosError {
  return new JitPaxosError('data-directory-locked', `${directory} is being taken over from a dead process by another one at this moment; try again. If it stays so, a process died in the middle of it: delete ${takeover}`);
}
