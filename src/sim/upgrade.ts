/**
 * An upgrade in the middle of a run whose members change: the fault `versions` together with `members`.
 *
 * Some processes speak only the previous version of the wire, which knows of no members. One after another they are
 * stopped, and start with the present one. Meanwhile the operator asks for the feature `membership`, without which no
 * members change: a replica that hears a listed host of the previous version refuses (protocol/replica/who-speaks.ts).
 * Everything draws from a fork of its own.
 */
import type { EventHandler, EventQueue } from './event-queue.js';
import { Random } from './random.js';

/** Share of the runs with both faults. */
const UPGRADES = 0.25;
/** Share of the processes that speak the present version from the beginning. */
const PRESENT = 0.3;
/** Share of the safety phase within which the others follow. */
const UNTIL = 0.5;
/** A process that cannot be stopped now is looked at again after this. */
const AGAIN_US = 10_000;

/** Processes of both versions in the runs of this seed, if both faults may happen. */
export function upgrades(seed: number): boolean {
  return new Random(seed).fork('upgrade').chance(UPGRADES);
}

export interface UpgradeTargets {
  /** Replicas, then clients. */
  readonly endpoints: number;
  /** Stops that process, if it speaks the previous version, and starts it again. False: it has to be tried again. */
  restart(endpoint: number, downUs: number): boolean;
}

export class UpgradeDriver implements EventHandler {
  private readonly random: Random;
  /** When each endpoint's version changes, µs; 0: it is the present one from the beginning. */
  private readonly atUs: readonly number[];

  /** @param first endpoints 0 … first−1 may be of the previous version at first, and clients from `clients` on */
  constructor(
    private readonly queue: EventQueue,
    seed: number,
    private readonly ticks: number,
    first: number,
    clients: number,
    private readonly targets: UpgradeTargets,
  ) {
    this.random = new Random(seed).fork('upgrades');
    const { random } = this;
    this.atUs = Array.from({ length: targets.endpoints }, (_, endpoint) => {
      const atUs = random.chance(PRESENT) ? 0 : 1 + random.below(UNTIL * ticks);
      return endpoint < first || endpoint >= clients ? atUs : 0;
    });
  }

  start(): void {
    for (const [endpoint, atUs] of this.atUs.entries()) if (atUs > 0) this.queue.schedule(atUs, this, 0, endpoint);
  }

  /** A process that starts at this endpoint now speaks the present version. */
  isPresent(endpoint: number): boolean {
    return this.queue.nowUs >= (this.atUs[endpoint] ?? 0);
  }

  /** For display. */
  describe(): string {
    return `upgraded ${this.atUs.map((us) => (us / 1000).toFixed(0)).join(' ')} ms, of ${this.ticks / 1000}`;
  }

  handle(_kind: number, payload: unknown): void {
    const endpoint = payload as number;
    if (this.targets.restart(endpoint, this.random.logNormal(5_000, 1))) return;
    this.queue.schedule(this.queue.nowUs + AGAIN_US, this, 0, endpoint);
  }
}
