/**
 * npm run fuzz:native [-- --seconds 60] [--seed N] [--corpus DIR] [--replay FILE]: the addon under libFuzzer, guided by
 * coverage, with AddressSanitizer and UndefinedBehaviorSanitizer. Every function that it exports is called, by real
 * Node-API, with arguments that an input describes (native/fuzz/program.mjs), and system calls whose answers it parses
 * answer from the input too (native/fuzz/kernel.h). Nothing outside of a temporary directory is changed.
 *
 * Needs clang with its runtime (Debian: clang-14 libclang-rt-14-dev; CLANG says which). Without them it says so and
 * exits with 0, unless JITPAXOS_REQUIRE_FUZZ=1. Exit code 1: a finding, with the input that it takes in the present
 * directory.
 */
import { execFileSync, spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';

const ROOT = join(dirname(fileURLToPath(import.meta.url)), '..');
const SOURCES = [
  'native/fuzz/harness.cc',
  'native/aead.cc',
  'native/arguments.cc',
  'native/clock.cc',
  'native/hash.cc',
  'native/udp.cc',
  'native/hmac.cc',
  'native/kernel_clock.cc',
  'native/phc.cc',
  'native/system_errors.cc',
  'native/timer.cc',
  'native/unix_datagram.cc',
];
/** Exports nothing that could be called. */
const NOT_FUZZED = ['native/addon.cc', 'native/portable.cc'];
const BINDING_SOURCES = /"(native\/[a-z_]+\.cc)"/g;

const { values } = parseArgs({
  options: {
    seconds: { type: 'string', default: '60' },
    seed: { type: 'string', default: String(1 + Math.floor(Math.random() * 0x7ffffffe)) },
    corpus: { type: 'string' },
    replay: { type: 'string' },
  },
});
for (const name of ['seconds', 'seed'])
  if (!/^[1-9][0-9]*$/.test(values[name]))
    end(2, `flag-invalid: --${name} is a whole number from 1 on, not ${values[name]}`);

const clang = (
  process.env.CLANG
    ? [process.env.CLANG]
    : ['clang++', 'clang++-19', 'clang++-18', 'clang++-17', 'clang++-16', 'clang++-15', 'clang++-14']
).find((command) => spawnSync(command, ['--version']).status === 0);
if (clang === undefined) endWithout('no clang++ is here (Debian: apt-get install clang-14 libclang-rt-14-dev)');
const runtime = (name) => execFileSync(clang, [`-print-file-name=${name}`], { encoding: 'utf8' }).trim();
const architecture = { x64: 'x86_64', arm64: 'aarch64' }[process.arch];
const libraries = [`libclang_rt.fuzzer_no_main-${architecture}.a`, `libclang_rt.asan-${architecture}.so`].map(
  (name) => {
    const path = [
      runtime(name),
      join(execFileSync(clang, ['-print-resource-dir'], { encoding: 'utf8' }).trim(), 'lib', 'linux', name),
    ].find((found) => found.includes('/') && existsSync(found));
    return path ?? endWithout(`${clang} has no ${name} (Debian: apt-get install libclang-rt-14-dev)`);
  },
);
const headers = process.env.npm_config_nodedir
  ? join(process.env.npm_config_nodedir, 'include', 'node')
  : join(dirname(process.execPath), '..', 'include', 'node');
if (!existsSync(join(headers, 'node_api.h')))
  endWithout(`Node's headers are not in ${headers}; npm's nodedir says where they are`);
const missing = [...readFileSync(join(ROOT, 'binding.gyp'), 'utf8').matchAll(BINDING_SOURCES)]
  .map(([, source]) => source)
  .filter((source) => !NOT_FUZZED.includes(source) && !SOURCES.includes(source));
if (missing.length > 0)
  end(
    1,
    `fuzz-incomplete: ${missing.join(', ')} of binding.gyp is not among the sources that are fuzzed; add it here and to native/fuzz/harness.cc`,
  );

const require = createRequire(import.meta.url);
const directory = mkdtempSync(join(tmpdir(), 'jitpaxos-fuzz-'));
try {
  const addon = join(directory, 'jitpaxos.node');
  const compiled = spawnSync(
    clang,
    [
      '-std=c++17',
      '-O1',
      '-g',
      '-fPIC',
      '-shared',
      '-shared-libasan',
      '-fno-omit-frame-pointer',
      '-fsanitize=fuzzer-no-link,address,undefined',
      '-fno-sanitize-recover=undefined',
      '-fno-sanitize=vptr,function',
      '-DNAPI_VERSION=8',
      '-DNODE_ADDON_API_DISABLE_CPP_EXCEPTIONS',
      '-DNODE_ADDON_API_DISABLE_DEPRECATED',
      '-DNODE_API_SWALLOW_UNTHROWABLE_EXCEPTIONS',
      '-DNODE_GYP_MODULE_NAME=jitpaxos',
      '-isystem',
      headers,
      '-isystem',
      dirname(require.resolve('node-addon-api/package.json')),
      '-isystem',
      join(dirname(require.resolve('xxhash-addon/package.json')), 'xxHash'),
      '-include',
      join(ROOT, 'native/fuzz/kernel.h'),
      // The sanitizers' runtime has its own coverage functions, which do nothing: those of the fuzzer must be called.
      ...SOURCES.map((source) => join(ROOT, source)),
      libraries[0],
      '-Wl,-Bsymbolic',
      '-lstdc++',
      '-o',
      addon,
    ],
    { stdio: 'inherit', cwd: ROOT },
  );
  if (compiled.status !== 0) end(1, 'build-failed: clang refuses the addon, see above');
  const corpus = values.corpus === undefined ? join(directory, 'corpus') : resolve(values.corpus);
  mkdirSync(corpus, { recursive: true });
  const arguments_ =
    values.replay === undefined
      ? [
          corpus,
          `-max_total_time=${values.seconds}`,
          `-seed=${values.seed}`,
          '-max_len=4096',
          '-print_final_stats=1',
          '-timeout=30',
          '-rss_limit_mb=4096',
        ]
      : [resolve(values.replay)];
  console.log(`seed ${values.seed}, ${values.seconds} s`);
  const run = spawnSync(
    process.execPath,
    [
      '--expose-gc',
      '--no-warnings',
      join(ROOT, 'native/fuzz/program.mjs'),
      addon,
      directory,
      ...arguments_,
      `-artifact_prefix=${process.cwd()}/`,
    ],
    {
      encoding: 'utf8',
      maxBuffer: 1 << 30,
      stdio: ['ignore', 'inherit', 'pipe'],
      env: {
        ...process.env,
        LD_PRELOAD: libraries[1],
        ASAN_OPTIONS: 'detect_leaks=0:allocator_may_return_null=1:handle_segv=1',
        UBSAN_OPTIONS: 'print_stacktrace=1',
      },
    },
  );
  const lines = run.stderr.split('\n');
  if (run.status !== 0) {
    console.error(lines.slice(-120).join('\n'));
    end(
      1,
      `finding: exit code ${run.status ?? run.signal}; the input is in crash-… here, again: npm run fuzz:native -- --replay FILE`,
    );
  }
  const stat = (name) =>
    lines
      .find((line) => line.startsWith(`stat::${name}:`))
      ?.split(':')
      .at(-1)
      .trim();
  const last = lines.filter((line) => / cov: \d+/.test(line)).at(-1) ?? '';
  console.log(
    values.replay === undefined
      ? `${stat('number_of_executed_units')} inputs, ${stat('average_exec_per_sec')} a second, ${stat('new_units_added')} of them new; ${/cov: \d+ ft: \d+/.exec(last)?.[0] ?? ''}; nothing found`
      : 'nothing found',
  );
} finally {
  rmSync(directory, { recursive: true, force: true });
}

function endWithout(why) {
  console.error(`fuzz:native is not run: ${why}.`);
  process.exit(process.env.JITPAXOS_REQUIRE_FUZZ === '1' ? 1 : 0);
}

function end(code, message) {
  console.error(message);
  process.exit(code);
}
