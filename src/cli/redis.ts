/**
 * `jitpaxos redis`: serves Redis clients until SIGTERM or SIGINT. It keeps nothing, so any number of them may run, each
 * on a host of the applications or beside a replica.
 */
import { LineOutput } from '../host/line-output.js';
import { LOG_LEVELS } from '../host/logger.js';
import { RedisFrontEnd } from '../redis/server.js';
import { defineCommand } from '../console/command.js';
import { CliError, Exit } from '../console/exit.js';
import { CLUSTER_FLAG, KEY_FILE_FLAG, keysOf } from '../console/settings.js';
import { TRANSPORT_FLAGS, transportChoice } from '../console/transport-flags.js';
import { beginService, serveHttp } from './serve-http.js';

/** How long a stopping front end waits for a reader of its last lines. */
const LAST_LINES_MS = 2_000;

export const redis = defineCommand(
  {
    name: 'redis',
    service: true,
    summary:
      'Serves Redis clients (RESP2 and RESP3): each command is executed by the cluster. Needs the feature redis. Prints one line when it listens: ready {"port":…,"pid":…,"tls":…}. Without --users only this host may connect. On SIGHUP users and certificate are read again.',
    positionals: [],
    flags: {
      cluster: CLUSTER_FLAG,
      'key-file': { ...KEY_FILE_FLAG, alias: 'keys' },
      listen: {
        kind: 'text',
        value: 'HOST:PORT',
        default: '127.0.0.1:6379',
        help: 'where Redis clients connect; a numeric host, IPv6 in brackets',
      },
      users: {
        kind: 'text',
        value: 'FILE',
        standard: 'none, and only this host may connect',
        help: 'who may log in, and what they may do: a file that jitpaxos redis-user writes',
      },
      'tls-cert': {
        kind: 'text',
        value: 'FILE',
        standard: 'off',
        help: 'certificate chain in PEM; clients then have to speak TLS',
      },
      'tls-key': { kind: 'text', value: 'FILE', standard: 'off', help: 'the private key of the certificate, in PEM' },
      maxclients: { kind: 'count', min: 1, max: 1_000_000, default: '10000', help: 'most connections at once' },
      timeout: {
        kind: 'duration',
        default: '5s',
        min: 1e6,
        max: 3600e9,
        help: 'how long a command may take; then it is answered with INDOUBT, or with TRYAGAIN if it only reads',
      },
      lanes: { kind: 'count', min: 1, max: 1024, default: '16', help: 'operations that are open at once' },
      ...TRANSPORT_FLAGS,
      idle: {
        ...TRANSPORT_FLAGS.idle,
        standard: 'block',
        help: 'how the native transport waits: asleep, after a little polling, or polling always, which keeps Redis clients waiting',
      },
      metrics: {
        kind: 'text',
        value: '[HOST:]PORT',
        alias: 'metrics-port',
        standard: 'off',
        help: 'serve /metrics, /healthz and /readyz over HTTP at this address; without HOST, on 127.0.0.1 only',
      },
      health: {
        kind: 'text',
        value: '[HOST:]PORT',
        standard: 'off',
        help: 'serve only /healthz and /readyz, at an address of their own, for probes; without HOST, on 127.0.0.1 only',
      },
      'metrics-names': {
        kind: 'text',
        value: 'NAME[,NAME]',
        standard: 'none',
        help: 'host names under which --metrics may be asked, beside IP addresses and localhost; other names are answered with status 421',
      },
      'log-level': {
        kind: 'choice',
        choices: LOG_LEVELS,
        default: 'info',
        help: 'lowest level that is logged to stderr',
      },
      'log-format': {
        kind: 'choice',
        choices: ['auto', 'json', 'text'],
        default: 'auto',
        help: 'format of the log; auto: text on a terminal, JSON elsewhere',
      },
    },
    examples: [
      'jitpaxos redis --cluster cluster.json',
      'jitpaxos redis --listen 0.0.0.0:6379 --users redis-users.json --tls-cert cert.pem --tls-key key.pem',
    ],
  },
  async ({ values }) => {
    const { 'tls-cert': cert, 'tls-key': key } = values;
    if ((cert === undefined) !== (key === undefined))
      throw new CliError('flag-invalid', '--tls-cert and --tls-key belong together; give both, or none');
    const { http, logger } = beginService(values);
    const running = await RedisFrontEnd.start({
      cluster: values.cluster,
      ...keysOf(values),
      listen: values.listen,
      ...(values.users === undefined ? {} : { users: values.users }),
      ...(cert === undefined || key === undefined ? {} : { tls: { cert, key } }),
      maxClients: values.maxclients,
      timeout: Math.ceil(values.timeout / 1e6),
      lanes: values.lanes,
      ...transportChoice({ transport: values.transport, idle: values.idle ?? 'block' }),
      logger,
    });
    const stop = (): void => void running.close();
    process.once('SIGTERM', stop);
    process.once('SIGINT', stop);
    process.on('SIGHUP', () => {
      try {
        running.reload();
        logger.info('redis.reloaded', { port: running.port });
      } catch (error) {
        logger.error('redis.not-reloaded', {
          error: (error as Error).message,
          next: 'the current users and certificate stay in use',
        });
      }
    });
    const served = { monitored: running, what: 'front end', fields: { port: running.port }, logger } as const;
    const metrics = values.metrics === undefined ? undefined : await serveHttp('metrics', values.metrics, http, served);
    const health =
      values.health === undefined
        ? undefined
        : await serveHttp('health', values.health, { ...http, serves: 'health' }, served);
    const ready = new LineOutput(process.stdout, (lines) => `lost ${JSON.stringify({ lines })}`);
    ready.write(
      `ready ${JSON.stringify({ port: running.port, pid: process.pid, tls: cert !== undefined, ...(metrics?.url === undefined ? {} : { metrics: `${metrics.url}/metrics` }), ...(health?.url === undefined ? {} : { health: `${health.url}/healthz` }) })}`,
    );
    await running.closed.finally(() => {
      setTimeout(() => process.exit(process.exitCode ?? Exit.failed), LAST_LINES_MS).unref();
      return Promise.all([metrics?.close(), health?.close()]);
    });
    return Exit.done;
  },
);
