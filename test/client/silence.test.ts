// What silence is said to mean: nobody listens, or somebody does and drops what comes.
import { randomBytes } from 'node:crypto';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { Client } from '../../src/client/client.js';
import { Diagnosis } from '../../src/client/diagnosis.js';
import { KvClient } from '../../src/client/kv-client.js';
import { StatusClient } from '../../src/client/status-client.js';
import type { JitPaxosError } from '../../src/errors.js';
import { KvMachine } from '../../src/machine/kv.js';
import { native } from '../../src/native/addon.js';
import type { KeyEntry, KeyFile } from '../../src/host/key-file.js';
import { silentLogger } from '../../src/host/logger.js';
import { Replica } from '../../src/server/replica.js';
import { explainSilence } from '../../src/transport/silence.js';
import { TransportCounter } from '../../src/transport/transport.js';
import { jitpaxos } from '../cluster/processes.js';
import { clusterConfig } from '../server/fixtures.js';

const withoutNative = native.available ? false : native.reason;

t.test('causes that can be told apart are', (t) => {
  const base = { silent: [0, 1, 2], refused: [], tells: true, key: 7, dropped: {} };
  t.match(
    explainSilence({ ...base, refused: [0, 1, 2] }),
    /^nothing listens at the address of replicas 0, 1, 2 \(the host says so\): start them there$/,
  );
  t.match(
    explainSilence(base),
    /^no host says that nothing listens at replicas 0, 1, 2 \(ICMP is silent\)[^]*compare key 7/,
  );
  t.match(
    explainSilence({ ...base, refused: [1] }),
    /nothing listens at the address of replica 1 [^]*; no host says that nothing listens at replicas 0, 2/,
  );
  t.match(
    explainSilence({ ...base, tells: false }),
    /^a replica that cannot authenticate a datagram does not answer it: compare key 7[^]*else see whether replicas 0, 1, 2 run/,
  );
  t.notMatch(explainSilence({ ...base, key: undefined }), /key/);
  t.match(
    explainSilence({ ...base, dropped: { checksum: 3 } }),
    /3 datagrams that came were refused here \(checksum\)/,
  );
  t.end();
});

t.test('hosts that were heard and are all silent since', (t) => {
  let heard = 3;
  const counters = {
    get [TransportCounter.datagrams_received]() {
      return heard;
    },
  };
  const loop = {
    transport: { counters },
    silence: (silent: readonly number[], sinceUs: number) => {
      since.push(sinceUs);
      return { silent, refused: [], tells: false, key: undefined, dropped: {} };
    },
  };
  const since: number[] = [];
  const members = {
    hosts: [4, 5].map((id) => ({ id, slot: id - 4 })),
    tried: () => ({ isFile: false, hosts: ['4 at d:1', '5 at e:1'], others: ['a:1', 'b:1'] }),
  };
  const diagnosis = new Diagnosis({} as never, loop as never, {} as never, members as never, silentLogger);
  diagnosis.look(1e6);
  t.match(
    diagnosis.allSilent(2e6, 3, 2.5e6),
    /^no replica has said anything meanwhile: .*whether replicas 4, 5 run.*This client tried the members that it was told of, 4 at d:1, 5 at e:1, and asked for newer members at a:1, b:1\./,
  );
  heard = 4;
  t.equal(diagnosis.allSilent(2e6, 3, 3e6), undefined, 'one was heard just now');
  t.equal(diagnosis.allSilent(2e6, 3, 3.9e6), undefined, 'a moment ago');
  t.match(diagnosis.allSilent(2e6, 3, 5.1e6), /^no replica has said anything for 2 s: /);
  t.equal(since.at(-1), 3e6);
  heard = 5;
  t.equal(diagnosis.allSilent(2e6, -1, 9e6), undefined, 'what nobody has looked at may be new');
  for (let us = 9e6; us <= 60e6; us += 250_000) diagnosis.look(us);
  t.equal(diagnosis.allSilent(60e6, -1, 60.1e6), undefined, 'nobody was asked anything before');
  t.equal(diagnosis.allSilent(60e6, 4, 60.9e6), undefined, 'nor long ago');
  t.match(diagnosis.allSilent(60e6, -1, 61e6), /^no replica has said anything for 1 s: /);
  t.equal(since.at(-1), 60e6);
  t.end();
});

t.test('a client with a wrong key, one whose key is removed, and a cluster that is not there', async (t) => {
  const directory = mkdtempSync(join(tmpdir(), 'jitpaxos-silence-'));
  t.teardown(() => rmSync(directory, { recursive: true, force: true }));
  const cluster = { ...(await clusterConfig(3)), authentication: 'keys' as const };
  const file = join(directory, 'cluster.json');
  writeFileSync(file, JSON.stringify(cluster));
  const secret = (): string => randomBytes(32).toString('hex');
  const replicaKey: KeyEntry = { id: 1, role: 'replica', secret: secret() };
  const clientKey: KeyEntry = { id: 22, role: 'client', secret: secret() };
  const keysOf = (use: number, ...keys: KeyEntry[]): KeyFile => ({
    schema: 'jitpaxos.keys/1',
    cluster: cluster.id,
    use,
    keys,
  });
  const write = (name: string, keys: KeyFile): string => {
    writeFileSync(join(directory, name), JSON.stringify(keys), { mode: 0o600 });
    return join(directory, name);
  };
  const replicaKeys = write('replica.keys', keysOf(1, replicaKey, clientKey));
  write('client.keys', keysOf(22, clientKey));
  const replicas = await Promise.all(
    cluster.replicas.map((_, id) =>
      Replica.start({ cluster: file, id, machine: new KvMachine(), logger: silentLogger }),
    ),
  );
  let running = true;
  t.teardown(() => (running ? Promise.all(replicas.map((replica) => replica.close())) : undefined));

  const wrong = keysOf(22, { ...clientKey, secret: secret() });
  const there = native.available ? /ICMP is silent[^]*compare key 22/ : /compare key 22/;
  await t.rejects(Client.connect({ cluster: file, keys: wrong, connectTimeout: 300, logger: silentLogger }), {
    code: 'cluster-unavailable',
    message: there,
  });
  await using status = await StatusClient.open({ cluster: file, keys: wrong });
  t.match(await status.ask(300), [{ report: undefined, silence: there }, { silence: there }, { silence: there }]);
  const wrongFile = write('wrong.keys', wrong);
  const doctor = await jitpaxos(['doctor', '--cluster', file, '--timeout', '500ms', '--json']);
  const findings = (JSON.parse(doctor.stdout) as { findings: { check: string; level: string; found: string }[] })
    .findings;
  t.match(
    findings.find(({ check }) => check === 'keys'),
    { level: 'ok', found: /key 22, role client, which .*replica\.keys has too/ },
  );
  t.match(
    findings.find(({ check }) => check === 'refused datagrams'),
    { level: 'warn', found: /replica 0: \d+ since its start/ },
    'what was sent under the wrong secret is counted',
  );
  const seen = await jitpaxos([
    'status',
    '--cluster',
    file,
    '--key-file',
    wrongFile,
    '--timeout',
    '300ms',
    '--interval',
    '0s',
  ]);
  t.equal(seen.code, 4, 'nobody answers this client, and the cluster may be well');
  t.match(seen.stdout, /unknown {3}0 of \d replicas answer/);
  t.match(seen.stdout, /replicas 0 [^]*do not answer: [^]*key 22/);

  await using client = await Client.connect({
    cluster: file,
    timeout: 20_000,
    connectTimeout: 20_000,
    logger: silentLogger,
  });
  const kv = new KvClient(client);
  await kv.put('a', 'b');
  write('replica.keys', keysOf(1, replicaKey));
  t.equal(replicaKeys, join(directory, 'replica.keys'));
  for (const replica of replicas) replica.reloadKeys();
  const error = await kv.put('a', 'c', { timeout: 300 }).then(
    () => undefined,
    (thrown: unknown) => thrown as JitPaxosError,
  );
  t.match(error, { code: 'outcome-unknown', message: there }, 'a running client hears of its key, too');
  t.match(error?.cause, { code: 'replicas-silent', message: there });
  const removed = await jitpaxos(['doctor', '--cluster', file, '--timeout', '100ms']);
  t.match(removed.stdout, /\[FAIL\] keys +[^]*client\.keys uses key 22, which [^]*replica\.keys does not have/);

  running = false;
  await Promise.all(replicas.map((replica) => replica.close()));
  await t.test('nobody is there', { skip: withoutNative }, async (t) => {
    await t.rejects(Client.connect({ cluster: file, connectTimeout: 500, logger: silentLogger }), {
      code: 'cluster-unavailable',
      message: /nothing listens at the address of replicas 0, 1, 2/,
    });
  });
});
