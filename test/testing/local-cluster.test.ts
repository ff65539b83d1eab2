// Real clusters for users' tests: in this process and in processes of their own; nothing outlives them.
import { readdirSync, readFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { fileURLToPath } from 'node:url';
import t from 'tap';
import type { Client } from '../../src/client/client.js';
import type { ApplyContext, Operation, Reply } from '../../src/machine/state-machine.js';
import { checkHistory } from '../../src/testing/check-history.js';
import { HistoryRecorder } from '../../src/testing/history.js';
import { LocalCluster } from '../../src/testing/local-cluster.js';
import { runNode } from '../cluster/processes.js';
import { bytesOf, numberOf, Sum, sumModel } from './machines.js';

const MACHINES = new URL('./machines.js', import.meta.url);

/** Directories of clusters of this kind. */
function directories(): string[] {
  return readdirSync(tmpdir()).filter((name) => name.startsWith('jitpaxos-testing-'));
}

async function add(client: Client, number: number): Promise<number> {
  return numberOf(await client.execute(bytesOf(number), { timeout: 20_000 }));
}

/** Processes whose command names this text, as far as the system shows them. */
function processesOf(text: string): string[] {
  if (process.platform !== 'linux') return [];
  return readdirSync('/proc').filter((pid) => {
    try {
      return /^\d+$/.test(pid) && readFileSync(`/proc/${pid}/cmdline`, 'utf8').includes(text);
    } catch {
      return false; // it has just ended
    }
  });
}

/** Waits until `condition` holds. */
async function until(condition: () => boolean): Promise<void> {
  for (let i = 0; i < 2000 && !condition(); i++) await new Promise((resolve) => setTimeout(resolve, 10));
}

t.test('in this process: operations, a stop, a restart, another client, a history', async (t) => {
  const before = directories();
  const cluster = await LocalCluster.start({ machine: () => new Sum() });
  t.equal(cluster.cluster.replicas.length, 3);
  t.equal(await add(cluster.client, 1), 1);
  t.ok(cluster.isRunning(2));
  await cluster.stop(2);
  await cluster.stop(2);
  t.notOk(cluster.isRunning(2));
  const other = await cluster.connect({ lanes: 4 });
  const recorder = new HistoryRecorder();
  await Promise.all([cluster.client, other].map((client) => recorder.execute(client, bytesOf(2))));
  await recorder.query(other, new Uint8Array(0));
  const verdict = checkHistory(recorder.history(), { model: { ...sumModel, initial: () => 1 } });
  t.equal(verdict.outcome, 'linearizable', verdict.text);
  await cluster.restart(2);
  await cluster.stop(0);
  t.equal(await add(cluster.client, 10), 15, 'the one that came back takes part');
  await t.rejects(cluster.kill(1), {
    code: 'option-invalid',
    message: /run in this process; give machine as \{ module/,
  });
  await t.rejects(cluster.restart(1), { code: 'option-invalid', message: /replica 1 is running/ });
  await t.rejects(cluster.stop(3), { code: 'replica-id-out-of-range', message: /replica id is 3/ });
  t.throws(() => cluster.isRunning(-1), { code: 'replica-id-out-of-range' });
  await cluster.close();
  await cluster.close();
  t.same(directories(), before, 'its files are gone');
  await t.rejects(cluster.restart(0), { code: 'option-invalid', message: /is closed/ });
  await t.rejects(cluster.connect(), { code: 'option-invalid', message: /is closed/ });
  await t.rejects(cluster.client.execute(bytesOf(1)), { code: 'client-closed' });
});

t.test('in processes of their own: one is killed and comes back, with what it had', async (t) => {
  const before = directories();
  {
    await using cluster = await LocalCluster.start({ machine: { module: MACHINES, name: 'Sum' } });
    if (process.platform === 'linux') t.equal(processesOf(cluster.cluster.id).length, 3);
    t.equal(await add(cluster.client, 5), 5);
    await cluster.kill(0);
    t.notOk(cluster.isRunning(0));
    t.equal(cluster.failure(0), undefined, 'it did not stop itself');
    t.equal(await add(cluster.client, 6), 11);
    await cluster.restart(0);
    for (const id of [0, 1, 2]) await cluster.kill(id);
    for (const id of [0, 1, 2]) await cluster.restart(id);
    t.equal(await add(cluster.client, 7), 18, 'what was acknowledged survived the death of all processes');
    await cluster.stop(1);
    t.equal(await add(cluster.client, 1), 19);
  }
  t.same(directories(), before);
});

t.test('a replica whose machine differs stops itself, and says why', async (t) => {
  let made = 0;
  class Differs extends Sum {
    readonly number = made++;
    override apply(operation: Operation, context: ApplyContext, reply: Reply): void {
      super.apply(operation, context, reply);
      if (this.number === 2) this.sum++;
    }
  }
  await using cluster = await LocalCluster.start({
    machine: () => new Differs(),
    replica: { limits: { logEntries: 64 } },
  });
  for (let i = 0; i < 400 && cluster.failure(2) === undefined; i++) await cluster.client.execute(bytesOf(1));
  await until(() => !cluster.isRunning(2));
  t.match(cluster.failure(2), { code: 'state-diverged' });
  t.same([cluster.failure(0), cluster.failure(1)], [undefined, undefined]);
});

t.test('what cannot start says why, and leaves nothing behind', async (t) => {
  const before = directories();
  const refused = (options: object, code: string, message: RegExp): Promise<unknown> =>
    t.rejects(LocalCluster.start({ machine: () => new Sum(), ...options }), { code, message }, String(message));
  await refused({ machin: 1 }, 'option-invalid', /did you mean "machine"/);
  await refused({ machine: 'kv' }, 'option-invalid', /machine is "kv"; it has to be a function/);
  await refused({ machine: { module: 7 } }, 'option-invalid', /path or URL/);
  await refused({ replicas: 2 }, 'option-invalid', /has to be odd/);
  await refused({ replicas: 15 }, 'option-invalid', /from 1 to 13/);
  await refused({ replica: { durabilty: 'os' } }, 'option-invalid', /did you mean "durability"/);
  await refused({ client: { lanes: 0 } }, 'option-invalid', /lanes/);
  const path = fileURLToPath(MACHINES);
  await refused(
    { machine: { module: path, name: 'Suм' } },
    'machine-module-failed',
    /exports no function or class "Suм"/,
  );
  await refused({ machine: { module: path } }, 'machine-module-failed', /exports no function or class "default"/);
  await refused({ machine: { module: `${path}.no` } }, 'machine-module-failed', /Cannot find module/);
  await t.rejects(
    LocalCluster.start({
      machine: () => {
        throw new Error('no machine today');
      },
    }),
    { message: 'no machine today' },
  );
  t.same(directories(), before);
});

t.test('a program that just ends leaves neither processes nor files', async (t) => {
  const before = directories();
  const entry = new URL('../../src/testing/index.js', import.meta.url).href;
  const program = `
    import { LocalCluster } from '${entry}';
    const cluster = await LocalCluster.start({ machine: { module: '${MACHINES.href}', name: 'Sum' } });
    console.log((await cluster.client.execute(Uint8Array.of(0, 0, 0, 3)))[3], cluster.cluster.id);
    process.exit(7);`;
  const { code, stdout, stderr } = await runNode(['--input-type=module', '-e', program]);
  t.match([code, stdout], [7, /^3 [0-9a-f]{16}$/m], stderr);
  const id = stdout.trim().split(' ')[1]!;
  await until(() => processesOf(id).length === 0);
  t.same(processesOf(id), []);
  t.same(directories(), before);
});
