/**
 * What a front end tells its clients without being asked: messages of channels, keyspace notifications, and that what they
 * keep of the store has changed. All of it comes from the one feed, so all front ends tell it in one order.
 *
 * The rule: a client that does not take what it is told is closed, as Redis does by client-output-buffer-limit; and what
 * was lost is said, in the log and in a metric.
 */
import type { WatchedChange } from '../client/watch-reader.js';
import { readU16 } from '../wire/u64.js';
import { EVENT_BYTES } from '../wire/watches.js';
import type { Connection } from './connection.js';
import type { Counters } from './counters.js';
import { Feed, Need } from './feed.js';
import { isTelling, isWanted, namesOf } from './notifications.js';
import { textOf } from './resp-reader.js';
import { Subscriptions } from './subscriptions.js';
import { Trackers } from './tracking.js';

/** Bytes that a client has not taken: beyond the first it is closed at once, beyond the second after a minute. */
const PUSH_BYTES_MAX = 32 << 20;
export const PUSH_BYTES_SOFT = 8 << 20;
/** After so many bytes to clients that do not take them, it is looked at what all of them leave. */
const LOOK_BYTES = 32 << 20;
/** Between two lines of the log about the same. */
const LOG_MS = 10_000;

export interface AudienceEvents {
  warn(event: string, details: Readonly<Record<string, string | number>>): void;
  /** Clients were told much: they may leave more than there is memory for. */
  crowded(): void;
}

export class Audience {
  readonly feed: Feed;
  readonly subscriptions: Subscriptions;
  readonly trackers: Trackers;
  private readonly unflushed = new Set<Connection>();
  private readonly warnedMs = new Map<string, number>();
  /** Told since `crowded` was last called, bytes. */
  private flushedBytes = 0;
  private setting = '';
  private isNotifying = false;

  constructor(
    connections: ReadonlyMap<number, Connection>,
    private readonly counters: Counters,
    private readonly events: AudienceEvents,
  ) {
    this.feed = new Feed({
      changed: (change) => this.changed(change),
      lost: (error) => {
        counters.feedLost++;
        this.trackers.invalidateAll();
        this.warn(
          'redis.changes-lost',
          error.message,
          'messages were lost; clients with CLIENT TRACKING were told to forget everything',
        );
      },
      silent: () => {
        counters.feedSilent++;
        this.trackers.invalidateAll();
        this.warn(
          'redis.changes-silent',
          'no replica has told changes for some seconds',
          'clients with CLIENT TRACKING were told to forget everything; messages come later',
        );
      },
      refused: (error) => this.warn('redis.changes-refused', error.message, 'it is tried again every second'),
    });
    const push = (connection: Connection, text: string): void => this.push(connection, text);
    this.subscriptions = new Subscriptions(push);
    this.trackers = new Trackers(connections, this.feed, push);
  }

  /** CONFIG SET notify-keyspace-events. @param setting normalized */
  notify(setting: string): void {
    this.setting = setting;
    this.isNotifying = isTelling(setting);
    this.adjust();
  }

  /** Who listens may have changed. */
  adjust(): void {
    const { subscriptions, trackers } = this;
    const hasSubscribers = subscriptions.count > 0;
    this.feed.need(
      (hasSubscribers ? Need.messages : 0) |
        (trackers.clients.size > 0 ? Need.keys : 0) |
        (hasSubscribers && this.isNotifying ? Need.events : 0),
    );
  }

  /** The connection is closed, or begins anew. */
  forget(connection: Connection): void {
    this.subscriptions.forget(connection);
    this.trackers.stop(connection);
    this.unflushed.delete(connection);
    this.adjust();
  }

  private changed({ kind, key, value, revision }: WatchedChange): void {
    if (kind === 'message') {
      if (value !== undefined) {
        this.counters.messagesTold += this.subscriptions.deliver(key, textOf(value), revision);
        return;
      }
      this.counters.messagesLost++;
      this.warn(
        'redis.message-lost',
        'a message was too long for what the replicas keep of changes',
        'give their store more `changes`, or send shorter messages',
      );
      return;
    }
    const name = textOf(key);
    this.trackers.changed(name, revision);
    if (!this.isNotifying || this.subscriptions.count === 0) return;
    const event = value?.length === EVENT_BYTES ? readU16(value, 0) : 0;
    for (const named of namesOf(kind, event))
      if (isWanted(this.setting, named)) this.tellEvent(named.name, name, revision);
  }

  private tellEvent(event: string, key: string, revision: number): void {
    const tell = (channel: string, message: string): void => {
      const bytes = Buffer.from(channel, 'latin1');
      this.counters.messagesTold += this.subscriptions.deliver(bytes, message, revision);
    };
    if (this.setting.includes('K')) tell(`__keyspace@0__:${key}`, event);
    if (this.setting.includes('E')) tell(`__keyevent@0__:${event}`, key);
  }

  /** Says something at once; it is sent at the end of this pass of the event loop. */
  private push(connection: Connection, text: string): void {
    if (connection.isClosed || connection.isClosing) return;
    connection.tell(text);
    if (connection.unsent + connection.unflushed > PUSH_BYTES_MAX) {
      this.counters.closedSlow++;
      connection.socket.destroy();
      connection.isClosed = true;
      return;
    }
    if (this.unflushed.size === 0) setImmediate(this.flush);
    this.unflushed.add(connection);
  }

  private readonly flush = (): void => {
    const connections = [...this.unflushed];
    this.unflushed.clear();
    for (const connection of connections) {
      this.flushedBytes += connection.unflushed;
      connection.flush();
      if (this.flushedBytes < LOOK_BYTES) continue;
      this.flushedBytes = 0;
      this.events.crowded();
    }
  };

  private warn(event: string, found: string, next: string): void {
    const now = performance.now();
    if (now - (this.warnedMs.get(event) ?? -Infinity) < LOG_MS) return;
    this.warnedMs.set(event, now);
    this.events.warn(event, { found, next });
  }
}
