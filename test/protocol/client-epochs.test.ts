// What a client knows of epochs: which view it enters on whose word, and what it does with one of an unknown epoch.
import t from 'tap';
import { Epochs } from '../../src/protocol/client/epochs.js';
import { EPOCH_VIEWS } from '../../src/protocol/configuration.js';
import { encodeMembership, firstMembership, type Membership } from '../../src/protocol/membership/membership.js';
import { Views } from '../../src/protocol/views.js';

const MEMBERS = firstMembership(3);
const EPOCH = 5;
const VIEW = EPOCH * EPOCH_VIEWS + 1;
/** Host 3 votes in the place of host 0, which is still listed. */
const LATER: Membership = {
  ...MEMBERS,
  index: 9,
  started: EPOCH,
  decided: EPOCH,
  voters: [1, 2, 3],
  nextVoters: [1, 2, 3],
  hosts: [0, 1, 2, 3].map((id) => ({ id, slot: id, identityHi: 7, identityLo: id + 1, address: `host-${id}:1` })),
  nextId: 4,
};

/** Of a client whose host asks for members: it believes no other word about epochs. */
function ofClient(): { views: Views; epochs: Epochs } {
  const views = new Views(3, () => false);
  return { views, epochs: new Epochs(views) };
}

t.test('a view of an epoch that is not known waits until somebody says who the members are', (t) => {
  const { epochs } = ofClient();
  t.equal(epochs.isKnown(2), true, 'one of the cluster file');
  t.equal(epochs.isKnown(VIEW), false);
  t.equal(epochs.wantedAbove(0), -1);
  t.equal(epochs.learn(encodeMembership({ ...MEMBERS, index: 3 })), true);
  t.equal(epochs.wantedAbove(0), -1, 'these know nothing of it either');
  const later = encodeMembership(LATER);
  t.equal(epochs.learn(later), true);
  t.equal(epochs.wantedAbove(0), VIEW);
  t.equal(epochs.wantedAbove(VIEW), -1, 'it was entered, or a higher one');
  t.equal(epochs.isKnown(VIEW), true);
  t.equal(epochs.members, later, 'what the next session begins with');
  t.end();
});

t.test('older members change nothing, nor do bytes that are none', (t) => {
  const { views, epochs } = ofClient();
  const later = encodeMembership(LATER);
  epochs.learn(later);
  for (const bytes of [later, encodeMembership({ ...MEMBERS, index: 8 }), encodeMembership(MEMBERS), new Uint8Array(3)])
    t.equal(epochs.learn(bytes), false);
  t.equal(epochs.members, later);
  t.equal(views.newest.epoch, EPOCH);
  t.end();
});

t.test('views of an epoch are named by its voters; those of the cluster file by anybody', (t) => {
  const { epochs } = ofClient();
  t.same(
    [0, 1, 2, 3].map((slot) => epochs.mayName(2, slot)),
    [true, true, true, true],
  );
  epochs.learn(encodeMembership(LATER));
  t.same(
    [0, 1, 2, 3].map((slot) => epochs.mayName(VIEW, slot)),
    [false, true, true, true],
    'host 0 may wait there for ever',
  );
  t.end();
});

t.test('a replica that knows of no change says whose a view is, unless a change is known here', (t) => {
  const { epochs } = ofClient();
  t.equal(epochs.isKnown(VIEW), false);
  t.equal(epochs.cross(VIEW), true);
  t.equal(epochs.wantedAbove(0), VIEW);
  const other = ofClient();
  other.epochs.learn(encodeMembership({ ...MEMBERS, index: 3 }));
  t.equal(other.epochs.isKnown(VIEW), false);
  t.equal(other.epochs.cross(VIEW), false);
  t.equal(other.epochs.wantedAbove(0), -1);
  t.end();
});
