/**
 * Everything that has to hold before a change is merged, in the order in which it is cheapest to be told of a mistake.
 * Contributors run it, and CI runs the same (.ci/run):
 *
 *   npm run verify                       all steps; stops at the first that fails and says what to do
 *   npm run verify -- --from tests       goes on from that step, after what failed was mended
 *   npm run verify -- --only lint,types  these steps alone
 *   npm run verify -- --list             the steps and what each one runs
 *
 * Prints one line a step with its time; what a step itself prints is shown as it comes. Writes nothing that Git tracks.
 */
import { spawn } from 'node:child_process';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';

const ROOT = fileURLToPath(new URL('..', import.meta.url));
const node = (...args) => [process.execPath, ...args];
const biome = (...args) => [join(ROOT, 'node_modules/.bin/biome'), ...args];

/**
 * Each step: its name, the commands that it runs in turn (`together`: at once), and what to do when one of them fails. When the steps `tests`
 * and `coverage` both run, `tests` counts what `coverage` compares (COUNTED), so that no test runs twice.
 */
const STEPS = [
  {
    name: 'format',
    commands: [biome('format', '.')],
    advice: 'npm run format rewrites the files; then look at the difference',
  },
  {
    name: 'lint',
    commands: [biome('lint', '--error-on-warnings', '.')],
    advice: 'mend what is named above; npx biome lint --write mends what is safe to mend by itself',
  },
  {
    name: 'types',
    commands: [node('node_modules/typescript/bin/tsc', '-p', 'tsconfig.json')],
    advice: 'mend the type errors above; npm run build shows them again',
  },
  {
    name: 'docs',
    commands: [node('scripts/wire-docs.mjs', '--check'), node('scripts/reference-docs.mjs', '--check')],
    advice: 'npm run docs:wire and npm run docs:reference write the pages anew; commit them with the change',
  },
  {
    name: 'package',
    commands: [node('scripts/check-package.mjs')],
    advice: 'mend what the message says; npm pack --dry-run --ignore-scripts lists what is in the package',
  },
  {
    name: 'tests',
    commands: [node('scripts/test.mjs')],
    advice:
      'run the file that failed alone: node scripts/test.mjs dist/test/….test.js; all that it said is in .tap/test.log',
  },
  {
    name: 'coverage',
    commands: [node('scripts/coverage.mjs')],
    advice:
      'test what is not reached: node scripts/coverage.mjs --files says in which files; the floors stand in that script',
  },
  {
    name: 'simulation',
    // A run takes one processor.
    together: true,
    commands: ['1..100', '101..200'].map((seeds) =>
      node('dist/src/cli/main.js', 'sim', '--seed', seeds, '--replicas', '3,5'),
    ),
    advice:
      'the report above names the seed and the command that replays it; docs/internals/simulation.md says how to read it',
  },
];

/** The commands of steps that run one after the other in one go. */
const COUNTED = {
  tests: [node('scripts/test.mjs', '--coverage')],
  coverage: [node('scripts/coverage.mjs', '--counted')],
};

const names = STEPS.map(({ name }) => name);

function usage(message) {
  console.error(`verify-usage: ${message}; the steps are ${names.join(', ')}`);
  process.exit(2);
}

function read() {
  try {
    const options = { from: { type: 'string' }, only: { type: 'string' }, list: { type: 'boolean' } };
    return parseArgs({ options }).values;
  } catch (error) {
    return usage(error.message);
  }
}

/** The steps that the flags ask for. */
function chosen({ from, only }) {
  if (from !== undefined && only !== undefined) usage('--from and --only exclude each other');
  const wanted = only?.split(',') ?? (from === undefined ? names : [from]);
  for (const name of wanted) if (!names.includes(name)) usage(`there is no step "${name}"`);
  const steps =
    from === undefined ? STEPS.filter(({ name }) => wanted.includes(name)) : STEPS.slice(names.indexOf(from));
  const isCounting = Object.keys(COUNTED).every((name) => steps.some((step) => step.name === name));
  return isCounting ? steps.map((step) => ({ ...step, commands: COUNTED[step.name] ?? step.commands })) : steps;
}

/** Resolves to the exit code of a command whose output goes where ours goes. */
function run([program, ...args]) {
  return new Promise((resolve, reject) => {
    const child = spawn(program, args, { cwd: ROOT, stdio: ['ignore', 'inherit', 'inherit'] });
    const forward = (signal) => child.kill(signal);
    for (const signal of ['SIGINT', 'SIGTERM']) process.on(signal, forward);
    child.on('error', reject);
    child.on('exit', (code) => {
      for (const signal of ['SIGINT', 'SIGTERM']) process.off(signal, forward);
      resolve(code ?? 1);
    });
  });
}

/** A command as a person would type it. */
const shown = ([program, ...args]) =>
  [program === process.execPath ? 'node' : program.replace(`${ROOT}node_modules/.bin/`, 'npx '), ...args].join(' ');

const flags = read();
const steps = chosen(flags);
if (flags.list === true) {
  for (const { name, commands, together } of steps)
    console.log(`${name.padEnd(11)} ${commands.map(shown).join(together ? ' & ' : ' && ')}`);
  process.exit(0);
}
const begunMs = performance.now();
for (const { name, commands, together, advice } of steps) {
  const stepMs = performance.now();
  const seconds = () => `${((performance.now() - stepMs) / 1000).toFixed(1)} s`;
  const codes = together ? await Promise.all(commands.map(run)) : [];
  for (const [index, command] of commands.entries()) {
    const code = codes[index] ?? (await run(command));
    if (code === 0) continue;
    console.error(`✖ ${name.padEnd(11)} ${seconds()}: ${shown(command)} ended with ${code}`);
    console.error(`verify-failed: ${advice}; then go on with: npm run verify -- --from ${name}`);
    process.exit(1);
  }
  console.log(`✔ ${name.padEnd(11)} ${seconds()}`);
}
console.log(
  `verified: ${steps.length} of ${STEPS.length} steps in ${((performance.now() - begunMs) / 1000).toFixed(1)} s`,
);
