// The text of a secret is not kept in memory once its key is open.
import { randomBytes } from 'node:crypto';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import t from 'tap';
import { runNode } from '../cluster/processes.js';
import { clusterConfig } from '../server/fixtures.js';

t.test('the heap of a replica and a client holds no text of a secret', async (t) => {
  const directory = mkdtempSync(join(tmpdir(), 'jitpaxos-secrets-'));
  t.teardown(() => rmSync(directory, { recursive: true, force: true }));
  const cluster = { ...(await clusterConfig(1)), authentication: 'keys', chain: 'siphash-2-4' };
  const clusterFile = join(directory, 'cluster.json');
  writeFileSync(clusterFile, JSON.stringify(cluster));
  const key = (id: number, role: string): object => ({ id, role, secret: randomBytes(32).toString('hex') });
  const client = key(2, 'client');
  const write = (name: string, use: number, keys: object[], more: object = {}): void =>
    writeFileSync(
      join(directory, name),
      JSON.stringify({ schema: 'jitpaxos.keys/1', cluster: cluster.id, use, keys, ...more }),
      { mode: 0o600 },
    );
  write('replica.keys', 1, [key(1, 'replica'), client, key(3, 'read-only')], {
    chainSecret: randomBytes(16).toString('hex'),
  });
  write('client.keys', 2, [client]);
  const program = fileURLToPath(new URL('./secrets-program.js', import.meta.url));
  const { code, stdout, stderr } = await runNode(['--expose-gc', program, clusterFile]);
  t.equal(code, 0, stderr);
  const { control, ...found } = JSON.parse(stdout) as Record<string, number>;
  t.ok(control! > 0, 'a text that is kept is found');
  t.same(found, {
    'replica.keys: key 1': 0,
    'replica.keys: key 2': 0,
    'replica.keys: key 3': 0,
    'replica.keys: chainSecret': 0,
    'client.keys: key 2': 0,
  });
});
