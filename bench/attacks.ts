/**
 * What a client that holds a key takes from the others: well-behaved clients at a moderate rate, alone and beside an
 * attack, in turns.
 *
 *   npm run bench:attacks -- [--attacks ahead-10,member-only] [--rounds 3] [--json]
 *
 * Look at the share of commits in one round trip, beside the share of the quiet runs before and after. All processes share
 * the host's cores, so times are worth less than shares.
 */
import { fileURLToPath } from 'node:url';
import { Children, LineChild } from '../src/measure/compare/line-child.js';
import { median } from '../src/measure/compare/rounds.js';
import { formatCount, formatDuration } from '../src/console/units.js';
import { hostInfo } from '../src/measure/load/bench-report.js';
import type { ReplicaStatusReport } from '../src/host/status.js';
import { version } from '../src/host/version.js';
import { addKey, type Attack, Attacker } from './attacker.js';
import { HonestLoad } from './honest-load.js';
import type { NoiseSetup } from './noise.js';
import { namesOf, program } from './program.js';

type To = 'member' | 'primary' | 'all';

interface Kind {
  readonly name: string;
  readonly what: string;
  readonly role: 'client' | 'read-only';
  readonly to: To;
  readonly perSecond: number;
  readonly aheadMs: number;
}

const KINDS: readonly Kind[] = [
  ahead('ahead-10', 'read-only', 'member', 10, 95),
  ahead('ahead-20', 'read-only', 'member', 20, 95),
  ahead('ahead-100', 'read-only', 'member', 100, 95),
  ahead('ahead-500', 'client', 'member', 500, 95),
  ahead('ahead-primary', 'client', 'primary', 500, 95),
  ahead('near-20', 'client', 'member', 20, 1.9),
  ahead('near-500', 'client', 'member', 500, 1.9),
  ahead('member-only', 'client', 'member', 500, 0),
  {
    name: 'lanes',
    what: 'a client of ours under a key of its own, with 4,096 operations open, always',
    role: 'client',
    to: 'all',
    perSecond: Infinity,
    aheadMs: 0,
  },
];
const NOISE = fileURLToPath(new URL('./noise.js', import.meta.url));
const CLIENTS = 2;
const SETTLE_MS = 300;
/** The attack is aimed at the members of one view. On a crowded host that view shall stay. */
const STEADY = ['--suspect-after', '5s', '--slow-after', '0s'];

function ahead(name: string, role: Kind['role'], to: To, perSecond: number, aheadMs: number): Kind {
  const what = `${perSecond} requests a second under a ${role} key, to the ${to} only${aheadMs > 0 ? `, stamped ${aheadMs} ms ahead` : ''}`;
  return { name, what, role, to, perSecond, aheadMs };
}

interface Run {
  readonly attack: string;
  readonly fastShare: number;
  readonly p50Ns: number;
  readonly p99Ns: number;
  readonly opsPerSecond: number;
  readonly failed: number;
  readonly viewChanges: number;
  /** Requests of the attacker, each counted once for each replica that it was sent to; null where nothing counts them. */
  readonly sent: number | null;
  /**
   * Requests that members refused as too far ahead. While the primary pushes its order, a member drops such a request
   * without an answer, and it is not counted.
   */
  readonly refused: number;
}

class Bench {
  private readonly attackers = new Map<string, Attacker>();
  private readonly keys = new Map<string, string>();

  private constructor(
    private readonly load: HonestLoad,
    private readonly durationNs: number,
  ) {}

  static async start(rate: number, durationNs: number): Promise<Bench> {
    const load = await HonestLoad.start({ clients: CLIENTS, transport: 'auto', rate, replicaFlags: STEADY });
    const bench = new Bench(load, durationNs);
    try {
      for (const role of ['client', 'read-only'] as const) {
        const keys = await addKey(load.cluster, role);
        bench.keys.set(role, keys);
        bench.attackers.set(role, await Attacker.open(load.cluster.clusterFile, keys));
      }
      return bench;
    } catch (error) {
      await bench.close();
      throw error;
    }
  }

  /** @param kind undefined: nobody attacks */
  async run(kind: Kind | undefined): Promise<Run> {
    const before = await this.report();
    const refusedBefore = await this.refused();
    await using children = new Children();
    let attacker: Attacker | undefined;
    let lanes: LineChild | undefined;
    if (kind?.to === 'all') {
      const setup: NoiseSetup = {
        kind: 'lanes',
        cluster: this.load.cluster.clusterFile,
        transport: 'auto',
        members: before.members,
        view: before.view,
        primary: before.primary,
        keys: this.keys.get(kind.role)!,
      };
      lanes = children.add(LineChild.start(process.execPath, [NOISE, JSON.stringify(setup)], 'the attack'));
      await lanes.ready();
      lanes.go();
    } else if (kind !== undefined) {
      attacker = this.attackers.get(kind.role)!;
      attacker.sent = 0;
      attacker.start(attackOf(kind, before));
    }
    try {
      const { service, seconds, errors, client } = await this.load.step(this.durationNs, SETTLE_MS);
      const after = await this.report();
      return {
        attack: kind?.name ?? 'none',
        fastShare: client.fast / Math.max(1, client.committed),
        p50Ns: service.quantile(0.5),
        p99Ns: service.quantile(0.99),
        opsPerSecond: service.count / seconds,
        failed: Object.values(errors).reduce((sum, count) => sum + count, 0),
        viewChanges: after.view - before.view,
        sent: attacker?.sent ?? null,
        refused: (await this.refused()) - refusedBefore,
      };
    } finally {
      attacker?.stop();
      await lanes?.stop(5_000);
    }
  }

  async close(): Promise<void> {
    for (const attacker of this.attackers.values()) attacker.close();
    await this.load.close();
  }

  private async report(): Promise<ReplicaStatusReport> {
    return (await this.load.reports())[0]!;
  }

  private async refused(): Promise<number> {
    const reports = await this.load.reports();
    return reports.reduce((sum, { counters }) => sum + counters['rejected_too_far_ahead']!, 0);
  }
}

function attackOf({ to, perSecond, aheadMs, role }: Kind, { view, members, primary }: ReplicaStatusReport): Attack {
  const member = members.find((id) => id !== primary)!;
  return {
    view,
    targets: [to === 'member' ? member : primary],
    perSecond,
    aheadMs,
    queries: role === 'read-only',
    operation: new Uint8Array(16),
  };
}

interface Row extends Run {
  /** Medians of the quiet runs just before and after each of these. */
  readonly quietFastShare: number;
  readonly quietP99Ns: number;
}

await program(
  {
    name: 'npm run bench:attacks --',
    summary: 'Measures what a client that attacks takes from the others.',
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
        help: `operations a second that the ${CLIENTS} well-behaved clients offer together`,
      },
      rounds: { kind: 'count', default: '3', min: 1, max: 1000, help: 'runs of each attack' },
      seconds: { kind: 'duration', default: '2s', min: 1e7, max: 3.6e12, help: 'how long a run is measured' },
    },
    examples: ['npm run bench:attacks', 'npm run bench:attacks -- --attacks ahead-10,near-500 --rounds 5'],
  },
  async ({ attacks, rate, rounds, seconds }, output) => {
    const kinds = namesOf('--attacks', attacks, KINDS);
    const rows: Row[] = [];
    const bench = await Bench.start(rate, seconds);
    try {
      await bench.run(undefined); // warm
      let quiet = await bench.run(undefined);
      for (let round = 0; round < rounds; round++) {
        for (const kind of kinds) {
          const run = await bench.run(kind);
          const next = await bench.run(undefined);
          rows.push({
            ...run,
            quietFastShare: (quiet.fastShare + next.fastShare) / 2,
            quietP99Ns: (quiet.p99Ns + next.p99Ns) / 2,
          });
          quiet = next;
          output.note(`round ${round + 1} of ${rounds}: ${kind.name}: ${lineOf(rows.at(-1)!)}`);
        }
      }
    } finally {
      await bench.close();
    }
    const medians = kinds.map(({ name }) => mediansOf(rows.filter(({ attack }) => attack === name)));
    if (output.json)
      output.line(
        JSON.stringify({
          schema: 'jitpaxos.attacks/1',
          offeredPerSecond: rate,
          rounds,
          rows: medians,
          host: hostInfo(),
          version: version(),
        }),
      );
    else output.line(tableOf(medians, rate));
  },
);

function lineOf({ fastShare, quietFastShare, p99Ns, quietP99Ns, failed, viewChanges }: Row): string {
  return `${percent(fastShare)} in one round trip, quiet ${percent(quietFastShare)}; p99 ${formatDuration(p99Ns)}, quiet ${formatDuration(quietP99Ns)}; failed ${failed}, views ${viewChanges}`;
}

/** Medians over the rounds; failures and view changes are added up. */
function mediansOf(runs: readonly Row[]): Row {
  const middle = (value: (run: Row) => number): number => median(runs.map(value));
  const sum = (value: (run: Row) => number): number => runs.reduce((total, run) => total + value(run), 0);
  return {
    attack: runs[0]!.attack,
    fastShare: middle(({ fastShare }) => fastShare),
    quietFastShare: middle(({ quietFastShare }) => quietFastShare),
    p50Ns: middle(({ p50Ns }) => p50Ns),
    p99Ns: middle(({ p99Ns }) => p99Ns),
    quietP99Ns: middle(({ quietP99Ns }) => quietP99Ns),
    opsPerSecond: middle(({ opsPerSecond }) => opsPerSecond),
    failed: sum(({ failed }) => failed),
    viewChanges: sum(({ viewChanges }) => viewChanges),
    sent: runs[0]!.sent === null ? null : sum(({ sent }) => sent!),
    refused: sum(({ refused }) => refused),
  };
}

function tableOf(rows: readonly Row[], rate: number): string {
  const { cpu, cores, kernel, node } = hostInfo();
  return [
    '| attack | in one round trip | quiet | of quiet | p99 | quiet | failed | view changes |',
    '| --- | --- | --- | --- | --- | --- | --- | --- |',
    ...rows.map(
      (row) =>
        `| ${row.attack} | ${percent(row.fastShare)} | ${percent(row.quietFastShare)} | ${(row.fastShare / row.quietFastShare).toFixed(2)} | ${formatDuration(row.p99Ns)} | ${formatDuration(row.quietP99Ns)} | ${row.failed} | ${row.viewChanges} |`,
    ),
    '',
    ...KINDS.map(({ name, what }) => `${name}: ${what}`),
    `${CLIENTS} clients offer ${formatCount(rate)} operations a second on ${cores} × ${cpu}, Linux ${kernel}, Node ${node}`,
  ].join('\n');
}

function percent(share: number): string {
  return `${(100 * share).toFixed(1)} %`;
}
