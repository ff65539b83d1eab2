// What a replica says about itself over the network: the report as bytes, the bounds of answering, and the tools that
// ask.
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import t, { type Test } from 'tap';
import { pack } from 'msgpackr';
import { storeLine } from '../../src/cli/cluster/store-figures.js';
import { clockRemarks, seemsStalled, summarize } from '../../src/cli/cluster/summary.js';
import { summaryLines } from '../../src/cli/cluster/table.js';
import { plainLine } from '../../src/cli/cluster/top.js';
import { Client } from '../../src/client/client.js';
import { KvClient } from '../../src/client/kv-client.js';
import { StoreClient } from '../../src/client/store-client.js';
import { StatusClient, type StatusAnswer } from '../../src/client/status-client.js';
import { KvMachine } from '../../src/machine/kv.js';
import { loadHash } from '../../src/native/hash64.js';
import { Instant } from '../../src/protocol/contract.js';
import { loadCluster, type ClusterConfig } from '../../src/host/cluster-config.js';
import { silentLogger } from '../../src/host/logger.js';
import { Replica } from '../../src/server/replica.js';
import { decodeReport, encodeReport } from '../../src/host/status-codec.js';
import { StatusService } from '../../src/server/status-service.js';
import { logAheadNs, type ReplicaStatusReport } from '../../src/host/status.js';
import { DEFAULT_DATAGRAM_BYTES, ENVELOPE_BYTES, ENVELOPE_BYTES_MAX, Envelope } from '../../src/wire/envelope.js';
import { begin } from '../../src/wire/layout.js';
import { Status, StatusReply, validate } from '../../src/wire/messages.js';
import { readI32, readU16, writeI32, writeU16 } from '../../src/wire/u64.js';
import { jitpaxos } from '../cluster/processes.js';
import { clusterConfig, startReplicas } from './fixtures.js';

const SEED = Number(process.env['SEED'] ?? Math.floor(Math.random() * 2 ** 31));
t.comment(`SEED=${SEED} replays the random contents`);
let state = SEED | 0;
function below(n: number): number {
  state = (Math.imul(state, 1103515245) + 12345) | 0;
  return (((state >>> 8) % n) + n) % n;
}

async function running(t: Test, count: number): Promise<{ cluster: ClusterConfig; replicas: Replica[] }> {
  const cluster = await clusterConfig(count);
  const replicas = await startReplicas(cluster, () => new KvMachine());
  t.teardown(() => Promise.all(replicas.map((replica) => replica.close())));
  return { cluster, replicas };
}

/** A Status message with so much padding. */
function question(padding: number, serial = 0, offset = 0): Uint8Array {
  const bytes = new Uint8Array(Status.size + padding);
  begin(Status, bytes, 0);
  writeI32(bytes, Status.at.nonce, 7);
  writeI32(bytes, Status.at.nonce + 4, 8);
  writeI32(bytes, Status.at.serial, serial);
  writeI32(bytes, Status.at.offset, offset);
  writeU16(bytes, Status.at.padding, padding);
  return bytes;
}

/** An outbox that keeps what was committed. */
function collector(): {
  bytes: Uint8Array;
  sent: Uint8Array[];
  full: boolean;
  reserve(to: number, length: number): number;
  commit(length: number): void;
} {
  return {
    bytes: new Uint8Array(60_000),
    sent: [],
    full: false,
    reserve(): number {
      return this.full ? -1 : 0;
    },
    commit(length: number): void {
      this.sent.push(this.bytes.slice(0, length));
    },
  };
}

function at(us: number): Instant {
  return Object.assign(new Instant(), { monotonicUs: us });
}

t.test('a report', async (t) => {
  const { replicas } = await running(t, 1);
  const report = replicas[0]!.status();

  await t.test('survives being written and read, counters of zero included', (t) => {
    t.strictSame(decodeReport(encodeReport(report)), JSON.parse(JSON.stringify(report)));
    t.end();
  });

  await t.test('that is damaged, cut, foreign or disturbs a terminal is none', (t) => {
    const good = encodeReport(report);
    t.equal(decodeReport(new Uint8Array(0)), undefined);
    for (let length = 0; length < good.length; length++)
      t.equal(decodeReport(good.slice(0, length)), undefined, `cut to ${length}`);
    for (let i = 0; i < 2_000; i++) {
      const damaged = good.slice();
      for (let k = 0; k <= below(4); k++) damaged[below(damaged.length)] = below(256);
      const decoded = decodeReport(damaged);
      if (decoded !== undefined && (typeof decoded.view !== 'number' || typeof decoded.clock.source !== 'string'))
        t.fail(`SEED=${SEED}: took a report without a view or clock`);
    }
    const wrong: [string, unknown][] = [
      ['another schema', { ...report, schema: 'jitpaxos.status/9' }],
      ['no counters', { ...report, counters: 3 }],
      ['versions that are none', { ...report, wire: ['3'] }],
      ['a counter that is text', { ...report, counters: { requests: 'many' } }],
      ['an escape sequence', { ...report, address: '\x1b[2J' }],
      ['one deep inside', { ...report, clock: { source: 'realtime', epoch: '\u202e' } }],
      ['members that are no numbers', { ...report, members: ['0'] }],
      ['an identity that is none', { ...report, identity: '0123' }],
      ['an identity that is a number', { ...report, identity: 7 }],
      ...[
        ['a role that is none', { role: 'king' }],
        ['an epoch that is text', { epoch: '1' }],
        ['an epoch below 0', { decided: -1 }],
        ['hosts that are no list', { hosts: {} }],
        ['a host without an identity', { hosts: [{ id: 0, address: 'h:1', votes: true, willVote: true }] }],
        ['too many hosts', { hosts: Array(32).fill(report.membership!.hosts[0]) }],
        ['a change that is open since a word', { openSeconds: 'long' }],
        ['a lag that is text', { learnerLag: { 3: '9' } }],
        ['an escape in an address', { hosts: [{ ...report.membership!.hosts[0], address: '\x1b[2J' }] }],
      ].map(([what, changes]): [string, unknown] => [
        what as string,
        { ...report, membership: { ...report.membership, ...(changes as object) } },
      ]),
      ['a list', [report]],
      ['nothing', null],
    ];
    const host = { id: 9, address: 'n'.repeat(264), identity: '0123456789abcdef', votes: true, willVote: true };
    const longest = encodeReport({ ...report, membership: { ...report.membership!, hosts: Array(31).fill(host) } });
    t.ok(longest.length < 32_768, `with the longest list of members it has ${longest.length} bytes, and is taken`);
    t.equal(decodeReport(longest)?.membership?.hosts.length, 31);
    t.match(report.membership, {
      role: 'voter',
      epoch: 0,
      decided: 0,
      index: 0,
      hosts: [{ id: 0, votes: true, willVote: true }],
      openSeconds: null,
      learnerLag: {},
    });
    for (const [what, value] of wrong) t.equal(decodeReport(pack(value)), undefined, what);
    t.ok(decodeReport(pack({ ...report, later: { added: 1 } })), 'a key of a later version is no reason to refuse');
    t.end();
  });
});

t.test('answering', async (t) => {
  const { replicas } = await running(t, 1);
  const report = replicas[0]!.status();

  await t.test('never sends more than was asked with', (t) => {
    const outbox = collector();
    const service = new StatusService(() => report, outbox);
    const full = encodeReport(report).length;
    const longest = DEFAULT_DATAGRAM_BYTES - ENVELOPE_BYTES_MAX - StatusReply.size;
    for (const padding of [0, 1, 100, full - 1, full, full + 1, 1_367, 30_000]) {
      outbox.sent.length = 0;
      const asked = question(padding);
      service.onStatus(asked, 0, 5, at(1e9 * (padding + 1)), 7, true);
      const [answer] = outbox.sent;
      t.ok(answer!.length <= asked.length, `${answer!.length} bytes for ${asked.length}`);
      t.equal(validate(answer!, 0, answer!.length), answer!.length);
      t.equal(readI32(answer!, StatusReply.at.length), full, 'it says how long the report is');
      t.equal(readU16(answer!, StatusReply.at.report), Math.min(full, padding, longest));
      t.same([readI32(answer!, StatusReply.at.nonce), readI32(answer!, StatusReply.at.nonce + 4)], [7, 8]);
    }
    t.end();
  });

  await t.test('costs one report for all who ask within some milliseconds, and has a rate', (t) => {
    let built = 0;
    const outbox = collector();
    const service = new StatusService(() => (built++, report), outbox);
    const asked = question(2_000);
    for (let i = 0; i < 10_000; i++) service.onStatus(asked, 0, 5, at(1e6 + i), 7, true); // within 10 ms
    t.equal(built, 1);
    t.ok(service.answered >= 100 && service.answered <= 105, `${service.answered} of 10,000 were answered`);
    t.equal(service.answered + service.refused, 10_000);
    t.equal(outbox.sent.length, service.answered);
    service.onStatus(asked, 0, 5, at(2e6), 7, true);
    t.equal(built, 2, 'a second later the report is a new one');
    outbox.full = true;
    const refused = service.refused;
    service.onStatus(asked, 0, 5, at(3e6), 7, true);
    t.equal(service.refused, refused + 1, 'no room in the outbox is counted');
    t.end();
  });

  await t.test(
    'recorded questions cost ten reports a second, and a tool that has proven its address a new one',
    (t) => {
      let built = 0;
      const service = new StatusService(() => (built++, report), collector());
      const asked = question(2_000);
      for (let us = 1e6; us < 2e6; us += 500) service.onStatus(asked, 0, 5, at(us), 7, false);
      t.equal(built, 10);
      t.ok(service.answered >= 100 && service.refused >= 1_800, `${service.answered} answered, ${service.refused} not`);
      service.onStatus(asked, 0, 6, at(1_930_000), 7, true);
      t.equal(built, 11);
      t.end();
    },
  );

  await t.test('in pieces, none of which is longer than a datagram or its question', (t) => {
    const outbox = collector();
    let now = report;
    const service = new StatusService(() => now, outbox, undefined, 300);
    const ask = (padding: number, serial: number, offset: number, us: number): Uint8Array => {
      const asked = question(padding, serial, offset);
      service.onStatus(asked, 0, 5, at(us), 7, true);
      const answer = outbox.sent.at(-1)!;
      t.ok(answer.length <= asked.length && ENVELOPE_BYTES + answer.length <= 300, `${answer.length} bytes`);
      return answer;
    };
    const first = ask(1_000, 1, 0, 1e6);
    const serial = readI32(first, StatusReply.at.serial) >>> 0;
    t.ok(serial > 1);
    const full = readI32(first, StatusReply.at.length);
    const put = Buffer.alloc(full);
    let got = first.length - StatusReply.size;
    put.set(first.subarray(StatusReply.size));
    now = { ...report, view: 77 };
    for (let us = 1e6 + 30_000; got < full; us += 1_000) {
      const piece = ask(1_000, serial, got, us); // by now a newer report would be given to others
      t.equal(readI32(piece, StatusReply.at.offset), got);
      put.set(piece.subarray(StatusReply.size), got);
      got += piece.length - StatusReply.size;
    }
    t.equal(decodeReport(put)!.view, report.view, 'all of one report');
    for (let i = 0; i < 20; i++) ask(1_000, 1, 0, 3e6 + i * 50_000);
    const gone = ask(1_000, serial, 100, 5e6);
    t.ok(
      readI32(gone, StatusReply.at.serial) >>> 0 !== serial && readI32(gone, StatusReply.at.offset) === 0,
      'of one that is not kept any more the newest is given, from its beginning',
    );
    t.equal(
      ask(1_000, readI32(gone, StatusReply.at.serial) >>> 0, 0xffffffff, 5e6).length,
      StatusReply.size,
      'there is nothing behind the end',
    );
    t.end();
  });

  await t.test('a report that cannot be made stops nothing', (t) => {
    const outbox = collector();
    const told: string[] = [];
    let works = false;
    const service = new StatusService(
      () => {
        if (!works) throw new Error('EPERM');
        return report;
      },
      outbox,
      (error) => void told.push(error),
    );
    service.onStatus(question(2_000), 0, 5, at(1e6), 7, true);
    t.same([outbox.sent.length, service.answered, service.refused, told], [0, 0, 1, ['EPERM']]);
    works = true;
    service.onStatus(question(2_000), 0, 5, at(2e6), 7, true);
    t.same([outbox.sent.length, service.answered], [1, 1], 'and the next one is');
    t.end();
  });
});

t.test('StatusClient', async (t) => {
  const { cluster, replicas } = await running(t, 3);
  const client = await Client.connect({ cluster });
  await new KvClient(client).put('a', 'b');
  await client.close();
  // The client knows of the commit before the primary does, which hears of it with the next SyncAck.
  for (let i = 0; i < 3_000 && replicas[0]!.status().committedIndex < 2; i++) await sleep(10);
  const status = await StatusClient.open({ cluster });
  t.teardown(() => status.close());

  const answers = await status.ask(5_000);
  t.same(
    answers.map(({ id, address }) => `${id} ${address}`),
    cluster.replicas.map((address, id) => `${id} ${address}`),
  );
  t.ok(answers.every(({ report, roundTripUs }) => report !== undefined && roundTripUs! > 0));
  t.equal(answers[0]!.report!.committedIndex, 2, 'the registration and the put');
  t.equal(answers[0]!.report!.transport.counters['endpoints_evicted'], 0, 'a counter that was left out is zero');

  await replicas[2]!.close();
  const less = await status.ask(300);
  t.same(
    less.map(({ report }) => report !== undefined),
    [true, true, false],
    'one that is gone has no report',
  );

  const open = status.ask(200);
  await t.rejects(status.ask(200), { code: 'busy' });
  await open;
  await t.rejects(status.ask(0), { code: 'option-invalid' });
  await status.close();
  await t.rejects(status.ask(), { code: 'client-closed' });
  await t.rejects(StatusClient.open({ cluster, retries: 3 } as never), { code: 'option-invalid' });
});

t.test('no datagram is longer than the path is said to carry: a replica that lost its log, and status', async (t) => {
  const cluster = { ...(await clusterConfig(3)), datagramBytes: 300 };
  const replicas = await startReplicas(cluster, () => new KvMachine());
  t.teardown(() => Promise.all(replicas.map((replica) => replica.close())));
  await using client = await Client.connect({ cluster, lanes: 16, timeout: 30_000 });
  const kv = new KvClient(client);
  for (let round = 0; round < 20; round++)
    await Promise.all(Array.from({ length: 16 }, (_, i) => kv.put(`k${round}-${i}`, 'v'.repeat(60))));
  await using status = await StatusClient.open({ cluster });
  const tooLong = (): number[] =>
    replicas.map((replica) => replica.status().transport.counters['datagrams_fragmented']!);
  await replicas[1]!.close();
  const before = replicas[0]!.status().committedIndex;
  replicas[1] = await Replica.start({ cluster, id: 1, machine: new KvMachine(), logger: silentLogger, logLost: true });
  let answers = await status.ask(5_000);
  for (let i = 0; i < 300 && (answers[1]!.report?.executedIndex ?? 0) < before; i++) answers = await status.ask(1_000);
  t.ok(answers[1]!.report!.executedIndex >= before, 'it has the log again');
  t.ok(
    answers.every(({ report }) => report !== undefined),
    'all answer',
  );
  t.same(tooLong(), [0, 0, 0]);
  t.equal(client.stats().transport.counters['datagrams_fragmented'], 0);
});

t.test('StatusClient believes no answer that is not to its question', async (t) => {
  const cluster = await clusterConfig(1);
  const [host, port] = cluster.replicas[0]!.split(':');
  const { idHi, idLo } = loadCluster(cluster);
  const seal = new Envelope(loadHash(), idHi, idLo, 0, 1);
  const { replicas } = await running(t, 1);
  const report = encodeReport({ ...replicas[0]!.status(), id: 0 });
  const liar = createSocket('udp4');
  t.teardown(() => liar.close());
  let asked = 0;
  liar.on('message', (bytes, { port: to, address }) => {
    asked++;
    const answer = new Uint8Array(ENVELOPE_BYTES + StatusReply.size + report.length);
    begin(StatusReply, answer, ENVELOPE_BYTES);
    // The right nonce comes with bytes that are no report; the right report with another nonce.
    const honest = asked % 2 === 1;
    const o = ENVELOPE_BYTES;
    answer.set(bytes.subarray(o + Status.at.nonce, o + Status.at.nonce + 8), o + StatusReply.at.nonce);
    if (!honest) answer[o + StatusReply.at.nonce]! ^= 1;
    writeI32(answer, o + StatusReply.at.length, report.length);
    writeU16(answer, o + StatusReply.at.report, report.length);
    if (!honest) answer.set(report, o + StatusReply.size);
    seal.seal(answer, 0, answer.length);
    liar.send(answer, to, address);
  });
  liar.bind(Number(port), host);
  await once(liar, 'listening');
  const status = await StatusClient.open({ cluster });
  t.teardown(() => status.close());
  const answers = await status.ask(500);
  t.ok(asked >= 2, 'it asked again');
  t.equal(answers[0]!.report, undefined);
});

t.test('a report has the leases of the store, once the cluster has one', async (t) => {
  const plain = await running(t, 1);
  t.notOk('leases' in plain.replicas[0]!.status());
  const cluster: ClusterConfig = { ...(await clusterConfig(3)), features: ['store'] };
  const replicas = await startReplicas(cluster, () => new KvMachine());
  t.teardown(() => Promise.all(replicas.map((replica) => replica.close())));
  const client = await Client.connect({ cluster });
  t.teardown(() => client.close());
  const store = new StoreClient(client);
  const [kept, revoked, left] = [
    await store.grant({ ttl: 60_000 }),
    await store.grant({ ttl: 60_000 }),
    await store.grant({ ttl: 1 }),
  ];
  await store.put('a', 'b', { lease: kept });
  await store.renew([kept, revoked]);
  t.equal(await store.revoke(revoked), true);
  await sleep(5);
  const [gone, stays] = await store.renew([left, kept]);
  t.ok(gone === undefined && stays !== undefined);
  const expected = { held: 1, granted: 3, renewed: 3, ended: 2, revoked: 1 };
  for (const replica of replicas) {
    while (replica.status().leases?.renewed !== expected.renewed) await sleep(5);
    t.same(replica.status().leases, expected);
  }
});

t.test('what the answers say together', async (t) => {
  const { replicas } = await running(t, 1);
  const { membership: _, ...base } = replicas[0]!.status();
  const make = (id: number, fields: Partial<ReplicaStatusReport> = {}): StatusAnswer => ({
    id,
    address: `h:${id}`,
    roundTripUs: 100,
    report: {
      ...base,
      id,
      entriesOf: [0, 1, 2],
      pid: 100 + id,
      view: 4,
      primary: 1,
      members: [1, 2],
      lastIndex: 100,
      syncedIndex: 100,
      committedIndex: 100,
      uptimeSeconds: 10,
      ...fields,
    },
  });
  const gone = (id: number): StatusAnswer => ({ id, address: `h:${id}`, roundTripUs: undefined, report: undefined });

  const good = summarize('c', [make(0, { syncedIndex: 90 }), make(1), make(2)]);
  t.match(good, { available: true, view: 4, primary: 1, members: [1, 2], answered: 3, remarks: [] });
  t.same(
    good.replicas.map(({ role, lag }) => [role, lag]),
    [
      ['spare', 10],
      ['primary', 0],
      ['member', 0],
    ],
  );

  const leases = { held: 12, granted: 20, renewed: 100, ended: 8, revoked: 3 };
  const watches = { open: 2, told: 50, refused: 1, behind: 1, forgotten: 0 };
  const store = summarize(
    'c',
    [
      make(0, { uptimeSeconds: 12, watches: { ...watches, told: 70 } }),
      make(1, { uptimeSeconds: 12, leases: { ...leases, renewed: 120, ended: 9 }, watches }),
      make(2, { uptimeSeconds: 12, pid: 9, leases: { ...leases, held: 11 }, watches: { ...watches, open: 3 } }),
    ],
    [make(0, { watches }), make(1, { leases, watches }), make(2, { leases, watches })],
  );
  t.same(store.leases, { held: 12, renewalsPerSecond: 10, endedPerSecond: 0.5 }, 'as the primary has them');
  t.same(store.watches, { open: 7, changesPerSecond: 10, compacted: 3 }, 'of all, but for the rate of a new process');
  t.equal(
    storeLine(store.leases, store.watches),
    'leases 12   renewals 10/s   ended 0.5/s   watches 7   changes 10/s   compacted 3',
  );
  t.ok(summaryLines(store, false).includes(storeLine(store.leases, store.watches)));
  t.match(plainLine(store), /lag 0,0,0 {2}leases 12 .* compacted 3$/);
  t.notMatch(summaryLines(good, false).join('\n'), /leases|watches/, 'nothing of what is not used');
  t.equal(summarize('c', [gone(0), gone(1), make(2, { leases })]).leases, undefined, 'the primary does not say');

  t.equal(summarize('c', [gone(0), make(1), make(2)]).available, true, 'a spare is not needed to commit');
  t.equal(summarize('c', [make(0), make(1), gone(2)]).available, false, 'a member is');
  t.equal(summarize('c', [make(0), make(1, { status: 'view-change' }), make(2)]).available, false);
  t.equal(summarize('c', [make(0), make(1, { view: 3 }), make(2)]).available, false, 'all in one view');
  t.match(summarize('c', [gone(0), gone(1), gone(2)]), { available: false, view: undefined, answered: 0 });
  t.match(
    summarize('c', [make(0, { status: 'recovering', view: 2 }), make(1), make(2, { version: '9.0.0' })]).remarks.join(
      '\n',
    ),
    /no log yet[^]*is in view 2[^]*different versions/,
  );
  const mixed = [make(0, { wire: [5, 5, 4] }), make(1, { wire: [5, 5, 4] }), make(2, { wire: [4, 4, 4] })];
  t.match(
    summarize('c', [
      make(0, { diverged: { log: [], state: [2], limits: [1] } }),
      make(1, { diverged: { log: [], state: [], limits: [0] } }),
      make(2, { diverged: { log: [1], state: [0], limits: [] } }),
    ]).remarks.slice(0, 3),
    [
      /^limits-differ: replicas 0 and 1/,
      /^log-diverged: replicas 1 and 2/,
      /^state-diverged: replicas 0 and 2 have different states/,
    ],
    'each pair once',
  );
  t.match(summarize('c', mixed), { wireVersion: 4, remarks: [/version 4: replica 2; version 5: replica 0, 1/] });

  const later = (id: number): StatusAnswer =>
    make(id, {
      uptimeSeconds: 12,
      committedIndex: 300,
      counters: {
        ...base.counters,
        entries_committed: base.counters['entries_committed']! + 200,
        rejected_late: base.counters['rejected_late']! + 10,
      },
    });
  const moving = summarize('c', [0, 1, 2].map(later), [make(0), make(1), make(2)]);
  t.equal(moving.commitsPerSecond, 100);
  const silentMember = (previous: StatusAnswer[], answers: StatusAnswer[]): boolean =>
    summarize('c', answers, previous).available;
  t.equal(
    silentMember([make(0), make(1), gone(2)], [later(0), later(1), gone(2)]),
    true,
    'what commits is available, although a member does not answer questions',
  );
  t.equal(silentMember([make(0), make(1), make(2)], [make(0), make(1), gone(2)]), false, 'nothing committed');
  t.equal(
    silentMember([make(0), make(1, { view: 3 }), gone(2)], [later(0), later(1), gone(2)]),
    false,
    'in another view, in which another quorum committed',
  );
  t.equal(silentMember([make(0), make(1), gone(2)], [later(0), gone(1), gone(2)]), false, 'the primary does not say');
  t.same(
    moving.replicas.map(({ rates }) => rates?.commits),
    [100, 100, 100],
    'a primary counts, the others follow its index',
  );
  const fetched = summarize(
    'c',
    [0, 1, 2].map((id) => make(id, { uptimeSeconds: 12, committedIndex: 44_676 })),
    [make(0), make(1), make(2)],
  );
  t.equal(fetched.commitsPerSecond, 0, 'an index that jumps because a log was fetched is no commits');
  t.equal(moving.rejectedPerSecond['late'], 15, 'ten in two seconds, of three replicas');
  t.equal(
    summarize('c', [later(0), later(1), later(2)], [make(0), make(1, { incarnation: 99 }), make(2)]).commitsPerSecond,
    undefined,
    'no rates across a restart',
  );
});

t.test('a cluster in which nothing commits is not called available', async (t) => {
  const { replicas } = await running(t, 1);
  const { membership: _, ...base } = replicas[0]!.status();
  const at = (id: number, over: Partial<ReplicaStatusReport>): StatusAnswer => ({
    id,
    address: `h:${id}`,
    roundTripUs: 1,
    report: {
      ...base,
      id,
      view: 4,
      primary: 1,
      members: [1, 2],
      lastIndex: 100,
      syncedIndex: 100,
      committedIndex: 100,
      ...over,
    },
  });
  /** Of three answers, in which the primary is as given. */
  const three = (...primary: Partial<ReplicaStatusReport>[]): ReturnType<typeof summarize> => {
    const [first, second, third] = primary.map((over, i) =>
      [0, 1, 2].map((id) => at(id, { uptimeSeconds: 10 + i, ...(id === 1 ? over : {}) })),
    );
    return summarize('c', third!, second!, first!);
  };
  const rejected = (count: number, reason = 'rejected_too_far_ahead'): Partial<ReplicaStatusReport> => ({
    counters: { ...base.counters, [reason]: count },
  });
  t.match(three(rejected(1), rejected(20), rejected(40)), {
    available: false,
    stalled: /rejects every request \(too-far-ahead\)/,
    remarks: [/^nothing commits/],
  });
  t.match(three(rejected(1, 'rejected_late'), rejected(2, 'rejected_late'), rejected(4, 'rejected_late')), {
    available: false,
  });
  t.match(three({ lastIndex: 105 }, { lastIndex: 110 }, { lastIndex: 115 }), {
    available: false,
    stalled: /entries up to 110 and no more than 100 are committed/,
  });
  t.match(
    three({ lastIndex: 105 }, { lastIndex: 110, committedIndex: 101 }, { lastIndex: 115, committedIndex: 101 }),
    { available: true, stalled: undefined },
    'something did',
  );
  t.match(
    three(rejected(1), rejected(20), rejected(20)),
    { available: true },
    'rejected once: by a client that learnt, or gave up',
  );
  t.match(
    three(
      rejected(1, 'rejected_bad_request'),
      rejected(20, 'rejected_bad_request'),
      rejected(40, 'rejected_bad_request'),
    ),
    { available: true },
    'a client that is wrong is no stall',
  );
  t.match(three({}, {}, {}), { available: true, stalled: undefined }, 'nor is a cluster that nobody asks');
  t.match(
    three({ view: 3, ...rejected(1) }, rejected(20), rejected(40)),
    { available: true },
    'nor a view that has just begun',
  );
  const two = [0, 1].map((i) => [0, 1, 2].map((id) => at(id, { uptimeSeconds: 10 + i, ...rejected(i * 20) })));
  t.equal(seemsStalled(two[1]!, two[0]!), true, 'worth asking a third time');
  t.equal(seemsStalled(two[0]!, two[0]!), false);
});

t.test('a log that is ahead of the clocks is said, with by how much and whose', async (t) => {
  const { replicas } = await running(t, 1);
  const report = replicas[0]!.status();
  t.equal(report.logAheadNs, 0);
  const log = { lastIndex: 9, timestampHi: (index: number) => index, timestampLo: () => -1 };
  t.equal(logAheadNs(log, Int32Array.of(9, -1)), 0);
  t.equal(logAheadNs(log, Int32Array.of(8, -1)), 2 ** 32);
  t.equal(logAheadNs(log, Int32Array.of(10, 0)), 0, 'behind is where it usually is');
  const clocks = {
    offsetsNs: [0, null, -3.6e12],
    off: [2],
    divided: false,
    says: 'the clock of replica 2 is 60.0 min behind those of 0, 1',
  };
  t.same(clockRemarks([{ ...report, replicaClocks: clocks }]), [clocks.says]);
  t.same(decodeReport(encodeReport({ ...report, replicaClocks: clocks }))?.replicaClocks, clocks);
  for (const wrong of [{ offsetsNs: ['x'] }, { off: ['2'] }, { divided: 1 }, { says: 7 }, { says: '\u001b[2J' }])
    t.equal(
      decodeReport(encodeReport({ ...report, replicaClocks: { ...clocks, ...wrong } as never })),
      undefined,
      JSON.stringify(wrong),
    );
  const remarks = (...ahead: (number | undefined)[]): readonly string[] =>
    clockRemarks(
      ahead.map((ns, id) => ({
        ...report,
        id,
        ...(ns === undefined ? { logAheadNs: undefined as never } : { logAheadNs: ns }),
      })),
    );
  t.same(remarks(0, 1e6, 0.9e9), []);
  t.same(remarks(undefined, undefined, undefined), [], 'replicas of an earlier version say nothing of it');
  t.match(remarks(3_540e9, 3_540e9, 3_539e9), [
    /^the log is 59 min ahead of the replicas' clocks: a clock ran ahead once/,
  ]);
  t.match([remarks(7_200e9, 7_300e9), remarks(8_760 * 3_600e9, 0)].flat(), [/2 h ahead/, /365 days ahead/]);
  t.match(remarks(0, 3_540e9, 0), [/ahead of the clock of replica 1: set that clock right/]);
  t.equal(decodeReport(encodeReport({ ...report, logAheadNs: -1 })), undefined);
  t.equal(decodeReport(encodeReport({ ...report, logAheadNs: 'an hour' as never })), undefined);
});

t.test('jitpaxos status', async (t) => {
  const { cluster, replicas } = await running(t, 3);
  const directory = mkdtempSync(join(tmpdir(), 'jitpaxos-status-'));
  t.teardown(() => rmSync(directory, { recursive: true, force: true }));
  writeFileSync(join(directory, 'cluster.json'), JSON.stringify(cluster));
  const text = await jitpaxos(['status', '--interval', '50ms'], { cwd: directory });
  t.equal(text.code, 0, text.stderr);
  t.match(text.stdout, /available {3}3 of 3 replicas answer[^]*primary[^]*member[^]*spare/);
  t.notMatch(text.stdout, /\x1b/, 'no escapes where nobody looks');
  await replicas[0]!.close();
  await replicas[1]!.close();
  const json = await jitpaxos(['status', '--json', '--timeout', '300ms', '--interval', '0s'], { cwd: directory });
  t.equal(json.code, 3);
  t.match(JSON.parse(json.stdout), { schema: 'jitpaxos.cluster-status/1', available: false, answered: 1 });
  await replicas[2]!.close();
  const silent = await jitpaxos(['status', '--timeout', '300ms', '--interval', '0s'], { cwd: directory });
  t.equal(silent.code, 4, 'nobody answers: unknown, which is not the same as "cannot commit"');
  t.match(silent.stdout, /unknown {3}0 of 3 replicas answer/);
  const top = await jitpaxos(['top', '--json', '--count', '1', '--interval', '300ms'], { cwd: directory });
  t.equal(top.code, 4);
  t.match(JSON.parse(top.stdout), { available: false, answered: 0 });
});
