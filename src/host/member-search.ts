/**
 * Asks who the members of the cluster are, for a replica or a client whose core does not know the way: members named by
 * an epoch that it does not know, or none of those that it knows answers (protocol/contract.ts). Asked are the hosts that
 * are known, the seeds of the cluster file, the addresses of hosts that have left, and a host that spoke without being
 * listed (strange-host.ts).
 *
 * The rule: what is found may only be newer than what is known, whoever says it; each list is whole by its digest, and
 * comes from a host, which has a key of the replicas where there are keys. An answer counts once, and only if it has the
 * random number of the question. So it is from a process that received the question where it was sent. Who that is is not
 * compared: hosts may have changed their places.
 *
 * At most ten questions leave in a second, and for a list that is longer than a datagram one for each of its other
 * pieces. As long as no change of the members is known, one address is asked at a time, with growing pauses.
 */
import type { Instant } from '../protocol/contract.js';
import type { Membership } from '../protocol/membership/membership.js';
import { TriggerBudget } from '../protocol/replica/trigger-budget.js';
import { ENVELOPE_BYTES_MAX, type Hash64 } from '../wire/envelope.js';
import { HOST_PLACES, PLACES } from '../wire/host-ids.js';
import { begin } from '../wire/layout.js';
import {
  EPOCHS_BYTES,
  decodeMemberList,
  listDigest,
  MEMBER_LIST_BYTES_MAX,
  type MemberList,
} from '../wire/member-list.js';
import { AskMembers, Members } from '../wire/messages.js';
import { readI32, readU16, writeI32, writeU16 } from '../wire/u64.js';
import { AnswerPieces, Taken } from './answer-pieces.js';
import { addressText, hostAndPortOf, type HostAndPort } from './cluster-config.js';
import { StrangeHost } from './strange-host.js';
import { STRANGE_HOST, type TurnLoop } from './turn-loop.js';

/** At most this many questions at once, and one more in each ASK_US. */
const ASK_BURST = 10;
const ASK_US = 100_000;
/** An answer that takes longer than this is not waited for. */
const ANSWER_US = 2_000_000;
/** Pause between two questions as long as no change is known, at first and at most. It begins anew after a quiet time. */
const PAUSE_US = 100_000;
const PAUSE_MAX_US = 2_000_000;
const QUIET_US = 10_000_000;
/** The longest datagram that every path carries: 1,280 bytes, IPv6 and UDP headers included. */
const DATAGRAM_BYTES = 1_280 - 48;
/** No piece of a list but the last is shorter: the first one decides how many questions the others take. */
const PIECE_LEAST = 256;
/** The shortest question, with its envelope, whose answer can begin any list. */
const QUESTION_LEAST = ENVELOPE_BYTES_MAX + Members.size + PIECE_LEAST;
/** Places for addresses: those of the seeds stay, the others take turns. */
const SEEDS_FROM = HOST_PLACES;
const SEEDS_MAX = 13;
const OTHERS_FROM = SEEDS_FROM + SEEDS_MAX;
const OTHERS_END = STRANGE_HOST;

/** What is known of the members: the entry that made them what they are, and the next id. */
export type KnownMembers = Pick<Membership, 'index' | 'nextId'>;

/** What was asked at a place, and what has come of the answer. */
interface Open {
  readonly nonceHi: number;
  readonly nonceLo: number;
  /** When the last datagram of the question left, and when pieces were last asked for. */
  askedUs: number;
  piecesUs: number;
  readonly pieces: AnswerPieces;
}

export class MemberSearch {
  /** Questions that were sent. */
  asked = 0;
  private readonly room: number;
  private readonly seeds: readonly HostAndPort[];
  /** Addresses of hosts that are not listed any more, by place. */
  private readonly others: (string | undefined)[] = [];
  private nextOther = 0;
  private seedsPlaced = false;
  /** By place; undefined: nothing was asked there, or it was answered. */
  private readonly open = new Array<Open | undefined>(PLACES).fill(undefined);
  private readonly stranger: StrangeHost;
  /** The place that is asked next. */
  private turn = 0;
  private readonly budget = new TriggerBudget(ASK_BURST, ASK_US);
  /** By place: when it was asked last, monotonic µs. */
  private readonly askedUs = new Float64Array(PLACES).fill(-Infinity);
  /** The next question as long as no change is known. */
  private dueUs = -Infinity;
  private pauseUs = PAUSE_US;

  /**
   * @param seeds addresses of the cluster file, but for this process's own
   * @param known as it is now
   * @param found a list, and the view of the replica that knows it
   */
  constructor(
    private readonly loop: TurnLoop,
    seeds: readonly HostAndPort[],
    private readonly hash: Hash64,
    private readonly known: () => KnownMembers,
    private readonly found: (list: MemberList, view: number, now: Instant) => void,
  ) {
    this.seeds = seeds.slice(0, SEEDS_MAX);
    this.room = Math.min(loop.datagramBytes, DATAGRAM_BYTES) - ENVELOPE_BYTES_MAX - Members.size;
    this.stranger = new StrangeHost(
      () => known().nextId,
      () => {
        this.open[STRANGE_HOST] = undefined;
        loop.placeStranger();
      },
      () => {
        this.open[STRANGE_HOST] = undefined;
        loop.forgetStranger();
      },
    );
  }

  /** A host has left, or is elsewhere now: a process that still runs there may know more. */
  remember(address: string): void {
    if (this.others.includes(address) || this.seeds.some((seed) => addressText(seed) === address)) return;
    const at = hostAndPortOf(address);
    if (at === undefined) return;
    const index = this.nextOther++ % (OTHERS_END - OTHERS_FROM);
    this.others[index] = address;
    this.open[OTHERS_FROM + index] = undefined;
    this.askedUs[OTHERS_FROM + index] = -Infinity;
    this.loop.address(OTHERS_FROM + index, at);
  }

  /** The host in a slot knows more. Clients are not asked. */
  ask(place: number, now: Instant): void {
    if (place < HOST_PLACES && this.budget.take(now)) this.begin(place, now);
  }

  /** A datagram of `length` bytes came from a host that is not listed, at this endpoint. */
  unlisted(id: number, endpoint: number, length: number, now: Instant): void {
    if (!this.stranger.heard(id, endpoint, length, now)) return;
    if (this.stranger.takeTurn(QUESTION_LEAST, now) && this.budget.take(now)) this.begin(STRANGE_HOST, now);
  }

  /** Nobody that is known leads on: all addresses are asked in turn. */
  search(now: Instant): void {
    const isFirst = this.known().index === 0;
    if (isFirst && now.monotonicUs < this.dueUs) return;
    if (isFirst) {
      this.pauseUs = now.monotonicUs - this.dueUs > QUIET_US ? PAUSE_US : Math.min(PAUSE_MAX_US, 2 * this.pauseUs);
      this.dueUs = now.monotonicUs + this.pauseUs;
    } else if (!this.seedsPlaced) {
      this.seedsPlaced = true;
      this.seeds.forEach((seed, index) => this.loop.address(SEEDS_FROM + index, seed));
    }
    for (let left = PLACES; left > 0; left--) {
      const place = this.turn;
      if (this.isKnown(place)) {
        if (!this.budget.take(now)) return;
        this.begin(place, now);
        if (isFirst) left = 0;
      }
      this.turn = (place + 1) % PLACES;
    }
  }

  /** Takes a Members message that passed `validate` and comes from a host (datagram-reader.ts). */
  onMembers(bytes: Uint8Array, o: number, now: Instant): void {
    const { at } = Members;
    const nonceHi = readI32(bytes, o + at.nonce);
    const nonceLo = readI32(bytes, o + at.nonce + 4);
    const place = this.open.findIndex((each) => each?.nonceHi === nonceHi && each.nonceLo === nonceLo);
    if (place < 0) return;
    const open = this.open[place]!;
    if (now.monotonicUs - open.askedUs > ANSWER_US) return;
    const digest = readI32(bytes, o + at.digest);
    if (digest === 0) return;
    const piece = {
      edition: digest,
      wanted: readU16(bytes, o + at.length),
      offset: readU16(bytes, o + at.offset),
      length: readU16(bytes, o + at.list),
    };
    const { pieces } = open;
    const taken = pieces.take(piece, bytes, o, o + Members.size);
    if (taken === Taken.first) this.askLost(place, open, digest, now);
    if (taken !== Taken.last) return;
    this.open[place] = undefined;
    const whole = new Uint8Array(EPOCHS_BYTES + pieces.bytes.length);
    writeI32(whole, 0, readI32(pieces.head, at.epochs));
    whole.set(pieces.bytes, EPOCHS_BYTES);
    if (listDigest(whole, this.hash) !== digest) return;
    const list = decodeMemberList(whole);
    if (list === undefined) return;
    if (list.index > this.known().index) this.stranger.found();
    this.found(list, readI32(bytes, o + at.view), now);
  }

  /** Addresses other than the members' that were asked since then. Allocates. */
  otherAddressesAsked(sinceUs: number): string[] {
    const asked: string[] = [];
    for (let place = SEEDS_FROM; place < OTHERS_END; place++) {
      const at =
        place < OTHERS_FROM ? this.seeds[place - SEEDS_FROM] : hostAndPortOf(this.others[place - OTHERS_FROM] ?? '');
      if (at !== undefined && this.askedUs[place]! >= sinceUs) asked.push(addressText(at));
    }
    return asked;
  }

  private isKnown(place: number): boolean {
    if (place < HOST_PLACES) return this.loop.isHost(place);
    // The cluster file's replicas are the hosts as long as no change is known.
    if (place < OTHERS_FROM) return this.seedsPlaced && place - SEEDS_FROM < this.seeds.length;
    return this.others[place - OTHERS_FROM] !== undefined;
  }

  /** Asks for a list from its beginning. A question that waits for its answer is sent again with its number. */
  private begin(place: number, now: Instant): void {
    let open = this.open[place];
    if (open === undefined || now.monotonicUs - open.askedUs > ANSWER_US) {
      const nonce = crypto.getRandomValues(new Int32Array(2));
      const pieces = new AnswerPieces(MEMBER_LIST_BYTES_MAX, PIECE_LEAST);
      open = { nonceHi: nonce[0]!, nonceLo: nonce[1]!, askedUs: now.monotonicUs, piecesUs: -Infinity, pieces };
      this.open[place] = open;
    }
    this.send(place, open, 0, 0, this.room, now);
  }

  private askLost(place: number, open: Open, digest: number, now: Instant): void {
    const { pieces } = open;
    if (now.monotonicUs - open.piecesUs < ASK_US) return; // they are on their way
    open.piecesUs = now.monotonicUs;
    for (const offset of pieces.lost) this.send(place, open, digest, offset, Math.min(pieces.step, this.room), now);
  }

  private send(place: number, open: Open, digest: number, offset: number, part: number, now: Instant): void {
    let length = Members.size + part;
    if (place === STRANGE_HOST) {
      const most = this.stranger.mayGet(now) - ENVELOPE_BYTES_MAX;
      if (most < (digest === 0 ? QUESTION_LEAST - ENVELOPE_BYTES_MAX : length)) return;
      length = Math.min(length, most);
      this.stranger.sent(ENVELOPE_BYTES_MAX + length);
    }
    const bytes = new Uint8Array(length);
    begin(AskMembers, bytes, 0);
    writeI32(bytes, AskMembers.at.nonce, open.nonceHi);
    writeI32(bytes, AskMembers.at.nonce + 4, open.nonceLo);
    writeI32(bytes, AskMembers.at.digest, digest);
    writeU16(bytes, AskMembers.at.offset, offset);
    writeU16(bytes, AskMembers.at.padding, length - AskMembers.size);
    open.askedUs = now.monotonicUs;
    this.askedUs[place] = now.monotonicUs;
    // A host that was never heard, or not lately, is written to in the previous version, which lacks the question.
    this.loop.outbox.sendNewest(place, bytes);
    this.asked++;
  }
}
