// How often one owner may register sessions, and what an unused session costs.
import t from 'tap';
import { NO_OWNER } from '../../src/protocol/log/session-owner.js';
import { Session } from '../../src/protocol/log/session.js';
import {
  OWNER_REGISTER_US,
  OWNER_REGISTERS,
  OWNERS_MAX,
  RegisterRate,
} from '../../src/protocol/replica/register-rate.js';
import { Instant } from '../../src/protocol/contract.js';
import { wordsOf } from '../../src/wire/copy.js';
import { Reject, RejectReason, Reply, Request } from '../../src/wire/messages.js';
import { Cluster, encode, HandClient, type Packet } from './harness.js';

const ALICE = 7;
const MALLORY = 8;

/** Replicas of which each hears Registers under a key of `owner`, always of another session. */
class Registering {
  readonly c = new Cluster(3);
  private made = 0;

  /** What replica `id` answers. */
  register(id: number, owner: number): unknown {
    const number = ++this.made;
    const ahead = BigInt(number);
    const client = new HandClient(200 + number, (5n << 32n) | (owner === NO_OWNER ? 2n * ahead + 1n : 2n * ahead));
    const stamp = Number(BigInt(this.c.now.wallHi) * 2n ** 32n + BigInt(this.c.now.wallLo >>> 0)) - 100_000 + number;
    const nonce = (BigInt(owner) << 32n) | ahead;
    const before = this.c.posted;
    const bytes = encode(Request, client.registration(stamp, { nonce, lanes: 1 }));
    const { core } = this.c.replica(id);
    core.receive(bytes, 0, bytes.length, client.endpoint, this.c.now, owner);
    core.flush(this.c.now);
    const said = this.c.history.slice(before).filter((packet: Packet) => packet.to === client.endpoint);
    return said.length === 1
      ? said[0]!.message.type === Reject.type
        ? said[0]!.values['reason']
        : said[0]!.message.name
      : said;
  }
}

for (const [id, what] of [
  [0, 'the primary'],
  [1, 'a member'],
] as const) {
  t.test(`${what} takes ${OWNER_REGISTERS} Registers of one owner at once, then ten a second`, (t) => {
    const cluster = new Registering();
    for (let i = 0; i < OWNER_REGISTERS; i++) t.equal(cluster.register(id, MALLORY), Reply.name);
    t.equal(cluster.register(id, MALLORY), RejectReason.busy);
    t.equal(cluster.c.replica(id).last, OWNER_REGISTERS, 'what is refused is not appended');
    t.equal(cluster.c.replica(id).counter('registers_refused'), 1);
    t.equal(cluster.register(id, ALICE), Reply.name, 'another owner has a budget of its own');
    cluster.c.now.monotonicUs += OWNER_REGISTER_US;
    t.equal(cluster.register(id, MALLORY), Reply.name);
    t.equal(cluster.register(id, MALLORY), RejectReason.busy);
    t.end();
  });
}

t.test('without keys there are no owners, and no such limit', (t) => {
  const cluster = new Registering();
  for (let i = 0; i < 3 * OWNER_REGISTERS; i++) t.equal(cluster.register(0, NO_OWNER), Reply.name);
  t.end();
});

t.test('owners are forgotten in the order of their last Register', (t) => {
  const rate = new RegisterRate();
  const now = new Instant();
  for (let i = 0; i < OWNER_REGISTERS; i++) {
    rate.spend(1, now);
    rate.spend(2, now);
  }
  rate.spend(1, now);
  for (let owner = 3; owner <= OWNERS_MAX; owner++) rate.spend(owner, now);
  t.equal(rate.owners, OWNERS_MAX);
  t.notOk(rate.permits(2, now));
  rate.spend(OWNERS_MAX + 1, now);
  t.equal(rate.owners, OWNERS_MAX, 'no more are remembered');
  t.ok(rate.permits(2, now), 'it had registered longest ago');
  t.notOk(rate.permits(1, now));
  t.end();
});

t.test('a session has memory for the lanes that were used', (t) => {
  const blank = { hi: 0, nonceHi: 0, nonceLo: 0, bornHi: 0, bornLo: 0, registerChainHi: 0, registerChainLo: 0 };
  const session = new Session({ ...blank, lo: 1, lanes: 4096, registerIndex: 1 });
  const record = (lane: number, request: number): number =>
    session.record({
      lane,
      request,
      index: request,
      chainHi: lane,
      chainLo: request,
      status: 0,
      resultWords: wordsOf(Uint8Array.from([lane & 255, request])),
      resultOffset: 0,
      resultLength: 2,
    });
  t.equal(session.request.length, 0, 'a Register alone costs nothing');
  t.equal(session.lastRequest(4095), 0);
  record(0, 1);
  record(3, 2);
  t.equal(session.request.length, 4);
  record(70, 3);
  t.equal(session.request.length, 128);
  record(4095, 4);
  t.equal(session.request.length, 4096);
  for (const [lane, request] of [
    [0, 1],
    [3, 2],
    [70, 3],
    [4095, 4],
  ] as const) {
    t.equal(session.lastRequest(lane), request);
    t.strictSame(
      [
        session.index[lane],
        session.chainHi[lane],
        session.chainLo[lane],
        ...session.results.bytes(lane).subarray(0, 2),
      ],
      [request, lane, request, lane & 255, request],
    );
  }
  t.equal(session.lastRequest(5), 0);
  t.throws(() => record(4096, 9), { code: 'invariant-broken' });
  t.end();
});
