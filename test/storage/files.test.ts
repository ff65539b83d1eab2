/**
 * The files of a real directory, where they have to keep what the disk in memory of the other tests takes for granted.
 */
import fs, { closeSync, mkdtempSync, openSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { syncBuiltinESMExports } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { DirectoryFiles, readBytes, UnreadableError } from '../../src/storage/files.js';
import { O_DSYNC, openFlags } from './open-flags.js';

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

t.test('a file that the disk does not return as a whole is never taken for a shorter one', async (t) => {
  const directory = mkdtempSync(join(tmpdir(), 'jitpaxos-files-'));
  t.teardown(() => rmSync(directory, { recursive: true, force: true }));
  const files = new DirectoryFiles(directory);
  const path = join(directory, 'file');
  const PAGE = 4096;
  writeFileSync(path, Buffer.alloc(5 * PAGE, 7));
  t.same(await files.read('file'), Buffer.alloc(5 * PAGE, 7));
  t.equal((await new DirectoryFiles('/').read('nowhere')) ?? 'none', 'none');

  // A disk of which the fourth page cannot be read: the kernel returns what is before it, and then the error.
  const { read } = fs;
  t.teardown(() => {
    fs.read = read;
    syncBuiltinESMExports();
  });
  type Done = (error: NodeJS.ErrnoException | null, count: number, bytes: Uint8Array) => void;
  const withPage = (fourth: (done: Done, into: Uint8Array) => void): void => {
    const faulty = (fd: number, into: Uint8Array, offset: number, length: number, at: number, done: Done): void => {
      if (at >= 3 * PAGE) fourth(done, into);
      else read(fd, into, offset, Math.min(length, 3 * PAGE - at), at, done);
    };
    fs.read = faulty as unknown as typeof read;
    syncBuiltinESMExports();
  };
  const failure = (code: string): NodeJS.ErrnoException =>
    Object.assign(new Error(`${code}: simulated, read`), { code });
  for (const code of ['EIO', 'EUCLEAN', 'EBADMSG']) {
    withPage((done, into) => done(failure(code), 0, into));
    const error: unknown = await files.read('file').catch((error: unknown) => error);
    t.type(error, UnreadableError);
    t.match(error, { code: 'data-directory-unusable', offset: 3 * PAGE, cause: { code } });
    t.match(
      (error as Error).message,
      `${path} cannot be read at byte ${3 * PAGE} (${code}: simulated, read); check the disk`,
    );
  }
  withPage((done, into) => done(failure('ENOMEM'), 0, into));
  const other: unknown = await files.read('file').catch((error: unknown) => error);
  t.notOk(other instanceof UnreadableError, 'it says nothing about the bytes');
  t.match(other, { code: 'ENOMEM' });
  withPage((done, into) => done(null, 0, into));
  await t.rejects(files.read('file'), {
    code: 'data-directory-unusable',
    message: `${path} ends at byte ${3 * PAGE} and had ${5 * PAGE} bytes when it was opened`,
  });
});

t.test('the kernel refuses a page: what readFile of Node 20 takes for the end of the file', async (t) => {
  if (process.platform !== 'linux') return;
  // Nothing of this process is at address 0.
  const descriptor = openSync('/proc/self/mem', 'r');
  t.teardown(() => closeSync(descriptor));
  await t.rejects(readBytes(descriptor, 'mem', 4096), {
    code: 'data-directory-unusable',
    offset: 0,
    cause: { code: 'EIO' },
  });
});
