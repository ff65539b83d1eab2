/** How the commands that use the cluster as a client connect to it. */
import { Client } from '../client/client.js';
import { loadCluster } from '../host/cluster-config.js';
import type { Output } from '../console/command.js';
import type { Flags } from '../console/flags.js';
import { CLUSTER_FLAG, KEY_FILE_FLAG, keysOf } from '../console/settings.js';
import { TRANSPORT_FLAGS, transportChoice } from '../console/transport-flags.js';
import { warnWithoutKeys } from '../console/without-keys.js';

export const CONNECTION_FLAGS = {
  cluster: CLUSTER_FLAG,
  'key-file': { ...KEY_FILE_FLAG, alias: 'keys' },
  timeout: { kind: 'duration', default: '5s', min: 1e6, max: 3600e9, help: 'how long to wait, including connecting' },
  ...TRANSPORT_FLAGS,
} as const satisfies Flags;

export interface Connection {
  readonly cluster: string;
  readonly timeout: number;
  readonly 'key-file': string | undefined;
  readonly transport: string;
  readonly idle: string | undefined;
}

export function timeoutMsOf(connection: Connection): number {
  return Math.ceil(connection.timeout / 1e6);
}

/** A client whose calls may take `--timeout` each. Throws the errors of Client.connect. */
export function connect(connection: Connection, output: Output, lanes = 1): Promise<Client> {
  warnWithoutKeys(output, loadCluster(connection.cluster));
  const timeoutMs = timeoutMsOf(connection);
  return Client.connect({
    cluster: connection.cluster,
    ...keysOf(connection),
    lanes,
    timeout: timeoutMs,
    connectTimeout: timeoutMs,
    ...transportChoice(connection),
  });
}
