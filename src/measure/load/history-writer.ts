/**
 * Records the operations of one client process in the format of sim/history.ts, for the checker.
 *
 * A *process* is one logical client with one operation open at a time: here a lane. After an operation with an unknown
 * outcome (`info`) its number is not used again, because that operation may still take effect at any later time.
 */
import { appendFileSync, readFileSync, writeFileSync } from 'node:fs';
import { formatHistoryEvent, type HistoryEvent, type HistoryEventType } from '../../sim/history.js';

/** What an operation asks for. */
export type HistoryEntry = Pick<HistoryEvent, 'f' | 'key' | 'value'>;

/** Its result: the value read, or whether a compare-and-set succeeded. Nothing for a write. */
export type HistoryOutcome = Partial<Pick<HistoryEvent, 'value' | 'result'>>;

const PROCESSES_PER_WORKER = 1_000_000;
const LINES_A_WRITE = 4096;

export class HistoryWriter {
  private readonly processes: number[];
  private readonly open: HistoryEntry[] = [];
  private next: number;
  private lines: string[] = [];

  constructor(
    private readonly path: string,
    worker: number,
    lanes: number,
  ) {
    writeFileSync(path, '');
    const first = worker * PROCESSES_PER_WORKER;
    this.processes = Array.from({ length: lanes }, (_, lane) => first + lane);
    this.next = first + lanes;
  }

  invoke(lane: number, entry: HistoryEntry, timeNs: number): void {
    this.open[lane] = entry;
    this.write(lane, 'invoke', entry, timeNs);
  }

  ok(lane: number, outcome: HistoryOutcome, timeNs: number): void {
    this.write(lane, 'ok', { ...this.open[lane]!, ...outcome }, timeNs);
  }

  failed(lane: number, certain: boolean, timeNs: number): void {
    this.write(lane, certain ? 'fail' : 'info', this.open[lane]!, timeNs);
    if (!certain) this.processes[lane] = this.next++;
  }

  close(): void {
    this.flush();
  }

  private write(lane: number, type: HistoryEventType, entry: HistoryEntry & HistoryOutcome, time: number): void {
    this.lines.push(formatHistoryEvent({ process: this.processes[lane]!, type, ...entry, time }));
    if (this.lines.length >= LINES_A_WRITE) this.flush();
  }

  private flush(): void {
    if (this.lines.length > 0) appendFileSync(this.path, `${this.lines.join('\n')}\n`);
    this.lines = [];
  }
}

/** Merges the files of several client processes of one host into one, in order of time. */
export function mergeHistories(parts: readonly string[], target: string): void {
  const lines = parts.flatMap((part) =>
    readFileSync(part, 'utf8')
      .split('\n')
      .filter((line) => line !== ''),
  );
  const timed = lines.map((line) => ({ line, time: (JSON.parse(line) as { time: number }).time }));
  timed.sort((a, b) => a.time - b.time);
  writeFileSync(target, timed.map(({ line }) => `${line}\n`).join(''));
}
