/**
 * Carries out the parts of a world that happen at moments: clocks set right, lasting cuts, moves, waits for the
 * processor.
 */
import type { EventHandler, EventQueue } from './event-queue.js';
import { Cut } from './network.js';
import type { Random } from './random.js';
import type { OneWayCut, World } from './world.js';

/** What the driver can do to a cluster. Endpoints are replicas 0…N−1, then clients. */
export interface WorldTargets {
  readonly replicas: number;
  readonly endpoints: number;
  /** The quorum of the highest running view, its primary first; undefined if no view runs. */
  quorum(): readonly number[] | undefined;
  /** Every replica is up and has a log, and no change of the members is open or asked for. */
  allHaveLogs(): boolean;
  /** The voters at present are a cluster without that replica, too. */
  canSpare(replica: number): boolean;
  setBlocked(from: number, to: number, blocked: boolean, cause: number): void;
  setDate(endpoint: number, aheadS: number): void;
  /** Datagrams to the endpoint's old address are lost. */
  move(endpoint: number): void;
  pause(endpoint: number, forUs: number): void;
  note(text: string): void;
}

/** How long others send to a replica's old address before they look up its name again, µs. */
const LOOKUP_MEDIAN_US = 60_000;
const LOOK_AGAIN_US = 2_000;
/** Shortest wait for the processor, µs. */
const WAIT_MIN_US = 5_000;

export class WorldDriver implements EventHandler {
  private cuts: (readonly [number, number])[] = [];
  /** Whom they cut off. */
  private cutOff: number | undefined;
  private safety = true;
  private stopped = false;

  constructor(
    private readonly queue: EventQueue,
    private readonly random: Random,
    private readonly world: World,
    private readonly targets: WorldTargets,
  ) {}

  start(): void {
    const { clocks, oneWay, moveEveryUs, scheduling } = this.world;
    if (clocks !== undefined) {
      for (const endpoint of clocks.endpoints) this.targets.setDate(endpoint, clocks.aheadS);
      if (clocks.rightAtUs !== Infinity) this.later(clocks.rightAtUs, () => this.setClocks());
    }
    if (oneWay !== undefined) {
      this.later(oneWay.fromUs, () => {
        if (!this.safety) return;
        this.cut(oneWay);
        this.later(oneWay.forUs, () => {
          if (this.safety) this.mend();
        });
      });
    }
    if (moveEveryUs !== undefined) this.later(this.random.exponential(moveEveryUs), () => this.moveNext(moveEveryUs));
    if (scheduling !== undefined)
      for (let endpoint = 0; endpoint < this.targets.endpoints; endpoint++) this.waitNext(endpoint);
  }

  /** The other faults end: tolerable ones continue, or begin again. */
  faultsEnd(): void {
    const { clocks, oneWay, moveEveryUs } = this.world;
    this.safety = false;
    this.mend();
    if (clocks !== undefined && clocks.rightAtUs !== Infinity) this.setClocks();
    if (oneWay?.stays === true) this.cutWhenWhole(oneWay);
    // The last move: its new address is not known yet.
    if (moveEveryUs !== undefined) this.move(this.random.below(this.targets.endpoints));
  }

  /** The cluster has worked in spite of it. */
  stop(): void {
    const { targets } = this;
    this.stopped = true;
    this.mend();
    for (let from = 0; from < targets.endpoints; from++)
      for (let to = 0; to < targets.replicas; to++) targets.setBlocked(from, to, false, Cut.moved);
  }

  handle(_kind: number, payload: unknown): void {
    if (!this.stopped) (payload as () => void)();
  }

  private setClocks(): void {
    const { endpoints } = this.world.clocks!;
    this.targets.note(`the clocks of ${endpoints.length} endpoints are set right`);
    for (const endpoint of endpoints) this.targets.setDate(endpoint, 0);
  }

  /** The replica that a cut is about, not those at its other ends: nobody relies on it. */
  isCut(replica: number): boolean {
    return replica === this.cutOff;
  }

  /** There is a cut now. */
  get hasCut(): boolean {
    return this.cutOff !== undefined;
  }

  /** There is a cut, or will be, while the cluster must work. */
  get cutStays(): boolean {
    return !this.safety && !this.stopped && this.world.oneWay?.stays === true;
  }

  /** With lost logs as well it might be one failure more than a cluster survives. */
  private cutWhenWhole(oneWay: OneWayCut): void {
    if (this.targets.allHaveLogs() && this.cut(oneWay)) return;
    this.later(LOOK_AGAIN_US, () => this.cutWhenWhole(oneWay));
  }

  /** False if it would be a cut that stays of a replica that cannot be spared. */
  private cut({ kind, role }: OneWayCut): boolean {
    const { random, targets } = this;
    const quorum = targets.quorum();
    const replica =
      quorum === undefined || role === 'any'
        ? random.below(targets.replicas)
        : role === 'primary'
          ? quorum[0]!
          : (quorum[1] ?? quorum[0]!);
    if (!this.safety && !targets.canSpare(replica)) return false;
    const client = random.between(targets.replicas, targets.endpoints - 1);
    const all = Array.from({ length: targets.endpoints }, (_, endpoint) => endpoint).filter(
      (endpoint) => endpoint !== replica,
    );
    const replicas = all.filter((endpoint) => endpoint < targets.replicas);
    switch (kind) {
      case 'deaf':
        this.cuts = all.map((from) => [from, replica]);
        break;
      case 'deaf to replicas':
        this.cuts = replicas.map((from) => [from, replica]);
        break;
      case 'mute':
        this.cuts = all.map((to) => [replica, to]);
        break;
      case 'a client does not hear':
        this.cuts = [[replica, client]];
        break;
      case 'does not hear a client':
        this.cuts = [[client, replica]];
        break;
      case 'a client cut off from':
        this.cuts = [
          [client, replica],
          [replica, client],
        ];
        break;
      case 'one replica does not hear':
        if (replicas.length > 0) this.cuts = [[replica, random.pick(replicas)]];
    }
    targets.note(
      `a cut that lasts: ${kind}, replica ${replica}; ${this.cuts.map(([from, to]) => `${from}>${to}`).join(' ')}`,
    );
    for (const [from, to] of this.cuts) targets.setBlocked(from, to, true, Cut.oneWay);
    this.cutOff = replica;
    return true;
  }

  private mend(): void {
    for (const [from, to] of this.cuts) this.targets.setBlocked(from, to, false, Cut.oneWay);
    this.cuts = [];
    this.cutOff = undefined;
  }

  private moveNext(everyUs: number): void {
    if (!this.safety) return;
    this.move(this.random.below(this.targets.endpoints));
    this.later(this.random.exponential(everyUs), () => this.moveNext(everyUs));
  }

  /** A client is answered at the address it is heard from; a replica is found again when its name is looked up. */
  private move(endpoint: number): void {
    const { targets, random } = this;
    targets.note(`endpoint ${endpoint} changes its address`);
    if (endpoint >= targets.replicas) {
      targets.move(endpoint);
      return;
    }
    for (let from = 0; from < targets.endpoints; from++) {
      if (from === endpoint) continue;
      targets.setBlocked(from, endpoint, true, Cut.moved);
      this.later(random.logNormal(LOOKUP_MEDIAN_US, 0.7), () => targets.setBlocked(from, endpoint, false, Cut.moved));
    }
  }

  private waitNext(endpoint: number): void {
    const { random, world } = this;
    const { awakeUs, waitMaxUs } = world.scheduling!;
    this.later(random.exponential(awakeUs), () => {
      const waitUs = WAIT_MIN_US * (waitMaxUs / WAIT_MIN_US) ** random.unit();
      this.targets.pause(endpoint, waitUs);
      this.later(waitUs, () => this.waitNext(endpoint));
    });
  }

  private later(afterUs: number, action: () => void): void {
    this.queue.schedule(this.queue.nowUs + afterUs, this, 0, action);
  }
}
