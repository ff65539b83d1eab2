/**
 * Runs phc-program.ts with a stand-in for PTP hardware, so that opening and reading a clock device is exercised on
 * hosts that have none.
 */
import t from 'tap';
import { buildStandIn, runProgram, standInEnvironment, whyNoStandIn } from './stand-in.js';

/** Tests in phc-program.ts. */
const TESTS = 10;

t.test('PTP hardware clocks, with a stand-in for the hardware', { skip: whyNoStandIn() }, async (t) => {
  const { library } = buildStandIn(t);
  await runProgram(t, new URL('./phc-program.js', import.meta.url), standInEnvironment(library), TESTS);
});
