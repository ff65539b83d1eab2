/**
 * Decides which connections an HTTP server keeps. Anyone who reaches the port can open connections, send a byte now and
 * then, and come back when they are closed. The rule: such connections never keep out one that sends a whole request.
 *
 * Places are bounded, in all and for each address. If a new connection finds none, the one is cut that has waited
 * longest without a whole request, and without such a one the oldest. An address that has all of its places cuts one of
 * its own. No connection lasts longer than CONNECTION_MS, so slow readers do not stay either.
 */
import type { Server } from 'node:http';
import type { Socket } from 'node:net';

export const CONNECTIONS_MAX = 128;
/** From one address. */
export const CONNECTIONS_BY_ADDRESS = 4;
/** From this host: probes, exporters and people share its loopback address. */
export const CONNECTIONS_BY_LOOPBACK = 64;
/** A request has to be whole within HEADERS_MS; this is looked at every CHECK_MS. */
export const HEADERS_MS = 1_000;
export const CHECK_MS = 250;
/** From the beginning of a connection to the end of its answer. */
const CONNECTION_MS = 5_000;

interface Connection {
  readonly socket: Socket;
  readonly address: string;
  /** Its request is whole, and is being answered. */
  asked: boolean;
}

export class HttpConnections {
  /** In the order in which they began. */
  private readonly open = new Map<Socket, Connection>();

  /** From now on the connections of this server are bounded. */
  guard(server: Server): void {
    server.on('connection', (socket: Socket) => this.add(socket));
  }

  /** The request of this connection is whole. */
  asked(socket: Socket): void {
    const connection = this.open.get(socket);
    if (connection !== undefined) connection.asked = true;
  }

  private add(socket: Socket): void {
    const address = plainAddress(socket.remoteAddress ?? '');
    const places = isLoopback(address) ? CONNECTIONS_BY_LOOPBACK : CONNECTIONS_BY_ADDRESS;
    const own = [...this.open.values()].filter((other) => other.address === address);
    if (own.length >= places) this.cut(own);
    else if (this.open.size >= CONNECTIONS_MAX) this.cut([...this.open.values()]);
    this.open.set(socket, { socket, address, asked: false });
    const timer = setTimeout(() => this.close(socket), CONNECTION_MS).unref();
    socket.once('close', () => {
      clearTimeout(timer);
      this.open.delete(socket);
    });
  }

  private cut(connections: readonly Connection[]): void {
    const victim = connections.find(({ asked }) => !asked) ?? connections[0];
    if (victim !== undefined) this.close(victim.socket);
  }

  private close(socket: Socket): void {
    this.open.delete(socket);
    socket.destroy();
  }
}

/** An IPv4 address reaches a socket of both families in the notation of IPv6. */
function plainAddress(address: string): string {
  return address.replace(/^::ffff:(?=\d+\.)/i, '');
}

function isLoopback(address: string): boolean {
  return address === '::1' || address.startsWith('127.');
}
