/**
 * A program for tests (`jitpaxosEach`): runs the command once for each list of arguments, one after the other in this
 * process, for runs that end without having started anything: refused flags, --help. The subcommands' files are loaded
 * once. What each run wrote, and its exit code, goes to the parent process.
 */
import type { Ended } from './processes.js';

const exit = process.exit.bind(process);
const [main, argumentLists] = JSON.parse(process.argv[2]!) as [main: string, argumentLists: string[][]];
process.stdout.setMaxListeners(0);
process.stderr.setMaxListeners(0);
// A failed command ends its process, in case something was left behind. Here the other runs are still to come.
process.exit = (() => undefined) as typeof process.exit;

const ends: Ended[] = [];
for (const [run, args] of argumentLists.entries()) {
  const written = { stdout: '', stderr: '' };
  for (const name of ['stdout', 'stderr'] as const)
    process[name].write = (text: string | Uint8Array): boolean => {
      written[name] += typeof text === 'string' ? text : Buffer.from(text).toString();
      return true;
    };
  process.argv.splice(2, Infinity, ...args);
  process.exitCode = undefined;
  // The query makes it another module: what it keeps between its start and its end is that of this run.
  await import(`${main}?run=${run}`);
  while (process.exitCode === undefined) await new Promise((resolve) => setTimeout(resolve, 1));
  ends.push({ code: Number(process.exitCode), ...written });
}
process.exitCode = 0;
process.send!(ends, () => exit(0));
