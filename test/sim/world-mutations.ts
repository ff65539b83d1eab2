/**
 * Rules that a benign world never tested, broken one at a time as in mutations.ts. Most are rules of liveness: they are
 * noticed because the cluster stands still.
 */
import { ReplicaCore } from '../../src/protocol/replica/replica-core.js';
import type { Chain } from '../../src/protocol/contract.js';
import type { FaultName } from '../../src/sim/faults.js';
import type { InvariantName } from '../../src/sim/violation.js';
import { createShippedReplica, type CreateReplica } from '../../src/sim/cores.js';
import { force } from './mutation.js';
import { Plea, Reconcile, RejectReason, Request } from '../../src/wire/messages.js';
import { readI32, writeI32 } from '../../src/wire/u64.js';

export interface WorldMutation {
  readonly name: string;
  readonly breaks: string;
  /** The run that notices it: parts of the world in addition to the faults of a benign one. */
  readonly seed: number;
  readonly replicas: number;
  readonly world: readonly FaultName[];
  readonly noticed: InvariantName;
  readonly break: (core: ReplicaCore) => void;
  /** Longest datagram that the core is told, instead of the plan's. */
  readonly datagramBytes?: number;
}

export function broken(mutation: Pick<WorldMutation, 'break' | 'datagramBytes'>): CreateReplica {
  return (config, ...rest) => {
    const core = createShippedReplica(
      mutation.datagramBytes === undefined ? config : { ...config, datagramBytes: mutation.datagramBytes },
      ...rest,
    );
    if (!(core instanceof ReplicaCore)) throw new TypeError('a mutation is made for the core that ships');
    mutation.break(core);
    return core;
  };
}

export const WORLD_MUTATIONS: readonly WorldMutation[] = [
  {
    name: 'ahead-of-clock-alone',
    breaks: 'too far ahead is measured by the clock alone, wherever the log is',
    seed: 12,
    replicas: 3,
    world: ['clock-history'],
    noticed: 'stuck',
    break: clockAlone,
  },
  {
    name: 'window-stays',
    breaks: 'answers to a probe are waited for as long in every round',
    seed: 163,
    replicas: 3,
    world: ['distance'],
    noticed: 'stuck',
    break: windowStays,
  },
  {
    name: 'state-digest-ignored',
    breaks: 'what others say of their states is not compared',
    seed: 40,
    replicas: 5,
    world: ['diverge'],
    noticed: 'divergence-noticed',
    break: ignoreDigests,
  },
  {
    name: 'plea-mask-ignored',
    breaks: 'whom a client does not hear counts for nothing',
    seed: 8,
    replicas: 5,
    world: ['one-way'],
    noticed: 'stuck',
    break: ignoreMask,
  },
  {
    name: 'transfer-beyond-datagram',
    breaks: 'messages of a transfer are longer than datagrams may be',
    seed: 8,
    replicas: 3,
    world: ['path-limit'],
    noticed: 'stuck',
    break: () => {},
    datagramBytes: 60_000,
  },
  {
    name: 'kept-at-its-word',
    breaks: 'a request that is too far ahead is kept, and put back, under its own timestamp',
    seed: 37,
    replicas: 5,
    world: ['clock-history', 'enemy', 'distance'],
    noticed: 'stuck',
    break: keepAtItsWord,
  },
  {
    name: 'ahead-at-once',
    breaks: 'a request that is ahead by more than is held is appended at once',
    seed: 21,
    replicas: 3,
    world: ['ahead'],
    noticed: 'not-ahead',
    break: appendAhead,
  },
  {
    name: 'foreign-sessions',
    breaks: 'requests of a session are taken from whoever sends them',
    seed: 71,
    replicas: 3,
    world: ['enemy'],
    noticed: 'stuck',
    break: takeForeign,
  },
  {
    name: 'alone-takes-requests',
    breaks: 'a replica that began takes requests before others have begun',
    seed: 1286,
    replicas: 3,
    world: ['first-start'],
    noticed: 'stuck',
    break: takeAlone,
  },
  {
    name: 'unknown-begins-as-new',
    breaks: 'a replica that lost its directory takes its empty log for whole',
    seed: 3,
    replicas: 3,
    world: ['directory-lost'],
    noticed: 'chosen-stable',
    break: beginAsNew,
  },
];

function takeAlone(core: ReplicaCore): void {
  Object.defineProperty(core.state, 'alone', { get: () => false, set: () => {} });
}

function beginAsNew(core: ReplicaCore): void {
  const { state } = core;
  state.beginWithoutMemory = (_view, incarnation) => {
    state.beginNew();
    force(state, { incarnation });
  };
}

/**
 * Breaks a core in ways that only a comparison shows: noticed by what the whole core does in the same run, not by an
 * invariant alone.
 */
export interface Comparison {
  readonly name: string;
  readonly breaks: string;
  readonly break: (core: ReplicaCore) => void;
}

export const COMPARED = {
  otherChain: {
    name: 'other-chain-heard',
    breaks: 'a replica that chains its log under another secret is listened to',
    break: hearOtherChains,
  },
  deafPrimary: { name: 'deaf-primary-leads', breaks: 'a primary that hears too few goes on', break: leadOn },
  overtaken: {
    name: 'overtaken-is-dropped',
    breaks: 'messages of a transfer are taken in their order only',
    break: dropOvertaken,
  },
} as const satisfies Readonly<Record<string, Comparison>>;

/** Core of that replica, chained under another secret when it is `odd`. */
export function withOddChain(odd: number, chain: Chain, mutation?: Comparison): CreateReplica {
  return (config, outbox, storage, machine, hasher, observer, given) => {
    const core = createShippedReplica(
      config,
      outbox,
      storage,
      machine,
      hasher,
      observer,
      config.id === odd ? chain : given,
    );
    if (!(core instanceof ReplicaCore)) throw new TypeError('a mutation is made for the core that ships');
    mutation?.break(core);
    return core;
  };
}

function hearOtherChains(core: ReplicaCore): void {
  core['otherChains'].refuses = () => false;
}

function clockAlone(core: ReplicaCore): void {
  const restamping = core['requests']['restamping'];
  const restamp = restamping.restamp;
  restamping.restamp = (arrived, reason, now) =>
    reason !== RejectReason.tooFarAhead && restamp.call(restamping, arrived, reason, now);
}

function windowStays(core: ReplicaCore): void {
  core['suspicion']['patience'].windowUs = () => core.state.config.timings.probeWindowUs;
}

function ignoreDigests(core: ReplicaCore): void {
  core['divergence'].onStateDigest = () => {};
}

function leadOn(core: ReplicaCore): void {
  core['suspicion']['verdict']['stopLeading'] = () => {};
}

function dropOvertaken(core: ReplicaCore): void {
  core['viewChanges'].installation['transfer']['early'].keep = () => {};
}

function ignoreMask(core: ReplicaCore): void {
  const suspicion = core['suspicion'];
  const onPlea = suspicion.onPlea;
  suspicion.onPlea = (bytes, o, ...rest) => {
    writeI32(bytes, o + Plea.at.unreachable, 0);
    onPlea.call(suspicion, bytes, o, ...rest);
  };
}

function keepAtItsWord(core: ReplicaCore): void {
  const repair = core['repair'];
  const remember = repair.remember;
  const requests = core['requests'];
  const append = requests['append'];
  let own: readonly [number, number] = [0, 0];
  requests['append'] = (arrived, misplaced, now) => {
    own = [arrived.timestampHi, arrived.timestampLo];
    append.call(requests, arrived, misplaced, now);
  };
  repair.remember = (request) => {
    if ((request.timestampHi | request.timestampLo) === 0) [request.timestampHi, request.timestampLo] = own;
    remember.call(repair, request);
  };
}

function appendAhead(core: ReplicaCore): void {
  const requests = core['requests'];
  const placeInTime = requests['placeInTime'];
  requests['placeInTime'] = (arrived, now) => {
    const misplaced = placeInTime.call(requests, arrived, now);
    return misplaced === RejectReason.tooFarAhead && arrived.slackUs > -100_000 ? 0 : misplaced;
  };
}

/** Accepts every sender as the owner of the session. */
function takeForeign(core: ReplicaCore): void {
  const requests = core['requests'];
  const { onRequest, onReconcile } = requests;
  const ownerOf = (bytes: Uint8Array, at: number, owner: number): number =>
    core.state.execution.sessions.find(readI32(bytes, at), readI32(bytes, at + 4))?.nonceHi ?? owner;
  requests.onRequest = (bytes, o, from, owner, now, heldUs) =>
    onRequest.call(requests, bytes, o, from, ownerOf(bytes, o + Request.at.session, owner), now, heldUs);
  requests.onReconcile = (bytes, o, from, owner, now) =>
    onReconcile.call(requests, bytes, o, from, ownerOf(bytes, o + Reconcile.at.session, owner), now);
}
