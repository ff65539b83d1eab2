/** The front end's metrics: its own; those of its client of the cluster are added by who serves them. */
import { byLabel, counter, gauge, METRIC_PREFIX, type Family } from '../metrics/exposition.js';
import type { Front } from './front.js';

export interface FrontLevels {
  readonly openOperations: number;
  readonly waitingConnections: number;
}

export function redisMetrics(front: Front, levels: FrontLevels): Family[] {
  const { counters, connections } = front;
  const name = (rest: string): string => `${METRIC_PREFIX}redis_${rest}`;
  let unsent = 0;
  let stalled = 0;
  for (const connection of connections.values()) {
    unsent += connection.unsent;
    if (connection.isStalled) stalled++;
  }
  return [
    gauge(
      name('cluster_connected'),
      'Whether the front end has a session with the cluster (1 or 0)',
      front.store === undefined ? 0 : 1,
    ),
    gauge(name('connections'), 'Connections of Redis clients', connections.size),
    gauge(
      name('connections_stalled'),
      'Of these, connections whose client does not read its replies: their commands wait',
      stalled,
    ),
    gauge(
      name('connections_waiting'),
      'Of these, connections whose next command waits for an operation to end',
      levels.waitingConnections,
    ),
    counter(name('connections_total'), 'Connections accepted', counters.connections),
    counter(
      name('connections_refused_total'),
      'Connections refused. full: there are maxclients already; denied: no users are set up, and it is not from this host',
      byLabel('reason', { full: counters.refusedFull, denied: counters.refusedDenied }),
    ),
    counter(
      name('connections_cut_total'),
      'Connections closed because the client did not read its replies',
      counters.closedSlow,
    ),
    counter(
      name('commands_total'),
      'Commands taken. local: answered by the front end; read, write: sent to the cluster, a transaction as one; refused: answered with an error before that',
      byLabel('kind', {
        local: counters.locals,
        read: counters.reads,
        write: counters.writes,
        refused: counters.refused,
      }),
    ),
    counter(
      name('commands_failed_total'),
      'Commands without an answer of the cluster. tryagain: nothing was executed; indoubt: it may be executed, once, or not at all',
      byLabel('word', { tryagain: counters.tryAgain, indoubt: counters.inDoubt }),
    ),
    counter(
      name('operations_total'),
      'Operations sent to the cluster, which carry the commands of many connections',
      byLabel('kind', { read: counters.readOperations, write: counters.writeOperations }),
    ),
    counter(
      name('operations_continued_total'),
      'Operations for commands that an earlier one left over, because their answers did not fit',
      counters.continued,
    ),
    counter(
      name('reads_repeated_total'),
      'Reads sent again as an entry of the log, because a key that they saw had reached its end',
      counters.readsAgain,
    ),
    gauge(name('operations_open'), 'Operations without an answer yet', levels.openOperations),
    counter(
      name('protocol_faults_total'),
      'Connections closed because what they sent is no command',
      counters.protocolFaults,
    ),
    counter(name('logins_failed_total'), 'Logins that failed', counters.loginsFailed),
    counter(name('input_bytes_total'), 'Bytes read from clients', counters.inputBytes),
    counter(name('output_bytes_total'), 'Bytes of replies', counters.outputBytes),
    gauge(
      name('subscriptions'),
      'Subscriptions of clients to channels and patterns',
      front.audience.subscriptions.count,
    ),
    gauge(name('tracking_clients'), 'Clients with CLIENT TRACKING', front.audience.trackers.clients.size),
    gauge(name('tracked_keys'), 'Keys that such clients have read, once for each', front.audience.trackers.count),
    counter(
      name('messages_told_total'),
      'Messages and keyspace notifications told, once for each subscriber',
      counters.messagesTold,
    ),
    counter(
      name('messages_lost_total'),
      'Messages that were too long for what the replicas keep of changes',
      counters.messagesLost,
    ),
    counter(
      name('changes_lost_total'),
      'Times that changes and messages of the store were missed. lost: for good, so messages are missing; silent: no replica told any for some seconds. Clients with CLIENT TRACKING forget everything then',
      byLabel('reason', { lost: counters.feedLost, silent: counters.feedSilent }),
    ),
    gauge(name('output_waiting_bytes'), 'Bytes of replies that clients have not taken', unsent),
  ];
}
