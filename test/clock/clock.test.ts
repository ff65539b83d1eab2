/** Clocks that every host has, with the addon and without, and every way in which opening one is refused. */

import { execFileSync } from 'node:child_process';
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import type { Clock, ClockEpoch } from '../../src/clock/clock.js';
import { ClockError, type ClockErrorCode } from '../../src/clock/errors.js';
import { ERRORS } from '../../src/errors.js';
import { JavaScriptMonotonicClock, JavaScriptRealtimeClock } from '../../src/clock/javascript-clock.js';
import { openClock } from '../../src/clock/open.js';
import { native, type NativeBinding } from '../../src/native/addon.js';
import { compareU64, readI32, toBigInt } from '../../src/wire/u64.js';

const WITHOUT_ADDON: NativeBinding = { available: false, addon: null, reason: 'it is left out by a test' };
const skip = native.available ? false : native.reason;

const NS_PER_MS = 1_000_000n;
/** How long this process may have been suspended between two readings that are compared. */
const TOLERANCE_NS = 2_000n * NS_PER_MS;

const descriptors = (): number => readdirSync('/proc/self/fd').length;

function readBE(clock: Clock): bigint {
  const bytes = new Uint8Array(13);
  clock.writeBE(bytes, 3);
  return toBigInt(readI32(bytes, 3), readI32(bytes, 7));
}

function readHalves(clock: Clock): bigint {
  const halves = new Int32Array(3);
  clock.writeHalves(halves, 1);
  return toBigInt(halves[1]!, halves[2]!);
}

function never(): never {
  throw new Error('did not throw');
}

function refusal(open: () => unknown): ClockError {
  try {
    open();
  } catch (error) {
    if (error instanceof ClockError) return error;
    throw error;
  }
  return never();
}

/** What holds for each clock, whatever it is read by. */
function behaves(t: Test, open: () => Clock, source: string, epoch: ClockEpoch): void {
  const clock = open();
  t.equal(clock.source, source);
  t.equal(clock.epoch, epoch);

  // Interleaved, each form between two of another: a form that swapped its bytes or halves could not stay in between.
  const readings: bigint[] = [];
  for (let i = 0; i < 1_000; i++) readings.push(clock.nowBigInt(), readBE(clock), clock.nowBigInt(), readHalves(clock));
  const backwards = readings.findIndex((reading, i) => i > 0 && reading < readings[i - 1]!);
  t.equal(backwards, -1, 'no reading before the one in front of it');
  t.ok(readings.at(-1)! > readings[0]!, 'time passes');
  t.ok(readings.at(-1)! - readings[0]! < TOLERANCE_NS, 'but not too much of it');

  const untouched = Buffer.alloc(16, 0xaa);
  clock.writeBE(untouched, 4);
  t.equal(
    untouched.toString('hex', 0, 4) + untouched.toString('hex', 12),
    'aa'.repeat(8),
    'eight bytes are written and no more',
  );
  for (const offset of [9, -1, NaN, 0.5, Infinity, 2 ** 53, 2 ** 32]) {
    t.throws(
      () => clock.writeBE(new Uint8Array(16), offset),
      { name: 'RangeError', code: 'out-of-bounds', category: 'caller', retryable: false },
      `offset ${offset}`,
    );
  }
  for (const index of [3, -1, NaN, 0.5, Infinity, 2 ** 53, 2 ** 32]) {
    t.throws(
      () => clock.writeHalves(new Int32Array(4), index),
      { name: 'RangeError', code: 'out-of-bounds' },
      `index ${index}`,
    );
  }
  clock.writeBE(new Uint8Array(16), 8);
  clock.writeHalves(new Int32Array(4), 2);
  t.throws(() => clock.writeBE(new Uint32Array(4) as unknown as Uint8Array, 0), {
    name: 'TypeError',
    code: 'invalid-argument',
    category: 'caller',
    retryable: false,
  });
  t.throws(() => clock.writeHalves(new Uint8Array(16) as unknown as Int32Array, 0), {
    name: 'TypeError',
    code: 'invalid-argument',
  });
  t.throws(() => clock.writeBE(undefined as unknown as Uint8Array, 0), { name: 'TypeError', code: 'invalid-argument' });

  clock.close();
  for (const read of [() => clock.nowBigInt(), () => readBE(clock), () => readHalves(clock)])
    t.throws(read, { code: 'clock-closed', category: 'caller' });
  t.doesNotThrow(() => clock.close(), 'closing twice is nothing');
  open().close();
}

function nearDate(t: Test, clock: Clock, aheadNs = 0n): void {
  const before = BigInt(Date.now()) * NS_PER_MS;
  const reading = clock.nowBigInt() - aheadNs;
  const after = BigInt(Date.now() + 1) * NS_PER_MS;
  t.ok(
    before - 2n * NS_PER_MS <= reading && reading <= after + 2n * NS_PER_MS,
    `${reading} within 2 ms of ${before} … ${after}`,
  );
  clock.close();
}

t.test('an id is a whole number: nothing is made to fit', { skip }, (t) => {
  const { addon } = native as Extract<NativeBinding, { available: true }>;
  const id = addon.systemClocks.realtime;
  t.type(addon.clockReadBigInt(id), 'bigint');
  for (const wrong of [id + 0.5, id + 2 ** 32, NaN, Infinity, undefined as never, '0' as never])
    t.throws(() => addon.clockReadBigInt(wrong), { code: 'invalid-argument' }, `id ${wrong}`);
  t.throws(() => addon.clockReadBigInt(-1), { code: 'clock-closed' });
  t.end();
});

t.test('with the addon', { skip }, (t) => {
  behaves(t, () => openClock('realtime'), 'realtime', 'utc');
  behaves(t, () => openClock('auto'), 'realtime', 'utc');
  behaves(t, () => openClock('tai'), 'tai', 'tai');
  behaves(t, () => openClock('monotonic'), 'monotonic', 'boot');
  behaves(t, () => openClock('monotonic-raw'), 'monotonic-raw', 'boot');

  nearDate(t, openClock('realtime'));
  const seconds = Math.round(Number(openClock('tai').nowBigInt() - openClock('realtime').nowBigInt()) / 1e9);
  t.ok(seconds === 0 || seconds >= 37, `the kernel's TAI offset is ${seconds} s: unset, or at least that of 2017`);

  const before = process.hrtime.bigint();
  const reading = openClock('monotonic').nowBigInt();
  t.ok(before <= reading && reading <= process.hrtime.bigint(), 'monotonic is that of process.hrtime');
  t.end();
});

t.test('without the addon', (t) => {
  behaves(t, () => openClock('realtime', WITHOUT_ADDON), 'realtime-js', 'utc');
  behaves(t, () => openClock('auto', WITHOUT_ADDON), 'realtime-js', 'utc');
  behaves(t, () => openClock('monotonic', WITHOUT_ADDON), 'monotonic-js', 'boot');
  nearDate(t, openClock('realtime', WITHOUT_ADDON));
  for (const spec of ['tai', 'monotonic-raw', 'phc:/dev/ptp0']) {
    const { message } = refusal(() => openClock(spec, WITHOUT_ADDON));
    t.match(message, new RegExp(`${spec} needs the native addon, and it is left out by a test`));
    t.equal(refusal(() => openClock(spec, WITHOUT_ADDON)).code, 'clock-addon-missing');
  }
  t.equal(
    refusal(() => openClock('nonsense', WITHOUT_ADDON)).code,
    'clock-spec-invalid',
    'a wrong name is wrong in the first place',
  );
  t.end();
});

t.test('the realtime stand-in follows the system clock', (t) => {
  // A simulated host: true time in ns since 1970, of which Date shows whole milliseconds; 1 µs passes with each look.
  let trueNs = 1_700_000_000_000_123_456n;
  let stepNs = 0n;
  let looks = 0;
  const sources = {
    dateMs: (): number => ((looks += 1), (trueNs += 1_000n), Number((trueNs + stepNs) / NS_PER_MS)),
    monotonicNs: (): bigint => ((trueNs += 1_000n), trueNs - 1_600_000_000_000_000_000n),
  };
  const clock = new JavaScriptRealtimeClock(sources);
  const off = (): bigint => {
    const reading = clock.nowBigInt();
    const difference = reading - (trueNs + stepNs);
    return difference < 0n ? -difference : difference;
  };
  const precise = 10_000n;
  t.ok(off() <= precise, 'anchored where a millisecond begins, not anywhere in it');

  looks = 0;
  trueNs += 3_600_000n * NS_PER_MS + 777_777n;
  t.ok(off() <= precise, 'an hour later still');
  t.equal(looks, 1, 'without anchoring anew');

  stepNs = 30_000n * NS_PER_MS;
  t.ok(off() <= precise, 'set forward');
  stepNs = -30_000n * NS_PER_MS;
  t.ok(off() <= precise, 'set back');

  looks = 0;
  stepNs += 900_000n;
  t.ok(off() <= 2n * NS_PER_MS, 'a step below a millisecond is not noticed, and bounded');
  t.equal(looks, 1);

  // In the middle of a millisecond, and for whole ones: neither side of the gap tells where one begins.
  trueNs += NS_PER_MS - ((trueNs + stepNs) % NS_PER_MS) + NS_PER_MS / 2n;
  let untilSuspended = 50;
  const suspended = new JavaScriptRealtimeClock({
    ...sources,
    dateMs: () => {
      untilSuspended -= 1;
      if (untilSuspended === 0) trueNs += 5n * NS_PER_MS;
      return sources.dateMs();
    },
  });
  const error = suspended.nowBigInt() - (trueNs + stepNs);
  t.ok(
    -precise <= error && error <= precise,
    `a process suspended while it anchors is precise all the same: ${error} ns off`,
  );

  const frozen = new JavaScriptRealtimeClock({ ...sources, dateMs: () => Number(trueNs / 1_000_000_000n) * 1_000 });
  t.type(frozen.nowBigInt(), 'bigint', 'a Date that does not move does not hang it');

  const wide = new JavaScriptMonotonicClock({ ...sources, monotonicNs: () => 0xfedcba9876543210n });
  t.equal(readBE(wide), 0xfedcba9876543210n);
  t.equal(readHalves(wide), 0xfedcba9876543210n);
  t.equal(compareU64(0xfedcba98 | 0, 0x76543210, 1, 0), 1);
  t.end();
});

t.test('specifications that are none', (t) => {
  const wrong = [
    '',
    'Realtime',
    ' realtime',
    'utc',
    'phc:',
    'disciplined',
    'disciplined:',
    'disciplined:ptp0',
    'phc:ptp0',
    'phc:./ptp0',
    'phc:/dev/ptp0\0/etc',
    `phc:/${'x'.repeat(5_000)}`,
    'constructor',
    '__proto__',
  ];
  for (const spec of wrong) {
    const error = refusal(() => openClock(spec));
    t.equal(error.code, 'clock-spec-invalid', JSON.stringify(spec.slice(0, 20)));
    t.match(
      error.message,
      /use one of auto, realtime, tai, monotonic, monotonic-raw, phc, disciplined:\/dev\/ptp0, phc:\/dev\/ptp0$/,
    );
    t.ok(error.message.length < 300, 'however long the input');
  }
  for (const value of [undefined, null, 7, {}])
    t.equal(refusal(() => openClock(value as unknown as string)).code, 'clock-spec-invalid');
  t.end();
});

t.test('devices that are no clock', { skip }, (t) => {
  const directory = mkdtempSync(join(tmpdir(), 'jitpaxos-clock-'));
  t.teardown(() => rmSync(directory, { recursive: true }));
  const file = join(directory, 'file');
  const fifo = join(directory, 'fifo');
  writeFileSync(file, 'text');
  execFileSync('mkfifo', [fifo]);

  const cases: [string, ClockErrorCode][] = [
    ['/dev/null', 'clock-not-a-clock'],
    [file, 'clock-not-a-clock'],
    [directory, 'clock-not-a-clock'],
    [fifo, 'clock-not-a-clock'],
    [join(directory, 'ptp9'), 'clock-not-found'],
    [join(file, 'below'), 'clock-not-found'],
    [`/${'x'.repeat(300)}`, 'clock-not-found'],
  ];
  for (const [path, code] of cases) {
    const error = refusal(() => openClock(`phc:${path}`));
    t.equal(error.code, code, path.slice(0, 60));
    t.equal(error.category, 'environment');
    t.equal(error.retryable, false);
    t.ok(error.message.startsWith(path), 'names the path');
    t.match(error.message, /`ls \/dev\/ptp\*`/, 'and what to do');
    t.type((error.cause as NodeJS.ErrnoException).errno, 'number', 'and the cause');
  }

  const before = descriptors();
  for (let i = 0; i < 10_000; i++) refusal(() => openClock('phc:/dev/null'));
  t.equal(descriptors(), before, '10,000 refusals leave no descriptor');
  t.end();
});

t.test('errors carry what the table says', (t) => {
  for (const code of Object.keys(ERRORS).filter((each) => each.startsWith('clock-')) as ClockErrorCode[]) {
    const error = new ClockError(code, 'x', 'y');
    t.match(error, { code, name: 'ClockError', cause: 'y', ...ERRORS[code] });
  }
  t.notOk('cause' in new ClockError('clock-closed', 'x'));
  t.end();
});
