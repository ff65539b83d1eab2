// Several `jitpaxos keys` commands at once, and key files that are links or belong to the user of a service.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  chownSync,
  existsSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import type { KeyFile } from '../../src/host/key-file.js';
import { bootId, FileLock } from '../../src/storage/directory-lock.js';
import { jitpaxos, type Ended } from '../cluster/processes.js';

const AT_ONCE = 8;
const REPLICA_KEYS = 'replica.keys';

/** A directory with a new cluster file and its key files. */
async function home(t: Test): Promise<string> {
  const cwd = mkdtempSync(join(tmpdir(), 'jitpaxos-keys-'));
  t.teardown(() => rmSync(cwd, { recursive: true, force: true }));
  const ended = await jitpaxos(['init', '--replicas', '127.0.0.1:7400'], { cwd });
  t.equal(ended.code, 0, ended.stderr);
  return cwd;
}

const keysIn = (cwd: string): KeyFile => JSON.parse(readFileSync(join(cwd, REPLICA_KEYS), 'utf8')) as KeyFile;
const idsIn = (cwd: string): number[] => keysIn(cwd).keys.map(({ id }) => id);
const keys = (cwd: string, ...args: string[]): Promise<Ended> => jitpaxos(['keys', ...args, '--json'], { cwd });

async function add(t: Test, cwd: string, ...args: string[]): Promise<number> {
  const ended = await keys(cwd, 'add', ...args);
  t.equal(ended.code, 0, ended.stderr);
  return (JSON.parse(ended.stdout) as { added: number }).added;
}

t.test(`${AT_ONCE} keys are added at once: all are in the file`, async (t) => {
  const cwd = await home(t);
  const before = idsIn(cwd);
  const added = await Promise.all(Array.from({ length: AT_ONCE }, () => add(t, cwd)));
  t.same(idsIn(cwd).sort(), [...before, ...added].sort());
  for (const id of added) t.equal(existsSync(join(cwd, `client-${id}.keys`)), true);
  t.same(
    readdirSync(cwd).filter((name) => name.startsWith(`${REPLICA_KEYS}.`)),
    [],
    'no lock is left',
  );
});

t.test('a key that is removed while others are added stays removed', async (t) => {
  const cwd = await home(t);
  const stolen = await Promise.all([add(t, cwd), add(t, cwd)]);
  const added: number[] = [];
  for (const id of stolen) {
    const adding = Array.from({ length: 3 }, () => add(t, cwd));
    const removed = await keys(cwd, 'remove', String(id));
    t.equal(removed.code, 0, removed.stderr);
    added.push(...(await Promise.all(adding)));
  }
  const present = idsIn(cwd);
  for (const id of stolen) t.notOk(present.includes(id), `${id} is gone`);
  for (const id of added) t.ok(present.includes(id), `${id} is there`);
});

t.test('the lock: one holder, and that of a dead process is taken over', async (t) => {
  const cwd = await home(t);
  const path = join(cwd, REPLICA_KEYS);
  const held = FileLock.acquire(path, 0);
  t.ok(held instanceof FileLock);
  t.match(FileLock.acquire(path, 30), { pid: process.pid }, 'this process holds it');
  if (held instanceof FileLock) held.release();
  t.equal(existsSync(FileLock.of(path)), false);

  const dead = spawn(process.execPath, ['-e', '']);
  await once(dead, 'exit');
  const left = { pid: dead.pid, started: '1', boot: bootId() };
  for (const content of [JSON.stringify(left), '']) {
    writeFileSync(FileLock.of(path), content);
    const id = await add(t, cwd);
    t.ok(idsIn(cwd).includes(id));
    t.equal(existsSync(FileLock.of(path)), false);
  }
});

t.test('a link is followed, not replaced, and shares the lock of its file', async (t) => {
  const cwd = await home(t);
  mkdirSync(join(cwd, 'real'));
  const target = join(cwd, 'real', 'keys');
  renameSync(join(cwd, REPLICA_KEYS), target);
  symlinkSync(join('real', 'keys'), join(cwd, REPLICA_KEYS));
  const added = await Promise.all([
    add(t, cwd),
    add(t, cwd),
    add(t, cwd, '--keys', target),
    add(t, cwd, '--keys', target),
  ]);
  t.equal(lstatSync(join(cwd, REPLICA_KEYS)).isSymbolicLink(), true);
  const present = (JSON.parse(readFileSync(target, 'utf8')) as KeyFile).keys.map(({ id }) => id);
  for (const id of added) t.ok(present.includes(id));
  const use = await keys(cwd, 'use', String(await add(t, cwd, '--role', 'replica')));
  t.equal(use.code, 0, use.stderr);
  t.equal(lstatSync(join(cwd, REPLICA_KEYS)).isSymbolicLink(), true);
});

t.test('a changed file keeps its user, who runs the service, and its mode', async (t) => {
  const cwd = await home(t);
  const path = join(cwd, REPLICA_KEYS);
  if (process.geteuid?.() === 0) chownSync(path, 1001, 1001); // others cannot give files away, and keep their own
  const { uid, gid } = statSync(path);
  await add(t, cwd);
  t.match(statSync(path), { uid, gid, mode: 0o100600 });
});
