/**
 * The front end's client of the cluster: connects, and connects again whenever that client cannot be used any more. While
 * there is none, nothing is sent.
 */
import { Client, type ClientOptions } from '../client/client.js';
import { JitPaxosError } from '../errors.js';
import type { Logger } from '../host/logger.js';

/** Between two attempts. */
const RETRY_MS = 1_000;

export interface LinkEvents {
  up(client: Client): void;
  down(): void;
  /** An attempt to connect failed; there will be another. */
  failed(): void;
  /** The first attempt failed for a reason that waiting does not cure. */
  hopeless(error: unknown): void;
}

export class Link {
  private client: Client | undefined;
  private timer: NodeJS.Timeout | undefined;
  private isFirst = true;
  private isClosed = false;
  private readonly stopping = new AbortController();

  constructor(
    private readonly options: ClientOptions,
    private readonly logger: Logger,
    private readonly events: LinkEvents,
  ) {}

  /** The client, while there is one. */
  get current(): Client | undefined {
    return this.client;
  }

  async open(): Promise<void> {
    try {
      const client = await Client.connect({ ...this.options, signal: this.stopping.signal });
      if (this.isClosed) return await client.close();
      this.client = client;
      this.isFirst = false;
      this.logger.info('redis.connected', { session: client.stats().session });
      this.events.up(client);
    } catch (error) {
      if (this.isClosed) return;
      if (this.isFirst && !mayPass(error)) {
        this.events.hopeless(error);
        return;
      }
      this.isFirst = false;
      this.events.failed();
      this.logger.warn('redis.not-connected', {
        error: error instanceof Error ? error.message : String(error),
        next: `commands that need the cluster are answered with TRYAGAIN; it is tried again every ${RETRY_MS / 1000} s`,
      });
      this.timer = setTimeout(() => void this.open(), RETRY_MS);
    }
  }

  /** The client cannot be used any more. */
  broken(client: object, error: unknown): void {
    if (this.client !== client || this.isClosed) return;
    this.logger.error('redis.session-ended', {
      error: error instanceof Error ? error.message : String(error),
      next: 'another session is being opened',
    });
    const { client: old } = this;
    this.client = undefined;
    this.events.down();
    void old.close().catch(() => undefined);
    this.timer = setTimeout(() => void this.open(), RETRY_MS);
  }

  async close(): Promise<void> {
    this.isClosed = true;
    clearTimeout(this.timer);
    this.stopping.abort();
    await this.client?.close();
  }
}

/** Waiting may help: replicas start, names resolve, a majority comes back. */
function mayPass(error: unknown): boolean {
  if (!(error instanceof JitPaxosError)) return false;
  return error.retryable || error.code === 'majority-lost';
}
