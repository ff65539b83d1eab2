/**
 * Replicas whose machines give their snapshots in pieces: every way in which such a snapshot can end happens, and no rule
 * breaks. The seeds are fixed, so each run is always the same.
 */
import t from 'tap';
import type { Pieces } from '../../src/protocol/config.js';
import { KIND_FAULTS } from '../../src/sim/faults.js';
import { createShippedReplica, type CreateReplica } from '../../src/sim/cores.js';
import { simulate } from '../../src/sim/simulation.js';
import { SnapshotOffer, typeOf } from '../../src/wire/messages.js';
import { ReplicaCore } from '../../src/protocol/replica/replica-core.js';

/** Most runs in which a rollback and an installation are looked for. */
const FURTHER_SEEDS = 200;
/** From here on one is soon found whose state is taken back in the middle of a snapshot. */
const FURTHER_FROM = 201;

/** What became of snapshots that were unfinished at the end of some turn. */
interface Seen {
  turns: number;
  finished: number;
  /** The process ended. */
  crashed: number;
  /** The replica went into another view in the meantime; nothing became of the snapshot by that. */
  views: number;
  /** The state was taken back, or replaced by another replica's. */
  rolledBack: number;
  installed: number;
}

/** Cores that ship, watched at the end of each turn. */
function watched(seen: Seen): CreateReplica {
  const present = new Map<number, ReplicaCore>();
  return (...made) => {
    const core = createShippedReplica(...made);
    if (!(core instanceof ReplicaCore)) throw new TypeError('the core that ships');
    const { state } = core;
    if (present.get(state.id)?.state.execution.unfinished.isUnderway === true) seen.crashed++;
    present.set(state.id, core);
    const { execution } = state;
    let before: { index: number; view: number; installs: number } | undefined;
    const flush = core.flush;
    core.flush = (now) => {
      flush.call(core, now);
      const { unfinished, installs } = execution;
      if (before !== undefined) {
        if (state.view !== before.view) seen.views++;
        if (unfinished.index !== before.index) {
          const { index } = before;
          if (installs !== before.installs) seen.installed++;
          else if (execution.stable.index === index || execution.provisional?.index === index) seen.finished++;
          else seen.rolledBack++;
        }
      }
      before = unfinished.isUnderway ? { index: unfinished.index, view: state.view, installs } : undefined;
      if (before !== undefined) seen.turns++;
    };
    return core;
  };
}

t.test('snapshots in pieces end in every way, and no rule breaks', (t) => {
  const seen: Seen = { turns: 0, finished: 0, crashed: 0, views: 0, rolledBack: 0, installed: 0 };
  for (const pieces of [
    { bytes: 1, everyUs: 20_000 },
    { bytes: 64, everyUs: 1000 },
  ])
    for (let seed = 1; seed <= 8; seed++) {
      const { failure } = simulate({
        seed,
        replicas: 3,
        ticks: 200_000,
        faults: new Set(KIND_FAULTS),
        pieces,
        createReplica: watched(seen),
      });
      t.equal(
        failure,
        undefined,
        `seed ${seed}, pieces of ${pieces.bytes} bytes: ${failure?.invariant} ${failure?.detail}`,
      );
    }
  // A state that is taken back or replaced while a snapshot of it is taken is rare.
  for (
    let seed = FURTHER_FROM;
    seed < FURTHER_FROM + FURTHER_SEEDS && (seen.rolledBack === 0 || seen.installed === 0);
    seed++
  ) {
    const { failure } = simulate({
      seed,
      replicas: 3,
      ticks: 300_000,
      faults: new Set(['partition', 'pause', 'small-limits']),
      pieces: { bytes: 1, everyUs: 20_000 },
      createReplica: watched(seen),
    });
    t.equal(failure, undefined, `seed ${seed}: ${failure?.invariant} ${failure?.detail}`);
  }
  t.comment(JSON.stringify(seen));
  for (const [name, times] of Object.entries(seen)) t.ok(times > 0, `${name}: ${times}`);
  t.end();
});

/** What became of snapshots of others that were restored in pieces. */
interface Restores {
  pieces: number;
  /** Their states were taken up. */
  ended: number;
  /** A view change, another source or a newer snapshot came in between. */
  givenUp: number;
  newer: number;
  /** The process ended. */
  crashed: number;
  /** Operations were executed between two pieces: another replica still had the entries that the source had cut. */
  meanwhile: number;
}

/**
 * @param keeps whether replicas keep the snapshot that another one fetches; those of an earlier release do not
 * @param short that replica has a shorter log than the others. With equal logs, what one of them has cut is cut at all
 */
function watchedRestores(seen: Restores, keeps: boolean, short: number): CreateReplica {
  const present = new Map<number, boolean>();
  return (config, outbox, storage, machine, ...others) => {
    if (present.get(config.id) === true) seen.crashed++;
    present.set(config.id, false);
    const { beginRestore } = machine;
    let open: number | undefined;
    let applied = 0;
    const apply = machine.apply.bind(machine);
    machine.apply = (...given) => {
      applied++;
      apply(...given);
    };
    const over = (restore: number): boolean => {
      if (open !== restore) return false;
      open = undefined;
      present.set(config.id, false);
      return true;
    };
    let restores = 0;
    machine.beginRestore = (length) => {
      const restore = beginRestore!.call(machine, length);
      const me = restores++;
      const before = applied;
      if (open !== undefined) throw new Error('two at once');
      open = me;
      present.set(config.id, true);
      return {
        step: (piece) => {
          seen.pieces++;
          if (applied !== before) seen.meanwhile++;
          restore.step(piece);
        },
        end: () => {
          restore.end();
          if (over(me)) seen.ended++;
        },
        abort: () => {
          restore.abort();
          if (over(me)) seen.givenUp++;
        },
      };
    };
    // Snapshots are short here: in small chunks they take a while.
    const { logEntries } = config.limits;
    const limits = {
      ...config.limits,
      chunkBytes: 64,
      logEntries: config.id === short ? Math.max(16, logEntries / 4) : logEntries,
    };
    const core = createShippedReplica({ ...config, limits }, outbox, storage, machine, ...others);
    if (!(core instanceof ReplicaCore)) throw new TypeError('the core that ships');
    if (!keeps) core['serving']['served'].askedForBytes = () => undefined;
    const receive = core.receive.bind(core);
    core.receive = (bytes, offset, ...rest) => {
      const before = open;
      receive(bytes, offset, ...rest);
      if (typeOf(bytes, offset) === SnapshotOffer.type && before !== undefined && open !== before) seen.newer++;
    };
    return core;
  };
}

t.test('snapshots of others are restored in pieces, and interrupted in every way', (t) => {
  const seen: Restores = { pieces: 0, ended: 0, givenUp: 0, newer: 0, crashed: 0, meanwhile: 0 };
  const isMissing = (): boolean => Object.values(seen).some((times) => times === 0);
  for (let seed = 1; seed <= FURTHER_SEEDS && (seed <= 12 || isMissing()); seed++) {
    const { failure } = simulate({
      seed,
      replicas: 3,
      ticks: 300_000,
      faults: new Set(['partition', 'pause', 'crash', 'crash-loop', 'loss', 'small-limits', 'slow-link']),
      pieces: { bytes: 64, everyUs: 1000 },
      createReplica: watchedRestores(seen, seed % 2 === 0, seed % 3),
    });
    t.equal(failure, undefined, `seed ${seed}: ${failure?.invariant} ${failure?.detail}`);
  }
  t.comment(JSON.stringify(seen));
  for (const [name, times] of Object.entries(seen)) t.ok(times > 0, `${name}: ${times}`);
  t.end();
});

/** Counts snapshots of an index that other replicas do not choose, begun although the log could still be cut. */
function offTheGrid(begun: { all: number; tooEarly: number }): CreateReplica {
  return (...made) => {
    const core = createShippedReplica(...made);
    if (!(core instanceof ReplicaCore)) throw new TypeError('the core that ships');
    const { execution, log } = core.state;
    let pitch = 1;
    const { setPitch } = execution;
    execution.setPitch = (entries) => {
      pitch = entries;
      setPitch.call(execution, entries);
    };
    const watch = (begin: () => void): void => {
      const before = execution.newestSnapshot;
      const couldBeCut = execution.stable.index > log.baseIndex;
      begin();
      const { newestSnapshot } = execution;
      if (newestSnapshot === before) return;
      begun.all++;
      if (couldBeCut && newestSnapshot % pitch !== 0) begun.tooEarly++;
    };
    const beginSnapshot = execution.beginSnapshot.bind(execution);
    execution.beginSnapshot = () => watch(beginSnapshot);
    const takeSnapshot = execution.takeSnapshot.bind(execution);
    execution.takeSnapshot = (committed) => watch(() => takeSnapshot(committed));
    return core;
  };
}

t.test('behind a snapshot that took long the log is cut before another one begins', (t) => {
  for (let seed = 1; seed <= 6; seed++) {
    const begun = { all: 0, tooEarly: 0 };
    const { failure } = simulate({
      seed,
      replicas: 3,
      ticks: 400_000,
      faults: new Set(['small-limits']),
      pieces: { bytes: 1, everyUs: 20_000 },
      createReplica: offTheGrid(begun),
    });
    t.equal(failure, undefined, `seed ${seed}: ${failure?.invariant} ${failure?.detail}`);
    t.equal(begun.tooEarly, 0, `seed ${seed}: of ${begun.all} snapshots, those of an index that nobody else chooses`);
  }
  t.end();
});

t.test('a hash in parts is begun once when a replica starts, and not for a short snapshot', (t) => {
  let started = 0;
  let hashes = 0;
  let snapshots = 0;
  const { failure } = simulate({
    seed: 4,
    replicas: 3,
    ticks: 100_000,
    faults: new Set(['small-limits']),
    pieces: { bytes: 1 << 20, everyUs: 1000 },
    createReplica: (config, outbox, storage, machine, hasher, ...others) => {
      started++;
      const begin = (): ReturnType<NonNullable<typeof hasher.begin>> => {
        hashes++;
        return hasher.begin?.();
      };
      const counting = { hash64: hasher.hash64.bind(hasher), begin };
      const core = createShippedReplica(config, outbox, storage, machine, counting, ...others);
      if (!(core instanceof ReplicaCore)) throw new TypeError('the core that ships');
      const { execution } = core.state;
      const { beginSnapshot } = execution;
      execution.beginSnapshot = () => {
        beginSnapshot.call(execution);
        if (execution.newestSnapshot === execution.executed) snapshots++;
      };
      return core;
    },
  });
  t.equal(failure, undefined);
  t.ok(snapshots > 10, `${snapshots} snapshots`);
  t.equal(hashes, started);
  t.end();
});

t.test('pieces change neither what is executed nor when it is answered', (t) => {
  const of = (pieces: Pieces | null): unknown => {
    const { totals, failure } = simulate({ seed: 3, replicas: 3, ticks: 100_000, faults: new Set(), pieces });
    t.equal(failure, undefined);
    return [totals.commits, totals.chosen, totals.views];
  };
  t.same(of({ bytes: 64, everyUs: 1000 }), of(null));
  t.end();
});
