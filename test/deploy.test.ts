// The files of deploy/: they parse, and name only settings, metrics and alerts that exist.
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import t from 'tap';
import { parse, parseAllDocuments, stringify } from 'yaml';
import { REPLICA_SETTINGS } from '../src/cli/config.js';
import { variableOf } from '../src/console/settings.js';
import { Client } from '../src/client/client.js';
import { RedisFrontEnd } from '../src/redis/server.js';
import { KvMachine } from '../src/machine/kv.js';
import { loadCluster, type ClusterConfig } from '../src/host/cluster-config.js';
import { clusterConfig, startReplicas } from './server/fixtures.js';

const at = (name: string): string => fileURLToPath(new URL(`../../${name}`, import.meta.url));
const read = (name: string): string => readFileSync(at(name), 'utf8');

/** Names of metrics in a text, without the endings of a histogram's series. */
const metricsIn = (text: string): string[] => [
  ...new Set([...text.matchAll(/\bjitpaxos_[a-z_]+/g)].map(([name]) => name.replace(/_(bucket|sum|count)$/, ''))),
];

interface AlertRule {
  readonly alert: string;
  readonly expr: string;
  readonly labels: { readonly severity: string };
  readonly annotations: { readonly summary: string };
}

function alertRules(): AlertRule[] {
  const { groups } = parse(read('deploy/alerts.yaml')) as { groups: { rules: AlertRule[] }[] };
  return groups.flatMap((group) => group.rules);
}

function dashboardExpressions(title?: string): string[] {
  const { panels } = JSON.parse(read('deploy/grafana-dashboard.json')) as {
    panels: { title: string; targets: { expr: string }[] }[];
  };
  return panels
    .filter((panel) => title === undefined || panel.title === title)
    .flatMap(({ targets }) => targets.map(({ expr }) => expr));
}

t.test('dashboard and alerts name metrics that exist', async (t) => {
  const cluster = await clusterConfig(1);
  const replicas = await startReplicas(cluster, () => new KvMachine());
  t.teardown(() => replicas[0]!.close());
  const client = await Client.connect({ cluster });
  t.teardown(() => client.close());
  const front = await RedisFrontEnd.start({ cluster, listen: '127.0.0.1:0' });
  t.teardown(() => front.close());
  const kinds = new Map(
    [...replicas[0]!.metrics(), ...client.metrics(), ...front.metrics()].map(({ name, kind }) => [name, kind]),
  );
  const known = new Set(kinds.keys());
  for (const file of ['deploy/alerts.yaml', 'deploy/grafana-dashboard.json']) {
    const named = metricsIn(read(file));
    t.ok(named.length > 5, `${file} names ${named.length} metrics`);
    t.same(
      named.filter((name) => !known.has(name)),
      [],
      file,
    );
  }
  // A gauge that falls to 0 at a restart and rises again looks to them as if all of it had been counted anew.
  for (const expression of [...alertRules().map(({ expr }) => expr), ...dashboardExpressions()]) {
    for (const [call, name] of [...expression.matchAll(/\b(?:rate|irate|increase)\((jitpaxos_[a-z_]+)/g)].map(
      (match) => [match[0], match[1]!] as const,
    )) {
      t.not(kinds.get(name.replace(/_(bucket|sum|count)$/, '')), 'gauge', `${call} …`);
    }
  }
});

t.test('the dashboard', (t) => {
  const { panels } = JSON.parse(read('deploy/grafana-dashboard.json')) as {
    panels: {
      id: number;
      title: string;
      description: string;
      gridPos: { x: number; y: number; w: number; h: number };
      targets: unknown[];
    }[];
  };
  t.equal(new Set(panels.map(({ id }) => id)).size, panels.length, 'ids differ');
  for (const {
    title,
    description,
    gridPos: { x, w },
    targets,
  } of panels)
    t.ok(description !== '' && targets.length > 0 && x + w <= 24, title);
  const cells = panels.flatMap(({ gridPos: { x, y, w, h } }) =>
    Array.from({ length: w * h }, (_, i) => `${x + (i % w)} ${y + Math.floor(i / w)}`),
  );
  t.equal(new Set(cells).size, cells.length, 'no panel lies on another');
  t.end();
});

t.test('every alert is explained, and nothing else is', (t) => {
  const rules = alertRules();
  const documented = [...read('docs/operate/operations.md').matchAll(/^\| `(JitPaxos\w+)` \|/gm)].map(
    (match) => match[1]!,
  );
  t.same(rules.map(({ alert }) => alert).sort(), documented.sort());
  t.ok(rules.every(({ expr, annotations }) => /job="jitpaxos(-redis)?"/.test(expr) && annotations.summary !== ''));
  t.end();
});

/** Series of three replicas over twenty minutes, a value every 15 s, in promtool's notation: by metric and labels. */
type SeriesMap = Readonly<Record<string, string>>;

const SAMPLES = 80;
const replicaSeries = (name: string, values: readonly [string, string, string], labels = ''): SeriesMap =>
  Object.fromEntries(values.map((each, id) => [`jitpaxos_${name}{job="jitpaxos",instance="r${id}"${labels}}`, each]));
const steady = (value: number): string => `${value}x${SAMPLES}`;
const all = (value: number): [string, string, string] => [steady(value), steady(value), steady(value)];
/** From 0 on, `perStep` more each 15 s. */
const growing = (perStep: number): string => `0+${perStep}x${SAMPLES}`;

/** Of one Redis front end. */
const redisSeries = (name: string, labels = ''): string =>
  `${name}{job="jitpaxos-redis",instance="f0"${labels === '' ? '' : `,${labels}`}}`;

/** Nothing is wrong: 100 operations a second, clocks within 20 µs. */
const HEALTHY: SeriesMap = {
  ...Object.fromEntries([0, 1, 2].map((id) => [`up{job="jitpaxos",instance="r${id}"}`, steady(1)])),
  ...replicaSeries('is_primary', [steady(1), steady(0), steady(0)]),
  ...replicaSeries('status', all(0), ',status="recovering"'),
  ...replicaSeries('status', all(0), ',status="majority-lost"'),
  ...replicaSeries('replicas_diverged', all(0), ',in="log"'),
  ...replicaSeries('replicas_diverged', all(0), ',in="state"'),
  ...replicaSeries('replicas_set_up_otherwise', all(0), ',in="chain"'),
  ...replicaSeries('replicas_set_up_otherwise', all(0), ',in="cluster_file"'),
  ...replicaSeries('view', all(3)),
  ...replicaSeries('epoch', all(2)),
  ...replicaSeries('epoch_decided', all(2)),
  ...replicaSeries('requests_total', [growing(1_500), growing(1_500), growing(0)]),
  ...replicaSeries('requests_rejected_total', [growing(1), growing(1), growing(0)], ',reason="late"'),
  ...replicaSeries('entries_committed_total', [growing(1_500), steady(0), steady(0)]),
  ...replicaSeries('log_committed_index', [`40000+1500x${SAMPLES}`, `40000+1500x${SAMPLES}`, `40000+1500x${SAMPLES}`]),
  ...replicaSeries('log_last_index', [`40000+1500x${SAMPLES}`, `40000+1500x${SAMPLES}`, `40000+1500x${SAMPLES}`]),
  ...replicaSeries('log_synced_index', [`40000+1500x${SAMPLES}`, `40000+1500x${SAMPLES}`, `40000+1500x${SAMPLES}`]),
  ...replicaSeries('clock_healthy', all(1)),
  ...replicaSeries('clock_error_bound_seconds', all(0.00002)),
  ...replicaSeries('clock_fallbacks_total', all(0)),
  ...replicaSeries('log_ahead_of_clock_seconds', all(0.0001)),
  ...replicaSeries('replica_clock_off', all(0), ',replica="2"'),
  ...replicaSeries('replica_clocks_divided', all(0)),
  ...replicaSeries('loop_stalls_total', all(0)),
  ...replicaSeries('datagrams_dropped_total', all(0), ',reason="key"'),
  [redisSeries('up')]: steady(1),
  [redisSeries('jitpaxos_redis_cluster_connected')]: steady(1),
  [redisSeries('jitpaxos_redis_commands_failed_total', 'word="indoubt"')]: steady(3),
  [redisSeries('jitpaxos_redis_commands_failed_total', 'word="tryagain"')]: steady(3),
  [redisSeries('jitpaxos_redis_connections_refused_total', 'reason="full"')]: steady(3),
  [redisSeries('jitpaxos_redis_connections_cut_total')]: steady(3),
  [redisSeries('jitpaxos_redis_logins_failed_total')]: growing(1),
};

/** A replica that restarts again and again, and is scraped before it has fetched the log. */
const RESTARTING = `${Array.from({ length: SAMPLES + 1 }, (_, i) => (i % 4 === 3 ? '0' : '44676')).join(' ')}`;
/** Nothing commits although requests arrive. */
const STUCK: SeriesMap = {
  ...replicaSeries('entries_committed_total', all(0)),
  ...replicaSeries('log_committed_index', all(44_676)),
  ...replicaSeries('log_last_index', all(44_676)),
  ...replicaSeries('log_synced_index', all(44_676)),
};

interface AlertCase {
  readonly what: string;
  readonly alert: string;
  /** In place of the healthy ones; undefined: that series is not there. */
  readonly series: Readonly<Record<string, string | undefined>>;
  /** Of the alerts that have to fire, beside severity and job. */
  readonly labels: readonly Readonly<Record<string, string>>[];
}

const F0 = { instance: 'f0', job: 'jitpaxos-redis' };
const R2 = { instance: 'r2', job: 'jitpaxos' };
const of = (
  name: string,
  id: number,
  value: string | undefined,
  labels = '',
): Readonly<Record<string, string | undefined>> => ({
  [`jitpaxos_${name}{job="jitpaxos",instance="r${id}"${labels}}`]: value,
});
const ALERT_CASES: readonly AlertCase[] = [
  {
    what: 'a replica is gone',
    alert: 'JitPaxosReplicaDown',
    series: { 'up{job="jitpaxos",instance="r2"}': steady(0) },
    labels: [R2],
  },
  { what: 'no primary', alert: 'JitPaxosNoPrimary', series: of('is_primary', 0, steady(0)), labels: [{}] },
  {
    what: 'logs of a majority lost',
    alert: 'JitPaxosMajorityLost',
    series: of('status', 2, steady(1), ',status="majority-lost"'),
    labels: [{}],
  },
  { what: 'nothing commits', alert: 'JitPaxosNoProgress', series: STUCK, labels: [{}] },
  {
    what: 'nothing commits, and a replica that restarts again and again does not hide it',
    alert: 'JitPaxosNoProgress',
    series: { ...STUCK, ...of('log_committed_index', 2, RESTARTING) },
    labels: [{}],
  },
  {
    what: 'no log to install',
    alert: 'JitPaxosRecovering',
    series: of('status', 2, steady(1), ',status="recovering"'),
    labels: [{ ...R2, status: 'recovering' }],
  },
  {
    what: 'states differ',
    alert: 'JitPaxosDiverged',
    series: of('replicas_diverged', 2, steady(1), ',in="state"'),
    labels: [{ in: 'state' }],
  },
  {
    what: 'another chain',
    alert: 'JitPaxosSetUpOtherwise',
    series: of('replicas_set_up_otherwise', 2, steady(2), ',in="chain"'),
    labels: [{ in: 'chain' }],
  },
  {
    what: 'another cluster file',
    alert: 'JitPaxosSetUpOtherwise',
    series: of('replicas_set_up_otherwise', 1, steady(1), ',in="cluster_file"'),
    labels: [{ in: 'cluster_file' }],
  },
  {
    what: 'a change of the members that waits',
    alert: 'JitPaxosChangeOpen',
    series: of('epoch_decided', 0, steady(3)),
    labels: [{}],
  },
  { what: 'views change', alert: 'JitPaxosViewChanges', series: of('view', 2, growing(1)), labels: [R2] },
  {
    what: 'much is rejected',
    alert: 'JitPaxosRejects',
    series: of('requests_rejected_total', 0, growing(600), ',reason="late"'),
    labels: [{ reason: 'late' }],
  },
  {
    what: 'a wide bound',
    alert: 'JitPaxosClockBound',
    series: of('clock_error_bound_seconds', 2, steady(0.0005)),
    labels: [R2],
  },
  {
    what: 'a clock that nobody keeps states no bound',
    alert: 'JitPaxosClockUnhealthy',
    series: { ...of('clock_healthy', 2, steady(0)), ...of('clock_error_bound_seconds', 2, undefined) },
    labels: [R2],
  },
  {
    what: 'a clock of unknown error',
    alert: 'JitPaxosClockErrorUnknown',
    series: of('clock_error_bound_seconds', 2, undefined),
    labels: [R2],
  },
  {
    what: 'a lost device',
    alert: 'JitPaxosClockLost',
    series: of('clock_fallbacks_total', 2, `0x50 1x${SAMPLES - 51}`),
    labels: [R2],
  },
  {
    what: 'a clock that is off',
    alert: 'JitPaxosReplicaClockOff',
    series: of('replica_clock_off', 0, steady(1), ',replica="2"'),
    labels: [{ replica: '2' }],
  },
  {
    what: 'clocks without a majority',
    alert: 'JitPaxosReplicaClocksDivided',
    series: of('replica_clocks_divided', 0, steady(1)),
    labels: [{}],
  },
  {
    what: 'a log from the future',
    alert: 'JitPaxosLogAhead',
    series: of('log_ahead_of_clock_seconds', 2, steady(3_540)),
    labels: [R2],
  },
  { what: 'stalls', alert: 'JitPaxosLoopStall', series: of('loop_stalls_total', 2, growing(15)), labels: [R2] },
  {
    what: 'foreign datagrams',
    alert: 'JitPaxosForeignDatagrams',
    series: of('datagrams_dropped_total', 2, growing(150), ',reason="key"'),
    labels: [{ instance: 'r2', reason: 'key' }],
  },
  {
    what: 'a front end is gone',
    alert: 'JitPaxosRedisDown',
    series: { [redisSeries('up')]: steady(0) },
    labels: [F0],
  },
  {
    what: 'a front end without a session',
    alert: 'JitPaxosRedisNotConnected',
    series: { [redisSeries('jitpaxos_redis_cluster_connected')]: steady(0) },
    labels: [F0],
  },
  {
    what: 'commands of unknown outcome',
    alert: 'JitPaxosRedisInDoubt',
    series: { [redisSeries('jitpaxos_redis_commands_failed_total', 'word="indoubt"')]: growing(1) },
    labels: [{ ...F0, word: 'indoubt' }],
  },
  {
    what: 'commands are turned away',
    alert: 'JitPaxosRedisTryAgain',
    series: { [redisSeries('jitpaxos_redis_commands_failed_total', 'word="tryagain"')]: growing(60) },
    labels: [{ ...F0, word: 'tryagain' }],
  },
  {
    what: 'too many connections',
    alert: 'JitPaxosRedisConnectionsRefused',
    series: { [redisSeries('jitpaxos_redis_connections_refused_total', 'reason="full"')]: growing(15) },
    labels: [{ ...F0, reason: 'full' }],
  },
  {
    what: 'clients that do not read',
    alert: 'JitPaxosRedisConnectionsCut',
    series: { [redisSeries('jitpaxos_redis_connections_cut_total')]: growing(1) },
    labels: [F0],
  },
  {
    what: 'passwords are tried',
    alert: 'JitPaxosRedisLoginsFailed',
    series: { [redisSeries('jitpaxos_redis_logins_failed_total')]: growing(15) },
    labels: [F0],
  },
];

/** At the end of the series, but for alerts that take longer than that. */
const ALERT_AT: Readonly<Record<string, string>> = { JitPaxosClockErrorUnknown: '65m' };

function promtoolTest(
  what: string,
  series: Readonly<Record<string, string | undefined>>,
  more: object,
  minutes = 20,
): object {
  // The last value stands for as long as the test asks.
  const lengthened = (values: string): string => (minutes > 20 ? values.replace(/x\d+$/, `x${minutes * 4}`) : values);
  const input = Object.entries({ ...HEALTHY, ...series }).flatMap(([name, values]) =>
    values === undefined ? [] : [{ series: name, values: lengthened(values) }],
  );
  return { name: what, interval: '15s', input_series: input, ...more };
}

const promtool = ['promtool', '/usr/bin/promtool'].find((command) => spawnSync(command, ['--version']).status === 0);
t.test(
  'alerts and expressions, by promtool',
  { skip: promtool === undefined ? 'promtool is not installed: apt-get install prometheus' : false },
  (t) => {
    const rules = alertRules();
    t.same(
      [...new Set(ALERT_CASES.map(({ alert }) => alert))].sort(),
      rules.map(({ alert }) => alert).sort(),
      'every alert has a case',
    );
    const quiet = rules.map(({ alert }) => ({ eval_time: '20m', alertname: alert, exp_alerts: [] }));
    const cases = ALERT_CASES.map(({ what, alert, series, labels }) => {
      const { labels: own, annotations } = rules.find((rule) => rule.alert === alert)!;
      const at = ALERT_AT[alert] ?? '20m';
      const expected = labels.map((each) => ({
        exp_labels: { ...own, ...each },
        exp_annotations: {
          summary: annotations.summary.replace(/\{\{ \$labels\.(\w+) \}\}/g, (_, label: string) => each[label] ?? ''),
        },
      }));
      return promtoolTest(
        what,
        series,
        { alert_rule_test: [{ eval_time: at, alertname: alert, exp_alerts: expected }] },
        parseInt(at, 10),
      );
    });
    const value = (expr: string, samples: readonly { labels: string; value: number }[]): object => ({
      expr: expr.replaceAll('$job', 'jitpaxos').replaceAll('$__rate_interval', '1m'),
      eval_time: '20m',
      exp_samples: samples,
    });
    const [commits] = dashboardExpressions('Commits');
    const [lag] = dashboardExpressions('Lag behind the newest log');
    const lagOf = (lags: readonly number[]): { labels: string; value: number }[] =>
      lags.map((each, id) => ({ labels: `{job="jitpaxos",instance="r${id}"}`, value: each }));
    const idle = { ...replicaSeries('requests_total', all(0)), ...STUCK, ...of('log_committed_index', 2, RESTARTING) };
    const panels = [
      promtoolTest(
        'the panel of commits under load',
        {},
        { promql_expr_test: [value(commits!, [{ labels: '{}', value: 100 }]), value(lag!, lagOf([0, 0, 0]))] },
      ),
      promtoolTest('an idle cluster commits nothing, whoever restarts', idle, {
        promql_expr_test: [value(commits!, [{ labels: '{}', value: 0 }])],
      }),
      promtoolTest(
        'a primary that changes is counted on',
        {
          ...of('entries_committed_total', 0, `0+1500x40 60000x${SAMPLES - 41}`),
          ...of('entries_committed_total', 1, `0x40 1500+1500x${SAMPLES - 41}`),
        },
        { promql_expr_test: [value(commits!, [{ labels: '{}', value: 100 }])] },
      ),
      promtoolTest('a spare that lags', of('log_synced_index', 2, `39000+1500x${SAMPLES}`), {
        promql_expr_test: [value(lag!, lagOf([0, 0, 1_000]))],
      }),
    ];
    const directory = mkdtempSync(join(tmpdir(), 'jitpaxos-promtool-'));
    t.teardown(() => rmSync(directory, { recursive: true, force: true }));
    // A change takes effect, and a replica that is down, or removed, still knows it as open.
    const done = promtoolTest(
      'a change that took effect',
      { ...of('epoch', 2, steady(1)), ...of('epoch_decided', 2, steady(2)) },
      { alert_rule_test: [{ eval_time: '20m', alertname: 'JitPaxosChangeOpen', exp_alerts: [] }] },
    );
    const tests = [promtoolTest('nothing is wrong', {}, { alert_rule_test: quiet }), done, ...cases, ...panels];
    for (const [what, content] of Object.entries({
      'as it is': tests,
      'a case that cannot pass': [
        promtoolTest(
          'nothing is wrong',
          {},
          {
            alert_rule_test: [
              {
                eval_time: '20m',
                alertname: 'JitPaxosReplicaDown',
                exp_alerts: [{ exp_labels: { severity: 'warning' } }],
              },
            ],
          },
        ),
      ],
    })) {
      const path = join(directory, 'tests.yaml');
      writeFileSync(
        path,
        stringify({ rule_files: [at('deploy/alerts.yaml')], evaluation_interval: '15s', tests: content }),
      );
      const { status, stdout, stderr } = spawnSync(promtool!, ['test', 'rules', path], { encoding: 'utf8' });
      if (what === 'as it is') t.equal(status, 0, `${stdout}${stderr}`);
      else t.not(status, 0, 'promtool would have said so');
    }
    const checked = spawnSync(promtool!, ['check', 'rules', at('deploy/alerts.yaml')], { encoding: 'utf8' });
    t.equal(checked.status, 0, checked.stdout + checked.stderr);
    t.end();
  },
);

t.test('variables are settings', (t) => {
  const known = new Set([...Object.keys(REPLICA_SETTINGS).map(variableOf), 'JITPAXOS_REQUIRE_NATIVE']);
  for (const file of ['deploy/jitpaxos@.service', 'deploy/Containerfile', 'deploy/kubernetes.yaml']) {
    const named = [...new Set([...read(file).matchAll(/JITPAXOS_[A-Z_]*[A-Z]/g)].map(([name]) => name))];
    t.ok(named.length > 1, file);
    t.same(
      named.filter((name) => !known.has(name)),
      [],
      file,
    );
  }
  t.end();
});

t.test('the Kubernetes objects', (t) => {
  const documents = parseAllDocuments(read('deploy/kubernetes.yaml'));
  t.same(
    documents.flatMap(({ errors }) => errors.map(String)),
    [],
  );
  interface Container {
    command: string[];
    image: string;
    volumeMounts: { name: string; mountPath: string }[];
    ports?: { name: string; hostPort?: number }[];
    startupProbe?: Probe;
    livenessProbe?: Probe;
    readinessProbe?: Probe;
    env?: { name: string; value?: string }[];
    securityContext?: object;
    resources?: { requests: Record<string, unknown>; limits: Record<string, unknown> };
  }
  interface Probe {
    httpGet: { host: string; path: string; port: number };
    periodSeconds: number;
    timeoutSeconds: number;
    failureThreshold: number;
  }
  const objects = documents.map(
    (document) =>
      document.toJS() as {
        apiVersion: string;
        kind: string;
        metadata: { name: string };
        data: Record<string, string>;
        spec: {
          serviceName: string;
          replicas: number;
          selector: { matchLabels: object };
          template: {
            metadata: { labels: object };
            spec: {
              hostNetwork: boolean;
              automountServiceAccountToken: boolean;
              securityContext: object;
              containers: Container[];
              initContainers: Container[];
              volumes: { name: string }[];
            };
          };
          volumeClaimTemplates: { metadata: { name: string } }[];
        };
      },
  );
  t.same(
    objects.map(({ apiVersion, kind }) => `${apiVersion} ${kind}`),
    ['v1 ConfigMap', 'v1 Service', 'policy/v1 PodDisruptionBudget', 'apps/v1 StatefulSet'],
  );
  const [map, service, , set] = objects;
  const cluster = loadCluster(JSON.parse(map!.data['cluster.json']!) as ClusterConfig);
  t.equal(set!.spec.replicas, cluster.replicas.length);
  t.ok(cluster.authentication, 'with keys, as `init` makes it');
  t.equal(set!.spec.serviceName, service!.metadata.name);
  t.same(set!.spec.selector.matchLabels, set!.spec.template.metadata.labels);
  const pod = set!.spec.template.spec;
  t.equal(pod.hostNetwork, true);
  const containers = [...pod.initContainers, ...pod.containers];
  const volumes = [
    ...pod.volumes.map(({ name }) => name),
    ...set!.spec.volumeClaimTemplates.map(({ metadata }) => metadata.name),
  ];
  t.same(
    [...new Set(containers.flatMap(({ volumeMounts }) => volumeMounts.map(({ name }) => name)))].sort(),
    volumes.sort(),
    'every volume is mounted, and every mount has its volume',
  );
  t.equal(new Set(containers.map(({ image }) => image)).size, 1, 'one image');
  const [replica] = pod.containers;
  const setting = (name: string): string | undefined => replica!.env!.find((each) => each.name === name)?.value;
  const { startupProbe, livenessProbe, readinessProbe } = replica!;
  // On loopback, so that nobody outside the node decides what the kubelet believes about a replica.
  const health = { host: '127.0.0.1', port: Number(setting('JITPAXOS_HEALTH')) };
  t.same(
    [startupProbe, livenessProbe, readinessProbe].map((probe) => probe!.httpGet),
    [
      { ...health, path: '/healthz' },
      { ...health, path: '/healthz' },
      { ...health, path: '/readyz' },
    ],
  );
  const patience = (probe: Probe): number => probe.periodSeconds * probe.failureThreshold;
  t.ok(patience(livenessProbe!) >= 180, 'slow replicas are not restarted, least of all a majority of them');
  t.ok(patience(startupProbe!) >= 900, 'nor is one that reads a long log');
  t.ok(replica!.ports!.some(({ name, hostPort }) => name === 'metrics' && hostPort === undefined));
  t.match(setting('JITPAXOS_METRICS'), /^\$\(NODE_IP\):\d+$/, 'metrics at one address');
  t.match(setting('JITPAXOS_DURABILITY'), /^(os|fsync)$/, 'a restart of all pods loses no log');
  t.same(replica!.resources!.requests, replica!.resources!.limits);

  t.equal(pod.automountServiceAccountToken, false);
  t.match(pod.securityContext, { runAsNonRoot: true, seccompProfile: { type: 'RuntimeDefault' } });
  for (const { securityContext } of containers)
    t.same(
      securityContext,
      { allowPrivilegeEscalation: false, readOnlyRootFilesystem: true, capabilities: { drop: ['ALL'] } },
      'no container is privileged',
    );
  t.notOk(
    pod.volumes.some((volume) => 'hostPath' in volume),
    'and none sees the node',
  );
  // What the image expects, and where the init container puts it.
  const expected = /JITPAXOS_CLUSTER=(\S+)\/cluster\.json/.exec(read('deploy/Containerfile'))![1];
  t.ok(replica!.volumeMounts.some(({ name, mountPath }) => name === 'settings' && mountPath === expected));
  t.same(pod.initContainers[0]!.command, [
    'install',
    '-m',
    '0600',
    '/from/cluster/cluster.json',
    '/from/keys/replica.keys',
    `${expected}/`,
  ]);
  t.end();
});

const systemd = spawnSync('systemd-analyze', ['--version'], { encoding: 'utf8' });
const systemdVersion = systemd.status === 0 ? Number(/^systemd (\d+)/.exec(systemd.stdout)?.[1]) : 0;
/** The first version of `systemd-analyze security --offline`. */
const OFFLINE_VERSION = 250;
/** The highest exposure of the unit, in tenths; it is 19 with systemd 252, whose default for a service is 96. */
const EXPOSURE_MAX = 25;
const UNITS = ['jitpaxos@.service', 'jitpaxos-redis.service'];
t.test(
  'the units pass systemd-analyze verify',
  { skip: systemdVersion > 0 ? false : 'systemd-analyze is not installed: apt-get install systemd' },
  (t) => {
    for (const unit of UNITS) {
      const { status, stderr } = spawnSync('systemd-analyze', ['verify', at(`deploy/${unit}`)], { encoding: 'utf8' });
      t.equal(status, 0, stderr);
      t.notMatch(stderr, /jitpaxos/, `without a word about ${unit}`);
    }
    t.end();
  },
);

t.test(
  'the units are confined, by systemd-analyze security',
  {
    skip:
      systemdVersion >= OFFLINE_VERSION
        ? false
        : `systemd-analyze ${OFFLINE_VERSION} or later is not installed: apt-get install systemd`,
  },
  (t) => {
    for (const unit of UNITS) {
      const { status, stdout, stderr } = spawnSync(
        'systemd-analyze',
        ['security', '--offline=true', `--threshold=${EXPOSURE_MAX}`, at(`deploy/${unit}`)],
        { encoding: 'utf8' },
      );
      t.equal(status, 0, `${stdout}${stderr}`);
      t.match(stdout, /Overall exposure level/);
    }
    t.end();
  },
);

t.test('the Redis front end as a unit and in Kubernetes', async (t) => {
  const { shape } = (await import('../src/cli/redis.js')).redis;
  const documents = parseAllDocuments(read('deploy/kubernetes-redis.yaml'));
  t.same(
    documents.flatMap(({ errors }) => errors.map(String)),
    [],
  );
  interface Container {
    image: string;
    command: string[];
    ports: { name: string; containerPort: number }[];
    volumeMounts: { name: string }[];
    securityContext: object;
  }
  const [service, budget, deployment] = documents.map(
    (document) =>
      document.toJS() as {
        kind: string;
        spec: {
          selector: { matchLabels: object };
          ports: { port: number }[];
          template: {
            metadata: { labels: object; annotations: Record<string, string> };
            spec: {
              containers: Container[];
              initContainers: Container[];
              volumes: { name: string; configMap?: { name: string } }[];
            };
          };
        };
      },
  );
  const { template, selector } = deployment!.spec;
  const pod = template.spec;
  t.same(selector.matchLabels, template.metadata.labels);
  t.same(service!.spec.selector, template.metadata.labels);
  t.same(budget!.spec.selector.matchLabels, template.metadata.labels);
  const containers = [...pod.initContainers, ...pod.containers];
  t.same(
    [...new Set(containers.flatMap(({ volumeMounts }) => volumeMounts.map(({ name }) => name)))].sort(),
    pod.volumes.map(({ name }) => name).sort(),
    'every volume is mounted, and every mount has its volume',
  );
  for (const { image, securityContext } of containers) {
    t.equal(image, containers[0]!.image);
    t.match(securityContext, { allowPrivilegeEscalation: false, readOnlyRootFilesystem: true });
  }
  const ports = new Map(pod.containers[0]!.ports.map(({ name, containerPort }) => [name, containerPort]));
  const script = pod.containers[0]!.command[2]!;
  t.match(script, `--listen 0.0.0.0:${ports.get('redis')}`);
  t.match(script, `--metrics 0.0.0.0:${ports.get('metrics')}`);
  t.equal(template.metadata.annotations['prometheus.io/port'], String(ports.get('metrics')));
  t.equal(service!.spec.ports[0]!.port, ports.get('redis'));
  const map = parseAllDocuments(read('deploy/kubernetes.yaml'))[0]!.toJS() as { metadata: { name: string } };
  t.equal(pod.volumes.find(({ configMap }) => configMap !== undefined)!.configMap!.name, map.metadata.name);
  for (const text of [script, read('deploy/jitpaxos-redis.service')]) {
    const flags = [...text.matchAll(/ --([a-z-]+)/g)].map(([, name]) => name!).filter((name) => !SYSTEM.has(name));
    t.ok(flags.length > 3, text);
    t.same(
      flags.filter((name) => !(name in shape.flags)),
      [],
      'every flag exists',
    );
  }
});
/** Flags of other commands in the comments of a unit. */
const SYSTEM = new Set(['now', 'system', 'user-group', 'out']);

t.test('the unit lets a replica do what it does', (t) => {
  const unit = read('deploy/jitpaxos@.service');
  const all = (key: string): string[] =>
    [...unit.matchAll(new RegExp(`^${key}=(.*)$`, 'gm'))].map((match) => match[1]!);
  t.same(all('DeviceAllow'), ['char-ptp r'], 'it reads PTP clocks');
  t.same(all('SystemCallErrorNumber'), ['EPERM'], 'Node survives a call that is refused (pkey_alloc)');
  t.match(all('SystemCallFilter').at(-1), /\badjtimex clock_adjtime\b/, 'it asks the kernel about its clock');
  t.same(all('ProtectClock'), ['no'], 'which this would forbid');
  t.same(all('MemoryDenyWriteExecute'), [], 'and this forbids a JIT compiler');
  t.end();
});

t.test('the Kubernetes job of a load', async (t) => {
  const documents = parseAllDocuments(read('deploy/kubernetes-load.yaml'));
  t.same(
    documents.flatMap(({ errors }) => errors.map(String)),
    [],
  );
  interface Container {
    image: string;
    command: string[];
    volumeMounts: { name: string }[];
    securityContext: object;
  }
  const [service, job] = documents.map(
    (document) =>
      document.toJS() as {
        kind: string;
        metadata: { name: string };
        spec: {
          selector: object;
          completionMode: string;
          completions: number;
          parallelism: number;
          template: {
            metadata: { labels: object };
            spec: {
              subdomain: string;
              containers: Container[];
              initContainers: Container[];
              volumes: { name: string; configMap?: { name: string } }[];
            };
          };
        };
      },
  );
  const { spec } = job!;
  const pod = spec.template.spec;
  t.equal(`${service!.kind} ${job!.kind} ${spec.completionMode}`, 'Service Job Indexed');
  t.same(service!.spec.selector, spec.template.metadata.labels);
  t.equal(pod.subdomain, service!.metadata.name);
  const containers = [...pod.initContainers, ...pod.containers];
  t.same(
    [...new Set(containers.flatMap(({ volumeMounts }) => volumeMounts.map(({ name }) => name)))].sort(),
    pod.volumes.map(({ name }) => name).sort(),
    'every volume is mounted, and every mount has its volume',
  );
  const map = parseAllDocuments(read('deploy/kubernetes.yaml'))[0]!.toJS() as { metadata: { name: string } };
  t.equal(pod.volumes.find(({ configMap }) => configMap !== undefined)!.configMap!.name, map.metadata.name);
  for (const { image, securityContext } of containers) {
    t.equal(image, containers[0]!.image);
    t.match(securityContext, { allowPrivilegeEscalation: false, readOnlyRootFilesystem: true });
  }
  // All pods at once, one of them the coordinator, and as many agents as it names.
  const script = pod.containers[0]!.command[2]!;
  t.equal(spec.parallelism, spec.completions);
  t.same(
    [.../--agents (\S+)/.exec(script)![1]!.split(',')],
    Array.from({ length: spec.completions - 1 }, (_, i) => `${job!.metadata.name}-${i + 1}.${pod.subdomain}:7500`),
  );
  // Every flag in it exists.
  for (const [text, command] of [
    [/bench agent [^\n]*/.exec(script)![0], (await import('../src/cli/bench/agent.js')).benchAgent],
    [/bench load [^]*/.exec(script)![0], (await import('../src/cli/bench/load.js')).benchLoad],
  ] as const) {
    const flags = [...text.matchAll(/ --([a-z-]+)/g)].map(([, name]) => name!);
    t.ok(flags.length > 3, text);
    t.same(
      flags.filter((name) => !(name in command.shape.flags)),
      [],
      text,
    );
  }
});
