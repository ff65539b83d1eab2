// What each source of a clock's quality says, and everything that makes it say nothing.
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createSocket } from 'node:dgram';
import { endianness, tmpdir } from 'node:os';
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
import { interpretPtp4l, managementData, managementRequest, readPtp4l, type Ptp4lReport } from '../../src/clock/quality/ptp4l.js';
import { plausibleError } from '../../src/clock/quality/statement.js';
import { native } from '../../src/native/addon.js';

function folder(t: Test): string {
  const path = mkdtempSync(join(tmpdir(), 'jitpaxos-quality-'));
  t.teardown(() => rmSync(path, { recursive: true, force: true }));
  return path;
}

t.test('an error that cannot be one is unknown, never zero', (t) => {
  for (const ns of [0, -1, NaN, Infinity, 16e9, 1e18]) t.equal(plausibleError(ns), null, String(ns));
  t.equal(plausibleError(1), 1);
  t.end();
});

t.test('kernel', (t) => {
  const record = { state: 0, status: 0x2001, offset: -1234, frequency: -655360, maxErrorUs: 250, estimatedErrorUs: 10, taiOffsetS: 37 };
  t.match(interpretKernel(record), { statement: { status: 'synchronized', errorNs: 250_000, detail: { offsetNs: -1234, frequencyPpb: -10_000, taiOffsetS: 37 } } });
  t.match(interpretKernel({ ...record, status: 0x0001 }), { statement: { detail: { offsetNs: -1_234_000 } } }, 'µs without STA_NANO');
  for (const [what, changed] of [['STA_UNSYNC', { status: 0x40 }], ['STA_CLOCKERR', { status: 0x1000 }], ['TIME_ERROR', { state: 5 }]] as const) {
    t.match(interpretKernel({ ...record, ...changed }), { statement: { status: 'free-running', errorNs: null } }, what);
  }
  t.match(interpretKernel({ ...record, maxErrorUs: 0 }), { statement: { status: 'synchronized', errorNs: null } }, 'no clock is perfect');
  t.match(interpretKernel({ ...record, maxErrorUs: 16_000_000 }), { statement: { errorNs: null } });
  t.match(readKernel({ available: false, addon: null, reason: 'left out' }), { available: false, reason: 'left out' });
  if (native.available) t.match(readKernel(native), { available: true, statement: { source: 'kernel', about: 'realtime' } }, "this host's");
  t.end();
});

/** A segment of layout 2 in this host's byte order. */
function segment(fields: Partial<Record<'magic' | 'size' | 'version' | 'generation' | 'asOfS' | 'voidAfterS' | 'boundNs' | 'driftPpb' | 'status', number>> = {}): Buffer {
  const { magic = 0x414d5a4e, size = 80, version = 2, generation = 4, asOfS = 1_000, voidAfterS = 2_000, boundNs = 10_000, driftPpb = 1_000, status = 1 } = fields;
  const bytes = Buffer.alloc(80);
  const little = endianness() === 'LE';
  const u32 = (at: number, value: number): void => void (little ? bytes.writeUInt32LE(value, at) : bytes.writeUInt32BE(value, at));
  const u16 = (at: number, value: number): void => void (little ? bytes.writeUInt16LE(value, at) : bytes.writeUInt16BE(value, at));
  const i64 = (at: number, value: number): void => void (little ? bytes.writeBigInt64LE(BigInt(value), at) : bytes.writeBigInt64BE(BigInt(value), at));
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
  t.match(read({}, 1_002), { available: true, statement: { status: 'synchronized', errorNs: 12_000, about: 'realtime' } }, 'grown by 1 ppm for two seconds');
  t.match(read({}, 1_006), { statement: { status: 'free-running', errorNs: 16_000 } }, 'silent for longer than a restart takes');
  t.match(read({}, 2_001), { statement: { status: 'unknown', errorNs: null } }, 'void');
  t.match(read({ status: 2 }, 1_001), { statement: { status: 'free-running', errorNs: 11_000 } });
  t.match(read({ status: 0 }, 1_001), { statement: { status: 'unknown', errorNs: null } });
  t.match(read({ status: 3 }, 1_001), { statement: { status: 'stepped', errorNs: null } }, 'disrupted');
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
  for (const text of ['', 'abc', '-3', '1e3', '0x10', '1'.repeat(30)]) t.match(read(text), { available: false, reason: /no number of nanoseconds/ }, JSON.stringify(text));
  t.match(readEna('ptp1', root), { available: false, reason: /ENOENT/ });
  t.end();
});

/** A tracking report as chronyd sends it. */
function tracking(sequence: number, fields: { leap?: number; referenceId?: number; status?: number; floats?: readonly number[] } = {}): Buffer {
  const bytes = Buffer.alloc(104);
  bytes[0] = 6;
  bytes[1] = 2;
  bytes.writeUInt16BE(33, 4);
  bytes.writeUInt16BE(5, 6);
  bytes.writeUInt16BE(fields.status ?? 0, 8);
  bytes.writeUInt32BE(sequence, 16);
  bytes.writeUInt32BE(fields.referenceId ?? 0x0a000001, 28);
  bytes.writeUInt16BE(2, 52);
  bytes.writeUInt16BE(fields.leap ?? 0, 54);
  (fields.floats ?? []).forEach((bits, index) => bytes.writeInt32BE(bits, 68 + 4 * index));
  return bytes;
}

t.test('chrony', async (t) => {
  t.equal(chronyFloat(0), 0);
  t.equal(chronyFloat((1 << 25) | (1 << 23)), 0.5, 'exponent 1, coefficient 2^23');
  t.equal(chronyFloat((1 << 25) | (-(1 << 23) & 0x1ffffff)), -0.5);
  t.equal(chronyFloat((-10 << 25) | (1 << 23)), 2 ** -12);

  const correction = (-10 << 25) | (-(1 << 23) & 0x1ffffff); // −2^-12 s
  const delay = (-9 << 25) | (1 << 23); // 2^-11 s
  const dispersion = (-10 << 25) | (1 << 23); // 2^-12 s
  const floats = [correction, 0, 0, 0, 0, 0, delay, dispersion, 0];
  t.match(interpretTracking(tracking(7, { floats }), 7), { statement: { status: 'synchronized', errorNs: (2 ** -12 + 2 ** -12 + 2 ** -12) * 1e9, detail: { stratum: 2, referenceId: '0a000001' } } }, '|correction| + dispersion + delay / 2');
  t.match(interpretTracking(tracking(7), 7), { statement: { status: 'synchronized', errorNs: null } }, 'a bound of zero is no bound');
  t.match(interpretTracking(tracking(7, { leap: 3, floats }), 7), { statement: { status: 'free-running', errorNs: null } });
  t.match(interpretTracking(tracking(7, { referenceId: 0, floats }), 7), { statement: { status: 'free-running', found: /no source/ } });
  t.match(interpretTracking(tracking(7, { referenceId: 0x7f7f0101, floats }), 7), { statement: { status: 'free-running', found: /own clock/ } });
  t.match(interpretTracking(tracking(7, { status: 2 }), 7), { available: false, reason: /refuses: status 2/ });
  t.match(interpretTracking(tracking(8), 7), { available: false });
  for (let length = 0; length < 100; length++) t.equal(interpretTracking(tracking(7, { floats }).subarray(0, length), 7).available, false, `${length} bytes`);
  t.equal(trackingRequest(1).length, 104, 'as long as its answer, or chronyd does not answer');

  const server = createSocket('udp4');
  await new Promise<void>((resolve) => server.bind(0, '127.0.0.1', resolve));
  t.teardown(() => server.close());
  server.on('message', (request, { port }) => {
    const sequence = request.readUInt32BE(8);
    for (const bytes of [Buffer.from('x'), tracking((sequence ^ 1) >>> 0, { floats }), tracking(sequence, { floats })]) server.send(bytes, port, '127.0.0.1');
  });
  t.match(await readChrony(server.address().port, 5_000), { available: true, statement: { status: 'synchronized' } }, 'what is no answer to this question is passed over');
  const silent = createSocket('udp4');
  await new Promise<void>((resolve) => silent.bind(0, '127.0.0.1', resolve));
  t.teardown(() => silent.close());
  t.match(await readChrony(silent.address().port, 50), { available: false, reason: /no answer/ });
});

t.test('ptp4l', async (t) => {
  const report: Ptp4lReport = { domain: 0, timestamping: 'hardware', portState: 'slave', interface: 'eth0', offsetFromMasterNs: -120, meanPathDelayNs: 800, stepsRemoved: 1, grandmaster: '001122.fffe.334455', grandmasterPresent: true, utcOffsetS: 37, ptpTimescale: true, timeTraceable: true };
  t.match(interpretPtp4l(report), { statement: { status: 'synchronized', errorNs: 920, found: 'follows 001122.fffe.334455' } });
  t.match(interpretPtp4l({ ...report, timeTraceable: false }), { statement: { found: /no traceable time/ } });
  for (const [portState, status] of [['listening', 'free-running'], ['faulty', 'free-running'], ['uncalibrated', 'stepped'], ['master', 'unknown']] as const) {
    t.match(interpretPtp4l({ ...report, portState }), { statement: { status, errorNs: null } }, portState);
  }
  t.match(interpretPtp4l({ ...report, timestamping: 'software' }), { statement: { about: 'realtime', detail: { timestamping: 'software' } } }, 'in software it keeps the system clock');
  t.match(interpretPtp4l({ ...report, offsetFromMasterNs: 0, meanPathDelayNs: 0 }), { statement: { errorNs: null } }, 'nothing measured yet');

  const answer = Buffer.concat([managementRequest(0x2001, 9, 1), Buffer.alloc(18, 1)]);
  answer[46] = 2;
  answer.writeUInt16BE(20, 50);
  t.equal(managementData(answer, 0x2001, 9)?.length, 18);
  t.equal(managementData(answer, 0x2001, 8), undefined, 'another question');
  t.equal(managementData(answer, 0x2002, 9), undefined, 'another data set');
  t.equal(managementData(managementRequest(0x2001, 9, 1), 0x2001, 9), undefined, 'a request is no answer');
  for (let length = 0; length < answer.length; length++) t.equal(managementData(answer.subarray(0, length), 0x2001, 9), undefined, `${length} bytes`);
  t.match(await readPtp4l({ available: false, addon: null, reason: 'left out' }), { available: false, reason: 'left out' });
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
  t.same((await candidates({ root })).map(({ spec }) => spec), ['realtime']);
  file('sys/class/ptp/ptp10/clock_name', 'KVM virtual PTP\n');
  file('sys/class/ptp/ptp2/clock_name', 'igb\n');
  file('sys/class/ptp/ptp3/clock_name', 'ena-ptp-05\n');
  file('sys/class/ptp/ptp3/device/phc_error_bound', '21000\n');
  file('sys/class/net/eth0/device/ptp/ptp2/dev', '');
  t.match(listDevices(root), [{ name: 'ptp2', path: '/dev/ptp2', clockName: 'igb', interfaces: ['eth0'] }, { name: 'ptp3' }, { name: 'ptp10', interfaces: [] }]);
  if (!native.available) return;
  const found = await candidates({ root, ptp4lSockets: [join(root, 'none')], probe: () => ({ method: 'precise' }) });
  t.match(found, [
    { spec: 'disciplined:/dev/ptp3', usable: true, why: /within 21000 ns/ },
    { spec: 'disciplined:/dev/ptp10', usable: true, why: /kept by the platform/ },
    { spec: 'disciplined:/dev/ptp2', usable: false, why: /nobody is known to keep it/ },
    { spec: 'realtime', usable: true },
  ]);
  const refused = await candidates({ root, ptp4lSockets: [join(root, 'none')], probe: (path) => ({ problem: `${path} may not be read` }) });
  t.same(refused.filter(({ usable }) => usable).map(({ spec }) => spec), ['realtime'], 'what cannot be opened is not taken, whoever keeps it');
});

t.test('what the platform keeps', (t) => {
  const device = (clockName: string): Parameters<typeof readPlatform>[0] => ({ name: 'ptp0', path: '/dev/ptp0', clockName, driver: undefined, interfaces: [] });
  for (const name of ['KVM virtual PTP', 'hyperv', 'vmclock', 'ptp_vmw', 'ena-ptp-05']) {
    t.match(readPlatform(device(name)), { available: true, statement: { status: 'synchronized', errorNs: null } }, `${name}: kept, and how well is unknown`);
  }
  for (const name of ['igb', 'mlx5_ptp', 'ice-0000:01:00.0-clk']) t.match(readPlatform(device(name)), { available: false }, name);
  t.end();
});
