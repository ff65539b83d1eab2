/**
 * The simulated surroundings one by one: chance, time, clocks, network, outbox, disk, plan. Each test prints its seed.
 */
import t from 'tap';
import { EPOCH_VIEWS } from '../../src/protocol/configuration.js';
import { Instant, type PersistBatch } from '../../src/protocol/contract.js';
import { decodeMembership, encodeMembership, firstMembership } from '../../src/protocol/membership/membership.js';
import { NEVER_SET, SimulatedClock } from '../../src/sim/clock.js';
import { SimulatedDisk, type DiskConditions } from '../../src/sim/disk.js';
import { EventQueue } from '../../src/sim/event-queue.js';
import { describePlan, drawPlan, FAULT_NAMES } from '../../src/sim/faults.js';
import { SimulationHasher } from '../../src/sim/hash.js';
import { Cut, DELAY_MODELS, Network, type Datagram, type NetworkConditions } from '../../src/sim/network.js';
import { SimulatedOutbox } from '../../src/sim/outbox.js';
import { Random } from '../../src/sim/random.js';
import { WireEnd } from '../../src/sim/wire-end.js';
import { DEFAULT_DATAGRAM_BYTES, ENVELOPE_BYTES, Envelope } from '../../src/wire/envelope.js';
import { begin, type Message } from '../../src/wire/layout.js';
import { Chunk, Probe, Sync, SyncAck, ViewChange, validate } from '../../src/wire/messages.js';
import { WIRE_VERSION } from '../../src/wire/versions.js';
import { differenceU64, writeI32, writeU16 } from '../../src/wire/u64.js';

const SEED = Number(process.env['SEED'] ?? 20261123);
t.comment(`seed ${SEED}; SEED=n runs another`);

const CALM: NetworkConditions = {
  delay: 'constant',
  delayUs: 100,
  spread: 0,
  loss: 0,
  duplicate: 0,
  corrupt: 0,
  reorder: 0,
  reorderUs: 0,
};
const hasher = new SimulationHasher();
const CLUSTER = { idHi: 1, idLo: 2, replicas: 3, endpoints: 5 };

t.test('chance: the same seed, the same draws; forks are independent of each other and of their labels', (t) => {
  const draws = (random: Random): number[] => Array.from({ length: 20 }, () => random.next());
  t.same(draws(new Random(SEED)), draws(new Random(SEED)));
  t.notSame(draws(new Random(SEED)), draws(new Random(SEED + 1)));
  t.notSame(draws(new Random(1)), draws(new Random(1 + 2 ** 32)), 'the upper half of a seed counts');
  t.notSame(draws(new Random(SEED).fork('a')), draws(new Random(SEED).fork('b')));
  const parent = new Random(SEED);
  const child = parent.fork('child');
  const before = new Random(SEED);
  before.fork('child');
  draws(child);
  t.same(draws(parent), draws(before), 'what a fork draws does not move its parent');
  t.end();
});

t.test('chance: distributions have the stated centre', (t) => {
  const random = new Random(SEED);
  const sample = (draw: () => number): number[] => Array.from({ length: 20_000 }, draw).sort((a, b) => a - b);
  const mean = (values: readonly number[]): number => values.reduce((a, b) => a + b, 0) / values.length;
  t.ok(Math.abs(mean(sample(() => random.unit())) - 0.5) < 0.02);
  t.ok(Math.abs(mean(sample(() => random.exponential(100))) - 100) < 5);
  t.ok(Math.abs(sample(() => random.logNormal(100, 0.5))[10_000]! - 100) < 5);
  t.equal(sample(() => random.pareto(7, 2))[0]! >= 7, true);
  t.same(new Set(sample(() => random.between(3, 5))), new Set([3, 4, 5]));
  t.equal(sample(() => (random.chance(0) ? 1 : 0)).at(-1), 0);
  t.equal(sample(() => (random.chance(1) ? 1 : 0))[0], 1);
  t.end();
});

t.test('events run in the order of time, those of one time in the order they were scheduled', (t) => {
  const random = new Random(SEED);
  const queue = new EventQueue();
  const seen: { timeUs: number; id: number }[] = [];
  const handler = {
    handle: (_kind: number, id: unknown): void => void seen.push({ timeUs: queue.nowUs, id: id as number }),
  };
  const expected = Array.from({ length: 2000 }, (_, id) => ({ timeUs: random.below(100), id }));
  for (const { timeUs, id } of expected) queue.schedule(timeUs, handler, 0, id);
  expected.sort((a, b) => a.timeUs - b.timeUs || a.id - b.id);
  while (queue.step(50));
  t.same(
    seen,
    expected.filter(({ timeUs }) => timeUs <= 50),
  );
  t.equal(queue.nowUs, 50, 'time moves on when nothing happens');
  while (queue.step(200));
  t.same(seen, expected);
  t.equal(queue.size, 0);
  queue.schedule(10, handler, 0, -1);
  queue.step(300);
  t.same(seen.at(-1), { timeUs: 200, id: -1 }, 'what is scheduled for the past happens now');
  t.end();
});

t.test(
  'clocks: the monotonic one always advances; the wall clock is off, drifts, jumps and stands still as told',
  (t) => {
    const clock = new SimulatedClock(5000.25, 40);
    const a = new Instant();
    const b = new Instant();
    const advanced = (fromUs: number, toUs: number): number => {
      clock.read(fromUs, a);
      clock.read(toUs, b);
      return differenceU64(b.wallHi, b.wallLo, a.wallHi, a.wallLo);
    };
    t.equal(advanced(0, 1000), 1_000_000);
    clock.set(-5_000_000, 100);
    t.equal(advanced(0, 1_000_000), 1_000_100_000, '100 ppm of a second');
    clock.read(10, a);
    clock.step(-3000);
    clock.read(10, b);
    t.equal(differenceU64(b.wallHi, b.wallLo, a.wallHi, a.wallLo), -3000);
    clock.freeze(2000);
    t.equal(advanced(2000, 900_000), 0);
    t.ok(b.monotonicUs > a.monotonicUs, 'the monotonic clock does not freeze');
    clock.thaw();
    t.ok(advanced(2000, 3000) > 0);
    for (const wanted of [5000.25, 5001, 123_456.7, 1e9]) {
      const trueUs = clock.trueUs(wanted);
      t.ok(
        clock.monotonicUs(trueUs) >= wanted && clock.monotonicUs(trueUs - 1) < wanted,
        `trueUs(${wanted}) is the earliest`,
      );
    }
    t.equal(clock.trueUs(Infinity), Infinity);
    t.end();
  },
);

t.test('clocks: a wrong date is exact, goes beside all else, and is set right', (t) => {
  const clock = new SimulatedClock(0, 0);
  const right = new Instant();
  const wrong = new Instant();
  clock.set(12_345, 0);
  clock.read(777, right);
  const ahead = (seconds: number): number => {
    clock.setDate(seconds);
    clock.read(777, wrong);
    return ((wrong.wallHi - right.wallHi) * 2 ** 32) / 1e9;
  };
  for (const seconds of [60, 3600, 365 * 86_400, -3600]) {
    t.ok(Math.abs(ahead(seconds) - seconds) < 3, `${seconds} s`);
    t.equal(wrong.wallLo, right.wallLo);
  }
  ahead(NEVER_SET);
  t.ok(wrong.wallHi * (2 ** 32 / 1e9) < 86_400, 'the first day of 1970');
  t.equal(ahead(0), 0);
  t.end();
});

interface Lab {
  readonly queue: EventQueue;
  readonly network: Network;
  readonly arrived: { from: number; to: number; atUs: number; bytes: Uint8Array }[];
}

function lab(conditions: Partial<NetworkConditions>, random = new Random(SEED)): Lab {
  const queue = new EventQueue();
  const arrived: Lab['arrived'] = [];
  const network: Network = new Network(queue, random, 4, { ...CALM, ...conditions }, (datagram: Datagram) => {
    arrived.push({
      from: datagram.from,
      to: datagram.to,
      atUs: queue.nowUs,
      bytes: datagram.bytes.slice(0, datagram.length),
    });
    network.release(datagram);
  });
  return { queue, network, arrived };
}

function run({ queue }: Lab): void {
  const until = queue.nowUs + 10_000_000;
  while (queue.step(until));
}

t.test(
  'network: everything arrives once, unchanged, when nothing is wrong; buffers are spoiled behind the receiver',
  (t) => {
    const queue = new EventQueue();
    const kept: Datagram[] = [];
    const network: Network = new Network(queue, new Random(SEED), 2, CALM, (datagram) => kept.push(datagram));
    const bytes = Uint8Array.from({ length: 300 }, (_, i) => i & 0xff);
    network.send(0, 1, bytes, 300);
    network.send(0, 1, new Uint8Array(5000).fill(7), 5000);
    while (queue.step(1000));
    t.same(kept[0]!.bytes.subarray(0, 300), bytes);
    t.equal(kept[1]!.length, 5000);
    network.release(kept[0]!);
    t.same(new Set(kept[0]!.bytes.subarray(0, 300)), new Set([0xa5]));
    t.end();
  },
);

t.test(
  'network: a hold takes the datagrams of one link with a message of its types, keeps or loses them, and lets them go in their order',
  (t) => {
    const made = lab({});
    const { network, arrived } = made;
    const datagram = (number: number, ...messages: Message<any>[]): Uint8Array => {
      const bytes = new Uint8Array(ENVELOPE_BYTES + messages.reduce((sum, { size }) => sum + size, 0));
      bytes[0] = number;
      bytes[5] = WIRE_VERSION; // what writtenVersion reads
      let at = ENVELOPE_BYTES;
      for (const message of messages) {
        bytes.set(message.template, at);
        at += message.size;
      }
      return bytes;
    };
    const send = (from: number, to: number, bytes: Uint8Array): void => network.send(from, to, bytes, bytes.length);
    const numbers = (): number[] => {
      run(made);
      return arrived.splice(0).map(({ bytes }) => bytes[0]!);
    };
    const kept = network.hold(0, 1, new Set([Sync.type]), 'keep');
    const lost = network.hold(1, 0, new Set([SyncAck.type, Probe.type]), 'lose');
    for (let i = 1; i <= 3; i++) send(0, 1, datagram(i, Probe, Sync));
    send(0, 1, datagram(4, Probe));
    send(0, 2, datagram(5, Sync));
    send(1, 0, datagram(6, SyncAck));
    send(1, 0, datagram(7, Sync));
    t.same(numbers(), [4, 5, 7]);
    t.equal(network.counts.held, 4);
    network.deliverHeld(kept, 1);
    t.same(numbers(), [1]);
    send(0, 1, datagram(8, Sync));
    network.letGo(kept);
    t.same(numbers(), [2, 3, 8]);
    send(0, 1, datagram(9, Sync));
    network.letGo(kept);
    network.letGo(lost);
    t.same(numbers(), [9], 'what was lost is lost');
    const copied = network.hold(0, 1, new Set([Sync.type]), 'copy');
    for (let i = 20; i <= 22; i++) send(0, 1, datagram(i, Sync));
    t.same(numbers(), [20, 21, 22]);
    network.deliverHeld(copied, 2);
    t.same(numbers(), [20, 21], 'copies come when they are let go');
    network.discardHeld(copied);
    network.letGo(copied);
    t.same(numbers(), []);
    const forgotten = network.hold(0, 1, new Set([Sync.type]), 'keep');
    send(0, 1, datagram(10, Sync));
    network.heal();
    network.letGo(forgotten);
    send(0, 1, datagram(11, Sync));
    t.same(numbers(), [11]);
    t.end();
  },
);

t.test('network: loss, repetition, overtaking and slowness happen as often as they should', (t) => {
  const many = (conditions: Partial<NetworkConditions>): Lab => {
    const made = lab(conditions);
    for (let i = 0; i < 5000; i++) made.network.send(0, 1, Uint8Array.of(i >> 8, i), 2);
    run(made);
    return made;
  };
  t.equal(many({}).arrived.length, 5000);
  t.equal(many({ loss: 1 }).arrived.length, 0);
  t.ok(Math.abs(many({ loss: 0.2 }).arrived.length - 4000) < 150);
  t.equal(many({ duplicate: 1 }).arrived.length, 10_000);
  const order = ({ arrived }: Lab): number[] => arrived.map(({ bytes }) => (bytes[0]! << 8) | bytes[1]!);
  t.same(
    order(many({})),
    Array.from({ length: 5000 }, (_, i) => i),
    'a constant delay keeps the order',
  );
  t.notSame(
    order(many({ reorder: 0.1, reorderUs: 1000 })),
    Array.from({ length: 5000 }, (_, i) => i),
  );
  for (const delay of DELAY_MODELS) {
    const times = many({ delay, delayUs: 200, spread: 0.5 }).arrived.map(({ atUs }) => atUs);
    const median = times.sort((a, b) => a - b)[2500]!;
    t.ok(Math.abs(median - 200) < 20, `${delay}: the median delay is ${median}`);
  }
  t.end();
});

t.test('network: links are cut and slowed in one direction', (t) => {
  const made = lab({});
  made.network.setBlocked(0, 1, true);
  made.network.setLinkFactor(2, 3, 50);
  for (const [from, to] of [
    [0, 1],
    [1, 0],
    [2, 3],
    [3, 2],
  ] as const)
    made.network.send(from, to, Uint8Array.of(1), 1);
  run(made);
  t.same(
    made.arrived.map(({ from, to, atUs }) => [from, to, atUs]),
    [
      [1, 0, 100],
      [3, 2, 100],
      [2, 3, 5000],
    ],
  );
  t.equal(made.network.counts.blocked, 1);
  made.network.heal();
  made.network.send(0, 1, Uint8Array.of(1), 1);
  run(made);
  t.equal(made.arrived.length, 4);
  t.end();
});

t.test(
  'network: a long way takes longer, a path carries datagrams up to its length, what is sent to an old address is lost',
  (t) => {
    const made = lab({});
    made.network.setDistance(0, 1, 20_000);
    made.network.setLongest(2, 3, 100);
    made.network.send(0, 1, Uint8Array.of(1), 1);
    made.network.send(1, 0, Uint8Array.of(2), 1, 700);
    made.network.send(2, 3, new Uint8Array(100).fill(3), 100);
    made.network.send(2, 3, new Uint8Array(101).fill(4), 101);
    made.network.send(3, 2, new Uint8Array(101).fill(5), 101);
    run(made);
    const far = made.arrived.pop()!;
    t.ok(far.bytes[0] === 1 && far.atUs >= 20_100 && far.atUs <= 20_500, `the long way took ${far.atUs}`);
    t.same(
      made.arrived.splice(0).map(({ bytes, atUs }) => [bytes[0], atUs]),
      [
        [3, 100],
        [5, 100],
        [2, 800],
      ],
    );
    t.equal(made.network.counts.tooLong, 1);

    made.network.send(0, 3, Uint8Array.of(6), 1);
    made.network.move(3);
    made.network.send(3, 0, Uint8Array.of(7), 1);
    run(made);
    t.equal(made.network.counts.astray, 1, 'what was under way is lost');
    const [{ from, bytes }] = made.arrived.splice(0) as [Lab['arrived'][0]];
    t.same([bytes[0], made.network.endpointOf(from)], [7, 3]);
    t.not(from, 3, 'it comes from another address');
    made.network.send(0, 3, Uint8Array.of(8), 1);
    made.network.send(0, from, Uint8Array.of(9), 1);
    run(made);
    t.same(
      made.arrived.map(({ bytes }) => bytes[0]),
      [9],
      "only the new address is anybody's",
    );
    t.end();
  },
);

t.test('network: each cause of a cut is mended by itself', (t) => {
  const made = lab({});
  made.network.setBlocked(0, 1, true, Cut.oneWay);
  made.network.setBlocked(0, 1, true, Cut.partition);
  made.network.setBlocked(0, 1, false, Cut.partition);
  made.network.send(0, 1, Uint8Array.of(1), 1);
  made.network.setBlocked(0, 1, false, Cut.oneWay);
  made.network.send(0, 1, Uint8Array.of(2), 1);
  run(made);
  t.same(
    made.arrived.map(({ bytes }) => bytes[0]),
    [2],
  );
  t.end();
});

t.test('outbox and envelope: messages share datagrams that fit, and not one damaged datagram is opened', (t) => {
  for (const corrupt of [0, 1]) {
    const made = lab({ corrupt });
    const envelope = new Envelope(hasher, 1, 2, 0, 3);
    const outbox = new SimulatedOutbox(0, new WireEnd(0, hasher, CLUSTER, undefined), made.network, () => {});
    for (let round = 0; round < 300; round++) {
      for (let i = 0; i < 120; i++) {
        const at = outbox.reserve(1, ViewChange.size);
        begin(ViewChange, outbox.bytes, at);
        writeI32(outbox.bytes, at + ViewChange.at.view, round * 1000 + i);
        outbox.commit(ViewChange.size);
      }
      const large = outbox.reserve(1, Chunk.size + 3000);
      begin(Chunk, outbox.bytes, large);
      writeU16(outbox.bytes, large + Chunk.size - 2, 3000);
      outbox.commit(Chunk.size + 3000);
      outbox.flush();
    }
    run(made);
    let messages = 0;
    let opened = 0;
    for (const { bytes } of made.arrived) {
      const sender = envelope.open(bytes, 0, bytes.length);
      if (sender < 0) continue;
      opened++;
      for (let offset = ENVELOPE_BYTES; offset < bytes.length; messages++) {
        const size = validate(bytes, offset, bytes.length);
        if (size <= 0) t.fail(`a sealed datagram holds a malformed message: ${size}`);
        if (size <= 0) break;
        offset += size;
      }
      if (bytes.length > DEFAULT_DATAGRAM_BYTES && bytes.length !== ENVELOPE_BYTES + Chunk.size + 3000)
        t.fail(`a datagram of ${bytes.length} bytes that is no long message alone`);
    }
    if (corrupt === 0) t.equal(messages, 300 * 121);
    else
      t.ok(
        opened < made.arrived.length / 100,
        `${opened} of ${made.arrived.length} datagrams opened: those in which a byte was overwritten by itself`,
      );
  }
  t.end();
});

t.test('outbox: a process that dies while it sends loses the rest; a full one refuses', (t) => {
  const made = lab({});
  const outbox = new SimulatedOutbox(0, new WireEnd(3, hasher, CLUSTER, undefined), made.network, () => {});
  const say = (): void => {
    for (const to of [1, 2, 3]) {
      outbox.reserve(to, 10);
      outbox.commit(10);
    }
  };
  say();
  outbox.flush(1);
  say();
  outbox.flush();
  run(made);
  t.equal(made.arrived.length, 4);
  outbox.isFull = () => true;
  t.equal(outbox.reserve(1, 10), -1);
  t.equal(outbox.reserve(1, 60_000), -1, 'longer than a datagram');
  t.end();
});

/** A batch as a core would hand it over: entries are numbered bytes. */
function batch(view: number, entriesFrom: number, lastIndex: number, mark: number, snapshotIndex = 0): PersistBatch {
  return {
    hardState: { view, logView: view, incarnation: 1 },
    committed: 0,
    entriesFrom,
    lastIndex,
    snapshot:
      snapshotIndex === 0
        ? undefined
        : { index: snapshotIndex, chainHi: 0, chainLo: 0, bytes: Uint8Array.of(snapshotIndex) },
    readEntry: (index, target, offset) => {
      target.fill(0, offset, offset + 30);
      target[offset] = index;
      target[offset + 1] = mark;
      return 30;
    },
    entryBytes: () => 30,
  };
}

function disk(
  conditions: DiskConditions,
  seed: number,
  known = 0,
): { queue: EventQueue; made: SimulatedDisk; persisted: number[] } {
  const queue = new EventQueue();
  const made = new SimulatedDisk(queue, new Random(seed), hasher, conditions, 'replica 0', new Random(seed + 1), known);
  const persisted: number[] = [];
  made.onPersisted = (token) => persisted.push(token);
  return { queue, made, persisted };
}

t.test('disk: without latency done within the call; with it later, in order', (t) => {
  const now = disk({ keepsLog: false, latencyUs: 0, hiccup: 0 }, SEED);
  now.made.persist(1, batch(1, 1, 0, 0));
  t.same(now.persisted, [1]);
  const later = disk({ keepsLog: true, latencyUs: 100, hiccup: 0.5 }, SEED);
  for (let token = 1; token <= 20; token++) later.made.persist(token, batch(token, token, token, 0));
  t.same(later.persisted, []);
  while (later.queue.step(1e9));
  t.same(
    later.persisted,
    Array.from({ length: 20 }, (_, i) => i + 1),
  );
  t.same(
    [...later.made.recover().log!.entries].map((entry) => entry[0]),
    Array.from({ length: 20 }, (_, i) => i + 1),
  );
  t.end();
});

t.test(
  'disk: a crash at any moment leaves the state of one batch, not before the last acknowledged one, log and hard state together',
  (t) => {
    let torn = 0;
    let beyond = 0;
    for (let seed = SEED; seed < SEED + 400; seed++) {
      const { queue, made, persisted } = disk({ keepsLog: true, latencyUs: 50, hiccup: 0 }, seed);
      // Batch k has view k and the entries 1…k, the last of them its own; every third rewrites the last two.
      for (let k = 1; k <= 12; k++) made.persist(k, batch(k, k % 3 === 0 ? k - 1 : k, k, k));
      while (queue.step(new Random(seed).below(700)));
      if (new Random(seed).chance(0.3)) made.rot();
      const acknowledged = persisted.at(-1) ?? 0;
      made.crash('kept');
      torn += made.counts.torn;
      const { hardState, log } = made.recover();
      const view = hardState?.view ?? 0;
      if (view < acknowledged) t.fail(`seed ${seed}: batch ${acknowledged} was acknowledged, ${view} came back`);
      if (view > acknowledged) beyond++;
      const entries = [...(log?.entries ?? [])];
      if (entries.length !== view) t.fail(`seed ${seed}: hard state of batch ${view} with ${entries.length} entries`);
      for (const entry of entries) {
        const index = entry[0]!;
        const writer = index % 3 === 2 && index < view ? index + 1 : index;
        if (entry[1] !== writer) t.fail(`seed ${seed}: entry ${index} is that of batch ${entry[1]}, not of ${writer}`);
      }
      const before = persisted.length;
      while (queue.step(1e9));
      if (persisted.length !== before) t.fail(`seed ${seed}: a batch of the dead process was reported`);
    }
    t.ok(torn > 50, `${torn} batches were torn`);
    t.ok(beyond > 50, `${beyond} times more than what was acknowledged came back`);
    t.end();
  },
);

/** The members once epoch `epoch` began. */
function membersOf(epoch: number): Uint8Array {
  const { hosts, ...first } = firstMembership(3);
  const named = hosts.map((host) => ({ ...host, identityHi: 1, identityLo: 1, address: `h${host.id}:1` }));
  return encodeMembership({ ...first, index: 10 * epoch, started: epoch, decided: epoch, hosts: named });
}

t.test('disk: members that nothing waits for may be lost beside a newer log, never beside a promise of theirs', (t) => {
  const seen = { kept: 0, lost: 0, unknown: 0, beyond: 0 };
  for (let seed = SEED; seed < SEED + 400; seed++) {
    const random = new Random(seed);
    const { queue, made, persisted } = disk({ keepsLog: true, latencyUs: random.pick([0, 50]), hiccup: 0 }, seed, 3);
    let [token, view, epoch, index] = [0, 0, 0, 0];
    const promised: { readonly token: number; readonly view: number }[] = [];
    const persist = (isQuiet: boolean): void => {
      if (!isQuiet) {
        token++;
        index++;
      }
      const made1 = batch(view, isQuiet ? index + 1 : index, index, 1);
      const about = { known: [1, 1, epoch], lives: [1, 1, 1], ...(epoch > 0 ? { members: membersOf(epoch) } : {}) };
      made.persist(token, { ...made1, hardState: { ...made1.hardState, ...about } });
    };
    persist(false);
    for (let step = 0; step < 12; step++) {
      const kind = random.pick(['members', 'promise', 'both', 'entry'] as const);
      if (kind === 'members' || kind === 'both') epoch++;
      if (kind === 'promise' || kind === 'both') view = Math.max(view + 1, epoch * EPOCH_VIEWS);
      persist(kind === 'members');
      promised.push({ token, view });
      while (queue.step(queue.nowUs + random.below(200)));
    }
    const acknowledged = persisted.at(-1) ?? 0;
    made.crash('kept');
    const { hardState, log } = made.recover();
    const members = hardState?.members;
    const found = members === undefined ? 0 : decodeMembership(members, 0, members.length)!.started;
    const least = Math.max(0, ...promised.filter((one) => one.token <= acknowledged).map((one) => one.view));
    if ((hardState?.view ?? 0) < least)
      t.fail(`seed ${seed}: view ${least} was promised, ${hardState?.view} came back`);
    if (Math.floor((hardState?.view ?? 0) / EPOCH_VIEWS) > found)
      t.fail(`seed ${seed}: view ${hardState?.view} beside the members of epoch ${found}`);
    if (hardState?.known !== undefined && hardState.known[2] !== found)
      t.fail(`seed ${seed}: incarnations of epoch ${hardState.known[2]} beside the members of epoch ${found}`);
    seen[found === epoch ? 'kept' : 'lost']++;
    if (hardState?.known === undefined) seen.unknown++;
    if (found < epoch && [...(log?.entries ?? [])].length === index) seen.beyond++;
  }
  t.comment(JSON.stringify(seen));
  for (const [what, times] of Object.entries(seen)) t.ok(times > 10, `${what}: ${times} times`);
  t.end();
});

t.test('disk: a promise of an epoch that the members on the disk do not decide is a violation', (t) => {
  const { made } = disk({ keepsLog: true, latencyUs: 0, hiccup: 0 }, SEED);
  const promise = batch(EPOCH_VIEWS, 1, 1, 1);
  t.throws(() => made.persist(1, promise), /members-first/);
  const other = disk({ keepsLog: false, latencyUs: 0, hiccup: 0 }, SEED).made;
  other.persist(1, { ...promise, hardState: { ...promise.hardState, members: membersOf(1) } });
  t.equal(other.recover().hardState!.view, EPOCH_VIEWS);
  other['members'] = undefined;
  t.throws(() => other.recover(), /members-first/);
  t.end();
});

t.test('disk: a lost log stays lost until something is written; snapshots replace what they cover', (t) => {
  const { made } = disk({ keepsLog: true, latencyUs: 0, hiccup: 0 }, SEED);
  made.persist(1, batch(1, 1, 5, 1));
  made.persist(2, batch(1, 6, 8, 2, 6));
  const { log } = made.recover();
  t.equal(log!.snapshot!.index, 6);
  t.same(
    [...log!.entries].map((entry) => entry[0]),
    [7, 8],
  );
  made.persist(3, batch(1, 8, 7, 3));
  t.same(
    [...made.recover().log!.entries].map((entry) => entry[0]),
    [7],
    'a cut is stored',
  );
  made.crash('lost');
  t.equal(made.recover().log, undefined);
  t.equal(made.recover().log, undefined, 'and again');
  t.same(made.recover().hardState, { view: 1, logView: 1, incarnation: 1 });
  t.end();
});

t.test('disk: hard state that goes back, or a gap in the log, is a violation', (t) => {
  const { made } = disk({ keepsLog: true, latencyUs: 0, hiccup: 0 }, SEED);
  made.persist(1, batch(5, 1, 3, 1));
  t.throws(() => made.persist(2, batch(4, 4, 3, 1)), /promise-kept/);
  t.throws(() => made.persist(3, batch(5, 6, 7, 1)), /core-exception/);
  t.end();
});

t.test('plans: about half of the runs have clients with a lead, each within its bounds', (t) => {
  let used = 0;
  for (let seed = SEED; seed < SEED + 200; seed++) {
    const { leads, workload } = drawPlan(new Random(seed), new Set(FAULT_NAMES));
    t.equal(leads.length, workload.clients);
    if (leads.some(({ maxLeadNs }) => maxLeadNs > 0)) used++;
    for (const { leadNs, maxLeadNs } of leads)
      if (maxLeadNs === 0 ? leadNs !== 0 : leadNs >= maxLeadNs || maxLeadNs < 50_000 || maxLeadNs > 2_000_000)
        t.fail(`lead ${leadNs} up to ${maxLeadNs} in seed ${seed}`);
  }
  t.ok(used > 60 && used < 140, `${used} of 200`);
  t.end();
});

t.test('plans: leaving a fault out leaves everything else as it was', (t) => {
  const all = new Set(FAULT_NAMES);
  for (let seed = SEED; seed < SEED + 50; seed++) {
    const plan = drawPlan(new Random(seed), all);
    t.same(describePlan(drawPlan(new Random(seed), all)), describePlan(plan));
    const without = drawPlan(new Random(seed), new Set(FAULT_NAMES.filter((name) => name !== 'loss')));
    t.same(without.workload, plan.workload);
    t.same(
      [...without.faults],
      [...plan.faults].filter(([name]) => name !== 'loss'),
    );
    t.equal(without.network.loss, 0);
    t.equal(drawPlan(new Random(seed), new Set()).faults.size, 0);
  }
  t.end();
});
