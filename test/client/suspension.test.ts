/** A real process that is stopped and goes on does not take that for a suspension of its host. */
import { fork } from 'node:child_process';
import { once } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import t from 'tap';
import type { Seen } from './suspension-program.js';

const PROGRAM = fileURLToPath(new URL('./suspension-program.js', import.meta.url));
const STOPS = 20;
const STOP_MS = 40;

t.test('SIGSTOP and SIGCONT are no suspension of the host', async (t) => {
  const child = fork(PROGRAM, { stdio: ['ignore', 'inherit', 'inherit', 'ipc'] });
  t.teardown(() => child.kill('SIGKILL'));
  await once(child, 'message');
  const seen = async (): Promise<Seen> => {
    const answer = once(child, 'message');
    child.send('what was seen?');
    return ((await answer) as [Seen])[0];
  };
  for (let stop = 0; stop < STOPS; stop++) {
    await sleep(5 + (stop % 7));
    child.kill('SIGSTOP');
    await sleep(STOP_MS);
    child.kill('SIGCONT');
  }
  const { suspendedMs, longestMs } = await seen();
  t.ok(longestMs >= STOP_MS / 2, `it was stopped: ${longestMs.toFixed(1)} ms between two looks`);
  t.equal(suspendedMs, null, 'and was not taken in');
});
