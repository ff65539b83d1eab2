/**
 * The stand-in for PTP hardware (test/native/fake-ptp.c), built once for each test file, and programs that run with it
 * preloaded.
 */
import { spawn, spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Test } from 'tap';
import { native } from '../../src/native/addon.js';

const SOURCE = fileURLToPath(new URL('../../../test/native/fake-ptp.c', import.meta.url));
const PROGRAM_MS = 120_000;

const compiler = ['cc', 'gcc', 'clang'].find((command) => spawnSync(command, ['--version']).status === 0);

/** Why there is no stand-in on this host, or false. */
export function whyNoStandIn(): string | false {
  if (!native.available) return native.reason;
  return compiler === undefined ? 'no C compiler (cc, gcc, clang) to build test/native/fake-ptp.c with' : false;
}

/** Builds the library in `directory` and returns its path. Throws with what the compiler says. */
export function compileStandIn(directory: string): string {
  const library = join(directory, 'fake-ptp.so');
  const compiled = spawnSync(
    compiler!,
    ['-shared', '-fPIC', '-O1', '-Wall', '-Wextra', '-Werror', '-o', library, SOURCE, '-ldl'],
    { encoding: 'utf8' },
  );
  if (compiled.status !== 0) throw new Error(`test/native/fake-ptp.c does not compile: ${compiled.stderr}`);
  return library;
}

/** Builds the library in its own folder, which is removed with the test; the folder may hold other files. */
export function buildStandIn(t: Test): { readonly library: string; readonly directory: string } {
  const directory = mkdtempSync(join(tmpdir(), 'jitpaxos-fake-ptp-'));
  t.teardown(() => rmSync(directory, { recursive: true, force: true }));
  return { library: compileStandIn(directory), directory };
}

/** An environment in which programs see the stand-in. */
export function standInEnvironment(library: string, model?: string, root?: string): NodeJS.ProcessEnv {
  const env: NodeJS.ProcessEnv = {
    ...process.env,
    LD_PRELOAD: library,
    ...(model === undefined ? {} : { FAKE_PTP_MODEL: model }),
    ...(root === undefined ? {} : { FAKE_PTP_ROOT: root }),
  };
  delete env['NODE_TEST_CONTEXT'];
  return env;
}

/** Runs a test program with the stand-in. It must pass `tests` tests, so that ending early counts as a failure. */
export async function runProgram(t: Test, program: URL, env: NodeJS.ProcessEnv, tests: number): Promise<void> {
  const child = spawn(process.execPath, ['--expose-gc', fileURLToPath(program)], {
    env,
    stdio: ['ignore', 'pipe', 'pipe'],
    timeout: PROGRAM_MS,
  });
  let output = '';
  for (const stream of [child.stdout, child.stderr])
    stream.setEncoding('utf8').on('data', (text: string) => (output += text));
  const code = await new Promise((resolve) => child.once('close', resolve));
  if (code !== 0) t.comment(output);
  t.equal(code, 0);
  t.equal(output.match(/^ok \d+ - /gm)?.length, tests);
}
