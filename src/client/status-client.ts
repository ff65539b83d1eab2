/// <reference lib="esnext.disposable" preserve="true" />
/**
 * Asks replicas about themselves, for `jitpaxos status` and `top`. Takes no session and changes nothing; even a replica
 * that cannot commit anything answers.
 */
import type { Clock } from '../clock/clock.js';
import { openClock } from '../clock/open.js';
import { JitPaxosError } from '../errors.js';
import { loadHash } from '../native/hash64.js';
import type { Instant } from '../protocol/contract.js';
import { AddressBook } from '../host/address-book.js';
import { loadCluster, type Cluster, type ClusterConfig } from '../host/cluster-config.js';
import type { KeyFile } from '../host/key-file.js';
import { openKeys } from '../host/keyring.js';
import { guardedLogger, silentLogger, type Logger } from '../host/logger.js';
import { checkInteger, checkKeys, optionNames } from '../host/options.js';
import { decodeReport } from '../host/status-codec.js';
import type { ReplicaStatusReport } from '../host/status.js';
import type { TransportKind } from '../host/transport-choice.js';
import { TurnLoop } from '../host/turn-loop.js';
import { explainSilence } from '../transport/silence.js';
import { CLIENT_SENDER, ENVELOPE_BYTES_MAX } from '../wire/envelope.js';
import { begin } from '../wire/layout.js';
import { Status, StatusReply, typeOf } from '../wire/messages.js';
import { readI32, readU16, writeI32, writeU16 } from '../wire/u64.js';

export interface StatusClientOptions {
  /** Path of the cluster file, or its content. */
  readonly cluster: string | ClusterConfig;
  /**
   * The key file's path, or its content, in a cluster with keys. Default: `client.keys` beside the cluster file,
   * `NAME.client.keys` beside a file called NAME.json.
   */
  readonly keys?: string | KeyFile;
  readonly transport?: TransportKind;
  /** Default: silent. */
  readonly logger?: Logger;
}

const OPTION_NAMES = optionNames<StatusClientOptions>({
  cluster: true,
  keys: true,
  transport: true,
  logger: true,
});

/** What one replica of the cluster file answered, if it did. */
export interface StatusAnswer {
  readonly id: number;
  /** `host:port` as in the cluster file, IPv6 in brackets. */
  readonly address: string;
  /** Undefined: no answer in time. */
  readonly report: ReplicaStatusReport | undefined;
  /** If there was no answer: what is known about the silent replicas, and what to do. */
  readonly silence?: string;
  /** From a question to its answer, µs. */
  readonly roundTripUs: number | undefined;
}

const DEFAULT_TIMEOUT_MS = 1_000;
const TIMEOUT_MS_MAX = 3_600_000;
/**
 * A question without an answer is repeated after this time; for a replica that stays silent, after growing times up to
 * REPEAT_US_MAX.
 */
const REPEAT_US = 100_000;
/** Longest time between two questions. */
const REPEAT_US_MAX = 1_000_000;
/** The longest report that is accepted; a longer one is not ours. */
const REPORT_BYTES_MAX = 32_768;
/**
 * Longest question and answer: every path that carries IPv6 carries 1,280 bytes, headers included. This tool is needed
 * most when the network has trouble.
 */
const QUESTION_BYTES_MAX = 1_280 - 48;
/** A shorter first piece would need too many others. */
const PIECE_BYTES_MIN = 128;
/** The value of Status.serial that asks for the first piece of a new report. A report's own serial is larger. */
const NEWEST = 1;

/** A report of which some pieces are missing. */
interface Pieces {
  readonly serial: number;
  readonly bytes: Uint8Array;
  /** By offset. */
  readonly received: Set<number>;
  missing: number;
  readonly roundTripUs: number;
}

interface Query {
  readonly answers: StatusAnswer[];
  readonly askedAtUs: Float64Array;
  /** By replica. */
  readonly pieces: (Pieces | undefined)[];
  missing: number;
  repeatUs: number;
  nextUs: number;
  readonly end: () => void;
}

export class StatusClient {
  private query: Query | undefined;
  /** Bytes of room in a question for a piece of a report. */
  private readonly room: number;
  private readonly nonce = new Int32Array(2);
  private failure: unknown;
  private isClosed = false;

  private constructor(
    /** The cluster file, checked. */
    readonly cluster: Cluster,
    private readonly loop: TurnLoop,
    private readonly clock: Clock,
  ) {
    this.room = Math.min(loop.datagramBytes, QUESTION_BYTES_MAX) - ENVELOPE_BYTES_MAX - Status.size;
    loop.start({
      receive: (bytes, offset, _length, from, now) => this.receive(bytes, offset, from, now),
      tick: (now) => this.repeat(now),
      unreachable: () => undefined,
      endTurn: () => undefined,
      writeWakeUs: (out) => void (out[0] = this.query?.nextUs ?? Infinity),
      longestQuietUs: Infinity,
    });
  }

  /**
   * Opens sockets; asks nothing yet.
   *
   * Throws JitPaxosError `option-invalid`, `cluster-file-unreadable`, `cluster-file-invalid`, `key-file-unreadable`,
   * `key-file-invalid`, `key-file-exposed`, `host-unresolved`, `address-unavailable`.
   */
  static async open(options: StatusClientOptions): Promise<StatusClient> {
    checkKeys('option-invalid', 'StatusClient.open', options, OPTION_NAMES);
    const cluster = loadCluster(options.cluster);
    const keys = openKeys(cluster, options.cluster, options.keys, 'client');
    const book = await AddressBook.open(cluster);
    const logger = guardedLogger('StatusClient.open', options.logger ?? silentLogger);
    const clock = openClock('monotonic');
    let client: StatusClient | undefined;
    let loop: TurnLoop | undefined;
    try {
      loop = new TurnLoop({
        cluster,
        book,
        sender: CLIENT_SENDER,
        transport: options.transport,
        idle: 'block',
        datagramBytes: undefined,
        keys: keys?.ring,
        wireVersion: undefined,
        clock,
        hash: loadHash(),
        notice: (event, fields) => logger.warn(event, fields),
        failed: (error) => client?.fail(error),
      });
      await loop.open();
      client = new StatusClient(cluster, loop, clock);
      return client;
    } catch (error) {
      await loop?.close();
      clock.close();
      throw error;
    }
  }

  /**
   * Asks every replica. Resolves with an answer for each, by replica index, as soon as all have answered or the time is
   * up. A replica that did not answer has no report; that is not an error.
   *
   * @param timeoutMs default 1,000 Throws JitPaxosError `option-invalid`, `client-closed`, and `busy` while another
   * query is open.
   */
  async ask(timeoutMs: number = DEFAULT_TIMEOUT_MS): Promise<readonly StatusAnswer[]> {
    checkInteger('option-invalid', 'StatusClient.ask: timeoutMs', timeoutMs, 1, TIMEOUT_MS_MAX);
    if (this.isClosed)
      throw this.failure ?? new JitPaxosError('client-closed', 'the status client is closed; open another');
    if (this.query !== undefined) throw new JitPaxosError('busy', 'a query is open; wait for its answers');
    const { replicas } = this.cluster;
    const answers = replicas.map(
      ({ host, port }, id): StatusAnswer => ({
        id,
        address: host.includes(':') ? `[${host}]:${port}` : `${host}:${port}`,
        report: undefined,
        roundTripUs: undefined,
      }),
    );
    crypto.getRandomValues(this.nonce);
    const now = this.loop.enter();
    const askedUs = now.monotonicUs;
    let timer: NodeJS.Timeout | undefined;
    await new Promise<void>((resolve) => {
      timer = setTimeout(resolve, timeoutMs);
      this.query = {
        answers,
        askedAtUs: new Float64Array(replicas.length),
        pieces: new Array<Pieces | undefined>(replicas.length).fill(undefined),
        missing: replicas.length,
        repeatUs: REPEAT_US,
        nextUs: now.monotonicUs + REPEAT_US,
        end: resolve,
      };
      this.askMissing(this.query, now);
    });
    clearTimeout(timer);
    this.query = undefined;
    if (this.failure !== undefined) throw this.failure;
    const silent = answers.filter(({ report }) => report === undefined).map(({ id }) => id);
    if (silent.length === 0) return answers;
    const silence = explainSilence(this.loop.silence(silent, askedUs));
    return answers.map((answer) => (answer.report === undefined ? { ...answer, silence } : answer));
  }

  /** Ends an open query with the answers so far. */
  async close(): Promise<void> {
    this.isClosed = true;
    this.query?.end();
    await this.loop.close();
    this.clock.close();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  private askMissing(query: Query, now: Instant): void {
    for (const { id, report } of query.answers) {
      if (report !== undefined) continue;
      query.askedAtUs[id] = now.monotonicUs;
      this.send(id, NEWEST, 0, this.room);
    }
  }

  private send(id: number, serial: number, offset: number, padding: number): void {
    const { outbox } = this.loop;
    const o = outbox.reserve(id, Status.size + padding);
    if (o < 0) return; // repeated later
    const { bytes } = outbox;
    begin(Status, bytes, o);
    writeI32(bytes, o + Status.at.nonce, this.nonce[0]!);
    writeI32(bytes, o + Status.at.nonce + 4, this.nonce[1]!);
    writeI32(bytes, o + Status.at.serial, serial);
    writeI32(bytes, o + Status.at.offset, offset);
    writeU16(bytes, o + Status.at.padding, padding);
    bytes.fill(0, o + Status.size, o + Status.size + padding);
    outbox.commit(Status.size + padding);
  }

  private repeat(now: Instant): void {
    const { query } = this;
    if (query === undefined || query.nextUs > now.monotonicUs) return;
    query.repeatUs = Math.min(REPEAT_US_MAX, 2 * query.repeatUs);
    query.nextUs = now.monotonicUs + query.repeatUs;
    this.askMissing(query, now);
  }

  private receive(bytes: Uint8Array, o: number, from: number, now: Instant): void {
    const { query, nonce } = this;
    if (
      query === undefined ||
      typeOf(bytes, o) !== StatusReply.type ||
      from >= query.answers.length ||
      query.answers[from]!.report !== undefined
    )
      return;
    if (
      readI32(bytes, o + StatusReply.at.nonce) !== nonce[0] ||
      readI32(bytes, o + StatusReply.at.nonce + 4) !== nonce[1]
    )
      return;
    const wanted = readI32(bytes, o + StatusReply.at.length) >>> 0;
    const length = readU16(bytes, o + StatusReply.at.report);
    const serial = readI32(bytes, o + StatusReply.at.serial) >>> 0;
    const roundTripUs = now.monotonicUs - query.askedAtUs[from]!;
    if (serial <= NEWEST) return;
    const pieces = this.pieceCame(query, from, bytes, o, serial, wanted, length, roundTripUs);
    if (pieces !== undefined) this.reportCame(query, from, pieces.bytes, pieces.roundTripUs);
  }

  /** Keeps a piece; after the first one, the others are requested. Returns the complete report, if it is complete. */
  private pieceCame(
    query: Query,
    from: number,
    bytes: Uint8Array,
    o: number,
    serial: number,
    wanted: number,
    length: number,
    roundTripUs: number,
  ): Pieces | undefined {
    const offset = readI32(bytes, o + StatusReply.at.offset) >>> 0;
    if (wanted > REPORT_BYTES_MAX || length === 0 || offset + length > wanted) return undefined;
    let pieces = query.pieces[from];
    if (pieces?.serial !== serial || pieces.bytes.length !== wanted) {
      if (offset !== 0 || (length < PIECE_BYTES_MIN && length < wanted)) return undefined;
      query.pieces[from] = pieces = {
        serial,
        bytes: new Uint8Array(wanted),
        received: new Set(),
        missing: wanted,
        roundTripUs,
      };
      for (let next = length; next < wanted; next += length) this.send(from, serial, next, Math.min(length, this.room));
    }
    if (pieces.received.has(offset)) return undefined;
    pieces.received.add(offset);
    pieces.bytes.set(bytes.subarray(o + StatusReply.size, o + StatusReply.size + length), offset);
    return (pieces.missing -= length) === 0 ? pieces : undefined;
  }

  private reportCame(query: Query, from: number, bytes: Uint8Array, roundTripUs: number): void {
    const report = decodeReport(bytes);
    if (report === undefined || report.id !== from) return;
    query.answers[from] = { ...query.answers[from]!, report, roundTripUs };
    if (--query.missing === 0) query.end();
  }

  private fail(error: unknown): void {
    this.failure = error;
    this.isClosed = true;
    this.query?.end();
  }
}
