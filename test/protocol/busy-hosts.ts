/**
 * Replica cores on hosts that other programs share: processes that are not scheduled for a while, at moments and for
 * durations drawn from a seed, over minutes of virtual time. Deterministic; some minutes take a few seconds of real
 * time.
 *
 * While a process stands still, datagrams wait at its socket. When it runs again its timers come first, as in Node's
 * loop.
 */
import { CounterMachine } from '../../src/machine/counter.js';
import { DEFAULT_TIMINGS, type Timings } from '../../src/protocol/config.js';
import { Instant, type HardState, type Outbox, type PersistBatch, type Storage } from '../../src/protocol/contract.js';
import { Jitter } from '../../src/protocol/jitter.js';
import { ReplicaCore } from '../../src/protocol/replica/replica-core.js';
import { hasher, TEST_LIMITS } from './harness.js';

/** Load of the hosts at a moment: mean time between two pauses of a process, and their length. */
export interface Busyness {
  readonly everyUs: number;
  /** Shortest and longest pause; every octave in between is equally likely. */
  readonly fromUs: number;
  readonly toUs: number;
}

export interface BusyOptions {
  readonly replicas: number;
  readonly seed: number;
  readonly timings?: Partial<Timings>;
  /** Load of each process at a moment, µs since the start; undefined: it is scheduled at once. */
  readonly busyness: (atUs: number, replica: number) => Busyness | undefined;
  /** How long a turn of a replica takes, µs. */
  readonly turnUs?: (atUs: number, replica: number) => number;
  /** A wall clock's offset, ns. */
  readonly offsetNs?: (atUs: number, replica: number) => number;
}

interface Event {
  readonly at: number;
  readonly order: number;
  readonly run: () => void;
}

/** One-way delay between two processes on a quiet network, µs, and the range of the random addition. */
const DELAY_US = 40;
const DELAY_DRAWN_US = 20;
/** As in server/replica.ts: a core gets a tick at least this often. */
const QUIET_US = 5_000;

class Memory implements Storage {
  readonly keepsLog = false;
  readonly stalled = false;
  hardState: HardState | undefined;
  persisted: (token: number) => void = () => undefined;
  persist(token: number, batch: PersistBatch): void {
    this.hardState = { ...batch.hardState };
    this.persisted(token);
  }
}

class CopyOutbox implements Outbox {
  readonly bytes = new Uint8Array(60_000);
  private to = -1;
  constructor(private readonly send: (to: number, bytes: Uint8Array) => void) {}
  reserve(to: number): number {
    this.to = to;
    return 0;
  }
  commit(length: number): void {
    this.send(this.to, this.bytes.slice(0, length));
  }
}

class Process {
  readonly now = new Instant();
  readonly transitions: string[] = [];
  core!: ReplicaCore;
  down = false;
  /** Not scheduled before this. */
  readyUs = 0;
  inbox: { from: number; bytes: Uint8Array }[] = [];
  wakeAtUs = Infinity;
  turnPlanned = false;
}

export class BusyHosts {
  nowUs = 0;
  readonly processes: Process[] = [];
  /** View changes that a replica asked for: when, which and why. */
  readonly asked: { readonly atUs: number; readonly by: number; readonly why: string }[] = [];
  private readonly jitter: Jitter;
  private readonly events: Event[] = [];
  private order = 0;

  constructor(private readonly options: BusyOptions) {
    this.jitter = new Jitter(options.seed);
    for (let id = 0; id < options.replicas; id++) {
      const process = new Process();
      this.processes.push(process);
      this.start(id);
      this.planPause(id);
    }
  }

  core(id: number): ReplicaCore {
    return this.processes[id]!.core;
  }

  /** Highest view that any replica is in. */
  get view(): number {
    return Math.max(...this.processes.filter(({ down }) => !down).map(({ core }) => core.state.view));
  }

  /** Views asked for whose reason matches. */
  changes(why: RegExp = /./): number {
    return this.asked.filter((ask) => why.test(ask.why)).length;
  }

  start(id: number): void {
    const process = this.processes[id]!;
    const disk = new Memory();
    process.down = false;
    process.core = new ReplicaCore(
      {
        id,
        replicas: this.options.replicas,
        seed: this.options.seed * 31 + id,
        limits: TEST_LIMITS,
        timings: { ...DEFAULT_TIMINGS, ...this.options.timings },
      },
      new CopyOutbox((to, bytes) => this.send(id, to, bytes)),
      disk,
      new CounterMachine(),
      hasher,
      {
        transition: (event, detail) => {
          process.transitions.push(`${event}: ${detail}`);
          if (event === 'ask-view') this.asked.push({ atUs: this.nowUs, by: id, why: detail });
        },
      },
    );
    disk.persisted = (token) => process.core.persisted(token);
    process.core.start({ hardState: undefined, log: undefined }, this.instant(id));
    this.arm(id);
  }

  /** The host is gone: nothing answers, and no ICMP message says so. */
  stop(id: number): void {
    this.processes[id]!.down = true;
    this.processes[id]!.inbox = [];
  }

  run(us: number): void {
    const until = this.nowUs + us;
    for (;;) {
      const next = this.events[0];
      if (next === undefined || next.at > until) break;
      this.pop();
      this.nowUs = next.at;
      next.run();
    }
    this.nowUs = until;
  }

  /** Runs until `reached`, checked each millisecond; returns the µs it took, Infinity after `us`. */
  runUntil(reached: () => boolean, us: number): number {
    const from = this.nowUs;
    while (this.nowUs < from + us) {
      this.run(1000);
      if (reached()) return this.nowUs - from;
    }
    return Infinity;
  }

  private instant(id: number): Instant {
    const { now } = this.processes[id]!;
    now.monotonicUs = 1_000_000.5 + this.nowUs;
    const wall =
      1_700_000_000_000_000_000n +
      BigInt(Math.round(this.nowUs * 1000 + (this.options.offsetNs?.(this.nowUs, id) ?? 0)));
    now.wallHi = Number(BigInt.asIntN(32, wall >> 32n));
    now.wallLo = Number(BigInt.asIntN(32, wall));
    return now;
  }

  private send(from: number, to: number, bytes: Uint8Array): void {
    if (to >= this.options.replicas) return;
    this.at(this.nowUs + DELAY_US + DELAY_DRAWN_US * this.jitter.next(), () => {
      const process = this.processes[to]!;
      if (process.down) return;
      process.inbox.push({ from, bytes });
      this.planTurn(to);
    });
  }

  private planTurn(id: number): void {
    const process = this.processes[id]!;
    if (process.turnPlanned) return;
    process.turnPlanned = true;
    this.at(Math.max(this.nowUs, process.readyUs) + (this.options.turnUs?.(this.nowUs, id) ?? 5), () => this.turn(id));
  }

  private turn(id: number): void {
    const process = this.processes[id]!;
    process.turnPlanned = false;
    if (process.down) return;
    if (this.nowUs < process.readyUs) {
      this.planTurn(id);
      return;
    }
    const now = this.instant(id);
    const { core } = process;
    if (now.monotonicUs >= process.wakeAtUs) {
      core.tick(now);
      core.flush(now);
    }
    for (const { from, bytes } of process.inbox.splice(0)) core.receive(bytes, 0, bytes.length, from, now);
    core.flush(now);
    this.arm(id);
  }

  private arm(id: number): void {
    const process = this.processes[id]!;
    const wakeUs = Math.min(process.core.wakeAtUs, 1_000_000.5 + this.nowUs + QUIET_US);
    process.wakeAtUs = wakeUs;
    this.at(Math.max(this.nowUs + 1, wakeUs - 1_000_000.5), () => {
      if (!process.down && process.wakeAtUs <= 1_000_000.5 + this.nowUs) this.planTurn(id);
    });
  }

  private planPause(id: number): void {
    const busyness = this.options.busyness(this.nowUs, id);
    if (busyness === undefined) {
      this.at(this.nowUs + 100_000, () => this.planPause(id));
      return;
    }
    const { everyUs, fromUs, toUs } = busyness;
    this.at(this.nowUs - everyUs * Math.log(1 - this.jitter.next()), () => {
      const process = this.processes[id]!;
      process.readyUs = Math.max(process.readyUs, this.nowUs + fromUs * (toUs / fromUs) ** this.jitter.next());
      // The next one is drawn when this one is over.
      this.at(process.readyUs, () => this.planPause(id));
    });
  }

  // A binary heap by time, and by order among equals.

  private at(at: number, run: () => void): void {
    const { events } = this;
    const event = { at, order: this.order++, run };
    let i = events.push(event) - 1;
    while (i > 0) {
      const parent = (i - 1) >> 1;
      if (!isBefore(event, events[parent]!)) break;
      events[i] = events[parent]!;
      i = parent;
    }
    events[i] = event;
  }

  private pop(): void {
    const { events } = this;
    const last = events.pop()!;
    if (events.length === 0) return;
    let i = 0;
    for (;;) {
      let child = 2 * i + 1;
      if (child >= events.length) break;
      if (child + 1 < events.length && isBefore(events[child + 1]!, events[child]!)) child++;
      if (!isBefore(events[child]!, last)) break;
      events[i] = events[child]!;
      i = child;
    }
    events[i] = last;
  }
}

function isBefore(a: Event, b: Event): boolean {
  return a.at < b.at || (a.at === b.at && a.order < b.order);
}
