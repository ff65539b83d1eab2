/**
 * Machines that diverge on purpose: what is drawn, that the wrong state is noticed, and that nobody else is accused.
 */
import t from 'tap';
import { KvMachine } from '../../src/machine/kv.js';
import type { StateMachine } from '../../src/machine/state-machine.js';
import { describeDiverging, drawDiverging } from '../../src/sim/diverging.js';
import { FAULT_NAMES, type FaultName } from '../../src/sim/faults.js';
import { MachineProbe } from '../../src/sim/machine-probe.js';
import { simulate } from '../../src/sim/simulation.js';

const DIVERGE: ReadonlySet<FaultName> = new Set<FaultName>(['diverge']);
const TICKS = 300_000;

/** Seeds that draw a machine that goes wrong. */
function seedsWith(replicas: number, count: number): readonly number[] {
  const found: number[] = [];
  for (let seed = 1; found.length < count; seed++)
    if (drawDiverging(seed, DIVERGE, replicas, TICKS).length > 0) found.push(seed);
  return found;
}

t.test(
  'some runs have up to f machines that go wrong, one replica each; a run that draws none is the run that it always was',
  (t) => {
    for (const replicas of [1, 3, 5, 7]) {
      const f = (replicas - 1) / 2;
      let drawn = 0;
      let most = 0;
      for (let seed = 1; seed <= 400; seed++) {
        const machines = drawDiverging(seed, DIVERGE, replicas, TICKS);
        if (machines.length === 0) continue;
        drawn++;
        most = Math.max(most, machines.length);
        t.equal(new Set(machines.map(({ replica }) => replica)).size, machines.length);
        t.ok(machines.every(({ replica, atUs }) => replica >= 0 && replica < replicas && atUs >= 0 && atUs < TICKS));
      }
      t.equal(most, f);
      if (f > 0) t.ok(drawn > 40 && drawn < 120, `${drawn} of 400 runs`);
      else t.equal(drawn, 0);
    }
    t.same(drawDiverging(seedsWith(3, 1)[0]!, new Set(), 3, TICKS), []);
    t.equal(describeDiverging([]), '');
    t.equal(
      describeDiverging([
        { replica: 2, atUs: 31_000 },
        { replica: 0, atUs: 4_400 },
      ]),
      'diverge r2 at 31 ms, r0 at 4 ms',
    );
    const digest = (faults: readonly FaultName[]): string =>
      simulate({ seed: 4, replicas: 3, ticks: 100_000, faults: new Set(faults) }).digest;
    t.same(drawDiverging(4, DIVERGE, 3, 100_000), []);
    t.equal(digest(FAULT_NAMES), digest(FAULT_NAMES.filter((name) => name !== 'diverge')));
    t.end();
  },
);

t.test('the mark of a wrong state goes where the state goes, and is nothing that an operation shows', (t) => {
  const make = (marked: boolean): MachineProbe =>
    new MachineProbe(new KvMachine({ maxKeys: 8, maxBytes: 1024, expectedKeys: 8 }), 'replica 0', undefined, marked);
  const apply = (probe: MachineProbe, index: number): void =>
    probe.apply(
      { bytes: new Uint8Array([0]), offset: 0, length: 1 },
      { timestampHi: 0, timestampLo: 0, index },
      { bytes: new Uint8Array(64), offset: 0, capacity: 64, length: 0 },
    );
  const [wrong, right] = [make(true), make(true)];
  const before = wrong.snapshot();
  wrong.nextMark = 2;
  t.same(wrong.snapshot(), before, 'not before an operation is applied');
  for (const probe of [wrong, right]) apply(probe, 1);
  t.equal(wrong.mark, 2);
  t.equal(wrong.digests[1], right.digests[1]);
  t.same(wrong.state(), right.state());
  t.notSame(wrong.snapshot(), right.snapshot());
  right.restore(wrong.snapshot());
  t.equal(right.mark, 2, 'one that takes the state of another has its mark');
  wrong.restore(before);
  t.equal(wrong.mark, 0, 'one that goes back has it no longer');
  t.same(make(false).snapshot(), make(false).state(), 'no mark where nothing goes wrong');
  t.end();
});

t.test(
  'a replica whose machine went wrong is named, stops itself and comes back without its log; nobody else does',
  (t) => {
    for (const replicas of [3, 5]) {
      for (const seed of seedsWith(replicas, 4)) {
        const { failure, plan, totals } = simulate({ seed, replicas, ticks: TICKS, faults: DIVERGE });
        t.equal(failure?.detail, undefined, `seed ${seed}`);
        const machines = drawDiverging(seed, DIVERGE, replicas, TICKS);
        t.ok(plan.includes(describeDiverging(machines)), plan);
        const { wrong, wrongNamed, wrongStopped, crashes, logsLost } = totals;
        t.same(
          { wrong, wrongNamed },
          { wrong: machines.length, wrongNamed: machines.length },
          `seed ${seed}, N = ${replicas}`,
        );
        // One whose wrong state a snapshot of another replica replaced has no reason to stop any more.
        t.ok(wrongStopped >= 1 && wrongStopped <= machines.length, `${wrongStopped} of ${machines.length} stopped`);
        t.same({ crashes, logsLost }, { crashes: wrongStopped, logsLost: wrongStopped });
      }
    }
    t.end();
  },
);

/** Its state has one byte too many where it was made as the second of all. */
class Odd implements StateMachine {
  private readonly inner = new KvMachine({ maxKeys: 4096, maxBytes: 1 << 20, expectedKeys: 8 });
  readonly apply = this.inner.apply.bind(this.inner);
  readonly query = this.inner.query.bind(this.inner);
  constructor(private readonly extra: number) {}
  snapshot(): Uint8Array {
    const state = this.inner.snapshot();
    const bytes = new Uint8Array(state.length + this.extra);
    bytes.set(state);
    return bytes;
  }
  restore(snapshot: Uint8Array): void {
    this.inner.restore(snapshot.subarray(0, snapshot.length - this.extra));
  }
}

t.test('another state that nobody planned is a violation, also where a machine goes wrong on purpose', (t) => {
  const [seed] = seedsWith(3, 1);
  let made = 0;
  const odd = (drawDiverging(seed!, DIVERGE, 3, TICKS)[0]!.replica + 1) % 3;
  const { failure } = simulate({
    seed: seed!,
    replicas: 3,
    ticks: TICKS,
    faults: DIVERGE,
    createMachine: () => new Odd(made++ === odd ? 1 : 0),
  });
  t.equal(failure?.invariant, 'contradiction');
  t.match(failure?.detail, /state-diverged/);
  t.end();
});
