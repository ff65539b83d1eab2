// Whose word counts where members change: a quorum of the voters decides who is in the wrong. Hosts that do not vote
// stop nobody, and what a host said is not the word of the next host in its slot.
import t from 'tap';
import { DivergedError } from '../../src/protocol/replica/diverged-error.js';
import { StateDigest } from '../../src/wire/messages.js';
import { Changing } from './changing.js';
import { JournalMachine } from './harness.js';

/** Small logs, so that snapshots come soon. */
const SMALL = { limits: { logEntries: 256 } };
const OTHER = 0x1234567812345678n;

/** Commits that many entries; returns what stopped some, by replica. */
function commit(c: Changing, entries: number): Map<number, string> {
  const stopped = new Map<number, string>();
  const run = (us: number): void => {
    for (let left = us; left > 0; left -= 1000) {
      try {
        c.run(1000);
      } catch (error) {
        if (!(error instanceof DivergedError)) throw error;
        const replica = c.replicas.find(({ up, core }) => up && core.divergence['verdict'] === error)!;
        stopped.set(replica.id, error.code);
        replica.crash();
      }
    }
  };
  for (let i = 0; i < entries; i++) {
    c.ask({ kind: 'move', id: 0, address: `moved-${i}:1` });
    run(2000);
  }
  run(100_000);
  return stopped;
}

/** A cluster of `voters`, and learners whose machines hold another state from the moment when `isWrong` is set. */
function withLearners(voters: number, learners: number): { c: Changing; wrong: { isWrong: boolean } } {
  const wrong = { isWrong: false };
  class Wrong extends JournalMachine {
    override snapshot(): Uint8Array {
      const state = super.snapshot();
      return wrong.isWrong ? Uint8Array.of(...state, 1) : state;
    }
  }
  const machine = (id: number): JournalMachine => (id < voters ? new JournalMachine() : new Wrong());
  const c = new Changing(voters, true, 'named', { ...SMALL, machine });
  for (let i = 0; i < learners; i++) c.join();
  return { c, wrong };
}

t.test('hosts that do not vote and share another state stop themselves, and no voter, however many they are', (t) => {
  for (const [voters, learners] of [
    [1, 1],
    [1, 2],
    [3, 2],
    [3, 4],
  ] as const) {
    const { c, wrong } = withLearners(voters, learners);
    wrong.isWrong = true;
    const stopped = commit(c, 200);
    t.strictSame(
      [...stopped].sort((a, b) => a[0] - b[0]),
      Array.from({ length: learners }, (_, i) => [voters + i, 'state-diverged']),
      `${voters} voters, ${learners} others`,
    );
    t.ok(c.serves(), 'the cluster goes on');
  }
  t.end();
});

t.test('of two voters that differ neither stops, and both are told', (t) => {
  const { c, wrong } = withLearners(1, 1);
  c.ask({ kind: 'change', from: 0, to: 1, ids: [0, 1] });
  t.ok(c.until(5_000_000, () => c.epoch === 1 && c.newest.started === 1));
  wrong.isWrong = true;
  t.strictSame([...commit(c, 200)], []);
  for (const [id, other] of [
    [0, 1],
    [1, 0],
  ] as const)
    t.match(
      c.replica(id).transitions.filter((text) => text.startsWith('state-diverged')),
      [new RegExp(`from replica ${other}: .*which of them is in the wrong is not known`)],
    );
  t.ok(c.serves());
  t.end();
});

t.test('what a host said is not the word of the next host in its slot', (t) => {
  const c = new Changing(3);
  const judge = c.replica(0);
  const claim = { index: 2n, chain: OTHER };
  judge.receive(StateDigest, claim, 2);
  t.equal(judge.core.divergence.log, 0b100);
  const third = c.join();
  c.ask({ kind: 'change', from: 0, to: 1, ids: [0, 1, 3] });
  t.ok(c.until(5_000_000, () => c.newest.started === 1));
  judge.receive(StateDigest, { ...claim, digest: 0n }, third);
  c.replica(2).crash();
  c.ask({ kind: 'learn', identityHi: 7, identityLo: 900, address: 'next:1' });
  c.run(100_000);
  t.strictSame(
    c.newest.hosts.map(({ id, slot }) => [id, slot]),
    [
      [0, 0],
      [1, 1],
      [3, 3],
      [4, 2],
    ],
  );
  t.equal(judge.core.divergence.log, 1 << third, 'nothing is known of host 4');
  c.reuse(2).start();
  c.run(100_000);
  c.ask({ kind: 'change', from: 1, to: 2, ids: [0, 1, 4] });
  t.ok(c.until(5_000_000, () => c.epoch === 2 && c.newest.started === 2));
  t.doesNotThrow(() => judge.receive(StateDigest, claim, 1), 'a single voter of three says so');
  t.throws(() => judge.receive(StateDigest, claim, 2), { code: 'log-diverged' }, 'and now two');
  t.end();
});
