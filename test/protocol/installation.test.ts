// A long log is taken up in slices by a replica that lost its own. View 0 of three: primary 0, member 1, spare 2.
import t from 'tap';
import { Probe, ReplicaStatus, Request } from '../../src/wire/messages.js';
import { SNAPSHOT_FILL_MAX } from '../../src/protocol/replica/log-capacity.js';
import { Cluster, type JournalMachine } from './harness.js';

const CHUNK_BYTES = 200;
/** A slice has four answers, and an entry more. */
const SLICE_BYTES = 4 * CHUNK_BYTES;
const ENTRY_BYTES_MIN = 36;
const TAIL = 150;

const journal = (c: Cluster, id: number): string[] => (c.replica(id).machine as JournalMachine).journal;

/** Replica 2 has lost its log. The others have a snapshot, and TAIL entries behind it. */
function longTail(keepsLog: boolean): { readonly c: Cluster; readonly append: (count: number) => void } {
  const c = new Cluster(3, {
    keepsLog,
    limits: { chunkBytes: CHUNK_BYTES, logEntries: 1 << 14, logBytes: 1 << 15 },
    datagramBytes: 256,
    timings: { fetchTimeoutUs: 1_000_000, suspectUs: 100_000_000 },
  });
  const alice = c.hand();
  let given = 0;
  c.give(alice, Request, alice.registration(10), 0, 1);
  c.run(20_000);
  const append = (count: number): void => {
    for (let i = 0; i < count; i++) {
      given++;
      c.give(alice, Request, alice.request(100 + given, given, `operation ${given}`), 0, 1);
      if (given % 10 === 0) c.run(5_000);
    }
    c.run(20_000);
  };
  c.isolate(2);
  const { log, execution } = c.replica(0).state;
  for (let i = 0; i < 100 && (log.baseIndex === 0 || log.lastIndex - execution.stable.index < TAIL); i++) append(10);
  c.lose();
  c.heal();
  c.replica(2).crash();
  c.replica(2).start(true);
  return { c, append };
}

/** What a replica has done in one turn. */
interface Turn {
  readonly executed: number;
  readonly appended: number;
}

/** From now on each message and each tick of replica `id` is looked at. */
function turnsOf(c: Cluster, id: number): Turn[] {
  const turns: Turn[] = [];
  const { core } = c.replica(id);
  const { state } = core;
  const looked = (call: () => void): void => {
    const { executed } = state.execution;
    const { lastIndex } = state.log;
    call();
    const isInstall = state.log.baseIndex >= lastIndex && state.log.lastIndex > lastIndex;
    turns.push({
      executed: isInstall
        ? state.execution.executed - state.execution.stable.index
        : state.execution.executed - executed,
      appended: isInstall ? state.log.lastIndex - state.log.baseIndex : state.log.lastIndex - lastIndex,
    });
  };
  const receive = core.receive.bind(core);
  const tick = core.tick.bind(core);
  core.receive = (...given) => looked(() => receive(...given));
  core.tick = (...given) => looked(() => tick(...given));
  return turns;
}

for (const keepsLog of [false, true])
  t.test(
    `no turn takes up more than a slice, and probes are answered in between, ${keepsLog ? 'on disk' : 'in memory'}`,
    (t) => {
      const { c } = longTail(keepsLog);
      const replica = c.replica(2);
      const turns = turnsOf(c, 2);
      let answered = 0;
      for (let ms = 0; ms < 2000 && replica.state.status !== ReplicaStatus.normal; ms++) {
        c.run(1000);
        if (replica.counter('snapshots_installed') === 0 || replica.state.status === ReplicaStatus.normal) continue;
        answered += replica.receive(Probe, {}, 0).filter(({ message }) => message.name === 'ProbeReply').length;
      }
      t.equal(replica.state.status, ReplicaStatus.normal);
      t.equal(replica.counter('snapshots_installed'), 1);
      const most = Math.max(...turns.map(({ executed, appended }) => Math.max(executed, appended)));
      t.ok(
        most <= SLICE_BYTES / ENTRY_BYTES_MIN + 1,
        `at most ${most} entries in a turn of ${turns.reduce((sum, { appended }) => sum + appended, 0)}`,
      );
      t.ok(answered >= TAIL / (SLICE_BYTES / ENTRY_BYTES_MIN), `${answered} probes were answered meanwhile`);
      c.run(50_000);
      t.strictSame(journal(c, 2), journal(c, 0));
      t.end();
    },
  );

t.test('a Sync from before the slices says nothing impossible', (t) => {
  const { c, append } = longTail(false);
  const replica = c.replica(2);
  const syncs = c.history.filter(({ message, to }) => message.name === 'Sync' && to === 1);
  const old = syncs[Math.floor(syncs.length / 2)]!;
  for (let ms = 0; ms < 2000 && replica.state.committed < replica.state.log.baseIndex + 20; ms++) c.run(1000);
  t.equal(replica.state.status, ReplicaStatus.recovering, 'in the middle of it');
  // Its transfer is over, whatever for.
  replica.core['viewChanges'].installation.abandon();
  c.arrive({ ...old, to: 2 });
  t.ok(replica.up);
  t.notOk(
    replica.transitions.some((each) => /impossible|contradict|diverged/.test(each)),
    replica.transitions.join('; '),
  );
  append(10);
  c.run(2_000_000);
  t.equal(replica.state.status, ReplicaStatus.normal);
  t.strictSame(journal(c, 2), journal(c, 0));
  t.end();
});

t.test('with a crash in the middle of it the log stays lost, and comes anew', (t) => {
  const { c } = longTail(true);
  const replica = c.replica(2);
  for (let ms = 0; ms < 2000 && replica.state.committed < replica.state.log.baseIndex + 20; ms++) c.run(1000);
  t.equal(replica.state.status, ReplicaStatus.recovering, 'in the middle of it');
  replica.crash();
  replica.start();
  t.equal(replica.state.status, ReplicaStatus.recovering);
  t.equal(replica.state.log.lastIndex, 0);
  c.run(2_000_000);
  t.equal(replica.state.status, ReplicaStatus.normal);
  t.strictSame(journal(c, 2), journal(c, 0));
  t.end();
});

t.test(
  'a replica that got its state takes no snapshot of its own before it has caught up, unless the log fills',
  (t) => {
    const { c } = longTail(false);
    const replica = c.replica(2);
    const { execution, log } = replica.state;
    for (let ms = 0; ms < 2000 && replica.counter('snapshots_installed') === 0; ms++) c.run(1000);
    execution.setPitch(1);
    for (let ms = 0; ms < 2000 && replica.state.status !== ReplicaStatus.normal; ms++) {
      c.run(1000);
      if (log.fill() < SNAPSHOT_FILL_MAX && replica.state.status !== ReplicaStatus.normal)
        t.notOk(execution.newestSnapshot > log.baseIndex, 'no snapshot');
    }
    c.run(50_000);
    t.equal(execution.snapshotFill, -Infinity, 'afterwards they are due as ever');
    t.end();
  },
);
