/**
 * Whole runs: that a seed is a run, that healthy cores pass, that seeds which once failed pass, that a broken core is
 * noticed, and what a run leaves for people and tools.
 *
 * SIM_SEEDS=n runs more seeds a cluster size.
 */
import { readFileSync } from 'node:fs';
import t from 'tap';
import {
  type CreateReplica,
  createShippedClient,
  createShippedReplica,
  type SimulatedReplicaCore,
} from '../../src/sim/cores.js';
import { FAULT_NAMES, KIND_FAULTS, type FaultName } from '../../src/sim/faults.js';
import { Campaign, failureLine, failureText, replayCommand, summaryJson, summaryLines } from '../../src/sim/report.js';
import { DEFAULT_TICKS } from '../../src/sim/assembly.js';
import type { SimulationResult } from '../../src/sim/result.js';
import { simulate } from '../../src/sim/simulation.js';
import { TraceRing, TransitionLog } from '../../src/sim/trace.js';
import { INVARIANTS } from '../../src/sim/violation.js';
import { KvMachine } from '../../src/machine/kv.js';
import type { ApplyContext, Operation, Reply } from '../../src/machine/state-machine.js';
import { begin } from '../../src/wire/layout.js';
import { Sync, SyncAck, typeOf } from '../../src/wire/messages.js';
import { writeIndex } from '../../src/wire/u64.js';
import { PREVIOUS_WIRE_VERSION, WIRE_VERSION } from '../../src/wire/versions.js';

const SEEDS = Number(process.env['SIM_SEEDS'] ?? 8);
const OPTIONS = { ticks: DEFAULT_TICKS, faults: 'all' };

function complaint(result: SimulationResult): string {
  return result.failure === undefined ? '' : failureText(result, OPTIONS);
}

t.test('the same seed is the same run, with and without a trace; another seed or size is another', (t) => {
  const digest = (seed: number, replicas: number, trace = false): string =>
    simulate({
      seed,
      replicas,
      ticks: 150_000,
      ...(trace && { trace: new TraceRing(replicas), transitions: new TransitionLog(replicas, () => {}) }),
    }).digest;
  for (const seed of [3, 7, 11]) {
    t.equal(digest(seed, 3), digest(seed, 3));
    t.equal(digest(seed, 3, true), digest(seed, 3), 'watching changes nothing');
    t.not(digest(seed, 3), digest(seed + 1, 3));
    t.not(digest(seed, 3), digest(seed, 5));
  }
  t.same(
    simulate({ seed: 5, replicas: 3, ticks: 150_000 }).history,
    simulate({ seed: 5, replicas: 3, ticks: 150_000 }).history,
  );
  t.end();
});

t.test('without faults all commits, nothing is lost, nobody changes the view', (t) => {
  for (const replicas of [3, 5, 7]) {
    const result = simulate({ seed: 1, replicas, faults: new Set() });
    t.equal(complaint(result), '');
    t.ok(result.totals.commits > 100);
    t.equal(result.totals.views, 1);
    t.equal(result.totals.crashes, 0);
    t.equal(result.totals.unknown, 0);
  }
  t.end();
});

t.test(
  'processes of two versions of the wire agree, crash, come back as the other version, and none is left behind',
  (t) => {
    const totals = { previousVersion: 0, datagrams: 0, crashes: 0 };
    const starts = { [PREVIOUS_WIRE_VERSION]: 0, [WIRE_VERSION]: 0 };
    for (let seed = 1; seed <= 40; seed++) {
      const trace = new TraceRing(3);
      const result = simulate({
        seed,
        replicas: 3,
        ticks: 150_000,
        faults: new Set(['versions', 'crash', 'give-up'] as const),
        trace,
      });
      t.equal(complaint(result), '', replayCommand(seed, 3, { ticks: 150_000, faults: 'versions,crash,give-up' }));
      for (const key of ['previousVersion', 'datagrams', 'crashes'] as const) totals[key] += result.totals[key];
      for (const line of trace.lines())
        for (const version of [PREVIOUS_WIRE_VERSION, WIRE_VERSION] as const)
          if (line.includes(`speaks version ${version}`)) starts[version]++;
    }
    t.ok(
      totals.previousVersion > 0.1 * totals.datagrams && totals.previousVersion < 0.9 * totals.datagrams,
      `${totals.previousVersion} of ${totals.datagrams} datagrams in version ${PREVIOUS_WIRE_VERSION}`,
    );
    t.ok(
      totals.crashes > 20 && starts[PREVIOUS_WIRE_VERSION] > 5 && starts[WIRE_VERSION] > 5,
      `${totals.crashes} crashes; starts as the previous and the present version in what the traces kept: ${starts[PREVIOUS_WIRE_VERSION]}, ${starts[WIRE_VERSION]}`,
    );
    t.end();
  },
);

t.test(`${SEEDS} seeds for each of 3, 5 and 7 replicas pass with all faults`, (t) => {
  const campaign = new Campaign(OPTIONS);
  for (let seed = 1001; seed < 1001 + SEEDS; seed++) {
    for (const replicas of [3, 5, 7]) {
      const result = simulate({ seed, replicas });
      campaign.add(result);
      t.equal(complaint(result), '', replayCommand(seed, replicas, OPTIONS));
    }
  }
  const { totals, runs } = campaign.report();
  t.equal(runs, 3 * SEEDS);
  t.ok(
    totals.crashes > 0 &&
      totals.logsLost > 0 &&
      totals.views > runs &&
      totals.repairs > 0 &&
      totals.held > 0 &&
      totals.corrupted > 0,
    'faults did happen',
  );
  t.end();
});

interface Regression {
  readonly seed: number;
  readonly replicas: number;
  readonly taught: string;
  /** Parts of the world that it has besides the faults of a kind one. */
  readonly world?: readonly FaultName[];
}

t.test('seeds that once failed pass', (t) => {
  const regressions = JSON.parse(
    readFileSync(new URL('../../../test/sim/seeds.json', import.meta.url), 'utf8'),
  ) as Regression[];
  t.ok(regressions.length > 0);
  for (const { seed, replicas, taught, world = [] } of regressions)
    t.equal(
      complaint(simulate({ seed, replicas, faults: new Set([...KIND_FAULTS, ...world]) })),
      '',
      `${seed}/${replicas}: ${taught}`,
    );
  t.end();
});

t.test('a quorum of one appends an entry, commits it, and cuts it behind a snapshot, all in one call', (t) => {
  const createReplica: CreateReplica = (config, ...rest) => {
    const timings = { ...config.timings, syncEntries: 64, syncIntervalUs: 200_000 };
    return createShippedReplica({ ...config, timings, limits: { ...config.limits, logEntries: 64 } }, ...rest);
  };
  for (let seed = 1; seed <= 6; seed++)
    t.equal(complaint(simulate({ seed, replicas: 1, ticks: 100_000, faults: new Set(), createReplica })), '');
  t.end();
});

/** Runs seeds until one fails; what it broke. */
function caught(options: Partial<Parameters<typeof simulate>[0]>, seeds: number): string {
  for (let seed = 1; seed <= seeds; seed++) {
    const { failure } = simulate({ seed, replicas: 3, ticks: 200_000, ...options });
    if (failure !== undefined) return failure.invariant;
  }
  return 'nothing';
}

t.test('a core that drops every twentieth message it was to send is not at fault; one that forges is', (t) => {
  const losing = (seed: number): SimulationResult =>
    simulate({
      seed,
      replicas: 3,
      faults: new Set(),
      createReplica: (config, outbox, ...rest) => {
        let count = 0;
        const lossy = {
          get bytes() {
            return outbox.bytes;
          },
          reserve: (to: number, length: number) => (++count % 20 === 0 ? -1 : outbox.reserve(to, length)),
          commit: (length: number) => outbox.commit(length),
        };
        return createShippedReplica(config, lossy, ...rest);
      },
    });
  t.equal(complaint(losing(1)), '');

  // A spare, or a member that has nothing, says that it has everything.
  t.equal(
    caught(
      {
        createReplica: (...made) => {
          const core = createShippedReplica(...made);
          const [{ id }, outbox] = made;
          const receive = core.receive.bind(core);
          core.receive = (bytes, offset, length, from, now) => {
            // Sends a Sync of its own back as an acknowledgement of an index that it made up.
            if (id === 1 && typeOf(bytes, offset) === Sync.type) {
              const at = outbox.reserve(0, SyncAck.size);
              if (at >= 0) {
                begin(SyncAck, outbox.bytes, at);
                writeIndex(outbox.bytes, at + SyncAck.at.matchedIndex, 256);
                outbox.commit(SyncAck.size);
              }
            }
            receive(bytes, offset, length, from, now);
          };
          return core;
        },
      },
      3,
    ),
    'acknowledgement-truthful',
  );
  t.end();
});

t.test(
  'a machine that is not deterministic, one that throws, a core that throws, and one that stands still are noticed',
  (t) => {
    let machines = 0;
    class Odd extends KvMachine {
      private readonly number = machines++;
      override apply(operation: Operation, context: ApplyContext, reply: Reply): void {
        super.apply(operation, context, reply);
        if (context.index === 40) reply.bytes[reply.offset + reply.length++] = this.number;
      }
    }
    t.match(
      caught({ createMachine: () => new Odd({ maxKeys: 4096, maxBytes: 1 << 20 }) }, 3),
      /executed-agree|core-exception/,
    );

    class Throwing extends KvMachine {
      override apply(): void {
        throw new Error('out of order');
      }
    }
    t.equal(caught({ createMachine: () => new Throwing() }, 1), 'core-exception');

    const deaf = (core: SimulatedReplicaCore): SimulatedReplicaCore => {
      core.receive = () => {};
      return core;
    };
    t.equal(caught({ createReplica: (...made) => deaf(createShippedReplica(...made)) }, 1), 'stuck');
    t.equal(
      caught(
        {
          createClient: (...made) => {
            const core = createShippedClient(...made);
            core.tick = () => {
              throw new TypeError('a client broke');
            };
            return core;
          },
        },
        1,
      ),
      'core-exception',
    );
    t.end();
  },
);

t.test('a client that believes the first answer is noticed', (t) => {
  // Completes what it has just sent: the simulated client's events are called without any commit.
  const invariant = caught(
    {
      createClient: (config, outbox, events) => {
        const core = createShippedClient(config, outbox, events);
        const submit = core.submit.bind(core);
        let told = false;
        core.submit = (lane, bytes, offset, length, timeoutUs, now) => {
          submit(lane, bytes, offset, length, timeoutUs, now);
          if (!told) {
            told = true;
            core.resultBytes(lane)[0] = 0;
            events.completed(lane, 0, 0, true);
          }
        };
        core.resultLength = () => 1;
        return core;
      },
    },
    1,
  );
  t.match(invariant, /client-result|core-exception/);
  t.end();
});

t.test('the trace is in columns; the transitions are JSON lines whose fields keep their order', (t) => {
  const trace = new TraceRing(3);
  const lines: string[] = [];
  const { failure, totals } = simulate({
    seed: 2,
    replicas: 3,
    trace,
    transitions: new TransitionLog(3, (line) => lines.push(line)),
  });
  t.equal(failure, undefined);
  t.ok(totals.crashes > 0, 'the run has crashes to show');
  for (const line of trace.lines())
    if (!/^[ \d]{10} {2}([ rc\d]{4}) (->|=>|\*\*) ([rc\d ]{4}) {2}\S/.test(line)) t.fail(`not in columns: ${line}`);
  let tick = 0;
  const statuses = new Set<string>();
  for (const line of lines) {
    const state = JSON.parse(line) as Record<string, unknown>;
    const keys = Object.keys(state);
    if (keys.join() !== 'tick,replica,event,view,logView,status,lastIndex,chain,committed,executed')
      t.fail(`fields: ${keys.join()}`);
    if ((state['tick'] as number) < tick) t.fail('time goes back');
    tick = state['tick'] as number;
    statuses.add(state['status'] as string);
  }
  t.ok(lines.length > 100);
  t.ok(statuses.has('normal') && statuses.has('down'));
  t.end();
});

t.test('reports: totals add up, failures carry their replay command, parts merge', (t) => {
  const healthy = simulate({ seed: 1, replicas: 3, ticks: 50_000, faults: new Set() });
  const failed: SimulationResult = {
    ...healthy,
    seed: 9,
    failure: { invariant: 'never-lost', detail: 'gone\nmore', tick: 77, cluster: ['replica 0: down'], stack: 'at x' },
  };
  const options = { ticks: 50_000, faults: 'crash,loss' };
  const campaign = new Campaign(options);
  t.equal(campaign.add(healthy), undefined);
  const failure = campaign.add(failed)!;
  t.equal(
    failureLine(failure),
    'FAILED seed 9 replicas 3 tick 77 never-lost: gone; replay: jitpaxos sim --seed 9 --replicas 3 --ticks 50000 --faults crash,loss --trace',
  );
  t.match(failureText(failed, options), /later view contains every committed prefix[\s\S]*replica 0: down[\s\S]*at x/);
  const whole = new Campaign(options);
  whole.merge(campaign.report());
  whole.merge(campaign.report());
  const report = whole.report();
  t.equal(report.runs, 4);
  t.equal(report.failures.length, 2);
  t.equal(report.totals.commits, 4 * healthy.totals.commits);
  const json = JSON.parse(summaryJson(report, { ...options, seeds: [1, 9], replicas: [3] }, 2)) as Record<
    string,
    unknown
  >;
  t.equal(json['schema'], 'jitpaxos.sim/1');
  t.equal(json['failed'], 2);
  t.match(summaryLines(report, 2)[0]!, /^runs +4, failed 2/);
  t.equal(replayCommand(4, 5, OPTIONS), 'jitpaxos sim --seed 4 --replicas 5 --trace');
  t.end();
});

t.test('docs/internals/simulation.md lists every fault and every invariant, and no other', (t) => {
  const text = readFileSync(new URL('../../../docs/internals/simulation.md', import.meta.url), 'utf8');
  const listed = (heading: string): string[] => {
    const section = text.slice(text.indexOf(`\n## ${heading}\n`)).split('\n## ', 2)[1]!;
    return [...section.matchAll(/^\| `([a-z-]+)` \|/gm)].map(([, name]) => name!);
  };
  t.same(listed('Faults'), FAULT_NAMES);
  t.same(listed('What is checked'), Object.keys(INVARIANTS));
  t.end();
});

t.test('sessions are worn: clients go on in others, and every operation happens once', (t) => {
  let renewed = 0;
  for (const seed of [1, 2, 3, 4, 5, 6, 7, 8]) {
    const result = simulate({
      seed,
      replicas: 3,
      faults: new Set<FaultName>(['wear', 'loss', 'duplicate', 'crash', 'pause']),
    });
    t.equal(result.failure, undefined, complaint(result));
    const wears = /wear \d+ requests a lane/.test(result.plan);
    if (!wears) t.equal(result.totals.sessionsRenewed, 0, `seed ${seed}`);
    renewed += result.totals.sessionsRenewed;
  }
  t.ok(renewed > 10, `${renewed} sessions were renewed`);
  t.end();
});
