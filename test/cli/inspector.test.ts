// SIGUSR1 opens Node's inspector in a process without a handler: at a port of loopback, for every user of the host.
import { spawn, type ChildProcess } from 'node:child_process';
import { mkdtempSync, readFileSync, readdirSync, readlinkSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import t, { type Test } from 'tap';
import { StatusClient } from '../../src/client/status-client.js';
import { MAIN } from '../cluster/processes.js';
import { clusterConfig } from '../server/fixtures.js';

const LINUX = process.platform === 'linux' ? false : 'needs /proc';

/** Inodes of TCP sockets that listen. */
function listening(): Set<string> {
  const rows = ['tcp', 'tcp6'].flatMap((table) => {
    try {
      return readFileSync(`/proc/net/${table}`, 'utf8').split('\n').slice(1);
    } catch {
      return []; // a kernel without IPv6
    }
  });
  return new Set(rows.map((row) => row.trim().split(/\s+/)).flatMap((row) => (row[3] === '0A' ? [row[9]!] : [])));
}

/** How many TCP sockets of this process listen. */
function listeners(pid: number): number {
  const inodes = listening();
  return readdirSync(`/proc/${pid}/fd`).filter((fd) => {
    try {
      return inodes.has(/^socket:\[(\d+)\]$/.exec(readlinkSync(`/proc/${pid}/fd/${fd}`))?.[1] ?? '');
    } catch {
      return false; // closed meanwhile
    }
  }).length;
}

/** Starts a script of Node and waits for its first line. */
async function start(t: Test, args: readonly string[]): Promise<{ child: ChildProcess; stderr: () => string }> {
  const child = spawn(process.execPath, [...args], { stdio: ['ignore', 'pipe', 'pipe'] });
  const ended = new Promise<void>((resolve) => child.once('exit', () => resolve()));
  t.teardown(async () => {
    child.kill('SIGKILL');
    await ended;
  });
  let stderr = '';
  child.stderr.setEncoding('utf8').on('data', (text: string) => (stderr += text));
  await new Promise<void>((resolve, reject) => {
    child.stdout.once('data', () => resolve());
    child.once('exit', () => reject(new Error(`it ended: ${stderr}`)));
  });
  child.stdout.resume();
  return { child, stderr: () => stderr };
}

/** Sends the signal again and again. True as soon as the inspector is there, false if it does not come. */
async function opensInspector(child: ChildProcess, stderr: () => string): Promise<boolean> {
  for (let attempt = 0; attempt < 40; attempt++) {
    child.kill('SIGUSR1');
    await sleep(50);
    if (/debugger|inspector/i.test(stderr()) || listeners(child.pid!) > 0) return true;
  }
  return false;
}

t.test('SIGUSR1 opens no inspector', { skip: LINUX }, async (t) => {
  const directory = mkdtempSync(join(tmpdir(), 'jitpaxos-inspector-'));
  t.teardown(() => rmSync(directory, { recursive: true, force: true }));
  const clusterFile = join(directory, 'cluster.json');
  const cluster = await clusterConfig(1);
  writeFileSync(clusterFile, JSON.stringify(cluster));

  // A plain process of Node opens it, so this test would see it.
  const plain = await start(t, ['-e', 'console.log("up"); setInterval(() => undefined, 1000)']);
  t.equal(await opensInspector(plain.child, plain.stderr), true, 'a process without a handler');
  plain.child.kill('SIGKILL');

  const replica = await start(t, [MAIN, 'replica', '--cluster', clusterFile, '--id', '0']);
  const client = await start(t, [MAIN, 'top', '--cluster', clusterFile, '--interval', '100ms', '--json']);
  // A client process of a bench says that it is up when it listens to its parent.
  const saysUp = `process.on('newListener', (event) => event === 'message' && console.log('up')); setInterval(() => undefined, 1000);`;
  const worker = await start(t, [
    '--import',
    `data:text/javascript,${encodeURIComponent(saysUp)}`,
    fileURLToPath(new URL('../../src/measure/load/worker.js', import.meta.url)),
  ]);
  for (const [what, { child, stderr }] of Object.entries({ replica, client, worker }))
    t.equal(await opensInspector(child, stderr), false, what);
  await using status = await StatusClient.open({ cluster });
  const [answer] = await status.ask(30_000);
  t.equal(answer!.report?.pid, replica.child.pid, 'the replica lives and answers');
  t.same([replica.child.exitCode, client.child.exitCode], [null, null]);
});
