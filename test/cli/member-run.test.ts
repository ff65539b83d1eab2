// Carrying out a change of the members: what is waited for and how long, what the operator reads meanwhile, and that
// nothing is repeated for ever.
import t from 'tap';
import { JitPaxosError } from '../../src/errors.js';
import { Copying, Progress } from '../../src/cli/members/progress.js';
import { runChange, type MembersInReach } from '../../src/cli/members/run.js';
import type { MemberRequest } from '../../src/cli/members/plan.js';
import type { Output } from '../../src/console/command.js';
import type { ConfigureOperation } from '../../src/protocol/membership/operations.js';
import { ADDRESS, addressesOf, NEW, OTHER, World } from './member-world.js';

const REPLACE: MemberRequest = {
  kind: 'replace',
  id: 2,
  address: NEW,
  alive: false,
  allowEven: false,
  force: false,
};

function burntDown(): World {
  const world = new World(3);
  world.down.add(2);
  world.processes.delete(ADDRESS(2));
  world.joins(NEW, 900);
  return world;
}

/** Runs a command by a clock that only sleeping moves. */
function tool(world: World, changes: Partial<MembersInReach> = {}) {
  let nowMs = 0;
  const said: string[] = [];
  const waited: string[] = [];
  /** By time: what happens then. */
  const events: [number, () => void][] = [];
  const cluster: MembersInReach = {
    look: async (request, began) => world.see(addressesOf(request), began ?? world.membership.started),
    switchOn: async () => {
      world.isOn = true;
    },
    change: async (operation: ConfigureOperation) => {
      const outcome = world.enter(operation);
      const { started, decided } = world.membership;
      return { outcome: outcome as 0, id: undefined, started, decided };
    },
    ...changes,
  };
  return {
    said,
    waited,
    at: (ms: number, then: () => void): void => void events.push([ms, then]),
    now: () => nowMs,
    run: (request: MemberRequest, timeoutMs = 60_000) =>
      runChange(request, cluster, {
        timeoutMs,
        patienceMs: 5_000,
        nowMs: () => nowMs,
        sleep: async (ms) => {
          nowMs += ms;
          for (const event of events.splice(0))
            if (event[0] <= nowMs) event[1]();
            else events.push(event);
          world.begin();
        },
        done: (says) => void said.push(says),
        waits: (says) => void waited.push(says),
      }),
  };
}

t.test('one of three burnt down: every step is told, and the end', async (t) => {
  const world = burntDown();
  world.lag = 40_000;
  const { run, said, waited } = tool(world);
  const { says, list } = await run(REPLACE);
  t.equal(says, 'host 3 at new-1:7400 votes in the place of host 2');
  t.same(
    list.hosts.map(({ id }) => id),
    [0, 1, 3],
  );
  t.same(said, [
    'the feature membership is on',
    'the log knows the data directory of host 0',
    'the log knows the data directory of host 1',
    'host 2 can no longer return: the log lists another data directory in its place',
    'new-1:7400 is listed, as a learner',
    'epoch 1 is decided: voters 0, 1, 3',
  ]);
  t.equal(waited[0], 'host 2 does not answer: waits whether that lasts 5 s (--silence)');
  t.ok(waited.includes('host 3 at new-1:7400 copies the state'));
});

t.test('a host that is being started is waited for; one that stays away is not', async (t) => {
  const world = burntDown();
  world.processes.delete(NEW);
  const late = tool(world);
  late.at(3_000, () => world.joins(NEW, 900));
  t.match(await late.run(REPLACE), { says: /votes in the place of host 2/ });

  const other = burntDown();
  other.processes.delete(NEW);
  const never = tool(other);
  await t.rejects(never.run(REPLACE), {
    code: 'member-unreachable',
    exitCode: 1,
    message: /nobody answers at new-1:7400/,
  });
  t.ok(never.now() >= 5_000 && never.now() < 6_000, 'not before the patience has ended, and not much later');
  t.match(never.waited[0], /^waits for up to 5 s, since this may pass: nobody answers at new-1:7400/);
  t.equal(other.membership.index, 0, 'nothing was changed');
});

t.test('a host that was busy for a moment is not replaced; one that stays silent is', async (t) => {
  const world = new World(3);
  world.joins(NEW, 900);
  world.down.add(2);
  const { run, at, said } = tool(world);
  at(4_000, () => world.down.delete(2));
  await t.rejects(run(REPLACE), { code: 'member-alive', message: /host 2 answers and is well/ });
  t.same(said, []);
  t.equal(world.membership.index, 0, 'nothing was changed');

  world.status.set(2, 'recovering');
  const other = tool(world);
  t.match(await other.run(REPLACE), { says: /votes in the place of host 2/ });
  t.equal(other.waited[0], 'host 2 does not serve: waits whether that lasts 5 s (--silence)');

  const alive = new World(3);
  alive.joins(NEW, 900);
  const asked = tool(alive);
  t.match(await asked.run({ ...REPLACE, alive: true }), { says: /votes in the place of host 2/ });
  t.ok(asked.now() < 5_000, 'nobody waits for the silence of a host that may answer');
});

t.test('it is the same refusal that has to last', async (t) => {
  const world = burntDown();
  world.processes.delete(NEW);
  const blinking = tool(world);
  blinking.at(4_000, () => {
    world.joins(NEW, 900);
    world.down.add(1); // a majority is missing
  });
  blinking.at(8_000, () => world.down.delete(1));
  t.match(await blinking.run(REPLACE), { says: /votes in the place of host 2/ });
});

t.test('not in time: exit code 3, and the same command goes on', async (t) => {
  const world = burntDown();
  world.mayBegin = false;
  const slow = tool(world);
  await t.rejects(slow.run(REPLACE, 20_000), {
    code: 'members-not-decided',
    exitCode: 3,
    message:
      /not done within 20 s: epoch 1 is decided: voters 0, 1, 3\. It begins when .*; host 2 can no longer return, so run the same/,
  });
  world.mayBegin = true;
  const again = tool(world);
  t.match(await again.run(REPLACE), { says: /votes in the place of host 2/ });
  t.same(again.said, [], 'no step is done twice');
});

t.test('nobody can tell who the members are', async (t) => {
  const { run, waited, now } = tool(new World(3), { look: async () => 'no majority of the voters answers' });
  await t.rejects(run(REPLACE), {
    code: 'cluster-unavailable',
    message:
      /^no majority of the voters answers\. If the members are at other addresses by now, take a newer cluster file/,
  });
  t.equal(waited[0], 'no majority of the voters answers');
  t.ok(now() >= 5_000 && now() < 6_000, 'not before the patience has ended, and not much later');
});

t.test('nobody answers any more in the middle of a change', async (t) => {
  const world = burntDown();
  world.mayBegin = false;
  let isCut = false;
  const { run, at } = tool(world, {
    look: async (request, began) =>
      isCut ? 'no replica answers' : world.see(addressesOf(request), began ?? world.membership.started),
  });
  at(10_000, () => {
    isCut = true;
  });
  await t.rejects(run(REPLACE), {
    code: 'cluster-unavailable',
    message: /^no replica answers; host 2 can no longer return, so run the same command again: it goes on where it is/,
  });
  const again = tool(world);
  again.at(400, () => {
    world.mayBegin = true;
  });
  t.match(await again.run(REPLACE), { says: /votes in the place of host 2/ });
});

t.test('an answer that is lost costs another look, and no second entry', async (t) => {
  const world = burntDown();
  let lost = 0;
  const { run } = tool(world, {
    change: async (operation) => {
      const outcome = world.enter(operation);
      const { started, decided } = world.membership;
      if (++lost % 2 === 1) return undefined;
      return { outcome: outcome as 0, id: undefined, started, decided };
    },
  });
  t.match(await run(REPLACE), { says: /votes in the place of host 2/ });
  t.equal(world.membership.nextId, 4);
});

t.test('a host that answers with the list before the last step does not bring that step again', async (t) => {
  const world = burntDown();
  const steps: string[] = [];
  let stale = 0;
  let before = world.see([NEW], 0);
  const { run, waited } = tool(world, {
    look: async (request, began) => {
      if (stale-- > 0) return before;
      return (before = world.see(addressesOf(request), began ?? 0));
    },
    change: async (operation) => {
      steps.push(operation.kind);
      stale = 8; // long enough to be told
      const outcome = world.enter(operation);
      if (operation.kind === 'change') world.begin();
      const { started, decided } = world.membership;
      return { outcome: outcome as 0, id: undefined, started, decided };
    },
  });
  t.match(await run(REPLACE), { says: /votes in the place of host 2/ });
  t.same(steps, ['name', 'name', 'name', 'learn', 'change']);
  t.ok(waited.includes('the hosts that answer do not know yet of the last step'));
});

t.test(
  "another operator's entry between the list and a step: that the list has grown does not show the step",
  async (t) => {
    const world = burntDown();
    const steps: string[] = [];
    let stale = 0;
    let between: ReturnType<World['see']> | undefined;
    const { run } = tool(world, {
      look: async (request, began) => {
        const now = world.see(addressesOf(request), began ?? 0);
        if (stale-- <= 0) return now;
        // The host at the address has begun, as the log says, and whoever was asked for the list does not know of it.
        return { ...between!, found: new Map([[NEW, { kind: 'other' } as const]]) };
      },
      change: async (operation) => {
        steps.push(operation.kind);
        if (operation.kind === 'learn') {
          world.enter({ kind: 'learn', address: OTHER, identityHi: 7, identityLo: 8 });
          between = world.see([NEW], 0);
          stale = 8;
        }
        const outcome = world.enter(operation);
        const { started, decided } = world.membership;
        return { outcome: outcome as 0, id: undefined, started, decided };
      },
    });
    t.match(await run(REPLACE), { says: /votes in the place of host 2/ });
    t.same(steps, ['name', 'name', 'name', 'learn', 'change']);
  },
);

t.test('another operator adds the same host between the question for the list and that at its address', async (t) => {
  const world = new World(3);
  world.joins(NEW, 900);
  const early = world.see([NEW], 0);
  world.isOn = true;
  for (const id of [0, 1, 2])
    world.enter({ kind: 'name', id, address: ADDRESS(id), identityHi: 0, identityLo: 0xabc000 + id });
  world.enter({ kind: 'learn', address: NEW, identityHi: 0, identityLo: 0xabc000 + 900 });
  let looks = 0;
  const { run } = tool(world, {
    look: async (request, began) =>
      looks++ === 0
        ? { ...early, isOn: true, found: new Map([[NEW, { kind: 'other' } as const]]) }
        : world.see(addressesOf(request), began ?? 0),
  });
  t.match(await run({ kind: 'add-learner', address: NEW }), { says: /is a learner, and has caught up/ });

  const foreign = new World(3);
  foreign.says.set(NEW, { kind: 'other' });
  const lasting = tool(foreign);
  await t.rejects(lasting.run({ kind: 'add-learner', address: NEW }), {
    code: 'member-unfit',
    message: /a host that is added begins with an empty one/,
  });
  t.ok(lasting.now() >= 1_000 && lasting.now() < 2_000, 'what stays so for a second is so');
});

t.test('a primary that is in another epoch than was seen: it is looked at again, and once only', async (t) => {
  const refused = (): never => {
    throw new JitPaxosError('operation-refused', 'the primary does not take a change');
  };
  const world = burntDown();
  let asked = 0;
  const { run } = tool(world, {
    change: async (operation) => {
      if (operation.kind === 'change' && asked++ === 0) refused();
      const outcome = world.enter(operation);
      const { started, decided } = world.membership;
      return { outcome: outcome as 0, id: undefined, started, decided };
    },
  });
  t.match(await run(REPLACE), { says: /votes in the place of host 2/ });
  t.equal(asked, 2);
  const never = tool(burntDown(), { change: async () => refused() });
  await t.rejects(never.run(REPLACE), { code: 'operation-refused' });
});

t.test('an operation that the log does not take is not asked for again and again', async (t) => {
  const world = burntDown();
  let asked = 0;
  const { run } = tool(world, {
    change: async () => {
      asked++;
      return { outcome: 7, id: undefined, started: 4, decided: 5 };
    },
  });
  await t.rejects(run(REPLACE), {
    code: 'change-pending',
    message: /the log refuses the name: change-pending, and epoch 4 runs, and 5 is decided; look with/,
  });
  t.equal(asked, 2);
});

t.test('the second of two operators is told what was decided', async (t) => {
  const world = burntDown();
  world.joins(OTHER, 901);
  world.mayBegin = false;
  const first = tool(world);
  await t.rejects(first.run(REPLACE, 10_000), { code: 'members-not-decided' });
  await t.rejects(tool(world).run({ ...REPLACE, address: OTHER }), {
    code: 'change-pending',
    exitCode: 1,
    message: /another change is decided: epoch 1 with voters 0, 1, 3/,
  });
});

t.test('how far a copy is: bytes, rate, what is missing, and the time that is left', (t) => {
  const host = { status: 'normal', version: '1', knows: true, speaks: 5, identity: undefined };
  const copying = new Copying();
  t.equal(copying.describe(undefined, 0), '');
  t.equal(
    copying.describe({ ...host, behind: undefined, receivedBytes: 1 << 20 }, 0),
    '1.00 MiB received',
    'nothing is said that is not known',
  );
  t.equal(
    copying.describe({ ...host, behind: 9_000, receivedBytes: 11 << 20 }, 1_000),
    '11.0 MiB received, 10.0 MiB/s, 9000 entries behind',
  );
  const entries = new Copying();
  entries.describe({ ...host, behind: 10_000, receivedBytes: 0 }, 0);
  t.equal(
    entries.describe({ ...host, behind: 8_000, receivedBytes: 4096 }, 2_000),
    '4.00 KiB received, 2.00 KiB/s, 8000 entries behind, 8 s left',
  );
  t.match(
    entries.describe({ ...host, behind: 8_000, receivedBytes: 4096 }, 20_000),
    /0 B\/s, 8000 entries behind$/,
    'where nothing moves, no time is left to tell',
  );
  t.match(
    entries.describe({ ...host, behind: 8_000, receivedBytes: 100 }, 21_000),
    /^100 B received, 8000 entries behind$/,
    'a process that was started again counts anew',
  );
  t.end();
});

t.test('the line is drawn again on a terminal only', (t) => {
  const notes: string[] = [];
  const written: string[] = [];
  const output = (terminal: boolean): Output => ({
    line: () => undefined,
    note: (text) => void notes.push(text),
    json: false,
    quiet: false,
    terminal,
    colours: false,
  });
  const stream = (isTTY: boolean) => ({
    isTTY,
    columns: 40,
    write: (text: string) => written.push(text) > 0,
  });
  const host = {
    status: 'normal',
    version: '1',
    knows: true,
    speaks: 5,
    identity: undefined,
    behind: 7,
    receivedBytes: 0,
  };
  const plain = new Progress(output(false), stream(false) as never);
  for (const ms of [0, 200, 400, 5_000, 5_200]) plain.waits('host 3 copies', { id: 3, host }, ms);
  plain.done('it has caught up');
  t.same(notes, [
    'host 3 copies: 0 B received, 7 entries behind',
    'host 3 copies: 0 B received, 0 B/s, 7 entries behind',
    'it has caught up',
  ]);
  t.same(written, []);
  notes.length = 0;
  const drawn = new Progress(output(true), stream(true) as never);
  drawn.waits('host 3 copies the state of the cluster', { id: 3, host }, 0);
  drawn.done('it has caught up');
  t.same(written, ['\r\x1b[2Khost 3 copies the state of the cluster:', '\r\x1b[2K']);
  t.same(notes, ['it has caught up']);
  t.end();
});
