// One data directory in two containers: pids of the one say nothing in the other.
import { spawn, spawnSync, type ChildProcess } from 'node:child_process';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createServer } from 'node:net';
import t, { type Test } from 'tap';
import { DirectoryLock, lockHolder } from '../../src/storage/directory-lock.js';
import { LifeSign } from '../../src/storage/life-sign.js';

/** A pid namespace with a /proc of its own, as a container has. */
const CONTAINER = [[], ['-r']]
  .map((flags) => [...flags, '--pid', '--fork', '--mount-proc', '--kill-child=SIGKILL'])
  .find((flags) => spawnSync('unshare', [...flags, 'true']).status === 0);
const skip = CONTAINER === undefined ? 'no pid namespace can be had here (unshare --pid)' : false;
const MODULE = new URL('../../src/storage/directory-lock.js', import.meta.url).href;

function directory(t: Test): string {
  const path = mkdtempSync(join(tmpdir(), 'jitpaxos-containers-'));
  t.teardown(() => rmSync(path, { recursive: true, force: true }));
  return path;
}

/** Takes the lock in a container and says so, or why not. Ends when it is killed, or releases on a line of input. */
async function container(
  t: Test,
  path: string,
): Promise<{ child: ChildProcess; said: string; end: (how: 'kill' | 'release') => Promise<void> }> {
  const program = `const { DirectoryLock } = await import(${JSON.stringify(MODULE)});
    try { const lock = DirectoryLock.acquire(${JSON.stringify(path)}); console.log('locked by ' + process.pid); process.stdin.once('data', () => { lock.release(); process.exit(); }); }
    catch (error) { console.log(error.code + ': ' + error.message); process.exit(); }`;
  const child = spawn('unshare', [...CONTAINER!, process.execPath, '--input-type=module', '-e', program], {
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  const exited = new Promise<void>((resolve) => child.once('exit', () => resolve()));
  t.teardown(() => child.kill('SIGKILL'));
  const said = await new Promise<string>((resolve) =>
    child.stdout!.once('data', (data: Buffer) => resolve(data.toString().trim())),
  );
  const end = async (how: 'kill' | 'release'): Promise<void> => {
    if (how === 'kill') child.kill('SIGKILL');
    else child.stdin!.write('\n');
    await exited;
  };
  return { child, said, end };
}

/** Until it succeeds: the kernel ends a killed container a moment after its first process. */
async function eventually<T>(attempt: () => Promise<T | undefined>): Promise<T> {
  for (;;) {
    const result = await attempt();
    if (result !== undefined) return result;
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

for (const [length, below] of [
  ['short', 'data'],
  ['long', join('x'.repeat(100), 'data')],
] as const) {
  t.test(`a directory with a ${length} path`, { skip }, async (t) => {
    const path = join(directory(t), below);
    const first = await container(t, path);
    t.match(first.said, /^locked by 1$/, 'its pid is 1, as in every container');
    const second = await container(t, path);
    t.match(
      second.said,
      /^data-directory-locked: .* is in use by process 1 of another container; stop that replica first/,
    );
    t.throws(
      () => DirectoryLock.acquire(path),
      { code: 'data-directory-locked', message: /by process 1 of another container;/ },
      'nor is it free outside',
    );
    t.equal(lockHolder(path), 1);
    t.same(readdirSync(path).filter((name) => name !== 'lock').length, 1, 'those who were refused left nothing');
    await first.end('kill');
    const third = await eventually(async () => {
      const next = await container(t, path);
      return next.said.startsWith('locked') ? next : undefined;
    });
    t.match(third.said, /^locked by 1$/, "that of a dead container is taken over without anybody's help");
    await third.end('release');
    t.same(readdirSync(path), [], 'nothing is left');
  });
}

t.test('a life sign that this host did not come to ask is not called unknown', { skip }, async (t) => {
  const path = directory(t);
  const first = await container(t, path);
  const { lifeSign } = JSON.parse(readFileSync(join(path, 'lock'), 'utf8')) as { lifeSign: string };
  t.equal(LifeSign.of(path, lifeSign), 'alive');
  t.equal(LifeSign.of(path, lifeSign, 1), 'unasked', 'no process starts within a millisecond');
  const { of } = LifeSign;
  LifeSign.of = (directory, name) => of(directory, name, 1);
  t.teardown(() => (LifeSign.of = of));
  t.throws(() => DirectoryLock.acquire(path), {
    code: 'data-directory-locked',
    message:
      /was in use by process 1 of another container, and this host is too busy to ask whether that is alive; try again$/,
  });
  await first.end('kill');
});

t.test('a container that stands still is alive', { skip }, async (t) => {
  const path = directory(t);
  const first = await container(t, path);
  const inner = spawnSync('ps', ['-o', 'pid=', '--ppid', String(first.child.pid)], { encoding: 'utf8' }).stdout.trim();
  process.kill(Number(inner), 'SIGSTOP');
  t.throws(() => DirectoryLock.acquire(path), {
    code: 'data-directory-locked',
    message: /is in use by process 1 of another container/,
  });
  await first.end('kill');
});

t.test('a lock of another namespace that says nothing of itself is not taken over', async (t) => {
  const path = directory(t);
  mkdirSync(path, { recursive: true });
  const boot = readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim();
  const holder = { pid: 1, started: '1', boot, namespace: 'pid:[1]' };
  const found =
    /was in use by process 1 of another container \(pid:\[1\]\), and nothing here says whether that is alive; .* delete .*lock$/;
  for (const lock of [holder, { ...holder, lifeSign: 'lock.alive.0123456789ab' }]) {
    writeFileSync(join(path, 'lock'), JSON.stringify(lock));
    t.throws(() => DirectoryLock.acquire(path), { code: 'data-directory-locked', message: found });
  }
  const server = createServer().listen(join(path, 'lock.alive.0123456789ab'));
  t.throws(() => DirectoryLock.acquire(path), {
    code: 'data-directory-locked',
    message: /is in use by process 1 of another container;/,
  });
  await new Promise((resolve) => server.close(resolve));
  for (const free of [
    { ...holder, boot: 'before' },
    { ...holder, namespace: '' },
    { ...holder, lifeSign: '../other' },
  ]) {
    writeFileSync(join(path, 'lock'), JSON.stringify(free));
    t.doesNotThrow(() => DirectoryLock.acquire(path).release(), JSON.stringify(free));
  }
  t.same(readdirSync(path), []);
});
