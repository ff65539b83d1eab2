/** The processes of bench:locks that take a lock, and what they have told so far. None outlives this process. */
import { fork, type ChildProcess } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { CliError } from '../../src/console/exit.js';
import type { HolderReport, HolderSetup } from './holder.js';

const PROGRAM = fileURLToPath(new URL('holder.js', import.meta.url));
const READY_MS = 60_000;

export class Holder {
  readonly child: ChildProcess;
  isStopped = false;
  private isGone = false;
  private readonly ready: Promise<void>;

  constructor(setup: HolderSetup, heard: (report: HolderReport, from: Holder) => void) {
    this.child = fork(PROGRAM, [JSON.stringify(setup)], { stdio: ['ignore', 'ignore', 'inherit', 'ipc'] });
    this.ready = new Promise((resolve, reject) => {
      const late = setTimeout(
        () => reject(new CliError('replica-not-ready', `a holder was not ready within ${READY_MS / 1000} s`)),
        READY_MS,
      );
      this.child.on('message', (report: HolderReport) => {
        if (report.kind === 'ready') resolve();
        heard(report, this);
      });
      this.child.on('exit', () => {
        this.isGone = true;
        reject(new CliError('replica-not-ready', 'a holder ended before it was ready'));
      });
      this.child.on('exit', () => clearTimeout(late));
      this.child.on('message', () => clearTimeout(late));
    });
    this.ready.catch(() => undefined);
  }

  waitReady(): Promise<void> {
    return this.ready;
  }

  signal(signal: 'SIGSTOP' | 'SIGCONT' | 'SIGKILL'): void {
    if (this.isGone) return;
    this.child.kill(signal);
    if (signal === 'SIGKILL') this.isGone = true;
    else this.isStopped = signal === 'SIGSTOP';
  }

  [Symbol.dispose](): void {
    this.signal('SIGKILL');
  }
}
