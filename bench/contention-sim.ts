/**
 * Contention in virtual time: the shipped cores, several clients in an open loop, a network with log-normal delays, and
 * hosts that take a fixed time for a message. The result does not depend on the host: a seed gives the same table
 * everywhere. Four settings: the protocol as published, with the clients' adaptive lead, with order push and
 * restamping, with all of these.
 *
 * A host takes the waiting messages as one turn, `--cost` for each, and what it writes leaves at the end of the turn,
 * one datagram per destination. Clients take no time: they stand for many hosts. Latency counts from the arrival of an
 * operation, whether or not a lane was free.
 *
 *   npm run bench:contention-sim -- [--clients 8] [--rates 1000,10000,…] [--ms 200] [--json]
 */
import { EventQueue, type EventHandler } from '../src/sim/event-queue.js';
import { Random } from '../src/sim/random.js';
import { EchoMachine } from '../src/machine/echo.js';
import { Histogram } from '../src/metrics/histogram.js';
import { loadHash } from '../src/native/hash64.js';
import { ClientCore } from '../src/protocol/client/client-core.js';
import { DEFAULT_CLIENT_TIMINGS, DEFAULT_LIMITS, DEFAULT_TIMINGS } from '../src/protocol/config.js';
import { Instant, Outcome, type Outbox, type PersistBatch, type Storage } from '../src/protocol/contract.js';
import { ClientCounter } from '../src/protocol/counters.js';
import { ReplicaCore } from '../src/protocol/replica/replica-core.js';
import { ReplyStatus, validate } from '../src/wire/messages.js';
import { addHi, addLo } from '../src/wire/u64.js';
import { CliError } from '../src/console/exit.js';
import { CONTENTION_NAMES, CONTENTION_SETTINGS, shares, type ContentionSetting } from './contention-settings.js';
import { CLOCKS, clockError, type ClockError, type Clocks } from './contention-clocks.js';
import { namesOf, numbersOf, program } from './program.js';

const LANES = 256;
const OPERATION_BYTES = 64;
/** Operations that wait for a lane at a client; further ones are dropped and counted. */
const BACKLOG_MAX = 1 << 14;
const NS = 1000;
/** Wall time at the start, ns: upper half. */
const EPOCH_HI = 0x18a9_5c00;
/** And above it, so that a clock that is behind does not run below. */
const EPOCH_NS = 1e9;

interface Conditions {
  readonly replicas: number;
  readonly clients: number;
  /** Operations a second for all clients together. */
  readonly rate: number;
  /** 0: equal shares; s: client k has a share proportional to 1 / (k + 1)^s. */
  readonly skew: number;
  readonly delayNs: number;
  readonly sigma: number;
  readonly costNs: number;
  readonly ms: number;
  readonly seed: number;
  /** In mid-run a member begins to take this many times as long for a message; 1: none does. */
  readonly slow: number;
  readonly clocks: Clocks;
  /** Least lead of all clients, whatever the setting. */
  readonly leadNs: number;
  /** Operations a second in a burst after the measurement, followed by half of `rate`; 0: no burst. */
  readonly burst: number;
  /** In mid-run one request is misordered: one member receives it this long after the others, ns; 0: none is. */
  readonly misorderNs: number;
}

interface Row {
  /**
   * With `burst`: share of commits in one round trip during it, and time from its end until this share is 95 % and stays
   * so for 5 ms, ms; null: it did not.
   */
  readonly burstOneRoundTrip?: number;
  readonly recoveredMs?: number | null;
  /** With `misorder`: commits that took longer than one round trip in the 5 ms before and the 5 ms behind it, and for how long. */
  readonly slowBefore?: number;
  readonly slowBehind?: number;
  readonly slowForUs?: number;
  /**
   * With `slow`: time from the slowdown of a member to a view without it, ms; null: there was none. And p50 before, and
   * after that.
   */
  readonly withoutSlowMs?: number | null;
  readonly p50BeforeUs?: number;
  readonly p50AfterUs?: number;
  readonly setting: string;
  readonly clients: number;
  readonly rate: number;
  readonly committedShare: number;
  readonly throughput: number;
  readonly oneRoundTrip: number;
  readonly moreThanOneAndAHalf: number;
  readonly rejects: number;
  readonly reconciles: number;
  readonly retransmissions: number;
  readonly p50Us: number;
  readonly p99Us: number;
  readonly leadUs: number;
}

/** What the hosts of a run share. */
class World {
  readonly queue = new EventQueue();
  readonly hosts: Host[] = [];
  readonly random: Random;
  /** Of the clocks: a fork, so that other clocks leave delays and arrivals as they are. */
  readonly clockRandom: Random;
  /** When the misordered request was sent. */
  misorderedNs = NaN;
  private misorderNs = 0;
  private misorderAt = -1;

  constructor(readonly conditions: Conditions) {
    this.random = new Random(conditions.seed);
    this.clockRandom = new Random(conditions.seed ^ 0x5bd1e995);
  }

  /** Sends what was written for one destination, as one datagram. */
  post(from: number, to: number, messages: Uint8Array[]): void {
    const { delayNs, sigma } = this.conditions;
    const { nowUs } = this.queue;
    let extraNs = 0;
    if (this.misorderNs > 0 && from >= this.conditions.replicas && to === this.misorderAt) {
      extraNs = this.misorderNs;
      this.misorderNs = 0;
      this.misorderedNs = nowUs;
    }
    this.queue.schedule(nowUs + extraNs + this.random.logNormal(delayNs, sigma), this.hosts[to]!, ARRIVAL, {
      from,
      messages,
    });
  }

  /** The next request that a client sends to replica `to` arrives later by this. */
  misorder(to: number, ns: number): void {
    this.misorderAt = to;
    this.misorderNs = ns;
  }
}

const ARRIVAL = 0;
const TURN_END = 1;
const TIMER = 2;
const OPERATION = 3;

interface Parcel {
  readonly from: number;
  readonly messages: Uint8Array[];
}

class Post implements Outbox {
  bytes = new Uint8Array(60_000);
  private to = 0;
  private waiting = new Map<number, Uint8Array[]>();

  constructor(
    private readonly world: World,
    private readonly from: number,
  ) {}

  reserve(to: number): number {
    this.to = to;
    return 0;
  }

  commit(length: number): void {
    const message = this.bytes.slice(0, length);
    const messages = this.waiting.get(this.to);
    if (messages === undefined) this.waiting.set(this.to, [message]);
    else messages.push(message);
  }

  leave(): void {
    if (this.waiting.size === 0) return;
    for (const [to, messages] of this.waiting) this.world.post(this.from, to, messages);
    this.waiting.clear();
  }
}

interface Core {
  receive(bytes: Uint8Array, offset: number, length: number, from: number, now: Instant): void;
  tick(now: Instant): void;
  readonly wakeAtUs: number;
}

/** A process: one turn after another. */
abstract class Host implements EventHandler {
  protected readonly now = new Instant();
  protected readonly post: Post;
  private inbox: Parcel[] = [];
  private busy = false;
  private timerNs = Infinity;
  private readonly clockError: ClockError;
  protected abstract readonly core: Core;

  constructor(
    protected readonly world: World,
    readonly id: number,
    protected costNs: number,
  ) {
    this.post = new Post(world, id);
    const { clocks, replicas } = world.conditions;
    this.clockError = clockError(clocks, id < replicas ? -1 : id - replicas, world.clockRandom);
  }

  handle(kind: number, payload: unknown): void {
    switch (kind) {
      case ARRIVAL:
        this.inbox.push(payload as Parcel);
        break;
      case TURN_END:
        this.busy = false;
        this.post.leave();
        break;
      case TIMER:
        if (this.world.queue.nowUs >= this.timerNs) this.timerNs = Infinity;
        break;
      default:
        this.read();
        this.operation();
        this.post.leave();
    }
    if (!this.busy) this.turn();
  }

  protected operation(): void {}
  protected flush(): void {}

  protected read(): void {
    const ns = this.world.queue.nowUs;
    this.now.monotonicUs = ns / NS + 1000.5;
    const wall = EPOCH_NS + ns + this.clockError(ns);
    this.now.wallHi = addHi(EPOCH_HI, 0, wall);
    this.now.wallLo = addLo(0, wall);
  }

  private turn(): void {
    this.read();
    const { core, now } = this;
    let count = 0;
    const parcels = this.inbox;
    if (parcels.length > 0) {
      this.inbox = [];
      for (const { from, messages } of parcels) {
        for (const message of messages) {
          if (validate(message, 0, message.length) !== message.length)
            throw new CliError('worker-failed', 'a core wrote a message that is not one; run npm test');
          core.receive(message, 0, message.length, from, now);
          count++;
        }
      }
    }
    if (core.wakeAtUs <= now.monotonicUs) core.tick(now);
    this.flush();
    if (this.costNs > 0 && count > 0) {
      this.busy = true;
      this.world.queue.schedule(this.world.queue.nowUs + count * this.costNs, this, TURN_END, undefined);
    } else {
      this.post.leave();
    }
    const wake = core.wakeAtUs;
    if (wake === Infinity) return;
    const due = Math.max(this.world.queue.nowUs + 1, Math.ceil((wake - 1000.5) * NS) + 1);
    if (due >= this.timerNs) return;
    this.timerNs = due;
    this.world.queue.schedule(due, this, TIMER, undefined);
  }
}

class ReplicaProcess extends Host {
  readonly core: ReplicaCore;

  constructor(world: World, id: number, setting: ContentionSetting) {
    super(world, id, world.conditions.costNs);
    const storage: Storage = {
      keepsLog: false,
      stalled: false,
      persist: (token: number, _batch: PersistBatch) => this.core.persisted(token),
    };
    const limits = { ...DEFAULT_LIMITS, logEntries: 1 << 16, logBytes: 16 << 20 };
    this.core = new ReplicaCore(
      {
        id,
        replicas: world.conditions.replicas,
        seed: id + 1,
        late: setting.late,
        limits,
        timings: { ...DEFAULT_TIMINGS, ...setting.timings },
      },
      this.post,
      storage,
      new EchoMachine(),
      loadHash(),
      { transition: () => {} },
    );
    this.read();
    this.core.start({ hardState: undefined, log: undefined }, this.now);
  }

  slowDown(factor: number): void {
    this.costNs *= factor;
  }

  protected override flush(): void {
    this.core.flush(this.now);
  }
}

class ClientProcess extends Host {
  readonly core: ClientCore;
  registered = false;
  readonly arrivedNs = new Float64Array(LANES);
  readonly free = Array.from({ length: LANES }, (_, lane) => LANES - 1 - lane);
  private readonly backlog: number[] = [];
  private readonly bytes = new Uint8Array(OPERATION_BYTES).fill(0x2e);

  constructor(
    world: World,
    id: number,
    setting: ContentionSetting,
    public rate: number,
    private readonly measured: Measured,
  ) {
    super(world, id, 0);
    const events = {
      registered: (status: number): void => void (this.registered = status === ReplyStatus.ok),
      completed: (lane: number, outcome: number): void => this.completed(lane, outcome),
    };
    this.core = new ClientCore(
      {
        replicas: world.conditions.replicas,
        lanes: LANES,
        seed: id,
        sessionHi: id,
        sessionLo: id + 7,
        nonceHi: 0,
        nonceLo: id,
        limits: DEFAULT_LIMITS,
        timings: {
          ...DEFAULT_CLIENT_TIMINGS,
          leadNs: world.conditions.leadNs,
          maxLeadNs: Math.max(world.conditions.leadNs, setting.maxLeadNs),
        },
      },
      this.post,
      events,
    );
  }

  register(): void {
    this.read();
    this.core.register(this.now);
    this.post.leave();
  }

  begin(): void {
    this.next();
  }

  protected override operation(): void {
    this.next();
    const { measured, world } = this;
    const arrived = world.queue.nowUs;
    if (arrived >= measured.fromNs && arrived < measured.toNs) measured.offered++;
    if (this.free.length > 0) this.submit(arrived);
    else if (this.backlog.length < BACKLOG_MAX) this.backlog.push(arrived);
  }

  private next(): void {
    const { queue, random } = this.world;
    const at = queue.nowUs - (Math.log(1 - random.unit()) * 1e9) / this.rate;
    if (at < this.measured.untilNs) queue.schedule(at, this, OPERATION, undefined);
  }

  private submit(arrived: number): void {
    const lane = this.free.pop()!;
    this.arrivedNs[lane] = arrived;
    this.core.submit(lane, this.bytes, 0, OPERATION_BYTES, Infinity, this.now);
  }

  private completed(lane: number, outcome: number): void {
    const { measured } = this;
    const { nowUs } = this.world.queue;
    const arrived = this.arrivedNs[lane]!;
    this.free.push(lane);
    if (outcome !== Outcome.committed)
      throw new CliError(
        'worker-failed',
        `an operation ended with outcome ${outcome} in a network that loses nothing; run npm test`,
      );
    if (nowUs >= measured.fromNs && nowUs < measured.toNs) measured.throughput++;
    if (arrived >= measured.fromNs && arrived < measured.toNs) {
      measured.committed++;
      measured.latency.record(nowUs - arrived);
    }
    const waiting = this.backlog.shift();
    if (waiting !== undefined) this.submit(waiting);
  }
}

interface Measured {
  readonly fromNs: number;
  readonly toNs: number;
  /** Operations arrive until here. */
  readonly untilNs: number;
  latency: Histogram;
  offered: number;
  committed: number;
  throughput: number;
}

/** Share of the run used as warm-up, and time after its end in which open operations may still finish. */
const WARM_UP = 0.3;
const DRAIN_NS = 20e6;
/** Length of a burst, and of the time behind it in which recovery is looked for, in intervals of one millisecond. */
const BURST_NS = 10e6;
const RECOVERY_NS = 60e6;
const INTERVAL_NS = 1e6;
/** The share that counts as recovered, and for how many intervals it must last. */
const RECOVERED = 0.95;
const RECOVERED_INTERVALS = 5;
/** What is looked at before and behind a misordered request, in steps of this. */
const MISORDER_NS = 5e6;
const MISORDER_STEP_NS = 10e3;

function run(setting: ContentionSetting, conditions: Conditions): Row {
  const world = new World(conditions);
  const settledNs = 20e6;
  const measured: Measured = {
    fromNs: settledNs + conditions.ms * 1e6 * WARM_UP,
    toNs: settledNs + conditions.ms * 1e6,
    untilNs: settledNs + conditions.ms * 1e6 + (conditions.burst > 0 ? BURST_NS + RECOVERY_NS : 0),
    latency: new Histogram(),
    offered: 0,
    committed: 0,
    throughput: 0,
  };
  for (let id = 0; id < conditions.replicas; id++) world.hosts.push(new ReplicaProcess(world, id, setting));
  const clients = shares(conditions.clients, conditions.skew).map(
    (share, k) => new ClientProcess(world, conditions.replicas + k, setting, conditions.rate * share, measured),
  );
  world.hosts.push(...clients);
  for (const host of world.hosts) host.handle(TIMER, undefined);
  for (const client of clients) client.register();
  while (world.queue.step(settledNs));
  if (clients.some((client) => !client.registered))
    throw new CliError('worker-failed', 'a client core could not register its session; run npm test');
  for (const client of clients) client.begin();
  while (world.queue.step(measured.fromNs));
  const before = clients.map((client) => client.core.counters.slice());
  const slowed = conditions.slow > 1 ? slowDown(world, measured) : {};
  const misordered = conditions.misorderNs > 0 ? misorder(world, clients, measured) : {};
  while (world.queue.step(measured.toNs));
  const grown = (name: keyof typeof ClientCounter): number =>
    clients.reduce(
      (sum, client, k) => sum + client.core.counters[ClientCounter[name]]! - before[k]![ClientCounter[name]]!,
      0,
    );
  const committed = grown('commits');
  const row = {
    setting: setting.name,
    clients: conditions.clients,
    rate: conditions.rate,
    throughput: Math.round((measured.throughput * 1e9) / (measured.toNs - measured.fromNs)),
    oneRoundTrip: grown('commits_fast') / committed,
    moreThanOneAndAHalf: (committed - grown('commits_fast') - grown('commits_ordered')) / committed,
    rejects: grown('rejected_late') / committed,
    reconciles: grown('reconciled') / committed,
    retransmissions: grown('retransmitted') / committed,
    leadUs: clients.reduce((sum, client) => sum + client.core.lead.leadNs, 0) / clients.length / 1000,
  };
  const burst = conditions.burst > 0 ? burstOf(world, clients, measured) : {};
  while (world.queue.step(measured.untilNs + DRAIN_NS));
  const { p50, p99 } = measured.latency.summary();
  return {
    ...row,
    ...slowed,
    ...misordered,
    ...burst,
    committedShare: measured.committed / measured.offered,
    p50Us: (p50 ?? NaN) / 1000,
    p99Us: (p99 ?? NaN) / 1000,
  };
}

/** Commits of all clients so far, and those of them that took longer than one round trip. */
function commitsOf(clients: readonly ClientProcess[]): { commits: number; slow: number } {
  let commits = 0;
  let slow = 0;
  for (const { core } of clients) {
    commits += core.counters[ClientCounter.commits]!;
    slow += core.counters[ClientCounter.commits]! - core.counters[ClientCounter.commits_fast]!;
  }
  return { commits, slow };
}

/** Lets the burst come, then half of the rate, and looks when commits take one round trip again. */
function burstOf(
  world: World,
  clients: readonly ClientProcess[],
  { toNs }: Measured,
): Pick<Row, 'burstOneRoundTrip' | 'recoveredMs'> {
  const { burst, rate } = world.conditions;
  const scale = (factor: number): void => {
    for (const client of clients) client.rate *= factor;
  };
  const before = commitsOf(clients);
  scale(burst / rate);
  while (world.queue.step(toNs + BURST_NS));
  let last = commitsOf(clients);
  const burstOneRoundTrip = 1 - (last.slow - before.slow) / (last.commits - before.commits);
  scale(rate / 2 / burst);
  let good = 0;
  let recoveredMs: number | null = null;
  for (let ns = INTERVAL_NS; ns <= RECOVERY_NS; ns += INTERVAL_NS) {
    while (world.queue.step(toNs + BURST_NS + ns));
    const next = commitsOf(clients);
    const share = 1 - (next.slow - last.slow) / (next.commits - last.commits);
    last = next;
    good = share >= RECOVERED ? good + 1 : 0;
    if (good === RECOVERED_INTERVALS) recoveredMs ??= ns / 1e6 - RECOVERED_INTERVALS;
  }
  return { burstOneRoundTrip, recoveredMs };
}

/** Misorders one request at a member, and counts the commits around it that took longer than one round trip. */
function misorder(
  world: World,
  clients: readonly ClientProcess[],
  { fromNs }: Measured,
): Pick<Row, 'slowBefore' | 'slowBehind' | 'slowForUs'> {
  const { views, view } = (world.hosts[0] as ReplicaProcess).core.state;
  const before = commitsOf(clients).slow;
  while (world.queue.step(fromNs + MISORDER_NS));
  const at = commitsOf(clients).slow;
  world.misorder(views.members(view).find((r) => r !== views.primary(view))!, world.conditions.misorderNs);
  let slow = at;
  let lastNs = NaN;
  for (let ns = MISORDER_STEP_NS; ns <= MISORDER_NS; ns += MISORDER_STEP_NS) {
    while (world.queue.step(fromNs + MISORDER_NS + ns));
    const next = commitsOf(clients).slow;
    if (next > slow) lastNs = world.queue.nowUs;
    slow = next;
  }
  const slowForUs = Number.isNaN(lastNs) ? 0 : (lastNs - world.misorderedNs) / 1000;
  return { slowBefore: at - before, slowBehind: slow - at, slowForUs };
}

/** Slows down the first member and lets half of the remaining time pass; then a new measurement begins. */
function slowDown(world: World, measured: Measured): Pick<Row, 'withoutSlowMs' | 'p50BeforeUs' | 'p50AfterUs'> {
  const { slow } = world.conditions;
  const primary = world.hosts[0] as ReplicaProcess;
  const third = (measured.toNs - measured.fromNs) / 3;
  while (world.queue.step(measured.fromNs + third));
  const p50BeforeUs = (measured.latency.summary().p50 ?? NaN) / 1000;
  const { view, views } = primary.core.state;
  const member = views.members(view).find((r) => r !== primary.id)!;
  (world.hosts[member] as ReplicaProcess).slowDown(slow);
  const began = world.queue.nowUs;
  let without = Infinity;
  while (world.queue.nowUs < measured.fromNs + 2 * third && without === Infinity) {
    world.queue.step(world.queue.nowUs + 1e6);
    if (!views.isMember(primary.core.state.view, member) && primary.core.state.isPrimary) without = world.queue.nowUs;
  }
  while (world.queue.step(measured.fromNs + 2 * third));
  measured.latency = new Histogram();
  while (world.queue.step(measured.toNs));
  return {
    withoutSlowMs: without === Infinity ? null : (without - began) / 1e6,
    p50BeforeUs,
    p50AfterUs: (measured.latency.summary().p50 ?? NaN) / 1000,
  };
}

await program(
  {
    name: 'npm run bench:contention-sim --',
    summary: 'Contention of several clients in virtual time, for the published protocol and its remedies.',
    positionals: [],
    flags: {
      clients: { kind: 'text', value: 'K,…', default: '8', help: 'numbers of clients' },
      rates: {
        kind: 'text',
        value: 'R,…',
        default: '1000,10000,50000,100000,200000',
        help: 'operations a second of all clients together',
      },
      settings: { kind: 'text', value: 'NAME,…', default: CONTENTION_NAMES.join(','), help: 'settings to run' },
      replicas: { kind: 'count', default: '3', min: 3, max: 13, help: 'replicas, an odd number' },
      ms: {
        kind: 'count',
        default: '200',
        min: 10,
        max: 100_000,
        help: 'milliseconds of virtual time a run, the first 30 % warm up',
      },
      delay: { kind: 'count', default: '20', min: 1, max: 100_000, help: 'median one-way delay, µs' },
      sigma: {
        kind: 'text',
        value: 'S',
        default: '0.4',
        help: 'of the log-normal delay; 0.4: the 99th percentile is 2.5 medians',
      },
      cost: { kind: 'count', default: '1000', max: 1e6, help: 'time of a replica for a message, ns' },
      skew: {
        kind: 'text',
        value: 'S',
        default: '0',
        help: 'client k has a share of the load in proportion to 1 / (k + 1)^S',
      },
      slow: {
        kind: 'count',
        default: '1',
        min: 1,
        max: 1000,
        help: 'a third into the measurement a member takes so many times as long for a message: time until a view without it, p50 before and after',
      },
      clocks: {
        kind: 'choice',
        choices: CLOCKS,
        default: 'exact',
        help: 'of all hosts; ptp: within ±1 µs; mixed: the same, but of 16 clients one is off by 500 µs, one drifts by 100 ppm, one steps by 100 µs every 10 ms',
      },
      lead: { kind: 'count', default: '0', max: 100_000, help: 'least lead of all clients, µs' },
      burst: {
        kind: 'count',
        default: '0',
        max: 1e8,
        help: 'after the measurement, operations a second for 10 ms, then half of the rate: share in the burst, and time until 95 % of commits take one round trip again',
      },
      misorder: {
        kind: 'count',
        default: '0',
        max: 100_000,
        help: 'µs by which one request reaches one member later: commits that took longer than one round trip in the 5 ms before and behind it, and for how long',
      },
      seed: { kind: 'count', default: '7', max: 2 ** 31, help: 'of delays and arrivals' },
    },
    examples: ['npm run bench:contention-sim -- --clients 2,8 --rates 10000,100000 --json'],
  },
  async (values, output) => {
    const rows: Row[] = [];
    const settings = namesOf('--settings', values.settings, CONTENTION_SETTINGS);
    if (!output.json)
      output.line(
        'clients     rate  setting        done%   1-RTT%  >1.5RTT%  reject%  reconc%  resent%   ops/s     p50µs    p99µs  lead',
      );
    for (const clients of numbersOf('--clients', values.clients)) {
      for (const rate of numbersOf('--rates', values.rates)) {
        for (const setting of settings) {
          const row = run(setting, {
            replicas: values.replicas,
            clients,
            rate,
            skew: Number(values.skew),
            delayNs: values.delay * NS,
            sigma: Number(values.sigma),
            costNs: values.cost,
            ms: values.ms,
            seed: values.seed,
            slow: values.slow,
            clocks: values.clocks as Clocks,
            leadNs: values.lead * NS,
            burst: values.burst,
            misorderNs: values.misorder * NS,
          });
          rows.push(row);
          const share = (x: number, digits: number): string => (100 * x).toFixed(digits);
          if (!output.json)
            output.line(
              `${String(clients).padStart(7)} ${String(rate).padStart(8)}  ${setting.name.padEnd(13)} ${share(row.committedShare, 1).padStart(6)} ${share(row.oneRoundTrip, 2).padStart(8)} ${share(row.moreThanOneAndAHalf, 3).padStart(9)} ${share(row.rejects, 1).padStart(8)} ${share(row.reconciles, 1).padStart(8)} ${share(row.retransmissions, 1).padStart(8)} ${String(row.throughput).padStart(7)} ${row.p50Us.toFixed(1).padStart(9)} ${row.p99Us.toFixed(1).padStart(8)} ${row.leadUs.toFixed(0).padStart(5)}${row.withoutSlowMs === undefined ? '' : `  without the slow member after ${row.withoutSlowMs?.toFixed(0) ?? '–'} ms; p50 ${row.p50BeforeUs!.toFixed(1)} before, ${row.p50AfterUs!.toFixed(1)} after`}${row.burstOneRoundTrip === undefined ? '' : `  in the burst ${share(row.burstOneRoundTrip, 1)} %, 95 % again after ${row.recoveredMs?.toFixed(0) ?? 'more than 55'} ms`}${row.slowForUs === undefined ? '' : `  slow before ${row.slowBefore}, behind ${row.slowBehind}, for ${row.slowForUs.toFixed(0)} µs`}`,
            );
        }
      }
    }
    if (output.json)
      output.line(
        JSON.stringify({
          schema: 'jitpaxos.contention-sim/1',
          replicas: values.replicas,
          delayUs: values.delay,
          sigma: Number(values.sigma),
          costNs: values.cost,
          skew: Number(values.skew),
          seed: values.seed,
          clocks: values.clocks,
          leadUs: values.lead,
          burst: values.burst,
          misorderUs: values.misorder,
          ms: values.ms,
          rows,
        }),
      );
  },
);
