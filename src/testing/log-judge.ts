/**
 * Judges a run by its chosen log: every operation is replayed in the order in which the replicas executed it, by the
 * user's model or by a machine that was never restored, and each result must be the one that a client was told.
 *
 * The order is known, so nothing is searched, and the answer is never a guess. Three things are checked:
 * - the result of each entry is that of the replay, and what its client was told;
 * - the order respects real time: an operation that had ended before another one began stands before it;
 * - each read gives the state behind some entry between those that had ended before it and those that began after it,
 *   and reads that follow each other do not go back.
 */
import type { StateMachine } from '../machine/state-machine.js';
import { describeBytes, sameBytes, sameResult } from './bytes.js';
import type { Execution } from './checked-machine.js';
import type { Faults } from './fault.js';
import { stepOf, type Model } from './model.js';
import type { ChosenLog, SimulatedOperation } from './workload.js';

/** Executes a log from its beginning. Undefined: any result is right. */
export interface Replay {
  /** What it is, for texts. */
  readonly name: string;
  apply(execution: Execution, index: number): Uint8Array | undefined;
  query(operation: Uint8Array, index: number): Uint8Array | undefined;
}

export class ModelReplay<State> implements Replay {
  readonly name = 'the model';
  private state: State;

  constructor(
    private readonly model: Model<State>,
    private readonly faults: Faults,
  ) {
    this.state = faults.guard('model-threw', 'model.initial', () => model.initial());
  }

  apply({ operation }: Execution): Uint8Array | undefined {
    const step = this.step(operation, false);
    this.state = step.state;
    return step.result;
  }

  query(operation: Uint8Array): Uint8Array | undefined {
    return this.step(operation, true).result;
  }

  private step(operation: Uint8Array, isQuery: boolean): ReturnType<Model<State>['apply']> {
    const what = `the model, given ${describeBytes(operation)},`;
    const { faults, model, state } = this;
    return faults.guard('model-threw', what, () => stepOf(model, state, operation.slice(), isQuery));
  }
}

export class MachineReplay implements Replay {
  readonly name = 'a machine that executed the same log without a restore';
  private level = 0;

  /**
   * @param capacity room for a result, bytes
   * @param firstLevel that the replicas raised their machines to before the first entry
   * @param guard calls the machine, and reports what it throws
   */
  constructor(
    private readonly machine: StateMachine,
    private readonly capacity: number,
    firstLevel: number,
    private readonly guard: <T>(call: () => T) => T,
  ) {
    this.raise(firstLevel);
  }

  apply({ level, operation, timestampHi, timestampLo }: Execution, index: number): Uint8Array {
    this.raise(level);
    return this.call('apply', operation, timestampHi, timestampLo, index);
  }

  query(operation: Uint8Array, index: number): Uint8Array {
    return this.call('query', operation, 0, 0, index);
  }

  private raise(level: number): void {
    if (level <= this.level) return;
    this.level = level;
    this.guard(() => this.machine.raise?.(level));
  }

  private call(
    call: 'apply' | 'query',
    bytes: Uint8Array,
    timestampHi: number,
    timestampLo: number,
    index: number,
  ): Uint8Array {
    const { capacity } = this;
    const reply = { bytes: new Uint8Array(capacity), offset: 0, capacity, length: 0 };
    const operation = { bytes: bytes.slice(), offset: 0, length: bytes.length };
    this.guard(() => this.machine[call](operation, { timestampHi, timestampLo, index }, reply));
    return reply.bytes.slice(reply.offset, reply.offset + reply.length);
  }
}

/** A read, and the entries behind which it may have seen the state. */
interface Read {
  readonly operation: SimulatedOperation;
  readonly from: number;
  readonly to: number;
  placed: boolean;
}

/**
 * Reports what is wrong to `faults`, and throws. Returns what could not be decided, if anything.
 * @param executions by index: what the replicas executed there; null: nothing that reaches the machine
 */
export function judgeLog(
  operations: readonly SimulatedOperation[],
  log: ChosenLog,
  executions: readonly (Execution | null | undefined)[],
  replay: Replay,
  faults: Faults,
): string | undefined {
  const placed = place(operations, log);
  const byIndex = new Map(placed.map((each) => [each.index, each.operation]));
  checkRealTime(placed, faults);
  const waiting = reads(operations, placed, log.chosenLength);
  let begun = 0;
  let active: Read[] = [];
  for (let index = 0; index <= log.chosenLength; index++) {
    if (index > 0) {
      const execution = executions[index];
      if (execution === undefined)
        return `entry ${index} of ${log.chosenLength} was executed by no replica one by one, so results from there on were not compared`;
      if (execution !== null) checkEntry(execution, index, byIndex.get(index), replay, faults);
    }
    while (begun < waiting.length && waiting[begun]!.from <= index) active.push(waiting[begun++]!);
    if (active.length === 0) continue;
    active.sort((a, b) => a.operation.invoked - b.operation.invoked);
    for (const read of active) {
      if (active.some((other) => !other.placed && other.operation.completed < read.operation.invoked)) continue;
      const expected = replay.query(read.operation.operation, index);
      read.placed = expected === undefined || sameBytes(expected, read.operation.result!);
    }
    active = active.filter((read) => !read.placed);
    const late = active.find((read) => read.to <= index);
    if (late !== undefined) refuseRead(late, replay.query(late.operation.operation, index), index, replay, faults);
  }
  return undefined;
}

interface Placed {
  readonly operation: SimulatedOperation;
  readonly index: number;
}

/** Operations with their entries in the chosen log, in the order of invocation. */
function place(operations: readonly SimulatedOperation[], log: ChosenLog): Placed[] {
  const placed: Placed[] = [];
  for (const operation of operations) {
    const { sent, isQuery } = operation;
    if (isQuery || sent === undefined || sent.request === 0) continue;
    const index = log.indexOf(sent.sessionHi, sent.sessionLo, sent.lane, sent.request);
    if (index !== undefined) placed.push({ operation, index });
  }
  return placed;
}

function checkRealTime(placed: readonly Placed[], faults: Faults): void {
  const byCompletion = [...placed].sort((a, b) => a.operation.completed - b.operation.completed);
  let ended = 0;
  let highest: Placed | undefined;
  for (const each of placed) {
    for (; byCompletion[ended]!.operation.completed < each.operation.invoked; ended++)
      if (highest === undefined || byCompletion[ended]!.index > highest.index) highest = byCompletion[ended]!;
    if (highest !== undefined && highest.index > each.index)
      faults.report(
        'protocol',
        `entry ${highest.index} had been answered before the operation of entry ${each.index} was sent`,
      );
  }
}

/** The reads that were answered, by the first entry behind which each may stand. */
function reads(operations: readonly SimulatedOperation[], placed: readonly Placed[], length: number): Read[] {
  return operations
    .filter(({ isQuery, result }) => isQuery && result !== undefined)
    .map((operation) => {
      let from = 0;
      let to = length;
      for (const { operation: other, index } of placed) {
        if (other.completed < operation.invoked) from = Math.max(from, index);
        else if (other.invoked > operation.completed) to = Math.min(to, index - 1);
      }
      return { operation, from, to, placed: false };
    })
    .sort((a, b) => a.from - b.from);
}

function checkEntry(
  execution: Execution,
  index: number,
  operation: SimulatedOperation | undefined,
  replay: Replay,
  faults: Faults,
): void {
  const told = operation?.result;
  if (told !== undefined && !sameBytes(told, execution.result))
    faults.report(
      'protocol',
      `the client of entry ${index} was told ${describeBytes(told)}; the replicas executed it with ${describeBytes(execution.result)}`,
    );
  const expected = replay.apply(execution, index);
  if (expected === undefined || sameResult(expected, execution.result)) return;
  faults.report(
    replay instanceof ModelReplay ? 'model-disagrees' : 'results-differ',
    `entry ${index}, ${describeBytes(execution.operation)}: the machine answered ${describeBytes(execution.result)}, ${replay.name} ${describeBytes(expected)}`,
  );
}

function refuseRead(
  read: Read,
  expected: Uint8Array | undefined,
  index: number,
  replay: Replay,
  faults: Faults,
): never {
  const { operation, result, client } = read.operation;
  return faults.report(
    replay instanceof ModelReplay ? 'model-disagrees' : 'results-differ',
    `query ${describeBytes(operation)} of client ${client}: the machine answered ${describeBytes(result!)}; behind none of the entries ${read.from} to ${read.to} ${replay.name} gives that${expected === undefined ? '' : `, behind ${index} it gives ${describeBytes(expected)}`}`,
  );
}
