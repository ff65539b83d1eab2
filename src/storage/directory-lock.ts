/**
 * Allows one process per data directory.
 *
 * The lock is a file `lock` that names its holder: pid, start time of that process, and the boot it was started in. The
 * rules:
 * - Two living processes never both hold it. It appears complete, and only if there is none (`link`).
 * - Nothing that a dead process left locks the directory forever. One process at a time replaces the lock of a dead
 *   process: a starter that finds it announces itself by a file of its own, `lock.takeover…`, then looks for the files
 *   of others, and continues only if none of them belongs to a living process. If two announce themselves at once, the
 *   later one sees the earlier one's file, because that was there before it looked. The announcement of a dead process
 *   does not count, so a crash at any point leaves nothing to be cleared by hand.
 * - A pid is reused sooner or later. A process therefore counts as the holder only if its start time, read from /proc,
 *   is the recorded one.
 * - A pid is meaningful only in its own pid namespace, and each container has one. A process in such a namespace
 *   therefore listens on a socket in the directory as long as it lives (life-sign.ts). Other processes of the same
 *   kernel can see that socket from any namespace. A lock from another namespace of this boot is taken over only if
 *   that socket shows that its process is dead; if the socket tells nothing, the lock is refused.
 */
import { randomBytes } from 'node:crypto';
import { linkSync, mkdirSync, readdirSync, readFileSync, unlinkSync, writeFileSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { JitPaxosError } from '../errors.js';
import { unusable } from './hard-state.js';
import { LifeSign, pidNamespace } from './life-sign.js';
import { readRegularText } from './regular-file.js';

const LOCK = 'lock';
const ANNOUNCED = 'lock.takeover';
const UNFINISHED = 'lock.new';

/** A takeover takes a few system calls; one that lasts this long is waiting for a stopped process. */
const TAKEOVER_MS = 3_000;
const PAUSE_MS = 10;
/** Most bytes of a file that names a holder. */
const HOLDER_BYTES_MAX = 4096;

export interface Holder {
  readonly pid: number;
  /** Clock ticks from boot to the start of the process; '' without /proc. */
  readonly started: string;
  readonly boot: string;
  /** The namespace that the pid belongs to; absent if unknown, or if an older release wrote the file. */
  readonly namespace?: string;
  /**
   * The file in the directory that shows whether the process lives, if its pid namespace is not the host's first one.
   */
  readonly lifeSign?: string;
}

/** The system calls that locking needs, for one directory as one process sees it. */
export interface LockSystem {
  readonly self: Holder;
  readonly isAlive: (holder: Holder) => boolean;
  readonly names: () => readonly string[];
  /** Undefined if there is no such file. */
  readonly read: (name: string) => string | undefined;
  readonly write: (name: string, content: string) => void;
  /** False when `to` exists. */
  readonly link: (from: string, to: string) => boolean;
  /** No error if there is no such file. */
  readonly unlink: (name: string) => void;
  /** A different name each time. */
  readonly unique: () => string;
}

export class DirectoryLock {
  private held = true;
  private constructor(
    private readonly system: LockSystem,
    private readonly lifeSign: LifeSign | undefined,
  ) {}

  /**
   * Creates `directory` if needed, and locks it until `release` or the end of the process. Throws JitPaxosError
   * `data-directory-locked`, which names the holder's pid, or `data-directory-unusable`.
   */
  static acquire(directory: string): DirectoryLock {
    let lifeSign: LifeSign | undefined;
    try {
      mkdirSync(directory, { recursive: true, mode: 0o700 });
      lifeSign = LifeSign.begin(directory);
      const system = systemOf(directory, lifeSign);
      const locking = lockSteps(system);
      for (let waitedMs = 0; ; ) {
        const { done, value } = locking.next();
        if (done === true) {
          if (value === undefined) return new DirectoryLock(system, lifeSign);
          throw locked(directory, value.holder);
        }
        if (value === undefined) continue;
        if (waitedMs >= TAKEOVER_MS) throw takeoverUnderWay(directory, value);
        pause(PAUSE_MS);
        waitedMs += PAUSE_MS;
      }
    } catch (error) {
      lifeSign?.end();
      throw error instanceof JitPaxosError ? error : unusable(directory, error);
    }
  }

  release(): void {
    if (!this.held) return;
    this.held = false;
    releaseLock(this.system);
    this.lifeSign?.end();
  }
}

/**
 * Takes the lock in steps: yields before each system call, with the living process that it waits for, if any. Returns
 * undefined when the lock is held, otherwise its holder. Tests can therefore stop it anywhere, and run many side by
 * side.
 */
export function* lockSteps(
  system: LockSystem,
): Generator<Holder | undefined, { readonly holder: Holder | undefined } | undefined, void> {
  for (;;) {
    if (yield* place(system, LOCK)) break;
    yield;
    const found = system.read(LOCK);
    if (found === undefined) continue;
    const holder = holderIn(found);
    if (holder !== undefined && system.isAlive(holder)) return { holder };
    const announced = `${ANNOUNCED}.${system.unique()}`;
    if (!(yield* place(system, announced))) continue;
    try {
      let rival: Rival | undefined;
      // Of two that see each other, the one with the later name steps back.
      while ((rival = yield* livingRival(system, announced)) !== undefined && rival.name > announced)
        yield rival.holder;
      if (rival !== undefined) {
        yield;
        system.unlink(announced);
        yield rival.holder;
        continue;
      }
      yield;
      const again = system.read(LOCK);
      if (again !== undefined) {
        const successor = holderIn(again);
        if (successor !== undefined && system.isAlive(successor)) return { holder: successor };
        yield;
        if (successor?.lifeSign !== undefined) system.unlink(successor.lifeSign);
        system.unlink(LOCK);
      } // Otherwise it is gone, and another process may be placing its own lock at this moment.
      if (yield* place(system, LOCK)) break;
    } finally {
      system.unlink(announced);
    }
  }
  // Removes files of processes that died while taking the lock. Only from here: a starter that finds the lock held
  // changes nothing.
  for (const name of system.names()) {
    if (!name.startsWith(ANNOUNCED) && !name.startsWith(UNFINISHED)) continue;
    const left = holderIn(system.read(name));
    if (left === undefined ? name.startsWith(ANNOUNCED) : !system.isAlive(left)) system.unlink(name);
  }
  return undefined;
}

interface Rival {
  readonly name: string;
  readonly holder: Holder;
}

/** Another living process that is taking over the lock: the one with the first name. */
function* livingRival(system: LockSystem, own: string): Generator<Holder | undefined, Rival | undefined, void> {
  yield;
  for (const name of [...system.names()].sort()) {
    if (!name.startsWith(ANNOUNCED) || name === own) continue;
    yield;
    const holder = holderIn(system.read(name));
    if (holder !== undefined && system.isAlive(holder)) return { name, holder };
  }
  return undefined;
}

/** Creates the file with its content at once; returns false if it exists. */
function* place(system: LockSystem, name: string): Generator<Holder | undefined, boolean, void> {
  const temporary = `${UNFINISHED}.${system.unique()}`;
  try {
    yield;
    system.write(temporary, JSON.stringify(system.self));
    yield;
    return system.link(temporary, name);
  } finally {
    system.unlink(temporary); // a full disk leaves it empty
  }
}

/**
 * Allows one process at a time to change a file: a lock with the same rules, beside the file, which waits for its holder.
 * It is held for moments, so it needs no life sign: a lock that a killed process of another container left is deleted by hand.
 */
export class FileLock {
  private constructor(private readonly system: LockSystem) {}

  /**
   * Locks `path`, an absolute path, until `release` or the end of the process. Returns the holder (undefined: unknown) if others
   * have held it for `waitMs`. Throws the system's errors, or JitPaxosError `data-directory-unusable`.
   */
  static acquire(path: string, waitMs: number): FileLock | Holder | undefined {
    const system = systemOf(dirname(path), undefined, `${basename(path)}.`);
    for (let waitedMs = 0; ; waitedMs += PAUSE_MS) {
      const locking = lockSteps(system);
      let step = locking.next();
      // A process that takes the lock over from a dead one does so in a moment.
      while (step.done !== true && step.value === undefined) step = locking.next();
      if (step.done === true && step.value === undefined) return new FileLock(system);
      locking.return(undefined);
      if (waitedMs >= waitMs) return step.done === true ? step.value!.holder : step.value;
      pause(PAUSE_MS);
    }
  }

  /** The name of the lock of `path`. */
  static of(path: string): string {
    return `${path}.${LOCK}`;
  }

  release(): void {
    releaseLock(this.system);
  }
}

/** If liveness cannot be seen (another container), another process may have taken the lock; its lock stays. */
function releaseLock(system: LockSystem): void {
  const holder = holderIn(system.read(LOCK));
  if (holder === undefined || isSame(holder, system.self)) system.unlink(LOCK);
}

/** @param prefix of all names in the directory that belong to this lock */
function systemOf(directory: string, lifeSign?: LifeSign, prefix = ''): LockSystem {
  const at = (name: string): string => join(directory, prefix + name);
  return {
    self: {
      pid: process.pid,
      started: startedAt(process.pid) ?? '',
      boot: bootId(),
      namespace: pidNamespace(),
      ...(lifeSign === undefined ? {} : { lifeSign: lifeSign.name }),
    },
    isAlive: (holder) => isAlive(holder, directory),
    names: () =>
      readdirSync(directory)
        .filter((name) => name.startsWith(prefix))
        .map((name) => name.slice(prefix.length)),
    read: (name) => {
      try {
        return readRegularText(at(name), undefined, HOLDER_BYTES_MAX);
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
        throw unusable(at(name), error);
      }
    },
    write: (name, content) => writeFileSync(at(name), content, { mode: 0o600 }),
    link: (from, to) => {
      try {
        linkSync(at(from), at(to));
        return true;
      } catch (error) {
        return unless(error, 'EEXIST', false);
      }
    },
    unlink: (name) => {
      try {
        unlinkSync(at(name));
      } catch (error) {
        unless(error, 'ENOENT', undefined);
      }
    },
    unique: () => `${process.pid}.${randomBytes(6).toString('hex')}`,
  };
}

/** Pid of the living process that holds the lock of `directory`; undefined if none does. Changes nothing. */
export function lockHolder(directory: string): number | undefined {
  const holder = holderIn(systemOf(directory).read(LOCK));
  return holder !== undefined && isAlive(holder, directory) ? holder.pid : undefined;
}

/**
 * Undefined if there is no lock, or an empty or torn one: a power failure left it, and its holder did not survive that.
 */
function holderIn(content: string | undefined): Holder | undefined {
  if (content === undefined) return undefined;
  try {
    const holder = JSON.parse(content) as Partial<Holder> | null;
    if (!Number.isInteger(holder?.pid) || typeof holder?.started !== 'string' || typeof holder.boot !== 'string')
      return undefined;
    if (
      !['undefined', 'string'].includes(typeof holder.namespace) ||
      (holder.lifeSign !== undefined && !LifeSign.isName(holder.lifeSign))
    )
      return undefined;
    return holder as Holder;
  } catch {
    return undefined;
  }
}

function isSame(a: Holder, b: Holder): boolean {
  return a.pid === b.pid && a.namespace === b.namespace && a.started === b.started && a.boot === b.boot;
}

/** Its namespace is known and differs from this process's: its pid means nothing here. */
function isElsewhere({ namespace }: Holder): boolean {
  return namespace !== undefined && namespace !== '' && pidNamespace() !== '' && namespace !== pidNamespace();
}

function isAlive(holder: Holder, directory: string): boolean {
  if (holder.boot !== bootId()) return false;
  // If nothing tells, it may be alive.
  if (isElsewhere(holder)) return holder.lifeSign === undefined || LifeSign.of(directory, holder.lifeSign) !== 'dead';
  const stat = statOf(holder.pid);
  // A zombie, a process that ended and that its parent has not waited for, no longer holds anything.
  if (stat !== undefined && (stat.state === 'Z' || stat.state === 'X')) return false;
  if (stat !== undefined && holder.started !== '') return stat.started === holder.started;
  try {
    process.kill(holder.pid, 0); // signal 0 only checks
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM';
  }
}

function startedAt(pid: number): string | undefined {
  return statOf(pid)?.started;
}

/**
 * Fields 3 and 22 of /proc/<pid>/stat (proc(5)); field 2 is in parentheses and may hold anything. Undefined: no such
 * process, it is hidden, or there is no /proc.
 */
function statOf(pid: number): { readonly state: string; readonly started: string } | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    return { state: fields[0] ?? '', started: fields[19] ?? '' };
  } catch {
    return undefined;
  }
}

/** A UUID of the running kernel's boot; '' without /proc. */
export function bootId(): string {
  try {
    return readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim();
  } catch {
    return '';
  }
}

function pause(ms: number): void {
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, ms);
}

function unless<T>(error: unknown, code: string, otherwise: T): T {
  if ((error as NodeJS.ErrnoException).code !== code) throw error;
  return otherwise;
}

function locked(directory: string, holder: Holder | undefined): JitPaxosError {
  const who =
    holder === undefined
      ? 'another process'
      : holder.pid === process.pid
        ? `this process (pid ${holder.pid})`
        : `process ${holder.pid}`;
  if (holder !== undefined && isElsewhere(holder)) {
    const sign = holder.lifeSign === undefined ? 'unknown' : LifeSign.of(directory, holder.lifeSign);
    if (sign === 'unasked')
      return new JitPaxosError(
        'data-directory-locked',
        `${directory} was in use by process ${holder.pid} of another container, and this host is too busy to ask whether that is alive; try again`,
      );
    const seen = sign === 'alive';
    const found = seen
      ? `is in use by process ${holder.pid} of another container`
      : `was in use by process ${holder.pid} of another container (${holder.namespace}), and nothing here says whether that is alive`;
    return new JitPaxosError(
      'data-directory-locked',
      `${directory} ${found}; stop that replica first, or give this one its own data directory${seen ? '' : `. When you are sure that no process uses it, delete ${join(directory, LOCK)}`}`,
    );
  }
  return new JitPaxosError(
    'data-directory-locked',
    `${directory} is in use by ${who}; stop that replica first, or give this one its own data directory`,
  );
}

function takeoverUnderWay(directory: string, by: Holder): JitPaxosError {
  return new JitPaxosError(
    'data-directory-locked',
    `${directory} is being taken over from a dead process by process ${by.pid}, which takes long; check whether that process is stopped, then try again`,
  );
}
