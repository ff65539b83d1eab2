// How many operations a client has on their way at once: the window, what waits for it, and how it adapts.
import t from 'tap';
import { LEAST, QUEUED, SendWindow } from '../../src/protocol/client/send-window.js';
import { Instant } from '../../src/protocol/contract.js';
import { Random } from '../../src/sim/random.js';

const now = new Instant();

/** A client that always has more to send, over a path of `pathUs`, to replicas that take `eachUs` for an operation. */
class Pipe {
  readonly window: SendWindow;
  readonly sentUs: Float64Array;
  nowUs = 1000;
  commits = 0;
  private readonly queue: number[] = [];
  private freeUs = 0;
  private readonly doneUs: Float64Array;

  constructor(
    readonly lanes: number,
    public pathUs: number,
    public eachUs: number,
  ) {
    this.window = new SendWindow(lanes);
    this.sentUs = new Float64Array(lanes + 1);
    this.doneUs = new Float64Array(lanes + 1);
    this.sentUs[lanes] = this.nowUs - pathUs - eachUs;
    this.commit(lanes); // the registration, alone
    for (let lane = 0; lane < lanes; lane++) this.submit(lane);
  }

  /** Runs until that many more operations were committed. */
  run(operations: number): void {
    for (const end = this.commits + operations; this.commits < end; ) {
      const lane = this.queue.shift()!;
      this.nowUs = Math.max(this.nowUs, this.doneUs[lane]!);
      this.commit(lane);
      this.window.end(lane);
      this.submit(lane);
      while (this.window.isDue) this.send(this.window.first);
    }
  }

  private submit(lane: number): void {
    if (this.window.waiting > 0 || this.window.isFull) this.window.wait(lane);
    else this.send(lane);
  }

  private send(lane: number): void {
    this.window.depart(lane);
    this.sentUs[lane] = this.nowUs;
    this.freeUs = Math.max(this.freeUs, this.nowUs + this.pathUs / 2) + this.eachUs;
    this.doneUs[lane] = this.freeUs + this.pathUs / 2;
    this.queue.push(lane);
  }

  private commit(lane: number): void {
    now.monotonicUs = this.nowUs;
    this.window.committed(this.sentUs, lane, now);
    this.commits++;
  }
}

t.test('as many operations are on their way as the path holds, and QUEUED more', (t) => {
  for (const [name, pathUs, eachUs] of [
    ['a short path', 50, 2],
    ['a long path', 20_000, 10],
    ['slow replicas', 100, 100],
  ] as const) {
    const pipe = new Pipe(4096, pathUs, eachUs);
    pipe.run(100_000);
    const wanted = pathUs / eachUs + QUEUED;
    t.ok(
      pipe.window.size > 0.9 * wanted && pipe.window.size < 1.1 * wanted,
      `${name}: ${pipe.window.size.toFixed(0)}, of ${wanted}`,
    );
    t.equal(pipe.window.onWay, Math.floor(pipe.window.size));
  }
  t.end();
});

t.test('one with fewer lanes than QUEUED never waits', (t) => {
  const pipe = new Pipe(QUEUED, 50, 2);
  pipe.run(10_000);
  t.equal(pipe.window.onWay, QUEUED);
  t.equal(pipe.window.waiting, 0);
  t.end();
});

t.test('a path that becomes longer, or shorter, is found out', (t) => {
  const pipe = new Pipe(4096, 1_000, 20);
  pipe.run(20_000);
  pipe.pathUs = 20_000;
  pipe.run(1_200_000); // 24 s
  const long = 20_000 / 20 + QUEUED;
  t.ok(pipe.window.size > 0.9 * long && pipe.window.size < 1.1 * long, `longer: ${pipe.window.size.toFixed(0)}`);
  pipe.pathUs = 1_000;
  pipe.run(600_000); // 12 s
  const short = 1_000 / 20 + QUEUED;
  t.ok(pipe.window.size > 0.9 * short && pipe.window.size < 1.1 * short, `shorter: ${pipe.window.size.toFixed(0)}`);
  t.end();
});

t.test('busy: the window halves, once a round, not below LEAST, and comes back', (t) => {
  const pipe = new Pipe(4096, 50, 2);
  pipe.run(20_000);
  const { window } = pipe;
  const before = window.size;
  window.busy();
  window.busy();
  t.equal(window.size, before / 2);
  pipe.run(2_000);
  for (let round = 0; round < 20; round++) {
    window.busy();
    pipe.run(100);
  }
  t.ok(window.size < 6 * LEAST, `${window.size.toFixed(0)} while replicas are busy`);
  t.ok(window.onWay > 0);
  pipe.run(100_000);
  t.ok(window.size > 0.9 * before, `${window.size.toFixed(0)} afterwards`);
  t.end();
});

t.test('what waits leaves in order, and a slot that ends while it waits leaves no trace', (t) => {
  const seed = (Math.random() * 2 ** 31) | 0;
  const random = new Random(seed);
  const lanes = 40;
  const window = new SendWindow(lanes);
  window.size = 8;
  const waiting: number[] = [];
  const onWay = new Set<number>();
  for (let step = 0; step < 20_000; step++) {
    const lane = random.below(lanes);
    if (waiting.includes(lane) || onWay.has(lane)) {
      window.end(lane);
      onWay.delete(lane);
      if (waiting.includes(lane)) waiting.splice(waiting.indexOf(lane), 1);
    } else if (window.isFull) {
      window.wait(lane);
      waiting.push(lane);
    } else {
      window.depart(lane);
      onWay.add(lane);
    }
    while (window.isDue) {
      const first = window.first;
      if (first !== waiting.shift()) t.fail(`step ${step}: ${first} leaves out of turn, seed ${seed}`);
      window.depart(first);
      onWay.add(first);
    }
    if (window.waiting !== waiting.length || window.onWay !== onWay.size)
      t.fail(`step ${step}: ${window.waiting} wait, ${window.onWay} on their way, seed ${seed}`);
  }
  t.pass(`seed ${seed}`);
  t.end();
});
