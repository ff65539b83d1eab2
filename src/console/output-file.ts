/**
 * Files that a command writes when its work is done. An unwritable path is found before the work begins. A later
 * failure (a full disk) does not lose the result, which is printed first.
 */
import {
  accessSync,
  closeSync,
  constants,
  existsSync,
  fchownSync,
  fstatSync,
  fsyncSync,
  linkSync,
  openSync,
  realpathSync,
  renameSync,
  rmSync,
  statSync,
  unlinkSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { basename, dirname, join, resolve } from 'node:path';
import { CliError } from './exit.js';

/**
 * Throws CliError `flag-invalid` if `path`, the value of `--flag`, cannot be written to. Leaves nothing behind, and
 * changes no existing file.
 */
export function checkWritable(flag: string, path: string | undefined): void {
  if (path === undefined) return;
  const refuse = (why: string): CliError =>
    new CliError('flag-invalid', `--${flag} ${path} can't be written: ${why}; give another path`);
  const folder = dirname(resolve(path));
  try {
    if (!existsSync(path)) {
      // Asks the system by trying: permissions alone show neither a read-only mount nor what even root may not do.
      closeSync(openSync(path, 'wx'));
      unlinkSync(path);
    } else if (statSync(path).isDirectory()) throw refuse('it is a directory');
    else accessSync(path, constants.W_OK);
  } catch (error) {
    if (error instanceof CliError) throw error;
    throw refuse(existsSync(folder) ? reasonOf(error) : `there is no directory ${folder}`);
  }
}

/**
 * The same, for a file that is written while the command works: it must not exist yet, because what it holds would be
 * lost at the start. Throws CliError `file-exists` too.
 */
export function checkNew(flag: string, path: string | undefined): void {
  checkWritable(flag, path);
  if (path !== undefined && existsSync(path)) throw alreadyThere(flag, path);
}

/** The error for a file of `--flag` that exists. */
export function alreadyThere(flag: string, path: string): CliError {
  return new CliError(
    'file-exists',
    `--${flag} ${path} already exists, and nothing was measured; move it away, or name another file`,
  );
}

/** Throws CliError `flag-invalid` if two flags name one file: the one would replace what the other wrote. */
export function checkDistinct(paths: Readonly<Record<string, string | undefined>>): void {
  const seen = new Map<string, string>();
  for (const [flag, path] of Object.entries(paths)) {
    const file = path === undefined ? undefined : fileIdentity(path);
    if (file === undefined) continue;
    const other = seen.get(file);
    if (other !== undefined)
      throw new CliError('flag-invalid', `--${other} and --${flag} are one file, ${path}; name two files`);
    seen.set(file, flag);
  }
}

/** Throws CliError `flag-invalid` if `path`, the value of `--flag`, is one of the files that the command reads. */
export function checkNotRead(flag: string, path: string | undefined, read: readonly string[]): void {
  const file = path === undefined ? undefined : fileIdentity(path);
  if (file === undefined) return;
  const same = read.find((each) => fileIdentity(each) === file);
  if (same !== undefined)
    throw new CliError('flag-invalid', `--${flag} ${path} would replace ${same}, which is read; name another file`);
}

/** The same for all paths of one file, links too. Undefined for a device, a FIFO or a directory: nothing there is replaced. */
export function fileIdentity(path: string): string | undefined {
  const stat = statSync(path, { bigint: true, throwIfNoEntry: false });
  if (stat !== undefined) return stat.isFile() ? `${stat.dev}:${stat.ino}` : undefined;
  const whole = resolve(path);
  const folder = dirname(whole);
  return existsSync(folder) ? join(realpathSync(folder), basename(whole)) : whole;
}

/** Runs `write`, which writes the file of `--flag`. Throws CliError `output-unwritable`. */
export function writingOutput(flag: string, path: string, write: () => void): void {
  try {
    write();
  } catch (error) {
    throw new CliError(
      'output-unwritable',
      `--${flag} ${path} could not be written (${reasonOf(error)}); the result itself was printed. Make room, or write elsewhere, and run again`,
    );
  }
}

export function writeOutput(flag: string, path: string | undefined, content: () => string): void {
  if (path !== undefined) writingOutput(flag, path, () => writeFileSync(path, content()));
}

function reasonOf(error: unknown): string {
  return (error as NodeJS.ErrnoException).code ?? String(error);
}

export interface NewFile {
  readonly path: string;
  readonly content: string;
  readonly mode?: number;
  /** User and group of the file. Default: those of this process. */
  readonly owner?: { readonly uid: number; readonly gid: number };
}

/**
 * Writes several files that belong together, all or none of them: first under other names and synced, then each under
 * its own name. A crash in between leaves some of them, and the next run says which. Throws CliError `file-exists` if
 * one exists, unless `replace`, and `output-unwritable`; nothing is then left.
 */
export function writeTogether(files: readonly NewFile[], replace = false): void {
  if (!replace) for (const { path } of files) if (existsSync(path)) throw exists(path);
  const aside = files.map(({ path }) => `${path}.${process.pid}.new`);
  const placed: string[] = [];
  try {
    files.forEach(({ content, mode, owner }, at) => {
      const fd = openSync(aside[at]!, 'wx', mode ?? 0o666);
      try {
        if (owner !== undefined) keepOwner(fd, owner);
        writeSync(fd, content);
        fsyncSync(fd);
      } finally {
        closeSync(fd);
      }
    });
    files.forEach(({ path }, at) => {
      if (replace) renameSync(aside[at]!, path);
      else linkSync(aside[at]!, path); // unlike rename, link never overwrites a file that appeared meanwhile
      if (!replace) placed.push(path);
    });
    for (const folder of new Set(files.map(({ path }) => dirname(resolve(path))))) syncFolder(folder);
  } catch (error) {
    for (const path of placed) rmSync(path, { force: true });
    if (error instanceof CliError) throw error;
    if ((error as NodeJS.ErrnoException).code === 'EEXIST') throw exists(files[placed.length]!.path);
    const { path } = files[Math.min(placed.length, files.length - 1)]!;
    const homeless = files.find((file) => !existsSync(dirname(resolve(file.path))));
    if (homeless !== undefined)
      throw new CliError(
        'output-unwritable',
        `${homeless.path} cannot be written, and nothing was written: there is no directory ${dirname(homeless.path)}; make it, or write elsewhere`,
      );
    throw new CliError(
      'output-unwritable',
      `${path} cannot be written (${reasonOf(error)}), and nothing was written; check directory, permissions and space, or write elsewhere`,
    );
  } finally {
    for (const path of aside) rmSync(path, { force: true });
  }
}

/** Root changes files of the users of services, who must be able to read them afterwards. */
function keepOwner(fd: number, { uid, gid }: NonNullable<NewFile['owner']>): void {
  const own = fstatSync(fd);
  if (own.uid !== uid || own.gid !== gid) fchownSync(fd, uid, gid);
}

function syncFolder(folder: string): void {
  const fd = openSync(folder, 'r');
  try {
    fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
}

function exists(path: string): CliError {
  return new CliError(
    'file-exists',
    `${path} already exists, and nothing was written; move it away, or write elsewhere with --out`,
  );
}
