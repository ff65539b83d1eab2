/// <reference lib="esnext.disposable" preserve="true" />
/**
 * Sends the operations that change who the members are (protocol/membership/operations.ts), for `jitpaxos member …`.
 *
 * Call it only when the feature `membership` is on: a replica without the feature takes the operation for one of the
 * state machine. In a cluster with keys it needs an operator's key.
 */
import { JitPaxosError } from '../errors.js';
import { encodeOperation, type ConfigureOperation } from '../protocol/membership/operations.js';
import { readChangeResult, type ChangeResult } from '../protocol/membership/results.js';
import { RequestFlag } from '../wire/messages.js';
import type { ClientHostOptions } from './client-host.js';
import { FlaggedSession } from './flagged-session.js';

export class OperatorClient {
  private constructor(private readonly session: FlaggedSession) {}

  /** Rejects with the errors of `ClientHost.connect`, such as `key-role`. */
  static async open(options: ClientHostOptions): Promise<OperatorClient> {
    return new OperatorClient(await FlaggedSession.open(options, RequestFlag.configure));
  }

  /**
   * What became of the operation, as the log says; undefined if that is not known. Each operation names all that it is
   * about, so whoever does not know looks at the members, and asks again if need be.
   *
   * Rejects with JitPaxosError `operation-refused`: the primary does not take it.
   */
  async change(operation: ConfigureOperation, timeoutMs: number): Promise<ChangeResult | undefined> {
    const { outcome, result } = await this.session.submit(encodeOperation(operation), timeoutMs);
    if (outcome === 'refused')
      throw new JitPaxosError(
        'operation-refused',
        `the primary does not take a ${operation.kind}: another epoch runs than the one it is for, or replicas of an earlier version answer; look with jitpaxos member list, and run the command again`,
      );
    if (outcome !== 'committed') return undefined;
    const said = readChangeResult(result, result.length);
    if (said === undefined)
      throw new JitPaxosError(
        'operation-refused',
        `the answer to a ${operation.kind} is none that a cluster with the feature membership gives; see jitpaxos features list`,
      );
    return said;
  }

  close(): Promise<void> {
    return this.session.close();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}
