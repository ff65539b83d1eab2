/** The fuzzing of the addon (npm run fuzz:native) leaves nothing out. It needs clang; that it is complete is seen without. */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import t from 'tap';
import { native } from '../../src/native/addon.js';

const ROOT = fileURLToPath(new URL('../../..', import.meta.url));
const textOf = (path: string): string => readFileSync(join(ROOT, path), 'utf8');
const found = (path: string, pattern: RegExp): string[] => [...textOf(path).matchAll(pattern)].map(([, name]) => name!);

t.test('every source of the addon is compiled for the fuzzer, and every capability registered', async (t) => {
  const fuzzed = new Set(found('scripts/fuzz-native.mjs', /'(native\/[a-z_]+\.cc)'/g));
  const sources = found('binding.gyp', /"(native\/[a-z_]+\.cc)"/g);
  t.ok(sources.length >= 12, 'the sources are found');
  t.same(
    sources.filter((source) => !fuzzed.has(source)),
    [],
  );
  const capabilities = found('native/addon.cc', /(Register[A-Za-z]+)\(env/g);
  const registered = found('native/fuzz/harness.cc', /(Register[A-Za-z]+)\(env/g);
  t.ok(capabilities.length >= 8, 'the capabilities are found');
  t.same(
    capabilities.filter((capability) => !registered.includes(capability)),
    [],
  );
});

t.test(
  'every function of the addon has a call, and a well-formed one works',
  { skip: native.available ? false : native.reason },
  async (t) => {
    const directory = mkdtempSync(join(tmpdir(), 'jitpaxos-fuzz-program-'));
    t.teardown(() => rmSync(directory, { recursive: true, force: true }));
    const program = join(ROOT, 'native/fuzz/program.mjs');
    const addon = join(ROOT, 'build/Release/jitpaxos.node');
    t.equal(
      execFileSync(process.execPath, [program, addon, directory], { encoding: 'utf8' }),
      'every function has a call\n',
    );
  },
);
