/// <reference lib="esnext.disposable" preserve="true" />
/**
 * Asks every replica of a cluster file the same question, for tools, and collects the answers. Takes no session and
 * changes nothing; even a replica that cannot commit anything answers.
 *
 * An answer comes in pieces, so that no datagram is longer than every path carries. Pieces belong together if they are
 * of one edition, a number that the replica gives. A question or piece that was lost is asked for again.
 */
import type { Clock } from '../clock/clock.js';
import { JitPaxosError } from '../errors.js';
import type { Instant } from '../protocol/contract.js';
import { AnswerPieces, Taken, type Piece } from '../host/answer-pieces.js';
import type { Cluster } from '../host/cluster-config.js';
import { checkInteger } from '../host/options.js';
import type { TurnLoop } from '../host/turn-loop.js';
import { explainSilence, type Silence } from '../transport/silence.js';
import { ENVELOPE_BYTES_MAX } from '../wire/envelope.js';
import { typeOf } from '../wire/messages.js';
import { readI32, writeI32 } from '../wire/u64.js';
import { openAskingLoop, type AskedHost, type InquiryOptions } from './asking-loop.js';

export type { AskedHost, InquiryOptions };

/** One kind of question, and what is known of its answer. */
export interface Question<T> {
  /** Length of the question without its padding. */
  readonly askBytes: number;
  /** Type and length of the answer's message without the part of the answer; where question and answer have the nonce. */
  readonly answerType: number;
  readonly answerBytes: number;
  readonly nonceInQuestion: number;
  readonly nonceInAnswer: number;
  /** The longest answer that is accepted; a longer one is not ours. */
  readonly bytesMax: number;
  /** The edition that stands for a new answer, from its beginning. */
  readonly newest: number;
  /** Writes the question at `bytes[o]`, all but the nonce and the bytes of its padding. */
  write(bytes: Uint8Array, o: number, edition: number, offset: number, padding: number): void;
  readPiece(bytes: Uint8Array, o: number): Piece;
  /**
   * The answer of host `from`, by id; undefined if it is not one.
   * @param head the message of the first piece, without its part of the answer
   */
  decode(whole: Uint8Array, head: Uint8Array, from: number): T | undefined;
}

export interface Answered<T> {
  readonly id: number;
  /** `host:port` as in the cluster file, IPv6 in brackets. */
  readonly address: string;
  /** Undefined: no answer in time. */
  readonly answer: T | undefined;
  /** If there was no answer: what is known about the silent replicas, and what to do. */
  readonly silence?: string;
  /** From a question to its answer, µs. */
  readonly roundTripUs: number | undefined;
  /** The newest wire version that it says it speaks; 0: it was not heard. */
  readonly speaks: number;
}

const TIMEOUT_MS_MAX = 3_600_000;
/**
 * A question without an answer is repeated after this time; for a replica that stays silent, after growing times up to
 * REPEAT_US_MAX.
 */
const REPEAT_US = 100_000;
/** Longest time between two questions. */
const REPEAT_US_MAX = 1_000_000;
/**
 * Longest question and answer: every path that carries IPv6 carries 1,280 bytes, headers included. This tool is needed
 * most when the network has trouble.
 */
const QUESTION_BYTES_MAX = 1_280 - 48;
/** A shorter first piece would need too many others. */
const PIECE_BYTES_MIN = 128;

interface Query<T> {
  readonly answers: Answered<T>[];
  readonly askedAtUs: Float64Array;
  /** By slot: from the last question to the first piece of the answer. */
  readonly roundTripUs: Float64Array;
  readonly pieces: readonly AnswerPieces[];
  /** Answers that are awaited; the query ends before if one is enough. */
  missing: number;
  readonly isEnough: (answer: T) => boolean;
  repeatUs: number;
  nextUs: number;
  readonly end: () => void;
}

export class Inquiry<T> {
  private query: Query<T> | undefined;
  /** Bytes of room in a question for a piece of an answer. */
  private readonly room: number;
  private readonly nonce = new Int32Array(2);
  private failure: unknown;
  private isClosed = false;

  private constructor(
    /** The cluster file, checked. */
    readonly cluster: Cluster,
    private readonly name: string,
    private readonly question: Question<T>,
    private readonly loop: TurnLoop,
    private readonly clock: Clock,
    /** By slot. */
    private readonly hosts: readonly AskedHost[],
  ) {
    this.room = Math.min(loop.datagramBytes, QUESTION_BYTES_MAX) - ENVELOPE_BYTES_MAX - question.answerBytes;
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
   * @param name of the class that asks, for messages
   * @param asked who is asked, at most 31 hosts; default: the replicas of the cluster file
   */
  static async open<T>(
    name: string,
    options: InquiryOptions,
    question: Question<T>,
    asked?: readonly AskedHost[],
  ): Promise<Inquiry<T>> {
    let inquiry: Inquiry<T> | undefined;
    const { cluster, hosts, loop, clock } = await openAskingLoop(name, options, (error) => inquiry?.fail(error), asked);
    inquiry = new Inquiry(cluster, name, question, loop, clock, hosts);
    return inquiry;
  }

  /**
   * Asks every host. Resolves with an answer for each, in their order, as soon as all have answered or the time is
   * up. That a host did not answer is not an error.
   *
   * Throws JitPaxosError `option-invalid`, `client-closed`, and `busy` while another query is open.
   * @param isEnough after this answer the others are not waited for
   */
  async ask(timeoutMs: number, isEnough: (answer: T) => boolean = () => false): Promise<readonly Answered<T>[]> {
    checkInteger('option-invalid', `${this.name}.ask: timeoutMs`, timeoutMs, 1, TIMEOUT_MS_MAX);
    if (this.isClosed)
      throw this.failure ?? new JitPaxosError('client-closed', 'the status client is closed; open another');
    if (this.query !== undefined) throw new JitPaxosError('busy', 'a query is open; wait for its answers');
    const { hosts } = this;
    const answers = hosts.map(
      ({ id, at: { host, port } }): Answered<T> => ({
        id,
        address: host.includes(':') ? `[${host}]:${port}` : `${host}:${port}`,
        answer: undefined,
        roundTripUs: undefined,
        speaks: 0,
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
        askedAtUs: new Float64Array(hosts.length),
        roundTripUs: new Float64Array(hosts.length),
        pieces: hosts.map(() => new AnswerPieces(this.question.bytesMax, PIECE_BYTES_MIN)),
        missing: hosts.length,
        isEnough,
        repeatUs: REPEAT_US,
        nextUs: now.monotonicUs + REPEAT_US,
        end: resolve,
      };
      this.askMissing(this.query, now);
    });
    clearTimeout(timer);
    this.query = undefined;
    if (this.failure !== undefined) throw this.failure;
    const silent = answers.flatMap(({ answer }, slot) => (answer === undefined ? [slot] : []));
    const silence = silent.length === 0 ? '' : this.explain(silent, askedUs);
    return answers.map((each, slot) => ({
      ...each,
      speaks: this.loop.peers.spokenBy(slot),
      ...(each.answer === undefined ? { silence } : {}),
    }));
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

  private askMissing(query: Query<T>, now: Instant): void {
    for (const [slot, { answer }] of query.answers.entries()) {
      if (answer !== undefined) continue;
      query.askedAtUs[slot] = now.monotonicUs;
      this.send(slot, this.question.newest, 0, this.room);
    }
  }

  /** Why these have been silent since then: a sentence without a full stop, which names them by their ids. */
  private explain(slots: readonly number[], sinceUs: number): string {
    const silence = this.loop.silence(slots, sinceUs);
    const named = (places: readonly number[]): number[] => places.map((slot) => this.hosts[slot]!.id);
    return explainSilence({ ...silence, silent: named(silence.silent), refused: named(silence.refused) });
  }

  /** What was seen of the hosts while they were silent. */
  get silence(): Silence {
    return this.loop.silence([...this.hosts.keys()], -Infinity);
  }

  /** @param part how long the part of the answer may be */
  private send(slot: number, edition: number, offset: number, part: number): void {
    const { loop, question, nonce } = this;
    const padding = question.answerBytes + part - question.askBytes;
    const o = loop.outbox.reserve(slot, question.askBytes + padding);
    if (o < 0) return; // repeated later
    const { bytes } = loop.outbox;
    question.write(bytes, o, edition, offset, padding);
    writeI32(bytes, o + question.nonceInQuestion, nonce[0]!);
    writeI32(bytes, o + question.nonceInQuestion + 4, nonce[1]!);
    bytes.fill(0, o + question.askBytes, o + question.askBytes + padding);
    loop.outbox.commit(question.askBytes + padding);
  }

  private repeat(now: Instant): void {
    const { query } = this;
    if (query === undefined || query.nextUs > now.monotonicUs) return;
    query.repeatUs = Math.min(REPEAT_US_MAX, 2 * query.repeatUs);
    query.nextUs = now.monotonicUs + query.repeatUs;
    this.askMissing(query, now);
  }

  private receive(bytes: Uint8Array, o: number, from: number, now: Instant): void {
    const { query, nonce, question } = this;
    if (
      query === undefined ||
      typeOf(bytes, o) !== question.answerType ||
      from >= query.answers.length ||
      query.answers[from]!.answer !== undefined ||
      readI32(bytes, o + question.nonceInAnswer) !== nonce[0] ||
      readI32(bytes, o + question.nonceInAnswer + 4) !== nonce[1]
    )
      return;
    const piece = question.readPiece(bytes, o);
    if (piece.edition === question.newest) return;
    const pieces = query.pieces[from]!;
    const { head } = pieces;
    const taken = pieces.take(piece, bytes, o, o + question.answerBytes);
    if (pieces.head !== head) query.roundTripUs[from] = now.monotonicUs - query.askedAtUs[from]!;
    if (taken === Taken.first)
      for (const offset of pieces.lost) this.send(from, piece.edition, offset, Math.min(pieces.step, this.room));
    else if (taken === Taken.last) this.answerCame(query, from, pieces);
  }

  private answerCame(query: Query<T>, from: number, pieces: AnswerPieces): void {
    const answer = this.question.decode(pieces.bytes, pieces.head, this.hosts[from]!.id);
    if (answer === undefined) {
      pieces.forget();
      return;
    }
    query.answers[from] = { ...query.answers[from]!, answer, roundTripUs: query.roundTripUs[from]! };
    if (--query.missing === 0 || query.isEnough(answer)) query.end();
  }

  private fail(error: unknown): void {
    this.failure = error;
    this.isClosed = true;
    this.query?.end();
  }
}
