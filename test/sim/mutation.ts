/**
 * What a mutation is: a way to break one rule of the protocol, from the test's side.
 *
 * Each takes a finished core and replaces methods of that one instance, so nothing in the shipped code can be switched
 * off. Private members are reached by their names in brackets, which keeps their types: renaming one breaks the
 * compilation of its file, and does not silently disable the mutation. docs/internals/mutations.md says what caught
 * each of them.
 */
import { ClientCore } from '../../src/protocol/client/client-core.js';
import { ReplicaCore } from '../../src/protocol/replica/replica-core.js';
import {
  createShippedClient,
  createShippedReplica,
  type CreateClient,
  type CreateReplica,
} from '../../src/sim/cores.js';

export interface Mutation {
  readonly name: string;
  /** What the mutated core does, in a few words. */
  readonly breaks: string;
  readonly replica?: (core: ReplicaCore) => void;
  readonly client?: (core: ClientCore) => void;
}

/** Factories for `simulate` and for the explorer. */
export function mutated(mutation: Mutation): { createReplica: CreateReplica; createClient: CreateClient } {
  return {
    createReplica: (...made) => {
      const core = createShippedReplica(...made);
      if (!(core instanceof ReplicaCore)) throw new TypeError('a mutation is made for the core that ships');
      mutation.replica?.(core);
      return core;
    },
    createClient: (...made) => {
      const core = createShippedClient(...made);
      if (!(core instanceof ClientCore)) throw new TypeError('a mutation is made for the core that ships');
      mutation.client?.(core);
      return core;
    },
  };
}

/** Length of the safety phase of the runs in which mutations are looked for, ticks. */
export const TICKS = 300_000;

/** Runs are numbered from 0: every seed from 1 on with three replicas, then with five. */
export function runOf(run: number): { readonly seed: number; readonly replicas: number } {
  return { seed: Math.floor(run / 2) + 1, replicas: run % 2 === 0 ? 3 : 5 };
}

/** Writes what only verbs of the state may change, without what they check. */
export function force(
  state: ReplicaCore['state'],
  to: { readonly view?: number; readonly status?: number; readonly logView?: number; readonly incarnation?: number },
): void {
  state['presentView'] = to.view ?? state.view;
  state['presentStatus'] = to.status ?? state.status;
  state['presentLogView'] = to.logView ?? state.logView;
  state['presentIncarnation'] = to.incarnation ?? state.incarnation;
  state['takeRole']();
}
