/**
 * CONFIG: settings of Redis that clients and tools ask for, with values that say what this server does. CONFIG SET keeps
 * what it is given and changes nothing else, but for notify-keyspace-events.
 */
import { TRACKED_MAX } from './tracking.js';

const DEFAULTS: Readonly<Record<string, string>> = {
  'active-expire-effort': '1',
  activedefrag: 'no',
  'acllog-max-len': '128',
  appendfsync: 'always',
  appendonly: 'no',
  bind: '',
  'client-output-buffer-limit': 'normal 8388608 0 0 slave 0 0 0 pubsub 33554432 8388608 60',
  'client-query-buffer-limit': '1073741824',
  'cluster-enabled': 'no',
  databases: '1',
  dbfilename: '',
  dir: '',
  'enable-debug-command': 'no',
  'hash-max-listpack-entries': '512',
  'hash-max-listpack-value': '64',
  'hash-max-ziplist-entries': '512',
  'hash-max-ziplist-value': '64',
  'latency-tracking': 'no',
  'lazyfree-lazy-user-del': 'yes',
  'list-compress-depth': '0',
  'list-max-listpack-size': '-2',
  'list-max-ziplist-size': '-2',
  loglevel: 'notice',
  'lua-time-limit': '5000',
  maxclients: '10000',
  maxmemory: '0',
  'maxmemory-policy': 'noeviction',
  'maxmemory-samples': '5',
  'min-replicas-to-write': '0',
  'notify-keyspace-events': '',
  port: '6379',
  'proto-max-bulk-len': '536870912',
  rdbcompression: 'no',
  requirepass: '',
  save: '',
  'set-max-intset-entries': '512',
  'set-max-listpack-entries': '128',
  'set-max-listpack-value': '64',
  'slowlog-log-slower-than': '-1',
  'slowlog-max-len': '128',
  'stream-node-max-bytes': '4096',
  'stream-node-max-entries': '100',
  'tcp-keepalive': '300',
  timeout: '0',
  'tracking-table-max-keys': String(TRACKED_MAX),
  'zset-max-listpack-entries': '128',
  'zset-max-listpack-value': '64',
  'zset-max-ziplist-entries': '128',
  'zset-max-ziplist-value': '64',
};

/** The one that has an effect. */
export const NOTIFY = 'notify-keyspace-events';
/** Longest value that is kept. */
export const SETTING_BYTES_MAX = 1024;

/** By name. */
export function newSettings(clientsMax: number): Map<string, string> {
  return new Map([...Object.entries(DEFAULTS), ['maxclients', String(clientsMax)]]);
}
