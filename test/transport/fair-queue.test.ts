// The queue in which datagrams of clients wait: turns, bounds, and a model.
import t from 'tap';
import { Random } from '../../src/sim/random.js';
import { FairQueue } from '../../src/transport/fair-queue.js';
import { MAX_DATAGRAM_BYTES } from '../../src/wire/envelope.js';

const REPLICAS = 3;
const ENDPOINTS = 16;
const DATAGRAM = 1432;

const datagram = (length: number, first = 0): Uint8Array => {
  const bytes = new Uint8Array(length);
  bytes[0] = first;
  return bytes;
};

/** Endpoints in the order in which they are taken. */
function drain(queue: FairQueue, max = Infinity): number[] {
  const order: number[] = [];
  while (order.length < max && queue.take()) {
    order.push(queue.endpoint);
    queue.release();
  }
  return order;
}

t.test('one who has little to say waits behind a few datagrams of one who floods, not behind all', (t) => {
  const queue = new FairQueue(REPLICAS, ENDPOINTS, DATAGRAM, 1 << 20);
  for (let i = 0; i < 300; i++) queue.put(5, datagram(100), 0, 100);
  queue.put(6, datagram(100), 0, 100);
  queue.put(7, datagram(100), 0, 100);
  const order = drain(queue);
  t.equal(order.length, 302);
  t.ok(order.indexOf(6) <= 6, `taken as number ${order.indexOf(6)}`);
  t.ok(order.indexOf(7) <= 7);
  t.end();
});

t.test('a client that sends little does not wait; one that sends much, or of which others wait, does', (t) => {
  const queue = new FairQueue(REPLICAS, ENDPOINTS, DATAGRAM, 1 << 20, 12);
  const passed = (endpoint: number, length = 100, times = 20): number => {
    let count = 0;
    while (count < times && queue.passes(endpoint, length)) count++;
    return count;
  };
  t.equal(passed(5), 12, 'nobody waits: as many as a look takes; a datagram counts for 256 bytes');
  t.equal(passed(6), 0, 'all together');
  queue.put(5, datagram(100), 0, 100);
  queue.renew();
  t.equal(passed(5), 0, 'one of its own waits');
  t.equal(passed(6, 600), 2, 'half of a look; a datagram counts for its length');
  t.equal(passed(7), 6);
  t.same([passed(8), passed(9)], [1, 0], 'what is left');
  queue.put(6, datagram(100), 0, 100);
  queue.put(7, datagram(100), 0, 100);
  queue.renew();
  t.same([passed(8), passed(9)], [3, 3], 'a quarter of a look beside three');
  for (let endpoint = 8; endpoint < REPLICAS + ENDPOINTS; endpoint++) queue.put(endpoint, datagram(100), 0, 100);
  queue.renew();
  t.equal(passed(4), 1, 'always one');
  queue.renew();
  t.equal(passed(4, 300), 0, 'that is short');
  drain(queue);
  t.equal(passed(5), 12, 'when all have left, others pass again');
  queue.renew();
  t.equal(passed(5), 12);
  queue.renew();
  t.equal(passed(5 + ENDPOINTS), 12, 'an endpoint in the same place has its share');
  t.end();
});

t.test('flows that pass by the queue get no more than those that wait in it, at whatever rate they send', (t) => {
  const LOOK = 64;
  const FLOWS = 8;
  const faults: string[] = [];
  for (let rate = 1; rate < LOOK; rate++) {
    const queue = new FairQueue(REPLICAS, ENDPOINTS, DATAGRAM, 4 << 20, LOOK);
    const handled = new Map<number, number>();
    const count = (endpoint: number): void => void handled.set(endpoint, (handled.get(endpoint) ?? 0) + 1);
    const looks = 100;
    for (let look = 0; look < looks; look++) {
      queue.renew();
      for (let left = LOOK; left > 0 && queue.take(); left--) {
        count(queue.endpoint);
        queue.release();
      }
      for (let waiting = 0; waiting < FLOWS; waiting++)
        for (let i = 0; i < 32; i++) queue.put(REPLICAS + waiting, datagram(100), 0, 100);
      for (let few = 0; few < 4; few++) {
        const endpoint = REPLICAS + FLOWS + few;
        for (let i = 0; i < rate; i++)
          if (queue.passes(endpoint, 100)) count(endpoint);
          else queue.put(endpoint, datagram(100), 0, 100);
      }
    }
    const least = Math.min(...Array.from({ length: FLOWS }, (_, flow) => handled.get(REPLICAS + flow)!));
    for (let few = 0; few < 4; few++) {
      const got = handled.get(REPLICAS + FLOWS + few)!;
      if (got > least * 1.1 + 20)
        faults.push(`at ${rate} a look one of four got ${got}, one of eight that wait ${least}`);
      if (got < 0.9 * Math.min(rate, LOOK / (FLOWS + 4)) * looks)
        faults.push(`at ${rate} a look one of four got only ${got}`);
    }
  }
  t.same(faults, []);
  t.end();
});

t.test('without a share nothing passes', (t) => {
  const queue = new FairQueue(REPLICAS, ENDPOINTS, DATAGRAM, 1 << 20);
  t.notOk(queue.passes(5, 100));
  queue.renew();
  t.notOk(queue.passes(5, 100));
  t.end();
});

t.test('turns are counted in bytes: long datagrams get no more than short ones', (t) => {
  const queue = new FairQueue(REPLICAS, ENDPOINTS, DATAGRAM, 8 << 20);
  for (let i = 0; i < 20; i++) queue.put(5, datagram(40_000), 0, 40_000);
  for (let i = 0; i < 1_000; i++) queue.put(6, datagram(1_000), 0, 1_000);
  const order = drain(queue, 410);
  const long = order.filter((endpoint) => endpoint === 5).length * 40_000;
  const short = order.filter((endpoint) => endpoint === 6).length * 1_000;
  t.ok(Math.abs(long - short) <= 80_000, `${long} and ${short} bytes`);
  t.end();
});

t.test('one alone gets half of the room, and whoever comes next always finds some', (t) => {
  const capacity = 100 * DATAGRAM;
  const queue = new FairQueue(REPLICAS, ENDPOINTS, DATAGRAM, capacity);
  const fill = (endpoint: number): number => {
    let taken = 0;
    while (queue.put(endpoint, datagram(64), 0, 64)) taken++;
    return taken;
  };
  t.equal(fill(3), 50);
  t.equal(fill(4), 25);
  for (let endpoint = 5; endpoint < 9; endpoint++) t.ok(fill(endpoint) >= 1, `endpoint ${endpoint} finds room`);
  t.ok(queue.size <= 100);
  const held = queue.size;
  t.equal(drain(queue).length, held);
  t.equal(fill(10), 50, 'at once when the load is gone');
  t.end();
});

t.test('long datagrams count as what they take', (t) => {
  const queue = new FairQueue(REPLICAS, ENDPOINTS, DATAGRAM, 4 * MAX_DATAGRAM_BYTES);
  t.ok(queue.put(3, datagram(2_000), 0, 2_000));
  t.ok(queue.put(3, datagram(60_000), 0, 60_000));
  t.notOk(queue.put(3, datagram(2_000), 0, 2_000), 'half of the room');
  t.ok(queue.put(4, datagram(1_432), 0, 1_432));
  t.end();
});

t.test('a place of the endpoint table that changed hands: nothing is handled as the next one’s', (t) => {
  const queue = new FairQueue(REPLICAS, ENDPOINTS, DATAGRAM, 1 << 20);
  t.ok(queue.put(5, datagram(64), 0, 64));
  t.notOk(queue.put(5 + ENDPOINTS, datagram(64), 0, 64));
  t.same(drain(queue), [5]);
  t.ok(queue.put(5 + ENDPOINTS, datagram(64), 0, 64));
  t.same(drain(queue), [5 + ENDPOINTS]);
  t.end();
});

t.test('at random, beside a model: each endpoint’s datagrams in order, all of them, whole', (t) => {
  const seed = Number(process.env['SEED'] ?? 1);
  const random = new Random(seed);
  const queue = new FairQueue(REPLICAS, ENDPOINTS, DATAGRAM, 40 * DATAGRAM + 3 * MAX_DATAGRAM_BYTES);
  const waiting = new Map<number, Uint8Array[]>();
  let size = 0;
  for (let step = 0; step < 50_000; step++) {
    if (random.below(100) < (Math.floor(step / 500) % 2 === 0 ? 65 : 35)) {
      const endpoint = REPLICAS + random.below(ENDPOINTS);
      const length = random.below(20) === 0 ? 1_433 + random.below(50_000) : 1 + random.below(1_432);
      const offset = random.below(5);
      const bytes = Uint8Array.from({ length: offset + length + 3 }, () => 0);
      for (let i = 0; i < 8 && i < length; i++) bytes[offset + i] = random.below(256);
      if (!queue.put(endpoint, bytes, offset, length)) continue;
      size++;
      waiting.set(endpoint, [...(waiting.get(endpoint) ?? []), bytes.slice(offset, offset + length)]);
    } else if (queue.take()) {
      size--;
      const expected = waiting.get(queue.endpoint)!.shift();
      if (expected === undefined || Buffer.compare(expected, queue.bytes.subarray(0, queue.length)) !== 0)
        throw new Error(
          `step ${step}: another datagram than the oldest of endpoint ${queue.endpoint}; SEED=${seed} replays it`,
        );
      queue.release();
    } else if (size !== 0) {
      throw new Error(`step ${step}: ${size} wait and none is taken; SEED=${seed} replays it`);
    }
    if (queue.size !== size)
      throw new Error(`step ${step}: size ${queue.size}, and ${size} wait; SEED=${seed} replays it`);
  }
  drain(queue);
  t.equal(queue.size, 0);
  t.end();
});
