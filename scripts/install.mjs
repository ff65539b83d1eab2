/**
 * npm's `install` script, and `npm run build:native`: sees to it that there is an addon, if possible.
 *
 * A published package holds prebuilt binaries (scripts/prebuilds.mjs). One that loads here is used; otherwise the addon
 * is compiled. A checkout always compiles.
 *
 * The rule: an installation never fails for lack of a compiler. Everything works without the addon, only slower, so
 * what is missing is explained and the exit code is 0. If a compiler exists and refuses our source, that is our fault,
 * and its output is shown. JITPAXOS_REQUIRE_NATIVE=1 turns every reason for having no addon into a failure.
 *
 * Environment: JITPAXOS_SKIP_NATIVE=1 compiles nothing. JITPAXOS_BUILD_NATIVE=1 compiles even if a prebuilt binary would
 * do. JITPAXOS_REQUIRE_NATIVE=1 fails if there is no addon in the end. CXX, MAKE and PYTHON are honoured as node-gyp
 * honours them; npm's `nodedir` says where Node's headers are. npm shows the output of a dependency's script only with
 * --foreground-scripts; src/native/addon.ts repeats the reason at run time.
 */

import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join, relative } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { compileAddon, excerpt, nodeGypProgram, onPath } from './node-gyp.mjs';

const ROOT = join(dirname(fileURLToPath(import.meta.url)), '..');
const ADDON = join(ROOT, 'build', 'Release', 'jitpaxos.node');
const LOADER = join(ROOT, 'dist', 'src', 'native', 'addon.js');
const LOG = join(ROOT, 'build', 'install.log');
/** Not part of the package. */
const IS_CHECKOUT = existsSync(join(ROOT, 'tsconfig.json'));

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
/** Why there is no prebuilt addon for this host; empty in a checkout, which has none. */
let withoutPrebuilt = '';

/** Ends without an addon: explains why, and fails only if one was required. */
function endWithout(reason, advice) {
  const lines = [`jitpaxos: ${withoutPrebuilt}the native addon was not built: ${reason}.`, ...advice, ...WITHOUT];
  if (required) lines.push('JITPAXOS_REQUIRE_NATIVE=1 is set, so this is a failure.');
  console.error(lines.join('\n'));
  process.exitCode = required ? 1 : 0;
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
 * Whether the prebuilt binary of this package is good for this host, by the loader's own rules. It is loaded in a
 * process of its own: a binary that crashes is then only one that cannot be used.
 */
function tryPrebuilt() {
  const program = `
    const { loadPrebuilt } = await import(${JSON.stringify(pathToFileURL(LOADER).href)});
    const { available, reason } = loadPrebuilt();
    console.log(JSON.stringify({ available, reason }));`;
  const run = spawnSync(process.execPath, ['--input-type=module', '-e', program], { encoding: 'utf8' });
  if (run.status === 0) return JSON.parse(run.stdout);
  return { available: false, reason: `loading it ended with ${run.signal ?? run.status}: ${run.stderr.trim()}` };
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
  if (process.platform !== 'linux') return endWithout(`it is Linux-only for now, and this is ${process.platform}`, []);
  if (!IS_CHECKOUT && process.env.JITPAXOS_BUILD_NATIVE !== '1') {
    const prebuilt = tryPrebuilt();
    if (prebuilt.available) return console.log(`jitpaxos: the prebuilt native addon is used (linux-${process.arch})`);
    withoutPrebuilt = `${prebuilt.reason}; `;
  }
  if (process.env.JITPAXOS_SKIP_NATIVE === '1') return endWithout('JITPAXOS_SKIP_NATIVE=1 is set', []);
  const missing = missingTools();
  if (missing.length > 0) return endWithout(`${missing.join(' and ')} not found`, TOOLCHAIN_ADVICE);
  const nodeGyp = nodeGypProgram();
  if (nodeGyp === undefined) {
    return endWithout('node-gyp is not installed', [
      'It is a dependency of jitpaxos: run npm ci (or npm install) first.',
    ]);
  }

  const started = performance.now();
  // Warnings are errors in a checkout, whose developers can fix them; not in a package, whose users cannot.
  const environment = IS_CHECKOUT ? { JITPAXOS_WARNINGS_ARE_ERRORS: '1' } : {};
  const { ok, log } = await compileAddon(nodeGyp, ROOT, { environment });
  if (!ok) return explainFailure(log);
  try {
    createRequire(import.meta.url)(ADDON);
  } catch (error) {
    return explainFailure(`${log}error: the addon was built and does not load: ${error.message}\n`);
  }
  console.log(`jitpaxos: native addon built in ${((performance.now() - started) / 1000).toFixed(1)} s`);
}

await main();
