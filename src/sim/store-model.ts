/**
 * The store as a plain Map: what every operation must give, written as simply as possible. At level 0 it knows get, put
 * and delete alone. Redis commands, of level 2, are in commands-model.ts.
 */
import type {
  KeyCondition,
  KeyHold,
  StoreEntry,
  TransactionCondition,
  TransactionOperation,
} from '../machine/store/codec.js';
import { CommandsModel, type ModelCommand, type ModelKey } from './commands-model.js';

/** With texts for bytes. */
export type Texts<T> = T extends Uint8Array
  ? string
  : T extends readonly (infer E)[]
    ? readonly Texts<E>[]
    : T extends object
      ? { [K in keyof T]: Texts<T[K]> }
      : T;

export type ModelOperation =
  | { name: 'read'; key: string }
  | { name: 'write'; key: string; value: string; hold: KeyHold; condition: KeyCondition | undefined }
  | { name: 'remove'; key: string; condition: KeyCondition | undefined }
  | { name: 'range'; from: string; to: string | null; limit: number }
  | {
      name: 'transact';
      if: Texts<TransactionCondition>[];
      do: Texts<TransactionOperation>[];
      else: Texts<TransactionOperation>[];
    }
  | { name: 'grant'; ttl: number }
  | { name: 'renew'; leases: number[] }
  | { name: 'revoke'; lease: number }
  | { name: 'tick' }
  /** Of level 2. */
  | { name: 'commands'; commands: readonly ModelCommand[] }
  /** Of level 0. */
  | { name: 'put'; key: string; value: string }
  | { name: 'get' | 'delete'; key: string };

export interface Outcome {
  status: string;
  /** Of `bad-operation`. */
  reason?: string;
  revision?: number;
  found?: object;
  value?: string;
  ends?: number | undefined | (number | undefined)[];
  entries?: Texts<StoreEntry>[];
  next?: string | undefined;
  isDo?: boolean;
  results?: Outcome[];
  lease?: number;
  now?: number;
  nextEnd?: number | undefined;
  /** In RESP. */
  answers?: readonly string[];
  due?: number | undefined;
}

const ENTRY_BYTES = 32;
const OF_LEVEL_0: ReadonlySet<string> = new Set(['get', 'put', 'delete']);

export class StoreModel {
  readonly keys = new Map<string, ModelKey>();
  readonly leases = new Map<number, { end: number; ttl: number }>();
  revision = 1;
  now = 0;

  constructor(
    private readonly maxKeys: number,
    private readonly maxBytes: number,
    public level = 1,
  ) {}

  /** To a higher level. What is there at level 0 has revision 1. */
  raise(level: number): void {
    if (this.level === 0) {
      this.revision = 1;
      for (const key of this.keys.values()) key.revision = 1;
    }
    this.level = level;
  }

  /** What it will be once it is raised. */
  raised(level: number): StoreModel {
    const copy = new StoreModel(this.maxKeys, this.maxBytes, this.level);
    for (const [key, of] of this.keys) copy.keys.set(key, { ...of });
    for (const [number, of] of this.leases) copy.leases.set(number, { ...of });
    copy.revision = this.revision;
    copy.now = this.now;
    copy.raise(level);
    return copy;
  }

  apply(operation: ModelOperation, now: number): Outcome {
    this.advance(now);
    return this.execute(operation);
  }

  /** An increment of level 0, whose result is not given: a number has eight bytes. */
  increment(key: string, now: number): void {
    this.advance(now);
    this.drop(key);
    if (this.live(key)?.collection !== undefined) return;
    const value = this.keys.get(key)?.value;
    if (value === undefined || value.length === 8) this.put(key, value ?? '8 bytes.', { keep: true });
  }

  private advance(now: number): void {
    if (this.level === 0) return;
    this.now = Math.max(this.now, now);
    this.removeEnded();
  }

  /** As the last operation left it. */
  query(operation: ModelOperation): Outcome {
    return this.execute(operation, true);
  }

  private execute(operation: ModelOperation, isQuery = false): Outcome {
    const answer = (status: string): Outcome => ({ status, revision: this.revision });
    const isKnown = operation.name === 'commands' ? this.level > 1 : this.level > 0 || OF_LEVEL_0.has(operation.name);
    if (!isKnown) return { status: 'bad-operation', reason: 'opcode' };
    if ((operation.name === 'get' || operation.name === 'read') && this.live(operation.key)?.collection !== undefined)
      return operation.name === 'get' ? { status: 'wrong-type' } : answer('wrong-type');
    switch (operation.name) {
      case 'get': {
        const found = this.live(operation.key);
        return found === undefined ? { status: 'not-found' } : { status: 'ok', value: found.value };
      }
      case 'read': {
        const found = this.live(operation.key);
        return found === undefined ? answer('not-found') : { ...answer('ok'), found: this.state(found) };
      }
      case 'put': {
        this.drop(operation.key);
        if (!this.fits([{ put: operation.key, value: operation.value }])) return { status: 'full' };
        this.put(operation.key, operation.value, {});
        return { status: 'ok' };
      }
      case 'delete': {
        this.drop(operation.key);
        return { status: this.remove(operation.key) ? 'ok' : 'not-found' };
      }
      case 'write': {
        const { key, value, hold, condition } = operation;
        this.drop(key);
        if (!this.holds(key, condition)) return answer('mismatch');
        if (hold.lease !== undefined && !this.hasLease(hold.lease)) return answer('lease-ended');
        if (!this.fits([{ put: key, value }])) return answer('full');
        this.put(key, value, hold);
        return { ...answer('ok'), ends: this.endOf(this.keys.get(key)!) };
      }
      case 'remove': {
        const { key, condition } = operation;
        this.drop(key);
        if (!this.holds(key, condition)) return answer('mismatch');
        return this.remove(key) ? answer('ok') : answer('not-found');
      }
      case 'range': {
        const { from, to, limit } = operation;
        const inRange = [...this.keys.keys()].filter((key) => key >= from && (to === null || key < to)).sort();
        const entries: Texts<StoreEntry>[] = [];
        let next: string | undefined;
        for (const key of inRange) {
          if (entries.length === limit) {
            next = key;
            break;
          }
          const found = this.live(key);
          if (found !== undefined && found.collection === undefined) entries.push({ key, ...this.state(found) });
        }
        return { ...answer('ok'), entries, next };
      }
      case 'transact':
        return this.transact(operation);
      case 'commands': {
        const commands = new CommandsModel(this);
        const answers = operation.commands.map((command) => commands.execute(command));
        return { ...answer('ok'), due: isQuery ? commands.due : undefined, answers };
      }
      case 'grant': {
        if (!this.hasRoom(1, ENTRY_BYTES)) return answer('full');
        const lease = ++this.revision;
        const end = this.now + operation.ttl;
        this.leases.set(lease, { end, ttl: operation.ttl });
        return { ...answer('ok'), lease, ends: end };
      }
      case 'renew':
        return {
          ...answer('ok'),
          ends: operation.leases.map((number) => {
            if (!this.hasLease(number)) return undefined;
            const lease = this.leases.get(number)!;
            return (lease.end = Math.max(lease.end, this.now + lease.ttl));
          }),
        };
      case 'revoke': {
        if (!this.hasLease(operation.lease)) return answer('not-found');
        this.leases.get(operation.lease)!.end = this.now;
        this.removeEnded();
        return answer('ok');
      }
      case 'tick': {
        const ends = [...this.leases.values()].map(({ end }) => end);
        for (const { end } of this.keys.values()) if (end !== undefined) ends.push(end);
        return { ...answer('ok'), now: this.now, nextEnd: ends.length === 0 ? undefined : Math.min(...ends) };
      }
    }
  }

  private transact(operation: Extract<ModelOperation, { name: 'transact' }>): Outcome {
    const answer = (status: string): Outcome => ({ status, revision: this.revision });
    let isDo = true;
    for (const condition of operation.if) {
      const found = this.live(condition.key);
      if ('value' in condition && found?.collection !== undefined) return answer('wrong-type');
      isDo =
        'value' in condition ? found?.value === condition.value : this.holds(condition.key, condition as KeyCondition);
      if (!isDo) break;
    }
    const branch = isDo ? operation.do : operation.else;
    for (const part of branch)
      if ('put' in part && part.lease !== undefined && !this.hasLease(part.lease)) return answer('lease-ended');
    if (!this.fits(branch)) return answer('full');
    const results = branch.map((part): Outcome => {
      if ('get' in part) return this.execute({ name: 'read', key: part.get });
      if ('delete' in part) return this.execute({ name: 'remove', key: part.delete, condition: undefined });
      if ('range' in part) return this.execute({ name: 'range', ...part.range });
      this.drop(part.put);
      this.put(part.put, part.value, part);
      return { ...answer('ok'), ends: this.endOf(this.keys.get(part.put)!) };
    });
    return { ...answer('ok'), isDo, results };
  }

  private state(key: ModelKey): {
    value: string;
    revision: number;
    ends: number | undefined;
    lease: number | undefined;
  } {
    return { value: key.value, revision: key.revision, ends: this.endOf(key), lease: key.lease };
  }

  endOf({ end, lease }: ModelKey): number | undefined {
    return lease === undefined ? end : this.leases.get(lease)!.end;
  }

  live(key: string): ModelKey | undefined {
    const found = this.keys.get(key);
    return found !== undefined && (this.endOf(found) ?? Infinity) > this.now ? found : undefined;
  }

  private hasLease(number: number): boolean {
    return (this.leases.get(number)?.end ?? 0) > this.now;
  }

  private holds(key: string, condition: KeyCondition | undefined): boolean {
    const found = this.live(key);
    if (condition === undefined) return true;
    if ('absent' in condition) return found === undefined;
    if ('present' in condition) return found !== undefined;
    return found?.revision === condition.revision;
  }

  put(key: string, value: string, { ttl, lease, keep }: KeyHold): void {
    const before = keep === true ? this.keys.get(key) : undefined;
    this.keys.set(key, {
      value,
      revision: ++this.revision,
      end: ttl === undefined ? before?.end : this.now + ttl,
      lease: lease ?? before?.lease,
    });
  }

  remove(key: string): boolean {
    if (!this.keys.delete(key)) return false;
    this.revision++;
    return true;
  }

  /** A key that has ended goes when it is written. */
  drop(key: string): void {
    if (this.keys.has(key) && this.live(key) === undefined) this.remove(key);
  }

  private hasRoom(keys: number, bytes: number): boolean {
    let used = this.leases.size * ENTRY_BYTES;
    for (const [key, { value }] of this.keys) used += ENTRY_BYTES + key.length + value.length;
    return (
      (keys <= 0 || this.keys.size + this.leases.size + keys <= this.maxKeys) &&
      (bytes <= 0 || used + bytes <= this.maxBytes)
    );
  }

  private fits(branch: readonly Texts<TransactionOperation>[]): boolean {
    let keys = 0;
    let bytes = 0;
    for (const part of branch) {
      if ('put' in part) {
        const found = this.live(part.put);
        if (found === undefined) keys++;
        bytes += part.value.length - (found === undefined ? -ENTRY_BYTES - part.put.length : found.value.length);
      } else if ('delete' in part) {
        const found = this.live(part.delete);
        if (found === undefined) continue;
        keys--;
        bytes -= ENTRY_BYTES + part.delete.length + found.value.length;
      }
    }
    return this.hasRoom(keys, bytes);
  }

  private removeEnded(): void {
    for (let i = 0; i < 16; i++) {
      const due: [end: number, revision: number, remove: () => void][] = [];
      for (const [key, { end, revision }] of this.keys)
        if (end !== undefined && end <= this.now) due.push([end, revision, () => void this.remove(key)]);
      for (const [number, { end }] of this.leases)
        if (end <= this.now) due.push([end, number, () => this.removeOf(number)]);
      due.sort(([a, aRevision], [b, bRevision]) => a - b || aRevision - bRevision);
      if (due.length === 0) return;
      due[0]![2]();
    }
  }

  private removeOf(lease: number): void {
    const [first] = [...this.keys]
      .filter(([, held]) => held.lease === lease)
      .sort(([, a], [, b]) => a.revision - b.revision);
    if (first === undefined) this.leases.delete(lease);
    else this.remove(first[0]);
  }
}
