// One pass of the event loop takes a bounded number of datagrams, however many have arrived, and no new batch after a while.
import t from 'tap';
import { setImmediate as pass } from 'node:timers/promises';
import { freeAddress, nativeTransport, withoutNative } from './fixtures.js';

/** native/udp_port.h: kDatagramsPerPass, and what one batch can hold beyond it: kReceivedMax. */
const PASS_MAX = 1_024 + 32 * 64;
const BYTES = 20;
const SENT = 12_000;
const RUN = 512;
/** Longer than kPassNs. A pass may begin while the loop polls, and end with a batch that woke it. */
const HANDLING_MS = 3;
const SLOW_DATAGRAMS = 400;

t.test('under a burst of runs, timers and the queue get their turn', { skip: withoutNative }, async (t) => {
  const own = await freeAddress(4);
  let received = 0;
  const receiver = nativeTransport({ replicas: [own], listen: own, idle: 'block', receive: () => void received++ });
  await receiver.open();
  t.teardown(() => receiver.close());
  const sender = nativeTransport({ replicas: [own] });
  await sender.open();
  t.teardown(() => sender.close());
  for (let sent = 0; sent < SENT; ) {
    for (let i = 0; i < RUN; i++, sent++) sender.send(sender.acquire(BYTES)!, BYTES, 0);
    sender.flush();
  }
  let most = 0;
  for (let quiet = 0; quiet < 100; ) {
    const before = received;
    await pass();
    most = Math.max(most, received - before);
    quiet = received === before ? quiet + 1 : 0;
  }
  t.comment(`${received} of ${SENT} received, at most ${most} in one pass`);
  t.ok(received > 0 && most <= PASS_MAX, `${most} in one pass`);
});

t.test(
  'datagrams that take long to handle do not keep the rest of the event loop waiting',
  { skip: withoutNative },
  async (t) => {
    for (const idle of ['block', 'adaptive'] as const) {
      const own = await freeAddress(4);
      let batches = 0;
      let inPass = 0;
      let most = 0;
      const receiver = nativeTransport({
        replicas: [own],
        listen: own,
        idle,
        receive: () => undefined,
        batchEnd: () => {
          batches++;
          most = Math.max(most, ++inPass);
          for (const untilMs = performance.now() + HANDLING_MS; performance.now() < untilMs; );
        },
      });
      await receiver.open();
      t.teardown(() => receiver.close());
      const sender = nativeTransport({ replicas: [own] });
      await sender.open();
      t.teardown(() => sender.close());
      // Of different lengths, so that the kernel makes no runs of them.
      for (let i = 0; i < SLOW_DATAGRAMS; i++) sender.send(sender.acquire(BYTES + i)!, BYTES + i, 0);
      sender.flush();
      for (let quiet = 0; quiet < 100; ) {
        const before = batches;
        inPass = 0;
        await pass();
        quiet = batches === before ? quiet + 1 : 0;
      }
      t.comment(`${idle}: ${batches} batches, at most ${most} in one pass`);
      t.ok(batches > 2 && most <= 2, `${idle}: ${most} batches in one pass`);
    }
  },
);
