/** The Redis front ends of a chaos run: processes at ports that stay the same, killed and started again. */
import { spawn, type ChildProcess } from 'node:child_process';
import { createServer } from 'node:net';
import { withoutSettings } from '../../../src/console/settings.js';
import { MAIN } from '../../../src/measure/local-cluster.js';
import type { Random } from '../../../src/sim/random.js';

/**
 * Ports that the kernel does not give to outgoing connections: a client that connects again and again to a dead front
 * end could else be given that very port, and be connected to itself.
 */
const PORT_MIN = 20_000;
const PORT_MAX = 29_999;
const READY_TIMEOUT_MS = 30_000;
const LAST_WORDS_CHARACTERS = 4_000;

export class FrontEnds {
  readonly ports: number[] = [];
  /** Front ends that ended although they were not killed, with their last words. */
  readonly fallen: string[] = [];
  private readonly children: ChildProcess[] = [];
  private readonly killed = new Set<ChildProcess>();
  private readonly killAll = (): void => {
    for (const child of this.children) this.end(child);
  };

  private constructor(private readonly clusterFile: string) {
    process.once('exit', this.killAll);
  }

  /** Starts `count` front ends, and waits until all listen. */
  static async start(clusterFile: string, count: number, random: Random): Promise<FrontEnds> {
    const frontEnds = new FrontEnds(clusterFile);
    while (frontEnds.ports.length < count) {
      const port = random.between(PORT_MIN, PORT_MAX);
      if (!frontEnds.ports.includes(port) && (await isFree(port))) frontEnds.ports.push(port);
    }
    await Promise.all(frontEnds.ports.map((_, id) => frontEnds.spawn(id)));
    return frontEnds;
  }

  /** Starts a front end (again), and resolves when it listens. */
  async spawn(id: number): Promise<void> {
    const child = spawn(
      process.execPath,
      [
        ...[MAIN, 'redis', '--cluster', this.clusterFile, '--listen', `127.0.0.1:${this.ports[id]!}`],
        ...['--log-level', 'error', '--log-format', 'text'],
      ],
      { stdio: ['ignore', 'pipe', 'pipe'], detached: true, env: withoutSettings(process.env) },
    );
    this.children[id] = child;
    let said = '';
    child.stderr.setEncoding('utf8').on('data', (text: string) => (said = (said + text).slice(-LAST_WORDS_CHARACTERS)));
    child.once('exit', (code, signal) => {
      if (!this.killed.has(child))
        this.fallen.push(`front end ${id} ended with ${signal ?? `exit code ${code}`}: ${said.trim()}`);
    });
    await new Promise<void>((resolve, reject) => {
      const timer = setTimeout(
        () => reject(new Error(`front end ${id} was not ready within ${READY_TIMEOUT_MS / 1000} s: ${said}`)),
        READY_TIMEOUT_MS,
      );
      child.stdout.once('data', () => {
        clearTimeout(timer);
        resolve();
      });
      child.once('exit', () => {
        clearTimeout(timer);
        reject(new Error(`front end ${id} did not start: ${said}`));
      });
    });
  }

  pid(id: number): number {
    return this.children[id]!.pid!;
  }

  /** SIGKILL; resolves when it is gone. */
  async kill(id: number): Promise<void> {
    const child = this.children[id]!;
    const gone = new Promise<void>((resolve) => child.once('exit', () => resolve()));
    this.end(child);
    await gone;
  }

  /** Ends all of them. */
  close(): void {
    process.removeListener('exit', this.killAll);
    this.killAll();
  }

  private end(child: ChildProcess): void {
    this.killed.add(child);
    child.kill('SIGKILL');
  }
}

async function isFree(port: number): Promise<boolean> {
  const server = createServer();
  return new Promise((resolve) => {
    server.once('error', () => resolve(false));
    server.listen(port, '127.0.0.1', () => server.close(() => resolve(true)));
  });
}
