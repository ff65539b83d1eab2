/** Debian's Redis, as the tests use it: a server of its own for a test, on a free port of loopback, gone with the test. */
import { spawn, spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Test } from 'tap';
import { freeTcpPort } from '../../bench/redis/servers.js';

export const has = (command: string, ...args: string[]): boolean => {
  const { error, status } = spawnSync(command, args, { timeout: 60_000, stdio: 'ignore' });
  return error === undefined && status === 0;
};

/** Why a test of it is skipped; false: it is here. */
export const REDIS_MISSING: string | false =
  has('redis-server', '--version') && has('redis-cli', '--version')
    ? false
    : 'redis-server and redis-cli are not here: apt-get install redis-server redis-tools';

/** Starts a server that keeps nothing on disk. @returns its port */
export async function startRedis(t: Test, ...settings: string[]): Promise<number> {
  const port = await freeTcpPort();
  const directory = mkdtempSync(join(tmpdir(), 'jitpaxos-redis-'));
  const child = spawn(
    'redis-server',
    [
      '--port',
      String(port),
      '--bind',
      '127.0.0.1',
      '--dir',
      directory,
      '--save',
      '',
      '--appendonly',
      'no',
      ...settings,
    ],
    { stdio: ['ignore', 'pipe', 'inherit'] },
  );
  // If the test is ended from outside, the server has to go too.
  const kill = (): void => void child.kill('SIGKILL');
  process.once('exit', kill);
  const ended = new Promise((resolve) => child.once('exit', resolve));
  t.teardown(async () => {
    kill();
    await ended;
    process.off('exit', kill);
    rmSync(directory, { recursive: true, force: true });
  });
  let log = '';
  await new Promise<void>((resolve, reject) => {
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      log += text;
      if (log.includes('Ready to accept connections')) resolve();
    });
    child.once('error', reject);
    child.once('exit', () => reject(new Error(`redis-server ended:\n${log}`)));
  });
  return port;
}
