// The invariants of the replica that guard a rule S: each holds in a running cluster, and fires when its rule is broken.
// View 0 of three: primary 0, member 1, spare 2.
import t from 'tap';
import { Instant } from '../../src/protocol/contract.js';
import { InvariantError } from '../../src/protocol/invariant.js';
import { Entry } from '../../src/protocol/log/entry.js';
import { NO_RESULT } from '../../src/protocol/replica/message-writer.js';
import { ArrivedRequest } from '../../src/protocol/replica/arrived-request.js';
import { ReplicaStatus, Request } from '../../src/wire/messages.js';
import { force } from '../sim/mutation.js';
import { Cluster, type TestReplica } from './harness.js';

const now = new Instant();

/** A registered client and three entries, of which all replicas know. */
function scene(): { readonly primary: TestReplica; readonly member: TestReplica; readonly spare: TestReplica } {
  const c = new Cluster(3);
  const alice = c.hand();
  c.give(alice, Request, alice.registration(10), 0, 1);
  const client = c.client();
  client.register();
  c.run(20_000);
  client.submit('a');
  c.run(50_000);
  return { primary: c.replica(0), member: c.replica(1), spare: c.replica(2) };
}

/** How a rule is broken, by what the invariant says. */
const BROKEN: Readonly<Record<string, (s: ReturnType<typeof scene>) => void>> = {
  'only a member of a running view acknowledges, and only what stands in its log': ({ spare }) =>
    spare.core['repair']['answers'].acknowledge(9, 1, 0, 0),
  'only a member of a running view answers for its log': ({ spare }) =>
    spare.core['requests']['answers'].readReply(new ArrivedRequest(), NO_RESULT),
  'only the primary of a running view says where the log ends and what of it is committed': ({ member }) =>
    member.core['synchronization']['sender'].sync(0, 1),
  'what a replica confirms to its primary stands in its log, in a running view': ({ primary }) =>
    primary.core['synchronization']['sender'].syncAck(1, now),
  'only the primary of a running view says which order its log has': ({ member }) =>
    member.core['synchronization']['sender'].order(0, 0, 1),
  'a vote is cast by a replica that promised a view and has an older log': ({ member }) =>
    member.core['synchronization']['sender'].vote(0),
  'only entries that are here are sent': ({ primary }) =>
    primary.core['serving']['transfers'].chunks(2, 0, primary.state.log.lastIndex + 1, 1000, 0),
  'beyond what is committed, others get entries only of a log that cannot change in its view': ({ spare }) => {
    spare.state.committed = 0;
    spare.core['serving']['transfers'].chunks(1, 0, 1, 1000, 0);
  },
  'a message leaves after everything that it depends on is durable': ({ member }) => {
    const { out } = member.state;
    const o = out.reserve(0, 10);
    out.markHardState();
    out.commit(o + 10);
  },
  'a message that is kept waits for a write that is not durable yet': ({ member }) => {
    const { out } = member.state;
    out.markHardState();
    const o = out.reserve(0, 10);
    out['durableToken'] = Infinity;
    out.commit(o + 10);
  },
  'the storage makes durable only what it was given': ({ member }) => member.core.persisted(1_000_000),
  'a request is appended by a member of the view that it names, in status normal': ({ spare }) =>
    spare.core['requests']['append'](new ArrivedRequest(), 0, now),
  "a repair changes the log of a running view, and never the primary's": ({ primary }) =>
    primary.core['repair']['cutBehind'](primary.state.log.lastIndex),
  "a repair cuts neither what is known to be the primary's nor what is committed": ({ member }) =>
    member.core['repair']['cutBehind'](member.state.synced - 1),
  'the order is followed entry by entry': ({ member }) => {
    member.core['repair']['place'](member.state.log.lastIndex + 2, 0);
  },
  "what goes back stands behind the part that is the primary's, and is not taken for the primary's": ({ member }) => {
    const tail = member.core['repair']['tail'];
    const { log } = member.state;
    const last = log.pointAt(log.lastIndex, new Entry());
    tail.open();
    last.timestampHi++;
    member.core['repair'].remember(last);
    tail['mayGoBack'] = () => {
      member.state['presentSynced']++;
      return true;
    };
    tail.putBack();
  },
  'only the primary of a running view finds out what is committed in it': ({ member }) =>
    member.core['synchronization'].commitIndex.advance(),
  "others confirm to the primary of a running view what stands in the primary's log": ({ primary }) =>
    primary.core['synchronization'].commitIndex.confirmed(1, primary.state.log.lastIndex + 1, 0),
  'what is committed is in the log of every member of the quorum': ({ primary }) => {
    primary.state.views.memberMask = () => 0;
    primary.core['synchronization'].commitIndex.advance();
  },
  "a replica commits on its primary's word, and what is known to be the primary's stands in its log": ({ primary }) =>
    primary.core['synchronization'].commitIndex.follow(),
  'the primary of a running view says how its log is, to others that run it': ({ member }) =>
    member.core['synchronization'].onSync(new Uint8Array(100), 0, 2, now),
  'the primary of a running view takes up no other log': ({ primary }) =>
    primary.core['viewChanges'].installation.start(
      { view: 1, logView: 0, source: 1, lastIndex: 1, chainHi: 0, chainLo: 0, committed: 0, claims: [] },
      now,
    ),
  'the log that takes the place of another is whole': ({ member }) => {
    const { installation } = member.core['viewChanges'];
    installation['transfer'].staged.beginBehind(member.state.log.lastIndex, 1, 2);
    installation['takeUp'](
      {
        view: 1,
        logView: 0,
        source: 0,
        lastIndex: member.state.log.lastIndex,
        chainHi: 3,
        chainLo: 4,
        committed: 0,
        claims: [],
      },
      Infinity,
    );
  },
  'a log is cut only behind a snapshot of committed state': ({ member }) =>
    member.state['cut'](member.state.log.lastIndex),
  'a primary reads from the state behind its whole log': ({ primary }) => {
    primary.state.execution.executed--;
    const read = new Uint8Array(200);
    primary.core['requests'].onRead(read, 0, 9, now);
  },
};

for (const [mustHold, broken] of Object.entries(BROKEN))
  t.test(mustHold, (t) => {
    const s = scene();
    t.ok(s.primary.state.isPrimary && s.member.state.isMember && !s.spare.state.isMember, 'the cluster runs');
    t.ok(s.member.state.committed > 1 && s.spare.state.status === ReplicaStatus.normal);
    t.throws(() => broken(s), new InvariantError(mustHold));
    t.end();
  });

t.test('a replica that promised a view neither acknowledges nor confirms in the old one', (t) => {
  const { member } = scene();
  member.state.promise(1);
  t.throws(() => member.core['repair']['answers'].acknowledge(9, 1, 0, 0), InvariantError);
  t.throws(() => member.core['synchronization']['sender'].syncAck(0, now), InvariantError);
  force(member.state, { view: 0, status: ReplicaStatus.normal });
  t.doesNotThrow(() => member.core['repair']['answers'].acknowledge(9, 1, 0, 0));
  t.end();
});
