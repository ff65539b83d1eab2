/**
 * Disciplined clocks against the stand-in's model clock, whose clock_gettime is the truth; run by disciplined.test.ts.
 * Every wait ends when its condition holds, and fails after a time that no loaded machine needs.
 */
import { setTimeout as delay } from 'node:timers/promises';
import t, { type Test } from 'tap';
import { candidates, chooseClock } from '../../src/clock/choose.js';
import type { Clock } from '../../src/clock/clock.js';
import { DisciplinedClock } from '../../src/clock/disciplined-clock.js';
import { HostClock, type ClockQuality } from '../../src/clock/host-clock.js';
import { openClock } from '../../src/clock/open.js';
import { PhcSampler } from '../../src/clock/sampler.js';
import { native } from '../../src/native/addon.js';
import { Lacks, Model } from './model.js';
import { Sysfs } from './sysfs.js';

const DEVICE = '/dev/ptp-model';
const TAI_NS = 37_000_000_000n;
const INTERVAL_MS = 20;
const WAIT_MS = 20_000;
/** A process may be suspended between two readings; the narrowest of this many brackets counts. */
const BRACKETS = 200;

const addon = native.addon!;
const model = new Model(process.env['FAKE_PTP_MODEL']!);
const sysfs = new Sysfs(process.env['FAKE_PTP_ROOT']!);
const raw = (): bigint => addon.clockReadBigInt(addon.systemClocks['monotonic-raw']);

/** `clock` minus the device (plus `shift`), ns, to within half of `width`. */
function errorOf(clock: Clock, shiftNs = 0n): { error: number; width: number } {
  const truth = openClock(`phc:${DEVICE}`);
  let best = { error: 0, width: Infinity };
  for (let i = 0; i < BRACKETS; i++) {
    const before = truth.nowBigInt() + shiftNs;
    const shown = clock.nowBigInt();
    const after = truth.nowBigInt() + shiftNs;
    const width = Number(after - before);
    if (width < best.width) best = { error: Number(shown - before) - width / 2, width };
  }
  truth.close();
  return best;
}

async function until(t: Test, what: string, holds: () => boolean): Promise<void> {
  const deadline = performance.now() + WAIT_MS;
  while (!holds() && performance.now() < deadline) await delay(5);
  t.ok(holds(), what);
}

function open(): DisciplinedClock {
  return DisciplinedClock.open(addon, DEVICE, { intervalMs: INTERVAL_MS });
}

t.test('every way of sampling is found, and gives the clock within its own bound', async (t) => {
  model.set({ noiseNs: 100n, bracketNs: 600n, driftPpb: 50_000n, driftFromRawNs: raw(), offsetNs: 0n });
  const lacks = [0n, Lacks.precise, Lacks.precise | Lacks.extended, Lacks.precise | Lacks.extended | Lacks.offset];
  for (const [index, method] of ['precise', 'extended', 'offset', 'gettime'].entries()) {
    model.set({ lacks: lacks[index]! });
    const clock = open();
    t.equal(clock.report().method, method);
    await until(t, `${method}: 40 samples`, () => clock.report().samples >= 40);
    const { error, width } = errorOf(clock);
    const { errorNs, frequencyPpb } = clock.report();
    t.ok(
      Math.abs(error) <= errorNs! + width / 2,
      `${method}: ${error} ns off, bound ${errorNs} ns, compared to within ${width / 2} ns`,
    );
    t.ok(errorNs! < 20_000, `${method}: a bound of use, ${errorNs} ns`);
    t.ok(Math.abs(frequencyPpb - 50_000) < 5_000, `${method}: 50 ppm are seen as ${frequencyPpb} ppb`);
    // A busy machine may leave it without samples for a while.
    await until(t, `${method}: synchronized`, () => clock.report().status === 'synchronized');
    clock.close();
  }
  model.set({ lacks: 0n });
});

t.test('a device in TAI is read as UTC', (t) => {
  model.set({ offsetNs: TAI_NS, driftPpb: 0n });
  const clock = open();
  t.equal(clock.epoch, 'utc');
  t.equal(clock.report().deviceEpoch, 'tai');
  const { error, width } = errorOf(clock, -TAI_NS);
  t.ok(Math.abs(error) <= clock.report().errorNs! + width / 2, `${error} ns off`);
  clock.close();
  t.throws(() => clock.nowBigInt(), { code: 'clock-closed' });
  model.set({ offsetNs: 100_000_000_000n });
  t.throws(() => open(), { code: 'clock-not-set', message: /100\.000 s from the system clock/ });
  model.set({ offsetNs: 0n });
  t.end();
});

t.test('what the addon shows is what the discipline says', async (t) => {
  model.set({ driftPpb: -30_000n, driftFromRawNs: raw() });
  const clock = open();
  await until(t, '20 samples', () => clock.report().samples >= 20);
  const { discipline } = clock as unknown as { discipline: { read(raw: bigint): bigint } };
  let outside = 0;
  for (let i = 0; i < 1_000; i++) {
    const before = discipline.read(raw());
    const shown = clock.nowBigInt();
    const after = discipline.read(raw());
    if (shown < before || shown > after) outside++;
  }
  t.equal(outside, 0, 'a thousand readings, each between two of the discipline');
  clock.close();
});

t.test('a step of the device: seen, counted, followed, and no reading goes back', async (t) => {
  for (const stepNs of [1_000_000n, -1_000_000n]) {
    model.set({ offsetNs: 0n, driftPpb: 0n, noiseNs: 100n });
    const host = await HostClock.open(`disciplined:${DEVICE}`);
    const { clock } = host as unknown as { clock: DisciplinedClock };
    await until(t, '30 samples', () => clock.report().samples >= 30);
    let last = host.nowBigInt();
    let backwards = 0;
    const watch = setInterval(() => {
      const now = host.nowBigInt();
      if (now < last) backwards++;
      last = now;
    }, 1);
    const changes = host.report().changes;
    const samples = clock.report().samples;
    model.set({ offsetNs: stepNs });
    await until(t, 'the status says so', () => !host.quality.healthy || host.report().steps > 0);
    t.ok(clock.report().samples - samples <= 2, 'within two samples');
    await until(t, 'the step is counted', () => host.report().steps === 1);
    await until(
      t,
      'and the clock is where the device is',
      () => host.quality.healthy && Math.abs(clock.report().offsetNs) < 2_000,
    );
    clearInterval(watch);
    t.equal(backwards, 0, 'no reading below one handed out before');
    t.ok(host.report().changes >= changes + 2, 'the changes of status are counted');
    host.close();
  }
});

t.test('a device that ptp4l steps from UTC to TAI, and back: the readings stay UTC', async (t) => {
  model.set({ offsetNs: 0n, driftPpb: 0n, noiseNs: 100n });
  const host = await HostClock.open(`disciplined:${DEVICE}`);
  const { clock } = host as unknown as { clock: DisciplinedClock };
  await until(t, '30 samples', () => clock.report().samples >= 30);
  let last = host.nowBigInt();
  let largest = 0n;
  let backwards = 0;
  const realtime = openClock('realtime');
  const watch = setInterval(() => {
    const now = host.nowBigInt();
    const off = now - realtime.nowBigInt();
    largest = off > largest ? off : -off > largest ? -off : largest;
    if (now < last) backwards++;
    last = now;
  }, 1);
  for (const [index, epoch] of (['tai', 'utc', 'tai'] as const).entries()) {
    model.set({ offsetNs: epoch === 'tai' ? TAI_NS : 0n });
    await until(t, `the step to ${epoch.toUpperCase()} is counted`, () => host.report().steps === index + 1);
    t.equal(clock.report().deviceEpoch, epoch, 'and what the device counts from was asked again');
    await until(
      t,
      'it is followed',
      () => clock.report().status === 'synchronized' && Math.abs(clock.report().offsetNs) < 2_000,
    );
    const { error, width } = errorOf(clock, epoch === 'tai' ? -TAI_NS : 0n);
    t.ok(Math.abs(error) <= clock.report().errorNs! + width / 2, `${error} ns off UTC`);
  }
  clearInterval(watch);
  t.equal(backwards, 0, 'no reading below one handed out before');
  t.ok(largest < 1_000_000_000n, `no reading was seconds off: ${largest} ns at most`);

  model.set({ offsetNs: 100_000_000_000n });
  await until(t, 'set to no epoch at all', () => host.quality.status === 'free-running');
  t.match(host.quality, { healthy: false, errorNs: null, found: /neither UTC nor TAI; realtime is followed/ });
  t.match(host.report(), { healthy: false, fallbacks: 1 });
  const off = host.nowBigInt() - realtime.nowBigInt();
  t.ok(off < 1_000_000_000n && off > -1_000_000_000n, 'the system clock is followed');
  model.set({ offsetNs: TAI_NS });
  await until(t, 'set right again', () => clock.report().source === `phc:${DEVICE}` && host.quality.healthy);
  t.equal(clock.report().deviceEpoch, 'tai');
  host.close();
  realtime.close();
  model.set({ offsetNs: 0n });
});

t.test('a device that is read directly and is set meanwhile is not vouched for', async (t) => {
  model.set({ offsetNs: 0n });
  const host = await HostClock.open(`phc:${DEVICE}`, { assessMs: 20 });
  t.match(host.report(), { epoch: 'utc', healthy: true });
  model.set({ offsetNs: TAI_NS });
  await until(t, 'noticed', () => !host.quality.healthy);
  t.match(host.quality, {
    status: 'free-running',
    errorNs: null,
    found: /counted utc when it was opened, and counts tai now/,
  });
  model.set({ gone: 1n });
  host.nowBigInt();
  t.match(host.report(), { status: 'lost', epoch: 'utc' });
  model.set({ gone: 0n });
  await delay(200);
  t.equal(host.report().status, 'lost', 'one that comes back with another epoch is not taken back');
  model.set({ offsetNs: 0n });
  await until(t, 'one that is as it was is', () => host.quality.healthy);
  host.close();
});

t.test('a device that is busy for a moment when it is opened, or read', async (t) => {
  const busyForAMoment = (): void => model.set({ busyUntilRawNs: raw() + 1_000_000n });
  for (let i = 0; i < 10; i++) {
    busyForAMoment();
    const clock = open();
    t.equal(clock.report().status, 'synchronized', 'asked again after a pause');
    clock.close();
    busyForAMoment();
    const direct = openClock(`phc:${DEVICE}`);
    t.equal(direct.epoch, 'utc');
    direct.close();
  }
  model.set({ busy: 1n });
  t.throws(
    () => open(),
    { code: 'clock-unavailable', message: /it answers EBUSY; try again/ },
    'one that stays busy is named',
  );
  model.set({ busy: 0n });

  const host = await HostClock.open(`phc:${DEVICE}`, { assessMs: 3_600_000 });
  model.set({ busyGettime: 1n });
  const realtime = openClock('realtime');
  const bytes = new Uint8Array(8);
  host.writeBE(bytes, 0);
  const halves = new Int32Array(2);
  host.writeHalves(halves, 0);
  for (const reading of [
    host.nowBigInt(),
    new DataView(bytes.buffer).getBigUint64(0),
    (BigInt(halves[0]!) << 32n) | BigInt(halves[1]! >>> 0),
  ]) {
    const off = Number(reading - realtime.nowBigInt());
    t.ok(Math.abs(off) < 10e9, `the system clock gives the reading, ${off} ns off`);
  }
  t.match(host.report(), { source: `phc:${DEVICE}`, fallbacks: 0, healthy: true }, 'a busy device is not a lost one');
  model.set({ busyGettime: 0n });
  host.close();
  realtime.close();

  model.set({ fixed: 1n, offsetNs: -1_000_000_000_000_000_000n });
  t.throws(
    () => open(),
    { code: 'clock-not-set', message: /its driver does not allow setting it/ },
    'nobody is told to run ptp4l for a clock that cannot be set',
  );
  model.set({ fixed: 0n, offsetNs: 0n });
});

t.test('a device that is unplugged, and comes back', async (t) => {
  model.set({ offsetNs: 0n, driftPpb: 0n });
  const heard: string[] = [];
  const host = await HostClock.open(`disciplined:${DEVICE}`, { changed: (now) => heard.push(now.status) });
  const { clock } = host as unknown as { clock: DisciplinedClock };
  await until(t, '30 samples', () => clock.report().samples >= 30);
  model.set({ gone: 1n });
  await until(t, 'noticed', () => host.quality.status === 'lost');
  t.match(host.report(), { healthy: false, fallbacks: 1 });
  t.match(host.quality.found, /realtime is followed/);
  const before = host.nowBigInt();
  const realtime = openClock('realtime').nowBigInt();
  t.ok(Number(before - realtime) < 1e6 && Number(realtime - before) < 1e9, 'the system clock is followed');
  await delay(300);
  t.ok(host.nowBigInt() > before, 'time goes on');
  t.same(heard, ['lost'], 'said once');
  model.set({ gone: 0n });
  await until(t, 'the device is found again', () => host.quality.healthy);
  t.match(
    host.now(),
    { status: 'unknown', earliest: null, latest: null },
    'no source states its error: unknown, and no interval',
  );
  t.equal(host.report().fallbacks, 1);
  host.close();
});

t.test('a device read directly that is unplugged', async (t) => {
  model.set({ offsetNs: TAI_NS });
  const host = await HostClock.open(`phc:${DEVICE}`, { assessMs: 20 });
  t.equal(host.epoch, 'tai');
  const before = host.nowBigInt();
  model.set({ gone: 1n });
  const halves = new Int32Array(2);
  host.writeHalves(halves, 0);
  const bytes = new Uint8Array(8);
  host.writeBE(bytes, 0);
  const after = new DataView(bytes.buffer).getBigUint64(0);
  t.ok(after > before && after - before < 10_000_000_000n, 'the system clock takes over, in the epoch of the device');
  t.match(host.report(), { status: 'lost', healthy: false, fallbacks: 1, source: /in place of a lost device/ });
  model.set({ gone: 0n });
  await until(t, 'the device is read again when it is back', () => host.source === `phc:${DEVICE}`);
  t.match(host.report(), { epoch: 'tai', healthy: true, fallbacks: 1 });
  host.close();
  t.throws(() => host.nowBigInt(), { code: 'clock-closed' });
  model.set({ offsetNs: 0n });
  const utc = openClock(`phc:${DEVICE}`);
  t.equal(utc.epoch, 'utc', 'clouds keep theirs in UTC');
  utc.close();
  model.set({ offsetNs: -1_000_000_000_000_000_000n });
  const unset = openClock(`phc:${DEVICE}`);
  t.equal(unset.epoch, 'boot', 'one that nobody has set counts from nowhere');
  unset.close();
  model.set({ offsetNs: 0n });
});

t.test('a device that has no time is not lost', async (t) => {
  const clock = open();
  await until(t, '30 samples', () => clock.report().samples >= 30);
  model.set({ busy: 1n });
  await until(t, 'a line that is not confirmed is a guess', () => clock.report().status === 'free-running');
  t.match(clock.report(), { source: `phc:${DEVICE}`, fallbacks: 0 });
  const { errorNs } = clock.report();
  await delay(5 * INTERVAL_MS);
  t.ok(clock.report().errorNs! > errorNs!, 'its bound grows with age');
  model.set({ busy: 0n });
  await until(t, 'and it goes on as if nothing had been', () => clock.report().status === 'synchronized');
  t.match(clock.report(), { fallbacks: 0, steps: 0 });
  clock.close();
});

t.test('a device that this user may not read', async (t) => {
  model.set({ denied: 1n });
  sysfs.plug('igb', 1_000);
  t.throws(() => open(), { code: 'clock-permission', message: /udev rule/ });
  await t.rejects(HostClock.open('phc'), { code: 'clock-not-found', message: /may not be read by this user/ });
  const host = await HostClock.open('auto');
  t.equal(host.source, 'realtime');
  t.match(host.why, /\/dev\/ptp0 may not be read by this user \(EACCES\)/);
  host.close();
  model.set({ denied: 0n });
  sysfs.unplug();
});

t.test(
  'auto: a device that appears later is taken, without going back; one whose keeper is gone is not trusted',
  async (t) => {
    // Far enough that going back shows between two readings even on a busy host.
    for (const offsetNs of [-300_000_000n, 300_000_000n]) {
      model.set({ offsetNs, driftPpb: 0n });
      const heard: string[] = [];
      const system = openClock('realtime');
      let behindNs: number | undefined;
      const changed = ({ status, found }: ClockQuality): void => {
        heard.push(`${status}: ${found}`);
        // Called in the same turn in which the device is taken away: on a busy host no timer is as close.
        behindNs ??= Number(system.nowBigInt() - host.nowBigInt());
      };
      const host: HostClock = await HostClock.open('auto', { assessMs: 20, changed });
      t.equal(host.source, 'realtime');
      let last = host.nowBigInt();
      let backwards = 0;
      const watch = setInterval(() => {
        for (let i = 0; i < 100; i++) {
          const now = host.nowBigInt();
          if (now < last) backwards++;
          last = now;
        }
      }, 1);
      sysfs.plug('igb', 21_000);
      await until(t, 'it is taken', () => host.source === 'disciplined:/dev/ptp0');
      t.match(host.why, /within 21000 ns/);
      await until(
        t,
        'and vouched for',
        () => host.quality.status === 'synchronized' && host.quality.errorNs! < 100_000,
      );
      const { clock } = host as unknown as { clock: DisciplinedClock };
      await until(t, 'and followed', () => Math.abs(clock.report().offsetNs) < 2_000);
      clearInterval(watch);
      t.ok(behindNs! < 150_000_000, `it begins where the system clock was: ${behindNs} ns behind it`);
      t.equal(
        backwards,
        0,
        `no reading below one handed out before, the device being ${offsetNs} ns from the system clock`,
      );
      t.equal(host.report().steps, 0, 'the device was not stepped');
      sysfs.plug('igb');
      await until(t, 'nobody keeps it any more', () => host.quality.status === 'free-running');
      t.match(host.quality, {
        healthy: false,
        errorNs: null,
        found: /ena vouched for it but no longer answers/,
      });
      t.equal(heard.filter((line) => line.startsWith('free-running: within')).length, 1, 'said once');
      host.close();
      sysfs.unplug();
    }
    model.set({ offsetNs: 0n });
  },
);

t.test('what a device can do; and auto leaves one alone that nobody keeps', async (t) => {
  const sampler = PhcSampler.open(addon, DEVICE);
  t.match(sampler.capabilities(), { maxAdjustmentPpb: 62_499_999, crossTimestamping: true, pps: false });
  sampler.close();
  model.set({ gone: 1n });
  t.throws(() => PhcSampler.open(addon, DEVICE), { code: 'clock-not-found' });
  model.set({ gone: 0n });
  sysfs.plug('igb', undefined, 'eth0');
  const found = await candidates();
  t.match(found, [
    {
      spec: 'disciplined:/dev/ptp0',
      usable: false,
      why: /nothing is known to discipline it/,
      probed: { method: 'precise', epoch: 'utc' },
    },
    { spec: 'realtime', usable: true },
  ]);
  const { clock, why } = await chooseClock('auto', {});
  t.equal(clock.source, 'realtime');
  t.match(why, /nothing is known to discipline it/);
  clock.close();
  const any = await chooseClock('phc', {});
  t.equal(any.clock.source, 'disciplined:/dev/ptp0', 'who asks for phc takes what works');
  any.clock.close();
  sysfs.unplug();
});
