/**
 * Judges a run by its chosen log: every operation is replayed in the order in which the replicas executed it, by a model
 * or by a machine that was never restored, and each result must be the one that a client was told.
 *
 * The order is known, so nothing is searched, and the answer is never a guess. This is checked:
 * - what a client was answered, other than a read, stands in the log, and nothing else stands at its place;
 * - each entry was executed with the bytes that its client sent; if it was not, its client was told no result, and if it
 *   was, its client was not told that it was refused;
 * - the result of each entry is that of the replay, and what its client was told;
 * - the order respects real time: an operation that had ended before another one began stands before it;
 * - each read gives the state behind some entry between those that had ended before it and those that began after it,
 *   and reads that follow each other do not go back.
 */
import { describeBytes, sameBytes } from './bytes.js';
import type { Execution } from './execution.js';
import type { SimulatedOperation } from './recorded-operations.js';

/** The log that the cluster agreed on. */
export interface ChosenLog {
  readonly chosenLength: number;
  /** Where a request stands, from 1; undefined: nowhere. */
  indexOf(sessionHi: number, sessionLo: number, lane: number, request: number): number | undefined;
}

/** Executes a log from its beginning. Each of the two returns what it expected if a result is wrong, as a text. */
export interface Replay {
  /** What it is, for texts. */
  readonly name: string;
  apply(execution: Execution, index: number): string | undefined;
  query(operation: Uint8Array, index: number, result: Uint8Array): string | undefined;
}

/** Ends the judgement. `protocol`: the cluster broke a rule. `replay`: a result is not the one of the replay. */
export type Refuse = (kind: 'protocol' | 'replay', detail: string) => never;

/** A read, and the entries behind which it may have seen the state. */
interface Read {
  readonly operation: SimulatedOperation;
  readonly from: number;
  readonly to: number;
  placed: boolean;
}

/**
 * Calls `refuse` with what is wrong. Returns what could not be decided, if anything.
 * @param executions by index: what the replicas executed there; null: nothing that reaches the machine
 */
export function judgeLog(
  operations: readonly SimulatedOperation[],
  log: ChosenLog,
  executions: readonly (Execution | null | undefined)[],
  replay: Replay,
  refuse: Refuse,
): string | undefined {
  const placed = place(operations, log, refuse);
  const byIndex = new Map(placed.map((each) => [each.index, each.operation]));
  checkRealTime(placed, refuse);
  const waiting = reads(operations, placed, log.chosenLength);
  let begun = 0;
  let active: Read[] = [];
  for (let index = 0; index <= log.chosenLength; index++) {
    if (index > 0) {
      const execution = executions[index];
      if (execution === undefined)
        return `entry ${index} of ${log.chosenLength} was executed by no replica one by one, so results from there on were not compared`;
      const operation = byIndex.get(index);
      if (operation !== undefined) checkTold(execution, index, operation, refuse);
      if (execution !== null) checkResult(execution, index, replay, refuse);
    }
    while (begun < waiting.length && waiting[begun]!.from <= index) active.push(waiting[begun++]!);
    if (active.length === 0) continue;
    active.sort((a, b) => a.operation.invoked - b.operation.invoked);
    for (const read of active) {
      if (active.some((other) => !other.placed && other.operation.completed < read.operation.invoked)) continue;
      read.placed = replay.query(read.operation.operation, index, read.operation.result!) === undefined;
    }
    active = active.filter((read) => !read.placed);
    const late = active.find((read) => read.to <= index);
    if (late !== undefined) refuseRead(late, index, replay, refuse);
  }
  return undefined;
}

interface Placed {
  readonly operation: SimulatedOperation;
  readonly index: number;
}

/** Operations with their entries in the chosen log, in the order of invocation. */
function place(operations: readonly SimulatedOperation[], log: ChosenLog, refuse: Refuse): Placed[] {
  const placed: Placed[] = [];
  const taken = new Set<number>();
  for (const operation of operations) {
    const { sent, isQuery, client, operation: bytes, result } = operation;
    if (isQuery) continue;
    const isSent = sent !== undefined && sent.request !== 0;
    const index = isSent ? log.indexOf(sent.sessionHi, sent.sessionLo, sent.lane, sent.request) : undefined;
    if (index === undefined) {
      if (result !== undefined)
        refuse(
          'protocol',
          `client ${client} was told ${describeBytes(result)} for ${describeBytes(bytes)}, ${isSent ? 'which is not in the log' : 'for which it sent no request'}`,
        );
      continue;
    }
    if (taken.has(index)) refuse('protocol', `entry ${index} is that of two operations of client ${client}`);
    taken.add(index);
    placed.push({ operation, index });
  }
  return placed;
}

function checkRealTime(placed: readonly Placed[], refuse: Refuse): void {
  const byCompletion = [...placed].sort((a, b) => a.operation.completed - b.operation.completed);
  let ended = 0;
  let highest: Placed | undefined;
  for (const each of placed) {
    for (; byCompletion[ended]!.operation.completed < each.operation.invoked; ended++)
      if (highest === undefined || byCompletion[ended]!.index > highest.index) highest = byCompletion[ended]!;
    if (highest !== undefined && highest.index > each.index)
      refuse(
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

/** What the client of an entry knows of it is what became of it. */
function checkTold(
  execution: Execution | null,
  index: number,
  { operation, result: told, refused }: SimulatedOperation,
  refuse: Refuse,
): void {
  if (execution === null) {
    if (told !== undefined)
      refuse('protocol', `the client of entry ${index} was told ${describeBytes(told)}; no machine executed it`);
    return;
  }
  if (!sameBytes(operation, execution.operation))
    refuse(
      'protocol',
      `the client of entry ${index} sent ${describeBytes(operation)}; the replicas executed ${describeBytes(execution.operation)}`,
    );
  const executed = `the replicas executed it with ${describeBytes(execution.result)}`;
  if (refused) refuse('protocol', `the client of entry ${index} was told that it was refused; ${executed}`);
  if (told !== undefined && !sameBytes(told, execution.result))
    refuse('protocol', `the client of entry ${index} was told ${describeBytes(told)}; ${executed}`);
}

function checkResult(execution: Execution, index: number, replay: Replay, refuse: Refuse): void {
  const expected = replay.apply(execution, index);
  if (expected === undefined) return;
  refuse(
    'replay',
    `entry ${index}, ${describeBytes(execution.operation)}: the machine answered ${describeBytes(execution.result)}, ${replay.name} ${expected}`,
  );
}

function refuseRead({ operation: read, from, to }: Read, index: number, replay: Replay, refuse: Refuse): never {
  const { operation, result, client } = read;
  const expected = replay.query(operation, index, result!);
  return refuse(
    'replay',
    `query ${describeBytes(operation)} of client ${client}: the machine answered ${describeBytes(result!)}; behind none of the entries ${from} to ${to} ${replay.name} gives that${expected === undefined ? '' : `, behind ${index} it gives ${expected}`}`,
  );
}
