/**
 * CLIENT TRACKING: what clients keep of what they have read, and telling them when that has changed.
 *
 * The rule (S), *nothing is missed*: a client that was answered with what a key held at revision r is told of each later
 * change of it. So a read is noted when it is answered, and only if the feed has not gone beyond r by then; otherwise, and
 * while the feed cannot be trusted, the key is said to be invalid right behind the answer. If changes were lost, everything
 * is said to be invalid. That something is said that need not be costs a client one read, and is allowed.
 */
import type { Connection } from './connection.js';
import type { Feed } from './feed.js';
import type { OwnTracking } from './own-tracking.js';
import { array, bulk } from './resp-text.js';

/** Most keys of all clients, a key of two clients counting twice, and their bytes. Beyond it the oldest go, and are said to be invalid. */
export const TRACKED_MAX = 262_144;
const TRACKED_BYTES_MAX = 64 << 20;
/** Most prefixes of a connection, and of all. */
const PREFIXES_PER_CLIENT_MAX = 128;
const PREFIXES_MAX = 4_096;
const PREFIX_BYTES_MAX = 1_024;
/** Different lengths of all prefixes: each change of a key is looked for once for each. */
const PREFIX_LENGTHS_MAX = 64;
const INVALIDATE = bulk('invalidate');
const CHANNEL = bulk('__redis__:invalidate');

/** Whether what its next command reads is to be noted. */
export function isReadTracked({ tracking }: Connection): boolean {
  if (tracking === undefined) return false;
  const { mode, caching } = tracking;
  return mode === 'all' || (mode === 'optin' && caching === true) || (mode === 'optout' && caching !== false);
}

export class Trackers {
  readonly clients = new Set<Connection>();
  /** By key, a byte a character: by the id of a connection, the revision that its read reflects. */
  private readonly keys = new Map<string, Map<number, number>>();
  private readonly prefixes = new Map<string, Set<Connection>>();
  /** How many prefixes have each length. */
  private readonly lengths = new Map<number, number>();
  private tracked = 0;
  private bytes = 0;

  /** @param push says something to a connection at once */
  constructor(
    private readonly connections: ReadonlyMap<number, Connection>,
    private readonly feed: Feed,
    private readonly push: (connection: Connection, text: string) => void,
  ) {}

  /** Keys that are noted, a key of two clients counting twice. */
  get count(): number {
    return this.tracked;
  }

  get hasKeys(): boolean {
    return this.tracked > 0;
  }

  /** Why these prefixes cannot be added, in Redis' words; undefined: they can. */
  refusal(connection: Connection, prefixes: readonly string[]): string | undefined {
    const before = [...(connection.tracking?.prefixes ?? [])];
    for (const [i, prefix] of prefixes.entries()) {
      if (prefix.length > PREFIX_BYTES_MAX)
        return `ERR the prefix has ${prefix.length} bytes, this server takes ${PREFIX_BYTES_MAX}`;
      for (const other of before)
        if (prefix.startsWith(other) || other.startsWith(prefix))
          return `ERR Prefix '${prefix}' overlaps with an existing prefix '${other}'. Prefixes for a single client must not overlap.`;
      for (const other of prefixes.slice(i + 1))
        if (prefix.startsWith(other) || other.startsWith(prefix))
          return `ERR Prefix '${prefix}' overlaps with another provided prefix '${other}'. Prefixes for a single client must not overlap.`;
    }
    const count = before.length + prefixes.length;
    if (count > PREFIXES_PER_CLIENT_MAX) return `ERR more than ${PREFIXES_PER_CLIENT_MAX} prefixes of one client`;
    const isNew = (prefix: string): boolean => !this.prefixes.has(prefix);
    if (this.prefixes.size + prefixes.filter(isNew).length > PREFIXES_MAX)
      return `ERR all clients have more than ${PREFIXES_MAX} different prefixes`;
    if (new Set([...this.lengths.keys(), ...prefixes.map(({ length }) => length)]).size > PREFIX_LENGTHS_MAX)
      return `ERR the prefixes of all clients have more than ${PREFIX_LENGTHS_MAX} different lengths`;
    return undefined;
  }

  /** @param own with all its prefixes */
  start(connection: Connection, own: OwnTracking): void {
    // What it has read stays noted, also if it is the only client.
    this.leave(connection);
    connection.tracking = own;
    this.clients.add(connection);
    for (const prefix of own.prefixes) {
      const clients = this.prefixes.get(prefix);
      if (clients !== undefined) {
        clients.add(connection);
        continue;
      }
      this.prefixes.set(prefix, new Set([connection]));
      this.lengths.set(prefix.length, (this.lengths.get(prefix.length) ?? 0) + 1);
    }
  }

  /** Its keys stay noted until they change: that costs less than to look for them. */
  stop(connection: Connection): void {
    this.leave(connection);
    if (this.clients.size === 0) this.clear();
  }

  private leave(connection: Connection): void {
    const { tracking } = connection;
    if (tracking === undefined) return;
    connection.tracking = undefined;
    this.clients.delete(connection);
    for (const prefix of tracking.prefixes) {
      const clients = this.prefixes.get(prefix)!;
      clients.delete(connection);
      if (clients.size > 0) continue;
      this.prefixes.delete(prefix);
      const left = this.lengths.get(prefix.length)! - 1;
      if (left > 0) this.lengths.set(prefix.length, left);
      else this.lengths.delete(prefix.length);
    }
  }

  /**
   * A read was answered, and its answer is on its way.
   * @param revision of the store that the answer reflects, or an earlier one
   */
  answered(connection: Connection, keys: readonly string[], revision: number): void {
    if (connection.isClosed || connection.tracking === undefined) return;
    const { feed } = this;
    if (!feed.isTrusted || revision < feed.position) {
      for (const key of keys) this.tell(connection, [key]);
      return;
    }
    for (const key of keys) this.note(connection.id, key, revision);
  }

  /** A key has changed. */
  changed(key: string, revision: number): void {
    const found = this.keys.get(key);
    if (found !== undefined) {
      for (const [id, since] of found) {
        if (since >= revision) continue;
        this.drop(key, found, id);
        this.tellId(id, key);
      }
    }
    for (const length of this.lengths.keys()) {
      if (length > key.length) continue;
      for (const connection of this.prefixes.get(key.slice(0, length)) ?? []) this.tell(connection, [key]);
    }
  }

  /**
   * A connection of this front end has written keys, and is about to be told: the feed says so later.
   * @param isReplaced (S) the keys surely hold what the writer gave, so one with NOLOOP need not hear of earlier changes
   */
  wrote(writer: Connection, keys: readonly string[], isReplaced: boolean): void {
    for (const key of keys) {
      const found = this.keys.get(key);
      if (found === undefined) continue;
      for (const id of [...found.keys()]) {
        const isLoop = id === writer.id && writer.tracking?.noLoop === true;
        if (isLoop && !isReplaced) continue;
        this.drop(key, found, id);
        if (!isLoop) this.tellId(id, key);
      }
    }
  }

  /** Nothing that any client keeps is known to be right. */
  invalidateAll(): void {
    this.clear();
    for (const connection of this.clients) this.tell(connection, undefined);
  }

  private clear(): void {
    this.keys.clear();
    this.tracked = this.bytes = 0;
  }

  private note(id: number, key: string, revision: number): void {
    let found = this.keys.get(key);
    if (found === undefined) this.keys.set(key, (found = new Map()));
    // An earlier read of it may be what the client keeps.
    if (found.has(id)) return;
    found.set(id, revision);
    this.tracked++;
    this.bytes += key.length;
    while (this.tracked > TRACKED_MAX || this.bytes > TRACKED_BYTES_MAX) this.evict();
  }

  private evict(): void {
    const [[key, found]] = this.keys as unknown as [[string, Map<number, number>]];
    for (const id of [...found.keys()]) {
      this.drop(key, found, id);
      this.tellId(id, key);
    }
  }

  private drop(key: string, found: Map<number, number>, id: number): void {
    found.delete(id);
    this.tracked--;
    this.bytes -= key.length;
    if (found.size === 0) this.keys.delete(key);
  }

  private tellId(id: number, key: string): void {
    const connection = this.connections.get(id);
    if (connection?.tracking !== undefined && connection.tracking.mode !== 'bcast') this.tell(connection, [key]);
  }

  /** @param keys undefined: all */
  private tell(connection: Connection, keys: readonly string[] | undefined): void {
    const tracking = connection.tracking!;
    const target = tracking.redirect === 0 ? connection : this.connections.get(tracking.redirect);
    if (target === undefined) {
      const redirect = tracking.redirect;
      if (!tracking.isBroken && connection.version === 3)
        this.push(connection, `>2\r\n${bulk('tracking-redir-broken')}:${redirect}\r\n`);
      tracking.isBroken = true;
      return;
    }
    if (target.version === 3)
      this.push(target, `>2\r\n${INVALIDATE}${keys === undefined ? '_\r\n' : array(keys.map(bulk))}`);
    else if (tracking.redirect !== 0 && target.subscriptions.count > 0)
      this.push(target, `*3\r\n${bulk('message')}${CHANNEL}${keys === undefined ? '$-1\r\n' : array(keys.map(bulk))}`);
  }
}
