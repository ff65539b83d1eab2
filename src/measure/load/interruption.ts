/**
 * Ctrl-C (and SIGTERM) in a measurement: what was measured so far is kept, and nothing is left behind.
 *
 * Without a handler Node ends without its `exit` event, and so without the code that removes directories and processes.
 * A handler is therefore installed from the first moment. During a measurement the first signal ends it in order, and a
 * second one ends the process; before a measurement, the first one ends the process.
 */
import { Exit } from '../../console/exit.js';

const SIGNALS = ['SIGINT', 'SIGTERM'] as const;

export class Interruption implements Disposable {
  private stopping: (() => void) | undefined;
  private asked = false;
  private endedEarly = false;
  /** Something was measured, and is about to be printed. */
  private measured = false;

  constructor() {
    for (const signal of SIGNALS) process.on(signal, this.onSignal);
  }

  /** The user asked for the end. */
  get requested(): boolean {
    return this.asked;
  }

  /** The measurement was ended early. */
  get stopped(): boolean {
    return this.endedEarly;
  }

  /** Calls `stop` at the first signal during `work`, which then ends by itself, earlier than planned. */
  async during<T>(stop: () => void, work: () => Promise<T>): Promise<T> {
    this.stopping = stop;
    try {
      const result = await work();
      this.measured = true;
      return result;
    } finally {
      this.stopping = undefined;
    }
  }

  [Symbol.dispose](): void {
    for (const signal of SIGNALS) process.removeListener(signal, this.onSignal);
  }

  private readonly onSignal = (): void => {
    const { stopping, asked, measured } = this;
    this.asked = true;
    if (stopping !== undefined && !asked) {
      this.endedEarly = true;
      return stopping();
    }
    if (measured && !asked) return; // it ends by itself, with its result
    process.stderr.write(
      asked
        ? 'interrupted: a second time; what was measured is lost, run again\n'
        : 'interrupted: nothing was being measured; run again\n',
    );
    // The `exit` handlers of clusters, clients and directories clean up.
    process.exit(Exit.failed);
  };
}
