/**
 * `jitpaxos replica`: runs one replica until SIGTERM or SIGINT, or until it stops by itself (exit code 1).
 *
 * If a bench or test forks it with an IPC channel, it answers questions about itself (load/messages.ts) and stops when
 * the parent is gone, so that no replica is left behind.
 */
import { CLOCK_SPEC_FORMS } from '../clock/spec.js';
import { EchoMachine } from '../machine/echo.js';
import { KvMachine } from '../machine/kv.js';
import { HeapMeter } from '../metrics/heap-meter.js';
import { DEFAULT_LATE, DEFAULT_TIMINGS, LATE_RULES, type LateRule, type Timings } from '../protocol/config.js';
import { LineOutput } from '../host/line-output.js';
import { LOG_LEVELS, type Logger } from '../host/logger.js';
import { Replica } from '../server/replica.js';
import { DEFAULT_DURABILITY, SEGMENT_BYTES_MAX, SEGMENT_BYTES_MIN } from '../server/storage-choice.js';
import { DURABILITIES, type Durability } from '../storage/durability.js';
import { DEFAULT_DATAGRAM_BYTES, JUMBO_DATAGRAM_BYTES } from '../wire/envelope.js';
import { PREVIOUS_WIRE_VERSION, WIRE_VERSION } from '../wire/versions.js';
import { defineCommand } from '../console/command.js';
import { dataBeside } from '../console/data-beside.js';
import type { Flags } from '../console/flags.js';
import { joinedId } from './members/join.js';
import { beginService, serveHttp } from './serve-http.js';
import { placeIn } from './members/place.js';
import { addressText } from '../host/cluster-config.js';
import { CliError, Exit } from '../console/exit.js';
import type { ReplicaAnswer, ReplicaQuestion } from '../measure/load/messages.js';
import { asSettings, CLUSTER_FLAG, CONFIG_FLAG } from '../console/settings.js';
import { TRANSPORT_FLAGS, transportChoice } from '../console/transport-flags.js';

const MICROSECONDS = 1e6;
/** How long a stopping replica waits for a reader of its last lines. */
const LAST_LINES_MS = 2_000;

const JOIN_FLAGS = {
  join: {
    kind: 'text',
    value: 'FILE',
    standard: 'off',
    help: 'the cluster file of a cluster that this host is added to. With an empty data directory the process waits for jitpaxos member add or replace; later it starts as the host that it became',
  },
  listen: {
    kind: 'text',
    value: 'HOST:PORT',
    standard: 'where the members list this host',
    help: 'where this process listens, and the address under which the other hosts reach it: a local one, so not behind a translation of addresses. Needed with --join and an empty data directory, and after the data directory has moved to another host, until jitpaxos member move has listed it there',
  },
} as const satisfies Flags;

export const replica = defineCommand(
  {
    name: 'replica',
    service: true,
    summary:
      'Runs one replica of a cluster. Prints one line when it can receive: ready {"id":…,"view":…,"port":…,"pid":…,"transport":…,"idle":…,"durability":…}',
    positionals: [],
    flags: asSettings({
      config: CONFIG_FLAG,
      cluster: CLUSTER_FLAG,
      keys: {
        kind: 'text',
        value: 'FILE',
        alias: 'key-file',
        standard: 'replica.keys beside the cluster file',
        help: 'the key file, in a cluster with keys; on SIGHUP it is read again',
      },
      id: { kind: 'count', help: 'index of this replica in the cluster file, from 0' },
      ...JOIN_FLAGS,
      data: {
        kind: 'text',
        value: 'DIR',
        standard: '.jitpaxos/replica-N beside the cluster file',
        help: 'data directory of this replica',
      },
      durability: {
        kind: 'choice',
        choices: DURABILITIES,
        default: DEFAULT_DURABILITY,
        help: 'what is on disk when an operation is acknowledged. os: it is written, and survives the process. fsync: it is synced, and survives the host. memory: nothing, and it is lost if more than f replicas stop at once',
      },
      'log-lost': {
        kind: 'switch',
        help: 'the data directory was lost for good and is empty: join as a replica that lost its log, although others remember this one',
      },
      'segment-bytes': {
        kind: 'bytes',
        min: SEGMENT_BYTES_MIN,
        max: SEGMENT_BYTES_MAX,
        standard: '16MiB',
        help: 'size of a segment of the log on disk; two are always allocated',
      },
      ...TRANSPORT_FLAGS,
      clock: {
        kind: 'text',
        value: 'CLOCK',
        default: 'auto',
        help: `the clock that timestamps come from: one of ${CLOCK_SPEC_FORMS}`,
      },
      metrics: {
        kind: 'text',
        value: '[HOST:]PORT',
        standard: 'off',
        help: 'serve /metrics, /healthz and /readyz over HTTP at this address; without HOST, on 127.0.0.1 only',
      },
      'metrics-names': {
        kind: 'text',
        value: 'NAME[,NAME]',
        standard: 'none',
        help: 'host names under which --metrics and --health may be asked, beside IP addresses and localhost; other names are answered with status 421',
      },
      health: {
        kind: 'text',
        value: '[HOST:]PORT',
        standard: 'off',
        help: 'serve only /healthz and /readyz, at an address of their own, for probes; without HOST, on 127.0.0.1 only',
      },
      machine: { kind: 'choice', choices: ['kv', 'echo'], default: 'kv', help: 'the state machine' },
      'log-level': {
        kind: 'choice',
        choices: LOG_LEVELS,
        default: 'info',
        help: 'lowest level that is logged to stderr; info includes starts, stops and every transition',
      },
      'log-format': {
        kind: 'choice',
        choices: ['auto', 'json', 'text'],
        default: 'auto',
        help: 'format of the log; auto: text on a terminal, JSON elsewhere',
      },
      'datagram-bytes': {
        kind: 'bytes',
        min: 256,
        max: 60_000,
        standard: `from the cluster file, else ${DEFAULT_DATAGRAM_BYTES}, or ${JUMBO_DATAGRAM_BYTES} if all replicas are on loopback`,
        help: `longest datagram: the MTU of the path less 48. Only a single longer operation or result exceeds it`,
      },
      'wire-version': {
        kind: 'count',
        min: PREVIOUS_WIRE_VERSION,
        max: WIRE_VERSION,
        standard: `${WIRE_VERSION}`,
        help: `newest wire version to speak; ${PREVIOUS_WIRE_VERSION} rules the newer one out as the cause of a problem`,
      },
      'sync-interval': {
        kind: 'duration',
        min: 1e3,
        max: 60e9,
        standard: `${DEFAULT_TIMINGS.syncIntervalUs / 1e3}ms`,
        help: `the primary sends a heartbeat at least this often`,
      },
      'suspect-after': {
        kind: 'duration',
        min: 1e6,
        max: 3600e9,
        standard: `${DEFAULT_TIMINGS.suspectUs / 1e3}ms`,
        help: `a replica that is silent for this long is suspected; make it several times --sync-interval`,
      },
      'max-ahead': {
        kind: 'duration',
        max: 3600e9,
        standard: `${DEFAULT_TIMINGS.maxAheadNs / 1e6}ms`,
        help: `requests with a timestamp further ahead of this replica's clock are rejected, even if --max-hold is longer`,
      },
      'max-hold': {
        kind: 'duration',
        max: 60e9,
        standard: `${DEFAULT_TIMINGS.maxHoldNs / 1e6}ms`,
        help: `longest time that a request is held back until its timestamp is due; requests that are further ahead are rejected; 0s: never held`,
      },
      late: {
        kind: 'choice',
        choices: LATE_RULES,
        default: DEFAULT_LATE,
        help: 'what the primary does with a late request. restamp: assign the next free timestamp. reject: let the client stamp it again',
      },
      'order-hold': {
        kind: 'duration',
        max: 60e9,
        standard: `${DEFAULT_TIMINGS.orderHoldUs / 1e3}ms`,
        help: `after a member differed, the primary pushes its order to members for this long; 0s: never`,
      },
      'slow-after': {
        kind: 'duration',
        max: 3600e9,
        standard: `${DEFAULT_TIMINGS.slowAfterUs / 1e3}ms`,
        help: `a member that is much slower than a spare for this long leaves the quorum; 0s: never`,
      },
    }),
    examples: [
      'jitpaxos replica --cluster cluster.json --id 0',
      'JITPAXOS_ID=0 jitpaxos replica --config replica.json',
      'jitpaxos config explain --config replica.json',
    ],
  },
  async ({ values }) => {
    const { join } = values;
    if (join === undefined && values.id === undefined)
      throw new CliError('flag-invalid', '--id is missing; give the index of this replica in the cluster file, from 0');
    if (join !== undefined && (values.id !== undefined || values.data === undefined))
      throw new CliError(
        'flag-invalid',
        values.id !== undefined
          ? '--id and --join are given; a host that is added gets its id from the cluster: leave --id out'
          : '--data is missing; with --join give the data directory of this host',
      );
    const { http, logger } = beginService(values);
    const cluster = join ?? values.cluster;
    const id = join === undefined ? values.id! : await becomeHost(values, join, logger);
    if (id === undefined) return Exit.done;
    const running = await Replica.start({
      cluster,
      ...(values.keys === undefined ? {} : { keys: values.keys }),
      id,
      machine: values.machine === 'kv' ? new KvMachine() : new EchoMachine(),
      data: values.data ?? dataBeside(cluster, id),
      durability: values.durability as Durability,
      ...(values['segment-bytes'] === undefined ? {} : { segmentBytes: values['segment-bytes'] }),
      logLost: values['log-lost'],
      ...(values.listen === undefined ? {} : { listen: addressText(placeIn(values.listen)) }),
      ...transportChoice(values),
      clock: values.clock,
      ...(values['datagram-bytes'] === undefined ? {} : { datagramBytes: values['datagram-bytes'] }),
      wireVersion: values['wire-version'],
      late: values.late as LateRule,
      timings: timingsOf(values),
      logger,
    });
    const stop = (): void => void running.close().catch(() => {}); // `closed` tells
    process.once('SIGTERM', stop);
    process.once('SIGINT', stop);
    process.on('SIGHUP', () => {
      try {
        running.reloadKeys();
      } catch (error) {
        logger.error('keys.not-reloaded', {
          replica: id,
          error: (error as Error).message,
          next: 'the current keys stay in use',
        });
      }
    });
    if (process.send !== undefined) answerParent(running, stop);
    const served = { monitored: running, what: 'replica', fields: { replica: running.id }, logger } as const;
    const metrics = values.metrics === undefined ? undefined : await serveHttp('metrics', values.metrics, http, served);
    const health =
      values.health === undefined
        ? undefined
        : await serveHttp('health', values.health, { ...http, serves: 'health' }, served);
    const { view, port, transport, durability } = running.status();
    const ready = new LineOutput(process.stdout, (lines) => `lost ${JSON.stringify({ lines })}`);
    ready.write(
      `ready ${JSON.stringify({ id, view, port, pid: process.pid, transport: transport.kind, idle: transport.idle, durability, ...(metrics?.url === undefined ? {} : { metrics: `${metrics.url}/metrics` }), ...(health?.url === undefined ? {} : { health: `${health.url}/healthz` }) })}`,
    );
    await running.closed.finally(() => {
      // unread messages would keep the process alive
      setTimeout(() => process.exit(process.exitCode ?? Exit.failed), LAST_LINES_MS).unref();
      return Promise.all([metrics?.close(), health?.close()]);
    });
    if (process.connected) process.disconnect();
    return Exit.done;
  },
);

/** The id of the host that the data directory belongs to; undefined: a signal ended the wait for one. */
async function becomeHost(
  values: Readonly<Record<'keys' | 'listen' | 'data', string | undefined>> & Parameters<typeof transportChoice>[0],
  cluster: string,
  logger: Logger,
): Promise<number | undefined> {
  const stopping = new AbortController();
  const stop = (): void => stopping.abort();
  process.once('SIGTERM', stop);
  process.once('SIGINT', stop);
  if (process.send !== undefined) {
    process.once('disconnect', stop);
    if (!process.connected) stop(); // the parent went while this was starting
  }
  try {
    return await joinedId(
      {
        cluster,
        ...(values.keys === undefined ? {} : { keys: values.keys }),
        listen: values.listen === undefined ? undefined : placeIn(values.listen),
        data: values.data!,
        transport: transportChoice(values).transport,
        logger,
        waits: (identity, address) => {
          logger.info('replica.waits', { identity, address, next: `jitpaxos member add ${address}` });
          process.stdout.write(`waits to be added: jitpaxos member add ${address}\n`);
        },
      },
      stopping.signal,
    );
  } finally {
    for (const end of ['SIGTERM', 'SIGINT', 'disconnect']) process.removeListener(end, stop);
  }
}

type TimingFlag = 'sync-interval' | 'suspect-after' | 'max-ahead' | 'max-hold' | 'order-hold' | 'slow-after';

/** The given values; the others come from DEFAULT_TIMINGS. */
function timingsOf(values: Readonly<Record<TimingFlag, number | undefined>>): Partial<Timings> {
  const syncNs = values['sync-interval'];
  const suspectNs = values['suspect-after'];
  const suspectUs = suspectNs === undefined ? DEFAULT_TIMINGS.suspectUs : suspectNs / 1e3;
  if ((syncNs ?? DEFAULT_TIMINGS.syncIntervalUs * 1e3) * 2 > suspectUs * 1e3) {
    throw new CliError(
      'flag-invalid',
      `--suspect-after is less than twice --sync-interval, so a healthy primary would be suspected; raise --suspect-after or lower --sync-interval`,
    );
  }
  return {
    ...(syncNs === undefined ? {} : { syncIntervalUs: syncNs / 1e3 }),
    suspectUs,
    ...(values['max-ahead'] === undefined ? {} : { maxAheadNs: values['max-ahead'] }),
    ...(values['max-hold'] === undefined ? {} : { maxHoldNs: values['max-hold'] }),
    ...(values['order-hold'] === undefined ? {} : { orderHoldUs: values['order-hold'] / 1e3 }),
    ...(values['slow-after'] === undefined ? {} : { slowAfterUs: values['slow-after'] / 1e3 }),
  };
}

function answerParent(running: Replica, stop: () => void): void {
  const meter = new HeapMeter();
  process.on('message', (message) => {
    const { ask, id } = message as ReplicaQuestion;
    if (ask === 'meter-start') meter.start();
    const cpu = process.cpuUsage();
    const answer: ReplicaAnswer = {
      id,
      status: { ...running.status() },
      cpuSeconds: (cpu.user + cpu.system) / MICROSECONDS,
      heap: ask === 'meter-stop' ? (meter.stop() ?? null) : null,
    };
    process.send?.(answer, () => undefined); // a parent that has gone shows as `disconnect`
  });
  process.once('disconnect', stop);
  if (!process.connected) stop(); // it went while the replica was starting
}
