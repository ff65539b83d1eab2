/**
 * Switches a feature on (protocol/log/features.ts): one operation with a flag, in a session of its own. Sent again it
 * does no harm, so an outcome that is not known needs no more than another try.
 */
import { JitPaxosError } from '../errors.js';
import { RequestFlag } from '../wire/messages.js';
import type { ClientHostOptions } from './client-host.js';
import { FlaggedSession } from './flagged-session.js';

/** Rejects with JitPaxosError: those of `ClientHost.connect`, `outcome-unknown`, `session-lost` or `operation-refused`. */
export async function switchOn(options: ClientHostOptions, operation: Uint8Array, timeoutMs: number): Promise<void> {
  await using session = await FlaggedSession.open(options, RequestFlag.feature);
  const { outcome } = await session.submit(operation, timeoutMs);
  if (outcome === 'committed') return;
  if (outcome === 'refused')
    throw new JitPaxosError(
      'operation-refused',
      'the replicas refused it: the secret of the chain is not theirs, a member does not know the feature, or a host speaks an earlier version of the wire; use their key file, and see jitpaxos features list and jitpaxos status',
    );
  throw new JitPaxosError(
    outcome === 'session-lost' ? 'session-lost' : 'outcome-unknown',
    'whether the feature is on is not known; look with jitpaxos features list, and run the command again if it is not',
  );
}
