/// <reference lib="esnext.disposable" preserve="true" />
/**
 * Tries how long the datagrams may be that reach each host and come back, for `jitpaxos doctor`. It asks for the status
 * with questions of many lengths; an answer is as long as the rest of its report, and at most as long as its question.
 *
 * A question that gets no answer is asked again several times, so that some loss does not look like a narrow path.
 */
import type { Clock } from '../clock/clock.js';
import type { Cluster } from '../host/cluster-config.js';
import type { TurnLoop } from '../host/turn-loop.js';
import type { Instant } from '../protocol/contract.js';
import { ENVELOPE_BYTES, ENVELOPE_BYTES_MAX } from '../wire/envelope.js';
import { begin } from '../wire/layout.js';
import { Status, StatusReply, typeOf } from '../wire/messages.js';
import { readI32, readU16, writeI32, writeU16 } from '../wire/u64.js';
import { openAskingLoop, type AskedHost, type InquiryOptions } from './asking-loop.js';

/** What one host answered. Lengths are of datagrams, in bytes, without the headers of IP and UDP. */
export interface PathFound {
  readonly id: number;
  /** Whether it answers short questions at all. Otherwise nothing else was tried. */
  readonly answers: boolean;
  /** The longest that arrived there, and the longest that could come back. At most `datagramBytes`. */
  readonly longestThere: number;
  readonly longestBack: number;
  /** The longest that came back: less than could if its whole report is shorter. */
  readonly cameBack: number;
  /** Whether a datagram of `datagramBytes` got no answer on the way there, or an answer to it none on the way back. */
  readonly isNarrowThere: boolean;
  readonly isNarrowBack: boolean;
}

/** MTUs of networks that there are, headers included: Ethernet, PPPoE, tunnels, VXLAN, WireGuard, VPNs, IPv6 at least. */
const KNOWN_MTUS = [9_000, 4_000, 2_000, 1_500, 1_492, 1_480, 1_450, 1_420, 1_400, 1_380, 1_350, 1_320, 1_300, 1_280];
/** Headers of UDP over IPv6. */
const HEADER_BYTES = 48;
/** Every path that carries IPv6 carries such a datagram. */
const SHORT_BYTES = 1_280 - HEADER_BYTES;
/** A question without an answer is asked again after this time: five or more times within the default timeout. */
const REPEAT_US = 180_000;
/** Questions to one host leave this far apart, so that no two of them share a datagram. */
const APART_US = 1_000;
/** The value of Status.serial that asks for a new report, and an offset behind the end of every report. */
const NEWEST = 1;
const BEHIND_THE_END = 0x7fffffff;

/** One question, until it is answered. */
interface Trial {
  readonly slot: number;
  readonly bytes: number;
  /** Its answer is as long as the question, if the report is; otherwise as short as possible. */
  readonly back: boolean;
  readonly number: number;
  dueUs: number;
  /** Length of the answer's datagram; 0: none came. */
  answerBytes: number;
}

/** A datagram that is fragmented on every Ethernet. */
export function fragmentedBytes(datagramBytes: number): number {
  return Math.max(datagramBytes, 1_500) + 600;
}

export class PathProbe {
  private trials: readonly Trial[] = [];
  private ended: (() => void) | undefined;
  private nextUs = Infinity;
  /** By slot: the report of which pieces are asked for. */
  private readonly serials: Int32Array;
  /** Distinguishes the questions of this probe; each is answered with its number. */
  private readonly nonce = crypto.getRandomValues(new Int32Array(1))[0]!;
  private numbers = 0;
  private failure: unknown;
  private readonly envelopeBytes: number;

  private constructor(
    private readonly loop: TurnLoop,
    private readonly clock: Clock,
    cluster: Cluster,
    private readonly hosts: readonly AskedHost[],
  ) {
    this.serials = new Int32Array(hosts.length).fill(NEWEST);
    this.envelopeBytes = cluster.authentication === 'keys' ? ENVELOPE_BYTES_MAX : ENVELOPE_BYTES;
    loop.start({
      receive: (bytes, offset, _length, from) => this.receive(bytes, offset, from),
      tick: (now) => this.askDue(now),
      unreachable: () => undefined,
      endTurn: () => undefined,
      writeWakeUs: (out) => void (out[0] = this.nextUs),
      longestQuietUs: Infinity,
    });
  }

  /** Opens sockets; asks nothing yet. Throws the errors of `openAskingLoop`. */
  static async open(options: InquiryOptions, asked: readonly AskedHost[]): Promise<PathProbe> {
    let probe: PathProbe | undefined;
    const failed = (error: unknown): void => probe?.fail(error);
    const { loop, clock, cluster, hosts } = await openAskingLoop('PathProbe', options, failed, asked);
    probe = new PathProbe(loop, clock, cluster, hosts);
    return probe;
  }

  /** The longest datagram of several messages, from the cluster file. */
  get datagramBytes(): number {
    return this.loop.datagramBytes;
  }

  /** Tries datagrams of the cluster's length, and shorter ones where those do not pass. At most three times `timeoutMs`. */
  async tryFull(timeoutMs: number): Promise<readonly PathFound[]> {
    const { datagramBytes, hosts } = this;
    const short = Math.min(SHORT_BYTES, datagramBytes);
    const both = (slot: number, bytes: number): Trial[] => [
      this.trial(slot, bytes, false),
      this.trial(slot, bytes, true),
    ];
    await this.ask(
      [...hosts.keys()].map((slot) => this.trial(slot, short / 2, true)),
      timeoutMs,
    );
    const answering = [...hosts.keys()].filter((slot) => this.serials[slot] !== NEWEST);
    const full = answering.flatMap((slot) => both(slot, datagramBytes));
    await this.ask(full, timeoutMs);
    const passed = (slot: number, back: boolean): boolean =>
      full.some((trial) => trial.slot === slot && trial.back === back && trial.answerBytes > 0);
    const lengths = [...new Set([...KNOWN_MTUS.map((mtu) => mtu - HEADER_BYTES), short])].filter(
      (bytes) => bytes < datagramBytes,
    );
    const narrow = answering
      .filter((slot) => !passed(slot, true))
      .flatMap((slot) => lengths.flatMap((bytes) => both(slot, bytes)));
    await this.ask(narrow, timeoutMs);
    const tried = [...full, ...narrow].filter(({ answerBytes }) => answerBytes > 0);
    const longest = (slot: number, length: (trial: Trial) => number): number =>
      Math.max(0, ...tried.filter((trial) => trial.slot === slot).map(length));
    return hosts.map(({ id }, slot) => {
      const answers = answering.includes(slot);
      return {
        id,
        answers,
        longestThere: longest(slot, ({ bytes }) => bytes),
        longestBack: longest(slot, ({ bytes, back }) => (back ? bytes : 0)),
        cameBack: longest(slot, ({ answerBytes }) => answerBytes),
        isNarrowThere: answers && !passed(slot, false),
        isNarrowBack: answers && !passed(slot, true),
      };
    });
  }

  /**
   * Tries a datagram of `fragmentedBytes`, which the kernel sends in fragments. By host: whether it arrived there. Only
   * for hosts that answered `tryFull`.
   */
  async tryFragments(timeoutMs: number): Promise<readonly boolean[]> {
    const trials = this.hosts.map((_, slot) => this.trial(slot, fragmentedBytes(this.datagramBytes), false));
    await this.ask(
      trials.filter(({ slot }) => this.serials[slot] !== NEWEST),
      timeoutMs,
    );
    return trials.map(({ answerBytes }) => answerBytes > 0);
  }

  async close(): Promise<void> {
    this.ended?.();
    await this.loop.close();
    this.clock.close();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  private trial(slot: number, bytes: number, back: boolean): Trial {
    return { slot, bytes, back, number: ++this.numbers, dueUs: 0, answerBytes: 0 };
  }

  /** Resolves when all are answered, or the time is up. */
  private async ask(trials: readonly Trial[], timeoutMs: number): Promise<void> {
    if (trials.length === 0) return;
    let timer: NodeJS.Timeout | undefined;
    await new Promise<void>((resolve) => {
      timer = setTimeout(resolve, timeoutMs);
      this.ended = resolve;
      this.trials = trials;
      this.askDue(this.loop.enter());
    });
    clearTimeout(timer);
    this.trials = [];
    this.ended = undefined;
    this.nextUs = Infinity;
    if (this.failure !== undefined) throw this.failure;
  }

  /** Asks at most one question of each host that is due. */
  private askDue(now: Instant): void {
    const nowUs = now.monotonicUs;
    const asked = new Set<number>();
    this.nextUs = Infinity;
    for (const trial of this.trials) {
      if (trial.answerBytes > 0) continue;
      if (trial.dueUs <= nowUs && !asked.has(trial.slot)) {
        asked.add(trial.slot);
        trial.dueUs = nowUs + REPEAT_US;
        this.send(trial);
      }
      this.nextUs = Math.min(this.nextUs, Math.max(trial.dueUs, nowUs + APART_US));
    }
  }

  private send({ slot, bytes: datagram, back, number }: Trial): void {
    const length = Math.floor(datagram) - this.envelopeBytes;
    const { outbox } = this.loop;
    const o = outbox.reserve(slot, length);
    if (o < 0) return; // repeated later
    const { bytes } = outbox;
    bytes.fill(0, o, o + length);
    begin(Status, bytes, o);
    writeI32(bytes, o + Status.at.serial, this.serials[slot]!);
    writeI32(bytes, o + Status.at.offset, back ? 0 : BEHIND_THE_END);
    writeU16(bytes, o + Status.at.padding, length - Status.size);
    writeI32(bytes, o + Status.at.nonce, this.nonce);
    writeI32(bytes, o + Status.at.nonce + 4, number);
    outbox.commit(length);
  }

  private receive(bytes: Uint8Array, o: number, from: number): void {
    if (typeOf(bytes, o) !== StatusReply.type || readI32(bytes, o + StatusReply.at.nonce) !== this.nonce) return;
    const number = readI32(bytes, o + StatusReply.at.nonce + 4);
    const trial = this.trials.find((each) => each.number === number);
    if (trial === undefined || trial.slot !== from) return;
    trial.answerBytes = this.envelopeBytes + StatusReply.size + readU16(bytes, o + StatusReply.at.report);
    this.serials[from] = readI32(bytes, o + StatusReply.at.serial);
    if (this.trials.every(({ answerBytes }) => answerBytes > 0)) this.ended?.();
  }

  private fail(error: unknown): void {
    this.failure = error;
    this.ended?.();
  }
}
