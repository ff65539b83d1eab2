/** What all connections of a front end share: the cluster behind it, its users, its settings and its counters. */
import { randomBytes } from 'node:crypto';
import { systemMs } from '../client/lease-clock.js';
import { Audience, type AudienceEvents } from './audience.js';
import type { Connection } from './connection.js';
import { newCounters } from './counters.js';
import { InputMemory } from './input-memory.js';
import type { Login, Logins } from './logins.js';
import { isChannelForbidden } from './permissions.js';
import { ARGUMENTS_MAX, textOf } from './resp-reader.js';
import { failure } from './resp-text.js';
import { newSettings } from './settings.js';
import { EVERYBODY, type User, type Users } from './users.js';

/** What the front end uses of a Client. */
export interface Store {
  execute(operation: Uint8Array): Promise<Uint8Array>;
  query(operation: Uint8Array): Promise<Uint8Array>;
  agreedTime(): number;
}

export interface FrontOptions {
  /** Longest operation that carries commands, and longest result. */
  readonly operationBytes: number;
  readonly roomBytes: number;
  /** Longest operation of several commands. */
  readonly batchBytes: number;
  /** Operations that are open at once. */
  readonly lanes: number;
  readonly timeoutMs: number;
  readonly clientsMax: number;
  /** Commands that were not taken yet, of all connections, bytes. Default 512 MiB. */
  readonly inputBytesMax?: number;
  /** Members besides the primary: what WAIT counts. */
  readonly othersCount: number;
  /** Undefined: there are no users, and only this host may connect. */
  readonly logins: Logins | undefined;
}

const DEFAULT_INPUT_BYTES = 512 << 20;

const NOT_CONNECTED = failure('TRYAGAIN this server has no session with the cluster yet; nothing was executed');
const CLOSING = failure('TRYAGAIN this server is being stopped; nothing was executed');

export class Front {
  readonly counters = newCounters();
  readonly connections = new Map<number, Connection>();
  readonly settings: Map<string, string>;
  readonly input: InputMemory;
  readonly startedMs = performance.now();
  readonly runId = randomBytes(20).toString('hex');
  readonly argumentsMax = ARGUMENTS_MAX;
  /** The port that clients connect to. */
  port = 0;
  /** The session with the cluster; undefined: there is none at the moment. */
  store: Store | undefined;
  /** The first session is being opened: commands that need it wait, no longer than the timeout. */
  isStarting = false;
  isStopping = false;
  /** Looks at what clients leave unread. */
  onCrowded: () => void = () => {};
  /** Keys of the store, when somebody last asked. */
  keys = 0;
  /** The highest revision of the store that an answer has shown. */
  revision = 0;
  /** While answers are delivered: the revision that they all reflect; −1: they come from an operation that writes. */
  answerRevision = -1;
  readonly audience: Audience;
  /** Set by the server: the connection may have commands that can be taken. */
  wake: (connection: Connection) => void = () => undefined;
  /** Set by the server: a line for the log. */
  warn: AudienceEvents['warn'] = () => undefined;

  constructor(readonly options: FrontOptions) {
    this.settings = newSettings(options.clientsMax);
    this.input = new InputMemory(options.inputBytesMax ?? DEFAULT_INPUT_BYTES);
    const events: AudienceEvents = {
      warn: (event, details) => this.warn(event, details),
      crowded: () => this.onCrowded(),
    };
    this.audience = new Audience(this.connections, this.counters, events);
  }

  get operationBytes(): number {
    return this.options.operationBytes;
  }

  get logins(): Logins | undefined {
    return this.options.logins;
  }

  get isConnected(): boolean {
    return this.store !== undefined && !this.isStopping;
  }

  /** Commands for the cluster are taken, now or soon. */
  get takesCommands(): boolean {
    return this.isConnected || (this.isStarting && !this.isStopping);
  }

  /** The reply to what needs the cluster while it is not there. */
  get unavailable(): string {
    return this.isStopping ? CLOSING : NOT_CONNECTED;
  }

  /** Agreed time, ms; this host's without a session. */
  agreedMs(): number {
    return this.store?.agreedTime() ?? systemMs();
  }

  /** Who a client is that has not logged in. */
  firstUser(): User | undefined {
    return this.logins === undefined ? EVERYBODY : undefined;
  }

  /** Why a login fails where no users are set up; undefined: it succeeds. @param isOnlyPassword no name was given */
  withoutUsers(isOnlyPassword: boolean, name: string): string | undefined {
    if (isOnlyPassword)
      return 'ERR AUTH <password> called without any password configured for the default user. Are you sure your configuration is correct?';
    return name === EVERYBODY.name ? undefined : WRONG_PASSWORD;
  }

  /** Checks a login; undefined: the connection is that user's now. */
  async login(
    connection: Connection,
    { name, password }: { readonly name: string; readonly password: string },
  ): Promise<string | undefined> {
    const address = connection.socket.remoteAddress ?? '';
    let login: Login;
    try {
      login = await this.logins!.check(name, password, address, () => connection.isGone);
    } catch (error) {
      return `ERR the password cannot be checked: ${error instanceof Error ? error.message : String(error)}`;
    }
    if (typeof login === 'object') {
      connection.user = login;
      return undefined;
    }
    if (login === 'gone') return BUSY;
    this.counters.loginsFailed++;
    switch (login) {
      case 'wrong':
        return WRONG_PASSWORD;
      case 'too-often':
        return 'ERR too many logins from this address have failed; wait some seconds';
      case 'busy':
        return BUSY;
    }
  }

  /** The file of users was read again. */
  replaceUsers(users: Users): void {
    this.logins!.replace(users);
    for (const connection of this.connections.values()) {
      const { user: before, transaction } = connection;
      if (before === undefined) continue;
      const user = users.get(before.name);
      if (user === undefined) connection.socket.destroy();
      else if (hasForbiddenChannel(connection, user) || hasForbiddenPrefix(connection, user))
        connection.socket.destroy();
      else connection.user = user;
      // What it has queued was looked at under the earlier rights.
      if (transaction !== undefined) transaction.isRefused = true;
    }
  }

  /** The machine's answer to DBSIZE. */
  noteKeys(reply: Uint8Array | string): void {
    const match = /^:(\d+)\r\n$/.exec(typeof reply === 'string' ? reply : textOf(reply));
    if (match !== null) this.keys = Number(match[1]);
  }
}

/** It has subscribed to what its user may not hear any more. */
function hasForbiddenChannel({ subscriptions: { channels, patterns } }: Connection, user: User): boolean {
  return (
    [...channels.keys()].some((name) => isChannelForbidden(user, name, false)) ||
    [...patterns.keys()].some((name) => isChannelForbidden(user, name, true))
  );
}

/** It is told of changes of keys that its user may not know any more. */
function hasForbiddenPrefix({ tracking }: Connection, { prefix }: User): boolean {
  return [...(tracking?.prefixes ?? [])].some((one) => !one.startsWith(prefix));
}

const BUSY = 'TRYAGAIN too many logins are being checked; nothing was executed';
const WRONG_PASSWORD = 'WRONGPASS invalid username-password pair or user is disabled.';
