/** What the log of a user's machine is judged by: the user's model, or another machine that is never restored. */
import type { StateMachine } from '../machine/state-machine.js';
import { describeBytes, sameBytes, sameResult } from '../sim/bytes.js';
import type { Execution } from '../sim/execution.js';
import type { Replay } from '../sim/log-judge.js';
import type { Faults } from './fault.js';
import { stepOf, type Model } from './model.js';

export class ModelReplay<State> implements Replay {
  readonly name = 'the model';
  private state: State;

  constructor(
    private readonly model: Model<State>,
    private readonly faults: Faults,
  ) {
    this.state = faults.guard('model-threw', 'model.initial', () => model.initial());
  }

  apply({ operation, result }: Execution): string | undefined {
    const step = this.step(operation, false);
    this.state = step.state;
    return step.result === undefined || sameResult(step.result, result) ? undefined : describeBytes(step.result);
  }

  query(operation: Uint8Array, _index: number, result: Uint8Array): string | undefined {
    const expected = this.step(operation, true).result;
    return expected === undefined || sameBytes(expected, result) ? undefined : describeBytes(expected);
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

  apply({ level, operation, timestampHi, timestampLo, result }: Execution, index: number): string | undefined {
    this.raise(level);
    return difference(this.call('apply', operation, timestampHi, timestampLo, index), result);
  }

  query(operation: Uint8Array, index: number, result: Uint8Array): string | undefined {
    return difference(this.call('query', operation, 0, 0, index), result);
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

function difference(expected: Uint8Array, result: Uint8Array): string | undefined {
  return sameBytes(expected, result) ? undefined : describeBytes(expected);
}
