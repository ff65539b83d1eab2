/**
 * Machines that diverge on purpose: at a drawn time a replica applies one operation wrongly, and the others must
 * notice.
 *
 * The error is a mark in the state that no operation shows (machine-probe.ts). If a machine gave wrong results before
 * anyone noticed, clients would necessarily see them, and the check of histories would have to look away from then on.
 * A mark leaves all results right: the history of such a run is judged in full, and the digests of snapshots differ all
 * the same.
 *
 * At most f replicas are wrong or without their log at a time, by a fault. One more may become wrong by taking its
 * state from a wrong one; handling that is up to the protocol.
 *
 * Draws from its own generator, like mishaps.ts.
 */
import type { Limits } from '../protocol/config.js';
import type { EventHandler, EventQueue } from './event-queue.js';
import { Random } from './random.js';

/** Share of runs with such a machine. */
const SHARE = 0.2;
/** If a replica may not go wrong at that moment, it is tried again after this, µs. */
const TRY_AGAIN_US = 2000;
/** Logs are this short, so that snapshots are taken often; one value for logs kept on disk, one without. */
const LOG_ENTRIES_KEPT = 128;
const LOG_ENTRIES_MEMORY = 1024;

/** A replica and the time at which it goes wrong, µs. */
export interface WrongMachine {
  readonly replica: number;
  readonly atUs: number;
}

/** What the driver can do to a cluster. */
export interface DivergingTargets {
  /**
   * Makes the next operation that it applies go wrong, marked with `mark`; false if it is down, or if one more would be
   * too many.
   */
  goWrong(replica: number, mark: number): boolean;
}

/**
 * Which machines go wrong in a run; in most runs none.
 * @param ticks length of the safety phase, µs
 */
export function drawDiverging(
  seed: number,
  allowed: ReadonlySet<string>,
  replicas: number,
  ticks: number,
): readonly WrongMachine[] {
  const random = new Random(seed).fork('diverging');
  const f = Math.floor((replicas - 1) / 2);
  if (!random.chance(SHARE) || !allowed.has('diverge') || f === 0) return [];
  const left = Array.from({ length: replicas }, (_, replica) => replica);
  return Array.from({ length: random.between(1, f) }, () => ({
    replica: left.splice(random.below(left.length), 1)[0]!,
    atUs: random.below(ticks),
  }));
}

/** The limits of a run with such a machine. */
export function shortLog(limits: Limits, keepsLog: boolean): Limits {
  return { ...limits, logEntries: Math.min(limits.logEntries, keepsLog ? LOG_ENTRIES_KEPT : LOG_ENTRIES_MEMORY) };
}

/** For display; empty if there are none. */
export function describeDiverging(machines: readonly WrongMachine[]): string {
  return machines.length === 0
    ? ''
    : `diverge ${machines.map(({ replica, atUs }) => `r${replica} at ${(atUs / 1000).toFixed(0)} ms`).join(', ')}`;
}

export class DivergingDriver implements EventHandler {
  private readonly random: Random;
  private stopped = false;

  constructor(
    private readonly queue: EventQueue,
    seed: number,
    private readonly machines: readonly WrongMachine[],
    private readonly targets: DivergingTargets,
  ) {
    this.random = new Random(seed).fork('diverging, returns');
  }

  start(): void {
    for (const machine of this.machines) this.queue.schedule(machine.atUs, this, 0, machine);
  }

  /** From now on no machine goes wrong. */
  stop(): void {
    this.stopped = true;
  }

  handle(_kind: number, payload: unknown): void {
    if (this.stopped) return;
    const machine = payload as WrongMachine;
    const mark = this.machines.indexOf(machine) + 1;
    if (!this.targets.goWrong(machine.replica, mark))
      this.queue.schedule(this.queue.nowUs + TRY_AGAIN_US, this, 0, machine);
  }

  /** How long an operator takes to bring back a replica that stopped itself, µs. */
  returnUs(): number {
    return this.random.logNormal(10_000, 1);
  }
}

/** A replica's state, as this file needs it. */
interface MarkedHost {
  readonly id: number;
  /** Its id among the members at present. */
  readonly hostId: number | undefined;
  /** The ids that it ever had among the members: by those it is named. */
  readonly hostIds: readonly number[];
  /** Undefined until it begins for the first time. */
  readonly probe: { readonly mark: number; readonly nextMark: number; readonly wentWrong: boolean } | undefined;
  /** It reports its state: it has one, and not from another replica. */
  readonly hasOwnState: boolean;
  /** What its log holds; undefined while it is down. */
  readonly log: { readonly baseIndex: number; readonly lastIndex: number } | undefined;
}

/** How the detail of the transition `state-diverged` begins. */
const NAMED = /^from replica (\d+): /;

/** Knows which states are wrong, and judges whether they are noticed and no other replica is named. */
export class WrongStates {
  /** Stops of replicas that were wrong. */
  stopped = 0;
  /** Hosts that ever had a wrong state, those that were named with one, and of these the ones that still have it; by id. */
  private readonly ever = new Set<number>();
  private readonly everNamed = new Set<number>();
  private readonly stillNamed = new Set<number>();

  /**
   * @param hosts filled before the first call
   * @param listed those that are members
   * @param hasQuorum a quorum of the voters is among these
   */
  constructor(
    private readonly hosts: readonly MarkedHost[],
    private readonly note: (replica: number, text: string) => void,
    private readonly listed: () => readonly MarkedHost[],
    private readonly hasQuorum: (hosts: readonly MarkedHost[]) => boolean,
  ) {}

  /** Call it whenever the state of a replica may have changed. */
  see(replica: number): void {
    const host = this.hosts[replica]!;
    const id = host.hostId ?? NaN;
    const mark = markOf(host);
    if (mark === 0) this.stillNamed.delete(id);
    else if (!this.ever.has(id)) {
      this.ever.add(id);
      this.note(replica, `has a wrong state, marked with ${mark}`);
    }
  }

  /** A replica reports that its state and another one's differ. False if neither ever was wrong. */
  named(by: number, detail: string): boolean {
    const other = Number(NAMED.exec(detail)?.[1] ?? NaN);
    for (const host of this.hosts) {
      const id = host.hostId ?? NaN;
      if ((host.id !== by && id !== other) || markOf(host) === 0) continue;
      this.see(host.id);
      this.stillNamed.add(id);
      this.everNamed.add(id);
    }
    return this.ever.has(this.hosts[by]!.hostId ?? NaN) || this.ever.has(other);
  }

  /**
   * One that is in the wrong is known to be, and is gone when a quorum of the voters has a right state of its own, which they say.
   * One that only took the state of such a replica says nothing of it, and a spare that is filled again and again never compares what
   * it has; neither does one whose log ends where the others' begin, as the next thing that it executes is a state of theirs; and where
   * nobody is right there is nothing to compare with.
   */
  areNoticed(): boolean {
    const hosts = this.listed();
    const right = hosts.filter((host) => markOf(host) === 0);
    const mustStop = this.hasQuorum(right.filter(({ hasOwnState }) => hasOwnState));
    const begin = Math.min(...right.map(({ log }) => log?.baseIndex ?? 0));
    const isNoticed = (host: MarkedHost): boolean =>
      markOf(host) === 0 ||
      (host.log !== undefined && host.log.lastIndex < begin) ||
      (!mustStop && this.stillNamed.has(host.hostId ?? NaN)) ||
      !(host.probe!.wentWrong || host.hasOwnState);
    return hosts.every(({ probe }) => (probe?.nextMark ?? 0) === 0) && (right.length === 0 || hosts.every(isNoticed));
  }

  totals(): { readonly wrong: number; readonly wrongNamed: number; readonly wrongStopped: number } {
    return { wrong: this.ever.size, wrongNamed: this.everNamed.size, wrongStopped: this.stopped };
  }
}

function markOf({ probe }: MarkedHost): number {
  return probe?.mark ?? 0;
}
