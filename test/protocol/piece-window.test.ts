// How much of a snapshot is asked for at once, and how long its pieces are waited for.
import t from 'tap';
import { PieceWindow } from '../../src/protocol/replica/views/piece-window.js';
import type { Instant } from '../../src/protocol/contract.js';

const TIMEOUT_US = 10_000;
const LENGTH = 1 << 28;

/** A source that answers each question after `answerUs`, in the order in which they were asked. */
class Asker {
  readonly window: PieceWindow;
  received = 0;
  nowUs = 0;
  questions = 0;
  private readonly answers: { readonly end: number; readonly atUs: number }[] = [];
  private askedUs = 0;
  private freeUs = 0;

  constructor(
    private readonly chunkBytes: number,
    isMember: boolean,
  ) {
    this.window = new PieceWindow(chunkBytes, TIMEOUT_US);
    this.window.forget();
    this.window.begin(0, isMember);
  }

  get now(): Instant {
    return { monotonicUs: this.nowUs } as unknown as Instant;
  }

  ask(answerUs: number): void {
    const { window } = this;
    while (window.mayAsk(this.received, LENGTH)) {
      const end = window.asked + this.chunkBytes;
      window.asks(this.now);
      this.questions++;
      this.freeUs = Math.max(this.freeUs, this.nowUs + answerUs);
      this.answers.push({ end, atUs: this.freeUs });
    }
    this.askedUs = this.nowUs;
  }

  /** Goes on until this many bytes have come. */
  until(bytes: number, answerUs: number): void {
    this.ask(answerUs);
    while (this.received < bytes) {
      this.nowUs += 100;
      while (this.answers.length > 0 && this.answers[0]!.atUs <= this.nowUs) {
        const { end } = this.answers.shift()!;
        if (end <= this.received) continue;
        const length = end - this.received;
        this.received = end;
        this.window.took(length, end, false, this.now);
        this.ask(answerUs);
      }
      if (this.nowUs - this.askedUs < this.window.waits * TIMEOUT_US) continue;
      this.window.late(this.received);
      this.ask(answerUs);
    }
  }
}

for (const chunkBytes of [500, 16 * 1024, 59_000])
  t.test(`at most 128 KiB are asked for at first, and fewer after a loss: answers of ${chunkBytes}`, (t) => {
    const most = Math.min(8 * chunkBytes, 128 * 1024);
    const window = new PieceWindow(chunkBytes, TIMEOUT_US);
    window.begin(0, true);
    const now = { monotonicUs: 0 } as unknown as Instant;
    let received = 0;
    const take = (count: number): void => {
      for (; count > 0; count--) {
        while (window.mayAsk(received, LENGTH)) window.asks(now);
        window.took(chunkBytes, (received += chunkBytes), false, now);
      }
    };
    take(3);
    t.equal(window.ahead, most, 'a member of the view never asks for more');
    window.lost(received);
    t.equal(window.ahead, Math.max(chunkBytes, most / 2));
    window.lost(received);
    t.equal(window.ahead, Math.max(chunkBytes, most / 2), 'of one round one loss counts');
    for (let round = 0; round < 10; round++) {
      while (received < window.asked) window.took(chunkBytes, (received += chunkBytes), false, now);
      window.lost(received);
    }
    t.ok(
      window.ahead >= chunkBytes && window.ahead < 2 * chunkBytes + 1,
      `one answer is always asked for: ${window.ahead}`,
    );
    take(200);
    t.equal(window.ahead, most, 'and in the end as much as at first');
    t.end();
  });

t.test('a replica that is no member asks for more with time, up to 512 KiB', (t) => {
  const asker = new Asker(16 * 1024, false);
  asker.until(64 << 20, 1_000);
  t.equal(asker.window.ahead, 512 * 1024);
  t.end();
});

for (const answerUs of [1_000, 30_000, 100_000])
  t.test(`hardly anything is asked for twice of a source that takes ${answerUs / 1000} ms`, (t) => {
    const asker = new Asker(16 * 1024, false);
    const bytes = 32 << 20;
    asker.until(bytes, answerUs);
    const needed = bytes / (16 * 1024);
    t.ok(asker.questions < 1.05 * needed + 40, `${asker.questions} questions for ${needed} pieces`);
    t.ok(
      asker.window.usualWaits >= Math.min(16, answerUs / TIMEOUT_US) * 0.9,
      `waits ${asker.window.usualWaits} times`,
    );
    t.end();
  });

t.test('a source that falls silent is asked less and less often', (t) => {
  const window = new PieceWindow(16 * 1024, TIMEOUT_US);
  window.begin(0, false);
  const waits: number[] = [];
  for (let i = 0; i < 6; i++) {
    waits.push(window.waits);
    window.late(0);
  }
  t.strictSame(waits, [1, 2, 4, 8, 16, 16]);
  t.equal(window.usualWaits, 1, 'which says nothing of how long it takes');
  t.end();
});
