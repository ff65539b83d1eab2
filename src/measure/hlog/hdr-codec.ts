/**
 * Histograms in the encoding of HdrHistogram: V2, compressed, base64. hdr-histogram-js writes and reads it
 * (docs/internals/decisions/hdr-histogram-js.md). It takes long to load, compared with the start of a
 * command, so it is loaded when it is first needed, and by the tools only.
 *
 * The rule: no count is lost or moves to another bucket. A histogram of HdrHistogram with 2 significant digits, a unit of
 * 1 and a highest value of 2^43 − 1 has exactly our buckets, under the same numbers (metrics/histogram.ts). Others
 * cannot be added to ours and are refused.
 *
 * What is read may come from anybody. The library inflates without a bound, loops as often as a length in the bytes
 * says, and drops counts beyond its array. So the bytes are checked before it sees them.
 */
import { createRequire } from 'node:module';
import { deflateSync, inflateSync } from 'node:zlib';
import { highestOf, Histogram, HISTOGRAM_BUCKETS, HISTOGRAM_LIMIT_NS, lowestOf } from '../../metrics/histogram.js';

/** Significant decimal digits of our histograms, in HdrHistogram's terms. */
const SIGNIFICANT_DIGITS = 2;

/** The parts of hdr-histogram-js that are used. */
export interface HdrLibrary {
  readonly build: (request: {
    readonly bitBucketSize: 64;
    readonly autoResize: boolean;
    readonly lowestDiscernibleValue: number;
    readonly highestTrackableValue: number;
    readonly numberOfSignificantValueDigits: number;
  }) => HdrHistogram;
  readonly decodeFromCompressedBase64: (text: string, bitBucketSize: 64) => HdrHistogram;
  readonly HistogramLogWriter: new (log: (text: string) => void) => HdrLogWriter;
  readonly HistogramLogReader: new (log: string, bitBucketSize: 64) => HdrLogReader;
}

export interface HdrHistogram {
  readonly totalCount: number;
  readonly maxValue: number;
  readonly countsArrayLength: number;
  readonly startTimeStampMsec: number;
  readonly endTimeStampMsec: number;
  tag: string;
  recordValueWithCount(value: number, count: number): void;
  getCountAtIndex(index: number): number;
}

export interface HdrLogWriter {
  outputLogFormatVersion(): void;
  outputComment(text: string): void;
  outputLegend(): void;
  outputIntervalHistogram(
    histogram: HdrHistogram,
    startSeconds: number,
    endSeconds: number,
    maxValueUnitRatio: number,
  ): void;
}

export interface HdrLogReader {
  nextIntervalHistogram(): HdrHistogram | null;
}

let library: HdrLibrary | undefined;

/** hdr-histogram-js, loaded by the first call. */
export function hdrLibrary(): HdrLibrary {
  return (library ??= createRequire(import.meta.url)('hdr-histogram-js') as HdrLibrary);
}

// V2 of the encoding: HdrHistogram's AbstractHistogram.java, encodeIntoCompressedByteBuffer.
const COMPRESSED_COOKIE = 0x1c849304;
const COOKIE = 0x1c849303;
/** These bits of a cookie say how long a count may be. */
const COOKIE_MASK = ~0xf0;
const COMPRESSED_HEADER_BYTES = 8;
const AT_PAYLOAD_LENGTH = 4;
const AT_INDEX_OFFSET = 8;
const AT_DIGITS = 12;
const AT_LOWEST = 16;
const AT_RATIO = 32;
const HEADER_BYTES = 40;
/** A number takes at most 9 bytes, of which the last one has 8 bits and the others 7. */
const NUMBER_BYTES = 9;
/** More than ours can have, so that histograms with other buckets are refused for that. */
const INFLATED_BYTES_MAX = 1 << 20;
/** Most characters of an encoded histogram: ours in base64 if it does not compress at all, with room to spare. */
const ENCODED_CHARACTERS_MAX = 2 * (HEADER_BYTES + NUMBER_BYTES * HISTOGRAM_BUCKETS);

/** The histogram as hdr-histogram-js has it. Values of 2^43 ns or more become 2^43 − 1, in the same bucket. */
export function toHdr(histogram: Histogram): HdrHistogram {
  const hdr = hdrLibrary().build({
    bitBucketSize: 64,
    autoResize: false,
    lowestDiscernibleValue: 1,
    highestTrackableValue: HISTOGRAM_LIMIT_NS - 1,
    numberOfSignificantValueDigits: SIGNIFICANT_DIGITS,
  });
  const { buckets, max } = histogram.toData();
  for (let i = 0; i < buckets.length; i += 2) {
    const highest = highestOf(buckets[i]!);
    // The largest value is kept as it is, because logs show it beside the histogram.
    hdr.recordValueWithCount(Math.min(highest, max), buckets[i + 1]!);
  }
  return hdr;
}

/**
 * Sets two fields that hdr-histogram-js 3.0.1 writes wrong in an encoded histogram. The offset of the indexes is 1 for
 * it and 0 for everybody else: readers that honour it find every count one bucket away. The ratio is the integer 1 where
 * the format has a double.
 */
export function mended(encoded: string): string {
  const bytes = Buffer.from(encoded, 'base64');
  const content = inflateSync(bytes.subarray(COMPRESSED_HEADER_BYTES));
  content.writeInt32BE(0, AT_INDEX_OFFSET);
  content.writeDoubleBE(1, AT_RATIO);
  const deflated = deflateSync(content);
  const header = Buffer.from(bytes.subarray(0, COMPRESSED_HEADER_BYTES));
  header.writeInt32BE(deflated.length, AT_PAYLOAD_LENGTH);
  return Buffer.concat([header, deflated]).toString('base64');
}

/**
 * Decodes a histogram with our buckets. The encoding has neither the sum nor the exact extremes: `min` and `max` are the
 * ends of their buckets, and the sum is that of the middles. Throws an Error that says in a few words what is wrong.
 */
export function decoded(encoded: string): Histogram {
  const counted = check(encoded);
  const hdr = hdrLibrary().decodeFromCompressedBase64(encoded, 64);
  if (counted > hdr.countsArrayLength) throw new Error('it counts values above the highest that it names');
  const buckets: number[] = [];
  let [count, sum] = [0, 0];
  for (let index = 0; index < counted; index++) {
    const here = hdr.getCountAtIndex(index);
    if (here === 0) continue;
    buckets.push(index, here);
    count += here;
    sum += (here * (lowestOf(index) + highestOf(index))) / 2;
  }
  if (!Number.isSafeInteger(count)) throw new Error('it counts more values than a number can hold');
  const [min, max] = count === 0 ? [0, 0] : [lowestOf(buckets[0]!), highestOf(buckets.at(-2)!)];
  return Histogram.fromData({ count, sum, min, max, buckets });
}

/** Returns the number of buckets up to the last one that is written down. */
function check(encoded: string): number {
  if (encoded.length > ENCODED_CHARACTERS_MAX)
    throw new Error(`it has more than the ${ENCODED_CHARACTERS_MAX} characters that a histogram can have`);
  if (!/^[A-Za-z0-9+/]+={0,2}$/.test(encoded) || encoded.length % 4 !== 0) throw new Error('it is not base64');
  const bytes = Buffer.from(encoded, 'base64');
  if (bytes.length < COMPRESSED_HEADER_BYTES || (bytes.readInt32BE(0) & COOKIE_MASK) !== COMPRESSED_COOKIE)
    throw new Error('it is not a compressed histogram of version 2');
  const length = bytes.readUInt32BE(AT_PAYLOAD_LENGTH);
  if (length !== bytes.length - COMPRESSED_HEADER_BYTES) throw new Error('its length is not the one that it names');
  const content = inflated(bytes.subarray(COMPRESSED_HEADER_BYTES));
  if (content.length < HEADER_BYTES || (content.readInt32BE(0) & COOKIE_MASK) !== COOKIE)
    throw new Error('it is not a histogram of version 2');
  const digits = content.readInt32BE(AT_DIGITS);
  if (digits !== SIGNIFICANT_DIGITS)
    throw new Error(
      `it has ${digits} significant digit${digits === 1 ? '' : 's'}, and those of benches have ${SIGNIFICANT_DIGITS}: they cannot be added`,
    );
  const unit = content.readBigInt64BE(AT_LOWEST);
  if (unit !== 1n) throw new Error(`its unit is ${unit} ns, and that of benches is 1 ns: they cannot be added`);
  const ratio = content.readDoubleBE(AT_RATIO);
  if (ratio !== 1 && content.readBigInt64BE(AT_RATIO) !== 1n)
    throw new Error(`its values are scaled by ${ratio}, and those of benches are not: they cannot be added`);
  if (content.readInt32BE(AT_PAYLOAD_LENGTH) !== content.length - HEADER_BYTES)
    throw new Error('the length of its counts is not the one that it names');
  return bucketsIn(content.subarray(HEADER_BYTES));
}

function inflated(bytes: Buffer): Buffer {
  try {
    return inflateSync(bytes, { maxOutputLength: INFLATED_BYTES_MAX });
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ERR_BUFFER_TOO_LARGE')
      throw new Error(`it inflates to more than ${INFLATED_BYTES_MAX} bytes`);
    throw new Error('it cannot be inflated');
  }
}

/** Walks the counts: ZigZag in LEB128, where −n stands for n buckets without values. */
function bucketsIn(payload: Buffer): number {
  let buckets = 0;
  for (let at = 0; at < payload.length; ) {
    let value = 0;
    for (let i = 0; ; i++) {
      if (at === payload.length) throw new Error('its counts are cut off');
      const byte = payload[at++]!;
      const isLast = i === NUMBER_BYTES - 1;
      value += (isLast ? byte : byte & 0x7f) * 2 ** (7 * i);
      if (isLast || byte < 0x80) break;
    }
    if (value > Number.MAX_SAFE_INTEGER) throw new Error('one of its counts is larger than a number can be');
    buckets += value % 2 === 1 ? (value + 1) / 2 : 1;
    if (buckets > HISTOGRAM_BUCKETS)
      throw new Error('it has buckets for values of 2^43 ns and more, which those of benches do not have');
  }
  return buckets;
}
