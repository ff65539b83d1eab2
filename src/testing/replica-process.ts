/** A replica of a LocalCluster: in this process, or in one of its own. */
import { fork, type ChildProcess } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { JitPaxosError, type ErrorCode } from '../errors.js';
import type { ClusterConfig } from '../host/cluster-config.js';
import { silentLogger } from '../host/logger.js';
import type { StateMachine } from '../machine/state-machine.js';
import { Replica } from '../server/replica.js';
import type { ReplicaOptions } from '../server/replica-options.js';

/** What a replica is started with, besides its machine. It is sent to another process as JSON. */
export type ReplicaSettings = Omit<ReplicaOptions, 'cluster' | 'keys' | 'id' | 'machine' | 'data' | 'logger'>;

interface Place {
  readonly cluster: ClusterConfig;
  readonly id: number;
  readonly data: string;
}

export type ReplicaOrder = Place &
  ReplicaSettings & {
    /** URL of the module, and the name of what it exports. */
    readonly module: string;
    readonly name: string;
  };

/** What the process says to its parent. */
export type ReplicaWord =
  | { readonly ready: true }
  | { readonly failed: { readonly code: ErrorCode; readonly message: string } };

/** One life of a replica, from a start to a stop. */
export interface RunningReplica {
  /** Resolves when it has stopped, with the reason if it stopped itself. */
  readonly ended: Promise<unknown>;
  /** Stops it cleanly. */
  stop(): Promise<void>;
  /** Ends its process at once, which loses what is not on disk; undefined: it has no process of its own. */
  readonly kill: (() => Promise<void>) | undefined;
}

export async function startHere(
  place: Place,
  settings: ReplicaSettings,
  machine: StateMachine,
): Promise<RunningReplica> {
  const replica = await Replica.start({ ...place, ...settings, machine, logger: silentLogger });
  const ended = replica.closed.then(
    () => undefined,
    (error: unknown) => error,
  );
  return { ended, stop: () => replica.close(), kill: undefined };
}

const PROGRAM = fileURLToPath(new URL('./replica-program.js', import.meta.url));
const READY_TIMEOUT_MS = 15_000;
/** A process that has not ended this long after it was told to is killed. */
const STOP_TIMEOUT_MS = 5_000;
const COMPLAINT_CHARS = 2_000;

/** Flags of Node that are about this process's own program. The others, such as loaders, are for replicas too. */
const OWN_FLAGS = /^--?(e|eval|p|print|pe|i|interactive|c|check|input-type|test|inspect|watch)\b/;

function inheritedFlags(): string[] {
  const takesValue = /^--?(e|eval|p|print|pe|input-type)$/;
  return process.execArgv.filter(
    (flag, i, flags) => !OWN_FLAGS.test(flag) && !(i > 0 && takesValue.test(flags[i - 1]!)),
  );
}

/** Rejects with the error of the replica; JitPaxosError `machine-module-failed`; or `replica-not-ready`. */
export async function startProcess(order: ReplicaOrder): Promise<RunningReplica> {
  const child = fork(PROGRAM, [JSON.stringify(order)], {
    stdio: ['ignore', 'ignore', 'pipe', 'ipc'],
    execArgv: inheritedFlags(),
  });
  const kill = (): void => void child.kill('SIGKILL');
  process.prependOnceListener('exit', kill); // before its files are removed
  let complaint = '';
  child.stderr!.setEncoding('utf8').on('data', (text: string) => {
    complaint = (complaint + text).slice(-COMPLAINT_CHARS);
  });
  let failure: unknown;
  let stopping = false;
  const exited = new Promise<void>((resolve) => {
    child.once('exit', () => resolve());
    child.once('error', (error) => {
      failure ??= error;
      resolve();
    });
  }).then(() => void process.removeListener('exit', kill));
  const ended = exited.then(() =>
    stopping ? undefined : (failure ?? notReady(order.id, `ended: ${how(child)}`, complaint)),
  );
  const stop = async (signal: 'SIGTERM' | 'SIGKILL'): Promise<void> => {
    stopping = true;
    child.kill(signal);
    const timer = setTimeout(kill, STOP_TIMEOUT_MS);
    await exited;
    clearTimeout(timer);
  };
  const ready = new Promise<void>((resolve, reject) => {
    child.on('message', (word: ReplicaWord) => {
      if ('ready' in word) resolve();
      else failure = new JitPaxosError(word.failed.code, word.failed.message);
    });
    void ended.then(reject);
  });
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(
      () => reject(notReady(order.id, `was not ready within ${READY_TIMEOUT_MS / 1000} s`, complaint)),
      READY_TIMEOUT_MS,
    );
  });
  try {
    await Promise.race([ready, late]);
  } catch (error) {
    await stop('SIGKILL');
    throw error;
  } finally {
    clearTimeout(timer);
  }
  return { ended, stop: () => stop('SIGTERM'), kill: () => stop('SIGKILL') };
}

function how({ exitCode, signalCode }: ChildProcess): string {
  return signalCode === null ? `exit code ${exitCode}` : `signal ${signalCode}`;
}

function notReady(id: number, why: string, complaint: string): JitPaxosError {
  const said = complaint.trim();
  return new JitPaxosError('replica-not-ready', `replica ${id} ${why}${said === '' ? '' : `; it wrote: ${said}`}`);
}
