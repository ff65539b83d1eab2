// Metrics: names and help by Prometheus' rules, the text format, and the HTTP server with its bounds.
import { mkdtempSync, rmSync } from 'node:fs';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import t, { type Test } from 'tap';
import { Client } from '../../src/client/client.js';
import { KvClient } from '../../src/client/kv-client.js';
import { KvMachine } from '../../src/machine/kv.js';
import { METRIC_PREFIX, counter, expose, gauge, lint, type Family } from '../../src/metrics/exposition.js';
import { BucketCounts } from '../../src/protocol/bucket-counts.js';
import { COUNTER_NAMES } from '../../src/protocol/counters.js';
import { MetricsServer, type Monitored } from '../../src/server/metrics-server.js';
import { replicaMetrics } from '../../src/server/replica-metrics.js';
import { silentLogger } from '../../src/host/logger.js';
import { Replica } from '../../src/server/replica.js';
import { TRANSPORT_COUNTER_NAMES } from '../../src/transport/transport.js';
import { DROP_REASON_NAMES } from '../../src/wire/envelope.js';
import { REJECT_REASON_NAMES } from '../../src/wire/messages.js';
import { clusterConfig, startReplicas } from './fixtures.js';

/** What stands behind a name and labels in an exposition. */
function sampleOf(text: string, series: string): number | undefined {
  const line = text.split('\n').find((each) => each.startsWith(`${series} `));
  return line === undefined ? undefined : Number(line.slice(series.length + 1));
}

async function running(t: Test, count: number): Promise<{ replicas: Replica[]; client: Client }> {
  const cluster = await clusterConfig(count);
  const replicas = await startReplicas(cluster, () => new KvMachine());
  t.teardown(() => Promise.all(replicas.map((replica) => replica.close())));
  const client = await Client.connect({ cluster });
  t.teardown(() => client.close());
  return { replicas, client };
}

t.test('names and help texts', async (t) => {
  const { replicas, client } = await running(t, 1);
  t.same(lint(replicas[0]!.metrics(), METRIC_PREFIX), []);
  t.same(lint(client.metrics(), METRIC_PREFIX), []);
  t.same(
    lint([...replicas[0]!.metrics(), ...client.metrics()], METRIC_PREFIX),
    [],
    'a process with both has no name twice',
  );
  // Every counter has a value of its own, and each has to come out somewhere.
  const report = replicas[0]!.status();
  const marked = (names: readonly string[], base: number): Record<string, number> =>
    Object.fromEntries(names.map((name, i) => [name, base + i]));
  const text = expose(
    replicaMetrics({
      report: {
        ...report,
        counters: marked(COUNTER_NAMES, 51_000),
        transport: { kind: 'dgram', idle: 'poll', counters: marked(TRANSPORT_COUNTER_NAMES, 52_000) },
        drops: marked(DROP_REASON_NAMES.slice(1), 53_000),
        forgedByKey: { 22: 54_000 },
        leases: { held: 71, granted: 72, renewed: 73, ended: 74, revoked: 75 },
        watches: { open: 81, told: 82, refused: 89, behind: 84, forgotten: 86 },
        replicaClocks: { offsetsNs: [0, null, 2_000_000_000], off: [2], divided: false, says: 'x' },
        chain: { function: 'x', fingerprint: 'x', differs: [1, 2] },
        clusterFileDiffers: [2],
        membership: {
          ...report.membership!,
          epoch: 7,
          decided: 8,
          hosts: [0, 1, 2, 3, 4].map((id) => ({
            id,
            address: `h:${id}`,
            identity: null,
            votes: id < 3,
            willVote: id !== 2,
          })),
          openSeconds: 301.5,
          learnerLag: { 3: 41, 4: null },
        },
        clock: {
          source: 'tai',
          epoch: 'tai',
          errorBoundNs: 1_500,
          offsetNs: -250,
          healthy: false,
          changes: 61,
          steps: 62,
          fallbacks: 63,
        },
      },
      arrivalSlackUs: { bounds: [], counts: [0], sum: 0 },
      disk: {
        writeUs: { bounds: [500], counts: [7, 1], sum: 2_000 },
        syncUs: { bounds: [500], counts: [3, 0], sum: 900 },
      },
      residentBytes: 1,
    }),
  );
  const values = new Set(text.split('\n').map((line) => Number(line.split(' ').at(-1))));
  for (const [names, base] of [
    [COUNTER_NAMES, 51_000],
    [TRANSPORT_COUNTER_NAMES, 52_000],
    [DROP_REASON_NAMES.slice(1), 53_000],
  ] as const)
    names.forEach((name, i) => t.ok(values.has(base + i), name));
  t.equal(sampleOf(text, 'jitpaxos_datagrams_forged_total{key="22"}'), 54_000);
  t.equal(sampleOf(text, 'jitpaxos_clock_error_bound_seconds'), 1.5e-6);
  t.equal(sampleOf(text, 'jitpaxos_clock_offset_seconds'), -2.5e-7);
  for (const [name, value] of [
    ['healthy', 0],
    ['changes_total', 61],
    ['steps_total', 62],
    ['fallbacks_total', 63],
  ] as const)
    t.equal(sampleOf(text, `jitpaxos_clock_${name}`), value, name);
  t.equal(sampleOf(text, 'jitpaxos_replica_clock_offset_seconds{replica="2"}'), 2);
  t.same(
    [0, 1, 2].map((replica) => sampleOf(text, `jitpaxos_replica_clock_off{replica="${replica}"}`)),
    [0, undefined, 1],
    'of a replica that was not heard nothing is said',
  );
  t.equal(sampleOf(text, 'jitpaxos_replica_clocks_divided'), 0);
  t.same(
    ['chain', 'cluster_file'].map((where) => sampleOf(text, `jitpaxos_replicas_set_up_otherwise{in="${where}"}`)),
    [2, 1],
  );
  for (const [name, value] of [
    ['epoch', 7],
    ['epoch_decided', 8],
    ['voters', 3],
    ['learners', 2],
    ['change_open_seconds', 301.5],
    ['learner_lag_entries{replica="3"}', 41],
    ['learner_lag_entries{replica="4"}', undefined],
    ['leases', 71],
    ['leases_granted_total', 72],
    ['leases_renewed_total', 73],
    ['leases_ended_total', 74],
    ['leases_revoked_total', 75],
    ['watches', 81],
    ['watch_changes_total', 82],
    ['watches_ended_total{reason="refused"}', 5],
    ['watches_ended_total{reason="behind"}', 84],
    ['watches_ended_total{reason="forgotten"}', 86],
    ['unlisted_senders_total', 53_000 + DROP_REASON_NAMES.indexOf('sender') - 1],
  ] as const)
    t.equal(sampleOf(text, `jitpaxos_${name}`), value, name);
  const { membership: _, ...silent } = report;
  const unknown = expose(
    replicaMetrics({
      report: silent,
      arrivalSlackUs: { bounds: [], counts: [0], sum: 0 },
      disk: undefined,
      residentBytes: 1,
    }),
  );
  for (const name of ['epoch', 'epoch_decided', 'voters', 'learners', 'change_open_seconds'])
    t.equal(sampleOf(unknown, `jitpaxos_${name}`), undefined, `${name} is absent where it is not known`);
  t.equal(sampleOf(text, 'jitpaxos_log_write_seconds_bucket{le="0.0005"}'), 7);
  t.equal(sampleOf(text, 'jitpaxos_disk_sync_seconds_sum'), 9e-4);
  for (const reason of REJECT_REASON_NAMES.slice(1))
    t.ok(sampleOf(text, `jitpaxos_requests_rejected_total{reason="${reason}"}`)! > 51_000, reason);
});

t.test('lint sees what it is for', (t) => {
  const wrong: [what: string, family: Family | Family[]][] = [
    ['a counter without _total', counter('jitpaxos_requests', 'Requests', 1)],
    ['a gauge with it', gauge('jitpaxos_view_total', 'View', 1)],
    ['milliseconds', gauge('jitpaxos_stall_ms', 'Stall', 1)],
    ['another prefix', gauge('paxos_view', 'View', 1)],
    ['capitals', gauge('jitpaxos_loopStall', 'Stall', 1)],
    ['no help', gauge('jitpaxos_view', '', 1)],
    ['a full stop', gauge('jitpaxos_view', 'The view.', 1)],
    ['twice', [gauge('jitpaxos_view', 'View', 1), gauge('jitpaxos_view', 'View', 1)]],
    ['two samples alike', gauge('jitpaxos_view', 'View', [{ value: 1 }, { value: 2 }])],
    ['no number', gauge('jitpaxos_view', 'View', NaN)],
    ['a counter below zero', counter('jitpaxos_requests_total', 'Requests', -1)],
    ['a histogram without its unit', { name: 'jitpaxos_slack', kind: 'histogram', help: 'Slack', samples: [] }],
    [
      'bounds that do not ascend',
      {
        name: 'jitpaxos_slack_seconds',
        kind: 'histogram',
        help: 'Slack',
        samples: [{ bounds: [2, 1], counts: [0, 0, 0], sum: 0 }],
      },
    ],
    ['a label that is reserved', gauge('jitpaxos_view', 'View', [{ labels: { le: '1' }, value: 1 }])],
  ];
  for (const [what, family] of wrong) t.equal(lint([family].flat(), METRIC_PREFIX).length, 1, what);
  t.end();
});

t.test('the text format', (t) => {
  const buckets = new BucketCounts([1, 10]);
  for (const value of [-5, 1, 2, 10, 11, 1e9]) buckets.record(value);
  const { bounds, counts, sum } = buckets.snapshot();
  const text = expose([
    gauge('jitpaxos_a', 'A "quoted" \\ line\nand another', [{ labels: { path: 'a"b\\c\nd' }, value: 0.5 }]),
    {
      name: 'jitpaxos_b_seconds',
      kind: 'histogram',
      help: 'B',
      samples: [{ labels: { call: 'x' }, bounds, counts, sum }],
    },
  ]);
  t.equal(
    text,
    [
      '# HELP jitpaxos_a A "quoted" \\\\ line\\nand another',
      '# TYPE jitpaxos_a gauge',
      'jitpaxos_a{path="a\\"b\\\\c\\nd"} 0.5',
      '# HELP jitpaxos_b_seconds B',
      '# TYPE jitpaxos_b_seconds histogram',
      'jitpaxos_b_seconds_bucket{call="x",le="1"} 2',
      'jitpaxos_b_seconds_bucket{call="x",le="10"} 4',
      'jitpaxos_b_seconds_bucket{call="x",le="+Inf"} 6',
      'jitpaxos_b_seconds_sum{call="x"} 1000000019',
      'jitpaxos_b_seconds_count{call="x"} 6',
      '',
    ].join('\n'),
  );
  t.end();
});

t.test('what is counted is what happened', async (t) => {
  const { replicas, client } = await running(t, 3);
  const store = new KvClient(client);
  for (let i = 0; i < 20; i++) await store.put(`key-${i}`, 'value');
  await store.get('key-1');
  const mine = expose(client.metrics());
  t.equal(
    ['fast', 'ordered', 'reconciled', 'resent']
      .map((path) => sampleOf(mine, `jitpaxos_commits_total{path="${path}"}`)!)
      .reduce((sum, value) => sum + value),
    client.stats().commits,
  );
  t.ok(client.stats().commits >= 20);
  const offset = sampleOf(mine, 'jitpaxos_client_clock_offset_seconds{replica="0"}')!;
  const open = sampleOf(mine, 'jitpaxos_client_clock_offset_uncertainty_seconds{replica="0"}')!;
  t.ok(open > 0 && Math.abs(offset) <= open + 1e-4, `one clock is ${offset} s from itself, known to ${open} s`);
  t.equal(sampleOf(mine, 'jitpaxos_client_clock_correction_seconds'), 0);
  t.equal(sampleOf(mine, 'jitpaxos_commit_duration_seconds_count{call="execute"}'), 20);
  t.equal(sampleOf(mine, 'jitpaxos_commit_duration_seconds_count{call="query"}'), 1);
  const sum = sampleOf(mine, 'jitpaxos_commit_duration_seconds_sum{call="execute"}')!;
  t.ok(sum > 0 && sum < 60, `${sum} s for 20 operations`);
  const primary = expose(replicas[0]!.metrics());
  t.equal(sampleOf(primary, 'jitpaxos_is_primary'), 1);
  t.equal(sampleOf(expose(replicas[2]!.metrics()), 'jitpaxos_is_member'), 0, 'a spare');
  const { lastIndex } = replicas[0]!.status();
  t.equal(sampleOf(primary, 'jitpaxos_log_last_index'), lastIndex);
  t.equal(sampleOf(primary, 'jitpaxos_log_synced_index'), lastIndex, 'the primary has no lag behind itself');
  const committed = replicas.map((replica) => sampleOf(expose(replica.metrics()), 'jitpaxos_entries_committed_total')!);
  t.same(
    committed,
    [sampleOf(primary, 'jitpaxos_log_committed_index'), 0, 0],
    'commits are counted where they are made',
  );
  t.notMatch(primary, /jitpaxos_(log_write|disk_sync)_seconds_count/, 'in memory there is no disk to be slow');
  t.ok(sampleOf(primary, 'jitpaxos_arrival_slack_seconds_count')! >= 21, 'the registration and every put has a slack');
  t.equal(sampleOf(primary, 'jitpaxos_status{status="normal"}'), 1);
});

t.test('a log that is fetched, or read from the disk, was not committed now', async (t) => {
  const cluster = await clusterConfig(3);
  const directories = cluster.replicas.map(() => mkdtempSync(join(tmpdir(), 'jitpaxos-metrics-')));
  t.teardown(() => directories.forEach((path) => rmSync(path, { recursive: true, force: true })));
  const start = (id: number, data: string): Promise<Replica> =>
    Replica.start({ cluster, id, machine: new KvMachine(), logger: silentLogger, durability: 'fsync', data });
  const replicas = await Promise.all(directories.map((data, id) => start(id, data)));
  t.teardown(() => Promise.all(replicas.map((replica) => replica.close())));
  const client = await Client.connect({ cluster });
  t.teardown(() => client.close());
  const store = new KvClient(client);
  for (let i = 0; i < 50; i++) await store.put(`key-${i}`, 'value');
  const counted = (): number[] =>
    replicas.map((replica) => sampleOf(expose(replica.metrics()), 'jitpaxos_entries_committed_total')!);
  const sum = (): number => counted().reduce((all, each) => all + each);
  // A client knows before the primary, which hears of the last ones with the answers to its next Sync.
  for (const end = performance.now() + 20_000; sum() < 50 && performance.now() < end; ) await sleep(5);
  t.ok(sum() >= 50);
  for (const replica of replicas) {
    const text = expose(replica.metrics());
    const writes = sampleOf(text, 'jitpaxos_log_write_seconds_count')!;
    t.ok(writes > 0 && sampleOf(text, 'jitpaxos_disk_sync_seconds_count')! > 0, `${writes} writes are timed`);
    t.ok(sampleOf(text, 'jitpaxos_log_write_seconds_sum')! > 0);
  }
  const spare = replicas.findIndex((replica) => !replica.status().members.includes(replica.id));
  await replicas[spare]!.close();
  for (let i = 0; i < 50; i++) await store.put(`more-${i}`, 'value');
  replicas[spare] = await start(spare, directories[spare]!);
  const behind = replicas.find((_, id) => id !== spare)!.status().committedIndex;
  for (
    const end = performance.now() + 20_000;
    replicas[spare]!.status().committedIndex < behind && performance.now() < end;
  )
    await sleep(20);
  t.ok(replicas[spare]!.status().committedIndex >= behind, 'it has read its own log and fetched the rest');
  t.equal(counted()[spare], 0, 'and counts nothing of it as committed now');
});

t.test('the server', async (t) => {
  let built = 0;
  let ill: string | undefined;
  let waiting: string | undefined = 'status is recovering';
  const monitored: Monitored = {
    metrics: () => (built++, [gauge('jitpaxos_view', 'View', 3)]),
    unhealthy: () => ill,
    unready: () => waiting,
  };
  const server = await MetricsServer.start('0', monitored);
  t.teardown(() => server.close());
  t.match(server.url, /^http:\/\/127\.0\.0\.1:\d+$/, 'a port alone is opened on loopback');
  const get = async (path: string, init?: RequestInit): Promise<[number, string]> => {
    const response = await fetch(server.url + path, init);
    return [response.status, await response.text()];
  };

  t.same(await get('/metrics?x=1'), [200, '# HELP jitpaxos_view View\n# TYPE jitpaxos_view gauge\njitpaxos_view 3\n']);
  t.match((await fetch(`${server.url}/metrics`)).headers.get('content-type'), /^text\/plain; version=0\.0\.4/);
  t.same(await get('/metrics', { method: 'HEAD' }), [200, '']);
  built = 0;
  await Promise.all(Array.from({ length: 12 }, () => get('/metrics')));
  t.ok(built < 12, `12 scrapes at once were served by ${built} texts`); // usually by one, but a stalled host may outlast the text

  t.same(await get('/healthz'), [200, 'ok\n']);
  t.same(await get('/readyz'), [503, 'status is recovering\n']);
  waiting = undefined;
  t.same(await get('/readyz'), [200, 'ok\n']);
  ill = 'the replica stopped: a reason';
  t.same(await get('/healthz'), [503, 'the replica stopped: a reason\n']);
  t.same(await get('/readyz'), [503, 'the replica stopped: a reason\n'], 'who is ill is not ready');

  t.same((await get('/'))[0], 404);
  t.same((await get('/metrics', { method: 'POST', body: 'x' }))[0], 405);

  const broken = await MetricsServer.start('0', {
    metrics: () => {
      throw new Error('no descriptors left');
    },
    unhealthy: () => {
      throw new Error('x');
    },
    unready: () => undefined,
  });
  t.teardown(() => broken.close());
  for (const path of ['/metrics', '/healthz', '/readyz'])
    t.match([(await fetch(broken.url + path)).status], [500], `${path}: what cannot be told stops nothing`);

  await t.rejects(MetricsServer.start(`${server.port}`, monitored), { code: 'port-in-use' });
  await t.rejects(MetricsServer.start('192.0.2.1:0', monitored), { code: 'address-unavailable' });
  for (const listen of ['', 'x', 'localhost:80', ':80', '1.2.3.4', '127.0.0.1:70000', '[127.0.0.1]:80', '-1'])
    await t.rejects(MetricsServer.start(listen, monitored), { code: 'option-invalid' }, listen);

  await t.test('holds out against many connections and endless headers', async (t) => {
    const sockets = Array.from({ length: 100 }, () => connect(server.port, '127.0.0.1').on('error', () => undefined));
    let ended = 0;
    await new Promise<void>((resolve) => {
      for (const socket of sockets) {
        socket.on('data', () => undefined).on('close', () => ++ended === sockets.length && resolve());
        socket.write(`GET /metrics HTTP/1.1\r\nhost: localhost\r\nx: ${'y'.repeat(10)}`);
      }
    });
    t.equal(ended, 100, 'a connection that does not ask is cut');
    const wide = connect(server.port, '127.0.0.1').on('error', () => undefined);
    const answer = await new Promise<string>((resolve) => {
      let text = '';
      wide.on('data', (data) => (text += String(data))).on('close', () => resolve(text));
      wide.write(`GET /metrics HTTP/1.1\r\nhost: localhost\r\nx: ${'y'.repeat(100_000)}\r\n\r\n`);
    });
    t.match(answer, /^HTTP\/1\.1 431/);
    t.equal((await get('/healthz'))[0], 503, 'and it still answers');
  });
});

t.test('a replica that is closed is neither healthy nor ready', async (t) => {
  const { replicas } = await running(t, 1);
  const [replica] = replicas;
  t.equal(replica!.unhealthy(), undefined);
  t.equal(replica!.unready(), undefined);
  await replica!.close();
  t.match(replica!.unhealthy(), /closed/);
  t.match(replica!.unready(), /stopped/);
});
