/** For tests with real processes: runs the command as users do, and always with a bound. */
import { execFile, fork } from 'node:child_process';
import { fileURLToPath, pathToFileURL } from 'node:url';

export const MAIN = fileURLToPath(new URL('../../src/cli/main.js', import.meta.url));

export interface Ended {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** Longer than anything takes on a busy host: ends processes that hang. */
const RUN_LIMIT_MS = 600_000;

/** Runs a script with this Node and waits for its end; killed, and rejected, after `timeoutMs`. */
export function runNode(
  args: readonly string[],
  options: { readonly timeoutMs?: number; readonly cwd?: string; readonly env?: NodeJS.ProcessEnv } = {},
): Promise<Ended> {
  return new Promise((resolve, reject) => {
    execFile(
      process.execPath,
      [...args],
      {
        timeout: options.timeoutMs ?? RUN_LIMIT_MS,
        killSignal: 'SIGKILL',
        cwd: options.cwd,
        env: { ...process.env, ...options.env },
        maxBuffer: 64 << 20,
      },
      (error, stdout, stderr) => {
        if (error !== null && typeof error.code !== 'number')
          reject(new Error(`node ${args.join(' ')} did not end by itself: ${error.message}\n${stderr}`));
        else resolve({ code: typeof error?.code === 'number' ? error.code : 0, stdout, stderr });
      },
    );
  });
}

/** `jitpaxos …` */
export function jitpaxos(args: readonly string[], options?: Parameters<typeof runNode>[1]): Promise<Ended> {
  return runNode([MAIN, ...args], options);
}

/**
 * `jitpaxos …` for each of these lists of arguments, all in one process: for commands that end without having started
 * anything. See command-runs.ts.
 */
export function jitpaxosEach(argumentLists: readonly (readonly string[])[], cwd?: string): Promise<readonly Ended[]> {
  const program = fileURLToPath(new URL('./command-runs.js', import.meta.url));
  const child = fork(program, [JSON.stringify([pathToFileURL(MAIN).href, argumentLists])], { cwd, execArgv: [] });
  const limit = setTimeout(() => child.kill('SIGKILL'), RUN_LIMIT_MS);
  return new Promise<readonly Ended[]>((resolve, reject) => {
    child.once('message', (ends) => resolve(ends as readonly Ended[]));
    child.once('exit', (code, signal) =>
      reject(new Error(`it ended with ${code ?? signal} before all runs had ended`)),
    );
  }).finally(() => clearTimeout(limit));
}

/**
 * Runs a command that waits for hosts that never answer, as long as its `--timeout` says. Those that do answer need no
 * second on an idle host: a longer timeout is given only while what came is not enough. Resolves to the last end.
 */
export async function patiently<T>(run: (timeout: string) => Promise<T>, isEnough: (ended: T) => boolean): Promise<T> {
  for (const timeout of ['1s', '4s', '16s']) {
    const ended = await run(timeout);
    if (isEnough(ended)) return ended;
  }
  return run('60s');
}
