/** The contestant of this project: a cluster of replica processes on loopback, and clients of the slot interface. */
import { randomBytes } from 'node:crypto';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { HeapUse } from '../../metrics/heap-meter.js';
import { CLUSTER_SCHEMA } from '../../host/cluster-config.js';
import { FIRST_FEATURES } from '../../protocol/log/features.js';
import { MEMBERS_WIRE_VERSION } from '../../wire/versions.js';
import type { Durability } from '../../storage/durability.js';
import { writeFirstKeys } from '../../console/key-files.js';
import { freePorts } from '../../host/free-ports.js';
import { authenticationOf, LocalCluster } from '../local-cluster.js';
import { sharesProcess } from './c-echo.js';
import { measureClients, type Contestant, type Measured, type Measuring, type Timing } from './contestant.js';
import { Children, LineChild, mainThreadCpuSeconds } from './line-child.js';
import type { Placement } from './placement.js';
import { quorumOf, type Point } from './shape.js';
import type { SharedReplicasSetup } from './shared-replicas.js';
import type { SlotClientSetup } from './slot-client.js';
import type { TransportChoice } from '../../console/transport-flags.js';

export interface Metered {
  readonly measured: Measured;
  readonly client: HeapUse | null;
  /** By replica id. */
  readonly replicas: readonly (HeapUse | null)[];
  readonly view: number;
  /** Bytes that each idle replica allocates per second. */
  readonly idle: readonly number[];
}

/** V8's sampling profiler in every process of a run. */
export interface Profiling {
  /** Where each process writes its profile when it ends. */
  readonly directory: string;
  readonly intervalUs: number;
}

export interface Profiled {
  /** With the processor time of main threads only, which are what the profiler samples. */
  readonly measured: Measured;
  /** At the end of the run. */
  readonly view: number;
  readonly clientFile: string;
  /** By replica id. */
  readonly replicaFiles: readonly string[];
}

/** A process writes its profile when it is told to end. */
const PROFILE_TIMEOUT_MS = 30_000;

export class OurCluster implements Contestant {
  private readonly replicas: number | undefined;
  private readonly durability: Durability;
  private readonly authenticated: boolean;
  private readonly unkeyedChain: boolean;
  private readonly replicaFlags: readonly string[];
  private readonly placement: Placement | undefined;
  /** Replicas that speak only an older version of the wire do not start where members can change. */
  private readonly mayChangeMembers: boolean;
  private runs = 0;

  /**
   * @param replicas overrides the point's number: 1 is a server without replication, with the same wire, log and
   * machine
   * @param durability default `memory`
   * @param authenticated default false
   * @param unkeyedChain with keys: the older chain; default false
   * @param wireVersion holds the replicas back to a version of the wire, where each has a process of its own
   * @param placement where they run, unless they share a process; default: loopback
   */
  constructor(
    readonly name: string,
    private readonly wiring: TransportChoice,
    {
      replicas,
      durability = 'memory',
      authenticated = false,
      unkeyedChain = false,
      wireVersion,
      placement,
    }: {
      readonly replicas?: number;
      readonly durability?: Durability;
      readonly authenticated?: boolean;
      readonly unkeyedChain?: boolean;
      readonly wireVersion?: number;
      readonly placement?: Placement;
    } = {},
  ) {
    this.replicas = replicas;
    this.durability = durability;
    this.authenticated = authenticated;
    this.unkeyedChain = unkeyedChain;
    this.placement = placement;
    this.replicaFlags = wireVersion === undefined ? [] : ['--wire-version', String(wireVersion)];
    this.mayChangeMembers = wireVersion === undefined || wireVersion >= MEMBERS_WIRE_VERSION;
  }

  async run(asked: Point, timing: Timing): Promise<Measured> {
    const point = { ...asked, replicas: this.replicas ?? asked.replicas };
    const { machine, replicas, datagramBytes } = point;
    if (sharesProcess(this.wiring.idle === 'busy', point)) {
      const { directory, clusterFile } = await writeCluster(replicas, {
        authenticated: this.authenticated,
        unkeyedChain: this.unkeyedChain,
      });
      try {
        await using children = new Children(); // they end before their directory is removed
        const ids = Array.from({ length: replicas }, (_, id) => id);
        const server = children.add(
          LineChild.startModule(
            './shared-replicas.js',
            {
              ...this.wiring,
              cluster: clusterFile,
              ids,
              machine,
              durability: this.durability,
              data: directory,
              datagramBytes,
            } satisfies SharedReplicasSetup,
            'the replicas',
          ),
        );
        await server.ready();
        return await this.measure(clusterFile, point, timing, children, [server.pid]);
      } finally {
        rmSync(directory, { recursive: true, force: true });
      }
    }
    await using children = new Children();
    await using cluster = await LocalCluster.start({
      replicas,
      machine,
      datagramBytes,
      ...this.wiring,
      durability: this.durability,
      authenticated: this.authenticated,
      unkeyedChain: this.unkeyedChain,
      placement: this.placement,
      replicaFlags: this.replicaFlags,
      // A process that is held back cannot require what its version lacks.
      encryption: this.replicaFlags.length === 0 ? 'required' : 'preferred',
      ...(this.mayChangeMembers ? {} : { features: FIRST_FEATURES.filter((name) => name !== 'membership') }),
    });
    const pids = cluster.replicas.map(({ child }) => child.pid);
    return await this.measure(cluster.clusterFile, point, timing, children, pids);
  }

  /**
   * One run with one process per replica, in which the heap use of all is metered: over this many operations (or until
   * the time is over), and before that while idle, as bytes per second.
   */
  async runMetered(point: Point, timing: Timing, operations: number, idleMs: number): Promise<Metered> {
    await using children = new Children();
    await using cluster = await LocalCluster.start({
      replicas: point.replicas,
      machine: point.machine,
      datagramBytes: point.datagramBytes,
      ...this.wiring,
      durability: this.durability,
      authenticated: this.authenticated,
      unkeyedChain: this.unkeyedChain,
    });
    const pids = cluster.replicas.map(({ child }) => child.pid);
    await cluster.ask('meter-start');
    await new Promise((resolve) => setTimeout(resolve, idleMs));
    const idle = (await cluster.ask('meter-stop')).map(
      (answer) => ((answer?.heap?.allocatedBytes ?? 0) * 1000) / idleMs,
    );
    const warm = (): Promise<unknown> => cluster.ask('meter-start');
    const measured = await this.measure(cluster.clusterFile, point, timing, children, pids, {
      ...(operations === undefined ? {} : { operations }),
      ...(warm === undefined ? {} : { warm }),
    });
    const answers = await cluster.ask('meter-stop');
    return {
      measured,
      client: measured.heap ?? null,
      replicas: answers.map((answer) => answer?.heap ?? null),
      view: Number(answers[0]?.status['view'] ?? 0),
      idle,
    };
  }

  /**
   * One run of one client and one process per replica, with the profiler on. The files exist when it resolves, unless a
   * process had to be killed.
   */
  async runProfiled(point: Point, timing: Timing, { directory, intervalUs }: Profiling): Promise<Profiled> {
    const fileOf = (name: string): string => `${name}.cpuprofile`;
    const flagsFor = (name: string): string[] => [
      '--cpu-prof',
      `--cpu-prof-dir=${directory}`,
      `--cpu-prof-name=${fileOf(name)}`,
      `--cpu-prof-interval=${intervalUs}`,
    ];
    const names = Array.from({ length: point.replicas }, (_, id) => `replica-${id}`);
    await using children = new Children(PROFILE_TIMEOUT_MS);
    await using cluster = await LocalCluster.start({
      replicas: point.replicas,
      machine: point.machine,
      datagramBytes: point.datagramBytes,
      ...this.wiring,
      durability: this.durability,
      authenticated: this.authenticated,
      unkeyedChain: this.unkeyedChain,
      nodeFlags: (id) => flagsFor(names[id]!),
      stopTimeoutMs: PROFILE_TIMEOUT_MS,
    });
    const pids = cluster.replicas.map(({ child }) => child.pid);
    const measured = await this.measure(cluster.clusterFile, { ...point, clients: 1 }, timing, children, pids, {
      cpu: mainThreadCpuSeconds,
      nodeFlags: flagsFor('client'),
    });
    const [answer] = await cluster.ask('stats');
    return {
      measured,
      view: Number(answer?.status['view'] ?? 0),
      clientFile: join(directory, fileOf('client')),
      replicaFiles: names.map((name) => join(directory, fileOf(name))),
    };
  }

  private measure(
    cluster: string,
    { clients, machine, operation, open, bytes, replicas, datagramBytes }: Point,
    timing: Timing,
    children: Children,
    serverPids: readonly (number | undefined)[],
    {
      operations,
      nodeFlags,
      ...measuring
    }: Measuring & { readonly operations?: number; readonly nodeFlags?: readonly string[] } = {},
  ): Promise<Measured> {
    const run = this.runs++;
    const all = Array.from({ length: clients }, (_, index) => {
      const setup: SlotClientSetup = {
        ...this.wiring,
        cluster,
        machine,
        operation,
        open,
        bytes,
        datagramBytes,
        seed: run * 1000 + index,
        ...timing,
        ...(operations === undefined ? {} : { operations }),
      };
      return children.add(LineChild.startModule('./slot-client.js', setup, `client ${index}`, nodeFlags));
    });
    return measureClients(all, serverPids, quorumOf(replicas), timing, measuring);
  }
}

/** A cluster file for replicas on free ports of loopback. */
async function writeCluster(
  replicas: number,
  keys: { readonly authenticated: boolean; readonly unkeyedChain: boolean },
): Promise<{ directory: string; clusterFile: string }> {
  const directory = mkdtempSync(join(tmpdir(), 'jitpaxos-'));
  const clusterFile = join(directory, 'cluster.json');
  const ports = await freePorts(replicas);
  const id = randomBytes(8).toString('hex');
  writeFileSync(
    clusterFile,
    JSON.stringify({
      schema: CLUSTER_SCHEMA,
      id,
      ...authenticationOf(keys),
      replicas: ports.map((port) => `127.0.0.1:${port}`),
    }),
  );
  if (keys.authenticated) writeFirstKeys(clusterFile, id, !keys.unkeyedChain);
  return { directory, clusterFile };
}
