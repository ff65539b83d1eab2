// The list of members as bytes: what was written is read, and what no replica could have written is refused as a whole.
import t from 'tap';
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
    `häuschen-${id}.example:${port}`,
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
  const longest = encodeMemberList(list((id) => `${'x'.repeat(256)}${String(id).padStart(2, '0')}:65535`));
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
    nextId: 0xffff,
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
    ['a name that is too long', list([host(0, { address: `${'x'.repeat(300)}:7400` })]), /longer than/],
  ];
  for (const [what, each, fault] of wrong) {
    t.match(memberListFault(each), fault, what);
    t.equal(decodeMemberList(encodeMemberList(each)), undefined, what);
  }
  t.end();
});
