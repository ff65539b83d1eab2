import t from 'tap';
import { COUNTER_BAD_OPERATION, CounterMachine } from '../../src/machine/counter.js';
import { EchoMachine } from '../../src/machine/echo.js';
import type { StateMachine } from '../../src/machine/state-machine.js';

const CONTEXT = { timestampHi: 0, timestampLo: 0, index: 1 };

function run(
  machine: StateMachine,
  operation: Uint8Array,
  capacity = 1000,
  method: 'apply' | 'query' = 'apply',
): Uint8Array {
  const padded = new Uint8Array([9, 9, ...operation, 9]);
  const own = new Uint8Array(capacity + 4).fill(0xee);
  const reply = { bytes: own, offset: 2, capacity, length: -1 };
  machine[method]({ bytes: padded, offset: 2, length: operation.length }, CONTEXT, reply);
  if (own.subarray(2 + capacity).some((byte) => byte !== 0xee)) throw new Error('wrote outside of the reply');
  return reply.bytes.slice(reply.offset, reply.offset + reply.length);
}

const word = (value: bigint): Uint8Array => {
  const bytes = Buffer.alloc(8);
  bytes.writeBigInt64BE(value);
  return new Uint8Array(bytes);
};

t.test('echo answers with the operation', (t) => {
  const machine = new EchoMachine();
  for (const length of [0, 1, 64, 255, 256, 900]) {
    const operation = Uint8Array.from({ length }, (_, i) => i * 7);
    t.same(run(machine, operation), operation);
    t.same(run(machine, operation, 1000, 'query'), operation);
  }
  t.same(run(machine, new Uint8Array([1, 2, 3]), 2), new Uint8Array([1, 2]), 'cut at the capacity');
  t.equal(machine.count, 7, 'queries do not count');
  t.end();
});

t.test('echo: different histories have different snapshots, equal ones equal', (t) => {
  const after = (...operations: number[][]): string => {
    const machine = new EchoMachine();
    for (const operation of operations) run(machine, new Uint8Array(operation));
    return Buffer.from(machine.snapshot()).toString('hex');
  };
  const histories = [
    [],
    [[]],
    [[], []],
    [[1]],
    [[1], [2]],
    [[2], [1]],
    [[1, 2]],
    [[1], [2], [2]],
    [[0]],
    [[0, 0]],
    [[1, 2, 3, 4, 5]],
    [[1, 2, 3, 4, 6]],
  ];
  t.equal(new Set(histories.map((history) => after(...history))).size, histories.length);
  t.equal(after([1], [2]), after([1], [2]));

  const machine = new EchoMachine();
  run(machine, new Uint8Array([1]));
  const snapshot = machine.snapshot();
  run(machine, new Uint8Array([2]));
  const there = machine.snapshot();
  machine.restore(snapshot);
  t.equal(machine.count, 1);
  run(machine, new Uint8Array([2]));
  t.same(machine.snapshot(), there, 'goes on from a restored snapshot');
  t.throws(() => machine.restore(new Uint8Array(15)), {
    code: 'snapshot-invalid',
    message: /expected 16 bytes, got 15/,
  });
  t.same(machine.snapshot(), there);
  t.end();
});

t.test('echo counts beyond 32 bits', (t) => {
  const machine = new EchoMachine();
  machine.restore(new Uint8Array([0, 0, 0, 1, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0, 0]));
  t.equal(machine.count, 2 ** 33 - 1);
  run(machine, new Uint8Array(0));
  t.equal(machine.count, 2 ** 33);
  t.end();
});

t.test('counter', (t) => {
  const machine = new CounterMachine();
  t.same(run(machine, word(5n)), word(5n));
  t.same(run(machine, word(-6n)), word(-1n));
  t.same(run(machine, word(2n ** 40n)), word(2n ** 40n - 1n));
  t.same(run(machine, new Uint8Array(0), 8, 'query'), word(2n ** 40n - 1n));
  t.same(run(machine, word(2n ** 63n - 2n ** 40n)), word(2n ** 63n - 1n));
  t.same(run(machine, word(1n)), word(-(2n ** 63n)), 'wraps');
  t.equal(machine.value, -(2n ** 63n));

  const bad = new Uint8Array([COUNTER_BAD_OPERATION]);
  const before = machine.snapshot();
  for (const length of [0, 1, 7, 9]) t.same(run(machine, new Uint8Array(length).fill(1)), bad);
  t.same(run(machine, word(1n), 1000, 'query'), bad);
  t.same(machine.snapshot(), before, 'refused ones change nothing');
  t.same(run(machine, word(1n), 7), bad);
  t.equal(run(machine, word(1n), 0).length, 0);
  t.equal(machine.value, -(2n ** 63n) + 2n, 'counted whatever the capacity');

  const other = new CounterMachine();
  other.restore(machine.snapshot());
  t.equal(other.value, machine.value);
  t.throws(() => other.restore(new Uint8Array(7)), { code: 'snapshot-invalid', category: 'environment' });
  t.equal(other.value, machine.value);
  t.end();
});
