/**
 * Three replicas and two clients, each process with its own hardware clock (the stand-in), which may be off or be
 * unplugged. All run on one host, so their clocks differ exactly as the stand-ins say.
 */
import { fork, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { LocalCluster } from '../../../src/measure/local-cluster.js';
import type { ClientClockReport } from '../../../src/client/clock-judge.js';
import type { ReplicaStatusReport } from '../../../src/host/status.js';
import type { HistoryEvent } from '../../../src/sim/history.js';
import { checkHistory, explain } from '../../../src/sim/linearizability.js';
import { Model } from '../../clock/model.js';
import { standInEnvironment } from '../../clock/stand-in.js';
import type { ClientPhase, FromClient, ToClient } from './messages.js';

export type { ClientPhase } from './messages.js';

const CLIENT = fileURLToPath(new URL('./client-program.js', import.meta.url));
const CLOCK = 'disciplined:/dev/ptp-model';
/** How long to wait for a client's answer. */
const ANSWER_MS = 60_000;

export interface ClockedHosts {
  readonly library: string;
  /** For the models of the stand-in; the caller removes it. */
  readonly directory: string;
  /** How far each device is ahead of the truth, ns. */
  readonly replicasNs: readonly number[];
  readonly clientsNs: readonly number[];
  readonly seed: number;
}

export interface Ending {
  /** All clients', in real-time order. */
  readonly events: readonly HistoryEvent[];
  readonly verdict: 'linearizable' | string;
  readonly unknown: number;
  readonly replicas: readonly ReplicaStatusReport[];
  readonly clients: readonly ClientClockReport[];
  /** What each process logged about its clock; replicas first. */
  readonly clockLogs: readonly (readonly Readonly<Record<string, unknown>>[])[];
}

class ClientProcess {
  private readonly waiting: ((message: FromClient) => void)[] = [];

  constructor(private readonly child: ChildProcess) {
    child.on('message', (message) => this.waiting.shift()?.(message as FromClient));
  }

  async answer<T extends FromClient['type']>(type: T, question?: ToClient): Promise<Extract<FromClient, { type: T }>> {
    if (question !== undefined) this.child.send(question);
    let timer: NodeJS.Timeout | undefined;
    let onExit: ((code: number | null) => void) | undefined;
    const message = await new Promise<FromClient>((resolve, reject) => {
      this.waiting.push(resolve);
      timer = setTimeout(
        () => reject(new Error(`a client process did not say "${type}" within ${ANSWER_MS / 1000} s`)),
        ANSWER_MS,
      );
      onExit = (code) => reject(new Error(`a client process ended with ${code} before it said "${type}"`));
      this.child.once('exit', onExit);
    }).finally(() => {
      clearTimeout(timer);
      this.child.off('exit', onExit!);
    });
    if (message.type !== type) throw new Error(`a client process said "${message.type}" in place of "${type}"`);
    return message as Extract<FromClient, { type: T }>;
  }

  async stop(): Promise<void> {
    if (this.child.exitCode !== null || this.child.signalCode !== null) return;
    const ended = once(this.child, 'exit');
    this.child.kill('SIGKILL');
    await ended;
  }
}

export class ClockedCluster {
  private readonly logs: string[] = [];

  private constructor(
    private readonly cluster: LocalCluster,
    private readonly clients: readonly ClientProcess[],
    /** To be changed while they run. */
    readonly replicaModels: readonly Model[],
    readonly clientModels: readonly Model[],
  ) {
    cluster.replicas.forEach(({ child }, id) => {
      this.logs[id] = '';
      child.stderr?.on('data', (text: string) => (this.logs[id] += text));
    });
  }

  static async start({ library, directory, replicasNs, clientsNs, seed }: ClockedHosts): Promise<ClockedCluster> {
    const model = (name: string, offsetNs: number): Model =>
      new Model(join(directory, name), { offsetNs: BigInt(offsetNs), noiseNs: 100n, bracketNs: 500n, gone: 0n });
    const replicaModels = replicasNs.map((ns, id) => model(`replica-${id}`, ns));
    const clientModels = clientsNs.map((ns, id) => model(`client-${id}`, ns));
    const env = ({ path }: Model): NodeJS.ProcessEnv => standInEnvironment(library, path);
    const cluster = await LocalCluster.start({
      replicas: replicasNs.length,
      machine: 'kv',
      transport: 'auto',
      idle: 'block',
      durability: 'memory',
      clock: CLOCK,
      environment: (id) => env(replicaModels[id]!),
    });
    const clients = clientModels.map(
      (own, id) =>
        new ClientProcess(
          fork(CLIENT, [cluster.clusterFile, CLOCK, `c${id}`, String(seed + id)], {
            env: env(own),
            execArgv: [],
            stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
          }),
        ),
    );
    const started = new ClockedCluster(cluster, clients, replicaModels, clientModels);
    try {
      await Promise.all(clients.map((client) => client.answer('ready')));
      return started;
    } catch (error) {
      await started.close();
      throw error;
    }
  }

  /** All clients at once, each one operation after the other. */
  run(ms: number): Promise<ClientPhase[]> {
    return Promise.all(this.clients.map(async (client) => (await client.answer('phase', { type: 'run', ms })).phase));
  }

  async replicas(): Promise<ReplicaStatusReport[]> {
    return (await this.cluster.ask('stats')).map((answer) => answer?.status as unknown as ReplicaStatusReport);
  }

  /** Ends the clients and judges the history. */
  async end(): Promise<Ending> {
    const replicas = await this.replicas();
    const ends = await Promise.all(this.clients.map((client) => client.answer('end', { type: 'end', ms: 0 })));
    // Each client numbers its processes from 0.
    const events = ends
      .flatMap((end, id) => end.events.map((event) => ({ ...event, process: event.process * ends.length + id })))
      .sort((a, b) => a.time - b.time);
    const verdict = checkHistory(events);
    const lines = [...this.logs, ...ends.map(({ log }) => log.join('\n'))];
    return {
      events,
      verdict: verdict.outcome === 'linearizable' ? verdict.outcome : explain(verdict),
      unknown: ends.reduce((sum, end) => sum + end.unknown, 0),
      replicas,
      clients: ends.map(({ clock }) => clock),
      clockLogs: lines.map((text) =>
        text
          .split('\n')
          .filter((line) => /"event":"(replica|client)\.clock"/.test(line))
          .map((line) => JSON.parse(line) as Record<string, unknown>),
      ),
    };
  }

  async close(): Promise<void> {
    await Promise.all(this.clients.map((client) => client.stop()));
    await this.cluster.close();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }
}

/** The smallest value that a share `q` of all does not exceed. */
export function quantile(values: readonly number[], q: number): number {
  const sorted = Float64Array.from(values).sort();
  return sorted[Math.min(sorted.length - 1, Math.floor(q * sorted.length))] ?? NaN;
}
