// The files of deploy/: they parse, and name only settings, metrics and alerts that exist.
import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import t from 'tap';
import { parse, parseAllDocuments } from 'yaml';
import { REPLICA_SETTINGS } from '../src/cli/config.js';
import { variableOf } from '../src/cli/settings.js';
import { Client } from '../src/client/client.js';
import { KvMachine } from '../src/machine/kv.js';
import { loadCluster, type ClusterConfig } from '../src/server/cluster-config.js';
import { clusterConfig, startReplicas } from './server/fixtures.js';

const at = (name: string): string => fileURLToPath(new URL(`../../${name}`, import.meta.url));
const read = (name: string): string => readFileSync(at(name), 'utf8');

/** Names of metrics in a text, without the endings of a histogram's series. */
const metricsIn = (text: string): string[] => [...new Set([...text.matchAll(/\bjitpaxos_[a-z_]+/g)].map(([name]) => name.replace(/_(bucket|sum|count)$/, '')))];

t.test('dashboard and alerts name metrics that exist', async (t) => {
  const cluster = await clusterConfig(1);
  const replicas = await startReplicas(cluster, () => new KvMachine());
  t.teardown(() => replicas[0]!.close());
  const client = await Client.connect({ cluster });
  t.teardown(() => client.close());
  const known = new Set([...replicas[0]!.metrics(), ...client.metrics()].map(({ name }) => name));
  for (const file of ['deploy/alerts.yaml', 'deploy/grafana-dashboard.json']) {
    const named = metricsIn(read(file));
    t.ok(named.length > 5, `${file} names ${named.length} metrics`);
    t.same(named.filter((name) => !known.has(name)), [], file);
  }
});

t.test('the dashboard', (t) => {
  const { panels } = JSON.parse(read('deploy/grafana-dashboard.json')) as { panels: { id: number; title: string; description: string; gridPos: { x: number; y: number; w: number; h: number }; targets: unknown[] }[] };
  t.equal(new Set(panels.map(({ id }) => id)).size, panels.length, 'ids differ');
  for (const { title, description, gridPos: { x, w }, targets } of panels) t.ok(description !== '' && targets.length > 0 && x + w <= 24, title);
  const cells = panels.flatMap(({ gridPos: { x, y, w, h } }) => Array.from({ length: w * h }, (_, i) => `${x + (i % w)} ${y + Math.floor(i / w)}`));
  t.equal(new Set(cells).size, cells.length, 'no panel lies on another');
  t.end();
});

t.test('every alert is explained, and nothing else is', (t) => {
  const { groups } = parse(read('deploy/alerts.yaml')) as { groups: { rules: { alert: string; expr: string; annotations: { summary: string } }[] }[] };
  const rules = groups.flatMap((group) => group.rules);
  const documented = [...read('docs/operations.md').matchAll(/^\| `(JitPaxos\w+)` \|/gm)].map((match) => match[1]!);
  t.same(rules.map(({ alert }) => alert).sort(), documented.sort());
  t.ok(rules.every(({ expr, annotations }) => expr.includes('job="jitpaxos"') && annotations.summary !== ''));
  t.end();
});

t.test('variables are settings', (t) => {
  const known = new Set([...Object.keys(REPLICA_SETTINGS).map(variableOf), 'JITPAXOS_REQUIRE_NATIVE']);
  for (const file of ['deploy/jitpaxos@.service', 'deploy/Containerfile', 'deploy/kubernetes.yaml']) {
    const named = [...new Set([...read(file).matchAll(/JITPAXOS_[A-Z_]*[A-Z]/g)].map(([name]) => name))];
    t.ok(named.length > 1, file);
    t.same(named.filter((name) => !known.has(name)), [], file);
  }
  t.end();
});

t.test('the Kubernetes objects', (t) => {
  const documents = parseAllDocuments(read('deploy/kubernetes.yaml'));
  t.same(documents.flatMap(({ errors }) => errors.map(String)), []);
  interface Container { command: string[]; image: string; volumeMounts: { name: string; mountPath: string }[]; ports?: { name: string }[]; livenessProbe?: Probe; readinessProbe?: Probe; env?: { name: string }[] }
  interface Probe { httpGet: { path: string; port: string } }
  const objects = documents.map((document) => document.toJS() as { apiVersion: string; kind: string; metadata: { name: string }; data: Record<string, string>; spec: { serviceName: string; replicas: number; selector: { matchLabels: object }; template: { metadata: { labels: object }; spec: { hostNetwork: boolean; containers: Container[]; initContainers: Container[]; volumes: { name: string }[] } }; volumeClaimTemplates: { metadata: { name: string } }[] } });
  t.same(objects.map(({ apiVersion, kind }) => `${apiVersion} ${kind}`), ['v1 ConfigMap', 'v1 Service', 'policy/v1 PodDisruptionBudget', 'apps/v1 StatefulSet']);
  const [map, service, , set] = objects;
  const cluster = loadCluster(JSON.parse(map!.data['cluster.json']!) as ClusterConfig);
  t.equal(set!.spec.replicas, cluster.replicas.length);
  t.ok(cluster.authentication, 'with keys, as `init` makes it');
  t.equal(set!.spec.serviceName, service!.metadata.name);
  t.same(set!.spec.selector.matchLabels, set!.spec.template.metadata.labels);
  const pod = set!.spec.template.spec;
  t.equal(pod.hostNetwork, true);
  const containers = [...pod.initContainers, ...pod.containers];
  const volumes = [...pod.volumes.map(({ name }) => name), ...set!.spec.volumeClaimTemplates.map(({ metadata }) => metadata.name)];
  t.same([...new Set(containers.flatMap(({ volumeMounts }) => volumeMounts.map(({ name }) => name)))].sort(), volumes.sort(), 'every volume is mounted, and every mount has its volume');
  t.equal(new Set(containers.map(({ image }) => image)).size, 1, 'one image');
  const [replica] = pod.containers;
  t.same([replica!.livenessProbe, replica!.readinessProbe].map((probe) => probe!.httpGet), [{ path: '/healthz', port: 'metrics' }, { path: '/readyz', port: 'metrics' }]);
  t.ok(replica!.ports!.some(({ name }) => name === 'metrics') && replica!.env!.some(({ name }) => name === 'JITPAXOS_METRICS'), 'which are served');
  // What the image expects, and where the init container puts it.
  const expected = /JITPAXOS_CLUSTER=(\S+)\/cluster\.json/.exec(read('deploy/Containerfile'))![1];
  t.ok(replica!.volumeMounts.some(({ name, mountPath }) => name === 'settings' && mountPath === expected));
  t.same(pod.initContainers[0]!.command, ['install', '-m', '0600', '/from/cluster/cluster.json', '/from/keys/replica.keys', `${expected}/`]);
  t.end();
});

const systemd = spawnSync('systemd-analyze', ['--version']).status === 0;
t.test('the unit passes systemd-analyze verify', { skip: systemd ? false : 'systemd-analyze is not installed' }, (t) => {
  const { status, stderr } = spawnSync('systemd-analyze', ['verify', at('deploy/jitpaxos@.service')], { encoding: 'utf8' });
  t.equal(status, 0, stderr);
  t.notMatch(stderr, /jitpaxos@/, 'without a word about this unit');
  t.end();
});
