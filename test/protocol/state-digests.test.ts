// Replicas compare their states at snapshots, and their limits as they start: who differs is named, the minority stops
// itself.
import t, { type Test } from 'tap';
import type { StateMachine } from '../../src/machine/state-machine.js';
import { DivergedError } from '../../src/protocol/replica/diverged-error.js';
import { Request, StateDigest } from '../../src/wire/messages.js';
import {
  Cluster,
  JournalMachine,
  type ClusterOptions,
  type HandClient,
  type TestReplica,
  type Values,
} from './harness.js';

/** Small logs, so that snapshots come soon. */
const SMALL = { logEntries: 256 };

class Story {
  readonly c: Cluster;
  readonly alice: HandClient;
  private number = 0;

  constructor(options: ClusterOptions = {}, n = 3) {
    this.c = new Cluster(n, { ...options, limits: { ...SMALL, ...options.limits } });
    this.alice = this.c.hand();
    this.give(this.alice.registration(1_000_000_010));
  }

  /** Commits that many operations on all replicas that are up; returns what stopped some, by replica. */
  commit(count: number): Map<number, DivergedError> {
    const stopped = new Map<number, DivergedError>();
    for (let i = 0; i < count; i++) {
      this.number++;
      this.give(this.alice.request(1_000_000_010 + this.number * 1000, this.number, `operation ${this.number % 7}`));
      if (this.number % 8 === 0) this.run(6000, stopped);
    }
    this.run(20_000, stopped);
    return stopped;
  }

  /** As Cluster.run; a replica that stops itself is gone, the others go on. */
  run(us: number, stopped: Map<number, DivergedError>): void {
    for (let left = us; left > 0; left -= 1000) {
      for (;;) {
        try {
          this.c.pass(1000);
          break;
        } catch (error) {
          this.stop(error, stopped);
        }
      }
      for (let round = 0; round < 1000 && this.c.inFlight.length > 0; round++) {
        for (const packet of this.c.take()) {
          try {
            this.c.arrive(packet);
          } catch (error) {
            this.stop(error, stopped);
          }
        }
      }
    }
  }

  private stop(error: unknown, stopped: Map<number, DivergedError>): void {
    if (!(error instanceof DivergedError)) throw error;
    const replica = this.c.replicas.find(
      ({ up, core }) => up && (core.divergence as unknown as { verdict: unknown }).verdict === error,
    )!;
    stopped.set(replica.id, error);
    replica.crash();
  }

  private give(values: Values): void {
    const { views } = this.c.replica(0).state;
    const members = Array.from({ length: this.c.n }, (_, id) => id).filter((id) => views.isMember(0, id));
    this.c.give(this.alice, Request, values, ...members);
  }
}

const named = (replica: TestReplica, event: string): string[] =>
  replica.transitions.filter((text) => text.startsWith(`${event}:`));
const digests = (c: Cluster, from: number): Values[] =>
  c.history
    .filter(
      (packet) =>
        packet.from === from &&
        packet.message === StateDigest &&
        packet.values['index'] !== 0n &&
        packet.values['digest'] !== 0n,
    )
    .map(({ values }) => values);

t.test('replicas that are well take snapshots at the same indexes, say the same of them, and nobody is named', (t) => {
  for (const keepsLog of [false, true]) {
    for (const n of [3, 5]) {
      const s = new Story({ keepsLog }, n);
      t.equal(s.commit(300).size, 0);
      const indexes = s.c.replicas.map((_, id) => [...new Set(digests(s.c, id).map(({ index }) => Number(index)))]);
      t.ok(indexes[0]!.length >= 2, `snapshots at ${indexes[0]!.join(', ')}`);
      for (const [id, own] of indexes.entries()) t.strictSame(own, indexes[0], `replica ${id}`);
      for (const replica of s.c.replicas) {
        t.equal(replica.counter('states_agreed'), indexes[0]!.length * (n - 1));
        t.strictSame(
          [replica.core.divergence.states, replica.core.divergence.limits, replica.core.divergence.log],
          [0, 0, 0],
        );
      }
    }
  }
  t.end();
});

/** As the journal, wrong from an operation on. */
class WrongMachine extends JournalMachine {
  constructor(private readonly from: number) {
    super();
  }
  override apply(
    operation: { bytes: Uint8Array; offset: number; length: number },
    context: unknown,
    reply: { bytes: Uint8Array; offset: number; length: number },
  ): void {
    super.apply(operation, context, reply);
    if (this.journal.length === this.from) this.journal[this.from - 1] += ' (wrong)';
  }
}

function theWrongOneStops(t: Test, s: Story, wrong: number, stopped: Map<number, DivergedError>): void {
  t.strictSame([...stopped.keys()], [wrong], `replica ${wrong} stops, nobody else`);
  const error = stopped.get(wrong)!;
  t.equal(error.code, 'state-diverged');
  t.match(
    error.message,
    new RegExp(
      `^the state of replica ${wrong} behind entry \\d+, chain [0-9a-f]{16}, has digest [0-9a-f]{16}, and that of replicas .* behind the same log, [0-9a-f]{16}: .*docs/operate/operations.md`,
    ),
  );
  for (const replica of s.c.replicas) {
    if (replica.id === wrong) continue;
    t.match(
      named(replica, 'state-diverged').at(-1),
      new RegExp(
        `from replica ${wrong}: behind entry .*; 2 replicas agree with this one, so replica ${wrong} is in the wrong and stops itself`,
      ),
      `replica ${replica.id} names it`,
    );
    t.equal(replica.core.divergence.states, 1 << wrong);
    t.ok(replica.counter('states_differed') > 0);
  }
}

t.test(
  'one machine that computes something else: primary, member or spare, it stops, and the message says where',
  (t) => {
    for (const wrong of [0, 1, 2]) {
      const s = new Story({ machine: (id) => (id === wrong ? new WrongMachine(20) : new JournalMachine()) });
      theWrongOneStops(t, s, wrong, s.commit(200));
    }
    t.end();
  },
);

t.test('a bit that flips in the state', (t) => {
  const s = new Story();
  t.equal(s.commit(100).size, 0);
  const { journal } = s.c.replica(1).machine as JournalMachine;
  journal[3] = String.fromCharCode(journal[3]!.charCodeAt(0) ^ 1) + journal[3]!.slice(1);
  theWrongOneStops(t, s, 1, s.commit(150));
  t.end();
});

/** Counts operations in a Map whose order it writes as it comes; a restore makes another order of it. */
class MapMachine extends JournalMachine {
  counts = new Map<string, number>();
  override apply(
    operation: { bytes: Uint8Array; offset: number; length: number },
    context: unknown,
    reply: { bytes: Uint8Array; offset: number; length: number },
  ): void {
    super.apply(operation, context, reply);
    const text = this.journal.pop()!;
    this.counts.set(text, (this.counts.get(text) ?? 0) + 1);
  }
  override snapshot(): Uint8Array {
    return new Uint8Array(Buffer.from(JSON.stringify([...this.counts])));
  }
  override restore(snapshot: Uint8Array): void {
    this.counts = new Map((JSON.parse(Buffer.from(snapshot).toString()) as [string, number][]).reverse());
  }
}

t.test('a machine that depends on the order of a Map, which a restore changes: found after a restart', (t) => {
  const s = new Story({ keepsLog: true, machine: () => new MapMachine() });
  t.equal(s.commit(300).size, 0);
  s.c.replica(2).crash();
  s.c.replica(2).start();
  theWrongOneStops(t, s, 2, s.commit(300));
  t.end();
});

t.test('a machine that reads a clock: all differ from each other, all are named, and nobody is stopped', (t) => {
  let clock = 0;
  class ClockMachine extends JournalMachine {
    override apply(
      operation: { bytes: Uint8Array; offset: number; length: number },
      context: unknown,
      reply: { bytes: Uint8Array; offset: number; length: number },
    ): void {
      super.apply(operation, context, reply);
      this.journal.push(`at ${clock++}`);
    }
  }
  const s = new Story({ machine: (): StateMachine => new ClockMachine() });
  t.equal(s.commit(200).size, 0);
  for (const { id, core } of s.c.replicas) {
    t.equal(core.divergence.states, 0b111 & ~(1 << id), `replica ${id} knows both`);
    t.match(
      named(s.c.replica(id), 'state-diverged').join('\n'),
      /which of them is in the wrong is not known, so none is stopped: look at both/,
    );
  }
  t.end();
});

t.test('two that are alone: nobody is stopped, both know it; the third decides', (t) => {
  const s = new Story({ machine: (id) => (id === 1 ? new WrongMachine(5) : new JournalMachine()) });
  s.c.lose();
  s.c.loses = ({ from, to, message }) => message === StateDigest && (from === 2 || to === 2);
  t.equal(s.commit(200).size, 0);
  t.strictSame(
    [0, 1, 2].map((id) => s.c.replica(id).core.divergence.states),
    [0b010, 0b001, 0],
  );
  t.match(
    named(s.c.replica(0), 'state-diverged').join('\n'),
    /^state-diverged: from replica 1: .* is not known, so none is stopped: look at both$/,
  );
  s.c.heal();
  theWrongOneStops(t, s, 1, s.commit(200));
  t.end();
});

t.test('a third that was filled by the wrong one is no second voice: nobody is stopped, all know it', (t) => {
  const s = new Story({ machine: (id) => (id === 1 ? new WrongMachine(5) : new JournalMachine()) });
  s.c.isolate(2);
  s.c.lose();
  t.equal(s.commit(300).size, 0);
  s.c.heal();
  t.equal(s.commit(300).size, 0);
  t.equal(s.c.replica(2).counter('snapshots_installed'), 1);
  t.match((s.c.replica(2).machine as JournalMachine).journal[4], /wrong/, 'by replica 1, as spares are');
  t.strictSame(
    [0, 1, 2].map((id) => s.c.replica(id).core.divergence.states),
    [0b010, 0b001, 0b001],
  );
  t.equal(digests(s.c, 2).length, 0);
  t.end();
});

t.test('one that was filled, and goes wrong before it has said anything, is named by the others as it stops', (t) => {
  const s = new Story();
  s.c.isolate(2);
  s.c.lose();
  t.equal(s.commit(300).size, 0);
  s.c.heal();
  s.run(50_000, new Map());
  t.equal(s.c.replica(2).counter('snapshots_installed'), 1);
  const { journal } = s.c.replica(2).machine as JournalMachine;
  journal[3] += ' (wrong)';
  theWrongOneStops(t, s, 2, s.commit(150));
  t.end();
});

t.test(
  'a third that was filled by the wrong one is no second voice after a restart either: whose its state is, is kept with the log',
  (t) => {
    const s = new Story({ keepsLog: true, machine: (id) => (id === 1 ? new WrongMachine(5) : new JournalMachine()) });
    s.c.isolate(2);
    s.c.lose();
    t.equal(s.commit(600).size, 0);
    s.c.heal();
    t.equal(s.commit(300).size, 0);
    const third = s.c.replica(2);
    t.equal(third.counter('snapshots_installed'), 1);
    for (let restarts = 0; restarts < 2; restarts++) {
      third.crash();
      third.start();
      t.equal(third.counter('snapshots_installed'), 0, 'with what it had on disk');
      t.equal(s.commit(600).size, 0, 'nobody stops');
      t.match((third.machine as JournalMachine).journal[4], /wrong/);
      t.equal(digests(s.c, 2).length, 0, 'it says nothing');
      t.equal(third.core.divergence.states, 0b001, 'and compares');
    }
    t.end();
  },
);

t.test(
  'a state that nobody contradicted is the own one, also over a restart; a restart before that goes on comparing',
  (t) => {
    const s = new Story({ keepsLog: true });
    s.c.isolate(2);
    s.c.lose();
    s.commit(600);
    s.c.heal();
    s.run(50_000, new Map());
    const third = s.c.replica(2);
    t.equal(third.counter('snapshots_installed'), 1);
    third.crash();
    third.start();
    t.equal(third.state.isEcho, true);
    s.commit(600);
    t.equal(third.state.isEcho, false);
    const said = digests(s.c, 2).length;
    t.ok(said > 0);
    const echoes = third.counter('states_agreed');
    t.ok(echoes > 0);
    third.crash();
    third.start();
    t.equal(third.state.isEcho, false);
    s.commit(300);
    t.ok(digests(s.c, 2).length > said);
    t.end();
  },
);

t.test('what was compared before another installation does not count for the state that this one brought', (t) => {
  const s = new Story({ machine: (id) => (id === 1 ? new WrongMachine(450) : new JournalMachine()) });
  const third = s.c.replica(2);
  /** Commits while replica 2 hears nothing, and fills it then. */
  const fill = (count: number): void => {
    s.c.isolate(2);
    s.c.lose();
    t.equal(s.commit(count).size, 0);
    s.c.heal();
    s.run(50_000, new Map());
  };
  fill(300);
  t.equal(third.counter('snapshots_installed'), 1);
  while (third.counter('states_agreed') === 0) s.commit(8);
  // More than is retained for a replica that got a snapshot before.
  fill(1_400);
  t.equal(third.counter('snapshots_installed'), 2);
  t.match((third.machine as JournalMachine).journal[449], /wrong/);
  t.equal(s.commit(600).size, 0, 'nobody stops');
  t.equal(third.state.isEcho, true);
  t.equal(digests(s.c, 2).length, 0);
  t.end();
});

t.test('no word of f replicas stops another, nor do f + 1 that do not agree with each other', (t) => {
  const s = new Story();
  s.commit(100);
  const replica = s.c.replica(0);
  const mine = digests(s.c, 0).at(-1)!;
  for (let i = 1; i < 20; i++) replica.receive(StateDigest, { ...mine, digest: BigInt(i) }, 1);
  replica.receive(StateDigest, { ...mine, digest: 99n }, 2);
  t.equal(replica.core.divergence.states, 0b110);
  s.c.pass(20_000);
  replica.receive(StateDigest, { ...mine, digest: 99n }, 1);
  t.throws(() => s.c.pass(20_000), { code: 'state-diverged' }, 'f + 1 that agree do');
  t.end();
});

t.test('limits that differ: the minority stops and says which; of two that are alone nobody does', (t) => {
  for (const [name, value] of [
    ['maxSessions', 32],
    ['maxLanes', 512],
    ['lanesPerSession', 32],
    ['operationBytes', 1000],
    ['resultBytes', 1000],
    ['keptResultBytes', 1 << 20],
  ] as const) {
    const s = new Story({ limitsOf: (id) => (id === 1 ? { [name]: value } : {}) });
    const stopped = new Map<number, DivergedError>();
    s.run(20_000, stopped);
    t.strictSame([...stopped.keys()], [1], name);
    t.match(stopped.get(1), {
      code: 'limits-differ',
      message: new RegExp(
        `^this replica has other limits than replicas 0 and 2: ${name} is ${value} here and \\d+ there; `,
      ),
    });
    for (const id of [0, 2])
      t.match(
        named(s.c.replica(id), 'limits-differ').at(-1),
        new RegExp(`from replica 1: ${name} is \\d+ here and ${value} at replica 1; 2 replicas agree`),
      );
  }
  const s = new Story({ limitsOf: (id) => (id === 1 ? { maxSessions: 32 } : {}) });
  s.c.isolate(2);
  s.c.lose();
  const stopped = new Map<number, DivergedError>();
  s.run(5000, stopped);
  s.run(5_000_000, stopped);
  t.equal(stopped.size, 0);
  t.strictSame(
    [0, 1].map((id) => s.c.replica(id).core.divergence.limits),
    [0b010, 0b001],
  );
  s.c.heal();
  s.c.replica(2).crash();
  s.c.replica(2).start(true);
  s.run(20_000, stopped);
  t.strictSame([...stopped.keys()], [1], 'a replica that starts asks the others');
  t.end();
});

t.test('recorded limits, said again by nobody, stop no replica: limits count in answers to its own question', (t) => {
  // As recorded before the operator gave all replicas other limits.
  const old = new Story({ limits: { maxSessions: 32 } });
  old.run(20_000, new Map());
  const recorded = old.c.history.filter(
    ({ message, to, values }) => message === StateDigest && to === 1 && values['index'] === 0n,
  );
  t.ok(recorded.some(({ values }) => values['asks'] === 0) && recorded.some(({ values }) => values['asks'] === 1));
  const s = new Story();
  s.c.replica(1).crash();
  s.c.replica(1).start(true); // another life, which draws other numbers
  const stopped = new Map<number, DivergedError>();
  for (let i = 0; i < 30; i++) {
    for (const { values, from } of recorded) s.c.replica(1).receive(StateDigest, values, from);
    s.run(5000, stopped);
  }
  t.equal(stopped.size, 0);
  t.strictSame(named(s.c.replica(1), 'limits-differ'), []);
  t.equal(s.c.replica(1).core.divergence.limits, 0);
  const questions = s.c.history.filter(
    ({ message, from, values }) => message === StateDigest && from === 1 && values['asks'] === 1,
  );
  t.ok(questions.length < 30, `${questions.length} questions in 150 ms: recordings do not make it ask without end`);
  t.end();
});

t.test('what is lost is said again, a bounded number of times, and asked for', (t) => {
  const s = new Story();
  s.c.loses = ({ message }) => message === StateDigest;
  s.commit(100);
  t.equal(s.c.replica(0).counter('states_agreed'), 0);
  s.c.heal();
  s.run(200_000, new Map());
  const { own } = s.c.replica(0).core.divergence['digests'] as unknown as { own: unknown[] };
  t.equal(
    s.c.replica(0).counter('states_agreed'),
    (own.length - 1) * 2,
    'each of those that are remembered was heard of both others',
  );
  const silent = new Story();
  silent.commit(20);
  silent.c.loses = ({ message }) => message === StateDigest;
  silent.commit(100);
  const before = digests(silent.c, 0).length;
  silent.run(60_000_000, new Map());
  const repeated = digests(silent.c, 0).length - before;
  t.ok(repeated > 0 && repeated <= 4 * 5 * 2, `${repeated} messages in a minute, and no more`);
  silent.run(60_000_000, new Map());
  t.equal(digests(silent.c, 0).length - before, repeated);
  t.end();
});

t.test('a replica that got its state from another says nothing of that index, and joins in at a later one', (t) => {
  const s = new Story();
  s.c.isolate(2);
  s.c.lose();
  s.commit(300);
  s.c.heal();
  s.run(50_000, new Map());
  t.equal(s.c.replica(2).counter('snapshots_installed'), 1);
  const base = BigInt(s.c.replica(2).state.execution.stable.index);
  t.equal(digests(s.c, 2).filter(({ index }) => (index as bigint) <= base).length, 0);
  s.commit(200);
  t.ok(digests(s.c, 2).length > 0);
  t.ok(s.c.replica(0).core.divergence.states === 0 && s.c.replica(2).counter('states_agreed') > 0);
  t.end();
});
