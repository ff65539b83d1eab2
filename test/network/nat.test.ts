// A client behind a translator of addresses that forgets its ports again and again, and over a path that loses, delays
// and reorders: every operation has a certain outcome, and a watch goes on.
import { once } from 'node:events';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import t, { type Test } from 'tap';
import { loadCluster } from '../../src/host/cluster-config.js';
import { FIRST_FEATURES } from '../../src/protocol/log/features.js';
import { gatewayOf, HostedCluster, Network, runOn } from './hosts.js';
import { insideNamespaces } from './inside.js';
import type { NatCounts, NatSettings } from './nat-program.js';
import { MAIN } from '../cluster/processes.js';

const PROGRAM = fileURLToPath(new URL('nat-program.js', import.meta.url));
const PORT = 7_500;
/** Ten for each operation, also where many of them are forgotten. A client that sent as fast as it may would send more. */
const THERE_MAX = 6_000;
const SEED = Number(process.env['SEED'] ?? Math.floor(Math.random() * 2 ** 31));

interface Nat {
  /** The cluster file of a client behind it. */
  readonly file: string;
  /** All of its ports are others from now on. */
  readonly forget: () => void;
  /** Ends it, and returns what it counted. */
  readonly end: () => Promise<NatCounts>;
}

/** Puts client-1 behind one, on its router. */
async function behindNat(
  t: Test,
  network: Network,
  cluster: HostedCluster,
  how: Pick<NatSettings, 'loss' | 'delayMs' | 'forgetAfter'>,
): Promise<Nat> {
  const host = gatewayOf('client-1');
  const { replicas } = loadCluster(cluster.file);
  const settings: NatSettings = { host, port: PORT, replicas, seed: SEED, ...how };
  const child = network.right.spawn([process.execPath, PROGRAM, JSON.stringify(settings)], {
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  t.teardown(() => child.kill('SIGKILL'));
  const lines = createInterface({ input: child.stdout! })[Symbol.asyncIterator]();
  t.equal((await lines.next()).value, 'ready');
  const file = join(cluster.directory, 'behind-nat.json');
  writeFileSync(
    file,
    JSON.stringify({ ...cluster.config, replicas: replicas.map((_, replica) => `${host}:${PORT + replica}`) }),
  );
  return {
    file,
    forget: () => void child.kill('SIGUSR2'),
    end: async () => {
      child.stdin!.end();
      return JSON.parse((await lines.next()).value as string) as NatCounts;
    },
  };
}

if (await insideNamespaces(t)) {
  t.comment(`SEED=${SEED} replays the losses, though not the order of the processes`);
  const network = new Network();
  const client = network.host('client-1');
  // Only through the translator.
  client.ip('route del default');
  const cluster = await HostedCluster.start(t, network, { features: [...FIRST_FEATURES, 'store'] });
  const keys = ['--key-file', join(cluster.directory, 'client.keys')];
  for (const [what, how] of [
    ['it forgets its ports', { isForgetful: true, loss: 0, delayMs: 0, forgetAfter: 0 }],
    ['it forgets its ports every 60 datagrams', { isForgetful: true, loss: 0, delayMs: 0, forgetAfter: 60 }],
    ['a long path that loses and reorders', { isForgetful: false, loss: 0.03, delayMs: 5, forgetAfter: 0 }],
  ] as const)
    await t.test(what, async (t) => {
      const { isForgetful, ...settings } = how;
      const nat = await behindNat(t, network, cluster, settings);
      const command = (...args: readonly string[]): string[] => [
        process.execPath,
        MAIN,
        ...args,
        '--cluster',
        nat.file,
        ...keys,
      ];
      const watch = client.spawn(command('kv', 'watch', 'news/', '--count', '3', '--values', '--timeout', '60s'), {
        stdio: ['ignore', 'pipe', 'inherit'],
      });
      const changes: string[] = [];
      const watched = createInterface({ input: watch.stdout! }).on('line', (line) => {
        changes.push(line);
        if (isForgetful) nat.forget();
      });
      const load = [
        'bench',
        'latency',
        '--machine',
        'kv',
        '--keys',
        '50',
        '--lanes',
        '8',
        '--json',
        '--timeout',
        '60s',
      ];
      const measured = runOn(client, command(...load, '--ops', '600'));
      // A watch is told only of changes from its beginning on.
      for (let i = 0; changes.length < 3; i++) {
        await cluster.run('client-0', 'kv', 'put', 'news/today', String(i));
        if (watch.exitCode !== null) break;
      }
      if (watch.exitCode === null) await once(watch, 'exit');
      watched.close();
      t.equal(watch.exitCode, 0);
      t.equal(changes.length, 3, changes.join('\n'));
      const { code, stdout, stderr } = await measured;
      t.equal(code, 0, stderr);
      t.match(JSON.parse(stdout), { operations: 600 });
      const counts = await nat.end();
      t.comment(JSON.stringify(counts));
      t.ok(!isForgetful || counts.forgotten > 0, `its ports were forgotten ${counts.forgotten} times`);
      t.ok(counts.there < THERE_MAX, `${counts.there} datagrams, and ${counts.back} answers`);
      t.ok(how.loss === 0 || counts.lost > 0, `${counts.lost} datagrams were lost`);
    });
}
