/** Leases on a virtual clock: when a holder may rely on one, and when it is told that it may not. */
import t from 'tap';
import { Lease, LeaseKeeper, type LeaseStore } from '../../src/client/lease.js';
import { SuspensionWatch, type LeaseClock } from '../../src/client/lease-clock.js';
import { JitPaxosError } from '../../src/errors.js';
import { ClockOffsets } from '../../src/protocol/clock-offsets.js';
import { randomFrom } from '../random.js';

/** Rounding of sums of milliseconds since 1970. */
const NEAR = 0.01;

/** A host and a cluster: time passes only with `pass` and `suspend`. */
class World implements LeaseClock {
  /** True time, which the cluster's clock shows, ms. */
  now = 1_700_000_000_000;
  /** The host's clock less true time. */
  wallOff = 0;
  /** How long the host was suspended, ms. Its clock stood still if it counts from the host's start. */
  asleep = 0;
  countsFromStart = false;
  /** What the replies say of the replicas' clocks against the host's at this moment. */
  ahead: number | 'heard' | undefined = 'heard';
  stated: number | undefined;
  /** Added to the stamps, ms. */
  correction = 0;
  /** One way, ms. */
  way = 0.2;
  answers = true;
  stopped = false;
  /** By number: the agreed end. */
  readonly ends = new Map<number, { ends: number; ttl: number }>();
  readonly renewals: number[] = [];
  revocations = 0;
  /** Keys that are not there any more. */
  readonly gone = new Set<number>();
  private readonly offsets = new ClockOffsets(1);
  private readonly suspensions = new SuspensionWatch(this);
  private logTime = 0;
  private timers: { at: number; run: () => void; isNetwork: boolean }[] = [];
  private next = 1;

  monotonicMs(): number {
    return this.now - 1_699_999_000_000 - this.asleep;
  }
  wallMs(): number {
    return this.now + this.wallOff - (this.countsFromStart ? this.asleep : 0);
  }
  dateMs(): number {
    return Math.floor(this.now);
  }
  heardAheadMs(baseMs: number): number | undefined {
    if (this.ahead !== 'heard') return this.ahead;
    const baseUs = baseMs * 1e3;
    this.offsets.majority(1, this.monotonicMs() * 1e3);
    const aheadUs = this.offsets.offsetByUs(0, baseUs) + this.offsets.roundTripUs(0) / 2;
    return Number.isNaN(aheadUs) ? undefined : aheadUs / 1e3;
  }
  statedAheadMs(): number | undefined {
    return this.stated;
  }
  suspendedMs(): number {
    return this.suspensions.look();
  }
  correct(): void {
    this.correction = this.heardAheadMs(this.wallMs() - this.monotonicMs()) ?? 0;
  }
  after(ms: number, run: () => void, isNetwork = false): () => void {
    // Smaller steps are lost beside the milliseconds since 1970.
    const timer = { at: this.now + Math.max(NEAR, ms), run, isNetwork };
    this.timers.push(timer);
    return () => void (this.timers = this.timers.filter((other) => other !== timer));
  }

  random(): number {
    return 0;
  }

  whenClosed(run: () => void): void {
    this.close = run;
  }
  close = (): void => undefined;

  readonly store: LeaseStore = {
    grant: ({ ttl }) =>
      this.answer((time) => {
        const number = this.next++;
        this.ends.set(number, { ends: Math.floor(time) + ttl, ttl });
        return { number, ends: this.ends.get(number)!.ends };
      }),
    renew: (leases, options) =>
      this.answer((time) => {
        this.renewals.push(leases.length);
        return leases.map(({ number }) => {
          const lease = this.ends.get(number);
          if (lease === undefined || lease.ends <= this.now) return undefined;
          return (lease.ends = Math.max(lease.ends, Math.floor(time) + lease.ttl));
        });
      }, options?.timeout),
    revoke: ({ number }, options) =>
      this.answer(() => {
        this.revocations++;
        return this.ends.delete(number);
      }, options?.timeout),
    present: (places, options) => this.answer(() => places.map(({ token }) => !this.gone.has(token)), options?.timeout),
  };

  /** The primary appends a timestamp when its clock has reached it, and none that is not above the one before. */
  private answer<T>(execute: (logTime: number) => T, timeout = 1e9): Promise<T> {
    return new Promise((resolve, reject) => {
      const wall = this.wallMs();
      const sent = this.monotonicMs();
      const { correction } = this;
      const forget = this.after(timeout, () => reject(new JitPaxosError('outcome-unknown', 'no answer')));
      const execution = (): void => {
        if (!this.answers) return;
        this.logTime = Math.max(this.logTime + 1e-3, Math.min(this.now, wall + correction));
        const result = execute(this.logTime);
        const offsetUs = (this.now - wall) * 1e3;
        const arrival = (): void => {
          forget();
          const nowUs = this.monotonicMs() * 1e3;
          this.offsets.heard(0, offsetUs, nowUs - sent * 1e3, nowUs, (wall - sent) * 1e3);
          resolve(result);
        };
        this.after(this.way, arrival, true);
      };
      this.after(this.way, execution, true);
    });
  }

  /** While `stopped`, timers are late. `true` time passes in any case. */
  async pass(ms: number): Promise<void> {
    const until = this.now + ms;
    for (;;) {
      await settled();
      if (!this.stopped) this.suspensions.look();
      const first = this.stopped
        ? undefined
        : this.timers.filter(({ at }) => at <= until).sort((a, b) => a.at - b.at)[0];
      if (first === undefined) break;
      this.timers = this.timers.filter((timer) => timer !== first);
      this.now = Math.max(this.now, first.at);
      first.run();
    }
    this.now = until;
    await settled();
  }

  /** Another operation of the client: its reply tells of the replicas' clocks. */
  async call(): Promise<void> {
    void this.answer(() => undefined);
    await this.pass(2 * this.way + NEAR);
  }

  /** The monotonic clock and the timers stand still; the network does not. */
  suspend(ms: number): void {
    this.now += ms;
    this.asleep += ms;
    for (const timer of this.timers) if (!timer.isNetwork) timer.at += ms;
  }

  async lease(keeper: LeaseKeeper, ttl: number, margin?: number): Promise<Lease> {
    const granted = keeper.grant({ ttl, margin }, {});
    granted.catch(() => undefined);
    await this.pass(10);
    return granted;
  }
}

async function settled(): Promise<void> {
  for (let i = 0; i < 12; i++) await Promise.resolve();
}

t.test('it renews itself, and is held as long as the cluster answers', async (t) => {
  const world = new World();
  const keeper = new LeaseKeeper(world.store, world);
  const lease = await world.lease(keeper, 3000);
  t.equal(lease.margin, 300, 'a tenth');
  await world.pass(60_000);
  t.ok(lease.isHeld());
  t.ok(world.renewals.length > 55 && world.renewals.length < 65, `${world.renewals.length} renewals in a minute`);
  t.ok(lease.end > world.now + 1600 && lease.end <= lease.ends - 300, `${lease.end - world.now}`);
  t.ok(Math.abs(lease.remaining - (lease.end - world.now)) < 10);

  world.answers = false;
  let toldAt = Infinity;
  lease.signal.addEventListener('abort', () => (toldAt = world.now));
  const { ends } = lease;
  await world.pass(5000);
  t.match(lease.signal.reason, { code: 'lease-lost', retryable: true, category: 'environment' });
  t.ok(toldAt <= ends - 300 + NEAR && toldAt > ends - 320, `told ${ends - toldAt} ms before its end`);
  t.throws(() => lease.throwIfLost(), { code: 'lease-lost' });
  world.answers = true;
  await world.pass(5000);
  t.equal(lease.isHeld(), false, 'what is lost stays lost');
});

t.test('a process that was stopped: asked before any timer has run, it knows', async (t) => {
  const world = new World();
  const lease = await world.lease(new LeaseKeeper(world.store, world), 1000);
  world.stopped = true;
  await world.pass(2000);
  t.equal(lease.signal.aborted, false, 'no timer ran');
  t.equal(lease.isHeld(), false);
  t.equal(lease.signal.aborted, true);
  t.equal(lease.remaining, 0);
});

t.test("the host's clock is set", async (t) => {
  // Back: what was heard before is corrected, whether the keeper is idle, new, or holds leases.
  for (const [name, idleMs, backMs, ttl] of [
    ['before the first lease', undefined, 1_000, 2_000],
    ['idle for an hour', 3_600_000, 3_000, 10_000],
    ['idle for ten minutes', 600_000, 500, 2_000],
    ['idle for a second', 1_000, 3_600_000, 9_000],
  ] as const) {
    const world = new World();
    let keeper: LeaseKeeper | undefined;
    if (idleMs !== undefined) {
      keeper = new LeaseKeeper(world.store, world);
      await world.pass(idleMs);
    }
    // Replies from right before.
    await world.call();
    world.wallOff = -backMs;
    keeper ??= new LeaseKeeper(world.store, world);
    const lease = await world.lease(keeper, ttl).catch((error: unknown) => error);
    if (!(lease instanceof Lease)) {
      t.match(lease, { code: 'lease-lost' }, `${name}: refused`);
      continue;
    }
    const granted = world.ends.get(lease.number)!.ends;
    world.answers = false;
    let last = world.now;
    while (lease.isHeld()) {
      last = world.now;
      await world.pass(1);
    }
    t.ok(last < granted, `${name}: held until ${granted - last} ms before its end`);
  }

  const world = new World();
  const lease = await world.lease(new LeaseKeeper(world.store, world), 9000);
  world.wallOff = -3_600_000;
  world.correction = 3_600_000;
  await world.pass(30_000);
  t.ok(lease.isHeld(), 'renewals go on by the new clock');

  const forward = new World();
  const other = await forward.lease(new LeaseKeeper(forward.store, forward), 9000);
  forward.wallOff = 3_600_000;
  t.equal(other.isHeld(), false, 'forward, as after the host was suspended: lost');
  t.match(other.signal.reason, { message: /clock/ });
});

t.test('the host is suspended', async (t) => {
  for (const countsFromStart of [false, true]) {
    const world = new World();
    world.countsFromStart = countsFromStart;
    const lease = await world.lease(new LeaseKeeper(world.store, world), 60_000);
    await world.pass(21_000);
    world.suspend(600_000);
    const woke = world.now;
    let toldAt = Infinity;
    lease.signal.addEventListener('abort', () => (toldAt = world.now));
    await world.pass(60_000);
    t.ok(toldAt - woke <= 1_000 + NEAR, `told ${toldAt - woke} ms after it goes on`);

    const asked = new World();
    asked.countsFromStart = countsFromStart;
    const at = await asked.lease(new LeaseKeeper(asked.store, asked), 60_000);
    asked.suspend(600_000);
    t.equal(at.isHeld(), false, 'at once when asked');

    const short = new World();
    short.countsFromStart = countsFromStart;
    const granted = new LeaseKeeper(short.store, short).grant({ ttl: 10_000 }, {});
    granted.catch(() => undefined);
    await short.pass(0.3);
    short.suspend(9_000);
    await short.pass(4_000);
    const held = await granted.catch(() => undefined);
    const ends = held === undefined ? Infinity : short.ends.get(held.number)!.ends;
    short.answers = false;
    let last = -Infinity;
    while (held?.isHeld() === true) {
      last = short.now;
      await short.pass(1);
    }
    t.ok(last < ends, `suspended while it was granted: held until ${ends - last} ms before its end`);
  }
});

t.test('what was measured is not replaced by a smaller statement', async (t) => {
  const world = new World();
  world.wallOff = -90;
  world.ahead = 90;
  world.stated = 0.2;
  const lease = await world.lease(new LeaseKeeper(world.store, world), 10_000, 20);
  world.ahead = undefined;
  await world.pass(3500);
  world.answers = false;
  let toldAt = Infinity;
  lease.signal.addEventListener('abort', () => (toldAt = world.now));
  await world.pass(15_000);
  const { ends } = world.ends.get(lease.number)!;
  t.ok(toldAt < ends, `told ${ends - toldAt} ms before its end`);
});

t.test('a host whose clock is behind by more than ttl: stamped as the replies tell', async (t) => {
  const world = new World();
  world.wallOff = -20_000;
  const lease = await world.lease(new LeaseKeeper(world.store, world), 10_000);
  t.ok(lease.isHeld());
  t.equal(world.revocations, 1, 'of the first one');
  const stubborn = new World();
  stubborn.wallOff = -20_000;
  stubborn.correct = () => undefined;
  await t.rejects(stubborn.lease(new LeaseKeeper(stubborn.store, stubborn), 10_000), {
    code: 'lease-lost',
    message: /clock is behind/,
  });
});

t.test('a key that stands for the lease is deleted: lost with the next renewal', async (t) => {
  const world = new World();
  const lease = await world.lease(new LeaseKeeper(world.store, world), 3_000);
  lease.place = { key: new Uint8Array(1), token: 7 };
  await world.pass(5_000);
  t.ok(lease.isHeld());
  world.gone.add(7);
  await world.pass(1_100);
  t.match(lease.signal.reason, { code: 'lease-lost', message: /deleted/ });
  await release(world, lease);
  t.equal(world.ends.size, 0, 'a lost one is revoked when it is released');
});

t.test('a cluster that does not answer: release gives up in time', async (t) => {
  for (const [ttl, atMost] of [
    [60_000, 5_000],
    [2_000, 2_000],
  ] as const) {
    const world = new World();
    const lease = await world.lease(new LeaseKeeper(world.store, world), ttl);
    world.answers = false;
    const before = world.now;
    let releasedAt = Infinity;
    void lease.release().then(() => (releasedAt = world.now));
    await world.pass(70_000);
    t.ok(releasedAt - before <= atMost + NEAR, `${releasedAt - before} ms`);
  }
});

async function release(world: World, lease: Lease): Promise<void> {
  const released = lease.release();
  await world.pass(10);
  await released;
}

t.test("the replicas' clocks are ahead, or nothing is known of them", async (t) => {
  const world = new World();
  world.wallOff = -40;
  world.ahead = 40;
  const lease = await world.lease(new LeaseKeeper(world.store, world), 1000, 0);
  world.answers = false;
  let toldAt = Infinity;
  lease.signal.addEventListener('abort', () => (toldAt = world.now));
  await world.pass(1000);
  t.ok(toldAt < lease.ends && toldAt > lease.ends - 5, `told ${lease.ends - toldAt} ms before its end`);

  const unknown = new World();
  unknown.ahead = undefined;
  const doubtful = new LeaseKeeper(unknown.store, unknown);
  for (const ttl of [1_000, 60_000]) {
    const before = unknown.renewals.length;
    const refused = doubtful.grant({ ttl }, {});
    refused.catch(() => undefined);
    await unknown.pass(5_300);
    await t.rejects(refused, { code: 'lease-lost', message: /not known/ });
    await unknown.pass(10);
    t.equal(unknown.ends.size, 0, 'revoked');
    const renewals = unknown.renewals.length - before;
    t.ok(renewals > 5 && renewals < 40, `${renewals} renewals`);
  }
  const controller = new AbortController();
  const given = doubtful.grant({ ttl: 60_000 }, { signal: controller.signal });
  given.catch(() => undefined);
  await unknown.pass(100);
  controller.abort();
  await unknown.pass(1);
  await t.rejects(given, { code: 'aborted' });
  const timed = doubtful.grant({ ttl: 60_000 }, { timeout: 300 });
  timed.catch(() => undefined);
  await unknown.pass(600);
  await t.rejects(timed, { code: 'lease-lost' });
  await unknown.pass(10);
  t.equal(unknown.ends.size, 0, 'revoked');
  const asked = doubtful.grant({ ttl: 1000 }, {});
  await unknown.pass(100);
  unknown.ahead = 0;
  await unknown.pass(100);
  const judged = await asked;
  unknown.ahead = undefined;
  await unknown.pass(20_000);
  t.ok(judged.isHeld(), 'what was known last holds for a while');
  await unknown.pass(20_000);
  t.notOk(judged.isHeld());

  const late = new World();
  late.way = 600;
  const granted = new LeaseKeeper(late.store, late).grant({ ttl: 1000 }, {});
  granted.catch(() => undefined);
  await late.pass(3000);
  await t.rejects(granted, { code: 'lease-lost', message: /took longer/ });
});

t.test('nothing is known of the clocks, and the renewals that would tell fail: lease-lost', async (t) => {
  for (const [code, seen] of [
    ['outcome-unknown', 'lease-lost'],
    ['cluster-unavailable', 'lease-lost'],
    ['aborted', 'aborted'],
    ['client-closed', 'client-closed'],
  ] as const) {
    const world = new World();
    world.ahead = undefined;
    const renew = (): Promise<never> => Promise.reject(new JitPaxosError(code, 'fails'));
    const keeper = new LeaseKeeper({ ...world.store, renew }, world);
    await t.rejects(world.lease(keeper, 1000), { code: seen }, code);
    await world.pass(10);
    t.equal(world.revocations, 1, code);
  }
});

t.test('a process that is stopped between the reading of two clocks was not suspended', (t) => {
  let now = 1000;
  let asleep = 0;
  /** Before each reading of the monotonic clock. */
  let stopped: number[] = [];
  const clock = {
    monotonicMs: () => (now += stopped.shift() ?? 0),
    dateMs: () => Math.floor(1.7e12 + now + asleep),
  };
  const look = (watch: SuspensionWatch, afterMs: number, ...stops: number[]): number => {
    now += afterMs;
    stopped = stops;
    return watch.look();
  };
  const watch = new SuspensionWatch(clock);
  t.equal(look(watch, 250), -Infinity);
  t.equal(look(watch, 250, 0, 5), -Infinity, 'once');
  t.equal(look(watch, 250), -Infinity);
  t.equal(look(watch, 250, 5, 5, 5, 5, 5), -Infinity, 'each time');
  t.equal(look(watch, 250), -Infinity);
  asleep += 20;
  t.equal(look(watch, 250, 5, 5, 5, 5, 5), -Infinity, 'this look does not tell');
  t.equal(look(watch, 250), now, 'the next one does');
  stopped = [5, 5, 5, 5, 5];
  t.equal(look(new SuspensionWatch(clock), 250), -Infinity, 'from the start');
  t.end();
});

t.test('many leases of one client are renewed in one operation', async (t) => {
  const world = new World();
  const keeper = new LeaseKeeper(world.store, world);
  const grants = Array.from({ length: 500 }, (_, i) => keeper.grant({ ttl: 10_000 + i }, {}));
  await world.pass(10);
  const leases = await Promise.all(grants);
  await world.pass(100_000);
  const total = world.renewals.reduce((sum, count) => sum + count, 0);
  t.ok(leases.every((lease) => lease.isHeld()));
  t.ok(world.renewals.length < 80, `${world.renewals.length} operations for ${total} renewals`);
  const released = leases.map((lease) => lease.release());
  await world.pass(10);
  await Promise.all(released);
  t.equal(world.ends.size, 0);
  const before = world.renewals.length;
  await world.pass(20_000);
  t.equal(world.renewals.length, before, 'nothing is left to renew');
});

t.test('released, revoked by somebody else, and of a closed client', async (t) => {
  const world = new World();
  const keeper = new LeaseKeeper(world.store, world);
  const lease = await world.lease(keeper, 1000);
  const release = lease.release();
  t.equal(lease.isHeld(), false, 'at once');
  t.match(lease.signal.reason, { message: /released/ });
  await world.pass(10);
  await release;
  await lease[Symbol.asyncDispose]();
  t.equal(world.ends.size, 0);

  const revoked = await world.lease(keeper, 1000);
  world.ends.clear();
  await world.pass(400);
  t.match(revoked.signal.reason, { message: /the cluster has ended it/ });

  const closed = await world.lease(keeper, 1000);
  world.close();
  t.match(closed.signal.reason, { message: /its client was closed/ });

  const another = new LeaseKeeper(world.store, world);
  for (const margin of [-1, 500, NaN])
    await t.rejects(another.grant({ ttl: 1000, margin }, {}), { code: 'option-invalid' });
});

t.test('whatever happens, no holder relies on a lease that has ended', async (t) => {
  const seed = Number(process.env['SEED'] ?? Math.floor(Math.random() * 2 ** 31));
  t.comment(`seed ${seed}`);
  const random = randomFrom(seed);
  const between = (low: number, high: number): number => low + (random(1_000_001) / 1_000_000) * (high - low);
  const chance = (share: number): boolean => between(0, 1) < share;
  let held = 0;
  let lost = 0;
  for (let run = 0; run < 300; run++) {
    const world = new World();
    world.wallOff = chance(0.3) ? between(-3000, 300) : 0;
    world.countsFromStart = chance(0.3);
    world.way = between(0.1, 30);
    if (chance(0.3)) world.stated = 0.1;
    const set = (): void => void (world.wallOff += chance(0.7) ? between(-3_000, 0) : between(0, 300));
    let keeper = chance(0.5) ? new LeaseKeeper(world.store, world) : undefined;
    if (chance(0.7)) await world.call();
    if (chance(0.5)) await world.pass(between(0, 4_000));
    if (chance(0.5)) set();
    keeper ??= new LeaseKeeper(world.store, world);
    const ttl = Math.floor(between(200, 8000));
    // Its length is no help, so that the clocks alone have to be right.
    const granted = keeper.grant({ ttl, margin: 1 }, {}).catch(() => undefined);
    await world.pass(between(1, 300));
    world.way = between(0.1, 30);
    await world.pass(6_000);
    const lease = await granted;
    for (let step = 0; step < 40 && lease?.isHeld() === true; step++) {
      if (chance(0.2)) world.answers = !world.answers;
      if (chance(0.1)) set();
      if (chance(0.05)) world.suspend(between(0, lease.ttl));
      world.stopped = chance(0.1);
      await world.pass(between(0, lease.ttl / 3));
      const { ends } = world.ends.get(lease.number)!;
      if (!lease.isHeld()) lost++;
      else if (ends <= world.now) t.fail(`run ${run}: held ${world.now - ends} ms after its end`);
      else held++;
      // One more that is stopped right after it asked has its fencing token.
      world.stopped = false;
    }
  }
  t.ok(held > 1000 && lost > 50, `${held} times held, ${lost} leases lost`);
});
