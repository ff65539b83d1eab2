/** The user's operations in a simulation, and what became of each. */
import { JitPaxosError } from '../errors.js';
import { show } from '../host/options.js';
import type { Random } from '../sim/random.js';
import type { ChosenLog } from '../sim/log-judge.js';
import { RecordedOperations, RecordingClient, type SimulatedOperation } from '../sim/recorded-operations.js';
import type { ClientWorkload, Workload as SimulatedWorkload } from '../sim/workload.js';
import type { WorkloadPlan } from '../sim/faults.js';
import type { Faults } from './fault.js';
import type { StandIns } from './stand-ins.js';

/** A source of chance, determined by the seed. */
export interface Chance {
  /** 0 ≤ x < 1. */
  unit(): number;
  /** A whole number, 0 ≤ x < `below`. */
  below(below: number): number;
  /** A whole number, both ends included. */
  between(low: number, high: number): number;
  /** True with this probability, 0 to 1. */
  chance(probability: number): boolean;
  /** One of the values. */
  pick<T>(values: readonly T[]): T;
}

/** An operation, as for `client.execute`; or a read, as for `client.query`. */
export type WorkloadOperation = Uint8Array | { readonly query: Uint8Array };

/**
 * What the clients of a simulation ask for. Called once for each client of each run; returns the function that gives this client's operations, one at each call,
 * without end. All variety comes from `chance`. Clients are 0, 1, …; a client asks for several operations at once.
 */
export type Workload = (chance: Chance, client: number) => () => WorkloadOperation;

type Judge = (operations: readonly SimulatedOperation[], log: ChosenLog) => string | undefined;

export class RunWorkload implements SimulatedWorkload {
  private readonly recorded = new RecordedOperations();
  private clients = 0;

  /** @param longest an operation, bytes */
  constructor(
    private readonly workload: Workload,
    private readonly longest: number,
    private readonly standIns: StandIns,
    private readonly faults: Faults,
    private readonly judgeOperations: Judge,
  ) {}

  client(random: Random, _plan: WorkloadPlan): ClientWorkload {
    const client = this.clients++;
    let next: (() => WorkloadOperation) | undefined;
    const give = (): { operation: Uint8Array; isQuery: boolean } => {
      next ??= this.generator(random, client);
      const given = this.checked(this.call(random, next));
      const isQuery = !(given instanceof Uint8Array);
      return { operation: (isQuery ? given.query : given).slice(), isQuery };
    };
    return new RecordingClient(client, give, this.recorded);
  }

  judge(log: ChosenLog): string | undefined {
    return this.judgeOperations(this.recorded.all, log);
  }

  private generator(random: Random, client: number): () => WorkloadOperation {
    const next = this.call(random, () => this.workload(random, client));
    if (typeof next === 'function') return next;
    return this.wrong(
      'option-invalid',
      `simulate: workload returned ${show(next)}; it has to return a function that gives the next operation`,
    );
  }

  private call<T>(random: Random, call: () => T): T {
    return this.faults.guard('workload-threw', 'the workload', () => this.standIns.during(random, call));
  }

  private checked(next: WorkloadOperation): WorkloadOperation {
    const bytes = next instanceof Uint8Array ? next : (next as { query?: unknown } | undefined)?.query;
    if (!(bytes instanceof Uint8Array))
      this.wrong(
        'option-invalid',
        `simulate: the workload gave ${show(next)}; an operation is a Uint8Array, or { query: Uint8Array }, and there is always a next one`,
      );
    else if (bytes.length > this.longest)
      this.wrong(
        'operation-too-large',
        `simulate: the workload gave an operation of ${bytes.length} bytes, of at most ${this.longest}; raise operationBytes`,
      );
    return next;
  }

  /** A wrong call: `simulate` throws it. */
  private wrong(code: 'option-invalid' | 'operation-too-large', message: string): never {
    return this.faults.report('workload-threw', message, new JitPaxosError(code, message));
  }
}
