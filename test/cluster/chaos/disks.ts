/**
 * The disks of a chaos run: a small tmpfs for each replica, which can be filled and emptied while the replica runs. The
 * kernel itself then answers ENOSPC to any write, as on a host whose disk another program has filled.
 */
import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { open, rm, statfs } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

const CHUNK_BYTES = 1 << 20;

export class Disks {
  private readonly mounted: string[] = [];
  private readonly unmountAll = (): void => {
    for (const path of this.mounted.splice(0)) {
      try {
        execFileSync('umount', ['-l', path], { stdio: 'ignore' });
      } catch {
        // It stays, empty and in memory, until the host restarts.
      }
    }
    rmSync(this.directory, { recursive: true, force: true });
  };

  private constructor(
    private readonly directory: string,
    readonly count: number,
  ) {
    process.once('exit', this.unmountAll);
  }

  /** Mounts `count` disks of `bytes`; or why that is not possible here. */
  static mount(count: number, bytes: number): Disks | string {
    const disks = new Disks(mkdtempSync(join(tmpdir(), 'jitpaxos-disks-')), count);
    try {
      for (let id = 0; id < count; id++) {
        mkdirSync(disks.path(id));
        execFileSync('mount', ['-t', 'tmpfs', '-o', `size=${bytes},mode=700`, 'tmpfs', disks.path(id)], {
          stdio: ['ignore', 'ignore', 'pipe'],
        });
        disks.mounted.push(disks.path(id));
      }
      return disks;
    } catch (error) {
      disks.close();
      return `a tmpfs cannot be mounted: ${(error as { stderr?: Buffer }).stderr?.toString().trim() ?? String(error)}`;
    }
  }

  path(id: number): string {
    return join(this.directory, `disk-${id}`);
  }

  /** Fills a disk but for `leave` bytes. */
  async fill(id: number, leave: number): Promise<void> {
    const { bavail, bsize } = await statfs(this.path(id));
    const file = await open(this.ballast(id), 'a');
    try {
      const zeros = new Uint8Array(CHUNK_BYTES);
      for (let left = bavail * bsize - leave; left > 0; left -= CHUNK_BYTES)
        await file.write(zeros, 0, Math.min(left, CHUNK_BYTES));
    } catch (error) {
      // The replica took the last of the space first.
      if ((error as NodeJS.ErrnoException).code !== 'ENOSPC') throw error;
    } finally {
      await file.close();
    }
  }

  async empty(id: number): Promise<void> {
    await rm(this.ballast(id), { force: true });
  }

  close(): void {
    process.removeListener('exit', this.unmountAll);
    this.unmountAll();
  }

  private ballast(id: number): string {
    return join(this.path(id), 'somebody-elses-file');
  }
}
