/** Adds up the one-way delays that the client processes of a bench report, over the whole run and second by second. */
import type { TaggedSecond } from '../load/wall-seconds.js';
import { OneWaySum, type OneWayInterval, type OneWayReport } from './figures.js';
import { QUESTIONS_PER_SECOND, type OneWaySecond } from './second.js';

/** Seconds that a report has; those behind them are in its sums. */
export const ONE_WAY_INTERVALS_MAX = 3_600;
/** Seconds that wait for a client process to end them too. */
const WAITING_MAX = 10;

type Sums = Map<number, OneWaySum>;

interface Step {
  readonly total: Sums;
  readonly intervals: OneWayInterval[];
  leftOut: number;
}

export class OneWayTally {
  private readonly steps: Step[] = [];
  /** Ascending, by second. */
  private readonly waiting = new Map<number, Sums>();
  /** By client process, the last second that it has ended. */
  private readonly ended: number[];

  constructor(private readonly clients: number) {
    this.ended = new Array<number>(clients).fill(-Infinity);
  }

  /** Time between two questions of one client process, ms: a host asks as often, however many it has. */
  get everyMs(): number {
    return (this.clients * 1000) / QUESTIONS_PER_SECOND;
  }

  /** A step of a ramp begins. */
  step(): void {
    this.endSeconds(Infinity);
    this.steps.push({ total: new Map(), intervals: [], leftOut: 0 });
  }

  /** Client process `client` has ended a second, or a part of it. Seconds of one process come in order. */
  add(client: number, { second, oneWay = [] }: TaggedSecond): void {
    if (this.steps.length === 0) this.step();
    let waiting = this.waiting.get(second);
    if (waiting === undefined) this.waiting.set(second, (waiting = new Map()));
    addTo(this.steps.at(-1)!.total, oneWay);
    addTo(waiting, oneWay);
    this.ended[client] = second;
    this.endSeconds(Math.min(...this.ended) - 1);
  }

  /** Undefined: that step did not begin. */
  report(step: number): OneWayReport | undefined {
    this.endSeconds(Infinity);
    const found = this.steps[step];
    return (
      found && {
        askedPerSecond: QUESTIONS_PER_SECOND,
        replicas: figuresOf(found.total),
        intervals: found.intervals,
        intervalsLeftOut: found.leftOut,
      }
    );
  }

  private endSeconds(upTo: number): void {
    const seconds = [...this.waiting.keys()].sort((a, b) => a - b);
    seconds.forEach((second, at) => {
      if (second > upTo && seconds.length - at <= WAITING_MAX) return;
      const step = this.steps.at(-1)!;
      if (step.intervals.length === ONE_WAY_INTERVALS_MAX) step.leftOut++;
      else step.intervals.push({ second, replicas: figuresOf(this.waiting.get(second)!) });
      this.waiting.delete(second);
    });
  }
}

function addTo(sums: Sums, seconds: readonly OneWaySecond[]): void {
  for (const second of seconds) {
    let sum = sums.get(second.replica);
    if (sum === undefined) sums.set(second.replica, (sum = new OneWaySum(second.replica)));
    sum.add(second);
  }
}

function figuresOf(sums: Sums): OneWayInterval['replicas'] {
  return [...sums.values()].map((sum) => sum.figures()).sort((a, b) => a.replica - b.replica);
}
