/** Histories of any machine: what clients asked for, when, and what they were told. */
import { HistoryError } from '../sim/history.js';

/** One operation of a client. `Operation` and `Result` are bytes as on the wire, or what the user decodes them to. */
export interface RecordedOperation<Operation = Uint8Array, Result = Uint8Array> {
  readonly operation: Operation;
  /** It was a read: `client.query`. Default false. */
  readonly isQuery?: boolean;
  /** When the client sent it, in any unit, on one clock for the whole history. */
  readonly invoked: number;
  /** When its result was there, on the same clock. Undefined: the outcome is unknown, it may have happened or not. */
  readonly completed?: number | undefined;
  /** Meaningless if `completed` is undefined. */
  readonly result?: Result | undefined;
}

/** Throws HistoryError `history-malformed`. */
export function checkRecords(history: readonly RecordedOperation<unknown, unknown>[]): void {
  history.forEach(({ invoked, completed }, i) => {
    if (typeof invoked !== 'number' || Number.isNaN(invoked))
      throw new HistoryError(i + 1, `invoked is ${String(invoked)}, a number expected`);
    if (completed === undefined) return;
    if (typeof completed !== 'number' || !(completed >= invoked))
      throw new HistoryError(
        i + 1,
        `completed is ${String(completed)}, a number from ${invoked} (invoked) on expected`,
      );
  });
}

/** What the recorder needs of a client; `Client` has it. */
export interface RecordedClient<Options> {
  execute(operation: Uint8Array, options?: Options): Promise<Uint8Array>;
  query(operation: Uint8Array, options?: Options): Promise<Uint8Array>;
}

/** Codes of errors after which an operation was certainly not executed (docs/reference/errors.md). */
const NOT_EXECUTED: ReadonlySet<unknown> = new Set([
  'option-invalid',
  'operation-too-large',
  'read-only',
  'busy',
  'aborted',
  'client-closed',
  'operation-refused',
]);

/**
 * Writes down what clients ask for and see, as `checkHistory` reads it. One recorder serves all clients of a process.
 * Operations that were certainly not executed are left out; the others that failed are kept as unknown.
 */
export class HistoryRecorder {
  private readonly records: (RecordedOperation & { completed?: number; result?: Uint8Array })[] = [];

  /** What was recorded so far, in the order of calls. An operation that is still open counts as unknown. */
  history(): RecordedOperation[] {
    return this.records.map((record) => ({ ...record }));
  }

  /** Calls `client.execute`, and rejects as it does. */
  execute<Options>(client: RecordedClient<Options>, operation: Uint8Array, options?: Options): Promise<Uint8Array> {
    return this.record(operation, false, () => client.execute(operation, options));
  }

  /** Calls `client.query`, and rejects as it does. */
  query<Options>(client: RecordedClient<Options>, operation: Uint8Array, options?: Options): Promise<Uint8Array> {
    return this.record(operation, true, () => client.query(operation, options));
  }

  private async record(operation: Uint8Array, isQuery: boolean, call: () => Promise<Uint8Array>): Promise<Uint8Array> {
    const record: (typeof this.records)[number] = { operation: operation.slice(), isQuery, invoked: performance.now() };
    this.records.push(record);
    try {
      const result = await call();
      record.completed = performance.now();
      record.result = result.slice();
      return result;
    } catch (error) {
      if (NOT_EXECUTED.has((error as { code?: unknown } | null)?.code))
        this.records.splice(this.records.indexOf(record), 1);
      throw error;
    }
  }
}
