// When a client takes a request for lost, and how many it may send again.
import t from 'tap';
import { Instant } from '../../src/protocol/contract.js';
import { Retries } from '../../src/protocol/client/retries.js';

/** A request that was sent once was committed at `nowUs`, after `us`. */
function committed(retries: Retries, us: number, nowUs: number): void {
  const now = new Instant();
  now.monotonicUs = nowUs;
  retries.committed(Float64Array.of(nowUs - us), 0, now);
}

t.test(
  'the wait is twice the longest round trip lately, at least retryUs, doubled with each attempt up to retryMaxUs',
  (t) => {
    const retries = new Retries(4000, 16_000);
    t.strictSame(
      [0, 1, 2, 3].map((attempts) => retries.waitUs(attempts)),
      [4000, 8000, 16_000, 16_000],
    );
    committed(retries, 100, 0);
    t.equal(retries.waitUs(0), 4000);
    committed(retries, 9000, 1000);
    committed(retries, 100, 2000);
    t.strictSame(
      [0, 1].map((attempts) => retries.waitUs(attempts)),
      [18_000, 18_000],
      'a wait above retryMaxUs is not doubled',
    );
    committed(retries, 3e6, 3000);
    t.equal(retries.waitUs(5), 250_000, 'bounded');
    t.end();
  },
);

t.test(
  'where every request was sent again the wait is too short for the way: after four in a row they are measured from their first copy',
  (t) => {
    const retries = new Retries(4000, 16_000);
    const again = (us: number, nowUs: number): void => {
      const now = new Instant();
      now.monotonicUs = nowUs;
      retries.committedAgain(Float64Array.of(nowUs - us), 0, now);
    };
    for (let i = 0; i < 4; i++) again(100_000, i);
    t.equal(retries.waitUs(0), 4000, 'losses');
    committed(retries, 100, 5);
    for (let i = 0; i < 4; i++) again(100_000, 10 + i);
    t.equal(retries.waitUs(0), 4000, 'in a row');
    again(100_000, 20);
    t.equal(retries.waitUs(0), 200_000);
    t.end();
  },
);

t.test('the longest round trip is forgotten after two windows', (t) => {
  const retries = new Retries(4000, 16_000);
  committed(retries, 50_000, 1);
  committed(retries, 100, 2.1e6);
  t.equal(retries.waitUs(0), 100_000, 'the window before counts');
  committed(retries, 100, 4.2e6);
  t.equal(retries.waitUs(0), 4000);
  committed(retries, 50_000, 4.3e6);
  committed(retries, 100, 60e6);
  t.equal(retries.waitUs(0), 4000, 'after a pause the window before is old');
  t.end();
});

t.test('a burst may be sent again, then one for every eight commits, and one every retryUs', (t) => {
  const retries = new Retries(4000, 16_000);
  const spend = (nowUs: number): number => {
    let spent = 0;
    while (retries.spend(nowUs)) spent++;
    return spent;
  };
  t.equal(spend(0), 64);
  t.equal(spend(3000), 0);
  t.equal(spend(8000), 2);
  for (let i = 0; i < 40; i++) committed(retries, 100, 8000);
  t.equal(spend(8000), 5);
  t.equal(spend(8e6), 64, 'no more than a burst is kept');
  t.end();
});

t.test(
  'while nothing commits, fewer and fewer are sent again: a minute of silence costs about a thousand, not 15,000',
  (t) => {
    const retries = new Retries(4000, 16_000);
    const spent = (fromUs: number, toUs: number): number => {
      let count = 0;
      for (let nowUs = fromUs; nowUs < toUs; nowUs += 1000) while (retries.spend(nowUs)) count++;
      return count;
    };
    const start = 5e6;
    t.equal(spent(start, start + 250_000), 64 + 62, 'at first as ever: a view changes in this time');
    t.strictSame(
      [0, 0.25e6, 1e6, 4e6, 60e6].map((us) => retries.pauseUs(start + us)),
      [4000, 4000, 15_625, 62_500, 64_000],
    );
    const later = spent(start + 250_000, start + 60e6);
    t.ok(later > 900 && later < 1200, `${later} in the rest of a minute`);
    committed(retries, 100, start + 60e6);
    t.equal(retries.pauseUs(start + 60e6), 4000, 'one commit, and all is as before');
    spent(start + 60e6, start + 60e6 + 1);
    const soon = spent(start + 60e6 + 1, start + 60.2e6);
    t.ok(soon >= 49 && soon <= 50, `${soon} in 200 ms`);
    const now = new Instant();
    now.monotonicUs = start + 70e6;
    retries.committedAgain(Float64Array.of(now.monotonicUs - 100), 0, now);
    t.equal(retries.pauseUs(now.monotonicUs), 4000, 'also of a request that was sent again');
    t.equal(retries.pauseUs(now.monotonicUs + 60e6), 4000, 'a client that asks nothing is not silent');
    t.end();
  },
);

t.test('a silence in which a member acknowledges counts as a second, and none outlasts what waits', (t) => {
  const retries = new Retries(4000, 16_000);
  const now = new Instant();
  now.monotonicUs = 5e6;
  retries.acknowledged(now);
  t.equal(retries.pauseUs(5e6), 4000, 'an acknowledgement begins no silence');
  for (let nowUs = 5e6; nowUs <= 65e6; nowUs += 250_000) retries.spend(nowUs);
  t.equal(retries.pauseUs(65e6), 64_000);
  now.monotonicUs = 65e6;
  retries.acknowledged(now);
  t.equal(retries.pauseUs(65e6), 15_625);
  now.monotonicUs += 1000;
  retries.acknowledged(now);
  t.equal(retries.pauseUs(now.monotonicUs), 15_625, 'the silence goes on');
  for (let nowUs = 65.1e6; nowUs <= 69e6; nowUs += 250_000) retries.spend(nowUs);
  t.ok(retries.pauseUs(69e6) > 60_000);
  retries.spend(75e6);
  t.equal(retries.pauseUs(75e6), 4000, 'nothing had waited for seconds: the next trouble begins anew');
  t.end();
});
