// The list of members as bytes: what was written is read, and what no replica could have written is refused as a whole.
import t from 'tap';
import { isIP } from 'node:net';
import { isDeepStrictEqual } from 'node:util';
import { hostAndPortOf, type Cluster } from '../../src/host/cluster-config.js';
import { membershipOf } from '../../src/protocol/membership/member-lists.js';
import { decodeMembership, encodeMembership, firstMembership } from '../../src/protocol/membership/membership.js';
import { decodeOperation, encodeOperation } from '../../src/protocol/membership/operations.js';
import { membersOf } from '../../src/server/known-members.js';
import { isAddress } from '../../src/wire/host-address.js';
import { ID_MAX, WAITING_ID } from '../../src/wire/host-ids.js';
import { Random } from '../../src/sim/random.js';
import {
  decodeMemberList,
  EPOCH_MAX,
  encodeMemberList,
  HOSTS_MAX,
  MEMBER_LIST_BYTES_MAX,
  memberListFault,
  type Member,
  type MemberList,
} from '../../src/wire/member-list.js';

const SEED = Number(process.env['SEED'] ?? Math.floor(Math.random() * 2 ** 31));
t.comment(`SEED=${SEED} replays the random contents`);
const random = new Random(SEED);

const host = (id: number, changes: Partial<Member> = {}): Member => ({
  id,
  slot: id % HOSTS_MAX,
  address: `10.0.0.${id}:7400`,
  identity: undefined,
  votes: true,
  willVote: true,
  ...changes,
});

function addressOf(id: number): string {
  const port = random.between(1, 65_535);
  return random.pick([
    `10.0.${id >> 8}.${id & 255}:${port}`,
    `[fe80::${(id + 1).toString(16)}]:${port}`,
    `host-${id}.example:${port}`,
    `${'n'.repeat(200)}${id}:${port}`,
    `xn--huschen-${id}.example:${port}`,
  ]);
}

function randomList(): MemberList {
  const started = random.pick([0, 1, 7, EPOCH_MAX - 1]);
  const pending = random.chance(0.5);
  const hosts: Member[] = [];
  let id = -1;
  const turn = random.below(HOSTS_MAX);
  for (let left = random.between(1, HOSTS_MAX); left > 0; left--) {
    id += random.pick([1, 1, 2, 700]);
    const votes = hosts.length === 0 || (random.chance(0.5) && hosts.filter((each) => each.votes).length < 13);
    const willVote = pending
      ? hosts.length === 0 || (random.chance(0.5) && hosts.filter((each) => each.willVote).length < 13)
      : votes;
    const digits = (): string => (random.next() >>> 0).toString(16).padStart(8, '0');
    hosts.push({
      id,
      slot: (hosts.length + turn) % HOSTS_MAX,
      address: addressOf(id),
      identity: random.chance(0.3) ? undefined : `${digits()}${digits().slice(0, 7)}1`,
      votes,
      willVote,
    });
  }
  const index = random.pick([0, 1, 2 ** 40 + 7, Number.MAX_SAFE_INTEGER]);
  return {
    started,
    decided: pending ? random.between(started + 1, EPOCH_MAX) : started,
    index,
    nextId: random.between(id + 1, 0xffff),
    hosts,
  };
}

t.test('what was written is read', (t) => {
  for (let i = 0; i < 300; i++) {
    const list = randomList();
    const fault = memberListFault(list);
    if (fault !== undefined) t.fail(`SEED=${SEED}: ${fault}`);
    t.strictSame(decodeMemberList(encodeMemberList(list)), list, `list ${i}`);
  }
  t.end();
});

t.test('the longest list has a bound, and an ordinary one fits a datagram', (t) => {
  const list = (address: (id: number) => string): MemberList => ({
    started: 5,
    decided: 6,
    index: 9,
    nextId: HOSTS_MAX,
    hosts: Array.from({ length: HOSTS_MAX }, (_, id) =>
      host(id, { address: address(id), votes: id < 13, willVote: id >= 13 && id < 26, identity: 'ab'.repeat(8) }),
    ),
  });
  const longest = encodeMemberList(list((id) => `${'x'.repeat(251)}${String(id).padStart(2, '0')}:65535`));
  t.equal(longest.length, MEMBER_LIST_BYTES_MAX);
  t.ok(decodeMemberList(longest) !== undefined);
  t.ok(MEMBER_LIST_BYTES_MAX <= 0xffff, 'its length fits the field of a message');
  t.ok(encodeMemberList(list((id) => `255.255.255.${100 + id}:65535`)).length <= 1_100);
  t.end();
});

t.test('bytes that are cut, longer or changed are a list that could have been written, or none', (t) => {
  let taken = 0;
  for (let i = 0; i < 200; i++) {
    const good = encodeMemberList(randomList());
    for (let length = 0; length < good.length; length++)
      if (decodeMemberList(good.slice(0, length)) !== undefined) t.fail(`SEED=${SEED}: cut to ${length} bytes`);
    const longer = new Uint8Array(good.length + 1);
    longer.set(good);
    if (decodeMemberList(longer) !== undefined) t.fail(`SEED=${SEED}: a byte more`);
    for (let k = 0; k < 100; k++) {
      const changed = good.slice();
      for (let left = random.between(1, 4); left > 0; left--) changed[random.below(changed.length)] = random.next();
      const found = decodeMemberList(changed);
      if (found === undefined) continue;
      taken++;
      const fault = memberListFault(found);
      if (fault !== undefined) t.fail(`SEED=${SEED}: took a list of which ${fault}`);
      if (Buffer.compare(encodeMemberList(found), changed) !== 0) t.fail(`SEED=${SEED}: the bytes say something else`);
    }
    const invented = Uint8Array.from({ length: random.below(400) }, () => random.next());
    const found = decodeMemberList(invented);
    if (found !== undefined && memberListFault(found) !== undefined) t.fail(`SEED=${SEED}: invented`);
  }
  t.ok(taken > 100, `${taken} changed lists were still lists`);
  t.end();
});

t.test('what no replica could have written', (t) => {
  const list = (hosts: readonly Member[], started = 0, decided = started, index = 0): MemberList => ({
    started,
    decided,
    index,
    nextId: ID_MAX + 1,
    hosts,
  });
  const wrong: readonly (readonly [what: string, list: MemberList, fault: RegExp])[] = [
    ['nobody', list([]), /0 voters/],
    ['no voter', list([host(0, { votes: false, willVote: false })]), /epoch 0 has 0 voters/],
    ['nobody who will vote', list([host(0, { willVote: false })], 3, 4), /epoch 4 has 0 voters/],
    ['too many voters', list(Array.from({ length: 14 }, (_, id) => host(id))), /14 voters/],
    [
      'too many hosts',
      list(Array.from({ length: 32 }, (_, id) => host(id, id > 2 ? { votes: false, willVote: false } : {}))),
      /32 hosts/,
    ],
    ['an epoch that goes back', list([host(0)], 3, 2), /is before/],
    ['an epoch above all', list([host(0)], EPOCH_MAX + 1), /above/],
    ['an id twice', list([host(1), host(1, { address: 'b:1' })]), /id 1 follows id 1/],
    ['ids that descend', list([host(2), host(1)]), /id 1 follows id 2/],
    ['the id of a client', list([host(0xffff)]), /id 65535/],
    ['the id of a process that waits', list([host(WAITING_ID)]), /id 65534/],
    ['an id to come that none can have', { ...list([host(0)]), nextId: ID_MAX + 2 }, /above all/],
    ['a text in brackets that is no IPv6 address', list([host(0, { address: '[abc]:1' })]), /no "host:port"/],
    ['letters that are not ASCII', list([host(0, { address: 'häuschen:1' })]), /no "host:port"/],
    ['one epoch with two lists', list([host(0), host(1, { willVote: false })]), /one list of epoch 0/],
    ['a slot twice', list([host(0), host(1, { slot: 0 })]), /slot 0, which is not free/],
    ['a slot that is none', list([host(0, { slot: 31 })]), /slot 31, which is not free/],
    ['an id to come that was given', { ...list([host(0), host(1)]), nextId: 1 }, /next id, 1,/],
    ['an address twice', list([host(0), host(1, { address: '10.0.0.0:7400' })]), /two hosts/],
    ['no port', list([host(0, { address: 'a' })]), /no "host:port"/],
    ['port 0', list([host(0, { address: 'a:0' })]), /no "host:port"/],
    ['port 65536', list([host(0, { address: 'a:65536' })]), /no "host:port"/],
    ['IPv6 without brackets', list([host(0, { address: '::1:7400' })]), /no "host:port"/],
    ['a space', list([host(0, { address: 'a b:7400' })]), /no "host:port"/],
    ['an escape sequence', list([host(0, { address: '\u001b[2J:7400' })]), /no "host:port"/],
    ['a mark of direction', list([host(0, { address: 'a\u202eb:7400' })]), /no "host:port"/],
    ['a name that is too long', list([host(0, { address: `${'x'.repeat(254)}:7400` })]), /no "host:port"/],
  ];
  for (const [what, each, fault] of wrong) {
    t.match(memberListFault(each), fault, what);
    t.equal(decodeMemberList(encodeMemberList(each)), undefined, what);
  }
  t.end();
});

t.test('a list that is taken can be stored, executed and told again: one rule for all', (t) => {
  let taken = 0;
  for (let i = 0; i < 100; i++) {
    const bytes = encodeMemberList(randomList());
    for (let k = 0; k < 10; k++) {
      const changed = bytes.slice();
      for (let left = random.below(4); left > 0; left--) changed[random.below(changed.length)] = random.next();
      const list = decodeMemberList(changed);
      if (list === undefined) continue;
      taken++;
      const membership = membershipOf(list);
      const stored = encodeMembership(membership);
      if (!isDeepStrictEqual(decodeMembership(stored, 0, stored.length), membership))
        t.fail(`SEED=${SEED}: ${JSON.stringify(list)}`);
      for (const { address } of list.hosts) {
        const operation = { kind: 'learn', identityHi: 1, identityLo: 2, address } as const;
        const asked = encodeOperation(operation);
        if (!isDeepStrictEqual(decodeOperation(asked, 0, asked.length), operation)) t.fail(`SEED=${SEED}: ${address}`);
      }
    }
  }
  t.ok(taken > 100, `${taken} lists`);
  t.end();
});

t.test('operations that are cut, changed or invented are one that says just that, or none', (t) => {
  const address = '10.0.0.1:7400';
  const good = [
    { kind: 'learn', identityHi: 1, identityLo: 2, address },
    { kind: 'forget', id: 3 },
    { kind: 'move', id: 3, address },
    { kind: 'change', from: 0, to: 1, ids: [0, 1, 5] },
    { kind: 'go', epoch: 4 },
    { kind: 'name', id: 3, identityHi: 1, identityLo: 2, address },
  ] as const;
  let taken = 0;
  for (let i = 0; i < 5_000; i++) {
    const offset = random.below(9);
    const asked = encodeOperation(random.pick(good));
    const length = random.chance(0.8) ? asked.length : random.below(asked.length + 3);
    const bytes = new Uint8Array(offset + length + 9);
    bytes.set(asked.subarray(0, length), offset);
    for (let left = random.below(4); left > 0; left--)
      bytes[offset + random.below(Math.max(1, length))] = random.next();
    const found = decodeOperation(bytes, offset, length);
    if (found === undefined) continue;
    taken++;
    const again = Buffer.from(encodeOperation(found));
    if (!again.equals(bytes.subarray(offset, offset + length))) t.fail(`SEED=${SEED}: ${JSON.stringify(found)}`);
  }
  t.ok(taken > 100, `${taken} were operations`);
  t.end();
});

t.test('addresses: what can be listed, a cluster file can have', (t) => {
  const six = [
    '::',
    '::1',
    '1::',
    'fe80::1%eth0',
    '1:2:3:4:5:6:7:8',
    '::ffff:10.0.0.1',
    '1:2:3:4:5:6:1.2.3.4',
    '1::3:4:5:6:7:8',
  ];
  const none = [
    '',
    ':',
    ':::',
    '1:2:3:4:5:6:7',
    '1:2:3:4:5:6:7:8:9',
    '1::2::3',
    '12345::',
    '::1.2.3',
    '::1.2.3.256',
    '1.2.3.4',
    'g::',
    '::1%',
    '::%a%b',
    '1.2.3.4::',
    '::01.2.3.4',
    '1:2:3:4:5:6:7::8',
    ':1:2:3:4:5:6:7',
    '1:2:3:4:5:6:7:',
  ];
  for (const host of [...six, ...none]) t.equal(isAddress(`[${host}]:7400`), isIP(host) === 6, `[${host}]`);
  const letters = '0123456789abcdefF:.%-::';
  for (let i = 0; i < 5_000; i++) {
    const host = Array.from({ length: random.between(1, 20) }, () => letters[random.below(letters.length)]).join('');
    if (isAddress(`[${host}]:1`) && isIP(host) !== 6) t.fail(`SEED=${SEED}: [${host}] is no IPv6 address`);
  }
  for (const text of ['a:1', 'A.example:65535', '10.0.0.1:7400', 'replica_1:7', `${'n'.repeat(253)}:65535`]) {
    t.ok(isAddress(text), text);
    t.ok(hostAndPortOf(text), text);
  }
  for (const text of [
    'a',
    ':1',
    'a:',
    'a:0',
    'a:01',
    'a:65536',
    'a:123456',
    'a b:1',
    'a\u007f:1',
    'ä:1',
    `${'n'.repeat(254)}:1`,
    '[::1]',
    '[::1]1',
    'a:1:1',
    '[a:1',
    'a]:1',
  ])
    t.notOk(isAddress(text), text);
  t.end();
});

t.test('every list that a replica tells can be read', (t) => {
  const at = (host: string, port = 1): Cluster['replicas'][number] => ({ host, port });
  const first = firstMembership(5);
  const hosts = first.hosts.map((each) => (each.id === 4 ? { ...each, address: 'taken.example:1' } : each));
  const replicas = [at('HÄUSCHEN.example'), at('no\\name'), at('taken.example'), at('::1', 7400)];
  const list = membersOf({ ...first, hosts }, { replicas }, 0, undefined);
  t.equal(memberListFault(list), undefined);
  t.same(
    list.hosts.map(({ address }) => address),
    ['xn--huschen-5wa.example:1', 'host-1.invalid:1', 'host-2.invalid:1', '[::1]:7400', 'taken.example:1'],
  );
  t.same(decodeMemberList(encodeMemberList(list)), list);
  const short = membersOf(first, { replicas: replicas.slice(0, 1) }, 0, undefined);
  t.equal(memberListFault(short), undefined, 'a cluster file that lists fewer than the log');
  t.end();
});
