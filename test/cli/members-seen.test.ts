// What status and top say of the members: epoch, an open change and what it waits for, roles, and remarks.
import t from 'tap';
import { summarize, type ClusterSummary } from '../../src/cli/cluster/summary.js';
import { summaryLines } from '../../src/cli/cluster/table.js';
import { heardBy } from '../../src/cli/members/reach.js';
import type { StatusAnswer } from '../../src/client/status-client.js';
import {
  membershipReport,
  viewText,
  type MemberState,
  type MembershipReport,
  type ReportedHost,
} from '../../src/host/membership-report.js';
import type { ReplicaStatusReport } from '../../src/host/status.js';
import { EPOCH_VIEWS } from '../../src/protocol/configuration.js';
import { REPORT } from '../fuzz/report.js';

const VIEW = 2 * EPOCH_VIEWS + 12;

const host = (id: number, votes = true, willVote = votes): ReportedHost => ({
  id,
  address: `h:${id}`,
  identity: null,
  votes,
  willVote,
});
const members = (hosts: readonly ReportedHost[], changes: Partial<MembershipReport> = {}): MembershipReport => ({
  role: 'voter',
  epoch: 2,
  decided: 2,
  index: 40,
  hosts,
  openSeconds: null,
  viewsLeft: 1,
  ...changes,
});
/** 0, 1, 2 vote; then 0, 1, 3. */
const open = (openSeconds: number): MembershipReport =>
  members([host(0), host(1), host(2, true, false), host(3, false, true)], { decided: 3, index: 50, openSeconds });

const {
  majorityLost: _lost,
  diverged: _diverged,
  clusterFileDiffers: _files,
  twoLives: _twice,
  replicaClocks: _clocks,
  chain: _chain,
  features: _features,
  ...plain
} = REPORT;

const answer = (
  id: number,
  membership: MembershipReport | undefined,
  changes: Partial<ReplicaStatusReport> = {},
): StatusAnswer => {
  const { membership: _, ...rest } = plain;
  return {
    id,
    address: `h:${id}`,
    roundTripUs: 1,
    report: {
      ...rest,
      id,
      wire: Array<number>(id + 1).fill(5),
      ...(membership === undefined ? {} : { membership }),
      view: VIEW,
      primary: 0,
      members: [0, 1],
      lastIndex: 5_000,
      syncedIndex: 5_000,
      ...changes,
    },
  };
};
const silent = (id: number): StatusAnswer => ({ id, address: `h:${id}`, roundTripUs: undefined, report: undefined });
const roles = ({ replicas }: ClusterSummary): string[] =>
  replicas.map(({ id, role, change }) =>
    [id, role ?? 'unknown', change].filter((part) => part !== undefined).join(' '),
  );
/** The remarks about members. */
const remarks = (...answers: readonly StatusAnswer[]): readonly string[] =>
  summarize('c', answers).remarks.filter((text) => !/features|encrypt/.test(text));

t.test('whom a primary hears', (t) => {
  const clocks = { offsetsNs: [7, 0, null, -5], off: [], divided: false, says: '' };
  t.same(heardBy({ ...plain, id: 1, entriesOf: [0, 1, 2, 5], replicaClocks: clocks }), [0, 5]);
  t.same(heardBy({ ...plain, id: 1, replicaClocks: clocks }), [0, 3], 'of an earlier version');
  t.same(heardBy({ ...plain, id: 1, entriesOf: [0, 1, 2, 5] }), [], 'of another replica');
  t.end();
});

t.test('what no replica says is unknown', (t) => {
  const old = summarize('c', [answer(0, undefined), answer(1, undefined), silent(2)]);
  t.equal(old.membership, null);
  t.same(roles(old), ['0 primary', '1 member', '2 unknown']);
  t.notMatch(summaryLines(old, false)[0], /epoch/);
  t.equal(summarize('c', [silent(0), silent(1)]).membership, null);
  t.end();
});

t.test('epoch, pending and roles, by the newest list that any has', (t) => {
  const three = members([host(0), host(1), host(2)]);
  const quiet = summarize('c', [answer(0, three), answer(1, three), answer(2, three)]);
  t.same(quiet.membership, { epoch: 2, pending: null });
  t.same(roles(quiet), ['0 primary', '1 member', '2 spare']);
  t.same(remarks(answer(0, three), answer(1, three), answer(2, three)), []);
  t.match(summaryLines(quiet, false)[0], /epoch 2 {3}view 2\.12 {3}primary 0/);

  const changing = summarize('c', [answer(0, open(2)), answer(1, three), answer(2, open(3)), answer(3, open(1))]);
  t.same(changing.membership, { epoch: 2, pending: { epoch: 3, voters: [0, 1, 3], openSeconds: 3 } });
  t.same(roles(changing), ['0 primary', '1 member', '2 spare leaves', '3 learner joins']);
  t.match(summaryLines(changing, false).join('\n'), /epoch 2, 3 decided[^]*spare, leaves[^]*learner, joins/);
  t.notOk(
    changing.remarks.some((text) => text.startsWith('epoch')),
    'three seconds are no reason for a remark',
  );
  t.end();
});

t.test('a host that the cluster file lacks was not asked, and one that it has and that left is no fault', (t) => {
  const moved = members([host(0), host(1), host(3)], { epoch: 3, decided: 3 });
  const answers = [answer(0, moved), answer(1, moved), silent(2)];
  const summary = summarize('c', answers);
  t.same(roles(summary), ['0 primary', '1 member', '2 removed', '3 unknown']);
  t.match(summaryLines(summary, false).join('\n'), /\? 2 +h:2 +no answer \(removed\)[^]*\? 3 +h:3 +not asked/);
  t.match(summaryLines(summary, false)[0], /2 of 3 replicas answer/);
  t.same(
    remarks(...answers),
    [
      'the cluster file lacks 3 (h:3), so nothing is known of it here: jitpaxos member list --write FILE writes a cluster file with the addresses of the voters',
    ],
    'and it is not said of the removed one that it has to be started',
  );
  const back = answer(2, members([host(0), host(1), host(2)]), { view: EPOCH_VIEWS });
  const [, running] = remarks(answer(0, moved), answer(1, moved), back);
  t.match(running, /^replica 2 \(h:2\) is not a member any more in epoch 3, and still runs: it may be stopped/);
  t.equal(remarks(answer(0, moved), answer(1, moved), back).length, 2, 'nothing is said of its view or its list');
  t.end();
});

t.test('a change that is open for long waits for something', (t) => {
  const since = open(14);
  const waits = (...answers: readonly StatusAnswer[]): string | undefined =>
    remarks(...answers).find((text) => text.startsWith('epoch 3'));
  for (const [what, words, ...answers] of [
    [
      'none of the next epoch',
      /^epoch 3 has been decided for 14\.0 s and has not begun; epoch 2 goes on\. It waits for 2 of the voters 0, 1, 3 of epoch 3 \(1 does not answer, 3 does not answer\)$/,
      answer(0, since),
      silent(1),
      answer(2, since),
      silent(3),
    ],
    [
      'a host that is not in the cluster file',
      /of epoch 3 \(1 does not answer, 3 was not asked\)$/,
      answer(0, since),
      silent(1),
      answer(2, since),
    ],
    [
      'one that is behind',
      /of epoch 3 \(1 does not answer, 3 is 2000 entries behind\)$/,
      answer(0, since),
      silent(1),
      answer(2, since),
      answer(3, since, { syncedIndex: 3_000 }),
    ],
    [
      'one whose lag is not known',
      /of epoch 3 \(1 does not answer, how far 3 is behind is unknown\)$/,
      answer(0, since),
      silent(1),
      answer(2, since),
      answer(3, since, { view: 0 }),
    ],
    [
      'both',
      /It waits for 2 of the voters 0, 1, 2 of epoch 2 \(1 does not answer, 2 does not answer\), and for 2 of the voters 0, 1, 3/,
      answer(0, since),
      silent(1),
      silent(2),
      silent(3),
    ],
    [
      'nothing that can be seen here',
      /Enough of its hosts answer: the log of the primary/,
      answer(0, since),
      answer(1, since),
      silent(2),
      silent(3),
    ],
  ] as const)
    t.match(waits(...(answers as readonly StatusAnswer[])), words, what);
  t.end();
});

t.test('hosts as which two processes speak, as any host says', (t) => {
  const [said, ...more] = remarks(
    answer(0, members([host(0), host(1), host(2)]), { twoLives: [2] }),
    answer(1, members([host(0), host(1), host(2)]), { twoLives: [2, 1] }),
    answer(2, members([host(0), host(1), host(2)])),
  );
  t.match(
    said,
    /^two processes seem to speak as hosts 1, 2: .*; look for a second process .* stop the process that is not at the listed address/,
  );
  t.same(more, []);
  t.end();
});

t.test('an even number of voters, and lists that differ', (t) => {
  const four = members([host(0), host(1), host(2), host(3)]);
  const all = (list: MembershipReport): StatusAnswer[] => list.hosts.map(({ id }) => answer(id, list));
  t.same(remarks(...all(four)), ['epoch 2 has 4 voters, which survive no more failures than 3: add or remove one']);
  const growing = members([host(0), host(1), host(2), host(3), host(4, false, true)], { decided: 3, openSeconds: 1 });
  t.same(remarks(...all(growing)), [], 'not while the next epoch has another number');
  const shrinking = members([host(0), host(1), host(2, true, false)], { decided: 3, openSeconds: 1 });
  t.match(remarks(...all(shrinking)), [/^epoch 3 has 2 voters/]);

  const three = members([host(0), host(1), host(2)]);
  t.match(
    remarks(answer(0, three), answer(1, three), answer(2, members([host(0), host(1), { ...host(2), address: 'x:2' }]))),
    [/^replica 2 lists other members than the others do/],
  );
  t.match(remarks(answer(0, three), answer(1, three), answer(2, { ...three, index: 30 })), [
    /^replica 2 is behind with the members: it knows the list of entry 30, and the newest is of entry 40$/,
  ]);
  t.match(remarks(answer(0, three), answer(1, three), answer(2, { ...three, epoch: 1, decided: 1 })), [
    /it knows of epoch 1, and 2 is in force$/,
  ]);
  t.end();
});

t.test('a learner that does not catch up', (t) => {
  const list = members([host(0), host(1), host(2), host(3, false)]);
  const behind = (entries: number): StatusAnswer[] => [
    answer(0, list),
    answer(1, list),
    answer(2, list),
    answer(3, list, { syncedIndex: 5_000 - entries }),
  ];
  const said = (before: number, now: number): readonly string[] =>
    summarize('c', behind(now), behind(before)).remarks.filter((text) => text.startsWith('learner'));
  t.same(said(2_000, 2_000), ['learner 3 does not catch up: it is 2000 entries behind, and was 2000 before']);
  t.same(said(2_000, 1_500), [], 'it does');
  t.same(said(900, 1_000), [], 'close enough to vote');
  t.end();
});

t.test('a replica reports what it knows', (t) => {
  const state = (changes: Partial<MemberState> = {}): MemberState => ({
    view: VIEW,
    configuration: { last: 3 * EPOCH_VIEWS - 1 },
    isPrimary: false,
    log: { lastIndex: 100 },
    members: {
      hosts: [0, 1, 5].map((id, slot) => ({ id, slot, identityHi: 0, identityLo: 0, address: '' })),
    },
    ...changes,
  });
  const list = {
    started: 2,
    decided: 3,
    index: 50,
    nextId: 6,
    hosts: [
      { id: 0, slot: 0, address: 'h:0', identity: '0123456789abcdef', votes: true, willVote: true },
      { id: 1, slot: 1, address: 'h:1', identity: undefined, votes: false, willVote: true },
      { id: 5, slot: 2, address: 'h:5', identity: undefined, votes: false, willVote: false },
    ],
  };
  const report = (self: number, of = state(), matched = (_slot: number): number => 0): MembershipReport =>
    membershipReport(list, self, of, 7, matched);
  t.match(report(0), {
    role: 'voter',
    epoch: 2,
    decided: 3,
    index: 50,
    openSeconds: 7,
    viewsLeft: EPOCH_VIEWS - 13,
    hosts: [{ identity: '0123456789abcdef' }, { identity: null }, {}],
  });
  t.notOk('learnerLag' in report(0), 'only a primary knows');
  t.same([report(1).role, report(5).role, report(2).role], ['learner', 'learner', 'removed']);
  t.same(
    report(0, state({ isPrimary: true }), (slot) => [0, 90, 0][slot]!).learnerLag,
    { 1: 10, 5: null },
    'nothing that was confirmed is no lag',
  );
  t.equal(membershipReport({ ...list, decided: 2 }, 0, state(), 7, () => 0).openSeconds, null);
  t.same([viewText(12), viewText(EPOCH_VIEWS - 1), viewText(VIEW)], ['12', '262143', '2.12']);
  t.end();
});
