/** PTP hardware clocks, run by phc.test.ts in a process where test/native/fake-ptp.c stands in for the hardware. */

import { readdirSync } from 'node:fs';
import { setImmediate as turn } from 'node:timers/promises';
import { Worker } from 'node:worker_threads';
import t from 'tap';
import { openClock } from '../../src/clock/open.js';
import { native } from '../../src/native/addon.js';

const TAI_MINUS_UTC_NS = 37_000_000_000n;
const CLOCKS_MAX = 60;

const descriptors = (): number => readdirSync('/proc/self/fd').length;
const collectGarbage = globalThis.gc!;

t.test('a reading is that of the device', (t) => {
  const utc = openClock('realtime');
  const phc = openClock('phc:/dev/ptp-test0');
  t.equal(phc.source, 'phc:/dev/ptp-test0');
  t.equal(phc.epoch, 'tai');
  const before = utc.nowBigInt();
  const reading = phc.nowBigInt();
  const after = utc.nowBigInt();
  t.ok(
    before <= reading - TAI_MINUS_UTC_NS && reading - TAI_MINUS_UTC_NS <= after,
    `${before} ≤ ${reading} − 37 s ≤ ${after}`,
  );
  phc.close();
  t.end();
});

t.test('all 64 bits arrive, in order, in each of the three forms', (t) => {
  const phc = openClock('phc:/dev/ptp-test-fixed');
  const bytes = Buffer.alloc(11, 0xaa);
  phc.writeBE(bytes, 1);
  t.equal(bytes.toString('hex'), 'aafedcba9876543210aaaa');
  const halves = new Int32Array([7, 7, 7, 7]);
  phc.writeHalves(halves, 1);
  t.same([...halves], [7, 0xfedcba98 | 0, 0x76543210, 7]);
  t.equal(phc.nowBigInt(), 0xfedcba9876543210n);
  phc.close();
  t.end();
});

t.test('two devices at a time do not mix', (t) => {
  const moving = openClock('phc:/dev/ptp-test1');
  const fixed = openClock('phc:/dev/ptp-test-fixed');
  t.not(moving.nowBigInt(), fixed.nowBigInt());
  moving.close();
  t.equal(fixed.nowBigInt(), 0xfedcba9876543210n, 'closing one leaves the other');
  t.throws(() => moving.nowBigInt(), {
    name: 'ClockError',
    code: 'clock-closed',
    category: 'caller',
    retryable: false,
  });
  t.throws(() => moving.writeBE(new Uint8Array(8), 0), { code: 'clock-closed' });
  t.throws(() => moving.writeHalves(new Int32Array(2), 0), { code: 'clock-closed' });
  t.doesNotThrow(() => moving.close());
  fixed.close();
  t.end();
});

t.test('an id that was closed never reads what took its descriptor', (t) => {
  const addon = native.addon!;
  const first = new addon.PhcHandle('/dev/ptp-test0');
  const stale = first.id;
  first.close();
  t.equal(first.id, -1);
  const second = new addon.PhcHandle('/dev/ptp-test-fixed');
  t.not(second.id, stale);
  t.throws(() => addon.clockReadBigInt(stale), { code: 'clock-closed' });
  t.equal(addon.clockReadBigInt(second.id), 0xfedcba9876543210n);
  second.close();
  t.end();
});

t.test('a device that goes away', (t) => {
  const phc = openClock('phc:/dev/ptp-test-lost');
  phc.nowBigInt();
  const bytes = new Uint8Array(8);
  t.throws(() => phc.writeBE(bytes, 0), {
    code: 'clock-lost',
    category: 'environment',
    message: /phc:\/dev\/ptp-test-lost stopped answering \(ENODEV\)/,
  });
  t.same(bytes, new Uint8Array(8), 'nothing is written');
  phc.close();
  t.end();
});

t.test('what open() refuses', (t) => {
  t.throws(() => openClock('phc:/dev/ptp-test-denied'), {
    code: 'clock-permission',
    category: 'environment',
    message: /\/dev\/ptp-test-denied.*udev rule.*GROUP="ptp"/,
  });
  t.throws(() => openClock('phc:/dev/ptp-test-busy'), {
    code: 'clock-unavailable',
    retryable: true,
    message: /\/dev\/ptp-test-busy/,
  });
  t.throws(() => openClock('phc:/dev/ptp-test-no-files-left'), {
    code: 'clock-limit',
    retryable: true,
    message: /ulimit -n/,
  });
  t.end();
});

t.test('10,000 times opened and closed leave no descriptor', (t) => {
  const before = descriptors();
  for (let i = 0; i < 10_000; i++) openClock('phc:/dev/ptp-test0').close();
  t.equal(descriptors(), before);
  t.end();
});

t.test('there is a bound, and an answer when it is reached', (t) => {
  const before = descriptors();
  const clocks = Array.from({ length: CLOCKS_MAX }, () => openClock('phc:/dev/ptp-test0'));
  t.equal(descriptors(), before + CLOCKS_MAX);
  t.throws(() => openClock('phc:/dev/ptp-test0'), { code: 'clock-limit', category: 'environment' });
  t.equal(descriptors(), before + CLOCKS_MAX, 'the refused one is closed again');
  clocks.pop()!.close();
  clocks.push(openClock('phc:/dev/ptp-test1'));
  for (const clock of clocks) clock.close();
  t.equal(descriptors(), before);
  t.end();
});

t.test('a clock that is dropped is closed by the collector', async (t) => {
  const before = descriptors();
  (() => {
    for (let i = 0; i < 20; i++) openClock('phc:/dev/ptp-test0').nowBigInt();
  })();
  t.equal(descriptors(), before + 20);
  for (let i = 0; i < 50 && descriptors() > before; i++) {
    await turn();
    collectGarbage();
  }
  t.equal(descriptors(), before);
});

t.test('a thread has clocks of its own, closed when it ends', async (t) => {
  const before = descriptors();
  const phc = openClock('phc:/dev/ptp-test-fixed');
  const url = new URL('../../src/clock/open.js', import.meta.url).href;
  const source = `
    const { parentPort } = require('node:worker_threads');
    import(${JSON.stringify(url)}).then(({ openClock }) => {
      globalThis.kept = Array.from({ length: 5 }, () => openClock('phc:/dev/ptp-test-fixed'));
      parentPort.postMessage(globalThis.kept[4].nowBigInt());
    });`;
  const worker = new Worker(source, { eval: true });
  const ended = new Promise((resolve) => worker.once('exit', resolve));
  t.equal(
    await new Promise((resolve, reject) => worker.once('message', resolve).once('error', reject)),
    0xfedcba9876543210n,
  );
  await ended;
  t.equal(descriptors(), before + 1, "the worker's are closed");
  t.equal(phc.nowBigInt(), 0xfedcba9876543210n, 'and ours is not');
  phc.close();
});
