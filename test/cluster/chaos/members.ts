/**
 * A chaos run in which the members change: an operator's tool replaces, adds and removes hosts without end, and is killed
 * itself; replicas, old and new, are killed and stopped in the middle of it. One client is idle meanwhile.
 *
 * The rule: nothing is done that the cluster does not promise to survive. In durability `memory` one process at most is
 * without its log at a time: the next one is killed when all have one again. A host that was removed runs on, and tells
 * others who the members are.
 */
import { Client } from '../../../src/client/client.js';
import type { ReplicaStatusReport } from '../../../src/host/status.js';
import { silentLogger } from '../../../src/host/logger.js';
import { LocalCluster, MAIN, type JoiningProcess, type ReplicaProcess } from '../../../src/measure/local-cluster.js';
import { Random } from '../../../src/sim/random.js';
import { spawn } from 'node:child_process';
import { Load } from './load.js';
import type { ChaosOptions, ChaosResult } from './run.js';
import { recovery, sleep, verdictOf } from './verdict.js';

const CLIENTS = 3;
const PROCESSES_A_CLIENT = 2;
const READ_BACK_LANES = 16;
const COMMIT_LIMIT_MS = 30_000;
/** Once the trouble is over, how long it may take until all voters serve in one view. */
const RECOVERY_LIMIT_MS = 60_000;
/** The last command, when nothing disturbs it any more. */
const COMMAND_LIMIT_MS = 120_000;
/** Of five voters two leave next, of three one is replaced or two more come. */
const VOTERS_MAX = 5;
const SEGMENT_BYTES = 64 << 10;

/** What a command of the tool printed last, and how it ended. */
interface CommandEnd {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

interface Listed {
  readonly voters: readonly number[];
  readonly hosts: readonly { readonly id: number; readonly address: string; readonly votes: boolean }[];
}

class Members {
  readonly done: Record<string, number> = {};
  /** Processes that ended although they were not killed. */
  readonly fallen: string[] = [];
  over = false;
  private readonly killed = new Set<ReplicaProcess>();
  /** Hosts that were silent for too long when their place was given away: the tool has said that they cannot return. */
  private readonly barred = new Set<number>();
  /** As the last finished command said. */
  private voters: readonly number[];
  /** Waiting processes whose command has not ended. */
  private readonly joiners: JoiningProcess[] = [];
  private endMs = 0;

  constructor(
    private readonly cluster: LocalCluster,
    private readonly random: Random,
    private readonly say: (line: string) => void,
  ) {
    this.voters = cluster.replicas.map(({ id }) => id);
    for (const replica of cluster.replicas) this.watch(replica);
  }

  async run(ms: number): Promise<void> {
    this.endMs = performance.now() + ms;
    await Promise.all([this.operator(this.random.fork('operator')), this.processes(this.random.fork('processes'))]);
  }

  /** Waits until all voters serve in one view. Returns the time it took, ms. */
  recovery(): Promise<number> {
    const reports = (): Promise<(ReplicaStatusReport | undefined)[]> =>
      Promise.all(this.voters.map((id) => this.status(id)));
    return recovery('voters', this.voters, reports, RECOVERY_LIMIT_MS);
  }

  /** The highest view that a voter is in. */
  async view(): Promise<number> {
    const reports = await Promise.all(this.voters.map((id) => this.status(id)));
    return Math.max(0, ...reports.map((report) => report?.view ?? 0));
  }

  private get left(): number {
    return this.endMs - performance.now();
  }

  private async status(id: number): Promise<ReplicaStatusReport | undefined> {
    const answer = await this.cluster.replicas[id]?.ask('stats');
    return answer?.status as ReplicaStatusReport | undefined;
  }

  /** One command after the other; each is killed now and then, and run again until it is done. */
  private async operator(random: Random): Promise<void> {
    while (this.left > 0 && this.fallen.length === 0) {
      const args = await this.choose(random);
      this.note(`commands ${args[1]}`, `jitpaxos ${args.join(' ')}`);
      for (let tries = 0; ; tries++) {
        const mayKill = this.left > 0 && random.chance(0.3);
        const ended = await this.command(args, mayKill ? random.between(200, 2_500) : undefined);
        if (ended.code === 0) {
          await this.finished(JSON.parse(ended.stdout) as Listed);
          break;
        }
        if (ended.code === null) this.count('tools killed');
        // A host that is killed just now does not answer; the command is refused, or is late, and is run again.
        else this.note('commands refused', ended.stderr.trim().split('\n').at(-1) ?? '');
        if (tries > 200 || (this.left < -COMMAND_LIMIT_MS && ended.code !== null))
          throw new Error(`jitpaxos ${args.join(' ')} does not come to its end: ${ended.stderr.trim()}`);
        await sleep(100);
      }
    }
  }

  private async choose(random: Random): Promise<readonly string[]> {
    const { voters } = this;
    if (voters.length >= VOTERS_MAX)
      return [
        'member',
        'remove',
        ...random
          .shuffle([...voters])
          .slice(0, 2)
          .map(String),
      ];
    if (random.chance(0.4)) {
      await this.joining(2);
      return ['member', 'add', ...this.joiners.map(({ address }) => address)];
    }
    await this.joining(1);
    return ['member', 'replace', String(random.pick(voters)), this.joiners[0]!.address, '--alive'];
  }

  private async joining(count: number): Promise<void> {
    while (this.joiners.length < count) {
      const joiner = await this.cluster.spawnJoining();
      this.watch(joiner.process);
      this.joiners.push(joiner);
    }
  }

  /** Starts the tool, and kills it after that time. */
  private command(args: readonly string[], killAfterMs: number | undefined): Promise<CommandEnd> {
    const flags = ['--cluster', this.cluster.clusterFile, '--json', '--timeout', '20s', '--silence', '3s'];
    const child = spawn(process.execPath, [MAIN, ...args, ...flags], { stdio: ['ignore', 'pipe', 'pipe'] });
    const [said, complained]: [string[], string[]] = [[], []];
    child.stdout.setEncoding('utf8').on('data', (text: string) => said.push(text));
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      complained.push(text);
      for (const [, id] of complained.join('').matchAll(/host (\d+) can no longer return/g))
        this.barred.add(Number(id));
    });
    const timer = killAfterMs === undefined ? undefined : setTimeout(() => child.kill('SIGKILL'), killAfterMs);
    return new Promise((resolve) =>
      child.once('close', (code) => {
        clearTimeout(timer);
        resolve({ code, stdout: said.join(''), stderr: complained.join('') });
      }),
    );
  }

  private async finished({ voters }: Listed): Promise<void> {
    for (const joiner of this.joiners.splice(0)) await this.cluster.joins(joiner);
    this.voters = voters;
    this.say(`voters ${voters.join(', ')}`);
  }

  /** Voters, and processes that join, are killed and stopped. */
  private async processes(random: Random): Promise<void> {
    const keepsLog = this.cluster.options.durability !== 'memory';
    while (this.left > 0 && this.fallen.length === 0) {
      await sleep(random.between(20, 1_000));
      const { voters } = this;
      const f = (voters.length - 1) / 2;
      const some = (count: number): number[] =>
        random
          .shuffle([...voters])
          .slice(0, count)
          .filter((id) => this.cluster.replicas[id] !== undefined);
      if (random.chance(0.4)) await this.pause(some(random.between(1, f)), random.between(20, 1_000));
      else if (keepsLog) await this.kill(some(random.between(1, voters.length)), random);
      else await this.kill(some(1), random);
      if (!keepsLog) await this.haveLogs();
    }
  }

  private async kill(victims: readonly number[], random: Random): Promise<void> {
    this.note(
      victims.length > (this.voters.length - 1) / 2 ? 'kills of a majority at once' : 'kills',
      `kill ${victims.join(',')}`,
    );
    const processes = victims.map((id) => this.cluster.replicas[id]!);
    const ended = processes.map(({ child, exited }) =>
      exited ? undefined : new Promise<void>((resolve) => child.once('exit', () => resolve())),
    );
    for (const replica of processes) {
      this.killed.add(replica);
      replica.kill('SIGKILL');
    }
    await Promise.all(ended);
    await sleep(random.between(0, 600));
    await Promise.all(victims.map((id) => this.start(id)));
    this.say(`${victims.join(',')} back`);
  }

  /** One that was removed meanwhile may say so, and stays down. */
  private async start(id: number): Promise<void> {
    const replica = this.cluster.spawn(id);
    this.watch(replica);
    try {
      await replica.waitReady();
    } catch (error) {
      if (!this.mayEnd(replica)) throw error;
      this.count('starts of removed hosts refused');
    }
  }

  private async pause(victims: readonly number[], ms: number): Promise<void> {
    this.note('pauses', `stop ${victims.join(',')} for ${ms} ms`);
    const processes = victims.map((id) => this.cluster.replicas[id]!);
    for (const replica of processes) replica.kill('SIGSTOP');
    await sleep(ms);
    for (const replica of processes) replica.kill('SIGCONT');
  }

  private async haveLogs(): Promise<void> {
    for (
      const limit = performance.now() + RECOVERY_LIMIT_MS;
      performance.now() < limit && this.left > 0;
      await sleep(20)
    ) {
      const running = this.cluster.replicas.filter((replica) => replica !== undefined && !replica.exited);
      const answers = await Promise.all(running.map((replica) => replica.ask('stats')));
      if (answers.every((answer) => answer !== undefined && Number(answer.status['logView']) >= 0)) return;
    }
  }

  /** It has no place any more, and says so. */
  private mayEnd({ id, complaint }: ReplicaProcess): boolean {
    return complaint.includes('replica-removed') || (this.barred.has(id) && complaint.includes('replica-id-taken'));
  }

  private watch(replica: ReplicaProcess): void {
    replica.child.once('exit', (code, signal) => {
      if (this.over || this.killed.has(replica) || this.mayEnd(replica)) return;
      this.fallen.push(
        `replica ${replica.id} ended with ${signal ?? `exit code ${code}`}: ${replica.complaint.trim().split('\n').at(-1) ?? ''}`,
      );
    });
  }

  private note(what: string, line: string): void {
    this.count(what);
    this.say(line);
  }

  private count(what: string): void {
    this.done[what] = (this.done[what] ?? 0) + 1;
  }
}

export async function membersChaos({ seed, replicas, durability, seconds, say }: ChaosOptions): Promise<ChaosResult> {
  const random = new Random(seed);
  const failures: string[] = [];
  const load = new Load(2_000);
  const clients: Client[] = [];
  await using cluster = await LocalCluster.start({
    replicas,
    machine: 'kv',
    transport: 'auto',
    idle: 'block',
    durability,
    replicaFlags: ['--segment-bytes', String(SEGMENT_BYTES)],
  });
  const connect = (lanes: number): Promise<Client> =>
    Client.connect({
      cluster: cluster.config(),
      lanes,
      connectTimeout: COMMIT_LIMIT_MS,
      idle: 'block',
      logger: silentLogger,
    });
  try {
    for (let i = 0; i < CLIENTS; i++) {
      const client = await connect(PROCESSES_A_CLIENT);
      clients.push(client);
      load.start(client, PROCESSES_A_CLIENT, random.fork(`c${i}`));
    }
    // It says nothing until the end: by then everybody that it knows has left, if the run is long enough.
    clients.push(await connect(1));
    const members = new Members(cluster, random.fork('members'), say);
    let recoveryMs = NaN;
    let lost: string[] = [];
    let views = 0;
    try {
      await members.run(seconds * 1000);
      await load.stop();
      recoveryMs = await members.recovery();
      views = await members.view();
      const stuck = await load.commitOnceMore(clients, COMMIT_LIMIT_MS);
      if (stuck.length > 0)
        failures.push(
          `clients ${stuck.join(',')} commit nothing within ${COMMIT_LIMIT_MS / 1000} s, though all is well (${CLIENTS} was idle)`,
        );
      await using reader = await connect(READ_BACK_LANES);
      lost = await load.readBack(reader, READ_BACK_LANES);
    } catch (error) {
      failures.push(error instanceof Error ? error.message : String(error));
    }
    await load.stop();
    members.over = true;
    failures.push(...members.fallen);
    return {
      seed,
      replicas,
      durability,
      authenticated: false,
      recoveryMs,
      views,
      done: members.done,
      relay: { passed: 0, lost: 0, cut: 0, repeated: 0, delayed: 0 },
      notTried: [],
      ...verdictOf(load, lost, failures),
    };
  } finally {
    await load.stop();
    for (const client of clients) await client.close();
  }
}
