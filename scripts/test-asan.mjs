/**
 * npm run test:asan: builds the addon with AddressSanitizer into a directory of its own, and runs the tests that use it
 * (or those given as arguments) with it. Needs gcc's libasan; exit code 1 when a test failed or an error was found.
 *
 * Leaks are not reported: Node and V8 keep much until the process ends. test/transport/native-udp.test.ts counts
 * descriptors and memory instead.
 */
import { execFileSync, spawnSync } from 'node:child_process';
import { cpSync, mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const ROOT = join(dirname(fileURLToPath(import.meta.url)), '..');
const CXX = process.env.CXX || 'g++';
const given = process.argv.slice(2);
const tests =
  given.length > 0
    ? given
    : [
        'dist/test/transport/native-udp.test.js',
        'dist/test/transport/sockets.test.js',
        'dist/test/native/aead.test.js',
        'dist/test/native/hash64.test.js',
        'dist/test/native/siphash.test.js',
        'dist/test/native/mac.test.js',
      ];

const runtime = execFileSync(CXX, ['-print-file-name=libasan.so'], { encoding: 'utf8' }).trim();
if (runtime === 'libasan.so') {
  console.error(`asan-missing: ${CXX} has no libasan; install it (Debian: it comes with gcc)`);
  process.exit(1);
}

// A copy: the addon is looked for beside the code that loads it, and this one must not replace the real one.
const copy = mkdtempSync(join(tmpdir(), 'jitpaxos-asan-'));
try {
  for (const name of ['package.json', 'tsconfig.json', 'binding.gyp', 'native', 'scripts', 'dist'])
    cpSync(join(ROOT, name), join(copy, name), { recursive: true });
  for (const name of ['src', 'test', 'bench', 'docs', 'node_modules']) symlinkSync(join(ROOT, name), join(copy, name));
  const sanitizer = '-fsanitize=address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer -g';
  // The installer loads what it has built, so it needs the runtime too.
  const preload = { LD_PRELOAD: runtime, ASAN_OPTIONS: 'detect_leaks=0:quarantine_size_mb=16' }; // more would look like a leak to the tests that measure memory
  const build = spawnSync(process.execPath, ['scripts/install.mjs'], {
    cwd: copy,
    stdio: 'inherit',
    env: {
      ...process.env,
      ...preload,
      JITPAXOS_REQUIRE_NATIVE: '1',
      CXXFLAGS: sanitizer,
      LDFLAGS: '-fsanitize=address,undefined',
    },
  });
  if (build.status !== 0) process.exit(1);
  const log = join(copy, 'asan');
  const env = {
    ...process.env,
    ...preload,
    ASAN_OPTIONS: `${preload.ASAN_OPTIONS}:log_path=${log}`,
    UBSAN_OPTIONS: `print_stacktrace=1:log_path=${log}`,
  };
  const run = spawnSync(process.execPath, ['scripts/test.mjs', ...tests], { cwd: copy, stdio: 'inherit', env });
  const reports = readdirSync(copy).filter((name) => name.startsWith('asan.'));
  for (const name of reports) console.error(readFileSync(join(copy, name), 'utf8'));
  console.log(`${reports.length} reports of AddressSanitizer and UndefinedBehaviorSanitizer`);
  process.exitCode = run.status === 0 && reports.length === 0 ? 0 : 1;
} finally {
  rmSync(copy, { recursive: true, force: true });
}
