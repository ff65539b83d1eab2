/**
 * Asks who the members of the cluster are, for a replica or a client whose core does not know the way: members named by
 * an epoch that it does not know, or none of those that it knows answers (protocol/contract.ts). Asked are the hosts that
 * are known, the seeds of the cluster file, the addresses of hosts that have left, and a host that spoke without being
 * listed.
 *
 * The rule: what is found may only be newer than what is known, whoever says it; each list is whole by its digest, and
 * comes from a host, which has a key of the replicas where there are keys. At most ten questions leave in a second, and
 * for a list that is longer than a datagram one for each of its other pieces.
 */
import type { Instant } from '../protocol/contract.js';
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
import { addressText, hostAndPortOf, type HostAndPort } from './cluster-config.js';
import { STRANGE_HOST, type TurnLoop } from './turn-loop.js';

/** At most this many questions at once, and one more in each ASK_US. */
const ASK_BURST = 10;
const ASK_US = 100_000;
/** The longest datagram that every path carries: 1,280 bytes, IPv6 and UDP headers included. */
const DATAGRAM_BYTES = 1_280 - 48;
/** No piece of a list but the last is shorter: the first one decides how many questions the others take. */
const PIECE_LEAST = 256;
/** Places for addresses: those of the seeds stay, the others take turns. */
const SEEDS_FROM = HOST_PLACES;
const SEEDS_MAX = 13;
const OTHERS_FROM = SEEDS_FROM + SEEDS_MAX;
const OTHERS_END = STRANGE_HOST;

/** A list of which some pieces are missing. */
interface Pieces {
  readonly digest: number;
  readonly epochs: number;
  readonly bytes: Uint8Array;
  readonly received: Set<number>;
  missing: number;
}

export class MemberSearch {
  /** Questions that were sent. */
  asked = 0;
  private readonly nonce = new Int32Array(2);
  private readonly room: number;
  private readonly seeds: readonly HostAndPort[];
  /** Addresses of hosts that are not listed any more, by place. */
  private readonly others: (string | undefined)[] = [];
  private nextOther = 0;
  private seedsPlaced = false;
  private hasStranger = false;
  /** The place that is asked next. */
  private turn = 0;
  private readonly budget = new TriggerBudget(ASK_BURST, ASK_US);
  private pieces: Pieces | undefined;

  /**
   * @param seeds addresses of the cluster file, but for this process's own
   * @param found a list, and the view of the replica that knows it
   */
  constructor(
    private readonly loop: TurnLoop,
    seeds: readonly HostAndPort[],
    private readonly hash: Hash64,
    private readonly found: (list: MemberList, view: number, now: Instant) => void,
  ) {
    this.seeds = seeds.slice(0, SEEDS_MAX);
    this.room = Math.min(loop.datagramBytes, DATAGRAM_BYTES) - ENVELOPE_BYTES_MAX - Members.size;
    crypto.getRandomValues(this.nonce);
  }

  /** A host has left, or is elsewhere now: a process that still runs there may know more. */
  remember(address: string): void {
    if (this.others.includes(address) || this.seeds.some((seed) => addressText(seed) === address)) return;
    const at = hostAndPortOf(address);
    if (at === undefined) return;
    const index = this.nextOther++ % (OTHERS_END - OTHERS_FROM);
    this.others[index] = address;
    this.loop.address(OTHERS_FROM + index, at);
  }

  /** The host in a slot, or whoever is written to at another place, knows more. Clients are not asked. */
  ask(place: number, now: Instant): void {
    if (place < PLACES && this.budget.take(now)) this.send(place, 0, 0, this.room);
  }

  /** A host that is not listed spoke: STRANGE_HOST has its address. */
  askStranger(now: Instant): void {
    this.hasStranger = true;
    this.ask(STRANGE_HOST, now);
  }

  /** Nobody that is known leads on: all addresses are asked in turn. */
  search(now: Instant): void {
    if (!this.seedsPlaced) {
      this.seedsPlaced = true;
      this.seeds.forEach((seed, index) => this.loop.address(SEEDS_FROM + index, seed));
    }
    for (let left = PLACES; left > 0; left--) {
      const place = this.turn;
      this.turn = (place + 1) % PLACES;
      if (!this.isKnown(place)) continue;
      if (!this.budget.take(now)) {
        this.turn = place;
        return;
      }
      this.send(place, 0, 0, this.room);
    }
  }

  /** Takes a Members message that passed `validate` and comes from a host (datagram-reader.ts). */
  onMembers(bytes: Uint8Array, o: number, from: number, now: Instant): void {
    const { at } = Members;
    if (readI32(bytes, o + at.nonce) !== this.nonce[0] || readI32(bytes, o + at.nonce + 4) !== this.nonce[1]) return;
    const digest = readI32(bytes, o + at.digest);
    const epochs = readI32(bytes, o + at.epochs);
    const wanted = readU16(bytes, o + at.length);
    const offset = readU16(bytes, o + at.offset);
    const length = readU16(bytes, o + at.list);
    if (digest === 0 || length === 0 || offset + length > wanted || wanted > MEMBER_LIST_BYTES_MAX) return;
    let { pieces } = this;
    if (pieces?.digest !== digest || pieces.bytes.length !== EPOCHS_BYTES + wanted || pieces.epochs !== epochs) {
      // The rest of a list is asked for where its beginning came from; another list takes its place.
      if (offset !== 0 || length < Math.min(wanted, PIECE_LEAST)) return;
      pieces = { digest, epochs, bytes: new Uint8Array(EPOCHS_BYTES + wanted), received: new Set(), missing: wanted };
      this.pieces = pieces;
      for (let next = length; next < wanted; next += length) this.send(from, digest, next, Math.min(length, this.room));
    }
    if (pieces.received.has(offset)) return;
    pieces.received.add(offset);
    pieces.bytes.set(bytes.subarray(o + Members.size, o + Members.size + length), EPOCHS_BYTES + offset);
    if ((pieces.missing -= length) > 0) return;
    this.pieces = undefined;
    writeI32(pieces.bytes, 0, epochs);
    if (listDigest(pieces.bytes, this.hash) !== digest) return;
    const list = decodeMemberList(pieces.bytes);
    if (list !== undefined) this.found(list, readI32(bytes, o + at.view), now);
  }

  private isKnown(place: number): boolean {
    if (place < HOST_PLACES) return this.loop.isHost(place);
    if (place < OTHERS_FROM) return place - SEEDS_FROM < this.seeds.length;
    return place < OTHERS_END ? this.others[place - OTHERS_FROM] !== undefined : this.hasStranger;
  }

  private send(to: number, digest: number, offset: number, part: number): void {
    const padding = Members.size + part - AskMembers.size;
    const bytes = new Uint8Array(AskMembers.size + padding);
    begin(AskMembers, bytes, 0);
    writeI32(bytes, AskMembers.at.nonce, this.nonce[0]!);
    writeI32(bytes, AskMembers.at.nonce + 4, this.nonce[1]!);
    writeI32(bytes, AskMembers.at.digest, digest);
    writeU16(bytes, AskMembers.at.offset, offset);
    writeU16(bytes, AskMembers.at.padding, padding);
    // A host that was never heard, or not lately, is written to in the previous version, which lacks the question.
    this.loop.outbox.sendNewest(to, bytes);
    this.asked++;
  }
}
