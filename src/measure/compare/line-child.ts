/**
 * The processes of a comparison, whatever their language. A child prints `ready {…}` when it is warm, waits for a line
 * on stdin, and prints its result as one line of JSON; a server prints `ready {…}` and serves. Both end when their
 * stdin does, so none outlives its parent. Every wait has a bound.
 */
import { spawn, type ChildProcess } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { CliError } from '../../console/exit.js';

const READY_TIMEOUT_MS = 60_000;
/** Allowance beyond the time that a measurement should take. */
const RESULT_TIMEOUT_MS = 30_000;
const COMPLAINT_CHARACTERS = 2_000;
const NS_PER_SECOND = 1e9;

export class LineChild {
  private readonly lines: string[] = [];
  private rest = '';
  private complaint = '';
  private ended: string | undefined;
  private wake: () => void = () => {};

  private constructor(
    private readonly child: ChildProcess,
    private readonly what: string,
  ) {
    child.stdout!.setEncoding('utf8').on('data', (text: string) => this.take(text));
    child
      .stderr!.setEncoding('utf8')
      .on('data', (text: string) => (this.complaint = (this.complaint + text).slice(-COMPLAINT_CHARACTERS)));
    child.stdin!.on('error', () => {}); // its end shows that it has gone
    child.on('error', (error) => this.end(error.message));
    child.on('close', (code, signal) => this.end(signal ?? `exit code ${code}`));
  }

  /** @param what names the process in errors */
  static start(command: string, args: readonly string[], what: string): LineChild {
    return new LineChild(spawn(command, args, { stdio: ['pipe', 'pipe', 'pipe'] }), what);
  }

  /** A compiled module of this folder, with its setup as JSON in the arguments. */
  static startModule(module: string, setup: object, what: string, nodeFlags: readonly string[] = []): LineChild {
    return LineChild.start(
      process.execPath,
      [...nodeFlags, fileURLToPath(new URL(module, import.meta.url)), JSON.stringify(setup)],
      what,
    );
  }

  get pid(): number | undefined {
    return this.child.pid;
  }

  /** The data after `ready`. Throws CliError `worker-failed` with the child's own words. */
  async ready<T>(): Promise<T> {
    const line = await this.line(READY_TIMEOUT_MS);
    if (!line.startsWith('ready ')) throw this.failure(`said "${line}" where "ready" was expected`);
    return JSON.parse(line.slice('ready '.length)) as T;
  }

  go(): void {
    this.tell('go');
  }

  /** @param line without its end */
  tell(line: string): void {
    this.child.stdin!.write(`${line}\n`);
  }

  /** @param afterMs how long it was told to work */
  async result<T>(afterMs: number): Promise<T> {
    return JSON.parse(await this.line(afterMs + RESULT_TIMEOUT_MS)) as T;
  }

  kill(signal: NodeJS.Signals = 'SIGKILL'): void {
    if (this.ended === undefined) this.child.kill(signal);
  }

  /** Resolves when it is gone; it is killed if the end of its stdin was not enough. */
  async stop(afterMs: number): Promise<void> {
    if (this.ended !== undefined) return;
    const closed = new Promise<void>((resolve) => this.child.once('close', () => resolve()));
    this.child.stdin!.end();
    const timer = setTimeout(() => this.kill(), afterMs);
    await closed;
    clearTimeout(timer);
  }

  private take(text: string): void {
    const parts = (this.rest + text).split('\n');
    this.rest = parts.pop()!;
    this.lines.push(...parts);
    this.wake();
  }

  private end(how: string): void {
    this.ended ??= how;
    this.wake();
  }

  private async line(timeoutMs: number): Promise<string> {
    const deadlineMs = performance.now() + timeoutMs;
    for (;;) {
      const line = this.lines.shift();
      if (line !== undefined) return line;
      if (this.ended !== undefined) throw this.failure(`ended with ${this.ended}`);
      const leftMs = deadlineMs - performance.now();
      if (leftMs <= 0) throw this.failure(`said nothing for ${timeoutMs / 1000} s`);
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, leftMs);
        this.wake = () => {
          clearTimeout(timer);
          resolve();
        };
      });
    }
  }

  private failure(why: string): CliError {
    const said = this.complaint.trim().split('\n').at(-1) ?? '';
    return new CliError(
      'worker-failed',
      `${this.what} ${why}${said === '' ? '' : `: ${said}`}; run again, and check the load of this host`,
    );
  }
}

/** The children of one run: all are gone at its end, and at the end of this process. */
export class Children implements AsyncDisposable {
  private readonly all: LineChild[] = [];
  private readonly killAll = (): void => this.all.forEach((child) => child.kill());

  /** @param stopTimeoutMs a child that has not ended this long after its stdin is killed */
  constructor(private readonly stopTimeoutMs = STOP_TIMEOUT_MS) {
    process.once('exit', this.killAll);
  }

  add(child: LineChild): LineChild {
    this.all.push(child);
    return child;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all(this.all.map((child) => child.stop(this.stopTimeoutMs)));
    process.removeListener('exit', this.killAll);
  }
}

const STOP_TIMEOUT_MS = 2_000;

/**
 * Processor time of all threads of a process so far, in seconds; null if the kernel does not tell. Linux,
 * Documentation/scheduler/sched-stats.rst.
 */
export function cpuSeconds(pid: number | undefined): number | null {
  try {
    return readdirSync(`/proc/${pid}/task`).reduce((sum, thread) => sum + threadNs(pid, thread), 0) / NS_PER_SECOND;
  } catch {
    return null;
  }
}

/** The same for the thread that runs JavaScript, without the compiler, the collector and a profiler. */
export function mainThreadCpuSeconds(pid: number | undefined): number | null {
  try {
    return threadNs(pid, String(pid)) / NS_PER_SECOND;
  } catch {
    return null;
  }
}

function threadNs(pid: number | undefined, thread: string): number {
  return Number(readFileSync(`/proc/${pid}/task/${thread}/schedstat`, 'utf8').split(' ')[0]);
}
