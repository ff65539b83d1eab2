/**
 * Ways to break the rules of view changes, of entries that are taken back, and of a return after a crash (mutation.ts).
 */
import type { HardState } from '../../src/protocol/contract.js';
import type { ReplicaCore } from '../../src/protocol/replica/replica-core.js';
import { NO_LOG } from '../../src/protocol/replica/replica-state.js';
import { MachineProbe } from '../../src/sim/machine-probe.js';
import { ReplicaStatus, Request, Vote } from '../../src/wire/messages.js';
import { readI32, readIndex } from '../../src/wire/u64.js';
import { force, type Mutation } from './mutation.js';

export const VIEW_MUTATIONS: readonly Mutation[] = [
  // View changes.
  {
    name: 'acknowledge-after-promise',
    breaks: 'a replica that promised a view goes on acknowledging in the old one',
    replica: acknowledgeAfterPromise,
  },
  {
    name: 'two-starts',
    breaks: 'a late vote makes the primary start its view again from another log (as published)',
    replica: twoStarts,
  },
  { name: 'start-with-f-votes', breaks: 'a view starts from the votes of f replicas', replica: startWithFVotes },
  { name: 'choose-spare', breaks: "of the votes with the highest logView, a spare's is chosen", replica: chooseSpare },
  { name: 'choose-by-length', breaks: 'the longest log is chosen, whatever its logView', replica: chooseByLength },
  { name: 'choose-own', breaks: 'the new primary keeps its own log, whatever the votes say', replica: chooseOwn },
  {
    name: 'install-without-chain',
    breaks: 'the log to join a view with is known by its length, not by its chain',
    replica: installWithoutChain,
  },
  {
    name: 'install-in-pieces',
    breaks: 'a replica gives up its own log before it has the whole of the new one',
    replica: installInPieces,
  },
  {
    name: 'skip-rollback',
    breaks: 'what was executed of entries that leave the log stays executed',
    replica: skipRollback,
  },

  // Crash and return.
  {
    name: 'undo-forgets-an-entry',
    breaks: 'the machine undoes all but the oldest of the entries that are taken back',
    replica: undoForgetsAnEntry,
  },
  {
    name: 'undo-forgets-sessions',
    breaks: 'of the oldest entry that is taken back the session table keeps what it executed',
    replica: undoForgetsSessions,
  },
  {
    name: 'forget-durable-view',
    breaks: 'a replica returns in the view whose log it has, without its promise',
    replica: forgetDurableView,
  },
  {
    name: 'speak-before-durable',
    breaks: 'messages leave before what they say is durable',
    replica: speakBeforeDurable,
  },
  {
    name: 'stop-in-turn',
    breaks: 'a clean stop in an open turn stores the commit index of memory beside the log of the turn before',
    replica: stopInTurn,
  },
  {
    name: 'vote-with-lost-log',
    breaks: 'a replica that lost its log votes, with an empty one',
    replica: voteWithLostLog,
  },
  {
    name: 'forget-lost-log',
    breaks: 'that the log is lost is not durable: a second start takes the empty log for whole',
    replica: forgetLostLog,
  },
  {
    name: 'acknowledge-with-lost-log',
    breaks: 'a member that lost its log joins its durable view again',
    replica: acknowledgeWithLostLog,
  },
];

function acknowledgeAfterPromise(core: ReplicaCore): void {
  const { state } = core;
  const requests = core['requests'];
  const onRequest = requests.onRequest;
  requests.onRequest = (bytes, o, from, owner, now, heldUs) => {
    const { view } = state;
    const old = state.logView;
    if (
      state.status !== ReplicaStatus.viewChange ||
      readI32(bytes, o + Request.at.view) !== old ||
      !state.views.isMember(old, state.id)
    ) {
      onRequest.call(requests, bytes, o, from, owner, now, heldUs);
      return;
    }
    force(state, { view: old, status: ReplicaStatus.normal });
    onRequest.call(requests, bytes, o, from, owner, now, heldUs);
    force(state, { view, status: ReplicaStatus.viewChange });
  };
}

/** Runs `before` whenever a view is installed, so that what the verb checks holds. */
function installUnasked(core: ReplicaCore, before: (view: number) => void): void {
  const { state } = core;
  const install = state.install;
  state.install = (view) => {
    before(view);
    install.call(state, view);
  };
}

type CastVote = NonNullable<ReplicaCore['viewChanges']['viewStart']['chosen']>;

/**
 * Replaces the choice of the log and nothing else of the view change. What votes say of commits is left out, so that no
 * invariant of the core notices first.
 */
function chooseBy(core: ReplicaCore, needed: (f: number) => number, pick: (votes: CastVote[]) => CastVote): void {
  const { state } = core;
  const viewStart = core['viewChanges']['viewStart'];
  viewStart.choose = (now) => {
    if (
      state.status !== ReplicaStatus.viewChange ||
      viewStart['chosen'] !== undefined ||
      viewStart['votes'].size < needed(state.views.f)
    )
      return;
    const votes = [...viewStart['votes'].values()];
    if (votes.length === 0) return;
    const alive = votes.filter((vote) => !viewStart['failed'].has(vote.from));
    const vote = pick(alive.length > 0 ? alive : votes);
    if (vote.lastIndex < state.committed) return;
    viewStart['chosen'] = vote;
    for (const [from, other] of viewStart['votes'])
      viewStart['votes'].set(from, { ...other, committed: 0, committedChainHi: 0, committedChainLo: 0 });
    viewStart.installation.start(
      {
        view: state.view,
        logView: vote.logView,
        source: vote.from,
        lastIndex: vote.lastIndex,
        chainHi: vote.chainHi,
        chainLo: vote.chainLo,
        committed: vote.committed,
        claims: [],
      },
      now,
    );
  };
}

function highest(votes: CastVote[]): CastVote[] {
  const logView = Math.max(...votes.map((vote) => vote.logView));
  return votes.filter((vote) => vote.logView === logView);
}

function startWithFVotes(core: ReplicaCore): void {
  const { views, id } = core.state;
  chooseBy(
    core,
    (f) => f,
    (votes) => {
      const top = highest(votes);
      const members = top.filter((vote) => views.isMember(vote.logView, vote.from));
      const qualified = members.length > 0 ? members : top;
      return (
        qualified.find((vote) => vote.from === views.primary(vote.logView)) ??
        qualified.find((vote) => vote.from === id) ??
        qualified[0]!
      );
    },
  );
}

function chooseSpare(core: ReplicaCore): void {
  const { views } = core.state;
  chooseBy(
    core,
    (f) => f + 1,
    (votes) => {
      const top = highest(votes);
      return top.find((vote) => !views.isMember(vote.logView, vote.from)) ?? top[0]!;
    },
  );
}

function chooseByLength(core: ReplicaCore): void {
  chooseBy(
    core,
    (f) => f + 1,
    (votes) => votes.reduce((best, vote) => (vote.lastIndex > best.lastIndex ? vote : best)),
  );
}

function chooseOwn(core: ReplicaCore): void {
  chooseBy(
    core,
    (f) => f + 1,
    (votes) => votes.find((vote) => vote.from === core.state.id) ?? votes[0]!,
  );
}

function twoStarts(core: ReplicaCore): void {
  const { state } = core;
  const viewChanges = core['viewChanges'];
  const onVote = viewChanges.onVote;
  const restarted = new Set<string>();
  /** The logView of the log that the present view was started from. */
  let startedFrom = -1;
  const start = viewChanges.installation.start;
  installUnasked(core, () => force(state, { logView: NO_LOG }));
  viewChanges.installation.start = (target, now) => {
    if (state.views.primary(target.view) === state.id) startedFrom = target.logView;
    start.call(viewChanges.installation, target, now);
  };
  viewChanges.onVote = (bytes, o, from, now) => {
    const at = Vote.at;
    const view = readI32(bytes, o + at.view);
    const logView = readI32(bytes, o + at.logView);
    const lastIndex = readIndex(bytes, o + at.lastIndex);
    const late = view === state.view && state.isPrimary && logView === startedFrom && lastIndex >= state.committed;
    // Its log qualified as much as the chosen one.
    if (!late || !state.views.isMember(logView, from) || restarted.has(`${view},${from}`)) {
      onVote.call(viewChanges, bytes, o, from, now);
      return;
    }
    restarted.add(`${view},${from}`);
    force(state, { status: ReplicaStatus.viewChange });
    viewChanges.installation.start(
      {
        view,
        logView,
        source: from,
        lastIndex,
        chainHi: readI32(bytes, o + at.lastChain),
        chainLo: readI32(bytes, o + at.lastChain + 4),
        committed: state.committed,
        claims: [],
      },
      now,
    );
  };
}

function installWithoutChain(core: ReplicaCore): void {
  const { log } = core.state;
  const { installation } = core['viewChanges'];
  const start = installation.start;
  installation.start = (target, now) => {
    const { lastIndex } = target;
    // A shorter log is fetched as always: the missing part comes from the source, and its chain is right by itself.
    const own = lastIndex >= log.baseIndex && lastIndex <= log.lastIndex;
    start.call(
      installation,
      own ? { ...target, chainHi: log.chainHi(lastIndex), chainLo: log.chainLo(lastIndex) } : target,
      now,
    );
  };
}

function installInPieces(core: ReplicaCore): void {
  const { state } = core;
  const { installation } = core['viewChanges'];
  const start = installation.start;
  installation.start = (target, now) => {
    const whole = state.log.matches(target.lastIndex, target.chainHi, target.chainLo);
    if (!whole && state.status === ReplicaStatus.viewChange) state.truncate(state.committed);
    start.call(installation, target, now);
  };
}

function skipRollback(core: ReplicaCore): void {
  const { execution } = core.state;
  execution.truncated = (index) => {
    if (execution.provisional !== undefined && execution.provisional.index > index) execution.provisional = undefined;
    execution.executed = Math.min(execution.executed, index);
  };
}

function forgetDurableView(core: ReplicaCore): void {
  const { state } = core;
  const recover = state.recover;
  state.recover = (recovered) => {
    const { hardState } = recovered;
    recover.call(
      state,
      hardState === undefined || hardState.logView === NO_LOG
        ? recovered
        : { ...recovered, hardState: { ...hardState, view: hardState.logView } },
    );
  };
}

function speakBeforeDurable(core: ReplicaCore): void {
  const { out } = core.state;
  const inner = out['inner'];
  out.reserve = (to, length) => inner.reserve(to, length);
  out.commit = (length) => inner.commit(length);
}

function stopInTurn(core: ReplicaCore): void {
  const { state } = core;
  const persist = state.persist;
  /** What the storage received last. */
  let lastIndex = 0;
  let hardState: HardState | undefined;
  state.persist = () => {
    if (state.out.dirty) {
      lastIndex = state.log.lastIndex;
      hardState = state.hardState;
    }
    persist.call(state);
  };
  core.finish = () => {
    const storage = state['storage'];
    if (hardState === undefined || !storage.keepsLog) return;
    const nothing = (): number => 0;
    storage.persist(state.out.nextToken(), {
      hardState,
      entriesFrom: lastIndex + 1,
      lastIndex,
      committed: Math.min(state.committed, lastIndex),
      snapshot: undefined,
      readEntry: nothing,
      entryBytes: nothing,
    });
  };
}

/** Runs `then` after recovery with the logView on the disk. */
function afterRecovery(core: ReplicaCore, then: (logView: number) => void): void {
  const { state } = core;
  const recover = state.recover;
  state.recover = (recovered) => {
    recover.call(state, recovered);
    then(recovered.hardState?.logView ?? 0);
  };
}

function voteWithLostLog(core: ReplicaCore): void {
  const { state } = core;
  const promises = core['viewChanges']['promises'];
  const promise = promises.promise;
  let logView = 0;
  afterRecovery(core, (found) => (logView = Math.max(found, 0)));
  promises.promise = (view, why, now) => {
    if (state.status === ReplicaStatus.recovering) {
      force(state, { status: ReplicaStatus.viewChange, logView });
    }
    promise.call(promises, view, why, now);
  };
}

function forgetLostLog(core: ReplicaCore): void {
  const { state } = core;
  let logView = 0;
  afterRecovery(core, (found) => (logView = Math.max(found, 0)));
  Object.defineProperty(state, 'hardState', {
    get: (): HardState => ({
      view: state.view,
      logView: state.logView === NO_LOG ? logView : state.logView,
      incarnation: state.incarnation,
    }),
  });
}

function acknowledgeWithLostLog(core: ReplicaCore): void {
  const { state } = core;
  const viewChanges = core['viewChanges'];
  const onSync = viewChanges.onSync;
  const { views } = state;
  installUnasked(core, (view) => {
    if (state.status === ReplicaStatus.recovering) force(state, { view: view - 1 });
  });
  viewChanges.onSync = (bytes, o, from, now) => {
    if (state.status !== ReplicaStatus.recovering) return onSync.call(viewChanges, bytes, o, from, now);
    views.isMember = () => false;
    const done = onSync.call(viewChanges, bytes, o, from, now);
    Reflect.deleteProperty(views, 'isMember');
    force(state, {}); // which settles its role anew
    return done;
  };
}

function undoForgetsAnEntry(core: ReplicaCore): void {
  const probe = core.state.execution['machine'];
  if (!(probe instanceof MachineProbe)) throw new TypeError("the simulator's probe");
  const machine = probe['inner'];
  const { undoTo } = machine;
  if (undoTo !== undefined) machine.undoTo = (index) => undoTo.call(machine, index + 1);
}

function undoForgetsSessions(core: ReplicaCore): void {
  const { sessions } = core.state.execution;
  const undoTo = sessions.undoTo.bind(sessions);
  sessions.undoTo = (index) => undoTo(index + 1);
}
