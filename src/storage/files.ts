/**
 * The files of one directory, as durable storage uses them: the edge between the rules of the log and a disk.
 *
 * The rule that every implementation keeps: what was written is durable when `sync` of its file has resolved, a file's
 * name (creation, rename, removal) when `sync` of the directory has; nothing before that, in no order. After a `sync`
 * that was rejected, what became of the bytes is unknown and a later `sync` says nothing about them (on Linux the pages
 * are marked clean: "fsyncgate", 2018): whoever gets such an error writes the bytes again, to another file.
 *
 * Everything runs in libuv's pool: a slow disk keeps a thread of it waiting, never the event loop.
 */
import { close, constants, fdatasync, fsync, open, readFile, readdir, rename, unlink, write } from 'node:fs';
import { join } from 'node:path';

/** One file that is open for writing. After an error it is of no use but for `close`. */
export interface OpenFile {
  /** Writes bytes[0 … length] at `position`. Of a file from `openThrough` it resolves when they are durable. */
  write(bytes: Uint8Array, length: number, position: number): Promise<void>;
  /** Resolves when all that was written is durable (fdatasync). */
  sync(): Promise<void>;
  close(): Promise<void>;
}

/** Rejections are the system's own errors, with `code`. */
export interface Files {
  list(): Promise<readonly string[]>;
  /** Undefined when there is no such file. */
  read(name: string): Promise<Uint8Array | undefined>;
  /** A new file, or an old one emptied. */
  create(name: string): Promise<OpenFile>;
  /**
   * A file that is there, to be written through: what `write` was given is durable when it has resolved, in one call of the system and
   * one turn in the pool instead of two (O_DSYNC). A write that was rejected is a sync that was.
   */
  openThrough(name: string): Promise<OpenFile>;
  rename(from: string, to: string): Promise<void>;
  /** No error when there is no such file. */
  remove(name: string): Promise<void>;
  /** Makes creations, renames and removals durable. */
  sync(): Promise<void>;
}

/** A directory of the file system, which exists. */
export class DirectoryFiles implements Files {
  constructor(private readonly directory: string) {}

  list(): Promise<readonly string[]> {
    return call((done) => readdir(this.directory, done));
  }

  read(name: string): Promise<Uint8Array | undefined> {
    return call<Uint8Array | undefined>((done) => readFile(join(this.directory, name), done)).catch(unlessMissing);
  }

  async create(name: string): Promise<OpenFile> {
    return new DescriptorFile(await call<number>((done) => open(join(this.directory, name), 'w', 0o600, done)));
  }

  async openThrough(name: string): Promise<OpenFile> {
    const path = join(this.directory, name);
    // Elsewhere O_DSYNC is not there, or means less than fdatasync.
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

/** Writes through where the system has no way to. */
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
