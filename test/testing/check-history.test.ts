// The checker of users' histories: verdicts on histories by hand, and against a search through all orders.
import t from 'tap';
import { JitPaxosError } from '../../src/errors.js';
import { Random } from '../../src/sim/random.js';
import { checkHistory, type HistoryVerdict } from '../../src/testing/check-history.js';
import { HistoryRecorder, type RecordedOperation } from '../../src/testing/history.js';
import { contentKey, machineModel, type Model } from '../../src/testing/model.js';
import { ByArrival, bytesOf, Sum, sumModel } from './machines.js';

type Register = { write: number } | { add: number } | 'read';
type Record_ = RecordedOperation<Register, number>;

/** One number: write it, add to it, read it. Writes answer 0. */
const register: Model<number, Register, number> = {
  initial: () => 0,
  apply: (state, operation) => {
    if (operation === 'read') return { state, result: state };
    if ('write' in operation) return { state: operation.write, result: 0 };
    return { state: state + operation.add, result: state + operation.add };
  },
};

const write = (value: number, invoked: number, completed?: number): Record_ => ({
  operation: { write: value },
  invoked,
  completed,
  result: 0,
});
const add = (value: number, invoked: number, completed?: number, result?: number): Record_ => ({
  operation: { add: value },
  invoked,
  completed,
  result,
});
const read = (result: number, invoked: number, completed: number): Record_ => ({
  operation: 'read',
  isQuery: true,
  invoked,
  completed,
  result,
});

const check = (history: Record_[]): HistoryVerdict<Register, number> => checkHistory(history, { model: register });

t.test('histories by hand', (t) => {
  const right: [string, Record_[]][] = [
    ['nothing', []],
    ['one after the other', [write(1, 0, 1), read(1, 2, 3)]],
    ['a read beside a write sees either state', [write(1, 0, 10), read(0, 1, 2), read(1, 3, 4)]],
    ['two writes at once, in either order', [write(1, 0, 10), write(2, 0, 10), read(1, 11, 12), read(1, 13, 14)]],
    ['an unknown write was seen', [write(1, 0), read(0, 1, 2), read(1, 3, 4)]],
    ['an unknown write was never seen', [write(1, 0), read(0, 1, 2), read(0, 100, 101)]],
    ['an unknown addition happened once', [add(5, 0), add(1, 1, 2, 1), read(6, 3, 4)]],
    ['ends where the next one begins: at once', [write(1, 0, 5), read(0, 5, 6)]],
    ['records in any order', [read(1, 2, 3), write(1, 0, 1)]],
  ];
  for (const [name, history] of right) t.equal(check(history).outcome, 'linearizable', name);
  const wrong: [string, Record_[]][] = [
    ['a stale read', [write(1, 0, 1), read(0, 2, 3)]],
    ['reads go back', [write(1, 0, 10), read(1, 1, 2), read(0, 3, 4)]],
    ['two writes at once, seen in both orders', [write(1, 0, 9), write(2, 0, 9), read(1, 10, 11), read(2, 12, 13)]],
    ['a value that nobody wrote', [write(1, 0, 1), read(3, 0, 3)]],
    ['an unknown write was seen, and then not', [write(1, 0), read(1, 1, 2), read(0, 3, 4)]],
    ['an unknown addition happened twice', [add(5, 0), read(10, 3, 4)]],
    ['a sum that no order gives', [add(1, 0, 10, 1), add(1, 0, 10, 1)]],
  ];
  for (const [name, history] of wrong) t.equal(check(history).outcome, 'violation', name);
  t.end();
});

t.test('a violation says what could not be placed, and behind what', (t) => {
  const verdict = check([write(1, 0, 1), write(2, 2, 3), read(1, 4, 5), write(9, 6)]);
  t.match(verdict, { outcome: 'violation', partition: '', blocked: { operation: 'read', result: 1 } });
  t.same(verdict.outcome === 'violation' && verdict.prefix.map(({ operation }) => operation), [
    { write: 1 },
    { write: 2 },
  ]);
  t.match(verdict.text, /^NOT linearizable: no order explains\n {2}query "read" \[4 → 5\] gave 1\nlongest order/);
  const bytes = checkHistory([{ operation: bytesOf(1), invoked: 0, completed: 1, result: bytesOf(0x6f6b6f6b) }], {
    model: sumModel,
  });
  t.match(bytes.text, /\[00 00 00 01\] \[0 → 1\] gave \[6f 6b 6f 6b\] "okok"/);
  t.end();
});

/** Tries every order of every choice of unknown operations. */
function isLinearizable(history: readonly Record_[]): boolean {
  const search = (left: readonly Record_[], state: number): boolean => {
    if (left.every(({ completed }) => completed === undefined)) return true;
    const firstCompleted = Math.min(...left.map(({ completed }) => completed ?? Infinity));
    return left.some((record) => {
      if (record.invoked > firstCompleted) return false;
      const step = register.apply(state, record.operation);
      if (record.completed !== undefined && step.result !== record.result) return false;
      return search(
        left.filter((other) => other !== record),
        step.state,
      );
    });
  };
  return search(history, 0);
}

t.test('random histories are judged as by a search through all orders', (t) => {
  const random = new Random(1);
  const verdicts = { linearizable: 0, violation: 0 };
  let wrong = 0;
  for (let i = 0; i < 5000; i++) {
    const unknown = random.pick([0.1, 0.3, 0.6]);
    const history = Array.from({ length: random.between(1, 8) }, (): Record_ => {
      const invoked = random.below(12);
      const completed = random.chance(unknown) ? undefined : invoked + random.below(8);
      const value = random.between(1, 2);
      const kind = random.below(3);
      if (kind === 0) return read(random.below(4), invoked, completed ?? invoked);
      return kind === 1 ? write(value, invoked, completed) : add(value, invoked, completed, random.between(1, 4));
    });
    const expected = isLinearizable(history) ? 'linearizable' : 'violation';
    const { outcome } = check(history);
    verdicts[expected]++;
    if (outcome === expected) continue;
    wrong++;
    t.comment(`${outcome}, not ${expected}: ${JSON.stringify(history)}`);
  }
  t.equal(wrong, 0);
  t.ok(verdicts.linearizable > 300 && verdicts.violation > 300, JSON.stringify(verdicts));
  t.end();
});

t.test('what outgrows its bound is undecided, and a violation elsewhere outweighs it', (t) => {
  // Twenty additions of unknown outcome: a sum that none of their million subsets gives.
  const hard = [...Array.from({ length: 20 }, (_, i) => add(2 * 3 ** i, 0)), read(1, 1, 2)];
  const verdict = checkHistory(hard, { model: register, maxConfigurations: 1000 });
  t.match(verdict, {
    outcome: 'undecided',
    operations: 21,
    text: /^undecided: 21 operations .* raise maxConfigurations/,
  });
  const partition = (operation: Register): string => (operation !== 'read' && 'write' in operation ? 'b' : 'a');
  t.equal(
    checkHistory([...hard, { ...write(1, 0, 1), result: 7 }], { model: register, partition, maxConfigurations: 1000 })
      .outcome,
    'violation',
  );
  t.end();
});

t.test('parts are judged one by one', (t) => {
  type Keyed = { key: string; put?: number };
  const model: Model<number, Keyed, number> = {
    initial: () => 0,
    apply: (state, { put }) => ({ state: put ?? state, result: put ?? state }),
  };
  const history = ['a', 'b'].flatMap((key) => [
    { operation: { key, put: 1 }, invoked: 0, completed: 1, result: 1 },
    { operation: { key }, invoked: 2, completed: 3, result: key === 'a' ? 1 : 0 },
  ]);
  const partition = ({ key }: Keyed): string => key;
  t.match(checkHistory(history, { model, partition }), { outcome: 'violation', partition: 'b', text: /part "b"/ });
  t.match(checkHistory(history.slice(0, 2), { model, partition }), { outcome: 'linearizable', partitions: 1 });
  t.end();
});

t.test('a machine is a model of itself', (t) => {
  const history = (sums: number[]): RecordedOperation[] =>
    sums.map((sum, i) => ({ operation: bytesOf(1), invoked: 2 * i, completed: 2 * i + 1, result: bytesOf(sum) }));
  const model = machineModel(() => new Sum());
  t.equal(checkHistory(history([1, 2, 3]), { model }).outcome, 'linearizable');
  t.equal(checkHistory(history([1, 2, 4]), { model }).outcome, 'violation');
  t.equal(
    checkHistory([{ operation: new Uint8Array(0), isQuery: true, invoked: 0, completed: 1, result: Buffer.alloc(4) }], {
      model,
    }).outcome,
    'linearizable',
    'a Buffer is as good',
  );
  const timed = machineModel(
    () =>
      new (class extends ByArrival {
        override apply(...[operation, context, reply]: Parameters<ByArrival['apply']>): void {
          super.apply(operation, context, reply);
          reply.bytes[0] = context.timestampLo;
        }
      })(),
  );
  t.throws(() => checkHistory(history([1]), { model: timed }), { code: 'option-invalid', message: /timestampLo/ });
  t.end();
});

t.test('what is wrong with a history, a model or an option is refused', (t) => {
  const refused = (history: object[], options: object, code: string, message: RegExp): void => {
    try {
      checkHistory(history as Record_[], { model: register, ...options });
      t.fail(`taken: ${JSON.stringify(history)}`);
    } catch (error) {
      t.ok(error instanceof JitPaxosError);
      t.match(error, { code, message });
    }
  };
  refused([], { modl: 1 }, 'option-invalid', /did you mean "model"/);
  refused([], { model: {} }, 'option-invalid', /initial and apply/);
  refused([], { maxConfigurations: 0 }, 'option-invalid', /maxConfigurations is 0/);
  refused([write(1, 0, 1), { operation: 'read' }], {}, 'history-malformed', /line 2: invoked is undefined/);
  refused([read(1, 5, 4)], {}, 'history-malformed', /line 1: completed is 4, a number from 5/);
  const changing: Model<{ sum: number }, Register, number> = {
    initial: () => ({ sum: 0 }),
    apply: (state) => ({ state, result: ++state.sum }),
  };
  refused([add(1, 0, 1, 1)], { model: changing }, 'option-invalid', /the model changed the state/);
  const closed: Model<unknown, Register, number> = {
    initial: () =>
      new (class Closed {
        #hidden = 1;
        get hidden(): number {
          return this.#hidden;
        }
      })(),
    apply: (state) => ({ state, result: 1 }),
  };
  refused([add(1, 0, 1, 1)], { model: closed }, 'option-invalid', /an object of class Closed.*key\(state\)/);
  t.equal(checkHistory([add(1, 0, 1, 1)], { model: { ...closed, key: () => '' } }).outcome, 'linearizable');
  t.throws(
    () =>
      checkHistory([add(1, 0, 1, 1)], {
        model: {
          ...register,
          apply: () => {
            throw new Error('mine');
          },
        },
      }),
    {
      message: 'mine',
    },
  );
  t.end();
});

t.test('keys of states differ when the states do', (t) => {
  const states = [
    0,
    -0,
    '0',
    0n,
    1,
    '',
    null,
    undefined,
    true,
    'true',
    [],
    [[]],
    [0],
    ['0'],
    [0, 1],
    [[0], 1],
    {},
    { a: 1 },
    { a: 2 },
    { b: 1 },
    { a: 1, b: 1 },
    new Map(),
    new Map([[1, 2]]),
    new Map([[2, 1]]),
    new Map([
      [1, 2],
      [2, 1],
    ]),
    new Map([
      [2, 1],
      [1, 2],
    ]),
    new Set(),
    new Set([1, 2]),
    new Uint8Array(0),
    Uint8Array.of(1),
    Uint8Array.of(1, 2),
    'a;b',
    ['a;', 'b'],
    ['a', ';b'],
  ];
  const keys = states.map(contentKey);
  t.equal(new Set(keys).size, states.length, JSON.stringify(keys));
  t.equal(contentKey({ a: 1, b: [2] }), contentKey({ b: [2], a: 1 }));
  t.equal(contentKey(Buffer.from([1])), contentKey(Uint8Array.of(1)));
  t.throws(() => contentKey(() => 1), { code: 'option-invalid' });
  t.end();
});

t.test('a recorder keeps what may have happened, and leaves out what did not', async (t) => {
  const recorder = new HistoryRecorder();
  const answer = (
    result: Uint8Array | JitPaxosError,
  ): { execute: () => Promise<Uint8Array>; query: () => Promise<Uint8Array> } => {
    const call = async (): Promise<Uint8Array> => {
      if (result instanceof JitPaxosError) throw result;
      return result;
    };
    return { execute: call, query: call };
  };
  const operation = bytesOf(1);
  t.same(await recorder.execute(answer(bytesOf(1)), operation), bytesOf(1));
  operation[3] = 9;
  await t.rejects(recorder.execute(answer(new JitPaxosError('busy', 'busy')), bytesOf(2)), { code: 'busy' });
  await t.rejects(recorder.execute(answer(new JitPaxosError('outcome-unknown', 'lost')), bytesOf(3)), {
    code: 'outcome-unknown',
  });
  await recorder.query(answer(bytesOf(4)), new Uint8Array(0));
  const history = recorder.history();
  t.same(
    history.map((record) => [record.operation[3], record.isQuery, record.completed === undefined, record.result?.[3]]),
    [
      [1, false, false, 1],
      [3, false, true, undefined],
      [undefined, true, false, 4],
    ],
  );
  t.equal(checkHistory(history, { model: sumModel }).outcome, 'linearizable', 'the lost one was executed');
  t.end();
});
