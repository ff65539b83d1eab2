/** Who has the store remove what has ended, and how often, in virtual time. SEED=n replays the waits by chance. */
import t, { type Test } from 'tap';
import type { Client } from '../../src/client/client.js';
import { EndTicker, endTickerOf, type EndWatch, type Ticked } from '../../src/client/end-ticker.js';
import { randomFrom } from '../random.js';

const SEED = Number(process.env['SEED'] ?? Date.now() % 1e9);
console.log(`# SEED=${SEED} replays the waits by chance`);

/** Agreed time is this much more than the time of the timers. */
const AGREED = 1_000_000;
const REMOVED_MAX = 16;

/** Timers in virtual time. */
class Clock {
  ms = 0;
  private readonly timers = new Set<{ readonly atMs: number; readonly run: () => void }>();

  after(ms: number, run: () => void): () => void {
    const timer = { atMs: this.ms + ms, run };
    this.timers.add(timer);
    return () => this.timers.delete(timer);
  }

  get waiting(): number {
    return this.timers.size;
  }

  async runTo(untilMs: number): Promise<void> {
    for (;;) {
      const next = [...this.timers].reduce<{ atMs: number; run: () => void } | undefined>(
        (first, timer) => (first === undefined || timer.atMs < first.atMs ? timer : first),
        undefined,
      );
      if (next === undefined || next.atMs > untilMs) break;
      this.timers.delete(next);
      this.ms = Math.max(this.ms, next.atMs);
      next.run();
      // What promises do happens at this time.
      await new Promise((resolve) => setImmediate(resolve));
    }
    this.ms = untilMs;
  }
}

/** Keys that end, with a log whose time is the clock's. */
class Store {
  revision = 1;
  readonly ticks: number[] = [];
  readonly removed: { readonly end: number; readonly at: number }[] = [];
  fails: Error | undefined;
  behindMs = 0;
  standsAt: number | undefined;

  constructor(
    readonly clock: Clock,
    readonly ends: number[],
  ) {}

  get nextEnd(): number {
    return this.ends[0] ?? 0;
  }

  operation(): Ticked {
    const now = this.standsAt ?? AGREED + this.clock.ms - this.behindMs;
    for (let i = 0; i < REMOVED_MAX && this.ends.length > 0 && this.ends[0]! <= now; i++) {
      this.removed.push({ end: this.ends.shift()!, at: now });
      this.revision++;
    }
    return { now, nextEnd: this.nextEnd };
  }

  tick(): Promise<Ticked> {
    this.ticks.push(this.clock.ms);
    if (this.fails !== undefined) return Promise.reject(this.fails);
    return new Promise((resolve) => this.clock.after(1, () => resolve(this.operation())));
  }
}

interface Watcher {
  readonly ticker: EndTicker;
  readonly watches: EndWatch[];
  readonly asked: number[];
}

/** A client whose watches are answered after a millisecond. */
function watcher(store: Store, random: () => number, count: number, isPrompt = false, answers = true): Watcher {
  const { clock } = store;
  const ticker = new EndTicker({
    agreedTime: () => AGREED + clock.ms,
    monotonicTime: () => clock.ms,
    tick: () => store.tick(),
    random,
    after: (ms, run) => clock.after(ms, run),
  });
  const asked: number[] = [];
  const watches = Array.from({ length: count }, () => {
    const watch: EndWatch = {
      isPrompt,
      ask: () => {
        asked.push(clock.ms);
        if (answers) clock.after(1, () => ticker.heard(watch, store.revision, store.nextEnd));
      },
    };
    return watch;
  });
  for (const watch of watches) {
    ticker.join(watch);
    ticker.heard(watch, store.revision, store.nextEnd);
  }
  return { ticker, watches, asked };
}

t.test('many watches of many clients: few ticks for each end, and each end soon', async (t) => {
  for (const [clients, watches] of [
    [1, 160],
    [16, 10],
    [200, 1],
  ] as const)
    await play(t, clients, watches);
});

async function play(t: Test, count: number, watchesEach: number): Promise<void> {
  const random = randomFrom(SEED);
  const clock = new Clock();
  const ENDS = 100;
  const store = new Store(
    clock,
    Array.from({ length: ENDS }, (_, i) => AGREED + 1000 + 50 * i),
  );
  const clients = Array.from({ length: count }, () => watcher(store, () => random(1e6) / 1e6, watchesEach));
  await clock.runTo(1000 + 50 * ENDS + 1000);
  t.equal(store.removed.length, ENDS);
  const worst = Math.max(...store.removed.map(({ end, at }) => at - end));
  const asked = clients.reduce((sum, client) => sum + client.asked.length, 0);
  const which = `${count * watchesEach} watches of ${count} clients`;
  t.comment(`${which}: ${store.ticks.length} ticks, ${asked} questions for ${ENDS} ends; ${worst} ms late at worst`);
  t.ok(store.ticks.length <= 4 * ENDS, `${which}: ${store.ticks.length} ticks for ${ENDS} ends`);
  t.ok(worst <= 80, `${which}: ${worst} ms`);
  t.ok(asked <= count * ENDS, `${which}: a client asks one of its watches`);
}

t.test('where others write, nobody ticks', async (t) => {
  const clock = new Clock();
  const store = new Store(clock, [AGREED + 100, AGREED + 200]);
  const { asked } = watcher(store, () => 0, 3);
  for (let ms = 100; ms < 300; ms++) {
    await clock.runTo(ms);
    store.operation();
  }
  await clock.runTo(1000);
  t.ok(asked.length > 0, `${asked.length} questions`);
  t.strictSame(store.ticks, []);
  t.equal(clock.waiting, 0);
});

t.test('without an answer it ticks after 60 ms; what a replica that is behind says does not count', async (t) => {
  const clock = new Clock();
  const store = new Store(clock, [AGREED + 100]);
  const { asked, ticker, watches } = watcher(store, () => 0, 3, false, false);
  ticker.heard(watches[0]!, 5, AGREED + 200);
  ticker.heard(watches[1]!, 4, AGREED + 100);
  await clock.runTo(150);
  t.strictSame(asked, [], 'the newest revision counts');
  await clock.runTo(210);
  t.strictSame(asked, [202]);
  ticker.heard(watches[1]!, 4, AGREED + 200);
  await clock.runTo(261);
  t.strictSame(store.ticks, [], 'that is no answer');
  await clock.runTo(262);
  t.strictSame(store.ticks, [262]);
});

t.test('the watch that was heard longest ago is asked, another one each time', async (t) => {
  const clock = new Clock();
  const store = new Store(clock, []);
  const { ticker } = watcher(store, () => 0, 0);
  const asked: number[] = [];
  const watches = [0, 1, 2].map((id) => ({ isPrompt: false, ask: () => void asked.push(id) }));
  for (const watch of watches) ticker.join(watch);
  ticker.heard(watches[0]!, 1, AGREED + 100);
  store.fails = new Error('no answer');
  await clock.runTo(900);
  t.strictSame(asked, [1, 2, 0]);
});

t.test('50 ms between ticks, 5 if one left something', async (t) => {
  const clock = new Clock();
  const many = Array.from({ length: 3 * REMOVED_MAX }, () => AGREED + 100);
  const store = new Store(clock, [...many, AGREED + 120]);
  watcher(store, () => 0, 3);
  await clock.runTo(1000);
  t.equal(store.removed.length, many.length + 1);
  // Asked for at 102, answered at 103, done at 104.
  t.strictSame(store.ticks, [103, 109, 115, 166]);
});

t.test('a tick in vain: the next after 250 ms, and then after twice as long, up to 16 s', async (t) => {
  const clock = new Clock();
  const store = new Store(clock, [AGREED + 100]);
  const { ticker, watches } = watcher(store, () => 0, 3);
  store.standsAt = AGREED + 99;
  await clock.runTo(100_000);
  const pauses = store.ticks.slice(1).map((ms, i) => ms - store.ticks[i]!);
  t.strictSame(
    pauses.slice(0, 9).map((ms) => Math.floor(ms / 250) * 250),
    [250, 500, 1000, 2000, 4000, 8000, 16_000, 16_000, 16_000],
  );
  const before = store.ticks.length;
  store.standsAt = AGREED + 100_099;
  ticker.heard(watches[0]!, store.revision, (store.ends[0] = AGREED + 100_100));
  await clock.runTo(100_800);
  t.equal(store.ticks.length, before + 2, 'another end: it begins anew');
  store.standsAt = undefined;
  await clock.runTo(120_000);
  t.equal(store.removed.length, 1);
});

t.test('a log whose time is behind: the next tick is due when it is there', async (t) => {
  const clock = new Clock();
  const store = new Store(clock, [AGREED + 100]);
  watcher(store, () => 0, 3);
  store.behindMs = 2000;
  await clock.runTo(10_000);
  t.equal(store.ticks.length, 2);
  t.equal(store.removed.length, 1);
  const { end, at } = store.removed[0]!;
  t.ok(at - end < 10, `${at - end} ms`);
});

t.test('a tick that fails is tried again after 250 ms', async (t) => {
  const clock = new Clock();
  const store = new Store(clock, [AGREED + 100]);
  watcher(store, () => 0, 3);
  store.fails = new Error('outcome-unknown');
  await clock.runTo(1000);
  t.strictSame(store.ticks, [103, 354, 605, 856]);
});

t.test('a watch that waits for an end does not wait by chance', async (t) => {
  const clock = new Clock();
  const store = new Store(clock, [AGREED + 100, AGREED + 500]);
  const { ticker, watches } = watcher(store, () => 1, 1, true);
  await clock.runTo(300);
  t.strictSame(store.ticks, [101.5]);
  ticker.leave(watches[0]!);
  t.equal(clock.waiting, 0);
  const other: EndWatch = { isPrompt: false, ask: () => undefined };
  ticker.join(other);
  ticker.heard(other, 1, AGREED + 500);
  await clock.runTo(1000);
  t.strictSame(
    store.ticks.slice(1),
    [582],
    '22 ms by chance, 60 for the answer; the revision that it knew is forgotten',
  );
});

t.test('what is told while a tick is on its way is not forgotten', async (t) => {
  const play = async (answered: (store: Store) => Promise<Ticked>, told: readonly number[]): Promise<Store> => {
    const clock = new Clock();
    const store = new Store(clock, [AGREED + 100]);
    const { ticker, watches } = watcher(store, () => 0, 1);
    const tick = store.tick.bind(store);
    store.tick = () => {
      store.tick = tick;
      store.ticks.push(clock.ms);
      const answer = answered(store);
      answer.catch(() => undefined);
      for (const end of told) {
        store.ends.splice(0, Infinity, end);
        clock.after(1, () => ticker.heard(watches[0]!, ++store.revision, end));
      }
      return new Promise((resolve, reject) => clock.after(10, () => answer.then(resolve, reject)));
    };
    await clock.runTo(1000);
    t.equal(clock.waiting, 0);
    return store;
  };
  const executed = (store: Store): Promise<Ticked> => Promise.resolve(store.operation());
  const put = await play(executed, [AGREED + 200]);
  t.strictSame(put.ticks, [103, 203], 'a key was put after the tick: it ends');
  t.equal(put.removed.length, 2);
  const sooner = (store: Store): Promise<Ticked> => Promise.resolve({ ...store.operation(), nextEnd: AGREED + 200 });
  const before = await play(sooner, [AGREED + 300]);
  t.strictSame(before.ticks, [103, 303], 'the tick told of a sooner end: a replica is asked then, which knows better');
  const failed = await play(() => Promise.reject(new Error('outcome-unknown')), [AGREED + 500]);
  t.strictSame(failed.ticks, [103, 503], 'the tick failed: what the replica said counts');
});

t.test('nobody watches any more: nothing is due', async (t) => {
  const clock = new Clock();
  const store = new Store(clock, [AGREED + 100]);
  const { ticker, watches } = watcher(store, () => 0, 2);
  await clock.runTo(103);
  t.equal(store.ticks.length, 1, 'one is on its way');
  store.ends.push(AGREED + 200);
  for (const watch of watches) ticker.leave(watch);
  await clock.runTo(1000);
  t.equal(store.ticks.length, 1);
  t.equal(clock.waiting, 0);
});

t.test('all watches of a client have one ticker', (t) => {
  const client = {} as Client;
  const tick = (): Promise<Ticked> => Promise.reject(new Error('not called'));
  const timers = { monotonicMs: () => 0, after: () => () => undefined, random: () => 0 };
  t.equal(
    endTickerOf(client, timers, tick),
    endTickerOf(client, timers, () => tick()),
  );
  t.not(endTickerOf({} as Client, timers, tick), endTickerOf(client, timers, tick));
  t.end();
});
