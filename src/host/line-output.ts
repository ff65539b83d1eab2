/**
 * Lines for a stream that may fail, block, or be gone: a pipe whose reader ended or stopped, a file on a full disk.
 *
 * The rule: whoever writes here only informs. Writing never throws, never waits and never holds more than a bounded
 * backlog; lines that found no room are counted, and the count is written as soon as lines flow again.
 */

/** What lines go to: process.stderr, or a stand-in. */
export interface LineStream {
  /** Bytes that were taken and have not left yet. */
  readonly writableLength: number;
  write(text: string, done: (error?: Error | null) => void): unknown;
  on(event: 'error', listener: (error: Error) => void): unknown;
}

/** What waits for a slow reader at most, bytes. Thousands of lines: a reader that is merely late loses nothing. */
const BACKLOG_BYTES = 1 << 20;

/**
 * A terminal takes no more after Ctrl-S, and Node waits for it, all of the process with it. From now on what it does not
 * take waits in the stream, as with a pipe. Node has no public name for this; without it nothing changes.
 */
export function neverWait(stream: object): void {
  const { isTTY, _handle: handle } = stream as {
    readonly isTTY?: boolean;
    readonly _handle?: { setBlocking?(blocking: boolean): void } | null;
  };
  if (isTTY === true) handle?.setBlocking?.(false);
}

export class LineOutput {
  private lost = 0;
  /** The last write failed, perhaps in the middle of its line: the next one begins on a line of its own. */
  private cut = false;

  /**
   * @param describeLoss the line that says how many lines were lost
   */
  constructor(
    private readonly stream: LineStream,
    private readonly describeLoss: (lines: number) => string,
    private readonly backlogBytes = BACKLOG_BYTES,
  ) {
    // Without a listener an error of the stream would end the process. `done` counts what was lost.
    stream.on('error', () => undefined);
  }

  /** Takes one line without its end. */
  write(line: string): void {
    if (this.stream.writableLength >= this.backlogBytes) this.lost++;
    else this.put(line, 1);
  }

  /** @param lines what is lost when this line is */
  private put(line: string, lines: number): void {
    try {
      this.stream.write(`${this.cut ? '\n' : ''}${line}\n`, (error) => this.written(lines, error));
    } catch (error) {
      this.written(lines, error as Error);
    }
  }

  private written(lines: number, error: Error | null | undefined): void {
    if (error !== undefined && error !== null) {
      this.lost += lines;
      this.cut = true;
      return;
    }
    this.cut = false;
    if (this.lost === 0 || this.stream.writableLength > this.backlogBytes / 2) return;
    const { lost } = this;
    this.lost = 0;
    this.put(this.describeLoss(lost), lost);
  }
}
