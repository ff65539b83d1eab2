/** One listener for each AbortSignal, however many wait for it: a signal that many share causes no warning. */
interface Waiting {
  readonly runs: Set<{ readonly run: () => void }>;
  readonly listener: () => void;
}

const waitingFor = new WeakMap<AbortSignal, Waiting>();

/**
 * Calls `run` when the signal is aborted, unless the returned function was called before. A signal that is aborted
 * already calls nothing.
 */
export function onAbort(signal: AbortSignal | undefined, run: () => void): () => void {
  if (signal === undefined || signal.aborted) return () => undefined;
  const { runs, listener } = waitingFor.get(signal) ?? listenTo(signal);
  const entry = { run };
  runs.add(entry);
  return () => {
    if (!runs.delete(entry) || runs.size > 0) return;
    signal.removeEventListener('abort', listener);
    waitingFor.delete(signal);
  };
}

function listenTo(signal: AbortSignal): Waiting {
  const runs: Waiting['runs'] = new Set();
  const listener = (): void => {
    waitingFor.delete(signal);
    for (const entry of [...runs]) if (runs.delete(entry)) entry.run();
  };
  const waiting = { runs, listener };
  waitingFor.set(signal, waiting);
  signal.addEventListener('abort', listener, { once: true });
  return waiting;
}
