/**
 * What the clients of a run request, and how what they saw is judged: the interface, and the workload of the key-value
 * store.
 *
 * The key-value workload reads, writes, compares and sets, increments and deletes a few hot keys. Every written value is
 * unique, so a read shows which write it saw, and the linearizability check is as sharp as possible.
 */
import { decodeResult, encodeCas, encodeDelete, encodeGet, encodeIncrement, encodePut } from '../machine/kv-codec.js';
import type { Checks } from './checks.js';
import type { Execution } from './execution.js';
import type { WorkloadPlan } from './faults.js';
import type { HistoryEvent, HistoryFunction, HistoryValue } from './history.js';
import { checkHistory, explain } from './linearizability.js';
import type { Random } from './random.js';
import { Violation } from './violation.js';

const encoder = new TextEncoder();
const decoder = new TextDecoder();

/** One operation, ready to be submitted. */
export interface WorkItem {
  /** What it does, in one word, for reports. */
  readonly f: string;
  /** As a quorum read instead of through the log. */
  readonly quorumRead: boolean;
  readonly length: number;
}

/** The request that a client sent for an operation; `request` is 0 if it sent none. */
export interface SentRequest {
  readonly sessionHi: number;
  readonly sessionLo: number;
  readonly lane: number;
  readonly request: number;
}

/**
 * The operations of one client. Every `next` is followed by `invoked`, and later by one of the other three. `process`
 * is the number of a logical client, which has one operation open at a time. Times are virtual, µs.
 */
export interface ClientWorkload<Item extends WorkItem = WorkItem> {
  /** Where `next` puts the operation's bytes. */
  readonly bytes: Uint8Array;
  next(): Item;
  invoked(item: Item, process: number, atUs: number): void;
  /** The result is `bytes[0 … length)`, valid during the call. Throws if the machine could not have given it. */
  committed(item: Item, process: number, atUs: number, sent: SentRequest, bytes: Uint8Array, length: number): void;
  /** It was not executed, and never will be. */
  refused(item: Item, process: number, atUs: number, sent: SentRequest): void;
  /** It may have been executed, or may be later. The process ends with it. */
  lost(item: Item, process: number, atUs: number, sent: SentRequest): void;
}

/** The operations of all clients of one run. */
export interface Workload {
  /** @param name makes this client's values different from all others' */
  client(random: Random, plan: WorkloadPlan, name: string): ClientWorkload;
  /**
   * Hears of each entry of the chosen log once, when a replica is first seen to have executed it. Undefined: it reached
   * no machine. Machines keep what they execute only for a workload that hears of it.
   */
  executed?(index: number, execution: Execution | undefined): void;
  /**
   * Judges what the clients saw. Returns what could not be decided, if anything. Throws Violation.
   * @param checks know the chosen log
   */
  judge(checks: Checks): string | undefined;
}

/** Configurations that the linearizability checker examines for a key before it leaves the history undecided. */
const CHECKER_STATES_MAX = 2_000_000;

/** Operations on the key-value store. */
export class KvWorkload implements Workload {
  readonly history: HistoryEvent[] = [];

  client(random: Random, plan: WorkloadPlan, name: string): ClientWorkload {
    return new KvClientWorkload(random, plan, name, this.history);
  }

  judge(): string | undefined {
    const verdict = checkHistory(this.history, { maxStates: CHECKER_STATES_MAX });
    if (verdict.outcome === 'violation') throw new Violation('linearizable', explain(verdict));
    return verdict.outcome === 'unknown' ? explain(verdict) : undefined;
  }
}

interface KvItem extends WorkItem {
  readonly f: HistoryFunction;
  readonly key: string;
  readonly value: HistoryEvent['value'];
}

/**
 * After this many operations of a client, the keys get new names. Every operation with an unknown outcome stays
 * possible on its key forever, and deciding a history takes time exponential in their number.
 */
const OPERATIONS_PER_NAME = 25;

class KvClientWorkload implements ClientWorkload<KvItem> {
  readonly bytes = new Uint8Array(256);
  private readonly lastSeen = new Map<string, HistoryValue>();
  private written = 0;
  private drawn = 0;

  constructor(
    private readonly random: Random,
    private readonly plan: WorkloadPlan,
    private readonly name: string,
    private readonly history: HistoryEvent[],
  ) {}

  next(): KvItem {
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

  invoked(item: KvItem, process: number, atUs: number): void {
    this.record(item, process, 'invoke', atUs);
  }

  committed(item: KvItem, process: number, atUs: number, _sent: SentRequest, bytes: Uint8Array, length: number): void {
    const seen = this.outcome(item, bytes, length);
    this.history.push({ process, f: item.f, key: item.key, ...seen, time: atUs * 1000 });
  }

  refused(item: KvItem, process: number, atUs: number): void {
    this.record(item, process, 'fail', atUs);
  }

  lost(item: KvItem, process: number, atUs: number): void {
    this.record(item, process, 'info', atUs);
  }

  private record({ f, key, value }: KvItem, process: number, type: HistoryEvent['type'], atUs: number): void {
    this.history.push({ process, type, f, key, value, time: atUs * 1000 });
  }

  /** What a committed operation's result means for the history; throws if the machine could not have given it. */
  private outcome(item: KvItem, bytes: Uint8Array, length: number): Pick<HistoryEvent, 'type' | 'value' | 'result'> {
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

function unexpected(item: KvItem, status: string): Error {
  return new Error(`the machine answered ${item.f} of ${item.key} with ${status}`);
}
