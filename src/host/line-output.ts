/**
 * Writes lines to a stream that may fail, block, or vanish: a pipe whose reader ended or stopped, a file on a full
 * disk.
 *
 * The rule: these lines only inform. Writing never throws, never waits and never holds more than a bounded backlog.
 * Lines for which there was no room are counted, and the count is written as soon as lines flow again.
 */

/** The target of lines: process.stderr, or a stand-in. */
export interface LineStream {
  /** Bytes that were accepted and have not been written yet. */
  readonly writableLength: number;
  write(text: string, done: (error?: Error | null) => void): unknown;
  on(event: 'error', listener: (error: Error) => void): unknown;
}

/** Largest backlog for a slow reader, bytes: thousands of lines, so a reader that is merely late loses nothing. */
const BACKLOG_BYTES = 1 << 20;

/**
 * A terminal takes nothing after Ctrl-S, and Node would block the whole process until it does. After this call, the
 * backlog waits in the stream, as with a pipe. Node has no public name for this; without it nothing changes.
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
  /** The last write failed, perhaps in mid-line: the next line starts with a line break. */
  private cut = false;

  /** @param describeLoss returns the line that tells how many lines were lost */
  constructor(
    private readonly stream: LineStream,
    private readonly describeLoss: (lines: number) => string,
    private readonly backlogBytes = BACKLOG_BYTES,
  ) {
    // Without a listener, an error of the stream would end the process. `done` counts the loss.
    stream.on('error', () => undefined);
  }

  /** Takes one line without its line end. */
  write(line: string): void {
    if (this.stream.writableLength >= this.backlogBytes) this.lost++;
    else this.put(line, 1);
  }

  /** @param lines how many lines are lost if this one is */
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
