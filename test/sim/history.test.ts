import t from 'tap';
import {
  HISTORY_LINE_CHARS_MAX,
  HistoryError,
  HistoryReader,
  collectOperations,
  formatHistory,
  formatHistoryEvent,
  parseHistory,
  type HistoryEvent,
} from '../../src/sim/history.js';

const EVENTS: HistoryEvent[] = [
  { process: 1, type: 'invoke', f: 'write', key: 'k', value: 'a', time: 10 },
  { process: 2, type: 'invoke', f: 'read', key: 'k', value: null, time: 11 },
  { process: 1, type: 'ok', f: 'write', key: 'k', value: 'a', time: 20 },
  { process: 2, type: 'ok', f: 'read', key: 'k', value: 'a', time: 21 },
  { process: 1, type: 'invoke', f: 'cas', key: 'k', value: ['a', null], time: 30 },
  { process: 1, type: 'ok', f: 'cas', key: 'k', value: ['a', null], result: true, time: 31 },
  { process: 1, type: 'invoke', f: 'increment', key: 'n', value: 5, time: 32 },
  { process: 1, type: 'ok', f: 'increment', key: 'n', value: 5, result: 5, time: 33 },
  { process: 1, type: 'invoke', f: 'write', key: 'k', value: 'b', time: 34 },
  { process: 1, type: 'fail', f: 'write', key: 'k', value: 'b', time: 35 },
  { process: 1, type: 'invoke', f: 'write', key: 'k', value: null, time: 36 },
  { process: 1, type: 'info', f: 'write', key: 'k', value: null, time: 37 },
  { process: 2, type: 'invoke', f: 'read', key: 'k', value: null, time: 38 },
];

t.test('what is written is read back', (t) => {
  const text = formatHistory(EVENTS);
  t.equal(text.split('\n').length, EVENTS.length + 1);
  t.equal(
    text.split('\n')[5],
    '{"process":1,"type":"ok","f":"cas","key":"k","value":["a",null],"result":true,"time":31}',
  );
  t.same(parseHistory(text), EVENTS);
  t.same(parseHistory(''), []);
  t.same(parseHistory('\n \n'), [], 'blank lines are no events');
  t.end();
});

t.test('a read may leave its value out until it is answered', (t) => {
  t.same(parseHistory('{"process":0,"type":"invoke","f":"read","key":"k","time":0}'), [
    { process: 0, type: 'invoke', f: 'read', key: 'k', value: null, time: 0 },
  ]);
  t.end();
});

t.test('invocations are paired with their completions', (t) => {
  const operations = collectOperations(EVENTS);
  t.same(
    operations.map(({ f, outcome, invoked, completed }) => [f, outcome, invoked, completed]),
    [
      ['write', 'ok', 0, 2],
      ['read', 'ok', 1, 3],
      ['cas', 'ok', 4, 5],
      ['increment', 'ok', 6, 7],
      ['write', 'fail', 8, 9],
      ['write', 'info', 10, Infinity],
      ['read', 'info', 12, Infinity],
    ],
  );
  t.equal(operations[1]!.value, 'a', 'a read takes the value of its completion');
  t.equal(operations[2]!.result, true);
  t.end();
});

t.test('a malformed line is refused with its number and what was expected', (t) => {
  const invoke = '{"process":1,"type":"invoke","f":"write","key":"k","value":"a","time":10}';
  const cases: [string[], number, RegExp][] = [
    [['{'], 1, /JSON/],
    [['[]'], 1, /object expected/],
    [['null'], 1, /object expected/],
    [[`"${'x'.repeat(HISTORY_LINE_CHARS_MAX)}"`], 1, /at most/],
    [[invoke, '', '{"process":1}'], 3, /type is missing/],
    [[invoke.replace('1,', '-1,')], 1, /process is -1, a whole number/],
    [[invoke.replace('invoke', 'begin')], 1, /type is "begin", invoke, ok, fail, info expected/],
    [[invoke.replace('"write"', '"append"')], 1, /f is "append"/],
    [[invoke.replace('"k"', '7')], 1, /key is 7, a string expected/],
    [[invoke.replace('"a"', '{}')], 1, /value is \{\}/],
    [[invoke.replace('"a"', '0.5')], 1, /value is 0.5/],
    [[invoke.replace('10', '-1')], 1, /time is -1/],
    [[invoke.replace('"time"', '"tiem"')], 1, /unknown field "tiem"/],
    [[invoke.replace('"write"', '"cas"')], 1, /pair \[expected, new\]/],
    [[invoke.replace('"write"', '"increment"')], 1, /safe integer/],
    [[invoke.replace('"write"', '"read"')], 1, /null before the read is answered/],
    [[invoke.replace('"time"', '"result":true,"time"')], 1, /result is true, none expected/],
    [[invoke, invoke], 2, /has an operation open/],
    [[invoke.replace('invoke', 'ok')], 1, /no operation open/],
    [[invoke, invoke.replace('invoke', 'ok').replace('"k"', '"other"')], 2, /does not complete/],
    [[invoke, invoke.replace('invoke', 'ok').replace('"a"', '"b"')], 2, /not the one invoked/],
    [[invoke, invoke.replace('invoke', 'ok').replace('10', '9')], 2, /real-time order/],
    [[invoke, invoke.replace('invoke', 'info'), invoke], 3, /new process number/],
    [
      [
        invoke.replace('"write"', '"cas"').replace('"a"', '["a","b"]'),
        invoke.replace('invoke', 'ok').replace('"write"', '"cas"').replace('"a"', '["a","b"]'),
      ],
      2,
      /result is missing, true or false/,
    ],
  ];
  for (const [lines, line, message] of cases) {
    try {
      parseHistory(lines.join('\n'));
      t.fail(`accepted: ${lines.join(' ').slice(0, 200)}`);
    } catch (error) {
      t.ok(error instanceof HistoryError, String(error));
      t.match(error, { code: 'history-malformed', category: 'caller', retryable: false, line, message });
    }
  }
  t.end();
});

t.test('a reader can go line by line', (t) => {
  const reader = new HistoryReader();
  const events = EVENTS.map((event) => reader.read(formatHistoryEvent(event)));
  t.same(events, EVENTS);
  t.throws(() => reader.read('nonsense'), { code: 'history-malformed', line: EVENTS.length + 1 });
  t.end();
});
