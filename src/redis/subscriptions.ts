/**
 * Who has subscribed to which channels and patterns at this front end, and what they are told.
 *
 * The rule: a message is told to a subscriber at most once for each channel and pattern, in the order of revisions, and
 * never if it was published before the subscription as far as this front end knows. What subscribers cost is bounded, and
 * one that does not read is closed.
 */
import { matchesGlob } from '../machine/redis/glob.js';
import type { Connection } from './connection.js';
import type { SubscriptionKind } from './own-subscriptions.js';
import { textOf } from './resp-reader.js';
import { array, bulk, integer, nothing } from './resp-text.js';

/** Most channels and patterns of a connection; most different patterns, and bytes of all subscriptions, of the front end. */
const SUBSCRIPTIONS_MAX = 16_384;
const PATTERNS_MAX = 1_024;
/** Bytes of all different patterns: each message is compared with every one, in as many steps as both lengths multiplied at worst. */
const PATTERN_BYTES_MAX = 64 << 10;
const BYTES_MAX = 64 << 20;
const NAME_BYTES_MAX = 1_024;
/** What a subscription costs beside its name. */
const EACH_BYTES = 128;

interface Pattern {
  readonly bytes: Uint8Array;
  readonly subscribers: Set<Connection>;
}

export class Subscriptions {
  private readonly channels = new Map<string, Set<Connection>>();
  private readonly patterns = new Map<string, Pattern>();
  private bytes = 0;
  private patternBytes = 0;
  private total = 0;

  /** @param push says something to a connection at once */
  constructor(private readonly push: (connection: Connection, text: string) => void) {}

  /** Subscriptions of all connections. */
  get count(): number {
    return this.total;
  }

  get channelCount(): number {
    return this.channels.size;
  }

  get patternCount(): number {
    return this.patterns.size;
  }

  /** Why these cannot be added; undefined: they can. */
  refusal(connection: Connection, kind: SubscriptionKind, names: readonly string[]): string | undefined {
    const own = connection.subscriptions.of(kind);
    const added = new Set(names.filter((name) => !own.has(name)));
    const longest = Math.max(...names.map(({ length }) => length));
    if (longest > NAME_BYTES_MAX) return `ERR the ${kind} has ${longest} bytes, this server takes ${NAME_BYTES_MAX}`;
    if (connection.subscriptions.count + added.size > SUBSCRIPTIONS_MAX)
      return `ERR more than ${SUBSCRIPTIONS_MAX} subscriptions of one client`;
    const bytes = [...added].reduce((sum, { length }) => sum + EACH_BYTES + length, 0);
    if (this.bytes + bytes > BYTES_MAX) return `ERR the subscriptions of all clients have more than ${BYTES_MAX} bytes`;
    const isNew = (name: string): boolean => kind === 'pattern' && !this.patterns.has(name);
    const patterns = [...added].filter(isNew);
    if (this.patterns.size + patterns.length > PATTERNS_MAX)
      return `ERR all clients have more than ${PATTERNS_MAX} different patterns`;
    if (patterns.reduce((sum, { length }) => sum + length, this.patternBytes) > PATTERN_BYTES_MAX)
      return `ERR the different patterns of all clients have more than ${PATTERN_BYTES_MAX} bytes`;
    return undefined;
  }

  /** The replies, one for each name. @param revision of the store, as far as it is known */
  add(connection: Connection, kind: SubscriptionKind, names: readonly string[], revision: number): string {
    let replies = '';
    for (const name of names) {
      const own = connection.subscriptions.of(kind);
      if (!own.has(name)) {
        own.set(name, revision);
        this.note(connection, kind, name);
        this.total++;
        this.bytes += EACH_BYTES + name.length;
      }
      replies += confirmed(connection, kind === 'channel' ? 'subscribe' : 'psubscribe', name);
    }
    return replies;
  }

  /** The replies, one for each name. @param names none: all */
  remove(connection: Connection, kind: SubscriptionKind, names: readonly string[]): string {
    const own = connection.subscriptions.of(kind);
    const word = kind === 'channel' ? 'unsubscribe' : 'punsubscribe';
    const chosen = names.length > 0 ? names : [...own.keys()];
    if (chosen.length === 0) return confirmed(connection, word, undefined);
    let replies = '';
    for (const name of chosen) {
      this.drop(connection, kind, name);
      replies += confirmed(connection, word, name);
    }
    return replies;
  }

  /** The connection is closed, or begins anew. */
  forget(connection: Connection): void {
    for (const kind of ['channel', 'pattern'] as const)
      for (const name of [...connection.subscriptions.of(kind).keys()]) this.drop(connection, kind, name);
  }

  /** How many subscribers a message on this channel has here. */
  receivers(channel: string): number {
    let count = this.channels.get(channel)?.size ?? 0;
    if (this.patterns.size === 0) return count;
    const bytes = Buffer.from(channel, 'latin1');
    for (const { bytes: pattern, subscribers } of this.patterns.values())
      if (isMatch(pattern, bytes)) count += subscribers.size;
    return count;
  }

  /** Channels with subscribers, without those of patterns. */
  names(pattern: string | undefined): string[] {
    const names = [...this.channels.keys()];
    if (pattern === undefined) return names;
    const bytes = Buffer.from(pattern, 'latin1');
    return names.filter((name) => isMatch(bytes, Buffer.from(name, 'latin1')));
  }

  subscribers(channel: string): number {
    return this.channels.get(channel)?.size ?? 0;
  }

  /** Tells a message to all subscribers. @returns how many there were */
  deliver(channel: Uint8Array, message: string, revision: number): number {
    const name = textOf(channel);
    const direct = this.channels.get(name);
    let told = 0;
    const tell = (connection: Connection, since: number, parts: Parts): void => {
      if (since >= revision) return;
      this.push(connection, parts.text(connection.version));
      told++;
    };
    if (direct !== undefined) {
      const parts = new Parts(['message', name, message]);
      for (const connection of direct) tell(connection, connection.subscriptions.channels.get(name)!, parts);
    }
    for (const [pattern, { bytes, subscribers }] of this.patterns) {
      if (!isMatch(bytes, channel)) continue;
      const parts = new Parts(['pmessage', pattern, name, message]);
      for (const connection of subscribers) tell(connection, connection.subscriptions.patterns.get(pattern)!, parts);
    }
    return told;
  }

  private note(connection: Connection, kind: SubscriptionKind, name: string): void {
    if (kind === 'channel') {
      const subscribers = this.channels.get(name);
      if (subscribers === undefined) this.channels.set(name, new Set([connection]));
      else subscribers.add(connection);
      return;
    }
    const pattern = this.patterns.get(name);
    if (pattern !== undefined) pattern.subscribers.add(connection);
    else {
      this.patterns.set(name, { bytes: Buffer.from(name, 'latin1'), subscribers: new Set([connection]) });
      this.patternBytes += name.length;
    }
  }

  private drop(connection: Connection, kind: SubscriptionKind, name: string): void {
    if (!connection.subscriptions.of(kind).delete(name)) return;
    this.total--;
    this.bytes -= EACH_BYTES + name.length;
    const table = kind === 'channel' ? this.channels : this.patterns;
    const found = kind === 'channel' ? this.channels.get(name)! : this.patterns.get(name)!.subscribers;
    found.delete(connection);
    if (found.size > 0) return;
    table.delete(name);
    if (kind === 'pattern') this.patternBytes -= name.length;
  }
}

/** A message as each version has it, made once. */
class Parts {
  private readonly made: (string | undefined)[] = [];

  constructor(private readonly words: readonly string[]) {}

  text(version: 2 | 3): string {
    return (this.made[version] ??=
      `${version === 3 ? '>' : '*'}${this.words.length}\r\n${this.words.map(bulk).join('')}`);
  }
}

function confirmed(connection: Connection, word: string, name: string | undefined): string {
  const { version, subscriptions } = connection;
  const text = array([bulk(word), name === undefined ? nothing(version) : bulk(name), integer(subscriptions.count)]);
  return version === 3 ? `>${text.slice(1)}` : text;
}

function isMatch(pattern: Uint8Array, text: Uint8Array): boolean {
  return matchesGlob(pattern, 0, pattern.length, text, 0, text.length);
}
