// A short chaos run in which the members change (test/cluster/chaos/members.ts): the long ones are `npm run chaos -- --members`.
import t from 'tap';
import { randomInt } from 'node:crypto';
import { membersChaos } from './chaos/members.js';

const SECONDS = 8;

for (const durability of ['memory', 'fsync'] as const) {
  t.test(
    `durability ${durability}: hosts come and go, old and new ones and the tool are killed, and nothing is lost`,
    async (t) => {
      const seed = randomInt(1, 1_000_000);
      const said: string[] = [];
      const result = await membersChaos({
        seed,
        replicas: 3,
        durability,
        seconds: SECONDS,
        say: (line) => said.push(line),
      });
      t.comment(
        `again: npm run chaos -- --members --seed ${seed} --seconds ${SECONDS} --replicas 3 --durability ${durability} --verbose`,
      );
      t.comment(`${result.committed} committed, ${result.unknown} unknown, ${JSON.stringify(result.done)}`);
      t.same(result.failures, [], said.join('; '));
      t.equal(result.history, 'linearizable');
      t.ok(result.acknowledgedOnce > 0 && result.lost.length === 0);
      const commands = ['add', 'replace'].reduce((sum, name) => sum + (result.done[`commands ${name}`] ?? 0), 0);
      t.ok(commands > 0, 'a command was carried out');
      t.ok(
        (result.done['kills'] ?? 0) + (result.done['pauses'] ?? 0) + (result.done['kills of a majority at once'] ?? 0) >
          0,
      );
    },
  );
}
