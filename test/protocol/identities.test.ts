// C7: an id means one data directory. Another one is listed after an empty directory was told that none is: it begins, and
// takes up no log that lists the other.
import t from 'tap';
import { encodeOperation } from '../../src/protocol/membership/operations.js';
import { VIEW_LEAP } from '../../src/protocol/replica/introduction.js';
import { goBehind } from '../../src/protocol/replica/membership/primary-entries.js';
import { ProbeReply, ReplicaStatus, SyncAck, Vote } from '../../src/wire/messages.js';
import { Changing } from './changing.js';
import type { Packet } from './harness.js';

const OWN = { identityHi: 8, identityLo: 3 };
const OTHER = { identityHi: 9, identityLo: 3 };

/** The log gets an entry that lists `identity` and changes nothing, because its session is not known. */
function claims(c: Changing, identity: typeof OWN): void {
  for (const id of [0, 1]) {
    const { state } = c.replica(id);
    const entry = goBehind(state.log, state.log.lastIndex, 1);
    entry.sessionHi = 1;
    entry.operationBytes = encodeOperation({ kind: 'name', id: 2, ...identity, address: 'first-2:1' });
    entry.operationLength = entry.operationBytes.length;
    t.ok(state.append(entry));
    if (state.isPrimary) state.execution.executeTo(state.log.lastIndex);
  }
}

/**
 * Replica 2 of three has lost its directory, and begins with what the others told it before the operator lists `identity`.
 * @param claimed before it, an entry that changes nothing lists this one
 */
function listedMeanwhile(identity: typeof OWN, isCommitted: boolean, claimed?: typeof OWN): Changing {
  const c = new Changing(3, true, 'unnamed');
  c.tells = false;
  const two = c.replica(2);
  two.crash();
  two.disk.wipe();
  two.identity = OWN;
  two.start(true, 'log-lost');
  c.settle({ from: 2 });
  const answers: Packet[] = c.take({ to: 2, message: ProbeReply });
  t.equal(answers.length, 2);
  t.equal(two.state.starting, true);
  if (claimed !== undefined) claims(c, claimed);
  c.ask({ kind: 'name', id: 2, ...identity, address: 'first-2:1' }, false, [0, 1]);
  c.loses = ({ to }) => to === 2;
  if (isCommitted) c.run(50_000);
  else c.lose();
  t.equal(c.replica(0).state.members.index > 0, isCommitted);
  c.mend();
  for (const answer of answers) c.arrive(answer);
  t.ok(!two.state.starting && two.state.view >= VIEW_LEAP, `it begins, in view ${two.state.view}`);
  return c;
}

for (const [isCommitted, claimed] of [
  [true, undefined],
  [false, undefined],
  [true, OWN],
  [false, OWN],
] as const)
  t.test(
    `${isCommitted ? 'committed' : 'not committed yet'}${claimed === undefined ? '' : ', and an entry without effect lists its own'}: it neither votes nor acknowledges`,
    (t) => {
      const c = listedMeanwhile(OTHER, isCommitted, claimed);
      const { state, transitions } = c.replica(2);
      c.history.length = 0;
      c.until(3_000_000, () => transitions.some((text) => text.startsWith('install-failed')));
      t.match(
        transitions.filter((text) => text.startsWith('install-failed')),
        ['install-failed: it lists another data directory than this one under id 2'],
      );
      t.equal(state.status, ReplicaStatus.recovering);
      t.strictSame(
        c.history.filter(({ from, message }) => from === 2 && (message === Vote || message === SyncAck)),
        [],
      );
      t.not(c.replica(2).asked.length, 0, 'it asks who the members are');
      c.tells = true;
      c.run(500_000);
      t.match(
        state.members.hosts.find(({ id }) => id === 2),
        OTHER,
        'so its host learns that it has to stop',
      );
      t.equal(state.status, ReplicaStatus.recovering);
      t.end();
    },
  );

for (const [isCommitted, claimed] of [
  [false, undefined],
  [false, OTHER],
  [true, OTHER],
] as const)
  t.test(
    `its own, ${isCommitted ? 'committed' : 'not committed yet'}${claimed === undefined ? '' : ', and an entry without effect lists another'}: it takes part again`,
    (t) => {
      const c = listedMeanwhile(OWN, isCommitted, claimed);
      t.ok(
        c.until(3_000_000, () => c.replica(2).state.status === ReplicaStatus.normal),
        `${c.replica(2).transitions.at(-1)}`,
      );
      t.end();
    },
  );
