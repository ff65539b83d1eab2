/** What the services have in common, `jitpaxos replica` and `jitpaxos redis`: their log, and how they serve metrics and health. */
import { JitPaxosError } from '../errors.js';
import { neverWait } from '../host/line-output.js';
import { formatFor, streamLogger, type LogFields, type Logger, type LogLevel } from '../host/logger.js';
import { MetricsServer, type MetricsServerOptions, type Monitored } from '../server/metrics-server.js';

/** If the address is taken, it is tried again after this. */
const HTTP_RETRY_MS = 10_000;

/** What every service's command checks and opens before it starts anything. Throws the errors of MetricsServer.check. */
export function beginService(values: {
  readonly metrics: string | undefined;
  readonly health: string | undefined;
  readonly 'metrics-names': string | undefined;
  readonly 'log-level': string;
  readonly 'log-format': string;
}): { readonly http: MetricsServerOptions; readonly logger: Logger } {
  const http = { names: values['metrics-names']?.split(',') ?? [] };
  if (values.metrics !== undefined) MetricsServer.check(values.metrics, http);
  if (values.health !== undefined) MetricsServer.check(values.health, http);
  for (const stream of [process.stdout, process.stderr]) neverWait(stream);
  const format = formatFor(values['log-format'], process.stderr);
  return { http, logger: streamLogger(process.stderr, values['log-level'] as LogLevel, format) };
}

export interface Served {
  /** Undefined: it could not be opened yet. */
  readonly url: string | undefined;
  close(): Promise<void>;
}

export interface Service {
  readonly monitored: Monitored;
  /** `replica`, in sentences. */
  readonly what: string;
  /** Which one it is, for the log. */
  readonly fields: LogFields;
  readonly logger: Logger;
}

/** A service whose metrics or health cannot be served still serves its own users, reports the problem, and tries again. */
export async function serveHttp(
  what: 'metrics' | 'health',
  listen: string,
  options: MetricsServerOptions,
  service: Service,
): Promise<Served> {
  const { monitored, fields, logger } = service;
  let server: MetricsServer | undefined;
  let timer: NodeJS.Timeout | undefined;
  let closed = false;
  const open = async (): Promise<void> => {
    try {
      const opened = await MetricsServer.start(listen, monitored, options);
      if (closed) await opened.close();
      else server = opened;
    } catch (error) {
      if (!(error instanceof JitPaxosError)) throw error;
      logger.error(`${what}.not-served`, {
        ...fields,
        code: error.code,
        error: error.message,
        next: `the ${service.what} runs without ${what}, and tries again every ${HTTP_RETRY_MS / 1e3} s`,
      });
      timer = setTimeout(() => void open().then(told, told), HTTP_RETRY_MS).unref();
    }
  };
  const told = (error: unknown): void => {
    if (server !== undefined)
      logger.info(`${what}.served`, {
        ...fields,
        [what]: `${server.url}/${what === 'metrics' ? 'metrics' : 'healthz'}`,
      });
    else if (error !== undefined)
      logger.error(`${what}.not-served`, {
        ...fields,
        error: error instanceof Error ? error.message : String(error),
        next: `the ${service.what} runs without ${what}`,
      });
  };
  await open();
  return {
    url: server?.url,
    close: async () => {
      closed = true;
      clearTimeout(timer);
      await server?.close();
    },
  };
}
