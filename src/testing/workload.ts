/** The user's operations in a simulation, and what became of each. */
import { JitPaxosError } from '../errors.js';
import { show } from '../host/options.js';
import type { Random } from '../sim/random.js';
import type { ClientWorkload, SentRequest, WorkItem, Workload as SimulatedWorkload } from '../sim/workload.js';
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

/** One operation of a client of a simulation. */
export interface SimulatedOperation {
  readonly client: number;
  readonly operation: Uint8Array;
  readonly isQuery: boolean;
  /** Positions among all events of the run. `completed` is Infinity if the outcome is unknown. */
  readonly invoked: number;
  completed: number;
  result: Uint8Array | undefined;
  /** It was decided, and not executed. */
  refused: boolean;
  sent: SentRequest | undefined;
}

interface Item extends WorkItem {
  readonly operation: Uint8Array;
  record: SimulatedOperation | undefined;
}

/** The log that the cluster agreed on. */
export interface ChosenLog {
  readonly chosenLength: number;
  /** Where a request stands, from 1; undefined: nowhere. */
  indexOf(sessionHi: number, sessionLo: number, lane: number, request: number): number | undefined;
}

type Judge = (operations: readonly SimulatedOperation[], log: ChosenLog) => string | undefined;

export class RunWorkload implements SimulatedWorkload {
  readonly operations: SimulatedOperation[] = [];
  private clients = 0;
  private events = 0;

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
    const give = (): WorkloadOperation => {
      next ??= this.generator(random, client);
      return this.checked(this.call(random, next));
    };
    return new OneClient(client, give, this.operations, () => this.events++);
  }

  judge(log: ChosenLog): string | undefined {
    return this.judgeOperations(this.operations, log);
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

class OneClient implements ClientWorkload<Item> {
  bytes = new Uint8Array(0);

  constructor(
    private readonly client: number,
    private readonly give: () => WorkloadOperation,
    private readonly operations: SimulatedOperation[],
    private readonly event: () => number,
  ) {}

  next(): Item {
    const given = this.give();
    const isQuery = !(given instanceof Uint8Array);
    const operation = (isQuery ? given.query : given).slice();
    this.bytes = operation;
    return {
      f: isQuery ? 'query' : 'execute',
      quorumRead: isQuery,
      length: operation.length,
      operation,
      record: undefined,
    };
  }

  invoked(item: Item): void {
    const { client } = this;
    const { operation, quorumRead: isQuery } = item;
    const invoked = this.event();
    item.record = {
      client,
      operation,
      isQuery,
      invoked,
      completed: Infinity,
      result: undefined,
      refused: false,
      sent: undefined,
    };
    this.operations.push(item.record);
  }

  committed(
    { record }: Item,
    _process: number,
    _atUs: number,
    sent: SentRequest,
    bytes: Uint8Array,
    length: number,
  ): void {
    record!.completed = this.event();
    record!.result = bytes.slice(0, length);
    record!.sent = copyOf(sent);
  }

  refused({ record }: Item): void {
    record!.refused = true;
  }

  lost({ record }: Item, _process: number, _atUs: number, sent: SentRequest): void {
    record!.sent = copyOf(sent);
  }
}

/** `sent` belongs to a lane, which goes on. */
function copyOf({ sessionHi, sessionLo, lane, request }: SentRequest): SentRequest {
  return { sessionHi, sessionLo, lane, request };
}
