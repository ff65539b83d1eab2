// "encryption": "required" in the cluster file: what is refused, and in which version a process then reads and writes.
import t from 'tap';
import { loadCluster, type ClusterConfig } from '../../src/host/cluster-config.js';
import type { KeyEntry, KeyFile } from '../../src/host/key-file.js';
import { Keyring } from '../../src/host/keyring.js';
import { silentLogger } from '../../src/host/logger.js';
import { KvMachine } from '../../src/machine/kv.js';
import { loadHash } from '../../src/native/hash64.js';
import { Client } from '../../src/client/client.js';
import { Replica } from '../../src/server/replica.js';
import { CLIENT_SENDER, DROP_REASON_NAMES, ENCRYPTED_VERSION, Envelope } from '../../src/wire/envelope.js';
import { Peers } from '../../src/wire/peers.js';
import { PREVIOUS_WIRE_VERSION } from '../../src/wire/versions.js';
import { clusterConfig } from '../server/fixtures.js';

const entry = (id: number, role: KeyEntry['role']): KeyEntry => ({ id, role, secret: String(id).repeat(64) });
const keysOf = (cluster: string, use: number): KeyFile => ({
  schema: 'jitpaxos.keys/1',
  cluster,
  use,
  keys: use === 1 ? [entry(1, 'replica'), entry(2, 'client')] : [entry(2, 'client')],
});

t.test('the cluster file', async (t) => {
  const plain = await clusterConfig(1);
  const keyed: ClusterConfig = { ...plain, authentication: 'keys' };
  t.equal(loadCluster(keyed).encryption, 'preferred', 'the default: a cluster that was set up before');
  t.equal(loadCluster({ ...keyed, encryption: 'required' }).encryption, 'required');
  t.equal(loadCluster({ ...plain, encryption: 'preferred' }).encryption, 'preferred');
  t.throws(() => loadCluster({ ...plain, encryption: 'required' }), {
    code: 'cluster-file-invalid',
    message: /"encryption" is "required", and "authentication" is "none"; encryption needs keys/,
  });
  t.throws(() => loadCluster({ ...keyed, encryption: 'always' } as unknown as ClusterConfig), {
    code: 'cluster-file-invalid',
    message: /"encryption" is "always"; it has to be one of preferred, required/,
  });
});

t.test('a process that may not speak an encrypted version is refused, with what to do', async (t) => {
  const cluster: ClusterConfig = {
    ...(await clusterConfig(1)),
    authentication: 'keys',
    encryption: 'required',
  };
  const refused = {
    code: 'option-invalid',
    message:
      /"encryption": "required", and this process speaks wire version \d at most, which does not encrypt; .*every process/,
  };
  const common = { cluster, wireVersion: PREVIOUS_WIRE_VERSION, logger: silentLogger };
  await t.rejects(
    Replica.start({ ...common, keys: keysOf(cluster.id, 1), id: 0, machine: new KvMachine() }),
    refused,
    'a replica',
  );
  await t.rejects(Client.connect({ ...common, keys: keysOf(cluster.id, 2) }), refused, 'a client');
});

t.test('nothing older is read or written', (t) => {
  const cluster = '00000001000000ff';
  const ring = new Keyring(keysOf(cluster, 1), true);
  t.teardown(() => ring.close());
  const hash = loadHash();
  const envelopeOf = (sender: number, oldest?: number): Envelope =>
    new Envelope(hash, 1, 255, sender, 3, ring, ENCRYPTED_VERSION, oldest);
  const open = (version: number, oldest?: number): string => {
    const from = envelopeOf(1);
    const bytes = new Uint8Array(from.bytesIn(version));
    t.ok(from.seal(bytes, 0, bytes.length, ring.own, version));
    const code = envelopeOf(0, oldest).open(bytes, 0, bytes.length);
    return code < 0 ? DROP_REASON_NAMES[-code]! : 'taken';
  };
  t.equal(open(ENCRYPTED_VERSION - 1), 'taken');
  t.equal(open(ENCRYPTED_VERSION - 1, ENCRYPTED_VERSION), 'version');
  t.equal(open(ENCRYPTED_VERSION, ENCRYPTED_VERSION), 'taken');

  const now = { monotonicUs: 5e6 };
  const peersOf = (self: number): Peers =>
    new Peers({
      self,
      replicas: 3,
      endpoints: 4,
      newest: ENCRYPTED_VERSION,
      oldest: ENCRYPTED_VERSION,
      now,
      numbers: loadHash(),
    });
  const client = peersOf(CLIENT_SENDER);
  t.equal(client.versionFor(1), ENCRYPTED_VERSION, 'also to a replica that was never heard');
  t.ok(client.helloDue(1), 'it says hello all the same: the answer holds the challenge for its address');
  t.notOk(client.helloDue(1), 'not with every datagram');
  now.monotonicUs += 1.5e6;
  t.ok(client.helloDue(1), 'again, if there was no answer');
  client.heard(1, -1, ENCRYPTED_VERSION, 100);
  now.monotonicUs += 100e6;
  t.notOk(client.helloDue(1), 'not after an answer');
  for (let i = 0; i < 3; i++) {
    now.monotonicUs += 300_000;
    t.equal(client.versionFor(1), ENCRYPTED_VERSION, 'silence makes nobody write an older version');
  }
  const replica = peersOf(0);
  t.equal(replica.versionFor(2), ENCRYPTED_VERSION);
  t.equal(replica.versionFor(3), ENCRYPTED_VERSION, 'a client');
  t.notOk(replica.helloDue(2));
  t.end();
});
