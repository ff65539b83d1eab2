/**
 * Tests a state machine in the simulator. The first version has a fault that no ordinary test finds: it answers with the
 * member that a Map lists first, and the order of a Map is not part of its snapshot. A replica that took over a snapshot
 * lists its members in another order than one that did not.
 *
 * In a program of your own, import `simulate` from 'jitpaxos/testing' and the types from 'jitpaxos'. This one runs
 * without a cluster: node dist/examples/test-your-machine.js
 */
import { simulate, type Workload } from '../src/testing/index.js';
import type { ApplyContext, Operation, Reply, StateMachine } from '../src/index.js';
import { runAsProgram } from './run.js';

/** A queue: an operation of one byte joins as that number, or leaves. The result: who is next, 255: nobody. */
export class Queue implements StateMachine {
  protected waiting = new Map<number, true>();

  apply(operation: Operation, context: ApplyContext, reply: Reply): void {
    const number = operation.bytes[operation.offset];
    if (operation.length === 1 && !this.waiting.delete(number!)) this.waiting.set(number!, true);
    this.query(operation, context, reply);
  }

  query(_operation: Operation, _context: ApplyContext, reply: Reply): void {
    reply.bytes[reply.offset] = this.waiting.keys().next().value ?? 255;
    reply.length = 1;
  }

  /** Sorted, "so that the same state always gives the same bytes": and so the order of arrival is lost. */
  snapshot(): Uint8Array {
    return Uint8Array.from(this.waiting.keys()).sort();
  }

  restore(snapshot: Uint8Array): void {
    this.waiting = new Map([...snapshot].map((number) => [number, true]));
  }
}

/** The order of arrival belongs to the state, so it belongs into the snapshot. */
export class InOrder extends Queue {
  override snapshot(): Uint8Array {
    return Uint8Array.from(this.waiting.keys());
  }
}

/** A few numbers that come and go; one operation of three only asks, and now and then one is malformed. */
export const workload: Workload = (chance) => () => {
  if (chance.chance(0.3)) return { query: new Uint8Array(0) };
  return chance.chance(0.02) ? new Uint8Array(3) : Uint8Array.of(chance.below(20));
};

export async function main(): Promise<{ wrong: string; right: string }> {
  const { failure } = simulate({ machine: () => new Queue(), workload, print: () => undefined });
  const { runs, counts, failure: none } = simulate({ machine: () => new InOrder(), workload });
  return {
    wrong: failure === undefined ? 'not found' : `${failure.kind} with seed ${failure.seed}: ${failure.detail}`,
    right: `${runs} runs ${none === undefined ? 'without a failure' : 'until a failure'}, ${counts.committed} operations committed`,
  };
}

await runAsProgram(import.meta.url, main);
