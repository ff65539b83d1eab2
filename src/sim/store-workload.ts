/**
 * The store at level 1 as a workload: transactions over several keys, keys with an end, leases, ranges, and the
 * operations of level 0 among them. Half of the clients send Redis commands, too, for which the level has to be
 * 2: hashes, sets and lists under the same keys.
 *
 * It is judged by the chosen log (log-judge.ts): a plain model executes it, with the agreed time of each entry, and gives
 * what each operation had to give: values, revisions, ends and leases. So a key that is seen after its end, one that is
 * gone before it, and a transaction that is executed in part are all wrong results. The model refuses what only higher
 * levels know.
 */
import { Delete, Increment, Put } from '../machine/kv-layout.js';
import type { KeyCondition, KeyHold, TransactionOperation } from '../machine/store/codec.js';
import { readU16 } from '../wire/u64.js';
import { NOISE } from './enemy.js';
import { isReadCommand, type ModelCommand, type ModelTransaction, type Words } from './commands-model.js';
import type { Execution } from './execution.js';
import type { WorkloadPlan } from './faults.js';
import { judgeLog, type ChosenLog, type Replay } from './log-judge.js';
import type { Random } from './random.js';
import { RecordedOperations, RecordingClient, type RecordedItem } from './recorded-operations.js';
import { StoreModel, type ModelOperation, type Outcome, type Texts } from './store-model.js';
import { decodeOutcome, encodeModelOperation, sameOutcome } from './store-operations.js';
import { Violation } from './violation.js';
import type { ClientWorkload, SentRequest, Workload } from './workload.js';

/** Longest operation, and room for a result: a range keeps some for the longest key (store/operations.ts). */
export const STORE_OPERATION_BYTES = 1024;
export const STORE_RESULT_BYTES = 4096;

/** The limits of the machine in a run, which no run reaches. */
const MAX_KEYS = 1 << 16;
const MAX_BYTES = 1 << 24;
/** Keys besides those of the plan. */
const FURTHER_KEYS = 2;
/** Clients use one of this many leases that were granted last. */
const RECENT_LEASES = 6;
/** Times to live, ms: shorter and longer than a fault. */
const TTLS = [1, 3, 10, 30, 100, 1000] as const;
const RANGE_LIMIT_MAX = 5;
/** Share of the clients that send Redis commands, and of their operations that are such commands. */
const WITH_COMMANDS = 0.5;
const COMMANDS = 0.5;
/** Most commands of an operation, and of a transaction. */
const COMMANDS_MAX = 3;
/** Members and fields that there are. */
const MEMBERS = 3;
const LIST_SHOWN = 9;
/** Keys begin with this. Those of the enemy are below it, so no client is shown their values. */
const FIRST_KEY = 's';
const NS_PER_MS = 1_000_000n;
const LEVELS = [1, 2];
const NOBODYS = 'knows no client that was given this operation';

export class StoreWorkload implements Workload {
  private readonly recorded = new RecordedOperations();
  private readonly executions: (Execution | null | undefined)[] = [];
  /** Every operation that a client was given, by its bytes. */
  private readonly operations = new Map<string, ModelOperation>();
  private readonly seen = new Seen();
  private clients = 0;

  client(random: Random, plan: WorkloadPlan, name: string): ClientWorkload {
    const game = new Game(random, plan, name, this.seen);
    const target = new Uint8Array(STORE_OPERATION_BYTES);
    const give = (): { operation: Uint8Array; isQuery: boolean } => {
      const next = game.next();
      const operation = target.slice(0, encodeModelOperation(next, target));
      this.operations.set(nameOf(operation), next);
      return { operation, isQuery: isRead(next) && !random.chance(plan.loggedReads) };
    };
    return new StoreClient(this.clients++, give, this.recorded, (bytes, result) => {
      const operation = this.operations.get(nameOf(bytes))!;
      this.answered(operation, decodeOutcome(operation, result));
    });
  }

  /** A client was told this. */
  answered(operation: ModelOperation, outcome: Outcome): void {
    this.seen.learn(operation, outcome);
  }

  executed(index: number, execution: Execution | undefined): void {
    this.executions[index] = execution ?? null;
  }

  judge(log: ChosenLog): string | undefined {
    const replay = new StoreReplay(this.operations, this.executions);
    return judgeLog(this.recorded.all, log, this.executions, replay, (_kind, detail) => {
      throw new Violation('linearizable', detail);
    });
  }
}

class StoreClient extends RecordingClient {
  constructor(
    client: number,
    give: () => { readonly operation: Uint8Array; readonly isQuery: boolean },
    recorded: RecordedOperations,
    private readonly learn: (operation: Uint8Array, result: Uint8Array) => void,
  ) {
    super(client, give, recorded);
  }

  override committed(
    item: RecordedItem,
    process: number,
    atUs: number,
    sent: SentRequest,
    bytes: Uint8Array,
    length: number,
  ): void {
    super.committed(item, process, atUs, sent, bytes, length);
    this.learn(item.operation, item.record!.result!);
  }
}

/** What the clients of a run know of the store, all together: they tell each other. */
class Seen {
  readonly leases: number[] = [];
  readonly revisions = new Map<string, number>();
  readonly values = new Map<string, string>();

  learn(operation: ModelOperation, outcome: Outcome): void {
    if (outcome.status !== 'ok') return;
    if (operation.name === 'grant') this.leases.push(outcome.lease!);
    else if (operation.name === 'write') {
      this.revisions.set(operation.key, outcome.revision!);
      this.values.set(operation.key, operation.value);
    } else if (operation.name === 'read') {
      const { revision, value } = outcome.found as { revision: number; value: string };
      this.revisions.set(operation.key, revision);
      this.values.set(operation.key, value);
    }
  }
}

/** Draws operations on a few keys and leases. */
class Game {
  private written = 0;
  private readonly commandsRandom: Random;
  private readonly hasCommands: boolean;

  constructor(
    private readonly random: Random,
    private readonly plan: WorkloadPlan,
    private readonly name: string,
    private readonly seen: Seen,
  ) {
    this.commandsRandom = random.fork('commands');
    this.hasCommands = this.commandsRandom.chance(WITH_COMMANDS);
  }

  private commands(): ModelOperation {
    const random = this.commandsRandom;
    const isReadOnly = random.chance(0.3);
    const some = <T>(one: () => T): T[] => Array.from({ length: random.between(1, COMMANDS_MAX) }, one);
    const one = (): Words => (isReadOnly || random.chance(0.2) ? this.readCommand() : this.changeCommand());
    const transaction = (): ModelTransaction => {
      const key = this.commandKey();
      const revision = random.chance(0.3) ? 0 : (this.seen.revisions.get(key) ?? 0);
      return { watched: random.chance(0.5) ? [[key, revision]] : [], commands: some(one) };
    };
    return { name: 'commands', commands: some((): ModelCommand => (random.chance(0.2) ? transaction() : one())) };
  }

  private readCommand(): Words {
    const random = this.commandsRandom;
    const key = this.commandKey();
    const name = random.pick(['GET', 'TYPE', 'HGET', 'HLEN', 'SISMEMBER', 'SCARD', 'LLEN', 'LRANGE'] as const);
    if (name === 'LRANGE') return [name, key, '0', String(LIST_SHOWN)];
    return name === 'HGET' || name === 'SISMEMBER' ? [name, key, this.member()] : [name, key];
  }

  private changeCommand(): Words {
    const random = this.commandsRandom;
    const key = this.commandKey();
    switch (random.below(16)) {
      case 0:
        return ['SET', key, this.value(), ...(random.chance(0.5) ? ['PX', String(random.pick(TTLS))] : [])];
      case 1:
        return ['DEL', key];
      case 2:
      case 3:
        return ['PEXPIRE', key, String(random.pick(TTLS))];
      case 4:
      case 5:
        return ['RENAME', key, this.commandKey()];
      case 6:
        return random.chance(0.2) ? ['FLUSHALL'] : ['DEL', key];
      case 7:
      case 8:
        return ['HSET', key, this.member(), this.value(), this.member(), this.value()];
      case 9:
        return ['HDEL', key, this.member(), this.member()];
      case 10:
      case 11:
        return ['SADD', key, this.member(), this.member()];
      case 12:
        return ['SREM', key, this.member()];
      case 13:
      case 14:
        return [random.chance(0.5) ? 'RPUSH' : 'LPUSH', key, this.value(), this.value()];
      default:
        return [random.chance(0.5) ? 'LPOP' : 'RPOP', key];
    }
  }

  private commandKey(): string {
    return `${FIRST_KEY}${this.commandsRandom.below(this.plan.keys + FURTHER_KEYS)}`;
  }

  private member(): string {
    return `m${this.commandsRandom.below(MEMBERS)}`;
  }

  next(): ModelOperation {
    const { random } = this;
    if (this.hasCommands && this.commandsRandom.chance(COMMANDS)) return this.commands();
    const key = this.key();
    switch (random.below(20)) {
      case 0:
        return { name: 'get', key };
      case 1:
      case 2:
      case 3:
        return { name: 'read', key };
      case 4:
        return { name: 'put', key, value: this.value() };
      case 5:
        return { name: 'delete', key };
      case 6:
      case 7:
      case 8:
      case 9:
        return { name: 'write', key, value: this.value(), hold: this.hold(), condition: this.condition(key) };
      case 10:
        return { name: 'remove', key, condition: this.condition(key) };
      case 11:
      case 12:
        return { name: 'range', ...this.range() };
      case 13:
        return { name: 'grant', ttl: random.pick(TTLS) };
      case 14:
      case 15:
        return { name: 'renew', leases: Array.from({ length: random.between(1, 3) }, () => this.lease()) };
      case 16:
        return random.chance(0.3) ? { name: 'revoke', lease: this.lease() } : { name: 'tick' };
      default:
        return this.transaction();
    }
  }

  private transaction(): ModelOperation {
    const { random, seen } = this;
    const conditions = Array.from({ length: random.below(3) }, () => {
      const key = this.key();
      const condition = this.condition(key);
      const value = seen.values.get(key) ?? 'x';
      return random.chance(0.3) || condition === undefined ? { key, value } : { key, ...condition };
    });
    const branch = this.branch();
    return { name: 'transact', if: conditions, do: branch, else: branch.every(isPartRead) ? [] : this.branch() };
  }

  private branch(): Texts<TransactionOperation>[] {
    const { random } = this;
    const changed = new Set<string>();
    const branch: Texts<TransactionOperation>[] = random.chance(0.2) ? [{ range: this.range() }] : [];
    const reads = random.chance(0.2);
    for (let i = random.between(1, 3); i > 0; i--) {
      const key = this.key();
      if (reads || random.chance(0.3)) branch.push({ get: key });
      else if (!changed.has(key)) {
        changed.add(key);
        branch.push(random.chance(0.3) ? { delete: key } : { put: key, value: this.value(), ...this.hold() });
      }
    }
    return branch;
  }

  private key(): string {
    return `${FIRST_KEY}${this.random.below(this.plan.keys + FURTHER_KEYS)}`;
  }

  private value(): string {
    return `${this.name}.${++this.written}`;
  }

  private hold(): KeyHold {
    switch (this.random.below(6)) {
      case 0:
      case 1:
        return { ttl: this.random.pick(TTLS) };
      case 2:
      case 3:
        return { lease: this.lease() };
      case 4:
        return { keep: true };
      default:
        return {};
    }
  }

  /** Mostly one that exists, or did. */
  private lease(): number {
    const { random } = this;
    const { leases } = this.seen;
    if (leases.length === 0 || random.chance(0.05)) return random.between(1, 50);
    return leases[Math.max(0, leases.length - 1 - random.below(RECENT_LEASES))]!;
  }

  private condition(key: string): KeyCondition | undefined {
    switch (this.random.below(6)) {
      case 0:
        return { absent: true };
      case 1:
        return { present: true };
      case 2:
        return { revision: this.seen.revisions.get(key) ?? this.random.between(1, 50) };
      default:
        return undefined;
    }
  }

  private range(): { from: string; to: string | null; limit: number } {
    const { random } = this;
    const from = random.chance(0.5) ? FIRST_KEY : this.key();
    return { from, to: random.chance(0.3) ? `${this.key()}~` : null, limit: random.between(1, RANGE_LIMIT_MAX) };
  }
}

/** Executes the chosen log as the model. */
class StoreReplay implements Replay {
  readonly name = 'the model of the store';
  private readonly model = new StoreModel(MAX_KEYS, MAX_BYTES, 0);

  /**
   * By level: the last entry that a machine of this level or a lower one executed. The level is raised by one behind it,
   * which no machine sees.
   */
  private readonly lastOfLevel: readonly number[];

  constructor(
    private readonly operations: ReadonlyMap<string, ModelOperation>,
    executions: readonly (Execution | null | undefined)[],
  ) {
    const lastOf = (level: number): number =>
      executions.map((execution) => (execution?.level ?? Infinity) <= level).lastIndexOf(true);
    this.lastOfLevel = [0, 1].map(lastOf);
  }

  apply(execution: Execution, index: number): string | undefined {
    const { operation: bytes, result, level, timestampHi, timestampLo } = execution;
    if (level < this.model.level) return `has had level ${this.model.level} since before entry ${index}`;
    if (level > this.model.level) this.model.raise(level);
    const now = ((BigInt(timestampHi >>> 0) << 32n) | BigInt(timestampLo >>> 0)) / NS_PER_MS;
    const operation = this.operations.get(nameOf(bytes));
    if (operation !== undefined) return difference(operation, this.model.apply(operation, Number(now)), result);
    return this.strange(bytes, Number(now));
  }

  query(bytes: Uint8Array, index: number, result: Uint8Array): string | undefined {
    const { model } = this;
    const operation = this.operations.get(nameOf(bytes))!;
    const mayBeRaised = index >= (this.lastOfLevel[model.level] ?? Infinity);
    const higher = mayBeRaised ? LEVELS.filter((level) => level > model.level) : [];
    const isRight = higher.some(
      (level) => difference(operation, model.raised(level).query(operation), result) === undefined,
    );
    return isRight ? undefined : difference(operation, model.query(operation), result);
  }

  /**
   * An operation that no client was given: what it changes, and what the time of its entry ends. It has to be one of the
   * enemy, on its own keys or noise.
   */
  private strange(bytes: Uint8Array, now: number): string | undefined {
    const { model } = this;
    const keyAt = (at: { readonly key: number }, size: number): string =>
      nameOf(bytes.subarray(size, size + readU16(bytes, at.key)));
    switch (bytes[0]) {
      case Put.opcode: {
        const key = keyAt(Put.at, Put.size);
        model.apply({ name: 'put', key, value: nameOf(bytes.subarray(Put.size + key.length)) }, now);
        return ofNobody(key);
      }
      case Delete.opcode: {
        const key = keyAt(Delete.at, Delete.size);
        model.apply({ name: 'delete', key }, now);
        return ofNobody(key);
      }
      case Increment.opcode: {
        const key = keyAt(Increment.at, Increment.size);
        model.increment(key, now);
        return ofNobody(key);
      }
      case undefined:
      case NOISE:
        model.apply({ name: 'tick' }, now);
        return undefined;
      default:
        return NOBODYS;
    }
  }
}

/** What is wrong with an operation that no client was given, on this key. */
function ofNobody(key: string): string | undefined {
  return key < FIRST_KEY ? undefined : NOBODYS;
}

function difference(operation: ModelOperation, expected: Outcome, result: Uint8Array): string | undefined {
  const found = decodeOutcome(operation, result);
  return sameOutcome(found, expected)
    ? undefined
    : `${JSON.stringify(expected)}, and not ${JSON.stringify(found)}, to ${JSON.stringify(operation)}`;
}

function isRead(operation: ModelOperation): boolean {
  switch (operation.name) {
    case 'get':
    case 'read':
    case 'range':
      return true;
    case 'transact':
      return [...operation.do, ...operation.else].every(isPartRead);
    case 'commands':
      return operation.commands.every(isReadCommand);
    default:
      return false;
  }
}

function isPartRead(part: Texts<TransactionOperation>): boolean {
  return 'get' in part || 'range' in part;
}

/** Bytes as a text, one character each. */
function nameOf(bytes: Uint8Array): string {
  return String.fromCharCode(...bytes);
}
