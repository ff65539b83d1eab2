/// <reference lib="esnext.disposable" preserve="true" />
/**
 * A session whose operations all carry a flag: they are for the replicas, not for the state machine. One operation is
 * open at a time. The waits are an operator's, so nothing here is fast.
 */
import { JitPaxosError } from '../errors.js';
import { Outcome } from '../protocol/contract.js';
import { ReplyStatus } from '../wire/messages.js';
import { ClientHost, type ClientHostOptions } from './client-host.js';

/** How an operation ended. */
export interface Ended {
  /** `refused`: it was decided that it is not executed, or the primary does not take it. */
  readonly outcome: 'committed' | 'refused' | 'unknown' | 'session-lost';
  /** Of a committed operation. */
  readonly result: Uint8Array;
}

const NOTHING = new Uint8Array(0);

export class FlaggedSession {
  private open: { readonly end: (ended: Ended) => void; readonly fail: (error: unknown) => void } | undefined;
  private ready: (() => void) | undefined;
  private failure: unknown;
  private host!: ClientHost;

  private constructor() {}

  /** Rejects with the errors of `ClientHost.connect`. @param flags RequestFlag of every operation */
  static async open(options: ClientHostOptions, flags: number): Promise<FlaggedSession> {
    const session = new FlaggedSession();
    session.host = await ClientHost.connect(
      { ...options, lanes: 1 },
      {
        completed: (_lane, outcome, status) => session.completed(outcome, status),
        ready: () => session.ready?.(),
        failed: (error) => session.failed(error),
      },
      flags,
    );
    return session;
  }

  /** Rejects with what broke the session for good, and with JitPaxosError `busy` while another operation is open. */
  async submit(operation: Uint8Array, timeoutMs: number): Promise<Ended> {
    if (this.open !== undefined) throw new JitPaxosError('busy', 'an operation is open; wait until it has ended');
    if (!this.host.ready && !(await this.becomesReady(timeoutMs))) return { outcome: 'unknown', result: NOTHING };
    return new Promise((resolve, reject) => {
      this.open = { end: resolve, fail: reject };
      if (this.failure !== undefined) this.failed(this.failure);
      else this.host.submit(0, operation, 0, operation.length, Math.ceil(timeoutMs * 1000));
    });
  }

  /** An open operation ends as unknown. */
  async close(): Promise<void> {
    this.end({ outcome: 'unknown', result: NOTHING });
    await this.host.close();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  /** After a session was lost, the host registers another one. False: not in time. */
  private async becomesReady(timeoutMs: number): Promise<boolean> {
    if (this.failure !== undefined) throw this.failure;
    let timer: NodeJS.Timeout | undefined;
    const isReady = await new Promise<boolean>((resolve) => {
      timer = setTimeout(() => resolve(false), timeoutMs);
      this.ready = () => resolve(true);
    });
    clearTimeout(timer);
    this.ready = undefined;
    return isReady;
  }

  private completed(outcome: number, status: number): void {
    if (outcome === Outcome.committed && status === ReplyStatus.ok)
      this.end({ outcome: 'committed', result: this.host.resultBytes(0).slice(0, this.host.resultLength(0)) });
    else
      this.end({
        outcome: outcome === Outcome.sessionLost ? 'session-lost' : outcome === Outcome.unknown ? 'unknown' : 'refused',
        result: NOTHING,
      });
  }

  private end(ended: Ended): void {
    const { open } = this;
    this.open = undefined;
    open?.end(ended);
  }

  private failed(error: unknown): void {
    this.failure = error;
    const { open } = this;
    this.open = undefined;
    open?.fail(error);
  }
}
