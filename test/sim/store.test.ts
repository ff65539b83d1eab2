/**
 * Clients that use the store at level 1: transactions, ends of keys, leases and ranges, judged by a model that executes
 * the chosen log. A run is always the same for its seed.
 */
import t from 'tap';
import { encodeIncrement } from '../../src/machine/kv-codec.js';
import { Delete, Increment, Put } from '../../src/machine/kv-layout.js';
import { Grant, Write } from '../../src/machine/store/layout.js';
import { Feature, KNOWN_FEATURES } from '../../src/protocol/log/features.js';
import { usesStore } from '../../src/sim/assembly.js';
import { ALL_FAULTS, KIND_FAULTS, type FaultName } from '../../src/sim/faults.js';
import { NOISE } from '../../src/sim/enemy.js';
import type { Execution } from '../../src/sim/execution.js';
import type { ChosenLog } from '../../src/sim/log-judge.js';
import { isTransaction, type ModelCommand } from '../../src/sim/commands-model.js';
import { simulate, simulateWorkload } from '../../src/sim/simulation.js';
import type { SimulationResult } from '../../src/sim/result.js';
import type { ModelOperation, Outcome } from '../../src/sim/store-model.js';
import { encodeModelOperation } from '../../src/sim/store-operations.js';
import { StoreWorkload } from '../../src/sim/store-workload.js';

const TICKS = 200_000;
const KIND: ReadonlySet<FaultName> = new Set<FaultName>([...KIND_FAULTS, 'store']);
const ALL: ReadonlySet<FaultName> = new Set(ALL_FAULTS);

/** The first seeds whose clients use the store. */
function seeds(count: number, options: Omit<Parameters<typeof usesStore>[0], 'seed'>): number[] {
  const found: number[] = [];
  for (let seed = 1; found.length < count; seed++) if (usesStore({ ...options, seed })) found.push(seed);
  return found;
}

/** What the clients of some runs were answered. */
class Watched extends StoreWorkload {
  constructor(private readonly answers: Map<string, number>) {
    super();
  }

  override answered(operation: ModelOperation, outcome: Outcome): void {
    super.answered(operation, outcome);
    this.count(`${operation.name}: ${outcome.status}`);
    if (operation.name === 'transact' && outcome.status === 'ok')
      this.count(`transact: ${outcome.isDo ? 'do' : 'else'}`);
    if (operation.name === 'renew' && Array.isArray(outcome.ends))
      for (const end of outcome.ends) this.count(`renew: ${end === undefined ? 'it has ended' : 'goes on'}`);
    if (operation.name === 'range' && outcome.next !== undefined) this.count('range: there is more');
    if (operation.name === 'commands')
      operation.commands.forEach((command, i) => this.countCommand(command, outcome.answers?.[i]));
  }

  private countCommand(command: ModelCommand, answer: string | undefined): void {
    if (answer === undefined) return;
    if (isTransaction(command)) this.count(`transaction: ${answer === '*-1\r\n' ? 'null' : 'executed'}`);
    else if (answer.startsWith('-WRONGTYPE')) this.count('commands: wrong type');
    else if (answer === '+OK\r\n') this.count(`${command[0]}: ok`);
    else if (answer.startsWith('$') && answer !== '$-1\r\n') this.count(`${command[0]}: bulk`);
    else if (/^[+:]/.test(answer)) this.count(`${command[0]}: ${answer.slice(1, -2)}`);
  }

  private count(what: string): void {
    this.answers.set(what, (this.answers.get(what) ?? 0) + 1);
  }
}

/** What has to be seen in some run, so that the model was asked for it. */
const ANSWERS = [
  ...['get', 'read', 'delete', 'remove', 'revoke'].flatMap((name) => [`${name}: ok`, `${name}: not-found`]),
  ...['put', 'range', 'tick', 'grant', 'renew', 'write', 'transact'].map((name) => `${name}: ok`),
  ...['write: mismatch', 'remove: mismatch', 'write: lease-ended', 'transact: lease-ended'],
  ...[
    'get: wrong-type',
    'read: wrong-type',
    'transact: wrong-type',
    'commands: ok',
    'TYPE: hash',
    'TYPE: set',
    'TYPE: list',
  ],
  ...['HDEL: 1', 'SREM: 1', 'LPOP: bulk', 'RENAME: ok', 'FLUSHALL: ok', 'commands: wrong type', 'transaction: null'],
  ...['transact: do', 'transact: else', 'renew: it has ended', 'renew: goes on', 'range: there is more'],
];

t.test('every result is that of the model, with undo, snapshots in pieces and changes of views', (t) => {
  const answers = new Map<string, number>();
  const seen = { runs: 0, views: 0, rollbacks: 0, installed: 0, crashes: 0 };
  const options = { replicas: 3, ticks: TICKS, faults: KIND, features: KNOWN_FEATURES };
  const isMissing = (): boolean =>
    ANSWERS.some((answer) => !answers.has(answer)) || Object.values(seen).some((count) => count === 0);
  for (const seed of seeds(60, options)) {
    if (seen.runs >= 10 && !isMissing()) break;
    const { failure, undecided, totals } = simulateWorkload(
      { ...options, seed, undoBytes: 1 << 16, pieces: { bytes: 64, everyUs: 1000 } },
      new Watched(answers),
    );
    t.equal(failure, undefined, `seed ${seed}: ${failure?.invariant} ${failure?.detail}`);
    t.equal(undecided, undefined, `seed ${seed}`);
    seen.runs++;
    seen.views += totals.views;
    seen.rollbacks += totals.rollbacks;
    seen.installed += totals.snapshotsInstalled;
    seen.crashes += totals.crashes;
  }
  t.comment(JSON.stringify({ ...seen, ...Object.fromEntries([...answers].sort()) }));
  for (const [name, count] of Object.entries(seen)) t.ok(count > 0, `${name}: ${count}`);
  for (const answer of ANSWERS) t.ok(answers.has(answer), answer);
  t.end();
});

t.test('the level is raised in the middle of a run, under all faults', (t) => {
  const answers = new Map<string, number>();
  const options = { replicas: 3, ticks: TICKS, faults: ALL, features: 0 };
  let switched = 0;
  for (const seed of seeds(8, options)) {
    const { failure, undecided, totals } = simulateWorkload({ ...options, seed }, new Watched(answers));
    t.equal(failure, undefined, `seed ${seed}: ${failure?.invariant} ${failure?.detail}`);
    t.equal(undecided, undefined, `seed ${seed}`);
    switched += totals.switched;
  }
  t.equal(switched, 8);
  const refused = answers.get('write: bad-operation') ?? 0;
  const done = answers.get('write: ok') ?? 0;
  t.ok(refused > 0 && done > 0, `${refused} writes were refused before it, ${done} executed behind it`);
  t.end();
});

t.test('clients use the store only where its level is or may be raised', (t) => {
  const options = { seed: seeds(1, { replicas: 3, features: Feature.store })[0]!, replicas: 3, ticks: TICKS };
  const run = (more: Partial<Parameters<typeof simulate>[0]>): SimulationResult =>
    simulate({ ...options, features: Feature.store, ...more });
  t.match(run({}).plan, /, operations of the store/);
  t.same(run({}).history, []);
  for (const more of [{ features: Feature.sessionQuotas }, { faults: new Set(KIND_FAULTS) }]) {
    const { plan, history } = run(more);
    t.notMatch(plan, /of the store/);
    t.ok(history.length > 0);
  }
  t.end();
});

/** The judge of a run, given executions that are changed by hand. */
class Tampered extends StoreWorkload {
  changed = 0;

  constructor(private readonly change: (execution: Execution) => Execution | undefined) {
    super();
  }

  override executed(index: number, execution: Execution | undefined): void {
    const changed = execution === undefined || this.changed > 0 ? undefined : this.change(execution);
    if (changed !== undefined) this.changed++;
    super.executed(index, changed ?? execution);
  }

  override judge(log: ChosenLog): string | undefined {
    return this.changed === 0 ? undefined : super.judge(log);
  }
}

t.test('another time, level, operation or result is noticed', (t) => {
  const options = { replicas: 3, ticks: 100_000, faults: new Set<FaultName>(['store']), features: Feature.store };
  // Of one lease nobody may see when it ends, so there are several runs.
  const tried = seeds(10, options);
  const judged = (change: (execution: Execution) => Execution | undefined): string | undefined => {
    for (const seed of tried) {
      const workload = new Tampered(change);
      const { failure } = simulateWorkload({ ...options, seed }, workload);
      if (workload.changed > 0 && failure !== undefined) return `${failure.invariant}: ${failure.detail}`;
    }
    return undefined;
  };
  const isDone = ({ operation, result }: Execution, { opcode }: { opcode: number }): boolean =>
    operation[0] === opcode && result[0] === 0;
  t.match(
    judged((of) => (isDone(of, Grant) ? { ...of, timestampLo: of.timestampLo ^ (1 << 30) } : undefined)),
    /^linearizable: entry \d+, .* the model of the store/,
    'a lease that ends half a second later',
  );
  t.match(
    judged((of) => {
      if (!isDone(of, Put)) return undefined;
      const operation = of.operation.slice();
      operation[operation.length - 1]! ^= 0x80;
      return { ...of, operation };
    }),
    /^linearizable: the client of entry \d+ sent .*; the replicas executed /,
    'another value',
  );
  t.match(
    judged((of) => (isDone(of, Write) ? { ...of, level: 0 } : undefined)),
    /^linearizable: entry \d+/,
    'a replica of level 0',
  );
  t.match(
    judged((of) => {
      if (!isDone(of, Write)) return undefined;
      const result = of.result.slice();
      result[8]!++;
      return { ...of, result };
    }),
    /^linearizable: /,
    'another revision',
  );
  t.end();
});

t.test('an operation that no client was given is one of the enemy: on its own keys, or noise', (t) => {
  const judged = (operation: Uint8Array): string | undefined => {
    const workload = new StoreWorkload();
    workload.executed(1, { level: 1, operation, result: Uint8Array.of(0), timestampHi: 1, timestampLo: 0 });
    try {
      return workload.judge({ chosenLength: 1, indexOf: () => undefined });
    } catch (error) {
      return (error as Error).message;
    }
  };
  const target = new Uint8Array(64);
  const bytesOf = (operation: ModelOperation): Uint8Array => target.slice(0, encodeModelOperation(operation, target));
  const increment = (key: string): Uint8Array => target.slice(0, encodeIncrement(target, 0, Buffer.from(key), 1));
  const refused = /the model of the store knows no client that was given this operation/;
  for (const [key, expected] of [
    ['enemy0', undefined],
    ['s0', refused],
  ] as const) {
    const operations = [bytesOf({ name: 'put', key, value: 'v' }), bytesOf({ name: 'delete', key }), increment(key)];
    t.same(
      operations.map((operation) => operation[0]),
      [Put.opcode, Delete.opcode, Increment.opcode],
    );
    for (const operation of operations) {
      const verdict = judged(operation);
      if (expected === undefined) t.equal(verdict, undefined, `${operation}`);
      else t.match(verdict, expected, `${operation}`);
    }
  }
  t.equal(judged(new Uint8Array(0)), undefined);
  t.equal(judged(Uint8Array.of(NOISE, 1, 2)), undefined);
  t.match(judged(bytesOf({ name: 'grant', ttl: 5 })), refused, 'no enemy speaks level 1');
  t.end();
});
