/**
 * Switches a feature on (protocol/log/features.ts): one operation with a flag, in a session of its own. Sent again it
 * does no harm, so an outcome that is not known needs no more than another try.
 */
import { JitPaxosError } from '../errors.js';
import { Outcome } from '../protocol/contract.js';
import { RequestFlag } from '../wire/messages.js';
import { ClientHost, type ClientHostOptions } from './client-host.js';

/** Rejects with JitPaxosError: those of `ClientHost.connect`, `outcome-unknown`, `session-lost` or `operation-refused`. */
export async function switchOn(options: ClientHostOptions, operation: Uint8Array, timeoutMs: number): Promise<void> {
  let ended: (outcome: number) => void = () => undefined;
  let failed: (error: unknown) => void = () => undefined;
  const done = new Promise<number>((resolve, reject) => {
    ended = resolve;
    failed = reject;
  });
  done.catch(() => undefined); // connecting may fail first
  const host = await ClientHost.connect(
    { ...options, lanes: 1 },
    { completed: (_lane, outcome) => ended(outcome), ready: () => undefined, failed },
    RequestFlag.feature,
  );
  try {
    host.submit(0, operation, 0, operation.length, timeoutMs * 1000);
    const outcome = await done;
    if (outcome === Outcome.committed) return;
    if (outcome === Outcome.refused)
      throw new JitPaxosError(
        'operation-refused',
        'the replicas refused it: the secret of the chain is not theirs, or a member does not know the feature; use their key file, and see jitpaxos features list',
      );
    throw new JitPaxosError(
      outcome === Outcome.sessionLost ? 'session-lost' : 'outcome-unknown',
      'whether the feature is on is not known; look with jitpaxos features list, and run the command again if it is not',
    );
  } finally {
    await host.close();
  }
}
