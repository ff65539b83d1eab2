// What status and doctor say about the keys that replicas have loaded, and about encryption between them.
import t from 'tap';
import { loadedKeys } from '../../src/cli/doctor/cluster-checks.js';
import { keyDifferences, keyLines } from '../../src/cli/cluster/keys-loaded.js';
import { encryptedBetween } from '../../src/cli/cluster/summary.js';
import { Keyring, type KeysReport } from '../../src/host/keyring.js';
import type { KeyEntry, KeyFile } from '../../src/host/key-file.js';
import { decodeReport, encodeReport } from '../../src/host/status-codec.js';
import type { PeerReport, ReplicaStatusReport } from '../../src/host/status.js';
import { KvMachine } from '../../src/machine/kv.js';
import { clusterConfig, startReplicas } from '../server/fixtures.js';

const keys = (use: number, loaded: readonly number[], fingerprint = loaded.join('')): KeysReport => ({
  use,
  loaded,
  fingerprint,
});
const reports = (...each: (KeysReport | null | undefined)[]): { id: number; keys?: KeysReport | null }[] =>
  each.map((one, id) => (one === undefined ? { id } : { id, keys: one }));

t.test('each step of a rotation is told from a fault', (t) => {
  const cases: [what: string, loaded: ReturnType<typeof reports>, levels: string[], words: RegExp[]][] = [
    ['no keys', reports(null, null, null), [], []],
    ['an earlier version', reports(undefined, undefined, undefined), [], []],
    ['all alike', reports(keys(1, [1, 2]), keys(1, [1, 2]), keys(1, [1, 2])), ['ok'], [/the same 2, and use key 1/]],
    [
      'one does not say',
      reports(keys(1, [1, 2]), undefined, keys(1, [1, 2])),
      ['ok', 'skip'],
      [/same 2/, /replica 1: an earlier version/],
    ],
    [
      'added, and one has not read it',
      reports(keys(1, [1, 2, 3]), keys(1, [1, 2, 3]), keys(1, [1, 2])),
      ['warn'],
      [/^replica 2 lacks key 3, which others have/],
    ],
    [
      'in use, and one has not read it',
      reports(keys(3, [1, 2, 3]), keys(3, [1, 2, 3]), keys(1, [1, 2])),
      ['fail'],
      [/^replica 2 lacks key 3, and other replicas write under key 3: it refuses what they send/],
    ],
    [
      'on its way into use',
      reports(keys(3, [1, 3]), keys(1, [1, 3]), keys(1, [1, 3])),
      ['warn'],
      [/write under different keys \(3: replica 0; 1: replicas 1, 2\): normal/],
    ],
    [
      'removed while one still uses it',
      reports(keys(3, [3]), keys(1, [1, 3]), keys(3, [3])),
      ['fail'],
      [/^replicas 0, 2 lack key 1, and other replicas write under key 1/],
    ],
    [
      'other secrets',
      reports(keys(1, [1, 2], 'aa'), keys(1, [1, 2], 'aa'), keys(1, [1, 2], 'bb')),
      ['fail'],
      [/same key ids have other secrets.*replicas 0, 1: aa; replica 2: bb/],
    ],
    [
      'many keys',
      reports(
        keys(
          1,
          Array.from({ length: 20 }, (_, i) => i + 1),
        ),
        keys(1, [1]),
        keys(1, [1]),
      ),
      ['warn'],
      [/^replicas 1, 2 lack keys 2, 3, 4, 5, 6, 7, 8, 9 and 11 more/],
    ],
  ];
  for (const [what, loaded, levels, words] of cases) {
    const findings = loadedKeys(loaded);
    t.same(
      findings.map(({ level }) => level),
      levels,
      what,
    );
    words.forEach((word, i) => t.match(findings[i]?.found, word, what));
    t.equal(keyDifferences(loaded).length, levels.filter((level) => level === 'warn' || level === 'fail').length, what);
  }
  t.same(keyLines(reports(keys(2, [1, 2]), keys(2, [1, 2]), keys(1, [1]))), [
    'keys of replicas 0, 1: 2 (in use), 1',
    'keys of replica 2: 1 (in use)',
  ]);
  t.same(keyLines(reports(keys(1, [1]), undefined)), [
    'keys of replica 0: 1 (in use)',
    'keys of replica 1: unknown, an earlier version does not say',
  ]);
  t.end();
});

t.test('a keyring names its keys, and no secret; a fingerprint is of all that decides', (t) => {
  const entry = (id: number, digit: string, more: Partial<KeyEntry> = {}): KeyEntry => ({
    id,
    role: 'client',
    secret: digit.repeat(64),
    ...more,
  });
  const ringOf = (...entries: KeyEntry[]): Keyring => {
    const file: KeyFile = {
      schema: 'jitpaxos.keys/1',
      cluster: '00000000000000ff',
      use: 1,
      keys: [entry(1, 'a', { role: 'replica' }), ...entries],
    };
    return new Keyring(file, true);
  };
  const ring = ringOf(entry(9, 'b'), entry(4, 'c'));
  const report = ring.report();
  t.same([report.use, report.loaded], [1, [1, 4, 9]]);
  t.match(report.fingerprint, /^[0-9a-f]{8}$/);
  t.notMatch(JSON.stringify(report), /a{8}|b{8}|c{8}/);
  const print = (...entries: KeyEntry[]): string => ringOf(...entries).report().fingerprint;
  t.equal(print(entry(4, 'C'), entry(9, 'B')), report.fingerprint, 'neither order nor case matters');
  t.not(print(entry(4, 'c'), entry(9, 'd')), report.fingerprint, 'a secret');
  t.not(print(entry(4, 'c'), entry(9, 'b', { role: 'read-only' })), report.fingerprint, 'a role');
  t.not(print(entry(4, 'c'), entry(9, 'b', { owner: 4 })), report.fingerprint, 'an owner');
  ring.replace({
    schema: 'jitpaxos.keys/1',
    cluster: '00000000000000ff',
    use: 1,
    keys: [entry(1, 'a', { role: 'replica' })],
  });
  t.same(ring.report().loaded, [1], 'what was removed is gone from the report');
  t.end();
});

t.test('unknown is not shown as encrypted', (t) => {
  const link = (encrypted: boolean | null): PeerReport => ({ speaks: encrypted === null ? null : 5, encrypted });
  const seen = (...rows: (((boolean | null)[] | undefined) | 'silent')[]): string =>
    encryptedBetween(
      rows.flatMap((row, id) =>
        row === 'silent'
          ? []
          : [row === undefined ? { id } : { id, peers: row.map((one, to) => (to === id ? null : link(one))) }],
      ),
    );
  const T = true;
  const F = false;
  t.equal(seen([T, T, T], [T, T, T], [T, T, T]), 'yes');
  t.equal(seen([F, F, F], [F, F, F], [F, F, F]), 'no');
  t.equal(seen([T, T, T], [T, T, F], [T, T, T]), 'partly');
  t.equal(seen([T, T, null], [T, T, T], [T, T, T]), 'unknown');
  t.equal(seen([T, F, null], [T, T, T], [T, T, T]), 'partly');
  t.equal(seen([T, T, T], undefined, [T, T, T]), 'unknown', 'an earlier version');
  t.equal(seen([T, T, null], [T, T, null], 'silent'), 'yes', 'a replica that does not answer has no say');
  t.equal(seen([T]), 'unknown', 'a single replica has no link');
  // Hosts 4 and 5 have come in the places of 1 and 2.
  const hosts = [0, 4, 5];
  const changed = (links: readonly (boolean | null)[][]): string =>
    encryptedBetween(
      links.map((row, own) => ({
        id: hosts[own]!,
        entriesOf: hosts,
        peers: row.map((one, to) => (to === own ? null : link(one))),
      })),
    );
  t.equal(
    changed([
      [T, T, T],
      [T, T, T],
      [T, T, T],
    ]),
    'yes',
  );
  t.equal(
    changed([
      [T, T, null],
      [T, T, T],
      [T, T, T],
    ]),
    'unknown',
    'the link to host 5 counts',
  );
  t.equal(
    changed([
      [T, T, F],
      [T, T, T],
      [T, T, T],
    ]),
    'partly',
  );
  t.equal(seen(), 'unknown');
  t.end();
});

t.test('a report of a later or hostile sender is refused where these parts are not what they have to be', async (t) => {
  const [replica] = await startReplicas(await clusterConfig(1), () => new KvMachine());
  t.teardown(() => replica!.close());
  const report = replica!.status();
  t.same(report.keys, null);
  t.same(report.peers, [null]);
  const reads = (change: Record<string, unknown>): boolean =>
    decodeReport(encodeReport({ ...report, ...change } as unknown as ReplicaStatusReport)) !== undefined;
  t.ok(
    reads({
      keys: keys(1, [1, 2]),
      peers: [null, { speaks: 4, encrypted: false }],
      forgedByKey: { 2: 7 },
      previousVersion: { replicas: 1, clients: 2 },
    }),
  );
  const { keys: _keys, peers: _peers, forgedByKey, previousVersion: _previous, ...earlier } = report;
  t.equal(forgedByKey, null, 'unknown without keys');
  t.ok(decodeReport(encodeReport(earlier as ReplicaStatusReport)), 'an earlier version has none of these');
  for (const [what, change] of Object.entries({
    'keys as text': { keys: 'all' },
    'ids as text': { keys: { ...keys(1, [1]), loaded: ['1'] } },
    'no use': { keys: { loaded: [], fingerprint: '' } },
    'peers as a map': { peers: {} },
    'a version as text': { peers: [{ speaks: '5', encrypted: true }] },
    'encrypted as text': { peers: [{ speaks: 5, encrypted: 'yes' }] },
    'forged ones as a list': { forgedByKey: [7] },
    'a count of forged ones as text': { forgedByKey: { 2: '7' } },
    'a count as text': { previousVersion: { replicas: 0, clients: '0' } },
  }))
    t.notOk(reads(change), what);
});
