// What doctor says of the members: views that are left in the epoch, and a data directory beside the list of members.
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import type { Level } from '../../src/cli/doctor/finding.js';
import {
  askMembers,
  checkIdentity,
  identityFindings,
  memberFindings,
  viewsLeft,
  type DirectoryIdentity,
} from '../../src/cli/doctor/member-checks.js';
import { summarizeMembers, type MembersSummary } from '../../src/cli/members/agreement.js';
import { silentLogger } from '../../src/host/logger.js';
import { KvMachine } from '../../src/machine/kv.js';
import { EPOCH_VIEWS } from '../../src/protocol/configuration.js';
import { Replica } from '../../src/server/replica.js';
import { WAITING_ID } from '../../src/wire/host-ids.js';
import type { Member } from '../../src/wire/member-list.js';
import { REPORT } from '../fuzz/report.js';
import { clusterConfig } from '../server/fixtures.js';

const CLUSTER = { id: '00c0ffee12345678' };
const A = 'aaaaaaaaaaaaaaaa';
const B = 'bbbbbbbbbbbbbbbb';

/** As three replicas say, or nobody. */
function said(hosts: readonly Partial<Member>[], answered = true): MembersSummary {
  const list = {
    started: 3,
    decided: 3,
    index: 9,
    nextId: hosts.length,
    hosts: hosts.map((host, id) => ({
      id,
      slot: id,
      address: `h:${id + 1}`,
      identity: undefined,
      votes: true,
      willVote: true,
      ...host,
    })),
  };
  return summarizeMembers(
    CLUSTER.id,
    list.hosts.map(({ address }) => address),
    list.hosts.map(({ id, address }) => ({
      id,
      address,
      answer: answered ? { view: 1, list } : undefined,
      roundTripUs: 1,
      speaks: 5,
    })),
  );
}

t.test('a data directory and the members', (t) => {
  const members = said([{ identity: A }, {}, { identity: B }]);
  const at = (changes: Partial<DirectoryIdentity>): DirectoryIdentity => ({
    cluster: CLUSTER.id,
    replica: 0,
    identity: A,
    epoch: 3,
    ...changes,
  });
  const cases: [
    what: string,
    directory: DirectoryIdentity,
    seen: MembersSummary | undefined,
    expected: [Level, RegExp][],
  ][] = [
    ['as it should be', at({}), members, [['ok', /^a{16} of replica 0, listed as host 0 \(voter\)$/]]],
    [
      'a host that has joined is known by its identity',
      at({ replica: WAITING_ID }),
      members,
      [['ok', /^a{16} of a host that waits to be added, listed as host 0/]],
    ],
    [
      'another directory has its place',
      at({ replica: 2 }),
      said([{}, {}, { identity: B }]),
      [['fail', /the members list b{16} for host 2: that is another directory$/]],
    ],
    ['not known to others', at({ replica: 1 }), said([{}, {}, {}]), [['skip', /that of host 1 is not known/]]],
    [
      'removed',
      at({ replica: 7, epoch: undefined }),
      said([{}, {}, {}]),
      [['warn', /^a{16} of replica 7, which is not a member any more in epoch 3$/]],
    ],
    [
      'it waits',
      at({ replica: WAITING_ID, epoch: undefined }),
      said([{}, {}, {}]),
      [['warn', /^a{16} of a host that waits to be added, and it is not listed$/]],
    ],
    [
      'it slept',
      at({ epoch: 1 }),
      members,
      [
        ['ok', /listed as host 0/],
        ['ok', /^it knows epoch 1, and 3 is in force/],
      ],
    ],
    [
      'it knows more than those that answered',
      at({ epoch: 4 }),
      members,
      [
        ['ok', /listed as host 0/],
        ['warn', /^it knows epoch 4, and the replicas that answered know 3$/],
      ],
    ],
    ['only the cluster file', at({ epoch: undefined }), members, [['ok', /listed as host 0/]]],
    [
      'nobody answers',
      at({}),
      said([{}, {}, {}], false),
      [
        ['ok', /^a{16} of replica 0$/],
        ['skip', /no majority says who the members are/],
      ],
    ],
    [
      'nobody was asked',
      at({}),
      undefined,
      [
        ['ok', /^a{16} of replica 0$/],
        ['skip', /no majority says/],
      ],
    ],
    ['of an older release', at({ identity: undefined }), members, [['skip', /has none yet/]]],
    [
      'of another cluster',
      at({ cluster: '1111111111111111' }),
      members,
      [['fail', /of cluster 1{16}, and the cluster file of cluster 00c0ffee12345678/]],
    ],
  ];
  for (const [what, directory, seen, expected] of cases) {
    const findings = identityFindings(directory, CLUSTER, seen);
    t.same(
      findings.map(({ level }) => level),
      expected.map(([level]) => level),
      what,
    );
    expected.forEach(([, words], i) => t.match(findings[i]!.found, words, what));
    for (const { level, advice } of findings) t.equal(advice === undefined, level === 'ok' || level === 'skip', what);
  }
  t.end();
});

t.test('views that are left in an epoch', (t) => {
  const report = (view: number, left: number, on: readonly string[] = ['membership']) => ({
    view,
    features: { known: on, on },
    membership: { ...REPORT.membership!, viewsLeft: left },
  });
  t.match(viewsLeft([report(5, EPOCH_VIEWS - 6)]), [
    { level: 'ok', found: '262,138 of 262,144 view changes are left in the epoch' },
  ]);
  t.match(viewsLeft([report(5, 200_000), report(230_000, 32_143)]), [{ level: 'warn', found: /^32,143 of/ }], 'newest');
  t.match(viewsLeft([report(200_000, 62_143)]), [{ level: 'ok' }], 'with a quarter left the primary renews by itself');
  t.same(viewsLeft([report(5, 9, [])]), [], 'a cluster whose members cannot change has no end of views');
  t.same(viewsLeft([{ view: 3 }]), [], 'nor is anything said of what a replica does not report');
  t.same(viewsLeft([]), []);
  t.end();
});

t.test('a directory that a replica has made, in use and damaged', async (t) => {
  const directory = mkdtempSync(join(tmpdir(), 'jitpaxos-member-checks-'));
  t.teardown(() => rmSync(directory, { recursive: true, force: true }));
  const data = join(directory, 'data');
  const file = join(directory, 'cluster.json');
  const cluster = await clusterConfig(1);
  writeFileSync(file, JSON.stringify(cluster));
  t.match(await checkIdentity(directory, CLUSTER, undefined), [{ level: 'skip', found: /no promises of a replica/ }]);
  const replica = await Replica.start({
    cluster,
    id: 0,
    machine: new KvMachine(),
    data,
    durability: 'os',
    logger: silentLogger,
  });
  t.teardown(() => replica.close());
  for (let i = 0; i < 6_000 && replica.status().identity === null; i++)
    await new Promise((resolve) => setTimeout(resolve, 10));
  const { identity } = replica.status();
  const members = await askMembers(file, 30_000);
  t.match(memberFindings(members), [{ level: 'ok', found: /^epoch 0, 1 hosts/ }]);
  t.match(await checkIdentity(data, CLUSTER, members), [
    { level: 'ok', found: `${identity} of replica 0, listed as host 0 (voter)` },
  ]);
  await replica.close();
  writeFileSync(join(data, 'hard-state'), 'no promises');
  t.match(await checkIdentity(data, CLUSTER, members), [{ level: 'fail', found: /no intact copy/ }]);
});
