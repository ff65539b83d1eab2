/** The order of leases: whatever happens to them, the first is the one about which something is to be done first. */
import t from 'tap';
import { LeaseQueue, type Queued } from '../../src/client/lease-queue.js';
import { randomFrom } from '../random.js';

const SEED = Number(process.env['SEED'] ?? Math.floor(Math.random() * 2 ** 31));

interface Element extends Queued {
  ms: number;
}

let reads = 0;

function element(ms: number): Element {
  return {
    ms,
    queuedAt: -1,
    get nextMs() {
      reads++;
      return this.ms;
    },
  };
}

t.test('elements come, move and go: the first has the least time', (t) => {
  t.comment(`seed ${SEED}`);
  const below = randomFrom(SEED);
  const random = (): number => below(1e6) / 1e6;
  const queue = new LeaseQueue<Element>();
  const all: Element[] = [];
  let wrong = 0;
  for (let i = 0; i < 3000; i++) {
    const which = random();
    const at = Math.floor(random() * all.length);
    if (which < 0.4 || all.length === 0) {
      const added = element(random() < 0.1 ? Infinity : Math.floor(random() * 100));
      all.push(added);
      queue.place(added);
    } else if (which < 0.7) {
      all[at]!.ms = Math.floor(random() * 100);
      queue.place(all[at]!);
    } else {
      const [gone] = all.splice(at, 1);
      queue.remove(gone!);
      queue.remove(gone!);
      if (gone!.queuedAt !== -1) t.fail('it is still there');
    }
    const least = all.length === 0 ? undefined : Math.min(...all.map(({ ms }) => ms));
    if (queue.first?.ms !== least) wrong++;
  }
  t.equal(wrong, 0, `seed ${SEED}: steps after which another one was first`);
  t.end();
});

t.test('100,000 leases cost each of them a few comparisons', (t) => {
  const queue = new LeaseQueue<Element>();
  reads = 0;
  for (let i = 0; i < 100_000; i++) queue.place(element(i));
  t.ok(reads < 100_000 * 2 * 17 * 2, `${reads} reads`);
  for (let i = 0; i < 100_000; i++) queue.remove(queue.first!);
  t.ok(reads < 100_000 * 2 * 17 * 6, `${reads} reads`);
  t.equal(queue.first, undefined);
  t.end();
});
