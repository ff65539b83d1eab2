/** A broken invariant is a bug in the protocol or its implementation: the host logs the state and stops the replica. A stopped replica is a failure that the protocol survives; a wrong one is not. */
export class InvariantError extends Error {
  readonly code = 'invariant-broken';
  readonly category = 'invariant';
  readonly retryable = false;
  constructor(mustHold: string) {
    super(`invariant broken: ${mustHold}`);
    this.name = 'InvariantError';
  }
}

/** Throws InvariantError unless `condition`. `mustHold` says what must hold, as a sentence. Stays on in production. */
export function invariant(condition: boolean, mustHold: string): asserts condition {
  if (!condition) throw new InvariantError(mustHold);
}
