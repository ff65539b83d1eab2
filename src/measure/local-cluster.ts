/**
 * A cluster of replica processes on loopback, for benches, the demo and tests. The `jitpaxos replica` command is forked
 * once per replica, on free ports, with its files in a temporary directory.
 *
 * No replica outlives this process. `close` and the end of this process stop every child by its pid, and a replica
 * stops by itself when its parent is gone. Every wait has a bound.
 */
import { fork, type ChildProcess } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { randomBytes } from 'node:crypto';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { KEYED_CHAIN } from '../host/chain.js';
import { FIRST_FEATURES, type FeatureName } from '../protocol/log/features.js';
import { CLUSTER_SCHEMA, type ClusterConfig, type Encryption } from '../host/cluster-config.js';
import { freePorts } from '../host/free-ports.js';
import { serverAddress, type Placement } from './compare/placement.js';
import { CliError } from '../console/exit.js';
import { writeFirstKeys } from '../console/key-files.js';
import { withoutSettings } from '../console/settings.js';
import type { ReplicaAnswer, ReplicaQuestion } from './load/messages.js';

/** Path of this build's `jitpaxos` command. */
export const MAIN = fileURLToPath(new URL('../cli/main.js', import.meta.url));
const READY_TIMEOUT_MS = 60_000;
const ANSWER_TIMEOUT_MS = 5_000;
const STOP_TIMEOUT_MS = 3_000;
/** How much of a replica's stderr is kept: its start, and some transfers of its log, are about 20 lines. */
const COMPLAINT_CHARACTERS = 16_000;
/** Kept of what a replica writes to stdout. */
const SAID_CHARACTERS = 10_000;
/** Another process may take a free port before the replica binds it. Then all ports are chosen again. */
const PORT_ATTEMPTS = 3;

/** Another build of the program, for clusters of two versions. */
export interface ReplicaProgram {
  /** Path of a build's main.js. */
  readonly main: string;
  readonly flags: readonly string[];
}

export interface LocalClusterOptions {
  readonly replicas: number;
  readonly machine: 'echo' | 'kv';
  readonly transport: string;
  readonly idle?: string | undefined;
  readonly durability: string;
  readonly clock?: string | undefined;
  /** Further flags of `jitpaxos replica`. */
  readonly replicaFlags?: readonly string[];
  /** The build that each replica runs at first. Default: this build. */
  readonly program?: ReplicaProgram;
  /**
   * The cluster has keys, as `jitpaxos init` writes them: replica.keys and client.keys beside the cluster file. Default
   * false.
   */
  readonly authenticated?: boolean;
  /** With keys: use the older, unkeyed chain. Default: the keyed one. */
  readonly unkeyedChain?: boolean;
  /**
   * With keys: whether datagrams without encryption are taken. Default: as `jitpaxos init` writes it, no; if a program
   * is given, which may be older, what the processes prefer.
   */
  readonly encryption?: Encryption;
  /** On from the first entry of the log. Default: those of a new cluster for this build, none if a program is given, which may be older. */
  readonly features?: readonly FeatureName[];
  /**
   * Puts a relay between the processes. It gets the addresses at which the replicas listen. It returns, for each
   * replica, the addresses by which that replica knows the others; the replica's own address must be the true one. It
   * is called again if the ports must be chosen again.
   */
  readonly detour?: (addresses: readonly string[]) => Promise<(replica: number) => readonly string[]>;
  /** Where a replica keeps its files. Default: in the cluster's temporary directory. */
  readonly dataDirectory?: (replica: number) => string;
  /** Environment of a replica, in addition to that of this process. */
  readonly environment?: (replica: number) => NodeJS.ProcessEnv;
  /** Flags of Node itself, before the program. Default: none. */
  readonly nodeFlags?: (replica: number) => readonly string[];
  readonly datagramBytes?: number | undefined;
  /** Where the replicas run. Default: here, on loopback. */
  readonly placement?: Placement | undefined;
  /** A replica that has not ended this long after SIGTERM is killed. Default: 3 s. */
  readonly stopTimeoutMs?: number;
}

/** One replica's process. */
export class ReplicaProcess {
  exited = false;
  /** The end of its stderr, for error messages. */
  complaint = '';
  /** The contents of the `ready` line. */
  ready:
    | {
        readonly id: number;
        readonly view: number;
        readonly port: number;
        readonly pid: number;
        /** URL, with the flag --health. */
        readonly health?: string;
      }
    | undefined;
  /** What it wrote to stdout so far: a line or two. */
  private said = '';
  private readonly pending = new Map<number, (answer: ReplicaAnswer | undefined) => void>();
  private lastQuestion = 0;

  constructor(
    /** UNKNOWN_ID until it is added, if it joined. */
    public id: number,
    readonly child: ChildProcess,
    private readonly stopTimeoutMs = STOP_TIMEOUT_MS,
  ) {
    child.stderr
      ?.setEncoding('utf8')
      .on('data', (text: string) => (this.complaint = (this.complaint + text).slice(-COMPLAINT_CHARACTERS)));
    child.stdout
      ?.setEncoding('utf8')
      .on('data', (text: string) => (this.said = (this.said + text).slice(-SAID_CHARACTERS)));
    child.on('message', (message) => {
      const answer = message as ReplicaAnswer;
      this.pending.get(answer.id)?.(answer);
    });
    child.on('exit', () => {
      this.exited = true;
      for (const settle of this.pending.values()) settle(undefined);
    });
    child.on('error', () => (this.exited = true));
  }

  /** The answer; undefined if the process is gone or does not answer in time. */
  ask(ask: ReplicaQuestion['ask']): Promise<ReplicaAnswer | undefined> {
    if (this.exited || !this.child.connected) return Promise.resolve(undefined);
    const id = ++this.lastQuestion;
    return new Promise((resolve) => {
      const settle = (answer: ReplicaAnswer | undefined): void => {
        clearTimeout(timer);
        this.pending.delete(id);
        resolve(answer);
      };
      const timer = setTimeout(() => settle(undefined), ANSWER_TIMEOUT_MS);
      this.pending.set(id, settle);
      this.child.send({ ask, id } satisfies ReplicaQuestion, (error) => error && settle(undefined));
    });
  }

  kill(signal: NodeJS.Signals): void {
    if (!this.exited) this.child.kill(signal);
  }

  /** Resolves when the process has ended; kills it if SIGTERM was not enough. */
  async stop(): Promise<void> {
    if (this.exited) return;
    const ended = new Promise<void>((resolve) => this.child.once('exit', () => resolve()));
    this.kill('SIGTERM');
    const timer = setTimeout(() => this.kill('SIGKILL'), this.stopTimeoutMs);
    await ended;
    clearTimeout(timer);
  }

  /**
   * Waits until the process can be added to the cluster (`jitpaxos replica --join`). Throws CliError `replica-not-ready`
   * with the replica's own words.
   */
  waitJoining(): Promise<void> {
    return this.waitForLine('did not wait to be added', /^waits to be added: /m, () => undefined);
  }

  /** Waits for the `ready` line. Throws CliError `replica-not-ready` with the replica's own words. */
  waitReady(): Promise<void> {
    return this.waitForLine('was not ready', /^ready (\{.*\})$/m, (line) => {
      this.ready = JSON.parse(line[1]!) as NonNullable<typeof this.ready>;
    });
  }

  /** @param silent what to say of a process that has not written the line in time */
  private waitForLine(silent: string, line: RegExp, found: (match: RegExpExecArray) => void): Promise<void> {
    return new Promise((resolve, reject) => {
      const { child } = this;
      const end = (settle: () => void): void => {
        clearTimeout(timer);
        child.removeListener('exit', gone);
        child.stdout?.removeListener('data', look);
        settle();
      };
      const fail = (why: string): void => {
        const said = lastWords(this.complaint);
        const error = new CliError(
          'replica-not-ready',
          `${this.id === UNKNOWN_ID ? 'a process that joins' : `replica ${this.id}`} ${why}${said === '' ? '' : `: ${said}`}; run it by hand with jitpaxos replica to see more`,
        );
        end(() => reject(error));
      };
      const look = (): void => {
        const match = line.exec(this.said);
        if (match === null) return;
        found(match);
        end(resolve);
      };
      const gone = (code: number | null, signal: string | null): void =>
        fail(`ended with ${signal ?? `exit code ${code}`} before it was ready`);
      const timer = setTimeout(() => fail(`${silent} within ${READY_TIMEOUT_MS / 1000} s`), READY_TIMEOUT_MS);
      child.once('exit', gone);
      child.stdout?.on('data', look);
      look();
    });
  }
}

/** A process that waits to be added, and how it is started again. */
export interface JoiningProcess {
  readonly process: ReplicaProcess;
  readonly address: string;
  readonly data: string;
  readonly flags: readonly string[];
}

/** Of a process that waits to be added, for messages and options. */
const UNKNOWN_ID = -1;

export class LocalCluster {
  /** Indexed by replica id. */
  readonly replicas: ReplicaProcess[] = [];
  /** Processes that wait to be added. */
  private readonly joining = new Set<ReplicaProcess>();
  private joiners = 0;
  /** By id: replicas that were added. */
  private readonly joined = new Map<number, JoiningProcess>();
  private readonly killAll = (): void => {
    for (const replica of [...this.replicas, ...this.joining]) replica.kill('SIGKILL');
    rmSync(this.directory, { recursive: true, force: true });
  };

  private constructor(
    readonly directory: string,
    readonly clusterFile: string,
    /** By replica: the cluster file that it reads. */
    private readonly files: readonly string[],
    readonly options: LocalClusterOptions,
  ) {
    process.once('exit', this.killAll);
  }

  /** Starts the replicas and waits until all are ready. */
  static async start(options: LocalClusterOptions): Promise<LocalCluster> {
    for (let attempt = 1; ; attempt++) {
      const ports = await freePorts(options.replicas);
      // no waits from here until it is known what must be removed
      const directory = mkdtempSync(join(tmpdir(), 'jitpaxos-'));
      const clusterFile = join(directory, 'cluster.json');
      const config: ClusterConfig = {
        schema: CLUSTER_SCHEMA,
        id: randomBytes(8).toString('hex'),
        replicas: ports.map((port) => `${serverAddress(options.placement)}:${port}`),
        ...authenticationOf({
          encryption: options.program === undefined ? 'required' : 'preferred',
          ...options,
        }),
        ...featuresOf(options),
      };
      writeFileSync(clusterFile, JSON.stringify(config, null, 2));
      if (options.authenticated === true) writeFirstKeys(clusterFile, config.id, config.chain !== undefined);
      const knownAs = await options.detour?.(config.replicas);
      const files = ports.map((_, id) => {
        if (knownAs === undefined) return clusterFile;
        const file = join(directory, `cluster-${id}.json`);
        writeFileSync(file, JSON.stringify({ ...config, replicas: knownAs(id) }, null, 2));
        return file;
      });
      const cluster = new LocalCluster(directory, clusterFile, files, options);
      try {
        for (let id = 0; id < options.replicas; id++) cluster.spawn(id);
        await Promise.all(cluster.replicas.map((replica) => replica.waitReady()));
        return cluster;
      } catch (error) {
        const portTaken = cluster.replicas.some((replica) => replica.complaint.includes('port-in-use'));
        await cluster.close();
        if (!portTaken || attempt === PORT_ATTEMPTS) throw error;
      }
    }
  }

  /** Starts replica `id` (again). `waitReady` of the result resolves when it serves. */
  spawn(id: number, program: ReplicaProgram | undefined = this.options.program): ReplicaProcess {
    const joined = this.joined.get(id);
    const how = joined?.flags ?? ['--cluster', this.files[id]!, '--id', String(id), '--data', this.dataOf(id)];
    return (this.replicas[id] = this.start(id, how, program));
  }

  /**
   * Starts a process with an empty data directory, and resolves when it waits to be added. Once it is, and is ready,
   * `joins` makes it a replica of this object, which `spawn` starts again.
   */
  async spawnJoining(): Promise<JoiningProcess> {
    const [port] = await freePorts(1);
    const address = `127.0.0.1:${port}`;
    const data = join(this.directory, `joined-${++this.joiners}`);
    const flags = ['--join', this.clusterFile, '--listen', address, '--data', data];
    const process = this.start(UNKNOWN_ID, flags, this.options.program);
    this.joining.add(process);
    await process.waitJoining();
    return { process, address, data, flags };
  }

  /** The process that waited has been added: resolves with its id when it is ready. */
  async joins(joining: JoiningProcess): Promise<number> {
    const { process } = joining;
    await process.waitReady();
    const { id } = process.ready!;
    process.id = id;
    this.joining.delete(process);
    this.joined.set(id, joining);
    this.replicas[id] = process;
    return id;
  }

  /** Stops a replica for good, and removes its files. */
  async retire(id: number): Promise<void> {
    await this.replicas[id]!.stop();
    rmSync(this.joined.get(id)?.data ?? this.dataOf(id), { recursive: true, force: true });
  }

  private dataOf(id: number): string {
    return this.options.dataDirectory?.(id) ?? join(this.directory, `replica-${id}`);
  }

  private start(id: number, how: readonly string[], program: ReplicaProgram | undefined): ReplicaProcess {
    const { machine, transport, idle, durability, clock, datagramBytes } = this.options;
    const args = ['replica', ...how];
    args.push('--machine', machine, '--transport', transport, '--durability', durability);
    if (idle !== undefined) args.push('--idle', idle);
    if (clock !== undefined) args.push('--clock', clock);
    if (datagramBytes !== undefined) args.push('--datagram-bytes', String(datagramBytes));
    args.push(...(this.options.replicaFlags ?? []), ...(program?.flags ?? []));
    // Detached: Ctrl-C on the terminal is for this process, which stops the replicas when it no longer needs them.
    const node = [process.execPath, ...(this.options.nodeFlags?.(id) ?? [])];
    const [execPath, ...execArgv] = this.options.placement?.servers.prefixed(...node) ?? node;
    const child = fork(program?.main ?? MAIN, args, {
      stdio: ['ignore', 'pipe', 'pipe', 'ipc'],
      execPath: execPath!,
      execArgv,
      detached: true,
      env: { ...withoutSettings(process.env), ...this.options.environment?.(id) },
    });
    return new ReplicaProcess(id, child, this.options.stopTimeoutMs);
  }

  ask(question: ReplicaQuestion['ask']): Promise<(ReplicaAnswer | undefined)[]> {
    return Promise.all(this.replicas.map((replica) => replica.ask(question)));
  }

  /** The configuration as written, for tests. */
  config(): ClusterConfig {
    return JSON.parse(readFileSync(this.clusterFile, 'utf8')) as ClusterConfig;
  }

  async close(): Promise<void> {
    await Promise.all([...this.replicas, ...this.joining].map((replica) => replica.stop()));
    rmSync(this.directory, { recursive: true, force: true });
    process.removeListener('exit', this.killAll);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }
}

/** The last line of a replica's log; if it says why the replica ended, in readable form. */
function lastWords(log: string): string {
  const line = log.trim().split('\n').at(-1) ?? '';
  try {
    const { event, code, error } = JSON.parse(line) as Readonly<Record<string, unknown>>;
    return event === 'replica.ended' ? `${String(code)}: ${String(error)}` : line;
  } catch {
    return line;
  }
}

/** The features of a cluster file. Without any the field is left out, because a program of an earlier version refuses it. */
function featuresOf({ features, program }: LocalClusterOptions): Pick<ClusterConfig, 'features'> {
  const from = features ?? (program === undefined ? FIRST_FEATURES : []);
  return from.length === 0 ? {} : { features: from };
}

/** The authentication part of a cluster file, as `jitpaxos init` writes it. */
export function authenticationOf({
  authenticated = false,
  unkeyedChain = false,
  encryption = 'required',
}: Pick<LocalClusterOptions, 'authenticated' | 'unkeyedChain' | 'encryption'>): Pick<
  ClusterConfig,
  'authentication' | 'chain' | 'encryption'
> {
  if (!authenticated) return { authentication: 'none' };
  return {
    authentication: 'keys',
    ...(encryption === 'required' ? { encryption } : {}), // the other one is the default, and older programs lack the field
    ...(unkeyedChain ? {} : { chain: KEYED_CHAIN }),
  };
}
