/**
 * Which tests V8 counts for the step `coverage` of npm run verify, and where it leaves its counts: those of the three
 * folders that carry safety. Counting slows code down, so nothing else is counted. scripts/test.mjs counts while it
 * runs the tests, and scripts/coverage.mjs reads the counts.
 */
import { join, sep } from 'node:path';
import { fileURLToPath } from 'node:url';

const ROOT = join(fileURLToPath(new URL('.', import.meta.url)), '..');

/** What V8 has counted, a file for each process. */
export const COUNTS = join(ROOT, '.tap', 'coverage');
/** Folders of src/ and of test/. */
export const COUNTED_FOLDERS = ['protocol', 'storage', 'wire'];
/** They run clusters for minutes of simulated time, and reach no rule that the other files do not reach. */
const LEFT_OUT = ['busy', 'distances', 'replica-clocks', 'pleas'].map((name) => `${name}.test.js`);

/** @param {string} path of a compiled test file */
export function isCounted(path) {
  const [folder, name] = path.split(sep).slice(-2);
  return COUNTED_FOLDERS.includes(folder) && !LEFT_OUT.includes(name);
}
