// A replica that lost its log asks the next replica when the one that it asked does not bring the log, whatever it brought.
import t from 'tap';
import { Fetch, ReplicaStatus, Request } from '../../src/wire/messages.js';
import { DEFAULT_TIMINGS } from '../../src/protocol/config.js';
import type { Instant } from '../../src/protocol/contract.js';
import { TransferPace } from '../../src/protocol/replica/views/transfer-pace.js';
import { Cluster } from './harness.js';

/** A cluster in view 0, and what appends entries there. */
function running(replicas: number): { readonly c: Cluster; readonly append: (count: number) => void } {
  const c = new Cluster(replicas);
  const members = c.replica(0).state.views.members(0);
  const alice = c.hand();
  let given = 0;
  c.give(alice, Request, alice.registration(10), ...members);
  c.run(20_000);
  const append = (count: number): void => {
    for (let i = 0; i < count; i++) {
      given++;
      c.give(alice, Request, alice.request(100 + given, given, `operation ${given}`), ...members);
      c.run(3_000);
    }
  };
  append(50);
  c.run(100_000);
  return { c, append };
}

/** Runs until replica `id` has a log, at most `seconds`. Returns which replicas it asked for entries. */
function recover(c: Cluster, id: number, seconds: number): number[] {
  c.replica(id).start(true);
  const before = c.history.length;
  for (let ms = 0; ms < seconds * 1000 && c.replica(id).state.status === ReplicaStatus.recovering; ms += 10)
    c.run(10_000);
  const questions = c.history.slice(before).filter(({ message, from }) => message.type === Fetch.type && from === id);
  return [...new Set(questions.map(({ to }) => to))];
}

const SPARES = [3, 4] as const;

for (const fault of ['is cut off from the members', 'has a damaged log'] as const)
  t.test(`five replicas: the spare that is asked ${fault}`, (t) => {
    const { c, append } = running(5);
    const members = c.replica(0).state.views.members(0);
    const [source, lost] = SPARES;
    t.notOk(members.includes(source) || members.includes(lost));
    const isCut = fault === 'is cut off from the members';
    if (isCut)
      c.loses = ({ from, to }) =>
        (from === source && members.includes(to)) || (to === source && members.includes(from));
    c.replica(lost).crash();
    append(20);
    const { log } = c.replica(source).state;
    if (!isCut) log.bytes[log.operationOffset(log.lastIndex)]! ^= 1;
    const asked = recover(c, lost, 20);
    const { state } = c.replica(lost);
    t.equal(state.status, ReplicaStatus.normal, 'it has a log');
    t.equal(asked[0], source, 'the spare was asked first');
    t.ok(asked.length > 1, `then another replica: ${asked.join(', ')}`);
    append(1);
    c.run(100_000);
    t.equal(state.committed, c.replica(0).state.committed);
    t.end();
  });

t.test(
  'three replicas: without the replica that lost its log no view can run, because the other two are cut off',
  (t) => {
    const { c, append } = running(3);
    c.loses = ({ from, to }) => from + to === 1;
    append(1);
    c.replica(2).crash();
    const asked = recover(c, 2, 20);
    t.equal(asked[0], 1, 'the member was asked first');
    t.ok(asked.includes(0), 'then the primary, which has one entry more');
    c.run(5_000_000);
    const views = c.replicas.map(({ state }) => state.view);
    t.ok(Math.max(...views) > 0, `another view began: ${views.join(', ')}`);
    const last = c.replica(2).state.committed;
    t.ok(last >= 51, `${last} entries are committed`);
    t.equal(c.replica(2).state.status, ReplicaStatus.normal);
    t.end();
  },
);

t.test('a source that brings nothing is given up within two seconds, whatever the ones before it took', (t) => {
  const at = (monotonicUs: number): Instant => ({ monotonicUs }) as unknown as Instant;
  for (const [isPatient, usual] of [
    [false, 1],
    [false, 16],
    [true, 1],
  ] as const) {
    const pace = new TransferPace(DEFAULT_TIMINGS);
    let nowUs = 1000;
    const waits: number[] = [];
    for (let source = 0; source < 8; source++) {
      pace.progressed(at(nowUs));
      pace.asked(at(nowUs), 1, usual);
      const beganUs = nowUs;
      while (!pace.gaveUp(at(nowUs), isPatient)) nowUs += 10_000;
      waits.push(nowUs - beganUs);
    }
    t.ok(Math.max(...waits) <= 2_000_000, `after ${waits.join(', ')} µs`);
    t.ok(isPatient ? waits[0] === 2_000_000 : waits[0]! <= 1_000_000);
  }
  t.end();
});
