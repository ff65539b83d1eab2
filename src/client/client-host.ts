/**
 * A client core with its sockets, timer and clock: lanes to submit on, completions by callback, no allocation of its
 * own for an operation. Client adds promises; benches use it directly.
 *
 * The rule: every submit is completed exactly once, unless the host is closed first. If the cluster evicts the session,
 * all lanes end with Outcome.sessionLost, and the host registers another session (client-sessions.ts).
 */
import { HostClock } from '../clock/host-clock.js';
import { JitPaxosError } from '../errors.js';
import { loadHash } from '../native/hash64.js';
import { ClientCore } from '../protocol/client/client-core.js';
import { DEFAULT_CLIENT_TIMINGS, REQUESTS_PER_LANE_MAX, type ClientTimings } from '../protocol/config.js';
import type { ClientEvents, Instant } from '../protocol/contract.js';
import { NO_OWNER, ownedSessionLo } from '../protocol/log/session-owner.js';
import { ClientSessions } from '../protocol/client/client-sessions.js';
import { ClockJudge, type ClientClockReport } from './clock-judge.js';
import { Diagnosis } from './diagnosis.js';
import { SuspensionWatch, systemMs } from './lease-clock.js';
import { TimeSampler, type OneWayEvents } from './time-sampler.js';
import { WatchReader, type WatchRequest } from './watch-reader.js';
import { furthestAheadMs } from './furthest-ahead.js';
import { FollowedMembers } from './followed-members.js';
import { AddressBook } from '../host/address-book.js';
import { loadCluster, type Cluster, type ClusterConfig } from '../host/cluster-config.js';
import type { KeyFile } from '../host/key-file.js';
import { openKeys, type ProcessKeys } from '../host/keyring.js';
import { guardedLogger, stderrLogger, type Logger } from '../host/logger.js';
import { checkInteger, checkKeys, optionNames, show } from '../host/options.js';
import type { TransportKind } from '../host/transport-choice.js';
import { firstWithoutKeysWarning, WITHOUT_KEYS_EVENT, WITHOUT_KEYS_REMEDY } from '../host/without-keys.js';
import { TurnLoop } from '../host/turn-loop.js';
import type { IdleStrategy } from '../transport/transport.js';
import { CLIENT_SENDER } from '../wire/envelope.js';
import { HOST_PLACES } from '../wire/host-ids.js';
import {
  Changes,
  Members,
  READ_ONLY_LANES,
  RequestFlag,
  Times,
  typeOf,
  WatchLost,
  type TypesFor,
} from '../wire/messages.js';
import { toHex } from '../wire/u64.js';

export interface ClientHostOptions {
  /** Path of the cluster file, or its content. */
  readonly cluster: string | ClusterConfig;
  /**
   * The key file's path, or its content, in a cluster with keys. Default: `client.keys` beside the cluster file,
   * `NAME.client.keys` beside a file called NAME.json.
   */
  readonly keys?: string | KeyFile;
  /** How many operations may be open at once. Default 64; at most the cluster's `lanesPerSession`, and 64 with a read-only key. */
  readonly lanes?: number;
  /** How long connecting may take, ms: names, clock and session. Default 5,000. */
  readonly connectTimeout?: number;
  /** Gives up connecting. */
  readonly signal?: AbortSignal;
  /** Default `auto`: native if the addon is available, otherwise dgram. */
  readonly transport?: TransportKind;
  /** How the native transport waits. Default `adaptive`. */
  readonly idle?: IdleStrategy | undefined;
  /**
   * Longest datagram, unless a single operation is longer. Default: the cluster file's value, else 1,432; 8,932 if all
   * replicas are on loopback.
   */
  readonly datagramBytes?: number | undefined;
  /** The newest wire version that this client speaks. Default: the newest that it knows. */
  readonly wireVersion?: number | undefined;
  /** See openClock. Default `auto`. */
  readonly clock?: string;
  /** Added to timestamps, ns; the client raises it by itself under contention. Default 0. */
  readonly leadNs?: number;
  /** Timings that differ from DEFAULT_CLIENT_TIMINGS; `leadNs` above takes precedence over the one in here. */
  readonly timings?: Partial<ClientTimings>;
  /**
   * After this many requests of a lane, the client continues with another session, without a pause; for tests of that.
   * Default and maximum: 2,147,483,646.
   */
  readonly requestsPerLane?: number;
  /** Default: warnings and errors to stderr. */
  readonly logger?: Logger;
}

export const CLIENT_HOST_OPTION_NAMES = optionNames<ClientHostOptions>({
  cluster: true,
  keys: true,
  lanes: true,
  connectTimeout: true,
  signal: true,
  transport: true,
  idle: true,
  datagramBytes: true,
  wireVersion: true,
  clock: true,
  leadNs: true,
  timings: true,
  requestsPerLane: true,
  logger: true,
});

const DEFAULT_LANES = 64;
const DEFAULT_CONNECT_TIMEOUT_MS = 5_000;
/** Part of that time for names that the others can do without. */
const NAMES_MS = 1_000;
const JUDGE_INTERVAL_MS = 250;
const WATCH_INTERVAL_MS = 50;
/** One or two sessions are refused if clocks differ; from this many in a row on, an operator should look. */
const REFUSED_WARN = 4;

/** What the host reports to its user. */
export interface ClientHostEvents extends Pick<ClientEvents, 'completed'> {
  /** A session was registered: lanes may be used (again). */
  ready(): void;
  /**
   * The core broke an invariant, or the cluster refuses to give another session. The host is closed, and open lanes are
   * not completed.
   */
  failed(error: unknown): void;
}

export class ClientHost {
  private readonly session = new Int32Array(4);
  private readonly reading = new Int32Array(2);
  private readonly sessions: ClientSessions;
  private readonly judge: ClockJudge;
  private readonly judgeTimer: NodeJS.Timeout;
  /** Why it is not answered. */
  readonly diagnosis: Diagnosis;
  private readonly members: FollowedMembers;
  private readonly watches = new Set<WatchReader>();
  private readonly suspensions = new SuspensionWatch({
    monotonicMs: () => performance.now(),
    dateMs: systemMs,
  });
  private watchTimer: NodeJS.Timeout | undefined;
  private times: TimeSampler | undefined;
  /** The first session is being registered. */
  private connecting = true;
  private isClosed = false;

  private constructor(
    readonly cluster: Cluster,
    readonly lanes: number,
    private readonly keys: ProcessKeys | undefined,
    private readonly loop: TurnLoop,
    private readonly clock: HostClock,
    private readonly timings: ClientTimings,
    private readonly logger: Logger,
    private readonly events: ClientHostEvents,
    private readonly requestsPerLane: number | undefined,
    private readonly flags: number,
  ) {
    this.members = new FollowedMembers(
      loop,
      cluster,
      logger,
      () => this.sessions,
      () => this.isClosed,
    );
    this.judge = new ClockJudge(clock, logger, () => this.sessions);
    this.sessions = this.newSessions();
    this.diagnosis = new Diagnosis(cluster, loop, this.sessions, this.members, logger);
    this.judgeTimer = setInterval(() => {
      this.judge.judge();
      this.suspensions.look();
      this.diagnosis.look(this.nowUs());
      if (!this.connecting) this.diagnosis.sayLists();
    }, JUDGE_INTERVAL_MS);
    this.judgeTimer.unref();
  }

  /**
   * Registers a session with the cluster.
   *
   * Throws JitPaxosError `option-invalid`, `cluster-file-unreadable`, `cluster-file-invalid`, `key-file-unreadable`,
   * `key-file-invalid`, `key-file-exposed`, `host-unresolved`, `address-unavailable`, `cluster-unavailable` (too few
   * replicas, or none, answered in time), `cluster-file-changed` (the replicas that answer list another number of
   * replicas), `majority-lost`, `aborted` or `key-role` (the flags need an operator's key); and ClockError.
   * @param flags RequestFlag of every operation that is submitted
   */
  static async connect(options: ClientHostOptions, events: ClientHostEvents, flags = 0): Promise<ClientHost> {
    checkKeys('option-invalid', 'Client.connect', options, CLIENT_HOST_OPTION_NAMES);
    const cluster = loadCluster(options.cluster);
    const lanes = checkInteger(
      'option-invalid',
      'Client.connect: lanes',
      options.lanes ?? DEFAULT_LANES,
      1,
      cluster.limits.lanesPerSession,
    );
    const timeoutMs = checkInteger(
      'option-invalid',
      'Client.connect: connectTimeout',
      options.connectTimeout ?? DEFAULT_CONNECT_TIMEOUT_MS,
      1,
      0x7fffffff,
    );
    const timings = mergeTimings(options);
    const requestsPerLane =
      options.requestsPerLane === undefined
        ? undefined
        : checkInteger(
            'option-invalid',
            'Client.connect: requestsPerLane',
            options.requestsPerLane,
            8,
            REQUESTS_PER_LANE_MAX,
          );
    const logger = guardedLogger('Client.connect', options.logger ?? stderrLogger);
    throwIfAborted(options.signal);
    const warning = firstWithoutKeysWarning(cluster);
    if (warning !== undefined) logger.warn(WITHOUT_KEYS_EVENT, { warning, next: WITHOUT_KEYS_REMEDY });
    const keys = openKeys(cluster, options.cluster, options.keys, 'client');
    if (keys !== undefined && !keys.ring.mayWrite(keys.ring.own) && lanes > READ_ONLY_LANES) {
      keys.ring.close();
      throw new JitPaxosError(
        'option-invalid',
        `Client.connect: lanes: ${lanes}, but replicas give a client with a read-only key at most ${READ_ONLY_LANES}; use fewer lanes, several clients, or a key with the role "client"`,
      );
    }
    if ((flags & RequestFlag.configure) !== 0 && keys !== undefined && !keys.ring.mayConfigure(keys.ring.own)) {
      const { own } = keys.ring;
      const id = keys.ring.idOf(own);
      keys.ring.close();
      throw new JitPaxosError(
        'key-role',
        `key ${id} may not change who the members are, and nothing was sent; use an operator's key (jitpaxos keys add --role operator)`,
      );
    }
    const startedMs = performance.now();
    const book = await AddressBook.open(cluster, { startMs: Math.min(NAMES_MS, timeoutMs) });
    let host: ClientHost | undefined;
    const clock = await HostClock.open(options.clock ?? 'auto', {
      changed: (now, before) => host?.judge.changed(now, before),
    });
    let loop: TurnLoop | undefined;
    try {
      loop = new TurnLoop({
        cluster,
        book,
        sender: CLIENT_SENDER,
        transport: options.transport,
        idle: options.idle,
        datagramBytes: options.datagramBytes,
        keys: keys?.ring,
        wireVersion: options.wireVersion,
        clock,
        hash: loadHash(),
        notice: (event, fields) => logger.warn(event, fields),
        failed: (error) => host?.fail(error),
      });
      await loop.open();
      host = new ClientHost(cluster, lanes, keys, loop, clock, timings, logger, events, requestsPerLane, flags);
      await host.firstSession(timeoutMs, Math.max(1, timeoutMs - (performance.now() - startedMs)), options.signal);
      return host;
    } catch (error) {
      clearInterval(host?.judgeTimer);
      await loop?.close();
      clock.close();
      throw error;
    }
  }

  /** False while a session is being registered; do not submit then. */
  get ready(): boolean {
    return this.sessions.ready && !this.isClosed;
  }

  get view(): number {
    return this.sessions.core.view;
  }

  /** Throws JitPaxosError `read-only` if the client's key is read-only: the replicas would ignore a write. */
  checkMayWrite(): void {
    if (this.keys === undefined || this.keys.ring.mayWrite(this.keys.ring.own)) return;
    throw new JitPaxosError(
      'read-only',
      'this client\'s key may only read, and nothing was sent; use `read`, or a key with the role "client" (`jitpaxos keys add`)',
    );
  }

  /** The current session's id, sixteen hexadecimal digits. */
  get sessionId(): string {
    return toHex(this.sessions.core.sessionHi, this.sessions.core.sessionLo);
  }

  /**
   * The time of the current event: within `completed`, that of the datagram that completed the operation; after
   * `submit`, that of the submit. Reads no clock.
   */
  get instant(): Readonly<Instant> {
    return this.loop.instant;
  }

  /** Monotonic µs, the clock of deadlines. */
  nowUs(): number {
    return performance.now() * 1000;
  }

  isIdle(lane: number): boolean {
    return this.sessions.isIdle(lane);
  }

  /**
   * Sends an operation on an idle lane; the bytes are copied. The operation must be within the cluster's
   * `operationBytes`. `timeoutUs`: whole µs after which it ends with Outcome.unknown, Infinity for never.
   *
   * Throws JitPaxosError `busy` while there is no session (`ready` is false), `read-only` if the client's key is
   * read-only, InvariantError if the lane is not idle.
   */
  submit(lane: number, bytes: Uint8Array, offset: number, length: number, timeoutUs: number): void {
    this.checkReady();
    this.checkMayWrite();
    this.sessions.submit(lane, bytes, offset, length, timeoutUs, this.loop.enter());
  }

  /** Like `submit`, for a query of the state machine: read from the members, without a log entry if possible. */
  read(lane: number, bytes: Uint8Array, offset: number, length: number, timeoutUs: number): void {
    this.checkReady();
    this.sessions.read(lane, bytes, offset, length, timeoutUs, this.loop.enter());
  }

  /** Ends the open operation of a lane with Outcome.unknown. */
  cancel(lane: number): void {
    this.loop.enter();
    this.sessions.cancel(lane);
  }

  /** Where the result of the lane's last operation is, until the next submit on it: `[0 … resultLength(lane))`. */
  resultBytes(lane: number): Uint8Array {
    return this.sessions.resultBytes(lane);
  }

  resultLength(lane: number): number {
    return this.sessions.resultLength(lane);
  }

  /** CLIENT_COUNTER_NAMES, since `connect`. Allocates. */
  counters(): Float64Array {
    return this.sessions.counters();
  }

  /** Operations that may be on their way at once. */
  get window(): number {
    return Math.floor(this.sessions.core.window.size);
  }

  /** Open operations that are not sent yet, because the window is full. */
  get unsent(): number {
    return this.sessions.core.window.waiting;
  }

  get transport(): TurnLoop['transport'] {
    return this.loop.transport;
  }

  /** The time that an operation would be stamped with, ms. */
  nowMs(): number {
    return this.readingMs() + this.judge.correctionNs / 1e6;
  }

  /** This client's clock as it is read, ms. */
  readingMs(): number {
    this.clock.writeHalves(this.reading, 0);
    return ((this.reading[0]! >>> 0) * 2 ** 32 + (this.reading[1]! >>> 0)) / 1e6;
  }

  /**
   * How far the clock of a replica may be ahead of `readingMs`, ms: see furthestAheadMs.
   * @param baseMs `readingMs` less the monotonic clock now: replies from before the clock was set back are corrected
   */
  heardAheadMs(baseMs: number): number | undefined {
    return furthestAheadMs(
      this.sessions.core,
      this.members.hosts.map(({ slot }) => slot),
      this.nowUs(),
      baseMs,
    );
  }

  /** What this clock's source states as its error, twice, ms. Undefined: it states none, or counts from the host's start. */
  statedAheadMs(): number | undefined {
    const { errorNs } = this.clock.quality;
    return errorNs === null || this.clock.epoch === 'boot' ? undefined : (2 * errorNs) / 1e6;
  }

  /** LeaseClock.suspendedMs. */
  suspendedMs(): number {
    return this.suspensions.look();
  }

  /** Stamps from now on as the replies that were heard tell, without waiting for the next regular judgement. */
  judgeClock(): void {
    this.judge.judge();
  }

  /**
   * Opens a watch, which ends when it fails or is closed, or with this client: it then fails with `client-closed`. Throws
   * that if the client is closed already.
   */
  watch(request: WatchRequest): { taken(bytes: number): void; ask(): void; close(): void } {
    if (this.isClosed) throw new JitPaxosError('client-closed', 'the client is closed; connect a new one');
    const { loop, watches } = this;
    const reader = new WatchReader(
      {
        ...request,
        failed: (error) => {
          this.forgetWatch(reader);
          request.failed(error);
        },
      },
      () => this.watchPlaces(),
      () => crypto.getRandomValues(new Int32Array(1))[0]!,
      loop.outbox,
    );
    watches.add(reader);
    this.watchTimer ??= setInterval(
      () => loop.turn((now) => watches.forEach((each) => each.tick(now))),
      WATCH_INTERVAL_MS,
    );
    loop.turn((now) => reader.tick(now));
    return {
      taken: (bytes) => {
        if (reader.taken(bytes)) loop.enter();
      },
      ask: () => loop.turn((now) => reader.ask(now)),
      close: () => {
        if (!watches.has(reader)) return;
        this.forgetWatch(reader);
        loop.enter();
        reader.close();
      },
    };
  }

  /**
   * From now on asks every replica for the times of a question, about once in `everyMs`: one-way delays. The last call
   * counts.
   */
  sampleTimes(everyMs: number, events: OneWayEvents): void {
    this.times?.close();
    const idAt = (place: number): number => this.members.hosts.find(({ slot }) => slot === place)?.id ?? place;
    this.times = new TimeSampler(this.loop, this.clock, everyMs, () => hostPlaces(this.loop), idAt, events);
  }

  /** Where to watch, in this order: spares, then members, the primary last. Chance decides among equals. */
  private watchPlaces(): number[] {
    const { core } = this.sessions;
    return hostPlaces(this.loop)
      .map((place) => ({ place, rank: core.burdenOf(place) + Math.random() }))
      .sort((a, b) => a.rank - b.rank)
      .map(({ place }) => place);
  }

  private forgetWatch(reader: WatchReader): void {
    this.watches.delete(reader);
    if (this.watches.size > 0) return;
    clearInterval(this.watchTimer);
    this.watchTimer = undefined;
  }

  /** Allocates. */
  clockReport(): ClientClockReport {
    return this.judge.report(this.members.hosts);
  }

  /** Datagrams dropped, by index of DROP_REASON_NAMES. */
  get drops(): Float64Array {
    return this.loop.reader.drops;
  }

  /**
   * Reads the key file again and replaces the current keys. If it throws, they stay: JitPaxosError
   * `key-file-unreadable`, `key-file-invalid`, `key-file-exposed`. Does nothing in a cluster without keys.
   */
  reloadKeys(): void {
    if (!this.isClosed) this.keys?.reload();
  }

  /** Open lanes are not completed. */
  async close(): Promise<void> {
    const hasWatches = this.watches.size > 0;
    for (const watch of this.watches)
      watch.fail(new JitPaxosError('client-closed', 'the client was closed; connect a new one, and watch again'));
    // The replicas hear of it now, and not when they miss a sign of life.
    if (hasWatches) this.loop.endTurn();
    this.isClosed = true;
    clearInterval(this.judgeTimer);
    this.times?.close();
    await this.loop.close();
    this.clock.close();
  }

  /** A request taken now would belong to the ended session, and never be completed. */
  private checkReady(): void {
    if (!this.ready)
      throw new JitPaxosError(
        'busy',
        this.isClosed
          ? 'the client is closed; connect a new one'
          : 'a session is being registered; wait for the event `ready`, then submit',
      );
  }

  private newSessions(): ClientSessions {
    return new ClientSessions(this.lanes, (events, earlier) => this.newCore(events, earlier), {
      completed: (lane, outcome, status, fast) => this.events.completed(lane, outcome, status, fast),
      ready: () => this.onReady(),
      refusedLanes: () => {
        throw new JitPaxosError(
          'option-invalid',
          `the cluster refuses a session of ${this.lanes} lanes; connect with fewer lanes, and make sure that the replicas' limits are those of this client's cluster file`,
        );
      },
      lost: (core) =>
        this.logger.warn('client.session-lost', {
          session: toHex(core.sessionHi, core.sessionLo),
          next: 'a new session is being registered; raise the limit maxSessions if this happens often',
        }),
      refused: (core, inARow) => {
        const fields = {
          session: toHex(core.sessionHi, core.sessionLo),
          inARow,
          found: "the replicas refuse it: this client's clock and theirs, or their log's time, differ",
          next: 'the client asks for another session with a corrected timestamp; if this continues, compare the clocks of the hosts (jitpaxos clock read, jitpaxos status)',
        };
        if (inARow < REFUSED_WARN) this.logger.info('client.session-refused', fields);
        else this.logger.warn('client.session-refused', fields);
      },
      renewed: (from, to) =>
        this.logger.info('client.session-renewed', {
          session: toHex(from.sessionHi, from.sessionLo),
          by: toHex(to.sessionHi, to.sessionLo),
          found: 'a lane had used most of its request numbers',
          next: 'nothing; open operations end in the old session',
        }),
    });
  }

  /** A core for a new session; its id and nonce are random, so that no other client has them. */
  private newCore(events: ClientEvents, earlier: ClientCore | undefined): ClientCore {
    const { session, cluster } = this;
    crypto.getRandomValues(session);
    const owner = this.keys?.ring.ownerOf(this.keys.ring.own) ?? NO_OWNER;
    session[1] = ownedSessionLo(session[1]!, owner);
    const core = new ClientCore(
      {
        replicas: cluster.replicas.length,
        slots: HOST_PLACES,
        lanes: this.lanes,
        seed: session[0]! ^ session[3]!,
        sessionHi: session[0]!,
        sessionLo: session[1]!,
        nonceHi: owner === NO_OWNER ? session[2]! : owner,
        nonceLo: session[3]!,
        limits: cluster.limits,
        timings: this.timings,
        flags: this.flags,
        ...(this.requestsPerLane === undefined ? {} : { requestsPerLane: this.requestsPerLane }),
        ...earlier?.succession(),
      },
      this.loop.outbox,
      {
        ...events,
        ...this.members.events(),
      },
    );
    core.correctClock(this.judge.correctionNs);
    return core;
  }

  private async firstSession(timeoutMs: number, leftMs: number, signal: AbortSignal | undefined): Promise<void> {
    const { loop, members, diagnosis } = this;
    let onAbort: (() => void) | undefined;
    let timer: NodeJS.Timeout | undefined;
    try {
      await new Promise<void>((resolve, reject) => {
        timer = setTimeout(() => reject(diagnosis.unavailable(timeoutMs)), leftMs);
        throwIfAborted(signal); // perhaps while it waited for names or the clock
        onAbort = () => reject(aborted(signal!));
        signal?.addEventListener('abort', onAbort, { once: true });
        this.onReady = resolve;
        this.onFailed = reject;
        loop.start({
          receive: (bytes, offset, length, from, now) => {
            const known = typeOf(bytes, offset) as TypesFor<'clientHost'>;
            switch (known) {
              case Members.type:
                members.onMembers(bytes, offset, now);
                return;
              case Changes.type:
                for (const watch of this.watches) watch.onChanges(bytes, offset, from, now);
                return;
              case WatchLost.type:
                for (const watch of this.watches) watch.onLost(bytes, offset, from, now);
                return;
              case Times.type:
                this.times?.onTimes(bytes, offset, from, now);
                return;
              default:
                known satisfies never; // each message for the host has its case; the others are for the core
                if (members.unsureFrom < Infinity && members.mayBeOfOthers(from, now)) return;
                this.sessions.receive(bytes, offset, length, from, now);
            }
          },
          unlisted: (id, endpoint, length, now) => members.unlisted(id, endpoint, length, now),
          tick: (now) => this.sessions.tick(now),
          unreachable: (replica, now) => {
            this.sessions.unreachable(replica, now);
            for (const watch of this.watches) watch.unreachable(replica, now);
          },
          endTurn: (now) => {
            this.sessions.endTurn(now);
            if (this.watches.size > 0) for (const watch of this.watches) watch.endTurn(now);
            if (this.connecting && this.sessions.core.lists.leavesNoQuorum)
              reject(new JitPaxosError('cluster-file-changed', `connecting is refused: ${diagnosis.listsDiffer!}`));
          },
          writeWakeUs: (out) => this.sessions.writeWakeUs(out),
          longestQuietUs: Infinity,
        });
        this.sessions.register(loop.enter());
      });
    } finally {
      clearTimeout(timer);
      if (onAbort !== undefined) signal?.removeEventListener('abort', onAbort);
      this.connecting = false;
    }
    this.onReady = () => this.events.ready();
    this.onFailed = (error) => this.events.failed(error);
    throwIfAborted(signal);
  }

  private onReady: () => void = () => undefined;
  private onFailed: (error: unknown) => void = () => undefined;

  private fail(error: unknown): void {
    this.isClosed = true;
    this.logger.error('client.failed', {
      error: error instanceof Error ? error.message : String(error),
      stack: error instanceof Error ? error.stack : undefined,
    });
    this.onFailed(error);
  }
}

function mergeTimings(options: ClientHostOptions): ClientTimings {
  const overrides = options.timings ?? {};
  checkKeys('option-invalid', 'Client.connect: timings', overrides, Object.keys(DEFAULT_CLIENT_TIMINGS));
  const merged = {
    ...DEFAULT_CLIENT_TIMINGS,
    ...overrides,
    ...(options.leadNs === undefined ? {} : { leadNs: options.leadNs }),
  };
  for (const [name, value] of Object.entries(merged)) {
    if (typeof value !== 'number' || !Number.isFinite(value) || value < 0)
      throw new JitPaxosError(
        'option-invalid',
        `Client.connect: ${name} is ${show(value)}; it has to be a number from 0 on`,
      );
  }
  return merged;
}

function hostPlaces(loop: TurnLoop): number[] {
  const places: number[] = [];
  for (let place = 0; place < HOST_PLACES; place++) if (loop.isHost(place)) places.push(place);
  return places;
}

export function aborted(signal: AbortSignal): JitPaxosError {
  return new JitPaxosError(
    'aborted',
    'the AbortSignal was aborted before anything was sent; nothing was executed',
    signal.reason,
  );
}

function throwIfAborted(signal: AbortSignal | undefined): void {
  if (signal?.aborted === true) throw aborted(signal);
}
