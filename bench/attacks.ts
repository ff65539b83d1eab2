/**
 * What an attacker takes from the others: well-behaved clients at a moderate rate, alone and beside an attack, in turns.
 *
 *   npm run bench:attacks -- [--attacks ahead-10,forged] [--rounds 3] [--warmup 4s] [--strict] [--json]
 *
 * Look at the share of commits in one round trip, beside the share of the quiet runs before and after. All processes
 * share the host's cores, so times are worth less than shares: they come with their range over the rounds. A flood takes
 * much processor time for its sender, so the quiet runs around it have the same sender, at sockets that nobody reads.
 *
 * Each attack first runs once without being timed, in the same processes. Otherwise the first round would measure how V8
 * compiles what the attack reaches, and how memory grows to its bounds. `--warmup 0s` leaves that in. Sessions lost,
 * failures, unanswered questions and view changes of this first run do count.
 *
 * Each attack has a key of its own. An owner that was found out of step is served apart for seconds afterwards, and its
 * next attack, or a client of ours under the same key, would begin apart.
 */
import { get } from 'node:http';
import { fileURLToPath } from 'node:url';
import { Client } from '../src/client/client.js';
import { KvClient } from '../src/client/kv-client.js';
import { MembersClient } from '../src/client/members-client.js';
import { StatusClient } from '../src/client/status-client.js';
import { formatCount, formatDuration } from '../src/console/units.js';
import type { ReplicaStatusReport } from '../src/host/status.js';
import { version } from '../src/host/version.js';
import { encodeGet } from '../src/machine/kv-codec.js';
import { Children, LineChild } from '../src/measure/compare/line-child.js';
import { median } from '../src/measure/compare/rounds.js';
import { hostInfo } from '../src/measure/load/bench-report.js';
import { addKey, type Attack, Attacker } from './attacker.js';
import { clientSeal, LONG_KEY, sealed, writeRead } from './datagrams.js';
import { checkMissed, judged, type RowResult } from './goals/row.js';
import { HonestLoad } from './honest-load.js';
import type { NoiseResult, NoiseSetup } from './noise.js';
import { paced } from './pace.js';
import { namesOf, program } from './program.js';
import { residentBytes } from './resident.js';
import { SlowConnections } from './slow-connections.js';

type To = 'member' | 'primary' | 'all' | 'member first' | 'primary first';
type Role = 'client' | 'read-only';

/** What attacks, from its beginning until it is stopped. */
interface Assault {
  /** Resolves with how many datagrams, operations or connections there were. What goes to two replicas counts twice. */
  stop(): Promise<number>;
}

interface Kind {
  readonly name: string;
  readonly what: string;
  /** There is one well-behaved client. It reads long values, and its address can be forged. */
  readonly relayed?: boolean;
  /** The attack has a key of its own, with this role. Default: it needs none. */
  readonly role?: Role;
  readonly begin: (bench: Bench, kind: Kind) => Promise<Assault>;
  /** What the quiet runs have. Default: nothing. */
  readonly quiet?: (bench: Bench) => Promise<Assault>;
  /** Asked again and again, as by an operator's tool, also in the quiet runs. Resolves with whether it was answered. */
  readonly ask?: (bench: Bench) => Promise<boolean>;
}

const LONG_VALUE_BYTES = 20_000;
/** Lanes that a session may have. */
const SESSION_LANES = 4_096;
const SLOW_CONNECTIONS = 40;
/** Room for a hello or a question. */
const SHORT_BYTES = 256;
/** How much later a request reaches the other replica, if it is to reach one first. */
const LATER_MS = 5;
const WAYS: Readonly<Record<To, string>> = {
  member: 'to the member only',
  primary: 'to the primary only',
  all: 'to all replicas',
  'member first': `to the member, and ${LATER_MS} ms later to the primary`,
  'primary first': `to the primary, and ${LATER_MS} ms later to the member`,
};

const KINDS: readonly Kind[] = [
  ahead('ahead-10', 'read-only', 'member', 10, 95),
  ahead('ahead-20', 'read-only', 'member', 20, 95),
  ahead('ahead-100', 'read-only', 'member', 100, 95),
  ahead('ahead-500', 'client', 'member', 500, 95),
  ahead('ahead-primary', 'client', 'primary', 500, 95),
  ahead('near-20', 'client', 'member', 20, 1.9),
  ahead('near-500', 'client', 'member', 500, 1.9),
  ahead('member-only', 'client', 'member', 500, 0),
  ahead('primary-only', 'client', 'primary', 500, 0),
  ahead('member-first', 'client', 'member first', 500, 0),
  ahead('primary-first', 'client', 'primary first', 500, 0),
  {
    name: 'lanes',
    what: 'a client of ours under a key of its own, with 4,096 operations open, always',
    role: 'client',
    begin: (bench, kind) => bench.noise('lanes', { keys: bench.keysOf(kind) }),
  },
  {
    name: 'lanes-hostile',
    what: 'the same, but the client keeps no window: all 4,096 operations are on their way',
    role: 'client',
    begin: (bench, kind) => bench.noise('lanes-hostile', { keys: bench.keysOf(kind) }),
  },
  {
    name: 'registers',
    what: `900 Registers of ${SESSION_LANES} lanes a second under a read-only key, to all replicas`,
    role: 'read-only',
    begin: (bench, kind) => bench.requests(kind, 'all', { perSecond: 900, registers: SESSION_LANES }),
  },
  {
    name: 'results',
    what: `1,000 operations a second under a client key, to all replicas, each in another lane and with a result of ${LONG_VALUE_BYTES / 1e3} kB`,
    role: 'client',
    begin: (bench, kind) => bench.requests(kind, 'all', { perSecond: 1_000, operation: readLong() }, SESSION_LANES),
  },
  {
    name: 'results-query',
    what: 'the same as queries that go through the log, under a read-only key',
    role: 'read-only',
    begin: (bench, kind) => bench.requests(kind, 'all', { perSecond: 1_000, operation: readLong() }, SESSION_LANES),
  },
  {
    name: 'forged-source',
    what: `1,000 datagrams a second under a read-only key to each replica, from the address of a client that reads values of ${LONG_VALUE_BYTES / 1e3} kB at a tenth of the rate`,
    relayed: true,
    role: 'read-only',
    begin: (bench, kind) => bench.forgedSource(kind, 1_000),
  },
  {
    ...flood(
      'status',
      'status',
      'a recorded status question, 3,000 times a second to each replica; an operator asks for the status as well',
      3_000,
    ),
    ask: (bench) => bench.askStatus(),
  },
  {
    ...flood(
      'members',
      'members',
      'a question for the members, 3,000 times a second to each replica; an operator asks for them as well',
      3_000,
    ),
    ask: (bench) => bench.askMembers(),
  },
  flood(
    'questions',
    'questions',
    `a recorded question for a value of ${LONG_VALUE_BYTES / 1e3} kB, 3,000 times a second to each member`,
    3_000,
  ),
  flood('forged-100k', 'forged', 'short datagrams with a right envelope and a wrong tag, 100,000 a second', 50_000),
  flood('forged', 'forged', 'the same, as many as one process can send'),
  flood('forged-long', 'forged-long', 'the same of 8,900 bytes, as many as one process can send'),
  flood('random', 'random', 'random bytes, as many as one process can send'),
  {
    name: 'http',
    what: `${SLOW_CONNECTIONS} connections to the --health of each replica that send a byte every 500 ms and come back; a probe asks there as well`,
    begin: (bench) => bench.slowConnections(),
    ask: (bench) => bench.askHealth(),
  },
];
const NOISE = fileURLToPath(new URL('./noise.js', import.meta.url));
const CLIENTS = 2;
const KEYS = 1_000;
/** The client that reads long values offers this part of the rate. */
const RELAYED_PART = 0.1;
const SETTLE_MS = 300;
/** The attack is aimed at the members of one view. On a crowded host that view shall stay. */
const REPLICA_FLAGS = ['--suspect-after', '5s', '--slow-after', '0s', '--health', '0'];
/** An operator's question that has no answer after this time counts as unanswered. */
const ANSWER_MS = 5_000;
const ASK_EVERY_MS = 100;

const SHARE_GOAL = 0.9;
const P99_GOAL = 3;

function ahead(name: string, role: Role, to: To, perSecond: number, aheadMs: number): Kind {
  const what = `${perSecond} requests a second under a ${role} key, ${WAYS[to]}${aheadMs > 0 ? `, stamped ${aheadMs} ms ahead` : ''}`;
  return { name, what, role, begin: (bench, kind) => bench.requests(kind, to, { perSecond, aheadMs }) };
}

/** By noise.ts. The same sender runs in the quiet runs, for its processor time. @param perSecond to each target */
function flood(name: string, kind: string, what: string, perSecond?: number): Kind {
  const rate = perSecond === undefined ? {} : { perSecond };
  return {
    name,
    what,
    begin: (bench) => bench.noise(kind, rate),
    quiet: (bench) => bench.noise(kind, { ...rate, elsewhere: true }),
  };
}

function readLong(): Uint8Array {
  const operation = new Uint8Array(64);
  return operation.subarray(0, encodeGet(operation, 0, LONG_KEY));
}

interface Run {
  readonly attack: string;
  readonly fastShare: number;
  readonly p50Ns: number;
  readonly p99Ns: number;
  readonly opsPerSecond: number;
  /** Operations of well-behaved clients that needed a correction, and requests that they sent again. */
  readonly reconciled: number;
  readonly retransmitted: number;
  readonly failed: number;
  /** Operations of well-behaved clients that ended because their session was evicted. */
  readonly sessionsLost: number;
  readonly viewChanges: number;
  /** See Assault. */
  readonly sent: number;
  readonly sentPerSecond: number;
  /**
   * Requests that members refused as too far ahead. While the primary pushes its order, a member drops such a request
   * without an answer, and it is not counted.
   */
  readonly refused: number;
  /** Questions of an operator's tool. */
  readonly asked: number;
  readonly unanswered: number;
  /** Of all replicas together. */
  readonly cpuSeconds: number;
  readonly received: number;
  /** Datagrams that waited because a replica was crowded (limits.md). */
  readonly queued: number;
  /** By how much the replica grew that grew most. */
  readonly grownBytes: number;
}

/** Asks one question after the other. */
class Asker {
  asked = 0;
  unanswered = 0;
  private readonly asking: Promise<void>;
  private ended = false;

  constructor(private readonly ask: () => Promise<boolean>) {
    this.asking = this.run();
  }

  async stop(): Promise<void> {
    this.ended = true;
    await this.asking;
  }

  private async run(): Promise<void> {
    while (!this.ended) {
      this.asked++;
      if (!(await this.ask())) this.unanswered++;
      await new Promise((resolve) => setTimeout(resolve, ASK_EVERY_MS));
    }
  }
}

class Bench {
  /** Key files, by the name of the attack. */
  private readonly keys = new Map<string, string>();

  private constructor(
    private readonly load: HonestLoad,
    private readonly durationNs: number,
    private readonly warmupNs: number,
  ) {}

  static async start(rate: number, durationNs: number, warmupNs: number, kinds: readonly Kind[]): Promise<Bench> {
    const relayed = kinds.some((kind) => kind.relayed ?? false);
    const load = await HonestLoad.start({
      clients: CLIENTS,
      transport: 'auto',
      rate: relayed ? rate * RELAYED_PART : rate,
      replicaFlags: REPLICA_FLAGS,
      workload: relayed
        ? { machine: 'kv', size: LONG_VALUE_BYTES, mix: { write: 0.1, read: 0.9 }, keys: 10 }
        : { machine: 'kv', size: 64, mix: { write: 1 }, keys: KEYS },
      relayed,
    });
    const bench = new Bench(load, durationNs, warmupNs);
    try {
      for (const { name, role } of kinds)
        if (role !== undefined) bench.keys.set(name, await addKey(load.cluster, role));
      await using client = await Client.connect({ cluster: load.cluster.clusterFile, lanes: 1 });
      await new KvClient(client).put(LONG_KEY, new Uint8Array(LONG_VALUE_BYTES).fill(7));
      return bench;
    } catch (error) {
      await bench.close();
      throw error;
    }
  }

  /** The attack's first run. `undefined`: without a warmup there is none. */
  async warm(kind: Kind): Promise<Run | undefined> {
    return this.warmupNs > 0 ? this.attack(kind, this.warmupNs) : undefined;
  }

  attack(kind: Kind, durationNs = this.durationNs): Promise<Run> {
    return this.run(kind.name, (bench) => kind.begin(bench, kind), kind.ask, durationNs);
  }

  /** What is compared with an attack; `undefined`: any other. */
  quiet(kind: Kind | undefined): Promise<Run> {
    return this.run('none', kind?.quiet, kind?.ask, this.durationNs);
  }

  close(): Promise<void> {
    return this.load.close();
  }

  /** The file with the attack's own key. */
  keysOf({ name }: Kind): string {
    const keys = this.keys.get(name);
    if (keys === undefined) throw new Error(`the attack ${name} has no role`);
    return keys;
  }

  /** What a client of ours would not send: see Attacker. */
  async requests(kind: Kind, to: To, attack: Partial<Attack>, lanes?: number): Promise<Assault> {
    const { view, members, primary } = await this.report();
    const attacker = await Attacker.open(this.load.cluster.clusterFile, this.keysOf(kind), lanes);
    attacker.start({
      view,
      ...this.targets(to, members, primary),
      perSecond: 0,
      aheadMs: 0,
      queries: kind.role === 'read-only',
      operation: new Uint8Array(16),
      ...attack,
    });
    return {
      stop: () => {
        attacker.close();
        return Promise.resolve(attacker.sent);
      },
    };
  }

  /** A process that floods: see noise.ts. Without `keys` it has the key of the well-behaved clients. */
  async noise(kind: string, more: Partial<NoiseSetup>): Promise<Assault> {
    const { members, view, primary } = await this.report();
    const cluster = this.load.cluster.clusterFile;
    const setup: NoiseSetup = { kind, cluster, transport: 'auto', members, view, primary, ...more };
    const children = new Children();
    const child = children.add(LineChild.start(process.execPath, [NOISE, JSON.stringify(setup)], 'the attack'));
    const stop = (): Promise<void> => children[Symbol.asyncDispose]();
    try {
      await child.ready();
    } catch (error) {
      await stop();
      throw error;
    }
    child.go();
    return {
      stop: async () => {
        await stop();
        return (await child.result<NoiseResult>(0)).sent;
      },
    };
  }

  /** Hellos and questions under another key, from the address of the well-behaved client. */
  async forgedSource(kind: Kind, perSecond: number): Promise<Assault> {
    const { view } = await this.report();
    const seal = clientSeal(this.load.cluster.clusterFile, this.keysOf(kind));
    const hello = sealed(seal, () => 0, SHORT_BYTES);
    const question = sealed(seal, (bytes, offset) => writeRead(bytes, offset, view), SHORT_BYTES);
    let times = 0;
    const end = paced(perSecond, () => {
      for (const relay of this.load.relays) relay.forge(times % 2 === 0 ? hello : question);
      times++;
    });
    return {
      stop: () => {
        end();
        return Promise.resolve(times * this.load.relays.length);
      },
    };
  }

  slowConnections(): Promise<Assault> {
    const slow = this.healthUrls().map(({ port }) => new SlowConnections(Number(port), SLOW_CONNECTIONS));
    return Promise.resolve({
      stop: () => {
        for (const connections of slow) connections.close();
        return Promise.resolve(slow.reduce((sum, { opened }) => sum + opened, 0));
      },
    });
  }

  async askHealth(): Promise<boolean> {
    const answers = await Promise.all(this.healthUrls().map((url) => isWell(url)));
    return answers.every(Boolean);
  }

  /** As `jitpaxos status` asks: with a socket of its own each time. */
  async askStatus(): Promise<boolean> {
    await using client = await StatusClient.open({ cluster: this.load.cluster.clusterFile });
    return (await client.ask(ANSWER_MS)).every(({ report }) => report !== undefined);
  }

  /** As `jitpaxos member list` asks. */
  async askMembers(): Promise<boolean> {
    await using client = await MembersClient.open({ cluster: this.load.cluster.clusterFile });
    return (await client.ask(ANSWER_MS)).every(({ answer }) => answer !== undefined);
  }

  private async run(
    attack: string,
    begin: ((bench: Bench) => Promise<Assault>) | undefined,
    ask: ((bench: Bench) => Promise<boolean>) | undefined,
    durationNs: number,
  ): Promise<Run> {
    const before = await this.look();
    const assault = await begin?.(this);
    const asker = ask === undefined ? undefined : new Asker(() => ask(this));
    const beganMs = performance.now();
    let sent = 0;
    let attackedMs = 0;
    let measured: Awaited<ReturnType<HonestLoad['step']>>;
    try {
      measured = await this.load.step(durationNs, SETTLE_MS);
    } finally {
      await asker?.stop();
      attackedMs = performance.now() - beganMs;
      sent = (await assault?.stop()) ?? 0;
    }
    const after = await this.look();
    const { service, seconds, errors, client } = measured;
    return {
      attack,
      fastShare: client.fast / Math.max(1, client.committed),
      p50Ns: service.quantile(0.5),
      p99Ns: service.quantile(0.99),
      opsPerSecond: service.count / seconds,
      reconciled: client.reconciled,
      retransmitted: client.retransmitted,
      failed: Object.values(errors).reduce((sum, count) => sum + count, 0),
      sessionsLost: errors['session-lost'] ?? 0,
      viewChanges: after.view - before.view,
      sent,
      sentPerSecond: sent / (attackedMs / 1_000),
      refused: after.refused - before.refused,
      asked: asker?.asked ?? 0,
      unanswered: asker?.unanswered ?? 0,
      cpuSeconds: after.cpuSeconds - before.cpuSeconds,
      received: after.received - before.received,
      queued: after.queued - before.queued,
      grownBytes: Math.max(...after.resident.map((bytes, id) => bytes - before.resident[id]!)),
    };
  }

  /** What the replicas have counted and used so far. */
  private async look(): Promise<{
    view: number;
    refused: number;
    cpuSeconds: number;
    received: number;
    queued: number;
    resident: number[];
  }> {
    const asked = await this.load.ask();
    const sum = (value: (of: (typeof asked)[number]) => number): number =>
      asked.reduce((total, of) => total + value(of), 0);
    return {
      view: asked[0]!.report.view,
      refused: sum(({ report }) => report.counters['rejected_too_far_ahead']!),
      cpuSeconds: sum(({ cpuSeconds }) => cpuSeconds),
      received: sum(({ report }) => report.transport.counters['datagrams_received']!),
      queued: sum(({ report }) => report.transport.counters['datagrams_queued']!),
      resident: asked.map(({ report }) => residentBytes(report.pid) ?? NaN),
    };
  }

  private async report(): Promise<ReplicaStatusReport> {
    return (await this.load.ask())[0]!.report;
  }

  private healthUrls(): URL[] {
    return this.load.cluster.replicas.map(({ ready }) => new URL(ready!.health!));
  }

  private targets(to: To, members: readonly number[], primary: number): Pick<Attack, 'targets' | 'later'> {
    if (to === 'all') return { targets: [...this.load.cluster.replicas.keys()] };
    const member = members.find((id) => id !== primary)!;
    const [first, other] = to.startsWith('member') ? [member, primary] : [primary, member];
    return { targets: [first], ...(to.endsWith('first') ? { later: { targets: [other], ms: LATER_MS } } : {}) };
  }
}

/** As a probe asks: by a connection of its own. */
function isWell(url: URL): Promise<boolean> {
  return new Promise((resolve) => {
    const request = get(url, { agent: false, timeout: ANSWER_MS }, (response) => {
      response.resume();
      resolve(response.statusCode === 200);
    });
    request.on('timeout', () => request.destroy(new Error('no answer')));
    request.on('error', () => resolve(false));
  });
}

/** An attack, and the quiet runs just before and after it. */
interface Round {
  readonly run: Run;
  /** In the first round: the attack's first run, of which only what should not happen at all counts. */
  readonly first?: Run | undefined;
  readonly quiets: readonly Run[];
}

/** All rounds of an attack. */
interface Row extends Run {
  readonly p99MinNs: number;
  readonly p99MaxNs: number;
  /** Medians of all quiet runs. */
  readonly quietFastShare: number;
  readonly quietP99Ns: number;
  readonly quietP99MinNs: number;
  readonly quietP99MaxNs: number;
  readonly quietCpuSeconds: number;
}

await program(
  {
    name: 'npm run bench:attacks --',
    summary: 'Measures what an attacker takes from the others.',
    positionals: [],
    flags: {
      attacks: {
        kind: 'text',
        value: 'LIST',
        default: KINDS.map(({ name }) => name).join(','),
        help: 'attacks, each between two quiet runs',
      },
      rate: {
        kind: 'count',
        default: '2000',
        min: 1,
        max: 1_000_000,
        help: `operations a second that the ${CLIENTS} well-behaved clients offer together; a tenth of it for a client that reads long values`,
      },
      rounds: { kind: 'count', default: '3', min: 1, max: 1000, help: 'runs of each attack' },
      seconds: { kind: 'duration', default: '2s', min: 1e7, max: 3.6e12, help: 'how long a run is measured' },
      warmup: {
        kind: 'duration',
        default: '4s',
        max: 3.6e12,
        help: 'how long each attack runs before, without being timed, while V8 compiles what it reaches and memory grows to its bounds',
      },
      strict: { kind: 'switch', help: 'exit with 4 when a goal is missed' },
    },
    examples: [
      'npm run bench:attacks',
      'npm run bench:attacks -- --attacks ahead-10,near-500 --rounds 5',
      'npm run bench:attacks -- --strict --json',
    ],
  },
  async ({ attacks, rate, rounds, seconds, warmup, strict }, output) => {
    const kinds = namesOf('--attacks', attacks, KINDS);
    const measured: Round[] = [];
    for (const relayed of [false, true]) {
      const some = kinds.filter((kind) => (kind.relayed ?? false) === relayed);
      if (some.length === 0) continue;
      const bench = await Bench.start(rate, seconds, warmup, some);
      try {
        for await (const { number, round } of measure(bench, some, rounds)) {
          measured.push(round);
          output.note(`round ${number} of ${rounds}: ${round.run.attack}: ${lineOf(rowOf([round]))}`);
        }
      } finally {
        await bench.close();
      }
    }
    const rows = kinds.map(({ name }) => rowOf(measured.filter(({ run }) => run.attack === name)));
    const results = rows.map(resultOf);
    const missed = results.filter(({ holds }) => !holds).map(({ name }) => name);
    if (output.json)
      output.line(
        JSON.stringify({
          schema: 'jitpaxos.attacks/1',
          offeredPerSecond: rate,
          rounds,
          warmupNs: warmup,
          rows: rows.map((row, index) => ({ ...row, holds: results[index]!.holds })),
          missed,
          host: hostInfo(),
          version: version(),
        }),
      );
    else output.line(tableOf(rows, results, rate, rounds));
    checkMissed(missed, strict);
  },
);

/** Runs each of these attacks between two quiet runs. */
async function* measure(
  bench: Bench,
  kinds: readonly Kind[],
  rounds: number,
): AsyncGenerator<{ number: number; round: Round }> {
  await bench.quiet(undefined); // warm
  const firsts = new Map<Kind, Run | undefined>();
  for (const kind of kinds) firsts.set(kind, await bench.warm(kind));
  let quiet: Run | undefined;
  let quietOf: Kind | undefined;
  for (let number = 1; number <= rounds; number++) {
    for (const kind of kinds) {
      const own = kind.quiet === undefined && kind.ask === undefined ? undefined : kind;
      const before: Run = quiet !== undefined && quietOf === own ? quiet : await bench.quiet(own);
      const run = await bench.attack(kind);
      const after = await bench.quiet(own);
      yield { number, round: { run, quiets: [before, after], first: number === 1 ? firsts.get(kind) : undefined } };
      [quiet, quietOf] = [after, own];
    }
  }
}

function lineOf(row: Row): string {
  const { fastShare, quietFastShare, p99Ns, quietP99Ns, failed, sessionsLost, viewChanges, sentPerSecond } = row;
  const { asked, unanswered, cpuSeconds, quietCpuSeconds, received, grownBytes } = row;
  return [
    `${percent(fastShare)} in one round trip, quiet ${percent(quietFastShare)}`,
    `p99 ${formatDuration(p99Ns)}, quiet ${formatDuration(quietP99Ns)}`,
    `by a correction ${formatCount(row.reconciled)}, sent again ${formatCount(row.retransmitted)}`,
    `failed ${failed}, sessions lost ${sessionsLost}, views ${viewChanges}`,
    `sent ${formatCount(sentPerSecond)}/s, received ${formatCount(received)}, of which ${formatCount(row.queued)} waited in a crowd`,
    `processor time of the replicas ${cpuSeconds.toFixed(2)} s, quiet ${quietCpuSeconds.toFixed(2)} s`,
    `grown by ${(grownBytes / 1e6).toFixed(0)} MB`,
    ...(asked > 0 ? [`unanswered ${unanswered} of ${asked}`] : []),
  ].join('; ');
}

/** Medians over the rounds, and the range of the times. Counts are added up; some of them include the first run: see Round. */
function rowOf(rounds: readonly Round[]): Row {
  const runs = rounds.map(({ run }) => run);
  // A quiet run may stand between two attacks.
  const quiets = [...new Set(rounds.flatMap((round) => round.quiets))];
  const middle = (value: (run: Run) => number): number => median(runs.map(value));
  const middleQuiet = (value: (run: Run) => number): number => median(quiets.map(value));
  const sum = (value: (run: Run) => number): number => runs.reduce((total, run) => total + value(run), 0);
  const all = [...rounds.flatMap(({ first }) => first ?? []), ...runs];
  const sumOfAll = (value: (run: Run) => number): number => all.reduce((total, run) => total + value(run), 0);
  const p99s = runs.map(({ p99Ns }) => p99Ns);
  const quietP99s = quiets.map(({ p99Ns }) => p99Ns);
  return {
    attack: runs[0]!.attack,
    fastShare: middle(({ fastShare }) => fastShare),
    quietFastShare: middleQuiet(({ fastShare }) => fastShare),
    p50Ns: middle(({ p50Ns }) => p50Ns),
    p99Ns: median(p99s),
    p99MinNs: Math.min(...p99s),
    p99MaxNs: Math.max(...p99s),
    quietP99Ns: median(quietP99s),
    quietP99MinNs: Math.min(...quietP99s),
    quietP99MaxNs: Math.max(...quietP99s),
    opsPerSecond: middle(({ opsPerSecond }) => opsPerSecond),
    reconciled: sum(({ reconciled }) => reconciled),
    retransmitted: sum(({ retransmitted }) => retransmitted),
    failed: sumOfAll(({ failed }) => failed),
    sessionsLost: sumOfAll(({ sessionsLost }) => sessionsLost),
    viewChanges: sumOfAll(({ viewChanges }) => viewChanges),
    sent: sum(({ sent }) => sent),
    sentPerSecond: middle(({ sentPerSecond }) => sentPerSecond),
    refused: sum(({ refused }) => refused),
    asked: sumOfAll(({ asked }) => asked),
    unanswered: sumOfAll(({ unanswered }) => unanswered),
    cpuSeconds: middle(({ cpuSeconds }) => cpuSeconds),
    quietCpuSeconds: middleQuiet(({ cpuSeconds }) => cpuSeconds),
    received: sum(({ received }) => received),
    queued: sum(({ queued }) => queued),
    grownBytes: Math.max(...runs.map(({ grownBytes }) => grownBytes)),
  };
}

function resultOf(row: Row): RowResult {
  const share = row.fastShare / row.quietFastShare;
  const slower = row.p99Ns / row.quietP99Ns;
  return judged({
    name: row.attack,
    what: row.attack,
    goal: `≥ ${SHARE_GOAL}; ≤ ${P99_GOAL}; 0 sessions lost; all questions answered`,
    measured: `${share.toFixed(2)}; ${slower.toFixed(2)}; ${row.sessionsLost}; ${row.unanswered} unanswered`,
    figures: [
      { value: share, atLeast: SHARE_GOAL },
      { value: slower, atMost: P99_GOAL },
      { value: row.sessionsLost, atMost: 0 },
      { value: row.unanswered, atMost: 0 },
    ],
    values: { share, slower },
  });
}

function tableOf(rows: readonly Row[], results: readonly RowResult[], rate: number, rounds: number): string {
  const { cpu, cores, kernel, node } = hostInfo();
  return [
    `| attack | sent a second | in one round trip | quiet | of quiet (≥ ${SHARE_GOAL}) | p99, least and most | quiet | ÷ quiet (≤ ${P99_GOAL}) | sessions lost (0) | failed | unanswered (0) | view changes | |`,
    `| ${'--- | '.repeat(13)}`.trimEnd(),
    ...rows.map((row, index) => {
      const { share, slower } = results[index]!.values as { readonly share: number; readonly slower: number };
      return `| ${[
        row.attack,
        formatCount(row.sentPerSecond),
        percent(row.fastShare),
        percent(row.quietFastShare),
        share.toFixed(2),
        ranged(row.p99Ns, row.p99MinNs, row.p99MaxNs),
        ranged(row.quietP99Ns, row.quietP99MinNs, row.quietP99MaxNs),
        slower.toFixed(2),
        row.sessionsLost,
        row.failed,
        row.asked === 0 ? '' : `${row.unanswered} of ${row.asked}`,
        row.viewChanges,
        results[index]!.holds ? 'holds' : 'missed',
      ].join(' | ')} |`;
    }),
    '',
    ...KINDS.filter(({ name }) => rows.some(({ attack }) => attack === name)).map(
      ({ name, what }) => `${name}: ${what}`,
    ),
    `Medians of ${rounds} rounds, and of the quiet runs around them; in parentheses the least and the most of one run.`,
    `${results.filter(({ holds }) => holds).length} of ${results.length} hold; ${CLIENTS} clients offer ${formatCount(rate)} operations a second on ${cores} × ${cpu}, Linux ${kernel}, Node ${node}`,
  ].join('\n');
}

function ranged(ns: number, minNs: number, maxNs: number): string {
  return `${formatDuration(ns)} (${formatDuration(minNs)} to ${formatDuration(maxNs)})`;
}

function percent(share: number): string {
  return `${(100 * share).toFixed(1)} %`;
}
