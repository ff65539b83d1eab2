// Whoever recorded datagrams may send them again at any time (docs/operate/security.md). Of three: view 0 = primary 0,
// member 1.
import t from 'tap';
import { ReplicaStatus, Request, Sync, SyncAck } from '../../src/wire/messages.js';
import { Cluster, type Packet } from './harness.js';

const SILENT_MS = 400;

/** A cluster that has committed something, and everything that its replicas ever said. */
function scene(orderHoldUs = 50_000): { c: Cluster; recorded: Packet[] } {
  const c = new Cluster(3, { timings: { orderHoldUs } });
  const alice = c.hand();
  c.give(alice, Request, alice.registration(10), 0, 1);
  for (let i = 1; i < 20; i++) {
    c.give(alice, Request, alice.request(10 * i + 10, i, `${i}`), 0, 1);
    c.run(5_000);
  }
  return { c, recorded: c.history.filter(({ to }) => to < 3) };
}

/** A millisecond passes, and then all that was recorded of `from` arrives once more. */
function replay(c: Cluster, recorded: readonly Packet[], from: number): void {
  c.run(1_000);
  for (const packet of recorded) if (packet.from === from && packet.to !== from) c.arrive(packet);
  c.settle();
}

t.test('a dead primary does not look alive because what it said is said again', (t) => {
  for (const orderHoldUs of [0, 50_000]) {
    const { c, recorded } = scene(orderHoldUs);
    t.ok(recorded.some(({ from, message }) => from === 0 && message.type === Sync.type));
    c.replica(0).crash();
    for (let ms = 0; ms < SILENT_MS && c.replica(1).state.view === 0; ms++) replay(c, recorded, 0);
    c.run(50_000);
    t.ok(c.replica(1).state.view > 0, 'another view');
    t.equal(c.replica(1).state.status, ReplicaStatus.normal);
    t.equal(c.replica(2).state.view, c.replica(1).state.view);
  }
  t.end();
});

t.test('a dead member does not look alive because it acknowledged once', (t) => {
  const { c, recorded } = scene();
  t.ok(recorded.some(({ from, message }) => from === 1 && message.type === SyncAck.type));
  c.replica(1).crash();
  for (let ms = 0; ms < SILENT_MS && c.replica(0).state.view === 0; ms++) replay(c, recorded, 1);
  c.run(50_000);
  t.ok(c.replica(0).state.view > 0, 'another view, without it');
  t.equal(c.replica(0).state.status, ReplicaStatus.normal);
  t.end();
});

t.test('everything said again, to everybody, changes nothing that is committed, and no view', (t) => {
  const { c, recorded } = scene();
  const { view, committed, log } = c.replica(0).state;
  const chain = log.chainLo(committed);
  for (let round = 0; round < 20; round++) {
    for (let from = 0; from < 3; from++) replay(c, recorded, from);
  }
  for (const { state } of c.replicas) {
    t.equal(state.view, view);
    t.equal(state.log.lastIndex, 20);
    t.ok(state.log.matches(committed, log.chainHi(committed), chain));
  }
  t.end();
});
