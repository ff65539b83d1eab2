/**
 * Ctrl-C (and SIGTERM) in a measurement: what was measured until then is kept, nothing is left behind.
 *
 * Without a handler Node ends without its `exit` event, and with it without what removes directories and processes. So one
 * is there from the first moment. While something is measured the first signal ends that in order, and a second one ends
 * the process; before there is anything to end in order, the first one does.
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

  /** Somebody asked for the end. */
  get requested(): boolean {
    return this.asked;
  }

  /** What was measured was ended before its time. */
  get stopped(): boolean {
    return this.endedEarly;
  }

  /** `stop` is called at the first signal while `work` goes on, which then ends by itself, sooner than it would have. */
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
    // The `exit` handlers of clusters, clients and directories remove what is there.
    process.exit(Exit.failed);
  };
}
