// A replica whose state differs stops, is marked, and comes back with the others' state.
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import t from 'tap';
import { Client } from '../../src/client/client.js';
import { CounterMachine } from '../../src/machine/counter.js';
import type { ApplyContext, Operation, Reply } from '../../src/machine/state-machine.js';
import { silentLogger, type Logger } from '../../src/host/logger.js';
import { Replica } from '../../src/server/replica.js';
import type { ReplicaOptions } from '../../src/server/replica-options.js';
import { DIVERGENCE_MARK } from '../../src/storage/divergence-mark.js';
import { clusterConfig } from './fixtures.js';

/** From some time on it counts one more than the others. */
class WrongMachine extends CounterMachine {
  isWrong = false;
  override apply(operation: Operation, context: ApplyContext, reply: Reply): void {
    super.apply(operation, context, reply);
    if (this.isWrong) super.apply(operation, context, reply);
  }
}

t.test(
  'state-diverged: the replica stops by name, refuses to start again, and comes back without its log',
  async (t) => {
    const directory = mkdtempSync(join(tmpdir(), 'jitpaxos-diverged-'));
    t.teardown(() => rmSync(directory, { recursive: true, force: true }));
    const cluster = { ...(await clusterConfig(3)), limits: { logEntries: 256, logBytes: 1 << 18 } };
    const lines: string[] = [];
    const note = (event: string, fields: object): void => void lines.push(`${event} ${JSON.stringify(fields)}`);
    const logger: Logger = { ...silentLogger, warn: note, error: note };
    const start = (id: number, machine: ReplicaOptions['machine']): Promise<Replica> =>
      Replica.start({ cluster, id, machine, data: join(directory, String(id)), durability: 'os', logger });
    const machine = new WrongMachine();
    const replicas = await Promise.all([0, 1, 2].map((id) => start(id, id === 2 ? machine : new CounterMachine())));
    t.teardown(() => Promise.all(replicas.map((replica) => replica.close())));
    const client = await Client.connect({ cluster });
    t.teardown(() => client.close());
    const increment = new Uint8Array(8);
    increment[7] = 1;
    // Nobody is behind as it goes wrong: one that is could be filled by it, and then it is one against one.
    const isLevel = (): boolean => new Set(replicas.map((replica) => replica.status().executedIndex)).size === 1;
    await client.execute(increment);
    while (!isLevel()) await sleep(5);
    machine.isWrong = true;
    let stopped: unknown;
    replicas[2]!.closed.catch((error: unknown) => (stopped = error));
    for (let i = 0; stopped === undefined && i < 5000; i++) {
      await client.execute(increment);
      if (i % 16 === 0) for (await sleep(5); stopped === undefined && !isLevel(); ) await sleep(5);
    }
    t.match(stopped, {
      code: 'state-diverged',
      message: /^the state of replica 2 behind entry \d+, .*and that of replicas 0 and 1/,
    });
    for (let i = 0; replicas[0]!.status().diverged === undefined && i < 3_000; i++) await sleep(10);
    for (const line of [
      /^replica\.state-diverged .*from replica 2: behind entry/,
      /^replica\.failed .*state-diverged|^replica\.failed .*the state of replica 2/,
    ])
      t.ok(
        lines.some((text) => line.test(text)),
        String(line),
      );
    t.match(replicas[0]!.status().diverged, { state: [2] });
    t.match(readFileSync(join(directory, '2', DIVERGENCE_MARK), 'utf8'), /^state-diverged\nthe state of replica 2/);

    await t.rejects(start(2, new CounterMachine()), {
      code: 'state-diverged',
      message: /diverged says: the state of replica 2 .*delete everything in .* but the file hard-state/,
    });
    for (const name of readdirSync(join(directory, '2'))) if (name !== 'hard-state') rmSync(join(directory, '2', name));
    replicas[2] = await start(2, new CounterMachine());
    while (replicas[2].status().executedIndex < replicas[0]!.status().committedIndex) {
      await client.execute(increment);
      await sleep(20);
    }
    t.equal(existsSync(join(directory, '2', DIVERGENCE_MARK)), false);
    t.equal(replicas[2].status().status, 'normal');
  },
);
