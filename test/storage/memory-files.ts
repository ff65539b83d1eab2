/**
 * A disk in memory that forgets what was not synced, and fails on demand: the power-loss shim under durable storage.
 *
 * Each unsynced sector of 512 bytes survives or not by chance, and so do the first few changes of the directory. After
 * a failed sync the pages pass for clean, as on Linux: they are read as written, and no later sync brings them to the
 * disk.
 */
import type { Random } from '../../src/sim/random.js';
import type { Files, OpenFile } from '../../src/storage/files.js';

const SECTOR = 512;

interface Inode {
  /** As read by a process. */
  view: Uint8Array;
  durable: Uint8Array;
  readonly dirty: Set<number>;
}

export type DiskOperation = 'create' | 'write' | 'sync' | 'rename' | 'remove' | 'sync-directory';

/** The disk: what outlives a process. */
export class MemoryDisk {
  /** Decides for each operation whether it fails, and how. */
  fails: (operation: DiskOperation, name: string) => 'ENOSPC' | 'EIO' | 'EROFS' | undefined = () => undefined;
  /** Called before each operation, with its number. */
  before: (operations: number) => void = () => undefined;
  operations = 0;
  names = new Map<string, Inode>();
  private durableNames = new Map<string, Inode>();
  private renames: ((names: Map<string, Inode>) => void)[] = [];
  /** Files of an earlier life are dead: operations in progress never end. */
  life = 0;

  constructor(private readonly random: Random) {}

  /** Operations in progress never end, and chance decides about everything not synced. */
  cutPower(): void {
    this.stop();
    const kept = this.random.below(this.renames.length + 1);
    for (const rename of this.renames.slice(0, kept)) rename(this.durableNames);
    this.renames = [];
    const share = this.random.pick([0, 0.5, 0.9, 1]);
    for (const inode of this.durableNames.values()) {
      this.settle(inode, share);
      inode.view = inode.durable.slice();
    }
    this.names = new Map(this.durableNames);
  }

  /** The process ends, the host continues: written data is there. */
  stop(): void {
    this.life++;
  }

  bytes(name: string): Uint8Array {
    return this.names.get(name)!.view;
  }

  /** Places a file as if it had always been there. */
  place(name: string, bytes: Uint8Array): void {
    const inode: Inode = { view: bytes.slice(), durable: bytes.slice(), dirty: new Set() };
    this.names.set(name, inode);
    this.durableNames.set(name, inode);
  }

  change(apply: (names: Map<string, Inode>) => void): void {
    apply(this.names);
    this.renames.push(apply);
  }

  /**
   * Each dirty sector reaches the disk with that probability; the others are forgotten, which only a power loss shows.
   */
  settle(inode: Inode, share: number): void {
    const durable =
      inode.view.length > inode.durable.length ? enlarged(inode.durable, inode.view.length) : inode.durable;
    for (const sector of inode.dirty) {
      if (share < 1 && !this.random.chance(share)) continue;
      const from = sector * SECTOR;
      durable.set(inode.view.subarray(from, from + SECTOR), from);
    }
    inode.dirty.clear();
    inode.durable = durable;
  }

  syncNames(): void {
    for (const rename of this.renames) rename(this.durableNames);
    this.renames = [];
  }
}

/** The disk as one process has it. */
export class MemoryFiles implements Files {
  private readonly life: number;

  constructor(
    private readonly disk: MemoryDisk,
    private readonly random: Random,
  ) {
    this.life = disk.life;
  }

  list(): Promise<readonly string[]> {
    return this.perform(undefined, '', () => [...this.disk.names.keys()]);
  }

  read(name: string): Promise<Uint8Array | undefined> {
    return this.perform(undefined, '', () => this.disk.names.get(name)?.view.slice());
  }

  create(name: string): Promise<OpenFile> {
    return this.perform('create', name, () => {
      const inode: Inode = { view: new Uint8Array(0), durable: new Uint8Array(0), dirty: new Set() };
      this.disk.change((names) => names.set(name, inode));
      return this.fileOf(inode);
    });
  }

  async openThrough(name: string): Promise<OpenFile> {
    const file = await this.perform(undefined, '', () => {
      const inode = this.disk.names.get(name);
      if (inode === undefined) throw failure('ENOENT', 'open', name);
      return this.fileOf(inode);
    });
    // The power may fail between the two, and either may fail.
    return {
      ...file,
      write: async (bytes, length, position) => (await file.write(bytes, length, position), file.sync()),
    };
  }

  rename(from: string, to: string): Promise<void> {
    return this.perform('rename', from, () => {
      const inode = this.disk.names.get(from);
      if (inode === undefined) throw failure('ENOENT', 'rename', from);
      this.disk.change((names) => {
        names.delete(from);
        names.set(to, inode);
      });
    });
  }

  remove(name: string): Promise<void> {
    return this.perform('remove', name, () => this.disk.change((names) => names.delete(name)));
  }

  sync(): Promise<void> {
    return this.perform('sync-directory', '.', () => this.disk.syncNames());
  }

  private fileOf(inode: Inode): OpenFile {
    const name = (): string => [...this.disk.names].find(([, other]) => other === inode)?.[0] ?? '';
    return {
      write: (bytes, length, position) =>
        this.perform('write', name(), () => {
          const end = position + length;
          if (end > inode.view.length) inode.view = enlarged(inode.view, end);
          inode.view.set(bytes.subarray(0, length), position);
          for (let sector = Math.floor(position / SECTOR); sector * SECTOR < end; sector++) inode.dirty.add(sector);
        }),
      sync: () =>
        this.perform('sync', name(), () => this.disk.settle(inode, 1)).catch((error: unknown) => {
          this.disk.settle(inode, 0.5);
          throw error;
        }),
      close: () => this.perform(undefined, '', () => undefined),
    };
  }

  /**
   * Takes some time, and perhaps fails. Its effect happens in one step; after a power cut there is no effect, and it
   * never ends.
   */
  private async perform<T>(operation: DiskOperation | undefined, name: string, effect: () => T): Promise<T> {
    const { disk } = this;
    for (let wait = this.random.below(4); wait >= 0; wait--) await undefined;
    if (operation !== undefined && this.life === disk.life) disk.before(++disk.operations);
    if (this.life !== disk.life) await new Promise(() => undefined);
    const error = operation === undefined ? undefined : disk.fails(operation, name);
    if (error !== undefined) throw failure(error, operation!, name);
    return effect();
  }
}

function enlarged(bytes: Uint8Array, length: number): Uint8Array {
  const larger = new Uint8Array(length);
  larger.set(bytes);
  return larger;
}

function failure(code: string, syscall: string, path: string): Error {
  return Object.assign(new Error(`${code}: simulated, ${syscall} '${path}'`), { code, syscall });
}
