/**
 * `/metrics`, `/healthz` and `/readyz` over HTTP. Off by default, and on loopback unless another address is given.
 *
 * The rule: a request costs the replica little, and nobody can keep others from asking. One text serves all requests
 * within a tenth of a second, connections and their time are bounded (http-connections.ts), and only method, path and
 * Host are read from a request. A text that cannot be produced is answered with status 500; that stops nothing.
 *
 * A request to another name than the server's own is refused. Otherwise a web page could read the answers: its name
 * server first sends the browser to the page, and then to this server (DNS rebinding).
 */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { isIP, type AddressInfo } from 'node:net';
import { JitPaxosError } from '../errors.js';
import { expose, EXPOSITION_CONTENT_TYPE, type Family } from '../metrics/exposition.js';
import { checkKeys, optionNames, show } from '../host/options.js';
import { CHECK_MS, HEADERS_MS, HttpConnections } from './http-connections.js';

/** What the server reports on. */
export interface Monitored {
  metrics(): readonly Family[];
  /** Undefined: fine. Otherwise a sentence that says what is wrong. */
  unhealthy(): string | undefined;
  /** Like `unhealthy`: not ready yet, or not at the moment. */
  unready(): string | undefined;
}

export interface MetricsServerOptions {
  /**
   * Names under which the server may be asked, without a port. IP addresses and `localhost` always may. A request with
   * another name in its Host header is answered with status 421.
   */
  readonly names?: readonly string[];
  /** `health`: only `/healthz` and `/readyz`. Default `all`. */
  readonly serves?: 'all' | 'health';
}

const OPTION_NAMES = optionNames<MetricsServerOptions>({ names: true, serves: true });

const FRESH_MS = 100;
const HEADER_BYTES = 8_192;
const LOOPBACK = '127.0.0.1';
const LOCALHOST = 'localhost';
const NAME_BYTES_MAX = 253;

export class MetricsServer {
  private text = '';
  private builtAtMs = -Infinity;
  private readonly connections = new HttpConnections();

  private constructor(
    private readonly server: Server,
    private readonly monitored: Monitored,
    /** In lower case. */
    private readonly names: ReadonlySet<string>,
    private readonly servesMetrics: boolean,
  ) {
    this.connections.guard(server);
    server.on('request', (request: IncomingMessage, response: ServerResponse) => {
      this.connections.asked(request.socket);
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
  static async start(listen: string, monitored: Monitored, options: MetricsServerOptions = {}): Promise<MetricsServer> {
    const { host, port, names } = parse(listen, options);
    const server = createServer({
      requestTimeout: HEADERS_MS,
      headersTimeout: HEADERS_MS,
      maxHeaderSize: HEADER_BYTES,
      connectionsCheckingInterval: CHECK_MS,
    });
    const started = new MetricsServer(server, monitored, names, options.serves !== 'health');
    await new Promise<void>((resolve, reject) => {
      server.once('error', (error) => reject(listenError(error, listen)));
      server.listen(port, host, resolve);
    });
    // errors of single connections, which end by themselves
    server.removeAllListeners('error').on('error', () => undefined);
    return started;
  }

  /** Throws JitPaxosError `option-invalid` for what `start` would refuse. */
  static check(listen: string, options: MetricsServerOptions = {}): void {
    parse(listen, options);
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
    if (!this.isOwnName(request.headers.host))
      send(
        response,
        421,
        'this server is asked by an IP address, by localhost, or by a name that it was started with (--metrics-names)\n',
      );
    else if (request.method !== 'GET' && request.method !== 'HEAD')
      send(response, 405, 'use GET\n', { allow: 'GET, HEAD' });
    else if (path === '/metrics' && this.servesMetrics)
      send(response, 200, this.exposition(), { 'content-type': EXPOSITION_CONTENT_TYPE });
    else if (path === '/healthz') sendHealth(response, this.monitored.unhealthy());
    else if (path === '/readyz') sendHealth(response, this.monitored.unhealthy() ?? this.monitored.unready());
    else send(response, 404, `this is ${this.servesMetrics ? '/metrics, ' : ''}/healthz and /readyz\n`);
  }

  /** @param host the Host header. HTTP/1.0, which no browser speaks, may lack it */
  private isOwnName(host: string | undefined): boolean {
    if (host === undefined) return true;
    const match = /^(?:\[([^\]]*)\]|([^:]*))(?::\d*)?$/.exec(host);
    if (match === null) return false;
    if (match[1] !== undefined) return isIP(match[1]) === 6;
    const name = match[2]!.toLowerCase().replace(/\.$/, '');
    return isIP(name) === 4 || name === LOCALHOST || this.names.has(name);
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

interface Parsed {
  readonly host: string;
  readonly port: number;
  readonly names: ReadonlySet<string>;
}

function parse(listen: unknown, options: MetricsServerOptions): Parsed {
  checkKeys('option-invalid', 'MetricsServer.start', options, OPTION_NAMES);
  const { names = [], serves } = options as { names?: unknown; serves?: unknown };
  if (serves !== undefined && serves !== 'all' && serves !== 'health')
    throw new JitPaxosError('option-invalid', `metrics: serves is ${show(serves)}; it has to be all or health`);
  if (!Array.isArray(names))
    throw new JitPaxosError('option-invalid', `metrics: names is ${show(names)}; it has to be a list of host names`);
  for (const name of names as unknown[]) {
    if (typeof name !== 'string' || !/^[a-z0-9_-]+(?:\.[a-z0-9_-]+)*$/i.test(name) || name.length > NAME_BYTES_MAX)
      throw new JitPaxosError(
        'option-invalid',
        `metrics: ${show(name)} is not a host name; give the name that is asked for, without a port, such as replica0.example.org`,
      );
  }
  return {
    ...parseListen(listen),
    names: new Set((names as readonly string[]).map((name) => name.toLowerCase())),
  };
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
