/**
 * INFO: the sections of Redis that tools read, with what is true here. Memory is this process's; the cluster's is in
 * `jitpaxos status`.
 */
import { availableParallelism } from 'node:os';
import { version } from '../host/version.js';
import type { Front } from './front.js';
import { mayCountKeys } from './permissions.js';
import type { User } from './users.js';

/** The version of Redis whose words and arithmetic these are: clients look at it. */
export const REDIS_VERSION = '7.2.0';

const SECTIONS: Readonly<
  Record<string, (front: Front, mayCount: boolean) => readonly (readonly [string, string | number])[]>
> = {
  server: (front) => {
    const upSeconds = Math.floor((performance.now() - front.startedMs) / 1000);
    return [
      ['redis_version', REDIS_VERSION],
      ['jitpaxos_version', version()],
      ['redis_mode', 'standalone'],
      ['os', process.platform],
      ['arch_bits', 64],
      ['process_id', process.pid],
      ['run_id', front.runId],
      ['tcp_port', front.port],
      ['server_time_usec', Math.floor(front.agreedMs() * 1000)],
      ['uptime_in_seconds', upSeconds],
      ['uptime_in_days', Math.floor(upSeconds / 86_400)],
    ];
  },
  clients: (front) => [
    ['connected_clients', front.connections.size],
    ['cluster_connections', 0],
    ['maxclients', front.options.clientsMax],
    ['blocked_clients', 0],
    ['tracking_clients', front.audience.trackers.clients.size],
  ],
  memory: () => {
    const { rss, heapUsed } = process.memoryUsage();
    return [
      ['used_memory', heapUsed],
      ['used_memory_human', `${(heapUsed / 1_048_576).toFixed(2)}M`],
      ['used_memory_rss', rss],
      ['used_memory_peak', rss],
      ['maxmemory', 0],
      ['maxmemory_policy', 'noeviction'],
    ];
  },
  persistence: () => [
    ['loading', 0],
    ['async_loading', 0],
    ['rdb_bgsave_in_progress', 0],
    ['aof_enabled', 0],
    ['aof_rewrite_in_progress', 0],
  ],
  stats: (front) => {
    const { counters } = front;
    return [
      ['total_connections_received', counters.connections],
      ['total_commands_processed', counters.locals + counters.reads + counters.writes],
      ['instantaneous_ops_per_sec', 0],
      ['total_net_input_bytes', counters.inputBytes],
      ['total_net_output_bytes', counters.outputBytes],
      ['rejected_connections', counters.refusedFull + counters.refusedDenied],
      ['expired_keys', 0],
      ['evicted_keys', 0],
      ['keyspace_hits', 0],
      ['keyspace_misses', 0],
      ['pubsub_channels', front.audience.subscriptions.channelCount],
      ['pubsub_patterns', front.audience.subscriptions.patternCount],
      ['tracking_total_keys', front.audience.trackers.count],
      ['total_error_replies', counters.refused + counters.tryAgain + counters.inDoubt],
      ['acl_access_denied_auth', counters.loginsFailed],
      ['jitpaxos_operations', counters.readOperations + counters.writeOperations],
    ];
  },
  replication: (front) => [
    ['role', 'master'],
    ['connected_slaves', front.options.othersCount],
    ['master_failover_state', 'no-failover'],
    ['master_replid', front.runId],
    ['master_repl_offset', 0],
  ],
  cpu: () => {
    const { user, system } = process.cpuUsage();
    return [
      ['used_cpu_sys', (system / 1e6).toFixed(6)],
      ['used_cpu_user', (user / 1e6).toFixed(6)],
      ['cpus', availableParallelism()],
    ];
  },
  cluster: () => [['cluster_enabled', 0]],
  keyspace: ({ keys }, mayCount) => (keys === 0 || !mayCount ? [] : [['db0', `keys=${keys},expires=0,avg_ttl=0`]]),
};
const ALL = new Set(['all', 'default', 'everything']);

/**
 * @param user who asks: one that has a prefix is not told how many keys there are
 * @param sections as INFO was given them; none: all
 */
export function infoText(front: Front, user: User | undefined, sections: readonly string[]): string {
  const mayCount = mayCountKeys(user);
  const asked = new Set(sections.map((section) => section.toLowerCase()));
  const isAll = asked.size === 0 || [...asked].some((section) => ALL.has(section));
  return Object.entries(SECTIONS)
    .filter(([name]) => isAll || asked.has(name))
    .map(
      ([name, lines]) =>
        `# ${name === 'cpu' ? 'CPU' : name[0]!.toUpperCase() + name.slice(1)}\r\n${lines(front, mayCount)
          .map(([key, value]) => `${key}:${value}\r\n`)
          .join('')}`,
    )
    .join('\r\n');
}
