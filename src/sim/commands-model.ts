/**
 * Redis commands as the plain model of the store executes them (store-model.ts): those on hashes, sets and lists that its
 * workload sends, and a few on keys. Answers are RESP2.
 */
import type { KeyHold } from '../machine/store/codec.js';

/** The words of a command. */
export type Words = readonly string[];
/** Executed only if every key has the revision that is given, 0 if it is absent. */
export interface ModelTransaction {
  readonly watched: readonly (readonly [key: string, revision: number])[];
  readonly commands: readonly Words[];
}
export type ModelCommand = Words | ModelTransaction;

const WRONG_TYPE = '-WRONGTYPE Operation against a key holding the wrong kind of value\r\n';
const NIL = '$-1\r\n';
const READS: ReadonlySet<string> = new Set(['GET', 'TYPE', 'HGET', 'HLEN', 'SISMEMBER', 'SCARD', 'LLEN', 'LRANGE']);

export function isTransaction(command: ModelCommand): command is ModelTransaction {
  return 'watched' in command;
}

export function isReadCommand(command: ModelCommand): boolean {
  return isTransaction(command) ? command.commands.every(isReadCommand) : READS.has(command[0]!);
}

const bulk = (text: string): string => `$${text.length}\r\n${text}\r\n`;
const integer = (n: number): string => `:${n}\r\n`;

/** What a key holds that is no string. */
export type ModelCollection =
  | { readonly type: 'hash'; readonly members: Map<string, string> }
  | { readonly type: 'set'; readonly members: Set<string> }
  | { readonly type: 'list'; readonly members: string[] };

export interface ModelKey {
  value: string;
  /** In place of a string. */
  collection?: ModelCollection;
  revision: number;
  /** Agreed time, ms. */
  end: number | undefined;
  lease: number | undefined;
}

/** What the commands need of the model of the store. */
interface KeysModel {
  readonly keys: Map<string, ModelKey>;
  revision: number;
  readonly now: number;
  live(key: string): ModelKey | undefined;
  endOf(key: ModelKey): number | undefined;
  drop(key: string): void;
  put(key: string, value: string, hold: KeyHold): void;
  remove(key: string): boolean;
}

/** Executes commands at a model. One of these for each operation. */
export class CommandsModel {
  /** In a query: the earliest end of a key that was looked at. */
  due: number | undefined;

  constructor(private readonly model: KeysModel) {}

  execute(command: ModelCommand): string {
    if (!isTransaction(command)) return this.one(command);
    for (const [key, revision] of command.watched) if ((this.seen(key)?.revision ?? 0) !== revision) return '*-1\r\n';
    return `*${command.commands.length}\r\n${command.commands.map((one) => this.one(one)).join('')}`;
  }

  private one([name, key, ...rest]: Words): string {
    const { model } = this;
    switch (name) {
      case 'GET': {
        const found = this.seen(key!);
        if (found?.collection !== undefined) return WRONG_TYPE;
        return found === undefined ? NIL : bulk(found.value);
      }
      case 'TYPE': {
        const found = this.seen(key!);
        return `+${found === undefined ? 'none' : (found.collection?.type ?? 'string')}\r\n`;
      }
      case 'SET':
        model.drop(key!);
        model.put(key!, rest[0]!, rest[1] === 'PX' ? { ttl: Number(rest[2]) } : {});
        return '+OK\r\n';
      case 'DEL':
        return integer(model.live(key!) !== undefined && model.remove(key!) ? 1 : 0);
      case 'PEXPIRE': {
        const found = model.live(key!);
        if (found === undefined) return integer(0);
        model.keys.set(key!, {
          ...found,
          revision: ++model.revision,
          end: model.now + Number(rest[0]),
          lease: undefined,
        });
        return integer(1);
      }
      case 'RENAME': {
        const found = model.live(key!);
        const to = rest[0]!;
        if (found === undefined) return '-ERR no such key\r\n';
        if (to === key) return '+OK\r\n';
        model.drop(to);
        model.remove(key!);
        model.keys.set(to, { ...found, revision: ++model.revision });
        return '+OK\r\n';
      }
      case 'FLUSHALL':
        if (model.keys.size > 0) model.revision++;
        model.keys.clear();
        return '+OK\r\n';
      default:
        return this.ofCollection(name!, key!, rest);
    }
  }

  private ofCollection(name: string, key: string, rest: Words): string {
    const type = name.startsWith('H') ? 'hash' : name.startsWith('S') ? 'set' : 'list';
    const isRead = READS.has(name);
    if (!isRead) this.model.drop(key);
    const found = isRead ? this.seen(key) : this.model.live(key);
    const collection = found?.collection;
    if (found !== undefined && collection?.type !== type) return WRONG_TYPE;
    const { members = undefined } = collection ?? {};
    switch (name) {
      case 'HGET': {
        const value = (members as Map<string, string> | undefined)?.get(rest[0]!);
        return value === undefined ? NIL : bulk(value);
      }
      case 'SISMEMBER':
        return integer((members as Set<string> | undefined)?.has(rest[0]!) === true ? 1 : 0);
      case 'HLEN':
      case 'SCARD':
        return integer((members as Map<string, string> | undefined)?.size ?? 0);
      case 'LLEN':
        return integer((members as string[] | undefined)?.length ?? 0);
      case 'LRANGE': {
        const list = ((members ?? []) as string[]).slice(Number(rest[0]), Number(rest[1]) + 1);
        return `*${list.length}\r\n${list.map(bulk).join('')}`;
      }
      case 'HSET': {
        const hash = new Map(members as Map<string, string> | undefined);
        const before = hash.size;
        for (let i = 0; i < rest.length; i += 2) hash.set(rest[i]!, rest[i + 1]!);
        this.save(key, found, { type: 'hash', members: hash });
        return integer(hash.size - before);
      }
      case 'SADD': {
        const set = new Set(members as Set<string> | undefined);
        const before = set.size;
        for (const member of rest) set.add(member);
        if (set.size > before) this.save(key, found, { type: 'set', members: set });
        return integer(set.size - before);
      }
      case 'HDEL':
      case 'SREM': {
        if (collection === undefined) return integer(0);
        const left = name === 'HDEL' ? new Map(members as Map<string, string>) : new Set(members as Set<string>);
        const removed = rest.filter((member) => left.delete(member)).length;
        if (removed > 0) this.save(key, found, { type, members: left } as ModelCollection);
        return integer(removed);
      }
      case 'RPUSH':
      case 'LPUSH': {
        const list = (members ?? []) as string[];
        const pushed = name === 'RPUSH' ? [...list, ...rest] : [...[...rest].reverse(), ...list];
        this.save(key, found, { type: 'list', members: pushed });
        return integer(pushed.length);
      }
      case 'LPOP':
      case 'RPOP': {
        if (collection === undefined) return NIL;
        const list = [...(members as string[])];
        const popped = name === 'LPOP' ? list.shift() : list.pop();
        this.save(key, found, { type: 'list', members: list });
        return bulk(popped!);
      }
      default:
        throw new Error(`the model does not know the command ${name}`);
    }
  }

  /** A key that a command looks at: a query says when the first of these ends. */
  private seen(key: string): ModelKey | undefined {
    const found = this.model.live(key);
    const end = found === undefined ? undefined : this.model.endOf(found);
    if (end !== undefined) this.due = Math.min(this.due ?? Infinity, end);
    return found;
  }

  /** A new collection takes a number for its generation; whatever is done to one, it gets one revision. */
  private save(key: string, found: ModelKey | undefined, collection: ModelCollection): void {
    const { model } = this;
    if (found === undefined) model.revision++;
    const { members } = collection;
    if ((Array.isArray(members) ? members.length : members.size) === 0) {
      model.remove(key);
      return;
    }
    const { end, lease } = found ?? { end: undefined, lease: undefined };
    model.keys.set(key, { value: '', collection, revision: ++model.revision, end, lease });
  }
}
