/**
 * Five hosts as on a real network: three with a replica, two with clients, each in its own network namespace.
 *
 *   replica-0 ─┐                          ┌─ replica-2
 *   replica-1 ─┤ left ════ middle ════ right
 *   client-0  ─┘                          └─ client-1
 *
 * The hosts' cables have an MTU of 1,500, and `left` and `right` are routers. The middle one may be narrower, with ICMP
 * that tells so or without. Every host has an IPv4 and an IPv6 address.
 */
import type { ChildProcess } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Test } from 'tap';
import { writeFirstKeys } from '../../src/console/key-files.js';
import { CLUSTER_SCHEMA, type ClusterConfig } from '../../src/host/cluster-config.js';
import { authenticationOf } from '../../src/measure/local-cluster.js';
import { connect, Namespace } from '../../src/measure/namespaces.js';
import { FIRST_FEATURES } from '../../src/protocol/log/features.js';
import { MAIN } from '../cluster/processes.js';

export const ETHERNET = 1_500;
const PORT = 7_400;
/** Longer than anything takes on a busy host. */
const LIMIT_MS = 300_000;

export type HostName = 'replica-0' | 'replica-1' | 'replica-2' | 'client-0' | 'client-1';
const LEFT: readonly HostName[] = ['replica-0', 'replica-1', 'client-0'];
const RIGHT: readonly HostName[] = ['replica-2', 'client-1'];
export const HOSTS: readonly HostName[] = [...LEFT, ...RIGHT];
export const REPLICAS: readonly HostName[] = ['replica-0', 'replica-1', 'replica-2'];

/** The address of a host: each has a subnet of its own. */
export function addressOf(host: HostName, family: 4 | 6 = 4): string {
  const subnet = HOSTS.indexOf(host) + 1;
  return family === 4 ? `10.79.${subnet}.2` : `fd79:0:0:${subnet}::2`;
}

/** The IPv4 address of its router on its cable. */
export function gatewayOf(host: HostName): string {
  return `10.79.${HOSTS.indexOf(host) + 1}.1`;
}

/** The address of its replica, as a cluster file has it. */
export function replicaAt(host: HostName, family: 4 | 6 = 4): string {
  return family === 4 ? `${addressOf(host)}:${PORT}` : `[${addressOf(host, 6)}]:${PORT}`;
}

export interface Said {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

export class Network {
  readonly left = new Namespace('left');
  readonly right = new Namespace('right');
  readonly hosts = new Map(HOSTS.map((name) => [name, new Namespace(name)]));
  private isIcmpDropped = false;

  constructor() {
    const { left, right } = this;
    const middle = (router: Namespace, at: 1 | 2) => ({
      in: router,
      name: 'middle',
      addresses: [`10.79.100.${at}/24`, `fd79:0:0:100::${at}/64`],
    });
    connect(middle(left, 1), middle(right, 2), ETHERNET);
    for (const [router, own, others, via] of [
      [left, LEFT, RIGHT, 2],
      [right, RIGHT, LEFT, 1],
    ] as const) {
      router.set({ 'ipv4/ip_forward': 1, 'ipv6/conf/all/forwarding': 1 });
      for (const name of own) {
        const host = this.host(name);
        const subnet = HOSTS.indexOf(name) + 1;
        connect(
          { in: host, name: 'cable', addresses: [`${addressOf(name)}/24`, `${addressOf(name, 6)}/64`] },
          { in: router, name, addresses: [`10.79.${subnet}.1/24`, `fd79:0:0:${subnet}::1/64`] },
          ETHERNET,
        );
        host.ip(`route add default via 10.79.${subnet}.1`);
        host.ip6(`route add default via fd79:0:0:${subnet}::1`);
      }
      for (const name of others) {
        const subnet = HOSTS.indexOf(name) + 1;
        router.ip(`route add 10.79.${subnet}.0/24 via 10.79.100.${via}`);
        router.ip6(`route add fd79:0:0:${subnet}::/64 via fd79:0:0:100::${via}`);
      }
    }
  }

  host(name: HostName): Namespace {
    return this.hosts.get(name)!;
  }

  /** Gives the middle this MTU. Without ICMP, no router says that a packet is too long for it: a black hole. */
  narrow(mtu: number, { icmp }: { readonly icmp: boolean }): void {
    for (const router of [this.left, this.right]) {
      router.ip(`link set middle mtu ${mtu}`);
      if (icmp === !this.isIcmpDropped) continue;
      const verb = icmp ? 'del' : 'add';
      router.ip(`rule ${verb} ipproto icmp blackhole`);
      router.ip6(`rule ${verb} ipproto ipv6-icmp blackhole`);
    }
    this.isIcmpDropped = !icmp;
  }

  /** Forgets what hosts learned of their paths. */
  forget(): void {
    for (const host of this.hosts.values()) {
      host.ip('route flush cache');
      host.ip6('route flush cache');
    }
  }

  /** Whether fragments reach this host. As if the last router before it dropped them. */
  passFragments(name: HostName, pass: boolean): void {
    const bytes = pass ? 4 << 20 : 0;
    const low = { 'ipv4/ipfrag_low_thresh': 0, 'ipv6/ip6frag_low_thresh': 0 };
    this.host(name).set({ ...low, 'ipv4/ipfrag_high_thresh': bytes, 'ipv6/ip6frag_high_thresh': bytes });
  }

  /** IP fragments that were made since the beginning, by hosts and routers. */
  fragmentsMade(): number {
    return [this.left, this.right, ...this.hosts.values()].reduce((sum, each) => sum + each.fragmentsMade(), 0);
  }
}

/** Three replicas, each a process on its host, and commands of clients on theirs. */
export class HostedCluster {
  private readonly processes: ChildProcess[] = [];

  private constructor(
    private readonly network: Network,
    readonly directory: string,
    readonly file: string,
    readonly config: ClusterConfig,
  ) {}

  /**
   * Writes the files, into a directory that only these processes see, and starts the replicas; resolves when all are
   * ready. They end with the test.
   */
  static async start(t: Test, network: Network, config: Partial<ClusterConfig> = {}): Promise<HostedCluster> {
    const directory = mkdtempSync('/run/jitpaxos-');
    const written: ClusterConfig = {
      schema: CLUSTER_SCHEMA,
      id: '00c0ffee00000079',
      replicas: REPLICAS.map((name) => replicaAt(name)),
      ...authenticationOf({ authenticated: true }),
      features: FIRST_FEATURES,
      ...config,
    };
    const cluster = new HostedCluster(network, directory, join(directory, 'cluster.json'), written);
    t.teardown(async () => {
      await cluster.stop();
      rmSync(directory, { recursive: true, force: true });
    });
    writeFileSync(cluster.file, JSON.stringify(written));
    writeFirstKeys(cluster.file, written.id);
    await Promise.all(REPLICAS.map((_, id) => cluster.startReplica(id)));
    return cluster;
  }

  /** Starts a replica, or starts it again. */
  async startReplica(id: number, ...flags: readonly string[]): Promise<ChildProcess> {
    const files = ['--cluster', this.file, '--data', join(this.directory, `data-${id}`)];
    const args = ['replica', '--id', String(id), ...files, '--idle', 'block', '--log-level', 'warn', ...flags];
    const child = this.network
      .host(REPLICAS[id]!)
      .spawn([process.execPath, MAIN, ...args], { stdio: ['ignore', 'pipe', 'pipe'] });
    this.processes[id] = child;
    let said = '';
    const heard = (text: string): void => void (said = (said + text).slice(-4_096));
    child.stderr!.setEncoding('utf8').on('data', heard);
    await new Promise<void>((resolve, reject) => {
      child.stdout!.setEncoding('utf8').on('data', (text: string) => {
        heard(text);
        if (/^ready /m.test(said)) resolve();
      });
      child.once('exit', (code) => reject(new Error(`replica ${id} ended with ${code}: ${said}`)));
    });
    return child;
  }

  /**
   * Ends a replica at once.
   * @param forget its data directory is lost too
   */
  async stopReplica(id: number, { forget = false } = {}): Promise<void> {
    const child = this.processes[id]!;
    if (child.exitCode === null && child.signalCode === null) {
      const gone = new Promise<void>((resolve) => child.once('exit', () => resolve()));
      child.kill('SIGKILL');
      await gone;
    }
    if (forget) rmSync(join(this.directory, `data-${id}`), { recursive: true, force: true });
  }

  /** `jitpaxos …` on a host, with the cluster file. */
  run(host: HostName, ...args: readonly string[]): Promise<Said> {
    return runOn(this.network.host(host), [process.execPath, MAIN, ...args, '--cluster', this.file]);
  }

  async stop(): Promise<void> {
    await Promise.all(this.processes.map((_, id) => this.stopReplica(id)));
  }
}

/** Runs a command there to its end. */
export async function runOn(host: Namespace, command: readonly string[]): Promise<Said> {
  const child = host.spawn(command, { stdio: ['ignore', 'pipe', 'pipe'], cwd: '/' });
  const limit = setTimeout(() => child.kill('SIGKILL'), LIMIT_MS);
  const said = { stdout: '', stderr: '' };
  for (const name of ['stdout', 'stderr'] as const)
    child[name]!.setEncoding('utf8').on('data', (text: string) => (said[name] += text));
  const code = await new Promise<number | null>((resolve) => child.once('close', resolve));
  clearTimeout(limit);
  return { code, ...said };
}
