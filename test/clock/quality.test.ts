// What each source of a clock's quality says, and everything that makes it say nothing.
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createSocket } from 'node:dgram';
import { setTimeout as delay } from 'node:timers/promises';
import { constants, endianness, tmpdir } from 'node:os';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { candidates } from '../../src/clock/choose.js';
import { listDevices } from '../../src/clock/devices.js';
import { epochOf } from '../../src/clock/epoch.js';
import { chronyFloat, interpretTracking, readChrony, trackingRequest } from '../../src/clock/quality/chrony.js';
import { readClockBound } from '../../src/clock/quality/clockbound.js';
import { readEna } from '../../src/clock/quality/ena.js';
import { interpretKernel, readKernel } from '../../src/clock/quality/kernel.js';
import { readPlatform } from '../../src/clock/quality/platform.js';
import {
  interpretPtp4l,
  managementData,
  managementRequest,
  readPtp4l,
  type Ptp4lReport,
} from '../../src/clock/quality/ptp4l.js';
import { statedError } from '../../src/clock/quality/statement.js';
import { HostClock, systemStatements, type Sources } from '../../src/clock/host-clock.js';
import { defaultPair } from '../../src/cli/clock/difference.js';
import { native, type KernelClockRecord, type NativeBinding } from '../../src/native/addon.js';
import { fakeChrony, tracking, trackingFloats } from './fake-chrony.js';

function folder(t: Test): string {
  const path = mkdtempSync(join(tmpdir(), 'jitpaxos-quality-'));
  t.teardown(() => rmSync(path, { recursive: true, force: true }));
  return path;
}

t.test('an error that cannot be one is unknown, never zero; one that is too large is not unknown', (t) => {
  for (const ns of [0, -1, NaN, Infinity]) t.equal(statedError(ns), null, String(ns));
  for (const ns of [1, 16e9, 37e9, 1e18]) t.equal(statedError(ns), ns);
  t.end();
});

t.test('kernel', (t) => {
  const record = {
    state: 0,
    status: 0x2001,
    offset: -1234,
    frequency: -655360,
    maxErrorUs: 250,
    estimatedErrorUs: 10,
    taiOffsetS: 37,
  };
  t.match(interpretKernel(record), {
    statement: {
      status: 'synchronized',
      errorNs: 250_000,
      detail: { offsetNs: -1234, frequencyPpb: -10_000, taiOffsetS: 37 },
    },
  });
  t.match(
    interpretKernel({ ...record, status: 0x0001 }),
    { statement: { detail: { offsetNs: -1_234_000 } } },
    'µs without STA_NANO',
  );
  t.match(
    interpretKernel({ ...record, status: 0x1000 }),
    { statement: { status: 'free-running', errorNs: null } },
    'STA_CLOCKERR',
  );
  t.match(
    interpretKernel({ ...record, status: 0x40, state: 5, maxErrorUs: 16_000_000, estimatedErrorUs: 16_000_000 }),
    { statement: { status: 'free-running', errorNs: null, found: /no daemon/ } },
    'as booted',
  );
  t.match(
    interpretKernel({ ...record, maxErrorUs: 16_000_000 }),
    { statement: { status: 'free-running', errorNs: null } },
    'whatever STA_UNSYNC says',
  );
  t.match(
    interpretKernel({ ...record, status: 0x41, state: 5, maxErrorUs: 2_017 }),
    { statement: { status: 'synchronized', errorNs: 2_017_000 } },
    'chronyd without rtcsync: STA_UNSYNC, TIME_ERROR, and a maxerror that is kept',
  );
  t.match(
    interpretKernel({ ...record, maxErrorUs: 0 }),
    { statement: { status: 'synchronized', errorNs: null } },
    'no clock is perfect',
  );
  t.match(interpretKernel({ ...record, maxErrorUs: 15_999_999 }), {
    statement: { status: 'synchronized', errorNs: 15_999_999_000 },
  });
  for (const [daemon, estimatedErrorUs] of [
    ['systemd-timesyncd', 0],
    ['phc2sys', 16_000_000],
  ] as const) {
    for (const seconds of [0, 1, 2, 30, 2_000]) {
      t.match(
        interpretKernel({ ...record, estimatedErrorUs, maxErrorUs: 500 * seconds }),
        { statement: { status: 'synchronized', errorNs: null, found: /does not say how well/ } },
        `${daemon}, ${seconds} s after it wrote 0`,
      );
    }
    t.match(
      interpretKernel({ ...record, estimatedErrorUs, maxErrorUs: 500 * 5_000 }),
      { statement: { status: 'free-running', errorNs: null, found: /said nothing for 5000 s/ } },
      `${daemon} is gone`,
    );
  }
  t.match(readKernel({ available: false, addon: null, reason: 'left out' }), { available: false, reason: 'left out' });
  if (native.available)
    t.match(readKernel(native), { available: true, statement: { source: 'kernel', about: 'realtime' } }, "this host's");
  t.end();
});

/** A segment of layout 2 in this host's byte order. */
function segment(
  fields: Partial<
    Record<
      'magic' | 'size' | 'version' | 'generation' | 'asOfS' | 'voidAfterS' | 'boundNs' | 'driftPpb' | 'status',
      number
    >
  > = {},
): Buffer {
  const {
    magic = 0x414d5a4e,
    size = 80,
    version = 2,
    generation = 4,
    asOfS = 1_000,
    voidAfterS = 2_000,
    boundNs = 10_000,
    driftPpb = 1_000,
    status = 1,
  } = fields;
  const bytes = Buffer.alloc(80);
  const little = endianness() === 'LE';
  const u32 = (at: number, value: number): void =>
    void (little ? bytes.writeUInt32LE(value, at) : bytes.writeUInt32BE(value, at));
  const u16 = (at: number, value: number): void =>
    void (little ? bytes.writeUInt16LE(value, at) : bytes.writeUInt16BE(value, at));
  const i64 = (at: number, value: number): void =>
    void (little ? bytes.writeBigInt64LE(BigInt(value), at) : bytes.writeBigInt64BE(BigInt(value), at));
  u32(0, magic);
  u32(4, 0x43420200);
  u32(8, size);
  u16(12, version);
  u16(14, generation);
  i64(16, asOfS);
  i64(32, voidAfterS);
  i64(48, boundNs);
  u32(64, driftPpb);
  u32(68, status);
  return bytes;
}

t.test('ClockBound', (t) => {
  const directory = folder(t);
  const path = join(directory, 'shm0');
  const at = (seconds: number): bigint => BigInt(Math.round(seconds * 1e9));
  const read = (fields: Parameters<typeof segment>[0], seconds: number): ReturnType<typeof readClockBound> => {
    writeFileSync(path, segment(fields));
    return readClockBound(at(seconds), path);
  };
  t.match(
    read({}, 1_002),
    { available: true, statement: { status: 'synchronized', errorNs: 12_000, about: 'realtime' } },
    'grown by 1 ppm for two seconds',
  );
  t.match(
    read({}, 1_006),
    { statement: { status: 'free-running', errorNs: 16_000 } },
    'silent for longer than a restart takes',
  );
  t.match(read({}, 2_001), { statement: { status: 'unknown', errorNs: null } }, 'void');
  t.match(read({ status: 2 }, 1_001), { statement: { status: 'free-running', errorNs: 11_000 } });
  t.match(read({ status: 0 }, 1_001), { statement: { status: 'unknown', errorNs: null } });
  t.match(read({ status: 3 }, 1_001), { statement: { status: 'stepped', errorNs: null } }, 'disrupted');
  t.match(
    read({ boundNs: 20e9 }, 1_000),
    { statement: { status: 'synchronized', errorNs: 20e9 } },
    'too wide is not unknown',
  );
  t.match(read({ boundNs: 0 }, 1_000), { statement: { errorNs: null } });
  t.match(read({ boundNs: -5 }, 1_000), { statement: { errorNs: null } });
  const refused: [string, Parameters<typeof segment>[0], RegExp][] = [
    ['magic', { magic: 1 }, /magic/],
    ['version 1', { version: 1 }, /layout 1, and only 2/],
    ['version 3', { version: 3 }, /layout 3/],
    ['size', { size: 72 }, /72 bytes/],
    ['never written', { generation: 0 }, /never been written/],
    ['being written', { generation: 5 }, /being written/],
    ['status', { status: 9 }, /makes no sense/],
    ['drift', { driftPpb: 1e9 }, /makes no sense/],
    ['the future', { asOfS: 5_000 }, /future/],
  ];
  for (const [what, fields, reason] of refused) t.match(read(fields, 1_001), { available: false, reason }, what);
  writeFileSync(path, segment().subarray(0, 72));
  t.match(readClockBound(at(1_001), path), { available: false, reason: /shorter than the 80/ });
  t.match(readClockBound(at(1_001), join(directory, 'none')), { available: false, reason: /ENOENT/ });
  t.match(readClockBound(at(1_001), directory), { available: false });
  t.end();
});

t.test('ENA', (t) => {
  const root = folder(t);
  const device = join(root, 'class/ptp/ptp0/device');
  mkdirSync(device, { recursive: true });
  const read = (text: string): ReturnType<typeof readEna> => {
    writeFileSync(join(device, 'phc_error_bound'), text);
    return readEna('ptp0', root);
  };
  t.match(read('17000\n'), { statement: { about: 'phc', status: 'synchronized', errorNs: 17_000 } });
  t.match(read('0\n'), { statement: { status: 'unknown', errorNs: null } });
  t.match(read('20000000000\n'), { statement: { status: 'synchronized', errorNs: 20e9 } }, 'too wide is not unknown');
  for (const text of ['', 'abc', '-3', '1e3', '0x10', '1'.repeat(30)])
    t.match(read(text), { available: false, reason: /no number of nanoseconds/ }, JSON.stringify(text));
  t.match(readEna('ptp1', root), { available: false, reason: /ENOENT/ });
  t.end();
});

t.test('chrony', async (t) => {
  t.equal(chronyFloat(0), 0);
  t.equal(chronyFloat((1 << 25) | (1 << 23)), 0.5, 'exponent 1, coefficient 2^23');
  t.equal(chronyFloat((1 << 25) | (-(1 << 23) & 0x1ffffff)), -0.5);
  t.equal(chronyFloat((-10 << 25) | (1 << 23)), 2 ** -12);

  const correction = (-10 << 25) | (-(1 << 23) & 0x1ffffff); // −2^-12 s
  const delay = (-9 << 25) | (1 << 23); // 2^-11 s
  const dispersion = (-10 << 25) | (1 << 23); // 2^-12 s
  const floats = [correction, 0, 0, 0, 0, 0, delay, dispersion, 0];
  t.match(
    interpretTracking(tracking(7, { floats }), 7),
    {
      statement: {
        status: 'synchronized',
        errorNs: (2 ** -12 + 2 ** -12 + 2 ** -12) * 1e9,
        detail: { stratum: 2, referenceId: '0a000001' },
      },
    },
    '|correction| + dispersion + delay / 2',
  );
  t.match(
    interpretTracking(tracking(7), 7),
    { statement: { status: 'synchronized', errorNs: null } },
    'a bound of zero is no bound',
  );
  for (const [what, correctionS, dispersionS] of [
    ['a TAI offset left out', 37, 2 ** -20],
    ['root dispersion of an hour', 0, 4096],
  ] as const) {
    t.match(
      interpretTracking(tracking(7, { floats: trackingFloats(correctionS, 0, dispersionS) }), 7),
      { statement: { status: 'synchronized', errorNs: (correctionS + dispersionS) * 1e9 } },
      what,
    );
  }
  const refclock = (name: string): Buffer =>
    tracking(7, {
      floats: trackingFloats(0, 0, 2 ** -18),
      family: 0,
      stratum: 1,
      referenceId: Buffer.from(name).readUInt32BE(0),
    });
  const own = 2 ** -18 * 1e9;
  t.match(
    interpretTracking(refclock('PHC0'), 7, 500_000),
    { statement: { status: 'synchronized', errorNs: own + 500_000, found: /PHC0; its driver states 500000 ns/ } },
    'the error of the hardware clock is added',
  );
  t.match(
    interpretTracking(refclock('ENA\0'), 7, 500_000),
    { statement: { errorNs: own + 500_000, found: /clock ENA;/ } },
    'also under the name that the operator gave it',
  );
  t.match(interpretTracking(refclock('PHC0'), 7, null), {
    statement: { status: 'synchronized', errorNs: null, found: /PHC0, whose own error chrony does not count/ },
  });
  for (const name of ['PPS0', 'SHM1', 'SOC0'])
    t.match(
      interpretTracking(refclock(name), 7, 500_000),
      { statement: { errorNs: null } },
      `${name} is no hardware clock of PTP`,
    );
  t.match(interpretTracking(tracking(7, { leap: 3, floats }), 7), {
    statement: { status: 'free-running', errorNs: null },
  });
  t.match(interpretTracking(tracking(7, { referenceId: 0, floats }), 7), {
    statement: { status: 'free-running', found: /no source/ },
  });
  t.match(interpretTracking(tracking(7, { referenceId: 0x7f7f0101, family: 0, floats }), 7), {
    statement: { status: 'free-running', found: /own clock/ },
  });
  t.match(interpretTracking(tracking(7, { status: 2 }), 7), { available: false, reason: /refuses: status 2/ });
  t.match(interpretTracking(tracking(8), 7), { available: false });
  for (let length = 0; length < 100; length++)
    t.equal(interpretTracking(tracking(7, { floats }).subarray(0, length), 7).available, false, `${length} bytes`);
  t.equal(trackingRequest(1).length, 104, 'as long as its answer, or chronyd does not answer');

  const port = await fakeChrony(t, (sequence) => [
    Buffer.from('x'),
    tracking((sequence ^ 1) >>> 0, { floats }),
    tracking(sequence, { floats }),
  ]);
  t.match(
    await readChrony(port, 5_000),
    { available: true, statement: { status: 'synchronized' } },
    'what is no answer to this question is passed over',
  );
  const silent = createSocket('udp4');
  await new Promise<void>((resolve) => silent.bind(0, '127.0.0.1', resolve));
  t.teardown(() => silent.close());
  t.match(await readChrony(silent.address().port, 50), { available: false, reason: /no answer/ });
});

t.test('ptp4l', async (t) => {
  const report: Ptp4lReport = {
    domain: 0,
    timestamping: 'hardware',
    portState: 'slave',
    interface: 'eth0',
    offsetFromMasterNs: -120,
    meanPathDelayNs: 800,
    stepsRemoved: 1,
    grandmaster: '001122.fffe.334455',
    grandmasterPresent: true,
    utcOffsetS: 37,
    ptpTimescale: true,
    timeTraceable: true,
  };
  t.match(interpretPtp4l(report), {
    statement: { status: 'synchronized', errorNs: 920, found: 'follows 001122.fffe.334455' },
  });
  t.match(interpretPtp4l({ ...report, timeTraceable: false }), { statement: { found: /no traceable time/ } });
  for (const [portState, status] of [
    ['listening', 'free-running'],
    ['faulty', 'free-running'],
    ['uncalibrated', 'stepped'],
    ['master', 'unknown'],
  ] as const) {
    t.match(interpretPtp4l({ ...report, portState }), { statement: { status, errorNs: null } }, portState);
  }
  t.match(
    interpretPtp4l({ ...report, offsetFromMasterNs: 37_000_000_584 }),
    { statement: { status: 'synchronized', errorNs: 37_000_001_384 } },
    'a TAI offset left out',
  );
  t.match(
    interpretPtp4l({ ...report, timestamping: 'software' }),
    { statement: { about: 'realtime', detail: { timestamping: 'software' } } },
    'in software it keeps the system clock',
  );
  t.match(
    interpretPtp4l({ ...report, offsetFromMasterNs: 0, meanPathDelayNs: 0 }),
    { statement: { errorNs: null } },
    'nothing measured yet',
  );

  const answer = Buffer.concat([managementRequest(0x2001, 9, 1), Buffer.alloc(18, 1)]);
  answer[46] = 2;
  answer.writeUInt16BE(20, 50);
  t.equal(managementData(answer, 0x2001, 9)?.length, 18);
  t.equal(managementData(answer, 0x2001, 8), undefined, 'another question');
  t.equal(managementData(answer, 0x2002, 9), undefined, 'another data set');
  t.equal(managementData(managementRequest(0x2001, 9, 1), 0x2001, 9), undefined, 'a request is no answer');
  for (let length = 0; length < answer.length; length++)
    t.equal(managementData(answer.subarray(0, length), 0x2001, 9), undefined, `${length} bytes`);
  t.match(await readPtp4l({ available: false, addon: null, reason: 'left out' }), {
    available: false,
    reason: 'left out',
  });
});

t.test('the epoch of a device', (t) => {
  const seconds = (s: number): bigint => BigInt(Math.round(s * 1e9));
  t.match(epochOf(seconds(0.000001)), { epoch: 'utc', toUtcNs: 0n });
  t.match(epochOf(seconds(-0.3)), { epoch: 'utc' });
  t.match(epochOf(seconds(37.001)), { epoch: 'tai', toUtcNs: seconds(-37) });
  for (const off of [0.5, 1, -37, 34, 41, 36.5, -1_700_000_000]) t.equal(epochOf(seconds(off)), undefined, `${off} s`);
  t.end();
});

t.test('devices, and which of them auto takes', async (t) => {
  const root = folder(t);
  const file = (path: string, text: string): void => {
    mkdirSync(join(root, path, '..'), { recursive: true });
    writeFileSync(join(root, path), text);
  };
  t.same(listDevices(root), []);
  t.same(
    (await candidates({ root })).map(({ spec }) => spec),
    ['realtime'],
  );
  file('sys/class/ptp/ptp10/clock_name', 'KVM virtual PTP\n');
  file('sys/class/ptp/ptp2/clock_name', 'igb\n');
  file('sys/class/ptp/ptp3/clock_name', 'ena-ptp-05\n');
  file('sys/class/ptp/ptp3/device/phc_error_bound', '21000\n');
  file('sys/class/net/eth0/device/ptp/ptp2/dev', '');
  t.match(listDevices(root), [
    { name: 'ptp2', path: '/dev/ptp2', clockName: 'igb', interfaces: ['eth0'] },
    { name: 'ptp3' },
    { name: 'ptp10', interfaces: [] },
  ]);
  if (!native.available) return;
  const found = await candidates({ root, ptp4lSockets: [join(root, 'none')], probe: () => ({ method: 'precise' }) });
  t.match(found, [
    { spec: 'disciplined:/dev/ptp3', usable: true, why: /within 21000 ns/ },
    { spec: 'disciplined:/dev/ptp10', usable: true, why: /disciplined by the platform/ },
    { spec: 'disciplined:/dev/ptp2', usable: false, why: /nothing is known to discipline it/ },
    { spec: 'realtime', usable: true },
  ]);
  t.same(
    await defaultPair({ root, ptp4lSockets: [join(root, 'none')], probe: () => ({ method: 'precise' }) }),
    ['realtime', 'disciplined:/dev/ptp3'],
    'clock watch takes the best one',
  );
  const refused = await candidates({
    root,
    ptp4lSockets: [join(root, 'none')],
    probe: (path) => ({ problem: `${path} may not be read` }),
  });
  t.same(
    refused.filter(({ usable }) => usable).map(({ spec }) => spec),
    ['realtime'],
    'what cannot be opened is not taken, whoever keeps it',
  );
});

t.test(
  'of several devices auto takes the one with the smallest known error, whatever their numbers',
  { skip: native.available ? false : native.reason },
  async (t) => {
    const order = async (boundsNs: readonly (number | undefined)[]): Promise<unknown> => {
      const root = folder(t);
      boundsNs.forEach((boundNs, index) => {
        const device = join(root, `sys/class/ptp/ptp${index}`);
        mkdirSync(join(device, 'device'), { recursive: true });
        writeFileSync(join(device, 'clock_name'), boundNs === undefined ? 'KVM virtual PTP\n' : 'ena-ptp-05\n');
        if (boundNs !== undefined) writeFileSync(join(device, 'device/phc_error_bound'), `${boundNs}\n`);
      });
      return (await candidates({ root, ptp4lSockets: [join(root, 'none')], probe: () => ({ method: 'precise' }) }))
        .filter(({ usable }) => usable)
        .map(({ spec }) => spec.replace('disciplined:/dev/', ''));
    };
    t.same(
      await order([undefined, 21_000]),
      ['ptp1', 'ptp0', 'realtime'],
      'a stated bound before the platform, which states none',
    );
    t.same(await order([21_000, undefined]), ['ptp0', 'ptp1', 'realtime']);
    t.same(await order([21_000, undefined, 9_000]), ['ptp2', 'ptp0', 'ptp1', 'realtime'], 'then the smaller bound');
    t.same(await order([undefined, undefined]), ['ptp0', 'ptp1', 'realtime']);
    t.same(await order([20e9]), ['realtime'], 'one that is known to be 20 s off is left alone');
  },
);

t.test('what the platform keeps', (t) => {
  const device = (clockName: string): Parameters<typeof readPlatform>[0] => ({
    name: 'ptp0',
    path: '/dev/ptp0',
    clockName,
    driver: undefined,
    interfaces: [],
  });
  for (const name of ['KVM virtual PTP', 'hyperv', 'vmclock', 'ptp_vmw', 'ena-ptp-05']) {
    t.match(
      readPlatform(device(name)),
      { available: true, statement: { status: 'synchronized', errorNs: null } },
      `${name}: kept, and how well is unknown`,
    );
  }
  for (const name of ['igb', 'mlx5_ptp', 'ice-0000:01:00.0-clk'])
    t.match(readPlatform(device(name)), { available: false }, name);
  t.end();
});

/** This host's addon with another kernel clock. */
function withKernel(kernelClock: () => KernelClockRecord): NativeBinding {
  return {
    available: true,
    addon: Object.create(native.addon!, { kernelClock: { value: kernelClock } }) as NonNullable<NativeBinding['addon']>,
    reason: '',
  };
}

const KEPT: KernelClockRecord = {
  state: 0,
  status: 0x2001,
  offset: 0,
  frequency: 0,
  maxErrorUs: 123,
  estimatedErrorUs: 1,
  taiOffsetS: 37,
};

/** Nobody but the kernel, and whom the test adds, says anything of this host's clock. */
function nobodyElse(root: string, more: Sources = {}): Sources {
  return { root, clockBoundPath: join(root, 'none'), ptp4lSockets: [join(root, 'none')], chronyPort: 1, ...more };
}

async function eventually(t: Test, what: string, holds: () => boolean): Promise<void> {
  const deadline = performance.now() + 20_000;
  while (!holds() && performance.now() < deadline) await delay(5);
  t.ok(holds(), what);
}

t.test(
  "a host's clock that is known to be far off is unhealthy, however far; one of unknown error is used",
  { skip: native.available ? false : native.reason },
  async (t) => {
    let floats = trackingFloats(0, 0, 2 ** -13);
    let referenceClock = false;
    const chronyPort = await fakeChrony(t, (sequence) => [
      tracking(sequence, { floats, ...(referenceClock ? { family: 0, referenceId: 0x50484330 } : {}) }),
    ]);
    const root = folder(t);
    const device = join(root, 'sys/class/ptp/ptp0/device');
    mkdirSync(device, { recursive: true });
    const clock = await HostClock.open('realtime', {
      binding: withKernel(() => KEPT),
      assessMs: 10,
      sources: nobodyElse(root, { chronyPort }),
    });
    t.teardown(() => clock.close());
    t.match(clock.quality, { status: 'synchronized', healthy: true, errorNs: 2 ** -13 * 1e9 });
    for (const aheadS of [10, 20, 37, 3_849]) {
      floats = trackingFloats(aheadS, 0, 2 ** -13);
      await eventually(
        t,
        `${aheadS} s ahead is known`,
        () => clock.quality.errorNs !== null && Math.abs(clock.quality.errorNs / 1e9 - aheadS) < 0.01,
      );
      t.equal(clock.quality.healthy, false, `${aheadS} s ahead`);
      t.ok(clock.report().errorBoundNs! > 9.9e9, 'and the bound is reported, so that an alert on it can fire');
    }
    floats = trackingFloats(0, 0, 2 ** -13);
    await eventually(t, 'right again', () => clock.quality.healthy);
    referenceClock = true;
    await eventually(t, 'a reference clock that states no error', () => clock.quality.errorNs === null);
    t.match(clock.quality, { status: 'synchronized', healthy: true }, 'is used, with an unknown error');
    writeFileSync(join(device, 'phc_error_bound'), '21000\n');
    await eventually(t, 'its driver states one', () => clock.quality.errorNs === 2 ** -13 * 1e9 + 21_000);
  },
);

t.test(
  'systemd-timesyncd: one verdict from poll to poll; and silence takes nothing back',
  { skip: native.available ? false : native.reason },
  async (t) => {
    let record = { ...KEPT, estimatedErrorUs: 0, maxErrorUs: 0 };
    const changes: string[] = [];
    let assessed = 0;
    const binding = withKernel(() => {
      assessed++;
      return record;
    });
    const assess = async (): Promise<void> => {
      const before = assessed;
      await eventually(t, 'assessed', () => assessed > before + 1);
    };
    const clock = await HostClock.open('realtime', {
      binding,
      assessMs: 5,
      sources: nobodyElse(folder(t)),
      changed: ({ status, healthy }) => changes.push(`${status} ${healthy}`),
    });
    t.teardown(() => clock.close());
    for (let poll = 0; poll < 3; poll++) {
      for (const seconds of [0, 1, 2, 3, 16, 31]) {
        record = { ...record, maxErrorUs: 500 * seconds };
        await assess();
        t.match(clock.quality, { status: 'synchronized', errorNs: null, healthy: true });
      }
    }
    t.same(changes, [], 'nothing to say');
    record = { ...KEPT, maxErrorUs: 5_001 };
    await eventually(t, 'too wide', () => !clock.quality.healthy);
    record = { ...KEPT, maxErrorUs: 0 };
    await eventually(t, 'the same source says nothing of the error', () => clock.quality.errorNs === null);
    t.equal(clock.quality.healthy, false, 'which is not a better bound');
    record = { ...KEPT, maxErrorUs: 400 + 1 };
    await eventually(t, 'below half of the limit', () => clock.quality.healthy);
    t.same(changes, ['synchronized false', 'synchronized true']);
  },
);

t.test(
  'a ptp4l that cannot be asked is named, for the system clock as well',
  { skip: native.available ? false : native.reason },
  async (t) => {
    const root = folder(t);
    const socket = join(root, 'ptp4l');
    const reasonFor = async (binding: NativeBinding): Promise<unknown> => {
      const [ptp4l] = (await systemStatements(binding, nobodyElse(root, { ptp4lSockets: [socket] }))).filter(
        (stated) => !stated.available && stated.source === 'ptp4l',
      );
      return ptp4l;
    };
    t.match(await reasonFor(native), { reason: /ptp4l: ENOENT/ });
    const refusing = class {
      constructor() {
        throw Object.assign(new Error('connect'), { errno: -constants.errno.EACCES, syscall: 'connect' });
      }
    };
    const denied: NativeBinding = {
      available: true,
      addon: Object.create(native.addon!, { UnixDatagram: { value: refusing } }) as NonNullable<NativeBinding['addon']>,
      reason: '',
    };
    t.match(await reasonFor(denied), { reason: /ptp4l: EACCES/ }, 'it may not be asked');
    const silent = class {
      send(): void {}
      receive(): number {
        return -1;
      }
      close(): void {}
    };
    const stopped: NativeBinding = {
      available: true,
      addon: Object.create(native.addon!, { UnixDatagram: { value: silent } }) as NonNullable<NativeBinding['addon']>,
      reason: '',
    };
    t.match(await reasonFor(stopped), { reason: /ptp4l: no answer/ }, 'it hangs');
    mkdirSync(join(root, 'sys/class/ptp/ptp0'), { recursive: true });
    const [device] = await candidates({
      binding: denied,
      root,
      ptp4lSockets: [socket],
      probe: () => ({ method: 'precise' }),
    });
    t.match(
      device,
      { usable: false, why: /a ptp4l runs here and cannot be asked \(.*EACCES/ },
      'and auto says why it leaves the device alone',
    );
  },
);
