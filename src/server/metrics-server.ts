/**
 * `/metrics`, `/healthz` and `/readyz` over HTTP. Off by default, and on loopback unless another address is given.
 *
 * The rule: a request costs the replica little. One text serves all requests within a tenth of a second, connections
 * and their time are bounded, and only method and path are read from a request. A text that cannot be produced is
 * answered with status 500; that stops nothing.
 */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { isIP, type AddressInfo } from 'node:net';
import { JitPaxosError } from '../errors.js';
import { expose, EXPOSITION_CONTENT_TYPE, type Family } from '../metrics/exposition.js';
import { show } from '../host/options.js';

/** What the server reports on. */
export interface Monitored {
  metrics(): readonly Family[];
  /** Undefined: fine. Otherwise a sentence that says what is wrong. */
  unhealthy(): string | undefined;
  /** Like `unhealthy`: not ready yet, or not at the moment. */
  unready(): string | undefined;
}

const FRESH_MS = 100;
const CONNECTIONS_MAX = 16;
const REQUEST_MS = 5_000;
const HEADER_BYTES = 8_192;
const LOOPBACK = '127.0.0.1';

export class MetricsServer {
  private text = '';
  private builtAtMs = -Infinity;

  private constructor(
    private readonly server: Server,
    private readonly monitored: Monitored,
  ) {
    server.on('request', (request: IncomingMessage, response: ServerResponse) => {
      request.on('error', () => undefined);
      response.on('error', () => undefined);
      try {
        this.answer(request, response);
      } catch (error) {
        if (response.headersSent) response.destroy();
        else send(response, 500, `cannot be reported: ${error instanceof Error ? error.message : String(error)}\n`);
      }
    });
  }

  /**
   * @param listen `PORT` (on 127.0.0.1), or `HOST:PORT` with a numeric host, IPv6 in brackets; port 0 takes a free one
   * Throws JitPaxosError `option-invalid`, `port-in-use`, `address-unavailable`.
   */
  static async start(listen: string, monitored: Monitored): Promise<MetricsServer> {
    const { host, port } = parseListen(listen);
    const server = createServer({
      requestTimeout: REQUEST_MS,
      headersTimeout: REQUEST_MS,
      maxHeaderSize: HEADER_BYTES,
      connectionsCheckingInterval: REQUEST_MS,
    });
    server.maxConnections = CONNECTIONS_MAX;
    const started = new MetricsServer(server, monitored);
    await new Promise<void>((resolve, reject) => {
      server.once('error', (error) => reject(listenError(error, listen)));
      server.listen(port, host, resolve);
    });
    // errors of single connections, which end by themselves
    server.removeAllListeners('error').on('error', () => undefined);
    return started;
  }

  /** Throws JitPaxosError `option-invalid` for what `start` would refuse. */
  static check(listen: string): void {
    parseListen(listen);
  }

  get port(): number {
    return (this.server.address() as AddressInfo).port;
  }

  /** `http://host:port` */
  get url(): string {
    const { address, family, port } = this.server.address() as AddressInfo;
    return `http://${family === 'IPv6' ? `[${address}]` : address}:${port}`;
  }

  /** Cuts open connections. */
  async close(): Promise<void> {
    this.server.closeAllConnections();
    await new Promise<void>((resolve) => this.server.close(() => resolve()));
  }

  private answer(request: IncomingMessage, response: ServerResponse): void {
    const path = (request.url ?? '').split('?', 1)[0];
    request.resume();
    if (request.method !== 'GET' && request.method !== 'HEAD') send(response, 405, 'use GET\n', { allow: 'GET, HEAD' });
    else if (path === '/metrics') send(response, 200, this.exposition(), { 'content-type': EXPOSITION_CONTENT_TYPE });
    else if (path === '/healthz') sendHealth(response, this.monitored.unhealthy());
    else if (path === '/readyz') sendHealth(response, this.monitored.unhealthy() ?? this.monitored.unready());
    else send(response, 404, 'this is /metrics, /healthz and /readyz\n');
  }

  private exposition(): string {
    const now = performance.now();
    if (now - this.builtAtMs >= FRESH_MS) {
      this.text = expose(this.monitored.metrics());
      this.builtAtMs = now;
    }
    return this.text;
  }
}

function sendHealth(response: ServerResponse, problem: string | undefined): void {
  if (problem === undefined) send(response, 200, 'ok\n');
  else send(response, 503, `${problem}\n`);
}

function send(
  response: ServerResponse,
  status: number,
  text: string,
  headers: Readonly<Record<string, string>> = {},
): void {
  // One request per connection: idle connections would take the places of new ones.
  response.writeHead(status, {
    connection: 'close',
    'content-type': 'text/plain; charset=utf-8',
    'content-length': Buffer.byteLength(text),
    ...headers,
  });
  response.end(response.req.method === 'HEAD' ? undefined : text);
}

function parseListen(listen: unknown): { readonly host: string; readonly port: number } {
  const match = typeof listen === 'string' ? /^(?:(?:\[([^\]]+)\]|([^:[\]]+)):)?(\d{1,5})$/.exec(listen) : null;
  const host = match?.[1] ?? match?.[2] ?? LOOPBACK;
  const port = Number(match?.[3]);
  if (match === null || port > 65_535 || isIP(host) !== (match[1] === undefined ? 4 : 6)) {
    throw new JitPaxosError(
      'option-invalid',
      `metrics: ${show(listen)} is not an address to listen at; use a port, which is opened on ${LOOPBACK} only, or ADDRESS:PORT with a numeric address, IPv6 in brackets`,
    );
  }
  return { host, port };
}

function listenError(error: NodeJS.ErrnoException, listen: string): JitPaxosError {
  if (error.code === 'EADDRINUSE')
    return new JitPaxosError(
      'port-in-use',
      `metrics: another process already listens at TCP ${listen}; choose another port (\`ss -ltnp\` shows the process)`,
      error,
    );
  return new JitPaxosError(
    'address-unavailable',
    `metrics: TCP ${listen} cannot be opened (${error.message}); use an address of this host and a port from 1024 on`,
    error,
  );
}
