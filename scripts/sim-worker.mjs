/**
 * A process of scripts/sim-long.mjs: gets the arguments of `jitpaxos sim` in a message, runs that command, and answers
 * with its report, again and again. It stays because V8 compiles the simulator anew in each process: one for each block
 * would spend half of its time on that.
 */
import { parseFlags } from '../dist/src/console/flags.js';
import { sim } from '../dist/src/cli/sim.js';

process.on('message', async (args) => {
  try {
    let report = '';
    const output = { line: (text) => (report += text), note: () => undefined, json: true, quiet: true };
    await sim.run(parseFlags(sim.shape, args), output);
    process.send({ report });
  } catch (error) {
    process.send({ complaint: error.message });
  }
});
