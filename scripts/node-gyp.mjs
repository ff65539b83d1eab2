/** Runs node-gyp for scripts/install.mjs, which compiles the addon for this host, and for scripts/prebuilds.mjs. */

import { spawn } from 'node:child_process';
import { accessSync, constants, readFileSync, statSync } from 'node:fs';
import { createRequire } from 'node:module';
import { delimiter, dirname, isAbsolute, join } from 'node:path';

/** A busy host or a small one takes its time, most of all with sanitizers (test-asan.mjs). */
const BUILD_MS_MAX = 30 * 60_000;
const LOG_BYTES_MAX = 1 << 20;
const EXCERPT_LINES_MAX = 40;

function isExecutable(path) {
  try {
    accessSync(path, constants.X_OK);
    return statSync(path).isFile();
  } catch {
    return false;
  }
}

export function onPath(command) {
  if (isAbsolute(command)) return isExecutable(command);
  return (process.env.PATH ?? '')
    .split(delimiter)
    .some((directory) => directory !== '' && isExecutable(join(directory, command)));
}

/** The program node-gyp; undefined if its package is not installed. */
export function nodeGypProgram() {
  try {
    return join(dirname(createRequire(import.meta.url).resolve('node-gyp/package.json')), 'bin', 'node-gyp.js');
  } catch {
    return undefined;
  }
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

/**
 * Compiles the addon of the package in `directory`, into its build/Release/. Resolves to whether it succeeded and to the
 * end of the output. `environment` is added to ours, `flags` to those of node-gyp. A build that takes longer than `ms` is
 * ended, with all processes that it started: a compiler that went on would keep the output open, and this would wait for it.
 */
export function compileAddon(nodeGyp, directory, { environment = {}, flags = [], ms = BUILD_MS_MAX } = {}) {
  const env = { ...process.env, ...environment };
  const nodedir = headersDirectory();
  if (nodedir !== undefined) env.npm_config_nodedir = nodedir;
  return new Promise((resolve) => {
    const child = spawn(process.execPath, [nodeGyp, 'rebuild', '--jobs', 'max', ...flags], {
      cwd: directory,
      env,
      stdio: ['ignore', 'pipe', 'pipe'],
      detached: process.platform !== 'win32', // a group of its own, which can be ended as a whole
    });
    const end = (signal) => {
      try {
        if (process.platform === 'win32') child.kill(signal);
        else process.kill(-child.pid, signal);
      } catch {
        // it has ended already
      }
    };
    let isLate = false;
    const timer = setTimeout(() => {
      isLate = true;
      end('SIGKILL');
    }, ms);
    // Ctrl-C does not reach another group.
    const forward = (signal) => {
      end(signal);
      stopListening();
      process.kill(process.pid, signal);
    };
    const signals = ['SIGINT', 'SIGTERM', 'SIGHUP'];
    for (const signal of signals) process.on(signal, forward);
    const stopListening = () => {
      clearTimeout(timer);
      for (const signal of signals) process.off(signal, forward);
    };
    let log = '';
    const keep = (chunk) => (log = (log + chunk).slice(-LOG_BYTES_MAX));
    child.stdout.setEncoding('utf8').on('data', keep);
    child.stderr.setEncoding('utf8').on('data', keep);
    child.on('error', (error) => {
      stopListening();
      resolve({ ok: false, log: `${log}${error.message}\n` });
    });
    child.on('close', (code, signal) => {
      stopListening();
      if (isLate) log += `ended: a build may take ${ms / 60_000} minutes\n`;
      else if (signal !== null) log += `ended by ${signal}\n`;
      resolve({ ok: code === 0, log });
    });
  });
}

/** The relevant lines of a log: from the first error on, otherwise the end. */
export function excerpt(log) {
  const lines = log.trimEnd().split('\n');
  const first = lines.findIndex((line) => /\berror\b/i.test(line));
  const shown = first === -1 ? lines.slice(-EXCERPT_LINES_MAX) : lines.slice(first, first + EXCERPT_LINES_MAX);
  return shown.map((line) => `  | ${line}`);
}
