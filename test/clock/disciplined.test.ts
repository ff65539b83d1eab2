/** Runs disciplined-program.ts with the stand-in's model clock. */
import { join } from 'node:path';
import t from 'tap';
import { Model } from './model.js';
import { Sysfs } from './sysfs.js';
import { buildStandIn, runProgram, standInEnvironment, whyNoStandIn } from './stand-in.js';

/** Tests in disciplined-program.ts. */
const TESTS = 13;

t.test('a disciplined clock, with a stand-in for the hardware', { skip: whyNoStandIn() }, async (t) => {
  const { library, directory } = buildStandIn(t);
  const model = new Model(join(directory, 'model'));
  await runProgram(
    t,
    new URL('./disciplined-program.js', import.meta.url),
    standInEnvironment(library, model.path, new Sysfs(join(directory, 'root')).root),
    TESTS,
  );
});
