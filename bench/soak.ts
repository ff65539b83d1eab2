/**
 * Full load on a cluster of real processes for as long as you like, in which nothing may go wrong: no replica
 * suspected, no view change, no growth of memory. It shows what a fast failure detector does to a healthy cluster.
 *
 *   npm run bench:soak an hour
 *   npm run bench:soak -- --duration 8h --machine kv --json
 *
 * The host should have nothing else to do. A replica that does not run for the suspicion time is as good as gone, and a
 * host that is busy elsewhere causes that.
 */
import { fileURLToPath } from 'node:url';
import { Children, LineChild } from '../src/measure/compare/line-child.js';
import { checkNew } from '../src/console/output-file.js';
import { CliError } from '../src/console/exit.js';
import { addCounts, NO_COUNTS } from '../src/measure/load/counts.js';
import { currentSecond, wallClockMs, type TaggedSecond } from '../src/measure/load/wall-seconds.js';
import { HlogWriter, newRunId } from '../src/measure/hlog/log-writer.js';
import { LocalCluster } from '../src/measure/local-cluster.js';
import { hostInfo } from '../src/measure/load/bench-report.js';
import { formatCount, formatDuration } from '../src/console/units.js';
import { Histogram } from '../src/metrics/histogram.js';
import type { ReplicaStatusReport } from '../src/host/status.js';
import { version } from '../src/host/version.js';
import { checkMissed, goalsTable, judged, type RowResult } from './goals/row.js';
import { program } from './program.js';
import { residentBytes } from './resident.js';
import type { SoakClientSetup, SoakInterval } from './soak-client.js';

const CLIENT = fileURLToPath(new URL('./soak-client.js', import.meta.url));
const MIB = 1 << 20;
/** Counted by the replicas, summed over them, from the end of the warm-up on. */
const WATCHED = [
  'false_suspicions',
  'suspicions',
  'view_changes_started',
  'views_installed',
  'snapshots_taken',
  'rollbacks',
  'repairs',
] as const;

type Watched = Readonly<Record<(typeof WATCHED)[number], number>>;

interface Sample {
  readonly views: readonly number[];
  readonly counted: Watched;
  /** Memory of the replicas, by id, and of the client, bytes; null if the kernel does not report it. */
  readonly resident: readonly (number | null)[];
}

/** Throws CliError `replica-not-ready` if one does not answer: none was ended on purpose. */
async function sample(cluster: LocalCluster, clientPid: number | undefined): Promise<Sample> {
  const reports = (await cluster.ask('stats')).map((answer, id) => {
    if (answer === undefined)
      throw new CliError(
        'replica-not-ready',
        `replica ${id} ended, or did not answer for 5 s: ${cluster.replicas[id]!.complaint.trim().split('\n').at(-1) ?? ''}`,
      );
    return answer.status as unknown as ReplicaStatusReport;
  });
  const counted = Object.fromEntries(
    WATCHED.map((name) => [name, reports.reduce((sum, { counters }) => sum + counters[name]!, 0)]),
  ) as unknown as Watched;
  return {
    views: reports.map(({ view }) => view),
    counted,
    resident: [...cluster.replicas.map(({ child }) => child.pid), clientPid].map(residentBytes),
  };
}

function since(now: Watched, before: Watched): Watched {
  return Object.fromEntries(WATCHED.map((name) => [name, now[name] - before[name]])) as unknown as Watched;
}

/** Mean of the first and of the last quarter of the samples, MiB, and their ratio; null if one was missing. */
function growthOf(
  samples: readonly (number | null)[],
): { readonly firstMiB: number; readonly lastMiB: number; readonly ratio: number } | null {
  const quarter = Math.max(1, Math.floor(samples.length / 4));
  const mean = (part: readonly (number | null)[]): number =>
    part.reduce<number>((sum, bytes) => sum + (bytes ?? NaN), 0) / part.length / MIB;
  const firstMiB = mean(samples.slice(0, quarter));
  const lastMiB = mean(samples.slice(-quarter));
  return Number.isFinite(firstMiB + lastMiB) ? { firstMiB, lastMiB, ratio: lastMiB / firstMiB } : null;
}

await program(
  {
    name: 'npm run bench:soak --',
    summary: 'Runs a healthy cluster at full load for long, and counts false alarms.',
    positionals: [],
    flags: {
      duration: {
        kind: 'duration',
        default: '1h',
        min: 1e7,
        max: 3.6e15,
        help: 'how long, rounded up to whole intervals',
      },
      every: {
        kind: 'duration',
        default: '1m',
        min: 1e7,
        max: 3.6e12,
        help: 'an interval: progress is told, and memory looked at, once in it',
      },
      warmup: { kind: 'duration', default: '10s', max: 3.6e12, help: 'how long it runs before' },
      replicas: { kind: 'count', default: '3', min: 1, max: 13, help: 'replicas, an odd number' },
      open: { kind: 'count', default: '512', min: 1, max: 4096, help: 'operations open at a time' },
      size: { kind: 'bytes', default: '64', max: 48 * 1024, help: 'bytes of an operation (echo) or value (kv)' },
      machine: { kind: 'choice', choices: ['echo', 'kv'], default: 'echo', help: 'the state machine' },
      durability: {
        kind: 'choice',
        choices: ['memory', 'os', 'fsync'],
        default: 'memory',
        help: 'what is on disk before an acknowledgement',
      },
      transport: {
        kind: 'choice',
        choices: ['auto', 'native', 'dgram'],
        default: 'auto',
        help: 'auto: native where the addon is',
      },
      keys: { kind: 'switch', help: 'the cluster authenticates its datagrams' },
      hlog: {
        kind: 'text',
        value: 'FILE',
        help: 'write a histogram of every second by outcome, as a log of HdrHistogram',
      },
      strict: { kind: 'switch', help: 'exit with 4 when there was a false alarm' },
    },
    examples: ['npm run bench:soak', 'npm run bench:soak -- --duration 90s --every 10s --json'],
  },
  async (
    { duration, every, warmup, replicas, open, size, machine, durability, transport, keys, hlog, strict },
    output,
  ) => {
    checkNew('hlog', hlog);
    if (replicas % 2 === 0) throw new CliError('flag-invalid', `--replicas is an odd number, not ${replicas}`);
    const intervals = Math.ceil(duration / every);
    await using cluster = await LocalCluster.start({
      replicas,
      machine: machine as 'echo' | 'kv',
      transport,
      durability,
      authenticated: keys,
    });
    await using children = new Children();
    const setup: SoakClientSetup = {
      cluster: cluster.clusterFile,
      transport,
      machine: machine as 'echo' | 'kv',
      open,
      bytes: size,
      warmupMs: warmup / 1e6,
      intervalMs: every / 1e6,
      intervals,
      ...(hlog === undefined ? {} : { seconds: currentSecond() }),
    };
    const client = children.add(LineChild.start(process.execPath, [CLIENT, JSON.stringify(setup)], 'the client'));
    await client.ready();
    const first = await sample(cluster, client.pid);
    using log =
      hlog === undefined
        ? undefined
        : HlogWriter.open(
            hlog,
            newRunId(),
            {
              command: 'soak',
              version: version(),
              commandLine: `npm run bench:soak -- ${process.argv.slice(2).join(' ')}`.trim(),
              host: hostInfo(),
              replicas,
              machine,
              mix: { write: 1 },
              opBytes: size,
              opBytesMax: size,
              authenticated: keys,
              clients: 1,
              lanes: open,
              rates: [],
              arrivals: null,
              seed: null,
              keys: null,
              distribution: null,
            },
            wallClockMs(),
          );
    client.go();
    const startedMs = performance.now();
    const total = new Histogram();
    let counts = NO_COUNTS;
    let longestPauseNs = 0;
    let last = first;
    let moved = 0;
    const told: object[] = [];
    const resident: (readonly (number | null)[])[] = [];
    for (let number = 1; number <= intervals; number++) {
      const interval = await nextInterval(client, every / 1e6, log);
      const present = await sample(cluster, client.pid);
      const histogram = Histogram.fromData(interval.histogram);
      total.merge(histogram);
      counts = addCounts(counts, interval.counts);
      longestPauseNs = Math.max(longestPauseNs, interval.longestPauseNs);
      const counted = since(present.counted, last.counted);
      // A view counts once, however many replicas took part in it.
      const views = Math.max(...present.views) - Math.max(...last.views);
      moved += views;
      resident.push(present.resident);
      last = present;
      const opsPerSecond = histogram.count / interval.seconds;
      told.push({
        second: Math.round((performance.now() - startedMs) / 1000),
        opsPerSecond: Math.round(opsPerSecond),
        p50Ns: histogram.quantile(0.5),
        p99Ns: histogram.quantile(0.99),
        longestPauseNs: interval.longestPauseNs,
        failed: interval.counts.failed,
        views,
        counted,
        residentMiB: resident.at(-1)!.map(inMiB),
      });
      output.note(
        `${number} of ${intervals}: ${formatCount(opsPerSecond)}/s, p99 ${formatDuration(histogram.quantile(0.99))}, no commits for ${formatDuration(interval.longestPauseNs)} at most, ${interval.counts.failed} failed; ` +
          `${views} view changes, ${counted.false_suspicions} false suspicions (${counted.suspicions} looks around), ${counted.snapshots_taken} snapshots; MiB ${resident
            .at(-1)!
            .map((bytes) => inMiB(bytes) ?? '?')
            .join(' ')}`,
      );
    }
    const counted = since(last.counted, first.counted);
    const growth = first.resident.map((_, of) => growthOf(resident.map((each) => each[of]!)));
    const seconds = (performance.now() - startedMs) / 1000;
    const rows = [
      alarmsRow('soak-views', 'view changes, nobody having failed', moved, counted.view_changes_started),
      alarmsRow('soak-suspicions', 'false suspicions, all replicas together', counted.false_suspicions, 0),
    ];
    const result = {
      schema: 'jitpaxos.soak/1',
      rows,
      missed: rows.filter(({ holds }) => !holds).map(({ name }) => name),
      replicas,
      machine,
      durability,
      authenticated: keys,
      open,
      size,
      seconds,
      operations: total.count,
      opsPerSecond: total.count / seconds,
      latencyNs: total.summary(),
      longestPauseNs,
      counts,
      counted,
      /** By replica, and at the end of the client. */
      residentMiB: growth,
      intervals: told,
      host: hostInfo(),
      version: version(),
    };
    output.line(
      output.json
        ? JSON.stringify(result)
        : [
            goalsTable(rows, seconds),
            '',
            `operations  ${formatCount(total.count)}, ${formatCount(result.opsPerSecond)}/s, ${counts.failed} failed; p50 ${formatDuration(total.quantile(0.5))}, p99 ${formatDuration(total.quantile(0.99))}, max ${formatDuration(total.max)}`,
            `no commits  for ${formatDuration(longestPauseNs)} at most`,
            `replicas    looked around ${counted.suspicions} times, took ${counted.snapshots_taken} snapshots, ${counted.repairs} repairs`,
            ...growth.map(
              (of, id) =>
                `memory      ${id < replicas ? `replica ${id}` : 'client   '}: ${of === null ? 'unknown' : `${of.firstMiB.toFixed(0)} MiB in the first quarter, ${of.lastMiB.toFixed(0)} MiB in the last (${of.ratio.toFixed(2)})`}`,
            ),
          ].join('\n'),
    );
    log?.end({
      partial: null,
      shortfall: null,
      transport: transport === 'auto' ? null : transport,
      durability,
      seconds,
      failed: counts.failed,
    });
    checkMissed(result.missed, strict);
  },
);

/** The next interval of the client. Seconds that come before it go to the log. */
async function nextInterval(client: LineChild, afterMs: number, log: HlogWriter | undefined): Promise<SoakInterval> {
  for (;;) {
    const said = await client.result<SoakInterval | TaggedSecond>(afterMs);
    if (!('tags' in said)) return said;
    log?.add(0, said);
  }
}

function alarmsRow(name: string, what: string, happened: number, started: number): RowResult {
  return judged({
    name,
    what,
    goal: '0',
    measured: started > happened ? `${happened} (${started} asked for)` : String(happened),
    figures: [
      { value: happened, atMost: 0 },
      { value: started, atMost: 0 },
    ],
    values: { happened, started },
  });
}

function inMiB(bytes: number | null): number | null {
  return bytes === null ? null : Math.round(bytes / MIB);
}
