/** Building the addon, finding it, doing without it, and that its hot functions allocate nothing. */

import { spawnSync, type SpawnSyncReturns } from 'node:child_process';
import {
  appendFileSync,
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import t, { type Test } from 'tap';
import { loadAddon, native } from '../../src/native/addon.js';

const ROOT = fileURLToPath(new URL('../../../', import.meta.url));
const toolchain = ['c++', 'make', 'python3'].every((command) => spawnSync(command, ['--version']).status === 0);

/** A copy of the package as far as it concerns the addon, with node_modules of the checkout. */
function copyOfPackage(t: Test): string {
  const root = mkdtempSync(join(tmpdir(), 'jitpaxos-package-'));
  t.teardown(() => rmSync(root, { recursive: true }));
  for (const name of [
    'package.json',
    'binding.gyp',
    'native',
    'scripts/install.mjs',
    'scripts/node-gyp.mjs',
    'dist/src',
  ])
    cpSync(join(ROOT, name), join(root, name), { recursive: true });
  symlinkSync(join(ROOT, 'node_modules'), join(root, 'node_modules'));
  return root;
}

function install(root: string, env: NodeJS.ProcessEnv): SpawnSyncReturns<string> {
  const inherited = { ...process.env };
  delete inherited['JITPAXOS_REQUIRE_NATIVE'];
  delete inherited['JITPAXOS_SKIP_NATIVE'];
  return spawnSync(process.execPath, [join(root, 'scripts', 'install.mjs')], {
    cwd: tmpdir(),
    encoding: 'utf8',
    env: { ...inherited, ...env },
  });
}

t.test(
  'a build that takes too long is ended with all that it started',
  { skip: process.platform === 'win32' },
  async (t) => {
    const root = mkdtempSync(join(tmpdir(), 'jitpaxos-build-'));
    t.teardown(() => rmSync(root, { recursive: true }));
    const slow = join(root, 'slow.mjs');
    // As make does for node-gyp: a compiler holds the output, whatever becomes of the one who started it.
    writeFileSync(
      slow,
      `import { spawn } from 'node:child_process';
     const compiler = spawn(process.execPath, ['-e', 'setInterval(() => {}, 1000)'], { stdio: 'inherit' });
     console.log(\`compiler \${compiler.pid}\`);
     setInterval(() => {}, 1000);`,
    );
    const { compileAddon } = (await import(pathToFileURL(join(ROOT, 'scripts', 'node-gyp.mjs')).href)) as {
      compileAddon(program: string, directory: string, options: { ms: number }): Promise<{ ok: boolean; log: string }>;
    };
    let ended: { ok: boolean; log: string };
    // On a busy host the compiler may not even have started: then it gets more time.
    let ms = 500;
    do ended = await compileAddon(slow, root, { ms });
    while (!ended.log.includes('compiler') && (ms *= 4) < 120_000);
    t.match(ended.log, /compiler \d+/, 'there was one to end');
    t.notOk(ended.ok);
    t.match(
      ended.log,
      'ended: a build may take',
      'it waited for the output to be closed, and nobody holds it any more',
    );
  },
);

/** What a program of the package at `root` sees, started somewhere else. */
function bindingSeenIn(
  root: string,
  env: NodeJS.ProcessEnv = {},
): { available: boolean; kind: string | null; reason: string; hash: string; clock: string; tai: string } {
  const module = (path: string): string => JSON.stringify(pathToFileURL(join(root, 'dist', 'src', path)).href);
  const program = `
    import { native } from ${module('native/addon.js')};
    import { loadHash } from ${module('native/hash64.js')};
    import { openClock } from ${module('clock/open.js')};
    const out = Buffer.alloc(8);
    loadHash().hash64(out, 0, 0, out, 0);
    let tai;
    try { tai = openClock('tai').source; } catch (error) { tai = error.code + ': ' + error.message; }
    console.log(JSON.stringify({ available: native.available, kind: native.kind, reason: native.reason, hash: out.toString('hex'), clock: openClock('auto').source, tai }));`;
  const run = spawnSync(process.execPath, ['--input-type=module', '-e', program], {
    cwd: tmpdir(),
    encoding: 'utf8',
    env: { ...process.env, ...env },
  });
  if (run.status !== 0) throw new Error(run.stderr);
  return JSON.parse(run.stdout) as ReturnType<typeof bindingSeenIn>;
}

t.test(
  'this package has its addon where the host can build it',
  { skip: toolchain ? false : 'no compiler, make or Python 3 here' },
  (t) => {
    t.equal(native.available, true, native.reason || 'loaded');
    t.end();
  },
);

t.test('an addon that is not as it should be', (t) => {
  const directory = mkdtempSync(join(tmpdir(), 'jitpaxos-addon-'));
  t.teardown(() => rmSync(directory, { recursive: true }));
  const refused = (name: string, content: string | null, reason: RegExp): void => {
    const path = join(directory, name);
    if (content !== null) writeFileSync(path, content);
    const binding = loadAddon(path);
    t.equal(binding.available, false);
    t.equal(binding.addon, null);
    t.match(binding.reason, reason);
  };
  refused(
    'absent.node',
    null,
    /not built .*absent\.node does not exist.*npm run build:native.*apt-get install build-essential python3/,
  );
  refused('garbage.node', 'not a shared library', /does not load .*npm run build:native/);
  refused(
    'older.cjs',
    'module.exports = { hash64() {} }',
    /built from an older source \(it lacks version, sipHash64, hashArena, hmacOpen, hmacClose, hmac128, aeadTable, systemClocks, clockReadBigInt, clockWriteBE, clockWriteHalves, PhcHandle, UdpPort, DisciplinedClock, kernelClock, UnixDatagram, Timer\)/,
  );
  t.end();
});

/** Variables for a PATH that holds Node and no compiler. */
function withoutCompiler(root: string): NodeJS.ProcessEnv {
  const onlyNode = join(root, 'only-node');
  mkdirSync(onlyNode);
  symlinkSync(process.execPath, join(onlyNode, 'node'));
  return { PATH: onlyNode, CXX: '', MAKE: '', PYTHON: '', NODE_GYP_FORCE_PYTHON: '', npm_config_python: '' };
}

t.test('a package with a prebuilt addon', { skip: native.available ? false : native.reason }, (t) => {
  const root = copyOfPackage(t);
  const bare = withoutCompiler(root);
  const prebuilt = join(root, 'prebuilds', `linux-${process.arch}`, 'jitpaxos.node');
  cpSync(join(ROOT, 'build/Release/jitpaxos.node'), prebuilt);

  const used = install(root, { ...bare, JITPAXOS_REQUIRE_NATIVE: '1' });
  t.match([used.status, used.stdout], [0, /^jitpaxos: the prebuilt native addon is used \(linux-\w+\)\n$/]);
  t.match(bindingSeenIn(root), { available: true, kind: 'prebuilt', hash: '2d06800538d394c2', clock: 'realtime' });
  t.match(
    install(root, { ...bare, JITPAXOS_BUILD_NATIVE: '1' }).stderr,
    /not built: .* not found/,
    'unless told to build',
  );

  const musl = join(root, 'musl.cjs');
  writeFileSync(musl, "require(require.resolve('detect-libc')).familySync = () => 'musl';");
  const options = { NODE_OPTIONS: `--require ${musl}` };
  const refused = install(root, { ...bare, ...options });
  t.equal(refused.status, 0);
  t.match(
    refused.stderr,
    /the prebuilt native addon needs glibc, and this Node uses musl; the native addon was not built: /,
  );
  t.match(bindingSeenIn(root, options), { available: false, hash: '2d06800538d394c2', clock: 'realtime-js' });

  writeFileSync(prebuilt, 'no shared library');
  t.match(
    install(root, bare).stderr,
    /^jitpaxos: the prebuilt native addon does not load \(.*\); the native addon was not built: /,
  );
  t.match(bindingSeenIn(root).reason, /^the prebuilt native addon does not load .*; the native addon is not built/);
  rmSync(prebuilt);
  t.match(install(root, bare).stderr, /^jitpaxos: this package has no prebuilt native addon for linux-\w+; the native/);
  t.end();
});

t.test('an addon of another version', { skip: native.available ? false : native.reason }, (t) => {
  const root = copyOfPackage(t);
  const manifest = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as { version: string };
  writeFileSync(join(root, 'package.json'), JSON.stringify({ ...manifest, version: '999.0.0' }));
  const differs = `was built from jitpaxos ${manifest.version}, and this is jitpaxos 999.0.0`;
  const addon = join(ROOT, 'build/Release/jitpaxos.node');
  cpSync(addon, join(root, 'build/Release/jitpaxos.node'));
  cpSync(addon, join(root, 'prebuilds', `linux-${process.arch}`, 'jitpaxos.node'));
  const { available, reason } = bindingSeenIn(root);
  t.notOk(available);
  t.ok(reason.startsWith(`the prebuilt native addon ${differs}; the native addon ${differs}: build it with`), reason);
  t.ok(install(root, withoutCompiler(root)).stderr.startsWith(`jitpaxos: the prebuilt native addon ${differs}; the`));
  t.end();
});

t.test('npm install without a compiler', (t) => {
  const root = copyOfPackage(t);
  const bare = withoutCompiler(root);

  const run = install(root, bare);
  t.equal(run.status, 0, 'is no failure');
  t.match(run.stderr, /was not built: a C\+\+ compiler and make and Python 3 not found/);
  t.match(run.stderr, /apt-get install build-essential python3/);
  t.match(run.stderr, /works without it: dgram transport/);
  t.equal(install(root, { ...bare, JITPAXOS_REQUIRE_NATIVE: '1' }).status, 1, 'unless the addon is required');
  t.match(
    install(root, { ...bare, CXX: '/nowhere/g++ -m32', MAKE: process.execPath, PYTHON: process.execPath }).stderr,
    /not built: a C\+\+ compiler not found/,
    'names only what is missing',
  );

  const skipped = install(root, { JITPAXOS_SKIP_NATIVE: '1' });
  t.equal(skipped.status, 0);
  t.match(skipped.stderr, /JITPAXOS_SKIP_NATIVE=1 is set/);

  const seen = bindingSeenIn(root);
  t.equal(seen.available, false);
  t.match(seen.reason, /is not built/);
  t.equal(seen.hash, '2d06800538d394c2', 'the hash works');
  t.equal(seen.clock, 'realtime-js', 'and the clock');
  t.match(seen.tai, /^clock-addon-missing: .*npm run build:native/, 'and what does not says what to do');
  t.end();
});

t.test('npm install with a compiler', { skip: toolchain ? false : 'no compiler, make or Python 3 here' }, (t) => {
  const root = copyOfPackage(t);
  // What is looked at is the installation, so the compiler need not optimize: `npm ci` compiles the addon as it is used.
  const quick = { CXXFLAGS: '-O0' };
  const built = install(root, quick);
  t.equal(built.status, 0, built.stderr);
  t.match(built.stdout, /^jitpaxos: native addon built in [\d.]+ s\n$/, 'one line');
  t.equal(built.stderr, '');
  t.match(bindingSeenIn(root), {
    available: true,
    kind: 'compiled',
    reason: '',
    hash: '2d06800538d394c2',
    clock: 'realtime',
    tai: 'tai',
  });

  // The first file that is compiled: nothing is compiled for long.
  appendFileSync(join(root, 'native', 'addon.cc'), '\nint broken = this_is_not_declared;\n');
  const broken = install(root, quick);
  t.equal(broken.status, 0, 'an error of ours does not break an installation');
  t.match(broken.stderr, /addon\.cc:\d+:\d+: error: .*this_is_not_declared/, 'but is shown');
  t.match(broken.stderr, /The whole log is in .*install\.log/);
  t.ok(existsSync(join(root, 'build', 'install.log')));
  t.equal(bindingSeenIn(root).available, false);
  const required = install(root, { ...quick, JITPAXOS_REQUIRE_NATIVE: '1' });
  t.equal(required.status, 1);
  t.match(required.stderr, /this_is_not_declared[^]*JITPAXOS_REQUIRE_NATIVE=1 is set, so this is a failure/);
  t.end();
});

t.test('hot functions allocate nothing', { skip: native.available ? false : native.reason }, (t) => {
  const program = fileURLToPath(new URL('./allocation-program.js', import.meta.url));
  const run = spawnSync(
    process.execPath,
    ['--expose-gc', '--min-semi-space-size=128', '--max-semi-space-size=128', program],
    { encoding: 'utf8' },
  );
  t.equal(run.status, 0, run.stderr);
  const results = JSON.parse(run.stdout) as Record<string, { bytesPerCall: number; nsPerCall: number }>;
  for (const [name, { bytesPerCall, nsPerCall }] of Object.entries(results))
    t.comment(`${name}: ${bytesPerCall.toFixed(2)} bytes, ${nsPerCall.toFixed(0)} ns a call`);
  for (const name of [
    'hash64',
    'sipHash64',
    'keyedArena',
    'sipHash64WithoutAddon',
    'writeBE',
    'writeHalves',
    'aeadSeal',
    'aeadSealAndOpen',
    'aeadInMemory',
    'timerArm',
  ])
    t.ok(results[name]!.bytesPerCall < 1, `${name}: ${results[name]!.bytesPerCall} bytes a call`);
  t.ok(results['clockReadBigInt']!.bytesPerCall > 15, 'and a function that allocates is seen to');
  t.end();
});
