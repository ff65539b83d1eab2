/**
 * What the clients request: reads, writes, compare-and-sets, increments and deletes on a few hot keys. Every written
 * value is unique, so a read shows which write it saw, and the linearizability check is as sharp as possible.
 */
import { decodeResult, encodeCas, encodeDelete, encodeGet, encodeIncrement, encodePut } from '../machine/kv-codec.js';
import type { HistoryEvent, HistoryFunction, HistoryValue } from './history.js';
import type { WorkloadPlan } from './faults.js';
import type { Random } from './random.js';

const encoder = new TextEncoder();
const decoder = new TextDecoder();

/** One operation, ready to be submitted. */
export interface WorkItem {
  readonly f: HistoryFunction;
  readonly key: string;
  readonly value: HistoryEvent['value'];
  /** As a quorum read instead of through the log. */
  readonly quorumRead: boolean;
  readonly length: number;
}

/**
 * After this many operations of a client, the keys get new names. Every operation with an unknown outcome stays
 * possible on its key forever, and deciding a history takes time exponential in their number.
 */
const OPERATIONS_PER_NAME = 25;

export class Workload {
  /** Where `next` puts the operation's bytes. */
  readonly bytes = new Uint8Array(256);
  private readonly lastSeen = new Map<string, HistoryValue>();
  private written = 0;
  private drawn = 0;

  /** @param name makes this client's values different from all others' */
  constructor(
    private readonly random: Random,
    private readonly plan: WorkloadPlan,
    private readonly name: string,
  ) {}

  next(): WorkItem {
    const { plan, random, bytes } = this;
    const generation = Math.floor(this.drawn++ / OPERATIONS_PER_NAME);
    if (random.chance(plan.increments)) {
      const key = `counter.${generation}`;
      const value = random.between(1, 3);
      return {
        f: 'increment',
        key,
        value,
        quorumRead: false,
        length: encodeIncrement(bytes, 0, encoder.encode(key), value),
      };
    }
    const key = `key${random.below(plan.keys)}.${generation}`;
    const keyBytes = encoder.encode(key);
    const draw = random.unit();
    if (draw < plan.reads) {
      return {
        f: 'read',
        key,
        value: null,
        quorumRead: !random.chance(plan.loggedReads),
        length: encodeGet(bytes, 0, keyBytes),
      };
    }
    if (draw < plan.reads + plan.deletes) {
      return { f: 'write', key, value: null, quorumRead: false, length: encodeDelete(bytes, 0, keyBytes) };
    }
    const value = `${this.name}.${++this.written}`;
    if (draw < plan.reads + plan.deletes + plan.cas) {
      const expected = this.lastSeen.get(key) ?? null;
      const length = encodeCas(
        bytes,
        0,
        keyBytes,
        expected === null ? null : encoder.encode(String(expected)),
        encoder.encode(value),
      );
      return { f: 'cas', key, value: [expected, value], quorumRead: false, length };
    }
    return { f: 'write', key, value, quorumRead: false, length: encodePut(bytes, 0, keyBytes, encoder.encode(value)) };
  }

  /** What a committed operation's result means for the history; throws if the machine could not have given it. */
  outcome(item: WorkItem, bytes: Uint8Array, length: number): Pick<HistoryEvent, 'type' | 'value' | 'result'> {
    switch (item.f) {
      case 'read': {
        const result = decodeResult('get', bytes, 0, length);
        if (result.status !== 'ok' && result.status !== 'not-found') throw unexpected(item, result.status);
        const value = result.status === 'ok' ? decoder.decode(result.value) : null;
        this.lastSeen.set(item.key, value);
        return { type: 'ok', value };
      }
      case 'write': {
        if (item.value === null) {
          const { status } = decodeResult('delete', bytes, 0, length);
          if (status !== 'ok' && status !== 'not-found') throw unexpected(item, status);
        } else {
          const { status } = decodeResult('put', bytes, 0, length);
          if (status !== 'ok') throw unexpected(item, status);
        }
        this.lastSeen.set(item.key, item.value as HistoryValue);
        return { type: 'ok', value: item.value };
      }
      case 'cas': {
        const { status } = decodeResult('cas', bytes, 0, length);
        if (status !== 'ok' && status !== 'mismatch') throw unexpected(item, status);
        if (status === 'ok') this.lastSeen.set(item.key, (item.value as [HistoryValue, HistoryValue])[1]);
        return { type: 'ok', value: item.value, result: status === 'ok' };
      }
      case 'increment': {
        const result = decodeResult('increment', bytes, 0, length);
        if (result.status !== 'ok') throw unexpected(item, result.status);
        return { type: 'ok', value: item.value, result: Number(result.value) };
      }
    }
  }
}

function unexpected(item: WorkItem, status: string): Error {
  return new Error(`the machine answered ${item.f} of ${item.key} with ${status}`);
}
