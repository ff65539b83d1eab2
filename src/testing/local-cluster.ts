/// <reference lib="esnext.disposable" preserve="true" />
/**
 * A real cluster on this host, for tests: replicas with the user's machine on free ports of loopback, with their files
 * in a temporary directory, and a client. Nothing outlives it: neither processes nor files.
 */
import { randomBytes } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { Client, type ClientOptions } from '../client/client.js';
import { JitPaxosError } from '../errors.js';
import { CLUSTER_SCHEMA, type ClusterConfig } from '../host/cluster-config.js';
import { freePorts } from '../host/free-ports.js';
import { silentLogger } from '../host/logger.js';
import { checkInteger, checkKeys, optionNames, show } from '../host/options.js';
import type { StateMachine } from '../machine/state-machine.js';
import { startHere, startProcess, type ReplicaSettings, type RunningReplica } from './replica-process.js';

/** A module that every replica's process imports. */
export interface MachineModule {
  /** Path or URL of the module, such as `new URL('./machine.js', import.meta.url)`. */
  readonly module: string | URL;
  /** Name of the class or function that it exports, which makes a machine. Default `default`. */
  readonly name?: string;
}

/** What the cluster consists of. */
export interface LocalClusterOptions {
  /**
   * A function that makes a machine: all replicas run in this process, and can be stopped. A module: each replica runs
   * in a process of its own, and can be killed too.
   */
  readonly machine: (() => StateMachine) | MachineModule;
  /** Odd, 1 to 13. Default 3. */
  readonly replicas?: number;
  /** Options of `Replica.start`. Default: segments of 1 MiB. */
  readonly replica?: ReplicaSettings;
  /** Options of `client`. Default: nothing is logged. */
  readonly client?: Omit<ClientOptions, 'cluster' | 'keys'>;
}

const REPLICAS_MAX = 13;
const SEGMENT_BYTES = 1 << 20;
/** Another process may take a free port before the replica binds it; then all ports are chosen anew. */
const PORT_ATTEMPTS = 3;

const OPTION_NAMES = optionNames<LocalClusterOptions>({ machine: true, replicas: true, replica: true, client: true });

/**
 * Replicas with a machine of your own on free ports of this host, and a client. Their files are in a temporary
 * directory, which is removed with the cluster; so are their processes, also when this process ends.
 */
export class LocalCluster {
  /** For further clients, of this process or another one: `Client.connect({ cluster })`. */
  readonly cluster: ClusterConfig;
  private readonly running: (RunningReplica | undefined)[] = [];
  private readonly failures: unknown[] = [];
  private readonly clients: Client[] = [];
  private closing: Promise<void> | undefined;
  private readonly removeDirectory = (): void => rmSync(this.directory, { recursive: true, force: true });

  private constructor(
    private readonly options: LocalClusterOptions,
    ports: readonly number[],
    private readonly directory: string,
  ) {
    this.cluster = {
      schema: CLUSTER_SCHEMA,
      id: randomBytes(8).toString('hex'),
      replicas: ports.map((port) => `127.0.0.1:${port}`),
    };
    process.once('exit', this.removeDirectory);
  }

  /**
   * Starts the replicas and connects `client`.
   *
   * Throws JitPaxosError `option-invalid`, `machine-module-failed`, `replica-not-ready`; and what `Replica.start` and
   * `Client.connect` throw. Nothing is left behind then.
   */
  static async start(options: LocalClusterOptions): Promise<LocalCluster> {
    checkKeys('option-invalid', 'LocalCluster.start', options, OPTION_NAMES);
    const replicas = checkInteger(
      'option-invalid',
      'LocalCluster.start: replicas',
      options.replicas ?? 3,
      1,
      REPLICAS_MAX,
    );
    if (replicas % 2 === 0)
      throw new JitPaxosError('option-invalid', `LocalCluster.start: replicas is ${replicas}; it has to be odd`);
    if (typeof options.machine !== 'function') checkModule(options.machine);
    for (let attempt = 1; ; attempt++) {
      const ports = await freePorts(replicas);
      const cluster = new LocalCluster(options, ports, mkdtempSync(join(tmpdir(), 'jitpaxos-testing-')));
      try {
        const started = await Promise.allSettled(ports.map((_, id) => cluster.begin(id)));
        const failed = started.find((each) => each.status === 'rejected');
        if (failed !== undefined) throw failed.reason;
        await cluster.connect(options.client);
        return cluster;
      } catch (error) {
        await cluster.close();
        const portTaken = error instanceof JitPaxosError && error.code === 'port-in-use';
        if (!portTaken || attempt === PORT_ATTEMPTS) throw error;
      }
    }
  }

  /** Connected when `start` resolves. It is closed with the cluster. */
  get client(): Client {
    return this.clients[0]!;
  }

  /**
   * Connects one more client, which is closed with the cluster.
   *
   * Throws JitPaxosError `option-invalid`, also after `close`; and what `Client.connect` throws.
   */
  async connect(options: Omit<ClientOptions, 'cluster' | 'keys'> = {}): Promise<Client> {
    this.checkOpen();
    const client = await Client.connect({ logger: silentLogger, ...options, cluster: this.cluster });
    if (this.closing !== undefined) {
      await client.close();
      this.checkOpen();
    }
    this.clients.push(client);
    return client;
  }

  /** Whether the replica runs. Throws JitPaxosError `replica-id-out-of-range`. */
  isRunning(id: number): boolean {
    this.checkId(id);
    return this.running[id] !== undefined;
  }

  /**
   * Why the replica stopped itself since its last start, such as JitPaxosError `state-diverged` of a machine that is
   * not deterministic; undefined if it did not. Throws JitPaxosError `replica-id-out-of-range`.
   */
  failure(id: number): unknown {
    this.checkId(id);
    return this.failures[id];
  }

  /**
   * Stops a replica cleanly. Does nothing if it does not run.
   *
   * Throws JitPaxosError `replica-id-out-of-range`; and `storage-failed` if its last state could not be written.
   */
  async stop(id: number): Promise<void> {
    this.checkId(id);
    const replica = this.running[id];
    this.running[id] = undefined;
    await replica?.stop();
  }

  /**
   * Ends a replica's process at once, as a crash does. Does nothing if it does not run.
   *
   * Throws JitPaxosError `replica-id-out-of-range`, and `option-invalid` if the replicas run in this process.
   */
  async kill(id: number): Promise<void> {
    this.checkId(id);
    if (typeof this.options.machine === 'function')
      throw new JitPaxosError(
        'option-invalid',
        'LocalCluster.kill: the replicas run in this process; give machine as { module, name } so that each has its own',
      );
    const replica = this.running[id];
    this.running[id] = undefined;
    await replica?.kill?.();
  }

  /**
   * Starts a replica that was stopped, was killed, or stopped itself, with what is in its data directory.
   *
   * Throws JitPaxosError `replica-id-out-of-range`; `option-invalid` if it runs, and after `close`;
   * `machine-module-failed`, `replica-not-ready`; and what `Replica.start` throws.
   */
  async restart(id: number): Promise<void> {
    this.checkId(id);
    this.checkOpen();
    if (this.running[id] !== undefined)
      throw new JitPaxosError('option-invalid', `LocalCluster.restart: replica ${id} is running; stop it first`);
    await this.begin(id);
  }

  /** Closes the clients, stops the replicas and removes their files. Closing again does nothing. */
  close(): Promise<void> {
    return (this.closing ??= this.end());
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  private async begin(id: number): Promise<void> {
    const { machine, replica } = this.options;
    const place = { cluster: this.cluster, id, data: join(this.directory, `replica-${id}`) };
    const settings = { segmentBytes: SEGMENT_BYTES, ...replica };
    this.failures[id] = undefined;
    const started =
      typeof machine === 'function'
        ? await startHere(place, settings, machine())
        : await startProcess({ ...settings, ...place, module: urlOf(machine), name: machine.name ?? 'default' });
    if (this.closing !== undefined) {
      await started.stop();
      this.checkOpen();
    }
    this.running[id] = started;
    void started.ended.then((failure) => {
      if (this.running[id] !== started) return;
      this.running[id] = undefined;
      this.failures[id] = failure;
    });
  }

  private async end(): Promise<void> {
    await Promise.allSettled(this.clients.map((client) => client.close()));
    await Promise.allSettled(this.running.map((replica) => replica?.stop()));
    this.running.fill(undefined);
    this.removeDirectory();
    process.removeListener('exit', this.removeDirectory);
  }

  private checkOpen(): void {
    if (this.closing !== undefined)
      throw new JitPaxosError('option-invalid', 'the LocalCluster is closed; start another');
  }

  private checkId(id: number): void {
    const count = this.cluster.replicas.length;
    if (!Number.isInteger(id) || id < 0 || id >= count)
      throw new JitPaxosError(
        'replica-id-out-of-range',
        `replica id is ${show(id)}; the cluster has replicas 0 to ${count - 1}`,
      );
  }
}

function checkModule(machine: unknown): asserts machine is MachineModule {
  const { module, name } = (machine ?? {}) as Partial<MachineModule>;
  const isModule = (typeof module === 'string' && module !== '') || module instanceof URL;
  if (!isModule || !(name === undefined || typeof name === 'string'))
    throw new JitPaxosError(
      'option-invalid',
      `LocalCluster.start: machine is ${show(machine)}; it has to be a function that makes a machine, or { module: path or URL, name }`,
    );
}

function urlOf({ module }: MachineModule): string {
  if (module instanceof URL) return module.href;
  return /^[a-z][a-z+.-]+:/i.test(module) ? module : pathToFileURL(module).href;
}
