/**
 * An agent: listens for coordinators and does what one at a time asks for. The command `bench agent` runs one for its
 * process.
 */
import { HostClock } from '../../clock/host-clock.js';
import { CliError } from '../../console/exit.js';
import { setWorkerKeys, workerKeys } from '../../console/settings.js';
import type { TransportChoice } from '../../console/transport-flags.js';
import { loadCluster, type HostAndPort } from '../../host/cluster-config.js';
import { openKeys } from '../../host/keyring.js';
import { AgentListener, type Claim, type Refusal } from '../../measure/agents/agent-listener.js';
import type { StatedClock } from '../../measure/agents/control-messages.js';
import { controlKeys } from '../../measure/agents/handshake.js';
import { wallClockMs } from '../../measure/load/wall-seconds.js';
import { AgentSession } from './agent-session.js';

/** Refused connections are told of at most this often. */
const REFUSED_EVERY_MS = 10_000;

export interface AgentServiceOptions extends TransportChoice, HostAndPort {
  readonly clusterFile: string;
  /** Default: the file beside the cluster file. */
  readonly keyFile: string | undefined;
  /** Allows a cluster without keys, on a loopback address. */
  readonly withoutKeys: boolean;
  readonly clientsMax: number;
  readonly note: (text: string) => void;
  /** For tests: another wall clock, ms since the epoch, and what is stated of it. */
  readonly clock?: { readonly wallMs: () => number; readonly stated: StatedClock };
}

export class AgentService {
  /** Resolves when a coordinator has had a load, and is gone. */
  readonly loaded: Promise<void>;
  private noteLoaded: () => void = () => undefined;
  private session: AgentSession | undefined;
  private refusedTimer: NodeJS.Timeout | undefined;

  private constructor(
    readonly listener: AgentListener,
    private readonly hostClock: HostClock | undefined,
    private readonly closeKeys: () => void,
  ) {
    this.loaded = new Promise((resolve) => (this.noteLoaded = resolve));
  }

  /**
   * Throws CliError `agent-refused` for a cluster without keys, unless `withoutKeys` and the address is one of loopback;
   * `agent-unreachable` if it cannot listen there; and the errors of loadCluster and openKeys.
   */
  static async open(options: AgentServiceOptions): Promise<AgentService> {
    const { clusterFile, keyFile, host, port, note } = options;
    const cluster = loadCluster(clusterFile);
    checkKeys(options, cluster.authentication);
    setWorkerKeys(keyFile);
    const keys = openKeys(cluster, clusterFile, workerKeys().keys, 'client');
    const control = controlKeys(keys?.ring);
    const hostClock = options.clock === undefined ? await HostClock.open('realtime') : undefined;
    const settings = {
      ...options,
      cluster,
      mayWrite: (keyId: number) => control.mayWrite(keyId),
      wallMs: options.clock?.wallMs ?? wallClockMs,
      clock: () => options.clock?.stated ?? hostClock!.quality,
    };
    let service: AgentService | undefined;
    try {
      const listener = await AgentListener.open({
        host,
        port,
        cluster: cluster.id,
        keys: control,
        onClaim: (claim) => service!.claimed(claim, () => new AgentSession(claim, settings)),
        onRefused: () => service!.tellRefused(note),
      });
      return (service = new AgentService(listener, hostClock, () => keys?.ring.close()));
    } catch (error) {
      hostClock?.close();
      keys?.ring.close();
      throw new CliError(
        'agent-unreachable',
        `the agent cannot listen at ${host}:${port} (${(error as NodeJS.ErrnoException).code ?? String(error)}); give --listen an address of this host and a free port`,
      );
    }
  }

  /** Ends the load of a coordinator, if there is one, and stops listening. */
  async close(): Promise<void> {
    this.listener.close();
    clearTimeout(this.refusedTimer);
    await this.session?.close();
    this.hostClock?.close();
    this.closeKeys();
  }

  /** One coordinator at a time: others are told who has the agent. */
  private claimed({ channel }: Claim, begin: () => AgentSession): void {
    const { session } = this;
    if (session !== undefined) {
      channel.send({ type: 'held', by: session.by, seconds: session.seconds });
      return channel.end();
    }
    const current = begin();
    this.session = current;
    void current.over.then(() => {
      this.session = undefined;
      if (current.hasLoaded) this.noteLoaded();
    });
  }

  private tellRefused(note: (text: string) => void): void {
    this.refusedTimer ??= setTimeout(() => {
      this.refusedTimer = undefined;
      const counts = Object.entries(this.listener.refused) as [Refusal, number][];
      note(
        `refused connections: ${counts
          .filter(([, count]) => count > 0)
          .map(([name, count]) => `${name} ${count}`)
          .join(', ')}`,
      );
    }, REFUSED_EVERY_MS).unref();
  }
}

function checkKeys({ host, withoutKeys }: AgentServiceOptions, authentication: 'keys' | 'none'): void {
  if (authentication === 'keys') {
    if (!withoutKeys) return;
    throw new CliError('flag-invalid', '--without-keys is given, and the cluster has keys; leave it out');
  }
  if (!withoutKeys)
    throw new CliError(
      'agent-refused',
      'this cluster has no keys, so anyone who reaches the agent could order loads; give the cluster keys, or listen on loopback and add --without-keys',
    );
  if (!/^(127\.|::1$|localhost$)/.test(host))
    throw new CliError(
      'agent-refused',
      `--without-keys is for loopback only, and ${host} is not there; listen on 127.0.0.1, or give the cluster keys`,
    );
}
