/** Leases on a virtual clock: when a holder may rely on one, and when it is told that it may not. */
import t from 'tap';
import { LeaseKeeper, type Lease } from '../../src/client/lease.js';
import type { LeaseClock } from '../../src/client/lease-clock.js';
import { JitPaxosError } from '../../src/errors.js';
import { randomFrom } from '../random.js';

/** Rounding of sums of milliseconds since 1970. */
const NEAR = 0.01;

/** A host and a cluster: time passes only with `pass`. */
class World implements LeaseClock {
  /** True time, which the cluster's clock shows, ms. */
  now = 1_700_000_000_000;
  /** The host's clock less true time. */
  wallOff = 0;
  /** What the replies say of the replicas' clocks against the host's at this moment. */
  ahead: number | undefined = 0;
  /** One way, ms. */
  way = 0.2;
  answers = true;
  stopped = false;
  /** By number: the agreed end. */
  readonly ends = new Map<number, { ends: number; ttl: number }>();
  readonly renewals: number[] = [];
  private timers: { at: number; run: () => void }[] = [];
  private next = 1;

  monotonicMs(): number {
    return this.now - 1_699_999_000_000;
  }
  wallMs(): number {
    return this.now + this.wallOff;
  }
  aheadMs(): number | undefined {
    return this.ahead === undefined ? undefined : this.ahead;
  }
  after(ms: number, run: () => void): () => void {
    // Smaller steps are lost beside the milliseconds since 1970.
    const timer = { at: this.now + Math.max(NEAR, ms), run };
    this.timers.push(timer);
    return () => void (this.timers = this.timers.filter((other) => other !== timer));
  }

  whenClosed(run: () => void): void {
    this.close = run;
  }
  close = (): void => undefined;

  readonly store = {
    grant: ({ ttl }: { readonly ttl: number }) =>
      this.answer(() => {
        const number = this.next++;
        this.ends.set(number, { ends: Math.floor(this.now) + ttl, ttl });
        return { number, ends: this.ends.get(number)!.ends };
      }),
    renew: (leases: readonly { readonly number: number }[], options?: { readonly timeout?: number }) =>
      this.answer(() => {
        this.renewals.push(leases.length);
        return leases.map(({ number }) => {
          const lease = this.ends.get(number);
          if (lease === undefined || lease.ends <= this.now) return undefined;
          return (lease.ends = Math.max(lease.ends, Math.floor(this.now) + lease.ttl));
        });
      }, options?.timeout),
    revoke: ({ number }: { readonly number: number }) => this.answer(() => this.ends.delete(number)),
  };

  private answer<T>(execute: () => T, timeout = 1e9): Promise<T> {
    return new Promise((resolve, reject) => {
      this.after(timeout, () => reject(new JitPaxosError('outcome-unknown', 'no answer')));
      this.after(this.way, () => {
        if (!this.answers) return;
        const result = execute();
        this.after(this.way, () => resolve(result));
      });
    });
  }

  /** While `stopped`, timers are late. `true` time passes in any case. */
  async pass(ms: number): Promise<void> {
    const until = this.now + ms;
    for (;;) {
      await settled();
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
  const world = new World();
  const keeper = new LeaseKeeper(world.store, world);
  // Back by an hour. Replies of the last two seconds may still be compared with what it showed before.
  const lease = await world.lease(keeper, 9000);
  world.wallOff = -3_600_000;
  world.ahead = 0;
  await world.pass(5500);
  world.ahead = 3_600_000;
  await world.pass(30_000);
  t.ok(lease.isHeld(), 'renewals go on by the new clock');
  world.answers = false;
  let toldAt = Infinity;
  lease.signal.addEventListener('abort', () => (toldAt = world.now));
  const { ends } = lease;
  await world.pass(10_000);
  t.ok(toldAt < ends, `lost ${ends - toldAt} ms before its end`);

  const stale = new World();
  const short = await stale.lease(new LeaseKeeper(stale.store, stale), 1000);
  stale.wallOff = -3_600_000;
  await stale.pass(3000);
  t.equal(short.isHeld(), false, 'shorter than the replies that cannot be trusted');

  const forward = new World();
  const other = await forward.lease(new LeaseKeeper(forward.store, forward), 9000);
  forward.wallOff = 3_600_000;
  t.equal(other.isHeld(), false, 'forward, as after the host was suspended: lost');
  t.match(other.signal.reason, { message: /clock/ });
});

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
  const refused = doubtful.grant({ ttl: 1000 }, {});
  refused.catch(() => undefined);
  await unknown.pass(600);
  await t.rejects(refused, { code: 'lease-lost', message: /not known/ });
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
  const seed = Math.floor(Math.random() * 2 ** 31);
  t.comment(`seed ${seed}`);
  const random = randomFrom(seed);
  const between = (low: number, high: number): number => low + (random(1_000_001) / 1_000_000) * (high - low);
  const chance = (share: number): boolean => between(0, 1) < share;
  let held = 0;
  let lost = 0;
  for (let run = 0; run < 150; run++) {
    const world = new World();
    world.wallOff = between(-1000, 1000);
    let set = { at: -Infinity, before: 0 };
    // The replies of the last two seconds may have been compared with the clock as it was before it was set.
    world.aheadMs = () => (world.now < set.at + 2000 && chance(0.5) ? -set.before : -world.wallOff) + between(0, 2);
    world.way = between(0.1, 30);
    const keeper = new LeaseKeeper(world.store, world);
    const granted = keeper.grant({ ttl: Math.floor(between(200, 8000)) }, {}).catch(() => undefined);
    await world.pass(100);
    const lease = await granted;
    for (let step = 0; step < 40 && lease?.isHeld() === true; step++) {
      if (chance(0.2)) world.answers = !world.answers;
      if (chance(0.1)) {
        set = { at: world.now, before: world.wallOff };
        world.wallOff += chance(0.7) ? between(-100_000, 0) : between(0, 300);
      }
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
