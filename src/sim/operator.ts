/**
 * An operator who switches features on in mid-run, as `jitpaxos features enable` does: a client with one lane, whose
 * only operation names a feature. Like an operator who is not sure, it sends the operation again and again, which must
 * change nothing. A replica may crash around the first time.
 */
import type { Hasher } from '../protocol/contract.js';
import { FEATURE_NAMES, featureOperation, KNOWN_FEATURES, maskOf } from '../protocol/log/features.js';
import type { ClientHost } from './client-host.js';
import type { EventHandler, EventQueue } from './event-queue.js';
import type { WorkloadPlan } from './faults.js';
import type { Datagram } from './network.js';
import { Random } from './random.js';
import { Violation } from './violation.js';
import type { ClientWorkload, Workload, WorkItem } from './workload.js';

/** Mean time between two operations, µs. */
const THINK_US = 30_000;
const ITEM_NAME = 'feature';

const SWITCH = 0;
const CRASH = 1;

/** When a feature is switched on, µs; undefined: not in this run. Only where none is on from the beginning. */
export function drawSwitch(seed: number, allowed: ReadonlySet<string>, ticks: number): number | undefined {
  const random = new Random(seed).fork('feature switch');
  const switches = random.chance(0.5);
  const atUs = random.below(ticks);
  return switches && allowed.has(ITEM_NAME) ? atUs : undefined;
}

/** One lane, and nothing but the features, one after the other. */
export const OPERATOR_PLAN: WorkloadPlan = {
  clients: 1,
  lanes: 1,
  keys: 1,
  thinkUs: THINK_US,
  reads: 0,
  cas: 0,
  increments: 0,
  deletes: 0,
  loggedReads: 0,
};

interface FeatureItem extends WorkItem {
  readonly number: number;
}

/** The operations of the operator. Their outcome says nothing about the machine. */
export class FeatureWorkload implements Workload {
  /** What the operator was told to be on, a mask. */
  on = 0;

  /** @param chain what chains the log */
  constructor(private readonly chain: Hasher) {}

  client(): ClientWorkload<FeatureItem> {
    const bytes = new Uint8Array(64);
    let next = 0;
    return {
      bytes,
      next: () => {
        const number = 1 + (next++ % FEATURE_NAMES.length);
        const operation = featureOperation(number, this.chain);
        bytes.set(operation);
        return { f: ITEM_NAME, quorumRead: false, length: operation.length, number };
      },
      invoked: () => undefined,
      committed: ({ number }) => void (this.on |= maskOf(number)),
      refused: () => {
        throw new Violation('client-result', 'the replicas refuse a feature that they all know');
      },
      lost: () => undefined,
    };
  }

  judge(): undefined {
    return undefined;
  }
}

/** What the operator can do to a cluster, but for its requests. */
export interface OperatorTargets {
  readonly replicas: number;
  crash(replica: number, hostCrash: boolean, downUs: number): void;
  note(text: string): void;
}

export class Operator implements EventHandler {
  private stopped = false;

  constructor(
    private readonly queue: EventQueue,
    private readonly random: Random,
    private readonly atUs: number,
    readonly host: ClientHost,
    private readonly workload: FeatureWorkload,
    private readonly targets: OperatorTargets,
  ) {}

  get endpoint(): number {
    return this.host.endpoint;
  }

  /** All features are on: the operator was told so. */
  get hasSwitched(): boolean {
    return this.workload.on === KNOWN_FEATURES;
  }

  start(): void {
    this.queue.schedule(this.atUs, this, SWITCH, undefined);
  }

  arrive(datagram: Datagram): void {
    this.host.arrive(datagram);
  }

  /** All faults end. */
  heal(): void {
    this.stopped = true;
    this.host.heal();
  }

  handle(kind: number): void {
    const { queue, random, targets } = this;
    if (kind === SWITCH) {
      targets.note('the operator begins to switch features on');
      this.host.start();
      if (random.chance(0.7)) queue.schedule(queue.nowUs + random.exponential(3_000), this, CRASH, undefined);
    } else if (!this.stopped)
      targets.crash(random.below(targets.replicas), random.chance(0.5), random.logNormal(20_000, 1.2));
  }
}
