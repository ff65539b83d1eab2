/**
 * The schedule explorer: tiny configurations that it walks to their end, larger ones to a bound, and broken rules that
 * it notices. The numbers of states are in docs/internals/explorer.md; they change when a core holds more or sends
 * more, so they are printed here, not compared.
 */
import t from 'tap';
import { explore, type Configuration } from '../../src/sim/explorer.js';
import { EPOCH_VIEWS } from '../../src/protocol/configuration.js';
import { mutated, type Mutation } from './mutation.js';
import { MUTATIONS } from './mutations.js';

const CLIENT = 3;
/** Its quorum, replicas 1 and 2, is asked for it. */
const VIEW_1 = [{ view: 1, replicas: [1, 2] }];

/** The same voters are decided for the next epoch, and the quorum of its first view, replicas 0 and 1, is asked for it. */
const EPOCH_1 = { nextVoters: [0, 1, 2], views: [{ view: EPOCH_VIEWS, replicas: [0, 1] }] };

const EPOCH: Configuration = { name: 'an epoch begins', replicas: 3, clients: 1, requests: 0, ...EPOCH_1 };

const COMPLETE: readonly Configuration[] = [
  { name: 'one client, one request', replicas: 3, clients: 1, requests: 1 },
  {
    name: 'one client, one request, a loss, a Sync',
    replicas: 3,
    clients: 1,
    requests: 1,
    losses: 1,
    timeouts: { budget: 1, endpoints: [0] },
  },
  {
    name: 'one client, one request, a loss, a retry',
    replicas: 3,
    clients: 1,
    requests: 1,
    losses: 1,
    timeouts: { budget: 1, endpoints: [CLIENT] },
  },
  {
    name: 'one client, one request, a duplicate, a retry',
    replicas: 3,
    clients: 1,
    requests: 1,
    duplicates: 1,
    timeouts: { budget: 1, endpoints: [CLIENT] },
  },
  {
    name: 'one client, two requests, a loss, a retry',
    replicas: 3,
    clients: 1,
    requests: 2,
    losses: 1,
    timeouts: { budget: 1, endpoints: [CLIENT] },
  },
  {
    name: 'one client, one request, a member loses its log',
    replicas: 3,
    clients: 1,
    requests: 1,
    crashes: { budget: 1, replicas: [1] },
  },
  { name: 'view 1 is promised', replicas: 3, clients: 1, requests: 0, views: VIEW_1 },
  { name: 'view 1 is promised, a loss', replicas: 3, clients: 1, requests: 0, views: VIEW_1, losses: 1 },
  {
    name: 'view 1 is promised, its primary loses its log',
    replicas: 3,
    clients: 1,
    requests: 0,
    views: VIEW_1,
    crashes: { budget: 1, replicas: [1] },
  },
  EPOCH,
];

const TWO_CLIENTS: Configuration = { name: 'two clients, one request each', replicas: 3, clients: 2, requests: 1 };
const VIEW_CHANGE: Configuration = {
  name: 'one client, one request, view 1 is promised',
  replicas: 3,
  clients: 1,
  requests: 1,
  views: VIEW_1,
};

const EPOCH_CHANGE: Configuration = {
  name: 'one client, one request, an epoch begins, a member loses its log',
  replicas: 3,
  clients: 1,
  requests: 1,
  ...EPOCH_1,
  crashes: { budget: 1, replicas: [1] },
};

for (const configuration of COMPLETE) {
  t.test(`complete: ${configuration.name}`, (t) => {
    const result = explore(configuration);
    t.equal(result.violation, undefined);
    t.ok(result.complete, `${result.states} states, ${result.transitions} transitions, depth ${result.depth}`);
    t.same(result.reached.views, [0, ...(configuration.views ?? []).map(({ view }) => view)], 'every view was started');
    if (configuration.requests > 0) t.ok(result.reached.commits.length > 0, 'something was committed');
    t.ok(result.committedEnds > 0, `${result.committedEnds} of ${result.ends} ends have everything committed`);
    t.comment(
      `${result.states} states, ${result.transitions} transitions, depth ${result.depth}, ${result.ends} ends, ${result.committedEnds} of them with everything committed`,
    );
    t.end();
  });
}

t.test('a walk through an epoch reaches its members, its first view and a commit there', (t) => {
  const { complete, reached } = explore(EPOCH);
  t.ok(complete);
  t.same(reached, { decided: 1, begun: 1, views: [0, EPOCH_VIEWS], commits: [EPOCH_VIEWS] });
  const unasked = explore({ ...EPOCH, views: [] }).reached;
  t.same(
    unasked,
    { decided: 1, begun: 0, views: [0], commits: [] },
    'where nobody asks for the view it is not reached',
  );
  t.end();
});

t.test('without loss, every order ends with the request committed', (t) => {
  const result = explore(COMPLETE[0]!);
  t.equal(result.ends, 1);
  t.equal(result.committedEnds, 1);
  t.end();
});

for (const [configuration, statesMax] of [
  [TWO_CLIENTS, 400],
  [VIEW_CHANGE, 400],
  [EPOCH_CHANGE, 200],
] as const) {
  t.test(`to a bound: ${configuration.name}`, (t) => {
    const result = explore(configuration, { statesMax });
    t.equal(result.violation, undefined);
    t.equal(result.states, statesMax, `depth ${result.depth}`);
    t.notOk(result.complete, 'a walk that was given up does not say that it is complete');
    t.end();
  });
}

t.test('the bound on depth is kept, and said', (t) => {
  const result = explore(COMPLETE[0]!, { depthMax: 2 });
  t.equal(result.depth, 2);
  t.notOk(result.complete);
  t.end();
});

t.test('two walks are the same', (t) => {
  t.same(explore(COMPLETE[0]!), explore(COMPLETE[0]!));
  t.end();
});

t.test('broken rules are noticed, by a path that can be read', (t) => {
  for (const name of ['commit-with-f-acks', 'no-at-most-once']) {
    const { violation } = explore(TWO_CLIENTS, { statesMax: 1500, ...mutated(mutationNamed(name)) });
    if (violation === undefined) {
      t.fail(`${name} is not noticed`);
      continue;
    }
    t.comment(`${name}: ${violation.invariant}: ${violation.detail}`);
    for (const line of violation.path) t.comment(`  ${line}`);
    t.match(violation.path.at(-1), /^deliver +\w+ => \w+ /);
  }
  t.end();
});

function mutationNamed(name: string): Mutation {
  return MUTATIONS.find((mutation) => mutation.name === name)!;
}
