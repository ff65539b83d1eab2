/**
 * What an agent does for the coordinator that has it: one load, from its order to its log.
 *
 * The rule: a load lasts no longer than the connection to its coordinator. When that ends, for whatever reason, the load
 * is stopped, its client processes are gone a few seconds later, and its log is removed. A coordinator that asks for
 * nothing loses the agent.
 */
import { closeSync, mkdtempSync, openSync, readSync, rmSync, statSync } from 'node:fs';
import { cpus, hostname, tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { hostMonotonicNs } from '../../clock/monotonic.js';
import { CliError, codeOf, messageOf } from '../../console/exit.js';
import type { TransportChoice } from '../../console/transport-flags.js';
import type { Cluster } from '../../host/cluster-config.js';
import { version } from '../../host/version.js';
import type { Claim } from '../../measure/agents/agent-listener.js';
import type { Channel } from '../../measure/agents/channel.js';
import {
  LOG_BYTES_MAX,
  PIECE_BYTES,
  readToAgent,
  type FromAgent,
  type StatedClock,
  type ToAgent,
} from '../../measure/agents/control-messages.js';
import { checkedOrder, onlyReads, type LoadOrder } from '../../measure/agents/load-order.js';
import { BENCH_PREFIX } from '../../measure/load/bench-keys.js';
import { deferred, type Deferred } from '../../measure/load/client-processes.js';
import { NO_COUNTS } from '../../measure/load/counts.js';
import type { ClientCounts } from '../../measure/load/messages.js';
import { intervalFor, type Ramp } from '../../measure/load/ramp.js';
import { monotonicAt } from '../../measure/load/wall-seconds.js';
import { measureLoad, type LoadSetup } from './load-run.js';

/** A coordinator that has not asked for anything for this long is let go. */
const IDLE_MS = 60_000;
/** A load is ordered at most an hour ahead (start-time.ts); then it begins, or the coordinator is let go. */
const AHEAD_MS_MAX = 3_600_000 + IDLE_MS;
const PROGRESS_MS = 500;
/** A coordinator that takes its reports slowly gets fewer: each has all that came before. */
const PROGRESS_BACKLOG_BYTES = 1 << 16;
/** The clients learn of their start this long before. */
const NOTICE_MS = 100;
/** Operations that are open when the coordinator is lost may end; then the client processes are killed. */
const ABANDON_MS = 2_000;

export interface AgentSettings extends TransportChoice {
  readonly cluster: Cluster;
  readonly clusterFile: string;
  /** Most client processes. */
  readonly clientsMax: number;
  /** False for a read-only key. */
  readonly mayWrite: (keyId: number) => boolean;
  readonly clock: () => StatedClock;
  /** Reads the wall clock, ms since the epoch. */
  readonly wallMs: () => number;
  /** For the person at the agent. */
  readonly note: (text: string) => void;
}

export class AgentSession {
  /** Resolves when nothing of the session is left. */
  readonly over: Promise<void>;
  readonly by: string;
  private readonly beganMs = performance.now();
  private readonly channel: Channel;
  private readonly closed: Deferred<void> = deferred();
  private readonly start: Deferred<number> = deferred();
  private idle: NodeJS.Timeout | undefined;
  private load: Promise<void> | undefined;
  private ramp: Ramp | undefined;
  private kill: () => void = () => undefined;
  private isAsked = false;
  private directory: string | undefined;
  private logBytes = -1;
  private lost: string | undefined;

  constructor(
    private readonly claim: Claim,
    private readonly settings: AgentSettings,
  ) {
    this.channel = claim.channel;
    this.by = `${claim.message.by} at ${claim.address}`;
    this.channel.events = {
      message: (value) => this.onMessage(value),
      bytes: () => this.channel.lose('it sent bytes that nobody asked for'),
      closed: (why) => this.abandon(why),
    };
    this.expect(IDLE_MS);
    const { cluster, clientsMax, clock, note } = settings;
    note(`coordinator: ${this.by}, key ${claim.keyId}`);
    this.send({
      type: 'welcome',
      version: version(),
      host: hostname(),
      cores: cpus().length,
      replicas: cluster.replicas.length,
      transport: settings.transport,
      clientsMax,
      clock: clock(),
    });
    this.over = this.closed.promise.then(() => this.cleanUp());
  }

  /** Its load has ended, with a result. */
  get hasLoaded(): boolean {
    return this.logBytes >= 0;
  }

  /** How long it has had the agent. */
  get seconds(): number {
    return (performance.now() - this.beganMs) / 1000;
  }

  /** Ends the session now: this process is about to end. */
  async close(): Promise<void> {
    this.channel.lose('the agent ends');
    this.kill();
    await this.over;
  }

  private onMessage(value: unknown): void {
    let message: ToAgent;
    try {
      message = readToAgent(value);
    } catch (error) {
      return this.channel.lose((error as Error).message);
    }
    this.idle?.refresh();
    switch (message.type) {
      case 'time':
        return this.send({ type: 'time', wallMs: this.settings.wallMs() });
      case 'prepare':
        return this.prepare(message.order);
      case 'start':
        return this.startAt(message.atMs);
      case 'stop':
        return this.stop();
      case 'piece':
        return this.sendPiece(message.at);
      case 'claim':
        return this.channel.lose('it claimed what it has');
    }
  }

  private prepare(value: unknown): void {
    if (this.load !== undefined || this.isAsked)
      return this.refuse(invalid('an agent carries out one order at a time'));
    try {
      const order = checkedOrder(value);
      this.check(order);
      this.isAsked = true;
      this.load = this.measure(order).catch((error: unknown) => this.refuse(error));
    } catch (error) {
      this.refuse(error);
    }
  }

  /** What can be carried out depends on this host. Throws CliError `flag-invalid`. */
  private check(order: LoadOrder): void {
    const { clientsMax, cluster, mayWrite } = this.settings;
    const { lanesPerSession } = cluster.limits;
    if (order.clients > clientsMax)
      throw invalid(`${order.clients} clients are more than the ${clientsMax} that this agent starts (--clients-max)`);
    if (order.lanes > lanesPerSession)
      throw invalid(`${order.lanes} lanes are above the limit lanesPerSession of its cluster file, ${lanesPerSession}`);
    if (!mayWrite(this.claim.keyId) && !onlyReads(order))
      throw invalid(`key ${this.claim.keyId} is read-only, and the load writes`);
  }

  private async measure(order: LoadOrder): Promise<void> {
    const { note, clusterFile, wallMs } = this.settings;
    this.directory = mkdtempSync(join(tmpdir(), 'jitpaxos-agent-'));
    const log = join(this.directory, 'load.hlog');
    let counts: ClientCounts = NO_COUNTS;
    note(
      `load: ${order.ratePerSecond.toFixed(1)}/s for ${order.durationNs / 1e9} s, ${order.clients} clients, seed ${order.seed}`,
    );
    const { failure } = await measureLoad(clusterFile, setupOf(order, log, this.settings), {
      wallMs,
      begin: (kill) => {
        this.kill = kill;
        if (this.lost !== undefined) throw new CliError('interrupted', `the coordinator is gone: ${this.lost}`);
        this.expect(AHEAD_MS_MAX);
        this.send({ type: 'prepared' });
        return this.start.promise;
      },
      run: async (ramp, startNs) => {
        const error = await this.run(ramp, startNs!);
        counts = ramp.steps[0]?.measurement.client ?? NO_COUNTS;
        return error;
      },
    });
    this.logBytes = Math.min(LOG_BYTES_MAX, statSync(log).size);
    note(`load: ended${failure === undefined ? '' : ` (${messageOf(failure)})`}`);
    this.expect(IDLE_MS);
    this.send({
      type: 'done',
      logBytes: this.logBytes,
      counts,
      failure: failure === undefined ? null : `${codeOf(failure)}: ${messageOf(failure)}`,
    });
  }

  private async run(ramp: Ramp, startNs: number): Promise<unknown> {
    this.ramp = ramp;
    const timer = setInterval(() => this.report(ramp, startNs), PROGRESS_MS);
    try {
      const ended = ramp.run(() => undefined, startNs);
      if (this.lost !== undefined) ramp.interrupt();
      await ended;
      return undefined;
    } catch (error) {
      return error;
    } finally {
      clearInterval(timer);
      this.ramp = undefined;
    }
  }

  private report({ running, plan }: Ramp, startNs: number): void {
    const seconds = (hostMonotonicNs() - startNs) / 1e9;
    if (running === undefined || seconds < 0 || this.channel.backlog > PROGRESS_BACKLOG_BYTES) return;
    const { histogram, counts } = running.timeline.total;
    this.send({
      type: 'progress',
      seconds,
      warming: seconds * 1e9 < plan.warmupNs,
      counts,
      histogram: histogram.toData(),
    });
  }

  private startAt(atMs: number): void {
    const { wallMs } = this.settings;
    const leftMs = atMs - wallMs();
    if (this.load === undefined) return this.refuse(invalid('nothing was prepared'));
    if (leftMs < NOTICE_MS || leftMs > AHEAD_MS_MAX)
      return this.refuse(
        invalid(`the start is ${(leftMs / 1000).toFixed(1)} s ahead by the clock of this host; compare the clocks`),
      );
    clearTimeout(this.idle);
    this.send({ type: 'starting' });
    void (async () => {
      // In steps, because the clock may be corrected meanwhile.
      for (let left = leftMs; left > NOTICE_MS; left = atMs - wallMs()) {
        if (this.lost !== undefined) return;
        await delay(Math.min(PROGRESS_MS, left - NOTICE_MS));
      }
      this.start.resolve(monotonicAt(atMs, wallMs));
    })();
  }

  private stop(): void {
    if (this.ramp !== undefined) this.ramp.interrupt();
    else if (this.logBytes < 0) this.start.reject(new CliError('interrupted', 'the coordinator was interrupted'));
  }

  private sendPiece(at: number): void {
    if (this.logBytes < 0 || at > this.logBytes) return this.refuse(invalid('there is no such piece of a log'));
    const piece = Buffer.alloc(Math.min(PIECE_BYTES, this.logBytes - at));
    try {
      const fd = openSync(join(this.directory!, 'load.hlog'), 'r');
      try {
        readSync(fd, piece, 0, piece.length, at);
      } finally {
        closeSync(fd);
      }
    } catch (error) {
      return this.refuse(error);
    }
    this.channel.sendBytes(piece);
  }

  private refuse(error: unknown): void {
    this.settings.note(`refused: ${messageOf(error)}`);
    this.send({ type: 'refused', code: codeOf(error), message: messageOf(error) });
  }

  private send(message: FromAgent): void {
    this.channel.send(message);
  }

  /** The coordinator has this long for its next message. */
  private expect(ms: number): void {
    clearTimeout(this.idle);
    if (this.lost !== undefined) return;
    this.idle = setTimeout(() => this.channel.lose(`it asked for nothing for ${ms / 1000} s`), ms);
  }

  private abandon(why: string): void {
    this.lost = why;
    clearTimeout(this.idle);
    this.settings.note(`coordinator gone: ${why}`);
    this.start.reject(new CliError('interrupted', `the coordinator is gone: ${why}`));
    this.ramp?.interrupt();
    const timer = setTimeout(() => this.kill(), ABANDON_MS);
    void Promise.resolve(this.load).then(() => {
      clearTimeout(timer);
      this.closed.resolve();
    });
  }

  private cleanUp(): void {
    if (this.directory !== undefined) rmSync(this.directory, { recursive: true, force: true });
  }
}

function setupOf(order: LoadOrder, log: string, { transport, idle }: TransportChoice): LoadSetup {
  const { ratePerSecond, arrivals, seed, warmupNs, durationNs, opBytes, opBytesMax, timeoutNs, ...same } = order;
  return {
    ...same,
    size: opBytes,
    sizeMax: opBytesMax,
    keyPrefix: `${BENCH_PREFIX}key-`,
    timeoutMs: timeoutNs / 1e6,
    transport,
    idle,
    history: undefined,
    hlog: log,
    ramp: {
      rates: [ratePerSecond],
      kind: arrivals,
      seed,
      warmupNs,
      durationNs,
      intervalMs: intervalFor(durationNs),
      hostCores: cpus().length,
      replicasHere: false,
    },
  };
}

function invalid(what: string): CliError {
  return new CliError('flag-invalid', `${what}; give other settings`);
}
