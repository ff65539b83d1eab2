import t from 'tap';
import { Histogram, HISTOGRAM_LIMIT_NS } from '../../src/metrics/histogram.js';
import { formatHgrm, percentileTicks } from '../../src/metrics/hgrm.js';
import { HeapMeter } from '../../src/metrics/heap-meter.js';
import { seededRandom } from '../../src/measure/load/random.js';

t.test('a quantile is above the exact one by less than 1 %, whatever the values', (t) => {
  const seed = (Date.now() & 0xffffff) + 1;
  t.comment(`seed ${seed}`);
  const random = seededRandom(seed);
  for (const scale of [200, 5_000, 80_000, 2 ** 31, 2 ** 33, 2 ** 41]) {
    const histogram = new Histogram();
    const values = Array.from({ length: 2_001 }, () => Math.floor(random() ** 3 * scale));
    for (const value of values) histogram.record(value);
    values.sort((a, b) => a - b);
    for (const fraction of [0, 0.001, 0.25, 0.5, 0.9, 0.99, 0.999, 1]) {
      const exact = values[Math.max(0, Math.ceil(fraction * values.length - 1e-9) - 1)]!;
      const got = histogram.quantile(fraction);
      t.ok(
        got >= exact && got <= exact * 1.01,
        `seed ${seed}, scale ${scale}, quantile ${fraction}: ${got} for ${exact}`,
      );
    }
    t.equal(histogram.max, values[values.length - 1]);
    t.equal(histogram.min, values[0]);
    const mean = values.reduce((a, b) => a + b, 0) / values.length;
    t.ok(Math.abs(histogram.mean - mean) <= mean * 1e-9);
  }
  t.end();
});

t.test('bucket borders: powers of two and their neighbours keep their order and their precision', (t) => {
  for (let power = 0; power < 42; power++) {
    for (const value of [2 ** power - 1, 2 ** power, 2 ** power + 1]) {
      const histogram = new Histogram();
      histogram.record(value);
      histogram.record(2 ** 42);
      t.ok(histogram.quantile(0.5) >= value && histogram.quantile(0.5) <= value * 1.008, `${value}`);
    }
  }
  t.end();
});

t.test('values outside the range are counted, not lost', (t) => {
  const histogram = new Histogram();
  histogram.record(-5);
  histogram.record(HISTOGRAM_LIMIT_NS * 4);
  t.equal(histogram.count, 2);
  t.equal(histogram.min, 0);
  t.equal(histogram.max, HISTOGRAM_LIMIT_NS * 4);
  t.end();
});

t.test('merged histograms, also through JSON, are the histogram of all values', (t) => {
  const [a, b, all] = [new Histogram(), new Histogram(), new Histogram()];
  for (let i = 1; i <= 1000; i++) {
    (i % 3 === 0 ? a : b).record(i * 997);
    all.record(i * 997);
  }
  const merged = new Histogram();
  merged.merge(Histogram.fromData(JSON.parse(JSON.stringify(a.toData()))));
  merged.merge(b);
  t.same(merged.toData(), all.toData());
  t.same(merged.summary(), all.summary());
  merged.merge(new Histogram());
  t.same(merged.summary(), all.summary(), 'an empty one changes nothing');
  t.throws(() => Histogram.fromData({ count: 1, sum: 1, min: 1, max: 1, buckets: [1e9, 1] }), RangeError);
  t.end();
});

t.test('an empty histogram reports nothing, which is no 0', (t) => {
  t.same(new Histogram().summary(), { min: null, p50: null, p90: null, p99: null, p999: null, max: null, mean: null });
  t.end();
});

t.test('the percentile file rises, ends at 100 % and counts all values', (t) => {
  const histogram = new Histogram();
  for (let i = 1; i <= 10_000; i++) histogram.record(i * 1000);
  const rows = formatHgrm(histogram)
    .split('\n')
    .filter((line) => /^\s*\d/.test(line))
    .map((line) => line.trim().split(/\s+/).map(Number));
  for (let i = 1; i < rows.length; i++) t.ok(rows[i]![0]! >= rows[i - 1]![0]! && rows[i]![2]! >= rows[i - 1]![2]!);
  t.same(rows.at(-1), [10_000, 1, 10_000]);
  t.same(percentileTicks(new Histogram()), [100], 'an empty one has the last row alone');
  t.ok(formatHgrm(histogram).includes('#[Max     =    10000.000, Total count    =        10000]'));
  t.end();
});

t.test('the percentile file has the columns of HdrHistogram, character by character', (t) => {
  const histogram = new Histogram();
  for (const us of [100, 150, 200, 250]) histogram.record(us * 1000);
  const lines = formatHgrm(histogram).split('\n');
  t.equal(lines[0], '       Value     Percentile TotalCount 1/(1-Percentile)');
  t.equal(lines[1], '');
  const last = lines.findIndex((line) => line.startsWith('#')) - 1;
  for (const line of lines.slice(2, last)) t.match(line, /^[ \d]{8}\.\d{3} 0\.\d{12} [ \d]{10} [ \d]{11}\.\d{2}$/);
  t.equal(lines[2], '     100.351 0.000000000000          1           1.00');
  t.equal(lines[last], '     250.000 1.000000000000          4');
  t.match(lines[last + 1], /^#\[Mean {4}= [ \d]{8}\.\d{3}, StdDeviation {3}= [ \d]{8}\.\d{3}\]$/);
  t.equal(lines[last + 2], '#[Max     =      250.000, Total count    =            4]');
  t.equal(lines[last + 3], '#[Buckets =           36, SubBuckets     =          256]');
  t.same(lines.slice(last + 4), ['']);
  // What HdrHistogram's plotter takes: lines of four fields that do not begin with #, the first the latency, the last
  // the x axis.
  const plotted = lines
    .filter((line) => !line.startsWith('#'))
    .map((line) => line.trim().split(/ +/))
    .filter((fields) => fields.length === 4)
    .map((fields) => [Number(fields[3]), Number(fields[0])])
    .filter(([x, y]) => !Number.isNaN(x) && !Number.isNaN(y));
  t.equal(plotted.length, last - 2);
  t.equal(plotted.at(-1)![1], 250, 'the maximum is drawn');
  // The last row before that of 100 %, of n values from 1 to n ms, as HdrHistogram writes it.
  for (const [count, row] of [
    [1, '1000.000 0.000000000000 1 1.00'],
    [5, '5000.000 0.825000000000 5 5.71'],
    [500, '500000.000 0.998046875000 500 512.00'],
  ] as const) {
    const values = new Histogram();
    for (let value = 1; value <= count; value++) values.record(value * 1e6);
    const rows = formatHgrm(values)
      .split('\n')
      .filter((line) => /^ *\d/.test(line));
    t.equal(rows.at(-2)!.trim().replace(/ +/g, ' '), row, `${count} values`);
  }
  t.ok(plotted.every(([x], index) => index === 0 || x! > plotted[index - 1]![0]!));
  t.end();
});

t.test('the heap meter sees what is allocated, collections included', (t) => {
  const meter = new HeapMeter();
  t.equal(meter.stop(), undefined);
  meter.start();
  let keep: number[] = [];
  for (let i = 0; i < 500_000; i++) keep = [i, i + 1, i + 2, i + 3];
  const use = meter.stop()!;
  t.ok(keep.length === 4);
  t.ok(use.collections > 0, `${use.collections} collections`);
  const perArray = use.allocatedBytes / 500_000;
  t.ok(perArray >= 40 && perArray < 200, `${perArray} bytes an array of four`);
  t.end();
});
