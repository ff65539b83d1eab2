/** How often this process looks whether calls are due. */
const TURN_MS = 2;

/** Calls `each` this many times a second, some at a time. Returns what ends it. */
export function paced(perSecond: number, each: () => void): () => void {
  const fromMs = performance.now();
  let made = 0;
  const timer = setInterval(() => {
    for (const due = ((performance.now() - fromMs) / 1000) * perSecond; made < due; made++) each();
  }, TURN_MS);
  return () => clearInterval(timer);
}
