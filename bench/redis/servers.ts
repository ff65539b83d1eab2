/**
 * The servers of bench:redis: Redis, Redis with two replicas, and a cluster with the front end before it. All listen on
 * loopback and keep nothing on disk. None outlives this process.
 */
import { spawn, spawnSync, type ChildProcess } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer, type AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { CliError } from '../../src/console/exit.js';
import { withoutSettings } from '../../src/console/settings.js';
import { LocalCluster, MAIN } from '../../src/measure/local-cluster.js';

const READY_MS = 30_000;
const LOOK_MS = 20;
const SAID_CHARACTERS = 16_000;
const REPLICAS = 2;
const PORT_ATTEMPTS = 3;

/** Throws CliError `worker-failed` if a program is not installed. */
export function checkInstalled(...programs: readonly string[]): void {
  const missing = programs.filter((program) => !runs(program, '--version'));
  if (missing.length > 0)
    throw new CliError(
      'worker-failed',
      `${missing.join(' and ')} ${missing.length === 1 ? 'is' : 'are'} not installed, and this compares with Redis; install it (Debian: apt-get install redis-server redis-tools)`,
    );
}

function runs(program: string, ...args: readonly string[]): boolean {
  const { error, status } = spawnSync(program, args, { stdio: 'ignore', timeout: READY_MS });
  return error === undefined && status === 0;
}

/** One process of a server. */
export class Server implements AsyncDisposable {
  said = '';
  private isGone = false;
  private readonly ended: Promise<void>;
  private readonly kill = (): void => {
    if (!this.isGone) this.child.kill('SIGKILL');
  };

  private constructor(
    private readonly child: ChildProcess,
    private readonly what: string,
  ) {
    const take = (text: string): void => void (this.said = (this.said + text).slice(-SAID_CHARACTERS));
    child.stdout!.setEncoding('utf8').on('data', take);
    child.stderr!.setEncoding('utf8').on('data', take);
    this.ended = new Promise((resolve) => {
      child.once('close', () => {
        this.isGone = true;
        resolve();
      });
      child.once('error', (error) => {
        take(error.message);
        this.isGone = true;
        resolve();
      });
    });
    process.once('exit', this.kill);
  }

  /** Resolves when it has said what it says when it serves. Throws CliError `worker-failed` with its own words. */
  static async start(what: string, command: readonly string[], isReady: (said: string) => boolean): Promise<Server> {
    // The kernel ends it with this process, where there is the tool to ask for that.
    const [file, ...args] = [
      ...(runs('setpriv', '--version') ? ['setpriv', '--pdeathsig', 'KILL', '--'] : []),
      ...command,
    ];
    // Detached: Ctrl-C on the terminal is for this process.
    const child = spawn(file!, args, {
      stdio: ['ignore', 'pipe', 'pipe'],
      detached: true,
      env: withoutSettings(process.env),
    });
    const server = new Server(child, what);
    const until = performance.now() + READY_MS;
    while (!isReady(server.said)) {
      if (server.isGone || performance.now() > until) {
        const why = server.isGone ? 'ended before it was ready' : `was not ready within ${READY_MS / 1000} s`;
        await server[Symbol.asyncDispose]();
        throw server.failure(why);
      }
      await sleep(LOOK_MS);
    }
    return server;
  }

  get pid(): number {
    return this.child.pid!;
  }

  /** Throws CliError `worker-failed` if it has ended. */
  check(): void {
    if (this.isGone) throw this.failure('has ended');
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.kill();
    await this.ended;
    process.removeListener('exit', this.kill);
  }

  private failure(why: string): CliError {
    const last = this.said.trim().split('\n').at(-1) ?? '';
    return new CliError(
      'worker-failed',
      `${this.what} ${why}${last === '' ? '' : `: ${last}`}; run it by hand to see more`,
    );
  }
}

/** What a load connects to. */
export interface Peer extends AsyncDisposable {
  readonly port: number;
  /** Of all its processes. */
  readonly pids: readonly number[];
  /** Throws CliError `worker-failed` if one of its processes has ended. */
  check(): void;
}

/** A port of loopback on which nobody listens now. */
export async function freeTcpPort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  await new Promise((resolve) => server.close(resolve));
  return port;
}

/** @param root of its directory: two servers in one would take each other's files */
async function startRedis(root: string, ...settings: readonly string[]): Promise<{ server: Server; port: number }> {
  const directory = mkdtempSync(join(root, 'server-'));
  for (let attempt = 1; ; attempt++) {
    const port = await freeTcpPort();
    const fixed = [
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
    ];
    try {
      const server = await Server.start('redis-server', ['redis-server', ...fixed, ...settings], (said) =>
        said.includes('Ready to accept connections'),
      );
      return { server, port };
    } catch (error) {
      // Another process may have taken the port meanwhile.
      if (attempt === PORT_ATTEMPTS) throw error;
    }
  }
}

class RedisPeer implements Peer {
  readonly servers: Server[] = [];
  port = 0;
  private readonly directory = mkdtempSync(join(tmpdir(), 'jitpaxos-bench-redis-'));
  private readonly removeAll = (): void => rmSync(this.directory, { recursive: true, force: true });

  constructor() {
    process.once('exit', this.removeAll);
  }

  get pids(): number[] {
    return this.servers.map(({ pid }) => pid);
  }

  get directoryPath(): string {
    return this.directory;
  }

  check(): void {
    for (const server of this.servers) server.check();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all(this.servers.map((server) => server[Symbol.asyncDispose]()));
    this.removeAll();
    process.removeListener('exit', this.removeAll);
  }
}

/** One Redis, alone or as the primary of others that have all of its data. */
export async function startRedisPeer(replicas: 0 | typeof REPLICAS): Promise<Peer> {
  const peer = new RedisPeer();
  try {
    const { server, port } = await startRedis(peer.directoryPath, '--repl-diskless-sync-delay', '0');
    peer.servers.push(server);
    peer.port = port;
    for (let i = 0; i < replicas; i++) {
      const replica = await startRedis(peer.directoryPath, '--replicaof', `127.0.0.1 ${port}`);
      peer.servers.push(replica.server);
    }
    const until = performance.now() + READY_MS;
    while (peer.servers.slice(1).some(({ said }) => !said.includes('Finished with success'))) {
      peer.check();
      if (performance.now() > until)
        throw new CliError(
          'worker-failed',
          `a Redis replica did not follow its primary within ${READY_MS / 1000} s; run again`,
        );
      await sleep(LOOK_MS);
    }
    return peer;
  } catch (error) {
    await peer[Symbol.asyncDispose]();
    throw error;
  }
}

/** A cluster of three in memory, with the features that Redis clients need. */
export function startCluster(): Promise<LocalCluster> {
  return LocalCluster.start({
    replicas: 3,
    machine: 'kv',
    transport: 'auto',
    durability: 'memory',
    features: ['session-quotas', 'membership', 'store', 'redis'],
  });
}

/** `jitpaxos redis` before a cluster. @param nodeFlags for Node itself, before the program */
export async function startFrontEnd(cluster: LocalCluster, nodeFlags: readonly string[] = []): Promise<Peer> {
  const server = await Server.start(
    'jitpaxos redis',
    [
      process.execPath,
      ...nodeFlags,
      MAIN,
      'redis',
      '--cluster',
      cluster.clusterFile,
      '--listen',
      '127.0.0.1:0',
      '--log-format',
      'json',
    ],
    (said) => said.includes('"redis.serving"') && /^ready \{.*\}$/m.test(said),
  );
  const { port } = JSON.parse(/^ready (\{.*\})$/m.exec(server.said)![1]!) as { port: number };
  return {
    port,
    pids: [server.pid, ...cluster.replicas.map(({ child }) => child.pid!)],
    check: () => {
      server.check();
      const gone = cluster.replicas.find(({ exited }) => exited);
      if (gone !== undefined) throw new CliError('worker-failed', `replica ${gone.id} has ended; run again`);
    },
    [Symbol.asyncDispose]: () => server[Symbol.asyncDispose](),
  };
}
