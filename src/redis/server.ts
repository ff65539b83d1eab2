/// <reference lib="esnext.disposable" preserve="true" />
/**
 * The Redis front end: listens for Redis clients, and is itself a client of the cluster. It keeps nothing; any number of
 * them may run.
 */
import type { SecureContextOptions } from 'node:tls';
import type { Client, ClientOptions } from '../client/client.js';
import { partsOf } from '../client/client-parts.js';
import { endTickerOf, type Ticked } from '../client/end-ticker.js';
import { JitPaxosError } from '../errors.js';
import { loadCluster, type Cluster, type ClusterConfig } from '../host/cluster-config.js';
import type { KeyFile } from '../host/key-file.js';
import { guardedLogger, stderrLogger, type Logger } from '../host/logger.js';
import { checkInteger, checkKeys, optionNames } from '../host/options.js';
import type { TransportKind } from '../host/transport-choice.js';
import { CommandsEncoder, decodeCommandsResult } from '../machine/redis/codec.js';
import { ROOM_BYTES_MAX } from '../machine/redis/layout.js';
import { decodeStoreResult, encodeTick } from '../machine/store/codec.js';
import type { Family } from '../metrics/exposition.js';
import { readRegularFile } from '../storage/regular-file.js';
import { DEFAULT_DATAGRAM_BYTES, ENVELOPE_BYTES_MAX, JUMBO_DATAGRAM_BYTES } from '../wire/envelope.js';
import { Request } from '../wire/messages.js';
import { Batcher } from './batcher.js';
import type { FeedSource } from './feed.js';
import { Front } from './front.js';
import { Link } from './link.js';
import { DEFAULT_LISTEN, isLoopback, Listener } from './listener.js';
import { Logins } from './logins.js';
import { redisMetrics } from './redis-metrics.js';
import { loadUsers, type UsersFile } from './users.js';

export interface RedisFrontEndOptions {
  /** Path of the cluster file, or its content. */
  readonly cluster: string | ClusterConfig;
  /** The key file's path, or its content, in a cluster with keys. Default: as for Client.connect. */
  readonly keys?: string | KeyFile;
  /** `HOST:PORT` with a numeric host, IPv6 in brackets; port 0 takes a free one. Default `127.0.0.1:6379`. */
  readonly listen?: string;
  /** Path of the file of users, or its content. Without it nobody logs in, and only this host may connect. */
  readonly users?: string | UsersFile;
  /** Paths of the certificate chain and its key, in PEM: clients then have to speak TLS. */
  readonly tls?: { readonly cert: string; readonly key: string };
  /** Operations that are open at once. Default 16. */
  readonly lanes?: number;
  /** How long a command may take, ms. Default 5,000. */
  readonly timeout?: number;
  /** Connections at once. Default 10,000. */
  readonly maxClients?: number;
  /** Longest operation of several commands, bytes. Default: what one datagram carries. */
  readonly batchBytes?: number;
  readonly transport?: TransportKind;
  /** How the native transport waits. Default `block`: its polling would keep Redis clients waiting. */
  readonly idle?: ClientOptions['idle'];
  /** Default: warnings and errors to stderr. */
  readonly logger?: Logger;
}

const OPTION_NAMES = optionNames<RedisFrontEndOptions>({
  cluster: true,
  keys: true,
  listen: true,
  users: true,
  tls: true,
  lanes: true,
  timeout: true,
  maxClients: true,
  batchBytes: true,
  transport: true,
  idle: true,
  logger: true,
});

const DEFAULT_LANES = 16;
const DEFAULT_TIMEOUT_MS = 5_000;
const DEFAULT_CLIENTS = 10_000;
const CLIENTS_MAX = 1_000_000;
const BATCH_BYTES_MIN = 512;
/** Between two questions whether the feature is on, while it is off. */
const FEATURE_MS = 10_000;
const PEM_BYTES_MAX = 1 << 20;

export class RedisFrontEnd {
  private readonly front: Front;
  private readonly batcher: Batcher;
  private readonly link: Link;
  private readonly listener: Listener;
  private readonly featureTimer: NodeJS.Timeout;
  private featureIsOn: boolean | undefined;
  private stopping: Promise<void> | undefined;
  /** Settles when it has stopped; rejects if the first connection to the cluster showed that it cannot work. */
  readonly closed: Promise<void>;
  private onClosed!: () => void;
  private onFailed!: (error: unknown) => void;

  private constructor(
    private readonly options: RedisFrontEndOptions,
    cluster: Cluster,
    logins: Logins | undefined,
    private readonly logger: Logger,
    tls: SecureContextOptions | undefined,
  ) {
    const timeoutMs = options.timeout ?? DEFAULT_TIMEOUT_MS;
    const lanes = options.lanes ?? DEFAULT_LANES;
    const { limits } = cluster;
    this.front = new Front({
      operationBytes: limits.operationBytes,
      roomBytes: Math.min(limits.resultBytes, ROOM_BYTES_MAX),
      batchBytes: Math.min(options.batchBytes ?? oneDatagram(cluster), limits.operationBytes),
      lanes,
      timeoutMs,
      clientsMax: options.maxClients ?? DEFAULT_CLIENTS,
      othersCount: Math.floor(cluster.replicas.length / 2),
      logins,
    });
    this.closed = new Promise((resolve, reject) => {
      this.onClosed = resolve;
      this.onFailed = reject;
    });
    this.closed.catch(() => undefined);
    this.link = new Link(
      {
        cluster: options.cluster,
        ...(options.keys === undefined ? {} : { keys: options.keys }),
        // A pass may begin one operation of each kind more.
        lanes: Math.min(lanes + 2, limits.lanesPerSession),
        timeout: timeoutMs,
        connectTimeout: timeoutMs,
        ...(options.transport === undefined ? {} : { transport: options.transport }),
        idle: options.idle ?? 'block',
        logger,
      },
      logger,
      {
        up: (client) => {
          this.front.store = client;
          this.front.audience.feed.connect(feedSource(client));
          this.started();
          void this.askFeature(client);
        },
        down: () => {
          this.front.store = undefined;
          this.front.audience.feed.connect(undefined);
        },
        failed: () => this.started(),
        hopeless: (error) => {
          this.onFailed(error);
          void this.close();
        },
      },
    );
    this.batcher = new Batcher(this.front, {
      broken: (store, error) => this.link.broken(store, error),
      feature: (isOn) => this.noteFeature(isOn),
      bug: (error) =>
        logger.error('redis.bug', {
          error: error instanceof Error ? error.message : String(error),
          stack: error instanceof Error ? error.stack : undefined,
          next: 'the connections that were concerned are closed; please report it',
        }),
    });
    this.front.wake = (connection) => this.batcher.wake(connection);
    this.front.warn = (event, details) => logger.warn(event, details);
    this.listener = new Listener(this.front, this.batcher, logger, tls);
    this.featureTimer = setInterval(() => {
      if (this.featureIsOn === false && this.link.current !== undefined) void this.askFeature(this.link.current);
    }, FEATURE_MS);
    this.featureTimer.unref();
  }

  /**
   * Listens, and begins to connect to the cluster; does not wait for that. Commands wait for the first attempt to open a
   * session; if it fails, they are answered with TRYAGAIN until there is one.
   *
   * Throws JitPaxosError `option-invalid`, `port-in-use`, `address-unavailable`, `redis-users-unreadable`,
   * `redis-users-exposed`, `redis-users-invalid`, `cluster-file-unreadable` or `cluster-file-invalid`.
   */
  static async start(options: RedisFrontEndOptions): Promise<RedisFrontEnd> {
    const where = 'RedisFrontEnd.start';
    checkKeys('option-invalid', where, options, OPTION_NAMES);
    const logger = guardedLogger(where, options.logger ?? stderrLogger);
    const cluster = loadCluster(options.cluster);
    const listen = options.listen ?? DEFAULT_LISTEN;
    const check = (name: string, value: number | undefined, low: number, high: number): void => {
      if (value !== undefined) checkInteger('option-invalid', `${where}: ${name}`, value, low, high);
    };
    check('lanes', options.lanes, 1, cluster.limits.lanesPerSession);
    check('timeout', options.timeout, 1, 0x7fffffff);
    check('maxClients', options.maxClients, 1, CLIENTS_MAX);
    check('batchBytes', options.batchBytes, BATCH_BYTES_MIN, cluster.limits.operationBytes);
    const logins = options.users === undefined ? undefined : new Logins(loadUsers(options.users));
    const tls = options.tls === undefined ? undefined : readTls(options.tls);
    const started = new RedisFrontEnd(options, cluster, logins, logger, tls);
    try {
      await started.listener.open(listen);
    } catch (error) {
      clearInterval(started.featureTimer);
      throw error;
    }
    started.front.isStarting = true;
    void started.link.open();
    return started;
  }

  get port(): number {
    return this.listener.port;
  }

  /** There is a session with the cluster. */
  get isConnected(): boolean {
    return this.link.current !== undefined;
  }

  /** The feature `redis` is on; undefined: not known yet. */
  get feature(): boolean | undefined {
    return this.featureIsOn;
  }

  /** The front end's metrics, and those of its client. Allocates. */
  metrics(): Family[] {
    const { openOperations, waitingConnections } = this.batcher;
    return [
      ...redisMetrics(this.front, { openOperations, waitingConnections }),
      ...(this.link.current?.metrics() ?? []),
    ];
  }

  /** For /healthz. */
  unhealthy(): string | undefined {
    return this.stopping === undefined ? undefined : 'the front end is being stopped';
  }

  /** For /readyz. */
  unready(): string | undefined {
    if (this.link.current === undefined) return 'there is no session with the cluster';
    return this.featureIsOn === false ? 'the feature redis is off in this cluster' : undefined;
  }

  /**
   * Reads the users and the certificate again. A connection whose user was removed is closed; the others have at once what
   * their user may do now, without another login. If it throws, what was read before stays:
   * JitPaxosError `redis-users-unreadable`, `redis-users-exposed`, `redis-users-invalid` or `option-invalid`.
   */
  reload(): void {
    const { users, tls } = this.options;
    const loaded = typeof users === 'string' ? loadUsers(users) : undefined;
    const secured = tls === undefined ? undefined : readTls(tls);
    if (loaded !== undefined) this.front.replaceUsers(loaded);
    if (secured !== undefined) this.listener.secure(secured);
  }

  /** Takes no more connections and commands, answers what is open, and closes. Closing again waits for the same. */
  close(): Promise<void> {
    this.stopping ??= this.stop();
    return this.stopping;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  private async stop(): Promise<void> {
    clearInterval(this.featureTimer);
    await this.listener.close();
    this.front.audience.feed.close();
    await this.link.close();
    this.onClosed();
  }

  /** The first attempt to open a session has ended. */
  private started(): void {
    this.front.isStarting = false;
    this.batcher.resume();
  }

  private async askFeature(client: Client): Promise<void> {
    const bytes = new Uint8Array(64);
    const encoder = new CommandsEncoder();
    encoder.begin(bytes, 0, bytes.length, { room: 1024, now: 0, randomHi: 0, randomLo: 0 });
    encoder.command(false, 1, 4);
    encoder.argument(Buffer.from('PING'), 0, 4);
    try {
      const result = await client.query(bytes.subarray(0, encoder.finish()));
      const decoded = decodeCommandsResult(result, 0, result.length);
      this.noteFeature(decoded.status === 'ok');
    } catch (error) {
      this.logger.warn('redis.feature-unknown', {
        error: error instanceof Error ? error.message : String(error),
        next: 'the first command will tell',
      });
    }
  }

  private noteFeature(isOn: boolean): void {
    if (this.featureIsOn === isOn) return;
    this.featureIsOn = isOn;
    if (isOn) this.logger.info('redis.serving', { port: this.front.port });
    else
      this.logger.warn('redis.feature-off', {
        found: 'the feature redis is off in this cluster, so no command can be executed',
        next: 'jitpaxos features enable redis',
      });
  }
}

/** What a client of the cluster gives the feed. */
function feedSource(client: Client): FeedSource {
  const parts = partsOf(client)!;
  const tick = async (): Promise<Ticked> => {
    const bytes = new Uint8Array(16);
    const result = await client.execute(bytes.subarray(0, encodeTick(bytes, 0)));
    const ticked = decodeStoreResult('tick', result, 0, result.length);
    if (ticked.status !== 'ok') throw new Error(`the tick was refused: ${ticked.status}`);
    return { now: ticked.now, nextEnd: ticked.nextEnd ?? 0 };
  };
  return { watch: (request) => parts.watch(request), ends: endTickerOf(client, parts.clock, tick) };
}

/** Bytes of the operation that one datagram carries. */
function oneDatagram({ datagramBytes, replicas }: Cluster): number {
  const datagram =
    datagramBytes ??
    (replicas.every(({ host }) => host === 'localhost' || isLoopback(host))
      ? JUMBO_DATAGRAM_BYTES
      : DEFAULT_DATAGRAM_BYTES);
  return Math.max(BATCH_BYTES_MIN, datagram - ENVELOPE_BYTES_MAX - Request.size);
}

function readTls({ cert, key }: { readonly cert: string; readonly key: string }): { cert: Buffer; key: Buffer } {
  const read = (what: string, path: string): Buffer => {
    try {
      return readRegularFile(path, PEM_BYTES_MAX);
    } catch (error) {
      throw new JitPaxosError(
        'option-invalid',
        `tls: the ${what} ${path} cannot be read (${error instanceof Error ? error.message : String(error)}); give the path of a file in PEM`,
        error,
      );
    }
  };
  return { cert: read('certificate', cert), key: read('key', key) };
}
