/**
 * A process that looks again and again whether its host was suspended, for suspension.test.ts. It is stopped meanwhile, so
 * that a stop often lies between the readings of two clocks. To each message it answers what it has seen.
 */
import { SuspensionWatch, systemMs } from '../../src/client/lease-clock.js';

/** Without a pause, this long at once. */
const LOOKING_MS = 20;

export interface Seen {
  /** When a suspension was noticed last, monotonic ms; null: never. */
  readonly suspendedMs: number | null;
  /** The longest time between two looks, ms. */
  readonly longestMs: number;
}

const watch = new SuspensionWatch({ monotonicMs: () => performance.now(), dateMs: systemMs });
let suspendedMs = -Infinity;
let longestMs = 0;
let before = performance.now();

function look(): void {
  for (const untilMs = performance.now() + LOOKING_MS; performance.now() < untilMs; ) {
    suspendedMs = watch.look();
    const now = performance.now();
    longestMs = Math.max(longestMs, now - before);
    before = now;
  }
  setImmediate(look);
}

process.on('disconnect', () => process.exit(0));
process.on('message', () => {
  const seen: Seen = { suspendedMs: suspendedMs === -Infinity ? null : suspendedMs, longestMs };
  process.send!(seen);
});
process.send!('ready');
look();
