/**
 * `jitpaxos lock NAME -- COMMAND`: runs a command while a lock is held, as flock does on one host. Exit code: that of the
 * command; 128 and the signal's number if a signal ended it.
 *
 * The command has a process group of its own. If the lock is lost the group gets SIGTERM, before another holder can have
 * the lock, and SIGKILL after `--grace`, which is before that, too. Signals that this process gets are passed on.
 */
import { spawn, type ChildProcess } from 'node:child_process';
import { constants } from 'node:os';
import type { Lock } from '../client/lock.js';
import { StoreClient } from '../client/store-client.js';
import { defineCommand, type Command } from '../console/command.js';
import { CliError } from '../console/exit.js';
import { TTL_MS_MAX } from '../machine/store/layout.js';
import { connect, CONNECTION_FLAGS } from './connection.js';

const PASSED_ON = ['SIGINT', 'SIGTERM', 'SIGHUP', 'SIGQUIT', 'SIGUSR2'] as const;
/** Own lanes: a renewal does not wait behind the calls of a wait. */
const LANES = 4;

const GRACE_MS = 500;
const GRACE_PART_MAX = 0.4;
/** How long before its end the lock counts as lost, in graces: SIGKILL comes before another one can hold it. */
const MARGIN = 1.1;

export const lock: Command = defineCommand(
  {
    name: 'lock',
    summary:
      'Waits for a lock and runs COMMAND while it is held. COMMAND finds the lock in its environment: JITPAXOS_LOCK (name), JITPAXOS_LOCK_TOKEN (fencing token), JITPAXOS_LOCK_END (held at least until then, ms since 1970; renewed while COMMAND runs). If the lock is lost, COMMAND gets SIGTERM. Needs the feature store.',
    positionals: ['NAME', 'COMMAND…'],
    flags: {
      ...CONNECTION_FLAGS,
      ttl: {
        kind: 'duration',
        default: '10s',
        min: 100e6,
        max: TTL_MS_MAX * 1e6,
        help: 'another holder has to wait this long after this host has failed',
      },
      wait: {
        kind: 'duration',
        min: 0,
        standard: 'for ever',
        help: 'how long to wait for the lock; 0s: not at all. If the cluster does not answer, it takes some seconds longer, and the error is cluster-unavailable',
      },
      grace: {
        kind: 'duration',
        standard: 'a tenth of --ttl, at most 500ms',
        min: 0,
        max: 3600e9,
        help: 'from SIGTERM to SIGKILL, if the lock is lost; SIGTERM comes that much before the lock can end; at most two fifths of --ttl',
      },
    },
    examples: ['jitpaxos lock backup -- ./backup.sh --full', 'jitpaxos lock migrate --wait 0s -- npm run migrate'],
  },
  async ({ values, positionals: [name, file, ...args] }, output) => {
    const ttlMs = Math.round(values.ttl / 1e6);
    const graceMs = values.grace === undefined ? Math.min(GRACE_MS, ttlMs / 10) : values.grace / 1e6;
    if (graceMs > GRACE_PART_MAX * ttlMs)
      throw new CliError('argument-invalid', '--grace is longer than two fifths of --ttl; raise --ttl');
    if (file === '') throw new CliError('argument-invalid', 'COMMAND is empty; name a program after --');
    const client = await connect(values, output, LANES);
    const stop = new AbortController();
    let child: ChildProcess | undefined;
    let stoppedBy: NodeJS.Signals | undefined;
    const passOn = (signal: NodeJS.Signals): void => {
      if (child !== undefined) return signalGroup(child, signal);
      stoppedBy = signal;
      stop.abort();
    };
    for (const signal of PASSED_ON) process.on(signal, passOn);
    try {
      const store = new StoreClient(client);
      const waitMs = values.wait === undefined ? {} : { wait: values.wait / 1e6 };
      let held: Lock;
      try {
        held = await store.lock(name!, { ttl: ttlMs, margin: MARGIN * graceMs, ...waitMs, signal: stop.signal });
      } catch (error) {
        if (stoppedBy !== undefined) return 128 + constants.signals[stoppedBy];
        throw error;
      }
      const startedMs = performance.now();
      let code: number;
      let lost: Error | undefined;
      let heldMs: number;
      try {
        // A signal that came when the lock was there and the command was not.
        if (stoppedBy !== undefined) return 128 + constants.signals[stoppedBy];
        const spawned = spawn(file!, args, {
          stdio: 'inherit',
          detached: true,
          env: {
            ...process.env,
            JITPAXOS_LOCK: name,
            JITPAXOS_LOCK_TOKEN: String(held.token),
            JITPAXOS_LOCK_END: String(Math.floor(held.end)),
          },
        });
        child = spawned;
        code = await ended(spawned, held, graceMs);
        // From now on a signal ends this process, also while it waits for the cluster.
        for (const signal of PASSED_ON) process.off(signal, passOn);
        heldMs = Math.round(performance.now() - startedMs);
        lost = held.signal.aborted ? (held.signal.reason as Error) : undefined;
      } finally {
        await held.release();
      }
      // After the release: where nobody reads the output, writing it can wait for ever, or end this process.
      if (output.json)
        output.line(
          JSON.stringify({
            schema: 'jitpaxos.lock/1',
            name,
            token: held.token,
            heldMs,
            lost: lost !== undefined,
            exitCode: code,
          }),
        );
      if (lost !== undefined) throw lost;
      return code;
    } finally {
      for (const signal of PASSED_ON) process.off(signal, passOn);
      await client.close();
    }
  },
);

/** Resolves to the exit code as a shell has it. */
function ended(child: ChildProcess, held: Lock, graceMs: number): Promise<number> {
  return new Promise((resolve, reject) => {
    let timer: NodeJS.Timeout | undefined;
    const lost = (): void => {
      signalGroup(child, 'SIGTERM');
      timer = setTimeout(() => signalGroup(child, 'SIGKILL'), graceMs);
    };
    held.signal.addEventListener('abort', lost, { once: true });
    const done = (): void => {
      clearTimeout(timer);
      held.signal.removeEventListener('abort', lost);
      // What the command left behind would go on without the lock.
      if (held.signal.aborted) signalGroup(child, 'SIGKILL');
    };
    child.once('error', (error: NodeJS.ErrnoException) => {
      done();
      reject(
        new CliError('argument-invalid', `COMMAND cannot be run: ${error.message}; check its name and permissions`),
      );
    });
    child.once('exit', (code, signal) => {
      done();
      resolve(code ?? 128 + constants.signals[signal!]);
    });
    if (held.signal.aborted) lost();
  });
}

/** A group that has ended gets nothing. */
function signalGroup({ pid }: ChildProcess, signal: NodeJS.Signals): void {
  if (pid === undefined) return;
  try {
    process.kill(-pid, signal);
  } catch {
    // It has ended.
  }
}
