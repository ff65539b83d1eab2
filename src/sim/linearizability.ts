/**
 * Decides whether a history is linearizable: whether each operation can be given one moment between its invocation and
 * its completion at which it took effect, so that the results are those of a plain map. Keys are judged one by one,
 * which loses nothing (linearizability is local: Herlihy & Wing 1990).
 *
 * For one key the search is that of Wing & Gong (1993) with Lowe's memory of configurations (2017): it builds the order
 * operation by operation. The next one may be any operation that was invoked before every remaining one had completed.
 * A configuration consists of the operations ordered so far and the resulting value; one that failed is not tried
 * again. Five facts keep the search small:
 *
 * - An operation that fits and changes nothing (a read of the present value, a refused cas) is ordered at once: nothing
 *   can be lost by that, so there is no alternative to try.
 * - The ordered operations are represented by what is missing below the newest one. The missing ones were all open
 *   together, so there are never more of them than clients, however long the history.
 * - An operation of unknown outcome may take effect at any time after its invocation, or never. It is used only if
 *   something sees its effect before a plain write hides it; otherwise the order without it is as good.
 * - Values that nothing in the history asks for count as one value.
 * - A configuration that has used more unknown operations than an equal one tried before can achieve nothing that the
 *   other could not.
 *
 * If there are many unknown outcomes, a refutation must try every choice of them, which is exponential. So a relaxed
 * search goes first, in which an unknown operation may take effect as often as it likes: it is quick, and what it
 * refutes is refuted.
 *
 * The rule it guards: every answer is proven. A search that outgrows `maxStates` ends in `unknown`.
 */
import { collectOperations, type HistoryEvent, type HistoryOperation, type HistoryValue } from './history.js';

export interface CheckOptions {
  /** Configurations examined for one key before giving up; default 2,000,000 (some ten seconds, half a gigabyte). */
  maxStates?: number;
  /** Values of keys before the first event; absent if not named. */
  initial?: ReadonlyMap<string, HistoryValue>;
}

export type Verdict =
  | { outcome: 'linearizable'; keys: number; operations: number; states: number }
  | Violation
  | { outcome: 'unknown'; key: string; operations: number; states: number; maxStates: number };

export interface Violation {
  outcome: 'violation';
  key: string;
  /** Operations of this key that are known to have taken place. */
  operations: number;
  states: number;
  /** A completion that no order of what completed before it allows. */
  blocked: HistoryOperation;
  /** An order of the longest linearizable prefix. */
  prefix: HistoryOperation[];
  /**
   * The prefix holds everything that completed before `blocked`, which is then the first such completion. If not, the
   * search for a longer prefix was cut short.
   */
  prefixComplete: boolean;
  /** The value of the key after `prefix`. */
  value: HistoryValue;
  /** All operations of the key, except `fail`, that overlapped with `blocked`, including itself. */
  window: HistoryOperation[];
}

const MAX_STATES_DEFAULT = 2_000_000;
/** Most configurations to examine for the prefix of an explanation. */
const PREFIX_STATES_MAX = 20_000;

/**
 * Judges a whole history. A violation of any key outweighs an `unknown` of another. Increments are plain sums of safe
 * integers on an absent key or a number. Throws `HistoryError` if the events are not a history, RangeError for a bad
 * option.
 */
export function checkHistory(events: Iterable<HistoryEvent>, options: CheckOptions = {}): Verdict {
  const maxStates = options.maxStates ?? MAX_STATES_DEFAULT;
  if (!Number.isSafeInteger(maxStates) || maxStates < 1)
    throw new RangeError(`maxStates must be a whole number from 1, not ${maxStates}`);
  const byKey = new Map<string, HistoryOperation[]>();
  for (const operation of collectOperations(events)) {
    if (operation.outcome === 'fail') continue;
    const sameKey = byKey.get(operation.key);
    if (sameKey === undefined) byKey.set(operation.key, [operation]);
    else sameKey.push(operation);
  }
  let unknown: Verdict | null = null;
  let operations = 0;
  let states = 0;
  for (const [key, sameKey] of byKey) {
    const verdict = checkKey(key, sameKey, options.initial?.get(key) ?? null, maxStates);
    if (verdict.outcome === 'violation') return verdict;
    if (verdict.outcome === 'unknown') unknown ??= verdict;
    operations += verdict.operations;
    states += verdict.states;
  }
  return unknown ?? { outcome: 'linearizable', keys: byKey.size, operations, states };
}

function checkKey(key: string, operations: HistoryOperation[], initial: HistoryValue, maxStates: number): Verdict {
  const unknown = operations.filter((operation) => operation.outcome === 'info');
  // An increment that is applied again and again has no end.
  if (unknown.length > 0 && unknown.every((operation) => operation.f !== 'increment')) {
    const relaxed = new KeySearch(key, operations, initial, maxStates, true).run();
    if (relaxed.outcome === 'violation') {
      const search = new KeySearch(key, operations, initial, Math.min(maxStates, PREFIX_STATES_MAX), false);
      const exact = search.run();
      return exact.outcome === 'violation' ? exact : search.violation(relaxed.blocked);
    }
  }
  return new KeySearch(key, operations, initial, maxStates, false).run();
}

/** An operation with its values as small numbers (see `KeySearch.#idOf`). */
interface Step {
  operation: HistoryOperation;
  /** write: the value. cas: the one expected. read: the one seen. increment: unused. */
  first: number;
  /** cas: the new value. increment: the result, -1 if unknown. */
  second: number;
  /** For unknown operations: the previous one that is equal except for its moment, or -1. */
  twin: number;
}

/** The order so far, newest first. Shared between configurations. */
interface Path {
  step: Step;
  before: Path | null;
  length: number;
}

/** One configuration on the search path, and what is left to try from it. */
interface Frame {
  value: number;
  /** One above the newest ordered index, and what it was before this frame. */
  high: number;
  path: Path | null;
  /** Indexes to try next: of `required` from 0 up, of `optional` as -1 - index. */
  choices: number[];
  tried: number;
  /** Removed from the list when this frame was entered, in this order. */
  unlinked: number[];
  /** Index in `optional` that led here, or -1. */
  used: number;
}

const NOTHING_USED: Uint32Array[] = [];
const ABSENT = 0;
/** Stands for every value that no operation of the key asks for: they cannot be told apart. */
const UNSEEN = 1;
const ANY = -1;
const NONE = -2;

class KeySearch {
  readonly #key: string;
  readonly #maxStates: number;
  readonly #operations: HistoryOperation[];
  /** Every value that an operation reads or expects; `null` if increments may turn it into any number. */
  readonly #observed: Set<HistoryValue> | null;
  readonly #values: HistoryValue[] = [null, ''];
  readonly #valueIds = new Map<HistoryValue, number>([[null, ABSENT]]);
  /** Completed, in the order of invocation. */
  readonly #required: Step[] = [];
  /** Operations of unknown outcome, in the order of invocation. */
  readonly #optional: Step[] = [];
  /** The values on which some optional operation would act. */
  readonly #wantedByOptional = new Set<number>();
  readonly #initial: number;
  readonly #initialValue: HistoryValue;
  /** The required operations not ordered yet: a doubly linked list by invocation, with its end at `required.length`. */
  readonly #next: Int32Array;
  readonly #previous: Int32Array;
  /** One bit per optional operation: used on the present path. */
  readonly #used: Uint32Array;
  readonly #tracksUsed: boolean;
  /** By ordered operations and value: the sets of optional operations used there. */
  readonly #seen = new Map<string, Uint32Array[]>();
  #states = 0;
  #bestCompleted = -1;
  #bestFrontier = -1;
  #bestPath: Path | null = null;

  /** @param reuse relaxed: unknown operations may take effect more than once */
  constructor(key: string, operations: HistoryOperation[], initial: HistoryValue, maxStates: number, reuse: boolean) {
    this.#key = key;
    this.#initialValue = initial;
    this.#operations = operations;
    this.#maxStates = maxStates;
    this.#observed = observedIn(operations);
    this.#initial = this.#idOf(initial);
    const optional: Step[] = [];
    for (const operation of operations) {
      const step = this.#stepOf(operation);
      if (operation.outcome === 'ok') this.#required.push(step);
      else if (operation.f !== 'read') optional.push(step);
    }
    this.#keepVisible(optional);
    const end = this.#required.length;
    this.#next = Int32Array.from({ length: end + 1 }, (_, i) => (i === end ? 0 : i + 1));
    this.#previous = Int32Array.from({ length: end + 1 }, (_, i) => (i === 0 ? end : i - 1));
    this.#used = new Uint32Array(Math.ceil(this.#optional.length / 32));
    this.#tracksUsed = !reuse && this.#optional.length > 0;
  }

  run(): Verdict {
    const operations = this.#required.length;
    const frames: Frame[] = [];
    let outcome = this.#enter(frames, this.#initial, 0, null, -1, -1);
    while (outcome !== 'done' && frames.length > 0) {
      if (this.#states > this.#maxStates) {
        return { outcome: 'unknown', key: this.#key, operations, states: this.#states, maxStates: this.#maxStates };
      }
      const frame = frames[frames.length - 1]!;
      if (frame.tried === frame.choices.length) {
        this.#leave(frame);
        frames.pop();
        continue;
      }
      const choice = frame.choices[frame.tried++]!;
      const step = choice >= 0 ? this.#required[choice]! : this.#optional[-1 - choice]!;
      const path = { step, before: frame.path, length: (frame.path?.length ?? 0) + 1 };
      outcome = this.#enter(
        frames,
        this.#after(step, frame.value),
        frame.high,
        path,
        choice,
        choice < 0 ? -1 - choice : -1,
      );
    }
    if (outcome === 'done') return { outcome: 'linearizable', keys: 1, operations, states: this.#states };
    return this.violation();
  }

  /**
   * Makes a choice: orders what changes nothing, then pushes a frame with what may come next, unless it is known to
   * fail.
   */
  #enter(
    frames: Frame[],
    value: number,
    high: number,
    path: Path | null,
    choice: number,
    used: number,
  ): 'done' | 'open' {
    this.#states++;
    const required = this.#required;
    const end = required.length;
    const frame: Frame = { value, high, path, choices: [], tried: 0, unlinked: [], used };
    if (used >= 0 && this.#tracksUsed) this.#used[used >>> 5]! |= 1 << (used & 31);
    if (choice >= 0) this.#unlink(choice, frame);

    // Every operation on this walk was invoked before the first remaining completion, so it may come next.
    let firstCompleted = Infinity;
    let frontier = -1;
    const absorbedFrom = frame.unlinked.length;
    const wanted = new Set<number>();
    for (let i = this.#next[end]!; i !== end; i = this.#next[i]!) {
      const step = required[i]!;
      if (step.operation.invoked > firstCompleted) break;
      const after = this.#after(step, value);
      if (after === value && step.operation.f !== 'write') {
        this.#unlink(i, frame);
        frame.path = { step, before: frame.path, length: (frame.path?.length ?? 0) + 1 };
        continue;
      }
      if (after >= 0) frame.choices.push(i);
      wanted.add(wantedBy(step));
      if (step.operation.completed < firstCompleted) {
        firstCompleted = step.operation.completed;
        frontier = i;
      }
    }
    if (frontier < 0) return 'done';
    if (firstCompleted > this.#bestCompleted) {
      this.#bestCompleted = firstCompleted;
      this.#bestFrontier = frontier;
      this.#bestPath = frame.path;
    }

    const unseen = used >= 0 && frame.unlinked.length === absorbedFrom;
    if (this.#isKnown(frame, unseen)) {
      this.#leave(frame);
      return 'open';
    }
    if (unseen) frame.choices = frame.choices.filter((i) => required[i]!.operation.f !== 'write');
    // Earliest completion first: it can wait least.
    frame.choices.sort((a, b) => required[a]!.operation.completed - required[b]!.operation.completed);
    this.#addOptional(frame, firstCompleted, unseen, wanted);
    frames.push(frame);
    return 'open';
  }

  /** Adds unknown operations whose effect would be seen by an operation that may come right after. */
  #addOptional(frame: Frame, firstCompleted: number, unseen: boolean, wanted: Set<number>): void {
    for (let j = 0; j < this.#optional.length; j++) {
      const step = this.#optional[j]!;
      if (step.operation.invoked > firstCompleted) return;
      if (this.#isUsed(j) || (step.twin >= 0 && !this.#isUsed(step.twin))) continue;
      if (unseen && step.operation.f === 'write') continue;
      const after = this.#after(step, frame.value);
      if (after < 0 || after === frame.value) continue;
      if (
        wanted.has(after) ||
        wanted.has(ANY) ||
        this.#wantedByOptional.has(after) ||
        this.#wantedByOptional.has(ANY)
      ) {
        frame.choices.push(-1 - j);
      }
    }
  }

  #leave(frame: Frame): void {
    for (let i = frame.unlinked.length - 1; i >= 0; i--) {
      const index = frame.unlinked[i]!;
      this.#next[this.#previous[index]!] = index;
      this.#previous[this.#next[index]!] = index;
    }
    if (frame.used >= 0 && this.#tracksUsed) this.#used[frame.used >>> 5]! &= ~(1 << (frame.used & 31));
  }

  #unlink(index: number, frame: Frame): void {
    this.#next[this.#previous[index]!] = this.#next[index]!;
    this.#previous[this.#next[index]!] = this.#previous[index]!;
    frame.unlinked.push(index);
    if (index >= frame.high) frame.high = index + 1;
  }

  #isUsed(optional: number): boolean {
    return (this.#used[optional >>> 5]! & (1 << (optional & 31))) !== 0;
  }

  /** Whether a configuration at least as free as this one was tried before; if not, this one is recorded. */
  #isKnown(frame: Frame, unseen: boolean): boolean {
    let name = `${unseen ? '!' : ''}${frame.value}:${frame.high}`;
    for (let i = this.#next[this.#required.length]!; i < frame.high; i = this.#next[i]!) name += `,${i}`;
    const sets = this.#seen.get(name);
    if (sets === undefined) {
      this.#seen.set(name, this.#tracksUsed ? [this.#used.slice()] : NOTHING_USED);
      return false;
    }
    if (!this.#tracksUsed) return true;
    // Long lists take as much time as configurations, so they count towards the bound too.
    this.#states += sets.length >>> 5;
    for (const set of sets) if (isSubset(set, this.#used)) return true;
    sets.push(this.#used.slice());
    return false;
  }

  /**
   * The value that an operation leaves behind, or -1 if its result rules it out here. An unknown cas counts only if it
   * sets.
   */
  #after(step: Step, value: number): number {
    const { f, outcome, result } = step.operation;
    switch (f) {
      case 'read':
        return step.first === value ? value : -1;
      case 'write':
        return step.first;
      case 'cas':
        if (outcome === 'ok' && result === false) return step.first === value ? -1 : value;
        return step.first === value ? step.second : -1;
      case 'increment': {
        const before = this.#values[value] ?? 0;
        if (typeof before !== 'number') return -1;
        const sum = before + (step.operation.value as number);
        if (step.second >= 0) return this.#values[step.second] === sum ? step.second : -1;
        return this.#idOf(sum);
      }
    }
  }

  #stepOf(operation: HistoryOperation): Step {
    const { f, value, outcome, result } = operation;
    if (f === 'cas') {
      const [expected, replacement] = value as [HistoryValue, HistoryValue];
      return { operation, first: this.#idOf(expected), second: this.#idOf(replacement), twin: -1 };
    }
    if (f === 'increment')
      return { operation, first: -1, second: outcome === 'ok' ? this.#idOf(result as number) : -1, twin: -1 };
    return { operation, first: this.#idOf(value as HistoryValue), second: -1, twin: -1 };
  }

  /** Drops unknown writes whose value cannot have been seen, and links equal ones: they are used in their order. */
  #keepVisible(optional: Step[]): void {
    const seen = new Set<number>();
    let anythingSees = false;
    for (const step of [...this.#required, ...optional]) {
      const { f, outcome, result } = step.operation;
      if (f === 'read' || f === 'cas') seen.add(step.first);
      if (f === 'increment' || (outcome === 'ok' && result === false)) anythingSees = true;
    }
    const newest = new Map<string, number>();
    for (const step of optional) {
      if (step.operation.f === 'write' && !anythingSees && !seen.has(step.first)) continue;
      const alike = `${step.operation.f} ${step.first} ${step.second} ${step.operation.f === 'increment' ? String(step.operation.value) : ''}`;
      step.twin = newest.get(alike) ?? -1;
      newest.set(alike, this.#optional.length);
      this.#optional.push(step);
      this.#wantedByOptional.add(wantedBy(step));
    }
  }

  #idOf(value: HistoryValue): number {
    if (this.#observed !== null && !this.#observed.has(value)) return UNSEEN;
    const known = this.#valueIds.get(value);
    if (known !== undefined) return known;
    this.#valueIds.set(value, this.#values.length);
    return this.#values.push(value) - 1;
  }

  /**
   * The violation of a history that cannot be linearized; `known`: the completion that stands in the way, if found
   * elsewhere.
   */
  violation(known?: HistoryOperation): Violation {
    const prefix: HistoryOperation[] = [];
    for (let path = this.#bestPath; path !== null; path = path.before) prefix.push(path.step.operation);
    prefix.reverse();
    const frontier = this.#required[this.#bestFrontier]!.operation;
    const blocked = known ?? frontier;
    return {
      outcome: 'violation',
      key: this.#key,
      operations: this.#required.length,
      states: this.#states,
      blocked,
      prefix,
      prefixComplete: blocked === frontier,
      value: valueAfter(prefix, this.#initialValue),
      window: this.#operations.filter(
        (other) => other.invoked <= blocked.completed && other.completed >= blocked.invoked,
      ),
    };
  }
}

/**
 * The value that an operation which does not fit now waits for; ANY if any other would do, NONE if it does not depend
 * on it.
 */
function wantedBy(step: Step): number {
  const { f, outcome, result } = step.operation;
  if (f === 'write') return NONE;
  if (f === 'increment' || (f === 'cas' && outcome === 'ok' && result === false)) return ANY;
  return step.first;
}

function observedIn(operations: HistoryOperation[]): Set<HistoryValue> | null {
  // null: absent has its own number.
  const observed = new Set<HistoryValue>([null]);
  for (const { f, value } of operations) {
    if (f === 'increment') return null;
    if (f === 'read') observed.add(value as HistoryValue);
    if (f === 'cas') observed.add((value as [HistoryValue, HistoryValue])[0]);
  }
  return observed;
}

/** The value after an order of operations that all fit. */
function valueAfter(order: HistoryOperation[], initial: HistoryValue): HistoryValue {
  let current = initial;
  for (const { f, outcome, value, result } of order) {
    if (f === 'write') current = value as HistoryValue;
    else if (f === 'increment') current = ((current as number | null) ?? 0) + (value as number);
    else if (f === 'cas' && !(outcome === 'ok' && result === false))
      current = (value as [HistoryValue, HistoryValue])[1];
  }
  return current;
}

function isSubset(set: Uint32Array, of: Uint32Array): boolean {
  for (let i = 0; i < set.length; i++) if ((set[i]! & ~of[i]!) !== 0) return false;
  return true;
}

const EXPLAIN_PREFIX_MAX = 8;
const EXPLAIN_WINDOW_MAX = 16;

/**
 * The verdict in readable form: one line, and for a violation what could be ordered, what could not, and what was open
 * then.
 */
export function explain(verdict: Verdict): string {
  switch (verdict.outcome) {
    case 'linearizable':
      return `linearizable: ${verdict.operations} operations on ${verdict.keys} keys (${verdict.states} configurations examined)`;
    case 'unknown':
      return (
        `unknown: key ${JSON.stringify(verdict.key)} with ${verdict.operations} operations was not decided within ${verdict.maxStates} configurations; ` +
        'raise maxStates, or record with fewer clients on a key'
      );
    case 'violation':
      return explainViolation(verdict);
  }
}

function explainViolation(violation: Violation): string {
  const { key, blocked, prefix, window, value } = violation;
  const placed = new Set(prefix);
  const lines = [
    `NOT linearizable: key ${JSON.stringify(key)}`,
    `  no order explains ${describe(blocked)}`,
    violation.prefixComplete
      ? `  longest linearizable prefix: everything that completed before it (an order of ${prefix.length} operations), ending`
      : `  longest prefix that could be linearized in the time given: ${prefix.length} operations, ending`,
  ];
  if (prefix.length > EXPLAIN_PREFIX_MAX) lines.push(`    … ${prefix.length - EXPLAIN_PREFIX_MAX} before`);
  for (const operation of prefix.slice(-EXPLAIN_PREFIX_MAX)) lines.push(`    ${describe(operation)}`);
  lines.push(`  which leaves the value ${JSON.stringify(value)}`);
  lines.push('  open meanwhile:');
  for (const operation of window.slice(0, EXPLAIN_WINDOW_MAX)) {
    const remark =
      operation === blocked ? 'cannot be placed' : placed.has(operation) ? 'placed in the prefix' : 'not placed';
    lines.push(`    ${describe(operation)}  ← ${remark}`);
  }
  if (window.length > EXPLAIN_WINDOW_MAX) lines.push(`    … ${window.length - EXPLAIN_WINDOW_MAX} more`);
  return lines.join('\n');
}

function describe(operation: HistoryOperation): string {
  const { f, value, result, outcome, process } = operation;
  const text = (part: unknown): string => {
    const json = JSON.stringify(part);
    return json.length > 60 ? `${json.slice(0, 57)}…` : json;
  };
  let what: string;
  if (f === 'cas') {
    const [expected, replacement] = value as [HistoryValue, HistoryValue];
    what = `cas ${text(expected)} to ${text(replacement)}${outcome === 'ok' ? (result === true ? ', set' : ', refused') : ''}`;
  } else if (f === 'increment') what = `increment by ${text(value)}${outcome === 'ok' ? ` to ${text(result)}` : ''}`;
  else if (f === 'read') what = outcome === 'ok' ? `read of ${text(value)}` : 'read';
  else what = `write of ${text(value)}`;
  const until =
    operation.completedNs === null
      ? 'outcome unknown'
      : `event ${operation.completed + 1}, ${operation.completedNs} ns`;
  return `process ${process}: ${what} [event ${operation.invoked + 1}, ${operation.invokedNs} ns → ${until}]`;
}
