/**
 * Each invariant on states and messages made by hand: it is silent while the rule holds and speaks when it is broken.
 */
import t from 'tap';
import type { ApplyContext, Operation, Reply as MachineReply, StateMachine } from '../../src/machine/state-machine.js';
import { Checks } from '../../src/sim/checks.js';
import type { LogView } from '../../src/sim/cores.js';
import { SimulationHasher } from '../../src/sim/hash.js';
import { MachineProbe } from '../../src/sim/machine-probe.js';
import { Violation, type InvariantName } from '../../src/sim/violation.js';
import { begin } from '../../src/wire/layout.js';
import { Chunk, Reply, ReplicaStatus, Sync, SyncAck } from '../../src/wire/messages.js';
import { readI32, writeI32, writeIndex } from '../../src/wire/u64.js';

/** The invariant that a call finds broken; undefined when it finds none. */
function broken(call: () => unknown): InvariantName | undefined {
  try {
    call();
  } catch (error) {
    if (error instanceof Violation) return error.invariant;
    throw error;
  }
  return undefined;
}

interface Entry {
  readonly timestamp: number;
  readonly session: number;
  readonly request: number;
}

const hasher = new SimulationHasher();

/** A log of plain objects, its chain computed like the real one's: from the chain before and the entry. */
class PlainLog implements LogView {
  baseIndex = 0;
  private readonly chains: Int32Array[] = [new Int32Array(2)];
  private readonly entries: (Entry | undefined)[] = [undefined];

  get lastIndex(): number {
    return this.entries.length - 1;
  }

  append(...entries: Entry[]): this {
    for (const entry of entries) {
      const bytes = new Uint8Array(20);
      const before = this.chains.at(-1)!;
      [before[0]!, before[1]!, entry.timestamp, entry.session, entry.request].forEach((value, i) =>
        writeI32(bytes, 4 * i, value),
      );
      hasher.hash64(bytes, 0, 20, bytes, 0);
      this.chains.push(Int32Array.of(readI32(bytes, 0), readI32(bytes, 4)));
      this.entries.push(entry);
    }
    return this;
  }

  truncate(index: number): this {
    this.entries.length = index + 1;
    this.chains.length = index + 1;
    return this;
  }

  chainHi(index: number): number {
    return this.chains[index]![0]!;
  }
  chainLo(index: number): number {
    return this.chains[index]![1]!;
  }
  timestampHi(): number {
    return 0;
  }
  timestampLo(index: number): number {
    return this.entries[index]!.timestamp;
  }
  sessionHi(): number {
    return 0;
  }
  sessionLo(index: number): number {
    return this.entries[index]!.session;
  }
  lane(): number {
    return 0;
  }
  request(index: number): number {
    return this.entries[index]!.request;
  }
}

/** Result: whatever `answer` says. */
class Answers implements StateMachine {
  answer = 0;
  apply(_operation: Operation, _context: ApplyContext, reply: MachineReply): void {
    reply.bytes[reply.offset] = this.answer;
    reply.length = 1;
  }
  query(): void {}
  snapshot(): Uint8Array {
    return new Uint8Array(0);
  }
  restore(): void {}
}

class Replica {
  view = 0;
  logView = 0;
  status: number = ReplicaStatus.normal;
  incarnation = 1;
  committed = 0;
  executed = 0;
  log = new PlainLog();
  readonly machine = new Answers();
  probe = new MachineProbe(this.machine, 'replica');

  execute(index: number, operation = this.log.request(index)): void {
    this.probe.apply(
      { bytes: Uint8Array.of(operation), offset: 0, length: 1 },
      { timestampHi: 0, timestampLo: this.log.timestampLo(index), index },
      { bytes: new Uint8Array(4), offset: 0, capacity: 4, length: 0 },
    );
    this.executed = index;
  }
}

/** Three replicas in view 0: primary 0, member 1, spare 2. */
class Cluster {
  readonly checks = new Checks(3);
  readonly replicas = [new Replica(), new Replica(), new Replica()] as const;

  constructor() {
    this.replicas.forEach((replica, id) => this.checks.started(id, replica));
  }

  append(id: number, ...entries: Entry[]): void {
    this.replicas[id]!.log.append(...entries);
    this.after(id);
  }

  after(id: number): void {
    this.checks.after(id, this.replicas[id]!.probe);
  }

  reply(id: number, index = this.replicas[id]!.log.lastIndex, view = this.replicas[id]!.view): void {
    const { log } = this.replicas[id]!;
    const bytes = new Uint8Array(Reply.size);
    begin(Reply, bytes, 0);
    writeI32(bytes, Reply.at.view, view);
    writeIndex(bytes, Reply.at.index, index);
    writeI32(bytes, Reply.at.chain, log.chainHi(index));
    writeI32(bytes, Reply.at.chain + 4, log.chainLo(index));
    this.checks.sent(id, bytes, 0);
    this.after(id);
  }

  sync(id: number): void {
    const { log, view } = this.replicas[id]!;
    const bytes = new Uint8Array(Sync.size);
    begin(Sync, bytes, 0);
    writeI32(bytes, Sync.at.view, view);
    writeIndex(bytes, Sync.at.lastIndex, log.lastIndex);
    writeI32(bytes, Sync.at.lastChain, log.chainHi(log.lastIndex));
    writeI32(bytes, Sync.at.lastChain + 4, log.chainLo(log.lastIndex));
    this.checks.sent(id, bytes, 0);
    this.after(id);
  }

  syncAck(id: number, matched: number): void {
    const bytes = new Uint8Array(SyncAck.size);
    begin(SyncAck, bytes, 0);
    writeI32(bytes, SyncAck.at.view, this.replicas[id]!.view);
    writeIndex(bytes, SyncAck.at.matchedIndex, matched);
    this.checks.sent(id, bytes, 0);
    this.after(id);
  }

  /** View 0 commits `entries`. */
  commit(...entries: Entry[]): void {
    for (const id of [0, 1]) {
      this.append(id, ...entries);
      this.reply(id);
    }
  }
}

const A: Entry = { timestamp: 10, session: 1, request: 1 };
const B: Entry = { timestamp: 20, session: 2, request: 1 };
const C: Entry = { timestamp: 30, session: 1, request: 2 };

t.test('chosen: what the primary has said and every member vouches for, by replies or by SyncAcks', (t) => {
  const cluster = new Cluster();
  cluster.append(0, A, B);
  cluster.append(1, A, B);
  cluster.reply(1);
  t.equal(cluster.checks.chosenLength, 0, 'the primary has said nothing');
  cluster.reply(0, 1);
  t.equal(cluster.checks.chosenLength, 1, 'an acknowledgement that came first counts when the primary gets there');
  cluster.sync(0);
  t.equal(cluster.checks.chosenLength, 2);
  cluster.append(0, C);
  cluster.append(1, C);
  cluster.sync(0);
  t.equal(cluster.checks.chosenLength, 2);
  cluster.syncAck(1, 3);
  t.equal(cluster.checks.chosenLength, 3);
  t.equal(cluster.checks.viewsStarted, 1);
  t.end();
});

t.test(
  'chosen: an acknowledgement of another log vouches for the common part only, one of a spare for nothing',
  (t) => {
    const cluster = new Cluster();
    cluster.append(0, A, B, C);
    cluster.append(1, A, C);
    cluster.append(2, A, B, C);
    cluster.reply(0);
    cluster.reply(2);
    t.equal(cluster.checks.chosenLength, 0);
    cluster.reply(1);
    t.equal(cluster.checks.chosenLength, 1);
    t.end();
  },
);

t.test('chosen-stable: a member that loses what is committed', (t) => {
  const cluster = new Cluster();
  cluster.commit(A, B);
  cluster.replicas[1].log.truncate(1);
  t.equal(
    broken(() => cluster.after(1)),
    'chosen-stable',
  );
  cluster.replicas[1].status = ReplicaStatus.recovering;
  t.doesNotThrow(() => cluster.after(1), 'not while it recovers');
  t.end();
});

t.test('chosen-stable: a replica that is normal in a later view without it; a spare of the same view may lag', (t) => {
  const cluster = new Cluster();
  cluster.commit(A);
  t.doesNotThrow(() => cluster.after(2));
  cluster.replicas[2].view = 1;
  t.equal(
    broken(() => cluster.after(2)),
    'chosen-stable',
  );
  t.end();
});

t.test('never-lost: a later view that starts from a log without it', (t) => {
  const cluster = new Cluster();
  cluster.commit(A);
  const primary = cluster.replicas[1];
  primary.view = 1;
  primary.status = ReplicaStatus.viewChange;
  primary.log.truncate(0);
  t.equal(
    broken(() => cluster.sync(1)),
    'never-lost',
  );
  t.end();
});

t.test('never-lost: also when the older view commits after the later one has started', (t) => {
  const cluster = new Cluster();
  cluster.append(0, A);
  cluster.reply(0);
  cluster.append(1, A);
  cluster.replicas[2].view = 2;
  cluster.replicas[2].status = ReplicaStatus.viewChange;
  cluster.sync(2);
  t.equal(
    broken(() => cluster.reply(1)),
    'never-lost',
  );
  t.end();
});

t.test('chosen-agree: two views that commit different entries', (t) => {
  const cluster = new Cluster();
  cluster.append(0, A);
  cluster.sync(0);
  // View 1 has primary 1 and member 2. Both are made to look as if they had never heard of A.
  for (const id of [1, 2]) {
    cluster.replicas[id]!.view = 1;
    cluster.replicas[id]!.status = ReplicaStatus.viewChange;
    cluster.append(id, B);
  }
  cluster.sync(1);
  cluster.reply(2);
  t.equal(cluster.checks.chosenLength, 1);
  cluster.replicas[1].log.truncate(0);
  cluster.append(1, A);
  t.equal(
    broken(() => cluster.reply(1, 1, 0)),
    'chosen-agree',
  );
  t.end();
});

t.test('one-start: a primary that takes back what it said', (t) => {
  const cluster = new Cluster();
  cluster.append(0, A, B);
  cluster.sync(0);
  cluster.replicas[0].log.truncate(1).append(C);
  t.equal(
    broken(() => cluster.sync(0)),
    'one-start',
  );
  t.end();
});

t.test('one-start: a replica that speaks for a view that is not its own', (t) => {
  const cluster = new Cluster();
  t.equal(
    broken(() => cluster.sync(1)),
    'one-start',
  );
  t.end();
});

t.test('one-start: what a primary discloses to a repair counts like a Sync, what a voter discloses does not', (t) => {
  const cluster = new Cluster();
  cluster.append(0, A, B);
  const chunk = (id: number, view: number, logView: number): void => {
    const { log } = cluster.replicas[id]!;
    const bytes = new Uint8Array(Chunk.size);
    begin(Chunk, bytes, 0);
    writeI32(bytes, Chunk.at.view, view);
    writeI32(bytes, Chunk.at.logView, logView);
    writeIndex(bytes, Chunk.at.lastIndex, log.lastIndex);
    writeI32(bytes, Chunk.at.lastChain, log.chainHi(log.lastIndex));
    writeI32(bytes, Chunk.at.lastChain + 4, log.chainLo(log.lastIndex));
    cluster.checks.sent(id, bytes, 0);
    cluster.after(id);
  };
  chunk(0, 0, 0);
  cluster.append(1, A, B);
  cluster.syncAck(1, 2);
  t.equal(cluster.checks.chosenLength, 2);
  chunk(1, 1, 0);
  t.equal(cluster.checks.viewsStarted, 1);
  t.end();
});

t.test("acknowledgement-truthful: a SyncAck beyond the primary's log, or of another one", (t) => {
  const cluster = new Cluster();
  cluster.append(0, A);
  cluster.sync(0);
  cluster.append(1, B);
  t.equal(
    broken(() => cluster.syncAck(1, 2)),
    'acknowledgement-truthful',
  );
  t.equal(
    broken(() => cluster.syncAck(1, 1)),
    'acknowledgement-truthful',
  );
  t.end();
});

t.test('an entry that is appended and cut behind a snapshot in one call was in a log, if the snapshot has it', (t) => {
  const cut = (appended: readonly Entry[], snapshotOf: readonly Entry[]): (() => void) => {
    const checks = new Checks(1);
    const replica = new Replica();
    replica.probe = new MachineProbe(replica.machine, 'replica', undefined, false, false, false, false, () =>
      checks.look(0),
    );
    checks.started(0, replica);
    replica.log.append(...appended);
    replica.probe.snapshot();
    replica.log.truncate(0).append(...snapshotOf);
    replica.log.baseIndex = snapshotOf.length;
    return () => checks.after(0, replica.probe);
  };
  t.doesNotThrow(cut([A, B], [A, B]));
  t.equal(broken(cut([A], [A, B])), 'acknowledgement-truthful');
  t.equal(broken(cut([A, B], [A, C])), 'acknowledgement-truthful');
  t.end();
});

t.test('acknowledgement-truthful: a log behind a snapshot of something that never was', (t) => {
  const cluster = new Cluster();
  const { log } = cluster.replicas[2];
  log.append(A, B);
  log.baseIndex = 2;
  t.equal(
    broken(() => cluster.after(2)),
    'acknowledgement-truthful',
  );
  const other = new Cluster();
  other.append(0, A, B);
  other.replicas[2].log.append(A, B, C);
  other.replicas[2].log.baseIndex = 2;
  t.doesNotThrow(() => other.after(2), 'one that another log had is known');
  t.end();
});

t.test('at-most-once and key-order', (t) => {
  t.equal(
    broken(() => new Cluster().append(0, A, { ...A, timestamp: 40 })),
    'at-most-once',
  );
  t.equal(
    broken(() => new Cluster().append(0, B, A)),
    'key-order',
  );
  t.equal(
    broken(() => new Cluster().append(0, A, { ...A, request: 9 })),
    'key-order',
  );
  const cluster = new Cluster();
  cluster.append(0, A, B);
  t.doesNotThrow(
    () => cluster.append(1, { ...A, timestamp: 15 }),
    'the same request under another timestamp in another log',
  );
  t.equal(
    broken(() => cluster.append(1, { ...A, timestamp: 16 })),
    'at-most-once',
  );
  t.doesNotThrow(
    () => cluster.append(2, { ...A, session: 7 }, { ...A, session: 8 }),
    'equal timestamps of two sessions',
  );
  t.end();
});

t.test('committed-truthful: a replica that believes too much, or something else', (t) => {
  const cluster = new Cluster();
  cluster.commit(A);
  cluster.replicas[0].committed = 1;
  t.doesNotThrow(() => cluster.after(0));
  cluster.replicas[0].committed = 2;
  t.equal(
    broken(() => cluster.after(0)),
    'committed-truthful',
  );
  cluster.append(2, B);
  cluster.replicas[2].committed = 1;
  t.equal(
    broken(() => cluster.after(2)),
    'committed-truthful',
  );
  t.end();
});

t.test(
  'executed-agree: another operation, another result, nothing at all, or the leftovers of a log that was cut',
  (t) => {
    const set = (): Cluster => {
      const cluster = new Cluster();
      cluster.commit(A, B);
      cluster.replicas[0].execute(1);
      cluster.replicas[0].execute(2);
      cluster.after(0);
      return cluster;
    };
    const same = set();
    same.replicas[1].execute(1);
    same.replicas[1].execute(2);
    t.doesNotThrow(() => same.after(1));

    const operation = set();
    operation.replicas[1].execute(1, 77);
    t.equal(
      broken(() => operation.after(1)),
      'executed-agree',
    );

    const result = set();
    result.replicas[1].machine.answer = 3;
    result.replicas[1].execute(1);
    t.equal(
      broken(() => result.after(1)),
      'executed-agree',
    );

    const skipped = set();
    skipped.replicas[1].executed = 1;
    t.equal(
      broken(() => skipped.after(1)),
      'executed-agree',
    );

    const beyond = set();
    beyond.replicas[2].executed = 1;
    t.equal(
      broken(() => beyond.after(2)),
      'executed-agree',
    );

    const cut = set();
    cut.append(2, B);
    cut.replicas[2].execute(1);
    t.doesNotThrow(() => cut.after(2), 'executed too early, and not in the chosen log: to be rolled back');
    cut.replicas[2].log.truncate(0).append(A);
    t.equal(
      broken(() => cut.after(2)),
      'executed-agree',
      'the rollback was skipped',
    );
    cut.replicas[2].probe.restore(new Uint8Array(0));
    cut.replicas[2].execute(1);
    t.doesNotThrow(() => cut.after(2));
    t.end();
  },
);

t.test('executed-once: an index executed again without a restore', (t) => {
  const { replicas } = new Cluster();
  replicas[0].log.append(A, B);
  replicas[0].execute(1);
  t.equal(
    broken(() => replicas[0].execute(1)),
    'executed-once',
  );
  replicas[0].probe.restore(new Uint8Array(0));
  t.doesNotThrow(() => replicas[0].execute(1));
  t.end();
});

t.test('client-result: a client that was told of something that is not chosen', (t) => {
  const cluster = new Cluster();
  cluster.commit(A);
  t.doesNotThrow(() => cluster.checks.clientCommitted(0, 1, 0, 1));
  cluster.append(0, B);
  t.equal(
    broken(() => cluster.checks.clientCommitted(0, 2, 0, 1)),
    'client-result',
  );
  t.end();
});

t.test('a replica that is down is not judged; one that comes back is judged by its new log', (t) => {
  const cluster = new Cluster();
  cluster.commit(A);
  cluster.checks.stopped(1);
  cluster.replicas[1].log.truncate(0);
  t.doesNotThrow(() => cluster.after(1));
  t.match(cluster.checks.describe(1), /down/);
  cluster.checks.started(1, cluster.replicas[1]);
  t.equal(
    broken(() => cluster.after(1)),
    'chosen-stable',
  );
  t.match(cluster.checks.describe(0), /normal primary view 0/);
  t.end();
});
