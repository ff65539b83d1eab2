/** Clusters in this process, on loopback, at ports that were free a moment ago. */
import { createSocket, type Socket } from 'node:dgram';
import type { ClusterConfig } from '../../src/host/cluster-config.js';
import { silentLogger } from '../../src/host/logger.js';
import { Replica } from '../../src/server/replica.js';
import type { ReplicaOptions } from '../../src/server/replica-options.js';

/** Free ports on loopback, in the address family of `host`. All are held until all are known, so that they differ. */
export async function freePorts(count: number, host = '127.0.0.1'): Promise<number[]> {
  const sockets: Socket[] = [];
  for (let i = 0; i < count; i++) {
    const socket = createSocket(host.includes(':') ? 'udp6' : 'udp4');
    await new Promise<void>((resolve) => socket.bind(0, host, resolve));
    sockets.push(socket);
  }
  const ports = sockets.map((socket) => socket.address().port);
  await Promise.all(sockets.map((socket) => new Promise<void>((resolve) => socket.close(() => resolve()))));
  return ports;
}

/** Small, so that a test of many replicas needs little memory. */
const LIMITS = { logEntries: 1 << 14, logBytes: 16 << 20 };

export async function clusterConfig(count: number, hosts: readonly string[] = ['127.0.0.1']): Promise<ClusterConfig> {
  const replicas: string[] = [];
  for (let i = 0; i < count; i++) {
    const host = hosts[i % hosts.length]!;
    const [port] = await freePorts(1, host);
    replicas.push(host.includes(':') ? `[${host}]:${port}` : `${host}:${port}`);
  }
  if (new Set(replicas).size < count) return clusterConfig(count, hosts);
  return { schema: 'jitpaxos.cluster/1', id: '00c0ffee12345678', replicas, limits: LIMITS };
}

export async function startReplicas(
  cluster: ClusterConfig,
  machine: () => ReplicaOptions['machine'],
  extra: Partial<ReplicaOptions> = {},
): Promise<Replica[]> {
  return Promise.all(
    cluster.replicas.map((_, id) => Replica.start({ cluster, id, machine: machine(), logger: silentLogger, ...extra })),
  );
}
