/**
 * The files of a real directory, where they have to keep what the disk in memory of the other tests takes for granted.
 */
import { mkdtempSync, readdirSync, readFileSync, readlinkSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { DirectoryFiles } from '../../src/storage/files.js';

/** Linux, O_DSYNC: of O_SYNC it is the part that waits for the data. */
const O_DSYNC = 0o10000;

/** How this process has a file open: the flags of each of its descriptors. Source: proc_pid_fdinfo(5). */
function openFlags(path: string): number[] {
  const flags: number[] = [];
  for (const descriptor of readdirSync('/proc/self/fd')) {
    let target = '';
    try {
      target = readlinkSync(`/proc/self/fd/${descriptor}`);
    } catch {
      continue; // that of the listing itself
    }
    if (target === path)
      flags.push(
        parseInt(/^flags:\s*([0-7]+)$/m.exec(readFileSync(`/proc/self/fdinfo/${descriptor}`, 'utf8'))![1]!, 8),
      );
  }
  return flags;
}

t.test('a file that is written through', async (t) => {
  const directory = mkdtempSync(join(tmpdir(), 'jitpaxos-files-'));
  t.teardown(() => rmSync(directory, { recursive: true, force: true }));
  const files = new DirectoryFiles(directory);
  const path = join(directory, 'file');
  const made = await files.create('file');
  await made.write(Buffer.from('0123456789'), 10, 0);
  if (process.platform === 'linux')
    t.same(
      openFlags(path).map((flags) => flags & O_DSYNC),
      [0],
      'not while it is filled',
    );
  await made.close();
  const through = await files.openThrough('file');
  if (process.platform === 'linux')
    t.same(
      openFlags(path).map((flags) => flags & O_DSYNC),
      [O_DSYNC],
      'the kernel syncs each write',
    );
  await through.write(Buffer.from('abcdef'), 3, 4);
  await through.sync();
  t.equal(readFileSync(path, 'latin1'), '0123abc789', 'what was there stays');
  await through.close();
  t.equal(process.platform === 'linux' ? openFlags(path).length : 0, 0);
  await t.rejects(files.openThrough('nowhere'), { code: 'ENOENT' }, 'and it makes none');
});
