/** What a simulation finds, by kind. */

/**
 * `results-differ`: two replicas, or a replica and a replay of its log, executed the same operation with different
 * results. `states-differ`: two replicas hold different states after the same log. `contract-broken`: the machine broke
 * another rule of `StateMachine`. `machine-threw`, `workload-threw`, `model-threw`: the user's code threw.
 * `model-disagrees`: the machine gave another result than the model. `protocol`: a rule of JITPaxos itself was broken;
 * please report it.
 */
export type SimulationFailureKind =
  | 'results-differ'
  | 'states-differ'
  | 'contract-broken'
  | 'machine-threw'
  | 'workload-threw'
  | 'model-threw'
  | 'model-disagrees'
  | 'protocol';

/** What was found, and what the user's code threw, if it did. */
export interface Fault {
  readonly kind: SimulationFailureKind;
  readonly detail: string;
  readonly cause?: unknown;
}

/** Keeps the first fault of a run. Whoever reports one throws it too, so that the run ends. */
export class Faults {
  first: Fault | undefined;

  report(kind: SimulationFailureKind, detail: string, cause?: unknown): never {
    this.first ??= cause === undefined ? { kind, detail } : { kind, detail, cause };
    throw cause instanceof Error ? cause : new Error(detail);
  }

  /** Calls the user's code; what it throws is a fault. */
  guard<T>(kind: SimulationFailureKind, what: string, call: () => T): T {
    try {
      return call();
    } catch (error) {
      return this.report(
        kind,
        `${what} threw ${error instanceof Error ? `${error.name}: ${error.message}` : String(error)}`,
        error,
      );
    }
  }
}
