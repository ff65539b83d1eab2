/**
 * Starts without a memory: a cluster whose replicas all begin with empty disks, each in its own time, with clients that
 * ask at once; and replicas that later lose their whole directory, promises included.
 *
 * Both obey the rule of all faults: never more than f replicas without their log at a time. A replica that has not
 * begun has none.
 */
import { Probe, ProbeReply } from '../wire/messages.js';
import type { FirstStart } from '../protocol/contract.js';
import type { EventHandler, EventQueue } from './event-queue.js';
import type { Hold, HoldMode } from './network.js';
import type { Random } from './random.js';

/** The messages of a first start. */
const INTRODUCTIONS: ReadonlySet<number> = new Set([Probe.type, ProbeReply.type]);
/** If a loss would be one too many, it is tried again after this. */
const AGAIN_US = 5_000;

export interface FirstStarts {
  /** By replica. At most f start after the safety phase; the others must begin without these. */
  readonly startsAtUs: readonly number[];
  /** Directed paths between replicas on which introductions are lost or late at first, and until when. */
  readonly paths: readonly {
    readonly from: number;
    readonly to: number;
    readonly mode: HoldMode;
    readonly untilUs: number;
  }[];
  /** Processes that are killed meanwhile, and start again with the content of their disks. */
  readonly kills: readonly { readonly replica: number; readonly atUs: number; readonly downUs: number }[];
}

export interface DirectoryLoss {
  readonly replica: number;
  readonly atUs: number;
  readonly downUs: number;
  /** `ask`: the operator says nothing about it at the next start. */
  readonly first: FirstStart;
}

/** What the driver can do to a cluster. */
export interface BeginningTargets {
  /** A process starts for the first time. */
  begin(replica: number): void;
  isUp(replica: number): boolean;
  crash(replica: number, hostCrash: boolean, downUs: number): void;
  /** A replica stops and loses everything on its disk. False if it is down, or if that would lose too many logs. */
  loseDirectory(replica: number, downUs: number, first: FirstStart): boolean;
  hold(from: number, to: number, types: ReadonlySet<number>, mode: HoldMode): Hold;
  letGo(hold: Hold): void;
}

export function drawFirstStarts(random: Random, replicas: number, ticks: number): FirstStarts {
  const spreadUs = logUniform(random, 100, 150_000);
  const startsAtUs = Array.from({ length: replicas }, () => spreadUs * random.unit());
  const absent = random.chance(0.15) ? random.between(1, (replicas - 1) / 2) : 0;
  for (let i = 0; i < absent; i++) startsAtUs[random.below(replicas)] = ticks + random.between(100_000, 2_000_000);
  const share = random.pick([0, 0.2, 0.5]);
  const paths: FirstStarts['paths'][number][] = [];
  for (let from = 0; from < replicas; from++) {
    for (let to = 0; to < replicas; to++) {
      if (from === to || !random.chance(share)) continue;
      paths.push({ from, to, mode: random.pick(['lose', 'keep', 'copy']), untilUs: logUniform(random, 1000, 300_000) });
    }
  }
  const kills = Array.from({ length: random.pick([0, 1, 3]) }, () => ({
    replica: random.below(replicas),
    atUs: logUniform(random, 100, 300_000),
    downUs: random.logNormal(10_000, 1.2),
  }));
  return { startsAtUs, paths, kills };
}

export function drawDirectoryLosses(random: Random, replicas: number, ticks: number): DirectoryLoss[] {
  return Array.from({ length: random.between(1, 3) }, () => ({
    replica: random.below(replicas),
    atUs: ticks * random.unit(),
    downUs: random.logNormal(10_000, 1.2),
    first: random.chance(0.4) ? 'ask' : 'log-lost',
  }));
}

function logUniform(random: Random, low: number, high: number): number {
  return low * (high / low) ** random.unit();
}

export function describeFirstStarts({ startsAtUs, paths, kills }: FirstStarts): string {
  const ms = (us: number): string => (us / 1000).toFixed(us < 10_000 ? 2 : 0);
  const cut = paths.map(({ from, to, mode, untilUs }) => `${from}>${to} ${mode} ${ms(untilUs)}`).join(' ');
  const killed = kills.map(({ replica, atUs, downUs }) => `r${replica} at ${ms(atUs)} for ${ms(downUs)}`).join(' ');
  return `at ${startsAtUs.map((us, replica) => `r${replica} ${ms(us)}`).join(' ')} ms${cut === '' ? '' : `, introductions ${cut}`}${killed === '' ? '' : `, killed ${killed}`}`;
}

export function describeDirectoryLosses(losses: readonly DirectoryLoss[]): string {
  return losses
    .map(({ replica, atUs, first }) => `r${replica} at ${(atUs / 1000).toFixed(0)} ms, then ${first}`)
    .join(' ');
}

export class BeginningDriver implements EventHandler {
  private safety = true;

  constructor(
    private readonly queue: EventQueue,
    private readonly starts: FirstStarts | undefined,
    private readonly losses: readonly DirectoryLoss[] | undefined,
    private readonly targets: BeginningTargets,
  ) {}

  /** Replicas ask who they are, as in real hosts. */
  get asks(): boolean {
    return this.starts !== undefined || this.losses !== undefined;
  }

  /** The processes start now, or at their times. */
  start(replicas: number): void {
    const { starts, losses, targets } = this;
    if (starts === undefined) {
      for (let replica = 0; replica < replicas; replica++) targets.begin(replica);
    } else {
      starts.startsAtUs.forEach((atUs, replica) => this.at(atUs, () => targets.begin(replica)));
      for (const { from, to, mode, untilUs } of starts.paths) {
        const hold = targets.hold(from, to, INTRODUCTIONS, mode);
        this.at(untilUs, () => {
          if (this.safety) targets.letGo(hold);
        });
      }
      for (const { replica, atUs, downUs } of starts.kills) {
        this.at(atUs, () => {
          if (this.safety) targets.crash(replica, false, downUs);
        });
      }
    }
    for (const loss of losses ?? []) this.at(loss.atUs, () => this.lose(loss));
  }

  /** The faults end; replicas with a later start still start. */
  faultsEnd(): void {
    this.safety = false;
  }

  handle(_kind: number, payload: unknown): void {
    (payload as () => void)();
  }

  private lose(loss: DirectoryLoss): void {
    if (!this.safety || this.targets.loseDirectory(loss.replica, loss.downUs, loss.first)) return;
    this.at(this.queue.nowUs + AGAIN_US, () => this.lose(loss));
  }

  private at(us: number, action: () => void): void {
    this.queue.schedule(Math.max(us, this.queue.nowUs), this, 0, action);
  }
}
