/**
 * Rules of epochs, broken one at a time as in mutations.ts: those of the model of a cluster whose voters change
 * (model/reconfig), under its names, as far as a run can show them. The rules of one epoch that hold across epochs as well
 * are broken by mutations.ts: `MEMBER_FAULTS` finds them here. `overflow`, which hardly any run shows, has a script in
 * test/protocol/epochs.test.ts.
 */
import { Configuration, EPOCH_VIEWS } from '../../src/protocol/configuration.js';
import type { HardState } from '../../src/protocol/contract.js';
import { configurationsOf } from '../../src/protocol/membership/configurations.js';
import { count } from '../../src/protocol/masks.js';
import type { ListedHost } from '../../src/protocol/membership/membership.js';
import type { ReplicaCore } from '../../src/protocol/replica/replica-core.js';
import type { FaultName } from '../../src/sim/faults.js';
import { ReplicaStatus, Sync } from '../../src/wire/messages.js';
import { WIRE_VERSION } from '../../src/wire/versions.js';
import { readI32 } from '../../src/wire/u64.js';
import { force, type Mutation } from './mutation.js';
import { MUTATIONS } from './mutations.js';

/** Faults of the runs in which these mutations are looked for. */
export const MEMBER_FAULTS: readonly FaultName[] = [
  'members',
  'crash',
  'view-change-crash',
  'partition',
  'pause',
  'loss',
  'reorder',
  'slow-link',
  'ambush',
];

const epochOf = (view: number): number => Math.floor(view / EPOCH_VIEWS);

/** Votes are enough by another rule than C3. @param isEnough of the slots that voted; `before` if it is another epoch's log */
function enough(
  core: ReplicaCore,
  isEnough: (voted: number, own: Configuration, before: Configuration | undefined) => boolean,
): void {
  const start = core['viewChanges']['viewStart'];
  const { views } = core.state;
  const right = start['hasEnough'];
  start['hasEnough'] = () => {
    const own = views.of(core.state.view);
    if (own === undefined || own.epoch === 0) return right.call(start);
    let voted = 0;
    let newest = -1;
    for (const { from, logView } of start['votes'].values()) {
      voted |= 1 << from;
      newest = Math.max(newest, logView);
    }
    return isEnough(voted, own, views.of(newest) === own ? undefined : views.before(own));
  };
}

const both = (voted: number, own: Configuration, before: Configuration | undefined, less: number): boolean =>
  count(voted & own.voters) >= own.votes &&
  (before === undefined || count(voted & before.voters) >= before.votes - less);

function voteWithoutPromise(core: ReplicaCore): void {
  const promises = core['viewChanges']['promises'];
  const { state } = core;
  const { promise } = promises;
  promises.promise = (view, ...rest) => {
    const of = state.views.of(view);
    if (of === undefined || of === state.configuration || of.primary(view) === state.id || !state.isMember) {
      promise.call(promises, view, ...rest);
      return;
    }
    const { view: present, status } = state;
    force(state, { view, status: ReplicaStatus.viewChange });
    promises['sender'].vote(of.primary(view));
    force(state, { view: present, status });
  };
}

function forgetEpoch(core: ReplicaCore): void {
  const { state } = core;
  const right = Object.getOwnPropertyDescriptor(Object.getPrototypeOf(state), 'hardState')!.get!;
  Object.defineProperty(state, 'hardState', {
    get: (): HardState => {
      const hardState = right.call(state) as HardState;
      const { view, logView } = hardState;
      return logView >= 0 && epochOf(view) > epochOf(logView) ? { ...hardState, view: logView } : hardState;
    },
  });
}

/**
 * A change that was executed counts at once, committed or not. What is stored are the members that are committed. The
 * primary does not wait for the disks of hosts first, which is a matter of speed, and hides the broken rule.
 */
function actWhenAppended(core: ReplicaCore): void {
  const { state } = core;
  const known = state['known'];
  const { follow } = known;
  known.follow = (isCommitted) => {
    const { membership } = state.execution;
    if (membership.index > known.present.index) state.views.learn(configurationsOf(membership));
    return follow.call(known, isCommitted);
  };
  const better = core['suspicion']['better'];
  const inNextEpoch = better['inNextEpoch'];
  better['inNextEpoch'] = (now) => {
    better['decided'] = state.views.newest.epoch;
    better['decidedIn'] = state.view;
    better['decidedSync'] = -1;
    better['epochUs'] = now.monotonicUs;
    better['decidedUs'] = -Infinity;
    return inNextEpoch.call(better, now);
  };
}

function joinWithoutLog(core: ReplicaCore): void {
  const start = core['viewChanges']['viewStart'];
  const { installation } = start;
  const right = installation.start;
  installation.start = (target, now) => {
    const { state } = core;
    if (state.status === ReplicaStatus.recovering && state.log.lastIndex === 0) start['installed'](target, now, false);
    else right.call(installation, target, now);
  };
}

/** A joiner takes itself for the voter of epoch 0 that had its slot, as long as it never was started before. */
function takeSlotForHost(core: ReplicaCore): void {
  const { state } = core;
  const { views } = state;
  const { restore } = views;
  views.restore = (view, started) => {
    if (view === 0 && started > 0 && state.incarnation === 1) return;
    restore.call(views, view, started);
  };
}

/** A host that is listed gets the lowest id that no host has, instead of a new one. */
function giveIdAgain({ state }: ReplicaCore): void {
  const { execution } = state;
  const right = execution['executeChange'];
  execution['executeChange'] = (...entry) => {
    const { membership } = execution;
    let nextId = 0;
    while (membership.hosts.some(({ id }) => id === nextId)) nextId++;
    const before = { ...membership, nextId };
    execution.membership = before;
    const isOne = right.apply(execution, entry);
    if (execution.membership === before) execution.membership = membership;
    (execution.membership.hosts as ListedHost[]).sort((a, b) => a.id - b.id);
    return isOne;
  };
}

/** Whose word counts about a state: any f + 1 hosts, whether they vote or not. */
function letAnyHostDecide(core: ReplicaCore): void {
  const digests = core.divergence['digests'];
  const right = digests['judge'];
  digests['judge'] = (...state) => {
    const { prototype } = Configuration;
    const { hasQuorum } = prototype;
    prototype.hasQuorum = function (slots) {
      return count(slots) > this.f;
    };
    try {
      right.apply(digests, state);
    } finally {
      prototype.hasQuorum = hasQuorum;
    }
  };
}

/** Views are compared by their counters: one of the old epoch is entered behind a promise for the next. */
function compareCounters(core: ReplicaCore): void {
  const { state } = core;
  const viewChanges = core['viewChanges'];
  const right = viewChanges.onSync;
  viewChanges.onSync = (bytes, o, from, now) => {
    const view = readI32(bytes, o + Sync.at.view);
    const isOlder = epochOf(view) < epochOf(state.view) && state.logView === view;
    if (isOlder && state.status === ReplicaStatus.viewChange && view % EPOCH_VIEWS >= state.view % EPOCH_VIEWS) {
      force(state, { view, status: ReplicaStatus.normal });
      state.views.enter(view);
      force(state, {});
      return false;
    }
    return right.call(viewChanges, bytes, o, from, now);
  };
}

export const MEMBER_MUTATIONS: readonly Mutation[] = [
  {
    name: 'newonly',
    breaks: 'votes of the new configuration are enough (C3)',
    replica: (core) => enough(core, (voted, own) => count(voted & own.voters) >= own.votes),
  },
  {
    name: 'oldonly',
    breaks: 'votes of the old configuration are enough (C3)',
    replica: (core) =>
      enough(core, (voted, own, before) => {
        const of = before ?? own;
        return count(voted & of.voters) >= of.votes;
      }),
  },
  {
    name: 'fewold',
    breaks: 'one vote less of the old configuration is enough (C3)',
    replica: (core) => enough(core, (voted, own, before) => both(voted, own, before, 1)),
  },
  {
    name: 'anyvoter',
    breaks: 'votes count whoever casts them (C3)',
    replica: (core) => {
      const { views } = core.state;
      views.mayVote = (view) => views.of(view) !== undefined;
      enough(core, (voted, own, before) => count(voted) >= Math.max(own.votes, before?.votes ?? 0));
    },
  },
  {
    name: 'oldacks',
    breaks: 'a voter that voted for a view of the next epoch acknowledges in the old one',
    replica: voteWithoutPromise,
  },
  {
    name: 'append',
    breaks: 'an epoch may begin when its entry is executed, not committed (C2)',
    replica: actWhenAppended,
  },
  {
    name: 'epochvolatile',
    breaks: 'a crash forgets the epoch of the promise (C5)',
    replica: forgetEpoch,
  },
  {
    name: 'nocatchup',
    breaks: 'a host that joins takes part in a view without its starting log (C6)',
    replica: joinWithoutLog,
  },
  {
    name: 'slot-voter',
    breaks: 'a host that joins votes in epoch 0 as the host that had its slot (C6)',
    replica: takeSlotForHost,
  },
  {
    name: 'counter',
    breaks: 'views are compared by their counters, not by their epochs first (C5)',
    replica: compareCounters,
  },
  {
    name: 'reuseid',
    breaks: 'the id of a host that left is given again (C7)',
    replica: giveIdAgain,
  },
  {
    name: 'anyhost',
    breaks: 'f + 1 hosts decide whose state is wrong, whether they vote or not',
    replica: letAnyHostDecide,
  },
  {
    name: 'older-host-listed',
    breaks: 'members are switched on though a listed host speaks a version that knows of none',
    replica: ({ state }) => {
      state.out.speaks = () => WIRE_VERSION;
    },
  },
  {
    name: 'otherdirectory',
    breaks: 'nobody says that the log lists another directory under an id (C7)',
    replica: ({ state }) => {
      state.mayBeNamed = () => false;
    },
  },
  ...(
    [
      ['rejoin', 'acknowledge-with-lost-log'],
      ['emptyvote', 'vote-with-lost-log'],
      ['spare', 'choose-spare'],
    ] as const
  ).map(([name, same]): Mutation => ({ ...MUTATIONS.find((one) => one.name === same)!, name })),
];
