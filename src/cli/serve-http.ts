/** How services serve their metrics and health: `jitpaxos replica` and `jitpaxos redis`. */
import { JitPaxosError } from '../errors.js';
import type { LogFields, Logger } from '../host/logger.js';
import { MetricsServer, type MetricsServerOptions, type Monitored } from '../server/metrics-server.js';

/** If the address is taken, it is tried again after this. */
const HTTP_RETRY_MS = 10_000;

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
