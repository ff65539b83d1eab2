/**
 * Accepts Redis clients, and gives what they send to the batcher.
 *
 * The rule: what clients can make the server hold is bounded. Connections, their unread commands and their replies have
 * limits, and a client that does not read is closed.
 */
import { createServer, isIP, type AddressInfo, type Server, type Socket } from 'node:net';
import { createServer as createTlsServer, type SecureContextOptions, type Server as TlsServer } from 'node:tls';
import { JitPaxosError } from '../errors.js';
import type { Logger } from '../host/logger.js';
import { show } from '../host/options.js';
import { COMMANDS_BYTES } from '../machine/redis/layout.js';
import { PUSH_BYTES_SOFT } from './audience.js';
import type { Batcher } from './batcher.js';
import { Connection } from './connection.js';
import type { Front } from './front.js';
import { failure } from './resp-text.js';

export const DEFAULT_LISTEN = '127.0.0.1:6379';
/** Connections that the system keeps for the next accept. */
const BACKLOG = 511;
const KEEP_ALIVE_MS = 300_000;
const LOOK_MS = 1_000;
/** A client that takes nothing of its replies for so long is closed, and one that does not finish its TLS handshake. */
const SLOW_MS = 60_000;
const HANDSHAKE_MS = 10_000;
/** A client that has not logged in by then is closed: strangers do not take the places of users. */
const LOGIN_MS = 60_000;
/** Connections beyond maxclients that are told so, or are in their TLS handshake; more are closed without a word. */
const EXTRA_CONNECTIONS = 512;
/** Replies that all clients together have not taken: beyond it those that hold most are closed. */
const OUTPUT_BYTES_MAX = 512 << 20;
/** A connection that holds less is not closed for that. */
const OUTPUT_BYTES_SMALL = 1 << 16;
/** How long a stopping listener waits for the last operations, beyond their timeout. */
const DRAIN_MS = 1_000;
/** How long clients have to close connections over which all is said. */
const CLOSE_MS = 250;
/** Between two looks whether all connections have ended. */
const DRAIN_LOOK_MS = 5;

const DENIED = failure(
  'DENIED JITPaxos is running without users and therefore serves this host only. To serve others, write a file of users with `jitpaxos redis-user` and give it with --users.',
);
const FULL = failure('ERR max number of clients reached');

export class Listener {
  private readonly server: Server | TlsServer;
  private readonly timer: NodeJS.Timeout;
  private lastId = 0;
  private heldBytes = 0;

  /** @param tls clients have to speak TLS */
  constructor(
    private readonly front: Front,
    private readonly batcher: Batcher,
    private readonly logger: Logger,
    private readonly tls?: SecureContextOptions,
  ) {
    this.server =
      tls === undefined
        ? createServer({ allowHalfOpen: true, noDelay: true })
        : createTlsServer({ allowHalfOpen: true, noDelay: true, handshakeTimeout: HANDSHAKE_MS, ...tls });
    this.server.on(tls === undefined ? 'connection' : 'secureConnection', (socket: Socket) => this.accept(socket));
    this.server.maxConnections = front.options.clientsMax + EXTRA_CONNECTIONS;
    // Before the handshake it is no client yet.
    this.server.on('tlsClientError', (_error: Error, socket: Socket) => socket.destroy());
    this.timer = setInterval(() => this.look(), LOOK_MS);
    front.onCrowded = () => this.look();
  }

  /**
   * @param listen `HOST:PORT` with a numeric host, IPv6 in brackets; port 0 takes a free one
   * Throws JitPaxosError `option-invalid`, `port-in-use`, `address-unavailable`.
   */
  async open(listen: string): Promise<void> {
    const { server, front } = this;
    try {
      const { host, port } = parseListen(listen);
      await new Promise<void>((resolve, reject) => {
        server.once('error', (error) => reject(listenError(error, listen)));
        server.listen({ port, host, backlog: BACKLOG }, resolve);
      });
      front.port = this.port;
      front.settings.set('port', String(this.port)).set('bind', host);
    } catch (error) {
      clearInterval(this.timer);
      throw error;
    }
    server.removeAllListeners('error').on('error', (error: Error) => {
      this.logger.error('redis.not-accepted', {
        error: error.message,
        next: 'a connection was not accepted; if this continues, raise the number of open files (ulimit -n)',
      });
    });
  }

  get port(): number {
    return (this.server.address() as AddressInfo).port;
  }

  /** For connections from now on. */
  secure(tls: SecureContextOptions): void {
    if (this.tls !== undefined) (this.server as TlsServer).setSecureContext(tls);
  }

  /** Takes no more connections and commands, answers what is open, and closes all. */
  async close(): Promise<void> {
    const { front, server, batcher } = this;
    front.isStopping = true;
    const closed = new Promise<void>((resolve) => (server.listening ? server.close(() => resolve()) : resolve()));
    for (const connection of front.connections.values()) {
      connection.isClosing = true;
      batcher.wake(connection);
    }
    const until = performance.now() + front.options.timeoutMs + DRAIN_MS;
    let finishedAtMs: number | undefined;
    while (front.connections.size > 0 && performance.now() < until) {
      await new Promise((resolve) => setTimeout(resolve, DRAIN_LOOK_MS));
      // All is said. Clients close now; one that does not is not waited for.
      if (![...front.connections.values()].every(({ socket }) => socket.writableFinished)) continue;
      finishedAtMs ??= performance.now();
      if (performance.now() - finishedAtMs >= CLOSE_MS) break;
    }
    for (const { socket } of front.connections.values()) socket.destroy();
    clearInterval(this.timer);
    await closed;
  }

  private accept(socket: Socket): void {
    const { front, batcher } = this;
    const { counters, connections, options } = front;
    socket.on('error', () => undefined); // `close` follows
    const refusal =
      connections.size >= options.clientsMax
        ? FULL
        : front.logins === undefined && !isLoopback(socket.remoteAddress)
          ? DENIED
          : undefined;
    if (refusal !== undefined || front.isStopping) {
      if (refusal === FULL) counters.refusedFull++;
      else if (refusal !== undefined) counters.refusedDenied++;
      socket.end(refusal ?? '');
      socket.setTimeout(LOOK_MS, () => socket.destroy());
      socket.resume();
      return;
    }
    socket.setKeepAlive(true, KEEP_ALIVE_MS);
    const connection = new Connection(++this.lastId, socket, front.operationBytes + COMMANDS_BYTES, front.input);
    connection.user = front.firstUser();
    counters.connections++;
    connections.set(connection.id, connection);
    socket.on('data', (chunk: Uint8Array) => {
      counters.inputBytes += chunk.length;
      connection.push(chunk);
      batcher.wake(connection);
    });
    socket.on('drain', () => {
      if (connection.drained()) batcher.wake(connection);
    });
    socket.on('end', () => {
      connection.isEnded = true;
      batcher.wake(connection);
    });
    socket.on('close', () => {
      connection.closed();
      counters.outputBytes += connection.unreported();
      this.heldBytes -= connection.heldBytes;
      connections.delete(connection.id);
      front.audience.forget(connection);
      batcher.forget(connection);
    });
  }

  /** Closes connections whose clients do not read, do not close, or do not log in. */
  private look(): void {
    const { counters, connections } = this.front;
    const now = performance.now();
    for (const connection of connections.values()) {
      const { socket, unsent } = connection;
      // All is said, and the client does not close.
      if (connection.isClosing && socket.writableFinished) socket.destroy();
      if (connection.user === undefined && now - connection.openedMs >= LOGIN_MS) socket.destroy();
      counters.outputBytes += connection.unreported();
      this.heldBytes += unsent - connection.heldBytes;
      connection.heldBytes = unsent;
      const taken = socket.bytesWritten - unsent;
      if (unsent === 0 || taken !== connection.takenBytes) {
        connection.takenBytes = taken;
        connection.takenAtMs = now;
      } else if (now - connection.takenAtMs >= SLOW_MS) this.cut(connection);
      if (connection.subscriptions.count === 0 || unsent <= PUSH_BYTES_SOFT) connection.behindAtMs = Infinity;
      else if (connection.behindAtMs === Infinity) connection.behindAtMs = now;
      else if (now - connection.behindAtMs >= SLOW_MS) this.cut(connection);
    }
    if (this.heldBytes <= OUTPUT_BYTES_MAX) return;
    const largest = [...connections.values()].sort((a, b) => b.heldBytes - a.heldBytes);
    for (const connection of largest) {
      if (this.heldBytes <= OUTPUT_BYTES_MAX || connection.heldBytes < OUTPUT_BYTES_SMALL) return;
      this.heldBytes -= connection.heldBytes;
      connection.heldBytes = 0;
      this.cut(connection);
    }
  }

  private cut(connection: Connection): void {
    this.front.counters.closedSlow++;
    connection.socket.destroy();
  }
}

/** Addresses of this host that no other host reaches. */
export function isLoopback(address: string | undefined): boolean {
  if (address === undefined) return false;
  const plain = address.startsWith('::ffff:') ? address.slice(7) : address;
  return isIP(plain) === 4 ? plain.startsWith('127.') : plain === '::1';
}

function parseListen(listen: unknown): { readonly host: string; readonly port: number } {
  const match = typeof listen === 'string' ? /^(?:\[([^\]]+)\]|([^:[\]]+)):(\d{1,5})$/.exec(listen) : null;
  const host = match?.[1] ?? match?.[2] ?? '';
  const port = Number(match?.[3]);
  if (match === null || port > 65_535 || isIP(host) !== (match[1] === undefined ? 4 : 6))
    throw new JitPaxosError(
      'option-invalid',
      `redis: ${show(listen)} is not an address to listen at; give ADDRESS:PORT with a numeric address, IPv6 in brackets, such as ${DEFAULT_LISTEN}`,
    );
  return { host, port };
}

function listenError(error: NodeJS.ErrnoException, listen: string): JitPaxosError {
  if (error.code === 'EADDRINUSE')
    return new JitPaxosError(
      'port-in-use',
      `redis: another process already listens at TCP ${listen}; choose another port with --listen (\`ss -ltnp\` shows the process)`,
      error,
    );
  return new JitPaxosError(
    'address-unavailable',
    `redis: TCP ${listen} cannot be opened (${error.message}); use an address of this host and a port from 1024 on`,
    error,
  );
}
