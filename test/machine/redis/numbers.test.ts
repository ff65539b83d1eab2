/** Numbers in text, long doubles, and patterns. What Redis 7.0 answers is the expectation. */
import t from 'tap';
import { doubleText, readDouble, readScoreBound } from '../../../src/machine/redis/doubles.js';
import { matchesGlob } from '../../../src/machine/redis/glob.js';
import { addLongDoubles, longDoubleText, readLongDouble } from '../../../src/machine/redis/long-double.js';
import { integerBytes, readInt64, readInteger, writeInteger } from '../../../src/machine/redis/numbers.js';
import { CommandRandom } from '../../../src/machine/redis/random.js';
import { bytesOf, textOf } from './redis-machine.js';

t.test('an integer has one spelling', (t) => {
  const read = (text: string): number => readInteger(bytesOf(`x${text}y`), 1, text.length);
  for (const value of [0, 1, -1, 9, 10, -10, 123456789, 999999999999999, -999999999999999, 9007199254740991]) {
    t.equal(read(String(value)), value);
    const target = new Uint8Array(24);
    const length = writeInteger(target, 1, value);
    t.equal(textOf(target.subarray(1, 1 + length)), String(value));
    t.equal(integerBytes(value), length);
  }
  for (const text of ['', '-', '-0', '00', '01', '+1', ' 1', '1 ', '1.0', '1e3', 'x', '9'.repeat(19), '9'.repeat(21)])
    t.ok(Number.isNaN(read(text)), text);
  const exactly = (text: string): bigint | undefined => readInt64(bytesOf(text), 0, text.length);
  t.equal(exactly('9223372036854775807'), 2n ** 63n - 1n);
  t.equal(exactly('-9223372036854775808'), -(2n ** 63n));
  t.equal(exactly('9223372036854775808'), undefined);
  t.equal(exactly('-9223372036854775809'), undefined);
  t.equal(read('9223372036854775807'), 2 ** 63);
  t.end();
});

t.test('doubles are written as %.17g does', (t) => {
  for (const [value, text] of [
    [0, '0'],
    [-0, '-0'],
    [1, '1'],
    [-3, '-3'],
    [0.1, '0.10000000000000001'],
    [3.5, '3.5'],
    [-2.25, '-2.25'],
    [1e15, '1000000000000000'],
    [1e16, '10000000000000000'],
    [1e17, '1e+17'],
    [-1.5e300, '-1.5000000000000001e+300'],
    [123456789012345680, '1.2345678901234568e+17'],
    [0.0001, '0.0001'],
    [0.00001, '1.0000000000000001e-05'],
    [5e-324, '4.9406564584124654e-324'],
    [2 ** 60 + 2 ** 20, '1.1529215046078956e+18'],
    // In the middle of two texts of 17 digits: to the even one.
    [1 + 2 ** -17, '1.0000076293945312'],
    [-1 - 3 * 2 ** -17, '-1.0000228881835938'],
    [Infinity, 'inf'],
    [-Infinity, '-inf'],
  ] as const)
    t.equal(doubleText(value), text);
  t.end();
});

t.test('doubles are read as strtod() does', (t) => {
  const read = (text: string): number | undefined => readDouble(bytesOf(`1${text}1`), 1, text.length);
  for (const [text, value] of [
    ['1', 1],
    ['-1.5', -1.5],
    ['+2', 2],
    ['.5', 0.5],
    ['5.', 5],
    ['1e3', 1000],
    ['1E-3', 0.001],
    ['0x10', 16],
    ['-0X1.8p1', -3],
    ['0x1p-1074', 5e-324],
    ['0x1.00000000000001p-1075', 5e-324],
    ['0x0.8000000000000000001p-1074', 5e-324],
    ['0x1.7ffffffffffffffffp-1074', 5e-324],
    ['0x1.8p-1074', 1e-323],
    ['0x1.ffffffffffffffffp-1023', 2 ** -1022],
    [`0x1${'0'.repeat(300)}p-1200`, 1],
    ['inf', Infinity],
    ['-INFINITY', -Infinity],
    ['1e-320', 1e-320],
    ['0e-999', 0],
    ['0x1.00000000000008p0', 1],
    ['0x1.00000000000008000000000000000001p0', 1 + 2 ** -52],
  ] as const)
    t.equal(read(text), value, text);
  for (const text of [
    '',
    ' 1',
    '1 ',
    'x',
    '1x',
    'nan',
    '0x',
    '1e400',
    '-1e400',
    '1e-400',
    '0x1p2000',
    '0x1p-2000',
    '.',
    'e5',
    '1\0',
  ])
    t.equal(read(text), undefined, text);
  const bound = (text: string): number | undefined => readScoreBound(bytesOf(`(${text}1`), 1, text.length);
  for (const [text, value] of [
    ['', 0],
    [' 2', 2],
    ['2\0x', 2],
    ['1e400', Infinity],
    ['1e-400', 0],
    ['nan', undefined],
    ['2 ', undefined],
    [' ', undefined],
  ] as const)
    t.equal(bound(text), value, text);
  t.end();
});

t.test('long doubles are added and written as Redis does', (t) => {
  const read = (text: string) => readLongDouble(bytesOf(text), 0, text.length);
  const add = (a: string, b: string): string | undefined => {
    const sum = addLongDoubles(read(a)!, read(b)!);
    return sum === undefined || sum.isInfinite ? undefined : longDoubleText(sum);
  };
  for (const [a, b, sum] of [
    ['0', '0.1', '0.1'],
    ['0.1', '0.2', '0.3'],
    ['10.5', '0.1', '10.6'],
    ['3', '1.1', '4.1'],
    ['5.0e3', '2.0e2', '5200'],
    ['1', '-1', '0'],
    ['-0', '0', '0'],
    ['0', '1e-10', '0.0000000001'],
    ['0', '1e-17', '0.00000000000000001'],
    ['0', '-1e-20', '0'],
    ['0', '0x10', '16'],
    ['0', '0x1.8p1', '3'],
    ['.5', '5.', '5.5'],
    ['1e17', '1', '100000000000000001'],
    ['17179869184', '1.5', '17179869185.5'],
    ['18446744073709551615', '2', '18446744073709551616'],
    ['18446744073709551616', '3', '18446744073709551620'],
    ['1e4932', '1e4932', undefined],
    ['inf', '1', undefined],
    ['inf', '-inf', undefined],
  ] as const)
    t.equal(add(a, b), sum, `${a} + ${b}`);
  for (const text of [
    '',
    ' 1',
    '1 ',
    'abc',
    '1e',
    '.',
    '-',
    '+',
    'nan',
    '0x',
    '1e5000',
    '-1e5000',
    '1e-5000',
    '1\0',
    'infinit',
  ])
    t.equal(read(text), undefined, text);
  t.equal(read('1e99999999999999999999'), undefined);
  t.equal(read('0e99999999999999999999')?.mantissa, 0n);
  t.equal(read(`${'9'.repeat(5119)}`), undefined, 'too large');
  t.equal(read(`0.${'9'.repeat(5120)}`), undefined, 'too long');
  t.equal(longDoubleText(read(`0.${'9'.repeat(5000)}`)!), '1');
  t.end();
});

t.test('patterns match as in Redis', (t) => {
  const matches = (pattern: string, text: string): boolean =>
    matchesGlob(bytesOf(`<${pattern}>`), 1, pattern.length, bytesOf(`<${text}>`), 1, text.length);
  for (const [pattern, text] of [
    ['*', ''],
    ['*', 'abc'],
    ['a*', 'a'],
    ['a*c', 'abcbc'],
    ['**b*', 'ab'],
    ['h?llo', 'hello'],
    ['h[ae]llo', 'hallo'],
    ['h[^e]llo', 'hallo'],
    ['[a-c]', 'b'],
    ['[c-a]', 'b'],
    ['[\\]]', ']'],
    ['\\*', '*'],
    ['\\', '\\'],
    ['[a', 'a'],
    ['', ''],
    ['a*b*c', 'a-b-b-c'],
  ] as const)
    t.ok(matches(pattern, text), `${pattern} matches ${text}`);
  for (const [pattern, text] of [
    ['', 'a'],
    ['a', ''],
    ['?', ''],
    ['h?llo', 'hllo'],
    ['h[^e]llo', 'hello'],
    ['[a-c]', 'd'],
    ['\\*', 'a'],
    ['[', 'a'],
    ['a*d', 'abc'],
    ['[]a]', 'a'],
    ['A', 'a'],
  ] as const)
    t.notOk(matches(pattern, text), `${pattern} does not match ${text}`);
  t.notOk(matches(`${'a*'.repeat(40)}b`, 'a'.repeat(1024)), 'many stars take no time');
  t.end();
});

t.test('random numbers follow from their seed, and are spread', (t) => {
  const numbers = (a: number, b: number, c: number): number[] => {
    const random = new CommandRandom();
    random.seed(a, b, c);
    return Array.from({ length: 1000 }, () => random.u32());
  };
  t.same(numbers(1, 2, 3), numbers(1, 2, 3));
  t.equal(new Set([...numbers(0, 0, 0), ...numbers(0, 0, 1), ...numbers(0, 1, 0), ...numbers(1, 0, 0)]).size, 4000);
  const counts = new Array<number>(10).fill(0);
  const random = new CommandRandom();
  random.seed(5, 6, 7);
  for (let i = 0; i < 10_000; i++) counts[random.below(10)]!++;
  t.ok(Math.min(...counts) > 850 && Math.max(...counts) < 1150, counts.join());
  t.end();
});
