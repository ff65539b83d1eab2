/**
 * Where client processes write their parts of a history before these are merged: a temporary directory that is removed
 * at the end, whatever happens.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

export class HistoryParts implements Disposable {
  private readonly directory = mkdtempSync(join(tmpdir(), 'jitpaxos-history-'));
  private readonly remove = (): void => rmSync(this.directory, { recursive: true, force: true });

  constructor() {
    process.once('exit', this.remove);
  }

  /** File of client process `index`. */
  path(index: number): string {
    return join(this.directory, `${index}.jsonl`);
  }

  paths(count: number): string[] {
    return Array.from({ length: count }, (_, index) => this.path(index));
  }

  [Symbol.dispose](): void {
    process.removeListener('exit', this.remove);
    this.remove();
  }
}
