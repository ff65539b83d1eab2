// Users' machines in the simulator: a right one passes, and each way to be wrong is found, named and replayed.
import t from 'tap';
import { JitPaxosError } from '../../src/errors.js';
import { encodePut } from '../../src/machine/kv-codec.js';
import { KvMachine } from '../../src/machine/kv.js';
import type {
  ApplyContext,
  Operation,
  Reply,
  RestoreInPieces,
  SnapshotInPieces,
  StateMachine,
} from '../../src/machine/state-machine.js';
import { encodeWrite } from '../../src/machine/store/codec.js';
import type { SimulationFailureKind } from '../../src/testing/fault.js';
import {
  simulate,
  SIMULATION_FAULTS,
  type SimulateOptions,
  type SimulationFailure,
  type SimulationReport,
} from '../../src/testing/simulate.js';
import type { Workload } from '../../src/testing/workload.js';
import { adding, ByArrival, BySize, bytesOf, joining, Sum, SumInPieces, sumModel, SumWithUndo } from './machines.js';

function run(options: Partial<SimulateOptions<any>>): SimulationReport {
  return simulate({ machine: () => new Sum(), workload: adding, print: () => undefined, ...options });
}

/** The failure of a machine that is wrong. */
function found(options: Partial<SimulateOptions<any>>): SimulationFailure | undefined {
  return run({ seeds: [1, 10], ...options }).failure;
}

t.test('a right machine passes, with a model and without, and is put to the test', (t) => {
  for (const model of [undefined, sumModel]) {
    const report = run({ seeds: [1, 20], ...(model && { model }) });
    t.equal(report.failure?.text, undefined);
    t.equal(report.runs, 20);
    t.same(report.undecided, []);
    const { counts } = report;
    t.ok(counts.committed > 1000 && counts.unknown > 10 && counts.entries > 1000, JSON.stringify(counts));
    t.ok(counts.views > 20 && counts.crashes > 10 && counts.restores > 100 && counts.snapshotsInstalled > 0);
  }
  t.equal(run({ machine: () => new BySize(), workload: joining }).failure, undefined);
  t.equal(run({ machine: () => new SumInPieces() }).failure?.text, undefined, 'one with snapshots in pieces');
  t.equal(run({ machine: () => new SumWithUndo() }).failure?.text, undefined, 'one that undoes');
  t.equal(
    run({
      machine: () =>
        new (class extends SumWithUndo {
          override undoTo(index: number): boolean {
            return index % 2 === 0 && super.undoTo(index);
          }
        })(),
    }).failure?.text,
    undefined,
    'one that undoes at times only',
  );
  t.equal(run({ replicas: 5, seeds: [1, 3], model: sumModel }).failure, undefined);
  t.end();
});

t.test('a machine that undoes is told what is committed before it applies the first entry', (t) => {
  let early = 0;
  class Told extends SumWithUndo {
    private told = false;
    override apply(operation: Operation, context: ApplyContext, reply: Reply): void {
      if (!this.told) early++;
      super.apply(operation, context, reply);
    }
    override committedTo(index: number): void {
      this.told = true;
      super.committedTo(index);
    }
  }
  // The replay of the log takes nothing back, so it is not told.
  t.equal(run({ machine: () => new Told(), seeds: [1, 10], model: sumModel }).failure?.text, undefined);
  t.equal(early, 0);
  t.end();
});

t.test('the key-value store passes at both of its levels', (t) => {
  const bytes = new Uint8Array(64);
  const writing =
    (encode: (key: Uint8Array, value: Uint8Array) => number): Workload =>
    (chance) =>
    () =>
      bytes.slice(0, encode(Uint8Array.of(chance.below(5)), Uint8Array.of(chance.below(250))));
  const machine = (): KvMachine => new KvMachine({ expectedKeys: 8 });
  for (const encode of [encodePut, encodeWrite]) {
    const workload = writing((key, value) => encode(bytes, 0, key, value));
    t.equal(run({ machine, workload, seeds: [1, 12] }).failure?.text, undefined, encode.name);
  }
  t.end();
});

t.test('the same options give the same run, another seed another one', (t) => {
  const digest = (options: Partial<SimulateOptions<any>>): string => run(options).digest;
  t.equal(digest({ seed: 7 }), digest({ seed: 7 }));
  t.equal(digest({ seed: 7 }), digest({ seed: 7, model: sumModel }), 'a model changes nothing of the run');
  t.not(digest({ seed: 7 }), digest({ seed: 8 }));
  t.equal(digest({ seeds: [7, 9] }), digest({ seeds: [7, 9] }));
  t.not(digest({ seeds: [7, 8] }), digest({ seeds: [8, 8] }));
  t.match(digest({ seed: 7 }), /^[0-9a-f]{16}$/);
  const impure = (): Uint8Array => bytesOf(Math.floor(Math.random() * 100));
  t.equal(digest({ seed: 7, workload: () => impure }), digest({ seed: 7, workload: () => impure }), 'Math.random, too');
  t.end();
});

/** Machines, each wrong in one way; what finds it; what the text says. */
const WRONG: readonly [string, () => StateMachine, SimulationFailureKind, RegExp, Partial<SimulateOptions>?][] = [
  [
    'iterates a Map in an order that a restore changes',
    () => new ByArrival(),
    'results-differ',
    // Which of the two is the one whose state was restored depends on the run.
    /executed entry \d+, \[.*\], with result \[.*\], another one with \[.*\](; its state was saved and restored before entry \d+)?\n/,
    { workload: joining },
  ],
  [
    'reads the clock',
    () =>
      new (class extends Sum {
        override apply(operation: Operation, context: ApplyContext, reply: Reply): void {
          super.apply(operation, context, reply);
          this.answer(reply, Date.now() >>> 0);
        }
      })(),
    'results-differ',
    /called Date\.now: a machine may use only/,
  ],
  [
    'makes a Date of the present',
    () =>
      new (class extends Sum {
        override query(_operation: Operation, _context: ApplyContext, reply: Reply): void {
          this.answer(reply, new Date().getMilliseconds());
        }
      })(),
    'results-differ',
    /called new Date\(\)/,
  ],
  [
    'keeps a random number in its state and shows it to nobody',
    () =>
      new (class extends Sum {
        override apply(operation: Operation, context: ApplyContext, reply: Reply): void {
          super.apply(operation, context, reply);
          if (Math.random() < 0.2) this.hidden = 1 - this.hidden;
        }
        hidden = 0;
        override snapshot(): Uint8Array {
          return Uint8Array.of(...super.snapshot(), this.hidden);
        }
        override restore(snapshot: Uint8Array): void {
          super.restore(snapshot.subarray(0, 4));
          this.hidden = snapshot[4]!;
        }
      })(),
    'states-differ',
    /called Math\.random/,
  ],
  [
    'keeps state outside of its snapshot',
    () =>
      new (class extends Sum {
        count = 0;
        override query(_operation: Operation, _context: ApplyContext, reply: Reply): void {
          this.answer(reply, this.count);
        }
        override apply(operation: Operation, context: ApplyContext, reply: Reply): void {
          this.count++;
          super.apply(operation, context, reply);
        }
      })(),
    'results-differ',
    /executed entry \d+, .* with result .*, another one with/,
  ],
  [
    'answers a query at random',
    () =>
      new (class extends Sum {
        override apply(operation: Operation, _context: ApplyContext, reply: Reply): void {
          if (operation.length === 4) this.sum++;
          this.answer(reply, this.sum);
        }
        override query(_operation: Operation, _context: ApplyContext, reply: Reply): void {
          this.answer(reply, Math.floor(Math.random() * 2 ** 32));
        }
      })(),
    'results-differ',
    /query .*behind none of the entries/,
  ],
  [
    'changes its state in a query',
    () =>
      new (class extends Sum {
        override query(operation: Operation, context: ApplyContext, reply: Reply): void {
          if (operation.length === 0) this.sum++;
          super.query(operation, context, reply);
        }
      })(),
    'contract-broken',
    /query changed the state/,
  ],
  [
    'shows later operations in the pieces of a snapshot',
    () =>
      new (class extends Sum {
        beginSnapshot(): SnapshotInPieces {
          let at = 0;
          return { length: 4, step: () => bytesOf(this.sum).subarray(at, ++at), abort: () => undefined };
        }
      })(),
    'contract-broken',
    // A byte that is a letter is shown as one, too.
    /step returned \[..\](?: ".+")? at byte [1-3], and at its beginning the snapshot had \[..\](?: ".+")? there/,
  ],
  [
    'says another length than its snapshot has',
    () =>
      new (class extends SumInPieces {
        override beginSnapshot(): SnapshotInPieces {
          return { ...super.beginSnapshot(), length: 5 };
        }
      })(),
    'contract-broken',
    /beginSnapshot returned a length of 5, and snapshot returns 4 bytes/,
  ],
  [
    'gives no more pieces',
    () =>
      new (class extends SumInPieces {
        override beginSnapshot(): SnapshotInPieces {
          return { ...super.beginSnapshot(), step: () => new Uint8Array(0) };
        }
      })(),
    'contract-broken',
    /step returned \d+ empty pieces/,
  ],
  [
    'takes a state before all of its pieces are there',
    () =>
      new (class extends SumInPieces {
        override beginRestore(length: number): RestoreInPieces {
          const { step, end, abort } = super.beginRestore(length);
          return {
            step: (piece) => {
              this.sum = (this.sum + 1) >>> 0;
              step(piece);
            },
            end,
            abort,
          };
        }
      })(),
    'contract-broken',
    /a restore that was given up changed the state/,
  ],
  [
    'forgets a piece of what it restores',
    () =>
      new (class extends SumInPieces {
        override beginRestore(length: number): RestoreInPieces {
          const { step, end, abort } = super.beginRestore(length);
          return { step: (piece) => step(piece.fill(0, 3)), end, abort };
        }
      })(),
    'contract-broken',
    /after a restore in pieces of \[.*\] snapshot\(\) returned/,
  ],
  [
    'keeps the arrays that it restores from',
    () =>
      new (class extends SumInPieces {
        override beginRestore(): RestoreInPieces {
          const pieces: Uint8Array[] = [];
          return {
            step: (piece) => pieces.push(piece),
            end: () => this.restore(Buffer.concat(pieces)),
            abort: () => undefined,
          };
        }
      })(),
    'contract-broken',
    /after a restore in pieces of \[.*\] snapshot\(\) returned/,
  ],
  [
    'refuses what it gave itself, when it comes in pieces',
    () =>
      new (class extends SumInPieces {
        override beginRestore(length: number): RestoreInPieces {
          const step = (): void => {
            throw new RangeError('not mine');
          };
          return { ...super.beginRestore(length), step };
        }
      })(),
    'machine-threw',
    /step of a restore .*not mine/s,
  ],
  [
    'forgets an entry when it undoes',
    () =>
      new (class extends SumWithUndo {
        override undoTo(index: number): boolean {
          return super.undoTo(index + 1);
        }
      })(),
    'contract-broken',
    /after undoTo\(\d+\) snapshot\(\) returned \[.*\]; a machine that applied everything up to that entry/,
  ],
  [
    'cannot undo, and has changed something',
    () =>
      new (class extends SumWithUndo {
        override undoTo(): boolean {
          this.sum++;
          return false;
        }
      })(),
    'contract-broken',
    /undoTo\(\d+\) returned false and changed the state/,
  ],
  [
    'undoes and is never told what is committed',
    () =>
      new (class extends Sum {
        undoTo(): boolean {
          return false;
        }
      })(),
    'contract-broken',
    /undoTo without committedTo/,
  ],
  [
    'restores only half',
    () =>
      new (class extends Sum {
        override restore(snapshot: Uint8Array): void {
          super.restore(Uint8Array.of(0, 0, snapshot[2]!, snapshot[3]!));
          if (this.sum > 100) this.sum = 100;
        }
      })(),
    'contract-broken',
    /after restore\(.*\) snapshot\(\) returned/,
  ],
  [
    'returns the same array from every snapshot',
    () =>
      new (class extends Sum {
        readonly array = new Uint8Array(4);
        override snapshot(): Uint8Array {
          this.array.set(super.snapshot());
          return this.array;
        }
      })(),
    'contract-broken',
    /array that snapshot had returned was changed/,
  ],
  [
    'writes a result that has no room',
    () =>
      new (class extends Sum {
        override apply(operation: Operation, context: ApplyContext, reply: Reply): void {
          super.apply(operation, context, reply);
          reply.length = reply.capacity + 1;
        }
      })(),
    'contract-broken',
    /set reply\.length to 513, with room for 512/,
  ],
  [
    'writes into its operation',
    () =>
      new (class extends Sum {
        override apply(operation: Operation, context: ApplyContext, reply: Reply): void {
          super.apply(operation, context, reply);
          operation.bytes[operation.offset]! ^= 1;
        }
      })(),
    'contract-broken',
    /changed the bytes of the operation/,
  ],
  [
    'works later',
    () =>
      new (class extends Sum {
        override async apply(operation: Operation, context: ApplyContext, reply: Reply): Promise<void> {
          super.apply(operation, context, reply);
        }
      })(),
    'contract-broken',
    /apply .*returned a promise/,
  ],
  [
    'throws',
    () =>
      new (class extends Sum {
        override apply(operation: Operation, context: ApplyContext, reply: Reply): void {
          if (operation.length !== 4) throw new TypeError('four bytes, please');
          super.apply(operation, context, reply);
        }
      })(),
    'machine-threw',
    /apply of \[01\] \(replica \d\) threw TypeError: four bytes, please/,
  ],
  [
    'throws in the constructor',
    () => {
      throw new Error('no machine today');
    },
    'machine-threw',
    /the constructor \(replica 0\) threw Error: no machine today/,
  ],
];

for (const [name, machine, kind, text, more] of WRONG)
  t.test(`found: a machine that ${name}`, (t) => {
    const failure = found({ machine, ...more });
    t.equal(failure?.kind, kind, failure?.text ?? 'nothing was found');
    t.match(failure?.text, text);
    const again = run({ machine, ...more, seed: failure!.seed }).failure;
    t.equal(again?.text, failure?.text, 'its replay tells the same');
    t.end();
  });

t.test('a machine may use the timestamp and the index of the context', (t) => {
  const machine = (): StateMachine =>
    new (class extends Sum {
      override apply(operation: Operation, context: ApplyContext, reply: Reply): void {
        super.apply(operation, context, reply);
        this.answer(reply, (context.timestampLo ^ context.index) >>> 0);
      }
    })();
  t.equal(found({ machine })?.text, undefined);
  t.end();
});

t.test('a machine that is wrong everywhere is found by a model', (t) => {
  const machine = (): StateMachine =>
    new (class extends Sum {
      override apply(operation: Operation, context: ApplyContext, reply: Reply): void {
        super.apply(operation, context, reply);
        if (this.sum > 1000) this.sum = 1000;
      }
    })();
  t.equal(found({ machine }), undefined, 'it is deterministic');
  const failure = found({ machine, model: sumModel });
  t.equal(failure?.kind, 'model-disagrees');
  t.match(failure?.detail, /^entry \d+, .*: the machine answered \[.*\], the model \[/);
  t.match(failure?.replay, /^simulate\(\{ machine, workload, model, seed: \d+ \}\)$/);
  t.equal(
    found({
      machine,
      model: { ...sumModel, apply: (sum) => ({ state: sum, result: undefined }), query: () => undefined },
    }),
    undefined,
    'unless the model takes any result',
  );
  const stale = found({
    model: sumModel,
    machine: () =>
      new (class extends Sum {
        override query(operation: Operation, context: ApplyContext, reply: Reply): void {
          super.query(operation, context, reply);
          if (operation.length === 0) this.answer(reply, 0);
        }
      })(),
  });
  t.match([stale?.kind, stale?.detail], ['model-disagrees', /^query \[\] of client \d: .*the model/]);
  t.end();
});

t.test('a model or a workload that throws is named, with the seed', (t) => {
  const thrown = new Error('no idea');
  const model = {
    ...sumModel,
    apply: () => {
      throw thrown;
    },
  };
  const byModel = found({ model });
  t.match([byModel?.kind, byModel?.detail], ['model-threw', /the model, given \[.*\], threw Error: no idea/]);
  t.equal(byModel?.cause, thrown);
  for (const workload of [
    () => {
      throw thrown;
    },
    () => () => {
      throw thrown;
    },
  ]) {
    const failure = found({ workload });
    t.match(
      [failure?.kind, failure?.detail, failure?.seed],
      ['workload-threw', 'the workload threw Error: no idea', 1],
    );
    t.equal(failure?.cause, thrown);
  }
  t.end();
});

t.test('what is wrong with the call is thrown, and says what is right', (t) => {
  const refused = (options: object, message: RegExp, code = 'option-invalid'): void => {
    try {
      run(options);
      t.fail(`${JSON.stringify(options)} was taken`);
    } catch (error) {
      t.ok(error instanceof JitPaxosError);
      t.match(error, { code, message }, String(error));
    }
  };
  refused({ machin: 1 }, /"machin" is not known here; did you mean "machine"/);
  refused({ machine: new Sum() }, /machine is .*; it has to be a function/);
  refused({ workload: [] }, /workload is \[\]; it has to be a function/);
  refused({ model: {} }, /model has to have the functions/);
  refused({ replicas: 4 }, /replicas is 4; it has to be odd/);
  refused({ replicas: 1 }, /from 3 to 13/);
  refused({ seed: -1 }, /seed is -1/);
  refused({ seed: 1, seeds: [1, 2] }, /seed and seeds are both given/);
  refused({ seeds: [3, 2] }, /seeds\[1\] is 2; it has to be an integer from 3/);
  refused({ seeds: [0, 1e7] }, /of at most 1000000/);
  refused({ ticks: 1 }, /ticks is 1/);
  refused({ faults: ['crashs'] }, /did you mean "crash"/);
  refused({ faults: ['enemy'] }, /"enemy"/);
  refused({ operationBytes: 0 }, /operationBytes is 0/);
  refused({ workload: () => [] }, /workload returned \[\]; it has to return a function/);
  refused({ workload: () => () => undefined }, /the workload gave undefined; .*there is always a next one/);
  refused({ workload: () => () => 'text' }, /the workload gave "text"/);
  refused({ workload: () => () => new Uint8Array(513) }, /513 bytes, of at most 512; raise/, 'operation-too-large');
  t.end();
});

t.test('long operations and results have room when they are asked for', (t) => {
  const machine = (): StateMachine =>
    new (class extends Sum {
      override apply(operation: Operation, _context: ApplyContext, reply: Reply): void {
        this.sum = operation.length;
        reply.bytes.fill(7, reply.offset, reply.offset + 2 * operation.length);
        reply.length = 2 * operation.length;
      }
    })();
  const report = run({
    machine,
    workload: (chance) => () => new Uint8Array(chance.below(4001)),
    operationBytes: 4000,
    resultBytes: 8000,
    seeds: [1, 5],
  });
  t.equal(report.failure?.text, undefined);
  t.ok(report.counts.committed > 50);
  t.end();
});

t.test('a failure is printed once, the runs end with it, and it names options that are not the default', (t) => {
  const printed: string[] = [];
  const report = run({
    machine: () => new ByArrival(),
    workload: joining,
    seeds: [5, 30],
    faults: ['crash', 'loss'],
    ticks: 100_000,
    print: (text) => printed.push(text),
  });
  t.same(printed, [report.failure?.text]);
  t.equal(report.runs, 1 + report.failure!.seed - 5);
  t.match(
    report.failure?.replay,
    /^simulate\(\{ machine, workload, seed: \d+, ticks: 100000, faults: \["crash","loss"\] \}\)$/,
  );
  t.ok(SIMULATION_FAULTS.includes('crash') && !SIMULATION_FAULTS.includes('diverge'));
  t.equal(run({ faults: 'none', seeds: [1, 3] }).counts.crashes, 0);
  t.end();
});

t.test('clock and chance are the real ones again afterwards', (t) => {
  const before = [Date, Math.random, performance.now, process.hrtime, crypto.randomUUID, crypto.getRandomValues];
  run({ seed: 1 });
  found({ machine: () => new ByArrival(), workload: joining });
  t.throws(() => run({ workload: (() => () => undefined) as never }));
  t.same([Date, Math.random, performance.now, process.hrtime, crypto.randomUUID, crypto.getRandomValues], before);
  t.notOk(Object.hasOwn(performance, 'now') || Object.hasOwn(crypto, 'randomUUID'));
  t.ok(Math.abs(Date.now() - Date.parse(new Date().toISOString())) < 60_000);
  t.end();
});
