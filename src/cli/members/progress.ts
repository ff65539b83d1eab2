/**
 * How far a change of the members is, for the operator: on stderr, one line a step; while a host copies the state, a line
 * that is drawn again on a terminal, and one now and then elsewhere.
 */
import type { Output } from '../../console/command.js';
import { cut } from '../../console/terminal.js';
import { formatBytes } from '../../console/units.js';
import type { HostSeen } from './plan.js';

/** Elsewhere than on a terminal. */
const LINE_MS = 5_000;
/** Rates are of this much time. */
const WINDOW_MS = 5_000;

interface Look {
  readonly atMs: number;
  readonly behind: number | undefined;
  readonly bytes: number;
}

/** What one host has copied since it was first looked at. */
export class Copying {
  private readonly looks: Look[] = [];

  /** In words; empty if there is nothing to say yet. */
  describe(host: HostSeen | undefined, nowMs: number): string {
    if (host === undefined) return '';
    const { looks } = this;
    const now = { atMs: nowMs, behind: host.behind, bytes: host.receivedBytes };
    if (looks.length > 0 && now.bytes < looks.at(-1)!.bytes) looks.length = 0; // its process was started again
    looks.push(now);
    while (looks.length > 2 && looks[1]!.atMs <= nowMs - WINDOW_MS) looks.shift();
    const [from] = looks as [Look];
    const seconds = (nowMs - from.atMs) / 1e3;
    const bytesRate = seconds > 0 ? (now.bytes - from.bytes) / seconds : undefined;
    const entriesRate =
      seconds > 0 && now.behind !== undefined && from.behind !== undefined ? (from.behind - now.behind) / seconds : 0;
    return [
      `${formatBytes(now.bytes)} received`,
      ...(bytesRate === undefined ? [] : [`${formatBytes(Math.round(bytesRate))}/s`]),
      ...(now.behind === undefined ? [] : [`${now.behind} entries behind`]),
      ...(entriesRate > 0 ? [`${Math.ceil(now.behind! / entriesRate)} s left`] : []),
    ].join(', ');
  }
}

export class Progress {
  private readonly copying = new Map<number, Copying>();
  private said = '';
  private saidMs = -Infinity;
  private drawn = false;
  private readonly redraws: boolean;

  constructor(
    private readonly output: Output,
    private readonly stream: Pick<NodeJS.WriteStream, 'write' | 'isTTY' | 'columns'> = process.stderr,
  ) {
    this.redraws = stream.isTTY === true && output.terminal && !output.quiet && !output.json;
  }

  /** A step was done. */
  done(says: string): void {
    this.clear();
    this.said = '';
    this.output.note(says);
  }

  /** Nothing can be done but wait. */
  waits(
    says: string,
    copies: { readonly id: number; readonly host: HostSeen | undefined } | undefined,
    nowMs: number,
  ): void {
    let text = says;
    if (copies !== undefined) {
      let copying = this.copying.get(copies.id);
      if (copying === undefined) this.copying.set(copies.id, (copying = new Copying()));
      const how = copying.describe(copies.host, nowMs);
      if (how !== '') text = `${says}: ${how}`;
    }
    if (this.redraws) {
      this.stream.write(`\r\x1b[2K${cut(text, (this.stream.columns || 80) - 1)}`);
      this.drawn = true;
      return;
    }
    if (says === this.said && nowMs - this.saidMs < LINE_MS) return;
    this.said = says;
    this.saidMs = nowMs;
    this.output.note(text);
  }

  /** Removes a line that is drawn again, before something else is written. */
  clear(): void {
    if (!this.drawn) return;
    this.drawn = false;
    this.stream.write('\r\x1b[2K');
  }
}
