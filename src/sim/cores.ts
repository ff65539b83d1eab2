/**
 * What the simulator needs from the cores, and how it gets them. A test that wants to know whether a rule is checked
 * passes factories that return cores with that rule broken; nothing in the shipped code can be switched off.
 */
import { ClientCore } from '../protocol/client/client-core.js';
import type { SessionCore } from '../protocol/client/client-sessions.js';
import type { ClientConfig, ReplicaConfig } from '../protocol/config.js';
import type {
  Chain,
  ClientEvents,
  Hasher,
  Instant,
  Outbox,
  Recovered,
  ReplicaObserver,
  Storage,
} from '../protocol/contract.js';
import type { Membership } from '../protocol/membership/membership.js';
import { ReplicaCore } from '../protocol/replica/replica-core.js';
import type { StateMachine } from '../machine/state-machine.js';

/** The log as the checks read it. */
export interface LogView {
  readonly baseIndex: number;
  readonly lastIndex: number;
  chainHi(index: number): number;
  chainLo(index: number): number;
  timestampHi(index: number): number;
  timestampLo(index: number): number;
  sessionHi(index: number): number;
  sessionLo(index: number): number;
  lane(index: number): number;
  request(index: number): number;
}

export interface ReplicaStateView {
  readonly view: number;
  readonly logView: number;
  readonly status: number;
  readonly incarnation: number;
  readonly log: LogView;
  readonly committed: number;
  readonly executed: number;
  /** It does not know yet what it is (protocol/replica/introduction.ts). */
  readonly starting?: boolean;
  /** Undefined: nothing changes the members. */
  readonly execution?: { readonly membership: Membership };
}

/** What the end of a run compares, beside the machines. */
export interface ExecutionView {
  readonly features: number;
  readonly sessions: { encodedLength(): number; write(target: Uint8Array, offset: number): number };
}

export interface SimulatedReplicaCore {
  start(recovered: Recovered, now: Instant): void;
  receive(bytes: Uint8Array, offset: number, length: number, from: number, now: Instant, owner?: number): void;
  unreachable(replica: number, now: Instant): void;
  tick(now: Instant): void;
  flush(now: Instant): void;
  finish(now: Instant): void;
  persisted(token: number): void;
  takeMembers(members: Uint8Array, now: Instant): void;
  readonly wakeAtUs: number;
  readonly counters: Float64Array;
  /** `isEcho`: its state came from another replica, and does not count yet (protocol/replica/state-digests.ts). */
  readonly state: ReplicaStateView & {
    readonly isEcho: boolean;
    readonly members: Membership;
    readonly removed: boolean;
    readonly starting: boolean;
    nothingIsDecided(): boolean;
    readonly execution: ExecutionView & { readonly membership: Membership };
  };
}

export type SimulatedClientCore = SessionCore & Pick<ClientCore, 'succession'>;

export type CreateReplica = (
  config: ReplicaConfig,
  outbox: Outbox,
  storage: Storage,
  machine: StateMachine,
  hasher: Hasher,
  observer: ReplicaObserver,
  chain?: Chain,
) => SimulatedReplicaCore;
export type CreateClient = (config: ClientConfig, outbox: Outbox, events: ClientEvents) => SimulatedClientCore;

export const createShippedReplica: CreateReplica = (config, outbox, storage, machine, hasher, observer, chain) =>
  new ReplicaCore(config, outbox, storage, machine, hasher, observer, chain);
export const createShippedClient: CreateClient = (config, outbox, events) => new ClientCore(config, outbox, events);
