// The judge of a chosen log, on logs by hand: what a protocol that is right never shows.
import t from 'tap';
import type { Execution } from '../../src/sim/execution.js';
import { judgeLog } from '../../src/sim/log-judge.js';
import type { SimulatedOperation } from '../../src/sim/recorded-operations.js';
import { Faults } from '../../src/testing/fault.js';
import { MachineReplay, ModelReplay } from '../../src/testing/replay.js';
import { bytesOf, Sum, sumModel } from './machines.js';

/** Adds one, as entry `index` (0: it was not sent), with this result. */
function adds(index: number, invoked: number, completed = Infinity, sum = index): SimulatedOperation {
  return {
    client: 0,
    operation: bytesOf(1),
    isQuery: false,
    invoked,
    completed,
    result: completed === Infinity ? undefined : bytesOf(sum),
    refused: false,
    sent: { sessionHi: 0, sessionLo: 0, lane: 0, request: index },
  };
}

/** Its client was told that it was refused. */
function refused(index: number, invoked: number): SimulatedOperation {
  return { ...adds(index, invoked), refused: true };
}

function reads(sum: number, invoked: number, completed: number): SimulatedOperation {
  return { ...adds(0, invoked, completed, sum), operation: new Uint8Array(0), isQuery: true };
}

function executed(sum: number): Execution {
  return { level: 0, operation: bytesOf(1), result: bytesOf(sum), timestampHi: 0, timestampLo: 0 };
}

/** Judges a log of `length` additions. Returns the fault, what is undecided, or undefined. */
function judge(
  operations: SimulatedOperation[],
  length: number,
  executions: (Execution | null | undefined)[] = Array.from({ length: length + 1 }, (_, i) => executed(i)),
): string | undefined {
  const verdicts = (['model', 'machine'] as const).map((by) => {
    const faults = new Faults();
    const replay =
      by === 'model' ? new ModelReplay(sumModel, faults) : new MachineReplay(new Sum(), 8, 0, (call) => call());
    const log = {
      chosenLength: length,
      indexOf: (...[, , , index]: number[]) => (index! >= 1 && index! <= length ? index : undefined),
    };
    try {
      return judgeLog(operations, log, executions, replay, (kind, detail) =>
        faults.report(kind === 'protocol' ? kind : 'model-disagrees', detail),
      );
    } catch {
      return `${faults.first!.kind}: ${faults.first!.detail}`;
    }
  });
  t.equal(verdicts[0] === undefined, verdicts[1] === undefined, `${verdicts}`);
  return verdicts[0];
}

t.test('logs that are right', (t) => {
  t.equal(judge([], 0), undefined);
  t.equal(judge([adds(1, 0, 1), adds(2, 2, 3), reads(2, 4, 5)], 2), undefined);
  t.equal(judge([adds(2, 0, 9), adds(1, 0, 9)], 2), undefined, 'two at once, in either order');
  t.equal(judge([adds(1, 0), adds(2, 5, 6)], 2), undefined, 'one whose outcome nobody knows');
  t.equal(judge([adds(0, 0), adds(1, 5, 6)], 1), undefined, 'one that never was in the log');
  t.equal(judge([adds(1, 0, 9), reads(0, 1, 2), reads(1, 3, 4)], 1), undefined, 'reads beside an addition');
  t.equal(judge([adds(1, 0, 3)], 2, [undefined, executed(1), null]), undefined, 'an entry that no machine sees');
  t.equal(
    judge([refused(1, 0), adds(2, 0, 3, 1)], 2, [undefined, null, executed(1)]),
    undefined,
    'one that was refused',
  );
  t.equal(judge([refused(0, 0), refused(9, 0)], 0), undefined, 'refused before it was in the log');
  t.equal(judge([adds(1, 0)], 1, [undefined, null]), undefined, 'not executed, and its client does not know');
  t.end();
});

t.test('logs that are wrong', (t) => {
  t.match(judge([adds(2, 0, 1), adds(1, 2, 3)], 2), /^protocol: entry 2 had been answered before .* entry 1 was sent/);
  t.match(judge([adds(2, 0, 1), adds(1, 2)], 2), /^protocol: entry 2/, 'also if the later one was never answered');
  t.match(judge([adds(1, 0, 1, 7)], 1), /^protocol: the client of entry 1 was told \[00 00 00 07\]/);
  t.match(judge([], 1, [undefined, executed(7)]), /^model-disagrees: entry 1, .* answered \[00 00 00 07\], the model/);
  t.match(judge([adds(1, 0, 1), reads(0, 2, 3)], 1), /^model-disagrees: query .* none of the entries 1 to 1/, 'stale');
  t.match(judge([reads(1, 0, 1), adds(1, 2, 3)], 1), /none of the entries 0 to 0/, 'from the future');
  t.match(judge([adds(1, 0, 9), reads(1, 1, 2), reads(0, 3, 4)], 1), /^model-disagrees: query/, 'reads go back');
  t.match(judge([adds(1, 0, 9), adds(2, 0, 9), reads(9, 1, 2)], 2), /none of the entries 0 to 2/);
  t.end();
});

t.test('what a client was told is what became of its operation', (t) => {
  const other = { ...adds(1, 0), operation: bytesOf(7) };
  const bytes = /^protocol: the client of entry 1 sent \[00 00 00 07\]; the replicas executed \[00 00 00 01\]/;
  t.match(judge([{ ...other, completed: 1, result: bytesOf(1) }], 1), bytes, 'other bytes than were sent');
  t.match(judge([other], 1), bytes, 'also if it was never answered');
  t.match(
    judge([adds(1, 0, 1)], 1, [undefined, null]),
    /^protocol: the client of entry 1 was told \[00 00 00 01\]; no machine executed it/,
  );
  t.match(judge([refused(1, 0)], 1), /^protocol: the client of entry 1 was told that it was refused; the replicas/);
  t.match(judge([adds(0, 0, 1)], 0), /^protocol: client 0 was told \[00 00 00 00\] .* for which it sent no request/);
  t.match(judge([{ ...adds(0, 0, 1), sent: undefined }], 0), /for which it sent no request/);
  t.match(judge([adds(2, 0, 1)], 1), /^protocol: client 0 was told \[00 00 00 02\] .* which is not in the log/);
  t.match(judge([adds(1, 0, 1), adds(1, 2, 3)], 1), /^protocol: entry 1 is that of two operations of client 0/);
  t.end();
});

t.test('an entry that no replica executed by itself leaves the rest undecided', (t) => {
  const holes = [undefined, executed(1), undefined, executed(3)];
  t.match(judge([adds(1, 0, 1)], 3, holes), /^entry 2 of 3 was executed by no replica/);
  t.match(judge([adds(1, 0, 1, 5)], 3, holes), /^protocol/, 'what came before is judged');
  t.end();
});
