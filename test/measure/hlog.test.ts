// Histogram logs: no count is lost or moves between us, hdr-histogram-js and back; and what hostile files do.
import t, { type Test } from 'tap';
import { execFileSync } from 'node:child_process';
import { closeSync, existsSync, mkdtempSync, openSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { deflateSync, inflateSync } from 'node:zlib';
import { highestOf, Histogram, HISTOGRAM_BUCKETS, lowestOf } from '../../src/metrics/histogram.js';
import { decoded, hdrLibrary, mended, toHdr, type HdrHistogram } from '../../src/measure/hlog/hdr-codec.js';
import type { HlogEnd, RunSettings } from '../../src/measure/hlog/log-format.js';
import { readHlog, TAGS_MAX } from '../../src/measure/hlog/log-reader.js';
import { HlogWriter } from '../../src/measure/hlog/log-writer.js';
import { seededRandom } from '../../src/measure/load/random.js';
import { SecondRecorder } from '../../src/measure/load/second-recorder.js';
import type { TaggedSecond } from '../../src/measure/load/wall-seconds.js';

const directory = mkdtempSync(join(tmpdir(), 'jitpaxos-hlog-test-'));
t.teardown(() => rmSync(directory, { recursive: true, force: true }));
const file = (name: string): string => join(directory, name);

const SETTINGS: RunSettings = {
  command: 'load',
  version: '1.2.3',
  commandLine: 'jitpaxos bench load',
  host: { cpu: 'a processor', cores: 2, kernel: '6', node: 'v20' },
  replicas: 3,
  machine: 'kv',
  mix: { read: 0.5, write: 0.5 },
  opBytes: 64,
  opBytesMax: 64,
  authenticated: true,
  clients: 1,
  lanes: 8,
  rates: [1000],
  arrivals: 'poisson',
  seed: 1,
  keys: 1000,
  distribution: 'uniform',
};
const END: Omit<HlogEnd, 'latency'> = {
  partial: null,
  shortfall: null,
  transport: 'native',
  durability: 'memory',
  seconds: 3,
  failed: 0,
};
const START_MS = 1_700_000_000_400;
const RUN = '0123456789abcdef';

function someSeed(t: Test): number {
  const seed = (Date.now() & 0xffffff) + 1;
  t.comment(`seed ${seed}`);
  return seed;
}

function countsOf(hdr: HdrHistogram): number[] {
  return Array.from({ length: hdr.countsArrayLength }, (_, index) => hdr.getCountAtIndex(index));
}

function countsOfOurs(histogram: Histogram): number[] {
  const counts = new Array<number>(HISTOGRAM_BUCKETS).fill(0);
  const { buckets } = histogram.toData();
  for (let i = 0; i < buckets.length; i += 2) counts[buckets[i]!] = buckets[i + 1]!;
  return counts;
}

/** What hdr-histogram-js makes of a log: all intervals. */
function readByLibrary(path: string): HdrHistogram[] {
  const reader = new (hdrLibrary().HistogramLogReader)(readFileSync(path, 'utf8'), 64);
  const all: HdrHistogram[] = [];
  for (let next = reader.nextIntervalHistogram(); next !== null; next = reader.nextIntervalHistogram()) all.push(next);
  return all;
}

function logLine(histogram: Histogram): string {
  let line = '';
  new (hdrLibrary().HistogramLogWriter)((text) => (line = text)).outputIntervalHistogram(toHdr(histogram), 0, 1, 1e6);
  return line.slice(line.lastIndexOf(',') + 1).trim();
}

t.test('every bucket is the same bucket for hdr-histogram-js, at its lowest and at its highest value', (t) => {
  const ours = new Histogram();
  const theirs = hdrLibrary().build({
    bitBucketSize: 64,
    autoResize: false,
    lowestDiscernibleValue: 1,
    highestTrackableValue: 2 ** 43 - 1,
    numberOfSignificantValueDigits: 2,
  });
  t.equal(theirs.countsArrayLength, HISTOGRAM_BUCKETS);
  for (let index = 0; index < HISTOGRAM_BUCKETS; index++)
    for (let i = 0; i <= index % 5; i++)
      for (const value of [lowestOf(index), highestOf(index)]) {
        ours.record(value);
        theirs.recordValueWithCount(value, 1);
      }
  t.same(countsOf(theirs), countsOfOurs(ours), 'recorded there');
  t.same(countsOf(toHdr(ours)), countsOfOurs(ours), 'carried over');
  const encoded = mended(logLine(ours));
  t.same(countsOf(hdrLibrary().decodeFromCompressedBase64(encoded, 64)), countsOfOurs(ours), 'encoded, and read there');
  t.same(decoded(encoded).toData().buckets, ours.toData().buckets, 'and read here');
  t.equal(mended(logLine(decoded(encoded))), encoded, 'and encoded again');
  t.end();
});

t.test('counts of all sizes, values above the range, and no values at all', (t) => {
  for (const counts of [[], [1], [2 ** 31 + 1, 0, 2 ** 40], [63, 64, 65, 8191, 8192, 2 ** 20, 2 ** 27, 2 ** 34]]) {
    const buckets = counts.flatMap((count, index) => (count === 0 ? [] : [index * 100, count]));
    const count = counts.reduce((a, b) => a + b, 0);
    const ours = Histogram.fromData({ count, sum: 0, min: 0, max: highestOf(buckets.at(-2) ?? 0), buckets });
    t.same(decoded(mended(logLine(ours))).toData().buckets, buckets, counts.join());
  }
  const long = new Histogram();
  long.record(2 ** 44);
  t.same(decoded(mended(logLine(long))).toData().buckets, long.toData().buckets);
  t.end();
});

t.test('the header of an encoded histogram is what other implementations expect', (t) => {
  const histogram = new Histogram();
  histogram.record(1_000_000);
  const bytes = Buffer.from(mended(logLine(histogram)), 'base64');
  const content = inflateSync(bytes.subarray(8));
  t.equal(bytes.readInt32BE(0), 0x1c849314);
  t.equal(bytes.readInt32BE(4), bytes.length - 8);
  t.equal(content.readInt32BE(8), 0, 'the counts begin at index 0');
  t.equal(content.readDoubleBE(32), 1, 'values are not scaled');
  t.end();
});

t.test('k client processes make the log that one process would have made that saw everything', (t) => {
  const random = seededRandom(someSeed(t));
  const clients = 4;
  const path = file('merged.hlog');
  const log = HlogWriter.open(path, RUN, { ...SETTINGS, clients }, START_MS);
  const base = { second: Math.floor(START_MS / 1000), startNs: 5e12 - 4e8 };
  const sent: [number, TaggedSecond][] = [];
  const recorders = Array.from(
    { length: clients },
    (_, client) =>
      new SecondRecorder(base, ['read', 'write'], (second) =>
        sent.push([client, JSON.parse(JSON.stringify(second)) as TaggedSecond]),
      ),
  );
  const whole = new Histogram();
  const byTag = new Map<string, Histogram>();
  for (const recorder of recorders) recorder.begin(5e12);
  for (let nowNs = 5e12; nowNs < 5e12 + 5e9; nowNs += random() * 2e6) {
    const operation = random() < 0.5 ? 'read' : 'write';
    const outcome = random() < 0.9 ? 'ok' : random() < 0.5 ? 'failed' : 'unknown';
    const latencyNs = Math.floor(10 ** (3 + 8 * random() ** 3));
    recorders[Math.floor(random() * clients)]!.record(operation, outcome, latencyNs, nowNs);
    const tag = `${operation}-${outcome}`;
    if (!byTag.has(tag)) byTag.set(tag, new Histogram());
    for (const histogram of [whole, byTag.get(tag)!]) histogram.record(latencyNs);
  }
  recorders[1]!.recordUnsent(123_456);
  whole.record(123_456);
  for (const recorder of recorders) recorder.end(5e12 + 5.3e9);
  // The processes' messages arrive in any order between them.
  while (sent.length > 0) {
    const client = sent[Math.floor(random() * sent.length)]![0];
    const at = sent.findIndex(([of]) => of === client);
    log.add(...sent.splice(at, 1)[0]!);
  }
  log.end(END);

  const ours = readHlog(path);
  t.same(ours.latency.toData(), whole.toData(), 'identical in every bucket, and in its extremes and its sum');
  for (const [tag, histogram] of byTag) t.same(ours.tags.get(tag)!.toData().buckets, histogram.toData().buckets, tag);
  t.match(ours, { run: { run: RUN, clients }, end: END, steps: 0, fromSeconds: 1_700_000_000.4 });
  t.ok(Math.abs(ours.toSeconds! - 1_700_000_005.7) < 0.002, `${ours.toSeconds}`);

  const theirs = readByLibrary(path);
  const sums = new Array<number>(HISTOGRAM_BUCKETS).fill(0);
  for (const hdr of theirs) countsOf(hdr).forEach((count, index) => (sums[index]! += count));
  t.same(sums, countsOfOurs(whole), 'and for hdr-histogram-js');
  t.equal(theirs[0]!.startTimeStampMsec, START_MS);
  t.ok(theirs.every(({ tag }) => /^(read|write)-(ok|failed|unknown)$|^unsent$/.test(tag)));
  const intervals = new Map(theirs.map((hdr) => [`${hdr.tag} ${hdr.startTimeStampMsec}`, hdr]));
  t.equal(intervals.size, theirs.length, 'one line for each tag and second');

  // Written again by hdr-histogram-js, our reader and theirs find the same.
  const head = readFileSync(path, 'utf8')
    .split('\n')
    .filter((line) => line.startsWith('#'))
    .slice(0, 4);
  let again = `${head.join('\n')}\n`;
  const writer = new (hdrLibrary().HistogramLogWriter)((text) => (again += text));
  for (const hdr of theirs)
    writer.outputIntervalHistogram(
      hdr,
      hdr.startTimeStampMsec / 1000 - 1_700_000_000,
      hdr.endTimeStampMsec / 1000 - 1_700_000_000,
      1e6,
    );
  writeFileSync(file('again.hlog'), again);
  t.same(readByLibrary(file('again.hlog')).map(countsOf), theirs.map(countsOf));
  t.same(readHlog(file('again.hlog')).latency.toData().buckets, whole.toData().buckets);
  t.end();
});

function leb128(value: bigint): number[] {
  const bytes: number[] = [];
  for (let rest = value; ; rest >>= 7n) {
    if (rest < 128n) return [...bytes, Number(rest)];
    bytes.push(Number(rest & 127n) | 128);
  }
}

function second(at: number, values: readonly number[], tag = 'write-ok'): TaggedSecond {
  const histogram = new Histogram();
  for (const value of values) histogram.record(value);
  const fromMs = (1_700_000_000 + at) * 1000;
  return {
    second: 1_700_000_000 + at,
    fromMs,
    toMs: fromMs + 1000,
    tags: values.length === 0 ? {} : { [tag]: histogram.toData() },
  };
}

t.test('a second is written when every client process has ended it, and not held for one that is stuck', (t) => {
  const path = file('waiting.hlog');
  const log = HlogWriter.open(path, RUN, { ...SETTINGS, clients: 2 }, START_MS);
  const lines = (): number =>
    readFileSync(path, 'utf8')
      .split('\n')
      .filter((line) => line.startsWith('Tag')).length;
  log.add(0, second(1, [5]));
  t.equal(lines(), 0, 'the other process may still have values for it');
  log.add(1, second(1, []));
  t.equal(lines(), 1);
  for (let at = 2; at <= 50; at++) log.add(0, second(at, [5]));
  t.equal(lines(), 20, 'thirty wait at most');
  log.add(1, second(2, [7]));
  log.close();
  const read = readHlog(path);
  t.equal(read.latency.count, 51, 'what comes late has a line of its own');
  t.equal(read.end, null);
  t.end();
});

t.test('a log of a bench that was killed is read up to the line that is cut off', (t) => {
  const path = file('killed.hlog');
  const log = HlogWriter.open(path, RUN, SETTINGS, START_MS);
  log.step({ offeredPerSecond: 1000 });
  log.add(0, second(1, [5_000, 70_000]));
  log.add(0, second(2, [9_000]));
  const whole = readFileSync(path, 'utf8');
  for (const cut of [1, 20, 60]) {
    writeFileSync(path, whole.slice(0, -cut));
    const { end, latency, steps, toSeconds } = readHlog(path);
    t.match({ end, steps, toSeconds }, { end: null, steps: 1, toSeconds: 1_700_000_002 });
    t.equal(latency.count, 2);
  }
  log.close();
  t.end();
});

t.test('an end mark without the end of its line counts, and a part of it does not', (t) => {
  const path = file('unended.hlog');
  const log = HlogWriter.open(path, RUN, SETTINGS, START_MS);
  log.add(0, second(1, [5_000]));
  log.end({ ...END, partial: 'a bracket ]' });
  const whole = readFileSync(path, 'utf8');
  writeFileSync(path, whole.slice(0, -1));
  t.match(readHlog(path), { end: { partial: 'a bracket ]' } });
  for (const cut of [whole.length - 2, whole.lastIndexOf(']', whole.length - 3) + 1]) {
    writeFileSync(path, whole.slice(0, cut));
    t.match(readHlog(path), { end: null, latency: { count: 1 } });
  }
  t.end();
});

t.test('a closed loop reports the operations that succeeded', (t) => {
  const path = file('closed.hlog');
  const log = HlogWriter.open(path, RUN, { ...SETTINGS, command: 'latency', arrivals: null, rates: [] }, START_MS);
  log.add(0, second(1, [5_000, 70_000]));
  log.add(0, second(2, [9e9], 'write-unknown'));
  log.end(END);
  const read = readHlog(path);
  t.same([read.latency.count, read.latency.max, read.tags.get('write-unknown')!.count], [2, 70_000, 1]);
  t.end();
});

t.test('a full disk ends the log, not the measurement', { skip: !existsSync('/dev/full') }, (t) => {
  const log = HlogWriter.open(file('full.hlog'), RUN, SETTINGS, START_MS);
  log.add(0, second(1, [5_000]));
  Object.assign(log, { fd: openSync('/dev/full', 'w') });
  log.add(0, second(2, [5_000]));
  log.add(0, second(3, [5_000]));
  t.throws(() => log.end(END), { code: 'output-unwritable', message: /ENOSPC/ });
  t.throws(() => HlogWriter.open(file('none/a.hlog'), RUN, SETTINGS, START_MS), {
    code: 'output-unwritable',
    message: /ENOENT/,
  });
  t.end();
});

t.test('a log takes no existing file: neither that of a bench that runs, nor a FIFO', (t) => {
  const path = file('taken.hlog');
  const log = HlogWriter.open(path, RUN, SETTINGS, START_MS);
  const refused = { code: 'file-exists', message: /taken\.(hlog|fifo) already exists.*; move it away/ };
  t.throws(() => HlogWriter.open(path, RUN, SETTINGS, START_MS), refused);
  log.add(0, second(1, [5_000]));
  log.end(END);
  const before = readFileSync(path, 'utf8');
  t.throws(() => HlogWriter.open(path, RUN, SETTINGS, START_MS), refused);
  t.equal(readFileSync(path, 'utf8'), before);
  // Read and write, so that a writer that opened it would not wait for ever here.
  execFileSync('mkfifo', [file('taken.fifo')]);
  const held = openSync(file('taken.fifo'), 'r+');
  t.throws(() => HlogWriter.open(file('taken.fifo'), RUN, SETTINGS, START_MS), refused);
  closeSync(held);
  t.end();
});

t.test('a run that failed before it measured anything leaves no log', (t) => {
  const path = file('failed.hlog');
  HlogWriter.open(path, RUN, SETTINGS, START_MS).close();
  t.notOk(existsSync(path));
  HlogWriter.open(path, RUN, SETTINGS, START_MS).end(END);
  t.ok(existsSync(path), 'one that measured nothing and ended does');
  t.end();
});

t.test('files that are broken, hostile or of other histograms are refused, by file and line', (t) => {
  const path = file('good.hlog');
  const log = HlogWriter.open(path, RUN, SETTINGS, START_MS);
  log.add(0, second(1, [5_000, 70_000]));
  log.end(END);
  const good = readFileSync(path, 'utf8');
  const line = good.split('\n').find((each) => each.startsWith('Tag'))!;
  const encoded = line.slice(line.lastIndexOf(',') + 1);
  const content = inflateSync(Buffer.from(encoded, 'base64').subarray(8));
  /** The line with other bytes in its histogram. */
  const withBytes = (bytes: Buffer, length = bytes.length): string => {
    const header = Buffer.from(encoded, 'base64').subarray(0, 8);
    header.writeInt32BE(length, 4);
    return good.replace(encoded, Buffer.concat([header, bytes]).toString('base64'));
  };
  const withContent = (change: (bytes: Buffer) => Buffer | undefined): string => {
    const bytes = Buffer.from(content);
    return withBytes(deflateSync(change(bytes) ?? bytes));
  };
  const withPayload = (...payload: number[]): string =>
    withContent((bytes) => {
      bytes.writeInt32BE(payload.length, 4);
      return Buffer.concat([bytes.subarray(0, 40), Buffer.from(payload)]);
    });
  const field = (name: string, from: string, to: string): string =>
    good.replace(`"${name}":${from}`, `"${name}":${to}`);
  // 2^52 − 2 values: two lines are within bounds, three are not.
  const manyLine = withPayload(...leb128(2n ** 53n - 4n))
    .split('\n')
    .find((each) => each.startsWith('Tag'))!;
  const manyValues = good.replace(/\n#\[JITPaxos end.*\n$/, '\n').replace(line, Array(3).fill(manyLine).join('\n'));
  const at = '[^ ]*bad\\.hlog:6: ';
  const cases: readonly (readonly [name: string, text: string, expected: RegExp])[] = [
    ['nothing', '', /bad\.hlog: it does not say what it measured/],
    ['a log of somebody else', good.replace(/^.*\n/, ''), /:5: it does not say in which unit/],
    ['another unit', field('unit', '"ns"', '"us"'), /:1: its values are in "us", .* cannot be added/],
    ['another schema', good.replace('jitpaxos.hlog/1', 'jitpaxos.hlog/9'), /:1: its schema is "jitpaxos\.hlog\/9"/],
    [
      '3 digits',
      withContent((bytes) => void bytes.writeInt32BE(3, 12)),
      new RegExp(`${at}it has 3 significant digits, .* cannot be added`),
    ],
    [
      'another smallest unit',
      withContent((bytes) => void bytes.writeBigInt64BE(1000n, 16)),
      new RegExp(`${at}its unit is 1000 ns`),
    ],
    [
      'scaled values',
      withContent((bytes) => void bytes.writeDoubleBE(1e-3, 32)),
      new RegExp(`${at}its values are scaled by 0\\.001`),
    ],
    ['a bomb', withBytes(deflateSync(Buffer.alloc(32 << 20))), new RegExp(`${at}it inflates to more than`)],
    ['not compressed', withBytes(content), new RegExp(`${at}it cannot be inflated`)],
    ['a length that lies', withBytes(deflateSync(content), 2 ** 31 - 1), new RegExp(`${at}its length is not the one`)],
    [
      'counts of a length that lies',
      withContent((bytes) => void bytes.writeInt32BE(2 ** 31 - 1, 4)),
      new RegExp(`${at}the length of its counts`),
    ],
    ['counts cut off', withPayload(0x82), new RegExp(`${at}its counts are cut off`)],
    [
      'more buckets than there are',
      withPayload(0xff, 0xff, 0xff, 0x7f, 2),
      new RegExp(`${at}it has buckets for values of`),
    ],
    [
      'a count beyond numbers',
      withPayload(0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff),
      new RegExp(`${at}one of its counts is larger`),
    ],
    [
      'counts above its own highest value',
      withContent((bytes) => void bytes.writeBigInt64BE(2n, 24)),
      new RegExp(`${at}it counts values above the highest`),
    ],
    [
      'another version',
      good.replace(encoded, Buffer.from('1c849308000000000000', 'hex').toString('base64') + '==='.slice(0, 0)),
      /:6: it is not/,
    ],
    ['no base64', good.replace(encoded, '*'.repeat(40)), new RegExp(`${at}it is not base64`)],
    [
      'too long a histogram',
      good.replace(encoded, 'A'.repeat(200_000)),
      new RegExp(`${at}it has more than the \\d+ characters`),
    ],
    ['too long a line', `#${'x'.repeat(300_000)}\n${good}`, /:1: it has more than \d+ characters/],
    [
      'a line without an end',
      `${good.replace(/\n#\[JITPaxos end.*\n$/, '\n')}${'x'.repeat(1 << 20)}`,
      /:7: it has more than \d+ characters/,
    ],
    ['too many fields', good.replace(encoded, `${encoded},1`), new RegExp(`${at}it is not an interval`)],
    ['no tag', good.replace('Tag=write-ok,', ''), new RegExp(`${at}its tag is not one`)],
    ['a tag that is markup', good.replace('Tag=write-ok', 'Tag=<b>'), new RegExp(`${at}its tag is not one`)],
    [
      'times that are no numbers',
      good.replace('Tag=write-ok,1.000', 'Tag=write-ok,1e999'),
      new RegExp(`${at}its times are not seconds`),
    ],
    [
      'an endless interval',
      good.replace(',1.000,0.070', ',999999.000,0.070'),
      new RegExp(`${at}its times are not seconds`),
    ],
    ['a line taken out', good.replace(`${line}\n`, ''), /bad\.hlog: it has 0 values, and its end mark says 2/],
    ['a line twice', good.replace(line, `${line}\n${line}`), /it has 4 values, and its end mark says 2/],
    ['an end mark that lies', field('max', '70000', '80000'), /its end mark does not fit/],
    ['a measurement of no length', field('seconds', '3', '5e-324'), /:7: the field seconds of a comment/],
    [
      'more values than a number can hold, without an end mark',
      manyValues,
      /:8: it counts more values than a number can hold/,
    ],
    ['a sum that lies', field('sum', '75000', '9'), /its end mark does not fit/],
    ['something behind the end', `${good}${line}\n`, /:8: there is something behind the end mark/],
    [
      'a comment that is no JSON',
      good.replace('#[JITPaxos run: {', '#[JITPaxos run: {{'),
      /:1: a comment of the bench is not JSON/,
    ],
    ['a run without a host', field('host', '{', '{"cores":-1},"other":{'), /:1: the field host of a comment/],
    ['a run twice', `${good.split('\n')[0]}\n${good}`, /:2: it names a second run/],
    [
      'too many tags',
      good.replace(
        line,
        Array.from({ length: TAGS_MAX + 1 }, (_, n) => line.replace('write-ok', `tag${n}`)).join('\n'),
      ),
      new RegExp(`:${6 + TAGS_MAX}: a log has at most ${TAGS_MAX} tags`),
    ],
  ];
  for (const [name, text, expected] of cases) {
    t.not(text, good, name);
    writeFileSync(file('bad.hlog'), text);
    t.throws(() => readHlog(file('bad.hlog')), { code: 'argument-invalid', message: expected }, name);
  }
  t.throws(() => readHlog(directory), { code: 'argument-invalid', message: /it is a directory/ });
  t.throws(() => readHlog(file('none.hlog')), { code: 'argument-invalid', message: /ENOENT/ });
  t.end();
});

t.test('whatever bytes of a log are changed, it is refused or read within the same bounds', (t) => {
  const random = seededRandom(someSeed(t));
  const path = file('fuzzed.hlog');
  const log = HlogWriter.open(path, RUN, SETTINGS, START_MS);
  log.add(
    0,
    second(
      1,
      Array.from({ length: 300 }, () => Math.floor(10 ** (3 + 6 * random()))),
    ),
  );
  log.add(0, second(2, [9_000]));
  log.end(END);
  const good = readFileSync(path);
  let refused = 0;
  for (let round = 0; round < 600; round++) {
    const bytes = Buffer.from(good);
    for (let i = Math.floor(random() * 4); i >= 0; i--)
      bytes[Math.floor(random() * bytes.length)] = Math.floor(random() * 256);
    writeFileSync(path, bytes.subarray(0, random() < 0.2 ? Math.floor(random() * bytes.length) : bytes.length));
    try {
      const { latency } = readHlog(path);
      if (!Number.isSafeInteger(latency.count) || latency.count > 302) t.fail(`count ${latency.count}, round ${round}`);
    } catch (error) {
      refused += 1;
      if ((error as { code?: string }).code !== 'argument-invalid') throw error;
    }
  }
  t.ok(refused > 150, `${refused} refused`);
  t.end();
});
