// The lock of a data directory, step by step: many starters, stopped and killed anywhere, in drawn orders.
import t from 'tap';
import { Random } from '../../src/sim/random.js';
import { lockSteps, type Holder, type LockSystem } from '../../src/storage/directory-lock.js';

const SEEDS = 4_000;
const BOOT = 'this boot';

class Host {
  readonly files = new Map<string, string>();
  readonly alive = new Set<number>();
  private pids = 0;
  private names = 0;

  starter(): Starter {
    const pid = ++this.pids;
    this.alive.add(pid);
    return new Starter(this, pid);
  }

  unique(pid: number, random: Random): string {
    return `${random.below(100)}.${pid}.${++this.names}`; // the order of names is drawn too
  }
}

class Starter {
  /** Undefined while it is under way. */
  ended: 'holds' | 'refused' | undefined;
  waits = 0;
  private steps: ReturnType<typeof lockSteps> | undefined;

  constructor(
    private readonly host: Host,
    readonly pid: number,
  ) {}

  step(random: Random): void {
    this.steps ??= lockSteps(this.system(random));
    const { done, value } = this.steps.next();
    if (done === true) this.ended = value === undefined ? 'holds' : 'refused';
    else if (value !== undefined) this.waits++;
  }

  private system(random: Random): LockSystem {
    const { host, pid } = this;
    const self: Holder = { pid, started: `${pid}`, boot: BOOT };
    const { files } = host;
    return {
      self,
      isAlive: (holder) => holder.boot === BOOT && host.alive.has(holder.pid),
      names: () => [...files.keys()],
      read: (name) => files.get(name),
      write: (name, content) => void files.set(name, content),
      link: (from, to) => {
        if (files.has(to)) return false;
        files.set(to, files.get(from)!);
        return true;
      },
      unlink: (name) => void files.delete(name),
      unique: () => host.unique(pid, random),
    };
  }
}

/** What went wrong with a seed. */
function run(seed: number): string | undefined {
  const random = new Random(seed);
  const host = new Host();
  if (random.chance(0.7))
    host.files.set(
      'lock',
      random.pick([
        '',
        JSON.stringify({ pid: 99, started: '99', boot: BOOT }),
        JSON.stringify({ pid: 1, started: '1', boot: 'before' }),
      ]),
    );
  const deadly = random.pick([0, 0.02, 0.1]);
  let starters = Array.from({ length: 2 + random.below(3) }, () => host.starter());
  for (let steps = 0; ; steps++) {
    if (steps > 20_000) return 'without an end';
    const under = starters.filter(({ ended }) => ended === undefined);
    if (under.length === 0) break;
    // A few steps of one, so that the others' may be far behind.
    const starter = random.pick(under);
    for (let n = 1 + random.below(random.pick([1, 3, 12])); n > 0 && starter.ended === undefined; n--)
      starter.step(random);
    const holders = starters.filter(({ ended }) => ended === 'holds');
    if (holders.length > 1) return `${holders.length} hold it`;
    if (random.chance(deadly)) {
      const victim = random.pick(starters);
      host.alive.delete(victim.pid); // a holder, too
      starters = starters.filter((other) => other !== victim);
    }
    if (random.chance(deadly) && starters.length < 6) starters.push(host.starter());
  }
  const holders = starters.filter(({ ended }) => ended === 'holds').length;
  if (deadly === 0 && holders !== 1) return `${holders} hold it in the end`;
  // All are killed: the next one gets it at once, and leaves nothing else.
  host.alive.clear();
  const next = host.starter();
  for (let steps = 0; next.ended === undefined && steps < 1_000; steps++) next.step(random);
  if (next.ended !== 'holds' || next.waits > 0)
    return `the next one: ${next.ended}, ${next.waits} waits, beside ${[...host.files.keys()].join(' ')}`;
  const left = [...host.files.keys()].filter((name) => name !== 'lock');
  if (left.length > 0) return `left: ${left.join(' ')}`;
  return undefined;
}

t.test(`one of many gets it, and a crash anywhere locks it for nobody: seeds 1 to ${SEEDS}`, (t) => {
  const wrong: string[] = [];
  for (let seed = 1; seed <= SEEDS; seed++) {
    const what = run(seed);
    if (what !== undefined) wrong.push(`seed ${seed}: ${what}`);
  }
  t.same(wrong.slice(0, 5), []);
  t.end();
});
