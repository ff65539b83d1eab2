/**
 * The files of one directory, as durable storage uses them: the boundary between the rules of the log and a disk.
 *
 * Every implementation keeps this rule: written bytes are durable when `sync` of their file has resolved; a file's name
 * (creation, rename, removal) is durable when `sync` of the directory has resolved. Before that, nothing is durable,
 * and no order is guaranteed. After a rejected `sync` the state of the bytes is unknown, and a later `sync` says
 * nothing about them (on Linux the pages are marked clean: "fsyncgate", 2018). A caller that gets such an error writes
 * the bytes again, to another file.
 *
 * Everything runs in libuv's pool: a slow disk blocks one of its threads, never the event loop.
 */
import {
  close,
  constants,
  fdatasync,
  fstat,
  fsync,
  open,
  read,
  readdir,
  rename,
  unlink,
  write,
  type Stats,
} from 'node:fs';
import { join } from 'node:path';
import { JitPaxosError } from '../errors.js';
import { kindOf } from './regular-file.js';

/** A file that is open for writing. After an error it can only be closed. */
export interface OpenFile {
  /** Writes bytes[0 … length] at `position`. For a file from `openThrough`, it resolves when they are durable. */
  write(bytes: Uint8Array, length: number, position: number): Promise<void>;
  /** Resolves when everything written is durable (fdatasync). */
  sync(): Promise<void>;
  close(): Promise<void>;
}

/** The longest file that is read. No replica writes a longer one. */
const FILE_BYTES_MAX = 2 ** 31 - 1;

/** The medium or the file system says that these bytes are lost: EIO, or a checksum that does not match. */
const LOST_BYTES = new Set(['EIO', 'EBADMSG', 'EUCLEAN']);

/** The disk does not return the bytes of a file from `offset` on: they are as good as damaged. */
export class UnreadableError extends JitPaxosError {
  constructor(
    path: string,
    readonly offset: number,
    override readonly cause: Error,
  ) {
    super(
      'data-directory-unusable',
      `${path} cannot be read at byte ${offset} (${cause.message}); check the disk`,
      cause,
    );
  }
}

/** Rejections are the system's own errors, with `code`. */
export interface Files {
  list(): Promise<readonly string[]>;
  /**
   * Undefined if there is no such file. Rejects with JitPaxosError `data-directory-unusable` what is no regular file (a
   * FIFO would block a thread of the pool forever), is longer than any file of a replica, or becomes shorter meanwhile;
   * with UnreadableError a file of which the disk does not return every byte.
   */
  read(name: string): Promise<Uint8Array | undefined>;
  /** Creates a file, or empties an existing one. */
  create(name: string): Promise<OpenFile>;
  /**
   * Opens an existing file for write-through: `write` resolves when its bytes are durable, in one system call and one
   * turn in the pool instead of two (O_DSYNC). A rejected write counts as a rejected sync.
   */
  openThrough(name: string): Promise<OpenFile>;
  rename(from: string, to: string): Promise<void>;
  /** No error if there is no such file. */
  remove(name: string): Promise<void>;
  /** Makes creations, renames and removals durable. */
  sync(): Promise<void>;
}

/** An existing directory of the file system. */
export class DirectoryFiles implements Files {
  constructor(private readonly directory: string) {}

  list(): Promise<readonly string[]> {
    return call((done) => readdir(this.directory, done));
  }

  read(name: string): Promise<Uint8Array | undefined> {
    return this.readRegular(join(this.directory, name)).catch(unlessMissing);
  }

  private async readRegular(path: string): Promise<Uint8Array> {
    const descriptor = await call<number>((done) => open(path, constants.O_RDONLY | constants.O_NONBLOCK, done));
    try {
      const stat = await call<Stats>((done) => fstat(descriptor, done));
      if (!stat.isFile())
        throw new JitPaxosError(
          'data-directory-unusable',
          `${path} is ${kindOf(stat)}, not a regular file; no replica made it: find out who did`,
        );
      if (stat.size > FILE_BYTES_MAX)
        throw new JitPaxosError(
          'data-directory-unusable',
          `${path} has ${stat.size} bytes, and at most ${FILE_BYTES_MAX} can be read; no replica writes such a file: find out who did`,
        );
      return await readBytes(descriptor, path, stat.size);
    } finally {
      await call<void>((done) => close(descriptor, done));
    }
  }

  async create(name: string): Promise<OpenFile> {
    return new DescriptorFile(await call<number>((done) => open(join(this.directory, name), 'w', 0o600, done)));
  }

  async openThrough(name: string): Promise<OpenFile> {
    const path = join(this.directory, name);
    // Other systems lack O_DSYNC, or it means less there than fdatasync.
    if (process.platform !== 'linux')
      return new SyncedFile(await call<number>((done) => open(path, constants.O_WRONLY, done)));
    return new DescriptorFile(await call<number>((done) => open(path, constants.O_WRONLY | constants.O_DSYNC, done)));
  }

  rename(from: string, to: string): Promise<void> {
    return call((done) => rename(join(this.directory, from), join(this.directory, to), done));
  }

  remove(name: string): Promise<void> {
    return call<void>((done) => unlink(join(this.directory, name), done)).catch(unlessMissing);
  }

  async sync(): Promise<void> {
    const descriptor = await call<number>((done) => open(this.directory, 'r', done));
    try {
      await call<void>((done) => fsync(descriptor, done));
    } finally {
      await call<void>((done) => close(descriptor, done));
    }
  }
}

/**
 * The first `length` bytes of an open file. Rejects with JitPaxosError if there are fewer, and with UnreadableError if the
 * disk does not return one of them. `readFile` of Node 20 must not be used here: given a descriptor, it takes a failed
 * read for the end of the file, and returns what is before it.
 */
export async function readBytes(descriptor: number, path: string, length: number): Promise<Uint8Array> {
  const bytes = Buffer.allocUnsafeSlow(length);
  for (let at = 0; at < length; ) {
    const from = at;
    const count = await call<number>((done) => read(descriptor, bytes, from, length - from, from, done)).catch(
      (error: NodeJS.ErrnoException) => {
        throw LOST_BYTES.has(error.code ?? '') ? new UnreadableError(path, from, error) : error;
      },
    );
    if (count === 0)
      throw new JitPaxosError(
        'data-directory-unusable',
        `${path} ends at byte ${at} and had ${length} bytes when it was opened; only the replica may change its data directory: find out who did`,
      );
    at += count;
  }
  return bytes;
}

class DescriptorFile implements OpenFile {
  constructor(private readonly descriptor: number) {}

  async write(bytes: Uint8Array, length: number, position: number): Promise<void> {
    for (let written = 0; written < length; ) {
      const from = written;
      written += await call<number>((done) =>
        write(this.descriptor, bytes, from, length - from, position + from, done),
      );
    }
  }

  sync(): Promise<void> {
    return call((done) => fdatasync(this.descriptor, done));
  }

  close(): Promise<void> {
    return call((done) => close(this.descriptor, done));
  }
}

/** Emulates write-through on systems without it. */
class SyncedFile extends DescriptorFile {
  override async write(bytes: Uint8Array, length: number, position: number): Promise<void> {
    await super.write(bytes, length, position);
    await this.sync();
  }
}

function call<T>(start: (done: (error: NodeJS.ErrnoException | null, value?: T) => void) => void): Promise<T> {
  return new Promise((resolve, reject) =>
    start((error, value) => (error === null || error === undefined ? resolve(value as T) : reject(error))),
  );
}

function unlessMissing(error: NodeJS.ErrnoException): undefined {
  if (error.code !== 'ENOENT') throw error;
  return undefined;
}
