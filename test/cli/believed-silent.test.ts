// A dead host does not make each look wait: it has all of the time once in a second, and everybody else always.
import t from 'tap';
import { BELIEVED_MS, BRIEF_MS, BelievedSilent } from '../../src/cli/members/believed-silent.js';
import type { Answered } from '../../src/client/inquiry.js';

const ANSWER_MS = 700;

/** Hosts that answer after this time, by id; a clock that only waiting moves. */
function asked(answersAfterMs: number[]) {
  let nowMs = 0;
  const waited: number[] = [];
  const silent = new BelievedSilent(() => nowMs);
  const ask = async (timeoutMs: number): Promise<readonly Answered<string>[]> => {
    waited.push(timeoutMs);
    nowMs += Math.min(timeoutMs, Math.max(...answersAfterMs));
    return answersAfterMs.map((ms, id) => ({
      id,
      address: `h:${id}`,
      answer: ms <= timeoutMs ? 'here' : undefined,
      roundTripUs: undefined,
      speaks: 0,
    }));
  };
  return {
    sleep: (ms: number): void => void (nowMs += ms),
    /** Who answered, and how long was waited for them. */
    look: async (): Promise<{ readonly heard: number[]; readonly waited: number[] }> => {
      waited.length = 0;
      const answers = await silent.ask(
        answersAfterMs.map((_, id) => `${id}`),
        ANSWER_MS,
        ask,
      );
      return { heard: answers.flatMap(({ id, answer }) => (answer === undefined ? [] : [id])), waited: [...waited] };
    },
  };
}

t.test('a dead host has all of the time once in a second', async (t) => {
  const { look, sleep } = asked([1, 1, Infinity]);
  t.same(await look(), { heard: [0, 1], waited: [ANSWER_MS] });
  for (let spentMs = 0; spentMs < BELIEVED_MS; spentMs += BRIEF_MS)
    t.same(await look(), { heard: [0, 1], waited: [BRIEF_MS] }, `after ${spentMs} ms`);
  t.same(await look(), { heard: [0, 1], waited: [ANSWER_MS] }, 'the second is over');
  sleep(BELIEVED_MS);
  t.same(await look(), { heard: [0, 1], waited: [ANSWER_MS] });
});

t.test('others have all of the time in each look', async (t) => {
  const hosts = [1, 1, Infinity];
  const { look } = asked(hosts);
  await look();
  hosts[1] = 2 * BRIEF_MS;
  t.same(await look(), { heard: [0, 1], waited: [BRIEF_MS, ANSWER_MS] });
});

t.test('a host that returns is heard at once, and then has all of the time again', async (t) => {
  const hosts = [1, 1, Infinity];
  const { look } = asked(hosts);
  await look();
  hosts[2] = 1;
  t.same(await look(), { heard: [0, 1, 2], waited: [BRIEF_MS] });
  hosts[2] = 2 * BRIEF_MS;
  t.same(await look(), { heard: [0, 1, 2], waited: [ANSWER_MS] });
});
