/**
 * The checker against histories judged by hand, against a brute-force judge on thousands of tiny histories, and on long
 * histories that are linearizable by construction. Replay a random failure with SEED=n.
 */
import t from 'tap';
import {
  collectOperations,
  type HistoryEvent,
  type HistoryOperation,
  type HistoryValue,
} from '../../src/sim/history.js';
import { checkHistory, explain, type Verdict } from '../../src/sim/linearizability.js';
import { randomFrom } from '../random.js';

const SEED = Number(process.env['SEED'] ?? Date.now() % 1e9);
console.log(`# SEED=${SEED} replays the random histories`);

/**
 * Histories in short: each word is an event of process A, B, … on key k. `A:w1` invokes a write of "1", `A:r`, `A:c12`
 * (cas from "1" to "2"), `A:i5` (increment); `A.` completes it (`A.1` a read that saw "1", `A.+`/`A.-` a cas, `A.7` an
 * increment), `A!` fails, `A?` is unknown. `_` is null.
 */
function history(text: string, key = 'k'): HistoryEvent[] {
  const open = new Map<string, HistoryEvent>();
  return text
    .trim()
    .split(/\s+/)
    .map((word, time) => {
      const name = word[0]!;
      const process = name.charCodeAt(0) - 65;
      const rest = word.slice(2);
      const value = (char: string): HistoryValue => (char === '_' ? null : char);
      if (word[1] === ':') {
        const event: HistoryEvent =
          rest[0] === 'r'
            ? { process, type: 'invoke', f: 'read', key, value: null, time }
            : rest[0] === 'w'
              ? { process, type: 'invoke', f: 'write', key, value: value(rest[1]!), time }
              : rest[0] === 'c'
                ? { process, type: 'invoke', f: 'cas', key, value: [value(rest[1]!), value(rest[2]!)], time }
                : { process, type: 'invoke', f: 'increment', key, value: Number(rest.slice(1)), time };
        open.set(name, event);
        return event;
      }
      const type = word[1] === '.' ? 'ok' : word[1] === '!' ? 'fail' : 'info';
      const event: HistoryEvent = { ...(open.get(name) as HistoryEvent), type, time };
      if (type === 'ok' && event.f === 'read') event.value = /^\d\d+$/.test(rest) ? Number(rest) : value(rest);
      if (type === 'ok' && event.f === 'cas') event.result = rest === '+';
      if (type === 'ok' && event.f === 'increment') event.result = Number(rest);
      return event;
    });
}

const GOOD: [string, string][] = [
  ['nothing at all', 'A:r'],
  ['read of an absent key', 'A:r A._'],
  ['write, then read', 'A:w1 A. B:r B.1'],
  ['read sees a concurrent write', 'A:w1 B:r B.1 A.'],
  ['read does not see a concurrent write', 'A:w1 B:r B._ A.'],
  ['two reads see a concurrent write one after the other', 'A:w1 B:r B._ C:r C.1 A.'],
  ['concurrent writes, either order', 'A:w1 B:w2 A. B. C:r C.1 C:r C.1'],
  ['concurrent writes, other order', 'A:w1 B:w2 A. B. C:r C.2 C:r C.2'],
  ['write observed, then overwritten by the concurrent one', 'A:w1 B:w2 C:r C.1 C:r C.2 A. B.'],
  ['delete is a write of null', 'A:w1 A. A:w_ A. B:r B._'],
  ['cas on absent', 'A:c_1 A.+ B:r B.1'],
  ['cas chain', 'A:w1 A. A:c12 A.+ B:c23 B.+ A:r A.3'],
  ['cas refused', 'A:w1 A. B:c23 B.- B:r B.1'],
  ['of two concurrent cas one wins', 'A:w1 A. A:c12 B:c13 A.+ B.- C:r C.2'],
  ['two concurrent cas in a chain', 'A:w1 A. A:c23 B:c12 A.+ B.+ C:r C.3'],
  ['refused cas before a concurrent write', 'A:w1 B:c12 B.- A. C:r C.1'],
  ['unknown write that never took effect', 'A:w1 A. B:w2 B? C:r C.1 C:r C.1'],
  ['unknown write that took effect later', 'A:w1 A. B:w2 B? C:r C.1 C:r C.2'],
  ['unknown write much later, after others', 'A:w1 A? B:w2 B. C:r C.2 B:w3 B. C:r C.3 C:r C.1'],
  ['write left open at the end counts as unknown', 'A:w1 B:r B._ B:r B.1'],
  ['unknown cas that took effect', 'A:w1 A. B:c12 B? C:r C.1 C:r C.2'],
  ['unknown cas that did not', 'A:w1 A. B:c12 B? C:w3 C. C:r C.3'],
  ['chain of unknown cas', 'A:w1 A. B:c12 B? C:c23 C? D:r D.3'],
  ['unknown write lets a later cas be refused', 'A:w1 A. B:w2 B? C:c13 C.- C:r C.2'],
  ['failed write is not there', 'A:w1 A. B:w2 B! C:r C.1'],
  ['read open across everything', 'A:r B:w1 B. B:w2 B. B:w3 B. A.2'],
  ['same value written twice', 'A:w1 A. B:w2 B. A:w1 A. C:r C.1'],
  ['two equal unknown writes both needed', 'A:w1 A? B:w1 B? C:r C.1 C:w2 C. C:r C.2 C:r C.1'],
  ['increments', 'A:i5 A.5 B:i5 C:i1 B.11 C.6 D:i-11 D.0'],
  ['unknown increment counted', 'A:i5 A? B:i2 B.7 C:r C._'.replace(' C:r C._', '')],
  ['unknown increment not counted yet', 'A:i5 A? B:i2 B.2 B:i1 B.8'],
  ['increment then read as a number', 'A:i12 A.12 B:r B.12'],
  ['unknown read says nothing', 'A:r A? B:w1 B. C:r C.1'],
];

const BAD: [string, string][] = [
  ['stale read', 'A:w1 A. A:w2 A. B:r B.1'],
  ['lost write', 'A:w1 A. B:r B._'],
  ['read of a value never written', 'A:w1 A. B:r B.7'],
  ['read of a value from the future', 'B:r B.1 A:w1 A.'],
  ['read back and forth', 'A:w1 B:r B.1 B:r B._ A.'],
  ['new value, then old, by different readers', 'A:w1 A. A:w2 B:r B.2 C:r C.1 A.'],
  ['concurrent reads see two writes in different orders', 'A:w1 B:w2 C:r C.1 D:r D.2 C:r C.2 D:r D.1 A. B.'],
  ['double apply of a write', 'A:w1 A. B:w2 B. C:r C.1 C:r C.2'],
  ['double apply, after being overwritten', 'A:w1 A. B:r B.1 A:w2 A. B:r B.2 B:r B.1'],
  ['both concurrent cas win', 'A:w1 A. A:c12 B:c13 A.+ B.+'],
  ['both cas from absent win', 'A:c_1 B:c_2 A.+ B.+'],
  ['cas wins on a wrong value', 'A:w1 A. B:c23 B.+'],
  ['cas refused on the right value', 'A:w1 A. B:c12 B.-'],
  ['value of a refused cas is read', 'A:w1 A. B:c23 B.- C:r C.3'],
  ['value of a failed write is read', 'A:w1 A. B:w2 B! C:r C.2'],
  ['unknown write takes effect twice', 'A:w1 A. B:w2 B? C:r C.2 A:w3 A. C:r C.3 C:r C.2'],
  ['unknown write before its invocation', 'C:r C.2 B:w2 B?'],
  ['unknown cas without its precondition', 'A:w1 A. B:c23 B? C:r C.3'],
  ['unknown write seen, then unseen', 'A:w1 A. B:w2 B? C:r C.2 C:r C.1'],
  ['real-time order of two writes', 'A:w1 A. B:w2 B. C:r C.2 D:r D.1'],
  ['delete is lost', 'A:w1 A. A:w_ A. B:r B.1'],
  ['write that came after the delete is lost', 'A:w_ A. A:w1 A. B:r B._'],
  ['increment applied twice', 'A:i5 A.5 B:i1 B.11'],
  ['increment lost', 'A:i5 A.5 B:i1 B.1'],
  ['both increments see the same', 'A:i1 B:i1 A.1 B.1'],
  ['increment of a string', 'A:w1 A. B:i1 B.2'],
  ['one unknown increment, counted twice', 'A:i5 A? B:i1 B.6 B:i1 B.12'],
  ['read across everything, of none of it', 'A:r B:w1 B. B:w2 B. A.3'],
];

t.test('histories that are linearizable', (t) => {
  for (const [name, text] of GOOD) {
    const verdict = checkHistory(history(text));
    t.equal(verdict.outcome, 'linearizable', `${name}: ${text}`);
    t.equal(bruteForce(history(text)), true, `${name}, by brute force`);
  }
  t.end();
});

t.test('histories that are not', (t) => {
  for (const [name, text] of BAD) {
    const verdict = checkHistory(history(text));
    t.equal(verdict.outcome, 'violation', `${name}: ${text}`);
    t.equal(bruteForce(history(text)), false, `${name}, by brute force`);
  }
  t.end();
});

t.test('keys are judged apart, and a violation outweighs an unknown', (t) => {
  const good = history('A:w1 A. B:r B.1', 'good');
  const bad = history('C:w1 C. D:r D._', 'bad').map((event) => ({ ...event, time: event.time + 10 }));
  t.equal(checkHistory(good).outcome, 'linearizable');
  t.match(checkHistory([...good, ...bad]), { outcome: 'violation', key: 'bad', value: '1' });
  const hard = randomHistory(randomFrom(1), { processes: 12, operations: 200, values: 3, infoPercent: 0 }).events.map(
    (event) => ({ ...event, process: event.process + 10, key: 'hard', time: event.time + 20 }),
  );
  t.equal(checkHistory(hard, { maxStates: 5 }).outcome, 'unknown');
  t.equal(checkHistory([...hard, ...bad.map((e) => ({ ...e, time: 1e9 }))], { maxStates: 5 }).outcome, 'violation');
  t.same(checkHistory([]), { outcome: 'linearizable', keys: 0, operations: 0, states: 0 });
  t.end();
});

t.test('a key may have held something before', (t) => {
  const events = history('A:r A.5');
  t.equal(checkHistory(events).outcome, 'violation');
  t.equal(checkHistory(events, { initial: new Map([['k', '5']]) }).outcome, 'linearizable');
  t.equal(checkHistory(events, { initial: new Map([['k', '6']]) }).outcome, 'violation');
  t.end();
});

t.test('the verdict on a violation names what cannot be placed', (t) => {
  const verdict = checkHistory(history('A:w1 A. B:w2 B. D:r D.2 C:r E:w3 C.1 E.'));
  t.match(verdict, {
    outcome: 'violation',
    key: 'k',
    operations: 5,
    value: '2',
    blocked: { process: 2, f: 'read', value: '1' },
  });
  if (verdict.outcome === 'violation') {
    t.same(
      verdict.prefix.map((operation) => operation.value),
      ['1', '2', '2'],
      'longest prefix, in order',
    );
    t.same(
      verdict.window.map((operation) => operation.process),
      [2, 4],
      'what was open meanwhile',
    );
  }
  const text = explain(verdict);
  t.match(text, /NOT linearizable: key "k"/);
  t.match(text, /no order explains process 2: read of "1" \[event 7, 6 ns → event 9, 8 ns\]/);
  t.match(text, /which leaves the value "2"/);
  t.match(text, /process 4: write of "3" .* not placed/);
  t.match(explain(checkHistory(history('A:w1 A.'))), /^linearizable: 1 operations on 1 keys/);
  t.end();
});

t.test('a search beyond its bound says so', (t) => {
  const verdict = checkHistory(history('A:w1 B:w2 C:w3 D:r A. B. C. D.9'), { maxStates: 2 });
  t.match(verdict, { outcome: 'unknown', key: 'k', maxStates: 2 });
  t.match(explain(verdict), /unknown: key "k".*raise maxStates/);
  t.throws(() => checkHistory([], { maxStates: 0 }), RangeError);
  t.throws(() => checkHistory([{ process: 1 } as HistoryEvent]), { code: 'history-malformed', line: 1 });
  t.end();
});

t.test('agrees with brute force on random tiny histories', (t) => {
  const random = randomFrom(SEED);
  const seen = { linearizable: 0, violation: 0 };
  for (let round = 0; round < 12_000; round++) {
    const events = tinyHistory(random);
    const verdict = checkHistory(events);
    const expected = bruteForce(events) ? 'linearizable' : 'violation';
    if (verdict.outcome !== expected) {
      t.fail(`SEED=${SEED} round ${round}: ${verdict.outcome}, brute force ${expected}`, {
        events: events.map((event) => JSON.stringify(event)),
      });
      break;
    }
    seen[expected]++;
    if (verdict.outcome === 'violation') checkPrefix(t, events, verdict, round);
  }
  t.ok(seen.linearizable > 2000 && seen.violation > 2000, `both kinds are common: ${JSON.stringify(seen)}`);
  t.end();
});

t.test('accepts what is linearizable by construction, and rejects it with one read changed', (t) => {
  const random = randomFrom(SEED + 1);
  for (let round = 0; round < 120; round++) {
    const { events } = randomHistory(random, {
      processes: 2 + random(8),
      operations: 50 + random(400),
      values: 1 + random(50),
      infoPercent: random(2) * random(15),
    });
    const verdict = checkHistory(events);
    t.equal(verdict.outcome, 'linearizable', `SEED=${SEED} round ${round}: accepted`);
    const reads = events.filter((event) => event.type === 'ok' && event.f === 'read');
    const changed = reads[random(reads.length)];
    const mutated = events.map((event) => (event === changed ? { ...event, value: 'never written' } : event));
    const rejected = checkHistory(mutated);
    t.equal(rejected.outcome, 'violation', `SEED=${SEED} round ${round}: a read of nothing ever written`);
    if (rejected.outcome === 'violation') t.equal(rejected.blocked.value, 'never written', 'it is the one named');
  }
  t.end();
});

t.test('long histories are judged, those with a late stale read too', (t) => {
  const random = randomFrom(SEED + 2);
  for (const [operations, infoPercent] of [
    [30_000, 0],
    [10_000, 1],
  ] as const) {
    const { events } = randomHistory(random, { processes: 8, operations, values: 1_000_000, infoPercent });
    const start = performance.now();
    const verdict = checkHistory(events);
    t.comment(
      `${operations} operations on a key, ${infoPercent} % unknown: ${(performance.now() - start).toFixed(0)} ms, ${verdict.outcome}`,
    );
    t.equal(verdict.outcome, 'linearizable', `SEED=${SEED}: ${explain(verdict)}`);
    const end = events[events.length - 1]!.time;
    // Written once, so that nothing of unknown outcome can bring it back.
    const timesWritten = new Map<unknown, number>();
    for (const { type, f, value } of events) {
      if (type !== 'invoke' || f === 'read') continue;
      const written = Array.isArray(value) ? value[1] : value;
      timesWritten.set(written, (timesWritten.get(written) ?? 0) + 1);
    }
    const firstWrite = events.find(
      ({ type, f, value }) => type === 'ok' && f === 'write' && timesWritten.get(value) === 1,
    ) as HistoryEvent;
    const tail = (
      process: number,
      type: 'invoke' | 'ok',
      f: 'read' | 'write',
      value: HistoryValue,
      time: number,
    ): HistoryEvent => ({ process, type, f, key: 'k', value, time: end + time });
    const stale = checkHistory([
      ...events,
      tail(1e6, 'invoke', 'write', 'last', 1),
      tail(1e6, 'ok', 'write', 'last', 2),
      tail(1e6, 'invoke', 'read', null, 3),
      tail(1e6, 'ok', 'read', firstWrite.value as HistoryValue, 4),
    ]);
    t.equal(stale.outcome, 'violation', `SEED=${SEED}: stale read at the end`);
    if (stale.outcome === 'violation') t.equal(stale.blocked.process, 1e6);
  }
  t.end();
});

/** The prefix must be an order that holds, and the cut behind `blocked` the first that brute force refuses. */
function checkPrefix(
  t: { fail(message: string): unknown },
  events: HistoryEvent[],
  verdict: Extract<Verdict, { outcome: 'violation' }>,
  round: number,
): void {
  const cut = verdict.blocked.completed;
  if (bruteForce(events, cut))
    t.fail(`SEED=${SEED} round ${round}: linearizable up to and including what is called blocked`);
  if (!bruteForce(events, cut - 1))
    t.fail(`SEED=${SEED} round ${round}: already not linearizable before what is called blocked`);
  let value: HistoryValue = null;
  for (const operation of verdict.prefix) {
    const after = plainEffect(operation, value);
    if (after === undefined) {
      t.fail(`SEED=${SEED} round ${round}: the prefix is no valid order`);
      return;
    }
    value = after;
  }
  if (value !== verdict.value) t.fail(`SEED=${SEED} round ${round}: the prefix does not leave the value named`);
}

/** Any events of few processes and values: about half of the histories are linearizable. */
function tinyHistory(random: (n: number) => number): HistoryEvent[] {
  const events: HistoryEvent[] = [];
  const open = new Map<number, HistoryEvent>();
  let nextProcess = 3;
  const processes = [0, 1, 2];
  const numbers = random(4) === 0;
  const value = (): HistoryValue => {
    const pick = random(4);
    return pick === 0 ? null : numbers ? pick : 'abc'[pick - 1]!;
  };
  const steps = 4 + random(10);
  for (let time = 0; time < steps; time++) {
    const slot = random(processes.length);
    const process = processes[slot]!;
    const invoked = open.get(process);
    if (invoked === undefined) {
      const kind = random(numbers ? 12 : 10);
      const event: HistoryEvent =
        kind < 4
          ? { process, type: 'invoke', f: 'read', key: 'k', value: null, time }
          : kind < 7
            ? { process, type: 'invoke', f: 'write', key: 'k', value: value(), time }
            : kind < 10
              ? { process, type: 'invoke', f: 'cas', key: 'k', value: [value(), value()], time }
              : { process, type: 'invoke', f: 'increment', key: 'k', value: random(3), time };
      open.set(process, event);
      events.push(event);
      continue;
    }
    open.delete(process);
    const kind = random(10);
    const type = kind === 0 ? 'fail' : kind < 3 ? 'info' : 'ok';
    const event: HistoryEvent = { ...invoked, type, time };
    if (type === 'ok' && event.f === 'read') event.value = value();
    if (type === 'ok' && event.f === 'cas') event.result = random(2) === 0;
    if (type === 'ok' && event.f === 'increment') event.result = random(5);
    if (type === 'info') processes[slot] = nextProcess++;
    events.push(event);
  }
  return events;
}

interface Shape {
  processes: number;
  operations: number;
  values: number;
  infoPercent: number;
}

/**
 * Runs clients against an atomic register: each operation takes effect at a random moment while it is open (unknown
 * ones later, or never).
 */
function randomHistory(random: (n: number) => number, shape: Shape): { events: HistoryEvent[] } {
  const events: HistoryEvent[] = [];
  const pending: { event: HistoryEvent; applied: boolean; completion: HistoryEvent | null }[] = [];
  const late: HistoryEvent[] = [];
  const idle = Array.from({ length: shape.processes }, (_, i) => i);
  let nextProcess = shape.processes;
  let register: HistoryValue = null;
  let started = 0;
  let time = 0;
  const value = (): HistoryValue => (random(10) === 0 ? null : String(random(shape.values)));
  const apply = (event: HistoryEvent): HistoryEvent => {
    const completion: HistoryEvent = { ...event, type: 'ok' };
    if (event.f === 'read') completion.value = register;
    else if (event.f === 'write') register = event.value as HistoryValue;
    else {
      const [expected, replacement] = event.value as [HistoryValue, HistoryValue];
      completion.result = register === expected;
      if (completion.result) register = replacement;
    }
    return completion;
  };
  while (started < shape.operations || pending.length > 0) {
    time++;
    const move = random(3);
    if (move === 0 && started < shape.operations && idle.length > 0) {
      const process = idle.splice(random(idle.length), 1)[0]!;
      const kind = random(10);
      const event: HistoryEvent =
        kind < 5
          ? { process, type: 'invoke', f: 'read', key: 'k', value: null, time }
          : kind < 8
            ? { process, type: 'invoke', f: 'write', key: 'k', value: value(), time }
            : {
                process,
                type: 'invoke',
                f: 'cas',
                key: 'k',
                value: [random(2) === 0 ? register : value(), value()],
                time,
              };
      events.push(event);
      started++;
      pending.push({ event, applied: false, completion: null });
    } else if (move === 1 && pending.length > 0) {
      const one = pending[random(pending.length)]!;
      if (one.completion === null) one.completion = apply(one.event);
    } else if (pending.length > 0) {
      const index = random(pending.length);
      const { event, completion } = pending[index]!;
      if (random(100) < shape.infoPercent) {
        pending.splice(index, 1);
        events.push({ ...event, type: 'info', time });
        if (completion === null) late.push(event);
        idle.push(nextProcess++);
      } else if (completion !== null) {
        pending.splice(index, 1);
        events.push({ ...completion, time });
        idle.push(event.process);
      }
    }
    if (late.length > 0 && random(20) === 0) apply(late.splice(random(late.length), 1)[0]!);
  }
  return { events };
}

/**
 * The judge to compare with: tries every order and every choice of the unknown ones, with nothing clever. With `cut`
 * only what completed up to that event has to be placed; what completed later may be, with the result it had.
 */
function bruteForce(events: HistoryEvent[], cut = 1e9): boolean {
  const operations = collectOperations(events).filter(
    ({ outcome, f, invoked }) => outcome !== 'fail' && !(outcome === 'info' && f === 'read') && invoked <= cut,
  );
  const place = (left: HistoryOperation[], value: HistoryValue): boolean => {
    if (left.every((operation) => operation.completed > cut)) return true;
    for (const operation of left) {
      if (left.some((other) => other.completed < operation.invoked)) continue;
      const rest = left.filter((other) => other !== operation);
      const after = plainEffect(operation, value);
      if (after !== undefined && place(rest, after)) return true;
    }
    return false;
  };
  return place(operations, null);
}

/** What a plain register makes of it; undefined when its result cannot be. */
function plainEffect(operation: HistoryOperation, value: HistoryValue): HistoryValue | undefined {
  const unknown = operation.outcome === 'info';
  if (operation.f === 'read') return operation.value === value ? value : undefined;
  if (operation.f === 'write') return operation.value as HistoryValue;
  if (operation.f === 'cas') {
    const [expected, replacement] = operation.value as [HistoryValue, HistoryValue];
    const sets = value === expected;
    if (!unknown && operation.result !== sets) return undefined;
    return sets ? replacement : value;
  }
  if (typeof value === 'string') return unknown ? value : undefined;
  const sum = (value ?? 0) + (operation.value as number);
  return unknown || operation.result === sum ? sum : undefined;
}
