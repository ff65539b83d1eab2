/**
 * For secrets.test.ts: runs a replica and a client of the cluster file in the first argument, has the replica read its keys again, and
 * looks for texts in a snapshot of its heap. The texts are not arguments, which would be in the heap themselves, but are
 * read from the key files at the end. Prints how often each was found.
 */
import { randomBytes } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { getHeapSnapshot } from 'node:v8';
import { Client } from '../../src/client/client.js';
import { KvClient } from '../../src/client/kv-client.js';
import type { KeyFile } from '../../src/host/key-file.js';
import { silentLogger } from '../../src/host/logger.js';
import { KvMachine } from '../../src/machine/kv.js';
import { Replica } from '../../src/server/replica.js';

const cluster = process.argv[2]!;
const replica = await Replica.start({ cluster, id: 0, machine: new KvMachine(), logger: silentLogger });
const client = await Client.connect({ cluster, logger: silentLogger, timeout: 60_000, connectTimeout: 60_000 });
await new KvClient(client).put('a', 'b');
replica.reloadKeys();
await new KvClient(client).put('a', 'c');
const control = randomBytes(32).toString('hex');

for (let i = 0; i < 5; i++) {
  await nextTurn();
  (globalThis as unknown as { gc(): void }).gc();
}
const chunks: Buffer[] = [];
for await (const chunk of getHeapSnapshot()) chunks.push(Buffer.from(chunk as Uint8Array));
const snapshot = Buffer.concat(chunks);

const found: Record<string, number> = {};
const count = (name: string, text: string): void => {
  found[name] = 0;
  for (let at = snapshot.indexOf(text); at >= 0; at = snapshot.indexOf(text, at + 1)) found[name]++;
};
count('control', control);
for (const file of ['replica.keys', 'client.keys']) {
  const { keys, chainSecret } = JSON.parse(readFileSync(join(dirname(cluster), file), 'utf8')) as KeyFile;
  for (const { id, secret } of keys) count(`${file}: key ${id}`, secret);
  if (chainSecret !== undefined) count(`${file}: chainSecret`, chainSecret);
}
process.stdout.write(`${JSON.stringify(found)}\n`);
await client.close();
await replica.close();
