/**
 * npm's `install` script, and `npm run build:native`: builds the addon if possible.
 *
 * The rule: an installation never fails for lack of a compiler. Everything works without the addon, only slower, so
 * what is missing is explained and the exit code is 0. If a compiler exists and refuses our source, that is our fault,
 * and its output is shown. JITPAXOS_REQUIRE_NATIVE=1 turns every reason for having no addon into a failure.
 *
 * Environment: JITPAXOS_SKIP_NATIVE=1 builds nothing. JITPAXOS_REQUIRE_NATIVE=1 fails if there is no addon in the end.
 * CXX, MAKE and PYTHON are honoured as node-gyp honours them; npm's `nodedir` says where Node's headers are. npm shows
 * the output of a dependency's script only with --foreground-scripts; src/native/addon.ts repeats the reason at run
 * time.
 */

import { spawn } from 'node:child_process';
import { accessSync, constants, existsSync, mkdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { delimiter, dirname, isAbsolute, join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';

const ROOT = join(dirname(fileURLToPath(import.meta.url)), '..');
const ADDON = join(ROOT, 'build', 'Release', 'jitpaxos.node');
const LOG = join(ROOT, 'build', 'install.log');
const BUILD_MS_MAX = 10 * 60_000;
const LOG_BYTES_MAX = 1 << 20;
const EXCERPT_LINES_MAX = 40;

const WITHOUT = [
  'jitpaxos works without it: dgram transport, system clock through JavaScript, and a slower hash.',
  'PTP hardware clocks and the native transport need it.',
];
const TOOLCHAIN_ADVICE = [
  'To build it later, install a C++17 compiler, make and Python 3:',
  '  Debian, Ubuntu   apt-get install build-essential python3',
  '  Fedora, RHEL     dnf install gcc-c++ make python3',
  '  Alpine           apk add build-base python3 linux-headers',
  'and run `npm run build:native` (in an installed copy: npm rebuild jitpaxos --foreground-scripts).',
];

const required = process.env.JITPAXOS_REQUIRE_NATIVE === '1';

/** Ends without an addon: explains why, and fails only if one was required. */
function endWithout(reason, advice) {
  const lines = [`jitpaxos: the native addon was not built: ${reason}.`, ...advice, ...WITHOUT];
  if (required) lines.push('JITPAXOS_REQUIRE_NATIVE=1 is set, so this is a failure.');
  console.error(lines.join('\n'));
  process.exitCode = required ? 1 : 0;
}

function isExecutable(path) {
  try {
    accessSync(path, constants.X_OK);
    return statSync(path).isFile();
  } catch {
    return false;
  }
}

function onPath(command) {
  if (isAbsolute(command)) return isExecutable(command);
  return (process.env.PATH ?? '')
    .split(delimiter)
    .some((directory) => directory !== '' && isExecutable(join(directory, command)));
}

/** The missing tools of node-gyp's make build, in words. */
function missingTools() {
  const tools = [
    // A value such as "ccache g++" is a command with arguments.
    ['a C++ compiler', process.env.CXX ? [process.env.CXX.trim().split(/\s+/)[0]] : ['g++', 'c++', 'clang++']],
    ['make', process.env.MAKE ? [process.env.MAKE] : ['make', 'gmake']],
    [
      'Python 3',
      [
        process.env.npm_config_python,
        process.env.NODE_GYP_FORCE_PYTHON,
        process.env.PYTHON,
        'python3',
        'python',
      ].filter(Boolean),
    ],
  ];
  return tools.filter(([, commands]) => !commands.some(onPath)).map(([name]) => name);
}

/**
 * Where Node's headers are: what npm was told, or else beside this Node if they have the same version (its tarballs and
 * most packages include them), which saves node-gyp a download. Undefined: let node-gyp fetch them.
 */
function headersDirectory() {
  if (process.env.npm_config_nodedir) return process.env.npm_config_nodedir;
  const prefix = join(dirname(process.execPath), '..');
  try {
    const header = readFileSync(join(prefix, 'include', 'node', 'node_version.h'), 'utf8');
    const part = (name) => new RegExp(`#define NODE_${name}_VERSION (\\d+)`).exec(header)?.[1];
    return ['MAJOR', 'MINOR', 'PATCH'].map(part).join('.') === process.versions.node ? prefix : undefined;
  } catch {
    return undefined;
  }
}

/** Runs node-gyp and keeps the end of its output. */
function build(nodeGyp) {
  const env = { ...process.env };
  const nodedir = headersDirectory();
  if (nodedir !== undefined) env.npm_config_nodedir = nodedir;
  // In a checkout, whose developers can fix a warning; not in a package, whose users cannot.
  if (existsSync(join(ROOT, 'tsconfig.json'))) env.JITPAXOS_WARNINGS_ARE_ERRORS = '1';
  return new Promise((resolve) => {
    const child = spawn(process.execPath, [nodeGyp, 'rebuild', '--jobs', 'max'], {
      cwd: ROOT,
      env,
      stdio: ['ignore', 'pipe', 'pipe'],
      timeout: BUILD_MS_MAX,
    });
    let log = '';
    const keep = (chunk) => (log = (log + chunk).slice(-LOG_BYTES_MAX));
    child.stdout.setEncoding('utf8').on('data', keep);
    child.stderr.setEncoding('utf8').on('data', keep);
    child.on('error', (error) => resolve({ ok: false, log: `${log}${error.message}\n` }));
    child.on('close', (code, signal) => {
      if (signal !== null) log += `ended by ${signal} (a build may take ${BUILD_MS_MAX / 60_000} minutes)\n`;
      resolve({ ok: code === 0, log });
    });
  });
}

/** The relevant lines: from the first error on, otherwise the end. */
function excerpt(log) {
  const lines = log.trimEnd().split('\n');
  const first = lines.findIndex((line) => /\berror\b/i.test(line));
  const shown = first === -1 ? lines.slice(-EXCERPT_LINES_MAX) : lines.slice(first, first + EXCERPT_LINES_MAX);
  return shown.map((line) => `  | ${line}`);
}

function keepLog(log) {
  try {
    mkdirSync(dirname(LOG), { recursive: true });
    writeFileSync(LOG, log);
    return `The whole log is in ${relative(process.cwd(), LOG)}.`;
  } catch (error) {
    return `The whole log could not be kept (${error.message}).`;
  }
}

function explainFailure(log) {
  const kept = keepLog(log);
  if (/getaddrinfo|ECONNREFUSED|ETIMEDOUT|ENETUNREACH|ECONNRESET|FetchError|response downloading/.test(log)) {
    return endWithout("Node's headers are not on this host and could not be downloaded", [
      ...excerpt(log),
      kept,
      'Install them (Debian: libnode-dev; or use a Node from nodejs.org, which brings them) or point npm to them: npm_config_nodedir=/usr npm run build:native',
    ]);
  }
  return endWithout('the compiler or node-gyp failed, which is not expected. Please report this with the log', [
    ...excerpt(log),
    kept,
  ]);
}

async function main() {
  if (process.env.JITPAXOS_SKIP_NATIVE === '1') return endWithout('JITPAXOS_SKIP_NATIVE=1 is set', []);
  if (process.platform !== 'linux') return endWithout(`it is Linux-only for now, and this is ${process.platform}`, []);
  const missing = missingTools();
  if (missing.length > 0) return endWithout(`${missing.join(' and ')} not found`, TOOLCHAIN_ADVICE);
  const require = createRequire(import.meta.url);
  let nodeGyp;
  try {
    nodeGyp = join(dirname(require.resolve('node-gyp/package.json')), 'bin', 'node-gyp.js');
  } catch {
    return endWithout('node-gyp is not installed', [
      'It is a dependency of jitpaxos: run npm ci (or npm install) first.',
    ]);
  }

  const started = performance.now();
  const { ok, log } = await build(nodeGyp);
  if (!ok) return explainFailure(log);
  try {
    require(ADDON);
  } catch (error) {
    return explainFailure(`${log}error: the addon was built and does not load: ${error.message}\n`);
  }
  console.log(`jitpaxos: native addon built in ${((performance.now() - started) / 1000).toFixed(1)} s`);
}

await main();
