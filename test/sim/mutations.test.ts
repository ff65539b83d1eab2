/**
 * The simulator notices every rule that is broken here, and passes the same run when it is not.
 *
 * A run is kept for each mutation, found by scripts/find-mutations.mjs. When the cores change, a run may lose what made
 * it special: then the next ones are tried, up to a bound. MUTATION_RUNS=n raises it.
 */
import t from 'tap';
import type { Pieces } from '../../src/protocol/config.js';
import { KIND_FAULTS, type FaultName } from '../../src/sim/faults.js';
import type { SimulationFailure } from '../../src/sim/result.js';
import { simulate } from '../../src/sim/simulation.js';
import { mutated, runOf, TICKS, type Mutation } from './mutation.js';
import { MUTATIONS } from './mutations.js';

interface Known {
  /** Number of the run (`runOf`). */
  readonly run: number;
  /** Faults that it has; all of a kind world when left out. */
  readonly faults?: readonly FaultName[];
  /** Features that are on from the first entry, a mask; drawn when left out. */
  readonly features?: number;
  /** How replicas take snapshots in pieces; at once when left out. */
  readonly pieces?: Pieces;
  /** Machines undo, and this many bytes are for the sessions' part of it; they restore when left out. */
  readonly undoBytes?: number;
}

const CHANGES: readonly FaultName[] = [
  'crash',
  'view-change-crash',
  'crash-loop',
  'partition',
  'pause',
  'slow',
  'slow-link',
  'loss',
  'reorder',
];
const LOSSES: readonly FaultName[] = ['crash', 'view-change-crash', 'crash-loop', 'partition', 'pause', 'loss'];
const STOPS: readonly FaultName[] = [
  'stop',
  'partition',
  'loss',
  'reorder',
  'crash',
  'view-change-crash',
  'slow-link',
  'ambush',
];

/** Transfers are many messages. */
const FRAGMENTS: readonly FaultName[] = ['path-limit', 'reorder', 'loss', 'partition', 'crash'];

/** Runs in which an operator switches features on; snapshots are frequent where logs are short. */
const SWITCHES: readonly FaultName[] = ['feature', 'small-limits', 'crash', 'stop', 'loss', 'partition'];

/** A byte at a time: as slow as the log allows. */
const SLOW_PIECES: Pieces = { bytes: 1, everyUs: 20_000 };

const KNOWN: Readonly<Record<string, Known>> = {
  'commit-with-f-acks': { run: 0 },
  'index-without-chain': { run: 0 },
  'acks-of-two-views': { run: 101, faults: CHANGES },
  'read-from-one-member': { run: 241, faults: ['partition', 'pause'] },
  'retry-under-new-number': { run: 0 },
  'equal-timestamps': { run: 0 },
  'equal-timestamp-is-duplicate': { run: 0 },
  'older-key': { run: 0 },
  'no-at-most-once': { run: 0 },
  'admission-forgets-executed': { run: 0 },
  'member-restamps-register': { run: 46, faults: ['ambush', 'small-limits'] },
  'primary-restamps-evicted': { run: 508, faults: ['ambush', 'small-limits'] },
  'reconcile-without-comparing': { run: 3 },
  'replace-log-on-repair': { run: 0 },
  'splice-unfiltered-tail': { run: 0 },
  'keep-requests-twice': { run: 169, faults: ['clock', 'reorder'] },
  'sync-index-without-chain': { run: 0 },
  'synced-beyond-segment': { run: 0 },
  'repair-from-unchecked-base': { run: 30, faults: FRAGMENTS },
  'switch-features-late': { run: 27, faults: ['feature', 'small-limits', 'crash', 'stop'], features: 0 },
  'forget-features': { run: 118, faults: SWITCHES },
  'order-without-chain': { run: 0 },
  'order-of-another-view': { run: 2547, faults: ['ambush', 'reorder', 'duplicate', 'partition'] },
  'answer-before-verified': { run: 0 },
  'cache-returns-another-request': { run: 0 },
  'restamp-with-equal-key': { run: 0 },
  'forget-lost-log': { run: 0, faults: LOSSES },
  'vote-with-lost-log': { run: 100, faults: LOSSES },
  'choose-by-length': { run: 1742, faults: ['ambush', 'crash', 'partition', 'pause', 'loss'] },
  'acknowledge-with-lost-log': { run: 54, faults: ['ambush'] },
  'evicted-session-returns': { run: 46, faults: ['ambush', 'small-limits'] },
  'install-without-chain': { run: 3 },
  'install-in-pieces': { run: 2, faults: ['ambush'] },
  'commit-without-members': { run: 0 },
  'uncommitted-snapshot': { run: 2 },
  'pieces-after-rollback': { run: 422, faults: ['partition', 'pause', 'small-limits'], pieces: SLOW_PIECES },
  'copy-forgets-changes': {
    run: 2,
    faults: ['small-limits', 'crash', 'partition', 'pause'],
    pieces: SLOW_PIECES,
  },
  'acknowledge-after-promise': { run: 30, faults: CHANGES },
  'two-starts': { run: 103, faults: CHANGES },
  'start-with-f-votes': { run: 38, faults: CHANGES },
  'choose-spare': { run: 0, faults: CHANGES },
  'choose-own': { run: 15, faults: CHANGES },
  'skip-rollback': { run: 14 },
  'undo-forgets-an-entry': { run: 39, features: 1, undoBytes: 1 << 16 },
  'undo-forgets-sessions': { run: 31, features: 1, undoBytes: 1 << 16 },
  'forget-durable-view': { run: 26, faults: CHANGES },
  'speak-before-durable': { run: 15 },
  'stop-in-turn': { run: 18, faults: STOPS },
};

/** Runs tried behind the kept one. */
const FURTHER_RUNS = Number(process.env['MUTATION_RUNS'] ?? 40);
/** The cores' own answer to a mutation may be to stand still, or the mutation's to be wrong itself: neither counts. */
const NOT_COUNTED = new Set(['stuck', 'core-exception']);

function run(number: number, known: Known, mutation: Mutation | undefined): SimulationFailure | undefined {
  return simulate({
    ...runOf(number),
    ticks: TICKS,
    faults: new Set(known.faults ?? KIND_FAULTS),
    ...(known.features === undefined ? {} : { features: known.features }),
    pieces: known.pieces ?? null,
    undoBytes: known.undoBytes ?? null,
    ...(mutation === undefined ? {} : mutated(mutation)),
  }).failure;
}

t.test('every mutation has a run that notices it', (t) => {
  const names = MUTATIONS.map(({ name }) => name);
  t.equal(new Set(names).size, names.length, 'names are distinct');
  t.same(Object.keys(KNOWN).sort(), [...names].sort());
  t.end();
});

for (const mutation of MUTATIONS) {
  t.test(`${mutation.name}: ${mutation.breaks}`, (t) => {
    const known = KNOWN[mutation.name]!;
    for (let number = known.run; number <= known.run + FURTHER_RUNS; number++) {
      const failure = run(number, known, mutation);
      if (failure === undefined || NOT_COUNTED.has(failure.invariant)) continue;
      const { seed, replicas } = runOf(number);
      t.pass(`seed ${seed}, N = ${replicas}: ${failure.invariant}: ${failure.detail}`);
      if (number !== known.run) t.comment(`run ${known.run} no longer notices it, run ${number} does`);
      const unbroken = run(number, known, undefined);
      t.equal(
        unbroken,
        undefined,
        `the same run of the cores that ship passes: ${unbroken?.invariant} ${unbroken?.detail}`,
      );
      t.end();
      return;
    }
    t.fail(
      `not noticed in runs ${known.run}…${known.run + FURTHER_RUNS}; node scripts/find-mutations.mjs ${mutation.name} looks for one that does`,
    );
    t.end();
  });
}
