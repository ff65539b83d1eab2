// Who the members are, asked over the network: what a replica answers, its bounds, and the tools that ask.
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { summarizeMembers } from '../../src/cli/members/agreement.js';
import type { Answered } from '../../src/client/inquiry.js';
import { MembersClient, type KnownMembers } from '../../src/client/members-client.js';
import { loadCluster, type ClusterConfig } from '../../src/host/cluster-config.js';
import { silentLogger } from '../../src/host/logger.js';
import { KvMachine } from '../../src/machine/kv.js';
import { loadHash } from '../../src/native/hash64.js';
import { Instant } from '../../src/protocol/contract.js';
import { firstMembership, type Membership } from '../../src/protocol/membership/membership.js';
import { membersOf } from '../../src/server/known-members.js';
import { Asker, askerOf, HOST_RATE, UNLISTED_RATE, type AskerCode } from '../../src/server/members-rates.js';
import { MembersService } from '../../src/server/members-service.js';
import { Replica } from '../../src/server/replica.js';
import { DEFAULT_DATAGRAM_BYTES, ENVELOPE_BYTES, ENVELOPE_BYTES_MAX, Envelope } from '../../src/wire/envelope.js';
import { HOST_PLACES, PLACES } from '../../src/wire/host-ids.js';
import { begin } from '../../src/wire/layout.js';
import {
  decodeMemberList,
  encodeMemberList,
  EPOCHS_BYTES,
  HOSTS_MAX,
  listDigest,
  type Member,
  type MemberList,
} from '../../src/wire/member-list.js';
import { AskMembers, Members, validate } from '../../src/wire/messages.js';
import { readI32, readU16, writeI32, writeU16 } from '../../src/wire/u64.js';
import { jitpaxos, patiently } from '../cluster/processes.js';
import { clusterConfig, startReplicas } from './fixtures.js';

const hash = loadHash();

const host = (id: number, changes: Partial<Member> = {}): Member => ({
  id,
  slot: id,
  address: `10.0.0.${id}:7400`,
  identity: undefined,
  votes: true,
  willVote: true,
  ...changes,
});
const three = (changes: Partial<MemberList> = {}): MemberList => ({
  started: 0,
  decided: 0,
  index: 0,
  nextId: 3,
  hosts: [host(0), host(1), host(2)],
  ...changes,
});
/** More than a datagram holds. */
const LONG: MemberList = {
  started: 3,
  decided: 4,
  index: 70,
  nextId: 31,
  hosts: Array.from({ length: HOSTS_MAX }, (_, id) =>
    host(id, { address: `${'n'.repeat(240)}${id}:7400`, votes: id < 3, willVote: id > 0 && id < 4 }),
  ),
};

function question(padding: number, digest = 0, offset = 0): Uint8Array {
  const bytes = new Uint8Array(AskMembers.size + padding);
  begin(AskMembers, bytes, 0);
  writeI32(bytes, AskMembers.at.nonce, 7);
  writeI32(bytes, AskMembers.at.nonce + 4, 8);
  writeI32(bytes, AskMembers.at.digest, digest);
  writeU16(bytes, AskMembers.at.offset, offset);
  writeU16(bytes, AskMembers.at.padding, padding);
  return bytes;
}

/** An outbox that keeps what was committed. */
function collector() {
  return {
    bytes: new Uint8Array(60_000),
    sent: [] as Uint8Array[],
    full: false,
    reserve(): number {
      return this.full ? -1 : 0;
    },
    commit(length: number): void {
      this.sent.push(this.bytes.slice(0, length));
    },
  };
}

const at = (us: number): Instant => Object.assign(new Instant(), { monotonicUs: us });

t.test('answering', async (t) => {
  await t.test('never with more bytes than the question, nor in a longer datagram', (t) => {
    const outbox = collector();
    const service = new MembersService(
      () => LONG,
      () => 9,
      outbox,
      hash,
    );
    const full = encodeMemberList(LONG).length - EPOCHS_BYTES;
    const least = Members.size - AskMembers.size;
    for (const padding of [0, least - 1, least, least + 1, 500, 1_367, 30_000]) {
      outbox.sent.length = 0;
      const asked = question(padding);
      service.onAskMembers(asked, 0, 5, at(1e9 * (padding + 1)), 7, Asker.proven);
      const [answer] = outbox.sent;
      if (padding < least) {
        t.equal(answer, undefined, `${asked.length} bytes have no room for an answer`);
        continue;
      }
      t.ok(answer!.length <= asked.length, `${answer!.length} bytes for ${asked.length}`);
      t.ok(answer!.length + ENVELOPE_BYTES_MAX <= DEFAULT_DATAGRAM_BYTES);
      t.equal(validate(answer!, 0, answer!.length), answer!.length);
      t.equal(readU16(answer!, Members.at.length), full, 'it says how long the list is');
      t.equal(readI32(answer!, Members.at.view), 9);
      t.equal(readI32(answer!, Members.at.epochs), (3 << 16) | 4);
      t.same([readI32(answer!, Members.at.nonce), readI32(answer!, Members.at.nonce + 4)], [7, 8]);
    }
    t.same([service.answered, service.refused], [5, 2]);
    t.end();
  });

  await t.test('hosts are told what the log says, and tools also what the replica knows of itself', (t) => {
    const outbox = collector();
    const committed = { ...three(), index: 7 };
    const known = {
      ...committed,
      hosts: committed.hosts.map((host, id) => (id === 0 ? { ...host, identity: 'ab'.repeat(8) } : host)),
    };
    const service = new MembersService(
      (forHosts) => (forHosts ? committed : known),
      () => 0,
      outbox,
      hash,
    );
    const tells = (asker: AskerCode): MemberList | undefined => {
      service.onAskMembers(question(1_000), 0, 5, at(1e6), 7, asker);
      const answer = outbox.sent.at(-1)!;
      const bytes = new Uint8Array(EPOCHS_BYTES + readU16(answer, Members.at.list));
      writeI32(bytes, 0, readI32(answer, Members.at.epochs));
      bytes.set(answer.subarray(Members.size), EPOCHS_BYTES);
      t.equal(readI32(answer, Members.at.digest), listDigest(bytes, hash));
      return decodeMemberList(bytes);
    };
    for (const asker of [Asker.host, Asker.proven, Asker.unlistedHost, Asker.unproven])
      t.same(tells(asker), asker === Asker.host || asker === Asker.unlistedHost ? committed : known, String(asker));
    t.end();
  });

  await t.test('has a rate, apart from that of status questions', (t) => {
    const outbox = collector();
    const service = new MembersService(
      () => three(),
      () => 0,
      outbox,
      hash,
    );
    const asked = question(200);
    for (let i = 0; i < 10_000; i++) service.onAskMembers(asked, 0, 5, at(1e6 + i), 7, Asker.proven); // within 10 ms
    t.ok(service.answered >= 100 && service.answered <= 105, `${service.answered} of 10,000 were answered`);
    t.equal(service.answered + service.refused, 10_000);
    t.equal(outbox.sent.length, service.answered);
    outbox.full = true;
    const { refused } = service;
    service.onAskMembers(asked, 0, 5, at(3e6), 7, Asker.proven);
    t.equal(service.refused, refused + 1, 'no room in the outbox is counted');
    outbox.full = false;
    const strangers = new MembersService(
      () => three(),
      () => 0,
      outbox,
      hash,
    );
    for (let i = 0; i < 10_000; i++) strangers.onAskMembers(asked, 0, PLACES + i, at(1e6 + i), i, Asker.unproven);
    t.ok(strangers.answered <= 55, `${strangers.answered} of 10,000 from endpoints without a proof`);
    const before = strangers.answered;
    for (let slot = 0; slot < HOST_PLACES; slot++) {
      for (let i = 0; i < 10; i++) strangers.onAskMembers(asked, 0, slot, at(1.02e6), 0, askerOf(slot, false, false));
      t.equal(strangers.answered, before + 10 * (slot + 1), `host ${slot} is answered while strangers crowd`);
    }
    strangers.onAskMembers(asked, 0, PLACES, at(1.02e6), 0, Asker.unproven);
    t.ok(strangers.answered <= before + 10 * HOST_PLACES + 1, 'and strangers get no more');
    const beforeHost = strangers.answered;
    for (let i = 0; i < 10_000; i++) strangers.onAskMembers(asked, 0, 1, at(2e6), 0, Asker.host);
    t.ok(strangers.answered - beforeHost <= HOST_RATE.burst, 'a host that asks without end has a bound');
    const beforeUnlisted = strangers.answered;
    for (let i = 0; i < 10_000; i++)
      strangers.onAskMembers(asked, 0, PLACES + i, at(2e6), 0, askerOf(PLACES + i, true, false));
    t.equal(strangers.answered - beforeUnlisted, UNLISTED_RATE.burst, 'hosts that are not listed have one together');
    strangers.onAskMembers(asked, 0, 2, at(2e6), 0, Asker.host);
    t.equal(strangers.answered - beforeUnlisted, UNLISTED_RATE.burst + 1, 'which takes nothing from another host');
    t.end();
  });

  await t.test('in pieces of one list; of another list from its beginning', (t) => {
    const outbox = collector();
    let list = LONG;
    const service = new MembersService(
      () => list,
      () => 0,
      outbox,
      hash,
      300,
    );
    const ask = (digest: number, offset: number, us: number): Uint8Array => {
      const asked = question(1_000, digest, offset);
      service.onAskMembers(asked, 0, 5, at(us), 7, Asker.proven);
      const answer = outbox.sent.at(-1)!;
      t.ok(answer.length <= asked.length && ENVELOPE_BYTES_MAX + answer.length <= 300, `${answer.length} bytes`);
      return answer;
    };
    const first = ask(0, 0, 1e6);
    const digest = readI32(first, Members.at.digest);
    t.equal(digest, listDigest(encodeMemberList(LONG), hash));
    const whole = encodeMemberList(LONG);
    const put = Buffer.alloc(readU16(first, Members.at.length));
    let got = 0;
    for (let us = 1e6; got < put.length; us += 10_000) {
      const piece = ask(digest, got, us);
      t.equal(readU16(piece, Members.at.offset), got);
      put.set(piece.subarray(Members.size), got);
      got += piece.length - Members.size;
    }
    t.same(put, Buffer.from(whole.subarray(EPOCHS_BYTES)));
    t.equal(ask(digest, 0xffff, 9e6).length, Members.size, 'there is nothing behind the end');
    list = { ...LONG, decided: 3, hosts: LONG.hosts.map((each) => ({ ...each, willVote: each.votes })) };
    const other = ask(digest, 500, 10e6);
    t.not(readI32(other, Members.at.digest), digest);
    t.equal(readU16(other, Members.at.offset), 0);
    t.equal(readI32(other, Members.at.epochs), (3 << 16) | 3);
    list = { ...list, started: 4, decided: 4 };
    t.not(
      readI32(ask(0, 0, 11e6), Members.at.digest),
      readI32(other, Members.at.digest),
      'another epoch is another list',
    );
    t.end();
  });
});

function directory(t: Test): string {
  const path = mkdtempSync(join(tmpdir(), 'jitpaxos-members-'));
  t.teardown(() => rmSync(path, { recursive: true, force: true }));
  return path;
}

async function running(t: Test, cluster: ClusterConfig, withData: boolean): Promise<Replica[]> {
  const home = directory(t);
  const replicas = await Promise.all(
    cluster.replicas.map((_, id) =>
      Replica.start({
        cluster,
        id,
        machine: new KvMachine(),
        logger: silentLogger,
        ...(withData ? { data: join(home, String(id)), durability: 'memory' as const } : {}),
      }),
    ),
  );
  t.teardown(() => Promise.all(replicas.map((replica) => replica.close())));
  return replicas;
}

/** Waits until each replica has begun, and therefore has a durable identity. */
async function identities(replicas: readonly Replica[]): Promise<string[]> {
  for (;;) {
    const found = replicas.map((replica) => replica.status().identity);
    if (found.every((identity) => typeof identity === 'string')) return found as string[];
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

t.test('what a replica says is what its log says, and the cluster file where that says nothing', (t) => {
  const first = firstMembership(3);
  const cluster = { replicas: [0, 1, 2].map((id) => ({ host: `10.0.0.${id}`, port: 7400 })) };
  const own = 'ab'.repeat(8);
  t.same(membersOf(first, cluster, 1, own), three({ hosts: [host(0), host(1, { identity: own }), host(2)] }));
  t.same(membersOf(first, cluster, 1, undefined), three());
  const later: Membership = {
    ...first,
    index: 12,
    decided: 5,
    nextVoters: [0, 1, 3],
    hosts: [
      { id: 0, slot: 0, identityHi: 1, identityLo: -1, address: 'a.example:1' },
      first.hosts[1]!,
      first.hosts[2]!,
      { id: 3, slot: 3, identityHi: 2, identityLo: 3, address: '[::1]:7400' },
      { id: 9, slot: 4, identityHi: 2, identityLo: 4, address: '10.0.0.9:7400' },
    ],
    nextId: 10,
  };
  const list = membersOf(later, cluster, 0, own);
  t.same(list, {
    started: 0,
    decided: 5,
    index: 12,
    nextId: 10,
    hosts: [
      host(0, { address: 'a.example:1', identity: '00000001ffffffff' }),
      host(1),
      host(2, { willVote: false }),
      host(3, { address: '[::1]:7400', identity: '0000000200000003', votes: false }),
      host(9, { slot: 4, identity: '0000000200000004', votes: false, willVote: false }),
    ],
  });
  t.same(decodeMemberList(encodeMemberList(list)), list);
  t.end();
});

t.test('MembersClient asks replicas, which know the cluster file and their own directory', async (t) => {
  for (const datagramBytes of [undefined, 256]) {
    const cluster = { ...(await clusterConfig(3)), ...(datagramBytes === undefined ? {} : { datagramBytes }) };
    const replicas = await running(t, cluster, true);
    const known = await identities(replicas);
    t.equal(new Set(known).size, 3, 'each directory has one of its own');
    await using client = await MembersClient.open({ cluster });
    const answers = await client.ask(20_000);
    answers.forEach(({ id, answer, speaks }) => {
      t.same(
        answer!.list,
        {
          started: 0,
          decided: 0,
          index: 0,
          nextId: 3,
          hosts: cluster.replicas.map((address, other) => ({
            id: other,
            slot: other,
            address,
            identity: other === id ? known[id] : undefined,
            votes: true,
            willVote: true,
          })),
        },
        `replica ${id}`,
      );
      t.equal(speaks, 5);
    });
    const summary = summarizeMembers(cluster.id, cluster.replicas, answers);
    t.match(summary, { started: 0, decided: 0, answered: 3, agreed: true, remarks: [] });
    t.same(
      summary.members.map(({ identity }) => identity),
      known,
      'together they know all directories',
    );
    t.ok(replicas.every((replica) => replica.status().membersRequests!.answered > 0));
    await Promise.all(replicas.map((replica) => replica.close()));
  }
});

t.test('MembersClient believes no answer that is not to its question, or is no list', async (t) => {
  const cluster = await clusterConfig(1);
  const [name, port] = cluster.replicas[0]!.split(':');
  const { idHi, idLo } = loadCluster(cluster);
  const seal = new Envelope(hash, idHi, idLo, 0, 1);
  const good = encodeMemberList({ started: 0, decided: 0, index: 0, nextId: 1, hosts: [host(0)] });
  const none = good.slice();
  none[EPOCHS_BYTES + 10] = 2; // it says that there are two hosts
  const liar = createSocket('udp4');
  t.teardown(() => liar.close());
  let asked = 0;
  let tells: 'another-nonce' | 'another-digest' | 'no-list' | 'the-truth' = 'another-nonce';
  liar.on('message', (bytes, { port: to, address }) => {
    const o = bytes.length - (bytes.length - ENVELOPE_BYTES);
    if (bytes[o + 1] !== AskMembers.type) return;
    asked++;
    const list = tells === 'no-list' ? none : good;
    const answer = new Uint8Array(ENVELOPE_BYTES + Members.size + list.length - EPOCHS_BYTES);
    begin(Members, answer, ENVELOPE_BYTES);
    answer.set(bytes.subarray(o + AskMembers.at.nonce, o + AskMembers.at.nonce + 8), o + Members.at.nonce);
    if (tells === 'another-nonce') answer[o + Members.at.nonce]! ^= 1;
    writeI32(answer, o + Members.at.digest, listDigest(list, hash) ^ (tells === 'another-digest' ? 1 : 0));
    writeU16(answer, o + Members.at.length, list.length - EPOCHS_BYTES);
    writeU16(answer, o + Members.at.list, list.length - EPOCHS_BYTES);
    answer.set(list.subarray(EPOCHS_BYTES), o + Members.size);
    seal.seal(answer, 0, answer.length);
    liar.send(answer, to, address);
  });
  // A hello has to be answered first: the question is not in the previous version.
  liar.on('message', (bytes, { port: to, address }) => {
    if (bytes.length > ENVELOPE_BYTES) return;
    const hello = new Uint8Array(ENVELOPE_BYTES);
    seal.seal(hello, 0, hello.length);
    liar.send(hello, to, address);
  });
  liar.bind(Number(port), name);
  await once(liar, 'listening');
  for (const lie of ['another-nonce', 'another-digest', 'no-list'] as const) {
    tells = lie;
    asked = 0;
    await using client = await MembersClient.open({ cluster });
    const asking = client.ask(1_500);
    const [answer] = await asking;
    t.ok(asked >= 2, `${lie}: it asked ${asked} times`);
    t.equal(answer!.answer, undefined, lie);
  }
  tells = 'the-truth';
  await using client = await MembersClient.open({ cluster });
  const [answer] = await client.ask(20_000);
  t.match(answer!.answer, { view: 0, list: { hosts: [{ id: 0 }] } });
});

t.test('what the answers say together', (t) => {
  const answer = (id: number, list: MemberList | undefined, view = 3, speaks = 5): Answered<KnownMembers> => ({
    id,
    address: `10.0.0.${id}:7400`,
    answer: list === undefined ? undefined : { view, list },
    roundTripUs: 1,
    speaks,
  });
  const listed = ['10.0.0.0:7400', '10.0.0.1:7400', '10.0.0.2:7400'];
  const told = (...lists: (MemberList | undefined)[]) =>
    summarizeMembers(
      'c',
      listed,
      lists.map((list, id) => answer(id, list)),
    );
  const says = (...lists: (MemberList | undefined)[]) => told(...lists).replicas.map((each) => each.says);

  t.match(told(three(), three(), three()), { agreed: true, answered: 3, remarks: [] });
  t.match(told(three(), undefined, three()), { agreed: true, answered: 2 }, 'a majority is enough');
  t.same(says(three(), undefined, three()), ['same', 'unknown', 'same'], 'no answer is unknown');
  const alone = told(undefined, three(), undefined);
  t.match(alone, { agreed: false, answered: 1 });
  t.match(alone.remarks, [/^1 of 3 voters .* no majority/]);
  t.match(told(undefined, undefined, undefined), {
    agreed: false,
    answered: 0,
    started: null,
    members: [],
    remarks: [],
  });

  const moved = three({ hosts: [host(0), host(1), host(2, { address: '10.0.0.9:7400' })] });
  t.match(told(three(), three(), moved), { agreed: false });
  t.same(says(three(), three(), moved), ['same', 'same', 'other']);
  t.match(told(three(), three(), moved).remarks, [/^replica 2 lists host 2 at 10.0.0.9:7400 instead of 10.0.0.2:7400/]);
  t.match(
    told(three(), moved, moved).remarks[0],
    /^replica 0 lists host 2 at 10.0.0.2:7400/,
    'most decide which is the other',
  );
  const fewer = three({ hosts: [host(0)] });
  t.match(told(three(), three(), fewer).remarks, [/^replica 2 lists the hosts 0 instead of 0, 1, 2/]);
  const learner = three({ hosts: [host(0), host(1), host(2, { votes: false, willVote: false })] });
  t.match(told(three(), three(), learner).remarks, [/^replica 2 lists host 2 as learner instead of voter/]);

  const own = (id: number, identity: string): MemberList =>
    three({ hosts: [0, 1, 2].map((each) => host(each, each === id ? { identity } : {})) });
  const [a, b] = ['aa'.repeat(8), 'bb'.repeat(8)];
  t.match(told(own(0, a), own(1, b), three()), { agreed: true, members: [{ identity: a }, { identity: b }, {}] });
  t.equal(told(own(0, a), own(1, b), three()).members[2]!.identity, undefined, 'what nobody knows stays unknown');
  const divided = told(own(0, a), own(0, b), three());
  t.match(divided, { agreed: false }, 'two identities of one host');
  t.match(divided.remarks, [/^host 0 has two identities, a{16} and b{16}: two data directories speak under its id/]);
  t.equal(divided.members[0]!.identity, undefined, 'neither is shown');

  const next = three({ started: 1, decided: 1 });
  t.same(says(next, next, three()), ['same', 'same', 'behind']);
  t.match(told(next, next, three()), { agreed: true, started: 1 }, 'one that is behind contradicts nobody');
  t.match(told(next, next, three()).remarks, [/^replica 2 is behind: it knows of epoch 0, and 1 is in force/]);
  t.match(told(three(), three(), next), { agreed: false, started: 1 }, 'the newest epoch counts, even if one says so');
  const named = three({ index: 9 });
  t.same(says(named, named, three()), ['same', 'same', 'behind'], 'an entry of the log made the list another one');
  t.match(told(named, named, three()), { agreed: true });
  t.match(told(named, named, three()).remarks, [
    /^replica 2 is behind: it knows the list of entry 0, and the newest is of/,
  ]);
  const forked = three({ index: 9, hosts: moved.hosts });
  t.match(told(named, named, forked).remarks, [/^replica 2 lists host 2 .*"A replica that diverged"/]);
  const open = three({ decided: 1 });
  t.match(told(open, open, three()), { agreed: true, started: 0, decided: 1 });
  t.match(told(open, open, open).remarks, [/^epoch 1 is decided, and not in force yet/]);

  const elsewhere = summarizeMembers(
    'c',
    ['10.0.0.0:7400', '10.0.0.1:7400', '10.0.0.8:7400'],
    [answer(0, three()), answer(1, three()), answer(2, undefined, 0, 0)],
  );
  t.match(elsewhere.remarks, [/^the cluster file differs: it lacks 10.0.0.2:7400; it lists 10.0.0.8:7400, where/]);
  const old = summarizeMembers('c', listed, [answer(0, three()), answer(1, three()), answer(2, undefined, 0, 4)]);
  t.match(old.remarks, [/^replica 2 speaks version 4 of the wire, which cannot say/]);
  t.end();
});

t.test('jitpaxos member list', async (t) => {
  const cluster = await clusterConfig(3);
  const replicas = await running(t, cluster, true);
  const known = await identities(replicas);
  const cwd = directory(t);
  writeFileSync(join(cwd, 'cluster.json'), JSON.stringify(cluster));
  const text = await jitpaxos(['member', 'list', '--timeout', '20s'], { cwd });
  t.equal(text.code, 0, text.stderr);
  t.match(text.stdout, /epoch 0 {3}agreed {3}3 of 3 replicas answer/);
  for (const [id, identity] of known.entries())
    t.match(text.stdout, new RegExp(`\n${id} +${cluster.replicas[id]} +voter +${identity}`));

  // A client's file in which one address is of long ago.
  const stale = {
    ...cluster,
    replicas: [cluster.replicas[0]!, cluster.replicas[1]!, '127.0.0.1:9'],
    limits: { held: 77 },
  };
  writeFileSync(join(cwd, 'stale.json'), JSON.stringify(stale));
  type Found = { agreed: boolean; answered: number; remarks: string[]; replicas: { says: string }[] };
  const fresh = await patiently(
    (timeout) =>
      jitpaxos(['member', 'list', '--cluster', 'stale.json', '--timeout', timeout, '--write', 'fresh.json', '--json'], {
        cwd,
      }),
    ({ code, stdout }) => code === 0 && (JSON.parse(stdout) as Found).answered === 3,
  );
  t.equal(fresh.code, 0, fresh.stderr);
  const found = JSON.parse(fresh.stdout) as Found;
  t.match(found, { schema: 'jitpaxos.member-list/1', agreed: true, answered: 3 });
  t.same(
    found.replicas.map((each) => each.says),
    ['same', 'same', 'same'],
    'also the one that the file has at another address',
  );
  t.match(found.remarks.join('\n'), /the cluster file differs: it lacks/);
  t.same(
    JSON.parse(readFileSync(join(cwd, 'fresh.json'), 'utf8')),
    { ...stale, replicas: cluster.replicas },
    'the rest of the file stays',
  );
  const again = await jitpaxos(
    ['member', 'list', '--cluster', 'fresh.json', '--timeout', '20s', '--write', 'stale.json'],
    { cwd },
  );
  t.equal(again.code, 0, again.stderr);
  t.same(
    JSON.parse(readFileSync(join(cwd, 'stale.json'), 'utf8')),
    JSON.parse(readFileSync(join(cwd, 'fresh.json'), 'utf8')),
  );
  writeFileSync(join(cwd, 'foreign.json'), JSON.stringify({ ...cluster, id: '0'.repeat(16) }));
  t.match(await jitpaxos(['member', 'list', '--write', 'foreign.json'], { cwd }), {
    code: 2,
    stderr: /^flag-invalid: .*file of cluster 0{16}/,
  });

  await replicas[1]!.close();
  await replicas[2]!.close();
  const one = await jitpaxos(['member', 'list', '--timeout', '1s', '--write', 'never.json'], { cwd });
  t.match(one, {
    code: 3,
    stdout: /not agreed {3}1 of 3 replicas answer/,
    stderr: /^members-unknown: never.json was not written/m,
  });
  t.match(one.stdout, /✗ 2 .*unknown: no answer/);
  t.notOk(existsSync(join(cwd, 'never.json')));
  await replicas[0]!.close();
  const silent = await jitpaxos(['member', 'list', '--timeout', '300ms'], { cwd });
  t.match(silent, { code: 4, stdout: /unknown {3}0 of 3 replicas answer/ });
});

t.test('in a cluster with keys: encrypted, under any key of a client', async (t) => {
  const cwd = directory(t);
  const { replicas: addresses } = await clusterConfig(3);
  t.match(await jitpaxos(['init', '--replicas', addresses.join()], { cwd }), { code: 0 });
  for (const role of ['operator', 'read-only'])
    t.match(await jitpaxos(['keys', 'add', '--role', role, '--out', `${role}.keys`], { cwd }), { code: 0 });
  const replicas = await Promise.all(
    addresses.map((_, id) =>
      Replica.start({ cluster: join(cwd, 'cluster.json'), id, machine: new KvMachine(), logger: silentLogger }),
    ),
  );
  t.teardown(() => Promise.all(replicas.map((replica) => replica.close())));
  for (const file of ['client.keys', 'operator.keys', 'read-only.keys'])
    t.match(await jitpaxos(['member', 'list', '--key-file', file, '--timeout', '20s', '--json'], { cwd }), {
      code: 0,
      stdout: /"answered":3,"agreed":true/,
    });
  const shown = await jitpaxos(['member', 'list', '--timeout', '20s', '--json'], { cwd });
  t.equal(
    (JSON.parse(shown.stdout) as { members: { identity: unknown }[] }).members[0]!.identity,
    null,
    'these replicas have no data directory: their identity is not known, and says so',
  );
});

t.test('replicas whose cluster files differ are shown to disagree', async (t) => {
  const cluster = await clusterConfig(3);
  const [, , other] = await Promise.all(
    cluster.replicas.map((_, id) =>
      Replica.start({
        cluster:
          id < 2 ? cluster : { ...cluster, replicas: [cluster.replicas[0]!, '127.0.0.1:9', cluster.replicas[2]!] },
        id,
        machine: new KvMachine(),
        logger: silentLogger,
      }).then((replica) => (t.teardown(() => replica.close()), replica)),
    ),
  );
  t.ok(other);
  const cwd = directory(t);
  writeFileSync(join(cwd, 'cluster.json'), JSON.stringify(cluster));
  const shown = await jitpaxos(['member', 'list', '--timeout', '20s'], { cwd });
  t.match(shown, { code: 3, stdout: /not agreed {3}3 of 3[^]*! replica 2 lists host 1 at 127.0.0.1:9 instead of/ });
  const doctor = await jitpaxos(['doctor', '--cluster', 'cluster.json', '--timeout', '20s'], { cwd });
  t.match(doctor.stdout, /\[WARN\] members +replica 2 lists host 1 at 127\.0\.0\.1:9 instead of/);
});

t.test('a list that does not name every host is not taken for what is committed', async (t) => {
  const cluster = await clusterConfig(1);
  const [replica] = await startReplicas(cluster, () => new KvMachine());
  t.teardown(() => replica!.close());
  const indexAfter = (list: MemberList): number | undefined => {
    replica!['loop'].turn((now) => replica!['membersFound'](list, now));
    return replica!.status().membership?.index;
  };
  const [host] = three().hosts;
  const named = { ...host!, address: cluster.replicas[0]!, identity: 'ab'.repeat(8) };
  const learner = { ...named, id: 1, slot: 1, address: '10.9.9.9:7400', votes: false, willVote: false };
  const list = { ...three(), index: 5, hosts: [named, { ...learner, identity: undefined }] };
  t.equal(indexAfter(list), 0);
  t.equal(indexAfter({ ...list, hosts: [named, { ...learner, identity: 'cd'.repeat(8) }] }), 5);
});

t.test('a replica of the previous wire version is not asked in words that it does not know', async (t) => {
  const cluster = await clusterConfig(1);
  const [replica] = await startReplicas(cluster, () => new KvMachine(), { wireVersion: 4 });
  t.teardown(() => replica!.close());
  await using client = await MembersClient.open({ cluster });
  const answers = await client.ask(1_000);
  t.equal(answers[0]!.answer, undefined);
  t.equal(replica!.status().membersRequests!.answered, 0);
  t.equal(replica!.status().drops['unknown-type'], 0);
});
