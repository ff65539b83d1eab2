/** Runs a test file inside namespaces of its own (src/measure/namespaces.ts), or says why it is skipped. */
import type { Test } from 'tap';
import { isInside, runInside, settleInside, withoutNamespaces } from '../../src/measure/namespaces.js';

/** Whether this process is the one that runs the tests. The other one waits for it and has its result. */
export async function insideNamespaces(t: Pick<Test, 'equal' | 'pass'>): Promise<boolean> {
  if (isInside()) {
    settleInside();
    return true;
  }
  const reason = withoutNamespaces();
  if (reason !== false) t.pass(`skipped: ${reason}`);
  else t.equal(await runInside(), 0, 'all tests inside of the namespaces pass');
  return false;
}
