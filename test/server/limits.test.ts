// Limits that are lowered between two starts: what is stored fits, or is refused by name; it never breaks an invariant.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { Client } from '../../src/client/client.js';
import { KvClient } from '../../src/client/kv-client.js';
import { KvMachine } from '../../src/machine/kv.js';
import type { Limits } from '../../src/protocol/config.js';
import { ENTRY_HEADER_BYTES } from '../../src/protocol/log/entry.js';
import { misfitOf } from '../../src/protocol/log/log.js';
import { silentLogger } from '../../src/host/logger.js';
import { Replica } from '../../src/server/replica.js';
import { clusterConfig } from './fixtures.js';

const ENTRIES = 300;

t.test('a cluster of one replica, started anew with lower limits', async (t) => {
  const data = mkdtempSync(join(tmpdir(), 'jitpaxos-limits-'));
  t.teardown(() => rmSync(data, { recursive: true, force: true }));
  const cluster = await clusterConfig(1);
  const start = (limits: Partial<Limits>): Promise<Replica> =>
    Replica.start({
      cluster,
      id: 0,
      machine: new KvMachine(),
      data,
      durability: 'fsync',
      limits,
      logger: silentLogger,
    });
  const withStore = async (use: (kv: KvClient) => Promise<void>): Promise<void> => {
    await using client = await Client.connect({ cluster, lanes: 16, timeout: 120_000, connectTimeout: 60_000 }); // a busy disk is no failure
    await use(new KvClient(client));
  };
  const first = await start({ logEntries: 1024, operationBytes: 4096, logBytes: 1 << 20 });
  try {
    await withStore((kv) =>
      Promise.all(Array.from({ length: ENTRIES }, (_, i) => kv.put(`k${i}`, 'x'.repeat(1 + (i % 500))))).then(
        () => undefined,
      ),
    );
  } finally {
    await first.close();
  }

  await t.test('a shorter log: what is committed goes behind a snapshot', async (t) => {
    const replica = await start({ logEntries: 64, operationBytes: 4096, logBytes: 1 << 20 });
    try {
      t.equal(replica.status().status, 'normal');
      await withStore(async (kv) => {
        const wrong: number[] = [];
        for (let i = 0; i < ENTRIES; i++)
          if (Buffer.from((await kv.get(`k${i}`)) ?? []).toString() !== 'x'.repeat(1 + (i % 500))) wrong.push(i);
        t.same(wrong, []);
        await kv.put('long', 'y'.repeat(3000));
      });
    } finally {
      await replica.close();
    }
  });

  await t.test(
    'an operation that is longer than any may be: refused by name, and the directory is free again',
    async (t) => {
      await t.rejects(start({ logEntries: 64, operationBytes: 600, logBytes: 1 << 20 }), {
        code: 'limits-too-small',
        category: 'caller',
        message: /entry \d+ has an operation of 30\d\d bytes, and operationBytes is 600; raise/,
      });
      const replica = await start({ logEntries: 64, operationBytes: 4096, logBytes: 1 << 20 });
      await replica.close();
    },
  );
});

t.test('what is not known to be committed has to fit at once', (t) => {
  const entry = (operation: number): Uint8Array => new Uint8Array(ENTRY_HEADER_BYTES + operation);
  const entries = [entry(10), entry(20), entry(30)];
  const limits = { logEntries: 16, logBytes: 4096, operationBytes: 30 };
  t.equal(misfitOf(entries, 5, 4, limits), undefined);
  t.match(misfitOf(entries, 5, 4, { ...limits, operationBytes: 29 }), /^entry 7 has an operation of 30 bytes/);
  t.equal(misfitOf(entries, 5, 5, { ...limits, logEntries: 2 }), undefined);
  t.match(
    misfitOf(entries, 5, 4, { ...limits, logEntries: 2 }),
    /^3 entries are not known to be committed, and logEntries is 2/,
  );
  t.equal(misfitOf(entries, 5, 6, { ...limits, logBytes: 62 }), undefined);
  t.match(misfitOf(entries, 5, 6, { ...limits, logBytes: 61 }), /take 62 bytes, and logBytes is 61/);
  t.end();
});
