// A session belongs to the client that registered it: another client's key opens nothing of it.
import t from 'tap';
import { isForeign, NO_OWNER, ownedSessionLo } from '../../src/protocol/log/session-owner.js';
import { RejectReason, Reconcile, Reject, Reply, Request } from '../../src/wire/messages.js';
import { Cluster, encode, HandClient, type Packet } from './harness.js';

const ALICE = 7;
const MALLORY = 8;
const SESSION = 0x1_0000_0000n;
const nonceOf = (owner: number, rest = 5): bigint => (BigInt(owner) << 32n) | BigInt(rest);

class Members {
  readonly c = new Cluster(3);
  readonly alice = new HandClient(9, SESSION);
  private at = 100;

  /** What replica `id` says to a message that came under the key of `owner`. */
  say(id: number, owner: number, message: typeof Request | typeof Reconcile, values: Packet['values']): Packet[] {
    const before = this.c.posted;
    const bytes = encode(message, values);
    const replica = this.c.replica(id);
    replica.core.receive(bytes, 0, bytes.length, this.alice.endpoint, this.c.now, owner);
    replica.core.flush(this.c.now);
    return this.c.history.slice(before).filter((packet) => packet.from === id && packet.to === this.alice.endpoint);
  }

  register(id: number, owner: number, nonce: bigint): Packet[] {
    return this.say(id, owner, Request, this.alice.registration(this.at++, { nonce }));
  }

  request(id: number, owner: number, number: number, operation: string): Packet[] {
    return this.say(id, owner, Request, this.alice.request(this.at++, number, operation));
  }
}

const reasons = (packets: readonly Packet[]): unknown[] =>
  packets.map(({ message, values }) => (message.type === Reject.type ? values['reason'] : message.name));
const REFUSED = [RejectReason.sessionUnknown];

t.test('a Register is taken only from whom its nonce names', (t) => {
  const members = new Members();
  t.same(reasons(members.register(0, MALLORY, nonceOf(ALICE))), REFUSED);
  t.equal(members.c.replica(0).last, 0, 'nothing was appended');
  t.same(reasons(members.register(0, ALICE, nonceOf(ALICE))), [Reply.name]);
  t.same(reasons(members.register(0, MALLORY, nonceOf(MALLORY))), [Reply.name], 'the id is taken, which is no secret');
  t.end();
});

for (const [id, what] of [
  [0, 'the primary, where the Register was executed'],
  [1, 'a member, where it stands in the log only'],
] as const) {
  t.test(`requests of a session, at ${what}`, (t) => {
    const members = new Members();
    members.register(id, ALICE, nonceOf(ALICE));
    t.same(reasons(members.request(id, MALLORY, 1, 'forged')), REFUSED);
    t.same(reasons(members.request(id, NO_OWNER, 1, 'forged')), REFUSED);
    const [mine] = members.request(id, ALICE, 1, 'mine');
    t.equal(mine!.message.name, Reply.name);
    t.same(members.c.replica(id).operations, ['R', 'mine'], 'the number was not used up');
    t.same(reasons(members.request(id, MALLORY, 1, 'mine')), REFUSED, 'nor is its result told');
    t.same(reasons(members.request(id, MALLORY, 2, 'forged')), REFUSED);
    const reconcile = {
      view: 0,
      session: SESSION,
      lane: 0,
      request: 1,
      index: 2n,
      chain: members.c.replica(id).chain(2),
    };
    t.same(members.say(1, MALLORY, Reconcile, reconcile), [], 'and nobody moves the address of its acknowledgements');
    t.end();
  });
}

t.test('a session that names nobody is taken from anybody, as before', (t) => {
  const members = new Members();
  const anybodys = new HandClient(10, SESSION | 1n);
  t.same(reasons(members.say(0, MALLORY, Request, anybodys.registration(50, { nonce: nonceOf(ALICE) }))), [Reply.name]);
  t.same(reasons(members.say(0, ALICE, Request, anybodys.request(60, 1, 'a'))), [Reply.name]);
  t.end();
});

t.test('ids', (t) => {
  for (const lo of [0, 1, 2, -1, 0x7fffffff]) {
    t.equal(ownedSessionLo(lo, ALICE) & 1, 0);
    t.not(ownedSessionLo(lo, ALICE), 0);
    t.equal(ownedSessionLo(lo, NO_OWNER) & 1, 1);
  }
  const { log, tail } = new Cluster(3).replica(0).state;
  t.notOk(
    isForeign(log, tail, undefined, 0, 2, undefined, MALLORY),
    'an unknown session is refused as unknown, not as foreign',
  );
  t.end();
});
