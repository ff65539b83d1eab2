// Short chaos runs (test/cluster/chaos/): the long ones are `npm run chaos`, and what they came to is in
// docs/measurements/reliability.md.
import t from 'tap';
import { randomInt } from 'node:crypto';
import { whyNoStandIn } from '../clock/stand-in.js';
import { beginsAhead, chaos } from './chaos/run.js';

const SECONDS = 4;

for (const durability of ['fsync', 'memory'] as const) {
  t.test(
    `durability ${durability}: killed, stopped, cut off, stormed upon, unread and on a busy host, nothing is lost and the history is linearizable`,
    async (t) => {
      // One of the two begins with all clocks ahead.
      const ahead = durability === 'fsync';
      const seed = 4 * randomInt(1, 250_000) + (ahead ? 2 : 0) + randomInt(2);
      t.equal(beginsAhead(seed), ahead);
      const said: string[] = [];
      const result = await chaos({ seed, replicas: 3, durability, seconds: SECONDS, say: (line) => said.push(line) });
      t.comment(
        `again: npm run chaos -- --seed ${seed} --seconds ${SECONDS} --replicas 3 --durability ${durability} --verbose`,
      );
      for (const what of result.notTried) t.comment(`not tried here: ${what}`);
      t.comment(`${result.committed} committed, ${result.unknown} unknown, ${JSON.stringify(result.done)}`);
      t.same(result.failures, [], said.join('; '));
      t.equal(result.history, 'linearizable');
      t.ok(result.acknowledgedOnce > 0 && result.lost.length === 0);
      t.ok(said.length > 0 && result.relay.passed > 0, 'there was trouble, and datagrams passed the relay');
      for (const what of ['readers of logs gone', 'busy hosts']) t.ok(result.done[what]! > 0, what);
      if (whyNoStandIn() === false) t.equal(result.done['clocks of all hosts set right'] ?? 0, ahead ? 1 : 0);
    },
  );
}
