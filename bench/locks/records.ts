/**
 * What the processes of bench:locks believed, judged on the one clock that they share.
 *
 * Two holds overlap if the earlier one, by its token, still believed that it held when the later one already did. Writes are
 * judged by the log: those that were executed stand there in the order of the tokens.
 */
import type { HolderReport, Hold } from './holder.js';
import { noLosses } from './losses.js';

/** As far as it is known: of a process that was killed, the last thing that it said. */
interface Held {
  readonly token: number;
  readonly firstNs: number;
  lastNs: number;
  hold?: Hold;
}

export class Records {
  /** What holders asked for in vain, by code. */
  readonly errors: Record<string, number> = {};
  /** Holds that ended before they were released, by cause. A process that was stopped does not know it: `notRenewed`. */
  readonly losses = noLosses();
  private readonly held = new Map<number, Held>();

  note(report: HolderReport): void {
    if (report.kind === 'ready') return;
    if (report.kind === 'failed') {
      this.errors[report.code] = (this.errors[report.code] ?? 0) + 1;
      return;
    }
    if (report.kind === 'hold' && report.lost !== undefined) this.losses[report.lost]++;
    if (report.kind === 'taken') {
      this.held.set(report.token, { token: report.token, firstNs: report.firstNs, lastNs: report.firstNs });
      return;
    }
    const held = this.held.get(report.token);
    if (held === undefined) return;
    held.lastNs = Math.max(held.lastNs, report.lastNs);
    if (report.kind === 'hold') held.hold = report;
  }

  get count(): number {
    return this.held.size;
  }

  judge(): {
    readonly overlaps: number;
    /** Writes that were sent by a process that did not hold any more, and were refused. */
    readonly fenced: number;
    /** Writes that were executed after one of a later holder: the fence failed. */
    readonly staleExecuted: number;
    readonly handOverMs: readonly number[];
    readonly operationMs: readonly number[];
  } {
    const all = [...this.held.values()].sort((a, b) => a.token - b.token);
    let [overlaps, fenced, staleExecuted] = [0, 0, 0];
    const handOverMs: number[] = [];
    const operationMs: number[] = [];
    let laterWrite = Infinity;
    for (const { hold } of [...all].reverse()) {
      if (hold?.wroteAt === undefined) continue;
      if (hold.wroteAt > laterWrite) staleExecuted++;
      laterWrite = Math.min(laterWrite, hold.wroteAt);
    }
    for (const [i, { lastNs, hold }] of all.entries()) {
      const next = all[i + 1];
      if (hold?.wasFenced === true) fenced++;
      if (hold?.wroteAt !== undefined) operationMs.push(hold.operationNs / 1e6);
      if (next === undefined) continue;
      if (next.firstNs < lastNs) overlaps++;
      if (hold?.releaseNs !== undefined) handOverMs.push((next.firstNs - hold.releaseNs) / 1e6);
    }
    return { overlaps, fenced, staleExecuted, handOverMs, operationMs };
  }
}
