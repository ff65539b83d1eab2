/**
 * A UDP relay with a known delay, as a process of its own: what comes from one side goes on to the other one a fixed time
 * later. It waits by looking at the clock again and again, so that it is hardly late, and says of each datagram when it
 * came and when it went on.
 *
 * Arguments: the port that it passes on to, and the delay there and back, ns. It sends to its parent its own port, then a
 * Passed for each datagram.
 */
import { createSocket } from 'node:dgram';
import { openClock } from '../../src/clock/open.js';

export interface Passed {
  readonly direction: 'there' | 'back';
  /** CLOCK_REALTIME, ns since the epoch, as text: JSON has no such numbers. */
  readonly cameNs: string;
  readonly wentNs: string;
}

const [to, thereNs, backNs] = process.argv.slice(2).map(Number) as [number, number, number];
const clock = openClock('realtime');
const front = createSocket('udp4');
const behind = createSocket('udp4');
const waiting: { direction: Passed['direction']; bytes: Buffer; cameNs: bigint; dueNs: bigint }[] = [];
let client = 0;

function came(direction: Passed['direction'], bytes: Buffer): void {
  const cameNs = clock.nowBigInt();
  waiting.push({ direction, bytes, cameNs, dueNs: cameNs + BigInt(direction === 'there' ? thereNs : backNs) });
  if (waiting.length === 1) pass();
}

function pass(): void {
  while (waiting.length > 0) {
    const next = waiting.reduce((a, b) => (b.dueNs < a.dueNs ? b : a));
    if (clock.nowBigInt() < next.dueNs) break;
    waiting.splice(waiting.indexOf(next), 1);
    const { direction, bytes, cameNs } = next;
    const wentNs = clock.nowBigInt();
    if (direction === 'there') behind.send(bytes, to, '127.0.0.1');
    else front.send(bytes, client, '127.0.0.1');
    process.send!({ direction, cameNs: String(cameNs), wentNs: String(wentNs) } satisfies Passed);
  }
  if (waiting.length > 0) setImmediate(pass);
}

front.on('message', (bytes, { port }) => {
  client = port;
  came('there', bytes);
});
behind.on('message', (bytes) => came('back', bytes));
behind.bind(0, '127.0.0.1');
front.bind(0, '127.0.0.1', () => process.send!({ port: front.address().port }));
process.once('disconnect', () => process.exit());
