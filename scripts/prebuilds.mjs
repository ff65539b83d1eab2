/**
 * npm run prebuilds: compiles the addon for every platform that the package brings a binary for, into
 * prebuilds/linux-ARCH/. `npm pack` and `npm publish` run it first (`prepack`) and remove the binaries afterwards
 * (`postpack`), so that a checkout never loads one. Git does not track them.
 *
 *   node scripts/prebuilds.mjs                      every architecture that has a compiler here
 *   node scripts/prebuilds.mjs --require x64,arm64  fails if one of these is missing
 *   node scripts/prebuilds.mjs --remove             removes the binaries
 *
 * Environment: JITPAXOS_REQUIRE_PREBUILDS=x64,arm64 is --require for an `npm pack`. `npm publish` requires all.
 * CXX is the compiler for this host.
 *
 * Node-API is stable, so one binary serves every Node from 20.4 on. It loads wherever Node 20 itself does: this script
 * reads what the binary needs and refuses one that needs more (`prebuild-not-portable`). It needs Linux, binutils, the
 * tools of node-gyp, and for the other architecture Debian's cross compiler (g++-aarch64-linux-gnu or
 * g++-x86-64-linux-gnu).
 */

import { spawnSync } from 'node:child_process';
import { copyFileSync, cpSync, mkdirSync, mkdtempSync, rmSync, statSync, symlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { compileAddon, excerpt, nodeGypProgram, onPath } from './node-gyp.mjs';

const ROOT = join(dirname(fileURLToPath(import.meta.url)), '..');
const PREBUILDS = join(ROOT, 'prebuilds');

const TARGETS = [
  { arch: 'x64', triplet: 'x86_64-linux-gnu', package: 'g++-x86-64-linux-gnu', machine: /X86-64/ },
  { arch: 'arm64', triplet: 'aarch64-linux-gnu', package: 'g++-aarch64-linux-gnu', machine: /AArch64/ },
];
const ARCHITECTURES = TARGETS.map(({ arch }) => arch);

/**
 * The newest versions that a binary may need: those of RHEL 8 (glibc 2.28, the library of GCC 8), the oldest system that
 * Node 20 supports. Debian 10 and Ubuntu 20.04 have the same or newer ones.
 */
const NEWEST = { GLIBC: '2.28', GLIBCXX: '3.4.25', CXXABI: '1.3.11', GCC: '8.0.0' };
/** Loaded already when Node runs. */
const LIBRARIES = /^(libc|libm|libpthread|libdl|librt|libstdc\+\+|libgcc_s|ld-linux-.*)\.so\.\d+$/;
/**
 * What every Node provides: Node-API, libuv, and this of its OpenSSL. What else the addon takes from there it declares as
 * weak, and asks first whether it is there.
 */
const FROM_NODE = /^(napi_|uv_|OPENSSL_cleanse$)/;

function fail(code, message) {
  console.error(`${code}: ${message}`);
  process.exit(1);
}

function readFlags() {
  let values;
  try {
    ({ values } = parseArgs({ options: { require: { type: 'string' }, remove: { type: 'boolean' } } }));
  } catch (error) {
    fail('prebuild-usage', error.message);
  }
  const whole = process.env.npm_command === 'publish' ? ARCHITECTURES.join(',') : '';
  const required = (values.require ?? (process.env.JITPAXOS_REQUIRE_PREBUILDS || whole)).split(',').filter(Boolean);
  const unknown = required.find((arch) => !ARCHITECTURES.includes(arch));
  if (unknown !== undefined)
    fail('prebuild-usage', `there is no prebuilt addon for "${unknown}", only for ${ARCHITECTURES.join(' and ')}`);
  return { required, remove: values.remove === true };
}

/** The compiler for a target, and what to install if it is not there. */
function compilerFor({ arch, triplet, package: name }) {
  if (arch === process.arch) return { command: process.env.CXX || 'g++', install: 'build-essential' };
  return { command: `${triplet}-g++`, install: name };
}

/** Why this target cannot be compiled here; undefined if it can. */
function obstacle(target) {
  if (process.platform !== 'linux') return `it can be compiled on Linux only, and this is ${process.platform}`;
  if (nodeGypProgram() === undefined) return 'node-gyp is not installed: run npm ci first';
  const { command, install } = compilerFor(target);
  if (!onPath(command.trim().split(/\s+/)[0])) return `${command} not found (Debian: apt-get install ${install})`;
  if (!onPath('readelf')) return 'readelf not found (Debian: apt-get install binutils)';
  return undefined;
}

/** Compiles in a copy, so that the addon of the checkout stays as it is. */
async function compile(target) {
  const copy = mkdtempSync(join(tmpdir(), 'jitpaxos-prebuild-'));
  try {
    for (const name of ['package.json', 'binding.gyp', 'native'])
      cpSync(join(ROOT, name), join(copy, name), { recursive: true });
    symlinkSync(join(ROOT, 'node_modules'), join(copy, 'node_modules'));
    const { command } = compilerFor(target);
    const { ok, log } = await compileAddon(nodeGypProgram(), copy, {
      environment: { CXX: command, JITPAXOS_PORTABLE: '1', JITPAXOS_WARNINGS_ARE_ERRORS: '1' },
      flags: [`--arch=${target.arch}`],
    });
    if (!ok) fail('prebuild-failed', [`linux-${target.arch} does not compile`, ...excerpt(log)].join('\n'));
    const path = join(PREBUILDS, `linux-${target.arch}`, 'jitpaxos.node');
    mkdirSync(dirname(path), { recursive: true });
    copyFileSync(join(copy, 'build', 'Release', 'jitpaxos.node'), path);
    return path;
  } finally {
    rmSync(copy, { recursive: true, force: true });
  }
}

function readelf(...args) {
  const run = spawnSync('readelf', ['--wide', ...args], { encoding: 'utf8', maxBuffer: 16 << 20 });
  if (run.status !== 0) fail('prebuild-unreadable', run.stderr);
  return run.stdout;
}

function isNewer(a, b) {
  const [left, right] = [a, b].map((version) => version.split('.').map(Number));
  for (let i = 0; i < Math.max(left.length, right.length); i++)
    if ((left[i] ?? 0) !== (right[i] ?? 0)) return (left[i] ?? 0) > (right[i] ?? 0);
  return false;
}

/** What a binary needs of the system that loads it, and what of that is too much. */
function inspect(path, { machine }) {
  const wrong = [];
  if (!machine.test(/Machine:\s*(.*)/.exec(readelf('--file-header', path))?.[1] ?? ''))
    wrong.push('it is for another processor');
  for (const [, library] of readelf('--dynamic', path).matchAll(/\(NEEDED\).*\[(.*)\]/g))
    if (!LIBRARIES.test(library)) wrong.push(`it needs ${library}`);
  const symbols = [
    ...readelf('--dyn-syms', path).matchAll(
      / (GLOBAL|WEAK|LOCAL) +\w+ +(?:\[.*\] +)?(UND|\d+) (\w+)(?:@+(?:([A-Z]+)_([\d.]+))?.*)?$/gm,
    ),
  ];
  if (!symbols.some(([, , section, name]) => section !== 'UND' && name === 'napi_register_module_v1'))
    wrong.push('it does not export napi_register_module_v1');
  const needs = { GLIBC: '0', GLIBCXX: '0' };
  for (const [, binding, section, name, family, version] of symbols) {
    if (section !== 'UND') continue;
    if (family === undefined) {
      if (binding !== 'WEAK' && !FROM_NODE.test(name)) wrong.push(`it needs ${name}, which nothing provides`);
      continue;
    }
    if (NEWEST[family] === undefined || isNewer(version, NEWEST[family]))
      wrong.push(`it needs ${name} of ${family}_${version}; the limit is ${family}_${NEWEST[family] ?? '(none)'}`);
    if (isNewer(version, needs[family] ?? '0')) needs[family] = version;
  }
  return { wrong, needs };
}

const { required, remove } = readFlags();
rmSync(PREBUILDS, { recursive: true, force: true });
if (remove) process.exit(0);
const absent = [];
for (const target of TARGETS) {
  const reason = obstacle(target);
  if (reason !== undefined) {
    absent.push(target.arch);
    console.error(`prebuild-missing: the package will have NO prebuilt addon for linux-${target.arch}: ${reason}`);
    continue;
  }
  const path = await compile(target);
  const { wrong, needs } = inspect(path, target);
  if (wrong.length > 0) {
    rmSync(PREBUILDS, { recursive: true, force: true });
    fail('prebuild-not-portable', [`linux-${target.arch}:`, ...wrong].join('\n  '));
  }
  const kib = Math.ceil(statSync(path).size / 1024);
  // stdout belongs to `npm pack --json`.
  console.error(`prebuilt linux-${target.arch}: ${kib} KiB, needs glibc ${needs.GLIBC}, GLIBCXX ${needs.GLIBCXX}`);
}
const lacking = required.filter((arch) => absent.includes(arch));
if (lacking.length > 0) {
  rmSync(PREBUILDS, { recursive: true, force: true });
  fail('prebuild-required', `no prebuilt addon for ${lacking.join(', ')}; the reason is above`);
}
