import { JitPaxosError } from '../errors.js';

/**
 * A broken invariant is a bug in the protocol or its implementation: the host logs the state and stops the replica. The
 * protocol survives a stopped replica, but perhaps not a wrong one.
 */
export class InvariantError extends JitPaxosError {
  override readonly name = 'InvariantError';
  declare readonly code: 'invariant-broken';
  constructor(mustHold: string) {
    super('invariant-broken', `invariant broken: ${mustHold}`);
  }
}

/**
 * Throws InvariantError unless `condition`. `mustHold` is a sentence that says what must hold. Stays on in production.
 */
export function invariant(condition: boolean, mustHold: string): asserts condition {
  if (!condition) throw new InvariantError(mustHold);
}
