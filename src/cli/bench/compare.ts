/**
 * `jitpaxos bench compare`: measures the cluster and baselines of the same shape alternately, in several rounds; prints
 * medians and ratios. compare/ has the contestants.
 */
import { DEFAULT_DATAGRAM_BYTES, JUMBO_DATAGRAM_BYTES } from '../../wire/envelope.js';
import { KV_VALUE_BYTES_MAX } from '../../machine/kv-codec.js';
import { MAX_REPLICAS } from '../../protocol/views.js';
import { IDLE_STRATEGIES } from '../../transport/transport.js';
import type { Durability } from '../../storage/durability.js';
import { TRANSPORT_KINDS } from '../../host/transport-choice.js';
import { version } from '../../host/version.js';
import { defineCommand } from '../../console/command.js';
import { DURABILITY_FLAG } from '../../console/durability-flag.js';
import { CliError, Exit } from '../../console/exit.js';
import { CEcho, EchoProgram } from '../../measure/compare/c-echo.js';
import { OurCluster } from '../../measure/compare/cluster.js';
import { compareReport, compareTable } from '../../measure/compare/compare-report.js';
import type { Contestant, Measured } from '../../measure/compare/contestant.js';
import { DgramEcho } from '../../measure/compare/dgram-echo.js';
import { runRounds } from '../../measure/compare/rounds.js';
import type { Point } from '../../measure/compare/shape.js';
import { Interruption } from '../../measure/load/interruption.js';
import { hostInfo, type BenchReport } from '../../measure/load/bench-report.js';
import type { TransportChoice } from '../../console/transport-flags.js';
import { formatCount, formatDuration, parseCount, parseSize } from '../../console/units.js';

const BASELINES = ['c-echo-block', 'c-echo-spin', 'dgram-echo', 'unreplicated'] as const;

export const benchCompare = defineCommand(
  {
    name: 'bench compare',
    summary:
      'Compares a cluster on loopback with baselines of the same shape, which take turns; prints medians of the rounds, and ratios. Separate the items of a list by commas; every combination is measured.',
    positionals: [],
    flags: {
      local: { kind: 'text', value: 'N,…', default: '3', help: 'numbers of replicas' },
      points: { kind: 'text', value: 'W,…', default: '1,32,512', help: 'numbers of operations open in each client' },
      clients: { kind: 'text', value: 'C,…', default: '1', help: 'numbers of client processes' },
      size: { kind: 'text', value: 'BYTES,…', default: '64', help: 'bytes of an operation (echo) or value (kv)' },
      operations: { kind: 'text', value: 'write,read', default: 'write', help: 'what the clients do' },
      machine: { kind: 'choice', choices: ['echo', 'kv'], default: 'echo', help: 'the state machine' },
      transport: { kind: 'text', value: 'LIST', default: 'auto', help: `transports, of ${TRANSPORT_KINDS.join(', ')}` },
      idle: {
        kind: 'text',
        value: 'LIST',
        help: `idle strategies, of ${IDLE_STRATEGIES.join(', ')}; dgram always blocks (default: that of the transport)`,
      },
      durability: DURABILITY_FLAG,
      'datagram-bytes': {
        kind: 'bytes',
        min: 256,
        max: 60_000,
        help: `longest datagram of several messages, for the cluster and the baselines (default ${JUMBO_DATAGRAM_BYTES}, as on loopback; ${DEFAULT_DATAGRAM_BYTES} is Ethernet)`,
      },
      baselines: {
        kind: 'text',
        value: 'LIST',
        default: BASELINES.join(','),
        help: 'baselines to measure, or none; the c-echo programs are compiled when they are named',
      },
      rounds: { kind: 'count', default: '3', min: 1, max: 1000, help: 'rounds; each round runs every contestant once' },
      seconds: { kind: 'duration', default: '1s', min: 1e7, max: 3.6e12, help: 'how long each run is measured' },
      warmup: { kind: 'duration', default: '1s', max: 3.6e12, help: 'how long each run is loaded before that' },
    },
    examples: [
      'jitpaxos bench compare --local 3',
      'jitpaxos bench compare --points 1 --transport dgram,native --idle block,adaptive,busy --rounds 5 --json',
    ],
  },
  async ({ values }, output) => {
    const points = pointsOf(values);
    const wirings = wiringsOf(values.transport, values.idle);
    const baselines = values.baselines === 'none' ? [] : wordsOf('baselines', values.baselines, BASELINES);
    const durability = values.durability as Durability;
    const timing = { warmupMs: values.warmup / 1e6, ms: values.seconds / 1e6 };
    using interruption = new Interruption();
    using program = baselines.some((name) => name.startsWith('c-echo')) ? await EchoProgram.build() : undefined;
    const shared: Contestant[] = baselines
      .filter((name) => name !== 'unreplicated')
      .map((name) =>
        name === 'dgram-echo' ? new DgramEcho() : new CEcho(program!, name === 'c-echo-spin' ? 'spin' : 'block'),
      );
    const reports: BenchReport[] = [];
    const runs =
      points.length * values.rounds * (shared.length + wirings.length * (baselines.includes('unreplicated') ? 2 : 1));
    let done = 0;
    let partial: string | null = null;
    for (const [index, point] of points.entries()) {
      const ours = wirings.map((wiring) => ({
        cluster: new OurCluster(nameOf('cluster', wiring), wiring, { durability }),
        unreplicated: baselines.includes('unreplicated')
          ? new OurCluster(nameOf('unreplicated', wiring), wiring, { durability, replicas: 1 })
          : undefined,
      }));
      const contestants = [
        ...shared,
        ...ours.flatMap(({ cluster, unreplicated }) =>
          unreplicated === undefined ? [cluster] : [cluster, unreplicated],
        ),
      ];
      const measured = await interruption.during(
        () => output.note('ends after the current run; Ctrl-C again ends at once'),
        () =>
          runRounds(
            contestants,
            point,
            timing,
            values.rounds,
            (_, name, run) => output.note(progressOf(++done, runs, point, name, run)),
            () => interruption.requested,
          ),
      );
      const rounds = measured.get(contestants[0]!.name)!.length;
      if (interruption.requested)
        partial = `interrupted after ${rounds} of ${values.rounds} rounds of point ${index + 1} of ${points.length}`;
      if (rounds === 0) break;
      for (const { cluster, unreplicated } of ours) {
        const theirs = new Map<string, readonly Measured[]>(shared.map(({ name }) => [name, measured.get(name)!]));
        if (unreplicated !== undefined) theirs.set('unreplicated', measured.get(unreplicated.name)!);
        reports.push({
          ...compareReport(point, durability, measured.get(cluster.name)!, theirs),
          partial: rounds < values.rounds ? partial : null,
        });
      }
      if (partial !== null) break;
    }
    if (reports.length === 0) throw new CliError('interrupted', `${partial}, before a round was complete; run again`);
    const result = {
      schema: 'jitpaxos.bench/1',
      command: 'compare',
      partial,
      rounds: values.rounds,
      secondsPerRun: timing.ms / 1000,
      warmupSeconds: timing.warmupMs / 1000,
      points: reports,
      host: hostInfo(),
      version: version(),
    };
    output.line(output.json ? JSON.stringify(result) : compareTable(reports, values.rounds, timing));
    if (partial !== null) throw new CliError('interrupted', `${partial}; what is printed was measured until then`);
    return Exit.done;
  },
);

/** Every combination of the lists. */
function pointsOf(values: {
  local: string;
  clients: string;
  points: string;
  size: string;
  operations: string;
  machine: string;
  'datagram-bytes': number | undefined;
}): Point[] {
  const machine = values.machine === 'kv' ? 'kv' : 'echo';
  const sizes = numbersOf('size', values.size, 1, machine === 'kv' ? KV_VALUE_BYTES_MAX : 48 * 1024, parseSize);
  const operations = wordsOf('operations', values.operations, ['write', 'read'] as const);
  const points: Point[] = [];
  for (const replicas of numbersOf('local', values.local, 1, MAX_REPLICAS)) {
    if (replicas % 2 === 0)
      throw new CliError('flag-invalid', `--local ${replicas} is even; a cluster has an odd number of replicas`);
    for (const clients of numbersOf('clients', values.clients, 1, 256)) {
      for (const bytes of sizes) {
        for (const operation of operations)
          for (const open of numbersOf('points', values.points, 1, 4096))
            points.push({
              replicas,
              clients,
              open,
              bytes,
              operation,
              machine,
              datagramBytes: values['datagram-bytes'],
            });
      }
    }
  }
  return points;
}

/** Every combination that exists: dgram always blocks. */
function wiringsOf(transports: string, idles: string | undefined): TransportChoice[] {
  const strategies = idles === undefined ? [undefined] : wordsOf('idle', idles, IDLE_STRATEGIES);
  return wordsOf('transport', transports, TRANSPORT_KINDS).flatMap((transport): TransportChoice[] =>
    transport === 'dgram' ? [{ transport, idle: undefined }] : strategies.map((idle) => ({ transport, idle })),
  );
}

function numbersOf(
  flag: string,
  text: string,
  low: number,
  high: number,
  parse: (text: string) => number | undefined = parseCount,
): number[] {
  return text.split(',').map((part) => {
    const value = parse(part);
    if (value === undefined || value < low || value > high)
      throw new CliError(
        'flag-invalid',
        `--${flag}: "${part}" is not a number from ${low} to ${high}; give one, or several separated by commas`,
      );
    return value;
  });
}

function wordsOf<const T extends string>(flag: string, text: string, known: readonly T[]): T[] {
  return text.split(',').map((word) => {
    if (!known.includes(word as T))
      throw new CliError(
        'flag-invalid',
        `--${flag}: "${word}" is not known; give one or several of ${known.join(', ')}, separated by commas`,
      );
    return word as T;
  });
}

function nameOf(what: string, { transport, idle }: TransportChoice): string {
  return `${what} ${transport}${idle === undefined ? '' : `/${idle}`}`;
}

function progressOf(
  done: number,
  all: number,
  { replicas, clients, open, bytes, operation }: Point,
  name: string,
  { histogram, opsPerSecond }: Measured,
): string {
  return `${done} of ${all}: ${replicas} replicas, ${clients} × ${open} open, ${bytes} bytes, ${operation}: ${name}: p50 ${formatDuration(histogram.quantile(0.5))}, ${formatCount(opsPerSecond)} operations/s`;
}
