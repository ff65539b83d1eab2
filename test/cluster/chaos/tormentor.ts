/**
 * Torments the cluster: the processes (SIGKILL, SIGSTOP, restarts), the network, the disks, the clocks, the readers of
 * logs and the host, all at the same time, and all drawn from the seed. The seed decides what is drawn, and in which
 * order; the machine decides when a step ends. So a seed repeats the same trouble, not the same run.
 *
 * The rule: nothing is done that the cluster does not promise to survive. In durability `memory` at most f replicas are
 * without their log at a time, so the next one is killed only when all have one again; in `os` and `fsync` all may be
 * killed at once.
 */
import type { LocalCluster, ReplicaProcess } from '../../../src/measure/local-cluster.js';
import type { ReplicaStatusReport } from '../../../src/host/status.js';
import type { Random } from '../../../src/sim/random.js';
import { BUSY_MAX, type Busy } from './busy.js';
import type { Clocks } from './clocks.js';
import type { Disks } from './disks.js';
import { FAIR, type Relay, type Weather } from './relay.js';
import { recovery, sleep } from './verdict.js';

const CUT: Weather = { ...FAIR, cut: true };
/** Once the trouble is over, how long all replicas may take to return to normal operation. */
const RECOVERY_LIMIT_MS = 30_000;
/**
 * A replica that refused to start, because of a full disk or an unset clock, is started again after this, as a
 * supervisor would.
 */
const RESTART_MS = 50;
/**
 * What a filled disk may have left, bytes: nothing; room for the lock, but no segment of the log; room for one segment,
 * but not the next.
 */
const LEFT_OVER = [0, 16 << 10, 100 << 10] as const;
/** How long replicas may run into their full disks before they are killed. */
const DROWNING_MS_MAX = 4_000;

export class Tormentor {
  /** What was done, by name. */
  readonly done: Record<string, number> = {};
  /** Replicas that ended although they were not killed, with their last words. */
  readonly fallen: string[] = [];
  private readonly killed = new Set<number>();
  private readonly n: number;
  private readonly f: number;
  private endMs = 0;
  private storageFailures = 0;

  constructor(
    private readonly cluster: LocalCluster,
    private readonly relay: Relay,
    private readonly clients: readonly string[],
    /** Undefined: the disks stay as they are. */
    private readonly disks: Disks | undefined,
    private readonly clocks: Clocks | undefined,
    private readonly busy: Busy,
    private readonly random: Random,
    private readonly say: (line: string) => void,
  ) {
    this.n = cluster.options.replicas;
    this.f = (this.n - 1) / 2;
    for (let id = 0; id < this.n; id++) this.watch(id);
  }

  /** Torments for this long. Everything that was begun is then ended: all replicas run, the network is fair. */
  async run(ms: number): Promise<void> {
    this.endMs = performance.now() + ms;
    const { random } = this;
    await Promise.all([
      this.processes(random.fork('processes')),
      this.network(random.fork('network')),
      this.fullDisks(random.fork('disks')),
      this.wrongClocks(random.fork('clocks')),
      this.clocksSetRight(random.fork('set right')),
      this.readersGone(random.fork('readers')),
      this.load(random.fork('load')),
    ]);
    this.relay.heal();
  }

  /**
   * Waits until every replica is in normal operation and holds everything committed. Returns the time it took, ms.
   * Throws if it takes too long.
   */
  recovery(): Promise<number> {
    const reports = async (): Promise<(ReplicaStatusReport | undefined)[]> =>
      (await this.cluster.ask('stats')).map((answer) => answer?.status as ReplicaStatusReport | undefined);
    return recovery('replicas', [...Array(this.n).keys()], reports, RECOVERY_LIMIT_MS);
  }

  private get left(): number {
    return this.endMs - performance.now();
  }

  private async processes(random: Random): Promise<void> {
    const keepsLog = this.cluster.options.durability !== 'memory';
    while (this.left > 0 && this.fallen.length === 0) {
      await sleep(random.between(20, 400));
      const draw = random.unit();
      if (draw < 0.1 && keepsLog && this.disks !== undefined)
        await this.drown(this.disks, this.some(random, random.between(this.f + 1, this.n)), random);
      else if (draw < 0.3) await this.kill(this.some(random, random.between(1, this.f)), random);
      else if (draw < 0.5)
        await this.kill(this.some(random, keepsLog ? random.between(this.f + 1, this.n) : this.f), random);
      else if (draw < 0.75) await this.ambush(random);
      else await this.pause(this.some(random, random.between(1, this.f)), random.between(20, 1_000));
      if (!keepsLog) await this.haveLogs();
    }
  }

  /** @param dead called when the victims are gone, before they return */
  private async kill(victims: readonly number[], random: Random, dead = (): void => undefined): Promise<void> {
    this.note(victims.length > this.f ? 'kills of a majority at once' : 'kills', `kill ${victims.join(',')}`);
    this.count('replicas killed', victims.length);
    const ended = victims.map((id) => {
      const { child, exited } = this.cluster.replicas[id]!;
      return exited ? undefined : new Promise<void>((resolve) => child.once('exit', () => resolve()));
    });
    for (const id of victims) {
      this.killed.add(id);
      this.cluster.replicas[id]!.kill('SIGKILL');
    }
    await Promise.all(ended);
    dead();
    await sleep(random.between(0, 600));
    await Promise.all(
      victims.map(async (id) => {
        this.killed.delete(id);
        await this.start(id);
      }),
    );
    this.say(`${victims.join(',')} back`);
  }

  /** Starts a dead replica, repeatedly while its disk is full or its clock unusable. */
  private async start(id: number): Promise<void> {
    for (;;) {
      const replica = this.cluster.spawn(id);
      this.watch(id);
      try {
        await replica.waitReady();
        return;
      } catch (error) {
        const why = refusal(replica);
        if (why === undefined) throw error;
        this.note(`starts refused for ${why}`, `${id} does not start for ${why}`);
      }
      await sleep(RESTART_MS);
    }
  }

  /**
   * For a moment only clients reach the primary, and it reaches no replica; then it is killed. What only it had must
   * not have been acknowledged.
   */
  private async ambush(random: Random): Promise<void> {
    const answers = await this.cluster.ask('stats');
    const reports = answers
      .map((answer) => answer?.status as ReplicaStatusReport | undefined)
      .filter((report) => report?.status === 'normal');
    if (reports.length === 0) return;
    const { primary } = reports.reduce((a, b) => (b!.view > a!.view ? b : a))!;
    const ms = random.between(5, 60);
    this.note('ambushes', `ambush ${primary} for ${ms} ms`);
    for (let id = 0; id < this.n; id++) {
      if (id === primary) continue;
      for (const client of this.clients) this.relay.set(client, String(id), CUT);
      this.relay.set(String(primary), String(id), CUT);
    }
    await sleep(ms);
    await this.kill([primary], random, () => this.relay.heal());
  }

  /**
   * Fills the disks of a majority, waits until a log needs room, and kills all of them while there is none: what was
   * acknowledged meanwhile must not be lost.
   */
  private async drown(disks: Disks, victims: readonly number[], random: Random): Promise<void> {
    this.note('killed with full disks', `fill the disks of ${victims.join(',')}, and kill them`);
    await Promise.all(victims.map((id) => disks.fill(id, 0)));
    const before = this.storageFailures;
    // A replica whose log has no reader reports it in vain.
    const speaking = victims.filter((id) => this.cluster.replicas[id]!.child.stderr?.destroyed === false).length;
    for (
      const until = performance.now() + DROWNING_MS_MAX;
      performance.now() < until && this.storageFailures - before < speaking;
      await sleep(20)
    );
    await sleep(random.between(0, 300));
    await this.kill(victims, random, () => void Promise.all(victims.map((id) => disks.empty(id))));
  }

  private async pause(victims: readonly number[], ms: number): Promise<void> {
    this.note('pauses', `stop ${victims.join(',')} for ${ms} ms`);
    for (const id of victims) this.cluster.replicas[id]!.kill('SIGSTOP');
    await sleep(ms);
    for (const id of victims) this.cluster.replicas[id]!.kill('SIGCONT');
  }

  /**
   * Memory only: waits until no replica is without a log, or far beyond the time limit, which `recovery` then reports.
   */
  private async haveLogs(): Promise<void> {
    for (const limit = performance.now() + RECOVERY_LIMIT_MS; performance.now() < limit; await sleep(20)) {
      const answers = await this.cluster.ask('stats');
      if (
        answers.every(
          (answer) => answer !== undefined && (answer.status as unknown as ReplicaStatusReport).logView >= 0,
        )
      )
        return;
      // A replica may be cut off until the end; it must not be killed before it has a log.
      if (this.left <= 0) return;
    }
  }

  private async network(random: Random): Promise<void> {
    const { relay } = this;
    while (this.left > 0 && this.fallen.length === 0) {
      await sleep(random.between(50, 800));
      const ms = random.between(50, 1_500);
      switch (random.below(5)) {
        case 0:
          this.note('isolations', `isolate ${this.cutOff(this.some(random, random.between(1, this.f)))} for ${ms} ms`);
          break;
        case 1: {
          const [a, b] = this.some(random, 2) as [number, number];
          this.note('one-way cuts', `cut ${a}>${b} for ${ms} ms`);
          relay.set(String(a), String(b), CUT);
          break;
        }
        case 2: {
          const client = random.pick(this.clients);
          const replica = random.below(this.n);
          this.note('client cuts', `cut ${client} and ${replica} for ${ms} ms`);
          relay.set(client, String(replica), CUT);
          relay.set(String(replica), client, CUT);
          break;
        }
        default: {
          const weather: Weather = {
            cut: false,
            loss: random.unit() * 0.3,
            duplication: random.unit() * 0.3,
            delayed: random.unit() * 0.5,
            delayMsMax: random.between(1, random.chance(0.2) ? 200 : 20),
          };
          this.note(
            'storms',
            `loss ${percent(weather.loss)}, repeated ${percent(weather.duplication)}, delayed ${percent(weather.delayed)} by up to ${weather.delayMsMax} ms, for ${ms} ms`,
          );
          relay.setGeneral(weather);
        }
      }
      await sleep(Math.min(ms, Math.max(0, this.left)));
      relay.heal();
    }
  }

  /** For any replicas, even all at once: a full disk costs acknowledgements, never acknowledged data. */
  private async fullDisks(random: Random): Promise<void> {
    const { disks } = this;
    if (disks === undefined) return;
    while (this.left > 0 && this.fallen.length === 0) {
      await sleep(random.between(100, 2_000));
      const ms = random.between(100, 2_000);
      const ids = this.some(random, random.between(1, this.n));
      const leave = random.pick(LEFT_OVER);
      this.note('full disks', `fill the disks of ${ids.join(',')} but for ${leave >> 10} KiB, for ${ms} ms`);
      await Promise.all(ids.map((id) => disks.fill(id, leave)));
      await sleep(Math.min(ms, Math.max(0, this.left)));
      await Promise.all(ids.map((id) => disks.empty(id)));
    }
  }

  /** For any replicas: a clock affects how fast an answer comes, never the answer. */
  private async wrongClocks(random: Random): Promise<void> {
    const { clocks } = this;
    if (clocks === undefined) return;
    while (this.left > 0 && this.fallen.length === 0) {
      await sleep(random.between(100, 1_500));
      const ms = random.between(50, 1_500);
      const ids = this.some(random, random.between(1, this.n));
      for (const id of ids) this.note('wrong clocks', `clock of ${id}: ${clocks.disturb(id, random)}, for ${ms} ms`);
      await sleep(Math.min(ms, Math.max(0, this.left)));
      for (const id of ids) clocks.mend(id);
    }
  }

  /** Ahead since the start, all by the same amount: then set right, all at once. */
  private async clocksSetRight(random: Random): Promise<void> {
    const { clocks } = this;
    if (clocks === undefined || clocks.aheadNs === 0) return;
    await sleep(this.left * (0.2 + 0.5 * random.unit()));
    this.note(
      'clocks of all hosts set right',
      `the clocks of all hosts, ${(clocks.aheadNs / 1e9).toFixed(3)} s ahead, are set right`,
    );
    clocks.setRight();
  }

  /**
   * For any replicas, even all at once: stdout and stderr lose their reader for the rest of the process's life. Writes
   * to them fail from then on.
   */
  private async readersGone(random: Random): Promise<void> {
    while (this.left > 0 && this.fallen.length === 0) {
      await sleep(random.between(100, 1_500));
      const ids = this.some(random, random.between(1, this.n)).filter(
        (id) => this.cluster.replicas[id]!.ready !== undefined,
      );
      if (ids.length === 0) continue;
      this.note('readers of logs gone', `nobody reads the logs of ${ids.join(',')} any more`);
      for (const id of ids) {
        const { child } = this.cluster.replicas[id]!;
        child.stdout?.destroy();
        child.stderr?.destroy();
      }
    }
  }

  private async load(random: Random): Promise<void> {
    while (this.left > 0 && this.fallen.length === 0) {
      await sleep(random.between(100, 1_500));
      const count = random.between(1, BUSY_MAX);
      const ms = random.between(100, 1_500);
      this.note('busy hosts', `${count} busy processes for ${ms} ms`);
      await this.busy.run(count, Math.min(ms, Math.max(0, this.left)));
    }
  }

  /** Cuts these replicas off from everything else, and from each other. */
  private cutOff(replicas: readonly number[]): string {
    const all = [...Array.from({ length: this.n }, (_, id) => String(id)), ...this.clients];
    for (const id of replicas) {
      for (const other of all) {
        this.relay.set(String(id), other, CUT);
        this.relay.set(other, String(id), CUT);
      }
    }
    return replicas.join(',');
  }

  private some(random: Random, count: number): number[] {
    return random.shuffle(Array.from({ length: this.n }, (_, id) => id)).slice(0, count);
  }

  private watch(id: number): void {
    const replica = this.cluster.replicas[id]!;
    // Counted, so that a run tells whether a running replica met its full disk.
    replica.child.stderr?.on('data', (text: string) => {
      if (!text.includes('storage.failed')) return;
      this.storageFailures++;
      this.count('times that storage failed');
    });
    replica.child.once('exit', (code, signal) => {
      if (!this.killed.has(id) && this.cluster.replicas[id] === replica && !this.over && refusal(replica) === undefined)
        this.fallen.push(
          `replica ${id} ended with ${signal ?? `exit code ${code}`}: ${replica.complaint.trim().split('\n').at(-1) ?? ''}`,
        );
    });
  }

  /** The replicas are about to be stopped: from now on an end does not count as a fall. */
  over = false;

  private note(what: string, line: string): void {
    this.count(what);
    this.say(line);
  }

  private count(what: string, by = 1): void {
    this.done[what] = (this.done[what] ?? 0) + by;
  }
}

/**
 * Why it did not start to serve, if it rightly refused; undefined otherwise. A replica that serves continues, whatever
 * happens to disk and clock.
 */
function refusal(replica: ReplicaProcess): string | undefined {
  if (replica.ready !== undefined) return undefined;
  if (replica.complaint.includes('ENOSPC')) return 'a full disk';
  return /clock-(not-set|not-found|lost|unavailable)/.exec(replica.complaint)?.[0];
}

function percent(share: number): string {
  return `${Math.round(share * 100)} %`;
}
