/// <reference lib="esnext.disposable" preserve="true" />
/**
 * The client that applications use: promises over lanes.
 *
 * Each lane has one open operation; more operations wait in a bounded queue, in order. The rule: an operation that is
 * rejected with `aborted`, `busy` or `client-closed` was never sent; `operation-refused` was decided and not executed;
 * `outcome-unknown` and `session-lost` may have been executed, once.
 */
import { JitPaxosError } from '../errors.js';
import type { Family } from '../metrics/exposition.js';
import { BucketCounts } from '../protocol/bucket-counts.js';
import { Outcome } from '../protocol/contract.js';
import { ReplyStatus } from '../wire/messages.js';
import { checkInteger, checkKeys, optionNames, show } from '../host/options.js';
import { registerParts } from './client-parts.js';
import { aborted, CLIENT_HOST_OPTION_NAMES, ClientHost, type ClientHostOptions } from './client-host.js';
import { systemMs, type LeaseClock } from './lease-clock.js';
import { clientMetrics, DURATION_BOUNDS_US } from './client-metrics.js';
import { clientStats, type ClientStats } from './client-stats.js';
import { OneWayMetrics } from './one-way-metrics.js';

export interface ClientOptions extends ClientHostOptions {
  /** Default time for one operation, ms; Infinity: wait forever. Default 5,000. */
  readonly timeout?: number;
  /** Operations that may wait for a lane. Default 10,000. */
  readonly queue?: number;
  /**
   * How often each replica is asked in a second, on average, when a question arrived and when its answer left: one-way delays,
   * in `metrics()`. 0 to 100. Default 0: nothing is asked.
   */
  readonly oneWayPerSecond?: number;
}

export interface CallOptions {
  /** Ends the wait. If the operation was not sent yet, it is withdrawn. */
  readonly signal?: AbortSignal;
  /** ms; overrides the client's. */
  readonly timeout?: number;
}

const CLIENT_OPTION_NAMES = [
  ...CLIENT_HOST_OPTION_NAMES,
  ...optionNames<Omit<ClientOptions, keyof ClientHostOptions>>({
    timeout: true,
    queue: true,
    oneWayPerSecond: true,
  }),
];
const CALL_OPTION_NAMES = optionNames<CallOptions>({ signal: true, timeout: true });

const DEFAULT_TIMEOUT_MS = 5_000;
const DEFAULT_QUEUE = 10_000;
const ONE_WAY_PER_SECOND_MAX = 100;
const TIMEOUT_MAX_MS = 0x7fffffff;
/** Calls that wait before all others; more of them wait like the others. */
const FIRST_MAX = 64;

interface Call {
  readonly isQuery: boolean;
  /** Bytes of the operation. */
  readonly length: number;
  readonly timeoutMs: number;
  readonly calledAtUs: number;
  readonly deadlineUs: number;
  readonly signal: AbortSignal | undefined;
  readonly resolve: (result: Uint8Array) => void;
  readonly reject: (error: unknown) => void;
  /** The operation, while it waits for a lane. */
  bytes: Uint8Array | undefined;
  /** −1 while it waits. */
  lane: number;
  /** Datagrams that had arrived when it was sent. */
  heard: number;
}

/** The calls of one AbortSignal, behind one listener: a signal for many calls does not leak listeners. */
class SignalCalls {
  readonly calls = new Set<Call>();

  constructor(
    private readonly signal: AbortSignal,
    private readonly abort: (call: Call) => void,
  ) {
    signal.addEventListener('abort', this.onAbort, { once: true });
  }

  release(): void {
    this.signal.removeEventListener('abort', this.onAbort);
  }

  private readonly onAbort = (): void => {
    const calls = [...this.calls];
    // Waiting calls first: otherwise they would take the lane of a sent one, and end as unknown.
    for (const call of calls) if (call.lane < 0) this.abort(call);
    for (const call of calls) if (call.lane >= 0) this.abort(call);
  };
}

let whenClosed: (client: Client, run: () => void) => void;
let callFirst: (client: Client, operation: Uint8Array, isQuery: boolean, options?: CallOptions) => Promise<Uint8Array>;

/** The clocks by which a holder of this client's leases judges them: see lease.ts. */
function leaseClockOf(client: Client, host: ClientHost): LeaseClock {
  return {
    monotonicMs: () => host.nowUs() / 1000,
    wallMs: () => host.readingMs(),
    dateMs: systemMs,
    heardAheadMs: (baseMs) => host.heardAheadMs(baseMs),
    statedAheadMs: () => host.statedAheadMs(),
    suspendedMs: () => host.suspendedMs(),
    correct: () => host.judgeClock(),
    after: (ms, run) => {
      const timer = setTimeout(run, ms).unref();
      return () => clearTimeout(timer);
    },
    random: () => Math.random(),
    whenClosed: (run) => whenClosed(client, run),
  };
}

export class Client {
  static {
    whenClosed = (client, run) => {
      if (client.isClosed || client.failure !== undefined) run();
      else client.closeListeners.push(run);
    };
    callFirst = (client, operation, isQuery, options) => client.call(operation, isQuery, options, true);
  }

  /** By lane. */
  private readonly open: (Call | undefined)[];
  private readonly idleLanes: number[];
  /** In order of arrival. */
  private readonly waiting = new Set<Call>();
  /** Those that go before: renewals of leases, which would be lost behind a long queue. */
  private readonly waitingFirst = new Set<Call>();
  /** From the call to its commit, µs, including the wait for a lane. */
  private readonly durationsUs = {
    execute: new BucketCounts(DURATION_BOUNDS_US),
    query: new BucketCounts(DURATION_BOUNDS_US),
  };
  private readonly signals = new Map<AbortSignal, SignalCalls>();
  private waitingTimer: NodeJS.Timeout | undefined;
  private waitingTimerUs = Infinity;
  private isClosed = false;
  private failure: unknown;
  private readonly closeListeners: (() => void)[] = [];
  private oneWay: OneWayMetrics | undefined;
  private host!: ClientHost;

  private constructor(
    lanes: number,
    private readonly timeoutMs: number,
    private readonly queueMax: number,
  ) {
    this.open = new Array<Call | undefined>(lanes).fill(undefined);
    this.idleLanes = Array.from({ length: lanes }, (_, i) => lanes - 1 - i);
  }

  /**
   * Connects to the cluster and registers a session.
   *
   * Throws JitPaxosError `option-invalid`, `cluster-file-unreadable`, `cluster-file-invalid`, `key-file-unreadable`,
   * `key-file-invalid`, `key-file-exposed`, `host-unresolved`, `address-unavailable`, `cluster-unavailable`,
   * `cluster-file-changed`, `majority-lost` or `aborted`; and ClockError.
   */
  static async connect(options: ClientOptions): Promise<Client> {
    checkKeys('option-invalid', 'Client.connect', options, CLIENT_OPTION_NAMES);
    const { timeout, queue, oneWayPerSecond, ...hostOptions } = options;
    const timeoutMs = checkTimeout('Client.connect', timeout ?? DEFAULT_TIMEOUT_MS);
    const queueMax = checkInteger('option-invalid', 'Client.connect: queue', queue ?? DEFAULT_QUEUE, 0, 0x7fffffff);
    const asked = checkInteger(
      'option-invalid',
      'Client.connect: oneWayPerSecond',
      oneWayPerSecond ?? 0,
      0,
      ONE_WAY_PER_SECOND_MAX,
    );
    let client: Client | undefined;
    const host = await ClientHost.connect(hostOptions, {
      completed: (lane, outcome, status) => client?.onCompleted(lane, outcome, status),
      ready: () => client?.startWaiting(),
      failed: (error) => client?.fail(error),
    });
    client = new Client(host.lanes, timeoutMs, queueMax);
    client.host = host;
    const connected = client;
    if (asked > 0) host.sampleTimes(1000 / asked, (client.oneWay = new OneWayMetrics()));
    registerParts(connected, {
      clock: leaseClockOf(connected, host),
      watch: (request) => host.watch(request),
      sampleTimes: (everyMs, events) => host.sampleTimes(everyMs, events),
      first: {
        execute: (operation, options) => callFirst(connected, operation, false, options),
        query: (operation, options) => callFirst(connected, operation, true, options),
        agreedTime: () => connected.agreedTime(),
      },
    });
    return connected;
  }

  /**
   * Has the cluster execute an operation, at most once, and resolves to the state machine's result. The operation is
   * copied before this returns.
   *
   * Rejects with JitPaxosError `option-invalid`, `read-only`, `operation-too-large`, `busy`, `aborted`, `client-closed`: not
   * executed; `operation-refused`: not executed; `outcome-unknown`, `session-lost`: unknown. The `cause` of an `outcome-unknown`
   * may be a JitPaxosError `replicas-silent` or `cluster-file-changed`.
   */
  execute(operation: Uint8Array, options?: CallOptions): Promise<Uint8Array> {
    return this.call(operation, false, options);
  }

  /**
   * Answers a read with the state machine's `query`, linearizable; without a log entry if all members agree. Rejects
   * with the errors of `execute`.
   */
  query(operation: Uint8Array, options?: CallOptions): Promise<Uint8Array> {
    return this.call(operation, true, options);
  }

  /**
   * About the agreed time of an operation that is sent now, ms: this client's clock, corrected by the replicas' clocks if
   * these contradict it. Ends of keys and leases are agreed times.
   */
  agreedTime(): number {
    return this.host.nowMs();
  }

  stats(): ClientStats {
    return clientStats(this.host, this.open.length - this.idleLanes.length, this.waitingCount);
  }

  /**
   * The client's current metrics: what replicas cannot know, such as how long operations took and how many commits took
   * one round trip. Allocates.
   */
  metrics(): Family[] {
    const { execute, query } = this.durationsUs;
    return [...clientMetrics(this.stats(), execute.snapshot(), query.snapshot()), ...(this.oneWay?.families() ?? [])];
  }

  /** Rejects sent operations with `outcome-unknown`, waiting ones with `client-closed`. Closing again does nothing. */
  async close(): Promise<void> {
    if (!this.isClosed) {
      this.isClosed = true;
      this.endAll('the client was closed');
    }
    await this.host.close();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  private get waitingCount(): number {
    return this.waitingFirst.size + this.waiting.size;
  }

  private call(
    operation: Uint8Array,
    isQuery: boolean,
    options: CallOptions | undefined,
    isFirst = false,
  ): Promise<Uint8Array> {
    return new Promise((resolve, reject) => {
      this.checkCall(operation, isQuery, options);
      const signal = options?.signal;
      const timeoutMs =
        options?.timeout === undefined ? this.timeoutMs : checkTimeout(isQuery ? 'query' : 'execute', options.timeout);
      const calledAtUs = this.host.nowUs();
      const deadlineUs = calledAtUs + timeoutMs * 1000;
      const call: Call = {
        isQuery,
        length: operation.length,
        timeoutMs,
        calledAtUs,
        deadlineUs,
        signal,
        resolve,
        reject,
        bytes: undefined,
        lane: -1,
        heard: 0,
      };
      if (this.host.ready && this.idleLanes.length > 0 && this.waitingCount === 0) this.send(call, operation);
      else this.wait(call, operation, isFirst && this.waitingFirst.size < FIRST_MAX);
      if (signal !== undefined) this.attach(call, signal);
    });
  }

  private checkCall(operation: Uint8Array, isQuery: boolean, options: CallOptions | undefined): void {
    if (this.failure !== undefined) throw this.failure;
    if (this.isClosed) throw closedError();
    if (!(operation instanceof Uint8Array))
      throw new JitPaxosError('option-invalid', `the operation is ${show(operation)}; it has to be a Uint8Array`);
    if (options !== undefined) checkKeys('option-invalid', 'options of the call', options, CALL_OPTION_NAMES);
    if (!isQuery) this.host.checkMayWrite();
    const limit = this.host.cluster.limits.operationBytes;
    if (operation.length > limit) {
      throw new JitPaxosError(
        'operation-too-large',
        `the operation has ${operation.length} bytes, this cluster accepts ${limit}; split it, or raise the limit operationBytes in the cluster file of all replicas and clients`,
      );
    }
    if (options?.signal?.aborted === true) throw aborted(options.signal);
  }

  private send(call: Call, operation: Uint8Array): void {
    const lane = this.idleLanes.pop()!;
    call.lane = lane;
    call.heard = this.host.diagnosis.heard;
    call.bytes = undefined;
    this.open[lane] = call;
    const timeoutUs = Math.max(0, Math.ceil(call.deadlineUs - this.host.nowUs()));
    if (call.isQuery) this.host.read(lane, operation, 0, operation.length, timeoutUs);
    else this.host.submit(lane, operation, 0, operation.length, timeoutUs);
  }

  private wait(call: Call, operation: Uint8Array, isFirst: boolean): void {
    if (!isFirst && this.waiting.size >= this.queueMax) {
      throw new JitPaxosError(
        'busy',
        `all ${this.open.length} lanes are in use and ${this.waiting.size} operations wait; send fewer at once, connect with more lanes, or use several clients`,
      );
    }
    call.bytes = new Uint8Array(operation); // not slice: a Buffer's shares memory
    (isFirst ? this.waitingFirst : this.waiting).add(call);
    this.armWaitingTimer(call.deadlineUs);
  }

  private startWaiting(): void {
    for (const queue of [this.waitingFirst, this.waiting]) {
      for (const call of queue) {
        if (!this.host.ready || this.idleLanes.length === 0) return;
        queue.delete(call);
        this.send(call, call.bytes!);
      }
    }
  }

  private onCompleted(lane: number, outcome: number, status: number): void {
    const call = this.open[lane]!;
    this.open[lane] = undefined;
    this.idleLanes.push(lane);
    this.detach(call);
    if (outcome === Outcome.committed && status === ReplyStatus.ok) {
      (call.isQuery ? this.durationsUs.query : this.durationsUs.execute).record(this.host.nowUs() - call.calledAtUs);
      const length = this.host.resultLength(lane);
      const result = new Uint8Array(length);
      const bytes = this.host.resultBytes(lane);
      for (let i = 0; i < length; i++) result[i] = bytes[i]!;
      call.resolve(result);
    } else {
      call.reject(this.outcomeError(call, outcome, status));
    }
    this.startWaiting();
  }

  private outcomeError(call: Call, outcome: number, status: number): JitPaxosError {
    if (outcome === Outcome.sessionLost) {
      return new JitPaxosError(
        'session-lost',
        `the cluster evicted this client's session, so whether the operation was executed is unknown; read the state before you send it again. A new session is registered by itself`,
      );
    }
    if (outcome === Outcome.unknown) return this.unknownError(call);
    const why =
      status === ReplyStatus.sessionUnknown
        ? 'its session was evicted before'
        : status === ReplyStatus.superseded
          ? 'a later one of its lane came before it'
          : `status ${status}`;
    return new JitPaxosError('operation-refused', `the operation was decided but not executed: ${why}; send it again`);
  }

  private unknownError(call: Call): JitPaxosError {
    if (call.signal?.aborted === true) {
      return new JitPaxosError(
        'outcome-unknown',
        'the AbortSignal was aborted after the operation was sent: it may be executed, once, or not at all; read the state before you send it again',
        call.signal.reason,
      );
    }
    const { majorityLost, listsDiffer } = this.host.diagnosis;
    if (listsDiffer !== undefined) {
      const cause = new JitPaxosError('cluster-file-changed', listsDiffer);
      return new JitPaxosError(
        'outcome-unknown',
        `no certain answer within ${call.timeoutMs} ms: the operation may be executed, once, or not at all; read the state before you send it again. ${listsDiffer}`,
        cause,
      );
    }
    const fragments = this.host.diagnosis.fragments(call.length);
    const cut = fragments === undefined ? '' : `. ${fragments}`;
    const silence = this.host.diagnosis.allSilent(call.calledAtUs, call.heard, this.host.nowUs());
    if (silence !== undefined) {
      const cause = new JitPaxosError('replicas-silent', silence);
      return new JitPaxosError(
        'outcome-unknown',
        `no certain answer within ${call.timeoutMs} ms: the operation may be executed, once, or not at all; read the state before you send it again. ${silence}${cut}`,
        cause,
      );
    }
    return new JitPaxosError(
      'outcome-unknown',
      `no certain answer within ${call.timeoutMs} ms: the operation may be executed, once, or not at all; read the state before you send it again, and see \`jitpaxos status\`${majorityLost === undefined ? '' : `. ${majorityLost}`}${cut}`,
    );
  }

  private abort(call: Call): void {
    if (call.lane >= 0) {
      this.host.cancel(call.lane);
      return;
    }
    this.withdraw(call);
    this.detach(call);
    call.reject(aborted(call.signal!));
  }

  private withdraw(call: Call): void {
    if (!this.waiting.delete(call)) this.waitingFirst.delete(call);
  }

  private attach(call: Call, signal: AbortSignal): void {
    let attached = this.signals.get(signal);
    if (attached === undefined)
      this.signals.set(signal, (attached = new SignalCalls(signal, (aborted) => this.abort(aborted))));
    attached.calls.add(call);
  }

  private detach(call: Call): void {
    if (call.signal === undefined) return;
    const attached = this.signals.get(call.signal);
    if (attached === undefined || !attached.calls.delete(call) || attached.calls.size > 0) return;
    attached.release();
    this.signals.delete(call.signal);
  }

  /** One timer for all waiting calls, set to the first deadline among them. */
  private armWaitingTimer(deadlineUs: number): void {
    if (deadlineUs >= this.waitingTimerUs) return;
    clearTimeout(this.waitingTimer);
    this.waitingTimerUs = deadlineUs;
    this.waitingTimer = setTimeout(
      () => this.expireWaiting(),
      Math.max(1, Math.ceil((deadlineUs - this.host.nowUs()) / 1000)),
    );
  }

  private expireWaiting(): void {
    const nowUs = this.host.nowUs();
    this.waitingTimerUs = Infinity;
    let nextUs = Infinity;
    for (const call of [...this.waitingFirst, ...this.waiting]) {
      if (call.deadlineUs > nowUs) {
        nextUs = Math.min(nextUs, call.deadlineUs);
        continue;
      }
      this.withdraw(call);
      this.detach(call);
      const silence = this.host.diagnosis.allSilent(call.calledAtUs, -1, nowUs);
      call.reject(
        new JitPaxosError(
          'aborted',
          `the operation waited ${call.timeoutMs} ms for a lane and was not sent; ${silence ?? 'send fewer at once, or connect with more lanes'}`,
        ),
      );
    }
    if (nextUs < Infinity) this.armWaitingTimer(nextUs);
  }

  private fail(error: unknown): void {
    this.failure = error;
    this.endAll('the client stopped on an internal error', error);
    void this.host.close();
  }

  private endAll(why: string, cause?: unknown): void {
    clearTimeout(this.waitingTimer);
    for (const run of this.closeListeners.splice(0)) run();
    for (const call of this.open) {
      if (call === undefined) continue;
      this.detach(call);
      call.reject(
        new JitPaxosError(
          'outcome-unknown',
          `${why} after the operation was sent: it may be executed, once, or not at all; read the state before you send it again`,
          cause,
        ),
      );
    }
    this.open.fill(undefined);
    for (const queue of [this.waitingFirst, this.waiting]) {
      for (const call of queue) {
        this.detach(call);
        call.reject(closedError(cause));
      }
      queue.clear();
    }
  }
}

function closedError(cause?: unknown): JitPaxosError {
  return new JitPaxosError(
    'client-closed',
    'the client is closed and the operation was not sent; connect a new client',
    cause,
  );
}

function checkTimeout(where: string, value: unknown): number {
  if (value === Infinity || (typeof value === 'number' && value > 0 && value <= TIMEOUT_MAX_MS)) return value;
  throw new JitPaxosError(
    'option-invalid',
    `${where}: timeout is ${show(value)}; it has to be a number of milliseconds above 0 and up to ${TIMEOUT_MAX_MS}, or Infinity`,
  );
}
