/** Operations of the clients of a run, with what became of each: what log-judge.ts judges. */
import type { ClientWorkload, SentRequest, WorkItem } from './workload.js';

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

/** Those of all clients of a run, in the order in which they began. */
export class RecordedOperations {
  readonly all: SimulatedOperation[] = [];
  private events = 0;

  event(): number {
    return this.events++;
  }
}

export interface RecordedItem extends WorkItem {
  readonly operation: Uint8Array;
  record: SimulatedOperation | undefined;
}

/** A client that records its operations. */
export class RecordingClient implements ClientWorkload<RecordedItem> {
  bytes: Uint8Array = new Uint8Array(0);

  /** @param give gives the next operation; its bytes are not changed afterwards */
  constructor(
    private readonly client: number,
    private readonly give: () => { readonly operation: Uint8Array; readonly isQuery: boolean },
    private readonly recorded: RecordedOperations,
  ) {}

  next(): RecordedItem {
    const { operation, isQuery } = this.give();
    this.bytes = operation;
    return {
      f: isQuery ? 'query' : 'execute',
      quorumRead: isQuery,
      length: operation.length,
      operation,
      record: undefined,
    };
  }

  invoked(item: RecordedItem): void {
    const { client, recorded } = this;
    const { operation, quorumRead: isQuery } = item;
    item.record = {
      client,
      operation,
      isQuery,
      invoked: recorded.event(),
      completed: Infinity,
      result: undefined,
      refused: false,
      sent: undefined,
    };
    recorded.all.push(item.record);
  }

  committed(
    { record }: RecordedItem,
    _process: number,
    _atUs: number,
    sent: SentRequest,
    bytes: Uint8Array,
    length: number,
  ): void {
    record!.completed = this.recorded.event();
    record!.result = bytes.slice(0, length);
    record!.sent = copyOf(sent);
  }

  refused({ record }: RecordedItem, _process: number, _atUs: number, sent: SentRequest): void {
    record!.refused = true;
    record!.sent = copyOf(sent);
  }

  lost({ record }: RecordedItem, _process: number, _atUs: number, sent: SentRequest): void {
    record!.sent = copyOf(sent);
  }
}

/** `sent` belongs to a lane, which goes on. */
function copyOf({ sessionHi, sessionLo, lane, request }: SentRequest): SentRequest {
  return { sessionHi, sessionLo, lane, request };
}
