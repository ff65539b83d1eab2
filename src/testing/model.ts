/** A sequential model: what one operation after another must do, whatever order a cluster chose. */
import { types } from 'node:util';
import type { ApplyContext, Reply, StateMachine } from '../machine/state-machine.js';
import { JitPaxosError } from '../errors.js';

/** What an operation does to a state of a model. */
export interface ModelStep<State, Result = Uint8Array> {
  readonly state: State;
  /** The result that a client must have seen; undefined: any result is right. */
  readonly result: Result | undefined;
}

/**
 * What is right: a pure function from a state and an operation to the next state and a result. `apply` and `query` must
 * not change the state that they are given.
 */
export interface Model<State, Operation = Uint8Array, Result = Uint8Array> {
  /** The state before the first operation. */
  initial(): State;
  apply(state: State, operation: Operation): ModelStep<State, Result>;
  /** Answers a read. Undefined: any result is right. Default: the result of `apply`, whose state is dropped. */
  query?(state: State, operation: Operation): Result | undefined;
  /**
   * A text that is equal for two states if they behave alike. Default: made from the content of the state, which must
   * then consist of primitives, plain objects, arrays, Map, Set and Uint8Array.
   */
  key?(state: State): string;
}

/** What `operation` gives in a state of the model; a query leaves the state as it is. */
export function stepOf<State, Operation, Result>(
  model: Model<State, Operation, Result>,
  state: State,
  operation: Operation,
  isQuery: boolean,
): ModelStep<State, Result> {
  if (!isQuery) return model.apply(state, operation);
  return {
    state,
    result: model.query === undefined ? model.apply(state, operation).result : model.query(state, operation),
  };
}

/**
 * Makes a model of a state machine, for `checkHistory`: a state is a snapshot, which is restored before each operation,
 * so a large state costs time. Results are at most 48 KiB long. Index and timestamp of the context are not part of a
 * history: if the machine uses them, write a model of your own.
 *
 * The model throws JitPaxosError `option-invalid` when the machine reads index or timestamp, and what the machine throws.
 */
export function machineModel(machine: () => StateMachine): Model<Uint8Array> {
  const scratch = machine();
  const first = scratch.snapshot().slice();
  const reply: Reply = { bytes: new Uint8Array(RESULT_BYTES_MAX), offset: 0, capacity: RESULT_BYTES_MAX, length: 0 };
  const run = (state: Uint8Array, operation: Uint8Array, call: 'apply' | 'query'): Uint8Array => {
    scratch.restore(state);
    const { bytes } = reply;
    reply.offset = 0;
    reply.length = 0;
    scratch[call]({ bytes: operation, offset: 0, length: operation.length }, new UnknownContext(), reply);
    const result = reply.bytes.slice(reply.offset, reply.offset + reply.length);
    reply.bytes = bytes;
    return result;
  };
  return {
    initial: () => first,
    apply: (state, operation) => {
      const result = run(state, operation, 'apply');
      return { result, state: scratch.snapshot().slice() };
    },
    query: (state, operation) => run(state, operation, 'query'),
  };
}

/** Room for a result of a machine that is used as a model, bytes: that of the default limits. */
const RESULT_BYTES_MAX = 48 * 1024;

/** What replicas agree on and clients do not know. */
class UnknownContext implements ApplyContext {
  get index(): number {
    throw contextRead('index');
  }
  get timestampHi(): number {
    throw contextRead('timestampHi');
  }
  get timestampLo(): number {
    throw contextRead('timestampLo');
  }
}

function contextRead(field: string): JitPaxosError {
  return new JitPaxosError(
    'option-invalid',
    `the machine reads context.${field}, which is not part of a history; give a model of your own, with the result undefined where it depends on ${field}`,
  );
}

/**
 * The default of `Model.key`. Throws JitPaxosError `option-invalid` for a value whose content cannot be seen from
 * outside.
 */
export function contentKey(value: unknown): string {
  const parts: string[] = [];
  write(parts, value);
  return parts.join('');
}

function write(parts: string[], value: unknown): void {
  if (typeof value === 'string') parts.push(String(value.length), '"', value);
  else if (typeof value === 'bigint') parts.push(`${value}n;`);
  else if (typeof value !== 'object' && typeof value !== 'function' && typeof value !== 'symbol')
    parts.push(Object.is(value, -0) ? '-0' : String(value), ';');
  else if (value === null) parts.push('null;');
  else if (value instanceof Uint8Array) {
    parts.push(`b${value.length}:`);
    for (const byte of value) parts.push(String.fromCharCode(byte));
  } else if (Array.isArray(value)) list(parts, '[', value);
  // In the order of insertion: a model may depend on it.
  else if (types.isMap(value)) list(parts, 'M[', [...value].flat(1));
  else if (types.isSet(value)) list(parts, 'S[', [...value]);
  else if (typeof value === 'object' && isPlain(value)) {
    const entries = Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1));
    list(parts, '{', entries.flat(1));
  } else
    throw new JitPaxosError(
      'option-invalid',
      `a state of the model holds ${typeof value === 'object' ? `an object of class ${value.constructor.name}` : `a ${typeof value}`}, whose content cannot be compared; give the model a function key(state)`,
    );
}

function list(parts: string[], opening: string, values: readonly unknown[]): void {
  parts.push(opening, String(values.length), ':');
  for (const value of values) write(parts, value);
  parts.push(']');
}

function isPlain(value: object): boolean {
  const prototype: unknown = Object.getPrototypeOf(value);
  return prototype === Object.prototype || prototype === null;
}
