/**
 * One process a data directory.
 *
 * The lock is a file `lock` that names its holder: pid, when that process was started, and the boot it was started in.
 * The rules:
 * - Two living processes never hold it both. It appears whole and only where there is none (`link`).
 * - Nothing that a dead process left locks the directory for ever. The lock of a dead process is replaced by one process
 *   at a time: a starter that finds it announces itself by a file of its own, `lock.takeover…`, then looks for those of
 *   others, and goes on only when none of them is of a living process. Of two that announce themselves at once the later
 *   one sees the earlier one's file, because that was there before it looked. What a dead process announced counts for
 *   nothing, so a crash at any point leaves nothing to be cleared by hand.
 * - A pid is used again sooner or later, so a process is taken for the holder only when its start time, read from /proc,
 *   is the one recorded.
 * - A pid says something in its own pid namespace only, and each container has one. So a process in a namespace of its own listens on a socket in the
 *   directory as long as it lives (life-sign.ts), which others of the same kernel can see from wherever they are. A lock of another
 *   namespace of this boot is taken over only when that socket says that its process is dead; one that says nothing is refused.
 */
import { randomBytes } from 'node:crypto';
import { linkSync, mkdirSync, readdirSync, readFileSync, unlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { JitPaxosError } from '../errors.js';
import { unusable } from './hard-state.js';
import { LifeSign, pidNamespace } from './life-sign.js';

const LOCK = 'lock';
const ANNOUNCED = 'lock.takeover';
const UNFINISHED = 'lock.new';

/** A takeover is a few calls of the system; one that lasts this long waits for a process that is stopped. */
const TAKEOVER_MS = 3_000;
const PAUSE_MS = 10;

export interface Holder {
  readonly pid: number;
  /** Clock ticks from boot to the start of the process; '' where there is no /proc. */
  readonly started: string;
  readonly boot: string;
  /** What its pid is a number of; absent: not known, or a release that did not say. */
  readonly namespace?: string;
  /** The file in the directory that says whether it lives, where its pid namespace is not everybody's. */
  readonly lifeSign?: string;
}

/** What locking needs of the system: of one directory, seen by one process. */
export interface LockSystem {
  readonly self: Holder;
  readonly isAlive: (holder: Holder) => boolean;
  readonly names: () => readonly string[];
  /** Undefined when there is no such file. */
  readonly read: (name: string) => string | undefined;
  readonly write: (name: string, content: string) => void;
  /** False when `to` exists. */
  readonly link: (from: string, to: string) => boolean;
  /** No error when there is no such file. */
  readonly unlink: (name: string) => void;
  /** Another name each time. */
  readonly unique: () => string;
}

export class DirectoryLock {
  private held = true;
  private constructor(
    private readonly system: LockSystem,
    private readonly lifeSign: LifeSign | undefined,
  ) {}

  /**
   * Creates `directory` when it does not exist, and locks it until `release` or the end of the process.
   * Throws JitPaxosError `data-directory-locked`, which names the holder's pid, or `data-directory-unusable`.
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
    const { system } = this;
    // Where liveness can't be seen (another container) somebody may have taken it; that one's lock stays.
    const holder = holderIn(system.read(LOCK));
    if (holder === undefined || isSame(holder, system.self)) system.unlink(LOCK);
    this.lifeSign?.end();
  }
}

/**
 * Takes the lock in steps: yields before each call of the system, with the living process that it waits for where there is
 * one; returns undefined when the lock is held, otherwise its holder. So that tests can stop it anywhere, and run many beside each other.
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
      // One of two that see each other has to step back: the one with the later name.
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
      } // Otherwise it is gone, and somebody may be placing his at this moment.
      if (yield* place(system, LOCK)) break;
    } finally {
      system.unlink(announced);
    }
  }
  // What processes left that died in the middle of this. Only from here: a starter that finds the lock held changes nothing.
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

/** Another living process that is taking the lock over: the one with the first name. */
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

/** Creates the file with its content at once, unless it exists: false. */
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

function systemOf(directory: string, lifeSign?: LifeSign): LockSystem {
  const at = (name: string): string => join(directory, name);
  return {
    self: {
      pid: process.pid,
      started: startedAt(process.pid) ?? '',
      boot: bootId(),
      namespace: pidNamespace(),
      ...(lifeSign === undefined ? {} : { lifeSign: lifeSign.name }),
    },
    isAlive: (holder) => isAlive(holder, directory),
    names: () => readdirSync(directory),
    read: (name) => {
      try {
        return readFileSync(at(name), 'utf8');
      } catch (error) {
        return unless(error, 'ENOENT', undefined);
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

/** Pid of the living process that holds the lock of `directory`; undefined when none does. Takes and changes nothing. */
export function lockHolder(directory: string): number | undefined {
  const holder = holderIn(systemOf(directory).read(LOCK));
  return holder !== undefined && isAlive(holder, directory) ? holder.pid : undefined;
}

/** Undefined when there is no lock, or an empty or torn one: a power failure left it, and its holder did not survive that. */
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

/** Its namespace is known, and not this process's: its pid says nothing here. */
function isElsewhere({ namespace }: Holder): boolean {
  return namespace !== undefined && namespace !== '' && pidNamespace() !== '' && namespace !== pidNamespace();
}

function isAlive(holder: Holder, directory: string): boolean {
  if (holder.boot !== bootId()) return false;
  // Where nothing tells, it may live.
  if (isElsewhere(holder)) return holder.lifeSign === undefined || LifeSign.of(directory, holder.lifeSign) !== 'dead';
  const stat = statOf(holder.pid);
  // A process that ended and that its parent has not asked about yet holds nothing any more.
  if (stat !== undefined && (stat.state === 'Z' || stat.state === 'X')) return false;
  if (stat !== undefined && holder.started !== '') return stat.started === holder.started;
  try {
    process.kill(holder.pid, 0); // signal 0 only asks
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM';
  }
}

function startedAt(pid: number): string | undefined {
  return statOf(pid)?.started;
}

/** Fields 3 and 22 of /proc/<pid>/stat (proc(5)); the second is in parentheses and may hold anything. Undefined: no such process, it is hidden, or there is no /proc. */
function statOf(pid: number): { readonly state: string; readonly started: string } | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    return { state: fields[0] ?? '', started: fields[19] ?? '' };
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
    const seen = holder.lifeSign !== undefined && LifeSign.of(directory, holder.lifeSign) === 'alive';
    const found = seen
      ? `is in use by process ${holder.pid} of another container`
      : `was in use by process ${holder.pid} of another container (${holder.namespace}), and nothing here says whether that is alive`;
    return new JitPaxosError(
      'data-directory-locked',
      `${directory} ${found}; stop that replica first, or give this one a data directory of its own${seen ? '' : `. When you are sure that no process uses it any more, delete ${join(directory, LOCK)}`}`,
    );
  }
  return new JitPaxosError(
    'data-directory-locked',
    `${directory} is in use by ${who}; stop that replica first, or give this one a data directory of its own`,
  );
}

function takeoverUnderWay(directory: string, by: Holder): JitPaxosError {
  return new JitPaxosError(
    'data-directory-locked',
    `${directory} is being taken over from a dead process by process ${by.pid}, which takes long; see whether that is stopped, then try again`,
  );
}
