// What the next step of `jitpaxos member …` is, or why there is none: against the rules of the log itself
// (protocol/membership/changes.ts), in a world where hosts wait, serve, lag and die. A tool keeps nothing, so it is
// killed after every step, and the same command goes on.
import t from 'tap';
import { BEHIND_MAX, nextStep, type Found, type MemberRequest } from '../../src/cli/members/plan.js';
import { hostOf } from '../../src/protocol/membership/membership.js';
import { Outcome } from '../../src/protocol/membership/changes.js';
import { ADDRESS, addressesOf, identity, NEW, OTHER, World } from './member-world.js';

interface Ran {
  /** `done`, or the code of the refusal; `waits` after many looks, `killed` after `steps`. */
  readonly end: string;
  readonly says: string;
  readonly steps: number;
}

/** Runs a command; it is killed after that many steps. */
function run(world: World, request: MemberRequest, killedAfter = Infinity): Ran {
  const began = world.membership.started;
  let steps = 0;
  for (let looks = 0; looks < 60; looks++) {
    const next = nextStep(request, world.see(addressesOf(request), began));
    if (next.kind === 'done') return { end: 'done', says: next.says, steps };
    if (next.kind === 'refuse') return { end: next.code, says: next.why, steps };
    if (next.kind === 'wait') {
      world.begin();
      if (looks === 59) return { end: 'waits', says: next.says, steps };
      continue;
    }
    if (next.kind === 'switch-on') {
      world.isOn = true;
      world.asked.push('switch-on');
    } else {
      world.asked.push(next.operation.kind);
      const outcome = world.enter(next.operation);
      if (outcome !== Outcome.done) return { end: `outcome-${outcome}`, says: '', steps };
    }
    if (++steps >= killedAfter) return { end: 'killed', says: '', steps };
  }
  return { end: 'endless', says: '', steps };
}

const usual = { allowEven: false, force: false };
const add = (...addresses: string[]): MemberRequest => ({ kind: 'add', addresses, ...usual });
const replace = (id: number, address: string, alive = false): MemberRequest => ({
  kind: 'replace',
  id,
  address,
  alive,
  ...usual,
});
const remove = (...ids: number[]): MemberRequest => ({ kind: 'remove', ids, ...usual });
/** Host 1 moves. */
const moveTo = (address: string): MemberRequest => ({ kind: 'move', id: 1, address });

/** Host 1 was stopped, and this answers at OTHER. */
function moved(world: World, there: object): World {
  world.processes.delete(ADDRESS(1));
  world.processes.set(OTHER, identity(1));
  const right = { kind: 'replica', id: 1, identity: identity(1), version: '1.2.3', knows: true };
  world.says.set(OTHER, { ...right, ...there } as Found);
  return world;
}

/** The log knows every identity. @param there undefined: what waits at OTHER is what the world says */
function movable(there?: object): World {
  const world = settled();
  if (there !== undefined) return moved(world, there);
  world.processes.delete(ADDRESS(1));
  return world;
}

/** Commands that succeed: the world, what is asked for, the voters then, and what was asked of the log. */
const WAYS: readonly (readonly [
  name: string,
  replicas: number,
  make: (world: World) => void,
  request: MemberRequest,
  voters: readonly number[],
  asked: string,
])[] = [
  [
    'two are added to three',
    3,
    (world) => {
      world.joins(NEW, 3);
      world.joins(OTHER, 4);
      world.lag = 1e6;
    },
    add(NEW, OTHER),
    [0, 1, 2, 3, 4],
    'switch-on name name name learn learn change',
  ],
  [
    'one of three burnt down, and nobody ever changed the members before',
    3,
    (world) => {
      world.down.add(2);
      world.processes.delete(ADDRESS(2));
      world.joins(NEW, 3);
      world.lag = 50_000;
    },
    replace(2, NEW),
    [0, 1, 3],
    'switch-on name name name learn change',
  ],
  [
    'one burnt down, and the new machine has its address',
    3,
    (world) => {
      world.down.add(2);
      world.joins(ADDRESS(2), 900);
    },
    replace(2, ADDRESS(2)),
    [0, 1, 3],
    'switch-on name name name move learn change',
  ],
  [
    'a healthy one is replaced, as the operator says',
    3,
    (world) => world.joins(NEW, 3),
    replace(0, NEW, true),
    [1, 2, 3],
    'switch-on name name name learn change',
  ],
  [
    'five become three, where one of the two is dead',
    5,
    (world) => void world.down.add(4),
    remove(3, 4),
    [0, 1, 2],
    'switch-on name name name name name change',
  ],
  [
    'three become two, which is allowed',
    3,
    (world) => void world.down.add(1),
    { kind: 'remove', ids: [1], allowEven: true, force: false },
    [0, 2],
    'switch-on name name name change',
  ],
  [
    'one becomes three, at once',
    1,
    (world) => {
      world.joins(NEW, 3);
      world.joins(OTHER, 4);
    },
    { kind: 'add', addresses: [NEW, OTHER], allowEven: false, force: true },
    [0, 1, 2],
    'switch-on name learn learn change',
  ],
  [
    'a learner',
    3,
    (world) => world.joins(NEW, 3),
    { kind: 'add-learner', address: NEW },
    [0, 1, 2],
    'switch-on name name name learn',
  ],
];

for (const [name, replicas, make, request, voters, asked] of WAYS) {
  t.test(`${name}: in one go, and killed after every step`, (t) => {
    const world = new World(replicas);
    make(world);
    const whole = run(world, request);
    t.equal(whole.end, 'done', whole.says);
    t.same(world.voters, voters);
    t.equal(world.asked.join(' '), asked);
    t.match(run(world, request), { end: 'done', steps: 0 }, 'asked again, there is nothing left to do');
    for (let after = 1; after <= whole.steps; after++) {
      const again = new World(replicas);
      make(again);
      t.equal(run(again, request, after).end, 'killed');
      const rest = run(again, request);
      t.equal(rest.end, 'done', `killed after step ${after}: ${rest.says}`);
      t.same(again.voters, voters);
      t.equal(again.asked.join(' '), asked, 'no step is done twice');
    }
    // A kill after each step, one process a step.
    const slow = new World(replicas);
    make(slow);
    let end = 'killed';
    for (let i = 0; end === 'killed' && i < 20; i++) ({ end } = run(slow, request, 1));
    t.equal(end, 'done');
    t.same(slow.voters, voters);
    t.equal(slow.asked.join(' '), asked);
    t.end();
  });
}

/** After the first change: three named hosts 0, 1, 2 and a learner 3 at NEW. */
function settled(replicas = 3): World {
  const world = new World(replicas);
  world.joins(NEW, 900);
  run(world, { kind: 'add-learner', address: NEW });
  world.asked.length = 0;
  return world;
}

/** Commands that are refused: what is so, what is asked for, the code, and what the operator reads. Nothing is changed. */
const REFUSED: readonly (readonly [
  name: string,
  make: () => World,
  request: MemberRequest,
  code: string,
  says: RegExp,
])[] = [
  [
    'nobody answers at the address',
    () => new World(3),
    add(NEW, OTHER),
    'member-unreachable',
    /nobody answers at new-1:7400: the host says that nothing listens there; start it there with jitpaxos replica --join/,
  ],
  [
    'another cluster, an older version or other limits answer there',
    () => {
      const world = new World(3);
      world.joins(OTHER, 4);
      world.says.set(NEW, { kind: 'unfit', why: 'its limit logEntries is 10, and 20 here' });
      return world;
    },
    add(OTHER, NEW),
    'member-unfit',
    /the process at new-1:7400 cannot be a host of this cluster: its limit logEntries is 10/,
  ],
  [
    'a directory that is not empty answers there',
    () => {
      const world = new World(3);
      world.joins(OTHER, 4);
      world.says.set(NEW, { kind: 'replica', id: 9, identity: identity(9), version: '1.2.3', knows: true });
      return world;
    },
    add(NEW, OTHER),
    'member-unfit',
    /at new-1:7400 is the data directory of host 9; a host that is added begins with an empty one/,
  ],
  [
    'a host that was removed answers there, with its old directory',
    () => {
      const world = new World(3);
      world.joins(OTHER, 4);
      world.says.set(NEW, { kind: 'other' });
      return world;
    },
    add(NEW, OTHER),
    'member-unfit',
    /at new-1:7400 is the data directory of a replica that is, or was, a host; /,
  ],
  [
    'the address of a listed host, where another directory waits',
    () => {
      const world = settled();
      world.joins(NEW, 77);
      return world;
    },
    { kind: 'add', addresses: [NEW], allowEven: true, force: false },
    'member-listed',
    /new-1:7400 is the address of host 3, and another data directory waits there/,
  ],
  [
    'the directory of a listed host, at another address',
    () => {
      const world = settled();
      world.processes.delete(NEW);
      world.joins(OTHER, 900);
      return world;
    },
    { kind: 'add', addresses: [OTHER], allowEven: true, force: false },
    'member-listed',
    /is that of host 3, which is listed at new-1:7400; if it has moved, use jitpaxos member move 3 new-2:7400/,
  ],
  [
    'four voters',
    () => {
      const world = new World(3);
      world.joins(NEW, 3);
      return world;
    },
    add(NEW),
    'members-count',
    /4 voters survive no more failures than 3, and are slower; add another host in the same command, or say --allow-even/,
  ],
  [
    'two voters of three',
    settled,
    remove(1),
    'members-count',
    /2 voters survive no more failures than 1, and are slower; remove another host/,
  ],
  ['the last voter', () => settled(1), remove(0), 'majority-needed', /the last voter cannot leave/],
  [
    'a host that is well',
    settled,
    replace(2, OTHER),
    'member-alive',
    /host 2 answers and is well; if it is to leave all the same, say so with --alive/,
  ],
  [
    'a removal that would lose the majority',
    () => {
      const world = settled(5);
      world.down.add(0);
      world.down.add(1);
      return world;
    },
    remove(3, 4),
    'majority-needed',
    /would lose the majority: of 3 voters 2 are needed alive, and 1 is \(hosts 0, 1 do not serve\); start them first/,
  ],
  [
    'no majority is up',
    () => {
      const world = settled(3);
      world.down.add(0);
      world.status.set(1, 'recovering');
      return world;
    },
    remove(0, 1),
    'majority-needed',
    /nothing can be decided: 2 of the 3 voters are needed, and 1 serves \(not: hosts 0, 1\)/,
  ],
  [
    'new hosts that nobody has seen work would be needed for a majority',
    () => {
      const world = new World(3);
      world.down.add(2);
      world.joins(NEW, 3);
      world.joins(OTHER, 4);
      return world;
    },
    add(NEW, OTHER),
    'majority-needed',
    /only 2 of the 5 voters would be hosts that vote now and serve, and 3 should be: .*say --force/,
  ],
  [
    'a host that is not listed',
    settled,
    replace(9, OTHER),
    'member-unlisted',
    /host 9 is not listed; the hosts are 0, 1, 2, 3/,
  ],
  ['a learner is nobody to replace', settled, replace(3, OTHER), 'member-unfit', /host 3 is a learner/],
  [
    'a host by itself',
    settled,
    replace(1, ADDRESS(1)),
    'member-alive',
    /host 1 answers at old-1:7400 itself; give the address/,
  ],
  ['a host by a voter', settled, replace(1, ADDRESS(2)), 'member-listed', /host 2 at old-2:7400 is a voter already/],
  [
    'a learner that is behind',
    () => {
      const world = settled();
      world.behind.set(3, BEHIND_MAX + 5);
      return world;
    },
    { kind: 'promote', ids: [3], allowEven: true, force: false },
    'member-behind',
    /host 3 at new-1:7400 lacks 1029 entries, and 1024 are allowed/,
  ],
  [
    'a learner that recovers',
    () => {
      const world = settled();
      world.status.set(3, 'recovering');
      return world;
    },
    { kind: 'promote', ids: [3], allowEven: true, force: false },
    'member-behind',
    /host 3 at new-1:7400 is recovering/,
  ],
  [
    'a learner that is dead',
    () => {
      const world = settled();
      world.down.add(3);
      return world;
    },
    { kind: 'promote', ids: [3], allowEven: true, force: false },
    'member-unreachable',
    /host 3 at new-1:7400 does not answer/,
  ],
  [
    'a host that died as a learner, before the change',
    () => {
      const world = settled();
      world.processes.delete(NEW);
      return world;
    },
    { kind: 'add', addresses: [NEW], allowEven: true, force: false },
    'member-unreachable',
    /host 3 at new-1:7400 does not answer any more: .*give it up with jitpaxos member remove 3/,
  ],
  [
    'a host of an earlier version is listed',
    () => {
      const world = new World(3);
      world.joins(NEW, 3);
      world.knows = false;
      return world;
    },
    replace(2, NEW, true),
    'member-unfit',
    /host 0 at old-0:7400 runs version 1\.2\.3, which does not know changes of the members; upgrade it first/,
  ],
  [
    'a host is held back to an earlier version of the wire',
    () => {
      const world = new World(3);
      world.joins(NEW, 3);
      world.speaks = 4;
      return world;
    },
    replace(2, NEW, true),
    'member-unfit',
    /host 0 at old-0:7400 speaks only version 4 of the wire, and changes of the members need 5; start it without/,
  ],
  [
    'a host that stays does not answer before the first change',
    () => {
      const world = new World(5);
      world.joins(NEW, 3);
      world.down.add(1);
      return world;
    },
    replace(2, NEW, true),
    'member-unreachable',
    /host 1 at old-1:7400 does not answer, and the first change .* member replace 1/,
  ],
  [
    'a host whose process still answers does not move',
    settled,
    { kind: 'move', id: 1, address: OTHER },
    'member-alive',
    /host 1 still answers at old-1:7400; stop it there/,
  ],
  [
    'an empty directory waits at the address that a host moves to',
    () => {
      const world = movable();
      world.joins(OTHER, 55);
      return world;
    },
    moveTo(OTHER),
    'member-unfit',
    /at new-2:7400 is an empty data directory, not that of host 1; start host 1 there on its own/,
  ],
  [
    'the directory of another host is at the address that a host moves to',
    () => movable({ kind: 'other' }),
    moveTo(OTHER),
    'member-unfit',
    /at new-2:7400 is the data directory of another host, not that of host 1; /,
  ],
  [
    'a directory under the right id is not the one that the log names',
    () => movable({ identity: identity(55) }),
    moveTo(OTHER),
    'member-unfit',
    /another data directory than that of host 1 \(identity 0000000000abc037 instead of 0000000000abc001\); /,
  ],
  [
    'a host that moves has no directory',
    () => movable({ identity: undefined }),
    moveTo(OTHER),
    'member-unfit',
    /the replica at new-2:7400 has no data directory, so it cannot be told from another; /,
  ],
  [
    'a host that moves is of a version that does not know changes',
    () => {
      const world = movable({ knows: false, version: '0.9.0' });
      world.isOn = false;
      return world;
    },
    moveTo(OTHER),
    'member-unfit',
    /host 1 at new-2:7400 runs version 0\.9\.0, which does not know changes of the members; upgrade it/,
  ],
  [
    'a host that moves was not started at its new address',
    () => movable({ kind: 'silent', why: 'the host says that nothing listens there' }),
    moveTo(OTHER),
    'member-unreachable',
    /host 1 does not answer at new-2:7400: the host says that nothing listens there; start it there on its data directory/,
  ],
  ...(
    [
      ['replaced', () => new World(5), replace(2, NEW)],
      ['replaced at its address', settled, replace(2, ADDRESS(2))],
      ['removed', () => new World(5), remove(1, 2)],
    ] as const
  ).map(([how, make, request]): (typeof REFUSED)[number] => [
    `a host is to be ${how}, and only the tool does not reach it`,
    () => {
      const world = make();
      world.down.add(2);
      world.heard.add(2);
      world.joins(how === 'replaced' ? NEW : ADDRESS(2), 950);
      return world;
    },
    request,
    'member-alive',
    /^host 2 at old-2:7400 does not answer this tool, and the primary hears it; run the command where .*, or stop host 2/,
  ]),
  [
    'a host moves to the address of another',
    settled,
    { kind: 'move', id: 1, address: ADDRESS(2) },
    'member-listed',
    /host 2 is at old-2:7400; choose another address/,
  ],
];

for (const [name, make, request, code, says] of REFUSED) {
  t.test(`refused: ${name}`, (t) => {
    const world = make();
    const before = world.membership;
    const { end, says: said } = run(world, request);
    t.equal(end, code, said);
    t.match(said, says);
    t.match(said, /;/, 'it says what to do');
    t.equal(world.membership, before, 'nothing was changed');
    t.same(world.asked, []);
    t.end();
  });
}

t.test('two operators at once: one change wins, and the other is told what was decided', (t) => {
  const world = settled();
  world.mayBegin = false;
  world.down.add(2);
  world.joins(OTHER, 4);
  t.equal(run(world, replace(2, OTHER), 1).end, 'killed', 'the first one has listed its host');
  t.match(run(world, { kind: 'promote', ids: [3], allowEven: true, force: true }), { end: 'waits' });
  t.match(run(world, replace(2, OTHER)), {
    end: 'change-pending',
    says: /another change is decided: epoch 1 with voters 0, 1, 2, 3, and it has not begun; wait for it/,
  });
  // The other way round: it began between two looks of the tool.
  const began = world.membership.started;
  world.mayBegin = true;
  world.begin();
  t.match(nextStep(replace(2, OTHER), world.see([OTHER], began)), {
    kind: 'refuse',
    code: 'epoch-mismatch',
    why: /epoch 1 with voters 0, 1, 2, 3 has begun meanwhile, by another change/,
  });
  t.equal(
    run(world, { kind: 'replace', id: 2, address: OTHER, alive: false, allowEven: false, force: false }).end,
    'done',
  );
  t.same(world.voters, [0, 1, 3, 4]);
  t.end();
});

t.test('a change that cannot begin is waited for, and the same command goes on when it can', (t) => {
  const world = settled();
  world.mayBegin = false;
  const promote: MemberRequest = { kind: 'promote', ids: [3], allowEven: true, force: false };
  t.match(run(world, promote), { end: 'waits', says: /^epoch 1 is decided: voters 0, 1, 2, 3\. It begins when/ });
  t.match(run(world, promote), { end: 'waits' });
  world.mayBegin = true;
  t.match(run(world, promote), { end: 'done', steps: 0 });
  t.equal(world.asked.join(' '), 'change');
  t.end();
});

t.test('learners go without a change of the voters, and who is gone already is no error', (t) => {
  const world = settled();
  world.joins(OTHER, 4);
  run(world, { kind: 'add-learner', address: OTHER });
  world.asked.length = 0;
  t.match(run(world, remove(3, 4)), { end: 'done' });
  t.equal(world.asked.join(' '), 'forget forget');
  t.match(run(world, remove(3, 4)), {
    end: 'done',
    steps: 0,
    says: /hosts 3, 4 are not listed in epoch 0: their processes may be stopped\. The voters are 0, 1, 2/,
  });
  t.end();
});

t.test('a host moves with its directory', (t) => {
  const world = movable({});
  t.match(run(world, moveTo(OTHER)), { end: 'done' });
  t.equal(world.addressOf(1), OTHER);
  t.match(run(world, moveTo(OTHER)), { end: 'done', steps: 0 });
  t.end();
});

t.test(
  'the first change of a cluster is a move: the log takes the word of the host that moved for its identity',
  (t) => {
    const world = new World(3);
    moved(world, {});
    t.match(run(world, moveTo(OTHER)), { end: 'done' });
    t.equal(world.asked.join(' '), 'switch-on name name name move');
    t.equal(hostOf(world.membership, 1)!.identityLo, 0xabc001);
    t.equal(world.addressOf(1), OTHER);
    t.end();
  },
);

t.test('a directory is nobody any more once its dead host was named for another', (t) => {
  const world = new World(3);
  world.down.add(2);
  world.processes.delete(ADDRESS(2));
  world.joins(NEW, 3);
  run(world, replace(2, NEW), 4);
  t.same(
    world.see([], 0).list.hosts.map((host) => host.identity),
    [identity(0), identity(1), identity(5002)],
  );
  t.end();
});

t.test('thirteen voters at most', (t) => {
  const world = settled(13);
  t.match(run(world, { kind: 'promote', ids: [13], allowEven: true, force: false }), {
    end: 'members-count',
    says: /14 voters are more than 13; remove some first/,
  });
  t.end();
});
