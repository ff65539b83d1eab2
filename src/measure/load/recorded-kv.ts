/**
 * Operations on the key-value store, recorded as they begin and end, for the linearizability checker. One process, or a
 * clock that the processes share, records a whole history, so its order is the real-time order.
 */
import type { KvClient } from '../../client/kv-client.js';
import type { HistoryEvent, HistoryValue } from '../../sim/history.js';

/** What to do; `compare` is only used for `cas`. */
export type KvOperation =
  | { readonly f: 'read'; readonly key: string }
  | { readonly f: 'write'; readonly key: string; readonly value: string }
  | { readonly f: 'cas'; readonly key: string; readonly compare: string | null; readonly value: string };

export class RecordedKv {
  readonly events: HistoryEvent[] = [];
  private processes = 0;

  /** `nowNs`: monotonic ns, the same in every process that adds to the history. */
  constructor(private readonly nowNs: () => number = () => Math.round(performance.now() * 1e6)) {}

  /** The number of a new logical client. After an unknown outcome a number is not used again. */
  newProcess(): number {
    return this.processes++;
  }

  /**
   * Runs one operation of logical client `process`. Returns what a read saw, or undefined if the outcome is unknown.
   */
  async run(
    kv: KvClient,
    process: number,
    operation: KvOperation,
    timeoutMs: number,
  ): Promise<{ readonly value: HistoryValue } | undefined> {
    const { f, key } = operation;
    const value: HistoryEvent['value'] =
      f === 'read' ? null : f === 'write' ? operation.value : [operation.compare, operation.value];
    this.push({ process, type: 'invoke', f, key, value });
    try {
      if (f === 'read') {
        const found = await kv.get(key, { timeout: timeoutMs });
        const seen = found === undefined ? null : Buffer.from(found).toString();
        this.push({ process, type: 'ok', f, key, value: seen });
        return { value: seen };
      }
      if (f === 'write') {
        await kv.put(key, operation.value, { timeout: timeoutMs });
        this.push({ process, type: 'ok', f, key, value });
      } else {
        const result = await kv.compareAndSet(key, operation.compare, operation.value, { timeout: timeoutMs });
        this.push({ process, type: 'ok', f, key, value, result });
      }
      return { value: operation.value };
    } catch {
      // Whatever the error, the operation may have taken effect.
      this.push({ process, type: 'info', f, key, value });
      return undefined;
    }
  }

  private push(event: Omit<HistoryEvent, 'time'>): void {
    this.events.push({ ...event, time: this.nowNs() });
  }
}
