/** The parts of a run, as they are seen by what is done to it, what is noticed in it, and what judges it. */
import type { Chain } from '../protocol/contract.js';
import { count } from '../protocol/masks.js';
import { configurationsOf } from '../protocol/membership/configurations.js';
import type { AmbushDriver } from './ambush.js';
import type { BeginningDriver } from './beginnings.js';
import type { Checks } from './checks.js';
import type { ClientHost } from './client-host.js';
import type { SimulatedClock } from './clock.js';
import type { SimulatedDisk } from './disk.js';
import type { DivergingDriver, WrongStates } from './diverging.js';
import type { Enemy } from './enemy.js';
import type { Epochs } from './epochs.js';
import type { EventQueue } from './event-queue.js';
import type { FaultDriver, Plan } from './faults.js';
import type { MemberOperator } from './member-operator.js';
import type { MishapDriver } from './mishaps.js';
import type { Network } from './network.js';
import type { Operator } from './operator.js';
import type { ReplicaHost } from './replica-host.js';
import type { Tally } from './tally.js';
import type { TraceRing, TransitionLog } from './trace.js';
import type { UpgradeDriver } from './upgrade.js';
import type { Workload } from './workload.js';
import type { World } from './world.js';
import type { WorldDriver } from './world-driver.js';

export interface Parts {
  readonly seed: number;
  readonly replicas: number;
  /** Replicas, then clients. */
  readonly endpoints: number;
  /** Length of the safety phase. */
  readonly ticks: number;
  /** The liveness phase must reach its goals within this, ticks. */
  readonly livenessTicks: number;
  readonly plan: Plan;
  readonly world: World;
  readonly queue: EventQueue;
  readonly network: Network;
  /** What its views mean. */
  readonly epochs: Epochs;
  /** Changes who the hosts are; undefined: nobody does. */
  readonly memberOperator: MemberOperator | undefined;
  /** Processes are upgraded meanwhile; undefined: all speak the present version, or the fault `versions` is alone. */
  readonly upgrade: UpgradeDriver | undefined;
  /** By replica. */
  readonly hosts: readonly ReplicaHost[];
  readonly disks: readonly SimulatedDisk[];
  readonly clients: readonly ClientHost[];
  /** By endpoint. */
  readonly clocks: readonly SimulatedClock[];
  readonly workload: Workload;
  readonly enemy: Enemy | undefined;
  readonly operator: Operator | undefined;
  /** What chains the logs in half of the runs, as in a cluster with keys. */
  readonly chain: Chain | undefined;
  readonly driver: FaultDriver;
  readonly ambush: AmbushDriver | undefined;
  readonly mishaps: MishapDriver;
  readonly worldDriver: WorldDriver;
  readonly beginnings: BeginningDriver;
  readonly diverging: DivergingDriver | undefined;
  readonly wrongStates: WrongStates;
  readonly checks: Checks;
  readonly tally: Tally;
  readonly trace: TraceRing | undefined;
  readonly transitions: TransitionLog | undefined;
}

/**
 * True if this host may lose its log too: at most f replicas are without their logs. A host counts from the moment its
 * crash is decided until it is normal again.
 */
export function mayLoseLog(
  { hosts, epochs, memberOperator }: Pick<Parts, 'hosts' | 'epochs' | 'memberOperator'>,
  host: ReplicaHost,
): boolean {
  const lacks = ({ countsAsLost, isMarked }: ReplicaHost): boolean => countsAsLost || isMarked;
  const lost = hosts.filter((other) => other === host || lacks(other)).reduce((mask, { id }) => mask | (1 << id), 0);
  // A change that is executed somewhere may be committed already.
  const memberships = hosts.flatMap(({ core }) => (core === undefined ? [] : [core.state.execution.membership]));
  const asked = memberOperator?.asked;
  return (
    (asked === undefined || count(lost & asked.voters) <= asked.f) &&
    epochs.present().every(({ voters, f }) => count(lost & voters) <= f) &&
    memberships.every((membership) => configurationsOf(membership).every(({ voters, f }) => count(lost & voters) <= f))
  );
}

/** The machine is a host of the cluster, and there. */
export function isListed({ epochs }: Pick<Parts, 'epochs'>, { id: slot, hostId, isBurnt }: ReplicaHost): boolean {
  const { members } = epochs;
  if (members === undefined) return hostId !== undefined;
  return !isBurnt && members.hosts.some((host) => host.slot === slot && host.id === hostId);
}
