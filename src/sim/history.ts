/**
 * Histories: what the clients of a key-value store requested and saw, one event per line, in real-time order.
 *
 *     {"process":3,"type":"invoke","f":"cas","key":"k","value":["a","b"],"time":1200}
 *     {"process":3,"type":"ok","f":"cas","key":"k","value":["a","b"],"result":true,"time":3400}
 *
 * The rule it guards: a history that passes can be judged. Each process has one operation open at a time, every
 * completion belongs to an invocation, time never runs backwards, and a process with an unknown outcome (`info`) never
 * appears again. A violation is refused with its line and what was expected there.
 */
import { JitPaxosError } from '../errors.js';

/** The value of a key; `null`: absent. Numbers are safe integers. */
export type HistoryValue = string | number | null;
export type HistoryFunction = 'read' | 'write' | 'cas' | 'increment';
/** `fail`: certainly not applied. `info`: unknown, may take effect at any later time or never. */
export type HistoryEventType = 'invoke' | 'ok' | 'fail' | 'info';

export interface HistoryEvent {
  /** One logical client. */
  process: number;
  type: HistoryEventType;
  f: HistoryFunction;
  key: string;
  /**
   * write: the value written (`null` deletes). cas: `[expected, new]`. increment: the amount. read: `null`, and in `ok`
   * the value seen. Completions of write, cas and increment repeat it.
   */
  value: HistoryValue | [HistoryValue, HistoryValue];
  /** In `ok` of cas: whether it was set. In `ok` of increment: the new value. */
  result?: boolean | number;
  /** Nanoseconds since any fixed moment. */
  time: number;
}

/** An invocation with its outcome. */
export interface HistoryOperation {
  process: number;
  f: HistoryFunction;
  key: string;
  value: HistoryValue | [HistoryValue, HistoryValue];
  outcome: 'ok' | 'fail' | 'info';
  result?: boolean | number;
  /** Positions of the two events, from 0. `completed` is Infinity for `info`. */
  invoked: number;
  completed: number;
  invokedNs: number;
  /** `null` for `info`. */
  completedNs: number | null;
}

/** The lines or records are no history of operations; the message says what is wrong with which. */
export class HistoryError extends JitPaxosError {
  override readonly name = 'HistoryError';
  declare readonly code: 'history-malformed';
  /** From 1: the line of a file, or the position in a sequence of events. */
  readonly line: number;

  constructor(line: number, problem: string) {
    super('history-malformed', `history line ${line}: ${problem}; correct the recorder or the file`);
    this.line = line;
  }
}

/** Longer lines are refused. */
export const HISTORY_LINE_CHARS_MAX = 1 << 20;

const TYPES: readonly string[] = ['invoke', 'ok', 'fail', 'info'];
const FUNCTIONS: readonly string[] = ['read', 'write', 'cas', 'increment'];
const FIELDS: readonly string[] = ['process', 'type', 'f', 'key', 'value', 'result', 'time'];

/** One event as a line, without the line break. */
export function formatHistoryEvent(event: HistoryEvent): string {
  const { process, type, f, key, value, result, time } = event;
  return JSON.stringify(
    result === undefined ? { process, type, f, key, value, time } : { process, type, f, key, value, result, time },
  );
}

export function formatHistory(events: Iterable<HistoryEvent>): string {
  let text = '';
  for (const event of events) text += `${formatHistoryEvent(event)}\n`;
  return text;
}

/** Reads a whole file's text. Throws `HistoryError`. */
export function parseHistory(text: string): HistoryEvent[] {
  const reader = new HistoryReader();
  const events: HistoryEvent[] = [];
  for (const line of text.split('\n')) {
    const event = reader.read(line);
    if (event !== null) events.push(event);
  }
  return events;
}

/** Reads line by line, for histories that do not fit a string. */
export class HistoryReader {
  readonly #order = new HistoryOrder();
  #line = 0;

  /** The event of the next line; `null` for a blank one. Throws `HistoryError`. */
  read(line: string): HistoryEvent | null {
    this.#line++;
    if (line.length > HISTORY_LINE_CHARS_MAX)
      throw new HistoryError(this.#line, `${line.length} characters, at most ${HISTORY_LINE_CHARS_MAX} expected`);
    if (line.trim() === '') return null;
    let parsed: unknown;
    try {
      parsed = JSON.parse(line);
    } catch {
      throw new HistoryError(this.#line, 'not JSON, one object a line expected');
    }
    const event = checkEvent(parsed, this.#line);
    this.#order.add(event, this.#line);
    return event;
  }
}

/**
 * Pairs invocations with their completions, in the order of invocation. Throws `HistoryError`, counting events as
 * lines.
 */
export function collectOperations(events: Iterable<HistoryEvent>): HistoryOperation[] {
  const order = new HistoryOrder();
  const operations: HistoryOperation[] = [];
  let position = 0;
  for (const event of events) {
    const opened = order.add(checkEvent(event, position + 1), position + 1);
    if (opened !== null) operations.push(opened);
    position++;
  }
  return operations;
}

/** Knows which operations are open, and refuses an event that does not fit. */
class HistoryOrder {
  readonly #open = new Map<number, HistoryOperation>();
  readonly #ended = new Set<number>();
  #position = 0;
  #lastTime = -Infinity;

  /** Returns the operation that an invocation opens, which its completion later updates; `null` for a completion. */
  add(event: HistoryEvent, line: number): HistoryOperation | null {
    const { process, type, f, key, value, time } = event;
    if (time < this.#lastTime)
      throw new HistoryError(
        line,
        `time ${time} is before ${this.#lastTime} on the line above, real-time order expected`,
      );
    if (this.#ended.has(process))
      throw new HistoryError(line, `process ${process} ended with an unknown outcome, a new process number expected`);
    const open = this.#open.get(process);
    this.#lastTime = time;
    const position = this.#position++;
    if (type === 'invoke') {
      if (open !== undefined)
        throw new HistoryError(
          line,
          `process ${process} has an operation open (${open.f} of "${open.key}"), its completion expected`,
        );
      const operation: HistoryOperation = {
        process,
        f,
        key,
        value,
        outcome: 'info',
        invoked: position,
        completed: Infinity,
        invokedNs: time,
        completedNs: null,
      };
      this.#open.set(process, operation);
      return operation;
    }
    if (open === undefined)
      throw new HistoryError(line, `process ${process} has no operation open, an invoke expected`);
    if (open.f !== f || open.key !== key) {
      throw new HistoryError(
        line,
        `${f} of "${key}" does not complete what process ${process} invoked, ${open.f} of "${open.key}" expected`,
      );
    }
    if (f !== 'read' && JSON.stringify(open.value) !== JSON.stringify(value)) {
      throw new HistoryError(
        line,
        `value ${JSON.stringify(value)} is not the one invoked, ${JSON.stringify(open.value)} expected`,
      );
    }
    this.#open.delete(process);
    if (type === 'info') {
      this.#ended.add(process);
      return null;
    }
    open.outcome = type;
    open.completed = position;
    open.completedNs = time;
    if (type === 'ok') {
      open.value = value;
      if (event.result !== undefined) open.result = event.result;
    }
    return null;
  }
}

function checkEvent(candidate: unknown, line: number): HistoryEvent {
  if (typeof candidate !== 'object' || candidate === null || Array.isArray(candidate))
    throw new HistoryError(line, 'an object expected');
  const fields = candidate as Record<string, unknown>;
  for (const name of Object.keys(fields)) {
    if (!FIELDS.includes(name))
      throw new HistoryError(line, `unknown field "${name}", one of ${FIELDS.join(', ')} expected`);
  }
  const { process, type, f, key, result, time } = fields;
  const value = fields['value'] === undefined && f === 'read' ? null : fields['value'];
  const refuse = (name: string, expected: string): HistoryError =>
    new HistoryError(line, `${name} is ${JSON.stringify(fields[name]) ?? 'missing'}, ${expected} expected`);
  if (!Number.isSafeInteger(process) || (process as number) < 0) throw refuse('process', 'a whole number from 0');
  if (typeof type !== 'string' || !TYPES.includes(type)) throw refuse('type', TYPES.join(', '));
  if (typeof f !== 'string' || !FUNCTIONS.includes(f)) throw refuse('f', FUNCTIONS.join(', '));
  if (typeof key !== 'string') throw refuse('key', 'a string');
  if (typeof time !== 'number' || !Number.isFinite(time) || time < 0) throw refuse('time', 'nanoseconds from 0');

  if (f === 'cas') {
    if (!Array.isArray(value) || value.length !== 2 || !value.every(isValue))
      throw refuse('value', 'a pair [expected, new] of strings, integers or nulls');
  } else if (f === 'increment') {
    if (!Number.isSafeInteger(value)) throw refuse('value', 'a safe integer');
  } else if (f === 'read' && type !== 'ok') {
    if (value !== null) throw refuse('value', 'null before the read is answered');
  } else if (!isValue(value)) throw refuse('value', 'a string, a safe integer or null');

  if (type === 'ok' && f === 'cas') {
    if (typeof result !== 'boolean') throw refuse('result', 'true or false');
  } else if (type === 'ok' && f === 'increment') {
    if (!Number.isSafeInteger(result)) throw refuse('result', 'a safe integer');
  } else if (result !== undefined) throw refuse('result', 'none');

  const event = { process, type, f, key, value, time } as HistoryEvent;
  if (result !== undefined) event.result = result as boolean | number;
  return event;
}

function isValue(value: unknown): value is HistoryValue {
  return value === null || typeof value === 'string' || Number.isSafeInteger(value);
}
