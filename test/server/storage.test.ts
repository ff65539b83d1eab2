// What a replica finds in its data directory, and refuses.
import { mkdtempSync, readdirSync, rmSync, unlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { loadHash } from '../../src/native/hash64.js';
import { loadCluster } from '../../src/host/cluster-config.js';
import { silentLogger } from '../../src/host/logger.js';
import { openStorage } from '../../src/server/storage-choice.js';
import type { Durability } from '../../src/storage/durability.js';
import { DurableStorage } from '../../src/storage/durable-storage.js';
import { HARD_STATE_FILE } from '../../src/storage/hard-state.js';

const hash = loadHash();
const cluster = loadCluster({
  schema: 'jitpaxos.cluster/1',
  id: '00c0ffee12345678',
  replicas: ['127.0.0.1:7400', '127.0.0.1:7401', '127.0.0.1:7402'],
});
const SEGMENT_BYTES = 1 << 16;
const COMMON = { cluster, limits: cluster.limits, id: 1, hash, logger: silentLogger, segmentBytes: SEGMENT_BYTES };

function directory(t: Test): string {
  const path = mkdtempSync(join(tmpdir(), 'jitpaxos-server-storage-'));
  t.teardown(() => rmSync(path, { recursive: true, force: true }));
  return path;
}

/** Opens, writes once or twice, and ends without a clean stop. */
async function live(data: string, durability: Durability, writes = 2): Promise<void> {
  const { storage, lock } = await openStorage({ ...COMMON, data, durability });
  for (let token = 1; token <= writes; token++) {
    await new Promise<void>((resolve, reject) => {
      if (storage instanceof DurableStorage)
        storage.events = {
          persisted: () => resolve(),
          failed: reject,
          broken: reject,
          rewrite: () => undefined,
          healed: () => undefined,
        };
      else storage.persisted = () => resolve();
      storage.persist(token, {
        hardState: { view: 4, logView: 4, incarnation: 2 },
        entriesFrom: 1,
        lastIndex: 0,
        committed: 0,
        snapshot: undefined,
        entryBytes: () => 0,
        readEntry: () => 0,
      });
    });
  }
  await storage.close();
  lock!.release();
}

t.test('durability os without a boot id is refused, and names the remedy; fsync needs none', async (t) => {
  const data = directory(t);
  const none = '0'.repeat(32);
  await t.rejects(openStorage({ ...COMMON, data, durability: 'os', boot: none }), {
    code: 'boot-id-unknown',
    category: 'environment',
    message: /use durability "fsync"/,
  });
  t.same(readdirSync(data), [], 'nothing was made, and nothing is locked');
  const { storage, lock } = await openStorage({ ...COMMON, data, durability: 'fsync', boot: none });
  await storage.close();
  lock!.release();
});

t.test('promises that are gone are refused in every durability, and nothing stays locked', async (t) => {
  for (const before of ['os', 'fsync'] as const) {
    const data = directory(t);
    await live(data, before);
    unlinkSync(join(data, HARD_STATE_FILE));
    const names = readdirSync(data);
    for (const now of ['memory', 'os', 'fsync'] as const) {
      await t.rejects(
        openStorage({ ...COMMON, data, durability: now }),
        { code: 'hard-state-missing' },
        `${before}, then ${now}`,
      );
      t.same(readdirSync(data), names, 'nothing was changed');
    }
  }
});
