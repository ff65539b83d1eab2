// Durable storage on a disk that forgets what was not synced, fails, and heals: the power goes at any operation, and
// what a start finds is the state after some batch, none before the last one acknowledged.
//
// A failing seed is replayed alone with JITPAXOS_SEED=N node dist/test/storage/power-loss.test.js; JITPAXOS_SEED=A..B
// runs many.
import t from 'tap';
import { Random } from '../../src/sim/random.js';
import { SimulationHasher } from '../../src/sim/hash.js';
import { DurableStorage } from '../../src/storage/durable-storage.js';
import type { LogMode } from '../../src/storage/log-format.js';
import { readStored } from '../../src/storage/log-reader.js';
import { LogModel } from './log-model.js';
import { MemoryDisk, MemoryFiles, type DiskOperation } from './memory-files.js';

const OWNER = { clusterHi: 7, clusterLo: -9, replica: 1 };
const hash = new SimulationHasher();
const LIVES = 6;
const CHOSEN = process.env['JITPAXOS_SEED'];
const [FIRST, LAST] = (CHOSEN ?? '1..120')
  .split('..')
  .map(Number)
  .map((seed, _, all) => [seed, all.at(-1)!])[0]! as [number, number];

/** Microtasks run until no more come. */
const settle = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

interface Totals {
  losses: number;
  failures: number;
  heals: number;
  torn: number;
  acknowledged: number;
  cleanStops: number;
  /** Runs at whose end the directory had told its identity. */
  identities: number;
}

interface Plan {
  readonly mode: LogMode;
  /** Whether the disk has errors, besides the power. */
  readonly errors: boolean;
}

/** Several lives of one replica. Returns what went wrong, or undefined. */
async function run(seed: number, plan: Plan, totals: Totals): Promise<string | undefined> {
  const random = new Random(seed);
  const disk = new MemoryDisk(random.fork('disk'));
  const model = new LogModel(random.fork('log'));
  let boot = 1;
  /** What a replica may have told others of its directory. */
  let told: string | undefined;
  for (let life = 1; life <= LIVES; life++) {
    let timers: (() => void)[] = [];
    const storage = await DurableStorage.open({
      files: new MemoryFiles(disk, random.fork(`life ${life}`)),
      directory: 'disk',
      owner: OWNER,
      hash,
      mode: plan.mode,
      bootId: String(boot).padStart(32, '0'),
      segmentBytes: random.pick([4096, 16384, 65536]),
      snapshotSyncBytes: random.pick([100, 1 << 20]),
      nowMs: () => 0,
      random: () => random.next() | 0,
      later: (_delay, callback) => void timers.push(callback),
    });
    const at = `seed ${seed} (${plan.mode}${plan.errors ? ', errors' : ''}), life ${life}`;
    if (storage.stored.torn !== undefined) totals.torn++;
    if (told !== undefined && storage.identity !== told)
      return `${at}: the directory said that it is ${told}, and now it is ${storage.identity}`;
    storage.events = model;
    model.storage = storage;
    model.begin(storage.recovered());
    // The power goes at some operation, or between two turns.
    let powered = true;
    const cutAt = disk.operations + 1 + random.below(120);
    const cut = (): void => {
      powered = false;
      if (plan.mode === 'fsync') disk.cutPower();
      else disk.stop();
    };
    disk.before = (operations) => {
      if (powered && operations === cutAt) cut();
    };
    let faulty = false;
    disk.fails = (operation: DiskOperation, name: string) => {
      if (!faulty || !random.chance(0.3)) return undefined;
      return operation === 'sync' || name === 'hard-state' ? 'EIO' : random.pick(['ENOSPC', 'EROFS', 'EIO'] as const);
    };
    const steps = 5 + random.below(40);
    for (let step = 0; step < steps && powered; step++) {
      if (plan.errors) faulty = random.chance(0.3);
      model.step();
      if (random.chance(0.7)) for (let wait = random.below(60); wait > 0; wait--) await undefined;
      if (timers.length > 0 && random.chance(0.5)) for (const timer of timers.splice(0)) timer();
    }
    disk.fails = () => undefined;
    const clean = powered && random.chance(0.5);
    if (clean) {
      // The disk is well again: everything is acknowledged, and a clean stop leaves exactly that.
      for (let round = 0; round < 4 && powered; round++) {
        await settle();
        for (const timer of timers.splice(0)) timer();
      }
      if (powered && !model.isAcknowledged)
        return `${at}: not everything was acknowledged on a disk that is well: ${model.describe()}`;
      await Promise.race([storage.close(), settle()]);
      if (powered) totals.cleanStops++;
    }
    if (powered) {
      // After a clean stop nothing depends on the power.
      if (clean || plan.mode === 'fsync') disk.cutPower();
      else disk.stop();
      if (clean) boot++;
    }
    told = storage.identity ?? told;
    timers = [];
    disk.before = () => undefined;
    await settle();
    if (model.bug !== undefined) return `${at}: ${String(model.bug instanceof Error ? model.bug.stack : model.bug)}`;
    totals.losses++;
    totals.acknowledged += model.acknowledged;
    const found = await readStored(new MemoryFiles(disk, random.fork(`look ${life}`)), {
      owner: OWNER,
      hash,
      bootId: String(boot).padStart(32, '0'),
      directory: 'disk',
    });
    const wrong = model.check(found);
    if (wrong !== undefined) return `${at}: ${wrong}; ${model.describe()}`;
  }
  if (told !== undefined) totals.identities++;
  totals.failures += model.failures;
  totals.heals += model.heals;
  return undefined;
}

for (const plan of [
  { mode: 'fsync', errors: false },
  { mode: 'fsync', errors: true },
  { mode: 'os', errors: false },
] as const) {
  t.test(
    `mode ${plan.mode}${plan.errors ? ', with errors of the disk' : ''}: whatever was acknowledged is found again`,
    async (t) => {
      const totals: Totals = {
        losses: 0,
        failures: 0,
        heals: 0,
        torn: 0,
        acknowledged: 0,
        cleanStops: 0,
        identities: 0,
      };
      const failures: string[] = [];
      for (let seed = FIRST; seed <= LAST && failures.length < 3; seed++) {
        const failure = await run(seed, plan, totals);
        if (failure !== undefined)
          failures.push(`${failure}; replay with JITPAXOS_SEED=${seed} node dist/test/storage/power-loss.test.js`);
      }
      t.comment(`seeds ${FIRST} to ${LAST}: ${JSON.stringify(totals)}`);
      t.same(failures, []);
      if (CHOSEN !== undefined) return;
      t.ok(totals.acknowledged > 3_000 && totals.cleanStops > 30, 'batches were acknowledged, lives ended cleanly');
      t.ok(totals.identities > 100, 'directories told their identities');
      if (plan.mode === 'fsync') t.ok(totals.torn > 3, 'writes were torn');
      if (plan.errors) t.ok(totals.failures > 50 && totals.heals > 50, 'the disk failed and healed');
    },
  );
}
