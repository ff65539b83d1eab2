/**
 * Load on the host in a chaos run: processes that only compute, a few at a time and for a bounded time. Each ends by
 * itself, whatever happens to this process, and all are stopped by their pid when their time is up.
 */
import { spawn, type ChildProcess } from 'node:child_process';

/** At once. */
export const BUSY_MAX = 4;
/** What a process may compute at most, ms; it needs some to start. */
const LIFE_MS_MAX = 5_000;
const PROGRAM = `const until = performance.now() + ${LIFE_MS_MAX}; while (performance.now() < until);`;

export class Busy {
  private readonly running = new Set<ChildProcess>();
  private readonly stopAll = (): void => {
    for (const child of this.running) child.kill('SIGKILL');
  };

  constructor() {
    process.once('exit', this.stopAll);
  }

  /** Keeps `count` processes busy, and returns when they have ended after `ms`. */
  async run(count: number, ms: number): Promise<void> {
    const ended = Array.from({ length: Math.min(count, BUSY_MAX - this.running.size) }, () => {
      const child = spawn(process.execPath, ['-e', PROGRAM], { stdio: 'ignore' });
      this.running.add(child);
      return new Promise<void>((resolve) => {
        const end = (): void => {
          this.running.delete(child);
          resolve();
        };
        child.once('exit', end).once('error', end);
      });
    });
    await new Promise((resolve) => setTimeout(resolve, Math.min(ms, LIFE_MS_MAX)));
    this.stopAll();
    await Promise.all(ended);
  }

  close(): void {
    this.stopAll();
    process.removeListener('exit', this.stopAll);
  }
}
