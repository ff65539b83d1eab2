/** Runs phc-program.ts with a stand-in for PTP hardware, so that opening and reading a clock device is exercised on hosts that have none. */

import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import t from 'tap';
import { native } from '../../src/native/addon.js';

const SOURCE = fileURLToPath(new URL('../../../test/native/fake-ptp.c', import.meta.url));
const PROGRAM = fileURLToPath(new URL('./phc-program.js', import.meta.url));
/** Tests in phc-program.ts: a program that ends early must not pass. */
const TESTS = 10;

const compiler = ['cc', 'gcc', 'clang'].find((command) => spawnSync(command, ['--version']).status === 0);

function whyNot(): string | false {
  if (!native.available) return native.reason;
  return compiler === undefined ? 'no C compiler (cc, gcc, clang) to build test/native/fake-ptp.c with' : false;
}

t.test('PTP hardware clocks, with a stand-in for the hardware', { skip: whyNot() }, (t) => {
  const directory = mkdtempSync(join(tmpdir(), 'jitpaxos-fake-ptp-'));
  t.teardown(() => rmSync(directory, { recursive: true }));
  const library = join(directory, 'fake-ptp.so');
  const compiled = spawnSync(compiler!, ['-shared', '-fPIC', '-O1', '-Wall', '-Wextra', '-Werror', '-o', library, SOURCE, '-ldl'], { encoding: 'utf8' });
  t.equal(compiled.status, 0, compiled.stderr);

  const env: NodeJS.ProcessEnv = { ...process.env, LD_PRELOAD: library };
  delete env['NODE_TEST_CONTEXT'];
  const run = spawnSync(process.execPath, ['--expose-gc', PROGRAM], { encoding: 'utf8', env, timeout: 60_000 });
  if (run.status !== 0) t.comment(run.stdout + run.stderr);
  t.equal(run.status, 0);
  t.equal(run.stdout.match(/^ok \d+ - /gm)?.length, TESTS);
  t.end();
});
