/**
 * How long the answers of hosts are waited for that are asked again and again. A host that did not answer in time is
 * believed to be silent for a second. Within it its answer is waited for only briefly, so that a dead host does not make
 * each look wait for all of the time; afterwards it gets all of the time again. Decides only how fast a tool is.
 */
import type { Answered } from '../../client/inquiry.js';

export const BELIEVED_MS = 1_000;
export const BRIEF_MS = 100;

export class BelievedSilent {
  /** Until when, by host as its asker names it. */
  private readonly untilMs = new Map<string, number>();

  constructor(private readonly nowMs: () => number) {}

  /**
   * Resolves with an answer for each host, in their order. A host that is not believed to be silent has `answerMs`.
   * @param names of the hosts, in their order
   * @param ask asks all of them, and waits this long
   */
  async ask<T>(
    names: readonly string[],
    answerMs: number,
    ask: (timeoutMs: number) => Promise<readonly Answered<T>[]>,
  ): Promise<readonly Answered<T>[]> {
    const { untilMs, nowMs } = this;
    const beganMs = nowMs();
    const believed = names.map((name) => (untilMs.get(name) ?? -Infinity) > beganMs);
    if (believed.includes(true)) {
      const answers = await ask(Math.min(BRIEF_MS, answerMs));
      for (const [at, { answer }] of answers.entries()) if (answer !== undefined) untilMs.delete(names[at]!);
      if (answers.every(({ answer }, at) => answer !== undefined || believed[at])) return answers;
    }
    const answers = await ask(answerMs);
    for (const [at, { answer }] of answers.entries()) {
      if (answer !== undefined) untilMs.delete(names[at]!);
      else untilMs.set(names[at]!, nowMs() + BELIEVED_MS);
    }
    return answers;
  }
}
