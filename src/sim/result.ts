/** The result of one simulator run. */
import type { HistoryEvent } from './history.js';
import type { InvariantName } from './violation.js';

export interface SimulationTotals {
  /** Messages that reached a replica's core. */
  messages: number;
  datagrams: number;
  /** Sent in the previous version of the wire. */
  previousVersion: number;
  /** Withheld from clients that had proven nothing. */
  withheld: number;
  corrupted: number;
  commits: number;
  fastCommits: number;
  unknown: number;
  /** Views that were started. */
  views: number;
  /** Epochs that began beside the first. */
  epochs: number;
  /** Other voters that an operator asked for while a replica was cut off in part. */
  askedDuringCuts: number;
  crashes: number;
  logsLost: number;
  /** Whole directories, promises included. */
  directoriesLost: number;
  /** Replicas that stopped because others remembered more of them than they did themselves. */
  forgotten: number;
  /** Stops because the members list another directory under that id. */
  refused: number;
  repairs: number;
  /** Requests held back until their timestamp was due. */
  held: number;
  rollbacks: number;
  snapshotsInstalled: number;
  /** Sessions that clients had and lost, because the cluster had evicted them. */
  sessionsLost: number;
  /** Sessions of which a lane had used most of its request numbers, and that another one followed. */
  sessionsRenewed: number;
  /** Length of the chosen log. */
  chosen: number;
  /** Messages that an enemy sent. */
  enemy: number;
  /** Datagrams to an address that its endpoint had left. */
  astray: number;
  /** Datagrams lost because they were longer than their path carries. */
  tooLong: number;
  /**
   * Replicas that had a wrong state; those of them that were named by another one, or named another; and stops of wrong
   * replicas.
   */
  wrong: number;
  wrongNamed: number;
  wrongStopped: number;
  /** Runs in which an operator switched features on in the middle: 0 or 1. */
  switched: number;
  /** How often replicas refused to switch members on, because a listed host spoke an older version. */
  switchesRefused: number;
}

export interface SimulationFailure {
  readonly invariant: InvariantName;
  readonly detail: string;
  /** Virtual time, µs. */
  readonly tick: number;
  /** State of every replica and client when it was noticed. */
  readonly cluster: readonly string[];
  readonly stack: string;
}

export interface SimulationResult {
  readonly seed: number;
  readonly replicas: number;
  readonly ticks: number;
  readonly plan: string;
  readonly failure: SimulationFailure | undefined;
  /** Set if the checker could not decide the linearizability of the history within its bound; all other checks held. */
  readonly undecided: string | undefined;
  readonly totals: SimulationTotals;
  /** Over every datagram delivered, with its time and ends: equal runs have equal digests. */
  readonly digest: string;
  /** Ticks that the liveness phase took; 0 if it was not reached. */
  readonly recoveryTicks: number;
  /** Empty where the clients used the store at level 1, which is judged by its log. */
  readonly history: readonly HistoryEvent[];
}
