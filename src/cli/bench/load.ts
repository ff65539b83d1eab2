/**
 * `jitpaxos bench load`: an open loop. Operations arrive at a chosen rate whether or not the cluster keeps up, and
 * every latency counts from the moment at which the operation should have been sent. Takes one rate, or a ramp that
 * finds the knee.
 */
import { randomBytes } from 'node:crypto';
import { cpus } from 'node:os';
import { formatHgrm } from '../../metrics/hgrm.js';
import { Histogram } from '../../metrics/histogram.js';
import { loadCluster } from '../../host/cluster-config.js';
import { defineCommand, type Output } from '../../console/command.js';
import { CliError, Exit } from '../../console/exit.js';
import { LoadDisplay } from '../../measure/load/load-display.js';
import type { ArrivalKind } from '../../measure/load/arrivals.js';
import { BENCH_PREFIX, BenchKeys } from '../../measure/load/bench-keys.js';
import { Interruption } from '../../measure/load/interruption.js';
import { ZIPF_THETA, type KeyDistribution } from '../../measure/load/keys.js';
import { newRunId } from '../../measure/hlog/log-writer.js';
import { loadText, verdictRows } from '../../measure/load/load-report.js';
import {
  CLIENTS_MAX,
  DURATION_NS_MAX,
  LANES_MAX,
  RATE_MAX,
  SIZE_MAX,
  WARMUP_NS_MAX,
} from '../../measure/load/load-bounds.js';
import { LocalCluster } from '../../measure/local-cluster.js';
import { setWorkerKeys } from '../../console/settings.js';
import { OPERATION_NAMES } from '../../measure/load/operations.js';
import type { PacingKind } from '../../measure/load/pacer.js';
import { intervalFor, type Ramp, ratesBetween } from '../../measure/load/ramp.js';
import {
  checkAssertions,
  commandLine,
  parseAssertion,
  parseMix,
  type BenchReport,
} from '../../measure/load/bench-report.js';
import { writeOutput } from '../../console/output-file.js';
import { measureLoad, type LoadSetup, type MeasuredLoad } from './load-run.js';
import { loadByAgents, parseAgents } from './agents.js';
import { COMMAND_CHARACTERS_MAX } from '../../measure/agents/load-order.js';
import { benchPage } from '../../measure/report/bench-page.js';
import { transportChoice } from '../../console/transport-flags.js';
import {
  assertFlag,
  checkHistoryFlag,
  checkOutputs,
  checkTarget,
  machineFlag,
  mixFlag,
  OPERATION_FLAGS,
  OUTPUT_FLAGS,
  TARGET_FLAGS,
} from './flags.js';
import { formatCount, parseRate, parseSize } from '../../console/units.js';
import { warnWithoutKeys } from '../../console/without-keys.js';
import { announceStart, parseStartAt, waitForStart } from '../../measure/load/start-time.js';
import { wallClockMs } from '../../measure/load/wall-seconds.js';

const DEFAULT_WARMUP_NS = 1e9;
/** Share of the duration, so that short runs are not mostly warm-up. */
const WARMUP_SHARE = 0.25;
const DEFAULT_STEPS = 10;
/** Length of the random prefix of keys in a history. */
const KEY_PREFIX_BYTES = 4;

export const benchLoad = defineCommand(
  {
    name: 'bench load',
    summary:
      'Measures with an open loop: operations arrive at a chosen rate, and latency counts from the intended time of each. With a range of rates, finds the highest sustained rate (the knee).',
    positionals: [],
    flags: {
      ...TARGET_FLAGS,
      rate: {
        kind: 'text',
        value: 'R|FROM..TO',
        help: 'operations a second, all clients together: 10k, 1.5M; or a ramp: 10k..500k',
      },
      steps: {
        kind: 'count',
        min: 2,
        max: 100,
        help: `number of rates in a ramp, each the same factor above the one before (default ${DEFAULT_STEPS}). The ramp ends early when two in a row are not sustained`,
      },
      duration: {
        kind: 'duration',
        default: '10s',
        min: 1e8,
        max: DURATION_NS_MAX,
        help: 'how long to measure at each rate',
      },
      warmup: {
        kind: 'duration',
        max: WARMUP_NS_MAX,
        help: 'how long to load before that, not measured (default 1s, at most a quarter of the duration)',
      },
      arrivals: {
        kind: 'choice',
        choices: ['poisson', 'even'],
        default: 'poisson',
        help: 'poisson: at random, as from independent users; even: at even distances',
      },
      clients: { kind: 'count', default: '1', min: 1, max: CLIENTS_MAX, help: 'client processes that share the rate' },
      lanes: {
        kind: 'count',
        default: '512',
        min: 1,
        max: LANES_MAX,
        help: 'operations that each client may have open; further arrivals wait, and their latency includes the wait',
      },
      'start-at': {
        kind: 'text',
        value: 'TIME|next-minute',
        help: 'begin at this instant of the wall clock, on each of several hosts: a time with its zone, such as 2026-12-01T09:30:00Z, at most an hour ahead, or the next full minute that is at least 15 s ahead',
      },
      agents: {
        kind: 'text',
        value: 'HOST:PORT,…',
        help: `the load comes from these agents (bench agent), which share the rate; --clients and --lanes are those of each. Needs --cluster. The logs of all are added up`,
      },
      pacing: {
        kind: 'choice',
        choices: ['spin', 'sleep'],
        default: 'sleep',
        help: 'how a client waits for the next arrival. sleep: by a kernel timer, about 50 µs late. spin: on time, and keeps a core busy',
      },
      machine: machineFlag('kv'),
      mix: mixFlag('read=50,write=50', 'read=90,write=10'),
      ...OPERATION_FLAGS,
      size: {
        kind: 'text',
        value: 'SIZE|MIN..MAX',
        default: '64',
        help: 'bytes of an operation (echo) or value (kv); of a range, all sizes are equally likely',
      },
      distribution: {
        kind: 'choice',
        choices: ['uniform', 'zipfian'],
        default: 'uniform',
        help: `how keys are chosen; zipfian: a few keys most of the time (skew ${ZIPF_THETA})`,
      },
      seed: {
        kind: 'count',
        max: 2 ** 31 - 1,
        help: 'seed of arrivals, operations and keys (default drawn, and printed)',
      },
      ...OUTPUT_FLAGS,
      assert: assertFlag('; a ramp checks it at the knee'),
    },
    examples: [
      'jitpaxos bench load --local 3 --rate 5k --duration 30s --report load.html',
      "jitpaxos bench load --cluster cluster.json --rate 20k --clients 2 --mix read=90,write=10 --assert 'p99<2ms'",
      'jitpaxos bench load --rate 1k..100k --steps 10 --duration 5s',
      'jitpaxos bench load --cluster cluster.json --rate 5k --start-at next-minute --hlog host-a.hlog',
      'jitpaxos bench load --cluster cluster.json --rate 20k --agents a:7500,b:7500 --report load.html',
    ],
  },
  async ({ values }, output) => {
    const { local, history, keys, clients, lanes } = values;
    setWorkerKeys(values.cluster === undefined ? undefined : values['key-file']);
    checkTarget(values);
    const machine = values.machine === 'kv' ? 'kv' : 'echo';
    const [size, sizeMax] = parseSizes(values.size);
    checkHistoryFlag(history, machine, size);
    const rates = parseRates(values.rate, values.steps);
    const agents = values.agents === undefined ? undefined : parseAgents(values.agents);
    const clientsInAll = clients * (agents?.length ?? 1);
    if (rates[0]! < 0.1 * clientsInAll)
      throw new CliError(
        'flag-invalid',
        `--rate ${values.rate} is less than one operation in ten seconds for each of ${clientsInAll} clients; use fewer clients`,
      );
    const mix = parseMix(values.mix, OPERATION_NAMES[machine]);
    const assertions = values.assert.map(parseAssertion);
    const startAtMs = values['start-at'] === undefined ? undefined : parseStartAt(values['start-at'], wallClockMs());
    checkOutputs(values);
    if (startAtMs !== undefined) announceStart(startAtMs, output);
    const warmupNs = values.warmup ?? Math.min(DEFAULT_WARMUP_NS, WARMUP_SHARE * values.duration);
    const seed = values.seed ?? randomBytes(4).readUInt32BE(0) >>> 1;
    if (agents !== undefined) {
      checkForAgents(values, rates);
      return loadByAgents(
        {
          ...transportChoice(values),
          cluster: values.cluster!,
          'key-file': values['key-file'],
          report: values.report,
          hgrm: values.hgrm,
          hlog: values.hlog,
          agents,
          order: {
            run: newRunId(),
            commandLine: commandLine().slice(0, COMMAND_CHARACTERS_MAX),
            ratePerSecond: rates[0]!,
            durationNs: values.duration,
            warmupNs,
            arrivals: values.arrivals as ArrivalKind,
            seed,
            clients,
            lanes,
            pacing: values.pacing as PacingKind,
            machine,
            mix,
            opBytes: size,
            opBytesMax: sizeMax,
            keys,
            distribution: values.distribution as KeyDistribution,
            timeoutNs: values.timeout,
          },
          startAtMs,
          assertions,
        },
        output,
      );
    }
    const setup: LoadSetup = {
      clients,
      lanes,
      machine,
      mix,
      size,
      sizeMax,
      keys,
      distribution: values.distribution as KeyDistribution,
      keyPrefix: `${BENCH_PREFIX}${history === undefined ? 'key-' : `h${randomBytes(KEY_PREFIX_BYTES).toString('hex')}-`}`, // a history starts with absent keys
      timeoutMs: values.timeout / 1e6,
      ...transportChoice(values),
      pacing: values.pacing as PacingKind,
      history,
      hlog: values.hlog,
      oneWay: values['one-way'],
      run: newRunId(),
      commandLine: commandLine(),
      ramp: {
        rates,
        kind: values.arrivals as ArrivalKind,
        seed,
        warmupNs,
        durationNs: values.duration,
        intervalMs: intervalFor(values.duration),
        hostCores: cpus().length,
        replicasHere: values.cluster === undefined,
      },
    };
    using interruption = new Interruption();
    const written =
      values.cluster !== undefined && machine === 'kv' && Object.keys(mix).some((operation) => operation !== 'read')
        ? new BenchKeys(values.cluster, setup.keyPrefix, keys, { transport: setup.transport, idle: setup.idle })
        : undefined;
    const { report: measured, failure } = await measureOn(
      local ?? 3,
      values.cluster,
      setup,
      { durability: values.durability, startAtMs, output, interruption },
      written,
    );
    const report: BenchReport = written === undefined ? measured : { ...measured, keysLeft: await written.remove() };
    // The result first: a file that cannot be written must not lose it.
    output.line(output.json ? JSON.stringify(report) : loadText(report));
    writeOutput('hgrm', values.hgrm, () => formatHgrm(Histogram.fromData(report.histogram!)));
    writeOutput('report', values.report, () => benchPage(report));
    if (output.json)
      for (const [name, text] of verdictRows(report)) output.note(`${name}${name === '' ? '' : ': '}${text}`);
    if (failure !== undefined) throw failure;
    checkAssertions(assertions, report);
    return Exit.done;
  },
);

/** Throws CliError `flag-invalid` for what agents cannot do. */
function checkForAgents(
  {
    cluster,
    history,
    'one-way': oneWay,
  }: {
    readonly cluster: string | undefined;
    readonly history: string | undefined;
    readonly 'one-way': boolean;
  },
  rates: readonly number[],
): void {
  if (cluster === undefined)
    throw new CliError('flag-invalid', '--agents needs --cluster: the cluster that they load; add it');
  if (history !== undefined)
    throw new CliError('flag-invalid', '--history and --agents exclude each other; leave one out');
  if (oneWay)
    throw new CliError(
      'flag-invalid',
      '--one-way and --agents exclude each other; on each host, start a bench with --one-way and --start-at, and add them with bench merge',
    );
  if (rates.length > 1)
    throw new CliError(
      'flag-invalid',
      '--agents measure at one rate, because latencies at several are not one distribution; give --rate one rate',
    );
}

/** How a load on this host is run and shown. */
interface Showing {
  /** Durability of the replicas started here. */
  readonly durability: string;
  /** When the load begins, ms since the epoch; undefined: as soon as it can. */
  readonly startAtMs: number | undefined;
  readonly output: Output;
  readonly interruption: Interruption;
}

async function measureOn(
  replicas: number,
  clusterFile: string | undefined,
  setup: LoadSetup,
  showing: Showing,
  written: BenchKeys | undefined,
): Promise<MeasuredLoad> {
  const { output, durability } = showing;
  if (clusterFile !== undefined) {
    const { lanesPerSession } = loadCluster(clusterFile).limits;
    if (setup.lanes > lanesPerSession)
      throw new CliError(
        'flag-invalid',
        `--lanes ${setup.lanes} is above the limit lanesPerSession of ${clusterFile}, ${lanesPerSession}; use fewer lanes and more --clients`,
      );
    if (written !== undefined) output.note(written.announcement);
    try {
      return await measure(clusterFile, `${clusterFile}`, setup, showing);
    } catch (error) {
      if (written !== undefined) output.note(written.abandoned);
      throw error;
    }
  }
  await using cluster = await LocalCluster.start({
    replicas,
    machine: setup.machine,
    transport: setup.transport,
    idle: setup.idle,
    durability,
  });
  return await measure(
    cluster.clusterFile,
    `${replicas} replica${replicas === 1 ? '' : 's'} on loopback`,
    setup,
    showing,
  );
}

function measure(
  clusterFile: string,
  where: string,
  setup: LoadSetup,
  { startAtMs, output, interruption }: Showing,
): Promise<MeasuredLoad> {
  const { clients, ramp: plan } = setup;
  warnWithoutKeys(output, loadCluster(clusterFile));
  const title = `${where}, ${clients} client${clients === 1 ? '' : 's'}, ${plan.kind} arrivals, seed ${plan.seed}`;
  return measureLoad(clusterFile, setup, {
    begin: async () => (startAtMs === undefined ? undefined : waitForStart(startAtMs, output)),
    run: (ramp, startNs) => runShown(ramp, startNs, title, output, interruption),
  });
}

/**
 * Runs the ramp with the display; Ctrl-C ends it in order, a second one at once. Returns the error of a client process,
 * if one failed.
 */
async function runShown(
  ramp: Ramp,
  startNs: number | undefined,
  title: string,
  output: Output,
  interruption: Interruption,
): Promise<unknown> {
  const display = new LoadDisplay(output, title, ramp);
  output.note(`load: ${title}`);
  try {
    await interruption.during(
      () => ramp.interrupt(),
      () => ramp.run((step) => display.step(step), startNs),
    );
    return undefined;
  } catch (error) {
    return error;
  } finally {
    display.end();
  }
}

/** `10k` or `10k..500k`. */
function parseRates(text: string | undefined, steps: number | undefined): number[] {
  if (text === undefined)
    throw new CliError(
      'flag-invalid',
      '--rate is missing; give operations a second, such as --rate 5k, or a ramp, such as --rate 1k..100k',
    );
  const bounds = text.split('..').map(parseRate);
  const [from, to] = bounds;
  if (bounds.length > 2 || bounds.some((bound) => bound === undefined || bound > RATE_MAX)) {
    throw new CliError(
      'flag-invalid',
      `--rate "${text}" is not a rate of at most ${formatCount(RATE_MAX)} operations a second, such as 500, 10k or 1.5M, nor a range, such as 10k..500k; correct it`,
    );
  }
  if (to === undefined) {
    if (steps !== undefined)
      throw new CliError(
        'flag-invalid',
        `--steps ${steps} needs a range of rates, such as --rate 10k..500k; add it, or leave out --steps`,
      );
    return [from!];
  }
  if (to <= from!) throw new CliError('flag-invalid', `--rate "${text}" does not rise; write the lower rate first`);
  return ratesBetween(from!, to, steps ?? DEFAULT_STEPS);
}

/** `64` or `16..4KiB`. */
function parseSizes(text: string): [number, number] {
  const bounds = text.split('..').map(parseSize);
  const [from, to = from] = bounds;
  if (bounds.length > 2 || from === undefined || to === undefined || to < from || to > SIZE_MAX) {
    throw new CliError(
      'flag-invalid',
      `--size "${text}" is not a size of at most ${SIZE_MAX}, such as 64 or 4KiB, nor a rising range, such as 16..1KiB; correct it`,
    );
  }
  return [from, to];
}
