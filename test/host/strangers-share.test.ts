// What strangers together may cost: in a crowd, and in long datagrams.
import t from 'tap';
import { LONG_BYTES_AT_ONCE, LONG_BYTES_PER_US, StrangersShare } from '../../src/host/strangers-share.js';

t.test('in a crowd: so many bytes until the next look, however short the datagrams', (t) => {
  const share = new StrangersShare();
  const count = (length: number): number => {
    let taken = 0;
    while (share.take(length)) taken++;
    share.renew();
    return taken;
  };
  t.equal(count(41), 24, 'a short one counts as 256 bytes');
  t.equal(count(0), 24);
  t.equal(count(1_500), 4);
  t.equal(count(60_000), 1, 'one always gets through');
  t.equal(count(41), 24, 'each look begins anew');
  t.end();
});

t.test('long datagrams: so many bytes at once, then as many as time has earned', (t) => {
  const share = new StrangersShare();
  const count = (us: number): number => {
    let taken = 0;
    while (share.takeLong(8_900, us)) taken++;
    return taken;
  };
  t.equal(count(1e9), Math.floor(LONG_BYTES_AT_ONCE / 8_900));
  t.equal(count(1e9), 0);
  const second = count(1e9 + 100_000);
  t.ok(Math.abs(second - (LONG_BYTES_PER_US * 100_000) / 8_900) <= 1, `${second} in 100 ms`);
  t.equal(count(1e9 - 5e6), 0, 'a clock that steps back earns nothing');
  t.equal(count(1e12), Math.floor(LONG_BYTES_AT_ONCE / 8_900), 'and a long rest no more than the bound');
  t.end();
});
