/**
 * The parent's side of the client processes of a bench, whatever their work is. It forks them, waits until all are
 * ready, passes messages on, and makes sure that none outlives its parent. Clients run in processes of their own so
 * that the parent's display and merging do not disturb the measurement.
 */
import { fork, type ChildProcess } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { CliError } from '../../console/exit.js';

const READY_TIMEOUT_MS = 120_000;

/** What any client process may send besides its own messages. */
export type FromClientProcess =
  | { readonly type: 'ready' }
  | { readonly type: 'failed'; readonly code: string; readonly message: string };

export interface ClientProcessesOptions<To, From> {
  readonly count: number;
  /** The compiled worker, beside this file. */
  readonly script: './worker.js' | './open-worker.js';
  /** First message to process `index`; it answers `ready`, or `failed`. */
  readonly setup: (index: number) => To;
  readonly onMessage: (index: number, message: From) => void;
  /** A process failed or ended before its work was done. May be called several times. */
  readonly onFailure: (index: number, error: Error) => void;
}

export class ClientProcesses<To extends object, From extends { readonly type: string }> {
  private readonly children: ChildProcess[] = [];
  private readonly readies: Deferred<void>[] = [];

  constructor(options: ClientProcessesOptions<To, From>) {
    process.once('exit', this.killAll);
    for (let index = 0; index < options.count; index++) this.add(index, options);
  }

  /**
   * Resolves when all have reported that they are ready; throws CliError `worker-failed`, or the error of a failed
   * process.
   */
  ready(): Promise<unknown> {
    return within(
      Promise.all(this.readies.map(({ promise }) => promise)),
      READY_TIMEOUT_MS,
      'the clients were not warm',
    );
  }

  send(message: To): void {
    for (const child of this.children) if (child.connected) child.send(message);
  }

  close(): void {
    this.killAll();
    process.removeListener('exit', this.killAll);
  }

  readonly killAll = (): void => {
    for (const child of this.children) if (child.exitCode === null && child.signalCode === null) child.kill('SIGKILL');
  };

  private add(index: number, { script, setup, onMessage, onFailure }: ClientProcessesOptions<To, From>): void {
    // Detached: Ctrl-C on the terminal is for the parent, which ends the run in order. An orphan ends itself on
    // `disconnect`.
    const child = fork(fileURLToPath(new URL(script, import.meta.url)), [], {
      stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
      execArgv: [],
      detached: true,
    });
    this.children.push(child);
    const ready = deferred<void>();
    this.readies.push(ready);
    const fail = (error: Error): void => {
      ready.reject(error);
      onFailure(index, error);
    };
    child.on('message', (raw) => {
      const message = raw as From | FromClientProcess;
      if (message.type === 'ready') ready.resolve();
      else if (message.type === 'failed' && 'code' in message)
        fail(Object.assign(new Error(message.message), { code: message.code }));
      else onMessage(index, message as From);
    });
    child.on('error', fail);
    child.on('exit', (code, signal) =>
      fail(
        new CliError(
          'worker-failed',
          `client process ${index} ended with ${signal ?? `exit code ${code}`} before its work was done; run again, and with --clients 1 to see whether it happens again`,
        ),
      ),
    );
    child.send(setup(index));
  }
}

export interface Deferred<T> {
  readonly promise: Promise<T>;
  resolve(value: T): void;
  reject(error: Error): void;
}

export function deferred<T>(): Deferred<T> {
  let resolve!: (value: T) => void;
  let reject!: (error: Error) => void;
  const promise = new Promise<T>((a, b) => ([resolve, reject] = [a, b]));
  promise.catch(() => {}); // the caller that awaits it gets the error; another process may have failed earlier
  return { promise, resolve, reject };
}

async function within<T>(promise: Promise<T>, ms: number, what: string): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const expired = new Promise<never>((_, reject) => {
    timer = setTimeout(
      () =>
        reject(new CliError('worker-failed', `${what} within ${ms / 1000} s; use fewer clients or a smaller warm-up`)),
      ms,
    );
  });
  try {
    return await Promise.race([promise, expired]);
  } finally {
    clearTimeout(timer);
  }
}
