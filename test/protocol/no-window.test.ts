// A client with thousands of operations on their way, beside two that send little: these go on. In virtual time, on hosts
// that take some time for each message and each entry that is moved; links keep the order of what is sent.
import t from 'tap';
import { EchoMachine } from '../../src/machine/echo.js';
import { ClientCore } from '../../src/protocol/client/client-core.js';
import type { SendWindow } from '../../src/protocol/client/send-window.js';
import { DEFAULT_CLIENT_TIMINGS, DEFAULT_LIMITS, DEFAULT_TIMINGS } from '../../src/protocol/config.js';
import { Instant, Outcome, type Outbox, type Storage } from '../../src/protocol/contract.js';
import { ClientCounter, Counter } from '../../src/protocol/counters.js';
import { ReplicaCore } from '../../src/protocol/replica/replica-core.js';
import { EventQueue, type EventHandler } from '../../src/sim/event-queue.js';
import { Random } from '../../src/sim/random.js';
import { addHi, addLo } from '../../src/wire/u64.js';
import { hasher } from './harness.js';

const REPLICAS = 3;
/** One way, ns. */
const DELAY_NS = 25_000;
const SIGMA = 0.4;
/** What a replica takes for a message that came, for one that it sends, and for an entry that it moves, ns. */
const MESSAGE_NS = 4_000;
const SEND_NS = 500;
const MOVE_NS = 300;
/** Messages of one turn, and bytes of one datagram. */
const TURN = 256;
const DATAGRAM_BYTES = 1_400;
/** Operations a second of each client that sends little. */
const RATE = 1_000;
const BEGINS_NS = 30e6;
/** By then the replicas have found out. */
const MEASURED_NS = 200e6;
const ENDS_NS = 300e6;
const EPOCH_HI = 0x18a9_5c00;

interface Parcel {
  readonly from: number;
  readonly messages: Uint8Array[];
}

class World {
  readonly queue = new EventQueue();
  readonly hosts: Host[] = [];
  readonly random: Random;
  private readonly arrived = new Map<number, number>();

  constructor(seed: number) {
    this.random = new Random(seed);
  }

  post(from: number, to: number, messages: Uint8Array[]): void {
    const link = from * 64 + to;
    const at = Math.max(
      this.queue.nowUs + this.random.logNormal(DELAY_NS, SIGMA),
      (this.arrived.get(link) ?? 0) + SEND_NS,
    );
    this.arrived.set(link, at);
    this.queue.schedule(at, this.hosts[to]!, ARRIVAL, { from, messages } satisfies Parcel);
  }
}

const ARRIVAL = 0;
const TURN_END = 1;
const TIMER = 2;
const OPERATION = 3;

class Post implements Outbox {
  bytes = new Uint8Array(60_000);
  written = 0;
  private to = 0;
  private readonly waiting = new Map<number, Uint8Array[]>();

  constructor(
    private readonly world: World,
    private readonly from: number,
  ) {}

  reserve(to: number): number {
    this.to = to;
    return 0;
  }

  commit(length: number): void {
    this.written++;
    const messages = this.waiting.get(this.to) ?? [];
    messages.push(this.bytes.slice(0, length));
    this.waiting.set(this.to, messages);
  }

  leave(): void {
    for (const [to, messages] of this.waiting) {
      let datagram: Uint8Array[] = [];
      let length = 0;
      for (const message of messages) {
        if (datagram.length > 0 && length + message.length > DATAGRAM_BYTES) {
          this.world.post(this.from, to, datagram);
          datagram = [];
          length = 0;
        }
        datagram.push(message);
        length += message.length;
      }
      this.world.post(this.from, to, datagram);
    }
    this.waiting.clear();
  }
}

abstract class Host implements EventHandler {
  protected readonly now = new Instant();
  protected readonly post: Post;
  protected inbox: Parcel[] = [];
  protected busy = false;
  private timerNs = Infinity;
  protected abstract readonly core: { readonly wakeAtUs: number; tick(now: Instant): void };

  constructor(
    protected readonly world: World,
    readonly id: number,
  ) {
    this.post = new Post(world, id);
  }

  protected abstract turn(): void;
  protected operation(): void {}

  handle(kind: number, payload: unknown): void {
    if (kind === ARRIVAL) this.inbox.push(payload as Parcel);
    else if (kind === TURN_END) {
      this.busy = false;
      this.post.leave();
    } else if (kind === TIMER) this.timerNs = Infinity;
    else this.operation();
    if (this.busy) return;
    this.read();
    this.turn();
    this.arm();
  }

  protected read(): void {
    const ns = this.world.queue.nowUs;
    this.now.monotonicUs = ns / 1_000 + 1_000.5;
    this.now.wallHi = addHi(EPOCH_HI, 0, ns);
    this.now.wallLo = addLo(0, ns);
  }

  private arm(): void {
    const wake = this.core.wakeAtUs;
    const due = Math.max(this.world.queue.nowUs + 1, Math.ceil((wake - 1_000.5) * 1_000) + 1);
    if (due >= this.timerNs || wake === Infinity) return;
    this.timerNs = due;
    this.world.queue.schedule(due, this, TIMER, undefined);
  }
}

class Replica extends Host {
  readonly core: ReplicaCore;
  private moved = 0;

  constructor(world: World, id: number) {
    super(world, id);
    const storage: Storage = {
      keepsLog: false,
      stalled: false,
      persist: (token: number) => this.core.persisted(token),
    };
    const limits = { ...DEFAULT_LIMITS, logEntries: 1 << 16, logBytes: 16 << 20 };
    const config = { id, replicas: REPLICAS, seed: id + 1, limits, timings: DEFAULT_TIMINGS, late: 'restamp' } as const;
    this.core = new ReplicaCore(config, this.post, storage, new EchoMachine(), hasher, { transition: () => undefined });
    this.read();
    this.core.start({ hardState: undefined, log: undefined }, this.now);
  }

  protected override turn(): void {
    const { core, now } = this;
    let count = 0;
    while (count < TURN && this.inbox.length > 0) {
      const { from, messages } = this.inbox.shift()!;
      for (const message of messages) core.receive(message, 0, message.length, from, now, from < REPLICAS ? 0 : from);
      count += messages.length;
    }
    if (core.wakeAtUs <= now.monotonicUs) core.tick(now);
    core.flush(now);
    const { counters } = core;
    const moved =
      counters[Counter.entries_cut]! +
      counters[Counter.entries_kept]! +
      counters[Counter.entries_ordered]! +
      counters[Counter.entries_fetched]!;
    const costNs = count * MESSAGE_NS + this.post.written * SEND_NS + (moved - this.moved) * MOVE_NS;
    this.moved = moved;
    this.post.written = 0;
    if (costNs === 0) this.post.leave();
    else {
      this.busy = true;
      this.world.queue.schedule(this.world.queue.nowUs + costNs, this, TURN_END, undefined);
    }
  }
}

/** Sends `rate` operations a second; without a rate it always has as many open as it has lanes. */
class Client extends Host {
  readonly core: ClientCore;
  registered = false;
  offered = 0;
  committed = 0;
  readonly tripsNs: number[] = [];
  private readonly free: number[];
  private readonly sentNs: Float64Array;
  private readonly bytes = new Uint8Array(64);

  constructor(
    world: World,
    id: number,
    lanes: number,
    private readonly rate?: number,
  ) {
    super(world, id);
    this.free = Array.from({ length: lanes }, (_, lane) => lane);
    this.sentNs = new Float64Array(lanes);
    this.core = new ClientCore(
      {
        replicas: REPLICAS,
        lanes,
        seed: id,
        sessionHi: id,
        sessionLo: 2 * id + 1,
        nonceHi: 0,
        nonceLo: id,
        limits: DEFAULT_LIMITS,
        timings: DEFAULT_CLIENT_TIMINGS,
      },
      this.post,
      {
        registered: () => void (this.registered = true),
        completed: (lane, outcome) => this.completed(lane, outcome),
      },
    );
    if (rate === undefined)
      Object.defineProperty(this.core.window, 'isFull' satisfies keyof SendWindow, { value: false });
  }

  register(): void {
    this.read();
    this.core.register(this.now);
    this.post.leave();
  }

  protected override operation(): void {
    this.read();
    if (this.rate === undefined) while (this.free.length > 0) this.submit();
    else {
      this.begin();
      this.offered++;
      if (this.free.length > 0) this.submit();
    }
  }

  /** The next operation. */
  begin(): void {
    const { queue, random } = this.world;
    const pauseNs = this.rate === undefined ? 0 : random.exponential(1e9 / this.rate);
    queue.schedule(queue.nowUs + pauseNs, this, OPERATION, undefined);
  }

  private submit(): void {
    const lane = this.free.pop()!;
    this.sentNs[lane] = this.world.queue.nowUs;
    this.core.submit(lane, this.bytes, 0, this.bytes.length, Infinity, this.now);
  }

  private completed(lane: number, outcome: number): void {
    if (outcome === Outcome.committed) this.committed++;
    this.tripsNs.push(this.world.queue.nowUs - this.sentNs[lane]!);
    this.free.push(lane);
    if (this.rate === undefined) this.submit();
  }

  protected override turn(): void {
    const { core, now } = this;
    for (const { from, messages } of this.inbox.splice(0))
      for (const message of messages) core.receive(message, 0, message.length, from, now);
    if (core.wakeAtUs <= now.monotonicUs) core.tick(now);
    this.post.leave();
  }
}

interface Seen {
  readonly committed: number;
  readonly offered: number;
  readonly fastShare: number;
  readonly medianNs: number;
  readonly others: number;
  readonly view: number;
}

/** Two clients that send little, and one with that many operations on their way. */
function run(open: number, seed: number): Seen {
  const world = new World(seed);
  const replicas = Array.from({ length: REPLICAS }, (_, id) => new Replica(world, id));
  const clients = [3, 4].map((id) => new Client(world, id, 256, RATE));
  const flood = open === 0 ? [] : [new Client(world, 5, open)];
  world.hosts.push(...replicas, ...clients, ...flood);
  for (const host of world.hosts) host.handle(TIMER, undefined);
  for (const client of [...clients, ...flood]) client.register();
  while (world.queue.step(BEGINS_NS));
  for (const client of [...clients, ...flood]) client.begin();
  while (world.queue.step(MEASURED_NS));
  const total = (of: (client: Client) => number, among = clients): number =>
    among.reduce((sum, client) => sum + of(client), 0);
  const counter = (name: 'commits' | 'commits_fast'): number =>
    total(({ core }) => core.counters[ClientCounter[name]]!);
  const look = (): number[] => [
    total(({ committed }) => committed),
    total(({ offered }) => offered),
    counter('commits'),
    counter('commits_fast'),
    total(({ committed }) => committed, flood),
  ];
  const before = look();
  for (const { tripsNs } of clients) tripsNs.length = 0;
  while (world.queue.step(ENDS_NS));
  const [committed, offered, commits, fast, others] = look().map((now, i) => now - before[i]!);
  const trips = clients.flatMap(({ tripsNs }) => tripsNs).sort((a, b) => a - b);
  return {
    committed: committed!,
    offered: offered!,
    fastShare: fast! / commits!,
    medianNs: trips[trips.length >> 1] ?? Infinity,
    others: others!,
    view: replicas[0]!.core.state.view,
  };
}

t.test('a client with 4,096 operations on their way is served, and so are the others', (t) => {
  const seed = 2;
  const quiet = run(0, seed);
  t.ok(quiet.committed > 150 && quiet.fastShare > 0.9, `alone: ${JSON.stringify(quiet)}`);
  const seen = run(4_096, seed);
  const text = JSON.stringify(seen);
  t.ok(seen.committed >= 0.95 * seen.offered, `others commit: ${text}`);
  t.ok(seen.fastShare >= 0.8 * quiet.fastShare, `most in one round trip: ${text}`);
  t.ok(seen.medianNs <= 2 * quiet.medianNs, `as fast as alone: ${text}`);
  t.ok(seen.others > 1_000, `it is served too: ${text}`);
  t.equal(seen.view, 0, 'no view was left');
  t.end();
});
