/**
 * Machines that diverge on purpose: at a drawn time a replica applies one operation wrongly, and the others must notice.
 *
 * What is wrong is a mark in the state that no operation shows (machine-probe.ts). A machine that gives wrong results while nobody has
 * noticed it makes clients see wrong results by its nature, and the check of histories would have to look away from then on. A mark
 * leaves all results right: the history of such a run is judged in full, and the digests of snapshots differ all the same.
 *
 * At most f replicas are wrong or without their log at a time, by a fault. One more may become wrong by taking its state from
 * one that is wrong, which is the protocol's affair.
 *
 * Draws from a generator of its own, as mishaps.ts does.
 */
import type { Limits } from '../protocol/config.js';
import type { EventHandler, EventQueue } from './event-queue.js';
import { Random } from './random.js';

/** Share of the runs that have such a machine. */
const SHARE = 0.2;
/** Where a replica may not go wrong just then, it is tried again after this, µs. */
const TRY_AGAIN_US = 2000;
/** Logs are this short, so that snapshots are taken often: with a log that is kept on disk, and without. */
const LOG_ENTRIES_KEPT = 128;
const LOG_ENTRIES_MEMORY = 1024;

/** A replica and the time at which it goes wrong, µs. */
export interface WrongMachine {
  readonly replica: number;
  readonly atUs: number;
}

/** What the driver can do to a cluster. */
export interface DivergingTargets {
  /** Makes the next operation that it applies come out wrong, marked with `mark`; false when it is down, or one more would be too many. */
  goWrong(replica: number, mark: number): boolean;
}

/**
 * Which machines go wrong in a run: none in most.
 * @param ticks length of the safety phase, µs
 */
export function drawDiverging(
  seed: number,
  allowed: ReadonlySet<string>,
  replicas: number,
  ticks: number,
): readonly WrongMachine[] {
  const random = new Random(seed).fork('diverging');
  const f = (replicas - 1) / 2;
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

/** For people; empty when there are none. */
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

  /** None goes wrong from now on. */
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

  /** How long somebody takes to bring a replica back that stopped itself, µs. */
  returnUs(): number {
    return this.random.logNormal(10_000, 1);
  }
}

/** A replica as far as its state is concerned. */
interface MarkedHost {
  readonly id: number;
  /** Undefined until it begins for the first time. */
  readonly probe: { readonly mark: number; readonly nextMark: number; readonly wentWrong: boolean } | undefined;
  /** It says what its state is: it has one, and not from another replica. */
  readonly hasOwnState: boolean;
  /** What its log holds; undefined while it is down. */
  readonly log: { readonly baseIndex: number; readonly lastIndex: number } | undefined;
}

/** What the detail of the transition `state-diverged` begins with. */
const NAMED = /^from replica (\d+): /;

/** Knows whose states are wrong, and judges whether they are noticed, and nobody else named. */
export class WrongStates {
  /** Stops of those in the wrong. */
  stopped = 0;
  /** Replicas that had a wrong state at any time, those that were named with one, and those of them that still have it. */
  private readonly ever = new Set<number>();
  private readonly everNamed = new Set<number>();
  private readonly stillNamed = new Set<number>();

  /** @param hosts filled when the first call comes */
  constructor(
    private readonly hosts: readonly MarkedHost[],
    private readonly note: (replica: number, text: string) => void,
  ) {}

  /** Call whenever the state of a replica may have changed. */
  see(replica: number): void {
    const mark = markOf(this.hosts[replica]!);
    if (mark === 0) this.stillNamed.delete(replica);
    else if (!this.ever.has(replica)) {
      this.ever.add(replica);
      this.note(replica, `has a wrong state, marked with ${mark}`);
    }
  }

  /** A replica says that its state and another one's differ. False when neither ever was wrong. */
  named(by: number, detail: string): boolean {
    const other = Number(NAMED.exec(detail)?.[1] ?? NaN);
    for (const host of this.hosts) {
      const { id } = host;
      if ((id !== by && id !== other) || markOf(host) === 0) continue;
      this.see(id);
      this.stillNamed.add(id);
      this.everNamed.add(id);
    }
    return this.ever.has(by) || this.ever.has(other);
  }

  /**
   * One that is in the wrong is known to be, and is gone when `f + 1` of the others have a right state of their own, which they say.
   * One that only took the state of such a replica says nothing of it, and a spare that is filled again and again never compares what
   * it has; neither does one whose log ends where the others' begin, as the next thing that it executes is a state of theirs; and where
   * nobody is right there is nothing to compare with.
   */
  areNoticed(): boolean {
    const right = this.hosts.filter((host) => markOf(host) === 0);
    const mustStop = right.filter(({ hasOwnState }) => hasOwnState).length > (this.hosts.length - 1) / 2;
    const begin = Math.min(...right.map(({ log }) => log?.baseIndex ?? 0));
    const isNoticed = (host: MarkedHost): boolean =>
      markOf(host) === 0 ||
      (host.log !== undefined && host.log.lastIndex < begin) ||
      (!mustStop && this.stillNamed.has(host.id)) ||
      !(host.probe!.wentWrong || host.hasOwnState);
    return (
      this.hosts.every(({ probe }) => (probe?.nextMark ?? 0) === 0) &&
      (right.length === 0 || this.hosts.every(isNoticed))
    );
  }

  totals(): { readonly wrong: number; readonly wrongNamed: number; readonly wrongStopped: number } {
    return { wrong: this.ever.size, wrongNamed: this.everNamed.size, wrongStopped: this.stopped };
  }
}

function markOf({ probe }: MarkedHost): number {
  return probe?.mark ?? 0;
}
