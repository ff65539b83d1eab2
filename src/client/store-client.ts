/**
 * The store with revisions, transactions, ends of keys and leases, as methods. It needs the feature `store`: see
 * docs/start/library.md. Keys and values are bytes, or strings, which are encoded as UTF-8.
 *
 * Times are agreed times in milliseconds (`Client.agreedTime`). The replicas decide what has ended by the timestamps of
 * the log; this client's clock only decides whether a read asks for one.
 */
import { JitPaxosError } from '../errors.js';
import { checkKeys, optionNames } from '../host/options.js';
import { compareBytes } from '../machine/bytes.js';
import { KV_OPERATION_BYTES_MAX, KV_SCAN_LIMIT_MAX } from '../machine/kv-codec.js';
import {
  decodeStoreResult,
  encodeGrant,
  encodeRange,
  encodeRead,
  encodeRemove,
  encodeRenew,
  encodeRevoke,
  encodeTransaction,
  encodeWrite,
  transactionBytes,
  type KeyCondition,
  type KeyState,
  type StoreResults,
  type TransactionCondition,
  type TransactionOperation,
} from '../machine/store/codec.js';
import { RENEWED_MAX, type StoreOperationName } from '../machine/store/layout.js';
import { notUnderstood, resultTooLarge, storeFull, toBytes, wrongType, type Bytes } from './bytes-or-text.js';
import { encodeTick } from '../machine/store/codec.js';
import type { Client, CallOptions } from './client.js';
import { partsOf, type ClientParts } from './client-parts.js';
import { LeaseKeeper, type Lease, type LeaseOptions, type LeasePlace, type LeaseStore } from './lease.js';
import { elect, leader, lock, observe, semaphore, type Leader, type Lock } from './lock.js';
import { endTickerOf, type Ticked } from './end-ticker.js';
import { StoreWatch, type WatchOptions } from './store-watch.js';
import type {
  StoreValue,
  StoreLease,
  PutOptions,
  DeleteOptions,
  PutResult,
  RangeOptions,
  RangeResult,
  StoreCondition,
  StoreOperation,
  StoreOperationResult,
  StoreTransaction,
  TransactionResult,
} from './store-types.js';
import type { LineOptions, LineStore } from './waiting-line.js';

type Refused = 'bad-operation' | 'too-large' | 'full' | 'lease-ended' | 'wrong-type';
type Answered<Name extends StoreOperationName> = Exclude<StoreResults[Name], { status: Refused }>;

const DEFAULT_LIMIT = Math.min(100, KV_SCAN_LIMIT_MAX);
const TRANSACTION_PARTS = optionNames<StoreTransaction>({ if: true, do: true, else: true, fence: true });
const LEASE_OPTION_NAMES = optionNames<LeaseOptions & CallOptions>({
  ttl: true,
  margin: true,
  signal: true,
  timeout: true,
});
const READ_AGAIN = 'read fewer or smaller values at once, or raise the limit';

/**
 * All methods reject as Client.execute does, with KvError `kv-limit` for what is out of bounds, with `text-ill-formed` for
 * strings that are no Unicode text, with `result-unexpected` where the feature `store` is off or another state machine
 * answers, and with the codes named.
 */
export class StoreClient {
  /** Operations are encoded here: the client copies them before it returns. */
  private readonly scratch = new Uint8Array(KV_OPERATION_BYTES_MAX);

  constructor(private readonly client: Pick<Client, 'execute' | 'query' | 'agreedTime'>) {}

  /** The value with its revision, or undefined if the key is absent. Linearizable. Also rejects with `kv-result-too-large`. */
  async get(key: Bytes, options?: CallOptions): Promise<StoreValue | undefined> {
    const bytes = toBytes(key);
    const encode = (): Uint8Array => this.scratch.subarray(0, encodeRead(this.scratch, 0, bytes));
    let result = decoded('read', await this.client.query(encode(), options));
    if (result.status === 'ok' && this.isDue(result.found))
      result = (await this.byLog('read', encode(), options)) ?? result;
    return result.status === 'ok' ? result.found : undefined;
  }

  /**
   * Also rejects with `kv-store-full`, with `kv-lease-ended` if the lease is not there, and with `fenced`: nothing was
   * changed.
   */
  async put(key: Bytes, value: Bytes, options: PutOptions = {}): Promise<PutResult> {
    const { if: condition, ttl, lease, keep, fence, ...call } = options;
    if (fence !== undefined) {
      const { ok, revision, results } = await this.transact(
        { fence, if: conditionsOf(key, condition), do: [{ put: key, value, ttl, lease, keep }] },
        call,
      );
      const [done] = results;
      return { ok, revision, ends: done?.kind === 'put' ? done.ends : undefined };
    }
    const hold = { ttl, lease: lease?.number, keep };
    const length = encodeWrite(this.scratch, 0, toBytes(key), toBytes(value), hold, condition);
    const result = decoded('write', await this.client.execute(this.scratch.subarray(0, length), call));
    return {
      ok: result.status === 'ok',
      revision: result.revision,
      ends: result.status === 'ok' ? result.ends : undefined,
    };
  }

  /** False if the key was absent, or the condition did not hold. Also rejects with `fenced`. */
  async delete(key: Bytes, options: DeleteOptions = {}): Promise<boolean> {
    const { if: condition, fence, ...call } = options;
    if (fence !== undefined) {
      const { results } = await this.transact({ fence, if: conditionsOf(key, condition), do: [{ delete: key }] }, call);
      const [done] = results;
      return done?.kind === 'delete' && done.deleted;
    }
    const length = encodeRemove(this.scratch, 0, toBytes(key), condition);
    return decoded('remove', await this.client.execute(this.scratch.subarray(0, length), call)).status === 'ok';
  }

  /**
   * Entries in key order, with the revision of the store. Linearizable. Also rejects with `kv-result-too-large`, and with
   * `option-invalid` if both `prefix` and `to` are given.
   */
  async scan(options: RangeOptions & CallOptions = {}): Promise<RangeResult> {
    const { prefix: _prefix, from: _from, to: _to, limit: _limit, ...call } = options;
    const { from, to, limit } = boundsOf(options);
    const encode = (): Uint8Array => this.scratch.subarray(0, encodeRange(this.scratch, 0, from, to, limit));
    let result = decoded('range', await this.client.query(encode(), call));
    if (result.entries.some((entry) => this.isDue(entry)))
      result = (await this.byLog('range', encode(), call)) ?? result;
    return { revision: result.revision, entries: result.entries, next: result.next };
  }

  /**
   * Executes several operations as one: those of `do` if all conditions hold, otherwise those of `else`. All of them, or
   * none. Also rejects with `kv-store-full`, `kv-lease-ended`, `fenced`, all without a change, and with
   * `kv-result-too-large`, although its changes were made, if what it read does not fit.
   */
  async transact(transaction: StoreTransaction, options?: CallOptions): Promise<TransactionResult> {
    checkKeys('option-invalid', 'transact', transaction, TRANSACTION_PARTS);
    const { fence } = transaction;
    const parts = {
      if: (transaction.if ?? []).map(conditionOf),
      do: (transaction.do ?? []).map(operationOf),
      else: (transaction.else ?? []).map(operationOf),
    };
    if (fence !== undefined) {
      if (parts.else.some((operation) => 'put' in operation || 'delete' in operation))
        throw new JitPaxosError(
          'option-invalid',
          'transact: with a fence, `else` is executed also when the lock is lost, so it may only read; make the changes of `else` another transaction',
        );
      parts.if.push({ key: fence.key, revision: fence.token });
      parts.else.push({ get: fence.key });
    }
    const bytes = new Uint8Array(transactionBytes(parts));
    encodeTransaction(bytes, 0, parts);
    const result = decoded('transact', await this.client.execute(bytes, options));
    const branch = result.isDo ? parts.do : parts.else;
    const results = result.results.map((part, i) => resultOf(branch[i]!, part));
    if (fence !== undefined && !result.isDo) {
      const own = results.pop();
      if (own?.kind !== 'get' || own.found?.revision !== fence.token)
        throw new JitPaxosError(
          'fenced',
          `the lock with the token ${fence.token} is not held any more, and nothing was changed; stop what depends on it`,
        );
    }
    return { ok: result.isDo, revision: result.revision, results };
  }

  /**
   * A lease that renews itself until it is released or lost: docs/start/locks.md says what its holder may rely on. Needs a
   * StoreClient that was made with a Client. Also rejects with `kv-store-full`, and with `lease-lost` if the grant took
   * longer than the lease. Throws `option-invalid`.
   */
  async lease(options: LeaseOptions & CallOptions): Promise<Lease> {
    checkKeys('option-invalid', 'lease', options, LEASE_OPTION_NAMES);
    const { ttl, margin, ...call } = options;
    return keeperOf(this, this.client).grant({ ttl, margin }, call);
  }

  /**
   * Waits until no earlier holder is left, and holds the lock until it is released or lost. Those that wait are served in
   * the order in which they came. Write with `fence: lock`. Also rejects with `option-invalid`, `kv-store-full`,
   * `lease-lost`, with `lock-held` when the time to wait is over, and with `aborted`.
   * @param name 1 to 1,006 bytes, none of them zero
   */
  lock(name: Bytes, options: LineOptions): Promise<Lock> {
    return lock(this.line, name, options);
  }

  /**
   * Waits until this candidate leads. Elections and locks of one name have nothing to do with each other. Rejects as `lock`
   * does. @param value what `leader` and `leaders` tell others, up to 1,024 bytes
   */
  elect(name: Bytes, value: Bytes, options: LineOptions): Promise<Lock> {
    return elect(this.line, name, value, options);
  }

  /** Who leads; undefined: nobody. Linearizable. */
  leader(name: Bytes, options?: { readonly signal?: AbortSignal }): Promise<Leader | undefined> {
    return leader(this.line, name, options);
  }

  /**
   * Who leads now, then each that leads next; undefined while nobody does. One that led only briefly may be left out. Its
   * `next` rejects as `scan` and `watch` do, but not with `watch-compacted`.
   */
  leaders(
    name: Bytes,
    options?: { readonly signal?: AbortSignal },
  ): AsyncGenerator<Leader | undefined, void, undefined> {
    return observe(this.line, name, options);
  }

  /**
   * Waits for one of several permits. Rejects as `lock` does, and with `semaphore-differs` if others use the name with
   * another number. @param permits 1 to 10,000, the same for all
   */
  semaphore(name: Bytes, permits: number, options: LineOptions): Promise<Lock> {
    return semaphore(this.line, name, permits, options);
  }

  /**
   * A lease from now on, which only `renew` renews. Also rejects with `kv-store-full`. @param options `ttl` as in PutHold
   */
  async grant({ ttl, ...call }: { readonly ttl: number } & CallOptions): Promise<StoreLease> {
    const length = encodeGrant(this.scratch, 0, ttl);
    const result = decoded('grant', await this.client.execute(this.scratch.subarray(0, length), call));
    return { number: result.lease, ttl, ends: result.ends };
  }

  /**
   * Moves the ends of leases to their `ttl` from now, 1,024 in one operation. The new ends in ms; undefined for a lease
   * that has ended, which no renewal brings back.
   */
  async renew(
    leases: readonly Pick<StoreLease, 'number'>[],
    options?: CallOptions,
  ): Promise<readonly (number | undefined)[]> {
    const ends: (number | undefined)[] = [];
    for (let from = 0; from < leases.length; from += RENEWED_MAX) {
      const numbers = leases.slice(from, from + RENEWED_MAX).map(({ number }) => number);
      const length = encodeRenew(this.scratch, 0, numbers);
      const result = decoded('renew', await this.client.execute(this.scratch.subarray(0, length), options));
      ends.push(...result.ends);
    }
    return ends;
  }

  /** Ends a lease and with it its keys. False if it has ended already. */
  async revoke(lease: Pick<StoreLease, 'number'>, options?: CallOptions): Promise<boolean> {
    const length = encodeRevoke(this.scratch, 0, lease.number);
    return decoded('revoke', await this.client.execute(this.scratch.subarray(0, length), options)).status === 'ok';
  }

  /**
   * The changes of all keys that begin with a prefix, or with one of several: each once, in the order of their revisions,
   * from another replica if one is silent. It begins at once, not with the first `next`; it ends when the loop over it is
   * left, or `return` is called. A transaction's changes come one after another.
   *
   * Its `next` rejects with `watch-compacted` if the changes after `from` are no longer there, or this reader was too slow:
   * read again, then watch from the revision of that read. Also with `watch-refused` if no replica serves it, `aborted`,
   * `client-closed` if the client is closed or is closed meanwhile, and without `from` with the errors of `scan`. Throws
   * `option-invalid`.
   */
  watch(prefix: Bytes | readonly Bytes[], options: WatchOptions = {}): StoreWatch {
    return this.watchOf(prefix, options, false);
  }

  /** As locks, elections and semaphores see it. */
  private get line(): LineStore {
    const { client } = this;
    return {
      get timers() {
        return requireParts(client, 'a lock').clock;
      },
      lease: (options) => this.lease(options),
      scan: (options) => this.scan(options),
      transact: (transaction, options) => this.transact(transaction, options),
      watch: (prefix, options) => this.watch(prefix, options),
      watchEnd: (prefix, options) => this.watchOf(prefix, options, true),
    };
  }

  private watchOf(prefix: Bytes | readonly Bytes[], options: WatchOptions, isPrompt: boolean): StoreWatch {
    const { client } = this;
    const parts = requireParts(client, 'a watch');
    const prefixes = (typeof prefix === 'string' || prefix instanceof Uint8Array ? [prefix] : prefix).map(toBytes);
    const tick = async (): Promise<Ticked> => {
      const { now, nextEnd } = decoded(
        'tick',
        await client.execute(this.scratch.subarray(0, encodeTick(this.scratch, 0))),
      );
      return { now, nextEnd: nextEnd ?? 0 };
    };
    const present = async (): Promise<number> => (await this.scan({ limit: 1 })).revision;
    const ticker = endTickerOf(client, parts.clock, tick);
    return new StoreWatch(parts, prefixes, options, present, ticker, isPrompt);
  }

  /** Looks as if it had ended since the last operation: the log's time has to decide. */
  private isDue({ ends }: KeyState): boolean {
    return ends !== undefined && ends <= this.client.agreedTime();
  }

  /** Reads at the log's present time. Undefined: this client may not, and keeps what it read. */
  private async byLog<Name extends 'read' | 'range'>(
    name: Name,
    operation: Uint8Array,
    options: CallOptions | undefined,
  ): Promise<Answered<Name> | undefined> {
    try {
      return decoded(name, await this.client.execute(operation, options));
    } catch (error) {
      if (error instanceof JitPaxosError && error.code === 'read-only') return undefined;
      throw error;
    }
  }
}

/** The result, if it is an answer; refusals of the store are thrown. */
function decoded<Name extends StoreOperationName>(name: Name, bytes: Uint8Array): Answered<Name> {
  const result: StoreResults[StoreOperationName] = decodeStoreResult(name, bytes, 0, bytes.length);
  switch (result.status) {
    case 'full':
      throw storeFull();
    case 'wrong-type':
      throw wrongType();
    case 'lease-ended':
      throw new JitPaxosError(
        'kv-lease-ended',
        'the lease has ended or was never granted, and nothing was changed; grant another one, and do again what depended on it',
      );
    case 'too-large':
      throw resultTooLarge(result.neededBytes, READ_AGAIN);
    case 'bad-operation':
      if (result.reason !== 'opcode') throw notUnderstood(name, result.reason);
      throw new JitPaxosError(
        'result-unexpected',
        `the store does not know the operation ${name}: the feature store is off. When all replicas are of a version that knows it, switch it on with jitpaxos features enable store`,
      );
    default:
      return result as Answered<Name>;
  }
}

function resultOf(operation: TransactionOperation, bytes: Uint8Array): StoreOperationResult {
  if ('get' in operation) {
    const result = decoded('read', bytes);
    return { kind: 'get', found: result.status === 'ok' ? result.found : undefined };
  }
  if ('delete' in operation) return { kind: 'delete', deleted: decoded('remove', bytes).status === 'ok' };
  if ('range' in operation) {
    const { revision, entries, next } = decoded('range', bytes);
    return { kind: 'range', revision, entries, next };
  }
  const result = decoded('write', bytes);
  return { kind: 'put', revision: result.revision, ends: result.status === 'ok' ? result.ends : undefined };
}

function requireParts(client: object, what: string): ClientParts {
  const parts = partsOf(client);
  if (parts === undefined)
    throw new JitPaxosError('option-invalid', `${what} needs a Client; make the StoreClient with one`);
  return parts;
}

const keepers = new WeakMap<object, LeaseKeeper>();

/** All leases of a client are renewed together, whichever StoreClient granted them. */
function keeperOf(store: StoreClient, client: object): LeaseKeeper {
  let keeper = keepers.get(client);
  if (keeper !== undefined) return keeper;
  const { clock, first } = requireParts(client, 'a lease that renews itself');
  const urgent = new StoreClient(first);
  const leases: LeaseStore = {
    grant: (options) => store.grant(options),
    renew: (numbers, options) => urgent.renew(numbers, options),
    revoke: (lease, options) => store.revoke(lease, options),
    present: (places, options) => present(urgent, places, options),
  };
  keepers.set(client, (keeper = new LeaseKeeper(leases, clock)));
  return keeper;
}

/** Keys of locks that are compared in one operation: their bytes fit into it. */
const PLACES = 16;

async function present(
  store: StoreClient,
  places: readonly LeasePlace[],
  call: { readonly timeout: number },
): Promise<boolean[]> {
  const found: boolean[] = [];
  for (let from = 0; from < places.length; from += PLACES) {
    const some = places.slice(from, from + PLACES);
    // A single one is read, which needs no entry of the log.
    const areAll =
      some.length > 1 &&
      (await store.transact({ if: some.map(({ key, token }) => ({ key, revision: token })) }, call)).ok;
    for (const { key, token } of some) found.push(areAll || (await store.get(key, call))?.revision === token);
  }
  return found;
}

function conditionsOf(key: Bytes, condition: KeyCondition | undefined): StoreCondition[] {
  return condition === undefined ? [] : [{ key, ...condition }];
}

function conditionOf(condition: StoreCondition): TransactionCondition {
  const key = toBytes(condition.key);
  return 'value' in condition ? { key, value: toBytes(condition.value) } : { ...condition, key };
}

function operationOf(operation: StoreOperation): TransactionOperation {
  if ('get' in operation) return { get: toBytes(operation.get) };
  if ('delete' in operation) return { delete: toBytes(operation.delete) };
  if ('range' in operation) return { range: boundsOf(operation.range) };
  const { put, value, ttl, lease, keep } = operation;
  return { put: toBytes(put), value: toBytes(value), ttl, lease: lease?.number, keep };
}

function boundsOf({ prefix, from, to, limit }: RangeOptions): {
  from: Uint8Array;
  to: Uint8Array | null;
  limit: number;
} {
  if (prefix !== undefined && to !== undefined)
    throw new JitPaxosError('option-invalid', 'a range has prefix and to, which exclude each other; give one of them');
  const first = prefix === undefined ? new Uint8Array(0) : toBytes(prefix);
  const end = prefix === undefined ? (to === undefined ? null : toBytes(to)) : behind(first);
  const start = from === undefined ? first : toBytes(from);
  // Keys before the first one with the prefix do not begin with it.
  const isBefore = compareBytes(start, 0, start.length, first, 0, first.length) < 0;
  return { from: isBefore ? first : start, to: end, limit: limit ?? DEFAULT_LIMIT };
}

/** The first key behind all that begin with this; null: there is none. */
function behind(prefix: Uint8Array): Uint8Array | null {
  let length = prefix.length;
  while (length > 0 && prefix[length - 1] === 0xff) length--;
  if (length === 0) return null;
  const end = prefix.slice(0, length);
  end[length - 1]!++;
  return end;
}
