/** Runs an example as a program: `node dist/examples/counter.js [CLUSTER_FILE [KEY_FILE]]`. */
import { realpathSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { JitPaxosError } from '../src/index.js';

/** Calls `main` when the module `url` is the program that Node was given, and prints what it resolves to. */
export async function runAsProgram(
  url: string,
  main: (cluster: string, keys?: string) => Promise<unknown>,
): Promise<void> {
  const [, program, cluster = 'cluster.json', keys] = process.argv;
  if (program === undefined || realpathSync(program) !== fileURLToPath(url)) return;
  try {
    console.log(await main(cluster, keys));
  } catch (error) {
    process.exitCode = 1;
    console.error(error instanceof JitPaxosError ? `${error.code}: ${error.message}` : error);
  }
}
