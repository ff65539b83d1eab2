/**
 * Decides whether a history is linearizable under a model that the user gives: whether each operation can be given one
 * moment between its invocation and its completion at which it took effect, so that the results are those of the model.
 *
 * The search is that of Wing & Gong (1993) with Lowe's memory of configurations (2017): it builds the order operation by
 * operation. The next one may be any operation that was invoked before every remaining one had completed. A
 * configuration is the set of operations ordered so far and the state after them; one that failed is not tried again.
 *
 * - A query that fits is ordered at once: it changes no state, now or later, so nothing can be lost by that.
 * - The ordered operations are represented by what is missing below the newest one.
 * - An operation of unknown outcome may take effect at any time after its invocation, or never. A configuration that has
 *   used more of them than an equal one tried before can achieve nothing that the other could not.
 *
 * The rule it guards: every answer is proven. A search that outgrows its bound ends in `undecided`.
 */
import { JitPaxosError } from '../errors.js';
import { checkInteger, checkKeys, optionNames } from '../host/options.js';
import { describeBytes, sameResult } from '../sim/bytes.js';
import { checkRecords, type RecordedOperation } from './history.js';
import { contentKey, stepOf, type Model } from './model.js';

/** By what a history is judged, and how long. */
export interface CheckHistoryOptions<State, Operation = Uint8Array, Result = Uint8Array> {
  readonly model: Model<State, Operation, Result>;
  /**
   * The part of the state that an operation is about, such as its key. Parts are judged one by one, each from the
   * model's initial state. Give it only if no operation touches two parts. Default: one part.
   */
  readonly partition?: (operation: Operation) => string;
  /**
   * Configurations examined in one part before the answer is `undecided`, 1 to 100,000,000. Default 500,000: some
   * seconds, and some hundred megabytes.
   */
  readonly maxConfigurations?: number;
  /** An operation or a result as text, for the verdict. Default: bytes in hexadecimal, anything else as JSON. */
  readonly describe?: (value: Operation | Result) => string;
}

/** What `checkHistory` found. `text` says it in words, over several lines for a violation. */
export type HistoryVerdict<Operation = Uint8Array, Result = Uint8Array> =
  | {
      readonly outcome: 'linearizable';
      readonly operations: number;
      readonly partitions: number;
      readonly configurations: number;
      readonly text: string;
    }
  | {
      readonly outcome: 'violation';
      /** The part that is not linearizable; the empty text without `partition`. */
      readonly partition: string;
      /** An operation that could not be placed behind `prefix`. */
      readonly blocked: RecordedOperation<Operation, Result>;
      /** The longest order that was found of what completed before `blocked`. */
      readonly prefix: readonly RecordedOperation<Operation, Result>[];
      readonly configurations: number;
      readonly text: string;
    }
  | {
      readonly outcome: 'undecided';
      readonly partition: string;
      readonly operations: number;
      readonly configurations: number;
      readonly text: string;
    };

const MAX_CONFIGURATIONS = 500_000;
const MAX_CONFIGURATIONS_MAX = 100_000_000;
const PREFIX_SHOWN = 8;

const OPTION_NAMES = optionNames<CheckHistoryOptions<unknown>>({
  model: true,
  partition: true,
  maxConfigurations: true,
  describe: true,
});

/**
 * Judges a whole history. A violation in any part outweighs an undecided other one. The records may be in any order.
 *
 * Throws JitPaxosError `option-invalid`; HistoryError `history-malformed` if a record has no times, or completes before
 * it begins; and what the model throws.
 */
export function checkHistory<State, Operation = Uint8Array, Result = Uint8Array>(
  history: Iterable<RecordedOperation<Operation, Result>>,
  options: CheckHistoryOptions<State, Operation, Result>,
): HistoryVerdict<Operation, Result> {
  checkKeys('option-invalid', 'checkHistory', options, OPTION_NAMES);
  const { model, partition = () => '', describe = describeAny } = options;
  if (typeof model?.apply !== 'function' || typeof model.initial !== 'function')
    throw new JitPaxosError('option-invalid', 'checkHistory: model has to have the functions initial and apply');
  const maxConfigurations = checkInteger(
    'option-invalid',
    'checkHistory: maxConfigurations',
    options.maxConfigurations ?? MAX_CONFIGURATIONS,
    1,
    MAX_CONFIGURATIONS_MAX,
  );
  const records = [...history];
  checkRecords(records);
  const parts = new Map<string, RecordedOperation<Operation, Result>[]>();
  for (const record of records) {
    const name = partition(record.operation);
    const part = parts.get(name);
    if (part === undefined) parts.set(name, [record]);
    else part.push(record);
  }
  let undecided: HistoryVerdict<Operation, Result> | undefined;
  let configurations = 0;
  for (const [name, part] of parts) {
    const search = new Search(part, model, maxConfigurations);
    const outcome = search.run();
    configurations += search.configurations;
    if (outcome === 'violation') return violation(name, search, describe);
    if (outcome === 'undecided')
      undecided ??= {
        outcome,
        partition: name,
        operations: part.length,
        configurations: search.configurations,
        text: `undecided: ${inPart(name)}${part.length} operations were not decided within ${maxConfigurations} configurations; raise maxConfigurations, give a partition, or record with fewer operations at once and fewer unknown outcomes`,
      };
  }
  return (
    undecided ?? {
      outcome: 'linearizable',
      operations: records.length,
      partitions: parts.size,
      configurations,
      text: `linearizable: ${records.length} operations in ${parts.size} parts (${configurations} configurations examined)`,
    }
  );
}

/** One operation, with the states it leads to. */
interface Step<Operation, Result> {
  readonly record: RecordedOperation<Operation, Result>;
  readonly invoked: number;
  /** Infinity: unknown outcome. */
  readonly completed: number;
  /** By state: the state that it leaves behind, or −1 if its result rules it out there. */
  readonly after: Map<number, number>;
}

/** The order so far, newest first. Shared between configurations. */
interface Path<Operation, Result> {
  readonly step: Step<Operation, Result>;
  readonly before: Path<Operation, Result> | undefined;
}

/** One configuration on the search path, and what is left to try from it. */
interface Frame<Operation, Result> {
  readonly state: number;
  path: Path<Operation, Result> | undefined;
  /** One above the newest ordered index. */
  high: number;
  /** Indexes to try next: of `required` from 0 up, of `optional` as −1 − index. */
  readonly choices: number[];
  tried: number;
  /** Removed from the list when this frame was entered, in this order. */
  readonly unlinked: number[];
  /** Index in `optional` that led here, or −1. */
  readonly used: number;
}

class Search<State, Operation, Result> {
  configurations = 0;
  blocked: RecordedOperation<Operation, Result> | undefined;
  private bestCompleted = -Infinity;
  private bestPath: Path<Operation, Result> | undefined;
  /** Known outcomes, by invocation; a list through `next` and `previous` holds those that are not ordered yet. */
  private readonly required: readonly Step<Operation, Result>[];
  private readonly optional: readonly Step<Operation, Result>[];
  private readonly next: Int32Array;
  private readonly previous: Int32Array;
  private readonly used: Uint32Array;
  private readonly states: State[] = [];
  private readonly keys: string[] = [];
  private readonly stateIds = new Map<string, number>();
  /** By what is missing and the state: the sets of unknown operations with which it was tried. */
  private readonly seen = new Map<string, Uint32Array[]>();
  private readonly keyOf: (state: State) => string;

  constructor(
    records: readonly RecordedOperation<Operation, Result>[],
    private readonly model: Model<State, Operation, Result>,
    private readonly maxConfigurations: number,
  ) {
    this.keyOf = model.key === undefined ? contentKey : (state) => model.key!(state);
    const steps = records
      .map((record) => ({ record, invoked: record.invoked, completed: record.completed ?? Infinity, after: new Map() }))
      .sort((a, b) => a.invoked - b.invoked);
    this.required = steps.filter(({ completed }) => completed !== Infinity);
    // A read that nobody saw the result of changes nothing.
    this.optional = steps.filter(({ completed, record }) => completed === Infinity && record.isQuery !== true);
    const end = this.required.length;
    this.next = Int32Array.from({ length: end + 1 }, (_, i) => (i === end ? 0 : i + 1));
    this.previous = Int32Array.from({ length: end + 1 }, (_, i) => (i === 0 ? end : i - 1));
    this.used = new Uint32Array(Math.ceil(this.optional.length / 32));
  }

  run(): 'linearizable' | 'violation' | 'undecided' {
    const frames: Frame<Operation, Result>[] = [];
    let done = this.enter(frames, this.idOf(this.model.initial()), 0, undefined, -1, -1);
    while (!done && frames.length > 0) {
      if (this.configurations > this.maxConfigurations) return 'undecided';
      const frame = frames[frames.length - 1]!;
      if (frame.tried === frame.choices.length) {
        this.leave(frame);
        frames.pop();
        continue;
      }
      const choice = frame.choices[frame.tried++]!;
      const used = choice < 0 ? -1 - choice : -1;
      const step = choice >= 0 ? this.required[choice]! : this.optional[used]!;
      const path = { step, before: frame.path };
      done = this.enter(frames, this.after(step, frame.state), frame.high, path, choice, used);
    }
    return done ? 'linearizable' : 'violation';
  }

  /** The longest order that was found, oldest first. */
  prefix(): RecordedOperation<Operation, Result>[] {
    const prefix: RecordedOperation<Operation, Result>[] = [];
    for (let path = this.bestPath; path !== undefined; path = path.before) prefix.push(path.step.record);
    return prefix.reverse();
  }

  /** Makes a choice, and pushes a frame with what may come next unless that is known to fail. True: all are ordered. */
  private enter(
    frames: Frame<Operation, Result>[],
    state: number,
    high: number,
    path: Path<Operation, Result> | undefined,
    choice: number,
    used: number,
  ): boolean {
    this.configurations++;
    const { required, next } = this;
    const end = required.length;
    const frame: Frame<Operation, Result> = { state, path, high, choices: [], tried: 0, unlinked: [], used };
    if (used >= 0) this.used[used >>> 5]! |= 1 << (used & 31);
    if (choice >= 0) this.unlink(choice, frame);
    // Every operation on this walk was invoked before the first remaining completion, so it may come next.
    let firstCompleted = Infinity;
    let frontier = -1;
    for (let i = next[end]!; i !== end; i = next[i]!) {
      const step = required[i]!;
      if (step.invoked > firstCompleted) break;
      const after = this.after(step, state);
      if (after === state && step.record.isQuery === true) {
        this.unlink(i, frame);
        frame.path = { step, before: frame.path };
        continue;
      }
      if (after >= 0) frame.choices.push(i);
      if (step.completed < firstCompleted) {
        firstCompleted = step.completed;
        frontier = i;
      }
    }
    if (frontier < 0) return true;
    if (firstCompleted > this.bestCompleted) {
      this.bestCompleted = firstCompleted;
      this.blocked = required[frontier]!.record;
      this.bestPath = frame.path;
    }
    if (this.isKnown(frame)) {
      this.leave(frame);
      return false;
    }
    // Earliest completion first: it can wait least.
    frame.choices.sort((a, b) => required[a]!.completed - required[b]!.completed);
    for (let i = 0; i < this.optional.length && this.optional[i]!.invoked <= firstCompleted; i++) {
      if ((this.used[i >>> 5]! & (1 << (i & 31))) === 0 && this.after(this.optional[i]!, state) !== state)
        frame.choices.push(-1 - i);
    }
    frames.push(frame);
    return false;
  }

  private leave(frame: Frame<Operation, Result>): void {
    for (let i = frame.unlinked.length - 1; i >= 0; i--) {
      const index = frame.unlinked[i]!;
      this.next[this.previous[index]!] = index;
      this.previous[this.next[index]!] = index;
    }
    if (frame.used >= 0) this.used[frame.used >>> 5]! &= ~(1 << (frame.used & 31));
  }

  private unlink(index: number, frame: Frame<Operation, Result>): void {
    this.next[this.previous[index]!] = this.next[index]!;
    this.previous[this.next[index]!] = this.previous[index]!;
    frame.unlinked.push(index);
    if (index >= frame.high) frame.high = index + 1;
  }

  /** Whether a configuration at least as free as this one was tried before; if not, this one is recorded. */
  private isKnown(frame: Frame<Operation, Result>): boolean {
    let name = `${frame.state}:${frame.high}`;
    for (let i = this.next[this.required.length]!; i < frame.high; i = this.next[i]!) name += `,${i}`;
    const sets = this.seen.get(name);
    if (sets === undefined) {
      this.seen.set(name, [this.used.slice()]);
      return false;
    }
    // Long lists take as much time as configurations, so they count towards the bound too.
    this.configurations += sets.length >>> 5;
    for (const set of sets) if (set.every((word, i) => (word & ~this.used[i]!) === 0)) return true;
    sets.push(this.used.slice());
    return false;
  }

  private after(step: Step<Operation, Result>, state: number): number {
    const known = step.after.get(state);
    if (known !== undefined) return known;
    const { operation, isQuery, result } = step.record;
    const before = this.states[state]!;
    const given = stepOf(this.model, before, operation, isQuery === true);
    if (this.keyOf(before) !== this.keys[state])
      throw new JitPaxosError(
        'option-invalid',
        'the model changed the state that it was given; it has to return a new one',
      );
    const fits = step.completed === Infinity || given.result === undefined || sameResult(given.result, result);
    const after = fits ? this.idOf(given.state) : -1;
    step.after.set(state, after);
    return after;
  }

  private idOf(state: State): number {
    const key = this.keyOf(state);
    const known = this.stateIds.get(key);
    if (known !== undefined) return known;
    this.stateIds.set(key, this.states.length);
    this.keys.push(key);
    return this.states.push(state) - 1;
  }
}

function violation<State, Operation, Result>(
  partition: string,
  search: Search<State, Operation, Result>,
  describe: (value: Operation | Result) => string,
): HistoryVerdict<Operation, Result> {
  const blocked = search.blocked!;
  const prefix = search.prefix();
  const line = ({ operation, isQuery, invoked, completed, result }: RecordedOperation<Operation, Result>): string =>
    `${isQuery === true ? 'query ' : ''}${describe(operation)} [${invoked} → ${completed === undefined ? 'outcome unknown' : `${completed}] gave ${result === undefined ? 'nothing' : describe(result)}`}${completed === undefined ? ']' : ''}`;
  const text = [
    `NOT linearizable: ${inPart(partition)}no order explains`,
    `  ${line(blocked)}`,
    `longest order of what came before it: ${prefix.length} operations${prefix.length > PREFIX_SHOWN ? ', the last of which are' : ''}`,
    ...prefix.slice(-PREFIX_SHOWN).map((record) => `  ${line(record)}`),
  ].join('\n');
  return { outcome: 'violation', partition, blocked, prefix, configurations: search.configurations, text };
}

function inPart(partition: string): string {
  return partition === '' ? '' : `part ${JSON.stringify(partition)}: `;
}

function describeAny(value: unknown): string {
  return value instanceof Uint8Array ? describeBytes(value) : (JSON.stringify(value) ?? String(value));
}
